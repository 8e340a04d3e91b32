// Queries that the server refuses.
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/bad_input_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::HasSubstr;

TEST_F(BadInputTest, KOutsideItsLimits) {
  for (const uint32_t k : {0u, 16'385u}) {
    ExpectRefused(Retrieve([&](auto* retrieve) { retrieve->set_k(k); }),
                  "query.retrieve.k", "1 to 16384");
  }
}

TEST_F(BadInputTest, NprobeForAGraph) {
  ExpectRefused(Retrieve([](auto* retrieve) {
                  retrieve->mutable_quality()->set_nprobe(4);
                }),
                "query.retrieve.quality.nprobe", "has a graph");
}

TEST_F(BadInputTest, EfForListsTooManyListsAndNprobeOutsideItsLimits) {
  v1::CreateCollectionRequest create;
  create.mutable_collection()->set_name("lists");
  auto* vector = create.mutable_collection()->add_vectors();
  vector->set_dim(4);
  vector->set_metric(v1::METRIC_L2);
  vector->mutable_index()->mutable_ivf()->set_num_lists(65'537);
  v1::CreateCollectionResponse created;
  {
    Call call;
    ExpectRefused(collections_->CreateCollection(&call, create, &created),
                  "collection.vectors[0].index.ivf.num_lists", "65536");
  }
  vector->mutable_index()->mutable_ivf()->set_num_lists(10);
  {
    Call call;
    ASSERT_TRUE(collections_->CreateCollection(&call, create, &created).ok());
  }
  v1::SearchBatchRequest request;
  request.set_collection("lists");
  request.set_k(10);
  request.mutable_queries()->set_type(v1::ELEMENT_TYPE_FLOAT32);
  request.mutable_queries()->set_dim(4);
  request.mutable_queries()->set_data(std::string(2 * 4 * 4, '\0'));
  request.mutable_quality()->set_ef(16);
  v1::SearchBatchResponse reply;
  {
    Call call;
    ExpectRefused(search_->SearchBatch(&call, request, &reply), "quality.ef",
                  "give nprobe or recall_target");
  }
  for (const uint32_t nprobe : {0u, 65'537u}) {
    request.mutable_quality()->set_nprobe(nprobe);
    Call call;
    ExpectRefused(search_->SearchBatch(&call, request, &reply),
                  "quality.nprobe", "65536");
  }
  request.mutable_quality()->set_nprobe(16);
  Call call;
  EXPECT_TRUE(search_->SearchBatch(&call, request, &reply).ok());
}

TEST_F(BadInputTest, EfAndRecallTargetOutsideTheirLimits) {
  for (const uint32_t ef : {0u, 16'385u}) {
    ExpectRefused(Retrieve([&](auto* retrieve) {
                    retrieve->mutable_quality()->set_ef(ef);
                  }),
                  "query.retrieve.quality.ef", "16384");
  }
  for (const double target : {0.0, -1.0, 1.5, std::nan("")}) {
    ExpectRefused(Retrieve([&](auto* retrieve) {
                    retrieve->mutable_quality()->set_recall_target(target);
                  }),
                  "query.retrieve.quality.recall_target", "at most 1");
  }
}

TEST_F(BadInputTest, QueryOfWrongDimensionOrNotFinite) {
  ExpectRefused(Retrieve([](auto* retrieve) {
                  retrieve->mutable_query()->add_values(1);
                }),
                "query.retrieve.query.values", "dimension 4");
  ExpectRefused(Retrieve([](auto* retrieve) {
                  retrieve->mutable_query()->set_values(2, NAN);
                }),
                "query.retrieve.query.values[2]", "finite");
}

TEST_F(BadInputTest, AZeroQueryUnderCosine) {
  ExpectRefused(Retrieve([](auto* retrieve) {
                  retrieve->set_vector("cos");
                  for (int i = 0; i < 4; ++i) {
                    retrieve->mutable_query()->set_values(i, 0);
                  }
                }),
                "query.retrieve.query.values", "zero vector");
}

TEST_F(BadInputTest, UnknownVectorsInASelection) {
  ExpectRefused(Search([](v1::SearchRequest* request) {
                  request->mutable_select()->add_vectors("l2");
                  request->mutable_select()->add_vectors("nope");
                }),
                "select.vectors[1]", "nope");
  ExpectRefused(Search([](v1::SearchRequest* request) {
                  request->mutable_select()->add_vectors("l2");
                  request->mutable_select()->set_with_all_vectors(true);
                }),
                "select.vectors", "must be empty");
}

TEST_F(BadInputTest, QueryWithoutStageOrTooDeep) {
  ExpectRefused(
      Search([](v1::SearchRequest* request) { request->clear_query(); }),
      "query", "fuse, rerank or rescore");
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

TEST_F(BadInputTest, FieldsOfFuseAndRerank) {
  const auto fused = [&](const std::function<void(v1::Fuse*)>& change) {
    return Search([&](v1::SearchRequest* request) {
      const v1::Query leaf = request->query();
      auto* fuse = request->mutable_query()->mutable_fuse();
      fuse->set_k(10);
      *fuse->add_inputs() = leaf;
      change(fuse);
    });
  };
  const auto refused = [&](const std::function<void(v1::Fuse*)>& change,
                           const std::string& field, const char* message) {
    ExpectRefused(fused(change), "query.fuse." + field, message);
  };
  EXPECT_TRUE(fused([](v1::Fuse*) {}).ok());
  refused([](v1::Fuse* fuse) { fuse->set_k(0); }, "k", "1 to 16384");
  refused([](v1::Fuse* fuse) { fuse->clear_inputs(); }, "inputs", "at least");
  refused([](v1::Fuse* fuse) { fuse->set_rank_constant(-1); }, "rank_constant",
          "over 0");
  refused([](v1::Fuse* fuse) { fuse->set_rank_constant(NAN); }, "rank_constant",
          "over 0");
  refused([](v1::Fuse* fuse) { fuse->add_weights(-1); }, "weights[0]",
          "0 or larger");
  refused(
      [](v1::Fuse* fuse) {
        fuse->add_weights(1);
        fuse->add_weights(1);
      },
      "weights", "has 2");
  ExpectRefused(Rerank([](auto* rerank) { rerank->clear_k(); }),
                "query.rerank.k", "1 to 16384");
}

TEST_F(BadInputTest, ScoreThresholdsThatAreNoNumbers) {
  for (const float threshold : {std::nanf(""), INFINITY, -INFINITY}) {
    ExpectRefused(Retrieve([&](auto* retrieve) {
                    retrieve->set_score_threshold(threshold);
                  }),
                  "query.retrieve.score_threshold", "give a finite number");
    ExpectRefused(
        Rerank([&](auto* rerank) { rerank->set_score_threshold(threshold); }),
        "query.rerank.score_threshold", "give a finite number");
  }
}

TEST_F(BadInputTest, AnOffsetBeyondTheLimit) {
  ExpectRefused(
      Search([](v1::SearchRequest* request) { request->set_offset(16'375); }),
      "offset", "are 16385 together; at most 16384");
  ExpectRefused(Search([](v1::SearchRequest* request) {
                  request->set_offset(UINT32_MAX);
                }),
                "offset", "are 4294967305 together");
  EXPECT_TRUE(Search([](v1::SearchRequest* request) {
                request->set_offset(16'374);
              }).ok());
}

TEST_F(BadInputTest, GroupsThatCannotBeFormed) {
  const auto refused = [&](const char* path, uint32_t group_size,
                           uint32_t num_groups, const std::string& field,
                           const std::string& message) {
    ExpectRefused(Search([&](v1::SearchRequest* request) {
                    request->mutable_query()->mutable_retrieve()->clear_k();
                    auto* group_by = request->mutable_group_by();
                    group_by->set_path(path);
                    group_by->set_group_size(group_size);
                    group_by->set_num_groups(num_groups);
                  }),
                  field, message);
  };
  refused("", 1, 1, "group_by.path", "an empty path");
  refused("a..b", 1, 1, "group_by.path", "an empty name");
  refused("a", 0, 1, "group_by.group_size", "1 or more");
  refused("a", 1, 0, "group_by.num_groups", "1 or more");
  refused("a", 2, 8'193, "group_by", "asks for 16386 hits; at most 16384");
  refused("a", UINT32_MAX, UINT32_MAX, "group_by", "at most 16384");
  const auto beside = [&](uint32_t k, uint32_t offset) {
    return Search([&](v1::SearchRequest* request) {
      request->mutable_query()->mutable_retrieve()->set_k(k);
      request->set_offset(offset);
      request->mutable_group_by()->set_path("a");
      request->mutable_group_by()->set_group_size(1);
      request->mutable_group_by()->set_num_groups(1);
    });
  };
  ExpectRefused(beside(5, 0), "query.retrieve.k", "leave it out");
  ExpectRefused(beside(0, 5), "offset", "ask for more groups");
  EXPECT_TRUE(beside(0, 0).ok());
}

TEST_F(BadInputTest, ExamplesThatSayNothing) {
  const auto refused =
      [&](const char* vector,
          const std::function<void(v1::Retrieve*, v1::Recommend*)>& change,
          const std::string& field, const std::string& message) {
        ExpectRefused(Retrieve([&](auto* retrieve) {
                        retrieve->set_vector(vector);
                        retrieve->clear_query();
                        change(retrieve, retrieve->mutable_recommend());
                      }),
                      "query.retrieve.recommend" + field, message);
      };
  const auto add = [](auto* examples, std::vector<float> values) {
    for (const float value : values) {
      examples->Add()->mutable_vector()->add_values(value);
    }
  };
  const auto add_one = [](auto* examples, std::vector<float> values) {
    auto* vector = examples->Add()->mutable_vector();
    for (const float value : values) vector->add_values(value);
  };
  refused("l2", [](auto*, auto*) {}, ".positive", "at least one");
  refused(
      "l2", [](auto*, auto* r) { r->add_positive(); }, ".positive[0]",
      "set id or vector");
  refused(
      "l2",
      [](auto*, auto* r) { r->add_positive()->mutable_id()->set_number(7); },
      ".positive[0].id", "is 7; the collection has no such point");
  refused(
      "l2",
      [&](auto*, auto* r) {
        add_one(r->mutable_positive(), {1, 2, 3, 4});
        r->add_negative()->mutable_id()->set_string("x");
      },
      ".negative[0].id", "is x; the collection has no such point");
  refused(
      "l2", [&](auto*, auto* r) { add(r->mutable_positive(), {1}); },
      ".positive[0].vector.values", "has 1 elements");
  refused(
      "cos",
      [&](auto*, auto* r) { add_one(r->mutable_positive(), {0, 0, 0, 0}); },
      ".positive[0].vector.values", "zero vector");
  refused(
      "cos",
      [&](auto*, auto* r) {
        add_one(r->mutable_positive(), {1, 0, 0, 0});
        add_one(r->mutable_positive(), {-2, 0, 0, 0});
      },
      "", "cancel each other out");
  refused(
      "l2",
      [&](auto*, auto* r) {
        add(r->mutable_positive(), std::vector<float>(1'025, 1));
      },
      "", "has 1025 examples; at most 1024");
  refused(
      "l2",
      [&](auto* retrieve, auto* r) {
        add_one(r->mutable_positive(), {1, 2, 3, 4});
        retrieve->mutable_query()->add_values(1);
      },
      "", "stands beside query");
}

TEST_F(BadInputTest, MmrOutsideItsLimits) {
  const auto mmr = [&](double lambda, uint32_t candidates) {
    return Rerank([&](auto* rerank) {
      rerank->mutable_mmr()->set_lambda(lambda);
      rerank->mutable_mmr()->set_candidates(candidates);
    });
  };
  for (const double lambda : {-0.1, 1.1, std::nan("")}) {
    ExpectRefused(mmr(lambda, 0), "query.rerank.mmr.lambda",
                  "give a number from 0 to 1");
  }
  ExpectRefused(mmr(0, 2'049), "query.rerank.mmr.candidates", "at most 2048");
  EXPECT_TRUE(mmr(0, 2'048).ok());
  EXPECT_TRUE(mmr(1, 0).ok());
}

TEST_F(BadInputTest, FieldsOfASearchBatch) {
  const auto refused =
      [&](const std::function<void(v1::SearchBatchRequest*)>& change) {
        v1::SearchBatchRequest request;
        request.set_collection("points");
        request.set_vector("l2");
        request.set_k(10);
        request.mutable_queries()->set_dim(4);
        request.mutable_queries()->set_data(std::string(2 * 4 * 4, '\0'));
        change(&request);
        v1::SearchBatchResponse reply;
        Call call;
        return search_->SearchBatch(&call, request, &reply);
      };
  ExpectRefused(refused([](auto* r) { r->set_k(0); }), "k", "1 to 16384");
  ExpectRefused(refused([](auto* r) { r->set_k(16'385); }), "k", "1 to 16384");
  ExpectRefused(refused([](auto* r) { r->mutable_quality()->set_ef(16'385); }),
                "quality.ef", "16384");
  ExpectRefused(refused([](auto* r) { r->set_vector("nope"); }), "vector",
                "nope");
  ExpectRefused(refused([](auto* r) { r->set_score_threshold(NAN); }),
                "score_threshold", "give a finite number");
  ExpectRefused(refused([](auto* r) { r->set_offset(16'375); }), "offset",
                "at most 16384");
  ExpectRefused(refused([](auto* r) {
                  r->mutable_queries()->set_data(
                      std::string(4'097 * 4 * sizeof(float), '\0'));
                }),
                "queries.data", "at most 4096");
  ExpectRefused(refused([](auto* r) {
                  r->mutable_queries()->set_data(
                      std::string(1'024 * 4 * sizeof(float), '\0'));
                  r->set_k(1'025);
                }),
                "k", "at most 1048576");
  ExpectRefused(
      refused([](auto* r) {
        r->mutable_queries()->set_type(static_cast<v1::ElementType>(9));
      }),
      "queries.type", "is 9");
  ExpectRefused(refused([](auto* r) { r->mutable_queries()->set_dim(3); }),
                "queries.dim", "4");
  ExpectRefused(refused([](auto* r) {
                  r->mutable_queries()->mutable_data()->replace(
                      20, 4, std::string("\0\0\xc0\x7f", 4));
                }),
                "queries.data[1][1]", "finite");
  ExpectRefused(refused([](auto* r) {
                  r->set_vector("cos");
                  r->mutable_queries()->mutable_data()->resize(4 * 4);
                }),
                "queries.data[0]", "zero vector");
}

}  // namespace
}  // namespace vicinal::testing
