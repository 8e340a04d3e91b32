// Anonymous memory that is reserved at once and used bit by bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace vicinal {

// Zeroed pages that cost memory only when touched; given back to the system
// at destruction. The address never changes, so readers need no lock while a
// writer fills later rows. Aborts when the address space is exhausted.
class MappedBuffer {
 public:
  // Where less than 128 KiB come from: pages of their own, or the heap. A
  // process has 65,530 mappings at most, and each takes whole pages.
  enum class Small : uint8_t { kPages, kHeap };

  MappedBuffer() = default;
  explicit MappedBuffer(size_t size_bytes, Small small = Small::kPages);
  ~MappedBuffer() { Reset(); }
  MappedBuffer(MappedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_bytes_(std::exchange(other.size_bytes_, 0)),
        on_heap_(other.on_heap_) {}
  MappedBuffer& operator=(MappedBuffer&& other) noexcept {
    if (this != &other) {
      Reset();
      data_ = std::exchange(other.data_, nullptr);
      size_bytes_ = std::exchange(other.size_bytes_, 0);
      on_heap_ = other.on_heap_;
    }
    return *this;
  }

  std::byte* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }

 private:
  void Reset();

  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
  bool on_heap_ = false;
};

}  // namespace vicinal
