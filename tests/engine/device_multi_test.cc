// Searches and reranks by token vectors with a device: the answers of the CPU's
// exact search, and calls for what pays.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/device_fixture.h"
#include "tests/engine/multi_testing.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr auto kF16 = ElementType::kFloat16;
constexpr Param kUsual = {Metric::kCosine, kF16, TokenCodecKind::kInt4};

class DeviceMultiTest : public DeviceSearchTest {
 protected:
  void CreateMulti(GpuUse gpu = GpuUse::kRequire, const Param& param = kUsual) {
    corpus_.emplace(61, param.type == ElementType::kInt8);
    Create(MultiSchema(param), gpu);
  }
  // One document in five has no tokens of "other", and the rank -1.
  void Write(uint64_t first, uint64_t count) {
    std::map<uint64_t, Document> documents;
    for (uint64_t id = first; id < first + count; ++id) {
      Document& document = documents[id];
      document = corpus_->MakeDocument();
      if (id % 5 == 0) {
        document.other.clear();
        document.rank = -1;
      }
      newest_ = document;
    }
    const MultiBatch batch(documents);
    for (const auto& collection : collections_) {
      const WriteOutcome outcome = collection->Upsert(batch.batch);
      ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    }
  }
  void DeleteAll(const std::vector<PointId>& ids) {
    for (const auto& collection : collections_) {
      ASSERT_TRUE(collection->Delete(ids).status.ok());
    }
  }
  Tokens Near(size_t num_tokens = 8) {
    return corpus_->QueryFor(newest_, num_tokens);
  }
  static Query Explained(const Tokens& tokens, size_t k, bool exact,
                         const char* name = "t") {
    Query query = TokenQuery(tokens, k, exact, name);
    query.explain = true;
    return query;
  }
  // The k nearest of the dense vector, by the tokens.
  static Query Reranked(const Tokens& tokens, size_t k) {
    RerankStage rerank;
    rerank.input =
        std::make_unique<Query>(Nearest("v", Bytes({0, 0, 0, 0}), k, true));
    rerank.vector_name = "t";
    rerank.multi = MultiVector{tokens, {}};
    rerank.k = k;
    return Query{.stage = std::move(rerank)};
  }
  // Asks "cpu" exactly and "gpu" so or, unless `exact`, approximately; what
  // "gpu" said.
  SearchResult ExpectTheSameTokens(const Tokens& tokens, size_t k,
                                   bool exact = true,
                                   const char* filter = nullptr,
                                   const char* name = "t") {
    SearchResult results[2];
    for (size_t i = 0; i < 2; ++i) {
      Query query = Explained(tokens, k, exact || i == 0, name);
      auto& stage = std::get<MultiStage>(query.stage);
      if (filter != nullptr) stage.filter = Parsed(filter);
      for (size_t t = 0;
           t < tokens.size() / (name[0] == 't' ? kDim : kOtherDim); ++t) {
        stage.query.weights.push_back(1 + 0.25f * static_cast<float>(t % 3));
      }
      results[i] = Search(*collections_[i], std::move(query));
    }
    EXPECT_EQ(HitsOf(results[0]), HitsOf(results[1]));
    EXPECT_FALSE(results[0].hits.empty());
    // Segments that grow beside may be searched by codes.
    const auto grows = [](const SegmentExplanation& s) {
      return s.number == 0;
    };
    EXPECT_EQ(results[1].exact,
              exact || std::none_of(results[1].explanation.begin(),
                                    results[1].explanation.end(), grows));
    return std::move(results[1]);
  }
  // By number of the segment, of sealed ones.
  static std::vector<SearchPlan> PlansOf(const SearchResult& result) {
    std::vector<SearchPlan> plans;
    for (const SegmentExplanation& about : result.explanation) {
      if (about.number != 0) plans.push_back(about.plan);
    }
    return plans;
  }
  SearchPlan PlanOf(Query query) {
    const SearchResult result = Search(gpu(), std::move(query));
    return result.explanation.empty() ? SearchPlan::kNone
                                      : result.explanation[0].plan;
  }

  std::optional<Corpus> corpus_;
  Document newest_;
};

class DeviceMultiAnswersTest : public DeviceMultiTest,
                               public ::testing::WithParamInterface<Param> {};

TEST_P(DeviceMultiAnswersTest, AreThoseOfTheCpu) {
  CreateMulti(GpuUse::kRequire, GetParam());
  Write(0, 500);
  Seal();
  const auto expect_the_same = [&] {
    const SearchResult all = ExpectTheSameTokens(Near(), 10);
    ASSERT_FALSE(all.explanation.empty());
    EXPECT_EQ(all.explanation[0].plan, SearchPlan::kDevice);
    EXPECT_EQ(all.explanation[0].device.name, "test:0");
    EXPECT_EQ(all.explanation[0].device.batch_queries, 1u);
    ExpectTheSameTokens(Near(1), 1);
    ExpectTheSameTokens(Near(40), kMaxBackendK);
    ExpectTheSameTokens(Near(), 10, false);
    ExpectTheSameTokens(Near(), 20, true, "rank >= 50");
    ExpectTheSameTokens(Near(), 20, false, "rank = -1");
    const Tokens other = corpus_->Gaussians(3 * kOtherDim, 1);
    ExpectTheSameTokens(other, 10, true, nullptr, "other");
    ExpectTheSameTokens(other, 400, false, "rank < 50", "other");
    Query nothing = Explained(other, 10, true, "other");
    std::get<MultiStage>(nothing.stage).filter = Parsed("rank = -1");
    EXPECT_THAT(Search(gpu(), std::move(nothing)).hits, IsEmpty());
    const Tokens tokens = Near();
    EXPECT_EQ(HitsOf(Search(gpu(), Reranked(tokens, 200))),
              HitsOf(Search(cpu(), Reranked(tokens, 200))));
  };
  expect_the_same();
  Delete(100, 70);
  Write(150, 100);
  Write(700, 50);
  expect_the_same();
  Open();
  expect_the_same();
  Seal(2);
  expect_the_same();
}

INSTANTIATE_TEST_SUITE_P(
    All, DeviceMultiAnswersTest,
    ::testing::Values(kUsual,
                      Param{Metric::kInnerProduct, kF16, TokenCodecKind::kInt8},
                      Param{Metric::kCosine, ElementType::kFloat32,
                            TokenCodecKind::kInt4},
                      Param{Metric::kInnerProduct, ElementType::kBfloat16,
                            TokenCodecKind::kInt4}));

// Whether a device compares them or not.
TEST_F(DeviceMultiTest, TokensOfBytesHaveTheCpusAnswer) {
  CreateMulti(GpuUse::kRequire,
              {Metric::kCosine, ElementType::kInt8, TokenCodecKind::kInt8});
  Write(0, 300);
  Seal();
  ExpectTheSameTokens(Near(), 10);
  EXPECT_EQ(device_.num_loads(), 1);
}

TEST_F(DeviceMultiTest, WhatIsRefusedIsNotTriedAgain) {
  CreateMulti();
  Write(0, 300);
  Seal();
  device_.FailLoads(BackendStatus::kUnsupported, 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(PlansOf(ExpectTheSameTokens(Near(), 10)),
                ElementsAre(SearchPlan::kScan));
  }
  EXPECT_EQ(device_.num_loads(), 1);
  EXPECT_EQ(stats().refusals.num_unsupported, 1u);
}

TEST_F(DeviceMultiTest, WhatSaysHowItIsSearchedIsTheCpus) {
  CreateMulti();
  Write(0, 300);
  Seal();
  const Tokens tokens = Near();
  const auto plan = [&](bool exact, auto change) {
    Query query = Explained(tokens, 10, exact);
    change(&std::get<MultiStage>(query.stage).params);
    return PlanOf(std::move(query));
  };
  EXPECT_EQ(plan(false, [](auto* p) { p->candidates = 50; }),
            SearchPlan::kCodes);
  EXPECT_EQ(plan(false, [](auto* p) { p->exact_candidates = 50; }),
            SearchPlan::kCodes);
  EXPECT_EQ(plan(false, [](auto* p) { p->rescore = 50; }), SearchPlan::kCodes);
  EXPECT_EQ(plan(false, [](auto* p) { p->force = ForcedPlan::kIndex; }),
            SearchPlan::kCodes);
  EXPECT_EQ(device_.num_loads(), 0);
  EXPECT_EQ(plan(false, [](auto* p) { p->force = ForcedPlan::kScan; }),
            SearchPlan::kDevice);
  EXPECT_EQ(plan(false, [](auto* p) { p->recall_target = 1; }),
            SearchPlan::kDevice);
  EXPECT_EQ(plan(true, [](auto* p) { p->candidates = 50; }),
            SearchPlan::kDevice);
}

TEST_F(DeviceMultiTest, KAboveTheDevicesLimitIsTheCpus) {
  CreateMulti();
  Write(0, kMaxBackendK + 100);
  Seal();
  EXPECT_THAT(PlansOf(ExpectTheSameTokens(Near(), kMaxBackendK)),
              ElementsAre(SearchPlan::kDevice));
  EXPECT_THAT(PlansOf(ExpectTheSameTokens(Near(), kMaxBackendK + 1)),
              ElementsAre(SearchPlan::kScan));
  // Nor has it room for those that are dead beside.
  Delete(0, 20);
  EXPECT_THAT(PlansOf(ExpectTheSameTokens(Near(), kMaxBackendK)),
              ElementsAre(SearchPlan::kDevice));
}

TEST_F(DeviceMultiTest, TheDeadAreLeftOut) {
  constexpr size_t kNum = 400;
  CreateMulti();
  Write(0, kNum);
  Seal();
  const Tokens tokens = Near();
  const SearchResult best = ExpectTheSameTokens(tokens, 80);
  const auto kill = [&](size_t begin, size_t end) {
    std::vector<PointId> ids;
    for (size_t i = begin; i < end; ++i) ids.push_back(best.hits[i].id);
    DeleteAll(ids);
  };
  // What one call and what two calls compared; the second has a list.
  const auto expect = [&](int num_calls, uint64_t num_exact) {
    const int before = device_.num_searches();
    const SearchResult result = ExpectTheSameTokens(tokens, 10);
    EXPECT_EQ(device_.num_searches() - before, num_calls);
    ASSERT_EQ(result.explanation.size(), 1u);
    EXPECT_EQ(result.explanation[0].plan, SearchPlan::kDevice);
    EXPECT_EQ(result.explanation[0].multi.num_exact, num_exact);
  };
  kill(0, 5);
  expect(1, kNum);
  kill(5, 60);
  expect(2, kNum - 60);
  // As many as there are.
  EXPECT_EQ(ExpectTheSameTokens(tokens, kNum).hits.size(), kNum - 60);
}

TEST_F(DeviceMultiTest, FiltersThatMostPassNeedNoList) {
  constexpr size_t kNum = 500;
  CreateMulti();
  Write(0, kNum);
  Seal();
  const auto num_exact = [&](const char* filter) {
    const int before = device_.num_searches();
    const SearchResult result = ExpectTheSameTokens(Near(), 5, true, filter);
    EXPECT_EQ(device_.num_searches() - before, 1);
    return result.explanation.at(0).multi.num_exact;
  };
  EXPECT_EQ(num_exact("rank >= 0"), kNum);
  EXPECT_EQ(num_exact("rank = -1 and rank < 3"), kNum / 5);
}

TEST_F(DeviceMultiTest, SegmentsAreAskedOneByOne) {
  CreateMulti();
  Write(0, 600);
  Seal();
  Write(600, 200);
  Seal(2);
  Write(800, 30);  // grows beside
  const SearchResult result = ExpectTheSameTokens(Near(), 100);
  EXPECT_THAT(PlansOf(result),
              ElementsAre(SearchPlan::kDevice, SearchPlan::kDevice));
  EXPECT_EQ(result.explanation.size(), 3u);
  EXPECT_EQ(stats().residency.num_segments, 2u);
  EXPECT_EQ(stats().batches.num_batches, 2u);
  // One answers before the device is lost, the other one does not.
  device_.FailSearches(BackendStatus::kDeviceLost, 1);
  EXPECT_THAT(PlansOf(ExpectTheSameTokens(Near(), 100)),
              UnorderedElementsAre(SearchPlan::kDevice, SearchPlan::kScan));
  EXPECT_THAT(PlansOf(ExpectTheSameTokens(Near(), 100)),
              ElementsAre(SearchPlan::kScan, SearchPlan::kScan));
  EXPECT_THAT(warnings(), ElementsAre(HasSubstr("test:0 is lost")));
  EXPECT_EQ(stats().residency.num_segments, 0u);
  WaitForCopies(0);
}

TEST_F(DeviceMultiTest, SegmentsLieOnBothDevices) {
  options_.devices = {&device_, &other_};
  CreateMulti();
  Write(0, 600);
  Seal();
  Write(600, 200);
  Seal(2);
  const auto names = [&] {
    std::vector<std::string> out;
    for (const auto& about : ExpectTheSameTokens(Near(), 100).explanation) {
      out.push_back(about.device.name);
    }
    return out;
  };
  EXPECT_THAT(names(), UnorderedElementsAre("test:0", "test:1"));
  const Tokens tokens = Near();
  EXPECT_EQ(HitsOf(Search(gpu(), Reranked(tokens, 500))),
            HitsOf(Search(cpu(), Reranked(tokens, 500))));
  // What a lost device had goes to the other.
  device_.FailSearches(BackendStatus::kDeviceLost);
  names();
  EXPECT_THAT(names(), ElementsAre("test:1", "test:1"));
  EXPECT_EQ(HitsOf(Search(gpu(), Reranked(tokens, 500))),
            HitsOf(Search(cpu(), Reranked(tokens, 500))));
}

class DeviceMultiFailureTest
    : public DeviceMultiTest,
      public ::testing::WithParamInterface<std::tuple<BackendStatus, int>> {};

TEST_P(DeviceMultiFailureTest, LeavesTheAnswerToTheCpu) {
  const auto [status, first] = GetParam();
  CreateMulti();
  Write(0, 1200);
  Seal();
  Delete(0, 10);
  ExpectTheSameTokens(Near(), 10);
  device_.FailSearches(status, first);
  for (int i = 0; i < 4; ++i) {
    EXPECT_THAT(
        PlansOf(ExpectTheSameTokens(Near(), 10)),
        ElementsAre(i < first ? SearchPlan::kDevice : SearchPlan::kScan));
  }
  ExpectTheSameTokens(Near(), 10, true, "rank < 30");
  // Approximately, by the CPU, and so with its flag.
  Query query = Explained(Near(), 10, false);
  EXPECT_FALSE(Search(gpu(), std::move(query)).exact);
  const Tokens tokens = Near();
  EXPECT_EQ(HitsOf(Search(gpu(), Reranked(tokens, 1100))),
            HitsOf(Search(cpu(), Reranked(tokens, 1100))));
}

INSTANTIATE_TEST_SUITE_P(
    All, DeviceMultiFailureTest,
    ::testing::Combine(::testing::Values(BackendStatus::kUnsupported,
                                         BackendStatus::kNoMemory,
                                         BackendStatus::kDeviceLost),
                       ::testing::Values(0, 2)));

TEST_F(DeviceMultiTest, FieldsOfBothKindsTakeTurnsWhereThereIsRoomForOne) {
  device_.HoldAtMost(1);
  CreateMulti();
  Write(0, 500);
  Seal();
  for (int round = 0; round < 3; ++round) {
    EXPECT_THAT(PlansOf(ExpectTheSameTokens(Near(), 10)),
                ElementsAre(SearchPlan::kDevice));
    EXPECT_THAT(PlansOf(ExpectTheSameTokens(corpus_->Gaussians(kOtherDim, 1),
                                            10, true, nullptr, "other")),
                ElementsAre(SearchPlan::kDevice));
    EXPECT_EQ(ExpectTheSame(Bytes({1, 0, 0, 0}), 10).plan, SearchPlan::kDevice);
  }
  EXPECT_EQ(stats().residency.num_loads, 9u);
  EXPECT_EQ(stats().residency.num_evictions, 8u);
  EXPECT_EQ(device_.num_copies(), 1u);
}

// An approximate search of them takes the CPU longer than a call.
constexpr size_t kMany = 4000;

TEST_F(DeviceMultiTest, AutoLoadsWhatPaysAndAsksTheCpuMeanwhile) {
  CreateMulti(GpuUse::kAuto);
  Write(0, kMany);
  Seal();
  const Tokens tokens = Near(32);
  device_.BlockLoads();
  EXPECT_EQ(PlanOf(Explained(tokens, 10, false)), SearchPlan::kCodes);
  EXPECT_EQ(PlanOf(Explained(tokens, 10, true)), SearchPlan::kScan);
  device_.Unblock();
  WaitForResident(1);
  EXPECT_THAT(PlansOf(ExpectTheSameTokens(tokens, 10, false)),
              ElementsAre(SearchPlan::kDevice));
  // Few documents are compared faster than the device is called.
  EXPECT_THAT(PlansOf(ExpectTheSameTokens(tokens, 10, true, "rank = 7")),
              ElementsAre(SearchPlan::kScan));
  EXPECT_EQ(device_.num_loads(), 1);
}

TEST_F(DeviceMultiTest, AutoLeavesSmallSegmentsToTheCpu) {
  CreateMulti(GpuUse::kAuto);
  Write(0, 300);
  Seal();
  EXPECT_EQ(PlanOf(Explained(Near(), 10, true)), SearchPlan::kScan);
  EXPECT_EQ(device_.num_loads(), 0);
}

TEST_F(DeviceMultiTest, NeverKeepsTokensFromIt) {
  CreateMulti(GpuUse::kNever);
  Write(0, kMany);
  Seal();
  const Tokens tokens = Near(32);
  EXPECT_EQ(PlanOf(Explained(tokens, 10, true)), SearchPlan::kScan);
  Search(gpu(), Reranked(tokens, 1000));
  EXPECT_EQ(device_.num_loads(), 0);
  ASSERT_TRUE(
      database_->UpdateIndexParams("gpu", {}, std::nullopt, GpuUse::kRequire)
          .ok());
  EXPECT_EQ(PlanOf(Explained(tokens, 10, true)), SearchPlan::kDevice);
}

TEST_F(DeviceMultiTest, ReranksAskWhatIsThere) {
  CreateMulti(GpuUse::kAuto);
  Write(0, kMany);
  Seal();
  Write(kMany, 50);  // grows beside
  const Tokens tokens = Near(64);
  const auto rerank = [&](size_t k) {
    const int before = device_.num_searches();
    EXPECT_EQ(HitsOf(Search(gpu(), Reranked(tokens, k))),
              HitsOf(Search(cpu(), Reranked(tokens, k))));
    return device_.num_searches() - before;
  };
  EXPECT_EQ(rerank(1000), 0);
  EXPECT_EQ(device_.num_loads(), 0);  // not for a rerank
  Search(gpu(), Explained(tokens, 10, true));
  WaitForResident(1);
  EXPECT_EQ(rerank(1000), 1);
  EXPECT_EQ(rerank(2500), 3);  // lists of kMaxBackendK
  EXPECT_EQ(rerank(20), 0);
  EXPECT_EQ(stats().batches.num_queries, 4u);
}

TEST_F(DeviceMultiTest, ReranksOfRequireLoadIt) {
  CreateMulti();
  Write(0, 200);
  Seal();
  Delete(0, 20);
  const Tokens tokens = Near();
  EXPECT_EQ(HitsOf(Search(gpu(), Reranked(tokens, 30))),
            HitsOf(Search(cpu(), Reranked(tokens, 30))));
  // Of the dense vector and of the tokens.
  EXPECT_EQ(device_.num_loads(), 2);
  EXPECT_EQ(device_.num_searches(), 2);
}

TEST_F(DeviceMultiTest, QueriesOfManyThreadsShareCalls) {
  constexpr size_t kThreads = 40;
  CreateMulti();
  Write(0, 500);
  Seal();
  ExpectTheSameTokens(Near(), 10);  // loads it
  const auto filter = Parsed("rank < 60");
  const auto few = Parsed("rank = -1 or rank = 7");
  std::vector<Tokens> tokens;
  for (size_t i = 0; i < kThreads; ++i) tokens.push_back(Near(1 + i));
  const auto ask = [&](const Collection& collection, size_t i) {
    Query query = Explained(tokens[i], 5 + i % 7, true);
    auto& stage = std::get<MultiStage>(query.stage);
    stage.query.weights.assign(1 + i, 1 + 0.5f * static_cast<float>(i % 2));
    if (i % 3 > 0) stage.filter = i % 3 == 1 ? filter : few;
    return Search(collection, std::move(query));
  };
  const int before = device_.num_searches();
  device_.BlockSearches();
  std::vector<std::future<SearchResult>> found;
  for (size_t i = 0; i < kThreads; ++i) {
    found.push_back(
        std::async(std::launch::async, [&, i] { return ask(gpu(), i); }));
  }
  WaitUntil([&] { return stats().batches.num_waiting == kThreads; });
  device_.Unblock();
  for (size_t i = 0; i < kThreads; ++i) {
    EXPECT_EQ(HitsOf(found[i].get()), HitsOf(ask(cpu(), i))) << i;
  }
  // The first; those of all documents, and of most; those of few.
  EXPECT_EQ(device_.num_searches() - before, 3);
}

TEST_F(DeviceMultiTest, WhoWaitsForTheDeviceMayGiveUp) {
  CreateMulti();
  Write(0, 300);
  Seal();
  const Tokens tokens = Near();
  std::atomic<bool> cancelled = false;
  StopCondition stop;
  stop.cancelled = [&] { return cancelled.load(); };
  const auto start = [&](const StopCondition& condition, bool reranks) {
    return std::async(std::launch::async, [&, condition, reranks] {
      std::vector<Query> queries;
      queries.push_back(reranks ? Reranked(tokens, 50)
                                : Explained(tokens, 10, true));
      return gpu().Search(queries, condition).status();
    });
  };
  ExpectTheSameTokens(tokens, 10);
  device_.BlockSearches();
  auto first = start({}, false);
  device_.WaitForBlocked(1);
  auto second = start(stop, false);
  auto third = start(stop, true);
  cancelled = true;
  EXPECT_TRUE(absl::IsCancelled(second.get()));
  EXPECT_TRUE(absl::IsCancelled(third.get()));
  device_.Unblock();
  EXPECT_TRUE(first.get().ok());
  ExpectTheSameTokens(tokens, 10);
}

}  // namespace
}  // namespace vicinal
