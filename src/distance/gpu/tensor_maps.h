// How the copy engine of compute capability 9.0 finds tiles in device memory.
#pragma once

#include <cuda.h>

#include "src/distance/gpu/search_kernels.h"

namespace vicinal::gpu {

struct TensorMaps {
  // Blocks that share the slices of rows: 2, or 1 where one has all queries.
  uint32_t cluster = 1;
  CUtensorMap queries;
  CUtensorMap rows;
};

// false: the driver has no such call or refuses the shapes.
bool MakeTensorMaps(const DeviceRows& rows, const uint16_t* queries,
                    uint32_t num_queries, TensorMaps* out);

}  // namespace vicinal::gpu
