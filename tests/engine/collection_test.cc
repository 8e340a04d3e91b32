#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/mutex.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

PointSelection Everything() { return {true, {0}}; }

class CollectionTest : public ::testing::Test {
 protected:
  CollectionTest() { Open(); }

  void Open() {
    auto database = Database::Open(folder_.path(), options_);
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
  }
  void Reopen() {
    collection_.reset();
    database_.reset();
    Open();
    auto collection = database_->GetCollection("c");
    ASSERT_TRUE(collection.ok()) << collection.status();
    collection_ = *collection;
  }
  void Create(CollectionSchema schema) {
    auto collection = database_->CreateCollection(std::move(schema));
    ASSERT_TRUE(collection.ok()) << collection.status();
    collection_ = *collection;
  }
  // Two-dimensional f32 under L2.
  void CreatePlane() { Create(SchemaOf("c", 2, Metric::kL2)); }

  WriteOutcome Put(uint64_t id, float x, float y, std::string payload = "") {
    BatchBuilder points(collection_->schema());
    points.Add(PointId(id), {Bytes({x, y})}, std::move(payload));
    return collection_->Upsert(points.batch());
  }
  std::vector<uint64_t> Find(float x, float y, size_t k) {
    std::vector<Query> queries;
    queries.push_back(Nearest("v", Bytes({x, y}), k));
    const auto results = collection_->Search(queries, {});
    EXPECT_TRUE(results.ok()) << results.status();
    std::vector<uint64_t> ids;
    for (const Hit& hit : results->front().hits) {
      ids.push_back(hit.id.number());
    }
    return ids;
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_F(CollectionTest, FindsAPointAtOnceAfterItsUpsert) {
  CreatePlane();
  const WriteOutcome outcome = Put(7, 1, 2);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.sequence, 1u);
  EXPECT_EQ(outcome.result.num_written, 1u);
  EXPECT_THAT(Find(1, 2, 5), ElementsAre(7));
  EXPECT_EQ(collection_->Count(), 1u);
}

TEST_F(CollectionTest, ReplacesAPointAndItsPayload) {
  CreatePlane();
  Put(1, 0, 0, R"({"color":"red"})");
  Put(2, 5, 5);
  Put(1, 9, 9, R"({"color":"blue"})");
  EXPECT_EQ(collection_->Count(), 2u);
  EXPECT_THAT(Find(0, 0, 5), ElementsAre(2, 1));
  const auto points = collection_->Get({PointId(1)}, Everything());
  ASSERT_TRUE(points.ok()) << points.status();
  EXPECT_EQ((*points)[0]->payload, R"({"color":"blue"})");
  EXPECT_EQ((*points)[0]->vectors[0], Bytes({9, 9}));
  EXPECT_EQ((*points)[0]->sequence, 3u);
}

TEST_F(CollectionTest, AReplacementWithoutPayloadHasNone) {
  CreatePlane();
  Put(1, 0, 0, R"({"color":"red"})");
  Put(1, 0, 0);
  const auto points = collection_->Get({PointId(1)}, Everything());
  ASSERT_TRUE(points.ok()) << points.status();
  EXPECT_EQ((*points)[0]->payload, "");
}

TEST_F(CollectionTest, TheLastOfEqualIdsInABatchWins) {
  CreatePlane();
  BatchBuilder points(collection_->schema());
  points.Add(PointId(1), {Bytes({0, 0})});
  points.Add(PointId(1), {Bytes({4, 4})});
  const WriteOutcome outcome = collection_->Upsert(points.batch());
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.num_written, 1u);
  EXPECT_EQ(collection_->Count(), 1u);
  const auto stored = collection_->Get({PointId(1)}, Everything());
  EXPECT_EQ((*stored)[0]->vectors[0], Bytes({4, 4}));
}

TEST_F(CollectionTest, DeletedPointsAreGoneAndUnknownOnesNoError) {
  CreatePlane();
  Put(1, 0, 0);
  Put(2, 1, 1);
  const WriteOutcome outcome =
      collection_->Delete({PointId(1), PointId(1), PointId(99)});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.num_written, 1u);
  EXPECT_THAT(Find(0, 0, 5), ElementsAre(2));
  const auto points = collection_->Get({PointId(1), PointId(2)}, {});
  ASSERT_TRUE(points.ok());
  EXPECT_FALSE((*points)[0].has_value());
  EXPECT_TRUE((*points)[1].has_value());
  EXPECT_EQ(collection_->Delete({PointId(1)}).result.sequence, 0u);
}

TEST_F(CollectionTest, NumbersUuidsAndStringsAreDifferentIds) {
  CreatePlane();
  BatchBuilder points(collection_->schema());
  const PointId uuid =
      *PointId::ParseUuid("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
  points.Add(PointId(7), {Bytes({0, 0})});
  points.Add(*PointId::FromString("7"), {Bytes({1, 1})});
  points.Add(uuid, {Bytes({2, 2})});
  ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
  EXPECT_EQ(collection_->Count(), 3u);
  Reopen();
  EXPECT_EQ(collection_->Count(), 3u);
  const auto stored = collection_->Get({uuid}, Everything());
  EXPECT_EQ((*stored)[0]->vectors[0], Bytes({2, 2}));
}

TEST_F(CollectionTest, ScrollsInIdOrderInPages) {
  CreatePlane();
  for (uint64_t id : {5, 3, 9, 1, 7}) Put(id, static_cast<float>(id), 0);
  std::vector<std::vector<uint64_t>> pages;
  const auto collect =
      [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
    pages.emplace_back();
    for (const StoredPoint& point : page) {
      pages.back().push_back(point.id.number());
    }
    return true;
  };
  ASSERT_TRUE(collection_->Scroll(PointId(1), 3, {}, {}, collect).ok());
  EXPECT_THAT(pages, ElementsAre(ElementsAre(3, 5, 7), ElementsAre(9)));
}

TEST_F(CollectionTest, AScrollSeesOneMomentAndStopsWhenTold) {
  CreatePlane();
  for (uint64_t id = 0; id < 6; ++id) Put(id, 0, 0);
  size_t seen = 0;
  const absl::Status status = collection_->Scroll(
      std::nullopt, 2, {}, {},
      [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
        seen += page.size();
        Put(100 + seen, 0, 0);
        return seen < 4;
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(seen, 4u);
}

TEST_F(CollectionTest, AReadStopsSoonAfterItsMostBytes) {
  CreatePlane();
  const std::string payload = R"({"a":")" + std::string(10'000, 'x') + R"("})";
  for (uint64_t id = 0; id < 7; ++id) Put(id, 0, 0, payload);
  PointSelection selection = Everything();
  selection.max_bytes = 25'000;
  EXPECT_TRUE(collection_->Get({PointId(1), PointId(2)}, selection).ok());
  const auto all = collection_->Get(std::vector(5'000, PointId(1)), selection);
  EXPECT_EQ(all.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(all.status().message()),
              HasSubstr("the first 32 of 5000 points"));
  std::vector<size_t> pages;
  const absl::Status status = collection_->Scroll(
      std::nullopt, 100, selection, {},
      [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
        pages.push_back(page.size());
        return true;
      });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(pages, ElementsAre(2, 2, 2, 1));
}

TEST_F(CollectionTest, SearchReturnsAllPointsWhenThereAreFewerThanK) {
  CreatePlane();
  for (uint64_t id = 0; id < 3; ++id) Put(id, static_cast<float>(id), 0);
  EXPECT_THAT(Find(0, 0, 100), ElementsAre(0, 1, 2));
  EXPECT_THAT(Find(0, 0, 1), ElementsAre(0));
}

TEST_F(CollectionTest, AnEmptyCollectionFindsNothing) {
  CreatePlane();
  EXPECT_THAT(Find(0, 0, 3), IsEmpty());
}

TEST_F(CollectionTest, FetchLeavesOutVersionsThatWereReplaced) {
  CreatePlane();
  Put(1, 0, 0, R"({"a":1})");
  Put(2, 1, 1, R"({"a":2})");
  std::vector<Query> queries;
  queries.push_back(Nearest("v", Bytes({0, 0}), 2));
  const auto results = collection_->Search(queries, {});
  ASSERT_TRUE(results.ok());
  Put(2, 8, 8);
  const auto points = collection_->Fetch(results->front().hits, Everything());
  ASSERT_TRUE(points.ok()) << points.status();
  ASSERT_THAT(*points, SizeIs(2));
  EXPECT_EQ((*points)[0]->payload, R"({"a":1})");
  EXPECT_FALSE((*points)[1].has_value());
}

TEST_F(CollectionTest, CosineDistanceIsOneMinusCosineForEveryType) {
  for (const ElementType type : {ElementType::kFloat32, ElementType::kInt8}) {
    const std::string name = type == ElementType::kInt8 ? "i" : "f";
    Create(SchemaOf(name, 2, Metric::kCosine, type));
    const std::string ahead =
        type == ElementType::kInt8 ? std::string("\x03\x00", 2) : Bytes({3, 0});
    const std::string aside =
        type == ElementType::kInt8 ? std::string("\x00\x05", 2) : Bytes({0, 5});
    BatchBuilder points(collection_->schema());
    points.Add(PointId(1), {ahead});
    points.Add(PointId(2), {aside});
    ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
    std::vector<Query> queries;
    queries.push_back(Nearest("v", ahead, 2));
    const auto results = collection_->Search(queries, {});
    ASSERT_TRUE(results.ok()) << results.status();
    EXPECT_EQ(results->front().hits[0].distance, 0);
    EXPECT_EQ(results->front().hits[1].distance, 1);
    const auto stored = collection_->Get({PointId(1)}, Everything());
    EXPECT_EQ((*stored)[0]->vectors[0], ahead) << "as it was sent";
  }
}

TEST_F(CollectionTest, StaysAfterClosingAndOpening) {
  CreatePlane();
  for (uint64_t id = 0; id < 50; ++id) {
    Put(id, static_cast<float>(id), 0, R"({"n":1})");
  }
  collection_->Delete({PointId(3)});
  Reopen();
  EXPECT_EQ(collection_->Count(), 49u);
  EXPECT_THAT(Find(3, 0, 2), ElementsAre(2, 4));
  EXPECT_EQ(Put(50, 0, 0).result.sequence, 52u);
}

TEST_F(CollectionTest, OptimizeLeavesOneSealedSegment) {
  CreatePlane();
  Random random(5);
  for (int batch = 0; batch < 12; ++batch) {
    BatchBuilder points(collection_->schema());
    for (int i = 0; i < 500; ++i) {
      points.Add(PointId(random.Uniform(4'000)),
                 {RandomVector(collection_->schema().vectors[0], random)});
    }
    ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
  }
  const uint64_t count = collection_->Count();
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  const CollectionStats stats = collection_->stats();
  ASSERT_THAT(stats.segments, SizeIs(1));
  EXPECT_EQ(stats.segments[0].state, SegmentState::kSealed);
  EXPECT_EQ(stats.segments[0].num_rows, count);
  EXPECT_EQ(stats.segments[0].num_deleted, 0u);
  EXPECT_GT(stats.segments[0].index_bytes, 0u);
  EXPECT_EQ(stats.num_indexed, count);
  EXPECT_EQ(collection_->Count(), count);
}

TEST_F(CollectionTest, TellsWhatWasBuiltAndHowLongItTook) {
  database_.reset();
  struct Told {
    Mutex mu;
    std::string text;
  };
  const auto told = std::make_shared<Told>();
  options_.inform = [told](absl::string_view message) {
    MutexLock lock(told->mu);
    told->text = std::string(message);
  };
  Open();
  CreatePlane();
  BatchBuilder points(collection_->schema());
  for (uint64_t id = 0; id < 300; ++id) {
    points.Add(PointId(id), {Bytes({static_cast<float>(id), 1})});
  }
  ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  {
    MutexLock lock(told->mu);
    EXPECT_THAT(told->text, ::testing::MatchesRegex(
                                "Collection \"c\": segment [0-9]+ of 300 "
                                "rows was built in [0-9]+[.][0-9] s.*"));
    told->text = "";
  }
  // Nothing is left, and nothing built.
  std::vector<PointId> all;
  for (uint64_t id = 0; id < 300; ++id) all.emplace_back(id);
  ASSERT_TRUE(collection_->Delete(std::move(all)).status.ok());
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  MutexLock lock(told->mu);
  EXPECT_EQ(told->text, "");
}

// Holds builds back until it is told to let them go.
class HeldBuilds {
 public:
  std::function<void(absl::string_view)> hook() {
    return [this, go = go_.get_future().share()](absl::string_view point) {
      if (point != "build:start") return;
      num_started_.fetch_add(1);
      go.wait();
    };
  }
  void AwaitOne() const {
    while (num_started_.load() == 0) std::this_thread::yield();
  }
  void LetGo() { go_.set_value(); }

 private:
  std::promise<void> go_;
  std::atomic<int> num_started_ = 0;
};

TEST_F(CollectionTest, OptimizeEndsABuildWhoseWorkItDoesAgain) {
  database_.reset();
  HeldBuilds builds;
  options_.test_hook = builds.hook();
  options_.growing_segment_bytes = 4'000;  // 500 rows
  options_.build_delay_ms = 0;
  Open();
  CreatePlane();
  uint64_t id = 0;
  const auto put = [&](int num_rows) {
    BatchBuilder points(collection_->schema());
    for (int i = 0; i < num_rows; ++i, ++id) {
      points.Add(PointId(id), {Bytes({static_cast<float>(id), 1})});
    }
    ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
  };
  for (int i = 0; i < 4; ++i) put(500);
  builds.AwaitOne();
  put(700);  // which that build does not take
  const auto optimized = collection_->Optimize(1);
  put(1);  // behind it
  const auto operations = [&] { return database_->operations().List("c"); };
  ASSERT_THAT(operations(), SizeIs(2));
  builds.LetGo();
  ASSERT_TRUE(Finished(optimized).ok());
  const OperationInfo build = operations().back();
  EXPECT_EQ(build.kind, "index_build");
  EXPECT_TRUE(absl::IsCancelled(build.status)) << build.status;
  EXPECT_EQ(collection_->Count(), 2'701u);
  const CollectionStats stats = collection_->stats();
  EXPECT_EQ(stats.segments[0].state, SegmentState::kSealed);
  EXPECT_EQ(stats.segments[0].num_rows, 2'700u);
}

TEST_F(CollectionTest, OptimizeWaitsForABuildOfAllThereIs) {
  database_.reset();
  HeldBuilds builds;
  options_.test_hook = builds.hook();
  options_.growing_segment_bytes = size_t{1} << 20;
  options_.idle_seal_ms = 0;
  options_.build_delay_ms = 0;
  Open();
  CreatePlane();
  BatchBuilder points(collection_->schema());
  for (uint64_t id = 0; id < 1'500; ++id) {
    points.Add(PointId(id), {Bytes({static_cast<float>(id), 1})});
  }
  ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
  builds.AwaitOne();
  const auto optimized = collection_->Optimize(1);
  EXPECT_EQ(collection_->Delete({PointId(9'999)}).result.sequence, 0u);
  builds.LetGo();
  ASSERT_TRUE(Finished(optimized).ok());
  const auto operations = database_->operations().List("c");
  ASSERT_THAT(operations, SizeIs(2));
  EXPECT_EQ(operations.back().kind, "index_build");
  EXPECT_TRUE(operations.back().status.ok()) << operations.back().status;
  EXPECT_THAT(collection_->stats().segments, SizeIs(1));
}

TEST_F(CollectionTest, OptimizingNothingSucceeds) {
  CreatePlane();
  EXPECT_TRUE(Finished(collection_->Optimize(1)).ok());
  EXPECT_THAT(collection_->stats().segments, IsEmpty());
}

TEST_F(CollectionTest, OptimizeOfDeletedPointsLeavesNoSegment) {
  CreatePlane();
  Put(1, 0, 0);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  collection_->Delete({PointId(1)});
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  EXPECT_THAT(collection_->stats().segments, IsEmpty());
  Reopen();
  EXPECT_EQ(collection_->Count(), 0u);
}

TEST_F(CollectionTest, SeveralVectorsMayBeMissingInPoints) {
  CollectionSchema schema = SchemaOf("c", 2, Metric::kL2);
  VectorField second = schema.vectors[0];
  second.name = "w";
  second.dim = 3;
  second.metric = Metric::kCosine;
  schema.vectors.push_back(second);
  Create(schema);
  BatchBuilder points(collection_->schema());
  points.Add(PointId(1), {Bytes({1, 1}), ""});
  points.Add(PointId(2), {"", Bytes({0, 0, 2})});
  points.Add(PointId(3), {Bytes({3, 3}), Bytes({0, 2, 2})});
  ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
  for (const bool sealed : {false, true}) {
    if (sealed) {
      ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
    }
    EXPECT_THAT(Find(0, 0, 5), ElementsAre(1, 3));
    std::vector<Query> queries;
    queries.push_back(Nearest("w", Bytes({0, 0, 1}), 5));
    const auto results = collection_->Search(queries, {});
    ASSERT_TRUE(results.ok()) << results.status();
    ASSERT_THAT(results->front().hits, SizeIs(2));
    EXPECT_EQ(results->front().hits[0].id, PointId(2));
  }
}

TEST_F(CollectionTest, FusesRanksAndReranksByAnotherVector) {
  CollectionSchema schema = SchemaOf("c", 2, Metric::kL2);
  schema.vectors.push_back(schema.vectors[0]);
  schema.vectors[1].name = "w";
  Create(schema);
  BatchBuilder points(collection_->schema());
  points.Add(PointId(1), {Bytes({0, 0}), Bytes({9, 0})});
  points.Add(PointId(2), {Bytes({1, 0}), Bytes({1, 0})});
  points.Add(PointId(3), {Bytes({9, 0}), Bytes({0, 0})});
  points.Add(PointId(4), {Bytes({2, 0}), ""});
  ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());

  FuseStage fuse;
  fuse.inputs.push_back(Nearest("v", Bytes({0, 0}), 2));
  fuse.inputs.push_back(Nearest("w", Bytes({0, 0}), 2));
  fuse.k = 2;
  RerankStage rerank;
  rerank.input = std::make_unique<Query>(Nearest("v", Bytes({0, 0}), 3));
  rerank.vector_name = "w";
  rerank.query = Bytes({0, 0});
  rerank.k = 3;
  std::vector<Query> queries(2);
  queries[0].stage = std::move(fuse);
  queries[1].stage = std::move(rerank);
  const auto results = collection_->Search(queries, {});
  ASSERT_TRUE(results.ok()) << results.status();
  // Point 2 is second in both lists, 1 and 3 are first in one.
  ASSERT_THAT((*results)[0].hits, SizeIs(2));
  EXPECT_EQ((*results)[0].hits[0].id, PointId(2));
  EXPECT_FLOAT_EQ((*results)[0].hits[0].distance, -2.0f / 62);
  // v finds 1, 2, 4; 4 has no w.
  ASSERT_THAT((*results)[1].hits, SizeIs(2));
  EXPECT_EQ((*results)[1].hits[0].id, PointId(2));
  EXPECT_EQ((*results)[1].hits[0].distance, 1);
  EXPECT_EQ((*results)[1].hits[1].id, PointId(1));
  EXPECT_TRUE((*results)[1].exact);
}

TEST_F(CollectionTest, RefusesQueriesThatDoNotFit) {
  CreatePlane();
  const auto search = [&](Query query) {
    std::vector<Query> queries;
    queries.push_back(std::move(query));
    return collection_->Search(queries, {}).status();
  };
  EXPECT_TRUE(absl::IsInvalidArgument(search(Nearest("x", Bytes({1, 2}), 1))));
  EXPECT_TRUE(absl::IsInvalidArgument(search(Nearest("v", Bytes({1}), 1))));
  EXPECT_TRUE(absl::IsInvalidArgument(search(
      Nearest("v", Bytes({1, std::numeric_limits<float>::quiet_NaN()}), 1))));
}

TEST_F(CollectionTest, ASearchStopsWhenCancelled) {
  CreatePlane();
  Put(1, 0, 0);
  StopCondition stop;
  stop.cancelled = [] { return true; };
  std::vector<Query> queries;
  queries.push_back(Nearest("v", Bytes({1, 2}), 1));
  EXPECT_TRUE(absl::IsCancelled(collection_->Search(queries, stop).status()));
}

TEST_F(CollectionTest, StreamFramesAreAppliedOnceAndInOrder) {
  CreatePlane();
  const auto send = [&](uint64_t frame, uint64_t id) {
    BatchBuilder points(collection_->schema());
    points.Add(PointId(id), {Bytes({0, 0})});
    WriteOptions options;
    options.stream_frame = StreamFrame{"s", frame};
    return collection_->Upsert(points.batch(), options);
  };
  EXPECT_EQ(send(1, 10).result.num_written, 1u);
  EXPECT_EQ(send(2, 11).result.sequence, 2u);
  const WriteOutcome repeated = send(1, 12);
  EXPECT_TRUE(repeated.status.ok());
  EXPECT_EQ(repeated.result.num_written, 0u);
  EXPECT_EQ(repeated.result.sequence, 2u);
  const WriteOutcome gap = send(4, 13);
  EXPECT_TRUE(absl::IsFailedPrecondition(gap.status)) << gap.status;
  EXPECT_THAT(std::string(gap.status.message()), HasSubstr("send frame 3"));
  EXPECT_EQ(collection_->Count(), 2u);
  Reopen();
  EXPECT_EQ(*collection_->LastFrame("s"), 2u);
  EXPECT_EQ(*collection_->LastFrame("other"), 0u);
  EXPECT_EQ(send(2, 14).result.num_written, 0u);
  EXPECT_EQ(send(3, 15).result.num_written, 1u);
}

TEST_F(CollectionTest, ADroppedCollectionTakesNoWritesAndItsNameIsFree) {
  CreatePlane();
  Put(1, 0, 0);
  const std::shared_ptr<Collection> old = collection_;
  ASSERT_TRUE(database_->DropCollection("c").ok());
  EXPECT_TRUE(absl::IsNotFound(database_->GetCollection("c").status()));
  EXPECT_TRUE(absl::IsNotFound(database_->DropCollection("c")));
  BatchBuilder points(old->schema());
  points.Add(PointId(2), {Bytes({0, 0})});
  EXPECT_TRUE(absl::IsNotFound(old->Upsert(points.batch()).status));
  CreatePlane();
  EXPECT_EQ(collection_->Count(), 0u);
  Put(5, 0, 0);
  Reopen();
  EXPECT_THAT(Find(0, 0, 5), ElementsAre(5));
}

TEST_F(CollectionTest, ASecondCollectionOfTheSameNameIsRefused) {
  CreatePlane();
  EXPECT_TRUE(absl::IsAlreadyExists(
      database_->CreateCollection(SchemaOf("c", 2, Metric::kL2)).status()));
}

TEST_F(CollectionTest, IndexParametersCanBeChangedAndStay) {
  CreatePlane();
  const auto update = [&](const std::vector<IndexParamsChange>& changes) {
    return database_->UpdateIndexParams("c", changes).status();
  };
  HnswParams params;
  params.m = 24;
  ASSERT_TRUE(update({{.vector_name = "v", .hnsw = params}}).ok());
  Reopen();
  EXPECT_EQ(collection_->schema().vectors[0].hnsw.m, 24u);
  const CodecSpec codec{.kind = CodecSpec::Kind::kRbq, .avg_bits = 2};
  ASSERT_TRUE(update({{.vector_name = "v", .codec = codec}}).ok());
  Reopen();
  EXPECT_EQ(collection_->schema().vectors[0].codec, codec);
  EXPECT_TRUE(absl::IsInvalidArgument(
      update({{.vector_name = "v", .ivf = IvfParams{}}})));
  params.m = 1;
  EXPECT_TRUE(
      absl::IsInvalidArgument(update({{.vector_name = "v", .hnsw = params}})));
  params.m = 32;
  EXPECT_TRUE(absl::IsNotFound(update({{.vector_name = "v", .hnsw = params},
                                       {.vector_name = "w", .hnsw = params}})));
  Reopen();
  EXPECT_EQ(collection_->schema().vectors[0].hnsw.m, 24u) << "all or none";
}

TEST_F(CollectionTest, RefusesWritesWhileTooMuchWaitsForItsIndex) {
  database_.reset();
  options_.max_unindexed_bytes = 1'000;
  options_.growing_segment_bytes = size_t{1} << 20;
  std::promise<void> builds_may_start;
  options_.test_hook = [started = builds_may_start.get_future().share()](
                           absl::string_view point) {
    if (point == "build:start") started.wait();
  };
  Open();
  CreatePlane();
  BatchBuilder points(collection_->schema());
  for (uint64_t id = 0; id < 100; ++id) {
    points.Add(PointId(id), {Bytes({0, 0})});
  }
  ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
  const WriteOutcome refused = Put(1, 0, 0);
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status)) << refused.status;
  EXPECT_FALSE(collection_->HasRoom());
  WriteOptions waited;
  waited.waited_for_room = true;
  BatchBuilder one(collection_->schema());
  one.Add(PointId(1), {Bytes({0, 0})});
  EXPECT_TRUE(collection_->Upsert(one.batch(), waited).status.ok());
  builds_may_start.set_value();
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  EXPECT_TRUE(collection_->HasRoom());
  EXPECT_TRUE(Put(1, 0, 0).status.ok());
}

// No segment is worth an index of its own, yet together they fill the room.
TEST_F(CollectionTest, ManySmallCollectionsMakeRoomByThemselves) {
  database_.reset();
  options_.max_unindexed_bytes = 5'000;
  options_.growing_segment_bytes = size_t{1} << 20;
  Open();
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::minutes(1);
  for (uint64_t c = 0; c < 20; ++c) {
    Create(SchemaOf(absl::StrCat("c", c), 2, Metric::kL2));
    for (uint64_t id = 0; id < 50;) {
      const absl::Status status = Put(id, 0, static_cast<float>(id)).status;
      if (status.ok()) {
        ++id;
        continue;
      }
      ASSERT_TRUE(absl::IsResourceExhausted(status)) << status;
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << status;
      std::this_thread::yield();
    }
  }
  uint64_t num_indexed = 0;
  for (uint64_t c = 0; c < 20; ++c) {
    const auto collection = database_->GetCollection(absl::StrCat("c", c));
    ASSERT_TRUE(collection.ok()) << collection.status();
    EXPECT_EQ((*collection)->Count(), 50u);
    num_indexed += (*collection)->stats().num_indexed;
  }
  EXPECT_GT(num_indexed, 0u);
}

TEST_F(CollectionTest, ConcurrentWritersShareCommits) {
  CreatePlane();
  const uint64_t before = database_->stats().store.synced_commits;
  std::vector<std::thread> writers;
  for (uint64_t w = 0; w < 8; ++w) {
    writers.emplace_back([&, w] {
      for (uint64_t i = 0; i < 40; ++i) {
        ASSERT_TRUE(Put(w * 1000 + i, 1, 1).status.ok());
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(collection_->Count(), 320u);
  EXPECT_LT(database_->stats().store.synced_commits - before, 320u);
}

}  // namespace
}  // namespace vicinal
