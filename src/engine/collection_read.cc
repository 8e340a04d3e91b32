// The callers' side of a collection: reads.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/page_memory.h"
#include "src/base/status_macros.h"
#include "src/engine/collection_impl.h"
#include "src/engine/compactor.h"
#include "src/engine/multi_rows.h"
#include "src/engine/row_filter.h"
#include "src/engine/searcher.h"
#include "src/payload/bound_filter.h"

namespace vicinal {
namespace {

// Adds the page faults of its scope.
class FaultCounter {
 public:
  explicit FaultCounter(std::atomic<uint64_t>* sum)
      : sum_(*sum), before_(MajorFaultsOfThread()) {}
  ~FaultCounter() {
    const uint64_t faults = MajorFaultsOfThread() - before_;
    if (faults > 0) sum_.fetch_add(faults, std::memory_order_relaxed);
  }
  FaultCounter(const FaultCounter&) = delete;
  FaultCounter& operator=(const FaultCounter&) = delete;

 private:
  std::atomic<uint64_t>& sum_;
  const uint64_t before_;
};

}  // namespace

size_t CollectionImpl::BytesOf(const StoredPoint& point) {
  size_t bytes = (point.id.is_string() ? point.id.string().size() : 16) +
                 point.payload.size() + point.key.size();
  for (const std::string& vector : point.vectors) bytes += vector.size();
  for (const SparseEntries& entries : point.sparse) {
    bytes += entries.dims.size() * (sizeof(uint32_t) + sizeof(float));
  }
  for (const std::string& tokens : point.multi) bytes += tokens.size();
  return bytes;
}

absl::StatusOr<uint64_t> CollectionImpl::LastFrame(
    absl::string_view stream_id) const {
  VICINAL_ASSIGN_OR_RETURN(const std::optional<uint64_t> frame,
                           store_.GetStreamFrame(stream_id));
  return frame.value_or(0);
}

size_t CollectionImpl::ReadChunk(const PointSelection& selection) const {
  // A payload has up to 1 MiB; the size of a record is known before.
  constexpr size_t kMaxRecordBytes = size_t{8} << 20;
  constexpr size_t kMaxPoints = 1024;
  constexpr size_t kMaxPayloads = 32;
  size_t points = selection.payload ? kMaxPayloads : kMaxPoints;
  if (selection.wants_record()) {
    // Few sparse vectors have more than some hundred entries.
    size_t record_bytes = 1 + 4096 * layout_->num_sparse;
    for (const FieldLayout& field : layout_->fields) {
      record_bytes += field.row_bytes;
    }
    for (size_t m = 0; m < layout_->multi.size(); ++m) {
      record_bytes +=
          schema().multi[m].max_tokens * layout_->multi[m].token_bytes();
    }
    points = std::min(points, kMaxRecordBytes / record_bytes);
  }
  return std::max<size_t>(1, points);
}

absl::Status CollectionImpl::FillSelected(
    std::span<const std::optional<IdEntry>> entries,
    const PointSelection& selection, const StoreSnapshot* snapshot,
    const StopCondition& stop,
    std::span<std::optional<StoredPoint>> points) const {
  const size_t chunk = ReadChunk(selection);
  size_t bytes = 0;
  for (size_t begin = 0; begin < points.size(); begin += chunk) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    const size_t n = std::min(chunk, points.size() - begin);
    const auto part = points.subspan(begin, n);
    VICINAL_RETURN_IF_ERROR(
        FillChunk(entries.subspan(begin, n), selection, snapshot, part));
    for (const auto& point : part) {
      if (point.has_value()) bytes += BytesOf(*point);
    }
    if (bytes > selection.max_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the first ", begin + n, " of ", points.size(), " points have ",
          bytes, " bytes; at most ", selection.max_bytes, " are allowed"));
    }
  }
  return absl::OkStatus();
}

absl::Status CollectionImpl::FillChunk(
    std::span<const std::optional<IdEntry>> entries,
    const PointSelection& selection, const StoreSnapshot* snapshot,
    std::span<std::optional<StoredPoint>> points) const {
  std::vector<Ordinal> ordinals;
  std::vector<StoredPoint*> targets;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!points[i].has_value()) continue;
    ordinals.push_back(entries[i]->ordinal);
    targets.push_back(&*points[i]);
  }
  if (selection.payload) {
    VICINAL_ASSIGN_OR_RETURN(auto payloads,
                             store_.GetPayloads(ordinals, snapshot));
    for (size_t i = 0; i < targets.size(); ++i) {
      if (payloads[i].has_value()) {
        targets[i]->payload = *std::move(payloads[i]);
      }
    }
  }
  const bool wants_sparse = !selection.sparse.empty();
  if (!selection.wants_record()) return absl::OkStatus();
  std::vector<bool> wanted(layout_->fields.size(), false);
  for (const size_t f : selection.vectors) {
    if (f >= wanted.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "field number ", f, " does not exist; there are ", wanted.size()));
    }
    wanted[f] = true;
  }
  for (const size_t m : selection.multi) {
    if (m < layout_->multi.size()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("multi-vector number ", m, " does not exist; there are ",
                     layout_->multi.size()));
  }
  VICINAL_ASSIGN_OR_RETURN(const auto records,
                           store_.GetRecords(ordinals, snapshot));
  for (size_t i = 0; i < targets.size(); ++i) {
    if (!records[i].has_value()) {
      return absl::DataLossError(absl::StrCat("the record of point ",
                                              targets[i]->id.ToString(),
                                              " is missing in storage"));
    }
    VICINAL_ASSIGN_OR_RETURN(const RecordView record,
                             RecordView::Decode(*records[i]));
    targets[i]->vectors.resize(layout_->fields.size());
    targets[i]->sparse.resize(wants_sparse ? layout_->num_sparse : 0);
    std::vector<absl::string_view> tokens(layout_->multi.size());
    for (const RecordView::Vector& vector : record.vectors) {
      if (vector.field >= kFirstMultiRecordField) {
        VICINAL_RETURN_IF_ERROR(TakeRecordTokens(*layout_, vector, &tokens));
      } else if (vector.field >= kFirstSparseRecordField) {
        if (!wants_sparse) continue;
        VICINAL_RETURN_IF_ERROR(
            DecodeRecordSparse(*layout_, vector, &targets[i]->sparse));
      } else if (vector.field < wanted.size() && wanted[vector.field]) {
        targets[i]->vectors[vector.field] = std::string(vector.bytes);
      }
    }
    if (!selection.multi.empty()) targets[i]->multi.resize(tokens.size());
    for (const size_t m : selection.multi) {
      targets[i]->multi[m] = std::string(tokens[m]);
    }
    for (size_t s = 0; s < targets[i]->sparse.size(); ++s) {
      if (!absl::c_linear_search(selection.sparse, s))
        targets[i]->sparse[s] = {};
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::optional<StoredPoint>>> CollectionImpl::Get(
    const std::vector<PointId>& ids, const PointSelection& selection,
    const StopCondition& stop) const {
  VICINAL_RETURN_IF_ERROR(stop.Check());
  const std::unique_ptr<StoreSnapshot> snapshot = context_->store->Snapshot();
  VICINAL_ASSIGN_OR_RETURN(const auto entries,
                           store_.LookupIds(ids, snapshot.get()));
  std::vector<std::optional<StoredPoint>> points(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!entries[i].has_value()) continue;
    points[i].emplace();
    points[i]->id = ids[i];
    points[i]->sequence = entries[i]->sequence;
  }
  VICINAL_RETURN_IF_ERROR(
      FillSelected(entries, selection, snapshot.get(), stop, points));
  return points;
}

absl::StatusOr<std::vector<std::optional<StoredPoint>>> CollectionImpl::Fetch(
    const std::vector<Hit>& hits, const PointSelection& selection,
    const StopCondition& stop) const {
  const std::unique_ptr<StoreSnapshot> snapshot = context_->store->Snapshot();
  std::vector<PointId> ids;
  ids.reserve(hits.size());
  for (const Hit& hit : hits) ids.push_back(hit.id);
  VICINAL_ASSIGN_OR_RETURN(const auto entries,
                           store_.LookupIds(ids, snapshot.get()));
  std::vector<std::optional<StoredPoint>> points(hits.size());
  for (size_t i = 0; i < hits.size(); ++i) {
    if (!entries[i].has_value() || entries[i]->ordinal != hits[i].ordinal) {
      continue;
    }
    points[i].emplace();
    points[i]->id = std::move(ids[i]);
    points[i]->sequence = entries[i]->sequence;
  }
  VICINAL_RETURN_IF_ERROR(
      FillSelected(entries, selection, snapshot.get(), stop, points));
  return points;
}

absl::Status CollectionImpl::AddFilters(const Query& query,
                                        RowFilters* filters) const {
  if (const auto* fuse = std::get_if<FuseStage>(&query.stage)) {
    for (const Query& input : fuse->inputs) {
      VICINAL_RETURN_IF_ERROR(AddFilters(input, filters));
    }
    return absl::OkStatus();
  }
  if (const auto* rerank = std::get_if<RerankStage>(&query.stage)) {
    return AddFilters(*rerank->input, filters);
  }
  if (const auto* rescore = std::get_if<RescoreStage>(&query.stage)) {
    return AddFilters(*rescore->input, filters);
  }
  const FilterNode* filter = nullptr;
  if (const auto* sparse = std::get_if<SparseStage>(&query.stage)) {
    filter = sparse->filter.get();
  } else if (const auto* text = std::get_if<TextStage>(&query.stage)) {
    filter = text->filter.get();
  } else if (const auto* multi = std::get_if<MultiStage>(&query.stage)) {
    filter = multi->filter.get();
  } else {
    filter = std::get<RetrieveStage>(query.stage).filter.get();
  }
  if (filter == nullptr || filters->contains(filter)) return absl::OkStatus();
  VICINAL_ASSIGN_OR_RETURN((*filters)[filter],
                           row_filters_.Get(*filter, schema(), store_));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SearchResult>> CollectionImpl::Search(
    const std::vector<Query>& queries, const StopCondition& stop) const {
  RowFilters filters;
  for (const Query& query : queries) {
    VICINAL_RETURN_IF_ERROR(AddFilters(query, &filters));
  }
  SearchPin pin;
  pin.epoch = epoch_.load(std::memory_order_acquire);
  pin.sequence = sequence_.load(std::memory_order_acquire);
  pin.view = view_.Load();
  for (const auto& [node, filter] : filters) filter->ForgetOthers(*pin.view);
  Searcher searcher(schema(), *layout_, std::move(pin), epoch_, stop,
                    &recall_watch_, store_, std::move(filters), encoders(),
                    context_->device);
  ThreadPool* pool = context_->query_pool;
  VICINAL_RETURN_IF_ERROR(searcher.AskDevices(queries, pool));
  std::vector<SearchResult> results;
  results.reserve(queries.size());
  if (queries.size() < 2 || pool == nullptr) {
    const FaultCounter faults(&search_major_faults_);
    for (const Query& query : queries) {
      VICINAL_ASSIGN_OR_RETURN(SearchResult result,
                               query.group_by.has_value()
                                   ? SearchGroups(searcher, query, pool, stop)
                                   : searcher.Run(query, pool));
      results.push_back(std::move(result));
    }
    return results;
  }
  // Some chunks per thread, so that the last ones end together.
  const size_t num_threads = pool->num_threads() + 1;
  const size_t chunk =
      std::clamp<size_t>(queries.size() / (num_threads * 4), 1, 32);
  const size_t num_chunks = (queries.size() + chunk - 1) / chunk;
  results.resize(queries.size());
  std::vector<absl::Status> statuses(num_chunks);
  pool->ParallelFor(num_chunks, [&](size_t c) {
    const FaultCounter faults(&search_major_faults_);
    const size_t end = std::min(queries.size(), (c + 1) * chunk);
    for (size_t i = c * chunk; i < end && statuses[c].ok(); ++i) {
      auto result = queries[i].group_by.has_value()
                        ? SearchGroups(searcher, queries[i], nullptr, stop)
                        : searcher.Run(queries[i], nullptr);
      statuses[c] = result.status();
      if (result.ok()) results[i] = *std::move(result);
    }
  });
  for (const absl::Status& status : statuses) {
    VICINAL_RETURN_IF_ERROR(status);
  }
  return results;
}

absl::StatusOr<std::shared_ptr<Operation>> CollectionImpl::Optimize(
    size_t max_segments) {
  if (dropped()) {
    return absl::NotFoundError(
        absl::StrCat("collection \"", schema().name, "\" was dropped"));
  }
  return context_->compactor->Optimize(shared_from_this(),
                                       std::max<size_t>(max_segments, 1));
}

CollectionStats CollectionImpl::stats() const {
  CollectionStats stats;
  const std::shared_ptr<const View> view = view_.Load();
  for (const auto& segment : view->sealed) {
    stats.segments.push_back(segment->stats());
    stats.num_indexed += segment->num_live();
  }
  for (const auto& segment : view->frozen) {
    stats.segments.push_back(segment->stats());
  }
  if (view->growing->num_rows() > 0) {
    stats.segments.push_back(view->growing->stats());
  }
  stats.num_points = Count();
  stats.sequence = sequence_.load(std::memory_order_acquire);
  stats.search_major_faults =
      search_major_faults_.load(std::memory_order_relaxed);
  stats.recall = recall_watch_.stats();
  for (const PayloadField& field : schema().payload_fields) {
    PayloadIndexStats index{.field = field, .ready = true};
    for (const auto& segment : view->sealed) {
      const auto found = segment->keys().Find(field);
      index.ready = index.ready && found != nullptr;
      if (found == nullptr) continue;
      index.num_indexed += segment->num_rows();
      index.file_bytes += found->file_bytes();
    }
    stats.payload_indexes.push_back(std::move(index));
  }
  for (const auto& encoder : encoders()) {
    stats.encoder_tokens.push_back(
        encoder == nullptr ? 0 : static_cast<uint32_t>(encoder->size()));
  }
  stats.degraded = has_recovered();
  return stats;
}

uint64_t CollectionImpl::resident_file_bytes() const {
  uint64_t bytes = 0;
  for (const auto& segment : view_.Load()->sealed) {
    bytes += segment->resident_bytes();
  }
  return bytes;
}

}  // namespace vicinal
