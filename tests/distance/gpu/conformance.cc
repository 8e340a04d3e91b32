#include "tests/distance/gpu/conformance.h"

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "tests/distance/gpu/cases.h"

namespace vicinal::backend_tests {

std::span<const ConformanceCase> ConformanceCases() {
  static const auto* const kCases = [] {
    auto* all = new std::vector<ConformanceCase>;
    for (const auto& part :
         {ShapeCases(), SearchCases(), RangeCases(), ByteCases(), OtherCases(),
          TrainCases(), CodeCases(), MaxSimCases(), CodedTokenCases()}) {
      all->insert(all->end(), part.begin(), part.end());
    }
    return all;
  }();
  return *kCases;
}

std::string InThreads(size_t num_threads,
                      const std::function<std::string(size_t)>& ask) {
  std::vector<std::string> problems(num_threads);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < num_threads; ++i) {
    threads.emplace_back([&, i] { problems[i] = ask(i); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& problem : problems) VICINAL_CHECK_CASE(problem);
  return "";
}

}  // namespace vicinal::backend_tests
