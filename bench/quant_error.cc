// The error of codes at each size, and what they cost:
//   quant_error [DIM [ALPHA [ROWS]]]
// over the study's generator, tests/quant/study_data.h. Scans are of records in
// the first-level cache, one by one and in blocks of sixteen.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "quant/codec.h"
#include "src/distance/distance.h"
#include "tests/quant/study_data.h"

namespace vicinal {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kCachedBytes = size_t{16} << 10;

// Of blocks, as segment files have them: aligned to lines of the cache.
struct alignas(64) Line {
  uint8_t bytes[64];
};

// Nanoseconds of work() by `count`; the least of many rounds, as the machine
// may be shared.
template <typename Work>
double LeastNs(size_t count, const Work& work) {
  constexpr int kRounds = 50, kPasses = 20;
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    const auto start = Clock::now();
    for (int pass = 0; pass < kPasses; ++pass) work();
    best = std::min(
        best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best / static_cast<double>(kPasses * count) * 1e9;
}

void Measure(const std::vector<float>& rows, size_t n, size_t d,
             size_t num_queries, const CodecParams& params) {
  const VectorSetView view{reinterpret_cast<const std::byte*>(rows.data()), n,
                           d, d * sizeof(float)};
  auto start = Clock::now();
  const auto codec = TrainCodec(view, Metric::kL2, params, 1, nullptr);
  const double train =
      std::chrono::duration<double>(Clock::now() - start).count();
  if (!codec.ok()) {
    std::printf("%s\n", std::string(codec.status().message()).c_str());
    return;
  }
  const size_t stride = (*codec)->layout().record_bytes;
  std::vector<uint8_t> records(n * stride);
  start = Clock::now();
  if (!(*codec)->Encode(view, std::span(records), 1, nullptr).ok()) return;
  const double encode =
      std::chrono::duration<double>(Clock::now() - start).count();
  PreparedQuery prepared;
  std::vector<float> estimate(n), exact(n);
  const auto& ops = OpsFor(Metric::kL2, ElementType::kFloat32);
  double sum = 0, covered = 0;
  for (size_t q = 0; q < num_queries; ++q) {
    const float* query = &rows[(n + q) * d];
    (void)(*codec)->Prepare(query, ElementType::kFloat32, &prepared);
    ActiveCodeKernels().scan((*codec)->layout(), prepared.code_query(),
                             records.data(), stride, n, estimate.data());
    ops.scan(query, rows.data(), d * sizeof(float), n, d, exact.data());
    for (size_t i = 0; i < n; ++i) {
      const float error = std::abs(estimate[i] - exact[i]);
      sum += error / exact[i];
      covered +=
          error <= (*codec)->ErrorBound(prepared, &records[i * stride], 3);
    }
  }
  const CodeLayout& layout = (*codec)->layout();
  const size_t block_bytes = CodeBlockBytes(layout);
  const size_t num_blocks =
      std::clamp<size_t>(kCachedBytes / block_bytes, 1, n / kCodeBlockRows);
  const size_t cached = num_blocks * kCodeBlockRows;
  std::vector<Line> blocks(num_blocks * block_bytes / sizeof(Line));
  for (size_t b = 0; b < num_blocks; ++b) {
    PackCodeBlock(layout, &records[b * kCodeBlockRows * stride], kCodeBlockRows,
                  blocks[b * block_bytes / sizeof(Line)].bytes);
  }
  const double prepare = LeastNs(1, [&] {
    (void)(*codec)->Prepare(&rows[n * d], ElementType::kFloat32, &prepared);
  });
  const double scan = LeastNs(cached, [&] {
    ActiveCodeKernels().scan(layout, prepared.code_query(), records.data(),
                             stride, cached, estimate.data());
  });
  const double block_scan = LeastNs(cached, [&] {
    ActiveCodeKernels().scan_blocks(
        layout, prepared.code_query(), blocks[0].bytes, num_blocks,
        std::numeric_limits<float>::infinity(), estimate.data());
  });
  std::printf(
      "%s:%.1f  error %.4f %%  3-sigma %.4f  record %zu  train %.2f s"
      "  encode %.1f us  prepare %.1f us  scan %.2f ns  in blocks %.2f ns  "
      "plan",
      params.kind == CodecKind::kRbq ? "rbq" : "saq", params.avg_bits,
      100 * sum / (num_queries * n), covered / (num_queries * n), stride, train,
      encode / n * 1e6, prepare / 1e3, scan, block_scan);
  for (const PlanSegment& s : (*codec)->plan()) {
    std::printf(" %ux%u", s.num_dims, s.bits);
  }
  std::printf("\n");
}

}  // namespace
}  // namespace vicinal

int main(int argc, char** argv) {
  using vicinal::CodecKind;
  const size_t d = argc > 1 ? std::atoi(argv[1]) : 1024;
  const double alpha = argc > 2 ? std::atof(argv[2]) : 1.0;
  const size_t n = argc > 3 ? std::atoi(argv[3]) : 30'000;
  const size_t num_queries = 100;
  const auto rows = vicinal::StudyRows(n + num_queries, d, alpha, 1);
  std::printf("%zu x %zu, kernels: %s\n", n, d,
              vicinal::ActiveCodeKernels().name);
  for (const float bits : {1.0f, 2.0f, 4.0f, 8.0f}) {
    vicinal::Measure(rows, n, d, num_queries, {.avg_bits = bits});
    vicinal::Measure(rows, n, d, num_queries,
                     {.kind = CodecKind::kRbq, .avg_bits = bits});
  }
}
