// Stages that find points by terms, from the wire.
#pragma once

#include <cmath>
#include <optional>
#include <string>

#include "server/errors.h"
#include "src/engine/limits.h"
#include "src/engine/query.h"
#include "src/engine/schema.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal {

// All but k. nullopt, and violations, where they cannot be asked.
std::optional<SparseStage> ParseSparseStage(const v1::RetrieveSparse& in,
                                            const CollectionSchema& schema,
                                            const Limits& limits,
                                            const std::string& path,
                                            FieldViolations* violations);
std::optional<TextStage> ParseTextStage(const v1::RetrieveText& in,
                                        const CollectionSchema& schema,
                                        const Limits& limits,
                                        const std::string& path,
                                        FieldViolations* violations);
Feedback ParseFeedback(const v1::Feedback& in, const Limits& limits,
                       const std::string& path, FieldViolations* violations);
// in: a message with a score_threshold of scores, where larger is better.
template <typename Message>
std::optional<double> ParseScoreThreshold(const Message& in,
                                          const std::string& path,
                                          FieldViolations* violations) {
  if (!in.has_score_threshold()) return std::nullopt;
  const float threshold = in.score_threshold();
  if (!std::isfinite(threshold)) {
    violations->Add(path + ".score_threshold",
                    "is no finite number; give one, or leave it out");
    return std::nullopt;
  }
  return -static_cast<double>(threshold);
}

}  // namespace vicinal
