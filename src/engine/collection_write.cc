// The callers' side of a collection: writes.
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/engine/collection_impl.h"
#include "src/engine/write_batch_encoder.h"
#include "src/engine/write_waiter.h"
#include "src/payload/bound_filter.h"

namespace vicinal {

WriteOutcome Collection::Upsert(const PointBatch& batch, WriteOptions options) {
  WriteWaiter waiter;
  UpsertAsync(batch, std::move(options), waiter.callback());
  return waiter.Wait();
}

WriteOutcome Collection::Delete(std::vector<PointId> ids,
                                WriteOptions options) {
  WriteWaiter waiter;
  DeleteAsync(std::move(ids), std::move(options), waiter.callback());
  return waiter.Wait();
}

bool CollectionImpl::HasRoom() const {
  return context_->unindexed_bytes->load(std::memory_order_relaxed) <=
         context_->options->max_unindexed_bytes;
}

absl::Status CollectionImpl::CheckUpsert(const WriteOptions& options) const {
  if (dropped()) {
    return absl::NotFoundError(
        absl::StrCat("collection \"", schema().name, "\" was dropped"));
  }
  if (options.waited_for_room || HasRoom()) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(context_->unindexed_bytes->load(std::memory_order_relaxed),
                   " bytes wait for their index; at most ",
                   context_->options->max_unindexed_bytes,
                   " may (max_unindexed_bytes): try again in some seconds"));
}

absl::Status CollectionImpl::PrepareCondition(const PointBatch& batch,
                                              const WriteOptions& options,
                                              WriteEntry* entry) const {
  const UpsertCondition& condition = options.condition;
  if (condition.kind == UpsertCondition::Kind::kNone) return absl::OkStatus();
  if (!options.atomic || options.stream_frame.has_value()) {
    return absl::InvalidArgumentError(
        "only an atomic upsert that is no frame of a stream can have a "
        "condition");
  }
  const size_t n = batch.ids.size();
  if (entry->points.size() != n) {
    absl::flat_hash_set<PointId> seen;
    for (size_t i = 0; i < n; ++i) {
      if (seen.insert(batch.ids[i]).second) continue;
      const std::string field = absl::StrCat("ids[", i, "]");
      entry->result.item_errors.push_back(
          {i, field,
           absl::InvalidArgumentError(
               absl::StrCat(field, " (", batch.ids[i].ToString(),
                            ") stands twice; an upsert with a condition has "
                            "each id once"))});
    }
    return entry->result.item_errors.front().status;
  }
  if (condition.kind != UpsertCondition::Kind::kSequences) {
    return absl::OkStatus();
  }
  if (condition.sequences.size() != n) {
    return absl::InvalidArgumentError(
        absl::StrCat("the condition has ", condition.sequences.size(),
                     " sequences; give one for each of the ", n, " points"));
  }
  // Here and not on the committer's thread, which all others wait for.
  VICINAL_ASSIGN_OR_RETURN(const auto found, store_.LookupIds(batch.ids));
  entry->looked_up.resize(n, 0);
  for (size_t i = 0; i < n; ++i) {
    if (found[i].has_value() && found[i]->sequence == condition.sequences[i]) {
      entry->looked_up[i] = found[i]->ordinal;
    }
  }
  return absl::OkStatus();
}

void CollectionImpl::UpsertAsync(const PointBatch& batch, WriteOptions options,
                                 WriteCallback done) {
  auto entry = std::make_unique<WriteEntry>();
  absl::Status status = CheckUpsert(options);
  if (status.ok()) {
    EncodeOutcome outcome =
        EncodeBatch(schema(), *layout_, context_->options->limits, batch,
                    options.atomic, &entry->points);
    status = std::move(outcome.status);
    entry->result.item_errors = std::move(outcome.item_errors);
  }
  if (status.ok()) status = PrepareCondition(batch, options, entry.get());
  if (!status.ok()) {
    done({std::move(status), std::move(entry->result)});
    return;
  }
  entry->collection = shared_from_this();
  entry->options = std::move(options);
  entry->done = std::move(done);
  context_->committer->Submit(std::move(entry));
}

void CollectionImpl::DeleteAsync(std::vector<PointId> ids, WriteOptions options,
                                 WriteCallback done) {
  const size_t limit = context_->options->limits.max_batch_points;
  absl::Status status;
  if (dropped()) {
    status = absl::NotFoundError(
        absl::StrCat("collection \"", schema().name, "\" was dropped"));
  } else if (ids.size() > limit) {
    status = absl::InvalidArgumentError(
        absl::StrCat("ids has ", ids.size(), " elements; at most ", limit,
                     " are allowed: send smaller batches"));
  }
  if (!status.ok()) {
    done({std::move(status), {}});
    return;
  }
  absl::flat_hash_set<PointId> seen;
  seen.reserve(ids.size());
  std::erase_if(ids,
                [&](const PointId& id) { return !seen.insert(id).second; });
  auto entry = std::make_unique<WriteEntry>();
  entry->collection = shared_from_this();
  entry->deletions = std::move(ids);
  entry->options = std::move(options);
  entry->done = std::move(done);
  context_->committer->Submit(std::move(entry));
}

WriteOutcome CollectionImpl::DeleteMatching(const FilterNode& filter,
                                            const WriteOptions& options,
                                            const StopCondition& stop) {
  WriteOutcome outcome;
  if (dropped()) {
    outcome.status = absl::NotFoundError(
        absl::StrCat("collection \"", schema().name, "\" was dropped"));
    return outcome;
  }
  const absl::StatusOr<Matching> matching = FindMatching(&filter, stop);
  if (!matching.ok()) {
    outcome.status = matching.status();
    return outcome;
  }
  std::vector<PointId> ids;
  std::vector<Ordinal> versions;
  const auto flush = [&]() -> absl::Status {
    if (ids.empty()) return absl::OkStatus();
    WriteWaiter waiter;
    auto entry = std::make_unique<WriteEntry>();
    entry->collection = shared_from_this();
    entry->deletions = std::exchange(ids, {});
    entry->deleted_versions = std::exchange(versions, {});
    entry->options = options;
    entry->done = waiter.callback();
    context_->committer->Submit(std::move(entry));
    const WriteOutcome part = waiter.Wait();
    outcome.result.num_written += part.result.num_written;
    if (part.result.sequence != 0) {
      outcome.result.sequence = part.result.sequence;
    }
    return part.status;
  };
  const size_t limit = context_->options->limits.max_batch_points;
  outcome.status = VisitMatching(
      *matching, std::nullopt, stop,
      [&](const PointId& id, IdEntry entry) -> absl::StatusOr<bool> {
        ids.push_back(id);
        versions.push_back(entry.ordinal);
        if (ids.size() == limit) VICINAL_RETURN_IF_ERROR(flush());
        return true;
      });
  if (outcome.status.ok()) outcome.status = flush();
  return outcome;
}

}  // namespace vicinal
