// Names, sparse vectors and texts of a schema.
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/coding.h"
#include "src/base/utf8.h"
#include "src/engine/limits.h"
#include "src/engine/schema.h"
#include "src/engine/schema_parts.h"
#include "src/payload/filter.h"
#include "src/text/analyzer.h"

namespace vicinal {
namespace {

bool IsNameCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' ||
         c == '.' || c == '-';
}

// Name, language, stemmer (length-prefixed), version, min_token_chars,
// max_token_bytes (u32), flags (u8; 1: folds case, 2: folds diacritics, 4:
// remove_stop_words is set, 8: to true), number of extra stop words (varint)
// and they (length-prefixed).
void EncodeAnalyzer(const AnalyzerSpec& spec, std::string* out) {
  PutLengthPrefixed(out, spec.name);
  PutLengthPrefixed(out, spec.language);
  PutLengthPrefixed(out, spec.stemmer);
  PutFixed<uint32_t>(out, spec.version);
  PutFixed<uint32_t>(out, spec.min_token_chars);
  PutFixed<uint32_t>(out, spec.max_token_bytes);
  PutFixed<uint8_t>(
      out, static_cast<uint8_t>(
               (spec.fold_case ? 1 : 0) | (spec.fold_diacritics ? 2 : 0) |
               (spec.remove_stop_words.has_value() ? 4 : 0) |
               (spec.remove_stop_words.value_or(false) ? 8 : 0)));
  PutVarint64(out, spec.extra_stop_words.size());
  for (const std::string& word : spec.extra_stop_words) {
    PutLengthPrefixed(out, word);
  }
}

bool DecodeAnalyzer(absl::string_view* bytes, AnalyzerSpec* spec) {
  absl::string_view name, language, stemmer;
  uint8_t flags = 0;
  uint64_t num_words = 0;
  if (!ConsumeLengthPrefixed(bytes, &name) ||
      !ConsumeLengthPrefixed(bytes, &language) ||
      !ConsumeLengthPrefixed(bytes, &stemmer) ||
      !ConsumeFixed(bytes, &spec->version) ||
      !ConsumeFixed(bytes, &spec->min_token_chars) ||
      !ConsumeFixed(bytes, &spec->max_token_bytes) ||
      !ConsumeFixed(bytes, &flags) || !ConsumeVarint64(bytes, &num_words) ||
      num_words > kMaxExtraStopWords) {
    return false;
  }
  spec->name = std::string(name);
  spec->language = std::string(language);
  spec->stemmer = std::string(stemmer);
  spec->fold_case = (flags & 1) != 0;
  spec->fold_diacritics = (flags & 2) != 0;
  if ((flags & 4) != 0) spec->remove_stop_words = (flags & 8) != 0;
  for (uint64_t i = 0; i < num_words; ++i) {
    absl::string_view word;
    if (!ConsumeLengthPrefixed(bytes, &word)) return false;
    spec->extra_stop_words.emplace_back(word);
  }
  return true;
}

void ValidateSparse(const CollectionSchema& schema, const Limits& limits,
                    std::vector<FieldViolation>* out) {
  if (schema.sparse.size() > limits.max_vectors_per_point) {
    out->push_back(
        {"sparse_vectors",
         absl::StrCat("has ", schema.sparse.size(), " vectors; at most ",
                      limits.max_vectors_per_point, " are allowed")});
  }
  for (size_t i = 0; i < schema.sparse.size(); ++i) {
    const SparseField& field = schema.sparse[i];
    const std::string path = absl::StrCat("sparse_vectors[", i, "]");
    if (field.name.empty()) {
      out->push_back(
          {path + ".name", "is empty; a sparse vector needs a name"});
    } else if (std::string problem =
                   NameProblem(field.name, limits.max_name_bytes);
               !problem.empty()) {
      out->push_back({path + ".name", "the vector's name " + problem});
    } else if (schema.FindSparse(field.name) != i ||
               schema.FindVector(field.name).has_value()) {
      out->push_back(
          {path + ".name", absl::StrCat("\"", field.name,
                                        "\" stands twice; names must differ")});
    }
    if (field.weight != SparseWeight::kFloat32 &&
        field.weight != SparseWeight::kFloat16) {
      out->push_back(
          {path + ".weight_type", "is not possible here; choose f32 or f16"});
    }
  }
}

void ValidateTexts(const CollectionSchema& schema, const Limits& limits,
                   std::vector<FieldViolation>* out) {
  if (schema.texts.size() > limits.max_vectors_per_point) {
    out->push_back(
        {"texts", absl::StrCat("has ", schema.texts.size(), " texts; at most ",
                               limits.max_vectors_per_point, " are allowed")});
  }
  for (size_t i = 0; i < schema.texts.size(); ++i) {
    const TextField& field = schema.texts[i];
    const std::string path = absl::StrCat("texts[", i, "]");
    if (std::string problem = PathProblem(field.path); !problem.empty()) {
      out->push_back({path + ".path", std::move(problem)});
    } else if (schema.FindText(field.path) != i) {
      out->push_back(
          {path + ".path", absl::StrCat("\"", field.path,
                                        "\" stands twice; a text has one "
                                        "analyzer")});
    }
    if (!(field.k1 >= 0 && field.k1 <= kMaxK1)) {
      out->push_back(
          {path + ".k1",
           absl::StrCat("is ", field.k1, "; it must be 0 to ", kMaxK1)});
    }
    if (!(field.b >= 0 && field.b <= 1)) {
      out->push_back(
          {path + ".b", absl::StrCat("is ", field.b, "; it must be 0 to 1")});
    }
    const auto analyzer = Analyzer::Make(field.analyzer);
    if (!analyzer.ok()) {
      out->push_back(
          {path + ".analyzer", std::string(analyzer.status().message())});
    }
  }
}

}  // namespace

std::string NameProblem(absl::string_view name, size_t max_bytes) {
  if (name.size() > max_bytes) {
    return absl::StrCat("has ", name.size(), " bytes; at most ", max_bytes,
                        " are allowed");
  }
  for (const char c : name) {
    if (!IsNameCharacter(c)) {
      return absl::StrCat("\"", name,
                          "\" has a character other than A-Z a-z 0-9 _ . -");
    }
  }
  if (!name.empty() && (name[0] == '.' || name[0] == '-')) {
    return absl::StrCat("\"", name, "\" starts with '", name.substr(0, 1),
                        "'; start with a letter, a digit or '_'");
  }
  return "";
}

std::string PathProblem(absl::string_view path) {
  const FilterLimits limits;
  if (path.empty() || path.size() > limits.max_path_bytes) {
    return absl::StrCat("has ", path.size(), " bytes; it must be 1 to ",
                        limits.max_path_bytes);
  }
  if (path[0] == '.' || path[path.size() - 1] == '.' ||
      absl::StrContains(path, "..")) {
    return absl::StrCat("\"", path,
                        "\" has an empty name; names stand between dots");
  }
  if (FindBadUtf8(path) < path.size()) return "is not UTF-8";
  return "";
}

void EncodeLexical(const CollectionSchema& schema, std::string* out) {
  PutVarint64(out, schema.sparse.size());
  for (const SparseField& field : schema.sparse) {
    PutLengthPrefixed(out, field.name);
    PutFixed(out, static_cast<uint8_t>(field.weight));
    PutFixed<uint8_t>(out, field.idf ? 1 : 0);
  }
  PutVarint64(out, schema.texts.size());
  for (const TextField& field : schema.texts) {
    PutLengthPrefixed(out, field.path);
    PutFixed<uint8_t>(out, field.positions ? 1 : 0);
    PutFixed<float>(out, field.k1);
    PutFixed<float>(out, field.b);
    PutLengthPrefixed(out, field.icu_version);
    EncodeAnalyzer(field.analyzer, out);
  }
}

bool DecodeLexical(absl::string_view* bytes, CollectionSchema* schema) {
  uint64_t count = 0;
  if (!ConsumeVarint64(bytes, &count) || count > bytes->size()) return false;
  for (uint64_t i = 0; i < count; ++i) {
    absl::string_view name;
    uint8_t weight = 0, flags = 0;
    if (!ConsumeLengthPrefixed(bytes, &name) || !ConsumeFixed(bytes, &weight) ||
        !ConsumeFixed(bytes, &flags) || weight < 1 || weight > 2) {
      return false;
    }
    schema->sparse.push_back({std::string(name),
                              static_cast<SparseWeight>(weight),
                              (flags & 1) != 0});
  }
  if (!ConsumeVarint64(bytes, &count) || count > bytes->size()) return false;
  for (uint64_t i = 0; i < count; ++i) {
    TextField field;
    absl::string_view path, icu_version;
    uint8_t flags = 0;
    if (!ConsumeLengthPrefixed(bytes, &path) || !ConsumeFixed(bytes, &flags) ||
        !ConsumeFixed(bytes, &field.k1) || !ConsumeFixed(bytes, &field.b) ||
        !ConsumeLengthPrefixed(bytes, &icu_version) ||
        !DecodeAnalyzer(bytes, &field.analyzer) ||
        !(field.k1 >= 0 && field.k1 <= kMaxK1) ||
        !(field.b >= 0 && field.b <= 1)) {
      return false;
    }
    field.path = std::string(path);
    field.positions = (flags & 1) != 0;
    field.icu_version = std::string(icu_version);
    schema->texts.push_back(std::move(field));
  }
  return true;
}

void ValidateLexical(const CollectionSchema& schema, const Limits& limits,
                     std::vector<FieldViolation>* out) {
  ValidateSparse(schema, limits, out);
  ValidateTexts(schema, limits, out);
}

}  // namespace vicinal
