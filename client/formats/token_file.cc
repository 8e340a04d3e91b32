#include "client/formats/token_file.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/formats/mapped_file.h"
#include "client/formats/npy.h"
#include "client/formats/vector_reader.h"
#include "src/base/coding.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal::client {
namespace {

absl::StatusOr<ElementType> TokenType(const std::string& path,
                                      const NpyHeader& header) {
  if (header.descr == "<f4") return ElementType::kFloat32;
  if (header.descr == "<f2") return ElementType::kFloat16;
  if (header.descr == "|i1" || header.descr == "<i1") return ElementType::kInt8;
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": has elements of type \"", header.descr,
                   "\"; tokens can be float32, float16 or int8: convert it "
                   "with astype."));
}

int64_t LengthAt(const char* data, const NpyHeader& header, size_t i) {
  const char* at = data + i * header.element_bytes;
  if (header.element_bytes == sizeof(int64_t)) return GetFixed<int64_t>(at);
  return header.descr[1] == 'i' ? GetFixed<int32_t>(at)
                                : static_cast<int64_t>(GetFixed<uint32_t>(at));
}

// Where documents begin, by their lengths.
absl::StatusOr<std::vector<uint64_t>> ReadOffsets(const std::string& path,
                                                  const std::string& tokens,
                                                  uint64_t num_tokens) {
  VICINAL_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  VICINAL_ASSIGN_OR_RETURN(const NpyHeader header,
                           ParseNpyHeader(path, file.bytes()));
  const bool is_integer = header.descr == "<i4" || header.descr == "<i8" ||
                          header.descr == "<u4" || header.descr == "<u8";
  if (!is_integer || !header.one_dimensional) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        ": numbers of tokens are a 1-d array of int32, int64, uint32 or "
        "uint64; this is \"",
        header.descr, "\", ", header.one_dimensional ? "1-d." : "2-d."));
  }
  const char* data = file.bytes().data() + header.data_offset;
  std::vector<uint64_t> offsets = {0};
  offsets.reserve(header.num_rows + 1);
  for (size_t i = 0; i < header.num_rows; ++i) {
    const int64_t length = LengthAt(data, header, i);
    if (length < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": document ", i, " has ", length,
                       " tokens; 0 or more are allowed. Is this a file of "
                       "numbers of tokens?"));
    }
    if (static_cast<uint64_t>(length) > num_tokens - offsets.back()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": the documents to number ", i, " have ",
                       offsets.back() + static_cast<uint64_t>(length),
                       " tokens, but ", tokens, " has ", num_tokens,
                       "; are the two files of the same documents?"));
    }
    offsets.push_back(offsets.back() + static_cast<uint64_t>(length));
  }
  if (offsets.back() != num_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": its ", header.num_rows, " documents have ",
                     offsets.back(), " tokens in all, but ", tokens, " has ",
                     num_tokens, "; are the two files of the same documents?"));
  }
  return offsets;
}

// Documents of `each` tokens.
std::vector<uint64_t> EvenOffsets(uint64_t num_tokens, uint64_t each) {
  std::vector<uint64_t> offsets;
  offsets.reserve(num_tokens / each + 1);
  for (uint64_t at = 0; at <= num_tokens; at += each) offsets.push_back(at);
  return offsets;
}

class JoinReader final : public VectorReader {
 public:
  JoinReader(std::unique_ptr<VectorReader> rows, std::vector<NamedTokens> files)
      : rows_(std::move(rows)), files_(std::move(files)) {}

  const std::vector<VectorField>& fields() const override {
    return rows_ == nullptr ? no_fields_ : rows_->fields();
  }
  size_t other_row_bytes() const override {
    return rows_ == nullptr ? 0 : rows_->other_row_bytes();
  }
  // Not told: blocks are cut by bytes, so only reading finds a row's place.
  std::optional<uint64_t> num_rows() const override { return std::nullopt; }
  double progress() const override {
    return num_documents() == 0 ? 1.0
                                : static_cast<double>(next_) /
                                      static_cast<double>(num_documents());
  }
  std::string distance() const override {
    return rows_ == nullptr ? "" : rows_->distance();
  }

  absl::StatusOr<bool> Read(const BlockLimits& limits,
                            VectorBlock* block) override {
    *block = VectorBlock{.first_row = next_};
    size_t num_rows = CountRows(limits);
    if (rows_ != nullptr) {
      // One more than there are documents, to see whether there are more rows.
      VICINAL_ASSIGN_OR_RETURN(
          const bool more,
          rows_->Read({.max_rows = std::max<size_t>(num_rows, 1),
                       .max_bytes = limits.max_bytes},
                      block));
      const size_t got = more ? block->num_rows : 0;
      if ((got == 0) != (num_rows == 0)) {
        return WrongCount(got == 0 ? absl::StrCat("only ", next_)
                                   : absl::StrCat("more than ", next_));
      }
      num_rows = got;
    }
    if (num_rows == 0) return false;
    block->num_rows = num_rows;
    for (NamedTokens& tokens : files_) {
      for (const MultiColumnData& other : block->multi) {
        if (other.name != tokens.name) continue;
        return absl::InvalidArgumentError(absl::StrCat(
            "Multi-vector \"", tokens.name, "\" is in ", tokens.file.path(),
            " and in rows from ", next_, " on, too; give it once."));
      }
      block->multi.push_back(Take(tokens, num_rows));
    }
    next_ += num_rows;
    for (NamedTokens& tokens : files_) tokens.file.Forget(next_);
    return true;
  }

  absl::Status Skip(uint64_t num_rows) override {
    if (num_rows > num_documents() - next_) {
      return absl::OutOfRangeError(absl::StrCat(
          files_[0].file.path(), ": has only ", num_documents(),
          " documents; cannot go to number ", next_ + num_rows, "."));
    }
    if (rows_ != nullptr) VICINAL_RETURN_IF_ERROR(rows_->Skip(num_rows));
    next_ += num_rows;
    return absl::OkStatus();
  }

 private:
  size_t num_documents() const { return files_[0].file.num_documents(); }

  absl::Status WrongCount(absl::string_view rows) const {
    return absl::InvalidArgumentError(
        absl::StrCat(files_[0].file.path(), ": has ", num_documents(),
                     " documents, but there are ", rows,
                     " rows; give one row for each document."));
  }

  // Documents that fit into the block.
  size_t CountRows(const BlockLimits& limits) const {
    size_t n = 0;
    size_t bytes = 0;
    while (next_ + n < num_documents() && n < limits.max_rows &&
           bytes < limits.max_bytes) {
      for (const NamedTokens& tokens : files_) {
        const auto& offsets = tokens.file.offsets();
        bytes += (offsets[next_ + n + 1] - offsets[next_ + n]) *
                 tokens.file.token_bytes();
      }
      ++n;
    }
    return n;
  }

  MultiColumnData Take(const NamedTokens& tokens, size_t num_rows) const {
    const TokenFile& file = tokens.file;
    MultiColumnData column{
        .name = tokens.name, .dim = file.dim(), .type = file.type()};
    const uint64_t begin = file.offsets()[next_];
    bool is_any_empty = false;
    for (size_t i = 0; i <= num_rows; ++i) {
      column.offsets.push_back(file.offsets()[next_ + i] - begin);
      is_any_empty |= i > 0 && column.offsets[i] == column.offsets[i - 1];
    }
    column.data =
        std::string(file.Data(begin, file.offsets()[next_ + num_rows]));
    if (is_any_empty) {  // the file says so, and the collection judges it
      column.present.resize(num_rows);
      std::iota(column.present.begin(), column.present.end(), 0);
    }
    return column;
  }

  const std::unique_ptr<VectorReader> rows_;
  std::vector<NamedTokens> files_;
  const std::vector<VectorField> no_fields_;
  uint64_t next_ = 0;
};

}  // namespace

absl::StatusOr<TokenFile> TokenFile::Open(const std::string& path,
                                          const TokenLayout& layout) {
  VICINAL_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  VICINAL_ASSIGN_OR_RETURN(const NpyHeader header,
                           ParseNpyHeader(path, mapped.bytes(), 3));
  if (header.one_dimensional) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": holds a 1-d array of ", header.num_rows,
        " elements; tokens need 2 dimensions (tokens, dimension)."));
  }
  TokenFile file(path, std::move(mapped));
  VICINAL_ASSIGN_OR_RETURN(file.type_, TokenType(path, header));
  VICINAL_RETURN_IF_ERROR(CheckDim(path, header.dim));
  file.dim_ = header.dim;
  file.data_offset_ = header.data_offset;
  if (!layout.lengths_file.empty()) {
    VICINAL_ASSIGN_OR_RETURN(
        file.offsets_, ReadOffsets(layout.lengths_file, path, header.num_rows));
    return file;
  }
  uint64_t each = layout.tokens_each;
  if (each == 0 && header.num_groups > 0) {
    each = header.num_rows / header.num_groups;
  } else if (each == 0) {
    each = header.num_rows;
  }
  if (each == 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": has no tokens."));
  }
  if (header.num_rows % each != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has ", header.num_rows,
                     " tokens, which are not divided by ", each, " each."));
  }
  file.offsets_ = EvenOffsets(header.num_rows, each);
  return file;
}

absl::string_view TokenFile::Data(uint64_t begin, uint64_t end) const {
  return file_.bytes().substr(data_offset_ + begin * token_bytes(),
                              (end - begin) * token_bytes());
}

void TokenFile::Forget(size_t document) {
  file_.Forget(data_offset_ + offsets_[document] * token_bytes());
}

absl::StatusOr<std::unique_ptr<VectorReader>> JoinTokens(
    std::unique_ptr<VectorReader> rows, std::vector<NamedTokens> files) {
  for (size_t i = 0; i < files.size(); ++i) {
    const TokenFile& file = files[i].file;
    if (file.num_documents() != files[0].file.num_documents()) {
      return absl::InvalidArgumentError(absl::StrCat(
          file.path(), ": has ", file.num_documents(), " documents, but ",
          files[0].file.path(), " has ", files[0].file.num_documents(),
          "; give files of the same documents."));
    }
    for (size_t j = 0; j < i; ++j) {
      if (files[j].name != files[i].name) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "Multi-vector \"", files[i].name, "\" is in ", files[j].file.path(),
          " and in ", file.path(), ", too; give it once."));
    }
  }
  if (rows != nullptr) {
    const std::optional<uint64_t> n = rows->num_rows();
    if (n.has_value() && *n != files[0].file.num_documents()) {
      return absl::InvalidArgumentError(absl::StrCat(
          files[0].file.path(), ": has ", files[0].file.num_documents(),
          " documents, but there are ", *n,
          " rows; give one row for each document."));
    }
  }
  return std::make_unique<JoinReader>(std::move(rows), std::move(files));
}

}  // namespace vicinal::client
