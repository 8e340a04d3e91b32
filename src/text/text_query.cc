#include "src/text/text_query.h"

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/charconv.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/status_macros.h"
#include "src/base/utf8.h"

namespace vicinal {
namespace {

using Kind = TextClause::Kind;
using Occur = TextClause::Occur;

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

class ExpressionParser {
 public:
  explicit ExpressionParser(absl::string_view text) : text_(text) {}

  absl::StatusOr<std::vector<TextClause>> Run() {
    VICINAL_ASSIGN_OR_RETURN(std::vector<TextClause> clauses, Clauses(1));
    if (at_ < text_.size()) return Wrong(at_, "a ) that closes nothing");
    return clauses;
  }

 private:
  absl::Status Wrong(size_t at, absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("the text expression has at byte ", at, " ", what,
                     "; write a backslash before a character that is meant "
                     "as it is"));
  }
  bool Ends() const { return at_ >= text_.size() || text_[at_] == ')'; }
  void SkipSpace() {
    while (at_ < text_.size() && IsSpace(text_[at_])) ++at_;
  }

  absl::StatusOr<std::vector<TextClause>> Clauses(size_t depth) {
    if (depth > kMaxTextQueryDepth) {
      return Wrong(
          at_, absl::StrCat("parentheses deeper than ", kMaxTextQueryDepth));
    }
    const size_t begin = at_;
    std::vector<TextClause> clauses;
    bool finds_something = false;
    for (SkipSpace(); !Ends(); SkipSpace()) {
      if (++num_clauses_ > kMaxTextClauses) {
        return Wrong(at_,
                     absl::StrCat("more than ", kMaxTextClauses, " parts"));
      }
      VICINAL_ASSIGN_OR_RETURN(TextClause clause, Clause(depth));
      finds_something = finds_something || clause.occur != Occur::kMustNot;
      clauses.push_back(std::move(clause));
    }
    if (clauses.empty()) return Wrong(begin, "nothing to look for");
    if (!finds_something) {
      return Wrong(begin,
                   "only parts with -, which find nothing by themselves");
    }
    return clauses;
  }

  absl::StatusOr<TextClause> Clause(size_t depth) {
    TextClause clause;
    const size_t begin = at_;
    if (text_[at_] == '+' || text_[at_] == '-') {
      clause.occur = text_[at_] == '+' ? Occur::kMust : Occur::kMustNot;
      ++at_;
    }
    if (Ends() || IsSpace(text_[at_])) {
      return Wrong(begin, "an operator with nothing behind it");
    }
    if (text_[at_] == '(') {
      VICINAL_RETURN_IF_ERROR(Group(depth, &clause));
    } else if (text_[at_] == '"') {
      VICINAL_RETURN_IF_ERROR(Phrase(&clause));
    } else {
      VICINAL_RETURN_IF_ERROR(Word(&clause));
    }
    VICINAL_RETURN_IF_ERROR(Boost(&clause));
    if (!Ends() && !IsSpace(text_[at_])) {
      return Wrong(at_, "no space between two parts");
    }
    return clause;
  }

  absl::Status Group(size_t depth, TextClause* clause) {
    const size_t begin = at_++;
    clause->kind = Kind::kGroup;
    VICINAL_ASSIGN_OR_RETURN(clause->children, Clauses(depth + 1));
    if (at_ >= text_.size()) return Wrong(begin, "a ( that is not closed");
    ++at_;
    return absl::OkStatus();
  }

  absl::Status Phrase(TextClause* clause) {
    const size_t begin = at_++;
    clause->kind = Kind::kPhrase;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
      clause->text.push_back(text_[at_++]);
    }
    if (at_ >= text_.size()) return Wrong(begin, "a quote that is not closed");
    ++at_;
    return absl::OkStatus();
  }

  absl::Status Word(TextClause* clause) {
    const size_t begin = at_;
    while (!Ends() && !IsSpace(text_[at_]) && text_[at_] != '^' &&
           text_[at_] != '*' && text_[at_] != '(' && text_[at_] != '"') {
      if (text_[at_] == '\\') {
        if (++at_ >= text_.size()) {
          return Wrong(at_ - 1, "a backslash with nothing behind it");
        }
      }
      clause->text.push_back(text_[at_++]);
    }
    if (clause->text.empty()) {
      return Wrong(begin, "an operator with no word before it");
    }
    if (at_ < text_.size() && text_[at_] == '*') {
      clause->kind = Kind::kPrefix;
      ++at_;
    }
    return absl::OkStatus();
  }

  absl::Status Boost(TextClause* clause) {
    if (at_ >= text_.size() || text_[at_] != '^') return absl::OkStatus();
    const size_t begin = at_++;
    const char* first = text_.data() + at_;
    float boost = 0;
    const auto result = absl::from_chars(first, text_.data() + text_.size(),
                                         boost, absl::chars_format::fixed);
    if (result.ec != std::errc() || result.ptr == first ||
        !(boost > 0 && boost <= kMaxTextBoost)) {
      return Wrong(begin, absl::StrCat("a boost that is no number over 0 and "
                                       "at most ",
                                       kMaxTextBoost));
    }
    clause->boost = boost;
    at_ += static_cast<size_t>(result.ptr - first);
    return absl::OkStatus();
  }

  const absl::string_view text_;
  size_t at_ = 0;
  size_t num_clauses_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<TextClause>> ParseTextExpression(
    absl::string_view expression) {
  if (expression.size() > kMaxTextQueryBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text expression has ", expression.size(),
                     " bytes; at most ", kMaxTextQueryBytes, " are allowed"));
  }
  if (const size_t bad = FindBadUtf8(expression); bad < expression.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text expression is not UTF-8 at byte ", bad));
  }
  return ExpressionParser(expression).Run();
}

}  // namespace vicinal
