// What one instruction set offers to MaxSim over coded tokens; see kernels.h
// for the rules of such files. (Tokens that are floats are compared by
// pair_ip.)
#pragma once

#include <cstddef>
#include <cstdint>

namespace vicinal {

// The form of coded tokens. A token's record: its scale (f32), its centroid (a
// byte, where there are centroids), then a small integer u for each dimension,
// `bits` each, the first in the lowest bits of the first byte. Dimensions of
// padding may hold anything.
struct TokenCodeForm {
  size_t padded_dim;    // a multiple of 32, at most 4,096
  size_t record_bytes;  // of one token
  int bits;             // 8, 4, 2 or 1
  bool has_centroids;
};

// Every table gives the same bits as the scalar one.
struct MaxSimKernels {
  const char* name;
  // For the query token i, of 16 num_panels, and n tokens:
  //   best[i] = max(best[i], fma(scale, x, table[centroid][i]))
  // or scale * x without centroids, in f32, where
  //   x = float(S <q_i, u> - O sums[i]),
  // (S, O) = (1, 128), (2, 15), (2, 3), (2, 1) for 8, 4, 2 and 1 bits. Element
  // t of query token 16 p + j, in [-127, 127], is the byte
  //   panels[((p * padded_dim / 4 + t / 4) * 16 + j) * 4 + t % 4],
  // zero for dimensions of padding; sums[i] is the sum of its elements. table:
  // 256 rows of 16 num_panels floats, or null.
  void (*max_codes)(const TokenCodeForm& form, const int8_t* panels,
                    size_t num_panels, const int32_t* sums, const float* table,
                    const uint8_t* records, size_t n, float* best);
};

namespace kernels {

inline constexpr size_t kMaxTokenDim = 4096;

// What x is made of, by the bits of a code.
static inline int CodeFactor(int bits) { return bits == 8 ? 1 : 2; }
static inline int CodeOffset(int bits) {
  return bits == 8 ? 128 : (1 << bits) - 1;
}

extern const MaxSimKernels kScalarMaxSimTable;
extern const MaxSimKernels kAvx2MaxSimTable;  // needs AVX2 and FMA
// Needs AVX-512 F, BW, DQ, VL and VNNI.
extern const MaxSimKernels kAvx512MaxSimTable;

}  // namespace kernels
}  // namespace vicinal
