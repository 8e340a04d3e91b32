// Data folders as a version of the program wrote them, kept as files: what is
// in RocksDB (store.hex: table, key and value of each entry) and the files of
// one segment.
//
// They never change. A new format gets a folder of its own, which the tests of
// what is written make with VICINAL_WRITE_GOLDEN=FOLDER (or _MULTI=FOLDER) in
// the environment.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "src/base/clock.h"

namespace vicinal {

// What is written has its time in it.
class FixedClock final : public Clock {
 public:
  std::chrono::steady_clock::time_point Now() const override {
    return Clock::Real().Now();
  }
  int64_t UnixMicros() const override { return 1'700'000'000'000'000; }
};

std::string ReadGolden(const std::filesystem::path& path);
// Of store.hex.
std::vector<std::string> GoldenLines(const std::filesystem::path& golden);
// Makes the data folder that `golden` describes, of one collection with one
// segment.
void RestoreGolden(const std::filesystem::path& golden,
                   const std::string& folder);
// The other way: a data folder that no program has open.
void SaveGolden(const std::string& folder, const std::filesystem::path& golden);
// RocksDB holds the same keys and values.
void ExpectWrittenAs(const std::filesystem::path& golden,
                     const std::string& folder);

}  // namespace vicinal
