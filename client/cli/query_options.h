// What a search asks for beside a dense vector.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/command.h"
#include "client/client.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::cli {

struct QueryOptions {
  std::string text;                      // words
  std::string match;                     // an expression
  std::vector<std::string> text_fields;  // PATH[^BOOST]
  uint32_t min_should = 0;
  std::string sparse;       // name of the vector
  std::string indices;      // with commas
  std::string values;       // with commas
  std::string sparse_text;  // by the encoder
  std::string fusion = "rrf";
  std::string weights;   // with commas
  std::string feedback;  // "", or DOCUMENTS[,TERMS]
  bool highlight = false;
  std::string query_file;  // a Query as JSON, "-": standard input
};

// with_words: also those that say the text or vector, which eval has from a
// file.
void AddLegOptions(CLI::App& command, QueryOptions& options, bool with_words);

// Whether they say what to look for.
bool AsksForTerms(const QueryOptions& options);

// The whole query: of a dense leg and one of token vectors (without a stage:
// none), and those of the options. search: k, offset, filter and threshold.
// InvalidArgument: options that contradict each other.
absl::StatusOr<v1::Query> MakeQuery(const QueryOptions& options,
                                    const client::SearchOptions& search,
                                    v1::Query dense, v1::Query multi = {});
// {text} in its strings stands for words. InvalidArgument: it is no Query.
absl::StatusOr<v1::Query> ParseQueryJson(const std::string& json,
                                         const std::string& text);

}  // namespace vicinal::cli
