// What a collection's points look like.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "index/hnsw.h"
#include "index/ivf.h"
#include "index/sparse.h"
#include "quant/codec.h"
#include "quant/multi_encoder.h"
#include "quant/token_codec.h"
#include "src/base/types.h"
#include "src/engine/limits.h"
#include "src/payload/payload_key.h"
#include "src/text/analyzer.h"

namespace vicinal {

enum class IndexKind : uint8_t {
  kHnsw = 1,
  kFlat = 2,
  kIvf = 3,
  // A graph or lists, whichever searches a segment faster: both are built and
  // measured, one is kept.
  kAuto = 4,
};

// How the vectors of sealed segments are encoded for searching. The vectors
// themselves are always kept: codes are derived from them, and answers are
// compared with them. Stored in descriptors.
struct CodecSpec {
  enum class Kind : uint8_t {
    // saq for segments large enough to train one, rbq for smaller ones; none
    // for flat indexes and vectors of less than 128 bytes.
    kAuto = 0,
    kNone = 1,  // search the vectors as they are
    kSaq = 2,   // dimension segments with bits by their variance
    kRbq = 3,   // the same bits everywhere, no training
    kSq8 = 4,   // eight bits everywhere
  };
  Kind kind = Kind::kAuto;
  // Bits per dimension, on average, 0.5 to 8; 0: by the dimension (see
  // DefaultAvgBits). kSaq takes any, kRbq 1, 2 or 4, the others none.
  float avg_bits = 0;

  friend bool operator==(const CodecSpec&, const CodecSpec&) = default;
};

// Where sealed segments keep what searches read.
enum class MemoryTier : uint8_t {
  // Codes, links and lists in memory, vectors in mapped files.
  kRam = 0,
  // All in mapped files: as much in memory as the system has room for.
  kMapped = 1,
  // As kRam, and the vectors are locked in memory.
  kPinned = 2,
};

struct MemorySpec {
  MemoryTier tier = MemoryTier::kRam;
  // Most bytes of codes, links and lists in memory over all sealed segments; 0:
  // no limit. Where nobody chose a codec it gets as few bits as this asks for,
  // and segments that still find no room are mapped.
  uint64_t budget_bytes = 0;

  friend bool operator==(const MemorySpec&, const MemorySpec&) = default;
};

// Whether a GPU builds and searches a collection's sealed segments. Results are
// the same.
enum class GpuUse : uint8_t {
  kAuto = 0,  // where there is one and it is faster
  kNever = 1,
  // Every exact search asks it, also where it takes longer or waits for the
  // segment to be loaded; what it cannot do the CPU does.
  kRequire = 2,
};

// One named dense vector.
struct VectorField {
  std::string name;  // may be empty: the only vector of a simple collection
  size_t dim = 0;
  Metric metric = Metric::kL2;
  // What is stored; other wire types are converted, and rejected with
  // InvalidArgument when a value is not representable.
  ElementType type = ElementType::kFloat32;
  IndexKind index = IndexKind::kHnsw;
  HnswParams hnsw;
  IvfParams ivf;
  CodecSpec codec;
};

// One named sparse vector, searched by the inner product.
struct SparseField {
  std::string name;                              // not empty
  SparseWeight weight = SparseWeight::kFloat32;  // or kFloat16
  // Queries' weights are multiplied by the idf of their dimensions.
  bool idf = false;
};

// One named multi-vector: of each point the token vectors of a document (late
// interaction: ColBERT, ColPali), searched by MaxSim.
struct MultiVectorField {
  std::string name;                          // not empty
  size_t dim = 0;                            // of a token; 1..kMaxTokenDim
  Metric metric = Metric::kCosine;           // or kInnerProduct
  ElementType type = ElementType::kFloat16;  // any but kUint8
  size_t max_tokens = 4'096;                 // of a point; 1..kMaxTokens
  // Whether points may have this vector with no token in it; they are then
  // stored as points without it, and no search finds them. Else it is refused.
  bool allow_empty = false;
  // How sealed segments find candidates and compare them; derived data.
  MultiEncoderParams encoder;
  TokenCodecKind token_codec = TokenCodecKind::kInt4;
  float avg_bits = 0;  // of the codes of encodings; 0.5 to 8; 0: 2
};

inline constexpr size_t kMaxTokenDim = 4'096;
inline constexpr size_t kMaxTokens = 65'535;

inline constexpr float kMaxK1 = 100;

// One text: strings of the payload, searched by BM25.
struct TextField {
  std::string path;  // as in filters
  AnalyzerSpec analyzer;
  std::string icu_version;  // of the library that Create found
  bool positions = false;   // kept, for phrases
  float k1 = 1.2f;
  float b = 0.75f;
};

// Whether sealed segments are searched by more than a scan of the vectors: a
// flat index is one of codes where a codec was chosen.
bool HasIndex(const VectorField& field);

struct CollectionSchema {
  std::string name;  // [A-Za-z0-9_.-]{1,128}, not starting with '.' or '-'
  std::string uuid;  // given by Create; names the collection for ever
  int64_t created_unix_micros = 0;
  std::vector<VectorField> vectors;  // 0..16; order is the field number
  // At least one vector, sparse vector, multi-vector or text.
  std::vector<SparseField> sparse;      // 0..16
  std::vector<TextField> texts;         // 0..16; no path twice
  std::vector<MultiVectorField> multi;  // 0..16
  MemorySpec memory;
  GpuUse gpu = GpuUse::kAuto;
  // Fields of payloads whose type is known and that have an index; no path
  // twice.
  std::vector<PayloadField> payload_fields;
  // Whether filters over other fields are refused (else payloads are read).
  bool indexed_filters_only = false;
  // Path of the payload field, one of keywords, integers or UUIDs, whose points
  // lie together by value, so that a search of one value reads no others';
  // empty: none. Never changes. A point with several values lies with the
  // least.
  std::string partition_key;

  // Index into vectors; nullopt when there is none of that name.
  std::optional<size_t> FindVector(absl::string_view name) const;
  std::optional<size_t> FindSparse(absl::string_view name) const;
  std::optional<size_t> FindText(absl::string_view path) const;
  std::optional<size_t> FindMulti(absl::string_view name) const;
  // The partition key; null: none.
  const PayloadField* FindPartitionKey() const;
  // FailedPrecondition: no payload field of that path has an index.
  absl::StatusOr<PayloadField> FindIndexedField(absl::string_view path) const;
  std::string Encode() const;
  static absl::StatusOr<CollectionSchema> Decode(absl::string_view bytes);
};

// A rejected part of a request: what the caller must change. `field` is a
// path in the terms of the request, e.g. "vectors[0].dim".
struct FieldViolation {
  std::string field;
  std::string description;
};

// Everything wrong with a schema that Create would be given (uuid and times
// are not looked at); empty when it is fine.
std::vector<FieldViolation> ValidateSchema(const CollectionSchema& schema,
                                           const Limits& limits);

}  // namespace vicinal
