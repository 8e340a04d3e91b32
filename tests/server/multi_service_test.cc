// Multi-vectors over gRPC: both forms of points and queries, and replies.
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/server/multi_fixture.h"
#include "vicinal/v1/admin.pb.h"
#include "vicinal/v1/collection.pb.h"
#include "vicinal/v1/point.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using MultiServiceTest = MultiFixture;

TEST_F(MultiServiceTest, FindsBySumsOfMaxima) {
  v1::SearchResponse reply;
  const auto search = [&](const std::function<void(v1::RetrieveMulti*)>& ask) {
    const grpc::Status status = Search(
        [&](v1::SearchRequest* request) {
          auto* multi = request->mutable_query()->mutable_retrieve_multi();
          multi->set_vector("tok");
          multi->set_k(10);
          ask(multi);
        },
        &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
  };
  search([](auto* m) {
    SetQuery({{1, 0}, {0, 2}}, m->mutable_query());
    m->mutable_quality()->set_exact(true);
  });
  EXPECT_THAT(Ids(reply), ElementsAre(1, 2, 3));
  EXPECT_THAT(reply.result().scores(), ElementsAre(3, 2, 1.25));
  EXPECT_TRUE(reply.result().exact());
  // Weighted.
  search([](auto* m) {
    SetQuery({{1, 0}, {0, 2}}, m->mutable_query());
    m->mutable_query()->add_weights(4);
    m->mutable_query()->add_weights(0);
  });
  EXPECT_THAT(Ids(reply), ElementsAre(2, 1, 3));
  EXPECT_THAT(reply.result().scores(), ElementsAre(8, 4, 1));
  // As bytes, and those of a score only.
  search([](auto* m) {
    m->mutable_query()->set_data(Bytes({1, 0, 0, 2}));
    m->mutable_query()->set_dim(2);
    m->set_score_threshold(2);
  });
  EXPECT_THAT(Ids(reply), ElementsAre(1, 2));
  // Of other types: one token (1, -1) of int8, and of bfloat16.
  for (const auto& [type, data] :
       {std::pair(v1::ELEMENT_TYPE_INT8, std::string("\x01\xff", 2)),
        std::pair(v1::ELEMENT_TYPE_BFLOAT16,
                  std::string("\x80\x3f\x80\xbf", 4))}) {
    search([&](auto* m) {
      m->mutable_query()->set_data(data);
      m->mutable_query()->set_type(type);
      m->mutable_query()->set_dim(2);
    });
    EXPECT_THAT(Ids(reply), ElementsAre(2, 1, 3));
    EXPECT_THAT(reply.result().scores(), ElementsAre(2, 1, 0.25));
  }
  // Whatever the effort, k is not cut off.
  search([](auto* m) {
    SetQuery({{1, 0}, {0, 2}}, m->mutable_query());
    m->set_rescore(1);
    m->set_candidates(1);
    m->set_exact_candidates(1);
  });
  EXPECT_THAT(Ids(reply), ElementsAre(1, 2, 3));
}

TEST_F(MultiServiceTest, CosineTokensAreOfLengthOne) {
  v1::SearchResponse reply;
  const grpc::Status status = Search(
      [](v1::SearchRequest* request) {
        auto* multi = request->mutable_query()->mutable_retrieve_multi();
        multi->set_vector("cos");
        multi->set_k(10);
        multi->mutable_quality()->set_exact(true);
        SetQuery({{0, 10, 0}, {0, 0, 0.1f}}, multi->mutable_query());
      },
      &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(Ids(reply), ElementsAre(2, 1));
  EXPECT_NEAR(reply.result().scores(0), 2, 1e-5);
  EXPECT_NEAR(reply.result().scores(1), 0, 1e-5);
}

TEST_F(MultiServiceTest, ExplainsAndShowsHowTokensMet) {
  for (const v1::ReplyForm form :
       {v1::REPLY_FORM_COLUMNS, v1::REPLY_FORM_ROWS}) {
    v1::SearchResponse reply;
    const grpc::Status status = Search(
        [&](v1::SearchRequest* request) {
          auto* multi = request->mutable_query()->mutable_retrieve_multi();
          multi->set_vector("tok");
          multi->set_k(2);
          SetQuery({{1, 0}, {0, 2}}, multi->mutable_query());
          request->set_explain(true);
          request->set_token_matches(true);
          request->mutable_select()->set_form(form);
        },
        &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(reply.result().token_matches_size(), 2);
    const v1::TokenMatches& first = reply.result().token_matches(0);
    EXPECT_EQ(first.num_query_tokens(), 2u);
    EXPECT_EQ(first.num_document_tokens(), 2u);
    EXPECT_THAT(first.similarities(), ElementsAre(1, 0, 0, 2));
    const v1::TokenMatches& second = reply.result().token_matches(1);
    EXPECT_EQ(second.num_document_tokens(), 1u);
    EXPECT_THAT(second.similarities(), ElementsAre(2, 0));
    ASSERT_EQ(reply.profile().segments_size(), 1);
    EXPECT_EQ(reply.profile().segments(0).vector(), "tok");
    EXPECT_EQ(reply.profile().segments(0).num_exact(), 3u);
    EXPECT_EQ(reply.profile().segments(0).encoder(), "");
  }
}

TEST_F(MultiServiceTest, RerankedAndFusedWithOtherVectors) {
  v1::SearchResponse reply;
  const auto dense = [](v1::Query* query) {
    auto* retrieve = query->mutable_retrieve();
    retrieve->set_vector("dense");
    retrieve->mutable_query()->add_values(4);
    retrieve->mutable_query()->add_values(0);
    retrieve->set_k(3);  // 4, 3 and 2
  };
  grpc::Status status = Search(
      [&](v1::SearchRequest* request) {
        auto* rerank = request->mutable_query()->mutable_rerank();
        dense(rerank->mutable_input());
        rerank->set_vector("tok");
        rerank->set_k(10);
        SetQuery({{1, 0}}, rerank->mutable_multi());
        request->set_token_matches(true);
      },
      &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(Ids(reply), ElementsAre(2, 3));
  EXPECT_THAT(reply.result().scores(), ElementsAre(2, 0.25));
  ASSERT_EQ(reply.result().token_matches_size(), 2);
  EXPECT_THAT(reply.result().token_matches(1).similarities(),
              ElementsAre(0, 0.25, 0));
  status = Search(
      [&](v1::SearchRequest* request) {
        auto* fuse = request->mutable_query()->mutable_fuse();
        fuse->set_k(10);
        dense(fuse->add_inputs());
        auto* multi = fuse->add_inputs()->mutable_retrieve_multi();
        multi->set_vector("tok");
        multi->set_k(10);
        SetQuery({{1, 0}}, multi->mutable_query());
        request->set_explain(true);
        request->set_token_matches(true);
      },
      &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  // Ranks 3 and 1, 2 and 3, -, 1 and -; 2 is before 3.
  EXPECT_THAT(Ids(reply), ElementsAre(2, 3, 4, 1));
  ASSERT_EQ(reply.result().legs_size(), 2);
  EXPECT_EQ(reply.result().legs(1).leg(), "inputs[1]");
  EXPECT_THAT(reply.result().legs(1).ranks(), ElementsAre(1, 3, 0, 2));
  EXPECT_THAT(reply.result().legs(1).scores(), ElementsAre(2, 0.25, 0, 1));
  // Point 4 has no tokens.
  ASSERT_EQ(reply.result().token_matches_size(), 4);
  EXPECT_EQ(reply.result().token_matches(2).num_query_tokens(), 0u);
  EXPECT_EQ(reply.result().token_matches(3).num_document_tokens(), 2u);
}

TEST_F(MultiServiceTest, FiltersLeaveOthersOut) {
  EXPECT_TRUE(
      Multi([](auto* m) { m->mutable_filter()->set_text("a = 1"); }).ok());
  ExpectRefused(
      Multi([](auto* m) { m->mutable_filter()->set_text("a = = 1"); }),
      "query.retrieve_multi.filter.text", "");
}

TEST_F(MultiServiceTest, ComeBackInBothFormsAndCanBeWrittenAgain) {
  const v1::GetResponse columns = Get(v1::REPLY_FORM_COLUMNS);
  ASSERT_EQ(columns.points().columns().multi_vectors_size(), 2);
  const v1::MultiVectorColumn& tok =
      columns.points().columns().multi_vectors(0);
  EXPECT_EQ(tok.name(), "tok");
  EXPECT_EQ(tok.dim(), 2u);
  EXPECT_EQ(tok.type(), v1::ELEMENT_TYPE_FLOAT32);
  EXPECT_THAT(tok.offsets(), ElementsAre(0, 2, 3, 6, 6));
  EXPECT_EQ(tok.data(), Bytes({1, 0, 0, 1, 2, 0, 0, 0.5f, 0.25f, 0, 0, 0}));
  const v1::MultiVectorColumn& cos =
      columns.points().columns().multi_vectors(1);
  EXPECT_EQ(cos.type(), v1::ELEMENT_TYPE_BFLOAT16);
  EXPECT_THAT(cos.offsets(), ElementsAre(0, 1, 3, 3, 3));
  EXPECT_EQ(cos.data().size(), 3u * 3u * 2u);

  const v1::GetResponse rows = Get(v1::REPLY_FORM_ROWS);
  ASSERT_EQ(rows.points().rows_size(), 4);
  ASSERT_EQ(rows.points().rows(1).multi_vectors_size(), 2);
  const v1::MultiVector& second = rows.points().rows(1).multi_vectors(1);
  EXPECT_EQ(second.name(), "cos");
  ASSERT_EQ(second.tokens_size(), 2);
  EXPECT_THAT(second.tokens(0).values(), ElementsAre(0, 3, 0));
  EXPECT_EQ(rows.points().rows(2).multi_vectors_size(), 1);
  EXPECT_EQ(rows.points().rows(3).multi_vectors_size(), 0);

  for (const v1::GetResponse& read : {columns, rows}) {
    const grpc::Status status = Upsert(read.points());
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(Get(v1::REPLY_FORM_COLUMNS).points().SerializeAsString(),
              columns.points().SerializeAsString());
  }
  Restart();
  EXPECT_EQ(Get(v1::REPLY_FORM_COLUMNS).points().SerializeAsString(),
            columns.points().SerializeAsString());
}

TEST_F(MultiServiceTest, AllVectorsAreThese) {
  v1::GetRequest request;
  request.set_collection("multi");
  request.mutable_ids()->add_numbers(1);
  request.mutable_select()->set_with_all_vectors(true);
  request.mutable_select()->set_form(v1::REPLY_FORM_ROWS);
  v1::GetResponse reply;
  Call call;
  ASSERT_TRUE(points_->Get(&call, request, &reply).ok());
  EXPECT_EQ(reply.points().rows(0).vectors_size(), 1);
  EXPECT_EQ(reply.points().rows(0).multi_vectors_size(), 2);
}

TEST_F(MultiServiceTest, FramesOfAStreamHaveThem) {
  Call call;
  auto stream = points_->Write(&call);
  v1::WriteRequest request;
  request.mutable_start()->set_collection("multi");
  ASSERT_TRUE(stream->Write(request));
  v1::WriteResponse reply;
  ASSERT_TRUE(stream->Read(&reply));
  request.Clear();
  request.mutable_frame()->set_frame(1);
  v1::PointBatch* batch = request.mutable_frame()->mutable_upsert();
  AddRow(batch, 11, {{1, 2}}, {});
  AddRow(batch, 12, {{1, 2}, {std::nanf(""), 1}}, {});
  ASSERT_TRUE(stream->Write(request));
  ASSERT_TRUE(stream->Read(&reply));
  EXPECT_EQ(reply.ack().num_written(), 1u);
  ASSERT_EQ(reply.ack().errors_size(), 1);
  EXPECT_EQ(reply.ack().errors(0).index(), 1u);
  EXPECT_EQ(reply.ack().errors(0).field(),
            "frame.upsert.rows[1].multi_vectors[0].tokens[1].values[0]");
  EXPECT_THAT(reply.ack().errors(0).message(), HasSubstr("NaN"));
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(CountMulti(), 5u);
}

TEST_F(MultiServiceTest, TheSchemaComesBackWithItsDefaults) {
  v1::GetCollectionRequest request;
  request.set_name("multi");
  v1::GetCollectionResponse reply;
  Call call;
  ASSERT_TRUE(collections_->GetCollection(&call, request, &reply).ok());
  ASSERT_EQ(reply.collection().multi_vectors_size(), 2);
  const v1::MultiVectorConfig& tok = reply.collection().multi_vectors(0);
  EXPECT_EQ(tok.name(), "tok");
  EXPECT_EQ(tok.dim(), 2u);
  EXPECT_EQ(tok.metric(), v1::METRIC_INNER_PRODUCT);
  EXPECT_EQ(tok.type(), v1::ELEMENT_TYPE_FLOAT32);
  EXPECT_EQ(tok.max_tokens(), 5u);
  EXPECT_FALSE(tok.allow_empty());
  const v1::MultiVectorConfig& cos = reply.collection().multi_vectors(1);
  EXPECT_EQ(cos.max_tokens(), 4096u);
  EXPECT_TRUE(cos.allow_empty());
  EXPECT_EQ(cos.encoder().kind(), v1::MULTI_ENCODER_KIND_UNSPECIFIED);
  EXPECT_EQ(cos.encoder().seed(), 1u);
  EXPECT_FALSE(cos.encoder().muvera().has_k_sim());
  EXPECT_FLOAT_EQ(cos.encoder().ols().ridge(), 1e-3f);
  EXPECT_EQ(cos.token_codec(), v1::TOKEN_CODEC_INT4);
  EXPECT_EQ(cos.avg_bits(), 0);
}

TEST_F(MultiServiceTest, AllOptionsOfTheSchemaComeBack) {
  v1::Collection wanted;
  wanted.set_name("options");
  v1::MultiVectorConfig* paper = wanted.add_multi_vectors();
  paper->set_name("paper");
  paper->set_dim(32);
  paper->set_metric(v1::METRIC_COSINE);
  paper->mutable_encoder()->set_kind(v1::MULTI_ENCODER_KIND_MUVERA);
  paper->mutable_encoder()->set_seed(7);
  paper->mutable_encoder()->mutable_muvera()->set_preset(
      v1::MUVERA_PRESET_PAPER);
  paper->mutable_encoder()->mutable_muvera()->set_k_sim(0);
  v1::MultiVectorConfig* ols = wanted.add_multi_vectors();
  ols->set_name("ols");
  ols->set_dim(32);
  ols->set_metric(v1::METRIC_COSINE);
  ols->set_type(v1::ELEMENT_TYPE_INT8);
  ols->mutable_encoder()->set_kind(v1::MULTI_ENCODER_KIND_OLS);
  ols->mutable_encoder()->mutable_ols()->set_features(128);
  ols->mutable_encoder()->mutable_ols()->set_sample_tokens(1'000);
  ols->mutable_encoder()->mutable_ols()->set_ridge(0.5f);
  ols->set_token_codec(v1::TOKEN_CODEC_BINARY);
  ols->set_avg_bits(4);
  v1::Collection created;
  const grpc::Status status = Create(wanted, &created);
  ASSERT_TRUE(status.ok()) << status.error_message();
  const v1::MuveraConfig& muvera = created.multi_vectors(0).encoder().muvera();
  EXPECT_EQ(created.multi_vectors(0).type(), v1::ELEMENT_TYPE_FLOAT16);
  EXPECT_EQ(created.multi_vectors(0).encoder().seed(), 7u);
  EXPECT_FALSE(created.multi_vectors(0).encoder().has_ols());
  EXPECT_EQ(muvera.repetitions(), 20u);
  EXPECT_TRUE(muvera.has_k_sim());
  EXPECT_EQ(muvera.k_sim(), 0u);
  EXPECT_EQ(muvera.d_proj(), 16u);
  EXPECT_EQ(muvera.projection(), v1::MUVERA_PROJECTION_DENSE_SIGN);
  EXPECT_EQ(muvera.fill(), v1::MUVERA_FILL_HAMMING_MEAN);
  EXPECT_EQ(muvera.centering(), v1::MUVERA_CENTERING_NONE);
  const v1::MultiVectorConfig& back = created.multi_vectors(1);
  EXPECT_EQ(back.encoder().kind(), v1::MULTI_ENCODER_KIND_OLS);
  EXPECT_FALSE(back.encoder().has_muvera());
  EXPECT_EQ(back.encoder().ols().features(), 128u);
  EXPECT_EQ(back.encoder().ols().sample_tokens(), 1'000u);
  EXPECT_FLOAT_EQ(back.encoder().ols().ridge(), 0.5f);
  EXPECT_EQ(back.token_codec(), v1::TOKEN_CODEC_BINARY);
  EXPECT_FLOAT_EQ(back.avg_bits(), 4);
  // What came back is what is wanted.
  v1::Collection again = created, twin;
  again.set_name("again");
  ASSERT_TRUE(Create(again, &twin).ok());
  for (const int i : {0, 1}) {
    EXPECT_EQ(twin.multi_vectors(i).SerializeAsString(),
              created.multi_vectors(i).SerializeAsString());
  }
}

TEST_F(MultiServiceTest, LimitsAreTold) {
  v1::GetServerInfoRequest request;
  v1::GetServerInfoResponse reply;
  Call call;
  ASSERT_TRUE(admin_->GetServerInfo(&call, request, &reply).ok());
  EXPECT_EQ(reply.limits().max_tokens(), 65'535u);
  EXPECT_EQ(reply.limits().max_query_tokens(), 4'096u);
  EXPECT_THAT(reply.features(), ::testing::Contains("vector.multi"));
}

TEST_F(MultiServiceTest, APointMayNameAVectorThatMayBeEmpty) {
  v1::PointBatch batch;
  AddRow(&batch, 1, {{1, 2}}, {})->add_multi_vectors()->set_name("cos");
  const grpc::Status status = Upsert(batch);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(
      Get(v1::REPLY_FORM_COLUMNS).points().columns().multi_vectors(1).offsets(),
      ElementsAre(0, 0, 2, 2, 2));
}

}  // namespace
}  // namespace vicinal::testing
