// Multi-vectors: what writes take, and what they refuse.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/half.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"
#include "tests/engine/multi_testing.h"

namespace vicinal {
namespace {

using ::testing::HasSubstr;

class MultiWriteTest : public MultiQueryTest {
 protected:
  MultiWriteTest() {
    Write(0, 3);
    before_ = collection_->stats().sequence;
    batch_.ids = {PointId(0), PointId(1), PointId(9)};
    tokens_ = corpus_.Gaussians(4 * kDim, 1);
    batch_.multi = {
        {.name = "t", .dim = kDim, .offsets = {0, 1, 3, 4}, .data = ""}};
  }
  MultiColumn& column() { return batch_.multi[0]; }
  // field: as item_errors names it.
  void ExpectRefused(const std::string& field, const std::string& why,
                     size_t index = kWholeBatch) {
    const std::string data = Bytes(tokens_);
    if (column().data.empty()) column().data = data;
    const WriteOutcome outcome = collection_->Upsert(batch_);
    EXPECT_TRUE(absl::IsInvalidArgument(outcome.status)) << outcome.status;
    ASSERT_FALSE(outcome.result.item_errors.empty());
    EXPECT_EQ(outcome.result.item_errors[0].field, field);
    EXPECT_EQ(outcome.result.item_errors[0].index, index);
    EXPECT_THAT(std::string(outcome.result.item_errors[0].status.message()),
                HasSubstr(why));
    // Nothing half written.
    EXPECT_EQ(collection_->stats().sequence, before_);
    EXPECT_EQ(collection_->Count(), 3u);
    column().data = "";
  }

  Sequence before_ = 0;
  PointBatch batch_;
  Tokens tokens_;
};

TEST_F(MultiWriteTest, AValidBatchIsTaken) {
  const std::string data = Bytes(tokens_);
  column().data = data;
  const WriteOutcome outcome = collection_->Upsert(batch_);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(collection_->Count(), 4u);
}

TEST_F(MultiWriteTest, RefusesOffsetsThatDoNotMatch) {
  column().offsets = {0, 1, 4};
  ExpectRefused("multi_vectors[0].offsets", "has 3 elements; 3 points take 4");
  column().offsets = {1, 1, 3, 4};
  ExpectRefused("multi_vectors[0].offsets[0]", "is 1; offsets begin with 0");
  column().offsets = {0, 3, 1, 4};
  ExpectRefused("multi_vectors[0].offsets[2]", "do not descend");
  column().offsets = {0, 1, 3, 5};
  ExpectRefused("multi_vectors[0].offsets[3]", "the number of tokens, 4");
  column().offsets = {0, 1, 3, std::numeric_limits<uint64_t>::max()};
  ExpectRefused("multi_vectors[0].offsets[3]", "the number of tokens, 4");
  column().offsets = {0, 1, 2, 3};
  ExpectRefused("multi_vectors[0].data", "has 512 bytes; 3 tokens");
  column().offsets = {0, 1, 3, 4};
  const std::string odd(4 * kDim * 4 + 1, 'a');
  column().data = odd;
  ExpectRefused("multi_vectors[0].data", "has 513 bytes");
}

TEST_F(MultiWriteTest, RefusesColumnsOfAnotherForm) {
  column().dim = kDim - 1;
  ExpectRefused("multi_vectors[0].dim",
                "is 31; tokens of multi-vector \"t\" of this collection have "
                "32");
  column().dim = kDim;
  column().type = static_cast<ElementType>(6);
  ExpectRefused("multi_vectors[0].type", "is not f32, f16, bf16");
  column().type = ElementType::kFloat32;
  column().name = "u";
  ExpectRefused("multi_vectors[0].name", "has no such multi-vector");
  column().name = "v";
  ExpectRefused("multi_vectors[0].name",
                "is a dense vector of the collection; send it in vectors");
  column().name = "t";
  batch_.multi.push_back(column());
  ExpectRefused("multi_vectors[1].name", "stands twice");
  batch_.multi.pop_back();
  const std::string data = Bytes(Tokens(3 * kDim, 1));
  batch_.vectors = {{.name = "t", .dim = kDim, .data = data}};
  ExpectRefused(
      "vectors[0].name",
      "is a multi-vector of the collection; send it in multi_vectors");
}

TEST_F(MultiWriteTest, RefusesPresentThatDoesNotFit) {
  column().present = {0, 3};
  ExpectRefused("multi_vectors[0].present[1]", "the batch has 3 points");
  column().present = {1, 0};
  ExpectRefused("multi_vectors[0].present[1]", "must ascend");
  column().present = {0, 1};
  ExpectRefused("multi_vectors[0].present",
                "does not name point 2, which has 1 tokens");
}

TEST_F(MultiWriteTest, NamesTheTokenThatIsBad) {
  tokens_[(2 * kDim) + 5] = std::numeric_limits<float>::quiet_NaN();
  ExpectRefused("multi_vectors[0].data[1][1][5]", "is NaN", 1);
  tokens_[(2 * kDim) + 5] = std::numeric_limits<float>::infinity();
  ExpectRefused("multi_vectors[0].data[1][1][5]", "is infinite", 1);
  tokens_[(2 * kDim) + 5] = 70'000;
  ExpectRefused("multi_vectors[0].data[1][1][5]", "an f16 vector holds", 1);
  tokens_[(2 * kDim) + 5] = 0;
  std::fill(tokens_.begin() + 3 * kDim, tokens_.end(), 0.0f);
  ExpectRefused("multi_vectors[0].data[2][0]", "is a zero vector", 2);
  // Of the field's own type, too.
  std::string halves(4 * kDim * 2, '\x3C');
  halves[(3 * kDim + 1) * 2] = '\0';
  halves[(3 * kDim + 1) * 2 + 1] = '\x7C';
  column().type = ElementType::kFloat16;
  column().data = halves;
  ExpectRefused("multi_vectors[0].data[2][0][1]", "is infinite", 2);
}

TEST_F(MultiQueryTest, TakesElementsUpToTheLimit) {
  CollectionSchema schema = MultiSchema(
      {Metric::kInnerProduct, ElementType::kFloat32, TokenCodecKind::kInt4});
  schema.name = "large";
  schema.multi[1].type = ElementType::kBfloat16;
  const auto collection = database_->CreateCollection(schema);
  ASSERT_TRUE(collection.ok()) << collection.status();
  constexpr float kMost = kMaxTokenElement;
  const auto upsert = [&](const std::string& name, size_t dim, ElementType type,
                          const std::string& data) {
    PointBatch batch;
    batch.ids = {PointId(1)};
    batch.multi = {{.name = name,
                    .dim = dim,
                    .type = type,
                    .offsets = {0, 1},
                    .data = data}};
    return (*collection)->Upsert(batch);
  };
  const auto expect_refused = [](const WriteOutcome& outcome,
                                 const std::string& field) {
    EXPECT_TRUE(absl::IsInvalidArgument(outcome.status)) << outcome.status;
    ASSERT_EQ(outcome.result.item_errors.size(), 1u);
    EXPECT_EQ(outcome.result.item_errors[0].field, field);
    EXPECT_THAT(std::string(outcome.result.item_errors[0].status.message()),
                HasSubstr("; give a number from -1e+15 to 1e+15"));
  };
  for (const float sign : {1.0f, -1.0f}) {
    Tokens token(kDim, sign * kMost);
    auto outcome = upsert("t", kDim, ElementType::kFloat32, Bytes(token));
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    token[3] = sign * std::nextafter(kMost, 1e30f);
    outcome = upsert("t", kDim, ElementType::kFloat32, Bytes(token));
    expect_refused(outcome, "multi_vectors[0].data[0][0][3]");
    // From f32 to bf16, and as bf16.
    Tokens other(kOtherDim, sign * kMost);
    outcome = upsert("other", kOtherDim, ElementType::kFloat32, Bytes(other));
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    other[2] = sign * 1.1e15f;
    outcome = upsert("other", kOtherDim, ElementType::kFloat32, Bytes(other));
    expect_refused(outcome, "multi_vectors[0].data[0][0][2]");
    std::string bfloats;
    for (const float value : other) {
      const uint16_t bfloat = FloatToBfloat(value);
      bfloats.append(reinterpret_cast<const char*>(&bfloat), sizeof(bfloat));
    }
    outcome = upsert("other", kOtherDim, ElementType::kBfloat16, bfloats);
    expect_refused(outcome, "multi_vectors[0].data[0][0][2]");
    bfloats.replace(4, 2, bfloats.substr(0, 2));
    outcome = upsert("other", kOtherDim, ElementType::kBfloat16, bfloats);
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  }
  // Scores of such stay finite.
  Tokens token(kDim, kMost);
  ASSERT_TRUE(
      upsert("t", kDim, ElementType::kFloat32, Bytes(token)).status.ok());
  std::vector<Query> queries;
  queries.push_back(TokenQuery(Tokens(4'096 * kDim, kMost), 1, true));
  auto results = (*collection)->Search(queries, {});
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ((*results)[0].hits.size(), 1u);
  EXPECT_NEAR((*results)[0].hits[0].distance / (-4'096.0 * kDim * 1e30), 1,
              1e-5);
}

TEST_F(MultiWriteTest, RefusesTooManyTokensAndNone) {
  tokens_ = corpus_.Gaussians(43 * kDim, 1);
  column().offsets = {0, 1, 42, 43};
  ExpectRefused("multi_vectors[0].data[1]",
                "has 41 tokens; at most 40 are allowed", 1);
  tokens_.resize(2 * kDim);
  column().offsets = {0, 1, 1, 2};
  column().present = {0, 1, 2};
  ExpectRefused("multi_vectors[0].data[1]", "has no tokens", 1);
  column().present = {};
  ExpectRefused("ids[1]", "has no vector", 1);
  // Where they are allowed it is a point without.
  const std::string data = Bytes(tokens_);
  column().data = data;
  batch_.multi.push_back({.name = "other",
                          .dim = kOtherDim,
                          .offsets = {0, 0, 0, 0},
                          .data = "",
                          .present = {1}});
  const WriteOutcome outcome = collection_->Upsert(batch_);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(MultiWriteTest, WritesTheOthersWhereThatIsAskedFor) {
  tokens_[(2 * kDim) + 5] = std::numeric_limits<float>::quiet_NaN();
  const std::string data = Bytes(tokens_);
  column().data = data;
  const WriteOutcome outcome =
      collection_->Upsert(batch_, {.atomic = false, .condition = {}});
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.result.num_written, 2u);
  ASSERT_EQ(outcome.result.item_errors.size(), 1u);
  EXPECT_EQ(outcome.result.item_errors[0].index, 1u);
}

}  // namespace
}  // namespace vicinal
