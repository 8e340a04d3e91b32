// Many small collections in one database: what creating, opening and keeping
// them costs, in process or (--server) of vicinald over gRPC. Fills a folder,
// opens it in another process and prints what that took. Measured figures are
// in docs/BENCHMARKS.md.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "bench/child_process.h"
#include "bench/engine_fixture.h"
#include "bench/machine.h"
#include "bench/server_process.h"
#include "bench/workspace.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"
#include "src/engine/database.h"

namespace vicinal::bench {
namespace {

struct Options {
  size_t num_collections = 10'000;
  size_t num_sealed = 0;
  size_t num_points = 100;
  size_t dim = 64;
  size_t idle_seconds = 20;
  bool server = false;
};

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

// Processor time of all threads.
double ProcessSeconds() {
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) +
           1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

size_t NumEntries(const std::string& folder) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator(folder)) {
    ++count;
  }
  return count;
}

size_t NumMappings(pid_t pid) {
  std::ifstream maps(absl::StrCat("/proc/", pid, "/maps"));
  size_t count = 0;
  for (std::string line; std::getline(maps, line);) ++count;
  return count;
}

void PrintMemory(const char* when, pid_t pid = ::getpid()) {
  const auto mib = [&](const char* field) {
    const auto bytes = ProcessMemory(pid, field);
    return bytes.ok() ? static_cast<double>(*bytes) / 1048576 : 0;
  };
  std::printf(
      "%s: resident %.0f MiB (private %.0f), page tables %.0f MiB, "
      "%zu mappings, %zu descriptors, %zu threads\n",
      when, mib("VmRSS"), mib("RssAnon"), mib("VmPTE"), NumMappings(pid),
      NumEntries(absl::StrCat("/proc/", pid, "/fd")),
      NumEntries(absl::StrCat("/proc/", pid, "/task")));
}

std::string NameOf(size_t i) { return absl::StrCat("c", i); }

// Points of one collection, other ones in every call.
Dataset NextPoints(const Options& options, Random* random) {
  Dataset set;
  set.base.num_rows = options.num_points;
  set.base.dim = options.dim;
  set.base.values.resize(options.num_points * options.dim);
  for (float& value : set.base.values) {
    value = static_cast<float>(random->Gaussian());
  }
  return set;
}

absl::Status Fill(const std::string& path, const Options& options) {
  VICINAL_ASSIGN_OR_RETURN(const auto database, Database::Open(path, {}));
  auto start = std::chrono::steady_clock::now();
  std::vector<std::shared_ptr<Collection>> collections;
  Random random(1);
  const Dataset shape = NextPoints(options, &random);
  for (size_t i = 0; i < options.num_collections; ++i) {
    VICINAL_ASSIGN_OR_RETURN(
        collections.emplace_back(),
        CreateBenchCollection(database.get(), NameOf(i), shape, 16, 100));
  }
  const auto n = static_cast<double>(options.num_collections);
  std::printf("create: %.0f collections/s\n", n / SecondsSince(start));
  PrintMemory("empty");

  start = std::chrono::steady_clock::now();
  for (const auto& collection : collections) {
    VICINAL_RETURN_IF_ERROR(
        UpsertAll(collection.get(), NextPoints(options, &random).base));
  }
  std::printf("first points: %.0f collections/s\n", n / SecondsSince(start));
  start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < options.num_sealed; ++i) {
    VICINAL_RETURN_IF_ERROR(OptimizeAndWait(collections[i].get()));
  }
  if (options.num_sealed > 0) {
    std::printf("optimize: %.0f collections/s\n",
                static_cast<double>(options.num_sealed) / SecondsSince(start));
  }
  std::printf("processor time of all of it: %.1f s\n", ProcessSeconds());
  PrintMemory("filled");
  return absl::OkStatus();
}

absl::Status Serve(const std::string& path, const Options& options) {
  auto start = std::chrono::steady_clock::now();
  VICINAL_ASSIGN_OR_RETURN(const auto database, Database::Open(path, {}));
  std::printf("open: %.2f s, processor time %.2f s\n", SecondsSince(start),
              ProcessSeconds());
  PrintMemory("opened");

  const auto micros = [&](auto call) {
    const auto begin = std::chrono::steady_clock::now();
    call();
    return 1e6 * SecondsSince(begin);
  };
  const std::vector<float> vector(options.dim, 0.5F);
  const absl::string_view bytes(reinterpret_cast<const char*>(vector.data()),
                                options.dim * sizeof(float));
  std::vector<Query> queries(1);
  queries[0].stage = RetrieveStage{.query = std::string(bytes), .k = 10};
  absl::Status status;
  const double search = micros([&] {
    const auto collection = database->GetCollection(NameOf(0));
    status = collection.ok() ? (*collection)->Search(queries, {}).status()
                             : collection.status();
  });
  VICINAL_RETURN_IF_ERROR(status);
  PointBatch point;
  point.ids.emplace_back(uint64_t{1'000'000});
  point.vectors.push_back({.dim = options.dim, .data = bytes});
  const double write = micros([&] {
    status = (*database->GetCollection(NameOf(1)))->Upsert(point).status;
  });
  VICINAL_RETURN_IF_ERROR(status);
  uint64_t num_points = 0;
  const double list = micros([&] {
    for (const auto& collection : database->ListCollections()) {
      num_points += collection->stats().num_points;
    }
  });
  std::printf(
      "first search %.0f us, first durable write %.0f us, list with statistics "
      "%.0f us (%llu points)\n",
      search, write, list, static_cast<unsigned long long>(num_points));

  double before = ProcessSeconds();
  std::this_thread::sleep_for(std::chrono::seconds(options.idle_seconds));
  std::printf("background work after the open: %.2f s of processor time\n",
              ProcessSeconds() - before);
  before = ProcessSeconds();
  std::this_thread::sleep_for(std::chrono::seconds(options.idle_seconds));
  std::printf("idle: %.3f %% of a core\n",
              100 * (ProcessSeconds() - before) /
                  static_cast<double>(options.idle_seconds));
  PrintMemory("idle");
  return absl::OkStatus();
}

absl::Status MeasureServer(const std::string& path, const Options& options) {
  VICINAL_ASSIGN_OR_RETURN(auto server, ServerProcess::Start(path));
  VICINAL_ASSIGN_OR_RETURN(auto client, ConnectTo(server->address()));
  Random random(1);
  auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < options.num_collections; ++i) {
    const Dataset points = NextPoints(options, &random);
    VICINAL_RETURN_IF_ERROR(
        CreateRemoteCollection(client.get(), NameOf(i), points, 16, 100));
    VICINAL_RETURN_IF_ERROR(UploadAll(client.get(), NameOf(i), points.base));
  }
  std::printf(
      "create and fill: %.0f collections/s\n",
      static_cast<double>(options.num_collections) / SecondsSince(start));
  PrintMemory("server, filled", server->pid());
  server->Stop();
  start = std::chrono::steady_clock::now();
  VICINAL_ASSIGN_OR_RETURN(server, ServerProcess::Start(path));
  VICINAL_ASSIGN_OR_RETURN(client, ConnectTo(server->address()));
  VICINAL_RETURN_IF_ERROR(client->GetServerInfo().status());
  std::printf("start until it answers: %.2f s\n", SecondsSince(start));
  PrintMemory("server, started", server->pid());
  start = std::chrono::steady_clock::now();
  VICINAL_ASSIGN_OR_RETURN(const auto listed, client->ListCollections());
  std::printf("list of %zu collections: %.0f ms\n", listed.size(),
              1e3 * SecondsSince(start));
  return absl::OkStatus();
}

int Report(const absl::Status& status) {
  std::fflush(stdout);
  if (status.ok()) return 0;
  std::fprintf(stderr, "collections_bench: %s\n", status.ToString().c_str());
  return 1;
}

int Main(int argc, char** argv) {
  PrepareProcess();
  Options options;
  std::string parent;
  CLI::App app("What many small collections cost.");
  app.add_option("--collections", options.num_collections, "How many");
  app.add_option("--sealed", options.num_sealed,
                 "How many of them have a sealed segment");
  app.add_option("--points", options.num_points, "Points of each");
  app.add_option("--dim", options.dim, "Dimension");
  app.add_option("--idle-seconds", options.idle_seconds, "How long to watch");
  app.add_flag("--server", options.server, "Through vicinald");
  app.add_option("--folder", parent, "Where the data goes for the time");
  CLI11_PARSE(app, argc, argv);
  std::printf("%s\n", DescribeRun(argc, argv).dump().c_str());
  std::fflush(stdout);
  auto workspace = Workspace::Create(parent);
  if (!workspace.ok()) return Report(workspace.status());
  const std::string path = workspace->NewPath("data");
  if (options.server) return Report(MeasureServer(path, options));
  // Memory that the filling took and freed is none of the opened database's.
  const pid_t child = ::fork();
  if (child == 0) ::_exit(Report(Fill(path, options)));
  int exit_status = 0;
  if (child < 0 || ::waitpid(child, &exit_status, 0) != child ||
      exit_status != 0) {
    return Report(absl::InternalError("filling failed"));
  }
  return Report(Serve(path, options));
}

}  // namespace
}  // namespace vicinal::bench

int main(int argc, char** argv) { return vicinal::bench::Main(argc, argv); }
