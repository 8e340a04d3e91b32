#include "tests/architecture/checks.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace vicinal::architecture {
namespace {

using Names = std::set<std::string>;

// ARCHITECTURE.md section 1. Longest folder first, so that src/distance/gpu
// is found before src/distance.
struct Folder {
  std::string path;
  Names houses;   // folders of ours that it may include, itself included
  Names foreign;  // libraries besides std and absl
  bool all = false;
};

const std::vector<Folder>& Folders() {
  static const auto* const kFolders = new std::vector<Folder>{
      {"src/distance/gpu",
       {"src/distance/gpu", "src/distance", "src/base"},
       {"cuda"}},
      {"src/distance", {"src/distance", "src/base"}, {}},
      {"src/engine",
       {"src/engine", "src/base", "src/payload", "src/distance",
        "src/distance/gpu", "quant", "src/text", "index", "storage"},
       {"json", "openmp"}},
      {"src/payload", {"src/payload", "src/base"}, {"json"}},
      {"src/text", {"src/text", "src/base"}, {"icu", "json", "stemmer"}},
      {"src/base", {"src/base"}, {}},
      {"quant", {"quant", "src/base", "src/distance"}, {"openmp"}},
      {"index",
       {"index", "src/base", "src/distance", "src/distance/gpu", "quant"},
       {"openmp"}},
      {"storage", {"storage", "src/base"}, {"rocksdb"}},
      {"server",
       {"server", "src/engine", "src/payload", "src/text", "src/base",
        "src/distance/gpu", "proto"},
       {"grpc", "protobuf", "json", "spdlog", "cli"}},
      {"client",
       {"client", "src/base", "proto"},
       {"grpc", "protobuf", "json", "spdlog", "cli", "hdf5", "zlib"}},
      {"tests", {}, {}, /*all=*/true},
      {"bench", {}, {}, /*all=*/true},
  };
  return *kFolders;
}

bool IsUnder(std::string_view path, std::string_view folder) {
  return path.starts_with(folder) && path.size() > folder.size() &&
         path[folder.size()] == '/';
}

const Folder* FolderOf(std::string_view path) {
  for (const Folder& folder : Folders()) {
    if (IsUnder(path, folder.path)) return &folder;
  }
  return nullptr;
}

// The library that a header belongs to by the first part of its name; empty:
// the system's.
std::string ForeignLibrary(std::string_view header) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 28>
      kPrefixes = {{{"absl/", "absl"},
                    {"rocksdb/", "rocksdb"},
                    {"grpcpp/", "grpc"},
                    {"grpc++/", "grpc"},
                    {"grpc/", "grpc"},
                    {"google/protobuf/", "protobuf"},
                    {"cuda", "cuda"},
                    {"cublas", "cuda"},
                    {"curand", "cuda"},
                    {"nccl", "cuda"},
                    {"cub/", "cuda"},
                    {"thrust/", "cuda"},
                    {"nlohmann/", "json"},
                    {"CLI/", "cli"},
                    {"spdlog/", "spdlog"},
                    {"fmt/", "spdlog"},
                    {"hdf5.h", "hdf5"},
                    {"hdf5/", "hdf5"},
                    {"H5", "hdf5"},
                    {"zlib.h", "zlib"},
                    {"unicode/", "icu"},
                    {"libstemmer.h", "stemmer"},
                    {"gtest/", "gtest"},
                    {"gmock/", "gtest"},
                    {"benchmark/", "benchmark"},
                    {"hnswlib/", "peers"},
                    {"faiss/", "peers"},
                    {"omp.h", "openmp"}}};
  for (const auto& [prefix, library] : kPrefixes) {
    if (header.starts_with(prefix)) return std::string(library);
  }
  return "";
}

bool IsGeneratedProto(std::string_view header) {
  return (IsUnder(header, "vicinal") || IsUnder(header, "google/rpc")) &&
         header.ends_with(".pb.h");
}

bool IsKernelFile(std::string_view path) {
  return path.starts_with("src/distance/kernels");
}

bool KernelMayInclude(std::string_view header) {
  return header == "cstddef" || header == "cstdint" ||
         header == "immintrin.h" || header == "arm_neon.h" ||
         IsKernelFile(header);
}

bool HasExtension(std::string_view path,
                  std::initializer_list<std::string_view> extensions) {
  return std::ranges::any_of(
      extensions, [&](std::string_view e) { return path.ends_with(e); });
}

bool IsCpp(std::string_view path) {
  return HasExtension(path, {".cc", ".h", ".cu", ".cuh", ".inc"});
}

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n');
}

std::string At(const TextFile& file, size_t line_index,
               const std::string& what) {
  return absl::StrCat(file.path, ":", line_index + 1, ": ", what);
}

// Why `folder` may not include `header`; nullopt: it may.
std::optional<std::string> IncludeProblem(const TextFile& file,
                                          const Folder& folder,
                                          const std::string& header,
                                          bool quoted,
                                          const PathPredicate& exists) {
  if (IsKernelFile(file.path) && !KernelMayInclude(header)) {
    return absl::StrCat("a kernel file must not include ", header);
  }
  const std::string library = ForeignLibrary(header);
  if (library == "absl") return std::nullopt;
  if (!library.empty()) {
    if (folder.all) {
      const bool benchmark_only = library == "benchmark" || library == "peers";
      if (benchmark_only && folder.path != "bench") {
        return absl::StrCat(header, " belongs in bench/");
      }
      return std::nullopt;
    }
    if (folder.foreign.contains(library)) return std::nullopt;
    return absl::StrCat(folder.path, " must not see ", library, " (", header,
                        ")");
  }
  if (!quoted) return std::nullopt;  // the system's
  if (IsGeneratedProto(header)) {
    if (folder.all || folder.houses.contains("proto")) return std::nullopt;
    return absl::StrCat(folder.path, " must not see proto (", header, ")");
  }
  const Folder* target = FolderOf(header);
  if (target == nullptr || !exists(header)) {
    return absl::StrCat("no header ", header, " under the repository's root");
  }
  if (folder.all || folder.houses.contains(target->path)) return std::nullopt;
  return absl::StrCat("no arrow leads from ", folder.path, " to ", target->path,
                      " (", header, ")");
}

// The fragment that a Markdown heading gets, as GitHub makes it.
std::string Slug(std::string_view heading) {
  std::string slug;
  for (const char c : heading) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || c == '-' || c == '_' || byte >= 0x80) {
      slug += static_cast<char>(std::tolower(byte));
    } else if (c == ' ') {
      slug += '-';
    }
  }
  return slug;
}

struct MarkdownLine {
  size_t index;
  std::string text;  // without inline code
};

// The lines outside fenced code.
std::vector<MarkdownLine> ProseLines(const std::string& text) {
  static const std::regex kInlineCode("`[^`]*`");
  std::vector<MarkdownLine> prose;
  bool fenced = false;
  const std::vector<std::string> lines = Lines(text);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (absl::StripLeadingAsciiWhitespace(lines[i]).substr(0, 3) == "```") {
      fenced = !fenced;
    } else if (!fenced) {
      prose.push_back({i, std::regex_replace(lines[i], kInlineCode, "``")});
    }
  }
  return prose;
}

Names Headings(const TextFile& page) {
  Names slugs;
  bool fenced = false;
  for (const std::string& line : Lines(page.text)) {
    if (line.starts_with("```")) fenced = !fenced;
    const size_t level = line.find_first_not_of('#');
    if (fenced || level == 0 || level > 6 || level == std::string::npos ||
        line[level] != ' ') {
      continue;
    }
    slugs.insert(Slug(line.substr(level + 1)));
  }
  return slugs;
}

// Targets of [text](target) outside code, with their lines.
std::vector<std::pair<size_t, std::string>> Links(const TextFile& page) {
  static const std::regex kLink(R"(\]\(([^)\s]+)(\s+"[^"]*")?\))");
  std::vector<std::pair<size_t, std::string>> links;
  for (const auto& [index, text] : ProseLines(page.text)) {
    for (std::sregex_iterator it(text.begin(), text.end(), kLink), end;
         it != end; ++it) {
      links.emplace_back(index, (*it)[1].str());
    }
  }
  return links;
}

std::string Resolve(const std::string& page, const std::string& target) {
  return (std::filesystem::path(page).parent_path() / target)
      .lexically_normal()
      .generic_string();
}

bool IsExternal(std::string_view target) {
  return target.find("://") != std::string_view::npos ||
         target.starts_with("mailto:");
}

}  // namespace

Violations CheckIncludes(const TextFile& file, const PathPredicate& exists) {
  static const std::regex kInclude(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"].*)");
  Violations violations;
  const Folder* folder = FolderOf(file.path);
  if (folder == nullptr || !IsCpp(file.path)) return violations;
  const std::vector<std::string> lines = Lines(file.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    std::smatch match;
    if (!std::regex_match(lines[i], match, kInclude)) continue;
    const auto problem = IncludeProblem(file, *folder, match[2].str(),
                                        match[1].str() == "\"", exists);
    if (problem.has_value()) violations.push_back(At(file, i, *problem));
  }
  return violations;
}

Violations CheckHeaderOpening(const TextFile& file) {
  if (!HasExtension(file.path, {".h", ".cuh"})) return {};
  if (!file.text.starts_with("//")) {
    return {At(file, 0, "begins without a comment that says what it holds")};
  }
  const std::vector<std::string> lines = Lines(file.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].starts_with("//") || lines[i].empty()) continue;
    if (lines[i] == "#pragma once") return {};
    return {At(file, i, "code before #pragma once")};
  }
  return {At(file, 0, "no #pragma once")};
}

Violations CheckLinks(
    const TextFile& page, const PathPredicate& exists,
    const std::function<const TextFile*(const std::string&)>& find) {
  Violations violations;
  for (const auto& [line, target] : Links(page)) {
    if (IsExternal(target)) continue;
    const size_t hash = target.find('#');
    const std::string file = target.substr(0, hash);
    const std::string path =
        file.empty() ? page.path : Resolve(page.path, file);
    if (path.starts_with("..") || !exists(path)) {
      violations.push_back(At(page, line, absl::StrCat("dead link ", target)));
      continue;
    }
    const TextFile* other = find(path);
    if (hash == std::string::npos || other == nullptr) continue;
    if (!Headings(*other).contains(target.substr(hash + 1))) {
      violations.push_back(
          At(page, line, absl::StrCat("no such heading: ", target)));
    }
  }
  return violations;
}

Violations CheckDocsIndex(const std::vector<TextFile>& files) {
  Names linked = {"docs/README.md"};
  for (const TextFile& file : files) {
    if (file.path != "docs/README.md") continue;
    for (const auto& [line, target] : Links(file)) {
      linked.insert(Resolve(file.path, target.substr(0, target.find('#'))));
    }
  }
  Violations violations;
  for (const TextFile& file : files) {
    if (IsUnder(file.path, "docs") && file.path.ends_with(".md") &&
        !IsUnder(file.path, "docs/changes") && !linked.contains(file.path)) {
      violations.push_back(At(file, 0, "not linked from docs/README.md"));
    }
  }
  return violations;
}

Violations CheckProtoComments(const TextFile& proto) {
  // A declaration, from the start of its line.
  static const std::regex kDeclaration(
      R"(^\s*((message|enum|service|rpc)\s+\w+.*|)"
      R"((repeated\s+|optional\s+)?[\w.]+(<[^>]*>)?\s+\w+\s*=\s*\d+.*|)"
      R"([A-Z][A-Z0-9_]*\s*=\s*\d+.*))");
  Violations violations;
  const std::vector<std::string> lines = Lines(proto.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (!std::regex_match(lines[i], kDeclaration)) continue;
    const bool above =
        i > 0 &&
        absl::StartsWith(absl::StripLeadingAsciiWhitespace(lines[i - 1]), "//");
    const bool behind = lines[i].find("//") != std::string::npos;
    if (above || behind) continue;
    violations.push_back(
        At(proto, i,
           absl::StrCat("no comment: ",
                        std::string(absl::StripAsciiWhitespace(lines[i])))));
  }
  return violations;
}

Violations CheckEnumZeros(const TextFile& proto) {
  static const std::regex kZero(R"(^\s*([A-Z][A-Z0-9_]*)\s*=\s*0\s*[;\[].*)");
  Violations violations;
  const std::vector<std::string> lines = Lines(proto.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    std::smatch match;
    if (!std::regex_match(lines[i], match, kZero)) continue;
    if (match[1].str().ends_with("_UNSPECIFIED")) continue;
    violations.push_back(At(
        proto, i, absl::StrCat(match[1].str(), " = 0 must be _UNSPECIFIED")));
  }
  return violations;
}

Violations CheckUnfinished(const TextFile& file) {
  // Split, so that this line does not find itself.
  static const std::regex kNote(
      "\\b(TO"
      "DO|FIX"
      "ME|X"
      "XX)\\b(?!\\(#[0-9]+\\))");
  Violations violations;
  if (file.path.ends_with(".md")) return violations;
  const std::vector<std::string> lines = Lines(file.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (std::regex_search(lines[i], kNote)) {
      violations.push_back(At(file, i, "unfinished work without an issue"));
    }
  }
  return violations;
}

Violations CheckShellScript(const TextFile& script) {
  if (!script.text.starts_with("#!/usr/bin/env bash\n")) {
    return {At(script, 0, "does not begin with #!/usr/bin/env bash")};
  }
  if (!absl::StrContains(script.text, "\nset -euo pipefail\n")) {
    return {At(script, 0, "no `set -euo pipefail`")};
  }
  return {};
}

Violations CheckSourcesAreBuilt(const std::vector<TextFile>& files,
                                std::string_view compile_commands,
                                std::string_view root) {
  Violations violations;
  // Without nvcc some of the files of GPUs have no target.
  const bool has_cuda =
      compile_commands.find(".cu\"") != std::string_view::npos;
  for (const TextFile& file : files) {
    if (!file.path.ends_with(".cc") || IsUnder(file.path, "bench") ||
        (!has_cuda && IsUnder(file.path, "src/distance/gpu")) ||
        absl::StrContains(file.path, "/fixtures/")) {
      continue;
    }
    const std::string entry =
        absl::StrCat("\"file\": \"", std::string(root), "/", file.path, "\"");
    if (compile_commands.find(entry) == std::string_view::npos) {
      violations.push_back(At(file, 0, "is in no target of the build"));
    }
  }
  return violations;
}

Violations CheckKernelSymbols(std::string_view object, std::string_view nm) {
  // "address class name"; undefined ones have no address.
  static const std::regex kDefined(R"(^[0-9a-f]+ ([A-Zuvw]) (\S+)$)");
  Violations violations;
  for (const std::string& line : Lines(std::string(nm))) {
    std::smatch match;
    if (!std::regex_match(line, match, kDefined)) continue;
    const std::string kind = match[1];
    const std::string name = match[2];
    const bool weak =
        kind == "W" || kind == "V" || kind == "u" || kind == "v" || kind == "w";
    if (!weak && name.ends_with("TableE")) continue;
    violations.push_back(absl::StrCat(
        std::string(object), ": ", weak ? "weak" : "global", " symbol ", name));
  }
  return violations;
}

Violations CheckErrorReasons(const TextFile& errors, const TextFile& page) {
  static const std::regex kReason("\"([A-Z][A-Z0-9_]{3,})\"");
  Violations violations;
  const std::vector<std::string> lines = Lines(errors.text);
  for (size_t i = 0; i < lines.size(); ++i) {
    for (std::sregex_iterator it(lines[i].begin(), lines[i].end(), kReason),
         end;
         it != end; ++it) {
      const std::string reason = (*it)[1];
      if (absl::StrContains(page.text, absl::StrCat("`", reason, "`"))) {
        continue;
      }
      violations.push_back(
          At(errors, i, absl::StrCat(reason, " is not in ", page.path)));
    }
  }
  return violations;
}

}  // namespace vicinal::architecture
