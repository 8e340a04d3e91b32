// Measures the speed table of filtered searches. Run by bench/check.sh
// filtered.
#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/statusor.h"
#include "bench/check/filtered_rows.h"
#include "bench/check/filtered_set.h"
#include "bench/check/payload_rows.h"
#include "bench/check/report.h"
#include "bench/dataset.h"
#include "bench/machine.h"
#include "bench/workspace.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

struct Flags {
  std::string images = "/usr/share/datasets/fashion-mnist";
  std::string data_dir = VICINAL_SOURCE_DIR "/../shared/data";
  std::string out;
  std::vector<std::string> only;
  std::vector<std::string> sets = {"images", "words"};
  std::vector<std::string> indexes = {"auto"};
  size_t passes = 5;
  size_t build_threads = 2;
};

bool Has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::vector<DatasetSpec> Sets(const Flags& flags) {
  const std::string glove = flags.data_dir + "/glove100-100k/";
  std::vector<DatasetSpec> sets = {
      {.name = "images",
       .base = flags.images + "/train-images-idx3-ubyte.gz",
       .queries = flags.images + "/t10k-images-idx3-ubyte.gz"},
      {.name = "words",
       .base = glove + "base_f16.npy",
       .queries = glove + "query_f16.npy",
       .metric = Metric::kCosine}};
  std::erase_if(
      sets, [&](const DatasetSpec& set) { return !Has(flags.sets, set.name); });
  return sets;
}

IndexKind KindOf(const std::string& name) {
  return name == "hnsw"  ? IndexKind::kHnsw
         : name == "ivf" ? IndexKind::kIvf
                         : IndexKind::kAuto;
}

absl::StatusOr<FilteredSet> MakeSet(const DatasetSpec& spec) {
  TellProgress(spec.name + ": reading, and finding the exact answers");
  VICINAL_ASSIGN_OR_RETURN(Dataset dataset, LoadDataset(spec));
  return FilteredSet::Make(std::move(dataset), {});
}

void MeasureSearches(const Flags& flags, CheckReport* report,
                     std::string* details) {
  for (const DatasetSpec& spec : Sets(flags)) {
    const absl::StatusOr<FilteredSet> set = MakeSet(spec);
    if (!set.ok()) {
      report->Add({.key = "filtered_" + spec.name,
                   .what = "filtered searches, " + spec.name,
                   .why_not = std::string(set.status().message())});
      continue;
    }
    for (const std::string& index : flags.indexes) {
      FilteredOptions options;
      options.index = KindOf(index);
      options.index_name = index;
      options.build_threads = flags.build_threads;
      options.passes = flags.passes;
      options.with_hnswlib = index == flags.indexes.front() &&
                             (flags.only.empty() || Has(flags.only, "hnswlib"));
      MeasureFiltered(*set, options, report, details);
    }
  }
}

int Main(int argc, char** argv) {
  PrepareProcess();
  CLI::App app("Measures the speed table of the filter issue.");
  Flags flags;
  app.add_option("--images", flags.images, "folder of Fashion-MNIST")
      ->capture_default_str();
  app.add_option("--data-dir", flags.data_dir,
                 "holds glove100-100k (see docs/BENCHMARKS.md)")
      ->capture_default_str();
  app.add_option("--only", flags.only, "search, hnswlib (with search), payload")
      ->delimiter(',');
  app.add_option("--sets", flags.sets, "images, words")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--index", flags.indexes,
                 "auto, hnsw, ivf; hnswlib is beside the first")
      ->delimiter(',')
      ->check(CLI::IsMember({"auto", "hnsw", "ivf"}))
      ->capture_default_str();
  app.add_option("--passes", flags.passes, "the best counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--build-threads", flags.build_threads)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--out", flags.out, "JSON file");
  CLI11_PARSE(app, argc, argv);
  nlohmann::json json = DescribeRun(argc, argv);
  CheckReport report;
  std::string details;
  const auto wanted = [&](const std::string& part) {
    return flags.only.empty() || Has(flags.only, part);
  };
  if (wanted("search") || wanted("hnswlib")) {
    MeasureSearches(flags, &report, &details);
  }
  if (wanted("payload")) {
    PayloadRowsOptions options;
    options.build_threads = flags.build_threads;
    MeasurePayloads(options, &report);
  }
  std::printf("%s\n%s", details.c_str(), report.Table().c_str());
  json["check"] = "filtered";
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
