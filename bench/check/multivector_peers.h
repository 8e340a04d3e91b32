// What searches of multi-vectors are compared with, written as others do it.
// All of them compare their candidates by our kernels and codes, so that they
// differ from ours by how they find them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/check/multivector_data.h"
#include "index/hnsw.h"
#include "index/multi_field.h"
#include "quant/multi_encoder.h"
#include "quant/token_codec.h"
#include "src/base/top_k.h"

namespace vicinal::bench {

// The tokens of a set, coded. Borrows the set.
class CodedTokens {
 public:
  static absl::StatusOr<CodedTokens> Create(const MultiSet& set,
                                            TokenCodecKind kind,
                                            size_t num_threads);

  const MultiSet& set() const { return set_; }
  const TokenCodec& codec() const { return *codec_; }
  const uint8_t* records(size_t document) const {
    return records_.data() + set_.offsets[document] * codec_->record_bytes();
  }
  float Score(const TokenCodeQuery& query, size_t document,
              float* scratch) const {
    return codec_->Score(query, records(document),
                         set_.document(document).num_tokens, scratch);
  }
  // Pushes the best of `rows` by codes with minus their scores.
  void Rank(const MultiQuery& query, std::span<const RowId> rows,
            TopK* out) const;
  // MaxSim over all documents by codes, the num_exact best of them then by
  // their tokens.
  void SearchAll(const MultiQuery& query, size_t num_exact, TopK* out) const;
  // Of each query the k best, by their tokens.
  std::vector<std::vector<Neighbor>> Truth(
      const std::vector<MultiQuery>& queries, size_t k,
      size_t num_threads) const;

 private:
  CodedTokens(const MultiSet& set, std::unique_ptr<const TokenCodec> codec)
      : set_(set), codec_(std::move(codec)) {}

  const MultiSet& set_;
  std::unique_ptr<const TokenCodec> codec_;
  std::vector<uint8_t> records_;
};

// Pushes the documents among `nearest`, compared by their tokens; leaves it
// empty.
void CompareExactly(const MultiSet& set, const MultiQuery& query, TopK* nearest,
                    TopK* out);

// The token heuristic ("single-vector heuristic", Weaviate without MUVERA,
// Milvus's tokenann): a graph over all tokens. Borrows `coded`.
class TokenHeuristic {
 public:
  static absl::StatusOr<std::unique_ptr<TokenHeuristic>> Build(
      const CodedTokens& coded, size_t num_threads);
  // Finds the num_tokens nearest tokens of each query token. A document counts
  // with what its tokens have over the last found, in sum (as XTR imputes what
  // is missing); the num_candidates best are compared.
  absl::Status Search(const MultiQuery& query, size_t num_tokens,
                      size_t num_candidates, size_t num_exact, TopK* out) const;

 private:
  explicit TokenHeuristic(const CodedTokens& coded) : coded_(coded) {}

  const CodedTokens& coded_;
  std::string graph_;
  std::unique_ptr<const HnswIndex> index_;
  std::vector<uint32_t> document_of_;  // by token
};

// The pipeline of PLAID (Santhanam et al., CIKM 2022): lists of documents by
// the centroids of their tokens, scores by centroids alone, then by 2-bit
// residuals, then exact. Residuals are those of our codec kInt2, which are
// finer than PLAID's buckets. Borrows `coded`.
class PlaidPipeline {
 public:
  struct Settings {
    size_t num_probes = 4;  // lists of each query token
    // Centroids of each query token that count in the scores of all documents
    // of the lists; 0: all do.
    size_t num_kept = 0;
    size_t num_by_centroids = 1024;  // then compared by residuals
    size_t num_exact = 32;           // of those, by their tokens
  };
  static absl::StatusOr<std::unique_ptr<PlaidPipeline>> Build(
      const CodedTokens& coded, size_t num_threads);
  void Search(const MultiQuery& query, const Settings& settings,
              TopK* out) const;
  size_t num_centroids() const { return lists_.size(); }

 private:
  explicit PlaidPipeline(const CodedTokens& coded) : coded_(coded) {}

  const CodedTokens& coded_;
  std::optional<CodedTokens> residuals_;
  std::vector<float> centroids_;
  std::vector<std::vector<uint32_t>> lists_;  // of documents
  std::vector<uint64_t> id_offsets_;          // of documents
  std::vector<uint16_t> ids_;  // centroids of a document, each once
};

// Ranks all documents by their encodings in f32. Several encoders make one
// longer encoding of theirs. Of each query the `depth` best, best first.
std::vector<std::vector<RowId>> RankByEncodings(
    const MultiSet& set, const std::vector<MultiQuery>& queries,
    const std::vector<std::unique_ptr<const MultiEncoder>>& encoders,
    size_t depth, size_t num_threads);

// MUVERA as its paper runs it, (20, 5, 16) in all its 10,240 dimensions for
// tokens of 128: as several encoders, since ours make less.
absl::StatusOr<std::vector<std::unique_ptr<const MultiEncoder>>>
MakePaperEncoders(const SampleDocuments& sample, size_t num_threads);

// MaxSim of n and num_tokens vectors of f32, as the compiler vectorizes it.
float NaiveMaxSim(const float* query, size_t n, const float* tokens,
                  size_t num_tokens, size_t dim);

}  // namespace vicinal::bench
