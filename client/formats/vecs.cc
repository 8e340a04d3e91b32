#include "client/formats/vecs.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/formats/mapped_file.h"
#include "client/formats/vector_reader.h"
#include "src/base/coding.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal::client {
namespace {

constexpr size_t kHeaderBytes = sizeof(int32_t);

class VecsReader : public VectorReader {
 public:
  VecsReader(std::string path, MappedFile file, const VecsLayout& layout,
             ElementType type)
      : path_(std::move(path)),
        file_(std::move(file)),
        layout_(layout),
        fields_{{.name = "", .dim = layout.dim, .type = type}} {}

  const std::vector<VectorField>& fields() const override { return fields_; }
  std::optional<uint64_t> num_rows() const override { return layout_.num_rows; }
  double progress() const override {
    return static_cast<double>(next_) / static_cast<double>(layout_.num_rows);
  }

  absl::StatusOr<bool> Read(const BlockLimits& limits,
                            VectorBlock* block) override {
    *block = VectorBlock{.first_row = next_};
    const size_t data_bytes = layout_.row_bytes - kHeaderBytes;
    const size_t num_rows = static_cast<size_t>(std::min<uint64_t>(
        layout_.num_rows - next_,
        std::min(limits.max_rows,
                 std::max<size_t>(1, limits.max_bytes / data_bytes))));
    if (num_rows == 0) return false;
    std::string data;
    data.reserve(num_rows * data_bytes);
    for (size_t i = 0; i < num_rows; ++i, ++next_) {
      VICINAL_RETURN_IF_ERROR(
          CheckVecsRow(path_, file_.bytes(), layout_, next_));
      data.append(
          file_.bytes().data() + next_ * layout_.row_bytes + kHeaderBytes,
          data_bytes);
    }
    file_.Forget(next_ * layout_.row_bytes);
    block->num_rows = num_rows;
    block->columns.push_back({.data = std::move(data)});
    return true;
  }

  absl::Status Skip(uint64_t num_rows) override {
    if (num_rows > layout_.num_rows - next_) {
      return absl::OutOfRangeError(
          absl::StrCat(path_, ": has only ", layout_.num_rows,
                       " rows; cannot go to row ", next_ + num_rows, "."));
    }
    next_ += num_rows;
    return absl::OkStatus();
  }

 private:
  const std::string path_;
  MappedFile file_;
  const VecsLayout layout_;
  const std::vector<VectorField> fields_;
  uint64_t next_ = 0;
};

}  // namespace

absl::StatusOr<VecsLayout> CheckVecsLayout(const std::string& path,
                                           absl::string_view bytes,
                                           size_t element_bytes) {
  if (bytes.size() < kHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": has ", bytes.size(), " bytes, too few for one row; was the ",
        "download complete?"));
  }
  const auto dim = GetFixed<int32_t>(bytes.data());
  if (dim <= 0 || static_cast<size_t>(dim) > kMaxDim) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": row 0 says dimension ", dim, " (at byte 0); it must be 1 to ",
        kMaxDim, ". Is this really such a file, uncompressed?"));
  }
  VecsLayout layout;
  layout.dim = static_cast<size_t>(dim);
  layout.row_bytes = kHeaderBytes + layout.dim * element_bytes;
  layout.num_rows = bytes.size() / layout.row_bytes;
  if (bytes.size() % layout.row_bytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", bytes.size(), " bytes are no multiple of the ",
                     layout.row_bytes, " bytes of a row of dimension ", dim,
                     "; the file is cut off after row ", layout.num_rows,
                     " or its rows differ in dimension."));
  }
  return layout;
}

absl::Status CheckVecsRow(const std::string& path, absl::string_view bytes,
                          const VecsLayout& layout, uint64_t row) {
  const auto dim = GetFixed<int32_t>(bytes.data() + row * layout.row_bytes);
  if (dim == static_cast<int32_t>(layout.dim)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": row ", row, " (at byte ", row * layout.row_bytes,
                   ") says dimension ", dim, ", row 0 said ", layout.dim,
                   "; all rows must have the same. Is the file damaged?"));
}

absl::StatusOr<std::unique_ptr<VectorReader>> OpenVecs(const std::string& path,
                                                       ElementType type) {
  VICINAL_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  VICINAL_ASSIGN_OR_RETURN(
      const VecsLayout layout,
      CheckVecsLayout(path, file.bytes(), ElementSize(type)));
  return std::make_unique<VecsReader>(path, std::move(file), layout, type);
}

}  // namespace vicinal::client
