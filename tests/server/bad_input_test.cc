// Every bad input gets a clear error: the right code, the path of the field,
// a message that names the limit; nothing is written and the server goes on.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
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

TEST_F(BadInputTest, NprobeForAGraph) {
  ExpectRefused(Search([&](v1::SearchRequest* request) {
                  request->mutable_query()
                      ->mutable_retrieve()
                      ->mutable_quality()
                      ->set_nprobe(4);
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

TEST_F(BadInputTest, AZeroQueryUnderCosine) {
  ExpectRefused(Search([](v1::SearchRequest* request) {
                  auto* retrieve = request->mutable_query()->mutable_retrieve();
                  retrieve->set_vector("cos");
                  for (int i = 0; i < 4; ++i) {
                    retrieve->mutable_query()->set_values(i, 0);
                  }
                }),
                "query.retrieve.query.values", "zero vector");
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
  ExpectRefused(Search([](v1::SearchRequest* request) {
                  const v1::Query leaf = request->query();
                  auto* rerank = request->mutable_query()->mutable_rerank();
                  *rerank->mutable_input() = leaf;
                  rerank->set_vector("l2");
                  *rerank->mutable_query() = leaf.retrieve().query();
                }),
                "query.rerank.k", "1 to 16384");
}

TEST_F(BadInputTest, FiltersOfEveryCallThatTakesThem) {
  const auto refuse = [&](const std::string& text, const std::string& message) {
    ExpectRefused(Search([&](v1::SearchRequest* request) {
                    request->mutable_query()
                        ->mutable_retrieve()
                        ->mutable_filter()
                        ->set_text(text);
                  }),
                  "query.retrieve.filter.text", message);
  };
  refuse("a = ", "position 5: expected a value");
  refuse("a < NULL", "write IS NULL");
  refuse(std::string(100, '('), "nested deeper than 32");
  refuse("GEO_RADIUS(p, 99, 0, 1)", "it must be -90 to 90");
  refuse("x BETWEEN 1 AND 'a'", "two values of one type");
  refuse("MATCH(body, 'x')", "MATCH needs a text field");
  ExpectRefused(
      Search([](v1::SearchRequest* request) {
        v1::Filter* filter =
            request->mutable_query()->mutable_retrieve()->mutable_filter();
        filter->set_text("a = $x");
        (*filter->mutable_parameters())["x"];
      }),
      "query.retrieve.filter.parameters[\"x\"]", "has no value");

  v1::Filter bad;
  bad.set_text("a ==");
  {
    v1::SearchBatchRequest request;
    request.set_collection("points");
    request.set_vector("l2");
    request.set_k(1);
    *request.mutable_filter() = bad;
    v1::SearchBatchResponse reply;
    Call call;
    ExpectRefused(search_->SearchBatch(&call, request, &reply), "filter.text",
                  "expected a value");
  }
  {
    v1::CountRequest request;
    request.set_collection("points");
    *request.mutable_filter() = bad;
    v1::CountResponse reply;
    Call call;
    ExpectRefused(points_->Count(&call, request, &reply), "filter.text",
                  "expected a value");
  }
  {
    v1::ScrollRequest request;
    request.set_collection("points");
    *request.mutable_filter() = bad;
    v1::ScrollResponse reply;
    Call call;
    auto pages = points_->Scroll(&call, request);
    EXPECT_FALSE(pages->Read(&reply));
    ExpectRefused(pages->Finish(), "filter.text", "expected a value");
  }
  const auto remove = [&](const v1::Filter& filter, bool with_id) {
    v1::DeleteRequest request;
    request.set_collection("points");
    *request.mutable_filter() = filter;
    if (with_id) request.mutable_ids()->add_numbers(1);
    v1::DeleteResponse reply;
    Call call;
    return points_->Delete(&call, request, &reply);
  };
  ExpectRefused(remove(bad, false), "filter.text", "expected a value");
  ExpectRefused(remove({}, false), "filter.text", "would delete all");
  v1::Filter good;
  good.set_text(" ");
  ExpectRefused(remove(good, false), "filter.text", "would delete all");
  good.set_text("TRUE");
  ExpectRefused(remove(good, true), "filter", "stands beside ids");
  good.clear_text();
  good.mutable_expression()->set_constant(true);
  ExpectRefused(remove(good, true), "filter", "stands beside ids");
  good.mutable_expression()->mutable_exists();
  ExpectRefused(remove(good, false), "filter.expression.exists.path",
                "an empty path");
  good.set_text("TRUE");
  ExpectRefused(remove(good, false), "filter", "has both text and expression");
}

// The highest filter in the highest query is within the 100 messages above one
// another that protobuf takes; what passes that is refused before it is one.
TEST_F(BadInputTest, FiltersAsHighAsTheLimitPassTheWire) {
  const auto search = [&](size_t height) {
    return Search([&](v1::SearchRequest* request) {
      v1::Query query = request->query();
      v1::FilterExpression* at =
          query.mutable_retrieve()->mutable_filter()->mutable_expression();
      for (size_t i = 1; i < height; ++i) {
        at = at->mutable_any_of()->add_operands();
      }
      at->mutable_contains_any()->set_path("n");
      at->mutable_contains_any()->add_values()->set_int_value(1);
      for (size_t i = 1; i < Limits().max_query_depth; ++i) {
        v1::Query fuse;
        fuse.mutable_fuse()->set_k(1);
        *fuse.mutable_fuse()->add_inputs() = std::move(query);
        query = std::move(fuse);
      }
      *request->mutable_query() = std::move(query);
    });
  };
  EXPECT_TRUE(search(32).ok()) << search(32).error_message();
  EXPECT_EQ(search(33).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(search(33).error_message(), HasSubstr("nested deeper than 32"));
  // gRPC's word, of calls by callbacks, for what is no message.
  EXPECT_EQ(search(200).error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_TRUE(search(32).ok()) << "after it";
}

TEST_F(BadInputTest, FieldsOfAnUpdate) {
  const auto update =
      [&](const std::function<void(v1::UpdatePayloadRequest*)>& change) {
        v1::UpdatePayloadRequest request;
        request.set_collection("points");
        request.mutable_filter()->set_text("TRUE");
        change(&request);
        v1::UpdatePayloadResponse reply;
        Call call;
        return points_->UpdatePayload(&call, request, &reply);
      };
  ExpectRefused(update([](auto*) {}), "set", "so are merge and delete_keys");
  ExpectRefused(update([](auto* r) {
                  r->set_set("{}");
                  r->add_delete_keys("key");
                }),
                "set", "stands beside merge or delete_keys");
  ExpectRefused(update([](auto* r) { r->set_set(""); }), "set",
                "is not valid JSON");
  ExpectRefused(update([](auto* r) { r->set_set("7"); }), "set",
                "is not a JSON object");
  ExpectRefused(update([](auto* r) { r->set_merge("[{}]"); }), "merge",
                "is not a JSON object");
  ExpectRefused(update([](auto* r) {
                  r->set_merge("{\"a\":\"" + std::string(1 << 20, 'x') + "\"}");
                }),
                "merge", "at most 1048576 are allowed");
  ExpectRefused(update([](auto* r) {
                  r->add_delete_keys("key");
                  r->add_delete_keys("a..b");
                }),
                "delete_keys[1]", "has an empty name");
  ExpectRefused(update([](auto* r) {
                  for (int i = 0; i < 257; ++i) r->add_delete_keys("key");
                }),
                "delete_keys", "at most 256 are allowed");
  ExpectRefused(update([](auto* r) {
                  r->set_merge("{}");
                  r->mutable_filter()->set_text("");
                }),
                "filter.text", "would change all; write TRUE");
  ExpectRefused(update([](auto* r) {
                  r->set_merge("{}");
                  r->mutable_filter()->set_text("a =");
                }),
                "filter.text", "expected a value");
  ExpectRefused(update([](auto* r) {
                  r->set_merge("{}");
                  r->mutable_ids()->add_numbers(1);
                }),
                "filter", "stands beside ids");
  ExpectRefused(update([](auto* r) {
                  r->set_merge("{}");
                  r->clear_filter();
                  r->mutable_ids()->add_strings("");
                }),
                "ids.strings[0]", "512");
}

TEST_F(BadInputTest, UpdateThatMakesAPayloadTooLarge) {
  v1::PointBatch batch = Batch(1, 2);
  batch.mutable_columns()->set_payloads(
      1, "{\"a\":\"" + std::string((1 << 20) - 10, 'x') + "\"}");
  ASSERT_TRUE(Upsert(batch).ok());
  v1::UpdatePayloadRequest request;
  request.set_collection("points");
  request.mutable_ids()->add_numbers(1);
  request.mutable_ids()->add_numbers(2);
  request.set_merge("{\"b\":1}");
  v1::UpdatePayloadResponse reply;
  Call call;
  const grpc::Status status = points_->UpdatePayload(&call, request, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(DetailsOf(status).reason, "INVALID_FIELD");
  EXPECT_THAT(DetailsOf(status).fields, ElementsAre("merge"));
  EXPECT_THAT(status.error_message(),
              HasSubstr("point 2 would have a payload of 1048580 bytes; at "
                        "most 1048576 are allowed"));
  EXPECT_EQ(Count(), 2u);
}

TEST_F(BadInputTest, ConditionsOfAnUpsert) {
  const auto upsert =
      [&](const std::function<void(v1::UpsertRequest*)>& change) {
        v1::UpsertRequest request;
        request.set_collection("points");
        *request.mutable_points() = Batch(1, 3);
        change(&request);
        v1::UpsertResponse reply;
        Call call;
        return points_->Upsert(&call, request, &reply);
      };
  ExpectRefused(upsert([](auto* r) {
                  r->set_condition(static_cast<v1::UpsertCondition>(9));
                }),
                "condition", "is 9");
  ExpectRefused(upsert([](auto* r) { r->add_expected_sequences(0); }),
                "expected_sequences",
                "has 1 elements; give one for each of the 3 points");
  ExpectRefused(upsert([](auto* r) {
                  for (int i = 0; i < 3; ++i) r->add_expected_sequences(0);
                  r->set_condition(v1::UPSERT_CONDITION_MUST_NOT_EXIST);
                }),
                "expected_sequences", "stands beside condition");
  ExpectRefused(
      upsert([](auto* r) {
        r->mutable_points()->mutable_columns()->mutable_ids()->set_numbers(2,
                                                                           1);
        r->set_condition(v1::UPSERT_CONDITION_MUST_NOT_EXIST);
      }),
      "points.columns.ids[2]", "(1) stands twice");
}

TEST_F(BadInputTest, UnknownElementTypes) {
  const auto unknown = static_cast<v1::ElementType>(5);
  v1::PointBatch batch = Batch(1, 1);
  batch.mutable_columns()->mutable_vectors(0)->set_type(unknown);
  ExpectRefused(Upsert(batch), "points.columns.vectors[0].type", "is 5");
  ExpectRefused(
      Search([&](v1::SearchRequest* request) {
        request->mutable_query()->mutable_retrieve()->mutable_query()->set_type(
            unknown);
      }),
      "query.retrieve.query.type", "is 5");
}

TEST_F(BadInputTest, IdsInTheWrongForm) {
  const auto refused = [&](const std::function<void(v1::PointIds*)>& change,
                           const std::string& field, const char* message) {
    v1::PointBatch batch = Batch(1, 1);
    auto* ids = batch.mutable_columns()->mutable_ids();
    ids->clear_numbers();
    change(ids);
    ExpectRefused(Upsert(batch), "points.columns." + field, message);
    v1::GetRequest request;
    request.set_collection("points");
    *request.mutable_ids() = *ids;
    v1::GetResponse reply;
    Call call;
    ExpectRefused(points_->Get(&call, request, &reply), field, message);
  };
  refused([](v1::PointIds* ids) { ids->set_uuids(std::string(15, 'x')); },
          "ids.uuids", "takes 16");
  refused(
      [](v1::PointIds* ids) {
        ids->add_numbers(1);
        ids->add_strings("a");
      },
      "ids", "several columns");
  refused([](v1::PointIds* ids) { ids->add_ids()->set_uuid("6ba7b810"); },
          "ids.ids[0].uuid", "8-4-4-4-12");
  refused([](v1::PointIds* ids) { ids->add_ids(); }, "ids.ids[0]", "is empty");
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

TEST_F(BadInputTest, APageLargerThanItMayBe) {
  v1::ScrollRequest request;
  request.set_collection("points");
  request.set_page_size(10'001);
  Call call;
  ExpectRefused(points_->Scroll(&call, request)->Finish(), "page_size",
                "at most 10000");
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

TEST_F(BadInputTest, ScoreThresholdsThatAreNoNumbers) {
  for (const float threshold : {std::nanf(""), INFINITY, -INFINITY}) {
    ExpectRefused(
        Search([&](v1::SearchRequest* request) {
          request->mutable_query()->mutable_retrieve()->set_score_threshold(
              threshold);
        }),
        "query.retrieve.score_threshold", "give a finite number");
    ExpectRefused(Search([&](v1::SearchRequest* request) {
                    v1::Query input = request->query();
                    auto* rerank = request->mutable_query()->mutable_rerank();
                    rerank->set_vector("l2");
                    rerank->set_k(1);
                    *rerank->mutable_query() = input.retrieve().query();
                    rerank->mutable_input()->Swap(&input);
                    rerank->set_score_threshold(threshold);
                  }),
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
        ExpectRefused(Search([&](v1::SearchRequest* request) {
                        auto* retrieve =
                            request->mutable_query()->mutable_retrieve();
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
    return Search([&](v1::SearchRequest* request) {
      v1::Query input = request->query();
      auto* rerank = request->mutable_query()->mutable_rerank();
      rerank->set_vector("l2");
      rerank->set_k(1);
      *rerank->mutable_query() = input.retrieve().query();
      rerank->mutable_input()->Swap(&input);
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

TEST_F(BadInputTest, MorePointsThanABatchMayHave) {
  v1::PointBatch columns;
  v1::PointBatch rows;
  for (uint64_t i = 0; i < 65'537; ++i) {
    columns.mutable_columns()->mutable_ids()->add_numbers(i);
    rows.add_rows()->mutable_id()->set_number(i);
  }
  ExpectRefused(Upsert(columns), "points.columns.ids", "at most 65536");
  ExpectRefused(Upsert(rows), "points.rows", "at most 65536");
}

TEST_F(BadInputTest, BadIdsOfEveryCallThatTakesThem) {
  for (const size_t size : {size_t{0}, size_t{513}}) {
    const std::string id(size, 'x');
    {
      v1::GetRequest request;
      request.set_collection("points");
      request.mutable_ids()->add_strings(id);
      v1::GetResponse reply;
      Call call;
      ExpectRefused(points_->Get(&call, request, &reply), "ids.strings[0]",
                    "512");
    }
    {
      v1::DeleteRequest request;
      request.set_collection("points");
      request.mutable_ids()->add_strings(id);
      v1::DeleteResponse reply;
      Call call;
      ExpectRefused(points_->Delete(&call, request, &reply), "ids.strings[0]",
                    "512");
    }
    {
      v1::ScrollRequest request;
      request.set_collection("points");
      request.mutable_after()->set_string(id);
      Call call;
      auto reader = points_->Scroll(&call, request);
      v1::ScrollResponse page;
      EXPECT_FALSE(reader->Read(&page));
      ExpectRefused(reader->Finish(), "after.string", "512");
    }
  }
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

TEST_F(BadInputTest, GarbageInsteadOfAMessage) {
  v1::UpsertRequest whole;
  whole.set_collection("points");
  *whole.mutable_points() = Batch(1, 100);
  const std::string bytes = whole.SerializeAsString();
  for (const std::string& bad : {std::string("\xff\xff\xff\xff garbage"),
                                 bytes.substr(0, bytes.size() / 2)}) {
    grpc::GenericStub stub(channel_);
    grpc::CompletionQueue queue;
    Call call;
    const grpc::Slice slice(bad);
    const grpc::ByteBuffer request(&slice, 1);
    auto reader = stub.PrepareUnaryCall(
        &call, "/vicinal.v1.PointService/Upsert", request, &queue);
    reader->StartCall();
    grpc::ByteBuffer reply;
    grpc::Status status;
    int tag = 0;
    reader->Finish(&reply, &status, &tag);
    void* got = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&got, &ok));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL)
        << status.error_message();
    EXPECT_EQ(Count(), 0u);
    queue.Shutdown();
  }
}

// HTTP/2 by hand, as a client whose connection breaks sends it.
class RawConnection {
 public:
  explicit RawConnection(int port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address),
                      sizeof(address)),
              0);
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    SendFrame(kSettings, 0, 0, "");
  }
  ~RawConnection() { close(socket_); }
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  // Opens a call of `path` and sends `body`; the last one when `end`.
  void Call(const std::string& path, const std::string& body, bool end) {
    std::string headers;
    for (const auto& [name, value] :
         {std::pair<std::string, std::string>{":method", "POST"},
          {":scheme", "http"},
          {":path", path},
          {":authority", "localhost"},
          {"te", "trailers"},
          {"content-type", "application/grpc"}}) {
      headers += '\0';  // literal, not indexed, name follows
      headers += static_cast<char>(name.size()) + name;
      headers += static_cast<char>(value.size()) + value;
    }
    SendFrame(kHeaders, kEndHeaders, 1, headers);
    SendFrame(kData, end ? kEndStream : 0, 1, body);
  }
  // Until the server has ended stream 1 or the connection; what it sent.
  std::string ReadToTheEnd() {
    std::string all;
    while (true) {
      const std::string head = Read(9);
      if (head.size() < 9) return all;
      const size_t size = static_cast<size_t>(
          (Byte(head[0]) << 16) | (Byte(head[1]) << 8) | Byte(head[2]));
      const int type = Byte(head[3]);
      const int flags = Byte(head[4]);
      const std::string body = Read(size);
      all += body;
      if (Byte(head[8]) != 1) continue;
      if (type == kData) messages_ += body;
      if (type == kReset || (flags & kEndStream) != 0) return all;
    }
  }

  // Those of the server that came until then, as they travel.
  const std::string& messages() const { return messages_; }

 private:
  static constexpr int kData = 0;
  static constexpr int kHeaders = 1;
  static constexpr int kReset = 3;
  static constexpr int kSettings = 4;
  static constexpr int kEndStream = 1;
  static constexpr int kEndHeaders = 4;

  static int Byte(char c) { return static_cast<unsigned char>(c); }
  void Send(const std::string& bytes) {
    EXPECT_EQ(send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void SendFrame(int type, int flags, int stream, const std::string& body) {
    std::string frame;
    for (const size_t byte :
         {body.size() >> 16, body.size() >> 8, body.size(),
          static_cast<size_t>(type), static_cast<size_t>(flags)}) {
      frame += static_cast<char>(byte & 0xFF);
    }
    frame += std::string(3, '\0') + static_cast<char>(stream);
    Send(frame + body);
  }
  std::string Read(size_t size) {
    std::string bytes(size, '\0');
    const ssize_t got = recv(socket_, bytes.data(), size, MSG_WAITALL);
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return bytes;
  }

  const int socket_;
  std::string messages_;
};

// Whether trailers, as the server writes them, say OK.
bool SaysOk(const std::string& reply) {
  return absl::StrContains(reply, std::string("grpc-status\x01") + "0");
}

TEST_F(BadInputTest, HalfAFrame) {
  v1::UpsertRequest upsert;
  upsert.set_collection("points");
  *upsert.mutable_points() = Batch(1, 10);
  v1::WriteRequest start;
  start.mutable_start()->set_collection("points");
  const auto message = [](const std::string& body) {
    std::string head(5, '\0');  // not compressed, 4 bytes of length
    head[3] = static_cast<char>(body.size() >> 8);
    head[4] = static_cast<char>(body.size());
    return head + body;
  };
  const std::string whole = message(upsert.SerializeAsString());
  RawConnection sound(server_->port());
  sound.Call("/vicinal.v1.PointService/Write",
             message(start.SerializeAsString()), true);
  EXPECT_TRUE(SaysOk(sound.ReadToTheEnd())) << "what a whole one looks like";
  EXPECT_FALSE(sound.messages().empty()) << "`started`";
  for (const size_t cut : {size_t{3}, size_t{5}, whole.size() / 2}) {
    const std::string half = whole.substr(0, cut);
    // The client says that this was all: it is told so.
    RawConnection ended(server_->port());
    ended.Call("/vicinal.v1.PointService/Upsert", half, true);
    EXPECT_FALSE(SaysOk(ended.ReadToTheEnd())) << cut;
    RawConnection stream(server_->port());
    stream.Call("/vicinal.v1.PointService/Write",
                message(start.SerializeAsString()) + half, true);
    // On a stream gRPC takes the half for the end: what came before it is
    // answered, and the call ends as if the half had not been sent. Only acks
    // say what was written.
    EXPECT_TRUE(SaysOk(stream.ReadToTheEnd())) << cut;
    EXPECT_EQ(stream.messages(), sound.messages()) << "no ack, " << cut;
    // The connection breaks.
    RawConnection(server_->port())
        .Call("/vicinal.v1.PointService/Upsert", half, false);
    RawConnection(server_->port())
        .Call("/vicinal.v1.PointService/Write",
              message(start.SerializeAsString()) + half, false);
  }
  EXPECT_EQ(Count(), 0u);
  EXPECT_TRUE(Upsert(Batch(1, 10)).ok()) << "it still serves";
  EXPECT_EQ(Count(), 10u);
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
