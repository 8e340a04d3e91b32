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

// The same of points, whose bf16 rows are the queries, and of centroids, whose
// tiles are whole and in order: tile t at stripe t * kStripes, run 0.
struct DeviceCentroids;
bool MakeAssignMaps(const DeviceRows& points, const DeviceCentroids& centroids,
                    TensorMaps* out);

// Tokens as rows of bytes, in tiles of kTokenStep tokens and 128 bytes.
struct DeviceTokens;
bool MakeTokenMap(const DeviceTokens& tokens, CUtensorMap* out);

}  // namespace vicinal::gpu
