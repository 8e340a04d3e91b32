#include "bench/check/graph_rows.h"

#include <algorithm>
#include <string>
#include <vector>

#include "bench/ground_truth.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vicinal::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::Le;

// Answers for the first ef queries of 100, at most `limit` of them, all at
// once.
class LimitedSystem final : public AnnSystem {
 public:
  LimitedSystem(size_t limit, double seconds)
      : limit_(limit), seconds_(seconds) {}

  std::string name() const override { return "limited"; }
  absl::Status Build(const Dataset&, const BuildParams&) override {
    return absl::OkStatus();
  }
  absl::StatusOr<size_t> Search(const float*, size_t, size_t,
                                uint32_t*) override {
    return absl::UnimplementedError("at once");
  }
  bool answers_all_at_once() const override { return true; }
  absl::StatusOr<double> SearchAll(size_t, size_t ef,
                                   std::vector<uint32_t>* rows) override {
    largest_ef_ = std::max(largest_ef_, ef);
    rows->assign(100, UINT32_MAX);
    for (uint32_t q = 0; q < std::min(ef, limit_); ++q) (*rows)[q] = q;
    return seconds_;
  }
  size_t memory_bytes() const override { return 0; }
  size_t largest_ef() const { return largest_ef_; }

 private:
  const size_t limit_;
  const double seconds_;
  size_t largest_ef_ = 0;
};

class SearchRatioTest : public ::testing::Test {
 protected:
  SearchRatioTest() {
    dataset_.base = dataset_.queries = {.num_rows = 100, .dim = 1};
    for (int i = 0; i < 100; ++i) dataset_.base.values.push_back(i);
    dataset_.queries.values = dataset_.base.values;
    truth_ = ComputeTruth(dataset_.base, dataset_.queries, Metric::kL2, 1, 1);
  }

  absl::StatusOr<double> Ratio(LimitedSystem* ours, LimitedSystem* peer) {
    const RecallJudge judge(dataset_.base, dataset_.queries, Metric::kL2,
                            truth_, 1);
    GraphOptions options;
    options.passes = 1;
    options.pin_cpu = -1;
    return SearchRatio({ours, peer, "peer"}, dataset_, judge, 0.9, options,
                       &raw_);
  }

  Dataset dataset_;
  TruthTable truth_;
  nlohmann::json raw_;
};

TEST_F(SearchRatioTest, ComparesSpeedAtTheRecall) {
  LimitedSystem ours(100, 1.0);
  LimitedSystem peer(95, 3.0);
  const auto ratio = Ratio(&ours, &peer);
  ASSERT_TRUE(ratio.ok()) << ratio.status();
  EXPECT_NEAR(*ratio, 3.0, 1e-9);
  EXPECT_NEAR(raw_["peer"]["qps_at_recall"], 100 / 3.0, 1e-9);
}

TEST_F(SearchRatioTest, GivesUpWhereALargerPoolNoLongerHelps) {
  LimitedSystem ours(100, 1.0);
  LimitedSystem peer(80, 1.0);
  const auto ratio = Ratio(&ours, &peer);
  EXPECT_TRUE(absl::IsNotFound(ratio.status())) << ratio.status();
  EXPECT_THAT(std::string(ratio.status().message()),
              HasSubstr("does not reach recall 0.900: 0.8000"));
  EXPECT_THAT(peer.largest_ef(), Le(512));
}

}  // namespace
}  // namespace vicinal::bench
