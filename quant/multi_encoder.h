// Fixed-dimensional encodings of multi-vectors: one vector for a set of token
// vectors, such that the inner product of a query's with a document's ranks
// like their MaxSim (Chamfer) score, the sum over query tokens q of the maximum
// over document tokens p of <q, p>.
//
// MUVERA (Dhulipala et al., NeurIPS 2024, arXiv 2405.19504, section 2): SimHash
// puts tokens into parts, several times; a block of the encoding is the sum of
// the query's, or the mean of the document's, projected tokens in a part.
// OLS (as LEMUR, arXiv 2601.21853, without its training): what a token q gets
// from a document, max <q, p>, is a function of q. It is fitted for each
// document by ridge regression on random features of q. These are made
// orthonormal first and turned to the principal axes of documents, so that the
// distance of two encodings is how differently they answer, and the last axes
// can be left out.
//
// Encodings rank, they do not estimate: never show or threshold such scores.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/cancel.h"
#include "src/base/vector_set.h"

namespace vicinal {

struct MuveraParams {
  enum class Projection : uint8_t {
    kDenseSign = 1,    // random signs, times 1 / sqrt(d_proj)
    kCountSketch = 2,  // each coordinate to one of d_proj, with a sign
  };
  enum class Fill : uint8_t {
    kAuto = 0,         // as the centring: by recall on a sample
    kNone = 1,         // an empty block of a document is zero
    kHammingMean = 2,  // it is the mean of the tokens in the nearest parts
  };
  enum class Centering : uint8_t {
    kAuto = 0,
    kNone = 1,
    kHash = 2,              // hyperplanes pass through the mean token
    kHashAndDocuments = 3,  // which is subtracted from document tokens, too
  };
  static constexpr uint32_t kDefaultKSim = 255;

  // Partitions, 1..256; 0: 32. More: better, dim and time grow as they do.
  uint32_t repetitions = 0;
  // Hyperplanes of each, 0..10; kDefaultKSim: 4. 2^k_sim should be at most half
  // of a document's tokens.
  uint32_t k_sim = kDefaultKSim;
  // Tokens are projected to so many dimensions; as many as they have, or more:
  // they are not. 0: 8, for tokens of 256 dimensions or more 16.
  uint32_t d_proj = 0;
  // The encoding is count-sketched to so many dimensions, at most
  // kMaxEncodingDim; 0: it is not, but in segments what is longer than that.
  uint32_t d_final = 0;
  Projection projection = Projection::kDenseSign;
  Fill fill = Fill::kAuto;
  Centering centering = Centering::kAuto;

  friend bool operator==(const MuveraParams&, const MuveraParams&) = default;
};

// What the paper runs: (20, 5, 16), dense signs, filled, not centred; but for
// d_final.
MuveraParams PaperMuveraParams();

struct OlsParams {
  // Random features, 64..4,096, twice the dimension of the encoding; 0: 1,024
  // for tokens of up to 64 dimensions, else 2,048.
  uint32_t features = 0;
  // Tokens that documents are fitted on, features..65,536; 0: 4 x features.
  uint32_t sample_tokens = 0;
  // Of the regression, times sample_tokens; above 0, at most 1.
  float ridge = 1e-3f;

  friend bool operator==(const OlsParams&, const OlsParams&) = default;
};

// Stored in descriptors.
struct MultiEncoderParams {
  enum class Kind : uint8_t {
    kAuto = 0,  // whichever finds more on a sample, when a segment is built
    kMuvera = 1,
    kOls = 2,
    kNone = 3,  // documents are found by their coded tokens alone
  };
  Kind kind = Kind::kAuto;
  uint64_t seed = 1;
  MuveraParams muvera;
  OlsParams ols;

  friend bool operator==(const MultiEncoderParams&,
                         const MultiEncoderParams&) = default;
};

// Limits of the above.
inline constexpr uint32_t kMaxRepetitions = 256;
inline constexpr uint32_t kMaxKSim = 10;
inline constexpr uint32_t kMinOlsFeatures = 64;
inline constexpr uint32_t kMaxOlsFeatures = 4096;
inline constexpr uint32_t kMaxOlsSample = 65536;
inline constexpr size_t kMaxEncodingDim = 4096;  // of what is indexed
// Of MUVERA before it is sketched.
inline constexpr size_t kMaxFdeDim = size_t{1} << 20;
// Floats of the hyperplanes and projections of MUVERA.
inline constexpr size_t kMaxMuveraMatrix = size_t{1} << 24;

// Of an encoding before it is sketched, with the defaults filled in:
// repetitions x 2^k_sim x d_proj. The params are in their ranges.
size_t FdeDim(const MuveraParams& params, size_t token_dim);
// Floats of its hyperplanes and projections: repetitions x (k_sim + d_proj) x
// token_dim, without the projection where tokens are not projected.
size_t MuveraMatrixSize(const MuveraParams& params, size_t token_dim);
// With the default filled in.
uint32_t OlsFeatures(const OlsParams& params, size_t token_dim);
// The dimension of encodings with these params; of kAuto the larger, of kNone
// 0.
size_t EncodingDim(const MultiEncoderParams& params, size_t token_dim);

// Trained once, then const and thread-safe.
class MultiEncoder {
 public:
  virtual ~MultiEncoder() = default;

  virtual size_t token_dim() const = 0;
  virtual size_t dim() const = 0;
  // For people: "MUVERA (32, 4, 8), not filled, centred", say.
  virtual std::string Describe() const = 0;
  // Into out, dim() floats. tokens: rows of token_dim floats without gaps, as
  // documents have them. weights: of each, >= 0, or empty: all 1.
  virtual void EncodeQuery(MatrixView tokens, std::span<const float> weights,
                           float* out) const = 0;
  // Documents by columns: document i has the rows ends[i - 1] to ends[i] of
  // tokens. Into out a row of dim() floats for each; zeros for one without
  // tokens. Not of an OLS encoder that was parsed.
  virtual bool CanEncodeDocuments() const = 0;
  virtual void EncodeDocuments(MatrixView tokens, std::span<const size_t> ends,
                               float* out) const = 0;
  virtual std::string Serialize() const = 0;

  // Untrusted bytes. DataLoss: they are no encoder. FailedPrecondition: of a
  // newer version.
  static absl::StatusOr<std::unique_ptr<const MultiEncoder>> Parse(
      absl::string_view bytes);
};

// Documents of which encoders are trained, by columns.
struct SampleDocuments {
  MatrixView tokens;             // rows of floats without gaps, 1 at least
  std::span<const size_t> ends;  // as of EncodeDocuments; none is empty
};

// kind: kMuvera, its fill and centring chosen, or kOls, of a sample from all
// over the set. The same for any number of threads. MUVERA gives the same bits
// on every machine, as do queries of OLS; its documents do where LAPACK does.
// Internal: LAPACK failed. Cancelled: the token was set; it may be null.
absl::StatusOr<std::unique_ptr<const MultiEncoder>> TrainMultiEncoder(
    const MultiEncoderParams& params, const SampleDocuments& sample,
    size_t num_threads, const CancelToken* cancel);

}  // namespace vicinal
