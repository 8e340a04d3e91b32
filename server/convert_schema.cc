#include "server/convert_schema.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "google/protobuf/timestamp.pb.h"
#include "server/convert.h"
#include "server/convert_multi_schema.h"

namespace vicinal {
namespace {

v1::SegmentState ToProto(SegmentState state) {
  return static_cast<v1::SegmentState>(state);
}

google::protobuf::Timestamp ToTimestamp(int64_t unix_micros) {
  google::protobuf::Timestamp out;
  out.set_seconds(unix_micros / 1'000'000);
  out.set_nanos(static_cast<int32_t>(unix_micros % 1'000'000) * 1000);
  return out;
}

}  // namespace

HnswParams ParseHnsw(const v1::HnswConfig& config) {
  HnswParams params;
  if (config.m() != 0) params.m = config.m();
  if (config.ef_construction() != 0) {
    params.ef_construction = config.ef_construction();
  }
  return params;
}

IvfParams ParseIvf(const v1::IvfConfig& config) {
  return {.num_lists = config.num_lists()};
}

// An unknown kind stays unknown, for the schema's validation to refuse.
CodecSpec ParseCodec(const v1::CodecConfig& config) {
  const int kind = config.kind();
  return {
      .kind = static_cast<CodecSpec::Kind>(kind < 0 || kind > 255 ? 255 : kind),
      .avg_bits = config.avg_bits()};
}

MemorySpec ParseMemory(const v1::MemoryConfig& config) {
  MemorySpec memory{.budget_bytes = config.budget_bytes()};
  const int tier = config.tier();
  if (tier != v1::MEMORY_TIER_UNSPECIFIED) {
    memory.tier =
        static_cast<MemoryTier>(tier < 1 || tier > 255 ? 255 : tier - 1);
  }
  return memory;
}

// As above.
GpuUse ParseGpu(v1::GpuUse gpu) {
  return static_cast<GpuUse>(gpu < 0 || gpu > 255 ? 255 : gpu);
}

// An unknown type stays unknown, for the schema's validation to refuse.
PayloadField ParsePayloadField(const v1::PayloadIndex& index) {
  const int type = index.type();
  return {index.path(),
          static_cast<PayloadType>(type < 0 || type > 255 ? 255 : type)};
}

void ToProto(const ResourceEstimate& estimate, v1::ResourceEstimate* out) {
  out->set_ram_bytes(estimate.ram_bytes);
  out->set_mapped_bytes(estimate.mapped_bytes);
  out->set_disk_bytes(estimate.disk_bytes);
  out->set_build_seconds(estimate.build_seconds);
  for (const std::string& warning : estimate.warnings) {
    out->add_warnings(warning);
  }
}

namespace {

void ParseSparse(const v1::Collection& collection, const std::string& path,
                 FieldViolations* violations, CollectionSchema* schema) {
  for (int i = 0; i < collection.sparse_vectors_size(); ++i) {
    const v1::SparseConfig& in = collection.sparse_vectors(i);
    SparseField field{.name = in.name(), .idf = in.idf()};
    switch (in.weight_type()) {
      case v1::ELEMENT_TYPE_UNSPECIFIED:
      case v1::ELEMENT_TYPE_FLOAT32:
        break;
      case v1::ELEMENT_TYPE_FLOAT16:
        field.weight = SparseWeight::kFloat16;
        break;
      default:
        violations->Add(
            At(path, "sparse_vectors", static_cast<size_t>(i)) + ".weight_type",
            "is not possible here; choose FLOAT32 or FLOAT16");
    }
    schema->sparse.push_back(std::move(field));
  }
}

AnalyzerSpec ParseAnalyzer(const v1::AnalyzerConfig& in) {
  AnalyzerSpec out;
  if (!in.name().empty()) out.name = in.name();
  out.language = in.language();
  if (in.has_fold_case()) out.fold_case = in.fold_case();
  out.fold_diacritics = in.fold_diacritics();
  out.stemmer = in.stemmer();
  if (in.has_remove_stop_words()) {
    out.remove_stop_words = in.remove_stop_words();
  }
  out.extra_stop_words.assign(in.extra_stop_words().begin(),
                              in.extra_stop_words().end());
  if (in.min_token_chars() != 0) out.min_token_chars = in.min_token_chars();
  if (in.max_token_bytes() != 0) out.max_token_bytes = in.max_token_bytes();
  return out;
}

void ToProto(const TextField& in, v1::TextConfig* out) {
  out->set_path(in.path);
  out->set_positions(in.positions);
  out->set_k1(in.k1);
  out->set_b(in.b);
  v1::AnalyzerConfig* to = out->mutable_analyzer();
  const AnalyzerSpec& analyzer = in.analyzer;
  to->set_name(analyzer.name);
  to->set_language(analyzer.language);
  to->set_fold_case(analyzer.fold_case);
  to->set_fold_diacritics(analyzer.fold_diacritics);
  to->set_stemmer(analyzer.stemmer);
  if (analyzer.remove_stop_words.has_value()) {
    to->set_remove_stop_words(*analyzer.remove_stop_words);
  }
  to->mutable_extra_stop_words()->Assign(analyzer.extra_stop_words.begin(),
                                         analyzer.extra_stop_words.end());
  to->set_min_token_chars(analyzer.min_token_chars);
  to->set_max_token_bytes(analyzer.max_token_bytes);
  to->set_version(analyzer.version);
  to->set_icu_version(in.icu_version);
}

void ParseTexts(const v1::Collection& collection, CollectionSchema* schema) {
  for (const v1::TextConfig& in : collection.texts()) {
    TextField field{.path = in.path(),
                    .analyzer = ParseAnalyzer(in.analyzer()),
                    .positions = in.positions()};
    if (in.has_k1()) field.k1 = in.k1();
    if (in.has_b()) field.b = in.b();
    schema->texts.push_back(std::move(field));
  }
}

void LexicalToProto(const CollectionSchema& schema,
                    const CollectionStats& stats, v1::Collection* out) {
  for (size_t s = 0; s < schema.sparse.size(); ++s) {
    const SparseField& field = schema.sparse[s];
    v1::SparseConfig* to = out->add_sparse_vectors();
    to->set_name(field.name);
    to->set_weight_type(field.weight == SparseWeight::kFloat16
                            ? v1::ELEMENT_TYPE_FLOAT16
                            : v1::ELEMENT_TYPE_FLOAT32);
    to->set_idf(field.idf);
    if (s < stats.encoder_tokens.size()) {
      to->set_encoder_tokens(stats.encoder_tokens[s]);
    }
  }
  for (const TextField& field : schema.texts) ToProto(field, out->add_texts());
}

}  // namespace

CollectionSchema ParseSchema(const v1::Collection& collection,
                             const std::string& path,
                             FieldViolations* violations) {
  CollectionSchema schema;
  schema.name = collection.name();
  schema.memory = ParseMemory(collection.memory());
  schema.gpu = ParseGpu(collection.gpu());
  for (int i = 0; i < collection.vectors_size(); ++i) {
    const v1::VectorConfig& in = collection.vectors(i);
    const std::string at = At(path, "vectors", static_cast<size_t>(i));
    VectorField field;
    // Graphs have no partitions.
    field.index =
        collection.partition_key().empty() ? IndexKind::kAuto : IndexKind::kIvf;
    field.name = in.name();
    field.dim = in.dim();
    // Before the cast: the engine's types have fewer bits.
    if (v1::Metric_IsValid(in.metric())) {
      field.metric = static_cast<Metric>(in.metric());
    } else {
      violations->Add(
          at + ".metric",
          absl::StrCat("is ", in.metric(), "; give one of vicinal.v1.Metric"));
    }
    if (CheckType(in.type(), at + ".type", violations)) {
      field.type = ParseType(in.type());
    }
    if (in.index().has_flat()) field.index = IndexKind::kFlat;
    if (in.index().has_hnsw()) {
      field.index = IndexKind::kHnsw;
      field.hnsw = ParseHnsw(in.index().hnsw());
    }
    if (in.index().has_ivf()) {
      field.index = IndexKind::kIvf;
      field.ivf = ParseIvf(in.index().ivf());
    }
    field.codec = ParseCodec(in.codec());
    schema.vectors.push_back(std::move(field));
  }
  for (const v1::PayloadIndex& index : collection.payload_indexes()) {
    schema.payload_fields.push_back(ParsePayloadField(index));
  }
  schema.indexed_filters_only = collection.indexed_filters_only();
  schema.partition_key = collection.partition_key();
  ParseSparse(collection, path, violations, &schema);
  ParseMultiVectors(collection, path, violations, &schema);
  ParseTexts(collection, &schema);
  return schema;
}

void ToProto(const CollectionSchema& schema, const CollectionStats& stats,
             v1::Collection* out) {
  out->set_name(schema.name);
  out->set_uuid(schema.uuid);
  *out->mutable_create_time() = ToTimestamp(schema.created_unix_micros);
  for (const VectorField& field : schema.vectors) {
    v1::VectorConfig* vector = out->add_vectors();
    vector->set_name(field.name);
    vector->set_dim(static_cast<uint32_t>(field.dim));
    vector->set_metric(static_cast<v1::Metric>(field.metric));
    vector->set_type(static_cast<v1::ElementType>(field.type));
    if (field.index == IndexKind::kFlat) {
      vector->mutable_index()->mutable_flat();
    } else if (field.index == IndexKind::kAuto) {
      vector->mutable_index()->mutable_automatic();
    } else if (field.index == IndexKind::kIvf) {
      vector->mutable_index()->mutable_ivf()->set_num_lists(
          field.ivf.num_lists);
    } else {
      auto* hnsw = vector->mutable_index()->mutable_hnsw();
      hnsw->set_m(field.hnsw.m);
      hnsw->set_ef_construction(field.hnsw.ef_construction);
    }
    vector->mutable_codec()->set_kind(
        static_cast<v1::CodecKind>(field.codec.kind));
    vector->mutable_codec()->set_avg_bits(field.codec.avg_bits);
  }
  out->mutable_memory()->set_tier(static_cast<v1::MemoryTier>(
      static_cast<int>(schema.memory.tier) + v1::MEMORY_TIER_RAM));
  out->mutable_memory()->set_budget_bytes(schema.memory.budget_bytes);
  out->set_gpu(static_cast<v1::GpuUse>(schema.gpu));
  out->set_indexed_filters_only(schema.indexed_filters_only);
  out->set_partition_key(schema.partition_key);
  LexicalToProto(schema, stats, out);
  for (const MultiVectorField& field : schema.multi) {
    ToProto(field, out->add_multi_vectors());
  }
  for (size_t i = 0; i < schema.payload_fields.size(); ++i) {
    v1::PayloadIndex* index = out->add_payload_indexes();
    index->set_path(schema.payload_fields[i].path);
    index->set_type(
        static_cast<v1::PayloadType>(schema.payload_fields[i].type));
  }
  for (const PayloadIndexStats& in : stats.payload_indexes) {
    for (v1::PayloadIndex& index : *out->mutable_payload_indexes()) {
      if (index.path() != in.field.path) continue;
      index.set_ready(in.ready);
      index.set_num_indexed_points(in.num_indexed);
      index.set_file_bytes(in.file_bytes);
    }
  }
  v1::CollectionStats* to = out->mutable_stats();
  to->set_num_points(stats.num_points);
  to->set_num_indexed_points(stats.num_indexed);
  to->set_sequence(stats.sequence);
  to->set_degraded(stats.degraded);
  uint64_t vector_bytes = 0, index_bytes = 0, code_bytes = 0, ram_bytes = 0,
           file_bytes = 0;
  for (const SegmentStats& segment : stats.segments) {
    v1::SegmentStats* s = to->add_segments();
    s->set_number(segment.number);
    s->set_state(ToProto(segment.state));
    s->set_num_rows(segment.num_rows);
    s->set_num_deleted(segment.num_deleted);
    s->set_vector_bytes(segment.vector_bytes);
    s->set_index_bytes(segment.index_bytes);
    s->set_file_bytes(segment.file_bytes);
    s->set_code_bytes(segment.code_bytes);
    s->set_ram_bytes(segment.ram_bytes);
    s->set_pinned_bytes(segment.pinned_bytes);
    for (const SegmentIndex index : segment.indexes) {
      s->add_indexes(static_cast<v1::SegmentIndex>(index));
    }
    for (const std::string& encoder : segment.encoders) {
      s->add_encoders(encoder);
    }
    ram_bytes += segment.ram_bytes;
    file_bytes += segment.file_bytes;
    code_bytes += segment.code_bytes;
    vector_bytes += segment.vector_bytes;
    index_bytes += segment.index_bytes;
  }
  for (const RecallStats& recall : stats.recall) {
    v1::RecallStats* r = to->add_recall();
    r->set_vector_name(schema.vectors[recall.field].name);
    r->set_num_queries(recall.num_queries);
    r->set_asked(recall.asked);
    r->set_found(recall.found);
    r->set_num_calibrations(recall.num_calibrations);
  }
  to->set_vector_bytes(vector_bytes);
  to->set_index_bytes(index_bytes);
  to->set_code_bytes(code_bytes);
  to->set_ram_bytes(ram_bytes);
  to->set_file_bytes(file_bytes);
  to->set_search_major_faults(stats.search_major_faults);
}

void ToProto(const OperationInfo& info, v1::Operation* out) {
  out->set_name(info.name);
  out->set_kind(info.kind);
  out->set_collection(info.collection);
  out->set_phase(info.phase);
  out->set_done_rows(info.done);
  out->set_total_rows(info.total);
  *out->mutable_start_time() = ToTimestamp(info.started_unix_micros);
  out->set_done(info.finished);
  if (!info.finished) return;
  *out->mutable_end_time() = ToTimestamp(info.finished_unix_micros);
  out->mutable_error()->set_code(static_cast<int>(info.status.code()));
  out->mutable_error()->set_message(std::string(info.status.message()));
}

}  // namespace vicinal
