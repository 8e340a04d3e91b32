#include "client/formats/csr.h"

#include <algorithm>
#include <cmath>
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
#include "client/formats/mapped_file.h"
#include "client/formats/vector_reader.h"
#include "src/base/coding.h"
#include "src/base/status_macros.h"

namespace vicinal::client {
namespace {

constexpr size_t kHeaderBytes = 3 * sizeof(int64_t);
constexpr size_t kEntryBytes = sizeof(int32_t) + sizeof(float);

class CsrReader final : public VectorReader {
 public:
  CsrReader(std::string path, MappedFile file)
      : path_(std::move(path)), file_(std::move(file)) {}

  absl::Status Init() {
    const absl::string_view bytes = file_.bytes();
    if (bytes.size() < kHeaderBytes + sizeof(int64_t)) {
      return Bad(
          absl::StrCat("has ", bytes.size(), " bytes, too few for a header"));
    }
    const auto rows = GetFixed<int64_t>(bytes.data());
    const auto columns = GetFixed<int64_t>(bytes.data() + 8);
    const auto entries = GetFixed<int64_t>(bytes.data() + 16);
    const uint64_t left = bytes.size() - kHeaderBytes;
    if (rows < 0 || entries < 0 || columns < 0 ||
        columns > int64_t{UINT32_MAX} + 1 ||
        static_cast<uint64_t>(rows) >= left / sizeof(int64_t) ||
        static_cast<uint64_t>(entries) > left / kEntryBytes ||
        (static_cast<uint64_t>(rows) + 1) * sizeof(int64_t) +
                static_cast<uint64_t>(entries) * kEntryBytes !=
            left) {
      return Bad(absl::StrCat(
          "says ", rows, " rows, ", columns, " columns and ", entries,
          " entries, which do not fit its ", bytes.size(), " bytes"));
    }
    num_rows_ = static_cast<uint64_t>(rows);
    num_entries_ = static_cast<uint64_t>(entries);
    num_columns_ = static_cast<uint64_t>(columns);
    indices_ = kHeaderBytes + (num_rows_ + 1) * sizeof(int64_t);
    values_ = indices_ + num_entries_ * sizeof(int32_t);
    if (BeginOf(0) != 0 || BeginOf(num_rows_) != num_entries_) {
      return Bad("has rows that do not span its entries");
    }
    return absl::OkStatus();
  }

  const std::vector<VectorField>& fields() const override { return fields_; }
  size_t other_row_bytes() const override {
    return num_rows_ == 0 ? kEntryBytes
                          : num_entries_ * kEntryBytes / num_rows_ + 1;
  }
  std::optional<uint64_t> num_rows() const override { return num_rows_; }
  double progress() const override {
    return num_rows_ == 0
               ? 1
               : static_cast<double>(next_) / static_cast<double>(num_rows_);
  }

  absl::StatusOr<bool> Read(const BlockLimits& limits,
                            VectorBlock* block) override {
    *block = VectorBlock{.first_row = next_};
    SparseColumnData column;
    column.indptr.push_back(0);
    size_t bytes = 0;
    while (next_ < num_rows_ && block->num_rows < limits.max_rows &&
           bytes < limits.max_bytes) {
      VICINAL_RETURN_IF_ERROR(ReadRow(&column));
      bytes = column.indices.size() * kEntryBytes;
      ++block->num_rows;
      ++next_;
    }
    if (block->num_rows == 0) return false;
    block->sparse.push_back(std::move(column));
    return true;
  }

  absl::Status Skip(uint64_t num_rows) override {
    if (num_rows > num_rows_ - next_) {
      return absl::OutOfRangeError(
          absl::StrCat(path_, ": has only ", num_rows_, " rows."));
    }
    next_ += num_rows;
    return absl::OkStatus();
  }

 private:
  absl::Status Bad(absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": ", what, "; is it a sparse CSR file?"));
  }
  uint64_t BeginOf(uint64_t row) const {
    return GetFixed<uint64_t>(file_.bytes().data() + kHeaderBytes +
                              row * sizeof(int64_t));
  }

  absl::Status ReadRow(SparseColumnData* column) {
    const uint64_t begin = BeginOf(next_);
    const uint64_t end = BeginOf(next_ + 1);
    if (begin > end || end > num_entries_) {
      return Bad(absl::StrCat("row ", next_, " begins at entry ", begin,
                              " and ends at ", end, " of ", num_entries_));
    }
    const char* bytes = file_.bytes().data();
    std::vector<std::pair<uint32_t, float>> entries;
    for (uint64_t i = begin; i < end; ++i) {
      const auto index =
          GetFixed<int32_t>(bytes + indices_ + i * sizeof(int32_t));
      const auto value = GetFixed<float>(bytes + values_ + i * sizeof(float));
      if (index < 0 || static_cast<uint64_t>(index) >= num_columns_) {
        return Bad(absl::StrCat("row ", next_, " has column ", index,
                                "; there are ", num_columns_));
      }
      entries.emplace_back(static_cast<uint32_t>(index), value);
    }
    // Files of scipy need not be sorted.
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0 && entries[i].first == entries[i - 1].first) {
        return Bad(absl::StrCat("row ", next_, " has column ", entries[i].first,
                                " twice"));
      }
      column->indices.push_back(entries[i].first);
      column->values.push_back(entries[i].second);
    }
    column->indptr.push_back(column->indices.size());
    return absl::OkStatus();
  }

  const std::string path_;
  const MappedFile file_;
  const std::vector<VectorField> fields_;
  uint64_t num_rows_ = 0;
  uint64_t num_columns_ = 0;
  uint64_t num_entries_ = 0;
  size_t indices_ = 0;  // bytes
  size_t values_ = 0;
  uint64_t next_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<VectorReader>> OpenCsr(const std::string& path) {
  VICINAL_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  auto reader = std::make_unique<CsrReader>(path, std::move(file));
  VICINAL_RETURN_IF_ERROR(reader->Init());
  return reader;
}

}  // namespace vicinal::client
