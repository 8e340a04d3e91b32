#include "bench/check/report.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace vicinal::bench {
namespace {

std::string Line(const CheckRow& row) {
  return absl::StrFormat("%-66s | %8s | %12s | %s", row.what, row.Asked(),
                         row.Measured(), row.ok() ? "ok" : "short");
}

}  // namespace

std::string CheckRow::Asked() const {
  return absl::StrFormat("%s %.2fx",
                         bound == Bound::kAtLeast ? ">=" : "<=", limit);
}

std::string CheckRow::Measured() const {
  return measured ? absl::StrFormat("%.2fx", *measured) : "not measured";
}

void CheckReport::Add(CheckRow row) {
  std::printf("%s\n", Line(row).c_str());
  if (!row.measured) std::printf("    %s\n", row.why_not.c_str());
  std::fflush(stdout);
  rows_.push_back(std::move(row));
}

bool CheckReport::ok() const {
  return !rows_.empty() &&
         std::all_of(rows_.begin(), rows_.end(),
                     [](const CheckRow& row) { return row.ok(); });
}

std::string CheckReport::Table() const {
  std::string table = absl::StrFormat("%-66s | %8s | %12s | %s\n", "row",
                                      "asked", "measured", "ok or short");
  for (const CheckRow& row : rows_) absl::StrAppend(&table, Line(row), "\n");
  return table;
}

nlohmann::json CheckReport::Json() const {
  nlohmann::json rows = nlohmann::json::array();
  for (const CheckRow& row : rows_) {
    nlohmann::json out = {{"key", row.key},       {"row", row.what},
                          {"asked", row.Asked()}, {"limit", row.limit},
                          {"measured", nullptr},  {"ok", row.ok()},
                          {"raw", row.raw}};
    if (row.measured) {
      out["measured"] = *row.measured;
    } else {
      out["why_not"] = row.why_not;
    }
    rows.push_back(std::move(out));
  }
  return rows;
}

void TellProgress(const std::string& what) {
  static const auto start = std::chrono::steady_clock::now();
  const std::chrono::duration<double> since =
      std::chrono::steady_clock::now() - start;
  std::fprintf(stderr, "%6.1f s  %s\n", since.count(), what.c_str());
}

}  // namespace vicinal::bench
