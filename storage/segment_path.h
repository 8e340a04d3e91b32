// Where segment files are: <data>/collections/<collection>/<segment>.seg, both
// numbers in decimal. A file that no manifest names is an orphan of a crash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "storage/collection_store.h"

namespace vicinal {

std::string CollectionFolder(absl::string_view data_folder,
                             CollectionNumber collection);
std::string SegmentPath(absl::string_view data_folder,
                        CollectionNumber collection, uint64_t segment);

// Creates the folders durably; OK when some are there.
absl::Status CreateCollectionFolders(
    absl::string_view data_folder,
    std::span<const CollectionNumber> collections);
// The collections that have a folder, and the segments that have a file.
// Ascending; empty when there is no folder. Other names are passed over.
absl::StatusOr<std::vector<CollectionNumber>> ListCollectionFolders(
    absl::string_view data_folder);
absl::StatusOr<std::vector<uint64_t>> ListSegmentFiles(
    absl::string_view data_folder, CollectionNumber collection);

// Removes the segment files not in `live` and half-written ones (*.tmp), and
// returns how many. Not while a segment of the collection is being written.
absl::StatusOr<size_t> DeleteOrphanSegmentFiles(
    absl::string_view data_folder, CollectionNumber collection,
    const std::vector<SegmentEntry>& live);
// Removes the folder and everything in it; OK when there is none.
absl::Status DeleteCollectionFolder(absl::string_view data_folder,
                                    CollectionNumber collection);

}  // namespace vicinal
