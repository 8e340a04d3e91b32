// libFuzzer: text that parses comes back from its text, member by member.
//   clang++ -fsanitize=fuzzer,address,undefined ... filter_fuzzer.cc
//   ./filter_fuzzer tests/payload/filter_corpus
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "src/payload/filter.h"
#include "src/payload/filter_text.h"

namespace vicinal {
namespace {

bool IsSame(const FilterNode& a, const FilterNode& b) {
  bool same = a.kind == b.kind && a.op == b.op && a.path == b.path &&
              a.literals == b.literals && a.meters == b.meters &&
              a.ids == b.ids && a.points.size() == b.points.size() &&
              a.children.size() == b.children.size();
  for (size_t i = 0; same && i < a.points.size(); ++i) {
    same = a.points[i].lat == b.points[i].lat &&
           a.points[i].lon == b.points[i].lon;
  }
  for (size_t i = 0; same && i < a.children.size(); ++i) {
    same = IsSame(a.children[i], b.children[i]);
  }
  return same;
}

}  // namespace
}  // namespace vicinal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  const auto parsed = vicinal::ParseFilter(
      absl::string_view(reinterpret_cast<const char*>(data), size_bytes));
  if (!parsed.ok()) return 0;
  const std::string text = vicinal::FilterToText(*parsed);
  // Text may be longer than what it was parsed from: 1e3 becomes 1000.0.
  vicinal::FilterLimits limits;
  limits.max_text_bytes = text.size();
  const auto again = vicinal::ParseFilter(text, {}, limits);
  if (again.ok() && vicinal::IsSame(*parsed, *again)) return 0;
  std::fprintf(stderr, "does not round trip: %s\n", text.c_str());
  std::abort();
}
