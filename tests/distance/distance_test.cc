// Every instruction set against the scalar table (same bits) and the scalar
// table against double precision (error bounds).
#include "src/distance/distance.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "src/base/half.h"
#include "src/base/random.h"
#include "src/base/types.h"

namespace vicinal {
namespace {

constexpr size_t kNumRows = 7;  // one group of four rows and three more

std::vector<size_t> Dims() {
  std::vector<size_t> dims;
  for (size_t dim = 1; dim <= 130; ++dim) dims.push_back(dim);
  for (const size_t dim : {255, 256, 257, 512, 784, 1000, 1536, 4096}) {
    dims.push_back(dim);
  }
  return dims;
}

enum class Values { kNormal, kExtreme };

float ExtremeFloat(Random& random) {
  constexpr float kChoices[] = {
      0.0f,    -0.0f,  1.0f,  1e-45f, -1e-45f,       1.17549421e-38f,
      -1e-30f, 1e-30f, 1e30f, -1e30f, 3.4028234e38f, -3.4028234e38f};
  return kChoices[random.Uniform(std::size(kChoices))];
}

// Writes n elements of `type` to out.
void Fill(Random& random, ElementType type, Values values, size_t n,
          std::byte* out) {
  const bool extreme = values == Values::kExtreme;
  for (size_t i = 0; i < n; ++i) {
    if (type == ElementType::kFloat32) {
      const float value = extreme ? ExtremeFloat(random)
                                  : static_cast<float>(random.Gaussian());
      std::memcpy(out + 4 * i, &value, 4);
    } else if (type == ElementType::kFloat16) {
      // Any finite pattern, subnormals and both zeros among them.
      uint16_t bits = FloatToHalf(static_cast<float>(random.Gaussian()));
      if (extreme) {
        do {
          bits = static_cast<uint16_t>(random.Next());
        } while ((bits & 0x7C00) == 0x7C00);
        if (random.Uniform(4) == 0) bits &= 0x83FF;
      }
      std::memcpy(out + 2 * i, &bits, 2);
    } else {
      constexpr uint8_t kEnds[] = {0, 1, 127, 128, 129, 255};
      out[i] = static_cast<std::byte>(extreme ? kEnds[random.Uniform(6)]
                                              : random.Uniform(256));
    }
  }
}

double Element(const std::byte* vector, ElementType type, size_t i) {
  switch (type) {
    case ElementType::kFloat32: {
      float value;
      std::memcpy(&value, vector + 4 * i, 4);
      return value;
    }
    case ElementType::kFloat16: {
      uint16_t bits;
      std::memcpy(&bits, vector + 2 * i, 2);
      return HalfToFloat(bits);
    }
    case ElementType::kInt8:
      return static_cast<int8_t>(vector[i]);
    case ElementType::kUint8:
      return static_cast<uint8_t>(vector[i]);
    case ElementType::kBfloat16:
      break;  // of no kernel
  }
  return 0;
}

// A distance in double precision, and the sum of the magnitudes that made it:
// what a rounding error is relative to.
struct Reference {
  double distance = 0;
  double magnitude = 0;
};

Reference InDouble(Metric metric, ElementType type, const std::byte* query,
                   const std::byte* row, size_t dim) {
  double l2 = 0, ip = 0, absolute = 0, query_norm2 = 0, row_norm2 = 0;
  for (size_t i = 0; i < dim; ++i) {
    const double a = Element(query, type, i);
    const double b = Element(row, type, i);
    l2 += (a - b) * (a - b);
    ip += a * b;
    absolute += std::abs(a * b);
    query_norm2 += a * a;
    row_norm2 += b * b;
  }
  switch (metric) {
    case Metric::kL2:
      return {l2, l2};
    case Metric::kInnerProduct:
      return {-ip, absolute};
    case Metric::kCosine:
      const double norms = std::sqrt(query_norm2 * row_norm2);
      if (norms == 0) return {1, 1};
      return {1 - ip / norms, 1 + absolute / norms};
  }
  return {};
}

// Element offset of 1..63 bytes, or of whole elements where the type has an
// alignment in C++ terms: the kernels need none.
class Buffer {
 public:
  Buffer(size_t size_bytes, size_t offset)
      : bytes_(size_bytes + 192), offset_(offset) {
    const auto address = reinterpret_cast<uintptr_t>(bytes_.data());
    offset_ += (64 - address % 64) % 64;
  }
  std::byte* data() { return bytes_.data() + offset_; }

 private:
  std::vector<std::byte> bytes_;
  size_t offset_;
};

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kInnerProduct,
                               Metric::kCosine};
constexpr ElementType kTypes[] = {ElementType::kFloat32, ElementType::kFloat16,
                                  ElementType::kInt8, ElementType::kUint8};

std::string PairName(Metric metric, ElementType type) {
  constexpr const char* kMetricNames[] = {"L2", "InnerProduct", "Cosine"};
  constexpr const char* kTypeNames[] = {"Float32", "Float16", "Int8", "Uint8"};
  return std::string(kMetricNames[static_cast<int>(metric) - 1]) +
         kTypeNames[static_cast<int>(type) - 1];
}

uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }

class DistanceTest
    : public testing::TestWithParam<std::tuple<Metric, ElementType>> {
 protected:
  Metric metric() const { return std::get<0>(GetParam()); }
  ElementType type() const { return std::get<1>(GetParam()); }
  const DistanceOps& Ops(const char* tier) const {
    return FindKernels(tier)->For(metric(), type());
  }

  // one, gather and scan of `tier` give the bits of scalar one.
  void ExpectSameBits(const char* tier, Values values) {
    Random random(7);
    const DistanceOps& scalar = Ops("scalar");
    const DistanceOps& ops = Ops(tier);
    const size_t size = ElementSize(type());
    for (const size_t dim : Dims()) {
      const size_t stride = dim * size + random.Uniform(3) * 5;
      Buffer query(dim * size, 1 + random.Uniform(63));
      Buffer base(stride * kNumRows, 1 + random.Uniform(63));
      Fill(random, type(), values, dim, query.data());
      for (size_t row = 0; row < kNumRows; ++row) {
        Fill(random, type(), values, dim, base.data() + row * stride);
      }
      float want[kNumRows], scanned[kNumRows], gathered[kNumRows];
      const RowId rows[kNumRows] = {6, 0, 3, 3, 1, 5, 2};
      for (size_t n = 0; n <= kNumRows; ++n) {
        for (size_t i = 0; i < n; ++i) {
          want[i] = scalar.one(query.data(), base.data() + i * stride, dim);
        }
        ops.scan(query.data(), base.data(), stride, n, dim, scanned);
        ops.gather(query.data(), base.data(), stride, rows, n, dim, gathered);
        for (size_t i = 0; i < n; ++i) {
          ASSERT_FALSE(std::isnan(want[i])) << "dim " << dim;
          ASSERT_EQ(Bits(scanned[i]), Bits(want[i]))
              << tier << " scan, dim " << dim << ", row " << i << " of " << n;
          const std::byte* row = base.data() + rows[i] * stride;
          const float one = ops.one(query.data(), row, dim);
          ASSERT_EQ(Bits(one), Bits(scalar.one(query.data(), row, dim)))
              << tier << " one, dim " << dim << ", row " << rows[i];
          ASSERT_EQ(Bits(gathered[i]), Bits(one))
              << tier << " gather, dim " << dim << ", " << i << " of " << n;
        }
      }
    }
  }
};

TEST_P(DistanceTest, ScalarIsCloseToDoublePrecision) {
  Random random(11);
  const size_t size = ElementSize(type());
  const bool exact = size == 1;
  for (const size_t dim : Dims()) {
    Buffer query(dim * size, 0), row(dim * size, 0);
    Fill(random, type(), Values::kNormal, dim, query.data());
    Fill(random, type(), Values::kNormal, dim, row.data());
    const Reference want =
        InDouble(metric(), type(), query.data(), row.data(), dim);
    const float got = Ops("scalar").one(query.data(), row.data(), dim);
    if (exact) {
      EXPECT_FLOAT_EQ(got, static_cast<float>(want.distance)) << dim;
      continue;
    }
    // A chain of dim / 64 fused sums, the tree of 6, the difference or the
    // division, and one to spare.
    const double roundings = std::ceil(dim / 64.0) + 6 + 2 + 1;
    EXPECT_NEAR(got, want.distance, roundings * 0x1p-24 * want.magnitude * 2)
        << dim;
  }
}

TEST_P(DistanceTest, IntegerSumsAreRoundedOnce) {
  if (ElementSize(type()) != 1 || metric() == Metric::kCosine) return;
  Random random(13);
  for (const char* tier : {"scalar", "avx2", "avx512"}) {
    if (FindKernels(tier) == nullptr) continue;
    for (const size_t dim : {1, 63, 1000, 4096, 65536}) {
      Buffer query(dim, 0), row(dim, 0);
      Fill(random, type(), Values::kNormal, dim, query.data());
      Fill(random, type(), Values::kNormal, dim, row.data());
      EXPECT_EQ(Ops(tier).one(query.data(), row.data(), dim),
                static_cast<float>(
                    InDouble(metric(), type(), query.data(), row.data(), dim)
                        .distance))
          << tier << " " << dim;
    }
  }
}

// The largest sums there are: 65,536 products of 255 or -128.
TEST_P(DistanceTest, IntegerSumsDoNotOverflow) {
  if (ElementSize(type()) != 1) return;
  const size_t dim = 65536;
  const std::byte low =
      type() == ElementType::kUint8 ? std::byte{0} : std::byte{0x80};
  const std::byte high =
      type() == ElementType::kUint8 ? std::byte{0xFF} : std::byte{0x7F};
  const std::vector<std::byte> lows(dim, low), highs(dim, high);
  for (const char* tier : {"scalar", "avx2", "avx512"}) {
    if (FindKernels(tier) == nullptr) continue;
    for (const auto& [a, b] :
         {std::pair(lows, highs), std::pair(lows, lows),
          std::pair(highs, highs), std::pair(highs, lows)}) {
      const Reference want =
          InDouble(metric(), type(), a.data(), b.data(), dim);
      EXPECT_EQ(Ops(tier).one(a.data(), b.data(), dim),
                static_cast<float>(want.distance))
          << tier;
    }
  }
}

TEST_P(DistanceTest, Avx2GivesTheBitsOfScalar) {
  if (FindKernels("avx2") == nullptr) GTEST_SKIP() << "no AVX2 here";
  ExpectSameBits("avx2", Values::kNormal);
}

TEST_P(DistanceTest, Avx512GivesTheBitsOfScalar) {
  if (FindKernels("avx512") == nullptr) GTEST_SKIP() << "no AVX-512 here";
  ExpectSameBits("avx512", Values::kNormal);
}

TEST_P(DistanceTest, Avx2GivesTheBitsOfScalarForExtremeValues) {
  if (FindKernels("avx2") == nullptr) GTEST_SKIP() << "no AVX2 here";
  ExpectSameBits("avx2", Values::kExtreme);
}

TEST_P(DistanceTest, Avx512GivesTheBitsOfScalarForExtremeValues) {
  if (FindKernels("avx512") == nullptr) GTEST_SKIP() << "no AVX-512 here";
  ExpectSameBits("avx512", Values::kExtreme);
}

TEST_P(DistanceTest, ScalarGatherAndScanEqualOne) {
  ExpectSameBits("scalar", Values::kNormal);
}

TEST_P(DistanceTest, LongGathersEqualOne) {
  constexpr size_t kDim = 20, kRows = 100;
  Random random(17);
  const size_t stride = kDim * ElementSize(type());
  Buffer query(stride, 0), base(stride * kRows, 0);
  Fill(random, type(), Values::kNormal, kDim, query.data());
  Fill(random, type(), Values::kNormal, kDim * kRows, base.data());
  std::vector<RowId> rows(70);
  for (RowId& row : rows) row = static_cast<RowId>(random.Uniform(kRows));
  for (const char* tier : {"scalar", "avx2", "avx512"}) {
    if (FindKernels(tier) == nullptr) continue;
    for (size_t n = 0; n <= rows.size(); ++n) {
      std::vector<float> out(n + 1, -7.0f);
      Ops(tier).gather(query.data(), base.data(), stride, rows.data(), n, kDim,
                       out.data());
      for (size_t i = 0; i < n; ++i) {
        ASSERT_EQ(out[i], Ops(tier).one(query.data(),
                                        base.data() + rows[i] * stride, kDim));
      }
      ASSERT_EQ(out[n], -7.0f) << "wrote behind the end, n " << n;
    }
  }
}

TEST_P(DistanceTest, EqualVectorsAreAtDistanceZero) {
  if (metric() == Metric::kInnerProduct) return;
  Random random(19);
  for (const size_t dim : Dims()) {
    Buffer vector(dim * ElementSize(type()), 0);
    Fill(random, type(), Values::kNormal, dim, vector.data());
    vector.data()[0] = std::byte{1};  // not a zero vector
    EXPECT_EQ(Ops("scalar").one(vector.data(), vector.data(), dim), 0) << dim;
  }
}

TEST_P(DistanceTest, ZeroVectorHasCosineDistanceOne) {
  if (metric() != Metric::kCosine) return;
  constexpr size_t kDim = 70;
  const std::vector<std::byte> zero(kDim * 4), one(kDim * 4, std::byte{1});
  for (const char* tier : {"scalar", "avx2", "avx512"}) {
    if (FindKernels(tier) == nullptr) continue;
    const DistanceOps& ops = Ops(tier);
    EXPECT_EQ(ops.one(zero.data(), one.data(), kDim), 1) << tier;
    EXPECT_EQ(ops.one(one.data(), zero.data(), kDim), 1) << tier;
    EXPECT_EQ(ops.one(zero.data(), zero.data(), kDim), 1) << tier;
  }
}

// Rows end where readable memory ends: one byte more would be a SIGSEGV.
TEST_P(DistanceTest, ReadsNothingOutsideTheRows) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t readable = 4 * page;
  auto* const start =
      static_cast<std::byte*>(mmap(nullptr, readable + 2 * page, PROT_NONE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(start, MAP_FAILED);
  std::byte* const memory = start + page;
  ASSERT_EQ(mprotect(memory, readable, PROT_READ | PROT_WRITE), 0);
  const size_t size = ElementSize(type());
  for (const char* tier : {"scalar", "avx2", "avx512"}) {
    if (FindKernels(tier) == nullptr) continue;
    for (size_t dim = 1; dim <= 200; ++dim) {
      const size_t stride = dim * size;
      std::byte* const end = memory + readable;
      const RowId rows[] = {4, 3, 2, 1, 0};
      float out[5];
      // At the end of the memory, then at its beginning.
      for (std::byte* base : {end - 5 * stride, memory}) {
        const std::byte* query = base == memory ? memory : end - stride;
        Ops(tier).scan(query, base, stride, 5, dim, out);
        Ops(tier).gather(query, base, stride, rows, 5, dim, out);
        out[0] = Ops(tier).one(query, base + 4 * stride, dim);
      }
    }
  }
  munmap(start, readable + 2 * page);
}

INSTANTIATE_TEST_SUITE_P(
    Pairs, DistanceTest,
    testing::Combine(testing::ValuesIn(kMetrics), testing::ValuesIn(kTypes)),
    [](const testing::TestParamInfo<DistanceTest::ParamType>& pair) {
      return PairName(std::get<0>(pair.param), std::get<1>(pair.param));
    });

// Products below the smallest float leave sums of -0. A register that is only
// partly filled at the end of a row must not add +0 to the sums behind it.
TEST(DistanceOrderTest, LanesBehindTheEndKeepNegativeZero) {
  for (size_t dim = 64; dim <= 192; ++dim) {
    const std::vector<float> a(dim, 1e-30f), b(dim, -1e-30f);
    for (const char* tier : {"scalar", "avx2", "avx512"}) {
      if (FindKernels(tier) == nullptr) continue;
      const float distance =
          FindKernels(tier)
              ->For(Metric::kInnerProduct, ElementType::kFloat32)
              .one(a.data(), b.data(), dim);
      EXPECT_EQ(Bits(distance), Bits(0.0f)) << tier << " " << dim;
    }
  }
}

// inf - inf in a sum must not end in a NaN, which no order can place.
TEST(DistanceOrderTest, OverflowIsFarNotNan) {
  const float huge = std::numeric_limits<float>::max();
  std::vector<float> a(130, huge), b(130, huge);
  for (size_t i = 0; i < b.size(); i += 2) b[i] = -huge;
  for (const char* tier : {"scalar", "avx2", "avx512"}) {
    if (FindKernels(tier) == nullptr) continue;
    for (const Metric metric : kMetrics) {
      const DistanceOps& ops =
          FindKernels(tier)->For(metric, ElementType::kFloat32);
      EXPECT_FALSE(std::isnan(ops.one(a.data(), b.data(), a.size()))) << tier;
      EXPECT_FALSE(std::isnan(ops.one(a.data(), a.data(), a.size()))) << tier;
    }
    const DistanceOps& l2 =
        FindKernels(tier)->For(Metric::kL2, ElementType::kFloat32);
    EXPECT_EQ(l2.one(a.data(), b.data(), a.size()),
              std::numeric_limits<float>::infinity());
  }
}

}  // namespace
}  // namespace vicinal
