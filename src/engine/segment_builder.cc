#include "src/engine/segment_builder.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "index/calibration.h"
#include "index/cell_order.h"
#include "index/encode_device.h"
#include "index/hnsw.h"
#include "index/ivf.h"
#include "index/sealed_lexical.h"
#include "index/sealed_multi.h"
#include "quant/codec.h"
#include "src/base/check.h"
#include "src/base/coding.h"
#include "src/base/mapped_buffer.h"
#include "src/base/section_file.h"
#include "src/base/status_macros.h"
#include "src/base/vector_set.h"
#include "src/engine/id_table.h"
#include "src/engine/memory_plan.h"
#include "src/engine/segment_file.h"

namespace vicinal {
namespace {

using segment_file::FieldMeta;
using segment_file::SectionName;

// Queries from which on they take the place of rows in a calibration.
constexpr size_t kMinQueries = 128;

template <typename T>
absl::string_view AsBytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()),
          values.size() * sizeof(T)};
}

class SegmentBuild {
 public:
  SegmentBuild(const CollectionSchema& schema,
               std::shared_ptr<const Layout> layout,
               const std::vector<std::shared_ptr<Segment>>& sources,
               const SegmentBuildOptions& options)
      : schema_(schema),
        layout_(std::move(layout)),
        sources_(sources),
        options_(options),
        fields_(layout_->fields.size()) {}

  absl::StatusOr<BuiltSegment> Run();

 private:
  struct RowRef {
    uint32_t source;
    RowId row;
  };
  struct Field {
    std::vector<uint32_t>
        rows;  // of field row i: its gathered (later: new) row
    bool has_maps = false;
    bool has_index = false;
    std::string lists;  // or cells; of those that have an index
    // Of field rows; empty: there are no partitions.
    std::vector<uint32_t> partition_ends;
    uint8_t flags = 0;  // what was written, of FieldMeta::flags
  };
  // What is searched instead of the vectors.
  struct BuiltIndex {
    bool is_lists = false;
    std::string structure;
    std::unique_ptr<const Codec> codec;  // null: searched as it is
    std::vector<uint8_t> codes;
    std::vector<RecallPoint> calibration;
    std::vector<PartitionEfforts> partitions;
    std::vector<RecallPoint> cells;  // of a graph
    double mean_cost = 0;
  };

  void Gather();
  absl::Status OrderRows();
  // Sorts rows of rows_ by their partition, those of one staying as they are.
  void SortByPartition(std::vector<uint32_t>* rows) const;
  // Moves the field's rows into the order of its lists or cells.
  absl::Status OrderCells(size_t f);
  // Rows of rows_ that have field f, in its index's order when it gets one.
  absl::Status OrderField(size_t f);
  absl::Status WriteVectors();
  absl::Status WriteIndex(const SectionFile& vectors_file);
  absl::Status WriteIds(SectionFileWriter* writer);
  absl::Status WriteField(const SectionFile& vectors_file, size_t f,
                          SectionFileWriter* writer);
  absl::Status WriteLexical(size_t l, SectionFileWriter* writer) const;
  absl::Status WriteMultiVectors(size_t m, SectionFileWriter* writer);
  absl::Status WriteMulti(const SectionFile& vectors_file, size_t m,
                          SectionFileWriter* writer);
  absl::Status WriteMeta(SectionFileWriter* writer) const;
  absl::StatusOr<BuiltIndex> BuildIndexOf(size_t f, VectorSetView vectors);
  absl::StatusOr<BuiltIndex> BuildGraph(size_t f, VectorSetView vectors,
                                        VectorSetView queries);
  absl::StatusOr<BuiltIndex> BuildLists(size_t f, VectorSetView vectors,
                                        VectorSetView queries);
  // Trains and encodes where the field is to have codes. centres: of lists.
  absl::Status BuildCodes(size_t f, VectorSetView vectors,
                          VectorSetView queries, const RowCentres* centres,
                          BuiltIndex* out) const;
  absl::Status Measure(const ApproximateIndex& index, VectorSetView queries,
                       BuiltIndex* out) const;
  uint32_t FileVersion() const;
  absl::StatusOr<VectorSetView> VectorsIn(const SectionFile& vectors_file,
                                          size_t f) const;
  size_t num_points() const {
    return std::max(options_.num_points, rows_.size());
  }
  const std::byte* VectorOf(size_t f, RowRef ref) const {
    return sources_[ref.source]->VectorOf(f, ref.row);
  }
  absl::Status CheckCancelled() const {
    return options_.cancel != nullptr && options_.cancel->cancelled()
               ? absl::CancelledError("the index build was cancelled")
               : absl::OkStatus();
  }
  void Phase(absl::string_view phase) const {
    if (options_.on_phase) options_.on_phase(phase);
  }
  void Hook(absl::string_view point) const {
    if (options_.test_hook) options_.test_hook(point);
  }

  const CollectionSchema& schema_;
  const std::shared_ptr<const Layout> layout_;
  const std::vector<std::shared_ptr<Segment>>& sources_;
  const SegmentBuildOptions& options_;
  std::vector<RowRef> rows_;  // first as gathered, then in the new order
  std::vector<uint32_t> partition_of_;  // of rows_ as gathered, or empty
  std::vector<Field> fields_;
  std::vector<std::unique_ptr<MultiFieldBuild>> multi_;
  SegmentEntry entry_;
  BuiltSegment result_;
};

absl::StatusOr<BuiltSegment> SegmentBuild::Run() {
  Phase("gathering rows");
  Gather();
  if (rows_.empty()) return std::move(result_);
  if (rows_.size() >= kInvalidRow) {
    return absl::InternalError(absl::StrCat(
        rows_.size(), " rows do not fit one segment; set max_segment_bytes"));
  }
  if (options_.progress != nullptr) {
    options_.progress->total.fetch_add(rows_.size(), std::memory_order_relaxed);
  }
  Phase("ordering rows");
  VICINAL_RETURN_IF_ERROR(OrderRows());
  Hook("build:before_file");
  Phase("writing vectors");
  VICINAL_RETURN_IF_ERROR(WriteVectors());
  VICINAL_ASSIGN_OR_RETURN(
      const auto vectors_file,
      SectionFile::Open(
          segment_file::VectorsPath(options_.folder, options_.number),
          segment_file::kVectorsKind, segment_file::kVectorsVersion,
          SectionFile::Verify::kHeaders));
  Hook("build:after_vectors");
  VICINAL_RETURN_IF_ERROR(WriteIndex(*vectors_file));
  Hook("build:after_file");
  VICINAL_ASSIGN_OR_RETURN(result_.segment,
                           SealedSegment::Open(layout_, options_.folder, entry_,
                                               options_.placement));
  return std::move(result_);
}

void SegmentBuild::Gather() {
  for (uint32_t s = 0; s < sources_.size(); ++s) {
    const auto num_rows = static_cast<RowId>(sources_[s]->num_rows());
    for (RowId row = 0; row < num_rows; ++row) {
      if (sources_[s]->IsDead(row)) {
        result_.dropped.push_back(sources_[s]->OrdinalOf(row));
      } else {
        rows_.push_back({s, row});
        if (!options_.partitions.empty()) {
          partition_of_.push_back(options_.partitions[s][row]);
        }
      }
    }
  }
  entry_.number = options_.number;
  entry_.num_rows = rows_.size();
}

absl::Status SegmentBuild::OrderRows() {
  for (size_t f = 0; f < fields_.size(); ++f) {
    VICINAL_RETURN_IF_ERROR(OrderField(f));
  }
  // The first field numbers the segment's rows; those without it follow, of
  // each partition its own.
  std::vector<uint32_t> new_order;
  if (!fields_.empty()) new_order = fields_[0].rows;
  std::vector<bool> is_placed(rows_.size());
  for (const uint32_t old : new_order) is_placed[old] = true;
  for (uint32_t old = 0; old < rows_.size(); ++old) {
    if (!is_placed[old]) new_order.push_back(old);
  }
  SortByPartition(&new_order);
  std::vector<uint32_t> new_row(rows_.size());
  std::vector<RowRef> reordered;
  reordered.reserve(rows_.size());
  for (const uint32_t old : new_order) {
    new_row[old] = static_cast<uint32_t>(reordered.size());
    reordered.push_back(rows_[old]);
  }
  rows_ = std::move(reordered);
  for (Field& field : fields_) {
    for (uint32_t& row : field.rows) row = new_row[row];
    if (!field.has_index) std::sort(field.rows.begin(), field.rows.end());
    for (size_t i = 0; i < field.rows.size(); ++i) {
      field.has_maps |= field.rows[i] != i;
    }
  }
  return absl::OkStatus();
}

absl::Status SegmentBuild::OrderField(size_t f) {
  VICINAL_RETURN_IF_ERROR(CheckCancelled());
  Field& field = fields_[f];
  for (uint32_t i = 0; i < rows_.size(); ++i) {
    if (VectorOf(f, rows_[i]) != nullptr) field.rows.push_back(i);
  }
  SortByPartition(&field.rows);
  if (!HasIndex(schema_.vectors[f]) || field.rows.size() < kMinIndexRows) {
    return absl::OkStatus();
  }
  field.has_index = true;
  for (size_t i = 0; i < field.rows.size() && !partition_of_.empty(); ++i) {
    const bool is_last =
        i + 1 == field.rows.size() ||
        partition_of_[field.rows[i + 1]] != partition_of_[field.rows[i]];
    if (is_last) field.partition_ends.push_back(static_cast<uint32_t>(i + 1));
  }
  return OrderCells(f);
}

void SegmentBuild::SortByPartition(std::vector<uint32_t>* rows) const {
  if (partition_of_.empty()) return;
  std::stable_sort(rows->begin(), rows->end(), [&](uint32_t a, uint32_t b) {
    return partition_of_[a] < partition_of_[b];
  });
}

absl::Status SegmentBuild::OrderCells(size_t f) {
  const FieldLayout& layout = layout_->fields[f];
  const VectorField& schema = schema_.vectors[f];
  Field& field = fields_[f];
  // The order needs the vectors side by side.
  const MappedBuffer scratch(field.rows.size() * layout.stride_bytes);
  for (size_t i = 0; i < field.rows.size(); ++i) {
    std::memcpy(scratch.data() + i * layout.stride_bytes,
                VectorOf(f, rows_[field.rows[i]]), layout.row_bytes);
  }
  const VectorSetView vectors{scratch.data(), field.rows.size(), layout.dim,
                              layout.stride_bytes, layout.type};
  std::vector<RowId> order;
  if (schema.index != IndexKind::kHnsw) {
    IvfParams params = schema.ivf;
    // A flat scan of codes is that of one list.
    if (schema.index == IndexKind::kFlat) params.num_lists = 1;
    VICINAL_ASSIGN_OR_RETURN(
        IvfLists lists,
        field.partition_ends.empty()
            ? BuildIvfLists(vectors, layout.search_metric, params,
                            options_.num_threads, options_.cancel,
                            options_.device)
            : BuildPartitionedLists(vectors, layout.search_metric, params,
                                    field.partition_ends, options_.num_threads,
                                    options_.cancel, options_.device));
    order = std::move(lists.order);
    field.lists = std::move(lists.bytes);
  } else {
    VICINAL_ASSIGN_OR_RETURN(
        IvfLists cells,
        BuildCellLists(vectors, layout.search_metric, schema.hnsw.seed,
                       options_.num_threads, options_.cancel, options_.device));
    order = std::move(cells.order);
    field.lists = std::move(cells.bytes);
  }
  VICINAL_CHECK_EQ(order.size(), field.rows.size());
  std::vector<uint32_t> ordered;
  ordered.reserve(order.size());
  for (const RowId row : order) ordered.push_back(field.rows[row]);
  field.rows = std::move(ordered);
  return absl::OkStatus();
}

absl::Status SegmentBuild::WriteVectors() {
  VICINAL_ASSIGN_OR_RETURN(
      const auto writer,
      SectionFileWriter::Create(
          segment_file::VectorsPath(options_.folder, options_.number),
          segment_file::kVectorsKind, segment_file::kVectorsVersion,
          segment_file::kMaxSections, options_.fault_hook));
  std::string meta;
  PutFixed<uint64_t>(&meta, options_.number);
  VICINAL_RETURN_IF_ERROR(writer->BeginSection("META"));
  VICINAL_RETURN_IF_ERROR(writer->Append(meta));
  for (size_t f = 0; f < fields_.size(); ++f) {
    const FieldLayout& layout = layout_->fields[f];
    const std::string padding(layout.stride_bytes - layout.row_bytes, '\0');
    VICINAL_RETURN_IF_ERROR(writer->BeginSection(SectionName("V", f)));
    for (const uint32_t row : fields_[f].rows) {
      if (row % 4096 == 0) VICINAL_RETURN_IF_ERROR(CheckCancelled());
      const auto* vector =
          reinterpret_cast<const char*>(VectorOf(f, rows_[row]));
      VICINAL_RETURN_IF_ERROR(writer->Append({vector, layout.row_bytes}));
      if (padding.empty()) continue;
      VICINAL_RETURN_IF_ERROR(writer->Append(padding));
    }
  }
  for (size_t m = 0; m < layout_->multi.size(); ++m) {
    VICINAL_RETURN_IF_ERROR(WriteMultiVectors(m, writer.get()));
  }
  return writer->Finish();
}

absl::Status SegmentBuild::WriteIndex(const SectionFile& vectors_file) {
  VICINAL_ASSIGN_OR_RETURN(
      const auto writer,
      SectionFileWriter::Create(
          segment_file::IndexPath(options_.folder, options_.number),
          segment_file::kIndexKind, FileVersion(), segment_file::kMaxSections,
          options_.fault_hook));
  VICINAL_RETURN_IF_ERROR(WriteIds(writer.get()));
  for (size_t f = 0; f < fields_.size(); ++f) {
    VICINAL_RETURN_IF_ERROR(WriteField(vectors_file, f, writer.get()));
  }
  for (size_t l = 0; l < layout_->lexical.size(); ++l) {
    VICINAL_RETURN_IF_ERROR(WriteLexical(l, writer.get()));
  }
  for (size_t m = 0; m < multi_.size(); ++m) {
    VICINAL_RETURN_IF_ERROR(WriteMulti(vectors_file, m, writer.get()));
  }
  // Last, since it says what was written.
  VICINAL_RETURN_IF_ERROR(WriteMeta(writer.get()));
  return writer->Finish();
}

// Readable by older versions where it can be.
uint32_t SegmentBuild::FileVersion() const {
  if (!layout_->multi.empty()) return segment_file::kIndexVersion;
  if (!layout_->lexical.empty()) return segment_file::kLexicalVersion;
  uint32_t version = 1;
  for (size_t f = 0; f < fields_.size(); ++f) {
    if (!fields_[f].has_index) continue;
    const IndexKind kind = schema_.vectors[f].index;
    const bool has_cells = kind == IndexKind::kHnsw || kind == IndexKind::kAuto;
    version = std::max(
        version, has_cells || !fields_[f].partition_ends.empty() ? 6u : 5u);
  }
  return version;
}

absl::Status SegmentBuild::WriteMeta(SectionFileWriter* writer) const {
  std::string meta;
  PutFixed<uint64_t>(&meta, options_.number);
  PutFixed<uint64_t>(&meta, rows_.size());
  PutFixed<uint64_t>(&meta, fields_.size());
  for (size_t f = 0; f < fields_.size(); ++f) {
    const FieldLayout& layout = layout_->fields[f];
    FieldMeta field;
    field.dim = layout.dim;
    field.stride_bytes = layout.stride_bytes;
    field.num_rows = fields_[f].rows.size();
    field.metric = static_cast<uint8_t>(layout.metric);
    field.type = static_cast<uint8_t>(layout.type);
    field.flags = fields_[f].flags;
    PutFixed(&meta, field);
  }
  if (!layout_->lexical.empty()) {
    PutFixed<uint64_t>(&meta, layout_->lexical.size());
  }
  for (const LexicalLayout& layout : layout_->lexical) {
    PutFixed(&meta, segment_file::MetaOf(layout));
  }
  if (!layout_->multi.empty()) {
    PutFixed<uint64_t>(&meta, layout_->multi.size());
  }
  for (const MultiVectorField& field : schema_.multi) {
    PutFixed(&meta, segment_file::MetaOf(SpecOf(field)));
  }
  VICINAL_RETURN_IF_ERROR(writer->BeginSection("META"));
  return writer->Append(meta);
}

absl::Status SegmentBuild::WriteIds(SectionFileWriter* writer) {
  std::vector<uint64_t> ordinals;
  std::vector<uint64_t> id_offsets = {0};
  std::vector<uint64_t> id_slots(id_table::NumSlots(rows_.size()), 0);
  std::string ids;
  ordinals.reserve(rows_.size());
  id_offsets.reserve(rows_.size() + 1);
  for (const RowRef ref : rows_) {
    const PointId id = sources_[ref.source]->IdOf(ref.row);
    id_table::Insert(id_slots, HashPointId(id),
                     static_cast<RowId>(ordinals.size()));
    ordinals.push_back(sources_[ref.source]->OrdinalOf(ref.row));
    id.AppendEncoded(&ids);
    id_offsets.push_back(ids.size());
  }
  std::vector<uint32_t> by_ordinal(rows_.size());
  std::iota(by_ordinal.begin(), by_ordinal.end(), 0);
  std::sort(by_ordinal.begin(), by_ordinal.end(),
            [&](uint32_t a, uint32_t b) { return ordinals[a] < ordinals[b]; });
  entry_.min_ordinal = ordinals[by_ordinal.front()];
  entry_.max_ordinal = ordinals[by_ordinal.back()];
  const std::pair<absl::string_view, absl::string_view> sections[] = {
      {"ORDINALS", AsBytes(ordinals)},
      {"BYORD", AsBytes(by_ordinal)},
      {"IDS", ids},
      {"IDOFFS", AsBytes(id_offsets)},
      {"IDTABLE", AsBytes(id_slots)},
  };
  for (const auto& [name, bytes] : sections) {
    VICINAL_RETURN_IF_ERROR(writer->BeginSection(name));
    VICINAL_RETURN_IF_ERROR(writer->Append(bytes));
  }
  return absl::OkStatus();
}

absl::Status SegmentBuild::WriteField(const SectionFile& vectors_file, size_t f,
                                      SectionFileWriter* writer) {
  Field& field = fields_[f];
  if (field.has_maps) {
    field.flags |= segment_file::kHasRowMaps;
    std::vector<uint32_t> inverse(rows_.size(), kInvalidRow);
    for (size_t i = 0; i < field.rows.size(); ++i) inverse[field.rows[i]] = i;
    VICINAL_RETURN_IF_ERROR(writer->BeginSection(SectionName("R", f)));
    VICINAL_RETURN_IF_ERROR(writer->Append(AsBytes(field.rows)));
    VICINAL_RETURN_IF_ERROR(writer->BeginSection(SectionName("I", f)));
    VICINAL_RETURN_IF_ERROR(writer->Append(AsBytes(inverse)));
  }
  if (!field.has_index) return absl::OkStatus();
  VICINAL_ASSIGN_OR_RETURN(const VectorSetView vectors,
                           VectorsIn(vectors_file, f));
  VICINAL_ASSIGN_OR_RETURN(const BuiltIndex index, BuildIndexOf(f, vectors));
  Phase("writing the index");
  field.flags |=
      index.is_lists ? segment_file::kHasLists : segment_file::kHasGraph;
  std::string table;
  const bool has_reach =
      std::any_of(index.calibration.begin(), index.calibration.end(),
                  [](const RecallPoint& point) { return point.reach > 0; });
  if (has_reach) field.flags |= segment_file::kHasReach;
  const auto put = [&](const RecallPoint& point, std::string* out) {
    PutFixed<float>(out, point.recall);
    PutFixed<uint32_t>(out, point.k);
    PutFixed<uint32_t>(out, point.ef);
    if (index.codec != nullptr) PutFixed<uint32_t>(out, point.rerank);
  };
  for (const RecallPoint& point : index.calibration) {
    put(point, &table);
    if (has_reach) PutFixed<float>(&table, point.reach);
  }
  std::vector<std::pair<std::string, absl::string_view>> sections = {
      {SectionName(index.is_lists ? "L" : "G", f), index.structure},
      {SectionName("C", f), table}};
  std::string partitions;
  for (const PartitionEfforts& efforts : index.partitions) {
    PutFixed<uint32_t>(&partitions, efforts.max_lists);
    PutFixed(&partitions, static_cast<uint32_t>(efforts.table.size()));
    for (const RecallPoint& point : efforts.table) put(point, &partitions);
  }
  std::string cells;
  for (const RecallPoint& point : index.cells) {
    PutFixed<float>(&cells, point.recall);
    PutFixed<uint32_t>(&cells, point.k);
    PutFixed<uint32_t>(&cells, point.ef);
  }
  if (!cells.empty()) {
    field.flags |= segment_file::kHasCells;
    sections.emplace_back(SectionName("L", f), field.lists);
    sections.emplace_back(SectionName("D", f), cells);
  }
  if (!partitions.empty()) {
    field.flags |= segment_file::kHasPartitions;
    sections.emplace_back(SectionName("T", f), partitions);
  }
  std::string model;
  if (index.codec != nullptr) {
    field.flags |= segment_file::kHasCodes |
                   (index.is_lists ? segment_file::kHasCodeBlocks : 0);
    model = index.codec->Serialize();
    sections.emplace_back(SectionName("M", f), model);
    sections.emplace_back(SectionName("K", f), AsBytes(index.codes));
  }
  for (const auto& [name, bytes] : sections) {
    VICINAL_RETURN_IF_ERROR(writer->BeginSection(name));
    VICINAL_RETURN_IF_ERROR(writer->Append(bytes));
  }
  return absl::OkStatus();
}

absl::Status SegmentBuild::WriteLexical(size_t l,
                                        SectionFileWriter* writer) const {
  VICINAL_RETURN_IF_ERROR(CheckCancelled());
  const LexicalLayout& layout = layout_->lexical[l];
  const bool is_text = layout.kind == LexicalKind::kText;
  Phase(is_text ? "indexing a text" : "indexing a sparse vector");
  std::vector<LexicalSource> rows;
  rows.reserve(rows_.size());
  for (const RowRef ref : rows_) {
    rows.push_back({&sources_[ref.source]->lexical(l), ref.row});
  }
  VICINAL_ASSIGN_OR_RETURN(
      const LexicalBytes bytes,
      BuildLexicalField(rows, layout.kind, layout.weight, layout.positions,
                        options_.cancel));
  if (fields_.empty() && l == 0 && options_.progress != nullptr) {
    options_.progress->done.fetch_add(rows.size(), std::memory_order_relaxed);
  }
  VICINAL_RETURN_IF_ERROR(writer->BeginSection(SectionName("X", l)));
  VICINAL_RETURN_IF_ERROR(writer->Append(bytes.index));
  if (!is_text) return absl::OkStatus();
  VICINAL_RETURN_IF_ERROR(writer->BeginSection(SectionName("W", l)));
  VICINAL_RETURN_IF_ERROR(writer->Append(bytes.words));
  if (!layout.positions) return absl::OkStatus();
  VICINAL_RETURN_IF_ERROR(writer->BeginSection(SectionName("P", l)));
  return writer->Append(bytes.positions);
}

absl::Status SegmentBuild::WriteMultiVectors(size_t m,
                                             SectionFileWriter* writer) {
  VICINAL_RETURN_IF_ERROR(CheckCancelled());
  Phase("encoding multi-vectors");
  std::vector<MultiSource> rows;
  rows.reserve(rows_.size());
  for (const RowRef ref : rows_) {
    rows.push_back({&sources_[ref.source]->multi(m), ref.row});
  }
  MultiBuildOptions options{.num_threads = options_.num_threads,
                            .cancel = options_.cancel,
                            .on_phase = options_.on_phase};
  multi_.push_back(std::make_unique<MultiFieldBuild>(
      SpecOf(schema_.multi[m]), m, std::move(rows), std::move(options)));
  return multi_.back()->WriteVectors(writer);
}

absl::Status SegmentBuild::WriteMulti(const SectionFile& vectors_file, size_t m,
                                      SectionFileWriter* writer) {
  VICINAL_RETURN_IF_ERROR(CheckCancelled());
  Phase("indexing multi-vectors");
  VICINAL_RETURN_IF_ERROR(multi_[m]->WriteIndex(vectors_file, writer));
  multi_[m] = nullptr;
  const bool is_first = fields_.empty() && layout_->lexical.empty() && m == 0;
  if (is_first && options_.progress != nullptr) {
    options_.progress->done.fetch_add(rows_.size(), std::memory_order_relaxed);
  }
  return absl::OkStatus();
}

absl::StatusOr<VectorSetView> SegmentBuild::VectorsIn(
    const SectionFile& vectors_file, size_t f) const {
  const FieldLayout& layout = layout_->fields[f];
  VICINAL_ASSIGN_OR_RETURN(const absl::string_view bytes,
                           vectors_file.Section(SectionName("V", f)));
  return VectorSetView{reinterpret_cast<const std::byte*>(bytes.data()),
                       fields_[f].rows.size(), layout.dim, layout.stride_bytes,
                       layout.type};
}

absl::StatusOr<SegmentBuild::BuiltIndex> SegmentBuild::BuildIndexOf(
    size_t f, VectorSetView vectors) {
  VICINAL_RETURN_IF_ERROR(CheckCancelled());
  QuerySample queries;
  if (options_.queries) queries = options_.queries(f);
  const IndexKind kind = schema_.vectors[f].index;
  if (kind == IndexKind::kHnsw) return BuildGraph(f, vectors, queries.view);
  VICINAL_ASSIGN_OR_RETURN(BuiltIndex lists,
                           BuildLists(f, vectors, queries.view));
  if (kind == IndexKind::kAuto) {
    VICINAL_ASSIGN_OR_RETURN(BuiltIndex graph,
                             BuildGraph(f, vectors, queries.view));
    if (graph.mean_cost < lists.mean_cost) return graph;
  } else if (f == 0 && options_.progress != nullptr) {
    options_.progress->done.fetch_add(vectors.num_rows,
                                      std::memory_order_relaxed);
  }
  return lists;
}

absl::StatusOr<SegmentBuild::BuiltIndex> SegmentBuild::BuildLists(
    size_t f, VectorSetView vectors, VectorSetView queries) {
  BuiltIndex out{.is_lists = true};
  out.structure = fields_[f].lists;
  VICINAL_ASSIGN_OR_RETURN(
      const auto index,
      IvfIndex::Open(vectors, layout_->fields[f].search_metric, out.structure));
  const RowCentres centres = index->centres();
  VICINAL_RETURN_IF_ERROR(BuildCodes(f, vectors, queries, &centres, &out));
  if (out.codec != nullptr) {
    const CodeLayout& code = out.codec->layout();
    std::vector<uint8_t> blocks(CodeBlocksBytes(code, vectors.num_rows));
    PackCodeBlocks(code, out.codes.data(), vectors.num_rows, blocks.data(),
                   options_.num_threads);
    out.codes = std::move(blocks);
  }
  index->UseCodes(out.codec.get(), out.codes.data());
  VICINAL_RETURN_IF_ERROR(Measure(*index, queries, &out));
  if (!fields_[f].partition_ends.empty()) {
    VICINAL_ASSIGN_OR_RETURN(
        out.partitions,
        index->CalibratePartitions(fields_[f].partition_ends,
                                   options_.num_threads, options_.cancel));
  }
  return out;
}

absl::StatusOr<SegmentBuild::BuiltIndex> SegmentBuild::BuildGraph(
    size_t f, VectorSetView vectors, VectorSetView queries) {
  const Metric metric = layout_->fields[f].search_metric;
  BuiltIndex out;
  VICINAL_RETURN_IF_ERROR(BuildCodes(f, vectors, queries, nullptr, &out));
  Phase("building the graph");
  // Rows count once in the progress, not once for each field.
  VICINAL_ASSIGN_OR_RETURN(
      out.structure,
      BuildHnswGraph(vectors, metric, schema_.vectors[f].hnsw,
                     options_.num_threads, options_.cancel,
                     f == 0 ? options_.progress : nullptr, options_.device));
  VICINAL_ASSIGN_OR_RETURN(
      const auto index, HnswIndex::Open(vectors, metric, out.structure,
                                        {out.codec.get(), out.codes.data()}));
  VICINAL_RETURN_IF_ERROR(Measure(*index, queries, &out));
  VICINAL_ASSIGN_OR_RETURN(const auto cells,
                           IvfIndex::Open(vectors, metric, fields_[f].lists));
  VICINAL_ASSIGN_OR_RETURN(
      out.cells,
      cells->CalibrateLists(
          options_.num_threads, options_.cancel,
          queries.num_rows < kMinQueries ? VectorSetView{} : queries));
  return out;
}

absl::Status SegmentBuild::Measure(const ApproximateIndex& index,
                                   VectorSetView queries,
                                   BuiltIndex* out) const {
  Phase("measuring recall");
  if (queries.num_rows < kMinQueries) queries = {};
  VICINAL_ASSIGN_OR_RETURN(
      out->calibration,
      index.Calibrate(options_.num_threads, options_.cancel, queries));
  out->mean_cost = MeanCost(out->calibration, index.cost());
  return absl::OkStatus();
}

absl::Status SegmentBuild::BuildCodes(size_t f, VectorSetView vectors,
                                      VectorSetView queries,
                                      const RowCentres* centres,
                                      BuiltIndex* out) const {
  const std::optional<CodecParams> params =
      ChooseCodec(schema_, *layout_, f, vectors.num_rows, num_points());
  if (!params.has_value()) return absl::OkStatus();
  Phase("training a codec");
  VICINAL_ASSIGN_OR_RETURN(
      out->codec,
      TrainCodec(vectors, layout_->fields[f].search_metric, *params,
                 options_.num_threads, options_.cancel, centres, queries));
  Phase("encoding");
  out->codes.resize(vectors.num_rows * out->codec->layout().record_bytes);
  return EncodeRows(*out->codec, vectors, out->codes, options_.num_threads,
                    options_.cancel, centres, options_.device);
}

}  // namespace

absl::StatusOr<BuiltSegment> BuildSegment(
    const CollectionSchema& schema, std::shared_ptr<const Layout> layout,
    const std::vector<std::shared_ptr<Segment>>& sources,
    const SegmentBuildOptions& options) {
  return SegmentBuild(schema, std::move(layout), sources, options).Run();
}

}  // namespace vicinal
