#include "tests/engine/device_testing.h"

#include <algorithm>

namespace vicinal {

class TestDevice::Copy final : public LoadedSegment {
 public:
  Copy(std::shared_ptr<const LoadedSegment> cpu,
       std::shared_ptr<std::atomic<size_t>> num_copies)
      : cpu_(std::move(cpu)), num_copies_(std::move(num_copies)) {
    ++*num_copies_;
  }
  ~Copy() override { --*num_copies_; }
  size_t num_rows() const override { return cpu_->num_rows(); }
  size_t device_bytes() const override { return 1000; }
  const LoadedSegment& cpu() const { return *cpu_; }

  static const LoadedSegment& CpuOf(const LoadedSegment& segment) {
    return static_cast<const Copy&>(segment).cpu();
  }

 private:
  const std::shared_ptr<const LoadedSegment> cpu_;
  const std::shared_ptr<std::atomic<size_t>> num_copies_;
};

void TestDevice::FailSearches(BackendStatus status, int n) {
  search_status_ = status;
  first_failing_ = num_searches_ + n;
}

void TestDevice::FailLoads(BackendStatus status, int n) {
  load_status_ = status;
  failing_loads_ = n;
}

void TestDevice::Block(bool* block) {
  MutexLock lock(mu_);
  *block = true;
}

void TestDevice::Unblock() {
  MutexLock lock(mu_);
  searches_block_ = false;
  loads_block_ = false;
  changed_.NotifyAll();
}

void TestDevice::WaitWhile(const bool& block) const {
  MutexLock lock(mu_);
  ++num_blocked_;
  changed_.NotifyAll();
  while (block) changed_.Wait(mu_);
  --num_blocked_;
}

void TestDevice::WaitForBlocked(size_t n) const {
  MutexLock lock(mu_);
  while (num_blocked_ < n) changed_.Wait(mu_);
}

template <typename Loader>
BackendStatus TestDevice::TryToLoad(const Loader& load,
                                    std::shared_ptr<const LoadedSegment>* out) {
  ++num_loads_;
  WaitWhile(loads_block_);
  if (failing_loads_ > 0) {
    --failing_loads_;
    return load_status_;
  }
  if (*num_copies_ >= max_copies_) return BackendStatus::kNoMemory;
  std::shared_ptr<const LoadedSegment> cpu;
  const BackendStatus status = load(&cpu);
  if (status == BackendStatus::kOk) {
    *out = std::make_shared<Copy>(std::move(cpu), num_copies_);
  }
  return status;
}

BackendStatus TestDevice::Load(const SegmentRows& segment,
                               std::shared_ptr<const LoadedSegment>* out) {
  return TryToLoad(
      [&](auto* cpu) {
        return segment.rows.num_rows < refused_rows_ ? cpu_->Load(segment, cpu)
                                                     : BackendStatus::kNoMemory;
      },
      out);
}

BackendStatus TestDevice::LoadTokens(
    const TokenDocuments& documents,
    std::shared_ptr<const LoadedSegment>* out) {
  return TryToLoad([&](auto* cpu) { return cpu_->LoadTokens(documents, cpu); },
                   out);
}

template <typename Call>
BackendStatus TestDevice::TryToSearch(const Call& call) const {
  const int number = num_searches_++;
  const int running = ++num_running_;
  most_at_once_ = std::max<int>(most_at_once_, running);
  WaitWhile(searches_block_);
  const BackendStatus status =
      number >= first_failing_ ? search_status_.load() : call();
  --num_running_;
  return status;
}

BackendStatus TestDevice::Search(const LoadedSegment& segment,
                                 const QueryBatch& queries, size_t k,
                                 const uint64_t* accepted, Neighbor* out,
                                 BackendReport* report) const {
  return TryToSearch([&] {
    return cpu_->Search(Copy::CpuOf(segment), queries, k, accepted, out,
                        report);
  });
}

BackendStatus TestDevice::MaxSim(const LoadedSegment& documents,
                                 const TokenQueries& queries,
                                 const DocumentLists& lists, size_t k,
                                 Neighbor* out, BackendReport* report) const {
  return TryToSearch([&] {
    return cpu_->MaxSim(Copy::CpuOf(documents), queries, lists, k, out, report);
  });
}

BackendStatus TestDevice::SearchRanges(const LoadedSegment& segment,
                                       const QueryBatch& queries,
                                       const RangeLists& lists, size_t k,
                                       const uint64_t* accepted, Neighbor* out,
                                       BackendReport* report) const {
  ++num_range_searches_;
  return TryToSearch([&] {
    return cpu_->SearchRanges(Copy::CpuOf(segment), queries, lists, k, accepted,
                              out, report);
  });
}

BackendStatus TestDevice::LinkGraph(const LoadedSegment& segment, RowId begin,
                                    RowId end, size_t k, const LinkRule& rule,
                                    Neighbor* out, uint32_t* num_duplicates,
                                    BackendReport* report) const {
  ++num_build_calls_;
  return cpu_->LinkGraph(Copy::CpuOf(segment), begin, end, k, rule, out,
                         num_duplicates, report);
}

BackendStatus TestDevice::SelectLinks(const LoadedSegment& segment,
                                      size_t num_lists, const uint32_t* offsets,
                                      const Neighbor* lists,
                                      const LinkRule& rule,
                                      Neighbor* out) const {
  ++num_build_calls_;
  return cpu_->SelectLinks(Copy::CpuOf(segment), num_lists, offsets, lists,
                           rule, out);
}

BackendStatus TestDevice::KMeans(const LoadedSegment& segment,
                                 size_t num_centroids, size_t rounds,
                                 float* centroids, uint32_t* nearest,
                                 double* inertia) const {
  ++num_build_calls_;
  return cpu_->KMeans(Copy::CpuOf(segment), num_centroids, rounds, centroids,
                      nearest, inertia);
}

}  // namespace vicinal
