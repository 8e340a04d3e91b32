#include "client/relevance.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace vicinal::client {
namespace {

using Ids = std::vector<std::string>;

TEST(RelevanceTest, AgreesWithHand) {
  const Judgments judgments = {{"a", 2}, {"b", 1}, {"c", 0}, {"d", 1}};
  const Relevance found = Judge(Ids{"c", "a", "x", "b"}, judgments);
  const double ideal = 2 + 1 / std::log2(3) + 1 / std::log2(4);
  EXPECT_NEAR(found.ndcg_10, (2 / std::log2(3) + 1 / std::log2(5)) / ideal,
              1e-12);
  EXPECT_NEAR(found.recall_100, 2 / 3.0, 1e-12);
  EXPECT_NEAR(found.average_precision, (1 / 2.0 + 2 / 4.0) / 3, 1e-12);
  EXPECT_NEAR(found.reciprocal_rank, 1 / 2.0, 1e-12);
  EXPECT_EQ(found.success_5, 1);
}

TEST(RelevanceTest, RanksAreCutWhereTheMeasuresSay) {
  Ids ranked;
  for (int i = 0; i < 150; ++i) ranked.push_back("x" + std::to_string(i));
  ranked[10] = "a";
  ranked[100] = "b";
  const Relevance found = Judge(ranked, {{"a", 1}, {"b", 1}});
  EXPECT_EQ(found.ndcg_10, 0);
  EXPECT_EQ(found.reciprocal_rank, 0);
  EXPECT_EQ(found.success_5, 0);
  EXPECT_EQ(found.recall_100, 0.5);
  EXPECT_NEAR(found.average_precision, (1 / 11.0 + 2 / 101.0) / 2, 1e-12);
}

TEST(RelevanceTest, ThePerfectOrderIsOne) {
  const Relevance found = Judge(Ids{"a", "b"}, {{"a", 3}, {"b", 1}, {"c", 0}});
  EXPECT_DOUBLE_EQ(found.ndcg_10, 1);
  EXPECT_DOUBLE_EQ(found.average_precision, 1);
  EXPECT_DOUBLE_EQ(Mean(std::vector<Relevance>{found, Relevance{}}).ndcg_10,
                   0.5);
}

TEST(RelevanceTest, ReadsJudgmentsOfBothForms) {
  const auto beir = ParseQrels("query-id\tcorpus-id\tscore\nq 1\td\t2\n\n");
  ASSERT_TRUE(beir.ok()) << beir.status();
  EXPECT_EQ(beir->at("q 1").at("d"), 2);
  const auto trec = ParseQrels("q1 0 d1 1\nq1 0 d2 -1\r\n");
  ASSERT_TRUE(trec.ok()) << trec.status();
  EXPECT_EQ(trec->at("q1").at("d2"), -1);
  for (const char* text : {"q\td\t1\nq\td\n", "a b c 1\nq 0 d x\n"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseQrels(text).status())) << text;
  }
}

}  // namespace
}  // namespace vicinal::client
