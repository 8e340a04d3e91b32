#include "tests/distance/gpu/test_codes.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "src/base/random.h"
#include "src/distance/kernels_codes.h"

namespace vicinal::backend_tests {
namespace {

float Between(Random& random, double low, double high) {
  return static_cast<float>(low + (high - low) * random.UniformDouble());
}

}  // namespace

TestCodes::TestCodes(const std::vector<SegmentShape>& shapes,
                     bool rescale_is_f16, size_t num_rows, Random& random)
    : num_rows_(num_rows) {
  size_t payload = 0;
  for (const SegmentShape& shape : shapes) {
    CodeSegment& segment = layout_.segments[layout_.num_segments++];
    segment.bits = shape.bits;
    segment.num_dims = shape.bits == 0 ? 0 : shape.num_dims;
    segment.payload_offset = static_cast<uint32_t>(payload);
    segment.query_offset = static_cast<uint32_t>(value_bytes_);
    payload += segment.num_dims * shape.bits / 8;
    value_bytes_ += segment.num_dims;
    segment.has_levels = shape.has_levels;
    for (uint8_t& level : segment.levels) {
      level = static_cast<uint8_t>(random.Uniform(128));
    }
  }
  for (size_t s = 0; s < shapes.size(); ++s) {
    if (!shapes[s].has_low) continue;
    layout_.segments[s].low_offset = static_cast<uint32_t>(value_bytes_);
    value_bytes_ += layout_.segments[s].num_dims;
  }
  layout_.rescale_is_f16 = rescale_is_f16;
  layout_.additive_offset = static_cast<uint32_t>((payload + 3) / 4 * 4);
  layout_.record_bytes =
      static_cast<uint32_t>((layout_.additive_offset + 4 +
                             (rescale_is_f16 ? 2 : 4) * shapes.size() + 15) /
                            16 * 16);
  stride_ = layout_.record_bytes + 16 * random.Uniform(2);
  records_.resize(num_rows * stride_);
  for (uint8_t& byte : records_) byte = static_cast<uint8_t>(random.Next());
  for (size_t row = 0; row < num_rows; ++row) {
    uint8_t* factors = &records_[row * stride_ + layout_.additive_offset];
    const float additive = Between(random, -1, 1);
    std::memcpy(factors, &additive, 4);
    for (size_t s = 0; s < shapes.size(); ++s) {
      if (rescale_is_f16) {
        // From 2^-14 to 2^-5, of both signs; some denormal.
        const uint64_t exponent = random.Uniform(10);
        const auto half = static_cast<uint16_t>(
            random.Uniform(2) << 15 | exponent << 10 | random.Uniform(1024));
        std::memcpy(factors + 4 + 2 * s, &half, 2);
      } else {
        const float rescale = Between(random, -0.01, 0.01);
        std::memcpy(factors + 4 + 4 * s, &rescale, 4);
      }
    }
  }
}

void TestCodes::Copy(size_t from, size_t to) {
  std::memcpy(&records_[to * stride_], &records_[from * stride_],
              layout_.record_bytes);
}

TestCodeQueries::TestCodeQueries(const TestCodes& codes, size_t num,
                                 Random& random)
    : num_(num),
      num_segments_(codes.layout().num_segments),
      value_bytes_(codes.value_bytes()),
      values_(num * codes.value_bytes()) {
  for (int8_t& value : values_) {
    value = static_cast<int8_t>(static_cast<int>(random.Uniform(255)) - 127);
  }
  for (size_t q = 0; q < num; ++q) {
    for (size_t s = 0; s < num_segments_; ++s) {
      const CodeSegment& segment = codes.layout().segments[s];
      if (segment.bits != 1) continue;
      for (size_t i = 0; i < segment.num_dims; ++i) {
        values_[q * value_bytes_ + segment.query_offset + i] =
            static_cast<int8_t>(
                static_cast<int>(random.Uniform(2 * kOneBitLimit + 1)) -
                kOneBitLimit);
      }
    }
  }
}

void TestCodeQueries::Fill(CodeQuestion* question) const {
  question->probes = probes_.data();
  question->num_probes = probes_.size();
  question->num_queries = num_;
  question->values = values_.data();
  question->value_bytes = value_bytes_;
}

void TestCodeQueries::AddProbe(size_t query, uint32_t list, Random& random) {
  CodeQuery& terms = terms_.emplace_back();
  terms.additive = Between(random, -2, 2);
  terms.additive_scale = Between(random, -2, 2);
  for (size_t s = 0; s < num_segments_; ++s) {
    terms.scale[s] = Between(random, -0.1, 0.1);
    terms.offset[s] = Between(random, -10, 10);
    terms.low_scale[s] = terms.scale[s] / 254;
  }
  probes_.push_back({static_cast<uint32_t>(query), list, &terms});
}

}  // namespace vicinal::backend_tests
