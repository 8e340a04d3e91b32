// What is proved of MUVERA, and what was measured.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/multi_encoder.h"
#include "quant/multi_encoder_parts.h"
#include "src/base/random.h"
#include "tests/quant/multi_encoder_testing.h"

namespace vicinal {
namespace {

// What MUVERA's bytes say (see muvera.cc), to encode by the paper's words.
struct MuveraModel {
  uint32_t dim, repetitions, k_sim, d_proj, d_final;
  Fill fill;
  Centering centering;
  std::vector<float> mean;
  std::vector<float> matrix;
  size_t projected;  // rows of the projection; 0: identity

  explicit MuveraModel(const std::string& bytes) {
    uint32_t fields[5];
    std::memcpy(fields, bytes.data() + 16, sizeof(fields));
    dim = fields[0];
    repetitions = fields[1];
    k_sim = fields[2];
    d_proj = fields[3];
    d_final = fields[4];
    fill = static_cast<Fill>(bytes[37]);
    centering = static_cast<Centering>(bytes[38]);
    projected = d_proj < dim ? d_proj : 0;
    const char* at = bytes.data() + 48;
    if (centering != Centering::kNone) {
      mean.resize(dim);
      std::memcpy(mean.data(), at, dim * sizeof(float));
      at += dim * sizeof(float);
    }
    matrix.resize(repetitions * (k_sim + projected) * dim);
    if (!matrix.empty()) {
      std::memcpy(matrix.data(), at, matrix.size() * sizeof(float));
    }
    EXPECT_EQ(at + matrix.size() * sizeof(float) + 4,
              bytes.data() + bytes.size());
  }

  const float* Row(size_t repetition, size_t row) const {
    return &matrix[(repetition * (k_sim + projected) + row) * dim];
  }
  // In double precision; false where a token lies on a hyperplane, as far as
  // floats tell.
  bool Encode(const Tokens& tokens, bool is_document,
              std::vector<double>* out) const {
    const size_t block = projected != 0 ? projected : dim;
    const size_t parts = size_t{1} << k_sim;
    out->assign(repetitions * parts * block, 0);
    for (size_t r = 0; r < repetitions; ++r) {
      std::vector<size_t> part_of(tokens.size());
      std::vector<std::vector<double>> projections(tokens.size());
      for (size_t i = 0; i < tokens.size(); ++i) {
        std::vector<float> centred(tokens.row(i), tokens.row(i) + dim);
        for (size_t t = 0; t < mean.size(); ++t) centred[t] -= mean[t];
        for (size_t b = 0; b < k_sim; ++b) {
          const double side = Dot(Row(r, b), centred.data(), dim);
          if (std::abs(side) < 1e-4) return false;
          part_of[i] |= static_cast<size_t>(side > 0) << b;
        }
        const float* token =
            is_document && centering == Centering::kHashAndDocuments
                ? centred.data()
                : tokens.row(i);
        for (size_t t = 0; t < block; ++t) {
          projections[i].push_back(
              projected != 0 ? Dot(Row(r, k_sim + t), token, dim) : token[t]);
        }
      }
      for (size_t part = 0; part < parts; ++part) {
        int nearest = is_document ? std::numeric_limits<int>::max() : 0;
        for (size_t i = 0; i < tokens.size() && is_document; ++i) {
          nearest = std::min(nearest, std::popcount(part_of[i] ^ part));
        }
        if (is_document && nearest > 0 && fill == Fill::kNone) continue;
        double* sums = &(*out)[(r * parts + part) * block];
        double count = 0;
        for (size_t i = 0; i < tokens.size(); ++i) {
          if (std::popcount(part_of[i] ^ part) != nearest) continue;
          ++count;
          for (size_t t = 0; t < block; ++t) sums[t] += projections[i][t];
        }
        for (size_t t = 0; t < block && is_document && count > 0; ++t) {
          sums[t] /= count;
        }
      }
    }
    return true;
  }
};

TEST(MuveraTest, EncodesAsThePaperSays) {
  Random random = Seeded(1);
  int compared = 0;
  for (const Projection projection :
       {Projection::kDenseSign, Projection::kCountSketch}) {
    for (const Fill fill : {Fill::kNone, Fill::kHammingMean}) {
      for (const Centering centering :
           {Centering::kNone, Centering::kHash, Centering::kHashAndDocuments}) {
        for (const uint32_t k_sim : {0, 1, 3, 5}) {
          for (const uint32_t d_proj : {1, 7, 19, 40}) {
            const size_t dim = 19;
            auto params = MuveraOf(3, k_sim, d_proj, random.Next());
            params.muvera.projection = projection;
            params.muvera.fill = fill;
            params.muvera.centering = centering;
            const Tokens centre = Units(1, dim, &random);
            const Tokens sample =
                UnitsAround(centre.row(0), 30, dim, 1, &random);
            const Encoder encoder = Train(params, sample);
            ASSERT_EQ(encoder->dim(), FdeDim(params.muvera, dim));
            ASSERT_EQ(encoder->dim(), EncodingDim(params, dim));
            const MuveraModel model(encoder->Serialize());
            const size_t n = 1 + random.Uniform(12);
            const Tokens tokens =
                UnitsAround(centre.row(0), n, dim, 1, &random);
            for (const bool is_document : {false, true}) {
              std::vector<double> expected;
              if (!model.Encode(tokens, is_document, &expected)) continue;
              ExpectNear(is_document ? Document(encoder, tokens)
                                     : Query(encoder, tokens),
                         {expected.begin(), expected.end()}, 2e-5);
              ++compared;
            }
          }
        }
      }
    }
  }
  EXPECT_GT(compared, 360);
}

TEST(MuveraTest, MatricesAreWhatTheyAreCalled) {
  constexpr size_t kDim = 64;
  std::set<std::vector<float>> planes, projections;
  for (const uint64_t seed : {7, 8}) {
    for (const Projection projection :
         {Projection::kDenseSign, Projection::kCountSketch}) {
      auto params = MuveraOf(8, 4, 16, seed);
      params.muvera.projection = projection;
      const MuveraModel model(
          Train(params, {kDim, std::vector<float>(kDim)})->Serialize());
      double sum = 0, sum2 = 0;
      for (size_t r = 0; r < 8; ++r) {
        for (size_t b = 0; b < 4; ++b) {
          const float* row = model.Row(r, b);
          planes.emplace(row, row + kDim);
          for (size_t t = 0; t < kDim; ++t) {
            sum += row[t];
            sum2 += static_cast<double>(row[t]) * row[t];
          }
        }
        const float* begin = model.Row(r, 4);
        projections.emplace(begin, begin + 16 * kDim);
        for (size_t t = 0; t < kDim; ++t) {
          int non_zero = 0;
          for (size_t b = 0; b < 16; ++b) {
            const float value = std::abs(model.Row(r, 4 + b)[t]);
            if (value == 0) continue;
            ++non_zero;
            EXPECT_EQ(value,
                      projection == Projection::kDenseSign ? 0.25f : 1.0f);
          }
          EXPECT_EQ(non_zero, projection == Projection::kDenseSign ? 16 : 1);
        }
      }
      // Of 2,048 standard normal numbers; five deviations.
      EXPECT_NEAR(sum / 2048, 0, 0.11);
      EXPECT_NEAR(sum2 / 2048, 1, 0.16);
    }
  }
  // The projections do not change the hyperplanes; seeds and repetitions do.
  EXPECT_EQ(planes.size(), 2 * 8 * 4);
  EXPECT_EQ(projections.size(), 4 * 8);
}

TEST(MuveraTest, NoTwoStreamsAreTheSame) {
  using multi_encoder::Purpose;
  std::set<uint64_t> first;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    for (const Purpose purpose : {Purpose::kHyperplanes, Purpose::kProjection,
                                  Purpose::kSketch, Purpose::kFeatures}) {
      for (uint64_t repetition = 0; repetition < 64; ++repetition) {
        // Nor does one begin in another's first numbers.
        Random random = multi_encoder::StreamOf(seed, purpose, repetition);
        for (int i = 0; i < 4; ++i) first.insert(random.Next());
      }
    }
  }
  EXPECT_EQ(first.size(), 8 * 4 * 64 * 4);
}

TEST(MuveraTest, TheFinalSketchMovesEachCoordinateOnce) {
  constexpr size_t kDim = 400;
  auto params = MuveraOf(1, 0, kDim);
  params.muvera.d_final = 20;
  const Encoder encoder = Train(params, {kDim, std::vector<float>(kDim)});
  std::vector<int> used(20);
  int negative = 0;
  for (size_t i = 0; i < kDim; ++i) {
    Tokens token{kDim, std::vector<float>(kDim)};
    token.rows[i] = 3;
    int non_zero = 0;
    const std::vector<float> sketch = Query(encoder, token);
    for (size_t t = 0; t < 20; ++t) {
      if (sketch[t] == 0) continue;
      EXPECT_EQ(std::abs(sketch[t]), 3);
      ++non_zero;
      ++used[t];
      negative += sketch[t] < 0;
    }
    EXPECT_EQ(non_zero, 1);
  }
  // 200 and 20 of each; five deviations.
  EXPECT_NEAR(negative, 200, 50);
  for (const int count : used) EXPECT_NEAR(count, 20, 20);
}

// Blocks of a document are means of its tokens, so no product is above the
// maximum.
TEST(MuveraTest, FilledWithoutProjectionItNeverExceedsTheScore) {
  Random random = Seeded(2);
  for (uint32_t k_sim = 0; k_sim <= kMaxKSim; ++k_sim) {
    // So short that nothing is sketched.
    const size_t dim = k_sim <= 6 ? 12 : 4;
    const size_t repetitions =
        std::min<size_t>(3, kMaxEncodingDim / (dim << k_sim));
    auto params = MuveraOf(static_cast<uint32_t>(repetitions), k_sim, 12);
    // The same whether tokens are hashed around a mean or zero.
    if (k_sim % 2 == 1) params.muvera.centering = Centering::kHash;
    const Encoder encoder = Train(params, Units(50, dim, &random));
    ASSERT_EQ(encoder->dim(), (repetitions * dim) << k_sim);
    for (int pair = 0; pair < 40; ++pair) {
      Tokens document = Units(1 + random.Uniform(30), dim, &random);
      Tokens query = pair % 2 == 0 ? Units(7, dim, &random)
                                   : QueryFor(document, 7, &random);
      // Of any length.
      for (float& value : document.rows) {
        value *= static_cast<float>(1 + pair % 3);
      }
      const double estimate =
          Dot(Query(encoder, query), Document(encoder, document)) /
          static_cast<double>(repetitions);
      EXPECT_LE(estimate, Chamfer(query, document) + 1e-4)
          << "k_sim " << k_sim << ", pair " << pair;
    }
  }
}

TEST(MuveraTest, OneTokenIsScoredExactly) {
  Random random = Seeded(3);
  for (const uint32_t k_sim : {0, 1, 4, 6}) {
    const Encoder encoder = TrainMuvera(4, k_sim, 16, 16);
    for (int pair = 0; pair < 20; ++pair) {
      const Tokens document = Units(1, 16, &random);
      const Tokens query = Units(1 + random.Uniform(40), 16, &random);
      EXPECT_NEAR(Dot(Query(encoder, query), Document(encoder, document)) / 4,
                  Chamfer(query, document),
                  1e-5 * static_cast<double>(query.size()));
    }
  }
}

TEST(MuveraTest, WithoutHyperplanesItIsTheProductOfSumAndMean) {
  Random random = Seeded(4);
  for (const Fill fill : {Fill::kNone, Fill::kHammingMean}) {
    auto params = MuveraOf(2, 0, 24);
    params.muvera.fill = fill;
    const Encoder encoder = Train(params, Units(1, 24, &random));
    ASSERT_EQ(encoder->dim(), 2 * 24);
    const Tokens query = Units(9, 24, &random);
    const Tokens document = Units(300, 24, &random);  // more than a block
    double expected = 0;
    for (size_t i = 0; i < query.size(); ++i) {
      for (size_t j = 0; j < document.size(); ++j) {
        expected += Dot(query.row(i), document.row(j), 24) / 300;
      }
    }
    EXPECT_NEAR(Dot(Query(encoder, query), Document(encoder, document)) / 2,
                expected, 1e-5);
  }
}

TEST(MuveraTest, TheGapShrinksWithTheParts) {
  Random random = Seeded(5);
  constexpr size_t kDim = 4;
  constexpr int kPairs = 60;
  // (1 << 8) x 4 x 4 is kMaxEncodingDim: nothing is sketched.
  double gaps[3] = {};
  for (int pair = 0; pair < kPairs; ++pair) {
    const Tokens document = Units(40, kDim, &random);
    const Tokens query = QueryFor(document, 16, &random);
    for (size_t i = 0; i < 3; ++i) {
      const Encoder encoder = TrainMuvera(4, std::vector<uint32_t>{1, 4, 8}[i],
                                          kDim, kDim, random.Next());
      const double estimate =
          Dot(Query(encoder, query), Document(encoder, document)) / 4;
      gaps[i] += (Chamfer(query, document) - estimate) / (16 * kPairs);
    }
  }
  std::printf("gaps %.3f %.3f %.3f\n", gaps[0], gaps[1], gaps[2]);
  EXPECT_LT(gaps[1], 0.7 * gaps[0]);
  EXPECT_LT(gaps[2], 0.7 * gaps[1]);
}

TEST(MuveraTest, ProjectionsAddNoBiasAndLittleNoise) {
  Random random = Seeded(6);
  constexpr size_t kDim = 48;
  constexpr int kPairs = 200;
  struct Setting {
    uint32_t repetitions, d_proj;
  };
  for (const Projection projection :
       {Projection::kDenseSign, Projection::kCountSketch}) {
    for (const Setting setting : {Setting{4, 4}, {4, 16}, {16, 4}}) {
      double sum = 0, sum2 = 0;
      for (int pair = 0; pair < kPairs; ++pair) {
        const uint64_t seed = random.Next();
        const Tokens document = Units(20, kDim, &random);
        const Tokens query = QueryFor(document, 8, &random);
        const double unit = 1.0 / (setting.repetitions * 8);
        auto params = MuveraOf(setting.repetitions, 2, setting.d_proj, seed);
        params.muvera.projection = projection;
        const Encoder projected = Train(params, document);
        // The same hyperplanes.
        const Encoder whole =
            TrainMuvera(setting.repetitions, 2, kDim, kDim, seed);
        const double noise =
            unit *
            (Dot(Query(projected, query), Document(projected, document)) -
             Dot(Query(whole, query), Document(whole, document)));
        sum += noise / kPairs;
        sum2 += noise * noise / kPairs;
      }
      const double limit =
          1 /
          std::sqrt(static_cast<double>(setting.repetitions) * setting.d_proj);
      const double deviation = std::sqrt(sum2 - sum * sum);
      std::printf("mean %.4f, deviation %.3f of the limit\n", sum,
                  deviation / limit);
      EXPECT_LT(std::abs(sum), 0.02);
      EXPECT_LT(deviation, limit);
    }
  }
}

TEST(MuveraTest, TheFinalSketchKeepsProducts) {
  Random random = Seeded(7);
  constexpr size_t kDim = 24;
  constexpr int kSeeds = 200;
  for (const uint32_t d_final : {64, 1024}) {
    const Tokens document = Units(20, kDim, &random);
    const Tokens query = QueryFor(document, 8, &random);
    double sum = 0, sum2 = 0, limit = 0;
    for (int seed = 0; seed < kSeeds; ++seed) {
      auto params = MuveraOf(5, 3, 8, random.Next());
      const Encoder whole = Train(params, document);
      params.muvera.d_final = d_final;
      const Encoder sketched = Train(params, document);
      ASSERT_EQ(sketched->dim(), d_final);
      ASSERT_EQ(EncodingDim(params, kDim), d_final);
      const auto q = Query(whole, query);
      const auto p = Document(whole, document);
      const double noise =
          Dot(Query(sketched, query), Document(sketched, document)) - Dot(q, p);
      sum += noise / kSeeds;
      sum2 += noise * noise / kSeeds;
      limit += std::sqrt(Dot(q, q) * Dot(p, p) / d_final) / kSeeds;
    }
    // The variance is (|q|^2 |p|^2 + <q, p>^2 - 2 sum q_i^2 p_i^2) / d_final.
    EXPECT_LT(std::sqrt(sum2), 1.5 * limit);
    EXPECT_GT(std::sqrt(sum2), 0.3 * limit);
    EXPECT_LT(std::abs(sum), 4 * std::sqrt(sum2 / kSeeds));
  }
  // Segments sketch what is too long to index.
  const MultiEncoderParams large = MuveraOf(40, 5, 8);
  EXPECT_EQ(FdeDim(large.muvera, kDim), 10'240);
  EXPECT_EQ(EncodingDim(large, kDim), kMaxEncodingDim);
  const Encoder encoder = Train(large, Units(1, kDim, &random));
  EXPECT_EQ(encoder->dim(), 10'240);
}

TEST(MuveraTest, QueriesAreSumsOfTheirTokens) {
  Random random = Seeded(8);
  constexpr size_t kDim = 20;
  auto params = MuveraOf(6, 4, 5);
  for (const uint32_t d_final : {0, 100}) {
    params.muvera.d_final = d_final;
    const Encoder encoder = Train(params, Units(1, kDim, &random));
    Tokens query = Units(300, kDim, &random);
    std::vector<float> weights(300);
    std::vector<float> sum(encoder->dim()), weighted(encoder->dim());
    for (size_t i = 0; i < query.size(); ++i) {
      weights[i] = i % 5 == 0 ? 0 : static_cast<float>(random.UniformDouble());
      const std::vector<float> one = Query(encoder, query.One(i));
      for (size_t t = 0; t < sum.size(); ++t) {
        sum[t] += one[t];
        weighted[t] += weights[i] * one[t];
      }
    }
    ExpectNear(Query(encoder, query), sum, 1e-4);
    ExpectNear(Query(encoder, query, weights), weighted, 1e-4);
    // A token's length does not move it to another part.
    for (size_t i = 0; i < query.rows.size(); ++i) {
      query.rows[i] *= weights[i / kDim];
    }
    ExpectNear(Query(encoder, query), weighted, 1e-4);
    EXPECT_EQ(Query(encoder, {kDim, {}}), std::vector<float>(encoder->dim()));
  }
}

TEST(MuveraTest, DocumentsAreSetsOfTokens) {
  Random random = Seeded(9);
  constexpr size_t kDim = 20;
  for (const Fill fill : {Fill::kNone, Fill::kHammingMean}) {
    auto params = MuveraOf(6, 4, 5);
    params.muvera.fill = fill;
    params.muvera.centering = Centering::kHashAndDocuments;
    const Encoder encoder = Train(params, Units(100, kDim, &random));
    const Tokens document = Units(11, kDim, &random);
    Tokens twice = document, reversed{kDim, {}};
    for (size_t i = 0; i < document.size(); ++i) {
      twice.Append(document.row(i));
      reversed.Append(document.row(document.size() - 1 - i));
    }
    const std::vector<float> expected = Document(encoder, document);
    ExpectNear(Document(encoder, twice), expected, 1e-5);
    ExpectNear(Document(encoder, reversed), expected, 1e-5);
  }
}

TEST(MuveraTest, BatchesChangeNothing) {
  Random random = Seeded(10);
  for (const Fill fill : {Fill::kNone, Fill::kHammingMean}) {
    auto params = MuveraOf(4, 3, 4);
    params.muvera.fill = fill;
    params.muvera.centering = Centering::kHashAndDocuments;
    params.muvera.d_final = fill == Fill::kNone ? 50 : 0;
    ExpectBatchesChangeNothing(Train(params, Units(20, 10, &random)), &random);
  }
}

TEST(MuveraTest, BlocksThatNoTokenIsInAreZero) {
  Random random = Seeded(11);
  constexpr size_t kDim = 16;
  const auto non_zero_blocks = [](const std::vector<float>& encoding,
                                  size_t repetition, size_t parts) {
    size_t count = 0;
    for (size_t part = 0; part < parts; ++part) {
      const float* block = &encoding[(repetition * parts + part) * kDim];
      count += std::any_of(block, block + kDim, [](float v) { return v != 0; });
    }
    return count;
  };
  for (const uint32_t k_sim : {0, 2, 5}) {
    const size_t parts = size_t{1} << k_sim;
    auto params = MuveraOf(4, k_sim, kDim);
    const Encoder filled = Train(params, Units(1, kDim, &random));
    params.muvera.fill = Fill::kNone;
    const Encoder plain = Train(params, Units(1, kDim, &random));
    for (const size_t n : {1, 3, 40}) {
      const Tokens tokens = Units(n, kDim, &random);
      const auto query = Query(filled, tokens);
      const auto full = Document(filled, tokens);
      const auto sparse = Document(plain, tokens);
      EXPECT_EQ(query, Query(plain, tokens));
      for (size_t r = 0; r < 4; ++r) {
        const size_t in_query = non_zero_blocks(query, r, parts);
        EXPECT_LE(in_query, std::min(n, parts));
        EXPECT_GE(in_query, 1u);
        EXPECT_EQ(non_zero_blocks(sparse, r, parts), in_query);
        EXPECT_EQ(non_zero_blocks(full, r, parts), parts);
      }
    }
  }
}

TEST(MuveraTest, ComesBackBitByBit) {
  Random random = Seeded(12);
  for (const Projection projection :
       {Projection::kDenseSign, Projection::kCountSketch}) {
    for (const Centering centering :
         {Centering::kNone, Centering::kHash, Centering::kHashAndDocuments}) {
      for (const uint32_t d_proj : {4, 30}) {
        for (const uint32_t d_final : {0, 99}) {
          auto params = MuveraOf(5, 3, d_proj, random.Next());
          params.muvera.projection = projection;
          params.muvera.centering = centering;
          params.muvera.d_final = d_final;
          const Tokens sample = Units(200, 30, &random);
          const Encoder encoder = Train(params, sample);
          const std::string bytes = encoder->Serialize();
          EXPECT_EQ(Train(params, sample, 2)->Serialize(), bytes);
          auto back = MultiEncoder::Parse(bytes);
          ASSERT_TRUE(back.ok()) << back.status();
          EXPECT_EQ((*back)->Serialize(), bytes);
          EXPECT_EQ((*back)->Describe(), encoder->Describe());
          EXPECT_EQ((*back)->token_dim(), 30);
          EXPECT_TRUE((*back)->CanEncodeDocuments());
          const Tokens tokens = Units(20, 30, &random);
          EXPECT_EQ(Query(*back, tokens), Query(encoder, tokens));
          EXPECT_EQ(Document(*back, tokens), Document(encoder, tokens));
        }
      }
    }
  }
}

TEST(MuveraTest, DefaultsAndTheirSizes) {
  EXPECT_EQ(FdeDim({}, 128), 32 * 16 * 8);
  EXPECT_EQ(FdeDim({}, 256), 32 * 16 * 16);
  EXPECT_EQ(FdeDim({}, 3), 32 * 16 * 3);
  EXPECT_EQ(FdeDim(PaperMuveraParams(), 128), 10'240);
  EXPECT_EQ(EncodingDim({.kind = Kind::kMuvera}, 3), 32 * 16 * 3);
  EXPECT_EQ(EncodingDim({.kind = Kind::kMuvera}, 128), 4096);
  EXPECT_EQ(EncodingDim({.kind = Kind::kOls}, 64), 512);
  EXPECT_EQ(EncodingDim({.kind = Kind::kOls}, 65), 1024);
  EXPECT_EQ(EncodingDim({.kind = Kind::kAuto}, 3), 1536);
  EXPECT_EQ(EncodingDim({.kind = Kind::kNone}, 128), 0);
  MultiEncoderParams params{
      .kind = Kind::kMuvera,
      .muvera = {.fill = Fill::kNone, .centering = Centering::kNone}};
  const Encoder encoder = Train(params, {3, {1, 2, 3}});
  EXPECT_EQ(encoder->dim(), 1536);
  EXPECT_EQ(encoder->Describe(), "MUVERA (32, 4, 3), not filled, not centred");
}

}  // namespace
}  // namespace vicinal
