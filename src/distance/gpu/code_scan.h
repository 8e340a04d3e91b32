// The kernels of a search by codes, as the host starts them; see
// search_kernels.h, whose QueryState, rounds and floors are used here, too: a
// candidate's score is its estimate with the sign changed, error is 0.
//
// On the device a row's codes are words of 32 bits in four columns. Of a
// segment with b bits a word unpacks to 8 / b operands of four codes, one a
// byte; operand a has in column c the dimensions 16 a + 4 c + (0 .. 3). Lane 4
// r + c of a warp takes column c of rows r and r + 8 of a group of sixteen: so
// each product of 32 dimensions takes two operands of a row, and loads are
// whole lines.
//
//   1, 2 bits  operand p, byte i: bits b p + 8 i and up
//   4 bits     operand p, byte i: bits 16 p + 4 i and up
//   8 bits     the word is the operand
//
// Codes of one bit alone (is_bits) lie in tiles of 64 rows, as products of the
// tensor cores of 9.0 want to find them in shared memory: pairs of words w of
// eight groups of eight rows, of which each has word w, then w + 1: eight rows
// of four columns. Other codes: groups of sixteen rows, words, lanes, and of
// each of these rows r and r + 8.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "src/base/top_k.h"
#include "src/distance/gpu/search_kernels.h"
#include "src/distance/kernels_codes.h"

namespace vicinal::gpu {

inline constexpr uint32_t kCodeGroupRows = 16;
// Rows that a warp compares at a time; the unit of rounds.
inline constexpr uint32_t kScanTileRows = 64;
// Planes of bits of a value in [-kOneBitLimit - 1, kOneBitLimit].
inline constexpr uint32_t kPlanes = 6;
// Longest rows that are compared bit by bit, in words.
inline constexpr uint32_t kMaxBitWords = 8;

struct DeviceCodeSegment {
  uint32_t bits = 0;  // on the device; 0: no dimensions
  uint32_t first_word = 0;
  uint32_t num_words = 0;
  uint32_t first_step = 0;  // of 32 dimensions, of a query's operands
  uint32_t low_step = 0;    // of the second digits; 0: there are none
  uint32_t levels[4] = {};  // of 4 bits: a byte each
};

struct DeviceCodes {
  const uint2* words = nullptr;
  const float* additive = nullptr;  // of each row
  const float* rescale = nullptr;   // [segment][row]
  uint32_t num_rows = 0;
  uint32_t padded_rows = 0;  // a multiple of kScanTileRows
  uint32_t num_words = 0;
  uint32_t num_steps = 0;
  uint32_t num_segments = 0;
  bool has_low = false;
  // One segment of one bit, of at most kMaxBitWords, an even number, maybe with
  // one without dimensions behind it.
  bool is_bits = false;
  DeviceCodeSegment segments[kMaxCodeSegments];

  __host__ __device__ uint32_t num_tiles() const {
    return padded_rows / kScanTileRows;
  }
  // Floats of a probe: the additive and its scale; of each segment scale,
  // offset and scale of the second digit.
  __host__ __device__ uint32_t num_terms() const {
    return 2 + 3 * num_segments;
  }
  // 32-bit words of a query's operands.
  __host__ __device__ uint32_t query_words(bool as_bits) const {
    return as_bits ? kPlanes * num_words * 4 : num_steps * 8;
  }
};

// A query among rows begin .. end.
struct DeviceProbe {
  uint32_t query = 0;
  uint32_t begin = 0;
  uint32_t end = 0;
  uint32_t slot = 0;  // of the first row's candidate, where all are stored
};

// Probes first_probe, ... with tiles first_tile, ...
struct ScanItem {
  uint32_t first_tile = 0;
  uint32_t num_tiles = 0;
  uint32_t first_probe = 0;
  uint32_t num_probes = 0;
};

struct CodeScan {
  const DeviceProbe* probes = nullptr;
  const float* terms = nullptr;      // num_terms of each probe
  const uint32_t* values = nullptr;  // query_words of each query
  uint32_t num_probes = 0;
  uint32_t probes_per_item = 0;
  // Null: all probes with the tiles of `round`, so many at a time, stored by
  // their number. Else probes are stored from their slots on.
  const ScanItem* items = nullptr;
  uint32_t num_items = 0;
  Round round;
  uint32_t tiles_per_item = 1;
  const uint64_t* accepted = nullptr;
  // Not null: nothing is stored but the largest score of each query in each
  // group of tiles, [query][num_groups], as keys of select.cuh that begin as 0.
  uint32_t* maxima = nullptr;
  uint32_t num_groups = 0;
  uint32_t tiles_per_group = 1;
  // Whether the kernel before is one of overlap.cuh, on a device that can.
  bool overlaps = false;
};

// Probes of one item where that many ask for the same rows. kBitProbes: by
// ScanBits, else by ScanCodes.
inline constexpr uint32_t kBitProbes = 96;
uint32_t ProbesPerItem(const DeviceCodes& codes, size_t num_probes);

// Records of rows first_row .. first_row + num_rows, stride_bytes apart, into
// codes; first_row is a multiple of kScanTileRows. What is behind the last row
// is zero.
cudaError_t PackCodes(const CodeLayout& layout, const DeviceCodes& codes,
                      const uint8_t* records, size_t stride_bytes,
                      uint32_t first_row, uint32_t num_rows,
                      cudaStream_t stream);
// The operands of queries from their values, value_bytes of each: bytes in the
// order of the dimensions, for 32 of them eight words; or, as_bits, planes of
// bits from the lowest to the sign's, of each word of codes its four columns.
cudaError_t PackCodeQueries(const CodeLayout& layout, const DeviceCodes& codes,
                            const int8_t* values, size_t value_bytes,
                            uint32_t num_queries, bool as_bits, uint32_t* out,
                            cudaStream_t stream);
cudaError_t ScanCodes(const DeviceCodes& codes, const CodeScan& scan,
                      const QueryState& state, bool store_all,
                      int num_processors, cudaStream_t stream);
// The same of codes that are is_bits, by compute capability 9.0.
cudaError_t ScanBits(const DeviceCodes& codes, const CodeScan& scan,
                     const QueryState& state, bool store_all,
                     int num_processors, cudaStream_t stream);
// Puts the candidates in order, keeps the `depth` first and writes the k first
// to `out` (null: does not).
cudaError_t RankEstimates(const QueryState& state, uint32_t depth, uint32_t k,
                          Neighbor* out, cudaStream_t stream);

}  // namespace vicinal::gpu
