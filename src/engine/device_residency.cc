#include "src/engine/device_residency.h"

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace vicinal {
namespace {

// Between two looks at a StopCondition, and at a copy that is still in use.
constexpr std::chrono::milliseconds kPoll{5};

}  // namespace

DeviceResidency::~DeviceResidency() {
  std::thread thread;
  {
    MutexLock lock(mu_);
    stopping_ = true;
    thread.swap(thread_);
    ordered_.NotifyAll();
    arrived_.NotifyAll();
  }
  if (thread.joinable()) thread.join();
  Clear();
}

std::shared_ptr<const LoadedSegment> DeviceResidency::FindOrOrder(
    const std::shared_ptr<DeviceCopy>& copy) {
  copy->last_use_ = ++num_uses_;
  if (copy->state_ == DeviceCopy::State::kRefused &&
      clock_->Now() >= copy->refused_until_) {
    copy->state_ = DeviceCopy::State::kAway;
  }
  if (copy->state_ == DeviceCopy::State::kAway && !stopping_) {
    copy->state_ = DeviceCopy::State::kComing;
    orders_.push_back(copy);
    if (!thread_.joinable()) thread_ = std::thread([this] { LoadOrdered(); });
    ordered_.NotifyAll();  // EvictOldest waits here, too
  }
  return copy->loaded_;
}

std::shared_ptr<const LoadedSegment> DeviceResidency::Find(
    const std::shared_ptr<DeviceCopy>& copy) {
  MutexLock lock(mu_);
  return FindOrOrder(copy);
}

absl::StatusOr<std::shared_ptr<const LoadedSegment>> DeviceResidency::WaitFor(
    const std::shared_ptr<DeviceCopy>& copy, const StopCondition& stop) {
  MutexLock lock(mu_);
  auto loaded = FindOrOrder(copy);
  absl::Status status;
  ++copy->num_waiting_;
  while (copy->state_ == DeviceCopy::State::kComing && !stopping_ &&
         status.ok()) {
    arrived_.WaitFor(mu_, kPoll);
    status = stop.Check();
    loaded = copy->loaded_;
  }
  --copy->num_waiting_;
  if (!status.ok()) return status;
  return loaded;
}

void DeviceResidency::LoadOrdered() {
  while (true) {
    std::shared_ptr<DeviceCopy> copy;
    {
      MutexLock lock(mu_);
      while (!stopping_ && orders_.empty()) ordered_.Wait(mu_);
      if (stopping_) return;
      copy = orders_.front().lock();
      orders_.pop_front();
    }
    if (copy != nullptr) LoadOne(copy);
  }
}

void DeviceResidency::LoadOne(const std::shared_ptr<DeviceCopy>& copy) {
  // Its rows must not go while they are read.
  const std::shared_ptr<const void> owner = copy->owner_.lock();
  std::shared_ptr<const LoadedSegment> loaded;
  BackendStatus status = BackendStatus::kUnsupported;
  if (owner != nullptr) status = device_->Load(copy->rows_, &loaded);
  MutexLock lock(mu_);
  if (status == BackendStatus::kOk && !stopping_) {
    ++num_loads_;
    copy->state_ = DeviceCopy::State::kThere;
    copy->loaded_ = std::move(loaded);
    std::erase_if(there_, [](const auto& weak) { return weak.expired(); });
    there_.push_back(copy);
  } else {
    using Time = std::chrono::steady_clock::time_point;
    copy->state_ = DeviceCopy::State::kRefused;
    copy->refused_until_ = status == BackendStatus::kNoMemory
                               ? clock_->Now() + kRetryDelay
                               : Time::max();
  }
  arrived_.NotifyAll();
}

std::vector<std::shared_ptr<DeviceCopy>> DeviceResidency::Alive() {
  std::vector<std::shared_ptr<DeviceCopy>> alive;
  std::erase_if(there_, [&](const std::weak_ptr<DeviceCopy>& weak) {
    std::shared_ptr<DeviceCopy> copy = weak.lock();
    if (copy == nullptr) return true;
    alive.push_back(std::move(copy));
    return false;
  });
  return alive;
}

std::shared_ptr<const LoadedSegment> DeviceResidency::Release(
    DeviceCopy& copy) {
  std::erase_if(there_, [&](const std::weak_ptr<DeviceCopy>& weak) {
    return weak.lock().get() == &copy;
  });
  copy.state_ = DeviceCopy::State::kAway;
  return std::move(copy.loaded_);
}

bool DeviceResidency::EvictOldest() {
  std::vector<std::shared_ptr<DeviceCopy>> alive;
  std::shared_ptr<const LoadedSegment> released;
  {
    MutexLock lock(mu_);
    DeviceCopy* oldest = nullptr;
    while (oldest == nullptr) {
      const auto now = Alive();
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
    ++num_evictions_;
  }
  // A search that is under way may still use it, and none begins to.
  const std::weak_ptr<const LoadedSegment> in_use = released;
  released.reset();
  MutexLock lock(mu_);
  while (!in_use.expired() && !stopping_) ordered_.WaitFor(mu_, kPoll);
  return true;
}

void DeviceResidency::Clear() {
  std::vector<std::shared_ptr<DeviceCopy>> alive;
  std::vector<std::shared_ptr<const LoadedSegment>> released;
  MutexLock lock(mu_);
  alive = Alive();
  for (const auto& copy : alive) released.push_back(Release(*copy));
}

ResidencyStats DeviceResidency::stats() const {
  std::vector<std::shared_ptr<DeviceCopy>> alive;
  MutexLock lock(mu_);
  ResidencyStats stats;
  for (const auto& weak : there_) {
    alive.push_back(weak.lock());
    if (alive.back() == nullptr) continue;
    ++stats.num_segments;
    stats.resident_bytes += alive.back()->loaded_->device_bytes();
  }
  stats.num_loads = num_loads_;
  stats.num_evictions = num_evictions_;
  return stats;
}

}  // namespace vicinal
