#include "server/convert_write.h"

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/errors.h"
#include "src/engine/collection.h"
#include "src/engine/limits.h"
#include "src/engine/payload_patch.h"
#include "vicinal/v1/point.pb.h"

namespace vicinal {

UpsertCondition ParseCondition(const v1::UpsertRequest& request,
                               size_t num_points, FieldViolations* violations) {
  using Kind = UpsertCondition::Kind;
  UpsertCondition condition;
  switch (request.condition()) {
    case v1::UPSERT_CONDITION_UNSPECIFIED:
      break;
    case v1::UPSERT_CONDITION_MUST_EXIST:
      condition.kind = Kind::kMustExist;
      break;
    case v1::UPSERT_CONDITION_MUST_NOT_EXIST:
      condition.kind = Kind::kMustNotExist;
      break;
    default:
      violations->Add("condition",
                      absl::StrCat("is ", request.condition(),
                                   ", which this server does not know"));
  }
  const auto& sequences = request.expected_sequences();
  if (sequences.empty()) return condition;
  if (request.condition() != v1::UPSERT_CONDITION_UNSPECIFIED) {
    violations->Add("expected_sequences",
                    "stands beside condition; give one of them");
  } else if (static_cast<size_t>(sequences.size()) != num_points) {
    violations->Add("expected_sequences",
                    absl::StrCat("has ", sequences.size(),
                                 " elements; give one for each of the ",
                                 num_points, " points"));
  }
  condition.kind = Kind::kSequences;
  condition.sequences.assign(sequences.begin(), sequences.end());
  return condition;
}

std::optional<PayloadPatch> ParsePatch(const v1::UpdatePayloadRequest& request,
                                       const Limits& limits,
                                       FieldViolations* violations) {
  PayloadChange change;
  if (request.has_set()) change.set = request.set();
  if (request.has_merge()) change.merge = request.merge();
  change.delete_keys.assign(request.delete_keys().begin(),
                            request.delete_keys().end());
  std::string field;
  auto patch = PayloadPatch::Make(std::move(change), limits, &field);
  if (patch.ok()) return *std::move(patch);
  violations->Add(field, patch.status().message());
  return std::nullopt;
}

}  // namespace vicinal
