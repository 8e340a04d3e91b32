#include "storage/collection_store.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/coding.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"
#include "storage/record_store.h"

namespace vicinal {
namespace {

constexpr char kDescriptorKind = 'C';
constexpr char kHeadKind = 'H';
constexpr char kManifestKind = 'M';
constexpr char kStreamKind = 'S';
constexpr char kEncoderKind = 'E';
constexpr absl::string_view kNextNumberKey = "N";
constexpr char kMetaKinds[] = {kHeadKind, kManifestKind, kStreamKind,
                               kEncoderKind};
constexpr Table kDataTables[] = {Table::kIds, Table::kRecords, Table::kPayloads,
                                 Table::kTombstones};

constexpr uint8_t kManifestVersion = 1;
constexpr size_t kSegmentEntryBytes = 4 * sizeof(uint64_t);

std::string CollectionPrefix(CollectionNumber number) {
  std::string prefix;
  PutBigEndian32(&prefix, number);
  return prefix;
}
std::string MetaKey(char kind, CollectionNumber number) {
  std::string key(1, kind);
  PutBigEndian32(&key, number);
  return key;
}
std::string OrdinalKey(CollectionNumber number, Ordinal ordinal) {
  std::string key;
  PutBigEndian32(&key, number);
  PutBigEndian64(&key, ordinal);
  return key;
}
std::string IdKey(CollectionNumber number, const PointId& id) {
  std::string key;
  PutBigEndian32(&key, number);
  id.AppendEncoded(&key);
  return key;
}

absl::Status Malformed(absl::string_view what, absl::string_view key,
                       absl::string_view how) {
  return absl::DataLossError(absl::StrCat(
      "The stored ", what, " under key 0x",
      absl::BytesToHexString(key.substr(0, 64)), " is malformed: ", how,
      "; restore the data folder from a backup."));
}

absl::StatusOr<Ordinal> ParseOrdinalKey(absl::string_view what,
                                        absl::string_view key) {
  if (key.size() != sizeof(CollectionNumber) + sizeof(Ordinal)) {
    return Malformed(
        what, key, absl::StrCat("its key has ", key.size(), " bytes, not 12"));
  }
  return GetBigEndian64(key.data() + sizeof(CollectionNumber));
}

absl::StatusOr<IdEntry> ParseIdEntry(absl::string_view key,
                                     absl::string_view value) {
  IdEntry entry;
  if (!ConsumeFixed(&value, &entry.ordinal) ||
      !ConsumeFixed(&value, &entry.sequence) || !value.empty()) {
    return Malformed("entry of an id", key, "its value is not of 16 bytes");
  }
  return entry;
}

struct StreamFrame {
  uint64_t frame = 0;
  int64_t unix_micros = 0;
};

absl::StatusOr<StreamFrame> ParseStreamFrame(absl::string_view key,
                                             absl::string_view value) {
  StreamFrame frame;
  if (!ConsumeFixed(&value, &frame.frame) ||
      !ConsumeFixed(&value, &frame.unix_micros) || !value.empty()) {
    return Malformed("frame of a stream", key, "its value is not of 16 bytes");
  }
  return frame;
}

absl::StatusOr<std::vector<std::optional<std::string>>> GetByOrdinal(
    const RecordStore& store, Table table, CollectionNumber number,
    const std::vector<Ordinal>& ordinals, const StoreSnapshot* snapshot) {
  std::vector<std::string> keys;
  keys.reserve(ordinals.size());
  for (Ordinal ordinal : ordinals) keys.push_back(OrdinalKey(number, ordinal));
  return store.MultiGet(table, {keys.begin(), keys.end()}, snapshot);
}

// Calls add(c) for each collection number c that follows the prefix `kind` in
// some key of `table`; seeks from one collection to the next.
absl::Status VisitCollections(
    const RecordStore& store, Table table, absl::string_view kind,
    const std::function<void(CollectionNumber)>& add) {
  std::string upper(kind);
  if (!upper.empty()) ++upper.back();
  const auto it = store.NewIterator(table, kind, upper);
  while (it->Valid()) {
    const absl::string_view key = it->key();
    if (key.size() < kind.size() + sizeof(CollectionNumber)) {
      return Malformed("row", key, "its key is too short");
    }
    const CollectionNumber number = GetBigEndian32(key.data() + kind.size());
    add(number);
    if (number == UINT32_MAX) break;
    it->Seek(absl::StrCat(kind, CollectionPrefix(number + 1)));
  }
  return it->status();
}

}  // namespace

std::string Manifest::Encode() const {
  std::string out;
  PutFixed<uint8_t>(&out, kManifestVersion);
  PutFixed<uint64_t>(&out, next_segment_number);
  PutFixed<uint64_t>(&out, sealed_below);
  PutFixed<uint32_t>(&out, static_cast<uint32_t>(segments.size()));
  for (const SegmentEntry& segment : segments) {
    PutFixed<uint64_t>(&out, segment.number);
    PutFixed<uint64_t>(&out, segment.num_rows);
    PutFixed<uint64_t>(&out, segment.min_ordinal);
    PutFixed<uint64_t>(&out, segment.max_ordinal);
  }
  return out;
}

absl::StatusOr<Manifest> Manifest::Decode(absl::string_view bytes) {
  const auto malformed = [](absl::string_view how) {
    return absl::DataLossError(
        absl::StrCat("A stored manifest is malformed: ", how,
                     "; restore the data folder from a backup."));
  };
  uint8_t version = 0;
  if (!ConsumeFixed(&bytes, &version)) return malformed("it is empty");
  if (version > kManifestVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("A stored manifest has version ", version,
                     " and this program reads up to ", kManifestVersion,
                     "; use the program that wrote it or a newer one."));
  }
  Manifest manifest;
  uint32_t num_segments = 0;
  if (version == 0 || !ConsumeFixed(&bytes, &manifest.next_segment_number) ||
      !ConsumeFixed(&bytes, &manifest.sealed_below) ||
      !ConsumeFixed(&bytes, &num_segments)) {
    return malformed("its header is damaged or cut short");
  }
  if (bytes.size() % kSegmentEntryBytes != 0 ||
      bytes.size() / kSegmentEntryBytes != num_segments) {
    return malformed(absl::StrCat(bytes.size(), " bytes follow for ",
                                  num_segments, " segments of ",
                                  kSegmentEntryBytes, " bytes"));
  }
  for (uint32_t i = 0; i < num_segments; ++i) {
    SegmentEntry segment;
    ConsumeFixed(&bytes, &segment.number);
    ConsumeFixed(&bytes, &segment.num_rows);
    ConsumeFixed(&bytes, &segment.min_ordinal);
    ConsumeFixed(&bytes, &segment.max_ordinal);
    const bool repeated = std::any_of(
        manifest.segments.begin(), manifest.segments.end(),
        [&](const auto& other) { return other.number == segment.number; });
    if (repeated || segment.number >= manifest.next_segment_number ||
        segment.num_rows > kInvalidRow ||
        segment.min_ordinal > segment.max_ordinal) {
      return malformed(
          absl::StrCat("segment ", segment.number, " with ", segment.num_rows,
                       " rows, ordinals ", segment.min_ordinal, " to ",
                       segment.max_ordinal, " is impossible or repeated"));
    }
    manifest.segments.push_back(segment);
  }
  return manifest;
}

absl::StatusOr<RecordView> RecordView::Decode(absl::string_view record) {
  const size_t size = record.size();
  const auto malformed = [&](absl::string_view how) {
    return absl::DataLossError(
        absl::StrCat("A stored record of ", size,
                     " bytes is malformed at byte ", size - record.size(), ": ",
                     how, "; restore the data folder from a backup."));
  };
  RecordView view;
  absl::string_view encoded_id;
  if (!ConsumeFixed(&record, &view.sequence)) return malformed("no sequence");
  if (!ConsumeLengthPrefixed(&record, &encoded_id)) return malformed("no id");
  absl::StatusOr<PointId> id = PointId::Decode(encoded_id);
  if (!id.ok()) return malformed(id.status().message());
  view.id = *std::move(id);
  while (!record.empty()) {
    Vector vector;
    ConsumeFixed(&record, &vector.field);
    if (!ConsumeLengthPrefixed(&record, &vector.bytes)) {
      return malformed(
          absl::StrCat("the vector of field ", vector.field, " is cut short"));
    }
    view.vectors.push_back(vector);
  }
  return view;
}

void AppendRecordBody(const PointId& id,
                      const std::vector<RecordView::Vector>& vectors,
                      std::string* out) {
  PutLengthPrefixed(out, id.Encode());
  for (const RecordView::Vector& vector : vectors) {
    PutFixed<uint8_t>(out, vector.field);
    PutLengthPrefixed(out, vector.bytes);
  }
}

void CollectionStore::PutId(WriteBatch* batch, const PointId& id,
                            IdEntry entry) const {
  std::string value;
  PutFixed<uint64_t>(&value, entry.ordinal);
  PutFixed<uint64_t>(&value, entry.sequence);
  batch->Put(Table::kIds, IdKey(number_, id), value);
}

void CollectionStore::DeleteId(WriteBatch* batch, const PointId& id) const {
  batch->Delete(Table::kIds, IdKey(number_, id));
}

void CollectionStore::PutRecord(WriteBatch* batch, Ordinal ordinal,
                                Sequence sequence,
                                absl::string_view body) const {
  std::string sequence_bytes;
  PutFixed<uint64_t>(&sequence_bytes, sequence);
  batch->PutParts(Table::kRecords, OrdinalKey(number_, ordinal),
                  {sequence_bytes, body});
}

void CollectionStore::PutPayload(WriteBatch* batch, Ordinal ordinal,
                                 absl::string_view json) const {
  batch->Put(Table::kPayloads, OrdinalKey(number_, ordinal), json);
}

void CollectionStore::KillVersion(WriteBatch* batch, Ordinal ordinal) const {
  const std::string key = OrdinalKey(number_, ordinal);
  batch->Delete(Table::kRecords, key);
  batch->Delete(Table::kPayloads, key);
  batch->Put(Table::kTombstones, key, "");
}

void CollectionStore::DeleteTombstone(WriteBatch* batch,
                                      Ordinal ordinal) const {
  batch->Delete(Table::kTombstones, OrdinalKey(number_, ordinal));
}

void CollectionStore::PutHead(WriteBatch* batch, const Head& head) const {
  std::string value;
  PutFixed<uint64_t>(&value, head.sequence);
  PutFixed<uint64_t>(&value, head.next_ordinal);
  batch->Put(Table::kMeta, MetaKey(kHeadKind, number_), value);
}

void CollectionStore::PutManifest(WriteBatch* batch,
                                  const Manifest& manifest) const {
  batch->Put(Table::kMeta, MetaKey(kManifestKind, number_), manifest.Encode());
}

void CollectionStore::PutStreamFrame(WriteBatch* batch,
                                     absl::string_view stream_id,
                                     uint64_t frame,
                                     int64_t unix_micros) const {
  std::string value;
  PutFixed<uint64_t>(&value, frame);
  PutFixed<int64_t>(&value, unix_micros);
  batch->Put(Table::kMeta,
             absl::StrCat(MetaKey(kStreamKind, number_), stream_id), value);
}

void CollectionStore::PutEncoder(WriteBatch* batch, uint8_t field,
                                 absl::string_view bytes) const {
  std::string key = MetaKey(kEncoderKind, number_);
  PutFixed(&key, field);
  batch->Put(Table::kMeta, key, bytes);
}

absl::StatusOr<std::optional<std::string>> CollectionStore::GetEncoder(
    uint8_t field) const {
  std::string key = MetaKey(kEncoderKind, number_);
  PutFixed(&key, field);
  return store_->Get(Table::kMeta, key);
}

absl::StatusOr<Head> CollectionStore::GetHead(
    const StoreSnapshot* snapshot) const {
  const std::string key = MetaKey(kHeadKind, number_);
  VICINAL_ASSIGN_OR_RETURN(const std::optional<std::string> value,
                           store_->Get(Table::kMeta, key, snapshot));
  Head head;
  if (!value.has_value()) return head;
  absl::string_view bytes = *value;
  if (!ConsumeFixed(&bytes, &head.sequence) ||
      !ConsumeFixed(&bytes, &head.next_ordinal) || !bytes.empty()) {
    return Malformed("head of a collection", key, "it is not of 16 bytes");
  }
  return head;
}

absl::StatusOr<Manifest> CollectionStore::GetManifest() const {
  VICINAL_ASSIGN_OR_RETURN(
      const std::optional<std::string> value,
      store_->Get(Table::kMeta, MetaKey(kManifestKind, number_)));
  if (!value.has_value()) return Manifest{};
  return Manifest::Decode(*value);
}

absl::StatusOr<std::vector<std::optional<IdEntry>>> CollectionStore::LookupIds(
    const std::vector<PointId>& ids, const StoreSnapshot* snapshot) const {
  std::vector<std::string> keys;
  keys.reserve(ids.size());
  for (const PointId& id : ids) keys.push_back(IdKey(number_, id));
  VICINAL_ASSIGN_OR_RETURN(
      const std::vector<std::optional<std::string>> values,
      store_->MultiGet(Table::kIds, {keys.begin(), keys.end()}, snapshot));
  std::vector<std::optional<IdEntry>> entries(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!values[i].has_value()) continue;
    VICINAL_ASSIGN_OR_RETURN(entries[i], ParseIdEntry(keys[i], *values[i]));
  }
  return entries;
}

absl::StatusOr<std::vector<std::optional<std::string>>>
CollectionStore::GetRecords(const std::vector<Ordinal>& ordinals,
                            const StoreSnapshot* snapshot) const {
  return GetByOrdinal(*store_, Table::kRecords, number_, ordinals, snapshot);
}

absl::StatusOr<std::vector<std::optional<std::string>>>
CollectionStore::GetPayloads(const std::vector<Ordinal>& ordinals,
                             const StoreSnapshot* snapshot) const {
  return GetByOrdinal(*store_, Table::kPayloads, number_, ordinals, snapshot);
}

absl::Status CollectionStore::ScanRecords(
    Ordinal first,
    const std::function<absl::Status(Ordinal, absl::string_view)>& visit)
    const {
  const auto it =
      store_->NewIterator(Table::kRecords, OrdinalKey(number_, first),
                          CollectionPrefix(number_ + 1));
  for (; it->Valid(); it->Next()) {
    VICINAL_ASSIGN_OR_RETURN(const Ordinal ordinal,
                             ParseOrdinalKey("record", it->key()));
    VICINAL_RETURN_IF_ERROR(visit(ordinal, it->value()));
  }
  return it->status();
}

absl::Status CollectionStore::ScanTombstones(
    const std::function<absl::Status(Ordinal)>& visit) const {
  const auto it =
      store_->NewIterator(Table::kTombstones, CollectionPrefix(number_),
                          CollectionPrefix(number_ + 1));
  for (; it->Valid(); it->Next()) {
    VICINAL_ASSIGN_OR_RETURN(const Ordinal ordinal,
                             ParseOrdinalKey("tombstone", it->key()));
    VICINAL_RETURN_IF_ERROR(visit(ordinal));
  }
  return it->status();
}

absl::Status CollectionStore::ScanIds(
    const std::optional<PointId>& after, const StoreSnapshot* snapshot,
    const std::function<absl::StatusOr<bool>(const PointId&, IdEntry)>& visit)
    const {
  // The smallest key above k is k with a zero byte behind it.
  const std::string lower = after.has_value() ? IdKey(number_, *after) + '\0'
                                              : CollectionPrefix(number_);
  const auto it = store_->NewIterator(Table::kIds, lower,
                                      CollectionPrefix(number_ + 1), snapshot);
  for (; it->Valid(); it->Next()) {
    const absl::string_view key = it->key();
    const absl::StatusOr<PointId> id =
        PointId::Decode(key.substr(sizeof(CollectionNumber)));
    if (!id.ok()) return Malformed("id", key, id.status().message());
    VICINAL_ASSIGN_OR_RETURN(const IdEntry entry,
                             ParseIdEntry(key, it->value()));
    VICINAL_ASSIGN_OR_RETURN(const bool go_on, visit(*id, entry));
    if (!go_on) return absl::OkStatus();
  }
  return it->status();
}

absl::StatusOr<std::optional<uint64_t>> CollectionStore::GetStreamFrame(
    absl::string_view stream_id) const {
  const std::string key =
      absl::StrCat(MetaKey(kStreamKind, number_), stream_id);
  VICINAL_ASSIGN_OR_RETURN(const std::optional<std::string> value,
                           store_->Get(Table::kMeta, key));
  if (!value.has_value()) return std::nullopt;
  VICINAL_ASSIGN_OR_RETURN(const StreamFrame frame,
                           ParseStreamFrame(key, *value));
  return frame.frame;
}

absl::Status CollectionStore::ForgetStreams(
    int64_t older_than_unix_micros) const {
  const auto it =
      store_->NewIterator(Table::kMeta, MetaKey(kStreamKind, number_),
                          MetaKey(kStreamKind, number_ + 1));
  WriteBatch batch;
  for (; it->Valid(); it->Next()) {
    VICINAL_ASSIGN_OR_RETURN(const StreamFrame frame,
                             ParseStreamFrame(it->key(), it->value()));
    if (frame.unix_micros < older_than_unix_micros) {
      batch.Delete(Table::kMeta, it->key());
    }
  }
  VICINAL_RETURN_IF_ERROR(it->status());
  if (batch.num_operations() == 0) return absl::OkStatus();
  // Remembering one for longer does no harm, so this need not be synced.
  return store_->Commit(std::move(batch), Durability::kBuffered);
}

absl::Status CollectionStore::DeleteAll() const {
  WriteBatch batch;
  for (char kind : kMetaKinds) {
    batch.DeleteRange(Table::kMeta, MetaKey(kind, number_),
                      MetaKey(kind, number_ + 1));
  }
  const std::string begin = CollectionPrefix(number_);
  const std::string end = CollectionPrefix(number_ + 1);
  for (Table table : kDataTables) batch.DeleteRange(table, begin, end);
  VICINAL_RETURN_IF_ERROR(
      store_->Commit(std::move(batch), Durability::kFsynced));
  for (Table table : kDataTables) {
    VICINAL_RETURN_IF_ERROR(store_->ReclaimSpace(table, begin, end));
  }
  return absl::OkStatus();
}

absl::Status PutDescriptor(RecordStore* store, CollectionNumber number,
                           absl::string_view descriptor) {
  WriteBatch batch;
  batch.Put(Table::kMeta, MetaKey(kDescriptorKind, number), descriptor);
  return store->Commit(std::move(batch), Durability::kFsynced);
}

absl::Status DeleteDescriptor(RecordStore* store, CollectionNumber number) {
  WriteBatch batch;
  batch.Delete(Table::kMeta, MetaKey(kDescriptorKind, number));
  return store->Commit(std::move(batch), Durability::kFsynced);
}

absl::StatusOr<std::vector<std::pair<CollectionNumber, std::string>>>
ListDescriptors(const RecordStore* store) {
  std::vector<std::pair<CollectionNumber, std::string>> descriptors;
  const auto it =
      store->NewIterator(Table::kMeta, std::string(1, kDescriptorKind),
                         std::string(1, kDescriptorKind + 1));
  for (; it->Valid(); it->Next()) {
    const absl::string_view key = it->key();
    if (key.size() != 1 + sizeof(CollectionNumber)) {
      return Malformed("descriptor", key,
                       absl::StrCat("its key has ", key.size(), " bytes"));
    }
    descriptors.emplace_back(GetBigEndian32(key.data() + 1),
                             std::string(it->value()));
  }
  VICINAL_RETURN_IF_ERROR(it->status());
  return descriptors;
}

absl::StatusOr<std::vector<CollectionNumber>> ListOrphans(
    const RecordStore* store) {
  std::vector<CollectionNumber> found;
  const auto add = [&](CollectionNumber number) { found.push_back(number); };
  for (char kind : kMetaKinds) {
    VICINAL_RETURN_IF_ERROR(
        VisitCollections(*store, Table::kMeta, std::string(1, kind), add));
  }
  for (Table table : kDataTables) {
    VICINAL_RETURN_IF_ERROR(VisitCollections(*store, table, "", add));
  }
  VICINAL_ASSIGN_OR_RETURN(const auto descriptors, ListDescriptors(store));
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  std::erase_if(found, [&](CollectionNumber number) {
    return std::any_of(
        descriptors.begin(), descriptors.end(),
        [&](const auto& descriptor) { return descriptor.first == number; });
  });
  return found;
}

absl::StatusOr<CollectionNumber> NextCollectionNumber(RecordStore* store) {
  VICINAL_ASSIGN_OR_RETURN(const std::optional<std::string> value,
                           store->Get(Table::kMeta, kNextNumberKey));
  CollectionNumber number = 1;
  if (value.has_value()) {
    absl::string_view bytes = *value;
    if (!ConsumeFixed(&bytes, &number) || !bytes.empty()) {
      return Malformed("next collection number", kNextNumberKey,
                       "it is not of 4 bytes");
    }
  }
  // Ranges end at the next number, so the last one stays unused.
  if (number == UINT32_MAX) {
    return absl::ResourceExhaustedError(
        absl::StrCat("All ", UINT32_MAX - 1,
                     " collection numbers are used up; "
                     "export the collections into a new data folder."));
  }
  std::string next;
  PutFixed<uint32_t>(&next, number + 1);
  WriteBatch batch;
  batch.Put(Table::kMeta, kNextNumberKey, next);
  VICINAL_RETURN_IF_ERROR(
      store->Commit(std::move(batch), Durability::kFsynced));
  return number;
}

}  // namespace vicinal
