#include "src/engine/first_places.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vicinal {

FirstPlaces::FirstPlaces(PlaceOrder order, std::optional<Place> after,
                         size_t max_places)
    : order_(order), after_(std::move(after)), max_places_(max_places) {}

size_t FirstPlaces::BytesOf(const Place& place) {
  return sizeof(Place) + place.key.size() +
         (place.id.is_string() ? place.id.string().size() : 0);
}

bool FirstPlaces::MayTake(absl::string_view key) const {
  if (after_.has_value() && order_.CompareKeys(key, after_->key) < 0) {
    return false;
  }
  if (ceiling_.has_value() && order_.CompareKeys(ceiling_->key, key) < 0) {
    return false;
  }
  return places_.size() < max_places_ ||
         order_.CompareKeys(places_.front().key, key) >= 0;
}

void FirstPlaces::Offer(absl::string_view key, const PointId& id,
                        Ordinal ordinal) {
  if (!MayTake(key)) return;
  if (after_.has_value() && order_.Compare(key, id, *after_) <= 0) return;
  if (ceiling_.has_value() && order_.Compare(key, id, *ceiling_) >= 0) return;
  if (places_.size() == max_places_ &&
      order_.Compare(key, id, places_.front()) >= 0) {
    return;
  }
  const auto is_before = [this](const Place& a, const Place& b) {
    return order_.IsBefore(a, b);
  };
  places_.push_back({std::string(key), id, ordinal});
  bytes_ += BytesOf(places_.back());
  std::push_heap(places_.begin(), places_.end(), is_before);
  while (places_.size() > max_places_ ||
         (bytes_ > kMaxBytes && places_.size() > 1)) {
    std::pop_heap(places_.begin(), places_.end(), is_before);
    bytes_ -= BytesOf(places_.back());
    ceiling_ = std::move(places_.back());
    places_.pop_back();
  }
}

void FirstPlaces::Offer(absl::string_view key, const Segment& segment,
                        RowId row) {
  if (MayTake(key)) Offer(key, segment.IdOf(row), segment.OrdinalOf(row));
}

std::vector<Place> FirstPlaces::Take() {
  std::sort(
      places_.begin(), places_.end(),
      [this](const Place& a, const Place& b) { return order_.IsBefore(a, b); });
  return std::move(places_);
}

}  // namespace vicinal
