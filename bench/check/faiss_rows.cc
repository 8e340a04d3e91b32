#include "bench/check/faiss_rows.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/curve.h"
#include "bench/sweep.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

constexpr char kNoPython[] =
    "no faiss: give --faiss-python PATH, which bench/peers/faiss_venv.sh makes";

// Both systems over one data set, for several recalls.
struct FaissContest {
  Dataset dataset;
  std::optional<RecallJudge> judge;
  std::unique_ptr<AnnSystem> ours;
  std::unique_ptr<FaissPython> peer;
  std::unique_ptr<FaissPython> refining;  // built where it is needed
};

BuildParams ParamsOf(const GraphOptions& options) {
  return {.m = options.m,
          .ef_construction = options.ef_construction,
          .num_threads = options.build_threads};
}

absl::StatusOr<std::unique_ptr<FaissPython>> BuildPeer(
    const std::string& python, const std::string& factory,
    const Dataset& dataset, const GraphOptions& options) {
  std::unique_ptr<FaissPython> peer = MakeFaissPython(
      {.python = python, .factory = factory, .pin_cpu = options.pin_cpu});
  VICINAL_RETURN_IF_ERROR(peer->Build(dataset, ParamsOf(options)));
  return peer;
}

// Fills an object in place, since the judge borrows the data set.
absl::Status Prepare(const FaissTarget& target, const std::string& python,
                     const GraphOptions& options, FaissContest* out) {
  if (python.empty()) return absl::NotFoundError(kNoPython);
  VICINAL_ASSIGN_OR_RETURN(out->dataset, LoadDataset(target.dataset));
  out->dataset.Prepare();
  const Dataset& dataset = out->dataset;
  const TruthTable truth =
      CachedTruth(dataset.base, dataset.queries, dataset.search_metric(),
                  /*k=*/100, options.build_threads, options.cache_dir);
  out->judge.emplace(dataset.base, dataset.queries, dataset.search_metric(),
                     truth, options.k);
  out->ours = options.ours();
  VICINAL_RETURN_IF_ERROR(out->ours->Build(dataset, ParamsOf(options)));
  VICINAL_ASSIGN_OR_RETURN(
      out->peer, BuildPeer(python, absl::StrCat("HNSW", options.m, ",SQ8"),
                           dataset, options));
  return absl::OkStatus();
}

absl::StatusOr<double> RatioTo(FaissPython* peer, double recall,
                               const GraphOptions& options,
                               const FaissContest& contest,
                               nlohmann::json* raw) {
  const double num_rows = contest.dataset.base.num_rows;
  *raw = {
      {"rows", contest.dataset.base.num_rows},
      {"dim", contest.dataset.base.dim},
      {"queries", contest.dataset.queries.num_rows},
      {"recall", recall},
      {"peer", peer->name()},
      {"remark", peer->remark()},
      {"vicinal_bytes_per_vector", contest.ours->compact_bytes() / num_rows},
      {"vicinal_bytes_with_vectors", contest.ours->memory_bytes() / num_rows},
      {"faiss_bytes_per_vector", peer->compact_bytes() / num_rows},
      {"faiss_bytes_with_vectors", peer->memory_bytes() / num_rows}};
  if (contest.ours->compact_bytes() > peer->compact_bytes()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("takes more memory: %.0f bytes per vector, faiss %.0f",
                        contest.ours->compact_bytes() / num_rows,
                        peer->compact_bytes() / num_rows));
  }
  return SearchRatio({contest.ours.get(), peer, "faiss"}, contest.dataset,
                     *contest.judge, recall, options, raw);
}

// With codes alone where they suffice, else with the best refinement.
absl::StatusOr<double> BestRatio(const std::string& python, double recall,
                                 const GraphOptions& options,
                                 FaissContest* contest, nlohmann::json* raw) {
  absl::StatusOr<double> ratio =
      RatioTo(contest->peer.get(), recall, options, *contest, raw);
  if (!absl::IsNotFound(ratio.status())) return ratio;
  const std::string codes_alone(ratio.status().message());
  if (contest->refining == nullptr) {
    VICINAL_ASSIGN_OR_RETURN(
        contest->refining,
        BuildPeer(python, absl::StrCat("HNSW", options.m, ",SQ8,RFlat"),
                  contest->dataset, options));
  }
  for (const size_t k_factor : {2, 4}) {
    contest->refining->set_k_factor(k_factor);
    nlohmann::json refined_raw;
    const absl::StatusOr<double> refined = RatioTo(
        contest->refining.get(), recall, options, *contest, &refined_raw);
    // The peer's best counts, which is our smallest ratio.
    if (refined.ok() && (!ratio.ok() || *refined < *ratio)) {
      ratio = refined;
      *raw = std::move(refined_raw);
      (*raw)["codes_alone"] = codes_alone;
    }
  }
  return ratio;
}

}  // namespace

void MeasureFaissGraph(const FaissTarget& target, const std::string& python,
                       const GraphOptions& options, CheckReport* report) {
  FaissContest contest;
  const absl::Status ready = Prepare(target, python, options, &contest);
  for (const double recall : target.recalls) {
    CheckRow row{
        .key = absl::StrFormat("%s_%.0f", target.key, 100 * recall),
        .what = absl::StrFormat("HNSW + codes vs faiss HNSW,SQ8, equal or less "
                                "memory, %s, QPS at recall@%d = %.2f",
                                target.label, options.k, recall),
        .bound = Bound::kAtLeast,
        .limit = target.ratio};
    const absl::StatusOr<double> ratio =
        ready.ok() ? BestRatio(python, recall, options, &contest, &row.raw)
                   : absl::StatusOr<double>(ready);
    if (ratio.ok()) {
      row.measured = *ratio;
    } else {
      row.why_not = std::string(ratio.status().message());
    }
    report->Add(std::move(row));
  }
}

const std::vector<std::string>& RabitqFactories() {
  // RaBitQ wants a random rotation, which faiss leaves to the caller.
  static const auto* factories = new std::vector<std::string>{
      "IVF{n},RaBitQfs", "RR{dim},IVF{n},RaBitQfs",
      "RR{dim},IVF{n},RaBitQfs,RFlat", "RR{dim},IVF{n},RaBitQfs4"};
  return *factories;
}

const std::vector<std::string>& PqFactories() {
  static const auto* factories = new std::vector<std::string>{
      "IVF{n},PQ{half}x4fs,RFlat", "IVF{n},PQ{half}x4fs,Refine(SQ8)"};
  return *factories;
}

namespace {

// Points of rising nprobe up to the first that reaches the recall, each the
// fastest of its passes.
absl::StatusOr<std::vector<CurvePoint>> PointsUpTo(FaissPython* peer,
                                                   const Dataset& dataset,
                                                   const RecallJudge& judge,
                                                   double recall,
                                                   size_t passes) {
  std::vector<CurvePoint> points;
  for (const size_t nprobe :
       {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256}) {
    CurvePoint best;
    for (size_t pass = 0; pass < passes; ++pass) {
      VICINAL_ASSIGN_OR_RETURN(
          const CurvePoint point,
          RunPass(peer, dataset, judge, nprobe, PassClock::kThreadCpu));
      if (pass == 0 || point.qps > best.qps) best = point;
      // Not near enough to matter.
      if (point.recall < 0.9 * recall) break;
    }
    // More lists no longer help: the estimates decide.
    const bool flat = nprobe >= 16 && best.recall < points.back().recall + 1e-4;
    points.push_back(best);
    if (best.recall >= recall || flat) break;
  }
  return points;
}

}  // namespace

absl::StatusOr<FaissLists> BestFaissLists(
    const std::vector<std::string>& factories, const std::string& python,
    const Dataset& dataset, const RecallJudge& judge, double recall,
    const GraphOptions& options) {
  if (python.empty()) return absl::NotFoundError(kNoPython);
  FaissLists best;
  best.raw = nlohmann::json::array();
  for (const std::string& factory : factories) {
    VICINAL_ASSIGN_OR_RETURN(std::unique_ptr<FaissPython> peer,
                             BuildPeer(python, factory, dataset, options));
    size_t best_k_factor = 0;
    const std::vector<size_t> k_factors =
        peer->refines() ? std::vector<size_t>{1, 2, 4, 8, 16}
                        : std::vector<size_t>{1};
    for (const size_t k_factor : k_factors) {
      peer->set_k_factor(k_factor);
      VICINAL_ASSIGN_OR_RETURN(
          const std::vector<CurvePoint> points,
          PointsUpTo(peer.get(), dataset, judge, recall, options.passes));
      const std::optional<double> qps = QpsAtRecall(points, recall);
      best.raw.push_back(
          {{"system", peer->name()},
           {"k", judge.k()},
           {"recall", recall},
           {"nprobe", points.back().ef},
           {"qps", qps ? nlohmann::json(*qps) : nlohmann::json()},
           {"bytes_per_vector",
            static_cast<double>(peer->compact_bytes()) / dataset.base.num_rows},
           {"bytes_with_vectors", static_cast<double>(peer->memory_bytes()) /
                                      dataset.base.num_rows}});
      if (qps && *qps > best.qps) {
        best.qps = *qps;
        best_k_factor = k_factor;
      }
    }
    if (best_k_factor == 0) continue;
    peer->set_k_factor(best_k_factor);
    best.system = std::move(peer);
  }
  if (best.system == nullptr) {
    return absl::NotFoundError(absl::StrFormat(
        "none of faiss's lists reaches recall@%d %.2f", judge.k(), recall));
  }
  return best;
}

}  // namespace vicinal::bench
