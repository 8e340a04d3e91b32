// A data folder as the first version with multi-vectors wrote it, in multi/.
// Today's program reads it, and writes the same keys and values. (Segments have
// encodings from 131,072 tokens on: tests/quant keeps bits of encoders.)
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/half.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"
#include "tests/golden/golden_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDim = 4;     // of "tok", f16
constexpr size_t kRawDim = 3;  // of "raw", f32
constexpr size_t kPoints = 12;

using Floats = std::vector<float>;

CollectionSchema GoldenSchema() {
  CollectionSchema schema = SchemaOf("golden", 2, Metric::kL2);
  MultiVectorField field;
  field.name = "tok";
  field.dim = kDim;
  schema.multi.push_back(field);
  field.name = "raw";
  field.dim = kRawDim;
  field.metric = Metric::kInnerProduct;
  field.type = ElementType::kFloat32;
  field.token_codec = TokenCodecKind::kInt8;
  field.allow_empty = true;
  schema.multi.push_back(field);
  return schema;
}

// Eighths, which f16 holds.
Floats TokensOf(size_t i, size_t shift) {
  Floats tokens;
  for (size_t t = 0; t <= i % 4; ++t) {
    for (size_t e = 0; e < kDim; ++e) {
      const size_t value = (7 * i + 5 * t + 3 * e * (i + 1) + shift) % 17;
      tokens.push_back(0.25f * (static_cast<float>(value) - 8) + 0.125f);
    }
  }
  return tokens;
}
// Points without are every fifth.
Floats RawOf(size_t i) {
  Floats tokens;
  if (i % 5 == 0) return tokens;
  for (size_t e = 0; e < kRawDim * (1 + i % 2); ++e) {
    tokens.push_back(1 / (static_cast<float>(i + e) + 1));
  }
  return tokens;
}

// What was written: the tokens of each point, none where it was deleted.
struct Written {
  Floats tok, raw;
};

class MultiGoldenTest : public ::testing::Test {
 protected:
  MultiGoldenTest() : written_(kPoints + 1) {
    options_.clock = &clock_;
    options_.warn = [this](absl::string_view) { ++num_warnings_; };
  }

  // What multi/ was made by: a sealed segment; then a version that replaces one
  // of its rows, a point more, and a deleted one.
  void Write(const std::string& folder) {
    auto database = Database::Open(folder, options_);
    ASSERT_TRUE(database.ok()) << database.status();
    auto collection = (*database)->CreateCollection(GoldenSchema());
    ASSERT_TRUE(collection.ok()) << collection.status();
    Upsert(0, kPoints, 0, collection->get());
    ASSERT_TRUE(Finished((*collection)->Optimize(1)).ok());
    Upsert(2, 3, 1, collection->get());
    Upsert(kPoints, kPoints + 1, 0, collection->get());
    ASSERT_TRUE((*collection)->Delete({PointId(uint64_t{5})}).status.ok());
    written_[5] = {};
  }
  void Upsert(size_t first, size_t last, size_t shift, Collection* collection) {
    PointBatch batch;
    MultiColumn tok{.name = "tok", .dim = kDim, .offsets = {0}};
    MultiColumn raw{.name = "raw", .dim = kRawDim, .offsets = {0}};
    std::string tok_bytes, raw_bytes, dense;
    for (size_t i = first; i < last; ++i) {
      batch.ids.emplace_back(uint64_t{i});
      written_[i] = {TokensOf(i, shift), RawOf(i)};
      tok_bytes += Bytes(written_[i].tok);
      raw_bytes += Bytes(written_[i].raw);
      tok.offsets.push_back(tok_bytes.size() / sizeof(float) / kDim);
      raw.offsets.push_back(raw_bytes.size() / sizeof(float) / kRawDim);
      dense += Bytes({static_cast<float>(i), 1});
    }
    tok.data = tok_bytes;
    raw.data = raw_bytes;
    batch.multi = {tok, raw};
    batch.vectors = {{.name = "v", .dim = 2, .data = dense}};
    const WriteOutcome outcome = collection->Upsert(batch);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  }

  // Points, and the scores of all by "raw".
  void ExpectAsWritten(const Collection& collection) const {
    EXPECT_EQ(collection.Count(), kPoints);
    for (size_t i = 0; i <= kPoints; ++i) {
      SCOPED_TRACE(i);
      const auto points =
          collection.Get({PointId(uint64_t{i})}, {.multi = {0, 1}});
      ASSERT_TRUE(points.ok()) << points.status();
      ASSERT_EQ((*points)[0].has_value(), !written_[i].tok.empty());
      if (!(*points)[0].has_value()) continue;
      const StoredPoint& point = *(*points)[0];
      std::vector<uint16_t> halves(written_[i].tok.size());
      FloatToHalf(written_[i].tok, halves);
      EXPECT_EQ(point.multi[0],
                absl::string_view(reinterpret_cast<const char*>(halves.data()),
                                  2 * halves.size()));
      EXPECT_EQ(point.multi[1], Bytes(written_[i].raw));
    }
    for (const bool exact : {true, false}) {
      for (size_t i = 0; i <= kPoints; ++i) {
        SCOPED_TRACE(absl::StrCat("like ", i));
        if (written_[i].tok.empty()) continue;
        const SearchResult like =
            Ask(collection, "tok", written_[i].tok, exact);
        ASSERT_EQ(like.hits.size(), kPoints);
        EXPECT_EQ(like.hits[0].id, PointId(uint64_t{i}));
        EXPECT_NEAR(like.hits[0].distance,
                    -static_cast<double>(written_[i].tok.size() / kDim), 1e-5);
      }
      const SearchResult raw = Ask(collection, "raw", {1, 0, 0}, exact);
      size_t num_raw = 0;
      for (const Written& point : written_) num_raw += !point.raw.empty();
      ASSERT_EQ(raw.hits.size(), num_raw);
      for (const Hit& hit : raw.hits) {
        float best = 0;
        const Floats& tokens = written_[hit.id.number()].raw;
        for (size_t t = 0; t < tokens.size(); t += kRawDim) {
          best = std::max(best, tokens[t]);
        }
        EXPECT_EQ(hit.distance, -best) << hit.id.ToString();
      }
    }
  }
  static SearchResult Ask(const Collection& collection, std::string name,
                          const Floats& tokens, bool exact) {
    MultiStage stage;
    stage.vector_name = std::move(name);
    stage.query.tokens = tokens;
    stage.k = 2 * kPoints;
    stage.params.exact = exact;
    std::vector<Query> queries;
    queries.push_back(Query{.stage = std::move(stage)});
    auto results = collection.Search(queries, {});
    EXPECT_TRUE(results.ok()) << results.status();
    return results.ok() ? std::move((*results)[0]) : SearchResult();
  }

  FixedClock clock_;
  DatabaseOptions options_ = TestOptions();
  size_t num_warnings_ = 0;
  std::vector<Written> written_;
};

TEST_F(MultiGoldenTest, AFolderWithMultiVectorsHoldsWhatWasWritten) {
  TempFolder written;
  Write(written.path());
  TempFolder folder;
  RestoreGolden(VICINAL_GOLDEN_MULTI, folder.path());
  num_warnings_ = 0;
  auto database = Database::Open(folder.path(), options_);
  ASSERT_TRUE(database.ok()) << database.status();
  auto collection = (*database)->GetCollection("golden");
  ASSERT_TRUE(collection.ok()) << collection.status();
  const CollectionSchema& schema = (*collection)->schema();
  ASSERT_EQ(schema.multi.size(), 2u);
  EXPECT_EQ(schema.multi[1].name, "raw");
  EXPECT_TRUE(schema.multi[1].allow_empty);
  EXPECT_FALSE((*collection)->stats().degraded);
  EXPECT_EQ((*collection)->stats().num_indexed, kPoints - 2);
  ExpectAsWritten(**collection);
  // A merge verifies the tokens, and reads all else.
  EXPECT_TRUE(Finished((*collection)->Optimize(1)).ok());
  ExpectAsWritten(**collection);
  EXPECT_EQ(num_warnings_, 0u);
}

TEST_F(MultiGoldenTest, KeysAndValuesAreWrittenAsThen) {
  TempFolder folder;
  Write(folder.path());
  if (const char* target = std::getenv("VICINAL_WRITE_GOLDEN_MULTI")) {
    SaveGolden(folder.path(), target);
  }
  ExpectWrittenAs(VICINAL_GOLDEN_MULTI, folder.path());
}

}  // namespace
}  // namespace vicinal
