#include "src/distance/gpu/cpu_maxsim.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "src/base/half.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/distance/gpu/cpu_parallel.h"
#include "src/distance/gpu/cpu_tier.h"
#include "src/distance/kernels.h"
#include "src/distance/kernels_maxsim.h"
#include "src/distance/normalize.h"

namespace vicinal {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr size_t kPanel = 16;  // of PairTable
// Document tokens compared at a time: they and their products stay in the
// first-level cache.
constexpr size_t kTokenBlock = 32;
// Documents of one step of a parallel loop.
constexpr size_t kTaskDocs = 16;
// Products of two elements by one thread in about 50 us.
constexpr size_t kProductsWorthAThread = size_t{1} << 20;

struct Tables {
  const kernels::KernelTable* rows;
  const kernels::PairTable* pairs;
  const MaxSimKernels* codes;
};

// The widest that run here. Which ones they are cannot change a result.
Tables ChooseTables() {
#ifdef VICINAL_X86_KERNELS
  const CpuTier tier = TierOfCpu();
  if (tier >= CpuTier::kAvx512) {
    return {&kernels::kAvx512Table, &kernels::kAvx512PairTable,
            tier >= CpuTier::kAvx512Vnni ? &kernels::kAvx512MaxSimTable
                                         : &kernels::kAvx2MaxSimTable};
  }
  if (tier >= CpuTier::kAvx2) {
    return {&kernels::kAvx2Table, &kernels::kAvx2PairTable,
            &kernels::kAvx2MaxSimTable};
  }
#endif
  return {&kernels::kScalarTable, &kernels::kScalarPairTable,
          &kernels::kScalarMaxSimTable};
}

const Tables& TablesHere() {
  static const Tables kTables = ChooseTables();
  return kTables;
}

// A score that is no float, or no number, as the engine has it.
float Clamped(double score) {
  constexpr double kMost = std::numeric_limits<float>::max();
  return score >= -kMost ? static_cast<float>(std::min(score, kMost))
                         : -std::numeric_limits<float>::max();
}

class CpuTokens final : public LoadedSegment {
 public:
  explicit CpuTokens(const TokenDocuments& documents) : documents_(documents) {}

  size_t num_rows() const override { return documents_.num_docs; }
  size_t device_bytes() const override { return 0; }

  const TokenDocuments& get() const { return documents_; }
  size_t dim() const { return documents_.dim; }
  size_t Length(size_t doc) const {
    return documents_.offsets[doc + 1] - documents_.offsets[doc];
  }

  // Tokens first .. first + count as floats, as they are compared.
  void Load(size_t first, size_t count, float* out) const {
    const size_t dim = documents_.dim;
    const size_t n = count * dim;
    const auto* from = static_cast<const std::byte*>(documents_.tokens) +
                       first * dim * ElementSize(documents_.type);
    if (documents_.type == ElementType::kFloat32) {
      std::memcpy(out, from, n * sizeof(float));
    } else if (documents_.type == ElementType::kFloat16) {
      HalfToFloat({reinterpret_cast<const uint16_t*>(from), n}, {out, n});
    } else {
      for (size_t i = 0; i < n; ++i) {
        uint16_t upper;
        std::memcpy(&upper, from + 2 * i, sizeof(upper));
        out[i] = std::bit_cast<float>(static_cast<uint32_t>(upper) << 16);
      }
    }
    for (size_t i = 0; i < count && documents_.cosine; ++i) {
      kernels::Normalize(*TablesHere().rows, out + i * dim, dim, out + i * dim);
    }
  }

 private:
  TokenDocuments documents_;
};

class CpuTokenCodes final : public LoadedSegment {
 public:
  explicit CpuTokenCodes(const CodedTokenDocuments& documents)
      : documents_(documents) {}

  size_t num_rows() const override { return documents_.num_docs; }
  size_t device_bytes() const override { return 0; }

  size_t Length(size_t doc) const {
    return documents_.offsets[doc + 1] - documents_.offsets[doc];
  }
  size_t dim() const { return documents_.form.padded_dim; }

  // As TokenCodec::Score (quant/token_codec.cc) has it.
  float Score(const CodedTokenQuery& query, size_t doc) const {
    const TokenCodeForm& form = documents_.form;
    const size_t num_panels = (query.num_tokens + kPanel - 1) / kPanel;
    std::vector<float> best(kPanel * num_panels, -kInfinity);
    TablesHere().codes->max_codes(
        form, query.panels, num_panels, query.sums,
        form.has_centroids ? query.table : nullptr,
        documents_.records + documents_.offsets[doc] * form.record_bytes,
        Length(doc), best.data());
    double score = query.constant;
    for (size_t i = 0; i < query.num_tokens; ++i) {
      score += static_cast<double>(query.scales[i]) * best[i];
    }
    return Clamped(score);
  }

 private:
  CodedTokenDocuments documents_;
};

// One query in panels; const once made.
class Query {
 public:
  Query(const float* tokens, const float* weights, size_t num, size_t dim)
      : num_(num), dim_(dim), weights_(weights) {
    panels_.resize(num_panels() * kPanel * dim);
    for (size_t i = 0; i < num; ++i) {
      float* panel = &panels_[i / kPanel * kPanel * dim + i % kPanel];
      for (size_t t = 0; t < dim; ++t) panel[t * kPanel] = tokens[i * dim + t];
    }
  }

  size_t num_tokens() const { return num_; }

  // As MultiQuery::Score (index/multi_query.cc) has it.
  float Score(const CpuTokens& documents, size_t doc) const {
    const size_t width = num_panels() * kPanel;
    std::vector<float> best(width, -kInfinity);
    std::vector<float> tokens(kTokenBlock * dim_);
    std::vector<float> products(kTokenBlock * width);
    const size_t end = documents.get().offsets[doc + 1];
    for (size_t first = documents.get().offsets[doc]; first < end;
         first += kTokenBlock) {
      const size_t count = std::min(kTokenBlock, end - first);
      documents.Load(first, count, tokens.data());
      TablesHere().pairs->pair_ip(tokens.data(), dim_, count, panels_.data(),
                                  num_panels(), dim_, products.data(), width);
      for (size_t p = 0; p < count; ++p) {
        const float* of_token = &products[p * width];
        for (size_t i = 0; i < width; ++i) {
          best[i] = of_token[i] > best[i] ? of_token[i] : best[i];
        }
      }
    }
    double score = 0;
    for (size_t i = 0; i < num_; ++i) {
      const float weight = weights_ == nullptr ? 1.0f : weights_[i];
      score += static_cast<double>(weight) * best[i];
    }
    return Clamped(score);
  }

 private:
  size_t num_panels() const { return (num_ + kPanel - 1) / kPanel; }

  size_t num_;
  size_t dim_;
  const float* weights_;
  std::vector<float> panels_;
};

// The k nearest of a query's candidates, of which there are `num`; docs null:
// all documents. score_of(doc): of one that has tokens. Returns how many were
// compared.
template <typename Documents, typename ScoreOf>
uint64_t FindNearest(const Documents& documents, size_t num_query_tokens,
                     const RowId* docs, size_t num, size_t k,
                     size_t num_threads, Neighbor* out,
                     const ScoreOf& score_of) {
  std::vector<float> distances(num, kInfinity);
  std::atomic<uint64_t> num_tokens = 0;
  std::atomic<uint64_t> num_compared = 0;
  const auto doc_at = [&](size_t i) {
    return docs == nullptr ? static_cast<RowId>(i) : docs[i];
  };
  for (size_t i = 0; i < num; ++i) num_tokens += documents.Length(doc_at(i));
  const size_t products = num_tokens * num_query_tokens * documents.dim();
  const size_t threads =
      std::clamp<size_t>(products / kProductsWorthAThread, 1, num_threads);
  ParallelFor(threads, (num + kTaskDocs - 1) / kTaskDocs, [&](size_t task) {
    const size_t end = std::min(num, (task + 1) * kTaskDocs);
    for (size_t i = task * kTaskDocs; i < end; ++i) {
      if (documents.Length(doc_at(i)) == 0) continue;
      distances[i] = -score_of(doc_at(i));
      ++num_compared;
    }
  });
  TopK nearest(k);
  for (size_t i = 0; i < num; ++i) {  // scores are finite
    if (distances[i] < kInfinity) nearest.Push({distances[i], doc_at(i)});
  }
  const std::vector<Neighbor> sorted = nearest.TakeSorted();
  std::copy(sorted.begin(), sorted.end(), out);
  std::fill(out + sorted.size(), out + k, Neighbor{kInfinity, kInvalidRow});
  return num_compared;
}

}  // namespace

BackendStatus LoadTokensOnCpu(const TokenDocuments& documents,
                              std::shared_ptr<const LoadedSegment>* out) {
  if (documents.dim == 0 || (documents.type != ElementType::kFloat32 &&
                             documents.type != ElementType::kFloat16 &&
                             documents.type != ElementType::kBfloat16)) {
    return BackendStatus::kUnsupported;
  }
  *out = std::make_shared<CpuTokens>(documents);
  return BackendStatus::kOk;
}

BackendStatus MaxSimOnCpu(const LoadedSegment& documents,
                          const TokenQueries& queries,
                          const DocumentLists& lists, size_t k,
                          size_t num_threads, Neighbor* out,
                          BackendReport* report) {
  const auto& loaded = static_cast<const CpuTokens&>(documents);
  BackendReport done = {.rounds = 1};
  for (size_t q = 0; q < queries.num_queries; ++q) {
    const size_t first = queries.offsets[q];
    const Query query(
        queries.tokens + first * loaded.get().dim,
        queries.weights == nullptr ? nullptr : queries.weights + first,
        queries.offsets[q + 1] - first, loaded.get().dim);
    const bool all = lists.offsets == nullptr;
    done.candidates += FindNearest(
        loaded, query.num_tokens(),
        all ? nullptr : lists.docs + lists.offsets[q],
        all ? loaded.num_rows() : lists.offsets[q + 1] - lists.offsets[q], k,
        num_threads, out + q * k,
        [&](size_t doc) { return query.Score(loaded, doc); });
  }
  if (report != nullptr) *report = done;
  return BackendStatus::kOk;
}

BackendStatus LoadTokenCodesOnCpu(const CodedTokenDocuments& documents,
                                  std::shared_ptr<const LoadedSegment>* out) {
  const TokenCodeForm& form = documents.form;
  const bool is_form =
      (form.bits == 8 || form.bits == 4 || form.bits == 2 || form.bits == 1) &&
      form.padded_dim > 0 && form.padded_dim % 32 == 0 &&
      form.padded_dim <= kernels::kMaxTokenDim &&
      form.record_bytes == sizeof(float) + (form.has_centroids ? 1 : 0) +
                               form.padded_dim * form.bits / 8;
  if (!is_form) return BackendStatus::kUnsupported;
  *out = std::make_shared<CpuTokenCodes>(documents);
  return BackendStatus::kOk;
}

BackendStatus MaxSimCodesOnCpu(const LoadedSegment& documents,
                               const CodedTokenQuery* queries,
                               size_t num_queries, const DocumentLists& lists,
                               size_t k, size_t num_threads, Neighbor* out,
                               BackendReport* report) {
  const auto& loaded = static_cast<const CpuTokenCodes&>(documents);
  BackendReport done = {.rounds = 1};
  for (size_t q = 0; q < num_queries; ++q) {
    const bool all = lists.offsets == nullptr;
    done.candidates += FindNearest(
        loaded, queries[q].num_tokens,
        all ? nullptr : lists.docs + lists.offsets[q],
        all ? loaded.num_rows() : lists.offsets[q + 1] - lists.offsets[q], k,
        num_threads, out + q * k,
        [&](size_t doc) { return loaded.Score(queries[q], doc); });
  }
  if (report != nullptr) *report = done;
  return BackendStatus::kOk;
}

}  // namespace vicinal
