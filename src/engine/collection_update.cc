// The callers' side of a collection: changes of payloads.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/engine/collection_impl.h"
#include "src/engine/payload_patch.h"
#include "src/engine/stored_encoder.h"
#include "src/engine/write_waiter.h"
#include "src/payload/bound_filter.h"

namespace vicinal {
namespace {

// Half of what the committer takes at once.
constexpr size_t kCommitBytes = size_t{4} << 20;

// How often a long update looks whether there is room again.
constexpr std::chrono::milliseconds kRoomPoll(50);

}  // namespace

// A call.
struct CollectionImpl::Update {
  const PayloadPatch& patch;
  const BoundFilter* filter = nullptr;  // null: every point
  const WriteOptions& options;
  const StopCondition& stop;
  WriteResult result;
};

// What is stored of a point.
struct CollectionImpl::Version {
  PointId id;
  Ordinal ordinal = 0;
  std::string record;
  std::string payload;  // empty: none
};

WriteOutcome CollectionImpl::UpdatePayload(std::vector<PointId> ids,
                                           const PayloadPatch& patch,
                                           const WriteOptions& options,
                                           const StopCondition& stop) {
  const size_t limit = context_->options->limits.max_batch_points;
  if (ids.size() > limit) {
    return {absl::InvalidArgumentError(
                absl::StrCat("ids has ", ids.size(), " elements; at most ",
                             limit, " are allowed: send smaller batches")),
            {}};
  }
  absl::Status status = CheckUpsert(options);
  if (!status.ok()) return {std::move(status), {}};
  absl::flat_hash_set<PointId> seen;
  seen.reserve(ids.size());
  std::erase_if(ids,
                [&](const PointId& id) { return !seen.insert(id).second; });
  Update update{.patch = patch, .options = options, .stop = stop};
  status = UpdatePoints(std::move(ids), &update);
  return {std::move(status), std::move(update.result)};
}

WriteOutcome CollectionImpl::UpdatePayloadMatching(const FilterNode& filter,
                                                   const PayloadPatch& patch,
                                                   const WriteOptions& options,
                                                   const StopCondition& stop) {
  absl::Status status = CheckUpsert(options);
  if (!status.ok()) return {std::move(status), {}};
  const absl::StatusOr<Matching> matching = FindMatching(&filter, stop);
  if (!matching.ok()) return {matching.status(), {}};
  Update update{.patch = patch,
                .filter = matching->filter(),
                .options = options,
                .stop = stop};
  std::vector<PointId> ids;
  const size_t limit = context_->options->limits.max_batch_points;
  status =
      VisitMatching(*matching, std::nullopt, stop,
                    [&](const PointId& id, IdEntry) -> absl::StatusOr<bool> {
                      ids.push_back(id);
                      if (ids.size() == limit) {
                        VICINAL_RETURN_IF_ERROR(
                            UpdatePoints(std::exchange(ids, {}), &update));
                      }
                      return true;
                    });
  if (status.ok()) status = UpdatePoints(std::move(ids), &update);
  return {std::move(status), std::move(update.result)};
}

// Each round that finds a point stale follows a commit that replaced it: some
// writer always gets on, and which one comes last is the committer's order.
absl::Status CollectionImpl::UpdatePoints(std::vector<PointId> ids,
                                          Update* update) {
  WriteResult& result = update->result;
  while (!ids.empty()) {
    std::vector<PointId> again;
    for (std::span<const PointId> left = ids; !left.empty();) {
      if (result.num_written > 0) {
        VICINAL_RETURN_IF_ERROR(WaitForRoom(update->stop));
      }
      VICINAL_ASSIGN_OR_RETURN(std::unique_ptr<WriteEntry> entry,
                               ChangePoints(&left, *update));
      if (entry->points.size() == 0) continue;
      entry->collection = shared_from_this();
      const std::vector<PointId> changed = entry->points.ids;
      WriteWaiter waiter;
      entry->done = waiter.callback();
      context_->committer->Submit(std::move(entry));
      const WriteOutcome part = waiter.Wait();
      VICINAL_RETURN_IF_ERROR(part.status);
      for (const ItemError& stale : part.result.item_errors) {
        again.push_back(changed[stale.index]);
      }
      result.num_written += part.result.num_written;
      if (part.result.sequence != 0) result.sequence = part.result.sequence;
    }
    ids = std::move(again);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<WriteEntry>> CollectionImpl::ChangePoints(
    std::span<const PointId>* ids, const Update& update) const {
  PointSelection everything{.payload = true, .vectors = {}};
  everything.vectors.resize(layout_->fields.size());
  everything.multi.resize(layout_->multi.size());
  const size_t chunk = ReadChunk(everything);
  const std::unique_ptr<StoreSnapshot> snapshot = context_->store->Snapshot();
  auto entry = std::make_unique<WriteEntry>();
  StoredEncoder encoder(*layout_);
  while (!ids->empty() && encoder.size_bytes() < kCommitBytes) {
    VICINAL_RETURN_IF_ERROR(update.stop.Check());
    const auto part = ids->first(std::min(chunk, ids->size()));
    *ids = ids->subspan(part.size());
    VICINAL_ASSIGN_OR_RETURN(const std::vector<Version> versions,
                             ReadVersions(part, *snapshot));
    for (const Version& version : versions) {
      if (update.filter != nullptr &&
          !update.filter->Matches(version.id, version.payload)) {
        continue;
      }
      const auto changed = update.patch.Apply(version.payload);
      if (!changed.ok()) {
        return absl::Status(changed.status().code(),
                            absl::StrCat("point ", version.id.ToString(), " ",
                                         changed.status().message(), "; ",
                                         update.result.num_written,
                                         " points were updated before"));
      }
      VICINAL_RETURN_IF_ERROR(encoder.Add(version.record, *changed));
      entry->made_from.push_back(version.ordinal);
    }
  }
  entry->points = encoder.Take();
  entry->options.durability = update.options.durability;
  return entry;
}

absl::StatusOr<std::vector<CollectionImpl::Version>>
CollectionImpl::ReadVersions(std::span<const PointId> ids,
                             const StoreSnapshot& snapshot) const {
  VICINAL_ASSIGN_OR_RETURN(
      const auto entries,
      store_.LookupIds({ids.begin(), ids.end()}, &snapshot));
  std::vector<Version> versions;
  std::vector<Ordinal> ordinals;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!entries[i].has_value()) continue;
    ordinals.push_back(entries[i]->ordinal);
    versions.push_back({.id = ids[i], .ordinal = entries[i]->ordinal});
  }
  VICINAL_ASSIGN_OR_RETURN(auto records,
                           store_.GetRecords(ordinals, &snapshot));
  VICINAL_ASSIGN_OR_RETURN(auto payloads,
                           store_.GetPayloads(ordinals, &snapshot));
  for (size_t i = 0; i < versions.size(); ++i) {
    if (!records[i].has_value()) {
      return absl::DataLossError(absl::StrCat("the record of point ",
                                              versions[i].id.ToString(),
                                              " is missing in storage"));
    }
    versions[i].record = *std::move(records[i]);
    if (payloads[i].has_value()) versions[i].payload = *std::move(payloads[i]);
  }
  return versions;
}

absl::Status CollectionImpl::WaitForRoom(const StopCondition& stop) const {
  while (!HasRoom() && !dropped()) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    std::this_thread::sleep_for(kRoomPoll);
  }
  return absl::OkStatus();
}

}  // namespace vicinal
