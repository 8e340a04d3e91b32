#include "bench/check/filtered_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/ann_system.h"
#include "bench/curve.h"
#include "bench/engine_fixture.h"
#include "bench/machine.h"
#include "bench/workspace.h"
#include "src/base/status_macros.h"
#include "src/engine/database.h"
#include "src/engine/query.h"
#include "src/payload/filter_text.h"

namespace vicinal::bench {
namespace {

// Of searches without a filter.
constexpr double kTargets[] = {0.80, 0.85, 0.90,  0.93,
                               0.95, 0.97, 0.985, 0.995};
constexpr size_t kHnswlibEfs[] = {10, 15, 20, 30, 40, 60, 80, 120, 200, 400};
// A pass of slow searches takes a second and more; so many are enough.
constexpr double kSlowQps = 500;
constexpr size_t kPassesOfSlow = 2;
constexpr Correlation kCorrelations[] = {
    Correlation::kIndependent, Correlation::kPositive, Correlation::kNegative};

// What one workload came to.
struct Measured {
  double recall = 0;
  double qps = 0;            // the fastest pass
  double num_distances = 0;  // per query
  double num_expanded = 0;   // nodes or lists per query; 0: a scan
};

// One collection of one sealed segment. Life: Build once, then searched.
class EngineUnderTest {
 public:
  explicit EngineUnderTest(const FilteredSet& set) : set_(set) {}

  absl::Status Build(const FilteredOptions& options);
  // What the segment has: "graph" or "lists".
  const std::string& index() const { return index_; }

  // One pass. The filters are evaluated before, untimed.
  absl::Status Run(const Workload& workload, double recall_target,
                   Measured* best);

 private:
  absl::Status CheckSegment();
  std::vector<std::vector<Query>> QueriesOf(const Workload& workload,
                                            double recall_target) const;

  const FilteredSet& set_;
  std::unique_ptr<Workspace> workspace_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
  std::string index_;
};

absl::Status EngineUnderTest::Build(const FilteredOptions& options) {
  VICINAL_ASSIGN_OR_RETURN(Workspace workspace, Workspace::Create());
  workspace_ = std::make_unique<Workspace>(std::move(workspace));
  DatabaseOptions database_options;
  database_options.build_threads = options.build_threads;
  database_options.query_threads = 1;
  // Would change the effort of searches from one pass to the next.
  database_options.recall_check_ms = 0;
  VICINAL_ASSIGN_OR_RETURN(
      database_,
      Database::Open(workspace_->NewPath("filtered"), database_options));
  CollectionSchema schema;
  schema.name = "filtered";
  schema.vectors.push_back({.dim = set_.dataset().base.dim,
                            .metric = set_.dataset().metric,
                            .index = options.index});
  for (const std::string& name : set_.field_names()) {
    schema.payload_fields.push_back({name, PayloadType::kInt64});
  }
  VICINAL_ASSIGN_OR_RETURN(collection_,
                           database_->CreateCollection(std::move(schema)));
  VICINAL_RETURN_IF_ERROR(
      UpsertAll(collection_.get(), set_.dataset().base,
                [this](size_t row) { return set_.PayloadOf(row); }));
  VICINAL_RETURN_IF_ERROR(OptimizeAndWait(collection_.get()));
  return CheckSegment();
}

absl::Status EngineUnderTest::CheckSegment() {
  const CollectionStats stats = collection_->stats();
  size_t num_with_rows = 0;
  for (const SegmentStats& segment : stats.segments) {
    if (segment.num_rows == 0) continue;
    ++num_with_rows;
    if (segment.state != SegmentState::kSealed) continue;
    index_ = segment.indexes.at(0) == SegmentIndex::kGraph   ? "graph"
             : segment.indexes.at(0) == SegmentIndex::kLists ? "lists"
                                                             : "none";
  }
  if (num_with_rows != 1 || index_.empty()) {
    return absl::InternalError("the points are not in one sealed segment");
  }
  for (const PayloadIndexStats& index : stats.payload_indexes) {
    if (!index.ready) {
      return absl::InternalError(
          absl::StrCat("the index of ", index.field.path, " is not ready"));
    }
  }
  return absl::OkStatus();
}

std::vector<std::vector<Query>> EngineUnderTest::QueriesOf(
    const Workload& workload, double recall_target) const {
  const FloatMatrix& all = set_.dataset().queries;
  std::map<std::string, std::shared_ptr<const FilterNode>> filters;
  std::vector<std::vector<Query>> out;
  for (size_t i = 0; i < workload.queries.size(); ++i) {
    RetrieveStage stage{.query = std::string(reinterpret_cast<const char*>(
                                                 all.row(workload.queries[i])),
                                             all.dim * sizeof(float)),
                        .k = set_.k(),
                        .recall_target = recall_target};
    if (!workload.conditions.empty()) {
      const std::string text = set_.TextOf(workload.conditions[i]);
      std::shared_ptr<const FilterNode>& filter = filters[text];
      if (filter == nullptr) {
        filter = std::make_shared<const FilterNode>(*ParseFilter(text));
      }
      stage.filter = filter;
    }
    out.emplace_back(1)[0].stage = std::move(stage);
  }
  return out;
}

absl::Status EngineUnderTest::Run(const Workload& workload,
                                  double recall_target, Measured* best) {
  const std::vector<std::vector<Query>> queries =
      QueriesOf(workload, recall_target);
  std::vector<SearchResult> results;
  results.reserve(queries.size());
  const auto search_first = [&](size_t count) -> absl::Status {
    results.clear();
    for (size_t i = 0; i < count; ++i) {
      VICINAL_ASSIGN_OR_RETURN(std::vector<SearchResult> result,
                               collection_->Search(queries[i], {}));
      results.push_back(std::move(result[0]));
    }
    return absl::OkStatus();
  };
  // Neighbouring queries have different filters.
  VICINAL_RETURN_IF_ERROR(search_first(std::min<size_t>(32, queries.size())));
  const double start = ThreadSeconds();
  VICINAL_RETURN_IF_ERROR(search_first(queries.size()));
  const double seconds = ThreadSeconds() - start;

  size_t hits = 0, answers = 0;
  uint64_t num_distances = 0, num_expanded = 0;
  std::vector<uint32_t> rows;
  for (size_t i = 0; i < results.size(); ++i) {
    rows.clear();
    for (const Hit& hit : results[i].hits) {
      rows.push_back(static_cast<uint32_t>(hit.id.number()));
    }
    VICINAL_ASSIGN_OR_RETURN(const size_t found,
                             set_.CountHits(workload, i, rows));
    hits += found;
    answers += workload.num_answers[i];
    num_distances += results[i].stats.distance_computations;
    num_expanded += results[i].stats.expanded_nodes;
  }
  const auto num_queries = static_cast<double>(queries.size());
  best->recall = answers == 0 ? 1 : static_cast<double>(hits) / answers;
  best->qps = std::max(best->qps, num_queries / seconds);
  best->num_distances = num_distances / num_queries;
  best->num_expanded = num_expanded / num_queries;
  return absl::OkStatus();
}

// A filtered workload and its measurement.
struct Cell {
  const Workload* workload;
  Measured measured;
  double speed = 0;  // over searches without a filter, at equal recall
};

struct Curve {
  const Workload* workload;  // without a filter
  std::vector<Measured> by_target = std::vector<Measured>(std::size(kTargets));

  std::vector<CurvePoint> points() const {
    std::vector<CurvePoint> points;
    for (const Measured& measured : by_target) {
      points.push_back({.recall = measured.recall, .qps = measured.qps});
    }
    return points;
  }
  // Where nothing finds so many, the most exact searches.
  double QpsAt(double recall) const {
    const std::vector<CurvePoint> all = points();
    return QpsAtRecall(all, recall).value_or(ParetoFront(all).back().qps);
  }
  nlohmann::json Json() const {
    nlohmann::json json = nlohmann::json::array();
    for (size_t i = 0; i < by_target.size(); ++i) {
      json.push_back({{"recall_target", kTargets[i]},
                      {"recall", by_target[i].recall},
                      {"qps", by_target[i].qps}});
    }
    return json;
  }
};

nlohmann::json CellJson(const Cell& cell) {
  return {{"percent", cell.workload->percent},
          {"share_of_nearest_accepted", cell.workload->share_of_nearest},
          {"recall", cell.measured.recall},
          {"qps", cell.measured.qps},
          {"speed_at_equal_recall", cell.speed},
          {"distances", cell.measured.num_distances},
          {"expanded", cell.measured.num_expanded}};
}

// Measures one set with one index.
class Measurement {
 public:
  Measurement(const FilteredSet& set, const FilteredOptions& options)
      : set_(set), options_(options), engine_(set) {}

  absl::Status Run();
  void AddRows(const absl::Status& status, CheckReport* report) const;
  void AddHnswlibRow(CheckReport* report) const;
  std::string Details() const;

 private:
  std::string Key(absl::string_view what) const {
    return absl::StrCat(what, "_", set_.dataset().name, "_",
                        options_.index_name);
  }
  std::string Label() const {
    return absl::StrCat(set_.dataset().name, ", ", options_.index_name);
  }
  const Curve& CurveOf(const Cell& cell) const {
    return curves_[cell.workload->correlation == Correlation::kIndependent ? 0
                                                                           : 1];
  }
  const Cell* FindCell(Correlation correlation, double percent) const;
  absl::Status MeasureHnswlib(const Cell& ours, CheckRow* row) const;
  absl::StatusOr<CurvePoint> HnswlibPass(AnnSystem* hnswlib, size_t ef,
                                         const Workload& workload) const;

  const FilteredSet& set_;
  const FilteredOptions& options_;
  EngineUnderTest engine_;
  std::vector<Curve> curves_;  // of the independent and correlated queries
  std::vector<Cell> cells_;
};

absl::Status Measurement::Run() {
  TellProgress(absl::StrCat(Label(), ": upserting and indexing ",
                            set_.dataset().base.num_rows, " points"));
  VICINAL_RETURN_IF_ERROR(engine_.Build(options_));
  TellProgress(absl::StrCat(Label(), ": searched by ", engine_.index()));
  for (const auto* workloads : {&set_.independent(), &set_.correlated()}) {
    curves_.push_back({.workload = &workloads->front()});
    for (size_t i = 1; i < workloads->size(); ++i) {
      cells_.push_back({.workload = &(*workloads)[i]});
    }
  }
  for (size_t pass = 0; pass < options_.passes; ++pass) {
    TellProgress(absl::StrFormat("%s: pass %d of %d", Label(), pass + 1,
                                 options_.passes));
    for (Curve& curve : curves_) {
      for (size_t i = 0; i < std::size(kTargets); ++i) {
        VICINAL_RETURN_IF_ERROR(
            engine_.Run(*curve.workload, kTargets[i], &curve.by_target[i]));
      }
    }
    for (Cell& cell : cells_) {
      if (pass >= kPassesOfSlow && cell.measured.qps < kSlowQps) continue;
      VICINAL_RETURN_IF_ERROR(
          engine_.Run(*cell.workload, options_.recall_target, &cell.measured));
    }
  }
  for (Cell& cell : cells_) {
    const double recall = std::min(cell.measured.recall, options_.most_recall);
    cell.speed = cell.measured.qps / CurveOf(cell).QpsAt(recall);
  }
  return absl::OkStatus();
}

void Measurement::AddRows(const absl::Status& status,
                          CheckReport* report) const {
  for (const Correlation correlation : kCorrelations) {
    const char* name = CorrelationName(correlation);
    const Cell* lowest = nullptr;
    const Cell* slowest = nullptr;
    nlohmann::json raw;
    for (const Cell& cell : cells_) {
      if (cell.workload->correlation != correlation) continue;
      raw["cells"].push_back(CellJson(cell));
      raw["unfiltered"] = CurveOf(cell).Json();
      if (lowest == nullptr || cell.measured.recall < lowest->measured.recall) {
        lowest = &cell;
      }
      if (slowest == nullptr || cell.speed < slowest->speed) slowest = &cell;
    }
    raw["index"] = engine_.index();
    const bool ok = status.ok() && lowest != nullptr;
    const auto at = [&](const Cell* cell) {
      return ok ? absl::StrFormat(" (lowest, at %g %%)",
                                  cell->workload->percent)
                : "";
    };
    CheckRow recall{.key = Key(absl::StrCat("recall_", name)),
                    .what = absl::StrFormat("recall@%d, %s, %s%s", set_.k(),
                                            Label(), name, at(lowest)),
                    .limit = options_.least_recall,
                    .why_not = std::string(status.message()),
                    .raw = raw};
    CheckRow speed{.key = Key(absl::StrCat("speed_", name)),
                   .what = absl::StrFormat("QPS vs unfiltered, %s, %s%s",
                                           Label(), name, at(slowest)),
                   .limit = options_.least_speed,
                   .why_not = std::string(status.message()),
                   .raw = std::move(raw)};
    if (ok) {
      recall.measured = lowest->measured.recall;
      speed.measured = slowest->speed;
    }
    report->Add(std::move(recall));
    report->Add(std::move(speed));
  }
}

const Cell* Measurement::FindCell(Correlation correlation,
                                  double percent) const {
  for (const Cell& cell : cells_) {
    if (cell.workload->correlation == correlation &&
        cell.workload->percent == percent) {
      return &cell;
    }
  }
  return nullptr;
}

absl::StatusOr<CurvePoint> Measurement::HnswlibPass(
    AnnSystem* hnswlib, size_t ef, const Workload& workload) const {
  const size_t k = set_.k();
  const size_t num_queries = workload.queries.size();
  std::vector<uint32_t> found(num_queries * k);
  std::vector<size_t> counts(num_queries);
  const double start = ThreadSeconds();
  for (size_t i = 0; i < num_queries; ++i) {
    VICINAL_ASSIGN_OR_RETURN(
        counts[i],
        hnswlib->Search(set_.dataset().queries.row(workload.queries[i]), k, ef,
                        &found[i * k]));
  }
  CurvePoint point{.ef = ef, .qps = num_queries / (ThreadSeconds() - start)};
  size_t hits = 0, answers = 0;
  for (size_t i = 0; i < num_queries; ++i) {
    VICINAL_ASSIGN_OR_RETURN(
        const size_t right,
        set_.CountHits(workload, i, {&found[i * k], counts[i]}));
    hits += right;
    answers += workload.num_answers[i];
  }
  point.recall = static_cast<double>(hits) / static_cast<double>(answers);
  return point;
}

absl::Status Measurement::MeasureHnswlib(const Cell& ours,
                                         CheckRow* row) const {
  const std::unique_ptr<AnnSystem> hnswlib = MakeHnswlib();
  if (hnswlib == nullptr) {
    return absl::NotFoundError(
        "hnswlib was not found at configure time (apt: libhnswlib-dev)");
  }
  TellProgress(absl::StrCat(Label(), ": building hnswlib's graph"));
  VICINAL_RETURN_IF_ERROR(
      hnswlib->Build(set_.dataset(), {.num_threads = options_.build_threads}));
  const Workload& workload = *ours.workload;
  std::vector<bool> accepted;
  for (size_t i = 0; i < set_.dataset().base.num_rows; ++i) {
    accepted.push_back(set_.Accepts(workload.conditions[0], i));
  }
  VICINAL_RETURN_IF_ERROR(hnswlib->AcceptOnly(std::move(accepted)));
  const double recall = std::min(ours.measured.recall, options_.most_recall);
  std::vector<CurvePoint> points;
  for (const size_t ef : kHnswlibEfs) {
    TellProgress(absl::StrCat(Label(), ": hnswlib with ef ", ef));
    CurvePoint best;
    for (size_t pass = 0; pass < std::min<size_t>(2, options_.passes); ++pass) {
      VICINAL_ASSIGN_OR_RETURN(const CurvePoint point,
                               HnswlibPass(hnswlib.get(), ef, workload));
      if (point.qps > best.qps) best = point;
    }
    points.push_back(best);
    row->raw["hnswlib"].push_back(
        {{"ef", ef}, {"recall", best.recall}, {"qps", best.qps}});
    if (best.recall >= recall) break;
  }
  const std::optional<double> qps = QpsAtRecall(points, recall);
  row->raw["ours"] = CellJson(ours);
  row->raw["recall"] = recall;
  if (!qps) {
    return absl::NotFoundError(
        absl::StrFormat("hnswlib does not reach recall %.3f with ef up to %d",
                        recall, points.back().ef));
  }
  row->raw["hnswlib_qps_at_recall"] = *qps;
  row->measured = ours.measured.qps / *qps;
  return absl::OkStatus();
}

void Measurement::AddHnswlibRow(CheckReport* report) const {
  CheckRow row{.key = Key("hnswlib_1"),
               .what = absl::StrFormat("QPS at 1 %% vs hnswlib, %s", Label()),
               .limit = options_.least_hnswlib,
               .why_not = "our searches were not measured"};
  const Cell* ours = FindCell(Correlation::kIndependent, 1);
  if (ours != nullptr && ours->measured.qps > 0) {
    row.why_not = std::string(MeasureHnswlib(*ours, &row).message());
  }
  report->Add(std::move(row));
}

std::string Measurement::Details() const {
  if (cells_.empty()) return "";
  const auto of = [](const Measured& measured) {
    return absl::StrFormat("%.0f, %.3f", measured.qps, measured.recall);
  };
  std::string text = absl::StrFormat(
      "\n%s (%s): QPS, recall@%d, speed over unfiltered at equal recall\n"
      "| accepted | independent | positive | negative |\n|---|---|---|---|\n",
      Label(), engine_.index(), set_.k());
  const size_t usual = std::find(std::begin(kTargets), std::end(kTargets),
                                 options_.recall_target) -
                       std::begin(kTargets);
  if (usual < std::size(kTargets)) {
    absl::StrAppend(&text, "| no filter | ", of(curves_[0].by_target[usual]),
                    " | ", of(curves_[1].by_target[usual]), " | the same |\n");
  }
  for (const double percent : kPercents) {
    absl::StrAppend(&text, "| ", percent, " % |");
    for (const Correlation correlation : kCorrelations) {
      const Cell* cell = FindCell(correlation, percent);
      absl::StrAppend(&text,
                      cell == nullptr
                          ? " |"
                          : absl::StrFormat(" %s, %.2fx |", of(cell->measured),
                                            cell->speed));
    }
    absl::StrAppend(&text, "\n");
  }
  return text;
}

}  // namespace

void MeasureFiltered(const FilteredSet& set, const FilteredOptions& options,
                     CheckReport* report, std::string* details) {
  Measurement measurement(set, options);
  const absl::Status status = measurement.Run();
  measurement.AddRows(status, report);
  if (options.with_hnswlib) measurement.AddHnswlibRow(report);
  if (status.ok()) absl::StrAppend(details, measurement.Details());
}

}  // namespace vicinal::bench
