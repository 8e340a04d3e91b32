// The words of a sealed field of texts, each once, ascending by their bytes.
//
// As bytes: their number (u32), where each begins (u32, and one more for the
// end of the last), then the bytes of all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/coding.h"

namespace vicinal {

// Its first eight bytes as a number: where two of these differ they compare as
// the words do.
uint64_t HeadOfWord(absl::string_view word);

// Words ascend, none twice. InvalidArgument: they have more than 4 GiB.
absl::StatusOr<std::string> EncodeLexicalWords(
    std::span<const absl::string_view> words);

// Const and thread-safe; borrows the bytes.
class LexicalWords {
 public:
  // None.
  LexicalWords() = default;
  // DataLoss: they are no such bytes.
  static absl::StatusOr<LexicalWords> Open(absl::string_view bytes);

  size_t size() const { return size_; }
  absl::string_view operator[](size_t i) const {
    const auto begin = GetFixed<uint32_t>(begins_ + i * sizeof(uint32_t));
    const auto end = GetFixed<uint32_t>(begins_ + (i + 1) * sizeof(uint32_t));
    return words_.substr(begin, end - begin);
  }
  // The first word that is not below it; size() if all are.
  size_t LowerBound(absl::string_view wanted) const;
  // Besides the bytes.
  size_t memory_bytes() const { return heads_.size() * sizeof(heads_[0]); }

 private:
  size_t size_ = 0;
  const char* begins_ = nullptr;
  absl::string_view words_;
  std::vector<uint64_t> heads_;  // of every kStep-th word
};

}  // namespace vicinal
