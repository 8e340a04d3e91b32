// A call whose messages are bytes: for messages that no stub sends, and for
// services of gRPC's own that the tests have no stubs of.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"

namespace vicinal::testing {

// Ends by itself after ten seconds. Not thread-safe.
class RawStream {
 public:
  // method: "/package.Service/Method".
  RawStream(const std::shared_ptr<grpc::Channel>& channel,
            const std::string& method)
      : stub_(channel) {
    call_.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(10));
    stream_ = stub_.PrepareCall(&call_, method, &queue_);
    stream_->StartCall(nullptr);
    Next();
  }
  ~RawStream() { queue_.Shutdown(); }
  RawStream(const RawStream&) = delete;
  RawStream& operator=(const RawStream&) = delete;

  void Send(const std::string& bytes) {
    const grpc::Slice slice(bytes);
    stream_->Write(grpc::ByteBuffer(&slice, 1), nullptr);
    Next();
  }
  // nullopt: the server has ended the call.
  std::optional<std::string> Read() {
    grpc::ByteBuffer bytes;
    stream_->Read(&bytes, nullptr);
    if (!Next()) return std::nullopt;
    grpc::Slice slice;
    EXPECT_TRUE(bytes.DumpToSingleSlice(&slice).ok());
    return std::string(slice.begin(), slice.end());
  }
  grpc::Status Finish() {
    grpc::Status status;
    stream_->Finish(&status, nullptr);
    Next();
    return status;
  }
  void Cancel() { call_.TryCancel(); }

 private:
  bool Next() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  grpc::ClientContext call_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
};

}  // namespace vicinal::testing
