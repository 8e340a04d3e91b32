#include "src/engine/database.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "src/base/mutex.h"
#include "src/base/status_macros.h"
#include "src/base/thread_pool.h"
#include "src/distance/distance.h"
#include "src/engine/collection_impl.h"
#include "src/engine/committer.h"
#include "src/engine/compactor.h"
#include "src/engine/device_searcher.h"
#include "storage/collection_store.h"
#include "storage/record_store.h"
#include "storage/segment_path.h"

namespace vicinal {
namespace {

// Mark a status.
constexpr char kTooManyCollections[] = "vicinal/too_many_collections";
constexpr char kGpuMissing[] = "vicinal/gpu_missing";

// A random (version 4) UUID.
std::string NewUuid() {
  std::random_device device;
  const auto random = [&] {
    return static_cast<uint64_t>(device()) << 32 | device();
  };
  const uint64_t a = (random() & ~uint64_t{0xF000}) | 0x4000;
  const uint64_t b = (random() >> 2) | (uint64_t{1} << 63);
  return absl::StrFormat("%08x-%04x-%04x-%04x-%012x", a >> 32,
                         (a >> 16) & 0xFFFF, a & 0xFFFF, b >> 48,
                         b & 0xFFFFFFFFFFFF);
}

uint64_t ResidentOfProcess() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  unsigned long size = 0, resident = 0;
  const int read = std::fscanf(file, "%lu %lu", &size, &resident);
  std::fclose(file);
  return read == 2 ? resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE))
                   : 0;
}

absl::Status InvalidSchema(const std::vector<FieldViolation>& violations) {
  std::string message = "the collection's schema is not valid:";
  for (const FieldViolation& violation : violations) {
    absl::StrAppend(&message, " ", violation.field, " ", violation.description,
                    ";");
  }
  message.pop_back();
  return absl::InvalidArgumentError(message);
}

class DatabaseImpl final : public Database {
 public:
  DatabaseImpl(const DatabaseOptions& options,
               std::unique_ptr<RecordStore> store);
  ~DatabaseImpl() override;

  absl::Status OpenCollections();

  absl::Status CheckGpu(const CollectionSchema& schema) const override;
  absl::StatusOr<std::shared_ptr<Collection>> CreateCollection(
      CollectionSchema schema) override;
  absl::StatusOr<std::shared_ptr<Collection>> GetCollection(
      absl::string_view name) const override;
  std::vector<std::shared_ptr<Collection>> ListCollections() const override;
  absl::StatusOr<std::shared_ptr<Collection>> UpdateIndexParams(
      absl::string_view name, std::span<const IndexParamsChange> changes,
      std::optional<MemorySpec> memory, std::optional<GpuUse> gpu) override;
  absl::StatusOr<std::shared_ptr<Operation>> CreatePayloadIndex(
      absl::string_view name, PayloadField field) override;
  absl::StatusOr<size_t> SetSparseEncoder(absl::string_view name,
                                          absl::string_view vector,
                                          absl::string_view file) override;
  absl::Status DropPayloadIndex(absl::string_view name,
                                absl::string_view path) override;
  absl::Status SetIndexedFiltersOnly(absl::string_view name,
                                     bool only) override;
  absl::Status DropCollection(absl::string_view name) override;

  OperationRegistry& operations() override { return operations_; }
  DatabaseStats stats() const override;
  absl::Status Resume() override { return store_->Resume(); }
  const DatabaseOptions& options() const override { return options_; }

 private:
  absl::StatusOr<std::shared_ptr<CollectionImpl>> OpenCollection(
      CollectionNumber number, absl::StatusOr<CollectionSchema> schema);
  // known: ascending.
  absl::Status DeleteLeftovers(const std::vector<CollectionNumber>& known);
  absl::StatusOr<std::shared_ptr<CollectionImpl>> Find(
      absl::string_view name) const;
  // Durably, and for the collection. InvalidArgument: it is not valid.
  absl::Status StoreSchema(CollectionImpl& collection, CollectionSchema schema)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mu_);

  const DatabaseOptions options_;
  const std::unique_ptr<RecordStore> store_;
  OperationRegistry operations_;
  EngineContext context_;
  std::unique_ptr<DeviceSearcher> device_;  // null: there is none
  std::unique_ptr<ThreadPool> query_pool_;
  std::unique_ptr<Compactor> compactor_;
  std::unique_ptr<Committer> committer_;

  // Changes of the set of collections, one at a time; held across their I/O
  // so that what storage and the map say agree.
  Mutex change_mu_;
  mutable Mutex mu_;  // the map only
  std::map<std::string, std::shared_ptr<CollectionImpl>, std::less<>>
      collections_ ABSL_GUARDED_BY(mu_);
};

DatabaseImpl::DatabaseImpl(const DatabaseOptions& options,
                           std::unique_ptr<RecordStore> store)
    : options_(options),
      store_(std::move(store)),
      operations_(*options_.clock) {
  const size_t num_cores = std::max(1u, std::thread::hardware_concurrency());
  const size_t query_threads =
      options_.query_threads == 0 ? num_cores : options_.query_threads;
  context_.options = &options_;
  context_.store = store_.get();
  context_.unindexed_bytes = std::make_shared<std::atomic<size_t>>(0);
  context_.drop_payload_index = [this](absl::string_view collection,
                                       absl::string_view path) {
    return DropPayloadIndex(collection, path);
  };
  if (!options_.devices.empty()) {
    device_ = std::make_unique<DeviceSearcher>(options_.devices, options_.clock,
                                               options_.warn);
    context_.device = device_.get();
  }
  // Callers search, too: one thread less.
  if (query_threads > 1) {
    query_pool_ = std::make_unique<ThreadPool>(query_threads - 1);
    context_.query_pool = query_pool_.get();
  }
  committer_ = std::make_unique<Committer>(store_.get(), options_.test_hook);
  context_.committer = committer_.get();
}

DatabaseImpl::~DatabaseImpl() {
  // The compactor stops first, but stays: the last commits still wake it.
  if (compactor_ != nullptr) compactor_->Stop();
  committer_.reset();
}

absl::Status DatabaseImpl::OpenCollections() {
  VICINAL_ASSIGN_OR_RETURN(const auto descriptors,
                           ListDescriptors(store_.get()));
  std::vector<CollectionNumber> known;
  for (const auto& [number, descriptor] : descriptors) known.push_back(number);
  VICINAL_RETURN_IF_ERROR(DeleteLeftovers(known));
  VICINAL_RETURN_IF_ERROR(CreateCollectionFolders(store_->path(), known));
  compactor_ = std::make_unique<Compactor>(&context_, &operations_);
  context_.compactor = compactor_.get();
  std::vector<std::shared_ptr<CollectionImpl>> collections(descriptors.size());
  Mutex failure_mu;
  absl::Status failure;  // the first
  const auto open = [&](size_t i) {
    {
      MutexLock lock(failure_mu);
      if (!failure.ok()) return;
    }
    const auto& [number, descriptor] = descriptors[i];
    auto opened = OpenCollection(number, CollectionSchema::Decode(descriptor));
    if (opened.ok()) {
      collections[i] = *std::move(opened);
      return;
    }
    MutexLock lock(failure_mu);
    failure.Update(opened.status());
  };
  if (query_pool_ != nullptr) {
    query_pool_->ParallelFor(descriptors.size(), open);
  } else {
    for (size_t i = 0; i < descriptors.size(); ++i) open(i);
  }
  VICINAL_RETURN_IF_ERROR(failure);
  {
    MutexLock lock(mu_);
    for (const auto& collection : collections) {
      collections_[collection->schema().name] = collection;
    }
  }
  compactor_->Add(std::move(collections));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<CollectionImpl>> DatabaseImpl::OpenCollection(
    CollectionNumber number, absl::StatusOr<CollectionSchema> schema) {
  VICINAL_RETURN_IF_ERROR(schema.status());
  return CollectionImpl::Open(&context_, number, *std::move(schema),
                              CollectionFolder(store_->path(), number));
}

// A drop, or a creation, that a crash cut off: its folder is still there.
absl::Status DatabaseImpl::DeleteLeftovers(
    const std::vector<CollectionNumber>& known) {
  VICINAL_ASSIGN_OR_RETURN(const auto folders,
                           ListCollectionFolders(store_->path()));
  for (const CollectionNumber number : folders) {
    if (std::binary_search(known.begin(), known.end(), number)) continue;
    VICINAL_RETURN_IF_ERROR(CollectionStore(store_.get(), number).DeleteAll());
    VICINAL_RETURN_IF_ERROR(DeleteCollectionFolder(store_->path(), number));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Collection>> DatabaseImpl::CreateCollection(
    CollectionSchema schema) {
  if (const auto violations = ValidateSchema(schema, options_.limits);
      !violations.empty()) {
    return InvalidSchema(violations);
  }
  VICINAL_RETURN_IF_ERROR(CheckGpu(schema));
  for (TextField& text : schema.texts)
    text.icu_version = std::string(IcuVersion());
  MutexLock change(change_mu_);
  {
    MutexLock lock(mu_);
    if (collections_.contains(schema.name)) {
      return absl::AlreadyExistsError(absl::StrCat(
          "collection \"", schema.name,
          "\" exists already; choose another name or drop it first"));
    }
    if (collections_.size() >= options_.limits.max_collections) {
      absl::Status status = absl::ResourceExhaustedError(absl::StrCat(
          "there are ", collections_.size(), " collections; at most ",
          options_.limits.max_collections, " are allowed: drop one first"));
      status.SetPayload(kTooManyCollections, absl::Cord());
      return status;
    }
  }
  schema.uuid = NewUuid();
  schema.created_unix_micros = options_.clock->UnixMicros();
  VICINAL_ASSIGN_OR_RETURN(const CollectionNumber number,
                           NextCollectionNumber(store_.get()));
  const std::string name = schema.name;
  const std::string descriptor = schema.Encode();
  VICINAL_RETURN_IF_ERROR(
      CreateCollectionFolders(store_->path(), {&number, 1}));
  VICINAL_ASSIGN_OR_RETURN(auto collection,
                           OpenCollection(number, std::move(schema)));
  VICINAL_RETURN_IF_ERROR(PutDescriptor(store_.get(), number, descriptor));
  {
    MutexLock lock(mu_);
    collections_[name] = collection;
  }
  compactor_->Add({collection});
  return collection;
}

absl::StatusOr<std::shared_ptr<CollectionImpl>> DatabaseImpl::Find(
    absl::string_view name) const {
  MutexLock lock(mu_);
  const auto found =
      collections_.find(std::string_view(name.data(), name.size()));
  if (found == collections_.end()) {
    return absl::NotFoundError(
        absl::StrCat("there is no collection \"", name, "\""));
  }
  return found->second;
}

absl::StatusOr<std::shared_ptr<Collection>> DatabaseImpl::GetCollection(
    absl::string_view name) const {
  return Find(name);
}

std::vector<std::shared_ptr<Collection>> DatabaseImpl::ListCollections() const {
  MutexLock lock(mu_);
  std::vector<std::shared_ptr<Collection>> out;
  for (const auto& [name, collection] : collections_) {
    out.push_back(collection);
  }
  return out;
}

absl::StatusOr<std::shared_ptr<Collection>> DatabaseImpl::UpdateIndexParams(
    absl::string_view name, std::span<const IndexParamsChange> changes,
    std::optional<MemorySpec> memory, std::optional<GpuUse> gpu) {
  MutexLock lock(change_mu_);
  VICINAL_ASSIGN_OR_RETURN(auto collection, Find(name));
  CollectionSchema schema = collection->schema();
  for (const IndexParamsChange& change : changes) {
    const std::optional<size_t> f = schema.FindVector(change.vector_name);
    if (!f.has_value()) {
      return absl::NotFoundError(absl::StrCat("collection \"", name,
                                              "\" has no vector \"",
                                              change.vector_name, "\""));
    }
    VectorField& field = schema.vectors[*f];
    if ((change.hnsw && field.index != IndexKind::kHnsw) ||
        (change.ivf && field.index != IndexKind::kIvf)) {
      return absl::InvalidArgumentError(
          absl::StrCat("vector \"", change.vector_name,
                       "\" has another kind of index, which is fixed"));
    }
    if (change.hnsw) field.hnsw = *change.hnsw;
    if (change.ivf) field.ivf = *change.ivf;
    if (change.codec) field.codec = *change.codec;
  }
  if (memory.has_value()) schema.memory = *memory;
  if (gpu.has_value()) {
    schema.gpu = *gpu;
    VICINAL_RETURN_IF_ERROR(CheckGpu(schema));
  }
  VICINAL_RETURN_IF_ERROR(StoreSchema(*collection, std::move(schema)));
  return collection;
}

absl::StatusOr<std::shared_ptr<Operation>> DatabaseImpl::CreatePayloadIndex(
    absl::string_view name, PayloadField field) {
  MutexLock lock(change_mu_);
  VICINAL_ASSIGN_OR_RETURN(auto collection, Find(name));
  CollectionSchema schema = collection->schema();
  for (const PayloadField& other : schema.payload_fields) {
    if (other.path != field.path) continue;
    return absl::AlreadyExistsError(absl::StrCat(
        "payload field \"", field.path, "\" of collection \"", name,
        "\" has an index of type ", PayloadTypeName(other.type),
        "; drop it first to change it"));
  }
  schema.payload_fields.push_back(field);
  VICINAL_RETURN_IF_ERROR(StoreSchema(*collection, std::move(schema)));
  return compactor_->IndexPayloads(collection, std::move(field));
}

absl::StatusOr<size_t> DatabaseImpl::SetSparseEncoder(absl::string_view name,
                                                      absl::string_view vector,
                                                      absl::string_view file) {
  VICINAL_ASSIGN_OR_RETURN(WordPieceVocabulary vocabulary,
                           WordPieceVocabulary::FromFile(file));
  const size_t num_tokens = vocabulary.size();
  MutexLock lock(change_mu_);
  VICINAL_ASSIGN_OR_RETURN(auto collection, Find(name));
  const std::optional<size_t> s = collection->schema().FindSparse(vector);
  if (!s.has_value()) {
    return absl::NotFoundError(absl::StrCat(
        "collection \"", name, "\" has no sparse vector \"", vector, "\""));
  }
  VICINAL_RETURN_IF_ERROR(
      collection->SetEncoder(*s, file, std::move(vocabulary)));
  return num_tokens;
}

absl::Status DatabaseImpl::DropPayloadIndex(absl::string_view name,
                                            absl::string_view path) {
  MutexLock lock(change_mu_);
  VICINAL_ASSIGN_OR_RETURN(auto collection, Find(name));
  CollectionSchema schema = collection->schema();
  const auto found = std::find_if(
      schema.payload_fields.begin(), schema.payload_fields.end(),
      [&](const PayloadField& field) { return field.path == path; });
  if (found == schema.payload_fields.end()) {
    return absl::NotFoundError(absl::StrCat("collection \"", name,
                                            "\" has no index of payload field "
                                            "\"",
                                            path, "\""));
  }
  if (found->path == schema.partition_key) {
    return absl::FailedPreconditionError(absl::StrCat(
        "payload field \"", path, "\" divides collection \"", name,
        "\" into partitions; its index stays as long as the collection"));
  }
  const PayloadField field = *found;
  schema.payload_fields.erase(found);
  VICINAL_RETURN_IF_ERROR(StoreSchema(*collection, std::move(schema)));
  collection->ForgetPayloadField(field);
  return absl::OkStatus();
}

absl::Status DatabaseImpl::SetIndexedFiltersOnly(absl::string_view name,
                                                 bool only) {
  MutexLock lock(change_mu_);
  VICINAL_ASSIGN_OR_RETURN(auto collection, Find(name));
  CollectionSchema schema = collection->schema();
  schema.indexed_filters_only = only;
  return StoreSchema(*collection, std::move(schema));
}

absl::Status DatabaseImpl::CheckGpu(const CollectionSchema& schema) const {
  if (schema.gpu != GpuUse::kRequire ||
      (device_ != nullptr && !device_->is_lost())) {
    return absl::OkStatus();
  }
  absl::Status status = absl::FailedPreconditionError(absl::StrCat(
      "collection \"", schema.name, "\" is to require a GPU, and this server ",
      device_ == nullptr ? "uses none; start vicinald with --gpu require on a "
                           "machine with one"
                         : "lost all that it used; restart it",
      ", or choose auto"));
  status.SetPayload(kGpuMissing, absl::Cord());
  return status;
}

absl::Status DatabaseImpl::StoreSchema(CollectionImpl& collection,
                                       CollectionSchema schema) {
  if (const auto violations = ValidateSchema(schema, options_.limits);
      !violations.empty()) {
    return InvalidSchema(violations);
  }
  VICINAL_RETURN_IF_ERROR(
      PutDescriptor(store_.get(), collection.number(), schema.Encode()));
  collection.SetSchema(std::move(schema));
  return absl::OkStatus();
}

absl::Status DatabaseImpl::DropCollection(absl::string_view name) {
  MutexLock change(change_mu_);
  VICINAL_ASSIGN_OR_RETURN(auto collection, Find(name));
  VICINAL_RETURN_IF_ERROR(DeleteDescriptor(store_.get(), collection->number()));
  collection->MarkDropped();
  {
    MutexLock lock(mu_);
    collections_.erase(
        collections_.find(std::string_view(name.data(), name.size())));
  }
  compactor_->CancelBuild(collection.get());
  // Commits that began before the mark end before this runs.
  committer_->Post([this, collection] { compactor_->Drop(collection); });
  return absl::OkStatus();
}

DatabaseStats DatabaseImpl::stats() const {
  DatabaseStats stats;
  stats.store = store_->stats();
  {
    MutexLock lock(mu_);
    stats.num_collections = collections_.size();
  }
  stats.resident_bytes = ResidentOfProcess();
  stats.page_faults = FaultsOfProcess();
  stats.write_health = store_->WriteHealth();
  if (device_ != nullptr) stats.devices = device_->stats();
  return stats;
}

}  // namespace

bool IsTooManyCollections(const absl::Status& status) {
  return status.GetPayload(kTooManyCollections).has_value();
}

bool IsGpuMissing(const absl::Status& status) {
  return status.GetPayload(kGpuMissing).has_value();
}

EngineInfo GetEngineInfo() {
  return {ActiveKernels().name, kDataFormatVersion};
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(
    const std::string& path, const DatabaseOptions& options) {
  RecordStoreOptions store_options = options.store;
  store_options.warn = options.warn;
  VICINAL_ASSIGN_OR_RETURN(auto store, RecordStore::Open(path, store_options));
  auto database = std::make_unique<DatabaseImpl>(options, std::move(store));
  VICINAL_RETURN_IF_ERROR(database->OpenCollections());
  return database;
}

}  // namespace vicinal
