// Multi-vectors of points on their way from records and batches into segments,
// and which kind of vector a name stands for.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/index.h"
#include "index/multi_field.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/engine/layout.h"
#include "src/engine/schema.h"
#include "src/engine/segment.h"
#include "storage/collection_store.h"

namespace vicinal {

// A multi-vector of a record, its tokens, into its place in *out, which has one
// element for each of the layout's; borrows them. DataLoss: it does not fit the
// layout.
absl::Status TakeRecordTokens(const Layout& layout,
                              const RecordView::Vector& vector,
                              std::vector<absl::string_view>* out);

// What query.multi asks of rows begin .. end of its field in a segment.
absl::Status SearchTokens(const SegmentQuery& query, const MultiField& field,
                          RowId begin, RowId end, const StopCondition& stop,
                          TopK* out, SearchStats* stats);

enum class VectorKind { kDense, kSparse, kMulti };

// nullopt: the schema has no vector of that name.
std::optional<VectorKind> KindOfVector(const CollectionSchema& schema,
                                       absl::string_view name);
// "is a multi-vector; ask it with several token vectors", of a vector that is
// asked as if it were of another kind.
absl::string_view HowToAsk(VectorKind kind);
// The same of one that is written so.
absl::string_view HowToWrite(VectorKind kind);
// InvalidArgument: why `name`, which the schema does not have as a vector of
// the `wanted` kind, cannot be asked.
absl::Status CannotAsk(const CollectionSchema& schema, absl::string_view name,
                       VectorKind wanted);

}  // namespace vicinal
