// Builds an HNSW graph over clustered unit vectors with a GPU and without, and
// compares the recall that searches of both reach at the same ef.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "index/hnsw.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/base/workers.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {
namespace {

uint64_t Mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9ull;
  x ^= x >> 27;
  x *= 0x94D049BB133111EBull;
  return x ^ x >> 31;
}

float Normal(uint64_t seed) {
  const uint64_t bits = Mix(seed * 0x9E3779B97F4A7C15ull + 1);
  const float u = (static_cast<uint32_t>(bits) + 1.0f) * 0x1p-32f;
  const float v = static_cast<uint32_t>(bits >> 32) * 0x1p-32f;
  return std::sqrt(-2 * std::log(u)) * std::cos(6.2831853f * v);
}

// Unit vectors of 32 degrees of freedom: one of 1,000 centres and noise of the
// same length there, spread over all dimensions, and a tenth of noise in each.
std::vector<float> Generate(size_t n, size_t dim, uint64_t seed,
                            Workers* workers) {
  constexpr size_t kFreedom = 32;
  std::vector<float> spread(kFreedom * dim);
  for (size_t i = 0; i < spread.size(); ++i) {
    spread[i] = Normal(i + (uint64_t{1} << 61)) / std::sqrt(float{kFreedom});
  }
  std::vector<float> out(n * dim);
  workers->For(n, 256, [&](size_t begin, size_t end, size_t) {
    for (size_t row = begin; row < end; ++row) {
      const uint64_t centre = Mix(row * 77 + seed) % 1000;
      float* to = &out[row * dim];
      for (size_t i = 0; i < dim; ++i) {
        to[i] = 0.1f * Normal((row * 8192 + i) ^ seed << 44);
      }
      for (size_t f = 0; f < kFreedom; ++f) {
        const float x = Normal(centre * kFreedom + f + (uint64_t{1} << 60)) +
                        Normal((row * kFreedom + f) ^ seed << 45);
        for (size_t i = 0; i < dim; ++i) to[i] += x * spread[f * dim + i];
      }
      double squares = 0;
      for (size_t i = 0; i < dim; ++i) squares += to[i] * to[i];
      const auto scale = static_cast<float>(1 / std::sqrt(squares));
      for (size_t i = 0; i < dim; ++i) to[i] *= scale;
    }
  });
  return out;
}

VectorSetView ViewOf(const std::vector<float>& values, size_t dim) {
  return {.data = reinterpret_cast<const std::byte*>(values.data()),
          .num_rows = values.size() / dim,
          .dim = dim,
          .stride_bytes = dim * sizeof(float),
          .type = ElementType::kFloat32};
}

double Now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

constexpr size_t kK = 10;

void Searches(const char* name, VectorSetView rows, const std::string& graph,
              const std::vector<float>& queries,
              const std::vector<Neighbor>& truth) {
  const auto index = HnswIndex::Open(rows, Metric::kCosine, graph);
  if (!index.ok()) {
    std::fprintf(stderr, "%s: %s\n", name, index.status().ToString().c_str());
    std::exit(1);
  }
  const size_t num_queries = queries.size() / rows.dim;
  for (size_t ef : {16, 32, 64, 128, 256}) {
    size_t found = 0;
    SearchStats stats;
    const double begin = Now();
    for (size_t q = 0; q < num_queries; ++q) {
      TopK top(kK);
      SearchParams params;
      params.k = kK;
      params.ef = ef;
      const absl::Status status =
          (*index)->Search(&queries[q * rows.dim], params, Filter(),
                           StopCondition(), &top, &stats);
      if (!status.ok()) std::exit(1);
      for (const Neighbor& neighbor : top.TakeSorted()) {
        for (size_t i = 0; i < kK; ++i) {
          found += truth[q * kK + i].row == neighbor.row;
        }
      }
    }
    std::printf("  %-4s ef %3zu recall@10 %.4f  %6.0f distances  %.0f q/s\n",
                name, ef, double(found) / (num_queries * kK),
                double(stats.distance_computations) / num_queries,
                num_queries / (Now() - begin));
    std::fflush(stdout);
  }
}

void Run(size_t n, size_t dim, bool with_cpu) {
  const size_t num_threads = std::thread::hardware_concurrency();
  Workers workers(num_threads);
  const std::vector<float> rows = Generate(n, dim, 1, &workers);
  const std::vector<float> queries = Generate(1000, dim, 2, &workers);
  const VectorSetView view = ViewOf(rows, dim);
  std::unique_ptr<DistanceBackend> backend;
  GpuOptions options;
  options.workspace_bytes = size_t{4} << 30;
  if (MakeGpuBackend(options, &backend) != BackendStatus::kOk) {
    std::fprintf(stderr, "no GPU\n");
    std::exit(1);
  }
  std::vector<Neighbor> truth(1000 * kK);
  {
    std::shared_ptr<const LoadedSegment> loaded;
    SegmentRows segment = {view, Metric::kCosine};
    if (backend->Load(segment, &loaded) != BackendStatus::kOk ||
        backend->Search(*loaded, {queries.data(), 1000}, kK, nullptr,
                        truth.data(), nullptr) != BackendStatus::kOk) {
      std::exit(1);
    }
  }
  const auto build = [&](const char* name, DistanceBackend* device) {
    const double begin = Now();
    const absl::StatusOr<std::string> graph = BuildHnswGraph(
        view, Metric::kCosine, {}, num_threads, nullptr, nullptr, device);
    if (!graph.ok()) std::exit(1);
    const double seconds = Now() - begin;
    std::printf("%zu x %zu, %s: %.2f s\n", n, dim, name, seconds);
    std::fflush(stdout);
    Searches(name, view, *graph, queries, truth);
    return seconds;
  };
  const double gpu = build("gpu", backend.get());
  if (with_cpu) {
    std::printf("  ratio %.1f\n", build("cpu", nullptr) / gpu);
  }
}

}  // namespace
}  // namespace vicinal

int main(int argc, char** argv) {
  const size_t n = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100000;
  const size_t dim = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 768;
  vicinal::Run(n, dim, argc > 3 && std::strcmp(argv[3], "cpu") == 0);
  return 0;
}
