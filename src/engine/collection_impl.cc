// The committer's and the compactor's side of a collection.
#include "src/engine/collection_impl.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/mutex.h"
#include "src/base/status_macros.h"
#include "src/engine/commit_part.h"
#include "src/engine/compactor.h"
#include "src/engine/payload_indexer.h"
#include "src/engine/segment_file.h"
#include "storage/segment_path.h"

namespace vicinal {
namespace {

// Frames of more streams than this are looked up in storage again.
constexpr size_t kMaxCachedStreams = 10'000;
constexpr int64_t kStreamLifeMicros = int64_t{24} * 3600 * 1'000'000;

int64_t Nanos(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             time.time_since_epoch())
      .count();
}

std::chrono::steady_clock::time_point TimeOf(int64_t nanos) {
  return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(nanos));
}

template <typename T>
bool Contains(const std::vector<std::shared_ptr<T>>& segments,
              const std::shared_ptr<T>& wanted) {
  return std::find(segments.begin(), segments.end(), wanted) != segments.end();
}

}  // namespace

CollectionImpl::CollectionImpl(const EngineContext* context,
                               CollectionNumber number, CollectionSchema schema,
                               std::string folder)
    : context_(context),
      store_(context->store, number),
      folder_(std::move(folder)),
      layout_(std::make_shared<const Layout>(LayoutOf(schema))),
      recall_watch_(*layout_, [this] { Touch(); }),
      row_filters_(*layout_) {
  SetSchema(std::move(schema));
}

SegmentPlacement CollectionImpl::PlacementFor(
    const std::vector<std::shared_ptr<SealedSegment>>& replaced) const {
  const MemorySpec& memory = schema().memory;
  if (memory.budget_bytes == 0) return {.tier = memory.tier};
  size_t used = 0;
  for (const auto& segment : view_.Load()->sealed) {
    if (!Contains(replaced, segment)) used += segment->ram_bytes();
  }
  return {.tier = memory.tier,
          .max_ram_bytes = memory.budget_bytes -
                           std::min<size_t>(used, memory.budget_bytes)};
}

void CollectionImpl::CheckPlacement(const SealedSegment& segment) const {
  if (segment.is_placed() || !context_->options->warn) return;
  const MemorySpec& memory = schema().memory;
  std::string message = absl::StrCat("Collection \"", schema().name,
                                     "\": segment ", segment.entry().number);
  if (memory.budget_bytes > 0) {
    absl::StrAppend(&message,
                    " does not fit the collection's memory budget of ",
                    memory.budget_bytes,
                    " bytes and is searched from mapped files; raise it or "
                    "use fewer bits per dimension.");
  } else {
    absl::StrAppend(&message,
                    " could not be locked in memory; raise the limit on "
                    "locked memory (ulimit -l, LimitMEMLOCK of systemd).");
  }
  context_->options->warn(message);
}

void CollectionImpl::SetSchema(CollectionSchema schema) {
  schemas_.push_back(
      std::make_unique<const CollectionSchema>(std::move(schema)));
  schema_.store(schemas_.back().get(), std::memory_order_release);
}

void CollectionImpl::ForgetPayloadField(const PayloadField& field) {
  view_.Load()->ForEachNewestFirst([&](const auto& segment) {
    segment->keys().KeepOnly(schema().payload_fields);
  });
  for (const auto& segment : view_.Load()->sealed) {
    RemoveFieldIndexes(folder_, {&field, 1}, segment->entry().number);
  }
}

void CollectionImpl::Touch() {
  // An exchange even when it is set: the compactor, which resets it before it
  // looks, then sees all that was done before this.
  if (!touched_.exchange(true, std::memory_order_acq_rel)) {
    context_->compactor->Touch(number());
  }
}

std::chrono::steady_clock::time_point CollectionImpl::last_write() const {
  return TimeOf(last_write_ns_.load(std::memory_order_relaxed));
}

std::chrono::steady_clock::time_point CollectionImpl::last_freeze() const {
  return TimeOf(last_freeze_ns_.load(std::memory_order_relaxed));
}

size_t CollectionImpl::DefaultCapacity() const {
  // Twice the size at which it is frozen, for the commit that passes it.
  return 2 * context_->options->growing_segment_bytes /
             layout_->memory_per_row +
         4096;
}

std::shared_ptr<MemorySegment> CollectionImpl::NewMemorySegment(
    size_t num_points) const {
  return std::make_shared<MemorySegment>(
      layout_, std::max(DefaultCapacity(), num_points),
      context_->unindexed_bytes);
}

template <typename Edit>
void CollectionImpl::EditView(Edit edit) {
  auto view = std::make_shared<View>(*view_.Load());
  ++view->version;
  edit(view.get());
  view_.Store(std::move(view));
}

void CollectionImpl::KillOrdinal(const View& view, Ordinal ordinal) {
  bool found = false;
  view.ForEachNewestFirst([&](const auto& segment) {
    if (found) return;
    if (const std::optional<RowId> row = segment->FindOrdinal(ordinal)) {
      segment->Kill(*row);
      found = true;
    }
  });
}

// --- the committer's thread ---

std::unique_ptr<CommitPart> CollectionImpl::BeginCommit(size_t num_points,
                                                        bool several) {
  std::shared_ptr<const View> view = view_.Load();
  const MemorySegment& growing = *view->growing;
  if (growing.memory_bytes() >= context_->options->growing_segment_bytes ||
      growing.num_appended() + num_points > growing.capacity_rows()) {
    Freeze(num_points);
    view = view_.Load();
  }
  return std::make_unique<CommitPart>(std::move(view), head_, several);
}

absl::Status CollectionImpl::AddEffects(WriteEntry* entry, CommitPart* part,
                                        WriteBatch* batch) {
  if (dropped()) {
    return absl::NotFoundError(
        absl::StrCat("collection \"", schema().name, "\" was dropped"));
  }
  const std::optional<StreamFrame>& frame = entry->options.stream_frame;
  if (frame.has_value()) {
    VICINAL_ASSIGN_OR_RETURN(const bool is_next, IsNextFrame(*frame, *part));
    if (!is_next) {
      entry->result.sequence = part->head().sequence;
      entry->result.item_errors.clear();
      return absl::OkStatus();
    }
  }
  VICINAL_RETURN_IF_ERROR(part->CheckCondition(store_, entry));
  part->AddUpsert(store_, entry, batch);
  part->AddDelete(store_, entry, batch);
  if (frame.has_value()) {
    store_.PutStreamFrame(batch, frame->stream_id, frame->frame,
                          context_->options->clock->UnixMicros());
    part->frames[frame->stream_id] = frame->frame;
    entry->result.sequence = part->head().sequence;
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> CollectionImpl::IsNextFrame(const StreamFrame& frame,
                                                 const CommitPart& part) {
  uint64_t last = 0;
  if (const auto in_part = part.frames.find(frame.stream_id);
      in_part != part.frames.end()) {
    last = in_part->second;
  } else if (const auto cached = last_frames_.find(frame.stream_id);
             cached != last_frames_.end()) {
    last = cached->second;
  } else {
    VICINAL_ASSIGN_OR_RETURN(last, LastFrame(frame.stream_id));
    if (last_frames_.size() >= kMaxCachedStreams) last_frames_.clear();
    last_frames_[frame.stream_id] = last;
  }
  if (frame.frame <= last) return false;
  if (frame.frame == last + 1) return true;
  return absl::FailedPreconditionError(absl::StrCat(
      "frame ", frame.frame, " of stream \"", frame.stream_id,
      "\" came after frame ", last, "; send frame ", last + 1, " next"));
}

void CollectionImpl::AddHead(const CommitPart& part, WriteBatch* batch) const {
  if (part.head().sequence != head_.sequence) {
    store_.PutHead(batch, part.head());
  }
}

void CollectionImpl::Apply(const CommitPart& part) {
  const std::shared_ptr<MemorySegment>& growing = part.view().growing;
  {
    MutexLock lock(apply_mu_);
    epoch_.fetch_add(1, std::memory_order_acq_rel);
    Ordinal ordinal = part.first_ordinal();
    std::vector<const std::byte*> vectors(layout_->fields.size());
    std::vector<absl::string_view> tokens(layout_->multi.size());
    for (WriteEntry* entry : part.upserts()) {
      EncodedBatch& points = entry->points;
      for (size_t i = 0; i < points.size(); ++i) {
        if (entry->is_stale(i)) continue;
        for (size_t f = 0; f < vectors.size(); ++f) {
          vectors[f] = points.vector(i, f);
        }
        for (size_t m = 0; m < tokens.size(); ++m) {
          tokens[m] = points.tokens(i, m);
        }
        growing->Append(std::move(points.ids[i]), points.hashes[i], ordinal++,
                        vectors.data(), points.lexical, i, tokens);
      }
    }
    // Versions that lived for no moment must never be seen.
    for (const Victim& victim : part.victims()) {
      if (victim.pending) growing->Kill(victim.row);
    }
    growing->Publish();
    const std::shared_ptr<const View> now = view_.Load();
    const bool swapped = now->version != part.view().version;
    for (const Victim& victim : part.victims()) {
      if (victim.pending) continue;
      if (noting_deaths_) deaths_.push_back(victim.ordinal);
      if (swapped) {
        KillOrdinal(*now, victim.ordinal);
      } else {
        victim.segment->Kill(victim.row);
      }
    }
    num_points_.fetch_add(static_cast<uint64_t>(part.added_points()),
                          std::memory_order_release);
    sequence_.store(part.head().sequence, std::memory_order_release);
    epoch_.fetch_add(1, std::memory_order_acq_rel);
  }
  head_ = part.head();
  for (const auto& [stream_id, frame] : part.frames) {
    last_frames_[stream_id] = frame;
  }
  last_write_ns_.store(Nanos(context_->options->clock->Now()),
                       std::memory_order_relaxed);
  Touch();
}

void CollectionImpl::Freeze(size_t num_points) {
  std::shared_ptr<MemorySegment> next = NewMemorySegment(num_points);
  {
    MutexLock lock(apply_mu_);
    EditView([&](View* view) {
      std::shared_ptr<MemorySegment> full = std::move(view->growing);
      full->MarkSealing();
      full->SetNext(next);
      view->growing = std::move(next);
      if (full->num_rows() > 0) view->frozen.push_back(std::move(full));
    });
  }
  last_freeze_ns_.store(Nanos(context_->options->clock->Now()),
                        std::memory_order_relaxed);
  Touch();
  context_->compactor->Wake();
}

void CollectionImpl::ForgetOldStreams(int64_t now_unix_micros) {
  if (dropped()) return;
  // A frame that is cached and not stored would be taken for a repetition.
  last_frames_.clear();
  // On an error they stay for another hour.
  store_.ForgetStreams(now_unix_micros - kStreamLifeMicros).IgnoreError();
}

// --- the compactor's thread ---

void CollectionImpl::BeginBuild() {
  MutexLock lock(apply_mu_);
  noting_deaths_ = true;
  deaths_.clear();
}

void CollectionImpl::AbandonBuild() {
  MutexLock lock(apply_mu_);
  noting_deaths_ = false;
  deaths_.clear();
}

absl::Status CollectionImpl::FinishBuild(
    const std::vector<std::shared_ptr<MemorySegment>>& frozen,
    const std::vector<std::shared_ptr<SealedSegment>>& sealed,
    std::shared_ptr<SealedSegment> built,
    const std::vector<Ordinal>& dropped_ordinals) {
  const auto replaced = [&](uint64_t number) {
    return std::any_of(
               sealed.begin(), sealed.end(),
               [&](const auto& s) { return s->entry().number == number; }) ||
           std::any_of(recovered_.begin(), recovered_.end(),
                       [&](const Recovered& r) {
                         return r.damaged_number == number &&
                                Contains(frozen, r.segment);
                       });
  };
  Manifest manifest = manifest_;
  std::vector<uint64_t> removed;
  std::erase_if(manifest.segments, [&](const SegmentEntry& entry) {
    if (!replaced(entry.number)) return false;
    removed.push_back(entry.number);
    return true;
  });
  for (const auto& segment : frozen) {
    const size_t num_rows = segment->num_rows();
    if (num_rows == 0) continue;
    manifest.sealed_below =
        std::max(manifest.sealed_below,
                 segment->OrdinalOf(static_cast<RowId>(num_rows - 1)) + 1);
  }
  if (built != nullptr) {
    manifest.segments.push_back(built->entry());
    manifest.next_segment_number = built->entry().number + 1;
  }
  const size_t still_recovered = static_cast<size_t>(std::count_if(
      recovered_.begin(), recovered_.end(),
      [&](const Recovered& r) { return !Contains(frozen, r.segment); }));
  WriteBatch batch;
  store_.PutManifest(&batch, manifest);
  for (const Ordinal ordinal : dropped_ordinals) {
    store_.DeleteTombstone(&batch, ordinal);
  }
  // A damaged file may be readable next time (a bad cable, say); while the
  // manifest names it, its dead rows must stay dead.
  if (still_recovered == 0) {
    for (const Ordinal ordinal : stale_tombstones_) {
      store_.DeleteTombstone(&batch, ordinal);
    }
  }
  const absl::Status committed =
      context_->store->Commit(std::move(batch), Durability::kFsynced);
  if (!committed.ok()) {
    AbandonBuild();
    return committed;
  }
  manifest_ = std::move(manifest);
  if (still_recovered == 0) stale_tombstones_.clear();
  if (context_->options->test_hook) {
    context_->options->test_hook("build:before_swap");
  }
  {
    MutexLock lock(apply_mu_);
    noting_deaths_ = false;
    for (const Ordinal ordinal : deaths_) {
      if (built == nullptr) break;
      if (const auto row = built->FindOrdinal(ordinal)) built->Kill(*row);
    }
    deaths_.clear();
    EditView([&](View* view) {
      std::erase_if(view->sealed,
                    [&](const auto& s) { return Contains(sealed, s); });
      std::erase_if(view->frozen,
                    [&](const auto& s) { return Contains(frozen, s); });
      if (built != nullptr) view->sealed.push_back(std::move(built));
    });
  }
  std::erase_if(recovered_, [&](const Recovered& r) {
    return Contains(frozen, r.segment);
  });
  num_recovered_.store(recovered_.size(), std::memory_order_relaxed);
  if (context_->options->test_hook) {
    context_->options->test_hook("build:after_swap");
  }
  // Mappings of searches under way keep the bytes; the names can go.
  for (const uint64_t number : removed) {
    std::error_code ignored;
    std::filesystem::remove(segment_file::IndexPath(folder_, number), ignored);
    std::filesystem::remove(segment_file::VectorsPath(folder_, number),
                            ignored);
    RemoveFieldIndexes(folder_, schema().payload_fields, number);
  }
  return absl::OkStatus();
}

void CollectionImpl::WarnOfDamage(const absl::Status& damage) const {
  if (!context_->options->warn) return;
  context_->options->warn(
      absl::StrCat("A file of collection \"", schema().name,
                   "\" is damaged and will be rebuilt from the records: ",
                   damage.message()));
}

absl::Status CollectionImpl::Recover(
    const std::shared_ptr<SealedSegment>& damaged) {
  BeginBuild();
  const SegmentEntry& entry = damaged->entry();
  auto segment = NewMemorySegment(entry.num_rows);
  const absl::Status end_of_range = absl::OutOfRangeError("");
  absl::Status scanned = store_.ScanRecords(
      entry.min_ordinal,
      [&](Ordinal ordinal, absl::string_view record) -> absl::Status {
        if (ordinal > entry.max_ordinal) return end_of_range;
        if (!damaged->FindOrdinal(ordinal)) return absl::OkStatus();
        return AppendRecord(ordinal, record, segment.get());
      });
  if (scanned == end_of_range) scanned = absl::OkStatus();
  if (!scanned.ok()) {
    AbandonBuild();
    return scanned;
  }
  segment->MarkSealing();
  segment->Publish();
  MutexLock lock(apply_mu_);
  noting_deaths_ = false;
  for (const Ordinal ordinal : deaths_) {
    if (const auto row = segment->FindOrdinal(ordinal)) segment->Kill(*row);
  }
  deaths_.clear();
  recovered_.push_back({segment, entry.number});
  num_recovered_.store(recovered_.size(), std::memory_order_relaxed);
  EditView([&](View* view) {
    std::erase(view->sealed, damaged);
    view->frozen.insert(view->frozen.begin(), segment);
  });
  return absl::OkStatus();
}

absl::Status CollectionImpl::DeleteEverything() {
  VICINAL_RETURN_IF_ERROR(store_.DeleteAll());
  // The folder goes last: while it is there, an open goes on with the work.
  return DeleteCollectionFolder(context_->store->path(), number());
}

}  // namespace vicinal
