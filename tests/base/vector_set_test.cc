// Views of rows: where each begins and how long it is.
#include "src/base/vector_set.h"

#include <cstddef>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;

TEST(MatrixViewTest, RowsAreDimFloatsAStrideApart) {
  std::vector<float> floats(12);
  std::iota(floats.begin(), floats.end(), 0.0F);
  const MatrixView dense{
      .data = floats.data(), .num_rows = 4, .dim = 3, .stride = 3};
  EXPECT_THAT(dense.row(0), ElementsAre(0, 1, 2));
  EXPECT_THAT(dense.row(3), ElementsAre(9, 10, 11));
  const MatrixView padded{
      .data = floats.data() + 1, .num_rows = 2, .dim = 3, .stride = 5};
  EXPECT_THAT(padded.row(0), ElementsAre(1, 2, 3));
  EXPECT_THAT(padded.row(1), ElementsAre(6, 7, 8));
  EXPECT_EQ(padded.row(1).data(), floats.data() + 6);
}

TEST(MatrixViewTest, IsEmptyUnlessSaidOtherwise) {
  const MatrixView view;
  EXPECT_EQ(view.data, nullptr);
  EXPECT_EQ(view.num_rows, 0U);
  EXPECT_TRUE(view.row(0).empty());
}

TEST(VectorSetViewTest, RowsAreAStrideOfBytesApart) {
  const std::vector<std::byte> bytes(100);
  const VectorSetView view{.data = bytes.data() + 3,
                           .num_rows = 4,
                           .dim = 5,
                           .stride_bytes = 13,
                           .type = ElementType::kFloat16};
  for (size_t i = 0; i < view.num_rows; ++i) {
    EXPECT_EQ(view.row(i), bytes.data() + 3 + 13 * i);
  }
}

TEST(VectorSetViewTest, IsOfFloatsUnlessSaidOtherwise) {
  const VectorSetView view;
  EXPECT_EQ(view.data, nullptr);
  EXPECT_EQ(view.num_rows, 0U);
  EXPECT_EQ(view.type, ElementType::kFloat32);
}

TEST(ElementSizeTest, IsInBytes) {
  EXPECT_EQ(ElementSize(ElementType::kFloat32), 4U);
  EXPECT_EQ(ElementSize(ElementType::kFloat16), 2U);
  EXPECT_EQ(ElementSize(ElementType::kInt8), 1U);
  EXPECT_EQ(ElementSize(ElementType::kUint8), 1U);
}

}  // namespace
}  // namespace vicinal
