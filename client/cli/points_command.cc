// vicinal count, vicinal delete, and the filters of all commands
#include <memory>
#include <nlohmann/json.hpp>
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
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "vicinal/v1/filter.pb.h"
#include "vicinal/v1/point.pb.h"

namespace vicinal::cli {
namespace {

using Json = nlohmann::json;

// False: neither a scalar nor, at the top, null or an array of scalars.
bool FillValue(const Json& json, bool is_top, v1::FilterValue* out) {
  if (json.is_array() && is_top) {
    out->mutable_list();
    for (const Json& element : json) {
      if (!FillValue(element, false, out->mutable_list()->add_values())) {
        return false;
      }
    }
    return true;
  }
  if (json.is_boolean()) {
    out->set_bool_value(json.get<bool>());
  } else if (json.is_number_integer() &&
             !(json.is_number_unsigned() &&
               json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))) {
    out->set_int_value(json.get<int64_t>());
  } else if (json.is_number()) {
    out->set_double_value(json.get<double>());
  } else if (json.is_string()) {
    out->set_string_value(json.get<std::string>());
  } else if (json.is_null() && is_top) {
    out->set_null_value(google::protobuf::NULL_VALUE);
  } else {
    return false;
  }
  return true;
}

struct Options {
  std::string collection;
  FilterOptions filter;
  std::vector<std::string> ids;
  std::string id_kind = "auto";
};

int RunCount(const Globals& globals, const Options& options) {
  const auto filter = MakeFilter(options.filter);
  if (!filter.ok()) return ReportUsage(filter.status());
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto count = (*client)->Count(options.collection, *filter);
  if (!count.ok()) return Report(count.status());
  absl::PrintF("%d\n", *count);
  return kOk;
}

int RunDelete(const Globals& globals, const Options& options) {
  if (options.ids.empty() == options.filter.text.empty()) {
    return ReportUsage(absl::InvalidArgumentError(
        "Say what to delete: --id, once or more, or --filter."));
  }
  auto filter = MakeFilter(options.filter);
  if (!filter.ok()) return ReportUsage(filter.status());
  std::vector<PointId> ids;
  for (const std::string& text : options.ids) {
    const auto id = ParseId(text, options.id_kind);
    if (!id.ok()) return ReportUsage(id.status());
    ids.push_back(*id);
  }
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto response =
      ids.empty()
          ? (*client)->DeletePoints(options.collection, *std::move(filter))
          : (*client)->DeletePoints(options.collection, client::ToProto(ids));
  if (!response.ok()) return Report(response.status());
  absl::PrintF("Deleted %s points.\n", WithCommas(response->num_deleted()));
  return kOk;
}

}  // namespace

void AddFilterOptions(CLI::App& command, FilterOptions& options) {
  CLI::Option* filter = command.add_option(
      "--filter", options.text,
      "Only points for which it is true, e.g. 'price < 20 AND tag = \"x\"'");
  command
      .add_option("--param", options.parameters,
                  "NAME=JSON: what $NAME in the filter stands for; repeatable")
      ->needs(filter);
}

absl::StatusOr<v1::Filter> MakeFilter(const FilterOptions& options) {
  v1::Filter filter;
  filter.set_text(options.text);
  for (const std::string& parameter : options.parameters) {
    const size_t equals = parameter.find('=');
    const std::string name = parameter.substr(0, equals);
    if (equals == std::string::npos || name.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--param ", parameter, ": write NAME=VALUE, e.g. limit=20."));
    }
    const Json value =
        Json::parse(parameter.substr(equals + 1), nullptr, false);
    if (value.is_discarded() ||
        !FillValue(value, true, &(*filter.mutable_parameters())[name])) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--param ", parameter,
          ": the value must be JSON: a number, true, "
          "false, a string in double quotes, an array of these, or null."));
    }
  }
  return filter;
}

void AddPointsCommands(CLI::App& app, Globals& globals) {
  auto counted = std::make_shared<Options>();
  CLI::App* count =
      app.add_subcommand("count", "Counts points, exactly, at one moment");
  count->add_option("collection", counted->collection, "Its name")->required();
  AddFilterOptions(*count, counted->filter);
  count->footer("Example:\n  vicinal count shop --filter 'price < 20'");
  count->callback([&globals, counted] {
    globals.run = [&globals, counted] { return RunCount(globals, *counted); };
  });

  auto deleted = std::make_shared<Options>();
  CLI::App* remove =
      app.add_subcommand("delete", "Deletes points by id or by a filter");
  remove->add_option("collection", deleted->collection, "Its name")->required();
  remove->add_option("--id", deleted->ids, "A point; repeatable");
  remove
      ->add_option("--id-type", deleted->id_kind,
                   "What --id is: number, uuid, string or auto")
      ->check(CLI::IsMember(
          std::vector<std::string>{"auto", "number", "uuid", "string"}))
      ->capture_default_str();
  AddFilterOptions(*remove, deleted->filter);
  remove->footer(
      "Examples:\n"
      "  vicinal delete shop --id 7 --id 9\n"
      "  vicinal delete shop --filter 'EXISTS(eol)'");
  remove->callback([&globals, deleted] {
    globals.run = [&globals, deleted] { return RunDelete(globals, *deleted); };
  });
}

}  // namespace vicinal::cli
