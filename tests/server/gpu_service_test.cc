// What a GPU is used for, over the wire: here the CPU's backend stands for one.
#include <chrono>
#include <cmath>
#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/distance/gpu/backend.h"
#include "tests/server/server_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class GpuServiceTest : public ServerFixture {
 protected:
  // vectors: alike but for their names.
  static v1::CreateCollectionRequest NewRequest(
      v1::GpuUse gpu, const std::vector<const char*>& vectors = {"l2"}) {
    v1::CreateCollectionRequest request;
    v1::Collection* collection = request.mutable_collection();
    collection->set_name("points");
    collection->set_gpu(gpu);
    for (const char* name : vectors) {
      v1::VectorConfig* vector = collection->add_vectors();
      vector->set_name(name);
      vector->set_dim(4);
      vector->set_metric(v1::METRIC_L2);
      vector->mutable_index()->mutable_flat();
    }
    return request;
  }
  grpc::Status Create(const v1::CreateCollectionRequest& request) {
    v1::CreateCollectionResponse reply;
    Call call;
    return collections_->CreateCollection(&call, request, &reply);
  }
  v1::Collection Get() {
    v1::GetCollectionRequest request;
    request.set_name("points");
    v1::GetCollectionResponse reply;
    Call call;
    EXPECT_TRUE(collections_->GetCollection(&call, request, &reply).ok());
    return reply.collection();
  }
  grpc::Status Update(v1::GpuUse gpu) {
    v1::UpdateCollectionRequest request;
    request.mutable_collection()->set_name("points");
    request.mutable_collection()->set_gpu(gpu);
    request.mutable_update_mask()->add_paths("gpu");
    v1::UpdateCollectionResponse reply;
    Call call;
    return collections_->UpdateCollection(&call, request, &reply);
  }
  void FillAndSeal() {
    v1::UpsertRequest request;
    request.set_collection("points");
    *request.mutable_points() = Batch(0, 1000);
    auto* columns = request.mutable_points()->mutable_columns();
    const auto l2 = columns->vectors(0);
    columns->clear_vectors();
    const v1::Collection collection = Get();
    for (const v1::VectorConfig& vector : collection.vectors()) {
      *columns->add_vectors() = l2;
      columns->mutable_vectors()->rbegin()->set_name(vector.name());
    }
    v1::UpsertResponse reply;
    Call call;
    ASSERT_TRUE(points_->Upsert(&call, request, &reply).ok());
    v1::OptimizeCollectionRequest optimize;
    optimize.set_name("points");
    v1::OptimizeCollectionResponse started;
    Call optimize_call;
    ASSERT_TRUE(
        collections_->OptimizeCollection(&optimize_call, optimize, &started)
            .ok());
    v1::WaitOperationRequest wait;
    wait.set_name(started.operation());
    v1::WaitOperationResponse done;
    Call wait_call(std::chrono::seconds(60));
    ASSERT_TRUE(operations_->WaitOperation(&wait_call, wait, &done).ok());
    ASSERT_TRUE(done.operation().done());
    ASSERT_EQ(done.operation().error().code(), 0);
  }
  grpc::Status Search(const std::vector<float>& vector,
                      v1::SearchResponse* reply, const char* name = "l2") {
    v1::SearchRequest request;
    request.set_collection("points");
    request.set_explain(true);
    auto* stage = request.mutable_query()->mutable_retrieve();
    stage->set_vector(name);
    stage->set_k(3);
    stage->mutable_quality()->set_exact(true);
    stage->mutable_query()->mutable_values()->Assign(vector.begin(),
                                                     vector.end());
    Call call;
    return search_->Search(&call, request, reply);
  }
  v1::GetServerStatsResponse Stats() {
    v1::GetServerStatsResponse reply;
    Call call;
    EXPECT_TRUE(admin_->GetServerStats(&call, {}, &reply).ok());
    return reply;
  }
};

TEST_F(GpuServiceTest, RequireIsRefusedWithoutOne) {
  v1::CreateCollectionRequest request = NewRequest(v1::GPU_USE_REQUIRE);
  for (const bool only_checked : {true, false}) {
    request.set_validate_only(only_checked);
    const grpc::Status status = Create(request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_EQ(DetailsOf(status).reason, "GPU_MISSING");
    EXPECT_THAT(status.error_message(),
                HasSubstr("start vicinald with --gpu require"));
  }
  request = NewRequest(static_cast<v1::GpuUse>(9));
  EXPECT_THAT(DetailsOf(Create(request)).fields, ElementsAre("collection.gpu"));
  ASSERT_TRUE(Create(NewRequest(v1::GPU_USE_NEVER)).ok());
  EXPECT_EQ(Get().gpu(), v1::GPU_USE_NEVER);
  EXPECT_EQ(DetailsOf(Update(v1::GPU_USE_REQUIRE)).reason, "GPU_MISSING");
  EXPECT_THAT(DetailsOf(Update(static_cast<v1::GpuUse>(-1))).fields,
              ElementsAre("collection.gpu"));
  EXPECT_EQ(Get().gpu(), v1::GPU_USE_NEVER);
  ASSERT_TRUE(Update(v1::GPU_USE_UNSPECIFIED).ok());
  EXPECT_EQ(Get().gpu(), v1::GPU_USE_UNSPECIFIED);
  EXPECT_EQ(Stats().gpus_size(), 0);
  v1::GetServerInfoResponse info;
  Call call;
  ASSERT_TRUE(admin_->GetServerInfo(&call, {}, &info).ok());
  EXPECT_THAT(info.features(), Contains("collection.gpu"));
}

class GpuThereTest : public GpuServiceTest {
 protected:
  GpuThereTest() : gpu_(MakeCpuBackend(1)) {
    database_options_.devices = {gpu_.get()};
  }

  const std::unique_ptr<DistanceBackend> gpu_;
};

TEST_F(GpuThereTest, ExplainAndStatsSayWhatItDid) {
  ASSERT_TRUE(Create(NewRequest(v1::GPU_USE_REQUIRE)).ok());
  EXPECT_EQ(Get().gpu(), v1::GPU_USE_REQUIRE);
  FillAndSeal();
  v1::SearchResponse reply;
  const grpc::Status status = Search({500.2f, 0, 0, 0}, &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(reply.result().ids().numbers(), ElementsAre(500, 501, 499));
  EXPECT_TRUE(reply.result().exact());
  ASSERT_EQ(reply.profile().segments_size(), 1);
  const v1::SegmentProfile& segment = reply.profile().segments(0);
  EXPECT_EQ(segment.plan(), v1::SEARCH_PLAN_DEVICE);
  EXPECT_EQ(segment.device(), "cpu");
  EXPECT_EQ(segment.device_queries(), 1u);
  ASSERT_EQ(Stats().gpus_size(), 1);
  const v1::GpuStats gpu = Stats().gpus(0);
  EXPECT_EQ(gpu.name(), "cpu");
  EXPECT_FALSE(gpu.lost());
  EXPECT_EQ(gpu.resident_segments(), 1u);
  EXPECT_EQ(gpu.loads(), 1u);
  EXPECT_EQ(gpu.batches(), 1u);
  EXPECT_EQ(gpu.batch_queries(), 1u);
  EXPECT_EQ(gpu.fallbacks_unsupported() + gpu.fallbacks_no_memory() +
                gpu.fallbacks_lost(),
            0u);
  // Without it the answer is the same.
  ASSERT_TRUE(Update(v1::GPU_USE_NEVER).ok());
  v1::SearchResponse other;
  ASSERT_TRUE(Search({500.2f, 0, 0, 0}, &other).ok());
  EXPECT_EQ(other.result().SerializeAsString(),
            reply.result().SerializeAsString());
  EXPECT_EQ(other.profile().segments(0).plan(), v1::SEARCH_PLAN_SCAN);
  EXPECT_THAT(other.profile().segments(0).device(), IsEmpty());
}

TEST_F(GpuThereTest, ABatchIsOneCall) {
  ASSERT_TRUE(Create(NewRequest(v1::GPU_USE_REQUIRE)).ok());
  FillAndSeal();
  v1::SearchBatchRequest request;
  request.set_collection("points");
  request.set_vector("l2");
  request.set_k(2);
  request.mutable_quality()->set_exact(true);
  const v1::PointBatch queries = Batch(100, 50);
  *request.mutable_queries() = queries.columns().vectors(0);
  request.mutable_queries()->clear_name();
  v1::SearchBatchResponse reply;
  Call call;
  const grpc::Status status = search_->SearchBatch(&call, request, &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(reply.results_size(), 50);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(reply.results(i).ids().numbers(0), 100u + i);
    EXPECT_TRUE(reply.results(i).exact());
  }
  EXPECT_EQ(Stats().gpus(0).batches(), 1u);
  EXPECT_EQ(Stats().gpus(0).batch_queries(), 50u);
}

TEST_F(GpuThereTest, BadInputIsRefusedBeforeItIsAsked) {
  ASSERT_TRUE(Create(NewRequest(v1::GPU_USE_REQUIRE)).ok());
  FillAndSeal();
  v1::SearchResponse reply;
  for (const std::vector<float>& vector :
       {std::vector<float>{NAN, 0, 0, 0}, {0, 0, INFINITY, 0}, {1, 2}}) {
    const grpc::Status status = Search(vector, &reply);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(DetailsOf(status).reason, "INVALID_FIELD");
  }
  EXPECT_EQ(Stats().gpus(0).batches(), 0u);
}

class TwoGpusTest : public GpuThereTest {
 protected:
  TwoGpusTest() : other_(MakeCpuBackend(1)) {
    database_options_.devices.push_back(other_.get());
  }

  const std::unique_ptr<DistanceBackend> other_;
};

TEST_F(TwoGpusTest, EachHasItsStats) {
  ASSERT_TRUE(Create(NewRequest(v1::GPU_USE_REQUIRE, {"l2", "same"})).ok());
  FillAndSeal();
  for (const char* name : {"l2", "same", "same"}) {
    v1::SearchResponse reply;
    const grpc::Status status = Search({500.2f, 0, 0, 0}, &reply, name);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_THAT(reply.result().ids().numbers(), ElementsAre(500, 501, 499));
    EXPECT_EQ(reply.profile().segments(0).plan(), v1::SEARCH_PLAN_DEVICE);
  }
  const v1::GetServerStatsResponse stats = Stats();
  ASSERT_EQ(stats.gpus_size(), 2);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(stats.gpus(i).resident_segments(), 1u);
    EXPECT_EQ(stats.gpus(i).loads(), 1u);
    EXPECT_EQ(stats.gpus(i).batch_queries(), i == 0 ? 1u : 2u);
  }
}

}  // namespace
}  // namespace vicinal::testing
