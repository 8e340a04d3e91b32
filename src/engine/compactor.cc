#include "src/engine/compactor.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/mutex.h"
#include "src/base/status_macros.h"
#include "src/engine/partition_ranks.h"
#include "src/engine/payload_indexer.h"
#include "src/engine/phase_times.h"
#include "src/engine/segment_builder.h"
#include "src/engine/segment_file.h"

namespace vicinal {
namespace {

constexpr int kNiceness = 10;
constexpr size_t kFrozenToBuild = 16;
constexpr size_t kMinRowsToSealIdle = 1'000;
// Share of dead rows at which a sealed segment is rebuilt.
constexpr double kMaxDeadShare = 0.2;
// The same when someone asked for the best there is.
constexpr double kMaxDeadShareOptimized = 0.05;
constexpr auto kFirstBackoff = std::chrono::milliseconds(1'000);
constexpr auto kMaxBackoff = std::chrono::milliseconds(60'000);
constexpr auto kStreamCleaning = std::chrono::hours(1);
// Collections that are looked at in a round though nothing told of them.
constexpr size_t kLookAround = 16;
// Vectors that are checked before other work is looked for.
constexpr size_t kVerifyBytes = size_t{64} << 20;

// Recall checks take at most a hundredth of a core, and read so much from a
// disk that may be slow.
constexpr int kRecallCheckShare = 100;
constexpr double kRecallCheckBytesPerSecond = 20e6;

double DeadShare(const SealedSegment& segment) {
  return static_cast<double>(segment.num_deleted()) /
         static_cast<double>(std::max<size_t>(segment.num_rows(), 1));
}

}  // namespace

Compactor::Compactor(const EngineContext* context,
                     OperationRegistry* operations)
    : context_(context),
      operations_(operations),
      thread_(std::make_unique<ThreadPool>(1, kNiceness)) {
  thread_->Schedule([this] { Loop(); });
}

void Compactor::Stop() {
  stop_watching_.Cancel();
  {
    MutexLock lock(mu_);
    stopping_ = true;
    if (build_operation_ != nullptr) build_operation_->cancel().Cancel();
    wake_.NotifyAll();
  }
  thread_.reset();
}

void Compactor::Add(std::vector<std::shared_ptr<CollectionImpl>> collections) {
  MutexLock lock(mu_);
  std::move(collections.begin(), collections.end(), std::back_inserter(added_));
  woken_ = true;
  wake_.NotifyAll();
}

void Compactor::Drop(std::shared_ptr<CollectionImpl> collection) {
  MutexLock lock(mu_);
  if (building_ == collection.get()) build_operation_->cancel().Cancel();
  dropped_.push_back(std::move(collection));
  woken_ = true;
  wake_.NotifyAll();
}

void Compactor::CancelBuild(const CollectionImpl* collection) {
  MutexLock lock(mu_);
  if (building_ == collection) build_operation_->cancel().Cancel();
}

void Compactor::Wake() {
  MutexLock lock(mu_);
  woken_ = true;
  wake_.NotifyAll();
}

void Compactor::Touch(CollectionNumber number) {
  MutexLock lock(mu_);
  touched_.push_back(number);
}

std::shared_ptr<Operation> Compactor::Optimize(
    std::shared_ptr<CollectionImpl> collection, size_t max_segments) {
  std::shared_ptr<Operation> operation =
      operations_->Start("optimize", collection->schema().name);
  context_->committer->Post([this, collection, operation, max_segments] {
    if (collection->view()->growing->num_rows() > 0) collection->Freeze(0);
    const std::shared_ptr<const View> view = collection->view();
    const size_t num_segments = view->frozen.size() + view->sealed.size();
    const bool becomes_one =
        max_segments == 1 && FitOne(*view, *collection->layout());
    MutexLock lock(mu_);
    requests_.push_back(
        {collection, {operation, max_segments, collection->next_ordinal()}});
    if (becomes_one && building_ == collection.get() &&
        num_sources_.has_value() && num_segments > *num_sources_) {
      // What it makes would be made anew at once, with the rest.
      is_superseded_ = true;
      build_operation_->cancel().Cancel();
    }
    woken_ = true;
    wake_.NotifyAll();
  });
  return operation;
}

std::shared_ptr<Operation> Compactor::IndexPayloads(
    std::shared_ptr<CollectionImpl> collection, PayloadField field) {
  std::shared_ptr<Operation> operation =
      operations_->Start("payload_index", collection->schema().name);
  operation->SetPhase(field.path);
  MutexLock lock(mu_);
  index_requests_.push_back(
      {std::move(collection), {operation, std::move(field)}});
  woken_ = true;
  wake_.NotifyAll();
  return operation;
}

bool Compactor::stopping() const {
  MutexLock lock(mu_);
  return stopping_;
}

void Compactor::Hook(absl::string_view point) const {
  if (context_->options->test_hook) context_->options->test_hook(point);
}

void Compactor::Loop() {
  bool trimmed = true;
  while (!stopping()) {
    if (DoOne()) {
      trimmed = false;
      continue;
    }
    const std::chrono::milliseconds wait =
        trimmed ? WaitTime() : std::chrono::milliseconds(100);
    bool idle = false;
    {
      MutexLock lock(mu_);
      if (!woken_ && !stopping_) wake_.WaitFor(mu_, wait);
      idle = !woken_;
      woken_ = false;
    }
    if (idle && !trimmed) {
      // What searches that ran meanwhile still held, too.
      ::malloc_trim(0);
      trimmed = true;
    }
  }
  const absl::Status closed = absl::CancelledError("the database was closed");
  for (const auto& [number, state] : states_) {
    if (state->optimizing.has_value()) {
      state->optimizing->operation->Finish(closed);
    }
    for (const IndexRequest& request : state->indexing) {
      request.operation->Finish(closed);
    }
  }
}

bool Compactor::DoOne() {
  TakeRequests();
  if (DeleteDropped()) return true;
  const Time now = context_->options->clock->Now();
  std::optional<Job> best;
  State* best_state = nullptr;
  std::erase_if(active_, [&](State* state) {
    SealIdle(state, now);
    std::optional<Job> job = PickJob(state, now);
    CheckOptimized(state, job.has_value());
    if (!job.has_value()) {
      state->active = !IsQuiet(*state, now);
      return !state->active;
    }
    // Waiting users first, then whoever has most unindexed segments.
    const auto urgency = [](const Job& j) {
      return std::pair(j.operation != nullptr, j.frozen.size());
    };
    if (!best.has_value() || urgency(*job) > urgency(*best)) {
      best = std::move(job);
      best_state = state;
    }
    return false;
  });
  if (best.has_value()) {
    RunJob(best_state, *std::move(best));
    return true;
  }
  for (State* state : active_) {
    if (IndexOne(state, now)) return true;
  }
  SealForRoom();
  if (VerifySome(now)) return true;
  for (State* state : active_) WatchRecall(state, now);
  LookAround(now);
  return false;
}

bool Compactor::IsQuiet(const State& state, Time now) const {
  CollectionImpl& collection = *state.collection;
  if (state.optimizing.has_value() || !state.indexing.empty() ||
      now < state.not_before || !context_->store->WriteHealth().ok() ||
      collection.recall_watch().has_question()) {
    return false;
  }
  const std::shared_ptr<const View> view = collection.view();
  if (!view->frozen.empty() ||
      view->growing->num_rows() >= kMinRowsToSealIdle) {
    return false;
  }
  const std::vector<PayloadField>& fields = collection.schema().payload_fields;
  return absl::c_all_of(view->sealed, [&](const auto& segment) {
    return segment->health() == SealedSegment::Health::kVerified &&
           FieldsWithoutIndex(fields, *segment).empty();
  });
}

void Compactor::Activate(State* state) {
  // Before the look, so that none of what comes from now on is missed.
  state->collection->ForgetTouch();
  if (!std::exchange(state->active, true)) active_.push_back(state);
}

void Compactor::LookAround(Time now) {
  auto next = states_.upper_bound(last_looked_at_);
  for (size_t i = std::min(kLookAround, states_.size()); i > 0; --i) {
    if (next == states_.end()) next = states_.begin();
    last_looked_at_ = next->first;
    CleanStreams(next->second.get(), now);
    Activate(next->second.get());
    ++next;
  }
}

size_t Compactor::num_build_threads() const {
  const size_t threads = context_->options->build_threads;
  return threads > 0 ? threads
                     : std::max(1u, std::thread::hardware_concurrency());
}

void Compactor::WatchRecall(State* state, Time now) {
  const int64_t pause_ms = context_->options->recall_check_ms;
  if (pause_ms == 0 || now < state->next_recall_check ||
      state->collection->dropped()) {
    return;
  }
  RecallWatch::CheckOptions options;
  options.num_threads = num_build_threads();
  options.cancel = &stop_watching_;
  options.tell = [&](const std::string& what) {
    if (!context_->options->warn) return;
    context_->options->warn(absl::StrCat(
        "Collection \"", state->collection->schema().name, "\": ", what));
  };
  const std::optional<size_t> bytes = state->collection->recall_watch().Check(
      *state->collection->view(), options);
  if (!bytes.has_value()) return;
  Hook("recall:checked");
  const Time end = context_->options->clock->Now();
  const std::chrono::duration<double> by_bytes(static_cast<double>(*bytes) /
                                               kRecallCheckBytesPerSecond);
  state->next_recall_check =
      end + std::max({std::chrono::duration_cast<Time::duration>(
                          std::chrono::milliseconds(pause_ms)),
                      kRecallCheckShare * (end - now),
                      std::chrono::duration_cast<Time::duration>(by_bytes)});
}

void Compactor::TakeRequests() {
  MutexLock lock(mu_);
  for (std::shared_ptr<CollectionImpl>& collection : added_) {
    auto state = std::make_unique<State>();
    state->collection = std::move(collection);
    Activate(state.get());
    const CollectionNumber number = state->collection->number();
    states_[number] = std::move(state);
  }
  added_.clear();
  for (const CollectionNumber number : touched_) {
    const auto found = states_.find(number);
    if (found != states_.end()) Activate(found->second.get());
  }
  touched_.clear();
  // One request of a collection at a time; others wait.
  std::erase_if(requests_, [&](auto& request) {
    const auto found = states_.find(request.first->number());
    if (found == states_.end()) {
      request.second.operation->Finish(
          absl::NotFoundError("the collection was dropped"));
      return true;
    }
    State* state = found->second.get();
    if (state->optimizing.has_value()) return false;
    state->optimizing = request.second;
    Activate(state);
    return true;
  });
  for (auto& [collection, request] : index_requests_) {
    const auto found = states_.find(collection->number());
    if (found != states_.end()) {
      found->second->indexing.push_back(std::move(request));
      Activate(found->second.get());
    } else {
      request.operation->Finish(
          absl::NotFoundError("the collection was dropped"));
    }
  }
  index_requests_.clear();
}

bool Compactor::DeleteDropped() {
  std::shared_ptr<CollectionImpl> collection;
  {
    MutexLock lock(mu_);
    if (dropped_.empty()) return false;
    collection = std::move(dropped_.back());
    dropped_.pop_back();
  }
  const auto found = states_.find(collection->number());
  if (found != states_.end()) {
    State* state = found->second.get();
    const absl::Status gone = absl::NotFoundError("the collection was dropped");
    if (state->optimizing.has_value()) {
      state->optimizing->operation->Finish(gone);
    }
    for (const IndexRequest& request : state->indexing) {
      request.operation->Finish(gone);
    }
    std::erase(active_, state);
    states_.erase(found);
  }
  // What an error leaves behind is deleted at the next open.
  collection->DeleteEverything().IgnoreError();
  Hook("drop:done");
  return true;
}

void Compactor::SealIdle(State* state, Time now) {
  const std::shared_ptr<const View> view = state->collection->view();
  const auto idle = std::chrono::milliseconds(context_->options->idle_seal_ms);
  if (view->growing->num_rows() < kMinRowsToSealIdle) {
    state->seal_posted = false;
    return;
  }
  if (state->seal_posted || now - state->collection->last_write() < idle) {
    return;
  }
  state->seal_posted = true;
  PostFreeze(state->collection);
}

void Compactor::SealForRoom() {
  const size_t enough = context_->options->max_unindexed_bytes / 2;
  size_t unindexed = context_->unindexed_bytes->load(std::memory_order_relaxed);
  if (unindexed <= enough) return;
  std::vector<std::pair<size_t, State*>> by_size;
  for (const auto& [number, state] : states_) {
    const std::shared_ptr<const View> view = state->collection->view();
    if (!view->frozen.empty()) return;  // room comes without this
    by_size.emplace_back(view->growing->memory_bytes(), state.get());
  }
  std::sort(by_size.rbegin(), by_size.rend());
  for (const auto& [bytes, state] : by_size) {
    if (unindexed <= enough || bytes == 0) return;
    unindexed -= std::min(bytes, unindexed);
    PostFreeze(state->collection);
  }
}

void Compactor::PostFreeze(std::shared_ptr<CollectionImpl> collection) {
  context_->committer->Post([collection = std::move(collection)] {
    if (collection->view()->growing->num_rows() > 0) collection->Freeze(0);
  });
}

void Compactor::CleanStreams(State* state, Time now) {
  if (now < state->next_stream_cleaning) return;
  state->next_stream_cleaning = now + kStreamCleaning;
  context_->committer->Post(
      [collection = state->collection, clock = context_->options->clock] {
        collection->ForgetOldStreams(clock->UnixMicros());
      });
}

std::optional<Compactor::Job> Compactor::PickJob(State* state, Time now) {
  if (now < state->not_before || state->collection->dropped() ||
      !context_->store->WriteHealth().ok()) {
    return std::nullopt;
  }
  const std::shared_ptr<const View> view = state->collection->view();
  const OptimizeRequest* request =
      state->optimizing.has_value() ? &*state->optimizing : nullptr;
  Job job;
  job.collection = state->collection;
  if (request != nullptr) job.operation = request->operation;
  const auto delay =
      std::chrono::milliseconds(context_->options->build_delay_ms);
  if (!view->frozen.empty() &&
      (request != nullptr || state->collection->has_recovered() ||
       view->frozen.size() >= kFrozenToBuild ||
       now - state->collection->last_freeze() >= delay)) {
    AddFrozen(*view, &job);
  }
  AddSealed(*view, request, &job);
  if (job.frozen.empty() && job.sealed.empty()) return std::nullopt;
  return job;
}

namespace {

// As SealedSegment::live_vector_bytes.
size_t VectorBytesOf(const MemorySegment& segment, const Layout& layout) {
  size_t bytes = segment.stats().vector_bytes;
  for (size_t l = 0; l < layout.lexical.size(); ++l) {
    bytes += segment.lexical(l).memory_bytes();
  }
  return bytes;
}

// An index of text has at most 2^24 words (index/sparse_build.cc); where each
// text is a word of its own, as of a keyword analyzer, rows are words.
size_t MaxRowsOf(const Layout& layout) {
  return layout.lexical.size() > layout.num_sparse
             ? size_t{1} << 24
             : std::numeric_limits<size_t>::max();
}

}  // namespace

bool Compactor::FitOne(const View& view, const Layout& layout) const {
  size_t bytes = 0, rows = 0;
  for (const auto& segment : view.frozen) {
    bytes += VectorBytesOf(*segment, layout);
    rows += segment->num_live();
  }
  for (const auto& segment : view.sealed) {
    bytes += segment->live_vector_bytes();
    rows += segment->num_live();
  }
  return bytes <= context_->options->max_segment_bytes &&
         rows <= MaxRowsOf(layout);
}

void Compactor::AddFrozen(const View& view, Job* job) const {
  const Layout& layout = *job->collection->layout();
  size_t bytes = 0, rows = 0;
  for (const auto& segment : view.frozen) {
    bytes += VectorBytesOf(*segment, layout);
    rows += segment->num_live();
    if (!job->frozen.empty() && (bytes > context_->options->max_segment_bytes ||
                                 rows > MaxRowsOf(layout))) {
      return;
    }
    job->frozen.push_back(segment);
  }
}

void Compactor::AddSealed(const View& view, const OptimizeRequest* request,
                          Job* job) const {
  std::vector<std::shared_ptr<SealedSegment>> by_size = view.sealed;
  std::stable_sort(by_size.begin(), by_size.end(),
                   [](const auto& a, const auto& b) {
                     return a->live_vector_bytes() < b->live_vector_bytes();
                   });
  const double max_dead =
      request != nullptr ? kMaxDeadShareOptimized : kMaxDeadShare;
  const Layout& layout = *job->collection->layout();
  size_t bytes = 0, rows = 0;
  for (const auto& segment : job->frozen) {
    bytes += VectorBytesOf(*segment, layout);
    rows += segment->num_live();
  }
  std::vector<std::shared_ptr<SealedSegment>> left;
  const auto take = [&](const std::shared_ptr<SealedSegment>& segment) {
    bytes += segment->live_vector_bytes();
    rows += segment->num_live();
    job->sealed.push_back(segment);
  };
  const auto fits = [&](const SealedSegment& segment) {
    return bytes + segment.live_vector_bytes() <=
               context_->options->max_segment_bytes &&
           rows + segment.num_live() <= MaxRowsOf(layout);
  };
  // Its bytes must get no new checksum.
  std::erase_if(by_size, [](const auto& segment) {
    return segment->health() == SealedSegment::Health::kDamaged;
  });
  for (const auto& segment : by_size) {
    const size_t live = segment->live_vector_bytes();
    const bool has_sources = !job->frozen.empty() || !job->sealed.empty();
    // Too many dead rows are a reason in themselves; otherwise a segment
    // comes along with others that weigh as much.
    if (DeadShare(*segment) > max_dead && (fits(*segment) || !has_sources)) {
      take(segment);
    } else if (has_sources && live <= bytes && fits(*segment)) {
      take(segment);
    } else {
      left.push_back(segment);
    }
  }
  if (request == nullptr) return;
  // Down to the asked number: the smallest ones that fit.
  const auto num_after = [&] {
    return left.size() + (job->frozen.empty() && job->sealed.empty() ? 0 : 1);
  };
  for (size_t i = 0; i < left.size() && num_after() > request->max_segments;) {
    // A first one alone would only be copied.
    const bool alone = job->frozen.empty() && job->sealed.empty();
    const size_t partner =
        alone && i + 1 < left.size() ? left[i + 1]->live_vector_bytes() : 0;
    if (!fits(*left[i]) ||
        (alone &&
         (partner == 0 || bytes + left[i]->live_vector_bytes() + partner >
                              context_->options->max_segment_bytes))) {
      return;
    }
    take(left[i]);
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void Compactor::CheckOptimized(State* state, bool has_job) {
  if (!state->optimizing.has_value()) return;
  OptimizeRequest& request = *state->optimizing;
  absl::Status status;
  const absl::Status health = context_->store->WriteHealth();
  if (request.operation->cancel().cancelled()) {
    status = absl::CancelledError("the operation was cancelled");
  } else if (!health.ok()) {
    status = health;
  } else if (state->collection->dropped()) {
    status = absl::NotFoundError("the collection was dropped");
  } else if (has_job) {
    return;
  } else {
    const std::shared_ptr<const View> view = state->collection->view();
    for (const auto& segment : view->frozen) {
      if (segment->OrdinalOf(0) < request.target) return;  // backing off
    }
    status = context_->store->Flush();
  }
  request.operation->Finish(std::move(status));
  state->optimizing.reset();
  Wake();  // another request of this collection may wait
}

void Compactor::RunJob(State* state, Job job) {
  const absl::StatusOr<bool> sound = VerifySources(job);
  // The rows of a damaged source are in memory now: the job is picked anew.
  if (sound.ok() && !*sound) return;
  const bool asked_for = job.operation != nullptr;
  std::shared_ptr<Operation> operation = job.operation;
  if (!asked_for) {
    operation =
        operations_->Start("index_build", job.collection->schema().name);
  }
  {
    MutexLock lock(mu_);
    building_ = job.collection.get();
    build_operation_ = operation;
    is_superseded_ = false;
    if (!asked_for) num_sources_ = job.frozen.size() + job.sealed.size();
    if (stopping_) operation->cancel().Cancel();
  }
  const absl::Status status =
      sound.ok() ? BuildAndSwap(job, operation.get()) : sound.status();
  bool is_superseded = false;
  {
    MutexLock lock(mu_);
    building_ = nullptr;
    build_operation_ = nullptr;
    num_sources_.reset();
    is_superseded = is_superseded_;
  }
  state->seal_posted = false;
  if (status.ok() || (is_superseded && absl::IsCancelled(status))) {
    state->backoff = std::chrono::milliseconds(0);
  } else {
    state->backoff = std::clamp(state->backoff * 2, kFirstBackoff, kMaxBackoff);
    state->not_before = context_->options->clock->Now() + state->backoff;
    if (context_->options->warn && !absl::IsCancelled(status)) {
      context_->options->warn(absl::StrCat(
          "An index build of collection \"", job.collection->schema().name,
          "\" failed and is tried again in ", state->backoff.count(),
          " ms: ", status.message()));
    }
  }
  if (!asked_for) {
    operation->Finish(status);
  } else if (!status.ok()) {
    operation->Finish(status);
    state->optimizing.reset();
  }
  job.frozen.clear();
  job.sealed.clear();
  // The builder's scratch memory goes back to the system.
  ::malloc_trim(0);
  Hook("build:done");
}

absl::Status Compactor::BuildAndSwap(const Job& job, Operation* operation) {
  CollectionImpl& collection = *job.collection;
  SegmentBuildOptions options;
  options.folder = collection.folder();
  options.number = collection.manifest().next_segment_number;
  options.num_threads = num_build_threads();
  if (context_->device != nullptr &&
      collection.schema().gpu != GpuUse::kNever) {
    options.device = context_->device->LeastBusy();
  }
  options.placement = collection.PlacementFor(job.sealed);
  options.num_points = collection.Count();
  options.queries = [&collection](size_t f) {
    return collection.recall_watch().Sample(f);
  };
  options.cancel = &operation->cancel();
  options.progress = &operation->progress();
  PhaseTimes times(*context_->options->clock);
  options.on_phase = [operation, &times](absl::string_view phase) {
    operation->SetPhase(phase);
    times.Begin(phase);
  };
  options.test_hook = context_->options->test_hook;
  options.fault_hook = context_->options->segment_fault_hook;
  std::vector<std::shared_ptr<Segment>> sources;
  sources.insert(sources.end(), job.frozen.begin(), job.frozen.end());
  sources.insert(sources.end(), job.sealed.begin(), job.sealed.end());

  times.Begin("ranking partitions");
  collection.BeginBuild();
  Hook("build:start");
  absl::StatusOr<BuiltSegment> built;
  const CollectionSchema& schema = collection.schema();
  auto partitions =
      RankPartitions(schema, collection.store(), sources, &operation->cancel());
  if (partitions.ok()) {
    options.partitions = *std::move(partitions);
    built = BuildSegment(schema, collection.layout(), sources, options);
  } else {
    built = partitions.status();
  }
  Hook("build:before_manifest");
  absl::Status status = built.status();
  if (status.ok() && built->segment != nullptr) {
    collection.CheckPlacement(*built->segment);
    options.on_phase("payload indexes");
    // It hears of deaths when it takes its place; the sources do at once.
    const auto is_dead = [&](RowId row) {
      const Ordinal ordinal = built->segment->OrdinalOf(row);
      return absl::c_any_of(sources, [&](const auto& source) {
        const std::optional<RowId> at = source->FindOrdinal(ordinal);
        return at.has_value() && source->IsDead(*at);
      });
    };
    status = BuildFieldIndexes(collection.store(), collection.folder(),
                               collection.schema().payload_fields,
                               *built->segment, is_dead, &operation->cancel(),
                               /*progress=*/nullptr, options.fault_hook);
  }
  if (status.ok() && collection.dropped()) {
    status = absl::NotFoundError("the collection was dropped");
  }
  if (!status.ok()) {
    collection.AbandonBuild();
  } else {
    options.on_phase("committing");
    const bool has_rows = built->segment != nullptr;
    const size_t num_rows = has_rows ? built->segment->num_rows() : 0;
    status = collection.FinishBuild(job.frozen, job.sealed,
                                    std::move(built->segment), built->dropped);
    if (status.ok() && has_rows && context_->options->inform) {
      context_->options->inform(absl::StrCat(
          "Collection \"", schema.name, "\": segment ", options.number, " of ",
          num_rows, " rows was built in ", times.Text()));
    }
  }
  if (!status.ok()) {
    std::error_code ignored;
    std::filesystem::remove(
        segment_file::IndexPath(options.folder, options.number), ignored);
    std::filesystem::remove(
        segment_file::VectorsPath(options.folder, options.number), ignored);
    RemoveFieldIndexes(options.folder, collection.schema().payload_fields,
                       options.number);
  }
  return status;
}

absl::StatusOr<bool> Compactor::Verify(
    CollectionImpl* collection, const std::shared_ptr<SealedSegment>& segment) {
  const absl::Status damage = segment->VerifyVectors();
  if (damage.ok()) {
    segment->MarkVerified();
    Hook("verify:done");
    return true;
  }
  segment->MarkDamaged();
  collection->WarnOfDamage(damage);
  const absl::Status recovered = collection->Recover(segment);
  Hook("verify:damaged");
  if (recovered.ok()) return false;
  return absl::Status(recovered.code(),
                      absl::StrCat(damage.message(),
                                   " Its rows cannot be read from the records "
                                   "either: ",
                                   recovered.message()));
}

absl::StatusOr<bool> Compactor::VerifySources(const Job& job) {
  bool all_sound = true;
  for (const auto& segment : job.sealed) {
    VICINAL_ASSIGN_OR_RETURN(const bool sound,
                             Verify(job.collection.get(), segment));
    all_sound &= sound;
  }
  return all_sound;
}

bool Compactor::IndexOne(State* state, Time now) {
  CollectionImpl& collection = *state->collection;
  if (collection.dropped()) return false;
  CheckIndexed(state, /*all_done=*/false);
  const std::vector<PayloadField>& fields = collection.schema().payload_fields;
  const std::shared_ptr<const View> view = collection.view();
  const auto lacks_some = [&](const auto& segment) {
    return !FieldsWithoutIndex(fields, *segment).empty();
  };
  const auto lacking =
      std::find_if(view->sealed.begin(), view->sealed.end(), lacks_some);
  if (lacking == view->sealed.end()) {
    CheckIndexed(state, /*all_done=*/true);
    return false;
  }
  if (now < state->no_indexing_before || !context_->store->WriteHealth().ok()) {
    return false;
  }
  std::shared_ptr<Operation> operation =
      state->indexing.empty()
          ? operations_->Start("payload_index", collection.schema().name)
          : state->indexing.front().operation;
  {
    MutexLock lock(mu_);
    building_ = &collection;
    build_operation_ = operation;
    if (stopping_) operation->cancel().Cancel();
  }
  Hook("payload_index:start");
  if (operation->progress().total == 0) {
    for (const auto& segment : view->sealed) {
      if (lacks_some(segment)) {
        operation->progress().total += segment->num_rows();
      }
    }
  }
  const absl::Status status = BuildFieldIndexes(
      collection.store(), collection.folder(),
      FieldsWithoutIndex(fields, **lacking), **lacking,
      [&](RowId row) { return (*lacking)->IsDead(row); }, &operation->cancel(),
      &operation->progress(), context_->options->segment_fault_hook);
  {
    MutexLock lock(mu_);
    building_ = nullptr;
    build_operation_ = nullptr;
  }
  if (state->indexing.empty()) operation->Finish(status);
  if (!status.ok() && !absl::IsCancelled(status)) {
    state->no_indexing_before = now + kFirstBackoff;
    if (context_->options->warn) {
      context_->options->warn(absl::StrCat(
          "A payload index of collection \"", collection.schema().name,
          "\" cannot be built and is tried again: ", status.message()));
    }
  }
  Hook("payload_index:done");
  return true;
}

void Compactor::CheckIndexed(State* state, bool all_done) {
  const std::string& name = state->collection->schema().name;
  std::erase_if(state->indexing, [&](const IndexRequest& request) {
    if (request.operation->cancel().cancelled() && !stopping()) {
      const absl::Status dropped =
          context_->drop_payload_index(name, request.field.path);
      request.operation->Finish(
          dropped.ok() || absl::IsNotFound(dropped)
              ? absl::CancelledError("the operation was cancelled")
              : dropped);
      return true;
    }
    if (!all_done) return false;
    const std::vector<PayloadField>& fields =
        state->collection->schema().payload_fields;
    request.operation->Finish(
        std::find(fields.begin(), fields.end(), request.field) != fields.end()
            ? absl::OkStatus()
            : absl::CancelledError("the index was dropped meanwhile"));
    return true;
  });
}

bool Compactor::VerifySome(Time now) {
  bool any = false;
  size_t bytes = 0;
  for (State* state : active_) {
    while (bytes < kVerifyBytes && !stopping()) {
      const std::optional<size_t> read = VerifyOne(state, now);
      if (!read.has_value()) break;
      any = true;
      bytes += *read;
    }
  }
  return any;
}

std::optional<size_t> Compactor::VerifyOne(State* state, Time now) {
  if (state->collection->dropped()) return std::nullopt;
  const std::shared_ptr<const View> view = state->collection->view();
  for (const auto& segment : view->sealed) {
    const bool damaged = segment->health() == SealedSegment::Health::kDamaged;
    if (segment->health() == SealedSegment::Health::kVerified ||
        (damaged && now < state->next_recovery)) {
      continue;
    }
    const absl::StatusOr<bool> sound = Verify(state->collection.get(), segment);
    if (!sound.ok()) {
      state->next_recovery = now + kMaxBackoff;
      if (context_->options->warn) {
        context_->options->warn(absl::StrCat(
            "A segment of collection \"", state->collection->schema().name,
            "\" cannot be rebuilt: ", sound.status().message()));
      }
    }
    return segment->stats().vector_bytes;
  }
  return std::nullopt;
}

std::chrono::milliseconds Compactor::WaitTime() const {
  bool memory_waits = false;
  for (const State* state : active_) {
    const std::shared_ptr<const View> view = state->collection->view();
    memory_waits |= !view->frozen.empty() ||
                    view->growing->num_rows() >= kMinRowsToSealIdle;
  }
  // Delays are counted in hundreds of milliseconds.
  std::chrono::milliseconds wait(memory_waits ? 100 : 2'000);
  if (const int64_t pause_ms = context_->options->recall_check_ms;
      pause_ms > 0) {
    wait = std::min(wait, std::chrono::milliseconds(pause_ms));
  }
  return wait;
}

}  // namespace vicinal
