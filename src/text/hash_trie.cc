#include "src/text/hash_trie.h"

#include <bit>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "src/base/check.h"

namespace vicinal {

HashTrie::HashTrie(size_t num_roots, size_t num_bytes)
    : ids_(num_roots, kNone) {
  VICINAL_CHECK_LE(num_roots + num_bytes, kMaxNodes);
  // At most half full: a search that fails is short.
  const size_t size = std::bit_ceil(2 * num_bytes + 16);
  edges_.resize(size);
  shift_ = 32 - std::countr_zero(size);
  ids_.reserve(num_roots + num_bytes);
}

size_t HashTrie::Find(uint32_t key) const {
  size_t at = (key * 0x9E3779B9u) >> shift_;
  while (edges_[at].child != 0 && edges_[at].key != key) {
    at = (at + 1) & (edges_.size() - 1);
  }
  return at;
}

bool HashTrie::Insert(Node root, absl::string_view word, uint32_t id) {
  Node node = root;
  for (const char byte : word) {
    const uint32_t key = KeyOf(node, byte);
    Edge& edge = edges_[Find(key)];
    if (edge.child == 0) {
      edge = {key, static_cast<Node>(ids_.size())};
      ids_.push_back(kNone);
    }
    node = edge.child;
  }
  if (ids_[node] != kNone) return false;
  ids_[node] = id;
  return true;
}

HashTrie::Match HashTrie::LongestPrefix(Node root,
                                        absl::string_view text) const {
  Match match;
  Node node = root;
  for (size_t i = 0; i < text.size(); ++i) {
    node = edges_[Find(KeyOf(node, text[i]))].child;
    if (node == 0) break;
    if (ids_[node] != kNone) match = {i + 1, ids_[node]};
  }
  return match;
}

}  // namespace vicinal
