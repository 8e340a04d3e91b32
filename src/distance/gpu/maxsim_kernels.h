// The kernels of MaxSim, as the host starts them. Every function only enqueues
// work on the stream and returns the launch's error.
//
// Of tokens that are floats, a query token q and a document token p are
// compared by halves of them, with scales that are taken out of the sums: q ~ s
// q', p ~ r p'. Of the sums
//
//   score' = sum over q of weight s max over p of r <q', p'>
//
// every one is within error[query] of the exact score, as the norms of q, p
// and what halves leave of them are measured. So a document whose score' is
// below (k-th largest score') - 2 error is not among the k nearest; the others
// are compared as the CPU does it, in the order of the dimensions, and sorted.
// Coded tokens are multiplied as integers; what follows are the CPU's float
// operations in its order, so that score' is the score and the error is 0.
//
// 1. PrepareMaxSim   the queries' halves and errors, or their bytes
// 2. StreamMaxSim    score' of all candidates, by one or several passes
//    StreamOnHopper  the same on compute capability 9.0; of codes there alone
// 3. SelectMaxSim    those that cannot be ruled out; of codes, the k nearest
// 4. RankMaxSim      exact scores, the k nearest
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "src/base/top_k.h"
#include "src/base/types.h"

namespace vicinal::gpu {

// Query tokens that one product has as columns; a query's columns begin at a
// multiple, the last are filled with zeros.
inline constexpr uint32_t kTokenColumns = 8;
// Most tiles of columns that one pass over the documents takes.
inline constexpr uint32_t kMaxPassTiles = 32;
// Documents are divided at multiples of so many of their tokens.
inline constexpr uint32_t kTokenStep = 64;
inline constexpr uint32_t kMaxTokenDim = 4096;
inline constexpr uint32_t kMaxQueryTokens = 1024;
inline constexpr uint32_t kMaxDocTokens = 1u << 20;
// Candidates that are compared exactly in parts of their tokens, so that few
// take no longer than the longest part; where there are more, each is compared
// by one team (see maxsim_rank.cu).
inline constexpr uint32_t kSplitCandidates = 256;
inline constexpr uint32_t kExactParts = 16;

// Documents of token vectors on the device.
struct DeviceTokens {
  const void* exact = nullptr;          // num_tokens x exact_stride of `type`
  const uint16_t* half = nullptr;       // num_tokens x padded_dim, f16; p'
  const float* scales = nullptr;        // r, a token; null: all 1
  const std::byte* codes = nullptr;     // num_tokens x row_bytes
  const uint32_t* centroids = nullptr;  // a token; null: there are none
  const float* norms = nullptr;         // see UnitElement; null: as they are
  const uint32_t* offsets = nullptr;    // num_docs + 1
  uint32_t num_docs = 0;
  uint32_t num_tokens = 0;
  uint32_t dim = 0;
  // A multiple of 32, of codes of 128; zeros in the gaps.
  uint32_t padded_dim = 0;
  uint32_t exact_stride = 0;  // elements
  ElementType type = ElementType::kFloat16;
  uint32_t code_bits = 0;  // 8, 4, 2 or 1; 0: tokens are floats
  bool cosine = false;
  float max_norm = 0;   // of a token as it is compared
  float max_error = 0;  // of |p - r p'|

  // Of a token, as it is streamed.
  uint32_t row_bytes() const {
    return code_bits == 0 ? padded_dim * 2 : padded_dim * code_bits / 8;
  }
  // Of a query's column.
  uint32_t column_bytes() const {
    return code_bits == 0 ? padded_dim * 2 : padded_dim;
  }
};

// Coded tokens on their way: records, one after the other.
struct TokenRecords {
  const uint8_t* records = nullptr;
  uint32_t record_bytes = 0;
  uint32_t code_bytes = 0;  // of them, the last
};

// Of each query of a batch, on the device.
struct TokenQuery {
  uint32_t first_token = 0;
  uint32_t num_tokens = 0;
  uint32_t first_column = 0;
  uint32_t list_begin = 0;  // of its candidates' scores
  uint32_t list_size = 0;
  // Of coded tokens: where the query's panels, sums and table begin.
  uint32_t first_panel = 0;
  uint32_t num_panels = 0;
  double constant = 0;
};

struct MaxSimReport {
  uint32_t candidates = 0;  // compared exactly
  uint32_t unbounded = 0;   // 1: as their errors have no bound
  uint32_t done = 0;        // 1, when results are there
};

// What a batch of queries works in, on the device.
struct MaxSimState {
  uint32_t num_queries = 0;
  uint32_t num_columns = 0;  // of all queries
  uint32_t k = 0;
  bool overlaps = false;  // kernels; see overlap.cuh
  // MakeTokenMap, of the host; null: not StreamOnHopper.
  const CUtensorMap* map = nullptr;
  uint32_t max_tokens = 0;  // of a query
  // What PrepareMaxSim copies first, of pinned memory, where there is one
  // query; 16 bytes at a time.
  const uint4* sent = nullptr;
  uint4* received = nullptr;
  uint32_t num_sent = 0;
  const TokenQuery* queries = nullptr;
  const float* tokens = nullptr;
  const float* weights = nullptr;  // null: all 1; of codes: scales
  const uint32_t* docs = nullptr;  // null: candidate i is document i
  std::byte* columns = nullptr;    // num_columns x column_bytes; q'
  float* factors = nullptr;        // num_columns; weight s, or 0
  float* errors = nullptr;         // num_queries
  // Of coded tokens, as MaxSimKernels::max_codes has them.
  const int8_t* panels = nullptr;  // 16 x code_dim each
  const int32_t* sums = nullptr;   // 16 a panel
  const float* table = nullptr;    // 256 x 16 a panel
  uint32_t code_dim = 0;           // dimensions of a panel
  int32_t* shifts = nullptr;       // num_columns; offset times sum
  // A candidate of each query.
  float* scores = nullptr;
  double* partial_scores = nullptr;  // of codes, before the last pass
  float* distances = nullptr;        // of survivors; null: scores are exact
  uint32_t* finished = nullptr;      // parts; 0 between passes
  uint32_t* survivors = nullptr;     // candidates
  // A query.
  uint32_t* counts = nullptr;  // survivors
  uint32_t* ranked = nullptr;  // those whose distance is there
  // num_queries x kSplitCandidates, x kExactParts x max_tokens.
  uint32_t* exact_finished = nullptr;
  float* exact_partials = nullptr;
  uint32_t* next_parts = nullptr;  // a pass; 0
  uint32_t num_passes = 0;
  Neighbor* out = nullptr;  // num_queries x k
  MaxSimReport* reports = nullptr;
};

// One pass over documents: some tiles of columns. Part p is of candidate
// p / num_parts.
struct MaxSimPass {
  uint32_t num_candidates = 0;
  uint32_t num_parts = 1;          // of each document
  const uint32_t* docs = nullptr;  // null: candidate i is document i
  uint32_t first_tile = 0;
  uint32_t num_tiles = 0;  // at most kMaxPassTiles
  uint32_t* next_part = nullptr;
  // Where there are several parts: those of a candidate that are finished, 0
  // before and after, and of each its maxima, PassColumns of them.
  uint32_t* finished = nullptr;
  float* partials = nullptr;
  // A tile: where its query's scores begin; whether it is that query's first,
  // or last; whose it is.
  uint32_t score_begin[kMaxPassTiles] = {};
  uint16_t query[kMaxPassTiles] = {};
  bool is_first[kMaxPassTiles] = {};
  bool is_last[kMaxPassTiles] = {};
};
// Columns that a pass of so many tiles has room for.
inline uint32_t PassColumns(uint32_t num_tiles, bool on_hopper) {
  uint32_t tiles = on_hopper ? 4 : 1;
  while (tiles < num_tiles) tiles *= 2;
  return tiles * kTokenColumns;
}

// Fills half (of f32 and bf16), scales and norms of `tokens`, which are
// otherwise filled, and raises maxima[0] and [1], the largest norm and error,
// which begin as 0.
cudaError_t MeasureTokens(const DeviceTokens& tokens, uint16_t* half,
                          float* scales, float* norms, float* maxima,
                          cudaStream_t stream);

// Fills codes, scales and centroids (where there are some) of as many coded
// tokens.
cudaError_t PlaceCodes(const DeviceTokens& tokens, const TokenRecords& records,
                       std::byte* codes, float* scales, uint32_t* centroids,
                       cudaStream_t stream);

// Fills columns, factors (and shifts), errors, and with 0 what is counted in.
cudaError_t PrepareMaxSim(const DeviceTokens& tokens, const MaxSimState& state,
                          cudaStream_t stream);
// Most tiles of a pass over such tokens, a power of two. On Hopper 0: they are
// too long.
uint32_t MostPassTiles(const DeviceTokens& tokens);
uint32_t MostHopperTiles(const DeviceTokens& tokens);
// Once on a device before StreamOnHopper of such tokens.
cudaError_t AllowHopper(const DeviceTokens& tokens);
// Of floats.
cudaError_t StreamMaxSim(const DeviceTokens& tokens, const MaxSimState& state,
                         const MaxSimPass& pass, int num_processors,
                         cudaStream_t stream);
cudaError_t StreamOnHopper(const DeviceTokens& tokens, const MaxSimState& state,
                           const MaxSimPass& pass, int num_processors,
                           cudaStream_t stream);
// most_candidates: of a query.
cudaError_t SelectMaxSim(const MaxSimState& state, uint32_t most_candidates,
                         cudaStream_t stream);
// Of floats.
cudaError_t RankMaxSim(const DeviceTokens& tokens, const MaxSimState& state,
                       int num_processors, cudaStream_t stream);

}  // namespace vicinal::gpu
