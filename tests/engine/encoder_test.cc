// What a write is refused for, and in which words.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/half.h"
#include "src/engine/layout.h"
#include "src/engine/write_batch_encoder.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class EncoderTest : public ::testing::Test {
 protected:
  // A batch of as many ids as `vectors` holds rows of the schema's field.
  PointBatch BatchOf(absl::string_view vectors, size_t num_points,
                     ElementType type = ElementType::kFloat32) {
    PointBatch batch;
    for (size_t i = 0; i < num_points; ++i) batch.ids.emplace_back(i);
    batch.vectors.push_back({"v", schema_.vectors[0].dim, type, vectors, {}});
    return batch;
  }
  EncodeOutcome Encode(const PointBatch& batch, bool atomic = true) {
    out_ = {};
    return EncodeBatch(schema_, LayoutOf(schema_), limits_, batch, atomic,
                       &out_);
  }
  // Expects the batch to be refused at `field` with `words` in the message.
  void ExpectRefused(const PointBatch& batch, absl::string_view field,
                     absl::string_view words) {
    const EncodeOutcome outcome = Encode(batch);
    EXPECT_TRUE(absl::IsInvalidArgument(outcome.status)) << outcome.status;
    ASSERT_FALSE(outcome.item_errors.empty());
    EXPECT_EQ(outcome.item_errors[0].field, std::string(field));
    EXPECT_THAT(std::string(outcome.item_errors[0].status.message()),
                HasSubstr(std::string(words)));
  }
  void UseField(Metric metric, ElementType type) {
    schema_ = SchemaOf("c", 2, metric, type);
  }

  CollectionSchema schema_ = SchemaOf("c", 2, Metric::kL2);
  Limits limits_;
  EncodedBatch out_;
  const float nan_ = std::numeric_limits<float>::quiet_NaN();
  const float inf_ = std::numeric_limits<float>::infinity();
};

TEST_F(EncoderTest, RefusesAnUnknownVectorName) {
  const std::string data = Bytes({1, 2});
  PointBatch batch = BatchOf(data, 1);
  batch.vectors[0].name = "x";
  ExpectRefused(batch, "vectors[0].name", "it has \"v\"");
}

TEST_F(EncoderTest, RefusesAVectorNameThatStandsTwice) {
  const std::string data = Bytes({1, 2});
  PointBatch batch = BatchOf(data, 1);
  batch.vectors.push_back(batch.vectors[0]);
  ExpectRefused(batch, "vectors[1].name", "stands twice");
}

TEST_F(EncoderTest, RefusesAnotherDimension) {
  const std::string data = Bytes({1, 2, 3});
  PointBatch batch = BatchOf(data, 1);
  batch.vectors[0].dim = 3;
  ExpectRefused(batch, "vectors[0].dim", "is 3");
}

TEST_F(EncoderTest, RefusesAColumnOfTheWrongLength) {
  const std::string data = Bytes({1, 2, 3});
  ExpectRefused(BatchOf(data, 2), "vectors[0].data", "has 12 bytes");
}

TEST_F(EncoderTest, RefusesAPresentListThatIsNotAscendingOrTooFar) {
  const std::string data = Bytes({1, 2, 3, 4});
  PointBatch batch = BatchOf(data, 3);
  batch.vectors[0].present = {1, 1};
  ExpectRefused(batch, "vectors[0].present[1]", "must ascend");
  batch.vectors[0].present = {1, 3};
  ExpectRefused(batch, "vectors[0].present[1]", "the batch has 3 points");
}

TEST_F(EncoderTest, RefusesPointsWithoutAnyVector) {
  const std::string data = Bytes({1, 2});
  PointBatch batch = BatchOf(data, 2);
  batch.vectors[0].present = {0};
  ExpectRefused(batch, "ids[1]", "has no vector");
}

TEST_F(EncoderTest, RefusesNanAndInfinityWithTheirPlace) {
  const std::string data = Bytes({1, 2, 3, nan_, inf_, 0});
  ExpectRefused(BatchOf(data, 3), "vectors[0].data[1][1]", "is NaN");
  const EncodeOutcome outcome = Encode(BatchOf(data, 3));
  ASSERT_EQ(outcome.item_errors.size(), 2u);
  EXPECT_EQ(outcome.item_errors[1].index, 2u);
  EXPECT_EQ(outcome.item_errors[1].field, "vectors[0].data[2][0]");
}

TEST_F(EncoderTest, PlacesOfSparseColumnsNameTheRowAndThePoint) {
  const std::string data = Bytes({1, nan_});
  PointBatch batch = BatchOf(data, 1);
  batch.ids.emplace_back(9);
  schema_.vectors.push_back(schema_.vectors[0]);
  schema_.vectors[1].name = "w";
  const std::string full = Bytes({1, 2, 3, 4});
  batch.vectors[0].present = {1};
  batch.vectors.push_back({"w", 2, ElementType::kFloat32, full, {}});
  const EncodeOutcome outcome = Encode(batch);
  ASSERT_EQ(outcome.item_errors.size(), 1u);
  EXPECT_EQ(outcome.item_errors[0].index, 1u);
  EXPECT_EQ(outcome.item_errors[0].field, "vectors[0].data[0][1]");
}

TEST_F(EncoderTest, RefusesZeroVectorsUnderCosineOnly) {
  for (const ElementType type : {ElementType::kFloat32, ElementType::kFloat16,
                                 ElementType::kInt8, ElementType::kUint8}) {
    const std::string zeros = Bytes({0, -0.0f});
    UseField(Metric::kCosine, type);
    ExpectRefused(BatchOf(zeros, 1), "vectors[0].data[0]", "zero vector");
    UseField(Metric::kL2, type);
    EXPECT_TRUE(Encode(BatchOf(zeros, 1)).status.ok());
  }
}

TEST_F(EncoderTest, ConvertsWhatTheFieldCanHold) {
  UseField(Metric::kL2, ElementType::kInt8);
  const std::string whole = Bytes({-128, 127});
  ASSERT_TRUE(Encode(BatchOf(whole, 1)).status.ok());
  const auto* stored = reinterpret_cast<const int8_t*>(out_.vector(0, 0));
  EXPECT_EQ(stored[0], -128);
  EXPECT_EQ(stored[1], 127);
  UseField(Metric::kL2, ElementType::kFloat16);
  const std::string thirds = Bytes({1.0f / 3, 65504});
  ASSERT_TRUE(Encode(BatchOf(thirds, 1)).status.ok());
  const auto* halves = reinterpret_cast<const uint16_t*>(out_.vector(0, 0));
  EXPECT_EQ(halves[0], FloatToHalf(1.0f / 3));
  UseField(Metric::kL2, ElementType::kFloat32);
  const std::string bytes = {1, static_cast<char>(200)};
  ASSERT_TRUE(Encode(BatchOf(bytes, 1, ElementType::kUint8)).status.ok());
  EXPECT_EQ(reinterpret_cast<const float*>(out_.vector(0, 0))[1], 200);
}

TEST_F(EncoderTest, RefusesWhatTheFieldCannotHold) {
  UseField(Metric::kL2, ElementType::kInt8);
  const std::string fraction = Bytes({1.5f, 0});
  ExpectRefused(BatchOf(fraction, 1), "vectors[0].data[0][0]", "is 1.5");
  const std::string large = Bytes({0, 128});
  ExpectRefused(BatchOf(large, 1), "vectors[0].data[0][1]", "-128 to 127");
  const std::string not_a_number = Bytes({nan_, 0});
  ExpectRefused(BatchOf(not_a_number, 1), "vectors[0].data[0][0]", "NaN");
  UseField(Metric::kL2, ElementType::kUint8);
  const std::string negative = Bytes({0, -1});
  ExpectRefused(BatchOf(negative, 1), "vectors[0].data[0][1]", "0 to 255");
  UseField(Metric::kL2, ElementType::kFloat16);
  const std::string huge = Bytes({70'000, 0});
  ExpectRefused(BatchOf(huge, 1), "vectors[0].data[0][0]", "65504");
}

TEST_F(EncoderTest, KeepsUnitVectorsBesideWhatWasSent) {
  UseField(Metric::kCosine, ElementType::kFloat32);
  const std::string data = Bytes({3, 4});
  ASSERT_TRUE(Encode(BatchOf(data, 1)).status.ok());
  const auto* unit = reinterpret_cast<const float*>(out_.vector(0, 0));
  EXPECT_FLOAT_EQ(unit[0], 0.6f);
  EXPECT_FLOAT_EQ(unit[1], 0.8f);
  EXPECT_THAT(std::string(out_.body(0)), HasSubstr(data));
}

TEST_F(EncoderTest, TakesMisalignedColumns) {
  const std::string data = "x" + Bytes({1, 2});
  ASSERT_TRUE(
      Encode(BatchOf(absl::string_view(data).substr(1), 1)).status.ok());
}

TEST_F(EncoderTest, RefusesPayloadsThatAreNoSmallObjects) {
  const auto refuse = [&](const std::string& payload) {
    return std::string(ValidatePayload(payload, limits_).message());
  };
  EXPECT_EQ(refuse(R"({"a":[1,{"b":null}],"c":"\u00e9"})"), "");
  EXPECT_THAT(refuse("[1]"), HasSubstr("not a JSON object"));
  EXPECT_THAT(refuse("7"), HasSubstr("not a JSON object"));
  EXPECT_THAT(refuse("{\"a\":"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refuse("{\"a\":\"\xff\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refuse("{} {}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refuse(std::string("{}\0x", 4)),
              HasSubstr("not valid JSON at byte 3"));
  EXPECT_THAT(refuse("\xEF\xBB\xBF{}"), HasSubstr("not valid JSON at byte 1"));
  std::string deep;
  for (size_t i = 0; i < limits_.max_payload_depth; ++i) deep += "{\"a\":";
  EXPECT_THAT(refuse(deep + "{}"), HasSubstr("nests deeper than 64"));
  const std::string large =
      "{\"a\":\"" + std::string(limits_.max_payload_bytes, 'x') + "\"}";
  EXPECT_THAT(refuse(large), HasSubstr("at most 1048576"));
  const std::string data = Bytes({1, 2, 3, 4});
  PointBatch batch = BatchOf(data, 2);
  batch.payloads = {"{}", "[]"};
  ExpectRefused(batch, "payloads[1]", "not a JSON object");
  batch.payloads = {"{}"};
  ExpectRefused(batch, "payloads", "one for each of the 2 ids");
}

TEST_F(EncoderTest, RefusesTooManyPointsAndTooLongIds) {
  limits_.max_batch_points = 1;
  const std::string data = Bytes({1, 2, 3, 4});
  ExpectRefused(BatchOf(data, 2), "ids", "has 2 points");
  limits_.max_batch_points = 2;
  limits_.max_id_bytes = 3;
  PointBatch batch = BatchOf(data, 2);
  batch.ids[1] = *PointId::FromString("long");
  ExpectRefused(batch, "ids[1]", "has 4 bytes");
}

TEST_F(EncoderTest, WithoutAtomicTheGoodItemsGoOn) {
  const std::string data = Bytes({1, 2, nan_, 4, 5, 6});
  const EncodeOutcome outcome = Encode(BatchOf(data, 3), false);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_EQ(outcome.item_errors.size(), 1u);
  EXPECT_EQ(outcome.item_errors[0].index, 1u);
  EXPECT_THAT(out_.ids, ElementsAre(PointId(0), PointId(2)));
}

TEST_F(EncoderTest, ABadLaterDuplicateLeavesTheEarlierOne) {
  const std::string data = Bytes({1, 2, nan_, 4});
  PointBatch batch = BatchOf(data, 2);
  batch.ids[1] = batch.ids[0];
  EXPECT_TRUE(Encode(batch, false).status.ok());
  ASSERT_EQ(out_.size(), 1u);
  EXPECT_EQ(reinterpret_cast<const float*>(out_.vector(0, 0))[0], 1);
}

}  // namespace
}  // namespace vicinal
