// The bytes of a codec's model. Little-endian:
//
//   0   u64 magic "VICCODEC"     8  u32 version (1; 2 with flags; 3 with flag
//   4) 12  u8 kind, u8 metric, u16 flags (1 = of rows around centres,
//       2 = queries have a basis of their own, 4 = a rotation and no basis, of
//       one segment; not with 2)
//   16  u32 dim                 20  u32 number of segments
//   24  u32 adjust_rounds       28  f32 tail variance
//   32  per segment: u32 num_dims, u32 bits, f32 unit, f32 deviation, f32 norm
//       with flag 1: f32 unit of what codes miss of the centre
//       f32 mean[dim]
//       f32 basis[sum of num_dims][dim], with flag 4 u64 seed instead
//       with flag 2: f32 tail share, f32 query basis[sum of num_dims][dim]
//       u32 CRC-32C of all before
#include <cmath>
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
#include "quant/codec.h"
#include "quant/float_rows.h"
#include "src/base/coding.h"
#include "src/base/crc32c.h"

namespace vicinal {
namespace {

constexpr uint64_t kMagic = 0x4345444F43434956;  // "VICCODEC"
constexpr uint32_t kVersion = 3;
constexpr uint16_t kAroundCentres = 1;
constexpr uint16_t kQueryBasis = 2;
constexpr uint16_t kRotation = 4;
constexpr size_t kHeaderBytes = 32;
constexpr size_t kSegmentBytes = 20;

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("a codec's model: ", what));
}

bool IsWidth(uint32_t bits) {
  return bits == 1 || bits == 2 || bits == 4 || bits == 8;
}

uint32_t VersionOf(uint16_t flags) {
  return (flags & kRotation) != 0 ? 3 : flags != 0 ? 2 : 1;
}

bool IsFactor(float value) { return std::isfinite(value) && value >= 0; }

}  // namespace

std::string Codec::Serialize() const {
  std::string out;
  PutFixed<uint64_t>(&out, kMagic);
  const auto flags =
      static_cast<uint16_t>((around_centres_ ? kAroundCentres : 0) |
                            (query_basis_.empty() ? 0 : kQueryBasis) |
                            (rotation_ == nullptr ? 0 : kRotation));
  PutFixed<uint32_t>(&out, VersionOf(flags));
  PutFixed(&out, static_cast<uint8_t>(kind_));
  PutFixed(&out, static_cast<uint8_t>(metric_));
  PutFixed<uint16_t>(&out, flags);
  PutFixed<uint32_t>(&out, dim());
  PutFixed<uint32_t>(&out, plan_.size());
  PutFixed<uint32_t>(&out, adjust_rounds_);
  PutFixed<float>(&out, tail_variance_);
  for (size_t s = 0; s < plan_.size(); ++s) {
    PutFixed<uint32_t>(&out, plan_[s].num_dims);
    PutFixed<uint32_t>(&out, plan_[s].bits);
    PutFixed<float>(&out, unit_[s]);
    PutFixed<float>(&out, deviation_[s]);
    PutFixed<float>(&out, norm_[s]);
  }
  if (around_centres_) PutFixed<float>(&out, missing_unit_);
  PutFloats(&out, mean_);
  if (rotation_ != nullptr) {
    PutFixed<uint64_t>(&out, rotation_seed_);
  } else {
    PutFloats(&out, basis_);
  }
  if (!query_basis_.empty()) {
    PutFixed<float>(&out, tail_share_);
    PutFloats(&out, query_basis_);
  }
  PutFixed<uint32_t>(&out, Crc32c(out));
  return out;
}

absl::StatusOr<std::unique_ptr<const Codec>> Codec::Parse(
    absl::string_view bytes) {
  if (bytes.size() < kHeaderBytes + sizeof(uint32_t)) {
    return Damaged("it is cut short");
  }
  if (GetFixed<uint64_t>(bytes.data()) != kMagic) {
    return Damaged("it does not begin like one");
  }
  // Before the version: damage is no newer version.
  const absl::string_view body = bytes.substr(0, bytes.size() - 4);
  if (GetFixed<uint32_t>(bytes.data() + body.size()) != Crc32c(body)) {
    return Damaged("its checksum differs");
  }
  const auto version = GetFixed<uint32_t>(bytes.data() + 8);
  if (version > kVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "a codec's model has version ", version, "; this program reads up to ",
        kVersion, ": use a newer one"));
  }
  absl::string_view in = body.substr(12);
  uint8_t kind = 0, metric = 0;
  uint16_t flags = 0;
  uint32_t dim = 0, num_segments = 0;
  std::unique_ptr<Codec> codec(new Codec());
  ConsumeFixed(&in, &kind);
  ConsumeFixed(&in, &metric);
  ConsumeFixed(&in, &flags);
  ConsumeFixed(&in, &dim);
  ConsumeFixed(&in, &num_segments);
  ConsumeFixed(&in, &codec->adjust_rounds_);
  ConsumeFixed(&in, &codec->tail_variance_);
  const bool rotates = (flags & kRotation) != 0;
  if (version != VersionOf(flags) ||
      flags > (kAroundCentres | kQueryBasis | kRotation) ||
      (rotates && ((flags & kQueryBasis) != 0 || num_segments != 1)) ||
      kind < 1 || kind > 3 || metric < 1 || metric > 3 || dim == 0 ||
      dim > kMaxCodecDim || num_segments == 0 ||
      num_segments > kMaxCodeSegments || codec->adjust_rounds_ > 8 ||
      !IsFactor(codec->tail_variance_)) {
    return Damaged("its header is out of range");
  }
  if (in.size() < num_segments * kSegmentBytes) {
    return Damaged("it is cut short");
  }
  codec->around_centres_ = (flags & kAroundCentres) != 0;
  codec->metric_ = static_cast<Metric>(metric);
  if (codec->stores_missing() && num_segments == kMaxCodeSegments) {
    return Damaged("it has too many segments");
  }
  // A segment may stand for more dimensions than there are, by less than one
  // unit of granularity.
  const size_t max_coded = dim + CodeGranularity(dim);
  size_t num_coded = 0;
  for (uint32_t s = 0; s < num_segments; ++s) {
    PlanSegment segment;
    float unit = 0, deviation = 0, norm = 0;
    ConsumeFixed(&in, &segment.num_dims);
    ConsumeFixed(&in, &segment.bits);
    ConsumeFixed(&in, &unit);
    ConsumeFixed(&in, &deviation);
    ConsumeFixed(&in, &norm);
    if (segment.num_dims == 0 || segment.num_dims % 16 != 0 ||
        segment.num_dims >= max_coded || !IsWidth(segment.bits) ||
        !IsFactor(unit) || !IsFactor(deviation) || !IsFactor(norm)) {
      return Damaged(absl::StrCat("segment ", s, " is out of range"));
    }
    num_coded += segment.num_dims;
    codec->plan_.push_back(segment);
    codec->unit_.push_back(unit);
    codec->deviation_.push_back(deviation);
    codec->norm_.push_back(norm);
  }
  if (codec->around_centres_ && (!ConsumeFixed(&in, &codec->missing_unit_) ||
                                 !IsFactor(codec->missing_unit_))) {
    return Damaged("its unit is out of range");
  }
  // A seed takes the place of two floats.
  const size_t matrix = rotates ? 2 : num_coded * size_t{dim};
  if (num_coded >= max_coded || (rotates && num_coded < dim) ||
      in.size() !=
          (dim + matrix + ((flags & kQueryBasis) != 0 ? matrix + 1 : 0)) *
              sizeof(float)) {
    return Damaged("its size does not fit its segments");
  }
  codec->kind_ = static_cast<CodecKind>(kind);
  bool is_finite = TakeFloats(&in, dim, &codec->mean_);
  if (rotates) {
    ConsumeFixed(&in, &codec->rotation_seed_);
  } else {
    is_finite &= TakeFloats(&in, matrix, &codec->basis_);
  }
  if ((flags & kQueryBasis) != 0) {
    ConsumeFixed(&in, &codec->tail_share_);
    if (!IsFactor(codec->tail_share_)) {
      return Damaged("its tail share is out of range");
    }
    is_finite &= TakeFloats(&in, matrix, &codec->query_basis_);
  }
  if (!is_finite) return Damaged("it holds a value that is not finite");
  codec->Finish();
  return std::unique_ptr<const Codec>(std::move(codec));
}

}  // namespace vicinal
