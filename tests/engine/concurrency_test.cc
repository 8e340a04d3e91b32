// Writers, searchers and builds at the same time. Also run under
// ThreadSanitizer.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

class ConcurrencyTest : public ::testing::Test {
 protected:
  ConcurrencyTest() {
    options_.growing_segment_bytes = size_t{16} << 10;
    options_.test_hook = log_.hook();
    auto database = Database::Open(folder_.path(), options_);
    EXPECT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
    CollectionSchema schema = SchemaOf("c", 4, Metric::kL2);
    schema.vectors[0].hnsw.ef_construction = 16;
    collection_ = *database_->CreateCollection(schema);
  }
  SearchResult SearchAll(size_t k, bool exact) {
    std::vector<Query> queries;
    queries.push_back(Nearest("v", Bytes({0, 0, 0, 0}), k, exact));
    const auto results = collection_->Search(queries, {});
    EXPECT_TRUE(results.ok()) << results.status();
    return results->front();
  }

  TempFolder folder_;
  HookLog log_;
  DatabaseOptions options_ = TestOptions();
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

// Points are replaced all the time, in place and across builds; their set
// never changes. Each search must see each of them exactly once.
TEST_F(ConcurrencyTest, APointThatIsReplacedIsNeverMissingNorTwice) {
  constexpr uint64_t kPoints = 120;
  const VectorField field = collection_->schema().vectors[0];
  const auto upsert = [&](Random& random, uint64_t first, size_t size) {
    BatchBuilder points(collection_->schema());
    for (uint64_t i = 0; i < size; ++i) {
      points.Add(PointId((first + i) % kPoints), {RandomVector(field, random)});
    }
    return collection_->Upsert(points.batch()).status;
  };
  Random setup(1);
  ASSERT_TRUE(upsert(setup, 0, kPoints).ok());
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (uint64_t w = 0; w < 2; ++w) {
    threads.emplace_back([&, w] {
      Random random(w + 10);
      while (!stop) {
        ASSERT_TRUE(
            upsert(random, random.Uniform(kPoints), 1 + random.Uniform(60))
                .ok());
      }
    });
  }
  for (int s = 0; s < 2; ++s) {
    threads.emplace_back([&, s] {
      while (!stop) {
        const SearchResult result = SearchAll(kPoints + 10, s == 0);
        std::set<PointId> ids;
        for (const Hit& hit : result.hits) ids.insert(hit.id);
        ASSERT_EQ(result.hits.size(), kPoints);
        ASSERT_EQ(ids.size(), kPoints);
        // Fewer than there are: still as many as asked for.
        ASSERT_EQ(SearchAll(kPoints / 2, s == 0).hits.size(), kPoints / 2);
      }
    });
  }
  EXPECT_TRUE(log_.WaitFor("build:done", 25));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(collection_->Count(), kPoints);
}

TEST_F(ConcurrencyTest, AWriterReadsItsOwnWritesWhileOthersWrite) {
  const VectorField field = collection_->schema().vectors[0];
  std::vector<std::thread> writers;
  for (uint64_t w = 0; w < 3; ++w) {
    writers.emplace_back([&, w] {
      Random random(w);
      for (uint64_t i = 0; i < 60; ++i) {
        const PointId id(w * 1'000 + i % 20);
        const std::string vector = RandomVector(field, random);
        BatchBuilder points(collection_->schema());
        points.Add(id, {vector});
        ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
        std::vector<Query> queries;
        queries.push_back(Nearest("v", vector, 1));
        const auto found = collection_->Search(queries, {});
        ASSERT_TRUE(found.ok());
        ASSERT_EQ(found->front().hits.at(0).id, id);
        ASSERT_EQ(found->front().hits.at(0).distance, 0);
        if (i % 20 == 19) {
          ASSERT_TRUE(collection_->Delete({id}).status.ok());
          const auto after = collection_->Search(queries, {});
          ASSERT_TRUE(after.ok());
          for (const Hit& hit : after->front().hits) ASSERT_NE(hit.id, id);
        }
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(collection_->Count(), 3u * 19);
}

TEST_F(ConcurrencyTest, CollectionsComeAndGoUnderSearchesAndWrites) {
  std::atomic<bool> stop = false;
  const auto use = [&](uint64_t seed) {
    Random random(seed);
    while (!stop) {
      const auto collection = database_->GetCollection("other");
      if (!collection.ok()) continue;
      BatchBuilder points((*collection)->schema());
      for (int i = 0; i < 50; ++i) {
        points.Add(PointId(random.Uniform(500)),
                   {RandomVector((*collection)->schema().vectors[0], random)});
      }
      const absl::Status status = (*collection)->Upsert(points.batch()).status;
      ASSERT_TRUE(status.ok() || absl::IsNotFound(status)) << status;
      std::vector<Query> queries(3);
      for (Query& query : queries) {
        query = Nearest("v", Bytes({1, 0, 0, 0}), 5);
      }
      ASSERT_TRUE((*collection)->Search(queries, {}).ok());
    }
  };
  std::thread first(use, 1);
  std::thread second(use, 2);
  for (int round = 0; round < 15; ++round) {
    const auto made =
        database_->CreateCollection(SchemaOf("other", 4, Metric::kL2));
    ASSERT_TRUE(made.ok()) << made.status();
    while ((*made)->Count() < 100) std::this_thread::yield();
    ASSERT_TRUE(database_->DropCollection("other").ok());
  }
  stop = true;
  first.join();
  second.join();
  EXPECT_TRUE(log_.WaitFor("drop:done", 15));
}

TEST_F(ConcurrencyTest, AnOptimizeCanBeCancelled) {
  Random random(3);
  BatchBuilder points(collection_->schema());
  for (uint64_t id = 0; id < 20'000; ++id) {
    points.Add(PointId(id),
               {RandomVector(collection_->schema().vectors[0], random)});
  }
  ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
  const auto operation = collection_->Optimize(1);
  ASSERT_TRUE(operation.ok());
  (*operation)->cancel().Cancel();
  const absl::Status status = Finished(operation);
  EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << status;
  EXPECT_EQ(SearchAll(10, false).hits.size(), 10u);
  EXPECT_EQ(collection_->Count(), 20'000u);
  EXPECT_TRUE(Finished(collection_->Optimize(1)).ok());
}

}  // namespace
}  // namespace vicinal
