// The repository's own text, as the architecture tests read it.
#pragma once

#include <string>
#include <vector>

namespace vicinal::architecture {

struct TextFile {
  std::string path;  // from the repository's root, with forward slashes
  std::string text;
};

// Every source, script, proto and documentation file of the tree this test was
// built from, by path; build trees and hidden folders but .ci left out.
const std::vector<TextFile>& Repository();

// Whether `path`, from the repository's root, is a file or folder of it.
bool ExistsInRepository(const std::string& path);

// The whole of a file anywhere; dies when it cannot be read.
std::string ReadFileOrDie(const std::string& path);

}  // namespace vicinal::architecture
