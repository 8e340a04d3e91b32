// Headers and tables whose checksums hold and that mislead the reader.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/coding.h"
#include "src/base/crc32c.h"
#include "src/base/section_file.h"
#include "tests/base/section_file_testing.h"
#include "tests/client/matchers.h"

namespace vicinal {
namespace {

using client::Fails;
using client::IsOk;

// The layout in section_file.h.
constexpr size_t kKindAt = 8;
constexpr size_t kVersionAt = 12;
constexpr size_t kFileSizeAt = 16;
constexpr size_t kNumSectionsAt = 24;
constexpr size_t kTableCrcAt = 28;
constexpr size_t kHeaderCrcAt = 32;
constexpr size_t kTableAt = 64;
constexpr size_t kEntryBytes = 32;
constexpr size_t kOffsetAt = 8;  // in an entry
constexpr size_t kSizeAt = 16;

class SectionFileHostileTest : public DamagedFileTest {
 protected:
  template <typename T>
  void Set(size_t at, T value) {
    std::memcpy(&bytes_.at(at), &value, sizeof(value));
  }
  template <typename T>
  void SetInEntry(size_t entry, size_t at, T value) {
    Set(kTableAt + entry * kEntryBytes + at, value);
  }
  // Writes bytes_ with checksums that hold, as only a foe would.
  void Sign() {
    const auto n = GetFixed<uint32_t>(bytes_.data() + kNumSectionsAt);
    const absl::string_view bytes = bytes_;
    Set(kTableCrcAt, Crc32c(bytes.substr(kTableAt, n * kEntryBytes)));
    Set(kHeaderCrcAt, Crc32c(bytes.substr(0, kHeaderCrcAt)));
    file_.SetBytes(bytes_);
  }
};

TEST_F(SectionFileHostileTest, BadMagicIsDataLoss) {
  for (const std::string& begin :
       {std::string("VICINAM"), std::string("vicinal"), std::string(7, '\0')}) {
    bytes_.replace(0, begin.size(), begin);
    Sign();
    file_.ExpectDataLoss("it does not begin as a Vicinal file does");
  }
}

TEST_F(SectionFileHostileTest, AnotherKindIsDataLossAndShownPrintably) {
  bytes_.replace(kKindAt, 4, "SE\n\x01");
  Sign();
  file_.ExpectDataLoss(R"(its kind is "SE\n\x01" where "TEST" belongs)");
}

TEST_F(SectionFileHostileTest, ANewerVersionIsNoDamageAndAnOlderIsRead) {
  Set(kVersionAt, TestSectionFile::kVersion + 1);
  Sign();
  EXPECT_THAT(file_.Open(),
              Fails(absl::StatusCode::kFailedPrecondition,
                    "has format version 4 and this program reads up to 3"));
  Set(kVersionAt, TestSectionFile::kVersion - 1);
  Sign();
  const auto opened = file_.Open();
  ASSERT_THAT(opened, IsOk());
  EXPECT_EQ((*opened)->version(), TestSectionFile::kVersion - 1);
}

TEST_F(SectionFileHostileTest, ASignedFileSizeThatLiesIsDataLoss) {
  for (const uint64_t size :
       {uint64_t{0}, uint64_t{bytes_.size() + 1}, UINT64_MAX}) {
    Set(kFileSizeAt, size);
    Sign();
    file_.ExpectDataLoss("and was written with");
  }
}

TEST_F(SectionFileHostileTest, MoreSectionsThanTheFileHoldsAreDataLoss) {
  for (const uint32_t n : {uint32_t{1} << 27, UINT32_MAX}) {
    Set(kNumSectionsAt, n);
    Sign();
    file_.ExpectDataLoss("sections does not fit");
  }
}

TEST_F(SectionFileHostileTest, SignedEntriesOutsideTheFileAreDataLoss) {
  const std::string good = bytes_;
  struct Place {
    uint64_t offset;
    uint64_t size;
  };
  for (const auto& [offset, size] :
       {Place{8'192, UINT64_MAX}, Place{8'192, UINT64_MAX - 8'191},
        Place{8'192, 5}, Place{8'192, 3}, Place{8'192, 0}, Place{8'193, 3},
        Place{12'288, 0}, Place{UINT64_MAX - 4'095, 4'096 + 8'196},
        Place{UINT64_MAX, 1}, Place{4'096, 4'100}, Place{0, 8'196}}) {
    SCOPED_TRACE(::testing::Message() << offset << " " << size);
    bytes_ = good;
    SetInEntry(1, kOffsetAt, offset);
    SetInEntry(1, kSizeAt, size);
    Sign();
    file_.ExpectDataLoss("");
  }
}

TEST_F(SectionFileHostileTest, ASignedSizeThatWrapsAroundIsDataLoss) {
  // Behind it, the next entry would seem to be in order.
  for (const uint64_t end : {0, 1, 4'095}) {
    SetInEntry(0, kSizeAt, end - 4'096);
    Sign();
    file_.ExpectDataLoss("entry 0 of its table of sections");
  }
}

TEST_F(SectionFileHostileTest, SignedNamesThatAreNoneAreDataLoss) {
  for (const uint64_t name :
       {uint64_t{0}, uint64_t{'A'}, uint64_t{0x4200}, uint64_t{0x420042}}) {
    SetInEntry(1, 0, name);
    Sign();
    file_.ExpectDataLoss("entry 1 of its table of sections");
  }
}

}  // namespace
}  // namespace vicinal
