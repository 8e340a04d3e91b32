#include "src/engine/schema.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/clock.h"
#include "src/engine/operations.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> ViolatedFields(const CollectionSchema& schema) {
  std::vector<std::string> fields;
  for (const FieldViolation& violation : ValidateSchema(schema, Limits{})) {
    fields.push_back(violation.field);
  }
  return fields;
}

TEST(SchemaTest, ComesBackFromItsEncoding) {
  CollectionSchema schema =
      SchemaOf("a.b-c_9", 77, Metric::kCosine, ElementType::kFloat16);
  schema.uuid = "u";
  schema.created_unix_micros = -5;
  schema.vectors.push_back(schema.vectors[0]);
  schema.vectors[1].name = "second";
  schema.vectors[1].index = IndexKind::kFlat;
  schema.vectors[1].hnsw.seed = 1234;
  const std::string encoded = schema.Encode();
  const auto decoded = CollectionSchema::Decode(encoded);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->Encode(), encoded);
  EXPECT_EQ(decoded->vectors[1].hnsw.seed, 1234u);
  for (size_t size = 0; size < encoded.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(
        CollectionSchema::Decode(encoded.substr(0, size)).status()))
        << size;
  }
  std::string newer = encoded;
  newer[0] = 10;
  EXPECT_TRUE(
      absl::IsFailedPrecondition(CollectionSchema::Decode(newer).status()));
}

TEST(SchemaTest, KeepsCodecsInFormatTwo) {
  CollectionSchema schema = SchemaOf("fine", 77, Metric::kL2);
  EXPECT_EQ(schema.Encode()[0], 1);  // older versions read it
  schema.vectors[0].codec = {CodecSpec::Kind::kSaq, 1.5f};
  const std::string encoded = schema.Encode();
  EXPECT_EQ(encoded[0], 2);
  const auto decoded = CollectionSchema::Decode(encoded);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->vectors[0].codec, schema.vectors[0].codec);
  for (size_t size = 0; size < encoded.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(
        CollectionSchema::Decode(encoded.substr(0, size)).status()))
        << size;
  }
}

TEST(SchemaTest, KeepsListsInFormatThree) {
  CollectionSchema schema = SchemaOf("fine", 77, Metric::kL2);
  schema.vectors[0].index = IndexKind::kIvf;
  schema.vectors[0].ivf = {.num_lists = 300, .seed = 7};
  const std::string encoded = schema.Encode();
  EXPECT_EQ(encoded[0], 3);
  const auto decoded = CollectionSchema::Decode(encoded);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->vectors[0].index, IndexKind::kIvf);
  EXPECT_EQ(decoded->vectors[0].ivf.num_lists, 300u);
  EXPECT_EQ(decoded->vectors[0].ivf.seed, 7u);
  for (size_t size = 0; size < encoded.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(
        CollectionSchema::Decode(encoded.substr(0, size)).status()))
        << size;
  }
  // An older format knows no such index.
  std::string older = encoded;
  older[0] = 2;
  EXPECT_TRUE(absl::IsDataLoss(CollectionSchema::Decode(older).status()));
  schema.vectors[0].ivf.num_lists = kMaxIvfLists + 1;
  const auto violations = ValidateSchema(schema, Limits());
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "vectors[0].index.ivf.num_lists");
}

TEST(SchemaTest, KeepsMemoryInFormatFour) {
  CollectionSchema schema = SchemaOf("fine", 77, Metric::kL2);
  schema.vectors[0].ivf.num_lists = 5;
  schema.memory = {MemoryTier::kPinned, 123'456};
  const std::string encoded = schema.Encode();
  EXPECT_EQ(encoded[0], 4);
  const auto decoded = CollectionSchema::Decode(encoded);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->memory, schema.memory);
  EXPECT_EQ(decoded->vectors[0].ivf.num_lists, 5u);
  for (size_t size = 0; size < encoded.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(
        CollectionSchema::Decode(encoded.substr(0, size)).status()))
        << size;
  }
  std::string unknown = encoded;
  unknown[unknown.size() - 9] = 3;
  EXPECT_TRUE(absl::IsDataLoss(CollectionSchema::Decode(unknown).status()));
  schema.memory = {};
  schema.vectors[0].index = IndexKind::kAuto;
  EXPECT_EQ(schema.Encode()[0], 4);
  EXPECT_EQ(CollectionSchema::Decode(schema.Encode())->vectors[0].index,
            IndexKind::kAuto);
  schema.memory.tier = static_cast<MemoryTier>(3);
  EXPECT_THAT(ViolatedFields(schema), ElementsAre("memory.tier"));
}

TEST(SchemaTest, KeepsTheUseOfAGpuInFormatNine) {
  CollectionSchema schema = SchemaOf("fine", 77, Metric::kL2);
  schema.memory.budget_bytes = 5;
  EXPECT_EQ(schema.Encode()[0], 4);  // older versions read the default
  for (const GpuUse gpu : {GpuUse::kNever, GpuUse::kRequire}) {
    schema.gpu = gpu;
    const std::string encoded = schema.Encode();
    EXPECT_EQ(encoded[0], 9);
    const auto decoded = CollectionSchema::Decode(encoded);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(decoded->gpu, gpu);
    EXPECT_EQ(decoded->memory, schema.memory);
    EXPECT_EQ(decoded->Encode(), encoded);
    for (size_t size = 0; size < encoded.size(); ++size) {
      EXPECT_TRUE(absl::IsDataLoss(
          CollectionSchema::Decode(encoded.substr(0, size)).status()))
          << size;
    }
    std::string unknown = encoded;
    unknown.back() = 3;
    EXPECT_TRUE(absl::IsDataLoss(CollectionSchema::Decode(unknown).status()));
  }
  schema.gpu = static_cast<GpuUse>(3);
  EXPECT_THAT(ViolatedFields(schema), ElementsAre("gpu"));
}

TEST(SchemaTest, KeepsPayloadFieldsInFormatFive) {
  CollectionSchema schema = SchemaOf("fine", 77, Metric::kL2);
  schema.payload_fields = {{"price", PayloadType::kFloat64},
                           {"maker.country", PayloadType::kKeyword}};
  schema.memory.budget_bytes = 12'345;
  schema.vectors[0].codec = {CodecSpec::Kind::kSaq, 1.5f};
  for (const bool only : {false, true}) {
    schema.indexed_filters_only = only;
    const std::string encoded = schema.Encode();
    EXPECT_EQ(encoded[0], 5);
    const auto decoded = CollectionSchema::Decode(encoded);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(decoded->payload_fields, schema.payload_fields);
    EXPECT_EQ(decoded->indexed_filters_only, only);
    EXPECT_EQ(decoded->memory, schema.memory);
    EXPECT_EQ(decoded->vectors[0].codec, schema.vectors[0].codec);
    for (size_t size = 0; size < encoded.size(); ++size) {
      EXPECT_TRUE(absl::IsDataLoss(
          CollectionSchema::Decode(encoded.substr(0, size)).status()))
          << size;
    }
  }
  std::string unknown = schema.Encode();
  unknown.back() = 99;  // the type of the last field
  EXPECT_TRUE(absl::IsDataLoss(CollectionSchema::Decode(unknown).status()));
}

TEST(SchemaTest, SaysWhatIsWrongWithACodec) {
  using Kind = CodecSpec::Kind;
  CollectionSchema schema = SchemaOf("fine", 77, Metric::kL2);
  for (const CodecSpec fine : {CodecSpec{Kind::kSaq, 0.5f},
                               {Kind::kSaq, 8},
                               {Kind::kAuto, 3},
                               {Kind::kRbq, 4},
                               {Kind::kRbq, 0},
                               {Kind::kSq8, 0},
                               {Kind::kNone, 0}}) {
    schema.vectors[0].codec = fine;
    EXPECT_THAT(ViolatedFields(schema), IsEmpty()) << fine.avg_bits;
  }
  for (const CodecSpec wrong : {CodecSpec{Kind::kSaq, 0.4f},
                                {Kind::kSaq, 8.5f},
                                {Kind::kSaq, NAN},
                                {Kind::kRbq, 3},
                                {Kind::kSq8, 8},
                                {Kind::kNone, 1}}) {
    schema.vectors[0].codec = wrong;
    EXPECT_THAT(ViolatedFields(schema),
                ElementsAre("vectors[0].codec.avg_bits"))
        << wrong.avg_bits;
  }
  schema.vectors[0].codec = {static_cast<Kind>(9), 0};
  EXPECT_THAT(ViolatedFields(schema), ElementsAre("vectors[0].codec.kind"));
  schema.vectors[0].codec = {Kind::kSaq, 2};
  schema.vectors[0].dim = 5000;
  EXPECT_THAT(ViolatedFields(schema), ElementsAre("vectors[0].codec.kind"));
}

TEST(SchemaTest, SaysEverythingThatIsWrong) {
  EXPECT_THAT(ViolatedFields(SchemaOf("fine", 2, Metric::kL2)), IsEmpty());
  EXPECT_THAT(ViolatedFields(SchemaOf("", 2, Metric::kL2)),
              ElementsAre("name"));
  EXPECT_THAT(ViolatedFields(SchemaOf("a b", 2, Metric::kL2)),
              ElementsAre("name"));
  EXPECT_THAT(ViolatedFields(SchemaOf(".hidden", 2, Metric::kL2)),
              ElementsAre("name"));
  EXPECT_THAT(ViolatedFields(SchemaOf(std::string(129, 'a'), 2, Metric::kL2)),
              ElementsAre("name"));
  CollectionSchema schema = SchemaOf("fine", 0, static_cast<Metric>(9));
  schema.vectors[0].hnsw.m = 3;
  schema.vectors[0].hnsw.ef_construction = 9'999;
  EXPECT_THAT(ViolatedFields(schema),
              ElementsAre("vectors[0].dim", "vectors[0].metric",
                          "vectors[0].index.hnsw.m",
                          "vectors[0].index.hnsw.ef_construction"));
  schema = SchemaOf("fine", 2, Metric::kL2);
  schema.vectors.push_back(schema.vectors[0]);
  EXPECT_THAT(ViolatedFields(schema), ElementsAre("vectors[1].name"));
  schema.vectors.clear();
  EXPECT_THAT(ViolatedFields(schema), ElementsAre("vectors"));
}

TEST(OperationRegistryTest, KeepsRunningOnesAndTheLastThousand) {
  OperationRegistry registry(Clock::Real());
  const auto running = registry.Start("optimize", "c");
  for (int i = 0; i < 1'500; ++i) {
    registry.Start("index_build", i % 2 == 0 ? "c" : "d")
        ->Finish(absl::OkStatus());
  }
  EXPECT_TRUE(registry.Find(running->info().name).ok());
  EXPECT_TRUE(absl::IsNotFound(registry.Find("operations/2").status()));
  EXPECT_EQ(registry.List("").size(), 1'000u);
  EXPECT_EQ(registry.List("").front().name, "operations/1501");
  EXPECT_FALSE(running->Wait(std::chrono::steady_clock::now()));
  running->Finish(absl::InternalError("x"));
  running->Finish(absl::OkStatus());
  EXPECT_TRUE(absl::IsInternal(running->info().status)) << "the first counts";
}

}  // namespace
}  // namespace vicinal
