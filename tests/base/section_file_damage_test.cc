// Section files that are not whole, changed or none at all.
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/section_file.h"
#include "tests/base/section_file_testing.h"
#include "tests/client/matchers.h"

namespace vicinal {
namespace {

using client::Fails;
using client::IsOk;
namespace fs = std::filesystem;

class SectionFileDamageTest : public DamagedFileTest {};

TEST_F(SectionFileDamageTest, EveryChangedByteIsDataLoss) {
  std::fstream file(file_.path(),
                    std::ios::in | std::ios::out | std::ios::binary);
  const auto write = [&file](size_t at, char byte) {
    file.seekp(static_cast<std::streamoff>(at)).put(byte).flush();
  };
  for (size_t at = 0; at < bytes_.size(); ++at) {
    const char flipped = static_cast<char>(bytes_[at] ^ (1 << (at % 8)));
    for (const char byte : {flipped, static_cast<char>(~bytes_[at])}) {
      write(at, byte);
      const auto opened = file_.Open();
      ASSERT_EQ(opened.status().code(), absl::StatusCode::kDataLoss) << at;
      ASSERT_NE(opened.status().message().find(file_.path()),
                absl::string_view::npos);
    }
    write(at, bytes_[at]);
  }
  EXPECT_THAT(file_.Open(), IsOk());
}

TEST_F(SectionFileDamageTest, EveryTruncationIsDataLoss) {
  for (size_t size = bytes_.size(); size-- > 0;) {
    fs::resize_file(file_.path(), size);
    for (const auto verify :
         {SectionFile::Verify::kAll, SectionFile::Verify::kHeaders}) {
      ASSERT_EQ(file_.Open(verify).status().code(), absl::StatusCode::kDataLoss)
          << size;
    }
  }
}

TEST_F(SectionFileDamageTest, BytesBehindTheEndAreDataLoss) {
  file_.SetBytes(bytes_ + '\0');
  file_.ExpectDataLoss("bytes and was written with");
}

TEST_F(SectionFileDamageTest, NamesTheSectionThatIsDamaged) {
  bytes_.back() = '\x01';
  file_.SetBytes(bytes_);
  EXPECT_THAT(file_.Open(), Fails(absl::StatusCode::kDataLoss,
                                  "the checksum of section \"B\""));
  const auto opened = file_.Open(SectionFile::Verify::kHeaders);
  ASSERT_THAT(opened, IsOk());
  EXPECT_EQ(*(*opened)->Section("A"), "some bytes");
  EXPECT_THAT((*opened)->VerifyAll(),
              Fails(absl::StatusCode::kDataLoss, "\"B\" differs"));
}

TEST_F(SectionFileDamageTest, AMissingFileIsNotFound) {
  fs::remove(file_.path());
  EXPECT_THAT(file_.Open(), Fails(absl::StatusCode::kNotFound,
                                  "Cannot open " + file_.path()));
}

TEST_F(SectionFileDamageTest, AFolderIsDataLoss) {
  fs::remove(file_.path());
  fs::create_directory(file_.path());
  file_.ExpectDataLoss("not a regular file");
}

}  // namespace
}  // namespace vicinal
