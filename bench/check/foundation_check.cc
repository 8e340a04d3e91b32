// Measures every row of the speed table of the first issue. Run by
// bench/check.sh foundation.
#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/strings/str_cat.h"
#include "bench/check/graph_rows.h"
#include "bench/check/report.h"
#include "bench/check/serving_rows.h"
#include "bench/machine.h"
#include "bench/workspace.h"

namespace vicinal::bench {
namespace {

struct Flags {
  std::string image_base =
      "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz";
  std::string image_queries =
      "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz";
  std::string image_truth;
  std::string data_dir = VICINAL_SOURCE_DIR "/../shared/data";
  std::string word_base;
  std::string word_queries;
  std::string word_truth;
  std::string cache_dir = DefaultCacheDir();
  std::string work_dir;
  std::string out;
  std::vector<std::string> only;
  size_t passes = 5;
};

void AddOptions(CLI::App* app, Flags* flags) {
  app->add_option("--data-dir", flags->data_dir,
                  "holds glove100-100k (see docs/BENCHMARKS.md)")
      ->capture_default_str();
  app->add_option("--image-base", flags->image_base,
                  "another set for the first row, L2")
      ->capture_default_str();
  app->add_option("--image-queries", flags->image_queries)
      ->capture_default_str();
  app->add_option("--image-truth", flags->image_truth,
                  "ivecs or npy; computed when not given");
  app->add_option("--word-base", flags->word_base,
                  "another set for the second row, cosine; default: "
                  "DATA_DIR/glove100-100k/base_f16.npy");
  app->add_option("--word-queries", flags->word_queries);
  app->add_option("--word-truth", flags->word_truth);
  app->add_option("--cache-dir", flags->cache_dir,
                  "keeps computed ground truth")
      ->capture_default_str();
  app->add_option("--work-dir", flags->work_dir,
                  "data folders of the servers go below it; default: $TMPDIR");
  app->add_option("--only", flags->only, "search, serving")->delimiter(',');
  app->add_option("--passes", flags->passes, "the best counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app->add_option("--out", flags->out, "JSON file");
}

bool Wanted(const Flags& flags, const std::string& part) {
  return flags.only.empty() || std::find(flags.only.begin(), flags.only.end(),
                                         part) != flags.only.end();
}

// The worse of the two sets is the row.
CheckRow BuildRow(const GraphOptions& options,
                  const std::vector<std::optional<double>>& ratios,
                  std::vector<nlohmann::json> raw) {
  CheckRow row{.key = "hnsw_build",
               .what = absl::StrCat("build time vs hnswlib M=", options.m,
                                    " efC=", options.ef_construction,
                                    ", equal recall, both ",
                                    options.build_threads, " threads"),
               .bound = Bound::kAtMost,
               .limit = options.build_ratio,
               .why_not = "no data set was built by both systems",
               .raw = std::move(raw)};
  for (const std::optional<double>& ratio : ratios) {
    if (ratio) row.measured = std::max(row.measured.value_or(0), *ratio);
  }
  return row;
}

void MeasureSearch(const Flags& flags, CheckReport* report) {
  GraphOptions options;
  options.passes = flags.passes;
  options.cache_dir = flags.cache_dir;
  const std::string glove = absl::StrCat(flags.data_dir, "/glove100-100k/");
  const bool other_words = !flags.word_base.empty();
  const std::vector<GraphTarget> targets = {
      {.key = "hnsw_fashion_mnist",
       .label = "Fashion-MNIST 784 L2",
       .dataset = {.name = "images",
                   .base = flags.image_base,
                   .queries = flags.image_queries,
                   .truth = flags.image_truth},
       .recall = 0.99,
       .ratio = 1.4},
      {.key = "hnsw_glove",
       .label = "word vectors 100 cosine",
       .dataset = {.name = "words",
                   .base =
                       other_words ? flags.word_base : glove + "base_f16.npy",
                   .queries = other_words ? flags.word_queries
                                          : glove + "query_f16.npy",
                   .truth = other_words ? flags.word_truth
                                        : glove + "gt_cos_top100.ivecs",
                   .metric = Metric::kCosine},
       .recall = 0.95,
       .ratio = 1.3}};
  std::vector<std::optional<double>> builds(targets.size());
  std::vector<nlohmann::json> raw(targets.size());
  for (size_t i = 0; i < targets.size(); ++i) {
    MeasureGraph(targets[i], options, report, &builds[i], &raw[i]);
  }
  report->Add(BuildRow(options, builds, std::move(raw)));
}

int Main(int argc, char** argv) {
  PrepareProcess();
  CLI::App app("Measures the speed table of the foundation issue.");
  Flags flags;
  AddOptions(&app, &flags);
  CLI11_PARSE(app, argc, argv);
  nlohmann::json json = DescribeRun(argc, argv);
  CheckReport report;
  if (Wanted(flags, "search")) MeasureSearch(flags, &report);
  if (Wanted(flags, "serving")) {
    ServingOptions options;
    options.dataset = {.name = "images",
                       .base = flags.image_base,
                       .queries = flags.image_queries};
    options.passes = flags.passes;
    options.work_dir = flags.work_dir;
    MeasureServing(options, &report);
  }
  std::printf("\n%s", report.Table().c_str());
  json["check"] = "foundation";
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
