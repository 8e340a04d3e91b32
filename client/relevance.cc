#include "client/relevance.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace vicinal::client {
namespace {

constexpr size_t kNdcgRanks = 10, kRecallRanks = 100, kReciprocalRanks = 10,
                 kSuccessRanks = 5;

double Discounted(double gain, size_t rank) {
  return gain / std::log2(static_cast<double>(rank) + 1);
}

}  // namespace

Relevance Judge(std::span<const std::string> ranked,
                const Judgments& judgments) {
  std::vector<int> ideal;
  for (const auto& [document, grade] : judgments) {
    if (grade > 0) ideal.push_back(grade);
  }
  std::sort(ideal.begin(), ideal.end(), std::greater<>());
  double ideal_gain = 0;
  for (size_t i = 0; i < std::min(ideal.size(), kNdcgRanks); ++i) {
    ideal_gain += Discounted(ideal[i], i + 1);
  }
  const auto num_relevant = static_cast<double>(ideal.size());
  Relevance out;
  size_t found = 0;
  for (size_t rank = 1; rank <= ranked.size(); ++rank) {
    const auto judged = judgments.find(ranked[rank - 1]);
    if (judged == judgments.end() || judged->second <= 0) continue;
    ++found;
    if (rank <= kNdcgRanks) {
      out.ndcg_10 += Discounted(judged->second, rank) / ideal_gain;
    }
    if (rank <= kRecallRanks) out.recall_100 += 1 / num_relevant;
    if (found == 1 && rank <= kReciprocalRanks) {
      out.reciprocal_rank = 1 / static_cast<double>(rank);
    }
    if (rank <= kSuccessRanks) out.success_5 = 1;
    out.average_precision +=
        static_cast<double>(found) / static_cast<double>(rank) / num_relevant;
  }
  return out;
}

Relevance Mean(std::span<const Relevance> all) {
  Relevance out;
  const auto n = static_cast<double>(std::max<size_t>(all.size(), 1));
  for (const Relevance& one : all) {
    out.ndcg_10 += one.ndcg_10 / n;
    out.recall_100 += one.recall_100 / n;
    out.average_precision += one.average_precision / n;
    out.reciprocal_rank += one.reciprocal_rank / n;
    out.success_5 += one.success_5 / n;
  }
  return out;
}

absl::StatusOr<std::map<std::string, Judgments>> ParseQrels(
    absl::string_view text) {
  std::map<std::string, Judgments> out;
  size_t line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    const bool has_tabs = line.find('\t') != absl::string_view::npos;
    std::vector<absl::string_view> parts = absl::StrSplit(line, '\t');
    if (!has_tabs) parts = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int grade = 0;
    const bool is_right = (parts.size() == 3 || parts.size() == 4) &&
                          absl::SimpleAtoi(parts.back(), &grade);
    if (!is_right) {
      if (line_number == 1) continue;  // the header
      return absl::InvalidArgumentError(
          absl::StrCat("line ", line_number,
                       ": expected query, document and grade (or "
                       "query, 0, document and grade), found \"",
                       line.substr(0, 80), "\""));
    }
    out[std::string(parts[0])][std::string(parts[parts.size() - 2])] = grade;
  }
  return out;
}

}  // namespace vicinal::client
