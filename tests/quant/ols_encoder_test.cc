// What is proved of the OLS encoder, and what was measured.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "quant/multi_encoder.h"
#include "src/base/cancel.h"
#include "src/base/random.h"
#include "tests/quant/multi_encoder_testing.h"

namespace vicinal {
namespace {

// A set whose documents are about a few of its topics, as queries are.
struct Collection {
  std::vector<Tokens> documents;
  std::vector<Tokens> queries;
  Tokens all;  // of documents, one after the other
  std::vector<size_t> ends;
};

Collection MakeCollection(size_t dim, Random* random) {
  constexpr size_t kTopics = 60;
  constexpr size_t kDocuments = 1'500;
  constexpr size_t kQueries = 40;
  const Tokens common = Units(1, dim, random);
  // Not centred on zero, as no encoder's tokens are.
  const Tokens topics = UnitsAround(common.row(0), kTopics, dim, 1.5, random);
  Collection out;
  out.all.dim = dim;
  for (size_t i = 0; i < kDocuments; ++i) {
    Tokens document{dim, {}};
    const size_t about[] = {random->Uniform(kTopics), random->Uniform(kTopics),
                            random->Uniform(kTopics), random->Uniform(kTopics)};
    const size_t n = 8 + random->Uniform(12);
    for (size_t j = 0; j < n; ++j) {
      const float* topic = topics.row(about[random->Uniform(4)]);
      document.Append(UnitsAround(topic, 1, dim, 0.8, random).rows.data());
    }
    out.all.rows.insert(out.all.rows.end(), document.rows.begin(),
                        document.rows.end());
    out.ends.push_back(out.all.size());
    out.documents.push_back(std::move(document));
  }
  for (size_t i = 0; i < kQueries; ++i) {
    out.queries.push_back(
        QueryFor(out.documents[random->Uniform(kDocuments)], 8, random));
  }
  return out;
}

double VarianceOf(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  double sum = 0, sum2 = 0;
  for (const double value : values) {
    sum += value;
    sum2 += value * value;
  }
  return sum2 / n - sum * sum / (n * n);
}

// The k largest, largest first.
std::vector<size_t> TopOf(const std::vector<double>& scores, size_t k) {
  std::vector<size_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::partial_sort(order.begin(),
                    order.begin() + static_cast<std::ptrdiff_t>(k), order.end(),
                    [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(k);
  return order;
}

using Tops = std::vector<std::vector<size_t>>;

Tops ExactTops(const Collection& collection, size_t k) {
  Tops out;
  for (const Tokens& query : collection.queries) {
    std::vector<double> scores;
    for (const Tokens& document : collection.documents) {
      scores.push_back(Chamfer(query, document));
    }
    out.push_back(TopOf(scores, k));
  }
  return out;
}

// Of the exact top, the share among so many candidates by encodings.
double RecallOf(const Encoder& encoder, const Collection& collection,
                const Tops& exact, size_t candidates) {
  const size_t dim = encoder->dim();
  std::vector<float> encodings(collection.ends.size() * dim);
  encoder->EncodeDocuments(collection.all.view(), collection.ends,
                           encodings.data());
  double found = 0, wanted = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const std::vector<float> query = Query(encoder, collection.queries[i]);
    std::vector<double> scores;
    for (size_t j = 0; j < collection.ends.size(); ++j) {
      scores.push_back(Dot(query.data(), &encodings[j * dim], dim));
    }
    const std::vector<size_t> top = TopOf(scores, candidates);
    for (const size_t document : exact[i]) {
      found += std::find(top.begin(), top.end(), document) != top.end();
      ++wanted;
    }
  }
  return found / wanted;
}

TEST(OlsTest, FindsTheExactTopAndMoreOfItThanMuvera) {
  Random random = Seeded(20);
  constexpr size_t kDim = 32;
  const Collection collection = MakeCollection(kDim, &random);
  const Tops exact = ExactTops(collection, 10);
  const Encoder ols =
      Train(OlsOf(512, 2048), collection.all, collection.ends, 2);
  const Encoder muvera = Train(MuveraOf(8, 3, 4), collection.all);
  ASSERT_EQ(ols->dim(), muvera->dim());
  for (const size_t candidates : {20, 50, 100}) {
    const double of_ols = RecallOf(ols, collection, exact, candidates);
    const double of_muvera = RecallOf(muvera, collection, exact, candidates);
    std::printf("candidates %zu: OLS %.3f, MUVERA %.3f\n", candidates, of_ols,
                of_muvera);
    EXPECT_GT(of_ols, of_muvera + 0.1);
    if (candidates == 100) {
      EXPECT_GT(of_ols, 0.9);
      // Fifteen times what chance finds: MUVERA is worth something, too.
      EXPECT_GT(of_muvera, 0.35);
    }
  }
}

// What documents get from a token that was not fitted differs nearly as maxima
// do; the more features, the more nearly.
TEST(OlsTest, FitsMaximaOfOtherTokens) {
  Random random = Seeded(21);
  const Collection collection = MakeCollection(32, &random);
  constexpr size_t kDocuments = 60;
  double before = 0.1;
  for (const uint32_t features : {128, 256, 512}) {
    const Encoder encoder =
        Train(OlsOf(features, 4 * features), collection.all, collection.ends);
    std::vector<std::vector<float>> fitted;
    for (size_t i = 0; i < kDocuments; ++i) {
      fitted.push_back(Document(encoder, collection.documents[i]));
    }
    double rest2 = 0, variance = 0;
    for (const Tokens& query : collection.queries) {
      const std::vector<float> encoding = Query(encoder, query.One(0));
      std::vector<double> exact, rest;
      for (size_t i = 0; i < kDocuments; ++i) {
        exact.push_back(MaxDot(query.row(0), collection.documents[i]));
        rest.push_back(Dot(encoding, fitted[i]) - exact.back());
      }
      rest2 += VarianceOf(rest);
      variance += VarianceOf(exact);
    }
    const double explained = 1 - rest2 / variance;
    std::printf("%u features explain %.3f of the variance\n", features,
                explained);
    EXPECT_GT(explained, before);
    before = explained + 0.05;
  }
  EXPECT_GT(before, 0.6);
}

// What OLS's bytes say (see ols_encoder.cc): features by its formula.
struct OlsModel {
  uint32_t dim, num_features, num_axes;
  std::vector<float> mean;
  std::vector<float> directions;

  explicit OlsModel(const std::string& bytes) {
    uint32_t fields[4];
    std::memcpy(fields, bytes.data() + 16, sizeof(fields));
    dim = fields[0];
    num_features = fields[1];
    num_axes = fields[2];
    mean.resize(dim);
    std::memcpy(mean.data(), bytes.data() + 32, dim * 4);
    directions.resize(num_features * dim);
    std::memcpy(directions.data(), bytes.data() + 32 + dim * 4,
                num_features * dim * 4);
    EXPECT_EQ(
        bytes.size(),
        32 + 4 * (dim + num_features * dim + num_axes * num_features) + 4);
  }

  std::vector<double> FeaturesOf(const float* token) const {
    const double norm = std::sqrt(Dot(token, token, dim));
    std::vector<double> unit(dim);
    double rest2 = 0;
    for (size_t t = 0; t < dim; ++t) {
      unit[t] = token[t] / norm - mean[t];
      rest2 += unit[t] * unit[t];
    }
    std::vector<double> out;
    for (size_t j = 0; j < num_features; ++j) {
      double z = 0;
      for (size_t t = 0; t < dim; ++t) {
        z += directions[j * dim + t] * unit[t] / std::sqrt(rest2);
      }
      out.push_back(norm * z / 2 * (1 + 0.8 * z / std::hypot(1, 0.8 * z)));
    }
    return out;
  }
};

// x with matrix x = b, by elimination; the matrix is positive definite.
std::vector<double> Solve(std::vector<std::vector<double>> matrix,
                          std::vector<double> b) {
  const size_t n = b.size();
  for (size_t k = 0; k < n; ++k) {
    for (size_t i = k + 1; i < n; ++i) {
      const double share = matrix[i][k] / matrix[k][k];
      for (size_t j = k; j < n; ++j) matrix[i][j] -= share * matrix[k][j];
      b[i] -= share * b[k];
    }
  }
  for (size_t k = n; k-- > 0;) {
    for (size_t j = k + 1; j < n; ++j) b[k] -= matrix[k][j] * b[j];
    b[k] /= matrix[k][k];
  }
  return b;
}

// Where there are fewer documents than axes, products of encodings differ by
// document as answers of the regressions do:
// <w, f>, w = (Z^T Z / S + ridge I)^-1 Z^T y / S.
TEST(OlsTest, ProductsAreAnswersOfTheRegression) {
  Random random = Seeded(22);
  constexpr size_t kDim = 24;
  constexpr size_t kFeatures = 96;
  const Tokens units = Units(320, kDim, &random);
  Tokens sample = units;
  for (size_t i = 0; i < sample.rows.size(); ++i) {
    // Lengths of sample tokens play no part but in maxima.
    sample.rows[i] *= static_cast<float>(1 + i / kDim % 4);
  }
  const std::vector<size_t> ends = EndsOf(sample);
  ASSERT_LT(ends.size(), kFeatures / 2);
  const Tokens others = Units(50, kDim, &random);
  for (const float ridge : {1e-3f, 0.1f}) {
    MultiEncoderParams params = OlsOf(kFeatures, 320);
    params.ols.ridge = ridge;
    const Encoder encoder = Train(params, sample, ends);
    const OlsModel model(encoder->Serialize());
    ASSERT_EQ(model.num_axes, kFeatures / 2);
    std::vector<std::vector<double>> gram(kFeatures,
                                          std::vector<double>(kFeatures));
    std::vector<std::vector<double>> z;
    for (size_t i = 0; i < units.size(); ++i) {
      z.push_back(model.FeaturesOf(units.row(i)));
      for (size_t j = 0; j < kFeatures; ++j) {
        for (size_t k = 0; k < kFeatures; ++k) {
          gram[j][k] += z[i][j] * z[i][k] / 320;
        }
      }
    }
    for (size_t j = 0; j < kFeatures; ++j) gram[j][j] += ridge;
    // Of each of two documents, which are not of one block.
    std::vector<double> expected[2], got[2];
    for (const size_t d : {0, 1}) {
      const float* first = sample.row(d * 32 * 8);
      const Tokens document{kDim, {first, first + 8 * kDim}};
      std::vector<double> right_side(kFeatures);
      for (size_t i = 0; i < units.size(); ++i) {
        const double maximum = MaxDot(units.row(i), document);
        for (size_t j = 0; j < kFeatures; ++j) {
          right_side[j] += z[i][j] * maximum / 320;
        }
      }
      const std::vector<double> w = Solve(gram, right_side);
      const std::vector<float> encoding = Document(encoder, document);
      for (size_t i = 0; i < others.size(); ++i) {
        const std::vector<double> f = model.FeaturesOf(others.row(i));
        double answer = 0;
        for (size_t j = 0; j < kFeatures; ++j) answer += f[j] * w[j];
        expected[d].push_back(answer);
        got[d].push_back(Dot(Query(encoder, others.One(i)), encoding));
      }
    }
    double rest2 = 0, all2 = 0;
    for (size_t i = 0; i < others.size(); ++i) {
      const double difference = expected[0][i] - expected[1][i];
      rest2 += std::pow(got[0][i] - got[1][i] - difference, 2);
      all2 += difference * difference;
    }
    std::printf("off by %.4f\n", std::sqrt(rest2 / all2));
    // Maxima are taken by codes of 8 bits.
    EXPECT_LT(std::sqrt(rest2 / all2), 0.02) << ridge;
  }
}

Encoder SmallOls(size_t dim, Random* random) {
  return Train(OlsOf(64, 128), Units(128, dim, random));
}

TEST(OlsTest, QueriesAreSumsOfTheirTokens) {
  Random random = Seeded(23);
  constexpr size_t kDim = 20;
  const Encoder encoder = SmallOls(kDim, &random);
  Tokens query = Units(300, kDim, &random);
  std::vector<float> weights(300);
  std::vector<float> sum(encoder->dim()), weighted(encoder->dim());
  for (size_t i = 0; i < query.size(); ++i) {
    weights[i] =
        i % 5 == 0 ? 0 : static_cast<float>(3 * random.UniformDouble());
    const std::vector<float> one = Query(encoder, query.One(i));
    for (size_t t = 0; t < sum.size(); ++t) {
      sum[t] += one[t];
      weighted[t] += weights[i] * one[t];
    }
  }
  ExpectNear(Query(encoder, query), sum, 2e-3);
  ExpectNear(Query(encoder, query, weights), weighted, 2e-3);
  // A token k times as long gets k times as much.
  for (size_t i = 0; i < query.rows.size(); ++i) {
    query.rows[i] *= weights[i / kDim];
  }
  ExpectNear(Query(encoder, query), weighted, 2e-3);
  EXPECT_EQ(Query(encoder, {kDim, {}}), std::vector<float>(encoder->dim()));
}

TEST(OlsTest, AZeroTokenContributesNothing) {
  Random random = Seeded(24);
  constexpr size_t kDim = 20;
  const Encoder encoder = SmallOls(kDim, &random);
  const Tokens zero{kDim, std::vector<float>(kDim)};
  EXPECT_EQ(Query(encoder, zero), std::vector<float>(encoder->dim()));
  Tokens query = Units(5, kDim, &random);
  const std::vector<float> expected = Query(encoder, query);
  query.Append(zero.row(0));
  EXPECT_EQ(Query(encoder, query), expected);
  // Nor does one so short that its length has no inverse.
  for (const float tiny : {1e-38f, 1e-41f, 1e-45f}) {
    Tokens with = query;
    std::fill(with.rows.end() - kDim, with.rows.end(), 0.0f);
    with.rows.back() = tiny;
    ExpectNear(Query(encoder, with), expected, 1e-5);
  }
}

TEST(OlsTest, SamplesMayHoldAnything) {
  Random random = Seeded(25);
  constexpr size_t kDim = 10;
  Tokens sample = Units(100, kDim, &random);
  std::fill_n(sample.rows.begin(), 3 * kDim, 0.0f);        // zero tokens
  std::fill_n(sample.rows.begin() + 3 * kDim, 5, 1e-41f);  // next to zero
  const Tokens same{kDim, std::vector<float>(20 * kDim, 0.5f)};
  const Tokens one = Units(1, kDim, &random);
  for (const Tokens& tokens : {sample, same, one}) {
    // Fewer than are asked for, and than there are features.
    const Encoder encoder = Train(OlsOf(64, 1000), tokens);
    const Tokens document = Units(4, kDim, &random);
    for (const std::vector<float>& encoding :
         {Document(encoder, document), Query(encoder, document)}) {
      for (const float value : encoding) ASSERT_TRUE(std::isfinite(value));
    }
  }
}

TEST(OlsTest, BatchesChangeNothing) {
  Random random = Seeded(26);
  ExpectBatchesChangeNothing(SmallOls(10, &random), &random);
}

TEST(OlsTest, ThreadsChangeNothing) {
  Random random = Seeded(27);
  const Tokens sample = Units(1'500, 24, &random);
  const Encoder a = Train(OlsOf(128, 1024), sample, 1);
  const Encoder b = Train(OlsOf(128, 1024), sample, 2);
  EXPECT_EQ(a->Serialize(), b->Serialize());
  const Tokens document = Units(9, 24, &random);
  EXPECT_EQ(Document(a, document), Document(b, document));
  EXPECT_EQ(Query(a, document), Query(b, document));
}

TEST(OlsTest, ComesBackToEncodeQueries) {
  Random random = Seeded(28);
  const Encoder encoder = SmallOls(33, &random);
  EXPECT_TRUE(encoder->CanEncodeDocuments());
  const std::string bytes = encoder->Serialize();
  auto back = MultiEncoder::Parse(bytes);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ((*back)->Serialize(), bytes);
  EXPECT_EQ((*back)->Describe(), "OLS of 64 features");
  EXPECT_EQ((*back)->token_dim(), 33);
  EXPECT_EQ((*back)->dim(), 32);
  EXPECT_FALSE((*back)->CanEncodeDocuments());
  const Tokens tokens = Units(20, 33, &random);
  EXPECT_EQ(Query(*back, tokens), Query(encoder, tokens));
}

TEST(OlsTest, ACancelledTrainingStops) {
  Random random = Seeded(29);
  CancelToken cancel;
  cancel.Cancel();
  const Tokens sample = Units(128, 8, &random);
  EXPECT_TRUE(absl::IsCancelled(
      TrainMultiEncoder(OlsOf(64, 128), {sample.view(), EndsOf(sample)}, 1,
                        &cancel)
          .status()));
}

}  // namespace
}  // namespace vicinal
