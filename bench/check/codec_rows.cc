#include "bench/check/codec_rows.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "bench/dataset.h"
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
  double scan_ns = 0;        // per record, in cache
  double exact_ns = 0;       // per f32 row, in cache
  size_t record_bytes = 0;
  nlohmann::json Json() const {
    return {{"error_percent", error_percent},
            {"encode_us", encode_us},
            {"scan_ns", scan_ns},
            {"f32_scan_ns", exact_ns},
            {"record_bytes", record_bytes}};
  }
};

absl::StatusOr<CodecFigures> Measure(const std::vector<float>& values,
                                     size_t dim, size_t num_queries,
                                     const CodecParams& params) {
  const size_t n = values.size() / dim - num_queries;
  VectorSetView rows = ViewOf(values, dim);
  rows.num_rows = n;
  VICINAL_ASSIGN_OR_RETURN(const std::unique_ptr<const Codec> codec,
                           TrainCodec(rows, Metric::kL2, params, 1, nullptr));
  CodecFigures out;
  out.record_bytes = codec->layout().record_bytes;
  std::vector<uint8_t> records(n * out.record_bytes);
  auto start = Clock::now();
  VICINAL_RETURN_IF_ERROR(codec->Encode(rows, records, 1, nullptr));
  out.encode_us = SecondsSince(start) / n * 1e6;
  const CodeKernels& kernels = ActiveCodeKernels();
  const DistanceOps& ops = OpsFor(Metric::kL2, ElementType::kFloat32);
  PreparedQuery query;
  std::vector<float> estimate(n), exact(n);
  for (size_t q = 0; q < num_queries; ++q) {
    const float* vector = &values[(n + q) * dim];
    VICINAL_RETURN_IF_ERROR(
        codec->Prepare(vector, ElementType::kFloat32, &query));
    kernels.scan(codec->layout(), query.code_query(), records.data(),
                 out.record_bytes, n, estimate.data());
    ops.scan(vector, values.data(), dim * sizeof(float), n, dim, exact.data());
    for (size_t i = 0; i < n; ++i) {
      out.error_percent += 100 * std::abs(estimate[i] - exact[i]) /
                           std::max(exact[i], 1e-20f) / (n * num_queries);
    }
  }
  // As many rows as the second-level cache holds of either kind.
  constexpr size_t kCachedRows = 128;
  constexpr int kPasses = 50;
  out.scan_ns = out.exact_ns = 1e9;
  for (int round = 0; round < 20; ++round) {
    start = Clock::now();
    for (int pass = 0; pass < kPasses; ++pass) {
      kernels.scan(codec->layout(), query.code_query(), records.data(),
                   out.record_bytes, kCachedRows, estimate.data());
    }
    out.scan_ns = std::min(out.scan_ns,
                           SecondsSince(start) / (kPasses * kCachedRows) * 1e9);
    start = Clock::now();
    for (int pass = 0; pass < kPasses; ++pass) {
      ops.scan(values.data(), values.data(), dim * sizeof(float), kCachedRows,
               dim, exact.data());
    }
    out.exact_ns = std::min(
        out.exact_ns, SecondsSince(start) / (kPasses * kCachedRows) * 1e9);
  }
  return out;
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
    figures =
        Measure(values, kDim, options.queries, {.avg_bits = official.bits});
    report->Add(Ratio(
        absl::StrFormat("error_%.0f_bits", official.bits),
        absl::StrFormat("error vs official SAQ's, %.0f bits, D=1024, one mean "
                        "for a centre",
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
    figures = Measure({base.values.begin(), base.values.begin() + n * base.dim},
                      base.dim, options.queries, {.avg_bits = 8});
  }
  report->Add(Ratio(
      "error_8_bits_words", "error at 8 bits, word vectors 100-d, over 0.022 %",
      1, figures, figures.ok() ? figures->error_percent / 0.022 : 0));
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
  MeasureMemory(report);
}

}  // namespace vicinal::bench
