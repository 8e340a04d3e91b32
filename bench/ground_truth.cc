#include "bench/ground_truth.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/top_k.h"
#include "src/distance/distance.h"

namespace vicinal::bench {
namespace {

// Rows of a block stay in the second-level cache while every query of a group
// is compared with them.
constexpr size_t kBlockBytes = 256 << 10;
constexpr size_t kQueriesPerGroup = 64;

void SearchGroup(const FloatMatrix& base, const FloatMatrix& queries,
                 const DistanceOps& ops, size_t first, size_t last, size_t k,
                 TruthTable* out) {
  const size_t stride_bytes = base.dim * sizeof(float);
  const size_t block_rows = std::max<size_t>(1, kBlockBytes / stride_bytes);
  std::vector<TopK> nearest(last - first, TopK(k));
  std::vector<float> distances(block_rows);
  for (size_t begin = 0; begin < base.num_rows; begin += block_rows) {
    const size_t n = std::min(block_rows, base.num_rows - begin);
    for (size_t q = first; q < last; ++q) {
      ops.scan(queries.row(q), base.row(begin), stride_bytes, n, base.dim,
               distances.data());
      TopK& top = nearest[q - first];
      for (size_t i = 0; i < n; ++i) {
        if (distances[i] <= top.threshold()) {
          top.Push({distances[i], static_cast<RowId>(begin + i)});
        }
      }
    }
  }
  for (size_t q = first; q < last; ++q) {
    uint32_t* row = out->rows.data() + q * out->k;
    for (const Neighbor& neighbor : nearest[q - first].TakeSorted()) {
      *row++ = neighbor.row;
    }
  }
}

std::string CachePath(const FloatMatrix& base, const FloatMatrix& queries,
                      Metric metric, size_t k, const std::string& cache_dir) {
  return absl::StrCat(cache_dir, "/truth-",
                      absl::Hex(HashMatrix(base), absl::kZeroPad16), "-",
                      absl::Hex(HashMatrix(queries), absl::kZeroPad16), "-m",
                      static_cast<int>(metric), "-k", k, ".u32");
}

bool ReadCache(const std::string& path, TruthTable* truth,
               size_t num_base_rows) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const size_t size = truth->rows.size() * sizeof(uint32_t);
  if (!in || static_cast<size_t>(in.tellg()) != size) return false;
  in.seekg(0);
  in.read(reinterpret_cast<char*>(truth->rows.data()), size);
  return in.good() &&
         std::all_of(truth->rows.begin(), truth->rows.end(),
                     [&](uint32_t row) { return row < num_base_rows; });
}

// Through a name of its own, so that a reader never sees half a file.
void WriteCache(const std::string& path, const TruthTable& truth) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(),
                                      ignored);
  const std::string temporary = absl::StrCat(path, ".", getpid(), ".tmp");
  std::ofstream out(temporary, std::ios::binary);
  out.write(reinterpret_cast<const char*>(truth.rows.data()),
            truth.rows.size() * sizeof(uint32_t));
  out.close();
  if (out.good()) {
    std::filesystem::rename(temporary, path, ignored);
  } else {
    std::filesystem::remove(temporary, ignored);
  }
}

}  // namespace

TruthTable ComputeTruth(const FloatMatrix& base, const FloatMatrix& queries,
                        Metric metric, size_t k, size_t num_threads) {
  k = std::min(k, base.num_rows);
  TruthTable truth{.num_rows = queries.num_rows, .k = k};
  truth.rows.resize(truth.num_rows * k);
  const DistanceOps& ops = OpsFor(metric, ElementType::kFloat32);
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (;;) {
      const size_t first = next.fetch_add(kQueriesPerGroup);
      if (first >= queries.num_rows) return;
      const size_t last = std::min(first + kQueriesPerGroup, queries.num_rows);
      SearchGroup(base, queries, ops, first, last, k, &truth);
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < num_threads; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return truth;
}

TruthTable CachedTruth(const FloatMatrix& base, const FloatMatrix& queries,
                       Metric metric, size_t k, size_t num_threads,
                       const std::string& cache_dir) {
  if (cache_dir.empty()) {
    return ComputeTruth(base, queries, metric, k, num_threads);
  }
  k = std::min(k, base.num_rows);
  const std::string path = CachePath(base, queries, metric, k, cache_dir);
  TruthTable truth{.num_rows = queries.num_rows, .k = k};
  truth.rows.resize(truth.num_rows * k);
  if (ReadCache(path, &truth, base.num_rows)) return truth;
  truth = ComputeTruth(base, queries, metric, k, num_threads);
  WriteCache(path, truth);
  return truth;
}

RecallJudge::RecallJudge(const FloatMatrix& base, const FloatMatrix& queries,
                         Metric metric, const TruthTable& truth, size_t k)
    : base_(base), queries_(queries), metric_(metric), k_(k) {
  VICINAL_CHECK_LE(k, truth.k);
  VICINAL_CHECK_LE(queries.num_rows, truth.num_rows);
  const DistanceOps& ops = OpsFor(metric, ElementType::kFloat32);
  thresholds_.reserve(queries.num_rows);
  for (size_t q = 0; q < queries.num_rows; ++q) {
    // The largest of the k, not the k-th: a truth from elsewhere may have
    // been ordered by other rounding.
    float threshold = 0;
    for (size_t i = 0; i < k; ++i) {
      const float distance =
          ops.one(queries.row(q), base.row(truth.row(q)[i]), base.dim);
      threshold = i == 0 ? distance : std::max(threshold, distance);
    }
    thresholds_.push_back(threshold);
  }
}

size_t RecallJudge::CountHits(size_t query,
                              std::span<const uint32_t> returned) const {
  const DistanceOps& ops = OpsFor(metric_, ElementType::kFloat32);
  std::vector<uint32_t> rows(returned.begin(), returned.end());
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  size_t hits = 0;
  for (const uint32_t row : rows) {
    if (row >= base_.num_rows) continue;
    const float distance =
        ops.one(queries_.row(query), base_.row(row), base_.dim);
    if (distance <= thresholds_[query]) ++hits;
  }
  return std::min(hits, k_);
}

}  // namespace vicinal::bench
