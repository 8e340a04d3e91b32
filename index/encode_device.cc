#include "index/encode_device.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "src/base/check.h"
#include "src/base/types.h"
#include "src/base/workers.h"

namespace vicinal {
namespace {

// Products of a coordinate and an element of the basis that a core makes, all
// else that a record takes included (measured: 768 dimensions, 160 to 640 of
// them coded, 16 cores beside an H200: 4.9 us a row with 160).
constexpr double kCpuPairsPerNs = 25;
// A fast rotation takes as long as so many rows of a basis.
constexpr double kFastRotation = 32;
// Of an H200 (docs/gpu-notes.md): rows are copied at 38 GB/s by 16 threads,
// records at 6 GB/s into memory that is not pinned, f32 products take 26 ms of
// 768 x 768 x 1,000,000; a part is reckoned to take 20 ms beside that (not
// measured).
constexpr double kCopiedPerNsAndThread = 4;
constexpr double kMostCopiedPerNs = 38;
constexpr double kRecordBytesPerNs = 6;
constexpr double kDevicePairsPerNs = 22'000;
constexpr double kPartNs = 2e7;

// A device has the CPU's bits where squares of coordinates are floats, of which
// vectors that are longer may have others.
constexpr float kMostElement = 1e15f;

// Of centres, which a device needs room for beside the rows.
constexpr size_t kMostCentreBytes = size_t{256} << 20;

bool IsWorthIt(const Codec& codec, VectorSetView rows, size_t num_threads,
               const RowCentres* centres) {
  if (centres != nullptr && centres->offsets.size() *
                                    (rows.dim + codec.num_coded_dims()) *
                                    sizeof(float) >
                                kMostCentreBytes) {
    return false;
  }
  const auto n = static_cast<double>(rows.num_rows);
  const auto dim = static_cast<double>(rows.dim);
  const auto threads = static_cast<double>(std::max<size_t>(1, num_threads));
  const double coded = codec.kind() == CodecKind::kSaq
                           ? static_cast<double>(codec.num_coded_dims())
                           : kFastRotation;
  const double row_bytes = dim * static_cast<double>(ElementSize(rows.type));
  const double copied_per_ns =
      std::min(kMostCopiedPerNs, threads * kCopiedPerNsAndThread);
  const auto record_bytes = static_cast<double>(codec.layout().record_bytes);
  const double num_parts = std::ceil(n * row_bytes / kEncodedPartBytes);
  const double cpu_ns = n * dim * coded / kCpuPairsPerNs / threads;
  const double device_ns =
      n * (row_bytes / copied_per_ns + dim * coded / kDevicePairsPerNs +
           record_bytes / kRecordBytesPerNs) +
      num_parts * kPartNs;
  return device_ns < cpu_ns;
}

// Whether the row's elements are numbers and below kMostElement.
bool IsShort(const float* row, size_t dim) {
  // Without their signs floats are ordered as integers, of which the maximum
  // does not depend on the order; those that are no numbers are the largest.
  uint32_t largest = 0;
  for (size_t i = 0; i < dim; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(row[i]) & 0x7FFFFFFF);
  }
  return largest < std::bit_cast<uint32_t>(kMostElement);
}

// Offsets of the centres among rows begin .. end - 1.
std::vector<uint32_t> OffsetsWithin(const RowCentres& centres, size_t begin,
                                    size_t end) {
  std::vector<uint32_t> out;
  out.reserve(centres.offsets.size());
  for (const uint32_t offset : centres.offsets) {
    out.push_back(
        static_cast<uint32_t>(std::clamp<size_t>(offset, begin, end) - begin));
  }
  return out;
}

absl::Status CancelledStatus() {
  return absl::CancelledError("encoding cancelled");
}

}  // namespace

absl::Status EncodeRowsByDevice(const Codec& codec, VectorSetView rows,
                                std::span<uint8_t> records, size_t num_threads,
                                const CancelToken* cancel,
                                const RowCentres* centres,
                                DistanceBackend* device, size_t part_bytes) {
  const size_t record_bytes = codec.layout().record_bytes;
  VICINAL_CHECK_EQ(rows.dim, codec.dim());
  VICINAL_CHECK_EQ(records.size(), rows.num_rows * record_bytes);
  const size_t row_bytes = rows.dim * ElementSize(rows.type);
  const size_t part_rows = std::max<size_t>(1, part_bytes / row_bytes);
  Workers workers(num_threads);
  const Codec::Coding coding = codec.CodingFor(centres);
  for (size_t first = 0; first < rows.num_rows; first += part_rows) {
    if (cancel != nullptr && cancel->cancelled()) return CancelledStatus();
    const size_t n = std::min(part_rows, rows.num_rows - first);
    std::atomic<bool> are_short = true;
    const auto copy = [&](size_t row, std::byte* out) {
      std::memcpy(out, rows.row(row), row_bytes);
      if (rows.type == ElementType::kFloat32 &&
          !IsShort(reinterpret_cast<const float*>(out), rows.dim)) {
        are_short.store(false, std::memory_order_relaxed);
      }
    };
    const RowWriter write = [&](size_t begin, size_t end, void* out) {
      auto* const bytes = static_cast<std::byte*>(out);
      workers.For(end - begin, 32, [&](size_t from, size_t to, size_t) {
        for (size_t i = from; i < to; ++i) {
          copy(first + begin + i, bytes + i * row_bytes);
        }
      });
    };
    const SegmentRows segment = {
        .rows = {.num_rows = n, .dim = rows.dim, .type = rows.type},
        .metric = codec.metric(),
        .write = &write,
        .is_modest = true};
    RowCoding terms = coding.terms;
    std::vector<uint32_t> offsets;
    if (centres != nullptr) {
      offsets = OffsetsWithin(*centres, first, first + n);
      terms.offsets = offsets.data();
    }
    std::shared_ptr<const LoadedSegment> loaded;
    if (device->Load(segment, &loaded) != BackendStatus::kOk ||
        !are_short.load() ||
        device->Encode(*loaded, terms, &records[first * record_bytes]) !=
            BackendStatus::kOk) {
      return absl::UnavailableError("the device does not encode these rows");
    }
  }
  return cancel != nullptr && cancel->cancelled() ? CancelledStatus()
                                                  : absl::OkStatus();
}

absl::Status EncodeRows(const Codec& codec, VectorSetView rows,
                        std::span<uint8_t> records, size_t num_threads,
                        const CancelToken* cancel, const RowCentres* centres,
                        DistanceBackend* device) {
  if (device != nullptr && IsWorthIt(codec, rows, num_threads, centres)) {
    const absl::Status status = EncodeRowsByDevice(
        codec, rows, records, num_threads, cancel, centres, device);
    if (!absl::IsUnavailable(status)) return status;
  }
  return codec.Encode(rows, records, num_threads, cancel, centres);
}

}  // namespace vicinal
