#include "src/engine/commit_part.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/engine/id_table.h"

namespace vicinal {
namespace {

using Kind = UpsertCondition::Kind;

// found: the sequence of the version that is there; 0: none is.
absl::Status ConditionError(Kind kind, const PointId& id, Sequence wanted,
                            Sequence found) {
  const std::string point = absl::StrCat("point ", id.ToString());
  const std::string is =
      found == 0 ? absl::StrCat(point, " does not exist")
                 : absl::StrCat(point, " exists, stored by commit ", found);
  switch (kind) {
    case Kind::kMustExist:
      return absl::FailedPreconditionError(absl::StrCat(
          is, "; the request replaces only, so nothing was written"));
    case Kind::kMustNotExist:
      return absl::AlreadyExistsError(absl::StrCat(
          is, "; the request inserts only, so nothing was written"));
    case Kind::kSequences:
    case Kind::kNone:
      break;
  }
  return absl::AbortedError(absl::StrCat(
      is, "; the request expected ",
      wanted == 0 ? "none" : absl::StrCat("that of commit ", wanted),
      ", so nothing was written: read it again and decide anew"));
}

}  // namespace

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

absl::StatusOr<Sequence> CommitPart::SequenceOf(
    const CollectionStore& store, const PointId& id,
    const std::optional<Victim>& old) const {
  if (!old.has_value()) return Sequence{0};
  if (old->pending) return old->sequence;
  VICINAL_ASSIGN_OR_RETURN(const auto entries, store.LookupIds({id}));
  return entries[0].has_value() ? entries[0]->sequence : Sequence{0};
}

absl::Status CommitPart::CheckCondition(const CollectionStore& store,
                                        WriteEntry* entry) const {
  const UpsertCondition& condition = entry->options.condition;
  if (condition.kind == Kind::kNone) return absl::OkStatus();
  const EncodedBatch& points = entry->points;
  for (size_t i = 0; i < points.size(); ++i) {
    const auto old = FindOld(points.ids[i], points.hashes[i]);
    Sequence wanted = 0;
    if (condition.kind == Kind::kMustExist) {
      if (old.has_value()) continue;
    } else if (condition.kind == Kind::kMustNotExist) {
      if (!old.has_value()) continue;
    } else {
      wanted = condition.sequences[i];
      // Almost always: storage need not be asked.
      if ((old.has_value() ? old->ordinal : 0) == entry->looked_up[i] &&
          (wanted == 0) == !old.has_value()) {
        continue;
      }
    }
    VICINAL_ASSIGN_OR_RETURN(const Sequence found,
                             SequenceOf(store, points.ids[i], old));
    if (condition.kind == Kind::kSequences && found == wanted) continue;
    absl::Status status =
        ConditionError(condition.kind, points.ids[i], wanted, found);
    entry->result.item_errors.push_back(
        {i, absl::StrCat("ids[", i, "]"), status});
    return status;
  }
  return absl::OkStatus();
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
  const Sequence sequence = head_.sequence + 1;
  size_t num_written = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    const PointId& id = points.ids[i];
    const auto old = FindOld(id, points.hashes[i]);
    if (!entry->made_from.empty() &&
        (!old.has_value() || old->ordinal != entry->made_from[i])) {
      entry->stale.resize(points.size(), false);
      entry->stale[i] = true;
      entry->result.item_errors.push_back(
          {i, absl::StrCat("ids[", i, "]"),
           absl::AbortedError("the point was replaced or deleted meanwhile")});
      continue;
    }
    if (old.has_value()) KillOld(store, *old, batch);
    const Ordinal ordinal = head_.next_ordinal++;
    store.PutId(batch, id, {ordinal, sequence});
    store.PutRecord(batch, ordinal, sequence, points.body(i));
    if (!points.payload(i).empty()) {
      store.PutPayload(batch, ordinal, points.payload(i));
    }
    if (several_) {
      touched_[id] = Victim{view_->growing.get(), static_cast<RowId>(num_rows_),
                            ordinal, true, sequence};
    }
    ++num_rows_;
    ++num_written;
  }
  if (num_written == 0) return;
  head_.sequence = sequence;
  added_points_ += static_cast<int64_t>(num_written);
  entry->result.sequence = sequence;
  entry->result.num_written = num_written;
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
