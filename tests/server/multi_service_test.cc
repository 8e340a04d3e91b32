// Multi-vectors over gRPC: both forms of points and queries, replies, and what
// bad input meets.
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/server/server_fixture.h"
#include "vicinal/v1/admin.pb.h"
#include "vicinal/v1/collection.pb.h"
#include "vicinal/v1/point.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Tokens = std::vector<std::vector<float>>;

std::string Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()),
          values.size() * sizeof(float)};
}

void AddTokens(const Tokens& tokens, v1::MultiVector* out) {
  for (const std::vector<float>& token : tokens) {
    out->add_tokens()->mutable_values()->Assign(token.begin(), token.end());
  }
}

// "tok": two elements, inner product, f32; "cos": three, cosine, bf16, may be
// empty; "dense" and "sparse" beside them. Points 1 to 4, of which 4 has no
// tokens.
class MultiServiceTest : public ServerFixture {
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
    EXPECT_THAT(DetailsOf(status).fields, ElementsAre(field));
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  }
  static std::vector<uint64_t> Ids(const v1::SearchResponse& reply) {
    const auto& numbers = reply.result().ids().numbers();
    return {numbers.begin(), numbers.end()};
  }
};

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

TEST_F(MultiServiceTest, CollectionsThatCannotBeAreRefused) {
  const auto refuse =
      [&](const std::function<void(v1::MultiVectorConfig*)>& change,
          const std::string& field, const std::string& message) {
        v1::Collection collection = Wanted();
        collection.set_name("bad");
        change(collection.mutable_multi_vectors(0));
        ExpectRefused(Create(collection),
                      absl::StrCat("collection.multi_vectors[0].", field),
                      message);
      };
  refuse([](auto* m) { m->clear_name(); }, "name", "is empty");
  refuse([](auto* m) { m->set_name("dense"); }, "name", "stands twice");
  refuse([](auto* m) { m->set_name("sparse"); }, "name", "stands twice");
  refuse([](auto* m) { m->set_name("a b"); }, "name", "name");
  refuse([](auto* m) { m->set_dim(0); }, "dim", "1 to 4096");
  refuse([](auto* m) { m->set_dim(4'097); }, "dim", "1 to 4096");
  refuse([](auto* m) { m->clear_metric(); }, "metric", "is not given; choose");
  refuse([](auto* m) { m->set_metric(v1::METRIC_L2); }, "metric",
         "choose METRIC_INNER_PRODUCT or METRIC_COSINE");
  refuse([](auto* m) { m->set_type(v1::ELEMENT_TYPE_UINT8); }, "type",
         "BFLOAT16 or INT8");
  refuse([](auto* m) { m->set_type(v1::ElementType(77)); }, "type", "is 77");
  refuse([](auto* m) { m->set_max_tokens(65'536); }, "max_tokens",
         "1 to 65535");
  refuse([](auto* m) { m->set_token_codec(v1::TokenCodec(77)); }, "token_codec",
         "is 77; give one of vicinal.v1.TokenCodec");
  refuse([](auto* m) { m->set_avg_bits(9); }, "avg_bits", "0.5 to 8");
  refuse([](auto* m) { m->set_avg_bits(std::nanf("")); }, "avg_bits",
         "0.5 to 8");
  const auto refuse_encoder =
      [&](const std::function<void(v1::MultiEncoderConfig*)>& change,
          const std::string& field, const std::string& message) {
        refuse([&](auto* m) { change(m->mutable_encoder()); },
               "encoder." + field, message);
      };
  refuse_encoder([](auto* e) { e->set_kind(v1::MultiEncoderKind(77)); }, "kind",
                 "is 77");
  refuse_encoder(
      [](auto* e) {
        e->set_kind(v1::MULTI_ENCODER_KIND_OLS);
        e->mutable_muvera()->set_k_sim(3);
      },
      "muvera", "the encoder's kind is MULTI_ENCODER_KIND_OLS");
  refuse_encoder([](auto* e) { e->mutable_muvera()->set_repetitions(257); },
                 "muvera.repetitions", "1 to 256");
  // 255 stands for the default inside.
  for (const uint32_t k_sim : {11u, 255u}) {
    refuse_encoder([&](auto* e) { e->mutable_muvera()->set_k_sim(k_sim); },
                   "muvera.k_sim", "give 0 to 10");
  }
  refuse_encoder(
      [](auto* e) { e->mutable_muvera()->set_preset(v1::MuveraPreset(77)); },
      "muvera.preset", "is 77");
  refuse_encoder(
      [](auto* e) { e->mutable_muvera()->set_fill(v1::MuveraFill(77)); },
      "muvera.fill", "is 77");
  refuse_encoder(
      [](auto* e) {
        e->mutable_muvera()->set_projection(v1::MuveraProjection(77));
      },
      "muvera.projection", "is 77");
  refuse_encoder(
      [](auto* e) {
        e->mutable_muvera()->set_centering(v1::MuveraCentering(77));
      },
      "muvera.centering", "is 77");
  refuse_encoder([](auto* e) { e->mutable_ols()->set_features(10); },
                 "ols.features", "64 to 4096");
  refuse_encoder([](auto* e) { e->mutable_ols()->set_ridge(0); }, "ols.ridge",
                 "over 0");
  refuse_encoder([](auto* e) { e->mutable_ols()->set_ridge(std::nanf("")); },
                 "ols.ridge", "over 0");
  refuse_encoder([](auto* e) { e->mutable_ols()->set_ridge(2); }, "ols.ridge",
                 "is 2; it must be over 0, at most 1");
  refuse(
      [](auto* m) {
        m->set_dim(8);
        m->mutable_encoder()->mutable_muvera()->set_repetitions(256);
        m->mutable_encoder()->mutable_muvera()->set_k_sim(10);
      },
      "encoder.muvera",
      "= 2097152 dimensions; at most 1048576 are possible: lower");

  v1::Collection many;
  many.set_name("bad");
  for (int i = 0; i < 17; ++i) {
    *many.add_multi_vectors() = Wanted().multi_vectors(0);
    many.mutable_multi_vectors(i)->set_name(absl::StrCat("m", i));
  }
  ExpectRefused(Create(many), "collection.multi_vectors", "at most 16");
  v1::Collection dense = Wanted();
  dense.set_name("bad");
  dense.mutable_vectors(0)->set_type(v1::ELEMENT_TYPE_BFLOAT16);
  ExpectRefused(Create(dense), "collection.vectors[0].type",
                "which only multi-vectors have");
}

TEST_F(MultiServiceTest, BadRowsWriteNothing) {
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  const std::string at = "points.rows[1].multi_vectors[0]";
  const auto refuse = [&](const std::string& name, const Tokens& tokens,
                          const std::string& field,
                          const std::string& message) {
    v1::PointBatch batch;
    AddRow(&batch, 10, {{1, 2}}, {{1, 2, 3}});
    v1::MultiVector* multi = AddRow(&batch, 11, {}, {})->add_multi_vectors();
    multi->set_name(name);
    AddTokens(tokens, multi);
    ExpectRefused(Upsert(batch), at + field, message);
  };
  refuse("tok", {{1, 2}, {1, 2, 3}}, ".tokens[1].values",
         "has 3 elements; tokens of multi-vector \"tok\" of this collection "
         "have 2");
  refuse("tok", {{1, 2}, {}}, ".tokens[1].values", "has 0 elements");
  refuse("tok", {{1, 2}, {0, nan}}, ".tokens[1].values[1]", "NaN");
  refuse("tok", {{infinity, 2}}, ".tokens[0].values[0]", "infinite");
  refuse("tok", {{1, -2e15f}}, ".tokens[0].values[1]",
         "is -2e+15; give a number from -1e+15 to 1e+15");
  refuse("cos", {{1, 2e15f, 3}}, ".tokens[0].values[1]",
         "is 2e+15; give a number from -1e+15 to 1e+15");
  refuse("tok", {}, "", "has no tokens");
  refuse("tok", {{1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}}, "",
         "has 6 tokens; at most 5");
  refuse("cos", {{1, 2, 3}, {0, 0, 0}}, ".tokens[1]", "is a zero vector");
  refuse("dense", {{1, 2}}, ".name", "a dense vector");
  refuse("sparse", {{1, 2}}, ".name", "a sparse vector");
  refuse("none", {{1, 2}}, ".name",
         "does not have; its multi-vectors are \"tok\", \"cos\"");
  v1::PointBatch twice;
  v1::PointRow* row = AddRow(&twice, 11, {{1, 2}}, {});
  *row->add_multi_vectors() = row->multi_vectors(0);
  ExpectRefused(Upsert(twice), "points.rows[0].multi_vectors[1].name",
                "stands twice");
  v1::PointBatch as_dense;
  AddRow(&as_dense, 11, {}, {})->mutable_vectors(0)->set_name("tok");
  ExpectRefused(Upsert(as_dense), "points.rows[0].vectors[0].name",
                "a multi-vector, which is written in multi_vectors");
  EXPECT_EQ(CountMulti(), 4u);
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

TEST_F(MultiServiceTest, BadColumnsAreRefused) {
  const auto refuse =
      [&](const std::function<void(v1::MultiVectorColumn*)>& change,
          const std::string& field, const std::string& message) {
        v1::PointBatch batch;
        v1::PointColumns* columns = batch.mutable_columns();
        columns->mutable_ids()->add_numbers(20);
        columns->mutable_ids()->add_numbers(21);
        v1::MultiVectorColumn* column = columns->add_multi_vectors();
        column->set_name("tok");
        column->set_dim(2);
        for (const uint64_t begin : {0, 1, 3}) column->add_offsets(begin);
        column->set_data(Bytes({1, 2, 3, 4, 5, 6}));
        change(column);
        ExpectRefused(Upsert(batch), "points.columns.multi_vectors[0]" + field,
                      message);
      };
  refuse([](auto* c) { c->set_name("none"); }, ".name", "no such multi-vector");
  refuse([](auto* c) { c->set_name("dense"); }, ".name", "dense vector");
  refuse([](auto* c) { c->set_dim(3); }, ".dim", "have 2");
  refuse([](auto* c) { c->set_type(v1::ElementType(77)); }, ".type", "is 77");
  refuse([](auto* c) { c->add_offsets(3); }, ".offsets", "2 points take 3");
  refuse([](auto* c) { c->set_offsets(0, 1); }, ".offsets[0]",
         "offsets begin with 0");
  refuse([](auto* c) { c->set_offsets(1, 9); }, ".offsets[1]", "is 9");
  refuse([](auto* c) { c->set_offsets(1, UINT64_MAX); }, ".offsets[1]",
         "is 18446744073709551615");
  refuse([](auto* c) { c->set_offsets(2, 0); }, ".offsets[2]",
         "do not descend");
  refuse([](auto* c) { c->set_offsets(2, 2); }, ".data", "16");
  refuse([](auto* c) { c->mutable_data()->pop_back(); }, ".offsets[2]",
         "2 in 23 bytes");
  refuse([](auto* c) { c->mutable_data()->push_back('\0'); }, ".data",
         "has 25 bytes");
  refuse([](auto* c) { c->add_present(2); }, ".present[0]", "is 2");
  refuse([](auto* c) { c->add_present(0); }, ".present", "point 1");
  refuse([](auto* c) { c->set_data(Bytes({1, 2, 3, 4, 5, std::nanf("")})); },
         ".data[1][1][1]", "NaN");
  EXPECT_EQ(CountMulti(), 4u);
}

TEST_F(MultiServiceTest, QueriesThatCannotBeAskedAreRefused) {
  const std::string at = "query.retrieve_multi";
  ExpectRefused(Multi([](auto* m) { m->set_vector("dense"); }), at + ".vector",
                "a dense vector, which is");
  ExpectRefused(Multi([](auto* m) { m->set_vector("sparse"); }), at + ".vector",
                "a sparse vector, which is");
  ExpectRefused(Multi([](auto* m) { m->set_vector(""); }), at + ".vector",
                "does not have; its multi-vectors are \"tok\", \"cos\"");
  ExpectRefused(Multi([](auto* m) { m->clear_query(); }), at + ".query",
                "has 0 tokens; give 1 to 4096");
  ExpectRefused(Multi([](auto* m) {
                  for (int i = 0; i < 4'095; ++i) {
                    *m->mutable_query()->add_tokens() = m->query().tokens(0);
                  }
                }),
                at + ".query", "has 4097 tokens; give 1 to 4096");
  ExpectRefused(Multi([](auto* m) {
                  m->mutable_query()->mutable_tokens(1)->add_values(1);
                }),
                at + ".query.tokens[1].values", "has 3 elements");
  ExpectRefused(Multi([](auto* m) {
                  m->mutable_query()->mutable_tokens(1)->set_values(
                      0, std::nanf(""));
                }),
                at + ".query.tokens[1].values[0]",
                "is nan; give a number from -1e+15 to 1e+15");
  ExpectRefused(Multi([](auto* m) {
                  m->mutable_query()->mutable_tokens(1)->set_values(0, -2e15f);
                }),
                at + ".query.tokens[1].values[0]",
                "is -2e+15; give a number from -1e+15 to 1e+15");
  ExpectRefused(
      Multi([](auto* m) { m->mutable_query()->set_data(Bytes({1, 2})); }),
      at + ".query", "both tokens and data");
  const auto as_bytes =
      [&](const std::function<void(v1::MultiVectorQuery*)>& change) {
        return Multi([&](auto* m) {
          m->mutable_query()->clear_tokens();
          m->mutable_query()->set_dim(2);
          m->mutable_query()->set_data(Bytes({1, 2, 3, 4}));
          change(m->mutable_query());
        });
      };
  EXPECT_TRUE(as_bytes([](auto*) {}).ok());
  ExpectRefused(as_bytes([](auto* q) { q->set_dim(4); }), at + ".query.dim",
                "is 4; tokens of multi-vector \"tok\"");
  ExpectRefused(as_bytes([](auto* q) { q->mutable_data()->pop_back(); }),
                at + ".query.data", "has 15 bytes; a token takes 8");
  ExpectRefused(as_bytes([](auto* q) { q->set_type(v1::ElementType(77)); }),
                at + ".query.type", "is 77");
  ExpectRefused(
      as_bytes([](auto* q) { q->set_data(std::string(4'097 * 8, '\0')); }),
      at + ".query", "has 4097 tokens");
  ExpectRefused(
      as_bytes([](auto* q) {
        q->set_data(Bytes({1, 2, 3, std::numeric_limits<float>::infinity()}));
      }),
      at + ".query.data[1][1]", "is inf");
  // A zero token has an inner product, but no cosine.
  EXPECT_TRUE(Multi([](auto* m) {
                m->mutable_query()->mutable_tokens(0)->set_values(0, 0);
              }).ok());
  ExpectRefused(Multi([](auto* m) {
                  m->set_vector("cos");
                  m->clear_query();
                  SetQuery({{1, 0, 0}, {0, 0, 0}}, m->mutable_query());
                }),
                at + ".query.tokens[1]", "leave the token out");
}

TEST_F(MultiServiceTest, BadWeightsAndEffortsAreRefused) {
  const std::string at = "query.retrieve_multi";
  const auto weigh = [&](const std::vector<float>& weights) {
    return Multi([&](auto* m) {
      m->mutable_query()->mutable_weights()->Assign(weights.begin(),
                                                    weights.end());
    });
  };
  EXPECT_TRUE(weigh({0, 2}).ok());
  ExpectRefused(weigh({1}), at + ".query.weights",
                "has 1 elements; give none or one for each of the 2 tokens");
  ExpectRefused(weigh({1, -0.5f}), at + ".query.weights[1]",
                "is -0.5; give a number from 0 to 1e+06");
  EXPECT_TRUE(weigh({0, 1e6f}).ok());
  ExpectRefused(weigh({0, 1.1e6f}), at + ".query.weights[1]",
                "is 1.1e+06; give a number from 0 to 1e+06");
  ExpectRefused(weigh({std::nanf(""), 1}), at + ".query.weights[0]", "is nan");
  ExpectRefused(weigh({std::numeric_limits<float>::infinity(), 1}),
                at + ".query.weights[0]", "is inf");
  ExpectRefused(Multi([](auto* m) { m->set_k(0); }), at + ".k", "ask for 1");
  ExpectRefused(Multi([](auto* m) { m->set_score_threshold(std::nanf("")); }),
                at + ".score_threshold", "no finite number");
  ExpectRefused(Multi([](auto* m) { m->set_candidates(1'000'001); }),
                at + ".candidates", "is 1000001; at most 1000000");
  ExpectRefused(Multi([](auto* m) {
                  m->mutable_quality()->set_exact(true);
                  m->set_rescore(5);
                }),
                at + ".rescore", "leave it out");
  ExpectRefused(Multi([](auto* m) { m->mutable_quality()->set_nprobe(3); }),
                at + ".quality.nprobe", "which multi-vectors do not have");
  // One violation, though the number is wrong, too.
  for (const uint32_t ef : {0u, 100u}) {
    ExpectRefused(Multi([&](auto* m) { m->mutable_quality()->set_ef(ef); }),
                  at + ".quality.ef",
                  "is for graphs, which multi-vectors do not have; give "
                  "recall_target or candidates");
  }
  ExpectRefused(
      Multi([](auto* m) { m->mutable_quality()->set_recall_target(2); }),
      at + ".quality.recall_target", "at most 1");
  ExpectRefused(Multi([](auto* m) { m->set_plan(v1::ForcedPlan(77)); }),
                at + ".plan", "is 77");
}

TEST_F(MultiServiceTest, OtherStagesTakeNoMultiVectors) {
  v1::SearchResponse reply;
  ExpectRefused(Search(
                    [](v1::SearchRequest* request) {
                      auto* retrieve =
                          request->mutable_query()->mutable_retrieve();
                      retrieve->set_vector("tok");
                      retrieve->mutable_query()->add_values(1);
                      retrieve->mutable_query()->add_values(1);
                      retrieve->set_k(5);
                    },
                    &reply),
                "query.retrieve.vector",
                "a multi-vector, which is written in multi_vectors and "
                "searched by retrieve_multi");
  const auto rerank = [&](const std::function<void(v1::Rerank*)>& change) {
    return Search(
        [&](v1::SearchRequest* request) {
          auto* stage = request->mutable_query()->mutable_rerank();
          auto* input = stage->mutable_input()->mutable_retrieve();
          input->set_vector("dense");
          input->mutable_query()->add_values(1);
          input->mutable_query()->add_values(0);
          input->set_k(5);
          stage->set_vector("tok");
          stage->set_k(5);
          change(stage);
        },
        &reply);
  };
  const auto multi = [](v1::Rerank* r) {
    SetQuery({{1, 0}}, r->mutable_multi());
  };
  ExpectRefused(rerank([](auto* r) {
                  r->mutable_query()->add_values(1);
                  r->mutable_query()->add_values(0);
                }),
                "query.rerank.vector", "a multi-vector");
  ExpectRefused(rerank([&](auto* r) {
                  multi(r);
                  r->set_vector("dense");
                }),
                "query.rerank.vector", "a dense vector");
  ExpectRefused(rerank([&](auto* r) {
                  multi(r);
                  r->mutable_mmr();
                }),
                "query.rerank.multi", "give one");
  ExpectRefused(rerank([&](auto* r) {
                  multi(r);
                  r->mutable_multi()->add_weights(-1);
                }),
                "query.rerank.multi.weights[0]", "from 0 to");
  ExpectRefused(rerank([&](auto* r) {
                  multi(r);
                  r->mutable_multi()->mutable_tokens(0)->set_values(0, 2e15f);
                }),
                "query.rerank.multi.tokens[0].values[0]", "is 2e+15; give");
  ExpectRefused(rerank([](auto* r) { r->mutable_multi(); }),
                "query.rerank.multi", "has 0 tokens");
  EXPECT_TRUE(rerank(multi).ok());
}

TEST_F(MultiServiceTest, TokenMatchesNeedAStageThatComparesTokens) {
  v1::SearchResponse reply;
  ExpectRefused(Search(
                    [](v1::SearchRequest* request) {
                      auto* retrieve =
                          request->mutable_query()->mutable_retrieve();
                      retrieve->set_vector("dense");
                      retrieve->mutable_query()->add_values(1);
                      retrieve->mutable_query()->add_values(1);
                      retrieve->set_k(5);
                      request->set_token_matches(true);
                    },
                    &reply),
                "token_matches", "no stage of the query compares tokens");
}

TEST_F(MultiServiceTest, TokenMatchesThatNoMessageTakesAreToldSo) {
  const Tokens many(4'096, {1, 2, 3});
  v1::PointBatch batch;
  AddRow(&batch, 10, {}, many);
  ASSERT_TRUE(Upsert(batch).ok());
  v1::SearchResponse reply;
  const grpc::Status status = Search(
      [&](v1::SearchRequest* request) {
        auto* multi = request->mutable_query()->mutable_retrieve_multi();
        multi->set_vector("cos");
        multi->set_k(10);
        SetQuery(many, multi->mutable_query());
        request->set_token_matches(true);
      },
      &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(status).reason, "REPLY_TOO_LARGE");
  EXPECT_FALSE(DetailsOf(status).retry_info);
  EXPECT_THAT(status.error_message(), HasSubstr("fewer"));
}

}  // namespace
}  // namespace vicinal::testing
