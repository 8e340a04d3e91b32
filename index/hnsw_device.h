// The rows of one stage of an HNSW build on a device that compares them all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "index/leaf_partition.h"
#include "src/base/top_k.h"
#include "src/base/workers.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {

// Life: one stage of a build, or all of it for the stage whose rows the others
// are of. Whatever the device refuses or fails at is answered by false, and the
// build goes on without it. Borrows the backend.
class DeviceStage {
 public:
  // backend may be null: every call is then refused. scale: of distances, a
  // power of two.
  DeviceStage(DistanceBackend* backend, float scale)
      : backend_(backend), scale_(scale) {}

  // With fewer rows leaves are as fast, and with more, as every row is compared
  // with every other (measured: H100 beside 16 cores).
  static constexpr size_t kMinRows = 4096;
  static constexpr size_t kMaxRows = 4'000'000;
  // Of the rows as floats, which the device holds while a graph is built.
  static constexpr size_t kMaxBytes = size_t{16} << 30;

  bool is_loaded() const { return segment_ != nullptr; }
  // Whether as many rows are worth it.
  bool Serves(const RowSource& rows) const;
  // Copies the rows there.
  bool Load(const RowSource& rows, Workers* workers);
  // Copies rows that are there: row i is row part[i] of `whole`.
  bool LoadPart(const DeviceStage& whole, const std::vector<uint32_t>& part);
  // Lets go of what was loaded.
  void Drop() { segment_.reset(); }
  // Takes the links of rows begin .. end - 1, max_links per row, filled up with
  // kInvalidRow. False: no more are wanted.
  using LinkTaker =
      std::function<bool(size_t begin, size_t end, const Neighbor* links)>;
  // The links that the rule chooses of the k nearest rows of each, given to
  // `take` in the order of the rows, by the calling thread, while the device
  // links those that follow. False, too, where so many rows have more than
  // max_copies copies that leaves serve better, and where `take` says so.
  bool Link(size_t k, const LinkRule& rule, size_t max_copies,
            const LinkTaker& take) const;
  // DistanceBackend::SelectLinks, of lists of scaled distances.
  bool Select(const std::vector<uint32_t>& offsets,
              const std::vector<Neighbor>& lists, const LinkRule& rule,
              std::vector<Neighbor>* links) const;

 private:
  DistanceBackend* const backend_;
  const float scale_;
  size_t dim_ = 0;
  std::shared_ptr<const LoadedSegment> segment_;
};

}  // namespace vicinal
