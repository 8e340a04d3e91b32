#include "bench/check/serving_rows.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/check/rocksdb_writer.h"
#include "bench/child_process.h"
#include "bench/engine_fixture.h"
#include "bench/server_process.h"
#include "bench/workspace.h"
#include "client/call_pipeline.h"
#include "client/client.h"
#include "client/formats/npy.h"
#include "src/base/status_macros.h"
#include "src/engine/database.h"

namespace vicinal::bench {
namespace {

// Without codes: these rows are about vectors as they are and what surrounds
// the search, and stay comparable from one issue to the next.
constexpr char kCollection[] = "demo";
constexpr size_t kM = 16;
constexpr size_t kEfConstruction = 200;
// Rows of one frame of the import tool: 2 MiB, at least one row, at most 1,024
// (client::BlockLimits).
constexpr size_t kFrameBytes = size_t{2} << 20;
constexpr size_t kMaxFrameRows = 1'024;
// The first is the server's default and makes the row; the cheaper the search,
// the more the wire weighs.
constexpr std::array<double, 2> kRecallTargets = {0.95, 0.99};

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

// CPU time of a process so far; 0 when it cannot be read.
double CpuSeconds(pid_t pid) {
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(pid, &clock) != 0) return 0;
  clock_gettime(clock, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

// One answer to every query.
struct Turn {
  double qps = 0;
  double cpu_us = 0;  // of this process and `server`, per query
};
absl::StatusOr<Turn> TimeQueries(size_t num_queries, pid_t server,
                                 const std::function<absl::Status()>& run) {
  const double cpu = CpuSeconds(getpid()) + CpuSeconds(server);
  const auto start = std::chrono::steady_clock::now();
  VICINAL_RETURN_IF_ERROR(run());
  const double seconds = SecondsSince(start);
  const double cpu_after = CpuSeconds(getpid()) + CpuSeconds(server);
  return Turn{.qps = num_queries / seconds,
              .cpu_us = (cpu_after - cpu) / num_queries * 1e6};
}

// The best of `passes` turns of each side.
struct Duel {
  double remote_qps = 0;
  double local_qps = 0;

  // CPU of client and server, and of this process, per query: the same on a
  // busy machine, and the bound of the ratio when every core is used.
  double remote_cpu_us = 0;
  double local_cpu_us = 0;

  double ratio() const { return remote_qps / local_qps; }
  nlohmann::json Json() const {
    return {{"ratio", ratio()},
            {"grpc_qps", remote_qps},
            {"in_process_qps", local_qps},
            {"grpc_cpu_us_per_query", remote_cpu_us},
            {"in_process_cpu_us_per_query", local_cpu_us}};
  }
};
absl::StatusOr<Duel> RunDuel(size_t passes, size_t num_queries, pid_t server,
                             const std::function<absl::Status()>& remote,
                             const std::function<absl::Status()>& local) {
  VICINAL_RETURN_IF_ERROR(remote());  // warm up
  VICINAL_RETURN_IF_ERROR(local());
  Duel best;
  for (size_t pass = 0; pass < passes; ++pass) {
    VICINAL_ASSIGN_OR_RETURN(const Turn theirs,
                             TimeQueries(num_queries, server, remote));
    VICINAL_ASSIGN_OR_RETURN(const Turn ours,
                             TimeQueries(num_queries, server, local));
    if (theirs.qps > best.remote_qps) {
      best.remote_qps = theirs.qps;
      best.remote_cpu_us = theirs.cpu_us;
    }
    if (ours.qps > best.local_qps) {
      best.local_qps = ours.qps;
      best.local_cpu_us = ours.cpu_us;
    }
  }
  return best;
}

// Runs task(query) for every query on `num_threads` threads; the first error.
absl::Status OnThreads(
    size_t num_threads, size_t num_queries,
    const std::function<absl::Status(size_t thread, size_t query)>& task) {
  std::atomic<size_t> next = 0;
  std::vector<absl::Status> statuses(num_threads);
  const auto work = [&](size_t thread) {
    for (size_t query; (query = next.fetch_add(1)) < num_queries;) {
      statuses[thread] = task(thread, query);
      if (!statuses[thread].ok()) return;
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < num_threads; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) {
    VICINAL_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

// The measurement of all rows, sharing data set, server and collection.
class Serving {
 public:
  explicit Serving(const ServingOptions& options) : options_(options) {}

  absl::Status Prepare() {
    VICINAL_ASSIGN_OR_RETURN(dataset_, LoadDataset(options_.dataset));
    VICINAL_ASSIGN_OR_RETURN(Workspace workspace,
                             Workspace::Create(options_.work_dir));
    workspace_ = std::make_unique<Workspace>(std::move(workspace));
    return WriteImportFile();
  }
  // Leaves the last server running, with the imported collection.
  absl::Status MeasureIngest(CheckRow* row);
  // Optimises, answers every query and looks at the process.
  absl::Status MeasureMemory(CheckRow* row);
  // Fills the engine in this process with the same points.
  absl::Status PrepareLocal();
  absl::Status MeasureBatch(CheckRow* row);
  absl::Status MeasureSingle(CheckRow* row);

 private:
  absl::Status WriteImportFile();
  absl::StatusOr<double> TimeImport();
  absl::Status SearchBatchesRemote(double recall_target);
  absl::Status SearchBatchesLocal(double recall_target);
  absl::Status SearchSinglesLocal(double recall_target);
  // One blocking thread per client.
  absl::Status SearchSinglesThreads(double recall_target);
  // As many connections with one call each in flight, driven by one thread as
  // load generators do: the clients share the server's cores, and what they
  // burn is not the server's.
  absl::Status SearchSinglesPipeline(double recall_target);
  size_t frame_rows() const {
    const size_t row_bytes = dataset_.base.dim * sizeof(float);
    return std::clamp<size_t>((kFrameBytes + row_bytes - 1) / row_bytes, 1,
                              kMaxFrameRows);
  }
  Query LocalQuery(size_t query, double recall_target) const {
    const auto* data =
        reinterpret_cast<const char*>(dataset_.queries.row(query));
    return {.stage = RetrieveStage{
                .query = std::string(data, dataset_.queries.dim * 4),
                .k = options_.k,
                .recall_target = recall_target}};
  }

  const ServingOptions& options_;
  Dataset dataset_;
  std::unique_ptr<Workspace> workspace_;
  std::string import_path_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
  std::unique_ptr<ServerProcess> server_;
  std::unique_ptr<client::Client> client_;
  std::unique_ptr<client::Client> batch_client_;  // one connection per batch
  std::unique_ptr<client::Client> many_client_;   // one connection per client
  std::vector<std::unique_ptr<client::Client>> clients_;
};

// The rows as f32 in a file of their own, so that the import reads the bytes
// that RocksDB is given, and unpacks nothing.
absl::Status Serving::WriteImportFile() {
  import_path_ = workspace_->path() + "/rows.npy";
  VICINAL_ASSIGN_OR_RETURN(
      const std::unique_ptr<client::NpyWriter> writer,
      client::NpyWriter::Create(import_path_, dataset_.base.dim,
                                ElementType::kFloat32));
  VICINAL_RETURN_IF_ERROR(writer->Append(
      {reinterpret_cast<const char*>(dataset_.base.values.data()),
       dataset_.base.values.size() * sizeof(float)}));
  return writer->Finish();
}

// Seconds of the command from its start to its end, which follows the last
// durable ack: reading the file and connecting included.
absl::StatusOr<double> Serving::TimeImport() {
  client_.reset();
  server_.reset();
  VICINAL_ASSIGN_OR_RETURN(server_,
                           ServerProcess::Start(workspace_->NewPath("data")));
  VICINAL_ASSIGN_OR_RETURN(client_, ConnectTo(server_->address()));
  VICINAL_RETURN_IF_ERROR(CreateRemoteCollection(client_.get(), kCollection,
                                                 dataset_, kM, kEfConstruction,
                                                 v1::CODEC_KIND_NONE));
  const auto start = std::chrono::steady_clock::now();
  VICINAL_ASSIGN_OR_RETURN(
      const std::unique_ptr<ChildProcess> import,
      ChildProcess::Start(
          ImportCommand(server_->address(), kCollection, options_.dataset.base),
          workspace_->NewPath("import.log")));
  VICINAL_RETURN_IF_ERROR(import->Wait());
  const double seconds = SecondsSince(start);
  VICINAL_ASSIGN_OR_RETURN(const uint64_t count, client_->Count(kCollection));
  if (count != dataset_.base.num_rows) {
    return absl::InternalError(
        absl::StrCat("imported ", count, " of ", dataset_.base.num_rows));
  }
  return seconds;
}

absl::Status Serving::MeasureIngest(CheckRow* row) {
  double import_seconds = 0;
  double rocksdb_seconds = 0;
  for (size_t i = 0; i < options_.imports; ++i) {
    const std::string path = workspace_->NewPath("rocksdb");
    VICINAL_ASSIGN_OR_RETURN(
        const double rocksdb,
        TimeRocksDbWrites(path, dataset_.base, frame_rows()));
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
    VICINAL_ASSIGN_OR_RETURN(const double import, TimeImport());
    rocksdb_seconds = i == 0 ? rocksdb : std::min(rocksdb_seconds, rocksdb);
    import_seconds = i == 0 ? import : std::min(import_seconds, import);
  }
  row->measured = rocksdb_seconds / import_seconds;
  row->raw = {
      {"points", dataset_.base.num_rows},
      {"bytes_per_point", dataset_.base.dim * sizeof(float)},
      {"batch_points", frame_rows()},
      {"import_points_per_second", dataset_.base.num_rows / import_seconds},
      {"rocksdb_points_per_second", dataset_.base.num_rows / rocksdb_seconds}};
  return absl::OkStatus();
}

absl::Status Serving::MeasureMemory(CheckRow* row) {
  VICINAL_RETURN_IF_ERROR(OptimizeRemote(client_.get(), kCollection));
  client::SearchOptions search;
  search.k = options_.k;
  for (size_t query = 0; query < dataset_.queries.num_rows; ++query) {
    VICINAL_RETURN_IF_ERROR(
        client_
            ->Search(kCollection,
                     {dataset_.queries.row(query), dataset_.queries.dim},
                     search)
            .status());
  }
  VICINAL_ASSIGN_OR_RETURN(const size_t resident,
                           ProcessMemory(server_->pid(), "VmRSS"));
  VICINAL_ASSIGN_OR_RETURN(const size_t anonymous,
                           ProcessMemory(server_->pid(), "RssAnon"));
  VICINAL_ASSIGN_OR_RETURN(const v1::Collection collection,
                           client_->GetCollection(kCollection));
  const size_t vectors =
      dataset_.base.num_rows * dataset_.base.dim * sizeof(float);
  const size_t links = collection.stats().index_bytes();
  row->measured = static_cast<double>(resident) / (vectors + links);
  row->raw = {{"resident_bytes", resident},
              {"anonymous_bytes", anonymous},
              {"vector_bytes", vectors},
              {"link_bytes", links},
              {"segments", collection.stats().segments_size()},
              {"queries", dataset_.queries.num_rows}};
  return absl::OkStatus();
}

absl::Status Serving::PrepareLocal() {
  const DatabaseOptions defaults;
  VICINAL_ASSIGN_OR_RETURN(
      database_, Database::Open(workspace_->NewPath("local"), defaults));
  VICINAL_ASSIGN_OR_RETURN(
      collection_,
      CreateBenchCollection(database_.get(), kCollection, dataset_, kM,
                            kEfConstruction, {.kind = CodecSpec::Kind::kNone}));
  VICINAL_RETURN_IF_ERROR(UpsertAll(collection_.get(), dataset_.base));
  return OptimizeAndWait(collection_.get());
}

absl::Status Serving::SearchBatchesRemote(double recall_target) {
  client::SearchOptions search;
  search.k = options_.k;
  search.recall_target = recall_target;
  const size_t num_queries = dataset_.queries.num_rows;
  client::SearchBatchPipeline calls(*batch_client_, options_.batches);
  size_t num_answered = 0;
  for (size_t next = 0; next < num_queries || calls.in_flight() > 0;) {
    if (next < num_queries && !calls.full()) {
      VectorSetView queries = dataset_.queries.view();
      queries.data = queries.row(next);
      queries.num_rows = std::min(options_.batch, num_queries - next);
      calls.Start(client::MakeSearchBatchRequest(kCollection, queries, search),
                  next);
      next += queries.num_rows;
    } else {
      const auto completion = calls.Next();
      VICINAL_RETURN_IF_ERROR(completion.status);
      num_answered += completion.response->results_size();
    }
  }
  return num_answered == num_queries
             ? absl::OkStatus()
             : absl::InternalError("a result is missing");
}

absl::Status Serving::SearchBatchesLocal(double recall_target) {
  const size_t num_queries = dataset_.queries.num_rows;
  const size_t num_batches =
      (num_queries + options_.batch - 1) / options_.batch;
  return OnThreads(options_.batches, num_batches, [&](size_t, size_t batch) {
    const size_t begin = batch * options_.batch;
    const size_t end = std::min(begin + options_.batch, num_queries);
    std::vector<Query> queries;
    queries.reserve(end - begin);
    for (size_t query = begin; query < end; ++query) {
      queries.push_back(LocalQuery(query, recall_target));
    }
    return collection_->Search(queries, {}).status();
  });
}

absl::Status Serving::SearchSinglesLocal(double recall_target) {
  return OnThreads(options_.local_threads, dataset_.queries.num_rows,
                   [&](size_t, size_t query) {
                     std::vector<Query> one;
                     one.push_back(LocalQuery(query, recall_target));
                     return collection_->Search(one, {}).status();
                   });
}

absl::Status Serving::SearchSinglesThreads(double recall_target) {
  return OnThreads(
      options_.clients, dataset_.queries.num_rows,
      [&](size_t thread, size_t query) {
        client::SearchOptions search;
        search.k = options_.k;
        search.recall_target = recall_target;
        return clients_[thread]
            ->Search(kCollection,
                     {dataset_.queries.row(query), dataset_.queries.dim},
                     search)
            .status();
      });
}

absl::Status Serving::SearchSinglesPipeline(double recall_target) {
  client::SearchOptions search;
  search.k = options_.k;
  search.recall_target = recall_target;
  const size_t num_queries = dataset_.queries.num_rows;
  client::SearchPipeline calls(*many_client_, options_.clients);
  size_t next = 0;
  while (next < num_queries || calls.in_flight() > 0) {
    if (next < num_queries && !calls.full()) {
      calls.Start(
          client::MakeSearchRequest(
              kCollection, {dataset_.queries.row(next), dataset_.queries.dim},
              search),
          next);
      ++next;
    } else {
      VICINAL_RETURN_IF_ERROR(calls.Next().status);
    }
  }
  return absl::OkStatus();
}

absl::Status Serving::MeasureBatch(CheckRow* row) {
  VICINAL_ASSIGN_OR_RETURN(batch_client_,
                           ConnectTo(server_->address(), options_.batches));
  row->raw = {{"batch", options_.batch}, {"in_flight", options_.batches}};
  for (const double recall_target : kRecallTargets) {
    VICINAL_ASSIGN_OR_RETURN(
        const Duel duel,
        RunDuel(
            options_.passes, dataset_.queries.num_rows, server_->pid(),
            [&] { return SearchBatchesRemote(recall_target); },
            [&] { return SearchBatchesLocal(recall_target); }));
    if (!row->measured) row->measured = duel.ratio();
    row->raw["at_recall_target"][absl::StrCat(recall_target)] = duel.Json();
  }
  return absl::OkStatus();
}

absl::Status Serving::MeasureSingle(CheckRow* row) {
  VICINAL_ASSIGN_OR_RETURN(many_client_,
                           ConnectTo(server_->address(), options_.clients));
  for (size_t i = 0; i < options_.clients; ++i) {
    VICINAL_ASSIGN_OR_RETURN(std::unique_ptr<client::Client> connected,
                             ConnectTo(server_->address()));
    clients_.push_back(std::move(connected));
  }
  row->raw = {{"clients", options_.clients},
              {"in_process_threads", options_.local_threads}};
  for (const double recall_target : kRecallTargets) {
    const auto local = [&] { return SearchSinglesLocal(recall_target); };
    VICINAL_ASSIGN_OR_RETURN(
        const Duel lean,
        RunDuel(
            options_.passes, dataset_.queries.num_rows, server_->pid(),
            [&] { return SearchSinglesPipeline(recall_target); }, local));
    VICINAL_ASSIGN_OR_RETURN(
        const Duel blocking,
        RunDuel(
            options_.passes, dataset_.queries.num_rows, server_->pid(),
            [&] { return SearchSinglesThreads(recall_target); }, local));
    if (!row->measured) row->measured = lean.ratio();
    row->raw["at_recall_target"][absl::StrCat(recall_target)] = {
        {"connections_driven_by_one_thread", lean.Json()},
        {"blocking_threads", blocking.Json()}};
  }
  return absl::OkStatus();
}

}  // namespace

void MeasureServing(const ServingOptions& options, CheckReport* report) {
  CheckRow ingest{
      .key = "ingest_grpc",
      .what = "import tool over gRPC, durable, vs RocksDB alone, points/s",
      .limit = options.import_ratio};
  CheckRow memory{.key = "resident_memory",
                  .what = "resident memory of the server / (vectors + links)",
                  .bound = Bound::kAtMost,
                  .limit = options.memory_ratio};
  CheckRow batch{
      .key = "grpc_batch",
      .what = absl::StrFormat("gRPC SearchBatch of %d vs in process, QPS",
                              options.batch),
      .limit = options.batch_ratio};
  CheckRow single{.key = "grpc_single",
                  .what = absl::StrFormat(
                      "gRPC Search, %d clients, vs in process, %d threads, QPS",
                      options.clients, options.local_threads),
                  .limit = options.single_ratio};
  Serving serving(options);
  // Each step needs the one before; what fails explains all that follow.
  absl::Status status = serving.Prepare();
  const auto measure = [&](CheckRow* row, auto step) {
    if (status.ok()) status = step(row);
    if (!row->measured) row->why_not = std::string(status.message());
    report->Add(std::move(*row));
  };
  measure(&ingest, [&](CheckRow* row) { return serving.MeasureIngest(row); });
  measure(&memory, [&](CheckRow* row) { return serving.MeasureMemory(row); });
  measure(&batch, [&](CheckRow* row) {
    const absl::Status prepared = serving.PrepareLocal();
    return prepared.ok() ? serving.MeasureBatch(row) : prepared;
  });
  measure(&single, [&](CheckRow* row) { return serving.MeasureSingle(row); });
}

}  // namespace vicinal::bench
