#include "client/formats/npy.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "client/formats/mapped_file.h"
#include "client/formats/vector_reader.h"
#include "src/base/coding.h"
#include "src/base/io_error.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal::client {
namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr size_t kMagicBytes = 6;
constexpr size_t kMaxHeaderBytes = 65'536;

absl::Status BadHeader(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": ", what, "; write the array again with numpy.save."));
}

// Reads the header's dictionary: three known keys, values as numpy prints
// them. Anything else is refused; nothing is evaluated.
class DictParser {
 public:
  explicit DictParser(absl::string_view text) : text_(text) {}

  bool Parse(std::string* descr, bool* fortran, std::vector<uint64_t>* shape) {
    bool seen[3] = {};
    if (!Eat('{')) return false;
    while (!Eat('}')) {
      std::string key;
      if (!String(&key) || !Eat(':')) return false;
      if (key == "descr" && !seen[0]) {
        seen[0] = String(descr);
        if (!seen[0]) return false;
      } else if (key == "fortran_order" && !seen[1]) {
        seen[1] = Bool(fortran);
        if (!seen[1]) return false;
      } else if (key == "shape" && !seen[2]) {
        seen[2] = Shape(shape);
        if (!seen[2]) return false;
      } else {
        return false;
      }
      if (!Eat(',') && !Peek('}')) return false;
    }
    Space();
    return text_.empty() && seen[0] && seen[1] && seen[2];
  }

 private:
  void Space() {
    while (!text_.empty() && (text_[0] == ' ' || text_[0] == '\n')) {
      text_.remove_prefix(1);
    }
  }
  bool Peek(char c) {
    Space();
    return !text_.empty() && text_[0] == c;
  }
  bool Eat(char c) {
    if (!Peek(c)) return false;
    text_.remove_prefix(1);
    return true;
  }
  bool String(std::string* out) {
    Space();
    if (text_.empty() || (text_[0] != '\'' && text_[0] != '"')) return false;
    const size_t end = text_.find(text_[0], 1);
    if (end == absl::string_view::npos) return false;
    *out = std::string(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return true;
  }
  bool Bool(bool* out) {
    Space();
    *out = absl::ConsumePrefix(&text_, "True");
    return *out || absl::ConsumePrefix(&text_, "False");
  }
  bool Shape(std::vector<uint64_t>* out) {
    if (!Eat('(')) return false;
    while (!Eat(')')) {
      Space();
      const size_t end = text_.find_first_not_of("0123456789");
      uint64_t value = 0;
      if (end == absl::string_view::npos ||
          !absl::SimpleAtoi(text_.substr(0, end), &value)) {
        return false;
      }
      out->push_back(value);
      text_.remove_prefix(end);
      absl::ConsumePrefix(&text_, "L");  // Python 2's long
      if (!Eat(',') && !Peek(')')) return false;
    }
    return true;
  }

  absl::string_view text_;
};

// The dictionary's text and where the data begin.
absl::StatusOr<std::pair<absl::string_view, size_t>> FindDict(
    const std::string& path, absl::string_view bytes) {
  if (bytes.size() < kMagicBytes + 4 ||
      bytes.substr(0, kMagicBytes) != absl::string_view(kMagic, kMagicBytes)) {
    return BadHeader(path,
                     "does not start with the magic bytes of a .npy file");
  }
  const int version = static_cast<uint8_t>(bytes[kMagicBytes]);
  if (version < 1 || version > 3) {
    return BadHeader(path, absl::StrCat("says .npy version ", version,
                                        " (at byte 6); versions 1 to 3 are "
                                        "known"));
  }
  const size_t length_bytes = version == 1 ? 2 : 4;
  const size_t start = kMagicBytes + 2 + length_bytes;
  if (bytes.size() < start) return BadHeader(path, "its header is cut off");
  const size_t length =
      version == 1 ? GetFixed<uint16_t>(bytes.data() + kMagicBytes + 2)
                   : GetFixed<uint32_t>(bytes.data() + kMagicBytes + 2);
  if (length > kMaxHeaderBytes || length > bytes.size() - start) {
    return BadHeader(path,
                     absl::StrCat("says its header has ", length,
                                  " bytes, but the file has ", bytes.size()));
  }
  return std::make_pair(bytes.substr(start, length), start + length);
}

size_t DtypeBytes(absl::string_view descr) {
  static constexpr struct {
    const char* name;
    size_t size;
  } kTypes[] = {{"<f4", 4}, {"<f2", 2}, {"<f8", 8}, {"|i1", 1},
                {"|u1", 1}, {"<i1", 1}, {"<u1", 1}, {"<i4", 4},
                {"<i8", 8}, {"<u4", 4}, {"<u8", 8}};
  for (const auto& type : kTypes) {
    if (descr == type.name) return type.size;
  }
  return 0;
}

class NpyReader : public VectorReader {
 public:
  NpyReader(std::string path, MappedFile file, const NpyHeader& header,
            ElementType type)
      : path_(std::move(path)),
        file_(std::move(file)),
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
    const size_t row_bytes = header_.dim * header_.element_bytes;
    const char* from =
        file_.bytes().data() + header_.data_offset + next_ * row_bytes;
    block->num_rows = num_rows;
    block->columns.emplace_back();
    std::string& data = block->columns[0].data;
    if (header_.element_bytes == sizeof(double)) {
      data.reserve(num_rows * header_.dim * sizeof(float));
      for (size_t i = 0; i < num_rows * header_.dim; ++i) {
        PutFixed(&data, static_cast<float>(
                            GetFixed<double>(from + i * sizeof(double))));
      }
    } else {
      data.assign(from, num_rows * row_bytes);
    }
    next_ += num_rows;
    file_.Forget(header_.data_offset + next_ * row_bytes);
    return true;
  }

  absl::Status Skip(uint64_t num_rows) override {
    if (num_rows > header_.num_rows - next_) {
      return absl::OutOfRangeError(
          absl::StrCat(path_, ": has only ", header_.num_rows,
                       " rows; cannot go to row ", next_ + num_rows, "."));
    }
    next_ += num_rows;
    return absl::OkStatus();
  }

 private:
  const std::string path_;
  MappedFile file_;
  const NpyHeader header_;
  const std::vector<VectorField> fields_;
  uint64_t next_ = 0;
};

}  // namespace

absl::StatusOr<NpyHeader> ParseNpyHeader(const std::string& path,
                                         absl::string_view bytes,
                                         size_t max_dimensions) {
  VICINAL_ASSIGN_OR_RETURN(const auto dict, FindDict(path, bytes));
  NpyHeader header;
  bool fortran = false;
  std::vector<uint64_t> shape;
  if (!DictParser(dict.first).Parse(&header.descr, &fortran, &shape)) {
    return BadHeader(
        path, absl::StrCat("has a header that cannot be understood: \"",
                           absl::CHexEscape(dict.first.substr(0, 60)), "\""));
  }
  if (shape.empty() || shape.size() > max_dimensions) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": holds an array of ", shape.size(),
                     " dimensions; vectors need 2 (rows, dimension): reshape "
                     "it, or name a multi-vector if these are tokens."));
  }
  if (fortran && shape.size() >= 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     ": is in Fortran order; save numpy.ascontiguousarray(x) "
                     "instead."));
  }
  header.element_bytes = DtypeBytes(header.descr);
  if (header.element_bytes == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": has elements of type \"", absl::CHexEscape(header.descr),
        "\"; float32, float16, float64, int8 and uint8 in little-endian order "
        "can be read: convert it with astype."));
  }
  header.one_dimensional = shape.size() == 1;
  header.dim = header.one_dimensional ? 1 : shape.back();
  header.num_groups = shape.size() == 3 ? shape[0] : 0;
  header.data_offset = dict.second;
  const size_t have = bytes.size() - header.data_offset;
  unsigned __int128 rows = shape[0];
  if (shape.size() == 3) rows *= shape[1];
  // Of a 3-d array the product of the sizes may need more than 128 bits.
  const bool too_many = rows > UINT64_MAX;
  const unsigned __int128 need =
      (too_many ? 1 : rows) * header.dim * header.element_bytes;
  header.num_rows = static_cast<uint64_t>(rows);
  if (too_many || need != have) {
    const bool huge = too_many || need > UINT64_MAX;
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": its shape (", absl::StrJoin(shape, ", "), ") needs ",
        huge ? std::string("more than 2^64")
             : absl::StrCat(static_cast<uint64_t>(need)),
        " bytes of data, but the file has ", have, "; was the copy complete?"));
  }
  return header;
}

absl::StatusOr<std::unique_ptr<VectorReader>> OpenNpy(const std::string& path) {
  VICINAL_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  VICINAL_ASSIGN_OR_RETURN(const NpyHeader header,
                           ParseNpyHeader(path, file.bytes()));
  if (header.one_dimensional) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": holds a 1-d array of ", header.num_rows,
        " elements; vectors need 2 dimensions (rows, dimension): reshape it."));
  }
  ElementType type = ElementType::kFloat32;
  if (header.descr == "<f2") {
    type = ElementType::kFloat16;
  } else if (header.descr == "|i1" || header.descr == "<i1") {
    type = ElementType::kInt8;
  } else if (header.descr == "|u1" || header.descr == "<u1") {
    type = ElementType::kUint8;
  } else if (header.descr != "<f4" && header.descr != "<f8") {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": has elements of type \"", header.descr,
        "\"; vectors can be float32, float16, float64, int8 or uint8: convert "
        "it with astype."));
  }
  VICINAL_RETURN_IF_ERROR(CheckDim(path, header.dim));
  return std::make_unique<NpyReader>(path, std::move(file), header, type);
}

NpyWriter::NpyWriter(std::string path, FILE* file, std::string descr,
                     uint64_t dim, size_t row_bytes)
    : path_(std::move(path)),
      file_(file),
      descr_(std::move(descr)),
      dim_(dim),
      row_bytes_(row_bytes) {}

NpyWriter::~NpyWriter() {
  if (file_ != nullptr) std::fclose(file_);
}

absl::StatusOr<std::unique_ptr<NpyWriter>> NpyWriter::CreateAs(
    const std::string& path, absl::string_view descr, uint64_t dim,
    size_t row_bytes) {
  FILE* file = std::fopen(path.c_str(), "wbe");
  if (file == nullptr) return IoError(errno, "create", path);
  std::unique_ptr<NpyWriter> writer(
      new NpyWriter(path, file, std::string(descr), dim, row_bytes));
  VICINAL_RETURN_IF_ERROR(writer->WriteHeader(0));
  return writer;
}

absl::StatusOr<std::unique_ptr<NpyWriter>> NpyWriter::Create(
    const std::string& path, uint64_t dim, ElementType type) {
  VICINAL_RETURN_IF_ERROR(CheckDim(path, dim));
  const char* descr = type == ElementType::kFloat32   ? "<f4"
                      : type == ElementType::kFloat16 ? "<f2"
                      : type == ElementType::kInt8    ? "|i1"
                                                      : "|u1";
  return CreateAs(path, descr, dim, dim * ElementSize(type));
}

absl::StatusOr<std::unique_ptr<NpyWriter>> NpyWriter::CreateIds(
    const std::string& path) {
  return CreateAs(path, "<u8", 0, sizeof(uint64_t));
}

absl::StatusOr<std::unique_ptr<NpyWriter>> NpyWriter::CreateLengths(
    const std::string& path) {
  return CreateAs(path, "<i4", 0, sizeof(int32_t));
}

absl::Status NpyWriter::WriteHeader(uint64_t num_rows) {
  // Of fixed size, so that the number of rows can be filled in at the end.
  constexpr size_t kHeaderBytes = 128;
  const std::string shape = dim_ == 0
                                ? absl::StrCat("(", num_rows, ",)")
                                : absl::StrCat("(", num_rows, ", ", dim_, ")");
  std::string header(kMagic, kMagicBytes);
  header.append("\x01\x00", 2);
  PutFixed<uint16_t>(&header, kHeaderBytes - kMagicBytes - 4);
  absl::StrAppend(&header, "{'descr': '", descr_,
                  "', 'fortran_order': False, 'shape': ", shape, ", }");
  header.resize(kHeaderBytes - 1, ' ');
  header.push_back('\n');
  if (std::fseek(file_, 0, SEEK_SET) != 0 ||
      std::fwrite(header.data(), 1, header.size(), file_) != header.size()) {
    return IoError(errno, "write", path_);
  }
  return absl::OkStatus();
}

absl::Status NpyWriter::Append(absl::string_view data) {
  if (std::fwrite(data.data(), 1, data.size(), file_) != data.size()) {
    return IoError(errno, "write", path_);
  }
  num_bytes_ += data.size();
  return absl::OkStatus();
}

absl::Status NpyWriter::Finish() {
  VICINAL_RETURN_IF_ERROR(WriteHeader(num_bytes_ / row_bytes_));
  FILE* file = std::exchange(file_, nullptr);
  if (std::fclose(file) != 0) return IoError(errno, "write", path_);
  return absl::OkStatus();
}

}  // namespace vicinal::client
