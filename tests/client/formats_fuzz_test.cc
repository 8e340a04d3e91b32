// Damaged files never crash a reader and never make it read beyond its file.
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "client/formats/ground_truth.h"
#include "client/formats/vector_reader.h"
#include "src/base/random.h"
#include "tests/client/test_files.h"

namespace vicinal::client {
namespace {

constexpr uint64_t kSeed = 20'261'124;
constexpr int kRounds = 1'500;

std::string Mutate(std::string bytes, Random& random) {
  const uint64_t kind = random.Uniform(10);
  if (kind == 0) return bytes.substr(0, random.Uniform(bytes.size() + 1));
  if (kind == 1) {
    return bytes + std::string(random.Uniform(40) + 1,
                               static_cast<char>(random.Next()));
  }
  const uint64_t changes = 1 + random.Uniform(6);
  for (uint64_t i = 0; i < changes && !bytes.empty(); ++i) {
    // Headers are where the danger is.
    const size_t area = random.Uniform(3) > 0
                            ? std::min<size_t>(bytes.size(), 80)
                            : bytes.size();
    const size_t at = random.Uniform(area);
    switch (random.Uniform(4)) {
      case 0:
        bytes[at] = static_cast<char>(random.Next());
        break;
      case 1:
        bytes[at] ^= static_cast<char>(1 << random.Uniform(8));
        break;
      case 2:
        bytes[at] = static_cast<char>(random.Uniform(2) * 0xFF);
        break;
      default:
        bytes.erase(at, 1 + random.Uniform(4));
    }
  }
  return bytes;
}

// Reads to the end or the first error.
void Drain(const std::string& path) {
  auto reader = OpenVectorFile(path);
  if (!reader.ok()) {
    EXPECT_FALSE(reader.status().message().empty());
    return;
  }
  size_t bytes = 0;
  for (int i = 0; i < 10'000; ++i) {
    VectorBlock block;
    const auto more =
        (*reader)->Read({.max_rows = 7, .max_bytes = 1 << 16}, &block);
    if (!more.ok() || !*more) return;
    for (const SparseColumnData& column : block.sparse) {
      ASSERT_EQ(column.indptr.size(), block.num_rows + 1);
      ASSERT_EQ(column.indptr.back(), column.indices.size());
      ASSERT_EQ(column.values.size(), column.indices.size());
      for (size_t row = 0; row < block.num_rows; ++row) {
        for (size_t e = column.indptr[row] + 1; e < column.indptr[row + 1];
             ++e) {
          ASSERT_LT(column.indices[e - 1], column.indices[e]);
        }
      }
      bytes += column.indices.size();
    }
    for (const MultiColumnData& column : block.multi) {
      ASSERT_EQ(column.offsets.size(), block.num_rows + 1);
      ASSERT_TRUE(std::is_sorted(column.offsets.begin(), column.offsets.end()));
      ASSERT_EQ(column.offsets.back() * column.dim * sizeof(float),
                column.data.size());
      bytes += column.data.size();
    }
    for (size_t c = 0; c < block.columns.size(); ++c) {
      const auto& column = block.columns[c];
      const size_t rows =
          column.present.empty() ? block.num_rows : column.present.size();
      const VectorField& field = (*reader)->fields()[c];
      if (column.data.empty()) continue;
      ASSERT_EQ(column.data.size(), rows * field.dim * ElementSize(field.type));
      bytes += column.data.size();
    }
  }
  FAIL() << path << " has no end after " << bytes << " bytes";
}

void Fuzz(const std::string& name, const std::string& seed_file,
          int rounds = kRounds) {
  std::cout << "seed " << kSeed << "\n";
  const TemporaryFolder folder;
  Random random(kSeed);
  for (int i = 0; i < rounds && !testing::Test::HasFailure(); ++i) {
    Drain(folder.Write(name, Mutate(seed_file, random)));
  }
}

TEST(FormatsFuzzTest, SurvivesDamagedVecs) {
  Fuzz("a.fvecs", Vecs(RandomFloats(60, 1), 6));
  Fuzz("a.bvecs", Vecs(std::vector<uint8_t>(60, 3), 6));
}

TEST(FormatsFuzzTest, SurvivesDamagedNpy) {
  Fuzz("a.npy", Npy(NpyDict("<f4", "(20, 3)"), RawBytes(RandomFloats(60, 2))));
  Fuzz("a.npy", Npy(NpyDict("<f8", "(10, 3)"), std::string(240, 'z'), 2));
}

TEST(FormatsFuzzTest, SurvivesDamagedIdx) {
  const std::string idx = Idx(8, {30, 2, 3}, std::string(180, 'q'));
  Fuzz("a-ubyte", idx);
  const TemporaryFolder folder;
  gzFile file = gzopen(folder.File("z").c_str(), "wb");
  gzwrite(file, idx.data(), static_cast<unsigned>(idx.size()));
  gzclose(file);
  Fuzz("a-ubyte.gz", ReadAll(folder.File("z")));
}

TEST(FormatsFuzzTest, SurvivesDamagedJsonLines) {
  std::string text;
  for (int i = 0; i < 6; ++i) {
    text += "{\"id\": \"k\\u00e9" + std::to_string(i) +
            "\", \"vectors\": {\"a\": [1.5, -2e3], \"b\": [3]}, \"payload\": "
            "{\"t\": [true, null, {\"x\": \"\\ud83d\\ude00\"}]}}\n";
  }
  Fuzz("a.jsonl", text);
}

TEST(FormatsFuzzTest, SurvivesDamagedSparseJsonLines) {
  std::string text;
  for (int i = 0; i < 6; ++i) {
    text +=
        "{\"vector\": [1, 2], \"sparse\": {\"a\": {\"indices\": [7, 3], "
        "\"values\": [1.5, -2]}, \"b\": {\"12\": 0.5, \"4\": 1}}}\n";
  }
  Fuzz("a.jsonl", text);
}

TEST(FormatsFuzzTest, SurvivesDamagedMultiVectors) {
  std::string text;
  for (int i = 0; i < 6; ++i) {
    text +=
        "{\"vector\": [1, 2], \"multi\": {\"a\": [[7, 3], [1, 2]], \"b\": "
        "[[4], [1.5], [-2]], \"c\": []}}\n";
  }
  Fuzz("a.jsonl", text);
}

// Entries of a row that have the same column and no number as value, too.
TEST(FormatsFuzzTest, SurvivesDamagedCsr) {
  std::string csr =
      RawBytes(std::vector<int64_t>{4, 100, 40, 0, 20, 20, 38, 40});
  std::vector<int32_t> columns;
  for (int i = 0; i < 40; ++i) columns.push_back((i * 7) % 20);
  csr += RawBytes(columns) + RawBytes(RandomFloats(40, 3));
  Fuzz("a.csr", csr);
  csr.replace(csr.size() - 160, 160, std::string(160, '\xff'));
  csr.replace(csr.size() - 320, 80, std::string(80, '\0'));
  Fuzz("a.csr", csr);
}

TEST(FormatsFuzzTest, SurvivesDamagedGroundTruth) {
  const TemporaryFolder folder;
  Random random(kSeed);
  const std::string ivecs = Vecs(std::vector<int32_t>(60, 5), 6);
  const std::string npy =
      Npy(NpyDict("<i8", "(4, 3)"), RawBytes(std::vector<int64_t>(12, 5)));
  for (int i = 0; i < kRounds; ++i) {
    for (const auto& [name, seed_file] :
         {std::pair{"t.ivecs", ivecs}, std::pair{"t.npy", npy}}) {
      const auto truth =
          ReadGroundTruth(folder.Write(name, Mutate(seed_file, random)));
      if (truth.ok()) {
        ASSERT_EQ(truth->rows.size(), truth->k * truth->num_queries);
      }
    }
  }
}

}  // namespace
}  // namespace vicinal::client
