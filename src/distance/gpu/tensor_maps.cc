#include "src/distance/gpu/tensor_maps.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/search_kernels.h"
#include "src/distance/gpu/train_kernels.h"

namespace vicinal::gpu {
namespace {

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);
constexpr CUtensorMapDataType kBf16 = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;

// By the runtime, so that nothing links with the driver's library.
EncodeTiled FindEncodeTiled() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                       12000, cudaEnableDefault,
                                       &found) != cudaSuccess ||
      found != cudaDriverEntryPointSuccess) {
    return nullptr;
  }
  return reinterpret_cast<EncodeTiled>(function);
}

EncodeTiled FoundEncodeTiled() {
  static const EncodeTiled encode = FindEncodeTiled();
  return encode;
}

bool Encode(EncodeTiled encode, CUtensorMapDataType type, const void* data,
            uint32_t num_dims, const cuuint64_t* sizes,
            const cuuint64_t* strides, const cuuint32_t* box,
            CUtensorMap* out) {
  const cuuint32_t steps[3] = {1, 1, 1};
  return encode(out, type, num_dims, const_cast<void*>(data), sizes, strides,
                box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace

bool MakeTensorMaps(const DeviceRows& rows, const uint16_t* queries,
                    uint32_t num_queries, TensorMaps* out) {
  const EncodeTiled encode = FoundEncodeTiled();
  if (encode == nullptr) return false;
  out->cluster = num_queries > kQueryTile ? 2 : 1;
  const cuuint64_t pitch = cuuint64_t{rows.padded_dim} * 2;
  const cuuint64_t query_sizes[2] = {rows.padded_dim, num_queries};
  const cuuint32_t query_box[2] = {64, kQueryTile};
  const cuuint64_t row_sizes[3] = {rows.padded_dim, rows.stripe_rows, kStripes};
  const cuuint64_t row_strides[2] = {pitch, pitch * rows.stripe_rows};
  const cuuint32_t row_box[3] = {64, kStripeRun, kStripes / out->cluster};
  return Encode(encode, kBf16, queries, 2, query_sizes, &pitch, query_box,
                &out->queries) &&
         Encode(encode, kBf16, rows.bf16, 3, row_sizes, row_strides, row_box,
                &out->rows);
}

bool MakeAssignMaps(const DeviceRows& points, const DeviceCentroids& centroids,
                    TensorMaps* out) {
  const EncodeTiled encode = FoundEncodeTiled();
  if (encode == nullptr) return false;
  out->cluster = points.num_rows > kQueryTile ? 2 : 1;
  const cuuint64_t point_pitch = cuuint64_t{points.padded_dim} * 2;
  const cuuint64_t point_sizes[2] = {points.padded_dim, points.num_rows};
  const cuuint32_t point_box[2] = {64, kQueryTile};
  const cuuint64_t pitch = cuuint64_t{centroids.padded_dim} * 2;
  const cuuint64_t sizes[3] = {centroids.padded_dim, kStripeRun,
                               cuuint64_t{centroids.num_tiles()} * kStripes};
  const cuuint64_t strides[2] = {pitch, pitch * kStripeRun};
  const cuuint32_t box[3] = {64, kStripeRun, kStripes / out->cluster};
  return Encode(encode, kBf16, points.bf16, 2, point_sizes, &point_pitch,
                point_box, &out->queries) &&
         Encode(encode, kBf16, centroids.bf16, 3, sizes, strides, box,
                &out->rows);
}

bool MakeTokenMap(const DeviceTokens& tokens, CUtensorMap* out) {
  const EncodeTiled encode = FoundEncodeTiled();
  if (encode == nullptr) return false;
  const cuuint64_t pitch = tokens.row_bytes();
  const cuuint64_t sizes[2] = {pitch, std::max(1u, tokens.num_tokens)};
  const cuuint32_t box[2] = {128, kTokenStep};
  const void* const rows = tokens.code_bits == 0
                               ? static_cast<const void*>(tokens.half)
                               : tokens.codes;
  return Encode(encode, CU_TENSOR_MAP_DATA_TYPE_UINT8, rows, 2, sizes, &pitch,
                box, out);
}

}  // namespace vicinal::gpu
