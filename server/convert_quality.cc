#include "server/convert_quality.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace vicinal {

void ParseQuality(const v1::Quality& quality, const Limits& limits,
                  const std::string& path, FieldViolations* violations,
                  RetrieveStage* stage) {
  switch (quality.kind_case()) {
    case v1::Quality::kRecallTarget:
      stage->recall_target = quality.recall_target();
      if (!(stage->recall_target > 0 && stage->recall_target <= 1)) {
        violations->Add(path + ".recall_target",
                        absl::StrCat("is ", stage->recall_target,
                                     "; give a share over 0 and at most 1"));
      }
      break;
    case v1::Quality::kEf:
      stage->ef = quality.ef();
      if (quality.ef() == 0 || quality.ef() > limits.max_ef) {
        violations->Add(
            path + ".ef",
            absl::StrCat("is ", quality.ef(), "; give 1 to ", limits.max_ef));
      }
      break;
    case v1::Quality::kNprobe:
      stage->nprobe = quality.nprobe();
      if (quality.nprobe() == 0 || quality.nprobe() > kMaxIvfLists) {
        violations->Add(path + ".nprobe",
                        absl::StrCat("is ", quality.nprobe(), "; give 1 to ",
                                     kMaxIvfLists));
      }
      break;
    case v1::Quality::kExact:
      stage->exact = true;
      if (!quality.exact()) {
        violations->Add(path + ".exact",
                        "is false; set it to true or leave it out");
      }
      break;
    case v1::Quality::KIND_NOT_SET:
      break;
  }
}

void CheckQuality(const v1::Quality& quality, const VectorField& field,
                  const std::string& path, FieldViolations* violations) {
  if (quality.has_ef() && field.index == IndexKind::kIvf) {
    violations->Add(path + ".ef",
                    absl::StrCat("is for graphs, and vector \"", field.name,
                                 "\" has an IVF index; give nprobe or "
                                 "recall_target"));
  }
  if (quality.has_nprobe() && field.index == IndexKind::kHnsw) {
    violations->Add(
        path + ".nprobe",
        absl::StrCat("is for IVF indexes, and vector \"", field.name,
                     "\" has a graph; give ef or recall_target"));
  }
}

ForcedPlan ParsePlan(v1::ForcedPlan plan, const std::string& path,
                     FieldViolations* violations) {
  if (v1::ForcedPlan_IsValid(plan)) return static_cast<ForcedPlan>(plan);
  violations->Add(
      path, absl::StrCat("is ", plan, "; give one of vicinal.v1.ForcedPlan"));
  return ForcedPlan::kNone;
}

}  // namespace vicinal
