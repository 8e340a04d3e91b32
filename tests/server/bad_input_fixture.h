// A server with a collection "points", and what bad input must meet: the right
// code, the path of the field, a message that names the limit; nothing is
// written and the server goes on.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/server/server_fixture.h"
#include "vicinal/v1/point.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::testing {

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

  // The same with a change of its only stage.
  grpc::Status Retrieve(const std::function<void(v1::Retrieve*)>& change) {
    return Search([&](v1::SearchRequest* request) {
      change(request->mutable_query()->mutable_retrieve());
    });
  }
  // What it finds, reranked by the same vector.
  grpc::Status Rerank(const std::function<void(v1::Rerank*)>& change) {
    return Search([&](v1::SearchRequest* request) {
      v1::Query input = request->query();
      auto* rerank = request->mutable_query()->mutable_rerank();
      rerank->set_vector("l2");
      rerank->set_k(1);
      *rerank->mutable_query() = input.retrieve().query();
      rerank->mutable_input()->Swap(&input);
      change(rerank);
    });
  }

  // The request was refused for exactly this field, nothing was written, and
  // the server still serves.
  void ExpectRefused(const grpc::Status& status, const std::string& field,
                     const std::string& message) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << status.error_message();
    const ErrorDetails details = DetailsOf(status);
    EXPECT_EQ(details.reason, "INVALID_FIELD");
    EXPECT_THAT(details.fields, ::testing::ElementsAre(field));
    EXPECT_THAT(status.error_message(), ::testing::HasSubstr(message));
    EXPECT_EQ(Count(), 0u);
  }

  static void SetFloat(v1::PointBatch* batch, size_t index, float value) {
    std::string* data =
        batch->mutable_columns()->mutable_vectors(0)->mutable_data();
    data->replace(index * sizeof(float), sizeof(float),
                  reinterpret_cast<const char*>(&value), sizeof(float));
  }
};

}  // namespace vicinal::testing
