// An Index is a searchable structure over the rows of one vector field of one
// segment. Life: built or opened, then const; every method is safe from any
// number of threads. It borrows the vectors: the caller keeps them alive.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"

namespace vicinal {

// What a search must do, whatever it costs; for tests and for who wants to
// compare.
enum class ForcedPlan : uint8_t {
  kNone = 0,   // the cheapest
  kScan = 1,   // compare all accepted rows
  kIndex = 2,  // walk the graph, read lists
};

// Validated at the edge; an index trusts them.
struct SearchParams {
  // Results wanted, >= 1. Larger k costs time and, below ef, nothing else.
  size_t k = 10;
  // Size of the candidate pool of a graph search, raised to k when smaller; or
  // the lists to read.
  // Larger: higher recall, slower, about linearly.
  size_t ef = 64;
  // Of the pool of a walk over codes, the candidates compared exactly, nearest
  // estimate first; raised to k, 0 means all. More: higher recall, and a read
  // of a full vector each. Unused where the walk itself is exact.
  size_t rerank = 0;
  // Of lists: above 0, how far out they are read, as a share of the way from
  // the nearest centroid's distance to the mean of all; ef is then how many
  // these are on average. Crowded queries read more lists, lonely ones fewer.
  float reach = 0;
  // Of lists, with a filter that is independent of the query: ef and reach for
  // as many neighbours as its k nearest accepted ones are among, where ef and
  // reach are those for k. 0: they are the same.
  size_t filtered_ef = 0;
  float filtered_reach = 0;
  // Of a graph, with a filter that is independent of the query: the pool, of
  // rows that pass. 0: ef.
  size_t filtered_pool = 0;
  // Of a graph with cells, with a filter: lists to read where all rows pass;
  // filtered_ef is then of lists, too. 0: it is walked, or scanned.
  size_t cells = 0;
  ForcedPlan force = ForcedPlan::kNone;
};

// How a search went about it.
enum class SearchPlan : uint8_t {
  kNone = 0,           // there was nothing to search
  kScan = 1,           // compared the vectors of all accepted rows
  kCodes = 2,          // estimated all accepted rows by their codes
  kLists = 3,          // read lists
  kGraph = 4,          // walked a graph
  kGraphThenScan = 5,  // gave a walk up that had cost more than the scan
  kPostings = 6,       // read the postings of terms
  kDevice = 7,         // a device compared all accepted rows, exactly
};

// Work done by one search; added to what is there.
struct SearchStats {
  uint64_t distance_computations = 0;
  uint64_t expanded_nodes = 0;          // or lists that were read
  SearchPlan plan = SearchPlan::kNone;  // of the last search
};

class Index {
 public:
  virtual ~Index() = default;

  // The k nearest rows accepted by `filter`, pushed into *out (whose k is
  // params.k); always min(k, accepted rows) of them. `query` holds dim
  // elements of the field's type. Cancelled / DeadlineExceeded: `stop` said
  // so; *out then holds what was found. stats may be null.
  virtual absl::Status Search(const void* query, const SearchParams& params,
                              const Filter& filter, const StopCondition& stop,
                              TopK* out, SearchStats* stats) const = 0;

  virtual size_t num_rows() const = 0;
  // Bytes of the structure itself, without the vectors it borrows.
  virtual size_t memory_bytes() const = 0;
};

}  // namespace vicinal
