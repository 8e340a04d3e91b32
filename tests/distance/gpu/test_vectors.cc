#include "tests/distance/gpu/test_vectors.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace vicinal::backend_tests {
namespace {

void WriteElement(ElementType type, float value, std::byte* out) {
  switch (type) {
    case ElementType::kFloat32:
      std::memcpy(out, &value, sizeof(value));
      return;
    case ElementType::kFloat16: {
      const auto half =
          static_cast<_Float16>(std::clamp(value, -65504.0f, 65504.0f));
      std::memcpy(out, &half, sizeof(half));
      return;
    }
    case ElementType::kInt8:
      *out = static_cast<std::byte>(static_cast<int8_t>(
          std::lrint(std::clamp(32 * value, -128.0f, 127.0f))));
      return;
    case ElementType::kUint8:
      *out = static_cast<std::byte>(static_cast<uint8_t>(
          std::lrint(std::clamp(128 + 32 * value, 0.0f, 255.0f))));
      return;
    case ElementType::kBfloat16:
      return;  // of multi-vectors only
  }
}

void Normalize(std::span<float> vector) {
  double norm2 = 0;
  for (const float value : vector) norm2 += double{value} * value;
  if (norm2 == 0) return;
  const auto scale = static_cast<float>(1 / std::sqrt(norm2));
  for (float& value : vector) value *= scale;
}

}  // namespace

Vectors::Vectors(size_t num, size_t dim, ElementType type, const Fill& fill,
                 size_t gap)
    : num_(num),
      dim_(dim),
      type_(type),
      stride_bytes_((dim + gap) * ElementSize(type)),
      // All bits set are NaN in every type that has one.
      bytes_(num == 0 ? 0 : (num - 1) * stride_bytes_ + dim * ElementSize(type),
             std::byte{0xFF}) {
  std::vector<float> vector(dim);
  for (size_t i = 0; i < num; ++i) {
    std::fill(vector.begin(), vector.end(), 0.0f);
    fill(i, vector);
    Set(i, vector);
  }
}

void Vectors::Set(size_t index, std::span<const float> values) {
  std::byte* const out = bytes_.data() + index * stride_bytes_;
  if (type_ == ElementType::kFloat32) {
    std::memcpy(out, values.data(), values.size_bytes());
    return;
  }
  const size_t size = ElementSize(type_);
  for (size_t i = 0; i < dim_; ++i) {
    WriteElement(type_, values[i], out + i * size);
  }
}

void Vectors::Copy(size_t index, const Vectors& other, size_t other_index) {
  std::memcpy(bytes_.data() + index * stride_bytes_,
              other.view().row(other_index), dim_ * ElementSize(type_));
}

Vectors::Fill NoiseFill(Random& random, float scale) {
  return [&random, scale](size_t, std::span<float> out) {
    for (float& value : out) value = scale * Noise(random);
  };
}

Vectors::Fill ClusterFill(Random& random, size_t num, size_t dim,
                          size_t num_clusters) {
  // Shared, as a std::function must be copyable.
  const auto centres = std::make_shared<std::vector<float>>(num_clusters * dim);
  for (float& value : *centres) value = Noise(random);
  return [&random, centres, num, dim, num_clusters](size_t index,
                                                    std::span<float> out) {
    const size_t cluster = index * num_clusters / num;
    for (size_t i = 0; i < dim; ++i) {
      out[i] = (*centres)[cluster * dim + i] + 0.4f * Noise(random);
    }
    Normalize(out);
  };
}

Vectors::Fill RepeatFill(Random& random, size_t distinct) {
  const uint64_t seed = random.Next();
  return [seed, distinct](size_t index, std::span<float> out) {
    Random own(seed + index % distinct);
    for (float& value : out) value = Noise(own);
  };
}

RowSet::RowSet(size_t num_rows, bool all)
    : words_((num_rows + 63) / 64, all ? ~uint64_t{0} : 0) {
  if (num_rows % 64 != 0) words_.back() |= ~uint64_t{0} << (num_rows % 64);
}

RowSet RowSet::Sample(Random& random, size_t num_rows, double fraction) {
  RowSet rows(num_rows);
  for (size_t row = 0; row < num_rows; ++row) {
    if (random.UniformDouble() < fraction) rows.Add(row);
  }
  return rows;
}

std::string MetricName(Metric metric) {
  return metric == Metric::kL2             ? "l2"
         : metric == Metric::kInnerProduct ? "ip"
                                           : "cosine";
}

std::string TypeName(ElementType type) {
  return type == ElementType::kFloat32   ? "f32"
         : type == ElementType::kFloat16 ? "f16"
         : type == ElementType::kInt8    ? "int8"
                                         : "uint8";
}

}  // namespace vicinal::backend_tests
