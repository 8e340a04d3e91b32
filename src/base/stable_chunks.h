// Chunks of growing size, so that what is in them never moves: readers need no
// lock for elements that were published to them while a writer adds more.
#pragma once

#include <bit>
#include <cstddef>
#include <utility>
#include <vector>

namespace vicinal {

// Which chunk an element is in. Each is as large as all before it together, so
// that few chunks hold much and little is reserved for what never comes.
namespace stable_chunks {

inline constexpr size_t kFirstSize = 16;

inline size_t ChunkOf(size_t i) {
  return static_cast<size_t>(std::bit_width(i / kFirstSize));
}
inline size_t End(size_t chunk) { return kFirstSize << chunk; }
inline size_t Begin(size_t chunk) { return chunk == 0 ? 0 : End(chunk - 1); }
inline size_t NumChunks(size_t max_size) {
  return max_size == 0 ? 0 : ChunkOf(max_size - 1) + 1;
}

}  // namespace stable_chunks

// A vector that does not move its elements. One thread appends; others may read
// those of whose being there they were told (by a release store, say).
template <typename T>
class StableVector {
 public:
  explicit StableVector(size_t max_size)
      : chunks_(stable_chunks::NumChunks(max_size)) {}

  // Appending thread only.
  size_t size() const { return size_; }
  void PushBack(T value) {
    const size_t chunk = stable_chunks::ChunkOf(size_);
    if (size_ == stable_chunks::Begin(chunk)) {
      chunks_[chunk].reserve(stable_chunks::End(chunk) - size_);
    }
    chunks_[chunk].push_back(std::move(value));
    ++size_;
  }
  // Not the chunk's operator[]: with assertions that reads its size, which the
  // appending thread changes.
  const T& operator[](size_t i) const {
    const size_t chunk = stable_chunks::ChunkOf(i);
    return chunks_[chunk].data()[i - stable_chunks::Begin(chunk)];
  }

 private:
  std::vector<std::vector<T>> chunks_;  // as many as there will ever be
  size_t size_ = 0;
};

}  // namespace vicinal
