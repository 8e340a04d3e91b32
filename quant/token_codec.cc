// The bytes of a token codec, little-endian:
//   0   u64 magic "VICTOKEN"    8  u32 version (1)
//   12  u8 kind, u8 flags (1 = has a mean and a rotation), u16 zero
//   16  u32 dim, u32 zero       24  u64 seed of the rotation
//   32  with flag 1: f32 mean[dim]; of kInt2: f32 centroids[256][dim]
//       u32 CRC-32C of all before
#include "quant/token_codec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "quant/float_rows.h"
#include "src/base/coding.h"
#include "src/base/crc32c.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"
#include "src/distance/maxsim_kernels.h"

namespace vicinal {
namespace {

constexpr uint64_t kMagic = 0x4E454B4F54434956;  // "VICTOKEN"
constexpr uint32_t kVersion = 1;
constexpr uint8_t kHasRotation = 1;
constexpr size_t kHeaderBytes = 32;
constexpr size_t kNumCentroids = 256;
constexpr size_t kCentroidSample = 32 * kNumCentroids;
constexpr size_t kCentroidRounds = 8;
constexpr size_t kMaxDim = kernels::kMaxTokenDim;
constexpr absl::string_view kNotFinite = "has elements that are not finite";

int BitsOf(TokenCodecKind kind) {
  switch (kind) {
    case TokenCodecKind::kInt8:
      return 8;
    case TokenCodecKind::kInt4:
      return 4;
    case TokenCodecKind::kInt2:
      return 2;
    case TokenCodecKind::kBinary:
      return 1;
  }
  return 0;
}

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("a token codec: ", what));
}

// To the nearest integer, ties to even, where |value| < 2^22: without the call
// that std::nearbyint is before SSE 4.1.
float Round(float value) {
  constexpr float kUnits = 0x1.8p23f;
  return value + kUnits - kUnits;
}

// Sums in lanes, which compilers make vectors of, added by halves.
constexpr size_t kLanes = 16;
using Lanes = std::array<float, kLanes>;

float SumOf(Lanes lanes) {
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

template <int kBits>
struct Levels {
  static constexpr float kMost = kBits == 8 ? 127 : (1 << kBits) - 1;
  static constexpr float kFactor = kBits == 8 ? 1 : 2;
  static constexpr float kOffset = kBits == 8 ? 128 : (1 << kBits) - 1;
  static constexpr float kLowest = kBits == 8 ? 1 : 0;
  static constexpr float kHighest = kBits == 8 ? 255 : (1 << kBits) - 1;

  // u nearest to value / step; its level is kFactor u - kOffset.
  static float CodeOf(float value, float inverse) {
    const float u = (value * inverse + kOffset) * (1 / kFactor);
    const float above = u > kLowest ? u : kLowest;
    return Round(above < kHighest ? above : kHighest);
  }
  // <values, levels> and the squared length of the levels.
  static std::pair<float, float> Products(const float* values, size_t n,
                                          float inverse) {
    Lanes ip = {};
    Lanes norm2 = {};
    for (size_t t = 0; t < n; t += kLanes) {
      for (size_t j = 0; j < kLanes; ++j) {
        const float level = kFactor * CodeOf(values[t + j], inverse) - kOffset;
        ip[j] += values[t + j] * level;
        norm2[j] += level * level;
      }
    }
    return {SumOf(ip), SumOf(norm2)};
  }
};

template <int kBits>
void EncodeValues(const float* values, size_t n, uint8_t* scale_bytes,
                  uint8_t* code) {
  using L = Levels<kBits>;
  Lanes largest_of = {};
  Lanes norm2_of = {};
  for (size_t t = 0; t < n; t += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) {
      const float magnitude = std::abs(values[t + j]);
      largest_of[j] = magnitude > largest_of[j] ? magnitude : largest_of[j];
      norm2_of[j] += values[t + j] * values[t + j];
    }
  }
  const float largest = *std::max_element(largest_of.begin(), largest_of.end());
  const float norm2 = SumOf(norm2_of);
  std::memset(code, 0, n * kBits / 8);
  // Nothing is left of a token that is its centroid; and what is next to zero,
  // or overflowed, has no step.
  if (!(largest > 1e-18f) || !std::isfinite(norm2)) {
    std::memset(scale_bytes, 0, sizeof(float));
    return;
  }
  // The step whose codes point most nearly along the token. With 1 bit all do
  // the same; with 8, the one that reaches the largest element is as good.
  constexpr int kSteps = kBits == 8 || kBits == 1 ? 1 : kBits == 4 ? 6 : 8;
  float best_inverse = 0;
  float best_cosine2 = -1;
  float best_ip = 0;
  for (int step = 0; step < kSteps; ++step) {
    const float share = 1 - 0.1f * static_cast<float>(step);
    const float inverse = L::kMost / (largest * share);
    const auto [ip, level_norm2] = L::Products(values, n, inverse);
    if (!(ip > 0) || ip / level_norm2 * ip <= best_cosine2) continue;
    best_cosine2 = ip / level_norm2 * ip;
    best_inverse = inverse;
    best_ip = ip;
  }
  constexpr size_t kPerByte = 8 / kBits;
  for (size_t t = 0; t < n; t += kPerByte) {
    uint32_t byte = 0;
    for (size_t j = 0; j < kPerByte; ++j) {
      byte |= static_cast<uint32_t>(L::CodeOf(values[t + j], best_inverse))
              << (j * kBits);
    }
    code[t / kPerByte] = static_cast<uint8_t>(byte);
  }
  const float scale = best_ip > 0 ? norm2 / best_ip : 0;
  std::memcpy(scale_bytes, &scale, sizeof(scale));
}

}  // namespace

TokenCodec::TokenCodec(TokenCodecKind kind, size_t dim)
    : kind_(kind), dim_(dim) {
  form_.padded_dim = (dim + 31) / 32 * 32;
  form_.bits = BitsOf(kind);
  form_.has_centroids = kind == TokenCodecKind::kInt2;
  form_.record_bytes = sizeof(float) + (form_.has_centroids ? 1 : 0) +
                       form_.padded_dim * static_cast<size_t>(form_.bits) / 8;
}

void TokenCodec::UseRotation(uint64_t seed) {
  seed_ = seed;
  rotation_.emplace(form_.padded_dim, seed);
}

void TokenCodec::UseCentroids(std::vector<float> centroids) {
  centroids_ = std::move(centroids);
  near_.emplace(MatrixView{centroids_.data(), kNumCentroids, dim_, dim_});
}

absl::StatusOr<std::unique_ptr<const TokenCodec>> TokenCodec::Train(
    TokenCodecKind kind, size_t dim, MatrixView sample, uint64_t seed,
    size_t num_threads, const CancelToken* cancel) {
  if (dim < 1 || dim > kMaxDim) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tokens have ", dim, " dimensions; codes are made of 1 to ", kMaxDim));
  }
  std::unique_ptr<TokenCodec> codec(new TokenCodec(kind, dim));
  if (sample.num_rows == 0) {
    if (kind == TokenCodecKind::kInt8) return codec;
    return absl::InvalidArgumentError("there are no tokens to train with");
  }
  codec->mean_ = MeanOf(sample);
  codec->UseRotation(seed);
  if (!codec->form_.has_centroids) return codec;
  // Centroids of what the mean leaves, of a sample in random order: k-means
  // begins with its first rows.
  Random random(seed);
  std::vector<uint32_t> rows(sample.num_rows);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<uint32_t>(i);
  const size_t num_points =
      std::min(kCentroidSample, std::max(rows.size(), kNumCentroids));
  std::vector<float> points(num_points * dim);
  for (size_t i = 0; i < num_points; ++i) {
    const size_t at = i % rows.size();
    std::swap(rows[at], rows[at + random.Uniform(rows.size() - at)]);
    for (size_t t = 0; t < dim; ++t) {
      points[i * dim + t] = sample.row(rows[at])[t] - codec->mean_[t];
    }
  }
  Workers workers(num_threads);
  VICINAL_ASSIGN_OR_RETURN(
      std::vector<float> centroids,
      TrainKMeans({points.data(), num_points, dim, dim}, kNumCentroids,
                  kCentroidRounds, &workers, cancel));
  codec->UseCentroids(std::move(centroids));
  return codec;
}

std::string TokenCodec::Serialize() const {
  std::string out;
  PutFixed(&out, kMagic);
  PutFixed(&out, kVersion);
  PutFixed(&out, static_cast<uint8_t>(kind_));
  PutFixed(&out, rotation_.has_value() ? kHasRotation : uint8_t{0});
  PutFixed(&out, uint16_t{0});
  PutFixed(&out, static_cast<uint32_t>(dim_));
  PutFixed(&out, uint32_t{0});
  PutFixed(&out, seed_);
  PutFloats(&out, mean_);
  PutFloats(&out, centroids_);
  PutFixed(&out, Crc32c(out));
  return out;
}

absl::StatusOr<std::unique_ptr<const TokenCodec>> TokenCodec::Parse(
    absl::string_view bytes) {
  if (bytes.size() < kHeaderBytes + sizeof(uint32_t)) {
    return Damaged("is cut short");
  }
  const absl::string_view checked = bytes.substr(0, bytes.size() - 4);
  if (GetFixed<uint32_t>(checked.data() + checked.size()) != Crc32c(checked) ||
      GetFixed<uint64_t>(bytes.data()) != kMagic) {
    return Damaged("its checksum differs");
  }
  const auto version = GetFixed<uint32_t>(bytes.data() + 8);
  const auto kind = GetFixed<uint8_t>(bytes.data() + 12);
  const auto flags = GetFixed<uint8_t>(bytes.data() + 13);
  const auto dim = GetFixed<uint32_t>(bytes.data() + 16);
  const bool has_rotation = flags == kHasRotation;
  if (version > kVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "a codec of tokens has version ", version,
        "; this program reads up to ", kVersion, ": use a newer one"));
  }
  if (version != kVersion || kind < 1 || kind > 4 || flags > kHasRotation ||
      dim < 1 || dim > kMaxDim || (!has_rotation && kind != 1)) {
    return Damaged("says what no codec is");
  }
  std::unique_ptr<TokenCodec> codec(
      new TokenCodec(static_cast<TokenCodecKind>(kind), dim));
  size_t num_floats = has_rotation ? dim : 0;
  if (codec->form_.has_centroids) num_floats += kNumCentroids * dim;
  absl::string_view rest = checked.substr(kHeaderBytes);
  if (rest.size() != num_floats * sizeof(float)) {
    return Damaged("has another length than its dimension says");
  }
  if (has_rotation) {
    if (!TakeFloats(&rest, dim, &codec->mean_)) return Damaged(kNotFinite);
    codec->UseRotation(GetFixed<uint64_t>(bytes.data() + 24));
  }
  if (codec->form_.has_centroids) {
    std::vector<float> centroids;
    if (!TakeFloats(&rest, kNumCentroids * dim, &centroids)) {
      return Damaged(kNotFinite);
    }
    codec->UseCentroids(std::move(centroids));
  }
  return codec;
}

void TokenCodec::Encode(MatrixView tokens, uint8_t* records) const {
  constexpr size_t kBlock = 64;
  std::vector<float> centred(kBlock * dim_);
  std::vector<uint32_t> nearest(kBlock);
  std::vector<float> values(form_.padded_dim);
  for (size_t first = 0; first < tokens.num_rows; first += kBlock) {
    const size_t count = std::min(kBlock, tokens.num_rows - first);
    for (size_t i = 0; i < count; ++i) {
      const float* token = tokens.row(first + i).data();
      for (size_t t = 0; t < dim_; ++t) {
        centred[i * dim_ + t] = mean_.empty() ? token[t] : token[t] - mean_[t];
      }
    }
    if (near_.has_value()) {
      near_->Nearest(centred.data(), count, 1, nearest.data(), nullptr);
    }
    for (size_t i = 0; i < count; ++i) {
      uint8_t* record = records + (first + i) * form_.record_bytes;
      std::fill(values.begin(), values.end(), 0.0f);
      std::copy_n(&centred[i * dim_], dim_, values.begin());
      if (near_.has_value()) {
        record[sizeof(float)] = static_cast<uint8_t>(nearest[i]);
        const float* centroid = &centroids_[nearest[i] * dim_];
        for (size_t t = 0; t < dim_; ++t) values[t] -= centroid[t];
      }
      if (rotation_.has_value()) rotation_->Apply(values.data());
      EncodeOne(values.data(), record,
                record + sizeof(float) + (near_.has_value() ? 1 : 0));
    }
  }
}

void TokenCodec::EncodeOne(const float* values, uint8_t* scale_bytes,
                           uint8_t* code) const {
  switch (form_.bits) {
    case 8:
      return EncodeValues<8>(values, form_.padded_dim, scale_bytes, code);
    case 4:
      return EncodeValues<4>(values, form_.padded_dim, scale_bytes, code);
    case 2:
      return EncodeValues<2>(values, form_.padded_dim, scale_bytes, code);
    default:
      return EncodeValues<1>(values, form_.padded_dim, scale_bytes, code);
  }
}

TokenCodeQuery TokenCodec::Prepare(MatrixView tokens,
                                   std::span<const float> weights) const {
  TokenCodeQuery query;
  query.num_tokens = tokens.num_rows;
  query.num_panels = (tokens.num_rows + 15) / 16;
  query.panels.resize(query.num_panels * 16 * form_.padded_dim);
  query.sums.resize(query.num_panels * 16);
  query.scales.resize(tokens.num_rows);
  std::vector<float> values(form_.padded_dim);
  std::vector<float> inverses(query.num_panels * 16);
  for (size_t i = 0; i < tokens.num_rows; ++i) {
    const float* token = tokens.row(i).data();
    const float weight = weights.empty() ? 1 : weights[i];
    std::fill(values.begin(), values.end(), 0.0f);
    std::copy_n(token, dim_, values.begin());
    if (rotation_.has_value()) rotation_->Apply(values.data());
    float largest = 0;
    for (const float value : values)
      largest = std::max(largest, std::abs(value));
    // A step of zero or next to it has no inverse.
    const float step = largest / 127;
    const float inverse = step > 1e-30f ? 1 / step : 0;
    inverses[i] = inverse;
    int8_t* panel =
        &query.panels[(i / 16 * (form_.padded_dim / 4) * 16 + i % 16) * 4];
    for (size_t t = 0; t < form_.padded_dim; ++t) {
      const auto level = static_cast<int32_t>(
          std::nearbyint(std::clamp(values[t] * inverse, -127.0f, 127.0f)));
      panel[t / 4 * 64 + t % 4] = static_cast<int8_t>(level);
      query.sums[i] += level;
    }
    query.scales[i] = weight * step;
    for (size_t t = 0; t < mean_.size(); ++t) {
      query.constant += static_cast<double>(weight) * token[t] * mean_[t];
    }
  }
  if (centroids_.empty()) return query;
  const size_t width = 16 * query.num_panels;
  std::vector<float> panels(width * dim_);
  PackPanels(tokens.data, tokens.stride, tokens.num_rows, dim_, panels.data());
  query.table.resize(kNumCentroids * width);
  ActiveKernels().pair_ip(centroids_.data(), dim_, kNumCentroids, panels.data(),
                          query.num_panels, dim_, query.table.data(), width);
  for (size_t c = 0; c < kNumCentroids; ++c) {
    for (size_t i = 0; i < width; ++i)
      query.table[c * width + i] *= inverses[i];
  }
  return query;
}

void TokenCodec::Maxima(const TokenCodeQuery& query, const uint8_t* records,
                        size_t n, float* out) const {
  std::fill_n(out, 16 * query.num_panels,
              -std::numeric_limits<float>::infinity());
  ActiveMaxSimKernels().max_codes(
      form_, query.panels.data(), query.num_panels, query.sums.data(),
      query.table.empty() ? nullptr : query.table.data(), records, n, out);
}

float TokenCodec::Score(const TokenCodeQuery& query, const uint8_t* records,
                        size_t n, float* scratch) const {
  Maxima(query, records, n, scratch);
  double score = query.constant;
  for (size_t i = 0; i < query.num_tokens; ++i) {
    score += static_cast<double>(query.scales[i]) * scratch[i];
  }
  // Of damaged records, which searches do not verify, it may be NaN: last.
  constexpr double kMost = std::numeric_limits<float>::max();
  return score >= -kMost ? static_cast<float>(std::min(score, kMost))
                         : -std::numeric_limits<float>::max();
}

}  // namespace vicinal
