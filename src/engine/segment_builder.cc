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
#include "index/cell_order.h"
#include "index/hnsw.h"
#include "index/ivf.h"
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
    bool has_graph = false;
    std::string lists;                   // empty: it has none
    std::unique_ptr<IvfIndex> ivf;       // over lists
    std::unique_ptr<const Codec> codec;  // null: searched as it is
    QuerySample queries;

    bool has_index() const { return has_graph || !lists.empty(); }
  };

  void Gather();
  absl::Status OrderRows();
  // Rows of rows_ that have field f, in its index's order when it gets one.
  absl::Status OrderField(size_t f);
  absl::Status WriteVectors();
  absl::Status WriteIndex(const SectionFile& vectors_file);
  absl::Status WriteIds(SectionFileWriter* writer);
  absl::Status WriteField(const SectionFile& vectors_file, size_t f,
                          SectionFileWriter* writer);
  absl::Status WriteIndexOf(size_t f, VectorSetView vectors,
                            SectionFileWriter* writer);
  absl::StatusOr<std::vector<uint8_t>> Encode(size_t f,
                                              VectorSetView vectors) const;
  // Takes the queries, opens the lists and trains the codecs, which the file's
  // META names.
  absl::Status TrainCodecs(const SectionFile& vectors_file);
  absl::StatusOr<VectorSetView> VectorsIn(const SectionFile& vectors_file,
                                          size_t f) const;
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
  std::vector<Field> fields_;
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
  Phase("training codecs");
  VICINAL_RETURN_IF_ERROR(TrainCodecs(*vectors_file));
  Phase("building the index");
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
  // The first field numbers the segment's rows; those without it follow.
  std::vector<uint32_t> new_order = std::move(fields_[0].rows);
  const size_t num_with_first = new_order.size();
  std::vector<uint32_t> new_row(rows_.size(), kInvalidRow);
  for (size_t i = 0; i < new_order.size(); ++i) new_row[new_order[i]] = i;
  for (uint32_t old = 0; old < rows_.size(); ++old) {
    if (new_row[old] != kInvalidRow) continue;
    new_row[old] = new_order.size();
    new_order.push_back(old);
  }
  std::vector<RowRef> reordered;
  reordered.reserve(rows_.size());
  for (const uint32_t old : new_order) reordered.push_back(rows_[old]);
  rows_ = std::move(reordered);
  fields_[0].rows.resize(num_with_first);
  std::iota(fields_[0].rows.begin(), fields_[0].rows.end(), 0);
  for (size_t f = 1; f < fields_.size(); ++f) {
    Field& field = fields_[f];
    for (uint32_t& row : field.rows) row = new_row[row];
    if (!field.has_index()) std::sort(field.rows.begin(), field.rows.end());
    for (size_t i = 0; i < field.rows.size(); ++i) {
      field.has_maps |= field.rows[i] != i;
    }
  }
  return absl::OkStatus();
}

absl::Status SegmentBuild::OrderField(size_t f) {
  VICINAL_RETURN_IF_ERROR(CheckCancelled());
  const FieldLayout& layout = layout_->fields[f];
  Field& field = fields_[f];
  for (uint32_t i = 0; i < rows_.size(); ++i) {
    if (VectorOf(f, rows_[i]) != nullptr) field.rows.push_back(i);
  }
  const VectorField& schema = schema_.vectors[f];
  if (!HasIndex(schema) || field.rows.size() < kMinIndexRows) {
    return absl::OkStatus();
  }
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
        IvfLists lists, BuildIvfLists(vectors, layout.search_metric, params,
                                      options_.num_threads, options_.cancel));
    order = std::move(lists.order);
    field.lists = std::move(lists.bytes);
  } else {
    field.has_graph = true;
    VICINAL_ASSIGN_OR_RETURN(
        order, CellOrder(vectors, layout.search_metric, schema.hnsw.seed,
                         options_.num_threads, options_.cancel));
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
  return writer->Finish();
}

absl::Status SegmentBuild::WriteIndex(const SectionFile& vectors_file) {
  // Readable by older versions where it can be.
  uint32_t version = 1;
  for (const Field& field : fields_) {
    if (field.codec != nullptr) version = std::max(version, 2u);
    if (field.lists.empty()) continue;
    version = std::max(version, field.codec == nullptr ? 3u : 4u);
  }
  VICINAL_ASSIGN_OR_RETURN(
      const auto writer,
      SectionFileWriter::Create(
          segment_file::IndexPath(options_.folder, options_.number),
          segment_file::kIndexKind, version, segment_file::kMaxSections,
          options_.fault_hook));
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
    field.flags =
        (fields_[f].has_maps ? segment_file::kHasRowMaps : 0) |
        (fields_[f].has_graph ? segment_file::kHasGraph : 0) |
        (fields_[f].codec ? segment_file::kHasCodes : 0) |
        (fields_[f].lists.empty()
             ? 0
             : segment_file::kHasLists |
                   (fields_[f].codec ? segment_file::kHasCodeBlocks : 0));
    PutFixed(&meta, field);
  }
  VICINAL_RETURN_IF_ERROR(writer->BeginSection("META"));
  VICINAL_RETURN_IF_ERROR(writer->Append(meta));
  VICINAL_RETURN_IF_ERROR(WriteIds(writer.get()));
  for (size_t f = 0; f < fields_.size(); ++f) {
    VICINAL_RETURN_IF_ERROR(WriteField(vectors_file, f, writer.get()));
  }
  return writer->Finish();
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
  const Field& field = fields_[f];
  if (field.has_maps) {
    std::vector<uint32_t> inverse(rows_.size(), kInvalidRow);
    for (size_t i = 0; i < field.rows.size(); ++i) inverse[field.rows[i]] = i;
    VICINAL_RETURN_IF_ERROR(writer->BeginSection(SectionName("R", f)));
    VICINAL_RETURN_IF_ERROR(writer->Append(AsBytes(field.rows)));
    VICINAL_RETURN_IF_ERROR(writer->BeginSection(SectionName("I", f)));
    VICINAL_RETURN_IF_ERROR(writer->Append(AsBytes(inverse)));
  }
  if (!field.has_index()) return absl::OkStatus();
  VICINAL_ASSIGN_OR_RETURN(const VectorSetView vectors,
                           VectorsIn(vectors_file, f));
  return WriteIndexOf(f, vectors, writer);
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

absl::Status SegmentBuild::TrainCodecs(const SectionFile& vectors_file) {
  for (size_t f = 0; f < fields_.size(); ++f) {
    Field& field = fields_[f];
    const FieldLayout& layout = layout_->fields[f];
    if (!field.has_index()) continue;
    VICINAL_RETURN_IF_ERROR(CheckCancelled());
    VICINAL_ASSIGN_OR_RETURN(const VectorSetView vectors,
                             VectorsIn(vectors_file, f));
    if (options_.queries) field.queries = options_.queries(f);
    std::optional<RowCentres> centres;
    if (!field.lists.empty()) {
      VICINAL_ASSIGN_OR_RETURN(
          field.ivf,
          IvfIndex::Open(vectors, layout.search_metric, field.lists));
      centres = field.ivf->centres();
    }
    const std::optional<CodecParams> params =
        ChooseCodec(schema_, *layout_, f, field.rows.size(),
                    std::max(options_.num_points, rows_.size()));
    if (!params.has_value()) continue;
    VICINAL_ASSIGN_OR_RETURN(
        field.codec,
        TrainCodec(vectors, layout.search_metric, *params, options_.num_threads,
                   options_.cancel, centres ? &*centres : nullptr,
                   field.queries.view));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint8_t>> SegmentBuild::Encode(
    size_t f, VectorSetView vectors) const {
  const Field& field = fields_[f];
  std::vector<uint8_t> records;
  if (field.codec == nullptr) return records;
  Phase("encoding");
  std::optional<RowCentres> centres;
  if (field.ivf != nullptr) centres = field.ivf->centres();
  records.resize(vectors.num_rows * field.codec->layout().record_bytes);
  VICINAL_RETURN_IF_ERROR(
      field.codec->Encode(vectors, records, options_.num_threads,
                          options_.cancel, centres ? &*centres : nullptr));
  return records;
}

absl::Status SegmentBuild::WriteIndexOf(size_t f, VectorSetView vectors,
                                        SectionFileWriter* writer) {
  const FieldLayout& layout = layout_->fields[f];
  const Field& field = fields_[f];
  const Codec* codec = field.codec.get();
  VICINAL_ASSIGN_OR_RETURN(std::vector<uint8_t> records, Encode(f, vectors));
  // Rows count once in the progress, not once for each field.
  Progress* progress = f == 0 ? options_.progress : nullptr;
  std::string graph;
  VectorSetView queries = field.queries.view;
  if (queries.num_rows < kMinQueries) queries = {};
  std::vector<RecallPoint> calibration;
  if (field.ivf != nullptr) {
    Phase("measuring recall");
    if (codec != nullptr) {
      std::vector<uint8_t> blocks(
          CodeBlocksBytes(codec->layout(), vectors.num_rows));
      PackCodeBlocks(codec->layout(), records.data(), vectors.num_rows,
                     blocks.data());
      records = std::move(blocks);
    }
    field.ivf->UseCodes(codec, records.data());
    VICINAL_ASSIGN_OR_RETURN(
        calibration,
        field.ivf->Calibrate(options_.num_threads, options_.cancel, queries));
    if (progress != nullptr) {
      progress->done.fetch_add(vectors.num_rows, std::memory_order_relaxed);
    }
  } else {
    VICINAL_ASSIGN_OR_RETURN(
        graph,
        BuildHnswGraph(vectors, layout.search_metric, schema_.vectors[f].hnsw,
                       options_.num_threads, options_.cancel, progress));
    Phase("measuring recall");
    VICINAL_ASSIGN_OR_RETURN(
        const auto index, HnswIndex::Open(vectors, layout.search_metric, graph,
                                          {codec, records.data()}));
    VICINAL_ASSIGN_OR_RETURN(
        calibration,
        index->Calibrate(options_.num_threads, options_.cancel, queries));
  }
  std::string table;
  for (const RecallPoint& point : calibration) {
    PutFixed<float>(&table, point.recall);
    PutFixed<uint32_t>(&table, point.k);
    PutFixed<uint32_t>(&table, point.ef);
    if (codec != nullptr) PutFixed<uint32_t>(&table, point.rerank);
  }
  std::vector<std::pair<std::string, absl::string_view>> sections;
  if (field.ivf != nullptr) {
    sections.emplace_back(SectionName("L", f), field.lists);
  } else {
    sections.emplace_back(SectionName("G", f), graph);
  }
  sections.emplace_back(SectionName("C", f), table);
  std::string model;
  if (codec != nullptr) {
    model = codec->Serialize();
    sections.emplace_back(SectionName("M", f), model);
    sections.emplace_back(SectionName("K", f), AsBytes(records));
  }
  for (const auto& [name, bytes] : sections) {
    VICINAL_RETURN_IF_ERROR(writer->BeginSection(name));
    VICINAL_RETURN_IF_ERROR(writer->Append(bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BuiltSegment> BuildSegment(
    const CollectionSchema& schema, std::shared_ptr<const Layout> layout,
    const std::vector<std::shared_ptr<Segment>>& sources,
    const SegmentBuildOptions& options) {
  return SegmentBuild(schema, std::move(layout), sources, options).Run();
}

}  // namespace vicinal
