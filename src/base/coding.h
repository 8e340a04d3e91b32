// Fixed-width integers in byte strings: little-endian for values, big-endian
// for keys whose byte order must be their numeric order.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/string_view.h"

namespace vicinal {

static_assert(std::endian::native == std::endian::little,
              "files and wire columns are little-endian and mapped as is");

template <typename T>
void PutFixed(std::string* out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out->append(bytes, sizeof(T));
}

template <typename T>
T GetFixed(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

// Takes sizeof(T) bytes off the front of *in; false when it is too short.
template <typename T>
bool ConsumeFixed(absl::string_view* in, T* value) {
  if (in->size() < sizeof(T)) return false;
  *value = GetFixed<T>(in->data());
  in->remove_prefix(sizeof(T));
  return true;
}

inline void PutBigEndian32(std::string* out, uint32_t value) {
  PutFixed(out, __builtin_bswap32(value));
}
inline void PutBigEndian64(std::string* out, uint64_t value) {
  PutFixed(out, __builtin_bswap64(value));
}
inline uint32_t GetBigEndian32(const char* bytes) {
  return __builtin_bswap32(GetFixed<uint32_t>(bytes));
}
inline uint64_t GetBigEndian64(const char* bytes) {
  return __builtin_bswap64(GetFixed<uint64_t>(bytes));
}

// LEB128, as in protobuf.
void PutVarint64(std::string* out, uint64_t value);
bool ConsumeVarint64(absl::string_view* in, uint64_t* value);
// Length as a varint, then the bytes.
void PutLengthPrefixed(std::string* out, absl::string_view bytes);
bool ConsumeLengthPrefixed(absl::string_view* in, absl::string_view* bytes);

}  // namespace vicinal
