// Stored versions of points on their way back in, with other payloads.
#pragma once

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "src/engine/layout.h"
#include "src/engine/point_batch.h"
#include "src/engine/write_batch_encoder.h"

namespace vicinal {

// Copies records as they are: their vectors stay bit for bit what they were.
// Texts are those of the new payloads.
// Life: Add for each point, each id once, then Take. Belongs to one thread.
class StoredEncoder {
 public:
  // The layout must outlive it.
  explicit StoredEncoder(const Layout& layout);

  size_t size() const { return batch_.size(); }
  size_t size_bytes() const { return batch_.size_bytes(); }
  // record: as CollectionStore::GetRecords returns it. DataLoss: it is none,
  // or of another layout.
  absl::Status Add(absl::string_view record, absl::string_view payload);
  EncodedBatch Take();

 private:
  // Unit vectors of the normalized fields, as BatchEncoder makes them.
  void Normalize();

  const Layout& layout_;
  EncodedBatch batch_;
  // Scratch of Add.
  std::vector<SparseEntries> sparse_;
  std::vector<absl::string_view> tokens_;
};

}  // namespace vicinal
