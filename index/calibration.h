// Recall targets: what an index found on a sample of its own rows, and the
// effort that a target takes. Shared by the indexes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "index/index.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal {

// What a recall cost, measured when the segment was sealed.
struct RecallPoint {
  float recall = 0;  // measured mean recall@k, a little less for safety
  uint32_t k = 0;
  uint32_t ef = 0;      // SearchParams::ef: pool of a graph, lists of an IVF
  uint32_t rerank = 0;  // 0 where walks are exact
  float reach = 0;      // SearchParams::reach
};

// The cheapest search whose measured recall@k reaches `recall_target`,
// interpolated in recall and in k; the dearest measured when none does. Empty
// table: a conservative formula.
SearchParams ParamsForRecall(const std::vector<RecallPoint>& table, size_t k,
                             double recall_target);

// What a search costs, in nanoseconds of one thread or so: a model with few
// constants, fitted to docs/BENCHMARKS.md's machine, that tells settings and
// indexes apart.
struct SearchCost {
  double fixed = 0;
  double per_ef = 1;
  double per_rerank = 0;

  static constexpr double kLineBytes = 64;
  // Of reading one vector of a list that is not in any cache.
  static double OfReranking(VectorSetView vectors) {
    return 100 + 4 * (vectors.dim * ElementSize(vectors.type) / kLineBytes);
  }
  double Of(double ef, double rerank) const {
    return fixed + per_ef * ef + per_rerank * rerank;
  }
};

// Of searches for the 10 nearest with recall targets of 0.9, 0.95 and 0.99: the
// geometric mean.
double MeanCost(const std::vector<RecallPoint>& table, const SearchCost& cost);

// An index whose effort a table of RecallPoints chooses.
class ApproximateIndex : public Index {
 public:
  // Measures recall@k over a grid of efforts, k in {1, 10, 100}, against exact
  // search, with some of `queries` (of the rows' type), or without any with a
  // seeded sample of the rows (each excluded from its own answer); keeps of
  // each k the settings that no cheaper one reaches, in the order of their
  // cost. A second or two for 60,000 x 784. The same for any number of threads.
  // Cancelled: the token was set; it may be null.
  virtual absl::StatusOr<std::vector<RecallPoint>> Calibrate(
      size_t num_threads, const CancelToken* cancel,
      VectorSetView queries = {}) const = 0;
  virtual SearchCost cost() const = 0;
};

// The depths k that are measured.
inline constexpr std::array<uint32_t, 3> kCalibratedDepths = {1, 10, 100};
using RecallPoints =
    std::array<std::vector<RecallPoint>, kCalibratedDepths.size()>;

// What a calibration asks: some of the index's own rows, each of which its
// search must not see, or queries from elsewhere. Borrows the vectors.
class CalibrationQueries {
 public:
  // At most 256 of the rows not marked in `excluded` (one element per row), the
  // same for the same rows. Hidden from its search, a row is a fair query: a
  // new point of the same distribution.
  static CalibrationQueries OwnRows(VectorSetView vectors,
                                    std::vector<bool> excluded);
  // At most 256 of `rows`, ascending ones, evenly spaced.
  static CalibrationQueries Among(VectorSetView vectors,
                                  std::span<const RowId> rows);
  // At most 256 of `queries`, evenly spaced.
  static CalibrationQueries Given(VectorSetView queries);

  size_t size() const { return rows_.size(); }
  const std::byte* operator[](size_t q) const { return vectors_.row(rows_[q]); }
  // The row that is query q; kInvalidRow: none is.
  RowId OwnRow(size_t q) const { return are_own_ ? rows_[q] : kInvalidRow; }

 private:
  VectorSetView vectors_;
  std::vector<RowId> rows_;
  bool are_own_ = false;
};

// The 100 nearest rows to each query but itself, nearest first.
std::vector<std::vector<Neighbor>> ExactNeighbors(
    VectorSetView vectors, const DistanceOps& ops,
    const CalibrationQueries& queries, Workers* workers);
// Of the rows that the query's own filter accepts, one for each.
std::vector<std::vector<Neighbor>> ExactNeighbors(
    VectorSetView vectors, Metric metric, const CalibrationQueries& queries,
    std::span<const Filter> filters, Workers* workers);

// Counts what one ef finds at every depth and, with codes, every depth of
// reranking. Count from one thread per worker number.
class RecallCounter {
 public:
  // truth: of ExactNeighbors, borrowed. pool_size: candidates that a search
  // finds. reranks: whether they are compared exactly afterwards.
  RecallCounter(const std::vector<std::vector<Neighbor>>& truth, uint32_t ef,
                uint32_t pool_size, bool reranks, size_t num_workers,
                float reach = 0);

  // `distances`: exact ones of what a search found for query q, in the order
  // in which they would be compared.
  void Count(size_t worker, size_t q, std::span<const float> distances);
  void AppendTo(RecallPoints* points) const;

 private:
  static constexpr size_t kMaxGrid = 20;
  using Hits =
      std::array<std::array<uint64_t, kMaxGrid>, kCalibratedDepths.size()>;

  const std::vector<std::vector<Neighbor>>& truth_;
  const uint32_t ef_;
  const bool reranks_;
  const float reach_;
  std::array<std::vector<uint32_t>, kCalibratedDepths.size()> grids_;
  // Integer sums, so the order in which threads add does not matter.
  std::vector<Hits> hits_;
};

// found / wanted, a little less for safety: see RecallPoint.
float SafeRecall(size_t found, size_t wanted);

// Whether nothing is left to gain at any depth.
bool AllFound(const RecallPoints& points, size_t num_neighbors);

// Of each depth the settings that no cheaper one reaches, by cost.
std::vector<RecallPoint> Frontier(RecallPoints points, const SearchCost& cost);

}  // namespace vicinal
