// Helpers of the engine's tests: folders, batches, waiting and an oracle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
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
