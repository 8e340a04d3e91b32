// The kernels of a search, as the host starts them. Every function only
// enqueues work on the stream and returns the launch's error.
//
// A search finds candidates by products of bf16 (`score`, larger is nearer),
// keeps all that a bound on their error cannot rule out, and compares those
// exactly. With q', x' the rounded vectors,
//
//   score = <q', x'>            inner product; cosine, of unit vectors
//   score = <q', x'> - |x|^2/2  L2: three further dimensions hold the norm
//
// and |score - exact| <= error[q] for every row. So a row whose score is below
// (k-th largest score so far) - 2 error is not among the k nearest. Bytes are
// bf16 without rounding, but for unit vectors.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "src/base/top_k.h"
#include "src/base/types.h"

namespace vicinal::gpu {

// Rows that one step of a kernel compares with a tile of queries.
inline constexpr uint32_t kTileRows = 256;
// A tile takes kStripeRun rows from each of kStripes stripes of the segment, so
// that clusters of rows which lie together are met a few at a time.
inline constexpr uint32_t kStripes = 32;
inline constexpr uint32_t kStripeRun = kTileRows / kStripes;
// Queries of one tile of the matrix kernel and of the streaming one.
inline constexpr uint32_t kQueryTile = 128;
inline constexpr uint32_t kStreamQueries = 8;
// Most neighbours of a query, itself included.
inline constexpr uint32_t kMaxNeighbors = 1024;

// The rows of a segment on the device.
struct DeviceRows {
  const void* exact = nullptr;  // num_rows x dim of `type`
  const uint16_t* bf16 =
      nullptr;  // padded_rows x padded_dim; zeros in the gaps
  // Where row i of bf16 is in `exact`; null: at first_row + i.
  const uint32_t* row_map = nullptr;
  uint32_t first_row = 0;  // of bf16; not 0: a part of a segment
  uint32_t num_rows = 0;   // of bf16
  uint32_t dim = 0;
  uint32_t padded_dim = 0;   // a multiple of 32, with the norm's dimensions
  uint32_t stripe_rows = 0;  // rows of a stripe, a multiple of kStripeRun
  ElementType type = ElementType::kFloat32;
  Metric metric = Metric::kL2;
  float max_norm = 0;   // of a row (1 under the cosine)
  float max_error = 0;  // of |x - x'|

  uint32_t num_tiles() const { return stripe_rows / kStripeRun; }
  size_t padded_rows() const { return size_t{stripe_rows} * kStripes; }
};

// A candidate: a row and its score.
struct Candidate {
  float score;
  uint32_t row;
};

// What a batch of queries works in, all on the device, an element a query
// unless said.
struct QueryState {
  const void* raw = nullptr;  // num_queries x dim, of the rows' type
  uint16_t* bf16 = nullptr;   // num_queries x padded_dim
  float* error = nullptr;     // see above; infinite: compare every row
  float* floor = nullptr;     // scores that are not above it are ruled out
  uint32_t* counts =
      nullptr;               // candidates found; more than capacity: some lost
  uint32_t* kept = nullptr;  // of them, those of earlier rounds
  uint8_t* lost = nullptr;   // 1: candidates were lost; 2: error is infinite
  Candidate* candidates = nullptr;     // capacity of each
  const uint32_t* excluded = nullptr;  // row that is left out; null: none is
  uint32_t capacity = 0;
  uint32_t num_queries = 0;
  // Of a few queries, on the host, pinned; null: of others.
  const void* sent = nullptr;  // what PrepareQueries copies to `raw`
  uint32_t* done = nullptr;    // 0; DoneWord, when their results are there
  bool overlaps = false;       // kernels do: see overlap.cuh
};

// lost: see QueryState. candidates: compared exactly.
__host__ __device__ constexpr uint32_t DoneWord(uint8_t lost,
                                                uint32_t candidates) {
  return candidates << 2 | (lost + 1u);
}
constexpr uint8_t LostOf(uint32_t done) { return (done & 3) - 1; }
constexpr uint32_t CandidatesOf(uint32_t done) { return done >> 2; }

// Queries that are each compared with all rows of some ranges. Of all ranges
// together, rows are numbered through.
struct DeviceRanges {
  const void* queries = nullptr;     // num_queries x dim, of the rows' type
  const uint32_t* firsts = nullptr;  // row at which a range begins
  const uint32_t* starts = nullptr;  // its number; num_ranges + 1
  const uint32_t* owners = nullptr;  // the query of a range, ascending
  const uint32_t* ends = nullptr;    // first number of a query; num_queries + 1
  uint32_t num_queries = 0;
  uint32_t num_ranges = 0;             // none empty
  uint32_t total = 0;                  // rows
  const uint64_t* accepted = nullptr;  // bit i: of row first_bit + i; null: all
  uint32_t first_bit = 0;
};

// The tiles of one round, ascending: multiples of `step` that are none of
// ratio * step; ratio 0: all multiples. So each round is a sample of all rows,
// and yet tiles that are read at the same time lie near each other (measured:
// tiles in a scattered order read memory at half its speed, as their pages are
// more than the device translates at once).
struct Round {
  uint32_t num_tiles = 0;
  uint32_t step = 1;
  uint32_t ratio = 0;
};

// Rows of the device as bf16, with their largest norm and error in maxima[0]
// and [1], which begin as 0.
cudaError_t RoundRows(const DeviceRows& rows, uint16_t* bf16, float* maxima,
                      cudaStream_t stream);
// Fills bf16, error and lost, and raw if queries were sent; counts and kept
// become 0, floor -infinity unless keep_floor.
cudaError_t PrepareQueries(const DeviceRows& rows, const QueryState& state,
                           bool keep_floor, cudaStream_t stream);
// Compares all queries with the rows of some tiles. store_all: the candidate of
// row i of the j-th tile becomes number 256 j + i, counts are not touched;
// rows that are not accepted have score -infinity.
cudaError_t StreamTiles(const DeviceRows& rows, const QueryState& state,
                        const Round& round, bool store_all,
                        const uint64_t* accepted, int num_processors,
                        cudaStream_t stream);
// The same on the tensor cores of compute capability 9.0. The maps are those
// of MakeTensorMaps.
struct TensorMaps;
cudaError_t MatrixTiles(const TensorMaps& maps, const DeviceRows& rows,
                        const QueryState& state, const Round& round,
                        bool store_all, const uint64_t* accepted,
                        int num_processors, cudaStream_t stream);
// Raises the floors by the k-th best candidates and drops those that are ruled
// out. num_stored: candidates that store_all has put there, else 0.
cudaError_t RaiseFloors(const QueryState& state, uint32_t k,
                        uint32_t num_stored, cudaStream_t stream);
// Compares the candidates exactly and writes the k nearest of each query, of a
// few then `done`.
cudaError_t RankCandidates(const DeviceRows& rows, const QueryState& state,
                           uint32_t k, Neighbor* out, cudaStream_t stream);
// Rows map[0], map[1], ... of a segment, of which `from` has them, as a segment
// of their own; `to` has its sizes, and `bf16` its room.
cudaError_t GatherRows(const DeviceRows& from, const DeviceRows& to,
                       const uint32_t* map, uint16_t* bf16,
                       cudaStream_t stream);
// The k nearest of one query by comparing every accepted row; keys has room
// for num_rows. Bit i of accepted is that of row first_row + i.
cudaError_t RankAll(const DeviceRows& rows, const void* query, uint32_t k,
                    const uint64_t* accepted, uint32_t exclude, uint64_t* keys,
                    Neighbor* out, cudaStream_t stream);
// The k nearest of each query among the accepted rows of its ranges; keys has
// room for their total.
cudaError_t RankRanges(const DeviceRows& rows, const DeviceRanges& ranges,
                       uint32_t k, uint64_t* keys, Neighbor* out,
                       cudaStream_t stream);
// Distances of queries to lists of rows; see DistanceBackend::Score.
cudaError_t ScoreLists(const DeviceRows& rows, const void* queries,
                       uint32_t num_queries, const uint32_t* offsets,
                       const uint32_t* list, float* out, cudaStream_t stream);

}  // namespace vicinal::gpu
