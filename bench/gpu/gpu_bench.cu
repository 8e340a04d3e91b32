// Measures the GPU backend on clustered unit vectors: exact searches of many
// sizes, each checked against a comparison with every row, beside the floor
// that the bytes set. Prints a table; writes JSON to the file named first.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cmath>
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

// Elements of unit vectors as int8, four standard deviations as 127.
__global__ void ToBytes(const float* from, size_t n, float scale, int8_t* to) {
  const size_t i = size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) {
    to[i] = static_cast<int8_t>(
        rintf(fminf(fmaxf(from[i] * scale, -127.0f), 127.0f)));
  }
}

// n vectors on the device.
std::byte* GenerateElements(size_t n, uint32_t dim, ElementType type,
                            uint64_t seed) {
  float* floats;
  CHECK_CUDA(cudaMalloc(&floats, n * dim * 4));
  Generate(floats, n, dim, seed);
  if (type == ElementType::kFloat32) {
    return reinterpret_cast<std::byte*>(floats);
  }
  int8_t* bytes;
  CHECK_CUDA(cudaMalloc(&bytes, n * dim));
  ToBytes<<<(n * dim + 255) / 256, 256>>>(
      floats, n * dim, 127 * std::sqrt(float(dim)) / 4, bytes);
  CHECK_CUDA(cudaDeviceSynchronize());
  CHECK_CUDA(cudaFree(floats));
  return reinterpret_cast<std::byte*>(bytes);
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
  ElementType type = ElementType::kFloat32;  // or int8

  std::string name() const {
    return std::to_string(n / 1000) + "k x " + std::to_string(dim) +
           (metric == Metric::kL2 ? " l2" : " cos") +
           (type == ElementType::kInt8 ? " int8" : "");
  }
};

// Searches of one partition of `share` of the rows: as ranges, as bits, and of
// many partitions by a query each; from the host and back.
void RunRanges(const DistanceBackend& backend, const LoadedSegment& loaded,
               const std::vector<std::byte>& queries,
               const std::string& prefix) {
  constexpr size_t kK = 10;
  const size_t n = loaded.num_rows();
  for (const size_t share : {1000, 100, 10}) {
    const size_t size = n / share;
    std::vector<uint64_t> bits((n + 63) / 64);
    const size_t first = n / 3;
    for (size_t row = first; row < first + size; ++row) {
      bits[row / 64] |= uint64_t{1} << (row % 64);
    }
    for (const size_t batch : {1, 64, 1024}) {
      for (const bool is_shared : {true, false}) {
        if (!is_shared && batch == 1) continue;
        std::vector<uint32_t> offsets = {0};
        std::vector<RowRange> ranges;
        for (size_t q = 0; q < batch; ++q) {
          const size_t begin = is_shared ? first : q * 7919 % (n - size);
          ranges.push_back(
              {static_cast<RowId>(begin), static_cast<RowId>(begin + size)});
          offsets.push_back(static_cast<uint32_t>(ranges.size()));
        }
        const QueryBatch asked = {queries.data(), batch};
        const RangeLists lists = {offsets.data(), ranges.data()};
        std::vector<Neighbor> got(batch * kK);
        std::vector<Neighbor> want(batch * kK);
        const std::string name =
            prefix + " batch " + std::to_string(batch) +
            (is_shared ? " in one range of " : " each in a range of ") +
            std::to_string(size);
        const double seconds = MedianSeconds(batch == 1 ? 30 : 5, [&] {
          CheckStatus(backend.SearchRanges(loaded, asked, lists, kK, nullptr,
                                           got.data(), nullptr),
                      name.c_str());
        });
        Report(name + " ms", seconds * 1e3, "ms");
        if (!is_shared) continue;
        const double by_bits = MedianSeconds(batch == 1 ? 30 : 5, [&] {
          CheckStatus(backend.Search(loaded, asked, kK, bits.data(),
                                     want.data(), nullptr),
                      name.c_str());
        });
        Report(name + " as bits ms", by_bits * 1e3, "ms");
        if (std::memcmp(got.data(), want.data(),
                        got.size() * sizeof(Neighbor)) != 0) {
          std::printf("RANGES AND BITS DIFFER\n");
        }
      }
    }
  }
}

void RunSizes(const Sizes& sizes, double bandwidth, const std::string& only) {
  // Those make their own data.
  for (const char* other : {"kmeans", "assign", "covariance", "rotate"}) {
    if (only == other) return;
  }
  if (only.starts_with("maxsim")) return;  // whose data takes no time
  const bool is_byte = sizes.type == ElementType::kInt8;
  if (!only.empty() && is_byte != (only.find("int8") != std::string::npos)) {
    return;
  }
  GpuOptions options;
  options.workspace_bytes = size_t{4} << 30;
  std::unique_ptr<gpu::GpuBackend> backend;
  CheckStatus(gpu::GpuBackend::Make(options, &backend), "make");
  const size_t n = sizes.n;
  const uint32_t dim = sizes.dim;
  const size_t most_queries = 10240;
  const size_t row_bytes = dim * ElementSize(sizes.type);
  std::vector<std::byte> host(n * row_bytes);
  std::byte* const device = GenerateElements(n, dim, sizes.type, 1);
  CHECK_CUDA(
      cudaMemcpy(host.data(), device, host.size(), cudaMemcpyDeviceToHost));
  CHECK_CUDA(cudaFree(device));
  std::byte* const queries = GenerateElements(most_queries, dim, sizes.type, 2);
  SegmentRows segment;
  segment.rows = {host.data(), n, dim, row_bytes, sizes.type};
  segment.metric = sizes.metric;
  std::shared_ptr<const LoadedSegment> loaded;
  const double begin = Now();
  CheckStatus(backend->Load(segment, &loaded), "load");
  const std::string prefix = sizes.name();
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
      CheckStatus(backend->SearchAll(*loaded, queries + q * row_bytes, run.k,
                                     want.data()),
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
    if (run.batch > 64 || run.k != 10) continue;
    // As a server asks.
    std::vector<std::byte> asked(run.batch * row_bytes);
    CHECK_CUDA(cudaMemcpy(asked.data(), queries, asked.size(),
                          cudaMemcpyDeviceToHost));
    std::vector<Neighbor> found(run.batch * run.k);
    const double from_host = MedianSeconds(30, [&] {
      CheckStatus(backend->Search(*loaded, {asked.data(), run.batch}, run.k,
                                  nullptr, found.data(), nullptr),
                  name.c_str());
    });
    Report(name + " from the host ms", from_host * 1e3, "ms");
  }
  CHECK_CUDA(cudaFree(out));
  if (only.empty() || only == "ranges") {
    std::vector<std::byte> asked(1024 * row_bytes);
    CHECK_CUDA(cudaMemcpy(asked.data(), queries, asked.size(),
                          cudaMemcpyDeviceToHost));
    RunRanges(*backend, *loaded, asked, prefix);
  }
  CHECK_CUDA(cudaFree(queries));
  if ((only.empty() && sizes.type == ElementType::kFloat32) ||
      only == "graph") {
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
  RunSizes({1000000, 768, Metric::kCosine, ElementType::kInt8}, bandwidth,
           only);
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
