// What stages and options of a query do to results, against a walk over all
// points.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/payload/group_value.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 12;

using Ids = std::vector<PointId>;

struct Param {
  Metric metric;
  ElementType type;
  IndexKind index;
};

// Points in a sealed segment, replaced ones and more in memory.
class SearchTest : public ::testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    DatabaseOptions options = TestOptions();
    options.recall_check_ms = 0;
    schema_ = SchemaOf("s", kDim, GetParam().metric, GetParam().type,
                       GetParam().index);
    database_ = *Database::Open(folder_.path(), options);
    collection_ = *database_->CreateCollection(schema_);
    oracle_ = std::make_unique<Oracle>(schema_);
    Upsert(0, 900);
    ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
    Upsert(800, 300);
  }

  void Upsert(uint64_t first, uint64_t count) {
    BatchBuilder batch(schema_);
    for (uint64_t i = first; i < first + count; ++i) {
      const std::string vector = Vector();
      const std::string payload = Payload(i);
      batch.Add(PointId(i), {vector}, payload);
      oracle_->Upsert(PointId(i), {{vector}, payload});
    }
    ASSERT_TRUE(collection_->Upsert(batch.batch()).status.ok());
  }

  // Groups of many sizes; some points have two, some none.
  static std::string Payload(uint64_t i) {
    if (i % 17 == 0) return "";
    return absl::StrCat(R"({"g": ["g)", i * i % 97, R"(", )", i % 5,
                        i % 3 == 0 ? ".0" : "", R"(], "one": )", i % 7, "}");
  }

  std::string Vector() { return RandomVector(schema_.vectors[0], random_); }

  SearchResult Search(Query query) {
    std::vector<Query> queries;
    queries.push_back(std::move(query));
    auto results = collection_->Search(queries, {});
    EXPECT_TRUE(results.ok()) << results.status();
    return results.ok() ? std::move((*results)[0]) : SearchResult();
  }

  // All points, nearest first.
  std::vector<std::pair<float, PointId>> Ranking(
      const std::string& query) const {
    std::vector<std::pair<float, PointId>> ranking;
    for (const auto& [id, point] : oracle_->points()) {
      ranking.emplace_back(oracle_->Distance(0, query, point.vectors[0]), id);
    }
    std::sort(ranking.begin(), ranking.end());
    return ranking;
  }

  static Ids IdsOf(const SearchResult& result) {
    Ids ids;
    for (const Hit& hit : result.hits) ids.push_back(hit.id);
    return ids;
  }

  TempFolder folder_;
  CollectionSchema schema_;
  Random random_{11};
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
  std::unique_ptr<Oracle> oracle_;
};

TEST_P(SearchTest, AThresholdKeepsWhatIsWithinItOfTheKNearest) {
  for (int round = 0; round < 20; ++round) {
    const std::string vector = Vector();
    const auto ranking = Ranking(vector);
    const size_t rank = random_.Uniform(200);
    const size_t k = 1 + random_.Uniform(300);
    const double limit = ranking[rank].first;
    Ids expected;
    for (const auto& [distance, id] : ranking) {
      if (distance <= limit && expected.size() < k) expected.push_back(id);
    }
    Query query = Nearest("v", vector, k, true);
    std::get<RetrieveStage>(query.stage).max_distance = limit;
    EXPECT_EQ(IdsOf(Search(std::move(query))), expected);
    // Approximate: no stranger, and none beyond it.
    query = Nearest("v", vector, k);
    std::get<RetrieveStage>(query.stage).max_distance = limit;
    const SearchResult found = Search(std::move(query));
    EXPECT_LE(found.hits.size(), expected.size());
    for (const Hit& hit : found.hits) EXPECT_LE(hit.distance, limit);
    // By the scores of a rerank, not by those of its input.
    RerankStage rerank;
    rerank.input = std::make_unique<Query>(Nearest("v", Vector(), 2'000, true));
    rerank.vector_name = "v";
    rerank.query = vector;
    rerank.k = k;
    rerank.max_distance = limit;
    EXPECT_EQ(IdsOf(Search(Query{std::move(rerank)})), expected);
  }
}

TEST_P(SearchTest, PagesAreThePartsOfTheRanking) {
  const std::string vector = Vector();
  const auto ranking = Ranking(vector);
  constexpr size_t kPage = 150;
  Ids ids, expected;
  for (size_t offset = 0; offset < ranking.size() + kPage; offset += kPage) {
    Query query = Nearest("v", vector, offset + kPage, true);
    query.offset = offset;
    for (const PointId& id : IdsOf(Search(std::move(query)))) {
      ids.push_back(id);
    }
  }
  for (const auto& [distance, id] : ranking) expected.push_back(id);
  EXPECT_EQ(ids, expected);
}

TEST_P(SearchTest, GroupsAreThoseOfTheWholeRanking) {
  for (const auto& [path, group_size, num_groups] :
       {std::tuple("g", 3, 20), std::tuple("g", 1, 1), std::tuple("g", 500, 2),
        std::tuple("one", 4, 5), std::tuple("one", 2, 100),
        std::tuple("none", 2, 2)}) {
    const std::string vector = Vector();
    // By the definition: walk down the ranking, open groups while there may be
    // more, and fill those that are open.
    std::vector<std::pair<GroupValue, Ids>> expected;
    for (const auto& [distance, id] : Ranking(vector)) {
      const auto values = GroupValuesOf(oracle_->points().at(id).payload, path);
      for (const GroupValue& value : values) {
        auto group =
            std::find_if(expected.begin(), expected.end(),
                         [&](const auto& g) { return g.first == value; });
        if (group == expected.end()) {
          if (expected.size() == static_cast<size_t>(num_groups)) continue;
          group = expected.insert(expected.end(), {value, {}});
        }
        if (group->second.size() < static_cast<size_t>(group_size)) {
          group->second.push_back(id);
        }
      }
    }
    for (const bool exact : {true, false}) {
      Query query = Nearest("v", vector, 1, exact);
      query.group_by = GroupBy{path, static_cast<size_t>(group_size),
                               static_cast<size_t>(num_groups)};
      const SearchResult found = Search(std::move(query));
      size_t num_hits = 0;
      for (const HitGroup& group : found.groups) num_hits += group.num_hits;
      EXPECT_EQ(found.hits.size(), num_hits);
      if (!exact) continue;  // well formed is all that is sure
      EXPECT_TRUE(found.exact);
      ASSERT_EQ(found.groups.size(), expected.size()) << path;
      Ids ids;
      for (size_t g = 0; g < expected.size(); ++g) {
        EXPECT_EQ(found.groups[g].value, expected[g].first);
        EXPECT_EQ(found.groups[g].num_hits, expected[g].second.size());
        ids.insert(ids.end(), expected[g].second.begin(),
                   expected[g].second.end());
      }
      EXPECT_EQ(IdsOf(found), ids);
    }
  }
}

TEST_P(SearchTest, ExcludedPointsMakeRoomForOthers) {
  for (int round = 0; round < 10; ++round) {
    const std::string vector = Vector();
    const auto ranking = Ranking(vector);
    const size_t k = 1 + random_.Uniform(100);
    Query query = Nearest("v", vector, k, true);
    auto& stage = std::get<RetrieveStage>(query.stage);
    for (int i = 0; i < 40; ++i) {
      stage.excluded_ids.push_back(ranking[random_.Uniform(60)].second);
    }
    stage.excluded_ids.push_back(*PointId::FromString("nobody"));
    Ids expected;
    for (const auto& [distance, id] : ranking) {
      const auto& excluded = stage.excluded_ids;
      if (expected.size() < k &&
          std::find(excluded.begin(), excluded.end(), id) == excluded.end()) {
        expected.push_back(id);
      }
    }
    EXPECT_EQ(IdsOf(Search(std::move(query))), expected);
  }
}

TEST_P(SearchTest, DiversityChoosesAsItsDefinitionSays) {
  for (const double lambda : {0.0, 0.3, 0.5, 0.9, 1.0}) {
    const std::string vector = Vector();
    auto rest = Ranking(vector);
    constexpr size_t kCandidates = 80, kK = 25;
    rest.resize(kCandidates);
    const auto bytes = [&](const PointId& id) {
      return oracle_->points().at(id).vectors[0];
    };
    RerankStage rerank;
    rerank.input = std::make_unique<Query>(Nearest("v", Vector(), 2'000, true));
    rerank.vector_name = "v";
    rerank.query = vector;
    rerank.k = kK;
    rerank.diversity = Diversity{lambda, kCandidates};
    const SearchResult found = Search(Query{std::move(rerank)});
    ASSERT_EQ(found.hits.size(), kK);
    EXPECT_EQ(found.hits[0].id, rest[0].second);
    // Each choice costs the least, but for rounding: near ties may go either
    // way, so it is looked at what was chosen before.
    std::vector<PointId> chosen;
    for (const Hit& hit : found.hits) {
      double least = std::numeric_limits<double>::infinity(), own = least;
      for (const auto& [distance, id] : rest) {
        double apart = std::numeric_limits<double>::infinity();
        for (const PointId& other : chosen) {
          apart = std::min<double>(
              apart, oracle_->Distance(0, bytes(id), bytes(other)));
        }
        const double cost = chosen.empty()
                                ? distance
                                : lambda * distance - (1 - lambda) * apart;
        least = std::min(least, cost);
        if (id == hit.id) own = cost;
      }
      EXPECT_LE(own, least + 1e-5 * (1 + std::abs(least)));
      std::erase_if(rest, [&](const auto& r) { return r.second == hit.id; });
      chosen.push_back(hit.id);
    }
  }
}

// Every version of a point has the same group.
TEST_P(SearchTest, GroupsMissNoPointThatIsBeingReplaced) {
  std::atomic<bool> done = false;
  std::thread writer([&] {
    Random random(3);
    while (!done) {
      BatchBuilder batch(schema_);
      for (uint64_t i = 0; i < 150; ++i) {
        batch.Add(PointId(i), {RandomVector(schema_.vectors[0], random)},
                  Payload(i));
      }
      EXPECT_TRUE(collection_->Upsert(batch.batch()).status.ok());
    }
  });
  size_t expected = 0;
  for (const auto& [id, point] : oracle_->points()) {
    expected += !point.payload.empty();
  }
  for (int i = 0; i < 20; ++i) {
    Query query = Nearest("v", Vector(), 1, true);
    query.group_by = GroupBy{"one", 1'500, 7};
    const SearchResult found = Search(std::move(query));
    EXPECT_EQ(found.hits.size(), expected);
  }
  done = true;
  writer.join();
}

std::string NameOfParam(const ::testing::TestParamInfo<Param>& info) {
  const auto [metric, type, index] = info.param;
  return absl::StrCat(metric == Metric::kL2             ? "l2"
                      : metric == Metric::kInnerProduct ? "ip"
                                                        : "cosine",
                      type == ElementType::kFloat32   ? "_f32"
                      : type == ElementType::kFloat16 ? "_f16"
                                                      : "_int8",
                      index == IndexKind::kFlat   ? "_flat"
                      : index == IndexKind::kHnsw ? "_graph"
                                                  : "_lists");
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, SearchTest,
    ::testing::Values(
        Param{Metric::kL2, ElementType::kFloat32, IndexKind::kHnsw},
        Param{Metric::kInnerProduct, ElementType::kFloat32, IndexKind::kIvf},
        Param{Metric::kCosine, ElementType::kFloat32, IndexKind::kHnsw},
        Param{Metric::kCosine, ElementType::kFloat16, IndexKind::kFlat},
        Param{Metric::kL2, ElementType::kInt8, IndexKind::kIvf}),
    NameOfParam);

}  // namespace
}  // namespace vicinal
