// A real server over loopback in the test's process, and its stubs.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "server/server.h"
#include "vicinal/v1/admin.grpc.pb.h"
#include "vicinal/v1/collection.grpc.pb.h"
#include "vicinal/v1/operation.grpc.pb.h"
#include "vicinal/v1/point.grpc.pb.h"
#include "vicinal/v1/search.grpc.pb.h"

namespace vicinal::testing {

// A context whose call ends by itself after ten seconds.
class Call : public grpc::ClientContext {
 public:
  explicit Call(std::chrono::milliseconds timeout = std::chrono::seconds(10)) {
    set_deadline(std::chrono::system_clock::now() + timeout);
  }
};

// The details of an error, unpacked.
struct ErrorDetails {
  std::string reason;               // of ErrorInfo
  std::vector<std::string> fields;  // of BadRequest, in order
  bool retry_info = false;
};
ErrorDetails DetailsOf(const grpc::Status& status);

class ServerFixture : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Stops the server and starts it again over the same data.
  void Restart();
  // A collection "points" with vectors "l2" (f32, L2), "cos" (f32, cosine)
  // and "bytes" (uint8, L2), each of 4 elements.
  void CreatePoints();
  // n points in the fast form, numbers from `first`; "l2" is (id, 0, 0, 0).
  static v1::PointBatch Batch(uint64_t first, size_t n);
  uint64_t Count();

  DatabaseOptions database_options_;
  ServerOptions server_options_;
  std::string data_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::CollectionService::Stub> collections_;
  std::unique_ptr<v1::PointService::Stub> points_;
  std::unique_ptr<v1::SearchService::Stub> search_;
  std::unique_ptr<v1::OperationService::Stub> operations_;
  std::unique_ptr<v1::AdminService::Stub> admin_;

 private:
  void Start();
};

}  // namespace vicinal::testing
