// Token vectors in .npy files with the lengths of their documents.
#include "client/formats/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/formats/vector_reader.h"
#include "src/base/random.h"
#include "tests/client/matchers.h"
#include "tests/client/test_files.h"

namespace vicinal::client {
namespace {

using absl::StatusCode;
using testing::ElementsAre;

class TokenFileTest : public testing::Test {
 protected:
  std::string WriteTokens(const std::string& name, size_t rows, size_t dim) {
    return folder_.Write(
        name, Npy(NpyDict("<f4", absl::StrCat("(", rows, ", ", dim, ")")),
                  RawBytes(RandomFloats(rows * dim, 7))));
  }
  template <typename T>
  std::string WriteLengths(const std::string& descr,
                           const std::vector<T>& lengths) {
    return folder_.Write(
        "lengths.npy",
        Npy(NpyDict(descr, absl::StrCat("(", lengths.size(), ",)")),
            RawBytes(lengths)));
  }
  void ExpectBad(const std::string& tokens, const TokenLayout& layout,
                 const std::string& part) {
    EXPECT_THAT(TokenFile::Open(tokens, layout),
                Fails(StatusCode::kInvalidArgument, part));
  }
  NamedTokens Named(const std::string& name, size_t rows, size_t dim,
                    const std::vector<int32_t>& lengths) {
    const std::string tokens =
        WriteTokens(absl::StrCat(name, rows, ".npy"), rows, dim);
    return {name, *TokenFile::Open(
                      tokens, {.lengths_file = WriteLengths("<i4", lengths)})};
  }

  TemporaryFolder folder_;
};

TEST_F(TokenFileTest, DividesTokensByLengths) {
  const std::string tokens = WriteTokens("t.npy", 6, 2);
  const auto check = [&](const std::string& lengths) {
    const auto file = TokenFile::Open(tokens, {.lengths_file = lengths});
    ASSERT_THAT(file, IsOk());
    EXPECT_THAT(file->offsets(), ElementsAre(0, 3, 3, 6));
    EXPECT_EQ(file->dim(), 2u);
    EXPECT_EQ(file->Data(3, 6), RawBytes(RandomFloats(12, 7)).substr(24));
  };
  check(WriteLengths<int32_t>("<i4", {3, 0, 3}));
  check(WriteLengths<int64_t>("<i8", {3, 0, 3}));
  check(WriteLengths<uint32_t>("<u4", {3, 0, 3}));
  check(WriteLengths<uint64_t>("<u8", {3, 0, 3}));
}

TEST_F(TokenFileTest, DividesTokensEvenly) {
  const std::string tokens = WriteTokens("t.npy", 6, 2);
  EXPECT_THAT(TokenFile::Open(tokens, {})->offsets(), ElementsAre(0, 6));
  EXPECT_THAT(TokenFile::Open(tokens, {.tokens_each = 2})->offsets(),
              ElementsAre(0, 2, 4, 6));
  const std::string cube = folder_.Write(
      "c.npy", Npy(NpyDict("<f2", "(3, 2, 4)"), std::string(48, 'x')));
  const auto file = TokenFile::Open(cube, {});
  ASSERT_THAT(file, IsOk());
  EXPECT_THAT(file->offsets(), ElementsAre(0, 2, 4, 6));
  EXPECT_EQ(file->type(), ElementType::kFloat16);
  EXPECT_EQ(file->dim(), 4u);
}

TEST_F(TokenFileTest, RefusesLengthsThatDoNotFit) {
  const std::string tokens = WriteTokens("t.npy", 6, 2);
  const auto bad = [&](const std::string& lengths, const std::string& part) {
    ExpectBad(tokens, {.lengths_file = lengths}, part);
  };
  bad(WriteLengths<int32_t>("<i4", {3, 2}),
      "its 2 documents have 5 tokens in all, but");
  bad(WriteLengths<int32_t>("<i4", {3, 4}),
      "the documents to number 1 have 7 tokens, but");
  bad(WriteLengths<int32_t>("<i4", {3, -1, 4}), "document 1 has -1 tokens");
  bad(WriteLengths<int64_t>("<i8", {std::numeric_limits<int64_t>::max(), 6}),
      "the documents to number 0 have 9223372036854775807 tokens");
  bad(WriteLengths<float>("<f4", {3, 3}), "1-d array of int32");
  bad(tokens, "1-d array of int32");
  bad(folder_.Write("l.npy", "no"), "magic bytes");
  ExpectBad(tokens, {.tokens_each = 4}, "not divided by 4 each");
}

TEST_F(TokenFileTest, RefusesOtherArraysAsTokens) {
  const auto bad = [&](const std::string& descr, const std::string& shape,
                       size_t bytes, const std::string& part) {
    ExpectBad(folder_.Write(
                  "b.npy", Npy(NpyDict(descr, shape), std::string(bytes, 'x'))),
              {}, part);
  };
  bad("<f4", "(3,)", 12, "holds a 1-d array");
  bad("<f8", "(1, 3)", 24, "float32, float16 or int8");
  bad("|u1", "(1, 3)", 3, "float32, float16 or int8");
  bad("<f4", "(0, 3)", 0, "has no tokens");
  bad("<f4", "(3, 0)", 0, "dimension 0");
  bad("<f4", "(1, 1, 1, 3)", 12, "array of 4 dimensions");
  bad("<f4", "(2, 2, 3)", 44, "its shape (2, 2, 3) needs 48 bytes");
  bad("<f4", "(4294967296, 4294967296, 4)", 16, "more than 2^64 bytes");
}

TEST_F(TokenFileTest, JoinsDocumentsWithRows) {
  std::vector<NamedTokens> files;
  files.push_back(Named("a", 6, 2, {3, 0, 3}));
  files.push_back(Named("b", 3, 1, {1, 1, 1}));
  const std::string rows = folder_.Write(
      "rows.jsonl",
      "{\"id\": 7, \"vector\": [1]}\n{\"id\": 8, \"vector\": [2]}\n"
      "{\"id\": 9, \"vector\": [3]}\n");
  auto reader = JoinTokens(*OpenVectorFile(rows), std::move(files));
  ASSERT_THAT(reader, IsOk());
  VectorBlock block;
  ASSERT_EQ(*(*reader)->Read({.max_rows = 2}, &block), true);
  ASSERT_EQ(block.num_rows, 2u);
  EXPECT_EQ(block.ids[1], PointId(8));
  ASSERT_EQ(block.multi.size(), 2u);
  EXPECT_EQ(block.multi[0].name, "a");
  EXPECT_THAT(block.multi[0].offsets, ElementsAre(0, 3, 3));
  EXPECT_THAT(block.multi[0].present, ElementsAre(0, 1));
  EXPECT_THAT(block.multi[1].offsets, ElementsAre(0, 1, 2));
  EXPECT_THAT(block.multi[1].present, ElementsAre());
  ASSERT_EQ(*(*reader)->Read({.max_rows = 2}, &block), true);
  EXPECT_EQ(block.first_row, 2u);
  EXPECT_EQ(block.multi[0].data, RawBytes(RandomFloats(12, 7)).substr(24));
  EXPECT_EQ(*(*reader)->Read({.max_rows = 2}, &block), false);
  EXPECT_EQ((*reader)->progress(), 1);
}

TEST_F(TokenFileTest, CutsBlocksByBytesOfTokens) {
  std::vector<NamedTokens> files;
  files.push_back(Named("a", 40, 8, {1, 1, 30, 1, 1, 1, 5}));
  auto reader = *JoinTokens(nullptr, std::move(files));
  std::vector<size_t> sizes;
  VectorBlock block;
  while (*reader->Read({.max_rows = 100, .max_bytes = 3 * 32}, &block)) {
    sizes.push_back(block.num_rows);
  }
  EXPECT_THAT(sizes, ElementsAre(3, 3, 1));
  EXPECT_EQ(reader->num_rows(), std::nullopt);
  EXPECT_TRUE(reader->fields().empty());
}

TEST_F(TokenFileTest, RefusesToJoinWhatDoesNotFit) {
  const auto join = [&](const std::string& rows,
                        std::vector<NamedTokens> files) -> absl::Status {
    std::unique_ptr<VectorReader> base;
    if (!rows.empty()) base = *OpenVectorFile(folder_.Write("r.jsonl", rows));
    auto reader = JoinTokens(std::move(base), std::move(files));
    if (!reader.ok()) return reader.status();
    VectorBlock block;
    while (true) {
      const auto more = (*reader)->Read({.max_rows = 1}, &block);
      if (!more.ok()) return more.status();
      if (!*more) return absl::OkStatus();
    }
  };
  const auto files = [&](const std::string& second,
                         const std::vector<int32_t>& lengths) {
    std::vector<NamedTokens> out;
    out.push_back(Named("a", 4, 2, {3, 1}));
    if (!second.empty()) out.push_back(Named(second, 3, 2, lengths));
    return out;
  };
  const std::string row = "{\"vector\": [1]}\n";
  EXPECT_THAT(join(row + row, files("", {})), IsOk());
  EXPECT_THAT(join("", files("b", {2, 1})), IsOk());
  EXPECT_THAT(join(row, files("", {})),
              Fails(StatusCode::kInvalidArgument,
                    "has 2 documents, but there are only 1 rows"));
  EXPECT_THAT(join(row + row + row, files("", {})),
              Fails(StatusCode::kInvalidArgument,
                    "has 2 documents, but there are more than 2 rows"));
  EXPECT_THAT(join("", files("b", {1, 1, 1})),
              Fails(StatusCode::kInvalidArgument, "has 3 documents, but"));
  EXPECT_THAT(join("", files("a", {2, 1})),
              Fails(StatusCode::kInvalidArgument, "give it once"));
  const std::string twice = "{\"multi\": {\"a\": [[1, 2]]}}\n";
  EXPECT_THAT(join(twice + twice, files("", {})),
              Fails(StatusCode::kInvalidArgument, "give it once"));
  std::vector<NamedTokens> one = files("", {});
  const auto npy = folder_.Write(
      "r.npy", Npy(NpyDict("<f4", "(3, 1)"), std::string(12, '\0')));
  EXPECT_THAT(JoinTokens(*OpenVectorFile(npy), std::move(one)),
              Fails(StatusCode::kInvalidArgument, "there are 3 rows"));
}

TEST_F(TokenFileTest, SurvivesDamagedFiles) {
  constexpr uint64_t kSeed = 20'261'128;
  std::cout << "seed " << kSeed << "\n";
  Random random(kSeed);
  const std::string tokens =
      Npy(NpyDict("<f4", "(6, 2)"), RawBytes(RandomFloats(12, 7)));
  const std::string lengths =
      Npy(NpyDict("<i8", "(3,)"), RawBytes(std::vector<int64_t>{3, 0, 3}));
  for (int i = 0; i < 2'000; ++i) {
    std::string bytes[] = {tokens, lengths};
    std::string& damaged = bytes[random.Uniform(2)];
    for (uint64_t n = random.Uniform(4) + 1; n > 0; --n) {
      damaged[random.Uniform(damaged.size())] =
          static_cast<char>(random.Next());
    }
    if (random.Uniform(4) == 0) damaged.resize(random.Uniform(damaged.size()));
    const auto file =
        TokenFile::Open(folder_.Write("t.npy", bytes[0]),
                        {.lengths_file = folder_.Write("l.npy", bytes[1])});
    if (!file.ok()) continue;
    uint64_t sum = 0;
    for (size_t d = 0; d < file->num_documents(); ++d) {
      ASSERT_LE(file->offsets()[d], file->offsets()[d + 1]);
      sum += file->Data(file->offsets()[d], file->offsets()[d + 1]).size();
    }
    ASSERT_EQ(sum, file->num_tokens() * file->token_bytes());
  }
}

}  // namespace
}  // namespace vicinal::client
