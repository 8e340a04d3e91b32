// Multi-vectors of schemas.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/engine/memory_plan.h"
#include "src/engine/schema.h"
#include "tests/engine/engine_testing.h"
#include "tests/engine/multi_testing.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(MultiSchemaTest, ComesBackFromItsEncoding) {
  CollectionSchema schema = MultiSchema(
      {Metric::kCosine, ElementType::kBfloat16, TokenCodecKind::kInt2});
  EXPECT_THAT(ValidateSchema(schema, Limits()), IsEmpty());
  MultiVectorField& field = schema.multi[1];
  field.encoder.kind = MultiEncoderParams::Kind::kMuvera;
  field.encoder.seed = 77;
  field.encoder.muvera = PaperMuveraParams();
  field.encoder.ols.features = 128;
  field.avg_bits = 4;
  const std::string encoded = schema.Encode();
  EXPECT_EQ(encoded[0], 8);
  const auto decoded = CollectionSchema::Decode(encoded);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->Encode(), encoded);
  ASSERT_EQ(decoded->multi.size(), 2u);
  EXPECT_EQ(decoded->multi[0].type, ElementType::kBfloat16);
  EXPECT_EQ(decoded->multi[0].token_codec, TokenCodecKind::kInt2);
  EXPECT_EQ(decoded->multi[0].max_tokens, 40u);
  EXPECT_FALSE(decoded->multi[0].allow_empty);
  EXPECT_TRUE(decoded->multi[1].allow_empty);
  EXPECT_EQ(decoded->multi[1].encoder, field.encoder);
  EXPECT_EQ(decoded->multi[1].avg_bits, 4);
  for (size_t size = 0; size < encoded.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(
        CollectionSchema::Decode(encoded.substr(0, size)).status()))
        << size;
  }
  // Older versions read what has none.
  schema.multi.clear();
  EXPECT_EQ(schema.Encode()[0], 1);
}

TEST(MultiSchemaTest, SaysWhatIsWrong) {
  const CollectionSchema fine = MultiSchema(
      {Metric::kCosine, ElementType::kFloat16, TokenCodecKind::kInt4});
  const auto fields_of = [&](auto change) {
    CollectionSchema schema = fine;
    change(&schema.multi[0]);
    std::vector<std::string> fields;
    for (const FieldViolation& violation : ValidateSchema(schema, Limits())) {
      fields.push_back(violation.field);
    }
    return fields;
  };
  using Field = MultiVectorField;
  const std::string at = "multi_vectors[0]";
  EXPECT_THAT(fields_of([](Field* f) { f->name = ""; }),
              ElementsAre(at + ".name"));
  EXPECT_THAT(fields_of([](Field* f) { f->name = "v"; }),
              ElementsAre(at + ".name"));
  EXPECT_THAT(fields_of([](Field* f) { f->name = "other"; }),
              ElementsAre("multi_vectors[1].name"));
  EXPECT_THAT(fields_of([](Field* f) { f->dim = 0; }),
              ElementsAre(at + ".dim"));
  EXPECT_THAT(fields_of([](Field* f) { f->dim = kMaxTokenDim + 1; }),
              ElementsAre(at + ".dim"));
  EXPECT_THAT(fields_of([](Field* f) { f->metric = Metric::kL2; }),
              ElementsAre(at + ".metric"));
  EXPECT_THAT(fields_of([](Field* f) { f->type = ElementType::kUint8; }),
              ElementsAre(at + ".type"));
  EXPECT_THAT(fields_of([](Field* f) { f->max_tokens = 0; }),
              ElementsAre(at + ".max_tokens"));
  EXPECT_THAT(fields_of([](Field* f) { f->max_tokens = kMaxTokens + 1; }),
              ElementsAre(at + ".max_tokens"));
  EXPECT_THAT(fields_of([](Field* f) {
                f->token_codec = static_cast<TokenCodecKind>(5);
              }),
              ElementsAre(at + ".token_codec"));
  EXPECT_THAT(fields_of([](Field* f) { f->avg_bits = 9; }),
              ElementsAre(at + ".avg_bits"));
  EXPECT_THAT(fields_of([](Field* f) { f->encoder.muvera.repetitions = 257; }),
              ElementsAre(at + ".encoder.muvera.repetitions"));
  EXPECT_THAT(fields_of([](Field* f) { f->encoder.muvera.k_sim = 11; }),
              ElementsAre(at + ".encoder.muvera.k_sim"));
  EXPECT_THAT(fields_of([](Field* f) {
                f->encoder.muvera.d_final = kMaxEncodingDim + 1;
              }),
              ElementsAre(at + ".encoder.muvera.d_final"));
  EXPECT_THAT(fields_of([](Field* f) { f->encoder.ols.features = 63; }),
              ElementsAre(at + ".encoder.ols.features"));
  EXPECT_THAT(fields_of([](Field* f) { f->encoder.ols.ridge = 0; }),
              ElementsAre(at + ".encoder.ols.ridge"));
  EXPECT_THAT(fields_of([](Field* f) { f->encoder.ols.ridge = 1.01f; }),
              ElementsAre(at + ".encoder.ols.ridge"));
  EXPECT_THAT(fields_of([](Field* f) { f->encoder.ols.ridge = 1; }), IsEmpty());
  // A dense vector has no such type.
  CollectionSchema schema = fine;
  schema.vectors[0].type = ElementType::kBfloat16;
  EXPECT_EQ(ValidateSchema(schema, Limits()).size(), 1u);
  schema = fine;
  schema.multi.resize(17, fine.multi[0]);
  EXPECT_EQ(ValidateSchema(schema, Limits())[0].field, "multi_vectors");
}

TEST(MultiSchemaTest, RefusesEncodingsThatAreTooLong) {
  CollectionSchema schema = MultiSchema(
      {Metric::kCosine, ElementType::kFloat16, TokenCodecKind::kInt4});
  using Kind = MultiEncoderParams::Kind;
  MultiEncoderParams& encoder = schema.multi[0].encoder;
  // 256 * 1,024 * 4 are the most; 8 is the default of d_proj.
  encoder.muvera = {.repetitions = 256, .k_sim = 10, .d_proj = 4};
  EXPECT_THAT(ValidateSchema(schema, Limits()), IsEmpty());
  encoder.muvera.d_proj = 0;
  for (const Kind kind : {Kind::kAuto, Kind::kMuvera}) {
    encoder.kind = kind;
    const auto violations = ValidateSchema(schema, Limits());
    ASSERT_EQ(violations.size(), 1u);
    EXPECT_EQ(violations[0].field, "multi_vectors[0].encoder.muvera");
    EXPECT_EQ(violations[0].description,
              "makes encodings of repetitions * 2^k_sim * d_proj = 2097152 "
              "dimensions; at most 1048576 are possible: lower repetitions, "
              "k_sim or d_proj");
  }
  for (const Kind kind : {Kind::kOls, Kind::kNone}) {
    encoder.kind = kind;
    EXPECT_THAT(ValidateSchema(schema, Limits()), IsEmpty());
  }
  // Of tokens of so few dimensions they are no longer.
  encoder.kind = Kind::kMuvera;
  schema.multi[0].dim = 4;
  EXPECT_THAT(ValidateSchema(schema, Limits()), IsEmpty());
}

TEST(MultiSchemaTest, RefusesMatricesThatAreTooLarge) {
  CollectionSchema schema = MultiSchema(
      {Metric::kCosine, ElementType::kFloat16, TokenCodecKind::kInt4});
  using Kind = MultiEncoderParams::Kind;
  MultiEncoderParams& encoder = schema.multi[0].encoder;
  schema.multi[0].dim = kMaxTokenDim;
  EXPECT_THAT(ValidateSchema(schema, Limits()), IsEmpty());
  // 256 * (4 + 12) * 4,096 are the most; 16 is the default of d_proj.
  encoder.muvera = {.repetitions = 256, .d_proj = 12};
  EXPECT_THAT(ValidateSchema(schema, Limits()), IsEmpty());
  encoder.muvera.d_proj = 0;
  for (const Kind kind : {Kind::kAuto, Kind::kMuvera}) {
    encoder.kind = kind;
    const auto violations = ValidateSchema(schema, Limits());
    ASSERT_EQ(violations.size(), 1u);
    EXPECT_EQ(violations[0].field, "multi_vectors[0].encoder.muvera");
    EXPECT_EQ(violations[0].description,
              "takes matrices of repetitions * (k_sim + d_proj) * dim = "
              "20971520 elements; at most 16777216 are possible: lower "
              "repetitions or d_proj");
  }
  for (const Kind kind : {Kind::kOls, Kind::kNone}) {
    encoder.kind = kind;
    EXPECT_THAT(ValidateSchema(schema, Limits()), IsEmpty());
  }
}

TEST(MultiSchemaTest, SamplesHaveAsManyTokensAsThereAreFeatures) {
  CollectionSchema schema = MultiSchema(
      {Metric::kCosine, ElementType::kFloat16, TokenCodecKind::kInt4});
  MultiVectorField& field = schema.multi[0];
  struct Case {
    size_t dim;
    uint32_t features, least;
  };
  // The default of features is 1,024 or 2,048, by the dimension.
  for (const Case& c : {Case{64, 0, 1'024}, {65, 0, 2'048}, {65, 100, 100}}) {
    field.dim = c.dim;
    field.encoder.ols.features = c.features;
    for (const uint32_t fine : {uint32_t{0}, c.least, kMaxOlsSample}) {
      field.encoder.ols.sample_tokens = fine;
      EXPECT_THAT(ValidateSchema(schema, Limits()), IsEmpty()) << fine;
    }
    for (const uint32_t bad : {c.least - 1, kMaxOlsSample + 1}) {
      field.encoder.ols.sample_tokens = bad;
      const auto violations = ValidateSchema(schema, Limits());
      ASSERT_EQ(violations.size(), 1u) << bad;
      EXPECT_EQ(violations[0].field,
                "multi_vectors[0].encoder.ols.sample_tokens");
      EXPECT_EQ(violations[0].description,
                absl::StrCat("is ", bad, "; it must be ", c.least,
                             " (the features) to 65536, or 0 for four times "
                             "the features"));
    }
  }
}

TEST(MultiSchemaTest, TheEstimateCountsTokens) {
  CollectionSchema schema = MultiSchema(
      {Metric::kCosine, ElementType::kFloat16, TokenCodecKind::kInt4});
  schema.multi.resize(1);
  const ResourceEstimate with = EstimateResources(schema, 100'000, 1);
  schema.multi.clear();
  const ResourceEstimate without = EstimateResources(schema, 100'000, 1);
  // 40 tokens of 32 halves and of 20 bytes each.
  const uint64_t tokens = 100'000ull * 40 * (64 + 20);
  EXPECT_GE(with.mapped_bytes, without.mapped_bytes + tokens);
  EXPECT_GE(with.disk_bytes,
            without.disk_bytes + tokens + 100'000ull * 40 * 64);
  // Codes of 2 bits, of the longest encodings that the server may choose.
  EXPECT_EQ(with.ram_bytes, without.ram_bytes + 100'000ull * 4096 * 2 / 8);
  EXPECT_GT(with.build_seconds, without.build_seconds);
  ASSERT_EQ(with.warnings.size(), 1u);
  EXPECT_THAT(with.warnings[0], HasSubstr("40 tokens per document"));
}

}  // namespace
}  // namespace vicinal
