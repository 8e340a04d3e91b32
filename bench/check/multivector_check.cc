// Measures the speed table of multi-vectors. Run by bench/check.sh multivector.
#include <cstdio>
#include <string>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "bench/check/multivector_rows.h"
#include "bench/check/report.h"
#include "bench/machine.h"
#include "bench/workspace.h"

namespace vicinal::bench {
namespace {

int Main(int argc, char** argv) {
  PrepareProcess();
  CLI::App app("Measures the speed table of the multi-vector issue.");
  MultiOptions options{.data_dir = VICINAL_SOURCE_DIR "/../shared/data"};
  std::vector<std::string> only = MultiRows::Names();
  std::string out;
  app.add_option("--data-dir", options.data_dir,
                 "holds mv-glove-20k and lotte500-colbertv2")
      ->capture_default_str();
  app.add_option("--only", only, "rows to measure")
      ->delimiter(',')
      ->check(CLI::IsMember(MultiRows::Names()))
      ->capture_default_str();
  app.add_option("--documents", options.documents, "of the generated set")
      ->check(CLI::Range(2'500, 10'000'000))
      ->capture_default_str();
  app.add_option("--subset", options.subset,
                 "of them, where indexes of tokens are compared")
      ->check(CLI::Range(2'500, 10'000'000))
      ->capture_default_str();
  app.add_option("--queries", options.queries)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--passes", options.passes, "the best counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--recall-target", options.recall_target)
      ->check(CLI::Range(0.5, 0.999))
      ->capture_default_str();
  app.add_option("--build-threads", options.build_threads)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--out", out, "JSON file");
  CLI11_PARSE(app, argc, argv);
  nlohmann::json json = DescribeRun(argc, argv);
  CheckReport report;
  MultiRows rows(options, &report);
  for (const std::string& name : only) rows.Measure(name);
  std::printf("%s", report.Table().c_str());
  json["check"] = "multivector";
  json["ok"] = report.ok();
  json["rows"] = report.Json();
  if (!out.empty()) {
    const absl::Status status = WriteJsonFile(out, json);
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
