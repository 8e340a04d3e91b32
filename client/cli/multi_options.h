// Multi-vectors of a collection, as options say them and as they are shown.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json_fwd.hpp"
#include "vicinal/v1/collection.pb.h"

namespace vicinal::cli {

// NAME:DIM[:METRIC][:OPTION...] in any order behind DIM: l2 is no metric here,
// cosine the default; options are a type, "empty", "max=N", "encoder=NAME",
// "codec=NAME" and "bits=B". InvalidArgument: it is not.
absl::StatusOr<v1::MultiVectorConfig> ParseMultiSpec(absl::string_view spec);

// The multi-vector of that name; the only one when the name is empty.
// InvalidArgument: none, with those that there are.
absl::StatusOr<v1::MultiVectorConfig> FindMulti(
    const v1::Collection& collection, absl::string_view name);

// A table; empty: the collection has none. The same as JSON.
std::string FormatMultiVectors(const v1::Collection& collection);
nlohmann::ordered_json MultiVectorsToJson(const v1::Collection& collection);

}  // namespace vicinal::cli
