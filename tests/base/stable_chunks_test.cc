// Chunks that cover all elements, and elements that never move.
#include "src/base/stable_chunks.h"

#include <atomic>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace vicinal {
namespace {

TEST(StableChunksTest, CoverEveryElementOnce) {
  size_t chunk = 0;
  for (size_t i = 0; i < 100'000; ++i) {
    if (i == stable_chunks::End(chunk)) ++chunk;
    ASSERT_EQ(stable_chunks::ChunkOf(i), chunk) << i;
    ASSERT_GE(i, stable_chunks::Begin(chunk));
    ASSERT_LT(i, stable_chunks::End(chunk));
    ASSERT_EQ(stable_chunks::NumChunks(i + 1), chunk + 1);
  }
  EXPECT_EQ(stable_chunks::NumChunks(0), 0u);
}

TEST(StableVectorTest, ElementsStayWhereTheyAre) {
  constexpr size_t kSize = 5'000;
  StableVector<std::string> vector(kSize);
  std::vector<const std::string*> places;
  for (size_t i = 0; i < kSize; ++i) {
    vector.PushBack(absl::StrCat(i));
    places.push_back(&vector[i]);
  }
  EXPECT_EQ(vector.size(), kSize);
  for (size_t i = 0; i < kSize; ++i) {
    ASSERT_EQ(&vector[i], places[i]);
    ASSERT_EQ(vector[i], absl::StrCat(i));
  }
}

TEST(StableVectorTest, IsReadWhileItGrows) {
  constexpr size_t kSize = 20'000;
  StableVector<size_t> vector(kSize);
  std::atomic<size_t> published = 0;
  std::thread reader([&] {
    for (size_t n = 0; n < kSize;) {
      n = published.load(std::memory_order_acquire);
      for (size_t i = n - n % 64; i < n; ++i) ASSERT_EQ(vector[i], i);
    }
  });
  for (size_t i = 0; i < kSize; ++i) {
    vector.PushBack(i);
    published.store(i + 1, std::memory_order_release);
  }
  reader.join();
}

}  // namespace
}  // namespace vicinal
