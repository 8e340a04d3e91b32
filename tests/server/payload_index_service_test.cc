// Payload indexes over gRPC: declared with a collection or later, listed,
// dropped, asked for by filters, and what is refused.
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/server_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PayloadIndexServiceTest : public ServerFixture {
 protected:
  grpc::Status CreateIndex(const std::string& path, int type,
                           const std::string& collection = "points") {
    v1::CreatePayloadIndexRequest request;
    request.set_collection(collection);
    request.mutable_index()->set_path(path);
    request.mutable_index()->set_type(static_cast<v1::PayloadType>(type));
    v1::CreatePayloadIndexResponse reply;
    Call call;
    const grpc::Status status =
        collections_->CreatePayloadIndex(&call, request, &reply);
    if (!status.ok()) return status;
    v1::WaitOperationRequest wait;
    wait.set_name(reply.operation());
    v1::WaitOperationResponse waited;
    Call second;
    EXPECT_TRUE(operations_->WaitOperation(&second, wait, &waited).ok());
    EXPECT_TRUE(waited.operation().done());
    EXPECT_EQ(waited.operation().kind(), "payload_index");
    EXPECT_EQ(waited.operation().error().code(), 0);
    return status;
  }
  grpc::Status DropIndex(const std::string& path,
                         const std::string& collection = "points") {
    v1::DropPayloadIndexRequest request;
    request.set_collection(collection);
    request.set_path(path);
    v1::DropPayloadIndexResponse reply;
    Call call;
    return collections_->DropPayloadIndex(&call, request, &reply);
  }
  v1::Collection Points() {
    v1::GetCollectionRequest request;
    request.set_name("points");
    v1::GetCollectionResponse reply;
    Call call;
    EXPECT_TRUE(collections_->GetCollection(&call, request, &reply).ok());
    return reply.collection();
  }
  grpc::Status CountOf(const std::string& filter, uint64_t* count) {
    v1::CountRequest request;
    request.set_collection("points");
    request.mutable_filter()->set_text(filter);
    v1::CountResponse reply;
    Call call;
    const grpc::Status status = points_->Count(&call, request, &reply);
    *count = reply.count();
    return status;
  }
  grpc::Status RequireIndexes(bool only) {
    v1::UpdateCollectionRequest request;
    request.mutable_collection()->set_name("points");
    request.mutable_collection()->set_indexed_filters_only(only);
    request.mutable_update_mask()->add_paths("indexed_filters_only");
    v1::UpdateCollectionResponse reply;
    Call call;
    return collections_->UpdateCollection(&call, request, &reply);
  }
};

TEST_F(PayloadIndexServiceTest, IsCreatedListedAndDropped) {
  CreatePoints();
  ASSERT_TRUE(CreateIndex("price", v1::PAYLOAD_TYPE_FLOAT64).ok());
  ASSERT_TRUE(CreateIndex("maker.country", v1::PAYLOAD_TYPE_KEYWORD).ok());
  ASSERT_EQ(Points().payload_indexes_size(), 2);
  EXPECT_EQ(Points().payload_indexes(0).path(), "price");
  EXPECT_EQ(Points().payload_indexes(0).type(), v1::PAYLOAD_TYPE_FLOAT64);
  EXPECT_TRUE(Points().payload_indexes(0).ready());
  EXPECT_EQ(Points().payload_indexes(1).path(), "maker.country");
  Restart();
  EXPECT_EQ(Points().payload_indexes_size(), 2);

  const grpc::Status again = CreateIndex("price", v1::PAYLOAD_TYPE_INT64);
  EXPECT_EQ(again.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(DetailsOf(again).reason, "PAYLOAD_INDEX_EXISTS");
  ASSERT_TRUE(DropIndex("price").ok());
  EXPECT_EQ(Points().payload_indexes_size(), 1);
  const grpc::Status gone = DropIndex("price");
  EXPECT_EQ(gone.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(DetailsOf(gone).reason, "PAYLOAD_INDEX_NOT_FOUND");
}

TEST_F(PayloadIndexServiceTest, MayBePartOfANewCollection) {
  v1::CreateCollectionRequest request;
  request.mutable_collection()->set_name("points");
  auto* vector = request.mutable_collection()->add_vectors();
  vector->set_dim(2);
  vector->set_metric(v1::METRIC_L2);
  auto* index = request.mutable_collection()->add_payload_indexes();
  index->set_path("price");
  index->set_type(v1::PAYLOAD_TYPE_INT64);
  request.mutable_collection()->set_indexed_filters_only(true);
  v1::CreateCollectionResponse reply;
  Call call;
  ASSERT_TRUE(collections_->CreateCollection(&call, request, &reply).ok());
  EXPECT_EQ(reply.collection().payload_indexes(0).path(), "price");
  EXPECT_TRUE(reply.collection().indexed_filters_only());
  uint64_t count = 0;
  EXPECT_TRUE(CountOf("price < 3", &count).ok());
  EXPECT_FALSE(CountOf("other < 3", &count).ok());
}

TEST_F(PayloadIndexServiceTest, FiltersKnowTheTypeAtOnce) {
  CreatePoints();
  uint64_t count = 0;
  EXPECT_TRUE(CountOf("price = 'x'", &count).ok());
  ASSERT_TRUE(CreateIndex("price", v1::PAYLOAD_TYPE_FLOAT64).ok());
  const grpc::Status wrong = CountOf("price = 'x'", &count);
  EXPECT_EQ(wrong.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(wrong.error_message(), HasSubstr("f64"));
  ASSERT_TRUE(RequireIndexes(true).ok());
  EXPECT_TRUE(CountOf("price < 1", &count).ok());
  const grpc::Status refused = CountOf("colour = 'red'", &count);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("colour"));
  ASSERT_TRUE(RequireIndexes(false).ok());
  EXPECT_TRUE(CountOf("colour = 'red'", &count).ok());
}

TEST_F(PayloadIndexServiceTest, SearchesSayWhatTheyDid) {
  CreatePoints();
  ASSERT_TRUE(CreateIndex("price", v1::PAYLOAD_TYPE_FLOAT64).ok());
  v1::UpsertRequest upsert;
  upsert.set_collection("points");
  *upsert.mutable_points() = Batch(1, 50);
  v1::UpsertResponse upserted;
  Call first;
  ASSERT_TRUE(points_->Upsert(&first, upsert, &upserted).ok());

  v1::SearchRequest request;
  request.set_collection("points");
  auto* retrieve = request.mutable_query()->mutable_retrieve();
  retrieve->set_vector("l2");
  retrieve->set_k(3);
  for (int i = 0; i < 4; ++i) retrieve->mutable_query()->add_values(1);
  retrieve->mutable_filter()->set_text("price IS NULL AND NOT EXISTS(colour)");
  v1::SearchResponse reply;
  Call plain;
  ASSERT_TRUE(search_->Search(&plain, request, &reply).ok());
  EXPECT_EQ(reply.profile().segments_size(), 0);

  request.set_explain(true);
  retrieve->set_plan(v1::FORCED_PLAN_SCAN);
  Call call;
  ASSERT_TRUE(search_->Search(&call, request, &reply).ok());
  ASSERT_EQ(reply.profile().segments_size(), 1);
  const v1::SegmentProfile& segment = reply.profile().segments(0);
  EXPECT_EQ(segment.vector(), "l2");
  EXPECT_EQ(segment.segment(), 0u);
  EXPECT_EQ(segment.num_rows(), 50u);
  EXPECT_EQ(segment.num_accepted(), 50u);
  EXPECT_EQ(segment.plan(), v1::SEARCH_PLAN_SCAN);
  EXPECT_EQ(segment.distance_computations(), 50u);
  EXPECT_GT(segment.num_payloads_read(), 0u);
  ASSERT_EQ(reply.profile().warnings_size(), 1);
  EXPECT_THAT(reply.profile().warnings(0), HasSubstr("colour"));

  retrieve->set_plan(static_cast<v1::ForcedPlan>(7));
  Call bad;
  const grpc::Status refused = search_->Search(&bad, request, &reply);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(DetailsOf(refused).fields, ElementsAre("query.retrieve.plan"));
}

TEST_F(PayloadIndexServiceTest, RefusesWhatIsNoField) {
  CreatePoints();
  const auto fields = [&](const std::string& path, int type) {
    const grpc::Status status = CreateIndex(path, type);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << path;
    return DetailsOf(status).fields;
  };
  EXPECT_THAT(fields("", 1), ElementsAre("index.path"));
  EXPECT_THAT(fields("a..b", 1), ElementsAre("index.path"));
  EXPECT_THAT(fields(std::string(513, 'a'), 1), ElementsAre("index.path"));
  EXPECT_THAT(fields("a", 0), ElementsAre("index.type"));
  EXPECT_THAT(fields("a", 8), ElementsAre("index.type"));
  EXPECT_THAT(fields("a", -1), ElementsAre("index.type"));
  EXPECT_THAT(fields(".", 999), ElementsAre("index.path", "index.type"));
  for (const std::string collection : {"", "none"}) {
    EXPECT_FALSE(CreateIndex("a", 1, collection).ok());
    EXPECT_FALSE(DropIndex("a", collection).ok());
  }
  for (int i = 0; i < 64; ++i) {
    ASSERT_TRUE(CreateIndex(absl::StrCat("f", i), 1).ok());
  }
  EXPECT_THAT(fields("g", 1), ElementsAre("index"));
}

// A collection "points" of one vector that is divided by "tenant".
v1::CreateCollectionRequest DividedPoints() {
  v1::CreateCollectionRequest request;
  v1::Collection* collection = request.mutable_collection();
  collection->set_name("points");
  v1::VectorConfig* vector = collection->add_vectors();
  vector->set_dim(4);
  vector->set_metric(v1::METRIC_L2);
  v1::PayloadIndex* index = collection->add_payload_indexes();
  index->set_path("tenant");
  index->set_type(v1::PAYLOAD_TYPE_KEYWORD);
  collection->set_partition_key("tenant");
  return request;
}

class PartitionKeyServiceTest : public PayloadIndexServiceTest {
 protected:
  grpc::Status Create(const v1::CreateCollectionRequest& request) {
    v1::CreateCollectionResponse reply;
    Call call;
    return collections_->CreateCollection(&call, request, &reply);
  }
  // That the request is refused because of one field.
  void ExpectRefused(const v1::CreateCollectionRequest& request,
                     const std::string& field, const std::string& message) {
    const grpc::Status status = Create(request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(DetailsOf(status).reason, "INVALID_FIELD");
    EXPECT_THAT(DetailsOf(status).fields, ElementsAre(field));
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  }
  grpc::Status Update(const v1::Collection& change, const char* path) {
    v1::UpdateCollectionRequest request;
    *request.mutable_collection() = change;
    request.mutable_collection()->set_name("points");
    request.mutable_update_mask()->add_paths(path);
    v1::UpdateCollectionResponse reply;
    Call call;
    return collections_->UpdateCollection(&call, request, &reply);
  }
};

TEST_F(PartitionKeyServiceTest, IsPartOfANewCollectionWithLists) {
  v1::CreateCollectionRequest request = DividedPoints();
  // The automatic choice, which is the default, leaves graphs out.
  request.mutable_collection()
      ->mutable_vectors(0)
      ->mutable_index()
      ->mutable_automatic();
  ASSERT_TRUE(Create(request).ok());
  EXPECT_EQ(Points().partition_key(), "tenant");
  EXPECT_TRUE(Points().vectors(0).index().has_ivf());
  Restart();
  EXPECT_EQ(Points().partition_key(), "tenant");
}

TEST_F(PartitionKeyServiceTest, RefusesWhatHasNoPartitions) {
  v1::CreateCollectionRequest request = DividedPoints();
  request.mutable_collection()->clear_payload_indexes();
  ExpectRefused(request, "collection.partition_key",
                "partition_key: \"tenant\" has no index; add it to the payload "
                "indexes as keyword, i64 or uuid");
  request = DividedPoints();
  request.mutable_collection()->set_partition_key("Tenant");
  ExpectRefused(request, "collection.partition_key", "has no index");
  for (const v1::PayloadType type :
       {v1::PAYLOAD_TYPE_FLOAT64, v1::PAYLOAD_TYPE_BOOL,
        v1::PAYLOAD_TYPE_DATETIME, v1::PAYLOAD_TYPE_GEO}) {
    request = DividedPoints();
    request.mutable_collection()->mutable_payload_indexes(0)->set_type(type);
    ExpectRefused(request, "collection.partition_key",
                  "points are divided by keyword, i64 or uuid");
  }
  request = DividedPoints();
  v1::VectorConfig* vector = request.mutable_collection()->mutable_vectors(0);
  vector->mutable_index()->mutable_hnsw();
  ExpectRefused(request, "collection.vectors[0].index",
                "is or may be a graph, which has no partitions; with a "
                "partition_key choose ivf or flat, or leave it out");
  vector->mutable_index()->mutable_ivf()->set_num_lists(100);
  ExpectRefused(request, "collection.vectors[0].index.ivf.num_lists",
                "is 100; with a partition_key every partition has lists of its "
                "own: leave it out");
  vector->mutable_index()->mutable_flat();
  EXPECT_TRUE(Create(request).ok());
}

TEST_F(PartitionKeyServiceTest, StaysAsItIs) {
  ASSERT_TRUE(Create(DividedPoints()).ok());
  v1::Collection change;
  change.set_partition_key("other");
  const grpc::Status status = Update(change, "partition_key");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(DetailsOf(status).fields, ElementsAre("update_mask"));
  EXPECT_THAT(status.error_message(), HasSubstr("\"partition_key\""));
  // What the mask does not name is not looked at.
  EXPECT_TRUE(Update(change, "indexed_filters_only").ok());
  EXPECT_EQ(Points().partition_key(), "tenant");
  change.add_vectors()->mutable_index()->mutable_ivf()->set_num_lists(9);
  EXPECT_THAT(DetailsOf(Update(change, "vectors.index")).fields,
              ElementsAre("collection.vectors[0].index.ivf.num_lists"));

  const grpc::Status dropped = DropIndex("tenant");
  EXPECT_EQ(dropped.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(DetailsOf(dropped).reason, "PRECONDITION_FAILED");
  EXPECT_THAT(dropped.error_message(),
              HasSubstr("payload field \"tenant\" divides collection "
                        "\"points\" into partitions; its index stays as long "
                        "as the collection"));
  EXPECT_EQ(DetailsOf(CreateIndex("tenant", v1::PAYLOAD_TYPE_INT64)).reason,
            "PAYLOAD_INDEX_EXISTS");
  ASSERT_EQ(Points().payload_indexes_size(), 1);
}

}  // namespace
}  // namespace vicinal::testing
