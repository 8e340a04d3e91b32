#include "index/leaf_partition.h"

#include <algorithm>
#include <numeric>

#include "absl/status/status.h"
#include "quant/kmeans.h"
#include "src/base/status_macros.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr size_t kMaxCentroids = 1024;
constexpr size_t kSamplePerCentroid = 24;
constexpr size_t kRowBlock = 64;
// Splits of splits; what is still too large then is mostly copies.
constexpr size_t kMaxDepth = 6;

class Partitioner {
 public:
  Partitioner(const RowSource& rows, const LeafParams& params, Workers* workers,
              const CancelToken* cancel)
      : rows_(rows), params_(params), workers_(*workers), cancel_(cancel) {}

  absl::StatusOr<Leaves> Run() {
    std::vector<uint32_t> all(rows_.num_rows);
    std::iota(all.begin(), all.end(), 0);
    VICINAL_RETURN_IF_ERROR(
        Split(std::move(all), std::min(params_.fanout, kMaxLeafFanout), 1));
    return std::move(leaves_);
  }

 private:
  void AddLeaf(std::span<const uint32_t> members) {
    leaves_.members.insert(leaves_.members.end(), members.begin(),
                           members.end());
    leaves_.starts.push_back(leaves_.members.size());
  }

  // Rows that centroids do not tell apart: consecutive pieces.
  void Chop(std::span<const uint32_t> members) {
    while (!members.empty()) {
      const size_t n = std::min(members.size(), params_.mean_rows);
      AddLeaf(members.first(n));
      members = members.subspan(n);
    }
  }

  absl::Status Split(std::vector<uint32_t> members, size_t fanout,
                     size_t depth) {
    const size_t n = members.size();
    if (n <= params_.max_rows) {
      AddLeaf(members);
      return absl::OkStatus();
    }
    const size_t num_centroids = std::clamp<size_t>(
        (fanout * n + params_.mean_rows - 1) / params_.mean_rows, 2,
        kMaxCentroids);
    const size_t num_samples = std::min(n, num_centroids * kSamplePerCentroid);
    std::vector<float> sample(num_samples * rows_.dim);
    // The first samples are the first centroids: spread both over all rows.
    for (size_t i = 0; i < num_samples; ++i) {
      const size_t rank = i < num_centroids ? i * n / num_centroids
                                            : (i - num_centroids) * n /
                                                  (num_samples - num_centroids);
      rows_.load(members[rank], &sample[i * rows_.dim]);
    }
    VICINAL_ASSIGN_OR_RETURN(
        const std::vector<float> centroids,
        TrainKMeans({sample.data(), num_samples, rows_.dim, rows_.dim},
                    num_centroids, params_.iterations, &workers_, cancel_));
    sample = {};
    fanout = std::min(fanout, num_centroids);
    std::vector<uint32_t> cells(n * fanout);
    VICINAL_RETURN_IF_ERROR(Assign(members, centroids, fanout, cells.data()));
    std::vector<std::vector<uint32_t>> parts(num_centroids);
    for (size_t i = 0; i < n * fanout; ++i) {
      parts[cells[i]].push_back(members[i / fanout]);
    }
    cells = {};
    members = {};
    for (std::vector<uint32_t>& part : parts) {
      if (part.empty()) continue;
      if (part.size() == n ||
          (depth == kMaxDepth && part.size() > params_.max_rows)) {
        Chop(part);
      } else {
        VICINAL_RETURN_IF_ERROR(Split(std::move(part), 1, depth + 1));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Assign(std::span<const uint32_t> members,
                      const std::vector<float>& centroids, size_t fanout,
                      uint32_t* out) {
    const CentroidPanels panels(
        {centroids.data(), centroids.size() / rows_.dim, rows_.dim, rows_.dim});
    std::vector<std::vector<float>> buffers(workers_.size());
    workers_.For(members.size(), kRowBlock,
                 [&](size_t begin, size_t end, size_t worker) {
                   if (cancel_ != nullptr && cancel_->cancelled()) return;
                   std::vector<float>& block = buffers[worker];
                   block.resize(kRowBlock * rows_.dim);
                   for (size_t i = begin; i < end; ++i) {
                     rows_.load(members[i], &block[(i - begin) * rows_.dim]);
                   }
                   panels.Nearest(block.data(), end - begin, fanout,
                                  out + begin * fanout, nullptr);
                 });
    return cancel_ != nullptr && cancel_->cancelled()
               ? absl::CancelledError("index build cancelled")
               : absl::OkStatus();
  }

  const RowSource& rows_;
  const LeafParams params_;
  Workers& workers_;
  const CancelToken* const cancel_;
  Leaves leaves_;
};

}  // namespace

absl::StatusOr<Leaves> PartitionIntoLeaves(const RowSource& rows,
                                           const LeafParams& params,
                                           Workers* workers,
                                           const CancelToken* cancel) {
  return Partitioner(rows, params, workers, cancel).Run();
}

}  // namespace vicinal
