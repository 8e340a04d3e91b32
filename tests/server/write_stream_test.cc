// The ingest stream: order, resume, refusals.
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/server_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::HasSubstr;

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
    EXPECT_TRUE(open->stream->Write(request));
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

}  // namespace
}  // namespace vicinal::testing
