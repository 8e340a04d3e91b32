// vicinal search
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/output.h"
#include "client/client.h"
#include "client/formats/elements.h"
#include "client/formats/json_scanner.h"
#include "client/formats/vector_reader.h"
#include "google/protobuf/duration.pb.h"
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
  std::string literal;
  std::string file;
  uint64_t row = 0;
  FileOptions file_options;
  client::SearchOptions search;
  FilterOptions filter;
  uint32_t ef = 0;
  uint32_t nprobe = 0;
  double recall = 0;
  std::string plan;
  bool json = false;
};

std::string PlanName(v1::SearchPlan plan) {
  switch (plan) {
    case v1::SEARCH_PLAN_SCAN:
      return "scan";
    case v1::SEARCH_PLAN_CODES:
      return "codes";
    case v1::SEARCH_PLAN_LISTS:
      return "lists";
    case v1::SEARCH_PLAN_GRAPH:
      return "graph";
    case v1::SEARCH_PLAN_GRAPH_THEN_SCAN:
      return "graph, then scan";
    default:
      return "nothing to do";
  }
}

double Micros(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) * 1e6 +
         static_cast<double>(duration.nanos()) / 1e3;
}

void PrintExplanation(const v1::SearchProfile& profile) {
  Table table({{"segment"},
               {"rows", Table::Align::kRight},
               {"accepted", Table::Align::kRight},
               {"plan"},
               {"expanded", Table::Align::kRight},
               {"distances", Table::Align::kRight},
               {"payloads read", Table::Align::kRight},
               {"filter us", Table::Align::kRight},
               {"search us", Table::Align::kRight}});
  for (const v1::SegmentProfile& segment : profile.segments()) {
    table.AddRow(
        {segment.segment() == 0 ? "-" : absl::StrCat(segment.segment()),
         WithCommas(segment.num_rows()), WithCommas(segment.num_accepted()),
         PlanName(segment.plan()), WithCommas(segment.expanded_nodes()),
         WithCommas(segment.distance_computations()),
         WithCommas(segment.num_payloads_read()),
         absl::StrFormat("%.1f", Micros(segment.filter_time())),
         absl::StrFormat("%.1f", Micros(segment.search_time()))});
  }
  absl::PrintF("\n%s", table.Format());
  for (const std::string& warning : profile.warnings()) {
    absl::PrintF("%s\n", warning);
  }
}

nlohmann::ordered_json ExplanationJson(const v1::SearchProfile& profile) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const v1::SegmentProfile& segment : profile.segments()) {
    out.push_back({{"vector", segment.vector()},
                   {"segment", segment.segment()},
                   {"num_rows", segment.num_rows()},
                   {"num_accepted", segment.num_accepted()},
                   {"plan", PlanName(segment.plan())},
                   {"expanded_nodes", segment.expanded_nodes()},
                   {"distance_computations", segment.distance_computations()},
                   {"num_payloads_read", segment.num_payloads_read()},
                   {"filter_us", Micros(segment.filter_time())},
                   {"search_us", Micros(segment.search_time())}});
  }
  return out;
}

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

absl::StatusOr<std::vector<float>> ReadRow(const Options& options) {
  VICINAL_ASSIGN_OR_RETURN(const client::OpenOptions open,
                           MakeOpenOptions(options.file_options, "test"));
  VICINAL_ASSIGN_OR_RETURN(const auto reader,
                           client::OpenVectorFile(options.file, open));
  return client::ReadRowsAsFloat(*reader, options.row, 1);
}

std::string JsonText(const nlohmann::ordered_json& json, int indent) {
  return json.dump(indent, ' ', false,
                   nlohmann::json::error_handler_t::replace);
}

nlohmann::ordered_json IdJson(const PointId& id) {
  if (id.is_number()) return id.number();
  if (id.is_uuid()) return {{"uuid", id.ToString()}};
  return id.string();
}

std::string Payload(const v1::SearchResult& result, size_t i) {
  const auto at = static_cast<int>(i);
  return at < result.points().payloads_size() ? result.points().payloads(at)
                                              : std::string();
}

// The vectors of hit `i` by name.
nlohmann::ordered_json Vectors(const v1::SearchResult& result, size_t i) {
  auto out = nlohmann::ordered_json::object();
  for (const v1::VectorColumn& column : result.points().vectors()) {
    size_t row = i;
    if (!column.present().empty()) {
      const auto found =
          std::find(column.present().begin(), column.present().end(), i);
      if (found == column.present().end()) continue;
      row = static_cast<size_t>(found - column.present().begin());
    }
    const ElementType type = client::FromProto(column.type());
    const size_t row_bytes = column.dim() * ElementSize(type);
    if ((row + 1) * row_bytes > column.data().size()) continue;
    const auto floats = client::ConvertElements(
        type, ElementType::kFloat32,
        column.data().substr(row * row_bytes, row_bytes));
    std::vector<float> values(column.dim());
    std::memcpy(values.data(), floats->data(), floats->size());
    out[column.name()] = values;
  }
  return out;
}

int Print(const v1::SearchResponse& response, const Options& options) {
  const v1::SearchResult& result = response.result();
  const auto ids = client::FromProto(result.ids());
  if (!ids.ok()) return Report(ids.status());
  if (static_cast<size_t>(result.scores_size()) != ids->size()) {
    return Report(absl::InternalError(
        absl::StrCat("The server sent ", ids->size(), " ids and ",
                     result.scores_size(), " scores.")));
  }
  const auto& elapsed = response.profile().elapsed();
  const double elapsed_ms = static_cast<double>(elapsed.seconds()) * 1e3 +
                            static_cast<double>(elapsed.nanos()) / 1e6;
  if (options.json) {
    nlohmann::ordered_json out;
    out["exact"] = result.exact();
    out["elapsed_ms"] = elapsed_ms;
    out["distance_computations"] = response.profile().distance_computations();
    out["hits"] = nlohmann::ordered_json::array();
    for (size_t i = 0; i < ids->size(); ++i) {
      nlohmann::ordered_json hit = {
          {"id", IdJson((*ids)[i])},
          {"score", result.scores(static_cast<int>(i))}};
      if (const std::string payload = Payload(result, i); !payload.empty()) {
        auto parsed = nlohmann::ordered_json::parse(payload, nullptr, false);
        hit["payload"] =
            parsed.is_discarded() ? nlohmann::ordered_json(payload) : parsed;
      }
      if (options.search.with_vectors) hit["vectors"] = Vectors(result, i);
      out["hits"].push_back(std::move(hit));
    }
    if (options.search.explain) {
      out["segments"] = ExplanationJson(response.profile());
      out["warnings"] = response.profile().warnings();
    }
    absl::PrintF("%s\n", JsonText(out, 2));
    return kOk;
  }
  std::vector<Table::Column> columns = {
      {"rank", Table::Align::kRight}, {"id"}, {"score", Table::Align::kRight}};
  if (options.search.with_payload) columns.push_back({"payload"});
  if (options.search.with_vectors) columns.push_back({"vectors"});
  Table table(std::move(columns));
  for (size_t i = 0; i < ids->size(); ++i) {
    std::vector<std::string> row = {
        absl::StrCat(options.search.offset + i + 1), (*ids)[i].ToString(),
        absl::StrFormat("%.7g", result.scores(static_cast<int>(i)))};
    if (options.search.with_payload) row.push_back(Payload(result, i));
    if (options.search.with_vectors) {
      row.push_back(JsonText(Vectors(result, i), -1));
    }
    table.AddRow(std::move(row));
  }
  absl::PrintF("%s%d hits, %s, %.2f ms in the server\n", table.Format(),
               ids->size(), result.exact() ? "exact" : "approximate",
               elapsed_ms);
  if (options.search.explain) PrintExplanation(response.profile());
  return kOk;
}

int RunSearch(const Globals& globals, Options& options) {
  const int given = (options.id.empty() ? 0 : 1) +
                    (options.literal.empty() ? 0 : 1) +
                    (options.file.empty() ? 0 : 1);
  if (given != 1) {
    return ReportUsage(absl::InvalidArgumentError(
        "Say what to look for: one of --id, --vector and --file with --row."));
  }
  if (options.plan == "scan") options.search.plan = v1::FORCED_PLAN_SCAN;
  if (options.plan == "index") options.search.plan = v1::FORCED_PLAN_INDEX;
  if (options.ef > 0) options.search.ef = options.ef;
  if (options.nprobe > 0) options.search.nprobe = options.nprobe;
  if (options.recall > 0) options.search.recall_target = options.recall;
  auto filter = MakeFilter(options.filter);
  if (!filter.ok()) return ReportUsage(filter.status());
  options.search.filter = *std::move(filter);
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
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  if (!options.id.empty()) {
    auto fetched = FetchVector(**client, options);
    if (!fetched.ok()) return Report(fetched.status());
    query = *std::move(fetched);
  }
  const auto response =
      (*client)->Search(options.collection, query, options.search);
  if (!response.ok()) return Report(response.status());
  return Print(*response, options);
}

}  // namespace

void AddSearchCommand(CLI::App& app, Globals& globals) {
  CLI::App* command =
      app.add_subcommand("search", "Finds the nearest points of a vector");
  auto options = std::make_shared<Options>();
  command->add_option("collection", options->collection, "Where to search")
      ->required();
  command->add_option("--id", options->id, "Look for what is near this point");
  command
      ->add_option("--id-type", options->id_kind,
                   "What --id is: number, uuid, string or auto")
      ->check(CLI::IsMember(
          std::vector<std::string>{"auto", "number", "uuid", "string"}))
      ->capture_default_str();
  command->add_option("--vector", options->literal,
                      "Look for what is near this vector: \"0.1, -2, 3e-4\"");
  CLI::Option* file = command->add_option(
      "--file", options->file, "Look for what is near a row of this file");
  command->add_option("--row", options->row, "Which row, from 0")->needs(file);
  AddFileOptions(*command, options->file_options);
  command->add_option("--vector-name", options->search.vector,
                      "Named vector to compare");
  command->add_option("-k", options->search.k, "How many points")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--offset", options->search.offset,
                      "How many of the best to pass over");
  CLI::Option* exact = command->add_flag("--exact", options->search.exact,
                                         "Compare with every point");
  CLI::Option* ef =
      command->add_option("--ef", options->ef, "Candidates of the graph search")
          ->check(CLI::PositiveNumber)
          ->excludes(exact);
  CLI::Option* nprobe =
      command
          ->add_option("--nprobe", options->nprobe, "Lists of an IVF to read")
          ->check(CLI::PositiveNumber)
          ->excludes(exact)
          ->excludes(ef);
  command
      ->add_option("--recall", options->recall,
                   "Share of the true neighbours to find, e.g. 0.95")
      ->check(CLI::Range(1e-9, 1.0))
      ->excludes(exact)
      ->excludes(ef)
      ->excludes(nprobe);
  command->add_option(
      "--score-threshold", options->search.score_threshold,
      "Only hits that score so or better: at most so for l2, else at least");
  AddFilterOptions(*command, options->filter);
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
      "  vicinal search photos --file queries.npy --row 7 --exact --json");
  command->callback([&globals, options] {
    globals.run = [&globals, options] { return RunSearch(globals, *options); };
  });
}

}  // namespace vicinal::cli
