// Multi-vectors on a GPU, over the wire: the CPU's backend stands for one.
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/distance/gpu/backend.h"
#include "tests/server/multi_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class GpuMultiTest : public MultiFixture {
 protected:
  GpuMultiTest() : gpu_(MakeCpuBackend(1)) {
    database_options_.devices = {gpu_.get()};
  }
  void SetUp() override {
    MultiFixture::SetUp();
    v1::OptimizeCollectionRequest optimize;
    optimize.set_name("multi");
    v1::OptimizeCollectionResponse started;
    Call call;
    ASSERT_TRUE(
        collections_->OptimizeCollection(&call, optimize, &started).ok());
    v1::WaitOperationRequest wait;
    wait.set_name(started.operation());
    v1::WaitOperationResponse done;
    Call wait_call(std::chrono::seconds(60));
    ASSERT_TRUE(operations_->WaitOperation(&wait_call, wait, &done).ok());
    ASSERT_EQ(done.operation().error().code(), 0);
  }
  void Use(v1::GpuUse gpu) {
    v1::UpdateCollectionRequest request;
    request.mutable_collection()->set_name("multi");
    request.mutable_collection()->set_gpu(gpu);
    request.mutable_update_mask()->add_paths("gpu");
    v1::UpdateCollectionResponse reply;
    Call call;
    ASSERT_TRUE(collections_->UpdateCollection(&call, request, &reply).ok());
  }
  v1::SearchResponse Ask(const char* name, const Tokens& tokens) {
    v1::SearchResponse reply;
    const grpc::Status status = Search(
        [&](v1::SearchRequest* request) {
          request->set_explain(true);
          auto* multi = request->mutable_query()->mutable_retrieve_multi();
          multi->set_vector(name);
          multi->set_k(10);
          SetQuery(tokens, multi->mutable_query());
        },
        &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(reply.profile().segments_size(), 1);
    return reply;
  }
  // The points of `tok` by `cos`.
  v1::SearchResponse AskReranked() {
    v1::SearchResponse reply;
    const grpc::Status status = Search(
        [&](v1::SearchRequest* request) {
          auto* rerank = request->mutable_query()->mutable_rerank();
          auto* input = rerank->mutable_input()->mutable_retrieve_multi();
          input->set_vector("tok");
          input->set_k(10);
          SetQuery({{1, 0}}, input->mutable_query());
          rerank->set_vector("cos");
          rerank->set_k(10);
          SetQuery({{0, 1, 1}}, rerank->mutable_multi());
        },
        &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
  }
  v1::GpuStats Stats() {
    v1::GetServerStatsResponse reply;
    Call call;
    EXPECT_TRUE(admin_->GetServerStats(&call, {}, &reply).ok());
    EXPECT_EQ(reply.gpus_size(), 1);
    return reply.gpus(0);
  }

  const std::unique_ptr<DistanceBackend> gpu_;
};

TEST_F(GpuMultiTest, SearchesAndReranksAreItsAndTheSame) {
  Use(v1::GPU_USE_REQUIRE);
  const v1::SearchResponse found = Ask("tok", {{1, 0}, {0, 1}});
  EXPECT_THAT(Ids(found), ElementsAre(1, 2, 3));
  EXPECT_TRUE(found.result().exact());
  const v1::SegmentProfile& segment = found.profile().segments(0);
  EXPECT_EQ(segment.plan(), v1::SEARCH_PLAN_DEVICE);
  EXPECT_EQ(segment.device(), "cpu");
  EXPECT_EQ(segment.device_queries(), 1u);
  EXPECT_EQ(segment.num_exact(), 3u);
  EXPECT_EQ(segment.num_candidates(), 0u);
  const v1::SearchResponse cosine = Ask("cos", {{0, 1, 0.5f}});
  EXPECT_THAT(Ids(cosine), ElementsAre(2, 1));
  EXPECT_EQ(cosine.profile().segments(0).plan(), v1::SEARCH_PLAN_DEVICE);
  const v1::SearchResponse reranked = AskReranked();
  EXPECT_THAT(Ids(reranked), ElementsAre(2, 1));
  EXPECT_EQ(Stats().resident_segments(), 2u);
  EXPECT_EQ(Stats().loads(), 2u);
  EXPECT_EQ(Stats().batches(), 4u);
  EXPECT_EQ(Stats().batch_queries(), 4u);

  Use(v1::GPU_USE_NEVER);
  const v1::SearchResponse other = Ask("tok", {{1, 0}, {0, 1}});
  EXPECT_EQ(other.result().ids().SerializeAsString(),
            found.result().ids().SerializeAsString());
  EXPECT_EQ(other.profile().segments(0).plan(), v1::SEARCH_PLAN_CODES);
  EXPECT_THAT(other.profile().segments(0).device(), IsEmpty());
  EXPECT_EQ(AskReranked().result().scores().size(), 2);
  EXPECT_THAT(
      AskReranked().result().scores(),
      ElementsAre(reranked.result().scores(0), reranked.result().scores(1)));
  EXPECT_EQ(Stats().batches(), 4u);
}

}  // namespace
}  // namespace vicinal::testing
