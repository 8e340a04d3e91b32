#include "tests/distance/gpu/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "src/distance/code_kernels.h"
#include "src/distance/distance.h"
#include "src/distance/load_row.h"

namespace vicinal::backend_tests {
namespace {

// Rows that lie somewhere: cases compare others with the same ones there.
struct ReferenceRows {
  VectorSetView rows;
  Metric metric;
};

class ReferenceSegment final : public LoadedSegment {
 public:
  explicit ReferenceSegment(const SegmentRows& segment)
      : segment_{segment.rows, segment.metric} {}

  size_t num_rows() const override { return segment_.rows.num_rows; }
  size_t device_bytes() const override { return 0; }
  const ReferenceRows& get() const { return segment_; }

 private:
  ReferenceRows segment_;
};

class ReferenceCodes final : public LoadedSegment {
 public:
  explicit ReferenceCodes(const SegmentCodes& segment) : segment_(segment) {}

  size_t num_rows() const override { return segment_.num_rows; }
  size_t device_bytes() const override { return 0; }
  float Estimate(CodeQuery query, const int8_t* values, size_t row) const {
    query.values = values;
    float estimate;
    FindCodeKernels("scalar")->scan(
        *segment_.layout, query, segment_.records + row * segment_.stride_bytes,
        segment_.stride_bytes, 1, &estimate);
    return estimate;
  }

 private:
  SegmentCodes segment_;
};

const ReferenceRows& Get(const LoadedSegment& segment) {
  return static_cast<const ReferenceSegment&>(segment).get();
}

float Distance(Metric metric, const VectorSetView& rows, const void* query,
               size_t row) {
  return FindKernels("scalar")
      ->For(metric, rows.type)
      .one(query, rows.row(row), rows.dim);
}

// The k smallest, in order, then fillers.
void WriteSorted(std::vector<Neighbor> all, size_t k, Neighbor* out) {
  std::sort(all.begin(), all.end());
  for (size_t i = 0; i < k; ++i) {
    out[i] = i < all.size() ? all[i]
                            : Neighbor{std::numeric_limits<float>::infinity(),
                                       kInvalidRow};
  }
}

class ReferenceTokens final : public LoadedSegment {
 public:
  explicit ReferenceTokens(const TokenDocuments& documents)
      : documents_(documents) {}

  size_t num_rows() const override { return documents_.num_docs; }
  size_t device_bytes() const override { return 0; }
  bool HasTokens(RowId doc) const {
    return documents_.offsets[doc] < documents_.offsets[doc + 1];
  }

  // The sum of the largest products, one after the other.
  float Score(RowId doc, const TokenQueries& queries, size_t q) const {
    const size_t dim = documents_.dim;
    std::vector<float> best(queries.offsets[q + 1] - queries.offsets[q],
                            -std::numeric_limits<float>::infinity());
    for (size_t p = documents_.offsets[doc]; p < documents_.offsets[doc + 1];
         ++p) {
      const std::vector<float> token = Token(p);
      for (size_t i = 0; i < best.size(); ++i) {
        const float* query = queries.tokens + (queries.offsets[q] + i) * dim;
        float product = 0;
        for (size_t t = 0; t < dim; ++t) {
          product = std::fma(token[t], query[t], product);
        }
        if (product > best[i]) best[i] = product;
      }
    }
    double score = 0;
    for (size_t i = 0; i < best.size(); ++i) {
      score += double{queries.weights == nullptr
                          ? 1.0f
                          : queries.weights[queries.offsets[q] + i]} *
               best[i];
    }
    constexpr float kMost = std::numeric_limits<float>::max();
    if (!(score >= -kMost)) return -kMost;  // no number, too
    return score > kMost ? kMost : static_cast<float>(score);
  }

 private:
  std::vector<float> Token(size_t p) const {
    const size_t dim = documents_.dim;
    std::vector<float> token(dim);
    LoadFloats(static_cast<const std::byte*>(documents_.tokens) +
                   p * dim * ElementSize(documents_.type),
               documents_.type, dim, token.data());
    if (documents_.cosine) NormalizeInto(token.data(), dim, token.data());
    return token;
  }

  TokenDocuments documents_;
};

class ReferenceTokenCodes final : public LoadedSegment {
 public:
  explicit ReferenceTokenCodes(const CodedTokenDocuments& documents)
      : documents_(documents) {}

  size_t num_rows() const override { return documents_.num_docs; }
  size_t device_bytes() const override { return 0; }
  bool HasTokens(RowId doc) const {
    return documents_.offsets[doc] < documents_.offsets[doc + 1];
  }

  float Score(RowId doc, const CodedTokenQuery& query) const {
    std::vector<float> best(query.num_tokens,
                            -std::numeric_limits<float>::infinity());
    for (size_t p = documents_.offsets[doc]; p < documents_.offsets[doc + 1];
         ++p) {
      const std::vector<int> levels = Levels(p);
      for (size_t i = 0; i < query.num_tokens; ++i) {
        const float product = Product(p, levels, query, i);
        if (product > best[i]) best[i] = product;
      }
    }
    double score = query.constant;
    for (size_t i = 0; i < query.num_tokens; ++i) {
      score += double{query.scales[i]} * best[i];
    }
    constexpr float kMost = std::numeric_limits<float>::max();
    if (!(score >= -kMost)) return -kMost;
    return score > kMost ? kMost : static_cast<float>(score);
  }

 private:
  const uint8_t* Record(size_t token) const {
    return documents_.records + token * documents_.form.record_bytes;
  }

  // What the codes of a token stand for, in units of its scale.
  std::vector<int> Levels(size_t token) const {
    const TokenCodeForm& form = documents_.form;
    const uint8_t* code = Record(token) + 4 + (form.has_centroids ? 1 : 0);
    std::vector<int> levels(form.padded_dim);
    for (size_t t = 0; t < form.padded_dim; ++t) {
      int u = 0;
      for (int bit = 0; bit < form.bits; ++bit) {
        const size_t at = t * static_cast<size_t>(form.bits) + bit;
        u |= (code[at / 8] >> at % 8 & 1) << bit;
      }
      levels[t] = form.bits == 8 ? u - 128 : 2 * u - ((1 << form.bits) - 1);
    }
    return levels;
  }

  float Product(size_t token, const std::vector<int>& levels,
                const CodedTokenQuery& query, size_t i) const {
    const int8_t* panel =
        query.panels + (i / 16 * (levels.size() / 4) * 16 + i % 16) * 4;
    int sum = 0;
    for (size_t t = 0; t < levels.size(); ++t) {
      sum += levels[t] * panel[t / 4 * 64 + t % 4];
    }
    const uint8_t* record = Record(token);
    float scale;
    std::memcpy(&scale, record, sizeof(scale));
    const auto x = static_cast<float>(sum);
    if (!documents_.form.has_centroids) return scale * x;
    const size_t width = (query.num_tokens + 15) / 16 * 16;
    return std::fma(scale, x, query.table[record[4] * width + i]);
  }

  CodedTokenDocuments documents_;
};

class ReferenceBackend final : public DistanceBackend {
 public:
  const char* name() const override { return "reference"; }
  size_t device_bytes() const override { return 0; }
  bool builds_graphs() const override { return false; }

  BackendStatus Load(const SegmentRows& segment,
                     std::shared_ptr<const LoadedSegment>* out) override {
    if (segment.rows.data == nullptr && segment.rows.num_rows > 0) {
      return BackendStatus::kUnsupported;
    }
    *out = std::make_shared<ReferenceSegment>(segment);
    return BackendStatus::kOk;
  }

  BackendStatus Search(const LoadedSegment& segment, const QueryBatch& queries,
                       size_t k, const uint64_t* accepted, Neighbor* out,
                       BackendReport*) const override {
    const auto& [rows, metric] = Get(segment);
    const size_t query_bytes = rows.dim * ElementSize(rows.type);
    for (size_t q = 0; q < queries.num_queries; ++q) {
      const auto* query =
          static_cast<const std::byte*>(queries.data) + q * query_bytes;
      std::vector<Neighbor> all;
      for (size_t row = 0; row < rows.num_rows; ++row) {
        if (accepted != nullptr &&
            (accepted[row / 64] >> (row % 64) & 1) == 0) {
          continue;
        }
        all.push_back(
            {Distance(metric, rows, query, row), static_cast<RowId>(row)});
      }
      WriteSorted(std::move(all), k, out + q * k);
    }
    return BackendStatus::kOk;
  }

  BackendStatus SearchRanges(const LoadedSegment& segment,
                             const QueryBatch& queries, const RangeLists& lists,
                             size_t k, const uint64_t* accepted, Neighbor* out,
                             BackendReport*) const override {
    const auto& [rows, metric] = Get(segment);
    const size_t query_bytes = rows.dim * ElementSize(rows.type);
    for (size_t q = 0; q < queries.num_queries; ++q) {
      std::vector<uint64_t> bits((rows.num_rows + 63) / 64);
      for (size_t row = 0; row < rows.num_rows; ++row) {
        const bool is_asked_for = std::any_of(
            lists.ranges + lists.offsets[q],
            lists.ranges + lists.offsets[q + 1],
            [&](const RowRange& r) { return r.begin <= row && row < r.end; });
        if (is_asked_for) bits[row / 64] |= uint64_t{1} << (row % 64);
      }
      for (size_t i = 0; accepted != nullptr && i < bits.size(); ++i) {
        bits[i] &= accepted[i];
      }
      const auto* query =
          static_cast<const std::byte*>(queries.data) + q * query_bytes;
      Search(segment, {query, 1}, k, bits.data(), out + q * k, nullptr);
    }
    return BackendStatus::kOk;
  }

  BackendStatus Score(const LoadedSegment& segment, const QueryBatch& queries,
                      const uint32_t* offsets, const RowId* list,
                      float* out) const override {
    const auto& [rows, metric] = Get(segment);
    const size_t query_bytes = rows.dim * ElementSize(rows.type);
    for (size_t q = 0; q < queries.num_queries; ++q) {
      const auto* query =
          static_cast<const std::byte*>(queries.data) + q * query_bytes;
      for (size_t i = offsets[q]; i < offsets[q + 1]; ++i) {
        out[i] = Distance(metric, rows, query, list[i]);
      }
    }
    return BackendStatus::kOk;
  }

  BackendStatus KnnGraph(const LoadedSegment& segment, size_t k, Neighbor* out,
                         BackendReport*) const override {
    const auto& [rows, metric] = Get(segment);
    for (size_t i = 0; i < rows.num_rows; ++i) {
      std::vector<Neighbor> others;
      for (size_t row = 0; row < rows.num_rows; ++row) {
        if (row == i) continue;
        others.push_back({Distance(metric, rows, rows.row(i), row),
                          static_cast<RowId>(row)});
      }
      WriteSorted(std::move(others), k, out + i * k);
    }
    return BackendStatus::kOk;
  }

  BackendStatus LinkGraph(const LoadedSegment& segment, RowId begin, RowId end,
                          size_t k, const LinkRule& rule, Neighbor* out,
                          uint32_t* num_duplicates,
                          BackendReport*) const override {
    std::vector<Neighbor> graph(segment.num_rows() * k);
    KnnGraph(segment, k, graph.data(), nullptr);
    std::vector<uint32_t> offsets = {0};
    std::vector<Neighbor> lists;
    for (size_t row = begin; row < end; ++row) {
      num_duplicates[row - begin] = 0;
      for (size_t i = row * k; i < (row + 1) * k; ++i) {
        if (graph[i].row == kInvalidRow) continue;
        if (graph[i].distance == 0) ++num_duplicates[row - begin];
        lists.push_back(graph[i]);
      }
      offsets.push_back(static_cast<uint32_t>(lists.size()));
    }
    return SelectLinks(segment, end - begin, offsets.data(), lists.data(), rule,
                       out);
  }

  BackendStatus SelectLinks(const LoadedSegment& segment, size_t num_lists,
                            const uint32_t* offsets, const Neighbor* lists,
                            const LinkRule& rule,
                            Neighbor* out) const override {
    const auto& [rows, metric] = Get(segment);
    for (size_t list = 0; list < num_lists; ++list) {
      std::vector<Neighbor> chosen;
      size_t copies = 0;
      for (size_t i = offsets[list]; i < offsets[list + 1]; ++i) {
        const bool is_copy = lists[i].distance == 0;
        bool takes = chosen.size() < rule.max_links &&
                     !(is_copy && copies == rule.max_duplicates);
        for (const Neighbor& other : chosen) {
          if (Distance(metric, rows, rows.row(lists[i].row), other.row) <
              rule.share * lists[i].distance) {
            takes = false;
          }
        }
        if (!takes) continue;
        chosen.push_back(lists[i]);
        if (is_copy) ++copies;
      }
      chosen.resize(rule.max_links,
                    {std::numeric_limits<float>::infinity(), kInvalidRow});
      std::copy(chosen.begin(), chosen.end(), out + list * rule.max_links);
    }
    return BackendStatus::kOk;
  }

  BackendStatus Assign(const LoadedSegment& segment, const float* centroids,
                       size_t num_centroids, uint32_t* nearest,
                       float* distances) const override {
    const VectorSetView& rows = Get(segment).rows;
    if (rows.type != ElementType::kFloat32) return BackendStatus::kUnsupported;
    for (size_t row = 0; row < rows.num_rows; ++row) {
      std::vector<float> to(num_centroids);
      for (size_t i = 0; i < num_centroids; ++i) {
        to[i] = Distance(Metric::kL2, rows, centroids + i * rows.dim, row);
      }
      const auto best = std::min_element(to.begin(), to.end());
      nearest[row] = static_cast<uint32_t>(best - to.begin());
      if (distances != nullptr) distances[row] = *best;
    }
    return BackendStatus::kOk;
  }

  // Centroids are f64 within a round.
  BackendStatus KMeans(const LoadedSegment& segment, size_t num_centroids,
                       size_t rounds, float* centroids, uint32_t* nearest,
                       double* inertia) const override {
    const VectorSetView& rows = Get(segment).rows;
    std::vector<uint32_t> cells(rows.num_rows);
    std::vector<float> distances(rows.num_rows);
    for (size_t round = 0; round < rounds; ++round) {
      Assign(segment, centroids, num_centroids, cells.data(), distances.data());
      for (size_t c = 0; c < num_centroids; ++c) {
        std::vector<double> sum(rows.dim);
        size_t count = 0;
        for (size_t row = 0; row < rows.num_rows; ++row) {
          if (cells[row] != c) continue;
          ++count;
          const auto* values = reinterpret_cast<const float*>(rows.row(row));
          for (size_t j = 0; j < rows.dim; ++j) sum[j] += values[j];
        }
        const auto farthest =
            std::max_element(distances.begin(), distances.end());
        const auto* values = reinterpret_cast<const float*>(
            rows.row(farthest - distances.begin()));
        for (size_t j = 0; j < rows.dim; ++j) {
          centroids[c * rows.dim + j] =
              count == 0 ? values[j] : static_cast<float>(sum[j] / count);
        }
        if (count == 0) *farthest = -1;
      }
    }
    Assign(segment, centroids, num_centroids, cells.data(), distances.data());
    std::copy(cells.begin(), cells.end(), nearest);
    *inertia = std::accumulate(distances.begin(), distances.end(), 0.0);
    return BackendStatus::kOk;
  }

  BackendStatus LoadCodes(const SegmentCodes& segment,
                          std::shared_ptr<const LoadedSegment>* out) override {
    *out = std::make_shared<ReferenceCodes>(segment);
    return BackendStatus::kOk;
  }

  BackendStatus SearchCodes(const LoadedSegment& segment,
                            const CodeQuestion& question, Neighbor* out,
                            BackendReport*) const override {
    const auto& codes = static_cast<const ReferenceCodes&>(segment);
    std::vector<std::vector<Neighbor>> found(question.num_queries);
    for (size_t p = 0; p < question.num_probes; ++p) {
      const CodeProbe& probe = question.probes[p];
      for (uint32_t row = question.list_offsets[probe.list];
           row < question.list_offsets[probe.list + 1]; ++row) {
        if (question.accepted != nullptr &&
            (question.accepted[row / 64] >> (row % 64) & 1) == 0) {
          continue;
        }
        found[probe.query].push_back(
            {codes.Estimate(
                 *probe.terms,
                 question.values + probe.query * question.value_bytes, row),
             row});
      }
    }
    for (size_t q = 0; q < question.num_queries; ++q) {
      std::sort(found[q].begin(), found[q].end());
      found[q].resize(std::min(found[q].size(), question.depth));
      if (question.rows != nullptr) {
        const auto& [rows, metric] = Get(*question.rows);
        const auto* query = static_cast<const std::byte*>(question.queries) +
                            q * question.query_bytes;
        for (Neighbor& neighbor : found[q]) {
          neighbor.distance = Distance(metric, rows, query, neighbor.row);
        }
      }
      WriteSorted(std::move(found[q]), question.k, out + q * question.k);
    }
    return BackendStatus::kOk;
  }

  BackendStatus LoadTokens(const TokenDocuments& documents,
                           std::shared_ptr<const LoadedSegment>* out) override {
    *out = std::make_shared<ReferenceTokens>(documents);
    return BackendStatus::kOk;
  }

  BackendStatus MaxSim(const LoadedSegment& segment,
                       const TokenQueries& queries, const DocumentLists& lists,
                       size_t k, Neighbor* out, BackendReport*) const override {
    const auto& documents = static_cast<const ReferenceTokens&>(segment);
    for (size_t q = 0; q < queries.num_queries; ++q) {
      WriteNearest(documents, lists, q, k, out,
                   [&](RowId doc) { return documents.Score(doc, queries, q); });
    }
    return BackendStatus::kOk;
  }

  BackendStatus LoadTokenCodes(
      const CodedTokenDocuments& documents,
      std::shared_ptr<const LoadedSegment>* out) override {
    *out = std::make_shared<ReferenceTokenCodes>(documents);
    return BackendStatus::kOk;
  }

  BackendStatus MaxSimCodes(const LoadedSegment& segment,
                            const CodedTokenQuery* queries, size_t num_queries,
                            const DocumentLists& lists, size_t k, Neighbor* out,
                            BackendReport*) const override {
    const auto& documents = static_cast<const ReferenceTokenCodes&>(segment);
    for (size_t q = 0; q < num_queries; ++q) {
      WriteNearest(documents, lists, q, k, out,
                   [&](RowId doc) { return documents.Score(doc, queries[q]); });
    }
    return BackendStatus::kOk;
  }

 private:
  // Of query q of MaxSim.
  template <typename Documents, typename ScoreOf>
  static void WriteNearest(const Documents& documents,
                           const DocumentLists& lists, size_t q, size_t k,
                           Neighbor* out, const ScoreOf& score_of) {
    std::vector<RowId> docs(documents.num_rows());
    std::iota(docs.begin(), docs.end(), 0);
    if (lists.offsets != nullptr) {
      docs.assign(lists.docs + lists.offsets[q],
                  lists.docs + lists.offsets[q + 1]);
    }
    std::vector<Neighbor> all;
    for (const RowId doc : docs) {
      if (documents.HasTokens(doc)) all.push_back({-score_of(doc), doc});
    }
    WriteSorted(std::move(all), k, out + q * k);
  }
};

}  // namespace

std::unique_ptr<DistanceBackend> MakeReferenceBackend() {
  return std::make_unique<ReferenceBackend>();
}

}  // namespace vicinal::backend_tests
