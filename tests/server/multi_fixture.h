// A server with a collection of multi-vectors, and what its tests ask of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/server/server_fixture.h"
#include "vicinal/v1/collection.pb.h"
#include "vicinal/v1/point.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::testing {

using Tokens = std::vector<std::vector<float>>;

inline std::string Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()),
          values.size() * sizeof(float)};
}

inline void AddTokens(const Tokens& tokens, v1::MultiVector* out) {
  for (const std::vector<float>& token : tokens) {
    out->add_tokens()->mutable_values()->Assign(token.begin(), token.end());
  }
}

// "tok": two elements, inner product, f32; "cos": three, cosine, bf16, may be
// empty; "dense", "sparse" and the text "body" beside them. Points 1 to 4, of
// which 4 has no tokens.
class MultiFixture : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    const grpc::Status created = Create(Wanted());
    ASSERT_TRUE(created.ok()) << created.error_message();
    v1::PointBatch batch;
    AddRow(&batch, 1, {{1, 0}, {0, 1}}, {{1, 0, 0}});
    AddRow(&batch, 2, {{2, 0}}, {{0, 3, 0}, {0, 0, 2}});
    AddRow(&batch, 3, {{0, 0.5f}, {0.25f, 0}, {0, 0}}, {});
    AddRow(&batch, 4, {}, {});
    const grpc::Status status = Upsert(batch);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  static v1::Collection Wanted() {
    v1::Collection collection;
    collection.set_name("multi");
    v1::VectorConfig* dense = collection.add_vectors();
    dense->set_name("dense");
    dense->set_dim(2);
    dense->set_metric(v1::METRIC_L2);
    collection.add_sparse_vectors()->set_name("sparse");
    collection.add_texts()->set_path("body");
    v1::MultiVectorConfig* tok = collection.add_multi_vectors();
    tok->set_name("tok");
    tok->set_dim(2);
    tok->set_metric(v1::METRIC_INNER_PRODUCT);
    tok->set_type(v1::ELEMENT_TYPE_FLOAT32);
    tok->set_max_tokens(5);
    v1::MultiVectorConfig* cos = collection.add_multi_vectors();
    cos->set_name("cos");
    cos->set_dim(3);
    cos->set_metric(v1::METRIC_COSINE);
    cos->set_type(v1::ELEMENT_TYPE_BFLOAT16);
    cos->set_allow_empty(true);
    return collection;
  }
  grpc::Status Create(const v1::Collection& collection,
                      v1::Collection* created = nullptr) {
    v1::CreateCollectionRequest request;
    *request.mutable_collection() = collection;
    v1::CreateCollectionResponse reply;
    Call call;
    const grpc::Status status =
        collections_->CreateCollection(&call, request, &reply);
    if (created != nullptr) *created = reply.collection();
    return status;
  }
  // No tokens: the point does not name the vector.
  static v1::PointRow* AddRow(v1::PointBatch* batch, uint64_t id,
                              const Tokens& tok, const Tokens& cos) {
    v1::PointRow* row = batch->add_rows();
    row->mutable_id()->set_number(id);
    v1::Vector* dense = row->add_vectors();
    dense->set_name("dense");
    dense->add_values(static_cast<float>(id));
    dense->add_values(0);
    for (const auto& [name, tokens] :
         {std::pair("tok", &tok), std::pair("cos", &cos)}) {
      if (tokens->empty()) continue;
      v1::MultiVector* multi = row->add_multi_vectors();
      multi->set_name(name);
      AddTokens(*tokens, multi);
    }
    return row;
  }
  grpc::Status Upsert(const v1::PointBatch& batch) {
    v1::UpsertRequest request;
    request.set_collection("multi");
    *request.mutable_points() = batch;
    v1::UpsertResponse reply;
    Call call;
    return points_->Upsert(&call, request, &reply);
  }
  grpc::Status Search(const std::function<void(v1::SearchRequest*)>& change,
                      v1::SearchResponse* reply) {
    v1::SearchRequest request;
    request.set_collection("multi");
    change(&request);
    Call call;
    return search_->Search(&call, request, reply);
  }
  static void SetQuery(const Tokens& tokens, v1::MultiVectorQuery* query) {
    for (const std::vector<float>& token : tokens) {
      query->add_tokens()->mutable_values()->Assign(token.begin(), token.end());
    }
  }
  grpc::Status Multi(const std::function<void(v1::RetrieveMulti*)>& change) {
    v1::SearchResponse reply;
    return Search(
        [&](v1::SearchRequest* request) {
          auto* multi = request->mutable_query()->mutable_retrieve_multi();
          multi->set_vector("tok");
          SetQuery({{1, 0}, {0, 1}}, multi->mutable_query());
          multi->set_k(10);
          change(multi);
        },
        &reply);
  }
  v1::GetResponse Get(v1::ReplyForm form) {
    v1::GetRequest request;
    request.set_collection("multi");
    for (const uint64_t id : {1, 2, 3, 4}) {
      request.mutable_ids()->add_numbers(id);
    }
    request.mutable_select()->add_vectors("dense");
    request.mutable_select()->add_vectors("tok");
    request.mutable_select()->add_vectors("cos");
    request.mutable_select()->set_form(form);
    v1::GetResponse reply;
    Call call;
    const grpc::Status status = points_->Get(&call, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
  }
  uint64_t CountMulti() {
    v1::CountRequest request;
    request.set_collection("multi");
    v1::CountResponse reply;
    Call call;
    EXPECT_TRUE(points_->Count(&call, request, &reply).ok());
    return reply.count();
  }
  void ExpectRefused(const grpc::Status& status, const std::string& field,
                     const std::string& message) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << status.error_message();
    EXPECT_THAT(DetailsOf(status).fields, ::testing::ElementsAre(field));
    EXPECT_THAT(status.error_message(), ::testing::HasSubstr(message));
  }
  static std::vector<uint64_t> Ids(const v1::SearchResponse& reply) {
    const auto& numbers = reply.result().ids().numbers();
    return {numbers.begin(), numbers.end()};
  }
};

}  // namespace vicinal::testing
