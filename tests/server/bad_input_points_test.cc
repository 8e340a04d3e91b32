// Bad points, ids and payloads, and what calls about points refuse.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/bad_input_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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
  ExpectRefused(Retrieve([](auto* retrieve) { retrieve->set_vector("nope"); }),
                "query.retrieve.vector", "nope");
}

TEST_F(BadInputTest, UnknownElementTypes) {
  for (const auto& [type, message] :
       {std::pair(static_cast<v1::ElementType>(6), "is 6"),
        std::pair(v1::ELEMENT_TYPE_BFLOAT16,
                  "which only multi-vectors have")}) {
    v1::PointBatch batch = Batch(1, 1);
    batch.mutable_columns()->mutable_vectors(0)->set_type(type);
    ExpectRefused(Upsert(batch), "points.columns.vectors[0].type", message);
    ExpectRefused(Retrieve([&](auto* retrieve) {
                    retrieve->mutable_query()->set_type(type);
                  }),
                  "query.retrieve.query.type", message);
  }
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

TEST_F(BadInputTest, APageLargerThanItMayBe) {
  v1::ScrollRequest request;
  request.set_collection("points");
  request.set_page_size(10'001);
  Call call;
  ExpectRefused(points_->Scroll(&call, request)->Finish(), "page_size",
                "at most 10000");
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

}  // namespace
}  // namespace vicinal::testing
