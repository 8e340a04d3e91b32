// vicinal server info | stats | resume-writes
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/output.h"
#include "client/client.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "vicinal/v1/admin.pb.h"

namespace vicinal::cli {
namespace {

std::vector<std::pair<std::string, uint64_t>> LimitPairs(
    const v1::Limits& limits) {
  std::vector<std::pair<std::string, uint64_t>> out;
  const auto* descriptor = limits.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* field = descriptor->field(i);
    out.emplace_back(field->name(),
                     limits.GetReflection()->GetUInt64(limits, field));
  }
  return out;
}

nlohmann::ordered_json ToJson(const v1::GpuStats& gpu) {
  return {{"name", gpu.name()},
          {"lost", gpu.lost()},
          {"device_bytes", gpu.device_bytes()},
          {"resident_segments", gpu.resident_segments()},
          {"resident_bytes", gpu.resident_bytes()},
          {"loads", gpu.loads()},
          {"evictions", gpu.evictions()},
          {"batches", gpu.batches()},
          {"batch_queries", gpu.batch_queries()},
          {"waiting", gpu.waiting()},
          {"fallbacks_unsupported", gpu.fallbacks_unsupported()},
          {"fallbacks_no_memory", gpu.fallbacks_no_memory()},
          {"fallbacks_lost", gpu.fallbacks_lost()}};
}

std::vector<std::pair<std::string, std::string>> Pairs(
    const v1::GpuStats& gpu) {
  const double per_batch = gpu.batches() == 0
                               ? 0
                               : static_cast<double>(gpu.batch_queries()) /
                                     static_cast<double>(gpu.batches());
  return {
      {"gpu", gpu.lost() ? gpu.name() + ", lost: restart the server to use it"
                         : gpu.name()},
      {"gpu memory",
       absl::StrCat(HumanBytes(gpu.device_bytes()), ", ",
                    HumanBytes(gpu.resident_bytes()), " of them ",
                    WithCommas(gpu.resident_segments()), " segments (",
                    WithCommas(gpu.loads()), " loaded, ",
                    WithCommas(gpu.evictions()), " given up)")},
      {"gpu searches",
       absl::StrCat(WithCommas(gpu.batches()), ", of ",
                    absl::StrFormat("%.1f", per_batch), " queries on average")},
      {"gpu calls left to the cpu",
       absl::StrCat(WithCommas(gpu.fallbacks_unsupported()), " unsupported, ",
                    WithCommas(gpu.fallbacks_no_memory()), " no memory, ",
                    WithCommas(gpu.fallbacks_lost()), " lost")}};
}

int ShowInfo(const Globals& globals, bool json) {
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const v1::GetServerInfoResponse& info = (*client)->server_info();
  const auto stats = (*client)->GetServerStats();
  if (!stats.ok()) return Report(stats.status());
  if (json) {
    nlohmann::ordered_json out = {
        {"server", globals.server},
        {"version", info.version()},
        {"revision", info.revision()},
        {"data_format_version", info.data_format_version()},
        {"simd", info.simd()},
        {"features", std::vector<std::string>(info.features().begin(),
                                              info.features().end())},
        {"num_collections", stats->num_collections()},
        {"resident_bytes", stats->resident_bytes()},
        {"major_page_faults", stats->major_page_faults()},
        {"minor_page_faults", stats->minor_page_faults()},
        {"store_disk_bytes", stats->store_disk_bytes()},
        {"store_memory_bytes", stats->store_memory_bytes()},
        {"num_commits", stats->num_commits()},
        {"read_only", stats->read_only()},
        {"read_only_reason", stats->read_only_reason()}};
    for (const v1::GpuStats& gpu : stats->gpus()) {
      out["gpus"].push_back(ToJson(gpu));
    }
    for (const auto& [name, value] : LimitPairs(info.limits())) {
      out["limits"][name] = value;
    }
    absl::PrintF("%s\n", out.dump(2));
    return kOk;
  }
  std::vector<std::pair<std::string, std::string>> pairs = {
      {"server", globals.server},
      {"version", info.version()},
      {"data format", absl::StrCat(info.data_format_version())},
      {"instructions", info.simd()},
      {"features", absl::StrJoin(info.features(), " ")},
      {"collections", WithCommas(stats->num_collections())},
      {"resident memory", HumanBytes(stats->resident_bytes())},
      {"page faults",
       absl::StrCat(WithCommas(stats->major_page_faults()), " from disk, ",
                    WithCommas(stats->minor_page_faults()), " others")},
      {"store on disk", HumanBytes(stats->store_disk_bytes())},
      {"store in memory", HumanBytes(stats->store_memory_bytes())},
      {"commits", WithCommas(stats->num_commits())},
      {"read-only",
       stats->read_only() ? "yes: " + stats->read_only_reason() : "no"}};
  for (const v1::GpuStats& gpu : stats->gpus()) {
    for (auto& pair : Pairs(gpu)) pairs.push_back(std::move(pair));
  }
  for (const auto& [name, value] : LimitPairs(info.limits())) {
    pairs.emplace_back("limit " + name, WithCommas(value));
  }
  absl::PrintF("%s", FormatPairs(pairs));
  return kOk;
}

int ResumeWrites(const Globals& globals) {
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const absl::Status status = (*client)->ResumeWrites();
  if (status.ok()) absl::PrintF("The server takes writes.\n");
  return Report(status);
}

}  // namespace

void AddServerCommand(CLI::App& app, Globals& globals) {
  CLI::App* server = app.add_subcommand("server", "Looks at the server");
  server->require_subcommand(1);
  server->footer("Example:\n  vicinal server info --json");
  CLI::App* info = server->add_subcommand(
      "info", "Prints version, limits, features and what the server uses");
  auto json = std::make_shared<bool>(false);
  info->add_flag("--json", *json, "Print JSON");
  info->footer("Example:\n  vicinal --server db1:7700 server info");
  info->callback([&globals, json] {
    globals.run = [&globals, json] { return ShowInfo(globals, *json); };
  });
  CLI::App* resume = server->add_subcommand(
      "resume-writes",
      "Ends read-only mode after its cause, e.g. a full disk, was mended");
  resume->footer("Example:\n  vicinal server resume-writes");
  resume->callback([&globals] {
    globals.run = [&globals] { return ResumeWrites(globals); };
  });
}

}  // namespace vicinal::cli
