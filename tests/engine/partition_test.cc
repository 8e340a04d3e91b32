// Collections divided by a partition key: what is found of one partition, and
// that nothing but it is read.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "index/ivf.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/payload/filter_text.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 40;

// Tenants of 1,700 rows and fewer share lists, those of 5,000 have their own.
class PartitionTest : public ::testing::Test {
 protected:
  PartitionTest() {
    options_.growing_segment_bytes = size_t{32} << 20;
    options_.recall_check_ms = 0;
    schema_ = SchemaOf("p", kDim, Metric::kL2, ElementType::kFloat32,
                       IndexKind::kIvf);
    schema_.vectors.push_back(schema_.vectors[0]);
    schema_.vectors[1].name = "w";
    schema_.payload_fields = {{"tenant", PayloadType::kKeyword},
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
  void Reopen() {
    collection_.reset();
    database_.reset();
    Open();
  }

  struct Point {
    std::vector<std::string> vectors;
    std::vector<std::string> tenants;
    uint64_t price = 0;
  };

  // Around one of a few places of the tenant's own.
  std::string VectorOf(absl::string_view tenant) {
    uint64_t seed = random_.Uniform(20);
    for (const char c : tenant) seed = 31 * seed + static_cast<uint8_t>(c);
    Random places(seed);
    std::vector<float> values;
    for (size_t i = 0; i < kDim; ++i) {
      values.push_back(
          static_cast<float>(3 * places.Gaussian() + random_.Gaussian()));
    }
    return Bytes(values);
  }

  // Points first .. first + count of a tenant; of one in ten the first vector
  // is missing.
  void Upsert(uint64_t first, size_t count,
              const std::vector<std::string>& tenants) {
    BatchBuilder batch(schema_);
    const std::string of = tenants.empty() ? "" : tenants[0];
    for (uint64_t i = first; i < first + count; ++i) {
      Point point{{VectorOf(of), VectorOf(of)}, tenants, i % 100};
      if (i % 10 == 9) point.vectors[0].clear();
      std::string list;
      for (const std::string& tenant : tenants) {
        absl::StrAppend(&list, list.empty() ? "" : ",", "\"", tenant, "\"");
      }
      if (tenants.size() != 1) list = absl::StrCat("[", list, "]");
      batch.Add(PointId(i), point.vectors,
                absl::StrCat(R"({"tenant":)", list, R"(,"price":)", point.price,
                             "}"));
      points_[i] = std::move(point);
    }
    ASSERT_TRUE(collection_->Upsert(batch.batch()).status.ok());
  }
  void Delete(uint64_t id) {
    ASSERT_TRUE(collection_->Delete({PointId(id)}).status.ok());
    points_.erase(id);
  }
  // Two tenants of 5,000, one of 1,700, forty of 30, and a hundred points of
  // none, in turns.
  void UpsertAll() {
    for (uint64_t part = 0; part < 10; ++part) {
      Upsert(10'000 + 500 * part, 500, {"large"});
      Upsert(20'000 + 170 * part, 170, {"middle"});
      Upsert(30'000 + 500 * part, 500, {"other"});
      Upsert(40'000 + 10 * part, 10, {});
      for (uint64_t i = 0; i < 40; ++i) {
        Upsert(50'000 + 1'000 * i + 3 * part, 3, {absl::StrCat("t", i)});
      }
    }
  }

  // Of a point that is there.
  std::string AnyTenant() {
    auto point = points_.begin();
    std::advance(point, random_.Uniform(points_.size()));
    return point->second.tenants.empty() ? "" : point->second.tenants[0];
  }
  bool IsOf(const Point& point, absl::string_view tenant) const {
    return std::find(point.tenants.begin(), point.tenants.end(), tenant) !=
           point.tenants.end();
  }

  SearchResult Search(const std::string& vector_name, const std::string& vector,
                      absl::string_view filter, bool exact) {
    Query query = Nearest(vector_name, vector, 10, exact);
    query.explain = true;
    if (!filter.empty()) {
      std::get<RetrieveStage>(query.stage).filter =
          std::make_shared<const FilterNode>(*ParseFilter(filter));
    }
    std::vector<Query> queries;
    queries.push_back(std::move(query));
    auto results = collection_->Search(queries, {});
    EXPECT_TRUE(results.ok()) << results.status();
    return results.ok() ? std::move((*results)[0]) : SearchResult();
  }

  // Mean recall@10 of 20 queries for a tenant's points of a price below
  // `price`, each asked exactly, too, and that compared with all points.
  double Recall(absl::string_view tenant, const std::string& filter,
                uint64_t price, size_t f = 0) {
    const VectorField& field = schema_.vectors[f];
    size_t found = 0;
    size_t wanted = 0;
    for (int q = 0; q < 20; ++q) {
      const std::string vector =
          VectorOf(tenant.empty() ? AnyTenant() : tenant);
      std::vector<std::pair<float, uint64_t>> truth;
      for (const auto& [id, point] : points_) {
        if (point.vectors[f].empty() || point.price >= price ||
            (!tenant.empty() && !IsOf(point, tenant))) {
          continue;
        }
        truth.emplace_back(
            Oracle(schema_).Distance(f, vector, point.vectors[f]), id);
      }
      std::sort(truth.begin(), truth.end());
      if (truth.size() > 10) truth.resize(10);
      const SearchResult exact = Search(field.name, vector, filter, true);
      const SearchResult result = Search(field.name, vector, filter, false);
      EXPECT_EQ(exact.hits.size(), truth.size()) << filter;
      EXPECT_EQ(result.hits.size(), truth.size()) << filter;
      wanted += truth.size();
      for (size_t i = 0; i < std::min(truth.size(), exact.hits.size()); ++i) {
        EXPECT_EQ(exact.hits[i].id, PointId(truth[i].second)) << filter;
        found += std::any_of(
            result.hits.begin(), result.hits.end(),
            [&](const Hit& hit) { return hit.id == PointId(truth[i].second); });
      }
    }
    return static_cast<double>(found) / static_cast<double>(wanted);
  }
  void CheckAll() {
    for (const char* tenant : {"large", "middle", "other", "t7", "t39"}) {
      const std::string is = absl::StrCat("tenant = '", tenant, "'");
      for (const size_t f : {0, 1}) {
        EXPECT_GE(Recall(tenant, is, 100, f), 0.93) << tenant;
        EXPECT_GE(Recall(tenant, is + " AND price < 30", 30, f), 0.93)
            << tenant;
      }
      EXPECT_GE(Recall(tenant,
                       absl::StrCat("tenant IN ('", tenant,
                                    "') AND price < 5 AND price >= 0"),
                       5),
                0.93)
          << tenant;
      EXPECT_EQ(
          *collection_->CountMatching(*ParseFilter(is), {}),
          std::count_if(points_.begin(), points_.end(), [&](const auto& entry) {
            return IsOf(entry.second, tenant);
          }));
    }
    EXPECT_GE(Recall("", "", 100), 0.93);
    EXPECT_GE(Recall("", "price < 10", 10), 0.93);
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  CollectionSchema schema_;
  Random random_{11};
  std::map<uint64_t, Point> points_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_F(PartitionTest, FindsWhatIsOfATenant) {
  UpsertAll();
  CheckAll();  // of growing segments
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  ASSERT_EQ(collection_->stats().segments.size(), 1u);
  CheckAll();
  EXPECT_EQ(*collection_->CountMatching(*ParseFilter("tenant IS NULL"), {}),
            100u);
}

TEST_F(PartitionTest, ReadsNoRowsOfOthers) {
  UpsertAll();
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  const auto work = [&](absl::string_view filter, size_t f) {
    const SearchResult result = Search(
        schema_.vectors[f].name, VectorOf("large"), filter, /*exact=*/false);
    EXPECT_EQ(result.explanation.size(), 1u);
    EXPECT_EQ(result.explanation[0].num_payloads_read, 0u);
    return result.stats.distance_computations;
  };
  for (const size_t f : {0, 1}) {
    EXPECT_LE(work("tenant = 't3'", f), 30u + 30u);
    EXPECT_LE(work("(price < 90 AND tenant = 't3') AND price >= 0", f), 60u);
    EXPECT_EQ(work("tenant = 'nobody'", f), 0u);
    // Its one list, and candidates that are compared exactly.
    EXPECT_LE(work("tenant = 'middle'", f), 1'700u + 320u);
    // Some of its own lists.
    EXPECT_LE(work("tenant = 'large'", f), 4'500u);
    EXPECT_LE(work("tenant = 'large' AND price < 50", f), 4'500u);
  }
}

TEST_F(PartitionTest, ReadsNoPayloadsOfOthers) {
  UpsertAll();
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  for (const char* rest : {"EXISTS(price)", "price IS NOT NULL", "other = 3",
                           "(price < 10 OR other = 3)"}) {
    const std::string filter = absl::StrCat("tenant = 't3' AND ", rest);
    const SearchResult result = Search("v", VectorOf("t3"), filter, false);
    ASSERT_EQ(result.explanation.size(), 1u);
    EXPECT_LE(result.explanation[0].num_payloads_read, 30u) << filter;
  }
}

// A condition that was never asked before is evaluated of the tenant's rows,
// and one that is asked often of all, once.
TEST_F(PartitionTest, ConditionsAreRightHoweverTheyAreEvaluated) {
  UpsertAll();
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  for (int round = 0; round < 3; ++round) {
    for (const char* tenant : {"large", "t3", "middle", "t7", "other"}) {
      for (const uint64_t price : {3, 40, 99}) {
        EXPECT_GE(
            Recall(tenant,
                   absl::StrCat("tenant = '", tenant, "' AND price < ", price),
                   price),
            0.93);
      }
    }
    for (uint64_t i = 0; i < 30; ++i) Delete(10'000 + 30 * i + round);
  }
}

TEST_F(PartitionTest, HoldsThroughChangesMergesAndRestarts) {
  UpsertAll();
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  for (uint64_t i = 0; i < 400; ++i) Delete(10'000 + 7 * i);
  Upsert(30'000, 600, {"t7"});      // these leave "other"
  Upsert(20'000, 300, {"middle"});  // these change
  Upsert(60'000, 40, {"large", "t39"});
  Upsert(70'000, 40, {"t39", "t7", "large"});
  CheckAll();
  Reopen();
  CheckAll();
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  ASSERT_EQ(collection_->stats().segments.size(), 1u);
  CheckAll();
  EXPECT_EQ(collection_->schema().partition_key, "tenant");
}

TEST_F(PartitionTest, KeepsTheIndexOfItsKey) {
  const absl::Status status = database_->DropPayloadIndex("p", "tenant");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(),
            "payload field \"tenant\" divides collection \"p\" into "
            "partitions; its index stays as long as the collection");
  EXPECT_TRUE(database_->DropPayloadIndex("p", "price").ok());
  Upsert(0, 50, {"a"});
  EXPECT_EQ(*collection_->CountMatching(
                *ParseFilter("tenant = 'a' AND price < 30"), {}),
            30u);
}

TEST(PartitionSchemaTest, SaysWhatIsWrong) {
  CollectionSchema schema =
      SchemaOf("p", kDim, Metric::kL2, ElementType::kFloat32, IndexKind::kIvf);
  const auto problems = [&] {
    std::string all;
    for (const FieldViolation& violation : ValidateSchema(schema, Limits())) {
      absl::StrAppend(&all, violation.field, " ", violation.description, "\n");
    }
    return all;
  };
  schema.partition_key = "tenant";
  EXPECT_EQ(problems(),
            "partition_key \"tenant\" has no index; add it to the payload "
            "indexes as keyword, i64 or uuid\n");
  schema.payload_fields = {{"tenant", PayloadType::kFloat64}};
  EXPECT_EQ(problems(),
            "partition_key \"tenant\" is of type f64; points are divided by "
            "keyword, i64 or uuid\n");
  schema.payload_fields = {{"tenant", PayloadType::kUuid}};
  EXPECT_EQ(problems(), "");
  schema.vectors[0].ivf.num_lists = 7;
  EXPECT_EQ(problems(),
            "vectors[0].index.ivf.num_lists is 7; with a partition_key every "
            "partition has lists of its own: leave it out\n");
  schema.vectors[0].index = IndexKind::kAuto;
  EXPECT_EQ(problems(),
            "vectors[0].index is or may be a graph, which has no partitions; "
            "with a partition_key choose ivf or flat, or leave it out\n");
}

TEST(PartitionSchemaTest, ComesBackFromItsBytes) {
  CollectionSchema schema =
      SchemaOf("p", kDim, Metric::kL2, ElementType::kFloat32, IndexKind::kIvf);
  schema.payload_fields = {{"tenant", PayloadType::kKeyword}};
  schema.partition_key = "tenant";
  const std::string bytes = schema.Encode();
  const auto decoded = CollectionSchema::Decode(bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->partition_key, "tenant");
  ASSERT_NE(decoded->FindPartitionKey(), nullptr);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(CollectionSchema::Decode(bytes.substr(0, size)).ok());
  }
}

}  // namespace
}  // namespace vicinal
