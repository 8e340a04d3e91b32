// Where segments are, what they take, and what was said before about it.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/mutex.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/engine/memory_plan.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kDim = 64;

class MemoryTest : public ::testing::TestWithParam<IndexKind> {
 protected:
  MemoryTest() {
    options_.growing_segment_bytes = size_t{16} << 20;
    options_.warn = [this](absl::string_view what) {
      MutexLock lock(mu_);
      warnings_.emplace_back(what);
    };
    Open();
  }
  void Open() {
    auto database = Database::Open(folder_.path(), options_);
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
    auto collection = database_->GetCollection("m");
    if (collection.ok()) collection_ = *collection;
  }
  void Reopen() {
    collection_.reset();
    database_.reset();
    Open();
  }
  CollectionSchema Schema(MemorySpec memory) const {
    CollectionSchema schema = SchemaOf("m", kDim, Metric::kL2);
    schema.vectors[0].index = GetParam();
    schema.memory = memory;
    return schema;
  }
  std::string Vector() {
    std::vector<float> values(kDim);
    for (float& value : values) value = static_cast<float>(random_.Gaussian());
    return Bytes(values);
  }
  void CreateAndFill(const CollectionSchema& schema, uint64_t count) {
    auto collection = database_->CreateCollection(schema);
    ASSERT_TRUE(collection.ok()) << collection.status();
    collection_ = *collection;
    BatchBuilder points(schema);
    for (uint64_t id = 0; id < count; ++id) points.Add(PointId(id), {Vector()});
    ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
    Optimize();
  }
  void Optimize() {
    const absl::Status status = Finished(collection_->Optimize(1));
    ASSERT_TRUE(status.ok()) << status;
  }
  SegmentStats Segment() const {
    const CollectionStats stats = collection_->stats();
    EXPECT_EQ(stats.segments.size(), 1u);
    return stats.segments.at(0);
  }
  std::vector<Hit> Find(const std::string& vector) const {
    std::vector<Query> queries;
    queries.push_back(Nearest("v", vector, 10));
    const auto found = collection_->Search(queries, {});
    EXPECT_TRUE(found.ok()) << found.status();
    return found->at(0).hits;
  }
  std::vector<std::string> warnings() {
    MutexLock lock(mu_);
    return warnings_;
  }

  Random random_{3};
  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  Mutex mu_;
  std::vector<std::string> warnings_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_P(MemoryTest, EveryTierGivesTheSameAnswers) {
  CreateAndFill(Schema({}), 4'000);
  const SegmentStats in_ram = Segment();
  EXPECT_GT(in_ram.ram_bytes, in_ram.code_bytes);
  EXPECT_EQ(in_ram.pinned_bytes, 0u);
  std::vector<std::string> queries;
  std::vector<std::vector<Hit>> expected;
  for (int i = 0; i < 20; ++i) {
    queries.push_back(Vector());
    expected.push_back(Find(queries.back()));
  }
  for (const MemoryTier tier : {MemoryTier::kMapped, MemoryTier::kPinned}) {
    const auto updated =
        database_->UpdateIndexParams("m", {}, MemorySpec{.tier = tier});
    ASSERT_TRUE(updated.ok()) << updated.status();
    Reopen();
    EXPECT_EQ(collection_->schema().memory.tier, tier);
    const SegmentStats placed = Segment();
    if (tier == MemoryTier::kMapped) {
      EXPECT_EQ(placed.ram_bytes, 0u);
      EXPECT_EQ(placed.pinned_bytes, 0u);
    } else {
      EXPECT_EQ(placed.ram_bytes, in_ram.ram_bytes);
      // Unless this machine lets nobody lock so much.
      if (warnings().empty()) {
        EXPECT_GE(placed.pinned_bytes, placed.ram_bytes + placed.vector_bytes);
      }
    }
    for (size_t i = 0; i < queries.size(); ++i) {
      const std::vector<Hit> found = Find(queries[i]);
      ASSERT_EQ(found.size(), expected[i].size());
      for (size_t j = 0; j < found.size(); ++j) {
        EXPECT_EQ(found[j].id, expected[i][j].id);
        EXPECT_EQ(found[j].distance, expected[i][j].distance);
      }
    }
    EXPECT_GT(collection_->resident_file_bytes(), 0u);
  }
}

TEST_P(MemoryTest, ABudgetThatHoldsTheDataIsKept) {
  CreateAndFill(Schema({}), 4'000);
  const uint64_t full = Segment().ram_bytes;
  const uint64_t budget = full * 9 / 10;
  ASSERT_TRUE(
      database_->UpdateIndexParams("m", {}, MemorySpec{.budget_bytes = budget})
          .ok());
  BatchBuilder one(collection_->schema());
  one.Add(PointId(uint64_t{4'000}), {Vector()});
  ASSERT_TRUE(collection_->Upsert(one.batch()).status.ok());
  Optimize();
  const SegmentStats smaller = Segment();
  EXPECT_EQ(smaller.num_rows, 4'001u);
  EXPECT_GT(smaller.ram_bytes, 0u);
  EXPECT_LE(smaller.ram_bytes, budget);
  EXPECT_THAT(warnings(), IsEmpty());
  Reopen();
  EXPECT_EQ(Segment().ram_bytes, smaller.ram_bytes);
}

TEST_P(MemoryTest, ABudgetThatCannotHoldTheDataMapsIt) {
  CreateAndFill(Schema({.budget_bytes = 10'000}), 4'000);
  EXPECT_EQ(Segment().ram_bytes, 0u);
  EXPECT_GT(Segment().code_bytes, 0u);
  EXPECT_THAT(warnings(), ElementsAre(HasSubstr("memory budget of 10000")));
  EXPECT_EQ(Find(Vector()).size(), 10u);
  Reopen();
  EXPECT_EQ(Segment().ram_bytes, 0u);
  EXPECT_EQ(collection_->Count(), 4'000u);
}

TEST_P(MemoryTest, AnEstimateIsNearWhatIsTaken) {
  // A graph of 12,000 takes minutes under a sanitizer.
  const std::vector<size_t> counts = GetParam() == IndexKind::kHnsw
                                         ? std::vector<size_t>{4'000}
                                         : std::vector<size_t>{4'000, 12'000};
  for (const size_t count : counts) {
    const CollectionSchema schema = Schema({});
    const ResourceEstimate estimate = EstimateResources(schema, count, 1);
    EXPECT_THAT(estimate.warnings, IsEmpty());
    EXPECT_GT(estimate.build_seconds, 0);
    CreateAndFill(schema, count);
    const SegmentStats taken = Segment();
    EXPECT_NEAR(estimate.ram_bytes, taken.ram_bytes, 0.2 * taken.ram_bytes);
    EXPECT_NEAR(estimate.mapped_bytes + estimate.ram_bytes, taken.file_bytes,
                0.2 * taken.file_bytes);
    EXPECT_GT(estimate.disk_bytes, taken.file_bytes);
    collection_.reset();
    ASSERT_TRUE(database_->DropCollection("m").ok());
  }
}

INSTANTIATE_TEST_SUITE_P(Indexes, MemoryTest,
                         ::testing::Values(IndexKind::kHnsw, IndexKind::kIvf),
                         [](const auto& kind) {
                           return kind.param == IndexKind::kHnsw ? "Hnsw"
                                                                 : "Ivf";
                         });

TEST(MemoryPlanTest, AnEstimateSaysWhatABudgetCannotHold) {
  CollectionSchema schema = SchemaOf("m", 768, Metric::kCosine);
  const uint64_t n = 1'000'000;
  const ResourceEstimate free = EstimateResources(schema, n, 2);
  // 2 bits a dimension and 16 links: an eighth of floats and links.
  EXPECT_LT(free.ram_bytes, 0.12 * n * (768 * 4 + 136));
  EXPECT_GT(free.ram_bytes, 0.08 * n * (768 * 4 + 136));
  EXPECT_GT(free.disk_bytes, 2 * n * 768 * 4);
  schema.memory.budget_bytes = free.ram_bytes * 3 / 4;
  const ResourceEstimate fewer = EstimateResources(schema, n, 2);
  EXPECT_THAT(fewer.warnings, IsEmpty());
  EXPECT_LE(fewer.ram_bytes, schema.memory.budget_bytes);
  schema.memory.budget_bytes = 1 << 20;
  const ResourceEstimate none = EstimateResources(schema, n, 2);
  EXPECT_THAT(none.warnings, ElementsAre(HasSubstr("1048576")));
  EXPECT_EQ(none.ram_bytes, 0u);
  schema.memory.tier = MemoryTier::kMapped;
  schema.memory.budget_bytes = 0;
  EXPECT_EQ(EstimateResources(schema, n, 2).ram_bytes, 0u);
  EXPECT_EQ(EstimateResources(schema, 0, 0).disk_bytes, 0u);
}

TEST(MemoryPlanTest, ABudgetTakesBitsFromWhatNobodyChose) {
  CollectionSchema schema = SchemaOf("m", 768, Metric::kL2);
  const Layout layout = LayoutOf(schema);
  const size_t n = 100'000;
  EXPECT_EQ(ChooseCodec(schema, layout, 0, n, n)->avg_bits, 2);
  float last = 2;
  for (const uint64_t per_point : {330, 280, 240, 190, 100}) {
    schema.memory.budget_bytes = per_point * n;
    const auto codec = ChooseCodec(schema, layout, 0, n, n);
    EXPECT_EQ(codec->kind, CodecKind::kSaq);
    EXPECT_LE(codec->avg_bits, last) << per_point;
    EXPECT_GE(codec->avg_bits, 0.5f);
    last = codec->avg_bits;
  }
  EXPECT_EQ(last, 0.5f);
  // A small segment of a large collection has its share, too.
  const auto early = ChooseCodec(schema, layout, 0, 5'000, n);
  EXPECT_EQ(early->kind, CodecKind::kRbq);
  EXPECT_EQ(early->avg_bits, 1);
  schema.vectors[0].codec = {CodecSpec::Kind::kSaq, 4};
  EXPECT_EQ(ChooseCodec(schema, layout, 0, n, n)->avg_bits, 4);
}

}  // namespace
}  // namespace vicinal
