// Kills vicinald at random points of an ingest over the Write stream, while
// it also seals and merges, starts it again over the same folder, and checks
// that what is there is exactly the frames up to the last durable one: every
// acknowledged frame, none that was not sent, nothing of any frame missing.
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "grpcpp/grpcpp.h"
#include "src/base/random.h"
#include "tests/e2e/server_process.h"
#include "vicinal/v1/collection.grpc.pb.h"
#include "vicinal/v1/operation.grpc.pb.h"
#include "vicinal/v1/point.grpc.pb.h"
#include "vicinal/v1/search.grpc.pb.h"

namespace vicinal::e2e {
namespace {

constexpr uint64_t kSeed = 20'261'124;
constexpr uint64_t kNumIds = 16'000;
constexpr uint32_t kDim = 64;
constexpr size_t kPointsPerFrame = 64;
// Sent and not acknowledged; few, so that a build is not of rows long dead.
constexpr uint64_t kMaxInFlight = 32;
// Both bound the test's time; the first comes first unless disks are slow.
constexpr int kRounds = 40;
constexpr std::chrono::seconds kEnough(40);

struct Stored {
  std::string vector;
  std::string payload;
  friend bool operator==(const Stored&, const Stored&) = default;
};
using Points = std::map<uint64_t, Stored>;

// What frame `number` of the one stream does; the same each time.
v1::WriteFrame MakeFrame(uint64_t number) {
  Random random(kSeed + number);
  v1::WriteFrame frame;
  frame.set_frame(number);
  if (number % 5 == 0) {
    for (size_t i = 0; i < kPointsPerFrame; ++i) {
      frame.mutable_delete_()->add_numbers(random.Uniform(kNumIds));
    }
    return frame;
  }
  auto* columns = frame.mutable_upsert()->mutable_columns();
  std::vector<float> vectors;
  for (size_t i = 0; i < kPointsPerFrame; ++i) {
    columns->mutable_ids()->add_numbers(random.Uniform(kNumIds));
    columns->add_payloads("{\"frame\":" + std::to_string(number) +
                          ",\"row\":" + std::to_string(i) + "}");
    for (uint32_t d = 0; d < kDim; ++d) {
      vectors.push_back(static_cast<float>(random.Gaussian()));
    }
  }
  auto* column = columns->add_vectors();
  column->set_dim(kDim);
  column->set_data(vectors.data(), vectors.size() * sizeof(float));
  return frame;
}

void Apply(const v1::WriteFrame& frame, Points* points) {
  for (const uint64_t id : frame.delete_().numbers()) points->erase(id);
  const v1::PointColumns& columns = frame.upsert().columns();
  constexpr size_t kRow = kDim * sizeof(float);
  for (int i = 0; i < columns.ids().numbers_size(); ++i) {
    (*points)[columns.ids().numbers(i)] = {
        columns.vectors(0).data().substr(static_cast<size_t>(i) * kRow, kRow),
        columns.payloads(i)};
  }
}

class CrashTest : public ::testing::Test {
 protected:
  void Start() {
    server_ = std::make_unique<ServerProcess>(
        folder_.path(),
        std::vector<std::string>{VICINALD_PATH, "--data", folder_.File("data"),
                                 "--listen", "127.0.0.1:0"});
    ASSERT_TRUE(server_->serving()) << server_->log();
    channel_ = server_->Connect();
    points_ = v1::PointService::NewStub(channel_);
    collections_ = v1::CollectionService::NewStub(channel_);
  }

  void CreateCollection() {
    v1::CreateCollectionRequest request;
    request.mutable_collection()->set_name("c");
    auto* vector = request.mutable_collection()->add_vectors();
    vector->set_dim(kDim);
    vector->set_metric(v1::METRIC_L2);
    v1::CreateCollectionResponse reply;
    grpc::ClientContext call;
    const grpc::Status status =
        collections_->CreateCollection(&call, request, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  // Seals what is there and merges it with the rest; comes back when that is
  // done or after `at_most`.
  void Optimize(std::chrono::milliseconds at_most) {
    v1::OptimizeCollectionRequest request;
    request.set_name("c");
    v1::OptimizeCollectionResponse reply;
    grpc::ClientContext call;
    const grpc::Status status =
        collections_->OptimizeCollection(&call, request, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
    v1::WaitOperationRequest wait;
    wait.set_name(reply.operation());
    wait.mutable_timeout()->set_seconds(at_most.count() / 1'000);
    wait.mutable_timeout()->set_nanos(
        static_cast<int32_t>(at_most.count() % 1'000) * 1'000'000);
    v1::WaitOperationResponse done;
    grpc::ClientContext wait_call;
    ASSERT_TRUE(v1::OperationService::NewStub(channel_)
                    ->WaitOperation(&wait_call, wait, &done)
                    .ok());
  }

  // Opens the stream, sees what is durable, sends frames from there on and
  // kills the server after num_acks of them were acknowledged and, if that is
  // asked for, so long into an Optimize.
  void IngestUntilKilled(uint64_t num_acks,
                         std::optional<std::chrono::milliseconds> optimize) {
    grpc::ClientContext call;
    auto stream = points_->Write(&call);
    v1::WriteRequest request;
    request.mutable_start()->set_collection("c");
    request.mutable_start()->set_stream_id("load");
    v1::WriteResponse reply;
    ASSERT_TRUE(stream->Write(request) && stream->Read(&reply));
    TakeDurable(reply.started().last_frame());
    CheckPoints();
    sent_ = durable_;
    std::counting_semaphore<> window(kMaxInFlight);
    std::atomic<bool> over = false;
    std::thread sender([&] {
      v1::WriteRequest message;
      for (window.acquire(); !over.load(); window.acquire()) {
        *message.mutable_frame() = MakeFrame(++sent_);
        if (!stream->Write(message)) return;
      }
    });
    for (uint64_t i = 1; stream->Read(&reply); ++i) {
      EXPECT_EQ(reply.ack().frame(), acked_ + 1);
      acked_ = reply.ack().frame();
      window.release();
      if (i != num_acks) continue;
      if (optimize.has_value()) Optimize(*optimize);
      server_->Signal(SIGKILL);
    }
    over.store(true);
    window.release();
    sender.join();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(server_->Wait(), 128 + SIGKILL) << server_->log();
  }

  // Each acknowledged frame is durable, and no other than those sent.
  void TakeDurable(uint64_t last_frame) {
    ASSERT_GE(last_frame, acked_);
    ASSERT_LE(last_frame, sent_);
    while (durable_ < last_frame) Apply(MakeFrame(++durable_), &expected_);
    acked_ = durable_;
  }

  void CheckPoints() {
    v1::ScrollRequest request;
    request.set_collection("c");
    request.set_page_size(1'000);
    request.mutable_select()->set_with_payload(true);
    request.mutable_select()->set_with_all_vectors(true);
    grpc::ClientContext call;
    auto reader = points_->Scroll(&call, request);
    Points found;
    v1::ScrollResponse page;
    while (reader->Read(&page)) {
      v1::WriteFrame as_frame;
      *as_frame.mutable_upsert() = page.points();
      Apply(as_frame, &found);
    }
    const grpc::Status status = reader->Finish();
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(found.size(), expected_.size());
    ASSERT_TRUE(found == expected_) << "after frame " << durable_;
    CheckSearches();
    CountIndexed();
  }

  // Memory and index files hold what storage holds: points find themselves.
  void CheckSearches() {
    const auto stub = v1::SearchService::NewStub(channel_);
    v1::SearchBatchRequest request;
    request.set_collection("c");
    request.set_k(1);
    request.mutable_quality()->set_exact(true);
    request.mutable_queries()->set_dim(kDim);
    std::vector<uint64_t> ids;
    for (const auto& [id, stored] : expected_) {
      if (id % 16 != 0) continue;
      ids.push_back(id);
      request.mutable_queries()->mutable_data()->append(stored.vector);
    }
    if (ids.empty()) return;
    v1::SearchBatchResponse reply;
    grpc::ClientContext call;
    const grpc::Status status = stub->SearchBatch(&call, request, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
    for (size_t i = 0; i < ids.size(); ++i) {
      const v1::SearchResult& result = reply.results(static_cast<int>(i));
      ASSERT_EQ(result.ids().numbers_size(), 1);
      EXPECT_EQ(result.ids().numbers(0), ids[i]);
      EXPECT_EQ(result.scores(0), 0);
    }
  }

  void CountIndexed() {
    v1::GetCollectionRequest request;
    request.set_name("c");
    v1::GetCollectionResponse reply;
    grpc::ClientContext call;
    ASSERT_TRUE(collections_->GetCollection(&call, request, &reply).ok());
    const v1::CollectionStats& stats = reply.collection().stats();
    EXPECT_EQ(stats.num_points(), expected_.size());
    if (stats.num_indexed_points() > 0) ++num_indexed_starts_;
  }

  DiskFolder folder_;
  std::unique_ptr<ServerProcess> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::PointService::Stub> points_;
  std::unique_ptr<v1::CollectionService::Stub> collections_;
  uint64_t durable_ = 0;  // frames that expected_ holds
  uint64_t acked_ = 0;
  uint64_t sent_ = 0;
  Points expected_;
  int num_indexed_starts_ = 0;  // that found index files of earlier runs
};

TEST_F(CrashTest, HoldsTheAcknowledgedFramesAndNoOthersHoweverOftenKilled) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  Random random(kSeed);
  const auto enough = std::chrono::steady_clock::now() + kEnough;
  Start();
  CreateCollection();
  for (int round = 0;
       round < kRounds && std::chrono::steady_clock::now() < enough; ++round) {
    SCOPED_TRACE(round);
    std::optional<std::chrono::milliseconds> optimize;
    if (round == 0) {
      optimize = std::chrono::seconds(30);  // to its end
    } else if (round % 2 == 0) {
      optimize = std::chrono::milliseconds(random.Uniform(500));
    }
    ASSERT_NO_FATAL_FAILURE(
        IngestUntilKilled(1 + random.Uniform(120), optimize));
    ASSERT_NO_FATAL_FAILURE(Start());
  }
  EXPECT_GT(num_indexed_starts_, 0) << "nothing was ever sealed";
  // And an end in good order.
  ASSERT_NO_FATAL_FAILURE(IngestUntilKilled(1, std::nullopt));
  ASSERT_NO_FATAL_FAILURE(Start());
  channel_.reset();
  points_.reset();
  collections_.reset();
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0) << server_->log();
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(IngestUntilKilled(1, std::nullopt));
  std::printf("%llu frames, %zu points, %d starts with an index\n",
              static_cast<unsigned long long>(durable_), expected_.size(),
              num_indexed_starts_);
}

}  // namespace
}  // namespace vicinal::e2e
