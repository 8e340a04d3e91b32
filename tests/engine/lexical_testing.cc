#include "tests/engine/lexical_testing.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "index/sparse.h"
#include "src/base/half.h"
#include "src/engine/lexical_query.h"

namespace vicinal {
namespace {

std::map<std::string, uint32_t> CountsOf(const std::string& text) {
  std::map<std::string, uint32_t> counts;
  for (const absl::string_view word :
       absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    ++counts[std::string(word)];
  }
  return counts;
}

size_t LengthOf(const std::string& text) {
  size_t length = 0;
  for (const auto& [word, count] : CountsOf(text)) length += count;
  return length;
}

std::vector<Scored> Best(std::vector<Scored> all, size_t k) {
  std::sort(all.begin(), all.end(), [](const Scored& a, const Scored& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  });
  if (all.size() > k) all.resize(k);
  return all;
}

}  // namespace

CollectionSchema LexicalSchema(SparseWeight weight, bool idf) {
  CollectionSchema schema;
  schema.name = "lexical";
  schema.sparse.push_back({.name = "s", .weight = weight, .idf = idf});
  for (const char* path : {"title", "body"}) {
    TextField text;
    text.path = path;
    text.positions = true;
    schema.texts.push_back(std::move(text));
  }
  return schema;
}

SparseEntries RandomEntries(Random& random, size_t most) {
  std::map<uint32_t, float> entries;
  for (uint64_t n = random.Uniform(most + 1); n > 0; --n) {
    const auto dim = static_cast<uint32_t>(random.Uniform(10) == 0
                                               ? random.Uniform(4'000'000'000)
                                               : random.Uniform(40));
    // Halves, so that all types hold them; negative ones, too.
    entries[dim] = static_cast<float>(random.Uniform(9)) / 2 - 1;
  }
  SparseEntries out;
  for (const auto& [dim, weight] : entries) {
    if (weight == 0) continue;
    out.dims.push_back(dim);
    out.weights.push_back(weight);
  }
  return out;
}

std::string RandomWords(Random& random, size_t most) {
  std::string text;
  for (uint64_t n = random.Uniform(most + 1); n > 0; --n) {
    // Some words are rare.
    const uint64_t word = random.Uniform(1 + random.Uniform(60));
    absl::StrAppend(&text, text.empty() ? "" : " ",
                    std::string(1, static_cast<char>('a' + word % 26)),
                    std::string(word / 26, 'z'));
  }
  return text;
}

Document RandomDocument(Random& random) {
  Document document;
  document.sparse = RandomEntries(random, 12);
  document.title = RandomWords(random, 4);
  document.body = RandomWords(random, 30);
  document.rank = static_cast<int64_t>(random.Uniform(100));
  return document;
}

WriteOutcome Upsert(Collection* collection,
                    const std::map<uint64_t, Document>& documents) {
  PointBatch batch;
  SparseColumn column;
  column.name = "s";
  column.indptr.push_back(0);
  std::string indices, values;
  std::vector<std::string> payloads;
  for (const auto& [id, document] : documents) {
    batch.ids.emplace_back(id);
    for (size_t i = 0; i < document.sparse.dims.size(); ++i) {
      indices.append(reinterpret_cast<const char*>(&document.sparse.dims[i]),
                     4);
      values.append(reinterpret_cast<const char*>(&document.sparse.weights[i]),
                    4);
    }
    column.indptr.push_back(indices.size() / 4);
    payloads.push_back(absl::StrCat(R"({"title": ")", document.title,
                                    R"(", "body": ")", document.body,
                                    R"(", "rank": )", document.rank, "}"));
  }
  column.indices = indices;
  column.values = values;
  batch.sparse.push_back(std::move(column));
  for (const std::string& payload : payloads) {
    batch.payloads.emplace_back(payload);
  }
  return collection->Upsert(batch);
}

std::ostream& operator<<(std::ostream& out, const Scored& scored) {
  return out << scored.id.ToString() << ": " << scored.score;
}

std::vector<Scored> ScoredOf(const SearchResult& result) {
  std::vector<Scored> out;
  for (const Hit& hit : result.hits) out.push_back({hit.id, -hit.distance});
  return out;
}

std::vector<Scored> Search(const Collection& collection, Query query) {
  std::vector<Query> queries;
  queries.push_back(std::move(query));
  const auto results = collection.Search(queries, {});
  EXPECT_TRUE(results.ok()) << results.status();
  return results.ok() ? ScoredOf((*results)[0]) : std::vector<Scored>();
}

std::vector<Scored> LexicalOracle::BySparse(const SparseEntries& query,
                                            size_t k) const {
  SparseEntries weighed = query;
  uint64_t num_rows = 0;
  std::map<uint32_t, uint64_t> with;
  for (const auto& [id, document] : documents_) {
    num_rows += document.sparse.empty() ? 0 : 1;
    for (const uint32_t dim : document.sparse.dims) ++with[dim];
  }
  for (size_t i = 0; i < query.dims.size() && schema_.sparse[0].idf; ++i) {
    weighed.weights[i] = static_cast<float>(weighed.weights[i] *
                                            Idf(num_rows, with[query.dims[i]]));
  }
  std::vector<Scored> all;
  for (const auto& [id, document] : documents_) {
    bool overlap = false;
    const float score =
        SparseDot({document.sparse.dims, document.sparse.weights},
                  {weighed.dims, weighed.weights}, &overlap);
    if (overlap) all.push_back({PointId(id), score});
  }
  return Best(std::move(all), k);
}

std::vector<Scored> LexicalOracle::ByText(const std::string& field,
                                          const std::string& words, size_t k,
                                          float k1, float b) const {
  std::map<std::string, uint64_t> with;
  uint64_t num_rows = 0, length = 0;
  std::vector<std::pair<uint64_t, std::map<std::string, uint32_t>>> texts;
  std::set<std::string> all_words;
  for (const auto& [id, document] : documents_) {
    const std::string& text = field == "title" ? document.title : document.body;
    texts.emplace_back(id, CountsOf(text));
    for (const auto& [word, count] : texts.back().second) {
      ++with[word];
      all_words.insert(word);
    }
    num_rows += texts.back().second.empty() ? 0 : 1;
    length += LengthOf(text);
  }
  std::map<std::string, uint32_t> numbers;
  for (const std::string& word : all_words) {
    numbers.emplace(word, static_cast<uint32_t>(numbers.size()));
  }
  SparseEntries query;
  for (const auto& [word, times] : CountsOf(words)) {
    if (!numbers.contains(word)) continue;
    query.dims.push_back(numbers[word]);
    query.weights.push_back(
        static_cast<float>(times * Idf(num_rows, with[word])));
  }
  const Bm25 bm25{.k1 = k1,
                  .b = b,
                  .mean_length = length == 0
                                     ? 1
                                     : static_cast<double>(length) /
                                           static_cast<double>(num_rows)};
  std::vector<Scored> all;
  for (const auto& [id, counts] : texts) {
    SparseEntries row;
    for (const auto& [word, count] : counts) {
      row.dims.push_back(numbers[word]);
      row.weights.push_back(static_cast<float>(count));
    }
    bool overlap = false;
    const float score = Bm25Score({row.dims, row.weights},
                                  {query.dims, query.weights}, bm25, &overlap);
    if (overlap) all.push_back({PointId(id), score});
  }
  return Best(std::move(all), k);
}

std::vector<Scored> LexicalOracle::ByBoth(const std::string& words,
                                          float title_boost, float body_boost,
                                          size_t k) const {
  constexpr double kK1 = 1.2, kB = 0.75;
  std::vector<Scored> all;
  double title_length = 0, body_length = 0, titles = 0, bodies = 0;
  std::map<std::string, double> in_titles, in_bodies;
  for (const auto& [id, document] : documents_) {
    titles += document.title.empty() ? 0 : 1;
    bodies += document.body.empty() ? 0 : 1;
    title_length += static_cast<double>(LengthOf(document.title));
    body_length += static_cast<double>(LengthOf(document.body));
    for (const auto& [word, count] : CountsOf(document.title))
      ++in_titles[word];
    for (const auto& [word, count] : CountsOf(document.body)) ++in_bodies[word];
  }
  for (const auto& [id, document] : documents_) {
    double score = 0;
    std::map<std::string, uint32_t> title = CountsOf(document.title);
    std::map<std::string, uint32_t> body = CountsOf(document.body);
    for (const auto& [word, times] : CountsOf(words)) {
      const double share =
          title_boost * title[word] /
              (1 - kB +
               kB * static_cast<double>(LengthOf(document.title)) /
                   (title_length / titles)) +
          body_boost * body[word] /
              (1 - kB +
               kB * static_cast<double>(LengthOf(document.body)) /
                   (body_length / bodies));
      if (share == 0) continue;
      const double idf = Idf(
          static_cast<uint64_t>(std::max(titles, bodies)),
          static_cast<uint64_t>(std::max(in_titles[word], in_bodies[word])));
      score += times * idf * share / (share + kK1);
    }
    if (score > 0) all.push_back({PointId(id), static_cast<float>(score)});
  }
  return Best(std::move(all), k);
}

Query SparseQueryOf(SparseEntries entries, size_t k) {
  SparseStage stage;
  stage.vector_name = "s";
  stage.query = std::move(entries);
  stage.k = k;
  return Query{.stage = std::move(stage)};
}

Query TextQueryOf(std::string field, std::string text, size_t k) {
  TextStage stage;
  stage.fields.push_back({std::move(field)});
  stage.demand.text = std::move(text);
  stage.k = k;
  return Query{.stage = std::move(stage)};
}

Query ExpressionOf(std::string field, std::string expression, size_t k) {
  Query query = TextQueryOf(std::move(field), "", k);
  std::get<TextStage>(query.stage).demand.expression = std::move(expression);
  return query;
}

}  // namespace vicinal
