#include "tests/distance/gpu/conformance.h"

#include <span>
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

}  // namespace vicinal::backend_tests
