// WordPiece as BERT's uncased models have it, and the weights of its tokens:
// what a query needs of an inference-free sparse model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/text/hash_trie.h"

namespace vicinal {

constexpr size_t kMaxVocabularyBytes = size_t{64} << 20;  // of the file
constexpr size_t kMaxVocabularyTokens = 1'000'000;
constexpr size_t kMaxVocabularyTokenBytes = 255;
constexpr float kMaxTokenWeight = 1e6f;

// A sparse vector.
struct TokenWeights {
  std::vector<uint32_t> ids;   // ascending, none twice
  std::vector<float> weights;  // > 0
};

// Tokens, numbered in their order, "##" before those that go on with a word.
// Const and thread-safe.
class WordPieceVocabulary {
 public:
  // {"[PAD]": 1.0, ..., "the": 0.135, ...}: the published form of weights, its
  // members in the order of the vocabulary. InvalidArgument: not such JSON, a
  // token that is empty, there twice, too long or not UTF-8, no [UNK], a
  // negative or huge weight, or too many tokens.
  static absl::StatusOr<WordPieceVocabulary> FromIdfJson(
      absl::string_view json);
  // A token per line (vocab.txt); all weights are 1. InvalidArgument as above.
  static absl::StatusOr<WordPieceVocabulary> FromVocabulary(
      absl::string_view lines);

  // Whichever of the two the bytes are: the first begins with a brace.
  static absl::StatusOr<WordPieceVocabulary> FromFile(absl::string_view bytes);

  // Control characters are dropped, ideographs and punctuation are words of
  // their own, case and accents are removed; of each word the longest tokens
  // from its beginning, or [UNK] where there are none, or for more than 100
  // characters. Any bytes are read: bad UTF-8 is dropped.
  void Tokenize(absl::string_view text,
                absl::FunctionRef<void(uint32_t)> sink) const;
  std::vector<uint32_t> Tokenize(absl::string_view text) const;
  // Each token of the text once, with its weight, however often it stands
  // there; without special tokens and those of no weight.
  TokenWeights EncodeQuery(absl::string_view text) const;

  size_t size() const { return weights_.size(); }
  absl::string_view token(uint32_t id) const {
    return absl::string_view(tokens_).substr(
        token_begins_[id], token_begins_[id + 1] - token_begins_[id]);
  }
  float weight(uint32_t id) const { return weights_[id]; }

 private:
  struct Entry {
    std::string token;
    double weight = 1;
  };
  class IdfReader;
  WordPieceVocabulary(const std::vector<Entry>& entries, size_t num_bytes);
  static absl::StatusOr<WordPieceVocabulary> FromEntries(
      const std::vector<Entry>& entries);
  void EmitWord(absl::string_view word,
                absl::FunctionRef<void(uint32_t)> sink) const;

  std::string tokens_;  // one behind the other
  std::vector<uint32_t> token_begins_;
  std::vector<float> weights_;
  std::vector<bool> is_special_;
  uint32_t unknown_ = 0;
  HashTrie trie_;
};

}  // namespace vicinal
