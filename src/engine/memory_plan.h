// What sealed segments cost, before they are built: the codec that a field gets
// and an estimate for people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quant/codec.h"
#include "src/engine/layout.h"
#include "src/engine/schema.h"

namespace vicinal {

// Below this many rows a scan is as fast as an index and costs nothing to
// build. Measured: 2,000 x 784 f32 scan in 0.1 ms, a graph search in 0.08.
inline constexpr size_t kMinIndexRows = 2'000;

// How field f is encoded in a segment of num_rows rows; nothing: it is not.
// num_points: of the whole collection, which shares its memory budget.
std::optional<CodecParams> ChooseCodec(const CollectionSchema& schema,
                                       const Layout& layout, size_t f,
                                       size_t num_rows, size_t num_points);

struct ResourceEstimate {
  uint64_t ram_bytes = 0;     // codes, links and lists in memory
  uint64_t mapped_bytes = 0;  // of files that searches read
  uint64_t disk_bytes = 0;    // files and records, without payloads and merges
  double build_seconds = 0;   // of one build of all points
  // What does not go as the schema asks, in sentences.
  std::vector<std::string> warnings;
};

// For num_points points in one segment that have all vectors, with ids of 9
// bytes; the build with num_threads threads on a processor like that of
// docs/BENCHMARKS.md. The schema is valid.
ResourceEstimate EstimateResources(const CollectionSchema& schema,
                                   uint64_t num_points, size_t num_threads);

}  // namespace vicinal
