// Searches by codes: all rows and lists of them, of one and of four bits, with
// and without the exact comparison of what was found; recall against the exact
// search of the same run.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "bench/gpu/bench.cuh"
#include "src/distance/gpu/gpu_backend.h"

namespace vicinal {
namespace {

constexpr size_t kRows = 1'000'000;
constexpr uint32_t kDim = 768;
constexpr size_t kMostQueries = 10'240;
constexpr size_t kK = 10;

CodeLayout LayoutOf(uint32_t bits) {
  CodeLayout layout;
  layout.num_segments = 1;
  layout.segments[0].bits = bits;
  layout.segments[0].num_dims = kDim;
  layout.rescale_is_f16 = false;
  layout.additive_offset = kDim * bits / 8;
  layout.record_bytes = (layout.additive_offset + 8 + 15) / 16 * 16;
  return layout;
}

// What codes of bits stand for: uniform, of least error for normal elements.
__host__ __device__ inline float StepOf(uint32_t bits) {
  return bits == 1 ? 1.0f : 0.3352f;
}
__host__ __device__ inline float CenterOf(uint32_t bits) {
  return 0.5f * ((1u << bits) - 1);
}

// Codes of rows - centre (0 where centres is null), a thread a row: RaBitQ
// without its rotation, which rows of independent elements do not need.
__global__ void Encode(const float* rows, const uint32_t* centre_of,
                       const float* centres, CodeLayout layout,
                       uint8_t* records) {
  const size_t row = size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row >= kRows) return;
  const float* const x = rows + row * kDim;
  const float* const c =
      centres == nullptr ? nullptr : centres + size_t{centre_of[row]} * kDim;
  const uint32_t bits = layout.segments[0].bits;
  float squares = 0;
  for (uint32_t i = 0; i < kDim; ++i) {
    const float r = x[i] - (c == nullptr ? 0 : c[i]);
    squares += r * r;
  }
  const float step = StepOf(bits) * sqrtf(squares / kDim);
  const float center = CenterOf(bits);
  uint8_t* const record = records + row * layout.record_bytes;
  const uint32_t plane = 8 * bits;
  float product = 0;
  for (uint32_t i = 0; i < kDim; ++i) {
    const float r = x[i] - (c == nullptr ? 0 : c[i]);
    const float code =
        fminf(fmaxf(floorf(r / step + center + 0.5f), 0), 2 * center);
    product += (code - center) * r;
    uint8_t* const byte = record + i / 64 * plane + i % 64 % plane;
    *byte |= static_cast<uint32_t>(code) << (bits * (i % 64 / plane));
  }
  *reinterpret_cast<float*>(record + layout.additive_offset) = 0;
  *reinterpret_cast<float*>(record + layout.additive_offset + 4) =
      squares / product;
}

__global__ void AddToCentres(const float* rows, const uint32_t* centre_of,
                             float* sums) {
  const size_t row = blockIdx.x;
  for (uint32_t i = threadIdx.x; i < kDim; i += blockDim.x) {
    atomicAdd(&sums[size_t{centre_of[row]} * kDim + i], rows[row * kDim + i]);
  }
}

template <class T>
std::vector<T> ToHost(const T* device, size_t count) {
  std::vector<T> host(count);
  CHECK_CUDA(cudaMemcpy(host.data(), device, count * sizeof(T),
                        cudaMemcpyDeviceToHost));
  return host;
}

// Unit vectors in the order of their centres, and queries of the same kind.
struct Data {
  std::vector<float> rows;
  std::vector<float> queries;
  std::vector<float> centres;  // means of the rows
  std::vector<uint32_t> offsets;
  std::vector<uint8_t> flat;       // records around 0, of one bit
  std::vector<uint8_t> around[2];  // around centres, of one and four bits
};

Data Make() {
  Data data;
  float* rows;
  CHECK_CUDA(cudaMalloc(&rows, kRows * kDim * sizeof(float)));
  Generate(rows, kRows, kDim, 1);
  const std::vector<float> unordered = ToHost(rows, kRows * kDim);
  std::vector<uint32_t> order(kRows);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [](uint32_t a, uint32_t b) {
    return CentreOf(a, 1) < CentreOf(b, 1);
  });
  data.rows.resize(kRows * kDim);
  std::vector<uint32_t> centre_of(kRows);
  data.offsets.assign(kNumCentres + 1, 0);
  for (size_t i = 0; i < kRows; ++i) {
    std::copy_n(&unordered[size_t{order[i]} * kDim], kDim,
                &data.rows[i * kDim]);
    centre_of[i] = CentreOf(order[i], 1);
    ++data.offsets[centre_of[i] + 1];
  }
  for (size_t i = 0; i < kNumCentres; ++i) {
    data.offsets[i + 1] += data.offsets[i];
  }
  CHECK_CUDA(cudaMemcpy(rows, data.rows.data(), kRows * kDim * sizeof(float),
                        cudaMemcpyHostToDevice));
  uint32_t* centres_of;
  float* sums;
  CHECK_CUDA(cudaMalloc(&centres_of, kRows * 4));
  CHECK_CUDA(cudaMalloc(&sums, kNumCentres * kDim * 4));
  CHECK_CUDA(cudaMemset(sums, 0, kNumCentres * kDim * 4));
  CHECK_CUDA(cudaMemcpy(centres_of, centre_of.data(), kRows * 4,
                        cudaMemcpyHostToDevice));
  AddToCentres<<<kRows, 256>>>(rows, centres_of, sums);
  data.centres = ToHost(sums, kNumCentres * kDim);
  for (size_t i = 0; i < kNumCentres; ++i) {
    const float count =
        static_cast<float>(data.offsets[i + 1] - data.offsets[i]);
    for (uint32_t j = 0; j < kDim; ++j) data.centres[i * kDim + j] /= count;
  }
  CHECK_CUDA(cudaMemcpy(sums, data.centres.data(), kNumCentres * kDim * 4,
                        cudaMemcpyHostToDevice));
  const auto encode = [&](uint32_t bits, const float* centres) {
    const CodeLayout layout = LayoutOf(bits);
    uint8_t* records;
    CHECK_CUDA(cudaMalloc(&records, kRows * layout.record_bytes));
    CHECK_CUDA(cudaMemset(records, 0, kRows * layout.record_bytes));
    Encode<<<(kRows + 127) / 128, 128>>>(rows, centres_of, centres, layout,
                                         records);
    std::vector<uint8_t> host = ToHost(records, kRows * layout.record_bytes);
    CHECK_CUDA(cudaFree(records));
    return host;
  };
  data.flat = encode(1, nullptr);
  data.around[0] = encode(1, sums);
  data.around[1] = encode(4, sums);
  Generate(rows, kMostQueries, kDim, 2);
  data.queries = ToHost(rows, kMostQueries * kDim);
  CHECK_CUDA(cudaFree(rows));
  CHECK_CUDA(cudaFree(centres_of));
  CHECK_CUDA(cudaFree(sums));
  return data;
}

// Queries as their values and factors.
struct CodedQueries {
  std::vector<int8_t> values;
  std::vector<CodeQuery> terms;
};

CodedQueries Prepare(const Data& data, uint32_t bits) {
  CodedQueries out;
  out.values.resize(kMostQueries * kDim);
  out.terms.resize(kMostQueries);
  const float limit = bits == 1 ? kOneBitLimit : 127;
  for (size_t q = 0; q < kMostQueries; ++q) {
    const float* const query = &data.queries[q * kDim];
    float largest = 0;
    for (uint32_t i = 0; i < kDim; ++i) {
      largest = std::max(largest, std::abs(query[i]));
    }
    int sum = 0;
    for (uint32_t i = 0; i < kDim; ++i) {
      const int value =
          static_cast<int>(std::lround(query[i] * limit / largest));
      out.values[q * kDim + i] = static_cast<int8_t>(value);
      sum += value;
    }
    CodeQuery& terms = out.terms[q];
    terms.scale[0] = -largest / limit;
    terms.offset[0] =
        CenterOf(bits) * static_cast<float>(sum) * largest / limit;
    terms.additive = 1;
    terms.additive_scale = 0;
  }
  return out;
}

double RecallOf(const std::vector<Neighbor>& found,
                const std::vector<Neighbor>& exact, size_t num_queries) {
  size_t hits = 0;
  for (size_t q = 0; q < num_queries; ++q) {
    for (size_t i = 0; i < kK; ++i) {
      for (size_t j = 0; j < kK; ++j) {
        hits += found[q * kK + i].row == exact[q * kK + j].row ? 1 : 0;
      }
    }
  }
  return static_cast<double>(hits) / static_cast<double>(num_queries * kK);
}

class CodeBench {
 public:
  CodeBench(const Data& data, const std::string& only)
      : data_(data), only_(only == "codes" ? "" : only) {
    GpuOptions options;
    options.workspace_bytes = size_t{4} << 30;
    CheckStatus(gpu::GpuBackend::Make(options, &backend_), "make");
    SegmentRows rows;
    rows.rows = {reinterpret_cast<const std::byte*>(data.rows.data()), kRows,
                 kDim, kDim * sizeof(float), ElementType::kFloat32};
    rows.metric = Metric::kCosine;
    CheckStatus(backend_->Load(rows, &rows_), "load");
    exact_.resize(kMostQueries * kK);
    const double seconds = MedianSeconds(3, [&] {
      CheckStatus(backend_->Search(*rows_, {data_.queries.data(), kMostQueries},
                                   kK, nullptr, exact_.data(), nullptr),
                  "exact");
    });
    exact_rate_ = kMostQueries / seconds;
    std::printf("exact search, queries from the host: %.0f q/s\n", exact_rate_);
  }

  void Flat() {
    Load(data_.flat, 1);
    const uint32_t offsets[2] = {0, kRows};
    const CodedQueries queries = Prepare(data_, 1);
    values_ = queries.values.data();
    std::vector<CodeProbe> probes;
    for (uint32_t q = 0; q < kMostQueries; ++q) {
      probes.push_back({q, 0, &queries.terms[q]});
    }
    CodeQuestion question;
    question.list_offsets = offsets;
    question.num_lists = 1;
    question.probes = probes.data();
    question.queries = data_.queries.data();
    question.query_bytes = kDim * sizeof(float);
    for (const size_t batch :
         {size_t{1}, size_t{8}, size_t{64}, size_t{1024}, kMostQueries}) {
      for (const size_t depth : {10, 64, 256}) {
        question.num_queries = question.num_probes = batch;
        question.k = question.depth = depth;
        if (batch > 64) question.k = kK;
        Ask("1 bit", question, 0);
      }
    }
    question.k = kK;
    for (const size_t depth : {128, 256, 512, 1024}) {
      question.depth = depth;
      question.rows = rows_.get();
      Ask("1 bit then exact", question, 0);
    }
  }

  void Lists(uint32_t bits) {
    Load(data_.around[bits == 1 ? 0 : 1], bits);
    const CodedQueries queries = Prepare(data_, bits);
    values_ = queries.values.data();
    SegmentRows centres;
    centres.rows = {reinterpret_cast<const std::byte*>(data_.centres.data()),
                    kNumCentres, kDim, kDim * sizeof(float),
                    ElementType::kFloat32};
    centres.metric = Metric::kInnerProduct;
    std::shared_ptr<const LoadedSegment> loaded;
    CheckStatus(backend_->Load(centres, &loaded), "centres");
    constexpr size_t kMostLists = 16;
    std::vector<Neighbor> nearest(kMostQueries * kMostLists);
    const double seconds = MedianSeconds(3, [&] {
      CheckStatus(
          backend_->Search(*loaded, {data_.queries.data(), kMostQueries},
                           kMostLists, nullptr, nearest.data(), nullptr),
          "lists");
    });
    std::printf("nearest lists of %zu queries: %.3f ms\n", kMostQueries,
                seconds * 1e3);
    for (const size_t num_lists : {size_t{1}, size_t{4}, kMostLists}) {
      std::vector<CodeQuery> terms(kMostQueries * num_lists);
      std::vector<CodeProbe> probes(terms.size());
      for (size_t i = 0; i < probes.size(); ++i) {
        const size_t q = i / num_lists;
        const Neighbor& list = nearest[q * kMostLists + i % num_lists];
        terms[i] = queries.terms[q];
        terms[i].additive = 1 + list.distance;
        probes[i] = {static_cast<uint32_t>(q), list.row, &terms[i]};
      }
      CodeQuestion question;
      question.list_offsets = data_.offsets.data();
      question.num_lists = kNumCentres;
      question.probes = probes.data();
      question.num_probes = probes.size();
      question.num_queries = kMostQueries;
      question.queries = data_.queries.data();
      question.query_bytes = kDim * sizeof(float);
      question.k = kK;
      for (const size_t depth : {16, 32, 64, 128, 256}) {
        question.depth = depth;
        question.rows = rows_.get();
        Ask(std::to_string(bits) + " bits, " + std::to_string(num_lists) +
                " lists then exact",
            question, seconds);
      }
    }
  }

 private:
  void Load(const std::vector<uint8_t>& records, uint32_t bits) {
    layout_ = LayoutOf(bits);
    codes_.reset();
    const double begin = Now();
    CheckStatus(
        backend_->LoadCodes(
            {&layout_, records.data(), layout_.record_bytes, kRows}, &codes_),
        "load codes");
    std::printf("codes of %u bits: loaded in %.3f s, %.3f GB\n", bits,
                Now() - begin,
                1e-9 * static_cast<double>(codes_->device_bytes()));
  }

  // more: seconds that a batch takes besides.
  void Ask(const std::string& what, CodeQuestion question, double more) {
    question.values = values_;
    question.value_bytes = kDim;
    const std::string name = "codes " + what + " batch " +
                             std::to_string(question.num_queries) + " depth " +
                             std::to_string(question.depth);
    if (name.find(only_) == std::string::npos) return;
    std::vector<Neighbor> found(question.num_queries * question.k);
    BackendReport report;
    const BackendStatus status =
        backend_->SearchCodes(*codes_, question, found.data(), &report);
    if (status != BackendStatus::kOk) {
      std::printf("%s: %s\n", name.c_str(), BackendStatusName(status));
      return;
    }
    const double seconds =
        more + MedianSeconds(question.num_queries <= 64 ? 30 : 7, [&] {
          backend_->SearchCodes(*codes_, question, found.data(), nullptr);
        });
    const double rate = static_cast<double>(question.num_queries) / seconds;
    std::string recall;
    if (question.rows != nullptr) {
      recall = " recall " +
               std::to_string(RecallOf(found, exact_, question.num_queries));
    }
    std::printf("%-58s %9.4f ms %10.0f q/s, %5.2fx exact, again %u%s\n",
                name.c_str(), seconds * 1e3, rate, rate / exact_rate_,
                report.repeated, recall.c_str());
    Report(name + " ms", seconds * 1e3, "ms");
  }

  const Data& data_;
  const std::string only_;
  std::unique_ptr<gpu::GpuBackend> backend_;
  std::shared_ptr<const LoadedSegment> rows_;
  std::shared_ptr<const LoadedSegment> codes_;
  CodeLayout layout_;
  const int8_t* values_ = nullptr;
  std::vector<Neighbor> exact_;
  double exact_rate_ = 0;
};

// Records of all rows from a basis, as quant/codec.h has them: four segments.
void RunEncoding(const std::string& only) {
  if (!only.empty() && only != "encode") return;
  float* rows;
  CHECK_CUDA(cudaMalloc(&rows, kRows * kDim * sizeof(float)));
  Generate(rows, kRows, kDim, 1);
  const std::vector<float> host = ToHost(rows, kRows * kDim);
  Generate(rows, kDim, kDim, 3);
  const std::vector<float> basis = ToHost(rows, size_t{kDim} * kDim);
  CHECK_CUDA(cudaFree(rows));
  const std::vector<float> mean(kDim, 0.001f);
  std::unique_ptr<DistanceBackend> backend;
  CheckStatus(MakeGpuBackend({}, &backend), "make");
  std::shared_ptr<const LoadedSegment> loaded;
  CheckStatus(
      backend->Load({{reinterpret_cast<const std::byte*>(host.data()), kRows,
                      kDim, kDim * sizeof(float), ElementType::kFloat32},
                     Metric::kCosine},
                    &loaded),
      "load");
  for (const bool has_basis : {true, false}) {
    CodeLayout layout;
    RowCoding coding;
    coding.layout = &layout;
    coding.dim = kDim;
    coding.num_coded = kDim;
    coding.mean = mean.data();
    (has_basis ? coding.basis : coding.signs) = basis.data();
    const uint32_t bits[] = {8, 4, 2, 1};
    const uint32_t dims[] = {64, 128, 256, kDim - 448};
    layout.num_segments = has_basis ? 4 : 1;
    uint32_t payload = 0;
    for (uint32_t s = 0, at = 0; s < layout.num_segments; ++s) {
      CodeSegment& segment = layout.segments[s];
      segment.bits = has_basis ? bits[s] : 2;
      segment.num_dims = has_basis ? dims[s] : kDim;
      segment.payload_offset = payload;
      segment.query_offset = at;
      segment.has_levels = segment.bits == 4;
      for (uint8_t i = 0; segment.has_levels && i < 16; ++i) {
        segment.levels[i] = i * 127 / 15;
      }
      at += segment.num_dims;
      payload += segment.num_dims * segment.bits / 8;
      coding.units[s] = 1;
    }
    layout.additive_offset = payload;
    layout.record_bytes =
        (payload + 4 + 2 * layout.num_segments + 15) / 16 * 16;
    coding.step_of_two = 0.9957;
    for (int i = 0; i < 7; ++i) coding.limits_of_four[i] = 0.3f * (i + 1);
    std::vector<uint8_t> records(kRows * layout.record_bytes);
    const double seconds = MedianSeconds(5, [&] {
      CheckStatus(backend->Encode(*loaded, coding, records.data()), "encode");
    });
    Report(std::string("1000k x 768 encode, ") +
               (has_basis ? "basis" : "fast rotation") + ", " +
               std::to_string(layout.record_bytes) + " bytes s",
           seconds, "s");
  }
}

}  // namespace

void RunCodes(const std::string& only) {
  RunEncoding(only);
  if (!only.empty() && only.find("codes") == std::string::npos) return;
  const Data data = Make();
  CodeBench bench(data, only);
  bench.Flat();
  bench.Lists(1);
  bench.Lists(4);
}

}  // namespace vicinal
