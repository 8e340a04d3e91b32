// Integers and byte strings as bytes, and what is too short to be one.
#include "src/base/coding.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "tests/base/base_testing.h"

namespace vicinal {
namespace {

// Zero, the limits and both sides of every power of two.
std::vector<uint64_t> Interesting() {
  std::vector<uint64_t> values = {0, UINT64_MAX};
  for (int bit = 0; bit < 64; ++bit) {
    const uint64_t power = uint64_t{1} << bit;
    values.insert(values.end(), {power - 1, power, power + 1});
  }
  return values;
}

template <typename T>
std::string Fixed(T value) {
  std::string out;
  PutFixed(&out, value);
  return out;
}
std::string Varint(uint64_t value) {
  std::string out;
  PutVarint64(&out, value);
  return out;
}

template <typename T>
class FixedTest : public ::testing::Test {};
using FixedTypes = ::testing::Types<uint8_t, uint16_t, uint32_t, uint64_t,
                                    int8_t, int32_t, int64_t, float, double>;
TYPED_TEST_SUITE(FixedTest, FixedTypes);

TYPED_TEST(FixedTest, ComesBackAtItsLimits) {
  using Limits = std::numeric_limits<TypeParam>;
  for (const TypeParam value : {TypeParam{0}, TypeParam{1}, Limits::min(),
                                Limits::max(), Limits::lowest()}) {
    const std::string bytes = Fixed(value) + "rest";
    ASSERT_EQ(bytes.size(), sizeof(TypeParam) + 4);
    EXPECT_EQ(GetFixed<TypeParam>(bytes.data()), value);
    absl::string_view in = bytes;
    TypeParam consumed = 99;
    ASSERT_TRUE(ConsumeFixed(&in, &consumed));
    EXPECT_EQ(consumed, value);
    EXPECT_EQ(in, "rest");
  }
}

TYPED_TEST(FixedTest, ShortInputIsRefusedAndLeftAlone) {
  const std::string bytes = Fixed(TypeParam{1});
  for (size_t size = 0; size < bytes.size(); ++size) {
    absl::string_view in = absl::string_view(bytes).substr(0, size);
    TypeParam value = 99;
    EXPECT_FALSE(ConsumeFixed(&in, &value));
    EXPECT_EQ(in.size(), size);
    EXPECT_EQ(value, TypeParam{99});
  }
}

TEST(CodingTest, FixedIsLittleEndianAtAnyAddress) {
  EXPECT_EQ(Fixed(uint32_t{0x64636261}), "abcd");
  const std::string bytes = "xyz" + Fixed(uint64_t{0x0102030405060708});
  EXPECT_EQ(GetFixed<uint64_t>(bytes.data() + 3), 0x0102030405060708U);
}

TEST(CodingTest, BigEndianComesBackAndSortsLikeNumbers) {
  std::string out;
  PutBigEndian32(&out, 0x61626364);
  PutBigEndian64(&out, 0x6566676869707172);
  EXPECT_EQ(out, "abcdefghipqr");
  for (const uint64_t a : Interesting()) {
    std::string bytes_a;
    PutBigEndian64(&bytes_a, a);
    EXPECT_EQ(GetBigEndian64(bytes_a.data()), a);
    const auto low = static_cast<uint32_t>(a);
    std::string bytes_low;
    PutBigEndian32(&bytes_low, low);
    EXPECT_EQ(GetBigEndian32(bytes_low.data()), low);
    for (const uint64_t b : Interesting()) {
      std::string bytes_b;
      PutBigEndian64(&bytes_b, b);
      ASSERT_EQ(bytes_a < bytes_b, a < b) << a << " " << b;
    }
  }
}

TEST(CodingTest, VarintsComeBackInTheFewestBytes) {
  for (const uint64_t value : Interesting()) {
    const std::string bytes = Varint(value);
    size_t expected_size = 1;
    for (uint64_t rest = value >> 7; rest != 0; rest >>= 7) ++expected_size;
    EXPECT_EQ(bytes.size(), expected_size);
    const std::string more = bytes + "\x80";
    absl::string_view in = more;
    uint64_t back = 99;
    ASSERT_TRUE(ConsumeVarint64(&in, &back)) << value;
    EXPECT_EQ(back, value);
    EXPECT_EQ(in, "\x80");
  }
  EXPECT_EQ(Varint(300), "\xAC\x02");  // the example of protobuf's encoding
}

TEST(CodingTest, CutVarintsAreRefusedAndLeftAlone) {
  for (const uint64_t value : Interesting()) {
    const std::string bytes = Varint(value);
    for (size_t size = 0; size < bytes.size(); ++size) {
      absl::string_view in = absl::string_view(bytes).substr(0, size);
      uint64_t back = 99;
      ASSERT_FALSE(ConsumeVarint64(&in, &back)) << value;
      EXPECT_EQ(in.size(), size);
      EXPECT_EQ(back, 99U);
    }
  }
}

TEST(CodingTest, VarintsOfMoreThan64BitsAreRefused) {
  const std::string nine(9, '\xFF');
  for (const std::string& bytes :
       {nine + '\x02', nine + '\x7F', nine + '\x81' + '\x00', nine + "\xFF\x01",
        std::string(20, '\x80')}) {
    absl::string_view in = bytes;
    uint64_t value = 99;
    EXPECT_FALSE(ConsumeVarint64(&in, &value));
    EXPECT_EQ(in.size(), bytes.size());
  }
}

TEST(CodingTest, LengthPrefixedStringsComeBackInARow) {
  std::vector<std::string> strings;
  std::string all;
  for (const size_t size : {0, 1, 127, 128, 129, 20'000}) {
    strings.push_back(RandomBytes(size, 4));
    PutLengthPrefixed(&all, strings.back());
  }
  absl::string_view in = all;
  for (const std::string& expected : strings) {
    absl::string_view bytes;
    ASSERT_TRUE(ConsumeLengthPrefixed(&in, &bytes));
    EXPECT_EQ(bytes, expected);
  }
  EXPECT_TRUE(in.empty());
}

TEST(CodingTest, CutOrHostileLengthsAreRefusedAndLeftAlone) {
  std::string whole;
  PutLengthPrefixed(&whole, std::string(200, 'x'));
  std::vector<std::string> bad = {Varint(UINT64_MAX) + "x", Varint(2) + "x"};
  for (size_t size = 0; size < whole.size(); ++size) {
    bad.push_back(whole.substr(0, size));
  }
  for (const std::string& bytes : bad) {
    absl::string_view in = bytes;
    absl::string_view out = "before";
    EXPECT_FALSE(ConsumeLengthPrefixed(&in, &out));
    EXPECT_EQ(in, bytes);
    EXPECT_EQ(out, "before");
  }
}

}  // namespace
}  // namespace vicinal
