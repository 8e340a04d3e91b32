#include "quant/codec.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "src/base/half.h"
#include "src/base/random.h"
#include "src/distance/code_kernels.h"
#include "src/distance/distance.h"
#include "tests/quant/study_data.h"

namespace vicinal {
namespace {

using CodecPtr = std::unique_ptr<const Codec>;

CodecPtr TrainOrDie(VectorSetView rows, Metric metric,
                    const CodecParams& params) {
  auto codec = TrainCodec(rows, metric, params, 2, nullptr);
  EXPECT_TRUE(codec.ok()) << codec.status();
  return codec.ok() ? *std::move(codec) : nullptr;
}

std::vector<uint8_t> EncodeAll(const Codec& codec, VectorSetView rows,
                               size_t num_threads = 2) {
  std::vector<uint8_t> out(rows.num_rows * codec.layout().record_bytes);
  EXPECT_TRUE(codec.Encode(rows, out, num_threads, nullptr).ok());
  return out;
}

// Errors of the estimates of all rows for one query.
struct Errors {
  double mean_abs = 0;  // over the spread of the exact distances
  double mean = 0;      // the same with signs
  double covered = 0;   // share within ErrorBound(3)
  bool finite = true;
};
Errors ErrorsOf(const Codec& codec, VectorSetView rows,
                const std::vector<uint8_t>& records, const void* query) {
  const size_t n = rows.num_rows;
  PreparedQuery prepared;
  EXPECT_TRUE(codec.Prepare(query, rows.type, &prepared).ok());
  std::vector<float> estimate(n), exact(n);
  ActiveCodeKernels().scan(codec.layout(), prepared.code_query(),
                           records.data(), codec.layout().record_bytes, n,
                           estimate.data());
  OpsFor(codec.metric(), rows.type)
      .scan(query, rows.data, rows.stride_bytes, n, rows.dim, exact.data());
  double sum = 0, sum2 = 0;
  for (const float d : exact) {
    sum += d;
    sum2 += static_cast<double>(d) * d;
  }
  const double spread =
      std::sqrt(std::max(1e-30, sum2 / n - (sum / n) * (sum / n)));
  Errors out;
  for (size_t i = 0; i < n; ++i) {
    const double error = estimate[i] - exact[i];
    out.finite = out.finite && std::isfinite(estimate[i]);
    out.mean_abs += std::abs(error) / spread / n;
    out.mean += error / spread / n;
    const float bound = codec.ErrorBound(
        prepared, &records[i * codec.layout().record_bytes], 3);
    out.covered += (std::abs(error) <= bound + 1e-4 * std::abs(exact[i])) /
                   static_cast<double>(n);
  }
  return out;
}

// Rows of a type, from floats of about [-4, 4].
std::vector<std::byte> As(ElementType type, const std::vector<float>& values) {
  std::vector<std::byte> out(values.size() * ElementSize(type));
  for (size_t i = 0; i < values.size(); ++i) {
    std::byte* at = &out[i * ElementSize(type)];
    const float scaled = std::round(values[i] * 30);
    switch (type) {
      case ElementType::kFloat32:
        std::memcpy(at, &values[i], 4);
        break;
      case ElementType::kFloat16: {
        const uint16_t half = FloatToHalf(values[i]);
        std::memcpy(at, &half, 2);
        break;
      }
      case ElementType::kInt8:
        *at = static_cast<std::byte>(
            static_cast<int8_t>(std::clamp(scaled, -127.0f, 127.0f)));
        break;
      case ElementType::kUint8:
        *at = static_cast<std::byte>(
            static_cast<uint8_t>(std::clamp(scaled + 128, 0.0f, 255.0f)));
        break;
      case ElementType::kBfloat16:
        break;  // of no codec
    }
  }
  return out;
}

TEST(CodecTest, EstimatesEveryMetricAndElementType) {
  const size_t dim = 96;
  const auto values = StudyRows(1'600, dim, 0.8, 5);
  for (const Metric metric :
       {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    for (const ElementType type : {ElementType::kFloat32, ElementType::kFloat16,
                                   ElementType::kInt8, ElementType::kUint8}) {
      const auto bytes = As(type, values);
      const VectorSetView rows{bytes.data(), 1'600, dim,
                               dim * ElementSize(type), type};
      for (const CodecParams& params :
           {CodecParams{.avg_bits = 4},
            CodecParams{.kind = CodecKind::kRbq, .avg_bits = 4},
            CodecParams{.kind = CodecKind::kSq8}}) {
        const CodecPtr codec = TrainOrDie(rows, metric, params);
        const auto records = EncodeAll(*codec, rows);
        Errors sum;
        for (size_t q = 0; q < 20; ++q) {
          const Errors e = ErrorsOf(*codec, rows, records, rows.row(q * 71));
          sum.mean_abs += e.mean_abs / 20;
          sum.mean += e.mean / 20;
          sum.covered += e.covered / 20;
        }
        const std::string what = std::to_string(static_cast<int>(metric)) +
                                 " " + std::to_string(static_cast<int>(type)) +
                                 " " +
                                 std::to_string(static_cast<int>(params.kind));
        EXPECT_LT(sum.mean_abs, 0.05) << what;
        EXPECT_LT(std::abs(sum.mean), 0.015) << what;
        EXPECT_GT(sum.covered, 0.985) << what;
      }
    }
  }
}

// A query of another length and direction than the rows.
TEST(CodecTest, EstimatesInnerProductsOfQueriesOfAnyLength) {
  const size_t dim = 128;
  auto values = StudyRows(1'500, dim, 0.8, 6);
  for (size_t i = 0; i < values.size(); ++i) values[i] += 3;  // a large mean
  const VectorSetView rows = ViewOf(values, dim);
  const CodecPtr codec =
      TrainOrDie(rows, Metric::kInnerProduct, {.avg_bits = 4});
  const auto records = EncodeAll(*codec, rows);
  for (const float length : {1e-4f, 1.0f, 1e4f, -1.0f}) {
    std::vector<float> query(values.begin(), values.begin() + dim);
    for (float& value : query) value *= length;
    EXPECT_LT(ErrorsOf(*codec, rows, records, query.data()).mean_abs, 0.1)
        << length;
  }
}

TEST(CodecTest, DecodesNearTheRow) {
  const size_t dim = 80;
  const auto values = StudyRows(1'200, dim, 0.6, 7);
  const VectorSetView rows = ViewOf(values, dim);
  const CodecPtr codec = TrainOrDie(rows, Metric::kL2, {.avg_bits = 8});
  const auto records = EncodeAll(*codec, rows);
  std::vector<float> decoded(dim);
  for (size_t i = 0; i < 50; ++i) {
    codec->Decode(&records[i * codec->layout().record_bytes], decoded);
    double error = 0, norm = 0;
    for (size_t j = 0; j < dim; ++j) {
      error += std::pow(decoded[j] - values[i * dim + j], 2);
      norm += std::pow(values[i * dim + j], 2);
    }
    EXPECT_LT(error, 1e-3 * norm);
  }
}

TEST(CodecTest, TwoRecordsTellTheDistanceOfTheirRows) {
  const size_t n = 2'000, dim = 160;
  const std::vector<float> values = StudyRows(n, dim, 0.9, 21);
  const VectorSetView rows = ViewOf(values, dim);
  for (const Metric metric :
       {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    for (const CodecParams& params :
         {CodecParams{.avg_bits = 4},
          CodecParams{.kind = CodecKind::kRbq, .avg_bits = 4},
          CodecParams{.kind = CodecKind::kSq8, .avg_bits = 8}}) {
      const CodecPtr codec = TrainOrDie(rows, metric, params);
      const std::vector<uint8_t> records = EncodeAll(*codec, rows);
      const size_t bytes = codec->layout().record_bytes;
      const DistanceOps& ops = OpsFor(metric, ElementType::kFloat32);
      double error2 = 0, bias = 0, sum = 0, sum2 = 0;
      for (size_t i = 0; i < n; ++i) {
        const size_t j = (i * 7 + 1) % n;
        const double exact = ops.one(rows.row(i), rows.row(j), dim);
        const double estimate =
            codec->Between(&records[i * bytes], &records[j * bytes]);
        EXPECT_EQ(estimate,
                  codec->Between(&records[j * bytes], &records[i * bytes]));
        error2 += (estimate - exact) * (estimate - exact) / n;
        bias += (estimate - exact) / n;
        sum += exact / n;
        sum2 += exact * exact / n;
      }
      const double spread = std::sqrt(sum2 - sum * sum);
      const double limit = params.kind == CodecKind::kSq8 ? 0.01 : 0.15;
      EXPECT_LT(std::sqrt(error2), limit * spread)
          << static_cast<int>(metric) << ' ' << static_cast<int>(params.kind);
      EXPECT_LT(std::abs(bias), limit / 10 * spread);
    }
  }
}

TEST(CodecTest, AScanWithALimitLeavesFarRowsAndFindsTheNear) {
  // Groups of rows, which lie together as a segment's do.
  const size_t n = 16'000, dim = 256, per_group = 160;
  std::vector<float> values = StudyRows(n, dim, 0.8, 22);
  const std::vector<float> centres = StudyRows(n / per_group, dim, 0.8, 23);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < dim; ++j) {
      values[i * dim + j] += 2 * centres[i / per_group * dim + j];
    }
  }
  const VectorSetView rows = ViewOf(values, dim);
  const CodecPtr codec = TrainOrDie(rows, Metric::kL2, {.avg_bits = 2});
  ASSERT_GT(codec->plan().size(), 1u);
  const CodeLayout& layout = codec->layout();
  const std::vector<uint8_t> records = EncodeAll(*codec, rows);
  std::vector<uint8_t> blocks(n / kCodeBlockRows * CodeBlockBytes(layout));
  for (size_t b = 0; b < n / kCodeBlockRows; ++b) {
    PackCodeBlock(layout, &records[b * kCodeBlockRows * layout.record_bytes],
                  kCodeBlockRows, &blocks[b * CodeBlockBytes(layout)]);
  }
  size_t left = 0, near = 0, lost = 0;
  for (size_t q = 0; q < 50; ++q) {
    PreparedQuery query;
    ASSERT_TRUE(codec->Prepare(rows.row(q * 300), rows.type, &query).ok());
    std::vector<float> all(n), some(n);
    const auto scan = [&](float limit, std::vector<float>* out) {
      ActiveCodeKernels().scan_blocks(layout, query.code_query(), blocks.data(),
                                      n / kCodeBlockRows, limit, out->data());
    };
    scan(std::numeric_limits<float>::infinity(), &all);
    std::vector<float> sorted = all;
    std::nth_element(sorted.begin(), sorted.begin() + 100, sorted.end());
    scan(sorted[100], &some);
    for (size_t i = 0; i < n; ++i) {
      if (std::isinf(some[i])) {
        ++left;
        lost += all[i] <= sorted[100];
      } else {
        ASSERT_EQ(some[i], all[i]);
      }
      near += all[i] <= sorted[100];
    }
  }
  EXPECT_GT(left, 50 * n / 4) << "few blocks were left early";
  EXPECT_LE(lost, near / 1'000);
}

// One PreparedQuery for codecs with segments of one bit, without, and with more
// of them: what it had from the codec before is not used.
TEST(CodecTest, BlocksHaveTheEstimatesOfTheirRecords) {
  const size_t n = 1'040;
  PreparedQuery query;
  for (const size_t dim : {48, 256, 1000}) {
    const std::vector<float> values = StudyRows(n, dim, 0.8, 24);
    const VectorSetView rows = ViewOf(values, dim);
    for (const CodecParams& params :
         {CodecParams{.kind = CodecKind::kRbq, .avg_bits = 1},
          CodecParams{.kind = CodecKind::kRbq, .avg_bits = 2},
          CodecParams{.avg_bits = 1}}) {
      const CodecPtr codec = TrainOrDie(rows, Metric::kInnerProduct, params);
      const CodeLayout& layout = codec->layout();
      const std::vector<uint8_t> records = EncodeAll(*codec, rows);
      std::vector<uint8_t> blocks(n / kCodeBlockRows * CodeBlockBytes(layout));
      for (size_t b = 0; b < n / kCodeBlockRows; ++b) {
        PackCodeBlock(layout,
                      &records[b * kCodeBlockRows * layout.record_bytes],
                      kCodeBlockRows, &blocks[b * CodeBlockBytes(layout)]);
      }
      ASSERT_TRUE(codec->Prepare(rows.row(7), rows.type, &query).ok());
      std::vector<float> one_by_one(n), in_blocks(n);
      ActiveCodeKernels().scan(layout, query.code_query(), records.data(),
                               layout.record_bytes, n, one_by_one.data());
      ActiveCodeKernels().scan_blocks(
          layout, query.code_query(), blocks.data(), n / kCodeBlockRows,
          std::numeric_limits<float>::infinity(), in_blocks.data());
      EXPECT_EQ(in_blocks, one_by_one) << dim << " " << params.avg_bits;
      EXPECT_EQ(query.code_query().fours != nullptr,
                CodeFoursBytes(layout) > 0 &&
                    ActiveCodeKernels().sum_fours != nullptr);
    }
  }
}

TEST(CodecTest, QueriesOfSegmentsOfOneBitStayWithinTheirLimit) {
  const size_t dim = 512;
  const std::vector<float> values = StudyRows(1'100, dim, 0.8, 25);
  const VectorSetView rows = ViewOf(values, dim);
  const CodecPtr codec =
      TrainOrDie(rows, Metric::kL2, {.kind = CodecKind::kRbq, .avg_bits = 1});
  for (size_t q = 0; q < 20; ++q) {
    PreparedQuery query;
    ASSERT_TRUE(codec->Prepare(rows.row(q), rows.type, &query).ok());
    const auto [least, most] = std::minmax_element(
        query.code_query().values, query.code_query().values + dim);
    EXPECT_EQ(std::max<int>(-*least, *most), kOneBitLimit);
  }
}

TEST(CodecTest, IsTheSameForAnyNumberOfThreads) {
  const size_t dim = 100;
  const auto values = StudyRows(3'000, dim, 0.8, 8);
  const VectorSetView rows = ViewOf(values, dim);
  std::string model;
  std::vector<uint8_t> records;
  for (const size_t threads : {1, 2, 3}) {
    const auto codec =
        TrainCodec(rows, Metric::kL2, {.avg_bits = 3}, threads, nullptr);
    ASSERT_TRUE(codec.ok());
    const std::string now = (*codec)->Serialize();
    const auto encoded = EncodeAll(**codec, rows, threads);
    if (threads > 1) {
      EXPECT_EQ(now, model);
      EXPECT_EQ(encoded, records);
    }
    model = now;
    records = encoded;
  }
}

// Mean error over queries of a codec trained with a sample of such queries, and
// without.
struct TwoErrors {
  double with = 0;
  double without = 0;
  bool has_query_basis = false;
};
TwoErrors ErrorsWithQueries(Metric metric, const std::vector<float>& sample,
                            float bits) {
  constexpr size_t kDim = 64;
  constexpr size_t kHeldOut = 40;
  const auto rows = StudyRows(4'000, kDim, 1.5, 1);
  const VectorSetView view = ViewOf(rows, kDim);
  VectorSetView known = ViewOf(sample, kDim);
  known.num_rows -= kHeldOut;
  const CodecParams params{.avg_bits = bits};
  const CodecPtr plain = TrainOrDie(view, metric, params);
  auto trained = TrainCodec(view, metric, params, 2, nullptr, nullptr, known);
  EXPECT_TRUE(trained.ok()) << trained.status();
  const CodecPtr codec = *std::move(trained);
  const auto records = EncodeAll(*codec, view);
  const auto plain_records = EncodeAll(*plain, view);
  TwoErrors out;
  out.has_query_basis = codec->has_query_basis();
  double covered = 0;
  for (size_t q = 0; q < kHeldOut; ++q) {
    const float* query = &sample[(known.num_rows + q) * kDim];
    const Errors errors = ErrorsOf(*codec, view, records, query);
    out.with += errors.mean_abs / kHeldOut;
    covered += errors.covered / kHeldOut;
    out.without +=
        ErrorsOf(*plain, view, plain_records, query).mean_abs / kHeldOut;
    EXPECT_LT(std::abs(errors.mean), errors.mean_abs);
  }
  EXPECT_GT(covered, 0.97);
  return out;
}

TEST(CodecTest, SpheringHelpsQueriesOfAnotherDistribution) {
  const auto sample = TurnedStudyRows(2'040, 64, 1.5, 7);
  for (const Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
    const TwoErrors errors = ErrorsWithQueries(metric, sample, 2);
    EXPECT_TRUE(errors.has_query_basis);
    EXPECT_LT(errors.with, 0.85 * errors.without);
  }
}

// A centre is on the query's side of the product.
TEST(CodecTest, SpheringHelpsAroundCentresToo) {
  constexpr size_t kDim = 64;
  constexpr size_t kRows = 4'000;
  const auto sample = TurnedStudyRows(2'040, kDim, 1.5, 7);
  auto rows = StudyRows(kRows, kDim, 1.5, 1);
  auto centre_rows = StudyRows(2, kDim, 1.5, 2);
  for (float& value : centre_rows) value *= 3;
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i] += centre_rows[(i / kDim < 1'500 ? 0 : kDim) + i % kDim];
  }
  const uint32_t offsets[] = {0, 1'500, kRows};
  const RowCentres centres{{centre_rows.data(), 2, kDim, kDim}, offsets};
  const VectorSetView view = ViewOf(rows, kDim);
  for (const Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
    const DistanceOps& ops = OpsFor(metric, ElementType::kFloat32);
    double error[2] = {};
    for (const bool sphering : {false, true}) {
      const auto codec =
          TrainCodec(view, metric, {.avg_bits = 2}, 2, nullptr, &centres,
                     sphering ? ViewOf(sample, kDim) : VectorSetView{});
      ASSERT_TRUE(codec.ok()) << codec.status();
      EXPECT_EQ((*codec)->has_query_basis(), sphering);
      const CodeLayout& layout = (*codec)->layout();
      std::vector<uint8_t> records(kRows * layout.record_bytes);
      ASSERT_TRUE((*codec)->Encode(view, records, 1, nullptr, &centres).ok());
      for (size_t q = 2'000; q < 2'040; ++q) {
        const float* query = &sample[q * kDim];
        PreparedQuery prepared;
        ASSERT_TRUE(
            (*codec)->Prepare(query, ElementType::kFloat32, &prepared).ok());
        for (size_t c = 0; c < 2; ++c) {
          const float* centre = centres.centres.row(c).data();
          const CodeQuery around =
              (*codec)->QueryAround(prepared, ops.one(query, centre, kDim),
                                    (*codec)->CentreNorm2(centre));
          const size_t count = offsets[c + 1] - offsets[c];
          std::vector<float> estimates(count);
          ActiveCodeKernels().scan(
              layout, around, &records[offsets[c] * layout.record_bytes],
              layout.record_bytes, count, estimates.data());
          for (size_t i = 0; i < count; ++i) {
            error[sphering] += std::abs(
                estimates[i] - ops.one(query, view.row(offsets[c] + i), kDim));
          }
        }
      }
    }
    EXPECT_LT(error[1], 0.9 * error[0]) << static_cast<int>(metric);
  }
}

TEST(CodecTest, QueriesLikeTheRowsKeepTheirBasis) {
  const TwoErrors errors =
      ErrorsWithQueries(Metric::kL2, StudyRows(2'040, 64, 1.5, 1), 2);
  EXPECT_FALSE(errors.has_query_basis);
}

TEST(CodecTest, AFewQueriesChangeNothingAndNonsenseIsRefused) {
  const auto rows = StudyRows(2'000, 64, 1.5, 1);
  const auto few = TurnedStudyRows(900, 64, 1.5, 7);
  const CodecPtr plain = TrainOrDie(ViewOf(rows, 64), Metric::kL2, {});
  const auto same = TrainCodec(ViewOf(rows, 64), Metric::kL2, {}, 2, nullptr,
                               nullptr, ViewOf(few, 64));
  ASSERT_TRUE(same.ok());
  EXPECT_EQ((*same)->Serialize(), plain->Serialize());
  auto sample = TurnedStudyRows(2'000, 64, 1.5, 7);
  const auto sphering = TrainCodec(ViewOf(rows, 64), Metric::kL2, {}, 2,
                                   nullptr, nullptr, ViewOf(sample, 64));
  ASSERT_TRUE(sphering.ok() && (*sphering)->has_query_basis());
  // The model comes back, and its rows decode.
  const auto back = Codec::Parse((*sphering)->Serialize());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ((*back)->Serialize(), (*sphering)->Serialize());
  const auto records = EncodeAll(**back, ViewOf(rows, 64));
  std::vector<float> decoded(64);
  (*back)->Decode(records.data(), decoded);
  double error2 = 0, norm2 = 0;
  for (size_t i = 0; i < 64; ++i) {
    error2 += (decoded[i] - rows[i]) * (decoded[i] - rows[i]);
    norm2 += rows[i] * rows[i];
  }
  EXPECT_LT(error2, 0.2 * norm2);
  sample[100] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(
      absl::IsInvalidArgument(TrainCodec(ViewOf(rows, 64), Metric::kL2, {}, 2,
                                         nullptr, nullptr, ViewOf(sample, 64))
                                  .status()));
  // All queries alike: nothing to learn from, and no failure.
  const std::vector<float> alike(2'000 * 64, 1.0f);
  EXPECT_TRUE(TrainCodec(ViewOf(rows, 64), Metric::kL2, {}, 2, nullptr, nullptr,
                         ViewOf(alike, 64))
                  .ok());
}

TEST(CodecTest, UniformRecordsHaveTheSizeThatWasSaid) {
  for (const size_t dim : {1, 24, 100, 256, 300, 784}) {
    const auto values = StudyRows(64, dim, 1.0, 9);
    for (const uint32_t bits : {1u, 2u, 4u, 8u}) {
      const CodecPtr codec = TrainOrDie(
          ViewOf(values, dim), Metric::kL2,
          {.kind = CodecKind::kRbq, .avg_bits = static_cast<float>(bits)});
      EXPECT_EQ(codec->layout().record_bytes, UniformRecordBytes(dim, bits))
          << dim << " " << bits;
    }
  }
}

TEST(CodecTest, RecordsKeepTheirBudget) {
  for (const size_t dim : {100, 256, 384, 784}) {
    const auto values = StudyRows(1'500, dim, 1.0, 9);
    for (const float bits : {0.5f, 1.0f, 2.0f, 4.0f, 8.0f}) {
      const CodecPtr codec =
          TrainOrDie(ViewOf(values, dim), Metric::kL2, {.avg_bits = bits});
      EXPECT_LE(codec->layout().record_bytes, CodeRecordBytes(dim, bits))
          << dim << " " << bits;
      EXPECT_EQ(codec->kind(), CodecKind::kSaq);
    }
  }
}

TEST(CodecTest, CodesNoMoreDimensionsThanAsked) {
  const auto values = StudyRows(1'500, 256, 1.0, 10);
  const CodecPtr codec = TrainOrDie(ViewOf(values, 256), Metric::kL2,
                                    {.avg_bits = 4, .max_coded_dims = 64});
  EXPECT_LE(codec->num_coded_dims(), 64u);
}

// Each of these once made some codec divide by zero, here or in a peer.
TEST(CodecTest, SurvivesDegenerateRows) {
  Random random(13);
  const auto normal = [&](size_t n, size_t d, float scale) {
    std::vector<float> out(n * d);
    for (float& v : out) v = scale * static_cast<float>(random.Gaussian());
    return out;
  };
  struct Case {
    const char* name;
    std::vector<float> values;
    size_t dim;
  };
  std::vector<Case> cases;
  cases.push_back({"one row", normal(1, 40, 1), 40});
  cases.push_back({"fewer rows than dimensions", normal(20, 64, 1), 64});
  cases.push_back({"identical", std::vector<float>(1'200 * 32, 3.5f), 32});
  cases.push_back({"zero", std::vector<float>(1'200 * 32), 32});
  for (const size_t dim : {1, 2, 3, 15, 16, 17, 255, 257}) {
    cases.push_back({"odd dimension", normal(1'100, dim, 1), dim});
  }
  cases.push_back({"huge", normal(1'200, 32, 1e15f), 32});
  cases.push_back({"tiny", normal(1'200, 32, 1e-15f), 32});
  auto constant = normal(1'200, 48, 1);
  for (size_t i = 0; i < constant.size(); ++i) {
    if (i % 48 >= 8) constant[i] = 2;
  }
  cases.push_back({"constant dimensions", constant, 48});
  std::vector<float> one_hot(1'200 * 64);
  for (size_t i = 0; i < 1'200; ++i) one_hot[i * 64 + i % 64] = 1;
  cases.push_back({"one-hot", one_hot, 64});
  auto duplicates = normal(1'200, 24, 1);
  for (size_t i = 24; i < duplicates.size(); ++i) {
    duplicates[i] = duplicates[i % (24 * 3)];
  }
  cases.push_back({"duplicates", duplicates, 24});
  for (const Case& c : cases) {
    const VectorSetView rows = ViewOf(c.values, c.dim);
    for (const Metric metric :
         {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
      for (const float bits : {1.0f, 4.0f, 8.0f}) {
        const CodecPtr codec = TrainOrDie(rows, metric, {.avg_bits = bits});
        ASSERT_NE(codec, nullptr) << c.name;
        const auto records = EncodeAll(*codec, rows);
        EXPECT_TRUE(ErrorsOf(*codec, rows, records, rows.row(0)).finite)
            << c.name << " metric " << static_cast<int>(metric) << " bits "
            << bits;
      }
    }
  }
}

TEST(CodecTest, RefusesWhatItCannotLearnFrom) {
  auto values = StudyRows(1'200, 32, 1, 14);
  const VectorSetView rows = ViewOf(values, 32);
  const auto status = [&](VectorSetView view, const CodecParams& params) {
    return TrainCodec(view, Metric::kL2, params, 1, nullptr).status();
  };
  EXPECT_TRUE(absl::IsInvalidArgument(
      status({rows.data, 0, 32, 128}, {.avg_bits = 4})));
  for (const float bits :
       {0.0f, 0.4f, 8.1f, -1.0f, std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_TRUE(absl::IsInvalidArgument(status(rows, {.avg_bits = bits})));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(
      status(rows, {.kind = CodecKind::kRbq, .avg_bits = 3})));
  EXPECT_TRUE(absl::IsInvalidArgument(status(rows, {.adjust_rounds = 9})));
  EXPECT_TRUE(absl::IsInvalidArgument(status(rows, {.max_segments = 0})));
  EXPECT_TRUE(absl::IsInvalidArgument(
      status({rows.data, 2, kMaxCodecDim + 1, 4 * (kMaxCodecDim + 1)}, {})));
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(
      TrainCodec(rows, Metric::kL2, {}, 1, &cancel).status()));
  const CodecPtr codec = TrainOrDie(rows, Metric::kL2, {});
  std::vector<uint8_t> records(rows.num_rows * codec->layout().record_bytes);
  EXPECT_TRUE(absl::IsCancelled(codec->Encode(rows, records, 1, &cancel)));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()}) {
    std::vector<float> query(32, 1.0f);
    query[31] = bad;
    PreparedQuery prepared;
    EXPECT_TRUE(absl::IsInvalidArgument(
        codec->Prepare(query.data(), ElementType::kFloat32, &prepared)));
    values[77] = bad;
    EXPECT_TRUE(absl::IsInvalidArgument(status(ViewOf(values, 32), {})));
  }
}

TEST(CodecTest, FallsBackToWhatNeedsNoTraining) {
  const auto values = StudyRows(500, 64, 1, 15);
  const CodecPtr codec =
      TrainOrDie(ViewOf(values, 64), Metric::kL2, {.avg_bits = 3});
  EXPECT_EQ(codec->kind(), CodecKind::kRbq);
  ASSERT_EQ(codec->plan().size(), 1u);
  EXPECT_EQ(codec->plan()[0], (PlanSegment{64, 4}));
}

}  // namespace
}  // namespace vicinal
