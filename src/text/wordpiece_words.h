// The words that WordPiece divides: BERT's basic tokenizer, uncased.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace vicinal {

// One text's way to words.
class WordPieceWords {
 public:
  static constexpr size_t kMaxChars = 100;  // of a word
  // Called with each word in lower case, without accents; empty: a word of more
  // characters.
  using Sink = absl::FunctionRef<void(absl::string_view)>;

  // The function is not copied.
  explicit WordPieceWords(Sink sink) : sink_(sink) {}
  void Run(absl::string_view text);

 private:
  void AddAscii(uint8_t byte);
  void AddChar(int32_t c);
  void Append(int32_t c);
  void End();
  void Alone(int32_t c);

  const Sink sink_;
  std::array<char, 4 * kMaxChars> word_;
  size_t size_bytes_ = 0;
  size_t num_chars_ = 0;
};

}  // namespace vicinal
