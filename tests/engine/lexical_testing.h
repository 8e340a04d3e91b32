// Documents with a sparse vector and two texts, and what searches of them must
// find, in the simplest way there is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "src/base/point_id.h"
#include "src/base/random.h"
#include "src/engine/collection.h"
#include "src/engine/query.h"
#include "src/engine/schema.h"

namespace vicinal {

struct Document {
  SparseEntries sparse;
  std::string title;  // words of a to z between spaces
  std::string body;
  int64_t rank = 0;
};

// Sparse vector "s", texts "title" and "body" with positions.
CollectionSchema LexicalSchema(SparseWeight weight, bool idf);

// Of few dimensions and words, so that there are ties.
Document RandomDocument(Random& random);
SparseEntries RandomEntries(Random& random, size_t most);
std::string RandomWords(Random& random, size_t most);

// As one commit.
WriteOutcome Upsert(Collection* collection,
                    const std::map<uint64_t, Document>& documents);

struct Scored {
  PointId id;
  float score = 0;
  friend bool operator==(const Scored&, const Scored&) = default;
};
std::ostream& operator<<(std::ostream& out, const Scored& scored);
std::vector<Scored> ScoredOf(const SearchResult& result);
std::vector<Scored> Search(const Collection& collection, Query query);

// Best first, ties by id.
class LexicalOracle {
 public:
  explicit LexicalOracle(CollectionSchema schema)
      : schema_(std::move(schema)) {}

  std::map<uint64_t, Document>& documents() { return documents_; }
  std::vector<Scored> BySparse(const SparseEntries& query, size_t k) const;
  // Any of the words, in one field.
  std::vector<Scored> ByText(const std::string& field, const std::string& words,
                             size_t k, float k1, float b) const;
  // In both, by boosts.
  std::vector<Scored> ByBoth(const std::string& words, float title_boost,
                             float body_boost, size_t k) const;

 private:
  CollectionSchema schema_;
  std::map<uint64_t, Document> documents_;
};

Query SparseQueryOf(SparseEntries entries, size_t k);
Query TextQueryOf(std::string field, std::string text, size_t k);
Query ExpressionOf(std::string field, std::string expression, size_t k);

}  // namespace vicinal
