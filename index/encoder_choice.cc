#include "index/encoder_choice.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

using Fill = MuveraParams::Fill;
using Centering = MuveraParams::Centering;

constexpr size_t kDocuments = 2'000;
constexpr size_t kQueries = 64;
constexpr size_t kWanted = 10;
constexpr size_t kCandidates = 100;
constexpr size_t kMaxQueryTokens = 32;
// Of long documents the first ones.
constexpr size_t kMaxTrialTokens = 256;
constexpr size_t kTriedTokens = 128;

// The documents and queries that encoders are tried on.
struct Trial {
  std::vector<TokenRows> documents;
  std::vector<PseudoQuery> pseudo;
  std::vector<MultiQuery> queries;
  std::vector<std::vector<uint32_t>> best;  // of each query, exactly
};

absl::Status CheckCancelled(const CancelToken* cancel) {
  return cancel != nullptr && cancel->cancelled()
             ? absl::CancelledError("the index build was cancelled")
             : absl::OkStatus();
}

std::vector<uint32_t> Rows(TopK* top) {
  std::vector<uint32_t> out;
  for (const Neighbor& neighbor : top->TakeSorted())
    out.push_back(neighbor.row);
  return out;
}

Trial MakeTrial(const MultiSpec& spec, std::span<const TokenRows> documents,
                uint64_t seed, Workers* workers, const CancelToken* cancel) {
  Trial trial;
  const size_t n = std::min(documents.size(), kDocuments);
  for (size_t i = 0; i < n; ++i) {
    TokenRows row = documents[i * documents.size() / n];
    row.num_tokens = std::min(row.num_tokens, kMaxTrialTokens);
    trial.documents.push_back(row);
  }
  trial.pseudo = MakePseudoQueries(spec, trial.documents, kQueries, seed);
  for (const PseudoQuery& pseudo : trial.pseudo) {
    trial.queries.emplace_back(spec, pseudo.tokens, std::span<const float>());
  }
  trial.best.resize(trial.queries.size());
  workers->For(trial.queries.size(), 1, [&](size_t q, size_t, size_t) {
    TopK top(kWanted);
    for (uint32_t i = 0; i < n && CheckCancelled(cancel).ok(); ++i) {
      if (i == trial.pseudo[q].own) continue;
      top.Push({-trial.queries[q].Score(trial.documents[i]), i});
    }
    trial.best[q] = Rows(&top);
  });
  return trial;
}

// The share of the exact best that are among the candidates.
double RecallOf(const MultiSpec& spec, const MultiEncoder& encoder,
                const Trial& trial, Workers* workers,
                const CancelToken* cancel) {
  constexpr size_t kBlock = 32;
  const size_t n = trial.documents.size();
  const size_t dim = encoder.dim();
  std::vector<float> encodings(n * dim);
  workers->For(n, kBlock, [&](size_t begin, size_t end, size_t) {
    if (!CheckCancelled(cancel).ok()) return;
    std::vector<size_t> ends;
    size_t count = 0;
    for (size_t i = begin; i < end; ++i) {
      ends.push_back(count += trial.documents[i].num_tokens);
    }
    std::vector<float> tokens(count * spec.dim);
    for (size_t i = begin; i < end; ++i) {
      const TokenRows& row = trial.documents[i];
      const size_t first = ends[i - begin] - row.num_tokens;
      LoadTokens(spec, row, 0, row.num_tokens, &tokens[first * spec.dim]);
    }
    encoder.EncodeDocuments({tokens.data(), count, spec.dim, spec.dim}, ends,
                            &encodings[begin * dim]);
  });
  std::vector<size_t> found(trial.queries.size());
  const DistanceOps& ops = OpsFor(Metric::kInnerProduct, ElementType::kFloat32);
  workers->For(trial.queries.size(), 1, [&](size_t q, size_t, size_t) {
    std::vector<float> encoding(dim);
    encoder.EncodeQuery(trial.queries[q].tokens(), {}, encoding.data());
    std::vector<float> distances(n);
    ops.scan(encoding.data(), encodings.data(), dim * sizeof(float), n, dim,
             distances.data());
    TopK top(kCandidates);
    for (uint32_t i = 0; i < n; ++i) {
      if (i != trial.pseudo[q].own) top.Push({distances[i], i});
    }
    const std::vector<uint32_t> candidates = Rows(&top);
    for (const uint32_t row : trial.best[q]) {
      found[q] += std::count(candidates.begin(), candidates.end(), row);
    }
  });
  size_t total = 0;
  size_t wanted = 0;
  for (size_t q = 0; q < found.size(); ++q) {
    total += found[q];
    wanted += trial.best[q].size();
  }
  return wanted == 0 ? 1
                     : static_cast<double>(total) / static_cast<double>(wanted);
}

// What is tried, the simplest first.
std::vector<MultiEncoderParams> Options(const MultiEncoderParams& params) {
  std::vector<MultiEncoderParams> options;
  const auto add_muvera = [&](Fill fill, Centering centering) {
    MultiEncoderParams option = params;
    option.kind = MultiEncoderParams::Kind::kMuvera;
    if (option.muvera.fill == Fill::kAuto) option.muvera.fill = fill;
    if (option.muvera.centering == Centering::kAuto) {
      option.muvera.centering = centering;
    }
    if (std::find(options.begin(), options.end(), option) == options.end()) {
      options.push_back(option);
    }
  };
  if (params.kind != MultiEncoderParams::Kind::kOls) {
    add_muvera(Fill::kNone, Centering::kHashAndDocuments);
    add_muvera(Fill::kHammingMean, Centering::kHash);
    add_muvera(Fill::kNone, Centering::kNone);
  }
  if (params.kind != MultiEncoderParams::Kind::kMuvera) {
    MultiEncoderParams option = params;
    option.kind = MultiEncoderParams::Kind::kOls;
    options.push_back(option);
  }
  return options;
}

}  // namespace

bool NeedsChoice(const MultiEncoderParams& params) {
  return params.kind == MultiEncoderParams::Kind::kAuto ||
         (params.kind == MultiEncoderParams::Kind::kMuvera &&
          (params.muvera.fill == Fill::kAuto ||
           params.muvera.centering == Centering::kAuto));
}

absl::StatusOr<EncoderChoice> ChooseEncoder(
    const MultiSpec& spec, const MultiEncoderParams& params,
    std::span<const TokenRows> documents, const SampleDocuments& sample,
    size_t num_threads, const CancelToken* cancel) {
  Workers workers(num_threads);
  const Trial trial = MakeTrial(spec, documents, params.seed, &workers, cancel);
  EncoderChoice choice;
  double best = -1;
  std::string tried;
  for (const MultiEncoderParams& option : Options(params)) {
    VICINAL_RETURN_IF_ERROR(CheckCancelled(cancel));
    VICINAL_ASSIGN_OR_RETURN(
        auto encoder, TrainMultiEncoder(option, sample, num_threads, cancel));
    const double recall = RecallOf(spec, *encoder, trial, &workers, cancel);
    absl::StrAppendFormat(&tried, "%s%s %.3f", tried.empty() ? "" : "; ",
                          encoder->Describe(), recall);
    VICINAL_RETURN_IF_ERROR(CheckCancelled(cancel));
    if (recall <= best) continue;
    best = recall;
    choice.params = option;
    choice.encoder = std::move(encoder);
  }
  choice.description =
      absl::StrCat(choice.encoder->Describe(),
                   ", chosen by recall 10@100 on a sample: ", tried);
  return choice;
}

std::vector<PseudoQuery> MakePseudoQueries(const MultiSpec& spec,
                                           std::span<const TokenRows> documents,
                                           size_t count, uint64_t seed) {
  count = std::min(count, documents.size());
  Random random(seed);
  const DistanceOps& ops = OpsFor(Metric::kInnerProduct, ElementType::kFloat32);
  std::vector<PseudoQuery> out(count);
  for (size_t q = 0; q < count; ++q) {
    const auto own = static_cast<uint32_t>(q * documents.size() / count);
    const TokenRows row = documents[own];
    // Half of them short: few tokens find less.
    const size_t n =
        std::min(row.num_tokens, kMaxQueryTokens / (q % 2 == 0 ? 1 : 2));
    std::vector<uint32_t> chosen(row.num_tokens);
    for (uint32_t i = 0; i < chosen.size(); ++i) chosen[i] = i;
    out[q].own = own;
    out[q].tokens.resize(n * spec.dim);
    for (size_t i = 0; i < n; ++i) {
      std::swap(chosen[i], chosen[i + random.Uniform(chosen.size() - i)]);
      float* token = &out[q].tokens[i * spec.dim];
      if (random.Uniform(3) != 0) {
        LoadTokens(spec, row, chosen[i], 1, token);
        continue;
      }
      // The nearest of some tokens of others, as another word for the same.
      std::vector<float> replaced(spec.dim);
      LoadTokens(spec, row, chosen[i], 1, replaced.data());
      float least = std::numeric_limits<float>::infinity();
      for (size_t tried = 0; tried < kTriedTokens; ++tried) {
        const TokenRows& other = documents[random.Uniform(documents.size())];
        std::vector<float> found(spec.dim);
        LoadTokens(spec, other, random.Uniform(other.num_tokens), 1,
                   found.data());
        const float distance = ops.one(replaced.data(), found.data(), spec.dim);
        if (distance >= least) continue;
        least = distance;
        std::copy(found.begin(), found.end(), token);
      }
    }
  }
  return out;
}

}  // namespace vicinal
