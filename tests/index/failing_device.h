// A device for tests of builds: the CPU's backend, which fails as it is told
// to.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/distance/gpu/backend.h"
#include "tests/distance/gpu/reference_encoder.h"

namespace vicinal {

// Calls from the `first_failing`-th on fail with `status`, and leave nonsense
// behind. Used by one thread.
class FailingDevice final : public DistanceBackend {
 public:
  explicit FailingDevice(int first_failing = 1'000'000,
                         BackendStatus status = BackendStatus::kDeviceLost)
      : first_failing_(first_failing),
        status_(status),
        cpu_(MakeCpuBackend(2)) {}

  // Of those that fail, the first alone does.
  void FailOnce() { num_failing_ = 1; }
  // There is no memory for segments of more rows.
  void HoldAtMost(size_t num_rows) { most_rows_ = num_rows; }
  // Nor for segments of more rows together.
  void HoldTogether(size_t num_rows) { most_rows_together_ = num_rows; }
  void StopBuildingGraphs() { builds_graphs_ = false; }
  // Called at the beginning of each call with its number, from 0 on.
  void OnCall(std::function<void(int call)> on_call) {
    on_call_ = std::move(on_call);
  }

  int num_calls() const { return num_calls_; }
  // Segments that were made of others.
  int num_parts() const { return num_parts_; }
  int num_kmeans() const { return num_kmeans_; }
  int num_searches() const { return num_searches_; }
  int num_graphs() const { return num_graphs_; }
  int num_encodings() const { return num_encodings_; }
  size_t most_queries() const { return most_queries_; }
  // Segments that are there, the most that ever were, and the most rows of one.
  int num_segments() const { return num_segments_; }
  int most_segments() const { return most_segments_; }
  size_t largest_segment() const { return largest_segment_; }

  const char* name() const override { return "test"; }
  size_t device_bytes() const override { return 0; }
  bool builds_graphs() const override { return builds_graphs_; }
  BackendStatus Load(const SegmentRows& segment,
                     std::shared_ptr<const LoadedSegment>* out) override {
    if (Fails()) return status_;
    if (segment.rows.num_rows > most_rows_ ||
        segment.rows.num_rows + num_rows_ > most_rows_together_) {
      return BackendStatus::kNoMemory;
    }
    SegmentRows rows = segment;
    std::vector<std::byte> own;
    if (rows.whole != nullptr) {
      ++num_parts_;
      rows.whole = &CpuOf(*rows.whole);
    } else if (rows.write != nullptr) {
      rows.rows.stride_bytes = rows.rows.dim * ElementSize(rows.rows.type);
      own.resize(rows.rows.num_rows * rows.rows.stride_bytes);
      rows.rows.data = own.data();
      // In two steps, as a device may.
      const size_t half = rows.rows.num_rows / 2;
      if (half > 0) (*rows.write)(0, half, own.data());
      (*rows.write)(half, rows.rows.num_rows,
                    own.data() + half * rows.rows.stride_bytes);
      rows.write = nullptr;
    }
    std::shared_ptr<const LoadedSegment> cpu;
    const BackendStatus status = cpu_->Load(rows, &cpu);
    if (status != BackendStatus::kOk) return status;
    largest_segment_ = std::max(largest_segment_, segment.rows.num_rows);
    *out = std::make_shared<Segment>(std::move(cpu), rows, std::move(own),
                                     &num_segments_, &num_rows_);
    most_segments_ = std::max(most_segments_, num_segments_);
    return status;
  }
  BackendStatus Search(const LoadedSegment& segment, const QueryBatch& queries,
                       size_t k, const uint64_t* accepted, Neighbor* out,
                       BackendReport* report) const override {
    ++num_searches_;
    most_queries_ = std::max(most_queries_, queries.num_queries);
    if (Fails()) {
      std::fill_n(out, queries.num_queries * k, Neighbor{-1, 1});
      return status_;
    }
    const BackendStatus status =
        cpu_->Search(CpuOf(segment), queries, k, accepted, out, report);
    // As if nothing were there that is infinitely far away.
    for (size_t i = 0; i < queries.num_queries * k; ++i) {
      if (std::isinf(out[i].distance)) out[i].row = kInvalidRow;
    }
    return status;
  }
  BackendStatus Score(const LoadedSegment&, const QueryBatch&, const uint32_t*,
                      const RowId*, float*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus KnnGraph(const LoadedSegment& segment, size_t k, Neighbor* out,
                         BackendReport* report) const override {
    ++num_graphs_;
    if (Fails()) {
      std::fill_n(out, segment.num_rows() * k, Neighbor{-1, 1});
      return status_;
    }
    return cpu_->KnnGraph(CpuOf(segment), k, out, report);
  }
  BackendStatus LinkGraph(const LoadedSegment& segment, RowId begin, RowId end,
                          size_t k, const LinkRule& rule, Neighbor* out,
                          uint32_t* num_duplicates,
                          BackendReport* report) const override {
    return Fails() ? status_
                   : cpu_->LinkGraph(CpuOf(segment), begin, end, k, rule, out,
                                     num_duplicates, report);
  }
  BackendStatus SelectLinks(const LoadedSegment& segment, size_t num_lists,
                            const uint32_t* offsets, const Neighbor* lists,
                            const LinkRule& rule,
                            Neighbor* out) const override {
    return Fails() ? status_
                   : cpu_->SelectLinks(CpuOf(segment), num_lists, offsets,
                                       lists, rule, out);
  }
  BackendStatus Assign(const LoadedSegment&, const float*, size_t, uint32_t*,
                       float*) const override {
    return BackendStatus::kUnsupported;
  }
  BackendStatus KMeans(const LoadedSegment& segment, size_t num_centroids,
                       size_t rounds, float* centroids, uint32_t* nearest,
                       double* inertia) const override {
    ++num_kmeans_;
    if (Fails()) {
      centroids[0] = std::numeric_limits<float>::quiet_NaN();
      return status_;
    }
    return cpu_->KMeans(CpuOf(segment), num_centroids, rounds, centroids,
                        nearest, inertia);
  }
  BackendStatus Encode(const LoadedSegment& segment, const RowCoding& coding,
                       uint8_t* records) const override {
    ++num_encodings_;
    const SegmentRows& rows = static_cast<const Segment&>(segment).rows();
    const size_t num_bytes = rows.rows.num_rows * coding.layout->record_bytes;
    if (Fails()) {
      std::fill_n(records, num_bytes, 0xAB);
      return status_;
    }
    const std::vector<uint8_t> made =
        backend_tests::EncodeRows(rows.rows, rows.metric, coding);
    std::copy(made.begin(), made.end(), records);
    return BackendStatus::kOk;
  }

 private:
  class Segment final : public LoadedSegment {
   public:
    Segment(std::shared_ptr<const LoadedSegment> cpu, const SegmentRows& rows,
            std::vector<std::byte> own, int* count, size_t* num_rows)
        : cpu_(std::move(cpu)),
          rows_(rows),
          own_(std::move(own)),
          count_(count),
          num_rows_(num_rows) {
      ++*count_;
      *num_rows_ += cpu_->num_rows();
    }
    ~Segment() override {
      --*count_;
      *num_rows_ -= cpu_->num_rows();
    }
    size_t num_rows() const override { return cpu_->num_rows(); }
    size_t device_bytes() const override { return 0; }
    const LoadedSegment& cpu() const { return *cpu_; }
    const SegmentRows& rows() const { return rows_; }

   private:
    const std::shared_ptr<const LoadedSegment> cpu_;
    const SegmentRows rows_;
    const std::vector<std::byte> own_;
    int* const count_;
    size_t* const num_rows_;
  };

  static const LoadedSegment& CpuOf(const LoadedSegment& segment) {
    return static_cast<const Segment&>(segment).cpu();
  }
  bool Fails() const {
    const int call = num_calls_++;
    if (on_call_) on_call_(call);
    return call >= first_failing_ && call - first_failing_ < num_failing_;
  }

  const int first_failing_;
  const BackendStatus status_;
  const std::unique_ptr<DistanceBackend> cpu_;
  int num_failing_ = std::numeric_limits<int>::max();
  size_t most_rows_ = std::numeric_limits<size_t>::max();
  size_t most_rows_together_ = std::numeric_limits<size_t>::max();
  size_t num_rows_ = 0;  // of segments that are there
  bool builds_graphs_ = true;
  std::function<void(int call)> on_call_;
  int num_segments_ = 0;
  int most_segments_ = 0;
  size_t largest_segment_ = 0;
  int num_parts_ = 0;
  mutable int num_calls_ = 0;
  mutable int num_kmeans_ = 0;
  mutable int num_searches_ = 0;
  mutable int num_graphs_ = 0;
  mutable int num_encodings_ = 0;
  mutable size_t most_queries_ = 0;
};

}  // namespace vicinal
