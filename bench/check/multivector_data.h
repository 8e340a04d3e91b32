// Documents of token vectors for benchmarks: two real sets, and generated ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "index/multi_field.h"
#include "quant/multi_encoder.h"
#include "src/base/mapped_buffer.h"

namespace vicinal::bench {

// Tokens are unit vectors of f16, compared as such.
struct MultiSet {
  std::string name;
  size_t dim = 0;
  std::vector<uint64_t> offsets = {0};  // in tokens, one more than documents
  MappedBuffer tokens;
  std::vector<std::vector<float>> queries;  // each n x dim
  // Of each query, where the set has them: the documents that are best by
  // MaxSim, best first, and those that people found relevant.
  std::vector<std::vector<uint32_t>> truth;
  std::vector<std::vector<uint32_t>> relevant;

  size_t num_documents() const { return offsets.size() - 1; }
  size_t num_tokens() const { return offsets.back(); }
  TokenRows document(size_t i) const {
    return {tokens.data() + offsets[i] * dim * sizeof(uint16_t),
            offsets[i + 1] - offsets[i]};
  }
  MultiSpec Spec() const { return {.dim = dim}; }
};

// The sets "mv-glove-20k" and "lotte500-colbertv2" of ../shared/data. NotFound,
// DataLoss: files are not there, or not what they should be.
absl::StatusOr<MultiSet> LoadGlove(const std::string& data_dir);
absl::StatusOr<MultiSet> LoadLotte(const std::string& data_dir);

// Documents of 50 to 100 tokens and queries of 32, after the study's set S66
// (../shared/research/multivector.md, section 5): see multivector_data.cc.
// 128 dimensions, two tokens' mean cosine is about 0.5. The same for any number
// of threads.
MultiSet MakeTokens(size_t num_documents, size_t num_queries, uint64_t seed,
                    size_t num_threads);

// The first documents of a set, with all its queries and without its truth.
MultiSet FirstDocuments(const MultiSet& set, size_t num_documents);

// Whole documents from all over a set, as floats.
struct DocumentSample {
  DocumentSample(const MultiSet& set, size_t num_documents);
  SampleDocuments view() const {
    return {{tokens.data(), tokens.size() / dim, dim, dim}, ends};
  }

  size_t dim;
  std::vector<float> tokens;
  std::vector<size_t> ends;
};

// What a build takes its rows from. Borrows the set.
class SetField final : public MultiField {
 public:
  explicit SetField(const MultiSet& set) : set_(set) {}
  TokenRows TokensOf(RowId row) const override { return set_.document(row); }
  absl::Status Search(const MultiQuery&, const MultiSearchParams&,
                      const Filter&, RowId, RowId, const StopCondition&, TopK*,
                      SearchStats*, MultiStats*) const override {
    return absl::UnimplementedError("only to be built from");
  }
  bool IsExact(const MultiSearchParams&) const override { return false; }
  std::string Describe() const override { return {}; }
  size_t token_bytes() const override { return set_.tokens.size_bytes(); }
  size_t index_bytes() const override { return 0; }
  void Kill(RowId) override {}

 private:
  const MultiSet& set_;
};

}  // namespace vicinal::bench
