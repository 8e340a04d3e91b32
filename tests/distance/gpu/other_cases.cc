// Scores, graphs and assignments; the life of segments; threads; and what the
// options of a GPU promise.
#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "src/base/random.h"
#include "src/base/types.h"
#include "src/distance/gpu/backend.h"
#include "tests/distance/gpu/cases.h"
#include "tests/distance/gpu/comparison.h"
#include "tests/distance/gpu/conformance.h"
#include "tests/distance/gpu/test_vectors.h"

namespace vicinal::backend_tests {
namespace {

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kInnerProduct,
                               Metric::kCosine};
constexpr ElementType kF32 = ElementType::kFloat32;
constexpr ElementType kF16 = ElementType::kFloat16;
constexpr ElementType kTypes[] = {kF32, kF16};

// Lists of rows for Score: about a third empty, some long, rows repeated.
struct Lists {
  std::vector<uint32_t> offsets = {0};
  std::vector<RowId> rows;

  void Add(Random& random, size_t num_rows, size_t length) {
    for (size_t i = 0; i < length; ++i) {
      const bool again = !rows.empty() && random.Uniform(4) == 0;
      rows.push_back(again ? rows.back()
                           : static_cast<RowId>(random.Uniform(num_rows)));
    }
    offsets.push_back(static_cast<uint32_t>(rows.size()));
  }
};

std::string Scores(DistanceBackend& tested, DistanceBackend& reference,
                   uint64_t seed) {
  Random random(seed);
  for (const Metric metric : kMetrics) {
    for (const ElementType type : kTypes) {
      for (const size_t dim : {1, 31, 64, 200, 1000, 1536}) {
        const size_t num_rows = 1 + random.Uniform(900);
        const Vectors rows(num_rows, dim, type, NoiseFill(random),
                           random.Uniform(3));
        Comparison comparison(tested, reference);
        VICINAL_CHECK_CASE(comparison.Load(rows, metric));
        for (const size_t num_queries : {1, 9, 100}) {
          const Vectors queries(num_queries, dim, type, NoiseFill(random));
          Lists lists;
          for (size_t i = 0; i < num_queries; ++i) {
            const bool is_long = i == num_queries / 2;
            lists.Add(random, num_rows,
                      is_long ? 2500 : random.Uniform(3) * random.Uniform(80));
          }
          VICINAL_CHECK_CASE(
              comparison.Score(queries, lists.offsets, lists.rows));
        }
      }
    }
  }
  return "";
}

std::string EmptyScores(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  const Vectors rows(100, 20, kF32, NoiseFill(random));
  Comparison comparison(tested, reference);
  VICINAL_CHECK_CASE(comparison.Load(rows, Metric::kL2));
  for (const size_t num_queries : {0, 1, 10}) {
    const Vectors queries(num_queries, 20, kF32, NoiseFill(random));
    const std::vector<uint32_t> offsets(num_queries + 1, 0);
    VICINAL_CHECK_CASE(comparison.Score(queries, offsets, {}));
  }
  // Lists that are empty but the first, one between, or the last.
  const Vectors queries(10, 20, kF32, NoiseFill(random));
  for (const size_t filled : {0, 4, 9}) {
    Lists lists;
    for (size_t i = 0; i < 10; ++i) {
      lists.Add(random, 100, i == filled ? 33 : 0);
    }
    VICINAL_CHECK_CASE(comparison.Score(queries, lists.offsets, lists.rows));
  }
  return "";
}

std::string ScoresOfExtremes(DistanceBackend& tested,
                             DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  constexpr float kChoices[] = {0.0f,    -0.0f,  1.0f,          1e-45f,
                                -1e-45f, 1e-30f, -1e-38f,       1e15f,
                                -1e15f,  1e30f,  3.4028234e38f, -3.4028234e38f};
  const Vectors::Fill fill = [&](size_t, std::span<float> out) {
    // Of few kinds in one vector, so that not all sums overflow.
    const uint64_t first = random.Uniform(std::size(kChoices));
    for (float& value : out) {
      value = kChoices[(first + random.Uniform(3)) % std::size(kChoices)];
    }
  };
  for (const Metric metric : kMetrics) {
    for (const ElementType type : kTypes) {
      for (const size_t dim : {3, 64, 130}) {
        const Vectors rows(500, dim, type, fill);
        const Vectors queries(20, dim, type, fill);
        Lists lists;
        for (size_t i = 0; i < 20; ++i) lists.Add(random, 500, 300);
        Comparison comparison(tested, reference);
        VICINAL_CHECK_CASE(comparison.Load(rows, metric));
        VICINAL_CHECK_CASE(
            comparison.Score(queries, lists.offsets, lists.rows));
      }
    }
  }
  return "";
}

std::string Graphs(DistanceBackend& tested, DistanceBackend& reference,
                   uint64_t seed) {
  Random random(seed);
  for (const Metric metric : kMetrics) {
    for (const ElementType type : kTypes) {
      for (const size_t num_rows : {1, 2, 64, 129, 1100}) {
        const size_t dim = 1 + random.Uniform(130);
        const Vectors rows(num_rows, dim, type,
                           num_rows == 129
                               ? NoiseFill(random)
                               : ClusterFill(random, num_rows, dim, 9),
                           random.Uniform(2));
        Comparison comparison(tested, reference);
        VICINAL_CHECK_CASE(comparison.Load(rows, metric));
        for (const size_t k : {1, 10, 64}) {
          VICINAL_CHECK_CASE(comparison.KnnGraph(k));
        }
      }
    }
  }
  const Vectors rows(1100, 24, kF32, NoiseFill(random));
  Comparison comparison(tested, reference);
  VICINAL_CHECK_CASE(comparison.Load(rows, Metric::kL2));
  return comparison.KnnGraph(kMaxBackendK - 1);
}

// A row is not its own neighbour, but one of the same vector is.
std::string GraphsOfDuplicates(DistanceBackend& tested,
                               DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  for (const Metric metric : kMetrics) {
    for (const size_t distinct : {1, 5, 300}) {
      const Vectors rows(700, 48, kF32, RepeatFill(random, distinct));
      Comparison comparison(tested, reference);
      VICINAL_CHECK_CASE(comparison.Load(rows, metric));
      for (const size_t k : {1, 10, 200}) {
        VICINAL_CHECK_CASE(comparison.KnnGraph(k));
      }
    }
  }
  return "";
}

std::string Links(DistanceBackend& tested, DistanceBackend& reference,
                  uint64_t seed) {
  Random random(seed);
  for (const size_t num_rows : {1, 2, 65, 300}) {
    const size_t dim = 1 + random.Uniform(200);
    const Vectors rows(num_rows, dim, kF32,
                       ClusterFill(random, num_rows, dim, 5),
                       random.Uniform(2));
    Comparison comparison(tested, reference);
    VICINAL_CHECK_CASE(comparison.Load(rows, Metric::kL2));
    VICINAL_CHECK_CASE(comparison.Links(1, {.max_links = 1}));
    VICINAL_CHECK_CASE(comparison.Links(10, {.max_links = 16, .share = 0.9f}));
    VICINAL_CHECK_CASE(comparison.Links(64, {.max_links = 8, .share = 0.9f}));
    VICINAL_CHECK_CASE(comparison.Links(65, {.max_links = 64, .share = 0}));
  }
  const Vectors copies(300, 30, kF32, RepeatFill(random, 40));
  Comparison comparison(tested, reference);
  VICINAL_CHECK_CASE(comparison.Load(copies, Metric::kL2));
  VICINAL_CHECK_CASE(comparison.Links(
      40, {.max_links = 16, .share = 0.9f, .max_duplicates = 4}));
  return comparison.Links(
      40, {.max_links = 16, .share = 1.5f, .max_duplicates = 0});
}

std::string LargeLinks(DistanceBackend& tested, DistanceBackend& reference,
                       uint64_t seed) {
  Random random(seed);
  const Vectors rows(20'000, 48, kF32, ClusterFill(random, 20'000, 48, 60));
  Comparison comparison(tested, reference);
  VICINAL_CHECK_CASE(comparison.Load(rows, Metric::kL2));
  return comparison.Links(64, {.max_links = 16, .share = 0.9f});
}

// Vectors that bf16 holds without an error, whose sums tensor cores do not: of
// row 0 much is below what they keep beside its first product.
std::string SumsOfTensorCores(DistanceBackend& tested,
                              DistanceBackend& reference, uint64_t) {
  constexpr size_t kDim = 768;
  const auto fill = [](float first, float second, float rest) {
    return [=](size_t index, std::span<float> out) {
      if (index > 1) return;
      std::fill(out.begin(), out.end(), rest);
      out[0] = first;
      out[1] = second;
    };
  };
  Vectors rows(2000, kDim, kF32, fill(1, 0, 0x1p-13f * 1.9921875f));
  std::vector<float> second(kDim, -0x1p-13f * 1.9921875f);
  second[0] = 1;
  second[1] = 0x1p-8f * 1.4609375f;
  rows.Set(1, second);
  const Vectors queries(129, kDim, kF32, [&](size_t, std::span<float> out) {
    fill(1, 0x1p-7f, 0x1p-13f)(0, out);
  });
  for (const Metric metric : kMetrics) {
    Comparison comparison(tested, reference);
    VICINAL_CHECK_CASE(comparison.Load(rows, metric));
    VICINAL_CHECK_CASE(comparison.Search(queries, 1));
    const Vectors one(1, kDim, kF32, [&](size_t, std::span<float> out) {
      fill(1, 0x1p-7f, 0x1p-13f)(0, out);
    });
    VICINAL_CHECK_CASE(comparison.Search(one, 1));
  }
  return "";
}

std::string LargeGraphs(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  for (const Metric metric : kMetrics) {
    const Vectors rows(30'000, 96, kF32, ClusterFill(random, 30'000, 96, 100));
    Comparison comparison(tested, reference);
    VICINAL_CHECK_CASE(comparison.Load(rows, metric));
    for (const size_t k : {32, 100}) {
      VICINAL_CHECK_CASE(comparison.KnnGraph(k));
    }
  }
  return "";
}

// More copies of each row than the first list of its candidates has room for.
std::string LargeGraphsOfDuplicates(DistanceBackend& tested,
                                    DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  const Vectors rows(20'000, 32, kF32, RepeatFill(random, 8));
  for (const Metric metric : kMetrics) {
    Comparison comparison(tested, reference);
    VICINAL_CHECK_CASE(comparison.Load(rows, metric));
    VICINAL_CHECK_CASE(comparison.KnnGraph(10));
  }
  return "";
}

std::string Assignments(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  for (const size_t num_centroids : {1, 2, 100, 257, 1000, 5000}) {
    for (const size_t dim : {1, 7, 64, 130}) {
      const size_t num_rows =
          std::min<size_t>(3'000'000 / (num_centroids * dim), 1500);
      const Vectors rows(1 + num_rows, dim, kF32, NoiseFill(random),
                         random.Uniform(3));
      const Vectors centroids(num_centroids, dim, kF32, NoiseFill(random));
      Comparison comparison(tested, reference);
      VICINAL_CHECK_CASE(
          comparison.Load(rows, kMetrics[random.Uniform(std::size(kMetrics))]));
      VICINAL_CHECK_CASE(comparison.Assign(centroids, true));
      VICINAL_CHECK_CASE(comparison.Assign(centroids, false));
    }
  }
  return "";
}

std::string AssignmentTies(DistanceBackend& tested, DistanceBackend& reference,
                           uint64_t seed) {
  Random random(seed);
  const size_t dim = 40;
  for (const size_t distinct : {1, 3, 70}) {
    const Vectors::Fill fill = RepeatFill(random, distinct);
    const Vectors rows(
        1000, dim, kF32, [&](size_t index, std::span<float> out) {
          index % 2 == 0 ? fill(index, out) : NoiseFill(random)(index, out);
        });
    const Vectors centroids(200, dim, kF32, fill);
    Comparison comparison(tested, reference);
    VICINAL_CHECK_CASE(comparison.Load(rows, Metric::kL2));
    VICINAL_CHECK_CASE(comparison.Assign(centroids, true));
  }
  // Distances that overflow are ties, too; so are those of near centroids
  // when rounded.
  for (const float scale : {1e25f, 1e-30f, 1.0f}) {
    const Vectors::Fill base = RepeatFill(random, 1);
    const Vectors::Fill near = [&](size_t index, std::span<float> out) {
      base(index, out);
      for (float& value : out) value = scale * (value + 1e-6f * Noise(random));
    };
    const Vectors rows(500, dim, kF32, near);
    const Vectors centroids(300, dim, kF32, near);
    Comparison comparison(tested, reference);
    VICINAL_CHECK_CASE(comparison.Load(rows, Metric::kInnerProduct));
    VICINAL_CHECK_CASE(comparison.Assign(centroids, true));
  }
  return "";
}

std::string LargeAssignments(DistanceBackend& tested,
                             DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  const Vectors rows(100'000, 128, kF32, ClusterFill(random, 100'000, 128, 50));
  const Vectors centroids(4096, 128, kF32, ClusterFill(random, 4096, 128, 50));
  Comparison comparison(tested, reference);
  VICINAL_CHECK_CASE(comparison.Load(rows, Metric::kCosine));
  return comparison.Assign(centroids, true);
}

// Threads that ask one segment for different things at once.
std::string ManyThreads(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  constexpr size_t kThreads = 8;
  constexpr size_t kDim = 96;
  const Vectors rows(3000, kDim, kF32, ClusterFill(random, 3000, kDim, 20));
  Comparison comparison(tested, reference);
  VICINAL_CHECK_CASE(comparison.Load(rows, Metric::kCosine));
  const auto ask = [&](size_t thread) -> std::string {
    Random own(seed + 1 + thread);
    for (size_t round = 0; round < 6; ++round) {
      const size_t num_queries = 1 + own.Uniform(20);
      const size_t k = 1 + own.Uniform(200);
      const Vectors queries(num_queries, kDim, kF32, NoiseFill(own));
      if (round % 3 == 2) {
        Lists lists;
        for (size_t i = 0; i < num_queries; ++i) lists.Add(own, 3000, 50);
        VICINAL_CHECK_CASE(
            comparison.Score(queries, lists.offsets, lists.rows));
      } else {
        const RowSet some = RowSet::Sample(own, 3000, 0.5);
        VICINAL_CHECK_CASE(
            comparison.Search(queries, k, thread % 2 == 0 ? nullptr : &some));
      }
    }
    return "";
  };
  return InThreads(kThreads, ask);
}

// Segments of rows that are written as they are loaded, and of some rows of
// these, in any order and some twice.
std::string WrittenRowsAndParts(DistanceBackend& tested,
                                DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  constexpr ElementType kBytes = ElementType::kInt8;
  for (const ElementType type : {kF32, kF16, kBytes}) {
    for (const size_t dim : {1, 7, 96, 771}) {
      for (const size_t num_rows : {0, 1, 300, 5000}) {
        const Metric metric = kMetrics[random.Uniform(3)];
        const Vectors rows(num_rows, dim, type, NoiseFill(random));
        const Vectors queries(9, dim, type, NoiseFill(random));
        Comparison written(tested, reference);
        VICINAL_CHECK_CASE(written.LoadWritten(rows, metric));
        VICINAL_CHECK_CASE(written.Search(queries, 10));
        std::vector<RowId> part(num_rows / 3);
        for (RowId& row : part) {
          row = static_cast<RowId>(random.Uniform(num_rows));
        }
        Vectors few(part.size(), dim, type, [](size_t, std::span<float>) {});
        for (size_t i = 0; i < part.size(); ++i) few.Copy(i, rows, part[i]);
        Comparison of_part(tested, reference);
        VICINAL_CHECK_CASE(
            of_part.LoadPart(written, part, few, kMetrics[random.Uniform(3)]));
        VICINAL_CHECK_CASE(of_part.Search(queries, 10));
        VICINAL_CHECK_CASE(written.Search(queries, 11));
      }
    }
  }
  return "";
}

// More than a backend is likely to have written at once.
std::string LargeWrittenRows(DistanceBackend& tested,
                             DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  const Vectors rows(30'000, 768, kF32, ClusterFill(random, 30'000, 768, 50));
  const Vectors queries(20, 768, kF32, NoiseFill(random));
  Comparison written(tested, reference);
  VICINAL_CHECK_CASE(written.LoadWritten(rows, Metric::kL2));
  return written.Search(queries, 10);
}

// Several segments, let go while others are asked.
std::string ManySegments(DistanceBackend& tested, DistanceBackend& reference,
                         uint64_t seed) {
  Random random(seed);
  const size_t before = tested.device_bytes();
  {
    const Vectors a(1000, 33, kF32, NoiseFill(random));
    const Vectors b(2000, 65, kF16, NoiseFill(random));
    const Vectors of_a(12, 33, kF32, NoiseFill(random));
    const Vectors of_b(3, 65, kF16, NoiseFill(random));
    Comparison with_a(tested, reference);
    VICINAL_CHECK_CASE(with_a.Load(a, Metric::kCosine));
    {
      Comparison with_b(tested, reference);
      VICINAL_CHECK_CASE(with_b.Load(b, Metric::kL2));
      for (int round = 0; round < 3; ++round) {
        VICINAL_CHECK_CASE(with_a.Search(of_a, 10));
        VICINAL_CHECK_CASE(with_b.Search(of_b, 20));
      }
    }
    VICINAL_CHECK_CASE(with_a.Search(of_a, 11));
    Comparison again(tested, reference);
    VICINAL_CHECK_CASE(again.Load(b, Metric::kInnerProduct));
    VICINAL_CHECK_CASE(again.Search(of_b, 10));
    VICINAL_CHECK_CASE(with_a.Search(of_a, 12));
  }
  const size_t after = tested.device_bytes();
  if (after != before) {
    return "holds " + std::to_string(after) + " bytes, " +
           std::to_string(before) + " before segments came and went";
  }
  return "";
}

// Segments come and go while others are searched.
std::string LoadsByManyThreads(DistanceBackend& tested,
                               DistanceBackend& reference, uint64_t seed) {
  constexpr size_t kThreads = 6;
  constexpr size_t kRows = 3000;
  const auto ask = [&](size_t thread) -> std::string {
    Random own(seed + 1 + thread);
    for (size_t round = 0; round < 5; ++round) {
      const size_t dim = 1 + own.Uniform(200);
      const Vectors rows(kRows, dim, kF32, NoiseFill(own));
      const Vectors queries(1 + own.Uniform(20), dim, kF32, NoiseFill(own));
      Comparison loaded(tested, reference), written(tested, reference),
          part(tested, reference);
      VICINAL_CHECK_CASE(loaded.Load(rows, Metric::kCosine));
      VICINAL_CHECK_CASE(written.LoadWritten(rows, Metric::kL2));
      std::vector<RowId> some;
      for (RowId row = 0; row < kRows; row += 1 + own.Uniform(5)) {
        some.push_back(row);
      }
      Vectors few(some.size(), dim, kF32, [](size_t, std::span<float>) {});
      for (size_t i = 0; i < some.size(); ++i) few.Copy(i, rows, some[i]);
      VICINAL_CHECK_CASE(
          part.LoadPart(written, some, few, Metric::kInnerProduct));
      for (const Comparison* comparison : {&loaded, &written, &part}) {
        VICINAL_CHECK_CASE(comparison->Search(queries, 20));
      }
    }
    return "";
  };
  return InThreads(kThreads, ask);
}

constexpr ConformanceCase kCases[] = {
    {"scores", Scores},
    {"empty_scores", EmptyScores},
    {"scores_of_extremes", ScoresOfExtremes},
    {"graphs", Graphs},
    {"graphs_of_duplicates", GraphsOfDuplicates},
    {"links", Links},
    {"assignments", Assignments},
    {"assignment_ties", AssignmentTies},
    {"many_threads", ManyThreads},
    {"loads_by_many_threads", LoadsByManyThreads},
    {"written_rows_and_parts", WrittenRowsAndParts},
    {"many_segments", ManySegments},
    {"sums_of_tensor_cores", SumsOfTensorCores},
    {"large_written_rows", LargeWrittenRows, true},
    {"large_graphs", LargeGraphs, true},
    {"large_links", LargeLinks, true},
    {"large_graphs_of_duplicates", LargeGraphsOfDuplicates, true},
    {"large_assignments", LargeAssignments, true},
};

std::string Wrong(const char* what, BackendStatus status) {
  return std::string(what) + " answers " + BackendStatusName(status);
}

std::string NoSuchDevice(int, uint64_t) {
  for (const int device : {-1, CountGpus(), INT_MAX}) {
    std::unique_ptr<DistanceBackend> backend;
    const BackendStatus status = MakeGpuBackend({.device = device}, &backend);
    if (status != BackendStatus::kUnsupported || backend != nullptr) {
      return Wrong("a device that is not there", status);
    }
  }
  return "";
}

std::string WorkspaceOverBudget(int device, uint64_t) {
  std::unique_ptr<DistanceBackend> backend;
  BackendStatus status = MakeGpuBackend({.device = device,
                                         .memory_budget = size_t{16} << 20,
                                         .workspace_bytes = size_t{256} << 20},
                                        &backend);
  if (status != BackendStatus::kNoMemory || backend != nullptr) {
    return Wrong("a workspace over the budget", status);
  }
  status = MakeGpuBackend(
      {.device = device, .workspace_bytes = size_t{1} << 50}, &backend);
  if (status != BackendStatus::kNoMemory || backend != nullptr) {
    return Wrong("a workspace larger than the device", status);
  }
  return "";
}

// A segment over the budget is refused; others stay, and it fits when they go.
std::string SegmentsOverBudget(int device, uint64_t seed) {
  Random random(seed);
  constexpr size_t kWorkspace = size_t{256} << 20;
  std::unique_ptr<DistanceBackend> backend;
  const BackendStatus status =
      MakeGpuBackend({.device = device,
                      .memory_budget = kWorkspace + (size_t{64} << 20),
                      .workspace_bytes = kWorkspace},
                     &backend);
  if (status != BackendStatus::kOk) return Wrong("a budget that fits", status);
  const std::unique_ptr<DistanceBackend> cpu = MakeCpuBackend(4);
  // 38 MB as f32 alone, so that one fits and two do not.
  const Vectors first(75'000, 128, kF32, NoiseFill(random));
  const Vectors second(75'000, 128, kF32, NoiseFill(random));
  const Vectors small(1000, 128, kF32, NoiseFill(random));
  const Vectors queries(20, 128, kF32, NoiseFill(random));
  std::optional<Comparison> with_first(std::in_place, *backend, *cpu);
  VICINAL_CHECK_CASE(with_first->Load(first, Metric::kL2));
  Comparison with_second(*backend, *cpu);
  for (int attempt = 0; attempt < 20; ++attempt) {
    const std::string refused = with_second.Load(second, Metric::kL2);
    if (!refused.ends_with("no memory")) {
      return "a second segment: " + (refused.empty() ? "loaded" : refused);
    }
  }
  Comparison with_small(*backend, *cpu);
  VICINAL_CHECK_CASE(with_small.Load(small, Metric::kCosine));
  VICINAL_CHECK_CASE(with_first->Search(queries, 10));
  VICINAL_CHECK_CASE(with_small.Search(queries, 10));
  with_first.reset();
  VICINAL_CHECK_CASE(with_second.Load(second, Metric::kL2));
  return with_second.Search(queries, 10);
}

// Backends come and go; what they held returns to the device.
std::string ManyBackends(int device, uint64_t seed) {
  Random random(seed);
  const std::unique_ptr<DistanceBackend> cpu = MakeCpuBackend(4);
  const Vectors rows(2000, 64, kF32, NoiseFill(random));
  const Vectors queries(10, 64, kF32, NoiseFill(random));
  for (int round = 0; round < 30; ++round) {
    // 120 GiB in all, if nothing was freed.
    std::unique_ptr<DistanceBackend> backend;
    const BackendStatus status = MakeGpuBackend(
        {.device = device, .workspace_bytes = size_t{4} << 30}, &backend);
    if (status != BackendStatus::kOk) return Wrong("one more", status);
    Comparison comparison(*backend, *cpu);
    VICINAL_CHECK_CASE(comparison.Load(rows, Metric::kL2));
    VICINAL_CHECK_CASE(comparison.Search(queries, 10));
  }
  return "";
}

constexpr GpuCase kGpuCases[] = {
    {"no_such_device", NoSuchDevice},
    {"workspace_over_budget", WorkspaceOverBudget},
    {"segments_over_budget", SegmentsOverBudget},
    {"many_backends", ManyBackends},
};

}  // namespace

std::span<const ConformanceCase> OtherCases() { return kCases; }

std::span<const GpuCase> GpuCases() { return kGpuCases; }

}  // namespace vicinal::backend_tests
