// A Codec turns vectors into small records and estimates distances from a
// query to them: an orthogonal basis, contiguous segments of its dimensions
// with a random rotation each, scalar codes of 0, 1, 2, 4 or 8 bits, and one
// rescale per segment. RaBitQ, EDEN, LVQ after a rotation and SAQ (Li et al.,
// 2025, arXiv 2509.12086) are settings of it.
//
// With x a row, q a query, m the mean of the training rows, r = x - m and y~
// the coded coordinates of y, every metric has the form
//
//   estimate = a F_add + G_add + factor * sum_s <r^_s, (q - a m)~_s>
//
//   squared L2       F_add = |r|^2    G_add = |q - m|^2  factor = -2  a = 1
//   -inner product   F_add = -<r, m>  G_add = -<m, q>    factor = -1
//                                               a = <q, m> / |m|^2
//   1 - cosine       the same of unit vectors, and 1 more
//
// because |x - q|^2 = |r|^2 + |q - m|^2 - 2 <r, q - m> and
// <x, q> = <m, q> + a <r, m> + <r, q - a m> for any a; this one makes the
// estimated part smallest, whatever the query's length. r^ is the rescaled
// code, an unbiased estimate over the random rotation (RaBitQ, Gao and Long
// 2024, theorem 3.2).
// Only the last sum is estimated; the dimensions without bits are left out of
// it, so that they cost neither bytes nor time.
//
// Rows may be coded around a centre c each instead, the centroid of their list,
// r = x - c; then m is the mean of the rows for the queries only (0 but for
// L2), and with C = <r - r^, c - m>, what the code misses of the product with
// the centre, stored in the record,
//
//   squared L2       F_add = |r|^2 + 2 <r, c - m>  G_add = |q - c|^2
//                    and one more term, -2 a C
//   -inner product   F_add = -C                    G_add = -<c, q>
//
// with a = <q - m, c - m> / |c - m|^2. So a query is prepared once for all
// centres, and of it only what is not along c is estimated, <r, q - m -
// a (c - m)>: for near lists that is short, for far ones never longer than q.
// (Measured, study set of 1,024 dimensions, one bit: without C 60 % more error
// than around one mean over 200 of 256 lists, with it 25 % less.)
//
// Where queries are of another distribution than rows, two bases take the
// place of one (LeanVec-Sphering, Tepper et al. 2024): with W^2 the second
// moment of a sample of queries and P the axes of W r, rows are coded as P W r
// and queries projected as P W^-1 q, whose product is <r, q> still.
//
// Life: trained or parsed once, then const; thread-safe. A PreparedQuery
// belongs to one thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "quant/plan.h"
#include "quant/rotation.h"
#include "quant/rounded_matrix.h"
#include "src/base/cancel.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/code_kernels.h"

namespace vicinal {

enum class CodecKind : uint8_t {
  kSaq = 1,  // PCA basis, bits by variance
  kRbq = 2,  // no basis but a fast rotation: the same bits in every dimension
  kSq8 = 3,  // kRbq of eight bits
};

struct CodecParams {
  CodecKind kind = CodecKind::kSaq;
  // Bits per dimension on average, 0.5 to 8 (kRbq: 1, 2, 4 or 8; kSq8: 8).
  // More: smaller errors, more bytes.
  float avg_bits = 4;
  // Passes of code adjustment, 0 to 8. Measured: below 1 % less error for
  // twice the time of encoding, since the codes start well.
  uint32_t adjust_rounds = 0;
  // Most segments of a record, 1 to 8.
  uint32_t max_segments = 6;
  // Most dimensions with bits; 0: any. Fewer: a plain reduction (PCA-RAG,
  // LeanVec) whose query costs less to prepare.
  uint32_t max_coded_dims = 0;
  // Of rotations and samples.
  uint64_t seed = 1;
};

// The longest vector that a codec is made for: its basis takes dim^2 floats.
inline constexpr size_t kMaxCodecDim = 4096;
// Rows below which kSaq does not fit a basis but falls back to kRbq.
inline constexpr size_t kMinBasisRows = 1000;

// Bytes of a record of kSaq: avg_bits * dim / 8 and some for its factors, in
// whole 16 bytes.
size_t CodeRecordBytes(size_t dim, float avg_bits);
// The same of kRbq and kSq8: whole units of dimensions, one rescale.
size_t UniformRecordBytes(size_t dim, uint32_t bits);
// Bits per dimension where nobody says. Measured (docs/codecs.md): long vectors
// have few dimensions that matter, short ones need more bits for the same
// recall.
float DefaultAvgBits(size_t dim);
// Segments are whole multiples of this many dimensions.
size_t CodeGranularity(size_t dim);

// A query as the kernels take it; filled by Codec::Prepare and used again.
class PreparedQuery {
 public:
  const CodeQuery& code_query() const { return query_; }

 private:
  friend class Codec;
  // Of the cache: scans read fours_ a line at a time.
  struct alignas(64) Line {
    int8_t bytes[64];
  };

  CodeQuery query_;
  float error_scale_[kMaxCodeSegments] = {};  // of a unit of stored rescale
  float tail_error2_ = 0;
  std::vector<float> centred_;
  RoundedMatrix::Scratch rounded_;
  std::vector<float> coordinates_;
  std::vector<int8_t> values_;
  std::vector<Line> fours_;  // CodeQuery::fours
};

// Rows offsets[i] to offsets[i + 1] have centre i. Borrowed.
struct RowCentres {
  MatrixView centres;
  std::span<const uint32_t> offsets;  // one more than centres

  size_t CentreOf(size_t row) const {
    return std::upper_bound(offsets.begin(), offsets.end(), row) -
           offsets.begin() - 1;
  }
};

class Codec {
 public:
  CodecKind kind() const { return kind_; }
  // Whether queries have a basis of their own (sphering).
  bool has_query_basis() const { return !query_basis_.empty(); }
  Metric metric() const { return metric_; }
  size_t dim() const { return mean_.size(); }
  const CodeLayout& layout() const { return layout_; }
  const Plan& plan() const { return plan_; }
  size_t num_coded_dims() const { return num_coded_; }
  size_t memory_bytes() const;

  // One record per row, layout().record_bytes apart, into `records` (which has
  // room for all). Rows are `dim` elements of any type. centres: null when the
  // codec was trained without. Cancelled: the token was set; it may be null.
  absl::Status Encode(VectorSetView rows, std::span<uint8_t> records,
                      size_t num_threads, const CancelToken* cancel,
                      const RowCentres* centres = nullptr) const;

  // What Encode does, for a device that is to do the same
  // (DistanceBackend::Encode). Borrows the codec and the centres.
  struct Coding {
    RowCoding terms;
    std::vector<float> centres;
    std::vector<float> coded_centres;
  };
  Coding CodingFor(const RowCentres* centres = nullptr) const;

  // `query` holds dim elements of `type`. InvalidArgument: one is not finite.
  absl::Status Prepare(const void* query, ElementType type,
                       PreparedQuery* out) const;

  // The same query for the records around one centre: its exact distance to
  // the query (as the metric's kernels give it) and its CentreNorm2.
  CodeQuery QueryAround(const PreparedQuery& query, float centre_distance,
                        float centre_norm2) const;
  // |c - m|^2.
  float CentreNorm2(const float* centre) const;

  // How far the estimate of a record may be off: `deviations` standard
  // deviations of the estimate's error. 3 covers about 99.7 % of the pairs.
  float ErrorBound(const PreparedQuery& query, const uint8_t* record,
                   float deviations) const;

  // The distance of two rows estimated from their records alone, in integers:
  // of the form above with both products estimated. Not where there is a query
  // basis, nor for records around centres.
  float Between(const uint8_t* a, const uint8_t* b) const;

  // The row that a record stands for: the mean where it has no bits. Not for
  // records around centres.
  void Decode(const uint8_t* record, std::span<float> out) const;

  // Model bytes: magic, version, sizes, arrays, CRC-32C (see codec_file.cc).
  std::string Serialize() const;
  // DataLoss: the bytes are no model; everything is checked before it is used.
  // FailedPrecondition: of a newer version.
  static absl::StatusOr<std::unique_ptr<const Codec>> Parse(
      absl::string_view bytes);

 private:
  friend class CodecTrainer;
  struct EncodeRoom;

  Codec() = default;
  // A basis as PackPanels leaves it; empty of an empty one.
  std::vector<float> PanelsOf(const std::vector<float>& basis) const;
  // Coded coordinates of centred rows, num_coded_ apart.
  void Project(MatrixView centred, const float* panels, float* coded) const;
  // Rows of the basis that queries are projected by.
  const std::vector<float>& projection() const {
    return query_basis_.empty() ? basis_ : query_basis_;
  }
  // Derives layout and the rounded projection from plan and basis.
  void Finish();
  // Rows first .. first + count, centred in room->centred. panels: of
  // basis_. coded_centres: those of c - m.
  void EncodeBlock(size_t first, size_t count, const float* panels,
                   const RowCentres* centres, const float* coded_centres,
                   EncodeRoom* room, uint8_t* records) const;
  // Coded coordinates of centres - mean.
  std::vector<float> CodeCentres(MatrixView centres,
                                 const std::vector<float>& panels) const;
  // The row as floats, of unit length under the cosine.
  void LoadRow(const void* row, ElementType type, float* out) const;
  float Rescale(const uint8_t* record, size_t segment) const;
  void PutRescale(float value, size_t segment, uint8_t* record) const;
  // Records then have one more rescale, C, of a segment without dimensions.
  bool stores_missing() const {
    return around_centres_ && metric_ == Metric::kL2;
  }

  CodecKind kind_ = CodecKind::kSaq;
  Metric metric_ = Metric::kL2;
  uint32_t adjust_rounds_ = 0;
  bool around_centres_ = false;
  Plan plan_;
  std::vector<float> mean_;  // dim
  // num_coded x dim: rotated rows of the basis; empty: a rotation alone, of one
  // segment.
  std::vector<float> basis_;
  uint64_t rotation_seed_ = 0;
  std::vector<float> query_basis_;  // the same, of queries; empty: basis_
  // Share of a query's squared length in the dimensions without bits, where
  // the query's basis does not tell.
  float tail_share_ = 0;
  // Per segment: what a stored rescale is multiplied by; the deviation of an
  // estimate of <r_s, q_s> per unit of stored rescale and |q_s|; |r_s| per unit
  // of stored rescale.
  std::vector<float> unit_;
  std::vector<float> deviation_;
  std::vector<float> norm_;
  float missing_unit_ = 0;   // of C as it is stored, under L2 only
  float tail_variance_ = 0;  // mean square of a row in a dimension without bits

  // Derived.
  std::unique_ptr<const Rotation> rotation_;  // null where there is a basis
  size_t num_coded_ = 0;
  size_t num_values_ = 0;   // of a prepared query, second digits included
  size_t fours_bytes_ = 0;  // of CodeQuery::fours
  CodeLayout layout_;
  RoundedMatrix rounded_;  // projection(), where there is a basis
  double mean_norm2_ = 0;  // |m|^2
};

// Learns a codec from at most 65,536 evenly spaced rows. kSaq with fewer rows
// than kMinBasisRows or dim falls back to kRbq of the nearest width.
// With centres, for Encode with the same. `queries`: a sample of those to come,
// of the rows' type; with 4 dim of them (1,000 at least) sphering is tried, and
// taken where held-out queries err 5 % less by it. InvalidArgument: no rows,
// dim over kMaxCodecDim, avg_bits out of range, or an element that is not
// finite. The same for any number of threads.
absl::StatusOr<std::unique_ptr<const Codec>> TrainCodec(
    VectorSetView rows, Metric metric, const CodecParams& params,
    size_t num_threads, const CancelToken* cancel,
    const RowCentres* centres = nullptr, VectorSetView queries = {});

}  // namespace vicinal
