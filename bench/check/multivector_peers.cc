#include "bench/check/multivector_peers.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/kmeans.h"
#include "src/base/half.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal::bench {
namespace {

// The tokens of documents begin .. end, as floats.
std::vector<float> LoadDocuments(const MultiSet& set, size_t begin,
                                 size_t end) {
  const size_t count = set.offsets[end] - set.offsets[begin];
  std::vector<float> tokens(count * set.dim);
  LoadTokens(set.Spec(), {set.document(begin).data, count}, 0, count,
             tokens.data());
  return tokens;
}

// At most `count` tokens from all over a set, in random order.
std::vector<float> ShuffledTokens(const MultiSet& set, size_t count) {
  std::vector<uint32_t> at(set.num_tokens());
  for (uint32_t i = 0; i < at.size(); ++i) at[i] = i;
  count = std::min(count, at.size());
  Random random(5);
  const MultiSpec spec = set.Spec();
  std::vector<float> out(count * set.dim);
  for (size_t i = 0; i < count; ++i) {
    std::swap(at[i], at[i + random.Uniform(at.size() - i)]);
    LoadTokens(spec, {set.document(0).data, set.num_tokens()}, at[i], 1,
               &out[i * set.dim]);
  }
  return out;
}

// Centroids in groups by a k-means of their own. A point is compared with those
// of the nearest groups.
class GroupedCentroids {
 public:
  static absl::StatusOr<GroupedCentroids> Create(MatrixView centroids,
                                                 Workers* workers) {
    constexpr size_t kGroups = 128;
    constexpr size_t kIterations = 8;
    const size_t num_groups = std::min(kGroups, centroids.num_rows);
    VICINAL_ASSIGN_OR_RETURN(
        const std::vector<float> middles,
        TrainKMeans(centroids, num_groups, kIterations, workers, nullptr));
    GroupedCentroids out(
        {middles.data(), num_groups, centroids.dim, centroids.dim});
    std::vector<uint32_t> nearest(centroids.num_rows);
    out.middles_.Nearest(centroids.data, centroids.num_rows, 1, nearest.data(),
                         nullptr);
    for (uint32_t g = 0; g < num_groups; ++g) {
      Group& group = out.groups_.emplace_back();
      std::vector<float> rows;
      for (uint32_t c = 0; c < centroids.num_rows; ++c) {
        if (nearest[c] != g) continue;
        group.members.push_back(c);
        const std::span<const float> row = centroids.row(c);
        rows.insert(rows.end(), row.begin(), row.end());
      }
      group.panels.emplace(MatrixView{rows.data(), group.members.size(),
                                      centroids.dim, centroids.dim});
    }
    return out;
  }

  // Of each of `count` points nearly always the nearest. (Measured, 20,000
  // documents: of 99.6 %.)
  void Nearest(const float* points, size_t count, uint32_t* out) const {
    const size_t probes = std::min(CentroidPanels::kMaxNearest, groups_.size());
    std::vector<uint32_t> probed(count * probes);
    middles_.Nearest(points, count, probes, probed.data(), nullptr);
    std::vector<float> least(count, std::numeric_limits<float>::infinity());
    std::vector<uint32_t> of_group;
    std::vector<float> rows;
    std::vector<uint32_t> nearest;
    std::vector<float> distances;
    for (uint32_t g = 0; g < groups_.size(); ++g) {
      const Group& group = groups_[g];
      if (group.members.empty()) continue;
      of_group.clear();
      rows.clear();
      for (size_t i = 0; i < probed.size(); ++i) {
        if (probed[i] != g) continue;
        of_group.push_back(static_cast<uint32_t>(i / probes));
        const float* point = points + i / probes * dim_;
        rows.insert(rows.end(), point, point + dim_);
      }
      nearest.resize(of_group.size());
      distances.resize(of_group.size());
      group.panels->Nearest(rows.data(), of_group.size(), 1, nearest.data(),
                            distances.data());
      for (size_t i = 0; i < of_group.size(); ++i) {
        if (distances[i] >= least[of_group[i]]) continue;
        least[of_group[i]] = distances[i];
        out[of_group[i]] = group.members[nearest[i]];
      }
    }
  }

 private:
  struct Group {
    std::vector<uint32_t> members;
    std::optional<CentroidPanels> panels;
  };

  explicit GroupedCentroids(MatrixView middles)
      : dim_(middles.dim), middles_(middles) {}

  size_t dim_;
  CentroidPanels middles_;
  std::vector<Group> groups_;
};

}  // namespace

absl::StatusOr<CodedTokens> CodedTokens::Create(const MultiSet& set,
                                                TokenCodecKind kind,
                                                size_t num_threads) {
  constexpr size_t kSample = 16'384;
  const std::vector<float> sample = kind == TokenCodecKind::kInt8
                                        ? std::vector<float>()
                                        : ShuffledTokens(set, kSample);
  VICINAL_ASSIGN_OR_RETURN(
      auto codec, TokenCodec::Train(kind, set.dim,
                                    {sample.data(), sample.size() / set.dim,
                                     set.dim, set.dim},
                                    1, num_threads, nullptr));
  CodedTokens out(set, std::move(codec));
  const size_t record_bytes = out.codec_->record_bytes();
  out.records_.resize(set.num_tokens() * record_bytes);
  Workers workers(num_threads);
  workers.For(set.num_documents(), 64, [&](size_t begin, size_t end, size_t) {
    const std::vector<float> tokens = LoadDocuments(set, begin, end);
    out.codec_->Encode(
        {tokens.data(), tokens.size() / set.dim, set.dim, set.dim},
        &out.records_[set.offsets[begin] * record_bytes]);
  });
  return out;
}

void CodedTokens::Rank(const MultiQuery& query, std::span<const RowId> rows,
                       TopK* out) const {
  const TokenCodeQuery coded = codec_->Prepare(query.tokens(), query.weights());
  std::vector<float> scratch(16 * coded.num_panels);
  for (const RowId row : rows) {
    out->Push({-Score(coded, row, scratch.data()), row});
  }
}

void CodedTokens::SearchAll(const MultiQuery& query, size_t num_exact,
                            TopK* out) const {
  const TokenCodeQuery coded = codec_->Prepare(query.tokens(), query.weights());
  std::vector<float> scratch(16 * coded.num_panels);
  TopK nearest(num_exact);
  for (RowId row = 0; row < set_.num_documents(); ++row) {
    nearest.Push({-Score(coded, row, scratch.data()), row});
  }
  CompareExactly(set_, query, &nearest, out);
}

std::vector<std::vector<Neighbor>> CodedTokens::Truth(
    const std::vector<MultiQuery>& queries, size_t k,
    size_t num_threads) const {
  std::vector<std::vector<Neighbor>> truth(queries.size());
  Workers workers(num_threads);
  workers.For(queries.size(), 1, [&](size_t q, size_t, size_t) {
    TopK top(k);
    SearchAll(queries[q], 4 * k + 100, &top);
    truth[q] = top.TakeSorted();
  });
  return truth;
}

void CompareExactly(const MultiSet& set, const MultiQuery& query, TopK* nearest,
                    TopK* out) {
  for (const Neighbor& neighbor : nearest->TakeSorted()) {
    out->Push({-query.Score(set.document(neighbor.row)), neighbor.row});
  }
}

absl::StatusOr<std::unique_ptr<TokenHeuristic>> TokenHeuristic::Build(
    const CodedTokens& coded, size_t num_threads) {
  std::unique_ptr<TokenHeuristic> out(new TokenHeuristic(coded));
  const MultiSet& set = coded.set();
  const VectorSetView tokens{set.tokens.data(), set.num_tokens(), set.dim,
                             set.dim * sizeof(uint16_t), ElementType::kFloat16};
  VICINAL_ASSIGN_OR_RETURN(out->graph_,
                           BuildHnswGraph(tokens, Metric::kInnerProduct, {},
                                          num_threads, nullptr, nullptr));
  VICINAL_ASSIGN_OR_RETURN(
      out->index_, HnswIndex::Open(tokens, Metric::kInnerProduct, out->graph_));
  out->document_of_.reserve(set.num_tokens());
  for (uint32_t i = 0; i < set.num_documents(); ++i) {
    out->document_of_.insert(out->document_of_.end(),
                             set.document(i).num_tokens, i);
  }
  return out;
}

absl::Status TokenHeuristic::Search(const MultiQuery& query, size_t num_tokens,
                                    size_t num_candidates, size_t num_exact,
                                    TopK* out) const {
  const MultiSet& set = coded_.set();
  const size_t dim = set.dim;
  std::vector<float> sums(set.num_documents());
  std::vector<uint32_t> last(set.num_documents());  // query token, from 1
  std::vector<RowId> found;
  std::vector<uint16_t> halves(dim);
  for (uint32_t i = 0; i < query.num_tokens(); ++i) {
    FloatToHalf(query.tokens().row(i), halves);
    TopK top(num_tokens);
    VICINAL_RETURN_IF_ERROR(index_->Search(halves.data(),
                                           {.k = num_tokens, .ef = num_tokens},
                                           {}, {}, &top, nullptr));
    const std::vector<Neighbor> nearest = top.TakeSorted();
    for (const Neighbor& token : nearest) {
      const uint32_t document = document_of_[token.row];
      if (last[document] == i + 1) continue;  // by a nearer token
      if (last[document] == 0) found.push_back(document);
      last[document] = i + 1;
      sums[document] += nearest.back().distance - token.distance;
    }
  }
  TopK best(num_candidates);
  for (const RowId document : found) best.Push({-sums[document], document});
  std::vector<RowId> rows;
  for (const Neighbor& neighbor : best.TakeSorted()) {
    rows.push_back(neighbor.row);
  }
  std::sort(rows.begin(), rows.end());
  TopK nearest(num_exact);
  coded_.Rank(query, rows, &nearest);
  CompareExactly(set, query, &nearest, out);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PlaidPipeline>> PlaidPipeline::Build(
    const CodedTokens& coded, size_t num_threads) {
  constexpr size_t kMaxCentroids = 16'384;
  std::unique_ptr<PlaidPipeline> out(new PlaidPipeline(coded));
  const MultiSet& set = coded.set();
  const size_t num_centroids = std::min(
      kMaxCentroids, static_cast<size_t>(
                         4 * std::sqrt(static_cast<double>(set.num_tokens()))));
  // Fewer for many, so that the build ends in minutes.
  const bool many = num_centroids > 8'192;
  const size_t sample_per_centroid = many ? 32 : 48;
  const size_t iterations = many ? 5 : 6;
  Workers workers(num_threads);
  const std::vector<float> sample =
      ShuffledTokens(set, sample_per_centroid * num_centroids);
  VICINAL_ASSIGN_OR_RETURN(
      out->centroids_,
      TrainKMeans({sample.data(), sample.size() / set.dim, set.dim, set.dim},
                  num_centroids, iterations, &workers, nullptr));
  VICINAL_ASSIGN_OR_RETURN(
      const GroupedCentroids centroids,
      GroupedCentroids::Create(
          {out->centroids_.data(), num_centroids, set.dim, set.dim}, &workers));
  std::vector<uint32_t> nearest(set.num_tokens());
  workers.For(set.num_documents(), 64, [&](size_t begin, size_t end, size_t) {
    const std::vector<float> tokens = LoadDocuments(set, begin, end);
    centroids.Nearest(tokens.data(), tokens.size() / set.dim,
                      &nearest[set.offsets[begin]]);
  });
  out->lists_.resize(num_centroids);
  out->id_offsets_ = {0};
  for (uint32_t i = 0; i < set.num_documents(); ++i) {
    const auto begin = nearest.begin() + static_cast<ptrdiff_t>(set.offsets[i]);
    const auto end =
        nearest.begin() + static_cast<ptrdiff_t>(set.offsets[i + 1]);
    std::sort(begin, end);
    const auto last = std::unique(begin, end);
    for (auto id = begin; id != last; ++id) {
      out->ids_.push_back(static_cast<uint16_t>(*id));
      out->lists_[*id].push_back(i);
    }
    out->id_offsets_.push_back(out->ids_.size());
  }
  VICINAL_ASSIGN_OR_RETURN(
      CodedTokens residuals,
      CodedTokens::Create(set, TokenCodecKind::kInt2, num_threads));
  out->residuals_.emplace(std::move(residuals));
  return out;
}

void PlaidPipeline::Search(const MultiQuery& query, const Settings& settings,
                           TopK* out) const {
  const MultiSet& set = coded_.set();
  const size_t n = query.num_tokens();
  const size_t num_panels = (n + kPairPanel - 1) / kPairPanel;
  const size_t width = num_panels * kPairPanel;
  std::vector<float> packed(width * set.dim);
  PackPanels(query.tokens().data, set.dim, n, set.dim, packed.data());
  std::vector<float> scores(lists_.size() * width);
  ActiveKernels().pair_ip(centroids_.data(), set.dim, lists_.size(),
                          packed.data(), num_panels, set.dim, scores.data(),
                          width);
  // The best centroids of each query token.
  const size_t num_kept = std::max(settings.num_probes, settings.num_kept);
  std::vector<TopK> best(n, TopK(num_kept));
  std::vector<float> least(width, std::numeric_limits<float>::infinity());
  std::fill_n(least.begin(), n, -std::numeric_limits<float>::infinity());
  for (RowId c = 0; c < lists_.size(); ++c) {
    const float* of = &scores[c * width];
    int any = 0;
    for (size_t i = 0; i < width; ++i) any |= of[i] > least[i];
    if (any == 0) continue;
    for (size_t i = 0; i < n; ++i) {
      if (!(of[i] > least[i])) continue;
      best[i].Push({-of[i], c});
      least[i] = -best[i].threshold();
    }
  }
  std::vector<uint8_t> counts(lists_.size(), settings.num_kept == 0);
  std::vector<float> start(width);
  std::vector<uint8_t> met(set.num_documents());
  std::vector<RowId> found;
  for (size_t i = 0; i < n; ++i) {
    const std::vector<Neighbor> probes = best[i].TakeSorted();
    start[i] = settings.num_kept == 0 ? -2 : -probes.back().distance;
    for (size_t p = 0; p < probes.size(); ++p) {
      counts[probes[p].row] = 1;
      if (p >= settings.num_probes) continue;
      for (const uint32_t document : lists_[probes[p].row]) {
        if (met[document] == 0) found.push_back(document);
        met[document] = 1;
      }
    }
  }
  TopK nearest(settings.num_by_centroids);
  std::vector<float> maxima(width);
  for (const RowId document : found) {
    std::copy(start.begin(), start.end(), maxima.begin());
    for (uint64_t j = id_offsets_[document]; j < id_offsets_[document + 1];
         ++j) {
      if (counts[ids_[j]] == 0) continue;
      const float* of = &scores[ids_[j] * width];
      for (size_t i = 0; i < width; ++i) maxima[i] = std::max(maxima[i], of[i]);
    }
    float sum = 0;
    for (size_t i = 0; i < n; ++i) sum += query.weights()[i] * maxima[i];
    nearest.Push({-sum, document});
  }
  std::vector<RowId> rows;
  for (const Neighbor& neighbor : nearest.TakeSorted()) {
    rows.push_back(neighbor.row);
  }
  std::sort(rows.begin(), rows.end());
  TopK by_residuals(settings.num_exact);
  residuals_->Rank(query, rows, &by_residuals);
  CompareExactly(set, query, &by_residuals, out);
}

std::vector<std::vector<RowId>> RankByEncodings(
    const MultiSet& set, const std::vector<MultiQuery>& queries,
    const std::vector<std::unique_ptr<const MultiEncoder>>& encoders,
    size_t depth, size_t num_threads) {
  constexpr size_t kBlock = 64;
  const size_t num_panels = (queries.size() + kPairPanel - 1) / kPairPanel;
  const size_t width = num_panels * kPairPanel;
  std::vector<std::vector<float>> panels;
  for (const auto& encoder : encoders) {
    const size_t dim = encoder->dim();
    std::vector<float> encodings(queries.size() * dim);
    for (size_t q = 0; q < queries.size(); ++q) {
      encoder->EncodeQuery(queries[q].tokens(), queries[q].weights(),
                           &encodings[q * dim]);
    }
    panels.emplace_back(width * dim);
    PackPanels(encodings.data(), dim, queries.size(), dim,
               panels.back().data());
  }
  Workers workers(num_threads);
  std::vector<std::vector<TopK>> best(
      workers.size(), std::vector<TopK>(queries.size(), TopK(depth)));
  workers.For(
      set.num_documents(), kBlock,
      [&](size_t begin, size_t end, size_t worker) {
        const size_t n = end - begin;
        const std::vector<float> tokens = LoadDocuments(set, begin, end);
        std::vector<size_t> ends;
        for (size_t i = begin; i < end; ++i) {
          ends.push_back(set.offsets[i + 1] - set.offsets[begin]);
        }
        std::vector<float> sums(n * width);
        std::vector<float> products(n * width);
        for (size_t e = 0; e < encoders.size(); ++e) {
          const size_t dim = encoders[e]->dim();
          std::vector<float> out(n * dim);
          encoders[e]->EncodeDocuments(
              {tokens.data(), ends.back(), set.dim, set.dim}, ends, out.data());
          ActiveKernels().pair_ip(out.data(), dim, n, panels[e].data(),
                                  num_panels, dim, products.data(), width);
          for (size_t i = 0; i < sums.size(); ++i) sums[i] += products[i];
        }
        for (size_t i = 0; i < n; ++i) {
          for (size_t q = 0; q < queries.size(); ++q) {
            best[worker][q].Push(
                {-sums[i * width + q], static_cast<RowId>(begin + i)});
          }
        }
      });
  std::vector<std::vector<RowId>> out(queries.size());
  for (size_t q = 0; q < queries.size(); ++q) {
    TopK all(depth);
    for (std::vector<TopK>& of_worker : best) {
      for (const Neighbor& neighbor : of_worker[q].TakeSorted()) {
        all.Push(neighbor);
      }
    }
    for (const Neighbor& neighbor : all.TakeSorted()) {
      out[q].push_back(neighbor.row);
    }
  }
  return out;
}

absl::StatusOr<std::vector<std::unique_ptr<const MultiEncoder>>>
MakePaperEncoders(const SampleDocuments& sample, size_t num_threads) {
  std::vector<std::unique_ptr<const MultiEncoder>> out;
  MultiEncoderParams params{.kind = MultiEncoderParams::Kind::kMuvera,
                            .muvera = PaperMuveraParams()};
  size_t left = params.muvera.repetitions;
  while (left > 0) {
    params.muvera.repetitions = 1;
    const size_t most =
        kMaxEncodingDim / FdeDim(params.muvera, sample.tokens.dim);
    params.muvera.repetitions = static_cast<uint32_t>(std::min(left, most));
    VICINAL_ASSIGN_OR_RETURN(
        auto encoder, TrainMultiEncoder(params, sample, num_threads, nullptr));
    out.push_back(std::move(encoder));
    left -= params.muvera.repetitions;
    ++params.seed;
  }
  return out;
}

float NaiveMaxSim(const float* query, size_t n, const float* tokens,
                  size_t num_tokens, size_t dim) {
  float score = 0;
  for (size_t i = 0; i < n; ++i) {
    float best = -std::numeric_limits<float>::infinity();
    for (size_t p = 0; p < num_tokens; ++p) {
      float product = 0;
#pragma omp simd reduction(+ : product)
      for (size_t t = 0; t < dim; ++t) {
        product += query[i * dim + t] * tokens[p * dim + t];
      }
      best = std::max(best, product);
    }
    score += best;
  }
  return score;
}

}  // namespace vicinal::bench
