// Pooled tokens are the means of Ward's clusters.
#include "client/token_pooling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/client/test_files.h"

namespace vicinal::client {
namespace {

using testing::ElementsAre;
using testing::FloatNear;

TEST(TokenPoolingTest, KeepsTheRoundedUpShareOfTokens) {
  for (const size_t n : {0, 1, 2, 3, 7, 8, 9, 100}) {
    const auto tokens = RandomFloats(n * 5, n + 1);
    for (const size_t factor : {1, 2, 3, 8, 256}) {
      EXPECT_EQ(PoolTokens(tokens, 5, factor, false).size(),
                (n + factor - 1) / factor * 5)
          << n << " " << factor;
    }
  }
}

TEST(TokenPoolingTest, LeavesTokensAloneByFactor1) {
  const auto tokens = RandomFloats(30, 3);
  EXPECT_EQ(PoolTokens(tokens, 3, 1, true), tokens);
}

TEST(TokenPoolingTest, MeansTheTokensThatAreAlike) {
  // Pairs, not beside one another; the order is that of the first of each.
  const std::vector<float> tokens = {0, 1, 5, 5, 0, 3, 6, 5};
  EXPECT_THAT(PoolTokens(tokens, 2, 2, false), ElementsAre(0, 2, 5.5F, 5));
}

TEST(TokenPoolingTest, PoolsDirectionsForCosine) {
  // Long and short tokens of the same direction count the same.
  const std::vector<float> tokens = {10, 0, 0, 0.5F, 1, 0, 0, 3};
  EXPECT_THAT(PoolTokens(tokens, 2, 2, true), ElementsAre(1, 0, 0, 1));
  // Means are brought to length 1 again.
  const auto one = PoolTokens(std::vector<float>{1, 0, 0, 1}, 2, 2, true);
  EXPECT_THAT(one, ElementsAre(FloatNear(std::sqrt(0.5F), 1e-6F),
                               FloatNear(std::sqrt(0.5F), 1e-6F)));
}

TEST(TokenPoolingTest, OppositeTokensHaveNoMeanDirection) {
  EXPECT_THAT(PoolTokens(std::vector<float>{1, 0, -1, 0}, 2, 2, true),
              ElementsAre(0, 0));
}

// The same merges as by always joining the closest pair, tried out.
TEST(TokenPoolingTest, IsWardsClustering) {
  constexpr size_t kTokens = 40, kDim = 4, kFactor = 4;
  for (const uint64_t seed : {1, 2, 3, 4, 5}) {
    const auto tokens = RandomFloats(kTokens * kDim, seed);
    struct Cluster {
      size_t first;
      double size;
      std::vector<double> sum;
    };
    std::vector<Cluster> clusters;
    for (size_t t = 0; t < kTokens; ++t) {
      clusters.push_back(
          {t,
           1,
           {tokens.begin() + static_cast<int64_t>(t * kDim),
            tokens.begin() + static_cast<int64_t>((t + 1) * kDim)}});
    }
    while (clusters.size() > kTokens / kFactor) {
      double least = std::numeric_limits<double>::infinity();
      size_t a = 0, b = 0;
      for (size_t i = 0; i < clusters.size(); ++i) {
        for (size_t j = i + 1; j < clusters.size(); ++j) {
          const Cluster &x = clusters[i], &y = clusters[j];
          double cost = 0;
          for (size_t d = 0; d < kDim; ++d) {
            const double difference = x.sum[d] / x.size - y.sum[d] / y.size;
            cost += difference * difference;
          }
          cost *= x.size * y.size / (x.size + y.size);
          if (cost < least) least = cost, a = i, b = j;
        }
      }
      clusters[a].size += clusters[b].size;
      for (size_t d = 0; d < kDim; ++d) {
        clusters[a].sum[d] += clusters[b].sum[d];
      }
      clusters.erase(clusters.begin() + static_cast<int64_t>(b));
    }
    const auto pooled = PoolTokens(tokens, kDim, kFactor, false);
    ASSERT_EQ(pooled.size(), clusters.size() * kDim);
    for (size_t c = 0; c < clusters.size(); ++c) {
      for (size_t d = 0; d < kDim; ++d) {
        EXPECT_NEAR(pooled[c * kDim + d], clusters[c].sum[d] / clusters[c].size,
                    1e-5)
            << "seed " << seed;
      }
    }
  }
}

TEST(TokenPoolingTest, PoolsLongDocumentsByStretches) {
  const auto tokens = RandomFloats(size_t{5'000} * 2, 9);
  EXPECT_EQ(PoolTokens(tokens, 2, 3, false).size(), size_t{1'667} * 2);
  EXPECT_EQ(PoolTokens(tokens, 2, 256, true).size(), size_t{20} * 2);
}

TEST(TokenPoolingTest, EndsWithTokensThatAreNoNumbers) {
  auto tokens = RandomFloats(60, 4);
  tokens[7] = std::numeric_limits<float>::quiet_NaN();
  tokens[20] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(PoolTokens(tokens, 3, 2, true).size(), 30u);
  EXPECT_EQ(PoolTokens(std::vector<float>(64, 1), 2, 4, false),
            std::vector<float>(16, 1));  // all the same
}

}  // namespace
}  // namespace vicinal::client
