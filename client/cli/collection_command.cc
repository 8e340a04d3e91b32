// vicinal collection create | list | show | update | drop | optimize
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/multi_options.h"
#include "client/cli/output.h"
#include "client/client.h"
#include "client/formats/elements.h"
#include "src/base/status_macros.h"
#include "vicinal/v1/collection.pb.h"

namespace vicinal::cli {
namespace {

using Align = Table::Align;

std::string IndexName(const v1::IndexConfig& index) {
  if (index.has_flat()) return "flat";
  if (index.has_automatic()) return "auto";
  // 0 stands for the server's default.
  const auto shown = [](uint32_t value) {
    return value == 0 ? std::string("default") : absl::StrCat(value);
  };
  if (index.has_ivf()) {
    return absl::StrCat("ivf lists=", shown(index.ivf().num_lists()));
  }
  return absl::StrCat("hnsw m=", shown(index.hnsw().m()), " ef_construction=",
                      shown(index.hnsw().ef_construction()));
}

std::string IndexNames(const v1::SegmentStats& segment) {
  std::vector<std::string> names;
  for (const int index : segment.indexes()) {
    names.push_back(index == v1::SEGMENT_INDEX_GRAPH   ? "graph"
                    : index == v1::SEGMENT_INDEX_LISTS ? "lists"
                                                       : "scan");
  }
  return names.empty() ? "scan" : absl::StrJoin(names, ", ");
}

std::string SegmentStateName(v1::SegmentState state) {
  switch (state) {
    case v1::SEGMENT_STATE_GROWING:
      return "growing";
    case v1::SEGMENT_STATE_SEALING:
      return "sealing";
    case v1::SEGMENT_STATE_SEALED:
      return "sealed";
    default:
      return "?";
  }
}

constexpr std::pair<const char*, v1::MemoryTier> kTiers[] = {
    {"ram", v1::MEMORY_TIER_RAM},
    {"mapped", v1::MEMORY_TIER_MAPPED},
    {"pinned", v1::MEMORY_TIER_PINNED}};

constexpr std::pair<const char*, v1::GpuUse> kGpuUses[] = {
    {"auto", v1::GPU_USE_UNSPECIFIED},
    {"never", v1::GPU_USE_NEVER},
    {"require", v1::GPU_USE_REQUIRE}};

std::string GpuUseName(v1::GpuUse gpu) {
  for (const auto& [name, value] : kGpuUses) {
    if (value == gpu) return name;
  }
  return "auto";
}

std::string TierName(v1::MemoryTier tier) {
  for (const auto& [name, value] : kTiers) {
    if (value == tier) return name;
  }
  return "ram";
}

nlohmann::ordered_json ToJson(const v1::Collection& collection) {
  nlohmann::ordered_json out = {{"name", collection.name()},
                                {"uuid", collection.uuid()}};
  out["vectors"] = nlohmann::ordered_json::array();
  for (const v1::VectorConfig& vector : collection.vectors()) {
    nlohmann::ordered_json v = {
        {"name", vector.name()},
        {"dim", vector.dim()},
        {"metric", MetricName(vector.metric())},
        {"type", std::string(client::ElementTypeName(
                     client::FromProto(vector.type())))},
        {"index", vector.index().has_automatic() ? "auto"
                  : vector.index().has_flat()    ? "flat"
                  : vector.index().has_ivf()     ? "ivf"
                                                 : "hnsw"}};
    if (vector.index().has_ivf()) {
      v["num_lists"] = vector.index().ivf().num_lists();
    } else if (vector.index().has_hnsw()) {
      v["m"] = vector.index().hnsw().m();
      v["ef_construction"] = vector.index().hnsw().ef_construction();
    }
    v["codec"] = CodecName(vector.codec());
    out["vectors"].push_back(std::move(v));
  }
  const v1::CollectionStats& stats = collection.stats();
  out["num_points"] = stats.num_points();
  out["num_indexed_points"] = stats.num_indexed_points();
  out["sequence"] = stats.sequence();
  out["vector_bytes"] = stats.vector_bytes();
  out["index_bytes"] = stats.index_bytes();
  out["code_bytes"] = stats.code_bytes();
  out["memory_tier"] = TierName(collection.memory().tier());
  out["memory_budget_bytes"] = collection.memory().budget_bytes();
  out["gpu"] = GpuUseName(collection.gpu());
  out["ram_bytes"] = stats.ram_bytes();
  out["file_bytes"] = stats.file_bytes();
  out["resident_file_bytes"] = stats.resident_file_bytes();
  out["search_major_faults"] = stats.search_major_faults();
  out["degraded"] = stats.degraded();
  out["sparse_vectors"] = nlohmann::ordered_json::array();
  for (const v1::SparseConfig& sparse : collection.sparse_vectors()) {
    out["sparse_vectors"].push_back(
        {{"name", sparse.name()},
         {"weight_type", std::string(client::ElementTypeName(
                             client::FromProto(sparse.weight_type())))},
         {"idf", sparse.idf()},
         {"encoder_tokens", sparse.encoder_tokens()}});
  }
  out["multi_vectors"] = MultiVectorsToJson(collection);
  out["texts"] = nlohmann::ordered_json::array();
  for (const v1::TextConfig& text : collection.texts()) {
    out["texts"].push_back({{"path", text.path()},
                            {"analyzer", text.analyzer().name()},
                            {"positions", text.positions()},
                            {"k1", text.k1()},
                            {"b", text.b()}});
  }
  out["payload_indexes"] = PayloadIndexesToJson(collection);
  out["indexed_filters_only"] = collection.indexed_filters_only();
  out["partition_key"] = collection.partition_key();
  out["recall"] = nlohmann::ordered_json::array();
  for (const v1::RecallStats& recall : stats.recall()) {
    out["recall"].push_back({{"vector", recall.vector_name()},
                             {"num_queries", recall.num_queries()},
                             {"asked", recall.asked()},
                             {"found", recall.found()},
                             {"num_calibrations", recall.num_calibrations()}});
  }
  out["segments"] = nlohmann::ordered_json::array();
  for (const v1::SegmentStats& segment : stats.segments()) {
    out["segments"].push_back({{"number", segment.number()},
                               {"state", SegmentStateName(segment.state())},
                               {"num_rows", segment.num_rows()},
                               {"num_deleted", segment.num_deleted()},
                               {"vector_bytes", segment.vector_bytes()},
                               {"index_bytes", segment.index_bytes()},
                               {"code_bytes", segment.code_bytes()},
                               {"ram_bytes", segment.ram_bytes()},
                               {"pinned_bytes", segment.pinned_bytes()},
                               {"searched_by", IndexNames(segment)},
                               {"encoders", segment.encoders()},
                               {"file_bytes", segment.file_bytes()}});
  }
  return out;
}

std::string VectorName(const std::string& name) {
  return name.empty() ? "(unnamed)" : name;
}

void PrintLexical(const v1::Collection& collection) {
  if (!collection.sparse_vectors().empty()) {
    Table table({{"sparse vector"},
                 {"weights"},
                 {"idf"},
                 {"encoder tokens", Align::kRight}});
    for (const v1::SparseConfig& sparse : collection.sparse_vectors()) {
      table.AddRow({sparse.name(),
                    std::string(client::ElementTypeName(
                        client::FromProto(sparse.weight_type()))),
                    sparse.idf() ? "yes" : "no",
                    WithCommas(sparse.encoder_tokens())});
    }
    absl::PrintF("\n%s", table.Format());
  }
  if (collection.texts().empty()) return;
  Table table({{"text"},
               {"analyzer"},
               {"positions"},
               {"k1", Align::kRight},
               {"b", Align::kRight}});
  for (const v1::TextConfig& text : collection.texts()) {
    table.AddRow({text.path(), text.analyzer().name(),
                  text.positions() ? "yes" : "no", Fixed(text.k1(), 2),
                  Fixed(text.b(), 2)});
  }
  absl::PrintF("\n%s", table.Format());
}

void Print(const v1::Collection& collection) {
  const v1::CollectionStats& stats = collection.stats();
  std::vector<std::pair<std::string, std::string>> pairs = {
      {"name", collection.name()},
      {"uuid", collection.uuid()},
      {"points", WithCommas(stats.num_points())},
      {"indexed", WithCommas(stats.num_indexed_points())},
      {"raw vectors", HumanBytes(stats.vector_bytes())},
      {"indexes", HumanBytes(stats.index_bytes())},
      {"codes", HumanBytes(stats.code_bytes())},
      {"memory tier",
       absl::StrCat(
           TierName(collection.memory().tier()),
           collection.memory().budget_bytes() > 0
               ? absl::StrCat(", at most ",
                              HumanBytes(collection.memory().budget_bytes()))
               : "")},
      {"in memory", HumanBytes(stats.ram_bytes())},
      {"gpu", GpuUseName(collection.gpu())},
      {"mapped files", absl::StrCat(HumanBytes(stats.file_bytes()), ", ",
                                    HumanBytes(stats.resident_file_bytes()),
                                    " of them in memory")},
      {"searches waited for disk", WithCommas(stats.search_major_faults())},
      {"last commit", WithCommas(stats.sequence())},
      {"state", stats.degraded() ? "an index is being rebuilt" : "healthy"}};
  if (!collection.partition_key().empty()) {
    pairs.emplace_back("divided by", collection.partition_key());
  }
  absl::PrintF("%s", FormatPairs(pairs));
  Table vectors({{"vector"},
                 {"dim", Align::kRight},
                 {"metric"},
                 {"type"},
                 {"index"},
                 {"codec"}});
  for (const v1::VectorConfig& vector : collection.vectors()) {
    vectors.AddRow(
        {VectorName(vector.name()), WithCommas(vector.dim()),
         MetricName(vector.metric()),
         std::string(client::ElementTypeName(client::FromProto(vector.type()))),
         IndexName(vector.index()), CodecName(vector.codec())});
  }
  if (!collection.vectors().empty()) absl::PrintF("\n%s", vectors.Format());
  PrintLexical(collection);
  if (!collection.multi_vectors().empty()) {
    absl::PrintF("\n%s", FormatMultiVectors(collection));
  }
  if (!collection.payload_indexes().empty()) {
    absl::PrintF("\n%s", FormatPayloadIndexes(collection));
  }
  if (!stats.recall().empty()) {
    Table recalls({{"recall of"},
                   {"asked", Align::kRight},
                   {"found", Align::kRight},
                   {"queries", Align::kRight},
                   {"calibrations", Align::kRight}});
    for (const v1::RecallStats& recall : stats.recall()) {
      recalls.AddRow({VectorName(recall.vector_name()),
                      absl::StrFormat("%.3f", recall.asked()),
                      absl::StrFormat("%.3f", recall.found()),
                      WithCommas(recall.num_queries()),
                      WithCommas(recall.num_calibrations())});
    }
    absl::PrintF("\n%s", recalls.Format());
  }
  if (stats.segments().empty()) return;
  Table segments({{"segment"},
                  {"state"},
                  {"rows", Align::kRight},
                  {"deleted", Align::kRight},
                  {"vectors", Align::kRight},
                  {"index", Align::kRight},
                  {"codes", Align::kRight},
                  {"file", Align::kRight},
                  {"searched by"}});
  for (const v1::SegmentStats& segment : stats.segments()) {
    segments.AddRow(
        {segment.number() == 0 ? "-" : absl::StrCat(segment.number()),
         SegmentStateName(segment.state()), WithCommas(segment.num_rows()),
         WithCommas(segment.num_deleted()), HumanBytes(segment.vector_bytes()),
         HumanBytes(segment.index_bytes()), HumanBytes(segment.code_bytes()),
         HumanBytes(segment.file_bytes()), IndexNames(segment)});
  }
  absl::PrintF("\n%s", segments.Format());
}

// NAME:DIM:METRIC[:TYPE[:INDEX]]
absl::StatusOr<v1::VectorConfig> ParseVectorSpec(const std::string& spec,
                                                 const VectorOptions& common) {
  const std::vector<std::string> parts = absl::StrSplit(spec, ':');
  uint32_t dim = 0;
  if (parts.size() < 3 || parts.size() > 5 ||
      !absl::SimpleAtoi(parts[1], &dim)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--vector ", spec,
                     " is not NAME:DIM:METRIC[:TYPE[:INDEX]], e.g. "
                     "title:384:cosine:f16:hnsw."));
  }
  VectorOptions options = common;
  options.metric = parts[2];
  if (parts.size() > 3) options.type = parts[3];
  if (parts.size() > 4) options.index = parts[4];
  VICINAL_RETURN_IF_ERROR(ParseMetric(options.metric).status());
  if (!options.type.empty()) {
    VICINAL_RETURN_IF_ERROR(client::ParseElementType(options.type).status());
  }
  if (options.index != "hnsw" && options.index != "ivf" &&
      options.index != "flat" && options.index != "auto") {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", options.index,
                     "\" is not an index; use auto, hnsw, ivf or flat."));
  }
  v1::VectorConfig config;
  config.set_name(parts[0]);
  config.set_dim(dim);
  FillVectorConfig(options, &config);
  return config;
}

// Where a collection's segments are kept and searched: what can be changed at
// any time. Empty or missing: as it is.
struct PlacementOptions {
  std::string memory_tier;
  std::optional<uint64_t> memory_budget;
  std::string gpu;
};

struct CreateOptions {
  std::string name;
  uint32_t dim = 0;
  VectorOptions vector;
  LexicalOptions lexical;
  std::vector<std::string> specs;
  std::vector<std::string> multi_specs;
  PlacementOptions placement;
  std::vector<std::string> payload_indexes;
  bool indexed_filters_only = false;
  std::string partition_key;
  uint64_t expected_points = 0;
  bool dry_run = false;
};

void SetPlacement(const PlacementOptions& options, v1::Collection* collection) {
  for (const auto& [name, tier] : kTiers) {
    if (options.memory_tier == name) {
      collection->mutable_memory()->set_tier(tier);
    }
  }
  if (options.memory_budget.has_value()) {
    collection->mutable_memory()->set_budget_bytes(*options.memory_budget);
  }
  for (const auto& [name, gpu] : kGpuUses) {
    if (options.gpu == name) collection->set_gpu(gpu);
  }
}

std::vector<std::string> TierNames() {
  std::vector<std::string> names;
  for (const auto& [name, value] : kTiers) names.emplace_back(name);
  return names;
}

std::string HumanSeconds(double seconds) {
  return seconds < 120    ? absl::StrFormat("%.0f s", std::ceil(seconds))
         : seconds < 7200 ? absl::StrFormat("%.0f min", seconds / 60)
                          : absl::StrFormat("%.1f h", seconds / 3600);
}

void Print(const v1::ResourceEstimate& estimate, uint64_t num_points) {
  absl::PrintF(
      "%s",
      FormatPairs({{"points", WithCommas(num_points)},
                   {"memory", HumanBytes(estimate.ram_bytes())},
                   {"mapped files", HumanBytes(estimate.mapped_bytes())},
                   {"disk", HumanBytes(estimate.disk_bytes())},
                   {"index build", HumanSeconds(estimate.build_seconds())}}));
  for (const std::string& warning : estimate.warnings()) {
    absl::PrintF("Note: %s\n", warning);
  }
}

int Create(const Globals& globals, const CreateOptions& options) {
  v1::Collection collection;
  collection.set_name(options.name);
  for (const std::string& spec : options.specs) {
    auto config = ParseVectorSpec(spec, options.vector);
    if (!config.ok()) return ReportUsage(config.status());
    *collection.add_vectors() = *std::move(config);
  }
  if (absl::Status status = FillLexicalConfig(options.lexical, &collection);
      !status.ok()) {
    return ReportUsage(status);
  }
  for (const std::string& spec : options.multi_specs) {
    auto config = ParseMultiSpec(spec);
    if (!config.ok()) return ReportUsage(config.status());
    *collection.add_multi_vectors() = *std::move(config);
  }
  const bool has_other = collection.sparse_vectors_size() +
                             collection.texts_size() +
                             collection.multi_vectors_size() >
                         0;
  if (options.specs.empty() && (options.dim != 0 || !has_other)) {
    if (options.dim == 0 || options.vector.metric.empty()) {
      return ReportUsage(absl::InvalidArgumentError(
          "Give --dim and --metric, or one --vector NAME:DIM:METRIC for each "
          "named vector, or --sparse, --text or --multi."));
    }
    v1::VectorConfig* config = collection.add_vectors();
    config->set_dim(options.dim);
    FillVectorConfig(options.vector, config);
  }
  SetPlacement(options.placement, &collection);
  for (const std::string& text : options.payload_indexes) {
    auto index = ParsePayloadIndex(text);
    if (!index.ok()) return ReportUsage(index.status());
    *collection.add_payload_indexes() = *std::move(index);
  }
  collection.set_indexed_filters_only(options.indexed_filters_only);
  if (!options.partition_key.empty()) {
    const bool has_type = absl::StrContains(options.partition_key, ':');
    auto index = ParsePayloadIndex(
        absl::StrCat(options.partition_key, has_type ? "" : ":keyword"));
    if (!index.ok()) return ReportUsage(index.status());
    collection.set_partition_key(index->path());
    *collection.add_payload_indexes() = *std::move(index);
  }
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  if (options.expected_points > 0) {
    const auto estimate =
        (*client)->EstimateCollection(collection, options.expected_points);
    if (!estimate.ok()) return Report(estimate.status());
    Print(*estimate, options.expected_points);
  }
  const auto created = (*client)->CreateCollection(collection, options.dry_run);
  if (!created.ok()) return Report(created.status());
  if (options.dry_run) {
    absl::PrintF("Collection %s could be created.\n", created->name());
    return kOk;
  }
  absl::PrintF("Created collection %s (%s).\n", created->name(),
               created->uuid());
  return kOk;
}

int List(const Globals& globals, bool json) {
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto collections = (*client)->ListCollections();
  if (!collections.ok()) return Report(collections.status());
  if (json) {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const auto& collection : *collections) {
      out.push_back(ToJson(collection));
    }
    absl::PrintF("%s\n", out.dump(2));
    return kOk;
  }
  Table table({{"name"},
               {"points", Align::kRight},
               {"indexed", Align::kRight},
               {"vectors"},
               {"raw vectors", Align::kRight},
               {"indexes", Align::kRight}});
  for (const v1::Collection& collection : *collections) {
    std::string vectors;
    for (const v1::VectorConfig& vector : collection.vectors()) {
      absl::StrAppend(
          &vectors, vectors.empty() ? "" : ", ",
          vector.name().empty() ? "" : absl::StrCat(vector.name(), ": "),
          vector.dim(), " x ",
          client::ElementTypeName(client::FromProto(vector.type())), " ",
          MetricName(vector.metric()));
    }
    for (const v1::MultiVectorConfig& multi : collection.multi_vectors()) {
      absl::StrAppend(&vectors, vectors.empty() ? "" : ", ", multi.name(),
                      ": tokens x ", multi.dim(), " ",
                      MetricName(multi.metric()));
    }
    table.AddRow({collection.name(),
                  WithCommas(collection.stats().num_points()),
                  WithCommas(collection.stats().num_indexed_points()), vectors,
                  HumanBytes(collection.stats().vector_bytes()),
                  HumanBytes(collection.stats().index_bytes())});
  }
  absl::PrintF("%s", table.Format());
  return kOk;
}

int Show(const Globals& globals, const std::string& name, bool json) {
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto collection = (*client)->GetCollection(name);
  if (!collection.ok()) return Report(collection.status());
  if (json) {
    absl::PrintF("%s\n", ToJson(*collection).dump(2));
  } else {
    Print(*collection);
  }
  return kOk;
}

int Update(const Globals& globals, const std::string& name,
           const PlacementOptions& options) {
  std::vector<std::string> paths;
  if (!options.memory_tier.empty() || options.memory_budget.has_value()) {
    paths.emplace_back("memory");
  }
  if (!options.gpu.empty()) paths.emplace_back("gpu");
  if (paths.empty()) {
    return ReportUsage(absl::InvalidArgumentError(
        "Give what to change: --gpu, --memory-tier or --memory-budget."));
  }
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto before = (*client)->GetCollection(name);
  if (!before.ok()) return Report(before.status());
  v1::Collection collection;
  collection.set_name(name);
  *collection.mutable_memory() = before->memory();
  SetPlacement(options, &collection);
  const auto after = (*client)->UpdateCollection(collection, paths);
  if (!after.ok()) return Report(after.status());
  Print(*after);
  return kOk;
}

int Drop(const Globals& globals, const std::string& name, bool if_exists) {
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const absl::Status status = (*client)->DeleteCollection(name, if_exists);
  if (status.ok()) absl::PrintF("Dropped collection %s.\n", name);
  return Report(status);
}

int Optimize(const Globals& globals, const std::string& name,
             uint32_t max_segments, bool wait) {
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  const auto operation = (*client)->OptimizeCollection(name, max_segments);
  if (!operation.ok()) return Report(operation.status());
  if (!wait) {
    absl::PrintF("Started %s.\n", *operation);
    return kOk;
  }
  const absl::Status status = WaitWithProgress(**client, *operation, false);
  if (status.ok()) absl::PrintF("Optimized collection %s.\n", name);
  return Report(status);
}

// 2GiB, 2 gb, 1024. As in CLI11, a kilobyte has 1,024 bytes.
std::optional<uint64_t> ParseBytes(absl::string_view text) {
  constexpr std::pair<absl::string_view, int> kUnits[] = {
      {"", 0},     {"b", 0},   {"k", 10},   {"kb", 10}, {"kib", 10},
      {"m", 20},   {"mb", 20}, {"mib", 20}, {"g", 30},  {"gb", 30},
      {"gib", 30}, {"t", 40},  {"tb", 40},  {"tib", 40}};
  text = absl::StripAsciiWhitespace(text);
  const size_t digits =
      std::min(text.find_first_not_of("0123456789"), text.size());
  uint64_t number = 0;
  if (!absl::SimpleAtoi(text.substr(0, digits), &number)) return std::nullopt;
  const std::string unit = absl::AsciiStrToLower(
      absl::StripLeadingAsciiWhitespace(text.substr(digits)));
  for (const auto& [name, shift] : kUnits) {
    if (unit != name) continue;
    if (number > std::numeric_limits<uint64_t>::max() >> shift) break;
    return number << shift;
  }
  return std::nullopt;
}

void AddPlacementOptions(CLI::App& command, PlacementOptions& options) {
  command
      .add_option("--memory-tier", options.memory_tier,
                  "ram (codes and links in memory, vectors in mapped files), "
                  "mapped (all in mapped files) or pinned (vectors locked in "
                  "memory, too); of a new collection ram")
      ->check(CLI::IsMember(TierNames()));
  command
      .add_option("--memory-budget", options.memory_budget,
                  "Most bytes of codes and links in memory, e.g. 2GiB; 0: no "
                  "limit")
      ->transform(CLI::Validator(
          [](std::string& text) {
            const std::optional<uint64_t> bytes = ParseBytes(text);
            if (!bytes.has_value()) {
              return absl::StrCat("\"", text,
                                  "\" is not a whole number of bytes, or of "
                                  "KiB, MiB, GiB or TiB, below 2^64");
            }
            text = absl::StrCat(*bytes);
            return std::string();
          },
          "BYTES"));
  command
      .add_option("--gpu", options.gpu,
                  "What the server's GPU builds and searches: auto (what it "
                  "is faster at), never (nothing) or require (every exact "
                  "search, and every one by multi-vectors; refused where the "
                  "server has none); of a new collection auto")
      ->check(CLI::IsMember({"auto", "never", "require"}));
}

void AddCreate(CLI::App& parent, Globals& globals) {
  CLI::App* command = parent.add_subcommand("create", "Creates a collection");
  auto options = std::make_shared<CreateOptions>();
  command->add_option("name", options->name, "Its name")->required();
  CLI::Option* dim = command->add_option("--dim", options->dim,
                                         "Elements of its unnamed vector");
  AddVectorOptions(*command, options->vector);
  AddLexicalOptions(*command, options->lexical);
  command
      ->add_option("--vector", options->specs,
                   "A named vector: NAME:DIM:METRIC[:TYPE[:INDEX]]; may be "
                   "repeated")
      ->excludes(dim);
  command
      ->add_option(
          "--multi", options->multi_specs,
          "Multi-vector (tokens of ColBERT and the like): "
          "NAME:DIM[:METRIC][:OPTION...], METRIC ip or cosine (default), "
          "options f32, f16, bf16 or i8; empty; max=TOKENS; encoder=auto, "
          "muvera, muvera-paper, ols or none; codec=int8, int4, int2 or "
          "binary; bits=B; repeatable")
      ->allow_extra_args(false);
  AddPlacementOptions(*command, options->placement);
  command->add_option("--payload-index", options->payload_indexes,
                      "A payload field to index: PATH:TYPE, e.g. price:f64; "
                      "may be repeated");
  command->add_flag("--indexed-filters-only", options->indexed_filters_only,
                    "Refuse filters over other fields");
  command->add_option("--partition-key", options->partition_key,
                      "The payload field that divides the collection, mostly "
                      "its tenant: PATH or PATH:TYPE, of keyword (default), "
                      "i64 or uuid; is indexed");
  command->add_option("--expected-points", options->expected_points,
                      "Prints what so many points will take");
  command->add_flag("--dry-run", options->dry_run,
                    "Checks everything, creates nothing");
  command->footer(
      "Examples:\n"
      "  vicinal collection create photos --dim 784 --metric l2\n"
      "  vicinal collection create docs --vector title:384:cosine "
      "--vector body:768:cosine:f16\n"
      "  vicinal collection create papers --multi "
      "colbert:128:cosine:max=512:encoder=ols\n"
      "  vicinal collection create big --dim 768 --metric cosine "
      "--memory-budget 8GiB --expected-points 20000000 --dry-run");
  command->callback([&globals, options] {
    globals.run = [&globals, options] { return Create(globals, *options); };
  });
}

}  // namespace

void AddCollectionCommand(CLI::App& app, Globals& globals) {
  CLI::App* collection = app.add_subcommand(
      "collection", "Creates, shows, changes and drops collections");
  collection->require_subcommand(1);
  collection->footer("Example:\n  vicinal collection list");
  AddCreate(*collection, globals);

  struct Options {
    std::string name;
    bool json = false;
    bool if_exists = false;
    bool no_wait = false;
    uint32_t max_segments = 0;
  };
  auto options = std::make_shared<Options>();
  CLI::App* list = collection->add_subcommand("list", "Lists collections");
  list->add_flag("--json", options->json, "Print JSON");
  list->footer("Example:\n  vicinal collection list --json");
  list->callback([&globals, options] {
    globals.run = [&globals, options] { return List(globals, options->json); };
  });

  CLI::App* show = collection->add_subcommand(
      "show", "Prints schema, size and segments of a collection");
  show->add_option("name", options->name, "Its name")->required();
  show->add_flag("--json", options->json, "Print JSON");
  show->footer("Example:\n  vicinal collection show photos");
  show->callback([&globals, options] {
    globals.run = [&globals, options] {
      return Show(globals, options->name, options->json);
    };
  });

  CLI::App* update = collection->add_subcommand(
      "update", "Changes where a collection is kept and searched");
  auto placement = std::make_shared<PlacementOptions>();
  update->add_option("name", options->name, "Its name")->required();
  AddPlacementOptions(*update, *placement);
  update->footer("Example:\n  vicinal collection update photos --gpu never");
  update->callback([&globals, options, placement] {
    globals.run = [&globals, options, placement] {
      return Update(globals, options->name, *placement);
    };
  });

  CLI::App* drop = collection->add_subcommand(
      "drop", "Deletes a collection and all its points");
  drop->add_option("name", options->name, "Its name")->required();
  drop->add_flag("--if-exists", options->if_exists,
                 "No error when there is none");
  drop->footer("Example:\n  vicinal collection drop photos");
  drop->callback([&globals, options] {
    globals.run = [&globals, options] {
      return Drop(globals, options->name, options->if_exists);
    };
  });

  CLI::App* optimize = collection->add_subcommand(
      "optimize", "Indexes what was written so far and merges segments");
  optimize->add_option("name", options->name, "Its name")->required();
  optimize->add_option("--max-segments", options->max_segments,
                       "Merge until so many are left; 0: one");
  optimize->add_flag("--no-wait", options->no_wait,
                     "Return when the work was started");
  optimize->footer("Example:\n  vicinal collection optimize photos");
  optimize->callback([&globals, options] {
    globals.run = [&globals, options] {
      return Optimize(globals, options->name, options->max_segments,
                      !options->no_wait);
    };
  });
}

}  // namespace vicinal::cli
