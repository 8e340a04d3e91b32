#include "src/engine/device_searcher.h"

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <utility>

#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal {
namespace {

constexpr double kCallNs = 100'000;

}  // namespace

DeviceSearcher::DeviceSearcher(
    const std::vector<DistanceBackend*>& backends, const Clock* clock,
    const std::function<void(absl::string_view message)>& warn) {
  std::vector<SharedDevice*> shared;
  for (DistanceBackend* backend : backends) {
    devices_.push_back(std::make_unique<Device>(backend, warn));
    shared.push_back(&devices_.back()->shared);
  }
  residency_ = std::make_unique<DeviceResidency>(std::move(shared), clock);
  for (size_t d = 0; d < devices_.size(); ++d) {
    devices_[d]->shared.WhenFull(
        [this, d] { return residency_->EvictOldest(d); });
  }
}

bool DeviceSearcher::is_lost() const {
  return std::all_of(devices_.begin(), devices_.end(), [](const auto& device) {
    return device->shared.is_lost();
  });
}

SharedDevice* DeviceSearcher::LeastBusy() const {
  SharedDevice* best = nullptr;
  std::tuple<size_t, size_t> least;  // calls and those who wait; bytes
  for (const auto& device : devices_) {
    if (device->shared.is_lost()) continue;
    const std::tuple<size_t, size_t> taken = {
        device->shared.num_calls() + device->batcher.stats().num_waiting,
        device->shared.device_bytes()};
    if (best != nullptr && taken >= least) continue;
    best = &device->shared;
    least = taken;
  }
  return best;
}

// Of an H100 (docs/gpu-notes.md): rows are read as two bytes an element at 3.0
// TB/s, or multiplied at 450 TFLOP/s, whichever takes longer; a call takes 100
// us beside that (60 measured, and the way of a query to it); queries and
// results are copied at 20 GB/s.
double DeviceSearcher::CallNs(const VectorSetView& rows, size_t num_queries,
                              size_t k) {
  constexpr double kBytesPerNs = 3'000;
  constexpr double kFlopPerNs = 450'000;
  constexpr double kCopiedPerNs = 20;
  const auto elements =
      static_cast<double>(rows.num_rows) * static_cast<double>(rows.dim);
  const auto n = static_cast<double>(num_queries);
  const double copied = n * (static_cast<double>(rows.dim * 4) +
                             static_cast<double>(k * sizeof(Neighbor)));
  return kCallNs +
         std::max(2 * elements / kBytesPerNs, 2 * n * elements / kFlopPerNs) +
         copied / kCopiedPerNs;
}

// Of an H200: tokens are read as two bytes an element at 2.3 TB/s, once for 64
// tokens of the query; the products hide behind that. A list of documents is
// made into work for the device by one core and sent to it, 50 ns each; the k
// best are compared exactly, 100 ns each.
double DeviceSearcher::TokenCallNs(size_t dim, size_t num_query_tokens,
                                   size_t num_tokens, size_t num_listed,
                                   size_t k) {
  constexpr double kBytesPerNs = 2'300;
  constexpr size_t kTokensPerPass = 64;
  constexpr double kPerListed = 50, kPerExact = 100;
  const size_t passes =
      (num_query_tokens + kTokensPerPass - 1) / kTokensPerPass;
  return kCallNs +
         static_cast<double>(2 * passes * num_tokens * dim) / kBytesPerNs +
         kPerListed * static_cast<double>(num_listed) +
         kPerExact * static_cast<double>(k);
}

absl::StatusOr<PlacedSegment> DeviceSearcher::Find(
    const std::shared_ptr<DeviceCopy>& copy, const DeviceWish& wish,
    const StopCondition& stop) {
  // Copies of a lost device go to another when they are next wanted.
  for (size_t d = 0; d < devices_.size(); ++d) {
    if (devices_[d]->shared.is_lost()) residency_->Clear(d);
  }
  if (copy == nullptr || wish.k == 0 || wish.k > kMaxBackendK) {
    return PlacedSegment();
  }
  if (wish.is_required) return residency_->WaitFor(copy, stop);
  if (wish.device_ns >= wish.cpu_ns) return PlacedSegment();
  return wish.may_load ? residency_->Find(copy) : residency_->FindLoaded(copy);
}

absl::StatusOr<std::optional<DeviceAnswer>> DeviceSearcher::Search(
    size_t device, const DeviceQueries& queries, const StopCondition& stop) {
  DeviceAnswer answer;
  VICINAL_ASSIGN_OR_RETURN(
      const BackendStatus status,
      devices_[device]->batcher.Search(queries, stop, &answer));
  if (status != BackendStatus::kOk) return std::nullopt;
  return answer;
}

std::vector<DeviceStats> DeviceSearcher::stats() const {
  std::vector<DeviceStats> stats;
  for (size_t d = 0; d < devices_.size(); ++d) {
    const auto& [shared, batcher] = *devices_[d];
    stats.push_back({.name = shared.name(),
                     .is_lost = shared.is_lost(),
                     .device_bytes = shared.device_bytes(),
                     .residency = residency_->stats(d),
                     .batches = batcher.stats(),
                     .refusals = shared.refusals()});
  }
  return stats;
}

}  // namespace vicinal
