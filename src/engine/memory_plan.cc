#include "src/engine/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/str_format.h"
#include "index/hnsw.h"
#include "index/ivf.h"
#include "quant/multi_encoder.h"
#include "quant/token_codec.h"
#include "src/distance/code_kernels.h"

namespace vicinal {
namespace {

// Below this many rows the server's choice is codes that learn nothing.
// Measured at 5,000 rows: with 784 dimensions as fast as saq or faster, with
// 100 and 512 equal, and built in a third of the time.
constexpr size_t kMinSaqRows = 10'000;
constexpr float kEarlyBits = 4;
constexpr float kMinBits = 0.5f;
// Of a vector: shorter ones are not worth a record.
constexpr size_t kMinCodedRowBytes = 128;

// Of a segment's file: ordinals, their order, ids and the table of ids.
constexpr double kIdBytesPerPoint = 8 + 4 + 9 + 8 + 12;
// Of RocksDB: key, ordinal, id map.
constexpr double kRecordOverheadBytes = 60;

// Measured on AMD EPYC (docs/BENCHMARKS.md), microseconds of one thread for a
// row: what does not depend on the dimension, and what does.
constexpr double kGraphMicros = 35, kGraphMicrosPerDim = 0.13;
constexpr double kListMicros = 5, kListMicrosPerDim = 0.03;
constexpr double kCodeMicrosPerDim = 0.025;
constexpr double kTrainSeconds = 0.6, kTrainDim = 784;

// What a document is taken to have: a passage of ColBERT has about so many.
constexpr size_t kTokensPerDocument = 80;
// A document's encoding, of one thread: MUVERA is one product of matrices, OLS
// a regression; who chooses by itself tries both.
constexpr double kMuveraMicros = 500, kOlsMicros = 2'000;
constexpr double kEncodingBits = 2;

// A level of the graph has a sixteenth of the rows of the one below; see
// index/hnsw_graph.h.
double LinkBytes(const HnswParams& hnsw) {
  const double level0 = (2.0 * hnsw.m) * sizeof(uint32_t);
  return level0 + level0 / 2 / (hnsw.m - 1) + 5;
}

double ListBytes(const VectorField& field, uint64_t num_points) {
  const double lists = field.index == IndexKind::kFlat ? 1
                       : field.ivf.num_lists > 0
                           ? field.ivf.num_lists
                           : std::sqrt(static_cast<double>(num_points));
  return lists * (static_cast<double>(field.dim) * sizeof(float) + 4);
}

bool IsAutomatic(const VectorField& field) {
  return field.codec.kind == CodecSpec::Kind::kAuto;
}

// An automatic index may become a graph, which takes more.
bool MayHaveLinks(const VectorField& field) {
  return field.index == IndexKind::kHnsw || field.index == IndexKind::kAuto;
}

double StructureBytes(const VectorField& field, uint64_t num_points) {
  return MayHaveLinks(field)
             ? static_cast<double>(num_points) * LinkBytes(field.hnsw)
             : ListBytes(field, num_points);
}

size_t RecordBytes(const CodecParams& codec, size_t dim) {
  if (codec.kind == CodecKind::kSaq) {
    return CodeRecordBytes(dim, codec.avg_bits);
  }
  return UniformRecordBytes(dim, codec.kind == CodecKind::kSq8
                                     ? 8
                                     : static_cast<uint32_t>(codec.avg_bits));
}

// Most bytes that the budget leaves for a record's dimension, of the fields
// whose codec nobody chose; infinity without a budget.
double BudgetBytesPerDim(const CollectionSchema& schema, size_t num_points) {
  if (schema.memory.budget_bytes == 0 || num_points == 0) return INFINITY;
  double bytes = static_cast<double>(schema.memory.budget_bytes);
  double dims = 0;
  for (const VectorField& field : schema.vectors) {
    if (HasIndex(field)) bytes -= StructureBytes(field, num_points);
    if (IsAutomatic(field)) dims += static_cast<double>(field.dim);
  }
  return dims > 0 ? bytes / static_cast<double>(num_points) / dims : 0;
}

// The codec of the most bits, `params` or less, whose record takes no more than
// that; else that of the fewest.
CodecParams Within(CodecParams params, size_t dim, double bytes_per_dim) {
  const double bytes = bytes_per_dim * static_cast<double>(dim);
  const float fewest = params.kind == CodecKind::kSaq ? kMinBits : 1;
  while (params.avg_bits > fewest &&
         static_cast<double>(RecordBytes(params, dim)) > bytes) {
    params.avg_bits = params.kind == CodecKind::kSaq ? params.avg_bits - 0.25f
                                                     : params.avg_bits / 2;
  }
  params.avg_bits = std::max(params.avg_bits, fewest);
  return params;
}

// Of a coded token: its scale, its centroid, its bits.
double CodedTokenBytes(const MultiVectorField& field) {
  double bits = 0;
  switch (field.token_codec) {
    case TokenCodecKind::kInt8:
      bits = 8;
      break;
    case TokenCodecKind::kInt4:
      bits = 4;
      break;
    case TokenCodecKind::kInt2:
      bits = 2;
      break;
    case TokenCodecKind::kBinary:
      bits = 1;
      break;
  }
  const double padded = std::ceil(static_cast<double>(field.dim) / 32) * 32;
  return sizeof(float) + (field.token_codec == TokenCodecKind::kInt2 ? 1 : 0) +
         padded * bits / 8;
}

// Of one document.
struct DocumentCost {
  double mapped = 0;  // tokens, their codes, encodings
  double record = 0;
  double hot = 0;  // codes of encodings
  double micros = 0;
};

DocumentCost CostOf(const MultiVectorField& field, uint64_t num_points) {
  using Kind = MultiEncoderParams::Kind;
  const auto tokens =
      static_cast<double>(std::min(field.max_tokens, kTokensPerDocument));
  DocumentCost out;
  out.record = tokens * static_cast<double>(field.dim) *
               static_cast<double>(ElementSize(field.type));
  out.mapped = out.record + tokens * CodedTokenBytes(field) + sizeof(uint64_t);
  if (field.encoder.kind == Kind::kNone || num_points < kMinIndexRows) {
    return out;
  }
  const auto dim = static_cast<double>(EncodingDim(field.encoder, field.dim));
  const double bits = field.avg_bits == 0 ? kEncodingBits : field.avg_bits;
  out.mapped += dim * sizeof(uint16_t);
  out.hot = dim * bits / 8;
  out.micros =
      (field.encoder.kind == Kind::kMuvera ? kMuveraMicros : kOlsMicros) +
      kCodeMicrosPerDim * dim;
  return out;
}

}  // namespace

std::optional<CodecParams> ChooseCodec(const CollectionSchema& schema,
                                       const Layout& layout, size_t f,
                                       size_t num_rows, size_t num_points) {
  using Kind = CodecSpec::Kind;
  const VectorField& field = schema.vectors[f];
  const CodecSpec& spec = field.codec;
  const float bits =
      spec.avg_bits == 0 ? DefaultAvgBits(field.dim) : spec.avg_bits;
  CodecParams params;
  switch (spec.kind) {
    case Kind::kNone:
      return std::nullopt;
    case Kind::kAuto: {
      if (layout.fields[f].row_bytes < kMinCodedRowBytes ||
          field.dim > kMaxCodecDim) {
        return std::nullopt;
      }
      const bool is_small = num_rows < kMinSaqRows;
      params.kind = is_small ? CodecKind::kRbq : CodecKind::kSaq;
      params.avg_bits = is_small ? kEarlyBits : bits;
      return Within(params, field.dim,
                    BudgetBytesPerDim(schema, std::max(num_rows, num_points)));
    }
    case Kind::kSaq:
      params.kind = CodecKind::kSaq;
      params.avg_bits = bits;
      return params;
    case Kind::kRbq:
      params.kind = CodecKind::kRbq;
      params.avg_bits = spec.avg_bits == 0 ? kEarlyBits : spec.avg_bits;
      return params;
    case Kind::kSq8:
      params.kind = CodecKind::kSq8;
      return params;
  }
  return std::nullopt;
}

ResourceEstimate EstimateResources(const CollectionSchema& schema,
                                   uint64_t num_points, size_t num_threads) {
  const Layout layout = LayoutOf(schema);
  const auto n = static_cast<double>(num_points);
  ResourceEstimate out;
  double hot = 0, vectors = 0, records = kRecordOverheadBytes * n;
  double micros = 0;
  for (size_t f = 0; f < schema.vectors.size(); ++f) {
    const VectorField& field = schema.vectors[f];
    const FieldLayout& place = layout.fields[f];
    const auto dim = static_cast<double>(field.dim);
    vectors += n * static_cast<double>(place.stride_bytes);
    records += n * static_cast<double>(place.row_bytes);
    if (!HasIndex(field) || num_points < kMinIndexRows) continue;
    hot += StructureBytes(field, num_points);
    if (MayHaveLinks(field)) {
      micros += n * (kGraphMicros + kGraphMicrosPerDim * dim);
    } else {
      micros += n * (kListMicros + kListMicrosPerDim * dim);
    }
    const std::optional<CodecParams> codec =
        ChooseCodec(schema, layout, f, num_points, num_points);
    if (!codec.has_value()) continue;
    hot += n * static_cast<double>(RecordBytes(*codec, field.dim));
    micros += n * kCodeMicrosPerDim * dim;
    if (codec->kind == CodecKind::kSaq) {
      micros += 1e6 * kTrainSeconds * std::pow(dim / kTrainDim, 2);
    }
  }
  for (const MultiVectorField& field : schema.multi) {
    const DocumentCost cost = CostOf(field, num_points);
    vectors += n * cost.mapped;
    records += n * cost.record;
    hot += n * cost.hot;
    micros += n * cost.micros;
    out.warnings.push_back(absl::StrFormat(
        "Multi-vector \"%s\" is reckoned with %d tokens per document: what it "
        "takes on disk and in mapped files grows with them.",
        field.name, std::min(field.max_tokens, kTokensPerDocument)));
  }
  const uint64_t budget = schema.memory.budget_bytes;
  const bool fits = budget == 0 || hot <= static_cast<double>(budget);
  if (!fits) {
    out.warnings.push_back(absl::StrFormat(
        "memory.budget_bytes is %d, and codes and links of %d points take at "
        "least %.0f bytes: what does not fit is searched from mapped files, "
        "with "
        "the same answers but slower.",
        budget, num_points, hot));
  }
  const bool in_ram = fits && schema.memory.tier != MemoryTier::kMapped;
  const double files = vectors + hot + n * kIdBytesPerPoint;
  out.ram_bytes = static_cast<uint64_t>(
      (in_ram ? hot : 0) +
      (schema.memory.tier == MemoryTier::kPinned ? vectors : 0));
  out.mapped_bytes = static_cast<uint64_t>(files - (in_ram ? hot : 0));
  out.disk_bytes = static_cast<uint64_t>(files + records);
  out.build_seconds =
      micros * 1e-6 / static_cast<double>(std::max<size_t>(1, num_threads));
  return out;
}

}  // namespace vicinal
