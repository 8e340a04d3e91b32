// A multi-vector of the rows of a segment: of each row the token vectors of a
// document, searched by MaxSim, the sum over query tokens q of the query's
// weight times the maximum over document tokens p of <q, p> (the cosine, for
// cosine fields). What searches ask of a segment, whether it grows or is
// sealed.
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
#include "index/index.h"
#include "quant/multi_encoder.h"
#include "quant/token_codec.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/base/types.h"

namespace vicinal {

// What the tokens of a field are, and how a sealed segment is to find them.
struct MultiSpec {
  size_t dim = 0;  // of a token
  ElementType type = ElementType::kFloat16;
  bool cosine = true;  // tokens are compared as unit vectors
  MultiEncoderParams encoder;
  TokenCodecKind token_codec = TokenCodecKind::kInt4;
  // Of the codes of encodings, per dimension, 0.5 to 8; 0: 2.
  float avg_bits = 0;

  size_t token_bytes() const { return dim * ElementSize(type); }
};

// The tokens of one row, `num_tokens` x dim elements of the field's type,
// without alignment.
struct TokenRows {
  const std::byte* data = nullptr;
  size_t num_tokens = 0;
};

// The row's tokens first .. first + count as floats, unit vectors for cosine.
void LoadTokens(const MultiSpec& spec, TokenRows row, size_t first,
                size_t count, float* out);

// A query, prepared once for all segments. Const and thread-safe.
class MultiQuery {
 public:
  // tokens: n x dim floats, finite; for cosine none of them zero. weights:
  // empty, all 1, or n of them, finite and >= 0.
  MultiQuery(const MultiSpec& spec, std::span<const float> tokens,
             std::span<const float> weights);

  size_t num_tokens() const { return num_tokens_; }
  // n x dim, unit vectors for cosine.
  MatrixView tokens() const {
    return {tokens_.data(), num_tokens_, spec_.dim, spec_.dim};
  }
  std::span<const float> weights() const { return weights_; }  // n

  // The exact score of a row that has tokens: of each product the sum over the
  // dimensions in their order, by fma, in f32; then the maxima times their
  // weights, in f64. The same bits on every machine.
  float Score(TokenRows row) const;
  // The products, n x row.num_tokens.
  std::vector<float> Similarities(TokenRows row) const;

 private:
  // Calls visit(first, count, products, width) for blocks of the row's tokens,
  // products[p * width + i] being that of token first + p with query token i.
  template <typename Visit>
  void ForEachBlock(TokenRows row, const Visit& visit) const;

  MultiSpec spec_;
  size_t num_tokens_;
  size_t num_panels_ = 0;
  std::vector<float> tokens_;
  std::vector<float> weights_;
  std::vector<float> panels_;  // of PackPanels
};

// Validated at the edge. What is 0 follows from recall_target; what is not is
// raised to k.
struct MultiSearchParams {
  size_t k = 10;
  bool exact = false;  // compare every row's tokens
  double recall_target = 0.95;
  size_t rescore = 0;           // best by codes, compared by their encodings
  size_t candidates = 0;        // of those, compared by coded tokens
  size_t exact_candidates = 0;  // of those, compared by their tokens
  ForcedPlan force = ForcedPlan::kNone;
};

// Work of one search, added to what is there.
struct MultiStats {
  uint64_t num_candidates = 0;  // compared by coded tokens
  uint64_t num_exact = 0;       // compared by their tokens
};

// Fewer rows than this are never compared by their tokens, where there are so
// many: codes put the best one wrong only by a little.
inline constexpr size_t kMinExactCandidates = 32;
// Searches poll their StopCondition once in so many tokens.
inline constexpr size_t kTokensPerCheck = 4096;

// Adds the work of one search; both may be null.
inline void AddWork(const SearchStats& done, const MultiStats& work,
                    SearchStats* stats, MultiStats* multi) {
  if (stats != nullptr) {
    stats->distance_computations += done.distance_computations;
    stats->expanded_nodes += done.expanded_nodes;
    stats->plan = done.plan;
  }
  if (multi != nullptr) {
    multi->num_candidates += work.num_candidates;
    multi->num_exact += work.num_exact;
  }
}

// Const members are safe from any thread while one thread appends (to a field
// that grows) and kills.
class MultiField {
 public:
  virtual ~MultiField() = default;

  // No tokens: the row has no such vector.
  virtual TokenRows TokensOf(RowId row) const = 0;
  // Pushes the k best rows of begin .. end that the filter accepts (its
  // `deleted` is not looked at: the field knows the dead ones) and that have
  // tokens; distances are minus exact scores. stats may be null, as multi.
  // Cancelled / DeadlineExceeded: `stop` said so.
  virtual absl::Status Search(const MultiQuery& query,
                              const MultiSearchParams& params,
                              const Filter& filter, RowId begin, RowId end,
                              const StopCondition& stop, TopK* out,
                              SearchStats* stats, MultiStats* multi) const = 0;
  virtual bool IsExact(const MultiSearchParams& params) const = 0;
  // For people: the encoder and what it found on the sample; empty: none.
  virtual std::string Describe() const = 0;
  // Of an encoder that was chosen by measurement.
  virtual std::optional<MultiEncoderParams> encoder_params() const {
    return std::nullopt;
  }
  // Bytes of tokens / of what is derived from them, in memory or mapped files.
  virtual size_t token_bytes() const = 0;
  virtual size_t index_bytes() const = 0;
  // The row is dead from now on. One thread at a time.
  virtual void Kill(RowId row) = 0;
};

}  // namespace vicinal
