#include "src/engine/write_batch_multi.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/half.h"
#include "src/base/types.h"
#include "src/engine/element_values.h"
#include "src/engine/limits.h"
#include "src/engine/multi_rows.h"

namespace vicinal {
namespace {

// Whether all elements are numbers of at most kMaxTokenElement; `bytes` has
// whole ones of the type. Without the sign, bits ascend as magnitudes do, and
// infinities and NaN are above all numbers.
bool AreTakable(absl::string_view bytes, ElementType type) {
  constexpr auto kMost = std::bit_cast<uint32_t>(kMaxTokenElement);
  const auto all_within = [&](auto most) {
    using Element = decltype(most);
    constexpr auto kMagnitude = std::numeric_limits<Element>::max() >> 1;
    bool within = true;
    for (size_t i = 0; i < bytes.size(); i += sizeof(Element)) {
      Element element;
      std::memcpy(&element, bytes.data() + i, sizeof(Element));
      within &= (element & kMagnitude) <= most;
    }
    return within;
  };
  switch (type) {
    case ElementType::kFloat32:
      return all_within(kMost);
    case ElementType::kFloat16:
      return all_within(uint16_t{0x7BFF});  // 65,504
    case ElementType::kBfloat16:
      return all_within(static_cast<uint16_t>(kMost >> 16));
    case ElementType::kInt8:
    case ElementType::kUint8:
      return true;
  }
  return false;
}

// Why Convert refused an element of a field of that type.
std::string WhyNotTakable(float value, ElementType type) {
  const bool is_wide =
      type == ElementType::kFloat32 || type == ElementType::kBfloat16;
  if (!is_wide || !std::isfinite(value)) return WhyRefused(value, type);
  return absl::StrCat("is ", value, "; give a number from ", -kMaxTokenElement,
                      " to ", kMaxTokenElement);
}

bool IsZero(absl::string_view token, ElementType type) {
  const size_t size = ElementSize(type);
  for (size_t i = 0; i < token.size(); i += size) {
    if (ElementAsFloat(token.data() + i, type) != 0) return false;
  }
  return true;
}

}  // namespace

void MultiColumns::CheckStructure(RefuseBatch refuse) {
  for (size_t c = 0; c < batch_.multi.size(); ++c) CheckColumn(c, refuse);
}

void MultiColumns::CheckColumn(size_t number, RefuseBatch refuse) {
  const MultiColumn& source = batch_.multi[number];
  const std::string path = absl::StrCat("multi_vectors[", number, "]");
  const std::optional<size_t> m = schema_.FindMulti(source.name);
  if (!m.has_value()) {
    const auto kind = KindOfVector(schema_, source.name);
    refuse(path + ".name",
           kind.has_value()
               ? absl::StrCat("\"", source.name, "\" ", HowToWrite(*kind))
               : absl::StrCat("is \"", source.name,
                              "\"; the collection has no such multi-vector"));
    return;
  }
  Column& column = columns_[*m];
  if (column.source != nullptr) {
    refuse(path + ".name", absl::StrCat("\"", source.name,
                                        "\" stands twice; send one column for "
                                        "each vector name"));
    return;
  }
  if (source.type < ElementType::kFloat32 ||
      source.type > ElementType::kBfloat16) {
    refuse(path + ".type", "is not f32, f16, bf16, int8 or uint8");
    return;
  }
  const size_t dim = layout_.multi[*m].dim;
  if (source.dim != dim) {
    refuse(path + ".dim",
           absl::StrCat("is ", source.dim, "; tokens of multi-vector \"",
                        source.name, "\" of this collection have ", dim));
    return;
  }
  if (!CheckOffsets(source, path, refuse) ||
      !CheckPresent(source, path, &column.named, refuse)) {
    return;
  }
  column.source = &source;
  column.number = number;
  column.data = source.data;
}

bool MultiColumns::CheckOffsets(const MultiColumn& source,
                                const std::string& path,
                                RefuseBatch refuse) const {
  const size_t n = batch_.ids.size();
  const std::vector<uint64_t>& offsets = source.offsets;
  if (offsets.size() != n + 1) {
    refuse(path + ".offsets",
           absl::StrCat("has ", offsets.size(), " elements; ", n,
                        " points take ", n + 1));
    return false;
  }
  const size_t token_bytes = source.dim * ElementSize(source.type);
  const size_t num_tokens = source.data.size() / token_bytes;
  for (size_t i = 0; i <= n; ++i) {
    const bool fits = i == 0 ? offsets[0] == 0 : offsets[i] >= offsets[i - 1];
    if (fits && offsets[i] <= num_tokens) continue;
    refuse(absl::StrCat(path, ".offsets[", i, "]"),
           absl::StrCat("is ", offsets[i],
                        "; offsets begin with 0, do not descend and end with "
                        "the number of tokens, ",
                        num_tokens, " in ", source.data.size(), " bytes"));
    return false;
  }
  if (offsets[n] * token_bytes != source.data.size()) {
    refuse(path + ".data",
           absl::StrCat("has ", source.data.size(), " bytes; ", offsets[n],
                        " tokens of ", source.dim, " ", TypeName(source.type),
                        " elements take ", offsets[n] * token_bytes));
    return false;
  }
  return true;
}

bool MultiColumns::CheckPresent(const MultiColumn& source,
                                const std::string& path,
                                std::vector<bool>* named,
                                RefuseBatch refuse) const {
  if (source.present.empty()) return true;
  named->assign(batch_.ids.size(), false);
  for (size_t i = 0; i < source.present.size(); ++i) {
    const uint32_t point = source.present[i];
    const std::string at = absl::StrCat(path, ".present[", i, "]");
    if (point >= batch_.ids.size()) {
      refuse(at, absl::StrCat("is ", point, "; the batch has ",
                              batch_.ids.size(), " points"));
      return false;
    }
    if (i > 0 && point <= source.present[i - 1]) {
      refuse(at, absl::StrCat("is ", point, " after ", source.present[i - 1],
                              "; the list must ascend"));
      return false;
    }
    (*named)[point] = true;
  }
  for (size_t i = 0; i < batch_.ids.size(); ++i) {
    if ((*named)[i] || source.offsets[i] == source.offsets[i + 1]) continue;
    refuse(path + ".present",
           absl::StrCat("does not name point ", i, ", which has ",
                        source.offsets[i + 1] - source.offsets[i], " tokens"));
    return false;
  }
  return true;
}

bool MultiColumns::Has(size_t point) const {
  return std::any_of(columns_.begin(), columns_.end(),
                     [&](const Column& column) {
                       return column.source != nullptr &&
                              (column.NumTokens(point) > 0 ||
                               (!column.named.empty() && column.named[point]));
                     });
}

void MultiColumns::CheckItems(RefuseItem refuse) {
  for (size_t m = 0; m < columns_.size(); ++m) {
    Column& column = columns_[m];
    if (column.source == nullptr) continue;
    const MultiSpec& spec = layout_.multi[m];
    if (column.source->type != spec.type) {
      column.converted.resize(column.source->offsets.back() *
                              spec.token_bytes());
      column.data = column.converted;
    }
    for (size_t i = 0; i < batch_.ids.size(); ++i) CheckTokensOf(m, i, refuse);
  }
}

void MultiColumns::CheckTokensOf(size_t m, size_t point, RefuseItem refuse) {
  const Column& column = columns_[m];
  const MultiSpec& spec = layout_.multi[m];
  const MultiVectorField& field = schema_.multi[m];
  const size_t num_tokens = column.NumTokens(point);
  const std::string path =
      absl::StrCat("multi_vectors[", column.number, "].data[", point, "]");
  if (num_tokens == 0) {
    if (!column.named.empty() && column.named[point] && !field.allow_empty) {
      refuse(point, path,
             absl::StrCat("has no tokens; multi-vector \"", field.name,
                          "\" takes no empty ones: leave the vector out of the "
                          "point, or create the collection with allow_empty"));
    }
    return;
  }
  if (num_tokens > field.max_tokens) {
    refuse(point, path,
           absl::StrCat("has ", num_tokens, " tokens; at most ",
                        field.max_tokens, " are allowed"));
    return;
  }
  const size_t begin = column.source->offsets[point];
  for (size_t token = 0; token < num_tokens; ++token) {
    const int64_t bad = Convert(m, begin + token);
    if (bad >= 0) {
      const ElementType from = column.source->type;
      const float value = ElementAsFloat(
          column.source->data.data() +
              ((begin + token) * spec.dim + static_cast<size_t>(bad)) *
                  ElementSize(from),
          from);
      refuse(point, absl::StrCat(path, "[", token, "][", bad, "]"),
             WhyNotTakable(value, spec.type));
      return;
    }
    const size_t size = spec.token_bytes();
    if (spec.cosine &&
        IsZero(column.data.substr((begin + token) * size, size), spec.type)) {
      refuse(point, absl::StrCat(path, "[", token, "]"),
             "is a zero vector, which has no cosine with anything; leave the "
             "token out or use another metric");
      return;
    }
  }
}

int64_t MultiColumns::Convert(size_t m, size_t token) {
  Column& column = columns_[m];
  const MultiSpec& spec = layout_.multi[m];
  const ElementType from = column.source->type;
  const size_t from_size = ElementSize(from);
  const absl::string_view in = column.source->data.substr(
      token * spec.dim * from_size, spec.dim * from_size);
  if (from == spec.type) {
    if (AreTakable(in, from)) return -1;
    for (size_t e = 0; e < spec.dim; ++e) {
      if (!AreTakable(in.substr(e * from_size, from_size), from)) {
        return static_cast<int64_t>(e);
      }
    }
  }
  char* out = column.converted.data() + token * spec.token_bytes();
  if (from == ElementType::kFloat32 && spec.type == ElementType::kFloat16) {
    floats_.resize(spec.dim);
    halves_.resize(spec.dim);
    std::memcpy(floats_.data(), in.data(), in.size());
    FloatToHalf(floats_, halves_);
    std::memcpy(out, halves_.data(), spec.token_bytes());
    if (AreTakable({out, spec.token_bytes()}, spec.type)) return -1;
  }
  const size_t to_size = ElementSize(spec.type);
  for (size_t e = 0; e < spec.dim; ++e) {
    const float value = ElementAsFloat(in.data() + e * from_size, from);
    if (!PutElement(value, spec.type, out + e * to_size) ||
        std::abs(value) > kMaxTokenElement) {
      return static_cast<int64_t>(e);
    }
  }
  return -1;
}

absl::string_view MultiColumns::TokensOf(size_t point, size_t m) const {
  const Column& column = columns_[m];
  if (column.source == nullptr) return {};
  const size_t size = layout_.multi[m].token_bytes();
  return column.data.substr(column.source->offsets[point] * size,
                            column.NumTokens(point) * size);
}

size_t MultiColumns::size_bytes() const {
  size_t bytes = 0;
  for (const Column& column : columns_) bytes += column.data.size();
  return bytes;
}

}  // namespace vicinal
