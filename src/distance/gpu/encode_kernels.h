// The kernels that make code records, as the host starts them. Every float
// operation is that of Codec::Encode (quant/codec.cc), in its order, so that
// records have its bits.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "src/distance/gpu/search_kernels.h"
#include "src/distance/kernels_codes.h"

namespace vicinal::gpu {

// RowCoding with its arrays on the device.
struct DeviceCoding {
  CodeLayout layout;
  RowCoding terms;             // but for its layout
  float rotation_scale = 0;    // of the transform of 2^k coordinates
  uint32_t rotation_size = 0;  // 2^k
  Metric metric = Metric::kL2;
};

// Rows of one warp, of which each lane has one.
inline constexpr uint32_t kEncodedRows = 32;

// Rows first .. first + count - 1 less their centres, count x dim floats.
cudaError_t CentreRows(const DeviceRows& rows, const DeviceCoding& coding,
                       uint32_t first, uint32_t count, float* centred,
                       cudaStream_t stream);
// Their coordinates by the fast rotation, count x num_coded.
cudaError_t RotateFast(const DeviceCoding& coding, uint32_t count,
                       const float* centred, float* coded, cudaStream_t stream);
// Their records, which are zero before. codes: where codes are adjusted, room
// for num_coded of each row, rounded up to whole warps.
cudaError_t EncodeRows(const DeviceCoding& coding, uint32_t first,
                       uint32_t count, const float* centred, const float* coded,
                       uint8_t* codes, uint8_t* records, cudaStream_t stream);

}  // namespace vicinal::gpu
