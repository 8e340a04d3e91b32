// Work on blocks of pairs: every instruction set against the scalar one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "src/base/random.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr uint64_t kSeed = 1;
constexpr const char* kNames[] = {"scalar", "avx2", "avx512"};

std::vector<float> Gaussian(Random* random, size_t n) {
  std::vector<float> values(n);
  for (float& value : values) value = static_cast<float>(random->Gaussian());
  return values;
}

// Distances of all rows to all columns by one table.
std::vector<float> AllPairs(const DistanceKernels& kernels,
                            const std::vector<float>& rows,
                            const std::vector<float>& columns, size_t dim,
                            bool product = false) {
  const size_t num_columns = columns.size() / dim;
  const size_t num_panels = (num_columns + kPairPanel - 1) / kPairPanel;
  std::vector<float> panels(num_panels * kPairPanel * dim);
  PackPanels(columns.data(), dim, num_columns, dim, panels.data());
  const size_t stride = num_panels * kPairPanel + 3;
  std::vector<float> out(rows.size() / dim * stride, -1.0f);
  (product ? kernels.pair_ip : kernels.pair_l2)(
      rows.data(), dim, rows.size() / dim, panels.data(), num_panels, dim,
      out.data(), stride);
  return out;
}

TEST(PairDistanceTest, EveryInstructionSetGivesTheBitsOfScalar) {
  Random random(kSeed);
  for (const size_t dim : {1, 2, 15, 16, 17, 100, 128, 784}) {
    for (const size_t num_rows : {1, 4, 5, 8, 9, 21}) {
      for (const size_t num_columns : {1, 16, 17, 48, 70}) {
        const std::vector<float> rows = Gaussian(&random, num_rows * dim);
        const std::vector<float> columns = Gaussian(&random, num_columns * dim);
        for (const bool product : {false, true}) {
          const std::vector<float> expected =
              AllPairs(*FindKernels("scalar"), rows, columns, dim, product);
          for (const char* name : kNames) {
            const DistanceKernels* kernels = FindKernels(name);
            if (kernels == nullptr) continue;
            const std::vector<float> got =
                AllPairs(*kernels, rows, columns, dim, product);
            ASSERT_EQ(std::memcmp(got.data(), expected.data(),
                                  got.size() * sizeof(float)),
                      0)
                << name << " dim " << dim << ", " << num_rows << " x "
                << num_columns << (product ? " products" : "");
          }
        }
      }
    }
  }
}

TEST(PairDistanceTest, IsSymmetricAndZeroForEqualVectors) {
  Random random(kSeed);
  constexpr size_t kDim = 37;
  constexpr size_t kNum = 32;
  const std::vector<float> rows = Gaussian(&random, kNum * kDim);
  const std::vector<float> out = AllPairs(ActiveKernels(), rows, rows, kDim);
  const size_t stride = kNum + 3;
  for (size_t i = 0; i < kNum; ++i) {
    EXPECT_EQ(out[i * stride + i], 0.0f);
    for (size_t j = 0; j < kNum; ++j) {
      EXPECT_EQ(out[i * stride + j], out[j * stride + i]);
    }
  }
}

TEST(PairDistanceTest, KeepsSmallDistancesFarFromTheOrigin) {
  // |x|^2 + |y|^2 - 2 xy would leave nothing of a distance of 1 at 1e6.
  const std::vector<float> out =
      AllPairs(ActiveKernels(), {1e6f, 1e6f}, {1e6f + 1, 1e6f}, /*dim=*/2);
  EXPECT_EQ(out[0], 1.0f);
}

TEST(PairDistanceTest, IsCloseToDoublePrecision) {
  Random random(kSeed);
  for (const size_t dim : {3, 100, 1536}) {
    const std::vector<float> rows = Gaussian(&random, 4 * dim);
    const std::vector<float> out = AllPairs(ActiveKernels(), rows, rows, dim);
    for (size_t i = 0; i < 4; ++i) {
      for (size_t j = 0; j < 4; ++j) {
        double sum = 0;
        for (size_t t = 0; t < dim; ++t) {
          const double diff = double{rows[i * dim + t]} - rows[j * dim + t];
          sum += diff * diff;
        }
        EXPECT_NEAR(out[i * (kPairPanel + 3) + j], sum, 1e-4 * sum);
      }
    }
  }
}

TEST(SelectWithinTest, EveryInstructionSetSelectsTheSame) {
  Random random(kSeed);
  for (size_t n = 0; n <= 70; ++n) {
    std::vector<float> values = Gaussian(&random, n);
    if (n > 3) values[n / 2] = std::numeric_limits<float>::quiet_NaN();
    if (n > 5) values[n / 3] = std::numeric_limits<float>::infinity();
    for (const float limit : {-10.0f, 0.0f, n > 0 ? values[0] : 1.0f,
                              std::numeric_limits<float>::infinity()}) {
      std::vector<uint32_t> expected;
      for (uint32_t i = 0; i < n; ++i) {
        if (values[i] <= limit) expected.push_back(i);
      }
      for (const char* name : kNames) {
        const DistanceKernels* kernels = FindKernels(name);
        if (kernels == nullptr) continue;
        std::vector<uint32_t> got(n + 16);
        got.resize(kernels->select_within(values.data(), n, limit, got.data()));
        EXPECT_EQ(got, expected) << name << ", n " << n << ", " << limit;
      }
    }
  }
}

}  // namespace
}  // namespace vicinal
