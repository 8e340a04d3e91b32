// Searches of a few queries among all rows by codes, whose time is that of the
// rows' bytes and of what stands before and behind them: all is sent at once
// and read by the device itself, and the kernels overlap.
//
// One scan of all rows keeps of each group of tiles the largest score. The
// `depth` groups with the largest have the `depth` best rows: a row that is
// among these is not below its own group's maximum, and that not below the
// depth-th of all maxima. These groups alone are scanned again, for rows not
// below that one. (Rounds that raise a floor: 199 us for a query among
// 1,000,000 rows of 768 bits, as each round ends with a selection.)
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/gpu/code_scan.h"
#include "src/distance/gpu/search_kernels.h"
#include "src/distance/kernels_codes.h"

namespace vicinal::gpu {

// Groups of which a block of 1,024 threads holds all maxima.
inline constexpr uint32_t kMaxGroups = 16384;
// Groups that are scanned again, per row that is wanted: ties take more.
inline constexpr uint32_t kGroupsPerRow = 2;

// What PrepareFew reads and writes. Sizes are multiples of 16 bytes.
struct FewQueries {
  // On the host, pinned.
  const std::byte* values = nullptr;
  size_t value_pitch = 0;  // of one query
  const float* terms = nullptr;
  const std::byte* raw = nullptr;  // for exact comparisons
  size_t raw_bytes = 0;            // of all; may be 0
  // On the device.
  uint32_t* operands = nullptr;
  float* terms_there = nullptr;
  std::byte* raw_there = nullptr;
  DeviceProbe* probes = nullptr;
  uint32_t* maxima = nullptr;
  uint32_t num_groups = 0;  // of maxima, which become 0
  bool as_bits = false;     // what the operands are; see PackCodeQueries
};

// Operands, terms and probes of queries, and their state before any row.
cudaError_t PrepareFew(const CodeLayout& layout, const DeviceCodes& codes,
                       const FewQueries& few, const QueryState& state,
                       cudaStream_t stream);
// The items of the groups that may have one of the `depth` best rows, and
// floors for them: kGroupsPerRow * depth items a query, some of no tiles. A
// query with more is lost.
cudaError_t ChooseGroups(const CodeScan& scan, const QueryState& state,
                         uint32_t num_tiles, uint32_t depth, ScanItem* items,
                         cudaStream_t stream);
// Puts the `depth` best candidates of each query in order, and writes the k
// first to `out` and then `done`; out null: neither. A query becomes lost that
// has more candidates than there is room for or far more than `depth` that are
// not below the depth-th.
cudaError_t RankFew(const QueryState& state, uint32_t depth, uint32_t k,
                    Neighbor* out, cudaStream_t stream);
// What ScanCodes does with scan.maxima or scan.items of codes that are is_bits
// and a few queries as bits.
cudaError_t ScanFewBits(const DeviceCodes& codes, const CodeScan& scan,
                        const QueryState& state, int num_processors,
                        cudaStream_t stream);

}  // namespace vicinal::gpu
