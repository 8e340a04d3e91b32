// Indexes of declared payload fields as files beside a sealed segment's:
// NUMBER.<hash of field>.fidx, see payload/field_index.h. Derived from the
// records: one that is missing or damaged is made again, and until then its
// field is read from payloads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "src/base/cancel.h"
#include "src/base/section_file.h"
#include "src/engine/row_filter.h"
#include "src/engine/sealed_segment.h"
#include "src/payload/payload_key.h"
#include "storage/collection_store.h"

namespace vicinal {

std::string FieldIndexPath(absl::string_view folder, uint64_t segment,
                           const PayloadField& field);

// Attaches what is there; `warn` hears of what is damaged.
void OpenFieldIndexes(const std::string& folder,
                      std::span<const PayloadField> fields,
                      const SealedSegment& segment,
                      const std::function<void(const absl::Status&)>& warn);

// Those that the segment lacks.
std::vector<PayloadField> FieldsWithoutIndex(
    std::span<const PayloadField> fields, const SealedSegment& segment);

// Writes indexes from the payloads in storage, which it reads once, and
// attaches them. is_dead: whether a row was replaced or deleted, asked of rows
// that have no payload any more, until it is true. progress (may be null)
// counts rows. Cancelled: the token was set; it may be null. Other errors: of
// the store and of SectionFileWriter.
absl::Status BuildFieldIndexes(const CollectionStore& store,
                               const std::string& folder,
                               std::span<const PayloadField> fields,
                               const SealedSegment& segment, IsDeadRow is_dead,
                               const CancelToken* cancel, Progress* progress,
                               const FileFaultHook& fault_hook);

// Removes the files of a segment's indexes.
void RemoveFieldIndexes(const std::string& folder,
                        std::span<const PayloadField> fields, uint64_t segment);

}  // namespace vicinal
