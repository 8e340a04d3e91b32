// Both implementations of CRC-32C against the polynomial, bit by bit.
#include "src/base/crc32c.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "tests/base/base_testing.h"

namespace vicinal {
namespace {

uint32_t ExtendBitwise(uint32_t crc, absl::string_view bytes) {
  crc = ~crc;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78U : 0U);
    }
  }
  return ~crc;
}

struct Implementation {
  const char* name;
  uint32_t (*extend)(uint32_t crc, absl::string_view bytes);
};

class Crc32cTest : public ::testing::TestWithParam<Implementation> {
 protected:
  static uint32_t Extend(uint32_t crc, absl::string_view bytes) {
    return GetParam().extend(crc, bytes);
  }
};

INSTANTIATE_TEST_SUITE_P(
    Both, Crc32cTest,
    ::testing::Values(Implementation{"Chosen", &ExtendCrc32c},
                      Implementation{"Portable",
                                     &internal::ExtendCrc32cPortable}),
    [](const auto& test) { return test.param.name; });

TEST_P(Crc32cTest, HasTheKnownValues) {
  EXPECT_EQ(Extend(0, "123456789"), 0xE3069283U);
  // RFC 3720, B.4.
  EXPECT_EQ(Extend(0, std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(Extend(0, std::string(32, '\xFF')), 0x62A8AB43U);
  std::string rising;
  for (char c = 0; c < 32; ++c) rising += c;
  EXPECT_EQ(Extend(0, rising), 0x46DD794EU);
  EXPECT_EQ(Extend(0, std::string(rising.rbegin(), rising.rend())),
            0x113FDB5CU);
}

TEST_P(Crc32cTest, OfNothingIsWhatItWas) {
  EXPECT_EQ(Extend(0, ""), 0U);
  EXPECT_EQ(Extend(0xDEADBEEF, ""), 0xDEADBEEFU);
}

TEST_P(Crc32cTest, EqualsTheBitwiseReferenceAtEveryLengthAndAlignment) {
  const std::string bytes = RandomBytes(300 + 8, 1);
  for (size_t start = 0; start < 8; ++start) {
    for (size_t size = 0; size <= 300; ++size) {
      const auto piece = absl::string_view(bytes).substr(start, size);
      ASSERT_EQ(Extend(0, piece), ExtendBitwise(0, piece))
          << "start " << start << ", size " << size;
    }
  }
}

TEST_P(Crc32cTest, EqualsTheBitwiseReferenceWhereLongBlocksBeginAndEnd) {
  // 3 * 256 and 3 * 4096 bytes are the blocks of three parallel streams.
  const std::string bytes = RandomBytes(2 * 3 * 4096 + 3 * 256 + 16, 2);
  for (const size_t block :
       {3 * 256, 2 * 3 * 256, 3 * 4096, 2 * 3 * 4096, 3 * 4096 + 3 * 256}) {
    for (size_t size = block - 9; size <= block + 9; ++size) {
      const auto piece = absl::string_view(bytes).substr(size % 7, size);
      ASSERT_EQ(Extend(0xABCD, piece), ExtendBitwise(0xABCD, piece)) << size;
    }
  }
}

TEST_P(Crc32cTest, OfPiecesEqualsThatOfTheWhole) {
  const std::string bytes = RandomBytes(1'000, 3);
  const absl::string_view whole = bytes;
  const uint32_t expected = Extend(0, whole);
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    ASSERT_EQ(Extend(Extend(0, whole.substr(0, cut)), whole.substr(cut)),
              expected)
        << cut;
  }
  uint32_t crc = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    crc = Extend(crc, whole.substr(i, 1));
  }
  EXPECT_EQ(crc, expected);
}

TEST(Crc32cOfTest, StartsFromNothing) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(Crc32c(""), 0U);
}

}  // namespace
}  // namespace vicinal
