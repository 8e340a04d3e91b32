// Many searches in flight from one thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "client/client.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::client {

// Keeps up to `max_in_flight` calls running over the client's connections,
// taken in turn. One thread drives it: no other is started, so a call costs
// little CPU. Calls are not tried again. Belongs to one thread; the client
// must outlive it.
template <typename Request, typename Response>
class CallPipeline {
 public:
  struct Completion {
    uint64_t tag = 0;  // as given to Start
    absl::Status status;
    const Response* response = nullptr;  // valid until the next Start
    std::chrono::nanoseconds latency{0};
  };

  CallPipeline(const Client& client, size_t max_in_flight);
  // Cancels what is still running.
  ~CallPipeline();

  size_t in_flight() const;
  bool full() const;
  // Sends; the request may be changed afterwards. Not when full().
  void Start(const Request& request, uint64_t tag);
  // Waits for the next call to end. Not when nothing is in flight.
  Completion Next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

using SearchPipeline = CallPipeline<v1::SearchRequest, v1::SearchResponse>;
using SearchBatchPipeline =
    CallPipeline<v1::SearchBatchRequest, v1::SearchBatchResponse>;

}  // namespace vicinal::client
