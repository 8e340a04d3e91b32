#include "src/base/crc32c.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"
#include "src/base/coding.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vicinal {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // 0x1EDC6F41, bits reversed

using ByteTable = std::array<uint32_t, 256>;

// kTables[j][b]: the effect of byte b followed by j zero bytes.
constexpr std::array<ByteTable, 8> MakeTables() {
  std::array<ByteTable, 8> tables{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) ? kPolynomial : 0);
    }
    tables[0][b] = crc;
  }
  for (size_t j = 1; j < 8; ++j) {
    for (uint32_t b = 0; b < 256; ++b) {
      const uint32_t crc = tables[j - 1][b];
      tables[j][b] = (crc >> 8) ^ tables[0][crc & 0xFF];
    }
  }
  return tables;
}
constexpr std::array<ByteTable, 8> kTables = MakeTables();

#if defined(__x86_64__)

// Appending zero bytes to a message is linear over GF(2) in the register, so
// the map for a fixed number of them is four tables of 256 words.
class ZerosOperator {
 public:
  // num_zeros: a power of two.
  explicit ZerosOperator(size_t num_zeros) {
    std::array<uint32_t, 32> columns;  // columns[i]: the image of bit i
    for (uint32_t i = 0; i < 32; ++i) {
      const uint32_t crc = uint32_t{1} << i;
      columns[i] = (crc >> 8) ^ kTables[0][crc & 0xFF];
    }
    for (size_t n = 1; n < num_zeros; n *= 2) {
      std::array<uint32_t, 32> squared;
      for (size_t i = 0; i < 32; ++i) squared[i] = Map(columns, columns[i]);
      columns = squared;
    }
    for (uint32_t byte = 0; byte < 4; ++byte) {
      for (uint32_t b = 0; b < 256; ++b) {
        tables_[byte][b] = Map(columns, b << (8 * byte));
      }
    }
  }

  uint32_t Apply(uint32_t crc) const {
    return tables_[0][crc & 0xFF] ^ tables_[1][(crc >> 8) & 0xFF] ^
           tables_[2][(crc >> 16) & 0xFF] ^ tables_[3][crc >> 24];
  }

 private:
  static uint32_t Map(const std::array<uint32_t, 32>& columns, uint32_t crc) {
    uint32_t image = 0;
    for (size_t i = 0; i < 32; ++i) {
      if ((crc >> i) & 1) image ^= columns[i];
    }
    return image;
  }

  std::array<ByteTable, 4> tables_;
};

// The instruction has a latency of 3 cycles and starts one per cycle: three
// independent thirds keep it busy, and are joined by ZerosOperator.
template <size_t kThird>
__attribute__((target("sse4.2"))) uint64_t
ExtendThirds(uint64_t crc, const char** bytes, size_t* size,
             const ZerosOperator& zeros) {
  const char* p = *bytes;
  size_t left = *size;
  for (; left >= 3 * kThird; left -= 3 * kThird, p += 3 * kThird) {
    uint64_t a = crc;
    uint64_t b = 0;
    uint64_t c = 0;
    for (size_t i = 0; i < kThird; i += 8) {
      a = _mm_crc32_u64(a, GetFixed<uint64_t>(p + i));
      b = _mm_crc32_u64(b, GetFixed<uint64_t>(p + kThird + i));
      c = _mm_crc32_u64(c, GetFixed<uint64_t>(p + 2 * kThird + i));
    }
    crc = zeros.Apply(static_cast<uint32_t>(a)) ^ b;
    crc = zeros.Apply(static_cast<uint32_t>(crc)) ^ c;
  }
  *bytes = p;
  *size = left;
  return crc;
}

__attribute__((target("sse4.2"))) uint32_t
ExtendSse42(uint32_t crc, absl::string_view bytes) {
  static const ZerosOperator kZeros4096(4096);
  static const ZerosOperator kZeros256(256);
  const char* p = bytes.data();
  size_t left = bytes.size();
  uint64_t state = ~crc;
  state = ExtendThirds<4096>(state, &p, &left, kZeros4096);
  state = ExtendThirds<256>(state, &p, &left, kZeros256);
  for (; left >= 8; left -= 8, p += 8) {
    state = _mm_crc32_u64(state, GetFixed<uint64_t>(p));
  }
  auto state32 = static_cast<uint32_t>(state);
  for (; left > 0; --left, ++p) {
    state32 = _mm_crc32_u8(state32, static_cast<uint8_t>(*p));
  }
  return ~state32;
}

#endif

using ExtendFunction = uint32_t (*)(uint32_t, absl::string_view);

ExtendFunction ChooseExtend() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return &ExtendSse42;
#endif
  return &internal::ExtendCrc32cPortable;
}

}  // namespace

namespace internal {

uint32_t ExtendCrc32cPortable(uint32_t crc, absl::string_view bytes) {
  const char* p = bytes.data();
  size_t left = bytes.size();
  uint32_t state = ~crc;
  for (; left >= 8; left -= 8, p += 8) {
    const uint64_t x = GetFixed<uint64_t>(p) ^ state;
    state = kTables[7][x & 0xFF] ^ kTables[6][(x >> 8) & 0xFF] ^
            kTables[5][(x >> 16) & 0xFF] ^ kTables[4][(x >> 24) & 0xFF] ^
            kTables[3][(x >> 32) & 0xFF] ^ kTables[2][(x >> 40) & 0xFF] ^
            kTables[1][(x >> 48) & 0xFF] ^ kTables[0][x >> 56];
  }
  for (; left > 0; --left, ++p) {
    state =
        (state >> 8) ^ kTables[0][(state ^ static_cast<uint8_t>(*p)) & 0xFF];
  }
  return ~state;
}

}  // namespace internal

uint32_t ExtendCrc32c(uint32_t crc, absl::string_view bytes) {
  static const ExtendFunction kExtend = ChooseExtend();
  return kExtend(crc, bytes);
}

}  // namespace vicinal
