// How documents of token vectors come to a GPU, and how they are divided among
// its warps.
#include "src/distance/gpu/gpu_tokens.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/maxsim_kernels.h"

namespace vicinal::gpu {
namespace {

// Warps that are there at once, as StreamKernel has registers for.
constexpr uint32_t kWarpsPerProcessor = 16;
// Items that each of them takes, at least: the last ones end at different
// times.
constexpr uint32_t kItemsPerWarp = 6;
constexpr uint32_t kMaxItemSteps = 64;

uint32_t StepsOf(uint32_t num_tokens) {
  return (num_tokens + kTokenStep - 1) / kTokenStep;
}

bool CanLoad(const TokenDocuments& documents) {
  if ((documents.type != ElementType::kFloat32 &&
       documents.type != ElementType::kFloat16 &&
       documents.type != ElementType::kBfloat16) ||
      documents.dim == 0 || documents.dim > kMaxTokenDim ||
      documents.num_docs >= kInvalidRow / 2) {
    return false;
  }
  for (size_t i = 0; i < documents.num_docs; ++i) {
    if (documents.offsets[i + 1] - documents.offsets[i] > kMaxDocTokens) {
      return false;
    }
  }
  return documents.num_docs == 0 ||
         documents.offsets[documents.num_docs] < kInvalidRow / 2;
}

// Tokens as uploaded, before they are measured.
DeviceTokens ShapeOf(const TokenDocuments& documents) {
  DeviceTokens tokens;
  tokens.num_docs = static_cast<uint32_t>(documents.num_docs);
  tokens.num_tokens =
      documents.num_docs == 0
          ? 0
          : static_cast<uint32_t>(documents.offsets[documents.num_docs]);
  tokens.dim = static_cast<uint32_t>(documents.dim);
  tokens.padded_dim = (tokens.dim + 31) / 32 * 32;
  tokens.type = documents.type;
  tokens.exact_stride =
      documents.type == ElementType::kFloat16 ? tokens.padded_dim : tokens.dim;
  tokens.cosine = documents.cosine;
  return tokens;
}

// Where the arrays of documents are in their block; items come last.
struct Places {
  Places(const DeviceTokens& tokens, size_t num_items) {
    const bool is_half = tokens.type == ElementType::kFloat16;
    const size_t num = tokens.num_tokens;
    is_scaled = tokens.cosine || !is_half;
    Layout layout;
    half = layout.Add<uint16_t>(num * tokens.padded_dim);
    exact = is_half ? half
                    : layout.Add<std::byte>(num * tokens.dim *
                                            ElementSize(tokens.type));
    scales = layout.Add<float>(is_scaled ? num : 0);
    norms = layout.Add<float>(tokens.cosine ? num : 0);
    offsets = layout.Add<uint32_t>(tokens.num_docs + size_t{1});
    items = layout.Add<TokenItem>(num_items);
    size = layout.size();
  }
  void SetPointers(std::byte* base, DeviceTokens* tokens) const {
    tokens->half = reinterpret_cast<const uint16_t*>(base + half);
    tokens->exact = base + exact;
    if (is_scaled) tokens->scales = reinterpret_cast<float*>(base + scales);
    if (tokens->cosine) tokens->norms = reinterpret_cast<float*>(base + norms);
    tokens->offsets = reinterpret_cast<const uint32_t*>(base + offsets);
  }

  bool is_scaled;
  size_t half;
  size_t exact;
  size_t scales;
  size_t norms;
  size_t offsets;
  size_t items;
  size_t size;
};

}  // namespace

Items MakeItems(const std::vector<uint32_t>& offsets, const RowId* docs,
                size_t num, int num_processors) {
  const auto doc_at = [&](size_t i) {
    return docs == nullptr ? static_cast<RowId>(i) : docs[i];
  };
  const auto length_of = [&](size_t i) {
    return offsets[doc_at(i) + 1] - offsets[doc_at(i)];
  };
  size_t total_steps = 0;
  for (size_t i = 0; i < num; ++i) total_steps += StepsOf(length_of(i));
  const size_t num_items =
      size_t{kItemsPerWarp} * kWarpsPerProcessor * num_processors;
  const auto most_steps = static_cast<uint32_t>(std::clamp<size_t>(
      (total_steps + num_items - 1) / num_items, 1, kMaxItemSteps));
  Items items;
  items.list.reserve(num);
  for (size_t i = 0; i < num; ++i) {
    const uint32_t length = length_of(i);
    const uint32_t steps = StepsOf(length);
    const uint32_t num_parts =
        std::max(1u, (steps + most_steps - 1) / most_steps);
    for (uint32_t part = 0; part < num_parts; ++part) {
      const uint32_t begin = steps * part / num_parts * kTokenStep;
      const uint32_t end =
          std::min(length, steps * (part + 1) / num_parts * kTokenStep);
      items.list.push_back(
          {.first_token = offsets[doc_at(i)] + begin,
           .num_tokens = end - begin,
           .slot = static_cast<uint32_t>(i),
           .part = part,
           .num_parts = num_parts,
           .partial = num_parts == 1 ? 0 : items.num_partials++});
    }
  }
  return items;
}

PinnedBlock::~PinnedBlock() { cudaFreeHost(data); }

BackendStatus GpuBackend::LoadTokens(
    const TokenDocuments& documents,
    std::shared_ptr<const LoadedSegment>* out) {
  GPU_RETURN_IF_ERROR(Ready());
  if (!CanLoad(documents)) return BackendStatus::kUnsupported;
  auto loaded = std::make_shared<GpuTokens>();
  DeviceTokens& tokens = loaded->tokens;
  tokens = ShapeOf(documents);
  if (tokens.num_docs == 0) {
    *out = std::move(loaded);
    return BackendStatus::kOk;
  }
  loaded->offsets.assign(documents.offsets,
                         documents.offsets + documents.num_docs + 1);
  const Items items =
      MakeItems(loaded->offsets, nullptr, tokens.num_docs, num_processors_);
  loaded->num_items = static_cast<uint32_t>(items.list.size());
  loaded->num_partials = items.num_partials;

  const Places places(tokens, loaded->num_items);
  GPU_RETURN_IF_ERROR(Allocate(places.size, &loaded->block));
  std::byte* const base = loaded->block.data();
  places.SetPointers(base, &tokens);
  loaded->items = reinterpret_cast<const TokenItem*>(base + places.items);

  const std::lock_guard<std::mutex> lock(mutex_);
  if (pinned_.data == nullptr) {
    GPU_RETURN_IF_ERROR(
        Check(cudaMallocHost(&pinned_.data, kResultBytes + kSentBytes)));
  }
  GPU_RETURN_IF_ERROR(
      Check(cudaMemcpyAsync(base + places.offsets, loaded->offsets.data(),
                            loaded->offsets.size() * sizeof(uint32_t),
                            cudaMemcpyHostToDevice, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaMemcpyAsync(
      base + places.items, items.list.data(),
      items.list.size() * sizeof(TokenItem), cudaMemcpyHostToDevice, stream_)));
  if (tokens.num_tokens > 0) {
    GPU_RETURN_IF_ERROR(MeasureDocuments(documents.tokens, base, &tokens));
  }
  GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
  *out = std::move(loaded);
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::MeasureDocuments(const void* from, std::byte* base,
                                           DeviceTokens* tokens) const {
  // As Places has them.
  const Places places(*tokens, 0);
  auto* const half = reinterpret_cast<uint16_t*>(base + places.half);
  auto* const scales = reinterpret_cast<float*>(base + places.scales);
  auto* const norms = reinterpret_cast<float*>(base + places.norms);
  const bool is_half = tokens->type == ElementType::kFloat16;
  const size_t num = tokens->num_tokens;
  const size_t token_bytes = tokens->dim * ElementSize(tokens->type);
  workspace_.Rewind(0);
  float* const maxima = workspace_.Take<float>(2);
  if (maxima == nullptr) return BackendStatus::kNoMemory;
  GPU_RETURN_IF_ERROR(
      Check(cudaMemsetAsync(maxima, 0, 2 * sizeof(float), stream_)));
  if (is_half && tokens->padded_dim != tokens->dim) {
    GPU_RETURN_IF_ERROR(
        Check(cudaMemsetAsync(half, 0, num * tokens->padded_dim * 2, stream_)));
  }
  const size_t pitch = is_half ? size_t{tokens->padded_dim} * 2 : token_bytes;
  GPU_RETURN_IF_ERROR(Check(
      cudaMemcpy2DAsync(base + places.exact, pitch, from, token_bytes,
                        token_bytes, num, cudaMemcpyHostToDevice, stream_)));
  GPU_RETURN_IF_ERROR(Check(MeasureTokens(
      *tokens, half, tokens->scales == nullptr ? nullptr : scales,
      tokens->norms == nullptr ? nullptr : norms, maxima, stream_)));
  float host_maxima[2];
  GPU_RETURN_IF_ERROR(
      Check(cudaMemcpyAsync(host_maxima, maxima, sizeof(host_maxima),
                            cudaMemcpyDeviceToHost, stream_)));
  GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
  tokens->max_norm = host_maxima[0];
  tokens->max_error = host_maxima[1];
  return BackendStatus::kOk;
}

}  // namespace vicinal::gpu
