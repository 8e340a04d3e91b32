// vicinal eval
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/multi_query.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "client/cli/query_options.h"
#include "client/client.h"
#include "client/formats/token_file.h"
#include "client/relevance.h"
#include "src/base/status_macros.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::cli {
namespace {

using client::Relevance;

struct Options {
  std::string collection;
  std::string queries;  // empty: numbered like those of the tokens
  std::string qrels;
  std::string query_file;
  std::string vector;  // dense: its name; "-": the unnamed one
  std::string per_query;
  uint32_t k = 100;
  QueryOptions query;
  MultiQueryOptions multi;
  FilterOptions filter;
  client::SearchOptions search;
  bool match = false;
  bool quiet = false;
  bool json = false;
};

struct JudgedQuery {
  std::string id;
  std::string text;
  std::vector<float> vector;
  std::optional<v1::SparseQuery> sparse;
  v1::MultiVectorQuery tokens;
};

absl::Status Bad(const std::string& file, size_t line, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(file, ": line ", line, ": ", what, "."));
}

// An array of arrays of numbers.
bool ParseTokens(const nlohmann::json& json, v1::MultiVectorQuery* out) {
  if (!json.is_array()) return false;
  for (const nlohmann::json& token : json) {
    if (!token.is_array()) return false;
    v1::TokenVector* to = out->add_tokens();
    for (const nlohmann::json& value : token) {
      if (!value.is_number()) return false;
      to->add_values(value.get<float>());
    }
  }
  return true;
}

absl::StatusOr<JudgedQuery> ParseQuery(const std::string& file, size_t line,
                                       absl::string_view text) {
  const auto json =
      nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  const auto id = json.is_object() ? json.find("_id") : json.end();
  if (!json.is_object() || id == json.end()) {
    return Bad(file, line, "expected an object with _id and text");
  }
  JudgedQuery query;
  query.id = id->is_string() ? id->get<std::string>() : id->dump();
  if (const auto words = json.find("text");
      words != json.end() && words->is_string()) {
    query.text = words->get<std::string>();
  }
  if (const auto vector = json.find("vector");
      vector != json.end() && vector->is_array()) {
    for (const auto& value : *vector) {
      if (!value.is_number()) return Bad(file, line, "vector has no number");
      query.vector.push_back(value.get<float>());
    }
  }
  if (const auto tokens = json.find("tokens");
      tokens != json.end() && !ParseTokens(*tokens, &query.tokens)) {
    return Bad(file, line, "tokens is no array of arrays of numbers");
  }
  const auto sparse = json.find("sparse");
  if (sparse == json.end()) return query;
  const auto indices = sparse->find("indices"), values = sparse->find("values");
  if (!sparse->is_object() || indices == sparse->end() ||
      values == sparse->end() || indices->size() != values->size()) {
    return Bad(file, line, "sparse must have as many indices as values");
  }
  std::map<uint32_t, float> entries;
  for (size_t i = 0; i < indices->size(); ++i) {
    if (!(*indices)[i].is_number_unsigned() || !(*values)[i].is_number()) {
      return Bad(file, line, "sparse has an entry that is none");
    }
    entries[(*indices)[i].get<uint32_t>()] = (*values)[i].get<float>();
  }
  query.sparse.emplace();
  for (const auto& [index, value] : entries) {
    query.sparse->add_indices(index);
    query.sparse->add_values(value);
  }
  return query;
}

absl::StatusOr<std::vector<JudgedQuery>> ReadQueries(const std::string& file) {
  VICINAL_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(file));
  std::vector<JudgedQuery> out;
  size_t number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (line.find_first_not_of(" \t\r") == absl::string_view::npos) continue;
    VICINAL_ASSIGN_OR_RETURN(JudgedQuery query, ParseQuery(file, number, line));
    out.push_back(std::move(query));
  }
  return out;
}

// Gives the queries the tokens of the file, or makes queries of these alone.
absl::Status AddTokens(const MultiQueryOptions& options,
                       std::vector<JudgedQuery>* queries, bool is_alone) {
  VICINAL_ASSIGN_OR_RETURN(
      const client::TokenFile file,
      client::TokenFile::Open(options.tokens, options.layout));
  if (is_alone) {
    queries->resize(file.num_documents());
    for (size_t i = 0; i < queries->size(); ++i) {
      (*queries)[i].id = absl::StrCat(i);
    }
  }
  if (queries->size() != file.num_documents()) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.tokens, ": has tokens of ", file.num_documents(),
        " queries, but --queries has ", queries->size(),
        "; --doclens or --query-tokens say how they are divided."));
  }
  for (size_t i = 0; i < queries->size(); ++i) {
    VICINAL_ASSIGN_OR_RETURN((*queries)[i].tokens, TokensOfQuery(file, i));
  }
  return absl::OkStatus();
}

// The queries of the options.
absl::StatusOr<std::vector<JudgedQuery>> FindQueries(const Options& options) {
  std::vector<JudgedQuery> queries;
  if (!options.queries.empty()) {
    VICINAL_ASSIGN_OR_RETURN(queries, ReadQueries(options.queries));
  }
  if (!options.multi.tokens.empty()) {
    VICINAL_RETURN_IF_ERROR(
        AddTokens(options.multi, &queries, options.queries.empty()));
  }
  return queries;
}

absl::StatusOr<v1::Query> QueryFor(const Options& options,
                                   const client::SearchOptions& search,
                                   const std::string& json,
                                   const JudgedQuery& judged) {
  if (!json.empty()) return ParseQueryJson(json, judged.text);
  QueryOptions own = options.query;
  // Without another leg it is text that is asked.
  const bool by_text = options.vector.empty() && own.sparse.empty() &&
                       options.multi.name.empty();
  if (by_text || !own.text_fields.empty()) {
    (options.match ? own.match : own.text) = judged.text;
  }
  v1::Query dense;
  if (!options.vector.empty()) {
    client::SearchOptions by_vector = search;
    by_vector.vector = options.vector == "-" ? "" : options.vector;
    dense =
        client::MakeSearchRequest(options.collection, judged.vector, by_vector)
            .query();
  }
  if (!own.sparse.empty() && !judged.sparse.has_value()) {
    own.sparse_text = judged.text;
  }
  v1::Query multi;
  if (!options.multi.name.empty()) {
    multi = MakeMultiLeg(options.multi, search, judged.tokens);
  }
  VICINAL_ASSIGN_OR_RETURN(
      v1::Query query,
      MakeQuery(own, search, std::move(dense), std::move(multi)));
  if (judged.sparse.has_value() && !own.sparse.empty()) {
    v1::Query* leg = &query;
    if (query.has_fuse()) {
      leg =
          query.mutable_fuse()->mutable_inputs(query.fuse().inputs_size() - 1);
    }
    *leg->mutable_retrieve_sparse()->mutable_query() = *judged.sparse;
    leg->mutable_retrieve_sparse()->clear_text();
  }
  return query;
}

absl::StatusOr<std::vector<std::string>> Ask(client::Client& client,
                                             const Options& options,
                                             v1::Query query) {
  v1::SearchRequest request;
  request.set_collection(options.collection);
  *request.mutable_query() = std::move(query);
  VICINAL_ASSIGN_OR_RETURN(const v1::SearchResponse reply,
                           client.Search(request));
  VICINAL_ASSIGN_OR_RETURN(const std::vector<PointId> ids,
                           client::FromProto(reply.result().ids()));
  std::vector<std::string> out;
  for (const PointId& id : ids) out.push_back(id.ToString());
  return out;
}

std::string PerQueryLine(const std::string& id, const Relevance& relevance) {
  return absl::StrFormat("%s\t%.5f\t%.5f\t%.5f\t%.5f\t%.0f\n", id,
                         relevance.ndcg_10, relevance.recall_100,
                         relevance.average_precision, relevance.reciprocal_rank,
                         relevance.success_5);
}

int PrintResult(const Options& options, const std::vector<Relevance>& all,
                size_t num_unjudged, double seconds) {
  const Relevance mean = client::Mean(all);
  const double rate = static_cast<double>(all.size()) / std::max(1e-9, seconds);
  if (options.json) {
    const nlohmann::ordered_json out = {
        {"queries", all.size()},
        {"queries_without_judgments", num_unjudged},
        {"ndcg_10", mean.ndcg_10},
        {"recall_100", mean.recall_100},
        {"map", mean.average_precision},
        {"mrr_10", mean.reciprocal_rank},
        {"success_5", mean.success_5},
        {"queries_per_s", rate}};
    absl::PrintF("%s\n", out.dump(2));
    return kOk;
  }
  absl::PrintF(
      "%s",
      FormatPairs({{"queries", WithCommas(all.size())},
                   {"nDCG@10", absl::StrFormat("%.4f", mean.ndcg_10)},
                   {"recall@100", absl::StrFormat("%.4f", mean.recall_100)},
                   {"MAP", absl::StrFormat("%.4f", mean.average_precision)},
                   {"MRR@10", absl::StrFormat("%.4f", mean.reciprocal_rank)},
                   {"success@5", absl::StrFormat("%.4f", mean.success_5)},
                   {"queries per second", absl::StrFormat("%.0f", rate)}}));
  if (num_unjudged > 0) {
    absl::PrintF("%s queries have no relevant document and were left out.\n",
                 WithCommas(num_unjudged));
  }
  return kOk;
}

int RunEval(const Globals& globals, Options& options) {
  if (options.multi.name.empty() && !options.multi.tokens.empty()) {
    return ReportUsage(absl::InvalidArgumentError(
        "--tokens FILE.npy needs --multi NAME, the vector to compare with."));
  }
  if (options.queries.empty() && options.multi.tokens.empty()) {
    return ReportUsage(absl::InvalidArgumentError(
        "Say what to ask: --queries, or --multi with --tokens."));
  }
  const auto queries = FindQueries(options);
  if (!queries.ok()) return Report(queries.status());
  const auto qrels_text = ReadTextFile(options.qrels);
  if (!qrels_text.ok()) return Report(qrels_text.status());
  const auto qrels = client::ParseQrels(*qrels_text);
  if (!qrels.ok()) {
    return Report(absl::InvalidArgumentError(
        absl::StrCat(options.qrels, ": ", qrels.status().message(), ".")));
  }
  std::string json;
  if (!options.query_file.empty()) {
    auto read = ReadTextFile(options.query_file);
    if (!read.ok()) return Report(read.status());
    json = *std::move(read);
  }
  client::SearchOptions search = options.search;
  search.k = options.k;
  auto filter = MakeFilter(options.filter);
  if (!filter.ok()) return ReportUsage(filter.status());
  search.filter = *std::move(filter);
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  Progress progress("eval", "queries",
                    Progress::Choose(options.quiet || options.json));
  std::vector<Relevance> all;
  std::string per_query = "query\tndcg_10\trecall_100\tap\trr_10\tsuccess_5\n";
  size_t num_unjudged = 0;
  const auto start = std::chrono::steady_clock::now();
  for (const JudgedQuery& judged : *queries) {
    const auto found = qrels->find(judged.id);
    const bool is_judged =
        found != qrels->end() &&
        std::any_of(found->second.begin(), found->second.end(),
                    [](const auto& entry) { return entry.second > 0; });
    if (!is_judged) {
      ++num_unjudged;
      continue;
    }
    auto query = QueryFor(options, search, json, judged);
    if (!query.ok()) return ReportUsage(query.status());
    const auto ranked = Ask(**client, options, *std::move(query));
    if (!ranked.ok()) {
      progress.End();
      return Report(absl::Status(
          ranked.status().code(),
          absl::StrCat("query ", judged.id, ": ", ranked.status().message())));
    }
    all.push_back(client::Judge(*ranked, found->second));
    per_query += PerQueryLine(judged.id, all.back());
    progress.Update(all.size(), static_cast<double>(all.size()) /
                                    static_cast<double>(queries->size()));
  }
  progress.End();
  const double seconds = Seconds(std::chrono::steady_clock::now() - start);
  if (!options.per_query.empty()) {
    const absl::Status written = WriteTextFile(options.per_query, per_query);
    if (!written.ok()) return Report(written);
  }
  return PrintResult(options, all, num_unjudged, seconds);
}

}  // namespace

void AddEvalCommand(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand(
      "eval",
      "Asks judged queries and prints nDCG@10, recall@100, MAP, MRR@10 and\n"
      "success@5. Without --sparse, --vector, --multi and --query they are "
      "asked as text.");
  auto options = std::make_shared<Options>();
  command->add_option("collection", options->collection, "Where to search")
      ->required();
  command->add_option(
      "--queries", options->queries,
      "BEIR queries.jsonl: _id, text, and where they are asked by "
      "them \"vector\", \"sparse\" and \"tokens\"");
  command
      ->add_option("--qrels", options->qrels,
                   "Judgments: query-id, corpus-id, score (BEIR), or TREC's "
                   "four columns")
      ->required();
  command->add_option("--query", options->query_file,
                      "File with the query as JSON (vicinal.v1.Query); {text} "
                      "in it stands for the words");
  command->add_option("--vector", options->vector,
                      "Ask by the queries' vectors: the dense vector's name, - "
                      "for the unnamed one");
  AddMultiSearchOptions(*command, options->multi);
  command->add_option("--tokens", options->multi.tokens,
                      "Tokens of the queries in their order, .npy; without "
                      "--queries they are called 0, 1, ...");
  AddLayoutOptions(*command, options->multi.layout);
  CLI::Option* exact =
      command->add_flag("--exact", options->search.exact,
                        "Compare vectors and tokens with every point");
  command
      ->add_option("--recall", options->search.recall_target,
                   "Share of the true neighbours to find; default: 0.95")
      ->check(CLI::Range(1e-9, 1.0))
      ->excludes(exact);
  command->add_flag("--expressions", options->match,
                    "The words are expressions: +must -not \"phrase\" pre*");
  AddLegOptions(*command, options->query, /*with_words=*/false);
  AddFilterOptions(*command, options->filter);
  command->add_option("-k", options->k, "Hits of each query, at least 100")
      ->check(CLI::Range(100u, 16'384u))
      ->capture_default_str();
  command->add_option("--per-query", options->per_query,
                      "File for the measures of each query (TSV)");
  command->add_flag("--quiet", options->quiet, "No progress");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Examples:\n"
      "  vicinal eval scifact --queries queries.jsonl --qrels qrels/test.tsv\n"
      "  vicinal eval docs --queries q.jsonl --qrels q.tsv --vector - "
      "--text-field body --fusion convex\n"
      "  vicinal eval lotte --qrels qas.tsv --multi colbert --tokens "
      "queries.npy --query-tokens 32");
  command->callback([&globals, options] {
    globals.run = [&globals, options] { return RunEval(globals, *options); };
  });
}

}  // namespace vicinal::cli
