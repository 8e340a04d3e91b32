// libFuzzer: text that parses comes back from its text, member by member, and
// what can be bound says the same of a payload both times.
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "src/base/point_id.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter.h"
#include "src/payload/filter_text.h"
#include "tests/fuzz/require.h"
#include "tests/payload/filter_testing.h"

namespace vicinal {
namespace {

constexpr absl::string_view kPayload =
    R"({"a": [1, "x", {"b": {"c": 2}}], "p": {"lat": 1, "lon": 2}, "t": true,
        "d": "2024-05-31T12:00:00Z", "n": null, "f": -2.5e3})";

// Whether both match the payload or neither does, where they can be bound.
bool MeanSame(const FilterNode& a, const FilterNode& b) {
  const auto bound_a = BoundFilter::Bind(a, {});
  const auto bound_b = BoundFilter::Bind(b, {});
  if (bound_a.ok() != bound_b.ok()) return false;
  return !bound_a.ok() || bound_a->Matches(PointId(1), kPayload) ==
                              bound_b->Matches(PointId(1), kPayload);
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
  vicinal::Require(again.ok() && vicinal::IsSame(*parsed, *again) &&
                       vicinal::MeanSame(*parsed, *again),
                   "the filter does not come back from its text");
  return 0;
}
