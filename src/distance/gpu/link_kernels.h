// Link selection on the device, and the rows that it is done of.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "src/base/top_k.h"
#include "src/distance/gpu/backend.h"
#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {

// Lists of candidates on the device, each ascending.
struct CandidateLists {
  size_t num_lists = 0;
  const Neighbor* lists = nullptr;
  // Null: list i has `width` candidates, from i * width on, filled up with
  // kInvalidRow.
  const uint32_t* offsets = nullptr;
  size_t width = 0;
};

// Copies rows part[0 .. num_rows) of a segment to `to`, without gaps.
cudaError_t GatherRows(const DeviceRows& from, const uint32_t* part,
                       uint32_t num_rows, size_t row_bytes, std::byte* to,
                       cudaStream_t stream);
// Whether SelectLinks has room for vectors of so many dimensions.
bool CanSelectLinks(uint32_t dim, const LinkRule& rule);
// num_duplicates may be null.
cudaError_t SelectLinks(const DeviceRows& rows, const CandidateLists& lists,
                        const LinkRule& rule, Neighbor* out,
                        uint32_t* num_duplicates, cudaStream_t stream);

}  // namespace vicinal::gpu
