// Multi-vectors that the tests of their fields share: documents in every
// element type, sealed fields in files of their own, and naive answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "index/growing_multi.h"
#include "index/multi_field.h"
#include "index/sealed_multi.h"
#include "src/base/random.h"
#include "src/base/section_file.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "tests/client/test_files.h"

namespace vicinal {

using Floats = std::vector<float>;

// Prints the seed.
Random SeededTokens(uint64_t seed);

// The values as elements of `type`; rounded and, for kInt8, clamped.
std::string TokenBytes(const Floats& values, ElementType type);
inline TokenRows RowOf(const MultiSpec& spec, const std::string& bytes) {
  return {reinterpret_cast<const std::byte*>(bytes.data()),
          bytes.size() / spec.token_bytes()};
}
// Gaussian elements, those of kInt8 large enough to be told apart.
Floats GaussianTokens(const MultiSpec& spec, size_t n, Random* random);

// The sum of the weighted maxima, in f64 by the definition; `scale`: what its
// terms are of the order of, however they cancel.
struct NaiveMaxSim {
  double score = 0;
  double scale = 0;
};
NaiveMaxSim ScoreNaively(const MultiSpec& spec, const Floats& query,
                         std::span<const float> weights,
                         const std::string& bytes);

// Rows of one field, some of them without tokens.
struct Documents {
  MultiSpec spec;
  std::vector<std::string> rows;

  TokenRows row(size_t i) const { return RowOf(spec, rows[i]); }
  std::unique_ptr<GrowingMultiField> Grow() const;
};
// 1 to max_tokens Gaussian tokens, and in every `empty`-th row none; 0: in all
// some.
Documents MakeDocuments(const MultiSpec& spec, size_t num_rows,
                        size_t max_tokens, size_t empty, Random* random);

// What documents are about: each is of some topics, and its tokens are words of
// these, each a little different in each place.
class Topics {
 public:
  Topics(size_t dim, uint64_t seed);
  // A document of num_tokens, a half more or less.
  Floats Document(size_t num_tokens);
  // Tokens of the document, each said in another way.
  Floats QueryFor(const Floats& document, size_t num_tokens);

 private:
  Floats Near(const float* centre, double spread);

  const size_t dim_;
  Random random_;
  Floats words_;
};

// A sealed field with its files. Null: not built, or not opened.
struct SealedFiles {
  client::TemporaryFolder folder;
  std::unique_ptr<SectionFile> vectors;
  std::unique_ptr<SectionFile> index;
  std::unique_ptr<SealedMultiField> field;

  std::string vectors_path() const { return folder.File("v"); }
  std::string index_path() const { return folder.File("i"); }
};
// The files of field 0, not opened. Errors: of MultiFieldBuild.
absl::Status WriteField(const MultiSpec& spec, std::vector<MultiSource> rows,
                        MultiBuildOptions options, SealedFiles* out);
absl::Status OpenField(const MultiSpec& spec, size_t num_rows,
                       SealedFiles* out);
std::vector<MultiSource> SourcesOf(const MultiField& field, size_t num_rows);
// Both; fails the test where one fails.
std::unique_ptr<SealedFiles> Seal(const MultiSpec& spec,
                                  std::vector<MultiSource> rows,
                                  MultiBuildOptions options = {});
std::unique_ptr<SealedFiles> Seal(const Documents& documents,
                                  MultiBuildOptions options = {});

// Rows as a search gives them. Fails the test where it fails.
std::vector<Neighbor> Find(const MultiField& field, const MultiQuery& query,
                           const MultiSearchParams& params,
                           const Filter& filter, RowId begin, RowId end,
                           MultiStats* work = nullptr,
                           SearchStats* stats = nullptr);
// The k best of the rows that `accepts` (row) takes, by their exact scores.
template <typename Accepts>
std::vector<Neighbor> FindNaively(const Documents& documents,
                                  const MultiQuery& query, size_t k,
                                  const Accepts& accepts) {
  TopK top(k);
  for (RowId row = 0; row < documents.rows.size(); ++row) {
    if (documents.rows[row].empty() || !accepts(row)) continue;
    top.Push({-query.Score(documents.row(row)), row});
  }
  return top.TakeSorted();
}
// The share of `exact` that is in `found`.
double RecallOf(const std::vector<Neighbor>& found,
                const std::vector<Neighbor>& exact);

}  // namespace vicinal
