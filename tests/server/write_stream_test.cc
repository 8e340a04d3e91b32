// The ingest stream: order, resume, refusals, backpressure.
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/mutex.h"
#include "tests/server/raw_stream.h"
#include "tests/server/server_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Lets builds of indexes wait until it is opened.
class Gate {
 public:
  void Pass() {
    MutexLock lock(mu_);
    while (closed_) changed_.Wait(mu_);
  }
  void Set(bool closed) {
    MutexLock lock(mu_);
    closed_ = closed;
    changed_.NotifyAll();
  }

 private:
  Mutex mu_;
  CondVar changed_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

class WriteStreamTest : public ServerFixture {
 protected:
  struct Open {
    Call call;
    std::unique_ptr<
        grpc::ClientReaderWriter<v1::WriteRequest, v1::WriteResponse>>
        stream;
    v1::WriteStarted started;
  };

  void SetUp() override {
    ServerFixture::SetUp();
    CreatePoints();
  }

  std::unique_ptr<Open> Start(const std::string& stream_id) {
    auto open = std::make_unique<Open>();
    open->stream = points_->Write(&open->call);
    v1::WriteRequest request;
    request.mutable_start()->set_collection("points");
    request.mutable_start()->set_stream_id(stream_id);
    open->stream->Write(request);  // fails when the server was quick to refuse
    v1::WriteResponse reply;
    if (open->stream->Read(&reply)) open->started = reply.started();
    return open;
  }

  static void Send(Open* open, uint64_t frame, const v1::PointBatch& batch) {
    v1::WriteRequest request;
    request.mutable_frame()->set_frame(frame);
    *request.mutable_frame()->mutable_upsert() = batch;
    open->stream->Write(request);
  }

  // Reads acks to the end of the stream; their frames and its status.
  static std::pair<std::vector<uint64_t>, grpc::Status> ReadToTheEnd(
      Open* open) {
    std::vector<uint64_t> frames;
    v1::WriteResponse reply;
    while (open->stream->Read(&reply)) frames.push_back(reply.ack().frame());
    return {frames, open->stream->Finish()};
  }

  grpc::Status UpsertUnary(const v1::PointBatch& batch) {
    v1::UpsertRequest request;
    request.set_collection("points");
    *request.mutable_points() = batch;
    v1::UpsertResponse reply;
    Call call;
    return points_->Upsert(&call, request, &reply);
  }

  static v1::WriteAck ReadAck(Open* open) {
    v1::WriteResponse reply;
    EXPECT_TRUE(open->stream->Read(&reply));
    return reply.ack();
  }
};

TEST_F(WriteStreamTest, AcksComeInOrderAndTheStreamEndsWithOk) {
  auto open = Start("");
  EXPECT_GT(open->started.credit_bytes(), 0u);
  for (uint64_t frame = 1; frame <= 20; ++frame) {
    Send(open.get(), frame, Batch(frame * 100, 10));
  }
  open->stream->WritesDone();
  uint64_t sequence = 0;
  for (uint64_t frame = 1; frame <= 20; ++frame) {
    const v1::WriteAck ack = ReadAck(open.get());
    EXPECT_EQ(ack.frame(), frame);
    EXPECT_EQ(ack.num_written(), 10u);
    EXPECT_GE(ack.commit().sequence(), sequence);
    sequence = ack.commit().sequence();
  }
  EXPECT_TRUE(open->stream->Finish().ok());
  EXPECT_EQ(Count(), 200u);
}

TEST_F(WriteStreamTest, BadPointsAreNamedAndTheOthersWritten) {
  auto open = Start("");
  v1::PointBatch batch = Batch(1, 5);
  batch.mutable_columns()->set_payloads(3, "not json");
  Send(open.get(), 1, batch);
  const v1::WriteAck ack = ReadAck(open.get());
  EXPECT_EQ(ack.num_written(), 4u);
  ASSERT_EQ(ack.errors_size(), 1);
  EXPECT_EQ(ack.errors(0).index(), 3u);
  EXPECT_EQ(ack.errors(0).field(), "frame.upsert.columns.payloads[3]");
  EXPECT_EQ(ack.errors(0).code(), 3);
  open->stream->WritesDone();
  EXPECT_TRUE(open->stream->Finish().ok());
  EXPECT_EQ(Count(), 4u);
}

TEST_F(WriteStreamTest, ResumesBehindTheLastDurableFrameAfterARestart) {
  {
    auto open = Start("upload");
    EXPECT_EQ(open->started.last_frame(), 0u);
    Send(open.get(), 1, Batch(1, 10));
    Send(open.get(), 2, Batch(11, 10));
    ReadAck(open.get());
    ReadAck(open.get());
    open->call.TryCancel();
    open->stream->Finish();
  }
  Restart();
  auto open = Start("upload");
  EXPECT_EQ(open->started.last_frame(), 2u);
  Send(open.get(), 2, Batch(900, 10));  // not applied again
  Send(open.get(), 3, Batch(21, 10));
  EXPECT_TRUE(ReadAck(open.get()).duplicate());
  EXPECT_FALSE(ReadAck(open.get()).duplicate());
  open->stream->WritesDone();
  EXPECT_TRUE(open->stream->Finish().ok());
  EXPECT_EQ(Count(), 30u);
}

TEST_F(WriteStreamTest, AGapInTheFramesEndsTheStream) {
  auto open = Start("gap");
  Send(open.get(), 1, Batch(1, 1));
  ReadAck(open.get());
  Send(open.get(), 3, Batch(2, 1));
  v1::WriteResponse reply;
  EXPECT_FALSE(open->stream->Read(&reply));
  const grpc::Status status = open->stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(DetailsOf(status).reason, "FRAME_OUT_OF_ORDER");
  EXPECT_THAT(status.error_message(), HasSubstr("2 comes next"));
  EXPECT_EQ(Count(), 1u);
}

TEST_F(WriteStreamTest, AStreamMustBeginWithStart) {
  Call call;
  auto stream = points_->Write(&call);
  v1::WriteRequest request;
  request.mutable_frame()->set_frame(1);
  stream->Write(request);
  v1::WriteResponse reply;
  EXPECT_FALSE(stream->Read(&reply));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(DetailsOf(status).fields, ::testing::ElementsAre("start"));
}

TEST_F(WriteStreamTest, AFrameOfWrongDimensionEndsTheStreamUnwritten) {
  auto open = Start("");
  v1::PointBatch batch = Batch(1, 2);
  batch.mutable_columns()->mutable_vectors(0)->set_dim(5);
  Send(open.get(), 1, batch);
  v1::WriteResponse reply;
  EXPECT_FALSE(open->stream->Read(&reply));
  const grpc::Status status = open->stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(DetailsOf(status).fields,
              ::testing::ElementsAre("frame.upsert.columns.vectors[0].dim"));
  EXPECT_EQ(Count(), 0u);
}

TEST_F(WriteStreamTest, AStreamCutInTheMiddleLeavesWholeFramesOnly) {
  auto open = Start("cut");
  for (uint64_t frame = 1; frame <= 50; ++frame) {
    Send(open.get(), frame, Batch(frame * 1000, 100));
  }
  ReadAck(open.get());
  open->call.TryCancel();
  open->stream->Finish();
  auto again = Start("cut");
  EXPECT_GE(again->started.last_frame(), 1u);
  // Frames still on their way through the server may commit after this.
  again->stream->WritesDone();
  EXPECT_TRUE(again->stream->Finish().ok());
  EXPECT_EQ(Count() % 100, 0u);
}

TEST_F(WriteStreamTest, FramesBeforeABadOneAreAcknowledgedAndLaterOnesNot) {
  auto open = Start("");
  for (uint64_t frame = 1; frame <= 3; ++frame) {
    Send(open.get(), frame, Batch(frame * 100, 10));
  }
  v1::PointBatch bad = Batch(400, 10);
  bad.mutable_columns()->mutable_vectors(0)->set_name("nope");
  Send(open.get(), 4, bad);
  Send(open.get(), 5, Batch(500, 10));
  const auto [frames, status] = ReadToTheEnd(open.get());
  EXPECT_THAT(frames, ElementsAre(1, 2, 3));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(DetailsOf(status).fields,
              ElementsAre("frame.upsert.columns.vectors[0].name"));
  EXPECT_EQ(Count(), 30u);
}

TEST_F(WriteStreamTest, WhatStartNamesMustExistAndBeValid) {
  v1::WriteRequest request;
  request.mutable_start()->set_collection("nope");
  const auto refused = [&] {
    Call call;
    auto stream = points_->Write(&call);
    stream->Write(request);
    v1::WriteResponse reply;
    EXPECT_FALSE(stream->Read(&reply));
    return stream->Finish();
  };
  grpc::Status status = refused();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(DetailsOf(status).reason, "COLLECTION_NOT_FOUND");
  request.mutable_start()->set_collection("points");
  for (const std::string& id : {std::string(129, 'x'), std::string("a/b")}) {
    request.mutable_start()->set_stream_id(id);
    status = refused();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(DetailsOf(status).fields, ElementsAre("start.stream_id"));
  }
}

TEST_F(WriteStreamTest, AStreamThatEndsBeforeItsStartIsAnError) {
  Call call;
  auto stream = points_->Write(&call);
  stream->WritesDone();
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(DetailsOf(status).fields, ElementsAre("start"));
}

TEST_F(WriteStreamTest, DeletesAndEmptyFramesAreAnswered) {
  auto open = Start("");
  Send(open.get(), 1, Batch(1, 10));
  v1::WriteRequest request;
  request.mutable_frame()->set_frame(2);
  for (const uint64_t id : {3, 4, 99}) {
    request.mutable_frame()->mutable_delete_()->add_numbers(id);
  }
  open->stream->Write(request);
  EXPECT_EQ(ReadAck(open.get()).num_written(), 10u);
  EXPECT_EQ(ReadAck(open.get()).num_written(), 2u);
  request.mutable_frame()->set_frame(3);
  request.mutable_frame()->clear_operation();
  open->stream->Write(request);
  const auto [frames, status] = ReadToTheEnd(open.get());
  EXPECT_THAT(frames, ElementsAre());
  EXPECT_THAT(DetailsOf(status).fields, ElementsAre("frame.operation"));
  EXPECT_EQ(Count(), 8u);
}

TEST_F(WriteStreamTest, HalfAMessageIsAnErrorAndNotTheEndOfTheStream) {
  RawStream raw(channel_, "/vicinal.v1.PointService/Write");
  v1::WriteRequest request;
  request.mutable_start()->set_collection("points");
  raw.Send(request.SerializeAsString());
  request.mutable_frame()->set_frame(1);
  *request.mutable_frame()->mutable_upsert() = Batch(1, 10);
  raw.Send(request.SerializeAsString());
  request.mutable_frame()->set_frame(2);
  *request.mutable_frame()->mutable_upsert() = Batch(100, 10);
  const std::string whole = request.SerializeAsString();
  raw.Send(whole.substr(0, whole.size() / 2));
  v1::WriteResponse reply;
  ASSERT_TRUE(reply.ParseFromString(raw.Read().value_or("")));
  EXPECT_TRUE(reply.has_started());
  ASSERT_TRUE(reply.ParseFromString(raw.Read().value_or("")));
  EXPECT_EQ(reply.ack().frame(), 1u);
  EXPECT_EQ(raw.Read(), std::nullopt);
  const grpc::Status status = raw.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(DetailsOf(status).reason, "MALFORMED_REQUEST");
  EXPECT_THAT(status.error_message(), HasSubstr("not a whole"));
  EXPECT_EQ(Count(), 10u);
}

TEST_F(WriteStreamTest, AMessageOverTheLimitEndsTheStreamUnwritten) {
  auto open = Start("");
  Send(open.get(), 1, Batch(1, 10));
  EXPECT_EQ(ReadAck(open.get()).frame(), 1u);
  v1::PointBatch large = Batch(100, 1);
  large.mutable_columns()->set_payloads(0, std::string(65 << 20, ' '));
  Send(open.get(), 2, large);
  const auto [frames, status] = ReadToTheEnd(open.get());
  EXPECT_THAT(frames, ElementsAre());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Count(), 10u);
}

TEST_F(WriteStreamTest, MoreThanTheCreditIsTakenFromAClientThatReadsLate) {
  auto open = Start("");
  v1::PointBatch batch = Batch(1, 8);
  for (int i = 0; i < 8; ++i) {
    batch.mutable_columns()->set_payloads(
        i, "{\"text\":\"" + std::string(1'000'000, 'x') + "\"}");
  }
  constexpr uint64_t kFrames = 6;  // 48 MB
  for (uint64_t frame = 1; frame <= kFrames; ++frame) {
    Send(open.get(), frame, batch);
  }
  open->stream->WritesDone();
  const auto [frames, status] = ReadToTheEnd(open.get());
  EXPECT_THAT(frames, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Count(), 8u);
}

TEST_F(WriteStreamTest, StreamsBeyondTheLimitAreToldToComeBack) {
  std::vector<std::unique_ptr<Open>> streams;
  for (int i = 0; i < 64; ++i) {
    streams.push_back(Start(""));
    ASSERT_GT(streams.back()->started.credit_bytes(), 0u) << i;
  }
  auto refused = Start("");
  const auto [frames, status] = ReadToTheEnd(refused.get());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(status).reason, "OVERLOADED");
  EXPECT_TRUE(DetailsOf(status).retry_info);
  for (auto& open : streams) {
    open->stream->WritesDone();
    EXPECT_TRUE(open->stream->Finish().ok());
  }
}

TEST_F(WriteStreamTest, ADroppedCollectionEndsItsStreams) {
  auto open = Start("");
  Send(open.get(), 1, Batch(1, 10));
  ReadAck(open.get());
  v1::DeleteCollectionRequest request;
  request.set_name("points");
  v1::DeleteCollectionResponse reply;
  Call call;
  ASSERT_TRUE(collections_->DeleteCollection(&call, request, &reply).ok());
  Send(open.get(), 2, Batch(11, 10));
  const auto [frames, status] = ReadToTheEnd(open.get());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(DetailsOf(status).reason, "COLLECTION_NOT_FOUND");
}

TEST_F(WriteStreamTest, AShutdownEndsOpenStreams) {
  auto open = Start("");
  Send(open.get(), 1, Batch(1, 10));
  ReadAck(open.get());
  server_.reset();
  const auto [frames, status] = ReadToTheEnd(open.get());
  EXPECT_FALSE(status.ok());
}

class BackpressureTest : public WriteStreamTest {
 protected:
  void SetUp() override {
    database_options_.max_unindexed_bytes = 10'000;
    database_options_.test_hook = [this](absl::string_view point) {
      if (point == "build:start") gate_.Pass();
    };
    gate_.Set(true);
    WriteStreamTest::SetUp();
  }
  void TearDown() override {
    gate_.Set(false);
    WriteStreamTest::TearDown();
  }
  // From here on, upserts find no room until the gate opens.
  void FillUp() {
    ASSERT_TRUE(UpsertUnary(Batch(1, 2'000)).ok());
    v1::OptimizeCollectionRequest request;
    request.set_name("points");
    v1::OptimizeCollectionResponse reply;
    Call call;
    ASSERT_TRUE(collections_->OptimizeCollection(&call, request, &reply).ok());
  }

  Gate gate_;
};

TEST_F(BackpressureTest, UnaryWritesAreRefusedWithAnAdviceWhenToRetry) {
  FillUp();
  const grpc::Status status = UpsertUnary(Batch(5'000, 1));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(status).reason, "INDEX_BACKLOG");
  EXPECT_TRUE(DetailsOf(status).retry_info);
  EXPECT_THAT(status.error_message(), HasSubstr("max_unindexed_bytes"));
  EXPECT_EQ(Count(), 2'000u);
}

TEST_F(BackpressureTest, StreamsWaitUntilThereIsRoom) {
  FillUp();
  auto nameless = Start("");
  auto named = Start("named");
  for (Open* open : {nameless.get(), named.get()}) {
    for (uint64_t frame = 1; frame <= 3; ++frame) {
      Send(open, frame, Batch(frame * 10'000, 10));
    }
    open->stream->WritesDone();
  }
  EXPECT_FALSE(UpsertUnary(Batch(5'000, 1)).ok());
  EXPECT_EQ(Count(), 2'000u);
  gate_.Set(false);
  for (Open* open : {nameless.get(), named.get()}) {
    const auto [frames, status] = ReadToTheEnd(open);
    EXPECT_THAT(frames, ElementsAre(1, 2, 3));
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  EXPECT_EQ(Count(), 2'030u);
}

TEST_F(BackpressureTest, AStreamThatWaitsCanBeCutAndStopsWithTheServer) {
  FillUp();
  auto cut = Start("cut");
  Send(cut.get(), 1, Batch(10'000, 10));
  cut->call.TryCancel();
  EXPECT_EQ(cut->stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  auto open = Start("open");
  Send(open.get(), 1, Batch(20'000, 10));
  gate_.Set(false);  // the database finishes its build when it is closed
  server_.reset();
  EXPECT_FALSE(ReadToTheEnd(open.get()).second.ok());
}

class DiskFullTest : public WriteStreamTest {
 protected:
  DiskFullTest() {
    database_options_.store.fault_hook = [this](absl::string_view operation,
                                                absl::string_view) {
      return full_ && operation == "append"
                 ? absl::ResourceExhaustedError("injected")
                 : absl::OkStatus();
    };
  }
  std::atomic<bool> full_ = false;
};

TEST_F(DiskFullTest, WritesAreRefusedReadsGoOnAndNothingIsLost) {
  auto open = Start("full");
  Send(open.get(), 1, Batch(1, 10));
  EXPECT_EQ(ReadAck(open.get()).frame(), 1u);
  full_ = true;
  Send(open.get(), 2, Batch(11, 10));
  const auto [frames, ended] = ReadToTheEnd(open.get());
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(ended).reason, "DISK_FULL");
  EXPECT_FALSE(DetailsOf(ended).retry_info);
  const grpc::Status unary = UpsertUnary(Batch(21, 10));
  EXPECT_EQ(unary.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(unary).reason, "DISK_FULL");
  EXPECT_EQ(Count(), 10u);
  v1::GetServerStatsResponse stats;
  {
    Call call;
    ASSERT_TRUE(admin_->GetServerStats(&call, {}, &stats).ok());
    EXPECT_TRUE(stats.read_only());
    EXPECT_THAT(stats.read_only_reason(), HasSubstr("full"));
  }
  v1::ResumeWritesResponse resumed;
  full_ = false;
  {
    Call call;
    const grpc::Status status = admin_->ResumeWrites(&call, {}, &resumed);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  auto again = Start("full");
  EXPECT_EQ(again->started.last_frame(), 1u);
  Send(again.get(), 2, Batch(11, 10));
  EXPECT_EQ(ReadAck(again.get()).frame(), 2u);
  EXPECT_EQ(Count(), 20u);
  Restart();
  EXPECT_EQ(Count(), 20u);
}

}  // namespace
}  // namespace vicinal::testing
