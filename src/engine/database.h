// The collections under one path. One process at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/clock.h"
#include "src/base/page_memory.h"
#include "src/base/section_file.h"
#include "src/engine/collection.h"
#include "src/engine/device_searcher.h"
#include "src/engine/limits.h"
#include "src/engine/operations.h"
#include "src/engine/schema.h"
#include "storage/record_store.h"

namespace vicinal {

struct DatabaseOptions {
  Limits limits;
  // Threads of one index build; 0: one per core. Builds run one at a time at
  // low priority.
  size_t build_threads = 0;
  // Threads that help a search over several segments or queries; 0: one per
  // core. A lone query uses its caller's thread only, when one segment
  // holds (nearly) everything.
  size_t query_threads = 0;
  // A growing segment is sealed when its vectors pass this size; until then
  // it is scanned exactly. Larger: fewer builds, slower fresh searches.
  size_t growing_segment_bytes = size_t{16} << 20;
  // A growing segment that nobody wrote to for this long is sealed too, when
  // it is worth an index (at least 1,000 rows).
  int64_t idle_seal_ms = 5'000;
  // A build waits this long for more full segments to come (but for sixteen
  // at most), so that a bulk load does not build small ones again and again.
  int64_t build_delay_ms = 1'000;
  // Merges stop at this size (bytes of vectors of one segment).
  size_t max_segment_bytes = size_t{8} << 30;
  // Upserts are refused, or wait where the caller can (ingest streams), while
  // more bytes than this wait for their index.
  size_t max_unindexed_bytes = size_t{2} << 30;
  // Least pause between two queries of a collection that are asked again,
  // exactly, to see whether recall targets are met; 0: none is. Checks take at
  // most a hundredth of a core.
  int64_t recall_check_ms = 2'000;
  RecordStoreOptions store;
  // What compare rows with rows where graphs are built, and queries with rows
  // where a search is exact; none: the CPU alone. Alike, and with the same
  // budget. Whatever they refuse or fail at, the CPU does. Borrowed.
  std::vector<DistanceBackend*> devices;
  // Told in a sentence what an operator should know: a damaged index file, a
  // failed build, the end of writes. From any thread, must not block. Empty:
  // nobody.
  std::function<void(absl::string_view message)> warn;
  // Likewise of what went well: which segment was built, and how long each part
  // of that took.
  std::function<void(absl::string_view message)> inform;
  const Clock* clock = &Clock::Real();
  // Tests only: called at named points; may block or kill the process.
  // Commits, in order: commit:before_store, commit:before_apply,
  // commit:before_ack. Builds: build:start, build:before_file,
  // build:after_vectors, build:after_file, build:before_manifest,
  // build:before_swap, build:after_swap, build:done. Others: verify:damaged,
  // verify:done, recall:checked, drop:done.
  std::function<void(absl::string_view point)> test_hook;
  // Tests only: fails the writing of segment files at will.
  FileFaultHook segment_fault_hook;
};

struct DatabaseStats {
  RecordStoreStats store;
  size_t num_collections = 0;
  uint64_t resident_bytes = 0;  // of the process
  PageFaults page_faults;       // of the process
  std::vector<DeviceStats> devices;
  absl::Status write_health;  // OK, or why no writes are taken
};

// Of one named vector; what is not set stays. hnsw and ivf are for indexes of
// that kind: the kind itself is fixed.
struct IndexParamsChange {
  std::string vector_name;
  std::optional<HnswParams> hnsw = std::nullopt;
  std::optional<IvfParams> ivf = std::nullopt;
  std::optional<CodecSpec> codec = std::nullopt;
};

// Whether Database::CreateCollection returned this ResourceExhausted because
// there are too many collections, and not because the disk is full.
bool IsTooManyCollections(const absl::Status& status);

// Whether CreateCollection or UpdateIndexParams returned this
// FailedPrecondition because a GPU is required and there is none.
bool IsGpuMissing(const absl::Status& status);

// What this build of the engine is.
struct EngineInfo {
  const char* simd;              // the distance kernels in use, e.g. "avx512"
  uint32_t data_format_version;  // written, and the newest that is read
};
EngineInfo GetEngineInfo();

// Thread-safe.
class Database {
 public:
  // Errors as RecordStore::Open. A damaged index file never fails the open:
  // its collection answers exactly from storage while the file is rebuilt.
  static absl::StatusOr<std::unique_ptr<Database>> Open(
      const std::string& path, const DatabaseOptions& options);
  // Finishes the commits under way, cancels builds. Collections must not be
  // used any more.
  virtual ~Database() = default;

  // FailedPrecondition: the schema requires a GPU, and there is none.
  virtual absl::Status CheckGpu(const CollectionSchema& schema) const = 0;
  // AlreadyExists; InvalidArgument (see ValidateSchema); ResourceExhausted:
  // too many collections, or the disk is full; FailedPrecondition: it requires
  // a GPU, and there is none.
  virtual absl::StatusOr<std::shared_ptr<Collection>> CreateCollection(
      CollectionSchema schema) = 0;
  virtual absl::StatusOr<std::shared_ptr<Collection>> GetCollection(
      absl::string_view name) const = 0;  // NotFound
  virtual std::vector<std::shared_ptr<Collection>> ListCollections()
      const = 0;  // by name
  // Changes what later builds use (parameters of indexes, codecs), where
  // segments are placed that are built or opened from then on (memory) and what
  // later builds and searches use a GPU for, all of it or nothing; the rest of
  // a schema is fixed. NotFound; InvalidArgument; FailedPrecondition: as
  // CreateCollection.
  virtual absl::StatusOr<std::shared_ptr<Collection>> UpdateIndexParams(
      absl::string_view name, std::span<const IndexParamsChange> changes,
      std::optional<MemorySpec> memory = std::nullopt,
      std::optional<GpuUse> gpu = std::nullopt) = 0;
  // Declares a payload field: from now on filters know its type, and points
  // that are written have it indexed. The operation indexes the others;
  // cancelled, it drops the index again. NotFound; InvalidArgument: see
  // ValidateSchema; AlreadyExists: the path is declared; ResourceExhausted: the
  // disk is full.
  virtual absl::StatusOr<std::shared_ptr<Operation>> CreatePayloadIndex(
      absl::string_view name, PayloadField field) = 0;
  // NotFound: no such collection, or no such index.
  virtual absl::Status DropPayloadIndex(absl::string_view name,
                                        absl::string_view path) = 0;
  // Whether filters over fields without an index are refused. NotFound.
  virtual absl::Status SetIndexedFiltersOnly(absl::string_view name,
                                             bool only) = 0;
  // Gives a sparse vector the vocabulary and weights of an inference-free
  // model, in place of an earlier one; returns its number of tokens. file: as
  // of WordPieceVocabulary::FromFile. NotFound: no such collection or vector;
  // InvalidArgument: the file is none.
  virtual absl::StatusOr<size_t> SetSparseEncoder(absl::string_view name,
                                                  absl::string_view vector,
                                                  absl::string_view file) = 0;
  // Gone when it returns OK; searches under way finish. NotFound.
  virtual absl::Status DropCollection(absl::string_view name) = 0;

  virtual OperationRegistry& operations() = 0;
  virtual DatabaseStats stats() const = 0;
  // Leaves read-only mode after the cause (a full disk) was mended.
  virtual absl::Status Resume() = 0;
  virtual const DatabaseOptions& options() const = 0;
};

}  // namespace vicinal
