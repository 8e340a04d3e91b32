// K-means, second moments and rotations. Only assignments have the same bits
// everywhere; of the others it is told how far off they may be.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/random.h"
#include "tests/distance/gpu/cases.h"
#include "tests/distance/gpu/comparison.h"
#include "tests/distance/gpu/test_vectors.h"

namespace vicinal::backend_tests {
namespace {

constexpr ElementType kF32 = ElementType::kFloat32;
constexpr Metric kMetrics[] = {Metric::kL2, Metric::kInnerProduct,
                               Metric::kCosine};
constexpr size_t kDims[] = {1, 7, 64, 96, 128, 200, 768};
constexpr size_t kCentroids[] = {1, 2, 37, 256, 300, 4096};

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", value);
  return text;
}

const float* Row(const Vectors& vectors, size_t i) {
  return reinterpret_cast<const float*>(vectors.view().row(i));
}

// What k-means answers.
struct Clusters {
  std::vector<float> centroids;
  std::vector<uint32_t> nearest;
  double inertia = -1;

  bool operator==(const Clusters& other) const {
    return centroids.size() == other.centroids.size() &&
           std::memcmp(centroids.data(), other.centroids.data(),
                       centroids.size() * sizeof(float)) == 0 &&
           nearest == other.nearest && inertia == other.inertia;
  }
};

// Clusters the rows of one segment by two backends.
class KMeansTest {
 public:
  // first_centroids: without gaps. Both are borrowed.
  KMeansTest(DistanceBackend& tested, DistanceBackend& reference,
             const Vectors& rows, Metric metric, const Vectors& first_centroids)
      : tested_(tested),
        reference_(reference),
        rows_(rows),
        metric_(metric),
        first_(first_centroids),
        context_("k-means, " + MetricName(metric) + ", " +
                 std::to_string(rows.num()) + " rows x " +
                 std::to_string(rows.dim()) + ", " +
                 std::to_string(first_centroids.num()) + " centroids: ") {}

  std::string Load() {
    const SegmentRows segment = {rows_.view(), metric_};
    if (tested_.Load(segment, &in_tested_) != BackendStatus::kOk ||
        reference_.Load(segment, &in_reference_) != BackendStatus::kOk) {
      return Wrong("not loaded");
    }
    return "";
  }

  // By the tested backend: that the answer is of the right form, and the best
  // of its kind that it can be.
  std::string Run(size_t rounds, Clusters* out) const {
    VICINAL_CHECK_CASE(Ask(tested_, *in_tested_, rounds, out));
    Clusters again;
    VICINAL_CHECK_CASE(Ask(tested_, *in_tested_, rounds, &again));
    if (!(again == *out)) return Wrong("does not repeat");
    std::vector<float> alone = FirstCentroids();
    if (tested_.KMeans(*in_tested_, first_.num(), rounds, alone.data(), nullptr,
                       nullptr) != BackendStatus::kOk ||
        alone != out->centroids) {
      return Wrong("centroids alone are others");
    }
    // Exactly the nearest of the centroids that it returns.
    std::vector<uint32_t> nearest(rows_.num());
    std::vector<float> distances(rows_.num());
    if (reference_.Assign(*in_reference_, out->centroids.data(), first_.num(),
                          nearest.data(),
                          distances.data()) != BackendStatus::kOk) {
      return Wrong("the reference does not assign");
    }
    if (nearest != out->nearest) return Wrong("assigns to others");
    double inertia = 0;
    for (const float distance : distances) inertia += distance;
    if (!(std::fabs(inertia - out->inertia) <= 1e-9 * inertia)) {
      return Wrong("inertia is " + Number(out->inertia) + ", not " +
                   Number(inertia));
    }
    return "";
  }

  // That inertia never grows, by more than what rounding may do, and that it
  // ends at most `over` (and, unless `one_sided`, at least as much under) that
  // of the reference.
  std::string Compare(size_t rounds, double over, bool one_sided) const {
    // Centroids of copies of one row are off it by some units in the last
    // place.
    double energy = 0;
    for (size_t i = 0; i < rows_.num(); ++i) {
      for (size_t dim = 0; dim < rows_.dim(); ++dim) {
        energy += double{Row(rows_, i)[dim]} * Row(rows_, i)[dim];
      }
    }
    const double rounding = 1e-12 * energy;
    double before = INFINITY;
    Clusters clusters;
    for (size_t round = 0; round <= rounds; ++round) {
      VICINAL_CHECK_CASE(Run(round, &clusters));
      if (!(clusters.inertia <= before * 1.001 + rounding)) {
        return Wrong("inertia grows from " + Number(before) + " to " +
                     Number(clusters.inertia) + " in round " +
                     std::to_string(round));
      }
      before = clusters.inertia;
    }
    Clusters other;
    VICINAL_CHECK_CASE(Ask(reference_, *in_reference_, rounds, &other));
    const double most = other.inertia * (1 + over) + rounding;
    const double least = one_sided ? 0 : other.inertia * (1 - over) - rounding;
    if (!(clusters.inertia <= most && clusters.inertia >= least)) {
      return Wrong("inertia is " + Number(clusters.inertia) + ", not " +
                   Number(other.inertia));
    }
    return "";
  }

  std::string Wrong(const std::string& problem) const {
    return context_ + problem;
  }

 private:
  std::vector<float> FirstCentroids() const {
    const float* const first = Row(first_, 0);
    return {first, first + first_.num() * first_.dim()};
  }

  std::string Ask(const DistanceBackend& backend, const LoadedSegment& segment,
                  size_t rounds, Clusters* out) const {
    out->centroids = FirstCentroids();
    out->nearest.assign(rows_.num(), 0xCDCDCDCD);
    out->inertia = -1;
    const BackendStatus status =
        backend.KMeans(segment, first_.num(), rounds, out->centroids.data(),
                       out->nearest.data(), &out->inertia);
    return status == BackendStatus::kOk
               ? ""
               : Wrong(std::string(backend.name()) + " answers " +
                       BackendStatusName(status));
  }

  DistanceBackend& tested_;
  DistanceBackend& reference_;
  const Vectors& rows_;
  const Metric metric_;
  const Vectors& first_;
  const std::string context_;
  std::shared_ptr<const LoadedSegment> in_tested_;
  std::shared_ptr<const LoadedSegment> in_reference_;
};

// num of the rows, spread over all.
Vectors Sample(const Vectors& rows, size_t num) {
  return Vectors(num, rows.dim(), kF32, [&](size_t i, std::span<float> out) {
    std::copy_n(Row(rows, i * rows.num() / num), rows.dim(), out.begin());
  });
}

Vectors::Fill Scaled(Vectors::Fill fill, float scale) {
  return [fill = std::move(fill), scale](size_t i, std::span<float> out) {
    fill(i, out);
    for (float& value : out) value *= scale;
  };
}

std::string AssignmentShapes(DistanceBackend& tested,
                             DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  for (const size_t dim : kDims) {
    for (const size_t num_centroids : kCentroids) {
      const size_t num_rows =
          std::clamp<size_t>(5'000'000 / (num_centroids * dim), 2, 700);
      // Rows of very different lengths, some of which are centroids.
      const Vectors rows(
          num_rows, dim, kF32,
          [&](size_t i, std::span<float> out) {
            const float scale = i % 3 == 0 ? 1.0f : i % 3 == 1 ? 30.0f : 1e-3f;
            for (float& value : out) value = scale * Noise(random);
          },
          random.Uniform(3));
      const Vectors centroids(
          num_centroids, dim, kF32, [&](size_t i, std::span<float> out) {
            if (i % 4 == 0) {
              std::copy_n(Row(rows, i % num_rows), dim, out.begin());
            } else {
              NoiseFill(random)(i, out);
            }
          });
      Comparison comparison(tested, reference);
      VICINAL_CHECK_CASE(
          comparison.Load(rows, kMetrics[random.Uniform(std::size(kMetrics))]));
      VICINAL_CHECK_CASE(comparison.Assign(centroids, true));
      VICINAL_CHECK_CASE(comparison.Assign(centroids, false));
    }
  }
  return "";
}

std::string KMeansShapes(DistanceBackend& tested, DistanceBackend& reference,
                         uint64_t seed) {
  Random random(seed);
  for (const size_t dim : kDims) {
    for (const size_t num_centroids : kCentroids) {
      // Minutes by the reference.
      if (num_centroids == 4096) continue;
      if (num_centroids == 300 && dim > 128) continue;
      const size_t num_rows =
          num_centroids +
          std::clamp<size_t>(1'000'000 / (num_centroids * dim), 1, 600);
      const Vectors rows(num_rows, dim, kF32,
                         ClusterFill(random, num_rows, dim, 20),
                         random.Uniform(3));
      const Vectors first = Sample(rows, num_centroids);
      KMeansTest test(tested, reference, rows,
                      kMetrics[random.Uniform(std::size(kMetrics))], first);
      VICINAL_CHECK_CASE(test.Load());
      // The fewer dimensions, the more points lie so near to two centroids that
      // 2^-8 of the lengths decides; in one (of unit vectors) all do.
      const double over = dim == 1 ? 0.5 : dim < 64 ? 0.05 : 0.01;
      VICINAL_CHECK_CASE(test.Compare(1, over, dim == 1));
    }
  }
  return "";
}

std::string KMeansOfClusters(DistanceBackend& tested,
                             DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  for (const Metric metric : kMetrics) {
    const float scale = metric == Metric::kL2 ? 1.0f : 5.0f;
    const Vectors rows(3000, 48, kF32,
                       Scaled(ClusterFill(random, 3000, 48, 40), scale));
    const Vectors first = Sample(rows, 40);
    KMeansTest test(tested, reference, rows, metric, first);
    VICINAL_CHECK_CASE(test.Load());
    VICINAL_CHECK_CASE(test.Compare(3, 1e-3, false));
  }
  return "";
}

std::string KMeansOfExtremes(DistanceBackend& tested,
                             DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  for (const float scale : {1e12f, 1e-12f}) {
    const Vectors rows(2000, 33, kF32,
                       Scaled(ClusterFill(random, 2000, 33, 20), scale));
    const Vectors first = Sample(rows, 20);
    KMeansTest test(tested, reference, rows, Metric::kL2, first);
    VICINAL_CHECK_CASE(test.Load());
    VICINAL_CHECK_CASE(test.Compare(3, 1e-3, false));
  }
  // Distances that overflow: any answer will do, or none.
  const Vectors rows(500, 20, kF32, NoiseFill(random, 1e25f));
  std::shared_ptr<const LoadedSegment> segment;
  if (tested.Load({rows.view(), Metric::kL2}, &segment) != BackendStatus::kOk) {
    return "not loaded";
  }
  std::vector<float> centroids(10 * 20, 1.0f);
  const BackendStatus status =
      tested.KMeans(*segment, 10, 2, centroids.data(), nullptr, nullptr);
  return status == BackendStatus::kOk || status == BackendStatus::kUnsupported
             ? ""
             : BackendStatusName(status);
}

// Each row is a centroid: it stays one.
std::string KMeansOfCentroids(DistanceBackend& tested,
                              DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  for (const Metric metric : kMetrics) {
    const Vectors rows(300, 64, kF32, NoiseFill(random));
    KMeansTest test(tested, reference, rows, metric, rows);
    VICINAL_CHECK_CASE(test.Load());
    Clusters clusters;
    VICINAL_CHECK_CASE(test.Run(3, &clusters));
    if (clusters.inertia != 0) {
      return test.Wrong("inertia " + Number(clusters.inertia));
    }
  }
  return "";
}

std::string KMeansWithEmptyClusters(DistanceBackend& tested,
                                    DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  const size_t dim = 30;
  const Vectors rows(3000, dim, kF32, ClusterFill(random, 3000, dim, 30));
  // Two of three are nowhere near, or copies of the same.
  const Vectors first(60, dim, kF32, [&](size_t i, std::span<float> out) {
    if (i % 3 == 0) {
      std::copy_n(Row(rows, i * 50), dim, out.begin());
    } else {
      std::fill(out.begin(), out.end(), i % 3 == 1 ? 1000.0f : 0.5f);
    }
  });
  KMeansTest test(tested, reference, rows, Metric::kL2, first);
  VICINAL_CHECK_CASE(test.Load());
  // Which rows are farthest is told by rounded vectors, too.
  VICINAL_CHECK_CASE(test.Compare(4, 0.5, true));
  Clusters clusters;
  VICINAL_CHECK_CASE(test.Run(1, &clusters));
  for (const float value : clusters.centroids) {
    if (value > 10) return test.Wrong("an empty cluster stays where it is");
  }
  // All rows are the same, or there are fewer of them than centroids.
  const Vectors same(700, dim, kF32, RepeatFill(random, 1));
  const Vectors few(7, dim, kF32, NoiseFill(random));
  const Vectors noise(9, dim, kF32, NoiseFill(random));
  for (const Vectors* some : {&same, &few}) {
    KMeansTest other(tested, reference, *some, Metric::kL2, noise);
    VICINAL_CHECK_CASE(other.Load());
    VICINAL_CHECK_CASE(other.Run(3, &clusters));
    if (!(clusters.inertia < 1e-6)) {
      return other.Wrong("inertia " + Number(clusters.inertia));
    }
  }
  return "";
}

std::string LargeKMeans(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  const size_t n = 100'000;
  const Vectors rows(n, 96, kF32, ClusterFill(random, n, 96, 300));
  const Vectors first = Sample(rows, 1000);
  KMeansTest test(tested, reference, rows, Metric::kL2, first);
  VICINAL_CHECK_CASE(test.Load());
  VICINAL_CHECK_CASE(test.Compare(5, 1e-3, false));
  const Vectors wide(20'000, 768, kF32, ClusterFill(random, 20'000, 768, 100));
  const Vectors many = Sample(wide, 4096);
  KMeansTest other(tested, reference, wide, Metric::kCosine, many);
  VICINAL_CHECK_CASE(other.Load());
  return other.Compare(2, 1e-3, false);
}

// f64 truth about rows, less their mean if there is one.
std::vector<double> TrueMoments(const Vectors& rows, const float* mean) {
  const size_t d = rows.dim();
  std::vector<double> sums(d * d);
  std::vector<double> x(d);
  for (size_t row = 0; row < rows.num(); ++row) {
    for (size_t i = 0; i < d; ++i) {
      x[i] = Row(rows, row)[i] - (mean == nullptr ? 0.0 : double{mean[i]});
    }
    for (size_t i = 0; i < d; ++i) {
      for (size_t j = i; j < d; ++j) sums[i * d + j] += x[i] * x[j];
    }
  }
  for (size_t i = 0; i < d; ++i) {
    for (size_t j = i; j < d; ++j) {
      sums[i * d + j] /= static_cast<double>(rows.num());
      sums[j * d + i] = sums[i * d + j];
    }
  }
  return sums;
}

std::string MeanProblem(const Vectors& rows, const std::vector<float>& mean) {
  for (size_t i = 0; i < rows.dim(); ++i) {
    double sum = 0;
    double size = 0;
    for (size_t row = 0; row < rows.num(); ++row) {
      sum += Row(rows, row)[i];
      size += std::fabs(Row(rows, row)[i]);
    }
    if (!(std::fabs(mean[i] * static_cast<double>(rows.num()) - sum) <=
          2e-5 * size)) {
      return "mean " + std::to_string(i) + " is " + Number(mean[i]);
    }
  }
  return "";
}

std::string CheckMoments(DistanceBackend& backend, const Vectors& rows,
                         bool with_mean) {
  const size_t d = rows.dim();
  const std::string context = "moments, " + std::to_string(rows.num()) +
                              " rows x " + std::to_string(d) + ": ";
  std::shared_ptr<const LoadedSegment> segment;
  if (backend.Load({rows.view(), Metric::kCosine}, &segment) !=
      BackendStatus::kOk) {
    return context + "not loaded";
  }
  std::vector<float> mean(d, NAN);
  std::vector<float> out(d * d, NAN);
  const BackendStatus status = backend.Covariance(
      *segment, with_mean ? mean.data() : nullptr, out.data());
  if (status != BackendStatus::kOk) return context + BackendStatusName(status);
  if (with_mean) {
    const std::string problem = MeanProblem(rows, mean);
    if (!problem.empty()) return context + problem;
  }
  const std::vector<double> truth =
      TrueMoments(rows, with_mean ? mean.data() : nullptr);
  for (size_t i = 0; i < d; ++i) {
    for (size_t j = 0; j < d; ++j) {
      const double got = out[i * d + j];
      const double want = truth[i * d + j];
      const double most = 4e-5 * std::sqrt(truth[i * d + i] * truth[j * d + j]);
      if (!(std::fabs(got - want) <= most) || got != out[j * d + i]) {
        return context + std::to_string(i) + ", " + std::to_string(j) + " is " +
               Number(got) + ", not " + Number(want);
      }
    }
  }
  return "";
}

std::string Moments(DistanceBackend& tested, DistanceBackend&, uint64_t seed) {
  Random random(seed);
  for (const size_t dim : kDims) {
    for (const size_t num_rows : {1, 2, 513, 1300}) {
      if (dim == 768 && num_rows == 1300) continue;
      // Around 3, so that the mean matters, in all sizes.
      const float scale = num_rows == 513 ? 1e-10f : 2.0f;
      const Vectors rows(
          num_rows, dim, kF32,
          [&](size_t, std::span<float> out) {
            for (float& value : out) value = scale * (3 + Noise(random));
          },
          random.Uniform(3));
      VICINAL_CHECK_CASE(CheckMoments(tested, rows, false));
      // The mean of one row leaves nothing.
      if (num_rows > 2) VICINAL_CHECK_CASE(CheckMoments(tested, rows, true));
    }
  }
  const Vectors none(0, 5, kF32, NoiseFill(random));
  std::shared_ptr<const LoadedSegment> segment;
  std::vector<float> mean(5, NAN);
  std::vector<float> out(25, NAN);
  if (tested.Load({none.view(), Metric::kL2}, &segment) != BackendStatus::kOk ||
      tested.Covariance(*segment, mean.data(), out.data()) !=
          BackendStatus::kOk) {
    return "no moments of no rows";
  }
  const auto is_zero = [](float value) { return value == 0; };
  return std::all_of(mean.begin(), mean.end(), is_zero) &&
                 std::all_of(out.begin(), out.end(), is_zero)
             ? ""
             : "moments of no rows";
}

std::string CheckRotation(DistanceBackend& backend, const Vectors& rows,
                          const Vectors& matrix) {
  const size_t d = rows.dim();
  const size_t m = matrix.num();
  const std::string context = "rotation, " + std::to_string(rows.num()) +
                              " rows x " + std::to_string(d) + " to " +
                              std::to_string(m) + ": ";
  std::shared_ptr<const LoadedSegment> segment;
  if (backend.Load({rows.view(), Metric::kInnerProduct}, &segment) !=
      BackendStatus::kOk) {
    return context + "not loaded";
  }
  std::vector<float> out(rows.num() * m + 8, NAN);
  const BackendStatus status =
      backend.Rotate(*segment, Row(matrix, 0), m, out.data());
  if (status != BackendStatus::kOk) return context + BackendStatusName(status);
  for (size_t i = 0; i < rows.num(); ++i) {
    for (size_t j = 0; j < m; ++j) {
      double sum = 0;
      double size = 0;
      for (size_t k = 0; k < d; ++k) {
        const double product = double{Row(rows, i)[k]} * Row(matrix, j)[k];
        sum += product;
        size += std::fabs(product);
      }
      if (!(std::fabs(out[i * m + j] - sum) <= (d + 1) * 0x1p-24 * size)) {
        return context + std::to_string(i) + ", " + std::to_string(j) + " is " +
               Number(out[i * m + j]) + ", not " + Number(sum);
      }
    }
  }
  for (size_t i = rows.num() * m; i < out.size(); ++i) {
    if (!std::isnan(out[i])) return context + "wrote beyond the end";
  }
  return "";
}

std::string Rotations(DistanceBackend& tested, DistanceBackend&,
                      uint64_t seed) {
  Random random(seed);
  for (const size_t dim : kDims) {
    for (const size_t num_out : {size_t{1}, size_t{5}, dim, size_t{200}}) {
      const size_t num_rows = dim * num_out > 100'000 ? 129 : 300;
      const Vectors rows(num_rows, dim, kF32, NoiseFill(random),
                         random.Uniform(3));
      const Vectors matrix(num_out, dim, kF32, NoiseFill(random, 0.1f));
      VICINAL_CHECK_CASE(CheckRotation(tested, rows, matrix));
    }
  }
  return "";
}

constexpr ConformanceCase kCases[] = {
    {"assignment_shapes", AssignmentShapes},
    {"kmeans_shapes", KMeansShapes},
    {"kmeans_of_clusters", KMeansOfClusters},
    {"kmeans_of_extremes", KMeansOfExtremes},
    {"kmeans_of_centroids", KMeansOfCentroids},
    {"kmeans_with_empty_clusters", KMeansWithEmptyClusters},
    {"moments", Moments},
    {"rotations", Rotations},
    {"large_kmeans", LargeKMeans, true},
};

}  // namespace

std::span<const ConformanceCase> TrainCases() { return kCases; }

}  // namespace vicinal::backend_tests
