// What a filter asks of a text (MATCH): analyzed by whoever knows the
// analyzers.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vicinal {

// Const and thread-safe.
class TextCondition {
 public:
  virtual ~TextCondition() = default;
  // Whether the strings of a text, in their order, have what is asked for.
  virtual bool Matches(std::span<const absl::string_view> strings) const = 0;
};

// InvalidArgument: `path` is no text, or the expression is none.
using TextConditionMaker =
    std::function<absl::StatusOr<std::shared_ptr<const TextCondition>>(
        absl::string_view path, absl::string_view expression)>;

}  // namespace vicinal
