// The two files of a sealed segment. Little-endian; containers are
// base/section_file.h. f is a field number in decimal.
//
// NUMBER.vec, kind "VECS", version 1: large, read by searches only
//   META      number of the segment (u64)
//   V<f>      the field's vectors, stride_bytes apart; rows in the field's
//             own order. Unit vectors for f32 cosine fields.
//   MT<m>, MO<m>, MX<m>, ME<m>  tokens of multi-vector m, where they begin,
//             their codes and encodings, see index/sealed_multi.h
//
// NUMBER.seg, kind "SEGM", version 8 (1 had no codes, 2 no lists, 3 no
// codes of lists, 4 no reach, 5 no partitions nor cells, 6 no sparse vectors
// nor texts, 7 no multi-vectors; the lowest that will do is written):
// everything else
//   META      number (u64), num_rows (u64), num_fields (u64), then per field:
//             dim, stride_bytes, num_rows (u64 each), metric, type (u8 each),
//             flags (u8: 1 = has row maps, 2 = has a graph, 4 = has codes, 8 =
//             has lists, 16 = codes in blocks, 32 = has reaches, 64 = has
//             partitions, 128 = has cells), 5 zero bytes; and where there
//             are sparse vectors or texts, their number (u64), and per such
//             field l: kind, weight, positions (u8 each), 5 zero bytes; and
//             where there are multi-vectors, their number (u64), and per such
//             field m: dim (u32), type, cosine, codec of tokens (u8 each), a
//             zero byte
//   ORDINALS  u64 per row
//   BYORD     u32 per row: the rows in the order of their ordinals
//   IDS       the encoded ids, one after the other
//   IDOFFS    u64 per row and one more: where ids begin in IDS
//   IDTABLE   u64 slots, see id_table.h
//   R<f>      u32 per field row: its row in the segment (with flag 1 only;
//             without, field row i is row i)
//   I<f>      u32 per row: its field row, or 0xFFFFFFFF (with flag 1 only)
//   G<f>      the graph, see index/hnsw_graph.h (with flag 2 only)
//   L<f>      the lists of an IVF, see index/ivf_build.cc (with flag 8 only);
//             or, with flag 128, those that filtered searches of a graph may
//             read
//   C<f>      calibration: recall (f32), k (u32), ef (u32), with codes
//             rerank (u32), with flag 32 reach (f32), per point (flag 2 or 8)
//   T<f>      calibrations of searches within partitions (with flag 64 only):
//             the most lists of these (u32), ascending, the number of points
//             (u32), and the points as in C<f> without reach
//   D<f>      how many of these have which share of the nearest rows (with flag
//             128 only): recall (f32), k (u32), lists (u32), per point
//   M<f>      the codec, see quant/codec.h (with flag 4 only)
//   K<f>      a code record per field row (with flag 4 only); with flag 16,
//             which lists have, in blocks as of PackCodeBlocks in index/ivf.h
//   X<l>      sparse vector or text l: its inverted index, see
//             index/sparse_state.h; of all rows
//   W<l>      of a text: its words, see index/sealed_lexical.cc
//   P<l>      of a text with positions: see there
//   MM<m>, MR<m>, ML<m>, MK<m>, MC<m>  multi-vector m: what it is, its rows,
//             the list of a scan of codes, codes of encodings and calibration,
//             see index/sealed_multi.h
//
// Without flag 1 a field may have fewer rows than the segment: the later rows
// then have no such vector.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "index/multi_field.h"
#include "src/engine/layout.h"

namespace vicinal::segment_file {

inline constexpr absl::string_view kVectorsKind = "VECS";
inline constexpr absl::string_view kIndexKind = "SEGM";
inline constexpr uint32_t kVectorsVersion = 1;
inline constexpr uint32_t kIndexVersion = 8;
inline constexpr uint32_t kLexicalVersion = 7;
// 6, 8 for each of 16 dense fields, 3 for each of 32 by terms and 5 for each of
// 16 multi-vectors.
inline constexpr size_t kMaxSections = 310;

struct FieldMeta {
  uint64_t dim = 0;
  uint64_t stride_bytes = 0;
  uint64_t num_rows = 0;
  uint8_t metric = 0;
  uint8_t type = 0;
  uint8_t flags = 0;
  uint8_t zero[5] = {};
};
static_assert(sizeof(FieldMeta) == 32);

struct LexicalMeta {
  uint8_t kind = 0;
  uint8_t weight = 0;
  uint8_t positions = 0;
  uint8_t zero[5] = {};
};
static_assert(sizeof(LexicalMeta) == 8);

struct MultiMeta {
  uint32_t dim = 0;
  uint8_t type = 0;
  uint8_t cosine = 0;
  uint8_t token_codec = 0;
  uint8_t zero = 0;
};
static_assert(sizeof(MultiMeta) == 8);
inline constexpr uint8_t kHasRowMaps = 1;
inline constexpr uint8_t kHasGraph = 2;
inline constexpr uint8_t kHasCodes = 4;
inline constexpr uint8_t kHasLists = 8;
inline constexpr uint8_t kHasCodeBlocks = 16;
inline constexpr uint8_t kHasReach = 32;
inline constexpr uint8_t kHasPartitions = 64;
inline constexpr uint8_t kHasCells = 128;

inline std::string SectionName(absl::string_view prefix, size_t field) {
  return absl::StrCat(prefix, field);
}
inline LexicalMeta MetaOf(const LexicalLayout& layout) {
  return {.kind = static_cast<uint8_t>(layout.kind),
          .weight = static_cast<uint8_t>(layout.weight),
          .positions = static_cast<uint8_t>(layout.positions ? 1 : 0)};
}
inline MultiMeta MetaOf(const MultiSpec& spec) {
  return {.dim = static_cast<uint32_t>(spec.dim),
          .type = static_cast<uint8_t>(spec.type),
          .cosine = static_cast<uint8_t>(spec.cosine ? 1 : 0),
          .token_codec = static_cast<uint8_t>(spec.token_codec)};
}
inline std::string VectorsPath(absl::string_view folder, uint64_t number) {
  return absl::StrCat(folder, "/", number, ".vec");
}
inline std::string IndexPath(absl::string_view folder, uint64_t number) {
  return absl::StrCat(folder, "/", number, ".seg");
}

}  // namespace vicinal::segment_file
