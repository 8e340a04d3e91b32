#include "bench/check/payload_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "bench/curve.h"
#include "bench/dataset.h"
#include "bench/engine_fixture.h"
#include "bench/machine.h"
#include "bench/workspace.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"
#include "src/engine/database.h"
#include "src/payload/filter_text.h"

namespace vicinal::bench {
namespace {

constexpr size_t kDim = 8;
constexpr uint64_t kNumPrices = 1'000'000;
// Filters per row.
constexpr size_t kNumFilters = 100;

// A million points of {"tag": "tNN", "price": P} in one sealed segment.
class PayloadPoints {
 public:
  explicit PayloadPoints(const PayloadRowsOptions& options)
      : options_(options) {}

  absl::Status Build();
  uint64_t CountRows(size_t tag, uint64_t low, uint64_t high) const;
  const Collection& collection() const { return *collection_; }

 private:
  const PayloadRowsOptions& options_;
  std::vector<uint32_t> tags_;
  std::vector<uint32_t> prices_;
  std::unique_ptr<Workspace> workspace_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

absl::Status PayloadPoints::Build() {
  Random random(options_.seed);
  FloatMatrix rows{.num_rows = options_.num_points, .dim = kDim};
  for (size_t row = 0; row < options_.num_points; ++row) {
    tags_.push_back(static_cast<uint32_t>(random.Uniform(options_.num_tags)));
    prices_.push_back(static_cast<uint32_t>(random.Uniform(kNumPrices)));
    for (size_t d = 0; d < kDim; ++d) {
      rows.values.push_back(static_cast<float>(random.UniformDouble()));
    }
  }
  VICINAL_ASSIGN_OR_RETURN(Workspace workspace, Workspace::Create());
  workspace_ = std::make_unique<Workspace>(std::move(workspace));
  DatabaseOptions database_options;
  database_options.build_threads = options_.build_threads;
  VICINAL_ASSIGN_OR_RETURN(
      database_,
      Database::Open(workspace_->NewPath("payloads"), database_options));
  CollectionSchema schema;
  schema.name = "payloads";
  schema.vectors.push_back({.dim = kDim, .index = IndexKind::kFlat});
  schema.payload_fields = {{"tag", PayloadType::kKeyword},
                           {"price", PayloadType::kInt64}};
  VICINAL_ASSIGN_OR_RETURN(collection_,
                           database_->CreateCollection(std::move(schema)));
  VICINAL_RETURN_IF_ERROR(
      UpsertAll(collection_.get(), rows, [this](size_t row) {
        return absl::StrFormat(R"({"tag": "t%02d", "price": %d})", tags_[row],
                               prices_[row]);
      }));
  TellProgress("payloads: indexing");
  VICINAL_RETURN_IF_ERROR(OptimizeAndWait(collection_.get()));
  for (const auto& index : collection_->stats().payload_indexes) {
    if (!index.ready || index.num_indexed != options_.num_points) {
      return absl::InternalError(
          absl::StrCat("the index of ", index.field.path, " is not ready"));
    }
  }
  return absl::OkStatus();
}

uint64_t PayloadPoints::CountRows(size_t tag, uint64_t low,
                                  uint64_t high) const {
  uint64_t count = 0;
  for (size_t row = 0; row < tags_.size(); ++row) {
    count += tags_[row] == tag && prices_[row] >= low && prices_[row] < high;
  }
  return count;
}

// A filter's text and how many points it accepts.
struct Asked {
  std::string text;
  uint64_t count = 0;
};

struct PayloadRow {
  const char* key;
  const char* what;
  double limit_ms;
};

// One count of each filter: a bitmap is made, and its bits are counted.
absl::Status MeasureCounts(const PayloadPoints& points,
                           absl::FunctionRef<Asked(size_t)> filter,
                           double limit_ms, CheckRow* row) {
  std::vector<double> times_ms;
  for (size_t i = 0; i < kNumFilters; ++i) {
    const Asked asked = filter(i);
    VICINAL_ASSIGN_OR_RETURN(const FilterNode node, ParseFilter(asked.text));
    const double start = ThreadSeconds();
    VICINAL_ASSIGN_OR_RETURN(const uint64_t count,
                             points.collection().CountMatching(node, {}));
    times_ms.push_back(1e3 * (ThreadSeconds() - start));
    if (count != asked.count) {
      return absl::InternalError(absl::StrFormat(
          "%s counts %d points, not %d", asked.text, count, asked.count));
    }
    if (i == 0) row->raw["first_filter"] = asked.text;
  }
  row->raw["first_ms"] = times_ms.front();
  const double median_ms = Percentile(&times_ms, 0.5);
  row->raw["median_ms"] = median_ms;
  row->raw["worst_ms"] = times_ms.back();
  row->raw["filters"] = kNumFilters;
  absl::StrAppend(&row->what, absl::StrFormat(" (median %.2f, worst %.2f)",
                                              median_ms, times_ms.back()));
  row->measured = median_ms / limit_ms;
  return absl::OkStatus();
}

void AddRow(const absl::Status& built, const PayloadPoints& points,
            const PayloadRow& what, absl::FunctionRef<Asked(size_t)> filter,
            CheckReport* report) {
  CheckRow row{
      .key = what.key,
      .what = absl::StrFormat("%s, over %g ms", what.what, what.limit_ms),
      .bound = Bound::kAtMost,
      .limit = 1,
      .why_not = std::string(built.message())};
  if (built.ok()) {
    row.why_not = std::string(
        MeasureCounts(points, filter, what.limit_ms, &row).message());
  }
  report->Add(std::move(row));
}

}  // namespace

void MeasurePayloads(const PayloadRowsOptions& options, CheckReport* report) {
  TellProgress(
      absl::StrCat("payloads: upserting ", options.num_points, " points"));
  PayloadPoints points(options);
  const absl::Status built = points.Build();
  if (built.ok()) TellProgress("payloads: counting");
  AddRow(
      built, points,
      {"count_keyword", "count of tag = x, 1M points", options.count_ms},
      [&](size_t i) {
        const size_t tag = i % options.num_tags;
        return Asked{absl::StrFormat("tag = \"t%02d\"", tag),
                     points.CountRows(tag, 0, kNumPrices)};
      },
      report);
  AddRow(
      built, points,
      {"bitmap_tenth", "bitmap of tag = x AND a tenth of prices",
       options.bitmap_ms},
      [&](size_t i) {
        const size_t tag = i % options.num_tags;
        const uint64_t low = 1'000 + 7'001 * i;
        return Asked{
            absl::StrFormat("tag = \"t%02d\" AND price BETWEEN %d AND %d", tag,
                            low, low + kNumPrices / 10 - 1),
            points.CountRows(tag, low, low + kNumPrices / 10)};
      },
      report);
  AddRow(
      built, points,
      {"bitmap_half", "bitmap of tag = x AND half of prices",
       options.bitmap_ms},
      [&](size_t i) {
        const size_t tag = i % options.num_tags;
        const uint64_t high = kNumPrices / 2 + i;
        return Asked{
            absl::StrFormat("tag = \"t%02d\" AND price < %d", tag, high),
            points.CountRows(tag, 0, high)};
      },
      report);
}

}  // namespace vicinal::bench
