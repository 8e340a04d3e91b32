// Recall floors of every metric, codec and index through the life of a
// collection.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "quant/codec.h"
#include "src/base/random.h"
#include "src/base/section_file.h"
#include "src/engine/database.h"
#include "src/engine/segment_file.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

struct Setting {
  const char* name;
  Metric metric;
  CodecSpec codec;
  uint64_t code_bytes_per_row;  // 0: no codes
  IndexKind index = IndexKind::kHnsw;
};

CollectionSchema SchemaFor(const Setting& setting, size_t dim) {
  CollectionSchema schema = SchemaOf("r", dim, setting.metric);
  schema.vectors[0].codec = setting.codec;
  schema.vectors[0].index = setting.index;
  return schema;
}

class RecallTest : public ::testing::TestWithParam<Setting> {
 protected:
  static constexpr size_t kDim = 24;

  RecallTest() : schema_(SchemaFor(GetParam(), kDim)), oracle_(schema_) {
    options_.growing_segment_bytes = size_t{4} << 20;
    Open();
  }
  void Open() {
    auto database = Database::Open(folder_.path(), options_);
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
    auto collection = database_->GetCollection("r");
    if (!collection.ok()) collection = database_->CreateCollection(schema_);
    ASSERT_TRUE(collection.ok()) << collection.status();
    collection_ = *collection;
  }
  // Clustered data: Gaussian clouds around 40 centres.
  std::string Clustered() {
    Random centre(random_.Uniform(40));
    std::vector<float> values(kDim);
    for (float& value : values) {
      value = static_cast<float>(2 * centre.Gaussian() + random_.Gaussian());
    }
    return Bytes(values);
  }
  void Upsert(uint64_t first, uint64_t count) {
    for (uint64_t begin = first; begin < first + count; begin += 1000) {
      BatchBuilder points(collection_->schema());
      for (uint64_t id = begin; id < std::min(begin + 1000, first + count);
           ++id) {
        const std::string vector = Clustered();
        points.Add(PointId(id), {vector});
        oracle_.Upsert(PointId(id), {{vector}, ""});
      }
      ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
    }
  }
  void Delete(uint64_t first, uint64_t count) {
    std::vector<PointId> ids;
    for (uint64_t id = first; id < first + count; ++id) {
      ids.push_back(PointId(id));
      oracle_.Delete(ids.back());
    }
    ASSERT_TRUE(collection_->Delete(ids).status.ok());
  }
  void Optimize() {
    const absl::Status status = Finished(collection_->Optimize(1));
    ASSERT_TRUE(status.ok()) << status;
  }
  void ExpectRecall(const char* stage) {
    std::vector<std::string> queries;
    for (int i = 0; i < 60; ++i) queries.push_back(Clustered());
    EXPECT_GE(Recall(*collection_, oracle_, 0, queries, 10, 64), 0.93)
        << stage << ", ef 64";
    EXPECT_GE(Recall(*collection_, oracle_, 0, queries, 10, std::nullopt), 0.93)
        << stage << ", recall target 0.95";
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  CollectionSchema schema_;
  Oracle oracle_;
  Random random_{77};
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_P(RecallTest, HoldsThroughBuildUpsertDeleteRestartAndMerge) {
  Upsert(0, 6'000);
  Optimize();
  ExpectRecall("built");
  Upsert(0, 1'000);
  ExpectRecall("upserted over");
  Delete(2'000, 1'000);
  ExpectRecall("deleted");
  collection_.reset();
  database_.reset();
  Open();
  ExpectRecall("restarted");
  Upsert(10'000, 3'000);
  Optimize();
  const CollectionStats stats = collection_->stats();
  ASSERT_EQ(stats.segments.size(), 1u);
  const uint64_t records =
      stats.segments[0].num_rows * GetParam().code_bytes_per_row;
  if (stats.segments[0].indexes[0] == SegmentIndex::kGraph) {
    EXPECT_EQ(stats.segments[0].code_bytes, records);
  } else {
    // In blocks, whose records have no padding.
    EXPECT_EQ(stats.segments[0].code_bytes > 0, records > 0);
    EXPECT_LE(stats.segments[0].code_bytes, records);
  }
  ExpectRecall("merged");
}

// Rows in tight clouds find their neighbours in one list; queries between the
// clouds do not. The targets that they miss are noticed, and met from then on.
TEST(RecallWatchTest, MissedTargetsAreCalibratedWithTheQueriesAsked) {
  constexpr size_t kDim = 16;
  constexpr size_t kRows = 8'000;
  Random random(5);
  const auto row = [&] {
    Random centre(random.Uniform(kRows / 16));
    std::vector<float> values(kDim);
    for (float& value : values) {
      value = static_cast<float>(centre.Gaussian() + 0.01 * random.Gaussian());
    }
    return Bytes(values);
  };
  const auto between = [&] {
    std::vector<float> values(kDim);
    for (float& value : values) value = static_cast<float>(random.Gaussian());
    return Bytes(values);
  };
  TempFolder folder;
  DatabaseOptions options = TestOptions();
  options.growing_segment_bytes = size_t{4} << 20;
  options.recall_check_ms = 1;
  std::atomic<int> num_told = 0;
  options.warn = [&](absl::string_view what) {
    num_told += absl::StrContains(what, "calibrated with");
  };
  CollectionSchema schema = SchemaOf("r", kDim, Metric::kL2);
  schema.vectors[0].index = IndexKind::kIvf;
  Oracle oracle(schema);
  auto database = Database::Open(folder.path(), options);
  ASSERT_TRUE(database.ok()) << database.status();
  auto collection = (*database)->CreateCollection(schema);
  ASSERT_TRUE(collection.ok()) << collection.status();
  for (uint64_t begin = 0; begin < kRows; begin += 1'000) {
    BatchBuilder points((*collection)->schema());
    for (uint64_t id = begin; id < begin + 1'000; ++id) {
      const std::string value = row();
      points.Add(PointId(id), {value});
      oracle.Upsert(PointId(id), {{value}, ""});
    }
    ASSERT_TRUE((*collection)->Upsert(points.batch()).status.ok());
  }
  ASSERT_TRUE(Finished((*collection)->Optimize(1)).ok());
  const auto recall = [&] {
    std::vector<std::string> queries;
    for (int i = 0; i < 200; ++i) queries.push_back(between());
    return Recall(**collection, oracle, 0, queries, 10, std::nullopt);
  };
  const double before = recall();
  ASSERT_LT(before, 0.92);
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::seconds(60);
  uint64_t num_calibrations = 0;
  while (num_calibrations == 0 && std::chrono::steady_clock::now() < deadline) {
    std::vector<Query> queries;
    for (int i = 0; i < 64; ++i) {
      queries.push_back(Nearest("v", between(), 10));
    }
    ASSERT_TRUE((*collection)->Search(queries, {}).ok());
    for (const RecallStats& stats : (*collection)->stats().recall) {
      num_calibrations = stats.num_calibrations;
      if (stats.num_queries > 0) {
        EXPECT_NEAR(stats.asked, 0.95, 1e-6);
      }
    }
  }
  EXPECT_GE(num_calibrations, 1u);
  EXPECT_GE(num_told.load(), 1);
  EXPECT_GE(recall(), 0.9) << "before: " << before;
}

// Queries along other axes than the rows get a basis of their own.
TEST(RecallWatchTest, BuildsLearnFromTheQueriesAsked) {
  constexpr size_t kDim = 32;
  Random random(6);
  const auto along = [&](bool first_axes) {
    std::vector<float> values(kDim);
    for (size_t j = 0; j < kDim; ++j) {
      const size_t place = first_axes ? j : kDim - 1 - j;
      values[j] = static_cast<float>(random.Gaussian() / (1.0 + 0.5 * place));
    }
    return Bytes(values);
  };
  TempFolder folder;
  CollectionSchema schema = SchemaOf("r", kDim, Metric::kInnerProduct);
  schema.vectors[0].codec = {CodecSpec::Kind::kSaq, 4};
  auto database = Database::Open(folder.path(), TestOptions());
  ASSERT_TRUE(database.ok()) << database.status();
  const auto collection = *(*database)->CreateCollection(schema);
  const auto upsert = [&](uint64_t first, uint64_t count) {
    BatchBuilder points(collection->schema());
    for (uint64_t id = first; id < first + count; ++id) {
      points.Add(PointId(id), {along(true)});
    }
    ASSERT_TRUE(collection->Upsert(points.batch()).status.ok());
    ASSERT_TRUE(Finished(collection->Optimize(1)).ok());
  };
  const auto has_query_basis = [&] {
    std::string newest;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(folder.path())) {
      if (entry.path().extension() == ".seg") newest = entry.path();
    }
    const auto file = SectionFile::Open(newest, segment_file::kIndexKind,
                                        segment_file::kIndexVersion,
                                        SectionFile::Verify::kAll);
    EXPECT_TRUE(file.ok()) << file.status();
    const auto codec = Codec::Parse(*(*file)->Section("M0"));
    EXPECT_TRUE(codec.ok()) << codec.status();
    return (*codec)->has_query_basis();
  };
  upsert(0, 3'000);
  EXPECT_FALSE(has_query_basis());
  for (int batch = 0; batch < 40; ++batch) {
    std::vector<Query> queries;
    for (int i = 0; i < 500; ++i) {
      queries.push_back(Nearest("v", along(false), 10));
    }
    ASSERT_TRUE(collection->Search(queries, {}).ok());
  }
  upsert(3'000, 1'000);
  EXPECT_TRUE(has_query_basis());
}

// How far lists are read, learned from the queries asked, is stored.
TEST(RecallWatchTest, ReachesOfListsSurviveARestart) {
  constexpr size_t kDim = 16;
  constexpr size_t kClusters = 20;
  Random random(9);
  std::vector<float> centres(kClusters * kDim);
  for (float& value : centres) {
    value = 20 * static_cast<float>(random.Gaussian());
  }
  // Half in narrow clusters, half spread over some dimensions.
  const auto vector = [&](uint64_t i) {
    std::vector<float> values(kDim);
    const float* centre = &centres[random.Uniform(kClusters) * kDim];
    for (size_t j = 0; j < kDim; ++j) {
      const auto noise = static_cast<float>(random.Gaussian());
      values[j] = i % 2 == 0 ? centre[j] + noise : j < 6 ? 20 * noise : 0;
    }
    return Bytes(values);
  };
  TempFolder folder;
  CollectionSchema schema = SchemaOf("r", kDim, Metric::kL2);
  schema.vectors[0].index = IndexKind::kIvf;
  auto database = Database::Open(folder.path(), TestOptions());
  ASSERT_TRUE(database.ok()) << database.status();
  auto collection = *(*database)->CreateCollection(schema);
  const auto upsert = [&](uint64_t first, uint64_t count) {
    BatchBuilder points(collection->schema());
    for (uint64_t id = first; id < first + count; ++id) {
      points.Add(PointId(id), {vector(id)});
    }
    ASSERT_TRUE(collection->Upsert(points.batch()).status.ok());
    ASSERT_TRUE(Finished(collection->Optimize(1)).ok());
  };
  upsert(0, 4'000);
  std::vector<Query> queries;
  for (int i = 0; i < 500; ++i) queries.push_back(Nearest("v", vector(i), 10));
  for (int batch = 0; batch < 40; ++batch) {
    ASSERT_TRUE(collection->Search(queries, {}).ok());
  }
  upsert(4'000, 1'000);

  const auto found = [&] {
    std::vector<Ordinal> ordinals;
    const auto results = collection->Search(queries, {});
    EXPECT_TRUE(results.ok()) << results.status();
    for (const SearchResult& result : *results) {
      for (const Hit& hit : result.hits) ordinals.push_back(hit.ordinal);
    }
    return ordinals;
  };
  const auto before = found();
  bool has_reach = false;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(folder.path())) {
    if (entry.path().extension() != ".seg") continue;
    const auto file = SectionFile::Open(entry.path(), segment_file::kIndexKind,
                                        segment_file::kIndexVersion,
                                        SectionFile::Verify::kAll);
    ASSERT_TRUE(file.ok()) << file.status();
    const absl::string_view meta = *(*file)->Section("META");
    segment_file::FieldMeta field;
    ASSERT_GE(meta.size(), 24 + sizeof(field));
    std::memcpy(&field, meta.data() + 24, sizeof(field));
    has_reach |= (field.flags & segment_file::kHasReach) != 0;
  }
  EXPECT_TRUE(has_reach);
  collection.reset();
  database->reset();
  database = Database::Open(folder.path(), TestOptions());
  ASSERT_TRUE(database.ok()) << database.status();
  collection = *(*database)->GetCollection("r");
  EXPECT_EQ(found(), before);
}

// Short rows without structure are hard to walk and quickly scanned, long ones
// of few inner dimensions the opposite.
TEST(AutomaticIndexTest, KeepsTheFasterOfGraphAndLists) {
  for (const size_t inner_dims : {8, 40}) {
    const size_t dim = inner_dims == 8 ? 400 : 40;
    Random random(8);
    std::vector<float> map(inner_dims * dim);
    for (float& value : map) value = static_cast<float>(random.Gaussian());
    const auto row = [&] {
      std::vector<float> values(dim);
      for (size_t i = 0; i < inner_dims; ++i) {
        const auto weight = static_cast<float>(random.Gaussian());
        for (size_t j = 0; j < dim; ++j) values[j] += weight * map[i * dim + j];
      }
      return Bytes(values);
    };
    TempFolder folder;
    DatabaseOptions options = TestOptions();
    options.growing_segment_bytes = size_t{64} << 20;
    CollectionSchema schema = SchemaOf("r", dim, Metric::kL2);
    schema.vectors[0].index = IndexKind::kAuto;
    if (inner_dims == 8) schema.vectors[0].codec.kind = CodecSpec::Kind::kNone;
    auto database = Database::Open(folder.path(), options);
    ASSERT_TRUE(database.ok()) << database.status();
    auto collection = *(*database)->CreateCollection(schema);
    for (uint64_t first = 0; first < 3'000; first += 1'000) {
      BatchBuilder points(schema);
      for (uint64_t id = first; id < first + 1'000; ++id) {
        points.Add(PointId(id), {row()});
      }
      ASSERT_TRUE(collection->Upsert(points.batch()).status.ok());
    }
    ASSERT_TRUE(Finished(collection->Optimize(1)).ok());
    const SegmentIndex expected =
        inner_dims == 8 ? SegmentIndex::kGraph : SegmentIndex::kLists;
    const auto chosen = [&] {
      const CollectionStats stats = collection->stats();
      EXPECT_EQ(stats.segments.size(), 1u);
      return stats.segments[0].indexes;
    };
    EXPECT_EQ(chosen(), std::vector{expected}) << inner_dims;
    // An effort for one kind is for it only; the other follows the target.
    const auto distances = [&](std::optional<size_t> ef,
                               std::optional<size_t> nprobe) {
      RetrieveStage stage;
      stage.vector_name = "v";
      stage.query = row();
      stage.ef = ef;
      stage.nprobe = nprobe;
      std::vector<Query> queries(1);
      queries[0].stage = std::move(stage);
      const auto found = collection->Search(queries, {});
      EXPECT_TRUE(found.ok()) << found.status();
      return (*found)[0].stats.distance_computations;
    };
    const uint64_t by_target = distances({}, {});
    if (expected == SegmentIndex::kGraph) {
      EXPECT_GT(distances(1'000, {}), 2 * by_target);
      EXPECT_LT(distances({}, 10'000), 2 * by_target);
    } else {
      EXPECT_GT(distances({}, 10'000), by_target);
      EXPECT_LT(distances(10'000, {}), 2 * by_target);
    }
    collection.reset();
    database->reset();
    database = Database::Open(folder.path(), options);
    ASSERT_TRUE(database.ok()) << database.status();
    collection = *(*database)->GetCollection("r");
    EXPECT_EQ(chosen(), std::vector{expected}) << "after a restart";
  }
}

using Kind = CodecSpec::Kind;
INSTANTIATE_TEST_SUITE_P(
    Settings, RecallTest,
    ::testing::Values(
        Setting{"L2", Metric::kL2, {}, 0},
        Setting{"InnerProduct", Metric::kInnerProduct, {}, 0},
        Setting{"Cosine", Metric::kCosine, {}, 0},
        Setting{"L2Saq4", Metric::kL2, {Kind::kSaq, 4}, 32},
        Setting{"InnerProductSaq4", Metric::kInnerProduct, {Kind::kSaq, 4}, 32},
        Setting{"CosineSaq4", Metric::kCosine, {Kind::kSaq, 4}, 32},
        Setting{"L2Rbq2", Metric::kL2, {Kind::kRbq, 2}, 16},
        Setting{"CosineRbq4", Metric::kCosine, {Kind::kRbq, 4}, 32},
        Setting{"InnerProductSq8", Metric::kInnerProduct, {Kind::kSq8, 0}, 48},
        Setting{"L2Ivf", Metric::kL2, {}, 0, IndexKind::kIvf},
        Setting{
            "InnerProductIvf", Metric::kInnerProduct, {}, 0, IndexKind::kIvf},
        Setting{"CosineIvf", Metric::kCosine, {}, 0, IndexKind::kIvf},
        Setting{"L2IvfSaq4", Metric::kL2, {Kind::kSaq, 4}, 32, IndexKind::kIvf},
        Setting{"InnerProductIvfSaq4",
                Metric::kInnerProduct,
                {Kind::kSaq, 4},
                32,
                IndexKind::kIvf},
        Setting{
            "L2FlatRbq4", Metric::kL2, {Kind::kRbq, 4}, 32, IndexKind::kFlat},
        Setting{"CosineFlatSaq4",
                Metric::kCosine,
                {Kind::kSaq, 4},
                32,
                IndexKind::kFlat},
        Setting{"CosineIvfRbq2",
                Metric::kCosine,
                {Kind::kRbq, 2},
                16,
                IndexKind::kIvf}),
    [](const auto& setting) { return std::string(setting.param.name); });

}  // namespace
}  // namespace vicinal
