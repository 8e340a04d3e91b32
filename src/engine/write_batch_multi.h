// The multi-vectors of a batch: what is wrong with them, and their tokens in
// the fields' types; for write_batch_encoder.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "src/engine/layout.h"
#include "src/engine/point_batch.h"
#include "src/engine/schema.h"

namespace vicinal {

// Life: CheckStructure, then, if it refused nothing, CheckItems; then const.
// Borrows all. Belongs to one thread.
class MultiColumns {
 public:
  // field: what is wrong, "multi_vectors[0].dim"; why: "is 3; ...".
  using RefuseBatch =
      absl::FunctionRef<void(std::string field, const std::string& why)>;
  using RefuseItem = absl::FunctionRef<void(size_t point, std::string field,
                                            const std::string& why)>;

  MultiColumns(const CollectionSchema& schema, const Layout& layout,
               const PointBatch& batch)
      : schema_(schema),
        layout_(layout),
        batch_(batch),
        columns_(layout.multi.size()) {}

  void CheckStructure(RefuseBatch refuse);
  void CheckItems(RefuseItem refuse);
  // Whether the point has a multi-vector, though maybe an empty one.
  bool Has(size_t point) const;
  // Of multi-vector m; empty: it has none.
  absl::string_view TokensOf(size_t point, size_t m) const;
  size_t size_bytes() const;  // of all tokens

 private:
  struct Column {
    const MultiColumn* source = nullptr;  // null: not in the batch
    size_t number = 0;                    // in the batch
    std::string converted;                // empty: source->data is right
    absl::string_view data;               // of the field's type
    std::vector<bool> named;              // as present; or empty

    size_t NumTokens(size_t point) const {
      return source->offsets[point + 1] - source->offsets[point];
    }
  };

  void CheckColumn(size_t number, RefuseBatch refuse);
  bool CheckOffsets(const MultiColumn& source, const std::string& path,
                    RefuseBatch refuse) const;
  bool CheckPresent(const MultiColumn& source, const std::string& path,
                    std::vector<bool>* named, RefuseBatch refuse) const;
  void CheckTokensOf(size_t m, size_t point, RefuseItem refuse);
  // Brings a token into the field's type; the first element that it has not or
  // that is too large, or -1.
  int64_t Convert(size_t m, size_t token);

  const CollectionSchema& schema_;
  const Layout& layout_;
  const PointBatch& batch_;
  std::vector<Column> columns_;  // by number of the multi-vector
  // Scratch of Convert.
  std::vector<float> floats_;
  std::vector<uint16_t> halves_;
};

}  // namespace vicinal
