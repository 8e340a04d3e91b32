// Helpers of the tests of filters.
#pragma once

#include <cstddef>

#include "src/payload/filter.h"

namespace vicinal {

// Whether they are the same member by member, and so are their children.
inline bool IsSame(const FilterNode& a, const FilterNode& b) {
  bool same = a.kind == b.kind && a.op == b.op && a.path == b.path &&
              a.literals == b.literals && a.meters == b.meters &&
              a.ids == b.ids && a.points.size() == b.points.size() &&
              a.children.size() == b.children.size();
  for (size_t i = 0; same && i < a.points.size(); ++i) {
    same = a.points[i].lat == b.points[i].lat &&
           a.points[i].lon == b.points[i].lon;
  }
  for (size_t i = 0; same && i < a.children.size(); ++i) {
    same = IsSame(a.children[i], b.children[i]);
  }
  return same;
}

}  // namespace vicinal
