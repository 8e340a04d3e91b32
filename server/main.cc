// vicinald: the server process.
#include <malloc.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/server.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"
#include "src/base/version.h"
#include "src/distance/gpu/backend.h"
#include "src/engine/database.h"

namespace vicinal {
namespace {

enum ExitCode : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kDataFolder = 3,
  kListen = 4,
};

struct Flags {
  std::string data;
  std::string listen = "127.0.0.1:7700";
  std::string port_file;
  std::string log_level = "info";
  size_t build_threads = 0;
  std::string gpu = "auto";
  size_t gpu_memory_gib = 0;
  bool reflection = false;
  bool allow_remote = false;
};

bool IsLoopback(const std::string& listen) {
  return absl::StartsWith(listen, "127.") ||
         absl::StartsWith(listen, "localhost:") ||
         absl::StartsWith(listen, "[::1]:") ||
         absl::StartsWith(listen, "unix:");
}

// Written beside and renamed, so that who waits for it reads a whole number.
bool WritePortFile(const std::string& path, int port) {
  const std::string temporary = path + ".tmp";
  {
    std::ofstream out(temporary);
    out << port << "\n";
    if (!out.good()) return false;
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  return !error;
}

int Fail(ExitCode code, absl::string_view message) {
  std::fprintf(stderr, "vicinald: %s\n", std::string(message).c_str());
  return code;
}

// All GPUs that can be used, unless none is wanted. false: one is required.
bool FindGpus(const Flags& flags,
              std::vector<std::unique_ptr<DistanceBackend>>* out) {
  if (flags.gpu == "never") return true;
  GpuOptions options;
  if (flags.gpu_memory_gib > 0) {
    options.memory_budget = flags.gpu_memory_gib << 30;
    options.workspace_bytes =
        std::min(options.workspace_bytes, options.memory_budget / 4);
  }
  std::string problem;
  const int num_gpus = CountGpus();
  for (options.device = 0; options.device < num_gpus; ++options.device) {
    std::unique_ptr<DistanceBackend> gpu;
    BackendStatus status = MakeGpuBackend(options, &gpu);
    if (status == BackendStatus::kOk && !gpu->builds_graphs()) {
      status = BackendStatus::kUnsupported;
    }
    if (status != BackendStatus::kOk) {
      problem = absl::StrCat("cuda:", options.device, ": ",
                             BackendStatusName(status));
      spdlog::warn("gpu=cuda:{} not used, status=\"{}\"", options.device,
                   BackendStatusName(status));
      continue;
    }
    spdlog::info("gpu={} used for builds and exact searches", gpu->name());
    out->push_back(std::move(gpu));
  }
  if (num_gpus == 0) {
    problem = WhyNoGpu();
    spdlog::info("gpu=none reason=\"{}\"", problem);
  }
  if (out->empty() && flags.gpu == "require") {
    Fail(kFailed,
         absl::StrCat("--gpu require: no GPU can be used (", problem,
                      "). It takes an NVIDIA driver, a device of compute "
                      "capability 9.0 with a GiB to spare, and a build with "
                      "CUDA. Without, start with --gpu auto."));
    return false;
  }
  return true;
}

int Serve(const Flags& flags, const sigset_t& signals) {
  if (!IsLoopback(flags.listen) && !flags.allow_remote) {
    return Fail(kUsage,
                absl::StrCat("--listen ", flags.listen,
                             " can be reached from other machines, and this "
                             "version has no authentication. Listen on "
                             "127.0.0.1, or add --allow-remote when the "
                             "network is trusted."));
  }
  DatabaseOptions options;
  options.build_threads = flags.build_threads;
  options.warn = [](absl::string_view message) {
    spdlog::warn("{}", std::string(message));
  };
  options.inform = [](absl::string_view message) {
    spdlog::info("{}", std::string(message));
  };
  // Outlive the database, which borrows them.
  std::vector<std::unique_ptr<DistanceBackend>> gpus;
  if (!FindGpus(flags, &gpus)) return kFailed;
  for (const auto& gpu : gpus) options.devices.push_back(gpu.get());
  const auto start = std::chrono::steady_clock::now();
  auto database = Database::Open(flags.data, options);
  if (!database.ok()) return Fail(kDataFolder, database.status().message());
  ServerOptions server_options;
  server_options.listen = flags.listen;
  server_options.reflection = flags.reflection;
  const size_t num_collections = (*database)->ListCollections().size();
  auto server = Server::Start(server_options, *std::move(database));
  if (!server.ok()) return Fail(kListen, server.status().message());
  if (!flags.port_file.empty() &&
      !WritePortFile(flags.port_file, (*server)->port())) {
    return Fail(kFailed,
                absl::StrCat("Cannot write --port-file ", flags.port_file,
                             "; is its folder there and writable?"));
  }
  spdlog::info(
      "serving address={} port={} data={} collections={} simd={} version={} "
      "open_ms={}",
      flags.listen, (*server)->port(), flags.data, num_collections,
      GetEngineInfo().simd, std::string(Version()),
      std::chrono::duration_cast<std::chrono::milliseconds>(
          std::chrono::steady_clock::now() - start)
          .count());
  int received = 0;
  sigwait(&signals, &received);
  spdlog::info("stopping signal={}", received);
  (*server)->Shutdown(std::chrono::seconds(5));
  spdlog::info("stopped");
  return kOk;
}

}  // namespace
}  // namespace vicinal

int main(int argc, char** argv) {
  // Debian's Abseil checks every lock for deadlocks, at 33 ns a lock.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // Otherwise each of gRPC's threads keeps an arena of freed memory.
  mallopt(M_ARENA_MAX, 2);

  vicinal::Flags flags;
  CLI::App app{
      "vicinald serves vector search over gRPC.\n"
      "Example: vicinald --data /var/lib/vicinal"};
  app.add_option("--data", flags.data, "Folder of the data; made when missing")
      ->required();
  app.add_option("--listen", flags.listen,
                 "HOST:PORT to listen on; port 0 takes a free one")
      ->capture_default_str();
  app.add_option("--port-file", flags.port_file,
                 "Write the port here when serving");
  app.add_option("--log-level", flags.log_level,
                 "trace, debug, info, warn, error or off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  app.add_option("--build-threads", flags.build_threads,
                 "Threads of an index build; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_option(
         "--gpu", flags.gpu,
         "auto: build graphs and search exactly on the GPUs that there are "
         "(of CUDA_VISIBLE_DEVICES); never; or require: do not start without "
         "one")
      ->check(CLI::IsMember({"auto", "never", "require"}))
      ->capture_default_str();
  app.add_option("--gpu-memory", flags.gpu_memory_gib,
                 "Most GiB of each GPU's memory to use; 0: what is free")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_flag("--reflection", flags.reflection,
               "Describe the services to clients such as grpcurl");
  app.add_flag("--allow-remote", flags.allow_remote,
               "Allow an address that other machines can reach");
  app.set_version_flag("--version",
                       absl::StrCat("vicinald ", vicinal::Version(), " (",
                                    vicinal::Revision(), ")"));
  app.footer(
      "Exit codes: 0 stopped by a signal, 1 failed, 2 wrong usage, 3 the data "
      "folder\ncannot be used, 4 cannot listen.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? vicinal::kOk : vicinal::kUsage;
  }
  spdlog::set_default_logger(spdlog::stderr_logger_mt("vicinald"));
  spdlog::set_level(spdlog::level::from_str(flags.log_level));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");

  // Blocked in every thread, taken by sigwait.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return vicinal::Serve(flags, signals);
}
