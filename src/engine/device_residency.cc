#include "src/engine/device_residency.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal {
namespace {

// Between two looks at a StopCondition, and at a copy that is still in use.
constexpr std::chrono::milliseconds kPoll{5};

// That a copy takes on a GPU: the rows, and their elements as bf16, three more
// under L2, in multiples of 32; or tokens, in f16 beside what they are, and
// some words of each token and document.
size_t BytesOf(const DeviceContent& content) {
  if (const auto* segment = std::get_if<SegmentRows>(&content)) {
    const VectorSetView& rows = segment->rows;
    const size_t more = segment->metric == Metric::kL2 ? 3 : 0;
    const size_t padded_dim = (rows.dim + more + 31) / 32 * 32;
    return rows.num_rows * (rows.dim * ElementSize(rows.type) + 2 * padded_dim);
  }
  constexpr size_t kPerToken = 8, kPerDocument = 28;
  const auto& documents = std::get<TokenDocuments>(content);
  const size_t element = documents.type == ElementType::kFloat16
                             ? 2
                             : ElementSize(documents.type) + 2;
  return documents.offsets[documents.num_docs] *
             (documents.dim * element + kPerToken) +
         documents.num_docs * kPerDocument;
}

BackendStatus Load(SharedDevice& device, const DeviceContent& content,
                   std::shared_ptr<const LoadedSegment>* out) {
  if (const auto* segment = std::get_if<SegmentRows>(&content)) {
    return device.Load(*segment, out);
  }
  return device.LoadTokens(std::get<TokenDocuments>(content), out);
}

}  // namespace

DeviceResidency::DeviceResidency(std::vector<SharedDevice*> devices,
                                 const Clock* clock)
    : devices_(std::move(devices)), clock_(clock), places_(devices_.size()) {
  for (size_t d = 0; d < devices_.size(); ++d) {
    places_[d].idle_bytes = devices_[d]->device_bytes();
  }
}

DeviceResidency::~DeviceResidency() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(mu_);
    stopping_ = true;
    for (Place& place : places_) threads.push_back(std::move(place.thread));
    ordered_.NotifyAll();
    arrived_.NotifyAll();
  }
  for (std::thread& thread : threads) {
    if (thread.joinable()) thread.join();
  }
  for (size_t d = 0; d < devices_.size(); ++d) Clear(d);
}

bool DeviceResidency::IsTooMuch(const Place& place, size_t size_bytes) const {
  return size_bytes >= place.too_many_bytes &&
         clock_->Now() < place.too_many_until;
}

std::optional<size_t> DeviceResidency::DeviceWithMostRoom(
    size_t size_bytes) const {
  std::optional<size_t> best;
  std::tuple<size_t, uint64_t> least;  // bytes, and then loads
  for (size_t d = 0; d < devices_.size(); ++d) {
    if (devices_[d]->is_lost() || IsTooMuch(places_[d], size_bytes)) continue;
    const std::tuple<size_t, uint64_t> taken = {
        devices_[d]->device_bytes() + places_[d].coming_bytes,
        places_[d].num_loads};
    if (best.has_value() && taken >= least) continue;
    best = d;
    least = taken;
  }
  return best;
}

PlacedSegment DeviceResidency::FindOrOrder(
    const std::shared_ptr<DeviceCopy>& copy) {
  copy->last_use_ = ++num_uses_;
  if (copy->state_ == DeviceCopy::State::kRefused &&
      clock_->Now() >= copy->refused_until_) {
    copy->state_ = DeviceCopy::State::kAway;
  }
  if (copy->state_ == DeviceCopy::State::kAway && !stopping_) {
    const size_t size_bytes = BytesOf(copy->content_);
    const std::optional<size_t> device = DeviceWithMostRoom(size_bytes);
    if (!device.has_value()) return {};
    Place& place = places_[*device];
    copy->state_ = DeviceCopy::State::kComing;
    copy->device_ = *device;
    place.orders.push_back({copy, size_bytes});
    place.coming_bytes += place.orders.back().size_bytes;
    if (!place.thread.joinable()) {
      place.thread = std::thread([this, d = *device] { LoadOrdered(d); });
    }
    ordered_.NotifyAll();  // EvictOldest waits here, too
  }
  return {copy->loaded_, copy->device_};
}

PlacedSegment DeviceResidency::Find(const std::shared_ptr<DeviceCopy>& copy) {
  MutexLock lock(mu_);
  return FindOrOrder(copy);
}

PlacedSegment DeviceResidency::FindLoaded(
    const std::shared_ptr<DeviceCopy>& copy) {
  MutexLock lock(mu_);
  if (copy->loaded_ == nullptr) return {};
  copy->last_use_ = ++num_uses_;
  return {copy->loaded_, copy->device_};
}

absl::StatusOr<PlacedSegment> DeviceResidency::WaitFor(
    const std::shared_ptr<DeviceCopy>& copy, const StopCondition& stop) {
  MutexLock lock(mu_);
  PlacedSegment placed = FindOrOrder(copy);
  absl::Status status;
  ++copy->num_waiting_;
  while (copy->state_ == DeviceCopy::State::kComing && !stopping_ &&
         status.ok()) {
    arrived_.WaitFor(mu_, kPoll);
    status = stop.Check();
    placed = {copy->loaded_, copy->device_};
  }
  --copy->num_waiting_;
  if (!status.ok()) return status;
  return placed;
}

void DeviceResidency::LoadOrdered(size_t device) {
  while (true) {
    Order order;
    {
      MutexLock lock(mu_);
      std::deque<Order>& orders = places_[device].orders;
      while (!stopping_ && orders.empty()) ordered_.Wait(mu_);
      if (stopping_) return;
      order = std::move(orders.front());
      orders.pop_front();
    }
    LoadOne(order, device);
  }
}

void DeviceResidency::LoadOne(const Order& order, size_t device) {
  const std::shared_ptr<DeviceCopy> copy = order.copy.lock();
  // Its rows must not go while they are read.
  std::shared_ptr<const void> owner;
  if (copy != nullptr) owner = copy->owner_.lock();
  std::shared_ptr<const LoadedSegment> loaded;
  // Others may have been found too large since it was ordered.
  bool is_too_much = false;
  {
    MutexLock lock(mu_);
    is_too_much = IsTooMuch(places_[device], order.size_bytes);
  }
  BackendStatus status = BackendStatus::kUnsupported;
  if (owner != nullptr && !is_too_much) {
    status = Load(*devices_[device], copy->content_, &loaded);
  }
  MutexLock lock(mu_);
  Place& place = places_[device];
  place.coming_bytes -= order.size_bytes;
  if (copy == nullptr) return;
  if (status == BackendStatus::kOk && !stopping_) {
    // What is larger than this still is.
    if (order.size_bytes >= place.too_many_bytes) {
      place.too_many_bytes = order.size_bytes + 1;
    }
    ++place.num_loads;
    copy->state_ = DeviceCopy::State::kThere;
    copy->loaded_ = std::move(loaded);
    copy->next_delay_ = kRetryDelay;
    std::erase_if(place.there, [](const auto& weak) { return weak.expired(); });
    place.there.push_back(copy);
  } else if (is_too_much || status == BackendStatus::kDeviceLost) {
    copy->state_ = DeviceCopy::State::kAway;  // another may take it
  } else if (status == BackendStatus::kNoMemory) {
    Refuse(device, order.size_bytes, copy.get());
  } else {
    copy->state_ = DeviceCopy::State::kRefused;
    copy->refused_until_ = std::chrono::steady_clock::time_point::max();
  }
  arrived_.NotifyAll();
}

void DeviceResidency::Refuse(size_t device, size_t size_bytes,
                             DeviceCopy* copy) {
  Place& place = places_[device];
  // Otherwise a build is there, or copies that searches wait for.
  if (devices_[device]->device_bytes() > place.idle_bytes) {
    copy->state_ = DeviceCopy::State::kRefused;
    copy->refused_until_ = clock_->Now() + kRetryDelay;
    return;
  }
  const std::chrono::seconds delay = std::max(copy->next_delay_, kRetryDelay);
  copy->next_delay_ = std::min(2 * delay, kLongestRetryDelay);
  place.too_many_bytes = size_bytes;
  place.too_many_until = clock_->Now() + delay;
  // Another device may take it.
  copy->state_ = DeviceCopy::State::kAway;
}

std::vector<std::shared_ptr<DeviceCopy>> DeviceResidency::Alive(size_t device) {
  std::vector<std::shared_ptr<DeviceCopy>> alive;
  std::erase_if(places_[device].there,
                [&](const std::weak_ptr<DeviceCopy>& weak) {
                  std::shared_ptr<DeviceCopy> copy = weak.lock();
                  if (copy == nullptr) return true;
                  alive.push_back(std::move(copy));
                  return false;
                });
  return alive;
}

std::shared_ptr<const LoadedSegment> DeviceResidency::Release(
    DeviceCopy& copy) {
  std::erase_if(places_[copy.device_].there,
                [&](const std::weak_ptr<DeviceCopy>& weak) {
                  return weak.lock().get() == &copy;
                });
  copy.state_ = DeviceCopy::State::kAway;
  return std::move(copy.loaded_);
}

bool DeviceResidency::EvictOldest(size_t device) {
  std::vector<std::shared_ptr<DeviceCopy>> alive;
  std::shared_ptr<const LoadedSegment> released;
  {
    MutexLock lock(mu_);
    DeviceCopy* oldest = nullptr;
    while (oldest == nullptr) {
      const auto now = Alive(device);
      if (now.empty() || stopping_) return false;
      alive.insert(alive.end(), now.begin(), now.end());
      for (const auto& copy : now) {
        if (copy->num_waiting_ == 0 &&
            (oldest == nullptr || copy->last_use_ < oldest->last_use_)) {
          oldest = copy.get();
        }
      }
      // What has just come is taken at once by who waits for it.
      if (oldest == nullptr) ordered_.WaitFor(mu_, kPoll);
    }
    released = Release(*oldest);
    ++places_[device].num_evictions;
  }
  // A search that is under way may still use it, and none begins to.
  const std::weak_ptr<const LoadedSegment> in_use = released;
  released.reset();
  MutexLock lock(mu_);
  while (!in_use.expired() && !stopping_) ordered_.WaitFor(mu_, kPoll);
  return true;
}

void DeviceResidency::Clear(size_t device) {
  std::vector<std::shared_ptr<DeviceCopy>> alive;
  std::vector<std::shared_ptr<const LoadedSegment>> released;
  MutexLock lock(mu_);
  alive = Alive(device);
  for (const auto& copy : alive) released.push_back(Release(*copy));
}

ResidencyStats DeviceResidency::stats(size_t device) const {
  std::vector<std::shared_ptr<DeviceCopy>> alive;
  MutexLock lock(mu_);
  const Place& place = places_[device];
  ResidencyStats stats;
  for (const auto& weak : place.there) {
    alive.push_back(weak.lock());
    if (alive.back() == nullptr) continue;
    ++stats.num_segments;
    stats.resident_bytes += alive.back()->loaded_->device_bytes();
  }
  stats.num_loads = place.num_loads;
  stats.num_evictions = place.num_evictions;
  return stats;
}

}  // namespace vicinal
