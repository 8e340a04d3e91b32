// Values of indexed fields with their numbers, against a walk over the points.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/engine/field_aggregates.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter_text.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 4;

const std::vector<PayloadField>& Fields() {
  static const auto* fields = new std::vector<PayloadField>{
      {"word", PayloadType::kKeyword},   {"whole", PayloadType::kInt64},
      {"number", PayloadType::kFloat64}, {"flag", PayloadType::kBool},
      {"date", PayloadType::kDatetime},  {"uuid", PayloadType::kUuid},
      {"many.id", PayloadType::kKeyword}};
  return *fields;
}

std::string RandomPayload(Random& random) {
  const auto below = [&](uint64_t n) { return random.Uniform(n); };
  std::string out = R"({"a": 1)";
  if (below(8) != 0) {
    absl::StrAppend(&out, R"(, "word": ["w)", below(5), R"(", "w)", below(5),
                    R"(", "x)", below(50), R"("])");
  }
  if (below(8) != 0) {
    absl::StrAppend(&out, R"(, "whole": )",
                    static_cast<int64_t>(below(30)) - 15);
  }
  if (below(8) != 0) {
    absl::StrAppend(&out, R"(, "number": )", below(40), ".5");
  }
  if (below(8) != 0) {
    absl::StrAppend(&out, R"(, "flag": )", below(3) != 0 ? "true" : "false");
  }
  absl::StrAppend(&out, R"(, "date": "2024-01-)",
                  absl::StrFormat("%02d", 1 + below(28)), R"(")");
  absl::StrAppend(&out, R"(, "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd4)",
                  absl::StrFormat("%04x", below(16)), R"(")");
  absl::StrAppend(&out, R"(, "many": [{"id": "m)", below(2'000),
                  R"("}, {"id": 5}, {"id": ["", "m)", below(2'000), R"("]}]})");
  return out;
}

class FacetTest : public ::testing::Test {
 protected:
  FacetTest() {
    options_.growing_segment_bytes = size_t{128} << 10;
    options_.recall_check_ms = 0;
    schema_ = SchemaOf("p", kDim, Metric::kL2);
    Open();
  }
  void Open() {
    const absl::Status opened = OpenCollection(
        folder_.path(), options_, schema_, &database_, &collection_);
    ASSERT_TRUE(opened.ok()) << opened;
  }

  void Declare(const PayloadField& field) {
    ASSERT_TRUE(Finished(database_->CreatePayloadIndex("p", field)).ok());
  }
  void Upsert(const std::map<uint64_t, std::string>& payloads) {
    BatchBuilder batch(schema_);
    for (const auto& [id, payload] : payloads) {
      batch.Add(PointId(id), {RandomVector(schema_.vectors[0], random_)},
                payload);
      points_[id] = payload;
    }
    ASSERT_TRUE(collection_->Upsert(batch.batch()).status.ok());
  }
  void UpsertRandom(size_t count, uint64_t max_id) {
    std::map<uint64_t, std::string> payloads;
    for (size_t i = 0; i < count; ++i) {
      payloads[random_.Uniform(max_id)] = RandomPayload(random_);
    }
    Upsert(payloads);
  }
  void Delete(size_t count, uint64_t max_id) {
    std::vector<PointId> ids;
    for (size_t i = 0; i < count; ++i) {
      ids.emplace_back(random_.Uniform(max_id));
      points_.erase(ids.back().number());
    }
    ASSERT_TRUE(collection_->Delete(ids).status.ok());
  }

  FacetResult Facet(const FacetQuery& query) {
    auto result = collection_->Facet(query, {});
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *std::move(result) : FacetResult{};
  }

  // All values by a walk over points_, in the order of a facet.
  std::vector<FacetValue> Expected(const FacetQuery& query) {
    std::optional<BoundFilter> filter;
    if (query.filter != nullptr) {
      filter = *BoundFilter::Bind(*query.filter, Fields());
    }
    std::map<std::string, uint64_t> counts;
    for (const auto& [id, payload] : points_) {
      if (filter.has_value() && !filter->Matches(PointId(id), payload)) {
        continue;
      }
      std::set<std::string> keys;
      ForEachKey(payload, {&query.field, 1}, [&](size_t, absl::string_view k) {
        if (absl::StartsWith(k, query.prefix)) keys.emplace(k);
      });
      for (const std::string& key : keys) ++counts[key];
    }
    std::vector<FacetValue> values;
    for (const auto& [key, count] : counts) values.push_back({key, count});
    std::stable_sort(values.begin(), values.end(),
                     [](const FacetValue& a, const FacetValue& b) {
                       return a.count > b.count;
                     });
    return values;
  }

  // Asks in pages and without values.
  void Compare(FacetQuery query) {
    SCOPED_TRACE(absl::StrCat(query.field.path, " ", query.prefix));
    const std::vector<FacetValue> expected = Expected(query);
    std::vector<FacetValue> found;
    query.limit = 1 + random_.Uniform(expected.size() + 2);
    for (bool more = true; more;) {
      const FacetResult page = Facet(query);
      EXPECT_EQ(page.num_distinct, expected.size());
      ASSERT_TRUE(!page.more || page.values.size() == query.limit);
      found.insert(found.end(), page.values.begin(), page.values.end());
      more = page.more;
      if (more) query.after = found.back();
    }
    EXPECT_EQ(found, expected);
    query.after.reset();
    query.limit = 0;
    const FacetResult totals = Facet(query);
    EXPECT_TRUE(totals.values.empty());
    EXPECT_FALSE(totals.more && expected.empty());
    EXPECT_EQ(totals.num_distinct, expected.size());
    const auto by_key = [](const FacetValue& a, const FacetValue& b) {
      return a.key < b.key;
    };
    EXPECT_EQ(totals.min.has_value(), !expected.empty());
    EXPECT_EQ(totals.max.has_value(), !expected.empty());
    if (expected.empty()) return;
    const auto [min, max] =
        std::minmax_element(expected.begin(), expected.end(), by_key);
    EXPECT_EQ(totals.min, min->key);
    EXPECT_EQ(totals.max, max->key);
  }

  void CompareAll() {
    const std::vector<FilterNode> filters = {
        *ParseFilter("TRUE"),
        *ParseFilter("FALSE"),
        *ParseFilter("word = 'w1' AND whole > 0"),
        *ParseFilter("NOT flag = true OR number < 3"),
        *ParseFilter("ID IN (1, 2, 3, 50)"),
        *ParseFilter("a = 1")};
    for (const PayloadField& field : Fields()) {
      FacetQuery query{.field = field};
      Compare(query);
      for (const FilterNode& filter : filters) {
        query.filter = &filter;
        Compare(query);
      }
      if (field.type != PayloadType::kKeyword) continue;
      for (const char* prefix : {"w", "x1", "m19", "nothing"}) {
        query.prefix = prefix;
        Compare(query);
        query.filter = nullptr;
        Compare(query);
      }
    }
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  CollectionSchema schema_;
  Random random_{11};
  std::map<uint64_t, std::string> points_;  // id to payload
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_F(FacetTest, AgreesWithAWalkOverThePoints) {
  constexpr uint64_t kMaxId = 3'000;
  for (const PayloadField& field : Fields()) Declare(field);
  CompareAll();  // of no points
  UpsertRandom(500, kMaxId);
  CompareAll();  // growing
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  CompareAll();  // one sealed segment, nothing dead
  UpsertRandom(500, kMaxId);
  CompareAll();
  Delete(200, kMaxId);
  for (int part = 0; part < 4; ++part) UpsertRandom(1'000, kMaxId);
  CompareAll();  // several
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  Delete(500, kMaxId);
  CompareAll();
  Open();
  CompareAll();
}

TEST_F(FacetTest, EndsAPageByItsBytes) {
  Declare({"word", PayloadType::kKeyword});
  std::map<uint64_t, std::string> payloads;
  for (uint64_t i = 0; i < 10; ++i) {
    payloads[i] = absl::StrCat(
        R"({"word": ")", std::string(100, static_cast<char>('a' + i)), R"("})");
  }
  Upsert(payloads);
  FacetQuery query{.field = Fields()[0], .limit = 10, .max_bytes = 350};
  std::vector<FacetValue> found;
  for (const size_t size : {3u, 3u, 3u, 1u}) {
    const FacetResult page = Facet(query);
    EXPECT_EQ(page.values.size(), size);
    EXPECT_EQ(page.more, size == 3);
    found.insert(found.end(), page.values.begin(), page.values.end());
    query.after = found.back();
  }
  EXPECT_EQ(found, Expected(query));
  query.after.reset();
  query.max_bytes = 1;
  EXPECT_EQ(Facet(query).values.size(), 1u);
}

TEST_F(FacetTest, IsExactWithoutTheFileOfAnIndex) {
  Declare(Fields()[0]);
  UpsertRandom(2'000, 3'000);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  UpsertRandom(300, 3'000);
  collection_.reset();
  database_.reset();
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(folder_.path())) {
    if (entry.path().extension() == ".fidx") {
      std::filesystem::remove(entry.path());
    }
  }
  Open();
  for (int round = 0; round < 3; ++round) {
    FacetQuery query{.field = Fields()[0]};
    Compare(query);
    const FilterNode filter = *ParseFilter("whole > 3");
    query.filter = &filter;
    query.prefix = "x";
    Compare(query);
  }
}

TEST_F(FacetTest, RefusesWhatItCannotAnswer) {
  const auto ask = [&](PayloadField field, std::string prefix = "",
                       const FilterNode* filter = nullptr,
                       const StopCondition& stop = {}) {
    FacetQuery query;
    query.field = std::move(field);
    query.prefix = std::move(prefix);
    query.filter = filter;
    return collection_->Facet(query, stop).status();
  };
  const PayloadField word = Fields()[0];
  EXPECT_TRUE(absl::IsFailedPrecondition(ask(word)));
  Declare(word);
  Declare({"n", PayloadType::kInt64});
  Declare({"place", PayloadType::kGeo});
  EXPECT_TRUE(ask(word).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(ask({"word", PayloadType::kUuid})));
  const absl::Status geo = ask({"place", PayloadType::kGeo});
  EXPECT_TRUE(absl::IsInvalidArgument(geo)) << geo;
  EXPECT_TRUE(absl::StrContains(geo.message(), "no order"));
  EXPECT_TRUE(absl::IsInvalidArgument(ask({"n", PayloadType::kInt64}, "1")));
  const FilterNode wrong = *ParseFilter("n = 'x'");
  EXPECT_TRUE(absl::IsInvalidArgument(ask(word, "", &wrong)));
  StopCondition stop;
  stop.cancelled = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(ask(word, "", nullptr, stop)));
}

// Every commit moves points from one value to another, so that their numbers
// add up at every moment and at no mixture of two.
TEST_F(FacetTest, ShowsOneMomentWhileOthersWrite) {
  constexpr uint64_t kPoints = 400;
  Declare(Fields()[0]);
  Rewriter writer(collection_.get(), kPoints, [](uint64_t i, uint64_t round) {
    return absl::StrCat(R"({"word": ")", (i + round) % 2 == 0 ? "red" : "blue",
                        R"("})");
  });
  const FilterNode filter = *ParseFilter("word IN ('red', 'blue')");
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 10; ++i) {
      const FacetResult result = Facet(
          {.field = Fields()[0], .filter = i % 2 == 0 ? nullptr : &filter});
      EXPECT_EQ(result.values, (std::vector<FacetValue>{{"blue", kPoints / 2},
                                                        {"red", kPoints / 2}}));
    }
    EXPECT_TRUE(Finished(collection_->Optimize(1)).ok());
  }
  const absl::Status written = writer.Stop();
  EXPECT_TRUE(written.ok()) << written;
}

TEST(KeyTallyTest, CountsAKeyOncePerRow) {
  KeyTally tally;
  tally.Add(0, "b");
  tally.Add(0, "a");
  tally.Add(0, "b");
  tally.Add(1, "b");
  EXPECT_EQ(tally.Take(), (std::vector<FacetValue>{{"a", 1}, {"b", 2}}));
  EXPECT_TRUE(tally.Take().empty());
}

}  // namespace
}  // namespace vicinal
