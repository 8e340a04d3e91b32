// The bytes of an encoder, little-endian:
//   0   u64 magic "VICMULTI"   8  u32 version (1)   12  u8 kind, 3 zero bytes
//   16  of MUVERA and OLS: see muvera.cc and ols_encoder.cc
//       u32 CRC-32C of all before
#include "quant/multi_encoder.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "quant/multi_encoder_parts.h"
#include "src/base/coding.h"
#include "src/base/crc32c.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr uint64_t kMagic = 0x49544C554D434956;  // "VICMULTI"
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 16;

// With the defaults filled in.
MuveraParams Filled(MuveraParams params, size_t token_dim) {
  if (params.repetitions == 0) params.repetitions = 32;
  if (params.k_sim == MuveraParams::kDefaultKSim) params.k_sim = 4;
  if (params.d_proj == 0) params.d_proj = token_dim < 256 ? 8 : 16;
  return params;
}

}  // namespace

MuveraParams PaperMuveraParams() {
  return {.repetitions = 20,
          .k_sim = 5,
          .d_proj = 16,
          .projection = MuveraParams::Projection::kDenseSign,
          .fill = MuveraParams::Fill::kHammingMean,
          .centering = MuveraParams::Centering::kNone};
}

size_t FdeDim(const MuveraParams& params, size_t token_dim) {
  const MuveraParams filled = Filled(params, token_dim);
  return (size_t{filled.repetitions} << filled.k_sim) *
         std::min<size_t>(filled.d_proj, token_dim);
}

size_t MuveraMatrixSize(const MuveraParams& params, size_t token_dim) {
  const MuveraParams filled = Filled(params, token_dim);
  const size_t projected = filled.d_proj < token_dim ? filled.d_proj : 0;
  return filled.repetitions * (filled.k_sim + projected) * token_dim;
}

uint32_t OlsFeatures(const OlsParams& params, size_t token_dim) {
  if (params.features != 0) return params.features;
  return token_dim <= 64 ? 1024 : 2048;
}

size_t EncodingDim(const MultiEncoderParams& params, size_t token_dim) {
  const size_t fde = FdeDim(params.muvera, token_dim);
  const size_t muvera = params.muvera.d_final != 0
                            ? params.muvera.d_final
                            : std::min(fde, kMaxEncodingDim);
  const size_t ols = OlsFeatures(params.ols, token_dim) / 2;
  switch (params.kind) {
    case MultiEncoderParams::Kind::kMuvera:
      return muvera;
    case MultiEncoderParams::Kind::kOls:
      return ols;
    case MultiEncoderParams::Kind::kAuto:
      return std::max(muvera, ols);
    case MultiEncoderParams::Kind::kNone:
      break;
  }
  return 0;
}

absl::StatusOr<std::unique_ptr<const MultiEncoder>> MultiEncoder::Parse(
    absl::string_view bytes) {
  if (bytes.size() < kHeaderBytes + sizeof(uint32_t)) {
    return absl::DataLossError("an encoder: is cut short");
  }
  const absl::string_view checked = bytes.substr(0, bytes.size() - 4);
  if (GetFixed<uint32_t>(checked.data() + checked.size()) != Crc32c(checked) ||
      GetFixed<uint64_t>(bytes.data()) != kMagic) {
    return absl::DataLossError("an encoder: its checksum differs");
  }
  const auto version = GetFixed<uint32_t>(bytes.data() + 8);
  if (version > kVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "an encoder has version ", version, "; this program reads up to ",
        kVersion, ": use a newer one"));
  }
  if (version != kVersion) {
    return absl::DataLossError("an encoder: is of no known version");
  }
  const absl::string_view rest = checked.substr(kHeaderBytes);
  switch (GetFixed<uint8_t>(bytes.data() + 12)) {
    case static_cast<uint8_t>(MultiEncoderParams::Kind::kMuvera):
      return multi_encoder::ParseMuvera(rest);
    case static_cast<uint8_t>(MultiEncoderParams::Kind::kOls):
      return multi_encoder::ParseOls(rest);
    default:
      return absl::DataLossError("an encoder: is of no known kind");
  }
}

absl::StatusOr<std::unique_ptr<const MultiEncoder>> TrainMultiEncoder(
    const MultiEncoderParams& params, const SampleDocuments& sample,
    size_t num_threads, const CancelToken* cancel) {
  const size_t token_dim = sample.tokens.dim;
  if (sample.tokens.num_rows == 0) {
    return absl::InvalidArgumentError("there are no tokens to train with");
  }
  if (params.kind == MultiEncoderParams::Kind::kOls) {
    OlsParams ols = params.ols;
    ols.features = OlsFeatures(ols, token_dim);
    if (ols.sample_tokens == 0) ols.sample_tokens = 4 * ols.features;
    if (ols.features < kMinOlsFeatures || ols.features > kMaxOlsFeatures ||
        ols.sample_tokens > kMaxOlsSample || !(ols.ridge > 0)) {
      return absl::InvalidArgumentError("the OLS encoder is out of range");
    }
    return multi_encoder::TrainOls(
        {.kind = params.kind, .seed = params.seed, .ols = ols}, sample,
        num_threads, cancel);
  }
  const MuveraParams muvera = Filled(params.muvera, token_dim);
  if (params.kind != MultiEncoderParams::Kind::kMuvera ||
      muvera.fill == MuveraParams::Fill::kAuto ||
      muvera.centering == MuveraParams::Centering::kAuto ||
      muvera.repetitions > kMaxRepetitions || muvera.k_sim > kMaxKSim ||
      muvera.d_final > kMaxEncodingDim ||
      FdeDim(muvera, token_dim) > kMaxFdeDim ||
      MuveraMatrixSize(muvera, token_dim) > kMaxMuveraMatrix) {
    return absl::InvalidArgumentError("the MUVERA encoder is out of range");
  }
  return multi_encoder::TrainMuvera(
      {.kind = params.kind, .seed = params.seed, .muvera = muvera},
      sample.tokens);
}

namespace multi_encoder {

Random StreamOf(uint64_t seed, Purpose purpose, uint64_t repetition) {
  // Hashed one after the other, so that neither seed + 1 nor another purpose
  // has part of this stream.
  uint64_t hash = Random(seed).Next();
  hash = Random(hash ^ static_cast<uint64_t>(purpose)).Next();
  return Random(Random(hash ^ repetition).Next());
}

float PortableGaussian(Random* random) {
  constexpr int kPairs = 6;
  uint64_t sum = 0;
  for (int i = 0; i < kPairs; ++i) {
    const uint64_t bits = random->Next();
    sum += (bits >> 32) + (bits & 0xFFFFFFFF);
  }
  // Twelve uniforms have the variance 1 and the mean 6.
  return static_cast<float>(static_cast<double>(sum) * 0x1.0p-32 - kPairs);
}

PackedMatrix::PackedMatrix(std::span<const float> rows, size_t dim)
    : dim_(dim),
      num_panels_((rows.size() / dim + kPairPanel - 1) / kPairPanel) {
  panels_.resize(width() * dim);
  PackPanels(rows.data(), dim, rows.size() / dim, dim, panels_.data());
}

void PackedMatrix::Multiply(const float* tokens, size_t num_tokens,
                            float* out) const {
  ActiveKernels().pair_ip(tokens, dim_, num_tokens, panels_.data(), num_panels_,
                          dim_, out, width());
}

std::string BeginBytes(MultiEncoderParams::Kind kind) {
  std::string out;
  PutFixed(&out, kMagic);
  PutFixed(&out, kVersion);
  PutFixed(&out, static_cast<uint32_t>(kind));
  return out;
}

void EndBytes(std::string* bytes) { PutFixed(bytes, Crc32c(*bytes)); }

}  // namespace multi_encoder
}  // namespace vicinal
