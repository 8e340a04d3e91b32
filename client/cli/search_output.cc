#include "client/cli/search_output.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/multi_query.h"
#include "client/cli/output.h"
#include "client/client.h"
#include "client/formats/elements.h"
#include "google/protobuf/duration.pb.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::cli {
namespace {

using Json = nlohmann::ordered_json;

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
    case v1::SEARCH_PLAN_POSTINGS:
      return "postings";
    case v1::SEARCH_PLAN_DEVICE:
      return "gpu scan";
    default:
      return "nothing to do";
  }
}

double Micros(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) * 1e6 +
         static_cast<double>(duration.nanos()) / 1e3;
}

// Whether it compared tokens.
bool IsMulti(const v1::SegmentProfile& segment) {
  return segment.num_candidates() + segment.num_exact() > 0 ||
         !segment.encoder().empty();
}

// "gpu scan (cuda:0, batch of 17)".
std::string PlanText(const v1::SegmentProfile& segment) {
  if (segment.device().empty()) return PlanName(segment.plan());
  return absl::StrCat(PlanName(segment.plan()), " (", segment.device(),
                      ", batch of ", segment.device_queries(), ")");
}

void PrintExplanation(const v1::SearchProfile& profile) {
  std::vector<Table::Column> columns = {{"segment"},
                                        {"rows", Table::Align::kRight},
                                        {"accepted", Table::Align::kRight},
                                        {"plan"},
                                        {"expanded", Table::Align::kRight},
                                        {"distances", Table::Align::kRight},
                                        {"payloads read", Table::Align::kRight},
                                        {"filter us", Table::Align::kRight},
                                        {"search us", Table::Align::kRight}};
  const bool has_multi = std::any_of(profile.segments().begin(),
                                     profile.segments().end(), IsMulti);
  if (has_multi) {
    columns.insert(columns.end(), {{"candidates", Table::Align::kRight},
                                   {"exact", Table::Align::kRight},
                                   {"encoder"}});
  }
  Table table(std::move(columns));
  for (const v1::SegmentProfile& segment : profile.segments()) {
    std::vector<std::string> row = {
        segment.segment() == 0 ? "-" : absl::StrCat(segment.segment()),
        WithCommas(segment.num_rows()),
        WithCommas(segment.num_accepted()),
        PlanText(segment),
        WithCommas(segment.expanded_nodes()),
        WithCommas(segment.distance_computations()),
        WithCommas(segment.num_payloads_read()),
        absl::StrFormat("%.1f", Micros(segment.filter_time())),
        absl::StrFormat("%.1f", Micros(segment.search_time()))};
    if (has_multi) {
      row.insert(row.end(),
                 {WithCommas(segment.num_candidates()),
                  WithCommas(segment.num_exact()), segment.encoder()});
    }
    table.AddRow(std::move(row));
  }
  absl::PrintF("\n%s", table.Format());
  for (const std::string& warning : profile.warnings()) {
    absl::PrintF("%s\n", warning);
  }
}

Json ExplanationJson(const v1::SearchProfile& profile) {
  Json out = Json::array();
  for (const v1::SegmentProfile& segment : profile.segments()) {
    out.push_back({{"vector", segment.vector()},
                   {"segment", segment.segment()},
                   {"num_rows", segment.num_rows()},
                   {"num_accepted", segment.num_accepted()},
                   {"plan", PlanName(segment.plan())},
                   {"device", segment.device()},
                   {"device_queries", segment.device_queries()},
                   {"expanded_nodes", segment.expanded_nodes()},
                   {"distance_computations", segment.distance_computations()},
                   {"num_payloads_read", segment.num_payloads_read()},
                   {"filter_us", Micros(segment.filter_time())},
                   {"search_us", Micros(segment.search_time())}});
    if (!IsMulti(segment)) continue;
    out.back()["num_candidates"] = segment.num_candidates();
    out.back()["num_exact"] = segment.num_exact();
    out.back()["encoder"] = segment.encoder();
  }
  return out;
}

std::string JsonText(const Json& json, int indent) {
  return json.dump(indent, ' ', false,
                   nlohmann::json::error_handler_t::replace);
}

Json IdJson(const PointId& id) {
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
Json Vectors(const v1::SearchResult& result, size_t i) {
  auto out = Json::object();
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
  const size_t num_hits = client::NumIds(result.ids());
  for (const v1::MultiVectorColumn& column : result.points().multi_vectors()) {
    if (!client::CheckMultiColumn(column, num_hits).ok()) continue;
    const VectorSetView tokens = client::TokensOf(column, i);
    for (size_t t = 0; t < tokens.num_rows; ++t) {
      const auto floats = client::ConvertElements(
          tokens.type, ElementType::kFloat32,
          std::string(reinterpret_cast<const char*>(tokens.row(t)),
                      tokens.stride_bytes));
      std::vector<float> values(tokens.dim);
      std::memcpy(values.data(), floats->data(), floats->size());
      out[column.name()].push_back(values);
    }
  }
  return out;
}

// The ids of the hits. Internal: there are not as many scores, or other hits in
// the groups.
absl::StatusOr<std::vector<PointId>> CheckedIds(const v1::SearchResult& result,
                                                bool grouped) {
  VICINAL_ASSIGN_OR_RETURN(std::vector<PointId> ids,
                           client::FromProto(result.ids()));
  if (static_cast<size_t>(result.scores_size()) != ids.size()) {
    return absl::InternalError(absl::StrCat("The server sent ", ids.size(),
                                            " ids and ", result.scores_size(),
                                            " scores."));
  }
  uint64_t num_grouped = 0;
  for (const v1::HitGroup& group : result.groups()) {
    num_grouped += group.num_hits();
  }
  if (grouped && num_grouped != ids.size()) {
    return absl::InternalError(absl::StrCat("The server sent ", ids.size(),
                                            " hits and groups of ", num_grouped,
                                            "."));
  }
  return ids;
}

double ElapsedMs(const v1::SearchProfile& profile) {
  return Micros(profile.elapsed()) / 1e3;
}

Json PassagesJson(const v1::HitPassages& passages) {
  Json out = Json::array();
  for (const v1::Passage& passage : passages.passages()) {
    Json matches = Json::array();
    for (const v1::TextSpan& span : passage.matches()) {
      matches.push_back({span.begin(), span.end()});
    }
    out.push_back({{"path", passage.path()},
                   {"value", passage.value()},
                   {"begin", passage.span().begin()},
                   {"end", passage.span().end()},
                   {"text", passage.text()},
                   {"matches", std::move(matches)}});
  }
  return out;
}

// The words between marks: bold on a terminal, else asterisks.
std::string Marked(const v1::Passage& passage) {
  const bool is_terminal = isatty(STDOUT_FILENO) != 0;
  const std::string before = is_terminal ? "\033[1m" : "*";
  const std::string behind = is_terminal ? "\033[0m" : "*";
  const absl::string_view text = passage.text();
  std::string out;
  size_t done = 0;
  for (const v1::TextSpan& span : passage.matches()) {
    if (span.begin() < done || span.end() > text.size() ||
        span.begin() > span.end()) {
      continue;
    }
    absl::StrAppend(
        &out, Printable(text.substr(done, span.begin() - done)), before,
        Printable(text.substr(span.begin(), span.end() - span.begin())),
        behind);
    done = span.end();
  }
  absl::StrAppend(&out, Printable(text.substr(done)));
  return out;
}

void PrintPassages(const v1::SearchResult& result,
                   const std::vector<PointId>& ids, size_t first_rank) {
  for (int i = 0; i < result.passages_size(); ++i) {
    const auto at = static_cast<size_t>(i);
    if (at >= ids.size()) return;
    absl::PrintF("\n%d. %s\n", first_rank + at, Printable(ids[at].ToString()));
    for (const v1::Passage& passage : result.passages(i).passages()) {
      absl::PrintF("   %s: %s\n", passage.path(), Marked(passage));
    }
  }
}

// Which token of each hit each token of the query met.
void PrintTokenMatches(const v1::SearchResult& result,
                       const std::vector<PointId>& ids, size_t first_rank) {
  for (int i = 0; i < result.token_matches_size(); ++i) {
    const auto at = static_cast<size_t>(i);
    if (at >= ids.size()) return;
    const v1::TokenMatches& matches = result.token_matches(i);
    absl::PrintF("\n%d. %s, %d tokens\n", first_rank + at,
                 Printable(ids[at].ToString()), matches.num_document_tokens());
    const auto best = BestTokens(matches);
    if (!best.has_value()) continue;
    Table table({{"query token", Table::Align::kRight},
                 {"met", Table::Align::kRight},
                 {"similarity", Table::Align::kRight}});
    for (size_t q = 0; q < best->size(); ++q) {
      table.AddRow({absl::StrCat(q), absl::StrCat((*best)[q].document_token),
                    absl::StrFormat("%.4f", (*best)[q].similarity)});
    }
    absl::PrintF("%s", table.Format());
  }
}

// For each hit what the stages below said.
void PrintLegs(const v1::SearchResult& result,
               const std::vector<PointId>& ids) {
  if (result.legs().empty()) return;
  std::vector<Table::Column> columns = {{"id"}};
  for (const v1::LegScores& leg : result.legs()) {
    columns.push_back(
        {absl::StrCat(leg.leg(), ": rank"), Table::Align::kRight});
    columns.push_back({"score", Table::Align::kRight});
    if (leg.normalized_size() > 0) {
      columns.push_back({"normalized", Table::Align::kRight});
    }
  }
  Table table(std::move(columns));
  for (size_t i = 0; i < ids.size(); ++i) {
    std::vector<std::string> row = {ids[i].ToString()};
    const auto at = static_cast<int>(i);
    for (const v1::LegScores& leg : result.legs()) {
      const bool is_there =
          at < leg.ranks_size() && leg.ranks(at) > 0 && at < leg.scores_size();
      row.push_back(is_there ? absl::StrCat(leg.ranks(at)) : "-");
      row.push_back(is_there ? absl::StrFormat("%.6g", leg.scores(at)) : "-");
      if (leg.normalized_size() == 0) continue;
      row.push_back(is_there && at < leg.normalized_size()
                        ? absl::StrFormat("%.6g", leg.normalized(at))
                        : "-");
    }
    table.AddRow(std::move(row));
  }
  absl::PrintF("\n%s", table.Format());
}

Json HitJson(const v1::SearchResult& result, const PointId& id, size_t i,
             bool with_vectors) {
  Json hit = {{"id", IdJson(id)},
              {"score", result.scores(static_cast<int>(i))}};
  if (const std::string payload = Payload(result, i); !payload.empty()) {
    auto parsed = Json::parse(payload, nullptr, false);
    hit["payload"] = parsed.is_discarded() ? Json(payload) : parsed;
  }
  if (with_vectors) hit["vectors"] = Vectors(result, i);
  for (const v1::LegScores& leg : result.legs()) {
    const auto at = static_cast<int>(i);
    if (at >= leg.ranks_size() || leg.ranks(at) == 0) continue;
    Json score = {{"rank", leg.ranks(at)}, {"score", leg.scores(at)}};
    if (at < leg.normalized_size()) score["normalized"] = leg.normalized(at);
    hit["legs"][leg.leg()] = std::move(score);
  }
  if (static_cast<int>(i) < result.passages_size()) {
    hit["passages"] = PassagesJson(result.passages(static_cast<int>(i)));
  }
  if (static_cast<int>(i) < result.token_matches_size()) {
    const v1::TokenMatches& matches = result.token_matches(static_cast<int>(i));
    hit["num_tokens"] = matches.num_document_tokens();
    hit["token_matches"] = Json::array();
    const auto best = BestTokens(matches);
    for (size_t q = 0; best.has_value() && q < best->size(); ++q) {
      hit["token_matches"].push_back({{"query_token", q},
                                      {"token", (*best)[q].document_token},
                                      {"similarity", (*best)[q].similarity}});
    }
  }
  return hit;
}

void PrintJson(const v1::SearchResponse& response,
               const std::vector<PointId>& ids,
               const client::SearchOptions& options) {
  const v1::SearchResult& result = response.result();
  Json out;
  out["exact"] = result.exact();
  out["elapsed_ms"] = ElapsedMs(response.profile());
  out["distance_computations"] = response.profile().distance_computations();
  size_t next = 0;
  const auto take = [&](size_t num_hits) {
    Json hits = Json::array();
    for (const size_t end = next + num_hits; next < end; ++next) {
      hits.push_back(HitJson(result, ids[next], next, options.with_vectors));
    }
    return hits;
  };
  if (options.group_by.empty()) {
    out["hits"] = take(ids.size());
  } else {
    out["groups"] = Json::array();
    for (const v1::HitGroup& group : result.groups()) {
      out["groups"].push_back({{"value", ValueToJson(group.value())},
                               {"hits", take(group.num_hits())}});
    }
  }
  if (options.explain) {
    out["segments"] = ExplanationJson(response.profile());
    out["warnings"] = response.profile().warnings();
  }
  absl::PrintF("%s\n", JsonText(out, 2));
}

// Ranks are those in the result or, in groups, in the group, whose value stands
// before its first hit.
void PrintTable(const v1::SearchResponse& response,
                const std::vector<PointId>& ids,
                const client::SearchOptions& options) {
  const v1::SearchResult& result = response.result();
  const bool grouped = !options.group_by.empty();
  std::vector<Table::Column> columns;
  if (grouped) columns.push_back({options.group_by});
  columns.insert(columns.end(), {{"rank", Table::Align::kRight},
                                 {"id"},
                                 {"score", Table::Align::kRight}});
  if (options.with_payload) columns.push_back({"payload"});
  if (options.with_vectors) columns.push_back({"vectors"});
  Table table(std::move(columns));
  size_t next = 0;
  const auto add = [&](std::vector<std::string> row, size_t rank) {
    const size_t i = next++;
    row.insert(row.end(),
               {absl::StrCat(rank), ids[i].ToString(),
                absl::StrFormat("%.7g", result.scores(static_cast<int>(i)))});
    if (options.with_payload) row.push_back(Payload(result, i));
    if (options.with_vectors) row.push_back(JsonText(Vectors(result, i), -1));
    table.AddRow(std::move(row));
  };
  for (int g = 0; grouped && g < result.groups_size(); ++g) {
    const v1::HitGroup& group = result.groups(g);
    for (size_t rank = 1; rank <= group.num_hits(); ++rank) {
      add({rank == 1 ? ValueText(group.value()) : ""}, rank);
    }
  }
  while (next < ids.size()) add({}, options.offset + next + 1);
  absl::PrintF("%s", table.Format());
  if (grouped) absl::PrintF("%d groups, ", result.groups_size());
  absl::PrintF("%d hits, %s, %.2f ms in the server\n", ids.size(),
               result.exact() ? "exact" : "approximate",
               ElapsedMs(response.profile()));
  PrintPassages(result, ids, options.offset + 1);
  PrintTokenMatches(result, ids, options.offset + 1);
  if (options.explain) {
    PrintLegs(result, ids);
    PrintExplanation(response.profile());
  }
}

}  // namespace

int PrintSearch(const v1::SearchResponse& response,
                const client::SearchOptions& options, bool json) {
  const auto ids = CheckedIds(response.result(), !options.group_by.empty());
  if (!ids.ok()) return Report(ids.status());
  json ? PrintJson(response, *ids, options)
       : PrintTable(response, *ids, options);
  return kOk;
}

}  // namespace vicinal::cli
