// Query vectors from the wire.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/errors.h"
#include "src/base/types.h"
#include "src/engine/schema.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal {

// One query of `dim` elements brought to the field's type, checked.
std::optional<std::string> ConvertQuery(absl::string_view bytes,
                                        ElementType type,
                                        const VectorField& field,
                                        const std::string& path,
                                        FieldViolations* violations);
std::optional<std::string> ParseQueryVector(const v1::QueryVector& query,
                                            const VectorField& field,
                                            const std::string& path,
                                            FieldViolations* violations);

}  // namespace vicinal
