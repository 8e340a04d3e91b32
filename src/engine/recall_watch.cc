#include "src/engine/recall_watch.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "src/base/top_k.h"
#include "src/engine/sealed_segment.h"

namespace vicinal {
namespace {

// One in so many queries is kept.
constexpr uint64_t kKeepEvery = 16;
constexpr size_t kMinCapacity = 1'024;
constexpr size_t kQueriesPerDim = 4;
constexpr size_t kMaxSampleBytes = size_t{64} << 20;
// Deeper ones would cost too much to ask again.
constexpr size_t kMaxDepth = 1'000;
// Queries after which a segment is judged, and from which it is calibrated.
constexpr uint64_t kMinChecks = 48;
constexpr size_t kMinSample = 128;
// By so much, and two deviations more, a target is missed.
constexpr double kTolerance = 0.01;
// 256 queries read a segment together, eight at a time.
constexpr size_t kPassesOfCalibration = 32;
// Older checks fade.
constexpr uint64_t kMaxChecks = 512;

}  // namespace

void RecallWatch::Sums::Add(double asked_recall, double found_recall) {
  ++count;
  asked += asked_recall;
  found += found_recall;
  const double miss = asked_recall - found_recall;
  miss2 += miss * miss;
  if (count < kMaxChecks) return;
  count /= 2;
  asked /= 2;
  found /= 2;
  miss2 /= 2;
}

bool RecallWatch::Sums::Missed() const {
  if (count < kMinChecks) return false;
  const auto n = static_cast<double>(count);
  const double miss = (asked - found) / n;
  const double variance = std::max(0.0, miss2 / n - miss * miss);
  return miss > kTolerance + 2 * std::sqrt(variance / n);
}

RecallWatch::RecallWatch(const Layout& layout,
                         std::function<void()> on_question)
    : on_question_(std::move(on_question)), fields_(layout.fields.size()) {
  for (size_t f = 0; f < fields_.size(); ++f) {
    Field& field = fields_[f];
    field.layout = layout.fields[f];
    field.capacity = std::max(
        kMinCapacity, std::min(kQueriesPerDim * field.layout.dim,
                               kMaxSampleBytes / field.layout.row_bytes));
  }
}

void RecallWatch::Offer(const SegmentQuery& query) {
  const uint64_t number = num_offered_.fetch_add(1, std::memory_order_relaxed);
  if (number % kKeepEvery != 0) return;
  {
    MutexLock lock(mu_);
    Remember(query);
    if (asked_.has_value() || query.ef.has_value() ||
        query.nprobe.has_value() || query.k > kMaxDepth) {
      return;
    }
    const auto* bytes = static_cast<const char*>(query.vector);
    asked_ = Asked{query.field,
                   std::string(bytes, fields_[query.field].layout.row_bytes),
                   query.k, query.recall_target};
  }
  if (on_question_) on_question_();
}

void RecallWatch::Remember(const SegmentQuery& query) {
  Field& field = fields_[query.field];
  const absl::string_view vector(static_cast<const char*>(query.vector),
                                 field.layout.row_bytes);
  if (!field.hashes.insert(absl::HashOf(vector)).second) return;
  if (field.queries.size() < field.capacity) {
    field.queries.emplace_back(vector);
    return;
  }
  std::string& old = field.queries[random_.Uniform(field.queries.size())];
  field.hashes.erase(absl::HashOf(absl::string_view(old)));
  old = std::string(vector);
}

QuerySample RecallWatch::Sample(size_t f) const {
  QuerySample sample;
  MutexLock lock(mu_);
  const Field& field = fields_[f];
  const FieldLayout& layout = field.layout;
  sample.bytes.resize(field.queries.size() * layout.row_bytes);
  for (size_t i = 0; i < field.queries.size(); ++i) {
    std::memcpy(sample.bytes.data() + i * layout.row_bytes,
                field.queries[i].data(), layout.row_bytes);
  }
  sample.view = {sample.bytes.data(), field.queries.size(), layout.dim,
                 layout.row_bytes, layout.type};
  return sample;
}

std::optional<double> RecallWatch::RecallOf(const Asked& asked,
                                            const SealedSegment& segment,
                                            const CancelToken* cancel) {
  SegmentQuery query;
  query.field = asked.field;
  query.vector = asked.vector.data();
  query.k = std::min(asked.k, segment.num_live());
  query.recall_target = asked.recall_target;
  StopCondition stop;
  stop.cancelled = [&] { return cancel != nullptr && cancel->cancelled(); };
  TopK found(query.k), exact(query.k);
  if (!segment.Search(query, stop, &found, nullptr).ok()) return std::nullopt;
  query.exact = true;
  if (!segment.Search(query, stop, &exact, nullptr).ok()) return std::nullopt;
  const std::vector<Neighbor> truth = exact.TakeSorted();
  if (truth.empty()) return std::nullopt;
  size_t hits = 0;
  for (const Neighbor& neighbor : found.TakeSorted()) {
    hits += neighbor.distance <= truth.back().distance;
  }
  return std::min(
      1.0, static_cast<double>(hits) / static_cast<double>(truth.size()));
}

std::optional<size_t> RecallWatch::Check(const View& view,
                                         const CheckOptions& options) {
  std::optional<Asked> asked;
  {
    MutexLock lock(mu_);
    asked = std::exchange(asked_, std::nullopt);
  }
  if (!asked.has_value() || view.sealed.empty()) return std::nullopt;
  const size_t f = asked->field;
  SealedSegment& segment = *view.sealed[next_segment_++ % view.sealed.size()];
  if (!segment.HasIndex(f) || segment.num_live() == 0) return 0;
  const std::optional<double> recall =
      RecallOf(*asked, segment, options.cancel);
  if (!recall.has_value()) return 0;

  ForgetOthersThan(view);
  std::vector<Sums>& sums = by_segment_[segment.entry().number];
  {
    MutexLock lock(mu_);
    sums.resize(fields_.size());
    fields_[f].sums.Add(asked->recall_target, *recall);
  }
  sums[f].Add(asked->recall_target, *recall);
  const size_t bytes = segment.num_rows() * asked->vector.size();
  if (!sums[f].Missed()) return bytes;
  const QuerySample sample = Sample(f);
  if (sample.view.num_rows < kMinSample) return bytes;
  Calibrate(f, sample, std::exchange(sums[f], Sums()), options, &segment);
  return bytes * kPassesOfCalibration;
}

void RecallWatch::ForgetOthersThan(const View& view) {
  if (by_segment_.size() <= 2 * view.sealed.size()) return;
  absl::erase_if(by_segment_, [&](const auto& entry) {
    return std::none_of(view.sealed.begin(), view.sealed.end(),
                        [&](const auto& other) {
                          return other->entry().number == entry.first;
                        });
  });
}

void RecallWatch::Calibrate(size_t f, const QuerySample& sample,
                            const Sums& missed, const CheckOptions& options,
                            SealedSegment* segment) {
  if (!segment->Recalibrate(f, sample.view, options.num_threads, options.cancel)
           .ok()) {
    return;
  }
  if (options.tell) {
    const auto n = static_cast<double>(missed.count);
    options.tell(absl::StrFormat(
        "Searches of segment %d had a recall of %.3f where %.3f was asked (%d "
        "queries asked again exactly); it was calibrated with %d queries of "
        "late.",
        segment->entry().number, missed.found / n, missed.asked / n,
        missed.count, std::min<size_t>(sample.view.num_rows, 256)));
  }
  MutexLock lock(mu_);
  ++fields_[f].num_calibrations;
  fields_[f].sums = Sums();
}

std::vector<RecallStats> RecallWatch::stats() const {
  std::vector<RecallStats> out;
  MutexLock lock(mu_);
  for (size_t f = 0; f < fields_.size(); ++f) {
    const Field& field = fields_[f];
    if (field.sums.count == 0 && field.num_calibrations == 0) continue;
    const double n = std::max<double>(1, field.sums.count);
    out.push_back({f, field.sums.count, field.sums.asked / n,
                   field.sums.found / n, field.num_calibrations});
  }
  return out;
}

}  // namespace vicinal
