// Measures training on the GPU backend, on clustered unit vectors: k-means with
// its products alone beside it and its inertia against that of rounds that
// assign exactly; assignments, second moments and rotations.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "bench/gpu/bench.cuh"
#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/tensor_maps.h"
#include "src/distance/gpu/train_kernels.h"

namespace vicinal {
namespace {

// Device memory that is freed.
template <class T>
struct Room {
  explicit Room(size_t count) {
    CHECK_CUDA(cudaMalloc(&data, count * sizeof(T)));
    CHECK_CUDA(cudaMemset(data, 0, count * sizeof(T)));
  }
  Room(const Room&) = delete;
  ~Room() { cudaFree(data); }
  T* data = nullptr;
};

struct Loaded {
  std::unique_ptr<gpu::GpuBackend> backend;
  std::shared_ptr<const LoadedSegment> segment;
  std::vector<float> host;
  size_t n;
  uint32_t dim;
  std::string name;

  const gpu::DeviceRows& rows() const {
    return static_cast<const gpu::GpuSegment&>(*segment).rows();
  }
};

Loaded Load(size_t n, uint32_t dim, Metric metric) {
  Loaded out;
  out.n = n;
  out.dim = dim;
  out.name = std::to_string(n / 1000) + "k x " + std::to_string(dim) +
             (metric == Metric::kL2 ? " l2" : " cos");
  GpuOptions options;
  options.workspace_bytes = size_t{4} << 30;
  CheckStatus(gpu::GpuBackend::Make(options, &out.backend), "make");
  out.host.resize(n * dim);
  {
    Room<float> device(n * dim);
    Generate(device.data, n, dim, 1);
    CHECK_CUDA(cudaMemcpy(out.host.data(), device.data, n * dim * 4,
                          cudaMemcpyDeviceToHost));
  }
  SegmentRows segment;
  segment.rows = {reinterpret_cast<const std::byte*>(out.host.data()), n, dim,
                  dim * sizeof(float), ElementType::kFloat32};
  segment.metric = metric;
  CheckStatus(out.backend->Load(segment, &out.segment), "load");
  return out;
}

std::vector<float> FirstCentroids(const Loaded& loaded, size_t num) {
  std::vector<float> out(num * loaded.dim);
  for (size_t i = 0; i < num; ++i) {
    std::copy_n(&loaded.host[i * loaded.n / num * loaded.dim], loaded.dim,
                &out[i * loaded.dim]);
  }
  return out;
}

// The products of one round alone.
double ProductSeconds(const Loaded& loaded, const std::vector<float>& first) {
  const gpu::DeviceRows& rows = loaded.rows();
  gpu::DeviceCentroids centroids;
  centroids.dim = loaded.dim;
  centroids.num = static_cast<uint32_t>(first.size() / loaded.dim);
  centroids.padded_dim = (loaded.dim + 31) / 32 * 32;
  Room<float> exact(first.size());
  Room<uint16_t> bf16(centroids.padded_rows() * centroids.padded_dim);
  Room<float> bias(centroids.padded_rows());
  Room<float> maxima(2);
  Room<float> measures(4 * loaded.n);
  Room<float> answers(3 * loaded.n);
  CHECK_CUDA(cudaMemcpy(exact.data, first.data(), first.size() * 4,
                        cudaMemcpyHostToDevice));
  centroids.exact = exact.data;
  centroids.bf16 = bf16.data;
  centroids.bias = bias.data;
  centroids.maxima = maxima.data;
  gpu::PointState state;
  if (rows.metric == Metric::kCosine) state.scale = measures.data;
  state.norm2 = measures.data + loaded.n;
  state.error = measures.data + 2 * loaded.n;
  state.nearest = reinterpret_cast<uint32_t*>(answers.data);
  state.best = answers.data + loaded.n;
  state.margin = answers.data + 2 * loaded.n;
  CHECK_CUDA(gpu::RoundCentroids(centroids, nullptr));
  const double measured = MedianSeconds(3, [&] {
    CHECK_CUDA(gpu::MeasurePoints(rows, state, maxima.data, nullptr));
    CHECK_CUDA(cudaDeviceSynchronize());
  });
  Report(loaded.name + " measure points ms", measured * 1e3, "ms");
  CHECK_CUDA(gpu::RoundCentroids(centroids, nullptr));
  gpu::TensorMaps maps;
  if (!gpu::MakeAssignMaps(rows, centroids, &maps)) {
    std::fprintf(stderr, "no tensor maps\n");
    std::exit(1);
  }
  cudaDeviceProp properties;
  CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
  const double seconds = MedianSeconds(9, [&] {
    CHECK_CUDA(gpu::AssignTiles(maps, centroids, state, rows.num_rows,
                                properties.multiProcessorCount, nullptr));
    CHECK_CUDA(cudaDeviceSynchronize());
  });
  Room<uint32_t> list(loaded.n);
  Room<uint32_t> count(1);
  CHECK_CUDA(gpu::ListUnsettled(centroids, state, rows.num_rows, list.data,
                                count.data, nullptr));
  uint32_t unsettled;
  CHECK_CUDA(cudaMemcpy(&unsettled, count.data, 4, cudaMemcpyDeviceToHost));
  Report(loaded.name + " points that scores do not settle %",
         100.0 * unsettled / loaded.n, "%");
  return seconds;
}

// Lloyd's rounds whose assignments are exact, and means f64.
double ExactInertia(const Loaded& loaded, std::vector<float> centroids,
                    size_t rounds) {
  const size_t d = loaded.dim;
  const size_t k = centroids.size() / d;
  std::vector<uint32_t> nearest(loaded.n);
  std::vector<float> distances(loaded.n);
  for (size_t round = 0;; ++round) {
    CheckStatus(loaded.backend->Assign(*loaded.segment, centroids.data(), k,
                                       nearest.data(), distances.data()),
                "assign");
    if (round == rounds) break;
    std::vector<double> sums(k * d);
    std::vector<size_t> counts(k);
    for (size_t i = 0; i < loaded.n; ++i) {
      ++counts[nearest[i]];
      double* const sum = &sums[nearest[i] * d];
      const float* const row = &loaded.host[i * d];
      for (size_t j = 0; j < d; ++j) sum[j] += row[j];
    }
    for (size_t c = 0; c < k; ++c) {
      for (size_t j = 0; j < d && counts[c] > 0; ++j) {
        centroids[c * d + j] = static_cast<float>(sums[c * d + j] / counts[c]);
      }
    }
  }
  return std::accumulate(distances.begin(), distances.end(), 0.0);
}

void RunKMeans(const Loaded& loaded, size_t k, size_t rounds) {
  const std::string name = loaded.name + " k " + std::to_string(k) + " ";
  const std::vector<float> first = FirstCentroids(loaded, k);
  const double flops = 2.0 * loaded.n * k * loaded.dim;
  const double products = ProductSeconds(loaded, first);
  Report(name + "products ms", products * 1e3, "ms");
  Report(name + "products TFLOP/s", flops / products * 1e-12, "TFLOP/s");
  std::vector<float> centroids;
  const double alone = MedianSeconds(3, [&] {
    centroids = first;
    CheckStatus(loaded.backend->KMeans(*loaded.segment, k, rounds,
                                       centroids.data(), nullptr, nullptr),
                "k-means");
  });
  Report(name + "k-means s", alone, "s");
  Report(name + "k-means TFLOP/s", rounds * flops / alone * 1e-12, "TFLOP/s");
  Report(name + "k-means share of products", rounds * products / alone, "");
  double inertia = 0;
  std::vector<uint32_t> nearest(loaded.n);
  const double whole = MedianSeconds(3, [&] {
    centroids = first;
    CheckStatus(
        loaded.backend->KMeans(*loaded.segment, k, rounds, centroids.data(),
                               nearest.data(), &inertia),
        "k-means");
  });
  Report(name + "k-means, assignment and inertia s", whole, "s");
  const double exact = ExactInertia(loaded, first, rounds);
  Report(name + "inertia", inertia, "");
  Report(name + "inertia over exact rounds %", 100 * (inertia / exact - 1),
         "%");
}

void RunAssign(const Loaded& loaded, size_t k) {
  const std::string name = loaded.name + " assign " + std::to_string(k) + " ";
  const std::vector<float> centroids = FirstCentroids(loaded, k);
  std::vector<uint32_t> nearest(loaded.n);
  std::vector<float> distances(loaded.n);
  const double seconds = MedianSeconds(3, [&] {
    CheckStatus(loaded.backend->Assign(*loaded.segment, centroids.data(), k,
                                       nearest.data(), distances.data()),
                "assign");
  });
  Report(name + "s", seconds, "s");
  Report(name + "TFLOP/s", 2.0 * loaded.n * k * loaded.dim / seconds * 1e-12,
         "TFLOP/s");
}

void RunCovariance(const Loaded& loaded) {
  std::vector<float> mean(loaded.dim);
  std::vector<float> out(size_t{loaded.dim} * loaded.dim);
  const double seconds = MedianSeconds(3, [&] {
    CheckStatus(
        loaded.backend->Covariance(*loaded.segment, mean.data(), out.data()),
        "covariance");
  });
  Report(loaded.name + " covariance s", seconds, "s");
  Report(loaded.name + " covariance TFLOP/s, of the half that is done",
         1.0 * loaded.n * loaded.dim * loaded.dim / seconds * 1e-12, "TFLOP/s");
}

void RunRotate(const Loaded& loaded) {
  const uint32_t d = loaded.dim;
  const auto part = static_cast<uint32_t>(std::min<size_t>(loaded.n, 1 << 19));
  Room<float> matrix(size_t{d} * d);
  Room<float> out(size_t{part} * d);
  Generate(matrix.data, d, d, 3);
  const double seconds = MedianSeconds(5, [&] {
    for (size_t first = 0; first < loaded.n; first += part) {
      const auto count =
          static_cast<uint32_t>(std::min<size_t>(part, loaded.n - first));
      CHECK_CUDA(gpu::RotateRows(loaded.rows(), matrix.data, d,
                                 static_cast<uint32_t>(first), count, out.data,
                                 nullptr));
    }
    CHECK_CUDA(cudaDeviceSynchronize());
  });
  Report(loaded.name + " rotate on the device s", seconds, "s");
  Report(loaded.name + " rotate TFLOP/s",
         2.0 * loaded.n * d * d / seconds * 1e-12, "TFLOP/s");
  std::vector<float> host_matrix(size_t{d} * d);
  CHECK_CUDA(cudaMemcpy(host_matrix.data(), matrix.data, host_matrix.size() * 4,
                        cudaMemcpyDeviceToHost));
  std::vector<float> host_out(loaded.n * d);
  const double whole = MedianSeconds(1, [&] {
    CheckStatus(loaded.backend->Rotate(*loaded.segment, host_matrix.data(), d,
                                       host_out.data()),
                "rotate");
  });
  Report(loaded.name + " rotate, into host memory s", whole, "s");
}

}  // namespace

void RunTraining(const std::string& only) {
  const auto wanted = [&](const char* name) {
    return std::string(name).find(only) != std::string::npos;
  };
  if (!wanted("kmeans") && !wanted("assign") && !wanted("covariance") &&
      !wanted("rotate")) {
    return;
  }
  struct Sizes {
    size_t n;
    uint32_t dim;
    Metric metric;
  };
  for (const Sizes& sizes : {Sizes{1000000, 768, Metric::kCosine},
                             Sizes{1000000, 128, Metric::kL2}}) {
    const Loaded loaded = Load(sizes.n, sizes.dim, sizes.metric);
    if (wanted("kmeans")) RunKMeans(loaded, 4096, 10);
    if (wanted("assign")) {
      for (const size_t k : {256, 4096}) RunAssign(loaded, k);
    }
    if (wanted("covariance")) RunCovariance(loaded);
    if (wanted("rotate")) RunRotate(loaded);
  }
}

}  // namespace vicinal
