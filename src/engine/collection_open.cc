// How a collection comes back: mapped segments, tombstones, replay.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/status_macros.h"
#include "src/distance/distance.h"
#include "src/engine/collection_impl.h"
#include "src/engine/id_table.h"
#include "src/engine/multi_rows.h"
#include "src/engine/payload_indexer.h"
#include "src/engine/segment_file.h"
#include "storage/segment_path.h"

namespace vicinal {

absl::StatusOr<std::shared_ptr<CollectionImpl>> CollectionImpl::Open(
    const EngineContext* context, CollectionNumber number,
    CollectionSchema schema, std::string folder) {
  std::shared_ptr<CollectionImpl> collection(new CollectionImpl(
      context, number, std::move(schema), std::move(folder)));
  const absl::Status loaded = collection->Load();
  if (!loaded.ok()) {
    return absl::Status(loaded.code(),
                        absl::StrCat("collection \"", collection->schema().name,
                                     "\": ", loaded.message()));
  }
  return collection;
}

absl::Status CollectionImpl::Load() {
  VICINAL_RETURN_IF_ERROR(layout_->status);
  VICINAL_RETURN_IF_ERROR(LoadEncoders());
  for (const TextField& text : schema().texts) {
    if (text.icu_version == IcuVersion() || !context_->options->warn) continue;
    context_->options->warn(
        absl::StrCat("Collection \"", schema().name, "\": text \"", text.path,
                     "\" was indexed with ICU ", text.icu_version,
                     ", and this is ICU ", IcuVersion(),
                     "; words may be parted otherwise from now on. Import it "
                     "into a new collection to be sure."));
  }
  if (schema().gpu == GpuUse::kRequire && context_->device == nullptr &&
      context_->options->warn) {
    context_->options->warn(absl::StrCat(
        "Collection \"", schema().name,
        "\" requires a GPU, and this server has none: the CPU does its work, "
        "with the same results. Start vicinald with --gpu require on a machine "
        "with one, or set the collection's gpu to auto."));
  }
  VICINAL_ASSIGN_OR_RETURN(head_, store_.GetHead());
  VICINAL_ASSIGN_OR_RETURN(manifest_, store_.GetManifest());
  View view;
  std::vector<SegmentEntry> damaged;
  VICINAL_RETURN_IF_ERROR(MapSegments(&view, &damaged));
  VICINAL_RETURN_IF_ERROR(RecoverAtOpen(damaged, &view));
  view.growing = NewMemorySegment(0);
  VICINAL_RETURN_IF_ERROR(LoadTombstones(view));
  VICINAL_RETURN_IF_ERROR(Replay(&view));
  uint64_t num_points = 0;
  view.ForEachNewestFirst(
      [&](const auto& segment) { num_points += segment->num_live(); });
  num_points_.store(num_points);
  sequence_.store(head_.sequence);
  view_.Store(std::make_shared<const View>(std::move(view)));
  RemoveOrphans();
  return absl::OkStatus();
}

absl::Status CollectionImpl::LoadEncoders() {
  SparseEncoders encoders(layout_->num_sparse);
  for (size_t s = 0; s < encoders.size(); ++s) {
    VICINAL_ASSIGN_OR_RETURN(const std::optional<std::string> bytes,
                             store_.GetEncoder(static_cast<uint8_t>(s)));
    if (!bytes.has_value()) continue;
    auto vocabulary = WordPieceVocabulary::FromFile(*bytes);
    if (!vocabulary.ok()) {
      return absl::DataLossError(absl::StrCat(
          "the encoder of sparse vector \"", schema().sparse[s].name,
          "\" is damaged: ", vocabulary.status().message()));
    }
    encoders[s] =
        std::make_shared<const WordPieceVocabulary>(*std::move(vocabulary));
  }
  MutexLock lock(encoders_mu_);
  encoders_ = std::move(encoders);
  return absl::OkStatus();
}

absl::Status CollectionImpl::SetEncoder(size_t s, absl::string_view bytes,
                                        WordPieceVocabulary vocabulary) {
  WriteBatch batch(bytes.size() + 64);
  store_.PutEncoder(&batch, static_cast<uint8_t>(s), bytes);
  VICINAL_RETURN_IF_ERROR(
      context_->store->Commit(std::move(batch), Durability::kFsynced));
  MutexLock lock(encoders_mu_);
  encoders_[s] =
      std::make_shared<const WordPieceVocabulary>(std::move(vocabulary));
  return absl::OkStatus();
}

SparseEncoders CollectionImpl::encoders() const {
  if (layout_->num_sparse == 0) return {};
  MutexLock lock(encoders_mu_);
  return encoders_;
}

absl::Status CollectionImpl::MapSegments(View* view,
                                         std::vector<SegmentEntry>* damaged) {
  const MemorySpec& memory = schema().memory;
  SegmentPlacement placement{.tier = memory.tier};
  if (memory.budget_bytes > 0) placement.max_ram_bytes = memory.budget_bytes;
  for (const SegmentEntry& entry : manifest_.segments) {
    auto segment = SealedSegment::Open(layout_, folder_, entry, placement);
    if (segment.ok()) {
      if (memory.budget_bytes > 0) {
        placement.max_ram_bytes -=
            std::min(placement.max_ram_bytes, (*segment)->ram_bytes());
      }
      CheckPlacement(**segment);
      OpenFieldIndexes(
          folder_, schema().payload_fields, **segment,
          [this](const absl::Status& damage) { WarnOfDamage(damage); });
      view->sealed.push_back(*std::move(segment));
    } else if (absl::IsDataLoss(segment.status())) {
      WarnOfDamage(segment.status());
      damaged->push_back(entry);
    } else {
      return segment.status();
    }
  }
  return absl::OkStatus();
}

// The rows of a damaged file are not known, its range of ordinals is: all
// records in it that no other segment holds are taken. With several damaged
// files the first takes the rows of an overlap, which does no harm, as each
// leaves the manifest only when its rows are sealed again.
absl::Status CollectionImpl::RecoverAtOpen(
    const std::vector<SegmentEntry>& damaged, View* view) {
  size_t max_rows = 0;
  for (const SegmentEntry& entry : damaged) max_rows += entry.num_rows;
  const absl::Status end_of_range = absl::OutOfRangeError("");
  for (const SegmentEntry& entry : damaged) {
    auto segment = NewMemorySegment(max_rows);
    const auto held_elsewhere = [&](Ordinal ordinal) {
      const auto holds = [&](const auto& other) {
        return other->FindOrdinal(ordinal).has_value();
      };
      return std::any_of(view->sealed.begin(), view->sealed.end(), holds) ||
             std::any_of(view->frozen.begin(), view->frozen.end(), holds);
    };
    const absl::Status scanned = store_.ScanRecords(
        entry.min_ordinal,
        [&](Ordinal ordinal, absl::string_view record) -> absl::Status {
          if (ordinal > entry.max_ordinal) return end_of_range;
          if (held_elsewhere(ordinal)) return absl::OkStatus();
          return AppendRecord(ordinal, record, segment.get());
        });
    if (scanned != end_of_range) VICINAL_RETURN_IF_ERROR(scanned);
    segment->MarkSealing();
    segment->Publish();
    recovered_.push_back({segment, entry.number});
    view->frozen.push_back(std::move(segment));
  }
  num_recovered_.store(recovered_.size());
  return absl::OkStatus();
}

absl::Status CollectionImpl::LoadTombstones(const View& view) {
  return store_.ScanTombstones([&](Ordinal ordinal) {
    for (const auto& segment : view.sealed) {
      if (const std::optional<RowId> row = segment->FindOrdinal(ordinal)) {
        segment->Kill(*row);
        return absl::OkStatus();
      }
    }
    stale_tombstones_.push_back(ordinal);
    return absl::OkStatus();
  });
}

absl::Status CollectionImpl::Replay(View* view) {
  const absl::Status scanned = store_.ScanRecords(
      manifest_.sealed_below,
      [&](Ordinal ordinal, absl::string_view record) -> absl::Status {
        const std::shared_ptr<MemorySegment>& growing = view->growing;
        // Published from time to time, which memory_bytes counts.
        const size_t step = layout_->multi.empty() ? 256 : 16;
        if (growing->num_appended() % step == 0) growing->Publish();
        if (growing->memory_bytes() >=
            context_->options->growing_segment_bytes) {
          std::shared_ptr<MemorySegment> next = NewMemorySegment(0);
          growing->Publish();
          growing->MarkSealing();
          growing->SetNext(next);
          view->frozen.push_back(std::exchange(view->growing, next));
        }
        return AppendRecord(ordinal, record, view->growing.get());
      });
  view->growing->Publish();
  return scanned;
}

absl::Status CollectionImpl::AppendRecord(Ordinal ordinal,
                                          absl::string_view record,
                                          MemorySegment* segment) const {
  VICINAL_ASSIGN_OR_RETURN(const RecordView view, RecordView::Decode(record));
  std::vector<const std::byte*> vectors(layout_->fields.size(), nullptr);
  std::vector<std::vector<float>> normalized(layout_->fields.size());
  std::vector<SparseEntries> sparse(layout_->num_sparse);
  std::vector<absl::string_view> tokens(layout_->multi.size());
  for (const RecordView::Vector& vector : view.vectors) {
    if (vector.field >= kFirstMultiRecordField) {
      VICINAL_RETURN_IF_ERROR(TakeRecordTokens(*layout_, vector, &tokens));
      continue;
    }
    if (vector.field >= kFirstSparseRecordField) {
      VICINAL_RETURN_IF_ERROR(DecodeRecordSparse(*layout_, vector, &sparse));
      continue;
    }
    if (vector.field >= vectors.size() ||
        vector.bytes.size() != layout_->fields[vector.field].row_bytes) {
      return absl::DataLossError(absl::StrCat("the record of ordinal ", ordinal,
                                              " does not fit the schema"));
    }
    vectors[vector.field] =
        reinterpret_cast<const std::byte*>(vector.bytes.data());
    const FieldLayout& field = layout_->fields[vector.field];
    if (!field.normalized) continue;
    std::vector<float>& unit = normalized[vector.field];
    unit.resize(2 * field.dim);
    std::memcpy(unit.data() + field.dim, vector.bytes.data(), field.row_bytes);
    NormalizeInto(unit.data() + field.dim, field.dim, unit.data());
    vectors[vector.field] = reinterpret_cast<const std::byte*>(unit.data());
  }
  if (segment->num_appended() >= segment->capacity_rows()) {
    return absl::DataLossError(absl::StrCat(
        "storage holds more records than the manifest of its collection"));
  }
  LexicalRows lexical;
  if (!layout_->lexical.empty()) {
    std::optional<std::string> payload;
    if (layout_->has_texts()) {
      VICINAL_ASSIGN_OR_RETURN(auto payloads, store_.GetPayloads({ordinal}));
      payload = std::move(payloads[0]);
    }
    AddLexical(*layout_, sparse, payload.value_or(""), &lexical);
  }
  segment->Append(view.id, HashPointId(view.id), ordinal, vectors.data(),
                  lexical, 0, tokens);
  return absl::OkStatus();
}

// Files of builds that did not finish, or of segments that were merged just
// before a crash.
void CollectionImpl::RemoveOrphans() const {
  absl::flat_hash_set<std::string> wanted;
  for (const SegmentEntry& entry : manifest_.segments) {
    wanted.insert(segment_file::IndexPath(folder_, entry.number));
    wanted.insert(segment_file::VectorsPath(folder_, entry.number));
    for (const PayloadField& field : schema().payload_fields) {
      wanted.insert(FieldIndexPath(folder_, entry.number, field));
    }
  }
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(folder_, error)) {
    if (wanted.contains(file.path().string())) continue;
    std::error_code ignored;
    std::filesystem::remove(file.path(), ignored);
  }
}

}  // namespace vicinal
