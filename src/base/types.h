// The vocabulary shared by every folder: numbers that must never be mixed up
// and the enums that appear in files and on the wire.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vicinal {

// Dense number 0..n-1 of a row inside one segment. Never stored outside it.
using RowId = uint32_t;
inline constexpr RowId kInvalidRow = UINT32_MAX;

// Number of a committed batch in a collection, 1, 2, ...; strictly increasing.
using Sequence = uint64_t;

// Number of a stored version of a point in a collection, in commit order;
// an upsert of the same id gets a new one. Key of the record in storage.
using Ordinal = uint64_t;

// Inside Vicinal smaller is closer for every metric: squared L2 distance,
// minus the inner product, 1 minus the cosine. Values are stored in files.
enum class Metric : uint8_t { kL2 = 1, kInnerProduct = 2, kCosine = 3 };

// How one element of a stored vector is represented. Stored in files.
enum class ElementType : uint8_t {
  kFloat32 = 1,
  kFloat16 = 2,
  kInt8 = 3,
  kUint8 = 4,
  kBfloat16 = 5,  // the upper half of a binary32; of multi-vectors only
};

constexpr size_t ElementSize(ElementType type) {
  return type == ElementType::kFloat32    ? 4
         : type == ElementType::kFloat16  ? 2
         : type == ElementType::kBfloat16 ? 2
                                          : 1;
}

}  // namespace vicinal
