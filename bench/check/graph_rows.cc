#include "bench/check/graph_rows.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/ann_system.h"
#include "bench/curve.h"
#include "bench/ground_truth.h"
#include "bench/sweep.h"
#include "bench/vicinal_index.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

constexpr size_t kMaxEf = 4'096;
constexpr size_t kPlateauEf = 256;
constexpr double kPlateauGain = 0.0002;
// Recalls count as equal down to this difference: hnswlib's own varies as
// much from one two-thread build to the next.
constexpr double kRecallTolerance = 0.001;

using Factory = std::unique_ptr<AnnSystem> (*)();

struct Contestant {
  std::unique_ptr<AnnSystem> system;
  size_t ef_construction = 0;
  double build_seconds = 0;
  double equal_recall = 0;  // at options.equal_recall_ef
};

absl::StatusOr<double> RecallAt(AnnSystem* system, const Dataset& dataset,
                                const RecallJudge& judge, size_t ef) {
  VICINAL_ASSIGN_OR_RETURN(
      const CurvePoint point,
      RunPass(system, dataset, judge, ef, PassClock::kThreadCpu));
  return point.recall;
}

// The smallest ef whose recall reaches `recall`. NotFound: none up to kMaxEf
// does, or doubling it no longer helps, as where codes alone decide.
absl::StatusOr<size_t> SmallestEf(AnnSystem* system, const Dataset& dataset,
                                  const RecallJudge& judge, double recall) {
  const size_t first = system->smallest_ef(judge.k());
  double before = 0;
  size_t high = first;
  for (;; high = std::min(2 * high, kMaxEf)) {
    VICINAL_ASSIGN_OR_RETURN(const double reached,
                             RecallAt(system, dataset, judge, high));
    if (reached >= recall) break;
    if (high == kMaxEf ||
        (high >= kPlateauEf && reached - before < kPlateauGain)) {
      return absl::NotFoundError(
          absl::StrFormat("%s does not reach recall %.3f: %.4f at ef %d",
                          system->name(), recall, reached, high));
    }
    before = reached;
  }
  size_t low = high == first ? high : high / 2;
  while (low + 1 < high) {
    const size_t middle = (low + high) / 2;
    VICINAL_ASSIGN_OR_RETURN(const double reached,
                             RecallAt(system, dataset, judge, middle));
    (reached >= recall ? high : low) = middle;
  }
  return high;
}

// Builds both systems options.builds times in turns; the last of each stays.
absl::StatusOr<std::vector<Contestant>> BuildInTurns(
    const std::vector<Factory>& factories, const Dataset& dataset,
    const RecallJudge& judge, const GraphOptions& options) {
  std::vector<Contestant> out(factories.size());
  for (size_t round = 0; round < std::max<size_t>(1, options.builds); ++round) {
    for (size_t s = 0; s < factories.size(); ++s) {
      Contestant& contestant = out[s];
      contestant.system = factories[s]();
      contestant.ef_construction = options.ef_construction;
      const BuildParams params{.m = options.m,
                               .ef_construction = options.ef_construction,
                               .num_threads = options.build_threads};
      VICINAL_ASSIGN_OR_RETURN(
          const double seconds,
          TimedBuild(contestant.system.get(), dataset, params));
      contestant.build_seconds =
          round == 0 ? seconds : std::min(contestant.build_seconds, seconds);
    }
  }
  for (Contestant& contestant : out) {
    VICINAL_ASSIGN_OR_RETURN(contestant.equal_recall,
                             RecallAt(contestant.system.get(), dataset, judge,
                                      options.equal_recall_ef));
  }
  return out;
}

// The time of a build of ours whose graph is as good as `peer`'s: that of the
// same ef_construction when it is, else of the first larger one.
absl::StatusOr<Contestant> BuildOfEqualRecall(const Contestant& ours,
                                              const Contestant& peer,
                                              Factory factory,
                                              const Dataset& dataset,
                                              const RecallJudge& judge,
                                              const GraphOptions& options) {
  Contestant equal{.ef_construction = ours.ef_construction,
                   .build_seconds = ours.build_seconds,
                   .equal_recall = ours.equal_recall};
  while (equal.equal_recall < peer.equal_recall - kRecallTolerance) {
    equal.ef_construction = equal.ef_construction * 5 / 4;
    if (equal.ef_construction > 2'000) {
      return absl::NotFoundError("no ef_construction reaches hnswlib's recall");
    }
    equal.system = factory();
    VICINAL_ASSIGN_OR_RETURN(
        equal.build_seconds,
        TimedBuild(equal.system.get(), dataset,
                   {.m = options.m,
                    .ef_construction = equal.ef_construction,
                    .num_threads = options.build_threads}));
    VICINAL_ASSIGN_OR_RETURN(
        equal.equal_recall,
        RecallAt(equal.system.get(), dataset, judge, options.equal_recall_ef));
  }
  return equal;
}

nlohmann::json PointsJson(const std::vector<CurvePoint>& points) {
  nlohmann::json out = nlohmann::json::array();
  for (const CurvePoint& point : points) {
    out.push_back({{"ef", point.ef},
                   {"recall", point.recall},
                   {"qps", point.qps},
                   {"p50_us", point.p50_us},
                   {"p99_us", point.p99_us}});
  }
  return out;
}

}  // namespace

namespace {

// Sets how many candidates ours compares exactly to what is fastest at the
// recall, as its calibration does in the server; NotFound: none reaches it.
absl::StatusOr<size_t> ChooseRerank(CodecSystem* ours, const Dataset& dataset,
                                    const RecallJudge& judge, double recall) {
  size_t best = 0;
  double best_qps = 0;
  absl::Status why_not;
  for (const size_t factor : {2, 4, 8}) {
    ours->set_rerank_factor(factor);
    const absl::StatusOr<size_t> ef = SmallestEf(ours, dataset, judge, recall);
    why_not.Update(ef.status());
    if (!ef.ok()) continue;
    VICINAL_ASSIGN_OR_RETURN(
        const CurvePoint point,
        RunPass(ours, dataset, judge, *ef, PassClock::kThreadCpu));
    if (point.qps <= best_qps) continue;
    best = factor;
    best_qps = point.qps;
  }
  if (best == 0) return why_not;
  ours->set_rerank_factor(best);
  return best;
}

}  // namespace

absl::StatusOr<double> SearchRatio(const SystemPair& pair,
                                   const Dataset& dataset,
                                   const RecallJudge& judge, double recall,
                                   const GraphOptions& options,
                                   nlohmann::json* raw) {
  const std::vector<AnnSystem*> systems = {pair.ours, pair.peer};
  auto* codes = dynamic_cast<CodecSystem*>(pair.ours);
  if (codes != nullptr &&
      codes->record_bytes() < dataset.base.dim * sizeof(float)) {
    VICINAL_ASSIGN_OR_RETURN((*raw)["rerank_factor"],
                             ChooseRerank(codes, dataset, judge, recall));
  }
  std::set<size_t> efs;
  for (AnnSystem* system : systems) {
    VICINAL_ASSIGN_OR_RETURN(const size_t ef,
                             SmallestEf(system, dataset, judge, recall));
    // One point on either side of the recall, near enough to it that the
    // interpolation does not matter.
    const size_t below = ef - std::min(ef, std::max<size_t>(1, ef / 10));
    efs.insert(std::max(system->smallest_ef(judge.k()), below));
    efs.insert(ef);
  }
  const SweepOptions sweep{.k = judge.k(),
                           .efs = {efs.begin(), efs.end()},
                           .passes = options.passes,
                           .pin_cpu = options.pin_cpu};
  VICINAL_ASSIGN_OR_RETURN(const auto points,
                           Sweep(systems, dataset, judge, sweep));
  std::vector<double> qps;
  for (size_t s = 0; s < systems.size(); ++s) {
    const std::optional<double> found = QpsAtRecall(points[s], recall);
    (*raw)[s == 0 ? "vicinal" : pair.peer_key] = {
        {"qps_at_recall", found ? nlohmann::json(*found) : nlohmann::json()},
        {"points", PointsJson(points[s])}};
    if (!found) {
      return absl::NotFoundError(
          absl::StrFormat("%s does not reach recall %.3f with ef up to %d",
                          systems[s]->name(), recall, kMaxEf));
    }
    qps.push_back(*found);
  }
  return qps[0] / qps[1];
}

namespace {

// Fills the row's measurement; a Status says why it could not.
absl::Status Measure(const GraphTarget& target, const GraphOptions& options,
                     CheckRow* row, std::optional<double>* build,
                     nlohmann::json* build_raw) {
  const std::vector<Factory> factories = {options.ours, &MakeHnswlib};
  if (MakeHnswlib() == nullptr) {
    return absl::NotFoundError(
        "hnswlib was not found at configure time (apt: libhnswlib-dev)");
  }
  VICINAL_ASSIGN_OR_RETURN(Dataset dataset, LoadDataset(target.dataset));
  dataset.Prepare();
  const TruthTable truth =
      dataset.truth && dataset.truth->k >= options.k
          ? *dataset.truth
          : CachedTruth(dataset.base, dataset.queries, dataset.search_metric(),
                        /*k=*/100, options.build_threads, options.cache_dir);
  const RecallJudge judge(dataset.base, dataset.queries,
                          dataset.search_metric(), truth, options.k);
  VICINAL_ASSIGN_OR_RETURN(const std::vector<Contestant> contestants,
                           BuildInTurns(factories, dataset, judge, options));
  row->raw = {{"rows", dataset.base.num_rows},
              {"dim", dataset.base.dim},
              {"queries", dataset.queries.num_rows},
              {"recall", target.recall}};
  VICINAL_ASSIGN_OR_RETURN(
      row->measured,
      SearchRatio(
          {contestants[0].system.get(), contestants[1].system.get(), "hnswlib"},
          dataset, judge, target.recall, options, &row->raw));
  VICINAL_ASSIGN_OR_RETURN(
      const Contestant equal,
      BuildOfEqualRecall(contestants[0], contestants[1], factories[0], dataset,
                         judge, options));
  *build = equal.build_seconds / contestants[1].build_seconds;
  *build_raw = {{"set", target.label},
                {"ratio", **build},
                {"vicinal_seconds", equal.build_seconds},
                {"vicinal_ef_construction", equal.ef_construction},
                {"vicinal_recall", equal.equal_recall},
                {"hnswlib_seconds", contestants[1].build_seconds},
                {"hnswlib_ef_construction", contestants[1].ef_construction},
                {"hnswlib_recall", contestants[1].equal_recall},
                {"recall_at_ef", options.equal_recall_ef},
                {"threads", options.build_threads}};
  return absl::OkStatus();
}

}  // namespace

void MeasureGraph(const GraphTarget& target, const GraphOptions& options,
                  CheckReport* report, std::optional<double>* build,
                  nlohmann::json* build_raw) {
  CheckRow row{.key = target.key,
               .what = absl::StrFormat("HNSW vs hnswlib, %s, QPS at recall@%d "
                                       "= %.2f",
                                       target.label, options.k, target.recall),
               .bound = Bound::kAtLeast,
               .limit = target.ratio};
  const absl::Status status = Measure(target, options, &row, build, build_raw);
  if (!status.ok()) row.why_not = std::string(status.message());
  report->Add(std::move(row));
}

}  // namespace vicinal::bench
