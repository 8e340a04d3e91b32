#include "src/engine/committer.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/mutex.h"
#include "src/base/status_macros.h"
#include "src/engine/collection_impl.h"
#include "src/engine/commit_part.h"

namespace vicinal {
namespace {

// One commit takes at most this much, so that the first of a long queue does
// not wait for the last.
constexpr size_t kMaxCommitBytes = size_t{8} << 20;
constexpr size_t kMaxCommitEntries = 256;
constexpr size_t kMaxQueuedBytes = size_t{64} << 20;

struct PartSize {
  size_t num_entries = 0;
  size_t num_points = 0;
};

}  // namespace

Committer::Committer(RecordStore* store,
                     std::function<void(absl::string_view point)> test_hook)
    : store_(store),
      test_hook_(std::move(test_hook)),
      thread_([this] { Loop(); }) {}

Committer::~Committer() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    work_.NotifyAll();
  }
  thread_.join();
}

void Committer::Submit(std::unique_ptr<WriteEntry> entry) {
  const size_t bytes = entry->size_bytes();
  MutexLock lock(mu_);
  while (queued_bytes_ > 0 && queued_bytes_ + bytes > kMaxQueuedBytes) {
    room_.Wait(mu_);
  }
  queued_bytes_ += bytes;
  queue_.push_back({std::move(entry), nullptr});
  work_.NotifyOne();
}

void Committer::Post(std::function<void()> task) {
  MutexLock lock(mu_);
  queue_.push_back({nullptr, std::move(task)});
  work_.NotifyOne();
}

void Committer::Loop() {
  while (true) {
    std::vector<Item> items = TakeItems();
    if (items.empty()) return;
    if (items.front().task) {
      items.front().task();
    } else {
      Commit(std::move(items));
    }
  }
}

std::vector<Committer::Item> Committer::TakeItems() {
  MutexLock lock(mu_);
  while (queue_.empty() && !stopping_) work_.Wait(mu_);
  std::vector<Item> items;
  size_t bytes = 0;
  while (!queue_.empty()) {
    Item& next = queue_.front();
    if (next.task && !items.empty()) break;
    if (next.entry != nullptr) {
      const size_t entry_bytes = next.entry->size_bytes();
      if (!items.empty() && (bytes + entry_bytes > kMaxCommitBytes ||
                             items.size() >= kMaxCommitEntries)) {
        break;
      }
      bytes += entry_bytes;
    }
    items.push_back(std::move(next));
    queue_.pop_front();
    if (items.back().task) break;
  }
  queued_bytes_ -= bytes;
  room_.NotifyAll();
  return items;
}

void Committer::Commit(std::vector<Item> items) {
  absl::flat_hash_map<CollectionImpl*, PartSize> sizes;
  size_t bytes = 0;
  bool fsync = false;
  for (const Item& item : items) {
    PartSize& size = sizes[item.entry->collection.get()];
    ++size.num_entries;
    size.num_points += item.entry->points.size();
    bytes += item.entry->size_bytes();
    fsync |= item.entry->options.durability == Durability::kFsynced;
  }
  WriteBatch batch(bytes + bytes / 16 + 4096);
  absl::flat_hash_map<CollectionImpl*, std::unique_ptr<CommitPart>> parts;
  std::vector<absl::Status> statuses(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    CollectionImpl* collection = items[i].entry->collection.get();
    std::unique_ptr<CommitPart>& part = parts[collection];
    if (part == nullptr) {
      const PartSize& size = sizes[collection];
      part = collection->BeginCommit(size.num_points, size.num_entries > 1);
    }
    statuses[i] =
        collection->AddEffects(items[i].entry.get(), part.get(), &batch);
  }
  for (const auto& [collection, part] : parts) {
    collection->AddHead(*part, &batch);
  }
  if (test_hook_) test_hook_("commit:before_store");
  absl::Status committed;
  if (batch.num_operations() > 0) {
    committed = store_->Commit(
        std::move(batch), fsync ? Durability::kFsynced : Durability::kBuffered);
  }
  if (test_hook_) test_hook_("commit:before_apply");
  if (committed.ok()) {
    for (const auto& [collection, part] : parts) collection->Apply(*part);
  }
  if (test_hook_) test_hook_("commit:before_ack");
  for (size_t i = 0; i < items.size(); ++i) {
    WriteEntry& entry = *items[i].entry;
    if (statuses[i].ok()) {
      statuses[i] = committed;
    } else if (!committed.ok() &&
               entry.options.condition.kind != UpsertCondition::Kind::kNone) {
      // It may have been judged by writes that were lost just now.
      statuses[i] = committed;
      entry.result.item_errors.clear();
    }
    if (!statuses[i].ok()) {
      entry.result.sequence = 0;
      entry.result.num_written = 0;
    }
    entry.done({std::move(statuses[i]), std::move(entry.result)});
  }
}

}  // namespace vicinal
