// vicinal_codec_curves: recall@k, QPS and bytes per vector of the codecs over
// one graph of a data set, as JSON for bench/plot.py. bench/plot.sh runs it.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/strings/str_cat.h"
#include "bench/curve.h"
#include "bench/dataset.h"
#include "bench/ground_truth.h"
#include "bench/machine.h"
#include "bench/sweep.h"
#include "bench/vicinal_index.h"
#include "bench/workspace.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

// Curves end here.
constexpr double kHighestRecall = 0.9985;

struct Flags {
  DatasetSpec dataset;
  std::string metric = "l2";
  std::vector<size_t> efs = {10,  14,  20,  28,  40,  56, 80,
                             112, 160, 240, 360, 540, 800};
  std::vector<size_t> rerank_factors = {1, 2, 4, 8};
  size_t k = 10;
  size_t passes = 3;
  size_t build_threads = 2;
  int pin_cpu = 0;
  std::string cache_dir = DefaultCacheDir();
  std::string out;
};

std::vector<CodecChoice> Choices() {
  std::vector<CodecChoice> out = {{.name = "none"}};
  for (const float bits : {1, 2, 4, 8}) {
    out.push_back({.name = absl::StrCat("saq:", bits),
                   .params = CodecParams{.avg_bits = bits}});
  }
  out.push_back(
      {.name = "rbq:4",
       .params = CodecParams{.kind = CodecKind::kRbq, .avg_bits = 4}});
  out.push_back(
      {.name = "sq8",
       .params = CodecParams{.kind = CodecKind::kSq8, .avg_bits = 8}});
  return out;
}

nlohmann::json CurveJson(const CodecSystem& system, size_t num_rows,
                         const std::vector<CurvePoint>& front) {
  nlohmann::json points = nlohmann::json::array();
  for (const CurvePoint& point : front) {
    points.push_back(
        {{"ef", point.ef}, {"recall", point.recall}, {"qps", point.qps}});
  }
  nlohmann::json at_recall = nlohmann::json::object();
  for (const double recall : {0.9, 0.95, 0.99}) {
    const std::optional<double> qps = QpsAtRecall(front, recall);
    at_recall[absl::StrCat(recall)] =
        qps ? nlohmann::json(*qps) : nlohmann::json();
  }
  return {{"codec", system.name()},
          {"record_bytes", system.record_bytes()},
          {"bytes_per_vector",
           static_cast<double>(system.compact_bytes()) / num_rows},
          {"points", points},
          {"qps_at_recall", at_recall}};
}

// One ef and rerank factor: the fastest pass of each system, in turns.
absl::Status AddPoints(const std::vector<std::unique_ptr<CodecSystem>>& systems,
                       const std::vector<size_t>& live, const Dataset& dataset,
                       const RecallJudge& judge, size_t ef, size_t passes,
                       std::vector<std::vector<CurvePoint>>* curves) {
  for (size_t pass = 0; pass < passes; ++pass) {
    for (const size_t s : live) {
      VICINAL_ASSIGN_OR_RETURN(
          const CurvePoint point,
          RunPass(systems[s].get(), dataset, judge, ef, PassClock::kThreadCpu));
      std::vector<CurvePoint>& curve = (*curves)[s];
      if (pass == 0) {
        curve.push_back(point);
      } else if (point.qps > curve.back().qps) {
        curve.back() = point;
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::json> Measure(const Flags& flags,
                                       const Dataset& dataset) {
  const TruthTable truth = CachedTruth(
      dataset.base, dataset.queries, dataset.search_metric(),
      std::max<size_t>(flags.k, 100), flags.build_threads, flags.cache_dir);
  const RecallJudge judge(dataset.base, dataset.queries,
                          dataset.search_metric(), truth, flags.k);
  VICINAL_ASSIGN_OR_RETURN(
      const auto systems,
      BuildCodecSystems(dataset, {.num_threads = flags.build_threads},
                        Choices()));
  const ScopedPin pin(flags.pin_cpu);
  std::vector<std::vector<CurvePoint>> curves(systems.size());
  for (const size_t factor : flags.rerank_factors) {
    std::vector<size_t> live;
    for (size_t s = 0; s < systems.size(); ++s) {
      systems[s]->set_rerank_factor(factor);
      // Without codes there is nothing to compare again.
      if (s > 0 || factor == flags.rerank_factors.front()) live.push_back(s);
    }
    for (const size_t ef : flags.efs) {
      // All of the pool, as with the factor before.
      if (ef * 2 <= factor * flags.k) continue;
      VICINAL_RETURN_IF_ERROR(
          AddPoints(systems, live, dataset, judge, ef, flags.passes, &curves));
      std::erase_if(live, [&curves](size_t s) {
        return curves[s].back().recall >= kHighestRecall;
      });
    }
  }
  nlohmann::json out = nlohmann::json::array();
  for (size_t s = 0; s < systems.size(); ++s) {
    out.push_back(
        CurveJson(*systems[s], dataset.base.num_rows, ParetoFront(curves[s])));
  }
  return out;
}

absl::Status Run(Flags flags, int argc, char** argv) {
  VICINAL_ASSIGN_OR_RETURN(flags.dataset.metric, ParseMetric(flags.metric));
  VICINAL_ASSIGN_OR_RETURN(Dataset dataset, LoadDataset(flags.dataset));
  dataset.Prepare();
  nlohmann::json json = DescribeRun(argc, argv);
  json["dataset"] = {
      {"name", flags.dataset.name}, {"rows", dataset.base.num_rows},
      {"dim", dataset.base.dim},    {"queries", dataset.queries.num_rows},
      {"metric", flags.metric},     {"k", flags.k}};
  VICINAL_ASSIGN_OR_RETURN(json["codecs"], Measure(flags, dataset));
  return WriteJsonFile(flags.out, json);
}

int Main(int argc, char** argv) {
  PrepareProcess();
  CLI::App app("Recall, speed and bytes of the codecs over one graph.");
  Flags flags;
  app.add_option("--name", flags.dataset.name, "of the set, for people");
  app.add_option("--base", flags.dataset.base, "as in vicinal_ann_bench")
      ->required();
  app.add_option("--queries", flags.dataset.queries);
  app.add_option("--metric", flags.metric, "l2, ip or cosine")
      ->capture_default_str();
  app.add_option("--max-rows", flags.dataset.max_rows, "0: all");
  app.add_option("--max-queries", flags.dataset.max_queries, "0: all");
  app.add_option("--ef", flags.efs)->delimiter(',')->capture_default_str();
  app.add_option("--rerank", flags.rerank_factors,
                 "candidates compared exactly, of k; the best counts")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--k", flags.k)->capture_default_str();
  app.add_option("--passes", flags.passes, "the best counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--build-threads", flags.build_threads)->capture_default_str();
  app.add_option("--pin", flags.pin_cpu, "CPU of the searches; -1: none")
      ->capture_default_str();
  app.add_option("--cache-dir", flags.cache_dir, "keeps computed ground truth")
      ->capture_default_str();
  app.add_option("--out", flags.out, "JSON file")->required();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = Run(std::move(flags), argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "vicinal_codec_curves: %s\n",
               std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace vicinal::bench

int main(int argc, char** argv) { return vicinal::bench::Main(argc, argv); }
