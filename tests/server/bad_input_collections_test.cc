// Bad input of the calls about collections, and collections that are not there.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/bad_input_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(BadInputTest, UnknownCollection) {
  v1::CountRequest request;
  request.set_collection("nope");
  v1::CountResponse reply;
  Call call;
  const grpc::Status status = points_->Count(&call, request, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(DetailsOf(status).reason, "COLLECTION_NOT_FOUND");
  EXPECT_THAT(status.error_message(), HasSubstr("nope"));
}

TEST_F(BadInputTest, UnknownCollectionOfEveryCall) {
  const auto check = [](const grpc::Status& status, const char* what) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND) << what;
    EXPECT_EQ(DetailsOf(status).reason, "COLLECTION_NOT_FOUND") << what;
  };
  const auto call = [&](auto* stub, auto method, auto request, auto reply) {
    request.set_collection("nope");
    Call context;
    check((stub->*method)(&context, request, &reply),
          request.GetTypeName().c_str());
  };
  using Points = v1::PointService::Stub;
  using Searches = v1::SearchService::Stub;
  call(points_.get(), &Points::Upsert, v1::UpsertRequest(),
       v1::UpsertResponse());
  call(points_.get(), &Points::Get, v1::GetRequest(), v1::GetResponse());
  call(points_.get(), &Points::Delete, v1::DeleteRequest(),
       v1::DeleteResponse());
  call(points_.get(), &Points::UpdatePayload, v1::UpdatePayloadRequest(),
       v1::UpdatePayloadResponse());
  call(search_.get(), &Searches::Search, v1::SearchRequest(),
       v1::SearchResponse());
  call(search_.get(), &Searches::SearchBatch, v1::SearchBatchRequest(),
       v1::SearchBatchResponse());
  v1::ScrollRequest scroll;
  scroll.set_collection("nope");
  Call context;
  check(points_->Scroll(&context, scroll)->Finish(), "Scroll");
}

TEST_F(BadInputTest, DuplicateCollection) {
  v1::CreateCollectionRequest request;
  request.mutable_collection()->set_name("points");
  auto* vector = request.mutable_collection()->add_vectors();
  vector->set_dim(4);
  vector->set_metric(v1::METRIC_L2);
  v1::CreateCollectionResponse reply;
  Call call;
  const grpc::Status status =
      collections_->CreateCollection(&call, request, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(DetailsOf(status).reason, "COLLECTION_EXISTS");
  EXPECT_THAT(status.error_message(), HasSubstr("points"));
}

TEST_F(BadInputTest, SchemaFieldsAreNamed) {
  v1::CreateCollectionRequest request;
  request.mutable_collection()->set_name("../etc");
  request.mutable_collection()->add_vectors()->set_dim(0);
  v1::CreateCollectionResponse reply;
  Call call;
  const grpc::Status status =
      collections_->CreateCollection(&call, request, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(
      DetailsOf(status).fields,
      ::testing::IsSupersetOf({"collection.name", "collection.vectors[0].dim",
                               "collection.vectors[0].metric"}));
}

TEST_F(BadInputTest, UnknownEnumsOfASchemaAreNamedAndMakeNoOtherType) {
  // 257 and 258 are 1 (L2) and 2 (f16) in their low bytes.
  for (const bool validate_only : {true, false}) {
    v1::CreateCollectionRequest request;
    request.set_validate_only(validate_only);
    request.mutable_collection()->set_name("other");
    auto* vector = request.mutable_collection()->add_vectors();
    vector->set_dim(4);
    vector->set_metric(static_cast<v1::Metric>(257));
    vector->set_type(static_cast<v1::ElementType>(258));
    v1::CreateCollectionResponse reply;
    Call call;
    const grpc::Status status =
        collections_->CreateCollection(&call, request, &reply);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(DetailsOf(status).fields,
                ElementsAre("collection.vectors[0].metric",
                            "collection.vectors[0].type"));
    EXPECT_THAT(status.error_message(), HasSubstr("257"));
  }
}

TEST_F(BadInputTest, IndexParametersOutsideTheirLimitsAreNamedByTheirPath) {
  v1::CreateCollectionRequest request;
  request.mutable_collection()->set_name("other");
  auto* vector = request.mutable_collection()->add_vectors();
  vector->set_dim(4);
  vector->set_metric(v1::METRIC_L2);
  vector->mutable_index()->mutable_hnsw()->set_m(3);
  vector->mutable_index()->mutable_hnsw()->set_ef_construction(2'001);
  v1::CreateCollectionResponse reply;
  Call call;
  const grpc::Status status =
      collections_->CreateCollection(&call, request, &reply);
  EXPECT_THAT(DetailsOf(status).fields,
              ElementsAre("collection.vectors[0].index.hnsw.m",
                          "collection.vectors[0].index.hnsw.ef_construction"));
}

}  // namespace
}  // namespace vicinal::testing
