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
#include "src/base/point_id.h"
#include "src/base/types.h"
#include "src/payload/filter.h"
#include "src/payload/group_value.h"

namespace vicinal {

struct Query;

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
};

// Reciprocal rank fusion (Cormack et al., SIGIR 2009): score of a point is
// the sum over inputs of weight / (rank_constant + rank), rank from 1.
struct FuseStage {
  std::vector<Query> inputs;    // 1..
  std::vector<double> weights;  // empty: all 1; else one per input, >= 0
  double rank_constant = 60;
  size_t k = 10;
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
  size_t k = 10;
  std::optional<double> max_distance;  // as in RetrieveStage
  // The k hits are then chosen so, and stand in the order of their choice.
  std::optional<Diversity> diversity;
};

// Hits by the values of a payload's field.
struct GroupBy {
  std::string path;        // as in filters
  size_t group_size = 1;   // hits of a group, at most
  size_t num_groups = 10;  // at most; their product is at most limits.max_k
};

struct Query {
  std::variant<RetrieveStage, FuseStage, RerankStage> stage;
  bool explain = false;  // of the outermost query
  // So many of the stage's k hits are left out, the nearest ones. Of the
  // whole query; nothing as an input.
  size_t offset = 0;
  // Of the whole query, without an offset: the stage's k is then what it takes
  // to fill the groups, up to limits.max_k.
  std::optional<GroupBy> group_by;
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
};

struct Hit {
  PointId id;
  Ordinal ordinal = 0;  // of the version that was found
  // Distance (smaller is closer) for retrieve and rerank; for fuse minus the
  // fused score.
  float distance = 0;
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
};

}  // namespace vicinal
