#include "quant/kmeans.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "src/distance/distance.h"
#include "tests/index/index_test_util.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 9;

MatrixView View(const std::vector<float>& values) {
  return {values.data(), values.size() / kDim, kDim, kDim};
}

TEST(CentroidPanelsTest, GivesTheNearestInOrder) {
  const std::vector<float> points = ClusteredValues(150, kDim, 5, 1, 0);
  for (const size_t num_centroids : {1, 2, 15, 16, 17, 100}) {
    const std::vector<float> centroids =
        ClusteredValues(num_centroids, kDim, 5, 1, 1);
    const CentroidPanels panels(View(centroids));
    const size_t k = std::min(num_centroids, CentroidPanels::kMaxNearest);
    std::vector<uint32_t> nearest(150 * k);
    std::vector<float> distances(150 * k);
    panels.Nearest(points.data(), 150, k, nearest.data(), distances.data());
    for (size_t i = 0; i < 150; ++i) {
      std::vector<Neighbor> exact;
      for (uint32_t c = 0; c < num_centroids; ++c) {
        exact.push_back(
            {OpsFor(Metric::kL2, ElementType::kFloat32)
                 .one(&points[i * kDim], &centroids[c * kDim], kDim),
             c});
      }
      std::sort(exact.begin(), exact.end());
      for (size_t j = 0; j < k; ++j) {
        EXPECT_EQ(nearest[i * k + j], exact[j].row);
        EXPECT_NEAR(distances[i * k + j], exact[j].distance,
                    1e-5 * exact[j].distance);
      }
    }
  }
}

TEST(CentroidPanelsTest, TiesGoToTheSmallerNumber) {
  const std::vector<float> centroids(20 * kDim, 1.0f);
  const std::vector<float> point(kDim, 2.0f);
  uint32_t nearest[3];
  CentroidPanels(View(centroids)).Nearest(point.data(), 1, 3, nearest, nullptr);
  EXPECT_EQ(nearest[0], 0u);
  EXPECT_EQ(nearest[1], 1u);
  EXPECT_EQ(nearest[2], 2u);
}

TEST(KMeansTest, FindsSeparateClusters) {
  std::vector<float> points(90 * kDim);
  for (size_t i = 0; i < points.size(); ++i) {
    points[i] =
        static_cast<float>(100 * (i / kDim % 3)) + static_cast<float>(i % 7);
  }
  Workers workers(2);
  const auto centroids = TrainKMeans(View(points), 3, 5, &workers, nullptr);
  ASSERT_TRUE(centroids.ok());
  for (size_t c = 0; c < 3; ++c) {
    EXPECT_NEAR((*centroids)[c * kDim], 100.0f * static_cast<float>(c) + 3, 3);
  }
}

TEST(KMeansTest, DoesNotDependOnThreads) {
  const std::vector<float> points = ClusteredValues(3000, kDim, 20, 2, 0);
  Workers one(1);
  Workers three(3);
  EXPECT_EQ(*TrainKMeans(View(points), 40, 4, &one, nullptr),
            *TrainKMeans(View(points), 40, 4, &three, nullptr));
}

}  // namespace
}  // namespace vicinal
