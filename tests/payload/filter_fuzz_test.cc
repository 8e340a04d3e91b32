// Random and damaged filters: what parses round trips, nothing crashes. The
// libFuzzer target filter_fuzzer.cc does the same without end.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter_text.h"

namespace vicinal {
namespace {

Literal AnyLiteral(Random* random) {
  switch (random->Uniform(4)) {
    case 0:
      return random->Uniform(2) == 0;
    case 1:
      return static_cast<int64_t>(random->Next());
    case 2:
      return random->Gaussian() * 1e10;
    default: {
      std::string text;
      for (size_t i = random->Uniform(6); i > 0; --i) {
        text.push_back(static_cast<char>(random->Uniform(127) + 1));
      }
      return text;
    }
  }
}

FilterNode AnyNode(Random* random, size_t depth) {
  using Kind = FilterNode::Kind;
  constexpr absl::string_view kPaths[] = {"a", "b.c", "in", "x y.`", "NOT"};
  FilterNode node;
  node.path = std::string(kPaths[random->Uniform(5)]);
  switch (random->Uniform(depth > 3 ? 5 : 9)) {
    case 0:
      node.kind = Kind::kCompare;
      node.op = static_cast<FilterNode::Op>(random->Uniform(6));
      node.literals = {AnyLiteral(random)};
      break;
    case 1:
      node.kind = random->Uniform(2) == 0 ? Kind::kIn : Kind::kContainsAll;
      for (size_t i = random->Uniform(4); i > 0; --i) {
        node.literals.push_back(AnyLiteral(random));
      }
      break;
    case 2:
      node.kind = Kind::kBetween;
      node.literals = {AnyLiteral(random), AnyLiteral(random)};
      break;
    case 3:
      node.kind = Kind::kExists;
      break;
    case 4:
      node.kind = Kind::kId;
      node.path.clear();
      node.ids = {PointId(random->Next() >> 1), *PointId::FromString("x\"y")};
      break;
    case 5:
      node.kind = Kind::kElement;
      node.children.push_back(AnyNode(random, depth + 1));
      break;
    case 6:
      node.kind = Kind::kNot;
      node.path.clear();
      node.children.push_back(AnyNode(random, depth + 1));
      break;
    default:
      node.kind = random->Uniform(2) == 0 ? Kind::kAnd : Kind::kOr;
      node.path.clear();
      for (size_t i = 0; i < 2 + random->Uniform(3); ++i) {
        node.children.push_back(AnyNode(random, depth + 1));
      }
  }
  return node;
}

TEST(FilterFuzzTest, RandomFiltersRoundTrip) {
  Random random(1);
  for (int round = 0; round < 3'000; ++round) {
    const std::string text = FilterToText(AnyNode(&random, 0));
    const auto parsed = ParseFilter(text);
    ASSERT_TRUE(parsed.ok()) << text << "\n" << parsed.status();
    ASSERT_EQ(FilterToText(*parsed), text);
  }
}

TEST(FilterFuzzTest, DamagedFiltersAreRefusedOrMeanSomething) {
  Random random(2);
  size_t num_parsed = 0;
  constexpr absl::string_view kPieces[] = {
      "(", ")", " AND ", " NOT ", "\"",   "'",   "`",    "[",  "]",       "$x",
      ",", "1", "-",     ".",     " IN ", "\\u", "\xC3", "ID", "GEO_BOX("};
  for (int round = 0; round < 30'000; ++round) {
    std::string text = FilterToText(AnyNode(&random, 1));
    for (size_t i = random.Uniform(3) + 1; i > 0; --i) {
      const size_t at = random.Uniform(text.size() + 1);
      switch (random.Uniform(3)) {
        case 0:
          if (at < text.size()) text[at] = static_cast<char>(random.Next());
          break;
        case 1:
          text.erase(at, random.Uniform(4));
          break;
        default:
          text.insert(at, std::string(kPieces[random.Uniform(19)]));
      }
    }
    const auto parsed = ParseFilter(text);
    if (!parsed.ok()) continue;
    ++num_parsed;
    const std::string again = FilterToText(*parsed);
    const auto twice = ParseFilter(again);
    ASSERT_TRUE(twice.ok()) << text << "\n" << again << "\n" << twice.status();
    ASSERT_EQ(FilterToText(*twice), again);
    const auto bound = BoundFilter::Bind(*parsed, {});
    if (bound.ok()) {
      (void)bound->Matches(PointId(1), R"({"a": [1, "x", {"b": {"c": 2}}]})");
    }
  }
  EXPECT_GT(num_parsed, 1'000u);
}

}  // namespace
}  // namespace vicinal
