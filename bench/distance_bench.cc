// Distance kernels by metric, type, dim, access and instruction set:
//   distance_bench --benchmark_filter=gather/far/l2/f32/784
//
// What to expect. A kernel cannot beat the bytes it reads: a row costs at
// least dim * element size / bandwidth. From the first-level cache a core
// loads two 64-byte lines a cycle (Zen 5), so a 784-d f32 row, 49 lines, takes
// no less than 25 cycles when the query stays in registers. From memory the
// floor is about what `scan/far/floor`, a plain read of the same table, takes;
// `gather/far` on random rows should stay within 1.5x of it for rows of
// 1 KiB and more, and is bound by latency / parallelism below.
// `near` works on 16 KiB of rows, `far` on a 188 MB table.
// `hnswlib` rows call its own L2 function (-O3 -march=native) on the same
// data one row at a time, as its search does.
#include <benchmark/benchmark.h>
#include <immintrin.h>
#if __has_include(<hnswlib/hnswlib.h>)
#include <hnswlib/hnswlib.h>  // IWYU pragma: keep
#define VICINAL_HAS_HNSWLIB
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "src/base/random.h"
#include "src/base/types.h"
#include "src/distance/distance.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace vicinal {
namespace {

constexpr uint64_t kSeed = 42;
constexpr size_t kNearBytes = size_t{16} << 10;
constexpr size_t kFarBytes = size_t{188} << 20;
constexpr size_t kGatherRows = 16;  // about what one HNSW expansion scores
constexpr size_t kScanRows = 256;   // one block of FlatIndex

// Finite elements of any type: bytes below 0x3C are small in each of them.
const std::byte* Table() {
  static std::byte* const table = [] {
    void* memory = std::aligned_alloc(size_t{2} << 20, kFarBytes + (2 << 20));
#ifdef __linux__
    madvise(memory, kFarBytes + (2 << 20), MADV_HUGEPAGE);
#endif
    auto* words = static_cast<uint64_t*>(memory);
    Random random(kSeed);
    for (size_t i = 0; i < (kFarBytes + (2 << 20)) / 8; ++i) {
      words[i] = random.Next() & 0x3B3B3B3B3B3B3B3BULL;
    }
    return static_cast<std::byte*>(memory);
  }();
  return table;
}

struct Shape {
  Metric metric;
  ElementType type;
  size_t dim;
  bool far;

  size_t row_bytes() const { return dim * ElementSize(type); }
  size_t num_rows() const {
    return std::max<size_t>((far ? kFarBytes : kNearBytes) / row_bytes(), 4);
  }
};

void Report(benchmark::State& state, const Shape& shape, size_t rows) {
  const double total = static_cast<double>(state.iterations()) * rows;
  state.counters["ns/row"] = benchmark::Counter(
      total * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["GB/s"] = benchmark::Counter(total * shape.row_bytes() * 1e-9,
                                              benchmark::Counter::kIsRate);
}

std::vector<RowId> RandomRows(const Shape& shape) {
  Random random(kSeed);
  // Enough that the rows come from memory, not from the last-level cache.
  std::vector<RowId> rows(size_t{1} << (shape.far ? 20 : 10));
  for (RowId& row : rows) {
    row = static_cast<RowId>(random.Uniform(shape.num_rows()));
  }
  return rows;
}

void One(benchmark::State& state, const DistanceOps& ops, Shape shape) {
  const std::vector<RowId> rows = RandomRows(shape);
  const std::byte* query = Table() + kFarBytes;
  size_t i = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        ops.one(query, Table() + rows[i++ % rows.size()] * shape.row_bytes(),
                shape.dim));
  }
  Report(state, shape, 1);
}

void Gather(benchmark::State& state, const DistanceOps& ops, Shape shape) {
  const std::vector<RowId> rows = RandomRows(shape);
  float out[kGatherRows];
  size_t i = 0;
  for (auto _ : state) {
    ops.gather(Table() + kFarBytes, Table(), shape.row_bytes(), &rows[i],
               kGatherRows, shape.dim, out);
    benchmark::DoNotOptimize(out);
    i = (i + kGatherRows) % rows.size();
  }
  Report(state, shape, kGatherRows);
}

void Scan(benchmark::State& state, const DistanceOps& ops, Shape shape) {
  const size_t batch = std::min(kScanRows, shape.num_rows());
  float out[kScanRows];
  size_t begin = 0;
  for (auto _ : state) {
    ops.scan(Table() + kFarBytes, Table() + begin * shape.row_bytes(),
             shape.row_bytes(), batch, shape.dim, out);
    benchmark::DoNotOptimize(out);
    begin += batch;
    if (begin + batch > shape.num_rows()) begin = 0;
  }
  Report(state, shape, batch);
}

// Reads every byte and does next to nothing with it.
void Floor(benchmark::State& state, Shape shape) {
  const size_t batch = std::min(kScanRows, shape.num_rows());
  size_t begin = 0;
  for (auto _ : state) {
    const std::byte* block = Table() + begin * shape.row_bytes();
    uint64_t lanes[8] = {};
    for (size_t i = 0; i + 64 <= batch * shape.row_bytes(); i += 64) {
      uint64_t words[8];
      std::memcpy(words, block + i, sizeof(words));
      for (int lane = 0; lane < 8; ++lane) lanes[lane] ^= words[lane];
    }
    benchmark::DoNotOptimize(lanes);
    begin += batch;
    if (begin + batch > shape.num_rows()) begin = 0;
  }
  Report(state, shape, batch);
}

#ifdef VICINAL_HAS_HNSWLIB
void Hnswlib(benchmark::State& state, Shape shape) {
  hnswlib::L2Space space(shape.dim);
  const auto distance = space.get_dist_func();
  void* const param = space.get_dist_func_param();
  const std::vector<RowId> rows = RandomRows(shape);
  float out[kGatherRows];
  size_t i = 0;
  for (auto _ : state) {
    for (size_t j = 0; j < kGatherRows; ++j) {
      if (j + 1 < kGatherRows) {  // as searchBaseLayerST does
        _mm_prefetch(Table() + rows[i + j + 1] * shape.row_bytes(),
                     _MM_HINT_T0);
      }
      out[j] = distance(Table() + kFarBytes,
                        Table() + rows[i + j] * shape.row_bytes(), param);
    }
    benchmark::DoNotOptimize(out);
    i = (i + kGatherRows) % rows.size();
  }
  Report(state, shape, kGatherRows);
}

#endif

void Finite(benchmark::State& state, size_t bytes) {
  const auto* values = reinterpret_cast<const float*>(Table());
  for (auto _ : state) {
    benchmark::DoNotOptimize(AllFinite(values, bytes / sizeof(float)));
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes));
}

template <class Function>
void Add(const std::string& name, Function function) {
  benchmark::RegisterBenchmark(name.c_str(), function)->MinTime(0.05);
}

void AddKernels(const std::string& place, const std::string& suffix,
                const char* tier, Shape shape) {
  const DistanceKernels* kernels = FindKernels(tier);
  if (kernels == nullptr) return;
  const DistanceOps& ops = kernels->For(shape.metric, shape.type);
  const std::string end = place + suffix + "/" + tier;
  Add("one" + end, [=](benchmark::State& s) { One(s, ops, shape); });
  Add("gather" + end, [=](benchmark::State& s) { Gather(s, ops, shape); });
  Add("scan" + end, [=](benchmark::State& s) { Scan(s, ops, shape); });
}

void AddAll() {
  constexpr const char* kMetrics[] = {"l2", "ip", "cosine"};
  constexpr const char* kTypes[] = {"f32", "f16", "i8", "u8"};
  for (const bool far : {false, true}) {
    const std::string place = far ? "/far/" : "/near/";
    for (const size_t dim : {100, 128, 784, 1536}) {
      const std::string d = std::to_string(dim);
      for (int metric = 0; metric < 3; ++metric) {
        for (int type = 0; type < 4; ++type) {
          const Shape shape = {static_cast<Metric>(metric + 1),
                               static_cast<ElementType>(type + 1), dim, far};
          const std::string suffix =
              std::string(kMetrics[metric]) + "/" + kTypes[type] + "/" + d;
          for (const char* tier : {"scalar", "avx2", "avx512"}) {
            AddKernels(place, suffix, tier, shape);
          }
        }
      }
      const Shape shape = {Metric::kL2, ElementType::kFloat32, dim, far};
      Add("scan" + place + "floor/" + d,
          [=](benchmark::State& s) { Floor(s, shape); });
#ifdef VICINAL_HAS_HNSWLIB
      Add("gather" + place + "l2/f32/" + d + "/hnswlib",
          [=](benchmark::State& s) { Hnswlib(s, shape); });
#endif
    }
    const size_t bytes = far ? kFarBytes : kNearBytes;
    Add(far ? "all_finite/far" : "all_finite/near",
        [=](benchmark::State& s) { Finite(s, bytes); });
  }
}

}  // namespace
}  // namespace vicinal

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("simd", vicinal::ActiveKernels().name);
  vicinal::Table();  // made once, outside what is timed
  vicinal::AddAll();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
