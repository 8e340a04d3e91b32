// vicinald as an operator sees it: exit codes and messages, health,
// reflection, shutdown.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/grpcpp.h"
#include "src/base/coding.h"
#include "storage/record_store.h"
#include "tests/e2e/server_process.h"
#include "tests/server/raw_stream.h"
#include "vicinal/v1/admin.grpc.pb.h"
#include "vicinal/v1/collection.grpc.pb.h"
#include "vicinal/v1/point.grpc.pb.h"

namespace vicinal::e2e {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using vicinal::testing::RawStream;

constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kDataFolder = 3;
constexpr int kListen = 4;

// A context whose call ends by itself after ten seconds.
class Call : public grpc::ClientContext {
 public:
  Call() {
    set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  }
};

class ServerTest : public ::testing::Test {
 protected:
  std::unique_ptr<ServerProcess> Start(std::vector<std::string> more = {}) {
    std::vector<std::string> args = {VICINALD_PATH, "--data", data_, "--listen",
                                     "127.0.0.1:0"};
    args.insert(args.end(), more.begin(), more.end());
    auto server = std::make_unique<ServerProcess>(folder_.path(), args);
    EXPECT_TRUE(server->serving()) << server->log();
    return server;
  }
  // The arguments make it end at once, with this code and words in its
  // message.
  void ExpectEnds(std::vector<std::string> args, int code,
                  const std::string& words) {
    DiskFolder folder;
    args.insert(args.begin(), VICINALD_PATH);
    ServerProcess server(folder.path(), args);
    EXPECT_FALSE(server.serving());
    EXPECT_EQ(server.Wait(), code) << server.log();
    EXPECT_THAT(server.log(), HasSubstr(words));
  }
  static void CreateCollection(const std::shared_ptr<grpc::Channel>& channel) {
    v1::CreateCollectionRequest request;
    request.mutable_collection()->set_name("points");
    auto* vector = request.mutable_collection()->add_vectors();
    vector->set_dim(2);
    vector->set_metric(v1::METRIC_L2);
    v1::CreateCollectionResponse reply;
    Call call;
    const grpc::Status status =
        v1::CollectionService::NewStub(channel)->CreateCollection(
            &call, request, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  static v1::PointBatch PointAtZero(uint64_t id) {
    v1::PointBatch batch;
    auto* columns = batch.mutable_columns();
    columns->mutable_ids()->add_numbers(id);
    columns->add_vectors()->set_data(std::string(8, '\0'));
    columns->mutable_vectors(0)->set_dim(2);
    return batch;
  }
  static uint64_t Count(const std::shared_ptr<grpc::Channel>& channel) {
    v1::CountRequest request;
    request.set_collection("points");
    v1::CountResponse reply;
    Call call;
    const grpc::Status status =
        v1::PointService::NewStub(channel)->Count(&call, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply.count();
  }

  DiskFolder folder_;
  const std::string data_ = folder_.File("data");
};

TEST_F(ServerTest, ASignalEndsItWithEverythingOnDisk) {
  for (const int signal : {SIGTERM, SIGINT}) {
    auto server = Start();
    {
      const auto channel = server->Connect();
      if (signal == SIGTERM) CreateCollection(channel);
      v1::UpsertRequest request;
      request.set_collection("points");
      request.set_durability(v1::DURABILITY_BUFFERED);
      *request.mutable_points() = PointAtZero(static_cast<uint64_t>(signal));
      v1::UpsertResponse reply;
      Call call;
      const grpc::Status status =
          v1::PointService::NewStub(channel)->Upsert(&call, request, &reply);
      ASSERT_TRUE(status.ok()) << status.error_message();
    }
    server->Signal(signal);
    EXPECT_EQ(server->Wait(), 0) << server->log();
    EXPECT_THAT(server->log(),
                AllOf(HasSubstr("serving"), HasSubstr("stopped")));
  }
  auto server = Start();
  EXPECT_EQ(Count(server->Connect()), 2u);
}

TEST_F(ServerTest, WrongUsageIsExplained) {
  ExpectEnds({}, kUsage, "--data is required");
  ExpectEnds({"--data", data_, "--nonsense"}, kUsage, "--nonsense");
  ExpectEnds({"--data", data_, "--log-level", "loud"}, kUsage, "loud");
  ExpectEnds({"--data", data_, "--listen", "0.0.0.0:0"}, kUsage,
             "--allow-remote");
  ExpectEnds({"--data", data_, "--gpu", "maybe"}, kUsage, "maybe");
  EXPECT_FALSE(std::filesystem::exists(data_)) << "nothing was made";
}

TEST_F(ServerTest, ARequiredGpuThatIsNotThere) {
  if (std::filesystem::exists("/dev/nvidia0")) GTEST_SKIP() << "it is there";
  ExpectEnds({"--data", data_, "--gpu", "require"}, kFailed,
             "no GPU can be used (");
  EXPECT_FALSE(std::filesystem::exists(data_)) << "nothing was made";
}

// With a library in the driver's place that is no more than a version.
TEST_F(ServerTest, ADriverThatIsTooOld) {
  ::setenv("LD_LIBRARY_PATH", OLD_DRIVER_FOLDER, 1);
  {
    auto server = Start();
    EXPECT_THAT(server->log(), HasSubstr("gpu=none"));
    EXPECT_THAT(server->log(), HasSubstr(OLD_DRIVER));
    server->Signal(SIGTERM);
    EXPECT_EQ(server->Wait(), 0);
  }
  ExpectEnds({"--data", data_, "--gpu", "require"}, kFailed, OLD_DRIVER);
  ::unsetenv("LD_LIBRARY_PATH");
}

TEST_F(ServerTest, APortThatCannotBeListenedOn) {
  auto server = Start();
  ExpectEnds({"--data", folder_.File("other"), "--listen",
              "127.0.0.1:" + std::to_string(server->port())},
             kListen, "the port is in use");
  ExpectEnds({"--data", folder_.File("other"), "--listen", "127.0.0.1:x"},
             kListen, "Cannot listen on 127.0.0.1:x");
  CreateCollection(server->Connect());  // the first goes on
}

TEST_F(ServerTest, AFolderThatAnotherServerHasOpen) {
  auto server = Start();
  CreateCollection(server->Connect());
  ExpectEnds({"--data", data_, "--listen", "127.0.0.1:0"}, kDataFolder,
             "in use");
  EXPECT_EQ(Count(server->Connect()), 0u) << "the first goes on";
}

TEST_F(ServerTest, AFolderOfANewerVersionIsLeftAlone) {
  Start()->Kill();
  {
    auto store = RecordStore::Open(data_, {});
    ASSERT_TRUE(store.ok()) << store.status();
    std::string version;
    PutFixed<uint32_t>(&version, 99);
    WriteBatch batch;
    batch.Put(Table::kMeta, "F", version);
    ASSERT_TRUE((*store)->Commit(std::move(batch), Durability::kFsynced).ok());
  }
  ExpectEnds({"--data", data_, "--listen", "127.0.0.1:0"}, kDataFolder,
             "has format version 99");
}

TEST_F(ServerTest, AFolderThatIsNone) {
  std::ofstream(data_) << "a file";
  ExpectEnds({"--data", data_, "--listen", "127.0.0.1:0"}, kDataFolder,
             "is not a folder");
}

// Runs as a user whom permissions bind, over a data folder that has them.
class PermissionTest : public ServerTest {
 protected:
  std::unique_ptr<ServerProcess> StartOver(mode_t data_mode) {
    const std::string program = folder_.File("vicinald");
    std::filesystem::copy_file(VICINALD_PATH, program);
    EXPECT_EQ(chmod(folder_.path().c_str(), 0755), 0);
    EXPECT_EQ(chmod(program.c_str(), 0755), 0);
    EXPECT_EQ(mkdir(data_.c_str(), data_mode), 0);
    EXPECT_EQ(chmod(data_.c_str(), data_mode), 0);
    EXPECT_EQ(chmod(other_.path().c_str(), 0777), 0);
    std::vector<std::string> args;
    if (geteuid() == 0) {
      args = {"/usr/bin/setpriv", "--reuid=65534", "--regid=65534",
              "--clear-groups"};
    }
    args.insert(args.end(),
                {program, "--data", data_, "--listen", "127.0.0.1:0"});
    return std::make_unique<ServerProcess>(other_.path(), args);
  }

  DiskFolder other_;
};

TEST_F(PermissionTest, AFolderWithoutPermission) {
  auto server = StartOver(0555);
  EXPECT_EQ(server->Wait(), kDataFolder) << server->log();
  EXPECT_THAT(server->log(), AllOf(HasSubstr(data_), HasSubstr("ermission")));
}

TEST_F(PermissionTest, ACollectionThatMayNotHaveItsFolder) {
  auto server = StartOver(0777);
  ASSERT_TRUE(server->serving()) << server->log();
  const auto channel = server->Connect();
  CreateCollection(channel);
  const std::string collections = data_ + "/collections";
  ASSERT_EQ(chmod(collections.c_str(), 0555), 0);
  v1::CreateCollectionRequest request;
  request.mutable_collection()->set_name("other");
  auto* vector = request.mutable_collection()->add_vectors();
  vector->set_dim(2);
  vector->set_metric(v1::METRIC_L2);
  const auto stub = v1::CollectionService::NewStub(channel);
  for (const bool allowed : {false, true}) {
    v1::CreateCollectionResponse reply;
    Call call;
    const grpc::Status status = stub->CreateCollection(&call, request, &reply);
    if (allowed) {
      EXPECT_TRUE(status.ok()) << status.error_message();
      continue;
    }
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_THAT(status.error_message(), HasSubstr(collections));
    EXPECT_THAT(status.error_details(), HasSubstr("PERMISSION_DENIED"));
    EXPECT_EQ(Count(channel), 0u) << "it still serves";
    ASSERT_EQ(chmod(collections.c_str(), 0755), 0);
  }
}

TEST_F(ServerTest, APortFileThatCannotBeWritten) {
  Child server({VICINALD_PATH, "--data", data_, "--listen", "127.0.0.1:0",
                "--port-file", folder_.File("nowhere/port")},
               "", folder_.File("err"));
  EXPECT_EQ(server.Wait(), kFailed);
  EXPECT_THAT(ReadText(folder_.File("err")), HasSubstr("--port-file"));
}

// grpc.health.v1 by its bytes: field 1 of the request is the service, field 1
// of the reply its state.
constexpr char kServing[] = "\x08\x01";
constexpr char kNotServing[] = "\x08\x02";

std::string HealthRequest(const std::string& service) {
  if (service.empty()) return "";
  return std::string("\x0a") + static_cast<char>(service.size()) + service;
}

TEST_F(ServerTest, HealthIsWatchedUntilTheShutdown) {
  auto server = Start();
  const auto channel = server->Connect();
  std::vector<std::unique_ptr<RawStream>> watches;
  for (const char* service : {"", "vicinal.v1.SearchService"}) {
    watches.push_back(
        std::make_unique<RawStream>(channel, "/grpc.health.v1.Health/Watch"));
    watches.back()->Send(HealthRequest(service));
    EXPECT_EQ(watches.back()->Read(), kServing) << service;
  }
  server->Signal(SIGTERM);
  for (auto& watch : watches) {
    EXPECT_EQ(watch->Read(), kNotServing);
    watch->Cancel();
    watch->Finish();
  }
  EXPECT_EQ(server->Wait(), 0) << server->log();
}

TEST_F(ServerTest, AnIngestStreamOpenAtTheShutdownIsEndedAndGoesOnAfterwards) {
  v1::WriteRequest start;
  start.mutable_start()->set_collection("points");
  start.mutable_start()->set_stream_id("upload");
  v1::WriteRequest frame;
  *frame.mutable_frame()->mutable_upsert() = PointAtZero(7);
  for (uint64_t round = 0; round < 2; ++round) {
    auto server = Start();
    {
      const auto channel = server->Connect();
      if (round == 0) CreateCollection(channel);
      const auto stub = v1::PointService::NewStub(channel);
      Call call;
      auto stream = stub->Write(&call);
      v1::WriteResponse reply;
      ASSERT_TRUE(stream->Write(start) && stream->Read(&reply));
      EXPECT_EQ(reply.started().last_frame(), round);
      frame.mutable_frame()->set_frame(round + 1);
      ASSERT_TRUE(stream->Write(frame) && stream->Read(&reply));
      EXPECT_EQ(reply.ack().frame(), round + 1);
      server->Signal(SIGTERM);
      EXPECT_FALSE(stream->Read(&reply));
      const grpc::Status status = stream->Finish();
      EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
      EXPECT_THAT(status.error_message(), HasSubstr("shutting down"));
    }
    EXPECT_EQ(server->Wait(), 0) << server->log();
  }
  auto server = Start();
  EXPECT_EQ(Count(server->Connect()), 1u);
}

TEST_F(ServerTest, ReflectionIsThereWhenAskedForOnly) {
  for (const bool on : {true, false}) {
    auto server = on ? Start({"--reflection"}) : Start();
    RawStream call(
        server->Connect(),
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
    call.Send("\x3a\x01*");  // list_services
    const std::optional<std::string> reply = call.Read();
    if (on) {
      EXPECT_THAT(reply.value_or(""),
                  AllOf(HasSubstr("vicinal.v1.SearchService"),
                        HasSubstr("vicinal.v1.PointService")));
    } else {
      EXPECT_EQ(reply, std::nullopt);
      EXPECT_EQ(call.Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
    }
  }
}

}  // namespace
}  // namespace vicinal::e2e
