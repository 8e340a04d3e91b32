#include "storage/collection_store.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/coding.h"
#include "src/base/point_id.h"
#include "storage/record_store.h"
#include "tests/storage/storage_test_util.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

class CollectionStoreTest : public ::testing::Test {
 protected:
  void Commit(WriteBatch batch) {
    const absl::Status status =
        store_->Commit(std::move(batch), Durability::kBuffered);
    ASSERT_TRUE(status.ok()) << status;
  }
  void Put(Table table, const std::string& key, const std::string& value) {
    WriteBatch batch;
    batch.Put(table, key, value);
    Commit(std::move(batch));
  }
  static std::string Key(CollectionNumber c, absl::string_view rest) {
    std::string key;
    PutBigEndian32(&key, c);
    return absl::StrCat(key, rest);
  }
  // The ids of the collection after `after`, at most `limit`.
  static std::vector<PointId> Page(const CollectionStore& store,
                                   const std::optional<PointId>& after,
                                   size_t limit,
                                   const StoreSnapshot* snapshot = nullptr) {
    std::vector<PointId> ids;
    const absl::Status status =
        store.ScanIds(after, snapshot,
                      [&](const PointId& id, IdEntry) -> absl::StatusOr<bool> {
                        ids.push_back(id);
                        return ids.size() < limit;
                      });
    EXPECT_TRUE(status.ok()) << status;
    return ids;
  }
  // One point with everything that a point can have.
  void PutPoint(const CollectionStore& store, uint64_t number) {
    WriteBatch batch;
    std::string body;
    AppendRecordBody(PointId(number), {{1, "vector"}}, &body);
    store.PutId(&batch, PointId(number), {number + 100, number + 200});
    store.PutRecord(&batch, number + 100, number + 200, body);
    store.PutPayload(&batch, number + 100, "{}");
    store.KillVersion(&batch, number + 50);
    store.PutHead(&batch, {number + 200, number + 101});
    store.PutManifest(&batch, {.next_segment_number = number});
    store.PutStreamFrame(&batch, "stream", number, 1000);
    Commit(std::move(batch));
  }

  TempFolder folder_;
  std::unique_ptr<RecordStore> store_ = OpenOrDie(folder_.data());
  CollectionStore first_{store_.get(), 1};
  CollectionStore second_{store_.get(), 2};
};

TEST_F(CollectionStoreTest, NewCollectionIsEmpty) {
  EXPECT_EQ(first_.GetHead()->sequence, 0);
  EXPECT_EQ(first_.GetHead()->next_ordinal, 1);
  EXPECT_EQ(first_.GetManifest()->next_segment_number, 1);
  EXPECT_EQ(first_.GetManifest()->sealed_below, 1);
  EXPECT_THAT(first_.GetManifest()->segments, IsEmpty());
  EXPECT_THAT(Page(first_, std::nullopt, 10), IsEmpty());
  EXPECT_EQ(*first_.GetStreamFrame("stream"), std::nullopt);
}

TEST_F(CollectionStoreTest, ReadsBackEveryPartOfAPoint) {
  PutPoint(first_, 7);
  EXPECT_EQ(first_.GetHead()->sequence, 207);
  EXPECT_EQ(first_.GetHead()->next_ordinal, 108);
  EXPECT_EQ(first_.GetManifest()->next_segment_number, 7);
  EXPECT_EQ(*first_.GetStreamFrame("stream"), 7);
  EXPECT_EQ(*first_.GetStreamFrame("strea"), std::nullopt);
  const auto entries = first_.LookupIds({PointId(8), PointId(7)});
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_FALSE((*entries)[0].has_value());
  EXPECT_EQ((*entries)[1]->ordinal, 107);
  EXPECT_EQ((*entries)[1]->sequence, 207);
  const auto records = first_.GetRecords({107, 108});
  ASSERT_TRUE(records.ok()) << records.status();
  EXPECT_FALSE((*records)[1].has_value());
  const auto record = RecordView::Decode(*(*records)[0]);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->sequence, 207);
  EXPECT_EQ(record->id, PointId(7));
  ASSERT_EQ(record->vectors.size(), 1);
  EXPECT_EQ(record->vectors[0].field, 1);
  EXPECT_EQ(record->vectors[0].bytes, "vector");
  EXPECT_THAT(*first_.GetPayloads({107, 108}), ElementsAre("{}", std::nullopt));
}

TEST_F(CollectionStoreTest, KilledVersionLeavesOnlyATombstone) {
  PutPoint(first_, 7);
  WriteBatch batch;
  first_.KillVersion(&batch, 107);
  first_.DeleteId(&batch, PointId(7));
  first_.DeleteTombstone(&batch, 57);
  Commit(std::move(batch));
  EXPECT_FALSE((*first_.GetRecords({107}))[0].has_value());
  EXPECT_FALSE((*first_.GetPayloads({107}))[0].has_value());
  EXPECT_FALSE((*first_.LookupIds({PointId(7)}))[0].has_value());
  std::vector<Ordinal> dead;
  ASSERT_TRUE(first_
                  .ScanTombstones([&](Ordinal ordinal) {
                    dead.push_back(ordinal);
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_THAT(dead, ElementsAre(107));
}

TEST_F(CollectionStoreTest, ScansRecordsInOrderOfOrdinalsFromTheFirstAsked) {
  for (uint64_t number : {1000, 2, 300, 1}) PutPoint(first_, number);
  PutPoint(second_, 5);
  std::vector<Ordinal> ordinals;
  const auto visit = [&](Ordinal ordinal, absl::string_view record) {
    ordinals.push_back(ordinal);
    return RecordView::Decode(record).status();
  };
  ASSERT_TRUE(first_.ScanRecords(0, visit).ok());
  EXPECT_THAT(ordinals, ElementsAre(101, 102, 400, 1100));
  ordinals.clear();
  ASSERT_TRUE(first_.ScanRecords(400, visit).ok());
  EXPECT_THAT(ordinals, ElementsAre(400, 1100));
  const absl::Status stopped = first_.ScanRecords(
      0,
      [](Ordinal, absl::string_view) { return absl::AbortedError("enough"); });
  EXPECT_EQ(stopped, absl::AbortedError("enough"));
}

TEST_F(CollectionStoreTest, PagesThroughIdsInTheirOrder) {
  std::vector<PointId> ids = {
      PointId(0),
      PointId(255),
      PointId(256),
      PointId(UINT64_MAX),
      *PointId::ParseUuid("00000000-0000-0000-0000-000000000001"),
      *PointId::ParseUuid("ffffffff-ffff-ffff-ffff-ffffffffffff"),
      *PointId::FromString("a"),
      *PointId::FromString("a b"),
      *PointId::FromString(std::string(512, 'z'))};
  WriteBatch batch;
  for (size_t i = ids.size(); i-- > 0;) first_.PutId(&batch, ids[i], {i, i});
  second_.PutId(&batch, PointId(1), {});
  Commit(std::move(batch));
  EXPECT_EQ(Page(first_, std::nullopt, 100), ids);
  for (size_t limit = 1; limit <= ids.size(); ++limit) {
    std::vector<PointId> all;
    std::optional<PointId> after;
    for (;;) {
      const std::vector<PointId> page = Page(first_, after, limit);
      if (page.empty()) break;
      all.insert(all.end(), page.begin(), page.end());
      after = page.back();
    }
    EXPECT_EQ(all, ids) << "pages of " << limit;
  }
  EXPECT_THAT(Page(first_, PointId(100), 1), ElementsAre(PointId(255)))
      << "after an id that is not there";
}

TEST_F(CollectionStoreTest, SnapshotHidesLaterIds) {
  PutPoint(first_, 1);
  const auto snapshot = store_->Snapshot();
  PutPoint(first_, 2);
  EXPECT_THAT(Page(first_, std::nullopt, 10, snapshot.get()),
              ElementsAre(PointId(1)));
  EXPECT_FALSE(
      (*first_.LookupIds({PointId(2)}, snapshot.get()))[0].has_value());
  EXPECT_FALSE((*first_.GetRecords({102}, snapshot.get()))[0].has_value());
}

TEST_F(CollectionStoreTest, DeleteAllTakesOneCollectionAndNoOther) {
  ASSERT_TRUE(PutDescriptor(store_.get(), 1, "schema 1").ok());
  ASSERT_TRUE(PutDescriptor(store_.get(), 2, "schema 2").ok());
  for (uint64_t number = 1; number <= 50; ++number) {
    PutPoint(first_, number);
    PutPoint(second_, number);
  }
  EXPECT_THAT(*ListOrphans(store_.get()), IsEmpty());
  ASSERT_TRUE(DeleteDescriptor(store_.get(), 1).ok());
  EXPECT_THAT(*ListOrphans(store_.get()), ElementsAre(1));
  const absl::Status deleted = first_.DeleteAll();
  ASSERT_TRUE(deleted.ok()) << deleted;
  EXPECT_THAT(*ListOrphans(store_.get()), IsEmpty());
  EXPECT_THAT(*ListDescriptors(store_.get()), ElementsAre(Pair(2, "schema 2")));
  EXPECT_THAT(Page(first_, std::nullopt, 100), IsEmpty());
  EXPECT_EQ(first_.GetHead()->sequence, 0);
  EXPECT_EQ(*first_.GetStreamFrame("stream"), std::nullopt);
  EXPECT_THAT(Page(second_, std::nullopt, 100), testing::SizeIs(50));
  EXPECT_EQ(*second_.GetStreamFrame("stream"), 50);
}

TEST_F(CollectionStoreTest, ListsOrphansOfEveryKind) {
  WriteBatch batch;
  CollectionStore(store_.get(), 3).PutHead(&batch, {});
  CollectionStore(store_.get(), 4).PutManifest(&batch, {});
  CollectionStore(store_.get(), 5).PutStreamFrame(&batch, "s", 1, 1);
  CollectionStore(store_.get(), 6).PutId(&batch, PointId(1), {});
  CollectionStore(store_.get(), 7).PutPayload(&batch, 1, "{}");
  CollectionStore(store_.get(), 8).KillVersion(&batch, 1);
  CollectionStore(store_.get(), 9).PutRecord(&batch, 1, 1, "");
  Commit(std::move(batch));
  EXPECT_THAT(*ListOrphans(store_.get()), ElementsAre(3, 4, 5, 6, 7, 8, 9));
}

TEST_F(CollectionStoreTest, ForgetsOldStreamsOnly) {
  WriteBatch batch;
  first_.PutStreamFrame(&batch, "old", 5, 1000);
  first_.PutStreamFrame(&batch, "new", 6, 2000);
  second_.PutStreamFrame(&batch, "old", 7, 1000);
  Commit(std::move(batch));
  ASSERT_TRUE(first_.ForgetStreams(2000).ok());
  EXPECT_EQ(*first_.GetStreamFrame("old"), std::nullopt);
  EXPECT_EQ(*first_.GetStreamFrame("new"), 6);
  EXPECT_EQ(*second_.GetStreamFrame("old"), 7);
}

TEST_F(CollectionStoreTest, NeverGivesANumberTwice) {
  EXPECT_EQ(*NextCollectionNumber(store_.get()), 1);
  EXPECT_EQ(*NextCollectionNumber(store_.get()), 2);
  store_.reset();
  store_ = OpenOrDie(folder_.data());
  EXPECT_EQ(*NextCollectionNumber(store_.get()), 3);
  std::string last;
  PutFixed<uint32_t>(&last, UINT32_MAX);
  Put(Table::kMeta, "N", last);
  EXPECT_EQ(NextCollectionNumber(store_.get()).status().code(),
            absl::StatusCode::kResourceExhausted);
  Put(Table::kMeta, "N", "x");
  EXPECT_EQ(NextCollectionNumber(store_.get()).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST_F(CollectionStoreTest, MalformedRowsAreDataLossAndSayWhere) {
  const std::string meta_key = Key(1, "");
  Put(Table::kMeta, "H" + meta_key, "short");
  Put(Table::kMeta, "M" + meta_key, "");
  Put(Table::kMeta, "S" + meta_key + "s", "short");
  Put(Table::kIds, Key(1, PointId(1).Encode()), "short");
  Put(Table::kIds, Key(2, "\x09"), std::string(16, 'x'));
  Put(Table::kRecords, Key(1, "short"), "");
  Put(Table::kTombstones, Key(1, "rather long key"), "");
  Put(Table::kMeta, "C", "descriptor without a number");
  const auto no_record = [](Ordinal, absl::string_view) {
    return absl::OkStatus();
  };
  const auto no_id = [](const PointId&, IdEntry) -> absl::StatusOr<bool> {
    return true;
  };
  const absl::Status statuses[] = {
      first_.GetHead().status(),
      first_.GetManifest().status(),
      first_.GetStreamFrame("s").status(),
      first_.ForgetStreams(0),
      first_.LookupIds({PointId(1)}).status(),
      first_.ScanIds(std::nullopt, nullptr, no_id),
      second_.ScanIds(std::nullopt, nullptr, no_id),
      first_.ScanRecords(0, no_record),
      first_.ScanTombstones([](Ordinal) { return absl::OkStatus(); }),
      ListDescriptors(store_.get()).status(),
  };
  for (const absl::Status& status : statuses) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("malformed"));
  }
}

Manifest ThreeSegments() {
  return {.next_segment_number = 12,
          .sealed_below = 5000,
          .segments = {{3, 1000, 1, 1500}, {7, 10, 4000, 4999}, {11, 0, 0, 0}}};
}

TEST(ManifestTest, SurvivesEncoding) {
  const auto decoded = Manifest::Decode(ThreeSegments().Encode());
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->next_segment_number, 12);
  EXPECT_EQ(decoded->sealed_below, 5000);
  ASSERT_EQ(decoded->segments.size(), 3);
  EXPECT_EQ(decoded->segments[1].number, 7);
  EXPECT_EQ(decoded->segments[1].num_rows, 10);
  EXPECT_EQ(decoded->segments[1].min_ordinal, 4000);
  EXPECT_EQ(decoded->segments[1].max_ordinal, 4999);
}

TEST(ManifestTest, CutOrLengthenedIsDataLoss) {
  const std::string bytes = ThreeSegments().Encode();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(Manifest::Decode(bytes.substr(0, size)).status().code(),
              absl::StatusCode::kDataLoss)
        << size;
  }
  EXPECT_FALSE(Manifest::Decode(bytes + "x").ok());
}

TEST(ManifestTest, ImpossibleSegmentsAreDataLoss) {
  const SegmentEntry impossible[] = {
      {3, 1, 1, 1},                  // repeats a number
      {12, 1, 1, 1},                 // not yet given out
      {4, uint64_t{1} << 32, 1, 1},  // more rows than RowIds
      {4, 1, 2, 1},                  // ordinals the wrong way round
  };
  for (const SegmentEntry& entry : impossible) {
    Manifest manifest = ThreeSegments();
    manifest.segments.push_back(entry);
    EXPECT_EQ(Manifest::Decode(manifest.Encode()).status().code(),
              absl::StatusCode::kDataLoss)
        << entry.number;
  }
  // A count that would overflow the size of the entries.
  std::string huge = ThreeSegments().Encode().substr(0, 17);
  PutFixed<uint32_t>(&huge, uint32_t{1} << 27);
  EXPECT_FALSE(Manifest::Decode(huge).ok());
}

TEST(ManifestTest, NewerVersionIsRefused) {
  std::string bytes = ThreeSegments().Encode();
  bytes[0] = 2;
  EXPECT_EQ(Manifest::Decode(bytes).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

std::string Record(const PointId& id,
                   const std::vector<RecordView::Vector>& vectors) {
  std::string record;
  PutFixed<uint64_t>(&record, 42);
  AppendRecordBody(id, vectors, &record);
  return record;
}

TEST(RecordViewTest, SurvivesEncodingWithAnyNumberOfVectors) {
  const std::string large(300, 'v');
  const std::vector<RecordView::Vector> all = {{0, ""}, {255, large}, {7, "x"}};
  for (size_t n = 0; n <= all.size(); ++n) {
    const std::string record =
        Record(*PointId::FromString("id"), {all.begin(), all.begin() + n});
    const auto view = RecordView::Decode(record);
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ(view->sequence, 42);
    EXPECT_EQ(view->id.string(), "id");
    ASSERT_EQ(view->vectors.size(), n);
    for (size_t i = 0; i < n; ++i) {
      EXPECT_EQ(view->vectors[i].field, all[i].field);
      EXPECT_EQ(view->vectors[i].bytes, all[i].bytes);
    }
  }
}

TEST(RecordViewTest, CutInsideAnythingIsDataLoss) {
  const std::string record = Record(PointId(1), {{1, "12345"}});
  const size_t without_vector = Record(PointId(1), {}).size();
  for (size_t size = 0; size < record.size(); ++size) {
    const auto view = RecordView::Decode(record.substr(0, size));
    if (size == without_vector) continue;  // a record of no vectors
    EXPECT_EQ(view.status().code(), absl::StatusCode::kDataLoss) << size;
    EXPECT_THAT(std::string(view.status().message()), HasSubstr("at byte"));
  }
}

TEST(RecordViewTest, LengthsBeyondTheEndAreDataLoss) {
  std::string record = Record(PointId(1), {});
  record += '\1';
  PutVarint64(&record, UINT64_MAX);
  EXPECT_EQ(RecordView::Decode(record).status().code(),
            absl::StatusCode::kDataLoss);
  std::string no_id(8, '\0');
  PutLengthPrefixed(&no_id, "\x07garbage");
  EXPECT_EQ(RecordView::Decode(no_id).status().code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace vicinal
