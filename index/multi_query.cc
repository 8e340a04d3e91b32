#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "index/multi_field.h"
#include "src/distance/distance.h"
#include "src/distance/load_row.h"

namespace vicinal {
namespace {

// Document tokens compared at a time: they and their products stay in the
// first-level cache.
constexpr size_t kTokenBlock = 32;

std::unique_ptr<float[]> Room(size_t n) {
  return std::make_unique_for_overwrite<float[]>(n);
}

}  // namespace

void LoadTokens(const MultiSpec& spec, TokenRows row, size_t first,
                size_t count, float* out) {
  const size_t token_bytes = spec.token_bytes();
  const std::byte* data = row.data + first * token_bytes;
  LoadFloats(data, spec.type, count * spec.dim, out);
  for (size_t i = 0; i < count && spec.cosine; ++i) {
    NormalizeInto(out + i * spec.dim, spec.dim, out + i * spec.dim);
  }
}

MultiQuery::MultiQuery(const MultiSpec& spec, std::span<const float> tokens,
                       std::span<const float> weights)
    : spec_(spec),
      num_tokens_(tokens.size() / spec.dim),
      tokens_(tokens.begin(), tokens.end()),
      weights_(weights.begin(), weights.end()) {
  if (weights_.empty()) weights_.assign(num_tokens_, 1.0f);
  for (size_t i = 0; i < num_tokens_ && spec.cosine; ++i) {
    NormalizeInto(&tokens_[i * spec.dim], spec.dim, &tokens_[i * spec.dim]);
  }
  num_panels_ = (num_tokens_ + kPairPanel - 1) / kPairPanel;
  panels_.resize(num_panels_ * kPairPanel * spec.dim);
  PackPanels(tokens_.data(), spec.dim, num_tokens_, spec.dim, panels_.data());
}

template <typename Visit>
void MultiQuery::ForEachBlock(TokenRows row, const Visit& visit) const {
  const size_t width = num_panels_ * kPairPanel;
  const std::unique_ptr<float[]> tokens = Room(kTokenBlock * spec_.dim);
  const std::unique_ptr<float[]> products = Room(kTokenBlock * width);
  for (size_t first = 0; first < row.num_tokens; first += kTokenBlock) {
    const size_t count = std::min(kTokenBlock, row.num_tokens - first);
    LoadTokens(spec_, row, first, count, tokens.get());
    ActiveKernels().pair_ip(tokens.get(), spec_.dim, count, panels_.data(),
                            num_panels_, spec_.dim, products.get(), width);
    visit(first, count, products.get(), width);
  }
}

float MultiQuery::Score(TokenRows row) const {
  const size_t width = num_panels_ * kPairPanel;
  const std::unique_ptr<float[]> best = Room(width);
  std::fill_n(best.get(), width, -std::numeric_limits<float>::infinity());
  ForEachBlock(row, [&](size_t, size_t count, const float* products, size_t) {
    for (size_t p = 0; p < count; ++p) {
      const float* of_token = products + p * width;
      for (size_t i = 0; i < width; ++i) {
        best[i] = of_token[i] > best[i] ? of_token[i] : best[i];
      }
    }
  });
  double score = 0;
  for (size_t i = 0; i < num_tokens_; ++i) {
    score += static_cast<double>(weights_[i]) * best[i];
  }
  // Products of large elements may have overflowed.
  constexpr double kMost = std::numeric_limits<float>::max();
  return score >= -kMost ? static_cast<float>(std::min(score, kMost))
                         : -std::numeric_limits<float>::max();
}

std::vector<float> MultiQuery::Similarities(TokenRows row) const {
  std::vector<float> out(num_tokens_ * row.num_tokens);
  ForEachBlock(row, [&](size_t first, size_t count, const float* products,
                        size_t width) {
    for (size_t p = 0; p < count; ++p) {
      for (size_t i = 0; i < num_tokens_; ++i) {
        out[i * row.num_tokens + first + p] = products[p * width + i];
      }
    }
  });
  return out;
}

}  // namespace vicinal
