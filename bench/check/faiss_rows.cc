#include "bench/check/faiss_rows.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "bench/ann_system.h"
#include "bench/child_process.h"
#include "bench/ground_truth.h"
#include "bench/workspace.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

constexpr std::array<double, 6> kTargets = {0.90, 0.93,  0.95,
                                            0.97, 0.985, 0.995};

double ThreadSeconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * time.tv_nsec;
}

struct Point {
  double recall = 0;
  double qps = 0;
};

// Queries per second at a recall, on the line between the two settings next to
// it; nullopt when none reaches it.
std::optional<double> QpsAt(const std::vector<Point>& points, double recall) {
  std::optional<Point> below, above;
  for (const Point& point : points) {
    if (point.recall >= recall && (!above || point.qps > above->qps)) {
      above = point;
    }
    if (point.recall < recall && (!below || point.recall > below->recall)) {
      below = point;
    }
  }
  if (!above) return std::nullopt;
  if (!below || below->qps < above->qps) return above->qps;
  const double share =
      (recall - below->recall) / (above->recall - below->recall);
  return below->qps + share * (above->qps - below->qps);
}

absl::StatusOr<std::vector<Point>> SweepOurs(AnnSystem* system,
                                             const Dataset& dataset,
                                             const RecallJudge& judge,
                                             size_t passes) {
  std::vector<Point> points;
  std::vector<uint32_t> found(judge.k());
  for (const double target : kTargets) {
    Point point;
    for (size_t pass = 0; pass < passes; ++pass) {
      size_t hits = 0;
      double spent = 0;
      for (size_t q = 0; q < dataset.queries.num_rows; ++q) {
        const double start = ThreadSeconds();
        VICINAL_ASSIGN_OR_RETURN(
            const size_t n,
            system->SearchForRecall(dataset.queries.row(q), judge.k(), target,
                                    found.data()));
        spent += ThreadSeconds() - start;
        hits += judge.CountHits(q, {found.data(), n});
      }
      const auto queries = static_cast<double>(dataset.queries.num_rows);
      point.recall = static_cast<double>(hits) / (queries * judge.k());
      point.qps = std::max(point.qps, queries / spent);
    }
    points.push_back(point);
  }
  return points;
}

absl::Status WriteFloats(const FloatMatrix& matrix, const std::string& path) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(matrix.values.data()),
            static_cast<std::streamsize>(matrix.num_rows * matrix.dim *
                                         sizeof(float)));
  out.close();
  return out ? absl::OkStatus()
             : absl::InternalError(absl::StrCat("cannot write ", path));
}

// What faiss reached, one JSON object per line of its output.
absl::StatusOr<std::vector<nlohmann::json>> RunFaiss(
    const Dataset& dataset, const FaissOptions& options, size_t k,
    const std::vector<std::string>& recalls,
    const std::vector<std::string>& indexes, const Workspace& workspace) {
  const std::string base = workspace.NewPath("base");
  const std::string queries = workspace.NewPath("queries");
  VICINAL_RETURN_IF_ERROR(WriteFloats(dataset.base, base));
  VICINAL_RETURN_IF_ERROR(WriteFloats(dataset.queries, queries));
  std::vector<std::string> command = {
      options.python, options.script,
      "--base",       base,
      "--queries",    queries,
      "--dim",        absl::StrCat(dataset.base.dim),
      "--metric",     dataset.search_metric() == Metric::kL2 ? "l2" : "ip",
      "--k",          absl::StrCat(k),
      "--passes",     absl::StrCat(options.passes),
      "--only"};
  command.insert(command.end(), indexes.begin(), indexes.end());
  command.push_back("--recall");
  command.insert(command.end(), recalls.begin(), recalls.end());
  VICINAL_ASSIGN_OR_RETURN(
      const std::unique_ptr<ChildProcess> child,
      ChildProcess::Start(command, workspace.NewPath("faiss.out")));
  VICINAL_RETURN_IF_ERROR(child->Wait());
  std::vector<nlohmann::json> lines;
  std::istringstream in(child->Output());
  for (std::string line; std::getline(in, line);) {
    if (!absl::StartsWith(line, "{")) continue;
    nlohmann::json parsed =
        nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_discarded()) lines.push_back(std::move(parsed));
  }
  return lines;
}

// The best of faiss's indexes whose name begins so, at one recall; nullopt when
// none reaches it.
std::optional<double> BestOf(const std::vector<nlohmann::json>& lines,
                             const std::string& prefix, double recall) {
  std::optional<double> best;
  for (const nlohmann::json& line : lines) {
    if (!line.contains("qps") || line["target"] != recall ||
        !absl::StartsWith(line["index"].get<std::string>(), prefix)) {
      continue;
    }
    best = std::max(best.value_or(0), line["qps"].get<double>());
  }
  return best;
}

struct Rows {
  CheckRow graph_vs_graph{.key = "hnsw_codes_vs_faiss_hnsw_sq8",
                          .what =
                              "HNSW + codes vs faiss HNSW,SQ8, recall@10 "
                              "0.95 and 0.99, slowest of the sets",
                          .limit = 1.5};
  CheckRow graph_vs_lists{.key = "hnsw_codes_vs_faiss_rabitq",
                          .what =
                              "HNSW + codes vs faiss IVF,RaBitQfs + refine, "
                              "the same",
                          .limit = 1.5};
  CheckRow lists_vs_lists{.key = "ivf_vs_faiss_pqfs",
                          .what =
                              "IVF vs faiss IVF,PQfs + refine, recall@100 "
                              "0.96, slowest of the sets",
                          .limit = 1.5};
};

void Lower(CheckRow* row, const std::string& what, std::optional<double> ours,
           std::optional<double> theirs) {
  row->raw[what] = {{"ours", ours ? nlohmann::json(*ours) : nullptr},
                    {"faiss", theirs ? nlohmann::json(*theirs) : nullptr}};
  if (!ours) {
    row->measured = 0;
  } else if (theirs) {
    row->measured =
        std::min(row->measured.value_or(std::numeric_limits<double>::max()),
                 *ours / *theirs);
  }
}

absl::Status MeasureSet(const DatasetSpec& spec, const FaissOptions& options,
                        Rows* rows) {
  VICINAL_ASSIGN_OR_RETURN(Dataset dataset, LoadDataset(spec));
  dataset.Prepare();
  dataset.queries.num_rows =
      std::min(dataset.queries.num_rows, options.max_queries);
  dataset.queries.values.resize(dataset.queries.num_rows * dataset.queries.dim);
  const TruthTable truth =
      CachedTruth(dataset.base, dataset.queries, dataset.search_metric(), 100,
                  options.build_threads, options.cache_dir);
  VICINAL_ASSIGN_OR_RETURN(const Workspace workspace, Workspace::Create());
  const auto sweep = [&](std::unique_ptr<AnnSystem> system,
                         size_t k) -> absl::StatusOr<std::vector<Point>> {
    VICINAL_RETURN_IF_ERROR(
        system->Build(dataset, {.num_threads = options.build_threads}));
    const RecallJudge judge(dataset.base, dataset.queries,
                            dataset.search_metric(), truth, k);
    return SweepOurs(system.get(), dataset, judge, options.passes);
  };
  VICINAL_ASSIGN_OR_RETURN(
      const auto at_10,
      RunFaiss(dataset, options, 10, {"0.95", "0.99"},
               {"HNSW16,SQ8", "IVF,RaBitQfs+SQ8", "IVF,RaBitQfs+Flat"},
               workspace));
  VICINAL_ASSIGN_OR_RETURN(const std::vector<Point> graph,
                           sweep(MakeVicinalCodes(), 10));
  for (const double recall : {0.95, 0.99}) {
    const std::string what = absl::StrCat(spec.name, " ", recall);
    Lower(&rows->graph_vs_graph, what, QpsAt(graph, recall),
          BestOf(at_10, "HNSW", recall));
    Lower(&rows->graph_vs_lists, what, QpsAt(graph, recall),
          BestOf(at_10, "IVF,RaBitQfs", recall));
  }
  VICINAL_ASSIGN_OR_RETURN(
      const auto at_100,
      RunFaiss(dataset, options, 100, {"0.96"},
               {"IVF,PQfs+SQ8", "IVF,PQfs+Flat"}, workspace));
  VICINAL_ASSIGN_OR_RETURN(const std::vector<Point> lists,
                           sweep(MakeVicinalIvf(), 100));
  Lower(&rows->lists_vs_lists, absl::StrCat(spec.name, " 0.96"),
        QpsAt(lists, 0.96), BestOf(at_100, "IVF,PQfs", 0.96));
  rows->graph_vs_graph.raw["faiss"][spec.name] = at_10;
  rows->lists_vs_lists.raw["faiss"][spec.name] = at_100;
  return absl::OkStatus();
}

}  // namespace

void MeasureAgainstFaiss(const std::vector<DatasetSpec>& sets,
                         const FaissOptions& options, CheckReport* report) {
  Rows rows;
  absl::Status status;
  if (options.python.empty()) {
    status = absl::FailedPreconditionError(
        "give --faiss-python, a Python with faiss-cpu (see "
        "bench/peers/faiss_peer.py)");
  }
  for (const DatasetSpec& set : sets) {
    if (status.ok()) status = MeasureSet(set, options, &rows);
  }
  for (CheckRow* row :
       {&rows.graph_vs_graph, &rows.graph_vs_lists, &rows.lists_vs_lists}) {
    if (!status.ok()) row->measured.reset();
    row->why_not = std::string(status.message());
    report->Add(std::move(*row));
  }
}

}  // namespace vicinal::bench
