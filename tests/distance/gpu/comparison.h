// Asks two backends the same and compares their answers, bit by bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/types.h"
#include "src/distance/gpu/backend.h"
#include "tests/distance/gpu/test_vectors.h"

namespace vicinal::backend_tests {

// One segment in both backends. Every method says what differs, in a line;
// empty: nothing. Outputs are poisoned before and must not be written beyond
// their end. Questions may be asked from several threads.
class Comparison {
 public:
  Comparison(DistanceBackend& tested, DistanceBackend& reference)
      : tested_(tested), reference_(reference) {}

  // Borrows rows.
  std::string Load(const Vectors& rows, Metric metric);
  // The same of rows that the tested backend has written for it.
  std::string LoadWritten(const Vectors& rows, Metric metric);
  // The same of rows which are, in the tested backend, rows `part` of what
  // `whole` has loaded.
  std::string LoadPart(const Comparison& whole, std::span<const RowId> part,
                       const Vectors& rows, Metric metric);

  // accepted null: all rows.
  std::string Search(const Vectors& queries, size_t k,
                     const RowSet* accepted = nullptr) const;
  std::string SearchRanges(const Vectors& queries,
                           std::span<const uint32_t> offsets,
                           std::span<const RowRange> ranges, size_t k,
                           const RowSet* accepted = nullptr) const;
  std::string Score(const Vectors& queries, std::span<const uint32_t> offsets,
                    std::span<const RowId> rows) const;
  std::string KnnGraph(size_t k) const;
  // LinkGraph, and SelectLinks of the same candidates.
  std::string Links(size_t k, const LinkRule& rule) const;
  std::string Assign(const Vectors& centroids, bool with_distances) const;

 private:
  // The reference loads rows from where they are.
  std::string LoadAs(const SegmentRows& tested, const Vectors& rows);
  // "search, l2 f32, 7 rows x 31, 9 queries, k 10: ".
  std::string Context(const std::string& question) const;
  size_t dim() const { return rows_->dim(); }

  DistanceBackend& tested_;
  DistanceBackend& reference_;
  const Vectors* rows_ = nullptr;
  Metric metric_ = Metric::kL2;
  std::shared_ptr<const LoadedSegment> in_tested_;
  std::shared_ptr<const LoadedSegment> in_reference_;
};

bool IsSkipped(const std::string& outcome);

// Documents that each query is compared with.
struct Lists {
  std::vector<uint32_t> offsets = {0};
  std::vector<RowId> docs;

  void Add(const std::vector<RowId>& list) {
    docs.insert(docs.end(), list.begin(), list.end());
    offsets.push_back(static_cast<uint32_t>(docs.size()));
  }
};

}  // namespace vicinal::backend_tests
