// A block of memory that is given out from the front and taken back at once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vicinal::gpu {

class Arena {
 public:
  static constexpr size_t kAlignment = 1024;

  Arena() = default;
  Arena(void* data, size_t size)
      : data_(static_cast<std::byte*>(data)), size_(size) {}

  // Null: there is not as much left.
  template <class T>
  T* Take(size_t count) {
    const size_t bytes =
        (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    if (bytes > size_ - used_) return nullptr;
    T* const taken = reinterpret_cast<T*>(data_ + used_);
    used_ += bytes;
    return taken;
  }
  size_t size() const { return size_; }
  size_t left() const { return size_ - used_; }
  size_t used() const { return used_; }
  // Gives back all that was taken since used() was `used`.
  void Rewind(size_t used) { used_ = used; }
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  size_t used_ = 0;
};

}  // namespace vicinal::gpu
