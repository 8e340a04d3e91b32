#include "client/formats/ground_truth.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/formats/hdf5.h"
#include "client/formats/mapped_file.h"
#include "client/formats/npy.h"
#include "client/formats/vecs.h"
#include "src/base/coding.h"
#include "src/base/status_macros.h"

namespace vicinal::client {
namespace {

absl::Status Negative(const std::string& path, uint64_t query, uint64_t rank,
                      int64_t value) {
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": neighbour ", rank, " of query ", query, " is row ", value,
      "; row numbers start at 0. Is this a file of true neighbours?"));
}

absl::StatusOr<GroundTruth> ReadIvecs(const std::string& path) {
  VICINAL_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  VICINAL_ASSIGN_OR_RETURN(
      const VecsLayout layout,
      CheckVecsLayout(path, file.bytes(), sizeof(int32_t)));
  GroundTruth truth{static_cast<size_t>(layout.num_rows), layout.dim, {}};
  truth.rows.reserve(truth.num_queries * truth.k);
  for (size_t q = 0; q < truth.num_queries; ++q) {
    VICINAL_RETURN_IF_ERROR(CheckVecsRow(path, file.bytes(), layout, q));
    const char* row =
        file.bytes().data() + q * layout.row_bytes + sizeof(int32_t);
    for (size_t i = 0; i < truth.k; ++i) {
      const auto value = GetFixed<int32_t>(row + i * sizeof(int32_t));
      if (value < 0) return Negative(path, q, i, value);
      truth.rows.push_back(static_cast<uint64_t>(value));
    }
  }
  return truth;
}

absl::StatusOr<GroundTruth> ReadNpyTruth(const std::string& path) {
  VICINAL_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  VICINAL_ASSIGN_OR_RETURN(const NpyHeader header,
                           ParseNpyHeader(path, file.bytes()));
  const bool wide = header.descr == "<i8" || header.descr == "<u8";
  if (!wide && header.descr != "<i4" && header.descr != "<u4") {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": has elements of type \"", header.descr,
        "\"; true neighbours are int32, uint32, int64 or uint64 row numbers."));
  }
  if (header.one_dimensional || header.dim == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     ": true neighbours need 2 dimensions (queries, k) "
                     "with k > 0."));
  }
  GroundTruth truth{static_cast<size_t>(header.num_rows),
                    static_cast<size_t>(header.dim),
                    {}};
  const char* data = file.bytes().data() + header.data_offset;
  const bool is_signed = header.descr[1] == 'i';
  truth.rows.reserve(truth.num_queries * truth.k);
  for (size_t i = 0; i < truth.num_queries * truth.k; ++i) {
    const int64_t value =
        wide        ? GetFixed<int64_t>(data + i * 8)
        : is_signed ? GetFixed<int32_t>(data + i * 4)
                    : static_cast<int64_t>(GetFixed<uint32_t>(data + i * 4));
    if (value < 0) return Negative(path, i / truth.k, i % truth.k, value);
    truth.rows.push_back(static_cast<uint64_t>(value));
  }
  return truth;
}

absl::StatusOr<GroundTruth> ReadHdf5Truth(const std::string& path) {
  VICINAL_ASSIGN_OR_RETURN(const IntMatrix matrix,
                           ReadHdf5Integers(path, "neighbors"));
  GroundTruth truth{static_cast<size_t>(matrix.num_rows),
                    static_cast<size_t>(matrix.num_columns),
                    {}};
  truth.rows.reserve(matrix.values.size());
  for (size_t i = 0; i < matrix.values.size(); ++i) {
    const int64_t value = matrix.values[i];
    if (value < 0) return Negative(path, i / truth.k, i % truth.k, value);
    truth.rows.push_back(static_cast<uint64_t>(value));
  }
  return truth;
}

}  // namespace

absl::StatusOr<GroundTruth> ReadGroundTruth(const std::string& path) {
  if (absl::EndsWith(path, ".ivecs")) return ReadIvecs(path);
  if (absl::EndsWith(path, ".npy")) return ReadNpyTruth(path);
  if (absl::EndsWith(path, ".hdf5") || absl::EndsWith(path, ".h5")) {
    return ReadHdf5Truth(path);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": true neighbours are read from .ivecs, .npy and .hdf5 files."));
}

}  // namespace vicinal::client
