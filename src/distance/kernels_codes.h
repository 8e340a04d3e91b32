// The layout of code records and the tables of kernels over them, in terms
// that a kernel file may see. Everyone else wants code_kernels.h.
//
// A code record is what one vector becomes, record_bytes long:
//
//   payload    the segments' packed codes, in order
//   additive   f32, at additive_offset (a multiple of 4)
//   rescale    one f16 or f32 per segment, right behind it
//   padding    zero bytes
//
// A segment of num_dims dimensions (a multiple of 16) with `bits` per dimension
// is stored as blocks of 64 dimensions, then blocks of 16. A block of W
// dimensions takes W * bits / 8 bytes and is planar: with per = 8 / bits and
// plane = W / per, dimension j is in byte j % plane, shifted left by
// bits * (j / plane). So one broadcast, one shift by lane and one mask unpack a
// block in the order of its dimensions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vicinal {

// Segments of one record, at most.
inline constexpr size_t kMaxCodeSegments = 8;

struct CodeSegment {
  uint32_t bits = 0;            // 1, 2, 4 or 8; 0: no dimensions, offset only
  uint32_t num_dims = 0;        // a multiple of 16
  uint32_t payload_offset = 0;  // bytes from the front of the record
  uint32_t query_offset = 0;    // bytes from the front of CodeQuery::values
  // The same, of a second digit, with eight bits only; 0: there is none.
  uint32_t low_offset = 0;
  // Whether codes of 2 or 4 bits stand for levels[code] instead of themselves.
  bool has_levels = false;
  uint8_t levels[16] = {};  // each <= 127
};

// The same records sixteen at a time, for scans (the idea of FastScan, Andre et
// al., VLDB 2015, with integer products for its table lookups): lane l of every
// vector register belongs to record l, so that sums need no last steps across
// lanes. A block of kCodeBlockRows records, CodeBlockBytes long:
//
//   per segment  groups of 64 bytes; group g has dimensions 4 per g and up, per
//                = 8 / bits: byte 4 l + i holds of record l, for p < per, the
//                code of dimension 4 (per g + p) + i, shifted left by bits * p
//   additive     16 f32
//   rescale      16 f16 or f32 per segment
//
// Bytes of rows and dimensions that are not there are zero.
inline constexpr size_t kCodeBlockRows = 16;

struct CodeLayout {
  CodeSegment segments[kMaxCodeSegments];
  uint32_t num_segments = 0;
  uint32_t additive_offset = 0;
  bool rescale_is_f16 = true;
  uint32_t record_bytes = 0;  // a multiple of 16
};

// How vectors become records: what Codec::Encode (quant/codec.h) knows, for who
// does the same elsewhere. With c the centre of a row, or the mean m where
// there are none, a record has the codes of coordinates of x - c. Segments of
// the layout without dimensions are the one of what codes miss. Borrowed.
struct RowCoding {
  const CodeLayout* layout = nullptr;
  size_t dim = 0;
  size_t num_coded = 0;          // coordinates: dimensions of all segments
  const float* mean = nullptr;   // dim
  const float* basis = nullptr;  // num_coded x dim; null: a fast rotation,
  const float* signs = nullptr;  // of these, four for each coordinate
  // Row r has the centre c with offsets[c] <= r < offsets[c + 1].
  const float* centres = nullptr;        // num_centres x dim; null: none
  const float* coded_centres = nullptr;  // num_centres x num_coded, less m
  const uint32_t* offsets = nullptr;     // num_centres + 1
  size_t num_centres = 0;
  float units[kMaxCodeSegments] = {};  // that rescales are stored in
  float missing_unit = 0;              // of what codes miss
  uint32_t adjust_rounds = 0;
  // Codes begin (2 bits) above and below this many deviations, and (4 bits) at
  // the level that lies between these.
  double step_of_two = 0;
  float limits_of_four[7] = {};
};

// Values of segments of one bit lie in [-kOneBitLimit, kOneBitLimit], so that
// the sum of four fits a byte. (Measured: errors of one-bit codes grow by 0.06
// to 0.16 %; with the 4 bits of RaBitQ, Gao and Long 2024, by 1.8 to 2.9 %.)
inline constexpr int kOneBitLimit = 31;

// One query against one layout. Values lie in [-127, 127], in the order of the
// coded dimensions.
struct CodeQuery {
  const int8_t* values = nullptr;
  // What CodeKernels::sum_fours made of the values, for the same table's scans
  // of blocks, which are slower without: null.
  const int8_t* fours = nullptr;
  float scale[kMaxCodeSegments] = {};
  float offset[kMaxCodeSegments] = {};
  float low_scale[kMaxCodeSegments] = {};  // of the second digits
  float additive = 0;
  float additive_scale = 1;  // of the record's
  // For scans with a limit: the least that a segment's product may be, and the
  // segments to sum before a block may be left; 0: it never is.
  float least[kMaxCodeSegments] = {};
  uint32_t look_after = 0;
};

// The estimate of a record, smaller is closer:
//
//   sum = fma(query.additive_scale, record.additive, query.additive)
//   for s ascending: sum = fma(rescale[s], product[s], sum)
//   product[s] = fma(scale[s], float(dot[s]), offset[s]), and then
//                fma(low_scale[s], float(low[s]), product[s]) with low digits
//
// where dot[s] is the exact sum over the segment of u(code) * value and u is
// the code or its level; low[s] the same with the second digits.
struct CodeKernels {
  const char* name;  // "scalar", "avx2", "avx512" or "avx512vbmi"

  // Records base + rows[i] * stride_bytes, i < n, into out[i]. Does not
  // prefetch: the caller knows what comes next.
  void (*gather)(const CodeLayout& layout, const CodeQuery& query,
                 const uint8_t* base, size_t stride_bytes, const uint32_t* rows,
                 size_t n, float* out);
  // Consecutive records base + i * stride_bytes, i < n, into out[i].
  void (*scan)(const CodeLayout& layout, const CodeQuery& query,
               const uint8_t* base, size_t stride_bytes, size_t n, float* out);
  // num_blocks consecutive blocks into 16 num_blocks estimates, the bits of
  // `scan`; but infinity for all of a block of which, after the first
  // look_after segments, no record can come within `limit`: sum + the others'
  // fma(rescale[s], least[s], ) is above it for each of the sixteen.
  void (*scan_blocks)(const CodeLayout& layout, const CodeQuery& query,
                      const uint8_t* blocks, size_t num_blocks, float limit,
                      float* out);
  // Null, or: writes for each group of each segment of one bit, in their order,
  // 128 bytes at `fours`, best aligned to 64: byte 64 h + 16 i + n has the sum
  // of the values of the group's dimensions 16 h + 4 p + i, p < 4, whose bit p
  // is set in n. Bytes of half a group that is not there are zero.
  void (*sum_fours)(const CodeLayout& layout, const int8_t* values,
                    int8_t* fours);
  // out[i] = sum over j < dim of matrix[i * dim + j] * vector[j], i < num_rows.
  // dim is a multiple of 32. The caller bounds |row| * |vector| below 2^31, so
  // no partial sum overflows (Cauchy-Schwarz).
  void (*project)(const int16_t* matrix, const int16_t* vector, size_t num_rows,
                  size_t dim, int32_t* out);
  // The exact sum of a[i] * b[i] over n bytes of [-127, 127].
  int32_t (*dot_i8)(const int8_t* a, const int8_t* b, size_t n);
};

namespace kernels {

extern const CodeKernels kScalarCodeTable;
extern const CodeKernels kAvx2CodeTable;  // needs AVX2, FMA and F16C
extern const CodeKernels
    kAvx512CodeTable;  // needs AVX-512 F, BW, DQ, VL and VNNI
// Needs AVX-512 VBMI, too; what is null in it is as in kAvx512CodeTable.
extern const CodeKernels kAvx512VbmiCodeTable;

}  // namespace kernels
}  // namespace vicinal
