// Parts of the `vicinal` command that need no server: figures, tables,
// progress.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "client/cli/bench.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "tests/client/matchers.h"

namespace vicinal::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(BenchTest, CountsRecallByRankK) {
  const TrueIds truth = {{PointId(1), PointId(2), PointId(3)}, {PointId(9)}};
  EXPECT_DOUBLE_EQ(
      Recall(truth, {{PointId(2), PointId(7)}, {PointId(9), PointId(1)}}, 2),
      0.75);
  EXPECT_DOUBLE_EQ(Recall(truth, {{}, {}}, 2), 0);
}

TEST(BenchTest, TakesPercentilesByNearestRank) {
  std::vector<double> values;
  for (int i = 1; i <= 200; ++i) values.push_back(i);
  EXPECT_EQ(Percentile(values, 0.5), 100);
  EXPECT_EQ(Percentile(values, 0.99), 198);
  EXPECT_EQ(Percentile({5}, 0.99), 5);
  EXPECT_EQ(Percentile({}, 0.5), 0);
}

TEST(FilterTest, TakesParametersAsJson) {
  const auto filter = MakeFilter(
      {.text = "a = $x AND b IN $y", .parameters = {"x=null", "y=[1, \"z\"]"}});
  ASSERT_THAT(filter, client::IsOk());
  EXPECT_TRUE(filter->parameters().at("x").has_null_value());
  EXPECT_EQ(filter->parameters().at("y").list().values_size(), 2);
  for (const std::string bad : {"x", "=1", "x=", "x={}", "x=[null]"}) {
    EXPECT_THAT(MakeFilter({.text = "a = $x", .parameters = {bad}}).status(),
                client::Fails(absl::StatusCode::kInvalidArgument, "--param"));
  }
}

TEST(OutputTest, FormatsNumbersForPeople) {
  EXPECT_EQ(WithCommas(0), "0");
  EXPECT_EQ(WithCommas(999), "999");
  EXPECT_EQ(WithCommas(60'000), "60,000");
  EXPECT_EQ(WithCommas(18'446'744'073'709'551'615ULL),
            "18,446,744,073,709,551,615");
  EXPECT_EQ(HumanBytes(1'023), "1023 B");
  EXPECT_EQ(HumanBytes(188'160'000), "179.4 MiB");
  EXPECT_EQ(HumanSeconds(0.85), "850 ms");
  EXPECT_EQ(HumanSeconds(12.34), "12.3 s");
  EXPECT_EQ(HumanSeconds(250), "4 min 10 s");
  EXPECT_EQ(HumanSeconds(7'800), "2 h 10 min");
}

TEST(OutputTest, AlignsTablesByCodePoints) {
  Table table({{"name"}, {"n", Table::Align::kRight}});
  table.AddRow({"caf\xc3\xa9", "1"});
  table.AddRow({"x", "1,000"});
  EXPECT_EQ(table.Format(),
            "name      n\n"
            "caf\xc3\xa9      1\n"
            "x     1,000\n");
}

TEST(ProgressTest, PrintsALineForEachTenthWhenNotOnATerminal) {
  testing::internal::CaptureStderr();
  Progress progress("import", "points", Progress::Style::kPlain);
  for (uint64_t i = 0; i <= 1'000; ++i) {
    progress.Update(i, static_cast<double>(i) / 1'000);
  }
  progress.End();
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 10);
  EXPECT_THAT(text, AllOf(HasSubstr("50."), HasSubstr("points/s"),
                          Not(HasSubstr("\r"))));
}

TEST(ProgressTest, IsSilentWhenTold) {
  testing::internal::CaptureStderr();
  Progress progress("import", "points", Progress::Style::kOff);
  progress.Update(5, 0.5);
  progress.End();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace vicinal::cli
