// A collection whose points were replaced five times over must be as good as a
// new one of the same points.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 32;
constexpr uint64_t kPoints = 6'000;
constexpr int kRounds = 25;  // of a fifth of the points each
constexpr uint64_t kReplaced = kPoints / kRounds * 5;

class ChurnTest : public ::testing::TestWithParam<IndexKind> {
 protected:
  ChurnTest() {
    options_.growing_segment_bytes = size_t{256} << 10;
    options_.recall_check_ms = 0;
    schema_ = SchemaOf("churned", kDim, Metric::kL2);
    schema_.vectors[0].index = GetParam();
    schema_.vectors[0].codec = {CodecSpec::Kind::kSaq, 4};
  }
  std::string Vector() {
    Random centre(random_.Uniform(60));
    std::vector<float> values(kDim);
    for (float& value : values) {
      value = static_cast<float>(1.5 * centre.Gaussian() + random_.Gaussian());
    }
    return Bytes(values);
  }
  void Upsert(Collection* collection, const std::vector<uint64_t>& ids,
              Oracle* oracle) {
    BatchBuilder points(schema_);
    for (const uint64_t id : ids) {
      const std::string vector = Vector();
      points.Add(PointId(id), {vector});
      oracle->Upsert(PointId(id), {{vector}, ""});
    }
    ASSERT_TRUE(collection->Upsert(points.batch()).status.ok());
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  CollectionSchema schema_;
  Random random_{21};
};

TEST_P(ChurnTest, FiveTurnoversCostNoRecall) {
  auto database = Database::Open(folder_.path(), options_);
  ASSERT_TRUE(database.ok()) << database.status();
  const auto collection = *(*database)->CreateCollection(schema_);
  Oracle oracle(schema_);
  std::vector<uint64_t> live(kPoints);
  for (uint64_t i = 0; i < kPoints; ++i) live[i] = i;
  Upsert(collection.get(), live, &oracle);
  ASSERT_TRUE(Finished(collection->Optimize(1)).ok());
  uint64_t next_id = kPoints;
  for (int round = 0; round < kRounds; ++round) {
    // Half of them get new vectors, half are deleted and others come.
    for (size_t i = 0; i < kReplaced; ++i) {
      std::swap(live[i], live[i + random_.Uniform(live.size() - i)]);
    }
    const size_t half = kReplaced / 2;
    std::vector<PointId> gone;
    for (size_t i = 0; i < half; ++i) {
      gone.push_back(PointId(live[i]));
      oracle.Delete(gone.back());
      live[i] = next_id++;
    }
    ASSERT_TRUE(collection->Delete(gone).status.ok());
    Upsert(collection.get(), {live.begin(), live.begin() + kReplaced}, &oracle);
    if (round % 6 == 5) {
      ASSERT_TRUE(Finished(collection->Optimize(2)).ok());
    }
  }
  EXPECT_EQ(collection->Count(), kPoints);
  // What waits for its index is searched exactly, which would be no test.
  ASSERT_TRUE(Finished(collection->Optimize(1)).ok());

  schema_.name = "fresh";
  const auto fresh = *(*database)->CreateCollection(schema_);
  BatchBuilder points(schema_);
  const auto found = collection->Get(
      [&] {
        std::vector<PointId> ids;
        for (const uint64_t id : live) ids.push_back(PointId(id));
        return ids;
      }(),
      {false, {0}});
  ASSERT_TRUE(found.ok()) << found.status();
  for (const auto& point : *found) {
    ASSERT_TRUE(point.has_value());
    points.Add(point->id, {point->vectors[0]});
  }
  ASSERT_TRUE(fresh->Upsert(points.batch()).status.ok());
  ASSERT_TRUE(Finished(fresh->Optimize(1)).ok());
  EXPECT_EQ(fresh->Count(), collection->Count());

  std::vector<std::string> queries;
  for (int i = 0; i < 500; ++i) queries.push_back(Vector());
  for (const std::optional<size_t> ef :
       {std::optional<size_t>(), std::optional<size_t>(24)}) {
    const double churned = Recall(*collection, oracle, 0, queries, 10, ef);
    const double of_fresh = Recall(*fresh, oracle, 0, queries, 10, ef);
    EXPECT_GE(churned, of_fresh - 0.01) << "fresh: " << of_fresh;
    EXPECT_GE(of_fresh, 0.93);
  }
}

INSTANTIATE_TEST_SUITE_P(Indexes, ChurnTest,
                         ::testing::Values(IndexKind::kHnsw, IndexKind::kIvf),
                         [](const auto& kind) {
                           return kind.param == IndexKind::kHnsw ? "Hnsw"
                                                                 : "Ivf";
                         });

}  // namespace
}  // namespace vicinal
