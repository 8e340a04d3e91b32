// The three forms of an id: as text, as key, in order, and what is none.
#include "src/base/point_id.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/client/matchers.h"

namespace vicinal {
namespace {

using client::Fails;
using client::IsOk;

constexpr char kUuidText[] = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
constexpr PointId::Uuid kUuid = {0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad,
                                 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0,
                                 0x4f, 0xd4, 0x30, 0xc8};

PointId String(const std::string& text) {
  const auto id = PointId::FromString(text);
  EXPECT_THAT(id, IsOk());
  return id.value_or(PointId());
}

// Ids of every kind in their order.
std::vector<PointId> Ascending() {
  std::vector<PointId> ids;
  for (const uint64_t number :
       {uint64_t{0}, uint64_t{1}, uint64_t{255}, uint64_t{256},
        uint64_t{1} << 32, (uint64_t{1} << 63) - 1, uint64_t{1} << 63,
        UINT64_MAX}) {
    ids.emplace_back(number);
  }
  PointId::Uuid uuid = {};
  ids.emplace_back(uuid);
  uuid[15] = 0xFF;
  ids.emplace_back(uuid);
  ids.emplace_back(kUuid);
  uuid[0] = 0x80;
  ids.emplace_back(uuid);
  for (const char* text :
       {"0", "7", "A", "a", "aa", "b", "\xC3\xA4", "\xF0\x9F\x98\x80"}) {
    ids.push_back(String(text));
  }
  return ids;
}

TEST(PointIdTest, IsTheNumberZeroUnlessSaidOtherwise) {
  EXPECT_TRUE(PointId().is_number());
  EXPECT_EQ(PointId().number(), 0U);
  EXPECT_EQ(PointId(), PointId(uint64_t{0}));
}

TEST(PointIdTest, KnowsItsKindAndPrintsItself) {
  const PointId number(UINT64_MAX);
  EXPECT_TRUE(number.is_number() && !number.is_uuid() && !number.is_string());
  EXPECT_EQ(number.ToString(), "18446744073709551615");
  const PointId uuid(kUuid);
  EXPECT_TRUE(!uuid.is_number() && uuid.is_uuid() && !uuid.is_string());
  EXPECT_EQ(uuid.uuid(), kUuid);
  EXPECT_EQ(uuid.ToString(), kUuidText);
  const PointId string = String("caf\xC3\xA9");
  EXPECT_TRUE(!string.is_number() && !string.is_uuid() && string.is_string());
  EXPECT_EQ(string.string(), "caf\xC3\xA9");
  EXPECT_EQ(string.ToString(), "caf\xC3\xA9");
}

TEST(PointIdTest, ReadsAUuidInEitherCaseAndPrintsItInLower) {
  for (const char* text : {kUuidText, "6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
                           "6Ba7b810-9daD-11d1-80B4-00c04fD430C8"}) {
    const auto id = PointId::ParseUuid(text);
    ASSERT_THAT(id, IsOk());
    EXPECT_EQ(*id, PointId(kUuid));
    EXPECT_EQ(id->ToString(), kUuidText);
  }
}

TEST(PointIdTest, RefusesWhatIsNoUuid) {
  const std::string good = kUuidText;
  std::vector<std::string> bad = {"",
                                  "7",
                                  good + "0",
                                  "{" + good + "}",
                                  "6ba7b8109dad11d180b400c04fd430c8",
                                  std::string(36, '-'),
                                  std::string(36, '0'),
                                  std::string(5'000, 'a')};
  for (size_t i = 0; i < good.size(); ++i) {
    bad.push_back(good.substr(0, i));
    for (const char wrong : {'g', 'G', '/', ':', '@', '`', '\0', '\xFF', ' '}) {
      bad.push_back(good);
      bad.back()[i] = wrong;
    }
    bad.push_back(good);
    bad.back()[i] = good[i] == '-' ? '0' : '-';
  }
  for (const std::string& text : bad) {
    EXPECT_THAT(PointId::ParseUuid(text),
                Fails(absl::StatusCode::kInvalidArgument, "is not a UUID"));
  }
}

TEST(PointIdTest, TakesStringsOf1To512Bytes) {
  EXPECT_EQ(String("x").string(), "x");
  EXPECT_EQ(String(std::string(512, 'x')).string().size(), 512U);
  EXPECT_EQ(String(std::string(1, '\0')).string().size(), 1U);
  EXPECT_THAT(PointId::FromString(""),
              Fails(absl::StatusCode::kInvalidArgument, "empty"));
  EXPECT_THAT(PointId::FromString(std::string(513, 'x')),
              Fails(absl::StatusCode::kInvalidArgument,
                    "has 513 bytes; the limit is 512"));
}

TEST(PointIdTest, TakesEveryLengthOfUtf8AtItsEdges) {
  for (const char* text : {"\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80",
                           "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
                           "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_THAT(PointId::FromString(text), IsOk());
  }
}

TEST(PointIdTest, RefusesWhatIsNotUtf8AndSaysWhere) {
  for (const char* text :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC3", "\xC3(", "\xE0\x9F\xBF",
        "\xE2\x82", "\xE2(\xA1", "\xED\xA0\x80", "\xED\xBF\xBF",
        "\xF0\x8F\xBF\xBF", "\xF0\x9F\x98", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFE", "\xFF"}) {
    EXPECT_THAT(
        PointId::FromString(absl::StrCat("ab", text)),
        Fails(absl::StatusCode::kInvalidArgument, "is not UTF-8 at byte 2;"));
  }
}

TEST(PointIdTest, ShowsUntrustedTextShortAndPrintable) {
  const auto status =
      PointId::ParseUuid("\n\x01" + std::string(5'000, 'a')).status();
  EXPECT_LT(status.message().size(), 300U);
  for (const char c : status.message()) EXPECT_TRUE(c >= ' ' && c <= '~');
}

TEST(PointIdTest, IsOrderedByKindThenValueAsItsKeyIs) {
  const std::vector<PointId> ids = Ascending();
  for (size_t i = 0; i < ids.size(); ++i) {
    for (size_t j = 0; j < ids.size(); ++j) {
      EXPECT_EQ(ids[i] < ids[j], i < j) << i << " " << j;
      EXPECT_EQ(ids[i] == ids[j], i == j) << i << " " << j;
      EXPECT_EQ(ids[i].Encode() < ids[j].Encode(), i < j) << i << " " << j;
    }
  }
}

TEST(PointIdTest, EqualIdsHashAlikeAndKindsDiffer) {
  const absl::Hash<PointId> hash;
  EXPECT_EQ(hash(PointId(uint64_t{7})), hash(PointId(uint64_t{7})));
  EXPECT_EQ(hash(PointId(kUuid)), hash(*PointId::ParseUuid(kUuidText)));
  EXPECT_EQ(hash(String("7")), hash(String("7")));
  EXPECT_NE(hash(String("7")), hash(PointId(uint64_t{7})));
}

TEST(PointIdTest, ComesBackFromItsKey) {
  EXPECT_EQ(PointId(uint64_t{0x6162636465666768}).Encode(),
            "\x01"
            "abcdefgh");
  EXPECT_EQ(String("key").Encode(), "\x03key");
  for (const PointId& id : Ascending()) {
    std::string key = "prefix";
    id.AppendEncoded(&key);
    EXPECT_EQ(key, "prefix" + id.Encode());
    const auto back = PointId::Decode(id.Encode());
    ASSERT_THAT(back, IsOk());
    EXPECT_EQ(*back, id);
  }
}

TEST(PointIdTest, BytesThatAreNoKeyAreDataLoss) {
  const std::string number = PointId(uint64_t{7}).Encode();
  const std::string uuid = PointId(kUuid).Encode();
  for (const std::string& bytes :
       {std::string(), std::string("\0", 1), std::string("\x04key"),
        number.substr(0, 8), number + "x", uuid.substr(0, 16), uuid + "x",
        std::string("\x03"), std::string("\x03\xFF"),
        std::string(514, '\x03')}) {
    EXPECT_THAT(PointId::Decode(bytes),
                Fails(absl::StatusCode::kDataLoss, "are not an encoded id"));
  }
}

}  // namespace
}  // namespace vicinal
