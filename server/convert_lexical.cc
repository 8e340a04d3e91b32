#include "server/convert_lexical.h"

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/convert.h"
#include "server/convert_filter.h"
#include "server/convert_sparse.h"
#include "src/base/utf8.h"
#include "src/text/text_query.h"

namespace vicinal {
namespace {

// Text that is asked for.
bool CheckText(const std::string& text, const std::string& path,
               FieldViolations* violations) {
  if (text.size() > kMaxTextQueryBytes) {
    violations->Add(path, absl::StrCat("has ", text.size(), " bytes; at most ",
                                       kMaxTextQueryBytes, " are allowed"));
    return false;
  }
  if (const size_t bad = FindBadUtf8(text); bad < text.size()) {
    violations->Add(path, absl::StrCat("is not UTF-8 at byte ", bad));
    return false;
  }
  return true;
}

void ParseFields(const v1::RetrieveText& in, const CollectionSchema& schema,
                 const Limits& limits, const std::string& path,
                 FieldViolations* violations, TextStage* stage) {
  if (schema.texts.empty()) {
    violations->Add(path,
                    "asks for texts, of which the collection has none; "
                    "declare them when it is created");
  }
  if (static_cast<size_t>(in.fields_size()) > limits.max_text_fields) {
    violations->Add(
        path + ".fields",
        absl::StrCat("has ", in.fields_size(), " elements; at most ",
                     limits.max_text_fields, " are allowed"));
    return;
  }
  for (int i = 0; i < in.fields_size(); ++i) {
    const v1::TextField& field = in.fields(i);
    const std::string at = At(path, "fields", static_cast<size_t>(i));
    if (!schema.FindText(field.path()).has_value()) {
      violations->Add(at + ".path",
                      absl::StrCat("is \"", field.path(),
                                   "\", which is no text of the collection"));
    }
    for (const TextStage::Field& other : stage->fields) {
      if (other.path != field.path()) continue;
      violations->Add(at + ".path",
                      absl::StrCat("\"", field.path(), "\" stands twice"));
    }
    const float boost = field.boost() == 0 ? 1 : field.boost();
    if (!(boost > 0 && boost <= kMaxTextBoost)) {
      violations->Add(
          at + ".boost",
          absl::StrCat("is ", boost, "; give a number over 0 and at most ",
                       kMaxTextBoost));
    }
    stage->fields.push_back({field.path(), boost});
  }
}

void ParseDemand(const v1::RetrieveText& in, const std::string& path,
                 FieldViolations* violations, TextStage* stage) {
  TextDemand& demand = stage->demand;
  demand.text = in.text();
  demand.expression = in.expression();
  if (in.text().empty() == in.expression().empty()) {
    violations->Add(path, in.text().empty()
                              ? "asks for nothing; set text or expression"
                              : "has both text and expression; give one");
  }
  CheckText(in.text(), path + ".text", violations);
  if (!in.expression().empty()) {
    const absl::Status status = ParseTextExpression(in.expression()).status();
    if (!status.ok()) {
      violations->Add(path + ".expression", status.message());
    }
  }
  demand.min_should = in.minimum_should_match();
  demand.min_share = in.minimum_share();
  if (!(demand.min_share >= 0 && demand.min_share <= 1)) {
    violations->Add(path + ".minimum_share",
                    absl::StrCat("is ", demand.min_share,
                                 "; give a share over 0 and at most 1, or 0"));
  }
  if (demand.min_should > 0 && demand.min_share != 0) {
    violations->Add(path + ".minimum_share",
                    "stands beside minimum_should_match; give one");
  }
}

}  // namespace

Feedback ParseFeedback(const v1::Feedback& in, const Limits& limits,
                       const std::string& path, FieldViolations* violations) {
  Feedback out;
  if (in.documents() != 0) out.documents = in.documents();
  if (in.terms() != 0) out.terms = in.terms();
  if (in.has_alpha()) out.alpha = in.alpha();
  if (in.has_beta()) out.beta = in.beta();
  if (out.documents > limits.max_feedback_documents) {
    violations->Add(
        path + ".documents",
        absl::StrCat("is ", out.documents, "; at most ",
                     limits.max_feedback_documents, " are allowed"));
  }
  if (out.terms > limits.max_feedback_terms) {
    violations->Add(path + ".terms",
                    absl::StrCat("is ", out.terms, "; at most ",
                                 limits.max_feedback_terms, " are allowed"));
  }
  const auto check = [&](double weight, absl::string_view name) {
    if (weight >= 0 && weight <= 1'000) return;
    violations->Add(absl::StrCat(path, ".", name),
                    absl::StrCat("is ", weight, "; give 0 to 1000"));
  };
  check(out.alpha, "alpha");
  check(out.beta, "beta");
  return out;
}

std::optional<SparseStage> ParseSparseStage(const v1::RetrieveSparse& in,
                                            const CollectionSchema& schema,
                                            const Limits& limits,
                                            const std::string& path,
                                            FieldViolations* violations) {
  const size_t before = violations->count();
  SparseStage stage;
  stage.vector_name = in.vector();
  FindSparse(in.vector(), schema, path + ".vector", violations);
  if (in.has_query() == !in.text().empty()) {
    violations->Add(path, in.has_query()
                              ? "has both query and text; give one"
                              : "asks for nothing; set query or text");
  } else if (in.has_query()) {
    auto query =
        ParseSparseQuery(in.query(), limits, path + ".query", violations);
    if (query.has_value()) stage.query = *std::move(query);
  } else {
    CheckText(in.text(), path + ".text", violations);
    stage.text = in.text();
  }
  if (in.has_query_mass()) stage.query_mass = in.query_mass();
  if (!(stage.query_mass > 0 && stage.query_mass <= 1)) {
    violations->Add(path + ".query_mass",
                    absl::StrCat("is ", stage.query_mass,
                                 "; give a share over 0 and at most 1"));
  }
  if (in.candidates() != 0) stage.candidates = in.candidates();
  if (stage.candidates > kMaxSparseCandidates) {
    violations->Add(path + ".candidates",
                    absl::StrCat("is ", stage.candidates, "; at most ",
                                 kMaxSparseCandidates, " are allowed"));
  }
  if (in.has_filter()) {
    stage.filter = ParseFilter(in.filter(), path + ".filter", violations);
  }
  stage.max_distance = ParseScoreThreshold(in, path, violations);
  if (in.has_feedback()) {
    stage.feedback =
        ParseFeedback(in.feedback(), limits, path + ".feedback", violations);
  }
  if (violations->count() != before) return std::nullopt;
  return stage;
}

std::optional<TextStage> ParseTextStage(const v1::RetrieveText& in,
                                        const CollectionSchema& schema,
                                        const Limits& limits,
                                        const std::string& path,
                                        FieldViolations* violations) {
  const size_t before = violations->count();
  TextStage stage;
  ParseFields(in, schema, limits, path, violations, &stage);
  ParseDemand(in, path, violations, &stage);
  if (in.has_k1()) stage.k1 = in.k1();
  if (in.has_b()) stage.b = in.b();
  if (!(stage.k1.value_or(0) >= 0 && stage.k1.value_or(0) <= kMaxK1)) {
    violations->Add(path + ".k1",
                    absl::StrCat("is ", *stage.k1, "; give 0 to ", kMaxK1));
  }
  if (!(stage.b.value_or(0) >= 0 && stage.b.value_or(0) <= 1)) {
    violations->Add(path + ".b",
                    absl::StrCat("is ", *stage.b, "; give 0 to 1"));
  }
  if (in.has_filter()) {
    stage.filter = ParseFilter(in.filter(), path + ".filter", violations);
  }
  stage.max_distance = ParseScoreThreshold(in, path, violations);
  if (in.has_feedback()) {
    stage.feedback =
        ParseFeedback(in.feedback(), limits, path + ".feedback", violations);
  }
  if (violations->count() != before) return std::nullopt;
  return stage;
}

}  // namespace vicinal
