// Filters from the wire.
#pragma once

#include <memory>
#include <string>

#include "server/errors.h"
#include "src/payload/filter.h"
#include "vicinal/v1/common.pb.h"

namespace vicinal {

// Null, and a violation, where it is none or cannot be asked.
std::shared_ptr<const FilterNode> ParseFilter(const v1::Filter& filter,
                                              const std::string& path,
                                              FieldViolations* violations);

}  // namespace vicinal
