// JSON lines: points with ids, vectors and payloads.
#include "client/formats/jsonl.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/formats/json_scanner.h"
#include "client/formats/vector_reader.h"
#include "tests/client/matchers.h"
#include "tests/client/test_files.h"

namespace vicinal::client {
namespace {

using absl::StatusCode;

class JsonlTest : public testing::Test {
 protected:
  absl::StatusOr<VectorBlock> Read(const std::string& text,
                                   OpenOptions options = {}) {
    auto reader =
        OpenVectorFile(folder_.Write("a.jsonl", text), std::move(options));
    if (!reader.ok()) return reader.status();
    fields_ = (*reader)->fields();
    VectorBlock all;
    all.columns.resize(fields_.size());
    const auto more = (*reader)->Read({.max_rows = 1'000'000}, &all);
    if (!more.ok()) return more.status();
    return all;
  }
  void ExpectBad(const std::string& text, const std::string& part) {
    EXPECT_THAT(Read(text), Fails(StatusCode::kInvalidArgument, part)) << text;
  }

  TemporaryFolder folder_;
  std::vector<VectorField> fields_;
};

TEST_F(JsonlTest, ReadsIdsVectorsAndPayloads) {
  const auto block = Read(
      "{\"id\": 7, \"vector\": [1, 2.5, -3e2], \"payload\": {\"a\": [1, "
      "\"x\"]}}\n"
      "\n"
      "{\"vector\":[4,5,6],\"id\":18446744073709551615,\"other\":{\"b\":1}}\r\n"
      "{\"id\": 9, \"payload\": null, \"vector\": [7, 8, 9]}");
  ASSERT_THAT(block, IsOk());
  EXPECT_EQ(block->num_rows, 3u);
  EXPECT_EQ(fields_[0].dim, 3u);
  EXPECT_EQ(block->columns[0].data,
            RawBytes(std::vector<float>{1, 2.5F, -300, 4, 5, 6, 7, 8, 9}));
  EXPECT_TRUE(block->columns[0].present.empty());
  EXPECT_EQ(block->ids[1], PointId(18446744073709551615ULL));
  EXPECT_EQ(block->payloads[0], "{\"a\": [1, \"x\"]}");
  EXPECT_EQ(block->payloads[1], "");
}

TEST_F(JsonlTest, ReadsIdsOfAllKinds) {
  const auto block = Read(
      "{\"id\": \"caf\\u00e9 \\ud83d\\ude00\", \"vector\": [1]}\n"
      "{\"id\": {\"uuid\": \"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"}, "
      "\"vector\": [1]}\n");
  ASSERT_THAT(block, IsOk());
  EXPECT_EQ(block->ids[0].string(), "caf\xc3\xa9 \xf0\x9f\x98\x80");
  EXPECT_TRUE(block->ids[1].is_uuid());
  OpenOptions uuids;
  uuids.jsonl.uuid_strings = true;
  const auto strings = Read(
      "{\"id\": \"6ba7b810-9dad-11d1-80b4-00c04fd430c8\", \"vector\": [1]}",
      uuids);
  ASSERT_THAT(strings, IsOk());
  EXPECT_EQ(strings->ids[0], block->ids[1]);
}

TEST_F(JsonlTest, ReadsNamedVectorsThatNotAllRowsHave) {
  const auto block = Read(
      "{\"vectors\": {\"a\": [1, 2], \"b\": [3]}}\n"
      "{\"vectors\": {\"b\": [4]}}\n"
      "{\"vectors\": {\"a\": [5, 6]}}\n");
  ASSERT_THAT(block, IsOk());
  ASSERT_EQ(fields_.size(), 2u);
  EXPECT_EQ(block->columns[0].data, RawBytes(std::vector<float>{1, 2, 5, 6}));
  EXPECT_EQ(block->columns[0].present, (std::vector<uint32_t>{0, 2}));
  EXPECT_EQ(block->columns[1].present, (std::vector<uint32_t>{0, 1}));
  EXPECT_TRUE(block->ids.empty());
}

TEST_F(JsonlTest, ReadsSparseVectorsInBothForms) {
  const auto block = Read(
      "{\"vector\": [1]}\n"
      "{\"sparse\": {\"s\": {\"indices\": [9, 4294967295, 2], "
      "\"values\": [1, 0.5, -3]}}}\n"
      "{\"sparse\": {\"t\": {\"7\": 2, \"3\": 1e-3}, \"s\": {}}}\n"
      "{\"vector\": [2]}\n");
  ASSERT_THAT(block, IsOk());
  ASSERT_EQ(block->sparse.size(), 2u);
  EXPECT_EQ(block->sparse[0].name, "s");
  EXPECT_THAT(block->sparse[0].indptr, testing::ElementsAre(0, 0, 3, 3, 3));
  EXPECT_THAT(block->sparse[0].indices, testing::ElementsAre(2, 9, 4294967295));
  EXPECT_THAT(block->sparse[0].values, testing::ElementsAre(-3, 1, 0.5));
  EXPECT_EQ(block->sparse[1].name, "t");
  EXPECT_THAT(block->sparse[1].indptr, testing::ElementsAre(0, 0, 0, 2, 2));
  EXPECT_THAT(block->sparse[1].indices, testing::ElementsAre(3, 7));
}

TEST_F(JsonlTest, RefusesBadSparseVectors) {
  const auto expect_bad = [&](const std::string& vector,
                              const std::string& part) {
    ExpectBad("{\"sparse\": {\"s\": " + vector + "}}", part);
  };
  expect_bad("{\"indices\": [1, 2], \"values\": [1]}",
             "as many values as indices, found 1 and 2");
  expect_bad("{\"indices\": [1, 1], \"values\": [1, 2]}", "found 1 twice");
  expect_bad("{\"1\": 1, \"01\": 2}", "found 1 twice");
  expect_bad("{\"indices\": [4294967296], \"values\": [1]}",
             "found 4294967296");
  expect_bad("{\"indices\": [-1], \"values\": [1]}", "found -1");
  expect_bad("{\"indices\": [1.5], \"values\": [1]}", "found 1.5");
  expect_bad("{\"indices\": 7, \"values\": [1]}", "an array of dimensions");
  expect_bad("{\"word\": 1}", "found word");
  expect_bad("{\"1\": \"one\"}", "expected a number");
  expect_bad("{\"1\": [1]}", "expected a number");
  expect_bad("[1, 2]", "expected");
  expect_bad("{\"1\": 1", "expected");
}

TEST_F(JsonlTest, ReadsMultiVectors) {
  const auto block = Read(
      "{\"vector\": [1]}\n"
      "{\"multi\": {\"a\": [[1, 2], [3, 4]], \"b\": []}}\n"
      "{\"multi\": {\"b\": [[5]]}, \"vector\": [2]}\n"
      "{\"multi\": {\"a\": [ [5,6] ]}}\n"
      "{\"vector\": [3]}\n");
  ASSERT_THAT(block, IsOk());
  ASSERT_EQ(block->multi.size(), 2u);
  const MultiColumnData& a = block->multi[0];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dim, 2u);
  EXPECT_THAT(a.offsets, testing::ElementsAre(0, 0, 2, 2, 3, 3));
  EXPECT_EQ(a.data, RawBytes(std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_THAT(a.present, testing::ElementsAre());
  const MultiColumnData& b = block->multi[1];
  EXPECT_EQ(b.dim, 1u);
  EXPECT_THAT(b.offsets, testing::ElementsAre(0, 0, 0, 1, 1, 1));
  EXPECT_THAT(b.present, testing::ElementsAre(1, 2)) << "one has no token";
}

TEST_F(JsonlTest, RefusesBadMultiVectors) {
  const auto expect_bad = [&](const std::string& vector,
                              const std::string& part) {
    ExpectBad("{\"multi\": {\"a\": " + vector + "}}", part);
  };
  expect_bad("[1, 2]", "expected an array of arrays");
  expect_bad("7", "expected an array of arrays");
  expect_bad("[[1], 2]", "expected an array of arrays");
  expect_bad("[[1, 2], [3]]",
             "found token 1 of \"a\" with 1 elements and others with 2");
  expect_bad("[[1], []]", "found token 1 of \"a\" with 0 elements");
  expect_bad("[[]]", "found token 0 of \"a\" with 0 elements");
  expect_bad("[[1], [2]", "expected");
  expect_bad("[[1, \"x\"]]", "expected");
  ExpectBad("{\"multi\": {\"a\": [[1]], \"a\": [[2]]}}", "found two");
  ExpectBad("{\"multi\": [[1]]}", "expected '{'");
  ExpectBad(
      "{\"multi\": {\"a\": [[1]]}}\n{\"multi\": {\"a\": [[1, 2]]}}",
      "line 2: tokens of multi-vector \"a\" have 2 elements; they must have "
      "1");
  OpenOptions options;
  options.expected_multi = {{.name = "a", .dim = 4}};
  EXPECT_THAT(Read("{\"multi\": {\"b\": [[1]]}}", options),
              Fails(StatusCode::kInvalidArgument, "named \"b\""));
  EXPECT_THAT(Read("{\"multi\": {\"a\": [[1]]}}", options),
              Fails(StatusCode::kInvalidArgument, "they must have 4"));
}

TEST_F(JsonlTest, TakesFieldNamesFromTheOptions) {
  OpenOptions options;
  options.jsonl = {.id = "key", .vector = "emb", .payload = "meta"};
  const auto block =
      Read("{\"key\": 1, \"emb\": [2], \"meta\": {}, \"id\": \"no\"}", options);
  ASSERT_THAT(block, IsOk());
  EXPECT_EQ(block->ids[0], PointId(1));
  EXPECT_EQ(block->payloads[0], "{}");
}

TEST_F(JsonlTest, KeepsEachFloatExactly) {
  const auto values = RandomFloats(200, 21);
  std::string line = "{\"vector\": [";
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) line += ",";
    AppendFloatJson(values[i], &line);
  }
  const auto block = Read(line + "]}");
  ASSERT_THAT(block, IsOk());
  EXPECT_EQ(block->columns[0].data, RawBytes(values));
}

TEST_F(JsonlTest, TurnsNumbersBeyondFloat32IntoInfinityAndTinyOnesIntoZero) {
  const auto block = Read("{\"vector\": [1e39, -1e999, 1e-60, 1e-40]}");
  ASSERT_THAT(block, IsOk());
  float values[4];
  std::memcpy(values, block->columns[0].data.data(), sizeof(values));
  EXPECT_TRUE(std::isinf(values[0]) && std::isinf(values[1]));
  EXPECT_EQ(values[2], 0);
  EXPECT_EQ(values[3], 1e-40F);
}

TEST_F(JsonlTest, CutsBlocksByRowsAndBytesAlike) {
  std::string text;
  for (int i = 0; i < 50; ++i) {
    absl::StrAppend(&text, "{\"id\": ", i,
                    ", \"vector\": [1, 2], \"payload\": {\"p\": \"",
                    std::string(i, 'x'), "\"}}\n");
  }
  const auto path = folder_.Write("a.jsonl", text);
  std::vector<size_t> sizes[2];
  for (auto& run : sizes) {
    auto reader = *OpenVectorFile(path);
    VectorBlock block;
    while (*reader->Read({.max_rows = 20, .max_bytes = 300}, &block)) {
      run.push_back(block.num_rows);
    }
  }
  EXPECT_EQ(sizes[0], sizes[1]);
  EXPECT_GT(sizes[0].size(), 3u);
}

TEST_F(JsonlTest, NamesLineAndByteOfAnError) {
  ExpectBad("", "has no row");
  ExpectBad("\n \n", "has no row");
  ExpectBad("[1, 2]", "line 1: byte 0: expected '{'");
  ExpectBad("{\"vector\": [1, 2]}\n{\"vector\": [1, 2]",
            "line 2: byte 17: expected '}', but the line ends");
  ExpectBad("{\"vector\": [1, x]}", "line 1: byte 15: expected a value");
  ExpectBad("{\"vector\": [01]}", "expected ']' instead of \"1]}\"");
  ExpectBad("{\"vector\": [1.]}", "expected digits after '.'");
  ExpectBad("{\"vector\": [NaN]}", "expected a value");
  ExpectBad("{\"vector\": [1]} {}", "expected the end of the line");
  ExpectBad("{\"vector\": []}", "dimension 0");
  ExpectBad("{\"id\": 1}", "has no \"vector\" and no \"vectors\"");
  ExpectBad("{\"id\": -1, \"vector\": [1]}", "expected an id");
  ExpectBad("{\"id\": 1.5, \"vector\": [1]}", "expected an id");
  ExpectBad("{\"id\": \"\", \"vector\": [1]}", "The string id is empty");
  ExpectBad("{\"id\": \"" + std::string(513, 'x') + "\", \"vector\": [1]}",
            "513");
  ExpectBad("{\"id\": {\"uuid\": \"1\"}, \"vector\": [1]}", "not a UUID");
  ExpectBad("{\"id\": \"\\ud800\", \"vector\": [1]}", "surrogate");
  ExpectBad("{\"vector\": [1], \"payload\": [1]}",
            "expected an object or null as payload");
  ExpectBad("{\"vector\": [1], \"payload\": {\"a\": tru}}", "expected a value");
  ExpectBad("{\"vector\": [1], \"vector\": [1]}", "found two");
  ExpectBad("{\"vector\": [1]}\n{\"vector\": [1, 2]}",
            "line 2: vector \"\" has 2 elements; it must have 1");
  ExpectBad("{\"vectors\": {\"a\": [1]}}\n{\"vectors\": {\"z\": [1]}}",
            "line 2: has a vector named \"z\"");
  ExpectBad("{\"id\": 1, \"vector\": [1]}\n{\"vector\": [1]}",
            "line 2: has no \"id\", but row 0 has one");
}

TEST_F(JsonlTest, RefusesDeepNestingWithoutRecursingForEver) {
  const std::string deep(100'000, '[');
  ExpectBad("{\"vector\": [1], \"payload\": {\"a\": " + deep + "}}",
            "at most 128 levels");
}

TEST_F(JsonlTest, RefusesAVectorUnlikeTheCollections) {
  OpenOptions options;
  options.expected_fields = {{.name = "", .dim = 4}};
  EXPECT_THAT(Read("{\"vector\": [1, 2, 3]}", options),
              Fails(StatusCode::kInvalidArgument, "it must have 4"));
}

TEST_F(JsonlTest, WritesStringsThatItReads) {
  std::string text;
  AppendJsonString("a\"b\\c\n\x01 \xc3\xa9", &text);
  JsonScanner scan(text);
  std::string back;
  ASSERT_TRUE(scan.String(&back));
  EXPECT_EQ(back, "a\"b\\c\n\x01 \xc3\xa9");
}

}  // namespace
}  // namespace vicinal::client
