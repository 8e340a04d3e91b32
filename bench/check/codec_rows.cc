#include "bench/check/codec_rows.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "bench/dataset.h"
#include "index/ivf.h"
#include "quant/codec.h"
#include "src/base/status_macros.h"
#include "src/distance/code_kernels.h"
#include "src/distance/distance.h"
#include "tests/quant/study_data.h"

namespace vicinal::bench {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What one codec does on rows whose last ones are the queries.
struct CodecFigures {
  double error_percent = 0;  // mean of |estimate - exact| / exact, squared L2
  double encode_us = 0;      // per row, product with the basis included
  double scan_ns = 0;        // per record, in cache, in blocks of sixteen
  double row_scan_ns = 0;    // the same, record by record
  double exact_ns = 0;       // per f32 row, in cache
  size_t record_bytes = 0;
  bool around_centres = false;
  double mean_error_percent = 0;
  double centres_error_percent = 0;
  nlohmann::json Json() const {
    return {{"error_percent", error_percent},
            {"encode_us", encode_us},
            {"scan_ns", scan_ns},
            {"row_scan_ns", row_scan_ns},
            {"f32_scan_ns", exact_ns},
            {"record_bytes", record_bytes},
            {"around_centres", around_centres},
            {"mean_error_percent", mean_error_percent},
            {"centres_error_percent", centres_error_percent}};
  }
};

constexpr uint32_t kLists = 256;
// Lists nearest to a query whose rows count.
constexpr size_t kNearestLists = 200;

absl::StatusOr<CodecFigures> Measure(const std::vector<float>& values,
                                     size_t dim, size_t num_queries,
                                     const CodecParams& params,
                                     bool around_centres) {
  const size_t n = values.size() / dim - num_queries;
  // Around the centroids of 256 lists, as the official figures are.
  VectorSetView unordered = ViewOf(values, dim);
  unordered.num_rows = n;
  VICINAL_ASSIGN_OR_RETURN(
      const IvfLists lists,
      BuildIvfLists(unordered, Metric::kL2, {.num_lists = kLists}, 2, nullptr));
  std::vector<float> ordered(n * dim);
  for (size_t i = 0; i < n; ++i) {
    std::copy_n(&values[lists.order[i] * dim], dim, &ordered[i * dim]);
  }
  const VectorSetView rows = ViewOf(ordered, dim);
  VICINAL_ASSIGN_OR_RETURN(const std::unique_ptr<IvfIndex> ivf,
                           IvfIndex::Open(rows, Metric::kL2, lists.bytes));
  const RowCentres centres = ivf->centres();
  const RowCentres* around = around_centres ? &centres : nullptr;
  VICINAL_ASSIGN_OR_RETURN(
      const std::unique_ptr<const Codec> codec,
      TrainCodec(rows, Metric::kL2, params, 1, nullptr, around));
  CodecFigures out;
  out.record_bytes = codec->layout().record_bytes;
  out.around_centres = around_centres;
  std::vector<uint8_t> records(n * out.record_bytes);
  auto start = Clock::now();
  VICINAL_RETURN_IF_ERROR(codec->Encode(rows, records, 1, nullptr, around));
  out.encode_us = SecondsSince(start) / n * 1e6;
  std::vector<float> norms2;
  for (size_t i = 0; i < centres.centres.num_rows; ++i) {
    norms2.push_back(codec->CentreNorm2(centres.centres.row(i).data()));
  }
  const CodeKernels& kernels = ActiveCodeKernels();
  const DistanceOps& ops = OpsFor(Metric::kL2, ElementType::kFloat32);
  PreparedQuery query;
  std::vector<float> estimate(n), exact(n);
  for (size_t q = 0; q < num_queries; ++q) {
    const float* vector = &values[(n + q) * dim];
    VICINAL_RETURN_IF_ERROR(
        codec->Prepare(vector, ElementType::kFloat32, &query));
    ops.scan(vector, ordered.data(), dim * sizeof(float), n, dim, exact.data());
    std::vector<Neighbor> nearest;
    for (uint32_t list = 0; list < centres.centres.num_rows; ++list) {
      nearest.push_back(
          {ops.one(vector, centres.centres.row(list).data(), dim), list});
    }
    std::sort(nearest.begin(), nearest.end());
    nearest.resize(std::min(nearest.size(), kNearestLists));
    double sum = 0;
    size_t count = 0;
    for (const Neighbor& list : nearest) {
      const size_t begin = centres.offsets[list.row];
      const size_t end = centres.offsets[list.row + 1];
      kernels.scan(codec->layout(),
                   around_centres ? codec->QueryAround(query, list.distance,
                                                       norms2[list.row])
                                  : query.code_query(),
                   &records[begin * out.record_bytes], out.record_bytes,
                   end - begin, &estimate[begin]);
      for (size_t i = begin; i < end; ++i) {
        sum += std::abs(estimate[i] - exact[i]) / std::max(exact[i], 1e-20f);
      }
      count += end - begin;
    }
    out.error_percent += 100 * sum / static_cast<double>(count * num_queries);
  }
  // As many rows as the second-level cache holds of either kind.
  constexpr size_t kCachedRows = 128;
  constexpr int kPasses = 50;
  const size_t block_bytes = CodeBlockBytes(codec->layout());
  std::vector<uint8_t> blocks(kCachedRows / kCodeBlockRows * block_bytes);
  for (size_t b = 0; b < kCachedRows / kCodeBlockRows; ++b) {
    PackCodeBlock(codec->layout(),
                  &records[b * kCodeBlockRows * out.record_bytes],
                  kCodeBlockRows, &blocks[b * block_bytes]);
  }
  out.scan_ns = out.row_scan_ns = out.exact_ns = 1e9;
  for (int round = 0; round < 20; ++round) {
    start = Clock::now();
    for (int pass = 0; pass < kPasses; ++pass) {
      kernels.scan(codec->layout(), query.code_query(), records.data(),
                   out.record_bytes, kCachedRows, estimate.data());
    }
    out.row_scan_ns = std::min(
        out.row_scan_ns, SecondsSince(start) / (kPasses * kCachedRows) * 1e9);
    start = Clock::now();
    for (int pass = 0; pass < kPasses; ++pass) {
      kernels.scan_blocks(codec->layout(), query.code_query(), blocks.data(),
                          kCachedRows / kCodeBlockRows,
                          std::numeric_limits<float>::infinity(),
                          estimate.data());
    }
    out.scan_ns = std::min(out.scan_ns,
                           SecondsSince(start) / (kPasses * kCachedRows) * 1e9);
    start = Clock::now();
    for (int pass = 0; pass < kPasses; ++pass) {
      ops.scan(ordered.data(), ordered.data(), dim * sizeof(float), kCachedRows,
               dim, exact.data());
    }
    out.exact_ns = std::min(
        out.exact_ns, SecondsSince(start) / (kPasses * kCachedRows) * 1e9);
  }
  return out;
}

// Around one mean or around the centroids of lists, whichever errs less.
absl::StatusOr<CodecFigures> MeasureBetter(const std::vector<float>& values,
                                           size_t dim, size_t num_queries,
                                           const CodecParams& params) {
  VICINAL_ASSIGN_OR_RETURN(const CodecFigures mean,
                           Measure(values, dim, num_queries, params, false));
  VICINAL_ASSIGN_OR_RETURN(const CodecFigures centres,
                           Measure(values, dim, num_queries, params, true));
  CodecFigures better =
      centres.error_percent < mean.error_percent ? centres : mean;
  better.mean_error_percent = mean.error_percent;
  better.centres_error_percent = centres.error_percent;
  return better;
}

CheckRow Ratio(std::string key, std::string what, double limit,
               const absl::StatusOr<CodecFigures>& figures, double measured) {
  CheckRow row{.key = std::move(key),
               .what = std::move(what),
               .bound = Bound::kAtMost,
               .limit = limit};
  if (figures.ok()) {
    row.measured = measured;
    row.raw = figures->Json();
  } else {
    row.why_not = std::string(figures.status().message());
  }
  return row;
}

void MeasureStudy(const CodecOptions& options, CheckReport* report) {
  constexpr size_t kDim = 1024;
  const auto values =
      StudyRows(options.rows + options.queries, kDim, 1.0, /*seed=*/1);
  struct Official {
    float bits;
    double error_percent;  // official SAQ on this generator (the study, 4.3)
    double limit;
  };
  absl::StatusOr<CodecFigures> figures;
  for (const Official& official :
       {Official{1, 0.582, 0.95}, Official{2, 0.275, 0.97},
        Official{4, 0.0887, 1.0}}) {
    figures = MeasureBetter(values, kDim, options.queries,
                            {.avg_bits = official.bits});
    report->Add(Ratio(
        absl::StrFormat("error_%.0f_bits", official.bits),
        absl::StrFormat("error vs official SAQ's, %.0f bits, D=1024",
                        official.bits),
        official.limit, figures,
        figures.ok() ? figures->error_percent / official.error_percent : 0));
    if (official.bits == 2) {
      report->Add(Ratio("scan_16_ns", "scan of 2 bits, D=1024, over 16 ns", 1,
                        figures, figures.ok() ? figures->scan_ns / 16 : 0));
      CheckRow row = Ratio(
          "scan_vs_f32", "scan of 2 bits, D=1024, vs the f32 kernel, speed", 4,
          figures, figures.ok() ? figures->exact_ns / figures->scan_ns : 0);
      row.bound = Bound::kAtLeast;
      report->Add(std::move(row));
    }
  }
  report->Add(Ratio(
      "error_vs_rabitq", "error at 4 bits vs RaBitQ-Library's 0.2473 %, D=1024",
      0.37, figures, figures.ok() ? figures->error_percent / 0.2473 : 0));
  report->Add(Ratio("encode_25_us",
                    "encoding at 4 bits, D=1024, product with the basis "
                    "included, over 25 us",
                    1, figures, figures.ok() ? figures->encode_us / 25 : 0));
}

void MeasureWords(const CodecOptions& options, CheckReport* report) {
  absl::StatusOr<CodecFigures> figures;
  auto dataset = LoadDataset({.name = "words",
                              .base = options.word_vectors,
                              .queries = options.word_vectors});
  if (!dataset.ok()) {
    figures = dataset.status();
  } else {
    const FloatMatrix& base = dataset->base;
    const size_t n = std::min(base.num_rows, options.rows + options.queries);
    figures =
        MeasureBetter({base.values.begin(), base.values.begin() + n * base.dim},
                      base.dim, options.queries, {.avg_bits = 8});
  }
  report->Add(Ratio(
      "error_8_bits_words", "error at 8 bits, word vectors 100-d, over 0.022 %",
      1, figures, figures.ok() ? figures->error_percent / 0.022 : 0));
}

// Root mean square error of inner products over their deviation.
absl::StatusOr<double> InnerProductError(const std::vector<float>& rows,
                                         const std::vector<float>& queries,
                                         size_t dim, const Codec& codec) {
  const size_t n = rows.size() / dim;
  const size_t num_queries = queries.size() / dim;
  const size_t stride = codec.layout().record_bytes;
  std::vector<uint8_t> records(n * stride);
  VICINAL_RETURN_IF_ERROR(codec.Encode(ViewOf(rows, dim), records, 2, nullptr));
  const DistanceOps& ops = OpsFor(Metric::kInnerProduct, ElementType::kFloat32);
  PreparedQuery prepared;
  std::vector<float> estimate(n), exact(n);
  double error2 = 0, sum = 0, sum2 = 0;
  for (size_t q = 0; q < num_queries; ++q) {
    VICINAL_RETURN_IF_ERROR(
        codec.Prepare(&queries[q * dim], ElementType::kFloat32, &prepared));
    ActiveCodeKernels().scan(codec.layout(), prepared.code_query(),
                             records.data(), stride, n, estimate.data());
    ops.scan(&queries[q * dim], rows.data(), dim * sizeof(float), n, dim,
             exact.data());
    for (size_t i = 0; i < n; ++i) {
      const double error = static_cast<double>(estimate[i]) - exact[i];
      error2 += error * error;
      sum += exact[i];
      sum2 += static_cast<double>(exact[i]) * exact[i];
    }
  }
  const double count = static_cast<double>(n) * num_queries;
  return std::sqrt(error2 / count) /
         std::sqrt(sum2 / count - (sum / count) * (sum / count));
}

absl::StatusOr<std::pair<double, double>> MeasureSphering() {
  constexpr size_t kDim = 512;
  const auto rows = StudyRows(20'000, kDim, 1.0, /*seed=*/5);
  const auto sample = TurnedStudyRows(4'200, kDim, 1.0, /*seed=*/6);
  const std::vector<float> queries(sample.end() - 200 * kDim, sample.end());
  const std::vector<float> known(sample.begin(), sample.end() - 200 * kDim);
  const CodecParams params{.avg_bits = 4};
  VICINAL_ASSIGN_OR_RETURN(const auto pca,
                           TrainCodec(ViewOf(rows, kDim), Metric::kInnerProduct,
                                      params, 2, nullptr));
  VICINAL_ASSIGN_OR_RETURN(
      const auto sphering,
      TrainCodec(ViewOf(rows, kDim), Metric::kInnerProduct, params, 2, nullptr,
                 nullptr, ViewOf(known, kDim)));
  VICINAL_ASSIGN_OR_RETURN(const double before,
                           InnerProductError(rows, queries, kDim, *pca));
  VICINAL_ASSIGN_OR_RETURN(const double after,
                           InnerProductError(rows, queries, kDim, *sphering));
  return std::pair(before, after);
}

void MeasureOtherQueries(CheckReport* report) {
  CheckRow row{.key = "error_sphering",
               .what =
                   "error with queries of another distribution, 4 bits, "
                   "D=512, sphering vs PCA",
               .bound = Bound::kAtMost,
               .limit = 0.65};
  const auto errors = MeasureSphering();
  if (errors.ok()) {
    row.measured = errors->second / errors->first;
    row.raw = {{"pca", errors->first}, {"sphering", errors->second}};
  } else {
    row.why_not = std::string(errors.status().message());
  }
  report->Add(std::move(row));
}

// A record and a row of links over an f32 row and the same links.
void MeasureMemory(CheckReport* report) {
  constexpr size_t kDim = 768;
  constexpr double kLinkBytes = 128 + 8;  // level 0 of m = 16, and above
  const auto codec =
      TrainCodec(ViewOf(StudyRows(4'000, kDim, 1.0, 2), kDim), Metric::kL2,
                 {.avg_bits = DefaultAvgBits(kDim)}, 2, nullptr);
  CheckRow row{.key = "memory_per_vector",
               .what = "memory of codes and links vs f32 and links, 768-d",
               .bound = Bound::kAtMost,
               .limit = 0.12};
  if (codec.ok()) {
    const double record = (*codec)->layout().record_bytes;
    row.measured = (record + kLinkBytes) / (kDim * sizeof(float) + kLinkBytes);
    row.raw = {{"record_bytes", record}, {"link_bytes", kLinkBytes}};
  } else {
    row.why_not = std::string(codec.status().message());
  }
  report->Add(std::move(row));
}

}  // namespace

void MeasureCodecs(const CodecOptions& options, CheckReport* report) {
  MeasureStudy(options, report);
  MeasureWords(options, report);
  MeasureOtherQueries(report);
  MeasureMemory(report);
}

}  // namespace vicinal::bench
