#include "src/engine/multi_rows.h"

#include <cstddef>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/types.h"
#include "src/engine/row_filter.h"

namespace vicinal {
namespace {

absl::string_view NameOf(VectorKind kind) {
  switch (kind) {
    case VectorKind::kDense:
      return "vector";
    case VectorKind::kSparse:
      return "sparse vector";
    case VectorKind::kMulti:
      return "multi-vector";
  }
  return "vector";
}

}  // namespace

absl::Status TakeRecordTokens(const Layout& layout,
                              const RecordView::Vector& vector,
                              std::vector<absl::string_view>* out) {
  const size_t m = vector.field - size_t{kFirstMultiRecordField};
  if (vector.field < kFirstMultiRecordField || m >= layout.multi.size() ||
      vector.bytes.size() % layout.multi[m].token_bytes() != 0) {
    return absl::DataLossError(absl::StrCat("the multi-vector ", vector.field,
                                            " of a record does not fit the "
                                            "schema"));
  }
  (*out)[m] = vector.bytes;
  return absl::OkStatus();
}

absl::Status SearchTokens(const SegmentQuery& query, const MultiField& field,
                          RowId begin, RowId end, const StopCondition& stop,
                          TopK* out, SearchStats* stats) {
  MultiSearchParams params = query.multi->params;
  params.k = query.k;
  const Filter filter =
      query.rows != nullptr ? query.rows->AsFilter(nullptr) : Filter{};
  return field.Search(*query.multi->query, params, filter, begin, end, stop,
                      out, stats, query.multi_stats);
}

std::optional<VectorKind> KindOfVector(const CollectionSchema& schema,
                                       absl::string_view name) {
  if (schema.FindVector(name).has_value()) return VectorKind::kDense;
  if (schema.FindSparse(name).has_value()) return VectorKind::kSparse;
  if (schema.FindMulti(name).has_value()) return VectorKind::kMulti;
  return std::nullopt;
}

absl::string_view HowToAsk(VectorKind kind) {
  switch (kind) {
    case VectorKind::kDense:
      return "is a dense vector; ask it with a single vector";
    case VectorKind::kSparse:
      return "is a sparse vector; ask it with indices and values";
    case VectorKind::kMulti:
      return "is a multi-vector; ask it with several token vectors";
  }
  return "";
}

absl::string_view HowToWrite(VectorKind kind) {
  switch (kind) {
    case VectorKind::kDense:
      return "is a dense vector of the collection; send it in vectors";
    case VectorKind::kSparse:
      return "is a sparse vector of the collection; send it in sparse_vectors";
    case VectorKind::kMulti:
      return "is a multi-vector of the collection; send it in multi_vectors";
  }
  return "";
}

absl::Status CannotAsk(const CollectionSchema& schema, absl::string_view name,
                       VectorKind wanted) {
  const std::optional<VectorKind> kind = KindOfVector(schema, name);
  if (!kind.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("collection \"", schema.name,
                                                   "\" has no ", NameOf(wanted),
                                                   " \"", name, "\""));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("vector \"", name, "\" ", HowToAsk(*kind)));
}

}  // namespace vicinal
