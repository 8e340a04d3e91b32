// Measures the rows of the quantization table that exist: codes, graphs on
// codes, builds and recall targets. Run by bench/check.sh quant.
#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/check/codec_rows.h"
#include "bench/check/faiss_rows.h"
#include "bench/check/graph_rows.h"
#include "bench/check/ivf_rows.h"
#include "bench/check/recall_rows.h"
#include "bench/check/report.h"
#include "bench/ground_truth.h"
#include "bench/machine.h"
#include "bench/workspace.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

struct Flags {
  std::string images = "/usr/share/datasets/fashion-mnist";
  std::string data_dir = VICINAL_SOURCE_DIR "/../shared/data";
  std::string cache_dir = DefaultCacheDir();
  std::string faiss_python;
  std::string out;
  std::vector<std::string> only;
  std::vector<std::string> sets = {"images", "sentences", "words"};
  size_t passes = 5;
};

bool Wanted(const Flags& flags, const std::string& part) {
  return flags.only.empty() || std::find(flags.only.begin(), flags.only.end(),
                                         part) != flags.only.end();
}

struct Set {
  std::string label;
  DatasetSpec spec;
  double ratio;  // asked of searches, vs hnswlib
};

std::vector<Set> Sets(const Flags& flags) {
  const std::string glove = flags.data_dir + "/glove100-100k/";
  const std::string use = flags.data_dir + "/use512-40k/";
  std::vector<Set> all = {
      {"Fashion-MNIST 784 L2",
       {.name = "images",
        .base = flags.images + "/train-images-idx3-ubyte.gz",
        .queries = flags.images + "/t10k-images-idx3-ubyte.gz"},
       3.0},
      {"sentences 512 inner product",
       {.name = "sentences",
        .base = use + "base_i8.npy",
        .queries = use + "query_id_f16.npy",
        .metric = Metric::kInnerProduct},
       3.0},
      {"word vectors 100 cosine",
       {.name = "words",
        .base = glove + "base_f16.npy",
        .queries = glove + "query_f16.npy",
        .metric = Metric::kCosine},
       2.2}};
  std::erase_if(all, [&flags](const Set& set) {
    return std::find(flags.sets.begin(), flags.sets.end(), set.spec.name) ==
           flags.sets.end();
  });
  return all;
}

void MeasureGraphs(const Flags& flags, CheckReport* report) {
  GraphOptions options;
  options.ours = &MakeVicinalCodes;
  options.passes = flags.passes;
  options.cache_dir = flags.cache_dir;
  options.builds = 1;
  std::optional<double> slowest;
  nlohmann::json builds = nlohmann::json::array();
  for (const Set& set : Sets(flags)) {
    for (const double recall : {0.95, 0.99}) {
      std::optional<double> build;
      nlohmann::json raw;
      MeasureGraph({.key = absl::StrCat("hnsw_codes_", set.spec.name, "_",
                                        recall == 0.95 ? "95" : "99"),
                    .label = "codes, " + set.label,
                    .dataset = set.spec,
                    .recall = recall,
                    .ratio = set.ratio},
                   options, report, &build, &raw);
      if (build) slowest = std::max(slowest.value_or(0), *build);
      builds.push_back(std::move(raw));
    }
  }
  report->Add({.key = "build",
               .what = "build time vs hnswlib, equal recall, 2 threads, codes "
                       "included, slowest set",
               .bound = Bound::kAtMost,
               .limit = 0.35,
               .measured = slowest,
               .why_not = "no set was built",
               .raw = std::move(builds)});
}

void MeasureFaiss(const Flags& flags, CheckReport* report) {
  GraphOptions options;
  options.ours = &MakeVicinalCodes;
  options.passes = flags.passes;
  options.cache_dir = flags.cache_dir;
  for (const Set& set : Sets(flags)) {
    MeasureFaissGraph({.key = absl::StrCat("hnsw_codes_faiss_", set.spec.name),
                       .label = set.label,
                       .dataset = set.spec},
                      flags.faiss_python, options, report);
  }
}

// Our lists beside faiss's.
struct ListsRow {
  const char* key;
  const char* peer;
  const std::vector<std::string>& factories;
  size_t k;
  double recall;
  float long_bits;  // of ours from 256 dimensions on; 0: the default
};

absl::Status MeasureListsOf(const Set& set, const ListsRow& lists,
                            const Flags& flags, CheckRow* row) {
  GraphOptions options;
  options.passes = flags.passes;
  VICINAL_ASSIGN_OR_RETURN(Dataset dataset, LoadDataset(set.spec));
  dataset.Prepare();
  // Enough for a recall to be known within a quarter of a point.
  dataset.queries.num_rows = std::min<size_t>(dataset.queries.num_rows, 1'000);
  dataset.queries.values.resize(dataset.queries.num_rows * dataset.queries.dim);
  const TruthTable truth =
      CachedTruth(dataset.base, dataset.queries, dataset.search_metric(),
                  lists.k, options.build_threads, flags.cache_dir);
  const RecallJudge judge(dataset.base, dataset.queries,
                          dataset.search_metric(), truth, lists.k);
  const float bits = dataset.base.dim >= 256 ? lists.long_bits : 0;
  VICINAL_ASSIGN_OR_RETURN(
      const FaissLists faiss,
      BestFaissLists(lists.factories, flags.faiss_python, dataset, judge,
                     lists.recall, options));
  VICINAL_ASSIGN_OR_RETURN(
      const double ours,
      IvfQpsAt(dataset, judge, bits, lists.recall, options.passes));
  row->measured = ours / faiss.qps;
  row->raw = {{"ours_qps", ours}, {"ours_bits", bits}, {"faiss", faiss.raw}};
  return absl::OkStatus();
}

void MeasureLists(const Flags& flags, CheckReport* report) {
  // One bit beside RaBitQ's one.
  const ListsRow rows[] = {
      {"pqfs", "IVF,PQfs + refine", PqFactories(), 100, 0.96, 0},
      {"rabitq", "IVF,RaBitQfs", RabitqFactories(), 10, 0.95, 1}};
  for (const ListsRow& lists : rows) {
    for (const Set& set : Sets(flags)) {
      CheckRow row{
          .key = absl::StrCat("ivf_faiss_", lists.key, "_", set.spec.name),
          .what = absl::StrFormat("IVF vs faiss %s, recall@%d %.2f, %s",
                                  lists.peer, lists.k, lists.recall, set.label),
          .limit = 1.5};
      row.why_not =
          std::string(MeasureListsOf(set, lists, flags, &row).message());
      report->Add(std::move(row));
    }
  }
}

int Main(int argc, char** argv) {
  PrepareProcess();
  CLI::App app("Measures the speed table of the quantization issue.");
  Flags flags;
  app.add_option("--images", flags.images, "folder of Fashion-MNIST")
      ->capture_default_str();
  app.add_option("--data-dir", flags.data_dir,
                 "holds glove100-100k and use512-40k (see docs/BENCHMARKS.md)")
      ->capture_default_str();
  app.add_option("--cache-dir", flags.cache_dir, "keeps computed ground truth")
      ->capture_default_str();
  app.add_option("--faiss-python", flags.faiss_python,
                 "python that has faiss (bench/peers/faiss_venv.sh); its rows "
                 "are not measured without");
  app.add_option("--only", flags.only, "codecs, graphs, faiss, lists, recall")
      ->delimiter(',');
  app.add_option("--sets", flags.sets, "of graphs, faiss and recall")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--passes", flags.passes, "the best counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--out", flags.out, "JSON file");
  CLI11_PARSE(app, argc, argv);
  nlohmann::json json = DescribeRun(argc, argv);
  CheckReport report;
  if (Wanted(flags, "codecs")) {
    MeasureCodecs(
        {.word_vectors = flags.data_dir + "/glove100-100k/base_f16.npy"},
        &report);
  }
  if (Wanted(flags, "graphs")) MeasureGraphs(flags, &report);
  if (Wanted(flags, "faiss")) MeasureFaiss(flags, &report);
  if (Wanted(flags, "lists")) MeasureLists(flags, &report);
  if (Wanted(flags, "recall")) {
    std::vector<DatasetSpec> sets;
    for (const Set& set : Sets(flags)) sets.push_back(set.spec);
    MeasureRecall(sets, {.cache_dir = flags.cache_dir}, &report);
  }
  std::printf("\n%s", report.Table().c_str());
  json["check"] = "quant";
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
