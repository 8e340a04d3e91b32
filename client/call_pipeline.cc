#include "client/call_pipeline.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/support/async_unary_call.h>
#include <grpcpp/support/status.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "client/client.h"
#include "client/status.h"
#include "src/base/check.h"
#include "vicinal/v1/search.grpc.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::client {
namespace {

using Clock = std::chrono::steady_clock;

auto StartCall(v1::SearchService::Stub& stub, grpc::ClientContext* context,
               const v1::SearchRequest& request, grpc::CompletionQueue* queue) {
  return stub.AsyncSearch(context, request, queue);
}
auto StartCall(v1::SearchService::Stub& stub, grpc::ClientContext* context,
               const v1::SearchBatchRequest& request,
               grpc::CompletionQueue* queue) {
  return stub.AsyncSearchBatch(context, request, queue);
}

}  // namespace

template <typename Request, typename Response>
struct CallPipeline<Request, Response>::State {
  // One call's memory, used again by a later one.
  struct Slot {
    uint64_t tag = 0;
    Clock::time_point start;
    std::optional<grpc::ClientContext> context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader;
    grpc::Status status;
    Response response;
    bool running = false;
  };

  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<v1::SearchService::Stub>> stubs;
  std::vector<std::unique_ptr<Slot>> slots;
  std::vector<Slot*> free;
  std::chrono::milliseconds timeout{0};
  size_t num_started = 0;
  size_t in_flight = 0;
};

template <typename Request, typename Response>
CallPipeline<Request, Response>::CallPipeline(const Client& client,
                                              size_t max_in_flight)
    : state_(std::make_unique<State>()) {
  const size_t num_stubs =
      std::max<size_t>(1, client.options().num_connections);
  for (size_t i = 0; i < num_stubs; ++i) {
    state_->stubs.push_back(v1::SearchService::NewStub(client.channel(i)));
  }
  state_->timeout = client.options().timeout;
  for (size_t i = 0; i < max_in_flight; ++i) {
    state_->slots.push_back(std::make_unique<typename State::Slot>());
    state_->free.push_back(state_->slots.back().get());
  }
}

template <typename Request, typename Response>
CallPipeline<Request, Response>::~CallPipeline() {
  for (auto& slot : state_->slots) {
    if (slot->running) slot->context->TryCancel();
  }
  while (in_flight() > 0) Next();
  state_->queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (state_->queue.Next(&tag, &ok)) {
  }
}

template <typename Request, typename Response>
size_t CallPipeline<Request, Response>::in_flight() const {
  return state_->in_flight;
}

template <typename Request, typename Response>
bool CallPipeline<Request, Response>::full() const {
  return state_->free.empty();
}

template <typename Request, typename Response>
void CallPipeline<Request, Response>::Start(const Request& request,
                                            uint64_t tag) {
  VICINAL_CHECK(!full());
  auto* slot = state_->free.back();
  state_->free.pop_back();
  slot->tag = tag;
  slot->context.emplace();
  if (state_->timeout.count() > 0) {
    slot->context->set_deadline(std::chrono::system_clock::now() +
                                state_->timeout);
  }
  slot->running = true;
  slot->start = Clock::now();
  auto& stub = *state_->stubs[state_->num_started++ % state_->stubs.size()];
  slot->reader = StartCall(stub, &*slot->context, request, &state_->queue);
  slot->reader->Finish(&slot->response, &slot->status, slot);
  ++state_->in_flight;
}

template <typename Request, typename Response>
typename CallPipeline<Request, Response>::Completion
CallPipeline<Request, Response>::Next() {
  VICINAL_CHECK(in_flight() > 0);
  void* tag = nullptr;
  bool ok = false;
  VICINAL_CHECK(state_->queue.Next(&tag, &ok));
  auto* slot = static_cast<typename State::Slot*>(tag);
  slot->running = false;
  --state_->in_flight;
  state_->free.push_back(slot);
  return {.tag = slot->tag,
          .status = FromGrpc(slot->status),
          .response = &slot->response,
          .latency = Clock::now() - slot->start};
}

template class CallPipeline<v1::SearchRequest, v1::SearchResponse>;
template class CallPipeline<v1::SearchBatchRequest, v1::SearchBatchResponse>;

}  // namespace vicinal::client
