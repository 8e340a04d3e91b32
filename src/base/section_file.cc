#include "src/base/section_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/check.h"
#include "src/base/coding.h"
#include "src/base/crc32c.h"
#include "src/base/io_error.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

constexpr char kMagicBytes[] = "VICINAL";  // 8 with its NUL
const absl::string_view kMagic(kMagicBytes, sizeof(kMagicBytes));
constexpr size_t kHeaderSize = 64;
constexpr size_t kEntrySize = 32;
constexpr size_t kNameSize = 8;
constexpr uint64_t kAlignment = 4096;
constexpr size_t kBufferSize = size_t{1} << 20;

constexpr size_t kKindAt = 8;
constexpr size_t kVersionAt = 12;
constexpr size_t kFileSizeAt = 16;
constexpr size_t kNumSectionsAt = 24;
constexpr size_t kTableCrcAt = 28;
constexpr size_t kHeaderCrcAt = 32;

uint64_t AlignUp(uint64_t offset) {
  return (offset + kAlignment - 1) & ~(kAlignment - 1);
}

bool AllZero(absl::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](char c) { return c == '\0'; });
}

std::string ParentFolder(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Closes a descriptor at the end of a scope.
struct FdCloser {
  int fd;
  ~FdCloser() { close(fd); }
};

}  // namespace

absl::Status SyncDirectory(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return IoError(errno, "open folder", path);
  const FdCloser closer{fd};
  if (fsync(fd) != 0) return IoError(errno, "sync folder", path);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SectionFileWriter>> SectionFileWriter::Create(
    std::string path, absl::string_view kind, uint32_t version,
    size_t max_sections, FileFaultHook fault_hook) {
  VICINAL_CHECK_EQ(kind.size(), size_t{4});
  const std::string temporary = path + ".tmp";
  const int fault = fault_hook ? fault_hook("open", temporary) : 0;
  const int fd = fault != 0
                     ? -1
                     : open(temporary.c_str(),
                            O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return IoError(fault != 0 ? fault : errno, "create", temporary);
  return std::unique_ptr<SectionFileWriter>(
      new SectionFileWriter(std::move(path), std::string(kind), version,
                            max_sections, fd, std::move(fault_hook)));
}

SectionFileWriter::SectionFileWriter(std::string path, std::string kind,
                                     uint32_t version, size_t max_sections,
                                     int fd, FileFaultHook fault_hook)
    : path_(std::move(path)),
      kind_(std::move(kind)),
      version_(version),
      max_sections_(max_sections),
      fd_(fd),
      offset_(kHeaderSize + max_sections * kEntrySize),
      fault_hook_(std::move(fault_hook)) {}

SectionFileWriter::~SectionFileWriter() {
  if (fd_ >= 0) close(fd_);
  if (!finished_) unlink(TemporaryPath().c_str());
}

int SectionFileWriter::Fault(absl::string_view operation,
                             absl::string_view path) const {
  return fault_hook_ ? fault_hook_(operation, path) : 0;
}

absl::Status SectionFileWriter::BeginSection(absl::string_view name) {
  VICINAL_CHECK(!finished_);
  VICINAL_CHECK(!name.empty() && name.size() <= kNameSize &&
                name.find('\0') == absl::string_view::npos);
  VICINAL_CHECK_LT(sections_.size(), max_sections_);
  for (const Section& section : sections_) {
    VICINAL_CHECK(section.name != name);
  }
  VICINAL_RETURN_IF_ERROR(FlushBuffer());
  offset_ = AlignUp(offset_);
  sections_.push_back({.name = std::string(name), .offset = offset_});
  return absl::OkStatus();
}

absl::Status SectionFileWriter::Append(absl::string_view bytes) {
  VICINAL_CHECK(!finished_ && !sections_.empty());
  VICINAL_RETURN_IF_ERROR(failure_);
  Section& section = sections_.back();
  section.crc = ExtendCrc32c(section.crc, bytes);
  section.size += bytes.size();
  if (buffer_.size() + bytes.size() > kBufferSize) {
    VICINAL_RETURN_IF_ERROR(FlushBuffer());
  }
  if (bytes.size() > kBufferSize) {  // large pieces need no second copy
    VICINAL_RETURN_IF_ERROR(WriteAt(offset_, bytes));
    offset_ += bytes.size();
    return absl::OkStatus();
  }
  buffer_.append(bytes.data(), bytes.size());
  return absl::OkStatus();
}

absl::Status SectionFileWriter::Finish() {
  VICINAL_CHECK(!finished_);
  VICINAL_RETURN_IF_ERROR(FlushBuffer());
  const uint64_t file_size = offset_;
  VICINAL_RETURN_IF_ERROR(WriteHeader(file_size));
  failure_ = SyncAndPublish(file_size);
  return failure_;
}

absl::Status SectionFileWriter::WriteHeader(uint64_t file_size) {
  std::string table;
  for (const Section& section : sections_) {
    std::string name = section.name;
    name.resize(kNameSize, '\0');
    table += name;
    PutFixed<uint64_t>(&table, section.offset);
    PutFixed<uint64_t>(&table, section.size);
    PutFixed<uint32_t>(&table, section.crc);
    PutFixed<uint32_t>(&table, 0);
  }
  std::string header(kMagic);
  header += kind_;
  PutFixed<uint32_t>(&header, version_);
  PutFixed<uint64_t>(&header, file_size);
  PutFixed<uint32_t>(&header, static_cast<uint32_t>(sections_.size()));
  PutFixed<uint32_t>(&header, Crc32c(table));
  PutFixed<uint32_t>(&header, Crc32c(header));
  header.resize(kHeaderSize, '\0');
  return WriteAt(0, header + table);
}

absl::Status SectionFileWriter::SyncAndPublish(uint64_t file_size) {
  const std::string temporary = TemporaryPath();
  const auto run = [&](absl::string_view operation, auto&& call) {
    const int fault = Fault(operation, temporary);
    if (fault == 0 && call() == 0) return absl::OkStatus();
    return IoError(fault != 0 ? fault : errno, operation, temporary);
  };
  // Empty last sections and unused table entries wrote nothing.
  VICINAL_RETURN_IF_ERROR(run(
      "write", [&] { return ftruncate(fd_, static_cast<off_t>(file_size)); }));
  VICINAL_RETURN_IF_ERROR(run("sync", [&] { return fsync(fd_); }));
  VICINAL_RETURN_IF_ERROR(
      run("sync", [&] { return close(std::exchange(fd_, -1)); }));
  VICINAL_RETURN_IF_ERROR(run(
      "rename", [&] { return std::rename(temporary.c_str(), path_.c_str()); }));
  finished_ = true;
  const std::string folder = ParentFolder(path_);
  if (const int fault = Fault("sync folder", folder); fault != 0) {
    return IoError(fault, "sync folder", folder);
  }
  return SyncDirectory(folder);
}

absl::Status SectionFileWriter::FlushBuffer() {
  VICINAL_RETURN_IF_ERROR(failure_);
  VICINAL_RETURN_IF_ERROR(WriteAt(offset_, buffer_));
  offset_ += buffer_.size();
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status SectionFileWriter::WriteAt(uint64_t offset,
                                        absl::string_view bytes) {
  while (!bytes.empty()) {
    const int fault = Fault("write", TemporaryPath());
    const ssize_t written = fault != 0 ? -1
                                       : pwrite(fd_, bytes.data(), bytes.size(),
                                                static_cast<off_t>(offset));
    if (written < 0) {
      const int error = fault != 0 ? fault : errno;
      if (error == EINTR) continue;
      failure_ = IoError(error, "write", TemporaryPath());
      return failure_;
    }
    offset += static_cast<uint64_t>(written);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SectionFile>> SectionFile::Open(
    const std::string& path, absl::string_view kind, uint32_t max_version,
    Verify verify) {
  VICINAL_CHECK_EQ(kind.size(), size_t{4});
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return IoError(errno, "open", path);
  const FdCloser closer{fd};
  struct stat info = {};
  if (fstat(fd, &info) != 0) return IoError(errno, "read the size of", path);
  std::unique_ptr<SectionFile> file(new SectionFile());
  file->path_ = path;
  if (!S_ISREG(info.st_mode)) return file->Damaged("it is not a regular file");
  file->size_ = static_cast<size_t>(info.st_size);
  if (file->size_ < kHeaderSize) {
    return file->Damaged(absl::StrCat("it has ", file->size_,
                                      " bytes, fewer than the header's ",
                                      kHeaderSize));
  }
  void* mapped =
      mmap(nullptr, file->size_, PROT_READ, MAP_SHARED, fd, /*offset=*/0);
  if (mapped == MAP_FAILED) return IoError(errno, "map", path);
  file->data_ = static_cast<const char*>(mapped);
  VICINAL_RETURN_IF_ERROR(file->ParseHeader(kind, max_version));
  if (verify == Verify::kAll) VICINAL_RETURN_IF_ERROR(file->VerifyAll());
  return file;
}

SectionFile::~SectionFile() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
}

absl::Status SectionFile::Damaged(absl::string_view what) const {
  return absl::DataLossError(
      absl::StrCat("The file ", path_, " is damaged: ", what,
                   "; delete it to have it rebuilt, or restore it."));
}

absl::Status SectionFile::ParseHeader(absl::string_view kind,
                                      uint32_t max_version) {
  const absl::string_view header(data_, kHeaderSize);
  if (header.substr(0, kMagic.size()) != kMagic) {
    return Damaged("it does not begin as a Vicinal file does");
  }
  if (GetFixed<uint32_t>(data_ + kHeaderCrcAt) !=
      Crc32c(header.substr(0, kHeaderCrcAt))) {
    return Damaged("the checksum of its header differs");
  }
  if (!AllZero(header.substr(kHeaderCrcAt + 4))) {
    return Damaged("the unused bytes of its header are not zero");
  }
  if (header.substr(kKindAt, 4) != kind) {
    return Damaged(absl::StrCat("its kind is \"",
                                absl::CHexEscape(header.substr(kKindAt, 4)),
                                "\" where \"", kind, "\" belongs"));
  }
  version_ = GetFixed<uint32_t>(data_ + kVersionAt);
  if (version_ > max_version) {
    return absl::FailedPreconditionError(
        absl::StrCat("The file ", path_, " has format version ", version_,
                     " and this program reads up to ", max_version,
                     "; use the program that wrote it or a newer one."));
  }
  const auto recorded_size = GetFixed<uint64_t>(data_ + kFileSizeAt);
  if (recorded_size != size_) {
    return Damaged(absl::StrCat("it has ", size_,
                                " bytes and was written with ", recorded_size));
  }
  return ParseTable(GetFixed<uint32_t>(data_ + kNumSectionsAt));
}

absl::Status SectionFile::ParseTable(uint32_t num_sections) {
  if (num_sections > (size_ - kHeaderSize) / kEntrySize) {
    return Damaged(
        absl::StrCat("its table of ", num_sections, " sections does not fit"));
  }
  const absl::string_view table(data_ + kHeaderSize, num_sections * kEntrySize);
  if (GetFixed<uint32_t>(data_ + kTableCrcAt) != Crc32c(table)) {
    return Damaged("the checksum of its table of sections differs");
  }
  uint64_t end = kHeaderSize + table.size();
  for (uint32_t i = 0; i < num_sections; ++i) {
    const char* bytes = table.data() + i * kEntrySize;
    const absl::string_view padded(bytes, kNameSize);
    Entry entry;
    entry.name = std::string(padded.substr(0, padded.find('\0')));
    entry.offset = GetFixed<uint64_t>(bytes + 8);
    entry.size = GetFixed<uint64_t>(bytes + 16);
    entry.crc = GetFixed<uint32_t>(bytes + 24);
    const bool bad_name =
        entry.name.empty() || !AllZero(padded.substr(entry.name.size())) ||
        std::any_of(entries_.begin(), entries_.end(), [&](const Entry& other) {
          return other.name == entry.name;
        });
    // In order, hence without overlap; written so that nothing can overflow.
    if (bad_name || entry.offset % kAlignment != 0 || entry.offset < end ||
        entry.offset > size_ || entry.size > size_ - entry.offset ||
        GetFixed<uint32_t>(bytes + 28) != 0) {
      return Damaged(absl::StrCat("entry ", i, " of its table of sections (\"",
                                  absl::CHexEscape(entry.name), "\", offset ",
                                  entry.offset, ", size ", entry.size,
                                  ") is impossible"));
    }
    end = entry.offset + entry.size;
    entries_.push_back(std::move(entry));
  }
  if (num_sections > 0 && end != size_) {
    return Damaged(
        absl::StrCat("its sections end at byte ", end, " of ", size_));
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::string_view> SectionFile::Section(
    absl::string_view name) const {
  for (const Entry& entry : entries_) {
    if (entry.name == name) {
      return absl::string_view(data_ + entry.offset, entry.size);
    }
  }
  return Damaged(absl::StrCat("it has no section \"", name, "\""));
}

void SectionFile::DropPages() const {
  ::madvise(const_cast<char*>(data_), size_, MADV_DONTNEED);
}

absl::Status SectionFile::VerifyAll() const {
  uint64_t end = kHeaderSize + entries_.size() * kEntrySize;
  for (const Entry& entry : entries_) {
    if (!AllZero(absl::string_view(data_ + end, entry.offset - end))) {
      return Damaged(absl::StrCat("the padding before section \"", entry.name,
                                  "\" is not zero"));
    }
    if (Crc32c(absl::string_view(data_ + entry.offset, entry.size)) !=
        entry.crc) {
      return Damaged(
          absl::StrCat("the checksum of section \"", entry.name, "\" differs"));
    }
    end = entry.offset + entry.size;
  }
  if (!AllZero(absl::string_view(data_ + end, size_ - end))) {
    return Damaged("the unused bytes of its table are not zero");
  }
  return absl::OkStatus();
}

}  // namespace vicinal
