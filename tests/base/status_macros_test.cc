// Early returns: of which Status, from what, and how often evaluated.
#include "src/base/status_macros.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "tests/client/matchers.h"

namespace vicinal {
namespace {

using client::Fails;
using client::IsOk;

absl::Status Broken() { return absl::DataLossError("broken"); }

TEST(ReturnIfErrorTest, GoesOnAfterOkAndReturnsAnythingElse) {
  bool went_on = false;
  const auto run = [&](const absl::Status& status) -> absl::Status {
    went_on = false;
    VICINAL_RETURN_IF_ERROR(status);
    went_on = true;
    return absl::OkStatus();
  };
  EXPECT_THAT(run(absl::OkStatus()), IsOk());
  EXPECT_TRUE(went_on);
  EXPECT_THAT(run(Broken()), Fails(absl::StatusCode::kDataLoss, "broken"));
  EXPECT_FALSE(went_on);
}

TEST(ReturnIfErrorTest, EvaluatesOnce) {
  int num_calls = 0;
  const auto count = [&num_calls] {
    ++num_calls;
    return Broken();
  };
  const auto run = [&]() -> absl::Status {
    VICINAL_RETURN_IF_ERROR(count());
    return absl::OkStatus();
  };
  EXPECT_FALSE(run().ok());
  EXPECT_EQ(num_calls, 1);
}

TEST(ReturnIfErrorTest, ReturnsFromAFunctionOfAStatusOr) {
  const auto run = [](const absl::Status& status) -> absl::StatusOr<int> {
    VICINAL_RETURN_IF_ERROR(status);
    return 7;
  };
  EXPECT_EQ(*run(absl::OkStatus()), 7);
  EXPECT_THAT(run(Broken()), Fails(absl::StatusCode::kDataLoss, "broken"));
}

TEST(ReturnIfErrorTest, IsOneStatementBeforeElse) {
  const auto run = [](bool fail) -> absl::Status {
    if (fail)
      VICINAL_RETURN_IF_ERROR(Broken());
    else
      return absl::NotFoundError("else");
    return absl::OkStatus();
  };
  EXPECT_THAT(run(true), Fails(absl::StatusCode::kDataLoss, "broken"));
  EXPECT_THAT(run(false), Fails(absl::StatusCode::kNotFound, "else"));
}

TEST(AssignOrReturnTest, MovesTheValueOutOrReturnsTheStatus) {
  using Owned = std::unique_ptr<std::string>;
  const auto run = [](absl::StatusOr<Owned> value) -> absl::StatusOr<Owned> {
    VICINAL_ASSIGN_OR_RETURN(Owned owned, std::move(value));
    *owned += "!";
    return owned;
  };
  const auto result = run(std::make_unique<std::string>("value"));
  ASSERT_THAT(result, IsOk());
  EXPECT_EQ(**result, "value!");
  EXPECT_THAT(run(Broken()), Fails(absl::StatusCode::kDataLoss, "broken"));
}

TEST(AssignOrReturnTest, SetsWhatExistsAndLeavesItAloneOnError) {
  int target = 1;
  const auto run = [&target](absl::StatusOr<int> value) -> absl::Status {
    VICINAL_ASSIGN_OR_RETURN(target, value);
    return absl::OkStatus();
  };
  EXPECT_THAT(run(2), IsOk());
  EXPECT_EQ(target, 2);
  EXPECT_FALSE(run(Broken()).ok());
  EXPECT_EQ(target, 2);
}

TEST(AssignOrReturnTest, IsUsedTwiceInAScopeAndEvaluatesOnce) {
  int num_calls = 0;
  const auto next = [&num_calls]() -> absl::StatusOr<int> {
    return ++num_calls;
  };
  const auto run = [&]() -> absl::StatusOr<int> {
    VICINAL_ASSIGN_OR_RETURN(const int a, next());
    VICINAL_ASSIGN_OR_RETURN(const int b, next());
    return 10 * a + b;
  };
  EXPECT_EQ(*run(), 12);
  EXPECT_EQ(num_calls, 2);
}

}  // namespace
}  // namespace vicinal
