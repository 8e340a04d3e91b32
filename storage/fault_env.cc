#include "storage/fault_env.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "rocksdb/file_system.h"
#include "rocksdb/io_status.h"
#include "rocksdb/slice.h"

namespace vicinal {
namespace {

using rocksdb::DataVerificationInfo;
using rocksdb::FileOptions;
using rocksdb::FSDirectory;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

IOStatus ToIoStatus(const absl::Status& status) {
  if (status.ok()) return IOStatus::OK();
  const absl::string_view message = status.message();
  const Slice text(message.data(), message.size());
  return absl::IsResourceExhausted(status) ? IOStatus::NoSpace(text)
                                           : IOStatus::IOError(text);
}

bool TearsAppends(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsDataLoss(status);
}

class FaultFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultFile(std::unique_ptr<FSWritableFile> base, std::string path,
            const FaultHook* hook)
      : FSWritableFileOwnerWrapper(std::move(base)),
        path_(std::move(path)),
        hook_(hook) {}

  IOStatus Append(const Slice& data, const IOOptions& options,
                  IODebugContext* dbg) override {
    const absl::Status fault = (*hook_)("append", path_);
    if (fault.ok()) {
      return FSWritableFileOwnerWrapper::Append(data, options, dbg);
    }
    if (TearsAppends(fault)) {
      const IOStatus half = FSWritableFileOwnerWrapper::Append(
          Slice(data.data(), data.size() / 2), options, dbg);
      if (!half.ok()) return half;
    }
    return ToIoStatus(fault);
  }
  IOStatus Append(const Slice& data, const IOOptions& options,
                  const DataVerificationInfo& /*verification*/,
                  IODebugContext* dbg) override {
    return Append(data, options, dbg);
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* dbg) override {
    if (const auto fault = (*hook_)("sync", path_); !fault.ok()) {
      return ToIoStatus(fault);
    }
    return FSWritableFileOwnerWrapper::Sync(options, dbg);
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    if (const auto fault = (*hook_)("sync", path_); !fault.ok()) {
      return ToIoStatus(fault);
    }
    return FSWritableFileOwnerWrapper::Fsync(options, dbg);
  }

 private:
  const std::string path_;
  const FaultHook* hook_;  // the file system's, which outlives its files
};

class FaultDirectory final : public rocksdb::FSDirectoryWrapper {
 public:
  FaultDirectory(std::unique_ptr<FSDirectory> base, std::string path,
                 const FaultHook* hook)
      : FSDirectoryWrapper(std::move(base)),
        path_(std::move(path)),
        hook_(hook) {}

  IOStatus Fsync(const IOOptions& options, IODebugContext* dbg) override {
    if (const auto fault = (*hook_)("sync_folder", path_); !fault.ok()) {
      return ToIoStatus(fault);
    }
    return FSDirectoryWrapper::Fsync(options, dbg);
  }
  IOStatus FsyncWithDirOptions(
      const IOOptions& options, IODebugContext* dbg,
      const rocksdb::DirFsyncOptions& dir_options) override {
    if (const auto fault = (*hook_)("sync_folder", path_); !fault.ok()) {
      return ToIoStatus(fault);
    }
    return FSDirectoryWrapper::FsyncWithDirOptions(options, dbg, dir_options);
  }

 private:
  const std::string path_;
  const FaultHook* hook_;
};

class FaultFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  FaultFileSystem(std::shared_ptr<rocksdb::FileSystem> base, FaultHook hook)
      : FileSystemWrapper(std::move(base)), hook_(std::move(hook)) {}

  const char* Name() const override { return "VicinalFaultFileSystem"; }

  IOStatus NewWritableFile(const std::string& path, const FileOptions& options,
                           std::unique_ptr<FSWritableFile>* file,
                           IODebugContext* dbg) override {
    if (const auto fault = hook_("create", path); !fault.ok()) {
      return ToIoStatus(fault);
    }
    return Wrap(FileSystemWrapper::NewWritableFile(path, options, file, dbg),
                path, file);
  }
  IOStatus ReopenWritableFile(const std::string& path,
                              const FileOptions& options,
                              std::unique_ptr<FSWritableFile>* file,
                              IODebugContext* dbg) override {
    return Wrap(FileSystemWrapper::ReopenWritableFile(path, options, file, dbg),
                path, file);
  }
  IOStatus ReuseWritableFile(const std::string& path,
                             const std::string& old_path,
                             const FileOptions& options,
                             std::unique_ptr<FSWritableFile>* file,
                             IODebugContext* dbg) override {
    return Wrap(FileSystemWrapper::ReuseWritableFile(path, old_path, options,
                                                     file, dbg),
                path, file);
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions& options,
                        std::unique_ptr<FSDirectory>* directory,
                        IODebugContext* dbg) override {
    IOStatus status =
        FileSystemWrapper::NewDirectory(path, options, directory, dbg);
    if (status.ok()) {
      *directory =
          std::make_unique<FaultDirectory>(std::move(*directory), path, &hook_);
    }
    return status;
  }
  IOStatus RenameFile(const std::string& from, const std::string& to,
                      const IOOptions& options, IODebugContext* dbg) override {
    if (const auto fault = hook_("rename", to); !fault.ok()) {
      return ToIoStatus(fault);
    }
    return FileSystemWrapper::RenameFile(from, to, options, dbg);
  }

 private:
  IOStatus Wrap(IOStatus status, const std::string& path,
                std::unique_ptr<FSWritableFile>* file) {
    if (status.ok()) {
      *file = std::make_unique<FaultFile>(std::move(*file), path, &hook_);
    }
    return status;
  }

  const FaultHook hook_;
};

}  // namespace

std::shared_ptr<rocksdb::FileSystem> NewFaultFileSystem(
    std::shared_ptr<rocksdb::FileSystem> base, FaultHook hook) {
  return std::make_shared<FaultFileSystem>(std::move(base), std::move(hook));
}

}  // namespace vicinal
