// Every table of sparse kernels gives the bits of the scalar one.
#include "src/distance/sparse_kernels.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/base/half.h"
#include "src/base/random.h"

namespace vicinal {
namespace {

class SparseKernelsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(SparseKernelsTest, EqualTheScalarOnes) {
  const SparseKernels* kernels = FindSparseKernels(GetParam());
  if (kernels == nullptr) GTEST_SKIP() << GetParam() << " is not to be had";
  const SparseKernels& scalar = *FindSparseKernels("scalar");
  Random random(3);
  std::vector<float> query(70'000);
  for (float& element : query) {
    if (random.Uniform(3) == 0) {
      element = static_cast<float>(random.Gaussian());
    }
  }
  for (size_t n = 0; n < 90; ++n) {
    std::vector<uint16_t> narrow;
    std::vector<uint32_t> wide;
    std::vector<float> floats;
    std::vector<uint16_t> halves;
    std::vector<int16_t> sums;
    for (size_t i = 0; i < n; ++i) {
      narrow.push_back(static_cast<uint16_t>(random.Uniform(65'536)));
      wide.push_back(static_cast<uint32_t>(random.Uniform(query.size())));
      floats.push_back(static_cast<float>(random.Gaussian()));
      // Subnormal ones, too.
      halves.push_back(FloatToHalf(
          static_cast<float>(random.Gaussian() * (i % 5 == 0 ? 1e-6 : 1))));
      sums.push_back(static_cast<int16_t>(random.Uniform(65'536)));
    }
    const float* q = query.data();
    EXPECT_EQ(kernels->dot_f32(narrow.data(), floats.data(), n, q),
              scalar.dot_f32(narrow.data(), floats.data(), n, q));
    EXPECT_EQ(kernels->dot_f16(narrow.data(), halves.data(), n, q),
              scalar.dot_f16(narrow.data(), halves.data(), n, q));
    EXPECT_EQ(kernels->wide_dot_f32(wide.data(), floats.data(), n, q),
              scalar.wide_dot_f32(wide.data(), floats.data(), n, q));
    EXPECT_EQ(kernels->wide_dot_f16(wide.data(), halves.data(), n, q),
              scalar.wide_dot_f16(wide.data(), halves.data(), n, q));
    std::vector<uint32_t> entries;
    for (const uint32_t term : wide) {
      entries.push_back(term << 8 | static_cast<uint32_t>(random.Uniform(256)));
    }
    EXPECT_EQ(kernels->bm25(entries.data(), n, 1.3f, q),
              scalar.bm25(entries.data(), n, 1.3f, q));
    for (const int limit : {-32'768, -1, 0, 1, 9'000, 32'767}) {
      std::vector<uint16_t> a(n + 32), b(n + 32);
      const auto least = static_cast<int16_t>(limit);
      a.resize(kernels->select_at_least(sums.data(), n, least, a.data()));
      b.resize(scalar.select_at_least(sums.data(), n, least, b.data()));
      EXPECT_EQ(a, b);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, SparseKernelsTest,
                         ::testing::Values("scalar", "avx2", "avx512"));

}  // namespace
}  // namespace vicinal
