// What analyzers are for: BM25 over their terms finds what the published
// judgments call relevant, as well as the references of the study.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "index/sparse.h"
#include "src/base/bitmap.h"
#include "src/base/cancel.h"
#include "src/base/top_k.h"
#include "src/text/analyzer.h"
#include "tests/text/text_testing.h"

namespace vicinal {
namespace {

constexpr size_t kDepth = 100;

using Counts = std::map<uint32_t, float>;

// A collection's terms, and an index of how often they stand in each document.
class Collection {
 public:
  Collection(const Analyzer& analyzer,
             const std::vector<TextDocument>& documents)
      : analyzer_(analyzer) {
    std::vector<uint64_t> offsets = {0};
    std::vector<uint32_t> dims;
    std::vector<float> weights;
    double total = 0;
    for (const TextDocument& document : documents) {
      for (const auto& [term, count] : CountsOf(document.text, true)) {
        dims.push_back(term);
        weights.push_back(count);
        total += std::min(count, 255.0f);
        ++frequency_[term];
      }
      offsets.push_back(dims.size());
    }
    num_rows_ = documents.size();
    mean_length_ = total / static_cast<double>(num_rows_);
    num_postings_ = dims.size();
    const auto bytes = BuildSparseIndex({offsets, dims, weights},
                                        SparseWeight::kCount, nullptr);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    // Strings need not begin where arrays may.
    words_.resize(bytes->size() / 8 + 1);
    std::memcpy(words_.data(), bytes->data(), bytes->size());
    auto index = SparseIndex::Open(
        {reinterpret_cast<const char*>(words_.data()), bytes->size()});
    EXPECT_TRUE(index.ok()) << index.status();
    index_ = *std::move(index);
  }

  // Rows, best first.
  std::vector<size_t> Search(absl::string_view query) {
    std::vector<uint32_t> dims;
    std::vector<float> weights;
    for (const auto& [term, count] : CountsOf(query, false)) {
      const double df = frequency_[term];
      const double idf =
          std::log1p((static_cast<double>(num_rows_) - df + 0.5) / (df + 0.5));
      dims.push_back(term);
      weights.push_back(static_cast<float>(count * idf));
    }
    TopK best(kDepth);
    const SparseParams params = {.k = kDepth,
                                 .bm25 = {.mean_length = mean_length_}};
    const auto status =
        index_->Search({dims, weights}, params, {}, {}, &best, nullptr);
    EXPECT_TRUE(status.ok()) << status;
    std::vector<size_t> rows;
    for (const Neighbor& neighbor : best.TakeSorted()) {
      rows.push_back(neighbor.row);
    }
    return rows;
  }

  size_t num_terms() const { return terms_.size(); }
  size_t num_postings() const { return num_postings_; }

 private:
  // Unknown terms are learned or passed over.
  Counts CountsOf(absl::string_view text, bool learn) {
    Counts counts;
    analyzer_.Analyze(text, [&](const Token& token) {
      const std::string term(token.term);
      if (learn) terms_.emplace(term, static_cast<uint32_t>(terms_.size()));
      const auto it = terms_.find(term);
      if (it != terms_.end()) ++counts[it->second];
    });
    return counts;
  }

  const Analyzer& analyzer_;
  std::map<std::string, uint32_t> terms_;
  std::map<uint32_t, size_t> frequency_;
  size_t num_rows_ = 0;
  size_t num_postings_ = 0;
  double mean_length_ = 1;
  std::vector<uint64_t> words_;
  std::unique_ptr<SparseIndex> index_;
};

using Judgments = std::map<std::string, std::map<std::string, double>>;

Judgments ParseJudgments(const std::string& tsv) {
  Judgments judgments;
  for (const absl::string_view line :
       absl::StrSplit(tsv, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> fields = absl::StrSplit(line, '\t');
    const double gain = fields.size() == 3 ? std::atof(fields[2].c_str()) : 0;
    if (gain > 0) judgments[fields[0]][fields[1]] = gain;
  }
  return judgments;
}

struct Relevance {
  double ndcg_at_10 = 0;
  double recall_at_2 = 0;
  double recall_at_100 = 0;
};

// Of one query: ids of what was found, best first.
Relevance Judge(const std::vector<std::string>& found,
                const std::map<std::string, double>& relevant) {
  const auto discount = [](size_t rank) {
    return 1 / std::log2(static_cast<double>(rank) + 2);
  };
  Relevance relevance;
  std::vector<double> gains;
  for (const auto& [id, gain] : relevant) gains.push_back(gain);
  std::ranges::sort(gains, std::greater<>());
  double ideal = 0;
  for (size_t i = 0; i < std::min<size_t>(gains.size(), 10); ++i) {
    ideal += gains[i] * discount(i);
  }
  const double share = 1 / static_cast<double>(relevant.size());
  for (size_t i = 0; i < found.size(); ++i) {
    const auto it = relevant.find(found[i]);
    if (it == relevant.end()) continue;
    if (i < 10) relevance.ndcg_at_10 += it->second * discount(i) / ideal;
    if (i < 2) relevance.recall_at_2 += share;
    relevance.recall_at_100 += share;
  }
  return relevance;
}

struct Reference {
  std::string set;
  std::string analyzer;
  double ndcg_at_10 = 0;
  double recall_at_100 = 0;
};

// Tables 6.1 and 6.2 of ../shared/research/sparse.md, and what its goals ask.
const std::vector<Reference>& References() {
  static const auto* const kReferences =
      new std::vector<Reference>{{"scifact", "english", 0.683, 0.927},
                                 {"cranfield", "english", 0.375},
                                 {"cacm", "english", 0.51},
                                 {"limit-small", "standard", 0.9971},
                                 {"xquad-en", "english", 0.965},
                                 {"xquad-zh", "standard", 0.96},
                                 {"xquad-zh", "cjk", 0.96},
                                 {"xquad-th", "standard", 0.96},
                                 {"xquad-hi", "hindi", 0.95},
                                 {"xquad-ru", "russian", 0.953}};
  return *kReferences;
}

Relevance Measure(const Reference& reference, Collection& collection,
                  const std::vector<TextDocument>& documents,
                  const std::vector<TextDocument>& queries,
                  const Judgments& judgments) {
  Relevance sum;
  size_t num_judged = 0;
  for (const TextDocument& query : queries) {
    const auto relevant = judgments.find(query.id);
    if (relevant == judgments.end()) continue;
    std::vector<std::string> found;
    for (const size_t row : collection.Search(query.text)) {
      found.push_back(documents[row].id);
    }
    const Relevance one = Judge(found, relevant->second);
    sum.ndcg_at_10 += one.ndcg_at_10;
    sum.recall_at_2 += one.recall_at_2;
    sum.recall_at_100 += one.recall_at_100;
    ++num_judged;
  }
  EXPECT_GT(num_judged, 0u);
  const auto count = static_cast<double>(num_judged);
  const Relevance mean = {sum.ndcg_at_10 / count, sum.recall_at_2 / count,
                          sum.recall_at_100 / count};
  std::printf("%-12s %-9s %6zu %6zu %8zu %7.4f %7.3f %7.4f %7.4f\n",
              reference.set.c_str(), reference.analyzer.c_str(),
              documents.size(), collection.num_terms(),
              collection.num_postings(), mean.ndcg_at_10, reference.ndcg_at_10,
              mean.recall_at_100, mean.recall_at_2);
  return mean;
}

TEST(RelevanceTest, IsThatOfTheReferences) {
  std::printf("%-12s %-9s %6s %6s %8s %7s %7s %7s %7s\n", "set", "analyzer",
              "docs", "terms", "postings", "nDCG@10", "aim", "R@100", "R@2");
  for (const Reference& reference : References()) {
    SCOPED_TRACE(absl::StrCat(reference.set, " ", reference.analyzer));
    const std::string folder = absl::StrCat("text/", reference.set, "/");
    const auto corpus = ReadSharedText(folder + "corpus.jsonl.gz");
    const auto questions = ReadSharedText(folder + "queries.jsonl.gz");
    const auto judged = ReadSharedText(folder + "qrels.tsv");
    if (!corpus || !questions || !judged) {
      GTEST_SKIP() << "no ../shared/data/ir/" << folder;
    }
    const auto analyzer = MakeAnalyzer(reference.analyzer);
    const std::vector<TextDocument> documents = ParseDocuments(*corpus);
    Collection collection(*analyzer, documents);
    const Relevance mean =
        Measure(reference, collection, documents, ParseDocuments(*questions),
                ParseJudgments(*judged));
    EXPECT_GE(mean.ndcg_at_10, reference.ndcg_at_10 - 0.005);
    EXPECT_GE(mean.recall_at_100, reference.recall_at_100 - 0.005);
    if (reference.set == "limit-small") {
      EXPECT_GE(mean.recall_at_2, 0.99);
    }
  }
}

}  // namespace
}  // namespace vicinal
