#include "src/engine/id_table.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "src/base/coding.h"
#include "src/base/point_id.h"

namespace vicinal {
namespace {

// Folded 128-bit product: every input bit reaches every output bit.
uint64_t Mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Odd constants with random-looking bits (from the digits of pi).
constexpr uint64_t kP0 = 0x243F6A8885A308D3ULL;
constexpr uint64_t kP1 = 0x13198A2E03707345ULL;
constexpr uint64_t kP2 = 0xA4093822299F31D1ULL;

}  // namespace

uint64_t HashPointId(const PointId& id) {
  if (id.is_number()) return Mix(Mix(id.number() ^ kP0, kP1), kP2);
  if (id.is_uuid()) {
    const char* bytes = reinterpret_cast<const char*>(id.uuid().data());
    const uint64_t high = GetFixed<uint64_t>(bytes);
    const uint64_t low = GetFixed<uint64_t>(bytes + 8);
    return Mix(Mix(high ^ kP1, low ^ kP2) ^ kP0, kP2);
  }
  const std::string& text = id.string();
  uint64_t hash = kP2 ^ text.size();
  size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    hash = Mix(hash ^ GetFixed<uint64_t>(text.data() + at), kP1);
  }
  uint64_t tail = 0;
  std::memcpy(&tail, text.data() + at, text.size() - at);
  return Mix(Mix(hash ^ tail, kP1) ^ kP0, kP2);
}

}  // namespace vicinal
