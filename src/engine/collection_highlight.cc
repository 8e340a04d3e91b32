// The callers' side of a collection: passages of what was found.
#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/engine/collection_impl.h"
#include "src/engine/text_tree.h"
#include "src/payload/payload_strings.h"
#include "src/text/highlighter.h"

namespace vicinal {
namespace {

void CollectTextStages(const Query& query, std::vector<const TextStage*>* out) {
  if (const auto* text = std::get_if<TextStage>(&query.stage)) {
    out->push_back(text);
  } else if (const auto* fuse = std::get_if<FuseStage>(&query.stage)) {
    for (const Query& input : fuse->inputs) CollectTextStages(input, out);
  } else if (const auto* rerank = std::get_if<RerankStage>(&query.stage)) {
    CollectTextStages(*rerank->input, out);
  } else if (const auto* rescore = std::get_if<RescoreStage>(&query.stage)) {
    CollectTextStages(*rescore->input, out);
  }
}

// Whether the stage searches the text.
bool Searches(const TextStage& stage, const std::string& path) {
  return stage.fields.empty() ||
         absl::c_any_of(stage.fields, [&](const TextStage::Field& field) {
           return field.path == path;
         });
}

void AddMatchers(const TextNode& root, TextMatchers* out) {
  ForEachPositive(root, [&](const TextNode& leaf, float) {
    switch (leaf.kind) {
      case TextNode::Kind::kWord:
        out->words.insert(leaf.word);
        break;
      case TextNode::Kind::kPrefix:
        out->prefixes.push_back(leaf.word);
        break;
      case TextNode::Kind::kPhrase: {
        auto& phrase = out->phrases.emplace_back();
        for (const TextNode::PhraseWord& word : leaf.phrase) {
          phrase.emplace_back(word.word, word.offset);
        }
        break;
      }
      case TextNode::Kind::kGroup:
        break;
    }
  });
}

// The best passages of a text's strings, in their order.
std::vector<HitPassage> PassagesOf(const std::string& payload,
                                   const LexicalLayout& text,
                                   const TextMatchers& matchers,
                                   const HighlightOptions& options,
                                   const StopCondition& stop) {
  struct Found {
    size_t num_distinct;
    HitPassage passage;
  };
  std::vector<Found> all;
  size_t value = 0;
  VisitStrings(payload, {&text.path, 1}, [&](size_t, absl::string_view string) {
    for (const TextPassage& in :
         FindPassages(*text.analyzer, string, matchers, options.num_passages,
                      options.passage_chars, stop)) {
      HitPassage out{.path = text.path, .value = value, .begin = in.begin};
      out.text = std::string(string.substr(in.begin, in.end - in.begin));
      for (const auto& [begin, end] : in.matches) {
        out.matches.emplace_back(begin - in.begin, end - in.begin);
      }
      all.push_back({in.num_distinct, std::move(out)});
    }
    ++value;
  });
  // Those of other strings that have nothing are left out.
  std::stable_sort(all.begin(), all.end(), [](const Found& a, const Found& b) {
    return a.num_distinct > b.num_distinct;
  });
  if (all.size() > options.num_passages) all.resize(options.num_passages);
  while (all.size() > 1 && all.back().num_distinct == 0) all.pop_back();
  std::vector<HitPassage> out;
  for (Found& found : all) out.push_back(std::move(found.passage));
  std::sort(out.begin(), out.end(),
            [](const HitPassage& a, const HitPassage& b) {
              return a.value != b.value ? a.value < b.value : a.begin < b.begin;
            });
  return out;
}

}  // namespace

absl::StatusOr<std::vector<std::vector<HitPassage>>> CollectionImpl::Highlight(
    const Query& query, const std::vector<Hit>& hits,
    const HighlightOptions& options, const StopCondition& stop) const {
  std::vector<const TextStage*> stages;
  CollectTextStages(query, &stages);
  std::vector<std::pair<size_t, TextMatchers>> texts;
  for (size_t t = 0; t < schema().texts.size(); ++t) {
    const std::string& path = schema().texts[t].path;
    const bool is_asked = absl::c_linear_search(options.paths, path);
    if (!options.paths.empty() && !is_asked) continue;
    const size_t l = layout_->num_sparse + t;
    TextMatchers matchers;
    bool is_searched = false;
    for (const TextStage* stage : stages) {
      if (!is_asked && !Searches(*stage, path)) continue;
      is_searched = true;
      VICINAL_ASSIGN_OR_RETURN(const TextNode root,
                               AnalyzeDemand(stage->demand, *layout_, {&l, 1},
                                             /*of_index=*/false));
      AddMatchers(root, &matchers);
    }
    if (is_searched || is_asked) texts.emplace_back(l, std::move(matchers));
  }
  if (texts.size() < options.paths.size()) {
    return absl::InvalidArgumentError(
        "highlight names a field that is no text of the collection");
  }
  PointSelection selection{.payload = true, .max_bytes = options.max_bytes};
  VICINAL_ASSIGN_OR_RETURN(const auto points, Fetch(hits, selection, stop));
  std::vector<std::vector<HitPassage>> out(hits.size());
  for (size_t i = 0; i < hits.size(); ++i) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    if (!points[i].has_value()) continue;
    for (const auto& [l, matchers] : texts) {
      absl::c_move(PassagesOf(points[i]->payload, layout_->lexical[l], matchers,
                              options, stop),
                   std::back_inserter(out[i]));
    }
    VICINAL_RETURN_IF_ERROR(stop.Check());
  }
  return out;
}

}  // namespace vicinal
