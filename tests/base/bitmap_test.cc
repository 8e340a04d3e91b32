// Bits against a plain vector, from many threads, and filters made of them.
#include "src/base/bitmap.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/base/thread_pool.h"

namespace vicinal {
namespace {

template <typename T>
class AnyBitmapTest : public ::testing::Test {};
using BitmapTypes = ::testing::Types<Bitmap, AtomicBitmap>;
TYPED_TEST_SUITE(AnyBitmapTest, BitmapTypes);

TYPED_TEST(AnyBitmapTest, StartsClear) {
  for (const size_t num_bits : {0, 1, 63, 64, 65, 1'000}) {
    const TypeParam bitmap(num_bits);
    EXPECT_EQ(bitmap.num_bits(), num_bits);
    EXPECT_EQ(bitmap.Count(), 0U);
    for (size_t i = 0; i < num_bits; ++i) {
      EXPECT_FALSE(bitmap.Test(static_cast<RowId>(i)));
    }
  }
}

TYPED_TEST(AnyBitmapTest, SetsOneBitAndNoOther) {
  for (const RowId row : {0, 1, 62, 63, 64, 65, 127, 128, 129}) {
    TypeParam bitmap(130);
    bitmap.Set(row);
    for (RowId other = 0; other < 130; ++other) {
      EXPECT_EQ(bitmap.Test(other), other == row) << row << " " << other;
    }
    EXPECT_EQ(bitmap.Count(), 1U);
  }
}

TYPED_TEST(AnyBitmapTest, EqualsAVectorAndCountsABitOnce) {
  constexpr size_t kNumBits = 1'001;
  Random random(6);
  TypeParam bitmap(kNumBits);
  std::vector<bool> expected(kNumBits);
  size_t count = 0;
  for (int i = 0; i < 2'000; ++i) {
    const auto row = static_cast<RowId>(random.Uniform(kNumBits));
    count += expected[row] ? 0 : 1;
    expected[row] = true;
    bitmap.Set(row);
    ASSERT_EQ(bitmap.Count(), count);
  }
  for (RowId row = 0; row < kNumBits; ++row) {
    EXPECT_EQ(bitmap.Test(row), expected[row]);
  }
}

TEST(AtomicBitmapTest, SaysWhetherTheBitWasClear) {
  AtomicBitmap bitmap(70);
  EXPECT_TRUE(bitmap.Set(69));
  EXPECT_FALSE(bitmap.Set(69));
  EXPECT_TRUE(bitmap.Set(68));
  EXPECT_EQ(bitmap.Count(), 2U);
}

TEST(AtomicBitmapTest, HasNoBitBeforeTheFirstIsSet) {
  const AtomicBitmap bitmap(70);
  EXPECT_FALSE(bitmap.Test(69));
  EXPECT_EQ(bitmap.Count(), 0U);
  Bitmap rows(70);
  rows.Flip();
  rows.AndNot(bitmap);
  EXPECT_EQ(rows.Count(), 70U);
}

TEST(AtomicBitmapTest, EveryBitIsNewToOneOfManyThreads) {
  constexpr size_t kNumBits = 10'000;
  AtomicBitmap bitmap(kNumBits);
  std::atomic<size_t> num_new = 0;
  ThreadPool pool(3);
  pool.ParallelFor(4, [&](size_t) {
    for (RowId row = 0; row < kNumBits; ++row) {
      if (bitmap.Set(row)) num_new.fetch_add(1);
      EXPECT_TRUE(bitmap.Test(row));
    }
  });
  EXPECT_EQ(num_new, kNumBits);
  EXPECT_EQ(bitmap.Count(), kNumBits);
}

class FilterTest : public ::testing::Test {
 protected:
  FilterTest() {
    for (const RowId row : {1, 2, 3}) allowed_.Set(row);
  }
  static constexpr size_t kNumRows = 10;
  Bitmap allowed_{kNumRows};
  AtomicBitmap deleted_{kNumRows};
};

TEST_F(FilterTest, AcceptsAllUnlessSaidOtherwise) {
  const Filter filter;
  EXPECT_TRUE(filter.AcceptsAll());
  EXPECT_TRUE(filter.Accepts(0));
  EXPECT_EQ(filter.NumAccepted(kNumRows), kNumRows);
  EXPECT_EQ(filter.NumAccepted(0), 0U);
}

TEST_F(FilterTest, AcceptsWhatIsAllowed) {
  const Filter filter{.allowed = &allowed_, .num_allowed = 3};
  EXPECT_FALSE(filter.AcceptsAll());
  for (RowId row = 0; row < kNumRows; ++row) {
    EXPECT_EQ(filter.Accepts(row), row >= 1 && row <= 3);
  }
  EXPECT_EQ(filter.NumAccepted(kNumRows), 3U);
}

TEST_F(FilterTest, LeavesOutWhatIsDeletedFromThenOn) {
  const Filter filter{.deleted = &deleted_};
  EXPECT_TRUE(filter.AcceptsAll());
  deleted_.Set(4);
  EXPECT_FALSE(filter.AcceptsAll());
  EXPECT_FALSE(filter.Accepts(4));
  EXPECT_TRUE(filter.Accepts(5));
  EXPECT_EQ(filter.NumAccepted(kNumRows), kNumRows - 1);
  deleted_.Set(5);
  EXPECT_EQ(filter.NumAccepted(1), 0U);  // fewer than are deleted
}

TEST_F(FilterTest, CountsAllowedAndDeletedRowsFromAbove) {
  const Filter filter{
      .allowed = &allowed_, .num_allowed = 3, .deleted = &deleted_};
  deleted_.Set(2);
  EXPECT_FALSE(filter.Accepts(2));
  EXPECT_TRUE(filter.Accepts(3));
  EXPECT_FALSE(filter.Accepts(9));
  EXPECT_EQ(filter.NumAccepted(kNumRows), 3U);
  for (RowId row = 0; row < 9; ++row) deleted_.Set(row);
  EXPECT_EQ(filter.NumAccepted(kNumRows), 1U);
}

TEST(BitmapTest, VisitsTheBitsOfAnyRange) {
  Random random(5);
  for (const size_t n : {1u, 63u, 64u, 65u, 300u}) {
    Bitmap bitmap(n);
    std::vector<RowId> set;
    for (size_t row = 0; row < n; ++row) {
      if (random.Uniform(3) != 0) continue;
      bitmap.Set(static_cast<RowId>(row));
      set.push_back(static_cast<RowId>(row));
    }
    std::vector<RowId> all;
    bitmap.ForEach([&](RowId row) { all.push_back(row); });
    EXPECT_EQ(all, set);
    for (int round = 0; round < 200; ++round) {
      const size_t begin = random.Uniform(n + 1);
      const size_t end = begin + random.Uniform(n - begin + 1);
      std::vector<RowId> some, expected;
      bitmap.ForEachIn(begin, end, [&](RowId row) { some.push_back(row); });
      for (const RowId row : set) {
        if (row >= begin && row < end) expected.push_back(row);
      }
      EXPECT_EQ(some, expected) << n << ' ' << begin << ' ' << end;
    }
    const Bitmap longer(n + 70, bitmap);
    EXPECT_EQ(longer.Count(), set.size());
    EXPECT_EQ(longer.num_bits(), n + 70);
  }
}

TEST(BitmapTest, LosesWhatIsDead) {
  Bitmap rows(70);
  rows.Flip();
  AtomicBitmap dead(200);
  for (const RowId row : {0u, 63u, 64u, 69u, 70u, 150u}) dead.Set(row);
  rows.AndNot(dead);
  EXPECT_EQ(rows.Count(), 66u);
  EXPECT_FALSE(rows.Test(64));
  EXPECT_TRUE(rows.Test(65));
}

}  // namespace
}  // namespace vicinal
