#include "src/distance/code_kernels.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "absl/strings/string_view.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

#ifdef VICINAL_X86_KERNELS
const CodeKernels& VbmiTable() {
  static const CodeKernels table = [] {
    CodeKernels out = kernels::kAvx512CodeTable;
    out.name = kernels::kAvx512VbmiCodeTable.name;
    out.scan_blocks = kernels::kAvx512VbmiCodeTable.scan_blocks;
    out.sum_fours = kernels::kAvx512VbmiCodeTable.sum_fours;
    return out;
  }();
  return table;
}
#endif

// Slowest first.
const std::vector<const CodeKernels*>& Tables() {
  static const auto* const tables = [] {
    auto* list =
        new std::vector<const CodeKernels*>{&kernels::kScalarCodeTable};
#ifdef VICINAL_X86_KERNELS
    if (FindKernels("avx2") != nullptr)
      list->push_back(&kernels::kAvx2CodeTable);
    if (FindKernels("avx512") != nullptr &&
        __builtin_cpu_supports("avx512vnni")) {
      list->push_back(&kernels::kAvx512CodeTable);
      if (__builtin_cpu_supports("avx512vbmi")) list->push_back(&VbmiTable());
    }
#endif
    return list;
  }();
  return *tables;
}

// Records of 4, 2 and 1 bits, as graphs walk on and lists have in blocks.
CodeLayout SampleLayout() {
  CodeLayout layout;
  layout.num_segments = 3;
  layout.segments[0] = {.bits = 4, .num_dims = 128, .has_levels = true};
  layout.segments[1] = {
      .bits = 2, .num_dims = 256, .payload_offset = 64, .query_offset = 128};
  layout.segments[2] = {
      .bits = 1, .num_dims = 128, .payload_offset = 128, .query_offset = 384};
  layout.additive_offset = 144;
  layout.record_bytes = 160;
  return layout;
}

double TimeOnce(const CodeKernels& table, const CodeLayout& layout,
                const std::vector<uint8_t>& records,
                const std::vector<uint8_t>& blocks, const CodeQuery& query) {
  constexpr int kPasses = 8;
  const size_t n = records.size() / layout.record_bytes;
  std::vector<float> out(n);
  const auto start = std::chrono::steady_clock::now();
  for (int pass = 0; pass < kPasses; ++pass) {
    table.scan(layout, query, records.data(), layout.record_bytes, n,
               out.data());
    table.scan_blocks(layout, query, blocks.data(), n / kCodeBlockRows,
                      std::numeric_limits<float>::infinity(), out.data());
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

// The tables agree bit for bit, so that the choice cannot change a result. They
// take turns, as the machine may be shared, and of two that take about the same
// the later is taken.
const CodeKernels& Fastest() {
  constexpr double kAboutTheSame = 1.05;
  const auto& tables = Tables();
  const CodeLayout layout = SampleLayout();
  const std::vector<uint8_t> records(64 * layout.record_bytes, 0x11);
  const std::vector<uint8_t> blocks(4 * CodeBlockBytes(layout), 0x11);
  const std::vector<int8_t> values(512, 3);
  std::vector<int8_t> fours(CodeFoursBytes(layout));
  std::vector<double> times(tables.size(),
                            std::numeric_limits<double>::infinity());
  for (int round = 0; round < 16; ++round) {
    for (size_t i = 1; i < tables.size(); ++i) {
      CodeQuery query{.values = values.data()};
      if (tables[i]->sum_fours != nullptr) {
        tables[i]->sum_fours(layout, values.data(), fours.data());
        query.fours = fours.data();
      }
      times[i] = std::min(times[i],
                          TimeOnce(*tables[i], layout, records, blocks, query));
    }
  }
  size_t best = 0;
  for (size_t i = 1; i < tables.size(); ++i) {
    if (times[i] < kAboutTheSame * times[best]) best = i;
  }
  return *tables[best];
}

// Calls block(first dimension, width, payload) for each block of a segment.
template <typename Byte, typename Visit>
void ForEachBlock(size_t num_dims, size_t bits, Byte* payload,
                  const Visit& block) {
  for (size_t at = 0; at < num_dims;) {
    const size_t width = num_dims - at >= 64 ? 64 : 16;
    block(at, width, payload);
    payload += width * bits / 8;
    at += width;
  }
}

}  // namespace

const CodeKernels* FindCodeKernels(absl::string_view name) {
  for (const CodeKernels* table : Tables()) {
    if (name == table->name) return table;
  }
  return nullptr;
}

const CodeKernels& ActiveCodeKernels() {
  static const CodeKernels& table = [&]() -> const CodeKernels& {
    const CodeKernels* forced = FindCodeKernels(ForcedKernels());
    return forced != nullptr ? *forced : Fastest();
  }();
  return table;
}

size_t CodeBlockBytes(const CodeLayout& layout) {
  size_t bytes = 0;
  for (size_t s = 0; s < layout.num_segments; ++s) {
    bytes += CodeBlockSegmentBytes(layout.segments[s].num_dims,
                                   layout.segments[s].bits);
  }
  const size_t factors =
      4 + layout.num_segments * (layout.rescale_is_f16 ? 2 : 4);
  return (bytes + kCodeBlockRows * factors + 63) / 64 * 64;
}

size_t CodeFoursBytes(const CodeLayout& layout) {
  size_t bytes = 0;
  for (size_t s = 0; s < layout.num_segments; ++s) {
    if (layout.segments[s].bits != 1) continue;
    bytes += 2 * CodeBlockSegmentBytes(layout.segments[s].num_dims, 1);
  }
  return bytes;
}

void PackCodeBlock(const CodeLayout& layout, const uint8_t* records,
                   size_t count, uint8_t* block) {
  std::memset(block, 0, CodeBlockBytes(layout));
  std::vector<uint8_t> codes;
  uint8_t* at = block;
  for (size_t s = 0; s < layout.num_segments; ++s) {
    const CodeSegment& segment = layout.segments[s];
    if (segment.bits == 0) continue;
    const size_t per = 8 / segment.bits;
    codes.resize(segment.num_dims);
    for (size_t l = 0; l < count; ++l) {
      UnpackCodes(records + l * layout.record_bytes + segment.payload_offset,
                  segment.num_dims, segment.bits, codes.data());
      for (size_t j = 0; j < segment.num_dims; ++j) {
        const size_t group = j / (4 * per);
        const size_t plane = j / 4 % per;
        at[64 * group + 4 * l + j % 4] |= codes[j] << (segment.bits * plane);
      }
    }
    at += CodeBlockSegmentBytes(segment.num_dims, segment.bits);
  }
  const size_t width = layout.rescale_is_f16 ? 2 : 4;
  for (size_t l = 0; l < count; ++l) {
    const uint8_t* factors =
        records + l * layout.record_bytes + layout.additive_offset;
    std::memcpy(at + 4 * l, factors, 4);
    for (size_t s = 0; s < layout.num_segments; ++s) {
      std::memcpy(at + kCodeBlockRows * (4 + width * s) + width * l,
                  factors + 4 + width * s, width);
    }
  }
}

void PackCodes(const uint8_t* codes, size_t num_dims, size_t bits,
               uint8_t* out) {
  ForEachBlock(num_dims, bits, out,
               [&](size_t at, size_t width, uint8_t* payload) {
                 const size_t plane = width * bits / 8;
                 std::memcpy(payload, codes + at, plane);
                 for (size_t p = 1; p < 8 / bits; ++p) {
                   const uint8_t* from = codes + at + p * plane;
                   for (size_t i = 0; i < plane; ++i) {
                     payload[i] |= from[i] << (bits * p);
                   }
                 }
               });
}

void UnpackCodes(const uint8_t* packed, size_t num_dims, size_t bits,
                 uint8_t* codes) {
  const auto mask = static_cast<uint8_t>((1u << bits) - 1);
  ForEachBlock(num_dims, bits, packed,
               [&](size_t at, size_t width, const uint8_t* payload) {
                 const size_t plane = width * bits / 8;
                 for (size_t p = 0; p < 8 / bits; ++p) {
                   uint8_t* to = codes + at + p * plane;
                   for (size_t i = 0; i < plane; ++i) {
                     to[i] = (payload[i] >> (bits * p)) & mask;
                   }
                 }
               });
}

}  // namespace vicinal
