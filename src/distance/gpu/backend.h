// What the engine asks of whatever compares vectors in bulk: the CPU and each
// GPU implement it, give the same answers to the last bit, and pass the same
// tests (tests/distance/gpu). This folder is a leaf: it builds alone, with
// nothing but nvcc and g++ (scripts/gpu_test.sh).
//
// Every distance that leaves a backend is computed in the canonical order of
// src/distance/distance.h; every result is ordered by (distance, row). How the
// candidates were found shows in the time alone.
//
// Life: made once per device, then const; every method is safe from any number
// of threads and returns when its result is there. Inputs are trusted: checked
// at the edge of the server, finite, of the shapes said here.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/kernels_codes.h"
#include "src/distance/kernels_maxsim.h"

namespace vicinal {

// What became of a call. On anything but kOk its outputs are undefined and the
// caller asks the CPU instead, whose answer is the same.
enum class BackendStatus : uint8_t {
  kOk = 0,
  kUnsupported = 1,  // not by this device, or not of these shapes
  kNoMemory = 2,     // evict segments, or ask the CPU
  kDeviceLost = 3,   // and so will every later call be
};
const char* BackendStatusName(BackendStatus status);

// A segment that a backend holds. Freed when the last owner lets go, which must
// be before the backend is.
class LoadedSegment {
 public:
  virtual ~LoadedSegment() = default;
  virtual size_t num_rows() const = 0;
  virtual size_t device_bytes() const = 0;
};

// Writes rows begin .. end - 1, without gaps.
using RowWriter = std::function<void(size_t begin, size_t end, void* out)>;

// The rows of one segment as Load takes them; borrowed until it returns, by the
// CPU for as long as the segment is loaded. Rows that are nowhere yet have
// rows.data and stride_bytes 0, and one of the following.
struct SegmentRows {
  VectorSetView rows;  // bf16: kUnsupported
  Metric metric = Metric::kL2;
  // Asked for parts of the rows, one after the other, by the thread that loads
  // them, until Load returns; a Load that is tried again begins anew.
  const RowWriter* write = nullptr;
  // Row i is row part[i] of `whole`, which the same backend holds, of the same
  // dimension and type. Borrowed until Load returns.
  const LoadedSegment* whole = nullptr;
  const RowId* part = nullptr;
  // Not worth letting go of what others have loaded, where room can be made so.
  bool is_modest = false;
};

// num_queries x dim elements of the segment's type, without gaps.
struct QueryBatch {
  const void* data = nullptr;
  size_t num_queries = 0;
};

// Most neighbours of one query.
inline constexpr size_t kMaxBackendK = 1024;

// Rows begin .. end - 1 of a segment.
struct RowRange {
  RowId begin = 0;
  RowId end = 0;

  friend auto operator<=>(const RowRange&, const RowRange&) = default;
};

// Query q asks for the rows of ranges[offsets[q]] .. ranges[offsets[q + 1] -
// 1], which ascend and have no row twice; maybe of none.
struct RangeLists {
  const uint32_t* offsets = nullptr;  // num_queries + 1, the first 0
  const RowRange* ranges = nullptr;
};

// Documents of token vectors as LoadTokens takes them; borrowed as rows are.
// Document i has the tokens offsets[i] .. offsets[i + 1] - 1, maybe none.
struct TokenDocuments {
  const void* tokens = nullptr;       // offsets[num_docs] x dim, without gaps
  const uint64_t* offsets = nullptr;  // num_docs + 1, the first 0
  size_t num_docs = 0;
  size_t dim = 0;
  ElementType type = ElementType::kFloat16;  // or f32, bf16
  bool cosine = true;  // tokens are compared as unit vectors
};

// Query q has the tokens offsets[q] .. offsets[q + 1] - 1, one at least. They
// are compared as they are: of unit length already where documents' tokens are
// compared as unit vectors.
struct TokenQueries {
  const float* tokens = nullptr;      // offsets[num_queries] x dim
  const uint32_t* offsets = nullptr;  // num_queries + 1, the first 0
  const float* weights = nullptr;     // a token; >= 0; null: all 1
  size_t num_queries = 0;
};

// The same documents as coded tokens (src/distance/kernels_maxsim.h), such as
// sealed segments keep.
struct CodedTokenDocuments {
  TokenCodeForm form = {};
  const uint8_t* records = nullptr;   // offsets[num_docs] of form.record_bytes
  const uint64_t* offsets = nullptr;  // num_docs + 1, the first 0
  size_t num_docs = 0;
};

// One query for them, as TokenCodec::Prepare (quant/token_codec.h) makes it.
struct CodedTokenQuery {
  size_t num_tokens = 0;  // one at least
  // As MaxSimKernels::max_codes takes them, in as many panels as needed.
  const int8_t* panels = nullptr;
  const int32_t* sums = nullptr;
  const float* table = nullptr;   // of forms with centroids
  const float* scales = nullptr;  // a token
  double constant = 0;
};

// Query q is compared with docs[offsets[q]] .. docs[offsets[q + 1] - 1], in any
// order; one that is there twice may be returned twice. offsets null: each
// query with all documents.
struct DocumentLists {
  const uint32_t* offsets = nullptr;  // num_queries + 1, the first 0
  const RowId* docs = nullptr;
};

// How a search went about it, for explanations and benchmarks.
struct BackendReport {
  uint64_t candidates = 0;  // compared exactly
  uint32_t rounds = 0;      // over (growing) parts of the rows
  uint32_t repeated = 0;    // queries asked again since a buffer was full
  uint32_t fallbacks = 0;   // queries answered by comparing every row exactly
};

// Link selection (Malkov and Yashunin, 2020, algorithm 4): of a row's
// candidates, nearest first, those are chosen that are, by `share`, nearer to
// the row than to every one chosen before.
struct LinkRule {
  size_t max_links = 16;
  float share = 1;            // of a candidate's own distance
  size_t max_duplicates = 4;  // chosen candidates at distance 0
};
inline constexpr size_t kMaxBackendLinks = 128;

// The code records of one segment (src/distance/kernels_codes.h); borrowed as
// SegmentRows are.
struct SegmentCodes {
  const CodeLayout* layout = nullptr;
  const uint8_t* records = nullptr;  // aligned to 4
  size_t stride_bytes = 0;           // a multiple of 4
  size_t num_rows = 0;
};

// One query among the rows of one list; terms: its factors for those rows.
struct CodeProbe {
  uint32_t query = 0;
  uint32_t list = 0;
  const CodeQuery* terms = nullptr;
};

// What is asked of codes. Probes of one query lie together, queries ascend; of
// a query no list is there twice, and those that are likely to have the nearest
// rows best come first.
struct CodeQuestion {
  const CodeProbe* probes = nullptr;
  size_t num_probes = 0;
  // Of query q from values + q * value_bytes on, as of CodeQuery; those of
  // terms are not looked at.
  const int8_t* values = nullptr;
  size_t value_bytes = 0;
  size_t num_queries = 0;
  // List l has the rows list_offsets[l] .. list_offsets[l + 1] - 1. All rows as
  // one list: {0, num_rows}.
  const uint32_t* list_offsets = nullptr;
  size_t num_lists = 0;
  const uint64_t* accepted = nullptr;  // as of Search
  size_t k = 0;                        // 1 <= k <= depth <= kMaxBackendK
  // Of each query the rows of the `depth` least estimates, ties by their
  // numbers, are kept; of them the k first are returned, with their estimates;
  // or, with `rows`, which has the vectors of the same rows, the k nearest,
  // with their distances to queries (num_queries vectors, as of QueryBatch).
  size_t depth = 0;
  const LoadedSegment* rows = nullptr;
  const void* queries = nullptr;
  size_t query_bytes = 0;  // of one of them
};

class DistanceBackend {
 public:
  virtual ~DistanceBackend() = default;

  virtual const char* name() const = 0;  // "cpu", "cuda:0", ...
  // Of the segments that are loaded and the room to work in.
  virtual size_t device_bytes() const = 0;
  // Whether KnnGraph and LinkGraph are fast enough to build with: comparing all
  // rows with all takes a matrix kernel, which is there for compute capability
  // 9.0.
  virtual bool builds_graphs() const = 0;

  virtual BackendStatus Load(const SegmentRows& segment,
                             std::shared_ptr<const LoadedSegment>* out) = 0;

  // The k nearest accepted rows of each query: out[q * k + i], nearest first,
  // filled up with {infinity, kInvalidRow}. accepted: bit r of word r / 64 says
  // whether row r may be returned; null: all may. 1 <= k <= kMaxBackendK.
  // report may be null.
  virtual BackendStatus Search(const LoadedSegment& segment,
                               const QueryBatch& queries, size_t k,
                               const uint64_t* accepted, Neighbor* out,
                               BackendReport* report) const = 0;

  // The same among the rows of each query's ranges.
  virtual BackendStatus SearchRanges(const LoadedSegment& /*segment*/,
                                     const QueryBatch& /*queries*/,
                                     const RangeLists& /*lists*/, size_t /*k*/,
                                     const uint64_t* /*accepted*/,
                                     Neighbor* /*out*/,
                                     BackendReport* /*report*/) const {
    return BackendStatus::kUnsupported;
  }

  // Distances of query q to rows[offsets[q]] .. rows[offsets[q + 1] - 1], into
  // out beside them. offsets has num_queries + 1 elements, the first 0.
  virtual BackendStatus Score(const LoadedSegment& segment,
                              const QueryBatch& queries,
                              const uint32_t* offsets, const RowId* rows,
                              float* out) const = 0;

  // The k nearest other rows of each row: out[row * k + i], as Search orders
  // them. 1 <= k < kMaxBackendK.
  virtual BackendStatus KnnGraph(const LoadedSegment& segment, size_t k,
                                 Neighbor* out,
                                 BackendReport* report) const = 0;

  // Of the k nearest other rows of rows begin .. end of a segment of f32 under
  // L2, those that the rule chooses: out[(row - begin) * rule.max_links + i],
  // filled up as above. num_duplicates[row - begin]: of the k, those at
  // distance 0; may be null. kUnsupported, too, where so many rows have
  // thousands of copies that this would take long.
  virtual BackendStatus LinkGraph(const LoadedSegment& segment, RowId begin,
                                  RowId end, size_t k, const LinkRule& rule,
                                  Neighbor* out, uint32_t* num_duplicates,
                                  BackendReport* report) const = 0;

  // The rule applied to lists of candidates of such a segment: list i is
  // lists[offsets[i]] .. lists[offsets[i + 1] - 1], ascending, with the
  // distances to its own row; its links are out[i * rule.max_links + j].
  virtual BackendStatus SelectLinks(const LoadedSegment& segment,
                                    size_t num_lists, const uint32_t* offsets,
                                    const Neighbor* lists, const LinkRule& rule,
                                    Neighbor* out) const = 0;

  // The centroid (num_centroids x dim floats) nearest to each row of a segment
  // of f32 by squared L2, whatever its metric; ties go to the smaller one.
  // distances: canonical; may be null.
  virtual BackendStatus Assign(const LoadedSegment& segment,
                               const float* centroids, size_t num_centroids,
                               uint32_t* nearest, float* distances) const = 0;

  // Lloyd's k-means by squared L2 over a segment of f32, whatever its metric.
  // In each round every row goes to its nearest centroid (num_centroids x dim
  // floats, >= 1, in and out), and each centroid becomes the mean of its rows;
  // those without rows become the rows farthest from their own. In between, a
  // GPU may take a centroid that is nearest but for an error of 2^-8 of the
  // lengths: the same call repeats to the last bit on the same kind of device
  // alone. nearest: what Assign answers for the new centroids; inertia: the sum
  // of the distances; each may be null. kUnsupported, too: vectors longer than
  // 1e14.
  virtual BackendStatus KMeans(const LoadedSegment& /*segment*/,
                               size_t /*num_centroids*/, size_t /*rounds*/,
                               float* /*centroids*/, uint32_t* /*nearest*/,
                               double* /*inertia*/) const {
    return BackendStatus::kUnsupported;
  }

  // The mean of (x - m)(x - m)^T over the rows x of a segment of f32, dim x dim
  // floats; zeros where there are none. m is the mean of the rows and written
  // to `mean` (dim floats), or zero where that is null. An element differs from
  // the one computed in f64 by at most 4e-5 sqrt(out[i][i] out[j][j]), where
  // mean is given beside what rounding the mean to f32 takes.
  virtual BackendStatus Covariance(const LoadedSegment& /*segment*/,
                                   float* /*mean*/, float* /*out*/) const {
    return BackendStatus::kUnsupported;
  }

  // out[i * num_out + j] = <row i, matrix row j> of a segment of f32; matrix:
  // num_out x dim floats. Off by at most dim 2^-24 |row| |matrix row|.
  virtual BackendStatus Rotate(const LoadedSegment& /*segment*/,
                               const float* /*matrix*/, size_t /*num_out*/,
                               float* /*out*/) const {
    return BackendStatus::kUnsupported;
  }

  // Codes, to be searched. kUnsupported: too many rows.
  virtual BackendStatus LoadCodes(const SegmentCodes&,
                                  std::shared_ptr<const LoadedSegment>*) {
    return BackendStatus::kUnsupported;
  }
  // out[q * k + i], filled up as above. Estimates have the bits of CodeKernels.
  // kUnsupported, too, where thousands of rows share an estimate.
  virtual BackendStatus SearchCodes(const LoadedSegment&, const CodeQuestion&,
                                    Neighbor*, BackendReport*) const {
    return BackendStatus::kUnsupported;
  }

  // The code record of every row of a segment, coding.layout->record_bytes
  // each, with the bits of Codec::Encode for its metric, as long as squares of
  // coordinates are floats.
  virtual BackendStatus Encode(const LoadedSegment& /*segment*/,
                               const RowCoding& /*coding*/,
                               uint8_t* /*records*/) const {
    return BackendStatus::kUnsupported;
  }

  // Documents for MaxSim, which are asked nothing else. kUnsupported: other
  // types, too long tokens or documents, a backend without MaxSim.
  virtual BackendStatus LoadTokens(const TokenDocuments&,
                                   std::shared_ptr<const LoadedSegment>*) {
    return BackendStatus::kUnsupported;
  }

  // The k documents with the largest scores among those that have tokens:
  // out[q * k + i], rows being documents, distances minus their scores, ordered
  // and filled up as in Search. A score is the sum over the query's tokens of
  // the weight times the largest inner product with a token of the document, in
  // the order of MultiQuery::Score (index/multi_query.cc) and with its bits.
  // 1 <= k <= kMaxBackendK. report may be null.
  virtual BackendStatus MaxSim(const LoadedSegment& /*documents*/,
                               const TokenQueries& /*queries*/,
                               const DocumentLists& /*lists*/, size_t /*k*/,
                               Neighbor* /*out*/,
                               BackendReport* /*report*/) const {
    return BackendStatus::kUnsupported;
  }

  // Documents for MaxSimCodes, which are asked nothing else. kUnsupported, too:
  // a form that no codec has.
  virtual BackendStatus LoadTokenCodes(const CodedTokenDocuments&,
                                       std::shared_ptr<const LoadedSegment>*) {
    return BackendStatus::kUnsupported;
  }
  // As MaxSim. A score is that of TokenCodec::Score, with its bits.
  virtual BackendStatus MaxSimCodes(const LoadedSegment& /*documents*/,
                                    const CodedTokenQuery* /*queries*/,
                                    size_t /*num_queries*/,
                                    const DocumentLists& /*lists*/,
                                    size_t /*k*/, Neighbor* /*out*/,
                                    BackendReport* /*report*/) const {
    return BackendStatus::kUnsupported;
  }
};

// The backend of the CPU: exact scans by the kernels of src/distance, as many
// threads as given. Fails only at elements that no kernel compares.
std::unique_ptr<DistanceBackend> MakeCpuBackend(size_t num_threads);

struct GpuOptions {
  int device = 0;
  // Most device memory that segments and workspaces may take together.
  size_t memory_budget = SIZE_MAX;
  // Of it, what searches work in; taken at the start, so that no search
  // allocates.
  size_t workspace_bytes = size_t{1} << 30;
};

// Number of GPUs that can be used; 0 without driver, device or CUDA build.
// Never fails, costs below 5 ms where there is no driver.
int CountGpus();

// For people, where CountGpus() is 0: "no NVIDIA driver is installed", "the
// NVIDIA driver is for CUDA 10.2, and this build takes 13.0 or newer", ...
std::string WhyNoGpu();

// kUnsupported: no such device, or a build without CUDA; kNoMemory: the
// workspace does not fit.
BackendStatus MakeGpuBackend(const GpuOptions& options,
                             std::unique_ptr<DistanceBackend>* out);

}  // namespace vicinal
