// Filters over payloads: which points a search, a count or a deletion is about.
//
// A payload is a JSON object. A path names values in it: `a.b` is every value
// of b in the object, or in each object of the array, that a is; an array
// stands for its elements. null is no value: missing, null and [] are one and
// the same. A condition holds where some value of its path satisfies it, and
// does not where there is none, so that every filter is true or false (two
// values, unlike SQL) and NOT turns one into the other:
//
//   payload            x = 1   x != 1   NOT x > 1   EXISTS(x)   x IS NULL
//   {"x": 1}           true    false    true        true        false
//   {"x": 2}           false   true     false       true        false
//   {"x": [1, 2]}      true    false    false       true        false
//   {"x": null}, {}    false   true     true        false       true
//   {"x": "1"}         false   true     true        true        false
//
// Values of different types are never equal, but a number is a number: 1 =
// 1.0. A field that the schema declares has values of its type only; others
// are no values.
//
// Life: built by ParseFilter, from the wire or by hand, checked and bound to a
// schema by BindFilter (bound_filter.h), which is what evaluates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "src/base/point_id.h"

namespace vicinal {

// What a literal is; nullptr_t: NULL.
using Literal =
    std::variant<std::nullptr_t, bool, int64_t, double, std::string>;

struct GeoPoint {
  double lat = 0;  // degrees, -90 to 90
  double lon = 0;  // degrees, -180 to 180
};

// One node of a filter; its kind tells which members count.
struct FilterNode {
  enum class Kind : uint8_t {
    kTrue,
    kFalse,
    kAnd,  // of the children, at least one; each of the three
    kOr,
    kNot,          // of the only child
    kCompare,      // path op literals[0]; NULL with kEqual and kNotEqual only
    kIn,           // path is one of the literals; of none: false
    kContainsAll,  // for each literal some value of path equals it
    kBetween,      // literals[0] <= path <= literals[1], the same value
    kExists,       // path has a value
    kPrefix,       // a string of path starts with literals[0]
    kElement,      // some object of path satisfies the only child, whose paths
                   // begin in it
    kGeoRadius,    // within `meters` of points[0], along the great circle
    kGeoBox,       // points[0]: south-west, points[1]: north-east; a western
                   // edge east of the eastern one crosses the antimeridian
    kGeoPolygon,   // points: three or more corners, closed by itself; edges are
                   // straight in degrees
    kId,           // the point's id is one of `ids`
    kMatch,        // the text at path has what literals[0] asks for
  };
  enum class Op : uint8_t {
    kEqual,
    kNotEqual,
    kLess,
    kLessEqual,
    kGreater,
    kGreaterEqual,
  };

  Kind kind = Kind::kTrue;
  Op op = Op::kEqual;
  std::string path;
  std::vector<Literal> literals;
  std::vector<GeoPoint> points;
  double meters = 0;
  std::vector<PointId> ids;
  std::vector<FilterNode> children;
};

// Largest filters that are taken.
struct FilterLimits {
  size_t max_depth = 32;               // nodes above one another
  size_t max_nodes = 1'024;            // in all
  size_t max_literals = 65'536;        // of all nodes together, and their ids
  size_t max_string_bytes = 16 << 20;  // of those that are strings
  size_t max_path_bytes = 512;
  size_t max_literal_bytes = 32'766;  // of one string
  size_t max_corners = 1'024;         // of a polygon
  size_t max_text_bytes = 1 << 20;    // of a filter as text
};

// Areas are on a sphere of the earth's mean radius.
inline constexpr double kEarthMeters = 6'371'008.8;

// Along the great circle.
double MetersBetween(GeoPoint a, GeoPoint b);
// InvalidArgument: it is not on the earth.
absl::Status CheckPlace(GeoPoint place);
// InvalidArgument: the points or the radius of a geo condition are none.
absl::Status CheckGeometry(const FilterNode& node, const FilterLimits& limits);
// Whether the place is in the area of a geo condition that was checked.
bool IsInArea(const FilterNode& node, GeoPoint place);

}  // namespace vicinal
