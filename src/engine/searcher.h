// Runs queries over a pinned view of a collection.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/cancel.h"
#include "src/base/point_id.h"
#include "src/base/thread_pool.h"
#include "src/base/types.h"
#include "src/engine/layout.h"
#include "src/engine/query.h"
#include "src/engine/recall_watch.h"
#include "src/engine/row_filter.h"
#include "src/engine/schema.h"
#include "src/engine/segment.h"
#include "src/engine/view.h"

namespace vicinal {

// What a search sees, taken once for a batch of queries. Take `epoch` first,
// then the rest: when it is even and still the same after the search, no
// write was applied meanwhile.
struct SearchPin {
  uint64_t epoch = 0;
  Sequence sequence = 0;
  std::shared_ptr<const View> view;
};

// The filters of a call, by the address of what they were made of.
using RowFilters =
    absl::flat_hash_map<const FilterNode*, std::shared_ptr<RowFilter>>;

// Const and thread-safe; lives for one Collection::Search.
//
// Why a point that is replaced meanwhile is neither missed nor found twice: a
// write publishes the new row before it kills the old one. Sealed and frozen
// segments are searched before the growing one, and the growing one (with
// those that follow it) is read until no new row is left, so whoever saw the
// old row dead sees the new one. Whoever saw both keeps the newer.
class Searcher {
 public:
  Searcher(const CollectionSchema& schema, const Layout& layout, SearchPin pin,
           const std::atomic<uint64_t>& epoch, const StopCondition& stop,
           RecallWatch* watch, RowFilters filters = {})
      : schema_(schema),
        layout_(layout),
        pin_(std::move(pin)),
        epoch_(epoch),
        stop_(stop),
        watch_(watch),
        filters_(std::move(filters)) {}

  // pool: helps when several sealed segments are worth it; null: the calling
  // thread does everything.
  absl::StatusOr<SearchResult> Run(const Query& query, ThreadPool* pool) const;
  // With k for the k of the query's stage.
  absl::StatusOr<SearchResult> Run(const Query& query, size_t k,
                                   ThreadPool* pool) const;

 private:
  // A row somewhere in the pinned segments.
  struct Found {
    float distance;
    RowId row;
    const Segment* segment;
  };
  struct Candidate {
    float distance = 0;
    const Segment* segment = nullptr;
    RowId row = 0;
    Ordinal ordinal = 0;
    PointId id;
  };
  struct StageResult {
    std::vector<Candidate> candidates;  // nearest first
    bool exact = true;
  };
  struct Context {
    ThreadPool* pool;
    bool explain = false;
    SearchStats stats;
    std::vector<SegmentExplanation> explanation;
  };

  // The stages, with k for their own.
  absl::StatusOr<StageResult> Evaluate(const Query& query, size_t k,
                                       Context* context) const;
  absl::StatusOr<StageResult> Retrieve(const RetrieveStage& stage, size_t k,
                                       Context* context) const;
  absl::StatusOr<StageResult> Fuse(const FuseStage& stage, size_t k,
                                   Context* context) const;
  absl::StatusOr<StageResult> Rerank(const RerankStage& stage, size_t k,
                                     Context* context) const;

  // filter: null, or that of the query.
  absl::Status SearchSegments(const SegmentQuery& query, RowFilter* filter,
                              Context* context, std::vector<Found>* found,
                              bool* exact) const;
  absl::Status SearchSealed(const SegmentQuery& query, RowFilter* filter,
                            Context* context, std::vector<Found>* found,
                            bool* exact) const;
  absl::Status SearchMemory(const SegmentQuery& query, RowFilter* filter,
                            Context* context, std::vector<Found>* found) const;
  // Adds what is known of one search of one segment.
  void Explain(const SegmentQuery& query, const Segment& segment,
               const SearchStats& stats, SegmentExplanation about,
               Context* context) const;
  // The k nearest of `found`, each id once; *num_dropped counts older
  // versions that were left out.
  std::vector<Candidate> Select(std::vector<Found> found, size_t k,
                                size_t* num_dropped) const;
  // The k of the candidates (nearest first) that Diversity chooses by vector
  // `field`, in that order.
  absl::Status Diversify(const Diversity& diversity, size_t field, size_t k,
                         Context* context,
                         std::vector<Candidate>* candidates) const;
  // Drops those that are farther away than a stage allows.
  void CutOff(std::optional<double> max_distance, size_t field,
              std::vector<Candidate>* candidates) const;
  // Looks up a stage's vector and brings its query into the layout's form.
  absl::StatusOr<size_t> PrepareVector(absl::string_view vector_name,
                                       absl::string_view query,
                                       std::vector<float>* normalized,
                                       const void** vector) const;

  const CollectionSchema& schema_;
  const Layout& layout_;
  const SearchPin pin_;
  const std::atomic<uint64_t>& epoch_;
  const StopCondition& stop_;
  RecallWatch* const watch_;  // told of what was asked
  const RowFilters filters_;
};

}  // namespace vicinal
