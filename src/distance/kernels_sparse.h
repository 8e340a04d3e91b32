// What one instruction set offers to sparse vectors; see kernels.h for the
// rules of such files.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vicinal {

// Every table gives the same bits as the scalar one. Scores are sums in
// canonical order: entry i of a row goes to sum i mod 16, by fma, and the sums
// are added by halves. So a score depends on the row and the query alone.
struct SparseKernels {
  const char* name;
  // Inner product of a row with a query: entry i has the weight weights[i], a
  // binary32 or binary16, of dimension terms[i]; the query has an element for
  // every dimension there is.
  float (*dot_f32)(const uint16_t* terms, const float* weights, size_t n,
                   const float* query);
  float (*dot_f16)(const uint16_t* terms, const uint16_t* weights, size_t n,
                   const float* query);
  float (*wide_dot_f32)(const uint32_t* terms, const float* weights, size_t n,
                        const float* query);
  float (*wide_dot_f16)(const uint32_t* terms, const uint16_t* weights,
                        size_t n, const float* query);
  // BM25 of a row: entry i has the term entries[i] >> 8 and the frequency tf in
  // the low byte, and adds the query's element times tf / (tf + norm).
  float (*bm25)(const uint32_t* entries, size_t n, float norm,
                const float* query);
  // The i < n with sums[i] >= limit, ascending; returns how many. out has room
  // for n + 32.
  size_t (*select_at_least)(const int16_t* sums, size_t n, int16_t limit,
                            uint16_t* out);
};

namespace kernels {

extern const SparseKernels kScalarSparseTable;
extern const SparseKernels kAvx2SparseTable;  // needs AVX2, FMA and F16C
extern const SparseKernels
    kAvx512SparseTable;  // needs AVX-512 F, BW, DQ and VL

}  // namespace kernels
}  // namespace vicinal
