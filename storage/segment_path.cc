#include "storage/segment_path.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "src/base/io_error.h"
#include "src/base/section_file.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kSegmentSuffix = ".seg";
constexpr absl::string_view kTemporarySuffix = ".seg.tmp";

std::string CollectionsFolder(absl::string_view data_folder) {
  return absl::StrCat(data_folder, "/collections");
}

// True for the one spelling that StrCat gives the number.
template <typename Number>
bool ParseNumber(absl::string_view text, Number* number) {
  return absl::SimpleAtoi(text, number) && absl::StrCat(*number) == text;
}

// The names in a folder; none when it does not exist.
absl::StatusOr<std::vector<std::string>> ListFolder(const std::string& path) {
  std::error_code error;
  std::vector<std::string> names;
  fs::directory_iterator it(path, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  for (const fs::directory_iterator end; !error && it != end;
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return IoError(error.value(), "list folder", path);
  return names;
}

absl::Status CreateFolder(const std::string& path) {
  std::error_code error;
  fs::create_directory(path, error);
  return error ? IoError(error.value(), "create folder", path)
               : absl::OkStatus();
}

}  // namespace

std::string CollectionFolder(absl::string_view data_folder,
                             CollectionNumber collection) {
  return absl::StrCat(CollectionsFolder(data_folder), "/", collection);
}

std::string SegmentPath(absl::string_view data_folder,
                        CollectionNumber collection, uint64_t segment) {
  return absl::StrCat(CollectionFolder(data_folder, collection), "/", segment,
                      kSegmentSuffix);
}

absl::Status CreateCollectionFolders(
    absl::string_view data_folder,
    std::span<const CollectionNumber> collections) {
  const std::string parent = CollectionsFolder(data_folder);
  VICINAL_RETURN_IF_ERROR(CreateFolder(parent));
  for (const CollectionNumber collection : collections) {
    VICINAL_RETURN_IF_ERROR(
        CreateFolder(CollectionFolder(data_folder, collection)));
  }
  // Also when all were there: a crash may have come before the sync.
  VICINAL_RETURN_IF_ERROR(SyncDirectory(std::string(data_folder)));
  return SyncDirectory(parent);
}

absl::StatusOr<std::vector<CollectionNumber>> ListCollectionFolders(
    absl::string_view data_folder) {
  VICINAL_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                           ListFolder(CollectionsFolder(data_folder)));
  std::vector<CollectionNumber> collections;
  for (const std::string& name : names) {
    CollectionNumber number = 0;
    if (ParseNumber(name, &number)) collections.push_back(number);
  }
  std::sort(collections.begin(), collections.end());
  return collections;
}

absl::StatusOr<std::vector<uint64_t>> ListSegmentFiles(
    absl::string_view data_folder, CollectionNumber collection) {
  VICINAL_ASSIGN_OR_RETURN(
      const std::vector<std::string> names,
      ListFolder(CollectionFolder(data_folder, collection)));
  std::vector<uint64_t> segments;
  for (absl::string_view name : names) {
    uint64_t number = 0;
    if (absl::ConsumeSuffix(&name, kSegmentSuffix) &&
        ParseNumber(name, &number)) {
      segments.push_back(number);
    }
  }
  std::sort(segments.begin(), segments.end());
  return segments;
}

absl::StatusOr<size_t> DeleteOrphanSegmentFiles(
    absl::string_view data_folder, CollectionNumber collection,
    const std::vector<SegmentEntry>& live) {
  const std::string folder = CollectionFolder(data_folder, collection);
  VICINAL_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                           ListFolder(folder));
  size_t num_deleted = 0;
  for (const std::string& name : names) {
    uint64_t number = 0;
    const absl::string_view stem = absl::StripSuffix(name, kSegmentSuffix);
    const bool segment =
        stem.size() < name.size() && ParseNumber(stem, &number);
    const bool dead =
        segment && std::none_of(live.begin(), live.end(), [&](const auto& s) {
          return s.number == number;
        });
    if (!dead && !absl::EndsWith(name, kTemporarySuffix)) continue;
    const std::string path = absl::StrCat(folder, "/", name);
    std::error_code error;
    fs::remove(path, error);
    if (error) return IoError(error.value(), "delete", path);
    ++num_deleted;
  }
  return num_deleted;
}

absl::Status DeleteCollectionFolder(absl::string_view data_folder,
                                    CollectionNumber collection) {
  const std::string folder = CollectionFolder(data_folder, collection);
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) return IoError(error.value(), "delete folder", folder);
  return absl::OkStatus();
}

}  // namespace vicinal
