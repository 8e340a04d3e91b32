// Watches the recall of one collection's searches: asks some queries again,
// exactly, and measures the effort of segments anew where a target was missed.
// Calibration at build time knows stored rows only; queries may be of another
// distribution, deletes and drift change it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "src/base/cancel.h"
#include "src/base/mutex.h"
#include "src/base/random.h"
#include "src/engine/collection.h"
#include "src/engine/layout.h"
#include "src/engine/query_sample.h"
#include "src/engine/segment.h"
#include "src/engine/view.h"

namespace vicinal {

// Check is for one thread, the rest for any.
class RecallWatch {
 public:
  // on_question: called when Check has something to do again, from Offer and
  // without a lock.
  explicit RecallWatch(const Layout& layout,
                       std::function<void()> on_question = {});

  // A query that was answered approximately. Cheap: most are only counted.
  void Offer(const SegmentQuery& query);
  // The field's queries of late, all different, at most max(1,024, 4 dim).
  QuerySample Sample(size_t field) const;

  struct CheckOptions {
    size_t num_threads = 1;  // of a calibration
    const CancelToken* cancel = nullptr;
    // Told of every calibration, in a sentence.
    std::function<void(const std::string&)> tell;
  };
  // Asks one query again, of one sealed segment, and calibrates the segment
  // when it missed its targets. Returns the bytes that it read; nothing was to
  // be done: nullopt.
  std::optional<size_t> Check(const View& view, const CheckOptions& options);

  // Whether a query waits for Check.
  bool has_question() const {
    MutexLock lock(mu_);
    return asked_.has_value();
  }
  std::vector<RecallStats> stats() const;

 private:
  struct Asked {
    size_t field = 0;
    std::string vector;
    size_t k = 0;
    double recall_target = 0;
  };
  struct Sums {
    uint64_t count = 0;
    double asked = 0;
    double found = 0;
    double miss2 = 0;  // of asked - found

    void Add(double asked_recall, double found_recall);
    // Whether what was found is clearly less than what was asked.
    bool Missed() const;
  };
  struct Field {
    FieldLayout layout;
    size_t capacity = 0;
    std::vector<std::string> queries;
    absl::flat_hash_set<size_t> hashes;  // of them
    Sums sums;
    uint64_t num_calibrations = 0;
  };

  void Remember(const SegmentQuery& query) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Of Check. Nothing: it was cancelled.
  static std::optional<double> RecallOf(const Asked& asked,
                                        const SealedSegment& segment,
                                        const CancelToken* cancel);
  void ForgetOthersThan(const View& view);
  void Calibrate(size_t field, const QuerySample& sample, const Sums& missed,
                 const CheckOptions& options, SealedSegment* segment);

  const std::function<void()> on_question_;
  std::atomic<uint64_t> num_offered_ = 0;
  mutable Mutex mu_;
  Random random_ ABSL_GUARDED_BY(mu_){0x5EED};
  std::vector<Field> fields_ ABSL_GUARDED_BY(mu_);
  // The next to be asked again.
  std::optional<Asked> asked_ ABSL_GUARDED_BY(mu_);

  // Of Check's thread: by the segment's number, one per field.
  absl::flat_hash_map<uint64_t, std::vector<Sums>> by_segment_;
  size_t next_segment_ = 0;
};

}  // namespace vicinal
