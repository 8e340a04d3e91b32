// How many candidates by encodings, and how many of these by codes, hold how
// much of the exact answer: measured when a segment is built, as for graphs
// (calibration.h).
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "index/calibration.h"
#include "index/encoder_choice.h"
#include "index/sealed_multi_state.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/base/workers.h"

namespace vicinal {
namespace {

constexpr size_t kQueries = 64;
constexpr size_t kDeepest = kCalibratedDepths.back();
// Candidates that are tried.
constexpr std::array<uint32_t, 21> kGrid = {
    16,  24,   32,   48,   64,   96,   128,  192,  256,   384,  512,
    768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384};
// What the comparison by codes may lose.
constexpr double kDepthRecall = 0.995;

struct Truth {
  std::vector<uint32_t> best;      // kDeepest of them, by their tokens
  std::vector<uint32_t> by_codes;  // more, by coded tokens
};

// Of each k, where nearly all of the k best stand by codes.
std::vector<sealed_multi::ExactDepth> DepthsOf(
    const std::vector<Truth>& truths) {
  std::vector<sealed_multi::ExactDepth> depths;
  for (const uint32_t k : kCalibratedDepths) {
    std::vector<size_t> places;
    for (const Truth& truth : truths) {
      for (size_t i = 0; i < std::min<size_t>(k, truth.best.size()); ++i) {
        places.push_back(
            static_cast<size_t>(std::find(truth.by_codes.begin(),
                                          truth.by_codes.end(), truth.best[i]) -
                                truth.by_codes.begin()));
      }
    }
    if (places.empty()) continue;
    std::sort(places.begin(), places.end());
    const auto at = static_cast<size_t>(std::ceil(
                        kDepthRecall * static_cast<double>(places.size()))) -
                    1;
    depths.push_back({k, std::max(k, static_cast<uint32_t>(places[at] + 1))});
  }
  return depths;
}

}  // namespace

absl::Status SealedMultiField::State::Calibrate(size_t num_threads,
                                                const CancelToken* cancel) {
  std::vector<TokenRows> documents(n);
  for (RowId row = 0; row < n; ++row) documents[row] = TokensAt(row);
  const std::vector<PseudoQuery> pseudo =
      MakePseudoQueries(spec, documents, kQueries, spec.encoder.seed);
  std::vector<MultiQuery> queries;
  for (const PseudoQuery& query : pseudo) {
    queries.emplace_back(spec, query.tokens, std::span<const float>());
  }
  const auto cancelled = [&] {
    return cancel != nullptr && cancel->cancelled()
               ? absl::CancelledError("the index build was cancelled")
               : absl::OkStatus();
  };
  const StopCondition stop{
      .cancelled = [&] { return cancel != nullptr && cancel->cancelled(); }};
  Workers workers(num_threads);

  std::vector<Truth> truths(queries.size());
  // Deeper and deeper, until the best by tokens are not among the last by
  // codes: beyond these there may be more of them.
  for (size_t compared = std::min(n, 4 * kDeepest);;
       compared = std::min(n, 4 * compared)) {
    workers.For(queries.size(), 1, [&](size_t q, size_t, size_t) {
      truths[q] = {};
      TopK by_codes(compared);
      MultiStats work;
      const Filter all;
      if (!ScanCodes(queries[q], all, stop, &by_codes, &work).ok()) return;
      TopK best(kDeepest);
      for (const Neighbor& neighbor : by_codes.TakeSorted()) {
        if (neighbor.row == pseudo[q].own) continue;
        if (!cancelled().ok()) return;
        truths[q].by_codes.push_back(neighbor.row);
        best.Push({-queries[q].Score(TokensAt(neighbor.row)), neighbor.row});
      }
      for (const Neighbor& neighbor : best.TakeSorted()) {
        truths[q].best.push_back(neighbor.row);
      }
    });
    VICINAL_RETURN_IF_ERROR(cancelled());
    depths = DepthsOf(truths);
    const bool is_deep_enough = std::all_of(
        depths.begin(), depths.end(), [&](const sealed_multi::ExactDepth& d) {
          return d.depth <= std::max<size_t>(compared / 2, d.k);
        });
    if (is_deep_enough || compared == n) break;
  }

  table.clear();
  if (index == nullptr) return absl::OkStatus();
  RecallPoints points;
  for (const uint32_t candidates : kGrid) {
    if (candidates > n) break;
    std::vector<std::array<size_t, kCalibratedDepths.size()>> found(
        queries.size());
    std::vector<absl::Status> statuses(queries.size());
    workers.For(queries.size(), 1, [&](size_t q, size_t, size_t) {
      // One more, since it finds its own document.
      const Effort effort{.candidates = candidates + 1,
                          .rescore = RescoreFor(candidates + 1)};
      auto result = FindCandidates(queries[q], effort, {}, stop, nullptr);
      statuses[q] = result.status();
      if (!result.ok()) return;
      std::vector<uint32_t> rows;
      for (const Neighbor& neighbor : *result) {
        if (neighbor.row != pseudo[q].own) rows.push_back(neighbor.row);
      }
      if (rows.size() > candidates) rows.resize(candidates);
      std::sort(rows.begin(), rows.end());
      const std::vector<uint32_t>& best = truths[q].best;
      for (size_t d = 0; d < kCalibratedDepths.size(); ++d) {
        const size_t wanted =
            std::min<size_t>(kCalibratedDepths[d], best.size());
        for (size_t i = 0; i < wanted; ++i) {
          found[q][d] += std::binary_search(rows.begin(), rows.end(), best[i]);
        }
      }
    });
    bool is_complete = true;
    for (size_t d = 0; d < kCalibratedDepths.size(); ++d) {
      size_t total = 0;
      size_t wanted = 0;
      for (size_t q = 0; q < queries.size(); ++q) {
        VICINAL_RETURN_IF_ERROR(statuses[q]);
        total += found[q][d];
        wanted += std::min<size_t>(kCalibratedDepths[d], truths[q].best.size());
      }
      if (wanted == 0 || kCalibratedDepths[d] > candidates) continue;
      is_complete &= total == wanted;
      points[d].push_back({.recall = SafeRecall(total, wanted),
                           .k = kCalibratedDepths[d],
                           .ef = candidates});
    }
    if (is_complete && candidates >= kDeepest) break;
  }
  table =
      Frontier(std::move(points), {.fixed = 0, .per_ef = 1, .per_rerank = 0});
  return cancelled();
}

}  // namespace vicinal
