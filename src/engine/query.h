// A search as a tree of stages. Leaves retrieve candidates by one vector;
// inner stages combine (fuse) or rescore (rerank) what their children found.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "index/index.h"
#include "index/multi_field.h"
#include "src/base/point_id.h"
#include "src/base/types.h"
#include "src/engine/formula.h"
#include "src/engine/fusion.h"
#include "src/engine/point_batch.h"
#include "src/engine/text_demand.h"
#include "src/payload/filter.h"
#include "src/payload/group_value.h"

namespace vicinal {

struct Query;

// Asks again with what the best hits have in common (Rocchio, 1971).
struct Feedback {
  size_t documents = 10;  // to learn from
  size_t terms = 10;      // of sparse vectors and texts: to add
  double alpha = 1;       // weight of the query, of length 1
  double beta = 0.75;     // weight of the mean of the hits, of length 1 each
};

// The k nearest points by one named vector.
struct RetrieveStage {
  std::string vector_name;
  // dim elements of the field's type (converted at the edge); for cosine
  // fields not yet normalised.
  std::string query;
  size_t k = 10;
  bool exact = false;  // scan instead of the index
  // Override recall_target: the first where a segment has a graph, the second
  // where it has lists.
  std::optional<size_t> ef;
  std::optional<size_t> nprobe;
  double recall_target = 0.95;  // (0, 1]; mean recall@k to aim at; 1: exact
  ForcedPlan force = ForcedPlan::kNone;  // where segments have an index
  // Only points for which it is true; null: all. Queries that share one are
  // evaluated together.
  std::shared_ptr<const FilterNode> filter;
  // Left out of the result, which has the k nearest of the others.
  std::vector<PointId> excluded_ids;
  // Of the k nearest only those at most so far away, as Hit::distance.
  std::optional<double> max_distance;
  std::optional<Feedback> feedback;
};

// The k points with the largest inner products with a sparse vector, of those
// that share a dimension with it. Distances are minus the products.
struct SparseStage {
  std::string vector_name;
  SparseEntries query;  // dimensions strictly ascending, weights finite
  // Instead, what the vector's encoder makes of it.
  std::optional<std::string> text;
  size_t k = 10;
  double query_mass = 1;  // see SparseParams
  size_t candidates = 10'000;
  std::shared_ptr<const FilterNode> filter;
  std::optional<double> max_distance;
  std::optional<Feedback> feedback;
};

// The k points that have what is asked for, by BM25. Distances are minus the
// scores.
struct TextStage {
  struct Field {
    std::string path;
    float boost = 1;
  };
  std::vector<Field> fields;  // empty: all texts
  TextDemand demand;
  size_t k = 10;
  std::optional<float> k1;  // instead of the fields' own
  std::optional<float> b;
  std::shared_ptr<const FilterNode> filter;
  std::optional<double> max_distance;
  std::optional<Feedback> feedback;
};

// A query of several token vectors.
struct MultiVector {
  // n x dim of the field; magnitudes at most kMaxTokenElement.
  std::vector<float> tokens;
  std::vector<float> weights;  // n, 0 to kMaxQueryTokenWeight; or empty: all 1
};

// The k points with the largest MaxSim scores. Distances are minus the scores.
struct MultiStage {
  std::string vector_name;
  MultiVector query;
  // All but k, exact, recall_target and force: 0 follows from recall_target.
  MultiSearchParams params;
  size_t k = 10;
  std::shared_ptr<const FilterNode> filter;
  std::optional<double> max_distance;
};

// The score of a point is the sum over inputs of weight times what
// NormalizeScores makes of its score there.
struct FuseStage {
  std::vector<Query> inputs;    // 1..
  std::vector<double> weights;  // empty: all 1; else one per input, >= 0
  FusionKind kind = FusionKind::kRrf;
  double rank_constant = 60;
  size_t k = 10;
  std::optional<double> max_distance;
};

// Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): hits are
// chosen one after the other, each the one with the least
//   lambda * distance to the query
//   - (1 - lambda) * distance to the nearest one that was chosen before.
struct Diversity {
  double lambda = 0.5;      // [0, 1]; 1: nearest first
  size_t candidates = 100;  // so many of the nearest are chosen from
};

// Exact scores of the input's points by one named vector; points without it
// are dropped.
struct RerankStage {
  std::unique_ptr<Query> input;
  std::string vector_name;
  std::string query;  // as in RetrieveStage
  // Instead, of a sparse vector: then without diversity.
  std::optional<SparseEntries> sparse;
  // Instead, of a multi-vector: then without diversity.
  std::optional<MultiVector> multi;
  size_t k = 10;
  std::optional<double> max_distance;  // as in RetrieveStage
  // The k hits are then chosen so, and stand in the order of their choice.
  std::optional<Diversity> diversity;
};

// Scores of the input's points by an expression; those for which it has no
// value are dropped. Distances are minus the new scores.
struct RescoreStage {
  std::unique_ptr<Query> input;
  ScoreExpression score;
  size_t k = 10;
  std::optional<double> max_distance;
};

// Hits by the values of a payload's field.
struct GroupBy {
  std::string path;        // as in filters
  size_t group_size = 1;   // hits of a group, at most
  size_t num_groups = 10;  // at most; their product is at most limits.max_k
};

struct Query {
  std::variant<RetrieveStage, FuseStage, RerankStage, SparseStage, TextStage,
               RescoreStage, MultiStage>
      stage;
  bool explain = false;        // of the outermost query
  bool token_matches = false;  // of the outermost query
  // So many of the stage's k hits are left out, the nearest ones. Of the
  // whole query; nothing as an input.
  size_t offset = 0;
  // Of the whole query, without an offset: the stage's k is then what it takes
  // to fill the groups, up to limits.max_k.
  std::optional<GroupBy> group_by;
};

// The call of a device that answered.
struct DeviceUse {
  std::string name;          // "cuda:0"; empty: the CPU answered
  size_t batch_queries = 0;  // of the call, whoever asked them
};

// What one retrieve stage did with one segment.
struct SegmentExplanation {
  std::string vector_name;
  uint64_t number = 0;  // of the segment; 0 while in memory only
  uint64_t num_rows = 0;
  uint64_t num_accepted = 0;  // by the filter, or all; dead ones may be in it
  SearchPlan plan = SearchPlan::kNone;
  uint64_t expanded_nodes = 0;  // or lists that were read
  uint64_t distance_computations = 0;
  uint64_t num_payloads_read = 0;  // to evaluate the filter; ever, for it
  double filter_micros = 0;
  double search_micros = 0;
  DeviceUse device;
  // Of multi-vectors.
  MultiStats multi;
  std::string encoder;  // what finds candidates; empty: all are compared
};

// How the tokens of a query met those of a hit, where it was asked for.
struct TokenMatches {
  size_t num_query_tokens = 0;
  size_t num_document_tokens = 0;
  std::vector<float> similarities;  // a row per query token
};

// What an inner stage said of a point.
struct LegScore {
  size_t rank = 0;        // from 1; 0: the point is not among its hits
  float distance = 0;     // as Hit::distance
  double normalized = 0;  // of a fusion's inputs, before the weight
};

struct Hit {
  PointId id;
  Ordinal ordinal = 0;  // of the version that was found
  // Distance (smaller is closer) for retrieve and rerank; for fuse minus the
  // fused score.
  float distance = 0;
  // What the stages below said, where it was asked for: as many as
  // SearchResult::legs.
  std::vector<LegScore> legs;
  // Of the outermost stage that compares tokens, where `token_matches` is set.
  std::optional<TokenMatches> token_matches;
};

struct HitGroup {
  GroupValue value;
  size_t num_hits = 0;  // >= 1
};

// Nearest first; ties by id. With Diversity, as it chose.
struct SearchResult {
  std::vector<Hit> hits;
  // Of a query with group_by: its hits, nearest first, are those of the first
  // group, then those of the second, ..., the groups by their nearest hits. A
  // point with several values stands in the group of each.
  std::vector<HitGroup> groups;
  bool exact = false;     // every stage was exact
  Sequence sequence = 0;  // writes up to this one were visible
  SearchStats stats;
  std::vector<SegmentExplanation> explanation;  // where it was asked for
  // Where it was asked for: the stages below the outermost one.
  struct Leg {
    std::string path;              // "inputs[0].input"
    const Query* query = nullptr;  // of it
  };
  std::vector<Leg> legs;
};

}  // namespace vicinal
