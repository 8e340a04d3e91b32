// Sparse vectors and texts that the tests of lexical fields share, and what a
// search of them has to find.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "index/growing_lexical.h"
#include "index/lexical_field.h"
#include "index/sealed_lexical.h"
#include "index/sparse.h"
#include "src/base/bitmap.h"
#include "src/base/random.h"
#include "src/base/top_k.h"

namespace vicinal {

// Prints the seed.
Random SeededRandom(uint64_t seed);

// By dimension, of texts by the word's number among all words.
using LexicalEntries = std::map<uint32_t, float>;

enum class LexicalWeights { kPositive, kSigned, kIntegers, kCounts };

// Rows of one field, with all that is true of them.
struct LexicalCorpus {
  LexicalKind kind = LexicalKind::kSparse;
  bool has_positions = false;
  std::vector<std::string> words;  // of texts: ascending
  std::vector<LexicalEntries> rows;
  // Of a row and a word of it.
  std::map<std::pair<size_t, uint32_t>, std::vector<uint32_t>> positions;

  bool is_text() const { return kind == LexicalKind::kText; }
  SparseWeight weight() const {
    return is_text() ? SparseWeight::kCount : SparseWeight::kFloat16;
  }
  // kNoTerm: no row of the field has it.
  uint32_t TermOf(const LexicalField& field, uint32_t dim) const;
  void AppendTo(size_t row, GrowingLexicalField* field) const;
  std::unique_ptr<GrowingLexicalField> Grow(size_t begin, size_t end) const;
};

// Few dimensions are in most rows, most in few; some rows have no entry.
// Weights are such that f16 keeps them.
LexicalEntries RandomLexicalEntries(LexicalWeights weights, size_t count,
                                    uint32_t num_dims, Random& random);
LexicalCorpus MakeLexicalCorpus(LexicalWeights weights, size_t num_rows,
                                uint32_t num_dims, bool has_positions,
                                Random& random);

// A sealed field that owns its bytes. Empty: `sources` cannot be built.
class SealedBytes {
 public:
  explicit SealedBytes(const LexicalBytes& bytes);
  LexicalView view() const { return view_; }

 private:
  // Strings need not begin where arrays may, and do not end where they say.
  std::unique_ptr<char[]> parts_[3];
  LexicalView view_;
};
struct OwnedSealed {
  std::unique_ptr<SealedBytes> bytes;
  std::unique_ptr<SealedLexicalField> field;
};
LexicalBytes BuildLexical(const LexicalCorpus& corpus,
                          const std::vector<LexicalSource>& sources);
OwnedSealed SealLexical(const LexicalCorpus& corpus,
                        const std::vector<LexicalSource>& sources);
// All rows of it.
std::vector<LexicalSource> SourcesOf(const LexicalField& field,
                                     size_t num_rows);

// By SparseDot or Bm25Score of every row.
std::vector<Neighbor> FindLexicalByBruteForce(const LexicalCorpus& corpus,
                                              const LexicalEntries& query,
                                              const SparseParams& params,
                                              const Filter& filter, RowId begin,
                                              RowId end);
// The query's terms go in shuffled.
std::vector<Neighbor> FindLexical(const LexicalField& field,
                                  const LexicalCorpus& corpus,
                                  const LexicalEntries& query,
                                  const SparseParams& params,
                                  const Filter& filter, RowId begin, RowId end,
                                  Random& random);

// NumLive and the totals are those of the rows of which `dead` says nothing.
void ExpectCounts(const LexicalField& field, const LexicalCorpus& corpus,
                  const std::vector<bool>& dead);
// Entries, postings, lengths and positions are the corpus's.
void ExpectHolds(const LexicalField& field, const LexicalCorpus& corpus);

}  // namespace vicinal
