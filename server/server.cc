#include "server/server.h"

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpc/grpc.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/impl/server_builder_option.h"
#include "grpcpp/impl/server_builder_plugin.h"
#include "grpcpp/resource_quota.h"
#include "server/admin_service.h"
#include "server/collection_service.h"
#include "server/point_service.h"
#include "server/search_service.h"
#include "server/server_context.h"

namespace vicinal {
namespace {

// Linking gRPC's reflection switches it on for every server; this takes it off
// again.
class WithoutReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments* /*arguments*/) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>*
                         plugins) override {
    std::erase_if(*plugins, [](const auto& plugin) {
      return plugin->name() == "proto_server_reflection";
    });
  }
};

// Scrolls and waits hold a thread each (see kMaxStreams); the rest is for
// other calls. gRPC refuses calls beyond that with RESOURCE_EXHAUSTED.
constexpr int kMaxThreads = 256;

}  // namespace

struct Server::Impl {
  explicit Impl(std::unique_ptr<Database> db)
      : database(std::move(db)),
        state(database.get()),
        collections(&state),
        points(&state),
        search(&state),
        operations(&state),
        admin(&state) {}

  std::unique_ptr<Database> database;
  ServerState state;
  CollectionServiceImpl collections;
  PointServiceImpl points;
  SearchServiceImpl search;
  OperationServiceImpl operations;
  AdminServiceImpl admin;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(
    const ServerOptions& options, std::unique_ptr<Database> database) {
  // gRPC's own clean-up, when its last user goes, waits up to ten seconds for
  // a poller. Held for the life of the process, it never comes to that.
  static const bool held = (grpc_init(), true);
  static_cast<void>(held);
  // Switches of the process, which gRPC reads when a server is built.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  const int max_message =
      static_cast<int>(database->options().limits.max_message_bytes);
  auto impl = std::make_unique<Impl>(std::move(database));
  grpc::ServerBuilder builder;
  if (!options.reflection) {
    builder.SetOption(std::make_unique<WithoutReflection>());
  }
  builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(),
                           &impl->port);
  builder.SetMaxReceiveMessageSize(max_message);
  builder.SetMaxSendMessageSize(max_message);
  // Otherwise a second server on the same port would quietly share it.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);  // nobody reads it
  grpc::ResourceQuota quota("vicinal");
  quota.SetMaxThreads(kMaxThreads);
  builder.SetResourceQuota(quota);
  const int cores = static_cast<int>(
      std::clamp(std::thread::hardware_concurrency(), 1u, 16u));
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS,
                              std::max(1, cores / 2));
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, cores);
  builder.RegisterService(&impl->collections);
  builder.RegisterService(&impl->points);
  builder.RegisterService(&impl->search);
  builder.RegisterService(&impl->operations);
  builder.RegisterService(&impl->admin);
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr || impl->port == 0) {
    return absl::UnavailableError(absl::StrCat(
        "Cannot listen on ", options.listen,
        ": the port is in use, or the address is not one of this machine. "
        "Stop the other program or choose another with --listen."));
  }
  auto* health = impl->server->GetHealthCheckService();
  for (const char* service :
       {"vicinal.v1.CollectionService", "vicinal.v1.PointService",
        "vicinal.v1.SearchService", "vicinal.v1.OperationService",
        "vicinal.v1.AdminService"}) {
    health->SetServingStatus(service, true);
  }
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() { Shutdown(std::chrono::milliseconds(0)); }

int Server::port() const { return impl_->port; }

Database& Server::database() { return *impl_->database; }

void Server::Shutdown(std::chrono::milliseconds grace) {
  if (impl_->server == nullptr) return;
  impl_->state.stopping = true;
  impl_->state.stop_listeners.Stop();
  impl_->server->GetHealthCheckService()->SetServingStatus(false);
  impl_->server->Shutdown(std::chrono::system_clock::now() + grace);
  impl_->server->Wait();
  impl_->server.reset();
  impl_->database.reset();
}

}  // namespace vicinal
