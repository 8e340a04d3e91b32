// vicinal facet
#include <algorithm>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/output.h"
#include "client/client.h"
#include "src/base/status_macros.h"
#include "vicinal/v1/filter.pb.h"
#include "vicinal/v1/point.pb.h"

namespace vicinal::cli {
namespace {

using Json = nlohmann::ordered_json;

// Values of one reply; the server's limit.
constexpr uint64_t kMaxPage = 10'000;

struct Options {
  std::string collection;
  std::string path;
  FilterOptions filter;
  uint64_t limit = 10;
  std::string prefix;
  bool json = false;
};

// As many values as were asked for, whatever pages they take.
absl::StatusOr<v1::FacetResponse> ReadFacet(client::Client& client,
                                            const Options& options,
                                            const v1::Filter& filter) {
  v1::FacetRequest request;
  request.set_collection(options.collection);
  request.set_path(options.path);
  request.set_prefix(options.prefix);
  if (!client::IsBlank(filter)) *request.mutable_filter() = filter;
  uint64_t left = options.limit;
  request.set_limit(static_cast<uint32_t>(std::min(left, kMaxPage)));
  VICINAL_ASSIGN_OR_RETURN(v1::FacetResponse all, client.Facet(request));
  left -= std::min<uint64_t>(left, all.values().size());
  while (left > 0 && !all.next_page_token().empty()) {
    request.set_limit(static_cast<uint32_t>(std::min(left, kMaxPage)));
    request.set_page_token(all.next_page_token());
    VICINAL_ASSIGN_OR_RETURN(v1::FacetResponse page, client.Facet(request));
    left -= std::min<uint64_t>(left, page.values().size());
    all.mutable_values()->MergeFrom(page.values());
    all.set_next_page_token(page.next_page_token());
  }
  return all;
}

void PrintJson(const v1::FacetResponse& facet) {
  Json out;
  out["values"] = Json::array();
  for (const v1::FacetValue& value : facet.values()) {
    out["values"].push_back(
        {{"value", ValueToJson(value.value())}, {"count", value.count()}});
  }
  out["num_distinct"] = facet.num_distinct();
  out["min"] = ValueToJson(facet.min());
  out["max"] = ValueToJson(facet.max());
  absl::PrintF("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
}

void PrintTable(const v1::FacetResponse& facet) {
  if (!facet.values().empty()) {
    Table table({{"value"}, {"points", Table::Align::kRight}});
    for (const v1::FacetValue& value : facet.values()) {
      table.AddRow({ValueText(value.value()), WithCommas(value.count())});
    }
    absl::PrintF("%s\n", table.Format());
  }
  const auto shown = static_cast<uint64_t>(facet.values().size());
  absl::PrintF("%s%s%s",
               shown == 0 ? "" : absl::StrCat(WithCommas(shown), " of "),
               WithCommas(facet.num_distinct()),
               facet.num_distinct() == 1 ? " value" : " values");
  if (facet.has_min()) {
    absl::PrintF(", from %s to %s", ValueText(facet.min()),
                 ValueText(facet.max()));
  }
  absl::PrintF("\n");
}

int RunFacet(const Globals& globals, const Options& options) {
  const auto filter = MakeFilter(options.filter);
  if (!filter.ok()) return ReportUsage(filter.status());
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto facet = ReadFacet(**client, options, *filter);
  if (!facet.ok()) return Report(facet.status());
  options.json ? PrintJson(*facet) : PrintTable(*facet);
  return kOk;
}

}  // namespace

void AddFacetCommand(CLI::App& app, Globals& globals) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "facet", "Counts the points that have each value of an indexed field");
  command->add_option("collection", options->collection, "Its name")
      ->required();
  command->add_option("path", options->path, "The field, e.g. maker.country")
      ->required();
  AddFilterOptions(*command, options->filter);
  command
      ->add_option("--limit", options->limit,
                   "Most values to print; 0: only their number and range")
      ->capture_default_str();
  command->add_option("--prefix", options->prefix,
                      "Only values that begin so; of keywords");
  command->add_flag("--json", options->json, "Print JSON");
  command->footer(
      "Examples:\n"
      "  vicinal facet shop brand --filter 'price < 20'\n"
      "  vicinal facet shop price --limit 0");
  command->callback([&globals, options] {
    globals.run = [&globals, options] { return RunFacet(globals, *options); };
  });
}

}  // namespace vicinal::cli
