#include "bench/sweep.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "bench/ground_truth.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vicinal::bench {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::Gt;
using ::testing::SizeIs;

// 100 rows on a line; query i lies on row i.
Dataset LineSet() {
  Dataset dataset{.name = "line"};
  dataset.base = {.num_rows = 100, .dim = 1};
  for (int i = 0; i < 100; ++i) dataset.base.values.push_back(i);
  dataset.queries = {.num_rows = 20, .dim = 1};
  for (int i = 0; i < 20; ++i) dataset.queries.values.push_back(i);
  return dataset;
}

// Finds ef tenths of the answer and writes its name into a log.
class FakeSystem final : public AnnSystem {
 public:
  FakeSystem(std::string name, std::vector<std::string>* log)
      : name_(std::move(name)), log_(log) {}

  std::string name() const override { return name_; }
  absl::Status Build(const Dataset&, const BuildParams&) override {
    return absl::OkStatus();
  }
  absl::StatusOr<size_t> Search(const float* query, size_t k, size_t ef,
                                uint32_t* out) override {
    if (*query == 0) log_->push_back(name_);
    const size_t found = k * ef / 10;
    for (size_t i = 0; i < k; ++i) {
      out[i] = i < found ? static_cast<uint32_t>(*query) : 99;
    }
    return k;
  }
  size_t memory_bytes() const override { return 0; }

 private:
  std::string name_;
  std::vector<std::string>* log_;
};

TEST(SweepTest, LetsSystemsTakeTurnsWithinEachPass) {
  const Dataset dataset = LineSet();
  const TruthTable truth =
      ComputeTruth(dataset.base, dataset.queries, Metric::kL2, 1, 1);
  const RecallJudge judge(dataset.base, dataset.queries, Metric::kL2, truth, 1);
  std::vector<std::string> log;
  FakeSystem a("a", &log);
  FakeSystem b("b", &log);
  const auto points =
      Sweep({&a, &b}, dataset, judge, {.k = 1, .efs = {5, 10}, .passes = 2});
  ASSERT_TRUE(points.ok()) << points.status();
  // Warm-up, then two passes for each of the two ef.
  EXPECT_THAT(log,
              ElementsAre("a", "b", "a", "b", "a", "b", "a", "b", "a", "b"));
  ASSERT_THAT(*points, SizeIs(2));
  EXPECT_THAT((*points)[0], ElementsAre(Field(&CurvePoint::recall, 0.0),
                                        Field(&CurvePoint::recall, 1.0)));
  EXPECT_THAT((*points)[1], Each(Field(&CurvePoint::qps, Gt(0))));
}

TEST(RunPassTest, MeasuresRecallOverAllQueries) {
  const Dataset dataset = LineSet();
  const TruthTable truth =
      ComputeTruth(dataset.base, dataset.queries, Metric::kL2, 1, 1);
  const RecallJudge judge(dataset.base, dataset.queries, Metric::kL2, truth, 1);
  std::vector<std::string> log;
  FakeSystem system("a", &log);
  for (const PassClock clock : {PassClock::kWall, PassClock::kThreadCpu}) {
    const auto point = RunPass(&system, dataset, judge, 10, clock);
    ASSERT_TRUE(point.ok());
    EXPECT_EQ(point->recall, 1.0);
    EXPECT_LE(point->p50_us, point->p99_us);
  }
}

// Peers answer as ours do, so that a table compares like with like.
TEST(AnnSystemTest, EverySystemFindsARowByItself) {
  const Dataset dataset = LineSet();
  std::vector<std::unique_ptr<AnnSystem>> systems;
  systems.push_back(MakeVicinalIndex());
  systems.push_back(MakeHnswlib());
  systems.push_back(MakeFaissHnsw());
  for (const std::unique_ptr<AnnSystem>& system : systems) {
    if (system == nullptr) continue;
    SCOPED_TRACE(system->name());
    const absl::Status built =
        system->Build(dataset, {.m = 8, .ef_construction = 50});
    ASSERT_TRUE(built.ok()) << built;
    for (size_t q = 0; q < dataset.queries.num_rows; ++q) {
      std::vector<uint32_t> rows(2);
      const auto found =
          system->Search(dataset.queries.row(q), 2, 50, rows.data());
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_EQ(*found, 2);
      EXPECT_EQ(rows[0], q);
    }
    EXPECT_GT(system->memory_bytes(), 100 * sizeof(float));
  }
}

TEST(ScopedPinTest, RestoresTheThreadsCpus) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  {
    const ScopedPin pin(0);
    cpu_set_t pinned;
    ASSERT_EQ(sched_getaffinity(0, sizeof(pinned), &pinned), 0);
    EXPECT_EQ(CPU_COUNT(&pinned), 1);
  }
  cpu_set_t after;
  ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

}  // namespace
}  // namespace vicinal::bench
