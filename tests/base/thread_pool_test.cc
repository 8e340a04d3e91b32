// Every task runs once, in order, to the end, and loops may nest.
#include "src/base/thread_pool.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <latch>
#include <numeric>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/base_testing.h"

namespace vicinal {
namespace {

using ::testing::Each;

class ThreadPoolTest : public ::testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(AnyNumberOfThreads, ThreadPoolTest,
                         ::testing::Values(1, 2, 3, 8));

TEST_P(ThreadPoolTest, RunsEveryScheduledTaskOnceBeforeItsEnd) {
  constexpr size_t kNumTasks = 2'000;
  RunCounts runs(kNumTasks);
  {
    ThreadPool pool(GetParam());
    EXPECT_EQ(pool.num_threads(), GetParam());
    for (size_t i = 0; i < kNumTasks; ++i) {
      pool.Schedule([&runs, i] { runs.Add(i); });
    }
  }
  EXPECT_THAT(runs.Values(), Each(1));
}

TEST_P(ThreadPoolTest, RunsWhatATaskSchedulesEvenWhileItEnds) {
  std::atomic<int> num_runs = 0;
  {
    ThreadPool pool(GetParam());
    pool.Schedule([&] {
      for (int i = 0; i < 50; ++i) {
        pool.Schedule([&] {
          pool.Schedule([&] { num_runs.fetch_add(1); });
          num_runs.fetch_add(1);
        });
      }
    });
  }
  EXPECT_EQ(num_runs, 100);
}

TEST_P(ThreadPoolTest, ParallelForRunsEachIndexOnce) {
  ThreadPool pool(GetParam());
  for (const size_t n : {0, 1, 2, 3, 7, 8, 9, 1'000}) {
    RunCounts runs(n);
    pool.ParallelFor(n, [&](size_t i) { runs.Add(i); });
    EXPECT_THAT(runs.Values(), Each(1)) << n;
  }
}

TEST_P(ThreadPoolTest, ParallelForMayNest) {
  ThreadPool pool(GetParam());
  RunCounts runs(5 * 6 * 7);
  pool.ParallelFor(5, [&](size_t i) {
    pool.ParallelFor(6, [&, i](size_t j) {
      pool.ParallelFor(7,
                       [&, i, j](size_t k) { runs.Add((i * 6 + j) * 7 + k); });
    });
  });
  EXPECT_THAT(runs.Values(), Each(1));
}

TEST_P(ThreadPoolTest, ParallelForOfManyThreadsAtOnce) {
  ThreadPool pool(GetParam());
  RunCounts runs(4 * 200);
  std::vector<std::thread> callers;
  for (size_t caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (size_t round = 0; round < 20; ++round) {
        pool.ParallelFor(
            10, [&](size_t i) { runs.Add(caller * 200 + round * 10 + i); });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_THAT(runs.Values(), Each(1));
}

TEST_P(ThreadPoolTest, ParallelForReturnsWhenAllIsDone) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 200; ++round) {
    std::vector<size_t> squares(16);  // plain: ParallelFor orders the accesses
    pool.ParallelFor(squares.size(), [&](size_t i) { squares[i] = i * i; });
    ASSERT_EQ(std::accumulate(squares.begin(), squares.end(), size_t{0}),
              1'240U);
  }
}

TEST_P(ThreadPoolTest, ItsThreadsRunAtTheSameTime) {
  const size_t num_threads = GetParam();
  std::latch all_inside(static_cast<std::ptrdiff_t>(num_threads));
  ThreadPool pool(num_threads);
  for (size_t i = 0; i < num_threads; ++i) {
    pool.Schedule([&all_inside] { all_inside.arrive_and_wait(); });
  }
  all_inside.wait();
}

TEST(ThreadPoolOfOneTest, RunsTasksInTheOrderOfTheQueue) {
  std::vector<int> order;
  {
    ThreadPool pool(1);
    for (int i = 0; i < 500; ++i) {
      pool.Schedule([&order, i] { order.push_back(i); });
    }
  }
  std::vector<int> expected(500);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
}

TEST(ThreadPoolOfOneTest, TheCallerFinishesALoopWhileThePoolIsBusy) {
  std::latch release(1);
  ThreadPool pool(1);
  pool.Schedule([&release] { release.wait(); });
  std::vector<std::thread::id> ids(5);
  pool.ParallelFor(ids.size(),
                   [&](size_t i) { ids[i] = std::this_thread::get_id(); });
  EXPECT_THAT(ids, Each(std::this_thread::get_id()));
  release.count_down();
}

TEST(ThreadPoolOfOneTest, AddsToTheNicenessOfItsThreadsAlone) {
  const auto niceness = [] {
    return getpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)));
  };
  const int before = niceness();
  if (before > 14) GTEST_SKIP() << "niceness ends at 19";
  int inside = 0;
  {
    ThreadPool(1, 5).Schedule([&] { inside = niceness(); });
  }
  EXPECT_EQ(inside, before + 5);
  {
    ThreadPool(1, 2).Schedule(
        [&] { ThreadPool(1, 3).Schedule([&] { inside = niceness(); }); });
  }
  EXPECT_EQ(inside, before + 5) << "those they start inherit theirs";
  EXPECT_EQ(niceness(), before);
}

TEST(ThreadPoolDeathTest, OfNoThreadAborts) {
  EXPECT_DEATH(ThreadPool(0), "num_threads");
}

}  // namespace
}  // namespace vicinal
