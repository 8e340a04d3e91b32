// The reference that every other instruction set must equal bit for bit.
// Compiled for any x86-64; written to be read, not to be fast.
#include <cstddef>
#include <cstdint>

#include "src/distance/kernels.h"

namespace vicinal::kernels {
namespace {

constexpr size_t kNumSums = 64;

float BitsToFloat(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

uint32_t FloatToBits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}

struct F32 {
  static constexpr size_t kSize = 4;
  static float Load(const uint8_t* p) {
    float value;
    __builtin_memcpy(&value, p, sizeof(value));
    return value;
  }
};

struct F16 {
  static constexpr size_t kSize = 2;
  static float Load(const uint8_t* p) {
    uint16_t half;
    __builtin_memcpy(&half, p, sizeof(half));
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
    const uint32_t exponent = (half >> 10) & 0x1F;
    const uint32_t fraction = half & 0x3FF;
    if (exponent == 0x1F) {
      return BitsToFloat(sign | 0x7F800000 | (fraction << 13));
    }
    if (exponent == 0) {  // Zero or subnormal: fraction * 2^-24, exact.
      const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
      return BitsToFloat(sign | FloatToBits(magnitude));
    }
    return BitsToFloat(sign | ((exponent + 112) << 23) | (fraction << 13));
  }
};

struct I8 {
  static constexpr size_t kSize = 1;
  static int64_t Load(const uint8_t* p) { return static_cast<int8_t>(*p); }
};

struct U8 {
  static constexpr size_t kSize = 1;
  static int64_t Load(const uint8_t* p) { return *p; }
};

// The canonical order (distance.h) for floats.
struct FloatSum {
  float sums[kNumSums] = {};

  void AddProduct(size_t i, float a, float b) {
    float& sum = sums[i % kNumSums];
    sum = __builtin_fmaf(a, b, sum);
  }
  float Total() {
    for (size_t half = kNumSums / 2; half > 0; half /= 2) {
      for (size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
    }
    return sums[0];
  }
};

struct IntSum {
  int64_t sum = 0;

  void AddProduct(size_t, int64_t a, int64_t b) { sum += a * b; }
  int64_t Total() const { return sum; }
};

FloatSum SumFor(float) { return {}; }
IntSum SumFor(int64_t) { return {}; }

template <class E>
auto InnerProduct(const uint8_t* a, const uint8_t* b, size_t dim) {
  auto sum = SumFor(decltype(E::Load(a)){});
  for (size_t i = 0; i < dim; ++i) {
    sum.AddProduct(i, E::Load(a + i * E::kSize), E::Load(b + i * E::kSize));
  }
  return sum.Total();
}

template <class E>
auto SquaredL2(const uint8_t* a, const uint8_t* b, size_t dim) {
  auto sum = SumFor(decltype(E::Load(a)){});
  for (size_t i = 0; i < dim; ++i) {
    const auto diff = E::Load(a + i * E::kSize) - E::Load(b + i * E::kSize);
    sum.AddProduct(i, diff, diff);
  }
  return sum.Total();
}

template <int kMetric, class E>
float One(const void* query, const void* row, size_t dim) {
  const auto* a = static_cast<const uint8_t*>(query);
  const auto* b = static_cast<const uint8_t*>(row);
  if (kMetric == kL2) {
    return Ordered(static_cast<float>(SquaredL2<E>(a, b, dim)));
  }
  const auto ip = InnerProduct<E>(a, b, dim);
  if (kMetric == kInnerProduct) return Ordered(-static_cast<float>(ip));
  return CosineDistance(static_cast<double>(ip),
                        static_cast<double>(InnerProduct<E>(a, a, dim)),
                        static_cast<double>(InnerProduct<E>(b, b, dim)));
}

template <int kMetric, class E>
void Gather(const void* query, const void* base, size_t stride_bytes,
            const uint32_t* rows, size_t n, size_t dim, float* out) {
  const auto* bytes = static_cast<const uint8_t*>(base);
  for (size_t i = 0; i < n; ++i) {
    out[i] = One<kMetric, E>(query, bytes + rows[i] * stride_bytes, dim);
  }
}

template <int kMetric, class E>
void Scan(const void* query, const void* base, size_t stride_bytes, size_t n,
          size_t dim, float* out) {
  const auto* bytes = static_cast<const uint8_t*>(base);
  for (size_t i = 0; i < n; ++i) {
    out[i] = One<kMetric, E>(query, bytes + i * stride_bytes, dim);
  }
}

float SumSquares(const float* values, size_t n) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(values);
  return InnerProduct<F32>(bytes, bytes, n);
}

void Divide(const float* values, size_t n, float divisor, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = values[i] / divisor;
}

bool AllFinite(const float* values, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    if ((FloatToBits(values[i]) & 0x7F800000) == 0x7F800000) return false;
  }
  return true;
}

template <int kMetric, class E>
constexpr OpsEntry kEntry = {One<kMetric, E>, Gather<kMetric, E>,
                             Scan<kMetric, E>};

}  // namespace

constexpr KernelTable kScalarTable = {
    {{kEntry<kL2, F32>, kEntry<kL2, F16>, kEntry<kL2, I8>, kEntry<kL2, U8>},
     {kEntry<kInnerProduct, F32>, kEntry<kInnerProduct, F16>,
      kEntry<kInnerProduct, I8>, kEntry<kInnerProduct, U8>},
     {kEntry<kCosine, F32>, kEntry<kCosine, F16>, kEntry<kCosine, I8>,
      kEntry<kCosine, U8>}},
    SumSquares,
    Divide,
    AllFinite,
};

}  // namespace vicinal::kernels
