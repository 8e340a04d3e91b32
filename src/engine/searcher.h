// Runs queries over a pinned view of a collection.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "index/multi_field.h"
#include "src/base/cancel.h"
#include "src/base/point_id.h"
#include "src/base/thread_pool.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/engine/device_searcher.h"
#include "src/engine/layout.h"
#include "src/engine/lexical_query.h"
#include "src/engine/query.h"
#include "src/engine/recall_watch.h"
#include "src/engine/row_filter.h"
#include "src/engine/schema.h"
#include "src/engine/segment.h"
#include "src/engine/text_plan.h"
#include "src/engine/view.h"
#include "src/text/wordpiece.h"
#include "storage/collection_store.h"

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

// By number of the sparse vector; null: it has none.
using SparseEncoders = std::vector<std::shared_ptr<const WordPieceVocabulary>>;

// Const but for AskDevices, and then thread-safe; lives for one
// Collection::Search.
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
           RecallWatch* watch, const CollectionStore& store,
           RowFilters filters = {}, SparseEncoders encoders = {},
           DeviceSearcher* device = nullptr)
      : schema_(schema),
        layout_(layout),
        pin_(std::move(pin)),
        epoch_(epoch),
        stop_(stop),
        watch_(watch),
        store_(store),
        filters_(std::move(filters)),
        encoders_(std::move(encoders)),
        device_(schema.gpu == GpuUse::kNever ? nullptr : device) {}

  // Asks the devices what they answer faster for several of the queries
  // together than the CPU would with the pool's threads and the caller's; Run
  // then reads these answers. pool: asks several devices at once; null: as of
  // Run. Before the first Run; the queries stay where they are. Errors: as Run.
  absl::Status AskDevices(std::span<const Query> queries, ThreadPool* pool);
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
    std::vector<LegScore> legs = {};  // as StageResult::legs; or not asked for
  };
  struct StageResult {
    std::vector<Candidate> candidates;  // nearest first
    bool exact = true;
    std::vector<SearchResult::Leg> legs = {};  // of the stages below
  };
  // What devices said of the k nearest of one stage: of each sealed segment
  // of the view k rows, or none where it was not asked.
  struct AskedAhead {
    size_t k = 0;
    std::vector<std::vector<Neighbor>> nearest;
    std::vector<DeviceUse> uses;  // by segment
  };
  struct Group;
  struct GroupAnswer;
  struct Context {
    ThreadPool* pool;
    bool explain = false;
    bool want_legs = false;
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
  absl::StatusOr<StageResult> RetrieveSparse(const SparseStage& stage, size_t k,
                                             Context* context) const;
  absl::StatusOr<StageResult> RetrieveText(const TextStage& stage, size_t k,
                                           Context* context) const;
  absl::StatusOr<StageResult> RetrieveMulti(const MultiStage& stage, size_t k,
                                            Context* context) const;
  absl::StatusOr<StageResult> Rescore(const RescoreStage& stage, size_t k,
                                      Context* context) const;

  // The k nearest of all segments but those with an excluded id. ahead: what is
  // known of them; may be null.
  absl::StatusOr<StageResult> FindNearest(
      SegmentQuery query, size_t k, RowFilter* filter,
      const absl::flat_hash_set<PointId>& excluded, Context* context,
      const AskedAhead* ahead = nullptr) const;
  // The part of a stage's query that does not depend on its vector.
  SegmentQuery QueryOf(const RetrieveStage& stage, size_t field,
                       size_t k) const;
  // Of sealed segment i.
  void TakeAhead(const AskedAhead& ahead, size_t i, TopK* top,
                 SearchStats* stats, SegmentExplanation* about) const;
  // The stages that a device may be asked of together.
  std::vector<Group> GroupsOf(std::span<const Query> queries) const;
  absl::Status AskDevices(const Group& group, ThreadPool* pool);
  // Of sealed segment i.
  absl::StatusOr<GroupAnswer> AskDevice(const Group& group, size_t i,
                                        size_t cpu_threads) const;
  // Whether another thread is worth a search of this segment.
  bool IsWorthSharing(const SegmentQuery& query,
                      const SealedSegment& segment) const;
  // Of a leaf; null: it has none.
  RowFilter* FilterOf(const std::shared_ptr<const FilterNode>& filter) const;
  // The segments of the view and those that grew out of it.
  std::vector<const Segment*> Segments() const;
  // The stage's query as it is after its feedback, of `results`.
  std::vector<float> LearnDense(const Feedback& feedback, size_t field,
                                const void* query,
                                std::span<const Candidate> found) const;
  SparseEntries LearnSparse(const Feedback& feedback, size_t l,
                            SparseEntries query,
                            std::span<const Candidate> found) const;
  // What a stage asks of its sparse vector.
  absl::StatusOr<SparseEntries> EntriesOf(const SparseStage& stage,
                                          size_t s) const;
  absl::StatusOr<TextScope> ScopeOf(const TextStage& stage) const;
  // Of reranking by a sparse vector.
  absl::Status ScoreSparse(const RerankStage& stage,
                           std::vector<Candidate>* candidates) const;
  // What a stage asks of multi-vector `name`, whose number is *m.
  absl::StatusOr<MultiQuery> PrepareTokens(absl::string_view name,
                                           const MultiVector& query,
                                           size_t* m) const;
  // Of reranking by a multi-vector.
  absl::Status ScoreTokens(const MultiQuery& query, size_t m, Context* context,
                           std::vector<Candidate>* candidates) const;
  // The same by devices, of the candidates in segments that they have; which
  // ones that were.
  absl::StatusOr<std::vector<bool>> AskDevicesForScores(
      const MultiQuery& query, size_t m,
      std::vector<Candidate>* candidates) const;
  // Of the query's outermost stage that compares tokens; an element for each
  // candidate, nullopt where it has none.
  absl::StatusOr<std::vector<std::optional<TokenMatches>>> MatchTokens(
      const Query& query, std::span<const Candidate> candidates) const;
  // Notes in an input's candidates what it said of them, before what their own
  // legs said.
  void NoteLegs(const Query& input, absl::string_view path,
                StageResult* result) const;

  // filter: null, or that of the query.
  absl::Status SearchSegments(const SegmentQuery& query, RowFilter* filter,
                              const AskedAhead* ahead, Context* context,
                              std::vector<Found>* found, bool* exact) const;
  absl::Status SearchSealed(const SegmentQuery& query, RowFilter* filter,
                            const AskedAhead* ahead, Context* context,
                            std::vector<Found>* found, bool* exact) const;
  absl::Status SearchMemory(const SegmentQuery& query, RowFilter* filter,
                            Context* context, std::vector<Found>* found,
                            bool* exact) const;
  // Adds what is known of one search of one segment.
  void Explain(const SegmentQuery& query, const Segment& segment,
               const SearchStats& stats, SegmentExplanation about,
               Context* context) const;
  // Whether a segment of which k rows were found may have more that are as far
  // away as the last of the `wanted` nearest.
  static bool HasCutTies(const std::vector<Found>& found, size_t k,
                         size_t wanted);
  // The k nearest of `found`, each id once; *num_dropped counts older
  // versions that were left out.
  std::vector<Candidate> Select(std::vector<Found> found, size_t k,
                                size_t* num_dropped) const;
  // The k of the candidates (nearest first) that Diversity chooses by vector
  // `field`, in that order.
  absl::Status Diversify(const Diversity& diversity, size_t field, size_t k,
                         Context* context,
                         std::vector<Candidate>* candidates) const;
  // Drops those that are farther away than a stage of scores allows.
  static void CutOff(std::optional<double> max_distance,
                     std::vector<Candidate>* candidates);
  // The same of a stage of a dense vector.
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
  const CollectionStore& store_;
  const RowFilters filters_;
  const SparseEncoders encoders_;
  DeviceSearcher* const device_;  // null: none is to be used
  absl::flat_hash_map<const RetrieveStage*, AskedAhead> ahead_;
};

}  // namespace vicinal
