// The words of the filter language.
#pragma once

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace vicinal::filter_words {

inline constexpr absl::string_view kReserved[] = {
    "and",     "or", "not",    "true",       "false",    "null",       "in",
    "between", "is", "starts", "with",       "contains", "any",        "all",
    "exists",  "id", "match",  "geo_radius", "geo_box",  "geo_polygon"};

inline bool IsReserved(absl::string_view name) {
  for (const absl::string_view word : kReserved) {
    if (absl::EqualsIgnoreCase(name, word)) return true;
  }
  return false;
}

inline bool IsNameStart(char c) { return absl::ascii_isalpha(c) || c == '_'; }
inline bool IsNamePart(char c) {
  return IsNameStart(c) || absl::ascii_isdigit(c) || c == '-';
}

}  // namespace vicinal::filter_words
