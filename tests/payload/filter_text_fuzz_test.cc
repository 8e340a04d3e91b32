// Random nodes come back from their text member by member, and damaged text is
// refused or means something. tests/fuzz/filter_fuzzer.cc does the latter
// without end.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/point_id.h"
#include "src/base/random.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter.h"
#include "src/payload/filter_text.h"
#include "tests/payload/filter_testing.h"

namespace vicinal {
namespace {

using Kind = FilterNode::Kind;

// Makes nodes of every kind that text can say.
class NodeMaker {
 public:
  explicit NodeMaker(uint64_t seed) : random_(seed) {}
  FilterNode Make(size_t depth);
  Random& random() { return random_; }

 private:
  size_t Any(size_t n) { return random_.Uniform(n); }
  std::string Text();
  std::string Path();
  Literal Value();
  PointId Id();
  GeoPoint Place();
  void MakeGeo(FilterNode* node);
  void MakeParent(size_t depth, FilterNode* node);

  Random random_;
};

std::string NodeMaker::Text() {
  constexpr absl::string_view kPieces[] = {
      "a", "\"", "'",  "\\",     "`",          "\n",
      "$", " ",  "\t", "\u00e4", "\U0001F600", absl::string_view("\0", 1)};
  std::string text;
  for (size_t i = Any(8); i > 0; --i) absl::StrAppend(&text, kPieces[Any(12)]);
  return text;
}

std::string NodeMaker::Path() {
  constexpr absl::string_view kNames[] = {
      "a", "_b-2", "ID", "in", "Null", "x y", "`", "\u00e4", "1st", "a\"'\\"};
  std::string path(kNames[Any(10)]);
  for (size_t i = Any(3); i > 0; --i)
    absl::StrAppend(&path, ".", kNames[Any(10)]);
  return path;
}

Literal NodeMaker::Value() {
  switch (Any(6)) {
    case 0:
      return Any(2) == 0;
    case 1:
      return static_cast<int64_t>(random_.Next());
    case 2:
      return static_cast<double>(Any(1'000));
    case 3:
      return random_.Gaussian() * 1e-300;
    case 4:
      return random_.Gaussian() * 1e300;
    default:
      return Text();
  }
}

PointId NodeMaker::Id() {
  if (Any(3) == 0) return PointId(random_.Next());
  if (Any(2) == 0) {
    PointId::Uuid uuid;
    for (uint8_t& byte : uuid) byte = static_cast<uint8_t>(random_.Next());
    const PointId id(uuid);
    return Any(4) == 0 ? *PointId::FromString(id.ToString()) : id;
  }
  return *PointId::FromString("x" + Text());
}

GeoPoint NodeMaker::Place() {
  return {random_.UniformDouble() * 180 - 90,
          random_.UniformDouble() * 360 - 180};
}

void NodeMaker::MakeGeo(FilterNode* node) {
  constexpr Kind kKinds[] = {Kind::kGeoRadius, Kind::kGeoBox,
                             Kind::kGeoPolygon};
  node->kind = kKinds[Any(3)];
  node->points = {Place()};
  if (node->kind == Kind::kGeoRadius) {
    node->meters = random_.UniformDouble() * 1e6 + 1e-9;
  } else if (node->kind == Kind::kGeoBox) {
    node->points.push_back(Place());
    if (node->points[0].lat > node->points[1].lat) {
      std::swap(node->points[0].lat, node->points[1].lat);
    }
  } else {
    for (size_t i = 2 + Any(4); i > 0; --i) node->points.push_back(Place());
  }
}

void NodeMaker::MakeParent(size_t depth, FilterNode* node) {
  constexpr Kind kKinds[] = {Kind::kAnd, Kind::kOr, Kind::kNot, Kind::kElement};
  node->kind = kKinds[Any(4)];
  const bool is_joined = node->kind == Kind::kAnd || node->kind == Kind::kOr;
  if (node->kind != Kind::kElement) node->path.clear();
  for (size_t i = is_joined ? 2 + Any(2) : 1; i > 0; --i) {
    node->children.push_back(Make(depth - 1));
  }
}

// At most `depth` nodes above one another.
FilterNode NodeMaker::Make(size_t depth) {
  FilterNode node;
  node.path = Path();
  switch (Any(depth > 1 ? 16 : 9)) {
    case 0:
      node.kind = Any(2) == 0 ? Kind::kTrue : Kind::kFalse;
      node.path.clear();
      break;
    case 1:
      node.op = static_cast<FilterNode::Op>(Any(6));
      node.kind = Kind::kCompare;
      node.literals = {Value()};
      break;
    case 2:
      node.op = static_cast<FilterNode::Op>(Any(2));
      node.kind = Kind::kCompare;
      node.literals = {nullptr};
      break;
    case 3:
      node.kind = Any(2) == 0 ? Kind::kIn : Kind::kContainsAll;
      for (size_t i = Any(4); i > 0; --i) node.literals.push_back(Value());
      break;
    case 4:
      node.kind = Kind::kBetween;
      node.literals = {Value(), Value()};
      break;
    case 5:
      node.kind = Kind::kExists;
      break;
    case 6:
      node.kind = Any(2) == 0 ? Kind::kPrefix : Kind::kMatch;
      node.literals = {Text()};
      break;
    case 7:
      node.kind = Kind::kId;
      node.path.clear();
      for (size_t i = 1 + Any(3); i > 0; --i) node.ids.push_back(Id());
      break;
    case 8:
      MakeGeo(&node);
      break;
    default:
      MakeParent(depth, &node);
  }
  return node;
}

void ExpectRoundTrip(const FilterNode& node) {
  const std::string text = FilterToText(node);
  const auto parsed = ParseFilter(text);
  ASSERT_TRUE(parsed.ok()) << text << "\n" << parsed.status();
  ASSERT_TRUE(IsSame(*parsed, node)) << text << "\n" << FilterToText(*parsed);
}

TEST(FilterTextFuzzTest, RandomNodesComeBackFromTheirText) {
  constexpr uint64_t kSeed = 20261127;
  RecordProperty("seed", std::to_string(kSeed));
  NodeMaker maker(kSeed);
  for (int round = 0; round < 2'000; ++round) {
    SCOPED_TRACE(round);
    ExpectRoundTrip(maker.Make(1 + maker.random().Uniform(6)));
    if (HasFatalFailure()) return;
  }
}

// Chains of one child as high as the limit, of every mixture of parents.
TEST(FilterTextFuzzTest, TheHighestNodesComeBackFromTheirText) {
  NodeMaker maker(3);
  for (int round = 0; round < 300; ++round) {
    FilterNode node = maker.Make(1);
    for (size_t height = 1; height < FilterLimits().max_depth; ++height) {
      FilterNode parent;
      constexpr Kind kKinds[] = {Kind::kAnd, Kind::kOr, Kind::kNot,
                                 Kind::kElement};
      parent.kind = kKinds[maker.random().Uniform(4)];
      if (parent.kind == Kind::kElement) parent.path = "e";
      parent.children.push_back(std::move(node));
      if (parent.kind == Kind::kAnd || parent.kind == Kind::kOr) {
        parent.children.emplace_back();
      }
      node = std::move(parent);
    }
    SCOPED_TRACE(round);
    ExpectRoundTrip(node);
    if (HasFatalFailure()) return;
    FilterNode one_too_high{.kind = Kind::kNot};
    one_too_high.children.push_back(std::move(node));
    EXPECT_FALSE(ParseFilter(FilterToText(one_too_high)).ok());
  }
}

// VICINAL_FILTER_CORPUS is the fuzzer's, set by CMake. Its .txt files are
// filters; others were found by it.
TEST(FilterTextFuzzTest, TheFuzzersCorpusRoundTrips) {
  size_t num_filters = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(VICINAL_FILTER_CORPUS)) {
    SCOPED_TRACE(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    const auto parsed = ParseFilter(text);
    if (entry.path().extension() != ".txt") continue;
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ExpectRoundTrip(*parsed);
    ++num_filters;
  }
  EXPECT_GE(num_filters, 10u);
}

TEST(FilterTextFuzzTest, DamagedTextIsRefusedOrRoundTrips) {
  constexpr absl::string_view kPayload =
      R"({"a": [1, "x", {"b": {"c": 2}}], "p": {"lat": 1, "lon": 2}})";
  constexpr uint64_t kSeed = 11;
  RecordProperty("seed", std::to_string(kSeed));
  NodeMaker maker(kSeed);
  Random& random = maker.random();
  size_t num_parsed = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text = FilterToText(maker.Make(3));
    for (size_t i = random.Uniform(3) + 1; i > 0 && !text.empty(); --i) {
      const size_t at = random.Uniform(text.size());
      const size_t what = random.Uniform(3);
      if (what == 0) text[at] ^= static_cast<char>(1 << random.Uniform(8));
      if (what == 1) text.insert(at, 1, static_cast<char>(random.Next()));
      if (what == 2) text.erase(at, 1 + random.Uniform(3));
    }
    const auto parsed = ParseFilter(text);
    if (!parsed.ok()) {
      ASSERT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
      ASSERT_EQ(parsed.status().message().substr(0, 17), "filter, position ")
          << text;
      continue;
    }
    ++num_parsed;
    SCOPED_TRACE(text);
    if (const auto bound = BoundFilter::Bind(*parsed, {}); bound.ok()) {
      const bool matches = bound->Matches(PointId(1), kPayload);
      ASSERT_EQ(bound->Matches(PointId(1), kPayload), matches);
    }
    ExpectRoundTrip(*parsed);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(num_parsed, 2'000u);
}

TEST(FilterTextFuzzTest, HostileDepthMeetsTheLimitNotTheEndOfTheStack) {
  for (const absl::string_view piece : {"(", "NOT ", "NOT (", "a[", "(NOT "}) {
    std::string text;
    while (text.size() < 1'000'000) absl::StrAppend(&text, piece);
    const std::string error(ParseFilter(text).status().message());
    EXPECT_NE(error.find("nested deeper than 32"), std::string::npos);
  }
}

}  // namespace
}  // namespace vicinal
