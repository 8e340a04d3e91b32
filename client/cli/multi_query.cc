#include "client/cli/multi_query.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/cli/command.h"
#include "client/client.h"
#include "client/formats/token_file.h"
#include "src/base/vector_set.h"

namespace vicinal::cli {
namespace {

v1::MultiVectorQuery FromFile(const client::TokenFile& file, uint64_t begin,
                              uint64_t end) {
  return client::MakeMultiQuery(
      {.data = reinterpret_cast<const std::byte*>(file.Data(begin, end).data()),
       .num_rows = end - begin,
       .dim = file.dim(),
       .stride_bytes = file.token_bytes(),
       .type = file.type()});
}

}  // namespace

void AddLayoutOptions(CLI::App& command, client::TokenLayout& layout) {
  CLI::Option* lengths = command.add_option(
      "--doclens", layout.lengths_file,
      ".npy with the number of tokens of each query in the file");
  command
      .add_option("--query-tokens", layout.tokens_each,
                  "... or all have so many; a 3-d array says it itself")
      ->check(CLI::PositiveNumber)
      ->excludes(lengths);
}

void AddMultiSearchOptions(CLI::App& command, MultiQueryOptions& options) {
  command.add_option("--multi", options.name, "Multi-vector to search by");
  command.add_option("--candidates", options.search.candidates,
                     "Points compared by coded tokens; default: as the recall "
                     "asked for needs");
  command.add_option("--exact-candidates", options.search.exact_candidates,
                     "Of these, points compared by the tokens themselves");
  command.add_option("--rescore", options.search.rescore,
                     "Points compared by their encodings without codes, "
                     "before both: the best by a scan of the codes");
}

absl::StatusOr<v1::MultiVectorQuery> TokensOfQuery(
    const client::TokenFile& file, uint64_t number) {
  if (number >= file.num_documents()) {
    return absl::OutOfRangeError(
        absl::StrCat(file.path(), ": has ", file.num_documents(),
                     " queries; there is no number ", number,
                     " (--doclens or --query-tokens divide it)."));
  }
  return FromFile(file, file.offsets()[number], file.offsets()[number + 1]);
}

absl::StatusOr<v1::MultiVectorQuery> TokensOfRange(
    const client::TokenFile& file, uint64_t begin, uint64_t end) {
  if (begin >= end || end > file.num_tokens()) {
    return absl::OutOfRangeError(absl::StrCat(
        file.path(), ": has ", file.num_tokens(), " tokens; --rows ", begin,
        ":", end, " is no range of them."));
  }
  return FromFile(file, begin, end);
}

absl::Status AddTokenWeights(const std::string& weights,
                             v1::MultiVectorQuery* query) {
  for (const absl::string_view part :
       absl::StrSplit(weights, absl::ByAnyChar(", "), absl::SkipEmpty())) {
    float weight = 0;
    if (!absl::SimpleAtof(part, &weight)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--token-weights: \"", part,
                       "\" is no number; write them with commas."));
    }
    query->add_weights(weight);
  }
  return absl::OkStatus();
}

v1::Query MakeMultiLeg(const MultiQueryOptions& options,
                       client::SearchOptions search,
                       v1::MultiVectorQuery query) {
  search.vector = options.name;
  search.group_by.clear();  // of the whole, not of the leg
  // Of a dense leg beside it.
  search.ef.reset();
  search.nprobe.reset();
  v1::SearchRequest request = client::MakeMultiSearchRequest(
      "", std::move(query), search, options.search);
  return std::move(*request.mutable_query());
}

std::optional<std::vector<TokenMatch>> BestTokens(
    const v1::TokenMatches& matches) {
  const size_t n = matches.num_document_tokens();
  if (n == 0 || static_cast<size_t>(matches.similarities_size()) !=
                    matches.num_query_tokens() * n) {
    return std::nullopt;
  }
  std::vector<TokenMatch> out;
  for (size_t q = 0; q < matches.num_query_tokens(); ++q) {
    const float* row = matches.similarities().data() + q * n;
    const float* best = std::max_element(row, row + n);
    out.push_back({.document_token = static_cast<size_t>(best - row),
                   .similarity = *best});
  }
  return out;
}

}  // namespace vicinal::cli
