// Loops over tasks by threads that come and go with the loop.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace vicinal {

// Calls body(task) for each task, on the caller's thread and others.
template <typename Body>
void ParallelFor(size_t num_threads, size_t num_tasks, const Body& body) {
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t task = next++; task < num_tasks; task = next++) body(task);
  };
  std::vector<std::thread> threads;
  threads.reserve(num_threads);
  for (size_t i = 1; i < std::min(num_threads, num_tasks); ++i) {
    try {
      threads.emplace_back(work);
    } catch (const std::system_error&) {
      break;  // no more threads to be had: those that run do the work
    }
  }
  work();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace vicinal
