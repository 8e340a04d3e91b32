#include "server/convert_vector.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/convert.h"
#include "server/convert_elements.h"

namespace vicinal {
namespace {

std::string WhyRefused(float value, ElementType type) {
  if (!std::isfinite(value)) {
    return absl::StrCat("is ", value, "; only finite numbers are allowed");
  }
  const char* range = type == ElementType::kFloat16
                          ? "an f16 vector holds -65504 to 65504"
                      : type == ElementType::kInt8
                          ? "an int8 vector holds whole numbers -128 to 127"
                          : "a uint8 vector holds whole numbers 0 to 255";
  return absl::StrCat("is ", value, "; ", range);
}

}  // namespace

std::optional<std::string> ConvertQuery(absl::string_view bytes,
                                        ElementType type,
                                        const VectorField& field,
                                        const std::string& path,
                                        FieldViolations* violations) {
  std::string out;
  const bool whole = type == ElementType::kInt8 || type == ElementType::kUint8;
  if (whole && type == field.type && field.metric != Metric::kCosine) {
    out.assign(bytes.data(), bytes.size());
    return out;  // every value is one
  }
  std::vector<float> converted;
  std::span<const float> values;
  if (type == ElementType::kFloat32 &&
      reinterpret_cast<uintptr_t>(bytes.data()) % alignof(float) == 0) {
    values = {reinterpret_cast<const float*>(bytes.data()), field.dim};
  } else {
    converted.resize(field.dim);
    ToFloats(bytes.data(), type, converted);
    values = converted;
  }
  if (!FromFloats(values, field.type, &out)) {
    for (size_t i = 0; i < field.dim; ++i) {
      if (FromFloats({&values[i], 1}, field.type, &out)) continue;
      violations->Add(absl::StrCat(path, "[", i, "]"),
                      WhyRefused(values[i], field.type));
      return std::nullopt;
    }
  }
  if (field.metric == Metric::kCosine && AllZero(values)) {
    violations->Add(path,
                    "is a zero vector, which has no direction and so no "
                    "cosine; give a query with a non-zero element");
    return std::nullopt;
  }
  return out;
}

std::optional<std::string> ParseQueryVector(const v1::QueryVector& query,
                                            const VectorField& field,
                                            const std::string& path,
                                            FieldViolations* violations) {
  if (query.values_size() > 0 && !query.data().empty()) {
    violations->Add(path, "has both values and data; give one of them");
    return std::nullopt;
  }
  if (!CheckType(query.type(), path + ".type", violations)) {
    return std::nullopt;
  }
  if (query.values_size() > 0 || query.data().empty()) {
    if (static_cast<size_t>(query.values_size()) != field.dim) {
      violations->Add(
          path + ".values",
          absl::StrCat("has ", query.values_size(), " elements; vector \"",
                       field.name, "\" of this collection has dimension ",
                       field.dim));
      return std::nullopt;
    }
    return ConvertQuery(
        absl::string_view(reinterpret_cast<const char*>(query.values().data()),
                          field.dim * sizeof(float)),
        ElementType::kFloat32, field, path + ".values", violations);
  }
  const ElementType type = ParseType(query.type());
  const size_t wanted = field.dim * ElementSize(type);
  if (query.data().size() != wanted) {
    violations->Add(path + ".data",
                    absl::StrCat("has ", query.data().size(),
                                 " bytes; one vector of dimension ", field.dim,
                                 " takes ", wanted, " in this element type"));
    return std::nullopt;
  }
  return ConvertQuery(query.data(), type, field, path + ".data", violations);
}

}  // namespace vicinal
