// Times the build of a segment's graph (cell order, then the graph) beside
// hnswlib's and compares the graphs: recall, and distances per query at equal
// recall, which do not depend on what else the machine does.
//
//   build_bench [--threads=2] [--queries=1000] [--seed=1] [--peer] SET...
//
// Sets: fashion, latent, glove, use (bench/build_data.h). --peer builds
// hnswlib as well.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "bench/ann_system.h"
#include "bench/build_data.h"
#include "index/cell_order.h"
#include "index/flat.h"
#include "index/hnsw.h"
#include "src/base/check.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal::bench {
namespace {

constexpr size_t kK = 10;
constexpr size_t kEqualRecallEf = 40;
constexpr size_t kEfs[] = {10,  12,  16,  20,  24,  32,  40,  56,  80,
                           112, 160, 224, 320, 448, 640, 900, 1280};

struct Options {
  size_t threads = 2;
  size_t queries = 1000;
  size_t seed = 1;
  bool peer = false;
};

// Wall and processor seconds since it was made.
class Stopwatch {
 public:
  double wall() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                         start_)
        .count();
  }
  double cpu() const { return CpuNow() - cpu_start_; }

 private:
  static double CpuNow() {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * static_cast<double>(usage.ru_utime.tv_usec +
                                      usage.ru_stime.tv_usec);
  }
  std::chrono::steady_clock::time_point start_ =
      std::chrono::steady_clock::now();
  double cpu_start_ = CpuNow();
};

// Distance of the kK-th nearest row to each query.
std::vector<float> Thresholds(const Dataset& data, size_t threads) {
  const FlatIndex flat(data.base.view(), data.search_metric());
  std::vector<float> out(data.queries.num_rows);
  Workers(threads).For(out.size(), 4, [&](size_t begin, size_t end, size_t) {
    for (size_t q = begin; q < end; ++q) {
      TopK top(kK);
      VICINAL_CHECK(
          flat.Search(data.queries.row(q), {.k = kK}, {}, {}, &top, nullptr)
              .ok());
      out[q] = top.threshold();
    }
  });
  return out;
}

struct Point {
  size_t ef;
  double recall;
  double distances;  // per query
};

Point Measure(const Index& index, const Dataset& data,
              const std::vector<float>& thresholds, size_t ef) {
  size_t hits = 0;
  SearchStats stats;
  for (size_t q = 0; q < thresholds.size(); ++q) {
    TopK top(kK);
    VICINAL_CHECK(index
                      .Search(data.queries.row(q), {.k = kK, .ef = ef}, {}, {},
                              &top, &stats)
                      .ok());
    for (const Neighbor& found : top.TakeSorted()) {
      hits += found.distance <= thresholds[q];
    }
  }
  const auto n = static_cast<double>(thresholds.size());
  return {ef, static_cast<double>(hits) / (kK * n),
          static_cast<double>(stats.distance_computations) / n};
}

double DistancesAt(const std::vector<Point>& points, double recall) {
  for (size_t i = 0; i < points.size(); ++i) {
    if (points[i].recall < recall) continue;
    if (i == 0) return points[0].distances;
    const Point& a = points[i - 1];
    const Point& b = points[i];
    return a.distances + (b.distances - a.distances) * (recall - a.recall) /
                             (b.recall - a.recall);
  }
  return 0;
}

// Cell order, then the graph, as the engine seals a segment.
void BenchVicinal(const Dataset& data, const std::vector<float>& thresholds,
                  const Options& options) {
  const Metric metric = data.search_metric();
  const Stopwatch total;
  const auto order = CellOrder(data.base.view(), metric, options.seed,
                               options.threads, nullptr);
  VICINAL_CHECK(order.ok());
  const double order_cpu = total.cpu();
  FloatMatrix rows{.num_rows = order->size(), .dim = data.base.dim};
  rows.values.resize(data.base.values.size());
  for (size_t i = 0; i < order->size(); ++i) {
    std::copy_n(data.base.row((*order)[i]), rows.dim,
                &rows.values[i * rows.dim]);
  }
  const auto graph = BuildHnswGraph(rows.view(), metric, {.seed = options.seed},
                                    options.threads, nullptr, nullptr);
  VICINAL_CHECK(graph.ok());
  std::printf("  vicinal: %.2f s, cpu %.2f s (cell order %.2f s)\n",
              total.wall(), total.cpu(), order_cpu);
  const auto index = HnswIndex::Open(rows.view(), metric, *graph);
  VICINAL_CHECK(index.ok());
  std::vector<Point> points;
  for (const size_t ef : kEfs) {
    points.push_back(Measure(**index, data, thresholds, ef));
    std::printf("    ef %4zu recall %.4f distances %.0f\n", ef,
                points.back().recall, points.back().distances);
    if (points.back().recall > 0.995) break;
  }
  std::printf("  distances per query at recall 0.90 %.0f, 0.95 %.0f, 0.99 %.0f",
              DistancesAt(points, 0.9), DistancesAt(points, 0.95),
              DistancesAt(points, 0.99));
  std::printf("; recall at ef %zu %.4f\n", kEqualRecallEf,
              Measure(**index, data, thresholds, kEqualRecallEf).recall);
  size_t links = 0;
  const auto* words = reinterpret_cast<const uint32_t*>(graph->data() + 128);
  for (size_t i = 0; i < rows.num_rows * 32; ++i) links += words[i] != ~0u;
  std::printf("  links per row %.1f\n",
              static_cast<double>(links) / static_cast<double>(rows.num_rows));
}

void BenchPeer(const Dataset& data, const std::vector<float>& thresholds,
               const Options& options) {
  const std::unique_ptr<AnnSystem> peer = MakeHnswlib();
  if (peer == nullptr) return;
  const Stopwatch total;
  VICINAL_CHECK(peer->Build(data, {.num_threads = options.threads}).ok());
  std::printf("  hnswlib: %.2f s, cpu %.2f s", total.wall(), total.cpu());
  const DistanceOps& ops = OpsFor(data.search_metric(), ElementType::kFloat32);
  size_t hits = 0;
  uint32_t found[kK];
  for (size_t q = 0; q < thresholds.size(); ++q) {
    const auto n = peer->Search(data.queries.row(q), kK, kEqualRecallEf, found);
    for (size_t i = 0; i < *n; ++i) {
      // Its own rounding must not matter.
      hits += ops.one(data.queries.row(q), data.base.row(found[i]),
                      data.base.dim) <= thresholds[q];
    }
  }
  std::printf(", recall at ef %zu %.4f\n", kEqualRecallEf,
              static_cast<double>(hits) / (kK * thresholds.size()));
}

int Main(int argc, char** argv) {
  Options options;
  std::vector<std::string> sets;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--peer") {
      options.peer = true;
    } else if (absl::StartsWith(arg, "--threads=")) {
      VICINAL_CHECK(absl::SimpleAtoi(arg.substr(10), &options.threads));
    } else if (absl::StartsWith(arg, "--queries=")) {
      VICINAL_CHECK(absl::SimpleAtoi(arg.substr(10), &options.queries));
    } else if (absl::StartsWith(arg, "--seed=")) {
      VICINAL_CHECK(absl::SimpleAtoi(arg.substr(7), &options.seed));
    } else {
      sets.push_back(arg);
    }
  }
  for (const std::string& set : sets) {
    const absl::StatusOr<Dataset> data = LoadBuildData(set, options.queries);
    if (!data.ok()) {
      std::fprintf(stderr, "%s\n", data.status().ToString().c_str());
      return 1;
    }
    std::printf("%s: %zu x %zu, %zu queries, %zu threads\n", set.c_str(),
                data->base.num_rows, data->base.dim, data->queries.num_rows,
                options.threads);
    const std::vector<float> thresholds = Thresholds(*data, options.threads);
    BenchVicinal(*data, thresholds, options);
    if (options.peer) BenchPeer(*data, thresholds, options);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace vicinal::bench

int main(int argc, char** argv) { return vicinal::bench::Main(argc, argv); }
