// Facets from and to the wire.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "src/engine/collection.h"
#include "src/engine/limits.h"
#include "src/engine/schema.h"
#include "src/payload/filter.h"
#include "vicinal/v1/point.pb.h"

namespace vicinal {

// A request of Facet.
struct ParsedFacet {
  // InvalidArgument: fields are wrong. FailedPrecondition
  // (PAYLOAD_INDEX_MISSING): there is no such index.
  static absl::StatusOr<ParsedFacet> Parse(const v1::FacetRequest& request,
                                           const CollectionSchema& schema,
                                           const Limits& limits);
  void ToProto(const FacetResult& result, v1::FacetResponse* reply) const;

  FacetQuery query;  // borrows the filter
  std::shared_ptr<const FilterNode> filter;
  // Of collection, field, filter and prefix: what a page token is good for.
  std::string asked;
};

}  // namespace vicinal
