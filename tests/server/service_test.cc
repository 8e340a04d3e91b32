// Each call over real gRPC, as a client uses it.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/server_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;

class ServiceTest : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    CreatePoints();
  }

  void Upsert(const v1::PointBatch& batch) {
    v1::UpsertRequest request;
    request.set_collection("points");
    *request.mutable_points() = batch;
    v1::UpsertResponse reply;
    Call call;
    const grpc::Status status = points_->Upsert(&call, request, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_GT(reply.commit().sequence(), 0u);
    EXPECT_FALSE(reply.commit().collection_uuid().empty());
  }

  v1::SearchResponse Search(const v1::SearchRequest& request) {
    v1::SearchResponse reply;
    Call call;
    const grpc::Status status = search_->Search(&call, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
  }

  static v1::SearchRequest NearestTo(float x, uint32_t k) {
    v1::SearchRequest request;
    request.set_collection("points");
    auto* retrieve = request.mutable_query()->mutable_retrieve();
    retrieve->set_vector("l2");
    for (const float v : {x, 0.f, 0.f, 0.f}) {
      retrieve->mutable_query()->add_values(v);
    }
    retrieve->set_k(k);
    return request;
  }

  // Every call, by a filter that accepts 12 of the numbers 1 to 100.
  void ExpectFiltered(const v1::Filter& filter) {
    v1::SearchRequest search = NearestTo(1, 3);
    *search.mutable_query()->mutable_retrieve()->mutable_filter() = filter;
    EXPECT_THAT(Search(search).result().ids().numbers(),
                ElementsAre(12, 15, 18));
    search.mutable_query()->mutable_retrieve()->set_k(50);
    EXPECT_EQ(Search(search).result().ids().numbers_size(), 12);

    v1::SearchBatchRequest batch;
    batch.set_collection("points");
    batch.set_vector("l2");
    batch.set_k(2);
    batch.mutable_queries()->set_dim(4);
    const float queries[8] = {1, 0, 0, 0, 31, 0, 0, 0};
    batch.mutable_queries()->set_data(queries, sizeof(queries));
    *batch.mutable_filter() = filter;
    v1::SearchBatchResponse found;
    Call batch_call;
    ASSERT_TRUE(search_->SearchBatch(&batch_call, batch, &found).ok());
    EXPECT_THAT(found.results(0).ids().numbers(), ElementsAre(12, 15));
    EXPECT_THAT(found.results(1).ids().numbers(), ElementsAre(33, 27));

    v1::CountRequest count;
    count.set_collection("points");
    *count.mutable_filter() = filter;
    v1::CountResponse counted;
    Call count_call;
    ASSERT_TRUE(points_->Count(&count_call, count, &counted).ok());
    EXPECT_EQ(counted.count(), 12u);

    v1::ScrollRequest scroll;
    scroll.set_collection("points");
    scroll.set_page_size(5);
    scroll.mutable_after()->set_number(20);
    *scroll.mutable_filter() = filter;
    Call scroll_call;
    auto pages = points_->Scroll(&scroll_call, scroll);
    v1::ScrollResponse page;
    std::vector<uint64_t> ids;
    while (pages->Read(&page)) {
      for (const uint64_t id : page.points().columns().ids().numbers()) {
        ids.push_back(id);
      }
    }
    ASSERT_TRUE(pages->Finish().ok());
    EXPECT_THAT(ids, ElementsAre(21, 24, 27, 33, 36, 39, 42, 45, 48));

    v1::DeleteRequest remove;
    remove.set_collection("points");
    *remove.mutable_filter() = filter;
    v1::DeleteResponse removed;
    Call delete_call;
    ASSERT_TRUE(points_->Delete(&delete_call, remove, &removed).ok());
    EXPECT_EQ(removed.num_deleted(), 12u);
    EXPECT_EQ(Count(), 88u);
    EXPECT_EQ(Search(search).result().ids().numbers_size(), 0);
  }
};

TEST_F(ServiceTest, WritesAreSearchableAtOnceAndAfterARestart) {
  Upsert(Batch(1, 100));
  for (int round = 0; round < 2; ++round) {
    const v1::SearchResponse reply = Search(NearestTo(50.25f, 3));
    EXPECT_THAT(reply.result().ids().numbers(), ElementsAre(50, 51, 49));
    EXPECT_FLOAT_EQ(reply.result().scores(0), 0.0625f);
    EXPECT_EQ(Count(), 100u);
    Restart();
  }
}

TEST_F(ServiceTest, UpsertReplacesAndDeleteRemoves) {
  Upsert(Batch(1, 10));
  Upsert(Batch(5, 10));
  EXPECT_EQ(Count(), 14u);
  v1::DeleteRequest request;
  request.set_collection("points");
  request.mutable_ids()->add_numbers(3);
  request.mutable_ids()->add_numbers(999);
  v1::DeleteResponse reply;
  Call call;
  ASSERT_TRUE(points_->Delete(&call, request, &reply).ok());
  EXPECT_EQ(reply.num_deleted(), 1u);
  EXPECT_EQ(Count(), 13u);
  EXPECT_THAT(Search(NearestTo(3, 2)).result().ids().numbers(),
              ElementsAre(2, 4));
}

// Of every third number, those from 10 to 50, but 30: as text with parameters.
v1::Filter TextFilter() {
  v1::Filter filter;
  filter.set_text("n >= $low AND n <= 50 AND n IN $thirds AND ID != 30");
  (*filter.mutable_parameters())["low"].set_double_value(10);
  for (int n = 3; n <= 99; n += 3) {
    (*filter.mutable_parameters())["thirds"]
        .mutable_list()
        ->add_values()
        ->set_int_value(n);
  }
  return filter;
}

// The same as a tree.
v1::Filter TreeFilter() {
  v1::Filter filter;
  auto* all = filter.mutable_expression()->mutable_all_of();
  auto* between = all->add_operands()->mutable_between();
  between->set_path("n");
  between->mutable_low()->set_double_value(10);
  between->mutable_high()->set_int_value(50);
  auto* thirds = all->add_operands()->mutable_contains_any();
  thirds->set_path("n");
  for (int n = 3; n <= 99; n += 3) thirds->add_values()->set_int_value(n);
  all->add_operands()->mutable_negated()->mutable_ids()->add_numbers(30);
  return filter;
}

TEST_F(ServiceTest, FiltersSearchesCountsScrollsAndDeletionsByBothForms) {
  for (const v1::Filter& filter : {TextFilter(), TreeFilter()}) {
    SCOPED_TRACE(filter.ShortDebugString());
    Upsert(Batch(1, 100));
    ExpectFiltered(filter);
  }
}

// Filters are remembered by their text, which has to tell these apart.
TEST_F(ServiceTest, FiltersTellAUuidFromAStringThatLooksLikeOne) {
  const std::string text = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
  v1::PointBatch batch;
  for (const bool is_uuid : {true, false}) {
    v1::PointRow* row = batch.add_rows();
    is_uuid ? row->mutable_id()->set_uuid(text)
            : row->mutable_id()->set_string(text);
    v1::Vector* vector = row->add_vectors();
    vector->set_name("l2");
    for (int i = 0; i < 4; ++i) vector->add_values(1);
  }
  Upsert(batch);
  const auto find = [&](const v1::PointId& id) {
    v1::SearchRequest search = NearestTo(1, 3);
    *search.mutable_query()
         ->mutable_retrieve()
         ->mutable_filter()
         ->mutable_expression()
         ->mutable_ids()
         ->add_ids() = id;
    return Search(search).result().ids();
  };
  const v1::PointIds by_uuid = find(batch.rows(0).id());
  EXPECT_EQ(by_uuid.uuids().size(), 16u);
  EXPECT_EQ(by_uuid.strings_size(), 0);
  EXPECT_THAT(find(batch.rows(1).id()).strings(), ElementsAre(text));
}

TEST_F(ServiceTest, UpdatePayloadChangesPayloadsByIdsAndByFilter) {
  Upsert(Batch(1, 20));
  const auto update = [&](v1::UpdatePayloadRequest request) {
    request.set_collection("points");
    v1::UpdatePayloadResponse reply;
    Call call;
    const grpc::Status status = points_->UpdatePayload(&call, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_FALSE(reply.commit().collection_uuid().empty());
    return reply;
  };
  v1::UpdatePayloadRequest merge;
  for (const uint64_t id : {3, 999, 4, 3}) merge.mutable_ids()->add_numbers(id);
  merge.set_merge(R"({"a": {"b": 1, "c": 2}})");
  const v1::UpdatePayloadResponse merged = update(merge);
  EXPECT_EQ(merged.num_updated(), 2u);
  EXPECT_EQ(merged.commit().sequence(), 2u);
  v1::UpdatePayloadRequest remove;
  remove.mutable_filter()->set_text("a.b = 1 OR n = 5");
  remove.set_merge(R"({"d": true})");
  remove.add_delete_keys("a.b");
  remove.add_delete_keys("n");
  EXPECT_EQ(update(remove).num_updated(), 3u);
  v1::UpdatePayloadRequest set;
  set.mutable_ids()->add_numbers(6);
  set.set_set(R"({ "new": 1 })");
  set.set_durability(v1::DURABILITY_BUFFERED);
  EXPECT_EQ(update(set).commit().sequence(), 4u);
  set.mutable_ids()->set_numbers(0, 999);
  const v1::UpdatePayloadResponse none = update(set);
  EXPECT_EQ(none.num_updated(), 0u);
  EXPECT_EQ(none.commit().sequence(), 4u);
  v1::GetRequest get;
  get.set_collection("points");
  for (uint64_t id = 2; id <= 6; ++id) get.mutable_ids()->add_numbers(id);
  get.mutable_select()->set_with_payload(true);
  get.mutable_select()->set_with_all_vectors(true);
  for (int round = 0; round < 2; ++round) {
    v1::GetResponse found;
    Call call;
    ASSERT_TRUE(points_->Get(&call, get, &found).ok());
    EXPECT_THAT(found.points().columns().payloads(),
                ElementsAre("{\"n\":2}", R"({"a":{"c":2},"d":true})",
                            R"({"a":{"c":2},"d":true})", R"({"d":true})",
                            R"({ "new": 1 })"));
    EXPECT_THAT(found.sequences(), ElementsAre(1, 3, 3, 3, 4));
    EXPECT_EQ(found.points().columns().vectors(0).data(),
              Batch(2, 5).columns().vectors(0).data());
    EXPECT_THAT(Search(NearestTo(4.1f, 2)).result().ids().numbers(),
                ElementsAre(4, 5));
    EXPECT_EQ(Count(), 20u);
    Restart();
  }
}

TEST_F(ServiceTest, UpsertsOnlyUnderItsCondition) {
  const auto upsert = [&](uint64_t first, size_t n,
                          v1::UpsertCondition condition,
                          const std::vector<uint64_t>& sequences = {}) {
    v1::UpsertRequest request;
    request.set_collection("points");
    *request.mutable_points() = Batch(first, n);
    request.set_condition(condition);
    for (const uint64_t s : sequences) request.add_expected_sequences(s);
    v1::UpsertResponse reply;
    Call call;
    return points_->Upsert(&call, request, &reply);
  };
  const auto expect_refused = [&](const grpc::Status& status,
                                  grpc::StatusCode code, const char* reason,
                                  const char* words) {
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_EQ(DetailsOf(status).reason, reason);
    EXPECT_FALSE(DetailsOf(status).retry_info);
    EXPECT_THAT(status.error_message(), ::testing::HasSubstr(words));
  };
  const auto none = v1::UPSERT_CONDITION_UNSPECIFIED;
  const auto exist = v1::UPSERT_CONDITION_MUST_EXIST;
  const auto not_exist = v1::UPSERT_CONDITION_MUST_NOT_EXIST;
  EXPECT_TRUE(upsert(1, 3, not_exist).ok());  // commit 1
  expect_refused(upsert(3, 2, not_exist), grpc::StatusCode::ALREADY_EXISTS,
                 "POINT_EXISTS", "point 3 exists, stored by commit 1");
  EXPECT_TRUE(upsert(2, 2, exist).ok());  // commit 2
  expect_refused(upsert(3, 2, exist), grpc::StatusCode::FAILED_PRECONDITION,
                 "POINT_MISSING", "point 4 does not exist");
  EXPECT_TRUE(upsert(3, 2, none, {2, 0}).ok());  // commit 3
  expect_refused(upsert(3, 2, none, {3, 0}), grpc::StatusCode::ABORTED,
                 "SEQUENCE_MISMATCH",
                 "point 4 exists, stored by commit 3; the request expected "
                 "none");
  EXPECT_EQ(Count(), 4u);
  Restart();
  EXPECT_TRUE(upsert(3, 2, none, {3, 3}).ok());
}

TEST_F(ServiceTest, GetReturnsWhatExistsInTheOrderAskedInBothForms) {
  Upsert(Batch(1, 5));
  v1::GetRequest request;
  request.set_collection("points");
  for (const uint64_t id : {4, 77, 2}) request.mutable_ids()->add_numbers(id);
  request.mutable_select()->set_with_payload(true);
  request.mutable_select()->set_with_all_vectors(true);
  v1::GetResponse columns;
  {
    Call call;
    ASSERT_TRUE(points_->Get(&call, request, &columns).ok());
  }
  EXPECT_THAT(columns.points().columns().ids().numbers(), ElementsAre(4, 2));
  EXPECT_THAT(columns.points().columns().payloads(),
              ElementsAre("{\"n\":4}", "{\"n\":2}"));
  ASSERT_EQ(columns.points().columns().vectors_size(), 1);
  EXPECT_EQ(columns.points().columns().vectors(0).data().size(), 32u);

  request.mutable_select()->set_form(v1::REPLY_FORM_ROWS);
  v1::GetResponse rows;
  Call call;
  ASSERT_TRUE(points_->Get(&call, request, &rows).ok());
  ASSERT_EQ(rows.points().rows_size(), 2);
  EXPECT_EQ(rows.points().rows(0).id().number(), 4u);
  EXPECT_THAT(rows.points().rows(0).vectors(0).values(),
              ElementsAre(4, 0, 0, 0));
  EXPECT_EQ(rows.points().rows(0).payload().fields().at("n").number_value(), 4);
}

TEST_F(ServiceTest, RowsAndColumnsStoreTheSame) {
  v1::PointBatch batch;
  auto* row = batch.add_rows();
  row->mutable_id()->set_string("a");
  auto* vector = row->add_vectors();
  vector->set_name("bytes");
  for (const float v : {1.f, 2.f, 3.f, 255.f}) vector->add_values(v);
  (*row->mutable_payload()->mutable_fields())["k"].set_string_value("v");
  Upsert(batch);
  v1::GetRequest request;
  request.set_collection("points");
  request.mutable_ids()->add_strings("a");
  request.mutable_select()->set_with_payload(true);
  request.mutable_select()->add_vectors("bytes");
  v1::GetResponse reply;
  Call call;
  ASSERT_TRUE(points_->Get(&call, request, &reply).ok());
  EXPECT_EQ(reply.points().columns().vectors(0).data(), "\x01\x02\x03\xff");
  EXPECT_THAT(reply.points().columns().payloads(),
              ElementsAre("{\"k\":\"v\"}"));
}

TEST_F(ServiceTest, ScrollStreamsEverythingInIdOrder) {
  Upsert(Batch(1, 1000));
  v1::ScrollRequest request;
  request.set_collection("points");
  request.set_page_size(64);
  request.mutable_after()->set_number(10);
  request.set_limit(500);
  Call call;
  auto reader = points_->Scroll(&call, request);
  uint64_t next = 11;
  v1::ScrollResponse page;
  while (reader->Read(&page)) {
    EXPECT_LE(page.points().columns().ids().numbers_size(), 64);
    for (const uint64_t id : page.points().columns().ids().numbers()) {
      EXPECT_EQ(id, next++);
    }
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(next, 511u);
}

TEST_F(ServiceTest, SearchBatchEqualsSearchOneByOne) {
  Upsert(Batch(1, 500));
  v1::SearchBatchRequest request;
  request.set_collection("points");
  request.set_vector("l2");
  request.set_k(5);
  request.mutable_queries()->set_dim(4);
  for (const float x : {1.f, 250.4f, 499.f}) {
    const float query[4] = {x, 0, 0, 0};
    request.mutable_queries()->mutable_data()->append(
        reinterpret_cast<const char*>(query), sizeof(query));
  }
  v1::SearchBatchResponse reply;
  Call call;
  ASSERT_TRUE(search_->SearchBatch(&call, request, &reply).ok());
  ASSERT_EQ(reply.results_size(), 3);
  int i = 0;
  for (const float x : {1.f, 250.4f, 499.f}) {
    const v1::SearchResponse one = Search(NearestTo(x, 5));
    EXPECT_EQ(one.result().SerializeAsString(),
              reply.results(i++).SerializeAsString());
  }
}

TEST_F(ServiceTest, FuseAndRerankCombineStages) {
  Upsert(Batch(1, 100));
  v1::SearchRequest request = NearestTo(20, 10);
  const v1::Query leaf = request.query();
  auto* rerank = request.mutable_query()->mutable_rerank();
  rerank->set_vector("l2");
  rerank->set_k(2);
  for (const float v : {24.f, 0.f, 0.f, 0.f}) {
    rerank->mutable_query()->add_values(v);
  }
  auto* fuse = rerank->mutable_input()->mutable_fuse();
  fuse->set_k(10);
  *fuse->add_inputs() = leaf;
  *fuse->add_inputs() = leaf;
  const v1::SearchResponse reply = Search(request);
  EXPECT_THAT(reply.result().ids().numbers(), ElementsAre(24, 23));
}

TEST_F(ServiceTest, WeightsOfAFusionDecideWhoComesFirst) {
  Upsert(Batch(1, 100));
  v1::SearchRequest request = NearestTo(10, 3);
  const v1::Query near_10 = request.query();
  const v1::Query near_50 = NearestTo(50, 3).query();
  auto* fuse = request.mutable_query()->mutable_fuse();
  fuse->set_k(2);
  fuse->set_rank_constant(1);
  *fuse->add_inputs() = near_10;
  *fuse->add_inputs() = near_50;
  fuse->add_weights(1);
  fuse->add_weights(4);
  v1::SearchResponse reply = Search(request);
  EXPECT_EQ(reply.result().ids().numbers(0), 50u);
  EXPECT_FLOAT_EQ(reply.result().scores(0), 4.f / (1 + 1));
  EXPECT_FLOAT_EQ(reply.result().scores(1), 4.f / (1 + 2));
  fuse->set_weights(1, 0);
  reply = Search(request);
  EXPECT_EQ(reply.result().ids().numbers(0), 10u);
  EXPECT_FLOAT_EQ(reply.result().scores(0), 1.f / (1 + 1));
}

TEST_F(ServiceTest, RerankScoresByAnotherVectorAndDropsPointsWithoutIt) {
  v1::PointBatch batch = Batch(1, 4);
  auto* bytes = batch.mutable_columns()->add_vectors();
  bytes->set_name("bytes");
  bytes->set_dim(4);
  bytes->set_type(v1::ELEMENT_TYPE_UINT8);
  bytes->add_present(0);
  bytes->add_present(2);
  bytes->add_present(3);
  for (const char value : {9, 5, 7}) {  // of the points 1, 3 and 4
    bytes->mutable_data()->append(std::string("\0\0\0", 3) + value);
  }
  Upsert(batch);
  v1::SearchRequest request = NearestTo(1, 3);  // 1, 2, 3
  const v1::Query leaf = request.query();
  auto* rerank = request.mutable_query()->mutable_rerank();
  *rerank->mutable_input() = leaf;
  rerank->set_vector("bytes");
  rerank->mutable_query()->set_type(v1::ELEMENT_TYPE_UINT8);
  rerank->mutable_query()->set_data(std::string("\0\0\0\5", 4));
  rerank->set_k(10);
  const v1::SearchResponse reply = Search(request);
  EXPECT_THAT(reply.result().ids().numbers(), ElementsAre(3, 1));
  EXPECT_THAT(reply.result().scores(), ElementsAre(0, 16));
}

TEST_F(ServiceTest, AScoreThresholdCutsResultsOff) {
  // "l2" is (id, 0, 0, 0); "cos" gets an angle, the steeper the larger the id.
  v1::PointBatch batch = Batch(1, 20);
  auto* cos = batch.mutable_columns()->add_vectors();
  cos->set_name("cos");
  cos->set_dim(4);
  for (int i = 1; i <= 20; ++i) {
    const float vector[4] = {1, static_cast<float>(i), 0, 0};
    cos->mutable_data()->append(reinterpret_cast<const char*>(vector), 16);
  }
  Upsert(batch);
  v1::SearchRequest request = NearestTo(10, 20);
  auto* retrieve = request.mutable_query()->mutable_retrieve();
  retrieve->set_score_threshold(4);  // squared distances
  EXPECT_THAT(Search(request).result().ids().numbers(),
              ElementsAre(10, 9, 11, 8, 12));
  retrieve->set_k(2);
  EXPECT_THAT(Search(request).result().ids().numbers(), ElementsAre(10, 9));
  retrieve->set_score_threshold(-1);
  EXPECT_EQ(Search(request).result().ids().numbers_size(), 0);
  // A score that was returned keeps its own hit, and none behind it.
  retrieve->set_k(20);
  retrieve->clear_score_threshold();
  retrieve->set_vector("cos");
  const v1::SearchResponse all = Search(request);
  ASSERT_EQ(all.result().scores_size(), 20);
  for (int i = 0; i < 20; ++i) {
    retrieve->set_score_threshold(all.result().scores(i));
    EXPECT_EQ(Search(request).result().scores_size(), i + 1);
  }
  v1::SearchBatchRequest many;
  many.set_collection("points");
  many.set_vector("l2");
  many.set_k(10);
  many.mutable_queries()->set_dim(4);
  const float queries[8] = {1, 0, 0, 0, 5, 0, 0, 0};
  many.mutable_queries()->set_data(queries, sizeof(queries));
  many.set_score_threshold(1);
  v1::SearchBatchResponse found;
  Call call;
  ASSERT_TRUE(search_->SearchBatch(&call, many, &found).ok());
  EXPECT_THAT(found.results(0).ids().numbers(), ElementsAre(1, 2));
  EXPECT_THAT(found.results(1).ids().numbers(), ElementsAre(5, 4, 6));
}

TEST_F(ServiceTest, PagesOfAResultAreItsParts) {
  Upsert(Batch(1, 25));
  v1::SearchRequest request = NearestTo(0, 10);
  std::vector<uint64_t> ids;
  for (const uint32_t offset : {0, 10, 20, 30}) {
    request.set_offset(offset);
    const v1::SearchResponse page = Search(request);
    EXPECT_EQ(page.result().ids().numbers_size(), offset == 20   ? 5
                                                  : offset == 30 ? 0
                                                                 : 10);
    for (const uint64_t id : page.result().ids().numbers()) ids.push_back(id);
  }
  ASSERT_EQ(ids.size(), 25u);
  for (uint64_t i = 0; i < 25; ++i) EXPECT_EQ(ids[i], i + 1);
  v1::SearchBatchRequest many;
  many.set_collection("points");
  many.set_vector("l2");
  many.set_k(2);
  many.set_offset(3);
  many.mutable_queries()->set_dim(4);
  const float queries[8] = {0, 0, 0, 0, 26, 0, 0, 0};
  many.mutable_queries()->set_data(queries, sizeof(queries));
  v1::SearchBatchResponse found;
  Call call;
  ASSERT_TRUE(search_->SearchBatch(&call, many, &found).ok());
  EXPECT_THAT(found.results(0).ids().numbers(), ElementsAre(4, 5));
  EXPECT_THAT(found.results(1).ids().numbers(), ElementsAre(22, 21));
}

TEST_F(ServiceTest, GroupsHoldTheirHitsOneAfterTheOther) {
  v1::PointBatch batch = Batch(1, 8);
  batch.mutable_columns()->clear_payloads();
  for (const char* payload :
       {R"({"g": "a"})", R"({"g": 7})", R"({"g": ["a", 7.0]})",
        R"({"g": true})", "{}", R"({"g": "a"})", R"({"g": 1.5})",
        R"({"g": "b"})"}) {
    batch.mutable_columns()->add_payloads(payload);
  }
  Upsert(batch);
  v1::SearchRequest request = NearestTo(0, 0);
  request.mutable_group_by()->set_path("g");
  request.mutable_group_by()->set_group_size(2);
  request.mutable_group_by()->set_num_groups(3);
  const v1::SearchResult found = Search(request).result();
  EXPECT_THAT(found.ids().numbers(), ElementsAre(1, 3, 2, 3, 4));
  EXPECT_THAT(found.scores(), ElementsAre(1, 9, 4, 9, 16));
  ASSERT_EQ(found.groups_size(), 3);
  EXPECT_EQ(found.groups(0).value().string_value(), "a");
  EXPECT_EQ(found.groups(0).num_hits(), 2u);
  EXPECT_EQ(found.groups(1).value().int_value(), 7);
  EXPECT_EQ(found.groups(1).num_hits(), 2u);
  EXPECT_TRUE(found.groups(2).value().bool_value());
  EXPECT_EQ(found.groups(2).num_hits(), 1u);
  request.mutable_select()->set_form(v1::REPLY_FORM_ROWS);
  EXPECT_EQ(Search(request).result().hits_size(), 5);
  EXPECT_EQ(Search(request).result().groups_size(), 3);
}

TEST_F(ServiceTest, RecommendsWhatIsLikeItsExamples) {
  v1::PointBatch batch = Batch(1, 100);
  auto* bytes = batch.mutable_columns()->add_vectors();
  bytes->set_name("bytes");
  bytes->set_dim(4);
  bytes->set_type(v1::ELEMENT_TYPE_UINT8);
  for (int i = 1; i <= 100; ++i) {
    bytes->mutable_data()->append(std::string("\0\0\0", 3) +
                                  static_cast<char>(i));
  }
  Upsert(batch);
  v1::SearchRequest request = NearestTo(0, 3);
  auto* retrieve = request.mutable_query()->mutable_retrieve();
  retrieve->clear_query();
  auto* recommend = retrieve->mutable_recommend();
  recommend->add_positive()->mutable_id()->set_number(20);
  auto* vector = recommend->add_positive()->mutable_vector();
  for (const float value : {21.f, 0.f, 0.f, 0.f}) vector->add_values(value);
  // Near 20.5, without the example by its id.
  EXPECT_THAT(Search(request).result().ids().numbers(),
              ElementsAre(21, 19, 22));
  // 2 * 20.5 - 30 = 11.
  recommend->add_negative()->mutable_id()->set_number(30);
  EXPECT_THAT(Search(request).result().ids().numbers(),
              ElementsAre(11, 10, 12));
  // Not found, wherever it comes in.
  recommend->clear_positive();
  recommend->add_positive()->mutable_id()->set_number(30);
  EXPECT_THAT(Search(request).result().ids().numbers(),
              ElementsAre(29, 31, 28));
  // Rounded, and not below 0: 2 * 5 - 40.
  retrieve->set_vector("bytes");
  recommend->mutable_positive(0)->mutable_id()->set_number(5);
  recommend->mutable_negative(0)->mutable_id()->set_number(40);
  EXPECT_THAT(Search(request).result().scores(), ElementsAre(1, 4, 9));
}

TEST_F(ServiceTest, MmrChoosesHitsThatDiffer) {
  Upsert(Batch(1, 100));
  v1::SearchRequest request = NearestTo(1, 9);  // 1 to 9
  v1::Query input = request.query();
  auto* rerank = request.mutable_query()->mutable_rerank();
  rerank->set_vector("l2");
  rerank->set_k(3);
  *rerank->mutable_query() = input.retrieve().query();
  rerank->mutable_input()->Swap(&input);
  rerank->mutable_mmr()->set_lambda(0);  // apart from one another alone
  EXPECT_THAT(Search(request).result().ids().numbers(), ElementsAre(1, 9, 5));
  EXPECT_THAT(Search(request).result().scores(), ElementsAre(0, 64, 16));
  rerank->mutable_mmr()->set_candidates(5);
  EXPECT_THAT(Search(request).result().ids().numbers(), ElementsAre(1, 5, 3));
  rerank->mutable_mmr()->set_lambda(1);
  EXPECT_THAT(Search(request).result().ids().numbers(), ElementsAre(1, 2, 3));
  rerank->set_k(100);
  EXPECT_EQ(Search(request).result().ids().numbers_size(), 5);
}

TEST_F(ServiceTest, UuidsTravelAsOneColumn) {
  const std::string a = "0123456789abcdef", b = "fedcba9876543210";
  v1::PointBatch batch = Batch(1, 2);
  batch.mutable_columns()->mutable_ids()->clear_numbers();
  batch.mutable_columns()->mutable_ids()->set_uuids(a + b);
  Upsert(batch);
  Restart();
  v1::GetRequest get;
  get.set_collection("points");
  get.mutable_ids()->set_uuids(b + std::string(16, 'x') + a);
  v1::GetResponse got;
  {
    Call call;
    ASSERT_TRUE(points_->Get(&call, get, &got).ok());
  }
  EXPECT_EQ(got.points().columns().ids().uuids(), b + a);
  EXPECT_EQ(Search(NearestTo(2, 2)).result().ids().uuids(), b + a);
  v1::SearchRequest rows = NearestTo(2, 1);
  rows.mutable_select()->set_form(v1::REPLY_FORM_ROWS);
  EXPECT_EQ(Search(rows).result().hits(0).id().uuid(),
            "66656463-6261-3938-3736-353433323130");
  v1::DeleteRequest remove;
  remove.set_collection("points");
  remove.mutable_ids()->set_uuids(a);
  v1::DeleteResponse removed;
  Call call;
  ASSERT_TRUE(points_->Delete(&call, remove, &removed).ok());
  EXPECT_EQ(removed.num_deleted(), 1u);
}

TEST_F(ServiceTest, OptimizeIndexesEverythingAndReportsItsOperation) {
  Upsert(Batch(1, 3000));
  v1::OptimizeCollectionRequest request;
  request.set_name("points");
  v1::OptimizeCollectionResponse reply;
  {
    Call call;
    ASSERT_TRUE(collections_->OptimizeCollection(&call, request, &reply).ok());
  }
  v1::WaitOperationRequest wait;
  wait.set_name(reply.operation());
  v1::WaitOperationResponse done;
  {
    Call call(std::chrono::seconds(60));
    ASSERT_TRUE(operations_->WaitOperation(&call, wait, &done).ok());
  }
  EXPECT_TRUE(done.operation().done());
  EXPECT_EQ(done.operation().error().code(), 0)
      << done.operation().error().message();
  v1::GetCollectionRequest get;
  get.set_name("points");
  v1::GetCollectionResponse collection;
  Call call;
  ASSERT_TRUE(collections_->GetCollection(&call, get, &collection).ok());
  EXPECT_EQ(collection.collection().stats().num_indexed_points(), 3000u);
  EXPECT_EQ(collection.collection().stats().segments_size() > 0, true);
}

TEST_F(ServiceTest, AnExpiredDeadlineEndsASearch) {
  Upsert(Batch(1, 10));
  v1::SearchResponse reply;
  Call call(std::chrono::seconds(-1));
  const grpc::Status status = search_->Search(&call, NearestTo(1, 1), &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(ServiceTest, ServerInfoNamesLimitsAndFeatures) {
  v1::GetServerInfoResponse reply;
  Call call;
  ASSERT_TRUE(
      admin_->GetServerInfo(&call, v1::GetServerInfoRequest(), &reply).ok());
  EXPECT_EQ(reply.limits().max_k(), 16'384u);
  EXPECT_EQ(reply.limits().max_message_bytes(), uint64_t{64} << 20);
  EXPECT_EQ(reply.limits().max_unindexed_bytes(), uint64_t{2} << 30);
  EXPECT_THAT(reply.features(), ::testing::Contains("index.hnsw"));
  EXPECT_FALSE(reply.version().empty());
}

}  // namespace
}  // namespace vicinal::testing
