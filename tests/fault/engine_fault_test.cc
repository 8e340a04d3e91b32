// Disks that fail: writes get a clear error, searches go on, nothing is lost.
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

struct FaultCase {
  const char* name;
  absl::StatusCode fault;     // of the disk
  absl::StatusCode expected;  // of the write
};
void PrintTo(const FaultCase& fault, std::ostream* out) { *out << fault.name; }

class EngineFaultTest : public ::testing::TestWithParam<FaultCase> {
 protected:
  EngineFaultTest() {
    options_.store.fault_hook = [this](absl::string_view operation,
                                       absl::string_view) {
      if (operation != "append" && operation != "sync") {
        return absl::OkStatus();
      }
      if (broken_ || --until_fault_ == 0) {
        broken_ = true;
        return absl::Status(GetParam().fault, "injected");
      }
      return absl::OkStatus();
    };
    options_.segment_fault_hook = [this](absl::string_view, absl::string_view) {
      return files_full_ ? ENOSPC : 0;
    };
  }
  void Open() {
    auto database = Database::Open(folder_.path(), options_);
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
    auto collection = database_->GetCollection("f");
    if (!collection.ok()) collection = database_->CreateCollection(schema_);
    ASSERT_TRUE(collection.ok()) << collection.status();
    collection_ = *collection;
  }
  void Close() {
    collection_.reset();
    database_.reset();
  }
  // One random upsert or delete, on `oracle` as well when it succeeded.
  absl::Status Write(Oracle* oracle) {
    if (random_.Uniform(4) == 0) {
      std::vector<PointId> ids;
      for (int i = 0; i < 20; ++i) ids.push_back(PointId(random_.Uniform(900)));
      const absl::Status status = collection_->Delete(ids).status;
      for (const PointId& id : ids) {
        if (status.ok()) oracle->Delete(id);
      }
      return status;
    }
    BatchBuilder points(collection_->schema());
    std::vector<std::pair<PointId, Oracle::Stored>> stored;
    for (int i = 0; i < 60; ++i) {
      stored.push_back({PointId(random_.Uniform(900)),
                        {{RandomVector(schema_.vectors[0], random_)}, ""}});
      points.Add(stored.back().first, stored.back().second.vectors);
    }
    const absl::Status status = collection_->Upsert(points.batch()).status;
    for (auto& [id, point] : stored) {
      if (status.ok()) oracle->Upsert(id, std::move(point));
    }
    return status;
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  CollectionSchema schema_ = SchemaOf("f", 8, Metric::kL2);
  Random random_{4};
  std::atomic<int64_t> until_fault_ = 0;  // 0: never
  std::atomic<bool> broken_ = false;
  std::atomic<bool> files_full_ = false;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_P(EngineFaultTest, AWriteThatFailsLosesNothingThatSucceeded) {
  Oracle oracle(schema_);
  for (int round = 0; round < 12 && !HasFatalFailure(); ++round) {
    SCOPED_TRACE(round);
    Open();
    if (HasFatalFailure()) return;
    // An unacknowledged batch may have reached the disk whole: start anew.
    const absl::Status before = oracle.Compare(*collection_, random_);
    ASSERT_TRUE(before.ok()) << before;
    until_fault_ = 1 + static_cast<int64_t>(random_.Uniform(40));
    absl::Status failed;
    while (failed.ok()) failed = Write(&oracle);
    EXPECT_EQ(failed.code(), GetParam().expected) << failed;
    EXPECT_FALSE(database_->stats().write_health.ok());
    EXPECT_FALSE(Write(&oracle).ok()) << "read-only until mended";
    const absl::Status still = oracle.Compare(*collection_, random_);
    EXPECT_TRUE(still.ok()) << still;
    Close();
    until_fault_ = 0;
    broken_ = false;
    Open();
    if (HasFatalFailure()) return;
    // The failed batch is there whole or not at all; delete what it touched
    // by writing every id once more.
    BatchBuilder all(collection_->schema());
    for (uint64_t id = 0; id < 900; ++id) {
      const std::string vector = RandomVector(schema_.vectors[0], random_);
      all.Add(PointId(id), {vector});
      oracle.Upsert(PointId(id), {{vector}, ""});
    }
    ASSERT_TRUE(collection_->Upsert(all.batch()).status.ok());
    const absl::Status after = oracle.Compare(*collection_, random_);
    ASSERT_TRUE(after.ok()) << after;
    Close();
  }
}

TEST_P(EngineFaultTest, AcknowledgedWritesSurviveTheFailureOfALaterOne) {
  Oracle oracle(schema_);
  Open();
  until_fault_ = 60;
  while (true) {
    // Each write inserts new ids, so that the failed one is recognised.
    static uint64_t next_id = 10'000;
    BatchBuilder points(collection_->schema());
    const std::string vector = RandomVector(schema_.vectors[0], random_);
    points.Add(PointId(next_id), {vector});
    if (!collection_->Upsert(points.batch()).status.ok()) break;
    oracle.Upsert(PointId(next_id++), {{vector}, ""});
  }
  const uint64_t count = oracle.points().size();
  Close();
  until_fault_ = 0;
  broken_ = false;
  Open();
  EXPECT_GE(collection_->Count(), count);
  EXPECT_LE(collection_->Count(), count + 1) << "only the one in doubt";
  for (const auto& [id, stored] : oracle.points()) {
    const auto points = collection_->Get({id}, {true, {0}});
    ASSERT_TRUE(points.ok() && (*points)[0].has_value()) << id.ToString();
    EXPECT_EQ((*points)[0]->vectors, stored.vectors);
  }
}

TEST_P(EngineFaultTest, AFullDiskDelaysTheIndexOnly) {
  Oracle oracle(schema_);
  Open();
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(Write(&oracle).ok());
  files_full_ = true;
  const absl::Status refused = Finished(collection_->Optimize(1));
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  ASSERT_TRUE(Write(&oracle).ok());
  const absl::Status meanwhile = oracle.Compare(*collection_, random_);
  EXPECT_TRUE(meanwhile.ok()) << meanwhile;
  Close();
  Open();
  files_full_ = false;
  EXPECT_TRUE(Finished(collection_->Optimize(1)).ok());
  EXPECT_EQ(collection_->stats().segments.size(), 1u);
  const absl::Status after = oracle.Compare(*collection_, random_);
  EXPECT_TRUE(after.ok()) << after;
}

INSTANTIATE_TEST_SUITE_P(
    Faults, EngineFaultTest,
    ::testing::Values(FaultCase{"IoError", absl::StatusCode::kInternal,
                                absl::StatusCode::kFailedPrecondition},
                      FaultCase{"DiskFull",
                                absl::StatusCode::kResourceExhausted,
                                absl::StatusCode::kResourceExhausted}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace vicinal
