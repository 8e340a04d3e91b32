#include "src/engine/payload_indexer.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/payload/field_index.h"

namespace vicinal {
namespace {

// Rows between two looks at the token.
constexpr size_t kRowsAtOnce = 8'192;

// FNV-1a, 64 bits: only to have a file name; META says which field it is.
uint64_t HashOf(const PayloadField& field) {
  uint64_t hash = 0xCBF29CE484222325;
  const auto add = [&](unsigned char byte) {
    hash = (hash ^ byte) * 0x100000001B3;
  };
  add(static_cast<unsigned char>(field.type));
  for (const char c : field.path) add(static_cast<unsigned char>(c));
  return hash;
}

}  // namespace

std::string FieldIndexPath(absl::string_view folder, uint64_t segment,
                           const PayloadField& field) {
  return absl::StrCat(folder, "/", segment, ".",
                      absl::Hex(HashOf(field), absl::kZeroPad16), ".fidx");
}

void OpenFieldIndexes(const std::string& folder,
                      std::span<const PayloadField> fields,
                      const SealedSegment& segment,
                      const std::function<void(const absl::Status&)>& warn) {
  for (const PayloadField& field : fields) {
    auto index =
        FieldIndex::Open(FieldIndexPath(folder, segment.entry().number, field),
                         field, segment.entry().number, segment.num_rows());
    if (index.ok()) {
      segment.keys().Attach(*std::move(index));
    } else if (!absl::IsNotFound(index.status())) {
      warn(index.status());
    }
  }
}

std::vector<PayloadField> FieldsWithoutIndex(
    std::span<const PayloadField> fields, const SealedSegment& segment) {
  std::vector<PayloadField> out;
  for (const PayloadField& field : fields) {
    if (segment.keys().Find(field) == nullptr) out.push_back(field);
  }
  return out;
}

absl::Status BuildFieldIndexes(const CollectionStore& store,
                               const std::string& folder,
                               std::span<const PayloadField> fields,
                               const SealedSegment& segment, IsDeadRow is_dead,
                               const CancelToken* cancel, Progress* progress,
                               const FileFaultHook& fault_hook) {
  // No payload need be read.
  if (fields.empty()) return absl::OkStatus();
  std::vector<FieldIndexBuilder> builders(fields.begin(), fields.end());
  StopCondition stop;
  if (cancel != nullptr)
    stop.cancelled = [cancel] { return cancel->cancelled(); };
  for (size_t first = 0; first < segment.num_rows(); first += kRowsAtOnce) {
    const size_t end = std::min(segment.num_rows(), first + kRowsAtOnce);
    VICINAL_RETURN_IF_ERROR(VisitPayloads(
        store, segment, first, end, stop, is_dead,
        [&](RowId row, absl::string_view payload) {
          ForEachKey(payload, fields, [&](size_t i, absl::string_view key) {
            builders[i].Add(row, key);
          });
        }));
    if (progress != nullptr) progress->done += end - first;
  }
  const uint64_t number = segment.entry().number;
  for (size_t i = 0; i < fields.size(); ++i) {
    VICINAL_RETURN_IF_ERROR(stop.Check());
    const std::string path = FieldIndexPath(folder, number, fields[i]);
    VICINAL_RETURN_IF_ERROR(
        builders[i].Write(path, number, segment.num_rows(), fault_hook));
    VICINAL_ASSIGN_OR_RETURN(
        std::shared_ptr<const FieldIndex> index,
        FieldIndex::Open(path, fields[i], number, segment.num_rows()));
    segment.keys().Attach(std::move(index));
  }
  return absl::OkStatus();
}

void RemoveFieldIndexes(const std::string& folder,
                        std::span<const PayloadField> fields,
                        uint64_t segment) {
  for (const PayloadField& field : fields) {
    std::error_code ignored;
    std::filesystem::remove(FieldIndexPath(folder, segment, field), ignored);
  }
}

}  // namespace vicinal
