#include "bench/curve.h"

#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vicinal::bench {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::Optional;

CurvePoint Point(size_t ef, double recall, double qps) {
  return {.ef = ef, .recall = recall, .qps = qps};
}

TEST(ParetoFrontTest, DropsPointsThatAnotherBeatsInBoth) {
  const std::vector<CurvePoint> front = ParetoFront(
      {Point(20, 0.95, 900), Point(10, 0.90, 1'000), Point(15, 0.89, 950),
       Point(40, 0.99, 500), Point(30, 0.97, 400)});
  EXPECT_THAT(
      front, ElementsAre(Field(&CurvePoint::ef, 10), Field(&CurvePoint::ef, 20),
                         Field(&CurvePoint::ef, 40)));
}

TEST(ParetoFrontTest, KeepsOneOfEqualPoints) {
  EXPECT_EQ(ParetoFront({Point(10, 0.9, 100), Point(11, 0.9, 100)}).size(), 1);
}

TEST(ParetoFrontTest, IsEmptyForNoPoints) {
  EXPECT_THAT(ParetoFront({}), IsEmpty());
}

TEST(QpsAtRecallTest, IsTheGeometricMeanHalfwayBetweenTwoPoints) {
  const std::vector<CurvePoint> points = {Point(10, 0.90, 4'000),
                                          Point(20, 0.94, 1'000)};
  EXPECT_THAT(QpsAtRecall(points, 0.92), Optional(DoubleNear(2'000, 1e-6)));
}

TEST(QpsAtRecallTest, GivesMeasuredPointsThemselves) {
  const std::vector<CurvePoint> points = {
      Point(10, 0.90, 4'000), Point(20, 0.94, 1'000), Point(40, 0.99, 300)};
  EXPECT_THAT(QpsAtRecall(points, 0.94), Optional(DoubleNear(1'000, 1e-6)));
  EXPECT_THAT(QpsAtRecall(points, 0.99), Optional(DoubleNear(300, 1e-6)));
}

TEST(QpsAtRecallTest, DoesNotDependOnTheOrderOfThePoints) {
  EXPECT_THAT(
      QpsAtRecall({Point(20, 0.94, 1'000), Point(10, 0.90, 4'000)}, 0.92),
      Optional(DoubleNear(2'000, 1e-6)));
}

TEST(QpsAtRecallTest, ClaimsNothingBeyondTheCurve) {
  const std::vector<CurvePoint> points = {Point(10, 0.90, 4'000),
                                          Point(20, 0.94, 1'000)};
  EXPECT_EQ(QpsAtRecall(points, 0.95), std::nullopt);
  EXPECT_EQ(QpsAtRecall({}, 0.5), std::nullopt);
}

TEST(QpsAtRecallTest, GivesTheFastestPointBelowTheCurve) {
  EXPECT_THAT(
      QpsAtRecall({Point(10, 0.90, 4'000), Point(20, 0.94, 1'000)}, 0.5),
      Optional(4'000));
}

TEST(PercentileTest, CountsFromTheSmallest) {
  std::vector<double> samples;
  for (int i = 100; i-- > 0;) samples.push_back(i);
  EXPECT_EQ(Percentile(&samples, 0.50), 50);
  EXPECT_EQ(Percentile(&samples, 0.99), 99);
  EXPECT_EQ(Percentile(&samples, 1.0), 99);
}

TEST(PercentileTest, IsZeroForNoSamples) {
  std::vector<double> none;
  EXPECT_EQ(Percentile(&none, 0.5), 0);
}

}  // namespace
}  // namespace vicinal::bench
