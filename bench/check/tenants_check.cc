// Measures searches of single tenants in a collection of many. Run by
// bench/check.sh tenants.
#include <cstdio>
#include <string>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "bench/check/report.h"
#include "bench/check/tenant_rows.h"
#include "bench/dataset.h"
#include "bench/machine.h"
#include "bench/workspace.h"

namespace vicinal::bench {
namespace {

int Main(int argc, char** argv) {
  PrepareProcess();
  CLI::App app("Measures searches of tenants.");
  std::string data_dir = VICINAL_SOURCE_DIR "/../shared/data";
  std::string out;
  TenantRowsOptions options;
  app.add_option("--data-dir", data_dir, "holds glove100-100k")
      ->capture_default_str();
  app.add_option("--scale", options.scale, "times as many points")
      ->capture_default_str();
  app.add_option("--passes", options.passes)->capture_default_str();
  app.add_option("--build-threads", options.build_threads)
      ->capture_default_str();
  app.add_option("--recall-target", options.recall_target)
      ->capture_default_str();
  app.add_option("--out", out, "JSON file");
  CLI11_PARSE(app, argc, argv);
  nlohmann::json json = DescribeRun(argc, argv);
  CheckReport report;
  auto words =
      LoadDataset({.name = "words",
                   .base = data_dir + "/glove100-100k/base_f16.npy",
                   .queries = data_dir + "/glove100-100k/query_f16.npy",
                   .metric = Metric::kCosine});
  if (words.ok()) {
    words->Prepare();
    MeasureTenants(words->base, options, &report);
  } else {
    report.Add({.key = "tenants",
                .what = "searches of tenants",
                .why_not = std::string(words.status().message())});
  }
  std::printf("%s", report.Table().c_str());
  json["check"] = "tenants";
  json["ok"] = report.ok();
  json["rows"] = report.Json();
  if (!out.empty()) {
    const absl::Status written = WriteJsonFile(out, json);
    if (!written.ok()) {
      std::fprintf(stderr, "%s\n", std::string(written.message()).c_str());
      return 2;
    }
  }
  return report.ok() ? 0 : 1;
}

}  // namespace
}  // namespace vicinal::bench

int main(int argc, char** argv) { return vicinal::bench::Main(argc, argv); }
