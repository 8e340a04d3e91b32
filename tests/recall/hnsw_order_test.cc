// Recall must not depend on the order in which points were inserted. Elliott
// and Clark (ICTIR 2024) saw up to 12.8 points between ascending and descending
// local intrinsic dimensionality in libraries that insert in the given order.
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "index/cell_order.h"
#include "index/flat.h"
#include "index/hnsw.h"
#include "src/base/random.h"
#include "src/base/top_k.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr char kFolder[] = "/usr/share/datasets/fashion-mnist/";
constexpr size_t kDim = 784;
// Of 60,000, which lie in no order: comparing all with all takes its time.
constexpr size_t kNumImages = 24'000;
constexpr size_t kLidNeighbors = 100;
constexpr size_t kNumQueries = 1000;
constexpr size_t kNumThreads = 2;

// The content of a gzipped idx file after its header; empty when unreadable.
std::vector<uint8_t> ReadIdx(const std::string& name, size_t header_bytes) {
  std::vector<uint8_t> bytes;
  gzFile file = gzopen((kFolder + name).c_str(), "rb");
  if (file == nullptr) return bytes;
  std::array<uint8_t, 1 << 16> block;
  for (int n; (n = gzread(file, block.data(), block.size())) > 0;) {
    bytes.insert(bytes.end(), block.begin(), block.begin() + n);
  }
  gzclose(file);
  bytes.erase(bytes.begin(),
              bytes.begin() + std::min(bytes.size(), header_bytes));
  return bytes;
}

VectorSetView FloatView(const std::vector<float>& values) {
  return {reinterpret_cast<const std::byte*>(values.data()),
          values.size() / kDim, kDim, kDim * sizeof(float),
          ElementType::kFloat32};
}

// Maximum-likelihood local intrinsic dimensionality of every row over its 100
// exact nearest neighbours at distances r_1 .. r_100 (Levina and Bickel, 2004):
// -1 / mean(ln(r_i / r_100)). Neighbours at distance 0 are left out.
std::vector<double> LocalDimensions(const std::vector<uint8_t>& images) {
  const size_t n = images.size() / kDim;
  const DistanceOps& ops = OpsFor(Metric::kL2, ElementType::kUint8);
  std::vector<double> lids(n);
  constexpr size_t kBlock = 64;
  Workers(kNumThreads).For(n, kBlock, [&](size_t begin, size_t end, size_t) {
    std::vector<TopK> nearest(end - begin, TopK(kLidNeighbors));
    std::array<float, kBlock> distances;
    for (size_t first = 0; first < n; first += kBlock) {
      const size_t count = std::min(kBlock, n - first);
      for (size_t row = begin; row < end; ++row) {
        TopK& top = nearest[row - begin];
        ops.scan(&images[row * kDim], &images[first * kDim], kDim, count, kDim,
                 distances.data());
        for (size_t i = 0; i < count; ++i) {
          if (first + i != row && distances[i] > 0 &&
              distances[i] <= top.threshold()) {
            top.Push({distances[i], static_cast<RowId>(first + i)});
          }
        }
      }
    }
    for (size_t row = begin; row < end; ++row) {
      const std::vector<Neighbor> found = nearest[row - begin].TakeSorted();
      double sum = 0;
      for (const Neighbor& neighbor : found) {
        // Half of the logarithm of the ratio of squares.
        sum += 0.5 * std::log(neighbor.distance / found.back().distance);
      }
      lids[row] = -static_cast<double>(found.size()) / sum;
    }
  });
  return lids;
}

std::vector<RowId> SortedBy(const auto& keys, bool descending) {
  std::vector<RowId> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](RowId a, RowId b) {
    return descending ? keys[b] < keys[a] : keys[a] < keys[b];
  });
  return order;
}

// Mean recall@10 at ef 40 of the graph over the rows inserted in this order,
// sealed as the engine does it: cell order, then the build.
double RecallOf(const std::vector<uint8_t>& images,
                const std::vector<RowId>& insertion_order,
                const std::vector<float>& queries,
                const std::vector<float>& truth) {
  std::vector<float> inserted(images.size());
  for (size_t i = 0; i < insertion_order.size(); ++i) {
    std::copy_n(&images[insertion_order[i] * kDim], kDim, &inserted[i * kDim]);
  }
  const auto order = CellOrder(FloatView(inserted), Metric::kL2, /*seed=*/1,
                               kNumThreads, nullptr);
  EXPECT_TRUE(order.ok()) << order.status();
  std::vector<float> sealed(inserted.size());
  for (size_t i = 0; i < order->size(); ++i) {
    std::copy_n(&inserted[(*order)[i] * kDim], kDim, &sealed[i * kDim]);
  }
  const auto graph = BuildHnswGraph(FloatView(sealed), Metric::kL2, {},
                                    kNumThreads, nullptr, nullptr);
  EXPECT_TRUE(graph.ok()) << graph.status();
  const auto index = HnswIndex::Open(FloatView(sealed), Metric::kL2, *graph);
  EXPECT_TRUE(index.ok()) << index.status();
  EXPECT_EQ((*index)->CountReachable(), order->size());
  size_t hits = 0;
  for (size_t q = 0; q < kNumQueries; ++q) {
    TopK top(10);
    EXPECT_TRUE((*index)
                    ->Search(&queries[q * kDim], {.k = 10, .ef = 40}, {}, {},
                             &top, nullptr)
                    .ok());
    for (const Neighbor& found : top.TakeSorted()) {
      hits += found.distance <= truth[q];
    }
  }
  return static_cast<double>(hits) / (10 * kNumQueries);
}

TEST(HnswOrderTest, RecallIsTheSameForEveryInsertionOrderOfFashionMnist) {
  std::vector<uint8_t> images = ReadIdx("train-images-idx3-ubyte.gz", 16);
  std::vector<uint8_t> labels = ReadIdx("train-labels-idx1-ubyte.gz", 8);
  const std::vector<uint8_t> tests = ReadIdx("t10k-images-idx3-ubyte.gz", 16);
  if (images.empty() || labels.empty() || tests.empty()) {
    GTEST_SKIP() << "no Fashion-MNIST in " << kFolder
                 << " (Debian package dataset-fashion-mnist)";
  }
  ASSERT_EQ(images.size(), labels.size() * kDim);
  ASSERT_GE(labels.size(), kNumImages);
  images.resize(kNumImages * kDim);
  labels.resize(kNumImages);
  const std::vector<float> queries(tests.begin(),
                                   tests.begin() + kNumQueries * kDim);
  // Distance of the tenth nearest image to each query.
  const std::vector<float> values(images.begin(), images.end());
  const FlatIndex flat(FloatView(values), Metric::kL2);
  std::vector<float> truth(kNumQueries);
  Workers(kNumThreads)
      .For(kNumQueries, 8, [&](size_t begin, size_t end, size_t) {
        for (size_t q = begin; q < end; ++q) {
          TopK top(10);
          ASSERT_TRUE(
              flat.Search(&queries[q * kDim], {.k = 10}, {}, {}, &top, nullptr)
                  .ok());
          truth[q] = top.threshold();
        }
      });

  const std::vector<double> lids = LocalDimensions(images);
  std::vector<uint64_t> shuffled(labels.size());
  Random random(1);
  for (uint64_t& key : shuffled) key = random.Next();
  const double by_label =
      RecallOf(images, SortedBy(labels, false), queries, truth);
  const double by_chance =
      RecallOf(images, SortedBy(shuffled, false), queries, truth);
  const double lid_up = RecallOf(images, SortedBy(lids, false), queries, truth);
  const double lid_down =
      RecallOf(images, SortedBy(lids, true), queries, truth);
  std::printf(
      "recall@10 at ef 40: by label %.4f, shuffled %.4f, LID up %.4f, LID down "
      "%.4f (mean LID %.1f)\n",
      by_label, by_chance, lid_up, lid_down,
      std::accumulate(lids.begin(), lids.end(), 0.0) / lids.size());
  const auto [low, high] = std::minmax({by_label, by_chance, lid_up, lid_down});
  EXPECT_LE(high - low, 0.01);
  EXPECT_GE(low, 0.98);
}

}  // namespace
}  // namespace vicinal
