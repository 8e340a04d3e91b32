#include "src/engine/mapped_buffer.h"

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
  size_bytes_ = size_bytes;
}

void MappedBuffer::Reset() {
  if (data_ != nullptr) ::munmap(data_, size_bytes_);
  data_ = nullptr;
  size_bytes_ = 0;
}

}  // namespace vicinal
