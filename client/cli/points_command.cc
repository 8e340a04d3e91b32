// vicinal count, vicinal delete, vicinal update, and the filters and values of
// all commands
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

// The points of a delete or an update: ids or a filter.
struct Targets {
  std::vector<PointId> ids;
  v1::Filter filter;  // counts when there are no ids
};

// InvalidArgument: neither or both are given, or one is wrong.
absl::StatusOr<Targets> MakeTargets(const Options& options,
                                    absl::string_view verb) {
  if (options.ids.empty() == options.filter.text.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Say what to ", verb, ": --id, once or more, or --filter."));
  }
  Targets targets;
  VICINAL_ASSIGN_OR_RETURN(targets.filter, MakeFilter(options.filter));
  for (const std::string& text : options.ids) {
    VICINAL_ASSIGN_OR_RETURN(const PointId id, ParseId(text, options.id_kind));
    targets.ids.push_back(id);
  }
  return targets;
}

int RunDelete(const Globals& globals, const Options& options) {
  auto targets = MakeTargets(options, "delete");
  if (!targets.ok()) return ReportUsage(targets.status());
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto response =
      targets->ids.empty()
          ? (*client)->DeletePoints(options.collection,
                                    std::move(targets->filter))
          : (*client)->DeletePoints(options.collection,
                                    client::ToProto(targets->ids));
  if (!response.ok()) return Report(response.status());
  absl::PrintF("Deleted %s points.\n", WithCommas(response->num_deleted()));
  return kOk;
}

struct UpdateOptions : Options {
  std::optional<std::string> set;
  std::optional<std::string> merge;
  std::vector<std::string> delete_keys;
};

int RunUpdate(const Globals& globals, const UpdateOptions& options) {
  auto targets = MakeTargets(options, "update");
  if (!targets.ok()) return ReportUsage(targets.status());
  if (!options.set.has_value() && !options.merge.has_value() &&
      options.delete_keys.empty()) {
    return ReportUsage(absl::InvalidArgumentError(
        "Say what to change: --set, --merge or --delete-key."));
  }
  v1::UpdatePayloadRequest request;
  request.set_collection(options.collection);
  if (targets->ids.empty()) {
    *request.mutable_filter() = std::move(targets->filter);
  } else {
    *request.mutable_ids() = client::ToProto(targets->ids);
  }
  for (const auto& [name, json] :
       {std::pair("--set", &options.set), {"--merge", &options.merge}}) {
    if (json->has_value() && !Json::parse(**json, nullptr, false).is_object()) {
      return ReportUsage(absl::InvalidArgumentError(absl::StrCat(
          name, " ", **json, ": write a JSON object, e.g. '{\"a\": 1}'.")));
    }
  }
  if (options.set.has_value()) request.set_set(*options.set);
  if (options.merge.has_value()) request.set_merge(*options.merge);
  for (const std::string& path : options.delete_keys) {
    request.add_delete_keys(path);
  }
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto response = (*client)->UpdatePayload(request);
  if (!response.ok()) return Report(response.status());
  absl::PrintF("Updated %s points.\n", WithCommas(response->num_updated()));
  return kOk;
}

// --id, --id-type, --filter and --param.
void AddTargetOptions(CLI::App& command, Options& options) {
  command.add_option("collection", options.collection, "Its name")->required();
  command.add_option("--id", options.ids, "A point; repeatable");
  command
      .add_option("--id-type", options.id_kind,
                  "What --id is: number, uuid, string or auto")
      ->check(CLI::IsMember(
          std::vector<std::string>{"auto", "number", "uuid", "string"}))
      ->capture_default_str();
  AddFilterOptions(command, options.filter);
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

nlohmann::ordered_json ValueToJson(const v1::FilterValue& value) {
  switch (value.kind_case()) {
    case v1::FilterValue::kBoolValue:
      return value.bool_value();
    case v1::FilterValue::kIntValue:
      return value.int_value();
    case v1::FilterValue::kDoubleValue:
      return value.double_value();
    case v1::FilterValue::kStringValue:
      return value.string_value();
    default:
      return nullptr;
  }
}

std::string ValueText(const v1::FilterValue& value) {
  return value.kind_case() == v1::FilterValue::kStringValue
             ? Printable(value.string_value())
             : ValueToJson(value).dump();
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
  AddTargetOptions(*remove, *deleted);
  remove->footer(
      "Examples:\n"
      "  vicinal delete shop --id 7 --id 9\n"
      "  vicinal delete shop --filter 'EXISTS(eol)'");
  remove->callback([&globals, deleted] {
    globals.run = [&globals, deleted] { return RunDelete(globals, *deleted); };
  });

  auto updated = std::make_shared<UpdateOptions>();
  CLI::App* update = app.add_subcommand(
      "update", "Changes payloads of points by id or by a filter");
  AddTargetOptions(*update, *updated);
  CLI::Option* set =
      update->add_option("--set", updated->set, "JSON object: the new payload");
  CLI::Option* merge = update->add_option(
      "--merge", updated->merge,
      "JSON object to merge into the payload; null removes a key");
  CLI::Option* delete_key =
      update->add_option("--delete-key", updated->delete_keys,
                         "A key to remove, e.g. a.b; repeatable");
  set->excludes(merge)->excludes(delete_key);
  update->footer(
      "Examples:\n"
      "  vicinal update shop --id 7 --merge '{\"price\": 20, \"old\": null}'\n"
      "  vicinal update shop --filter 'EXISTS(eol)' --delete-key stock.berlin");
  update->callback([&globals, updated] {
    globals.run = [&globals, updated] { return RunUpdate(globals, *updated); };
  });
}

}  // namespace vicinal::cli
