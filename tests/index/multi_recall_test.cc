// Sealed multi-vectors with encodings: what is found, with how much work, and
// that it is built the same again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "index/multi_field.h"
#include "index/sealed_multi.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "tests/index/multi_testing.h"

namespace vicinal {
namespace {

using Kind = MultiEncoderParams::Kind;
using Fill = MuveraParams::Fill;
using Centering = MuveraParams::Centering;

constexpr size_t kRows = 4'000;
constexpr size_t kDim = 32;
constexpr size_t kQueries = 30;  // of each length

MultiSpec SpecOf(Kind kind) {
  MultiSpec spec{.dim = kDim, .type = ElementType::kFloat16};
  spec.encoder.kind = kind;
  spec.encoder.ols.features = 256;
  spec.encoder.muvera.repetitions = 20;
  spec.encoder.muvera.k_sim = 3;
  if (kind == Kind::kMuvera) {
    spec.encoder.muvera.fill = Fill::kNone;
    spec.encoder.muvera.centering = Centering::kHash;
  }
  return spec;
}

// The documents and queries of a process.
struct Collection {
  Collection() : topics(kDim, 1), documents{SpecOf(Kind::kNone), {}} {
    for (size_t i = 0; i < kRows; ++i) {
      texts.push_back(topics.Document(40));
      documents.rows.push_back(TokenBytes(texts[i], documents.spec.type));
    }
    growing = documents.Grow();
  }

  std::unique_ptr<SealedFiles> SealAs(const MultiSpec& spec,
                                      MultiBuildOptions options = {}) const {
    return Seal(spec, SourcesOf(*growing, kRows), std::move(options));
  }
  std::vector<MultiQuery> Queries(size_t num_tokens) {
    std::vector<MultiQuery> out;
    for (size_t i = 0; i < kQueries; ++i) {
      out.emplace_back(documents.spec,
                       topics.QueryFor(texts[i * 97 % kRows], num_tokens),
                       Floats());
    }
    return out;
  }

  Topics topics;
  std::vector<Floats> texts;
  Documents documents;
  std::unique_ptr<GrowingMultiField> growing;
};

Collection& TheCollection() {
  static Collection collection;
  return collection;
}

// Queries with the rows that each should find.
struct Asked {
  std::vector<MultiQuery> queries;
  std::vector<std::vector<Neighbor>> best;
};
Asked Ask(size_t num_tokens, size_t k, const Filter& filter = {}) {
  Asked out{TheCollection().Queries(num_tokens), {}};
  for (const MultiQuery& query : out.queries) {
    out.best.push_back(Find(*TheCollection().growing, query,
                            {.k = k, .exact = true}, filter, 0, kRows));
  }
  return out;
}

// The mean share of the best that is found.
double MeanRecall(const MultiField& field, const Asked& asked,
                  const MultiSearchParams& params, MultiStats* work = nullptr,
                  const Filter& filter = {}) {
  double sum = 0;
  for (size_t q = 0; q < kQueries; ++q) {
    sum +=
        RecallOf(Find(field, asked.queries[q], params, filter, 0, kRows, work),
                 asked.best[q]);
  }
  return sum / kQueries;
}

// One field of each encoder.
class MultiRecallTest : public ::testing::TestWithParam<Kind> {
 protected:
  static const SealedMultiField& Field() {
    static Kind kind = Kind::kNone;
    static std::unique_ptr<SealedFiles> files;
    if (files == nullptr || kind != GetParam()) {
      kind = GetParam();
      files = TheCollection().SealAs(SpecOf(kind));
    }
    return *files->field;
  }
};

// Calibrated with queries of 16 and 32 tokens; shorter ones find less with as
// many candidates.
void ExpectTargets(const SealedMultiField& field) {
  for (const auto& [length, floor] :
       {std::pair<size_t, double>{4, 0.5}, {16, 0.8}, {32, 0.88}}) {
    MultiStats work;
    const double recall = MeanRecall(field, Ask(length, 10),
                                     {.k = 10, .recall_target = 0.9}, &work);
    std::printf("%zu tokens: recall %.3f of %zu candidates\n", length, recall,
                static_cast<size_t>(work.num_candidates / kQueries));
    EXPECT_GE(recall, floor);
    EXPECT_LT(work.num_candidates, kQueries * kRows / 4);
  }
}

TEST_P(MultiRecallTest, TargetsAreReached) {
  const SealedMultiField& field = Field();
  ASSERT_TRUE(field.has_encodings());
  ASSERT_TRUE(field.encoder_params().has_value());
  EXPECT_EQ(field.encoder_params()->kind, GetParam());
  std::printf("%s\n", field.Describe().c_str());
  ExpectTargets(field);
}

TEST_P(MultiRecallTest, MoreCandidatesFindMore) {
  const SealedMultiField& field = Field();
  const Asked asked = Ask(16, 10);
  double last = 0;
  for (const size_t candidates : {10, 25, 60, 150, 400, 4'000}) {
    MultiStats work;
    const double recall =
        MeanRecall(field, asked, {.k = 10, .candidates = candidates}, &work);
    std::printf("%zu candidates: recall %.3f\n", candidates, recall);
    EXPECT_EQ(work.num_candidates, kQueries * candidates);
    EXPECT_GE(recall, last);
    last = recall;
  }
  EXPECT_GE(last, 0.99);
}

INSTANTIATE_TEST_SUITE_P(Encoders, MultiRecallTest,
                         ::testing::Values(Kind::kOls, Kind::kMuvera));

TEST(MultiChoiceTest, AutoChoosesAndSaysWhy) {
  const auto files = TheCollection().SealAs(SpecOf(Kind::kAuto));
  ASSERT_NE(files, nullptr);
  const SealedMultiField& field = *files->field;
  std::printf("%s\n", field.Describe().c_str());
  const std::optional<MultiEncoderParams> params = field.encoder_params();
  ASSERT_TRUE(params.has_value());
  EXPECT_TRUE(params->kind == Kind::kOls || params->kind == Kind::kMuvera);
  if (params->kind == Kind::kMuvera) {
    EXPECT_NE(params->muvera.fill, Fill::kAuto);
    EXPECT_NE(params->muvera.centering, Centering::kAuto);
  }
  for (const char* part :
       {"chosen by recall", "OLS of 256 features", "MUVERA (20, 3, 8)"}) {
    EXPECT_TRUE(absl::StrContains(field.Describe(), part));
  }
  ExpectTargets(field);
}

// One field of OLS.
class MultiEffortTest : public ::testing::Test {
 protected:
  static const SealedMultiField& Field() {
    static const std::unique_ptr<SealedFiles> files =
        TheCollection().SealAs(SpecOf(Kind::kOls));
    return *files->field;
  }
};

TEST_F(MultiEffortTest, StepsAreAsDeepAsAsked) {
  const SealedMultiField& field = Field();
  const MultiQuery query = TheCollection().Queries(16)[0];
  for (const size_t rescore : {100, 200}) {
    SearchStats stats;
    MultiStats work;
    // Exactly compared is what is returned.
    const std::vector<Neighbor> found = Find(
        field, query,
        {.k = 20, .rescore = rescore, .candidates = 80, .exact_candidates = 20},
        {}, 0, kRows, &work, &stats);
    ASSERT_EQ(found.size(), 20u);
    EXPECT_EQ(work.num_candidates, 80u);
    EXPECT_EQ(work.num_exact, 20u);
    EXPECT_EQ(stats.plan, SearchPlan::kCodes);
    size_t tokens = 0;
    for (const Neighbor& neighbor : found) {
      tokens += field.TokensOf(neighbor.row).num_tokens;
    }
    // The one list's centroid, and all codes.
    EXPECT_EQ(stats.distance_computations, 1 + kRows + rescore + tokens);
  }
  // Raised to k, and to what follows.
  MultiStats work;
  EXPECT_EQ(
      Find(field, query,
           {.k = 150, .rescore = 1, .candidates = 2, .exact_candidates = 3}, {},
           0, kRows, &work)
          .size(),
      150u);
  EXPECT_EQ(work.num_candidates, 150u);
  EXPECT_EQ(work.num_exact, 150u);
  // And no deeper than there are rows.
  EXPECT_EQ(Find(field, query,
                 {.k = 5'000, .candidates = 9'000, .exact_candidates = 9'000},
                 {}, 0, kRows)
                .size(),
            kRows);
}

TEST_F(MultiEffortTest, ForcedPlansAreTaken) {
  const SealedMultiField& field = Field();
  const MultiQuery query = TheCollection().Queries(16)[1];
  MultiStats scan;
  Find(field, query, {.force = ForcedPlan::kScan}, {}, 0, kRows, &scan);
  EXPECT_EQ(scan.num_candidates, kRows);
  MultiStats index;
  Find(field, query, {.force = ForcedPlan::kIndex}, {}, 0, kRows, &index);
  EXPECT_LT(index.num_candidates, kRows / 2);
  // And stopped when they are told.
  for (const ForcedPlan plan : {ForcedPlan::kScan, ForcedPlan::kIndex}) {
    TopK top(10);
    EXPECT_TRUE(absl::IsCancelled(field.Search(
        query, {.force = plan}, {}, 0, kRows,
        {.cancelled = [] { return true; }}, &top, nullptr, nullptr)));
  }
}

TEST_F(MultiEffortTest, HigherTargetsTakeMoreCandidates) {
  const Asked asked = Ask(16, 10);
  uint64_t last = 0;
  for (const double target : {0.5, 0.8, 0.9, 0.95}) {
    MultiStats work;
    MeanRecall(Field(), asked,
               {.recall_target = target, .force = ForcedPlan::kIndex}, &work);
    EXPECT_GE(work.num_candidates, last) << target;
    last = work.num_candidates;
  }
}

TEST_F(MultiEffortTest, SelectiveFiltersScanCodes) {
  const SealedMultiField& field = Field();
  const auto recall = [&](const Filter& filter, double target,
                          MultiStats* work) {
    return MeanRecall(field, Ask(16, 10, filter), {.recall_target = target},
                      work, filter);
  };
  Bitmap few(kRows);
  for (RowId row = 5; row < kRows; row += 40) few.Set(row);
  MultiStats work;
  EXPECT_EQ(recall({.allowed = &few, .num_allowed = 100}, 0.9, &work), 1);
  EXPECT_EQ(work.num_candidates, kQueries * 100);
  // A range alone is a filter, too.
  MultiStats in_range;
  EXPECT_EQ(recall({.begin = 300, .end = 400}, 0.9, &in_range), 1);
  EXPECT_EQ(in_range.num_candidates, kQueries * 100);
  // Half of the rows are not worth it.
  Bitmap half(kRows);
  for (RowId row = 0; row < kRows; row += 2) half.Set(row);
  MultiStats more;
  EXPECT_GE(recall({.allowed = &half, .num_allowed = kRows / 2}, 0.95, &more),
            0.85);
  EXPECT_LT(more.num_candidates, kQueries * kRows / 4);
}

TEST_F(MultiEffortTest, KilledRowsAreNoCandidates) {
  const auto files = TheCollection().SealAs(SpecOf(Kind::kOls));
  ASSERT_NE(files, nullptr);
  const MultiQuery query = TheCollection().Queries(16)[2];
  const MultiSearchParams params{.candidates = 100};
  for (const Neighbor& neighbor :
       Find(*files->field, query, params, {}, 0, kRows)) {
    files->field->Kill(neighbor.row);
  }
  const std::vector<Neighbor> rest =
      Find(*files->field, query, params, {}, 0, kRows);
  EXPECT_EQ(rest.size(), 10u);
  EXPECT_GE(
      RecallOf(rest, Find(*files->field, query, {.exact = true}, {}, 0, kRows)),
      0.7);
}

// What codes of 4 bits cost the encodings, where what they lose is not looked
// for deeper.
TEST(MultiBitsTest, FourBitsOfEncodingsFindWhatEightDo) {
  const Asked asked = Ask(16, 100);
  std::vector<double> recalls;
  for (const float bits : {8.0f, 4.0f}) {
    MultiSpec spec = SpecOf(Kind::kOls);
    spec.avg_bits = bits;
    const auto files = TheCollection().SealAs(spec);
    ASSERT_NE(files, nullptr);
    recalls.push_back(MeanRecall(
        *files->field, asked, {.k = 100, .rescore = 200, .candidates = 200}));
    std::printf("%g bits: recall@100 %.4f\n", static_cast<double>(bits),
                recalls.back());
  }
  EXPECT_GE(recalls[1], recalls[0] - 0.01);
}

// Documents in smaller numbers and fewer dimensions, which are built at once.
MultiSpec SmallSpec(Kind kind) {
  MultiSpec spec{.dim = 8, .type = ElementType::kInt8, .cosine = false};
  spec.encoder.kind = kind;
  spec.encoder.ols.features = 64;
  spec.encoder.muvera.repetitions = 4;
  spec.encoder.muvera.k_sim = 2;
  spec.encoder.muvera.d_proj = 4;
  return spec;
}

Documents SmallDocuments(const MultiSpec& spec, size_t num_rows,
                         Random* random) {
  // Some empty ones, and 69 tokens in the mean.
  return MakeDocuments(spec, num_rows, 140, 100, random);
}

std::string FilesOf(const SealedFiles& files) {
  return std::string(files.vectors->mapped()) +
         std::string(files.index->mapped());
}

TEST(MultiBuildTest, MergedFieldsKeepTheEncoderThatWasChosen) {
  Random random = SeededTokens(2);
  const MultiSpec spec = SmallSpec(Kind::kAuto);
  const Documents a = SmallDocuments(spec, 2'100, &random);
  const Documents b = SmallDocuments(spec, 2'100, &random);
  std::vector<std::string> phases;
  const MultiBuildOptions options{
      .on_phase = [&](absl::string_view phase) { phases.emplace_back(phase); }};
  const auto first = Seal(a, options);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(std::count(phases.begin(), phases.end(), "choosing an encoder"), 1);
  // Another kind on purpose.
  const Kind kind = first->field->encoder_params()->kind;
  const Documents other{
      SmallSpec(kind == Kind::kOls ? Kind::kMuvera : Kind::kOls), b.rows};
  const auto second = Seal(other);
  ASSERT_NE(second, nullptr);
  ASSERT_NE(second->field->encoder_params()->kind, kind);

  Documents all = a;
  all.rows.insert(all.rows.end(), b.rows.begin(), b.rows.end());
  std::vector<MultiSource> sources = SourcesOf(*first->field, 2'100);
  for (const MultiSource& source : SourcesOf(*second->field, 2'100)) {
    sources.push_back(source);
  }
  phases.clear();
  const auto merged = Seal(spec, sources, options);
  ASSERT_NE(merged, nullptr);
  EXPECT_EQ(std::count(phases.begin(), phases.end(), "choosing an encoder"), 0);
  EXPECT_EQ(merged->field->encoder_params(), first->field->encoder_params());
  EXPECT_EQ(merged->field->Describe(), first->field->Describe());
  for (int trial = 0; trial < 5; ++trial) {
    const MultiQuery query(spec, GaussianTokens(spec, 8, &random), {});
    EXPECT_EQ(
        Find(*merged->field, query, {.k = 50, .exact = true}, {}, 0, 4'200),
        FindNaively(all, query, 50, [](RowId) { return true; }));
  }
}

TEST(MultiBuildTest, ThreadsChangeNoByteOfTheFiles) {
  Random random = SeededTokens(3);
  for (const size_t num_rows : {150, 2'100}) {
    const MultiSpec spec = SmallSpec(Kind::kAuto);
    const Documents documents = SmallDocuments(spec, num_rows, &random);
    const auto alone = Seal(documents, {.num_threads = 1});
    const auto together = Seal(documents, {.num_threads = 2});
    ASSERT_NE(alone, nullptr);
    ASSERT_NE(together, nullptr);
    EXPECT_EQ(alone->field->has_encodings(), num_rows > 2'000);
    EXPECT_TRUE(FilesOf(*alone) == FilesOf(*together)) << num_rows;
  }
}

TEST(MultiBuildTest, OnlyHotBytesArePlaced) {
  Random random = SeededTokens(4);
  const MultiSpec spec = SmallSpec(Kind::kMuvera);
  const auto files = Seal(SmallDocuments(spec, 2'100, &random));
  ASSERT_NE(files, nullptr);
  size_t placed = 0;
  const auto field =
      SealedMultiField::Open(*files->vectors, *files->index, 0, spec, 2'100,
                             [&](absl::string_view bytes) {
                               placed += bytes.size();
                               return bytes;
                             });
  ASSERT_TRUE(field.ok()) << field.status();
  // 2 bits of each of 64 dimensions, and factors.
  EXPECT_GT(placed, 2'079u * 16);
  EXPECT_LT(placed, 2'100u * 80);
}

// Elements at the limit of what the engine takes do not spoil an encoder.
TEST(MultiBuildTest, HugeElementsAreEncoded) {
  Random random = SeededTokens(5);
  for (const Kind kind : {Kind::kOls, Kind::kMuvera}) {
    MultiSpec spec = SmallSpec(kind);
    spec.type = ElementType::kFloat32;
    Documents documents = MakeDocuments(spec, 2'100, 140, 0, &random);
    for (size_t row = 0; row < 2'100; row += 300) {
      Floats tokens = GaussianTokens(spec, 60, &random);
      for (float& value : tokens) value *= 3e14f;
      documents.rows[row] = TokenBytes(tokens, spec.type);
    }
    const auto files = Seal(documents);
    ASSERT_NE(files, nullptr);
    for (const float length : {1.0f, 1e15f}) {
      Floats tokens = GaussianTokens(spec, 4, &random);
      for (float& value : tokens) value *= length / 4;
      const MultiQuery query(spec, tokens, {});
      const std::vector<Neighbor> found =
          Find(*files->field, query, {.k = 7, .force = ForcedPlan::kIndex}, {},
               0, 2'100);
      EXPECT_EQ(found,
                FindNaively(documents, query, 7, [](RowId) { return true; }));
    }
  }
}

}  // namespace
}  // namespace vicinal
