#include "index/lexical_words.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/coding.h"

namespace vicinal {
namespace {

// Words between two whose heads are looked at first: where 16 words begin is
// one line of the cache, and the words themselves are about two.
constexpr size_t kStep = 16;

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("the words of a text ", what));
}

}  // namespace

uint64_t HeadOfWord(absl::string_view word) {
  uint64_t head = 0;
  std::memcpy(&head, word.data(), std::min(word.size(), sizeof(head)));
  return __builtin_bswap64(head);
}

absl::StatusOr<std::string> EncodeLexicalWords(
    std::span<const absl::string_view> words) {
  uint64_t size = 0;
  for (const absl::string_view word : words) size += word.size();
  constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();
  if (words.size() > kMost || size > kMost) {
    return absl::InvalidArgumentError(
        absl::StrCat(words.size(), " words of ", size,
                     " bytes do not fit one index of text; at most 2^32 - 1 "
                     "bytes do"));
  }
  std::string out;
  out.reserve((words.size() + 2) * sizeof(uint32_t) + size);
  PutFixed(&out, static_cast<uint32_t>(words.size()));
  uint32_t begin = 0;
  for (const absl::string_view word : words) {
    PutFixed(&out, begin);
    begin += static_cast<uint32_t>(word.size());
  }
  PutFixed(&out, begin);
  for (const absl::string_view word : words) {
    out.append(word.data(), word.size());
  }
  return out;
}

absl::StatusOr<LexicalWords> LexicalWords::Open(absl::string_view bytes) {
  LexicalWords out;
  uint32_t size = 0;
  if (!ConsumeFixed(&bytes, &size) ||
      bytes.size() / sizeof(uint32_t) < size_t{size} + 1) {
    return Damaged("are cut short");
  }
  out.size_ = size;
  out.begins_ = bytes.data();
  out.words_ = bytes.substr((out.size_ + 1) * sizeof(uint32_t));
  uint32_t last = 0;
  for (size_t i = 0; i <= out.size_; ++i) {
    const auto begin = GetFixed<uint32_t>(out.begins_ + i * sizeof(uint32_t));
    if (begin < last || (i == 0 && begin != 0)) {
      return Damaged("do not follow one another");
    }
    last = begin;
  }
  if (last != out.words_.size()) {
    return Damaged("have another size than their ends say");
  }
  for (size_t i = 1; i < out.size_; ++i) {
    if (out[i - 1] >= out[i]) return Damaged("do not ascend");
  }
  for (size_t i = 0; i < out.size_; i += kStep) {
    out.heads_.push_back(HeadOfWord(out[i]));
  }
  return out;
}

size_t LexicalWords::LowerBound(absl::string_view wanted) const {
  const uint64_t head = HeadOfWord(wanted);
  // It may follow any word whose head is less, or is the same.
  const auto first = std::lower_bound(heads_.begin(), heads_.end(), head);
  const auto last = std::upper_bound(first, heads_.end(), head);
  const auto blocks_before = static_cast<size_t>(first - heads_.begin());
  size_t begin = blocks_before == 0 ? 0 : (blocks_before - 1) * kStep;
  size_t end =
      std::min(size_, static_cast<size_t>(last - heads_.begin()) * kStep);
  while (begin < end) {
    const size_t middle = (begin + end) / 2;
    if ((*this)[middle] < wanted) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

}  // namespace vicinal
