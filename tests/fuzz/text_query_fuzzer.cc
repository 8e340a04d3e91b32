// libFuzzer: any bytes are a text expression or are refused; what is taken
// holds its limits, and its words can be analyzed.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "src/base/utf8.h"
#include "src/text/text_query.h"
#include "tests/fuzz/require.h"

namespace vicinal {
namespace {

size_t Check(const std::vector<TextClause>& clauses, size_t depth) {
  Require(depth <= kMaxTextQueryDepth, "groups are too deep");
  size_t count = clauses.size();
  bool finds_something = false;
  for (const TextClause& clause : clauses) {
    Require(clause.boost > 0 && clause.boost <= kMaxTextBoost,
            "a boost is out of its range");
    finds_something |= clause.occur != TextClause::Occur::kMustNot;
    if (clause.kind == TextClause::Kind::kGroup) {
      count += Check(clause.children, depth + 1);
      continue;
    }
    Require(clause.children.empty(), "a word has children");
    Require(FindBadUtf8(clause.text) == clause.text.size(),
            "a word is not UTF-8");
    Require(clause.kind == TextClause::Kind::kPhrase || !clause.text.empty(),
            "a word is empty");
  }
  Require(finds_something, "a query finds nothing");
  return count;
}

}  // namespace
}  // namespace vicinal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size_bytes);
  const auto clauses = vicinal::ParseTextExpression(text);
  if (clauses.ok()) {
    vicinal::Require(vicinal::Check(*clauses, 1) <= vicinal::kMaxTextClauses,
                     "there are too many parts");
  } else {
    vicinal::Require(absl::IsInvalidArgument(clauses.status()),
                     "an error of another kind");
  }
  return 0;
}
