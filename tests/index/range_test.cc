// Filters that accept rows of a range only, by every index: what is found
// equals what a scan of each accepted row finds.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "index/flat.h"
#include "index/hnsw.h"
#include "index/ivf.h"
#include "quant/codec.h"
#include "src/base/bitmap.h"
#include "src/base/random.h"
#include "src/distance/distance.h"
#include "tests/index/index_test_util.h"

namespace vicinal {
namespace {

constexpr size_t kRows = 3'000;
constexpr size_t kDim = 40;
constexpr size_t kK = 10;

// A range with any of: a bitmap, deleted rows.
class RangeTest : public ::testing::TestWithParam<Metric> {
 protected:
  RangeTest() {
    for (RowId row = 0; row < kRows; ++row) {
      if (random_.Uniform(3) == 0) deleted_.Set(row);
    }
  }

  // Row by row, without the help of an index.
  std::vector<Neighbor> Naive(const void* query, const Filter& filter) const {
    const DistanceOps& ops = OpsFor(GetParam(), ElementType::kFloat32);
    TopK nearest(kK);
    for (RowId row = 0; row < kRows; ++row) {
      if (filter.Accepts(row)) {
        nearest.Push({ops.one(query, rows_.row(row), kDim), row});
      }
    }
    return nearest.TakeSorted();
  }

  // Calls check(query, filter) for many of them. Bitmaps have bits outside of
  // their range, too.
  template <typename Check>
  void ForFilters(const Check& check) {
    const std::pair<RowId, RowId> ranges[] = {{0, 0},
                                              {0, 1},
                                              {17, 18},
                                              {kRows - 1, kRows},
                                              {0, kRows},
                                              {100, kInvalidRow},
                                              {15, 33},
                                              {16, 32},
                                              {kRows, kInvalidRow},
                                              {500, 500},
                                              {1'000, 2'777},
                                              {kRows + 5, kRows + 9}};
    for (size_t i = 0; i < std::size(ranges) + 20; ++i) {
      Filter filter;
      if (i < std::size(ranges)) {
        std::tie(filter.begin, filter.end) = ranges[i];
      } else {
        filter.begin = static_cast<RowId>(random_.Uniform(kRows));
        filter.end = static_cast<RowId>(
            filter.begin + random_.Uniform(kRows - filter.begin + 1));
      }
      for (const uint64_t sparseness : {0, 1, 2, 50}) {
        Bitmap allowed(kRows);
        for (RowId row = 0; row < kRows && sparseness > 0; ++row) {
          if (random_.Uniform(sparseness) == 0) allowed.Set(row);
        }
        if (sparseness > 0) {
          filter.allowed = &allowed;
          filter.num_allowed =
              allowed.CountIn(std::min<size_t>(filter.begin, kRows),
                              std::min<size_t>(filter.end, kRows));
        } else {
          filter.allowed = nullptr;
        }
        for (const AtomicBitmap* deleted :
             {static_cast<const AtomicBitmap*>(nullptr),
              &std::as_const(deleted_)}) {
          filter.deleted = deleted;
          SCOPED_TRACE(::testing::Message()
                       << filter.begin << " .. " << filter.end << ", 1 in "
                       << sparseness
                       << (deleted == nullptr ? "" : ", deleted"));
          check(queries_.row(i % queries_.num_rows), filter);
        }
      }
    }
  }

  Random random_{5};
  const OwnedVectors rows_ = Clustered(kRows, kDim, 30, 4);
  const OwnedVectors queries_ = Clustered(10, kDim, 30, 4, 1);
  AtomicBitmap deleted_{kRows};
};

TEST_P(RangeTest, OfAScan) {
  const FlatIndex index(rows_.view(), GetParam());
  ForFilters([&](const void* query, const Filter& filter) {
    SearchStats stats;
    EXPECT_EQ(SearchIndex(index, query, kK, 0, filter, &stats),
              Naive(query, filter));
    EXPECT_LE(stats.distance_computations, filter.RangeRows(kRows));
  });
}

TEST_P(RangeTest, OfAScanOfBlocks) {
  ForFilters([&](const void* query, const Filter& filter) {
    TopK nearest(kK);
    for (size_t begin = 0; begin < kRows; begin += 700) {
      VectorSetView block = rows_.view();
      block.data = block.row(begin);
      block.num_rows = std::min<size_t>(700, kRows - begin);
      ASSERT_TRUE(ScanBlock(block, static_cast<RowId>(begin), GetParam(), query,
                            filter, {}, &nearest, nullptr)
                      .ok());
    }
    EXPECT_EQ(nearest.TakeSorted(), Naive(query, filter));
  });
}

TEST_P(RangeTest, OfAGraph) {
  const std::string graph =
      *BuildHnswGraph(rows_.view(), GetParam(), {}, 2, nullptr, nullptr);
  const auto index = *HnswIndex::Open(rows_.view(), GetParam(), graph);
  size_t num_found = 0, num_wanted = 0;
  ForFilters([&](const void* query, const Filter& filter) {
    const auto wanted = Naive(query, filter);
    const auto found = SearchIndex(*index, query, kK, 200, filter);
    ASSERT_EQ(found.size(), wanted.size());
    num_wanted += wanted.size();
    for (const Neighbor& neighbor : found) {
      EXPECT_TRUE(filter.Accepts(neighbor.row));
      num_found += neighbor.distance <= wanted.back().distance;
    }
  });
  EXPECT_GE(num_found, num_wanted * 97 / 100);
}

TEST_P(RangeTest, OfLists) {
  IvfLists lists =
      *BuildIvfLists(rows_.view(), GetParam(), {.num_lists = 40}, 2, nullptr);
  const OwnedVectors rows = Permuted(rows_, lists.order);
  const auto index = *IvfIndex::Open(rows.view(), GetParam(), lists.bytes);
  ForFilters([&](const void* query, const Filter& filter) {
    const auto wanted = ExactSearch(rows.view(), GetParam(), query, kK, filter);
    SearchStats stats;
    EXPECT_EQ(SearchIndex(*index, query, kK, kRows, filter, &stats), wanted);
    EXPECT_LE(stats.distance_computations, filter.RangeRows(kRows) + 40);
    // Of some lists, but no fewer results.
    const auto found = SearchIndex(*index, query, kK, 1, filter);
    EXPECT_EQ(found.size(), wanted.size());
    for (const Neighbor& neighbor : found) {
      EXPECT_TRUE(filter.Accepts(neighbor.row));
    }
  });
}

TEST_P(RangeTest, OfListsOfCodes) {
  IvfLists lists =
      *BuildIvfLists(rows_.view(), GetParam(), {.num_lists = 40}, 2, nullptr);
  const OwnedVectors rows = Permuted(rows_, lists.order);
  const auto index = *IvfIndex::Open(rows.view(), GetParam(), lists.bytes);
  const RowCentres centres = index->centres();
  const auto codec = *TrainCodec(rows.view(), GetParam(), {.avg_bits = 4}, 2,
                                 nullptr, &centres);
  const CodeLayout& layout = codec->layout();
  std::vector<uint8_t> records(kRows * layout.record_bytes);
  ASSERT_TRUE(codec->Encode(rows.view(), records, 2, nullptr, &centres).ok());
  std::vector<uint8_t> blocks(CodeBlocksBytes(layout, kRows));
  PackCodeBlocks(layout, records.data(), kRows, blocks.data());
  index->UseCodes(codec.get(), blocks.data());
  size_t num_found = 0, num_wanted = 0;
  // Ranges begin and end within blocks of sixteen codes.
  ForFilters([&](const void* query, const Filter& filter) {
    const auto wanted = ExactSearch(rows.view(), GetParam(), query, kK, filter);
    for (const ForcedPlan plan : {ForcedPlan::kNone, ForcedPlan::kIndex}) {
      for (const size_t filtered_ef : {0, 40}) {
        TopK nearest(kK);
        ASSERT_TRUE(index
                        ->Search(query,
                                 {.k = kK,
                                  .ef = 40,
                                  .rerank = 60,
                                  .filtered_ef = filtered_ef,
                                  .force = plan},
                                 filter, {}, &nearest, nullptr)
                        .ok());
        const auto found = nearest.TakeSorted();
        ASSERT_EQ(found.size(), wanted.size());
        num_wanted += wanted.size();
        for (const Neighbor& neighbor : found) {
          EXPECT_TRUE(filter.Accepts(neighbor.row));
          num_found += neighbor.distance <= wanted.back().distance;
        }
      }
    }
  });
  EXPECT_GE(num_found, num_wanted * 97 / 100);
}

INSTANTIATE_TEST_SUITE_P(Metrics, RangeTest,
                         ::testing::Values(Metric::kL2, Metric::kInnerProduct,
                                           Metric::kCosine));

TEST(FilterRangeTest, CountsWhatItLeaves) {
  Bitmap bits(200);
  for (RowId row = 0; row < 200; row += 3) bits.Set(row);
  for (size_t begin = 0; begin <= 200; begin += 7) {
    for (size_t end = begin; end <= 200; ++end) {
      size_t count = 0;
      bits.ForEachIn(begin, end, [&](RowId) { ++count; });
      EXPECT_EQ(bits.CountIn(begin, end), count) << begin << " " << end;
      // Of a part that begins at the multiple of 64 before.
      const size_t first = begin / 64 * 64;
      Bitmap part(200 - first);
      for (size_t i = first; i < 200; ++i)
        part.Set(static_cast<RowId>(i - first));
      Bitmap all(200);
      all.OrIn(begin, end, first, part);
      EXPECT_EQ(all.Count(), end - begin);
      EXPECT_EQ(all.CountIn(begin, end), end - begin);
    }
  }
  EXPECT_EQ((Filter{.begin = 5}).RangeRows(20), 15u);
  EXPECT_EQ((Filter{.begin = 5, .end = 9}).RangeRows(20), 4u);
  EXPECT_EQ((Filter{.begin = 25, .end = 90}).RangeRows(20), 0u);
  EXPECT_EQ((Filter{.begin = 5, .end = 90}).NumAccepted(20), 15u);
  EXPECT_FALSE((Filter{.begin = 5}).AcceptsAll());
  EXPECT_FALSE((Filter{.end = 5}).AcceptsAll());
  EXPECT_TRUE(Filter().AcceptsAll());
}

}  // namespace
}  // namespace vicinal
