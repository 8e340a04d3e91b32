// What a fuzzer has found, and what it begins with, passes in every build.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "gtest/gtest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes);

namespace vicinal {
namespace {

// VICINAL_CORPUS is its folder, set by CMake.
TEST(FuzzTest, TheCorpusPasses) {
  size_t num_files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(VICINAL_CORPUS)) {
    SCOPED_TRACE(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    EXPECT_EQ(LLVMFuzzerTestOneInput(
                  reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()),
              0);
    ++num_files;
  }
  EXPECT_GE(num_files, 5u);
}

}  // namespace
}  // namespace vicinal
