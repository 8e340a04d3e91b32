// Areas on the earth.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/payload/filter.h"

namespace vicinal {
namespace {

constexpr double kRadians = std::numbers::pi / 180;

bool IsInBox(GeoPoint south_west, GeoPoint north_east, GeoPoint place) {
  if (place.lat < south_west.lat || place.lat > north_east.lat) return false;
  if (south_west.lon <= north_east.lon) {
    return place.lon >= south_west.lon && place.lon <= north_east.lon;
  }
  return place.lon >= south_west.lon || place.lon <= north_east.lon;
}

// The even-odd rule; an edge takes its southern end and not its northern one.
bool IsInPolygon(const std::vector<GeoPoint>& corners, GeoPoint place) {
  bool inside = false;
  for (size_t i = 0, j = corners.size() - 1; i < corners.size(); j = i++) {
    const GeoPoint a = corners[i], b = corners[j];
    if ((a.lat > place.lat) == (b.lat > place.lat)) continue;
    const double lon =
        a.lon + (place.lat - a.lat) / (b.lat - a.lat) * (b.lon - a.lon);
    if (place.lon < lon) inside = !inside;
  }
  return inside;
}

}  // namespace

// The haversine formula.
double MetersBetween(GeoPoint a, GeoPoint b) {
  const double lat = std::sin((b.lat - a.lat) * kRadians / 2);
  const double lon = std::sin((b.lon - a.lon) * kRadians / 2);
  const double h = lat * lat + std::cos(a.lat * kRadians) *
                                   std::cos(b.lat * kRadians) * lon * lon;
  return 2 * kEarthMeters * std::asin(std::sqrt(std::min(1.0, h)));
}

absl::Status CheckPlace(GeoPoint place) {
  if (!(place.lat >= -90 && place.lat <= 90)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a latitude is ", place.lat, "; it must be -90 to 90 degrees"));
  }
  if (!(place.lon >= -180 && place.lon <= 180)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a longitude is ", place.lon, "; it must be -180 to 180 degrees"));
  }
  return absl::OkStatus();
}

absl::Status CheckGeometry(const FilterNode& node, const FilterLimits& limits) {
  using Kind = FilterNode::Kind;
  for (const GeoPoint point : node.points) {
    VICINAL_RETURN_IF_ERROR(CheckPlace(point));
  }
  if (node.kind == Kind::kGeoRadius) {
    if (node.points.size() != 1) {
      return absl::InvalidArgumentError("a radius needs one centre");
    }
    if (!(node.meters > 0 && std::isfinite(node.meters))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a radius is ", node.meters, " meters; it must be more than 0"));
    }
  } else if (node.kind == Kind::kGeoBox) {
    if (node.points.size() != 2) {
      return absl::InvalidArgumentError("a box needs two corners");
    }
    if (node.points[0].lat > node.points[1].lat) {
      return absl::InvalidArgumentError(
          absl::StrCat("a box has its southern edge at ", node.points[0].lat,
                       ", north of its northern one at ", node.points[1].lat));
    }
  } else if (node.points.size() < 3 ||
             node.points.size() > limits.max_corners) {
    return absl::InvalidArgumentError(
        absl::StrCat("a polygon has ", node.points.size(),
                     " corners; it must be 3 to ", limits.max_corners));
  }
  return absl::OkStatus();
}

bool IsInArea(const FilterNode& node, GeoPoint place) {
  switch (node.kind) {
    case FilterNode::Kind::kGeoRadius:
      return MetersBetween(node.points[0], place) <= node.meters;
    case FilterNode::Kind::kGeoBox:
      return IsInBox(node.points[0], node.points[1], place);
    default:
      return IsInPolygon(node.points, place);
  }
}

}  // namespace vicinal
