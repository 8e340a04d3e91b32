// Codes of token vectors, for MaxSim by integer products.
//
// A token p (a unit vector, for cosine) stands as
//   p ~ mean + centroid + scale R^T (S u - O)
// with R a random rotation, u small integers and S, O as in
// distance/kernels_maxsim.h, so that <q, p> is one product of bytes, one
// multiplication and, where there are centroids, one addition from a table.
// <q, mean> is the same for all documents: it is left out of the maximum and
// added at the end. The scale makes <p, its code> right (RaBitQ, SIGMOD 2024,
// eq. 13), not the error least.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "quant/kmeans.h"
#include "quant/rotation.h"
#include "src/base/cancel.h"
#include "src/base/vector_set.h"
#include "src/distance/kernels_maxsim.h"

namespace vicinal {

// Stored in descriptors and files.
enum class TokenCodecKind : uint8_t {
  kInt8 = 1,    // 8 bits
  kInt4 = 2,    // 4 bits
  kInt2 = 3,    // one of 256 centroids, and 2 bits of what is left
  kBinary = 4,  // 1 bit
};

// A query prepared for one codec. Const and thread-safe.
struct TokenCodeQuery {
  size_t num_tokens = 0;
  size_t num_panels = 0;       // of 16 tokens, the rest zero
  std::vector<int8_t> panels;  // see MaxSimKernels::max_codes
  std::vector<int32_t> sums;
  std::vector<float> table;   // empty: the codec has no centroids
  std::vector<float> scales;  // of each token: what its maximum is times
  double constant = 0;        // the same for all documents
};

// Trained once, then const and thread-safe.
class TokenCodec {
 public:
  // sample: rows of dim floats, unit vectors where tokens are compared as such;
  // empty: no mean, no rotation and no centroids, for kInt8. The same bits for
  // any number of threads and instruction set. InvalidArgument: dim not in
  // 1..4,096, or no sample. Cancelled: the token was set; it may be null.
  static absl::StatusOr<std::unique_ptr<const TokenCodec>> Train(
      TokenCodecKind kind, size_t dim, MatrixView sample, uint64_t seed,
      size_t num_threads, const CancelToken* cancel);
  // Untrusted bytes. DataLoss: they are no codec. FailedPrecondition: of a
  // newer version.
  static absl::StatusOr<std::unique_ptr<const TokenCodec>> Parse(
      absl::string_view bytes);

  TokenCodecKind kind() const { return kind_; }
  size_t dim() const { return dim_; }
  const TokenCodeForm& form() const { return form_; }
  // Of one coded token.
  size_t record_bytes() const { return form_.record_bytes; }
  std::string Serialize() const;

  // One record per token, in their order. tokens: rows of dim floats without
  // gaps, as documents have them.
  void Encode(MatrixView tokens, uint8_t* records) const;
  // weights: of each token, or empty: all 1.
  TokenCodeQuery Prepare(MatrixView tokens,
                         std::span<const float> weights) const;
  // Of each query token, 16 num_panels of them, the largest product with one of
  // n >= 1 coded tokens, in units of its scale and without the constant.
  void Maxima(const TokenCodeQuery& query, const uint8_t* records, size_t n,
              float* out) const;
  // The estimated score of such a document. scratch: 16 num_panels floats.
  float Score(const TokenCodeQuery& query, const uint8_t* records, size_t n,
              float* scratch) const;

 private:
  TokenCodec(TokenCodecKind kind, size_t dim);
  void UseRotation(uint64_t seed);
  void UseCentroids(std::vector<float> centroids);
  // values: padded_dim of them, already rotated.
  void EncodeOne(const float* values, uint8_t* scale, uint8_t* code) const;

  const TokenCodecKind kind_;
  const size_t dim_;
  TokenCodeForm form_;
  uint64_t seed_ = 0;
  std::vector<float> mean_;             // dim; empty: zero
  std::optional<Rotation> rotation_;    // of padded_dim
  std::vector<float> centroids_;        // 256 x dim, around the mean
  std::optional<CentroidPanels> near_;  // of the same
};

}  // namespace vicinal
