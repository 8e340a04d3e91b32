// What an AnalyzerSpec stands for.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "src/text/analyzer.h"
#include "src/text/word_filter.h"

namespace vicinal {

enum class Segmentation : uint8_t { kWords, kCjkPairs, kWhitespace, kWhole };

struct AnalyzerPlan {
  Segmentation segmentation = Segmentation::kWords;
  bool fold_case = true;
  bool turkish_case = false;
  WordRules rules;
};

// InvalidArgument: as of Analyzer::Make.
absl::StatusOr<AnalyzerPlan> PlanAnalyzer(const AnalyzerSpec& spec);

}  // namespace vicinal
