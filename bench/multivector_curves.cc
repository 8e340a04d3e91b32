// Recall against latency of multi-vectors by encoder, by bits of the codes of
// encodings and by codec of tokens, as JSON for bench/plot_multivector.py. With
// --settings: of any of these, on stdout.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/check/multivector_data.h"
#include "bench/check/multivector_peers.h"
#include "bench/check/multivector_segment.h"
#include "bench/check/multivector_sweep.h"
#include "bench/check/report.h"
#include "bench/machine.h"
#include "bench/workspace.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

struct Flags {
  std::string data_dir = VICINAL_SOURCE_DIR "/../shared/data";
  std::string set = "glove";
  std::string out;
  size_t documents = 20'000;
  size_t queries = 200;
  size_t passes = 3;
  size_t build_threads = 2;
  std::vector<std::string> settings;
  std::vector<size_t> candidates;
};

struct Curve {
  const char* group;
  const char* name;
  const char* setting;  // ENCODER/BITS/CODEC
};

constexpr Curve kCurves[] = {
    {"encoders", "OLS", "ols/0/int4"},
    {"encoders", "MUVERA fast", "fast/0/int4"},
    {"encoders", "MUVERA balanced", "balanced/0/int4"},
    {"encoders", "MUVERA paper", "paper/0/int4"},
    {"encodings", "4 bits", "auto/4/int4"},
    {"encodings", "2 bits", "auto/2/int4"},
    {"encodings", "1 bit", "auto/1/int4"},
    {"tokens", "int8", "auto/0/int8"},
    {"tokens", "int4", "auto/0/int4"},
    {"tokens", "int2", "auto/0/int2"},
    {"tokens", "binary", "auto/0/binary"},
};

absl::StatusOr<MultiSpec> ParseSetting(const std::string& setting,
                                       MultiSpec spec) {
  using Kind = MultiEncoderParams::Kind;
  const std::vector<std::string> parts = absl::StrSplit(setting, '/');
  if (parts.size() != 3 || !absl::SimpleAtof(parts[1], &spec.avg_bits)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", setting, "\" is not ENCODER/BITS/CODEC"));
  }
  const std::string& encoder = parts[0];
  MuveraParams& muvera = spec.encoder.muvera;
  if (encoder == "none") {
    spec.encoder.kind = Kind::kNone;
  } else if (encoder == "ols") {
    spec.encoder.kind = Kind::kOls;
  } else if (encoder != "auto") {
    spec.encoder.kind = Kind::kMuvera;
    if (encoder == "paper") {
      muvera = PaperMuveraParams();
    } else if (encoder == "fast") {
      muvera.repetitions = 20;
    } else if (encoder != "balanced") {
      return absl::InvalidArgumentError(
          absl::StrCat("encoder ", encoder,
                       " is none of auto, none, ols, fast, balanced, paper"));
    }
  }
  const std::pair<const char*, TokenCodecKind> codecs[] = {
      {"int8", TokenCodecKind::kInt8},
      {"int4", TokenCodecKind::kInt4},
      {"int2", TokenCodecKind::kInt2},
      {"binary", TokenCodecKind::kBinary}};
  for (const auto& [name, kind] : codecs) {
    if (parts[2] != name) continue;
    spec.token_codec = kind;
    return spec;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("codec ", parts[2], " is none of int8, int4, int2, binary"));
}

nlohmann::json Json(const MultiPoint& point) {
  return {{"candidates", point.candidates},
          {"recall", point.recall},
          {"p50_us", point.p50_us},
          {"p99_us", point.p99_us},
          {"mean_us", point.mean_us},
          {"compared", point.compared},
          {"exact", point.exact}};
}

// One set, its exact answers, and what is measured of it.
struct Bench {
  absl::StatusOr<nlohmann::json> Measure(const std::string& setting) const;

  const Flags& flags;
  const MultiSet& set;
  std::vector<MultiQuery> queries;
  Answers truth;
};

absl::StatusOr<nlohmann::json> Bench::Measure(
    const std::string& setting) const {
  TellProgress(absl::StrCat(set.name, ": ", setting));
  VICINAL_ASSIGN_OR_RETURN(const MultiSpec spec,
                           ParseSetting(setting, set.Spec()));
  VICINAL_ASSIGN_OR_RETURN(const auto segment,
                           MultiSegment::Build(set, spec, flags.build_threads));
  const size_t n = set.num_documents();
  std::printf(
      "%s %s: built in %.1f s, %zu bytes per document in memory\n  %s\n",
      set.name.c_str(), setting.c_str(), segment->build_seconds(),
      segment->resident_bytes() / n, segment->field().Describe().c_str());
  nlohmann::json points = nlohmann::json::array();
  std::vector<MultiSearchParams> searches = {{.k = kMultiK}};
  for (const size_t candidates : flags.candidates) {
    searches.push_back({.k = kMultiK, .candidates = candidates});
  }
  nlohmann::json out = {{"setting", setting},
                        {"encoder", segment->field().Describe()},
                        {"build_seconds", segment->build_seconds()},
                        {"resident_bytes", segment->resident_bytes() / n},
                        {"token_code_bytes", segment->token_code_bytes() / n}};
  for (const MultiSearchParams& params : searches) {
    VICINAL_ASSIGN_OR_RETURN(const MultiPoint point,
                             MeasureField(segment->field(), n, queries, truth,
                                          flags.passes, params));
    std::printf(
        "  %-12s recall@10 %.4f, p50 %.2f ms, p99 %.2f ms; compared %.0f, "
        "exactly %.1f\n",
        params.candidates == 0 ? "target 0.95"
                               : absl::StrCat(params.candidates).c_str(),
        point.recall, point.p50_us / 1e3, point.p99_us / 1e3, point.compared,
        point.exact);
    std::fflush(stdout);
    if (params.candidates == 0) {
      out["at_recall_target"] = Json(point);
    } else {
      points.push_back(Json(point));
    }
  }
  out["points"] = std::move(points);
  return out;
}

absl::Status Run(const Flags& flags, nlohmann::json* json) {
  absl::StatusOr<MultiSet> set =
      flags.set == "glove" ? LoadGlove(flags.data_dir)
      : flags.set == "lotte"
          ? LoadLotte(flags.data_dir)
          : MakeTokens(flags.documents, flags.queries, 1, flags.build_threads);
  VICINAL_RETURN_IF_ERROR(set.status());
  Bench bench{.flags = flags, .set = *set};
  for (const std::vector<float>& query : set->queries) {
    bench.queries.emplace_back(set->Spec(), query, std::span<const float>());
  }
  TellProgress("exact answers");
  {
    VICINAL_ASSIGN_OR_RETURN(
        const CodedTokens coded,
        CodedTokens::Create(*set, TokenCodecKind::kInt8, flags.build_threads));
    bench.truth = coded.Truth(bench.queries, kMultiK, flags.build_threads);
    VICINAL_ASSIGN_OR_RETURN(
        const MultiPoint brute,
        MeasurePoint({bench.queries.begin(), bench.queries.begin() + 20},
                     {bench.truth.begin(), bench.truth.begin() + 20}, 1,
                     [&](const MultiQuery& query, TopK* out) {
                       coded.SearchAll(query, 32, out);
                       return absl::OkStatus();
                     }));
    std::printf("%s: %zu documents, %zu tokens; int8 MaxSim of all %.2f ms\n",
                set->name.c_str(), set->num_documents(), set->num_tokens(),
                brute.p50_us / 1e3);
    (*json)["brute_int8_us"] = brute.p50_us;
  }
  (*json)["k"] = kMultiK;
  (*json)["dataset"] = {{"name", set->name},
                        {"documents", set->num_documents()},
                        {"tokens", set->num_tokens()},
                        {"dim", set->dim}};
  for (const std::string& setting : flags.settings) {
    VICINAL_RETURN_IF_ERROR(bench.Measure(setting).status());
  }
  if (!flags.settings.empty()) return absl::OkStatus();
  nlohmann::json measured, curves;
  for (const Curve& curve : kCurves) {
    nlohmann::json& of_setting = measured[curve.setting];
    if (of_setting.is_null()) {
      VICINAL_ASSIGN_OR_RETURN(of_setting, bench.Measure(curve.setting));
    }
    nlohmann::json named = of_setting;
    named["group"] = curve.group;
    named["name"] = curve.name;
    curves.push_back(std::move(named));
  }
  (*json)["curves"] = std::move(curves);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  PrepareProcess();
  CLI::App app("Recall against latency of multi-vectors.");
  Flags flags;
  app.add_option("--data-dir", flags.data_dir)->capture_default_str();
  app.add_option("--set", flags.set)
      ->check(CLI::IsMember({"glove", "lotte", "generated"}))
      ->capture_default_str();
  app.add_option(
         "--settings", flags.settings,
         "ENCODER/BITS/CODEC, of auto, none, ols, fast, balanced, paper "
         "/ bits of the codes of encodings, 0: as it comes / int8, "
         "int4, int2, binary; nothing: those of the plots")
      ->delimiter(',');
  app.add_option("--candidates", flags.candidates, "nothing: a grid")
      ->delimiter(',');
  app.add_option("--documents", flags.documents, "of the generated set")
      ->check(CLI::Range(100, 10'000'000))
      ->capture_default_str();
  app.add_option("--queries", flags.queries, "of the generated set")
      ->check(CLI::Range(20, 10'000))
      ->capture_default_str();
  app.add_option("--passes", flags.passes, "the best counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--build-threads", flags.build_threads)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--out", flags.out, "JSON file");
  CLI11_PARSE(app, argc, argv);
  if (flags.candidates.empty()) {
    flags.candidates = {20,  30,  50,   75,   100,  150,  200, 300,
                        500, 750, 1000, 1500, 2000, 3000, 5000};
  }
  nlohmann::json json = DescribeRun(argc, argv);
  absl::Status status = Run(flags, &json);
  if (status.ok() && !flags.out.empty()) {
    status = WriteJsonFile(flags.out, json);
  }
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return 2;
}

}  // namespace
}  // namespace vicinal::bench

int main(int argc, char** argv) { return vicinal::bench::Main(argc, argv); }
