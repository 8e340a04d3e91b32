#include "src/engine/payload_patch.h"

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "src/engine/limits.h"
#include "src/engine/write_batch_encoder.h"

namespace vicinal {
namespace {

using Json = nlohmann::json;  // keeps its keys sorted

// Why a path is none; the message has no subject.
absl::Status CheckPath(absl::string_view path) {
  if (path.empty() || path.size() > kMaxDeleteKeyBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "has ", path.size(), " bytes; a path has 1 to ", kMaxDeleteKeyBytes));
  }
  if (path.front() == '.' || path.back() == '.' ||
      path.find("..") != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("is \"", path,
                     "\", which has an empty name; write names with one dot "
                     "between two"));
  }
  return absl::OkStatus();
}

void RemoveKey(std::span<const std::string> path, Json* json) {
  if (json->is_array()) {
    for (Json& element : *json) RemoveKey(path, &element);
    return;
  }
  if (!json->is_object()) return;
  if (path.size() == 1) {
    json->erase(path[0]);
    return;
  }
  const auto child = json->find(path[0]);
  if (child != json->end()) RemoveKey(path.subspan(1), &*child);
}

}  // namespace

struct PayloadPatch::Parsed {
  std::optional<std::string> set;
  std::optional<Json> merge;
  std::vector<std::vector<std::string>> delete_keys;
  size_t max_payload_bytes = 0;
};

PayloadPatch::PayloadPatch(std::unique_ptr<const Parsed> parsed)
    : parsed_(std::move(parsed)) {}
PayloadPatch::PayloadPatch(PayloadPatch&&) noexcept = default;
PayloadPatch& PayloadPatch::operator=(PayloadPatch&&) noexcept = default;
PayloadPatch::~PayloadPatch() = default;

absl::StatusOr<PayloadPatch> PayloadPatch::Make(PayloadChange change,
                                                const Limits& limits,
                                                std::string* bad_field) {
  const auto refused = [&](std::string field, absl::string_view why) {
    absl::Status status =
        absl::InvalidArgumentError(absl::StrCat(field, " ", why));
    if (bad_field != nullptr) *bad_field = std::move(field);
    return status;
  };
  if (change.set.has_value() &&
      (change.merge.has_value() || !change.delete_keys.empty())) {
    return refused("set", "stands beside merge or delete_keys; give one");
  }
  if (!change.set.has_value() && !change.merge.has_value() &&
      change.delete_keys.empty()) {
    return refused("set", "is missing, so are merge and delete_keys; give one");
  }
  auto parsed = std::make_unique<Parsed>();
  parsed->max_payload_bytes = limits.max_payload_bytes;
  if (change.set.has_value()) {
    const absl::Status status = ValidatePayload(*change.set, limits);
    if (!status.ok()) return refused("set", status.message());
    parsed->set = std::move(change.set);
  }
  if (change.merge.has_value()) {
    const absl::Status status = ValidatePayload(*change.merge, limits);
    if (!status.ok()) return refused("merge", status.message());
    parsed->merge = Json::parse(*change.merge, nullptr, false);
  }
  if (change.delete_keys.size() > kMaxDeleteKeys) {
    return refused(
        "delete_keys",
        absl::StrCat("has ", change.delete_keys.size(), " paths; at most ",
                     kMaxDeleteKeys, " are allowed"));
  }
  for (size_t i = 0; i < change.delete_keys.size(); ++i) {
    const std::string& path = change.delete_keys[i];
    const absl::Status status = CheckPath(path);
    if (!status.ok()) {
      return refused(absl::StrCat("delete_keys[", i, "]"), status.message());
    }
    parsed->delete_keys.push_back(absl::StrSplit(path, '.'));
  }
  return PayloadPatch(std::move(parsed));
}

absl::StatusOr<std::string> PayloadPatch::Apply(
    absl::string_view payload) const {
  if (parsed_->set.has_value()) return *parsed_->set;
  Json json = Json::object();
  if (!payload.empty()) {
    json = Json::parse(payload.begin(), payload.end(), nullptr,
                       /*allow_exceptions=*/false);
    if (!json.is_object()) {
      return absl::DataLossError("a stored payload is not a JSON object");
    }
  }
  if (parsed_->merge.has_value()) json.merge_patch(*parsed_->merge);
  for (const auto& path : parsed_->delete_keys) RemoveKey(path, &json);
  // Strings of parsed JSON are UTF-8, so nothing is replaced.
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  // No deeper than the deeper one of the two: only the size can have grown.
  if (text.size() > parsed_->max_payload_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "would have a payload of ", text.size(), " bytes; at most ",
        parsed_->max_payload_bytes, " are allowed"));
  }
  return text;
}

}  // namespace vicinal
