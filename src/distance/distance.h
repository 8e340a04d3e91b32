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

struct DistanceKernels {
  const char* name;       // "scalar", "avx2" or "avx512"
  DistanceOps ops[3][4];  // [metric - 1][element type - 1]

  const DistanceOps& For(Metric metric, ElementType type) const {
    return ops[static_cast<size_t>(metric) - 1][static_cast<size_t>(type) - 1];
  }
};

// The table in use: the fastest that this CPU can run, or the one that
// VICINAL_SIMD=scalar|avx2|avx512 forces (an unsupported or unknown value is
// reported on stderr and ignored). Chosen at the first call. Thread-safe.
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

// Whether all n floats are finite. At memory speed.
bool AllFinite(const float* values, size_t n);

}  // namespace vicinal
