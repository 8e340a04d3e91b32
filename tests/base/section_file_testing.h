// Section files that tests write, keep as bytes and damage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/section_file.h"
#include "src/base/status_macros.h"
#include "tests/client/matchers.h"
#include "tests/client/test_files.h"

namespace vicinal {

using Sections = std::vector<std::pair<std::string, std::string>>;

// A file "f" of kind TEST, version 3, in a folder of its own.
class TestSectionFile {
 public:
  static constexpr char kKind[] = "TEST";
  static constexpr uint32_t kVersion = 3;

  std::string path() const { return folder_.File("f"); }
  std::string temporary_path() const { return path() + ".tmp"; }
  // The table has a place for each section and `num_spare` more.
  absl::Status Write(const Sections& sections, size_t num_spare = 0,
                     const FileFaultHook& fault_hook = {}) const {
    VICINAL_ASSIGN_OR_RETURN(
        const auto writer,
        SectionFileWriter::Create(path(), kKind, kVersion,
                                  sections.size() + num_spare, fault_hook));
    for (const auto& [name, bytes] : sections) {
      VICINAL_RETURN_IF_ERROR(writer->BeginSection(name));
      VICINAL_RETURN_IF_ERROR(writer->Append(bytes));
    }
    return writer->Finish();
  }
  std::string Bytes() const { return client::ReadAll(path()); }
  void SetBytes(const std::string& bytes) const { folder_.Write("f", bytes); }
  absl::StatusOr<std::unique_ptr<SectionFile>> Open(
      SectionFile::Verify verify = SectionFile::Verify::kAll) const {
    return SectionFile::Open(path(), kKind, kVersion, verify);
  }
  void ExpectDataLoss(const std::string& part) const {
    for (const auto verify :
         {SectionFile::Verify::kAll, SectionFile::Verify::kHeaders}) {
      EXPECT_THAT(Open(verify),
                  client::Fails(absl::StatusCode::kDataLoss, part));
    }
  }

 private:
  client::TemporaryFolder folder_;
};

// A file of two sections and its bytes, to be damaged.
class DamagedFileTest : public ::testing::Test {
 protected:
  DamagedFileTest() {
    EXPECT_THAT(file_.Write({{"A", "some bytes"}, {"B", "more"}},
                            /*num_spare=*/1),
                client::IsOk());
    bytes_ = file_.Bytes();
  }

  const TestSectionFile file_;
  std::string bytes_;
};

}  // namespace vicinal
