#include "src/engine/shared_device.h"

#include "absl/strings/str_cat.h"

namespace vicinal {

class SharedDevice::Turn {
 public:
  explicit Turn(const SharedDevice& device) : device_(device) {
    MutexLock lock(device_.mu_);
    const uint64_t own = device_.num_came_++;
    while (device_.num_left_ < own) device_.next_.Wait(device_.mu_);
  }
  ~Turn() {
    MutexLock lock(device_.mu_);
    ++device_.num_left_;
    device_.next_.NotifyAll();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  const SharedDevice& device_;
};

template <typename Call>
BackendStatus SharedDevice::InTurn(const Call& call) const {
  const Turn turn(*this);
  return Note(is_lost() ? BackendStatus::kDeviceLost : call());
}

BackendStatus SharedDevice::Note(BackendStatus status) const {
  switch (status) {
    case BackendStatus::kOk:
      break;
    case BackendStatus::kUnsupported:
      ++num_unsupported_;
      break;
    case BackendStatus::kNoMemory:
      ++num_no_memory_;
      break;
    case BackendStatus::kDeviceLost:
      ++num_lost_;
      if (!lost_.exchange(true) && warn_) {
        warn_(absl::StrCat(
            "The GPU ", name(),
            " is lost. From now on another GPU or the CPU does what it did, "
            "with the same results; restart the server to use it again."));
      }
      break;
  }
  return status;
}

DeviceRefusals SharedDevice::refusals() const {
  return {num_unsupported_.load(), num_no_memory_.load(), num_lost_.load()};
}

size_t SharedDevice::num_calls() const {
  MutexLock lock(mu_);
  return num_came_ - num_left_;
}

template <typename Call>
BackendStatus SharedDevice::WithRoom(const Call& call) {
  BackendStatus status = BackendStatus::kDeviceLost;
  while (!is_lost()) {
    status = call();
    if (status != BackendStatus::kNoMemory || !make_room_ || !make_room_()) {
      break;
    }
  }
  return Note(status);
}

BackendStatus SharedDevice::Load(const SegmentRows& segment,
                                 std::shared_ptr<const LoadedSegment>* out) {
  if (segment.is_modest && !is_lost()) {
    return Note(backend_->Load(segment, out));
  }
  return WithRoom([&] { return backend_->Load(segment, out); });
}

BackendStatus SharedDevice::LoadTokens(
    const TokenDocuments& documents,
    std::shared_ptr<const LoadedSegment>* out) {
  return WithRoom([&] { return backend_->LoadTokens(documents, out); });
}

BackendStatus SharedDevice::Search(const LoadedSegment& segment,
                                   const QueryBatch& queries, size_t k,
                                   const uint64_t* accepted, Neighbor* out,
                                   BackendReport* report) const {
  return InTurn([&] {
    return backend_->Search(segment, queries, k, accepted, out, report);
  });
}

BackendStatus SharedDevice::SearchRanges(const LoadedSegment& segment,
                                         const QueryBatch& queries,
                                         const RangeLists& lists, size_t k,
                                         const uint64_t* accepted,
                                         Neighbor* out,
                                         BackendReport* report) const {
  return InTurn([&] {
    return backend_->SearchRanges(segment, queries, lists, k, accepted, out,
                                  report);
  });
}

BackendStatus SharedDevice::Score(const LoadedSegment& segment,
                                  const QueryBatch& queries,
                                  const uint32_t* offsets, const RowId* rows,
                                  float* out) const {
  return InTurn(
      [&] { return backend_->Score(segment, queries, offsets, rows, out); });
}

BackendStatus SharedDevice::KnnGraph(const LoadedSegment& segment, size_t k,
                                     Neighbor* out,
                                     BackendReport* report) const {
  return InTurn([&] { return backend_->KnnGraph(segment, k, out, report); });
}

BackendStatus SharedDevice::LinkGraph(const LoadedSegment& segment, RowId begin,
                                      RowId end, size_t k, const LinkRule& rule,
                                      Neighbor* out, uint32_t* num_duplicates,
                                      BackendReport* report) const {
  return InTurn([&] {
    return backend_->LinkGraph(segment, begin, end, k, rule, out,
                               num_duplicates, report);
  });
}

BackendStatus SharedDevice::SelectLinks(
    const LoadedSegment& segment, size_t num_lists, const uint32_t* offsets,
    const Neighbor* lists, const LinkRule& rule, Neighbor* out) const {
  return InTurn([&] {
    return backend_->SelectLinks(segment, num_lists, offsets, lists, rule, out);
  });
}

BackendStatus SharedDevice::Encode(const LoadedSegment& segment,
                                   const RowCoding& coding,
                                   uint8_t* records) const {
  return InTurn([&] { return backend_->Encode(segment, coding, records); });
}

BackendStatus SharedDevice::Assign(const LoadedSegment& segment,
                                   const float* centroids, size_t num_centroids,
                                   uint32_t* nearest, float* distances) const {
  return InTurn([&] {
    return backend_->Assign(segment, centroids, num_centroids, nearest,
                            distances);
  });
}

BackendStatus SharedDevice::KMeans(const LoadedSegment& segment,
                                   size_t num_centroids, size_t rounds,
                                   float* centroids, uint32_t* nearest,
                                   double* inertia) const {
  return InTurn([&] {
    return backend_->KMeans(segment, num_centroids, rounds, centroids, nearest,
                            inertia);
  });
}

BackendStatus SharedDevice::MaxSim(const LoadedSegment& documents,
                                   const TokenQueries& queries,
                                   const DocumentLists& lists, size_t k,
                                   Neighbor* out, BackendReport* report) const {
  return InTurn([&] {
    return backend_->MaxSim(documents, queries, lists, k, out, report);
  });
}

}  // namespace vicinal
