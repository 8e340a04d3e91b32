// Measures the GPU backend on clustered unit vectors: exact searches of many
// sizes, each checked against a comparison with every row, beside the floor
// that the bytes set. Prints a table; writes JSON to the file named first.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bench/gpu/bench.cuh"
#include "src/distance/gpu/gpu_backend.h"

namespace vicinal {
namespace {

__global__ void GenerateKernel(float* out, size_t n, uint32_t dim,
                               uint64_t seed) {
  const size_t row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  const uint32_t lane = threadIdx.x % 32;
  if (row >= n) return;
  const uint64_t centre = CentreOf(row, seed);
  float squares = 0;
  for (uint32_t i = lane; i < dim; i += 32) {
    const float x = Normal(centre * 8192 + i + (1ull << 60)) +
                    Normal((row * 8192 + i) ^ seed << 44);
    out[row * dim + i] = x;
    squares += x * x;
  }
  for (int half = 16; half > 0; half /= 2) {
    squares += __shfl_xor_sync(~0u, squares, half);
  }
  const float scale = rsqrtf(squares);
  for (uint32_t i = lane; i < dim; i += 32) out[row * dim + i] *= scale;
}

__global__ void ReadAll(const uint4* from, size_t n, uint32_t* out) {
  uint32_t sum = 0;
  const size_t stride = size_t{gridDim.x} * blockDim.x;
  size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + 7 * stride < n; i += 8 * stride) {
    uint4 values[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) values[j] = __ldcs(from + i + j * stride);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum ^= values[j].x ^ values[j].w;
  }
  for (; i < n; i += stride) sum ^= from[i].x;
  if (sum == 0x12345678) *out = sum;
}

double ReadBandwidth() {
  const size_t bytes = size_t{4} << 30;
  void* data;
  uint32_t* out;
  CHECK_CUDA(cudaMalloc(&data, bytes));
  CHECK_CUDA(cudaMalloc(&out, 4));
  CHECK_CUDA(cudaMemset(data, 1, bytes));
  const double seconds = MedianSeconds(10, [&] {
    ReadAll<<<132 * 8, 256>>>(static_cast<uint4*>(data), bytes / 16, out);
    CHECK_CUDA(cudaDeviceSynchronize());
  });
  CHECK_CUDA(cudaFree(data));
  CHECK_CUDA(cudaFree(out));
  return bytes / seconds;
}

std::string json;

struct Sizes {
  size_t n;
  uint32_t dim;
  Metric metric;
};

void RunSizes(const Sizes& sizes, double bandwidth, const std::string& only) {
  // Those make their own data.
  for (const char* other : {"kmeans", "assign", "covariance", "rotate"}) {
    if (only == other) return;
  }
  if (only.starts_with("maxsim")) return;  // whose data takes no time
  GpuOptions options;
  options.workspace_bytes = size_t{4} << 30;
  std::unique_ptr<gpu::GpuBackend> backend;
  CheckStatus(gpu::GpuBackend::Make(options, &backend), "make");
  const size_t n = sizes.n;
  const uint32_t dim = sizes.dim;
  const size_t most_queries = 10240;
  std::vector<float> host(n * dim);
  float* device;
  CHECK_CUDA(cudaMalloc(&device, host.size() * 4));
  Generate(device, n, dim, 1);
  CHECK_CUDA(
      cudaMemcpy(host.data(), device, host.size() * 4, cudaMemcpyDeviceToHost));
  CHECK_CUDA(cudaFree(device));
  float* queries;
  CHECK_CUDA(cudaMalloc(&queries, most_queries * dim * 4));
  Generate(queries, most_queries, dim, 2);
  CHECK_CUDA(cudaDeviceSynchronize());
  SegmentRows segment;
  segment.rows = {reinterpret_cast<const std::byte*>(host.data()), n, dim,
                  dim * 4, ElementType::kFloat32};
  segment.metric = sizes.metric;
  std::shared_ptr<const LoadedSegment> loaded;
  const double begin = Now();
  CheckStatus(backend->Load(segment, &loaded), "load");
  const std::string prefix = std::to_string(n / 1000) + "k x " +
                             std::to_string(dim) +
                             (sizes.metric == Metric::kL2 ? " l2" : " cos");
  Report(prefix + " load s", Now() - begin, "s");

  struct Run {
    size_t batch;
    size_t k;
  };
  const Run runs[] = {{1, 10},     {1, 100},     {8, 10},     {32, 10},
                      {64, 10},    {1024, 10},   {1024, 100}, {10240, 10},
                      {10240, 64}, {10240, 100}, {4096, 1000}};
  Neighbor* out;
  CHECK_CUDA(cudaMalloc(&out, most_queries * 1024 * sizeof(Neighbor)));
  for (const Run& run : runs) {
    const std::string name = prefix + " batch " + std::to_string(run.batch) +
                             " k " + std::to_string(run.k);
    if (!only.empty() && name.find(only) == std::string::npos) continue;
    BackendReport report;
    CheckStatus(backend->SearchOnDevice(*loaded, queries, run.batch, run.k, out,
                                        &report),
                name.c_str());
    const double seconds = MedianSeconds(run.batch <= 64 ? 30 : 5, [&] {
      CheckStatus(backend->SearchOnDevice(*loaded, queries, run.batch, run.k,
                                          out, nullptr),
                  name.c_str());
    });
    // Against a comparison of every row, by the same canonical kernels.
    const size_t checked = std::min<size_t>(run.batch, 16);
    std::vector<Neighbor> got(run.k);
    std::vector<Neighbor> want(run.k);
    size_t right = 0;
    for (size_t i = 0; i < checked; ++i) {
      const size_t q = i * run.batch / checked;
      CHECK_CUDA(cudaMemcpy(got.data(), out + q * run.k,
                            run.k * sizeof(Neighbor), cudaMemcpyDeviceToHost));
      CheckStatus(
          backend->SearchAll(*loaded, queries + q * dim, run.k, want.data()),
          "all");
      if (std::memcmp(got.data(), want.data(), run.k * sizeof(Neighbor)) == 0) {
        ++right;
      }
    }
    const double flops = 2.0 * n * dim * run.batch / seconds;
    std::printf(
        "%-36s %9.4f ms %10.0f q/s %6.1f TFLOP/s %5.2f of stream  cand %.0f "
        "again %u all %u  exact %zu/%zu\n",
        name.c_str(), seconds * 1e3, run.batch / seconds, flops * 1e-12,
        n * double(dim) * 2 / bandwidth / seconds,
        double(report.candidates) / run.batch, report.repeated,
        report.fallbacks, right, checked);
    std::fflush(stdout);
    json += (json.empty() ? "{\n  \"" : ",\n  \"") + name +
            " ms\": " + std::to_string(seconds * 1e3);
    if (right != checked) std::printf("NOT EXACT\n");
  }
  CHECK_CUDA(cudaFree(out));
  CHECK_CUDA(cudaFree(queries));
  if (only.empty() || only == "graph") {
    const size_t k = 64;
    std::vector<Neighbor> graph(n * k);
    const double start = Now();
    BackendReport report;
    CheckStatus(backend->KnnGraph(*loaded, k, graph.data(), &report), "graph");
    const double seconds = Now() - start;
    Report(prefix + " 64-NN graph s", seconds, "s");
    std::printf("  %.1f TFLOP/s, again %u, all %u\n",
                2.0 * n * n * dim / seconds * 1e-12, report.repeated,
                report.fallbacks);
  }
}

}  // namespace

void Generate(float* out, size_t n, uint32_t dim, uint64_t seed) {
  GenerateKernel<<<(n + 7) / 8, 256>>>(out, n, dim, seed);
  CHECK_CUDA(cudaDeviceSynchronize());
}

void Report(const std::string& name, double value, const char* unit) {
  std::printf("%-44s %12.4g %s\n", name.c_str(), value, unit);
  std::fflush(stdout);
  json += (json.empty() ? "{\n  \"" : ",\n  \"") + name +
          "\": " + std::to_string(value);
}

}  // namespace vicinal

int main(int argc, char** argv) {
  using namespace vicinal;
  cudaDeviceProp properties;
  CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
  std::printf("%s, %d processors\n", properties.name,
              properties.multiProcessorCount);
  const std::string only = argc > 2 ? argv[2] : "";
  const double bandwidth = ReadBandwidth();
  Report("read-only stream TB/s", bandwidth * 1e-12, "TB/s");
  RunRates();
  RunMaxSim(bandwidth, only);
  RunSizes({1000000, 768, Metric::kCosine}, bandwidth, only);
  RunSizes({1000000, 128, Metric::kL2}, bandwidth, only);
  RunCodes(only);
  RunTraining(only);
  if (argc > 1) {
    std::FILE* file = std::fopen(argv[1], "w");
    if (file == nullptr) {
      std::perror(argv[1]);
      return 1;
    }
    std::fprintf(file, "%s\n}\n", json.c_str());
    std::fclose(file);
  }
  return 0;
}
