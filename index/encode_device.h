// Code records of many rows, made by a device where that is faster.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "quant/codec.h"
#include "src/base/cancel.h"
#include "src/base/vector_set.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {

// Codec::Encode, with its bytes. Whatever the device refuses or fails at, and
// whatever is not worth asking it, is done by num_threads of the CPU. device,
// cancel and centres may be null.
absl::Status EncodeRows(const Codec& codec, VectorSetView rows,
                        std::span<uint8_t> records, size_t num_threads,
                        const CancelToken* cancel, const RowCentres* centres,
                        DistanceBackend* device);

// Rows that a device gets at a time: few enough that it soon has time for
// others, and that a build which is cancelled soon ends.
inline constexpr size_t kEncodedPartBytes = size_t{1} << 30;

// The same by the device alone. Unavailable: it does not do it, or not with
// these bytes; records hold anything then.
absl::Status EncodeRowsByDevice(const Codec& codec, VectorSetView rows,
                                std::span<uint8_t> records, size_t num_threads,
                                const CancelToken* cancel,
                                const RowCentres* centres,
                                DistanceBackend* device,
                                size_t part_bytes = kEncodedPartBytes);

}  // namespace vicinal
