// Kernels over quantized codes: integer dot products of packed codes with an
// int8 query, and the small integer matrix product that prepares a query. Like
// DistanceKernels, one table per instruction set and the same bits from each:
// integer sums are exact, and the few float operations that follow run in one
// stated order. The layout of records is in kernels_codes.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "src/distance/kernels_codes.h"

namespace vicinal {

// The table in use, chosen like ActiveKernels() but by timing these kernels.
// Thread-safe.
const CodeKernels& ActiveCodeKernels();
// The table called `name`, or null when this CPU or build cannot run it.
const CodeKernels* FindCodeKernels(absl::string_view name);

// Bytes of a segment's payload.
constexpr size_t CodePayloadBytes(size_t num_dims, size_t bits) {
  return num_dims * bits / 8;
}

// Bytes of a segment, and of all, in a block of kCodeBlockRows records.
constexpr size_t CodeBlockSegmentBytes(size_t num_dims, size_t bits) {
  const size_t dims_per_group = bits == 0 ? 4 : 32 / bits;
  return (num_dims + dims_per_group - 1) / dims_per_group * 64;
}
size_t CodeBlockBytes(const CodeLayout& layout);
// Bytes that CodeKernels::sum_fours writes: 0 where no segment has one bit.
size_t CodeFoursBytes(const CodeLayout& layout);
// Writes a block of `count` (<= kCodeBlockRows) consecutive records.
void PackCodeBlock(const CodeLayout& layout, const uint8_t* records,
                   size_t count, uint8_t* block);

// Packs codes[0 .. num_dims), one per byte and each < 2^bits, into
// CodePayloadBytes at `out`; and back.
void PackCodes(const uint8_t* codes, size_t num_dims, size_t bits,
               uint8_t* out);
void UnpackCodes(const uint8_t* packed, size_t num_dims, size_t bits,
                 uint8_t* codes);

}  // namespace vicinal
