#include "src/engine/schema.h"

#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/coding.h"
#include "src/base/types.h"
#include "src/base/utf8.h"
#include "src/engine/layout.h"
#include "src/engine/limits.h"
#include "src/engine/schema_parts.h"
#include "src/payload/filter.h"

namespace vicinal {
namespace {

// Version of the encoding below; a newer one is refused.
constexpr uint8_t kSchemaFormat = 9;

void ValidateCodec(const CodecSpec& codec, size_t dim, const std::string& path,
                   std::vector<FieldViolation>* out) {
  using Kind = CodecSpec::Kind;
  const float bits = codec.avg_bits;
  if (dim > kMaxCodecDim && codec.kind >= Kind::kSaq &&
      codec.kind <= Kind::kSq8) {
    out->push_back({path + ".kind",
                    absl::StrCat("asks for codes of ", dim,
                                 " dimensions; up "
                                 "to ",
                                 kMaxCodecDim, " are possible: choose none")});
    return;
  }
  if (codec.kind > Kind::kSq8) {
    out->push_back({path + ".kind",
                    "is unknown; choose none, saq, rbq or sq8, or leave it "
                    "out"});
  } else if (codec.kind == Kind::kSaq || codec.kind == Kind::kAuto) {
    if (bits != 0 && !(bits >= 0.5f && bits <= 8)) {
      out->push_back({path + ".avg_bits",
                      absl::StrCat("is ", bits,
                                   "; give 0.5 to 8 bits per dimension, or 0 "
                                   "for the default")});
    }
  } else if (codec.kind == Kind::kRbq) {
    if (bits != 0 && bits != 1 && bits != 2 && bits != 4) {
      out->push_back({path + ".avg_bits",
                      absl::StrCat("is ", bits,
                                   "; rbq takes 1, 2 or 4 bits per dimension, "
                                   "or 0 for the default")});
    }
  } else if (bits != 0) {
    out->push_back({path + ".avg_bits",
                    absl::StrCat("is ", bits,
                                 "; only saq and rbq take it: leave it out or "
                                 "choose one of them")});
  }
}

void ValidateField(const VectorField& field, const std::string& path,
                   const Limits& limits, std::vector<FieldViolation>* out) {
  if (std::string problem = NameProblem(field.name, limits.max_name_bytes);
      !problem.empty()) {
    out->push_back({path + ".name", "the vector's name " + problem});
  }
  if (field.dim < 1 || field.dim > limits.max_dim) {
    out->push_back(
        {path + ".dim",
         absl::StrCat("is ", field.dim, "; it must be 1 to ", limits.max_dim)});
  }
  const auto metric = static_cast<int>(field.metric);
  if (metric < 1 || metric > 3) {
    out->push_back(
        {path + ".metric", "is not set; choose L2, inner product or cosine"});
  }
  const auto type = static_cast<int>(field.type);
  if (type < 1 || type > 4) {
    out->push_back(
        {path + ".type", "is not set; choose f32, f16, int8 or uint8"});
  }
  const auto index = static_cast<int>(field.index);
  if (index < 1 || index > 4) {
    out->push_back(
        {path + ".index", "is not set; choose automatic, HNSW, IVF or flat"});
  }
  if (field.hnsw.m < 4 || field.hnsw.m > 64) {
    out->push_back({path + ".index.hnsw.m",
                    absl::StrCat("is ", field.hnsw.m, "; it must be 4 to 64")});
  }
  if (field.hnsw.ef_construction < 16 || field.hnsw.ef_construction > 2000) {
    out->push_back({path + ".index.hnsw.ef_construction",
                    absl::StrCat("is ", field.hnsw.ef_construction,
                                 "; it must be 16 to 2000")});
  }
  if (field.ivf.num_lists > kMaxIvfLists) {
    out->push_back(
        {path + ".index.ivf.num_lists",
         absl::StrCat("is ", field.ivf.num_lists, "; it must be at most ",
                      kMaxIvfLists, ", or 0 for the server's choice")});
  }
  ValidateCodec(field.codec, field.dim, path + ".codec", out);
}

}  // namespace

bool HasIndex(const VectorField& field) {
  return field.index != IndexKind::kFlat ||
         field.codec.kind >= CodecSpec::Kind::kSaq;
}

std::optional<size_t> CollectionSchema::FindVector(
    absl::string_view wanted) const {
  for (size_t i = 0; i < vectors.size(); ++i) {
    if (vectors[i].name == wanted) return i;
  }
  return std::nullopt;
}

std::optional<size_t> CollectionSchema::FindSparse(
    absl::string_view wanted) const {
  for (size_t i = 0; i < sparse.size(); ++i) {
    if (sparse[i].name == wanted) return i;
  }
  return std::nullopt;
}

std::optional<size_t> CollectionSchema::FindText(absl::string_view path) const {
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].path == path) return i;
  }
  return std::nullopt;
}

std::optional<size_t> CollectionSchema::FindMulti(
    absl::string_view wanted) const {
  for (size_t i = 0; i < multi.size(); ++i) {
    if (multi[i].name == wanted) return i;
  }
  return std::nullopt;
}

const PayloadField* CollectionSchema::FindPartitionKey() const {
  const auto found = absl::c_find_if(
      payload_fields,
      [&](const PayloadField& field) { return field.path == partition_key; });
  return found == payload_fields.end() ? nullptr : &*found;
}

absl::StatusOr<PayloadField> CollectionSchema::FindIndexedField(
    absl::string_view path) const {
  for (const PayloadField& field : payload_fields) {
    if (field.path == path) return field;
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "payload field \"", path, "\" of collection \"", name,
      "\" has no index; create one (CreatePayloadIndex, vicinal index "
      "create) and ask again"));
}

// Format 1: u8 format, name, uuid (length-prefixed), created (i64), number of
// vectors (varint), then for each: name, dim (varint), metric, type, index
// (u8 each), m, ef_construction (u32), seed (u64). Format 2, written where a
// codec was chosen: then for each again codec (u8), avg_bits (f32). Format 3,
// written where a vector has lists: the same, and then for each num_lists (u32)
// and seed (u64). Format 4, written where memory was chosen or an index is
// automatic: the same, and then tier (u8) and budget (u64). Format 5, written
// where payload fields are declared or filters restricted: the same, then flags
// (u8; 1: indexed filters only), the number of payload fields (varint), and for
// each its path (length-prefixed) and type (u8). Format 6, written where there
// is a partition key: the same, then its path (length-prefixed). Format 7,
// written where there are sparse vectors or texts: the same (the path may be
// empty), then the number of sparse vectors (varint), for each its name
// (length-prefixed), weights (u8), flags (u8; 1: idf), the number of texts
// (varint), and for each its path (length-prefixed), flags (u8; 1: positions),
// k1, b (f32), version of ICU (length-prefixed) and the analyzer as
// EncodeAnalyzer has it. Format 8, written where there are multi-vectors: the
// same, then their number (varint) and each as EncodeMulti has it. Format 9,
// written where the use of a GPU was chosen: the same, then it (u8). What
// follows is ignored, so that fields can be added.
std::string CollectionSchema::Encode() const {
  std::string out;
  const bool has_codecs = absl::c_any_of(vectors, [](const VectorField& field) {
    return field.codec != CodecSpec{};
  });
  const bool has_lists = absl::c_any_of(vectors, [](const VectorField& field) {
    return field.index == IndexKind::kIvf;
  });
  const bool has_memory = memory != MemorySpec{} ||
                          absl::c_any_of(vectors, [](const VectorField& field) {
                            return field.index == IndexKind::kAuto;
                          });
  const bool has_gpu = gpu != GpuUse::kAuto;
  const bool has_multi = !multi.empty() || has_gpu;
  const bool has_lexical = !sparse.empty() || !texts.empty() || has_multi;
  const bool has_partitions = !partition_key.empty() || has_lexical;
  const bool has_fields =
      !payload_fields.empty() || indexed_filters_only || has_partitions;
  PutFixed<uint8_t>(&out, has_gpu          ? 9
                          : has_multi      ? 8
                          : has_lexical    ? 7
                          : has_partitions ? 6
                          : has_fields     ? 5
                          : has_memory     ? 4
                          : has_lists      ? 3
                          : has_codecs     ? 2
                                           : 1);
  PutLengthPrefixed(&out, name);
  PutLengthPrefixed(&out, uuid);
  PutFixed<int64_t>(&out, created_unix_micros);
  PutVarint64(&out, vectors.size());
  for (const VectorField& field : vectors) {
    PutLengthPrefixed(&out, field.name);
    PutVarint64(&out, field.dim);
    PutFixed(&out, static_cast<uint8_t>(field.metric));
    PutFixed(&out, static_cast<uint8_t>(field.type));
    PutFixed(&out, static_cast<uint8_t>(field.index));
    PutFixed<uint32_t>(&out, field.hnsw.m);
    PutFixed<uint32_t>(&out, field.hnsw.ef_construction);
    PutFixed<uint64_t>(&out, field.hnsw.seed);
  }
  if (!has_codecs && !has_lists && !has_memory && !has_fields) return out;
  for (const VectorField& field : vectors) {
    PutFixed(&out, static_cast<uint8_t>(field.codec.kind));
    PutFixed<float>(&out, field.codec.avg_bits);
  }
  if (!has_lists && !has_memory && !has_fields) return out;
  for (const VectorField& field : vectors) {
    PutFixed<uint32_t>(&out, field.ivf.num_lists);
    PutFixed<uint64_t>(&out, field.ivf.seed);
  }
  if (!has_memory && !has_fields) return out;
  PutFixed(&out, static_cast<uint8_t>(memory.tier));
  PutFixed<uint64_t>(&out, memory.budget_bytes);
  if (!has_fields) return out;
  PutFixed<uint8_t>(&out, indexed_filters_only ? 1 : 0);
  PutVarint64(&out, payload_fields.size());
  for (const PayloadField& field : payload_fields) {
    PutLengthPrefixed(&out, field.path);
    PutFixed(&out, static_cast<uint8_t>(field.type));
  }
  if (has_partitions) PutLengthPrefixed(&out, partition_key);
  if (has_lexical) EncodeLexical(*this, &out);
  if (has_multi) EncodeMulti(*this, &out);
  if (has_gpu) PutFixed(&out, static_cast<uint8_t>(gpu));
  return out;
}

absl::StatusOr<CollectionSchema> CollectionSchema::Decode(
    absl::string_view bytes) {
  const absl::Status damaged =
      absl::DataLossError("a collection's descriptor is damaged");
  uint8_t format = 0;
  if (!ConsumeFixed(&bytes, &format)) return damaged;
  if (format > kSchemaFormat) {
    return absl::FailedPreconditionError(absl::StrCat(
        "a collection's descriptor has format ", format,
        "; this version reads up to ", kSchemaFormat, ": use a newer one"));
  }
  CollectionSchema schema;
  absl::string_view name, uuid;
  uint64_t num_vectors = 0;
  if (!ConsumeLengthPrefixed(&bytes, &name) ||
      !ConsumeLengthPrefixed(&bytes, &uuid) ||
      !ConsumeFixed(&bytes, &schema.created_unix_micros) ||
      !ConsumeVarint64(&bytes, &num_vectors) || num_vectors > bytes.size()) {
    return damaged;
  }
  schema.name = std::string(name);
  schema.uuid = std::string(uuid);
  for (uint64_t i = 0; i < num_vectors; ++i) {
    VectorField field;
    absl::string_view field_name;
    uint64_t dim = 0;
    uint8_t metric = 0, type = 0, index = 0;
    if (!ConsumeLengthPrefixed(&bytes, &field_name) ||
        !ConsumeVarint64(&bytes, &dim) || !ConsumeFixed(&bytes, &metric) ||
        !ConsumeFixed(&bytes, &type) || !ConsumeFixed(&bytes, &index) ||
        !ConsumeFixed(&bytes, &field.hnsw.m) ||
        !ConsumeFixed(&bytes, &field.hnsw.ef_construction) ||
        !ConsumeFixed(&bytes, &field.hnsw.seed)) {
      return damaged;
    }
    if (metric < 1 || metric > 3 || type < 1 || type > 4 || index < 1 ||
        index > (format < 3   ? 2
                 : format < 4 ? 3
                              : 4) ||
        dim == 0 || dim > (uint64_t{1} << 24)) {
      return damaged;
    }
    field.name = std::string(field_name);
    field.dim = dim;
    field.metric = static_cast<Metric>(metric);
    field.type = static_cast<ElementType>(type);
    field.index = static_cast<IndexKind>(index);
    schema.vectors.push_back(std::move(field));
  }
  if (format < 2) return schema;
  for (VectorField& field : schema.vectors) {
    uint8_t kind = 0;
    if (!ConsumeFixed(&bytes, &kind) ||
        !ConsumeFixed(&bytes, &field.codec.avg_bits) ||
        kind > static_cast<uint8_t>(CodecSpec::Kind::kSq8) ||
        !std::isfinite(field.codec.avg_bits)) {
      return damaged;
    }
    field.codec.kind = static_cast<CodecSpec::Kind>(kind);
  }
  if (format < 3) return schema;
  for (VectorField& field : schema.vectors) {
    if (!ConsumeFixed(&bytes, &field.ivf.num_lists) ||
        !ConsumeFixed(&bytes, &field.ivf.seed) ||
        field.ivf.num_lists > kMaxIvfLists) {
      return damaged;
    }
  }
  if (format < 4) return schema;
  uint8_t tier = 0;
  if (!ConsumeFixed(&bytes, &tier) ||
      !ConsumeFixed(&bytes, &schema.memory.budget_bytes) ||
      tier > static_cast<uint8_t>(MemoryTier::kPinned)) {
    return damaged;
  }
  schema.memory.tier = static_cast<MemoryTier>(tier);
  if (format < 5) return schema;
  uint8_t flags = 0;
  uint64_t num_fields = 0;
  if (!ConsumeFixed(&bytes, &flags) || !ConsumeVarint64(&bytes, &num_fields) ||
      num_fields > bytes.size()) {
    return damaged;
  }
  schema.indexed_filters_only = (flags & 1) != 0;
  for (uint64_t i = 0; i < num_fields; ++i) {
    absl::string_view path;
    uint8_t type = 0;
    if (!ConsumeLengthPrefixed(&bytes, &path) || !ConsumeFixed(&bytes, &type) ||
        type < 1 || type > static_cast<uint8_t>(PayloadType::kGeo)) {
      return damaged;
    }
    schema.payload_fields.push_back(
        {std::string(path), static_cast<PayloadType>(type)});
  }
  if (format < 6) return schema;
  absl::string_view partition_key;
  if (!ConsumeLengthPrefixed(&bytes, &partition_key)) return damaged;
  schema.partition_key = std::string(partition_key);
  const bool may_lack_key = format >= 7 && partition_key.empty();
  if (!may_lack_key && schema.FindPartitionKey() == nullptr) return damaged;
  if (format >= 7 && !DecodeLexical(&bytes, &schema)) return damaged;
  if (format >= 8 && !DecodeMulti(&bytes, &schema)) return damaged;
  if (format < 9) return schema;
  uint8_t gpu = 0;
  if (!ConsumeFixed(&bytes, &gpu) ||
      gpu > static_cast<uint8_t>(GpuUse::kRequire)) {
    return damaged;
  }
  schema.gpu = static_cast<GpuUse>(gpu);
  return schema;
}

namespace {

void ValidatePartitions(const CollectionSchema& schema,
                        std::vector<FieldViolation>* out) {
  const PayloadField* field = schema.FindPartitionKey();
  if (field == nullptr) {
    out->push_back(
        {"partition_key", absl::StrCat("\"", schema.partition_key,
                                       "\" has no index; add it to the payload "
                                       "indexes as keyword, i64 or uuid")});
  } else if (field->type != PayloadType::kKeyword &&
             field->type != PayloadType::kInt64 &&
             field->type != PayloadType::kUuid) {
    out->push_back(
        {"partition_key",
         absl::StrCat("\"", field->path, "\" is of type ",
                      PayloadTypeName(field->type),
                      "; points are divided by keyword, i64 or uuid")});
  }
  for (size_t i = 0; i < schema.vectors.size(); ++i) {
    const VectorField& vector = schema.vectors[i];
    const std::string path = absl::StrCat("vectors[", i, "].index");
    if (vector.index == IndexKind::kHnsw || vector.index == IndexKind::kAuto) {
      out->push_back({path,
                      "is or may be a graph, which has no partitions; with a "
                      "partition_key choose ivf or flat, or leave it out"});
    }
    if (vector.index == IndexKind::kIvf && vector.ivf.num_lists != 0) {
      out->push_back(
          {path + ".ivf.num_lists",
           absl::StrCat("is ", vector.ivf.num_lists,
                        "; with a partition_key every partition has lists of "
                        "its own: leave it out")});
    }
  }
}

}  // namespace

std::vector<FieldViolation> ValidateSchema(const CollectionSchema& schema,
                                           const Limits& limits) {
  std::vector<FieldViolation> out;
  if (schema.name.empty()) {
    out.push_back({"name", "is empty; a collection needs a name"});
  } else if (std::string problem =
                 NameProblem(schema.name, limits.max_name_bytes);
             !problem.empty()) {
    out.push_back({"name", "the collection's name " + problem});
  }
  const bool has_others =
      !schema.sparse.empty() || !schema.texts.empty() || !schema.multi.empty();
  if ((schema.vectors.empty() && !has_others) ||
      schema.vectors.size() > limits.max_vectors_per_point) {
    out.push_back({"vectors", absl::StrCat("has ", schema.vectors.size(),
                                           " vectors; there must be 1 to ",
                                           limits.max_vectors_per_point,
                                           ", or none beside sparse vectors, "
                                           "multi-vectors or texts")});
  }
  if (schema.memory.tier > MemoryTier::kPinned) {
    out.push_back({"memory.tier",
                   "is unknown; choose RAM, MAPPED or PINNED, or leave it "
                   "out"});
  }
  if (schema.gpu > GpuUse::kRequire) {
    out.push_back(
        {"gpu", "is unknown; choose AUTO, NEVER or REQUIRE, or leave it out"});
  }
  for (size_t i = 0; i < schema.vectors.size(); ++i) {
    const std::string path = absl::StrCat("vectors[", i, "]");
    ValidateField(schema.vectors[i], path, limits, &out);
    if (schema.vectors[i].name.empty() && schema.vectors.size() > 1) {
      out.push_back({path + ".name",
                     "is empty; only a collection's one vector may have no "
                     "name"});
    }
    if (schema.FindVector(schema.vectors[i].name) != i) {
      out.push_back(
          {path + ".name", absl::StrCat("\"", schema.vectors[i].name,
                                        "\" stands twice; names must differ")});
    }
  }
  if (schema.payload_fields.size() > limits.max_payload_fields) {
    out.push_back(
        {"payload_fields",
         absl::StrCat("has ", schema.payload_fields.size(), " fields; at most ",
                      limits.max_payload_fields, " are allowed")});
  }
  absl::flat_hash_set<std::string> paths;
  for (size_t i = 0; i < schema.payload_fields.size(); ++i) {
    const PayloadField& field = schema.payload_fields[i];
    const std::string at = absl::StrCat("payload_fields[", i, "]");
    if (std::string problem = PathProblem(field.path); !problem.empty()) {
      out.push_back({at + ".path", std::move(problem)});
    } else if (!paths.insert(field.path).second) {
      out.push_back({at + ".path", absl::StrCat("\"", field.path,
                                                "\" stands twice; a field has "
                                                "one type")});
    }
    if (field.type < PayloadType::kKeyword || field.type > PayloadType::kGeo) {
      out.push_back({at + ".type",
                     "is unknown; choose keyword, i64, f64, bool, datetime, "
                     "uuid or geo"});
    }
  }
  if (!schema.partition_key.empty()) ValidatePartitions(schema, &out);
  ValidateLexical(schema, limits, &out);
  ValidateMulti(schema, limits, &out);
  return out;
}

Layout LayoutOf(const CollectionSchema& schema) {
  // A row's id, ordinal, hash and slot of the id table.
  constexpr size_t kBookkeepingBytes = 80;
  Layout layout;
  layout.memory_per_row = kBookkeepingBytes;
  for (const VectorField& field : schema.vectors) {
    FieldLayout out;
    out.dim = field.dim;
    out.type = field.type;
    out.metric = field.metric;
    out.normalized =
        field.metric == Metric::kCosine && field.type == ElementType::kFloat32;
    out.search_metric = out.normalized ? Metric::kInnerProduct : field.metric;
    out.row_bytes = field.dim * ElementSize(field.type);
    // Rows that start at a cache line touch one line less each; that is worth
    // an eighth more memory, not more.
    const size_t padded = (out.row_bytes + 63) / 64 * 64;
    out.stride_bytes =
        padded - out.row_bytes <= out.row_bytes / 8 ? padded : out.row_bytes;
    layout.memory_per_row += out.stride_bytes;
    layout.fields.push_back(out);
  }
  for (const SparseField& field : schema.sparse) {
    layout.lexical.push_back(
        {.kind = LexicalKind::kSparse, .weight = field.weight});
  }
  layout.num_sparse = layout.lexical.size();
  for (const TextField& field : schema.texts) {
    AnalyzerSpec prefix = field.analyzer;
    prefix.stemmer = "none";
    prefix.remove_stop_words = false;
    prefix.extra_stop_words.clear();
    prefix.min_token_chars = 1;
    auto analyzer = Analyzer::Make(field.analyzer);
    auto prefix_analyzer = Analyzer::Make(prefix);
    if (!analyzer.ok() || !prefix_analyzer.ok()) {
      layout.status = absl::FailedPreconditionError(absl::StrCat(
          "text \"", field.path, "\": ",
          (analyzer.ok() ? prefix_analyzer : analyzer).status().message()));
      layout.lexical.emplace_back();
      continue;
    }
    layout.lexical.push_back({.kind = LexicalKind::kText,
                              .weight = SparseWeight::kCount,
                              .positions = field.positions,
                              .path = field.path,
                              .analyzer = *std::move(analyzer),
                              .prefix_analyzer = *std::move(prefix_analyzer)});
  }
  for (const MultiVectorField& field : schema.multi) {
    layout.multi.push_back(SpecOf(field));
  }
  return layout;
}

}  // namespace vicinal
