// Code records of a GPU against those of one row after the other.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "quant/scalar_levels.h"
#include "src/base/random.h"
#include "src/base/types.h"
#include "src/distance/gpu/backend.h"
#include "tests/distance/gpu/cases.h"
#include "tests/distance/gpu/conformance.h"
#include "tests/distance/gpu/reference_encoder.h"
#include "tests/distance/gpu/test_vectors.h"

namespace vicinal::backend_tests {
namespace {

constexpr Metric kMetrics[] = {Metric::kL2, Metric::kInnerProduct,
                               Metric::kCosine};

struct Width {
  uint32_t bits;
  uint32_t num_dims;
};

struct CodingShape {
  size_t dim = 0;
  std::vector<Width> segments;
  bool has_basis = true;  // else one segment of a fast rotation
  size_t num_centres = 0;
  uint32_t adjust_rounds = 0;
};

// A RowCoding with arrays of its own.
class TestCoding {
 public:
  TestCoding(const CodingShape& shape, Metric metric, size_t num_rows,
             Random& random)
      : mean_(Noises(shape.dim, random)) {
    uint32_t payload = 0;
    bool all_of_eight = true;
    for (const Width& width : shape.segments) {
      CodeSegment& segment = layout_.segments[layout_.num_segments];
      const ScalarLevels& levels = ScalarLevels::ForBits(width.bits);
      segment.bits = width.bits;
      segment.num_dims = width.num_dims;
      segment.payload_offset = payload;
      segment.query_offset = static_cast<uint32_t>(terms_.num_coded);
      segment.has_levels = levels.has_table();
      std::copy(levels.table().begin(), levels.table().end(), segment.levels);
      payload += width.num_dims * width.bits / 8;
      terms_.num_coded += width.num_dims;
      all_of_eight = all_of_eight && width.bits == 8;
      terms_.units[layout_.num_segments++] = 0.3f + 0.1f * width.bits;
    }
    if (shape.num_centres > 0 && metric == Metric::kL2) {
      ++layout_.num_segments;  // of what codes miss
      terms_.missing_unit = 0.7f;
    }
    layout_.rescale_is_f16 = !all_of_eight;
    layout_.additive_offset = (payload + 3) / 4 * 4;
    layout_.record_bytes =
        (layout_.additive_offset + 4 +
         layout_.num_segments * (layout_.rescale_is_f16 ? 2 : 4) + 15) /
        16 * 16;
    terms_.layout = &layout_;
    terms_.dim = shape.dim;
    terms_.mean = mean_.data();
    if (shape.has_basis) {
      basis_ = Noises(terms_.num_coded * shape.dim, random);
      terms_.basis = basis_.data();
    } else {
      signs_.resize(4 * terms_.num_coded);
      for (float& sign : signs_) sign = random.Uniform(2) == 0 ? 1.0f : -1.0f;
      terms_.signs = signs_.data();
    }
    if (shape.num_centres > 0) {
      centres_ = Noises(shape.num_centres * shape.dim, random);
      coded_centres_ = Noises(shape.num_centres * terms_.num_coded, random);
      offsets_ = {0};
      for (size_t i = 1; i < shape.num_centres; ++i) {
        offsets_.push_back(static_cast<uint32_t>(random.Uniform(num_rows + 1)));
      }
      std::sort(offsets_.begin(), offsets_.end());
      offsets_.push_back(static_cast<uint32_t>(num_rows));
      terms_.centres = centres_.data();
      terms_.coded_centres = coded_centres_.data();
      terms_.offsets = offsets_.data();
      terms_.num_centres = shape.num_centres;
    }
    terms_.adjust_rounds = shape.adjust_rounds;
    terms_.step_of_two = ScalarLevels::step_of_two();
    std::ranges::copy(ScalarLevels::limits_of_four(), terms_.limits_of_four);
  }
  TestCoding(const TestCoding&) = delete;
  TestCoding& operator=(const TestCoding&) = delete;

  const RowCoding& terms() const { return terms_; }

 private:
  static std::vector<float> Noises(size_t n, Random& random) {
    std::vector<float> out(n);
    for (float& value : out) value = 0.3f * Noise(random);
    return out;
  }

  CodeLayout layout_;
  RowCoding terms_;
  std::vector<float> mean_, basis_, signs_, centres_, coded_centres_;
  std::vector<uint32_t> offsets_;
};

std::string Compare(DistanceBackend& backend, Metric metric,
                    const Vectors& rows, const CodingShape& shape,
                    Random& random) {
  const TestCoding coding(shape, metric, rows.num(), random);
  std::shared_ptr<const LoadedSegment> loaded;
  BackendStatus status = backend.Load({rows.view(), metric}, &loaded);
  if (status != BackendStatus::kOk) {
    return std::string("load: ") + BackendStatusName(status);
  }
  const size_t record_bytes = coding.terms().layout->record_bytes;
  constexpr size_t kGuard = 64;
  std::vector<uint8_t> records(rows.num() * record_bytes + kGuard, 0xCD);
  status = backend.Encode(*loaded, coding.terms(), records.data());
  const std::string context =
      "encoding, " + MetricName(metric) + " " + TypeName(rows.type()) + ", " +
      std::to_string(rows.num()) + " rows x " + std::to_string(rows.dim()) +
      " to " + std::to_string(coding.terms().num_coded) + ", " +
      std::to_string(shape.num_centres) + " centres, " +
      std::to_string(shape.adjust_rounds) + " rounds: ";
  if (status != BackendStatus::kOk) return context + BackendStatusName(status);
  std::vector<uint8_t> expected =
      EncodeRows(rows.view(), metric, coding.terms());
  expected.resize(records.size(), 0xCD);
  const auto at = std::ranges::mismatch(records, expected).in1;
  if (at == records.end()) return "";
  const size_t byte = at - records.begin();
  size_t num_wrong = 0;
  for (size_t i = 0; i < rows.num(); ++i) {
    num_wrong += std::memcmp(&records[i * record_bytes],
                             &expected[i * record_bytes], record_bytes) != 0;
  }
  return context + "byte " + std::to_string(byte % record_bytes) + " of row " +
         std::to_string(byte / record_bytes) + " is " +
         std::to_string(records[byte]) + ", not " +
         std::to_string(expected[byte]) + "; " + std::to_string(num_wrong) +
         " rows are wrong";
}

std::string Encodes(int device, uint64_t seed) {
  Random random(seed);
  std::unique_ptr<DistanceBackend> backend;
  const BackendStatus status = MakeGpuBackend(
      {.device = device, .workspace_bytes = size_t{64} << 20}, &backend);
  if (status != BackendStatus::kOk) return BackendStatusName(status);
  const std::vector<CodingShape> shapes = {
      {.dim = 16, .segments = {{8, 16}}},
      {.dim = 100, .segments = {{8, 16}, {4, 32}, {2, 48}, {1, 16}}},
      {.dim = 33, .segments = {{1, 16}, {1, 80}}},
      {.dim = 300, .segments = {{4, 64}, {2, 128}, {1, 64}}},
      {.dim = 768, .segments = {{8, 64}, {4, 128}, {2, 256}, {1, 192}}},
      {.dim = 100, .segments = {{2, 112}}, .has_basis = false},
      {.dim = 256, .segments = {{4, 256}}, .has_basis = false},
      {.dim = 700, .segments = {{1, 704}}, .has_basis = false},
      {.dim = 40, .segments = {{8, 48}}, .has_basis = false},
  };
  for (CodingShape shape : shapes) {
    for (const Metric metric : kMetrics) {
      for (const size_t num_centres : {0, 1, 9}) {
        const auto type = static_cast<ElementType>(1 + random.Uniform(4));
        const size_t num_rows = 1 + random.Uniform(600);
        // Some rows are zero, some are copies of others.
        const Vectors::Fill fill = RepeatFill(random, num_rows / 2 + 1);
        const Vectors rows(num_rows, shape.dim, type,
                           [&](size_t index, std::span<float> out) {
                             if (random.Uniform(20) != 0) fill(index, out);
                           });
        shape.num_centres = num_centres;
        shape.adjust_rounds = random.Uniform(2) == 0 ? 0 : 1 + num_centres % 3;
        VICINAL_CHECK_CASE(Compare(*backend, metric, rows, shape, random));
      }
    }
  }
  return "";
}

// More rows than are encoded at a time; vectors whose squares are no floats.
std::string EncodesManyRows(int device, uint64_t seed) {
  Random random(seed);
  std::unique_ptr<DistanceBackend> backend;
  const BackendStatus status = MakeGpuBackend(
      {.device = device, .workspace_bytes = size_t{8} << 20}, &backend);
  if (status != BackendStatus::kOk) return BackendStatusName(status);
  for (const Metric metric : kMetrics) {
    const Vectors rows(20'000, 128, ElementType::kFloat32, NoiseFill(random));
    VICINAL_CHECK_CASE(
        Compare(*backend, metric, rows,
                {.dim = 128,
                 .segments = {{4, 64}, {2, 64}},
                 .num_centres = 50,
                 .adjust_rounds = metric == Metric::kL2 ? 2u : 0u},
                random));
  }
  const Vectors extremes(
      500, 64, ElementType::kFloat32, [&](size_t index, std::span<float> out) {
        NoiseFill(random, index % 2 == 0 ? 1e-30f : 1e25f)(index, out);
      });
  return Compare(*backend, Metric::kCosine, extremes,
                 {.dim = 64, .segments = {{2, 64}}}, random);
}

constexpr GpuCase kCases[] = {
    {"encodes", Encodes},
    {"encodes_many_rows", EncodesManyRows},
};

}  // namespace

std::span<const GpuCase> EncodeCases() { return kCases; }

}  // namespace vicinal::backend_tests
