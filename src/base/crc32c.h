// CRC-32C (Castagnoli, RFC 3720 appendix B.4), hardware when there is any.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace vicinal {

// Checksum of the bytes so far (0 at the start) extended by `bytes`.
// At least 5 GB/s on x86-64 with SSE4.2.
uint32_t ExtendCrc32c(uint32_t crc, absl::string_view bytes);
inline uint32_t Crc32c(absl::string_view bytes) {
  return ExtendCrc32c(0, bytes);
}

namespace internal {
// The table-driven twin for machines without the instruction; equal results.
uint32_t ExtendCrc32cPortable(uint32_t crc, absl::string_view bytes);
}  // namespace internal

}  // namespace vicinal
