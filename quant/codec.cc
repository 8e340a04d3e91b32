#include "quant/codec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "quant/float_rows.h"
#include "quant/rotation.h"
#include "quant/rounded_matrix.h"
#include "quant/scalar_levels.h"
#include "src/base/check.h"
#include "src/base/half.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"
#include "src/distance/load_row.h"

namespace vicinal {
namespace {

// Rows encoded at a time: a block and its coordinates stay in the caches.
constexpr size_t kBlockRows = 64;
// Bits per dimension from which eight-bit segments see a query's second digit.
// Measured at 4 bits, D=1024: see docs/codecs.md.
constexpr size_t kFineBits = 3;
// Steps of a query's second digit in one of its first: [-127, 127].
constexpr float kLowSteps = 254;

double Dot(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// The sum of (level of codes[i] - centre) * values[i]; n: a multiple of 16.
float CentredProduct(const uint8_t* codes, const ScalarLevels& levels,
                     const float* values, size_t n) {
  // Lanes, so that additions overlap.
  float lanes[16] = {};
  const float center = levels.center();
  if (levels.has_table()) {
    float level[16];
    for (size_t u = 0; u < 16; ++u) {
      level[u] = static_cast<float>(levels.table()[u]) - center;
    }
    for (size_t i = 0; i < n; i += 16) {
      for (size_t l = 0; l < 16; ++l) {
        lanes[l] += level[codes[i + l]] * values[i + l];
      }
    }
  } else {
    for (size_t i = 0; i < n; i += 16) {
      for (size_t l = 0; l < 16; ++l) {
        lanes[l] += (static_cast<float>(codes[i + l]) - center) * values[i + l];
      }
    }
  }
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

float FactorOf(Metric metric) { return metric == Metric::kL2 ? -2.0f : -1.0f; }

}  // namespace

float DefaultAvgBits(size_t dim) {
  return dim >= 256 ? 2.0f : dim >= 64 ? 4.0f : 8.0f;
}

size_t CodeGranularity(size_t dim) { return dim < 256 ? 16 : 64; }

size_t CodeRecordBytes(size_t dim, float avg_bits) {
  // Short vectors: all dimensions and the factors. Long ones: the factors come
  // out of the same bytes, up to the last 16.
  const double padded = static_cast<double>((dim + 15) / 16 * 16);
  const double bytes =
      dim < 256 ? avg_bits * padded / 8 + 8 + 15 : avg_bits * dim / 8 + 15;
  return std::max<size_t>(16, static_cast<size_t>(bytes) / 16 * 16);
}

size_t UniformRecordBytes(size_t dim, uint32_t bits) {
  const size_t unit = CodeGranularity(dim);
  const size_t padded = (dim + unit - 1) / unit * unit;
  const size_t factors = sizeof(float) + (bits == 8 ? 4 : 2);
  return (padded * bits / 8 + factors + 15) / 16 * 16;
}

void Codec::Finish() {
  const size_t d = mean_.size();
  layout_ = {};
  layout_.num_segments = plan_.size() + (stores_missing() ? 1 : 0);
  VICINAL_CHECK(layout_.num_segments <= kMaxCodeSegments);
  uint32_t payload = 0;
  uint32_t coded = 0;
  bool fine = true;
  for (size_t s = 0; s < plan_.size(); ++s) {
    const ScalarLevels& levels = ScalarLevels::ForBits(plan_[s].bits);
    CodeSegment& segment = layout_.segments[s];
    segment.bits = plan_[s].bits;
    segment.num_dims = plan_[s].num_dims;
    segment.payload_offset = payload;
    segment.query_offset = coded;
    segment.has_levels = levels.has_table();
    std::copy(levels.table().begin(), levels.table().end(), segment.levels);
    payload += CodePayloadBytes(segment.num_dims, segment.bits);
    coded += segment.num_dims;
    fine = fine && segment.bits == 8;
  }
  num_coded_ = coded;
  num_values_ = coded;
  // Where codes are fine, the query's own rounding would be much of the error
  // of the segments of eight bits.
  for (size_t s = 0; s < plan_.size(); ++s) {
    if (plan_[s].bits != 8 || payload * 8 < kFineBits * d) continue;
    layout_.segments[s].low_offset = num_values_;
    num_values_ += plan_[s].num_dims;
  }
  // A half has 11 bits: too few behind codes of eight.
  layout_.rescale_is_f16 = !fine;
  layout_.additive_offset = (payload + 3) / 4 * 4;
  const size_t factors =
      4 + layout_.num_segments * (layout_.rescale_is_f16 ? 2 : 4);
  layout_.record_bytes = (layout_.additive_offset + factors + 15) / 16 * 16;

  fours_bytes_ = CodeFoursBytes(layout_);
  mean_norm2_ = Dot(mean_.data(), mean_.data(), d);
  if (basis_.empty()) {
    rotation_ = std::make_unique<const Rotation>(num_coded_, rotation_seed_);
    return;
  }
  rounded_ = RoundedMatrix(projection(), d);
}

size_t Codec::memory_bytes() const {
  return (mean_.size() + basis_.size() + query_basis_.size()) * sizeof(float) +
         rounded_.memory_bytes();
}

void Codec::LoadRow(const void* row, ElementType type, float* out) const {
  LoadFloats(row, type, dim(), out);
  if (metric_ == Metric::kCosine) NormalizeInto(out, dim(), out);
}

std::vector<float> Codec::PanelsOf(const std::vector<float>& basis) const {
  // num_coded_ is a multiple of 16, so that the panels are full.
  static_assert(kPairPanel == 16);
  std::vector<float> panels(basis.size());
  if (!basis.empty()) {
    PackPanels(basis.data(), dim(), num_coded_, dim(), panels.data());
  }
  return panels;
}

void Codec::Project(MatrixView centred, const float* panels,
                    float* coded) const {
  if (rotation_ == nullptr) {
    ActiveKernels().pair_ip(centred.data, centred.dim, centred.num_rows, panels,
                            num_coded_ / kPairPanel, centred.dim, coded,
                            num_coded_);
    return;
  }
  for (size_t i = 0; i < centred.num_rows; ++i) {
    float* out = coded + i * num_coded_;
    std::copy_n(centred.row(i).data(), centred.dim, out);
    std::fill(out + centred.dim, out + num_coded_, 0.0f);
    rotation_->Apply(out);
  }
}

struct Codec::EncodeRoom {
  std::vector<float> centred;
  std::vector<float> coded;
  std::vector<uint8_t> codes;
};

void Codec::EncodeBlock(size_t first, size_t count, const float* panels,
                        const RowCentres* centres, const float* coded_centres,
                        EncodeRoom* room, uint8_t* records) const {
  const size_t d = dim();
  const float* centred = room->centred.data();
  room->coded.resize(kBlockRows * num_coded_);
  room->codes.resize(num_coded_);
  Project({centred, count, d, d}, panels, room->coded.data());
  for (size_t i = 0; i < count; ++i) {
    uint8_t* record = records + i * layout_.record_bytes;
    std::memset(record, 0, layout_.record_bytes);
    const float* row = centred + i * d;
    const size_t centre = centres == nullptr ? 0 : centres->CentreOf(first + i);
    double with_centre = 0;  // <r^, c - m>
    for (size_t s = 0; s < plan_.size(); ++s) {
      const CodeSegment& segment = layout_.segments[s];
      const ScalarLevels& levels = ScalarLevels::ForBits(segment.bits);
      const SegmentCode code =
          EncodeSegment({&room->coded[i * num_coded_ + segment.query_offset],
                         segment.num_dims},
                        levels, adjust_rounds_, room->codes.data());
      PackCodes(room->codes.data(), segment.num_dims, segment.bits,
                record + segment.payload_offset);
      PutRescale(unit_[s] > 0 ? code.rescale / unit_[s] : 0, s, record);
      if (centres == nullptr) continue;
      const float* coded =
          coded_centres + centre * num_coded_ + segment.query_offset;
      with_centre +=
          static_cast<double>(Rescale(record, s)) * unit_[s] *
          CentredProduct(room->codes.data(), levels, coded, segment.num_dims);
    }
    double additive = metric_ == Metric::kL2 ? SumSquares(row, d)
                                             : -Dot(row, mean_.data(), d);
    if (centres != nullptr) {
      const double product = Dot(row, centres->centres.row(centre).data(), d) -
                             Dot(row, mean_.data(), d);
      const double missing = product - with_centre;
      additive = metric_ == Metric::kL2 ? additive + 2 * product : -missing;
      if (stores_missing() && missing_unit_ > 0) {
        PutRescale(static_cast<float>(missing / missing_unit_), plan_.size(),
                   record);
      }
    }
    const auto stored = static_cast<float>(additive);
    std::memcpy(record + layout_.additive_offset, &stored, sizeof(float));
  }
}

absl::Status Codec::Encode(VectorSetView rows, std::span<uint8_t> records,
                           size_t num_threads, const CancelToken* cancel,
                           const RowCentres* centres) const {
  VICINAL_CHECK_EQ(rows.dim, dim());
  VICINAL_CHECK_EQ(records.size(), rows.num_rows * layout_.record_bytes);
  const size_t d = dim();
  const std::vector<float> panels = PanelsOf(basis_);
  std::vector<float> coded_centres;
  if (centres != nullptr) {
    VICINAL_CHECK_EQ(centres->offsets.back(), rows.num_rows);
    // Centres are part of the query's side of the product.
    coded_centres =
        CodeCentres(centres->centres,
                    query_basis_.empty() ? panels : PanelsOf(query_basis_));
  }
  Workers workers(num_threads);
  std::vector<EncodeRoom> rooms(workers.size());
  const auto cancelled = [&] {
    return cancel != nullptr && cancel->cancelled();
  };
  workers.For(rows.num_rows, kBlockRows,
              [&](size_t begin, size_t end, size_t worker) {
                if (cancelled()) return;
                EncodeRoom& room = rooms[worker];
                room.centred.resize(kBlockRows * d);
                for (size_t i = begin; i < end; ++i) {
                  float* row = &room.centred[(i - begin) * d];
                  LoadRow(rows.row(i), rows.type, row);
                  const float* centre =
                      centres == nullptr
                          ? mean_.data()
                          : centres->centres.row(centres->CentreOf(i)).data();
                  for (size_t j = 0; j < d; ++j) row[j] -= centre[j];
                }
                EncodeBlock(begin, end - begin, panels.data(), centres,
                            coded_centres.data(), &room,
                            records.data() + begin * layout_.record_bytes);
              });
  return cancelled() ? absl::CancelledError("encoding cancelled")
                     : absl::OkStatus();
}

Codec::Coding Codec::CodingFor(const RowCentres* centres) const {
  Coding out;
  RowCoding& terms = out.terms;
  terms.layout = &layout_;
  terms.dim = dim();
  terms.num_coded = num_coded_;
  terms.mean = mean_.data();
  if (rotation_ == nullptr) {
    terms.basis = basis_.data();
  } else {
    terms.signs = rotation_->signs().data();
  }
  if (centres != nullptr) {
    const MatrixView& from = centres->centres;
    for (size_t i = 0; i < from.num_rows; ++i) {
      const auto row = from.row(i);
      out.centres.insert(out.centres.end(), row.begin(), row.end());
    }
    out.coded_centres = CodeCentres(
        from, PanelsOf(query_basis_.empty() ? basis_ : query_basis_));
    terms.centres = out.centres.data();
    terms.coded_centres = out.coded_centres.data();
    terms.offsets = centres->offsets.data();
    terms.num_centres = from.num_rows;
  }
  std::copy(unit_.begin(), unit_.end(), terms.units);
  terms.missing_unit = missing_unit_;
  terms.adjust_rounds = adjust_rounds_;
  terms.step_of_two = ScalarLevels::step_of_two();
  std::ranges::copy(ScalarLevels::limits_of_four(), terms.limits_of_four);
  return out;
}

std::vector<float> Codec::CodeCentres(MatrixView centres,
                                      const std::vector<float>& panels) const {
  const size_t d = dim();
  std::vector<float> centred(centres.num_rows * d);
  for (size_t i = 0; i < centres.num_rows; ++i) {
    for (size_t j = 0; j < d; ++j) {
      centred[i * d + j] = centres.row(i)[j] - mean_[j];
    }
  }
  std::vector<float> coded(centres.num_rows * num_coded_);
  Project({centred.data(), centres.num_rows, d, d}, panels.data(),
          coded.data());
  return coded;
}

absl::Status Codec::Prepare(const void* query, ElementType type,
                            PreparedQuery* out) const {
  const size_t d = dim();
  out->centred_.resize(2 * d);
  out->values_.resize(num_values_);
  out->coordinates_.resize(num_coded_);
  float* raw = out->centred_.data() + d;
  float* centred = out->centred_.data();
  LoadRow(query, type, raw);
  if (!AllFinite(raw, d)) {
    return absl::InvalidArgumentError(
        "the query has a value that is not "
        "finite");
  }
  const double mean_product =
      metric_ == Metric::kL2 ? 0 : Dot(raw, mean_.data(), d);
  const auto share =
      static_cast<float>(metric_ == Metric::kL2 ? 1
                         : mean_norm2_ > 0      ? mean_product / mean_norm2_
                                                : 0);
  for (size_t j = 0; j < d; ++j) centred[j] = raw[j] - share * mean_[j];
  const double norm2 = SumSquares(centred, d);
  if (rotation_ != nullptr) {
    Project({centred, 1, d, d}, nullptr, out->coordinates_.data());
  } else {
    rounded_.Multiply(centred, static_cast<float>(std::sqrt(norm2)),
                      &out->rounded_, out->coordinates_.data());
  }

  CodeQuery& prepared = out->query_;
  prepared.values = out->values_.data();
  prepared.additive = metric_ == Metric::kL2
                          ? static_cast<float>(norm2)
                          : (metric_ == Metric::kCosine ? 1.0f : 0.0f) -
                                static_cast<float>(mean_product);
  prepared.additive_scale = share;
  // Under the other metrics rows that are far are not known so early.
  prepared.look_after = metric_ == Metric::kL2 && plan_.size() > 1 ? 1 : 0;
  if (stores_missing()) {
    prepared.scale[plan_.size()] = 0;
    prepared.offset[plan_.size()] = 0;
  }
  const float factor = FactorOf(metric_);
  double coded2 = 0;
  for (size_t s = 0; s < plan_.size(); ++s) {
    const CodeSegment& segment = layout_.segments[s];
    const ScalarLevels& levels = ScalarLevels::ForBits(segment.bits);
    int8_t* values = &out->values_[segment.query_offset];
    const float* coordinates = &out->coordinates_[segment.query_offset];
    float largest = 0;
    for (size_t i = 0; i < segment.num_dims; ++i) {
      largest = std::max(largest, std::abs(coordinates[i]));
    }
    const double segment2 = SumSquares(coordinates, segment.num_dims);
    coded2 += segment2;
    const float limit = segment.bits == 1 ? kOneBitLimit : 127;
    const float inverse = largest > 0 ? limit / largest : 0;
    int32_t sum = 0;
    for (size_t i = 0; i < segment.num_dims; ++i) {
      const int32_t value = RoundToInteger(coordinates[i] * inverse);
      values[i] = static_cast<int8_t>(value);
      sum += values[i];
    }
    double step = largest / limit;
    const float scale = factor * unit_[s] * (largest / limit);
    prepared.scale[s] = scale;
    double all = sum;
    if (segment.low_offset != 0) {
      // What the first digit leaves is at most half of its step.
      int8_t* low = &out->values_[segment.low_offset];
      int32_t low_sum = 0;
      for (size_t i = 0; i < segment.num_dims; ++i) {
        const float rest =
            coordinates[i] * inverse - static_cast<float>(values[i]);
        const int32_t value = RoundToInteger(rest * kLowSteps);
        low[i] = static_cast<int8_t>(value);
        low_sum += low[i];
      }
      prepared.low_scale[s] = scale / kLowSteps;
      all += static_cast<double>(low_sum) / kLowSteps;
      step /= kLowSteps;
    }
    prepared.offset[s] = static_cast<float>(-scale * levels.center() * all);
    prepared.least[s] =
        -std::abs(factor) * norm_[s] * static_cast<float>(std::sqrt(segment2));
    // Codes err by the query's length, its rounding by the row's.
    const double from_codes = deviation_[s] * deviation_[s] * segment2;
    const double from_query = norm_[s] * norm_[s] * step * step / 12;
    out->error_scale_[s] =
        std::abs(factor) *
        static_cast<float>(std::sqrt(from_codes + from_query));
  }
  const CodeKernels& kernels = ActiveCodeKernels();
  if (fours_bytes_ > 0 && kernels.sum_fours != nullptr) {
    out->fours_.resize(fours_bytes_ / sizeof(PreparedQuery::Line));
    kernels.sum_fours(layout_, prepared.values, out->fours_[0].bytes);
    prepared.fours = out->fours_[0].bytes;
  } else {
    prepared.fours = nullptr;  // the query before may have had them
  }
  const double tail2 = query_basis_.empty() ? std::max(0.0, norm2 - coded2)
                                            : tail_share_ * norm2;
  out->tail_error2_ =
      static_cast<float>(factor * factor * tail_variance_ * tail2);
  return absl::OkStatus();
}

CodeQuery Codec::QueryAround(const PreparedQuery& query, float centre_distance,
                             float centre_norm2) const {
  CodeQuery around = query.code_query();
  around.additive = centre_distance;
  around.additive_scale = 1;
  const float product =
      metric_ == Metric::kL2
          ? (query.code_query().additive + centre_norm2 - centre_distance) / 2
      : metric_ == Metric::kCosine ? 1 - centre_distance
                                   : -centre_distance;
  const float along = centre_norm2 > 0 ? product / centre_norm2 : 0;
  if (metric_ != Metric::kL2) {
    around.additive_scale = along;
  } else if (stores_missing()) {
    around.offset[plan_.size()] = -2 * along * missing_unit_;
    around.least[plan_.size()] = around.offset[plan_.size()];
  }
  return around;
}

float Codec::CentreNorm2(const float* centre) const {
  double sum = 0;
  for (size_t i = 0; i < dim(); ++i) {
    const double difference = static_cast<double>(centre[i]) - mean_[i];
    sum += difference * difference;
  }
  return static_cast<float>(sum);
}

void Codec::PutRescale(float value, size_t segment, uint8_t* record) const {
  uint8_t* factors = record + layout_.additive_offset + sizeof(float);
  if (layout_.rescale_is_f16) {
    const uint16_t half = FloatToHalf(std::clamp(value, -65'504.0f, 65'504.0f));
    std::memcpy(factors + 2 * segment, &half, 2);
  } else {
    std::memcpy(factors + 4 * segment, &value, 4);
  }
}

float Codec::Rescale(const uint8_t* record, size_t segment) const {
  const uint8_t* factors = record + layout_.additive_offset + sizeof(float);
  if (layout_.rescale_is_f16) {
    uint16_t half;
    std::memcpy(&half, factors + 2 * segment, 2);
    return HalfToFloat(half);
  }
  float value;
  std::memcpy(&value, factors + 4 * segment, 4);
  return value;
}

float Codec::ErrorBound(const PreparedQuery& query, const uint8_t* record,
                        float deviations) const {
  double variance = query.tail_error2_;
  for (size_t s = 0; s < plan_.size(); ++s) {
    const double error = Rescale(record, s) * query.error_scale_[s];
    variance += error * error;
  }
  return deviations * static_cast<float>(std::sqrt(variance));
}

float Codec::Between(const uint8_t* a, const uint8_t* b) const {
  VICINAL_DCHECK(!has_query_basis() && !around_centres_);
  // Padded dimensions of a rotation included.
  std::array<uint8_t, 2 * kMaxCodecDim> codes_a, codes_b;
  double product = 0;  // <r_a, r_b>
  for (size_t s = 0; s < plan_.size(); ++s) {
    const CodeSegment& segment = layout_.segments[s];
    const ScalarLevels& levels = ScalarLevels::ForBits(segment.bits);
    UnpackCodes(a + segment.payload_offset, segment.num_dims, segment.bits,
                codes_a.data());
    UnpackCodes(b + segment.payload_offset, segment.num_dims, segment.bits,
                codes_b.data());
    // sum (u_a - c)(u_b - c), below 2^31 in integers of 2u.
    const auto centre2 = static_cast<int32_t>(2 * levels.center());
    int64_t sum = 0;
    for (size_t i = 0; i < segment.num_dims; ++i) {
      const auto u_a = static_cast<int32_t>(levels.Level(codes_a[i]));
      const auto u_b = static_cast<int32_t>(levels.Level(codes_b[i]));
      sum += (2 * u_a - centre2) * (2 * u_b - centre2);
    }
    product += static_cast<double>(Rescale(a, s)) * Rescale(b, s) * unit_[s] *
               unit_[s] * static_cast<double>(sum) / 4;
  }
  float additive_a, additive_b;
  std::memcpy(&additive_a, a + layout_.additive_offset, sizeof(float));
  std::memcpy(&additive_b, b + layout_.additive_offset, sizeof(float));
  const double additive = static_cast<double>(additive_a) + additive_b;
  if (metric_ == Metric::kL2) {
    return static_cast<float>(std::max(0.0, additive - 2 * product));
  }
  return static_cast<float>((metric_ == Metric::kCosine ? 1 : 0) - mean_norm2_ +
                            additive - product);
}

void Codec::Decode(const uint8_t* record, std::span<float> out) const {
  VICINAL_CHECK_EQ(out.size(), dim());
  const size_t d = dim();
  std::vector<uint8_t> codes(num_coded_);
  std::vector<float> coded(num_coded_);
  for (size_t s = 0; s < plan_.size(); ++s) {
    const CodeSegment& segment = layout_.segments[s];
    const ScalarLevels& levels = ScalarLevels::ForBits(segment.bits);
    UnpackCodes(record + segment.payload_offset, segment.num_dims, segment.bits,
                codes.data());
    const float scale = Rescale(record, s) * unit_[s];
    for (size_t i = 0; i < segment.num_dims; ++i) {
      coded[segment.query_offset + i] =
          scale *
          (static_cast<float>(levels.Level(codes[i])) - levels.center());
    }
  }
  std::copy(mean_.begin(), mean_.end(), out.begin());
  if (rotation_ != nullptr) {
    rotation_->ApplyInverse(coded.data());
    for (size_t j = 0; j < d; ++j) out[j] += coded[j];
    return;
  }
  for (size_t i = 0; i < num_coded_; ++i) {
    const float* row = &projection()[i * d];
    for (size_t j = 0; j < d; ++j) out[j] += coded[i] * row[j];
  }
}

}  // namespace vicinal
