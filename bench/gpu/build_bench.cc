// Builds an HNSW graph, or the lists of an IVF index, over clustered unit
// vectors with a GPU and without, and compares the recall that searches of both
// reach at the same ef.
//
//   build_bench [ROWS [DIM [cpu|gpu [LISTS]]]]   LISTS: of an IVF; 0: default
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
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "index/hnsw.h"
#include "index/index.h"
#include "index/ivf.h"
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

void Searches(const char* name, const Index& index, size_t dim,
              const std::vector<size_t>& efs, const std::vector<float>& queries,
              const std::vector<Neighbor>& truth) {
  const size_t num_queries = queries.size() / dim;
  for (const size_t ef : efs) {
    size_t found = 0;
    SearchStats stats;
    const double begin = Now();
    for (size_t q = 0; q < num_queries; ++q) {
      TopK top(kK);
      SearchParams params;
      params.k = kK;
      params.ef = ef;
      const absl::Status status = index.Search(
          &queries[q * dim], params, Filter(), StopCondition(), &top, &stats);
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

template <typename Opened>
const typename Opened::value_type& OrExit(const char* name,
                                          const Opened& opened) {
  if (opened.ok()) return *opened;
  std::fprintf(stderr, "%s: %s\n", name, opened.status().ToString().c_str());
  std::exit(1);
}

// A device, and the time that builds of lists spend in it.
class TimedDevice final : public DistanceBackend {
 public:
  explicit TimedDevice(DistanceBackend* device) : device_(*device) {}

  const char* name() const override { return device_.name(); }
  size_t device_bytes() const override { return device_.device_bytes(); }
  bool builds_graphs() const override { return device_.builds_graphs(); }
  BackendStatus Load(const SegmentRows& segment,
                     std::shared_ptr<const LoadedSegment>* out) override {
    return Time(&load_, [&] { return device_.Load(segment, out); });
  }
  BackendStatus Search(const LoadedSegment& segment, const QueryBatch& queries,
                       size_t k, const uint64_t* accepted, Neighbor* out,
                       BackendReport* report) const override {
    return Time(&search_, [&] {
      return device_.Search(segment, queries, k, accepted, out, report);
    });
  }
  BackendStatus Score(const LoadedSegment&, const QueryBatch&, const uint32_t*,
                      const RowId*, float*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus KnnGraph(const LoadedSegment& segment, size_t k, Neighbor* out,
                         BackendReport* report) const override {
    return Time(&graph_,
                [&] { return device_.KnnGraph(segment, k, out, report); });
  }
  BackendStatus LinkGraph(const LoadedSegment&, RowId, RowId, size_t,
                          const LinkRule&, Neighbor*, uint32_t*,
                          BackendReport*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus SelectLinks(const LoadedSegment&, size_t, const uint32_t*,
                            const Neighbor*, const LinkRule&,
                            Neighbor*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus Assign(const LoadedSegment&, const float*, size_t, uint32_t*,
                       float*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus KMeans(const LoadedSegment& segment, size_t num_centroids,
                       size_t rounds, float* centroids, uint32_t* nearest,
                       double* inertia) const override {
    return Time(&kmeans_, [&] {
      return device_.KMeans(segment, num_centroids, rounds, centroids, nearest,
                            inertia);
    });
  }

  void Print() const {
    for (const auto& [name, calls] :
         {std::pair("load", &load_), std::pair("k-means", &kmeans_),
          std::pair("search", &search_), std::pair("chain", &graph_)}) {
      std::printf("  %-8s %3d calls, %d failed, %.3f s, the longest %.3f s\n",
                  name, calls->num, calls->num_failed, calls->seconds,
                  calls->longest);
    }
  }

 private:
  struct Calls {
    int num = 0;
    int num_failed = 0;
    double seconds = 0;
    double longest = 0;
  };
  template <typename Call>
  static BackendStatus Time(Calls* calls, const Call& call) {
    const double begin = Now();
    const BackendStatus status = call();
    const double seconds = Now() - begin;
    ++calls->num;
    calls->num_failed += status != BackendStatus::kOk;
    calls->seconds += seconds;
    calls->longest = std::max(calls->longest, seconds);
    return status;
  }

  DistanceBackend& device_;
  mutable Calls load_;
  mutable Calls kmeans_;
  mutable Calls search_;
  mutable Calls graph_;
};

std::vector<Neighbor> TruthOf(VectorSetView rows,
                              const std::vector<float>& queries,
                              DistanceBackend* backend) {
  std::vector<Neighbor> truth(queries.size() / rows.dim * kK);
  std::shared_ptr<const LoadedSegment> loaded;
  if (backend->Load({rows, Metric::kCosine}, &loaded) != BackendStatus::kOk ||
      backend->Search(*loaded, {queries.data(), queries.size() / rows.dim}, kK,
                      nullptr, truth.data(), nullptr) != BackendStatus::kOk) {
    std::exit(1);
  }
  return truth;
}

// device may be null.
double Lists(const char* name, VectorSetView view, uint32_t num_lists,
             const std::vector<float>& queries, std::vector<Neighbor> truth,
             DistanceBackend* device) {
  const size_t dim = view.dim;
  std::unique_ptr<TimedDevice> timed;
  if (device != nullptr) timed = std::make_unique<TimedDevice>(device);
  const double begin = Now();
  const auto built =
      BuildIvfLists(view, Metric::kCosine, {.num_lists = num_lists},
                    std::thread::hardware_concurrency(), nullptr, timed.get());
  const IvfLists& lists = OrExit(name, built);
  const double seconds = Now() - begin;
  std::vector<float> ordered(view.num_rows * dim);
  std::vector<RowId> place(view.num_rows);
  for (size_t i = 0; i < view.num_rows; ++i) {
    place[lists.order[i]] = static_cast<RowId>(i);
    std::memcpy(&ordered[i * dim], view.row(lists.order[i]),
                dim * sizeof(float));
  }
  for (Neighbor& neighbor : truth) neighbor.row = place[neighbor.row];
  const auto opened =
      IvfIndex::Open(ViewOf(ordered, dim), Metric::kCosine, lists.bytes);
  const IvfIndex& index = *OrExit(name, opened);
  std::printf("%zu x %zu, %zu lists, %s: %.2f s\n", view.num_rows, dim,
              index.num_lists(), name, seconds);
  if (timed != nullptr) timed->Print();
  Searches(name, index, dim, {1, 2, 4, 8, 16, 32}, queries, truth);
  return seconds;
}

double Graph(const char* name, VectorSetView view,
             const std::vector<float>& queries,
             const std::vector<Neighbor>& truth, DistanceBackend* device) {
  const double begin = Now();
  const auto built = BuildHnswGraph(view, Metric::kCosine, {},
                                    std::thread::hardware_concurrency(),
                                    nullptr, nullptr, device);
  const std::string& graph = OrExit(name, built);
  const double seconds = Now() - begin;
  const auto opened = HnswIndex::Open(view, Metric::kCosine, graph);
  const HnswIndex& index = *OrExit(name, opened);
  std::printf("%zu x %zu, %s: %.2f s\n", view.num_rows, view.dim, name,
              seconds);
  std::fflush(stdout);
  Searches(name, index, view.dim, {16, 32, 64, 128, 256}, queries, truth);
  return seconds;
}

// num_lists: null: a graph.
void Run(size_t n, size_t dim, bool with_cpu, const uint32_t* num_lists) {
  Workers workers(std::thread::hardware_concurrency());
  const std::vector<float> rows = Generate(n, dim, 1, &workers);
  const std::vector<float> queries = Generate(1000, dim, 2, &workers);
  const VectorSetView view = ViewOf(rows, dim);
  std::unique_ptr<DistanceBackend> backend;
  GpuOptions options;
  // Lists are built in the room that the server takes.
  options.workspace_bytes = size_t{num_lists == nullptr ? 4u : 1u} << 30;
  if (MakeGpuBackend(options, &backend) != BackendStatus::kOk) {
    std::fprintf(stderr, "no GPU\n");
    std::exit(1);
  }
  const std::vector<Neighbor> truth = TruthOf(view, queries, backend.get());
  const auto build = [&](const char* name, DistanceBackend* device) {
    return num_lists == nullptr
               ? Graph(name, view, queries, truth, device)
               : Lists(name, view, *num_lists, queries, truth, device);
  };
  const double gpu = build("gpu", backend.get());
  if (with_cpu) {
    std::printf("  ratio %.1f\n", build("cpu", nullptr) / gpu);
  }
}

}  // namespace
}  // namespace vicinal

int main(int argc, char** argv) {
  const auto number = [&](int i, uint64_t otherwise) {
    return argc > i ? std::strtoull(argv[i], nullptr, 10) : otherwise;
  };
  const auto num_lists = static_cast<uint32_t>(number(4, 0));
  vicinal::Run(number(1, 100000), number(2, 768),
               argc > 3 && std::strcmp(argv[3], "cpu") == 0,
               argc > 4 ? &num_lists : nullptr);
  return 0;
}
