// The conversions between the vocabulary and messages declared in client.h.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/client.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "vicinal/v1/common.pb.h"
#include "vicinal/v1/filter.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::client {
namespace {

template <typename Message>
void SetQuality(const SearchOptions& options, Message* message) {
  if (options.exact) {
    message->mutable_quality()->set_exact(true);
  } else if (options.ef.has_value()) {
    message->mutable_quality()->set_ef(*options.ef);
  } else if (options.nprobe.has_value()) {
    message->mutable_quality()->set_nprobe(*options.nprobe);
  } else if (options.recall_target.has_value()) {
    message->mutable_quality()->set_recall_target(*options.recall_target);
  }
}

template <typename Message>
void SetSelect(const SearchOptions& options, Message* message) {
  if (!options.with_payload && !options.with_vectors) return;
  message->mutable_select()->set_with_payload(options.with_payload);
  message->mutable_select()->set_with_all_vectors(options.with_vectors);
}

// The leaf of a query, but for what it looks for.
v1::Retrieve MakeRetrieve(const SearchOptions& options) {
  v1::Retrieve retrieve;
  retrieve.set_vector(options.vector);
  retrieve.set_k(options.k);
  SetQuality(options, &retrieve);
  if (!IsBlank(options.filter)) *retrieve.mutable_filter() = options.filter;
  if (options.score_threshold.has_value()) {
    retrieve.set_score_threshold(*options.score_threshold);
  }
  retrieve.set_plan(options.plan);
  return retrieve;
}

// The leaf of a query by token vectors, but for these.
v1::RetrieveMulti MakeRetrieveMulti(const SearchOptions& options,
                                    const MultiSearchOptions& multi) {
  v1::RetrieveMulti retrieve;
  retrieve.set_vector(options.vector);
  retrieve.set_k(options.k);
  SetQuality(options, &retrieve);
  if (!IsBlank(options.filter)) *retrieve.mutable_filter() = options.filter;
  if (options.score_threshold.has_value()) {
    retrieve.set_score_threshold(*options.score_threshold);
  }
  retrieve.set_plan(options.plan);
  retrieve.set_rescore(multi.rescore);
  retrieve.set_candidates(multi.candidates);
  retrieve.set_exact_candidates(multi.exact_candidates);
  return retrieve;
}

// All rows, one after the other.
void AppendRows(const VectorSetView& rows, std::string* out) {
  const size_t row_bytes = rows.dim * ElementSize(rows.type);
  out->reserve(out->size() + rows.num_rows * row_bytes);
  for (size_t i = 0; i < rows.num_rows; ++i) {
    out->append(reinterpret_cast<const char*>(rows.row(i)), row_bytes);
  }
}

// Chooses by options.mmr from what `retrieve`, which looks for a vector, finds.
v1::Rerank MakeRerank(v1::Retrieve retrieve, const SearchOptions& options) {
  constexpr uint32_t kCandidates = 100;  // as the server chooses
  v1::Rerank rerank;
  rerank.set_vector(options.vector);
  *rerank.mutable_query() = retrieve.query();
  rerank.set_k(options.k);
  *rerank.mutable_mmr() = *options.mmr;
  if (options.mmr->candidates() == 0) {
    // Fewer than the hits wanted would cut the result.
    rerank.mutable_mmr()->set_candidates(
        std::max(kCandidates, options.k + options.offset));
  }
  retrieve.set_k(rerank.mmr().candidates());
  *rerank.mutable_input()->mutable_retrieve() = std::move(retrieve);
  return rerank;
}

// Request of a query that has no stage yet.
v1::SearchRequest MakeRequest(absl::string_view collection,
                              const SearchOptions& options) {
  v1::SearchRequest request;
  request.set_collection(collection.data(), collection.size());
  request.set_offset(options.offset);
  request.set_explain(options.explain);
  SetSelect(options, &request);
  if (!options.group_by.empty()) {
    request.mutable_group_by()->set_path(options.group_by);
    request.mutable_group_by()->set_group_size(options.group_size);
    request.mutable_group_by()->set_num_groups(options.k);
  }
  return request;
}

}  // namespace

v1::SearchRequest MakeSearchRequest(absl::string_view collection,
                                    std::span<const float> query,
                                    const SearchOptions& options) {
  v1::SearchRequest request = MakeRequest(collection, options);
  v1::Retrieve retrieve = MakeRetrieve(options);
  retrieve.mutable_query()->set_data(query.data(), query.size_bytes());
  retrieve.mutable_query()->set_type(v1::ELEMENT_TYPE_FLOAT32);
  if (options.mmr.has_value()) {
    v1::Rerank* rerank = request.mutable_query()->mutable_rerank();
    *rerank = MakeRerank(std::move(retrieve), options);
    if (request.has_group_by()) rerank->clear_k();
  } else {
    if (request.has_group_by()) retrieve.clear_k();
    *request.mutable_query()->mutable_retrieve() = std::move(retrieve);
  }
  return request;
}

v1::SearchRequest MakeRecommendRequest(absl::string_view collection,
                                       std::span<const PointId> positive,
                                       std::span<const PointId> negative,
                                       const SearchOptions& options) {
  v1::SearchRequest request = MakeRequest(collection, options);
  v1::Retrieve* retrieve = request.mutable_query()->mutable_retrieve();
  *retrieve = MakeRetrieve(options);
  if (request.has_group_by()) retrieve->clear_k();
  v1::Recommend* recommend = retrieve->mutable_recommend();
  for (const PointId& id : positive) {
    *recommend->add_positive()->mutable_id() = ToProto(id);
  }
  for (const PointId& id : negative) {
    *recommend->add_negative()->mutable_id() = ToProto(id);
  }
  return request;
}

v1::SearchRequest MakeMultiSearchRequest(absl::string_view collection,
                                         v1::MultiVectorQuery query,
                                         const SearchOptions& options,
                                         const MultiSearchOptions& multi) {
  v1::SearchRequest request = MakeRequest(collection, options);
  request.set_token_matches(multi.token_matches);
  v1::RetrieveMulti* retrieve =
      request.mutable_query()->mutable_retrieve_multi();
  *retrieve = MakeRetrieveMulti(options, multi);
  *retrieve->mutable_query() = std::move(query);
  if (request.has_group_by()) retrieve->clear_k();
  return request;
}

v1::MultiVectorQuery MakeMultiQuery(const VectorSetView& tokens,
                                    std::span<const float> weights) {
  v1::MultiVectorQuery query;
  query.set_dim(static_cast<uint32_t>(tokens.dim));
  query.set_type(ToProto(tokens.type));
  AppendRows(tokens, query.mutable_data());
  query.mutable_weights()->Assign(weights.begin(), weights.end());
  return query;
}

v1::MultiVectorColumn MakeMultiColumn(absl::string_view name,
                                      const VectorSetView& tokens,
                                      std::span<const uint64_t> lengths) {
  v1::MultiVectorColumn column;
  column.set_name(name.data(), name.size());
  column.set_dim(static_cast<uint32_t>(tokens.dim));
  column.set_type(ToProto(tokens.type));
  AppendRows(tokens, column.mutable_data());
  uint64_t offset = 0;
  column.add_offsets(offset);
  for (const uint64_t length : lengths) {
    offset += length;
    column.add_offsets(offset);
  }
  return column;
}

absl::Status CheckMultiColumn(const v1::MultiVectorColumn& column,
                              size_t num_points) {
  const auto& offsets = column.offsets();
  const size_t token_bytes =
      column.dim() * ElementSize(FromProto(column.type()));
  if (static_cast<size_t>(offsets.size()) == num_points + 1 &&
      offsets[0] == 0 && token_bytes > 0 &&
      std::is_sorted(offsets.begin(), offsets.end()) &&
      column.data().size() % token_bytes == 0 &&
      offsets[offsets.size() - 1] == column.data().size() / token_bytes) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat(
      "The server sent ", column.data().size(), " bytes and ", offsets.size(),
      " offsets for the tokens of ", num_points, " points in multi-vector \"",
      column.name(), "\" of dimension ", column.dim(), "."));
}

VectorSetView TokensOf(const v1::MultiVectorColumn& column, size_t point) {
  const ElementType type = FromProto(column.type());
  const size_t token_bytes = column.dim() * ElementSize(type);
  const auto at = static_cast<int>(point);
  const uint64_t begin = column.offsets(at);
  return {.data = reinterpret_cast<const std::byte*>(column.data().data()) +
                  begin * token_bytes,
          .num_rows = column.offsets(at + 1) - begin,
          .dim = column.dim(),
          .stride_bytes = token_bytes,
          .type = type};
}

v1::SearchBatchRequest MakeSearchBatchRequest(absl::string_view collection,
                                              const VectorSetView& queries,
                                              const SearchOptions& options) {
  v1::SearchBatchRequest request;
  request.set_collection(collection.data(), collection.size());
  request.set_vector(options.vector);
  v1::VectorColumn* column = request.mutable_queries();
  column->set_dim(static_cast<uint32_t>(queries.dim));
  column->set_type(ToProto(queries.type));
  AppendRows(queries, column->mutable_data());
  request.set_k(options.k);
  SetQuality(options, &request);
  if (!IsBlank(options.filter)) *request.mutable_filter() = options.filter;
  if (options.score_threshold.has_value()) {
    request.set_score_threshold(*options.score_threshold);
  }
  request.set_offset(options.offset);
  SetSelect(options, &request);
  return request;
}

v1::PointId ToProto(const PointId& id) {
  v1::PointId out;
  if (id.is_number()) {
    out.set_number(id.number());
  } else if (id.is_uuid()) {
    out.set_uuid(id.ToString());
  } else {
    out.set_string(id.string());
  }
  return out;
}

v1::PointIds ToProto(std::span<const PointId> ids) {
  v1::PointIds out;
  const auto all = [&](bool (PointId::*is)() const) {
    return std::all_of(ids.begin(), ids.end(),
                       [is](const PointId& id) { return (id.*is)(); });
  };
  const auto size = static_cast<int>(ids.size());
  if (all(&PointId::is_number)) {
    out.mutable_numbers()->Reserve(size);
    for (const PointId& id : ids) out.add_numbers(id.number());
  } else if (all(&PointId::is_uuid)) {
    for (const PointId& id : ids) {
      out.mutable_uuids()->append(
          reinterpret_cast<const char*>(id.uuid().data()), id.uuid().size());
    }
  } else if (all(&PointId::is_string)) {
    for (const PointId& id : ids) out.add_strings(id.string());
  } else {
    for (const PointId& id : ids) *out.add_ids() = ToProto(id);
  }
  return out;
}

absl::StatusOr<PointId> FromProto(const v1::PointId& id) {
  switch (id.kind_case()) {
    case v1::PointId::kNumber:
      return PointId(id.number());
    case v1::PointId::kUuid:
      return PointId::ParseUuid(id.uuid());
    case v1::PointId::kString:
      return PointId::FromString(id.string());
    case v1::PointId::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "The id is empty; set number, uuid or string.");
}

absl::StatusOr<std::vector<PointId>> FromProto(const v1::PointIds& ids) {
  std::vector<PointId> out;
  out.reserve(NumIds(ids));
  for (const uint64_t number : ids.numbers()) out.emplace_back(number);
  if (ids.uuids().size() % sizeof(PointId::Uuid) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("The column of UUIDs has ", ids.uuids().size(),
                     " bytes, no multiple of 16."));
  }
  for (size_t at = 0; at < ids.uuids().size(); at += sizeof(PointId::Uuid)) {
    PointId::Uuid uuid;
    std::memcpy(uuid.data(), ids.uuids().data() + at, uuid.size());
    out.emplace_back(uuid);
  }
  for (const std::string& text : ids.strings()) {
    VICINAL_ASSIGN_OR_RETURN(PointId id, PointId::FromString(text));
    out.push_back(std::move(id));
  }
  for (const v1::PointId& any : ids.ids()) {
    VICINAL_ASSIGN_OR_RETURN(PointId id, FromProto(any));
    out.push_back(std::move(id));
  }
  return out;
}

size_t NumIds(const v1::PointIds& ids) {
  return static_cast<size_t>(ids.numbers_size()) +
         ids.uuids().size() / sizeof(PointId::Uuid) +
         static_cast<size_t>(ids.strings_size() + ids.ids_size());
}

bool IsBlank(const v1::Filter& filter) {
  return filter.text().empty() && !filter.has_expression();
}

v1::ElementType ToProto(ElementType type) {
  static_assert(static_cast<int>(ElementType::kFloat32) ==
                v1::ELEMENT_TYPE_FLOAT32);
  static_assert(static_cast<int>(ElementType::kFloat16) ==
                v1::ELEMENT_TYPE_FLOAT16);
  static_assert(static_cast<int>(ElementType::kInt8) == v1::ELEMENT_TYPE_INT8);
  static_assert(static_cast<int>(ElementType::kUint8) ==
                v1::ELEMENT_TYPE_UINT8);
  static_assert(static_cast<int>(ElementType::kBfloat16) ==
                v1::ELEMENT_TYPE_BFLOAT16);
  return static_cast<v1::ElementType>(type);
}

ElementType FromProto(v1::ElementType type) {
  if (type == v1::ELEMENT_TYPE_UNSPECIFIED) return ElementType::kFloat32;
  return static_cast<ElementType>(type);
}

}  // namespace vicinal::client
