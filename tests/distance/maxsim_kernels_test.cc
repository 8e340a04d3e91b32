// Every table of MaxSim kernels gives the bits of the scalar one, and the
// scalar one what its contract says.
#include "src/distance/maxsim_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include "src/base/random.h"

namespace vicinal {
namespace {

struct Case {
  TokenCodeForm form;
  size_t num_panels = 0;
  std::vector<int8_t> panels;
  std::vector<int32_t> sums;
  std::vector<float> table;
  std::vector<uint8_t> records;
  std::vector<float> Run(const MaxSimKernels& kernels, size_t n) const {
    std::vector<float> best(16 * num_panels,
                            -std::numeric_limits<float>::infinity());
    kernels.max_codes(form, panels.data(), num_panels, sums.data(),
                      form.has_centroids ? table.data() : nullptr,
                      records.data(), n, best.data());
    return best;
  }
};

// extreme: the largest elements there are, all of one sign.
Case MakeCase(int bits, bool has_centroids, size_t dim, size_t num_panels,
              size_t n, bool extreme, Random* random) {
  Case out;
  out.form = {.padded_dim = (dim + 31) / 32 * 32,
              .record_bytes = 0,
              .bits = bits,
              .has_centroids = has_centroids};
  const size_t code_bytes = out.form.padded_dim * static_cast<size_t>(bits) / 8;
  out.form.record_bytes = 4 + (has_centroids ? 1 : 0) + code_bytes;
  out.num_panels = num_panels;
  out.panels.resize(out.form.padded_dim * 16 * num_panels);
  out.sums.resize(16 * num_panels);
  for (size_t p = 0; p < num_panels; ++p) {
    for (size_t j = 0; j < 16; ++j) {
      for (size_t t = 0; t < dim; ++t) {
        const int value = extreme
                              ? (j % 2 == 0 ? 127 : -127)
                              : static_cast<int>(random->Uniform(255)) - 127;
        out.panels[((p * out.form.padded_dim / 4 + t / 4) * 16 + j) * 4 +
                   t % 4] = static_cast<int8_t>(value);
        out.sums[16 * p + j] += value;
      }
    }
  }
  out.table.resize(256 * 16 * num_panels);
  for (float& value : out.table) {
    value = static_cast<float>(random->Gaussian() * 1000);
  }
  for (size_t token = 0; token < n; ++token) {
    const auto scale = static_cast<float>(random->UniformDouble() + 0.01);
    std::vector<uint8_t> record(out.form.record_bytes);
    std::memcpy(record.data(), &scale, sizeof(scale));
    for (size_t i = 4; i < record.size(); ++i) {
      record[i] = extreme ? 0xFF : static_cast<uint8_t>(random->Uniform(256));
    }
    out.records.insert(out.records.end(), record.begin(), record.end());
  }
  return out;
}

TEST(MaxSimKernelsTest, ScalarIsWhatTheContractSays) {
  Random random(1);
  const size_t dim = 40;
  for (const int bits : {8, 4, 2, 1}) {
    for (const bool has_centroids : {false, true}) {
      const Case c = MakeCase(bits, has_centroids, dim, 1, 3, false, &random);
      const std::vector<float> best = c.Run(*FindMaxSimKernels("scalar"), 3);
      for (size_t i = 0; i < 16; ++i) {
        float expected = -std::numeric_limits<float>::infinity();
        for (size_t token = 0; token < 3; ++token) {
          const uint8_t* record =
              c.records.data() + token * c.form.record_bytes;
          float scale;
          std::memcpy(&scale, record, sizeof(scale));
          const uint8_t* code = record + (has_centroids ? 5 : 4);
          double dot = 0;
          for (size_t t = 0; t < dim; ++t) {
            const size_t bit = t * static_cast<size_t>(bits);
            const int u = (code[bit / 8] >> (bit % 8)) & ((1 << bits) - 1);
            // In the middle of the levels is zero.
            const double level =
                bits == 8 ? u - 128.0 : 2.0 * u - ((1 << bits) - 1);
            dot += level * c.panels[(t / 4 * 16 + i) * 4 + t % 4];
          }
          auto value = static_cast<float>(scale * static_cast<float>(dot));
          if (has_centroids) {
            value = std::fma(scale, static_cast<float>(dot),
                             c.table[record[4] * 16 + i]);
          }
          expected = std::max(expected, value);
        }
        EXPECT_EQ(best[i], expected) << bits << " bits, token " << i;
      }
    }
  }
}

class MaxSimTableTest : public ::testing::TestWithParam<const char*> {};

TEST_P(MaxSimTableTest, EqualsTheScalarOne) {
  const MaxSimKernels* kernels = FindMaxSimKernels(GetParam());
  if (kernels == nullptr) GTEST_SKIP() << GetParam() << " is not to be had";
  const MaxSimKernels& scalar = *FindMaxSimKernels("scalar");
  Random random(2);
  for (const int bits : {8, 4, 2, 1}) {
    for (const bool has_centroids : {false, true}) {
      for (const size_t dim : {1, 31, 32, 64, 100, 128, 160, 1'024}) {
        for (const size_t num_panels : {1, 2, 3, 4}) {
          const bool extreme = random.Uniform(3) == 0;
          const Case c = MakeCase(bits, has_centroids, dim, num_panels, 17,
                                  extreme, &random);
          for (const size_t n : {1, 2, 3, 5, 7, 8, 9, 15, 16, 17}) {
            ASSERT_EQ(c.Run(*kernels, n), c.Run(scalar, n))
                << bits << " bits, dim " << dim << ", " << num_panels
                << " panels, " << n << " tokens";
          }
        }
      }
    }
  }
  const Case longest = MakeCase(8, true, 4'096, 2, 9, true, &random);
  EXPECT_EQ(longest.Run(*kernels, 9), longest.Run(scalar, 9));
}

INSTANTIATE_TEST_SUITE_P(Tables, MaxSimTableTest,
                         ::testing::Values("avx2", "avx512"));

}  // namespace
}  // namespace vicinal
