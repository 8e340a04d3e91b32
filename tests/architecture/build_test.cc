// What the build made keeps the rules of the house.
#include <stdio.h>

#include <array>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/architecture/checks.h"
#include "tests/architecture/repository.h"

namespace vicinal::architecture {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// What `nm object` prints.
std::string Symbols(const std::string& object) {
  std::string output;
  const std::string command = absl::StrCat(VICINAL_NM " '", object, "'");
  FILE* const pipe = popen(command.c_str(), "r");
  EXPECT_NE(pipe, nullptr) << command;
  if (pipe == nullptr) return output;
  std::array<char, 4096> buffer;
  while (const size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.append(buffer.data(), n);
  }
  EXPECT_EQ(pclose(pipe), 0) << command;
  return output;
}

// Judges the objects that the file at `list` names, one a line.
Violations CheckObjects(const std::string& list) {
  const std::string text = ReadFileOrDie(list);
  const std::vector<std::string> objects =
      absl::StrSplit(text, '\n', absl::SkipWhitespace());
  EXPECT_THAT(objects, Not(IsEmpty()));
  Violations all;
  for (const std::string& object : objects) {
    const Violations found = CheckKernelSymbols(object, Symbols(object));
    all.insert(all.end(), found.begin(), found.end());
  }
  return all;
}

// The compile commands, with an entry for each file that a unity file includes.
std::string CompileCommands() {
  static const std::regex kUnity(R"re("file": "([^"]*/unity_\d+_cxx\.cxx)")re");
  static const std::regex kInclude(R"re(#include "([^"]*)")re");
  const std::string commands = ReadFileOrDie(VICINAL_COMPILE_COMMANDS);
  std::string all = commands;
  const std::sregex_iterator end;
  for (std::sregex_iterator unity(commands.begin(), commands.end(), kUnity);
       unity != end; ++unity) {
    const std::string text = ReadFileOrDie((*unity)[1].str());
    for (std::sregex_iterator it(text.begin(), text.end(), kInclude); it != end;
         ++it) {
      absl::StrAppend(&all, "\"file\": \"", (*it)[1].str(), "\"\n");
    }
  }
  return all;
}

TEST(BuildTest, KernelObjectsEmitNoWeakSymbol) {
  EXPECT_THAT(CheckObjects(VICINAL_KERNEL_OBJECTS), IsEmpty());
}

TEST(BuildTest, AWeakSymbolWouldBeSeen) {
  EXPECT_THAT(CheckObjects(VICINAL_WEAK_OBJECTS),
              Contains(HasSubstr("weak symbol _ZN7vicinal7kernels5Twice")));
}

TEST(BuildTest, EverySourceFileIsInATarget) {
  EXPECT_THAT(
      CheckSourcesAreBuilt(Repository(), CompileCommands(), VICINAL_SOURCE_DIR),
      IsEmpty());
}

}  // namespace
}  // namespace vicinal::architecture
