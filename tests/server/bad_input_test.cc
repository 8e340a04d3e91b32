// Every bad input gets a clear error: the right code, the path of the field,
// a message that names the limit; nothing is written and the server goes on.
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/server/server_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class BadInputTest : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    CreatePoints();
  }

  grpc::Status Upsert(const v1::PointBatch& batch) {
    v1::UpsertRequest request;
    request.set_collection("points");
    *request.mutable_points() = batch;
    v1::UpsertResponse reply;
    Call call;
    return points_->Upsert(&call, request, &reply);
  }

  grpc::Status Search(const std::function<void(v1::SearchRequest*)>& change) {
    v1::SearchRequest request;
    request.set_collection("points");
    auto* retrieve = request.mutable_query()->mutable_retrieve();
    retrieve->set_vector("l2");
    for (int i = 0; i < 4; ++i) retrieve->mutable_query()->add_values(1);
    retrieve->set_k(10);
    change(&request);
    v1::SearchResponse reply;
    Call call;
    return search_->Search(&call, request, &reply);
  }

  // The request was refused for exactly this field, nothing was written, and
  // the server still serves.
  void ExpectRefused(const grpc::Status& status, const std::string& field,
                     const std::string& message) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << status.error_message();
    const ErrorDetails details = DetailsOf(status);
    EXPECT_EQ(details.reason, "INVALID_FIELD");
    EXPECT_THAT(details.fields, ElementsAre(field));
    EXPECT_THAT(status.error_message(), HasSubstr(message));
    EXPECT_EQ(Count(), 0u);
  }

  static void SetFloat(v1::PointBatch* batch, size_t index, float value) {
    std::string* data =
        batch->mutable_columns()->mutable_vectors(0)->mutable_data();
    data->replace(index * sizeof(float), sizeof(float),
                  reinterpret_cast<const char*>(&value), sizeof(float));
  }
};

TEST_F(BadInputTest, WrongDimensionOfColumn) {
  v1::PointBatch batch = Batch(1, 2);
  batch.mutable_columns()->mutable_vectors(0)->set_dim(3);
  ExpectRefused(Upsert(batch), "points.columns.vectors[0].dim", "has 4");
}

TEST_F(BadInputTest, WrongDimensionOfRow) {
  v1::PointBatch batch;
  auto* row = batch.add_rows();
  row->mutable_id()->set_number(1);
  auto* vector = row->add_vectors();
  vector->set_name("l2");
  vector->add_values(1);
  ExpectRefused(Upsert(batch), "points.rows[0].vectors[0].values",
                "dimension 4");
}

TEST_F(BadInputTest, DataOfWrongLength) {
  v1::PointBatch batch = Batch(1, 2);
  batch.mutable_columns()->mutable_vectors(0)->mutable_data()->pop_back();
  ExpectRefused(Upsert(batch), "points.columns.vectors[0].data", "31 bytes");
}

TEST_F(BadInputTest, NaNAndInfinity) {
  v1::PointBatch batch = Batch(1, 3);
  SetFloat(&batch, 2 * 4 + 1, std::nanf(""));
  ExpectRefused(Upsert(batch), "points.columns.vectors[0].data[2][1]", "NaN");
  batch = Batch(1, 3);
  SetFloat(&batch, 4 + 3, std::numeric_limits<float>::infinity());
  ExpectRefused(Upsert(batch), "points.columns.vectors[0].data[1][3]",
                "infinite");
}

TEST_F(BadInputTest, NaNInARowIsNamedByItsRow) {
  v1::PointBatch batch;
  for (uint64_t i = 0; i < 2; ++i) {
    auto* row = batch.add_rows();
    row->mutable_id()->set_number(i);
    auto* vector = row->add_vectors();
    vector->set_name("l2");
    for (int j = 0; j < 4; ++j) vector->add_values(i == 1 ? NAN : 1.0f);
  }
  ExpectRefused(Upsert(batch), "points.rows[1].vectors[0].values[0]", "NaN");
}

TEST_F(BadInputTest, ZeroVectorUnderCosine) {
  v1::PointBatch batch = Batch(1, 1);
  batch.mutable_columns()->mutable_vectors(0)->set_name("cos");
  SetFloat(&batch, 0, 0);
  const grpc::Status status = Upsert(batch);
  ExpectRefused(status, "points.columns.vectors[0].data[0]", "zero vector");
}

TEST_F(BadInputTest, ValueThatTheStoredTypeCannotHold) {
  v1::PointBatch batch = Batch(300, 1);
  batch.mutable_columns()->mutable_vectors(0)->set_name("bytes");
  ExpectRefused(Upsert(batch), "points.columns.vectors[0].data[0][0]",
                "whole numbers 0 to 255");
}

TEST_F(BadInputTest, UnknownVectorName) {
  v1::PointBatch batch = Batch(1, 1);
  batch.mutable_columns()->mutable_vectors(0)->set_name("nope");
  ExpectRefused(Upsert(batch), "points.columns.vectors[0].name", "nope");
  ExpectRefused(
      Search([](v1::SearchRequest* request) {
        request->mutable_query()->mutable_retrieve()->set_vector("nope");
      }),
      "query.retrieve.vector", "nope");
}

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

TEST_F(BadInputTest, EmptyAndTooLongIds) {
  for (const size_t size : {size_t{0}, size_t{513}}) {
    v1::PointBatch batch = Batch(1, 1);
    batch.mutable_columns()->mutable_ids()->clear_numbers();
    batch.mutable_columns()->mutable_ids()->add_strings(std::string(size, 'x'));
    ExpectRefused(Upsert(batch), "points.columns.ids.strings[0]", "512");
  }
  v1::PointBatch batch = Batch(1, 1);
  batch.mutable_columns()->mutable_ids()->clear_numbers();
  batch.mutable_columns()->mutable_ids()->add_strings(std::string(512, 'x'));
  EXPECT_TRUE(Upsert(batch).ok());
}

TEST_F(BadInputTest, KOutsideItsLimits) {
  for (const uint32_t k : {0u, 16'385u}) {
    ExpectRefused(Search([&](v1::SearchRequest* request) {
                    request->mutable_query()->mutable_retrieve()->set_k(k);
                  }),
                  "query.retrieve.k", "1 to 16384");
  }
}

TEST_F(BadInputTest, EfAndRecallTargetOutsideTheirLimits) {
  for (const uint32_t ef : {0u, 16'385u}) {
    ExpectRefused(Search([&](v1::SearchRequest* request) {
                    request->mutable_query()
                        ->mutable_retrieve()
                        ->mutable_quality()
                        ->set_ef(ef);
                  }),
                  "query.retrieve.quality.ef", "16384");
  }
  for (const double target : {0.0, -1.0, 1.5, std::nan("")}) {
    ExpectRefused(Search([&](v1::SearchRequest* request) {
                    request->mutable_query()
                        ->mutable_retrieve()
                        ->mutable_quality()
                        ->set_recall_target(target);
                  }),
                  "query.retrieve.quality.recall_target", "at most 1");
  }
}

TEST_F(BadInputTest, QueryOfWrongDimensionOrNotFinite) {
  ExpectRefused(Search([](v1::SearchRequest* request) {
                  request->mutable_query()
                      ->mutable_retrieve()
                      ->mutable_query()
                      ->add_values(1);
                }),
                "query.retrieve.query.values", "dimension 4");
  ExpectRefused(Search([](v1::SearchRequest* request) {
                  request->mutable_query()
                      ->mutable_retrieve()
                      ->mutable_query()
                      ->set_values(2, NAN);
                }),
                "query.retrieve.query.values[2]", "finite");
}

TEST_F(BadInputTest, QueryWithoutStageOrTooDeep) {
  ExpectRefused(
      Search([](v1::SearchRequest* request) { request->clear_query(); }),
      "query", "set retrieve, fuse or rerank");
  const grpc::Status status = Search([](v1::SearchRequest* request) {
    v1::Query query = request->query();
    for (int i = 0; i < 9; ++i) {
      v1::Query outer;
      *outer.mutable_fuse()->add_inputs() = query;
      outer.mutable_fuse()->set_k(1);
      query = outer;
    }
    *request->mutable_query() = query;
  });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("8 above one another"));
}

TEST_F(BadInputTest, MessageOverTheLimit) {
  v1::PointBatch batch = Batch(1, 1);
  batch.mutable_columns()->set_payloads(0, std::string(65 << 20, ' '));
  const grpc::Status status = Upsert(batch);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Count(), 0u);
}

TEST_F(BadInputTest, PayloadThatIsNoObjectOrTooLarge) {
  v1::PointBatch batch = Batch(1, 2);
  batch.mutable_columns()->set_payloads(1, "[1, 2]");
  ExpectRefused(Upsert(batch), "points.columns.payloads[1]", "object");
  batch.mutable_columns()->set_payloads(
      1, "{\"a\":\"" + std::string(1 << 20, 'x') + "\"}");
  ExpectRefused(Upsert(batch), "points.columns.payloads[1]", "1048576");
}

TEST_F(BadInputTest, GarbageInsteadOfAMessage) {
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  Call call;
  const grpc::Slice slice("\xff\xff\xff\xff garbage");
  const grpc::ByteBuffer request(&slice, 1);
  auto reader = stub.PrepareUnaryCall(&call, "/vicinal.v1.PointService/Upsert",
                                      request, &queue);
  reader->StartCall();
  grpc::ByteBuffer reply;
  grpc::Status status;
  int tag = 0;
  reader->Finish(&reply, &status, &tag);
  void* got = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&got, &ok));
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(Count(), 0u);
  queue.Shutdown();
}

TEST_F(BadInputTest, PortInUse) {
  auto database = Database::Open(data_ + "/other", DatabaseOptions());
  ASSERT_TRUE(database.ok()) << database.status();
  ServerOptions options;
  options.listen = "127.0.0.1:" + std::to_string(server_->port());
  const auto second = Server::Start(options, *std::move(database));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("the port is in use"));
}

TEST_F(BadInputTest, DataFolderInUse) {
  const auto second = Database::Open(data_ + "/data", DatabaseOptions());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace vicinal::testing
