// Every table of code kernels gives the same bits as the scalar one, and the
// scalar one what the layout says.
#include "src/distance/code_kernels.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/half.h"
#include "src/base/random.h"

namespace vicinal {
namespace {

using ::testing::ElementsAre;

std::vector<const CodeKernels*> Fast() {
  std::vector<const CodeKernels*> out;
  for (const char* name : {"avx2", "avx512", "avx512vbmi"}) {
    if (const CodeKernels* table = FindCodeKernels(name)) out.push_back(table);
  }
  return out;
}

// Bytes that end at a page which may not be read.
class Guarded {
 public:
  explicit Guarded(size_t size) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    bytes_ = (size + page - 1) / page * page;
    void* map = mmap(nullptr, bytes_ + page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    base_ = static_cast<uint8_t*>(map);
    mprotect(base_ + bytes_, page, PROT_NONE);
    bytes_ += page;
    data_ = base_ + bytes_ - page - size;
  }
  ~Guarded() { munmap(base_, bytes_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  uint8_t* data() const { return data_; }

 private:
  uint8_t* base_;
  uint8_t* data_;
  size_t bytes_;
};

struct Case {
  CodeLayout layout;
  std::vector<int8_t> values;
  CodeQuery query;
};

// Segments of the given (bits, dims), everything else random.
Case MakeCase(const std::vector<std::pair<uint32_t, uint32_t>>& segments,
              bool levels, bool halves, Random* random) {
  Case out;
  uint32_t payload = 0, dims = 0;
  for (const auto& [bits, num_dims] : segments) {
    CodeSegment& s = out.layout.segments[out.layout.num_segments++];
    s = {.bits = bits,
         .num_dims = num_dims,
         .payload_offset = payload,
         .query_offset = dims,
         .has_levels = levels && (bits == 2 || bits == 4)};
    for (uint8_t& level : s.levels) level = random->Uniform(128);
    payload += CodePayloadBytes(num_dims, bits);
    dims += num_dims;
  }
  // A second digit behind every other segment of eight bits.
  for (CodeSegment& s : out.layout.segments) {
    if (s.bits != 8 || random->Uniform(2) == 0) continue;
    s.low_offset = dims;
    dims += s.num_dims;
  }
  out.layout.additive_offset = (payload + 3) / 4 * 4;
  out.layout.rescale_is_f16 = halves;
  out.layout.record_bytes = (out.layout.additive_offset + 4 +
                             segments.size() * (halves ? 2 : 4) + 15) /
                            16 * 16;
  for (uint32_t i = 0; i < dims; ++i) {
    out.values.push_back(random->Uniform(8) == 0
                             ? (random->Uniform(2) == 0 ? 127 : -127)
                             : static_cast<int>(random->Uniform(255)) - 127);
  }
  for (const CodeSegment& s : out.layout.segments) {
    if (s.bits != 1) continue;
    for (uint32_t i = s.query_offset; i < s.query_offset + s.num_dims; ++i) {
      out.values[i] =
          std::clamp<int>(out.values[i], -kOneBitLimit, kOneBitLimit);
    }
  }
  out.query.values = out.values.data();
  for (size_t s = 0; s < segments.size(); ++s) {
    out.query.scale[s] = static_cast<float>(random->Gaussian());
    out.query.offset[s] = static_cast<float>(random->Gaussian() * 50);
    out.query.low_scale[s] = out.query.scale[s] / 254;
    out.query.least[s] = static_cast<float>(-std::abs(random->Gaussian()));
  }
  out.query.additive = static_cast<float>(random->Gaussian() * 100);
  out.query.additive_scale = static_cast<float>(random->Gaussian());
  out.query.look_after = random->Uniform(segments.size());
  return out;
}

void FillRecords(const CodeLayout& layout, size_t stride, size_t n,
                 uint8_t* base, Random* random) {
  for (size_t i = 0; i < n; ++i) {
    uint8_t* record = base + i * stride;
    for (size_t b = 0; b < layout.record_bytes; ++b) {
      record[b] = random->Uniform(5) == 0 ? 255 : random->Next();
    }
    const auto additive = static_cast<float>(random->Gaussian() * 10);
    std::memcpy(record + layout.additive_offset, &additive, 4);
    for (size_t s = 0; s < layout.num_segments; ++s) {
      // Among them zero, a denormal and the largest half.
      const float picks[] = {0.0f, 0x1p-20f, 65'504.0f,
                             static_cast<float>(std::abs(random->Gaussian()))};
      const float rescale = picks[random->Uniform(4)];
      uint8_t* at = record + layout.additive_offset + 4;
      if (layout.rescale_is_f16) {
        const uint16_t half = FloatToHalf(rescale);
        std::memcpy(at + 2 * s, &half, 2);
      } else {
        std::memcpy(at + 4 * s, &rescale, 4);
      }
    }
  }
}

void ExpectSameBits(const std::vector<float>& a, const std::vector<float>& b,
                    const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0)
      << what;
}

void ExpectTablesAgree(const Case& c, size_t n, size_t extra_stride,
                       Random* random) {
  const size_t stride = c.layout.record_bytes + extra_stride;
  const size_t size = (n - 1) * stride + c.layout.record_bytes;
  const Guarded memory(size);
  FillRecords(c.layout, stride, n, memory.data(), random);
  std::vector<uint32_t> rows(n);
  for (uint32_t& row : rows) row = random->Uniform(n);
  const CodeKernels& scalar = *FindCodeKernels("scalar");
  std::vector<float> scanned(n), gathered(n);
  scalar.scan(c.layout, c.query, memory.data(), stride, n, scanned.data());
  scalar.gather(c.layout, c.query, memory.data(), stride, rows.data(), n,
                gathered.data());
  // The same records, packed closely, in blocks.
  std::vector<uint8_t> close(n * c.layout.record_bytes);
  for (size_t i = 0; i < n; ++i) {
    std::memcpy(&close[i * c.layout.record_bytes], memory.data() + i * stride,
                c.layout.record_bytes);
  }
  const size_t num_blocks = (n + kCodeBlockRows - 1) / kCodeBlockRows;
  const Guarded blocks(num_blocks * CodeBlockBytes(c.layout));
  for (size_t b = 0; b < num_blocks; ++b) {
    PackCodeBlock(c.layout, &close[b * kCodeBlockRows * c.layout.record_bytes],
                  std::min(kCodeBlockRows, n - b * kCodeBlockRows),
                  blocks.data() + b * CodeBlockBytes(c.layout));
  }
  const auto expect_blocks_agree_for = [&](const CodeKernels& table,
                                           const CodeQuery& query) {
    std::vector<float> out(num_blocks * kCodeBlockRows);
    const float none = std::numeric_limits<float>::infinity();
    table.scan_blocks(c.layout, query, blocks.data(), num_blocks, none,
                      out.data());
    out.resize(n);
    ExpectSameBits(out, scanned, std::string(table.name) + " scan_blocks");
    // Blocks are left together, whatever the instruction set.
    out.resize(num_blocks * kCodeBlockRows);
    std::vector<float> expected(out.size());
    scalar.scan_blocks(c.layout, c.query, blocks.data(), num_blocks, scanned[0],
                       expected.data());
    table.scan_blocks(c.layout, query, blocks.data(), num_blocks, scanned[0],
                      out.data());
    ExpectSameBits(out, expected, std::string(table.name) + " with a limit");
    for (size_t i = 0; i < n; ++i) {
      ASSERT_TRUE(expected[i] == scanned[i] || std::isinf(expected[i]));
    }
  };
  const auto expect_blocks_agree = [&](const CodeKernels& table) {
    expect_blocks_agree_for(table, c.query);
    if (table.sum_fours == nullptr) return;
    const Guarded fours(CodeFoursBytes(c.layout));
    table.sum_fours(c.layout, c.values.data(),
                    reinterpret_cast<int8_t*>(fours.data()));
    CodeQuery query = c.query;
    query.fours = reinterpret_cast<const int8_t*>(fours.data());
    expect_blocks_agree_for(table, query);
  };
  expect_blocks_agree(scalar);
  for (const CodeKernels* table : Fast()) {
    expect_blocks_agree(*table);
    std::vector<float> out(n);
    table->scan(c.layout, c.query, memory.data(), stride, n, out.data());
    ExpectSameBits(out, scanned, std::string(table->name) + " scan");
    table->gather(c.layout, c.query, memory.data(), stride, rows.data(), n,
                  out.data());
    ExpectSameBits(out, gathered, std::string(table->name) + " gather");
  }
}

TEST(CodeKernelsTest, TablesAgreeForEveryWidthAndLength) {
  Random random(1);
  for (const uint32_t bits : {1u, 2u, 4u, 8u}) {
    for (uint32_t dims = 16; dims <= 1040; dims += dims < 300 ? 16 : 112) {
      for (const bool levels : {false, true}) {
        const Case c = MakeCase({{bits, dims}}, levels, bits != 8, &random);
        ExpectTablesAgree(c, 1 + random.Uniform(40), random.Uniform(7),
                          &random);
      }
    }
  }
}

TEST(CodeKernelsTest, TablesAgreeForEveryNumberOfSegments) {
  Random random(2);
  for (size_t count = 1; count <= kMaxCodeSegments; ++count) {
    for (int round = 0; round < 20; ++round) {
      std::vector<std::pair<uint32_t, uint32_t>> segments;
      for (size_t s = 0; s < count; ++s) {
        segments.emplace_back(1u << random.Uniform(4),
                              16 * (1 + random.Uniform(12)));
      }
      const Case c =
          MakeCase(segments, round % 2 == 0, round % 3 != 0, &random);
      ExpectTablesAgree(c, 1 + random.Uniform(13), random.Uniform(33), &random);
    }
  }
}

// Among others the largest sums that there are.
TEST(CodeKernelsTest, TablesAgreeForOneBitAtItsLimits) {
  Random random(7);
  for (const uint32_t dims : {16u, 32u, 48u, 1024u, 4096u, 8192u}) {
    for (const int value : {kOneBitLimit, -kOneBitLimit, 0}) {
      Case c = MakeCase({{1, dims}, {1, 16}, {4, 32}, {1, dims + 16}}, true,
                        true, &random);
      for (const size_t s : {0, 3}) {
        const CodeSegment& segment = c.layout.segments[s];
        std::fill_n(&c.values[segment.query_offset], segment.num_dims, value);
      }
      ExpectTablesAgree(c, 1 + random.Uniform(33), 0, &random);
    }
  }
}

// From the words of kernels_codes.h and nothing else.
TEST(CodeKernelsTest, FoursAreWhatTheHeaderSays) {
  Random random(8);
  for (const CodeKernels* table : Fast()) {
    if (table->sum_fours == nullptr) continue;
    for (const uint32_t dims : {16u, 32u, 48u, 160u, 1008u}) {
      const Case c =
          MakeCase({{1, dims}, {8, 48}, {1, 32}}, false, true, &random);
      std::vector<int8_t> fours(CodeFoursBytes(c.layout));
      EXPECT_EQ(fours.size(), 128 * ((dims + 31) / 32 + 1));
      table->sum_fours(c.layout, c.values.data(), fours.data());
      size_t at = 0;
      for (const size_t s : {0, 2}) {
        const CodeSegment& segment = c.layout.segments[s];
        for (size_t g = 0; g < (segment.num_dims + 31) / 32; ++g) {
          for (size_t b = 0; b < 128; ++b, ++at) {
            const size_t h = b / 64, i = b / 16 % 4, n = b % 16;
            int sum = 0;
            for (size_t p = 0; p < 4; ++p) {
              const size_t j = 32 * g + 16 * h + 4 * p + i;
              if (j >= segment.num_dims || (n >> p & 1) == 0) continue;
              sum += c.values[segment.query_offset + j];
            }
            ASSERT_EQ(fours[at], sum) << table->name << " " << dims << " " << b;
          }
        }
      }
    }
  }
}

TEST(CodeKernelsTest, OnlySegmentsOfOneBitHaveFours) {
  Random random(9);
  EXPECT_EQ(
      CodeFoursBytes(MakeCase({{2, 64}, {8, 32}}, false, true, &random).layout),
      0u);
}

// From the words of kernels_codes.h and nothing else.
TEST(CodeKernelsTest, ScalarIsWhatTheLayoutSays) {
  Random random(3);
  const Case c =
      MakeCase({{8, 80}, {4, 112}, {2, 144}, {1, 96}}, true, true, &random);
  std::vector<uint8_t> record(c.layout.record_bytes);
  FillRecords(c.layout, record.size(), 1, record.data(), &random);
  float additive;
  std::memcpy(&additive, &record[c.layout.additive_offset], 4);
  double expected =
      c.query.additive + static_cast<double>(c.query.additive_scale) * additive;
  for (size_t s = 0; s < c.layout.num_segments; ++s) {
    const CodeSegment& segment = c.layout.segments[s];
    std::vector<uint8_t> codes(segment.num_dims);
    UnpackCodes(&record[segment.payload_offset], segment.num_dims, segment.bits,
                codes.data());
    double dot = 0, low = 0;
    for (size_t i = 0; i < codes.size(); ++i) {
      const int u = segment.has_levels ? segment.levels[codes[i]] : codes[i];
      dot += u * c.values[segment.query_offset + i];
      if (segment.low_offset != 0) low += u * c.values[segment.low_offset + i];
    }
    uint16_t half;
    std::memcpy(&half, &record[c.layout.additive_offset + 4 + 2 * s], 2);
    expected +=
        HalfToFloat(half) * (c.query.scale[s] * dot + c.query.offset[s] +
                             c.query.low_scale[s] * low);
  }
  float estimate;
  FindCodeKernels("scalar")->scan(c.layout, c.query, record.data(),
                                  record.size(), 1, &estimate);
  EXPECT_NEAR(estimate, expected, std::abs(expected) * 1e-5);
}

TEST(CodeKernelsTest, BlocksArePlanar) {
  // Sixteen dimensions: per byte 8 / bits of them, plane by plane.
  std::vector<uint8_t> codes(16);
  for (size_t i = 0; i < 16; ++i) codes[i] = i;
  std::vector<uint8_t> packed(8);
  PackCodes(codes.data(), 16, 4, packed.data());
  EXPECT_THAT(packed,
              ElementsAre(0x80, 0x91, 0xA2, 0xB3, 0xC4, 0xD5, 0xE6, 0xF7));
  for (size_t i = 0; i < 16; ++i) codes[i] = i / 4;
  packed.resize(4);
  PackCodes(codes.data(), 16, 2, packed.data());
  EXPECT_THAT(packed, ElementsAre(0xE4, 0xE4, 0xE4, 0xE4));
  for (size_t i = 0; i < 16; ++i) codes[i] = i >= 8;
  packed.resize(2);
  PackCodes(codes.data(), 16, 1, packed.data());
  EXPECT_THAT(packed, ElementsAre(0xF0, 0xF0));
  // Of 64 dimensions with four bits, dimension 32 shares a byte with the first.
  codes.assign(64, 0);
  codes[0] = 5;
  codes[32] = 9;
  packed.resize(32);
  PackCodes(codes.data(), 64, 4, packed.data());
  EXPECT_EQ(packed[0], 0x95);
}

TEST(CodeKernelsTest, UnpackGivesBackWhatWasPacked) {
  Random random(4);
  for (const size_t bits : {1, 2, 4, 8}) {
    for (size_t dims = 16; dims <= 272; dims += 16) {
      std::vector<uint8_t> codes(dims), back(dims);
      for (uint8_t& code : codes) code = random.Uniform(1u << bits);
      std::vector<uint8_t> packed(CodePayloadBytes(dims, bits));
      PackCodes(codes.data(), dims, bits, packed.data());
      UnpackCodes(packed.data(), dims, bits, back.data());
      EXPECT_EQ(back, codes) << bits << " bits, " << dims;
    }
  }
}

TEST(CodeKernelsTest, ProjectIsExactAtTheLargestNorms) {
  Random random(5);
  for (const size_t dim : {32, 96, 800, 1536}) {
    for (const size_t num_rows : {1, 3, 4, 7}) {
      std::vector<int16_t> matrix(num_rows * dim), vector(dim);
      const auto limit = static_cast<int>(32'000 / std::sqrt(dim));
      for (size_t j = 0; j < dim; ++j) vector[j] = j % 2 == 0 ? limit : -limit;
      for (size_t i = 0; i < matrix.size(); ++i) {
        matrix[i] = i < dim
                        ? vector[i % dim]  // the largest product
                        : static_cast<int>(random.Uniform(2 * limit)) - limit;
      }
      std::vector<int32_t> expected(num_rows), out(num_rows);
      for (size_t i = 0; i < num_rows; ++i) {
        int64_t sum = 0;
        for (size_t j = 0; j < dim; ++j) {
          sum += int64_t{matrix[i * dim + j]} * vector[j];
        }
        expected[i] = static_cast<int32_t>(sum);
        ASSERT_EQ(expected[i], sum);
      }
      for (const char* name : {"scalar", "avx2", "avx512", "avx512vbmi"}) {
        const CodeKernels* table = FindCodeKernels(name);
        if (table == nullptr) continue;
        table->project(matrix.data(), vector.data(), num_rows, dim, out.data());
        EXPECT_EQ(out, expected) << name << " " << dim << " " << num_rows;
      }
    }
  }
}

TEST(CodeKernelsTest, DotOfBytesIsExactForEveryLength) {
  Random random(6);
  for (size_t n = 0; n <= 200; ++n) {
    std::vector<int8_t> a(n), b(n);
    int32_t expected = 0;
    for (size_t i = 0; i < n; ++i) {
      a[i] = random.Uniform(2) == 0 ? -127 : 127;
      b[i] = static_cast<int>(random.Uniform(255)) - 127;
      expected += a[i] * b[i];
    }
    for (const char* name : {"scalar", "avx2", "avx512", "avx512vbmi"}) {
      const CodeKernels* table = FindCodeKernels(name);
      if (table == nullptr) continue;
      EXPECT_EQ(table->dot_i8(a.data(), b.data(), n), expected) << name;
    }
  }
}

TEST(CodeKernelsTest, NamesAreThoseOfTheTables) {
  EXPECT_EQ(FindCodeKernels("nonsense"), nullptr);
  ASSERT_NE(FindCodeKernels("scalar"), nullptr);
  EXPECT_STREQ(FindCodeKernels("scalar")->name, "scalar");
}

// Run once for each value of VICINAL_SIMD, see CMakeLists.txt.
TEST(DispatchTest, CodeKernelsAreThoseThatWereForced) {
  const char* forced = std::getenv("VICINAL_SIMD");
  const CodeKernels* wanted =
      forced == nullptr ? nullptr : FindCodeKernels(forced);
  if (wanted != nullptr) {
    EXPECT_EQ(&ActiveCodeKernels(), wanted);
  } else {
    EXPECT_EQ(FindCodeKernels(ActiveCodeKernels().name), &ActiveCodeKernels());
  }
}

}  // namespace
}  // namespace vicinal
