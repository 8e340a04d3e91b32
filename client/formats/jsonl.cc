#include "client/formats/jsonl.h"

#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/formats/json_scanner.h"
#include "client/formats/vector_reader.h"
#include "src/base/io_error.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal::client {
namespace {

// A line longer than this is not a point: 16 vectors of 65,536 elements and a
// payload of 1 MiB stay below.
constexpr size_t kMaxLineBytes = size_t{64} << 20;
constexpr size_t kReadBytes = size_t{1} << 20;

struct FileClose {
  void operator()(FILE* file) const { std::fclose(file); }
};

// Lines of a file, one at a time.
class LineInput {
 public:
  LineInput(std::string path, std::unique_ptr<FILE, FileClose> file,
            uint64_t file_bytes)
      : path_(std::move(path)),
        file_(std::move(file)),
        file_bytes_(file_bytes) {}

  const std::string& path() const { return path_; }
  uint64_t line_number() const { return line_number_; }  // 1-based
  double progress() const {
    return file_bytes_ == 0 ? 1.0
                            : static_cast<double>(consumed_) /
                                  static_cast<double>(file_bytes_);
  }

  // False at the end. *line is valid until the next call.
  absl::StatusOr<bool> Next(absl::string_view* line) {
    while (true) {
      const size_t end = buffer_.find('\n', scanned_);
      if (end != std::string::npos) {
        Take(end, end + 1, line);
        return true;
      }
      scanned_ = buffer_.size();
      if (buffer_.size() - start_ > kMaxLineBytes) {
        return absl::InvalidArgumentError(absl::StrCat(
            path_, ": line ", line_number_ + 1, " is longer than ",
            kMaxLineBytes, " bytes; is this a file of JSON lines?"));
      }
      VICINAL_ASSIGN_OR_RETURN(const bool more, Fill());
      if (more) continue;
      if (start_ == buffer_.size()) return false;
      Take(buffer_.size(), buffer_.size(), line);
      return true;
    }
  }

 private:
  void Take(size_t end, size_t next, absl::string_view* line) {
    *line = absl::string_view(buffer_).substr(start_, end - start_);
    consumed_ += next - start_;
    start_ = scanned_ = next;
    ++line_number_;
  }

  absl::StatusOr<bool> Fill() {
    buffer_.erase(0, start_);
    scanned_ -= start_;
    start_ = 0;
    const size_t old = buffer_.size();
    buffer_.resize(old + kReadBytes);
    const size_t got =
        std::fread(buffer_.data() + old, 1, kReadBytes, file_.get());
    buffer_.resize(old + got);
    if (got == 0 && std::ferror(file_.get()) != 0) {
      return IoError(errno, "read", path_);
    }
    return got > 0;
  }

  const std::string path_;
  std::unique_ptr<FILE, FileClose> file_;
  const uint64_t file_bytes_;
  std::string buffer_;
  size_t start_ = 0;    // of the next line
  size_t scanned_ = 0;  // no line end before this
  uint64_t consumed_ = 0;
  uint64_t line_number_ = 0;
};

// The tokens of one row.
struct RowTokens {
  std::string name;
  size_t dim = 0;  // 0: no tokens
  std::vector<float> values;
};

// One parsed line.
struct Row {
  std::optional<PointId> id;
  std::vector<std::pair<std::string, std::vector<float>>> vectors;
  std::vector<std::pair<std::string, std::map<uint32_t, float>>> sparse;
  std::vector<RowTokens> multi;
  absl::string_view payload;  // into the line

  size_t bytes() const {
    size_t total = payload.size();
    for (const auto& vector : vectors) {
      total += vector.second.size() * sizeof(float);
    }
    for (const auto& vector : sparse) {
      total += vector.second.size() * (sizeof(uint32_t) + sizeof(float));
    }
    for (const RowTokens& tokens : multi) {
      total += tokens.values.size() * sizeof(float);
    }
    return total;
  }
};

class JsonlReader : public VectorReader {
 public:
  JsonlReader(LineInput input, OpenOptions options)
      : input_(std::move(input)),
        options_(std::move(options)),
        fields_(options_.expected_fields),
        multi_(options_.expected_multi) {}

  // Reads ahead one row, which tells the fields unless they are known.
  absl::Status Init() {
    VICINAL_RETURN_IF_ERROR(Advance());
    if (!has_row_) {
      return absl::InvalidArgumentError(
          absl::StrCat(input_.path(),
                       ": has no row; give a file with one "
                       "JSON object per line."));
    }
    with_ids_ = row_.id.has_value();
    if (fields_.empty()) {
      for (const auto& [name, values] : row_.vectors) {
        fields_.push_back({.name = name,
                           .dim = values.size(),
                           .type = ElementType::kFloat32});
      }
    }
    for (VectorField& field : fields_) {
      field.type = ElementType::kFloat32;
      VICINAL_RETURN_IF_ERROR(CheckDim(input_.path(), field.dim));
    }
    return CheckRow();
  }

  const std::vector<VectorField>& fields() const override { return fields_; }
  std::optional<uint64_t> num_rows() const override { return std::nullopt; }
  double progress() const override { return input_.progress(); }

  absl::StatusOr<bool> Read(const BlockLimits& limits,
                            VectorBlock* block) override {
    *block = VectorBlock{.first_row = next_};
    block->columns.resize(fields_.size());
    size_t bytes = 0;
    while (has_row_ && block->num_rows < limits.max_rows &&
           bytes < limits.max_bytes) {
      bytes += row_.bytes();
      TakeRow(block);
      VICINAL_RETURN_IF_ERROR(Advance());
      if (has_row_) VICINAL_RETURN_IF_ERROR(CheckRow());
    }
    for (VectorColumnData& column : block->columns) {
      if (column.present.size() == block->num_rows) column.present.clear();
    }
    for (SparseColumnData& column : block->sparse) {
      column.indptr.resize(block->num_rows + 1, column.indices.size());
    }
    for (MultiColumnData& column : block->multi) FinishTokens(block, &column);
    return block->num_rows > 0;
  }

  absl::Status Skip(uint64_t num_rows) override {
    for (uint64_t i = 0; i < num_rows; ++i) {
      if (!has_row_) {
        return absl::OutOfRangeError(
            absl::StrCat(input_.path(), ": has only ", next_, " rows."));
      }
      ++next_;
      VICINAL_RETURN_IF_ERROR(Advance());
      if (has_row_) VICINAL_RETURN_IF_ERROR(CheckRow());
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Bad(absl::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(
        input_.path(), ": line ", input_.line_number(), ": ", what, "."));
  }

  bool ParseId(JsonScanner& scan) {
    std::string text;
    if (scan.Peek() == '"') {
      if (!scan.String(&text)) return false;
    } else if (scan.Peek() == '{') {
      const bool ok = scan.Object([&](const std::string& key) {
        return key == "uuid" ? scan.String(&text)
                             : scan.Fail("expected {\"uuid\": \"...\"}");
      });
      if (!ok) return false;
      return SetId(scan, PointId::ParseUuid(text));
    } else {
      absl::string_view number;
      uint64_t value = 0;
      if (!scan.Value(&number)) return false;
      if (!absl::SimpleAtoi(number, &value)) {
        return scan.Fail(absl::StrCat(
            "expected an id (a number from 0 to 2^64 - 1, a string, or "
            "{\"uuid\": \"...\"}), found ",
            number.substr(0, 24), ", then"));
      }
      row_.id = PointId(value);
      return true;
    }
    return SetId(scan, options_.jsonl.uuid_strings ? PointId::ParseUuid(text)
                                                   : PointId::FromString(text));
  }
  bool SetId(JsonScanner& scan, absl::StatusOr<PointId> id) {
    if (!id.ok()) return scan.Fail(id.status().message());
    row_.id = *std::move(id);
    return true;
  }

  bool ParseVector(JsonScanner& scan, const std::string& name) {
    for (const auto& vector : row_.vectors) {
      if (vector.first == name) {
        return scan.Fail(
            absl::StrCat("expected one vector \"", name, "\", found two,"));
      }
    }
    row_.vectors.emplace_back(name, std::vector<float>());
    std::vector<float>& values = row_.vectors.back().second;
    for (const VectorField& field : fields_) {
      if (field.name == name) values.reserve(field.dim);
    }
    return scan.Floats(&values);
  }

  // {"indices": [...], "values": [...]}, or {"7": 0.5, ...}; in any order.
  bool ParseSparse(JsonScanner& scan, const std::string& name) {
    row_.sparse.emplace_back(name, std::map<uint32_t, float>());
    std::map<uint32_t, float>& entries = row_.sparse.back().second;
    std::vector<uint32_t> indices;
    std::vector<float> values;
    const auto parse_index = [&](absl::string_view text, uint32_t* index) {
      return absl::SimpleAtoi(text, index) ||
             scan.Fail(absl::StrCat("expected a dimension from 0 to 2^32 - 1, "
                                    "found ",
                                    text.substr(0, 24), ", then"));
    };
    const auto add = [&](uint32_t index, float value) {
      return entries.emplace(index, value).second ||
             scan.Fail(absl::StrCat("expected each dimension once, found ",
                                    index, " twice, then"));
    };
    const bool ok = scan.Object([&](const std::string& key) {
      absl::string_view text;
      if (key == "values") return scan.Floats(&values);
      if (key != "indices") {
        uint32_t index = 0;
        float value = 0;
        return parse_index(key, &index) && scan.Value(&text) &&
               (absl::SimpleAtof(text, &value) ||
                scan.Fail("expected a number before")) &&
               add(index, value);
      }
      if (!scan.Value(&text)) return false;
      if (text.size() < 2 || text[0] != '[') {
        return scan.Fail("expected an array of dimensions before");
      }
      text = text.substr(1, text.size() - 2);
      for (const absl::string_view part :
           absl::StrSplit(text, ',', absl::SkipWhitespace())) {
        if (!parse_index(absl::StripAsciiWhitespace(part),
                         &indices.emplace_back())) {
          return false;
        }
      }
      return true;
    });
    if (!ok) return false;
    if (indices.size() != values.size()) {
      return scan.Fail(
          absl::StrCat("expected as many values as indices, found ",
                       values.size(), " and ", indices.size(), ", then"));
    }
    for (size_t i = 0; i < indices.size(); ++i) {
      if (!add(indices[i], values[i])) return false;
    }
    return true;
  }

  // [[...], [...]], each of as many numbers.
  bool ParseTokens(JsonScanner& scan, const std::string& name) {
    for (const RowTokens& other : row_.multi) {
      if (other.name == name) {
        return scan.Fail(absl::StrCat("expected one multi-vector \"", name,
                                      "\", found two,"));
      }
    }
    RowTokens& tokens = row_.multi.emplace_back(RowTokens{.name = name});
    if (scan.Peek() != '[') {
      return scan.Fail("expected an array of arrays as multi-vector");
    }
    scan.TryEat('[');
    if (scan.TryEat(']')) return true;
    size_t number = 0;
    do {
      if (scan.Peek() != '[') {
        return scan.Fail("expected an array of arrays as multi-vector");
      }
      const size_t before = tokens.values.size();
      if (!scan.Floats(&tokens.values)) return false;
      const size_t dim = tokens.values.size() - before;
      if (number == 0) tokens.dim = dim;
      if (dim != tokens.dim || dim == 0) {
        return scan.Fail(absl::StrCat(
            "expected tokens of one dimension, found token ", number, " of \"",
            name, "\" with ", dim, " elements",
            number > 0 ? absl::StrCat(" and others with ", tokens.dim) : "",
            ", then"));
      }
      ++number;
    } while (scan.TryEat(','));
    return scan.Expect(']');
  }

  bool ParseMember(JsonScanner& scan, const std::string& key) {
    const JsonlFields& names = options_.jsonl;
    if (key == names.id) return ParseId(scan);
    if (key == names.vector) return ParseVector(scan, "");
    if (key == names.vectors) {
      return scan.Object(
          [&](const std::string& name) { return ParseVector(scan, name); });
    }
    if (key == names.sparse && names.payload != ".") {
      return scan.Object(
          [&](const std::string& name) { return ParseSparse(scan, name); });
    }
    if (key == names.multi && names.payload != ".") {
      return scan.Object(
          [&](const std::string& name) { return ParseTokens(scan, name); });
    }
    absl::string_view value;
    if (key == names.payload) {
      if (scan.Peek() != '{' && scan.Peek() != 'n') {
        return scan.Fail("expected an object or null as payload");
      }
      if (!scan.Value(&value)) return false;
      row_.payload = value == "null" ? absl::string_view() : value;
      return true;
    }
    return scan.Value(&value);  // not ours
  }

  // Parses the next line that is not empty into row_.
  absl::Status Advance() {
    absl::string_view line;
    while (true) {
      VICINAL_ASSIGN_OR_RETURN(has_row_, input_.Next(&line));
      if (!has_row_) return absl::OkStatus();
      if (line.find_first_not_of(" \t\r") != absl::string_view::npos) break;
    }
    row_ = Row();
    JsonScanner scan(line);
    const bool ok = scan.Object(
        [&](const std::string& key) { return ParseMember(scan, key); });
    if (!ok || (!scan.AtEnd() && !scan.Fail("expected the end of the line"))) {
      return Bad(absl::StrCat("byte ", scan.offset(), ": ", scan.error()));
    }
    if (options_.jsonl.payload == ".") row_.payload = line;
    if (row_.vectors.empty() && row_.sparse.empty() && row_.multi.empty() &&
        !options_.may_lack_vectors) {
      return Bad(absl::StrCat("has no \"", options_.jsonl.vector,
                              "\" and no \"", options_.jsonl.vectors,
                              "\"; name the fields with --vector-field or "
                              "--vectors-field"));
    }
    return absl::OkStatus();
  }

  absl::Status CheckRow() {
    for (const auto& [name, values] : row_.vectors) {
      const auto field =
          std::find_if(fields_.begin(), fields_.end(),
                       [&n = name](const auto& f) { return f.name == n; });
      if (field == fields_.end()) {
        return Bad(absl::StrCat("has a vector named \"", name.substr(0, 64),
                                "\", which is not one of the ", fields_.size(),
                                " of the collection or of row 0"));
      }
      if (values.size() != field->dim) {
        return Bad(absl::StrCat("vector \"", name, "\" has ", values.size(),
                                " elements; it must have ", field->dim));
      }
    }
    VICINAL_RETURN_IF_ERROR(CheckTokens());
    if (with_ids_ && !row_.id.has_value()) {
      return Bad(absl::StrCat("has no \"", options_.jsonl.id,
                              "\", but row 0 has one; all rows need ids or "
                              "none"));
    }
    return absl::OkStatus();
  }

  // Also learns multi-vectors that nobody said.
  absl::Status CheckTokens() {
    for (const RowTokens& tokens : row_.multi) {
      auto field = std::find_if(
          multi_.begin(), multi_.end(),
          [&](const VectorField& f) { return f.name == tokens.name; });
      if (field == multi_.end() && !options_.expected_multi.empty()) {
        std::string known;
        for (const VectorField& f : multi_) {
          absl::StrAppend(&known, known.empty() ? "" : ", ", f.name);
        }
        return Bad(absl::StrCat("has a multi-vector named \"",
                                tokens.name.substr(0, 64),
                                "\", which the collection does not have; it "
                                "has ",
                                known));
      }
      if (tokens.dim == 0) continue;
      if (field == multi_.end()) {
        VICINAL_RETURN_IF_ERROR(CheckDim(input_.path(), tokens.dim));
        multi_.push_back({.name = tokens.name, .dim = tokens.dim});
      } else if (field->dim != tokens.dim) {
        return Bad(absl::StrCat("tokens of multi-vector \"", tokens.name,
                                "\" have ", tokens.dim,
                                " elements; they must have ", field->dim));
      }
    }
    return absl::OkStatus();
  }

  void TakeRow(VectorBlock* block) {
    for (const auto& [name, values] : row_.vectors) {
      for (size_t f = 0; f < fields_.size(); ++f) {
        if (fields_[f].name != name) continue;
        block->columns[f].data.append(
            reinterpret_cast<const char*>(values.data()),
            values.size() * sizeof(float));
        block->columns[f].present.push_back(
            static_cast<uint32_t>(block->num_rows));
      }
    }
    TakeSparse(block);
    TakeTokens(block);
    if (with_ids_) block->ids.push_back(*std::move(row_.id));
    if (!row_.payload.empty() || !block->payloads.empty()) {
      block->payloads.resize(block->num_rows);
      block->payloads.emplace_back(row_.payload);
    }
    ++block->num_rows;
    ++next_;
  }

  void TakeSparse(VectorBlock* block) {
    for (const auto& [name, entries] : row_.sparse) {
      auto column = std::find_if(
          block->sparse.begin(), block->sparse.end(),
          [&n = name](const auto& other) { return other.name == n; });
      if (column == block->sparse.end()) {
        block->sparse.push_back({.name = name});
        column = block->sparse.end() - 1;
      }
      // Of the rows before that have none.
      column->indptr.resize(block->num_rows + 1, column->indices.size());
      for (const auto& [index, value] : entries) {
        column->indices.push_back(index);
        column->values.push_back(value);
      }
      column->indptr.push_back(column->indices.size());
    }
  }

  void TakeTokens(VectorBlock* block) {
    for (RowTokens& tokens : row_.multi) {
      auto column = std::find_if(
          block->multi.begin(), block->multi.end(),
          [&](const auto& other) { return other.name == tokens.name; });
      if (column == block->multi.end()) {
        block->multi.push_back({.name = tokens.name});
        column = block->multi.end() - 1;
      }
      if (tokens.dim > 0) column->dim = tokens.dim;
      // Of the rows before that have none.
      column->offsets.resize(block->num_rows + 1, NumTokens(*column));
      column->data.append(reinterpret_cast<const char*>(tokens.values.data()),
                          tokens.values.size() * sizeof(float));
      column->offsets.push_back(NumTokens(*column));
      column->present.push_back(static_cast<uint32_t>(block->num_rows));
    }
  }
  static uint64_t NumTokens(const MultiColumnData& column) {
    return column.dim == 0 ? 0
                           : column.data.size() / (column.dim * sizeof(float));
  }
  // Of the rows behind; rows are only named where that says more than tokens.
  static void FinishTokens(VectorBlock* block, MultiColumnData* column) {
    column->offsets.resize(block->num_rows + 1, NumTokens(*column));
    size_t num_filled = 0;
    for (const uint32_t row : column->present) {
      num_filled += column->offsets[row] < column->offsets[row + 1] ? 1 : 0;
    }
    if (num_filled == column->present.size()) column->present.clear();
  }

  LineInput input_;
  const OpenOptions options_;
  std::vector<VectorField> fields_;
  std::vector<VectorField> multi_;  // those seen so far, or expected
  Row row_;                         // the next one, already checked
  bool has_row_ = false;
  bool with_ids_ = false;
  uint64_t next_ = 0;  // number of row_
};

}  // namespace

absl::StatusOr<std::unique_ptr<VectorReader>> OpenJsonl(
    const std::string& path, const OpenOptions& options) {
  std::unique_ptr<FILE, FileClose> file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) return IoError(errno, "open", path);
  struct stat info{};
  if (fstat(fileno(file.get()), &info) != 0) {
    return IoError(errno, "stat", path);
  }
  if (S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is a folder; give a file."));
  }
  auto reader = std::make_unique<JsonlReader>(
      LineInput(path, std::move(file), static_cast<uint64_t>(info.st_size)),
      options);
  VICINAL_RETURN_IF_ERROR(reader->Init());
  return reader;
}

void AppendJsonString(absl::string_view text, std::string* out) {
  out->push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out->push_back('\\');
      out->push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(out, "\\u%04x", c);
    } else {
      out->push_back(c);
    }
  }
  out->push_back('"');
}

void AppendIdJson(const PointId& id, std::string* out) {
  if (id.is_number()) {
    absl::StrAppend(out, id.number());
  } else if (id.is_uuid()) {
    absl::StrAppend(out, "{\"uuid\": \"", id.ToString(), "\"}");
  } else {
    AppendJsonString(id.string(), out);
  }
}

void AppendFloatJson(float value, std::string* out) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value);
  out->append(text, end.ptr);
}

}  // namespace vicinal::client
