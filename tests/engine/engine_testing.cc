#include "tests/engine/engine_testing.h"

#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/half.h"
#include "src/base/status_macros.h"
#include "src/distance/distance.h"
#include "src/engine/layout.h"

namespace vicinal {

TempFolder::TempFolder() {
  std::string name =
      (std::filesystem::temp_directory_path() / "vicinal-XXXXXX").string();
  VICINAL_CHECK(::mkdtemp(name.data()) != nullptr);
  path_ = name;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::function<void(absl::string_view)> HookLog::hook() {
  return [this](absl::string_view point) {
    MutexLock lock(mu_);
    ++counts_[std::string(point)];
    cv_.NotifyAll();
  };
}

bool HookLog::WaitFor(absl::string_view point, size_t count) {
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::minutes(1);
  MutexLock lock(mu_);
  while (counts_[std::string(point)] < count) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero()) return false;
    cv_.WaitFor(mu_, left);
  }
  return true;
}

size_t HookLog::CountOf(absl::string_view point) const {
  MutexLock lock(mu_);
  const auto found = counts_.find(std::string(point));
  return found == counts_.end() ? 0 : found->second;
}

absl::Status OpenCollection(const std::string& path,
                            const DatabaseOptions& options,
                            const CollectionSchema& schema,
                            std::unique_ptr<Database>* database,
                            std::shared_ptr<Collection>* collection) {
  collection->reset();
  database->reset();
  VICINAL_ASSIGN_OR_RETURN(*database, Database::Open(path, options));
  auto found = (*database)->GetCollection(schema.name);
  if (!found.ok()) found = (*database)->CreateCollection(schema);
  if (found.ok()) *collection = *std::move(found);
  return found.status();
}

Rewriter::Rewriter(
    Collection* collection, uint64_t num_points,
    std::function<std::string(uint64_t i, uint64_t round)> payload)
    : collection_(collection),
      num_points_(num_points),
      payload_(std::move(payload)),
      status_(Write(0)) {
  if (!status_.ok()) num_rounds_ = UINT64_MAX;
  thread_ = std::thread([this] {
    while (!stop_ && status_.ok()) {
      status_ = Write(num_rounds_ + 1);
      num_rounds_ = status_.ok() ? num_rounds_ + 1 : UINT64_MAX;
    }
  });
}

absl::Status Rewriter::Stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
  return status_;
}

absl::Status Rewriter::Write(uint64_t round) {
  Random random(round);
  BatchBuilder batch(collection_->schema());
  for (uint64_t i = 0; i < num_points_; ++i) {
    batch.Add(PointId(i),
              {RandomVector(collection_->schema().vectors[0], random)},
              payload_(i, round));
  }
  return collection_->Upsert(batch.batch()).status;
}

DatabaseOptions TestOptions() {
  DatabaseOptions options;
  options.build_threads = 1;
  options.query_threads = 2;
  options.growing_segment_bytes = size_t{256} << 10;
  options.build_delay_ms = 0;
  options.store.write_buffer_bytes = size_t{4} << 20;
  return options;
}

CollectionSchema SchemaOf(std::string name, size_t dim, Metric metric,
                          ElementType type, IndexKind index) {
  CollectionSchema schema;
  schema.name = std::move(name);
  VectorField field;
  field.name = "v";
  field.dim = dim;
  field.metric = metric;
  field.type = type;
  field.index = index;
  field.hnsw.ef_construction = 100;
  schema.vectors.push_back(field);
  return schema;
}

BatchBuilder& BatchBuilder::Add(PointId id,
                                const std::vector<std::string>& vectors,
                                std::string payload) {
  ids_.push_back(std::move(id));
  vectors_.push_back(vectors);
  payloads_.push_back(std::move(payload));
  return *this;
}

const PointBatch& BatchBuilder::batch() {
  batch_ = {};
  batch_.ids = ids_;
  columns_.assign(schema_.vectors.size(), "");
  for (size_t f = 0; f < schema_.vectors.size(); ++f) {
    const VectorField& field = schema_.vectors[f];
    VectorColumn column;
    column.name = field.name;
    column.dim = field.dim;
    column.type = field.type;
    for (size_t i = 0; i < ids_.size(); ++i) {
      if (f >= vectors_[i].size() || vectors_[i][f].empty()) continue;
      column.present.push_back(static_cast<uint32_t>(i));
      columns_[f] += vectors_[i][f];
    }
    if (column.present.empty()) continue;
    if (column.present.size() == ids_.size()) column.present.clear();
    column.data = columns_[f];
    batch_.vectors.push_back(std::move(column));
  }
  for (const std::string& payload : payloads_) {
    batch_.payloads.push_back(payload);
  }
  return batch_;
}

std::string Bytes(const std::vector<float>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(float));
}

std::string RandomVector(const VectorField& field, Random& random) {
  std::string out;
  for (size_t i = 0; i < field.dim; ++i) {
    switch (field.type) {
      case ElementType::kFloat32: {
        const auto value = static_cast<float>(random.Gaussian());
        out.append(reinterpret_cast<const char*>(&value), sizeof(value));
        break;
      }
      case ElementType::kFloat16: {
        const uint16_t half =
            FloatToHalf(static_cast<float>(random.Gaussian()));
        out.append(reinterpret_cast<const char*>(&half), sizeof(half));
        break;
      }
      case ElementType::kInt8:
      case ElementType::kUint8:
        out.push_back(static_cast<char>(1 + random.Uniform(127)));
        break;
      case ElementType::kBfloat16:
        break;  // of no dense vector
    }
  }
  return out;
}

Query Nearest(absl::string_view vector_name, std::string vector, size_t k,
              bool exact) {
  RetrieveStage stage;
  stage.vector_name = std::string(vector_name);
  stage.query = std::move(vector);
  stage.k = k;
  stage.exact = exact;
  Query query;
  query.stage = std::move(stage);
  return query;
}

absl::Status Finished(const absl::StatusOr<std::shared_ptr<Operation>>& op) {
  VICINAL_RETURN_IF_ERROR(op.status());
  if (!(*op)->Wait(std::chrono::steady_clock::now() +
                   std::chrono::minutes(2))) {
    return absl::DeadlineExceededError((*op)->info().phase);
  }
  return (*op)->info().status;
}

float Oracle::Distance(size_t f, const std::string& a,
                       const std::string& b) const {
  const FieldLayout field = LayoutOf(schema_).fields[f];
  const DistanceOps& ops = OpsFor(field.search_metric, field.type);
  if (!field.normalized) return ops.one(a.data(), b.data(), field.dim);
  std::vector<float> in(field.dim), unit_a(field.dim), unit_b(field.dim);
  std::memcpy(in.data(), a.data(), a.size());
  NormalizeInto(in.data(), field.dim, unit_a.data());
  std::memcpy(in.data(), b.data(), b.size());
  NormalizeInto(in.data(), field.dim, unit_b.data());
  return 1 + ops.one(unit_a.data(), unit_b.data(), field.dim);
}

std::vector<float> Oracle::Distances(size_t f, const std::string& query,
                                     size_t k) const {
  std::vector<float> distances;
  for (const auto& [id, stored] : points_) {
    if (f >= stored.vectors.size() || stored.vectors[f].empty()) continue;
    distances.push_back(Distance(f, query, stored.vectors[f]));
  }
  std::sort(distances.begin(), distances.end());
  if (distances.size() > k) distances.resize(k);
  return distances;
}

absl::Status Oracle::Compare(const Collection& collection,
                             Random& random) const {
  if (collection.Count() != points_.size()) {
    return absl::InternalError(absl::StrCat("count is ", collection.Count(),
                                            ", not ", points_.size()));
  }
  PointSelection everything;
  everything.payload = true;
  for (size_t f = 0; f < schema_.vectors.size(); ++f) {
    everything.vectors.push_back(f);
  }
  auto expected = points_.begin();
  absl::Status difference;
  VICINAL_RETURN_IF_ERROR(collection.Scroll(
      std::nullopt, 1 + random.Uniform(50), everything, {},
      [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
        for (StoredPoint& point : page) {
          if (expected == points_.end() || expected->first != point.id) {
            difference = absl::InternalError(
                absl::StrCat("unexpected point ", point.id.ToString()));
            return false;
          }
          Stored wanted = expected->second;
          wanted.vectors.resize(schema_.vectors.size());
          if (Stored{point.vectors, point.payload} != wanted) {
            difference = absl::InternalError(
                absl::StrCat("point ", point.id.ToString(), " differs"));
            return false;
          }
          ++expected;
        }
        return true;
      }));
  VICINAL_RETURN_IF_ERROR(difference);
  if (expected != points_.end()) {
    return absl::InternalError(
        absl::StrCat("point ", expected->first.ToString(), " is missing"));
  }
  for (size_t f = 0; f < schema_.vectors.size(); ++f) {
    VICINAL_RETURN_IF_ERROR(CompareSearch(collection, f, random));
  }
  return absl::OkStatus();
}

absl::Status Oracle::CompareSearch(const Collection& collection, size_t f,
                                   Random& random) const {
  const size_t k = 1 + random.Uniform(20);
  const std::string vector = RandomVector(schema_.vectors[f], random);
  std::vector<Query> queries;
  queries.push_back(Nearest(schema_.vectors[f].name, vector, k, true));
  queries.push_back(Nearest(schema_.vectors[f].name, vector, k, false));
  VICINAL_ASSIGN_OR_RETURN(const auto results, collection.Search(queries, {}));
  const std::vector<float> expected = Distances(f, vector, k);
  for (const SearchResult& result : results) {
    // The approximate one must be as long, without strangers or duplicates.
    if (result.hits.size() != expected.size()) {
      return absl::InternalError(absl::StrCat(
          "found ", result.hits.size(), " points, not ", expected.size()));
    }
    std::set<PointId> seen;
    for (size_t i = 0; i < expected.size(); ++i) {
      const Hit& hit = result.hits[i];
      const auto stored = points_.find(hit.id);
      if (stored == points_.end() || !seen.insert(hit.id).second) {
        return absl::InternalError(
            absl::StrCat("found ", hit.id.ToString(), " wrongly"));
      }
      const float distance = Distance(f, vector, stored->second.vectors[f]);
      if (hit.distance != distance ||
          (result.exact && hit.distance != expected[i])) {
        return absl::InternalError(absl::StrCat(
            "hit ", i, " (", hit.id.ToString(), ") has distance ", hit.distance,
            "; its own is ", distance, ", wanted ", expected[i]));
      }
    }
  }
  if (!results[0].exact) return absl::InternalError("not exact");
  return absl::OkStatus();
}

double Recall(const Collection& collection, const Oracle& oracle, size_t field,
              const std::vector<std::string>& queries, size_t k,
              std::optional<size_t> ef) {
  size_t found = 0;
  size_t wanted = 0;
  for (const std::string& vector : queries) {
    RetrieveStage stage;
    stage.vector_name = collection.schema().vectors[field].name;
    stage.query = vector;
    stage.k = k;
    stage.ef = ef;
    Query query;
    query.stage = stage;
    std::vector<Query> batch;
    batch.push_back(std::move(query));
    const auto results = collection.Search(batch, {});
    VICINAL_CHECK(results.ok());
    const std::vector<float> expected = oracle.Distances(field, vector, k);
    wanted += expected.size();
    for (const Hit& hit : results->front().hits) {
      found += !expected.empty() && hit.distance <= expected.back();
    }
  }
  return wanted == 0 ? 1.0
                     : static_cast<double>(found) / static_cast<double>(wanted);
}

}  // namespace vicinal
