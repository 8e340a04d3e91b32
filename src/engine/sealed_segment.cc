#include "src/engine/sealed_segment.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "index/flat.h"
#include "index/hnsw.h"
#include "index/ivf.h"
#include "src/base/coding.h"
#include "src/base/page_memory.h"
#include "src/base/point_id.h"
#include "src/base/section_file.h"
#include "src/base/status_macros.h"
#include "src/engine/id_table.h"
#include "src/engine/lexical_query.h"
#include "src/engine/multi_rows.h"
#include "src/engine/row_filter.h"
#include "src/engine/segment_file.h"

namespace vicinal {

using segment_file::FieldMeta;
using segment_file::SectionName;

namespace {

constexpr size_t kMetaHeaderBytes = 24;
constexpr double kDeepRecall = 0.99;

// Sections are page-aligned, so any element type may lie in them.
template <typename T>
absl::StatusOr<std::span<const T>> SectionOf(const SectionFile& file,
                                             absl::string_view name,
                                             size_t count) {
  VICINAL_ASSIGN_OR_RETURN(const absl::string_view bytes, file.Section(name));
  if (bytes.size() / sizeof(T) != count || bytes.size() % sizeof(T) != 0) {
    return absl::DataLossError(
        absl::StrCat(file.path(), ": section ", name, " has ", bytes.size(),
                     " bytes, not ", count, " elements of ", sizeof(T)));
  }
  return std::span<const T>(reinterpret_cast<const T*>(bytes.data()), count);
}

bool LooksLikeId(absl::string_view encoded) {
  if (encoded.empty()) return false;
  switch (encoded[0]) {
    case 1:
      return encoded.size() == 9;
    case 2:
      return encoded.size() == 17;
    case 3:
      return encoded.size() > 1 &&
             encoded.size() <= 1 + PointId::kMaxStringBytes;
    default:
      return false;
  }
}

// A lost file is as good as a damaged one: it can be made anew.
absl::Status AsDataLoss(absl::Status status) {
  return absl::IsNotFound(status) ? absl::DataLossError(status.message())
                                  : status;
}

}  // namespace

absl::StatusOr<std::shared_ptr<SealedSegment>> SealedSegment::Open(
    std::shared_ptr<const Layout> layout, const std::string& folder,
    const SegmentEntry& entry, SegmentPlacement placement) {
  std::shared_ptr<SealedSegment> segment(new SealedSegment());
  segment->placement_ = placement;
  segment->layout_ = std::move(layout);
  segment->entry_ = entry;
  auto index_file = SectionFile::Open(
      segment_file::IndexPath(folder, entry.number), segment_file::kIndexKind,
      segment_file::kIndexVersion, SectionFile::Verify::kAll);
  if (!index_file.ok()) return AsDataLoss(index_file.status());
  segment->index_file_ = *std::move(index_file);
  auto vectors_file = SectionFile::Open(
      segment_file::VectorsPath(folder, entry.number),
      segment_file::kVectorsKind, segment_file::kVectorsVersion,
      SectionFile::Verify::kHeaders);
  if (!vectors_file.ok()) return AsDataLoss(vectors_file.status());
  segment->vectors_file_ = *std::move(vectors_file);
  VICINAL_RETURN_IF_ERROR(segment->Load());
  return segment;
}

absl::Status SealedSegment::Damaged(absl::string_view what) const {
  return absl::DataLossError(absl::StrCat(index_file_->path(), ": ", what));
}

absl::Status SealedSegment::Load() {
  VICINAL_ASSIGN_OR_RETURN(const absl::string_view vectors_meta,
                           vectors_file_->Section("META"));
  if (vectors_meta.size() != 8 ||
      GetFixed<uint64_t>(vectors_meta.data()) != entry_.number) {
    return Damaged("its vectors file is another segment's");
  }
  VICINAL_ASSIGN_OR_RETURN(absl::string_view meta,
                           index_file_->Section("META"));
  const size_t num_fields = layout_->fields.size();
  const size_t num_lexical = layout_->lexical.size();
  const auto list_bytes = [](size_t count, size_t size) {
    return count == 0 ? 0 : sizeof(uint64_t) + count * size;
  };
  const size_t lexical_bytes =
      list_bytes(num_lexical, sizeof(segment_file::LexicalMeta));
  const size_t multi_bytes =
      list_bytes(layout_->multi.size(), sizeof(segment_file::MultiMeta));
  if (meta.size() != kMetaHeaderBytes + num_fields * sizeof(FieldMeta) +
                         lexical_bytes + multi_bytes ||
      GetFixed<uint64_t>(meta.data()) != entry_.number ||
      GetFixed<uint64_t>(meta.data() + 8) != entry_.num_rows ||
      GetFixed<uint64_t>(meta.data() + 16) != num_fields ||
      entry_.num_rows >= kInvalidRow) {
    return Damaged("does not describe the segment of the manifest");
  }
  meta.remove_prefix(kMetaHeaderBytes);
  dead_ = std::make_unique<AtomicBitmap>(entry_.num_rows);
  VICINAL_RETURN_IF_ERROR(LoadIds());
  for (size_t f = 0; f < num_fields; ++f) {
    fields_.emplace_back();
    VICINAL_RETURN_IF_ERROR(LoadField(f, meta.substr(0, sizeof(FieldMeta))));
    meta.remove_prefix(sizeof(FieldMeta));
  }
  VICINAL_RETURN_IF_ERROR(LoadLexical(meta));
  VICINAL_RETURN_IF_ERROR(LoadMulti(meta.substr(lexical_bytes)));
  if (placement_.tier != MemoryTier::kMapped) {
    index_file_->DropPages();  // what searches read was copied
  }
  if (placement_.tier == MemoryTier::kPinned) Pin();
  return absl::OkStatus();
}

void SealedSegment::Pin() {
  const auto pin = [&](const void* data, size_t size) {
    if (LockPages(data, size)) {
      pinned_bytes_ += size;
    } else {
      is_placed_ = false;
    }
  };
  for (const MappedBuffer& bytes : lexical_bytes_) {
    pin(bytes.data(), bytes.size_bytes());
  }
  for (const MappedBuffer& bytes : multi_bytes_) {
    pin(bytes.data(), bytes.size_bytes());
  }
  for (size_t m = 0; m < multi_.size(); ++m) {
    for (const char* prefix : {"MT", "MO", "MX", "ME"}) {
      const auto bytes = vectors_file_->Section(SectionName(prefix, m));
      if (bytes.ok()) pin(bytes->data(), bytes->size());
    }
  }
  for (const Field& field : fields_) {
    pin(field.hot.data(), field.hot.size_bytes());
    pin(field.vectors.data,
        field.vectors.num_rows * field.vectors.stride_bytes);
  }
}

size_t SealedSegment::resident_bytes() const {
  size_t bytes = 0;
  for (const SectionFile* file : {index_file_.get(), vectors_file_.get()}) {
    bytes += ResidentBytes(file->mapped().data(), file->mapped().size());
  }
  return bytes;
}

absl::Status SealedSegment::LoadIds() {
  const size_t n = entry_.num_rows;
  VICINAL_ASSIGN_OR_RETURN(ordinals_,
                           SectionOf<uint64_t>(*index_file_, "ORDINALS", n));
  VICINAL_ASSIGN_OR_RETURN(by_ordinal_,
                           SectionOf<uint32_t>(*index_file_, "BYORD", n));
  // Strictly ascending ordinals make it a permutation, too.
  for (size_t i = 0; i < n; ++i) {
    if (by_ordinal_[i] >= n ||
        (i > 0 && ordinals_[by_ordinal_[i - 1]] >= ordinals_[by_ordinal_[i]])) {
      return Damaged("BYORD does not sort the ordinals");
    }
  }
  if (n > 0 && (ordinals_[by_ordinal_[0]] != entry_.min_ordinal ||
                ordinals_[by_ordinal_[n - 1]] != entry_.max_ordinal)) {
    return Damaged("holds other ordinals than the manifest says");
  }
  VICINAL_ASSIGN_OR_RETURN(ids_, index_file_->Section("IDS"));
  VICINAL_ASSIGN_OR_RETURN(id_offsets_,
                           SectionOf<uint64_t>(*index_file_, "IDOFFS", n + 1));
  if (id_offsets_[0] != 0 || id_offsets_[n] != ids_.size()) {
    return Damaged("IDOFFS does not span IDS");
  }
  for (size_t i = 0; i < n; ++i) {
    if (id_offsets_[i] > id_offsets_[i + 1] ||
        id_offsets_[i + 1] > ids_.size() ||
        !LooksLikeId(EncodedId(static_cast<RowId>(i)))) {
      return Damaged("IDS holds something that is no id");
    }
  }
  VICINAL_ASSIGN_OR_RETURN(
      id_slots_,
      SectionOf<uint64_t>(*index_file_, "IDTABLE", id_table::NumSlots(n)));
  for (const uint64_t slot : id_slots_) {
    if (slot != 0 && id_table::Row(slot) >= n) {
      return Damaged("IDTABLE points outside the segment");
    }
  }
  return absl::OkStatus();
}

absl::string_view SealedSegment::Placed(absl::string_view bytes,
                                        MappedBuffer* buffer) {
  const bool fits = placement_.tier != MemoryTier::kMapped &&
                    ram_bytes_ + bytes.size() <= placement_.max_ram_bytes;
  is_placed_ &= fits || placement_.tier == MemoryTier::kMapped;
  if (!fits) return bytes;
  *buffer = MappedBuffer(bytes.size());
  ram_bytes_ += bytes.size();
  std::memcpy(buffer->data(), bytes.data(), bytes.size());
  return {reinterpret_cast<const char*>(buffer->data()), bytes.size()};
}

absl::Status SealedSegment::LoadLexical(absl::string_view meta) {
  const size_t num_fields = layout_->lexical.size();
  if (num_fields == 0) return absl::OkStatus();
  if (GetFixed<uint64_t>(meta.data()) != num_fields) {
    return Damaged("has other sparse vectors or texts than the schema");
  }
  meta.remove_prefix(sizeof(uint64_t));
  for (size_t l = 0; l < num_fields; ++l) {
    const LexicalLayout& layout = layout_->lexical[l];
    const segment_file::LexicalMeta wanted = segment_file::MetaOf(layout);
    if (std::memcmp(meta.data(), &wanted, sizeof(wanted)) != 0) {
      return Damaged(absl::StrCat("sparse vector or text ", l,
                                  " does not fit the schema"));
    }
    meta.remove_prefix(sizeof(wanted));
    LexicalView bytes;
    VICINAL_ASSIGN_OR_RETURN(bytes.index,
                             index_file_->Section(SectionName("X", l)));
    bytes.index = Placed(bytes.index, &lexical_bytes_.emplace_back());
    if (layout.kind == LexicalKind::kText) {
      VICINAL_ASSIGN_OR_RETURN(bytes.words,
                               index_file_->Section(SectionName("W", l)));
      if (layout.positions) {
        VICINAL_ASSIGN_OR_RETURN(bytes.positions,
                                 index_file_->Section(SectionName("P", l)));
      }
    }
    auto field = SealedLexicalField::Open(bytes, layout.kind, layout.positions,
                                          entry_.num_rows);
    if (!field.ok()) return Damaged(field.status().message());
    lexical_.push_back(*std::move(field));
  }
  return absl::OkStatus();
}

absl::Status SealedSegment::LoadMulti(absl::string_view meta) {
  const size_t num_fields = layout_->multi.size();
  if (num_fields == 0) return absl::OkStatus();
  if (GetFixed<uint64_t>(meta.data()) != num_fields) {
    return Damaged("has other multi-vectors than the schema");
  }
  meta.remove_prefix(sizeof(uint64_t));
  for (size_t m = 0; m < num_fields; ++m) {
    const MultiSpec& spec = layout_->multi[m];
    segment_file::MultiMeta found;
    std::memcpy(&found, meta.data(), sizeof(found));
    meta.remove_prefix(sizeof(found));
    const segment_file::MultiMeta wanted = segment_file::MetaOf(spec);
    // How it was built is its own.
    if (found.dim != wanted.dim || found.type != wanted.type ||
        found.cosine != wanted.cosine) {
      return Damaged(
          absl::StrCat("multi-vector ", m, " does not fit the schema"));
    }
    auto field = SealedMultiField::Open(
        *vectors_file_, *index_file_, m, spec, entry_.num_rows,
        [this](absl::string_view bytes) {
          return Placed(bytes, &multi_bytes_.emplace_back());
        });
    if (absl::IsDataLoss(field.status())) {
      return Damaged(field.status().message());
    }
    VICINAL_RETURN_IF_ERROR(field.status());
    multi_.push_back(*std::move(field));
    const TokenDocuments documents = multi_.back()->documents();
    multi_copies_.push_back(
        documents.num_docs == 0
            ? nullptr
            : std::make_shared<DeviceCopy>(documents, weak_from_this()));
  }
  return absl::OkStatus();
}

absl::Status SealedSegment::LoadField(size_t f, absl::string_view meta_bytes) {
  FieldMeta meta;
  std::memcpy(&meta, meta_bytes.data(), sizeof(meta));
  const FieldLayout& layout = layout_->fields[f];
  Field& field = fields_[f];
  if (meta.dim != layout.dim ||
      meta.type != static_cast<uint8_t>(layout.type) ||
      meta.metric != static_cast<uint8_t>(layout.metric) ||
      meta.stride_bytes < layout.row_bytes ||
      meta.stride_bytes > layout.row_bytes * 2 ||
      meta.num_rows > entry_.num_rows) {
    return Damaged(absl::StrCat("field ", f, " does not fit the schema"));
  }
  VICINAL_ASSIGN_OR_RETURN(
      const auto bytes,
      SectionOf<std::byte>(*vectors_file_, SectionName("V", f),
                           meta.num_rows * meta.stride_bytes));
  field.vectors = {bytes.data(), meta.num_rows, layout.dim, meta.stride_bytes,
                   layout.type};
  field.hidden = std::make_unique<AtomicBitmap>(meta.num_rows);
  field.flat = std::make_unique<FlatIndex>(field.vectors, layout.search_metric);
  if (meta.num_rows > 0) {
    field.device_copy = std::make_shared<DeviceCopy>(
        SegmentRows{field.vectors, layout.search_metric}, weak_from_this());
  }
  if ((meta.flags & segment_file::kHasRowMaps) != 0) {
    VICINAL_RETURN_IF_ERROR(LoadRowMaps(f));
  }
  if ((meta.flags & (segment_file::kHasLists | segment_file::kHasGraph)) == 0) {
    return absl::OkStatus();
  }
  return LoadIndex(f, meta.flags);
}

absl::Status SealedSegment::LoadIndex(size_t f, uint8_t flags) {
  Field& field = fields_[f];
  const Metric metric = layout_->fields[f].search_metric;
  const bool has_codes = (flags & segment_file::kHasCodes) != 0;
  const bool in_blocks = (flags & segment_file::kHasCodeBlocks) != 0;
  const bool has_lists = (flags & segment_file::kHasLists) != 0;
  // (Version 3 had records in lists: such files are made anew.)
  if (in_blocks != (has_lists && has_codes)) {
    return Damaged(absl::StrCat("field ", f, " has codes in another form"));
  }
  std::span<const uint8_t> codes;
  if (has_codes) {
    VICINAL_ASSIGN_OR_RETURN(codes, LoadCodes(f, in_blocks));
  }
  VICINAL_ASSIGN_OR_RETURN(
      absl::string_view structure,
      index_file_->Section(SectionName(has_lists ? "L" : "G", f)));

  const size_t structure_bytes = (structure.size() + 63) / 64 * 64;
  field.code_bytes = codes.size();
  const size_t hot_bytes = structure_bytes + field.code_bytes;
  const bool fits = placement_.tier != MemoryTier::kMapped &&
                    ram_bytes_ + hot_bytes <= placement_.max_ram_bytes;
  is_placed_ &= fits || placement_.tier == MemoryTier::kMapped;
  if (fits) {
    field.hot = MappedBuffer(hot_bytes);
    ram_bytes_ += hot_bytes;
    auto* hot = reinterpret_cast<uint8_t*>(field.hot.data());
    std::memcpy(hot, structure.data(), structure.size());
    uint8_t* copied = hot + structure_bytes;
    if (has_codes) std::memcpy(copied, codes.data(), codes.size());
    structure = {reinterpret_cast<const char*>(hot), structure.size()};
    codes = {copied, codes.size()};
  }

  if (has_lists) {
    auto ivf = IvfIndex::Open(field.vectors, metric, structure);
    if (!ivf.ok()) return Damaged(ivf.status().message());
    (*ivf)->UseCodes(field.codec.get(), codes.data());
    field.lists = ivf->get();
    field.index = *std::move(ivf);
  } else {
    VICINAL_ASSIGN_OR_RETURN(
        auto graph, HnswIndex::Open(field.vectors, metric, structure,
                                    {field.codec.get(), codes.data()}));
    VICINAL_ASSIGN_OR_RETURN(auto cells, LoadCells(f, flags, codes.data()));
    graph->UseCells(std::move(cells));
    field.index = std::move(graph);
  }
  return LoadCalibration(f, flags);
}

absl::StatusOr<std::unique_ptr<const IvfIndex>> SealedSegment::LoadCells(
    size_t f, uint8_t flags, const uint8_t* codes) {
  if ((flags & segment_file::kHasCells) == 0) return nullptr;
  Field& field = fields_[f];
  VICINAL_ASSIGN_OR_RETURN(const absl::string_view lists,
                           index_file_->Section(SectionName("L", f)));
  VICINAL_ASSIGN_OR_RETURN(absl::string_view table,
                           index_file_->Section(SectionName("D", f)));
  field.cells = ReadTable(/*flags=*/0, SIZE_MAX, &table);
  auto cells =
      IvfIndex::Open(field.vectors, layout_->fields[f].search_metric, lists);
  if (!cells.ok()) return Damaged(cells.status().message());
  if (field.codec != nullptr) (*cells)->UseRecords(field.codec.get(), codes);
  return *std::move(cells);
}

std::vector<RecallPoint> SealedSegment::ReadTable(uint8_t flags, size_t count,
                                                  absl::string_view* bytes) {
  const bool has_codes = (flags & segment_file::kHasCodes) != 0;
  const bool has_reach = (flags & segment_file::kHasReach) != 0;
  std::vector<RecallPoint> table;
  RecallPoint point;
  while (table.size() < count && ConsumeFixed(bytes, &point.recall) &&
         ConsumeFixed(bytes, &point.k) && ConsumeFixed(bytes, &point.ef) &&
         (!has_codes || ConsumeFixed(bytes, &point.rerank)) &&
         (!has_reach || ConsumeFixed(bytes, &point.reach))) {
    table.push_back(point);
  }
  return table;
}

absl::Status SealedSegment::LoadCalibration(size_t f, uint8_t flags) {
  VICINAL_ASSIGN_OR_RETURN(absl::string_view table,
                           index_file_->Section(SectionName("C", f)));
  fields_[f].Calibrate(ReadTable(flags, SIZE_MAX, &table));
  if ((flags & segment_file::kHasPartitions) == 0) return absl::OkStatus();
  VICINAL_ASSIGN_OR_RETURN(absl::string_view tables,
                           index_file_->Section(SectionName("T", f)));
  std::vector<PartitionEfforts>& partitions = fields_[f].partitions;
  PartitionEfforts next;
  uint32_t count = 0;
  while (ConsumeFixed(&tables, &next.max_lists) &&
         ConsumeFixed(&tables, &count)) {
    next.table = ReadTable(flags & ~segment_file::kHasReach, count, &tables);
    if (next.table.size() != count || fields_[f].lists == nullptr ||
        (!partitions.empty() &&
         next.max_lists <= partitions.back().max_lists)) {
      return Damaged(absl::StrCat("field ", f, " has tables of no partition"));
    }
    partitions.push_back(std::move(next));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::span<const uint8_t>> SealedSegment::LoadCodes(
    size_t f, bool in_blocks) {
  Field& field = fields_[f];
  VICINAL_ASSIGN_OR_RETURN(const absl::string_view model,
                           index_file_->Section(SectionName("M", f)));
  auto codec = Codec::Parse(model);
  if (!codec.ok()) return Damaged(codec.status().message());
  field.codec = *std::move(codec);
  if (field.codec->dim() != layout_->fields[f].dim ||
      field.codec->metric() != layout_->fields[f].search_metric) {
    return Damaged(absl::StrCat("the codec of field ", f, " is another's"));
  }
  const CodeLayout& code = field.codec->layout();
  const size_t num_rows = field.vectors.num_rows;
  return SectionOf<uint8_t>(*index_file_, SectionName("K", f),
                            in_blocks ? CodeBlocksBytes(code, num_rows)
                                      : num_rows * code.record_bytes);
}

absl::Status SealedSegment::LoadRowMaps(size_t f) {
  Field& field = fields_[f];
  const size_t field_rows = field.vectors.num_rows;
  VICINAL_ASSIGN_OR_RETURN(
      field.to_row,
      SectionOf<uint32_t>(*index_file_, SectionName("R", f), field_rows));
  VICINAL_ASSIGN_OR_RETURN(
      field.to_field,
      SectionOf<uint32_t>(*index_file_, SectionName("I", f), entry_.num_rows));
  // Each field row's segment row must lead back to it, and no others exist.
  for (size_t i = 0; i < field_rows; ++i) {
    if (field.to_row[i] >= entry_.num_rows ||
        field.to_field[field.to_row[i]] != i) {
      return Damaged(absl::StrCat("the row maps of field ", f, " differ"));
    }
  }
  const size_t num_mapped =
      entry_.num_rows -
      std::count(field.to_field.begin(), field.to_field.end(), kInvalidRow);
  if (num_mapped != field_rows) {
    return Damaged(absl::StrCat("the row maps of field ", f, " differ"));
  }
  return absl::OkStatus();
}

PointId SealedSegment::IdOf(RowId row) const {
  // The checksum held at Open, so these are the bytes that were encoded.
  return PointId::Decode(EncodedId(row)).value_or(PointId());
}

RowId SealedSegment::FieldRow(const Field& field, RowId row) const {
  if (!field.to_field.empty()) return field.to_field[row];
  return row < field.vectors.num_rows ? row : kInvalidRow;
}

const std::byte* SealedSegment::VectorOf(size_t f, RowId row) const {
  const RowId field_row = FieldRow(fields_[f], row);
  return field_row == kInvalidRow ? nullptr : fields_[f].vectors.row(field_row);
}

std::optional<RowId> SealedSegment::FindOrdinal(Ordinal ordinal) const {
  if (ordinal < entry_.min_ordinal || ordinal > entry_.max_ordinal) {
    return std::nullopt;
  }
  const auto found = std::lower_bound(
      by_ordinal_.begin(), by_ordinal_.end(), ordinal,
      [&](uint32_t row, Ordinal wanted) { return ordinals_[row] < wanted; });
  if (found == by_ordinal_.end() || ordinals_[*found] != ordinal) {
    return std::nullopt;
  }
  return *found;
}

std::optional<RowId> SealedSegment::FindId(const PointId& id,
                                           uint64_t hash) const {
  std::string encoded;  // made when a tag matches only
  return id_table::Find(id_slots_, hash, [&](RowId row) {
    if (encoded.empty()) encoded = id.Encode();
    return EncodedId(row) == absl::string_view(encoded) && !dead_->Test(row);
  });
}

bool SealedSegment::Kill(RowId row) {
  for (Field& field : fields_) {
    const RowId field_row = FieldRow(field, row);
    if (field_row != kInvalidRow) field.hidden->Set(field_row);
  }
  if (!dead_->Set(row)) return false;
  for (const auto& field : lexical_) field->Kill(row);
  for (const auto& field : multi_) field->Kill(row);
  return true;
}

bool SealedSegment::IsExact(const SegmentQuery& query) const {
  if (query.lexical != nullptr) return query.lexical->is_exact();
  if (query.multi != nullptr) {
    return multi_[query.multi->m]->IsExact(query.multi->params);
  }
  const Field& field = fields_[query.field];
  return query.exact || field.index == nullptr ||
         (!field.EffortOf(query).has_value() && query.recall_target >= 1);
}

const std::vector<RecallPoint>& SealedSegment::Field::TableFor(
    const Filter& filter) const {
  if (!partitions.empty() && filter.HasRange()) {
    const size_t num_lists = lists->NumListsOf(filter);
    const auto found = std::find_if(partitions.begin(), partitions.end() - 1,
                                    [&](const PartitionEfforts& efforts) {
                                      return efforts.max_lists >= num_lists;
                                    });
    return found->table;
  }
  return *calibration.load(std::memory_order_acquire);
}

Filter SealedSegment::FilterOf(const Field& field, const RowSet* rows,
                               std::optional<Bitmap>* bits) const {
  if (rows == nullptr) return {.deleted = field.hidden.get()};
  const size_t n = field.vectors.num_rows;
  if (n == num_rows() && field.to_field.empty()) {
    return rows->AsFilter(field.hidden.get());
  }
  Filter filter{.deleted = field.hidden.get(), .begin = kInvalidRow, .end = 0};
  rows->ForEach([&](RowId row) {
    const RowId field_row = FieldRow(field, row);
    if (field_row == kInvalidRow) return;
    filter.begin = std::min(filter.begin, field_row);
    filter.end = std::max(filter.end, field_row + 1);
    ++filter.num_allowed;
  });
  if (filter.num_allowed == 0) {
    filter.begin = 0;
  } else if (filter.end - filter.begin != filter.num_allowed) {
    bits->emplace(n);
    rows->ForEach([&](RowId row) {
      const RowId field_row = FieldRow(field, row);
      if (field_row != kInvalidRow) (*bits)->Set(field_row);
    });
    filter.allowed = &**bits;
    // Only what lies together is worth a range of its own.
    if (rows->end == kInvalidRow) {
      filter.begin = 0;
      filter.end = kInvalidRow;
    }
  }
  return filter;
}

SearchParams SealedSegment::ParamsFor(const Field& field,
                                      const SegmentQuery& query,
                                      const Filter& filter) const {
  const std::vector<RecallPoint>& table = field.TableFor(filter);
  SearchParams params;
  if (const std::optional<size_t> effort = field.EffortOf(query)) {
    params.ef = *effort;
    if (field.lists != nullptr) {
      // The lists were chosen; the depth of reranking follows from what nearly
      // exact searches need.
      params.rerank = ParamsForRecall(table, query.k, kDeepRecall).rerank;
    }
  } else {
    params = ParamsForRecall(table, query.k, query.recall_target);
    if (filter.allowed != nullptr)
      AddFilterEffort(field, query, filter, &params);
  }
  params.k = query.k;
  params.force = query.force;
  return params;
}

// The k nearest of those that pass are among as many more of all as are left
// out, so lists are read, or a graph is walked, as for so many.
void SealedSegment::AddFilterEffort(const Field& field,
                                    const SegmentQuery& query,
                                    const Filter& filter,
                                    SearchParams* params) const {
  const double share =
      static_cast<double>(filter.num_allowed) /
      static_cast<double>(filter.RangeRows(field.vectors.num_rows));
  const auto deep = static_cast<size_t>(static_cast<double>(query.k) / share);
  const SearchParams deeper = ParamsForRecall(
      field.TableFor(filter), std::max(deep, query.k), query.recall_target);
  if (field.lists != nullptr) {
    params->filtered_ef = deeper.ef;
    params->filtered_reach = deeper.reach;
    return;
  }
  if (!field.cells.empty()) {
    // Codes miss some of what the lists have.
    constexpr double kOfMisses = 0.7;
    const double target = 1 - kOfMisses * (1 - query.recall_target);
    params->cells = ParamsForRecall(field.cells, query.k, target).ef;
    params->filtered_ef =
        ParamsForRecall(field.cells, std::max(deep, query.k), target).ef;
  }
  // Its pool holds only those that pass.
  const auto passing =
      static_cast<size_t>(std::ceil(static_cast<double>(deeper.ef) * share));
  params->filtered_pool =
      std::min(params->ef, std::max({passing, query.k, params->rerank}));
}

absl::Status SealedSegment::Search(const SegmentQuery& query,
                                   const StopCondition& stop, TopK* out,
                                   SearchStats* stats) const {
  if (query.lexical != nullptr) {
    return query.lexical->Search(*this, 0, static_cast<RowId>(num_rows()),
                                 query, stop, out, stats);
  }
  if (query.multi != nullptr) {
    VICINAL_ASSIGN_OR_RETURN(const bool is_answered,
                             SearchTokensOnDevice(query, stop, out, stats));
    if (is_answered) return absl::OkStatus();
    return SearchTokens(query, *multi_[query.multi->m], 0,
                        static_cast<RowId>(num_rows()), stop, out, stats);
  }
  const Field& field = fields_[query.field];
  std::optional<Bitmap> bits;
  const Filter filter = FilterOf(field, query.rows, &bits);
  if (query.rows != nullptr && filter.num_allowed == 0) return absl::OkStatus();
  if (query.device != nullptr && Scans(query)) {
    VICINAL_ASSIGN_OR_RETURN(
        const std::vector<Neighbor> found,
        AskDevice(field, query, filter, {.vectors = query.vector}, stop));
    for (const Neighbor& neighbor : found) {
      if (neighbor.row != kInvalidRow) out->Push(neighbor);
    }
    if (!found.empty()) {
      if (stats != nullptr) {
        stats->plan = SearchPlan::kDevice;
        stats->distance_computations +=
            filter.NumAccepted(field.vectors.num_rows);
      }
      return absl::OkStatus();
    }
  }
  const bool is_exact = IsExact(query);
  const Index& index =
      is_exact ? static_cast<const Index&>(*field.flat) : *field.index;
  const SearchParams params =
      is_exact ? SearchParams{.k = query.k, .force = query.force}
               : ParamsFor(field, query, filter);
  if (field.to_row.empty()) {
    return index.Search(query.vector, params, filter, stop, out, stats);
  }
  TopK by_field_row(query.k);
  const absl::Status status =
      index.Search(query.vector, params, filter, stop, &by_field_row, stats);
  for (const Neighbor& neighbor : by_field_row.TakeSorted()) {
    out->Push({neighbor.distance, field.to_row[neighbor.row]});
  }
  return status;
}

absl::Status SealedSegment::Recalibrate(size_t f, VectorSetView queries,
                                        size_t num_threads,
                                        const CancelToken* cancel) {
  VICINAL_ASSIGN_OR_RETURN(
      std::vector<RecallPoint> table,
      fields_[f].index->Calibrate(num_threads, cancel, queries));
  fields_[f].Calibrate(std::move(table));
  return absl::OkStatus();
}

SegmentStats SealedSegment::stats() const {
  SegmentStats stats;
  stats.number = entry_.number;
  stats.state = SegmentState::kSealed;
  stats.num_rows = num_rows();
  stats.num_deleted = num_deleted();
  for (const Field& field : fields_) {
    stats.indexes.push_back(field.index == nullptr   ? SegmentIndex::kNone
                            : field.lists != nullptr ? SegmentIndex::kLists
                                                     : SegmentIndex::kGraph);
    stats.vector_bytes += field.vectors.num_rows * field.vectors.stride_bytes;
    if (field.index != nullptr) {
      stats.index_bytes += field.index->memory_bytes();
    }
    stats.code_bytes += field.code_bytes;
  }
  for (const auto& field : lexical_) {
    stats.index_bytes += field->memory_bytes();
  }
  for (const auto& field : multi_) {
    stats.vector_bytes += field->token_bytes();
    stats.index_bytes += field->index_bytes();
    stats.encoders.push_back(field->Describe());
  }
  stats.file_bytes = index_file_->size_bytes() + vectors_file_->size_bytes();
  stats.ram_bytes = ram_bytes_;
  stats.pinned_bytes = pinned_bytes_;
  return stats;
}

size_t SealedSegment::live_vector_bytes() const {
  size_t bytes = 0;
  for (const Field& field : fields_) {
    bytes += (field.vectors.num_rows - field.hidden->Count()) *
             field.vectors.stride_bytes;
  }
  for (const auto& field : lexical_) {
    bytes +=
        field->memory_bytes() * num_live() / std::max<size_t>(1, num_rows());
  }
  for (const auto& field : multi_) {
    bytes +=
        field->token_bytes() * num_live() / std::max<size_t>(1, num_rows());
  }
  return bytes;
}

}  // namespace vicinal
