// Filtered searches, counts, scrolls and deletions against a walk over all
// points that evaluates the filter one by one.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter_text.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 24;
constexpr ForcedPlan kPlans[] = {ForcedPlan::kNone, ForcedPlan::kScan,
                                 ForcedPlan::kIndex};

std::shared_ptr<const FilterNode> FilterOf(absl::string_view text) {
  auto node = ParseFilter(text);
  EXPECT_TRUE(node.ok()) << node.status();
  return std::make_shared<const FilterNode>(*std::move(node));
}

// Which of the fields have an index.
enum class Indexed { kNone, kSome, kAll };

class FilterTest
    : public ::testing::TestWithParam<std::pair<IndexKind, Indexed>> {
 protected:
  FilterTest() {
    options_.growing_segment_bytes = size_t{256} << 10;
    options_.recall_check_ms = 0;
    schema_ = SchemaOf("filtered", kDim, Metric::kL2);
    schema_.vectors[0].index = GetParam().first;
    if (GetParam().second != Indexed::kNone) {
      schema_.payload_fields = {{"bucket", PayloadType::kInt64},
                                {"tags", PayloadType::kKeyword}};
    }
    if (GetParam().second == Indexed::kAll) {
      schema_.payload_fields.insert(schema_.payload_fields.end(),
                                    {{"group", PayloadType::kFloat64},
                                     {"even", PayloadType::kBool},
                                     {"kind", PayloadType::kKeyword}});
    }
    database_ = *Database::Open(folder_.path(), options_);
    collection_ = *database_->CreateCollection(schema_);
  }

  // `group` says where the vector lies, so that filters on it are correlated
  // with queries; `bucket` is independent of that.
  void Upsert(uint64_t first, uint64_t count) {
    BatchBuilder batch(schema_);
    for (uint64_t i = first; i < first + count; ++i) {
      const uint64_t group = random_.Uniform(20);
      Random centre(group);
      std::vector<float> values(kDim);
      for (float& value : values) {
        value = static_cast<float>(2 * centre.Gaussian() + random_.Gaussian());
      }
      std::string payload;
      if (i % 50 != 0) {
        payload = absl::StrCat(R"({"group": )", group, R"(, "bucket": )",
                               random_.Uniform(1000), R"(, "tags": ["t)", i % 3,
                               R"(", "t)", i % 7, R"("])",
                               i % 2 == 0 ? R"(, "even": true)" : "", "}");
      }
      const PointId id =
          i % 11 == 0 ? *PointId::FromString(absl::StrCat("s", i)) : PointId(i);
      const std::string vector = Bytes(values);
      batch.Add(id, {vector}, payload);
      points_[id] = {{vector}, payload};
    }
    ASSERT_TRUE(collection_->Upsert(batch.batch()).status.ok());
  }

  std::map<PointId, Oracle::Stored> Accepted(const FilterNode& filter) const {
    const BoundFilter bound =
        *BoundFilter::Bind(filter, schema_.payload_fields);
    std::map<PointId, Oracle::Stored> accepted;
    for (const auto& [id, point] : points_) {
      if (bound.Matches(id, point.payload)) accepted[id] = point;
    }
    return accepted;
  }

  // Searches exactly and by every plan, counts and scrolls; the recall of the
  // plan that is chosen.
  double Compare(absl::string_view text) {
    constexpr size_t kK = 10, kQueries = 20;
    const auto filter = FilterOf(text);
    const auto accepted = Accepted(*filter);
    Oracle oracle(schema_);
    for (const auto& [id, point] : accepted) oracle.Upsert(id, point);
    // The filter is evaluated once for all of a call's queries.
    std::vector<Query> queries;
    std::vector<std::vector<float>> truths;
    for (size_t q = 0; q < kQueries; ++q) {
      const auto& any =
          std::next(points_.begin(), random_.Uniform(points_.size()))->second;
      truths.push_back(oracle.Distances(0, any.vectors[0], kK));
      for (size_t i = 0; i <= std::size(kPlans); ++i) {
        Query query = Nearest("v", any.vectors[0], kK, /*exact=*/i == 0);
        auto& stage = std::get<RetrieveStage>(query.stage);
        stage.filter = filter;
        if (i > 0) stage.force = kPlans[i - 1];
        query.explain = true;
        queries.push_back(std::move(query));
      }
    }
    const auto results = collection_->Search(queries, {});
    EXPECT_TRUE(results.ok()) << results.status();
    if (!results.ok()) return 0;
    std::array<size_t, std::size(kPlans) + 1> found = {};
    size_t wanted = 0;
    for (size_t q = 0; q < queries.size(); ++q) {
      const size_t plan = q % found.size();
      const bool exact = plan == 0;
      const std::vector<float>& truth = truths[q / found.size()];
      const std::vector<Hit>& hits = (*results)[q].hits;
      EXPECT_EQ(hits.size(), truth.size()) << text;
      for (size_t i = 0; i < std::min(hits.size(), truth.size()); ++i) {
        EXPECT_TRUE(accepted.contains(hits[i].id)) << text;
        if (exact) {
          EXPECT_EQ(hits[i].distance, truth[i]) << text;
        }
        found[plan] += hits[i].distance <= truth.back();
      }
      ExpectExplained((*results)[q], plan);
      wanted += exact ? truth.size() : 0;
    }
    const auto count = collection_->CountMatching(*filter, {});
    EXPECT_TRUE(count.ok()) << count.status();
    EXPECT_EQ(count.value_or(0), accepted.size()) << text;
    ExpectScrolls(*filter, accepted);
    if (wanted == 0) return 1;
    // Lists are not chosen where few pass, and then read too few of them.
    for (const size_t of_plan : found) EXPECT_GE(of_plan, 0.8 * wanted) << text;
    EXPECT_EQ(found[0], wanted);
    return static_cast<double>(found[1]) / static_cast<double>(wanted);
  }

  // plan: 0: exact; else of kPlans.
  void ExpectExplained(const SearchResult& result, size_t plan) {
    uint64_t num_rows = 0, distances = 0;
    for (const SegmentExplanation& segment : result.explanation) {
      num_rows += segment.num_rows;
      distances += segment.distance_computations;
      EXPECT_LE(segment.num_accepted, segment.num_rows);
      EXPECT_GE(segment.filter_micros, 0);
      EXPECT_GE(segment.search_micros, 0);
      const bool scans = segment.plan == SearchPlan::kNone ||
                         segment.plan == SearchPlan::kScan ||
                         segment.plan == SearchPlan::kCodes;
      if (plan == 0 || kPlans[plan - 1] == ForcedPlan::kScan) {
        EXPECT_TRUE(scans);
      } else if (kPlans[plan - 1] == ForcedPlan::kIndex &&
                 segment.num_accepted > 0 && segment.number != 0) {
        EXPECT_TRUE(!scans || GetParam().first == IndexKind::kFlat);
      }
    }
    EXPECT_GE(num_rows, collection_->Count());
    EXPECT_EQ(distances, result.stats.distance_computations);
  }

  void ExpectScrolls(const FilterNode& filter,
                     const std::map<PointId, Oracle::Stored>& accepted) {
    std::vector<PointId> ids;
    const absl::Status status = collection_->Scroll(
        std::nullopt, 7, {.payload = true}, {},
        [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
          for (const StoredPoint& point : page) {
            ids.push_back(point.id);
            EXPECT_EQ(point.payload, points_.at(point.id).payload);
          }
          return true;
        },
        &filter);
    EXPECT_TRUE(status.ok()) << status;
    ASSERT_EQ(ids.size(), accepted.size());
    EXPECT_TRUE(std::equal(ids.begin(), ids.end(), accepted.begin(),
                           [](const PointId& id, const auto& entry) {
                             return id == entry.first;
                           }));
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  CollectionSchema schema_;
  Random random_{7};
  std::map<PointId, Oracle::Stored> points_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_P(FilterTest, EqualsAWalkOverAllPoints) {
  constexpr absl::string_view kFilters[] = {
      "TRUE",
      "FALSE",
      "bucket < 500",
      "bucket < 200 AND even = TRUE",
      "bucket < 50",
      "bucket < 10 OR bucket = 999",
      "bucket = 5",
      "group = 3",
      "NOT group IN (3, 4, 5)",
      "group = 3 AND bucket < 100",
      "tags CONTAINS ALL ('t1', 't4')",
      "NOT EXISTS(group)",
      "ID IN (1, 2, 's22', 123456)",
      "NOT ID = 1 AND even IS NULL",
  };
  // Sealed, then a part replaced and a part deleted, and more in memory.
  Upsert(0, 4'000);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  Upsert(3'500, 1'000);
  std::vector<PointId> gone;
  for (auto it = points_.begin(); it != points_.end();) {
    if (random_.Uniform(10) == 0) {
      gone.push_back(it->first);
      it = points_.erase(it);
    } else {
      ++it;
    }
  }
  ASSERT_TRUE(collection_->Delete(gone).status.ok());
  // Again with what was remembered: after more writes, and after a merge.
  for (int round = 0; round < 3; ++round) {
    for (const absl::string_view text : kFilters) {
      EXPECT_GE(Compare(text), 0.9) << text << ", round " << round;
    }
    if (round == 0) Upsert(200, 400);
    if (round == 1) {
      ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
    }
  }
}

// More filters than are remembered.
TEST_P(FilterTest, ForgetsTheOldestOfManyFilters) {
  Upsert(0, 500);
  for (int round = 0; round < 2; ++round) {
    for (int bucket = 0; bucket < 40; ++bucket) {
      EXPECT_EQ(Compare(absl::StrCat("bucket < ", 25 * bucket)), 1);
    }
  }
}

TEST_P(FilterTest, DeletesWhatItAccepts) {
  Upsert(0, 3'000);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  Upsert(2'900, 500);
  const auto filter = FilterOf("bucket < 300 AND NOT group = 2");
  const auto accepted = Accepted(*filter);
  ASSERT_GT(accepted.size(), 500u);
  const WriteOutcome outcome = collection_->DeleteMatching(*filter, {}, {});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.num_written, accepted.size());
  EXPECT_GT(outcome.result.sequence, 0u);
  for (const auto& [id, point] : accepted) points_.erase(id);
  EXPECT_EQ(collection_->Count(), points_.size());
  EXPECT_EQ(Compare("bucket < 300 AND NOT group = 2"), 1);
  EXPECT_GE(Compare("bucket < 400"), 0.9);
  EXPECT_EQ(collection_->DeleteMatching(*filter, {}, {}).result.num_written,
            0u);
}

// A filter that is true of every version of a point finds it at every moment.
TEST_P(FilterTest, MissesNoPointThatIsBeingReplaced) {
  constexpr uint64_t kPoints = 300;
  Rewriter writer(collection_.get(), kPoints, [](uint64_t, uint64_t round) {
    return absl::StrCat(R"({"kind": "a", "round": )", round, "}");
  });
  const auto filter = FilterOf("kind = 'a'");
  size_t num_searches = 0;
  while (writer.num_rounds() < 60 || num_searches < 20) {
    Query query = Nearest("v", RandomVector(schema_.vectors[0], random_),
                          2 * kPoints, true);
    std::get<RetrieveStage>(query.stage).filter = filter;
    std::vector<Query> queries;
    queries.push_back(std::move(query));
    const auto results = collection_->Search(queries, {});
    ASSERT_TRUE(results.ok()) << results.status();
    std::set<PointId> ids;
    for (const Hit& hit : (*results)[0].hits) ids.insert(hit.id);
    ASSERT_EQ(ids.size(), kPoints);
    ASSERT_EQ((*results)[0].hits.size(), kPoints);
    const auto count = collection_->CountMatching(*filter, {});
    ASSERT_TRUE(count.ok());
    ASSERT_EQ(*count, kPoints);
    ++num_searches;
  }
  const absl::Status written = writer.Stop();
  EXPECT_TRUE(written.ok()) << written;
}

// Deleting what was true of an old version leaves a new one.
TEST_P(FilterTest, DeletesTheVersionThatItSaw) {
  std::atomic<bool> done = false;
  const auto upsert = [&](absl::string_view kind) {
    BatchBuilder batch(schema_);
    for (uint64_t i = 0; i < 200; ++i) {
      batch.Add(PointId(i), {RandomVector(schema_.vectors[0], random_)},
                absl::StrCat(R"({"kind": ")", kind, R"("})"));
    }
    EXPECT_TRUE(collection_->Upsert(batch.batch()).status.ok());
  };
  upsert("old");
  std::thread deleter([&] {
    const auto filter = FilterOf("kind = 'old'");
    while (!done) {
      EXPECT_TRUE(collection_->DeleteMatching(*filter, {}, {}).status.ok());
    }
  });
  for (int round = 0; round < 40; ++round) {
    upsert("old");
    upsert("new");
    EXPECT_EQ(collection_->Count(), 200u);
  }
  done = true;
  deleter.join();
}

TEST_P(FilterTest, RefusesWhatCannotBeAsked) {
  Upsert(0, 10);
  Query query = Nearest("v", Bytes(std::vector<float>(kDim)), 3);
  std::get<RetrieveStage>(query.stage).filter = FilterOf("MATCH(a, 'b')");
  std::vector<Query> queries;
  queries.push_back(std::move(query));
  EXPECT_EQ(collection_->Search(queries, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  const FilterNode wrong{.kind = FilterNode::Kind::kExists, .path = ""};
  EXPECT_TRUE(
      absl::IsInvalidArgument(collection_->CountMatching(wrong, {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      collection_->DeleteMatching(wrong, {}, {}).status));
  EXPECT_EQ(collection_->Count(), 10u);
}

std::string NameOfParam(
    const ::testing::TestParamInfo<std::pair<IndexKind, Indexed>>& info) {
  const IndexKind index = info.param.first;
  const Indexed indexed = info.param.second;
  return std::string(index == IndexKind::kFlat   ? "flat"
                     : index == IndexKind::kHnsw ? "graph"
                                                 : "lists") +
         (indexed == Indexed::kNone   ? ""
          : indexed == Indexed::kSome ? "_some_indexed"
                                      : "_indexed");
}

INSTANTIATE_TEST_SUITE_P(
    Indexes, FilterTest,
    ::testing::Values(std::pair(IndexKind::kFlat, Indexed::kNone),
                      std::pair(IndexKind::kHnsw, Indexed::kNone),
                      std::pair(IndexKind::kIvf, Indexed::kNone),
                      std::pair(IndexKind::kFlat, Indexed::kAll),
                      std::pair(IndexKind::kHnsw, Indexed::kSome),
                      std::pair(IndexKind::kIvf, Indexed::kAll)),
    NameOfParam);

}  // namespace
}  // namespace vicinal
