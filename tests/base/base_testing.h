// What tests of several classes count with and feed them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "src/base/random.h"

namespace vicinal {

inline std::string RandomBytes(size_t size, uint64_t seed) {
  Random random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.Next());
  return bytes;
}

// How often each of n tasks ran. Thread-safe.
class RunCounts {
 public:
  explicit RunCounts(size_t n) : counts_(n) {}
  void Add(size_t task) { counts_.at(task).fetch_add(1); }
  std::vector<int> Values() const { return {counts_.begin(), counts_.end()}; }

 private:
  std::vector<std::atomic<int>> counts_;
};

}  // namespace vicinal
