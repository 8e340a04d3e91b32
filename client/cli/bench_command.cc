// vicinal bench
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/bench.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/multi_query.h"
#include "client/cli/output.h"
#include "client/client.h"
#include "client/formats/ground_truth.h"
#include "client/formats/token_file.h"
#include "client/formats/vector_reader.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"

namespace vicinal::cli {
namespace {

struct Options {
  std::string collection;
  std::string queries_file;
  FileOptions file;
  MultiQueryOptions multi;
  std::string truth_file;
  bool compute_truth = false;
  uint64_t id_start = 0;
  size_t limit = std::numeric_limits<size_t>::max();
  BenchOptions bench;
  std::vector<uint32_t> efs;
  std::vector<uint32_t> nprobes;
  std::vector<double> recalls;
  bool exact = false;
  bool no_warmup = false;
  size_t num_connections = 0;  // 0: one per call in flight, at most 8
  bool json = false;
};

absl::StatusOr<QuerySet> ReadTokens(const Options& options) {
  VICINAL_ASSIGN_OR_RETURN(
      const client::TokenFile file,
      client::TokenFile::Open(options.queries_file, options.multi.layout));
  const size_t n = std::min(options.limit, file.num_documents());
  if (n == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.queries_file, ": has no queries."));
  }
  return QuerySet{
      .data = std::string(file.Data(0, file.offsets()[n])),
      .num_queries = n,
      .dim = file.dim(),
      .type = file.type(),
      .offsets = {file.offsets().begin(),
                  file.offsets().begin() + static_cast<int64_t>(n) + 1}};
}

absl::StatusOr<QuerySet> ReadQueries(const Options& options) {
  if (!options.multi.name.empty()) return ReadTokens(options);
  VICINAL_ASSIGN_OR_RETURN(const client::OpenOptions open,
                           MakeOpenOptions(options.file, "test"));
  VICINAL_ASSIGN_OR_RETURN(const auto reader,
                           client::OpenVectorFile(options.queries_file, open));
  QuerySet out{.data = {},
               .num_queries = 0,
               .dim = reader->dim(),
               .type = reader->type(),
               .offsets = {}};
  while (out.num_queries < options.limit) {
    client::VectorBlock block;
    VICINAL_ASSIGN_OR_RETURN(
        const bool more,
        reader->Read({.max_rows = std::min<size_t>(
                          1'024, options.limit - out.num_queries)},
                     &block));
    if (!more) break;
    out.data += block.columns[0].data;
    out.num_queries += block.num_rows;
  }
  if (out.num_queries == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.queries_file, ": has no rows to search for."));
  }
  return out;
}

absl::StatusOr<TrueIds> ReadTruth(const Options& options, size_t num_queries) {
  VICINAL_ASSIGN_OR_RETURN(const client::GroundTruth truth,
                           client::ReadGroundTruth(options.truth_file));
  if (truth.num_queries < num_queries || truth.k < options.bench.search.k) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.truth_file, ": has ", truth.k, " neighbours of ",
                     truth.num_queries, " queries; ", options.bench.search.k,
                     " of ", num_queries,
                     " are needed. Is it the one of these queries? --limit "
                     "and -k ask for less."));
  }
  TrueIds out(num_queries);
  for (size_t q = 0; q < num_queries; ++q) {
    for (const uint64_t row : truth.row(q).first(options.bench.search.k)) {
      out[q].emplace_back(options.id_start + row);
    }
  }
  return out;
}

absl::StatusOr<TrueIds> FindTruth(client::Client& client, Options& options,
                                  const QuerySet& queries) {
  const bool hdf5 = absl::EndsWith(options.queries_file, ".hdf5") ||
                    absl::EndsWith(options.queries_file, ".h5");
  if (options.truth_file.empty() && !options.compute_truth && hdf5) {
    options.truth_file = options.queries_file;
  }
  if (!options.truth_file.empty()) {
    return ReadTruth(options, queries.num_queries);
  }
  if (!options.compute_truth) return TrueIds();
  absl::FPrintF(stderr, "Finding the true neighbours of %s queries ...\n",
                WithCommas(queries.num_queries));
  return ComputeTruth(client, options.collection, queries,
                      options.bench.search);
}

struct Setting {
  std::string name;
  client::SearchOptions search;
};

std::vector<Setting> Settings(const Options& options) {
  std::vector<Setting> out;
  const client::SearchOptions& base = options.bench.search;
  for (const uint32_t ef : options.efs) {
    out.push_back({absl::StrCat("ef=", ef), base});
    out.back().search.ef = ef;
  }
  for (const uint32_t nprobe : options.nprobes) {
    out.push_back({absl::StrCat("nprobe=", nprobe), base});
    out.back().search.nprobe = nprobe;
  }
  for (const double recall : options.recalls) {
    out.push_back({absl::StrCat("recall=", recall), base});
    out.back().search.recall_target = recall;
  }
  if (options.exact) {
    out.push_back({"exact", base});
    out.back().search.exact = true;
  }
  if (out.empty()) out.push_back({"default", base});
  return out;
}

nlohmann::ordered_json ToJson(const std::string& name,
                              const BenchResult& result) {
  nlohmann::ordered_json out = {
      {"quality", name},
      {"recall", nullptr},
      {"qps", result.qps},
      {"p50_ms", result.p50_ms},
      {"p95_ms", result.p95_ms},
      {"p99_ms", result.p99_ms},
      {"distances_per_query", result.distances_per_query},
      {"num_queries", result.num_queries},
      {"elapsed_s", result.elapsed_s}};
  if (result.recall >= 0) out["recall"] = result.recall;
  return out;
}

std::vector<std::string> ToRow(const std::string& name,
                               const BenchResult& result) {
  return {name,
          result.recall < 0 ? "-" : Fixed(result.recall, 4),
          WithCommas(static_cast<uint64_t>(result.qps)),
          Fixed(result.p50_ms, 2),
          Fixed(result.p95_ms, 2),
          Fixed(result.p99_ms, 2),
          WithCommas(static_cast<uint64_t>(result.distances_per_query))};
}

// Refuses what the server would, before any time is spent.
absl::Status CheckLimits(const client::Client& client, const Options& options) {
  const v1::Limits& limits = client.server_info().limits();
  const size_t batch = options.bench.batch_size;
  if (limits.max_queries_per_batch() > 0 &&
      batch > limits.max_queries_per_batch()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--batch ", batch, " is above the server's limit of ",
                     limits.max_queries_per_batch(), " queries per call."));
  }
  return absl::OkStatus();
}

int RunBenchCommand(const Globals& globals, Options& options) {
  if (!options.multi.name.empty()) {
    if (options.bench.batch_size > 1 || !options.efs.empty() ||
        !options.nprobes.empty()) {
      return ReportUsage(absl::InvalidArgumentError(
          "--multi goes with none of --batch, --ef and --nprobe; use --recall "
          "or --candidates."));
    }
    options.bench.search.vector = options.multi.name;
    options.bench.multi = options.multi.search;
  }
  const auto queries = ReadQueries(options);
  if (!queries.ok()) return Report(queries.status());
  if (options.num_connections == 0) {
    options.num_connections = std::min<size_t>(options.bench.concurrency, 8);
  }
  const auto client = globals.Connect(options.num_connections);
  if (!client.ok()) return Report(client.status());
  if (const absl::Status s = CheckLimits(**client, options); !s.ok()) {
    return ReportUsage(s);
  }
  const auto truth = FindTruth(**client, options, *queries);
  if (!truth.ok()) return Report(truth.status());
  nlohmann::ordered_json out = {{"collection", options.collection},
                                {"k", options.bench.search.k},
                                {"concurrency", options.bench.concurrency},
                                {"connections", options.num_connections},
                                {"batch", options.bench.batch_size},
                                {"runs", nlohmann::ordered_json::array()}};
  using Align = Table::Align;
  Table table({{"quality"},
               {absl::StrCat("recall@", options.bench.search.k), Align::kRight},
               {"QPS", Align::kRight},
               {"p50 ms", Align::kRight},
               {"p95 ms", Align::kRight},
               {"p99 ms", Align::kRight},
               {"distances/query", Align::kRight}});
  for (const Setting& setting : Settings(options)) {
    BenchOptions bench = options.bench;
    bench.collection = options.collection;
    bench.search = setting.search;
    if (bench.search.exact) bench.multi = {};  // all points are compared
    if (!options.no_warmup) {
      QuerySet few = *queries;
      few.num_queries = std::min<size_t>(
          few.num_queries, std::max<size_t>(200, bench.batch_size));
      BenchOptions once = bench;
      once.num_rounds = 1;
      const auto warm = RunBench(**client, few, {}, once);
      if (!warm.ok()) return Report(warm.status());
    }
    const auto result = RunBench(**client, *queries, *truth, bench);
    if (!result.ok()) return Report(result.status());
    out["runs"].push_back(ToJson(setting.name, *result));
    table.AddRow(ToRow(setting.name, *result));
  }
  if (options.json) {
    absl::PrintF("%s\n", out.dump(2));
    return kOk;
  }
  absl::PrintF(
      "%s queries, k = %d, %d calls in flight, %d per call, "
      "%d connections\n%s",
      WithCommas(queries->num_queries), options.bench.search.k,
      options.bench.concurrency, options.bench.batch_size,
      options.num_connections, table.Format());
  return kOk;
}

}  // namespace

void AddBenchCommand(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand(
      "bench",
      "Measures recall and latency of searches with a file of queries.\n"
      "Latencies are of calls as this client sees them.");
  auto options = std::make_shared<Options>();
  command->add_option("collection", options->collection, "Where to search")
      ->required();
  command->add_option("queries", options->queries_file, "File of queries")
      ->required();
  AddFileOptions(*command, options->file);
  CLI::Option* truth = command->add_option(
      "--truth", options->truth_file,
      "True neighbours: .ivecs, .npy or .hdf5 (an HDF5 file of queries brings "
      "its own)");
  command
      ->add_flag("--compute-truth", options->compute_truth,
                 "Let the server find the true neighbours by exact search")
      ->excludes(truth);
  command
      ->add_option("--id-start", options->id_start, "Id of row 0 of the truth")
      ->capture_default_str();
  command->add_option("--limit", options->limit, "Use only so many queries")
      ->check(CLI::PositiveNumber);
  command->add_option("-k", options->bench.search.k, "Points per query")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--vector-name", options->bench.search.vector,
                      "Named vector to compare");
  AddMultiSearchOptions(*command, options->multi);
  AddLayoutOptions(*command, options->multi.layout);
  command->add_option("--ef", options->efs, "Candidates; several: 16,32,64")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--nprobe", options->nprobes,
                   "Lists of an IVF to read; several: 4,8,16")
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--recall", options->recalls,
                   "Recall targets; several: 0.9,0.99")
      ->delimiter(',')
      ->check(CLI::Range(1e-9, 1.0));
  command->add_flag("--exact", options->exact, "Also compare with every point");
  command
      ->add_option("--concurrency", options->bench.concurrency,
                   "Calls in flight")
      ->check(CLI::Range(1, 4'096))
      ->capture_default_str();
  command
      ->add_option("--connections", options->num_connections,
                   "TCP connections they share; 0: one each, at most 8")
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
  command
      ->add_option("--batch", options->bench.batch_size,
                   "Queries per call; 1: Search, more: SearchBatch")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--rounds", options->bench.num_rounds,
                   "Times over all queries")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--no-warmup", options->no_warmup,
                    "Do not send the first 200 queries once before");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Examples:\n"
      "  vicinal bench photos queries.npy --truth truth.ivecs --ef 16,32,64\n"
      "  vicinal bench glove glove-100-angular.hdf5 --concurrency 8\n"
      "  vicinal bench papers queries.npy --multi colbert --query-tokens 32 "
      "--compute-truth --recall 0.9,0.95");
  command->callback([&globals, options] {
    globals.run = [&globals, options] {
      return RunBenchCommand(globals, *options);
    };
  });
}

}  // namespace vicinal::cli
