#include "src/base/mapped_buffer.h"

#include <sys/mman.h>

#include <cstddef>

#include "src/base/check.h"

namespace vicinal {

MappedBuffer::MappedBuffer(size_t size_bytes) {
  if (size_bytes == 0) return;
  void* data = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  VICINAL_CHECK(data != MAP_FAILED);
  data_ = static_cast<std::byte*>(data);
  // Large pages save most of the page faults of a bulk load, but the first
  // megabytes stay in small ones: many collections are small.
  constexpr size_t kSmallBytes = size_t{4} << 20;
  if (size_bytes > kSmallBytes) {
    ::madvise(data_ + kSmallBytes, size_bytes - kSmallBytes, MADV_HUGEPAGE);
  }
  size_bytes_ = size_bytes;
}

void MappedBuffer::Reset() {
  if (data_ != nullptr) ::munmap(data_, size_bytes_);
  data_ = nullptr;
  size_bytes_ = 0;
}

}  // namespace vicinal
