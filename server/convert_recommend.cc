#include "server/convert_recommend.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/convert.h"
#include "server/convert_elements.h"
#include "server/convert_vector.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

struct ParsedExample {
  std::string path;
  std::optional<PointId> id;
  std::string vector;  // in the field's type; empty: still to be read
};
using Examples = std::vector<ParsedExample>;

// The largest magnitudes of an element.
std::pair<double, double> RangeOf(ElementType type) {
  switch (type) {
    case ElementType::kFloat16:
      return {-65504, 65504};
    case ElementType::kInt8:
      return {-128, 127};
    case ElementType::kUint8:
      return {0, 255};
    case ElementType::kFloat32:
    case ElementType::kBfloat16:
      break;
  }
  return {-std::numeric_limits<float>::max(),
          std::numeric_limits<float>::max()};
}

Examples ParseExamples(
    const google::protobuf::RepeatedPtrField<v1::Example>& examples,
    const VectorField& field, const std::string& path, absl::string_view name,
    FieldViolations* violations) {
  Examples parsed;
  for (int i = 0; i < examples.size(); ++i) {
    ParsedExample example{At(path, name, i), {}, {}};
    switch (examples[i].kind_case()) {
      case v1::Example::kId:
        example.path += ".id";
        example.id = ParsePointId(examples[i].id(), example.path, violations);
        break;
      case v1::Example::kVector:
        example.vector = ParseQueryVector(examples[i].vector(), field,
                                          example.path + ".vector", violations)
                             .value_or("");
        break;
      case v1::Example::KIND_NOT_SET:
        violations->Add(example.path, "is empty; set id or vector");
        break;
    }
    parsed.push_back(std::move(example));
  }
  return parsed;
}

// The vectors of those that are given by an id.
absl::Status ReadExamples(size_t f, const VectorField& field,
                          const ReadPoints& read, Examples* examples,
                          FieldViolations* violations) {
  std::vector<PointId> ids;
  for (const ParsedExample& example : *examples) {
    if (example.id.has_value()) ids.push_back(*example.id);
  }
  if (ids.empty()) return absl::OkStatus();
  PointSelection selection;
  selection.vectors = {f};
  VICINAL_ASSIGN_OR_RETURN(auto points, read(ids, selection));
  size_t next = 0;
  for (ParsedExample& example : *examples) {
    if (!example.id.has_value()) continue;
    std::optional<StoredPoint>& point = points[next++];
    if (!point.has_value()) {
      violations->Add(example.path,
                      absl::StrCat("is ", example.id->ToString(),
                                   "; the collection has no such point"));
    } else if (point->vectors[f].empty()) {
      violations->Add(
          example.path,
          absl::StrCat("is ", example.id->ToString(),
                       "; that point has no vector \"", field.name, "\""));
    } else {
      example.vector = std::move(point->vectors[f]);
    }
  }
  return absl::OkStatus();
}

// Adds `factor` times the mean of the examples.
void AddMean(const Examples& examples, double factor, const VectorField& field,
             std::vector<double>* sum) {
  std::vector<float> values(field.dim);
  for (const ParsedExample& example : examples) {
    ToFloats(example.vector.data(), field.type, values);
    double share = factor / static_cast<double>(examples.size());
    if (field.metric == Metric::kCosine) {
      double square = 0;
      for (const float value : values) square += double{value} * value;
      share /= std::sqrt(square);  // no zero vector was ever taken
    }
    for (size_t i = 0; i < field.dim; ++i) (*sum)[i] += share * values[i];
  }
}

// The nearest vector of the field's type.
std::string Store(const std::vector<double>& values, const VectorField& field) {
  const auto [low, high] = RangeOf(field.type);
  const bool whole =
      field.type == ElementType::kInt8 || field.type == ElementType::kUint8;
  std::vector<float> floats;
  floats.reserve(values.size());
  for (const double value : values) {
    const double bounded = std::clamp(value, low, high);
    floats.push_back(
        static_cast<float>(whole ? std::nearbyint(bounded) : bounded));
  }
  std::string stored;
  VICINAL_CHECK(FromFloats(floats, field.type, &stored));
  return stored;
}

}  // namespace

absl::Status ParseRecommend(const v1::Recommend& recommend,
                            const CollectionSchema& schema, size_t f,
                            const Limits& limits, const ReadPoints& read,
                            const std::string& path,
                            FieldViolations* violations, RetrieveStage* stage) {
  const VectorField& field = schema.vectors[f];
  const size_t num_examples = static_cast<size_t>(recommend.positive_size()) +
                              static_cast<size_t>(recommend.negative_size());
  if (recommend.positive_size() == 0) {
    violations->Add(path + ".positive", "is empty; give at least one example");
  }
  if (num_examples > limits.max_examples) {
    violations->Add(path,
                    absl::StrCat("has ", num_examples, " examples; at most ",
                                 limits.max_examples, " are allowed"));
    return absl::OkStatus();
  }
  const size_t num_before = violations->count();
  Examples positive =
      ParseExamples(recommend.positive(), field, path, "positive", violations);
  Examples negative =
      ParseExamples(recommend.negative(), field, path, "negative", violations);
  VICINAL_RETURN_IF_ERROR(ReadExamples(f, field, read, &positive, violations));
  VICINAL_RETURN_IF_ERROR(ReadExamples(f, field, read, &negative, violations));
  if (violations->count() > num_before || positive.empty()) {
    return absl::OkStatus();
  }
  std::vector<double> target(field.dim, 0);
  AddMean(positive, negative.empty() ? 1 : 2, field, &target);
  AddMean(negative, -1, field, &target);
  stage->query = Store(target, field);
  std::vector<float> stored(field.dim);
  ToFloats(stage->query.data(), field.type, stored);
  if (field.metric == Metric::kCosine && AllZero(stored)) {
    violations->Add(path,
                    "has examples that cancel each other out: their zero "
                    "vector has no cosine; give others");
  }
  for (const Examples* examples : {&positive, &negative}) {
    for (const ParsedExample& example : *examples) {
      if (example.id.has_value()) stage->excluded_ids.push_back(*example.id);
    }
  }
  return absl::OkStatus();
}

}  // namespace vicinal
