// The order in which points are read: by a key of their payload and by id, and
// the first of many in it.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "src/base/point_id.h"
#include "src/base/types.h"
#include "src/engine/segment.h"

namespace vicinal {

// Where a point stands: by its key, ties by its id, which ascends in any case.
struct Place {
  std::string key = {};  // payload_key.h; empty: the order is by id alone
  PointId id = {};
  Ordinal ordinal = 0;  // of its version; no part of the order
};

struct PlaceOrder {
  bool descending = false;  // of keys

  bool IsBefore(const Place& a, const Place& b) const {
    return Compare(a.key, a.id, b) < 0;
  }
  // < 0: the place comes first.
  int Compare(absl::string_view key, const PointId& id, const Place& b) const {
    const int order = CompareKeys(key, b.key);
    return order != 0 ? order : id < b.id ? -1 : id == b.id ? 0 : 1;
  }
  int CompareKeys(absl::string_view a, absl::string_view b) const {
    return descending ? b.compare(a) : a.compare(b);
  }
};

// Of places that are offered in any order, the first behind another one: a
// heap. Not thread-safe.
class FirstPlaces {
 public:
  // after: nullopt: from the start. max_places: 1 or more. Of keys and ids it
  // holds about kMaxBytes, or a single larger place.
  static constexpr size_t kMaxBytes = size_t{16} << 20;
  FirstPlaces(PlaceOrder order, std::optional<Place> after, size_t max_places);

  const std::optional<Place>& after() const { return after_; }
  // Whether it may have left out a place, so that what comes behind the others
  // need not be offered.
  bool full() const {
    return places_.size() >= max_places_ || ceiling_.has_value();
  }
  void Offer(absl::string_view key, const PointId& id, Ordinal ordinal);
  // The same of a row, whose id is looked at only if it matters.
  void Offer(absl::string_view key, const Segment& segment, RowId row);
  // In order; it is then used up.
  std::vector<Place> Take();

 private:
  bool MayTake(absl::string_view key) const;
  static size_t BytesOf(const Place& place);

  const PlaceOrder order_;
  const std::optional<Place> after_;
  const size_t max_places_;
  std::vector<Place> places_;  // a heap, the last one first
  size_t bytes_ = 0;
  // The first of those that had to go: what is not before it is not taken, as
  // there would be a gap.
  std::optional<Place> ceiling_;
};

}  // namespace vicinal
