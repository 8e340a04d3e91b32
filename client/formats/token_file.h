// Token vectors of documents or queries in .npy files, as the public sets of
// ColBERT have them: all tokens one after the other, and the number of tokens
// of each document ("doclens") in a file beside it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/formats/mapped_file.h"
#include "client/formats/vector_reader.h"
#include "src/base/types.h"

namespace vicinal::client {

// How tokens are divided among documents. At most one is given; none: a 3-d
// array says it itself, and a 2-d one is a single document.
struct TokenLayout {
  std::string lengths_file;  // 1-d .npy of integers
  uint64_t tokens_each = 0;  // all documents have so many; 0: not said
};

// The tokens of all documents, mapped. Const and thread-safe but for Forget.
class TokenFile {
 public:
  // Tokens: .npy of float32, float16 or int8, tokens x dim or documents x
  // tokens x dim. InvalidArgument: another array, lengths below 0 or that do
  // not sum to the tokens.
  static absl::StatusOr<TokenFile> Open(const std::string& path,
                                        const TokenLayout& layout);

  const std::string& path() const { return path_; }
  size_t dim() const { return dim_; }
  ElementType type() const { return type_; }
  size_t num_documents() const { return offsets_.size() - 1; }
  uint64_t num_tokens() const { return offsets_.back(); }
  // Document i has the tokens offsets()[i] to offsets()[i + 1].
  const std::vector<uint64_t>& offsets() const { return offsets_; }
  // Elements of the tokens begin .. end.
  absl::string_view Data(uint64_t begin, uint64_t end) const;
  size_t token_bytes() const { return dim_ * ElementSize(type_); }
  // The documents before this one are not needed again.
  void Forget(size_t document);

 private:
  TokenFile(std::string path, MappedFile file)
      : path_(std::move(path)), file_(std::move(file)) {}

  std::string path_;
  MappedFile file_;
  size_t data_offset_ = 0;
  size_t dim_ = 0;
  ElementType type_ = ElementType::kFloat32;
  std::vector<uint64_t> offsets_;
};

// The multi-vector of that name has these tokens.
struct NamedTokens {
  std::string name;
  TokenFile file;
};

// Rows of `rows` (null: rows of nothing) with the multi-vectors of the files:
// document i goes with row i. At least one file. InvalidArgument, at once or
// when it is read: not as many documents as rows, or a vector that a row of
// `rows` has already. Blocks are cut by bytes of tokens too.
absl::StatusOr<std::unique_ptr<VectorReader>> JoinTokens(
    std::unique_ptr<VectorReader> rows, std::vector<NamedTokens> files);

}  // namespace vicinal::client
