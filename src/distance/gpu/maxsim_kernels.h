// The kernels of MaxSim, as the host starts them. Every function only enqueues
// work on the stream and returns the launch's error.
//
// A query token q and a document token p are compared by halves of them, with
// scales that are taken out of the sums: q ~ s q', p ~ r p'. Of the sums
//
//   score' = sum over q of weight s max over p of r <q', p'>
//
// every one is within error[query] of the exact score, as the norms of q, p
// and what halves leave of them are measured. So a document whose score' is
// below (k-th largest score') - 2 error is not among the k nearest; the others
// are compared as the CPU does it, in the order of the dimensions, and sorted.
//
// 1. PrepareMaxSim   the queries' halves and errors
// 2. StreamMaxSim    score' of all candidates, by one or several passes
// 3. SelectMaxSim    those that cannot be ruled out
// 4. RankMaxSim      exact scores, the k nearest
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "src/base/top_k.h"
#include "src/base/types.h"

namespace vicinal::gpu {

// Query tokens that one product has as columns; a query's columns begin at a
// multiple, the last are filled with zeros.
inline constexpr uint32_t kTokenColumns = 8;
// Tiles of so many columns that one pass over the documents takes.
inline constexpr uint32_t kMaxPassTiles = 8;
// Document tokens that a warp multiplies at a time.
inline constexpr uint32_t kTokenStep = 32;
inline constexpr uint32_t kMaxTokenDim = 4096;
inline constexpr uint32_t kMaxQueryTokens = 1024;
inline constexpr uint32_t kMaxDocTokens = 1u << 20;
// Candidates that are compared exactly in parts of their tokens, so that few
// take no longer than the longest part; where there are more, each is compared
// by one block.
inline constexpr uint32_t kSplitCandidates = 256;
inline constexpr uint32_t kExactParts = 16;

// A document, or a part of one, that a warp compares.
struct TokenItem {
  uint32_t first_token = 0;
  uint32_t num_tokens = 0;  // 0: of a document without tokens
  uint32_t slot = 0;        // number of the candidate
  uint32_t part = 0;
  uint32_t num_parts = 1;
  uint32_t partial = 0;  // where its maxima go, where there are several parts
};

// Documents of token vectors on the device.
struct DeviceTokens {
  const void* exact = nullptr;        // num_tokens x exact_stride of `type`
  const uint16_t* half = nullptr;     // num_tokens x padded_dim, f16; p'
  const float* scales = nullptr;      // r, a token; null: all 1
  const float* norms = nullptr;       // see UnitElement; null: as they are
  const uint32_t* offsets = nullptr;  // num_docs + 1
  uint32_t num_docs = 0;
  uint32_t num_tokens = 0;
  uint32_t dim = 0;
  uint32_t padded_dim = 0;    // a multiple of 32; zeros in the gaps
  uint32_t exact_stride = 0;  // elements
  ElementType type = ElementType::kFloat16;
  bool cosine = false;
  float max_norm = 0;   // of a token as it is compared
  float max_error = 0;  // of |p - r p'|
};

// Of each query of a batch, on the device.
struct TokenQuery {
  uint32_t first_token = 0;
  uint32_t num_tokens = 0;
  uint32_t first_column = 0;
  uint32_t list_begin = 0;  // of its candidates' scores
  uint32_t list_size = 0;
};

struct MaxSimReport {
  uint32_t candidates = 0;  // compared exactly
  uint32_t unbounded = 0;   // 1: as their errors have no bound
};

// What a batch of queries works in, on the device.
struct MaxSimState {
  uint32_t num_queries = 0;
  uint32_t num_columns = 0;  // of all queries
  uint32_t k = 0;
  bool overlaps = false;    // kernels; see overlap.cuh
  uint32_t max_tokens = 0;  // of a query
  const TokenQuery* queries = nullptr;
  const float* tokens = nullptr;
  const float* weights = nullptr;  // null: all 1
  const uint32_t* docs = nullptr;  // null: candidate i is document i
  uint16_t* half = nullptr;        // num_columns x padded_dim, f16; q'
  float* factors = nullptr;        // num_columns; weight s, or 0
  float* errors = nullptr;         // num_queries
  // A candidate of each query.
  float* scores = nullptr;        // then distances of those that are left
  uint32_t* finished = nullptr;   // parts; 0 between passes
  uint32_t* survivors = nullptr;  // slots
  // A query.
  uint32_t* counts = nullptr;  // survivors
  uint32_t* ranked = nullptr;  // of them, those compared
  // num_queries x kSplitCandidates, x kExactParts x max_tokens.
  uint32_t* exact_finished = nullptr;
  float* exact_partials = nullptr;
  uint32_t* next_items = nullptr;  // a pass; 0
  float* partials = nullptr;  // of items that are parts, x columns of a pass
  uint32_t num_passes = 0;
  Neighbor* out = nullptr;  // num_queries x k
  MaxSimReport* reports = nullptr;
};

// One pass over documents: some tiles of columns.
struct MaxSimPass {
  const TokenItem* items = nullptr;
  uint32_t num_items = 0;
  uint32_t first_tile = 0;
  uint32_t num_tiles = 0;  // at most kMaxPassTiles
  uint32_t* next_item = nullptr;
  uint32_t* finished = nullptr;  // by slot
  float* partials = nullptr;     // one a multi-part item, x columns
  // A tile: where its query's scores begin; whether it is that query's first.
  uint32_t score_begin[kMaxPassTiles] = {};
  bool is_first[kMaxPassTiles] = {};
};

// Fills half (of f32 and bf16), scales and norms of `tokens`, which are
// otherwise filled, and raises maxima[0] and [1], the largest norm and error,
// which begin as 0.
cudaError_t MeasureTokens(const DeviceTokens& tokens, uint16_t* half,
                          float* scales, float* norms, float* maxima,
                          cudaStream_t stream);

// Fills half, factors, errors, and with 0 the counts.
cudaError_t PrepareMaxSim(const DeviceTokens& tokens, const MaxSimState& state,
                          cudaStream_t stream);
// Most tiles of a pass over tokens of this dimension, a power of two.
uint32_t MostPassTiles(uint32_t padded_dim);
cudaError_t StreamMaxSim(const DeviceTokens& tokens, const MaxSimState& state,
                         const MaxSimPass& pass, int num_processors,
                         cudaStream_t stream);
// most_candidates: of a query.
cudaError_t SelectMaxSim(const MaxSimState& state, uint32_t most_candidates,
                         cudaStream_t stream);
cudaError_t RankMaxSim(const DeviceTokens& tokens, const MaxSimState& state,
                       int num_processors, cudaStream_t stream);

}  // namespace vicinal::gpu
