// One payload, of which several values are asked.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "src/payload/filter.h"

namespace vicinal {

// Parses the payload once, when it is first asked. Belongs to one thread;
// borrows the payload.
class PayloadValues {
 public:
  // JSON text of an object, or empty.
  explicit PayloadValues(absl::string_view payload);
  ~PayloadValues();

  // Of the path's values (as in filters) the first that is a number, true or
  // false (1 or 0), or a string of RFC 3339 (seconds since 1970).
  std::optional<double> NumberAt(absl::string_view path);
  // Along the great circle to the nearest of the path's places.
  std::optional<double> MetersTo(GeoPoint target, absl::string_view path);

  struct Parsed;  // for the .cc files of this folder (payload_json.h)
  const Parsed& parsed();

 private:
  const absl::string_view payload_;
  std::unique_ptr<const Parsed> parsed_;
};

}  // namespace vicinal
