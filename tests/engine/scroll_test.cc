// Walks over points in the order of a field and by filters, and what filters
// change and delete, against brute force over the points.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
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
#include "src/engine/first_places.h"
#include "src/engine/payload_patch.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter_text.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 4;
constexpr uint64_t kMaxId = 3'000;

const std::vector<PayloadField>& Fields() {
  static const auto* fields = new std::vector<PayloadField>{
      {"word", PayloadType::kKeyword},   {"whole", PayloadType::kInt64},
      {"number", PayloadType::kFloat64}, {"flag", PayloadType::kBool},
      {"date", PayloadType::kDatetime},  {"uuid", PayloadType::kUuid},
      {"many.num", PayloadType::kInt64}};
  return *fields;
}

std::string RandomPayload(Random& random) {
  const auto below = [&](uint64_t n) { return random.Uniform(n); };
  std::string out = absl::StrCat(R"({"a": )", below(3));
  if (below(8) != 0) {
    absl::StrAppend(&out, R"(, "word": ["w)", below(5), R"(", "w)", below(5),
                    R"(", "x)", below(50), R"("])");
  }
  if (below(8) != 0) {
    absl::StrAppend(&out, R"(, "whole": )",
                    static_cast<int64_t>(below(30)) - 15);
  }
  if (below(8) != 0) {
    absl::StrAppend(&out, R"(, "number": )", below(100'000), ".5");
  }
  absl::StrAppend(&out, R"(, "flag": )",
                  below(8) == 0   ? "null"
                  : below(3) == 0 ? "false"
                                  : "true");
  absl::StrAppend(&out, R"(, "date": "2024-01-)",
                  absl::StrFormat("%02d", 1 + below(28)), R"(")");
  absl::StrAppend(&out, R"(, "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd4)",
                  absl::StrFormat("%04x", below(16)), R"(")");
  absl::StrAppend(&out, R"(, "many": [{"num": )", below(2'000),
                  R"(}, {"num": "no"}, {"num": [7, )", below(2'000), "]}]}");
  return out;
}

// The id that a number stands for: of all kinds.
PointId IdOf(uint64_t n) {
  if (n % 5 == 0) return *PointId::FromString(absl::StrCat("s", n));
  if (n % 5 == 1) {
    return *PointId::ParseUuid(
        absl::StrFormat("6ba7b810-9dad-11d1-80b4-%012x", n));
  }
  return PointId(n);
}

using Points = std::map<PointId, std::string>;  // payloads

// Ids and keys in the order of a field.
std::vector<std::pair<std::string, PointId>> Ordered(const Points& points,
                                                     const ScrollOrder& order,
                                                     const FilterNode* filter) {
  std::optional<BoundFilter> bound;
  if (filter != nullptr) bound = *BoundFilter::Bind(*filter, Fields());
  std::vector<std::pair<std::string, PointId>> out;
  for (const auto& [id, payload] : points) {
    if (bound.has_value() && !bound->Matches(id, payload)) continue;
    std::vector<std::string> keys;
    ForEachKey(payload, {&order.field, 1},
               [&](size_t, absl::string_view key) { keys.emplace_back(key); });
    if (keys.empty()) continue;
    out.emplace_back(order.descending
                         ? *std::max_element(keys.begin(), keys.end())
                         : *std::min_element(keys.begin(), keys.end()),
                     id);
  }
  std::sort(out.begin(), out.end(), [&](const auto& a, const auto& b) {
    if (a.first == b.first) return a.second < b.second;
    return order.descending ? b.first < a.first : a.first < b.first;
  });
  return out;
}

class ScrollTest : public ::testing::Test {
 protected:
  ScrollTest() {
    options_.growing_segment_bytes = size_t{128} << 10;
    options_.recall_check_ms = 0;
    schema_ = SchemaOf("p", kDim, Metric::kL2);
    database_ = *Database::Open(folder_.path(), options_);
    collection_ = *database_->CreateCollection(schema_);
  }

  void Declare(const PayloadField& field) {
    ASSERT_TRUE(Finished(database_->CreatePayloadIndex("p", field)).ok());
  }
  void DeclareAll() {
    for (const PayloadField& field : Fields()) Declare(field);
  }
  void Upsert(const Points& points) {
    BatchBuilder batch(schema_);
    for (const auto& [id, payload] : points) {
      batch.Add(id, {RandomVector(schema_.vectors[0], random_)}, payload);
      points_[id] = payload;
    }
    ASSERT_TRUE(collection_->Upsert(batch.batch()).status.ok());
  }
  void UpsertRandom(size_t count) {
    Points points;
    for (size_t i = 0; i < count; ++i) {
      points[IdOf(random_.Uniform(kMaxId))] = RandomPayload(random_);
    }
    Upsert(points);
  }
  void Delete(size_t count) {
    std::vector<PointId> ids;
    for (size_t i = 0; i < count; ++i) {
      ids.push_back(IdOf(random_.Uniform(kMaxId)));
      points_.erase(ids.back());
    }
    ASSERT_TRUE(collection_->Delete(ids).status.ok());
  }
  void Reopen() {
    collection_.reset();
    database_.reset();
    database_ = *Database::Open(folder_.path(), options_);
    collection_ = *database_->GetCollection("p");
  }
  void OptimizeToOne() { ASSERT_TRUE(Finished(collection_->Optimize(1)).ok()); }

  // One page, or all pages of a walk.
  std::vector<StoredPoint> Walk(const ScrollOrder& order, size_t page_size,
                                const FilterNode* filter, bool all) {
    std::vector<StoredPoint> points;
    const absl::Status status = collection_->ScrollOrdered(
        order, page_size, {.payload = true}, {},
        [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
          EXPECT_LE(page.size(), page_size);
          for (auto& point : page) points.push_back(std::move(point));
          return all;
        },
        filter);
    EXPECT_TRUE(status.ok()) << status;
    return points;
  }
  // By calls that each go on behind the last one; `between` runs after each.
  template <typename Between>
  std::vector<StoredPoint> Pages(ScrollOrder order, size_t page_size,
                                 const FilterNode* filter,
                                 const Between& between) {
    std::vector<StoredPoint> points;
    while (true) {
      std::vector<StoredPoint> page = Walk(order, page_size, filter, false);
      if (page.empty()) return points;
      for (auto& point : page) points.push_back(std::move(point));
      order.after = {points.back().key, points.back().id};
      between();
    }
  }

  void Expect(const std::vector<StoredPoint>& found, const ScrollOrder& order,
              const FilterNode* filter) {
    const auto expected = Ordered(points_, order, filter);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(found[i].id, expected[i].second) << i;
      ASSERT_EQ(found[i].key, expected[i].first) << i;
      ASSERT_EQ(found[i].payload, points_.at(found[i].id));
    }
  }

  void CompareAll() {
    const std::vector<FilterNode> filters = {
        *ParseFilter("FALSE"), *ParseFilter("word = 'w1' AND whole > 0"),
        *ParseFilter("whole = 3 AND number < 5000"),
        *ParseFilter("NOT flag = true OR number < 3"), *ParseFilter("a = 1")};
    for (const PayloadField& field : Fields()) {
      ScrollOrder order{.field = field};
      for (const bool descending : {false, true}) {
        order.descending = descending;
        SCOPED_TRACE(absl::StrCat(field.path, descending ? " down" : " up"));
        Expect(Walk(order, 100, nullptr, true), order, nullptr);
        const FilterNode& first = filters[random_.Uniform(filters.size())];
        Expect(Walk(order, 7, &first, true), order, &first);
        const FilterNode& filter = filters[random_.Uniform(filters.size())];
        Expect(Pages(order, 100, &filter, [] {}), order, &filter);
        Expect(Pages(order, 400, nullptr, [] {}), order, nullptr);
      }
    }
  }

  std::vector<PointId> ScrollIds(const FilterNode& filter, size_t page_size,
                                 bool in_calls) {
    std::vector<PointId> ids;
    std::optional<PointId> after;
    while (true) {
      const size_t before = ids.size();
      const absl::Status status = collection_->Scroll(
          after, page_size, {.payload = true}, {},
          [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
            for (const StoredPoint& point : page) {
              ids.push_back(point.id);
              EXPECT_EQ(point.payload, points_[point.id]);
              EXPECT_GT(point.sequence, 0u);
            }
            return !in_calls;
          },
          &filter);
      EXPECT_TRUE(status.ok()) << status;
      if (!in_calls || ids.size() == before) return ids;
      after = ids.back();
    }
  }
  std::vector<PointId> Accepted(const FilterNode& filter) {
    const BoundFilter bound = *BoundFilter::Bind(filter, Fields());
    std::vector<PointId> ids;
    for (const auto& [id, payload] : points_) {
      if (bound.Matches(id, payload)) ids.push_back(id);
    }
    return ids;
  }
  void CompareFilters() {
    for (const char* text :
         {"TRUE", "FALSE", "whole = 3", "word IN ('w1', 'x3') AND flag = true",
          "number < 300", "NOT EXISTS(number)", "a = 1", "a = 1 AND whole = 3",
          "ID IN (2, 3, 's5') OR uuid >= "
          "'6ba7b810-9dad-11d1-80b4-00c04fd4000e'",
          "many[num = 7 AND num < 9]"}) {
      SCOPED_TRACE(text);
      const FilterNode filter = *ParseFilter(text);
      const std::vector<PointId> expected = Accepted(filter);
      EXPECT_EQ(*collection_->CountMatching(filter, {}), expected.size());
      EXPECT_EQ(ScrollIds(filter, 10, false), expected);
      EXPECT_EQ(ScrollIds(filter, 100, true), expected);
    }
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  CollectionSchema schema_;
  Random random_{17};
  Points points_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_F(ScrollTest, OrdersAsASortOfAllPoints) {
  DeclareAll();
  CompareAll();  // of no points
  UpsertRandom(500);
  CompareAll();  // growing
  OptimizeToOne();
  CompareAll();  // one sealed segment, nothing dead
  UpsertRandom(500);
  Delete(200);
  CompareAll();
  for (int part = 0; part < 3; ++part) UpsertRandom(1'000);
  CompareAll();  // several
  OptimizeToOne();
  Delete(500);
  CompareAll();
  Reopen();
  CompareAll();
}

TEST_F(ScrollTest, FiltersAsAWalkOverAllPoints) {
  UpsertRandom(2'000);
  CompareFilters();  // without indexes
  DeclareAll();
  CompareFilters();
  OptimizeToOne();
  CompareFilters();
  UpsertRandom(1'000);
  Delete(300);
  CompareFilters();
  Reopen();
  CompareFilters();
}

TEST_F(ScrollTest, PagesOfAnySizeMeetEveryPointOnce) {
  DeclareAll();
  UpsertRandom(800);
  OptimizeToOne();
  UpsertRandom(300);
  const FilterNode filter = *ParseFilter("whole > -5");
  for (const size_t page_size : {1, 3, 100}) {
    for (const bool descending : {false, true}) {
      for (const char* path : {"flag", "number", "word"}) {
        SCOPED_TRACE(absl::StrCat(page_size, " by ", path));
        ScrollOrder order{.field = *database_->GetCollection("p")
                                        .value()
                                        ->schema()
                                        .FindIndexedField(path),
                          .descending = descending};
        Expect(Pages(order, page_size, nullptr, [] {}), order, nullptr);
        Expect(Pages(order, page_size, &filter, [] {}), order, &filter);
      }
    }
    EXPECT_EQ(ScrollIds(filter, page_size, true), Accepted(filter));
  }
}

// Points with even numbers stay as they are; all others come, go and change
// their values between the pages, segments are sealed and merged, and the
// database is opened again.
TEST_F(ScrollTest, PagesMeetUnchangedPointsOnceWhateverHappensBetween) {
  DeclareAll();
  UpsertRandom(2'000);
  const FilterNode filter = *ParseFilter("whole > -10");
  const auto is_steady = [](const PointId& id) {
    return id.is_number() && id.number() % 2 == 0;
  };
  for (const PayloadField& field : {Fields()[0], Fields()[2], Fields()[3]}) {
    for (const bool descending : {false, true}) {
      SCOPED_TRACE(absl::StrCat(field.path, descending ? " down" : " up"));
      const ScrollOrder order{.field = field, .descending = descending};
      const FilterNode* used = descending ? &filter : nullptr;
      std::vector<std::pair<std::string, PointId>> expected =
          Ordered(points_, order, used);
      std::erase_if(expected, [&](const auto& entry) {
        return !is_steady(entry.second);
      });
      int page = 0;
      const auto churn = [&] {
        Points points;
        std::vector<PointId> gone;
        for (int i = 0; i < 20; ++i) {
          const PointId id = IdOf(random_.Uniform(kMaxId));
          if (is_steady(id)) continue;
          if (random_.Uniform(4) == 0) {
            gone.push_back(id);
          } else {
            points[id] = RandomPayload(random_);
          }
        }
        Upsert(points);
        for (const PointId& id : gone) points_.erase(id);
        ASSERT_TRUE(collection_->Delete(gone).status.ok());
        if (++page % 8 == 0) OptimizeToOne();
        if (page % 11 == 0) Reopen();
      };
      std::vector<std::pair<std::string, PointId>> found;
      for (StoredPoint& point : Pages(order, 50, used, churn)) {
        if (is_steady(point.id)) found.emplace_back(point.key, point.id);
      }
      EXPECT_EQ(found, expected);
    }
  }
}

TEST_F(ScrollTest, IsExactWithoutTheFilesOfIndexes) {
  DeclareAll();
  UpsertRandom(2'000);
  OptimizeToOne();
  UpsertRandom(300);
  collection_.reset();
  database_.reset();
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(folder_.path())) {
    if (entry.path().extension() == ".fidx") {
      std::filesystem::remove(entry.path());
    }
  }
  database_ = *Database::Open(folder_.path(), options_);
  collection_ = *database_->GetCollection("p");
  const FilterNode filter = *ParseFilter("whole > 3");
  for (int round = 0; round < 3; ++round) {
    for (const bool descending : {false, true}) {
      const ScrollOrder order{.field = Fields()[0], .descending = descending};
      Expect(Walk(order, 100, nullptr, true), order, nullptr);
      Expect(Pages(order, 300, &filter, [] {}), order, &filter);
    }
    EXPECT_EQ(ScrollIds(filter, 100, true), Accepted(filter));
  }
}

TEST_F(ScrollTest, ChangesAndDeletesWhatAFilterAccepts) {
  DeclareAll();
  for (int round = 0; round < 3; ++round) {
    UpsertRandom(1'500);
    if (round != 0) OptimizeToOne();
    UpsertRandom(300);
    for (const char* text : {"whole = 3", "number < 300 OR flag = false",
                             "a = 1 AND whole = -2", "a = 2 AND word = 'w1'"}) {
      SCOPED_TRACE(text);
      const FilterNode filter = *ParseFilter(text);
      const std::vector<PointId> accepted = Accepted(filter);
      const PayloadPatch patch = *PayloadPatch::Make(
          {.merge = absl::StrCat(R"({"new": )", round, "}")}, {});
      const WriteOutcome updated =
          collection_->UpdatePayloadMatching(filter, patch, {}, {});
      ASSERT_TRUE(updated.status.ok()) << updated.status;
      EXPECT_EQ(updated.result.num_written, accepted.size());
      for (const PointId& id : accepted) {
        points_[id] = *patch.Apply(points_[id]);
      }
      EXPECT_EQ(ScrollIds(filter, 100, false), accepted);
      const WriteOutcome deleted = collection_->DeleteMatching(filter, {}, {});
      ASSERT_TRUE(deleted.status.ok()) << deleted.status;
      EXPECT_EQ(deleted.result.num_written, accepted.size());
      for (const PointId& id : accepted) points_.erase(id);
      EXPECT_EQ(collection_->Count(), points_.size());
      EXPECT_EQ(*collection_->CountMatching(filter, {}), 0u);
    }
    CompareFilters();
  }
}

// Every commit moves all points between two values, so that a walk at one
// moment meets each once, and half of them under each.
TEST_F(ScrollTest, ShowsOneMomentWhileOthersWrite) {
  constexpr uint64_t kPoints = 400;
  Declare(Fields()[0]);
  const auto upsert = [&](uint64_t round) {
    BatchBuilder batch(schema_);
    Random random(round);
    for (uint64_t i = 0; i < kPoints; ++i) {
      batch.Add(PointId(i), {RandomVector(schema_.vectors[0], random)},
                absl::StrCat(R"({"word": ")",
                             (i + round) % 2 == 0 ? "red" : "blue", R"("})"));
    }
    EXPECT_TRUE(
        collection_
            ->Upsert(batch.batch(), {.durability = Durability::kBuffered})
            .status.ok());
  };
  upsert(0);
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (uint64_t round = 1; !done; ++round) upsert(round);
  });
  const FilterNode both = *ParseFilter("word IN ('red', 'blue')");
  const FilterNode red = *ParseFilter("word = 'red'");
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 10; ++i) {
      const ScrollOrder order{.field = Fields()[0], .descending = i % 3 == 0};
      const auto found = Walk(order, 100, i % 2 == 0 ? nullptr : &both, true);
      ASSERT_EQ(found.size(), kPoints);
      uint64_t parity = 0;
      for (size_t at = 0; at < kPoints; ++at) {
        const uint64_t id = found[at].id.number();
        if (at % (kPoints / 2) == 0) parity = id % 2;
        ASSERT_EQ(id % 2, parity);
        ASSERT_EQ(id / 2, at % (kPoints / 2));
        ASSERT_TRUE(absl::StrContains(found[at].payload, found[at].key));
      }
      EXPECT_EQ(*collection_->CountMatching(red, {}), kPoints / 2);
      std::vector<uint64_t> ids;
      ASSERT_TRUE(
          collection_
              ->Scroll(
                  std::nullopt, 30, {.payload = true}, {},
                  [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
                    for (const auto& point : page) {
                      ids.push_back(point.id.number());
                      EXPECT_TRUE(absl::StrContains(point.payload, "red"));
                    }
                    return true;
                  },
                  &red)
              .ok());
      ASSERT_EQ(ids.size(), kPoints / 2);
      for (size_t at = 0; at < ids.size(); ++at) {
        ASSERT_EQ(ids[at], 2 * at + ids[0] % 2);
      }
    }
    EXPECT_TRUE(Finished(collection_->Optimize(1)).ok());
  }
  done = true;
  writer.join();
}

// Writers change and delete by filters while others add: what is left is what
// the filters left.
TEST_F(ScrollTest, DeletesByFilterWhileOthersWrite) {
  DeclareAll();
  std::atomic<bool> done = false;
  std::thread writer([&] {
    Random random(5);
    for (uint64_t i = 0; !done; ++i) {
      BatchBuilder batch(schema_);
      for (uint64_t j = 0; j < 20; ++j) {
        batch.Add(PointId(100'000 + (i * 20 + j) % 2'000),
                  {RandomVector(schema_.vectors[0], random)},
                  R"({"whole": 100})");
      }
      EXPECT_TRUE(collection_->Upsert(batch.batch()).status.ok());
    }
  });
  const FilterNode filter = *ParseFilter("whole = 3");
  for (int round = 0; round < 20; ++round) {
    UpsertRandom(300);
    const std::vector<PointId> accepted = Accepted(filter);
    const WriteOutcome outcome = collection_->DeleteMatching(filter, {}, {});
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_EQ(outcome.result.num_written, accepted.size());
    for (const PointId& id : accepted) points_.erase(id);
    EXPECT_EQ(ScrollIds(*ParseFilter("whole < 50"), 100, true),
              Accepted(*ParseFilter("whole < 50")));
  }
  done = true;
  writer.join();
}

// Keys that many rows have are read in the order of ids from storage.
TEST_F(ScrollTest, OrdersManyPointsWithFewValues) {
  options_.growing_segment_bytes = size_t{8} << 20;
  Reopen();
  Declare(Fields()[3]);
  constexpr uint64_t kPoints = 60'000;
  for (uint64_t first = 0; first < kPoints; first += 10'000) {
    Points points;
    for (uint64_t i = 0; i < 10'000; ++i) {
      points[IdOf(first + i)] = absl::StrCat(
          R"({"flag": )", random_.Uniform(40) == 0 ? "false" : "true", "}");
    }
    Upsert(points);
  }
  OptimizeToOne();
  for (const bool descending : {false, true}) {
    ScrollOrder order{.field = Fields()[3], .descending = descending};
    const auto expected = Ordered(points_, order, nullptr);
    Expect(Walk(order, 1'000, nullptr, true), order, nullptr);
    for (int i = 0; i < 50; ++i) {
      const size_t at = random_.Uniform(expected.size() - 11);
      order.after = {expected[at].first, expected[at].second};
      const auto page = Walk(order, 10, nullptr, false);
      ASSERT_EQ(page.size(), 10u);
      for (size_t j = 0; j < 10; ++j) {
        ASSERT_EQ(page[j].id, expected[at + 1 + j].second);
      }
    }
  }
}

TEST_F(ScrollTest, RefusesAnOrderThatThereIsNot) {
  const auto ask = [&](PayloadField field, size_t page_size = 10,
                       const FilterNode* filter = nullptr,
                       const StopCondition& stop = {}) {
    return collection_->ScrollOrdered(
        {.field = std::move(field)}, page_size, {}, stop,
        [](std::vector<StoredPoint>) { return true; }, filter);
  };
  const PayloadField word = Fields()[0];
  EXPECT_TRUE(absl::IsFailedPrecondition(ask(word)));
  Declare(word);
  Declare({"place", PayloadType::kGeo});
  EXPECT_TRUE(ask(word).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(ask({"word", PayloadType::kUuid})));
  const absl::Status geo = ask({"place", PayloadType::kGeo});
  EXPECT_TRUE(absl::IsInvalidArgument(geo)) << geo;
  EXPECT_TRUE(absl::StrContains(geo.message(), "no order"));
  EXPECT_TRUE(absl::IsInvalidArgument(ask(word, 0)));
  const FilterNode wrong = *ParseFilter("word = 5");
  EXPECT_TRUE(absl::IsInvalidArgument(ask(word, 10, &wrong)));
  StopCondition stop;
  stop.cancelled = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(ask(word, 10, nullptr, stop)));
}

TEST(FirstPlacesTest, HoldsTheFirstWithoutGaps) {
  FirstPlaces two({}, Place{"b", PointId(3)}, 2);
  EXPECT_FALSE(two.full());
  two.Offer("c", PointId(1), 0);
  two.Offer("b", PointId(3), 0);
  two.Offer("a", PointId(9), 0);
  EXPECT_FALSE(two.full());
  two.Offer("b", PointId(5), 0);
  two.Offer("b", PointId(4), 0);
  EXPECT_TRUE(two.full());
  const std::vector<Place> places = two.Take();
  ASSERT_EQ(places.size(), 2u);
  EXPECT_EQ(places[0].id, PointId(4));
  EXPECT_EQ(places[1].id, PointId(5));
  // What does not fit by its bytes leaves no gap behind those that do.
  const std::string large(FirstPlaces::kMaxBytes / 2, 'm');
  FirstPlaces few({}, std::nullopt, 100);
  few.Offer(large + "1", PointId(1), 0);
  few.Offer(large + "2", PointId(2), 0);
  few.Offer(large + "3", PointId(3), 0);
  EXPECT_TRUE(few.full());
  few.Offer("z", PointId(4), 0);
  few.Offer("a", PointId(5), 0);
  const std::vector<Place> left = few.Take();
  ASSERT_EQ(left.size(), 2u);
  EXPECT_EQ(left[0].id, PointId(5));
  EXPECT_EQ(left[1].id, PointId(1));
}

}  // namespace
}  // namespace vicinal
