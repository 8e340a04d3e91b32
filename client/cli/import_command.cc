// vicinal import
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/importer.h"
#include "client/cli/multi_options.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "client/client.h"
#include "client/formats/elements.h"
#include "client/formats/token_file.h"
#include "client/formats/vector_reader.h"
#include "src/base/status_macros.h"
#include "vicinal/v1/collection.pb.h"

namespace vicinal::cli {
namespace {

struct Options {
  ImportOptions import;
  FileOptions file;
  VectorOptions vector;
  LexicalOptions lexical;
  std::vector<std::string> multi;  // of files or of a new collection
  std::vector<v1::MultiVectorConfig> multi_specs;  // the latter
  std::string wire_type;
  std::string durability = "fsynced";
  bool create = false;
  bool wait_index = false;
  bool quiet = false;
  bool json = false;
};

// ann-benchmarks' names; empty: not known.
std::string MetricOfDistance(const std::string& distance) {
  if (distance == "euclidean") return "l2";
  if (distance == "angular") return "cosine";
  if (distance == "dot" || distance == "ip") return "ip";
  return {};
}

// NAME=TOKENS.npy,LENGTHS.npy, or as ParseMultiSpec has it.
absl::Status ParseMulti(Options* options) {
  for (const std::string& text : options->multi) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || text.find(':') < equals) {
      VICINAL_ASSIGN_OR_RETURN(v1::MultiVectorConfig config,
                               ParseMultiSpec(text));
      options->multi_specs.push_back(std::move(config));
      continue;
    }
    const size_t comma = text.find(',', equals);
    TokenSource source{.name = text.substr(0, equals)};
    if (comma != std::string::npos) {
      source.tokens = text.substr(equals + 1, comma - equals - 1);
      source.lengths = text.substr(comma + 1);
    }
    if (source.name.empty() || source.tokens.empty() ||
        source.lengths.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--multi ", text,
          " is neither NAME=TOKENS.npy,DOCLENS.npy nor, for --create, "
          "NAME:DIM[:METRIC][:OPTION...]."));
    }
    options->import.tokens.push_back(std::move(source));
  }
  if (options->import.file.empty() && options->import.tokens.empty()) {
    return absl::InvalidArgumentError(
        "Say what to import: a file, or --multi NAME=TOKENS.npy,DOCLENS.npy, "
        "or both.");
  }
  if (!options->multi_specs.empty() && !options->create) {
    return absl::InvalidArgumentError(
        "--multi NAME:DIM... says what --create makes; add --create.");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<client::NamedTokens>> OpenTokens(
    const ImportOptions& options) {
  std::vector<client::NamedTokens> files;
  for (const TokenSource& source : options.tokens) {
    VICINAL_ASSIGN_OR_RETURN(
        client::TokenFile file,
        client::TokenFile::Open(source.tokens,
                                {.lengths_file = source.lengths}));
    files.push_back({.name = source.name, .file = std::move(file)});
  }
  return files;
}

// Multi-vectors of the new collection: those said, and those of files.
absl::Status AddMulti(const std::vector<client::NamedTokens>& files,
                      const Options& options, v1::Collection* wanted) {
  for (const v1::MultiVectorConfig& config : options.multi_specs) {
    *wanted->add_multi_vectors() = config;
  }
  for (const client::NamedTokens& tokens : files) {
    if (FindMulti(*wanted, tokens.name).ok()) continue;
    if (options.vector.metric != "ip" && options.vector.metric != "cosine") {
      return absl::InvalidArgumentError(absl::StrCat(
          "--create needs --metric ip or cosine for multi-vector \"",
          tokens.name, "\", or --multi ", tokens.name, ":", tokens.file.dim(),
          ":METRIC."));
    }
    v1::MultiVectorConfig* config = wanted->add_multi_vectors();
    config->set_name(tokens.name);
    config->set_dim(static_cast<uint32_t>(tokens.file.dim()));
    config->set_metric(*ParseMetric(options.vector.metric));
    auto type = options.import.wire_type.value_or(tokens.file.type());
    if (!options.vector.type.empty()) {
      VICINAL_ASSIGN_OR_RETURN(type,
                               client::ParseElementType(options.vector.type));
    }
    config->set_type(client::ToProto(type));
  }
  return absl::OkStatus();
}

// InvalidArgument: a file's tokens are not like the collection's.
absl::Status CheckMulti(const std::vector<client::NamedTokens>& files,
                        const v1::Collection& collection) {
  for (const client::NamedTokens& tokens : files) {
    VICINAL_ASSIGN_OR_RETURN(const v1::MultiVectorConfig config,
                             FindMulti(collection, tokens.name));
    if (config.dim() != tokens.file.dim()) {
      return absl::InvalidArgumentError(absl::StrCat(
          tokens.file.path(), ": its tokens have dimension ", tokens.file.dim(),
          ", but multi-vector \"", config.name(), "\" of collection ",
          collection.name(), " has ", config.dim(), "."));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Collection> Create(
    client::Client& client, const client::VectorReader* reader,
    const std::vector<client::NamedTokens>& tokens, const Options& options) {
  v1::Collection wanted;
  wanted.set_name(options.import.collection);
  VICINAL_RETURN_IF_ERROR(FillLexicalConfig(options.lexical, &wanted));
  VICINAL_RETURN_IF_ERROR(AddMulti(tokens, options, &wanted));
  if (reader == nullptr) return client.CreateCollection(wanted);
  VectorOptions vector = options.vector;
  if (vector.metric.empty()) {
    vector.metric = MetricOfDistance(reader->distance());
  }
  if (vector.metric.empty() && !reader->fields().empty()) {
    return absl::InvalidArgumentError(
        "--create needs --metric l2, ip or cosine: the file does not say it.");
  }
  for (const client::VectorField& field : reader->fields()) {
    v1::VectorConfig* config = wanted.add_vectors();
    FillVectorConfig(vector, config);
    config->set_name(field.name.empty() ? options.import.vector_name
                                        : field.name);
    config->set_dim(static_cast<uint32_t>(field.dim));
    if (vector.type.empty()) {
      config->set_type(
          client::ToProto(options.import.wire_type.value_or(field.type)));
    }
  }
  if (wanted.vectors_size() + wanted.multi_vectors_size() +
          wanted.sparse_vectors_size() + wanted.texts_size() ==
      0) {
    return absl::InvalidArgumentError(
        "--create makes the vectors of row 0, which has none; say what the "
        "collection has with --multi NAME:DIM:METRIC, --sparse or "
        "--text.");
  }
  return client.CreateCollection(wanted);
}

// reader: null: there are tokens only.
// The collection, made when --create says so and there is none. When there is
// one already, the import's own checks tell whether the file fits, so that the
// same command can go on after a kill.
absl::StatusOr<v1::Collection> GetOrCreate(
    client::Client& client, const client::VectorReader* reader,
    const std::vector<client::NamedTokens>& tokens, const Options& options) {
  auto found = client.GetCollection(options.import.collection);
  if (!absl::IsNotFound(found.status()) || !options.create) {
    if (absl::IsNotFound(found.status())) {
      return absl::NotFoundError(absl::StrCat(
          found.status().message(),
          "\nAdd --create --metric l2, ip or cosine to make it here."));
    }
    if (found.ok() && options.create && !options.vector.metric.empty() &&
        reader != nullptr && !reader->fields().empty()) {
      VICINAL_ASSIGN_OR_RETURN(
          const v1::VectorConfig vector,
          FindVector(*found, reader->fields()[0].name.empty()
                                 ? options.import.vector_name
                                 : reader->fields()[0].name));
      if (MetricName(vector.metric()) != options.vector.metric) {
        return absl::AlreadyExistsError(absl::StrCat(
            "Collection ", found->name(), " exists with metric ",
            MetricName(vector.metric()), ", not ", options.vector.metric,
            "; drop it first or choose another name."));
      }
    }
    return found;
  }
  auto created = Create(client, reader, tokens, options);
  if (absl::IsAlreadyExists(created.status())) {
    return client.GetCollection(options.import.collection);
  }
  return created;
}

void PrintJson(const ImportResult& result, const v1::Collection& collection,
               std::optional<double> index_s) {
  const double rate =
      static_cast<double>(result.rows_sent) / std::max(1e-9, result.elapsed_s);
  nlohmann::ordered_json out = {{"collection", collection.name()},
                                {"rows_sent", result.rows_sent},
                                {"rows_resumed", result.rows_resumed},
                                {"rows_refused", result.rows_refused},
                                {"bytes_sent", result.bytes_sent},
                                {"elapsed_s", result.elapsed_s},
                                {"points_per_s", rate},
                                {"reconnects", result.reconnects},
                                {"acks_lost", result.acks_lost},
                                {"stream_id", result.stream_id}};
  if (result.tokens_read > 0) {
    out["tokens_read"] = result.tokens_read;
    out["tokens_sent"] = result.tokens_sent;
  }
  if (index_s.has_value()) out["index_s"] = *index_s;
  out["refused"] = nlohmann::ordered_json::array();
  for (const RefusedRow& row : result.refused) {
    out["refused"].push_back({{"row", row.row},
                              {"field", row.field},
                              {"message", std::string(row.status.message())}});
  }
  absl::PrintF("%s\n", out.dump(2, ' ', false,
                                nlohmann::json::error_handler_t::replace));
}

void PrintSummary(const ImportResult& result, const Options& options) {
  if (result.rows_sent == 0 && result.rows_resumed > 0) {
    absl::PrintF(
        "All %s rows of %s were imported by an earlier run; nothing was sent. "
        "Use --restart to send them again.\n",
        WithCommas(result.rows_resumed),
        options.import.file.empty() ? options.import.tokens[0].tokens
                                    : options.import.file);
    return;
  }
  const uint64_t written = result.rows_sent - result.rows_refused;
  const double elapsed = std::max(1e-9, result.elapsed_s);
  absl::PrintF(
      "Imported %s points into %s in %s: %s points/s, %s/s, durable.\n",
      WithCommas(written), options.import.collection,
      HumanSeconds(result.elapsed_s),
      WithCommas(static_cast<uint64_t>(static_cast<double>(result.rows_sent) /
                                       elapsed)),
      HumanBytes(static_cast<uint64_t>(static_cast<double>(result.bytes_sent) /
                                       elapsed)));
  if (options.import.pool > 1) {
    absl::PrintF(
        "Pooled %s tokens to %s: searches find less; measure it (vicinal eval "
        "or bench against a collection without --pool).\n",
        WithCommas(result.tokens_read), WithCommas(result.tokens_sent));
  }
  if (result.rows_resumed > 0) {
    absl::PrintF("Resumed: the first %s rows were there from an earlier run.\n",
                 WithCommas(result.rows_resumed));
  }
  if (result.acks_lost > 0) {
    absl::PrintF(
        "The answers to %d frames were lost with a broken connection: all "
        "their good rows are durable; refused ones among them are not "
        "listed.\n",
        result.acks_lost);
  }
}

void PrintRefused(const ImportResult& result) {
  if (result.rows_refused == 0) return;
  absl::FPrintF(stderr, "%s rows were refused:\n",
                WithCommas(result.rows_refused));
  for (const RefusedRow& row : result.refused) {
    absl::FPrintF(stderr, "  row %s: %s\n", WithCommas(row.row),
                  Printable(row.status.message()));
  }
  if (result.rows_refused > result.refused.size()) {
    absl::FPrintF(stderr, "  ... and %s more (see --show-refused)\n",
                  WithCommas(result.rows_refused - result.refused.size()));
  }
}

absl::StatusOr<double> WaitForIndex(client::Client& client,
                                    const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  VICINAL_ASSIGN_OR_RETURN(
      const std::string operation,
      client.OptimizeCollection(options.import.collection));
  VICINAL_RETURN_IF_ERROR(
      WaitWithProgress(client, operation, options.quiet || options.json));
  return Seconds(std::chrono::steady_clock::now() - start);
}

// What the rows of JSON lines must have, which the first one may lack.
void Expect(const v1::Collection& collection,
            const client::VectorReader& reader, ImportOptions* options) {
  client::OpenOptions& open = options->open;
  open.may_lack_vectors = collection.sparse_vectors_size() +
                              collection.texts_size() +
                              collection.multi_vectors_size() >
                          0;
  for (const v1::MultiVectorConfig& multi : collection.multi_vectors()) {
    open.expected_multi.push_back({.name = multi.name(), .dim = multi.dim()});
  }
  for (const v1::VectorConfig& vector : collection.vectors()) {
    const bool unnamed = collection.vectors_size() == 1 ||
                         (!options->vector_name.empty() &&
                          vector.name() == options->vector_name);
    const bool file_names = reader.fields().empty()
                                ? !vector.name().empty()
                                : !reader.fields()[0].name.empty();
    if (!file_names && !unnamed) continue;
    open.expected_fields.push_back(
        {.name = file_names ? vector.name() : "", .dim = vector.dim()});
  }
}

int RunImport(const Globals& globals, Options& options) {
  if (const absl::Status s = ParseMulti(&options); !s.ok()) {
    return ReportUsage(s);
  }
  if (!options.wire_type.empty()) {
    options.import.wire_type = *client::ParseElementType(options.wire_type);
  }
  options.import.durability = options.durability == "buffered"
                                  ? v1::DURABILITY_BUFFERED
                                  : v1::DURABILITY_FSYNCED;
  auto open = MakeOpenOptions(options.file, "train");
  if (!open.ok()) return ReportUsage(open.status());
  open->jsonl = options.import.open.jsonl;
  // Until the collection says what rows must have.
  open->may_lack_vectors = true;
  options.import.open = *std::move(open);
  // The files first: a bad one must not leave an empty collection behind.
  auto tokens = OpenTokens(options.import);
  if (!tokens.ok()) return Report(tokens.status());
  std::unique_ptr<client::VectorReader> reader;
  if (!options.import.file.empty()) {
    auto opened =
        client::OpenVectorFile(options.import.file, options.import.open);
    if (!opened.ok()) return Report(opened.status());
    reader = *std::move(opened);
  }
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto collection = GetOrCreate(**client, reader.get(), *tokens, options);
  if (!collection.ok()) return Report(collection.status());
  if (const absl::Status s = CheckMulti(*tokens, *collection); !s.ok()) {
    return Report(s);
  }
  if (reader != nullptr && !reader->num_rows().has_value()) {
    Expect(*collection, *reader, &options.import);
    auto opened =
        client::OpenVectorFile(options.import.file, options.import.open);
    if (!opened.ok()) return Report(opened.status());
    reader = *std::move(opened);
  }
  if (!tokens->empty()) {
    auto joined = client::JoinTokens(std::move(reader), *std::move(tokens));
    if (!joined.ok()) return Report(joined.status());
    reader = *std::move(joined);
  }
  Progress progress("import", "points",
                    Progress::Choose(options.quiet || options.json));
  const auto result = Import(
      **client, *collection, *reader, options.import,
      [&](uint64_t rows, double fraction) { progress.Update(rows, fraction); },
      [](const std::string& line) { absl::FPrintF(stderr, "%s\n", line); });
  progress.End();
  if (!result.ok()) return Report(result.status());
  if (!options.json) PrintSummary(*result, options);
  PrintRefused(*result);
  std::optional<double> index_s;
  if (options.wait_index) {
    const auto waited = WaitForIndex(**client, options);
    if (!waited.ok()) return Report(waited.status());
    index_s = *waited;
    if (!options.json) {
      absl::PrintF("Indexed in %s.\n", HumanSeconds(*index_s));
    }
  }
  if (options.json) PrintJson(*result, *collection, index_s);
  return result->rows_refused > 0 ? kSomeRefused : kOk;
}

void AddIdOptions(CLI::App& command, Options& options) {
  ImportOptions& import = options.import;
  command
      .add_option("--id-start", import.id_start,
                  "Id of row 0 when the file has no ids; then counting up")
      ->capture_default_str();
  command.add_option(
      "--ids", import.ids_file,
      "File of ids, one per row: .npy of integers, or text lines");
  command
      .add_option("--id-type", import.id_kind,
                  "What the lines of --ids are: number, uuid, string or auto")
      ->check(CLI::IsMember(
          std::vector<std::string>{"number", "uuid", "string", "auto"}))
      ->capture_default_str();
  client::JsonlFields& fields = import.open.jsonl;
  command.add_option("--id-field", fields.id, "JSONL: field of the id")
      ->capture_default_str();
  command
      .add_option("--vector-field", fields.vector,
                  "JSONL: field of the vector, an array")
      ->capture_default_str();
  command
      .add_option("--vectors-field", fields.vectors,
                  "JSONL: field of named vectors, an object of arrays")
      ->capture_default_str();
  command
      .add_option("--sparse-field", fields.sparse,
                  "JSONL: field of sparse vectors, an object of "
                  "{\"indices\", \"values\"}")
      ->capture_default_str();
  command
      .add_option("--multi-field", fields.multi,
                  "JSONL: field of multi-vectors, an object of arrays of "
                  "arrays")
      ->capture_default_str();
  command
      .add_option("--payload-field", fields.payload,
                  "JSONL: field of the payload, an object; . for the whole "
                  "line")
      ->capture_default_str();
  command.add_flag("--uuid-ids", fields.uuid_strings,
                   "JSONL: string ids are UUIDs");
}

void AddSendOptions(CLI::App& command, Options& options) {
  ImportOptions& import = options.import;
  command
      .add_option("--as", options.wire_type,
                  "Send elements as f32, f16, i8 or u8 (default: the file's)")
      ->check(
          CLI::IsMember(std::vector<std::string>{"f32", "f16", "i8", "u8"}));
  command.add_option("--limit", import.limit, "Import only so many rows");
  command.add_option("--batch-size", import.batch_size,
                     "Points per frame (default: about 2 MiB)");
  command
      .add_option("--rate", import.max_points_per_s,
                  "Points per second at most")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--durability", options.durability,
                  "fsynced, or buffered: faster, lost with a power cut")
      ->check(CLI::IsMember(std::vector<std::string>{"fsynced", "buffered"}))
      ->capture_default_str();
  command.add_option("--stream-id", import.stream_id,
                     "Name of the upload to go on with (default: from the "
                     "collection, the file and the options)");
  command.add_flag("--restart", import.restart,
                   "Send everything again, whatever an earlier run did");
}

}  // namespace

void AddImportCommand(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand(
      "import",
      "Uploads a file of vectors or texts: fvecs, bvecs, npy, JSONL, HDF5, "
      "IDX (.gz),\n"
      "CSR of sparse vectors, or a folder of a BEIR data set.\n"
      "The same command run again after a kill goes on where it stopped.");
  auto options = std::make_shared<Options>();
  command
      ->add_option("collection", options->import.collection,
                   "Collection to import into")
      ->required();
  command->add_option("file", options->import.file,
                      "File to import; not needed with tokens of --multi");
  AddFileOptions(*command, options->file);
  command->add_option("--vector-name", options->import.vector_name,
                      "Named vector that the file holds");
  command->add_flag("--create", options->create,
                    "Create the collection unless it exists");
  AddVectorOptions(*command, options->vector);
  AddLexicalOptions(*command, options->lexical);
  command
      ->add_option("--multi", options->multi,
                   "Multi-vector in .npy files, NAME=TOKENS.npy,DOCLENS.npy: "
                   "document i goes with row i of the file, if there is one; "
                   "or with --create what to make, NAME:DIM[:METRIC]"
                   "[:OPTION...] as in collection create; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--pool", options->import.pool,
                   "Keep so many times fewer tokens of each document: the "
                   "means of clusters. Lossy")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  AddIdOptions(*command, *options);
  AddSendOptions(*command, *options);
  command->add_flag("--wait-index", options->wait_index,
                    "Then index and merge, and wait for it");
  command
      ->add_option("--show-refused", options->import.max_refused_kept,
                   "How many refused rows to print")
      ->capture_default_str();
  command->add_flag("--quiet", options->quiet, "No progress");
  command->add_flag("--json", options->json, "Print the summary as JSON");
  command->footer(
      "Examples:\n"
      "  vicinal import fashion train-images-idx3-ubyte.gz --create --metric "
      "l2\n"
      "  vicinal import docs docs.jsonl --rate 5000 --wait-index\n"
      "  vicinal import papers papers.jsonl --create --metric cosine "
      "--multi colbert=documents.npy,doclens.npy");
  command->callback([&globals, options] {
    globals.run = [&globals, options] { return RunImport(globals, *options); };
  });
}

}  // namespace vicinal::cli
