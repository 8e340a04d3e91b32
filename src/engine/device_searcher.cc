#include "src/engine/device_searcher.h"

#include <algorithm>
#include <utility>

#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal {

// Of an H100 (docs/gpu-notes.md): rows are read as two bytes an element at 3.0
// TB/s, or multiplied at 450 TFLOP/s, whichever takes longer; a call takes 100
// us beside that (60 measured, and the way of a query to it); queries and
// results are copied at 20 GB/s.
double DeviceSearcher::CallNs(const VectorSetView& rows, size_t num_queries,
                              size_t k) {
  constexpr double kCallNs = 100'000;
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

absl::StatusOr<std::shared_ptr<const LoadedSegment>> DeviceSearcher::Find(
    const std::shared_ptr<DeviceCopy>& copy, const DeviceWish& wish,
    const StopCondition& stop) {
  if (device_.is_lost()) {
    residency_.Clear();
    return nullptr;
  }
  if (copy == nullptr || wish.k == 0 || wish.k > kMaxBackendK) return nullptr;
  if (wish.is_required) return residency_.WaitFor(copy, stop);
  if (CallNs(copy->rows().rows, wish.num_queries, wish.k) >= wish.cpu_ns) {
    return nullptr;
  }
  return residency_.Find(copy);
}

absl::StatusOr<std::optional<DeviceAnswer>> DeviceSearcher::Search(
    const DeviceQueries& queries, const StopCondition& stop) {
  DeviceAnswer answer;
  VICINAL_ASSIGN_OR_RETURN(const BackendStatus status,
                           batcher_.Search(queries, stop, &answer));
  if (status != BackendStatus::kOk) return std::nullopt;
  return answer;
}

DeviceStats DeviceSearcher::stats() const {
  return {.name = device_.name(),
          .is_lost = device_.is_lost(),
          .device_bytes = device_.device_bytes(),
          .residency = residency_.stats(),
          .batches = batcher_.stats(),
          .refusals = device_.refusals()};
}

}  // namespace vicinal
