#include "src/engine/operations.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"

namespace vicinal {
namespace {

constexpr size_t kMaxFinished = 1'000;

}  // namespace

Operation::Operation(std::string name, std::string kind, std::string collection,
                     const Clock& clock)
    : clock_(clock) {
  info_.name = std::move(name);
  info_.kind = std::move(kind);
  info_.collection = std::move(collection);
  info_.phase = "waiting";
  info_.started_unix_micros = clock.UnixMicros();
}

void Operation::SetPhase(absl::string_view phase) {
  MutexLock lock(mu_);
  info_.phase = std::string(phase);
}

void Operation::Finish(absl::Status status) {
  MutexLock lock(mu_);
  if (info_.finished) return;
  info_.finished = true;
  info_.phase = status.ok() ? "done" : "failed";
  info_.status = std::move(status);
  info_.finished_unix_micros = clock_.UnixMicros();
  finished_cv_.NotifyAll();
}

OperationInfo Operation::info() const {
  MutexLock lock(mu_);
  OperationInfo info = info_;
  info.done = progress_.done.load(std::memory_order_relaxed);
  info.total = progress_.total.load(std::memory_order_relaxed);
  return info;
}

bool Operation::Wait(std::chrono::steady_clock::time_point deadline) const {
  MutexLock lock(mu_);
  while (!info_.finished) {
    if (deadline == std::chrono::steady_clock::time_point::max()) {
      finished_cv_.Wait(mu_);
      continue;
    }
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero()) return false;
    // Capped: adding a far deadline to the clock could overflow in wait_for.
    finished_cv_.WaitFor(
        mu_, std::min<std::chrono::nanoseconds>(left, std::chrono::hours(1)));
  }
  return true;
}

std::shared_ptr<Operation> OperationRegistry::Start(
    absl::string_view kind, absl::string_view collection) {
  MutexLock lock(mu_);
  auto operation = std::make_shared<Operation>(
      absl::StrCat("operations/", next_number_++), std::string(kind),
      std::string(collection), clock_);
  operations_.push_back(operation);
  // Running operations are few; finished ones go oldest first.
  size_t surplus =
      operations_.size() > kMaxFinished ? operations_.size() - kMaxFinished : 0;
  for (auto it = operations_.begin(); surplus > 0 && it != operations_.end();) {
    if ((*it)->info().finished) {
      it = operations_.erase(it);
      --surplus;
    } else {
      ++it;
    }
  }
  return operation;
}

absl::StatusOr<std::shared_ptr<Operation>> OperationRegistry::Find(
    absl::string_view name) const {
  MutexLock lock(mu_);
  for (const auto& operation : operations_) {
    if (operation->info().name == name) return operation;
  }
  return absl::NotFoundError(absl::StrCat(
      "no operation \"", name, "\"; it may have finished long ago (the last ",
      kMaxFinished, " are kept, until the server restarts)"));
}

std::vector<OperationInfo> OperationRegistry::List(
    absl::string_view collection) const {
  MutexLock lock(mu_);
  std::vector<OperationInfo> out;
  for (auto it = operations_.rbegin(); it != operations_.rend(); ++it) {
    OperationInfo info = (*it)->info();
    if (collection.empty() || info.collection == collection) {
      out.push_back(std::move(info));
    }
  }
  return out;
}

}  // namespace vicinal
