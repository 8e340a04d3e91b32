// A file of named, checksummed sections: the container of every file that
// Vicinal writes beside RocksDB.
//
// Layout, little-endian:
//   0   8  magic "VICINAL\0"
//   8   4  kind: four characters, e.g. "SEGM"
//   12  4  format version of that kind
//   16  8  file size in bytes
//   24  4  number of sections
//   28  4  CRC32C of the section table
//   32  4  CRC32C of bytes 0..31
//   36  28 zero
//   64     section table, 32 bytes per section:
//          8 name (padded with zeros), 8 offset, 8 size, 4 CRC32C, 4 zero
//   then the sections in the order of the table, each at a multiple of 4096
//   bytes; the bytes between them are zero, and the file ends with the last.
//
// Every byte of a file is covered: by a checksum, by the zero rule or by the
// size, so that any flipped bit and any cut is found by Verify::kAll.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vicinal {

// Tests only: asked before each file operation ("open", "write", "sync",
// "rename", "sync folder"); returns 0 or the errno with which it shall fail.
using FileFaultHook =
    std::function<int(absl::string_view operation, absl::string_view path)>;

// Writes a section file. Life: Create, then for each section BeginSection and
// any number of Append, then Finish, which makes it durable (fsync of the file,
// rename from PATH.tmp, fsync of the folder). Destroyed before Finish, or when
// that failed: the temporary file is removed. Not thread-safe.
class SectionFileWriter {
 public:
  // kind: exactly 4 characters. max_sections bounds the table. An old file at
  // `path` stays until Finish replaces it. Errors: see Finish.
  static absl::StatusOr<std::unique_ptr<SectionFileWriter>> Create(
      std::string path, absl::string_view kind, uint32_t version,
      size_t max_sections, FileFaultHook fault_hook = {});
  ~SectionFileWriter();
  SectionFileWriter(const SectionFileWriter&) = delete;
  SectionFileWriter& operator=(const SectionFileWriter&) = delete;

  // name: 1..8 characters, not used before.
  absl::Status BeginSection(absl::string_view name);
  absl::Status Append(absl::string_view bytes);
  // ResourceExhausted: the disk is full. PermissionDenied, NotFound (no such
  // folder). Internal: any other I/O error. The first error stays: later calls
  // return it again and Finish publishes nothing.
  absl::Status Finish();

 private:
  struct Section {
    std::string name;
    uint64_t offset = 0;
    uint64_t size = 0;
    uint32_t crc = 0;
  };
  SectionFileWriter(std::string path, std::string kind, uint32_t version,
                    size_t max_sections, int fd, FileFaultHook fault_hook);
  std::string TemporaryPath() const { return path_ + ".tmp"; }
  absl::Status WriteAt(uint64_t offset, absl::string_view bytes);
  absl::Status FlushBuffer();
  absl::Status WriteHeader(uint64_t file_size);
  absl::Status SyncAndPublish(uint64_t file_size);
  int Fault(absl::string_view operation, absl::string_view path) const;

  std::string path_;
  std::string kind_;
  uint32_t version_;
  size_t max_sections_;
  int fd_;
  uint64_t offset_ = 0;  // where the next byte of the buffer goes
  std::string buffer_;
  std::vector<Section> sections_;
  FileFaultHook fault_hook_;
  absl::Status failure_;  // the first error, kept
  bool finished_ = false;
};

// A section file mapped read-only. Const and thread-safe after Open. Files are
// only ever replaced by rename: cutting one that is mapped kills the process.
class SectionFile {
 public:
  enum class Verify {
    kAll,      // read every byte and compare every checksum
    kHeaders,  // header and table only; sections are checked by VerifyAll
  };
  // NotFound: no such file. DataLoss: not such a file, truncated, or a
  // checksum differs; says which section. FailedPrecondition: newer version.
  // PermissionDenied, Internal: it cannot be read.
  static absl::StatusOr<std::unique_ptr<SectionFile>> Open(
      const std::string& path, absl::string_view kind, uint32_t max_version,
      Verify verify);
  ~SectionFile();
  SectionFile(const SectionFile&) = delete;
  SectionFile& operator=(const SectionFile&) = delete;

  uint32_t version() const { return version_; }
  size_t size_bytes() const { return size_; }
  const std::string& path() const { return path_; }
  // The bytes of a section, page-aligned. DataLoss: there is none.
  absl::StatusOr<absl::string_view> Section(absl::string_view name) const;
  // All of the file as it is mapped.
  absl::string_view mapped() const { return {data_, size_}; }
  // Tells the system that the mapped pages are not needed soon; they are read
  // again from the file when touched.
  void DropPages() const;
  // Compares the checksum of every section; DataLoss names the first bad one.
  absl::Status VerifyAll() const;

 private:
  struct Entry {
    std::string name;
    uint64_t offset = 0;
    uint64_t size = 0;
    uint32_t crc = 0;
  };
  SectionFile() = default;
  absl::Status ParseHeader(absl::string_view kind, uint32_t max_version);
  absl::Status ParseTable(uint32_t num_sections);
  absl::Status Damaged(absl::string_view what) const;

  std::string path_;
  const char* data_ = nullptr;
  size_t size_ = 0;
  uint32_t version_ = 0;
  std::vector<Entry> entries_;
};

// fsync of a folder, so that created and renamed entries in it survive.
absl::Status SyncDirectory(const std::string& path);

}  // namespace vicinal
