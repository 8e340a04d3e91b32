// What an open costs: links, ids and checksums of sealed segments, and rows
// that were not sealed yet. Measured figures are in docs/operations.md.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

// About a tenth of what one core does: a loop that became quadratic, or one
// that reads the vectors, is slower than that.
constexpr double kMinSealedRowsPerSecond = 1e6;
constexpr double kMinReplayedBytesPerSecond = 100e6;

class OpenTimeTest : public ::testing::Test {
 protected:
  void Open() {
    auto database = Database::Open(folder_.path(), options_);
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
  }
  void Fill(size_t num_rows, size_t dim) {
    CollectionSchema schema = SchemaOf("c", dim, Metric::kL2);
    schema.vectors[0].hnsw.ef_construction = 16;
    auto collection = database_->CreateCollection(schema);
    ASSERT_TRUE(collection.ok()) << collection.status();
    Random random(1);
    for (size_t row = 0; row < num_rows;) {
      BatchBuilder points(schema);
      for (const size_t end = std::min(num_rows, row + 2'000); row < end;) {
        points.Add(PointId(row++), {RandomVector(schema.vectors[0], random)});
      }
      ASSERT_TRUE((*collection)->Upsert(points.batch()).status.ok());
    }
  }
  std::shared_ptr<Collection> collection() const {
    return *database_->GetCollection("c");
  }
  // The best of three.
  double SecondsToOpen() {
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
      database_.reset();
      const auto start = std::chrono::steady_clock::now();
      Open();
      const std::chrono::duration<double> seconds =
          std::chrono::steady_clock::now() - start;
      best = std::min(best, seconds.count());
    }
    return best;
  }

  TempFolder folder_;
  DatabaseOptions options_;
  std::unique_ptr<Database> database_;
};

TEST_F(OpenTimeTest, OfSealedRows) {
  constexpr size_t kRows = 200'000;
  Open();
  const double empty = SecondsToOpen();
  Fill(kRows, 16);
  ASSERT_TRUE(Finished(collection()->Optimize(1)).ok());
  const double seconds = SecondsToOpen();
  std::printf("open: %.1f ms, with %zu sealed rows %.1f ms\n", empty * 1e3,
              kRows, seconds * 1e3);
  EXPECT_EQ(collection()->Count(), kRows);
  EXPECT_EQ(collection()->stats().segments.size(), 1u);
  EXPECT_LE(seconds - empty, kRows / kMinSealedRowsPerSecond);
}

TEST_F(OpenTimeTest, OfRowsThatWaitForTheirIndex) {
  constexpr size_t kRows = 100'000;
  constexpr size_t kDim = 256;
  options_.growing_segment_bytes = size_t{1} << 30;
  options_.idle_seal_ms = 3'600'000;
  Open();
  Fill(kRows, kDim);
  const double seconds = SecondsToOpen();
  const double bytes = static_cast<double>(kRows) * kDim * sizeof(float);
  std::printf("open that replays %.0f MB of vectors: %.0f ms, %.0f MB/s\n",
              bytes / 1e6, seconds * 1e3, bytes / 1e6 / seconds);
  EXPECT_EQ(collection()->Count(), kRows);
  EXPECT_GE(bytes / seconds, kMinReplayedBytesPerSecond);
}

}  // namespace
}  // namespace vicinal
