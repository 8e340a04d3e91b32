// What one commit does to one collection: its writes in order, from the look
// at the old versions over the store batch to memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/point_id.h"
#include "src/base/types.h"
#include "src/engine/committer.h"
#include "src/engine/segment.h"
#include "src/engine/view.h"
#include "storage/collection_store.h"
#include "storage/record_store.h"

namespace vicinal {

// A version that dies with a commit.
struct Victim {
  Segment* segment = nullptr;
  RowId row = 0;
  Ordinal ordinal = 0;
  bool pending = false;   // a row of this very commit, not yet appended
  Sequence sequence = 0;  // of a pending one
};

// Committer's thread only. Life: AddEffects for each entry, then, when the
// batch is durable, CollectionImpl::Apply.
class CommitPart {
 public:
  // several: more than one entry will come, which may touch the same ids.
  CommitPart(std::shared_ptr<const View> view, Head head, bool several);

  // Whether the points are as the entry's condition demands; the error is in
  // the entry's item_errors as well.
  absl::Status CheckCondition(const CollectionStore& store,
                              WriteEntry* entry) const;
  // Adds the effects of `entry` to *batch. When the entry is refused (its
  // status) or has none, nothing is added. last_frame: of the entry's stream.
  void AddUpsert(const CollectionStore& store, WriteEntry* entry,
                 WriteBatch* batch);
  void AddDelete(const CollectionStore& store, WriteEntry* entry,
                 WriteBatch* batch);

  const View& view() const { return *view_; }
  const Head& head() const { return head_; }
  const std::vector<Victim>& victims() const { return victims_; }
  const std::vector<WriteEntry*>& upserts() const { return upserts_; }
  Ordinal first_ordinal() const { return first_ordinal_; }
  int64_t added_points() const { return added_points_; }
  // Last frames of streams after this commit.
  absl::flat_hash_map<std::string, uint64_t> frames;

 private:
  std::optional<Victim> FindOld(const PointId& id, uint64_t hash) const;
  // Of what FindOld found; 0: nothing.
  absl::StatusOr<Sequence> SequenceOf(const CollectionStore& store,
                                      const PointId& id,
                                      const std::optional<Victim>& old) const;
  void KillOld(const CollectionStore& store, const Victim& victim,
               WriteBatch* batch);

  const std::shared_ptr<const View> view_;
  Head head_;  // after this commit
  const Ordinal first_ordinal_;
  const bool several_;
  size_t num_rows_;  // of the growing segment, with those of this commit
  int64_t added_points_ = 0;
  std::vector<Victim> victims_;
  std::vector<WriteEntry*> upserts_;  // in order; their ordinals follow on
  // What this commit did to ids so far (when several): nullopt: deleted.
  absl::flat_hash_map<PointId, std::optional<Victim>> touched_;
};

}  // namespace vicinal
