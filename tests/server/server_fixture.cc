#include "tests/server/server_fixture.h"

#include <stdlib.h>

#include <filesystem>
#include <utility>

#include "google/rpc/status.pb.h"

namespace vicinal::testing {

ErrorDetails DetailsOf(const grpc::Status& status) {
  ErrorDetails out;
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), static_cast<int>(status.error_code()));
  EXPECT_EQ(details.message(), status.error_message());
  for (const auto& any : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    if (any.UnpackTo(&info)) {
      EXPECT_EQ(info.domain(), "vicinal");
      out.reason = info.reason();
    } else if (any.UnpackTo(&bad_request)) {
      for (const auto& violation : bad_request.field_violations()) {
        EXPECT_FALSE(violation.description().empty());
        out.fields.push_back(violation.field());
      }
    } else if (any.UnpackTo(&retry)) {
      out.retry_info = true;
    }
  }
  return out;
}

void ServerFixture::SetUp() {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "vicinal_server_XXXXXX")
          .string();
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  data_ = pattern;
  Start();
}

void ServerFixture::TearDown() {
  server_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(data_, ignored);
}

void ServerFixture::Start() {
  auto database = Database::Open(data_ + "/data", database_options_);
  ASSERT_TRUE(database.ok()) << database.status();
  auto server = Server::Start(server_options_, *std::move(database));
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  channel_ =
      grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->port()),
                                grpc::InsecureChannelCredentials(), arguments);
  collections_ = v1::CollectionService::NewStub(channel_);
  points_ = v1::PointService::NewStub(channel_);
  search_ = v1::SearchService::NewStub(channel_);
  operations_ = v1::OperationService::NewStub(channel_);
  admin_ = v1::AdminService::NewStub(channel_);
}

void ServerFixture::Restart() {
  server_.reset();
  Start();
}

void ServerFixture::CreatePoints() {
  v1::CreateCollectionRequest request;
  request.mutable_collection()->set_name("points");
  const auto add = [&](const char* name, v1::Metric metric,
                       v1::ElementType type) {
    auto* vector = request.mutable_collection()->add_vectors();
    vector->set_name(name);
    vector->set_dim(4);
    vector->set_metric(metric);
    vector->set_type(type);
    vector->mutable_index()->mutable_hnsw();
  };
  add("l2", v1::METRIC_L2, v1::ELEMENT_TYPE_FLOAT32);
  add("cos", v1::METRIC_COSINE, v1::ELEMENT_TYPE_FLOAT32);
  add("bytes", v1::METRIC_L2, v1::ELEMENT_TYPE_UINT8);
  v1::CreateCollectionResponse reply;
  Call call;
  const grpc::Status status =
      collections_->CreateCollection(&call, request, &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
}

v1::PointBatch ServerFixture::Batch(uint64_t first, size_t n) {
  v1::PointBatch batch;
  auto* columns = batch.mutable_columns();
  std::vector<float> data(n * 4);
  for (size_t i = 0; i < n; ++i) {
    columns->mutable_ids()->add_numbers(first + i);
    data[i * 4] = static_cast<float>(first + i);
    columns->add_payloads("{\"n\":" + std::to_string(first + i) + "}");
  }
  auto* vector = columns->add_vectors();
  vector->set_name("l2");
  vector->set_dim(4);
  vector->set_data(data.data(), data.size() * sizeof(float));
  return batch;
}

uint64_t ServerFixture::Count() {
  v1::CountRequest request;
  request.set_collection("points");
  v1::CountResponse reply;
  Call call;
  const grpc::Status status = points_->Count(&call, request, &reply);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return reply.count();
}

}  // namespace vicinal::testing
