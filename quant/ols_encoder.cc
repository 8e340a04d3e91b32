// The OLS encoder. A token x, of norm |x|, has the features
//   |x| f(G u), u the unit vector of x / |x| - mean,
// G random and f(z) = z / 2 (1 + 0.8 z / sqrt(1 + 0.64 z^2)), which is as good
// as GELU (measured: recall within 0.2 points on mv-glove-20k) and the same
// bits everywhere. That |x| stands before it is exact: max <q, p> over p grows
// as q does. The regression of a document's maxima y on the features Z of S
// sample tokens is w = (Z^T Z / S + ridge I)^-1 Z^T y / S, its answer <w, f>.
// With L L^T = Z^T Z / S + ridge I and V the principal axes of L^T w over
// documents,
//   <w, f> = <V L^T w, V L^-1 f>:
// the document's encoding is E = V L^-1 Z^T y / S, one product of its S maxima
// with a matrix that is the same for all documents, and the query's V L^-1
// times the sum of its features. Measured on mv-glove-20k: w itself is
// worthless to a graph, as it lies far along axes on which features hardly
// differ; half of the axes find as much as all, but for 2 points among 100
// candidates.
//
// The maxima are taken by codes of 8 bits: their error is far below that of the
// regression.
//
// Of its bytes, after those that all encoders have:
//   0   u32 token dim, u32 features, u32 dim, u32 zero
//   16  f32 mean[token dim]
//       f32 G[features][token dim]
//       f32 (V L^-1)[dim][features]
// The matrix of documents is not among them, so that an encoder that was read
// encodes queries only.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "quant/linear_algebra.h"
#include "quant/multi_encoder_parts.h"
#include "quant/token_codec.h"
#include "src/base/check.h"
#include "src/base/coding.h"
#include "src/base/status_macros.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal::multi_encoder {
namespace {

constexpr size_t kTokenBlock = 256;
// Of queries: their products stay in the cache. (Measured: room for
// kTokenBlock, 2 MB of new pages for each query, took as long as a third of all
// the rest.)
constexpr size_t kQueryBlock = 16;
// Documents that share a pass over the matrix.
constexpr size_t kDocumentBlock = 32;

// Of a token's norm; one so short that it might have none counts as zero.
float InverseOf(float norm) { return norm > 1e-30f ? 1 / norm : 0; }

float Activate(float z) {
  return 0.5f * z * (1 + 0.8f * z / std::sqrt(1 + 0.64f * z * z));
}

class Ols final : public MultiEncoder {
 public:
  Ols(size_t token_dim, std::vector<float> mean, std::vector<float> directions)
      : token_dim_(token_dim),
        mean_(std::move(mean)),
        directions_(std::move(directions)),
        num_features_(directions_.size() / token_dim),
        packed_(directions_, token_dim) {}
  void UseAxes(std::vector<float> axes) { axes_ = std::move(axes); }

  // Fits axes and the matrix of documents. tokens: a sample of them.
  absl::Status Fit(MatrixView tokens, const SampleDocuments& documents,
                   float ridge, size_t num_threads, const CancelToken* cancel);

  size_t token_dim() const override { return token_dim_; }
  size_t dim() const override { return axes_.size() / num_features_; }
  bool CanEncodeDocuments() const override { return codec_ != nullptr; }
  std::string Describe() const override {
    return absl::StrCat("OLS of ", num_features_, " features");
  }
  std::string Serialize() const override;
  void EncodeQuery(MatrixView tokens, std::span<const float> weights,
                   float* out) const override;
  void EncodeDocuments(MatrixView tokens, std::span<const size_t> ends,
                       float* out) const override;

 private:
  // Unit vectors around the mean, and what tokens were long. A zero token is
  // zero, and so long.
  void Centre(const float* tokens, size_t count, float* units,
              float* norms) const;
  // Of each of the n units the features, n x num_features_.
  std::vector<float> FeaturesOf(MatrixView tokens, Workers* workers) const;
  // The maxima of each document with the sample tokens, count x their number.
  void Maxima(MatrixView tokens, std::span<const size_t> ends, size_t begin,
              float* out) const;

  const size_t token_dim_;
  const std::vector<float> mean_;
  const std::vector<float> directions_;  // num_features_ x token_dim
  const size_t num_features_;
  const PackedMatrix packed_;
  std::vector<float> axes_;  // dim x num_features_
  // Of encoders that were fitted.
  std::unique_ptr<const TokenCodec> codec_;
  TokenCodeQuery sample_;
  PackedMatrix solution_;  // dim x sample tokens
};

std::string Ols::Serialize() const {
  std::string out = BeginBytes(MultiEncoderParams::Kind::kOls);
  PutFixed(&out, static_cast<uint32_t>(token_dim_));
  PutFixed(&out, static_cast<uint32_t>(num_features_));
  PutFixed(&out, static_cast<uint32_t>(dim()));
  PutFixed(&out, uint32_t{0});
  PutFloats(&out, mean_);
  PutFloats(&out, directions_);
  PutFloats(&out, axes_);
  EndBytes(&out);
  return out;
}

void Ols::Centre(const float* tokens, size_t count, float* units,
                 float* norms) const {
  for (size_t i = 0; i < count; ++i) {
    const float* token = tokens + i * token_dim_;
    float* unit = units + i * token_dim_;
    double norm2 = 0;
    for (size_t t = 0; t < token_dim_; ++t) {
      norm2 += static_cast<double>(token[t]) * token[t];
    }
    norms[i] = static_cast<float>(std::sqrt(norm2));
    const float inverse = InverseOf(norms[i]);
    double rest2 = 0;
    for (size_t t = 0; t < token_dim_; ++t) {
      unit[t] = token[t] * inverse - mean_[t];
      rest2 += static_cast<double>(unit[t]) * unit[t];
    }
    const float scale =
        rest2 > 0 ? static_cast<float>(1 / std::sqrt(rest2)) : 0;
    for (size_t t = 0; t < token_dim_; ++t) unit[t] *= scale;
  }
}

void Ols::EncodeQuery(MatrixView tokens, std::span<const float> weights,
                      float* out) const {
  std::vector<float> units(kQueryBlock * token_dim_);
  std::vector<float> norms(kQueryBlock);
  std::vector<float> products(kQueryBlock * packed_.width());
  std::vector<float> sums(num_features_);
  for (size_t first = 0; first < tokens.num_rows; first += kQueryBlock) {
    const size_t count = std::min(kQueryBlock, tokens.num_rows - first);
    Centre(tokens.data + first * token_dim_, count, units.data(), norms.data());
    packed_.Multiply(units.data(), count, products.data());
    for (size_t i = 0; i < count; ++i) {
      const float scale = norms[i] * (weights.empty() ? 1 : weights[first + i]);
      const float* product = &products[i * packed_.width()];
      for (size_t j = 0; j < num_features_; ++j) {
        sums[j] += scale * Activate(product[j]);
      }
    }
  }
  // Minus the products.
  OpsFor(Metric::kInnerProduct, ElementType::kFloat32)
      .scan(sums.data(), axes_.data(), num_features_ * sizeof(float), dim(),
            num_features_, out);
  for (size_t j = 0; j < dim(); ++j) out[j] = -out[j];
}

std::vector<float> Ols::FeaturesOf(MatrixView tokens, Workers* workers) const {
  std::vector<float> out(tokens.num_rows * num_features_);
  workers->For(tokens.num_rows, kTokenBlock,
               [&](size_t begin, size_t end, size_t) {
                 const size_t count = end - begin;
                 std::vector<float> units(count * token_dim_);
                 std::vector<float> norms(count);
                 std::vector<float> products(count * packed_.width());
                 Centre(tokens.data + begin * token_dim_, count, units.data(),
                        norms.data());
                 packed_.Multiply(units.data(), count, products.data());
                 for (size_t i = 0; i < count; ++i) {
                   for (size_t j = 0; j < num_features_; ++j) {
                     out[(begin + i) * num_features_ + j] =
                         Activate(products[i * packed_.width() + j]);
                   }
                 }
               });
  return out;
}

absl::Status Ols::Fit(MatrixView tokens, const SampleDocuments& documents,
                      float ridge, size_t num_threads,
                      const CancelToken* cancel) {
  const size_t n = tokens.num_rows;
  const size_t features = num_features_;
  const size_t num_axes = features / 2;
  const auto cancelled = [&] {
    return cancel != nullptr && cancel->cancelled()
               ? absl::CancelledError("the index build was cancelled")
               : absl::OkStatus();
  };
  Workers workers(num_threads);
  VICINAL_ASSIGN_OR_RETURN(
      codec_, TokenCodec::Train(TokenCodecKind::kInt8, token_dim_, {}, 0,
                                num_threads, cancel));
  sample_ = codec_->Prepare(tokens, {});
  const std::vector<float> z = FeaturesOf(tokens, &workers);
  const MatrixView by_token{z.data(), n, features, features};
  VICINAL_RETURN_IF_ERROR(cancelled());

  const std::vector<float> moments = SecondMoments(by_token, {});
  std::vector<double> gram(moments.begin(), moments.end());
  for (size_t j = 0; j < features; ++j) gram[j * features + j] += ridge;
  VICINAL_ASSIGN_OR_RETURN(const Cholesky factor,
                           Cholesky::Factor(std::move(gram), features));
  VICINAL_RETURN_IF_ERROR(cancelled());

  // L^-1 Z^T y / S of the sample of documents, and its axes.
  const size_t num_documents = documents.ends.size();
  std::vector<float> maxima(num_documents * n);
  workers.For(
      num_documents, kDocumentBlock, [&](size_t begin, size_t end, size_t) {
        if (!cancelled().ok()) return;
        Maxima(documents.tokens, documents.ends.subspan(0, end).subspan(begin),
               begin == 0 ? 0 : documents.ends[begin - 1], &maxima[begin * n]);
      });
  VICINAL_RETURN_IF_ERROR(cancelled());
  std::vector<float> by_feature(features * n);
  for (size_t s = 0; s < n; ++s) {
    for (size_t j = 0; j < features; ++j) {
      by_feature[j * n + s] = z[s * features + j] / static_cast<float>(n);
    }
  }
  std::vector<float> moved(num_documents * features);
  MultiplyTransposed({maxima.data(), num_documents, n, n},
                     {by_feature.data(), features, n, n}, moved.data(),
                     features);
  std::vector<double> solved(moved.begin(), moved.end());
  factor.Solve(&solved);
  moved.assign(solved.begin(), solved.end());
  const MatrixView rows{moved.data(), num_documents, features, features};
  VICINAL_RETURN_IF_ERROR(cancelled());
  VICINAL_ASSIGN_OR_RETURN(
      const Eigen eigen,
      SymmetricEigen(SecondMoments(rows, MeanOf(rows)), features));
  VICINAL_RETURN_IF_ERROR(cancelled());

  std::vector<double> axes(
      eigen.vectors.begin(),
      eigen.vectors.begin() + static_cast<ptrdiff_t>(num_axes * features));
  factor.SolveTransposed(&axes);
  UseAxes({axes.begin(), axes.end()});
  std::vector<float> solution(num_axes * n);
  MultiplyTransposed({axes_.data(), num_axes, features, features}, by_token,
                     solution.data(), n);
  for (float& value : solution) value /= static_cast<float>(n);
  solution_ = PackedMatrix(solution, n);
  return cancelled();
}

void Ols::Maxima(MatrixView tokens, std::span<const size_t> ends, size_t begin,
                 float* out) const {
  const size_t n = sample_.num_tokens;
  std::vector<uint8_t> records;
  std::vector<float> padded(16 * sample_.num_panels);
  for (size_t i = 0; i < ends.size(); ++i, out += n) {
    const size_t count = ends[i] - begin;
    if (count == 0) {
      std::fill_n(out, n, 0.0f);
      continue;
    }
    records.resize(count * codec_->record_bytes());
    codec_->Encode(
        {tokens.data + begin * token_dim_, count, token_dim_, token_dim_},
        records.data());
    codec_->Maxima(sample_, records.data(), count, padded.data());
    for (size_t s = 0; s < n; ++s) out[s] = padded[s] * sample_.scales[s];
    begin = ends[i];
  }
}

void Ols::EncodeDocuments(MatrixView tokens, std::span<const size_t> ends,
                          float* out) const {
  VICINAL_CHECK(CanEncodeDocuments());
  const size_t n = sample_.num_tokens;
  std::vector<float> maxima(kDocumentBlock * n);
  std::vector<float> products(kDocumentBlock * solution_.width());
  for (size_t first = 0; first < ends.size(); first += kDocumentBlock) {
    const size_t count = std::min(kDocumentBlock, ends.size() - first);
    Maxima(tokens, ends.subspan(first, count), first == 0 ? 0 : ends[first - 1],
           maxima.data());
    solution_.Multiply(maxima.data(), count, products.data());
    for (size_t i = 0; i < count; ++i) {
      std::copy_n(&products[i * solution_.width()], dim(),
                  out + (first + i) * dim());
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<const MultiEncoder>> ParseOls(
    absl::string_view bytes) {
  uint32_t token_dim = 0;
  uint32_t features = 0;
  uint32_t dim = 0;
  uint32_t zero = 0;
  std::vector<float> mean;
  std::vector<float> directions;
  std::vector<float> axes;
  if (!ConsumeFixed(&bytes, &token_dim) || !ConsumeFixed(&bytes, &features) ||
      !ConsumeFixed(&bytes, &dim) || !ConsumeFixed(&bytes, &zero) ||
      token_dim < 1 || token_dim > 65'536 || features < kMinOlsFeatures ||
      features > kMaxOlsFeatures || dim < 1 || dim > features ||
      !TakeFloats(&bytes, token_dim, &mean) ||
      !TakeFloats(&bytes, size_t{features} * token_dim, &directions) ||
      !TakeFloats(&bytes, size_t{dim} * features, &axes) || !bytes.empty()) {
    return absl::DataLossError("an OLS encoder: is out of range or cut short");
  }
  auto encoder =
      std::make_unique<Ols>(token_dim, std::move(mean), std::move(directions));
  encoder->UseAxes(std::move(axes));
  return encoder;
}

absl::StatusOr<std::unique_ptr<const MultiEncoder>> TrainOls(
    const MultiEncoderParams& params, const SampleDocuments& sample,
    size_t num_threads, const CancelToken* cancel) {
  const size_t d = sample.tokens.dim;
  // Directions of tokens, evenly spaced; all there are, where these are fewer.
  const size_t n =
      std::min<size_t>(sample.tokens.num_rows, params.ols.sample_tokens);
  std::vector<float> tokens(n * d);
  for (size_t i = 0; i < n; ++i) {
    const std::span<const float> token =
        sample.tokens.row(i * sample.tokens.num_rows / n);
    double norm2 = 0;
    for (const float value : token) {
      norm2 += static_cast<double>(value) * value;
    }
    const double inverse = norm2 > 0 ? 1 / std::sqrt(norm2) : 0;
    for (size_t t = 0; t < d; ++t) {
      tokens[i * d + t] = static_cast<float>(token[t] * inverse);
    }
  }
  const MatrixView view{tokens.data(), n, d, d};
  std::vector<float> directions(params.ols.features * d);
  Random random = StreamOf(params.seed, Purpose::kFeatures, 0);
  for (float& value : directions) value = PortableGaussian(&random);
  auto encoder = std::make_unique<Ols>(d, MeanOf(view), std::move(directions));
  VICINAL_RETURN_IF_ERROR(
      encoder->Fit(view, sample, params.ols.ridge, num_threads, cancel));
  return encoder;
}

}  // namespace vicinal::multi_encoder
