// RocksDB 7.8 in the mode kTolerateCorruptedTailRecords, as tests show:
//  - a record that ends behind the file's end, or claims to: it and all behind
//    it are left out, in silence;
//  - a header of zeros: the rest of its block (32 KiB) is skipped, in silence;
//  - a checksum that differs: open fails, be it the last record or not.
// So a power cut during a write of several pages can leave a folder that does
// not open, and a flipped bit or a zeroed sector can drop synced batches. Its
// log format (LevelDB's) is simple and fixed; this file reads it first.
#include "storage/log_tail.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/coding.h"
#include "src/base/crc32c.h"
#include "src/base/io_error.h"
#include "src/base/section_file.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

// A log is a row of blocks. A record is one fragment (kFull) or several, none
// across the end of a block; fewer bytes than a header at the end of a block
// are zero. A fragment: masked CRC32C of type and payload (u32), size of the
// payload (u16), type (u8), payload.
constexpr size_t kBlockBytes = size_t{32} << 10;
constexpr size_t kHeaderBytes = 7;
constexpr uint8_t kFull = 1;
constexpr uint8_t kFirst = 2;
constexpr uint8_t kLast = 4;
// A record's payload is a write batch: sequence number of its first operation
// (u64), number of operations (u32), operations.
constexpr size_t kBatchHeaderBytes = 12;
// The note is the batch's last operation: a tag, a size and the note. Its last
// byte is no zero, so that a zero at the end of a record is a missing sector.
constexpr uint8_t kLogDataTag = 3;
constexpr char kNoteMagic[] = "VSYN";
constexpr size_t kNoteBytes = sizeof(uint64_t) + sizeof(kNoteMagic) - 1;
// What a disk writes as a whole.
constexpr size_t kSectorBytes = 512;

uint32_t Mask(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xA282EAD8; }

// Whether a fragment of this type begins at `at` and ends at `end`.
bool IsFragment(absl::string_view log, size_t at, size_t end, uint8_t type) {
  const char byte = static_cast<char>(type);
  const uint32_t crc =
      ExtendCrc32c(Crc32c({&byte, 1}),
                   log.substr(at + kHeaderBytes, end - at - kHeaderBytes));
  return GetFixed<uint32_t>(log.data() + at) == Mask(crc);
}

struct Header {
  uint8_t type;
  size_t end;  // of the fragment
};

size_t BlockEnd(size_t at) {
  return at / kBlockBytes * kBlockBytes + kBlockBytes;
}

// nullopt: no fragment can begin like this. It may end behind the log.
std::optional<Header> HeaderAt(absl::string_view log, size_t at) {
  if (log.size() - at < kHeaderBytes) return std::nullopt;
  const Header header{
      static_cast<uint8_t>(log[at + 6]),
      at + kHeaderBytes + GetFixed<uint16_t>(log.data() + at + 4)};
  if (header.type < kFull || header.type > kLast || header.end > BlockEnd(at)) {
    return std::nullopt;
  }
  return header;
}

struct Record {
  size_t begin;  // of its first fragment
  uint64_t first_sequence;
  uint64_t next_sequence;
  std::optional<uint64_t> synced_through;
};

// The records of a log in order. Not only those before the first damage: a
// record behind it is found wherever it begins.
class LogReader {
 public:
  explicit LogReader(absl::string_view log) : log_(log) {}

  std::optional<Record> Next() {
    while (SkipTrailer()) {
      const std::optional<Header> header = HeaderAt(log_, at_);
      if (!header.has_value() || header->end > log_.size() ||
          !IsFragment(log_, at_, header->end, header->type)) {
        NoteDamage(begin_.value_or(at_), at_);
        begin_.reset();
        ++at_;
        continue;
      }
      const size_t at = std::exchange(at_, header->end);
      const bool starts = header->type == kFull || header->type == kFirst;
      if (starts == begin_.has_value()) {
        NoteDamage(begin_.value_or(at), at);
        if (!starts) continue;  // of a record whose start is lost
      }
      if (starts) {
        begin_ = at;
        batch_.clear();
      }
      batch_.append(log_.data() + at + kHeaderBytes,
                    header->end - at - kHeaderBytes);
      if (header->type != kFull && header->type != kLast) continue;
      const size_t begin = *std::exchange(begin_, std::nullopt);
      if (batch_.size() >= kBatchHeaderBytes) return ParseBatch(begin);
      NoteDamage(begin, at);
    }
    if (begin_.has_value()) NoteDamage(*begin_, log_.size());
    begin_.reset();
    return std::nullopt;
  }

  // Where the first damaged record begins, and the damage in it.
  std::optional<size_t> damaged_record() const { return damaged_record_; }
  size_t damage() const { return damage_; }

 private:
  // False: there is nothing more.
  bool SkipTrailer() {
    if (BlockEnd(at_) - at_ < kHeaderBytes) at_ = BlockEnd(at_);
    return at_ < log_.size();
  }
  void NoteDamage(size_t record, size_t damage) {
    if (damaged_record_.has_value()) return;
    damaged_record_ = record;
    damage_ = damage;
  }
  Record ParseBatch(size_t begin) const {
    Record record{.begin = begin,
                  .first_sequence = GetFixed<uint64_t>(batch_.data())};
    record.next_sequence =
        record.first_sequence + GetFixed<uint32_t>(batch_.data() + 8);
    const absl::string_view batch = batch_;
    if (batch.size() < kBatchHeaderBytes + 2 + kNoteBytes) return record;
    const absl::string_view end = batch.substr(batch.size() - 2 - kNoteBytes);
    if (end[0] == kLogDataTag && end[1] == kNoteBytes &&
        end.substr(2 + sizeof(uint64_t)) == kNoteMagic) {
      record.synced_through = GetFixed<uint64_t>(end.data() + 2);
    }
    return record;
  }

  const absl::string_view log_;
  size_t at_ = 0;
  std::optional<size_t> begin_;  // of the record whose fragments are gathered
  std::string batch_;
  std::optional<size_t> damaged_record_;
  size_t damage_ = 0;
};

class MappedLog {
 public:
  static absl::StatusOr<std::unique_ptr<MappedLog>> Open(std::string path) {
    std::unique_ptr<MappedLog> log(new MappedLog(std::move(path)));
    log->fd_ = open(log->path_.c_str(), O_RDWR | O_CLOEXEC);
    struct stat info = {};
    if (log->fd_ < 0 || fstat(log->fd_, &info) != 0) {
      return IoError(errno, "open", log->path_);
    }
    log->size_ = static_cast<size_t>(info.st_size);
    if (log->size_ == 0) return log;
    void* mapped =
        mmap(nullptr, log->size_, PROT_READ, MAP_SHARED, log->fd_, 0);
    if (mapped == MAP_FAILED) return IoError(errno, "map", log->path_);
    log->data_ = static_cast<const char*>(mapped);
    return log;
  }
  ~MappedLog() {
    if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
    if (fd_ >= 0) close(fd_);
  }
  MappedLog(const MappedLog&) = delete;
  MappedLog& operator=(const MappedLog&) = delete;

  const std::string& path() const { return path_; }
  absl::string_view bytes() const { return {data_, size_}; }

  // The log ends at `size` from now on, durably; what was behind it is in
  // PATH.torn. bytes() must not be used any more.
  absl::Status Cut(size_t size) {
    const std::string torn = path_ + ".torn";
    const int copy =
        open(torn.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (copy < 0) return IoError(errno, "create", torn);
    absl::Status status;
    for (size_t at = size; status.ok() && at < size_;) {
      const ssize_t written = write(copy, data_ + at, size_ - at);
      if (written < 0) status = IoError(errno, "write", torn);
      at += static_cast<size_t>(std::max<ssize_t>(written, 0));
    }
    if (status.ok() && fsync(copy) != 0) status = IoError(errno, "sync", torn);
    close(copy);
    VICINAL_RETURN_IF_ERROR(status);
    VICINAL_RETURN_IF_ERROR(
        SyncDirectory(std::filesystem::path(path_).parent_path().string()));
    if (ftruncate(fd_, static_cast<off_t>(size)) != 0 || fsync(fd_) != 0) {
      return IoError(errno, "cut", path_);
    }
    return absl::OkStatus();
  }

 private:
  explicit MappedLog(std::string path) : path_(std::move(path)) {}

  const std::string path_;
  int fd_ = -1;
  const char* data_ = nullptr;
  size_t size_ = 0;
};

// The log files of a folder, oldest first.
absl::StatusOr<std::vector<std::unique_ptr<MappedLog>>> OpenLogs(
    const std::string& folder) {
  std::vector<std::string> paths;  // six digits or more: longer ones are newer
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(folder, error)) {
    if (file.path().extension() == ".log") paths.push_back(file.path());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    return IoError(error.value(), "list", folder);
  }
  std::sort(paths.begin(), paths.end(), [](const auto& a, const auto& b) {
    return std::pair(a.size(), a) < std::pair(b.size(), b);
  });
  std::vector<std::unique_ptr<MappedLog>> logs;
  for (std::string& path : paths) {
    VICINAL_ASSIGN_OR_RETURN(auto log, MappedLog::Open(std::move(path)));
    logs.push_back(std::move(log));
  }
  return logs;
}

struct Damage {
  size_t log = 0;             // index
  size_t record = 0;          // where the damaged record begins
  size_t place = 0;           // where in it the damage is
  size_t end = 0;             // where the next whole record of that log begins
  bool was_synced = false;    // a later record says so
  bool is_last_write = true;  // no whole record is behind it
  bool is_first = false;      // none is before it
};

std::optional<Damage> FindDamage(
    const std::vector<std::unique_ptr<MappedLog>>& logs) {
  std::optional<Damage> damage;
  std::optional<uint64_t> next_sequence;  // of the damaged record
  for (size_t l = 0; l < logs.size(); ++l) {
    LogReader reader(logs[l]->bytes());
    while (true) {
      const std::optional<Record> record = reader.Next();
      if (!damage.has_value() && reader.damaged_record().has_value()) {
        damage = Damage{.log = l,
                        .record = *reader.damaged_record(),
                        .place = reader.damage(),
                        .end = record ? record->begin : logs[l]->bytes().size(),
                        .is_first = !next_sequence.has_value()};
      }
      if (!record.has_value()) break;
      if (!damage.has_value()) {
        next_sequence = record->next_sequence;
        continue;
      }
      damage->is_last_write = false;
      damage->was_synced |= !next_sequence || !record->synced_through ||
                            *record->synced_through >= *next_sequence;
    }
  }
  return damage;
}

// Whether a sector, or the part of one that the range has, is all zeros: it
// was never written.
bool HasHole(absl::string_view log, size_t begin, size_t end) {
  while (begin < end) {
    const size_t sector_end =
        std::min(end, (begin / kSectorBytes + 1) * kSectorBytes);
    if (std::all_of(log.begin() + begin, log.begin() + sector_end,
                    [](char c) { return c == 0; })) {
      return true;
    }
    begin = sector_end;
  }
  return false;
}

enum class Look { kCutShort, kTorn, kFlipped };

Look LookOf(absl::string_view log, const Damage& damage) {
  const size_t at = damage.place;
  if (log.size() - at < kHeaderBytes) return Look::kCutShort;
  // One flipped bit in type or size: with the right ones its checksum holds.
  const size_t end = std::min(damage.end, BlockEnd(at));
  for (uint8_t type = kFull; type <= kLast; ++type) {
    if (end - at >= kHeaderBytes && IsFragment(log, at, end, type)) {
      return Look::kFlipped;
    }
  }
  if (HasHole(log, at, damage.end)) return Look::kTorn;
  const std::optional<Header> header = HeaderAt(log, at);
  if (!header.has_value()) return Look::kTorn;
  return header->end > log.size() ? Look::kCutShort : Look::kFlipped;
}

}  // namespace

std::string SyncNote(uint64_t synced_through) {
  std::string note;
  PutFixed<uint64_t>(&note, synced_through);
  note += kNoteMagic;
  return note;
}

absl::Status MendLogTail(
    const std::string& rocksdb_folder,
    const std::function<void(absl::string_view message)>& warn) {
  VICINAL_ASSIGN_OR_RETURN(const auto logs, OpenLogs(rocksdb_folder));
  const std::optional<Damage> damage = FindDamage(logs);
  if (!damage.has_value()) return absl::OkStatus();
  MappedLog& log = *logs[damage->log];
  const Look look = LookOf(log.bytes(), *damage);
  const std::string place =
      absl::StrCat("The log ", log.path(), " is damaged at byte ",
                   damage->place, " of ", log.bytes().size());
  if (damage->was_synced) {
    return absl::DataLossError(absl::StrCat(
        place,
        ", and later records show that this was synced: acknowledged "
        "writes would be lost; restore the folder from a backup."));
  }
  if (look == Look::kFlipped) {
    return absl::DataLossError(absl::StrCat(
        place,
        " in the last write, but not as a power cut does it (nothing is "
        "missing): it most likely was acknowledged; restore the folder "
        "from a backup, or give that write up with: truncate -s ",
        damage->record, " ", log.path()));
  }
  if (look == Look::kCutShort && damage->is_last_write) {
    // RocksDB leaves it out, but may keep the log: behind a first record whose
    // place in the order nobody knows, later ones would look like proof that it
    // was synced.
    return damage->is_first ? log.Cut(damage->record) : absl::OkStatus();
  }
  size_t num_bytes = log.bytes().size() - damage->record;
  VICINAL_RETURN_IF_ERROR(log.Cut(damage->record));
  for (size_t l = damage->log + 1; l < logs.size(); ++l) {
    if (logs[l]->bytes().empty()) continue;
    num_bytes += logs[l]->bytes().size();
    VICINAL_RETURN_IF_ERROR(logs[l]->Cut(0));
  }
  if (warn) {
    warn(absl::StrCat(place, " as a power cut leaves a write under way. The ",
                      num_bytes, " bytes from byte ", damage->record,
                      " on were never synced and are left out; they are kept "
                      "in ",
                      log.path(), ".torn."));
  }
  return absl::OkStatus();
}

}  // namespace vicinal
