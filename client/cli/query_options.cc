#include "client/cli/query_options.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "google/protobuf/util/json_util.h"
#include "src/base/status_macros.h"

namespace vicinal::cli {
namespace {

// Hits of each leg that are fused, where they are more than those wanted.
constexpr uint32_t kLegHits = 100;

constexpr std::pair<const char*, v1::Fusion> kFusions[] = {
    {"rrf", v1::FUSION_RRF},
    {"relative", v1::FUSION_RELATIVE_SCORE},
    {"zscore", v1::FUSION_Z_SCORE},
    {"dbsf", v1::FUSION_DISTRIBUTION},
    {"convex", v1::FUSION_CONVEX}};

template <typename T, typename Parse>
absl::StatusOr<std::vector<T>> ParseList(const std::string& text,
                                         absl::string_view option,
                                         Parse parse) {
  std::vector<T> out;
  for (const absl::string_view part :
       absl::StrSplit(text, absl::ByAnyChar(", "), absl::SkipEmpty())) {
    T value{};
    if (!parse(part, &value)) {
      return absl::InvalidArgumentError(absl::StrCat(
          option, ": \"", part, "\" is no number; write them with commas."));
    }
    out.push_back(value);
  }
  return out;
}

absl::Status FillFeedback(const std::string& text, v1::Feedback* out) {
  VICINAL_ASSIGN_OR_RETURN(
      const std::vector<uint32_t> numbers,
      (ParseList<uint32_t>(text, "--feedback", absl::SimpleAtoi<uint32_t>)));
  if (numbers.empty() || numbers.size() > 2) {
    return absl::InvalidArgumentError(
        "--feedback takes DOCUMENTS or DOCUMENTS,TERMS, e.g. 10,20.");
  }
  out->set_documents(numbers[0]);
  if (numbers.size() == 2) out->set_terms(numbers[1]);
  return absl::OkStatus();
}

// What every leaf has.
template <typename Leaf>
absl::Status FillLeaf(const QueryOptions& options,
                      const client::SearchOptions& search, uint32_t k,
                      Leaf* leaf) {
  leaf->set_k(k);
  if (!client::IsBlank(search.filter)) *leaf->mutable_filter() = search.filter;
  if (options.feedback.empty()) return absl::OkStatus();
  return FillFeedback(options.feedback, leaf->mutable_feedback());
}

absl::Status FillText(const QueryOptions& options, v1::RetrieveText* out) {
  out->set_text(options.text);
  out->set_expression(options.match);
  out->set_minimum_should_match(options.min_should);
  for (const std::string& field : options.text_fields) {
    const std::vector<std::string> parts = absl::StrSplit(field, '^');
    float boost = 1;
    if (parts.size() > 2 ||
        (parts.size() == 2 && !absl::SimpleAtof(parts[1], &boost))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--text-field: \"", field, "\" is not PATH or PATH^BOOST."));
    }
    v1::TextField* to = out->add_fields();
    to->set_path(parts[0]);
    to->set_boost(boost);
  }
  return absl::OkStatus();
}

absl::Status FillSparse(const QueryOptions& options, v1::RetrieveSparse* out) {
  out->set_vector(options.sparse);
  out->set_text(options.sparse_text);
  if (!options.sparse_text.empty()) return absl::OkStatus();
  VICINAL_ASSIGN_OR_RETURN(const std::vector<uint32_t> indices,
                           (ParseList<uint32_t>(options.indices, "--indices",
                                                absl::SimpleAtoi<uint32_t>)));
  VICINAL_ASSIGN_OR_RETURN(
      const std::vector<float> values,
      (ParseList<float>(options.values, "--values", absl::SimpleAtof)));
  out->mutable_query()->mutable_indices()->Assign(indices.begin(),
                                                  indices.end());
  out->mutable_query()->mutable_values()->Assign(values.begin(), values.end());
  return absl::OkStatus();
}

absl::Status FillFusion(const QueryOptions& options, v1::Fuse* fuse) {
  for (const auto& [name, kind] : kFusions) {
    if (options.fusion == name) fuse->set_kind(kind);
  }
  VICINAL_ASSIGN_OR_RETURN(
      const std::vector<double> weights,
      (ParseList<double>(options.weights, "--weights", absl::SimpleAtod)));
  fuse->mutable_weights()->Assign(weights.begin(), weights.end());
  return absl::OkStatus();
}

void ReplaceText(nlohmann::json* json, const std::string& text) {
  if (json->is_string()) {
    *json = absl::StrReplaceAll(json->get<std::string>(), {{"{text}", text}});
  }
  if (!json->is_structured()) return;
  for (nlohmann::json& child : *json) ReplaceText(&child, text);
}

}  // namespace

bool AsksForTerms(const QueryOptions& options) {
  return !options.text.empty() || !options.match.empty() ||
         !options.sparse.empty() || !options.query_file.empty();
}

absl::StatusOr<v1::Query> MakeQuery(const QueryOptions& options,
                                    const client::SearchOptions& search,
                                    v1::Query dense, v1::Query multi) {
  std::vector<v1::Query> legs;
  const bool has_dense = dense.stage_case() != v1::Query::STAGE_NOT_SET;
  const bool has_multi = multi.has_retrieve_multi();
  const bool has_text = !options.text.empty() || !options.match.empty();
  const size_t num_legs = static_cast<size_t>(has_dense) +
                          static_cast<size_t>(has_multi) +
                          static_cast<size_t>(has_text) +
                          static_cast<size_t>(!options.sparse.empty());
  // Of groups the server takes as many hits as they need.
  const uint32_t k = search.group_by.empty() ? search.k : 0;
  const uint32_t leg_hits =
      num_legs == 1 ? k : std::max(kLegHits, search.k + search.offset);
  if (has_dense) {
    if (dense.has_retrieve()) dense.mutable_retrieve()->set_k(leg_hits);
    legs.push_back(std::move(dense));
  }
  if (has_multi) {
    v1::RetrieveMulti* leaf = multi.mutable_retrieve_multi();
    leaf->set_k(leg_hits);
    if (num_legs > 1) leaf->clear_score_threshold();  // it is the fusion's
    legs.push_back(std::move(multi));
  }
  if (has_text) {
    v1::RetrieveText* text = legs.emplace_back().mutable_retrieve_text();
    VICINAL_RETURN_IF_ERROR(FillLeaf(options, search, leg_hits, text));
    VICINAL_RETURN_IF_ERROR(FillText(options, text));
  }
  if (!options.sparse.empty()) {
    v1::RetrieveSparse* sparse = legs.emplace_back().mutable_retrieve_sparse();
    VICINAL_RETURN_IF_ERROR(FillLeaf(options, search, leg_hits, sparse));
    VICINAL_RETURN_IF_ERROR(FillSparse(options, sparse));
  }
  if (legs.empty()) {
    return absl::InvalidArgumentError("There is nothing to look for.");
  }
  if (legs.size() == 1) {
    if (search.score_threshold.has_value() && !has_dense && !has_multi) {
      if (legs[0].has_retrieve_text()) {
        legs[0].mutable_retrieve_text()->set_score_threshold(
            *search.score_threshold);
      } else {
        legs[0].mutable_retrieve_sparse()->set_score_threshold(
            *search.score_threshold);
      }
    }
    return std::move(legs[0]);
  }
  v1::Query query;
  v1::Fuse* fuse = query.mutable_fuse();
  fuse->set_k(k);
  if (search.score_threshold.has_value()) {
    fuse->set_score_threshold(*search.score_threshold);
  }
  VICINAL_RETURN_IF_ERROR(FillFusion(options, fuse));
  for (v1::Query& leg : legs) *fuse->add_inputs() = std::move(leg);
  return query;
}

absl::StatusOr<v1::Query> ParseQueryJson(const std::string& json,
                                         const std::string& text) {
  nlohmann::json parsed = nlohmann::json::parse(json, nullptr, false);
  if (parsed.is_discarded()) {
    return absl::InvalidArgumentError("--query: it is no JSON.");
  }
  ReplaceText(&parsed, text);
  v1::Query query;
  const auto status =
      google::protobuf::util::JsonStringToMessage(parsed.dump(), &query);
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--query: it is no vicinal.v1.Query: ", std::string(status.message())));
  }
  return query;
}

void AddLegOptions(CLI::App& command, QueryOptions& options, bool with_words) {
  if (with_words) {
    CLI::Option* text = command.add_option(
        "--text", options.text, "Look for texts with these words (BM25)");
    command
        .add_option("--match", options.match,
                    "The same with operators: '+must -not \"a phrase\" pre*'")
        ->excludes(text);
    command.add_option("--indices", options.indices,
                       "Dimensions of the sparse vector, with commas");
    command.add_option("--values", options.values, "... and their weights");
    command.add_option("--sparse-text", options.sparse_text,
                       "What the sparse vector's encoder makes a vector of");
    command.add_option("--query", options.query_file,
                       "File with the whole query as JSON (vicinal.v1.Query); "
                       "- for standard input");
  }
  command
      .add_option("--text-field", options.text_fields,
                  "Text to search, PATH or PATH^BOOST; repeatable; default: "
                  "all")
      ->allow_extra_args(false);
  command.add_option("--min-match", options.min_should,
                     "How many of the words must be there; default: 1");
  command.add_option("--sparse", options.sparse, "Sparse vector to search by");
  command
      .add_option("--fusion", options.fusion,
                  "How several of vector, multi, text and sparse are made one: "
                  "rrf, relative, zscore, dbsf or convex")
      ->check(CLI::IsMember(std::vector<std::string>{
          "rrf", "relative", "zscore", "dbsf", "convex"}))
      ->capture_default_str();
  command.add_option("--weights", options.weights,
                     "Of vector, multi, text, sparse, as many as there are: "
                     "0.7,0.3");
  command.add_option("--feedback", options.feedback,
                     "Ask again with what the best hits have in common: "
                     "DOCUMENTS or DOCUMENTS,TERMS");
}

}  // namespace vicinal::cli
