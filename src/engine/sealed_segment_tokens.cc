// Tokens of a sealed segment that devices compare.
#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "src/base/status_macros.h"
#include "src/engine/device_searcher.h"
#include "src/engine/query.h"
#include "src/engine/row_filter.h"
#include "src/engine/sealed_segment.h"

namespace vicinal {
namespace {

using DocumentList = std::shared_ptr<const std::vector<RowId>>;

// Whether it is left open how the query is answered.
bool IsOpen(const MultiSearchParams& params) {
  return params.exact ||
         (params.force != ForcedPlan::kIndex && params.candidates == 0 &&
          params.exact_candidates == 0 && params.rescore == 0);
}

// One call: the k best of the list, or of all.
absl::StatusOr<std::optional<DeviceAnswer>> AskTokens(
    const SegmentQuery& query, const PlacedSegment& placed, size_t k,
    DocumentList list, const StopCondition& stop) {
  const MultiQuery& tokens = *query.multi->query;
  const MatrixView view = tokens.tokens();
  return query.device->Search(
      placed.device,
      {.segment = placed.segment,
       .data = view.data,
       .row_bytes = view.num_rows * view.dim * sizeof(float),
       .k = k,
       .tokens = {.weights = tokens.weights().data(),
                  .num = tokens.num_tokens(),
                  .documents = std::move(list)}},
      stop);
}

}  // namespace

// How a device is asked for the k best of those that a filter accepts.
struct SealedSegment::TokenPlan {
  size_t k = 0;
  // Else of all documents so many that the k are most likely among them: each
  // of a list takes longer than several that are read in their order, once for
  // several queries, whatever their filters are.
  bool lists = false;
  bool may_list = true;  // where those are too few
  double device_ns = 0;
  double listed_ns = 0;  // with a list
};

SealedSegment::TokenPlan SealedSegment::PlanFor(const TokenDocuments& documents,
                                                size_t num_query_tokens,
                                                size_t k, size_t num_accepted) {
  constexpr size_t kSome = 16;
  const size_t n = documents.num_docs, num_tokens = documents.offsets[n];
  TokenPlan listed = {.k = k, .lists = true};
  listed.device_ns = DeviceSearcher::TokenCallNs(
      documents.dim, num_query_tokens, num_tokens * num_accepted / n,
      num_accepted, k);
  listed.listed_ns = listed.device_ns;
  const size_t most_left_out = n - num_accepted;
  const size_t likely = 2 * k * n / std::max<size_t>(1, num_accepted) + kSome;
  TokenPlan all = {.k = std::min(k + most_left_out, likely),
                   .listed_ns = listed.device_ns};
  all.device_ns = DeviceSearcher::TokenCallNs(documents.dim, num_query_tokens,
                                              num_tokens, 0, all.k);
  return all.k <= kMaxBackendK && all.device_ns < listed.device_ns ? all
                                                                   : listed;
}

// What a search found: live documents that the filter accepts.
struct SealedSegment::TokenAnswer {
  std::vector<Neighbor> nearest;  // k, or all that there are
  DocumentList list;              // what was compared; null: all documents
  size_t batch_queries = 0;       // of the call
};

absl::StatusOr<std::optional<SealedSegment::TokenAnswer>>
SealedSegment::AskForTokens(const SegmentQuery& query,
                            const PlacedSegment& placed, const Filter& accepted,
                            const TokenPlan& plan,
                            const StopCondition& stop) const {
  const SealedMultiField& field = *multi_[query.multi->m];
  const size_t n = field.documents().num_docs;
  TokenAnswer out;
  size_t k = plan.k;
  bool lists = plan.lists;
  while (true) {
    if (lists) {
      std::vector<RowId> list;
      for (RowId document = 0; document < n; ++document) {
        if (accepted.Accepts(document)) list.push_back(document);
      }
      out.list = std::make_shared<const std::vector<RowId>>(std::move(list));
      k = query.k;
      if (out.list->empty()) return std::nullopt;
    }
    VICINAL_ASSIGN_OR_RETURN(const auto answer,
                             AskTokens(query, placed, k, out.list, stop));
    if (!answer.has_value()) return std::nullopt;
    out.batch_queries = answer->batch_queries;
    out.nearest = answer->neighbors;
    const bool may_be_more = out.nearest.back().row != kInvalidRow;
    // Of a list all were accepted: those that died meanwhile are taken out by
    // who asks, who would take fewer than k for all that there are.
    std::erase_if(out.nearest, [&](const Neighbor& neighbor) {
      return neighbor.row == kInvalidRow ||
             (!lists && !accepted.Accepts(neighbor.row));
    });
    if (lists || !may_be_more || out.nearest.size() >= query.k) return out;
    // Fewer of the best are accepted than of the others.
    if (!plan.may_list) return std::nullopt;
    lists = true;
  }
}

absl::StatusOr<bool> SealedSegment::SearchTokensOnDevice(
    const SegmentQuery& query, const StopCondition& stop, TopK* out,
    SearchStats* stats) const {
  const auto& copy = multi_copies_[query.multi->m];
  if (query.device == nullptr || copy == nullptr ||
      !IsOpen(query.multi->params) ||
      query.multi->query->num_tokens() > kMaxDeviceQueryTokens) {
    return false;
  }
  const SealedMultiField& field = *multi_[query.multi->m];
  const MultiQuery& tokens = *query.multi->query;
  const TokenDocuments documents = field.documents();
  const size_t n = documents.num_docs;
  std::optional<Bitmap> bits;
  const Filter accepted = field.DocumentFilter(
      query.rows == nullptr ? Filter{} : query.rows->AsFilter(nullptr), &bits);
  const size_t num_accepted = query.rows == nullptr
                                  ? n - field.num_dead_documents()
                                  : accepted.NumAccepted(n);
  TokenPlan plan =
      PlanFor(documents, tokens.num_tokens(), query.k, num_accepted);
  MultiSearchParams params = query.multi->params;
  params.k = query.k;
  const DeviceWish wish = {
      .k = plan.k,
      .device_ns = plan.device_ns,
      .cpu_ns = field.SearchNs(tokens, params, num_accepted),
      .is_required = query.device_required};
  plan.may_list = wish.is_required || plan.listed_ns < wish.cpu_ns;
  VICINAL_ASSIGN_OR_RETURN(const PlacedSegment placed,
                           query.device->Find(copy, wish, stop));
  if (placed.segment == nullptr) return false;
  VICINAL_ASSIGN_OR_RETURN(const auto answer,
                           AskForTokens(query, placed, accepted, plan, stop));
  if (!answer.has_value()) return false;
  if (query.device_use != nullptr) {
    *query.device_use = {query.device->name(placed.device),
                         answer->batch_queries};
  }
  for (const Neighbor& neighbor : answer->nearest) {
    out->Push({neighbor.distance, field.RowOf(neighbor.row)});
  }
  SearchStats done;
  done.plan = SearchPlan::kDevice;
  MultiStats work;
  work.num_exact = n;
  done.distance_computations = documents.offsets[n];
  if (answer->list != nullptr) {
    work.num_exact = answer->list->size();
    done.distance_computations = 0;
    for (const RowId document : *answer->list) {
      done.distance_computations +=
          documents.offsets[document + 1] - documents.offsets[document];
    }
  }
  AddWork(done, work, stats, query.multi_stats);
  return true;
}

absl::StatusOr<std::vector<float>> SealedSegment::ScoreTokensOnDevice(
    const SegmentQuery& query, std::span<const RowId> rows,
    const StopCondition& stop) const {
  std::vector<float> distances;
  const auto& copy = multi_copies_[query.multi->m];
  if (copy == nullptr || rows.empty() ||
      query.multi->query->num_tokens() > kMaxDeviceQueryTokens) {
    return distances;
  }
  const SealedMultiField& field = *multi_[query.multi->m];
  const MultiQuery& tokens = *query.multi->query;
  const TokenDocuments documents = field.documents();
  std::vector<RowId> listed;
  size_t num_tokens = 0;
  for (const RowId row : rows) {
    listed.push_back(field.DocumentOf(row));
    num_tokens +=
        documents.offsets[listed.back() + 1] - documents.offsets[listed.back()];
  }
  const size_t num_calls = (rows.size() + kMaxBackendK - 1) / kMaxBackendK;
  const DeviceWish wish = {
      .k = std::min(rows.size(), kMaxBackendK),
      .device_ns =
          static_cast<double>(num_calls) *
          DeviceSearcher::TokenCallNs(
              documents.dim, tokens.num_tokens(), num_tokens / num_calls,
              rows.size() / num_calls, rows.size() / num_calls),
      .cpu_ns = field.ScoreNs(tokens, num_tokens),
      .is_required = query.device_required,
      .may_load = false};
  VICINAL_ASSIGN_OR_RETURN(const PlacedSegment placed,
                           query.device->Find(copy, wish, stop));
  if (placed.segment == nullptr) return distances;
  // A row may be there twice.
  absl::flat_hash_map<RowId, float> by_document;
  for (size_t first = 0; first < listed.size(); first += kMaxBackendK) {
    const auto part = std::span(listed).subspan(
        first, std::min(kMaxBackendK, listed.size() - first));
    VICINAL_ASSIGN_OR_RETURN(
        const auto answer, AskTokens(query, placed, part.size(),
                                     std::make_shared<const std::vector<RowId>>(
                                         part.begin(), part.end()),
                                     stop));
    if (!answer.has_value()) return distances;
    for (const Neighbor& neighbor : answer->neighbors) {
      by_document[neighbor.row] = neighbor.distance;
    }
  }
  for (const RowId document : listed) {
    distances.push_back(by_document.at(document));
  }
  return distances;
}

}  // namespace vicinal
