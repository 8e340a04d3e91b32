#include "src/engine/commit_part.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "src/base/point_id.h"
#include "src/engine/id_table.h"

namespace vicinal {

CommitPart::CommitPart(std::shared_ptr<const View> view, Head head,
                       bool several)
    : view_(std::move(view)),
      head_(head),
      first_ordinal_(head.next_ordinal),
      several_(several),
      num_rows_(view_->growing->num_appended()) {}

// Ids are looked up in memory and mapped files; RocksDB's packaged build would
// take 4 us for each.
std::optional<Victim> CommitPart::FindOld(const PointId& id,
                                          uint64_t hash) const {
  if (several_) {
    const auto found = touched_.find(id);
    if (found != touched_.end()) return found->second;
  }
  std::optional<Victim> victim;
  view_->ForEachNewestFirst([&](const auto& segment) {
    if (victim.has_value()) return;
    if (const std::optional<RowId> row = segment->FindId(id, hash)) {
      victim = {segment.get(), *row, segment->OrdinalOf(*row), false};
    }
  });
  return victim;
}

void CommitPart::KillOld(const CollectionStore& store, const Victim& victim,
                         WriteBatch* batch) {
  store.KillVersion(batch, victim.ordinal);
  victims_.push_back(victim);
  --added_points_;
}

void CommitPart::AddUpsert(const CollectionStore& store, WriteEntry* entry,
                           WriteBatch* batch) {
  const EncodedBatch& points = entry->points;
  if (points.size() == 0) return;
  const Sequence sequence = ++head_.sequence;
  for (size_t i = 0; i < points.size(); ++i) {
    const PointId& id = points.ids[i];
    if (const auto old = FindOld(id, points.hashes[i])) {
      KillOld(store, *old, batch);
    }
    const Ordinal ordinal = head_.next_ordinal++;
    store.PutId(batch, id, {ordinal, sequence});
    store.PutRecord(batch, ordinal, sequence, points.body(i));
    if (!points.payload(i).empty()) {
      store.PutPayload(batch, ordinal, points.payload(i));
    }
    if (several_) {
      touched_[id] = Victim{view_->growing.get(), static_cast<RowId>(num_rows_),
                            ordinal, true};
    }
    ++num_rows_;
  }
  added_points_ += static_cast<int64_t>(points.size());
  entry->result.sequence = sequence;
  entry->result.num_written = points.size();
  upserts_.push_back(entry);
}

void CommitPart::AddDelete(const CollectionStore& store, WriteEntry* entry,
                           WriteBatch* batch) {
  if (entry->deletions.empty()) return;
  const std::vector<Ordinal>& versions = entry->deleted_versions;
  for (size_t i = 0; i < entry->deletions.size(); ++i) {
    const PointId& id = entry->deletions[i];
    const auto old = FindOld(id, HashPointId(id));
    if (!old.has_value()) continue;
    if (!versions.empty() && old->ordinal != versions[i]) continue;
    KillOld(store, *old, batch);
    store.DeleteId(batch, id);
    if (several_) touched_[id] = std::nullopt;
    ++entry->result.num_written;
  }
  if (entry->result.num_written > 0) {
    entry->result.sequence = ++head_.sequence;
  }
}

}  // namespace vicinal
