// Rows of the speed table of multi-vectors that are about one step.
#include <algorithm>
#include <functional>
#include <limits>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/check/multivector_rows.h"
#include "bench/curve.h"
#include "bench/machine.h"
#include "index/encoder_choice.h"
#include "index/growing_multi.h"
#include "quant/codec.h"
#include "src/base/half.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"
#include "src/base/workers.h"
#include "src/distance/code_kernels.h"
#include "src/distance/distance.h"
#include "src/distance/maxsim_kernels.h"

namespace vicinal::bench {
namespace {

constexpr size_t kDocumentTokens = 78;

// Processor time of one `work`, in microseconds: the fastest of some passes.
double FastestUs(size_t passes, size_t repeats,
                 const std::function<void()>& work) {
  double best = std::numeric_limits<double>::infinity();
  for (size_t pass = 0; pass < passes; ++pass) {
    const double start = ThreadSeconds();
    for (size_t i = 0; i < repeats; ++i) work();
    best = std::min(best, ThreadSeconds() - start);
  }
  return 1e6 * best / static_cast<double>(repeats);
}

// The tokens of a set, as documents of kDocumentTokens.
MultiSet CutEvenly(MultiSet set) {
  const size_t n = set.num_tokens() / kDocumentTokens;
  set.offsets.clear();
  for (size_t i = 0; i <= n; ++i) set.offsets.push_back(i * kDocumentTokens);
  return set;
}

// MaxSim of floats: one matrix product, and the maxima of its columns.
class FloatMaxSim {
 public:
  FloatMaxSim(const DistanceKernels& kernels, MatrixView query)
      : kernels_(kernels),
        n_(query.num_rows),
        dim_(query.dim),
        num_panels_((n_ + kPairPanel - 1) / kPairPanel),
        panels_(num_panels_ * kPairPanel * dim_),
        best_(num_panels_ * kPairPanel) {
    PackPanels(query.data, dim_, n_, dim_, panels_.data());
  }
  float Score(const float* tokens, size_t num_tokens) {
    const size_t width = best_.size();
    products_.resize(num_tokens * width);
    kernels_.pair_ip(tokens, dim_, num_tokens, panels_.data(), num_panels_,
                     dim_, products_.data(), width);
    std::fill(best_.begin(), best_.end(),
              -std::numeric_limits<float>::infinity());
    for (size_t p = 0; p < num_tokens; ++p) {
      const float* of_token = &products_[p * width];
      for (size_t i = 0; i < width; ++i) {
        best_[i] = std::max(best_[i], of_token[i]);
      }
    }
    float sum = 0;
    for (size_t i = 0; i < n_; ++i) sum += best_[i];
    return sum;
  }

 private:
  const DistanceKernels& kernels_;
  size_t n_, dim_, num_panels_;
  std::vector<float> panels_, best_, products_;
};

// Of each query the `depth` documents with the best stored encodings. bits: of
// codes of them; 0: as they are.
absl::StatusOr<std::vector<std::vector<RowId>>> RankByStored(
    const StoredEncodings& stored, const std::vector<MultiQuery>& queries,
    float bits, size_t depth, size_t num_threads) {
  const VectorSetView& vectors = stored.vectors;
  std::unique_ptr<const Codec> codec;
  std::vector<uint8_t> records;
  if (bits > 0) {
    VICINAL_ASSIGN_OR_RETURN(
        codec, TrainCodec(vectors, Metric::kInnerProduct, {.avg_bits = bits},
                          num_threads, nullptr));
    records.resize(vectors.num_rows * codec->layout().record_bytes);
    VICINAL_RETURN_IF_ERROR(
        codec->Encode(vectors, records, num_threads, nullptr));
  }
  const DistanceOps& ops = OpsFor(Metric::kInnerProduct, vectors.type);
  std::vector<std::vector<RowId>> out(queries.size());
  std::vector<absl::Status> statuses(queries.size());
  Workers workers(num_threads);
  workers.For(queries.size(), 1, [&](size_t q, size_t, size_t) {
    std::vector<float> encoding(vectors.dim);
    stored.encoder->EncodeQuery(queries[q].tokens(), queries[q].weights(),
                                encoding.data());
    float largest = 0;
    for (const float value : encoding) {
      largest = std::max(largest, std::abs(value));
    }
    for (float& value : encoding) value /= largest;
    std::vector<uint16_t> halves(vectors.dim);
    FloatToHalf(encoding, halves);
    std::vector<float> distances(vectors.num_rows);
    if (codec != nullptr) {
      PreparedQuery prepared;
      statuses[q] = codec->Prepare(halves.data(), vectors.type, &prepared);
      if (!statuses[q].ok()) return;
      ActiveCodeKernels().scan(codec->layout(), prepared.code_query(),
                               records.data(), codec->layout().record_bytes,
                               vectors.num_rows, distances.data());
    } else {
      ops.scan(halves.data(), vectors.data, vectors.stride_bytes,
               vectors.num_rows, vectors.dim, distances.data());
    }
    TopK top(depth);
    for (RowId i = 0; i < vectors.num_rows; ++i) top.Push({distances[i], i});
    for (const Neighbor& neighbor : top.TakeSorted()) {
      out[q].push_back(stored.to_row[neighbor.row]);
    }
  });
  for (const absl::Status& status : statuses) VICINAL_RETURN_IF_ERROR(status);
  return out;
}

}  // namespace

absl::Status MultiRows::MeasureKernels() {
  constexpr size_t kCompared = 1'000;
  constexpr size_t kInCache = 8;  // documents, of which f32 takes 320 KB
  const MultiSet set =
      CutEvenly(MakeTokens(std::min<size_t>(20'000, options_.documents), 1, 1,
                           options_.build_threads));
  VICINAL_ASSIGN_OR_RETURN(
      const CodedTokens coded,
      CodedTokens::Create(set, TokenCodecKind::kInt8, options_.build_threads));
  const MultiQuery query(set.Spec(), set.queries[0], {});
  const TokenCodeQuery prepared = coded.codec().Prepare(query.tokens(), {});
  std::vector<float> scratch(16 * prepared.num_panels);
  std::vector<float> floats(kInCache * kDocumentTokens * set.dim);
  LoadTokens(set.Spec(), {set.document(0).data, kInCache * kDocumentTokens}, 0,
             kInCache * kDocumentTokens, floats.data());
  const auto document = [&](size_t i) {
    return &floats[i * kDocumentTokens * set.dim];
  };
  const DistanceKernels* kernels = FindKernels("avx512");
  FloatMaxSim by_floats(kernels != nullptr ? *kernels : ActiveKernels(),
                        query.tokens());
  float sum = 0;
  const double int8_us =
      FastestUs(20, 500,
                [&] {
                  for (size_t i = 0; i < kInCache; ++i) {
                    sum += coded.Score(prepared, i, scratch.data());
                  }
                }) /
      kInCache;
  const double float_us =
      FastestUs(20, 100,
                [&] {
                  for (size_t i = 0; i < kInCache; ++i) {
                    sum -= by_floats.Score(document(i), kDocumentTokens);
                  }
                }) /
      kInCache;
  const double naive_us =
      FastestUs(5, 5,
                [&] {
                  for (size_t i = 0; i < kInCache; ++i) {
                    sum += NaiveMaxSim(query.tokens().data, query.num_tokens(),
                                       document(i), kDocumentTokens, set.dim);
                  }
                }) /
      kInCache;
  // Documents that lie somewhere, as candidates do.
  Random random(9);
  std::vector<double> compare_us;
  for (int pass = 0; pass < 40; ++pass) {
    std::vector<RowId> rows;
    for (size_t i = 0; i < kCompared; ++i) {
      rows.push_back(static_cast<RowId>(random.Uniform(set.num_documents())));
    }
    std::sort(rows.begin(), rows.end());
    const double start = ThreadSeconds();
    for (const RowId row : rows) {
      sum += coded.Score(prepared, row, scratch.data());
    }
    compare_us.push_back(1e6 * (ThreadSeconds() - start));
  }
  const double compare_p50 = Percentile(&compare_us, 0.5);
  const nlohmann::json raw = {{"int8_us", int8_us},
                              {"float_us", float_us},
                              {"naive_us", naive_us},
                              {"compared_us", compare_p50},
                              {"kernels", ActiveMaxSimKernels().name},
                              {"sum", sum}};
  Add({.key = "kernel",
       .what = absl::StrFormat("MaxSim int8, 78 tokens x 32 x 128 (%.2f us), "
                               "vs f32 %s",
                               int8_us,
                               kernels != nullptr ? "AVX-512" : "as it is"),
       .limit = 5,
       .measured = float_us / int8_us,
       .raw = raw});
  Add({.key = "compare_1000",
       .what = absl::StrFormat("int8 MaxSim of 1,000 such documents anywhere "
                               "(%.2f ms), of 2.5 ms",
                               compare_p50 / 1e3),
       .bound = Bound::kAtMost,
       .limit = 1,
       .measured = compare_p50 / 2.5e3,
       .raw = raw});
  return absl::OkStatus();
}

absl::Status MultiRows::MeasureEncodingCodes() {
  constexpr size_t kDepth = 100;
  double worst = -100;
  nlohmann::json raw;
  for (const Which which : {Which::kGlove, Which::kGenerated}) {
    VICINAL_ASSIGN_OR_RETURN(Loaded * loaded, Built(which));
    VICINAL_ASSIGN_OR_RETURN(const StoredEncodings stored,
                             loaded->segment->encodings());
    double recalls[2];
    size_t at = 0;
    for (const float bits : {0.0f, 4.0f}) {
      VICINAL_ASSIGN_OR_RETURN(const auto rankings,
                               RankByStored(stored, loaded->queries, bits,
                                            kDepth, options_.build_threads));
      recalls[at++] = ShareAmong(loaded->truth, rankings, kDepth);
    }
    raw[loaded->set.name] = {{"f16", recalls[0]}, {"4_bits", recalls[1]}};
    worst = std::max(worst, 100 * (recalls[0] - recalls[1]));
  }
  Add({.key = "encoding_codes",
       .what = "points of recall 10@100 that 4-bit codes of encodings lose, "
               "worst of 2 sets",
       .bound = Bound::kAtMost,
       .limit = 0.5,
       .measured = worst,
       .raw = std::move(raw)});
  return absl::OkStatus();
}

absl::Status MultiRows::MeasureInsert() {
  constexpr size_t kDocuments = 1024;
  constexpr size_t kBlock = 64;
  constexpr size_t kSample = 3072;
  using Kind = MultiEncoderParams::Kind;
  VICINAL_ASSIGN_OR_RETURN(Loaded * loaded, Load(Which::kSubset));
  const MultiSet& set = loaded->set;
  const MultiSpec spec = set.Spec();
  const DocumentSample sample(set, kSample);
  VICINAL_ASSIGN_OR_RETURN(
      const CodedTokens coded,
      CodedTokens::Create(set, TokenCodecKind::kInt4, options_.build_threads));
  const size_t n = std::min(kDocuments, set.num_documents());

  const double append_us =
      FastestUs(options_.passes, 1,
                [&] {
                  GrowingMultiField field(spec, n);
                  for (size_t i = 0; i < n; ++i) {
                    const TokenRows row = set.document(i);
                    field.Append({reinterpret_cast<const char*>(row.data),
                                  row.num_tokens * spec.token_bytes()});
                  }
                }) /
      static_cast<double>(n);

  struct Goal {
    Kind kind;
    const char* name;
    double per_second;
  };
  for (const Goal& goal :
       {Goal{Kind::kMuvera, "MUVERA", 2'000}, Goal{Kind::kOls, "OLS", 500}}) {
    MultiEncoderParams params{.kind = goal.kind};
    params.muvera.fill = MuveraParams::Fill::kNone;
    params.muvera.centering = MuveraParams::Centering::kHashAndDocuments;
    VICINAL_ASSIGN_OR_RETURN(
        const auto encoder, TrainMultiEncoder(params, sample.view(),
                                              options_.build_threads, nullptr));
    std::vector<float> tokens, encodings;
    std::vector<uint16_t> halves;
    std::vector<uint8_t> records;
    std::vector<size_t> ends;
    const auto encode = [&](size_t begin, size_t end) {
      ends.clear();
      for (size_t i = begin; i < end; ++i) {
        ends.push_back(set.offsets[i + 1] - set.offsets[begin]);
      }
      tokens.resize(ends.back() * set.dim);
      encodings.resize((end - begin) * encoder->dim());
      halves.resize(encodings.size());
      records.resize(ends.back() * coded.codec().record_bytes());
      LoadTokens(spec, {set.document(begin).data, ends.back()}, 0, ends.back(),
                 tokens.data());
      encoder->EncodeDocuments({tokens.data(), ends.back(), set.dim, set.dim},
                               ends, encodings.data());
      FloatToHalf(encodings, halves);
      coded.codec().Encode({tokens.data(), ends.back(), set.dim, set.dim},
                           records.data());
    };
    const double us = FastestUs(options_.passes, 1,
                                [&] {
                                  for (size_t i = 0; i < n; i += kBlock) {
                                    encode(i, std::min(n, i + kBlock));
                                  }
                                }) /
                      static_cast<double>(n);
    Add({.key = absl::StrCat("insert_",
                             goal.kind == Kind::kOls ? "ols" : "muvera"),
         .what = absl::StrFormat(
             "documents/s of a core, %s and 4-bit tokens (%.0f), of %.0f",
             encoder->Describe(), 1e6 / us, goal.per_second),
         .limit = 1,
         .measured = 1e6 / us / goal.per_second,
         .raw = {{"us", us}, {"append_us", append_us}}});
  }
  return absl::OkStatus();
}

}  // namespace vicinal::bench
