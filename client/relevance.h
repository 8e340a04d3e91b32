// How well searches find what people judged relevant, as trec_eval reckons it.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vicinal::client {

// Of one query: documents and their grades; above 0 is relevant.
using Judgments = std::map<std::string, int>;

struct Relevance {
  double ndcg_10 = 0;     // gains are grades, discounts log2(rank + 1)
  double recall_100 = 0;  // of the relevant documents, among the first 100
  double average_precision = 0;  // over all that was found; of many queries MAP
  double reciprocal_rank = 0;    // of the first relevant one among the first 10
  double success_5 = 0;          // 1: a relevant one is among the first 5
};

// ranked: best first, none twice. There is a relevant document.
Relevance Judge(std::span<const std::string> ranked,
                const Judgments& judgments);
Relevance Mean(std::span<const Relevance> all);

// Judgments by query: lines of BEIR's "query-id<TAB>corpus-id<TAB>score", with
// a header or without, or of TREC's "query 0 document grade". InvalidArgument:
// names the line.
absl::StatusOr<std::map<std::string, Judgments>> ParseQrels(
    absl::string_view text);

}  // namespace vicinal::client
