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

#include "index/multi_field.h"
#include "quant/token_codec.h"
#include "src/base/half.h"
#include "src/base/random.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "tests/distance/gpu/comparison.h"
#include "tests/distance/gpu/conformance.h"
#include "tests/distance/gpu/reference_backend.h"
#include "tests/distance/gpu/test_vectors.h"

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

// What the engine computes where it asks no backend.
TEST(CpuMaxSimTest, IsTheScoreOfMultiQuery) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  Random random(seed);
  for (const bool cosine : {false, true}) {
    const MultiSpec spec = {
        .dim = 70, .type = ElementType::kFloat16, .cosine = cosine};
    const std::vector<uint64_t> offsets = {0, 5, 6, 40, 73};
    std::vector<float> values(73 * spec.dim);
    for (float& value : values) value = backend_tests::Noise(random);
    std::vector<uint16_t> tokens(values.size());
    FloatToHalf(values, tokens);
    std::vector<float> asked(9 * spec.dim);
    for (float& value : asked) value = backend_tests::Noise(random);
    std::vector<float> weights(9);
    for (float& weight : weights)
      weight = static_cast<float>(random.UniformDouble());
    const MultiQuery query(spec, asked, weights);

    const std::unique_ptr<DistanceBackend> cpu = MakeCpuBackend(3);
    std::shared_ptr<const LoadedSegment> documents;
    ASSERT_EQ(cpu->LoadTokens({tokens.data(), offsets.data(), 4, spec.dim,
                               spec.type, cosine},
                              &documents),
              BackendStatus::kOk);
    const uint32_t of_query[] = {0, 9};
    std::vector<Neighbor> found(4);
    ASSERT_EQ(cpu->MaxSim(*documents,
                          {query.tokens().data, of_query, weights.data(), 1},
                          {}, 4, found.data(), nullptr),
              BackendStatus::kOk);
    for (const Neighbor& neighbor : found) {
      const size_t first = offsets[neighbor.row];
      EXPECT_EQ(neighbor.distance,
                -query.Score({reinterpret_cast<const std::byte*>(
                                  tokens.data() + first * spec.dim),
                              offsets[neighbor.row + 1] - first}));
    }
  }
}

// What sealed segments compute where they ask no backend.
TEST(CpuMaxSimTest, OfCodesIsTheScoreOfTokenCodec) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  Random random(seed);
  constexpr size_t kDim = 70;
  constexpr size_t kQueryTokens = 19;
  const std::vector<uint64_t> offsets = {0, 5, 6, 40, 373};
  const size_t n = offsets.back();
  std::vector<float> tokens(n * kDim);
  for (float& value : tokens) value = backend_tests::Noise(random);
  std::vector<float> asked(kQueryTokens * kDim);
  for (float& value : asked) value = backend_tests::Noise(random);
  std::vector<float> weights(kQueryTokens);
  for (float& weight : weights)
    weight = static_cast<float>(random.UniformDouble());
  for (const TokenCodecKind kind :
       {TokenCodecKind::kInt8, TokenCodecKind::kInt4, TokenCodecKind::kInt2,
        TokenCodecKind::kBinary}) {
    const auto codec = TokenCodec::Train(
        kind, kDim, {tokens.data(), n, kDim, kDim}, seed, 1, nullptr);
    ASSERT_TRUE(codec.ok());
    std::vector<uint8_t> records(n * (*codec)->record_bytes());
    (*codec)->Encode({tokens.data(), n, kDim, kDim}, records.data());
    const TokenCodeQuery query =
        (*codec)->Prepare({asked.data(), kQueryTokens, kDim, kDim}, weights);

    const std::unique_ptr<DistanceBackend> cpu = MakeCpuBackend(3);
    std::shared_ptr<const LoadedSegment> documents;
    ASSERT_EQ(
        cpu->LoadTokenCodes(
            {(*codec)->form(), records.data(), offsets.data(), 4}, &documents),
        BackendStatus::kOk);
    const CodedTokenQuery view = {
        query.num_tokens,    query.panels.data(),
        query.sums.data(),   query.table.empty() ? nullptr : query.table.data(),
        query.scales.data(), query.constant};
    std::vector<Neighbor> found(4);
    ASSERT_EQ(
        cpu->MaxSimCodes(*documents, &view, 1, {}, 4, found.data(), nullptr),
        BackendStatus::kOk);
    std::vector<float> scratch(16 * query.num_panels);
    for (const Neighbor& neighbor : found) {
      ASSERT_LT(neighbor.row, 4u);
      const size_t first = offsets[neighbor.row];
      EXPECT_EQ(
          neighbor.distance,
          -(*codec)->Score(query, &records[first * (*codec)->record_bytes()],
                           offsets[neighbor.row + 1] - first, scratch.data()));
    }
  }
}

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
