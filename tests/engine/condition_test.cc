// Upserts that demand something of the points that they would replace.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/mutex.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/engine/write_waiter.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

using ::testing::HasSubstr;
using Kind = UpsertCondition::Kind;

// Holds the committer before it stores a commit, so that what is queued
// meanwhile is committed together. Thread-safe.
class Gate {
 public:
  void Close() {
    MutexLock lock(mu_);
    closed_ = true;
  }
  void Open() {
    MutexLock lock(mu_);
    closed_ = false;
    cv_.NotifyAll();
  }
  void Pass() {
    MutexLock lock(mu_);
    if (closed_) ++num_waiting_;
    cv_.NotifyAll();
    while (closed_) cv_.Wait(mu_);
  }
  void WaitForTheCommitter() {
    MutexLock lock(mu_);
    while (num_waiting_ == 0) cv_.Wait(mu_);
    num_waiting_ = 0;
  }

 private:
  Mutex mu_;
  CondVar cv_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  int num_waiting_ ABSL_GUARDED_BY(mu_) = 0;
};

class ConditionTest : public ::testing::Test {
 protected:
  ConditionTest() {
    options_.growing_segment_bytes = size_t{16} << 10;
    options_.test_hook = [this](absl::string_view point) {
      if (point == "commit:before_store") gate_.Pass();
    };
    options_.store.fault_hook = [this](absl::string_view operation,
                                       absl::string_view) {
      return broken_ && operation == "append"
                 ? absl::ResourceExhaustedError("injected")
                 : absl::OkStatus();
    };
    Open();
  }
  void Open() {
    const absl::Status opened =
        OpenCollection(folder_.path(), options_, SchemaOf("c", 4, Metric::kL2),
                       &database_, &collection_);
    ASSERT_TRUE(opened.ok()) << opened;
  }

  static WriteOptions If(Kind kind, std::vector<Sequence> sequences = {}) {
    WriteOptions options;
    options.condition = {kind, std::move(sequences)};
    return options;
  }
  WriteOutcome Upsert(const std::vector<uint64_t>& ids, WriteOptions options,
                      const std::string& payload = "") {
    return Start(ids, std::move(options), payload)->Wait();
  }
  std::unique_ptr<WriteWaiter> Start(const std::vector<uint64_t>& ids,
                                     WriteOptions options,
                                     const std::string& payload = "") {
    BatchBuilder points(collection_->schema());
    for (const uint64_t id : ids) {
      points.Add(PointId(id), {Bytes({1, 2, 3, 4})}, payload);
    }
    auto waiter = std::make_unique<WriteWaiter>();
    collection_->UpsertAsync(points.batch(), std::move(options),
                             waiter->callback());
    return waiter;
  }
  // 0: there is no such point.
  Sequence SequenceOf(uint64_t id) {
    const auto points = collection_->Get({PointId(id)}, {});
    EXPECT_TRUE(points.ok()) << points.status();
    return (*points)[0].has_value() ? (*points)[0]->sequence : 0;
  }
  // Nothing was written, because of the point at `index`.
  void ExpectViolated(const WriteOutcome& outcome, absl::StatusCode code,
                      size_t index, absl::string_view words) {
    EXPECT_EQ(outcome.status.code(), code) << outcome.status;
    EXPECT_THAT(std::string(outcome.status.message()),
                HasSubstr(std::string(words)));
    EXPECT_EQ(outcome.result.num_written, 0u);
    EXPECT_EQ(outcome.result.sequence, 0u);
    ASSERT_EQ(outcome.result.item_errors.size(), 1u);
    EXPECT_EQ(outcome.result.item_errors[0].index, index);
    EXPECT_EQ(outcome.result.item_errors[0].field,
              absl::StrCat("ids[", index, "]"));
    EXPECT_EQ(outcome.result.item_errors[0].status, outcome.status);
  }

  TempFolder folder_;
  Gate gate_;
  std::atomic<bool> broken_ = false;
  DatabaseOptions options_ = TestOptions();
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_F(ConditionTest, InsertsOnly) {
  ASSERT_TRUE(Upsert({1, 2}, If(Kind::kMustNotExist)).status.ok());
  ExpectViolated(
      Upsert({3, 2, 1}, If(Kind::kMustNotExist)),
      absl::StatusCode::kAlreadyExists, 1,
      "point 2 exists, stored by commit 1; the request inserts only");
  EXPECT_EQ(collection_->Count(), 2u);
  ASSERT_TRUE(collection_->Delete({PointId(2)}).status.ok());
  ASSERT_TRUE(Upsert({3, 2}, If(Kind::kMustNotExist)).status.ok());
  EXPECT_EQ(collection_->Count(), 3u);
}

TEST_F(ConditionTest, ReplacesOnly) {
  ASSERT_TRUE(Upsert({1, 2}, {}).status.ok());
  const WriteOutcome replaced = Upsert({2, 1}, If(Kind::kMustExist));
  ASSERT_TRUE(replaced.status.ok()) << replaced.status;
  EXPECT_EQ(replaced.result.num_written, 2u);
  ExpectViolated(Upsert({1, 2, 7}, If(Kind::kMustExist)),
                 absl::StatusCode::kFailedPrecondition, 2,
                 "point 7 does not exist; the request replaces only");
  ASSERT_TRUE(collection_->Delete({PointId(1)}).status.ok());
  ExpectViolated(Upsert({1}, If(Kind::kMustExist)),
                 absl::StatusCode::kFailedPrecondition, 0, "point 1");
  EXPECT_EQ(SequenceOf(2), replaced.result.sequence);
}

TEST_F(ConditionTest, ReplacesTheVersionsItNames) {
  ASSERT_TRUE(Upsert({1}, {}).status.ok());     // commit 1
  ASSERT_TRUE(Upsert({2, 3}, {}).status.ok());  // commit 2
  // 4 must not exist.
  const WriteOutcome outcome =
      Upsert({1, 2, 4}, If(Kind::kSequences, {1, 2, 0}));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.sequence, 3u);
  ExpectViolated(Upsert({3, 1}, If(Kind::kSequences, {2, 1})),
                 absl::StatusCode::kAborted, 1,
                 "point 1 exists, stored by commit 3; the request expected "
                 "that of commit 1");
  ExpectViolated(Upsert({4}, If(Kind::kSequences, {0})),
                 absl::StatusCode::kAborted, 0, "the request expected none");
  ExpectViolated(Upsert({9}, If(Kind::kSequences, {3})),
                 absl::StatusCode::kAborted, 0, "point 9 does not exist");
  EXPECT_EQ(SequenceOf(3), 2u);
  // Also across builds and restarts.
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  Open();
  ASSERT_TRUE(Upsert({3, 1}, If(Kind::kSequences, {2, 3})).status.ok());
  ExpectViolated(Upsert({3, 1}, If(Kind::kSequences, {2, 3})),
                 absl::StatusCode::kAborted, 0, "point 3");
}

TEST_F(ConditionTest, RefusesWhatCannotBeJudged) {
  for (const Kind kind :
       {Kind::kMustExist, Kind::kMustNotExist, Kind::kSequences}) {
    const WriteOutcome twice = Upsert({5, 6, 5}, If(kind, {0, 0, 0}));
    EXPECT_TRUE(absl::IsInvalidArgument(twice.status)) << twice.status;
    ASSERT_EQ(twice.result.item_errors.size(), 1u);
    EXPECT_EQ(twice.result.item_errors[0].index, 2u);
    EXPECT_THAT(std::string(twice.status.message()),
                HasSubstr("ids[2] (5) stands twice"));
    WriteOptions not_atomic = If(kind, {0});
    not_atomic.atomic = false;
    EXPECT_TRUE(absl::IsInvalidArgument(Upsert({5}, not_atomic).status));
  }
  EXPECT_THAT(
      std::string(Upsert({5, 6}, If(Kind::kSequences, {0})).status.message()),
      HasSubstr("has 1 sequences; give one for each of the 2 points"));
  EXPECT_EQ(collection_->Count(), 0u);
}

// Conditions see the writes before them, also those of the same commit.
TEST_F(ConditionTest, AreJudgedInTheOrderOfCommits) {
  gate_.Close();
  const auto first = Start({1}, {});
  gate_.WaitForTheCommitter();
  std::vector<std::unique_ptr<WriteWaiter>> queued;
  queued.push_back(Start({7}, If(Kind::kMustNotExist)));
  queued.push_back(Start({8, 7}, If(Kind::kMustNotExist)));
  queued.push_back(Start({7}, If(Kind::kMustExist)));
  queued.push_back(Start({7}, If(Kind::kSequences, {0})));
  // Nobody could know it, but so it is.
  queued.push_back(Start({7}, If(Kind::kSequences, {3})));
  gate_.Open();
  EXPECT_TRUE(first->Wait().status.ok());
  EXPECT_EQ(queued[0]->Wait().result.sequence, 2u);
  ExpectViolated(queued[1]->Wait(), absl::StatusCode::kAlreadyExists, 1,
                 "point 7 exists, stored by commit 2");
  EXPECT_EQ(queued[2]->Wait().result.sequence, 3u);
  ExpectViolated(queued[3]->Wait(), absl::StatusCode::kAborted, 0,
                 "point 7 exists, stored by commit 3");
  EXPECT_EQ(queued[4]->Wait().result.sequence, 4u);
  EXPECT_EQ(collection_->Count(), 2u);
}

// What a lost write seemed to be is no reason to refuse another.
TEST_F(ConditionTest, AreNotJudgedByWritesThatAreLost) {
  gate_.Close();
  const auto first = Start({1}, {});
  gate_.WaitForTheCommitter();
  const auto lost = Start({7}, If(Kind::kMustNotExist));
  const auto second = Start({7}, If(Kind::kMustNotExist));
  broken_ = true;
  gate_.Open();
  EXPECT_FALSE(first->Wait().status.ok());
  EXPECT_FALSE(lost->Wait().status.ok());
  const WriteOutcome outcome = second->Wait();
  EXPECT_FALSE(outcome.status.ok());
  EXPECT_FALSE(absl::IsAlreadyExists(outcome.status)) << outcome.status;
  EXPECT_TRUE(outcome.result.item_errors.empty());
  EXPECT_EQ(collection_->Count(), 0u);
}

TEST_F(ConditionTest, OneOfManyInserts) {
  constexpr int kThreads = 4;
  constexpr uint64_t kRounds = 50;
  std::atomic<int> num_inserted = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (uint64_t id = 0; id < kRounds; ++id) {
        const WriteOutcome outcome = Upsert({id}, If(Kind::kMustNotExist));
        num_inserted += outcome.status.ok();
        EXPECT_TRUE(outcome.status.ok() ||
                    absl::IsAlreadyExists(outcome.status))
            << outcome.status;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(num_inserted, static_cast<int>(kRounds));
  EXPECT_EQ(collection_->Count(), kRounds);
}

// A counter in two payloads, raised by reading and replacing.
TEST_F(ConditionTest, NoReplacementOfAnOldVersionSucceeds) {
  constexpr int kThreads = 4, kRaises = 40;
  ASSERT_TRUE(Upsert({1, 2}, {}, "{\"n\":0}").status.ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int done = 0; done < kRaises;) {
        const auto read =
            collection_->Get({PointId(1), PointId(2)}, {.payload = true});
        ASSERT_TRUE(read.ok()) << read.status();
        const StoredPoint& point = *(*read)[0];
        int n = 0;
        ASSERT_TRUE(absl::SimpleAtoi(absl::string_view(point.payload)
                                         .substr(5, point.payload.size() - 6),
                                     &n));
        const WriteOutcome outcome =
            Upsert({1, 2},
                   If(Kind::kSequences, {point.sequence, (*read)[1]->sequence}),
                   absl::StrCat("{\"n\":", n + 1, "}"));
        done += outcome.status.ok();
        ASSERT_TRUE(outcome.status.ok() || absl::IsAborted(outcome.status))
            << outcome.status;
      }
    });
  }
  threads.emplace_back([&] {
    for (int i = 0; i < 5; ++i) {
      EXPECT_TRUE(Finished(collection_->Optimize(1)).ok());
    }
  });
  for (std::thread& thread : threads) thread.join();
  for (int round = 0; round < 2; ++round) {
    const auto read =
        collection_->Get({PointId(1), PointId(2)}, {.payload = true});
    ASSERT_TRUE(read.ok());
    EXPECT_EQ((*read)[0]->payload,
              absl::StrCat("{\"n\":", kThreads * kRaises, "}"));
    EXPECT_EQ((*read)[1]->payload, (*read)[0]->payload);
    Open();
  }
}

}  // namespace
}  // namespace vicinal
