// Numbers and tables for people.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace vicinal::cli {

std::string WithCommas(uint64_t n);  // 60,000
std::string HumanBytes(uint64_t n);  // 179.4 MiB
std::string HumanSeconds(double s);  // 850 ms, 12.3 s, 4 min 10 s
std::string Fixed(double x, int digits);
double Seconds(std::chrono::nanoseconds d);

// Rows under a header; columns as wide as their widest cell, numbers to the
// right.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void AddRow(std::vector<std::string> cells);
  std::string Format() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "name   value" lines with the names padded to one width.
std::string FormatPairs(
    const std::vector<std::pair<std::string, std::string>>& pairs);

// Number of code points: the width of text on a terminal, near enough.
size_t DisplayWidth(absl::string_view utf8);
// Control characters as escapes, so that data cannot drive the terminal.
std::string Printable(absl::string_view text);

}  // namespace vicinal::cli
