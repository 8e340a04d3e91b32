// Messages that are too large, cut or none, and a server that cannot start.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "tests/server/bad_input_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::HasSubstr;

TEST_F(BadInputTest, MessageOverTheLimit) {
  v1::PointBatch batch = Batch(1, 1);
  batch.mutable_columns()->set_payloads(0, std::string(65 << 20, ' '));
  const grpc::Status status = Upsert(batch);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Count(), 0u);
}

TEST_F(BadInputTest, GarbageInsteadOfAMessage) {
  v1::UpsertRequest whole;
  whole.set_collection("points");
  *whole.mutable_points() = Batch(1, 100);
  const std::string bytes = whole.SerializeAsString();
  for (const std::string& bad : {std::string("\xff\xff\xff\xff garbage"),
                                 bytes.substr(0, bytes.size() / 2)}) {
    grpc::GenericStub stub(channel_);
    grpc::CompletionQueue queue;
    Call call;
    const grpc::Slice slice(bad);
    const grpc::ByteBuffer request(&slice, 1);
    auto reader = stub.PrepareUnaryCall(
        &call, "/vicinal.v1.PointService/Upsert", request, &queue);
    reader->StartCall();
    grpc::ByteBuffer reply;
    grpc::Status status;
    int tag = 0;
    reader->Finish(&reply, &status, &tag);
    void* got = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&got, &ok));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL)
        << status.error_message();
    EXPECT_EQ(Count(), 0u);
    queue.Shutdown();
  }
}

// HTTP/2 by hand, as a client whose connection breaks sends it.
class RawConnection {
 public:
  explicit RawConnection(int port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address),
                      sizeof(address)),
              0);
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    SendFrame(kSettings, 0, 0, "");
  }
  ~RawConnection() { close(socket_); }
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  // Opens a call of `path` and sends `body`; the last one when `end`.
  void Call(const std::string& path, const std::string& body, bool end) {
    std::string headers;
    for (const auto& [name, value] :
         {std::pair<std::string, std::string>{":method", "POST"},
          {":scheme", "http"},
          {":path", path},
          {":authority", "localhost"},
          {"te", "trailers"},
          {"content-type", "application/grpc"}}) {
      headers += '\0';  // literal, not indexed, name follows
      headers += static_cast<char>(name.size()) + name;
      headers += static_cast<char>(value.size()) + value;
    }
    SendFrame(kHeaders, kEndHeaders, 1, headers);
    SendFrame(kData, end ? kEndStream : 0, 1, body);
  }
  // Until the server has ended stream 1 or the connection; what it sent.
  std::string ReadToTheEnd() {
    std::string all;
    while (true) {
      const std::string head = Read(9);
      if (head.size() < 9) return all;
      const size_t size = static_cast<size_t>(
          (Byte(head[0]) << 16) | (Byte(head[1]) << 8) | Byte(head[2]));
      const int type = Byte(head[3]);
      const int flags = Byte(head[4]);
      const std::string body = Read(size);
      all += body;
      if (Byte(head[8]) != 1) continue;
      if (type == kData) messages_ += body;
      if (type == kReset || (flags & kEndStream) != 0) return all;
    }
  }

  // Those of the server that came until then, as they travel.
  const std::string& messages() const { return messages_; }

 private:
  static constexpr int kData = 0;
  static constexpr int kHeaders = 1;
  static constexpr int kReset = 3;
  static constexpr int kSettings = 4;
  static constexpr int kEndStream = 1;
  static constexpr int kEndHeaders = 4;

  static int Byte(char c) { return static_cast<unsigned char>(c); }
  void Send(const std::string& bytes) {
    EXPECT_EQ(send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  void SendFrame(int type, int flags, int stream, const std::string& body) {
    std::string frame;
    for (const size_t byte :
         {body.size() >> 16, body.size() >> 8, body.size(),
          static_cast<size_t>(type), static_cast<size_t>(flags)}) {
      frame += static_cast<char>(byte & 0xFF);
    }
    frame += std::string(3, '\0') + static_cast<char>(stream);
    Send(frame + body);
  }
  std::string Read(size_t size) {
    std::string bytes(size, '\0');
    const ssize_t got = recv(socket_, bytes.data(), size, MSG_WAITALL);
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return bytes;
  }

  const int socket_;
  std::string messages_;
};

// Whether trailers, as the server writes them, say OK.
bool SaysOk(const std::string& reply) {
  return absl::StrContains(reply, std::string("grpc-status\x01") + "0");
}

TEST_F(BadInputTest, HalfAFrame) {
  v1::UpsertRequest upsert;
  upsert.set_collection("points");
  *upsert.mutable_points() = Batch(1, 10);
  v1::WriteRequest start;
  start.mutable_start()->set_collection("points");
  const auto message = [](const std::string& body) {
    std::string head(5, '\0');  // not compressed, 4 bytes of length
    head[3] = static_cast<char>(body.size() >> 8);
    head[4] = static_cast<char>(body.size());
    return head + body;
  };
  const std::string whole = message(upsert.SerializeAsString());
  RawConnection sound(server_->port());
  sound.Call("/vicinal.v1.PointService/Write",
             message(start.SerializeAsString()), true);
  EXPECT_TRUE(SaysOk(sound.ReadToTheEnd())) << "what a whole one looks like";
  EXPECT_FALSE(sound.messages().empty()) << "`started`";
  for (const size_t cut : {size_t{3}, size_t{5}, whole.size() / 2}) {
    const std::string half = whole.substr(0, cut);
    // The client says that this was all: it is told so.
    RawConnection ended(server_->port());
    ended.Call("/vicinal.v1.PointService/Upsert", half, true);
    EXPECT_FALSE(SaysOk(ended.ReadToTheEnd())) << cut;
    RawConnection stream(server_->port());
    stream.Call("/vicinal.v1.PointService/Write",
                message(start.SerializeAsString()) + half, true);
    // On a stream gRPC takes the half for the end: what came before it is
    // answered, and the call ends as if the half had not been sent. Only acks
    // say what was written.
    EXPECT_TRUE(SaysOk(stream.ReadToTheEnd())) << cut;
    EXPECT_EQ(stream.messages(), sound.messages()) << "no ack, " << cut;
    // The connection breaks.
    RawConnection(server_->port())
        .Call("/vicinal.v1.PointService/Upsert", half, false);
    RawConnection(server_->port())
        .Call("/vicinal.v1.PointService/Write",
              message(start.SerializeAsString()) + half, false);
  }
  EXPECT_EQ(Count(), 0u);
  EXPECT_TRUE(Upsert(Batch(1, 10)).ok()) << "it still serves";
  EXPECT_EQ(Count(), 10u);
}

TEST_F(BadInputTest, PortInUse) {
  auto database = Database::Open(data_ + "/other", DatabaseOptions());
  ASSERT_TRUE(database.ok()) << database.status();
  ServerOptions options;
  options.listen = "127.0.0.1:" + std::to_string(server_->port());
  const auto second = Server::Start(options, *std::move(database));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("the port is in use"));
}

TEST_F(BadInputTest, DataFolderInUse) {
  const auto second = Database::Open(data_ + "/data", DatabaseOptions());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace vicinal::testing
