#include "src/base/page_memory.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace vicinal {
namespace {

size_t PageBytes() {
  static const auto bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

// The whole pages that bytes lie in.
struct Pages {
  Pages(const void* data, size_t size_bytes) {
    const auto address = reinterpret_cast<uintptr_t>(data);
    const size_t before = address % PageBytes();
    begin = address - before;
    size = size_bytes == 0 ? 0 : size_bytes + before;
  }
  void* data() const { return reinterpret_cast<void*>(begin); }

  uintptr_t begin;
  size_t size;
};

}  // namespace

size_t ResidentBytes(const void* data, size_t size_bytes) {
  constexpr size_t kPagesAtOnce = 4'096;
  const Pages pages(data, size_bytes);
  unsigned char resident[kPagesAtOnce];
  const size_t step = kPagesAtOnce * PageBytes();
  size_t count = 0;
  for (size_t at = 0; at < pages.size; at += step) {
    const size_t size = std::min(step, pages.size - at);
    if (::mincore(reinterpret_cast<void*>(pages.begin + at), size, resident) !=
        0) {
      continue;
    }
    const size_t num_pages = (size + PageBytes() - 1) / PageBytes();
    for (size_t i = 0; i < num_pages; ++i) count += resident[i] & 1;
  }
  return count * PageBytes();
}

bool LockPages(const void* data, size_t size_bytes) {
  const Pages pages(data, size_bytes);
  return pages.size == 0 || ::mlock(pages.data(), pages.size) == 0;
}

uint64_t MajorFaultsOfThread() {
  rusage usage;
  return ::getrusage(RUSAGE_THREAD, &usage) == 0
             ? static_cast<uint64_t>(usage.ru_majflt)
             : 0;
}

PageFaults FaultsOfProcess() {
  rusage usage;
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return {};
  return {static_cast<uint64_t>(usage.ru_majflt),
          static_cast<uint64_t>(usage.ru_minflt)};
}

}  // namespace vicinal
