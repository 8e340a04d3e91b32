// Indexes of payload fields: declared at once or later, while points are
// written, across restarts, with files that are damaged or gone.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/payload/filter_text.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 8;

class PayloadIndexTest : public ::testing::Test {
 protected:
  PayloadIndexTest() {
    options_.growing_segment_bytes = size_t{256} << 10;
    options_.recall_check_ms = 0;
    options_.warn = [this](absl::string_view what) {
      num_warnings_ += absl::StrContains(what, "damaged");
      if (absl::StrContains(what, "is tried again")) {
        ++num_failures_;
        num_failures_.notify_all();
      }
    };
    schema_ = SchemaOf("p", kDim, Metric::kL2);
    Open();
  }

  void Open() {
    const absl::Status opened = OpenCollection(
        folder_.path(), options_, schema_, &database_, &collection_);
    ASSERT_TRUE(opened.ok()) << opened;
  }

  // Point i has color c<i % 7>, price i and, one in ten, no payload.
  void Upsert(uint64_t first, uint64_t count) {
    BatchBuilder batch(schema_);
    for (uint64_t i = first; i < first + count; ++i) {
      batch.Add(PointId(i), {RandomVector(schema_.vectors[0], random_)},
                i % 10 == 0 ? ""
                            : absl::StrCat(R"({"color": "c)", i % 7,
                                           R"(", "price": )", i, "}"));
    }
    EXPECT_TRUE(collection_->Upsert(batch.batch()).status.ok());
  }
  // What Upsert says of points 0 .. count.
  static uint64_t NumOfColor(uint64_t count, uint64_t color) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < count; ++i) n += i % 10 != 0 && i % 7 == color;
    return n;
  }

  uint64_t Count(absl::string_view text) {
    const auto count = collection_->CountMatching(*ParseFilter(text), {});
    EXPECT_TRUE(count.ok()) << count.status();
    return count.value_or(0);
  }
  // Distinct points that a search of all finds.
  size_t Found(absl::string_view text) {
    Query query =
        Nearest("v", RandomVector(schema_.vectors[0], random_), 20'000, true);
    std::get<RetrieveStage>(query.stage).filter =
        std::make_shared<const FilterNode>(*ParseFilter(text));
    std::vector<Query> queries;
    queries.push_back(std::move(query));
    const auto results = collection_->Search(queries, {});
    EXPECT_TRUE(results.ok()) << results.status();
    return results.ok() ? (*results)[0].hits.size() : 0;
  }

  std::vector<std::filesystem::path> Files() const {
    std::vector<std::filesystem::path> files;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(folder_.path())) {
      if (entry.path().extension() == ".fidx") files.push_back(entry.path());
    }
    return files;
  }
  bool AllReady() const {
    const CollectionStats stats = collection_->stats();
    return std::all_of(
        stats.payload_indexes.begin(), stats.payload_indexes.end(),
        [](const PayloadIndexStats& index) { return index.ready; });
  }
  bool BecomesReady() const {
    for (int i = 0; i < 3'000 && !AllReady(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return AllReady();
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  std::atomic<int> num_warnings_ = 0;
  std::atomic<int> num_failures_ = 0;  // of building an index
  CollectionSchema schema_;
  Random random_{7};
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_F(PayloadIndexTest, CreatedLaterIndexesWhatIsThere) {
  Upsert(0, 3'000);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  Upsert(3'000, 500);
  const auto operation =
      database_->CreatePayloadIndex("p", {"color", PayloadType::kKeyword});
  ASSERT_TRUE(Finished(operation).ok());
  EXPECT_EQ((*operation)->info().kind, "payload_index");
  EXPECT_EQ((*operation)->info().done, (*operation)->info().total);
  EXPECT_TRUE(AllReady());
  EXPECT_EQ(Files().size(), 1u);
  EXPECT_EQ(Count("color = 'c3'"), NumOfColor(3'500, 3));
  EXPECT_EQ(Found("color = 'c3'"), NumOfColor(3'500, 3));
  EXPECT_EQ(Count("color IS NULL"), 350u);
  EXPECT_EQ(Found("NOT color = 'c3'"), 3'500 - NumOfColor(3'500, 3));
}

TEST_F(PayloadIndexTest, IsOfEverySegmentThatIsMade) {
  ASSERT_TRUE(Finished(database_->CreatePayloadIndex(
                           "p", {"price", PayloadType::kInt64}))
                  .ok());
  for (int part = 0; part < 4; ++part) {
    Upsert(1'000 * part, 1'000);
    ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
    EXPECT_TRUE(AllReady());
    EXPECT_EQ(Files().size(), 1u) << "those of merged segments are gone";
    // Of 1,000 numbers one in ten is missing.
    EXPECT_EQ(Count(absl::StrCat("price < ", 500 * (part + 1))),
              450u * (part + 1));
  }
}

TEST_F(PayloadIndexTest, SurvivesARestart) {
  Upsert(0, 2'000);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  ASSERT_TRUE(Finished(database_->CreatePayloadIndex(
                           "p", {"color", PayloadType::kKeyword}))
                  .ok());
  Upsert(1'500, 1'000);
  const auto before = std::filesystem::last_write_time(Files().at(0));
  Open();
  ASSERT_EQ(collection_->schema().payload_fields.size(), 1u);
  EXPECT_EQ(collection_->schema().payload_fields[0].path, "color");
  EXPECT_TRUE(AllReady());
  EXPECT_EQ(Count("color = 'c1'"), NumOfColor(2'500, 1));
  EXPECT_EQ(Found("color = 'c1'"), NumOfColor(2'500, 1));
  EXPECT_EQ(std::filesystem::last_write_time(Files().at(0)), before);
}

TEST_F(PayloadIndexTest, AFileThatIsGoneOrDamagedIsMadeAgain) {
  Upsert(0, 2'000);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  ASSERT_TRUE(Finished(database_->CreatePayloadIndex(
                           "p", {"color", PayloadType::kKeyword}))
                  .ok());
  const std::filesystem::path file = Files().at(0);
  for (const bool gone : {true, false}) {
    collection_.reset();
    database_.reset();
    num_warnings_ = 0;
    if (gone) {
      std::filesystem::remove(file);
    } else {
      std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
      bytes.seekp(4'100);
      bytes.put('\x7F');
    }
    Open();
    // Exact while it is made, and after.
    EXPECT_EQ(Count("color = 'c2'"), NumOfColor(2'000, 2));
    EXPECT_EQ(Found("color = 'c2'"), NumOfColor(2'000, 2));
    EXPECT_TRUE(BecomesReady());
    EXPECT_EQ(num_warnings_, gone ? 0 : 1);
    EXPECT_EQ(Count("color = 'c2' AND TRUE"), NumOfColor(2'000, 2));
    ASSERT_TRUE(std::filesystem::exists(file));
  }
}

// A point changes its color and keeps one of two, so that either filter alone
// misses it at times but both together never do.
TEST_F(PayloadIndexTest, IsCorrectWhateverIsWrittenMeanwhile) {
  constexpr uint64_t kPoints = 400;
  Rewriter writer(collection_.get(), kPoints, [](uint64_t i, uint64_t round) {
    return absl::StrCat(R"({"color": ")", (i + round) % 2 == 0 ? "red" : "blue",
                        R"("})");
  });
  for (int round = 0; round < 8; ++round) {
    const auto operation =
        database_->CreatePayloadIndex("p", {"color", PayloadType::kKeyword});
    EXPECT_TRUE(operation.ok()) << operation.status();
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(Count("color IN ('red', 'blue')"), kPoints);
      EXPECT_EQ(Found("color IN ('red', 'blue')"), kPoints);
      EXPECT_EQ(Count("color = 'red'"), kPoints / 2);
      // A search is of no one moment: it has what matches when it ends, and
      // maybe what did when it began.
      for (const char* filter : {"color = 'red'", "NOT color = 'red'"}) {
        const size_t found = Found(filter);
        EXPECT_GE(found, kPoints / 2) << filter;
        EXPECT_LE(found, kPoints) << filter;
      }
    }
    EXPECT_TRUE(Finished(operation).ok());
    const absl::Status optimized = Finished(collection_->Optimize(1));
    EXPECT_TRUE(optimized.ok()) << optimized;
    EXPECT_EQ(Count("color = 'red'"), kPoints / 2);
    EXPECT_TRUE(database_->DropPayloadIndex("p", "color").ok());
  }
  const absl::Status written = writer.Stop();
  EXPECT_TRUE(written.ok()) << written;
}

TEST_F(PayloadIndexTest, DroppedIsGoneAndFiltersGoOn) {
  Upsert(0, 2'000);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  ASSERT_TRUE(Finished(database_->CreatePayloadIndex(
                           "p", {"price", PayloadType::kInt64}))
                  .ok());
  // Under the declared type a string is an error, without one it is no match.
  EXPECT_TRUE(absl::IsInvalidArgument(
      collection_->CountMatching(*ParseFilter("price = 'x'"), {}).status()));
  ASSERT_TRUE(database_->DropPayloadIndex("p", "price").ok());
  EXPECT_TRUE(Files().empty());
  EXPECT_EQ(Count("price = 'x'"), 0u);
  EXPECT_EQ(Count("price < 1000"), 900u);
  EXPECT_TRUE(absl::IsNotFound(database_->DropPayloadIndex("p", "price")));
  Open();
  EXPECT_TRUE(collection_->schema().payload_fields.empty());
}

TEST_F(PayloadIndexTest, RefusesWhatCannotBeDeclared) {
  const auto code = [&](PayloadField field) {
    return database_->CreatePayloadIndex("p", std::move(field)).status().code();
  };
  using Code = absl::StatusCode;
  EXPECT_EQ(code({"", PayloadType::kKeyword}), Code::kInvalidArgument);
  EXPECT_EQ(code({".a", PayloadType::kKeyword}), Code::kInvalidArgument);
  EXPECT_EQ(code({"a..b", PayloadType::kKeyword}), Code::kInvalidArgument);
  EXPECT_EQ(code({std::string(600, 'a'), PayloadType::kKeyword}),
            Code::kInvalidArgument);
  EXPECT_EQ(code({"a\xFF", PayloadType::kKeyword}), Code::kInvalidArgument);
  EXPECT_EQ(code({"a", static_cast<PayloadType>(99)}), Code::kInvalidArgument);
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(code({absl::StrCat("f", i), PayloadType::kKeyword}), Code::kOk);
  }
  EXPECT_EQ(code({"one_more", PayloadType::kKeyword}), Code::kInvalidArgument);
  EXPECT_EQ(code({"f1", PayloadType::kBool}), Code::kAlreadyExists);
  EXPECT_EQ(database_->CreatePayloadIndex("q", {"a", PayloadType::kBool})
                .status()
                .code(),
            Code::kNotFound);
}

TEST_F(PayloadIndexTest, MayRefuseFiltersWithoutOne) {
  Upsert(0, 100);
  ASSERT_TRUE(
      database_->CreatePayloadIndex("p", {"color", {}}).status().code() ==
      absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(Finished(database_->CreatePayloadIndex(
                           "p", {"color", PayloadType::kKeyword}))
                  .ok());
  ASSERT_TRUE(database_->SetIndexedFiltersOnly("p", true).ok());
  EXPECT_EQ(Count("color = 'c1'"), NumOfColor(100, 1));
  const absl::Status refused =
      collection_->CountMatching(*ParseFilter("price = 3"), {}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_TRUE(absl::StrContains(refused.message(), "price"));
  Open();
  EXPECT_TRUE(collection_->schema().indexed_filters_only);
  ASSERT_TRUE(database_->SetIndexedFiltersOnly("p", false).ok());
  EXPECT_EQ(Count("price = 3"), 1u);
}

// An operation that is cancelled leaves no index.
TEST_F(PayloadIndexTest, CancelledIsDropped) {
  std::atomic<bool> hold = false;
  std::atomic<bool> held = false;
  collection_.reset();
  database_.reset();
  options_.test_hook = [&](absl::string_view point) {
    if (point != "payload_index:start") return;
    held = true;
    held.notify_all();
    hold.wait(true);
  };
  Open();
  Upsert(0, 2'000);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  hold = true;
  const auto operation =
      database_->CreatePayloadIndex("p", {"color", PayloadType::kKeyword});
  ASSERT_TRUE(operation.ok());
  held.wait(false);
  (*operation)->cancel().Cancel();
  hold = false;
  hold.notify_all();
  EXPECT_TRUE(absl::IsCancelled(Finished(operation)));
  EXPECT_TRUE(collection_->schema().payload_fields.empty());
  EXPECT_TRUE(Files().empty());
  EXPECT_EQ(Count("color = 'c3'"), NumOfColor(2'000, 3));
}

// While the disk refuses, filters read payloads; then it is built.
TEST_F(PayloadIndexTest, IsTriedAgainAfterAnError) {
  std::atomic<bool> fail = false;
  collection_.reset();
  database_.reset();
  options_.segment_fault_hook = [&](absl::string_view, absl::string_view path) {
    return fail && absl::StrContains(path, ".fidx") ? ENOSPC : 0;
  };
  Open();
  Upsert(0, 2'000);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  fail = true;
  const auto operation =
      database_->CreatePayloadIndex("p", {"color", PayloadType::kKeyword});
  ASSERT_TRUE(operation.ok());
  num_failures_.wait(0);
  EXPECT_FALSE((*operation)->info().finished);
  EXPECT_EQ(Count("color = 'c3'"), NumOfColor(2'000, 3));
  fail = false;
  EXPECT_TRUE(Finished(operation).ok());
  EXPECT_TRUE(AllReady());
  EXPECT_EQ(Count("color = 'c3' AND TRUE"), NumOfColor(2'000, 3));
}

}  // namespace
}  // namespace vicinal
