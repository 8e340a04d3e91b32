// The tree keeps the rules of the house. When one of these fails, mend the
// file it names, or argue with the rule in a commit.
#include "tests/architecture/repository.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/architecture/checks.h"

namespace vicinal::architecture {
namespace {

using ::testing::IsEmpty;

// What `check` finds in every file whose path `wanted` takes.
template <typename Wanted, typename Check>
Violations Judge(Wanted wanted, Check check) {
  Violations all;
  size_t num_judged = 0;
  for (const TextFile& file : Repository()) {
    if (!wanted(file.path)) continue;
    ++num_judged;
    const Violations found = check(file);
    all.insert(all.end(), found.begin(), found.end());
  }
  EXPECT_GT(num_judged, 0u) << "the rule looked at no file";
  return all;
}

bool EndsWith(const std::string& path, const char* suffix) {
  return path.ends_with(suffix);
}

bool IsOurProto(const std::string& path) {
  return path.starts_with("proto/vicinal/") && EndsWith(path, ".proto");
}

const TextFile* Find(const std::string& path) {
  for (const TextFile& file : Repository()) {
    if (file.path == path) return &file;
  }
  return nullptr;
}

TEST(RepositoryTest, IncludesFollowTheArrows) {
  EXPECT_THAT(Judge([](const std::string&) { return true; },
                    [](const TextFile& file) {
                      return CheckIncludes(file, ExistsInRepository);
                    }),
              IsEmpty());
}

TEST(RepositoryTest, HeadersOpenWithTheirPurpose) {
  EXPECT_THAT(
      Judge([](const std::string& path) { return EndsWith(path, ".h"); },
            CheckHeaderOpening),
      IsEmpty());
}

TEST(RepositoryTest, LinksOfThePagesLeadSomewhere) {
  EXPECT_THAT(
      Judge([](const std::string& path) { return EndsWith(path, ".md"); },
            [](const TextFile& page) {
              return CheckLinks(page, ExistsInRepository, Find);
            }),
      IsEmpty());
}

TEST(RepositoryTest, EveryPageIsInTheIndex) {
  EXPECT_THAT(CheckDocsIndex(Repository()), IsEmpty());
}

TEST(RepositoryTest, EveryProtoDeclarationHasAComment) {
  EXPECT_THAT(Judge(IsOurProto, CheckProtoComments), IsEmpty());
}

TEST(RepositoryTest, EveryEnumZeroIsUnspecified) {
  EXPECT_THAT(Judge(IsOurProto, CheckEnumZeros), IsEmpty());
}

TEST(RepositoryTest, UnfinishedWorkNamesItsIssue) {
  EXPECT_THAT(Judge(
                  [](const std::string& path) {
                    return !path.starts_with("proto/google/") &&
                           !path.starts_with("tests/architecture/");
                  },
                  CheckUnfinished),
              IsEmpty());
}

TEST(RepositoryTest, ShellScriptsStopAtTheFirstError) {
  EXPECT_THAT(Judge(
                  [](const std::string& path) {
                    return EndsWith(path, ".sh") || path == ".ci/run";
                  },
                  CheckShellScript),
              IsEmpty());
}

TEST(RepositoryTest, EveryErrorReasonIsExplained) {
  const TextFile* reasons = Find("server/errors.h");
  const TextFile* page = Find("docs/errors.md");
  ASSERT_NE(reasons, nullptr);
  ASSERT_NE(page, nullptr);
  EXPECT_THAT(CheckErrorReasons(*reasons, *page), IsEmpty());
}

}  // namespace
}  // namespace vicinal::architecture
