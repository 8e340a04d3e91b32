// Files for tests of formats and of the command.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "src/base/coding.h"
#include "src/base/random.h"

namespace vicinal::client {

// A folder of its own, removed at the end; in memory where the system offers
// it, because tests write thousands of small files.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const std::filesystem::path memory = "/dev/shm";
    std::string name = (std::filesystem::is_directory(memory)
                            ? memory
                            : std::filesystem::temp_directory_path()) /
                       "vicinal-client-test-XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string File(const std::string& name) const { return path_ + "/" + name; }
  std::string Write(const std::string& name, const std::string& bytes) const {
    std::ofstream(File(name), std::ios::binary) << bytes;
    return File(name);
  }

 private:
  std::string path_;
};

inline std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

template <typename T>
std::string RawBytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(T));
}

// rows x dim seeded floats in [-1, 1).
inline std::vector<float> RandomFloats(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<float> out(n);
  for (float& x : out) x = static_cast<float>(random.UniformDouble() * 2 - 1);
  return out;
}

// TEXMEX rows of elements of type T.
template <typename T>
std::string Vecs(const std::vector<T>& values, int32_t dim) {
  std::string out;
  for (size_t i = 0; i < values.size(); i += static_cast<size_t>(dim)) {
    PutFixed(&out, dim);
    out.append(reinterpret_cast<const char*>(values.data() + i),
               static_cast<size_t>(dim) * sizeof(T));
  }
  return out;
}

// A .npy file of the given version with this dictionary and data.
inline std::string Npy(const std::string& dict, const std::string& data,
                       int version = 1) {
  std::string out = "\x93NUMPY";
  out.push_back(static_cast<char>(version));
  out.push_back('\0');
  const std::string header = dict + "\n";
  if (version == 1) {
    PutFixed(&out, static_cast<uint16_t>(header.size()));
  } else {
    PutFixed(&out, static_cast<uint32_t>(header.size()));
  }
  return out + header + data;
}
inline std::string NpyDict(const std::string& descr, const std::string& shape,
                           bool fortran = false) {
  return "{'descr': '" + descr +
         "', 'fortran_order': " + (fortran ? "True" : "False") +
         ", 'shape': " + shape + ", }";
}

// An IDX file.
inline std::string Idx(uint8_t type, const std::vector<uint32_t>& sizes,
                       const std::string& data) {
  std::string out("\0\0", 2);
  out.push_back(static_cast<char>(type));
  out.push_back(static_cast<char>(sizes.size()));
  for (const uint32_t size : sizes) PutBigEndian32(&out, size);
  return out + data;
}

}  // namespace vicinal::client
