// Micro benchmarks of storage and of encoding: what a write and a read of
// points cost below the engine. Data goes to a folder of its own under TMPDIR
// (or /tmp), which should be on the disk that is to be measured.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "benchmark/benchmark.h"
#include "src/base/check.h"
#include "src/base/crc32c.h"
#include "src/base/point_id.h"
#include "src/base/random.h"
#include "storage/collection_store.h"
#include "storage/record_store.h"

namespace vicinal {
namespace {

constexpr uint64_t kSeed = 2;
constexpr size_t kRowBytes = 784 * sizeof(float);  // Fashion-MNIST as f32

class Folder {
 public:
  Folder() {
    path_ = (std::filesystem::temp_directory_path() / "vicinal_storage_bench_")
                .string() +
            "XXXXXX";
    VICINAL_CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct Store {
  Folder folder;
  std::unique_ptr<RecordStore> records;
  CollectionStore points{nullptr, 1};

  Store() {
    auto opened = RecordStore::Open(folder.File("db"), {});
    VICINAL_CHECK(opened.ok());
    records = *std::move(opened);
    points = CollectionStore(records.get(), 1);
  }
};

std::string RandomRow() {
  Random random(kSeed);
  std::string row(kRowBytes, '\0');
  for (char& byte : row) byte = static_cast<char>(random.Uniform(256));
  return row;
}

// What a batch of `num_points` new points writes.
WriteBatch PointsBatch(const CollectionStore& store, Ordinal first,
                       size_t num_points, absl::string_view row) {
  WriteBatch batch(num_points * (row.size() + 64));
  std::string body;
  for (size_t i = 0; i < num_points; ++i) {
    const Ordinal ordinal = first + i;
    const PointId id{ordinal};
    body.clear();
    AppendRecordBody(id, {{.field = 0, .bytes = row}}, &body);
    store.PutRecord(&batch, ordinal, ordinal, body);
    store.PutId(&batch, id, {.ordinal = ordinal, .sequence = ordinal});
  }
  return batch;
}

void Commit(benchmark::State& state, Durability durability) {
  Store store;
  const std::string row = RandomRow();
  const auto num_points = static_cast<size_t>(state.range(0));
  Ordinal next = 1;
  for (auto _ : state) {
    const absl::Status status = store.records->Commit(
        PointsBatch(store.points, next, num_points, row), durability);
    VICINAL_CHECK(status.ok());
    next += num_points;
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * state.range(0) *
                          static_cast<int64_t>(kRowBytes));
}
void CommitFsynced(benchmark::State& state) {
  Commit(state, Durability::kFsynced);
}
void CommitBuffered(benchmark::State& state) {
  Commit(state, Durability::kBuffered);
}
BENCHMARK(CommitFsynced)->Arg(1)->Arg(64)->Arg(669)->UseRealTime();
BENCHMARK(CommitBuffered)->Arg(1)->Arg(64)->Arg(669)->UseRealTime();

// Points by id, as Get does: the ids, then the records.
void GetPoints(benchmark::State& state) {
  constexpr size_t kStored = 20'000;
  static Store* const store = [] {
    auto* filled = new Store;  // for all runs; its folder goes with the process
    const std::string row = RandomRow();
    for (size_t i = 0; i < kStored; i += 1'000) {
      const absl::Status status = filled->records->Commit(
          PointsBatch(filled->points, 1 + i, 1'000, row),
          Durability::kBuffered);
      VICINAL_CHECK(status.ok());
    }
    return filled;
  }();
  Random random(kSeed);
  const auto num_points = static_cast<size_t>(state.range(0));
  for (auto _ : state) {
    std::vector<PointId> ids;
    for (size_t i = 0; i < num_points; ++i) {
      ids.emplace_back(1 + random.Uniform(kStored));
    }
    const auto entries = store->points.LookupIds(ids);
    VICINAL_CHECK(entries.ok());
    std::vector<Ordinal> ordinals;
    for (const auto& entry : *entries) ordinals.push_back(entry->ordinal);
    const auto records = store->points.GetRecords(ordinals);
    VICINAL_CHECK(records.ok());
    benchmark::DoNotOptimize(records->data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(GetPoints)->Arg(1)->Arg(10)->Arg(100);

void EncodeRecord(benchmark::State& state) {
  const std::string row = RandomRow();
  const PointId id{uint64_t{1'234'567}};
  std::string body;
  for (auto _ : state) {
    body.clear();
    AppendRecordBody(id, {{.field = 0, .bytes = row}}, &body);
    benchmark::DoNotOptimize(body.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kRowBytes));
}
BENCHMARK(EncodeRecord);

void DecodeRecord(benchmark::State& state) {
  std::string record(sizeof(Sequence), '\0');  // written by the committer
  AppendRecordBody(PointId{uint64_t{1'234'567}},
                   {{.field = 0, .bytes = RandomRow()}}, &record);
  for (auto _ : state) {
    const auto view = RecordView::Decode(record);
    VICINAL_CHECK(view.ok());
    benchmark::DoNotOptimize(view->vectors.data());
  }
}
BENCHMARK(DecodeRecord);

void PointIdRoundTrip(benchmark::State& state) {
  const PointId id = *PointId::FromString(
      std::string(static_cast<size_t>(state.range(0)), 'x'));
  for (auto _ : state) {
    const auto decoded = PointId::Decode(id.Encode());
    VICINAL_CHECK(decoded.ok());
    benchmark::DoNotOptimize(*decoded);
  }
}
BENCHMARK(PointIdRoundTrip)->Arg(8)->Arg(512);

void Checksum(benchmark::State& state) {
  const std::string bytes(static_cast<size_t>(state.range(0)), 'x');
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(bytes));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Checksum)->Arg(4 << 10)->Arg(1 << 20);

}  // namespace
}  // namespace vicinal

BENCHMARK_MAIN();
