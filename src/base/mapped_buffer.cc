#include "src/base/mapped_buffer.h"

#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <new>

#include "src/base/check.h"

namespace vicinal {

namespace {

constexpr size_t kMinMappedBytes = size_t{128} << 10;
constexpr std::align_val_t kLine{64};

}  // namespace

MappedBuffer::MappedBuffer(size_t size_bytes, Small small) {
  if (size_bytes == 0) return;
  if (small == Small::kHeap && size_bytes < kMinMappedBytes) {
    data_ = static_cast<std::byte*>(::operator new(size_bytes, kLine));
    std::memset(data_, 0, size_bytes);
    size_bytes_ = size_bytes;
    on_heap_ = true;
    return;
  }
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
  if (on_heap_) {
    ::operator delete(data_, kLine);
  } else if (data_ != nullptr) {
    ::munmap(data_, size_bytes_);
  }
  data_ = nullptr;
  size_bytes_ = 0;
  on_heap_ = false;
}

}  // namespace vicinal
