// Helpers of the engine's tests: folders, batches, waiting and an oracle.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/mutex.h"
#include "src/base/point_id.h"
#include "src/base/random.h"
#include "src/base/types.h"
#include "src/engine/collection.h"
#include "src/engine/database.h"
#include "src/engine/query.h"
#include "src/engine/schema.h"

namespace vicinal {

// A fresh folder, removed at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Counts the engine's named points and lets a test wait for them. Thread-safe.
class HookLog {
 public:
  std::function<void(absl::string_view)> hook();
  // Waits until `point` was passed `count` times in all; false after a minute.
  bool WaitFor(absl::string_view point, size_t count);
  size_t CountOf(absl::string_view point) const;

 private:
  mutable Mutex mu_;
  CondVar cv_;
  std::map<std::string, size_t> counts_ ABSL_GUARDED_BY(mu_);
};

// Small segments, no delays, one build thread.
DatabaseOptions TestOptions();

// Opens the database at `path` and the collection of the schema's name, which
// is created where it is not there. Closes *collection and *database before.
absl::Status OpenCollection(const std::string& path,
                            const DatabaseOptions& options,
                            const CollectionSchema& schema,
                            std::unique_ptr<Database>* database,
                            std::shared_ptr<Collection>* collection);

// One vector field called "v".
CollectionSchema SchemaOf(std::string name, size_t dim, Metric metric,
                          ElementType type = ElementType::kFloat32,
                          IndexKind index = IndexKind::kHnsw);

// Rows of one field, each the elements' bytes; owns what a PointBatch borrows.
class BatchBuilder {
 public:
  explicit BatchBuilder(const CollectionSchema& schema) : schema_(schema) {}
  // vectors: by field number, empty: the point has none.
  BatchBuilder& Add(PointId id, const std::vector<std::string>& vectors,
                    std::string payload = "");
  const PointBatch& batch();
  size_t size() const { return ids_.size(); }

 private:
  const CollectionSchema& schema_;
  std::vector<PointId> ids_;
  std::vector<std::vector<std::string>> vectors_;
  std::vector<std::string> payloads_;
  std::vector<std::string> columns_;
  PointBatch batch_;
};

// Replaces points 0 to num_points - 1 of a collection with one vector field, in
// one commit a round: round 0 when it is made, the others on a thread of its
// own until Stop. Vectors are random, and payload(i, round) is point i's.
class Rewriter {
 public:
  Rewriter(Collection* collection, uint64_t num_points,
           std::function<std::string(uint64_t i, uint64_t round)> payload);
  ~Rewriter() { Stop().IgnoreError(); }
  // Rounds behind round 0; more than any number after an error.
  uint64_t num_rounds() const { return num_rounds_; }
  // The first error of a round, which was then the last.
  absl::Status Stop();

 private:
  absl::Status Write(uint64_t round);

  Collection* const collection_;
  const uint64_t num_points_;
  const std::function<std::string(uint64_t, uint64_t)> payload_;
  std::atomic<uint64_t> num_rounds_ = 0;
  std::atomic<bool> stop_ = false;
  absl::Status status_;  // of the thread while it runs
  std::thread thread_;
};

std::string Bytes(const std::vector<float>& values);
// A random vector in the field's type: Gaussian floats, uniform integers.
std::string RandomVector(const VectorField& field, Random& random);

Query Nearest(absl::string_view vector_name, std::string vector, size_t k,
              bool exact = false);

// Waits for the operation; its status, or DeadlineExceeded after two minutes.
absl::Status Finished(const absl::StatusOr<std::shared_ptr<Operation>>& op);

// What a collection should hold, in the simplest way there is.
class Oracle {
 public:
  struct Stored {
    std::vector<std::string> vectors;
    std::string payload;
    friend bool operator==(const Stored&, const Stored&) = default;
  };
  explicit Oracle(CollectionSchema schema) : schema_(std::move(schema)) {}

  void Upsert(const PointId& id, Stored stored) { points_[id] = stored; }
  bool Delete(const PointId& id) { return points_.erase(id) > 0; }
  const std::map<PointId, Stored>& points() const { return points_; }
  // The k smallest distances of one field, as Hit::distance.
  std::vector<float> Distances(size_t field, const std::string& query,
                               size_t k) const;
  float Distance(size_t field, const std::string& a,
                 const std::string& b) const;
  // Compares count, all points by scroll, and exact searches (one random
  // query for each field) with a collection; the first difference found.
  absl::Status Compare(const Collection& collection, Random& random) const;

 private:
  absl::Status CompareSearch(const Collection& collection, size_t field,
                             Random& random) const;

  CollectionSchema schema_;
  std::map<PointId, Stored> points_;
};

// Mean share of the true k nearest that are found.
double Recall(const Collection& collection, const Oracle& oracle, size_t field,
              const std::vector<std::string>& queries, size_t k,
              std::optional<size_t> ef);

}  // namespace vicinal
