#include "bench/check/report.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vicinal::bench {
namespace {

using ::testing::HasSubstr;

CheckRow Row(Bound bound, double limit, std::optional<double> measured) {
  return {.key = "row",
          .what = "a row",
          .bound = bound,
          .limit = limit,
          .measured = measured,
          .raw = {{"qps", 12}}};
}

TEST(CheckRowTest, IsOkOnTheRightSideOfItsLimit) {
  EXPECT_TRUE(Row(Bound::kAtLeast, 1.4, 1.4).ok());
  EXPECT_FALSE(Row(Bound::kAtLeast, 1.4, 1.39).ok());
  EXPECT_TRUE(Row(Bound::kAtMost, 0.8, 0.8).ok());
  EXPECT_FALSE(Row(Bound::kAtMost, 0.8, 0.81).ok());
}

TEST(CheckRowTest, FallsShortWhenNotMeasured) {
  EXPECT_FALSE(Row(Bound::kAtLeast, 0, std::nullopt).ok());
  EXPECT_FALSE(Row(Bound::kAtMost, 9, std::nullopt).ok());
}

TEST(CheckReportTest, IsOkWhenEveryRowIs) {
  CheckReport report;
  EXPECT_FALSE(report.ok()) << "a check that measured nothing";
  report.Add(Row(Bound::kAtLeast, 1, 2));
  EXPECT_TRUE(report.ok());
  report.Add(Row(Bound::kAtMost, 1, 2));
  EXPECT_FALSE(report.ok());
}

TEST(CheckReportTest, PrintsAskedAndMeasured) {
  CheckReport report;
  report.Add(Row(Bound::kAtLeast, 1.4, 1.826));
  report.Add(Row(Bound::kAtMost, 0.8, std::nullopt));
  EXPECT_THAT(report.Table(), HasSubstr("asked"));
  EXPECT_THAT(report.Table(), HasSubstr(">= 1.40x |        1.83x | ok"));
  EXPECT_THAT(report.Table(), HasSubstr("<= 0.80x | not measured | short"));
}

TEST(CheckReportTest, WritesWhatWasMeasuredAndWhyNot) {
  CheckReport report;
  report.Add(Row(Bound::kAtLeast, 1.4, 1.5));
  CheckRow missing = Row(Bound::kAtLeast, 1.4, std::nullopt);
  missing.why_not = "no data";
  report.Add(missing);
  const nlohmann::json json = report.Json();
  EXPECT_EQ(json[0]["measured"], 1.5);
  EXPECT_EQ(json[0]["raw"]["qps"], 12);
  EXPECT_EQ(json[0]["ok"], true);
  EXPECT_EQ(json[1]["measured"], nullptr);
  EXPECT_EQ(json[1]["why_not"], "no data");
  EXPECT_EQ(json[1]["ok"], false);
}

}  // namespace
}  // namespace vicinal::bench
