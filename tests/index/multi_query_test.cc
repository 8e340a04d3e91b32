// Exact scores of multi-vectors. Ctest runs these under every value of
// VICINAL_SIMD, too.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/string_view.h"
#include "index/multi_field.h"
#include "src/base/crc32c.h"
#include "src/base/random.h"
#include "src/base/types.h"
#include "tests/index/multi_testing.h"

namespace vicinal {
namespace {

constexpr ElementType kTypes[] = {ElementType::kFloat32, ElementType::kFloat16,
                                  ElementType::kBfloat16, ElementType::kInt8};
constexpr size_t kDims[] = {1, 3, 33, 100, 128};
constexpr size_t kMostTokens = 70;

MultiSpec SpecOf(size_t dim, ElementType type, bool cosine) {
  return {.dim = dim, .type = type, .cosine = cosine};
}

// 0 among them.
Floats RandomWeights(size_t n, Random* random) {
  Floats out(n);
  for (float& weight : out) {
    weight = static_cast<float>(random->Uniform(9)) / 4;
  }
  return out;
}

class MultiQueryTest
    : public ::testing::TestWithParam<std::tuple<ElementType, bool>> {
 protected:
  MultiSpec Spec(size_t dim) const {
    return SpecOf(dim, std::get<0>(GetParam()), std::get<1>(GetParam()));
  }
};

TEST_P(MultiQueryTest, ScoresAreSumsOfTheLargestProducts) {
  Random random = SeededTokens(1);
  for (const size_t dim : kDims) {
    const MultiSpec spec = Spec(dim);
    const std::string all =
        TokenBytes(GaussianTokens(spec, kMostTokens, &random), spec.type);
    for (size_t n = 1; n <= kMostTokens; ++n) {
      // Each count of query tokens, too, and with weights every other time.
      const size_t m = 1 + n * 37 % kMostTokens;
      const Floats tokens = GaussianTokens(spec, m, &random);
      const Floats weights = n % 2 == 0 ? Floats() : RandomWeights(m, &random);
      const MultiQuery query(spec, tokens, weights);
      ASSERT_EQ(query.num_tokens(), m);
      ASSERT_EQ(query.weights().size(), m);
      const std::string bytes = all.substr(0, n * spec.token_bytes());
      const NaiveMaxSim naive = ScoreNaively(spec, tokens, weights, bytes);
      ASSERT_NEAR(query.Score(RowOf(spec, bytes)), naive.score,
                  1e-5 * naive.scale)
          << dim << " dimensions, " << m << " x " << n;
    }
  }
}

TEST_P(MultiQueryTest, TheMatrixHasTheProductsOfTheScore) {
  Random random = SeededTokens(2);
  for (const size_t dim : kDims) {
    const MultiSpec spec = Spec(dim);
    for (const size_t n : {1, 31, 32, 33, 70}) {
      const size_t m = 1 + random.Uniform(40);
      const Floats tokens = GaussianTokens(spec, m, &random);
      const Floats weights = RandomWeights(m, &random);
      const std::string bytes =
          TokenBytes(GaussianTokens(spec, n, &random), spec.type);
      const MultiQuery query(spec, tokens, weights);
      const Floats products = query.Similarities(RowOf(spec, bytes));
      ASSERT_EQ(products.size(), m * n);
      double score = 0;
      for (size_t i = 0; i < m; ++i) {
        const Floats one(
            tokens.begin() + static_cast<ptrdiff_t>(i * dim),
            tokens.begin() + static_cast<ptrdiff_t>((i + 1) * dim));
        for (size_t j = 0; j < n; ++j) {
          const NaiveMaxSim naive = ScoreNaively(
              spec, one, {},
              bytes.substr(j * spec.token_bytes(), spec.token_bytes()));
          ASSERT_NEAR(products[i * n + j], naive.score, 1e-5 * naive.scale);
        }
        const auto row = products.begin() + static_cast<ptrdiff_t>(i * n);
        score += static_cast<double>(weights[i]) *
                 *std::max_element(row, row + static_cast<ptrdiff_t>(n));
      }
      EXPECT_EQ(query.Score(RowOf(spec, bytes)), static_cast<float>(score));
    }
  }
}

TEST_P(MultiQueryTest, DuplicatesAndOrderOfADocumentChangeNothing) {
  Random random = SeededTokens(3);
  for (const size_t dim : kDims) {
    const MultiSpec spec = Spec(dim);
    const Floats tokens = GaussianTokens(spec, 20, &random);
    const MultiQuery query(spec, tokens, {});
    std::string bytes =
        TokenBytes(GaussianTokens(spec, 37, &random), spec.type);
    const float score = query.Score(RowOf(spec, bytes));
    EXPECT_EQ(query.Score(RowOf(spec, bytes + bytes)), score);
    std::string turned;
    for (size_t i = 37; i-- > 0;) {
      turned += bytes.substr(i * spec.token_bytes(), spec.token_bytes());
    }
    EXPECT_EQ(query.Score(RowOf(spec, turned)), score);
    // Of the query they count.
    Floats twice = tokens;
    twice.insert(twice.end(), tokens.begin(), tokens.end());
    EXPECT_NEAR(MultiQuery(spec, twice, {}).Score(RowOf(spec, bytes)),
                2 * score, 1e-5 * std::abs(score) + 1e-6);
    EXPECT_EQ(
        MultiQuery(spec, tokens, Floats(20, 2.0f)).Score(RowOf(spec, bytes)),
        2 * score);
  }
}

// Where panels of query tokens or blocks of document tokens are filled up, what
// fills them must never be the maximum.
TEST_P(MultiQueryTest, ScoresOfOppositesAreNegative) {
  Random random = SeededTokens(4);
  for (const size_t dim : kDims) {
    const MultiSpec spec = Spec(dim);
    for (const size_t n : {1, 2, 15, 16, 17, 33}) {
      for (const size_t m : {1, 7, 16, 18}) {
        Floats document = GaussianTokens(spec, n, &random);
        Floats tokens = GaussianTokens(spec, m, &random);
        for (float& value : document) value = std::abs(value);
        for (float& value : tokens) value = -std::abs(value);
        const std::string bytes = TokenBytes(document, spec.type);
        const NaiveMaxSim naive = ScoreNaively(spec, tokens, {}, bytes);
        const float score =
            MultiQuery(spec, tokens, {}).Score(RowOf(spec, bytes));
        ASSERT_LT(score, 0);
        ASSERT_NEAR(score, naive.score, 1e-5 * naive.scale);
      }
    }
  }
}

TEST_P(MultiQueryTest, TokensNeedNoAlignment) {
  Random random = SeededTokens(5);
  const MultiSpec spec = Spec(33);
  const MultiQuery query(spec, GaussianTokens(spec, 5, &random), {});
  const std::string bytes =
      TokenBytes(GaussianTokens(spec, 40, &random), spec.type);
  const float score = query.Score(RowOf(spec, bytes));
  for (size_t shift = 1; shift < 4; ++shift) {
    const std::string moved = std::string(shift, '\x7F') + bytes;
    EXPECT_EQ(
        query.Score(
            {reinterpret_cast<const std::byte*>(moved.data()) + shift, 40}),
        score);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, MultiQueryTest,
                         ::testing::Combine(::testing::ValuesIn(kTypes),
                                            ::testing::Bool()));

TEST(MultiQueryValuesTest, LengthsCountForInnerProductsAlone) {
  Random random = SeededTokens(6);
  for (const bool cosine : {false, true}) {
    const MultiSpec spec = SpecOf(24, ElementType::kFloat32, cosine);
    Floats tokens = GaussianTokens(spec, 9, &random);
    Floats document = GaussianTokens(spec, 20, &random);
    const auto score = [&] {
      return MultiQuery(spec, tokens, {})
          .Score(RowOf(spec, TokenBytes(document, spec.type)));
    };
    const float before = score();
    for (float& value : tokens) value *= 3;
    for (float& value : document) value *= 7;
    EXPECT_NEAR(score(), cosine ? before : 21 * before,
                1e-5 * std::abs(21 * before));
  }
}

TEST(MultiQueryValuesTest, WeightsOfZeroLeaveTokensOut) {
  Random random = SeededTokens(7);
  const MultiSpec spec = SpecOf(24, ElementType::kFloat16, true);
  const Floats tokens = GaussianTokens(spec, 3, &random);
  const std::string bytes =
      TokenBytes(GaussianTokens(spec, 20, &random), spec.type);
  EXPECT_EQ(
      MultiQuery(spec, tokens, Floats{0, 1, 0}).Score(RowOf(spec, bytes)),
      MultiQuery(spec, Floats(tokens.begin() + 24, tokens.begin() + 48), {})
          .Score(RowOf(spec, bytes)));
  EXPECT_EQ(MultiQuery(spec, tokens, Floats{0, 0, 0}).Score(RowOf(spec, bytes)),
            0);
}

TEST(MultiQueryValuesTest, HugeAndTinyElementsGiveNumbers) {
  constexpr float kMost = std::numeric_limits<float>::max();
  const float denormal = std::numeric_limits<float>::denorm_min();
  for (const bool cosine : {false, true}) {
    const MultiSpec spec = SpecOf(4, ElementType::kFloat32, cosine);
    for (const float a : {kMost, -kMost, 1e30f, denormal}) {
      for (const float b : {kMost, -kMost, 1e30f, denormal}) {
        const Floats tokens = {a, b, -a, b, b, 1, -b, a, 1, 1, 1, 1};
        const Floats document = {a, -b, a, a, -a, -a, b, 1};
        for (const Floats& weights : {Floats(), Floats{0, 1, 2}}) {
          const MultiQuery query(spec, tokens, weights);
          const std::string bytes = TokenBytes(document, spec.type);
          const float score = query.Score(RowOf(spec, bytes));
          EXPECT_TRUE(std::isfinite(score)) << a << " " << b;
          EXPECT_TRUE(!cosine || std::abs(score) <= 3.001) << score;
        }
      }
    }
  }
}

// Elements that every type holds exactly, without the library's logarithm.
TEST(MultiQueryValuesTest, ScoresHaveTheSameBitsOnEveryMachine) {
  Random random = SeededTokens(8);
  std::string scores;
  const auto put = [&](float value) {
    scores.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  const auto values = [&](size_t n) {
    Floats out(n);
    for (float& value : out) {
      value = static_cast<float>(random.Uniform(127)) - 63.5f;
      value = std::floor(value) + (value < 0 ? 0.0f : 1.0f);
    }
    return out;
  };
  for (const size_t dim : kDims) {
    for (const ElementType type : kTypes) {
      for (const bool cosine : {false, true}) {
        const MultiSpec spec = SpecOf(dim, type, cosine);
        for (const size_t n : {1, 16, 33, 70}) {
          const size_t m = 1 + random.Uniform(kMostTokens);
          const MultiQuery query(spec, values(m * dim),
                                 RandomWeights(m, &random));
          const std::string bytes = TokenBytes(values(n * dim), type);
          put(query.Score(RowOf(spec, bytes)));
          for (const float product : query.Similarities(RowOf(spec, bytes))) {
            put(product);
          }
        }
      }
    }
  }
  EXPECT_EQ(Crc32c(scores), 2961828630u);
}

}  // namespace
}  // namespace vicinal
