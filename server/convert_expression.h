// Expressions of scores from the wire.
#pragma once

#include <optional>
#include <string>

#include "server/errors.h"
#include "src/engine/formula.h"
#include "vicinal/v1/expression.pb.h"

namespace vicinal {

// nullopt, and a violation, where it is none or too large.
std::optional<ScoreExpression> ParseScoreExpression(
    const v1::Expression& expression, const std::string& path,
    FieldViolations* violations);

}  // namespace vicinal
