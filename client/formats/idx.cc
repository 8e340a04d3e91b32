#include "client/formats/idx.h"

#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "client/formats/vector_reader.h"
#include "src/base/coding.h"
#include "src/base/io_error.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal::client {
namespace {

struct GzClose {
  void operator()(gzFile file) const { gzclose(file); }
};
using GzFile = std::unique_ptr<gzFile_s, GzClose>;

// zlib reads plain files as they are.
class GzInput {
 public:
  GzInput(std::string path, GzFile file)
      : path_(std::move(path)), file_(std::move(file)) {}

  const std::string& path() const { return path_; }
  // Compressed bytes consumed so far.
  int64_t offset() const { return gzoffset(file_.get()); }

  // Reads exactly n bytes; `what` and `row` go into the message.
  absl::Status Read(char* out, size_t n, absl::string_view what) {
    while (n > 0) {
      const auto step =
          static_cast<unsigned>(std::min<size_t>(n, size_t{1} << 30));
      const int got = gzread(file_.get(), out, step);
      if (got <= 0) return Broken(what);
      out += got;
      n -= static_cast<size_t>(got);
    }
    return absl::OkStatus();
  }

  // OK only at the end of the file, checksum included.
  absl::Status ExpectEnd(absl::string_view what) {
    char extra = 0;
    const int got = gzread(file_.get(), &extra, 1);
    if (got < 0) return Broken(what);
    if (got > 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": goes on after ", what,
                       ", the last one its header counts; is the header "
                       "damaged?"));
    }
    // A gzip stream that just stops is reported on close only.
    int code = Z_OK;
    gzerror(file_.get(), &code);
    return code == Z_OK || code == Z_STREAM_END ? absl::OkStatus()
                                                : Broken(what);
  }

 private:
  absl::Status Broken(absl::string_view what) {
    int code = Z_OK;
    const char* text = gzerror(file_.get(), &code);
    if (code == Z_ERRNO) return IoError(errno, "read", path_);
    if (code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR) {
      return absl::InvalidArgumentError(absl::StrCat(
          path_, ": ends within ", what, "; was the download complete?"));
    }
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": cannot be decompressed at ", what, ": ", text,
                     "; fetch the file again."));
  }

  const std::string path_;
  GzFile file_;
};

struct IdxHeader {
  uint8_t type = 0;
  size_t element_bytes = 0;
  uint64_t num_rows = 0;
  uint64_t dim = 1;
  size_t header_bytes = 0;
};

absl::StatusOr<IdxHeader> ReadHeader(GzInput& input) {
  char magic[4];
  VICINAL_RETURN_IF_ERROR(input.Read(magic, sizeof(magic), "its header"));
  IdxHeader header;
  header.type = static_cast<uint8_t>(magic[2]);
  const size_t num_dims = static_cast<uint8_t>(magic[3]);
  if (magic[0] != 0 || magic[1] != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        input.path(), ": starts with bytes ",
        absl::StrFormat("%02x %02x", static_cast<uint8_t>(magic[0]),
                        static_cast<uint8_t>(magic[1])),
        "; an IDX file starts with 00 00. Give --format if it is another "
        "one."));
  }
  switch (header.type) {
    case 0x08:
    case 0x09:
      header.element_bytes = 1;
      break;
    case 0x0D:
      header.element_bytes = 4;
      break;
    case 0x0E:
      header.element_bytes = 8;
      break;
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          input.path(), ": has elements of type ",
          absl::StrFormat("%02x", header.type),
          " (at byte 2); uint8 (08), int8 (09), float32 (0d) and float64 (0e) "
          "can be read."));
  }
  if (num_dims < 2 || num_dims > 8) {
    return absl::InvalidArgumentError(absl::StrCat(
        input.path(), ": has ", num_dims,
        " dimensions (at byte 3); vectors need 2 to 8. Files of labels have "
        "one: give the file of images."));
  }
  for (size_t i = 0; i < num_dims; ++i) {
    char size[4];
    VICINAL_RETURN_IF_ERROR(input.Read(size, sizeof(size), "its header"));
    const uint64_t value = GetBigEndian32(size);
    if (i == 0) {
      header.num_rows = value;
      continue;
    }
    header.dim *= value;  // at most kMaxDim * 2^32 before the check
    VICINAL_RETURN_IF_ERROR(CheckDim(input.path(), header.dim));
  }
  header.header_bytes = 4 + 4 * num_dims;
  return header;
}

// Big-endian elements of n bytes to float32.
void ConvertFloats(const IdxHeader& header, std::string* data) {
  std::string out;
  const size_t n = data->size() / header.element_bytes;
  out.reserve(n * sizeof(float));
  for (size_t i = 0; i < n; ++i) {
    const char* from = data->data() + i * header.element_bytes;
    PutFixed(&out, header.element_bytes == 4
                       ? std::bit_cast<float>(GetBigEndian32(from))
                       : static_cast<float>(
                             std::bit_cast<double>(GetBigEndian64(from))));
  }
  *data = std::move(out);
}

class IdxReader : public VectorReader {
 public:
  IdxReader(GzInput input, const IdxHeader& header, ElementType type)
      : input_(std::move(input)),
        header_(header),
        fields_{{.name = "", .dim = header.dim, .type = type}} {}

  const std::vector<VectorField>& fields() const override { return fields_; }
  std::optional<uint64_t> num_rows() const override { return header_.num_rows; }
  double progress() const override {
    return header_.num_rows == 0 ? 1.0
                                 : static_cast<double>(next_) /
                                       static_cast<double>(header_.num_rows);
  }

  absl::StatusOr<bool> Read(const BlockLimits& limits,
                            VectorBlock* block) override {
    *block = VectorBlock{.first_row = next_};
    const size_t num_rows = static_cast<size_t>(std::min<uint64_t>(
        header_.num_rows - next_,
        std::min(limits.max_rows,
                 std::max<size_t>(1, limits.max_bytes / RowBytes(fields_)))));
    if (num_rows == 0) return false;
    std::string data(num_rows * header_.dim * header_.element_bytes, '\0');
    VICINAL_RETURN_IF_ERROR(Take(num_rows, data.data()));
    if (header_.element_bytes > 1) ConvertFloats(header_, &data);
    block->num_rows = num_rows;
    block->columns.push_back({.data = std::move(data)});
    return true;
  }

  // A compressed file has to be read to be passed over.
  absl::Status Skip(uint64_t num_rows) override {
    if (num_rows > header_.num_rows - next_) {
      return absl::OutOfRangeError(
          absl::StrCat(input_.path(), ": has only ", header_.num_rows,
                       " rows; cannot go to row ", next_ + num_rows, "."));
    }
    std::string row(header_.dim * header_.element_bytes, '\0');
    for (uint64_t i = 0; i < num_rows; ++i) {
      VICINAL_RETURN_IF_ERROR(Take(1, row.data()));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Take(size_t num_rows, char* out) {
    VICINAL_RETURN_IF_ERROR(
        input_.Read(out, num_rows * header_.dim * header_.element_bytes,
                    absl::StrCat("rows ", next_, " to ", next_ + num_rows - 1,
                                 " of ", header_.num_rows)));
    next_ += num_rows;
    if (next_ < header_.num_rows) return absl::OkStatus();
    return input_.ExpectEnd(absl::StrCat("row ", next_ - 1));
  }

  GzInput input_;
  const IdxHeader header_;
  const std::vector<VectorField> fields_;
  uint64_t next_ = 0;
};

// Deflate cannot shrink data more than about 1,032 times, so this bounds the
// size a compressed file can have too.
constexpr uint64_t kMaxDeflateRatio = 1'032;

absl::Status CheckSize(const std::string& path, const IdxHeader& header) {
  struct stat info{};
  if (stat(path.c_str(), &info) != 0) return IoError(errno, "stat", path);
  FILE* file = std::fopen(path.c_str(), "rbe");
  if (file == nullptr) return IoError(errno, "open", path);
  const bool gzip = std::fgetc(file) == 0x1F && std::fgetc(file) == 0x8B;
  std::fclose(file);
  const auto size = static_cast<uint64_t>(info.st_size);
  // num_rows < 2^32 and a row has at most kMaxDim * 8 bytes: no overflow.
  const uint64_t need =
      header.header_bytes + header.num_rows * header.dim * header.element_bytes;
  const uint64_t at_most = gzip ? size * kMaxDeflateRatio : size;
  if (need > at_most || (!gzip && need != size)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": its header promises ", header.num_rows, " rows of ",
        header.dim, " elements, ", need, " bytes, but the file has ", size,
        gzip ? " compressed" : "", "; was the download complete?"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<VectorReader>> OpenIdx(const std::string& path) {
  GzFile file(gzopen(path.c_str(), "rbe"));
  if (file == nullptr) {
    return IoError(errno == 0 ? ENOMEM : errno, "open", path);
  }
  gzbuffer(file.get(), 256 << 10);
  GzInput input(path, std::move(file));
  VICINAL_ASSIGN_OR_RETURN(const IdxHeader header, ReadHeader(input));
  VICINAL_RETURN_IF_ERROR(CheckDim(path, header.dim));
  VICINAL_RETURN_IF_ERROR(CheckSize(path, header));
  const ElementType type = header.type == 0x08   ? ElementType::kUint8
                           : header.type == 0x09 ? ElementType::kInt8
                                                 : ElementType::kFloat32;
  return std::make_unique<IdxReader>(std::move(input), header, type);
}

}  // namespace vicinal::client
