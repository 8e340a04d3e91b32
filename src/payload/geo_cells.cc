#include "src/payload/geo_cells.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

#include "src/payload/payload_key.h"

namespace vicinal {
namespace {

// Fewer places are checked one by one.
constexpr size_t kFewPlaces = 32;
constexpr double kDegrees = 180 / std::numbers::pi;
// Of rounding, in degrees: a tenth of a millimetre.
constexpr double kSlack = 1e-9;

struct Box {
  GeoPoint south_west;
  GeoPoint north_east;
};

// Two where it crosses the antimeridian.
void AddBox(double south, double west, double north, double east,
            std::vector<Box>* boxes) {
  south = std::max(south, -90.0);
  north = std::min(north, 90.0);
  if (west < -180) {
    boxes->push_back({{south, west + 360}, {north, 180}});
    west = -180;
  }
  if (east > 180) {
    boxes->push_back({{south, -180}, {north, east - 360}});
    east = 180;
  }
  boxes->push_back({{south, west}, {north, east}});
}

// Together they hold the area.
std::vector<Box> BoxesAround(const FilterNode& area) {
  std::vector<Box> boxes;
  if (area.kind == FilterNode::Kind::kGeoRadius) {
    const GeoPoint centre = area.points[0];
    const double angle = area.meters / kEarthMeters;
    const double reach = angle * kDegrees + kSlack;
    const double south = centre.lat - reach, north = centre.lat + reach;
    if (south <= -90 || north >= 90) {  // a pole is inside
      AddBox(south, -180, north, 180, &boxes);
    } else {
      const double sine = std::sin(angle) / std::cos(centre.lat / kDegrees);
      const double wide = std::asin(std::min(1.0, sine)) * kDegrees + kSlack;
      AddBox(south, centre.lon - wide, north, centre.lon + wide, &boxes);
    }
  } else if (area.kind == FilterNode::Kind::kGeoBox) {
    const GeoPoint a = area.points[0], b = area.points[1];
    AddBox(a.lat, a.lon, b.lat, a.lon <= b.lon ? b.lon : b.lon + 360, &boxes);
  } else {
    Box box{area.points[0], area.points[0]};
    for (const GeoPoint point : area.points) {
      box.south_west.lat = std::min(box.south_west.lat, point.lat);
      box.south_west.lon = std::min(box.south_west.lon, point.lon);
      box.north_east.lat = std::max(box.north_east.lat, point.lat);
      box.north_east.lon = std::max(box.north_east.lon, point.lon);
    }
    box.south_west.lon -= kSlack;  // an edge's longitude is rounded
    box.north_east.lon += kSlack;
    AddBox(box.south_west.lat, box.south_west.lon, box.north_east.lat,
           box.north_east.lon, &boxes);
  }
  return boxes;
}

// Every second bit, from the lowest on.
uint32_t Gather(uint64_t x) {
  x &= 0x5555555555555555;
  x = (x | x >> 1) & 0x3333333333333333;
  x = (x | x >> 2) & 0x0F0F0F0F0F0F0F0F;
  x = (x | x >> 4) & 0x00FF00FF00FF00FF;
  x = (x | x >> 8) & 0x0000FFFF0000FFFF;
  return static_cast<uint32_t>(x | x >> 16);
}

// Fractions of 2^32, first and last.
struct GridBox {
  uint32_t lat[2];
  uint32_t lon[2];
};

class CellWalk {
 public:
  CellWalk(const FilterNode& area,
           absl::FunctionRef<size_t(uint64_t, size_t, size_t)> lower_bound,
           absl::FunctionRef<void(size_t, size_t, bool)> visit)
      : is_box_(area.kind == FilterNode::Kind::kGeoBox),
        lower_bound_(lower_bound),
        visit_(visit) {
    for (const Box& box : BoxesAround(area)) {
      const uint64_t first = MortonOf(box.south_west);
      const uint64_t last = MortonOf(box.north_east);
      boxes_.push_back({{Gather(first >> 1), Gather(last >> 1)},
                        {Gather(first), Gather(last)}});
    }
  }

  // The cell of 2^bits x 2^bits fractions from code `first` on has the places
  // begin .. end.
  void Walk(uint64_t first, int bits, size_t begin, size_t end) const {
    if (begin == end) return;
    const uint32_t side = bits == 32 ? UINT32_MAX : (uint32_t{1} << bits) - 1;
    const uint32_t lat = Gather(first >> 1), lon = Gather(first);
    bool meets = false;
    bool inside = false;
    for (const GridBox& box : boxes_) {
      meets |= lat <= box.lat[1] && lat + side >= box.lat[0] &&
               lon <= box.lon[1] && lon + side >= box.lon[0];
      inside |= lat > box.lat[0] && lat + side < box.lat[1] &&
                lon > box.lon[0] && lon + side < box.lon[1];
    }
    if (!meets) return;
    if ((is_box_ && inside) || end - begin <= kFewPlaces || bits == 0) {
      visit_(begin, end, is_box_ && inside);
      return;
    }
    const uint64_t quarter = uint64_t{1} << (2 * (bits - 1));
    for (uint64_t child = 0; child < 4; ++child) {
      const size_t next =
          child == 3 ? end
                     : lower_bound_(first + (child + 1) * quarter, begin, end);
      Walk(first + child * quarter, bits - 1, begin, next);
      begin = next;
    }
  }

 private:
  const bool is_box_;
  std::vector<GridBox> boxes_;
  const absl::FunctionRef<size_t(uint64_t, size_t, size_t)> lower_bound_;
  const absl::FunctionRef<void(size_t, size_t, bool)> visit_;
};

}  // namespace

void ForEachCellIn(
    const FilterNode& area, size_t size,
    absl::FunctionRef<size_t(uint64_t, size_t, size_t)> lower_bound,
    absl::FunctionRef<void(size_t, size_t, bool)> visit) {
  CellWalk(area, lower_bound, visit).Walk(0, 32, 0, size);
}

}  // namespace vicinal
