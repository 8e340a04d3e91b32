// A hash table from point ids to the rows of one segment: open addressing over
// 64-bit slots, so that the same bytes serve in memory and in a mapped file.
//
// A slot holds row + 1 in its low and 32 bits of the id's hash in its high
// half; 0 is an empty slot. The ids themselves are compared by the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "src/base/point_id.h"
#include "src/base/types.h"

namespace vicinal {

// Stored in files: never change it without a new segment format.
uint64_t HashPointId(const PointId& id);

namespace id_table {

inline uint32_t Tag(uint64_t slot) { return static_cast<uint32_t>(slot >> 32); }
inline RowId Row(uint64_t slot) { return static_cast<RowId>(slot) - 1; }
inline uint64_t Slot(uint64_t hash, RowId row) {
  return (hash & 0xFFFFFFFF00000000ULL) | (row + 1);
}
// The tag is the hash's high half, so the position takes its low half.
inline size_t Home(uint64_t hash, size_t num_slots) {
  return static_cast<size_t>(((hash & 0xFFFFFFFFULL) * num_slots) >> 32);
}
// Slots of a table of num_rows rows: three quarters full at most.
inline size_t NumSlots(size_t num_rows) { return num_rows + num_rows / 3 + 1; }

// The first row whose tag matches and that `matches(row)` accepts. Ends after
// one round whatever the bytes are.
template <typename Matches>
std::optional<RowId> Find(std::span<const uint64_t> slots, uint64_t hash,
                          Matches matches) {
  const uint32_t tag = static_cast<uint32_t>(hash >> 32);
  size_t at = Home(hash, slots.size());
  for (size_t probes = 0; probes < slots.size(); ++probes) {
    const uint64_t slot = slots[at];
    if (slot == 0) return std::nullopt;
    if (Tag(slot) == tag && matches(Row(slot))) return Row(slot);
    if (++at == slots.size()) at = 0;
  }
  return std::nullopt;
}

// Adds a row whose id is not in the table; there must be an empty slot.
inline void Insert(std::span<uint64_t> slots, uint64_t hash, RowId row) {
  size_t at = Home(hash, slots.size());
  while (slots[at] != 0) {
    if (++at == slots.size()) at = 0;
  }
  slots[at] = Slot(hash, row);
}

}  // namespace id_table

// The growing form. One thread at a time.
class IdTable {
 public:
  // Makes `row` the row of its id. same_id(row) tells whether an earlier row
  // has this id; hash_of(row) gives the hash of an earlier row.
  template <typename SameId, typename HashOf>
  void Put(uint64_t hash, RowId row, SameId same_id, HashOf hash_of) {
    if (id_table::NumSlots(num_used_ + 1) > slots_.size()) Grow(hash_of);
    const uint32_t tag = static_cast<uint32_t>(hash >> 32);
    size_t at = id_table::Home(hash, slots_.size());
    while (slots_[at] != 0) {
      if (id_table::Tag(slots_[at]) == tag &&
          same_id(id_table::Row(slots_[at]))) {
        slots_[at] = id_table::Slot(hash, row);
        return;
      }
      if (++at == slots_.size()) at = 0;
    }
    slots_[at] = id_table::Slot(hash, row);
    ++num_used_;
  }

  template <typename Matches>
  std::optional<RowId> Find(uint64_t hash, Matches matches) const {
    return id_table::Find(slots_, hash, matches);
  }

 private:
  template <typename HashOf>
  void Grow(HashOf hash_of) {
    std::vector<uint64_t> old(slots_.size() * 2 + 64, 0);
    old.swap(slots_);
    for (const uint64_t slot : old) {
      if (slot == 0) continue;
      const RowId row = id_table::Row(slot);
      id_table::Insert(slots_, hash_of(row), row);
    }
  }

  std::vector<uint64_t> slots_;
  size_t num_used_ = 0;
};

}  // namespace vicinal
