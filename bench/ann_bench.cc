// vicinal_ann_bench: recall against speed of Vicinal and its peers on the same
// data in the same run. `vicinal_ann_bench --help` lists the options.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/ann_system.h"
#include "bench/curve.h"
#include "bench/dataset.h"
#include "bench/ground_truth.h"
#include "bench/machine.h"
#include "bench/sweep.h"
#include "bench/workspace.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

struct Flags {
  DatasetSpec dataset;
  std::string metric = "l2";
  std::vector<std::string> systems = {"index", "hnswlib"};
  std::vector<size_t> ms = {16};
  std::vector<size_t> ef_constructions = {200};
  std::vector<size_t> efs = {10, 12, 16, 20, 24, 32, 40, 64, 96, 128, 200};
  std::vector<double> recalls = {0.90, 0.95, 0.99};
  size_t k = 10;
  size_t passes = 3;
  size_t build_threads = std::max(1u, std::thread::hardware_concurrency());
  std::string clock = "cpu";
  int pin_cpu = 0;
  std::string address;
  std::string cache_dir = DefaultCacheDir();
  std::string json_path;
};

void AddOptions(CLI::App* app, Flags* flags) {
  app->add_option("--base", flags->dataset.base,
                  "rows: fvecs, bvecs, npy, HDF5 or idx[.gz]")
      ->required();
  app->add_option("--queries", flags->dataset.queries,
                  "queries; not needed with an ann-benchmarks HDF5 file");
  app->add_option("--truth", flags->dataset.truth,
                  "ivecs or npy of row numbers; computed when not given");
  app->add_option("--metric", flags->metric, "l2, ip or cosine")
      ->capture_default_str();
  app->add_option("--max-rows", flags->dataset.max_rows, "0: all");
  app->add_option("--max-queries", flags->dataset.max_queries, "0: all");
  app->add_option("--systems,--mode", flags->systems,
                  "index, engine, grpc, hnswlib, faiss; they take turns")
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--m", flags->ms, "links per node")
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--ef-construction", flags->ef_constructions)
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--ef", flags->efs, "pool sizes of the searches")
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--at-recall", flags->recalls,
                  "recalls at which QPS is interpolated")
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--k", flags->k)->capture_default_str();
  app->add_option("--passes", flags->passes, "the best counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--build-threads", flags->build_threads)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--clock", flags->clock,
                  "cpu: time of the searching thread; wall")
      ->check(CLI::IsMember({"cpu", "wall"}))
      ->capture_default_str();
  app->add_option("--pin", flags->pin_cpu, "CPU of the searches; -1: none")
      ->capture_default_str();
  app->add_option("--address", flags->address,
                  "server for grpc; none: one is started in the process");
  app->add_option("--cache-dir", flags->cache_dir,
                  "keeps computed ground truth")
      ->capture_default_str();
  app->add_option("--json", flags->json_path, "writes the results here");
}

absl::StatusOr<std::unique_ptr<AnnSystem>> MakeSystem(
    const std::string& name, const Flags& flags, const Workspace& workspace) {
  std::unique_ptr<AnnSystem> system;
  if (name == "index") {
    system = MakeVicinalIndex();
  } else if (name == "engine") {
    system = MakeVicinalEngine(workspace.NewPath("engine"));
  } else if (name == "grpc") {
    system = MakeVicinalGrpc(workspace.NewPath("grpc"), flags.address);
  } else if (name == "hnswlib") {
    system = MakeHnswlib();
  } else if (name == "faiss") {
    system = MakeFaissHnsw();
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown system '", name,
                     "'; use index, engine, grpc, hnswlib or faiss"));
  }
  if (system == nullptr) {
    std::fprintf(stderr, "%s was not found when the build was configured\n",
                 name.c_str());
  }
  return system;
}

void PrintResult(const SweepResult& result) {
  for (const CurvePoint& point : result.points) {
    absl::PrintF("%-16s %8.1f %6d %9.4f %9.0f %9.1f %9.1f %9.1f\n",
                 result.system, result.build_seconds, point.ef, point.recall,
                 point.qps, point.p50_us, point.p99_us,
                 result.memory_bytes / 1e6);
  }
}

nlohmann::json ResultJson(const SweepResult& result, const BuildParams& params,
                          const std::vector<double>& recalls) {
  nlohmann::json points = nlohmann::json::array();
  for (const CurvePoint& point : result.points) {
    points.push_back({{"ef", point.ef},
                      {"recall", point.recall},
                      {"qps", point.qps},
                      {"p50_us", point.p50_us},
                      {"p99_us", point.p99_us}});
  }
  nlohmann::json at_recall = nlohmann::json::object();
  for (const double recall : recalls) {
    const std::optional<double> qps = QpsAtRecall(result.points, recall);
    at_recall[absl::StrCat(recall)] =
        qps.has_value() ? nlohmann::json(*qps) : nlohmann::json();
  }
  return {{"system", result.system},
          {"remark", result.remark},
          {"m", params.m},
          {"ef_construction", params.ef_construction},
          {"build_threads", params.num_threads},
          {"build_seconds", result.build_seconds},
          {"memory_bytes", result.memory_bytes},
          {"points", points},
          {"qps_at_recall", at_recall}};
}

void PrintRatios(const std::vector<SweepResult>& results,
                 const std::vector<double>& recalls) {
  for (const double recall : recalls) {
    absl::PrintF("QPS at recall %.2f:", recall);
    const std::optional<double> first =
        QpsAtRecall(results.front().points, recall);
    for (const SweepResult& result : results) {
      const std::optional<double> qps = QpsAtRecall(result.points, recall);
      if (!qps) {
        absl::PrintF("  %s not reached", result.system);
      } else if (first && &result != &results.front()) {
        absl::PrintF("  %s %.0f (%s is %.2fx)", result.system, *qps,
                     results.front().system, *first / *qps);
      } else {
        absl::PrintF("  %s %.0f", result.system, *qps);
      }
    }
    absl::PrintF("\n");
  }
}

// One setting of the build: all systems built, then searched in turns.
absl::StatusOr<nlohmann::json> RunSetting(const Flags& flags,
                                          const Dataset& dataset,
                                          const RecallJudge& judge,
                                          const BuildParams& params,
                                          const Workspace& workspace) {
  std::vector<std::unique_ptr<AnnSystem>> systems;
  std::vector<SweepResult> results;
  for (const std::string& name : flags.systems) {
    VICINAL_ASSIGN_OR_RETURN(std::unique_ptr<AnnSystem> system,
                             MakeSystem(name, flags, workspace));
    if (system == nullptr) continue;
    SweepResult result{.system = system->name(), .remark = system->remark()};
    VICINAL_ASSIGN_OR_RETURN(result.build_seconds,
                             TimedBuild(system.get(), dataset, params));
    result.memory_bytes = system->memory_bytes();
    results.push_back(std::move(result));
    systems.push_back(std::move(system));
  }
  if (systems.empty()) {
    return absl::InvalidArgumentError("no system to measure");
  }
  std::vector<AnnSystem*> borrowed;
  for (const auto& system : systems) borrowed.push_back(system.get());
  const SweepOptions options{
      .k = flags.k,
      .efs = flags.efs,
      .passes = flags.passes,
      .clock = flags.clock == "cpu" ? PassClock::kThreadCpu : PassClock::kWall,
      .pin_cpu = flags.pin_cpu};
  VICINAL_ASSIGN_OR_RETURN(auto points,
                           Sweep(borrowed, dataset, judge, options));
  absl::PrintF("\nm %d, ef_construction %d, %d build threads\n", params.m,
               params.ef_construction, params.num_threads);
  absl::PrintF("%-16s %8s %6s %9s %9s %9s %9s %9s\n", "system", "build s", "ef",
               absl::StrCat("recall@", flags.k), "QPS", "p50 us", "p99 us",
               "MB");
  nlohmann::json out = nlohmann::json::array();
  for (size_t s = 0; s < results.size(); ++s) {
    results[s].points = std::move(points[s]);
    PrintResult(results[s]);
    out.push_back(ResultJson(results[s], params, flags.recalls));
  }
  PrintRatios(results, flags.recalls);
  for (const SweepResult& result : results) {
    if (!result.remark.empty()) {
      absl::PrintF("%s: %s\n", result.system, result.remark);
    }
  }
  return out;
}

absl::Status Run(Flags flags, int argc, char** argv) {
  VICINAL_ASSIGN_OR_RETURN(flags.dataset.metric, ParseMetric(flags.metric));
  flags.dataset.name = flags.dataset.base;
  VICINAL_ASSIGN_OR_RETURN(Dataset dataset, LoadDataset(flags.dataset));
  dataset.Prepare();
  absl::PrintF("%s: %d x %d, %d queries, %s\n", dataset.name,
               dataset.base.num_rows, dataset.base.dim,
               dataset.queries.num_rows, flags.metric);
  const TruthTable truth =
      dataset.truth && dataset.truth->k >= flags.k
          ? *dataset.truth
          : CachedTruth(dataset.base, dataset.queries, dataset.search_metric(),
                        std::max<size_t>(flags.k, 100), flags.build_threads,
                        flags.cache_dir);
  const RecallJudge judge(dataset.base, dataset.queries,
                          dataset.search_metric(), truth, flags.k);
  VICINAL_ASSIGN_OR_RETURN(const Workspace workspace, Workspace::Create());
  nlohmann::json json = DescribeRun(argc, argv);
  json["dataset"] = {
      {"name", dataset.name},    {"rows", dataset.base.num_rows},
      {"dim", dataset.base.dim}, {"queries", dataset.queries.num_rows},
      {"metric", flags.metric},  {"k", flags.k}};
  json["clock"] = flags.clock;
  json["passes"] = flags.passes;
  json["results"] = nlohmann::json::array();
  for (const size_t m : flags.ms) {
    for (const size_t ef_construction : flags.ef_constructions) {
      const BuildParams params{.m = m,
                               .ef_construction = ef_construction,
                               .num_threads = flags.build_threads};
      VICINAL_ASSIGN_OR_RETURN(
          const nlohmann::json results,
          RunSetting(flags, dataset, judge, params, workspace));
      json["results"].insert(json["results"].end(), results.begin(),
                             results.end());
    }
  }
  if (flags.json_path.empty()) return absl::OkStatus();
  return WriteJsonFile(flags.json_path, json);
}

int Main(int argc, char** argv) {
  PrepareProcess();
  CLI::App app("Recall against speed of Vicinal and its peers.");
  Flags flags;
  AddOptions(&app, &flags);
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = Run(std::move(flags), argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "vicinal_ann_bench: %s\n",
               std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace vicinal::bench

int main(int argc, char** argv) { return vicinal::bench::Main(argc, argv); }
