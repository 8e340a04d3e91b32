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
#include <tuple>
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

// One kind of documents in both backends.
struct Loaded {
  std::unique_ptr<DistanceBackend> gpu;
  std::unique_ptr<DistanceBackend> cpu;
  std::shared_ptr<const LoadedSegment> on_gpu;
  std::shared_ptr<const LoadedSegment> on_cpu;

  Loaded() : cpu(MakeCpuBackend(std::thread::hardware_concurrency())) {
    CheckStatus(MakeGpuBackend({}, &gpu), "make");
  }
};

// token_bytes: what has to be read once of a token, at least. ask(backend,
// documents, num_queries, lists, k, out, report) asks the first queries.
template <class Ask>
void RunSizes(const std::string& prefix, const Loaded& loaded,
              const std::vector<uint64_t>& offsets, double token_bytes,
              double bandwidth, const std::string& only, const Ask& ask) {
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
    DocumentLists lists;
    if (run.num_candidates > 0) lists = {list_offsets.data(), docs.data()};
    std::vector<Neighbor> got(run.num_queries * run.k);
    std::vector<Neighbor> want(run.num_queries * run.k);
    BackendReport report;
    const double seconds = MedianSeconds(50, [&] {
      CheckStatus(ask(*loaded.gpu, *loaded.on_gpu, run.num_queries, lists,
                      run.k, got.data(), &report),
                  name.c_str());
    });
    CheckStatus(ask(*loaded.cpu, *loaded.on_cpu, run.num_queries, lists, run.k,
                    want.data(), nullptr),
                "cpu");
    const bool exact = std::memcmp(got.data(), want.data(),
                                   got.size() * sizeof(Neighbor)) == 0;
    double num_tokens = 0;
    if (run.num_candidates == 0) num_tokens = offsets.back();
    for (const RowId doc : docs) num_tokens += offsets[doc + 1] - offsets[doc];
    const double bytes = num_tokens * token_bytes;
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

void RunDocuments(const std::string& prefix, const Data& data, ElementType type,
                  bool cosine, double bandwidth, const std::string& only) {
  Loaded loaded;
  const bool is_half = type == ElementType::kFloat16;
  const TokenDocuments documents = {
      is_half ? static_cast<const void*>(data.halves.data())
              : data.tokens.data(),
      data.offsets.data(),
      data.offsets.size() - 1,
      kDim,
      type,
      cosine};
  CheckStatus(loaded.gpu->LoadTokens(documents, &loaded.on_gpu), "load");
  CheckStatus(loaded.cpu->LoadTokens(documents, &loaded.on_cpu), "load");
  std::vector<uint32_t> query_offsets(kMaxQueries + 1);
  for (size_t q = 0; q <= kMaxQueries; ++q) {
    query_offsets[q] = static_cast<uint32_t>(q * kQueryTokens);
  }
  RunSizes(prefix, loaded, data.offsets, kDim * 2.0, bandwidth, only,
           [&](const DistanceBackend& backend, const LoadedSegment& in,
               size_t num_queries, const DocumentLists& lists, size_t k,
               Neighbor* out, BackendReport* report) {
             return backend.MaxSim(in,
                                   {data.queries.data(), query_offsets.data(),
                                    nullptr, num_queries},
                                   lists, k, out, report);
           });
}

// Records and queries as they come: what a kernel does does not depend on them.
void RunCodedDocuments(const std::string& prefix,
                       const std::vector<uint64_t>& offsets, int bits,
                       double bandwidth, const std::string& only) {
  Loaded loaded;
  Random random(11);
  TokenCodeForm form = {};
  form.padded_dim = kDim;
  form.bits = bits;
  form.has_centroids = bits == 2;
  form.record_bytes = 4 + (bits == 2 ? 1 : 0) + kDim * bits / 8;
  std::vector<uint8_t> records(offsets.back() * form.record_bytes);
  for (uint8_t& byte : records) byte = static_cast<uint8_t>(random.Next());
  for (size_t i = 0; i < offsets.back(); ++i) {
    const float scale = 0.001f + 0.001f * static_cast<float>(random.Uniform(8));
    std::memcpy(&records[i * form.record_bytes], &scale, sizeof(scale));
  }
  std::vector<int8_t> panels(kMaxQueries * kQueryTokens * kDim);
  for (int8_t& value : panels) {
    value = static_cast<int8_t>(int(random.Uniform(255)) - 127);
  }
  std::vector<int32_t> sums(kMaxQueries * kQueryTokens);
  for (size_t i = 0; i < sums.size(); ++i) {
    for (size_t t = 0; t < kDim; ++t) {
      sums[i] +=
          panels[(i / 16 * (kDim / 4) * 16 + i % 16) * 4 + t / 4 * 64 + t % 4];
    }
  }
  std::vector<float> table(bits == 2 ? 256 * kMaxQueries * kQueryTokens : 0);
  for (float& value : table) value = static_cast<float>(random.Gaussian());
  const std::vector<float> scales(kQueryTokens, 0.01f);
  std::vector<CodedTokenQuery> queries;
  for (size_t q = 0; q < kMaxQueries; ++q) {
    queries.push_back({kQueryTokens, &panels[q * kQueryTokens * kDim],
                       &sums[q * kQueryTokens],
                       table.empty() ? nullptr : &table[q * 256 * kQueryTokens],
                       scales.data(), 0});
  }
  const CodedTokenDocuments documents = {form, records.data(), offsets.data(),
                                         offsets.size() - 1};
  CheckStatus(loaded.gpu->LoadTokenCodes(documents, &loaded.on_gpu), "load");
  CheckStatus(loaded.cpu->LoadTokenCodes(documents, &loaded.on_cpu), "load");
  RunSizes(prefix, loaded, offsets, static_cast<double>(form.record_bytes),
           bandwidth, only,
           [&](const DistanceBackend& backend, const LoadedSegment& in,
               size_t num_queries, const DocumentLists& lists, size_t k,
               Neighbor* out, BackendReport* report) {
             return backend.MaxSimCodes(in, queries.data(), num_queries, lists,
                                        k, out, report);
           });
}

}  // namespace

void RunMaxSim(double bandwidth, const std::string& only) {
  if (!only.empty() && !only.starts_with("maxsim")) return;
  // Whether a row that begins so may be wanted.
  const auto wants = [&](const std::string& prefix) {
    return only.starts_with(prefix) || prefix.starts_with(only);
  };
  if (wants("maxsim 300")) {
    const Data uniform(std::vector<size_t>(kNumDocs, 300));
    for (const auto& [prefix, type, cosine] :
         {std::tuple("maxsim 300 f16", ElementType::kFloat16, false),
          {"maxsim 300 f16 cosine", ElementType::kFloat16, true},
          {"maxsim 300 f32 cosine", ElementType::kFloat32, true}}) {
      if (!wants(prefix)) continue;
      RunDocuments(prefix, uniform, type, cosine, bandwidth, only);
    }
  }
  Random random(5);
  std::vector<size_t> lengths(kNumDocs);
  for (size_t& length : lengths) length = 20 + random.Uniform(561);
  if (wants("maxsim ragged f16")) {
    RunDocuments("maxsim ragged f16", Data(lengths), ElementType::kFloat16,
                 false, bandwidth, only);
  }
  std::vector<uint64_t> offsets = {0};
  for (const size_t length : lengths) {
    offsets.push_back(offsets.back() + length);
  }
  for (const int bits : {8, 4, 2, 1}) {
    const std::string prefix =
        "maxsim codes ragged " + std::to_string(bits) + " bits";
    if (wants(prefix)) {
      RunCodedDocuments(prefix, offsets, bits, bandwidth, only);
    }
  }
}

}  // namespace vicinal
