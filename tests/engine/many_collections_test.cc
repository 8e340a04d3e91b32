// Many collections in one database: what an idle one costs, and that work of
// one of them is found among the others.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 64;

// Of files of collections, not of storage.
size_t NumDescriptors() {
  size_t count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string path =
        std::filesystem::read_symlink(entry.path(), gone).string();
    count += absl::StrContains(path, "/collections/");
  }
  return count;
}

size_t NumMappings() {
  std::ifstream maps("/proc/self/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);) ++count;
  return count;
}

class ManyCollectionsTest : public ::testing::Test {
 protected:
  void Open() {
    database_.reset();
    auto database = Database::Open(folder_.path(), options_);
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
  }
  void Create(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const auto created = database_->CreateCollection(
          SchemaOf(absl::StrCat("c", i), kDim, Metric::kL2));
      ASSERT_TRUE(created.ok()) << created.status();
    }
  }
  std::shared_ptr<Collection> At(size_t i) const {
    return *database_->GetCollection(absl::StrCat("c", i));
  }
  void Upsert(Collection* collection, uint64_t first, uint64_t count) {
    BatchBuilder points(collection->schema());
    for (uint64_t id = first; id < first + count; ++id) {
      points.Add(PointId(id),
                 {RandomVector(collection->schema().vectors[0], random_)});
    }
    const absl::Status status = collection->Upsert(points.batch()).status;
    ASSERT_TRUE(status.ok()) << status;
  }

  Random random_{5};
  TempFolder folder_;
  HookLog hooks_;
  DatabaseOptions options_ = TestOptions();
  std::unique_ptr<Database> database_;
};

TEST_F(ManyCollectionsTest, AnIdleOneHasNoMappingOrDescriptorOfItsOwn) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer has mappings of its own";
#endif
  constexpr size_t kCount = 300;
  // Growing segments as large as they are by default.
  options_.growing_segment_bytes = DatabaseOptions().growing_segment_bytes;
  Open();
  const size_t mappings = NumMappings();
  Create(kCount);
  for (size_t i = 0; i < kCount; ++i) Upsert(At(i).get(), 0, 100);
  const auto check = [&] {
    EXPECT_LT(NumMappings(), mappings + kCount / 2);
    EXPECT_EQ(NumDescriptors(), 0u);
  };
  check();
  Open();
  check();
  for (size_t i = 0; i < kCount; ++i) EXPECT_EQ(At(i)->Count(), 100u);
}

TEST_F(ManyCollectionsTest, ASealedSegmentIsTwoMappingsAndNoDescriptor) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer has mappings of its own";
#endif
  constexpr size_t kCount = 40;
  Open();
  Create(kCount);
  const size_t mappings = NumMappings();
  for (size_t i = 0; i < kCount; ++i) {
    Upsert(At(i).get(), 0, 50);
    ASSERT_TRUE(Finished(At(i)->Optimize(1)).ok());
  }
  EXPECT_LT(NumMappings(), mappings + 3 * kCount);
  EXPECT_EQ(NumDescriptors(), 0u);
  Open();
  EXPECT_LT(NumMappings(), mappings + 3 * kCount);
  EXPECT_EQ(NumDescriptors(), 0u);
  for (size_t i = 0; i < kCount; ++i) EXPECT_EQ(At(i)->Count(), 50u);
}

// Sixteen idle collections are looked at in a round whatever they were told:
// of 500 only those that were written to or asked can be so fast.
TEST_F(ManyCollectionsTest, WorkOfOneIsFoundAmongThem) {
  constexpr size_t kCount = 5;
  options_.test_hook = hooks_.hook();
  options_.recall_check_ms = 1;
  options_.idle_seal_ms = 10;
  Open();
  Create(kCount);
  const auto busy = At(kCount / 2);
  // Sealed when it is full, and, 1,000 rows, when nobody writes any more.
  Upsert(busy.get(), 0, 3'000);
  ASSERT_TRUE(hooks_.WaitFor("build:done", 1));
  const auto eventually = [&](auto what) {
    while (true) {
      const size_t num_built = hooks_.CountOf("build:done");
      if (what()) return true;
      if (!hooks_.WaitFor("build:done", num_built + 1)) return false;
    }
  };
  EXPECT_TRUE(eventually([&] {
    const CollectionStats stats = busy->stats();
    size_t growing = 0;
    for (const SegmentStats& segment : stats.segments) {
      growing += segment.state == SegmentState::kSealed ? 0 : segment.num_rows;
    }
    return growing < 1'000;
  }));
  // Asked again to watch the recall, where a segment has an index.
  ASSERT_TRUE(Finished(busy->Optimize(1)).ok());
  for (size_t i = 0; i < 64; ++i) {
    std::vector<Query> queries;
    queries.push_back(
        Nearest("v", RandomVector(busy->schema().vectors[0], random_), 10));
    ASSERT_TRUE(busy->Search(queries, {}).ok());
  }
  EXPECT_TRUE(hooks_.WaitFor("recall:checked", 1));
  // Built anew without its dead rows.
  std::vector<PointId> dead;
  for (uint64_t id = 0; id < 1'500; ++id) dead.emplace_back(id);
  ASSERT_TRUE(busy->Delete(dead).status.ok());
  EXPECT_TRUE(eventually([&] {
    size_t deleted = 0;
    for (const SegmentStats& segment : busy->stats().segments) {
      deleted += segment.num_deleted;
    }
    return deleted < 1'500;
  }));
  // Of all collections after an open.
  database_.reset();
  const size_t num_verified = hooks_.CountOf("verify:done");
  Open();
  EXPECT_TRUE(hooks_.WaitFor("verify:done", num_verified + 1));
}

TEST_F(ManyCollectionsTest, DroppedOnesAreGoneAndOthersStay) {
  constexpr size_t kCount = 100;
  options_.test_hook = hooks_.hook();
  Open();
  Create(kCount);
  for (size_t i = 0; i < kCount; ++i) Upsert(At(i).get(), 0, 10);
  for (size_t i = 0; i < kCount; i += 2) {
    ASSERT_TRUE(database_->DropCollection(absl::StrCat("c", i)).ok());
  }
  ASSERT_TRUE(hooks_.WaitFor("drop:done", kCount / 2));
  Open();
  EXPECT_EQ(database_->ListCollections().size(), kCount / 2);
  for (size_t i = 1; i < kCount; i += 2) EXPECT_EQ(At(i)->Count(), 10u);
}

}  // namespace
}  // namespace vicinal
