// A file mapped into memory for reading.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace vicinal::client {

// Movable; the mapping lives as long as the object. Const and thread-safe.
// A file cut short by somebody else while it is mapped ends the process with
// SIGBUS, as with any mapped file.
class MappedFile {
 public:
  // NotFound, PermissionDenied, or InvalidArgument for a folder.
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  absl::string_view bytes() const {
    return {static_cast<const char*>(data_), size_};
  }
  // Lets the kernel forget what lies before `offset`; it is not needed again.
  void Forget(size_t offset);

 private:
  MappedFile(void* data, size_t size) : data_(data), size_(size) {}

  void* data_ = nullptr;
  size_t size_ = 0;
  size_t forgotten_ = 0;
};

}  // namespace vicinal::client
