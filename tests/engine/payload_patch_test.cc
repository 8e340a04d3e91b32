// What a change makes of a payload, and what is no change.
#include "src/engine/payload_patch.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/engine/limits.h"

namespace vicinal {
namespace {

using ::testing::HasSubstr;

std::string After(PayloadChange change, absl::string_view payload) {
  const auto patch = PayloadPatch::Make(std::move(change), {});
  if (!patch.ok()) return std::string(patch.status().message());
  const auto after = patch->Apply(payload);
  return after.ok() ? *after : std::string(after.status().message());
}
std::string Merged(absl::string_view payload, std::string patch) {
  return After({.merge = std::move(patch)}, payload);
}
std::string Without(absl::string_view payload, std::vector<std::string> keys) {
  return After({.delete_keys = std::move(keys)}, payload);
}
std::string WhyRefused(PayloadChange change) {
  const auto patch = PayloadPatch::Make(std::move(change), {});
  EXPECT_TRUE(absl::IsInvalidArgument(patch.status())) << patch.status();
  return std::string(patch.status().message());
}

TEST(PayloadPatchTest, SetReplacesAndKeepsItsText) {
  EXPECT_EQ(After({.set = R"({ "b": 1.50, "a": {} })"}, R"({"x":1})"),
            R"({ "b": 1.50, "a": {} })");
  EXPECT_EQ(After({.set = "{}"}, ""), "{}");
}

// The examples of RFC 7396 whose target and patch are objects.
TEST(PayloadPatchTest, MergesAsTheStandardSays) {
  struct Example {
    const char *payload, *patch, *result;
  };
  const Example examples[] = {
      {R"({"a":"b"})", R"({"a":"c"})", R"({"a":"c"})"},
      {R"({"a":"b"})", R"({"b":"c"})", R"({"a":"b","b":"c"})"},
      {R"({"a":"b"})", R"({"a":null})", R"({})"},
      {R"({"a":"b","b":"c"})", R"({"a":null})", R"({"b":"c"})"},
      {R"({"a":["b"]})", R"({"a":"c"})", R"({"a":"c"})"},
      {R"({"a":"c"})", R"({"a":["b"]})", R"({"a":["b"]})"},
      {R"({"a":{"b":"c"}})", R"({"a":{"b":"d","c":null}})",
       R"({"a":{"b":"d"}})"},
      {R"({"a":[{"b":"c"}]})", R"({"a":[1]})", R"({"a":[1]})"},
      {R"({"e":null})", R"({"a":1})", R"({"a":1,"e":null})"},
      {R"({})", R"({"a":{"bb":{"ccc":null}}})", R"({"a":{"bb":{}}})"},
      {"", R"({"a":1})", R"({"a":1})"},
  };
  for (const Example& example : examples) {
    EXPECT_EQ(Merged(example.payload, example.patch), example.result)
        << example.payload << " and " << example.patch;
  }
}

TEST(PayloadPatchTest, DeletesWhatAPathReaches) {
  EXPECT_EQ(Without(R"({"a":1,"b":2})", {"a"}), R"({"b":2})");
  EXPECT_EQ(Without(R"({"a":{"b":1,"c":2}})", {"a.b"}), R"({"a":{"c":2}})");
  EXPECT_EQ(Without(R"({"a":{"b":1}})", {"a.b"}), R"({"a":{}})");
  EXPECT_EQ(Without(R"({"a":[{"b":1},{"b":2,"c":3},[{"b":4}],5]})", {"a.b"}),
            R"({"a":[{},{"c":3},[{}],5]})");
  EXPECT_EQ(Without(R"({"a":1})", {"b", "a.b", "x.y.z"}), R"({"a":1})");
  EXPECT_EQ(Without("", {"a"}), "{}");
}

TEST(PayloadPatchTest, DeletesAfterItMerged) {
  EXPECT_EQ(After({.merge = R"({"a":{"b":1,"c":2}})", .delete_keys = {"a.b"}},
                  R"({"x":0})"),
            R"({"a":{"c":2},"x":0})");
}

TEST(PayloadPatchTest, WritesAnewWithoutChangingValues) {
  EXPECT_EQ(Merged(R"({"z": 18446744073709551615, "y": -9223372036854775808,
                       "x": 0.1, "w": 1e3, "v": "é\u20ac\u0000\n", "u": 1.0})",
                   R"({"a": true})"),
            R"({"a":true,"u":1.0,"v":"é€\u0000\n","w":1000.0,"x":0.1,)"
            R"("y":-9223372036854775808,"z":18446744073709551615})");
}

TEST(PayloadPatchTest, RefusesWhatIsNoChange) {
  EXPECT_THAT(WhyRefused({}),
              HasSubstr("set is missing, so are merge and delete_keys"));
  EXPECT_THAT(WhyRefused({.set = "{}", .merge = "{}"}),
              HasSubstr("set stands beside merge or delete_keys"));
  EXPECT_THAT(WhyRefused({.set = "{}", .delete_keys = {"a"}}),
              HasSubstr("set stands beside"));
  EXPECT_THAT(WhyRefused({.set = "[1]"}),
              HasSubstr("set is not a JSON object"));
  EXPECT_THAT(WhyRefused({.set = ""}), HasSubstr("set is not valid JSON"));
  EXPECT_THAT(WhyRefused({.merge = "null"}),
              HasSubstr("merge is not a JSON object"));
  EXPECT_THAT(WhyRefused({.merge = "{\"a\":"}),
              HasSubstr("merge is not valid JSON at byte 6"));
  std::string deep = "{\"a\":";
  for (int i = 0; i < 64; ++i) deep += "[";
  deep += std::string(64, ']') + "}";
  EXPECT_THAT(WhyRefused({.merge = deep}), HasSubstr("deeper than 64 levels"));
  EXPECT_THAT(WhyRefused({.delete_keys = {"a", ""}}),
              HasSubstr("delete_keys[1] has 0 bytes"));
  EXPECT_THAT(WhyRefused({.delete_keys = {std::string(513, 'a')}}),
              HasSubstr("delete_keys[0] has 513 bytes; a path has 1 to 512"));
  for (const char* path : {".a", "a.", "a..b", "."}) {
    EXPECT_THAT(WhyRefused({.delete_keys = {path}}),
                HasSubstr("has an empty name"));
  }
  EXPECT_THAT(WhyRefused({.delete_keys = std::vector<std::string>(257, "a")}),
              HasSubstr("delete_keys has 257 paths; at most 256"));
}

TEST(PayloadPatchTest, RefusesAPayloadThatBecomesTooLarge) {
  Limits limits;
  limits.max_payload_bytes = 64;
  const auto patch =
      PayloadPatch::Make({.merge = R"({"b":"0123456789"})"}, limits);
  ASSERT_TRUE(patch.ok()) << patch.status();
  // {"a":"...","b":"0123456789"} is 25 bytes and the value of a.
  const auto payload = [](size_t size) {
    return absl::StrCat(R"({"a":")", std::string(size, 'x'), R"("})");
  };
  const auto fits = patch->Apply(payload(39));
  ASSERT_TRUE(fits.ok()) << fits.status();
  EXPECT_EQ(fits->size(), 64u);
  const auto after = patch->Apply(payload(40));
  EXPECT_TRUE(absl::IsInvalidArgument(after.status())) << after.status();
  EXPECT_THAT(std::string(after.status().message()),
              HasSubstr("payload of 65 bytes; at most 64 are allowed"));
}

}  // namespace
}  // namespace vicinal
