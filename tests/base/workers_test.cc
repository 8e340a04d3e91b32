// Ranges that cover everything once, each worker at one of them at a time.
#include "src/base/workers.h"

#include <atomic>
#include <cstddef>
#include <latch>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/base_testing.h"

namespace vicinal {
namespace {

using ::testing::Each;

class WorkersTest : public ::testing::TestWithParam<size_t> {
 protected:
  Workers workers_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(AnyNumberOfThreads, WorkersTest,
                         ::testing::Values(1, 2, 3, 8));

TEST_P(WorkersTest, ForCoversEachIndexOnceInRangesOfAtMostAChunk) {
  for (const size_t n : {0, 1, 2, 63, 64, 65, 1'000}) {
    for (const size_t chunk : {1, 2, 7, 64, 5'000}) {
      RunCounts runs(n);
      workers_.For(n, chunk, [&](size_t begin, size_t end, size_t worker) {
        EXPECT_LT(begin, end);
        EXPECT_LE(end - begin, chunk);
        EXPECT_EQ(begin % chunk, 0U);
        EXPECT_LT(worker, workers_.size());
        for (size_t i = begin; i < end; ++i) runs.Add(i);
      });
      EXPECT_THAT(runs.Values(), Each(1)) << n << " by " << chunk;
    }
  }
}

TEST_P(WorkersTest, RangesOfOneWorkerNeverOverlapInTime) {
  std::vector<size_t> sums(workers_.size());  // plain: a race if they did
  std::vector<std::atomic<bool>> busy(workers_.size());
  for (int round = 0; round < 20; ++round) {
    workers_.For(500, 1, [&](size_t begin, size_t /*end*/, size_t worker) {
      EXPECT_FALSE(busy[worker].exchange(true));
      sums[worker] += begin;
      busy[worker] = false;
    });
  }
  size_t sum = 0;
  for (const size_t part : sums) sum += part;
  EXPECT_EQ(sum, size_t{20} * 499 * 500 / 2);
}

TEST_P(WorkersTest, AllWorkersTakePart) {
  std::latch all_inside(static_cast<std::ptrdiff_t>(workers_.size()));
  RunCounts runs(workers_.size());
  workers_.For(workers_.size(), 1, [&](size_t, size_t, size_t worker) {
    runs.Add(worker);
    all_inside.arrive_and_wait();
  });
  // Of more than one range each: one waits for all others.
  EXPECT_THAT(runs.Values(), Each(1));
}

TEST_P(WorkersTest, OneChunkRunsOnTheCallingThread) {
  std::thread::id id;
  workers_.For(10, 10, [&](size_t begin, size_t end, size_t worker) {
    EXPECT_EQ(begin, 0U);
    EXPECT_EQ(end, 10U);
    EXPECT_EQ(worker, 0U);
    id = std::this_thread::get_id();
  });
  EXPECT_EQ(id, std::this_thread::get_id());
}

TEST(WorkersOfOneTest, ZeroThreadsIsTheCallingOne) {
  Workers workers(0);
  EXPECT_EQ(workers.size(), 1U);
  std::vector<size_t> begins;
  workers.For(5, 2, [&](size_t begin, size_t /*end*/, size_t worker) {
    EXPECT_EQ(worker, 0U);
    begins.push_back(begin);
  });
  EXPECT_THAT(begins, ::testing::ElementsAre(0, 2, 4));
}

}  // namespace
}  // namespace vicinal
