// What bad input meets around multi-vectors: the path of the field, a message
// that names the limit; nothing is written.
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/server/multi_fixture.h"
#include "vicinal/v1/collection.pb.h"
#include "vicinal/v1/point.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::testing {
namespace {

using ::testing::HasSubstr;

using BadMultiTest = MultiFixture;

TEST_F(BadMultiTest, CollectionsThatCannotBeAreRefused) {
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

TEST_F(BadMultiTest, BadRowsWriteNothing) {
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

TEST_F(BadMultiTest, BadColumnsAreRefused) {
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

TEST_F(BadMultiTest, QueriesThatCannotBeAskedAreRefused) {
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

TEST_F(BadMultiTest, BadWeightsAndEffortsAreRefused) {
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

TEST_F(BadMultiTest, OtherStagesTakeNoMultiVectors) {
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
  ExpectRefused(Search(
                    [](v1::SearchRequest* request) {
                      auto* retrieve =
                          request->mutable_query()->mutable_retrieve();
                      retrieve->set_vector("sparse");
                      retrieve->mutable_query()->add_values(1);
                      retrieve->set_k(5);
                    },
                    &reply),
                "query.retrieve.vector",
                "a sparse vector, which is written in sparse_vectors and "
                "searched by retrieve_sparse");
  ExpectRefused(Search(
                    [](v1::SearchRequest* request) {
                      auto* retrieve =
                          request->mutable_query()->mutable_retrieve_sparse();
                      retrieve->set_vector("tok");
                      retrieve->mutable_query()->add_indices(1);
                      retrieve->mutable_query()->add_values(1);
                      retrieve->set_k(5);
                    },
                    &reply),
                "query.retrieve_sparse.vector", "a multi-vector, which is");
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

TEST_F(BadMultiTest, BatchesAreOfDenseVectors) {
  const auto batch = [&](const std::string& vector) {
    v1::SearchBatchRequest request;
    request.set_collection("multi");
    request.set_vector(vector);
    request.set_k(2);
    request.mutable_queries()->set_dim(2);
    request.mutable_queries()->set_data(Bytes({1, 0, 4, 0}));
    v1::SearchBatchResponse reply;
    Call call;
    return search_->SearchBatch(&call, request, &reply);
  };
  EXPECT_TRUE(batch("dense").ok());
  ExpectRefused(batch("tok"), "vector",
                "is \"tok\", a multi-vector; SearchBatch takes dense vectors "
                "only: send a Search with retrieve_multi for each query");
  ExpectRefused(batch("sparse"), "vector",
                "a sparse vector; SearchBatch takes dense vectors only: send "
                "a Search with retrieve_sparse");
  ExpectRefused(batch("body"), "vector",
                "a text; SearchBatch takes dense vectors only: send a Search "
                "with retrieve_text");
  ExpectRefused(batch("none"), "vector", "the collection does not have");
}

TEST_F(BadMultiTest, ACollectionWithoutDenseVectorsSaysSo) {
  v1::Collection collection;
  collection.set_name("alone");
  *collection.add_multi_vectors() = Wanted().multi_vectors(0);
  ASSERT_TRUE(Create(collection).ok());
  v1::SearchResponse reply;
  ExpectRefused(Search(
                    [](v1::SearchRequest* request) {
                      request->set_collection("alone");
                      auto* retrieve =
                          request->mutable_query()->mutable_retrieve();
                      retrieve->mutable_query()->add_values(1);
                      retrieve->set_k(5);
                    },
                    &reply),
                "query.retrieve.vector",
                "is \"\", which the collection does not have; it has no dense "
                "vectors");
}

TEST_F(BadMultiTest, TokenMatchesNeedAStageThatComparesTokens) {
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

TEST_F(BadMultiTest, TokenMatchesThatNoMessageTakesAreToldSo) {
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
