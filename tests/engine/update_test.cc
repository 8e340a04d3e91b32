// Updates of payloads: vectors stay, no write is lost, nothing comes back.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
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
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/engine/payload_patch.h"
#include "src/payload/filter_text.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

using ::testing::HasSubstr;

PayloadPatch Merge(std::string patch) {
  return *PayloadPatch::Make({.merge = std::move(patch)}, {});
}
PayloadPatch Set(std::string payload) {
  return *PayloadPatch::Make({.set = std::move(payload)}, {});
}

class UpdateTest : public ::testing::Test {
 protected:
  // A cosine field, whose unit vectors are made anew, and two others that a
  // point may lack.
  UpdateTest() {
    schema_ = SchemaOf("u", 12, Metric::kCosine);
    schema_.vectors.push_back(
        SchemaOf("", 7, Metric::kL2, ElementType::kFloat16).vectors[0]);
    schema_.vectors.back().name = "half";
    schema_.vectors.push_back(
        SchemaOf("", 5, Metric::kInnerProduct, ElementType::kUint8).vectors[0]);
    schema_.vectors.back().name = "bytes";
    options_.growing_segment_bytes = size_t{64} << 10;
    options_.recall_check_ms = 0;
    Open();
  }
  void Open() {
    const absl::Status opened = OpenCollection(
        folder_.path(), options_, schema_, &database_, &collection_);
    ASSERT_TRUE(opened.ok()) << opened;
  }

  void Upsert(uint64_t first, uint64_t count) {
    BatchBuilder batch(schema_);
    for (uint64_t i = first; i < first + count; ++i) {
      Oracle::Stored stored;
      stored.vectors.resize(3);
      const size_t always = random_.Uniform(3);
      for (size_t f = 0; f < 3; ++f) {
        if (f == always || random_.Uniform(3) > 0) {
          stored.vectors[f] = RandomVector(schema_.vectors[f], random_);
        }
      }
      if (i % 3 != 0) stored.payload = absl::StrCat(R"({"n": )", i, "}");
      batch.Add(PointId(i), stored.vectors, stored.payload);
      oracle_.Upsert(PointId(i), std::move(stored));
    }
    ASSERT_TRUE(collection_->Upsert(batch.batch()).status.ok());
  }
  void SetInOracle(uint64_t id, std::string payload) {
    Oracle::Stored stored = oracle_.points().at(PointId(id));
    stored.payload = std::move(payload);
    oracle_.Upsert(PointId(id), std::move(stored));
  }
  void ExpectAsInOracle() {
    const absl::Status difference = oracle_.Compare(*collection_, random_);
    EXPECT_TRUE(difference.ok()) << difference;
  }
  WriteOutcome UpdateWhere(absl::string_view filter,
                           const PayloadPatch& patch) {
    return collection_->UpdatePayloadMatching(*ParseFilter(filter), patch, {},
                                              {});
  }
  uint64_t CountWhere(absl::string_view filter) {
    return collection_->CountMatching(*ParseFilter(filter), {}).value_or(0);
  }
  std::string PayloadOf(uint64_t id) {
    const auto points = collection_->Get({PointId(id)}, {.payload = true});
    EXPECT_TRUE(points.ok()) << points.status();
    return (*points)[0].has_value() ? (*points)[0]->payload : "missing";
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  CollectionSchema schema_;
  Random random_{5};
  Oracle oracle_{SchemaOf("", 1, Metric::kL2)};
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;

  void SetUp() override { oracle_ = Oracle(schema_); }
};

TEST_F(UpdateTest, ChangesPayloadsAndKeepsVectors) {
  Upsert(0, 1'000);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  Upsert(900, 300);  // some in memory only
  std::vector<PointId> ids;
  for (uint64_t id = 0; id < 1'200; id += 2) {
    ids.push_back(PointId(id));
    const uint64_t n = id % 3 == 0 ? 0 : id;
    SetInOracle(id,
                n == 0 ? R"({"m":1})" : absl::StrCat(R"({"m":1,"n":)", n, "}"));
  }
  const WriteOutcome outcome =
      collection_->UpdatePayload(ids, Merge(R"({"m":1})"), {}, {});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.num_written, ids.size());
  EXPECT_EQ(outcome.result.sequence, collection_->stats().sequence);
  ExpectAsInOracle();
  EXPECT_EQ(CountWhere("m = 1"), ids.size());
  Open();
  ExpectAsInOracle();
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  ExpectAsInOracle();
  Open();
  ExpectAsInOracle();
}

TEST_F(UpdateTest, CountsEachPointThatExistsOnce) {
  Upsert(0, 10);
  const Sequence before = collection_->stats().sequence;
  const WriteOutcome outcome = collection_->UpdatePayload(
      {PointId(3), PointId(77), PointId(3), PointId(4)}, Set(R"({"x":1})"), {},
      {});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.num_written, 2u);
  EXPECT_EQ(outcome.result.sequence, before + 1);
  SetInOracle(3, R"({"x":1})");
  SetInOracle(4, R"({"x":1})");
  ExpectAsInOracle();
  const WriteOutcome none =
      collection_->UpdatePayload({PointId(77)}, Set("{}"), {}, {});
  ASSERT_TRUE(none.status.ok()) << none.status;
  EXPECT_EQ(none.result.num_written, 0u);
  EXPECT_EQ(none.result.sequence, 0u);
}

TEST_F(UpdateTest, ChangesWhatAFilterAccepts) {
  Upsert(0, 500);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  Upsert(450, 100);
  const WriteOutcome outcome =
      UpdateWhere("n < 100 OR ID = 300",
                  *PayloadPatch::Make(
                      {.merge = R"({"low":true})", .delete_keys = {"n"}}, {}));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.num_written, 67u);
  for (uint64_t id = 0; id < 100; ++id) {
    if (id % 3 != 0) SetInOracle(id, R"({"low":true})");
  }
  SetInOracle(300, R"({"low":true})");
  ExpectAsInOracle();
  EXPECT_EQ(CountWhere("low = TRUE"), 67u);
  EXPECT_EQ(UpdateWhere("n < 100", Set("{}")).result.num_written, 0u);
  const FilterNode wrong{.kind = FilterNode::Kind::kExists, .path = ""};
  EXPECT_TRUE(absl::IsInvalidArgument(
      collection_->UpdatePayloadMatching(wrong, Set("{}"), {}, {}).status));
}

TEST_F(UpdateTest, NamesThePointThatWouldBeTooLarge) {
  Upsert(0, 10);
  const auto patch = PayloadPatch::Make(
      {.merge =
           absl::StrCat(R"({"big":")", std::string(1 << 19, 'x'), R"("})")},
      {});
  ASSERT_TRUE(patch.ok());
  const std::string half =
      absl::StrCat(R"({"half":")", std::string(1 << 19, 'y'), R"("})");
  ASSERT_TRUE(
      collection_->UpdatePayload({PointId(7)}, Set(half), {}, {}).status.ok());
  const WriteOutcome outcome = collection_->UpdatePayload(
      {PointId(1), PointId(7), PointId(2)}, *patch, {}, {});
  EXPECT_TRUE(absl::IsInvalidArgument(outcome.status)) << outcome.status;
  EXPECT_THAT(std::string(outcome.status.message()),
              HasSubstr("point 7 would have a payload of 1048596 bytes; at "
                        "most 1048576 are allowed; 0 points were updated"));
  EXPECT_EQ(outcome.result.num_written, 0u);
  SetInOracle(7, half);
  ExpectAsInOracle();
}

TEST_F(UpdateTest, TakesWhatAnUpsertTakes) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      collection_
          ->UpdatePayload(std::vector<PointId>(65'537), Set("{}"), {}, {})
          .status));
  Upsert(0, 10);
  StopCondition stop;
  stop.cancelled = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(
      collection_->UpdatePayload({PointId(1)}, Set("{}"), {}, stop).status));
  ExpectAsInOracle();
  ASSERT_TRUE(database_->DropCollection("u").ok());
  EXPECT_TRUE(absl::IsNotFound(
      collection_->UpdatePayload({PointId(1)}, Set("{}"), {}, {}).status));
  EXPECT_TRUE(absl::IsNotFound(UpdateWhere("TRUE", Set("{}")).status));
}

// More than one commit, and more than may wait for its index: the update waits
// for the builds, where an upsert would be refused.
TEST_F(UpdateTest, CommitsByPartsAndWaitsForRoom) {
  schema_ =
      SchemaOf("u", 256, Metric::kL2, ElementType::kFloat32, IndexKind::kFlat);
  oracle_ = Oracle(schema_);
  ASSERT_TRUE(database_->DropCollection("u").ok());
  options_.growing_segment_bytes = size_t{1} << 20;
  Open();
  constexpr uint64_t kPoints = 12'000;
  BatchBuilder batch(schema_);
  for (uint64_t id = 0; id < kPoints; ++id) {
    const std::string vector = RandomVector(schema_.vectors[0], random_);
    batch.Add(PointId(id), {vector});
    oracle_.Upsert(PointId(id), {{vector}, R"({"a":1})"});
  }
  ASSERT_TRUE(collection_->Upsert(batch.batch()).status.ok());
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  options_.max_unindexed_bytes = size_t{5} << 20;
  Open();
  const Sequence before = collection_->stats().sequence;
  const WriteOutcome outcome = UpdateWhere("TRUE", Set(R"({"a":1})"));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.num_written, kPoints);
  EXPECT_GE(outcome.result.sequence, before + 3);
  ExpectAsInOracle();
  // Where there is none at the start, it is refused.
  options_.max_unindexed_bytes = size_t{1} << 30;
  Open();
  BatchBuilder one(schema_);
  one.Add(PointId(0), {RandomVector(schema_.vectors[0], random_)});
  ASSERT_TRUE(collection_->Upsert(one.batch()).status.ok());
  options_.max_unindexed_bytes = 0;
  Open();
  EXPECT_TRUE(absl::IsResourceExhausted(
      collection_->UpdatePayload({PointId(1)}, Set("{}"), {}, {}).status));
}

// Each thread merges keys of its own into the same few points, by ids and by
// filters; every key is there in the end, also after a restart.
TEST_F(UpdateTest, NoMergeIsLost) {
  constexpr int kThreads = 4, kMerges = 25;
  constexpr uint64_t kPoints = 3;
  Upsert(0, kPoints);
  std::vector<PointId> ids;
  for (uint64_t id = 0; id < kPoints; ++id) ids.push_back(PointId(id));
  std::vector<std::thread> threads;
  std::atomic<bool> done = false;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kMerges; ++i) {
        const PayloadPatch patch =
            Merge(absl::StrCat(R"({"of":{"t)", t, "_", i, R"(":1}})"));
        const WriteOutcome outcome =
            t % 2 == 0 ? collection_->UpdatePayload(ids, patch, {}, {})
                       : UpdateWhere("TRUE", patch);
        ASSERT_TRUE(outcome.status.ok()) << outcome.status;
        ASSERT_EQ(outcome.result.num_written, kPoints);
      }
    });
  }
  std::thread builder([&] {
    while (!done) EXPECT_TRUE(Finished(collection_->Optimize(1)).ok());
  });
  for (std::thread& thread : threads) thread.join();
  done = true;
  builder.join();
  for (int round = 0; round < 2; ++round) {
    for (int t = 0; t < kThreads; ++t) {
      for (int i = 0; i < kMerges; ++i) {
        EXPECT_EQ(CountWhere(absl::StrCat("of.t", t, "_", i, " = 1")), kPoints)
            << t << " " << i;
      }
    }
    for (uint64_t id = 0; id < kPoints; ++id) {
      SetInOracle(id, PayloadOf(id));
    }
    ExpectAsInOracle();
    Open();
  }
}

// A point is replaced with a vector and a payload that say the same; merges
// beside it never bring an old vector back, nor a deleted point.
TEST_F(UpdateTest, NeverBringsBackWhatWasReplaced) {
  schema_ = SchemaOf("u", 4, Metric::kL2);
  ASSERT_TRUE(database_->DropCollection("u").ok());
  Open();
  std::atomic<bool> done = false;
  std::vector<std::thread> mergers;
  for (int t = 0; t < 2; ++t) {
    mergers.emplace_back([&, t] {
      const PayloadPatch patch = Merge(R"({"merged":true})");
      while (!done) {
        const WriteOutcome outcome =
            t == 0 ? collection_->UpdatePayload({PointId(1), PointId(2)}, patch,
                                                {}, {})
                   : UpdateWhere("EXISTS(round)", patch);
        ASSERT_TRUE(outcome.status.ok()) << outcome.status;
      }
    });
  }
  const auto read = [&](uint64_t id) {
    return *(
        *collection_->Get({PointId(id)}, {.payload = true, .vectors = {0}}))[0];
  };
  for (int round = 1; round <= 150; ++round) {
    BatchBuilder batch(schema_);
    const auto value = static_cast<float>(round);
    for (const uint64_t id : {1, 2}) {
      batch.Add(PointId(id), {Bytes({value, 0, 0, 0})},
                absl::StrCat(R"({"round":)", round, "}"));
    }
    ASSERT_TRUE(collection_->Upsert(batch.batch()).status.ok());
    const StoredPoint point = read(2);
    EXPECT_EQ(point.vectors[0], Bytes({value, 0, 0, 0}));
    EXPECT_THAT(point.payload,
                ::testing::AnyOf(
                    absl::StrCat(R"({"round":)", round, "}"),
                    absl::StrCat(R"({"merged":true,"round":)", round, "}")));
    if (round % 3 == 0) {
      ASSERT_TRUE(collection_->Delete({PointId(1)}).status.ok());
      EXPECT_EQ(PayloadOf(1), "missing");
      EXPECT_EQ(collection_->Count(), 1u);
    }
  }
  done = true;
  for (std::thread& merger : mergers) merger.join();
  EXPECT_EQ(PayloadOf(1), "missing");
  EXPECT_EQ(collection_->Count(), 1u);
}

// What was accepted and is so no more stays as it is.
TEST_F(UpdateTest, AsksTheFilterAgainWhereAPointWasReplaced) {
  Upsert(0, 50);
  std::vector<PointId> ids;
  for (uint64_t id = 0; id < 50; ++id) ids.push_back(PointId(id));
  std::atomic<bool> done = false;
  std::thread toucher([&] {
    while (!done) {
      EXPECT_TRUE(UpdateWhere("kind = 'old'", Merge(R"({"touched":true})"))
                      .status.ok());
    }
  });
  for (int round = 0; round < 60; ++round) {
    ASSERT_TRUE(
        collection_->UpdatePayload(ids, Set(R"({"kind":"old"})"), {}, {})
            .status.ok());
    ASSERT_TRUE(
        collection_->UpdatePayload(ids, Set(R"({"kind":"new"})"), {}, {})
            .status.ok());
    EXPECT_EQ(CountWhere("kind = 'new' AND NOT EXISTS(touched)"), 50u);
  }
  done = true;
  toucher.join();
}

}  // namespace
}  // namespace vicinal
