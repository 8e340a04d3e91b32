#include "client/cli/command.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// All of CLI11 in this file, CLI/App.hpp in the others: Config.hpp and
// Formatter.hpp are compiled in full wherever they are seen.
#include "CLI/CLI.hpp"
#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/cli/exit_code.h"
#include "client/cli/progress.h"
#include "client/client.h"
#include "client/formats/elements.h"
#include "client/formats/vector_reader.h"
#include "client/status.h"
#include "src/base/io_error.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "vicinal/v1/collection.pb.h"
#include "vicinal/v1/common.pb.h"
#include "vicinal/v1/operation.pb.h"

namespace vicinal::cli {
namespace {

std::vector<std::string> Metrics() { return {"l2", "ip", "cosine"}; }
std::vector<std::string> Types() { return {"f32", "f16", "i8", "u8"}; }

}  // namespace

client::ClientOptions Globals::Options(size_t num_connections) const {
  client::ClientOptions options;
  options.server = server;
  options.timeout =
      std::chrono::milliseconds(static_cast<int64_t>(timeout_s * 1000));
  if (timeout_s == 0) options.stream_timeout = std::chrono::milliseconds(0);
  options.num_connections = num_connections;
  return options;
}

absl::StatusOr<std::unique_ptr<client::Client>> Globals::Connect(
    size_t num_connections) const {
  return client::Client::Connect(Options(num_connections));
}

int RunCommandLine(int argc, const char* const* argv) {
  CLI::App app(
      "vicinal: imports into, searches and looks after a Vicinal server.\n"
      "Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 some points refused, "
      "4 no server.",
      "vicinal");
  Globals globals;
  app.add_option("--server", globals.server, "HOST:PORT of the server")
      ->envname("VICINAL_SERVER")
      ->capture_default_str();
  app.add_option("--timeout", globals.timeout_s,
                 "Seconds for each call; 0: no limit")
      ->check(CLI::Range(0.0, 1e9))
      ->capture_default_str();
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "Example:\n  vicinal import photos photos.npy --create --metric l2");
  AddServerCommand(app, globals);
  AddCollectionCommand(app, globals);
  AddIndexCommand(app, globals);
  AddImportCommand(app, globals);
  AddExportCommand(app, globals);
  AddSearchCommand(app, globals);
  AddPointsCommands(app, globals);
  AddFacetCommand(app, globals);
  AddEncoderCommand(app, globals);
  AddEvalCommand(app, globals);
  AddBenchCommand(app, globals);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  return globals.run();
}

void AddVectorOptions(CLI::App& command, VectorOptions& options) {
  command
      .add_option("--metric", options.metric,
                  "How closeness is measured: l2, ip (inner product) or cosine")
      ->check(CLI::IsMember(Metrics()));
  command
      .add_option("--type", options.type,
                  "Stored element type: f32, f16, i8 or u8")
      ->check(CLI::IsMember(Types()));
  command
      .add_option(
          "--index", options.index,
          "auto (a graph or lists, whichever is faster), hnsw, ivf, or flat "
          "for scans: exact ones, or of codes with --codec; --m and "
          "--ef-construction mean hnsw, --lists means ivf")
      ->check(CLI::IsMember(
          std::vector<std::string>{"auto", "hnsw", "ivf", "flat"}))
      ->capture_default_str();
  command.add_option("--m", options.m, "Links per node of HNSW, 4 to 64");
  command.add_option("--ef-construction", options.ef_construction,
                     "Candidates while building HNSW, 16 to 2000");
  command.add_option("--lists", options.lists,
                     "Lists of an IVF in each segment; default: about the "
                     "square root of its rows");
  command
      .add_option("--codec", options.codec,
                  "Codes that searches compare: none, saq[:BITS] (0.5 to 8 "
                  "bits per dimension), rbq[:BITS] (1, 2 or 4) or sq8; "
                  "default: the server's choice")
      ->check(CLI::Validator(
          [](const std::string& text) {
            const auto codec = ParseCodec(text);
            return codec.ok() ? "" : std::string(codec.status().message());
          },
          "CODEC"));
}

absl::StatusOr<v1::CodecConfig> ParseCodec(absl::string_view text) {
  v1::CodecConfig codec;
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  if (parts.first == "none") {
    codec.set_kind(v1::CODEC_KIND_NONE);
  } else if (parts.first == "saq") {
    codec.set_kind(v1::CODEC_KIND_SAQ);
  } else if (parts.first == "rbq") {
    codec.set_kind(v1::CODEC_KIND_RBQ);
  } else if (parts.first == "sq8") {
    codec.set_kind(v1::CODEC_KIND_SQ8);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text,
                     "\" is no codec; use none, saq, rbq or sq8, "
                     "e.g. saq:2."));
  }
  float bits = 0;
  if (!parts.second.empty() && !absl::SimpleAtof(parts.second, &bits)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", parts.second, "\" is no number of bits; e.g. saq:2."));
  }
  codec.set_avg_bits(bits);
  return codec;
}

std::string CodecName(const v1::CodecConfig& codec) {
  std::string name;
  switch (codec.kind()) {
    case v1::CODEC_KIND_NONE:
      name = "none";
      break;
    case v1::CODEC_KIND_SAQ:
      name = "saq";
      break;
    case v1::CODEC_KIND_RBQ:
      name = "rbq";
      break;
    case v1::CODEC_KIND_SQ8:
      name = "sq8";
      break;
    default:
      name = "auto";
  }
  if (codec.avg_bits() != 0) absl::StrAppend(&name, ":", codec.avg_bits());
  return name;
}

void FillVectorConfig(const VectorOptions& options, v1::VectorConfig* config) {
  if (const auto metric = ParseMetric(options.metric); metric.ok()) {
    config->set_metric(*metric);
  }
  if (const auto type = client::ParseElementType(options.type); type.ok()) {
    config->set_type(client::ToProto(*type));
  }
  std::string index = options.index;
  if (index == "auto" && (options.m > 0 || options.ef_construction > 0)) {
    index = "hnsw";
  } else if (index == "auto" && options.lists > 0) {
    index = "ivf";
  }
  if (index == "auto") {
    config->mutable_index()->mutable_automatic();
  } else if (index == "flat") {
    config->mutable_index()->mutable_flat();
  } else if (index == "ivf") {
    config->mutable_index()->mutable_ivf()->set_num_lists(options.lists);
  } else {
    v1::HnswConfig* hnsw = config->mutable_index()->mutable_hnsw();
    hnsw->set_m(options.m);
    hnsw->set_ef_construction(options.ef_construction);
  }
  if (const auto codec = ParseCodec(options.codec); codec.ok()) {
    *config->mutable_codec() = *codec;
  }
}

absl::StatusOr<v1::Metric> ParseMetric(absl::string_view name) {
  if (name == "l2") return v1::METRIC_L2;
  if (name == "ip") return v1::METRIC_INNER_PRODUCT;
  if (name == "cosine") return v1::METRIC_COSINE;
  return absl::InvalidArgumentError(
      absl::StrCat("\"", name, "\" is not a metric; use l2, ip or cosine."));
}

std::string MetricName(v1::Metric metric) {
  switch (metric) {
    case v1::METRIC_L2:
      return "l2";
    case v1::METRIC_INNER_PRODUCT:
      return "ip";
    case v1::METRIC_COSINE:
      return "cosine";
    default:
      return "?";
  }
}

absl::StatusOr<PointId> ParseId(absl::string_view text,
                                absl::string_view kind) {
  uint64_t number = 0;
  const bool is_number =
      text.find_first_not_of("0123456789") == absl::string_view::npos &&
      absl::SimpleAtoi(text, &number);
  if (kind == "number" || (kind == "auto" && is_number)) {
    if (is_number) return PointId(number);
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text.substr(0, 64), "\" is not a number from 0 to 2^64 - 1."));
  }
  if (kind == "uuid") return PointId::ParseUuid(text);
  if (kind == "auto") {
    if (auto uuid = PointId::ParseUuid(text); uuid.ok()) return uuid;
  }
  return PointId::FromString(text);
}

absl::StatusOr<v1::VectorConfig> FindVector(const v1::Collection& collection,
                                            absl::string_view name) {
  if (name.empty() && collection.vectors_size() == 1) {
    return collection.vectors(0);
  }
  std::vector<std::string> known;
  for (const v1::VectorConfig& vector : collection.vectors()) {
    if (vector.name() == std::string(name)) return vector;
    known.push_back(absl::StrCat("\"", vector.name(), "\""));
  }
  std::string problem = absl::StrCat("Collection ", collection.name(), " has ");
  if (name.empty() && !known.empty()) {
    absl::StrAppend(&problem, "several dense vectors, ");
  } else {
    absl::StrAppend(&problem, "no dense vector");
    if (!name.empty()) absl::StrAppend(&problem, " named \"", name, "\"");
    absl::StrAppend(&problem, known.empty() ? "." : "; it has ");
  }
  if (!known.empty()) {
    absl::StrAppend(&problem, absl::StrJoin(known, ", "),
                    ": choose one with --vector-name.");
  }
  for (const v1::MultiVectorConfig& multi : collection.multi_vectors()) {
    absl::StrAppend(&problem, " It has the multi-vector \"", multi.name(),
                    "\", which --multi names.");
  }
  return absl::InvalidArgumentError(problem);
}

void AddFileOptions(CLI::App& command, FileOptions& options) {
  command
      .add_option("--format", options.format,
                  "auto (by the file's ending), fvecs, bvecs, npy, jsonl, "
                  "hdf5, idx, csr or beir (a folder)")
      ->check(CLI::IsMember(std::vector<std::string>{"auto", "fvecs", "bvecs",
                                                     "npy", "jsonl", "hdf5",
                                                     "idx", "csr", "beir"}))
      ->capture_default_str();
  command.add_option("--dataset", options.dataset, "Data set of an HDF5 file");
}

absl::StatusOr<client::OpenOptions> MakeOpenOptions(
    const FileOptions& options, absl::string_view default_dataset) {
  client::OpenOptions open;
  VICINAL_ASSIGN_OR_RETURN(open.format,
                           client::ParseFileFormat(options.format));
  open.dataset =
      options.dataset.empty() ? std::string(default_dataset) : options.dataset;
  return open;
}

absl::Status WaitWithProgress(client::Client& client,
                              const std::string& operation, bool quiet) {
  Progress progress("index", "rows", Progress::Choose(quiet));
  const auto result = client.WaitOperation(
      operation, std::chrono::milliseconds(0), [&](const v1::Operation& now) {
        if (now.total_rows() == 0) return;
        progress.Update(now.done_rows(),
                        static_cast<double>(now.done_rows()) /
                            static_cast<double>(now.total_rows()));
      });
  progress.End();
  if (!result.ok()) return result.status();
  const absl::Status error = client::FromProto(result->error());
  if (error.ok()) return error;
  return absl::Status(
      error.code(), absl::StrCat("Operation ", operation, " (", result->kind(),
                                 ") failed: ", error.message()));
}

absl::Status WriteTextFile(const std::string& path, absl::string_view text) {
  FILE* file = std::fopen(path.c_str(), "wbe");
  if (file == nullptr) return IoError(errno, "open", path);
  const bool written =
      std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const bool closed = std::fclose(file) == 0;
  return written && closed ? absl::OkStatus() : IoError(errno, "write", path);
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  if (path == "-") {
    std::string text;
    for (int c = std::getchar(); c != EOF; c = std::getchar()) {
      text.push_back(static_cast<char>(c));
    }
    return text;
  }
  FILE* file = std::fopen(path.c_str(), "rbe");
  if (file == nullptr) return IoError(errno, "open", path);
  const absl::Cleanup close_file = [file] { std::fclose(file); };
  std::string text;
  char buffer[65'536];
  size_t got = 0;
  while ((got = std::fread(buffer, 1, sizeof(buffer), file)) > 0) {
    text.append(buffer, got);
  }
  if (std::ferror(file) != 0) return IoError(errno, "read", path);
  return text;
}

}  // namespace vicinal::cli
