#include "bench/check/tenant_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "bench/check/tenant_points.h"
#include "bench/curve.h"
#include "bench/engine_fixture.h"
#include "bench/machine.h"
#include "bench/workspace.h"
#include "src/base/status_macros.h"
#include "src/engine/database.h"
#include "src/payload/filter_text.h"

namespace vicinal::bench {
namespace {

constexpr size_t kK = 10;
constexpr double kShare = 0.3;  // of the points pass a condition on the price
constexpr size_t kGrowingRows = 40'000;  // what 16 MiB hold
constexpr size_t kAnyQueries = 100;

// What the queries of one kind came to in one collection.
struct Measured {
  std::vector<double> times_us;
  size_t hits = 0;
  size_t answers = 0;
  uint64_t distances = 0;
  uint64_t tenant_rows = 0;

  double median_us() { return Percentile(&times_us, 0.5); }
  double recall() const {
    return static_cast<double>(hits) / static_cast<double>(answers);
  }
};

class TenantsMeasurement {
 public:
  TenantsMeasurement(const TenantRowsOptions& options, const FloatMatrix& words)
      : options_(options), points_(words, options.scale, /*seed=*/42) {}

  absl::Status Run(CheckReport* report);

 private:
  absl::Status Build();
  absl::StatusOr<std::shared_ptr<Collection>> Create(const std::string& name,
                                                     bool divided);
  // One search; `rows`: what the ids of the collection stand for, null:
  // themselves.
  absl::Status Search(const Collection& collection, const TenantQuery& query,
                      bool names_tenant, const std::vector<uint32_t>* rows,
                      Measured* out) const;
  // Queries of all sizes in turns, so that filters, lists and vectors of one
  // are no longer at hand when it is asked again.
  absl::Status MeasureTenants(absl::string_view key, double share, bool fresh,
                              CheckReport* report);
  absl::Status MeasureOthers(CheckReport* report);

  const TenantRowsOptions& options_;
  const TenantPoints points_;
  std::unique_ptr<Workspace> workspace_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> all_;
  std::shared_ptr<Collection> growing_;
  std::map<size_t, std::shared_ptr<Collection>> own_;  // by tenant
};

absl::StatusOr<std::shared_ptr<Collection>> TenantsMeasurement::Create(
    const std::string& name, bool divided) {
  CollectionSchema schema;
  schema.name = name;
  schema.vectors.push_back(
      {.dim = points_.rows().dim,
       .metric = Metric::kCosine,
       .index = divided ? IndexKind::kIvf : IndexKind::kAuto});
  schema.payload_fields = {{"tenant", PayloadType::kKeyword},
                           {"price", PayloadType::kInt64}};
  if (divided) schema.partition_key = "tenant";
  return database_->CreateCollection(std::move(schema));
}

absl::Status TenantsMeasurement::Build() {
  VICINAL_ASSIGN_OR_RETURN(Workspace workspace, Workspace::Create());
  workspace_ = std::make_unique<Workspace>(std::move(workspace));
  DatabaseOptions database_options;
  database_options.build_threads = options_.build_threads;
  database_options.query_threads = 1;
  database_options.recall_check_ms = 0;
  // One build of all, and what grows stays as it is.
  database_options.growing_segment_bytes = size_t{1} << 30;
  database_options.idle_seal_ms = 1'000'000'000;
  VICINAL_ASSIGN_OR_RETURN(
      database_,
      Database::Open(workspace_->NewPath("tenants"), database_options));
  TellProgress(absl::StrCat("upserting and indexing ", points_.rows().num_rows,
                            " points"));
  const auto payload = [this](size_t row) { return points_.PayloadOf(row); };
  VICINAL_ASSIGN_OR_RETURN(growing_, Create("growing", true));
  FloatMatrix first{.num_rows = std::min(kGrowingRows, points_.rows().num_rows),
                    .dim = points_.rows().dim};
  first.values.assign(points_.rows().row(0),
                      points_.rows().row(0) + first.num_rows * first.dim);
  VICINAL_RETURN_IF_ERROR(UpsertAll(growing_.get(), first, payload));
  VICINAL_ASSIGN_OR_RETURN(all_, Create("all", true));
  VICINAL_RETURN_IF_ERROR(UpsertAll(all_.get(), points_.rows(), payload));
  VICINAL_RETURN_IF_ERROR(OptimizeAndWait(all_.get()));
  TellProgress("the same of single tenants");
  for (size_t s = 0; s < std::size(kTenantSizes); ++s) {
    for (size_t i = 0; i < kTenantSizes[s].asked; ++i) {
      const size_t tenant = points_.FirstOf(s) + i;
      const std::vector<uint32_t>& rows = points_.RowsOf(tenant);
      FloatMatrix own{.num_rows = rows.size(), .dim = points_.rows().dim};
      for (const uint32_t row : rows) {
        const float* vector = points_.rows().row(row);
        own.values.insert(own.values.end(), vector, vector + own.dim);
      }
      VICINAL_ASSIGN_OR_RETURN(own_[tenant],
                               Create(absl::StrCat("t", tenant), false));
      VICINAL_RETURN_IF_ERROR(
          UpsertAll(own_[tenant].get(), own,
                    [&](size_t row) { return points_.PayloadOf(rows[row]); }));
      VICINAL_RETURN_IF_ERROR(OptimizeAndWait(own_[tenant].get()));
    }
  }
  return absl::OkStatus();
}

absl::Status TenantsMeasurement::Search(const Collection& collection,
                                        const TenantQuery& query,
                                        bool names_tenant,
                                        const std::vector<uint32_t>* rows,
                                        Measured* out) const {
  RetrieveStage stage{
      .query = std::string(reinterpret_cast<const char*>(query.vector.data()),
                           query.vector.size() * sizeof(float)),
      .k = kK,
      .recall_target = options_.recall_target};
  std::string filter;
  if (names_tenant) filter = absl::StrCat("tenant = 't", query.tenant, "'");
  if (query.max_price < kMaxPrice) {
    absl::StrAppend(&filter, filter.empty() ? "" : " AND ", "price < ",
                    query.max_price);
  }
  if (!filter.empty()) {
    VICINAL_ASSIGN_OR_RETURN(FilterNode node, ParseFilter(filter));
    stage.filter = std::make_shared<const FilterNode>(std::move(node));
  }
  std::vector<Query> queries(1);
  queries[0].stage = std::move(stage);
  const double start = ThreadSeconds();
  VICINAL_ASSIGN_OR_RETURN(const std::vector<SearchResult> results,
                           collection.Search(queries, {}));
  out->times_us.push_back(1e6 * (ThreadSeconds() - start));
  std::vector<uint32_t> found;
  for (const Hit& hit : results[0].hits) {
    const auto id = static_cast<uint32_t>(hit.id.number());
    found.push_back(rows == nullptr ? id : (*rows)[id]);
  }
  out->distances += results[0].stats.distance_computations;
  if (&collection == growing_.get()) return absl::OkStatus();
  const int hits = points_.CountHits(query, found);
  if (hits < 0) {
    return absl::InternalError(absl::StrCat(
        "a search for ", filter, " found ", found.size(), " points where ",
        query.num_answers, " are to be found, or others"));
  }
  out->hits += static_cast<size_t>(hits);
  out->answers += query.num_answers;
  if (names_tenant) out->tenant_rows += points_.RowsOf(query.tenant).size();
  return absl::OkStatus();
}

absl::Status TenantsMeasurement::MeasureTenants(absl::string_view key,
                                                double share, bool fresh,
                                                CheckReport* report) {
  TellProgress(absl::StrCat("asking: ", key));
  Random random(7);
  Measured in_all[std::size(kTenantSizes)];
  Measured in_own[std::size(kTenantSizes)];
  std::vector<TenantQuery> queries;
  for (size_t s = 0; s < std::size(kTenantSizes); ++s) {
    for (size_t i = 0; i < kTenantSizes[s].asked; ++i) {
      for (size_t q = 0; q < kTenantSizes[s].queries; ++q) {
        // Of conditions that are no new ones there are ten.
        Random same(q % 10);
        queries.push_back(points_.MakeQuery(points_.FirstOf(s) + i, s, share,
                                            kK, fresh ? random : same));
      }
    }
  }
  for (size_t pass = 0; pass < options_.passes; ++pass) {
    for (size_t i = queries.size(); i > 1; --i) {
      std::swap(queries[i - 1], queries[random.Uniform(i)]);
    }
    for (const TenantQuery& query : queries) {
      VICINAL_RETURN_IF_ERROR(
          Search(*all_, query, true, nullptr, &in_all[query.size]));
      VICINAL_RETURN_IF_ERROR(Search(*own_.at(query.tenant), query, false,
                                     &points_.RowsOf(query.tenant),
                                     &in_own[query.size]));
    }
  }
  for (size_t s = 0; s < std::size(kTenantSizes); ++s) {
    const std::string name = absl::StrCat(key, "_", kTenantSizes[s].name);
    Measured& all = in_all[s];
    Measured& own = in_own[s];
    const double of_rows = static_cast<double>(all.distances) /
                           static_cast<double>(all.tenant_rows);
    report->Add({.key = "time_" + name,
                 .what = absl::StrFormat(
                     "%s: time / in a collection of its own (%.1f / %.1f us)",
                     name, all.median_us(), own.median_us()),
                 .bound = Bound::kAtMost,
                 .limit = 1.3,
                 .measured = all.median_us() / own.median_us(),
                 .raw = {{"in_all_us", all.median_us()},
                         {"in_own_us", own.median_us()},
                         {"in_all_p99_us", Percentile(&all.times_us, 0.99)},
                         {"in_own_p99_us", Percentile(&own.times_us, 0.99)},
                         {"distances_of_tenant_rows", of_rows}}});
    report->Add(
        {.key = "recall_" + name,
         .what = absl::StrFormat(
             "%s: recall@10 (of its own %.3f; distances %.2f of its rows)",
             name, own.recall(), of_rows),
         .limit = 0.93,
         .measured = all.recall(),
         .raw = {{"in_own", own.recall()}}});
  }
  return absl::OkStatus();
}

absl::Status TenantsMeasurement::MeasureOthers(CheckReport* report) {
  TellProgress("asking: all points, and what grows");
  Random random(8);
  Measured any, filtered, scanned;
  for (size_t i = 0; i < kAnyQueries; ++i) {
    const TenantQuery query =
        points_.MakeQuery(TenantQuery::kAnyTenant, 0, 1, kK, random);
    VICINAL_RETURN_IF_ERROR(Search(*all_, query, false, nullptr, &any));
    // Large tenants, and small ones.
    TenantQuery of_tenant = query;
    of_tenant.tenant =
        i % 2 == 0 ? i % kTenantSizes[0].count : points_.FirstOf(2) + i;
    VICINAL_RETURN_IF_ERROR(
        Search(*growing_, of_tenant, true, nullptr, &filtered));
    VICINAL_RETURN_IF_ERROR(Search(*growing_, query, false, nullptr, &scanned));
  }
  report->Add({.key = "recall_all",
               .what = absl::StrFormat("all points: recall@10 (%.0f us)",
                                       any.median_us()),
               .limit = 0.93,
               .measured = any.recall(),
               .raw = {{"us", any.median_us()},
                       {"distances", any.distances / kAnyQueries}}});
  report->Add(
      {.key = "time_growing",
       .what = absl::StrFormat("growing segment: time of a tenant / of "
                               "all points (%.0f / %.0f us)",
                               filtered.median_us(), scanned.median_us()),
       .bound = Bound::kAtMost,
       .limit = 1,
       .measured = filtered.median_us() / scanned.median_us(),
       .raw = {{"tenant_us", filtered.median_us()},
               {"tenant_p99_us", Percentile(&filtered.times_us, 0.99)},
               {"all_us", scanned.median_us()}}});
  return absl::OkStatus();
}

absl::Status TenantsMeasurement::Run(CheckReport* report) {
  VICINAL_RETURN_IF_ERROR(Build());
  VICINAL_RETURN_IF_ERROR(MeasureTenants("tenant", 1, true, report));
  VICINAL_RETURN_IF_ERROR(MeasureTenants("price", kShare, false, report));
  VICINAL_RETURN_IF_ERROR(MeasureTenants("new_price", kShare, true, report));
  return MeasureOthers(report);
}

}  // namespace

void MeasureTenants(const FloatMatrix& words, const TenantRowsOptions& options,
                    CheckReport* report) {
  const absl::Status status = TenantsMeasurement(options, words).Run(report);
  if (status.ok()) return;
  report->Add({.key = "tenants",
               .what = "searches of tenants",
               .why_not = std::string(status.message())});
}

}  // namespace vicinal::bench
