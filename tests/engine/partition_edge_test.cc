// Partition keys where something is unusual: sizes, types of keys, vectors that
// are missing, metrics, indexes, deletes, damaged files. Always against a scan
// of all points.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/payload/filter_text.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

// How tenants share the points.
enum class Shape : uint8_t {
  kOne,      // all of one
  kSingles,  // each of its own
  kMixed,  // 5,000 of one, 600 of another, the rest of twenty points each; one
           // in ten of a second tenant, too, and one in twenty of none
  kNone,   // no point has one
};

struct Case {
  const char* name;
  Shape shape = Shape::kMixed;
  Metric metric = Metric::kL2;
  ElementType type = ElementType::kFloat32;
  size_t dim = 40;
  IndexKind index = IndexKind::kIvf;
  CodecSpec::Kind codec = CodecSpec::Kind::kAuto;
  PayloadType key = PayloadType::kKeyword;
  size_t num_points = 6'500;
  size_t num_vectors = 1;  // more: of each, some points have none
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class PartitionEdgeTest : public ::testing::TestWithParam<Case> {
 protected:
  PartitionEdgeTest() {
    options_.growing_segment_bytes = size_t{32} << 20;
    options_.recall_check_ms = 0;
    const Case& c = GetParam();
    schema_ = SchemaOf("p", c.dim, c.metric, c.type, c.index);
    schema_.vectors[0].codec.kind = c.codec;
    for (size_t f = 1; f < c.num_vectors; ++f) {
      schema_.vectors.push_back(schema_.vectors[0]);
      schema_.vectors[f].name = absl::StrCat("v", f);
    }
    schema_.payload_fields = {{"tenant", c.key},
                              {"price", PayloadType::kInt64}};
    schema_.partition_key = "tenant";
    Open();
    collection_ = *database_->CreateCollection(schema_);
  }

  void Open() {
    database_ = *Database::Open(folder_.path(), options_);
    if (const auto found = database_->GetCollection("p"); found.ok()) {
      collection_ = *found;
    }
  }
  void Close() {
    collection_.reset();
    database_.reset();
  }

  struct Point {
    std::vector<std::string> vectors;
    std::set<uint64_t> tenants;
    uint64_t price = 0;
  };

  std::set<uint64_t> TenantsOf(uint64_t id) {
    switch (GetParam().shape) {
      case Shape::kOne:
        return {7};
      case Shape::kSingles:
        return {id};
      case Shape::kNone:
        return {};
      case Shape::kMixed:
        break;
    }
    if (id % 20 == 0) return {};
    std::set<uint64_t> tenants = {id < 5'300 ? 1 : id < 5'950 ? 2 : id / 20};
    if (id % 10 == 1) tenants.insert(1 + random_.Uniform(300));
    return tenants;
  }
  // As it stands in a payload or, quoted otherwise, in a filter.
  std::string KeyText(uint64_t tenant, char quote) const {
    const std::string q(1, quote);
    switch (GetParam().key) {
      case PayloadType::kInt64:  // of both signs
        return absl::StrCat(static_cast<int64_t>(tenant) - 100);
      case PayloadType::kUuid:
        return absl::StrCat(
            q, absl::StrFormat("00000000-0000-4000-8000-%012x", tenant), q);
      default:
        return absl::StrCat(q, "t", tenant, q);
    }
  }

  void UpsertAll() {
    BatchBuilder batch(schema_);
    for (uint64_t id = 0; id < GetParam().num_points; ++id) {
      Point point{.tenants = TenantsOf(id), .price = id % 10};
      for (size_t f = 0; f < schema_.vectors.size(); ++f) {
        const bool is_missing = schema_.vectors.size() > 1 && (id + f) % 7 == 0;
        point.vectors.push_back(
            is_missing ? "" : RandomVector(schema_.vectors[f], random_));
      }
      std::string keys;
      for (const uint64_t tenant : point.tenants) {
        absl::StrAppend(&keys, keys.empty() ? "" : ",", KeyText(tenant, '"'));
      }
      batch.Add(PointId(id), point.vectors,
                absl::StrCat(R"({"tenant":[)", keys, R"(],"price":)",
                             point.price, "}"));
      points_[id] = std::move(point);
    }
    ASSERT_TRUE(collection_->Upsert(batch.batch()).status.ok());
  }
  void DeleteTenant(uint64_t tenant) {
    std::vector<PointId> ids;
    for (const auto& [id, point] : points_) {
      if (point.tenants.contains(tenant)) ids.emplace_back(id);
    }
    ASSERT_TRUE(collection_->Delete(ids).status.ok());
    std::erase_if(points_, [&](const auto& entry) {
      return entry.second.tenants.contains(tenant);
    });
  }

  // Hits of a search of field f, the condition on the price being left out at
  // 10; the share of the true nearest among them.
  double Check(size_t f, uint64_t tenant, uint64_t price) {
    const std::string vector = RandomVector(schema_.vectors[f], random_);
    std::vector<std::pair<float, PointId>> truth;
    for (const auto& [id, point] : points_) {
      if (point.vectors[f].empty() || !point.tenants.contains(tenant) ||
          point.price >= price) {
        continue;
      }
      truth.emplace_back(Oracle(schema_).Distance(f, vector, point.vectors[f]),
                         id);
    }
    std::sort(truth.begin(), truth.end());
    if (truth.size() > 10) truth.resize(10);
    std::string filter = absl::StrCat("tenant = ", KeyText(tenant, '\''));
    if (price < 10) absl::StrAppend(&filter, " AND price < ", price);
    double found = 0;
    for (const bool exact : {true, false}) {
      Query query = Nearest(schema_.vectors[f].name, vector, 10, exact);
      std::get<RetrieveStage>(query.stage).filter =
          std::make_shared<const FilterNode>(*ParseFilter(filter));
      std::vector<Query> queries;
      queries.push_back(std::move(query));
      const auto results = collection_->Search(queries, {});
      EXPECT_TRUE(results.ok()) << results.status();
      if (!results.ok()) return 0;
      const std::vector<Hit>& hits = (*results)[0].hits;
      EXPECT_EQ(hits.size(), truth.size()) << filter;
      for (size_t i = 0; i < std::min(hits.size(), truth.size()); ++i) {
        if (exact) {
          EXPECT_EQ(hits[i].distance, truth[i].first) << filter;
        }
        found += !exact && hits[i].distance <= truth.back().first;
      }
    }
    return truth.empty() ? 1 : found / static_cast<double>(truth.size());
  }
  void CheckAll(const char* when) {
    std::vector<uint64_t> tenants = {1, 2, 7, 350, 399, 1'000'000};
    for (int i = 0; i < 10; ++i) tenants.push_back(random_.Uniform(8'000));
    double recall = 0;
    double num_checks = 0;
    for (const uint64_t tenant : tenants) {
      for (size_t f = 0; f < schema_.vectors.size(); ++f) {
        for (const uint64_t price : {10, 10, 4}) {
          recall += Check(f, tenant, price);
          ++num_checks;
        }
      }
      const auto count = collection_->CountMatching(
          *ParseFilter(absl::StrCat("tenant = ", KeyText(tenant, '\''))), {});
      ASSERT_TRUE(count.ok()) << count.status();
      EXPECT_EQ(*count,
                std::count_if(points_.begin(), points_.end(),
                              [&](const auto& entry) {
                                return entry.second.tenants.contains(tenant);
                              }))
          << when << " " << tenant;
    }
    EXPECT_GE(recall / num_checks, 0.93) << when;
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  CollectionSchema schema_;
  Random random_{17};
  std::map<uint64_t, Point> points_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_P(PartitionEdgeTest, FindsWhatAScanOfAllPointsFinds) {
  UpsertAll();
  CheckAll("growing");
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  CheckAll("sealed");
  DeleteTenant(2);
  DeleteTenant(350);
  if (GetParam().shape != Shape::kOne) DeleteTenant(7);
  CheckAll("deleted");
  Close();
  // Every index of a payload field.
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(folder_.path())) {
    if (file.path().extension() != ".fidx") continue;
    std::fstream bytes(file.path(),
                       std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(static_cast<std::streamoff>(file.file_size()) - 1);
    bytes.put('\x7F');
  }
  Open();
  CheckAll("reopened over damaged payload indexes");
  // Left half built.
  ASSERT_TRUE(collection_->Optimize(1).ok());
  Close();
  Open();
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  CheckAll("built again");
}

INSTANTIATE_TEST_SUITE_P(
    All, PartitionEdgeTest,
    ::testing::Values(
        Case{.name = "Mixed"}, Case{.name = "OfOne", .shape = Shape::kOne},
        Case{.name = "Singles", .shape = Shape::kSingles},
        Case{.name = "None", .shape = Shape::kNone},
        Case{.name = "Integers",
             .metric = Metric::kInnerProduct,
             .key = PayloadType::kInt64},
        Case{.name = "Uuids",
             .metric = Metric::kCosine,
             .key = PayloadType::kUuid},
        Case{.name = "FewDims", .dim = 6},
        Case{.name = "Flat", .index = IndexKind::kFlat},
        Case{.name = "FlatOverCodes",
             .index = IndexKind::kFlat,
             .codec = CodecSpec::Kind::kSaq},
        Case{.name = "FlatOverCodesMissing",
             .index = IndexKind::kFlat,
             .codec = CodecSpec::Kind::kSq8,
             .num_points = 6'000,
             .num_vectors = 2},
        Case{.name = "Missing", .num_points = 7'000, .num_vectors = 2},
        Case{.name = "Halves",
             .metric = Metric::kCosine,
             .type = ElementType::kFloat16},
        Case{.name = "Bytes", .type = ElementType::kInt8},
        Case{.name = "TooFewForAnIndex", .num_points = 500}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace vicinal
