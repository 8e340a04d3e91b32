// Documents of word vectors (../shared/data/mv-glove-20k): searches with
// recall_target 0.95 find 0.945 of the 10 that are best by exact MaxSim,
// whatever became of the segments that hold them.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "bench/check/multivector_data.h"
#include "gtest/gtest.h"
#include "src/base/cancel.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDocuments = 14'000;  // of 20,000: builds take their time
constexpr size_t kQueries = 60;        // of 200, asked exactly, too
constexpr size_t kTop = 10;
constexpr double kFloor = 0.945;

class MultiGloveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto set = bench::LoadGlove(VICINAL_SHARED_DATA);
    if (absl::IsNotFound(set.status())) {
      GTEST_SKIP() << "no ../shared/data/mv-glove-20k";
    }
    ASSERT_TRUE(set.ok()) << set.status();
    set_ = *std::move(set);
    set_.queries.resize(kQueries);
    Open();
  }

  void Open() {
    DatabaseOptions options = TestOptions();
    options.build_threads = 2;
    options.growing_segment_bytes = size_t{256} << 20;
    CollectionSchema schema;
    schema.name = "glove";
    MultiVectorField field;
    field.name = "words";
    field.dim = set_.dim;
    // What kAuto chooses here, at once.
    field.encoder.kind = MultiEncoderParams::Kind::kOls;
    schema.multi.push_back(field);
    const absl::Status status = OpenCollection(folder_.path(), options, schema,
                                               &database_, &collection_);
    ASSERT_TRUE(status.ok()) << status;
  }
  // Documents [first, last) as points of these numbers.
  void Upsert(size_t first, size_t last) {
    constexpr size_t kAtOnce = 1'000;
    const size_t token_bytes = set_.dim * sizeof(uint16_t);
    for (size_t begin = first; begin < last; begin += kAtOnce) {
      const size_t end = std::min(last, begin + kAtOnce);
      MultiColumn words{.name = "words",
                        .dim = set_.dim,
                        .type = ElementType::kFloat16,
                        .offsets = {0}};
      PointBatch batch;
      for (size_t i = begin; i < end; ++i) {
        batch.ids.emplace_back(uint64_t{i});
        words.offsets.push_back(set_.offsets[i + 1] - set_.offsets[begin]);
      }
      words.data = {reinterpret_cast<const char*>(set_.tokens.data()) +
                        set_.offsets[begin] * token_bytes,
                    words.offsets.back() * token_bytes};
      batch.multi = {words};
      const WriteOutcome outcome = collection_->Upsert(batch);
      ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    }
  }
  void Delete(size_t first, size_t last, size_t step) {
    std::vector<PointId> ids;
    for (size_t i = first; i < last; i += step) ids.emplace_back(uint64_t{i});
    ASSERT_TRUE(collection_->Delete(ids).status.ok());
  }
  void Optimize() {
    const auto operation = collection_->Optimize(1);
    ASSERT_TRUE(operation.ok()) << operation.status();
    ASSERT_TRUE((*operation)
                    ->Wait(std::chrono::steady_clock::now() +
                           std::chrono::minutes(10)));
    const absl::Status status = (*operation)->info().status;
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(collection_->stats().segments.size(), 1u);
  }

  std::vector<SearchResult> Ask(bool exact) const {
    std::vector<Query> queries;
    for (const std::vector<float>& tokens : set_.queries) {
      MultiStage stage;
      stage.vector_name = "words";
      stage.query.tokens = tokens;
      stage.k = kTop;
      stage.params.exact = exact;
      stage.params.recall_target = 0.95;
      queries.push_back(Query{.stage = std::move(stage)});
      queries.back().explain = true;
    }
    auto results = collection_->Search(queries, {});
    EXPECT_TRUE(results.ok()) << results.status();
    return results.ok() ? *std::move(results)
                        : std::vector<SearchResult>(queries.size());
  }
  // As the set has it, but for ties.
  void ExpectThatExactIsTheTruth() const {
    const std::vector<SearchResult> exact = Ask(true);
    size_t same = 0;
    for (size_t q = 0; q < exact.size(); ++q) {
      std::vector<uint32_t> truth = set_.truth[q];
      std::erase_if(truth, [](uint32_t row) { return row >= kDocuments; });
      ASSERT_GE(truth.size(), kTop);
      truth.resize(kTop);
      for (const Hit& hit : exact[q].hits) {
        same += std::find(truth.begin(), truth.end(), hit.id.number()) !=
                truth.end();
      }
    }
    EXPECT_GE(same, kTop * exact.size() * 995 / 1'000);
  }
  // Of all queries' exact answers; ties of the last one count as found.
  void ExpectRecall(const char* when) const {
    SCOPED_TRACE(when);
    const std::vector<SearchResult> exact = Ask(true);
    const std::vector<SearchResult> results = Ask(false);
    size_t found = 0;
    uint64_t num_candidates = 0;
    for (size_t q = 0; q < exact.size(); ++q) {
      ASSERT_EQ(exact[q].hits.size(), kTop);
      ASSERT_EQ(results[q].hits.size(), kTop);
      EXPECT_TRUE(exact[q].exact);
      const float last = exact[q].hits.back().distance;
      for (const Hit& hit : results[q].hits) found += hit.distance <= last;
      for (const SegmentExplanation& segment : results[q].explanation) {
        if (segment.encoder.empty()) continue;  // it grows
        num_candidates += segment.multi.num_candidates;
      }
    }
    const auto num_queries = static_cast<double>(exact.size());
    const double recall = static_cast<double>(found) / (kTop * num_queries);
    std::printf("%-24s recall@10 %.4f  %.0f candidates\n", when, recall,
                static_cast<double>(num_candidates) / num_queries);
    EXPECT_GE(recall, kFloor);
    EXPECT_LT(static_cast<double>(num_candidates), num_queries * 1'000);
  }

  bench::MultiSet set_;
  TempFolder folder_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_F(MultiGloveTest, RecallStaysThroughUpsertsDeletesMergesAndRestarts) {
  constexpr size_t n = kDocuments;
  Upsert(0, n - n / 4);
  Optimize();
  ExpectRecall("built");
  Upsert(n - n / 4, n);
  Upsert(0, n / 20);
  ExpectThatExactIsTheTruth();
  ExpectRecall("more written");
  Delete(n / 4, n, 7);
  ExpectRecall("some deleted");
  Open();
  ExpectRecall("opened again");
  Optimize();
  ExpectRecall("merged");
  Open();
  ExpectRecall("merged, opened again");
}

}  // namespace
}  // namespace vicinal
