// The uploader against a server in memory that breaks its streams.
#include "client/uploader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"
#include "tests/client/fake_server.h"
#include "tests/client/matchers.h"
#include "tests/client/test_files.h"

namespace vicinal::client {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr uint32_t kDim = 8;
constexpr size_t kPerFrame = 10;

std::unique_ptr<Client> Connect(
    const std::string& address,
    milliseconds stream_timeout = ClientOptions().stream_timeout) {
  ClientOptions options;
  options.stream_timeout = stream_timeout;
  options.server = address;
  auto client = Client::Connect(options);
  EXPECT_THAT(client, IsOk());
  return *std::move(client);
}

// Frame `f` (from 1) of a fixed sequence of points.
v1::PointBatch Frame(uint64_t f) {
  v1::PointBatch out;
  for (size_t i = 0; i < kPerFrame; ++i) {
    out.mutable_columns()->mutable_ids()->add_numbers((f - 1) * kPerFrame + i);
  }
  v1::VectorColumn* column = out.mutable_columns()->add_vectors();
  column->set_dim(kDim);
  column->set_type(v1::ELEMENT_TYPE_FLOAT32);
  column->set_data(RawBytes(RandomFloats(kPerFrame * kDim, f)));
  return out;
}

class UploaderTest : public testing::Test {
 protected:
  void Start(const FakeServer::Options& options,
             std::shared_ptr<FakeStore> store = nullptr) {
    server_ = std::make_unique<FakeServer>(options, store);
    client_ = Connect(server_->address());
    if (store != nullptr) return;
    v1::Collection collection;
    collection.set_name("a");
    collection.add_vectors()->set_dim(kDim);
    ASSERT_THAT(client_->CreateCollection(collection), IsOk());
  }
  static UploadOptions Options(const std::string& stream_id = "") {
    return {.collection = "a",
            .stream_id = stream_id,
            .retry = {.initial_backoff = milliseconds(5),
                      .max_backoff = milliseconds(50)}};
  }
  // Every point of frames 1..n is there with its vector, written once.
  void ExpectExactly(uint64_t n) {
    FakeStore& store = *server_->store();
    MutexLock lock(store.mu);
    const auto& collection = store.collections["a"];
    ASSERT_EQ(collection.points.size(), n * kPerFrame);
    EXPECT_EQ(collection.num_upserts, n * kPerFrame);
    for (uint64_t f = 1; f <= n; ++f) {
      const auto values = RandomFloats(kPerFrame * kDim, f);
      for (size_t i = 0; i < kPerFrame; ++i) {
        const auto& point =
            collection.points.at(PointId((f - 1) * kPerFrame + i));
        ASSERT_EQ(RawBytes(point.vector),
                  RawBytes(values).substr(i * kDim * 4, kDim * 4));
      }
    }
  }

  std::unique_ptr<FakeServer> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(UploaderTest, UploadsFramesAndReportsAcksInOrder) {
  Start({});
  std::vector<uint64_t> acked;
  UploadOptions options = Options();
  options.on_ack = [&](const v1::WriteAck& ack) {
    acked.push_back(ack.frame());
  };
  auto uploader = *Uploader::Open(*client_, options);
  EXPECT_EQ(uploader->resumed_frame(), 0u);
  for (uint64_t f = 1; f <= 50; ++f) {
    ASSERT_EQ(uploader->next_frame(), f);
    ASSERT_THAT(uploader->Write(Frame(f)), IsOk());
  }
  ASSERT_THAT(uploader->Finish(), IsOk());
  ASSERT_EQ(acked.size(), 50u);
  for (size_t i = 0; i < 50; ++i) EXPECT_EQ(acked[i], i + 1);
  const UploadStats stats = uploader->stats();
  EXPECT_EQ(stats.points_written, 500u);
  EXPECT_EQ(stats.frames_acked, 50u);
  EXPECT_EQ(stats.reconnects, 0u);
  ExpectExactly(50);
}

TEST_F(UploaderTest, DeletesPoints) {
  Start({});
  auto uploader = *Uploader::Open(*client_, Options());
  ASSERT_THAT(uploader->Write(Frame(1)), IsOk());
  v1::PointIds ids;
  for (uint64_t i = 0; i < 4; ++i) ids.add_numbers(i);
  ASSERT_THAT(uploader->Delete(ids), IsOk());
  ASSERT_THAT(uploader->Finish(), IsOk());
  EXPECT_EQ(*client_->Count("a"), 6u);
}

TEST_F(UploaderTest, FinishesAnEmptyUpload) {
  Start({});
  auto uploader = *Uploader::Open(*client_, Options());
  EXPECT_THAT(uploader->Finish(), IsOk());
}

TEST_F(UploaderTest, NeverExceedsTheCredit) {
  Start({.credit_bytes = 1'500});
  auto uploader = *Uploader::Open(*client_, Options());
  for (uint64_t f = 1; f <= 60; ++f) {
    ASSERT_THAT(uploader->Write(Frame(f)), IsOk());
  }
  ASSERT_THAT(uploader->Finish(), IsOk());
  EXPECT_LE(server_->max_outstanding(), 1'500u);
  EXPECT_GT(server_->max_outstanding(), 500u);
  ExpectExactly(60);
}

TEST_F(UploaderTest, SendsAFrameAboveTheCreditAlone) {
  Start({.credit_bytes = 10});
  auto uploader = *Uploader::Open(*client_, Options());
  for (uint64_t f = 1; f <= 5; ++f) {
    ASSERT_THAT(uploader->Write(Frame(f)), IsOk());
  }
  ASSERT_THAT(uploader->Finish(), IsOk());
  ExpectExactly(5);
  EXPECT_LT(server_->max_outstanding(), 600u);
}

TEST_F(UploaderTest, BoundsItsMemoryWhileNothingIsAcknowledged) {
  Start({});
  server_->set_acking(false);
  UploadOptions options = Options();
  options.max_buffered_bytes = 2'000;
  auto uploader = *Uploader::Open(*client_, options);
  std::atomic<int> written = 0;
  std::thread writer([&] {
    for (uint64_t f = 1; f <= 30; ++f) {
      EXPECT_THAT(uploader->Write(Frame(f)), IsOk());
      ++written;
    }
    EXPECT_THAT(uploader->Finish(), IsOk());
  });
  // Five frames of about 430 bytes exceed the buffer; the fifth waits.
  while (written < 4) std::this_thread::yield();
  EXPECT_LE(written, 4);
  server_->set_acking(true);
  // The fake answers frames that it holds when the next one arrives or the
  // client half-closes; a second stream is not needed for that.
  server_->Shutdown();
  auto store = server_->store();
  const int port = server_->port();
  server_ =
      std::make_unique<FakeServer>(FakeServer::Options{.port = port}, store);
  writer.join();
  ExpectExactly(30);
}

TEST_F(UploaderTest, ResumesStreamsThatBreakAgainAndAgain) {
  for (const uint64_t cut : {1, 3, 7}) {
    Start({.cut_after_frames = cut});
    std::atomic<int> reconnects = 0;
    UploadOptions options = Options();
    options.on_reconnect = [&](const absl::Status&) { ++reconnects; };
    auto uploader = *Uploader::Open(*client_, options);
    for (uint64_t f = 1; f <= 40; ++f) {
      ASSERT_THAT(uploader->Write(Frame(f)), IsOk());
    }
    ASSERT_THAT(uploader->Finish(), IsOk());
    const UploadStats stats = uploader->stats();
    EXPECT_EQ(stats.points_written, 400u);
    EXPECT_EQ(stats.frames_acked, 40u);
    EXPECT_GE(stats.reconnects, 40 / cut - 1);
    EXPECT_EQ(stats.reconnects, static_cast<uint64_t>(reconnects));
    EXPECT_GT(stats.acks_lost, 0u);
    ExpectExactly(40);
  }
}

TEST_F(UploaderTest, SurvivesARestartOfTheServer) {
  Start({});
  auto uploader = *Uploader::Open(*client_, Options());
  for (uint64_t f = 1; f <= 20; ++f) {
    ASSERT_THAT(uploader->Write(Frame(f)), IsOk());
  }
  const int port = server_->port();
  auto store = server_->store();
  server_->Shutdown();
  server_ =
      std::make_unique<FakeServer>(FakeServer::Options{.port = port}, store);
  for (uint64_t f = 21; f <= 40; ++f) {
    ASSERT_THAT(uploader->Write(Frame(f)), IsOk());
  }
  ASSERT_THAT(uploader->Finish(), IsOk());
  ExpectExactly(40);
}

TEST_F(UploaderTest, GoesOnWithTheStreamOfAnEarlierProcess) {
  Start({});
  {
    auto first = *Uploader::Open(*client_, Options("s"));
    for (uint64_t f = 1; f <= 12; ++f) {
      ASSERT_THAT(first->Write(Frame(f)), IsOk());
    }
    ASSERT_THAT(first->Finish(), IsOk());
  }
  auto second = *Uploader::Open(*client_, Options("s"));
  EXPECT_EQ(second->resumed_frame(), 12u);
  EXPECT_EQ(second->next_frame(), 13u);
  for (uint64_t f = 13; f <= 20; ++f) {
    ASSERT_THAT(second->Write(Frame(f)), IsOk());
  }
  ASSERT_THAT(second->Finish(), IsOk());
  ExpectExactly(20);
}

TEST_F(UploaderTest, LeavesWhatWasNotFinishedToALaterOne) {
  Start({});
  {
    auto first = *Uploader::Open(*client_, Options("s"));
    for (uint64_t f = 1; f <= 30; ++f) {
      ASSERT_THAT(first->Write(Frame(f)), IsOk());
    }
  }
  auto second = *Uploader::Open(*client_, Options("s"));
  for (uint64_t f = second->resumed_frame() + 1; f <= 30; ++f) {
    ASSERT_THAT(second->Write(Frame(f)), IsOk());
  }
  ASSERT_THAT(second->Finish(), IsOk());
  ExpectExactly(30);
}

TEST_F(UploaderTest, ReportsRefusedPointsAndWritesTheOthers) {
  Start({});
  std::vector<std::pair<uint64_t, uint32_t>> refused;
  UploadOptions options = Options();
  options.on_ack = [&](const v1::WriteAck& ack) {
    for (const auto& error : ack.errors()) {
      refused.emplace_back(ack.frame(), error.index());
    }
  };
  auto uploader = *Uploader::Open(*client_, options);
  for (uint64_t f = 1; f <= 3; ++f) {
    v1::PointBatch batch = Frame(f);
    if (f == 2) {
      const float bad = std::numeric_limits<float>::quiet_NaN();
      std::string& data =
          *batch.mutable_columns()->mutable_vectors(0)->mutable_data();
      data.replace(7 * kDim * 4, 4,
                   std::string(reinterpret_cast<const char*>(&bad), 4));
    }
    ASSERT_THAT(uploader->Write(std::move(batch)), IsOk());
  }
  ASSERT_THAT(uploader->Finish(), IsOk());
  EXPECT_EQ(refused, (std::vector<std::pair<uint64_t, uint32_t>>{{2, 7}}));
  EXPECT_EQ(uploader->stats().points_written, 29u);
  EXPECT_EQ(uploader->stats().points_refused, 1u);
  EXPECT_EQ(*client_->Count("a"), 29u);
}

TEST_F(UploaderTest, FailsWhenTheCollectionIsUnknown) {
  Start({});
  UploadOptions options = Options();
  options.collection = "missing";
  EXPECT_THAT(Uploader::Open(*client_, options),
              Fails(StatusCode::kNotFound, "missing"));
}

TEST_F(UploaderTest, WaitsAsTheServerAsksBeforeItOpensAStream) {
  Start({});
  server_->FailNext({.code = grpc::StatusCode::RESOURCE_EXHAUSTED,
                     .retry_after = milliseconds(120)});
  const auto start = steady_clock::now();
  auto uploader = Uploader::Open(*client_, Options());
  ASSERT_THAT(uploader, IsOk());
  EXPECT_GE(steady_clock::now() - start, milliseconds(120));
  EXPECT_THAT((*uploader)->Finish(), IsOk());
}

TEST_F(UploaderTest, DoesNotTryAgainWhenTheDiskIsFull) {
  Start({});
  server_->FailNext(
      {.code = grpc::StatusCode::RESOURCE_EXHAUSTED, .message = "disk full"});
  EXPECT_THAT(Uploader::Open(*client_, Options()),
              Fails(StatusCode::kResourceExhausted, "disk full"));
  EXPECT_EQ(server_->num_calls("Write"), 1);
}

TEST_F(UploaderTest, GivesUpAfterTheLongestOutage) {
  Start({});
  UploadOptions options = Options();
  options.max_outage = milliseconds(200);
  auto uploader = *Uploader::Open(*client_, options);
  server_->Shutdown();
  ASSERT_THAT(uploader->Write(Frame(1)), IsOk());
  EXPECT_THAT(uploader->Finish(),
              Fails(StatusCode::kUnavailable, "could not be resumed within"));
  EXPECT_THAT(uploader->Write(Frame(2)), Fails(StatusCode::kUnavailable, ""));
}

TEST_F(UploaderTest, GoesOnInANewStreamWhenTheServerWasSilent) {
  Start({});
  client_ = Connect(server_->address(), milliseconds(100));
  server_->set_acking(false);
  auto uploader = *Uploader::Open(*client_, Options());
  for (uint64_t f = 1; f <= 6; ++f) {
    ASSERT_THAT(uploader->Write(Frame(f)), IsOk());
  }
  // The first stream had applied them, as the second one says.
  while (uploader->stats().frames_acked < 6) std::this_thread::yield();
  EXPECT_GE(uploader->stats().reconnects, 1u);
  EXPECT_EQ(uploader->stats().acks_lost, 6u);
  server_->set_acking(true);
  ASSERT_THAT(uploader->Finish(), IsOk());
  ExpectExactly(6);
}

TEST_F(UploaderTest, GivesUpAServerThatStaysSilent) {
  Start({});
  client_ = Connect(server_->address(), milliseconds(50));
  UploadOptions options = Options();
  options.max_outage = milliseconds(200);
  auto uploader = *Uploader::Open(*client_, options);
  server_->set_acking(false);
  server_->set_silent(true);
  ASSERT_THAT(uploader->Write(Frame(1)), IsOk());
  EXPECT_THAT(uploader->Finish(),
              Fails(StatusCode::kUnavailable, "sent nothing for 0.05 s"));
  EXPECT_THAT(Uploader::Open(*client_, options),
              Fails(StatusCode::kUnavailable, "sent nothing for 0.05 s"));
}

TEST_F(UploaderTest, AnIdleUploadIsNotTakenForASilentServer) {
  Start({});
  client_ = Connect(server_->address(), milliseconds(50));
  auto uploader = *Uploader::Open(*client_, Options());
  for (uint64_t f = 1; f <= 8; ++f) {
    ASSERT_THAT(uploader->Write(Frame(f)), IsOk());
    if (f != 4) continue;  // the fake acknowledges four at once
    while (uploader->stats().frames_acked < 4) std::this_thread::yield();
    const auto until = steady_clock::now() + milliseconds(150);
    while (steady_clock::now() < until) std::this_thread::yield();
  }
  ASSERT_THAT(uploader->Finish(), IsOk());
  EXPECT_EQ(uploader->stats().reconnects, 0u);
}

TEST_F(UploaderTest, RefusesAFrameAboveTheMessageLimitAndGoesOn) {
  Start({.max_message_bytes = 600});
  auto uploader = *Uploader::Open(*client_, Options());
  v1::PointBatch big = Frame(1);
  big.mutable_columns()->mutable_vectors(0)->mutable_data()->append(1'000, 'x');
  EXPECT_THAT(uploader->Write(std::move(big)),
              Fails(StatusCode::kResourceExhausted, "send fewer at once"));
  ASSERT_THAT(uploader->Write(Frame(1)), IsOk());
  ASSERT_THAT(uploader->Finish(), IsOk());
  ExpectExactly(1);
}

TEST_F(UploaderTest, SaysWhenTheServerLostWhatItHadAcknowledged) {
  Start({});
  auto uploader = *Uploader::Open(*client_, Options("s"));
  for (uint64_t f = 1; f <= 8; ++f) {
    ASSERT_THAT(uploader->Write(Frame(f)), IsOk());
  }
  while (uploader->stats().frames_acked < 8) std::this_thread::yield();
  const int port = server_->port();
  auto store = server_->store();
  server_->Shutdown();
  {
    MutexLock lock(store->mu);
    store->collections["a"].streams["s"] = 3;
  }
  server_ =
      std::make_unique<FakeServer>(FakeServer::Options{.port = port}, store);
  EXPECT_THAT(uploader->Finish(),
              Fails(StatusCode::kDataLoss,
                    "remembers frame 3 of stream s, but had acknowledged "
                    "frame 8"));
}

TEST_F(UploaderTest, KeepsToItsRate) {
  Start({});
  UploadOptions options = Options();
  options.max_points_per_s = 500;
  auto uploader = *Uploader::Open(*client_, options);
  const auto start = steady_clock::now();
  for (uint64_t f = 1; f <= 11; ++f) {
    ASSERT_THAT(uploader->Write(Frame(f)), IsOk());
  }
  ASSERT_THAT(uploader->Finish(), IsOk());
  // The first 100 points take 0.2 s before the last 10 may be sent.
  EXPECT_GE(steady_clock::now() - start, milliseconds(199));
}

}  // namespace
}  // namespace vicinal::client
