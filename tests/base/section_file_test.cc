// Section files that are written, read, replaced, and that cannot be written.
#include "src/base/section_file.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "tests/base/base_testing.h"
#include "tests/base/section_file_testing.h"
#include "tests/client/matchers.h"

namespace vicinal {
namespace {

using client::Fails;
using client::IsOk;
namespace fs = std::filesystem;

class SectionFileTest : public ::testing::Test {
 protected:
  void ExpectSections(const Sections& sections) const {
    const auto opened = file_.Open();
    ASSERT_THAT(opened, IsOk());
    for (const auto& [name, bytes] : sections) {
      const auto section = (*opened)->Section(name);
      ASSERT_THAT(section, IsOk());
      EXPECT_TRUE(*section == bytes) << name;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(section->data()) % 4'096, 0U);
    }
  }

  const TestSectionFile file_;
};

TEST_F(SectionFileTest, ReadsWhatWasWritten) {
  const Sections sections = {{"A", "first"},
                             {"EIGHT888", RandomBytes(4'096, 13)},
                             {"EMPTY", ""},
                             {"B", RandomBytes(10'000, 13)}};
  ASSERT_THAT(file_.Write(sections), IsOk());
  ExpectSections(sections);
  const auto opened = file_.Open();
  ASSERT_THAT(opened, IsOk());
  EXPECT_EQ((*opened)->version(), TestSectionFile::kVersion);
  EXPECT_EQ((*opened)->path(), file_.path());
  EXPECT_EQ((*opened)->size_bytes(), fs::file_size(file_.path()));
  EXPECT_TRUE((*opened)->mapped() == file_.Bytes());
  EXPECT_THAT((*opened)->Section("C"),
              Fails(absl::StatusCode::kDataLoss, "it has no section \"C\""));
  EXPECT_FALSE(fs::exists(file_.temporary_path()));
}

TEST_F(SectionFileTest, TakesNoEmptyAndSpareSectionsAtItsEnd) {
  for (const Sections& sections :
       {Sections{}, Sections{{"E", ""}}, Sections{{"A", "a"}, {"E", ""}},
        Sections{{"A", "a"}}}) {
    for (const size_t num_spare : {0, 1, 500}) {
      ASSERT_THAT(file_.Write(sections, num_spare), IsOk());
      ExpectSections(sections);
    }
  }
}

TEST_F(SectionFileTest, PiecesOfAnySizeAreOneSection) {
  constexpr size_t kMib = size_t{1} << 20;  // the writer's buffer
  std::string whole;
  auto writer = SectionFileWriter::Create(file_.path(), TestSectionFile::kKind,
                                          TestSectionFile::kVersion, 1);
  ASSERT_THAT(writer, IsOk());
  ASSERT_THAT((*writer)->BeginSection("A"), IsOk());
  for (const size_t size : {size_t{0}, size_t{1}, kMib - 1, size_t{1}, kMib,
                            kMib + 1, size_t{5}, size_t{0}}) {
    const std::string piece = RandomBytes(size, 13);
    ASSERT_THAT((*writer)->Append(piece), IsOk());
    whole += piece;
  }
  ASSERT_THAT((*writer)->Finish(), IsOk());
  ExpectSections({{"A", whole}});
}

TEST_F(SectionFileTest, KeepsItsSectionsAfterThePagesAreDropped) {
  const std::string bytes = RandomBytes(100'000, 13);
  ASSERT_THAT(file_.Write({{"A", bytes}}), IsOk());
  const auto opened = file_.Open(SectionFile::Verify::kHeaders);
  ASSERT_THAT(opened, IsOk());
  (*opened)->DropPages();
  EXPECT_TRUE(*(*opened)->Section("A") == bytes);
  EXPECT_THAT((*opened)->VerifyAll(), IsOk());
}

TEST_F(SectionFileTest, AnOpenFileOutlivesItsReplacement) {
  ASSERT_THAT(file_.Write({{"A", "old"}}), IsOk());
  const auto old = file_.Open();
  ASSERT_THAT(old, IsOk());
  ASSERT_THAT(file_.Write({{"A", "new"}}), IsOk());
  EXPECT_EQ(*(*old)->Section("A"), "old");
  EXPECT_THAT((*old)->VerifyAll(), IsOk());
  ExpectSections({{"A", "new"}});
}

TEST_F(SectionFileTest, AWriterThatDoesNotFinishLeavesTheOldFile) {
  ASSERT_THAT(file_.Write({{"A", "old"}}), IsOk());
  {
    auto writer = SectionFileWriter::Create(file_.path(), "TEST", 3, 1);
    ASSERT_THAT(writer, IsOk());
    ASSERT_THAT((*writer)->BeginSection("A"), IsOk());
    ASSERT_THAT((*writer)->Append("new"), IsOk());
    EXPECT_TRUE(fs::exists(file_.temporary_path()));
  }
  EXPECT_FALSE(fs::exists(file_.temporary_path()));
  ExpectSections({{"A", "old"}});
}

TEST_F(SectionFileTest, AnyFailingFileOperationLeavesTheOldFileOrAWholeOne) {
  const Sections old_sections = {{"A", "old"}};
  const Sections new_sections = {{"A", "new"}, {"B", RandomBytes(3 << 20, 13)}};
  for (const absl::string_view failing :
       {"open", "write", "sync", "rename", "sync folder"}) {
    for (int nth = 1;; ++nth) {
      SCOPED_TRACE(failing);
      ASSERT_THAT(file_.Write(old_sections), IsOk());
      int num_seen = 0;
      const absl::Status status = file_.Write(
          new_sections, 0,
          [&](absl::string_view operation, absl::string_view /*path*/) {
            return operation == failing && ++num_seen == nth ? ENOSPC : 0;
          });
      EXPECT_FALSE(fs::exists(file_.temporary_path()));
      if (num_seen < nth) {
        EXPECT_GT(nth, 1) << "never asked for";
        EXPECT_THAT(status, IsOk());
        break;
      }
      EXPECT_THAT(status,
                  Fails(absl::StatusCode::kResourceExhausted, "Cannot"));
      // The folder is synced after the rename.
      ExpectSections(failing == "sync folder" ? new_sections : old_sections);
    }
  }
}

TEST_F(SectionFileTest, TheFirstErrorStays) {
  int error = 0;
  auto writer = SectionFileWriter::Create(
      file_.path(), "TEST", 3, 2,
      [&error](absl::string_view, absl::string_view) { return error; });
  ASSERT_THAT(writer, IsOk());
  ASSERT_THAT((*writer)->BeginSection("A"), IsOk());
  error = EIO;
  const std::string large(2 << 20, 'x');
  EXPECT_THAT((*writer)->Append(large),
              Fails(absl::StatusCode::kInternal, "Cannot write"));
  error = 0;
  for (const absl::Status& status :
       {(*writer)->Append("x"), (*writer)->BeginSection("B"),
        (*writer)->Finish(), (*writer)->Finish()}) {
    EXPECT_THAT(status, Fails(absl::StatusCode::kInternal, "Cannot write"));
  }
  EXPECT_FALSE(fs::exists(file_.path()));
}

TEST_F(SectionFileTest, AnInterruptedWriteIsTriedAgain) {
  int num_writes = 0;
  ASSERT_THAT(
      file_.Write({{"A", "a"}}, 0,
                  [&](absl::string_view operation, absl::string_view) {
                    if (operation != "write") return 0;
                    return ++num_writes % 2 == 1 && num_writes < 4 ? EINTR : 0;
                  }),
      IsOk());
  ExpectSections({{"A", "a"}});
}

TEST_F(SectionFileTest, AMissingFolderIsNotFound) {
  EXPECT_THAT(SectionFileWriter::Create("/no/such/folder/f", "TEST", 3, 1),
              Fails(absl::StatusCode::kNotFound, "/no/such/folder/f.tmp"));
  EXPECT_THAT(SyncDirectory("/no/such/folder"),
              Fails(absl::StatusCode::kNotFound, "/no/such/folder"));
  EXPECT_THAT(SyncDirectory(fs::path(file_.path()).parent_path()), IsOk());
}

}  // namespace
}  // namespace vicinal
