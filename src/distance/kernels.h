// What one instruction set offers: a table of plain functions, filled by one
// file per instruction set that is compiled with that set's flags. Those files
// see no header but this one, <cstddef>, <cstdint> and <immintrin.h>, and all
// but their table has internal linkage: a weak symbol compiled for AVX-512
// could otherwise replace the same function in code that any CPU runs.
// Only distance.cc and gpu/cpu_*.cc, which see nothing of Abseil, use this
// header; everyone else wants distance.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vicinal::kernels {

// Column of KernelTable::ops: ElementType - 1. Row: Metric - 1.
enum MetricRow : int { kL2, kInnerProduct, kCosine };

// See DistanceOps in distance.h for the contract of each.
struct OpsEntry {
  float (*one)(const void* query, const void* row, size_t dim);
  void (*gather)(const void* query, const void* base, size_t stride_bytes,
                 const uint32_t* rows, size_t n, size_t dim, float* out);
  void (*scan)(const void* query, const void* base, size_t stride_bytes,
               size_t n, size_t dim, float* out);
};

struct KernelTable {
  OpsEntry ops[3][4];
  // Sum of values[i]^2 in canonical order.
  float (*sum_squares)(const float* values, size_t n);
  // out[i] = values[i] / divisor; out may be values.
  void (*divide)(const float* values, size_t n, float divisor, float* out);
  bool (*all_finite)(const float* values, size_t n);
};

extern const KernelTable kScalarTable;
extern const KernelTable kAvx2Table;    // needs AVX2, FMA and F16C
extern const KernelTable kAvx512Table;  // needs AVX-512 F, BW, DQ and VL

// See DistanceKernels in distance.h for the contract of each.
struct PairTable {
  void (*pair_l2)(const float* rows, size_t row_stride, size_t num_rows,
                  const float* panels, size_t num_panels, size_t dim,
                  float* out, size_t out_stride);
  size_t (*select_within)(const float* values, size_t n, float limit,
                          uint32_t* out);
  void (*pair_ip)(const float* rows, size_t row_stride, size_t num_rows,
                  const float* panels, size_t num_panels, size_t dim,
                  float* out, size_t out_stride);
};

extern const PairTable kScalarPairTable;
extern const PairTable kAvx2PairTable;    // needs AVX2 and FMA
extern const PairTable kAvx512PairTable;  // needs AVX-512 F

// The last step from sums to a distance, the same on every instruction set.
// A sum that overflowed to NaN (inf - inf) counts as infinitely far, so that
// distances of finite vectors are always ordered.
static inline float Ordered(float distance) {
  return distance < __builtin_inff() ? distance : __builtin_inff();
}

// In double, because equal vectors then get exactly 0 and the product of two
// squared norms cannot overflow.
static inline float CosineDistance(double ip, double query_norm2,
                                   double row_norm2) {
  const double norms2 = query_norm2 * row_norm2;
  if (norms2 == 0) return 1;
  return Ordered(static_cast<float>(1.0 - ip / __builtin_sqrt(norms2)));
}

}  // namespace vicinal::kernels
