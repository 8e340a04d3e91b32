// A collection filled with a data set, for benchmarks of the engine and of the
// server around it. Point ids are row numbers.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "bench/dataset.h"
#include "src/engine/collection.h"
#include "src/engine/database.h"

namespace vicinal::bench {

// One unnamed f32 vector with an HNSW index over the given codec.
absl::StatusOr<std::shared_ptr<Collection>> CreateBenchCollection(
    Database* database, absl::string_view name, const Dataset& dataset,
    size_t m, size_t ef_construction, CodecSpec codec = {});

// payload_of: the JSON of a row; empty: no payloads.
absl::Status UpsertAll(
    Collection* collection, const FloatMatrix& rows,
    const std::function<std::string(size_t)>& payload_of = {});

// Returns when one sealed segment holds everything.
absl::Status OptimizeAndWait(Collection* collection);

}  // namespace vicinal::bench
