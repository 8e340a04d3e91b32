// What the system does with pages of memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vicinal {

// How many of the bytes are in memory now, in whole pages.
size_t ResidentBytes(const void* data, size_t size_bytes);

// Keeps the pages in memory until they are unmapped; reads those that are not
// there. False: the system refuses (the limit on locked memory, ulimit -l).
bool LockPages(const void* data, size_t size_bytes);

// Page faults of the calling thread that had to wait for a disk.
uint64_t MajorFaultsOfThread();

struct PageFaults {
  uint64_t major = 0;  // waited for a disk
  uint64_t minor = 0;
};
PageFaults FaultsOfProcess();

}  // namespace vicinal
