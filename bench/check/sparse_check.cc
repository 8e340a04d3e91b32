// Measures the speed table of sparse searches. Run by bench/check.sh sparse.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/check/lexical_rows.h"
#include "bench/check/report.h"
#include "bench/check/sparse_data.h"
#include "bench/check/sparse_peers.h"
#include "bench/machine.h"
#include "bench/workspace.h"
#include "index/sparse.h"
#include "src/base/bitmap.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

constexpr size_t kK = 10;

struct Flags {
  std::string data_dir = VICINAL_SOURCE_DIR "/../shared/data";
  std::string out;
  size_t documents = 1'000'000;
  size_t queries = 200;
  size_t passes = 3;
};

using Answers = std::vector<std::vector<Neighbor>>;

// One index beside its peers. Life: made, then measured.
class SparseBench {
 public:
  SparseBench(const Flags& flags, CheckReport* report)
      : flags_(flags), report_(*report) {}
  absl::Status MeasureVectors();
  absl::Status MeasureTexts();

 private:
  using SearchOne = std::function<absl::Status(SparseRow, TopK*)>;

  absl::Status Build(const SparseMatrix& documents, SparseWeight type,
                     const std::string& name);
  // Microseconds of a query of one thread, of the fastest pass.
  absl::StatusOr<double> Time(const SparseMatrix& queries,
                              const SearchOne& search, Answers* answers,
                              size_t passes = 0) const;
  SearchOne With(const SparseParams& params, const Filter& filter = {}) const {
    return [this, params, filter](SparseRow query, TopK* out) {
      return index_->Search(query, params, filter, {}, out, nullptr);
    };
  }
  void Add(const std::string& key, const std::string& what, Bound bound,
           double limit, double measured, nlohmann::json raw = {}) {
    report_.Add({.key = key,
                 .what = what,
                 .bound = bound,
                 .limit = limit,
                 .measured = measured,
                 .raw = std::move(raw)});
  }
  absl::Status MeasureApproximate(const SparseMatrix& queries,
                                  const Answers& truth, double exhaustive_us);
  absl::Status MeasureFilter(const SparseMatrix& queries, double exact_us);

  const Flags& flags_;
  CheckReport& report_;
  std::string bytes_;
  std::unique_ptr<SparseIndex> index_;
};

absl::Status SparseBench::Build(const SparseMatrix& documents,
                                SparseWeight type, const std::string& name) {
  index_.reset();
  const double start = ThreadSeconds();
  VICINAL_ASSIGN_OR_RETURN(bytes_,
                           BuildSparseIndex(documents.view(), type, nullptr));
  const double seconds = ThreadSeconds() - start;
  VICINAL_ASSIGN_OR_RETURN(index_, SparseIndex::Open(bytes_));
  const auto postings = static_cast<double>(documents.dims.size());
  Add(name + "_build", "sealed build, " + name + ", of 1M postings/s",
      Bound::kAtLeast, 1, postings / seconds / 1e6,
      {{"postings", postings}, {"seconds", seconds}});
  Add(name + "_bytes", "index, " + name + ", of 3.3 + 4 bytes per posting",
      Bound::kAtMost, 1, static_cast<double>(bytes_.size()) / postings / 7.3,
      {{"bytes_per_posting", static_cast<double>(bytes_.size()) / postings}});
  return absl::OkStatus();
}

absl::StatusOr<double> SparseBench::Time(const SparseMatrix& queries,
                                         const SearchOne& search,
                                         Answers* answers,
                                         size_t passes) const {
  double best = 1e30;
  if (passes == 0) passes = flags_.passes;
  for (size_t pass = 0; pass < passes; ++pass) {
    answers->clear();
    const double start = ThreadSeconds();
    for (size_t q = 0; q < queries.num_rows(); ++q) {
      TopK top(kK);
      VICINAL_RETURN_IF_ERROR(search(queries.row(q), &top));
      answers->push_back(top.TakeSorted());
    }
    best = std::min(best, ThreadSeconds() - start);
  }
  return 1e6 * best / static_cast<double>(queries.num_rows());
}

double Recall(const Answers& truth, const Answers& answers) {
  size_t found = 0, wanted = 0;
  for (size_t q = 0; q < truth.size(); ++q) {
    wanted += truth[q].size();
    for (const Neighbor& hit : answers[q]) {
      found += hit.distance <= truth[q].back().distance;
    }
  }
  return static_cast<double>(found) / static_cast<double>(wanted);
}

absl::Status SparseBench::MeasureApproximate(const SparseMatrix& queries,
                                             const Answers& truth,
                                             double exhaustive_us) {
  struct Goal {
    double recall, times;
    double best_us = 1e30;
    std::string setting;
  };
  Goal goals[] = {{.recall = 0.95, .times = 20}, {.recall = 0.99, .times = 15}};
  for (const double mass : {0.4, 0.5, 0.6, 0.7}) {
    for (const size_t candidates : {50, 100, 200, 400}) {
      Answers answers;
      VICINAL_ASSIGN_OR_RETURN(
          const double us,
          Time(queries,
               With({.k = kK, .query_mass = mass, .candidates = candidates}),
               &answers));
      const double recall = Recall(truth, answers);
      for (Goal& goal : goals) {
        if (recall < goal.recall || us >= goal.best_us) continue;
        goal.best_us = us;
        goal.setting = absl::StrFormat("mass %.1f, %d candidates: %.3f", mass,
                                       candidates, recall);
      }
    }
  }
  for (const Goal& goal : goals) {
    Add(absl::StrFormat("approximate_%.0f", 100 * goal.recall),
        absl::StrFormat("SPLADE, recall@10 %.2f, vs exhaustive (%s)",
                        goal.recall, goal.setting),
        Bound::kAtLeast, goal.times, exhaustive_us / goal.best_us,
        {{"us", goal.best_us}, {"exhaustive_us", exhaustive_us}});
  }
  return absl::OkStatus();
}

absl::Status SparseBench::MeasureFilter(const SparseMatrix& queries,
                                        double exact_us) {
  Bitmap allowed(index_->num_rows());
  Random random(3);
  for (RowId row = 0; row < index_->num_rows(); ++row) {
    if (random.Uniform(100) == 0) allowed.Set(row);
  }
  const Filter filter{.allowed = &allowed, .num_allowed = allowed.Count()};
  Answers answers, truth;
  VICINAL_ASSIGN_OR_RETURN(const double us,
                           Time(queries, With({.k = kK}, filter), &answers));
  VICINAL_RETURN_IF_ERROR(
      Time(queries, With({.k = kK, .scan = true}, filter), &truth, 1).status());
  Add("filter_time", "SPLADE, a filter of 1 %, time of no filter",
      Bound::kAtMost, 1, us / exact_us, {{"us", us}});
  Add("filter_recall", "SPLADE, a filter of 1 %, recall", Bound::kAtLeast, 1,
      answers == truth ? 1 : 0);
  return absl::OkStatus();
}

absl::Status SparseBench::MeasureVectors() {
  const std::string folder = flags_.data_dir + "/ir/splade-queries/topics.";
  std::vector<std::string> words;
  VICINAL_ASSIGN_OR_RETURN(
      const SparseMatrix passages,
      ReadSpladeQueries(folder + "msmarco-passage.dev-subset.splade-v3.tsv.gz",
                        &words));
  VICINAL_ASSIGN_OR_RETURN(
      const SparseMatrix documents,
      ReadSpladeQueries(folder + "msmarco-v2-doc.dev.splade-v3.tsv.gz",
                        &words));
  SparseMatrix pool, queries;
  for (size_t i = 0; i < passages.num_rows(); ++i) {
    const bool is_query = i % 10 == 0 && queries.num_rows() < flags_.queries;
    (is_query ? queries : pool).Append(passages.row(i));
  }
  for (size_t i = 0; i < documents.num_rows(); ++i) {
    pool.Append(documents.row(i));
  }
  const SparseMatrix rows = MakeDocuments(pool, flags_.documents, 1);
  VICINAL_RETURN_IF_ERROR(Build(rows, SparseWeight::kFloat16, "SPLADE"));
  const PlainPostings postings = MakePostings(rows, words.size(), nullptr);
  Answers by_peer, truth, answers;
  VICINAL_ASSIGN_OR_RETURN(const double exhaustive_us,
                           Time(
                               queries,
                               [&](SparseRow query, TopK* out) {
                                 SearchExhaustively(postings, query, out);
                                 return absl::OkStatus();
                               },
                               &by_peer));
  VICINAL_RETURN_IF_ERROR(
      Time(queries, With({.k = kK, .scan = true}), &truth, 1).status());
  VICINAL_ASSIGN_OR_RETURN(const double exact_us,
                           Time(queries, With({.k = kK}), &answers));
  if (answers != truth) return absl::InternalError("exact answers differ");
  Add("exact", "SPLADE, exact, vs exhaustive", Bound::kAtLeast, 6,
      exhaustive_us / exact_us,
      {{"us", exact_us},
       {"exhaustive_us", exhaustive_us},
       {"entries_per_document", static_cast<double>(rows.dims.size()) /
                                    static_cast<double>(rows.num_rows())},
       {"terms_per_query", static_cast<double>(queries.dims.size()) /
                               static_cast<double>(queries.num_rows())}});
  VICINAL_RETURN_IF_ERROR(MeasureApproximate(queries, truth, exhaustive_us));
  VICINAL_RETURN_IF_ERROR(MeasureFilter(queries, exact_us));
  // Of about as many entries as documents have by the study's encoder.
  return MeasureLexicalFields("SPLADE", rows, 3, queries, nullptr, &report_);
}

absl::Status SparseBench::MeasureTexts() {
  VICINAL_ASSIGN_OR_RETURN(
      const ShortTexts texts,
      MakeShortTexts(flags_.data_dir + "/debian-packages-10k/packages.jsonl.gz",
                     flags_.documents, flags_.queries, 2));
  VICINAL_RETURN_IF_ERROR(Build(texts.documents, SparseWeight::kCount, "text"));
  const Bm25 bm25{.mean_length = texts.mean_length};
  const PlainPostings postings =
      MakePostings(texts.documents, texts.words.size(), &bm25);
  const BlockMaxIndex block_max(postings);
  Answers by_peer, by_block_max, truth, answers;
  VICINAL_ASSIGN_OR_RETURN(const double exhaustive_us,
                           Time(
                               texts.queries,
                               [&](SparseRow query, TopK* out) {
                                 SearchExhaustively(postings, query, out);
                                 return absl::OkStatus();
                               },
                               &by_peer));
  VICINAL_ASSIGN_OR_RETURN(const double block_max_us,
                           Time(
                               texts.queries,
                               [&](SparseRow query, TopK* out) {
                                 block_max.Search(query, out);
                                 return absl::OkStatus();
                               },
                               &by_block_max));
  VICINAL_RETURN_IF_ERROR(Time(texts.queries,
                               With({.k = kK, .scan = true, .bm25 = bm25}),
                               &truth, 1)
                              .status());
  VICINAL_ASSIGN_OR_RETURN(
      const double us,
      Time(texts.queries, With({.k = kK, .bm25 = bm25}), &answers));
  if (answers != truth) return absl::InternalError("exact answers differ");
  // Their sums are of another order, so ties may break otherwise.
  for (size_t q = 0; q < truth.size(); ++q) {
    for (size_t i = 0; i < truth[q].size(); ++i) {
      if (std::abs(by_block_max[q].at(i).distance - truth[q][i].distance) >
          1e-4f * std::abs(truth[q][i].distance)) {
        return absl::InternalError("the peer's answers differ");
      }
    }
  }
  const nlohmann::json raw = {{"us", us},
                              {"exhaustive_us", exhaustive_us},
                              {"block_max_us", block_max_us}};
  Add("bm25", "BM25, short texts, vs exhaustive", Bound::kAtLeast, 12,
      exhaustive_us / us, raw);
  Add("bm25_block_max", "BM25, short texts, vs block-max MaxScore",
      Bound::kAtLeast, 1.3, block_max_us / us, raw);
  // Of about 70 words each.
  return MeasureLexicalFields("text", texts.documents, 8, texts.queries,
                              &texts.words, &report_);
}

int Main(int argc, char** argv) {
  PrepareProcess();
  CLI::App app("Measures the speed table of the sparse issue.");
  Flags flags;
  app.add_option("--data-dir", flags.data_dir,
                 "holds ir and debian-packages-10k (see docs/BENCHMARKS.md)")
      ->capture_default_str();
  app.add_option("--documents", flags.documents)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--queries", flags.queries)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--passes", flags.passes, "the best counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--out", flags.out, "JSON file");
  CLI11_PARSE(app, argc, argv);
  nlohmann::json json = DescribeRun(argc, argv);
  CheckReport report;
  SparseBench bench(flags, &report);
  for (const absl::Status& status :
       {bench.MeasureVectors(), bench.MeasureTexts()}) {
    if (status.ok()) continue;
    report.Add({.key = "failed",
                .what = "sparse searches",
                .why_not = std::string(status.message())});
  }
  std::printf("%s", report.Table().c_str());
  json["check"] = "sparse";
  json["ok"] = report.ok();
  json["rows"] = report.Json();
  if (!flags.out.empty()) {
    const absl::Status status = WriteJsonFile(flags.out, json);
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
      return 2;
    }
  }
  return report.ok() ? 0 : 1;
}

}  // namespace
}  // namespace vicinal::bench

int main(int argc, char** argv) { return vicinal::bench::Main(argc, argv); }
