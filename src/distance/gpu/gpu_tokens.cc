// How documents of token vectors come to a GPU.
#include "src/distance/gpu/gpu_tokens.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "src/distance/gpu/gpu_backend.h"
#include "src/distance/gpu/gpu_backend_parts.h"
#include "src/distance/gpu/maxsim_kernels.h"
#include "src/distance/gpu/staging.h"
#include "src/distance/gpu/tensor_maps.h"

namespace vicinal::gpu {
namespace {

bool CanNumber(const uint64_t* offsets, size_t num_docs) {
  if (num_docs >= kInvalidRow / 2) return false;
  for (size_t i = 0; i < num_docs; ++i) {
    if (offsets[i + 1] - offsets[i] > kMaxDocTokens) return false;
  }
  return num_docs == 0 || offsets[num_docs] < kInvalidRow / 2;
}

bool CanLoad(const TokenDocuments& documents) {
  return (documents.type == ElementType::kFloat32 ||
          documents.type == ElementType::kFloat16 ||
          documents.type == ElementType::kBfloat16) &&
         documents.dim > 0 && documents.dim <= kMaxTokenDim &&
         CanNumber(documents.offsets, documents.num_docs);
}

// Those of the codecs that there are.
bool CanLoad(const CodedTokenDocuments& documents) {
  const TokenCodeForm& form = documents.form;
  const size_t code_bytes = form.padded_dim * form.bits / 8;
  return (form.bits == 8 || form.bits == 4 || form.bits == 2 ||
          form.bits == 1) &&
         form.has_centroids == (form.bits == 2) && form.padded_dim > 0 &&
         form.padded_dim <= kMaxTokenDim && form.padded_dim % 32 == 0 &&
         form.record_bytes == 4 + (form.has_centroids ? 1 : 0) + code_bytes &&
         CanNumber(documents.offsets, documents.num_docs);
}

void SetCounts(const uint64_t* offsets, size_t num_docs, DeviceTokens* tokens) {
  tokens->num_docs = static_cast<uint32_t>(num_docs);
  tokens->num_tokens =
      num_docs == 0 ? 0 : static_cast<uint32_t>(offsets[num_docs]);
}

// Tokens as uploaded, before they are measured.
DeviceTokens ShapeOf(const TokenDocuments& documents) {
  DeviceTokens tokens;
  SetCounts(documents.offsets, documents.num_docs, &tokens);
  tokens.dim = static_cast<uint32_t>(documents.dim);
  tokens.padded_dim = (tokens.dim + 31) / 32 * 32;
  tokens.type = documents.type;
  tokens.exact_stride =
      documents.type == ElementType::kFloat16 ? tokens.padded_dim : tokens.dim;
  tokens.cosine = documents.cosine;
  return tokens;
}

DeviceTokens ShapeOf(const CodedTokenDocuments& documents) {
  DeviceTokens tokens;
  SetCounts(documents.offsets, documents.num_docs, &tokens);
  tokens.dim = static_cast<uint32_t>(documents.form.padded_dim);
  tokens.padded_dim = (tokens.dim + 127) / 128 * 128;
  tokens.code_bits = static_cast<uint32_t>(documents.form.bits);
  return tokens;
}

// Where the arrays of documents are in their block.
struct Places {
  explicit Places(const DeviceTokens& tokens) {
    const size_t num = tokens.num_tokens;
    const bool is_coded = tokens.code_bits > 0;
    const bool is_half = tokens.type == ElementType::kFloat16;
    is_scaled = tokens.cosine || !is_half || is_coded;
    has_centroids = tokens.code_bits == 2;
    Layout layout;
    rows = layout.Add<std::byte>(num * tokens.row_bytes());
    exact = is_half || is_coded
                ? rows
                : layout.Add<std::byte>(num * tokens.dim *
                                        ElementSize(tokens.type));
    scales = layout.Add<float>(is_scaled ? num : 0);
    norms = layout.Add<float>(tokens.cosine ? num : 0);
    centroids = layout.Add<uint32_t>(has_centroids ? num : 0);
    offsets = layout.Add<uint32_t>(tokens.num_docs + size_t{1});
    size = layout.size();
  }
  void SetPointers(std::byte* base, DeviceTokens* tokens) const {
    if (tokens->code_bits > 0) {
      tokens->codes = base + rows;
    } else {
      tokens->half = reinterpret_cast<const uint16_t*>(base + rows);
      tokens->exact = base + exact;
    }
    if (is_scaled) tokens->scales = reinterpret_cast<float*>(base + scales);
    if (tokens->cosine) tokens->norms = reinterpret_cast<float*>(base + norms);
    if (has_centroids) {
      tokens->centroids = reinterpret_cast<uint32_t*>(base + centroids);
    }
    tokens->offsets = reinterpret_cast<const uint32_t*>(base + offsets);
  }

  bool is_scaled;
  bool has_centroids;
  size_t rows;
  size_t exact;
  size_t scales;
  size_t norms;
  size_t centroids;
  size_t offsets;
  size_t size;
};

// Tokens of halves are padded with zeros as they are copied.
cudaError_t CopyTokens(const void* from, const DeviceTokens& tokens,
                       std::byte* base, RowCopier* copier) {
  const size_t token_bytes = tokens.dim * ElementSize(tokens.type);
  const size_t pitch = tokens.exact_stride * ElementSize(tokens.type);
  const auto* const source = static_cast<const std::byte*>(from);
  const RowWriter write = [&](size_t begin, size_t end, void* to) {
    auto* out = static_cast<std::byte*>(to);
    if (pitch == token_bytes) {
      std::memcpy(out, source + begin * pitch, (end - begin) * pitch);
      return;
    }
    for (size_t i = begin; i < end; ++i, out += pitch) {
      std::memcpy(out, source + i * token_bytes, token_bytes);
      std::memset(out + token_bytes, 0, pitch - token_bytes);
    }
  };
  return copier->Copy(write, pitch, tokens.num_tokens,
                      base + Places(tokens).exact);
}

}  // namespace

PinnedBlock::~PinnedBlock() { cudaFreeHost(data); }

BackendStatus GpuBackend::Place(const uint64_t* offsets, GpuTokens* loaded) {
  DeviceTokens& tokens = loaded->tokens;
  loaded->offsets.assign(offsets, offsets + tokens.num_docs + 1);
  for (size_t i = 0; i < tokens.num_docs; ++i) {
    loaded->lengths.Add(static_cast<uint32_t>(offsets[i + 1] - offsets[i]));
  }
  const Places places(tokens);
  GPU_RETURN_IF_ERROR(Allocate(places.size, &loaded->block));
  places.SetPointers(loaded->block.data(), &tokens);
  if (is_hopper_ && MakeTokenMap(tokens, &loaded->map)) {
    loaded->hopper_tiles = MostHopperTiles(tokens);
    GPU_RETURN_IF_ERROR(Check(AllowHopper(tokens)));
  }
  if (pinned_.data == nullptr) {
    GPU_RETURN_IF_ERROR(
        Check(cudaMallocHost(&pinned_.data, kResultBytes + kSentBytes)));
  }
  return Check(cudaMemcpyAsync(loaded->block.data() + places.offsets,
                               loaded->offsets.data(),
                               loaded->offsets.size() * sizeof(uint32_t),
                               cudaMemcpyHostToDevice, stream_));
}

BackendStatus GpuBackend::LoadTokens(
    const TokenDocuments& documents,
    std::shared_ptr<const LoadedSegment>* out) {
  GPU_RETURN_IF_ERROR(Ready());
  if (!CanLoad(documents)) return BackendStatus::kUnsupported;
  auto loaded = std::make_shared<GpuTokens>();
  loaded->tokens = ShapeOf(documents);
  if (documents.num_docs > 0) {
    std::unique_lock<std::mutex> lock(mutex_);
    GPU_RETURN_IF_ERROR(Place(documents.offsets, loaded.get()));
    GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
    if (loaded->tokens.num_tokens > 0) {
      lock.unlock();  // others search meanwhile
      GPU_RETURN_IF_ERROR(
          Check(CopyTokens(documents.tokens, loaded->tokens,
                           loaded->block.data(), &row_copier_)));
      lock.lock();
      GPU_RETURN_IF_ERROR(
          MeasureDocuments(loaded->block.data(), &loaded->tokens));
    }
  }
  *out = std::move(loaded);
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::LoadTokenCodes(
    const CodedTokenDocuments& documents,
    std::shared_ptr<const LoadedSegment>* out) {
  GPU_RETURN_IF_ERROR(Ready());
  if (!is_hopper_ || !CanLoad(documents)) return BackendStatus::kUnsupported;
  auto loaded = std::make_shared<GpuTokens>();
  loaded->tokens = ShapeOf(documents);
  loaded->code_dim = static_cast<uint32_t>(documents.form.padded_dim);
  if (MostHopperTiles(loaded->tokens) == 0) return BackendStatus::kUnsupported;
  if (documents.num_docs > 0) {
    const std::lock_guard<std::mutex> lock(mutex_);
    GPU_RETURN_IF_ERROR(Place(documents.offsets, loaded.get()));
    if (loaded->hopper_tiles == 0) return BackendStatus::kUnsupported;
    GPU_RETURN_IF_ERROR(
        PlaceRecords(documents, loaded->block.data(), loaded->tokens));
    GPU_RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream_)));
  }
  *out = std::move(loaded);
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::PlaceRecords(const CodedTokenDocuments& documents,
                                       std::byte* base,
                                       const DeviceTokens& tokens) const {
  const Places places(tokens);
  const size_t record_bytes = documents.form.record_bytes;
  workspace_.Rewind(0);
  // As many at a time as there is room for.
  const size_t at_once =
      std::min<size_t>(tokens.num_tokens, workspace_.left() / 2 / record_bytes);
  if (tokens.num_tokens > 0 && at_once == 0) return BackendStatus::kNoMemory;
  for (size_t first = 0; first < tokens.num_tokens; first += at_once) {
    const size_t count = std::min(at_once, tokens.num_tokens - first);
    workspace_.Rewind(0);
    uint8_t* there;
    GPU_RETURN_IF_ERROR(Upload(documents.records + first * record_bytes,
                               count * record_bytes, &there));
    DeviceTokens some = tokens;
    some.num_tokens = static_cast<uint32_t>(count);
    GPU_RETURN_IF_ERROR(Check(PlaceCodes(
        some,
        {there, static_cast<uint32_t>(record_bytes),
         tokens.dim * tokens.code_bits / 8},
        base + places.rows + first * tokens.row_bytes(),
        reinterpret_cast<float*>(base + places.scales) + first,
        tokens.centroids == nullptr
            ? nullptr
            : reinterpret_cast<uint32_t*>(base + places.centroids) + first,
        stream_)));
  }
  return BackendStatus::kOk;
}

BackendStatus GpuBackend::MeasureDocuments(std::byte* base,
                                           DeviceTokens* tokens) const {
  const Places places(*tokens);
  auto* const half = reinterpret_cast<uint16_t*>(base + places.rows);
  auto* const scales = reinterpret_cast<float*>(base + places.scales);
  auto* const norms = reinterpret_cast<float*>(base + places.norms);
  workspace_.Rewind(0);
  float* const maxima = workspace_.Take<float>(2);
  if (maxima == nullptr) return BackendStatus::kNoMemory;
  GPU_RETURN_IF_ERROR(
      Check(cudaMemsetAsync(maxima, 0, 2 * sizeof(float), stream_)));
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
