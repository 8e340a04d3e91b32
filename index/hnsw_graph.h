// The bytes of an HNSW graph and the one parser that trusts nothing in them.
//
// Little-endian u32 words unless said; every array starts at a multiple of 64
// bytes from the front and is padded with zero bytes to the next one:
//
//   header, 128 bytes
//     0  u64 magic        8  version (1)   12  m
//    16  num_rows        20  num_levels    24  entry: slot in the top level
//    28  zero            32  num_nodes[16], level 0 first, unused ones zero
//    96  32 zero bytes
//   level 0
//     links[num_rows][Stride(2 m)]
//   levels 1 .. num_levels - 1, each
//     rows[num_nodes]      row of each slot, strictly ascending
//     down[num_nodes]      slot of the same row one level below
//     links[num_nodes][Stride(m)]
//
// A slot numbers the nodes of one level; at level 0 it is the row. A link row
// holds slots of its own level, then kNoLink up to its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/types.h"

namespace vicinal {

inline constexpr uint32_t kNoLink = UINT32_MAX;
inline constexpr size_t kMaxHnswLevels = 16;
// The pool packs a slot and a flag into 32 bits.
inline constexpr size_t kMaxHnswRows = size_t{1} << 31;

// Words from one link row to the next: whole cache lines when there is more
// than half of one to fill.
constexpr size_t HnswLinkStride(size_t degree) {
  return degree <= 8 ? 8 : (degree + 15) / 16 * 16;
}

// Borrowed arrays of one level.
struct HnswLevel {
  const RowId* rows = nullptr;     // null at level 0: slot = row
  const uint32_t* down = nullptr;  // null at level 0
  const uint32_t* links = nullptr;
  size_t num_nodes = 0;
  size_t stride = 0;  // words from one link row to the next

  const uint32_t* LinksOf(uint32_t slot) const { return links + slot * stride; }
  RowId RowOf(uint32_t slot) const { return rows ? rows[slot] : slot; }
};

// Borrows the bytes. No levels when there are no rows.
struct HnswGraph {
  uint32_t m = 0;
  uint32_t entry = 0;             // slot in levels.back()
  std::vector<HnswLevel> levels;  // level 0 first
};

// DataLoss: not a graph over num_rows rows. Afterwards every slot, row and
// entry may be used without a check.
absl::StatusOr<HnswGraph> ParseHnswGraph(absl::string_view bytes,
                                         size_t num_rows);

// The bytes of a graph that its builder holds in vectors.
std::string SerializeHnswGraph(const HnswGraph& graph);

}  // namespace vicinal
