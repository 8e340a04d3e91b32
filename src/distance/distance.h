// Distances between vectors: one table of pure functions for each instruction
// set, chosen once at start. Every table gives the same bits as the scalar
// one: f32 and f16 sums run in the canonical order (64 partial sums, element i
// goes to sum i mod 64, explicit fma, then a halving tree: s[j] += s[j + 32],
// then 16, 8, 4, 2, 1), int8 and uint8 sums are exact integers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "src/base/types.h"

namespace vicinal {

// Distance functions of one (metric, element type) pair. `query` and rows hold
// `dim` elements of that type; no alignment is needed. Smaller is closer:
// kL2 gives the squared distance, kInnerProduct minus the inner product,
// kCosine 1 - cosine (1 when either vector is zero). Pure and thread-safe.
struct DistanceOps {
  // One row.
  float (*one)(const void* query, const void* row, size_t dim);
  // Rows base + rows[i] * stride_bytes, i < n, into out[i]. Prefetches.
  void (*gather)(const void* query, const void* base, size_t stride_bytes,
                 const RowId* rows, size_t n, size_t dim, float* out);
  // Consecutive rows base + i * stride_bytes, i < n, into out[i].
  void (*scan)(const void* query, const void* base, size_t stride_bytes,
               size_t n, size_t dim, float* out);
};

// Columns of one panel of pair_l2.
inline constexpr size_t kPairPanel = 16;

struct DistanceKernels {
  const char* name;       // "scalar", "avx2" or "avx512"
  DistanceOps ops[3][4];  // [metric - 1][element type - 1]

  // Squared L2 distances of all pairs of num_rows rows (row_stride floats
  // apart) and 16 num_panels columns, into out[row * out_stride + column].
  // Columns come in panels of kPairPanel, dimension by dimension: element t of
  // column 16 p + j is panels[(p * dim + t) * 16 + j]. Works on blocks that
  // share loads: several times the speed of `scan`. Each sum runs over the
  // dimensions in their order by fma, so a pair gives the same bits whichever
  // of the two is the row, but not those of `one`.
  void (*pair_l2)(const float* rows, size_t row_stride, size_t num_rows,
                  const float* panels, size_t num_panels, size_t dim,
                  float* out, size_t out_stride);
  // Inner products instead, plus signs: a matrix product.
  void (*pair_ip)(const float* rows, size_t row_stride, size_t num_rows,
                  const float* panels, size_t num_panels, size_t dim,
                  float* out, size_t out_stride);
  // Writes the i < n with values[i] <= limit to out, ascending; returns their
  // number. out has room for n + 16.
  size_t (*select_within)(const float* values, size_t n, float limit,
                          uint32_t* out);

  const DistanceOps& For(Metric metric, ElementType type) const {
    return ops[static_cast<size_t>(metric) - 1][static_cast<size_t>(type) - 1];
  }
};

// The table in use: the fastest that this CPU can run, or the one that
// VICINAL_SIMD=scalar|avx2|avx512 forces (avx512vbmi, too, which differs in
// code_kernels.h alone; an unsupported or unknown value is reported on stderr
// and ignored). Chosen at the first call. Thread-safe.
const DistanceKernels& ActiveKernels();

// The table called `name`, or null when this CPU or build cannot run it.
const DistanceKernels* FindKernels(absl::string_view name);

// The value of VICINAL_SIMD when it names a table that can run; else empty.
absl::string_view ForcedKernels();

inline const DistanceOps& OpsFor(Metric metric, ElementType type) {
  return ActiveKernels().For(metric, type);
}

// Writes row / |row| to out (dim floats); returns |row|. A zero row gives
// zeros and 0. Canonical order, so equal on every machine.
float NormalizeInto(const float* row, size_t dim, float* out);

// Packs num_rows rows of `dim` floats (row_stride apart) as columns for
// pair_l2: ceil(num_rows / kPairPanel) panels, the last filled with zeros.
void PackPanels(const float* rows, size_t row_stride, size_t num_rows,
                size_t dim, float* panels);

// Whether all n floats are finite. At memory speed.
bool AllFinite(const float* values, size_t n);

}  // namespace vicinal
