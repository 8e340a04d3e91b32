// Anonymous memory that is reserved at once and used bit by bit.
#pragma once

#include <cstddef>
#include <utility>

namespace vicinal {

// Zeroed pages that cost memory only when touched; given back to the system
// at destruction. The address never changes, so readers need no lock while a
// writer fills later rows. Aborts when the address space is exhausted.
class MappedBuffer {
 public:
  MappedBuffer() = default;
  explicit MappedBuffer(size_t size_bytes);
  ~MappedBuffer() { Reset(); }
  MappedBuffer(MappedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_bytes_(std::exchange(other.size_bytes_, 0)) {}
  MappedBuffer& operator=(MappedBuffer&& other) noexcept {
    if (this != &other) {
      Reset();
      data_ = std::exchange(other.data_, nullptr);
      size_bytes_ = std::exchange(other.size_bytes_, 0);
    }
    return *this;
  }

  std::byte* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }

 private:
  void Reset();

  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

}  // namespace vicinal
