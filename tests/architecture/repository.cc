#include "tests/architecture/repository.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace vicinal::architecture {
namespace {

namespace fs = std::filesystem;

bool IsText(const fs::path& path) {
  static constexpr std::array<std::string_view, 14> kExtensions = {
      ".cc",  ".h",     ".cu",   ".cuh",  ".proto", ".py", ".sh",
      ".inc", ".cmake", ".json", ".yaml", ".md",    ".in", ".txt"};
  const std::string extension = path.extension().string();
  return std::ranges::find(kExtensions, extension) != kExtensions.end() ||
         path == fs::path(VICINAL_SOURCE_DIR) / ".ci" / "run";
}

bool IsOutside(const fs::path& folder) {
  const std::string name = folder.filename().string();
  return name != ".ci" && (name.starts_with(".") || name.starts_with("build"));
}

std::vector<TextFile> ReadTree() {
  std::vector<TextFile> files;
  const fs::path root = VICINAL_SOURCE_DIR;
  for (fs::recursive_directory_iterator it(root), end; it != end; ++it) {
    if (it->is_directory()) {
      if (IsOutside(it->path())) it.disable_recursion_pending();
    } else if (it->is_regular_file() && IsText(it->path())) {
      files.push_back({it->path().lexically_relative(root).generic_string(),
                       ReadFileOrDie(it->path().string())});
    }
  }
  std::ranges::sort(files, {}, &TextFile::path);
  return files;
}

}  // namespace

const std::vector<TextFile>& Repository() {
  static const auto* const kFiles = new std::vector<TextFile>(ReadTree());
  return *kFiles;
}

bool ExistsInRepository(const std::string& path) {
  return fs::exists(fs::path(VICINAL_SOURCE_DIR) / path);
}

std::string ReadFileOrDie(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::abort();
  }
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace vicinal::architecture
