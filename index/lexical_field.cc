#include "index/lexical_field.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "src/base/coding.h"
#include "src/base/types.h"

namespace vicinal {

void AppendPositions(std::span<const uint32_t> positions, std::string* out) {
  PutVarint64(out, positions.size());
  uint32_t last = 0;
  for (const uint32_t position : positions) {
    PutVarint64(out, position - last);
    last = position;
  }
}

bool ConsumePositions(absl::string_view* bytes, std::vector<uint32_t>* out) {
  uint64_t count = 0;
  if (!ConsumeVarint64(bytes, &count) || count > bytes->size()) return false;
  uint64_t last = 0;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t delta = 0;
    if (!ConsumeVarint64(bytes, &delta) || (i > 0 && delta == 0) ||
        delta > UINT32_MAX || (last += delta) > UINT32_MAX) {
      return false;
    }
    if (out != nullptr) out->push_back(static_cast<uint32_t>(last));
  }
  return true;
}

void LexicalField::PositionsOf(RowId row, uint32_t term,
                               std::vector<uint32_t>* positions) const {
  positions->clear();
  size_t before = 0;
  bool is_there = false;
  ForEachEntry(row, [&](uint32_t entry, float) {
    is_there = is_there || entry == term;
    before += is_there ? 0 : 1;
  });
  if (!is_there) return;
  absl::string_view bytes = PositionBytesOf(row);
  for (size_t i = 0; i < before; ++i) {
    if (!ConsumePositions(&bytes, nullptr)) return;
  }
  ConsumePositions(&bytes, positions);
}

}  // namespace vicinal
