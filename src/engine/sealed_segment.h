// A segment whose rows never change: mapped files with an index per field.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "index/calibration.h"
#include "index/flat.h"
#include "index/index.h"
#include "index/ivf.h"
#include "index/sealed_lexical.h"
#include "index/sealed_multi.h"
#include "quant/codec.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/mapped_buffer.h"
#include "src/base/section_file.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/engine/device_residency.h"
#include "src/engine/layout.h"
#include "src/engine/live_bits.h"
#include "src/engine/schema.h"
#include "src/engine/segment.h"
#include "storage/collection_store.h"

namespace vicinal {

// Where a segment's codes, links and lists are to be.
struct SegmentPlacement {
  MemoryTier tier = MemoryTier::kRam;
  // Of kRam and kPinned: fields whose structures take more than what is left of
  // this are mapped.
  size_t max_ram_bytes = SIZE_MAX;
};

// Opened once, then const but for tombstones (in memory; storage has them).
class SealedSegment final : public Segment,
                            public std::enable_shared_from_this<SealedSegment> {
 public:
  // Maps the files and checks everything that a search follows: all of the
  // .seg file byte by byte, of the .vec file its header. DataLoss: a file is
  // missing, damaged or another segment's. FailedPrecondition: written by a
  // newer version.
  static absl::StatusOr<std::shared_ptr<SealedSegment>> Open(
      std::shared_ptr<const Layout> layout, const std::string& folder,
      const SegmentEntry& entry, SegmentPlacement placement = {});

  const SegmentEntry& entry() const { return entry_; }
  // Reads all vectors and compares their checksum (minutes for large cold
  // files). DataLoss: they are damaged.
  absl::Status VerifyVectors() const { return vectors_file_->VerifyAll(); }
  // What VerifyVectors last said of it; the compactor keeps it.
  enum class Health : uint8_t { kUnknown, kVerified, kDamaged };
  Health health() const { return health_.load(std::memory_order_relaxed); }
  void MarkVerified() { health_ = Health::kVerified; }
  void MarkDamaged() { health_ = Health::kDamaged; }

  size_t num_rows() const override { return entry_.num_rows; }
  size_t num_deleted() const override { return dead_->Count(); }
  PointId IdOf(RowId row) const override;
  Ordinal OrdinalOf(RowId row) const override { return ordinals_[row]; }
  bool IsDead(RowId row) const override { return dead_->Test(row); }
  const AtomicBitmap& dead() const override { return *dead_; }
  const std::byte* VectorOf(size_t field, RowId row) const override;
  const LexicalField& lexical(size_t l) const override { return *lexical_[l]; }
  const MultiField& multi(size_t m) const override { return *multi_[m]; }
  std::optional<RowId> FindOrdinal(Ordinal ordinal) const override;
  std::optional<RowId> FindId(const PointId& id, uint64_t hash) const override;
  bool Kill(RowId row) override;
  absl::Status Search(const SegmentQuery& query, const StopCondition& stop,
                      TopK* out, SearchStats* stats) const override;
  bool IsExact(const SegmentQuery& query) const override;
  SegmentStats stats() const override;
  // Queries that differ in their vectors alone.
  struct Together {
    const void* vectors = nullptr;  // row_bytes of the layout each
    size_t num = 1;
    size_t cpu_threads = 1;  // among which Search would divide them
  };
  // The k nearest of each of the queries by a device of `query`, exactly: k
  // for each, nearest first, filled up with kInvalidRow. Empty: it does not
  // pay, or the device did not answer; then Search does. Errors: as Search.
  absl::StatusOr<std::vector<Neighbor>> SearchOnDevice(
      const SegmentQuery& query, const Together& together,
      const StopCondition& stop) const;

  // Distances of rows that have tokens to query.multi, of which no more than m
  // and the query is looked at, by a device of `query` that has the copy, or is
  // required to. Empty, errors: as above.
  absl::StatusOr<std::vector<float>> ScoreTokensOnDevice(
      const SegmentQuery& query, std::span<const RowId> rows,
      const StopCondition& stop) const;

  // Whether searches of the field may be approximate.
  bool HasIndex(size_t field) const { return fields_[field].index != nullptr; }
  // Measures anew which effort reaches which recall, for `queries` (as the
  // field's rows); searches use it from then on, until the segment is closed.
  // One caller at a time. Cancelled: the token was set.
  absl::Status Recalibrate(size_t field, VectorSetView queries,
                           size_t num_threads, const CancelToken* cancel);

  // Of codes, links and lists.
  size_t ram_bytes() const { return ram_bytes_; }
  // Bytes of its files that are in memory now.
  size_t resident_bytes() const;
  // Whether all that its placement asked for was locked, or put, in memory.
  bool is_placed() const { return is_placed_; }

  // Live bytes of vectors and terms: what a merge would have to rebuild.
  size_t live_vector_bytes() const;

 private:
  struct Field {
    VectorSetView vectors;
    std::span<const uint32_t> to_row;      // empty: identity
    std::span<const uint32_t> to_field;    // empty: identity
    std::unique_ptr<AtomicBitmap> hidden;  // dead, by field row
    std::unique_ptr<FlatIndex> flat;
    std::unique_ptr<const Codec> codec;  // null: searched as it is
    size_t code_bytes = 0;
    // Links or lists, then codes: what a search touches first, in large pages,
    // which a mapped file cannot have. Measured: 1.1-1.2x the searches per
    // second. Empty: they are read from the file.
    MappedBuffer hot;
    std::unique_ptr<ApproximateIndex> index;  // null: scanned
    const IvfIndex* lists = nullptr;          // the same, where it is an IVF
    // Of searches within one partition.
    std::vector<PartitionEfforts> partitions;
    // Of lists beside a graph, which filtered searches may read.
    std::vector<RecallPoint> cells;
    // On a device; null: of a type that none compares, or no rows.
    std::shared_ptr<DeviceCopy> device_copy;
    mutable LiveBits live;  // by field row
    // The newest is in use; searches may still read the others.
    std::vector<std::unique_ptr<const std::vector<RecallPoint>>> calibrations;
    std::atomic<const std::vector<RecallPoint>*> calibration = nullptr;

    // What the query says about the kind of index that this is.
    std::optional<size_t> EffortOf(const SegmentQuery& query) const {
      return lists != nullptr ? query.nprobe : query.ef;
    }
    // What a search takes that the filter leaves these rows.
    const std::vector<RecallPoint>& TableFor(const Filter& filter) const;
    void Calibrate(std::vector<RecallPoint> table) {
      calibrations.push_back(
          std::make_unique<const std::vector<RecallPoint>>(std::move(table)));
      calibration.store(calibrations.back().get(), std::memory_order_release);
    }
  };

  SealedSegment() = default;
  absl::Status Load();
  absl::Status LoadIds();
  absl::Status LoadField(size_t f, absl::string_view meta_bytes);
  absl::Status LoadRowMaps(size_t f);
  absl::Status LoadLexical(absl::string_view meta);
  absl::Status LoadMulti(absl::string_view meta);
  // The bytes, in memory where the placement asks for it and has room.
  absl::string_view Placed(absl::string_view bytes, MappedBuffer* buffer);
  // Reads the codec and finds the codes in the file.
  absl::StatusOr<std::span<const uint8_t>> LoadCodes(size_t f, bool in_blocks);
  absl::Status LoadIndex(size_t f, uint8_t flags);
  // The graph's cells, where there are any.
  absl::StatusOr<std::unique_ptr<const IvfIndex>> LoadCells(
      size_t f, uint8_t flags, const uint8_t* codes);
  absl::Status LoadCalibration(size_t f, uint8_t flags);
  // The next `count` points, or as many as there are.
  static std::vector<RecallPoint> ReadTable(uint8_t flags, size_t count,
                                            absl::string_view* bytes);
  void Pin();
  absl::Status Damaged(absl::string_view what) const;
  RowId FieldRow(const Field& field, RowId row) const;
  // Those rows as the field's (null: all). *bits holds what the filter borrows
  // where they are numbered otherwise.
  Filter FilterOf(const Field& field, const RowSet* rows,
                  std::optional<Bitmap>* bits) const;
  // Of a search that is not exact.
  SearchParams ParamsFor(const Field& field, const SegmentQuery& query,
                         const Filter& filter) const;
  void AddFilterEffort(const Field& field, const SegmentQuery& query,
                       const Filter& filter, SearchParams* params) const;
  // Whether the query asks for all accepted rows to be compared.
  bool Scans(const SegmentQuery& query) const {
    return IsExact(query) || query.force == ForcedPlan::kScan;
  }
  // SearchOnDevice, of what the filter accepts of the field's rows.
  absl::StatusOr<std::vector<Neighbor>> AskDevice(
      const Field& field, const SegmentQuery& query, const Filter& filter,
      const Together& together, const StopCondition& stop) const;
  struct TokenAnswer;
  struct TokenPlan;
  // num_accepted: of the documents.
  static TokenPlan PlanFor(const TokenDocuments& documents,
                           size_t num_query_tokens, size_t k,
                           size_t num_accepted);
  // Asks a copy of tokens for the k best of a list of what is accepted, or, as
  // long as that leaves enough of them, of all. nullopt: it did not answer, or
  // nothing is accepted.
  absl::StatusOr<std::optional<TokenAnswer>> AskForTokens(
      const SegmentQuery& query, const PlacedSegment& placed,
      const Filter& accepted, const TokenPlan& plan,
      const StopCondition& stop) const;
  // A search of tokens by a device, exactly; false: as above, and nothing is
  // pushed.
  absl::StatusOr<bool> SearchTokensOnDevice(const SegmentQuery& query,
                                            const StopCondition& stop,
                                            TopK* out,
                                            SearchStats* stats) const;
  // That one search takes on the CPU, in nanoseconds.
  double CpuNs(const Field& field, const SegmentQuery& query,
               const Filter& filter) const;
  absl::string_view EncodedId(RowId row) const {
    return ids_.substr(id_offsets_[row],
                       id_offsets_[row + 1] - id_offsets_[row]);
  }

  std::shared_ptr<const Layout> layout_;
  SegmentEntry entry_;
  SegmentPlacement placement_;
  size_t ram_bytes_ = 0;
  size_t pinned_bytes_ = 0;
  bool is_placed_ = true;
  std::unique_ptr<SectionFile> index_file_;
  std::unique_ptr<SectionFile> vectors_file_;
  std::span<const uint64_t> ordinals_;
  std::span<const uint32_t> by_ordinal_;
  std::span<const uint64_t> id_offsets_;
  absl::string_view ids_;
  std::span<const uint64_t> id_slots_;
  std::deque<Field> fields_;  // which do not move
  // Copies of their indexes in large pages; empty: read from the file.
  std::vector<MappedBuffer> lexical_bytes_;
  std::vector<std::unique_ptr<SealedLexicalField>> lexical_;
  // Copies of graphs and codes, as above.
  std::vector<MappedBuffer> multi_bytes_;
  std::vector<std::unique_ptr<SealedMultiField>> multi_;
  // Of their tokens on a device; null: there are none.
  std::vector<std::shared_ptr<DeviceCopy>> multi_copies_;
  std::unique_ptr<AtomicBitmap> dead_;
  std::atomic<Health> health_ = Health::kUnknown;
};

}  // namespace vicinal
