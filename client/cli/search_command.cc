// vicinal search
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
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
#include "client/cli/exit_code.h"
#include "client/cli/multi_options.h"
#include "client/cli/multi_query.h"
#include "client/cli/query_options.h"
#include "client/cli/search_output.h"
#include "client/client.h"
#include "client/formats/elements.h"
#include "client/formats/json_scanner.h"
#include "client/formats/token_file.h"
#include "client/formats/vector_reader.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::cli {
namespace {

struct Options {
  std::string collection;
  std::string id;
  std::string id_kind = "auto";
  std::vector<std::string> positive;  // ids
  std::vector<std::string> negative;
  std::string literal;
  std::string file;
  uint64_t row = 0;
  FileOptions file_options;
  client::SearchOptions search;
  FilterOptions filter;
  QueryOptions query;
  MultiQueryOptions multi;
  std::string token_rows;  // BEGIN:END
  uint32_t ef = 0;
  uint32_t nprobe = 0;
  double recall = 0;
  std::string plan;
  std::optional<double> mmr_lambda;
  uint32_t mmr_candidates = 0;
  bool json = false;
};

absl::StatusOr<std::vector<float>> ParseLiteral(const std::string& text) {
  const std::string array =
      text.find('[') == std::string::npos ? absl::StrCat("[", text, "]") : text;
  client::JsonScanner scan(array);
  std::vector<float> values;
  if (!scan.Floats(&values) || !scan.AtEnd()) {
    scan.Fail("expected the end");
    return absl::InvalidArgumentError(
        absl::StrCat("--vector: ", scan.error(),
                     "; write numbers with commas, e.g. \"0.1, -2, 3e-4\"."));
  }
  return values;
}

// The vector of a stored point, as float32.
absl::StatusOr<std::vector<float>> FetchVector(client::Client& client,
                                               const Options& options) {
  VICINAL_ASSIGN_OR_RETURN(const PointId id,
                           ParseId(options.id, options.id_kind));
  VICINAL_ASSIGN_OR_RETURN(const v1::Collection collection,
                           client.GetCollection(options.collection));
  VICINAL_ASSIGN_OR_RETURN(const v1::VectorConfig vector,
                           FindVector(collection, options.search.vector));
  v1::PointSelector select;
  if (vector.name().empty()) {
    select.set_with_all_vectors(true);
  } else {
    select.add_vectors(vector.name());
  }
  VICINAL_ASSIGN_OR_RETURN(
      const v1::GetResponse response,
      client.GetPoints(options.collection,
                       client::ToProto(std::span<const PointId>(&id, 1)),
                       select));
  const v1::PointColumns& points = response.points().columns();
  for (const v1::VectorColumn& column : points.vectors()) {
    if (column.name() != vector.name() || column.data().empty()) continue;
    VICINAL_ASSIGN_OR_RETURN(
        const std::string data,
        client::ConvertElements(client::FromProto(column.type()),
                                ElementType::kFloat32, column.data()));
    std::vector<float> values(data.size() / sizeof(float));
    std::memcpy(values.data(), data.data(), values.size() * sizeof(float));
    return values;
  }
  return absl::NotFoundError(absl::StrCat(
      "Collection ", options.collection,
      client::NumIds(points.ids()) == 0 ? " has no point "
                                        : " has no such vector in its point ",
      options.id, "; check the id and --id-type."));
}

// Whether the tokens are those of a stored point.
bool HasStoredTokens(const Options& options) {
  return !options.multi.name.empty() && options.multi.tokens.empty();
}

// The tokens of a stored point.
absl::StatusOr<v1::MultiVectorQuery> FetchTokens(client::Client& client,
                                                 const Options& options) {
  VICINAL_ASSIGN_OR_RETURN(const PointId id,
                           ParseId(options.id, options.id_kind));
  v1::PointSelector select;
  select.add_vectors(options.multi.name);
  VICINAL_ASSIGN_OR_RETURN(
      const v1::GetResponse response,
      client.GetPoints(options.collection,
                       client::ToProto(std::span<const PointId>(&id, 1)),
                       select));
  const v1::PointColumns& points = response.points().columns();
  for (const v1::MultiVectorColumn& column : points.multi_vectors()) {
    if (client::NumIds(points.ids()) != 1) continue;
    VICINAL_RETURN_IF_ERROR(client::CheckMultiColumn(column, 1));
    const VectorSetView tokens = client::TokensOf(column, 0);
    if (tokens.num_rows > 0) return client::MakeMultiQuery(tokens);
  }
  return absl::NotFoundError(
      absl::StrCat("Collection ", options.collection, " has no point ",
                   options.id, " with tokens in \"", options.multi.name,
                   "\"; check the id and --id-type."));
}

// The tokens of --tokens.
absl::StatusOr<v1::MultiVectorQuery> ReadTokens(const Options& options) {
  VICINAL_ASSIGN_OR_RETURN(
      const client::TokenFile file,
      client::TokenFile::Open(options.multi.tokens, options.multi.layout));
  if (options.token_rows.empty()) return TokensOfQuery(file, options.row);
  const std::pair<std::string, std::string> range =
      absl::StrSplit(options.token_rows, absl::MaxSplits(':', 1));
  uint64_t begin = 0, end = 0;
  if (!absl::SimpleAtoi(range.first, &begin) ||
      !absl::SimpleAtoi(range.second, &end)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rows ", options.token_rows,
                     " is not BEGIN:END, e.g. 64:96 for tokens 64 to 95."));
  }
  return TokensOfRange(file, begin, end);
}

absl::StatusOr<std::vector<float>> ReadRow(const Options& options) {
  VICINAL_ASSIGN_OR_RETURN(const client::OpenOptions open,
                           MakeOpenOptions(options.file_options, "test"));
  VICINAL_ASSIGN_OR_RETURN(const auto reader,
                           client::OpenVectorFile(options.file, open));
  return client::ReadRowsAsFloat(*reader, options.row, 1);
}

absl::StatusOr<std::vector<PointId>> ParseIds(
    const std::vector<std::string>& texts, const std::string& kind) {
  std::vector<PointId> ids;
  for (const std::string& text : texts) {
    VICINAL_ASSIGN_OR_RETURN(PointId id, ParseId(text, kind));
    ids.push_back(std::move(id));
  }
  return ids;
}

// InvalidArgument: not one thing to look for, or options that contradict each
// other in a way that CLI11 does not tell.
absl::Status CheckOptions(const Options& options) {
  if (!options.negative.empty() && options.positive.empty()) {
    return absl::InvalidArgumentError(
        "--negative needs --positive, the points that hits should be like.");
  }
  const int given =
      (options.id.empty() ? 0 : 1) + (options.literal.empty() ? 0 : 1) +
      (options.file.empty() ? 0 : 1) + (options.positive.empty() ? 0 : 1);
  const bool by_tokens = !options.multi.name.empty();
  const bool by_terms = AsksForTerms(options.query) || by_tokens;
  if (by_tokens == options.multi.tokens.empty() &&
      (!by_tokens || options.id.empty())) {
    return absl::InvalidArgumentError(
        "--multi NAME and --tokens FILE.npy go together (or --multi with the "
        "--id of a point that has tokens).");
  }
  if (given > 1 || (given == 0 && !by_terms)) {
    return absl::InvalidArgumentError(
        "Say what to look for: one of --id, --vector, --file with --row, and "
        "--positive, once or more; or --text, --match, --sparse, --multi with "
        "--tokens, or --query.");
  }
  if (by_terms && !options.positive.empty()) {
    return absl::InvalidArgumentError(
        "--positive cannot be fused with --text, --match, --sparse or --multi "
        "here; use --query.");
  }
  const bool has_dense = given > 0 && !HasStoredTokens(options);
  if (by_tokens && !has_dense && (options.ef > 0 || options.nprobe > 0)) {
    return absl::InvalidArgumentError(
        "--ef and --nprobe are for graphs and lists, which multi-vectors do "
        "not have; use --recall or --candidates.");
  }
  if (!options.mmr_lambda.has_value()) return absl::OkStatus();
  if (!options.positive.empty() || (by_tokens && !has_dense)) {
    return absl::InvalidArgumentError(
        "--mmr compares hits with one vector, which --positive has not, nor "
        "--multi; use --id, --vector or --file.");
  }
  const uint64_t num_hits = uint64_t{options.search.k} + options.search.offset;
  if (options.mmr_candidates > 0 && options.mmr_candidates < num_hits) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--mmr-candidates ", options.mmr_candidates, " are fewer than the ",
        num_hits, " hits of -k and --offset; give as many at least."));
  }
  return absl::OkStatus();
}

// What the options say in words of the client.
absl::Status FillSearch(Options& options) {
  client::SearchOptions& search = options.search;
  if (options.plan == "scan") search.plan = v1::FORCED_PLAN_SCAN;
  if (options.plan == "index") search.plan = v1::FORCED_PLAN_INDEX;
  if (options.ef > 0) search.ef = options.ef;
  if (options.nprobe > 0) search.nprobe = options.nprobe;
  if (options.recall > 0) search.recall_target = options.recall;
  if (options.mmr_lambda.has_value()) {
    search.mmr.emplace().set_lambda(*options.mmr_lambda);
    search.mmr->set_candidates(options.mmr_candidates);
  }
  VICINAL_ASSIGN_OR_RETURN(search.filter, MakeFilter(options.filter));
  return absl::OkStatus();
}

// vector: of a dense leg; empty: none. multi: of one by tokens; none: no stage.
int SearchByTerms(client::Client& client, const std::vector<float>& vector,
                  v1::Query multi, const Options& options) {
  v1::SearchRequest request =
      client::MakeSearchRequest(options.collection, vector, options.search);
  v1::Query dense;
  if (!vector.empty()) dense = std::move(*request.mutable_query());
  absl::StatusOr<v1::Query> query;
  if (options.query.query_file.empty()) {
    query = MakeQuery(options.query, options.search, std::move(dense),
                      std::move(multi));
  } else {
    auto json = ReadTextFile(options.query.query_file);
    if (!json.ok()) return Report(json.status());
    query = ParseQueryJson(*json, options.query.text);
  }
  if (!query.ok()) return ReportUsage(query.status());
  *request.mutable_query() = *std::move(query);
  if (options.query.highlight) request.mutable_highlight();
  request.set_token_matches(options.multi.search.token_matches);
  const auto response = client.Search(request);
  if (!response.ok()) return Report(response.status());
  return PrintSearch(*response, options.search, options.json);
}

int RunSearch(const Globals& globals, Options& options) {
  absl::Status usage = CheckOptions(options);
  usage.Update(FillSearch(options));
  if (!usage.ok()) return ReportUsage(usage);
  const auto positive = ParseIds(options.positive, options.id_kind);
  if (!positive.ok()) return ReportUsage(positive.status());
  const auto negative = ParseIds(options.negative, options.id_kind);
  if (!negative.ok()) return ReportUsage(negative.status());
  std::vector<float> query;
  if (!options.literal.empty()) {
    auto parsed = ParseLiteral(options.literal);
    if (!parsed.ok()) return ReportUsage(parsed.status());
    query = *std::move(parsed);
  } else if (!options.file.empty()) {
    auto row = ReadRow(options);
    if (!row.ok()) return Report(row.status());
    query = *std::move(row);
  }
  absl::StatusOr<v1::MultiVectorQuery> tokens = v1::MultiVectorQuery();
  if (!options.multi.tokens.empty()) tokens = ReadTokens(options);
  if (!tokens.ok()) return Report(tokens.status());
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  if (HasStoredTokens(options)) {
    tokens = FetchTokens(**client, options);
    if (!tokens.ok()) return Report(tokens.status());
  } else if (!options.id.empty()) {
    auto fetched = FetchVector(**client, options);
    if (!fetched.ok()) return Report(fetched.status());
    query = *std::move(fetched);
  }
  v1::Query multi;
  if (!options.multi.name.empty()) {
    const absl::Status weighed =
        AddTokenWeights(options.multi.weights, &*tokens);
    if (!weighed.ok()) return ReportUsage(weighed);
    multi = MakeMultiLeg(options.multi, options.search, *std::move(tokens));
  }
  if (AsksForTerms(options.query) || multi.has_retrieve_multi()) {
    return SearchByTerms(**client, query, std::move(multi), options);
  }
  const auto response =
      positive->empty()
          ? (*client)->Search(options.collection, query, options.search)
          : (*client)->Recommend(options.collection, *positive, *negative,
                                 options.search);
  if (!response.ok()) return Report(response.status());
  return PrintSearch(*response, options.search, options.json);
}

void AddQueryOptions(CLI::App& command, Options& options) {
  command.add_option("--id", options.id, "Look for what is near this point");
  command
      .add_option("--positive", options.positive,
                  "Look for what is like this point, other than it; repeatable")
      ->allow_extra_args(false);
  command
      .add_option("--negative", options.negative,
                  "... and not like this point; repeatable")
      ->allow_extra_args(false);
  command
      .add_option("--id-type", options.id_kind,
                  "What these ids are: number, uuid, string or auto")
      ->check(CLI::IsMember(
          std::vector<std::string>{"auto", "number", "uuid", "string"}))
      ->capture_default_str();
  command.add_option("--vector", options.literal,
                     "Look for what is near this vector: \"0.1, -2, 3e-4\"");
  command.add_option("--file", options.file,
                     "Look for what is near a row of this file");
  command.add_option("--row", options.row,
                     "Which row, or query of --tokens, from 0");
  AddFileOptions(command, options.file_options);
  command.add_option("--vector-name", options.search.vector,
                     "Named vector to compare");
}

void AddTokenOptions(CLI::App& command, Options& options) {
  AddMultiSearchOptions(command, options.multi);
  CLI::Option* tokens = command.add_option(
      "--tokens", options.multi.tokens,
      "Look for what has tokens near these: .npy of tokens x dimension");
  AddLayoutOptions(command, options.multi.layout);
  command
      .add_option("--rows", options.token_rows,
                  "Only these tokens of the file, BEGIN:END")
      ->needs(tokens);
  command.add_option("--token-weights", options.multi.weights,
                     "How much each of them counts, with commas; default: 1");
  command.add_flag("--token-matches", options.multi.search.token_matches,
                   "Print which token of each hit each of them met");
}

void AddQualityOptions(CLI::App& command, Options& options) {
  CLI::Option* exact = command.add_flag("--exact", options.search.exact,
                                        "Compare with every point");
  CLI::Option* ef =
      command.add_option("--ef", options.ef, "Candidates of the graph search")
          ->check(CLI::PositiveNumber)
          ->excludes(exact);
  CLI::Option* nprobe =
      command.add_option("--nprobe", options.nprobe, "Lists of an IVF to read")
          ->check(CLI::PositiveNumber)
          ->excludes(exact)
          ->excludes(ef);
  command
      .add_option("--recall", options.recall,
                  "Share of the true neighbours to find, e.g. 0.95")
      ->check(CLI::Range(1e-9, 1.0))
      ->excludes(exact)
      ->excludes(ef)
      ->excludes(nprobe);
}

// Which of what is near are hits.
void AddChoiceOptions(CLI::App& command, Options& options) {
  command.add_option("-k", options.search.k, "How many points; groups, if any")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  CLI::Option* offset = command.add_option("--offset", options.search.offset,
                                           "How many of the best to pass over");
  command.add_option(
      "--score-threshold", options.search.score_threshold,
      "Only hits that score so or better: at most so for l2, else at least");
  AddFilterOptions(command, options.filter);
  CLI::Option* group_by =
      command
          .add_option(
              "--group-by", options.search.group_by,
              "Group hits by a field of their payloads, e.g. maker.city")
          ->check(CLI::Validator(
              [](const std::string& path) {
                return std::string(path.empty() ? "is empty; name a field"
                                                : "");
              },
              "PATH"))
          ->excludes(offset);
  command
      .add_option("--group-size", options.search.group_size,
                  "Hits of each group")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->needs(group_by);
  CLI::Option* mmr =
      command
          .add_option("--mmr", options.mmr_lambda,
                      "Choose hits that differ (maximal marginal relevance): "
                      "0, all for difference, to 1, all for nearness")
          ->check(CLI::Range(0.0, 1.0))
          ->excludes(group_by);
  command
      .add_option(
          "--mmr-candidates", options.mmr_candidates,
          "... of so many of the nearest; default: 100, or --offset and "
          "-k where they are more")
      ->check(CLI::PositiveNumber)
      ->needs(mmr);
}

}  // namespace

void AddSearchCommand(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand(
      "search", "Finds points by a vector, by text, or by both");
  auto options = std::make_shared<Options>();
  command->add_option("collection", options->collection, "Where to search")
      ->required();
  AddQueryOptions(*command, *options);
  AddLegOptions(*command, options->query, /*with_words=*/true);
  command->add_flag("--highlight", options->query.highlight,
                    "Print passages with the words");
  AddTokenOptions(*command, *options);
  AddChoiceOptions(*command, *options);
  AddQualityOptions(*command, *options);
  command->add_flag("--explain", options->search.explain,
                    "Print what was done in which segment");
  command
      ->add_option("--plan", options->plan,
                   "scan (all that the filter accepts) or index, whatever it "
                   "costs; default: the server's choice")
      ->check(CLI::IsMember({"scan", "index"}));
  command->add_flag("--with-payload", options->search.with_payload,
                    "Print payloads");
  command->add_flag("--with-vectors", options->search.with_vectors,
                    "Print vectors");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Examples:\n"
      "  vicinal search photos --id 42 -k 5\n"
      "  vicinal search shop --id 42 --filter 'price < $max' --param max=20\n"
      "  vicinal search shop --positive 42 --negative 7 --group-by brand\n"
      "  vicinal search shop --id 42 --mmr 0.5\n"
      "  vicinal search docs --text 'lost luggage' --highlight\n"
      "  vicinal search docs --match '+refund -\"gift card\" travel*' "
      "--text-field title^3 --text-field body\n"
      "  vicinal search docs --id 42 --text refund --fusion convex --explain\n"
      "  vicinal search papers --multi colbert --tokens queries.npy "
      "--query-tokens 32 --row 7 --token-matches\n"
      "  vicinal search photos --file queries.npy --row 7 --exact --json");
  command->callback([&globals, options] {
    globals.run = [&globals, options] { return RunSearch(globals, *options); };
  });
}

}  // namespace vicinal::cli
