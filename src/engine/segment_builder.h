// Makes one sealed segment out of the live rows of others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/cancel.h"
#include "src/base/section_file.h"
#include "src/base/types.h"
#include "src/engine/layout.h"
#include "src/engine/query_sample.h"
#include "src/engine/schema.h"
#include "src/engine/sealed_segment.h"
#include "src/engine/segment.h"

namespace vicinal {

class DistanceBackend;

struct SegmentBuildOptions {
  std::string folder;   // of the collection's segment files
  uint64_t number = 0;  // of the new segment
  size_t num_threads = 1;
  DistanceBackend* device = nullptr;  // see DatabaseOptions
  SegmentPlacement placement;         // of the new segment
  // Live points of the whole collection, which share its memory budget.
  size_t num_points = 0;
  const CancelToken* cancel = nullptr;
  Progress* progress = nullptr;
  // Where the collection has a partition key, of each source's rows the number
  // of their partition (see RankPartitions); else empty.
  std::vector<std::vector<uint32_t>> partitions;
  // Queries of a field of late, to train and calibrate with; empty: rows stand
  // for them.
  std::function<QuerySample(size_t field)> queries;
  // Told what goes on, for people; and the named points for tests.
  std::function<void(absl::string_view phase)> on_phase;
  std::function<void(absl::string_view point)> test_hook;
  FileFaultHook fault_hook;
};

struct BuiltSegment {
  // Null when no row was alive: then there are no files either.
  std::shared_ptr<SealedSegment> segment;
  // Versions of the sources that were dead already and are not in it.
  std::vector<Ordinal> dropped;
};

// Rows that die while it runs may be in the result or not; the caller applies
// later tombstones. The sources must get no new rows. Numbers rows in the cell
// order of the first field; every field with an index has its own cell order.
// Partitions come one after the other in all of them.
// ResourceExhausted: disk full. Cancelled: the token was set. On an error
// nothing is left behind that the next build or open would not remove.
absl::StatusOr<BuiltSegment> BuildSegment(
    const CollectionSchema& schema, std::shared_ptr<const Layout> layout,
    const std::vector<std::shared_ptr<Segment>>& sources,
    const SegmentBuildOptions& options);

}  // namespace vicinal
