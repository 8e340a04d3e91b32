// The typed form of a filter. It says what text can say but MATCH, within the
// same limits (src/payload/filter.h).
#pragma once

#include <optional>
#include <string>

#include "server/errors.h"
#include "src/payload/filter.h"
#include "vicinal/v1/filter.pb.h"

namespace vicinal {

// A node that BoundFilter takes; nullopt, and one violation of the first field
// that is wrong, below `path`. It stops there: a hostile tree costs what the
// limits allow, whatever its size.
std::optional<FilterNode> ParseExpression(
    const v1::FilterExpression& expression, const std::string& path,
    FieldViolations* violations, const FilterLimits& limits = {});

// nullopt: a list, or nothing.
std::optional<Literal> ScalarOf(const v1::FilterValue& value);

}  // namespace vicinal
