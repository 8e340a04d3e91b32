// The parts that the `vicinal` command is made of.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/client.h"
#include "client/formats/vector_reader.h"
#include "nlohmann/json_fwd.hpp"
#include "src/base/point_id.h"
#include "vicinal/v1/collection.pb.h"
#include "vicinal/v1/common.pb.h"
#include "vicinal/v1/filter.pb.h"

namespace CLI {
class App;
}  // namespace CLI

namespace vicinal::cli {

// Options before the subcommand, and the work that the subcommand chose.
struct Globals {
  std::string server = "127.0.0.1:7700";
  double timeout_s = 30;
  std::function<int()> run;  // returns the exit code

  client::ClientOptions Options(size_t num_connections = 1) const;
  absl::StatusOr<std::unique_ptr<client::Client>> Connect(
      size_t num_connections = 1) const;
};

void AddServerCommand(CLI::App& app, Globals& globals);
void AddCollectionCommand(CLI::App& app, Globals& globals);
// Of payload fields.
void AddIndexCommand(CLI::App& app, Globals& globals);
void AddImportCommand(CLI::App& app, Globals& globals);
void AddExportCommand(CLI::App& app, Globals& globals);
void AddSearchCommand(CLI::App& app, Globals& globals);
// count, delete, update
void AddPointsCommands(CLI::App& app, Globals& globals);
void AddFacetCommand(CLI::App& app, Globals& globals);
void AddEncoderCommand(CLI::App& app, Globals& globals);
void AddEvalCommand(CLI::App& app, Globals& globals);
void AddBenchCommand(CLI::App& app, Globals& globals);

// Parses and runs; the whole command but for process set-up.
int RunCommandLine(int argc, const char* const* argv);

// How a vector of a new collection is to be.
struct VectorOptions {
  std::string metric;  // empty: not said
  std::string type;
  std::string index = "auto";
  uint32_t m = 0;
  uint32_t ef_construction = 0;
  uint32_t lists = 0;
  std::string codec;  // empty: the server's choice
};
void AddVectorOptions(CLI::App& command, VectorOptions& options);
// none, saq, rbq or sq8, the middle two also with bits, e.g. "saq:2".
absl::StatusOr<v1::CodecConfig> ParseCodec(absl::string_view text);
std::string CodecName(const v1::CodecConfig& codec);
void FillVectorConfig(const VectorOptions& options, v1::VectorConfig* config);

// The sparse vectors and texts of a new collection.
struct LexicalOptions {
  std::vector<std::string> sparse;  // NAME[:f16][:idf]
  std::vector<std::string> texts;   // PATH[:ANALYZER][:positions]
};
void AddLexicalOptions(CLI::App& command, LexicalOptions& options);
// InvalidArgument: one is not of that form.
absl::Status FillLexicalConfig(const LexicalOptions& options,
                               v1::Collection* collection);

// "keyword", "i64", "f64", "bool", "datetime", "uuid", "geo" and back.
std::vector<std::string> PayloadTypeNames();
v1::PayloadType ParsePayloadType(absl::string_view name);  // else UNSPECIFIED
std::string PayloadTypeName(v1::PayloadType type);
// PATH:TYPE. InvalidArgument: it is not.
absl::StatusOr<v1::PayloadIndex> ParsePayloadIndex(absl::string_view text);
// A table of a collection's, and the same as JSON.
std::string FormatPayloadIndexes(const v1::Collection& collection);
nlohmann::ordered_json PayloadIndexesToJson(const v1::Collection& collection);

// "l2", "ip", "cosine" and back.
absl::StatusOr<v1::Metric> ParseMetric(absl::string_view name);
std::string MetricName(v1::Metric metric);

// kind: "auto" (digits: a number; a UUID; else a string), "number", "uuid" or
// "string".
absl::StatusOr<PointId> ParseId(absl::string_view text, absl::string_view kind);

// The vector of that name; the only one when the name is empty.
absl::StatusOr<v1::VectorConfig> FindVector(const v1::Collection& collection,
                                            absl::string_view name);

// --format and --dataset.
struct FileOptions {
  std::string format = "auto";
  std::string dataset;
};
void AddFileOptions(CLI::App& command, FileOptions& options);
absl::StatusOr<client::OpenOptions> MakeOpenOptions(
    const FileOptions& options, absl::string_view default_dataset);

// --filter and --param.
struct FilterOptions {
  std::string text;
  std::vector<std::string> parameters;  // NAME=VALUE
};
void AddFilterOptions(CLI::App& command, FilterOptions& options);
// InvalidArgument: a parameter without a name, or with a value that is no JSON
// scalar, null or array of scalars.
absl::StatusOr<v1::Filter> MakeFilter(const FilterOptions& options);

// A value of a payload field, as JSON and for people.
nlohmann::ordered_json ValueToJson(const v1::FilterValue& value);
std::string ValueText(const v1::FilterValue& value);

// Waits for an operation with a bar on stderr; an error when it failed.
absl::Status WaitWithProgress(client::Client& client,
                              const std::string& operation, bool quiet);

absl::Status WriteTextFile(const std::string& path, absl::string_view text);
// Reads text of a whole file of lines, - for standard input. NotFound etc.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

}  // namespace vicinal::cli
