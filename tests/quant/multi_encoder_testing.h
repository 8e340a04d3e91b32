// Token vectors and encoders for the tests of multi-vectors' encodings.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "quant/multi_encoder.h"
#include "src/base/crc32c.h"
#include "src/base/random.h"
#include "src/base/vector_set.h"

namespace vicinal {

using Kind = MultiEncoderParams::Kind;
using Projection = MuveraParams::Projection;
using Fill = MuveraParams::Fill;
using Centering = MuveraParams::Centering;
using Encoder = std::unique_ptr<const MultiEncoder>;

// Token vectors of one query, document or sample.
struct Tokens {
  size_t dim = 0;
  std::vector<float> rows;

  size_t size() const { return rows.size() / dim; }
  const float* row(size_t i) const { return rows.data() + i * dim; }
  MatrixView view() const { return {rows.data(), size(), dim, dim}; }
  void Append(const float* row) { rows.insert(rows.end(), row, row + dim); }
  Tokens One(size_t i) const { return {dim, {row(i), row(i) + dim}}; }
};

inline Random Seeded(uint64_t seed) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return Random(seed);
}

// Unit vectors around `centre` (unit, or null: in all directions); the larger
// `spread`, the farther.
inline Tokens UnitsAround(const float* centre, size_t n, size_t dim,
                          double spread, Random* random) {
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

inline Tokens Units(size_t n, size_t dim, Random* random) {
  return UnitsAround(nullptr, n, dim, 1, random);
}

// Tokens near some of the document's: what a query is.
inline Tokens QueryFor(const Tokens& document, size_t n, Random* random) {
  Tokens out{document.dim, {}};
  for (size_t i = 0; i < n; ++i) {
    const float* near = document.row(random->Uniform(document.size()));
    out.Append(UnitsAround(near, 1, document.dim, 0.6, random).rows.data());
  }
  return out;
}

inline double Dot(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t t = 0; t < n; ++t) sum += static_cast<double>(a[t]) * b[t];
  return sum;
}

inline double Dot(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  return Dot(a.data(), b.data(), a.size());
}

inline double MaxDot(const float* token, const Tokens& document) {
  double best = -std::numeric_limits<double>::infinity();
  for (size_t j = 0; j < document.size(); ++j) {
    best = std::max(best, Dot(token, document.row(j), document.dim));
  }
  return best;
}

inline double Chamfer(const Tokens& query, const Tokens& document) {
  double sum = 0;
  for (size_t i = 0; i < query.size(); ++i) {
    sum += MaxDot(query.row(i), document);
  }
  return sum;
}

inline std::vector<float> Query(const Encoder& encoder, const Tokens& tokens,
                                std::span<const float> weights = {}) {
  std::vector<float> out(encoder->dim());
  encoder->EncodeQuery(tokens.view(), weights, out.data());
  return out;
}

inline std::vector<float> Document(const Encoder& encoder,
                                   const Tokens& tokens) {
  std::vector<float> out(encoder->dim());
  const size_t ends[] = {tokens.size()};
  encoder->EncodeDocuments(tokens.view(), ends, out.data());
  return out;
}

inline void ExpectNear(const std::vector<float>& a, const std::vector<float>& b,
                       double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << i;
}

inline Encoder Train(const MultiEncoderParams& params, const Tokens& sample,
                     std::span<const size_t> ends, size_t num_threads = 1) {
  auto encoder =
      TrainMultiEncoder(params, {sample.view(), ends}, num_threads, nullptr);
  EXPECT_TRUE(encoder.ok()) << encoder.status();
  return std::move(*encoder);
}

// Documents of eight tokens, or fewer in the last.
inline std::vector<size_t> EndsOf(const Tokens& sample) {
  std::vector<size_t> ends;
  for (size_t end = 8; end < sample.size(); end += 8) ends.push_back(end);
  ends.push_back(sample.size());
  return ends;
}

inline Encoder Train(const MultiEncoderParams& params, const Tokens& sample,
                     size_t num_threads = 1) {
  return Train(params, sample, EndsOf(sample), num_threads);
}

// As in the paper, but for its sizes: filled, and not centred.
inline MultiEncoderParams MuveraOf(uint32_t repetitions, uint32_t k_sim,
                                   uint32_t d_proj, uint64_t seed = 1) {
  MultiEncoderParams params{.kind = Kind::kMuvera, .seed = seed};
  params.muvera = {.repetitions = repetitions,
                   .k_sim = k_sim,
                   .d_proj = d_proj,
                   .fill = Fill::kHammingMean,
                   .centering = Centering::kNone};
  return params;
}

inline Encoder TrainMuvera(uint32_t repetitions, uint32_t k_sim,
                           uint32_t d_proj, size_t dim, uint64_t seed = 1) {
  return Train(MuveraOf(repetitions, k_sim, d_proj, seed),
               {dim, std::vector<float>(dim, 1.0f)});
}

inline MultiEncoderParams OlsOf(uint32_t features, uint32_t sample_tokens,
                                uint64_t seed = 1) {
  return {.kind = Kind::kOls,
          .seed = seed,
          .ols = {.features = features, .sample_tokens = sample_tokens}};
}

// With the checksum made to fit, so that the checks behind it are reached.
inline std::string Resealed(std::string bytes) {
  const uint32_t crc =
      Crc32c(absl::string_view(bytes).substr(0, bytes.size() - 4));
  std::memcpy(bytes.data() + bytes.size() - 4, &crc, 4);
  return bytes;
}

// Without their own checksum: with it, all bytes have the same one.
inline uint32_t ChecksumOf(const std::string& bytes) {
  return Crc32c(absl::string_view(bytes).substr(0, bytes.size() - 4));
}

// The checksum of floats, as bits.
inline uint32_t ChecksumOf(const std::vector<float>& values) {
  return Crc32c({reinterpret_cast<const char*>(values.data()),
                 values.size() * sizeof(float)});
}

// Small integers that do not repeat soon.
inline Tokens IntegerTokens(size_t n, size_t dim, uint64_t seed) {
  Random random(seed);
  Tokens out{dim, std::vector<float>(n * dim)};
  for (float& value : out.rows) {
    value = static_cast<float>(static_cast<int>(random.Uniform(15)) - 7);
  }
  return out;
}

// Documents encoded together are those encoded one by one; empty ones are zero.
inline void ExpectBatchesChangeNothing(const Encoder& encoder, Random* random) {
  const size_t dim = encoder->token_dim();
  Tokens all{dim, {}};
  std::vector<size_t> ends;
  std::vector<float> expected;
  std::vector<size_t> sizes = {3, 0, 1, 17, 400, 0, 0, 2};
  // Past the block of documents that OLS fits together.
  for (size_t i = 0; i < 40; ++i) sizes.push_back(i % 5);
  for (const size_t n : sizes) {
    const Tokens document = Units(n, dim, random);
    all.rows.insert(all.rows.end(), document.rows.begin(), document.rows.end());
    ends.push_back(all.size());
    const std::vector<float> one = Document(encoder, document);
    EXPECT_EQ(one == std::vector<float>(encoder->dim()), n == 0);
    expected.insert(expected.end(), one.begin(), one.end());
  }
  std::vector<float> out(ends.size() * encoder->dim(), 77.0f);
  encoder->EncodeDocuments(all.view(), ends, out.data());
  EXPECT_EQ(out, expected);
}

}  // namespace vicinal
