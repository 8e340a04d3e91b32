#include "bench/check/multivector_rows.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/curve.h"
#include "bench/machine.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

// Depth of truths, and of answers by codes and tokens.
constexpr size_t kTruth = 100;
constexpr size_t kNumExact = 32;

nlohmann::json Json(const MultiPoint& point) {
  return {{"candidates", point.candidates},
          {"recall", point.recall},
          {"p50_us", point.p50_us},
          {"p99_us", point.p99_us},
          {"mean_us", point.mean_us},
          {"compared", point.compared},
          {"exact", point.exact}};
}

// Tries one setting; whether dearer ones cannot be the fastest.
absl::StatusOr<bool> Try(const std::vector<MultiQuery>& queries,
                         const Answers& truth, double recall,
                         const std::string& setting, const SearchOne& search,
                         PeerBest* best) {
  VICINAL_ASSIGN_OR_RETURN(const MultiPoint point,
                           MeasurePoint(queries, truth, 1, search));
  if (point.mean_us >= best->mean_us) return true;
  if (point.recall < recall) return false;
  *best = {.mean_us = point.mean_us, .setting = setting, .search = search};
  return true;
}

absl::StatusOr<PeerBest> BestOf(const TokenHeuristic& peer,
                                const std::vector<MultiQuery>& queries,
                                const Answers& truth, double recall) {
  PeerBest best;
  for (const size_t tokens : {8, 16, 32, 64, 128, 256, 512, 1024}) {
    for (const size_t candidates : {50, 100, 200, 400, 800, 1600, 3200}) {
      VICINAL_ASSIGN_OR_RETURN(
          const bool is_last,
          Try(
              queries, truth, recall,
              absl::StrFormat("%d tokens, %d documents", tokens, candidates),
              [&peer, tokens, candidates](const MultiQuery& query, TopK* out) {
                return peer.Search(query, tokens, candidates, kNumExact, out);
              },
              &best));
      if (is_last) break;
    }
  }
  return best;
}

absl::StatusOr<PeerBest> BestOf(const PlaidPipeline& peer,
                                const std::vector<MultiQuery>& queries,
                                const Answers& truth, double recall) {
  PeerBest best;
  for (const size_t probes : {1, 2, 4, 8, 16}) {
    for (const size_t kept : {0, 16, 64}) {
      for (const size_t exact : {32, 64}) {
        for (const size_t cut : {128, 256, 512, 1024, 2048, 4096}) {
          const PlaidPipeline::Settings settings{probes, kept, cut, exact};
          VICINAL_ASSIGN_OR_RETURN(
              const bool is_last,
              Try(
                  queries, truth, recall,
                  absl::StrFormat(
                      "%d probes, %d kept, %d by residuals, %d exact", probes,
                      kept, cut, exact),
                  [&peer, settings](const MultiQuery& query, TopK* out) {
                    peer.Search(query, settings, out);
                    return absl::OkStatus();
                  },
                  &best));
          if (is_last) break;
        }
      }
    }
  }
  return best;
}

}  // namespace

std::vector<std::string> MultiRows::Names() {
  return {"recall", "speed",   "candidates", "heuristic",
          "plaid",  "kernels", "codes",      "tokencodes",
          "insert", "memory",  "relevance"};
}

void MultiRows::Measure(const std::string& name) {
  TellProgress(absl::StrCat("rows of ", name));
  const absl::Status status = name == "recall"       ? MeasureRecall()
                              : name == "speed"      ? MeasureSpeed()
                              : name == "candidates" ? MeasureCandidates()
                              : name == "heuristic"  ? MeasureHeuristic()
                              : name == "plaid"      ? MeasurePlaid()
                              : name == "kernels"    ? MeasureKernels()
                              : name == "codes"      ? MeasureEncodingCodes()
                              : name == "tokencodes" ? MeasureTokenCodes()
                              : name == "insert"     ? MeasureInsert()
                              : name == "memory"     ? MeasureMemory()
                                                     : MeasureRelevance();
  if (status.ok()) return;
  Add({.key = absl::StrCat(name, "_failed"),
       .what = name,
       .why_not = std::string(status.message())});
}

absl::StatusOr<MultiRows::Loaded*> MultiRows::Load(Which which) {
  std::unique_ptr<Loaded>& loaded = loaded_[which];
  if (loaded != nullptr) return loaded.get();
  auto made = std::make_unique<Loaded>();
  switch (which) {
    case Which::kGlove: {
      VICINAL_ASSIGN_OR_RETURN(made->set, LoadGlove(options_.data_dir));
      break;
    }
    case Which::kLotte: {
      VICINAL_ASSIGN_OR_RETURN(made->set, LoadLotte(options_.data_dir));
      break;
    }
    case Which::kGenerated: {
      TellProgress("generating documents");
      made->set = MakeTokens(options_.documents, options_.queries, 1,
                             options_.build_threads);
      break;
    }
    case Which::kSubset: {
      made->set = MakeTokens(std::min(options_.subset, options_.documents),
                             options_.queries, 1, options_.build_threads);
      break;
    }
  }
  const MultiSpec spec = made->set.Spec();
  for (const std::vector<float>& query : made->set.queries) {
    made->queries.emplace_back(spec, query, std::span<const float>());
  }
  TellProgress(absl::StrCat(made->set.name, ": exact answers"));
  VICINAL_ASSIGN_OR_RETURN(CodedTokens coded,
                           CodedTokens::Create(made->set, TokenCodecKind::kInt8,
                                               options_.build_threads));
  made->int8.emplace(std::move(coded));
  made->truth =
      made->int8->Truth(made->queries, kTruth, options_.build_threads);
  loaded = std::move(made);
  return loaded.get();
}

absl::StatusOr<MultiRows::Loaded*> MultiRows::Built(Which which) {
  VICINAL_ASSIGN_OR_RETURN(Loaded * loaded, Load(which));
  if (loaded->segment != nullptr) return loaded;
  VICINAL_ASSIGN_OR_RETURN(loaded->segment,
                           MultiSegment::Build(loaded->set, loaded->set.Spec(),
                                               options_.build_threads));
  return loaded;
}

double MultiRows::BruteForceUs(const Loaded& loaded) const {
  constexpr size_t kSearches = 20;
  std::vector<double> us;
  for (size_t q = 0; q < std::min(kSearches, loaded.queries.size()); ++q) {
    const double start = ThreadSeconds();
    TopK top(kMultiK);
    loaded.int8->SearchAll(loaded.queries[q], kNumExact, &top);
    us.push_back(1e6 * (ThreadSeconds() - start));
  }
  return Percentile(&us, 0.5);
}

absl::Status MultiRows::MeasureRecall() {
  for (const Which which : {Which::kGlove, Which::kLotte, Which::kGenerated}) {
    VICINAL_ASSIGN_OR_RETURN(Loaded * loaded, Built(which));
    const MultiSet& set = loaded->set;
    VICINAL_ASSIGN_OR_RETURN(
        const MultiPoint point,
        MeasureField(loaded->segment->field(), set.num_documents(),
                     loaded->queries, loaded->truth, options_.passes,
                     {.k = kMultiK, .recall_target = options_.recall_target}));
    nlohmann::json raw = Json(point);
    raw["documents"] = set.num_documents();
    raw["tokens"] = set.num_tokens();
    raw["brute_int8_us"] = BruteForceUs(*loaded);
    raw["build_seconds"] = loaded->segment->build_seconds();
    raw["encoder"] = loaded->segment->field().Describe();
    if (!set.truth.empty()) {
      // Near ties apart, the file's answers are ours.
      std::vector<std::vector<RowId>> given(set.truth.begin(), set.truth.end());
      raw["truth_in_file"] = ShareAmong(loaded->truth, given, kMultiK);
    }
    Add({.key = absl::StrCat("recall_", set.name == "generated"  ? "generated"
                                        : which == Which::kGlove ? "glove"
                                                                 : "lotte"),
         .what = absl::StrFormat(
             "recall@10 at recall_target %.2f, %s, %d documents (%.2f ms)",
             options_.recall_target, set.name, set.num_documents(),
             point.p50_us / 1e3),
         .limit = 0.945,
         .measured = point.recall,
         .raw = std::move(raw)});
  }
  return absl::OkStatus();
}

absl::Status MultiRows::MeasureSpeed() {
  VICINAL_ASSIGN_OR_RETURN(Loaded * loaded, Built(Which::kGenerated));
  const size_t n = loaded->set.num_documents();
  VICINAL_ASSIGN_OR_RETURN(
      const MultiPoint point,
      CheapestPoint(loaded->segment->field(), n, loaded->queries, loaded->truth,
                    options_.passes, options_.recall_target));
  const double brute_us = BruteForceUs(*loaded);
  nlohmann::json raw = Json(point);
  raw["brute_int8_us"] = brute_us;
  Add({.key = "p50",
       .what = absl::StrFormat("p50, %d documents, recall@10 %.3f, of 5 ms", n,
                               point.recall),
       .bound = Bound::kAtMost,
       .limit = 1,
       .measured = point.p50_us / 5e3,
       .raw = raw});
  Add({.key = "compared",
       .what = "documents compared for it, of 1,000",
       .bound = Bound::kAtMost,
       .limit = 1,
       .measured = point.compared / 1e3,
       .raw = raw});
  Add({.key = "brute_force",
       .what = absl::StrFormat("the same vs int8 MaxSim of all (%.0f ms)",
                               brute_us / 1e3),
       .limit = 20,
       .measured = brute_us / point.p50_us,
       .raw = raw});
  return absl::OkStatus();
}

absl::Status MultiRows::MeasureCandidates() {
  VICINAL_ASSIGN_OR_RETURN(Loaded * loaded, Built(Which::kGenerated));
  const MultiSet& set = loaded->set;
  VICINAL_ASSIGN_OR_RETURN(
      const MultiPoint ours,
      CheapestPoint(loaded->segment->field(), set.num_documents(),
                    loaded->queries, loaded->truth, 1, options_.recall_target));
  TellProgress("ranking by MUVERA as in its paper");
  constexpr size_t kSample = 4096;
  const DocumentSample sample(set, kSample);
  VICINAL_ASSIGN_OR_RETURN(
      const auto encoders,
      MakePaperEncoders(sample.view(), options_.build_threads));
  const std::vector<std::vector<RowId>> rankings =
      RankByEncodings(set, loaded->queries, encoders, set.num_documents() / 2,
                      options_.build_threads);
  const std::optional<double> paper =
      CandidatesFor(loaded->truth, rankings, options_.recall_target);
  const double at_least =
      paper.value_or(static_cast<double>(set.num_documents()) / 2);
  Add({.key = "candidates",
       .what = absl::StrFormat(
           "documents compared for recall@10 %.2f vs MUVERA (20, 5, 16), "
           "10,240 dimensions, all ranked (%s%.0f)",
           options_.recall_target, paper.has_value() ? "" : "more than ",
           at_least),
       .bound = Bound::kAtMost,
       .limit = 0.5,
       .measured = ours.compared / at_least,
       .raw = {{"ours", Json(ours)}, {"paper", at_least}}});

  VICINAL_ASSIGN_OR_RETURN(Loaded * subset, Built(Which::kSubset));
  MultiSpec spec = subset->set.Spec();
  spec.encoder.kind = MultiEncoderParams::Kind::kMuvera;
  spec.encoder.muvera = PaperMuveraParams();
  VICINAL_ASSIGN_OR_RETURN(
      const auto segment,
      MultiSegment::Build(subset->set, spec, options_.build_threads));
  const size_t n = subset->set.num_documents();
  VICINAL_ASSIGN_OR_RETURN(
      const MultiPoint by_default,
      CheapestPoint(subset->segment->field(), n, subset->queries, subset->truth,
                    options_.passes, options_.recall_target));
  VICINAL_ASSIGN_OR_RETURN(
      const MultiPoint by_paper,
      CheapestPoint(segment->field(), n, subset->queries, subset->truth,
                    options_.passes, options_.recall_target));
  Add({.key = "candidates_subset",
       .what = absl::StrFormat(
           "the same, %d documents, vs preset \"paper\" of our index (%.0f)", n,
           by_paper.compared),
       .bound = Bound::kAtMost,
       .limit = 0.5,
       .measured = by_default.compared / by_paper.compared,
       .raw = {{"ours", Json(by_default)}, {"paper", Json(by_paper)}}});
  return absl::OkStatus();
}

absl::Status MultiRows::AddPeer(const std::string& key, const std::string& name,
                                double limit, const Loaded& loaded,
                                const PeerBest& best) {
  const size_t n = loaded.set.num_documents();
  CheckRow row{.key = key, .limit = limit};
  row.what = absl::StrFormat("QPS vs %s, recall@10 %.2f, %d documents (%s)",
                             name, options_.recall_target, n, best.setting);
  if (best.setting.empty()) {
    row.why_not = "the peer does not reach the recall";
    Add(std::move(row));
    return absl::OkStatus();
  }
  VICINAL_ASSIGN_OR_RETURN(
      const MultiPoint ours,
      CheapestPoint(loaded.segment->field(), n, loaded.queries, loaded.truth,
                    options_.passes, options_.recall_target));
  VICINAL_ASSIGN_OR_RETURN(
      const MultiPoint peer,
      MeasurePoint(loaded.queries, loaded.truth, options_.passes, best.search));
  row.measured = peer.mean_us / ours.mean_us;
  row.raw = {{"ours", Json(ours)}, {"peer", Json(peer)}};
  Add(std::move(row));
  return absl::OkStatus();
}

absl::Status MultiRows::MeasurePlaid() {
  for (const Which which : {Which::kSubset, Which::kGenerated}) {
    VICINAL_ASSIGN_OR_RETURN(Loaded * loaded, Built(which));
    TellProgress("building the pipeline like PLAID");
    VICINAL_ASSIGN_OR_RETURN(
        const auto plaid,
        PlaidPipeline::Build(*loaded->int8, options_.build_threads));
    TellProgress(
        absl::StrCat("searching it, ", plaid->num_centroids(), " centroids"));
    VICINAL_ASSIGN_OR_RETURN(
        const PeerBest best,
        BestOf(*plaid, loaded->queries, loaded->truth, options_.recall_target));
    VICINAL_RETURN_IF_ERROR(
        AddPeer(which == Which::kSubset ? "plaid_subset" : "plaid",
                "a pipeline like PLAID", 3, *loaded, best));
  }
  return absl::OkStatus();
}

// Of a subset: the graph over all tokens would take an hour to build.
absl::Status MultiRows::MeasureHeuristic() {
  VICINAL_ASSIGN_OR_RETURN(Loaded * loaded, Built(Which::kSubset));
  TellProgress("building the graph over tokens");
  VICINAL_ASSIGN_OR_RETURN(
      const auto heuristic,
      TokenHeuristic::Build(*loaded->int8, options_.build_threads));
  TellProgress("searching it");
  VICINAL_ASSIGN_OR_RETURN(const PeerBest best,
                           BestOf(*heuristic, loaded->queries, loaded->truth,
                                  options_.recall_target));
  return AddPeer("token_heuristic", "HNSW over tokens", 5, *loaded, best);
}

absl::Status MultiRows::MeasureTokenCodes() {
  double least = 1;
  nlohmann::json raw;
  for (const Which which : {Which::kGlove, Which::kLotte, Which::kGenerated}) {
    VICINAL_ASSIGN_OR_RETURN(Loaded * loaded, Built(which));
    VICINAL_ASSIGN_OR_RETURN(
        const MultiPoint point,
        MeasureField(loaded->segment->field(), loaded->set.num_documents(),
                     loaded->queries, loaded->truth, 1,
                     {.k = kMultiK,
                      .exact_candidates = kNumExact,
                      .force = ForcedPlan::kScan}));
    raw[loaded->set.name] = point.recall;
    least = std::min(least, point.recall);
  }
  Add({.key = "token_codes",
       .what = "top 10 kept by 4-bit MaxSim of all, 32 exact; worst of 3 sets",
       .limit = 0.99,
       .measured = least,
       .raw = std::move(raw)});
  return absl::OkStatus();
}

absl::Status MultiRows::MeasureMemory() {
  VICINAL_ASSIGN_OR_RETURN(Loaded * loaded, Built(Which::kGenerated));
  const double bytes = static_cast<double>(loaded->segment->resident_bytes()) /
                       static_cast<double>(loaded->segment->num_rows());
  Add({.key = "memory",
       .what = absl::StrFormat("RAM per document, tokens and their codes "
                               "mapped (%.0f bytes), of 1.5 KB",
                               bytes),
       .bound = Bound::kAtMost,
       .limit = 1,
       .measured = bytes / 1536,
       .raw = {{"bytes", bytes},
               {"index_bytes",
                static_cast<double>(loaded->segment->field().index_bytes()) /
                    static_cast<double>(loaded->segment->num_rows())}}});
  return absl::OkStatus();
}

absl::Status MultiRows::MeasureRelevance() {
  constexpr size_t kDepth = 5;
  VICINAL_ASSIGN_OR_RETURN(Loaded * loaded, Built(Which::kLotte));
  Answers answers;
  VICINAL_RETURN_IF_ERROR(
      MeasureField(loaded->segment->field(), loaded->set.num_documents(),
                   loaded->queries, loaded->truth, 1,
                   {.k = kMultiK, .recall_target = options_.recall_target},
                   &answers)
          .status());
  const auto success = [&](const Answers& of) {
    size_t count = 0;
    for (size_t q = 0; q < of.size(); ++q) {
      const std::vector<uint32_t>& relevant = loaded->set.relevant[q];
      const auto end = of[q].begin() +
                       static_cast<ptrdiff_t>(std::min(kDepth, of[q].size()));
      count += std::any_of(of[q].begin(), end, [&](const Neighbor& hit) {
        return std::find(relevant.begin(), relevant.end(), hit.row) !=
               relevant.end();
      });
    }
    return static_cast<double>(count) / static_cast<double>(of.size());
  };
  const double ours = success(answers);
  const double exact = success(loaded->truth);
  Add({.key = "relevance",
       .what = absl::StrFormat(
           "success@5 by people, lotte500 (%.2f), vs exact MaxSim", ours),
       .limit = 1,
       .measured = ours / exact,
       .raw = {{"ours", ours}, {"exact", exact}}});
  return absl::OkStatus();
}

}  // namespace vicinal::bench
