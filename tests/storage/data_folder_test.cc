#include "storage/data_folder.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/record_store.h"
#include "tests/storage/storage_test_util.h"

namespace vicinal {
namespace {

using ::testing::HasSubstr;

TEST(DataFolderTest, SecondOpenInTheSameProcessIsRefused) {
  TempFolder folder;
  auto store = OpenOrDie(folder.data());
  const auto second = RecordStore::Open(folder.data(), {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(absl::StrCat("is in use by process ", getpid(), ";")));
  store.reset();
  EXPECT_TRUE(RecordStore::Open(folder.data(), {}).ok());
}

TEST(DataFolderTest, AnotherProcessHoldsItUntilItIsKilled) {
  TempFolder folder;
  StorageChild child("hold", folder.data());
  const auto refused = RecordStore::Open(folder.data(), {});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      std::string(refused.status().message()),
      HasSubstr(absl::StrCat("is in use by process ", child.pid(), ";")));
  child.Kill();
  const auto reopened = RecordStore::Open(folder.data(), {});
  EXPECT_TRUE(reopened.ok()) << reopened.status();
}

TEST(DataFolderTest, CreatesTheFolderAndItsParents) {
  TempFolder folder;
  const std::string deep = folder.path() + "/a/b/c/";
  EXPECT_TRUE(RecordStore::Open(deep, {}).ok());
  EXPECT_TRUE(std::filesystem::is_directory(deep + "/db"));
}

TEST(DataFolderTest, PathThatIsAFileIsInvalid) {
  TempFolder folder;
  WriteFileOrDie(folder.data(), "not a folder");
  for (const char* below : {"", "/", "/below"}) {
    const auto store = RecordStore::Open(folder.data() + below, {});
    EXPECT_EQ(store.status().code(), absl::StatusCode::kInvalidArgument)
        << below << store.status();
    EXPECT_THAT(std::string(store.status().message()),
                HasSubstr("is not a folder"));
  }
}

// Permissions do not bind the superuser, so a child gives that up first.
int OpenAsNobody(const std::string& path) {
  const pid_t child = fork();
  if (child == 0) {
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(99);
    const auto lock = DataFolderLock::Acquire(path);
    _exit(static_cast<int>(lock.status().code()));
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(DataFolderTest, NoPermissionIsSaidSo) {
  TempFolder folder;
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  std::filesystem::create_directory(folder.data());
  constexpr int kDenied = static_cast<int>(absl::StatusCode::kPermissionDenied);
  ASSERT_EQ(chmod(folder.data().c_str(), 0555), 0);
  EXPECT_EQ(OpenAsNobody(folder.data()), kDenied) << "no write";
  ASSERT_EQ(chmod(folder.data().c_str(), 0), 0);
  EXPECT_EQ(OpenAsNobody(folder.data()), kDenied) << "no access";
  EXPECT_EQ(OpenAsNobody(folder.data() + "/below"), kDenied) << "no search";
  ASSERT_EQ(chmod(folder.data().c_str(), 0777), 0);
  EXPECT_EQ(OpenAsNobody(folder.data()), 0);
}

}  // namespace
}  // namespace vicinal
