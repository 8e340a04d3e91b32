// The speed table of an issue: what was asked, what was measured, and whether
// that is enough. Each bench/check/NAME.cc fills one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace vicinal::bench {

enum class Bound { kAtLeast, kAtMost };

// One line of the table. Everything in it is a ratio.
struct CheckRow {
  std::string key;   // [a-z0-9_]+, the name in the JSON file
  std::string what;  // for people
  Bound bound = Bound::kAtLeast;
  double limit = 0;
  std::optional<double> measured;  // nullopt: could not be measured
  std::string why_not;             // then says why
  nlohmann::json raw;              // the values that the ratio came from

  // A row that was not measured falls short.
  bool ok() const {
    return measured.has_value() &&
           (bound == Bound::kAtLeast ? *measured >= limit : *measured <= limit);
  }
  std::string Asked() const;     // ">= 1.40x"
  std::string Measured() const;  // "1.83x", or "not measured"
};

// Prints each row as it arrives and keeps it for the file.
class CheckReport {
 public:
  void Add(CheckRow row);
  bool ok() const;
  const std::vector<CheckRow>& rows() const { return rows_; }
  // "row | asked | measured | ok or short", one line per row.
  std::string Table() const;
  nlohmann::json Json() const;

 private:
  std::vector<CheckRow> rows_;
};

// Tells on stderr what a long run does, with the seconds since the start.
void TellProgress(const std::string& what);

}  // namespace vicinal::bench
