// Pages counted one by one: what is resident, locked and faulted in.
#include "src/base/page_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "gtest/gtest.h"
#include "src/base/check.h"
#include "src/base/mapped_buffer.h"

namespace vicinal {
namespace {

// Untouched pages, small ones everywhere.
class PageMemoryTest : public ::testing::Test {
 protected:
  PageMemoryTest() {
    VICINAL_CHECK(
        madvise(buffer_.data(), buffer_.size_bytes(), MADV_NOHUGEPAGE) == 0);
  }
  std::byte* Page(size_t i) const { return buffer_.data() + i * page_; }
  void Touch(size_t i) const { *Page(i) = std::byte{1}; }

  // More than ResidentBytes asks for at once.
  static constexpr size_t kNumPages = 2 * 4'096 + 100;
  const size_t page_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const MappedBuffer buffer_{kNumPages * page_};
};

TEST_F(PageMemoryTest, CountsThePagesThatWereTouched) {
  EXPECT_EQ(ResidentBytes(Page(0), buffer_.size_bytes()), 0U);
  size_t num_touched = 0;
  for (const size_t i : {size_t{0}, size_t{7}, size_t{4'095}, size_t{4'096},
                         size_t{8'191}, size_t{8'192}, kNumPages - 1}) {
    Touch(i);
    ++num_touched;
    EXPECT_EQ(ResidentBytes(Page(0), buffer_.size_bytes()),
              num_touched * page_);
  }
}

TEST_F(PageMemoryTest, CountsWholePagesOfBytesThatBeginAnywhere) {
  for (size_t i = 0; i < 8; ++i) Touch(i);
  EXPECT_EQ(ResidentBytes(Page(1), 0), 0U);
  EXPECT_EQ(ResidentBytes(Page(1) + 5, 0), 0U);
  EXPECT_EQ(ResidentBytes(Page(1), 1), page_);
  EXPECT_EQ(ResidentBytes(Page(2) - 1, 1), page_);
  EXPECT_EQ(ResidentBytes(Page(2) - 1, 2), 2 * page_);
  EXPECT_EQ(ResidentBytes(Page(1) + 1, page_), 2 * page_);
  EXPECT_EQ(ResidentBytes(Page(1) + 1, page_ - 1), page_);
  EXPECT_EQ(ResidentBytes(Page(1), 3 * page_), 3 * page_);
  EXPECT_EQ(ResidentBytes(Page(6), 8 * page_), 2 * page_);
}

TEST_F(PageMemoryTest, CountsNothingWhereNothingIsMapped) {
  EXPECT_EQ(ResidentBytes(nullptr, 0), 0U);
  EXPECT_EQ(ResidentBytes(nullptr, page_), 0U);
}

TEST_F(PageMemoryTest, ForgetsPagesThatWereGivenBack) {
  for (size_t i = 0; i < 10; ++i) Touch(i);
  ASSERT_EQ(madvise(Page(2), 3 * page_, MADV_DONTNEED), 0);
  EXPECT_EQ(ResidentBytes(Page(0), 10 * page_), 7 * page_);
}

TEST_F(PageMemoryTest, LocksNothingAtOnce) {
  EXPECT_TRUE(LockPages(nullptr, 0));
  EXPECT_TRUE(LockPages(Page(3) + 1, 0));
  EXPECT_EQ(ResidentBytes(Page(0), buffer_.size_bytes()), 0U);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// The sanitizers turn mlock into nothing.
TEST_F(PageMemoryTest, LockedPagesAreReadIn) {
  // Bytes of three pages.
  if (!LockPages(Page(2) - 1, page_ + 2)) GTEST_SKIP() << "see ulimit -l";
  EXPECT_EQ(ResidentBytes(Page(0), buffer_.size_bytes()), 3 * page_);
  EXPECT_EQ(ResidentBytes(Page(1), 3 * page_), 3 * page_);
}

TEST_F(PageMemoryTest, SaysWhenTheSystemRefusesToLock) {
  ASSERT_EQ(munmap(Page(5), page_), 0);
  EXPECT_FALSE(LockPages(Page(5), page_));
}
#endif

TEST_F(PageMemoryTest, FaultsOfTheProcessCountEveryPageTouched) {
  const PageFaults before = FaultsOfProcess();
  for (size_t i = 0; i < 1'000; ++i) Touch(i);
  const PageFaults after = FaultsOfProcess();
  EXPECT_GE(after.minor, before.minor + 1'000);
  EXPECT_GE(after.major, before.major);
}

TEST_F(PageMemoryTest, FreshMemoryWaitsForNoDisk) {
  const uint64_t before = MajorFaultsOfThread();
  EXPECT_LE(before, FaultsOfProcess().major);
  for (size_t i = 0; i < 1'000; ++i) Touch(i);
  // Some page of the program itself may have to be read meanwhile.
  EXPECT_LT(MajorFaultsOfThread(), before + 100);
}

}  // namespace
}  // namespace vicinal
