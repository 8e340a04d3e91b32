#include "storage/segment_path.h"

#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/collection_store.h"
#include "tests/storage/storage_test_util.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

absl::Status Create(const TempFolder& folder,
                    const std::vector<CollectionNumber>& collections) {
  return CreateCollectionFolders(folder.path(), collections);
}

TEST(SegmentPathTest, NamesFilesByNumbers) {
  EXPECT_EQ(CollectionFolder("/data", 7), "/data/collections/7");
  EXPECT_EQ(SegmentPath("/data", 7, 12), "/data/collections/7/12.seg");
}

TEST(SegmentPathTest, ListsNothingWhereThereIsNoFolder) {
  TempFolder folder;
  EXPECT_THAT(*ListCollectionFolders(folder.path()), IsEmpty());
  EXPECT_THAT(*ListSegmentFiles(folder.path(), 1), IsEmpty());
  EXPECT_EQ(*DeleteOrphanSegmentFiles(folder.path(), 1, {}), 0);
  EXPECT_TRUE(DeleteCollectionFolder(folder.path(), 1).ok());
}

TEST(SegmentPathTest, DeletesOrphansAndLeavesWhatItDoesNotKnow) {
  TempFolder folder;
  ASSERT_TRUE(Create(folder, {3}).ok());
  ASSERT_TRUE(Create(folder, {3}).ok()) << "again";
  ASSERT_TRUE(Create(folder, {3, 20}).ok());
  const std::string path = CollectionFolder(folder.path(), 3);
  for (const char* name :
       {"1.seg", "2.seg", "11.seg", "4.seg.tmp", "01.seg", "x.seg", "notes"}) {
    WriteFileOrDie(path + "/" + name, name);
  }
  EXPECT_THAT(*ListCollectionFolders(folder.path()), ElementsAre(3, 20));
  EXPECT_THAT(*ListSegmentFiles(folder.path(), 3), ElementsAre(1, 2, 11));

  EXPECT_EQ(*DeleteOrphanSegmentFiles(folder.path(), 3,
                                      {{.number = 2}, {.number = 9}}),
            3);
  EXPECT_THAT(*ListSegmentFiles(folder.path(), 3), ElementsAre(2));
  for (const char* name : {"01.seg", "x.seg", "notes"}) {
    EXPECT_TRUE(std::filesystem::exists(path + "/" + name)) << name;
  }
  EXPECT_FALSE(std::filesystem::exists(path + "/4.seg.tmp"));

  ASSERT_TRUE(DeleteCollectionFolder(folder.path(), 3).ok());
  EXPECT_THAT(*ListCollectionFolders(folder.path()), ElementsAre(20));
}

TEST(SegmentPathTest, ReportsAFolderThatIsNone) {
  TempFolder folder;
  ASSERT_TRUE(Create(folder, {1}).ok());
  WriteFileOrDie(CollectionFolder(folder.path(), 2), "a file");
  EXPECT_FALSE(ListSegmentFiles(folder.path(), 2).ok());
  EXPECT_FALSE(Create(folder, {2}).ok());
}

}  // namespace
}  // namespace vicinal
