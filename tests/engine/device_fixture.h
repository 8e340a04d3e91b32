// A database with devices, and two collections that tell it from the CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/mutex.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/payload/filter_text.h"
#include "tests/engine/device_testing.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {

// Two collections with the same points: "gpu", and "cpu", which no device is
// asked about.
class DeviceSearchTest : public ::testing::Test {
 protected:
  DeviceSearchTest() {
    options_.recall_check_ms = 0;
    options_.growing_segment_bytes = size_t{64} << 20;
    options_.devices = {&device_};
    options_.warn = [this](absl::string_view what) {
      MutexLock lock(mu_);
      warnings_.emplace_back(what);
    };
  }

  void Open() {
    collections_.clear();
    database_.reset();
    auto database = Database::Open(folder_.path(), options_);
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
    for (const auto& collection : database_->ListCollections()) {
      collections_.push_back(collection);
    }
  }
  void Create(CollectionSchema schema, GpuUse gpu = GpuUse::kRequire) {
    if (database_ == nullptr) Open();
    schema_ = schema;
    for (const char* name : {"cpu", "gpu"}) {
      schema.name = name;
      schema.gpu = name == std::string("cpu") ? GpuUse::kNever : gpu;
      auto created = database_->CreateCollection(schema);
      ASSERT_TRUE(created.ok()) << created.status();
      collections_.push_back(*created);
    }
  }
  Collection& cpu() { return *collections_[0]; }
  Collection& gpu() { return *collections_[1]; }

  std::string Vector() { return RandomVector(schema_.vectors[0], random_); }
  // One in eight has no vector of the last field, where there are several.
  void Upsert(uint64_t first, uint64_t count) {
    BatchBuilder batch(schema_);
    for (uint64_t i = first; i < first + count; ++i) {
      std::vector<std::string> vectors;
      for (const VectorField& field : schema_.vectors) {
        vectors.push_back(RandomVector(field, random_));
      }
      if (vectors.size() > 1 && i % 8 == 0) vectors.back().clear();
      batch.Add(PointId(i), vectors, absl::StrCat(R"({"n": )", i % 10, "}"));
    }
    for (const auto& collection : collections_) {
      ASSERT_TRUE(collection->Upsert(batch.batch()).status.ok());
    }
  }
  void Delete(uint64_t first, uint64_t count) {
    std::vector<PointId> ids;
    for (uint64_t i = first; i < first + count; ++i) ids.emplace_back(i);
    for (const auto& collection : collections_) {
      ASSERT_TRUE(collection->Delete(ids).status.ok());
    }
  }
  // A segment that is smaller than those that are there stays beside them.
  void Seal(size_t max_segments = 1) {
    for (const auto& collection : collections_) {
      ASSERT_TRUE(Finished(collection->Optimize(max_segments)).ok());
    }
  }

  static std::vector<SearchResult> Search(const Collection& collection,
                                          const std::vector<Query>& queries) {
    auto results = collection.Search(queries, {});
    EXPECT_TRUE(results.ok()) << results.status();
    return results.ok() ? *std::move(results)
                        : std::vector<SearchResult>(queries.size());
  }
  static SearchResult Search(const Collection& collection, Query query) {
    std::vector<Query> queries;
    queries.push_back(std::move(query));
    return std::move(Search(collection, queries)[0]);
  }
  static std::vector<std::pair<PointId, float>> HitsOf(
      const SearchResult& result) {
    std::vector<std::pair<PointId, float>> hits;
    for (const Hit& hit : result.hits) hits.emplace_back(hit.id, hit.distance);
    return hits;
  }
  // An exact query, explained.
  Query Ask(const std::string& vector, size_t k, size_t field = 0) {
    Query query = Nearest(schema_.vectors[field].name, vector, k, true);
    query.explain = true;
    return query;
  }
  // Asks both; what "gpu" said about its segments.
  std::vector<SegmentExplanation> ExpectAllTheSame(
      const std::string& vector, size_t k, const char* filter = nullptr,
      std::vector<PointId> excluded = {}, size_t field = 0) {
    SearchResult results[2];
    for (size_t i = 0; i < 2; ++i) {
      Query query = Ask(vector, k, field);
      auto& stage = std::get<RetrieveStage>(query.stage);
      if (filter != nullptr) stage.filter = Parsed(filter);
      stage.excluded_ids = excluded;
      results[i] = Search(*collections_[i], std::move(query));
    }
    EXPECT_EQ(HitsOf(results[0]), HitsOf(results[1]));
    EXPECT_FALSE(results[0].hits.empty());
    EXPECT_EQ(results[0].exact, results[1].exact);
    return results[1].explanation;
  }
  // The same; what it said about the first.
  SegmentExplanation ExpectTheSame(const std::string& vector, size_t k,
                                   const char* filter = nullptr,
                                   std::vector<PointId> excluded = {},
                                   size_t field = 0) {
    const auto all =
        ExpectAllTheSame(vector, k, filter, std::move(excluded), field);
    return all.empty() ? SegmentExplanation() : all[0];
  }
  static std::shared_ptr<const FilterNode> Parsed(const char* text) {
    auto filter = ParseFilter(text);
    EXPECT_TRUE(filter.ok()) << filter.status();
    return std::make_shared<const FilterNode>(*std::move(filter));
  }
  DeviceStats stats(size_t device = 0) const {
    return database_->stats().devices.at(device);
  }
  void WaitForResident(size_t n) {
    while (stats().residency.num_segments != n) std::this_thread::yield();
  }
  // The last to let go of a copy may be another thread.
  void WaitForCopies(size_t n) const {
    while (device_.num_copies() != n) std::this_thread::yield();
  }
  std::vector<std::string> warnings() {
    MutexLock lock(mu_);
    return warnings_;
  }

  Random random_{7};
  TempFolder folder_;
  TestDevice device_;
  TestDevice other_{"test:1"};  // not used, unless a test says so
  DatabaseOptions options_ = TestOptions();
  CollectionSchema schema_;
  Mutex mu_;
  std::vector<std::string> warnings_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Database> database_;
  std::vector<std::shared_ptr<Collection>> collections_;
};

}  // namespace vicinal
