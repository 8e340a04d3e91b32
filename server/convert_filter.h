// Filters from the wire, in either form.
#pragma once

#include <memory>
#include <string>

#include "server/errors.h"
#include "src/payload/filter.h"
#include "vicinal/v1/filter.pb.h"

namespace vicinal {

// Null, and a violation, where it is none or cannot be asked.
std::shared_ptr<const FilterNode> ParseFilter(const v1::Filter& filter,
                                              const std::string& path,
                                              FieldViolations* violations);
// Whether it says nothing, and so accepts every point.
bool IsBlank(const v1::Filter& filter);

}  // namespace vicinal
