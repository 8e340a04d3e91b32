#include "client/formats/vector_reader.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/formats/csr.h"
#include "client/formats/elements.h"
#include "client/formats/hdf5.h"
#include "client/formats/idx.h"
#include "client/formats/jsonl.h"
#include "client/formats/npy.h"
#include "client/formats/vecs.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal::client {
namespace {

struct Ending {
  absl::string_view text;
  FileFormat format;
};
constexpr Ending kEndings[] = {
    {".fvecs", FileFormat::kFvecs},  {".bvecs", FileFormat::kBvecs},
    {".npy", FileFormat::kNpy},      {".jsonl", FileFormat::kJsonl},
    {".ndjson", FileFormat::kJsonl}, {".hdf5", FileFormat::kHdf5},
    {".h5", FileFormat::kHdf5},      {".idx", FileFormat::kIdx},
    {".idx.gz", FileFormat::kIdx},   {"-ubyte", FileFormat::kIdx},
    {"-ubyte.gz", FileFormat::kIdx}, {".csr", FileFormat::kCsr},
};

absl::StatusOr<FileFormat> FormatByName(const std::string& path) {
  for (const Ending& ending : kEndings) {
    if (absl::EndsWith(path, ending.text)) return ending.format;
  }
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return FileFormat::kBeir;
  return absl::InvalidArgumentError(
      absl::StrCat(path,
                   ": its ending does not tell the format; give --format "
                   "fvecs, bvecs, npy, jsonl, hdf5, idx, csr or beir."));
}

}  // namespace

absl::StatusOr<FileFormat> ParseFileFormat(absl::string_view name) {
  if (name == "auto") return FileFormat::kAuto;
  if (name == "fvecs") return FileFormat::kFvecs;
  if (name == "bvecs") return FileFormat::kBvecs;
  if (name == "npy") return FileFormat::kNpy;
  if (name == "jsonl") return FileFormat::kJsonl;
  if (name == "hdf5") return FileFormat::kHdf5;
  if (name == "idx") return FileFormat::kIdx;
  if (name == "csr") return FileFormat::kCsr;
  if (name == "beir") return FileFormat::kBeir;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", name,
                   "\" is not a format; use auto, fvecs, bvecs, npy, jsonl, "
                   "hdf5, idx, csr or beir."));
}

size_t RowBytes(const std::vector<VectorField>& fields) {
  size_t bytes = 0;
  for (const VectorField& field : fields) {
    bytes += field.dim * ElementSize(field.type);
  }
  return std::max<size_t>(bytes, 1);
}

absl::Status CheckDim(absl::string_view path, uint64_t dim) {
  if (dim >= 1 && dim <= kMaxDim) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": its vectors have dimension ", dim,
                   "; it must be 1 to ", kMaxDim, "."));
}

absl::StatusOr<std::unique_ptr<VectorReader>> OpenVectorFile(
    const std::string& path, const OpenOptions& options) {
  FileFormat format = options.format;
  if (format == FileFormat::kAuto) {
    VICINAL_ASSIGN_OR_RETURN(format, FormatByName(path));
  }
  switch (format) {
    case FileFormat::kFvecs:
      return OpenVecs(path, ElementType::kFloat32);
    case FileFormat::kBvecs:
      return OpenVecs(path, ElementType::kUint8);
    case FileFormat::kNpy:
      return OpenNpy(path);
    case FileFormat::kJsonl:
      return OpenJsonl(path, options);
    case FileFormat::kHdf5:
      return OpenHdf5(path, options.dataset);
    case FileFormat::kCsr:
      return OpenCsr(path);
    case FileFormat::kBeir: {
      OpenOptions beir = options;
      beir.jsonl.id = "_id";
      beir.jsonl.payload = ".";
      return OpenJsonl(path + "/corpus.jsonl", beir);
    }
    case FileFormat::kIdx:
    case FileFormat::kAuto:
      break;
  }
  return OpenIdx(path);
}

absl::StatusOr<std::vector<float>> ReadRowsAsFloat(VectorReader& reader,
                                                   uint64_t first, uint64_t n) {
  if (reader.fields().empty()) {
    return absl::InvalidArgumentError("The file has no dense vectors.");
  }
  VICINAL_RETURN_IF_ERROR(reader.Skip(first));
  std::vector<float> out;
  while (n > 0) {
    VectorBlock block;
    VICINAL_ASSIGN_OR_RETURN(
        const bool more,
        reader.Read({.max_rows = std::min<uint64_t>(n, 1024)}, &block));
    if (!more) {
      return absl::OutOfRangeError(absl::StrCat(
          "The file ends ", n, " rows before the last one asked for."));
    }
    VICINAL_ASSIGN_OR_RETURN(
        const std::string data,
        ConvertElements(reader.type(), ElementType::kFloat32,
                        std::move(block.columns[0].data)));
    const size_t old = out.size();
    out.resize(old + data.size() / sizeof(float));
    std::memcpy(out.data() + old, data.data(), data.size());
    n -= block.num_rows;
  }
  return out;
}

}  // namespace vicinal::client
