// Queries by token vectors, as options and files say them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/command.h"
#include "client/client.h"
#include "client/formats/token_file.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::cli {

struct MultiQueryOptions {
  std::string name;    // of the multi-vector; empty: there is no such query
  std::string tokens;  // .npy
  client::TokenLayout layout;
  std::string weights;  // with commas
  client::MultiSearchOptions search;
};

// --doclens and --query-tokens: how the tokens of a file are divided.
void AddLayoutOptions(CLI::App& command, client::TokenLayout& layout);
// --multi, and how much is compared.
void AddMultiSearchOptions(CLI::App& command, MultiQueryOptions& options);

// The tokens of query `number` of the file. OutOfRange: it has not as many.
absl::StatusOr<v1::MultiVectorQuery> TokensOfQuery(
    const client::TokenFile& file, uint64_t number);
// The tokens begin .. end of the file. OutOfRange: it has not as many.
absl::StatusOr<v1::MultiVectorQuery> TokensOfRange(
    const client::TokenFile& file, uint64_t begin, uint64_t end);

// Adds weights, numbers with commas, one for each token. InvalidArgument.
absl::Status AddTokenWeights(const std::string& weights,
                             v1::MultiVectorQuery* query);

// The leaf that looks for it. search: ef and nprobe are those of another leg.
v1::Query MakeMultiLeg(const MultiQueryOptions& options,
                       client::SearchOptions search,
                       v1::MultiVectorQuery query);

// The best token of the hit for each token of the query.
struct TokenMatch {
  size_t document_token = 0;
  float similarity = 0;
};
// nullopt: the hit has no tokens, or the reply does not fit itself.
std::optional<std::vector<TokenMatch>> BestTokens(
    const v1::TokenMatches& matches);

}  // namespace vicinal::cli
