// The conformance suite under GoogleTest: the CPU's backend against a slow
// reference, and each GPU that there is against the CPU's.
#include "src/distance/gpu/backend.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/distance/gpu/comparison.h"
#include "tests/distance/gpu/conformance.h"
#include "tests/distance/gpu/reference_backend.h"

namespace vicinal::backend_tests {

// Found by GoogleTest, so not in the namespace below.
void PrintTo(const ConformanceCase& test, std::ostream* out) {
  *out << test.name;
}

namespace {

// The others take minutes here: they are for a GPU against the CPU.
std::vector<ConformanceCase> SmallCases() {
  std::vector<ConformanceCase> small;
  for (const ConformanceCase& test : ConformanceCases()) {
    if (!test.is_large) small.push_back(test);
  }
  return small;
}

class CpuBackendTest : public ::testing::TestWithParam<ConformanceCase> {};

TEST_P(CpuBackendTest, AnswersAsTheReference) {
  const uint64_t seed = std::random_device()();
  const std::unique_ptr<DistanceBackend> cpu = MakeCpuBackend(3);
  const std::unique_ptr<DistanceBackend> reference = MakeReferenceBackend();
  const std::string outcome = GetParam().run(*cpu, *reference, seed);
  EXPECT_EQ(outcome, "") << "seed " << seed;
}

INSTANTIATE_TEST_SUITE_P(All, CpuBackendTest, ::testing::ValuesIn(SmallCases()),
                         [](const auto& test) {
                           return std::string(test.param.name);
                         });

TEST(GpuBackendTest, AnswersAsTheCpu) {
  if (CountGpus() == 0) GTEST_SKIP() << "no GPU";
  const uint64_t seed = std::random_device()();
  const std::unique_ptr<DistanceBackend> cpu = MakeCpuBackend(8);
  for (int device = 0; device < CountGpus(); ++device) {
    std::unique_ptr<DistanceBackend> gpu;
    ASSERT_EQ(MakeGpuBackend({.device = device}, &gpu), BackendStatus::kOk);
    for (const ConformanceCase& test : ConformanceCases()) {
      const std::string outcome = test.run(*gpu, *cpu, seed);
      EXPECT_TRUE(outcome.empty() || backend_tests::IsSkipped(outcome))
          << test.name << ", seed " << seed << ": " << outcome;
    }
  }
}

TEST(GpuBackendTest, ADeviceThatIsNotThereIsUnsupported) {
  for (const int device : {-1, CountGpus(), 1000}) {
    std::unique_ptr<DistanceBackend> gpu;
    EXPECT_EQ(MakeGpuBackend({.device = device}, &gpu),
              BackendStatus::kUnsupported);
    EXPECT_EQ(gpu, nullptr);
  }
}

TEST(BackendStatusTest, EachHasANameOfItsOwn) {
  std::set<std::string> names;
  for (const BackendStatus status :
       {BackendStatus::kOk, BackendStatus::kUnsupported,
        BackendStatus::kNoMemory, BackendStatus::kDeviceLost}) {
    names.insert(BackendStatusName(status));
  }
  EXPECT_EQ(names.size(), 4u);
}

}  // namespace
}  // namespace vicinal::backend_tests
