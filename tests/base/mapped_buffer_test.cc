// Reserved memory: zeroed, where it was, and given back.
#include "src/base/mapped_buffer.h"

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "gtest/gtest.h"
#include "src/base/page_memory.h"

namespace vicinal {
namespace {

constexpr size_t kMib = size_t{1} << 20;

TEST(MappedBufferTest, OfNothingHasNoMemory) {
  const MappedBuffer none;
  EXPECT_EQ(none.data(), nullptr);
  EXPECT_EQ(none.size_bytes(), 0U);
  const MappedBuffer zero(0);
  EXPECT_EQ(zero.data(), nullptr);
  EXPECT_EQ(zero.size_bytes(), 0U);
}

TEST(MappedBufferTest, IsZeroedAndWritableToItsLastByte) {
  for (const size_t size : {size_t{1}, size_t{4'095}, size_t{4'097}, 4 * kMib,
                            4 * kMib + 1, 9 * kMib + 5}) {
    const MappedBuffer buffer(size);
    ASSERT_EQ(buffer.size_bytes(), size);
    for (size_t i = 0; i < size; ++i) {
      ASSERT_EQ(buffer.data()[i], std::byte{0}) << i;
    }
    buffer.data()[0] = std::byte{1};
    buffer.data()[size - 1] = std::byte{2};
    EXPECT_EQ(buffer.data()[size - 1], std::byte{2});
  }
}

TEST(MappedBufferTest, SmallOnesMayBeOnTheHeap) {
  for (const size_t size : {size_t{1}, size_t{100}, size_t{131'071},
                            size_t{131'072}, size_t{200'000}}) {
    MappedBuffer buffer(size, MappedBuffer::Small::kHeap);
    ASSERT_EQ(buffer.size_bytes(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0U);
    for (size_t i = 0; i < size; ++i) {
      ASSERT_EQ(buffer.data()[i], std::byte{0}) << i;
    }
    buffer.data()[size - 1] = std::byte{2};
    MappedBuffer other(size_t{7});
    other = std::move(buffer);
    EXPECT_EQ(other.data()[size - 1], std::byte{2});
    buffer = MappedBuffer(size_t{3});
    EXPECT_EQ(buffer.data()[2], std::byte{0});
  }
}

TEST(MappedBufferTest, CostsMemoryOnlyWhereItIsTouched) {
  const MappedBuffer buffer(1'024 * kMib);
  EXPECT_EQ(ResidentBytes(buffer.data(), buffer.size_bytes()), 0U);
  buffer.data()[buffer.size_bytes() / 2] = std::byte{1};
  const size_t resident = ResidentBytes(buffer.data(), buffer.size_bytes());
  EXPECT_GT(resident, 0U);
  EXPECT_LE(resident, 4 * kMib);  // a large page at most
}

TEST(MappedBufferTest, GivesItsMemoryBackAtItsEnd) {
  constexpr size_t kSize = 64 * kMib;
  const std::byte* data = nullptr;
  {
    const MappedBuffer buffer(kSize);
    data = buffer.data();
    buffer.data()[kSize - 1] = std::byte{1};
    EXPECT_GT(ResidentBytes(data, kSize), 0U);
  }
  EXPECT_EQ(ResidentBytes(data, kSize), 0U);
}

TEST(MappedBufferTest, MovesWithoutChangingItsAddress) {
  MappedBuffer first(kMib);
  std::byte* const data = first.data();
  data[7] = std::byte{7};
  MappedBuffer second(std::move(first));
  EXPECT_EQ(first.data(), nullptr);  // NOLINT: what a moved one is, is tested
  EXPECT_EQ(first.size_bytes(), 0U);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second.size_bytes(), kMib);
  EXPECT_EQ(second.data()[7], std::byte{7});
  static_assert(!std::is_copy_constructible_v<MappedBuffer>);
}

TEST(MappedBufferTest, AssignmentFreesTheOldMemory) {
  MappedBuffer target(64 * kMib);
  const std::byte* const old = target.data();
  target.data()[0] = std::byte{1};
  MappedBuffer source(kMib);
  std::byte* const data = source.data();
  data[3] = std::byte{3};
  target = std::move(source);
  EXPECT_EQ(target.data(), data);
  EXPECT_EQ(target.data()[3], std::byte{3});
  EXPECT_EQ(source.data(), nullptr);  // NOLINT: as above
  EXPECT_EQ(ResidentBytes(old, 64 * kMib), 0U);
  MappedBuffer& itself = target;
  target = std::move(itself);
  EXPECT_EQ(target.data(), data);
  EXPECT_EQ(target.size_bytes(), kMib);
}

}  // namespace
}  // namespace vicinal
