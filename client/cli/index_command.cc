// vicinal index: indexes of payload fields.
#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/output.h"
#include "nlohmann/json.hpp"

namespace vicinal::cli {
namespace {

// By the values of v1::PayloadType.
constexpr const char* kTypeNames[] = {"?",    "keyword",  "i64",  "f64",
                                      "bool", "datetime", "uuid", "geo"};

struct IndexOptions {
  std::string collection;
  std::string path;
  std::string type;
  std::string require;
  bool no_wait = false;
  bool json = false;
};

int CreateIndex(const Globals& globals, const IndexOptions& options) {
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto operation = (*client)->CreatePayloadIndex(
      options.collection, options.path, ParsePayloadType(options.type));
  if (!operation.ok()) return Report(operation.status());
  if (options.no_wait) {
    absl::PrintF("Started %s.\n", *operation);
    return kOk;
  }
  const absl::Status status = WaitWithProgress(**client, *operation, false);
  if (status.ok()) {
    absl::PrintF("Indexed %s of collection %s.\n", options.path,
                 options.collection);
  }
  return Report(status);
}

int DropIndex(const Globals& globals, const IndexOptions& options) {
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const absl::Status status =
      (*client)->DropPayloadIndex(options.collection, options.path);
  if (status.ok()) {
    absl::PrintF("Dropped the index of %s.\n", options.path);
  }
  return Report(status);
}

int ListIndexes(const Globals& globals, const IndexOptions& options) {
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto collection = (*client)->GetCollection(options.collection);
  if (!collection.ok()) return Report(collection.status());
  if (options.json) {
    absl::PrintF("%s\n", PayloadIndexesToJson(*collection).dump(2));
  } else {
    absl::PrintF("%s", FormatPayloadIndexes(*collection));
  }
  return kOk;
}

int RequireIndexes(const Globals& globals, const IndexOptions& options) {
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const bool only = options.require == "on";
  const absl::Status status =
      (*client)->SetIndexedFiltersOnly(options.collection, only);
  if (status.ok()) {
    absl::PrintF("Filters over fields without an index are %s.\n",
                 only ? "refused" : "taken");
  }
  return Report(status);
}

}  // namespace

std::vector<std::string> PayloadTypeNames() {
  return {std::begin(kTypeNames) + 1, std::end(kTypeNames)};
}

v1::PayloadType ParsePayloadType(absl::string_view name) {
  for (size_t i = 1; i < std::size(kTypeNames); ++i) {
    if (name == kTypeNames[i]) return static_cast<v1::PayloadType>(i);
  }
  return v1::PAYLOAD_TYPE_UNSPECIFIED;
}

std::string PayloadTypeName(v1::PayloadType type) {
  const auto i = static_cast<size_t>(type);
  return kTypeNames[i < std::size(kTypeNames) ? i : 0];
}

absl::StatusOr<v1::PayloadIndex> ParsePayloadIndex(absl::string_view text) {
  const size_t colon = text.rfind(':');
  v1::PayloadIndex index;
  if (colon != absl::string_view::npos) {
    index.set_path(std::string(text.substr(0, colon)));
    index.set_type(ParsePayloadType(text.substr(colon + 1)));
  }
  if (index.type() == v1::PAYLOAD_TYPE_UNSPECIFIED) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--payload-index is \"", text, "\"; write PATH:TYPE with a type of ",
        absl::StrJoin(PayloadTypeNames(), ", ")));
  }
  return index;
}

std::string FormatPayloadIndexes(const v1::Collection& collection) {
  Table table({{"payload field"},
               {"type"},
               {"state"},
               {"indexed", Table::Align::kRight},
               {"file", Table::Align::kRight}});
  for (const v1::PayloadIndex& index : collection.payload_indexes()) {
    table.AddRow({index.path(), PayloadTypeName(index.type()),
                  index.ready() ? "ready" : "being built",
                  WithCommas(index.num_indexed_points()),
                  HumanBytes(index.file_bytes())});
  }
  return table.Format();
}

nlohmann::ordered_json PayloadIndexesToJson(const v1::Collection& collection) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const v1::PayloadIndex& index : collection.payload_indexes()) {
    out.push_back({{"path", index.path()},
                   {"type", PayloadTypeName(index.type())},
                   {"ready", index.ready()},
                   {"num_indexed_points", index.num_indexed_points()},
                   {"file_bytes", index.file_bytes()}});
  }
  return out;
}

void AddIndexCommand(CLI::App& app, Globals& globals) {
  CLI::App* index = app.add_subcommand(
      "index", "Creates, shows and drops indexes of payload fields");
  index->require_subcommand(1);
  index->footer("Example:\n  vicinal index create shop price f64");
  auto options = std::make_shared<IndexOptions>();
  const auto run = [&globals, options](auto command) {
    return [&globals, options, command] {
      globals.run = [&globals, options, command] {
        return command(globals, *options);
      };
    };
  };
  CLI::App* create = index->add_subcommand(
      "create",
      "Indexes a field, of the points that are there and of later "
      "ones");
  create->add_option("collection", options->collection, "Its name")->required();
  create->add_option("path", options->path, "The field, e.g. maker.country")
      ->required();
  create
      ->add_option("type", options->type,
                   absl::StrCat("Of its values: ",
                                absl::StrJoin(PayloadTypeNames(), ", ")))
      ->required()
      ->check(CLI::IsMember(PayloadTypeNames()));
  create->add_flag("--no-wait", options->no_wait,
                   "Return when the work was started");
  create->footer("Example:\n  vicinal index create shop price f64");
  create->callback(run(&CreateIndex));

  CLI::App* list = index->add_subcommand("list", "Lists the indexes");
  list->add_option("collection", options->collection, "Its name")->required();
  list->add_flag("--json", options->json, "Print JSON");
  list->footer("Example:\n  vicinal index list shop");
  list->callback(run(&ListIndexes));

  CLI::App* drop = index->add_subcommand("drop", "Drops the index of a field");
  drop->add_option("collection", options->collection, "Its name")->required();
  drop->add_option("path", options->path, "The field")->required();
  drop->footer("Example:\n  vicinal index drop shop price");
  drop->callback(run(&DropIndex));

  CLI::App* require = index->add_subcommand(
      "require", "Whether filters over fields without an index are refused");
  require->add_option("collection", options->collection, "Its name")
      ->required();
  require->add_option("state", options->require, "on or off")
      ->required()
      ->check(CLI::IsMember({"on", "off"}));
  require->footer("Example:\n  vicinal index require shop on");
  require->callback(run(&RequireIndexes));
}

}  // namespace vicinal::cli
