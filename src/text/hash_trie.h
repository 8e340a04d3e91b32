// The longest word of a fixed set that text begins with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

namespace vicinal {

// A trie of bytes, its edges in one hash table. Filled, then const and
// thread-safe. Several tries may share it: each has a root.
class HashTrie {
 public:
  using Node = uint32_t;
  static constexpr size_t kMaxNodes = size_t{1} << 24;

  // At most kMaxNodes roots and bytes of words in all.
  HashTrie(size_t num_roots, size_t num_bytes);

  // False: the word is there already.
  bool Insert(Node root, absl::string_view word, uint32_t id);

  struct Match {
    size_t size = 0;  // bytes; 0: no word
    uint32_t id = 0;
  };
  Match LongestPrefix(Node root, absl::string_view text) const;

 private:
  struct Edge {
    uint32_t key = 0;  // node and byte
    Node child = 0;    // 0: the place is free, as roots are nobody's child
  };
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  static uint32_t KeyOf(Node node, char byte) {
    return (node << 8) | static_cast<uint8_t>(byte);
  }
  // The edge of the key, or the free place for it.
  size_t Find(uint32_t key) const;

  std::vector<Edge> edges_;
  std::vector<uint32_t> ids_;  // by node
  int shift_;
};

}  // namespace vicinal
