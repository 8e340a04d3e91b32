// Codes of tokens score documents as their tokens do, up to what their bits
// leave.
#include "quant/token_codec.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "quant/rotation.h"
#include "src/base/cancel.h"
#include "src/base/crc32c.h"
#include "src/base/random.h"
#include "src/base/vector_set.h"

namespace vicinal {
namespace {

using Codec = std::unique_ptr<const TokenCodec>;

constexpr TokenCodecKind kKinds[] = {
    TokenCodecKind::kInt8, TokenCodecKind::kInt4, TokenCodecKind::kInt2,
    TokenCodecKind::kBinary};

struct Tokens {
  size_t dim = 0;
  std::vector<float> rows;

  size_t size() const { return rows.size() / dim; }
  const float* row(size_t i) const { return rows.data() + i * dim; }
  MatrixView view() const { return {rows.data(), size(), dim, dim}; }
  void Append(const float* row) { rows.insert(rows.end(), row, row + dim); }
  Tokens First(size_t n) const {
    return {dim, {rows.begin(), rows.begin() + static_cast<long>(n * dim)}};
  }
};

Random Seeded(uint64_t seed) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return Random(seed);
}

// Unit vectors around `centre` (unit, or null: in all directions); the larger
// `spread`, the farther.
Tokens UnitsAround(const float* centre, size_t n, size_t dim, double spread,
                   Random* random) {
  Tokens out{dim, std::vector<float>(n * dim)};
  for (size_t i = 0; i < n; ++i) {
    float* row = &out.rows[i * dim];
    double norm2 = 0;
    for (size_t t = 0; t < dim; ++t) {
      row[t] = static_cast<float>(random->Gaussian() * spread /
                                  std::sqrt(static_cast<double>(dim)));
      if (centre != nullptr) row[t] += centre[t];
      norm2 += static_cast<double>(row[t]) * row[t];
    }
    for (size_t t = 0; t < dim; ++t) {
      row[t] /= static_cast<float>(std::sqrt(norm2));
    }
  }
  return out;
}

Tokens Units(size_t n, size_t dim, Random* random) {
  return UnitsAround(nullptr, n, dim, 1, random);
}

// Unit vectors around a few, which are not around zero: as encoders make them.
Tokens ClusteredUnits(size_t n, size_t dim, Random* random) {
  const Tokens common = Units(1, dim, random);
  const Tokens centres = UnitsAround(common.row(0), 40, dim, 1.5, random);
  Tokens out{dim, {}};
  for (size_t i = 0; i < n; ++i) {
    const float* centre = centres.row(random->Uniform(40));
    out.Append(UnitsAround(centre, 1, dim, 0.7, random).rows.data());
  }
  return out;
}

double Dot(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t t = 0; t < n; ++t) sum += static_cast<double>(a[t]) * b[t];
  return sum;
}

double Chamfer(const Tokens& query, const Tokens& document) {
  double sum = 0;
  for (size_t i = 0; i < query.size(); ++i) {
    double best = -std::numeric_limits<double>::infinity();
    for (size_t j = 0; j < document.size(); ++j) {
      best = std::max(best, Dot(query.row(i), document.row(j), query.dim));
    }
    sum += best;
  }
  return sum;
}

Codec Train(TokenCodecKind kind, const Tokens& sample, uint64_t seed = 1,
            size_t num_threads = 1) {
  auto codec = TokenCodec::Train(kind, sample.dim, sample.view(), seed,
                                 num_threads, nullptr);
  EXPECT_TRUE(codec.ok()) << codec.status();
  return std::move(*codec);
}

Codec Untrained(size_t dim) {
  auto codec = TokenCodec::Train(TokenCodecKind::kInt8, dim, {}, 0, 1, nullptr);
  EXPECT_TRUE(codec.ok()) << codec.status();
  return std::move(*codec);
}

// Each kind, and the one that is not trained.
std::vector<Codec> AllCodecs(const Tokens& sample) {
  std::vector<Codec> out;
  for (const TokenCodecKind kind : kKinds) out.push_back(Train(kind, sample));
  out.push_back(Untrained(sample.dim));
  return out;
}

std::vector<uint8_t> Encode(const Codec& codec, const Tokens& tokens) {
  std::vector<uint8_t> out(tokens.size() * codec->record_bytes());
  codec->Encode(tokens.view(), out.data());
  return out;
}

float Score(const Codec& codec, const TokenCodeQuery& query,
            const std::vector<uint8_t>& records) {
  std::vector<float> scratch(16 * query.num_panels);
  return codec->Score(query, records.data(),
                      records.size() / codec->record_bytes(), scratch.data());
}

float Score(const Codec& codec, const Tokens& query, const Tokens& document,
            std::span<const float> weights = {}) {
  return Score(codec, codec->Prepare(query.view(), weights),
               Encode(codec, document));
}

// With the checksum made to fit, so that the checks behind it are reached.
std::string Resealed(std::string bytes) {
  const uint32_t crc =
      Crc32c(absl::string_view(bytes).substr(0, bytes.size() - 4));
  std::memcpy(bytes.data() + bytes.size() - 4, &crc, 4);
  return bytes;
}

// What a codec's bytes and records say (see token_codec.cc and
// kernels_maxsim.h), to take codes for the tokens that they stand for.
class Decoder {
 public:
  explicit Decoder(const TokenCodec& codec)
      : dim_(codec.dim()), padded_dim_((dim_ + 31) / 32 * 32) {
    const std::string bytes = codec.Serialize();
    bits_ = std::vector<int>{8, 4, 2, 1}[static_cast<size_t>(bytes[12]) - 1];
    const char* at = bytes.data() + 32;
    if (bytes[13] == 1) {
      uint64_t seed;
      std::memcpy(&seed, bytes.data() + 24, 8);
      rotation_.emplace(padded_dim_, seed);
      mean_.resize(dim_);
      std::memcpy(mean_.data(), at, dim_ * sizeof(float));
      at += dim_ * sizeof(float);
    }
    if (bits_ == 2) {
      centroids_.resize(256 * dim_);
      std::memcpy(centroids_.data(), at, 256 * dim_ * sizeof(float));
      at += 256 * dim_ * sizeof(float);
    }
    EXPECT_EQ(at + 4, bytes.data() + bytes.size());
    record_bytes_ =
        4 + (bits_ == 2 ? 1 : 0) + padded_dim_ * static_cast<size_t>(bits_) / 8;
    EXPECT_EQ(codec.record_bytes(), record_bytes_);
  }

  Tokens Decode(const std::vector<uint8_t>& records) const {
    Tokens out{dim_, {}};
    for (size_t i = 0; i < records.size() / record_bytes_; ++i) {
      std::vector<float> values = ResidualOf(&records[i * record_bytes_]);
      if (rotation_.has_value()) rotation_->ApplyInverse(values.data());
      for (size_t t = 0; t < dim_; ++t) {
        if (!mean_.empty()) values[t] += mean_[t];
        if (!centroids_.empty()) {
          values[t] += centroids_[records[i * record_bytes_ + 4] * dim_ + t];
        }
      }
      out.Append(values.data());
    }
    return out;
  }

  // By how much products of this query token with coded ones can be off for
  // its own bytes: half a step in each dimension.
  double ErrorOf(const float* token,
                 const std::vector<uint8_t>& records) const {
    std::vector<float> values(padded_dim_);
    std::copy_n(token, dim_, values.begin());
    if (rotation_.has_value()) rotation_->Apply(values.data());
    double largest = 0;
    for (const float value : values) {
      largest = std::max<double>(largest, std::abs(value));
    }
    double most = 0;
    for (size_t i = 0; i < records.size() / record_bytes_; ++i) {
      double sum = 0;
      for (const float value : ResidualOf(&records[i * record_bytes_])) {
        sum += std::abs(value);
      }
      most = std::max(most, sum);
    }
    return largest / 127 / 2 * most;
  }

 private:
  // Rotated.
  std::vector<float> ResidualOf(const uint8_t* record) const {
    float scale;
    std::memcpy(&scale, record, 4);
    const uint8_t* code = record + (bits_ == 2 ? 5 : 4);
    std::vector<float> out(padded_dim_);
    for (size_t t = 0; t < padded_dim_; ++t) {
      const size_t bit = t * static_cast<size_t>(bits_);
      const int u = (code[bit / 8] >> (bit % 8)) & ((1 << bits_) - 1);
      const int level = bits_ == 8 ? u - 128 : 2 * u - ((1 << bits_) - 1);
      out[t] = scale * static_cast<float>(level);
    }
    return out;
  }

  const size_t dim_;
  const size_t padded_dim_;
  int bits_ = 0;
  size_t record_bytes_ = 0;
  std::vector<float> mean_;
  std::optional<Rotation> rotation_;
  std::vector<float> centroids_;
};

class TokenCodecDimTest : public ::testing::TestWithParam<size_t> {};

// Of each number of query tokens and of document tokens: the score of the
// tokens that the codes stand for.
TEST_P(TokenCodecDimTest, ScoresAreThoseOfDecodedTokens) {
  const size_t dim = GetParam();
  Random random = Seeded(dim);
  const Tokens sample = ClusteredUnits(400, dim, &random);
  const Tokens query = ClusteredUnits(64, dim, &random);
  const Tokens document = ClusteredUnits(17, dim, &random);
  for (const Codec& codec : AllCodecs(sample)) {
    const std::vector<uint8_t> records = Encode(codec, document);
    const Decoder decoder(*codec);
    const Tokens decoded = decoder.Decode(records);
    std::vector<double> products(64 * 17), errors(64);
    for (size_t i = 0; i < 64; ++i) {
      errors[i] = decoder.ErrorOf(query.row(i), records) + 1e-5;
      for (size_t j = 0; j < 17; ++j) {
        products[i * 17 + j] = Dot(query.row(i), decoded.row(j), dim);
      }
    }
    for (size_t m = 1; m <= 64; ++m) {
      const TokenCodeQuery prepared = codec->Prepare(query.First(m).view(), {});
      ASSERT_EQ(prepared.num_tokens, m);
      ASSERT_EQ(prepared.num_panels, (m + 15) / 16);
      std::vector<float> maxima(16 * prepared.num_panels);
      for (size_t n = 1; n <= 17; ++n) {
        double expected = 0, error = 0;
        for (size_t i = 0; i < m; ++i) {
          const auto begin =
              products.begin() + static_cast<std::ptrdiff_t>(i * 17);
          expected +=
              *std::max_element(begin, begin + static_cast<std::ptrdiff_t>(n));
          error += errors[i];
        }
        const float score =
            codec->Score(prepared, records.data(), n, maxima.data());
        ASSERT_NEAR(score, expected, error)
            << "kind " << static_cast<int>(codec->kind()) << ", " << m << " x "
            << n;
        // A score is a constant and scaled maxima.
        codec->Maxima(prepared, records.data(), n, maxima.data());
        double sum = prepared.constant;
        for (size_t i = 0; i < m; ++i) {
          sum += static_cast<double>(prepared.scales[i]) * maxima[i];
        }
        ASSERT_EQ(static_cast<float>(sum), score);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dims, TokenCodecDimTest,
                         ::testing::Values(1, 33, 96, 100, 128, 200));

// A set of documents, and queries that some of them are near to.
struct Collection {
  Tokens sample;
  std::vector<Tokens> documents;
  std::vector<Tokens> queries;
};

Collection MakeCollection(size_t dim, Random* random) {
  Collection out;
  out.sample = ClusteredUnits(400 * 12, dim, random);
  for (size_t i = 0; i < 400; ++i) {
    Tokens document{dim, {}};
    const size_t n = 4 + random->Uniform(16);
    for (size_t j = 0; j < n; ++j) {
      document.Append(out.sample.row(random->Uniform(out.sample.size())));
    }
    out.documents.push_back(std::move(document));
  }
  for (size_t i = 0; i < 20; ++i) {
    const Tokens& near = out.documents[random->Uniform(400)];
    Tokens query{dim, {}};
    for (size_t j = 0; j < 16; ++j) {
      const float* token = near.row(random->Uniform(near.size()));
      query.Append(UnitsAround(token, 1, dim, 0.6, random).rows.data());
    }
    out.queries.push_back(std::move(query));
  }
  return out;
}

struct Fidelity {
  double error = 0;  // root of the mean square, of scores
  double kept = 0;   // of the exact top 10
};

std::vector<size_t> TopOf(const std::vector<double>& scores, size_t k) {
  std::vector<size_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(k);
  return order;
}

Fidelity FidelityOf(const Codec& codec, const Collection& collection) {
  Fidelity out;
  double n = 0;
  std::vector<std::vector<uint8_t>> coded;
  for (const Tokens& document : collection.documents) {
    coded.push_back(Encode(codec, document));
  }
  for (const Tokens& query : collection.queries) {
    const TokenCodeQuery prepared = codec->Prepare(query.view(), {});
    std::vector<double> exact, estimated;
    for (size_t i = 0; i < coded.size(); ++i) {
      exact.push_back(Chamfer(query, collection.documents[i]));
      estimated.push_back(Score(codec, prepared, coded[i]));
      out.error += std::pow(exact.back() - estimated.back(), 2);
      ++n;
    }
    const std::vector<size_t> top = TopOf(estimated, 10);
    for (const size_t document : TopOf(exact, 10)) {
      out.kept += std::find(top.begin(), top.end(), document) != top.end();
    }
  }
  out.error = std::sqrt(out.error / n);
  out.kept /= 10 * static_cast<double>(collection.queries.size());
  return out;
}

TEST(TokenCodecTest, MoreBitsScoreMoreExactly) {
  Random random = Seeded(1);
  const Collection collection = MakeCollection(100, &random);
  std::vector<Fidelity> by_kind;
  for (const TokenCodecKind kind : kKinds) {
    by_kind.push_back(FidelityOf(Train(kind, collection.sample), collection));
    std::printf("kind %d: error %.4f, top 10 kept %.3f\n",
                static_cast<int>(kind), by_kind.back().error,
                by_kind.back().kept);
  }
  // 8, 4, 2 and 1 bits.
  EXPECT_LT(by_kind[0].error, 0.03);
  EXPECT_LT(3 * by_kind[0].error, by_kind[1].error);
  EXPECT_LT(1.5 * by_kind[1].error, by_kind[2].error);
  EXPECT_LT(1.5 * by_kind[2].error, by_kind[3].error);
  // Two bits with the best of a few steps; 0.16 with the first.
  EXPECT_LT(by_kind[2].error, 0.13);
  EXPECT_GT(by_kind[0].kept, 0.98);
  EXPECT_GT(by_kind[1].kept, 0.85);
  EXPECT_GT(by_kind[2].kept, 0.7);
  EXPECT_GT(by_kind[3].kept, 0.35);
}

TEST(TokenCodecTest, EightBitsNeedNoTraining) {
  Random random = Seeded(2);
  const Collection collection = MakeCollection(128, &random);
  const Codec codec = Untrained(128);
  EXPECT_EQ(codec->record_bytes(), 4 + 128);
  const Fidelity fidelity = FidelityOf(codec, collection);
  std::printf("error %.4f, top 10 kept %.3f\n", fidelity.error, fidelity.kept);
  EXPECT_LT(fidelity.error, 0.03);
  EXPECT_GT(fidelity.kept, 0.98);
}

// Over rotations, the mean of <q, code of p> is <q, p>: a code whose scale made
// its own error least would be short of it, by a third with 1 bit.
TEST(TokenCodecTest, ProductsAreNotBiased) {
  Random random = Seeded(3);
  constexpr size_t kDim = 64;
  constexpr size_t kPairs = 16;
  const Tokens sample = ClusteredUnits(256, kDim, &random);
  const Tokens tokens = ClusteredUnits(kPairs, kDim, &random);
  Tokens near{kDim, {}};
  for (size_t i = 0; i < kPairs; ++i) {
    near.Append(UnitsAround(tokens.row(i), 1, kDim, 0.5, &random).rows.data());
  }
  for (const TokenCodecKind kind : kKinds) {
    // k-means takes a while.
    const int num_seeds = kind == TokenCodecKind::kInt2 ? 60 : 300;
    std::vector<double> sums(kPairs), sums2(kPairs);
    double bias = 0, bias2 = 0;  // of the mean over pairs, which share a code
    for (int seed = 0; seed < num_seeds; ++seed) {
      const Codec codec = Train(kind, sample, random.Next());
      double mean = 0;
      for (size_t i = 0; i < kPairs; ++i) {
        const Tokens p{kDim, {tokens.row(i), tokens.row(i) + kDim}};
        const Tokens q{kDim, {near.row(i), near.row(i) + kDim}};
        const double error = Score(codec, q, p) - Chamfer(q, p);
        sums[i] += error / num_seeds;
        sums2[i] += error * error / num_seeds;
        mean += error / kPairs;
      }
      bias += mean / num_seeds;
      bias2 += mean * mean / num_seeds;
    }
    for (size_t i = 0; i < kPairs; ++i) {
      EXPECT_LT(std::abs(sums[i]), 4.5 * std::sqrt(sums2[i] / num_seeds))
          << "kind " << static_cast<int>(kind) << ", pair " << i;
    }
    const double standard_error = std::sqrt(bias2 / num_seeds);
    std::printf("kind %d: bias %.5f, standard error %.5f\n",
                static_cast<int>(kind), bias, standard_error);
    EXPECT_LT(std::abs(bias), 4 * standard_error);
    EXPECT_LT(std::abs(bias), 0.01);
  }
}

// A document padded by a zero token would score zero.
TEST(TokenCodecTest, MaximaMayBeNegative) {
  Random random = Seeded(4);
  for (const size_t dim : {1, 33, 96, 200}) {
    const Tokens towards = Units(1, dim, &random);
    Tokens away = towards;
    for (float& value : away.rows) value = -value;
    const Tokens query = UnitsAround(towards.row(0), 21, dim, 0.2, &random);
    const Tokens document = UnitsAround(away.row(0), 17, dim, 0.2, &random);
    Tokens sample = document;
    sample.Append(towards.row(0));
    for (const Codec& codec : AllCodecs(sample)) {
      const TokenCodeQuery prepared = codec->Prepare(query.view(), {});
      for (size_t n = 1; n <= 17; ++n) {
        const Tokens first = document.First(n);
        const double exact = Chamfer(query, first);
        ASSERT_LT(exact, -15);
        ASSERT_NEAR(Score(codec, prepared, Encode(codec, first)), exact,
                    -0.15 * exact)
            << "kind " << static_cast<int>(codec->kind()) << ", dim " << dim
            << ", " << n << " tokens";
      }
    }
  }
}

TEST(TokenCodecTest, TokensThatLeaveNothingToCodeAreExact) {
  Random random = Seeded(5);
  for (const size_t dim : {1, 33, 128}) {
    const Tokens query = Units(5, dim, &random);
    // One token, many times, is the mean.
    Tokens mean{dim, {}};
    const Tokens one = Units(1, dim, &random);
    for (int i = 0; i < 256; ++i) mean.Append(one.row(0));
    for (const TokenCodecKind kind : kKinds) {
      EXPECT_NEAR(Score(Train(kind, mean), query, one), Chamfer(query, one),
                  1e-5)
          << "kind " << static_cast<int>(kind) << ", dim " << dim;
    }
    // A few tokens are their own centroids.
    const Tokens few = Units(8, dim, &random);
    Tokens sample{dim, {}};
    for (size_t i = 0; i < 512; ++i) sample.Append(few.row(i % 8));
    EXPECT_NEAR(Score(Train(TokenCodecKind::kInt2, sample), query, few),
                Chamfer(query, few), 1e-5);
  }
}

TEST(TokenCodecTest, ZeroTokensAreScoredAsSuch) {
  Random random = Seeded(6);
  constexpr size_t kDim = 40;
  const Tokens zero{kDim, std::vector<float>(kDim)};
  const Tokens document = ClusteredUnits(9, kDim, &random);
  for (const Codec& codec : AllCodecs(ClusteredUnits(300, kDim, &random))) {
    EXPECT_EQ(Score(codec, zero, document), 0);
    Tokens query = ClusteredUnits(16, kDim, &random);
    const float expected = Score(codec, query, document);
    query.Append(zero.row(0));  // of a panel of its own
    EXPECT_EQ(Score(codec, query, document), expected);
    EXPECT_EQ(Score(codec, {kDim, {}}, document), 0);
    // As a document's token it is a product of zero, up to its code's error.
    EXPECT_NEAR(Score(codec, query, zero), 0,
                codec->kind() == TokenCodecKind::kInt8 ? 0.05 : 5);
  }
  EXPECT_EQ(Score(Untrained(kDim), document, zero), 0);
}

// Any finite tokens whose products are finite have finite scores.
TEST(TokenCodecTest, LengthsMayBeExtreme) {
  Random random = Seeded(7);
  constexpr size_t kDim = 40;
  const Tokens plain = ClusteredUnits(300, kDim, &random);
  for (const float length :
       {1e18f, 1e15f, 1e-15f, 1e-25f, 1e-36f, 1e-38f, 1e-41f, 1e-45f}) {
    Tokens sample = plain;
    for (float& value : sample.rows) value *= length;
    const Tokens document = sample.First(7);
    for (const Codec& codec : AllCodecs(sample)) {
      for (const Tokens& query : {plain.First(5), document}) {
        const double exact = Chamfer(query, document);
        ASSERT_NEAR(Score(codec, query, document), exact,
                    0.5 * std::abs(exact) + 1e-17)
            << "kind " << static_cast<int>(codec->kind()) << ", length "
            << length;
      }
    }
    // Short tokens among others.
    for (const Codec& codec : AllCodecs(plain)) {
      ASSERT_TRUE(std::isfinite(Score(codec, plain.First(5), document)));
      ASSERT_TRUE(std::isfinite(Score(codec, document, plain.First(5))));
    }
  }
}

TEST(TokenCodecTest, WeightsMultiplyWhatTokensGet) {
  Random random = Seeded(8);
  constexpr size_t kDim = 40;
  const Tokens query = ClusteredUnits(21, kDim, &random);
  const Tokens document = ClusteredUnits(9, kDim, &random);
  std::vector<float> weights(21);
  for (float& weight : weights) {
    weight = static_cast<float>(4 * random.UniformDouble());
  }
  weights[3] = 0;
  for (const Codec& codec : AllCodecs(ClusteredUnits(300, kDim, &random))) {
    double plain = 0, weighted = 0;
    for (size_t i = 0; i < query.size(); ++i) {
      const Tokens one{kDim, {query.row(i), query.row(i) + kDim}};
      const float score = Score(codec, one, document);
      plain += score;
      weighted += static_cast<double>(weights[i]) * score;
    }
    EXPECT_NEAR(Score(codec, query, document), plain, 1e-4);
    EXPECT_NEAR(Score(codec, query, document, weights), weighted, 1e-4);
  }
}

TEST(TokenCodecTest, BatchesAndOrderChangeNothing) {
  Random random = Seeded(9);
  constexpr size_t kDim = 50;
  const Tokens document = ClusteredUnits(150, kDim, &random);
  const Tokens query = ClusteredUnits(12, kDim, &random);
  for (const Codec& codec : AllCodecs(ClusteredUnits(300, kDim, &random))) {
    const std::vector<uint8_t> records = Encode(codec, document);
    std::vector<uint8_t> one_by_one;
    Tokens reversed{kDim, {}};
    for (size_t i = 0; i < document.size(); ++i) {
      const auto one =
          Encode(codec, {kDim, {document.row(i), document.row(i) + kDim}});
      one_by_one.insert(one_by_one.end(), one.begin(), one.end());
      reversed.Append(document.row(document.size() - 1 - i));
    }
    EXPECT_EQ(one_by_one, records);
    EXPECT_EQ(Score(codec, query, reversed), Score(codec, query, document));
  }
}

TEST(TokenCodecTest, ThreadsChangeNothing) {
  Random random = Seeded(10);
  const Tokens sample = ClusteredUnits(2'000, 33, &random);
  for (const TokenCodecKind kind : kKinds) {
    const std::string bytes = Train(kind, sample, 5, 1)->Serialize();
    EXPECT_EQ(Train(kind, sample, 5, 2)->Serialize(), bytes);
    // But the seed changes something.
    EXPECT_NE(Train(kind, sample, 6, 1)->Serialize(), bytes);
  }
}

TEST(TokenCodecTest, ComesBackBitByBit) {
  Random random = Seeded(11);
  for (const size_t dim : {1, 33, 128}) {
    const Tokens query = ClusteredUnits(20, dim, &random);
    const Tokens document = ClusteredUnits(70, dim, &random);
    for (const Codec& codec : AllCodecs(ClusteredUnits(100, dim, &random))) {
      const std::string bytes = codec->Serialize();
      auto back = TokenCodec::Parse(bytes);
      ASSERT_TRUE(back.ok()) << back.status();
      EXPECT_EQ((*back)->Serialize(), bytes);
      EXPECT_EQ((*back)->kind(), codec->kind());
      EXPECT_EQ((*back)->dim(), dim);
      EXPECT_EQ((*back)->record_bytes(), codec->record_bytes());
      EXPECT_EQ(Encode(*back, document), Encode(codec, document));
      EXPECT_EQ(Score(*back, query, document), Score(codec, query, document));
    }
  }
}

TEST(TokenCodecTest, RecordsAreAsLongAsTheResearchSays) {
  Random random = Seeded(12);
  const Tokens sample = Units(10, 100, &random);
  EXPECT_EQ(Train(TokenCodecKind::kInt8, sample)->record_bytes(), 4 + 128);
  EXPECT_EQ(Train(TokenCodecKind::kInt4, sample)->record_bytes(), 4 + 64);
  EXPECT_EQ(Train(TokenCodecKind::kInt2, sample)->record_bytes(), 4 + 1 + 32);
  EXPECT_EQ(Train(TokenCodecKind::kBinary, sample)->record_bytes(), 4 + 16);
}

TEST(TokenCodecTest, WhatCannotBeTrainedIsRefused) {
  const Tokens sample{4, {1, 2, 3, 4}};
  for (const TokenCodecKind kind : kKinds) {
    const bool needs_sample = kind != TokenCodecKind::kInt8;
    EXPECT_EQ(absl::IsInvalidArgument(
                  TokenCodec::Train(kind, 4, {}, 1, 1, nullptr).status()),
              needs_sample);
    for (const size_t dim : {0, 4'097}) {
      EXPECT_TRUE(absl::IsInvalidArgument(
          TokenCodec::Train(kind, dim, {}, 1, 1, nullptr).status()));
    }
  }
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(
      TokenCodec::Train(TokenCodecKind::kInt2, 4, sample.view(), 1, 1, &cancel)
          .status()));
}

// The most dimensions, and products as large as they get.
TEST(TokenCodecTest, LongTokensDoNotOverflow) {
  const Tokens ones{4'096, std::vector<float>(4'096, 1.0f / 64)};
  const Codec codec = Untrained(4'096);
  EXPECT_NEAR(Score(codec, ones, ones), 1, 1e-5);
  Random random = Seeded(13);
  const Tokens sample = Units(20, 4'096, &random);
  for (const Codec& trained : AllCodecs(sample)) {
    EXPECT_NEAR(Score(trained, sample, sample), 20,
                trained->kind() == TokenCodecKind::kBinary ? 0.4 : 0.1);
  }
}

std::vector<std::string> SmallCodecs() {
  std::vector<std::string> out;
  for (const Codec& codec : AllCodecs({2, {1, 2, 3, 4, -5, 0}})) {
    out.push_back(codec->Serialize());
  }
  return out;
}

TEST(TokenCodecTest, NoCutIsTakenForACodec) {
  for (const std::string& bytes : SmallCodecs()) {
    ASSERT_TRUE(TokenCodec::Parse(bytes).ok());
    for (size_t size = 0; size < bytes.size(); ++size) {
      const std::string cut = bytes.substr(0, size);
      ASSERT_TRUE(absl::IsDataLoss(TokenCodec::Parse(cut).status())) << size;
      if (size < 4) continue;
      ASSERT_TRUE(absl::IsDataLoss(TokenCodec::Parse(Resealed(cut)).status()))
          << size;
    }
    EXPECT_TRUE(
        absl::IsDataLoss(TokenCodec::Parse(Resealed(bytes + "more")).status()));
  }
}

TEST(TokenCodecTest, NoFlippedByteGoesUnnoticed) {
  for (const std::string& bytes : SmallCodecs()) {
    for (size_t at = 0; at < bytes.size(); ++at) {
      for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
        std::string damaged = bytes;
        damaged[at] = static_cast<char>(damaged[at] ^ flip);
        ASSERT_TRUE(absl::IsDataLoss(TokenCodec::Parse(damaged).status()))
            << at << " " << flip;
      }
    }
  }
}

TEST(TokenCodecTest, ANewerVersionIsRefusedAsSuch) {
  for (std::string bytes : SmallCodecs()) {
    bytes[8] = 2;
    const absl::Status status = TokenCodec::Parse(Resealed(bytes)).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_EQ(status.message(),
              "a codec of tokens has version 2; this program reads up to 1: "
              "use a newer one");
    EXPECT_TRUE(absl::IsDataLoss(TokenCodec::Parse(bytes).status()));
    bytes[8] = 0;
    EXPECT_TRUE(absl::IsDataLoss(TokenCodec::Parse(Resealed(bytes)).status()));
  }
}

// With a checksum that fits, fields that were made up are refused or harmless.
TEST(TokenCodecTest, MadeUpFieldsDoNoHarm) {
  Random random = Seeded(14);
  for (const std::string& bytes : SmallCodecs()) {
    int refused = 0;
    for (int round = 0; round < 2'000; ++round) {
      std::string made_up = bytes;
      for (size_t i = 0; i <= random.Uniform(3); ++i) {
        const size_t end = round % 3 == 0 ? bytes.size() - 4 : 32;
        made_up[random.Uniform(end)] = static_cast<char>(random.Uniform(256));
      }
      auto codec = TokenCodec::Parse(Resealed(made_up));
      if (!codec.ok()) {
        ASSERT_TRUE(absl::IsDataLoss(codec.status()) ||
                    absl::IsFailedPrecondition(codec.status()))
            << codec.status();
        ++refused;
        continue;
      }
      const Tokens tokens = Units(5, (*codec)->dim(), &random);
      Score(*codec, tokens, tokens);
    }
    EXPECT_GT(refused, 100);
    if (bytes.size() == 36) continue;  // not trained: no floats
    const uint32_t nan = 0x7FC00000;
    std::string not_finite = bytes;
    std::memcpy(not_finite.data() + bytes.size() - 8, &nan, 4);
    EXPECT_TRUE(
        absl::IsDataLoss(TokenCodec::Parse(Resealed(not_finite)).status()));
  }
}

// Sixteenths, so that they are the same on any machine.
Tokens GoldenTokens(size_t n, size_t dim, uint64_t seed) {
  Random random(seed);
  Tokens out{dim, std::vector<float>(n * dim)};
  for (float& value : out.rows) {
    value = static_cast<float>(static_cast<int>(random.Uniform(65)) - 32) / 16;
  }
  return out;
}

// Pinned: codecs and records in files are of these bits for ever. Run with each
// instruction set, too.
TEST(TokenCodecGoldenTest, BitsAreTheSameEverywhere) {
  struct Golden {
    uint32_t bytes, records, scores;
  };
  const Golden goldens[] = {
      {3994826255, 3037791164, 59971844},
      {3402017407, 875041873, 279608033},
      {1362229855, 3247664843, 1819955617},
      {2205389471, 2340660496, 4193853085},
      {4231377878, 1723426773, 2812801388},
  };
  const Tokens query = GoldenTokens(37, 100, 2);
  const Tokens document = GoldenTokens(15, 100, 3);
  const std::vector<Codec> codecs = AllCodecs(GoldenTokens(600, 100, 1));
  for (size_t i = 0; i < codecs.size(); ++i) {
    const Codec& codec = codecs[i];
    const std::vector<uint8_t> records = Encode(codec, document);
    const TokenCodeQuery prepared = codec->Prepare(query.view(), {});
    std::vector<float> scores;
    for (size_t n = 1; n <= document.size(); ++n) {
      scores.push_back(Score(
          codec, prepared,
          {records.begin(), records.begin() + static_cast<std::ptrdiff_t>(
                                                  n * codec->record_bytes())}));
    }
    const std::string bytes = codec->Serialize();
    // With its own checksum, all bytes have the same one.
    EXPECT_EQ(Crc32c(absl::string_view(bytes).substr(0, bytes.size() - 4)),
              goldens[i].bytes)
        << i;
    EXPECT_EQ(
        Crc32c({reinterpret_cast<const char*>(records.data()), records.size()}),
        goldens[i].records)
        << i;
    EXPECT_EQ(Crc32c({reinterpret_cast<const char*>(scores.data()),
                      scores.size() * sizeof(float)}),
              goldens[i].scores)
        << i;
  }
}

}  // namespace
}  // namespace vicinal
