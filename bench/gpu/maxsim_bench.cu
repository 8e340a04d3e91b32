// Measures MaxSim on the GPU: documents of 300 tokens and of ragged lengths,
// each answer checked against the CPU's, beside the floor that the bytes of the
// documents set.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "bench/gpu/bench.cuh"
#include "src/base/random.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 128;
constexpr size_t kNumDocs = 5000;
constexpr size_t kMaxQueries = 16;
constexpr uint32_t kQueryTokens = 32;

void Normalize(float* token) {
  double norm2 = 0;
  for (size_t i = 0; i < kDim; ++i) norm2 += double{token[i]} * token[i];
  const auto scale = static_cast<float>(1 / std::sqrt(norm2));
  for (size_t i = 0; i < kDim; ++i) token[i] *= scale;
}

// Unit vectors in all directions, so that scores lie near each other; queries
// are tokens of one document and noise as long as they are.
struct Data {
  explicit Data(const std::vector<size_t>& lengths) : offsets(1) {
    for (const size_t length : lengths) {
      offsets.push_back(offsets.back() + length);
    }
    tokens.resize(offsets.back() * kDim);
    halves.resize(tokens.size());
    const size_t num_threads = std::thread::hardware_concurrency();
    std::vector<std::thread> threads;
    for (size_t t = 0; t < num_threads; ++t) {
      threads.emplace_back([&, t] {
        Random random(1000 + t);
        for (size_t i = t; i < offsets.back(); i += num_threads) {
          float* const token = &tokens[i * kDim];
          for (size_t j = 0; j < kDim; ++j) {
            token[j] = static_cast<float>(random.Gaussian());
          }
          Normalize(token);
          for (size_t j = 0; j < kDim; ++j) {
            halves[i * kDim + j] = __float2half_rn(token[j]);
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    Random random(7);
    for (size_t q = 0; q < kMaxQueries; ++q) {
      const size_t doc = random.Uniform(lengths.size());
      for (uint32_t i = 0; i < kQueryTokens; ++i) {
        const size_t token = offsets[doc] + random.Uniform(lengths[doc]);
        std::vector<float> mixed(kDim);
        for (size_t j = 0; j < kDim; ++j) {
          mixed[j] = tokens[token * kDim + j] +
                     static_cast<float>(random.Gaussian()) / std::sqrt(128.0f);
        }
        Normalize(mixed.data());
        queries.insert(queries.end(), mixed.begin(), mixed.end());
      }
    }
  }

  std::vector<uint64_t> offsets;
  std::vector<float> tokens;
  std::vector<__half> halves;
  std::vector<float> queries;
};

struct Run {
  size_t num_queries;
  size_t k;
  size_t num_candidates;  // of each query; 0: all documents
};

void RunDocuments(const std::string& prefix, const Data& data, ElementType type,
                  bool cosine, double bandwidth, const std::string& only) {
  std::unique_ptr<DistanceBackend> gpu;
  CheckStatus(MakeGpuBackend({}, &gpu), "make");
  const std::unique_ptr<DistanceBackend> cpu =
      MakeCpuBackend(std::thread::hardware_concurrency());
  const bool is_half = type == ElementType::kFloat16;
  const TokenDocuments documents = {
      is_half ? static_cast<const void*>(data.halves.data())
              : data.tokens.data(),
      data.offsets.data(),
      data.offsets.size() - 1,
      kDim,
      type,
      cosine};
  std::shared_ptr<const LoadedSegment> on_gpu;
  std::shared_ptr<const LoadedSegment> on_cpu;
  CheckStatus(gpu->LoadTokens(documents, &on_gpu), "load");
  CheckStatus(cpu->LoadTokens(documents, &on_cpu), "load");
  std::vector<uint32_t> query_offsets(kMaxQueries + 1);
  for (size_t q = 0; q <= kMaxQueries; ++q) {
    query_offsets[q] = static_cast<uint32_t>(q * kQueryTokens);
  }
  for (const Run& run : {Run{1, 10, 0},
                         {1, 100, 0},
                         {2, 10, 0},
                         {4, 10, 0},
                         {16, 10, 0},
                         {1, 10, 1000},
                         {1, 10, 100},
                         {1, 1, 1}}) {
    const std::string name =
        prefix + " batch " + std::to_string(run.num_queries) + " k " +
        std::to_string(run.k) + " of " +
        (run.num_candidates == 0 ? "all" : std::to_string(run.num_candidates));
    if (!only.empty() && name.find(only) == std::string::npos) continue;
    // Candidates that lie anywhere.
    std::vector<uint32_t> list_offsets = {0};
    std::vector<RowId> docs;
    Random random(3);
    for (size_t q = 0; q < run.num_queries; ++q) {
      std::vector<RowId> order(kNumDocs);
      std::iota(order.begin(), order.end(), 0);
      for (size_t i = 0; i < run.num_candidates; ++i) {
        std::swap(order[i], order[i + random.Uniform(kNumDocs - i)]);
      }
      docs.insert(docs.end(), order.begin(),
                  order.begin() + run.num_candidates);
      list_offsets.push_back(static_cast<uint32_t>(docs.size()));
    }
    const TokenQueries queries = {data.queries.data(), query_offsets.data(),
                                  nullptr, run.num_queries};
    DocumentLists lists;
    if (run.num_candidates > 0) lists = {list_offsets.data(), docs.data()};
    std::vector<Neighbor> got(run.num_queries * run.k);
    std::vector<Neighbor> want(run.num_queries * run.k);
    BackendReport report;
    const double seconds = MedianSeconds(50, [&] {
      CheckStatus(
          gpu->MaxSim(*on_gpu, queries, lists, run.k, got.data(), &report),
          name.c_str());
    });
    CheckStatus(
        cpu->MaxSim(*on_cpu, queries, lists, run.k, want.data(), nullptr),
        "cpu");
    const bool exact = std::memcmp(got.data(), want.data(),
                                   got.size() * sizeof(Neighbor)) == 0;
    // What has to be read once, at least: halves of all candidates.
    double bytes = 0;
    if (run.num_candidates == 0) {
      bytes = data.halves.size() * 2.0;
    } else {
      for (const RowId doc : docs) {
        bytes += (data.offsets[doc + 1] - data.offsets[doc]) * kDim * 2.0;
      }
    }
    std::printf(
        "%-40s %8.4f ms %7.0f GB/s %5.2f of stream  passes %u exact %.1f all "
        "%u  %s\n",
        name.c_str(), seconds * 1e3, bytes / seconds * 1e-9,
        bytes / seconds / bandwidth, report.rounds,
        double(report.candidates) / run.num_queries, report.fallbacks,
        exact ? "right" : "NOT EXACT");
    Report(name + " ms", seconds * 1e3, "ms");
  }
}

}  // namespace

void RunMaxSim(double bandwidth, const std::string& only) {
  if (!only.empty() && !only.starts_with("maxsim")) return;
  {
    const Data uniform(std::vector<size_t>(kNumDocs, 300));
    RunDocuments("maxsim 300 f16", uniform, ElementType::kFloat16, false,
                 bandwidth, only);
    RunDocuments("maxsim 300 f16 cosine", uniform, ElementType::kFloat16, true,
                 bandwidth, only);
    RunDocuments("maxsim 300 f32 cosine", uniform, ElementType::kFloat32, true,
                 bandwidth, only);
  }
  Random random(5);
  std::vector<size_t> lengths(kNumDocs);
  for (size_t& length : lengths) length = 20 + random.Uniform(561);
  RunDocuments("maxsim ragged f16", Data(lengths), ElementType::kFloat16, false,
               bandwidth, only);
}

}  // namespace vicinal
