// Filters as text:
//
//   brand = "x" AND price < $limit AND tag IN ("a", "b") AND NOT EXISTS(eol)
//
//   filter    = or
//   or        = and { OR and }
//   and       = not { AND not }
//   not       = NOT not | "(" or ")" | condition
//   condition = TRUE | FALSE
//             | path op value
//             | path [ NOT ] IN list
//             | path [ NOT ] BETWEEN value AND value
//             | path IS [ NOT ] NULL
//             | path [ NOT ] STARTS WITH value
//             | path CONTAINS ( ANY | ALL ) list
//             | path "[" or "]"
//             | EXISTS "(" path ")"
//             | ID ( "=" | "!=" ) id
//             | ID [ NOT ] IN "(" id { "," id } ")"
//             | GEO_RADIUS "(" path "," lat "," lon "," meters ")"
//             | GEO_BOX "(" path "," south "," west "," north "," east ")"
//             | GEO_POLYGON "(" path { "," lat "," lon } ")"
//             | MATCH "(" path "," value ")"
//   op        = "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">="
//   list      = "(" [ value { "," value } ] ")" | parameter
//   value     = string | number | TRUE | FALSE | NULL | parameter
//   id        = integer | string (a UUID where it looks like one) | parameter
//             | STRING "(" value ")" (a string, whatever it looks like)
//   parameter = "$" name
//   path      = name { "." name }
//   name      = letter or "_", then letters, digits, "_", "-"; or anything in
//               backquotes, in which a backquote is doubled
//   string    = in double or single quotes, which are doubled inside, with the
//               escapes of JSON
//
// Words are the same in capitals and small letters; a field of such a name is
// written in backquotes. A number with a "." or an exponent is a double.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/payload/filter.h"

namespace vicinal {

// What $name stands for: one literal, or several where a list is wanted.
struct FilterParameter {
  std::vector<Literal> values;
  bool is_list = false;
};
using FilterParameters = std::map<std::string, FilterParameter, std::less<>>;

// InvalidArgument: not in the grammar, a parameter that is not given, or one
// that is given and not used, or over a limit; the message names the position
// (from 1, in bytes), what was expected and what was found. Blank text is
// kTrue. Not recursive beyond limits.max_depth.
absl::StatusOr<FilterNode> ParseFilter(absl::string_view text,
                                       const FilterParameters& parameters = {},
                                       const FilterLimits& limits = {});

// The filter as text that parses to the same node.
std::string FilterToText(const FilterNode& node);

}  // namespace vicinal
