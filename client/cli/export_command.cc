// vicinal export
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/multi_options.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "client/client.h"
#include "client/formats/elements.h"
#include "client/formats/jsonl.h"
#include "client/formats/npy.h"
#include "src/base/coding.h"
#include "src/base/io_error.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"
#include "vicinal/v1/point.pb.h"

namespace vicinal::cli {
namespace {

struct Options {
  std::string collection;
  std::string file;
  std::string format = "auto";
  std::string vector_name;
  std::string ids_file;
  std::string lengths_file;  // of a multi-vector
  uint64_t limit = 0;
  FilterOptions filter;
  std::string order_by;
  bool descending = false;
  bool no_vectors = false;
  bool quiet = false;
};

// A file that takes its name only when it is complete.
class TextWriter {
 public:
  static absl::StatusOr<std::unique_ptr<TextWriter>> Create(
      const std::string& path) {
    FILE* file = std::fopen(path.c_str(), "wbe");
    if (file == nullptr) return IoError(errno, "create", path);
    return std::unique_ptr<TextWriter>(new TextWriter(path, file));
  }
  ~TextWriter() {
    if (file_ != nullptr) std::fclose(file_);
  }
  absl::Status Append(absl::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), file_) == text.size()) {
      return absl::OkStatus();
    }
    return IoError(errno, "write", path_);
  }
  absl::Status Finish() {
    if (std::fclose(std::exchange(file_, nullptr)) == 0) {
      return absl::OkStatus();
    }
    return IoError(errno, "write", path_);
  }

 private:
  TextWriter(std::string path, FILE* file)
      : path_(std::move(path)), file_(file) {}
  const std::string path_;
  FILE* file_;
};

// Takes pages of points.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual absl::Status Take(const v1::PointColumns& points) = 0;
  virtual absl::Status Finish() = 0;
  // Points left out because they lack the vector.
  uint64_t num_skipped() const { return num_skipped_; }

 protected:
  uint64_t num_skipped_ = 0;
};

// Checks what a column says about itself before its bytes are used.
absl::Status CheckColumn(const v1::VectorColumn& column, size_t num_points) {
  const size_t rows = column.present().empty()
                          ? num_points
                          : static_cast<size_t>(column.present_size());
  const size_t row_bytes =
      column.dim() * ElementSize(client::FromProto(column.type()));
  if (column.data().size() == rows * row_bytes && rows <= num_points) {
    return absl::OkStatus();
  }
  return absl::InternalError(
      absl::StrCat("The server sent ", column.data().size(), " bytes for ",
                   rows, " vectors of ", row_bytes, " bytes."));
}

// Ids beside a .npy: u64 in .npy, or lines of text.
class IdSink {
 public:
  static absl::StatusOr<std::unique_ptr<IdSink>> Create(
      const std::string& temporary, bool npy) {
    std::unique_ptr<IdSink> sink(new IdSink());
    if (npy) {
      VICINAL_ASSIGN_OR_RETURN(sink->npy_,
                               client::NpyWriter::CreateIds(temporary));
    } else {
      VICINAL_ASSIGN_OR_RETURN(sink->text_, TextWriter::Create(temporary));
    }
    return sink;
  }
  absl::Status Take(const PointId& id) {
    if (npy_ != nullptr) {
      if (!id.is_number()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "The id ", id.ToString(),
            " is not a number, so it does not fit "
            "into .npy; give --ids a name ending in .txt, or export JSONL."));
      }
      const uint64_t number = id.number();
      return npy_->Append(absl::string_view(
          reinterpret_cast<const char*>(&number), sizeof(number)));
    }
    const std::string text = id.ToString();
    if (kind_.has_value() && *kind_ != Kind(id)) {
      return absl::InvalidArgumentError(
          "The collection has ids of several kinds (numbers, UUIDs, strings), "
          "which lines of text cannot tell apart; export JSONL.");
    }
    if (absl::StrContains(text, '\n') || absl::EndsWith(text, "\r")) {
      return absl::InvalidArgumentError(
          "An id contains a line break, so it does not fit into lines of "
          "text; export JSONL.");
    }
    kind_ = Kind(id);
    return text_->Append(text + "\n");
  }
  absl::Status Finish() {
    return npy_ != nullptr ? npy_->Finish() : text_->Finish();
  }

 private:
  static int Kind(const PointId& id) {
    return id.is_number() ? 0 : id.is_uuid() ? 1 : 2;
  }
  std::unique_ptr<client::NpyWriter> npy_;
  std::unique_ptr<TextWriter> text_;
  std::optional<int> kind_;
};

class NpySink : public Sink {
 public:
  NpySink(std::unique_ptr<client::NpyWriter> writer,
          std::unique_ptr<IdSink> ids, std::string vector)
      : writer_(std::move(writer)),
        ids_(std::move(ids)),
        vector_(std::move(vector)) {}

  absl::Status Take(const v1::PointColumns& points) override {
    const size_t num_points = client::NumIds(points.ids());
    const v1::VectorColumn* column = nullptr;
    for (const v1::VectorColumn& candidate : points.vectors()) {
      if (candidate.name() == vector_) column = &candidate;
    }
    if (column == nullptr) {
      num_skipped_ += num_points;
      return absl::OkStatus();
    }
    VICINAL_RETURN_IF_ERROR(CheckColumn(*column, num_points));
    VICINAL_RETURN_IF_ERROR(writer_->Append(column->data()));
    if (!column->present().empty()) {
      num_skipped_ += num_points - static_cast<size_t>(column->present_size());
    }
    if (ids_ == nullptr) return absl::OkStatus();
    VICINAL_ASSIGN_OR_RETURN(const auto ids, client::FromProto(points.ids()));
    if (column->present().empty()) {
      for (const PointId& id : ids) VICINAL_RETURN_IF_ERROR(ids_->Take(id));
    }
    for (const uint32_t at : column->present()) {
      if (at < ids.size()) VICINAL_RETURN_IF_ERROR(ids_->Take(ids[at]));
    }
    return absl::OkStatus();
  }
  absl::Status Finish() override {
    VICINAL_RETURN_IF_ERROR(writer_->Finish());
    return ids_ == nullptr ? absl::OkStatus() : ids_->Finish();
  }

 private:
  std::unique_ptr<client::NpyWriter> writer_;
  std::unique_ptr<IdSink> ids_;
  const std::string vector_;
};

// Tokens of all points one after the other, and their numbers. Points without
// tokens have length 0 where the collection allows that, and are left out else.
class TokenSink : public Sink {
 public:
  TokenSink(std::unique_ptr<client::NpyWriter> tokens,
            std::unique_ptr<client::NpyWriter> lengths,
            std::unique_ptr<IdSink> ids, const v1::MultiVectorConfig& config)
      : tokens_(std::move(tokens)),
        lengths_(std::move(lengths)),
        ids_(std::move(ids)),
        config_(config) {}

  absl::Status Take(const v1::PointColumns& points) override {
    VICINAL_ASSIGN_OR_RETURN(const auto ids, client::FromProto(points.ids()));
    const v1::MultiVectorColumn* column = nullptr;
    for (const v1::MultiVectorColumn& candidate : points.multi_vectors()) {
      if (candidate.name() == config_.name()) column = &candidate;
    }
    if (column != nullptr) {
      VICINAL_RETURN_IF_ERROR(client::CheckMultiColumn(*column, ids.size()));
      VICINAL_RETURN_IF_ERROR(TakeTokens(*column));
    }
    std::string lengths;
    for (size_t i = 0; i < ids.size(); ++i) {
      const size_t length =
          column == nullptr ? 0 : client::TokensOf(*column, i).num_rows;
      if (length == 0 && !config_.allow_empty()) {
        ++num_skipped_;
        continue;
      }
      PutFixed(&lengths, static_cast<int32_t>(length));
      if (ids_ != nullptr) VICINAL_RETURN_IF_ERROR(ids_->Take(ids[i]));
    }
    return lengths_->Append(lengths);
  }
  absl::Status Finish() override {
    VICINAL_RETURN_IF_ERROR(tokens_->Finish());
    VICINAL_RETURN_IF_ERROR(lengths_->Finish());
    return ids_ == nullptr ? absl::OkStatus() : ids_->Finish();
  }

  // What .npy has for elements of that type.
  static ElementType FileType(ElementType type) {
    return type == ElementType::kBfloat16 ? ElementType::kFloat32 : type;
  }

 private:
  absl::Status TakeTokens(const v1::MultiVectorColumn& column) {
    const ElementType type = client::FromProto(column.type());
    if (column.dim() != config_.dim()) {
      return absl::InternalError(
          absl::StrCat("The server sent tokens of dimension ", column.dim(),
                       " in place of ", config_.dim(), "."));
    }
    VICINAL_ASSIGN_OR_RETURN(
        const std::string data,
        client::ConvertElements(
            type, FileType(client::FromProto(config_.type())), column.data()));
    return tokens_->Append(data);
  }

  std::unique_ptr<client::NpyWriter> tokens_;
  std::unique_ptr<client::NpyWriter> lengths_;
  std::unique_ptr<IdSink> ids_;
  const v1::MultiVectorConfig config_;
};

class JsonlSink : public Sink {
 public:
  explicit JsonlSink(std::unique_ptr<TextWriter> writer)
      : writer_(std::move(writer)) {}

  absl::Status Take(const v1::PointColumns& points) override {
    VICINAL_ASSIGN_OR_RETURN(const auto ids, client::FromProto(points.ids()));
    std::vector<std::string> vectors(ids.size());
    for (const v1::VectorColumn& column : points.vectors()) {
      VICINAL_RETURN_IF_ERROR(AddColumn(column, &vectors));
    }
    std::vector<std::string> sparse(ids.size());
    for (const v1::SparseColumn& column : points.sparse_vectors()) {
      VICINAL_RETURN_IF_ERROR(AddSparse(column, &sparse));
    }
    std::vector<std::string> multi(ids.size());
    for (const v1::MultiVectorColumn& column : points.multi_vectors()) {
      VICINAL_RETURN_IF_ERROR(AddTokens(column, &multi));
    }
    std::string out;
    for (size_t i = 0; i < ids.size(); ++i) {
      out += "{\"id\": ";
      client::AppendIdJson(ids[i], &out);
      if (!vectors[i].empty()) out += unnamed_ ? vectors[i] : vectors[i] + "}";
      if (!sparse[i].empty()) out += sparse[i] + "}";
      if (!multi[i].empty()) out += multi[i] + "}";
      const auto row = static_cast<int>(i);
      if (row < points.payloads_size() && !points.payloads(row).empty()) {
        absl::StrAppend(&out, ", \"payload\": ", OneLine(points.payloads(row)));
      }
      out += "}\n";
    }
    return writer_->Append(out);
  }
  absl::Status Finish() override { return writer_->Finish(); }

 private:
  // Line breaks stand only between the tokens of JSON, never within.
  static std::string OneLine(std::string json) {
    std::replace(json.begin(), json.end(), '\n', ' ');
    std::replace(json.begin(), json.end(), '\r', ' ');
    return json;
  }

  // Appends the next member of `, "sparse": {`.
  static absl::Status AddSparse(const v1::SparseColumn& column,
                                std::vector<std::string>* out) {
    const size_t num_entries = column.indices().size() / sizeof(uint32_t);
    if (column.indptr_size() != static_cast<int>(out->size()) + 1 ||
        column.values().size() != num_entries * sizeof(float) ||
        column.indptr(column.indptr_size() - 1) > num_entries ||
        !std::is_sorted(column.indptr().begin(), column.indptr().end())) {
      return absl::InternalError(
          "The server sent sparse vectors that do not fit their points.");
    }
    for (size_t row = 0; row < out->size(); ++row) {
      const uint64_t begin = column.indptr(static_cast<int>(row));
      const uint64_t end = column.indptr(static_cast<int>(row) + 1);
      if (begin == end) continue;
      std::string indices, values;
      for (uint64_t i = begin; i < end; ++i) {
        absl::StrAppend(
            &indices, i > begin ? "," : "",
            GetFixed<uint32_t>(column.indices().data() + i * sizeof(uint32_t)));
        if (i > begin) values.push_back(',');
        client::AppendFloatJson(
            GetFixed<float>(column.values().data() + i * sizeof(float)),
            &values);
      }
      std::string& text = (*out)[row];
      text += text.empty() ? ", \"sparse\": {" : ", ";
      client::AppendJsonString(column.name(), &text);
      absl::StrAppend(&text, ": {\"indices\": [", indices, "], \"values\": [",
                      values, "]}");
    }
    return absl::OkStatus();
  }

  // Appends the next member of `, "multi": {`.
  static absl::Status AddTokens(const v1::MultiVectorColumn& column,
                                std::vector<std::string>* out) {
    VICINAL_RETURN_IF_ERROR(client::CheckMultiColumn(column, out->size()));
    VICINAL_ASSIGN_OR_RETURN(
        const std::string data,
        client::ConvertElements(client::FromProto(column.type()),
                                ElementType::kFloat32, column.data()));
    size_t at = 0;
    for (size_t row = 0; row < out->size(); ++row) {
      const size_t num_tokens = client::TokensOf(column, row).num_rows;
      if (num_tokens == 0) continue;
      std::string& text = (*out)[row];
      text += text.empty() ? ", \"multi\": {" : ", ";
      client::AppendJsonString(column.name(), &text);
      text += ": [";
      for (size_t t = 0; t < num_tokens; ++t) {
        text += t == 0 ? "[" : ",[";
        for (size_t i = 0; i < column.dim(); ++i, at += sizeof(float)) {
          if (i > 0) text.push_back(',');
          client::AppendFloatJson(GetFixed<float>(data.data() + at), &text);
        }
        text.push_back(']');
      }
      text.push_back(']');
    }
    return absl::OkStatus();
  }

  // Appends `, "vector": [...]`, or the next member of `, "vectors": {`.
  absl::Status AddColumn(const v1::VectorColumn& column,
                         std::vector<std::string>* out) {
    VICINAL_RETURN_IF_ERROR(CheckColumn(column, out->size()));
    unnamed_ = column.name().empty();
    VICINAL_ASSIGN_OR_RETURN(
        const std::string data,
        client::ConvertElements(client::FromProto(column.type()),
                                ElementType::kFloat32, column.data()));
    const size_t num_rows = column.present().empty()
                                ? out->size()
                                : static_cast<size_t>(column.present_size());
    for (size_t r = 0; r < num_rows; ++r) {
      const size_t point =
          column.present().empty() ? r : column.present(static_cast<int>(r));
      if (point >= out->size()) {
        return absl::InternalError("The server sent a vector of no point.");
      }
      std::string& text = (*out)[point];
      if (unnamed_) {
        text += ", \"vector\": [";
      } else {
        text += text.empty() ? ", \"vectors\": {" : ", ";
        client::AppendJsonString(column.name(), &text);
        text += ": [";
      }
      for (size_t i = 0; i < column.dim(); ++i) {
        float value = 0;
        std::memcpy(&value,
                    data.data() + (r * column.dim() + i) * sizeof(float),
                    sizeof(float));
        if (i > 0) text.push_back(',');
        client::AppendFloatJson(value, &text);
      }
      text.push_back(']');
    }
    return absl::OkStatus();
  }

  std::unique_ptr<TextWriter> writer_;
  bool unnamed_ = true;
};

std::string Temporary(const std::string& path) { return path + ".part"; }

absl::Status Publish(const std::string& path) {
  if (std::rename(Temporary(path).c_str(), path.c_str()) == 0) {
    return absl::OkStatus();
  }
  return IoError(errno, "rename to", path);
}

// Null: no --ids.
absl::StatusOr<std::unique_ptr<IdSink>> OpenIdSink(const Options& options) {
  if (options.ids_file.empty()) return nullptr;
  return IdSink::Create(Temporary(options.ids_file),
                        absl::EndsWith(options.ids_file, ".npy"));
}

absl::StatusOr<std::unique_ptr<Sink>> OpenTokenSink(
    const Options& options, const v1::Collection& collection,
    v1::PointSelector* select) {
  VICINAL_ASSIGN_OR_RETURN(const v1::MultiVectorConfig config,
                           FindMulti(collection, options.vector_name));
  select->add_vectors(config.name());
  VICINAL_ASSIGN_OR_RETURN(
      auto tokens, client::NpyWriter::Create(
                       Temporary(options.file), config.dim(),
                       TokenSink::FileType(client::FromProto(config.type()))));
  VICINAL_ASSIGN_OR_RETURN(auto lengths, client::NpyWriter::CreateLengths(
                                             Temporary(options.lengths_file)));
  VICINAL_ASSIGN_OR_RETURN(auto ids, OpenIdSink(options));
  return std::make_unique<TokenSink>(std::move(tokens), std::move(lengths),
                                     std::move(ids), config);
}

absl::StatusOr<std::unique_ptr<Sink>> OpenSink(const Options& options, bool npy,
                                               const v1::Collection& collection,
                                               v1::PointSelector* select) {
  if (!npy) {
    select->set_with_payload(true);
    select->set_with_all_vectors(!options.no_vectors);
    VICINAL_ASSIGN_OR_RETURN(auto writer,
                             TextWriter::Create(Temporary(options.file)));
    return std::make_unique<JsonlSink>(std::move(writer));
  }
  if (!options.lengths_file.empty()) {
    return OpenTokenSink(options, collection, select);
  }
  if (FindMulti(collection, options.vector_name).ok() &&
      !FindVector(collection, options.vector_name).ok()) {
    return absl::InvalidArgumentError(
        "A multi-vector is written to two files: give --doclens FILE.npy for "
        "the numbers of tokens, or export JSONL.");
  }
  VICINAL_ASSIGN_OR_RETURN(const v1::VectorConfig vector,
                           FindVector(collection, options.vector_name));
  if (vector.name().empty()) {
    select->set_with_all_vectors(true);
  } else {
    select->add_vectors(vector.name());
  }
  VICINAL_ASSIGN_OR_RETURN(
      auto writer,
      client::NpyWriter::Create(Temporary(options.file), vector.dim(),
                                client::FromProto(vector.type())));
  VICINAL_ASSIGN_OR_RETURN(auto ids, OpenIdSink(options));
  return std::make_unique<NpySink>(std::move(writer), std::move(ids),
                                   vector.name());
}

// Whether it is .npy, else JSON lines. InvalidArgument: options that do not go
// with one another.
absl::StatusOr<bool> CheckOptions(const Options& options) {
  const bool npy =
      options.format == "npy" ||
      (options.format == "auto" && absl::EndsWith(options.file, ".npy"));
  const bool jsonl = options.format == "jsonl" ||
                     absl::EndsWith(options.file, ".jsonl") ||
                     absl::EndsWith(options.file, ".ndjson");
  if (!npy && !jsonl) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.file,
        ": its ending does not tell the format; give --format npy or jsonl."));
  }
  if (!npy && !(options.ids_file + options.lengths_file).empty()) {
    return absl::InvalidArgumentError(
        "--ids and --doclens go with .npy; JSON lines hold the ids and tokens "
        "themselves.");
  }
  if (options.descending && options.order_by.empty()) {
    return absl::InvalidArgumentError(
        "--descending goes with --order-by; ids come in ascending order.");
  }
  return npy;
}

int RunExport(const Globals& globals, const Options& options) {
  const auto npy = CheckOptions(options);
  if (!npy.ok()) return ReportUsage(npy.status());
  const auto filter = MakeFilter(options.filter);
  if (!filter.ok()) return ReportUsage(filter.status());
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto collection = (*client)->GetCollection(options.collection);
  if (!collection.ok()) return Report(collection.status());
  v1::ScrollRequest request;
  request.set_collection(options.collection);
  request.set_limit(options.limit);
  request.set_page_size(1'000);
  if (!client::IsBlank(*filter)) *request.mutable_filter() = *filter;
  if (!options.order_by.empty()) {
    request.mutable_order_by()->set_path(options.order_by);
    request.mutable_order_by()->set_descending(options.descending);
  }
  std::vector<std::string> files = {options.file};
  for (const std::string& file : {options.ids_file, options.lengths_file}) {
    if (!file.empty()) files.push_back(file);
  }
  auto sink = OpenSink(options, *npy, *collection, request.mutable_select());
  const auto give_up = [&files](const absl::Status& status) {
    for (const std::string& file : files) {
      std::remove(Temporary(file).c_str());
    }
    return Report(status);
  };
  if (!sink.ok()) return give_up(sink.status());
  uint64_t total = collection->stats().num_points();
  if (options.limit > 0) total = std::min(total, options.limit);
  Progress progress("export", "points", Progress::Choose(options.quiet));
  uint64_t done = 0;
  absl::Status status =
      (*client)->Scroll(request, [&](v1::ScrollResponse&& page) {
        const v1::PointColumns& points = page.points().columns();
        done += client::NumIds(points.ids());
        progress.Update(done, total == 0 ? 1.0
                                         : static_cast<double>(done) /
                                               static_cast<double>(total));
        return (*sink)->Take(points);
      });
  progress.End();
  if (status.ok()) status = (*sink)->Finish();
  for (const std::string& file : files) {
    if (status.ok()) status = Publish(file);
  }
  if (!status.ok()) return give_up(status);
  absl::PrintF("Exported %s points to %s.\n",
               WithCommas(done - (*sink)->num_skipped()), options.file);
  if ((*sink)->num_skipped() > 0) {
    absl::PrintF("%s points have no such vector and were left out.\n",
                 WithCommas((*sink)->num_skipped()));
  }
  return kOk;
}

}  // namespace

void AddExportCommand(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand(
      "export",
      "Writes a collection, as of one moment and in id order or by an indexed\n"
      "field, to a file:\n"
      ".npy (one vector of each point, or its tokens with --doclens) or .jsonl "
      "(all of each point).");
  auto options = std::make_shared<Options>();
  command->add_option("collection", options->collection, "Its name")
      ->required();
  command->add_option("file", options->file, "File to write")->required();
  command->add_option("--format", options->format, "auto, npy or jsonl")
      ->check(CLI::IsMember(std::vector<std::string>{"auto", "npy", "jsonl"}))
      ->capture_default_str();
  command->add_option("--vector-name", options->vector_name,
                      "npy: which named vector");
  command->add_option("--ids", options->ids_file,
                      "npy: file for the ids; .npy of u64, or text lines");
  command->add_option("--doclens", options->lengths_file,
                      "npy, of a multi-vector: file for the numbers of tokens");
  command->add_option("--limit", options->limit, "At most so many points");
  AddFilterOptions(*command, options->filter);
  command->add_option("--order-by", options->order_by,
                      "Indexed field to order by; points without it are left "
                      "out");
  command->add_flag("--descending", options->descending,
                    "The largest values of --order-by first");
  command->add_flag("--no-vectors", options->no_vectors,
                    "jsonl: ids and payloads only");
  command->add_flag("--quiet", options->quiet, "No progress");
  command->footer(
      "Examples:\n"
      "  vicinal export photos photos.npy --ids photo-ids.npy\n"
      "  vicinal export docs docs.jsonl\n"
      "  vicinal export papers documents.npy --doclens doclens.npy "
      "--vector-name colbert\n"
      "  vicinal export shop dear.jsonl --order-by price --descending "
      "--limit 100");
  command->callback([&globals, options] {
    globals.run = [&globals, options] { return RunExport(globals, *options); };
  });
}

}  // namespace vicinal::cli
