#include "index/flat.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/status/status.h"
#include "index/index.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/half.h"
#include "src/base/random.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kInnerProduct,
                               Metric::kCosine};
constexpr ElementType kTypes[] = {ElementType::kFloat32, ElementType::kFloat16,
                                  ElementType::kInt8, ElementType::kUint8};

// Random rows and a query of one type; rows are 3 bytes further apart than
// they need to be.
class Rows {
 public:
  Rows(ElementType type, size_t num_rows, size_t dim, uint64_t seed)
      : random_(seed) {
    const size_t row_bytes = dim * ElementSize(type);
    const size_t stride = row_bytes + 3;
    bytes_.resize(stride * (num_rows + 1));
    view_ = {bytes_.data(), num_rows, dim, stride, type};
    for (size_t row = 0; row <= num_rows; ++row) {
      for (size_t i = 0; i < dim; ++i) Put(bytes_.data() + row * stride, i);
    }
  }

  const VectorSetView& view() const { return view_; }
  const std::byte* query() const { return view_.row(view_.num_rows); }
  std::byte* mutable_row(size_t i) {
    return bytes_.data() + i * view_.stride_bytes;
  }

  std::vector<Neighbor> Naive(Metric metric, size_t k,
                              const Filter& filter) const {
    std::vector<Neighbor> all;
    const DistanceOps& ops = OpsFor(metric, view_.type);
    for (RowId row = 0; row < view_.num_rows; ++row) {
      if (!filter.Accepts(row)) continue;
      all.push_back({ops.one(query(), view_.row(row), view_.dim), row});
    }
    std::sort(all.begin(), all.end());
    all.resize(std::min(all.size(), k));
    return all;
  }

 private:
  void Put(std::byte* row, size_t i) {
    if (view_.type == ElementType::kFloat32) {
      const auto value = static_cast<float>(random_.Gaussian());
      std::memcpy(row + 4 * i, &value, 4);
    } else if (view_.type == ElementType::kFloat16) {
      const uint16_t value =
          FloatToHalf(static_cast<float>(random_.Gaussian()));
      std::memcpy(row + 2 * i, &value, 2);
    } else {
      row[i] = static_cast<std::byte>(random_.Next());
    }
  }

  Random random_;
  std::vector<std::byte> bytes_;
  VectorSetView view_;
};

std::vector<Neighbor> Search(const Rows& rows, Metric metric, size_t k,
                             const Filter& filter = {},
                             SearchStats* stats = nullptr) {
  const FlatIndex index(rows.view(), metric);
  TopK top(k);
  const absl::Status status =
      index.Search(rows.query(), {.k = k}, filter, {}, &top, stats);
  EXPECT_TRUE(status.ok()) << status;
  return top.TakeSorted();
}

TEST(FlatIndexTest, EqualsANaiveSortForEveryMetricAndType) {
  for (const Metric metric : kMetrics) {
    for (const ElementType type : kTypes) {
      for (const size_t num_rows : {0, 1, 255, 256, 257, 1000}) {
        const Rows rows(type, num_rows, 19, num_rows);
        for (const size_t k : {1, 10, 300}) {
          ASSERT_EQ(Search(rows, metric, k), rows.Naive(metric, k, {}))
              << num_rows << " rows, k " << k;
        }
      }
    }
  }
}

TEST(FlatIndexTest, ReturnsEveryRowWhenKIsLarger) {
  const Rows rows(ElementType::kFloat32, 30, 8, 1);
  EXPECT_EQ(Search(rows, Metric::kL2, 1000).size(), 30u);
}

TEST(FlatIndexTest, BreaksTiesByRow) {
  Rows rows(ElementType::kFloat32, 600, 4, 2);
  for (size_t row = 0; row < 600; ++row) {
    std::memset(rows.mutable_row(row), 0, 16);
  }
  const std::vector<Neighbor> found = Search(rows, Metric::kL2, 5);
  for (RowId row = 0; row < 5; ++row) EXPECT_EQ(found[row].row, row);
}

TEST(FlatIndexTest, ReturnsOnlyAllowedRowsAtEveryDensity) {
  const Rows rows(ElementType::kFloat32, 2000, 24, 3);
  Random random(4);
  for (const size_t percent : {0, 1, 10, 50, 74, 76, 99, 100}) {
    Bitmap allowed(2000);
    for (RowId row = 0; row < 2000; ++row) {
      if (random.Uniform(100) < percent) allowed.Set(row);
    }
    const Filter filter = {.allowed = &allowed, .num_allowed = allowed.Count()};
    EXPECT_EQ(Search(rows, Metric::kL2, 50, filter),
              rows.Naive(Metric::kL2, 50, filter))
        << percent;
  }
}

TEST(FlatIndexTest, SkipsDeletedRowsWithAndWithoutAFilter) {
  const Rows rows(ElementType::kUint8, 1500, 24, 5);
  AtomicBitmap deleted(1500);
  Bitmap allowed(1500);
  for (RowId row = 0; row < 1500; row += 3) deleted.Set(row);
  for (RowId row = 0; row < 1500; row += 2) allowed.Set(row);
  for (const bool filtered : {false, true}) {
    const Filter filter = {.allowed = filtered ? &allowed : nullptr,
                           .num_allowed = filtered ? allowed.Count() : 0,
                           .deleted = &deleted};
    EXPECT_EQ(Search(rows, Metric::kCosine, 40, filter),
              rows.Naive(Metric::kCosine, 40, filter));
  }
}

TEST(FlatIndexTest, CountsTheDistancesItComputed) {
  const Rows rows(ElementType::kFloat32, 1000, 8, 6);
  SearchStats stats;
  Search(rows, Metric::kL2, 10, {}, &stats);
  EXPECT_EQ(stats.distance_computations, 1000u);
  EXPECT_EQ(stats.expanded_nodes, 0u);
  Bitmap allowed(1000);
  for (RowId row = 0; row < 1000; row += 100) allowed.Set(row);
  Search(rows, Metric::kL2, 10, {.allowed = &allowed, .num_allowed = 10},
         &stats);
  EXPECT_EQ(stats.distance_computations, 1010u) << "it adds to what is there";
}

TEST(FlatIndexTest, SaysSoWhenTheDeadlineHasPassed) {
  const Rows rows(ElementType::kFloat32, 100, 8, 7);
  const FlatIndex index(rows.view(), Metric::kL2);
  TopK top(10);
  StopCondition stop;
  stop.deadline = std::chrono::steady_clock::time_point::min();
  EXPECT_EQ(index.Search(rows.query(), {}, {}, stop, &top, nullptr).code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(FlatIndexTest, StopsInTheMiddleAndKeepsWhatItFound) {
  // 8,192 rows of 4 KiB are 32 MiB, so it looks more than once.
  const Rows rows(ElementType::kUint8, 8192, 4096, 8);
  int num_calls = 0;
  StopCondition stop;
  stop.cancelled = [&] { return ++num_calls > 1; };
  const FlatIndex index(rows.view(), Metric::kL2);
  TopK top(10);
  SearchStats stats;
  EXPECT_EQ(index.Search(rows.query(), {}, {}, stop, &top, &stats).code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(top.size(), 10u);
  EXPECT_GT(stats.distance_computations, 0u);
  EXPECT_LT(stats.distance_computations, 8192u);
}

TEST(FlatIndexTest, OwnsNothing) {
  const Rows rows(ElementType::kFloat32, 100, 8, 9);
  const FlatIndex index(rows.view(), Metric::kL2);
  EXPECT_EQ(index.num_rows(), 100u);
  EXPECT_EQ(index.memory_bytes(), 0u);
}

TEST(ScanBlockTest, BlocksOfASegmentGiveWhatTheWholeGives) {
  const Rows rows(ElementType::kFloat16, 1000, 33, 10);
  Bitmap allowed(1000);
  AtomicBitmap deleted(1000);
  for (RowId row = 0; row < 1000; ++row) {
    if (row % 5 != 0) allowed.Set(row);
    if (row % 7 == 0) deleted.Set(row);
  }
  const Filter filter = {
      .allowed = &allowed, .num_allowed = allowed.Count(), .deleted = &deleted};
  TopK top(25);
  for (size_t begin = 0; begin < 1000;) {
    VectorSetView block = rows.view();
    block.data = block.row(begin);
    block.num_rows = std::min<size_t>(300, 1000 - begin);
    ASSERT_TRUE(ScanBlock(block, static_cast<RowId>(begin), Metric::kL2,
                          rows.query(), filter, {}, &top, nullptr)
                    .ok());
    begin += block.num_rows;
  }
  EXPECT_EQ(top.TakeSorted(), rows.Naive(Metric::kL2, 25, filter));
}

}  // namespace
}  // namespace vicinal
