// The client library against a server in memory: errors, retries, calls.
#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "client/call_pipeline.h"
#include "client/retry.h"
#include "client/status.h"
#include "tests/client/fake_server.h"
#include "tests/client/matchers.h"
#include "tests/client/test_files.h"

namespace vicinal::client {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

v1::Collection Schema(const std::string& name, uint32_t dim) {
  v1::Collection out;
  out.set_name(name);
  out.add_vectors()->set_dim(dim);
  out.mutable_vectors(0)->set_metric(v1::METRIC_L2);
  return out;
}

v1::PointBatch Batch(uint64_t first_id, const std::vector<float>& values,
                     uint32_t dim) {
  v1::PointBatch out;
  const size_t n = values.size() / dim;
  for (size_t i = 0; i < n; ++i) {
    out.mutable_columns()->mutable_ids()->add_numbers(first_id + i);
  }
  v1::VectorColumn* column = out.mutable_columns()->add_vectors();
  column->set_dim(dim);
  column->set_type(v1::ELEMENT_TYPE_FLOAT32);
  column->set_data(RawBytes(values));
  return out;
}

class ClientTest : public testing::Test {
 protected:
  ClientTest() { client_ = Connect(server_.address()); }

  static std::unique_ptr<Client> Connect(const std::string& address,
                                         ClientOptions options = {}) {
    options.server = address;
    options.retry.initial_backoff = milliseconds(5);
    auto client = Client::Connect(options);
    EXPECT_THAT(client, IsOk());
    return *std::move(client);
  }
  void CreateWithPoints(const std::string& name, size_t n) {
    ASSERT_THAT(client_->CreateCollection(Schema(name, 4)), IsOk());
    ASSERT_THAT(client_->Upsert(name, Batch(0, RandomFloats(n * 4, 1), 4)),
                IsOk());
  }

  FakeServer server_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, LearnsTheServersLimitsWhenItConnects) {
  EXPECT_EQ(client_->server_info().version(), "0.0.0-fake");
  EXPECT_EQ(client_->server_info().limits().max_batch_points(), 65'536u);
}

TEST_F(ClientTest, SaysWhereNoServerAnswers) {
  ClientOptions options;
  options.server = server_.address();
  options.connect_timeout = milliseconds(300);
  server_.Shutdown();
  EXPECT_THAT(Client::Connect(options),
              Fails(StatusCode::kUnavailable,
                    "No Vicinal server answers at " + options.server));
}

TEST_F(ClientTest, GivesTheDetailsOfAnError) {
  server_.FailNext({.code = grpc::StatusCode::INVALID_ARGUMENT,
                    .message = "Bad collection.",
                    .field = "collection.vectors[0].dim"});
  const auto created = client_->CreateCollection(Schema("a", 0));
  EXPECT_THAT(created, Fails(StatusCode::kInvalidArgument, "Bad collection."));
  const auto violations = FieldViolations(created.status());
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "collection.vectors[0].dim");
  EXPECT_EQ(ErrorReason(created.status()), "BAD_FIELD");
  EXPECT_EQ(Describe(created.status()),
            "Bad collection.\n  collection.vectors[0].dim: is wrong");
  EXPECT_FALSE(RetryDelay(created.status()).has_value());
}

TEST_F(ClientTest, TriesAgainWhenTheServerIsAway) {
  CreateWithPoints("a", 3);
  server_.FailNext({}, 3);
  const auto count = client_->Count("a");
  ASSERT_THAT(count, IsOk());
  EXPECT_EQ(*count, 3u);
  EXPECT_EQ(server_.num_calls("Count"), 4);
}

TEST_F(ClientTest, GivesUpAfterTheLastAttempt) {
  CreateWithPoints("a", 3);
  server_.FailNext({}, 5);
  EXPECT_THAT(client_->Count("a"), Fails(StatusCode::kUnavailable, "injected"));
  EXPECT_EQ(server_.num_calls("Count"), 5);
}

TEST_F(ClientTest, WaitsAsLongAsRetryInfoAsks) {
  CreateWithPoints("a", 3);
  server_.FailNext({.code = grpc::StatusCode::RESOURCE_EXHAUSTED,
                    .retry_after = milliseconds(150)});
  const auto start = steady_clock::now();
  EXPECT_THAT(client_->Count("a"), IsOk());
  EXPECT_GE(steady_clock::now() - start, milliseconds(150));
}

TEST_F(ClientTest, DoesNotWaitBeyondItsDeadline) {
  CreateWithPoints("a", 3);
  auto hasty = Connect(server_.address(), {.timeout = milliseconds(500)});
  server_.FailNext({.code = grpc::StatusCode::RESOURCE_EXHAUSTED,
                    .message = "overloaded",
                    .retry_after = milliseconds(60'000)});
  const auto start = steady_clock::now();
  EXPECT_THAT(hasty->Count("a"),
              Fails(StatusCode::kResourceExhausted, "overloaded"));
  EXPECT_LT(steady_clock::now() - start, milliseconds(500));
}

TEST_F(ClientTest, DoesNotTryAgainWhatCannotSucceed) {
  CreateWithPoints("a", 3);
  // A full disk: no RetryInfo.
  server_.FailNext({.code = grpc::StatusCode::RESOURCE_EXHAUSTED});
  EXPECT_THAT(client_->Count("a"), Fails(StatusCode::kResourceExhausted, ""));
  server_.FailNext({.code = grpc::StatusCode::INTERNAL});
  EXPECT_THAT(client_->Count("a"), Fails(StatusCode::kInternal, ""));
  EXPECT_EQ(server_.num_calls("Count"), 2);
}

TEST_F(ClientTest, DoesNotRepeatCallsThatMayHaveHappened) {
  server_.FailNext({});
  EXPECT_THAT(client_->CreateCollection(Schema("a", 4)),
              Fails(StatusCode::kUnavailable, ""));
  EXPECT_EQ(server_.num_calls("CreateCollection"), 1);
  server_.FailNext({});
  EXPECT_THAT(client_->DeleteCollection("a"),
              Fails(StatusCode::kUnavailable, ""));
  EXPECT_EQ(server_.num_calls("DeleteCollection"), 1);
}

TEST_F(ClientTest, RepeatsUpsertsBecauseTheyAreIdempotent) {
  ASSERT_THAT(client_->CreateCollection(Schema("a", 2)), IsOk());
  server_.FailNext({});
  EXPECT_THAT(client_->Upsert("a", Batch(0, {1, 2}, 2)), IsOk());
  EXPECT_EQ(*client_->Count("a"), 1u);
}

// A repetition would find what a try wrote whose reply was lost.
TEST_F(ClientTest, DoesNotRepeatUpsertsThatWouldRefuseThemselves) {
  ASSERT_THAT(client_->CreateCollection(Schema("a", 2)), IsOk());
  v1::UpsertRequest request;
  request.set_collection("a");
  *request.mutable_points() = Batch(0, {1, 2}, 2);
  request.set_condition(v1::UPSERT_CONDITION_MUST_NOT_EXIST);
  server_.FailNext({});
  EXPECT_THAT(client_->Upsert(request), Fails(StatusCode::kUnavailable, ""));
  request.clear_condition();
  request.add_expected_sequences(3);
  server_.FailNext({});
  EXPECT_THAT(client_->Upsert(request), Fails(StatusCode::kUnavailable, ""));
  EXPECT_EQ(server_.num_calls("Upsert"), 2);
  request.clear_expected_sequences();
  request.set_condition(v1::UPSERT_CONDITION_MUST_EXIST);
  server_.FailNext({});
  EXPECT_THAT(client_->Upsert(request), IsOk());
  EXPECT_EQ(server_.num_calls("Upsert"), 4);
}

TEST_F(ClientTest, RefusesMessagesAboveTheServersLimitItself) {
  FakeServer small({.max_message_bytes = 1'000});
  auto client = Connect(small.address());
  EXPECT_THAT(
      client->Upsert("a", Batch(0, RandomFloats(1'000, 1), 10)),
      Fails(StatusCode::kResourceExhausted, "the server's limit is 1000"));
  EXPECT_EQ(small.num_calls("Upsert"), 0);
}

TEST_F(ClientTest, TurnsThePagesOfCollections) {
  for (const char* name : {"c", "a", "b"}) {
    ASSERT_THAT(client_->CreateCollection(Schema(name, 4)), IsOk());
  }
  const auto list = client_->ListCollections();
  ASSERT_THAT(list, IsOk());
  ASSERT_EQ(list->size(), 3u);
  EXPECT_EQ((*list)[0].name(), "a");
  EXPECT_EQ((*list)[2].name(), "c");
}

TEST_F(ClientTest, SearchesByColumnsBothWays) {
  CreateWithPoints("a", 50);
  const auto values = RandomFloats(50 * 4, 1);
  const auto one = client_->Search(
      "a", std::span<const float>(values.data() + 12 * 4, 4), {.k = 3});
  ASSERT_THAT(one, IsOk());
  EXPECT_EQ(one->result().ids().numbers(0), 12u);
  EXPECT_EQ(one->result().scores(0), 0);
  const auto batch = client_->SearchBatch(
      "a",
      {.data = reinterpret_cast<const std::byte*>(values.data()),
       .num_rows = 50,
       .dim = 4,
       .stride_bytes = 16,
       .type = ElementType::kFloat32},
      {.k = 2, .exact = true});
  ASSERT_THAT(batch, IsOk());
  ASSERT_EQ(batch->results_size(), 50);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(batch->results(i).ids().numbers(0), static_cast<uint64_t>(i));
  }
}

TEST_F(ClientTest, ScrollsThroughAllPointsAndStopsWhenTold) {
  CreateWithPoints("a", 20);
  v1::ScrollRequest request;
  request.set_collection("a");
  size_t seen = 0;
  ASSERT_THAT(client_->Scroll(request,
                              [&](v1::ScrollResponse&& page) {
                                seen += NumIds(page.points().columns().ids());
                                return absl::OkStatus();
                              }),
              IsOk());
  EXPECT_EQ(seen, 20u);
  EXPECT_THAT(client_->Scroll(request,
                              [](v1::ScrollResponse&&) {
                                return absl::DataLossError("enough");
                              }),
              Fails(StatusCode::kDataLoss, "enough"));
  server_.FailNext({});
  EXPECT_THAT(
      client_->Scroll(request,
                      [](v1::ScrollResponse&&) { return absl::OkStatus(); }),
      IsOk());
}

TEST_F(ClientTest, GivesUpAScrollOnWhichTheServerIsSilent) {
  for (const uint64_t pages : {0, 2}) {
    FakeServer silent({.pages_before_silence = pages});
    client_ = Connect(silent.address(), {.stream_timeout = milliseconds(100)});
    CreateWithPoints("a", 20);
    silent.set_silent(pages == 0);
    v1::ScrollRequest request;
    request.set_collection("a");
    uint64_t seen = 0;
    EXPECT_THAT(client_->Scroll(request,
                                [&](v1::ScrollResponse&&) {
                                  ++seen;
                                  return absl::OkStatus();
                                }),
                Fails(StatusCode::kDeadlineExceeded, "sent nothing for 0.1 s"));
    EXPECT_EQ(seen, pages);
  }
}

TEST_F(ClientTest, TheCallersOwnTimeIsNotTheServersSilence) {
  client_ = Connect(server_.address(), {.stream_timeout = milliseconds(50)});
  CreateWithPoints("a", 20);
  v1::ScrollRequest request;
  request.set_collection("a");
  EXPECT_THAT(client_->Scroll(request,
                              [&](v1::ScrollResponse&&) {
                                const auto until =
                                    steady_clock::now() + milliseconds(100);
                                while (steady_clock::now() < until) {
                                  std::this_thread::yield();
                                }
                                return absl::OkStatus();
                              }),
              IsOk());
}

TEST_F(ClientTest, WaitsForOperationsAndReportsProgress) {
  std::vector<uint64_t> rows;
  const auto done = client_->WaitOperation(
      "operations/1", milliseconds(0),
      [&](const v1::Operation& now) { rows.push_back(now.done_rows()); });
  ASSERT_THAT(done, IsOk());
  EXPECT_TRUE(done->done());
  EXPECT_EQ(rows, (std::vector<uint64_t>{33, 66, 99}));
}

TEST_F(ClientTest, StopsWaitingForAnOperationInTime) {
  EXPECT_THAT(client_->WaitOperation("operations/2", milliseconds(1)),
              Fails(StatusCode::kDeadlineExceeded, "it goes on in the server"));
}

TEST_F(ClientTest, ConvertsIdsOfEveryKindThereAndBack) {
  const PointId uuid =
      *PointId::ParseUuid("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
  const PointId text = *PointId::FromString("x");
  const std::vector<std::vector<PointId>> sets = {
      {},
      {PointId(1), PointId(~uint64_t{0})},
      {uuid, uuid},
      {text, text},
      {PointId(1), uuid, text}};
  for (const auto& ids : sets) {
    const v1::PointIds proto = ToProto(ids);
    EXPECT_EQ(NumIds(proto), ids.size());
    const auto back = FromProto(proto);
    ASSERT_THAT(back, IsOk());
    EXPECT_EQ(*back, ids);
  }
  v1::PointIds bad;
  bad.set_uuids("too short");
  EXPECT_THAT(FromProto(bad), Fails(StatusCode::kInvalidArgument, "of 16"));
}

TEST_F(ClientTest, RefusesToRecommendWithMmr) {
  SearchOptions options;
  options.mmr.emplace();
  const std::vector<PointId> positive = {PointId(7)};
  EXPECT_THAT(client_->Recommend("a", positive, {}, options),
              Fails(StatusCode::kInvalidArgument, "mmr compares"));
}

TEST_F(ClientTest, PipelineKeepsManySearchesInFlight) {
  CreateWithPoints("a", 50);
  const auto values = RandomFloats(50 * 4, 1);
  auto client = Connect(server_.address(), {.num_connections = 3});
  SearchPipeline pipeline(*client, 8);
  std::set<uint64_t> tags;
  uint64_t next = 0;
  while (tags.size() < 50) {
    while (!pipeline.full() && next < 50) {
      pipeline.Start(
          MakeSearchRequest(
              "a", std::span<const float>(values.data() + next * 4, 4), {}),
          next);
      ++next;
    }
    const auto done = pipeline.Next();
    ASSERT_THAT(done.status, IsOk());
    EXPECT_EQ(done.response->result().ids().numbers(0), done.tag);
    EXPECT_GT(done.latency.count(), 0);
    EXPECT_TRUE(tags.insert(done.tag).second);
  }
  EXPECT_EQ(pipeline.in_flight(), 0u);
}

TEST_F(ClientTest, PipelineReportsErrorsAndMayBeLeftWithCallsInFlight) {
  SearchPipeline pipeline(*client_, 4);
  pipeline.Start(MakeSearchRequest("missing", {}, {}), 5);
  const auto done = pipeline.Next();
  EXPECT_EQ(done.tag, 5u);
  EXPECT_THAT(done.status, Fails(StatusCode::kNotFound, "missing"));
  for (uint64_t i = 0; i < 4; ++i) {
    pipeline.Start(MakeSearchRequest("missing", {}, {}), i);
  }
}

TEST(BackoffTest, GrowsWithJitterUpToItsLimit) {
  const RetryPolicy policy{.initial_backoff = milliseconds(100),
                           .max_backoff = milliseconds(1'000)};
  Backoff backoff(policy, 7);
  double expected_ms = 100;
  for (int i = 0; i < 40; ++i) {
    const auto wait = backoff.Next(absl::UnavailableError(""));
    EXPECT_GE(wait, milliseconds(static_cast<int>(expected_ms / 2))) << i;
    EXPECT_LE(wait, milliseconds(static_cast<int>(expected_ms))) << i;
    expected_ms = std::min(1'000.0, expected_ms * 2);
  }
  backoff.Reset();
  EXPECT_LE(backoff.Next(absl::UnavailableError("")), milliseconds(100));
}

TEST(StatusTest, KeepsAnErrorWhoseDetailsCannotBeRead) {
  const absl::Status status = FromGrpc(
      grpc::Status(grpc::StatusCode::NOT_FOUND, "gone", "no proto at all"));
  EXPECT_THAT(status, Fails(StatusCode::kNotFound, "gone"));
  EXPECT_TRUE(FieldViolations(status).empty());
  EXPECT_THAT(FromGrpc(grpc::Status::OK), IsOk());
}

TEST(StatusTest, BoundsAHugeOrNegativeRetryDelay) {
  const auto delay = [](milliseconds ms) {
    return *RetryDelay(
        FromGrpc(Fault{.code = grpc::StatusCode::UNAVAILABLE, .retry_after = ms}
                     .ToStatus()));
  };
  EXPECT_EQ(delay(milliseconds(1'500)), milliseconds(1'500));
  EXPECT_EQ(delay(milliseconds(-5'000)), milliseconds(0));
  EXPECT_LE(delay(milliseconds::max()), std::chrono::hours(24 * 366));
}

}  // namespace
}  // namespace vicinal::client
