// MUVERA. Of its bytes, after those that all encoders have:
//   0   u32 token dim, u32 repetitions, u32 k_sim, u32 d_proj, u32 d_final
//   20  u8 projection, u8 fill, u8 centering, u8 zero
//   24  u64 seed
//   32  f32 mean[token dim], where it is centred
//       f32 matrix[repetitions][k_sim + d_proj][token dim]: hyperplanes, then
//       the projection (no rows of it where tokens are not projected)
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "quant/multi_encoder_parts.h"
#include "src/base/coding.h"

namespace vicinal::multi_encoder {
namespace {

using Projection = MuveraParams::Projection;
using Fill = MuveraParams::Fill;
using Centering = MuveraParams::Centering;

// Tokens multiplied with the matrix at a time.
constexpr size_t kTokenBlock = 256;

class Muvera final : public MultiEncoder {
 public:
  Muvera(const MuveraParams& params, uint64_t seed, size_t token_dim,
         std::vector<float> mean, std::vector<float> matrix)
      : params_(params),
        seed_(seed),
        token_dim_(token_dim),
        mean_(std::move(mean)),
        matrix_(std::move(matrix)),
        packed_(matrix_, token_dim) {
    is_projected_ = params_.d_proj < token_dim;
    block_dim_ = is_projected_ ? params_.d_proj : token_dim;
    if (params_.d_final != 0) {
      Random random = StreamOf(seed, Purpose::kSketch, 0);
      for (size_t i = 0; i < fde_dim(); ++i) {
        const auto target =
            static_cast<uint32_t>(random.Uniform(params_.d_final));
        sketch_.push_back(target | static_cast<uint32_t>(random.Next() >> 63)
                                       << 31);
      }
    }
    if (!mean_.empty()) {
      mean_products_.resize(packed_.width());
      packed_.Multiply(mean_.data(), 1, mean_products_.data());
    }
  }

  size_t token_dim() const override { return token_dim_; }
  size_t dim() const override {
    return params_.d_final != 0 ? params_.d_final : fde_dim();
  }
  bool CanEncodeDocuments() const override { return true; }
  std::string Describe() const override;
  std::string Serialize() const override;
  void EncodeQuery(MatrixView tokens, std::span<const float> weights,
                   float* out) const override;
  void EncodeDocuments(MatrixView tokens, std::span<const size_t> ends,
                       float* out) const override;

 private:
  // One document or query, spread over its blocks.
  struct Blocks {
    std::vector<float> sums;    // fde_dim
    std::vector<float> counts;  // repetitions x 2^k_sim
  };

  size_t num_parts() const { return size_t{1} << params_.k_sim; }
  size_t fde_dim() const {
    return params_.repetitions * num_parts() * block_dim_;
  }
  size_t rows_per_repetition() const {
    return params_.k_sim + (is_projected_ ? params_.d_proj : 0);
  }
  // Adds tokens to the blocks of their parts, each times its weight.
  void Spread(const float* tokens, size_t count, const float* weights,
              bool is_document, std::vector<float>* products,
              Blocks* blocks) const;
  // Sums to means, and empty blocks filled.
  void Finish(Blocks* blocks) const;
  void Emit(const std::vector<float>& fde, float* out) const;

  const MuveraParams params_;
  const uint64_t seed_;
  const size_t token_dim_;
  const std::vector<float> mean_;  // empty: not centred
  const std::vector<float> matrix_;
  const PackedMatrix packed_;
  std::vector<float> mean_products_;  // of packed_, with the mean
  std::vector<uint32_t> sketch_;      // of each coordinate: target, sign
  bool is_projected_ = true;
  size_t block_dim_ = 0;
};

std::string Muvera::Describe() const {
  std::string out = absl::StrCat("MUVERA (", params_.repetitions, ", ",
                                 params_.k_sim, ", ", block_dim_, ")");
  if (params_.d_final != 0) absl::StrAppend(&out, " to ", params_.d_final);
  if (params_.projection == Projection::kCountSketch) {
    out += ", count-sketched tokens";
  }
  out += params_.fill == Fill::kNone ? ", not filled" : ", filled";
  switch (params_.centering) {
    case Centering::kHash:
      return out + ", hash centred";
    case Centering::kHashAndDocuments:
      return out + ", centred";
    default:
      return out + ", not centred";
  }
}

void Muvera::Spread(const float* tokens, size_t count, const float* weights,
                    bool is_document, std::vector<float>* products,
                    Blocks* blocks) const {
  const size_t width = packed_.width();
  const bool centres_values =
      is_document && params_.centering == Centering::kHashAndDocuments;
  for (size_t first = 0; first < count; first += kTokenBlock) {
    const size_t in_block = std::min(kTokenBlock, count - first);
    products->resize(in_block * width);
    packed_.Multiply(tokens + first * token_dim_, in_block, products->data());
    for (size_t i = 0; i < in_block; ++i) {
      const float* product = products->data() + i * width;
      const float weight = weights != nullptr ? weights[first + i] : 1;
      for (size_t r = 0; r < params_.repetitions; ++r) {
        const size_t row = r * rows_per_repetition();
        size_t part = 0;
        for (size_t b = 0; b < params_.k_sim; ++b) {
          const float threshold = mean_.empty() ? 0 : mean_products_[row + b];
          part |= static_cast<size_t>(product[row + b] > threshold) << b;
        }
        const size_t block = r * num_parts() + part;
        blocks->counts[block] += 1;
        float* sums = &blocks->sums[block * block_dim_];
        const float* values = is_projected_ ? product + row + params_.k_sim
                                            : tokens + (first + i) * token_dim_;
        const float* shift = nullptr;
        if (centres_values) {
          shift = is_projected_ ? &mean_products_[row + params_.k_sim]
                                : mean_.data();
        }
        for (size_t t = 0; t < block_dim_; ++t) {
          const float value =
              shift != nullptr ? values[t] - shift[t] : values[t];
          sums[t] += weight * value;
        }
      }
    }
  }
}

void Muvera::Finish(Blocks* blocks) const {
  const size_t parts = num_parts();
  std::vector<size_t> full;  // parts with tokens, which are few
  for (size_t r = 0; r < params_.repetitions; ++r) {
    float* sums = &blocks->sums[r * parts * block_dim_];
    const float* counts = &blocks->counts[r * parts];
    full.clear();
    for (size_t part = 0; part < parts; ++part) {
      if (counts[part] > 0) full.push_back(part);
    }
    // Before sums become means.
    for (size_t empty = 0; empty < parts && params_.fill == Fill::kHammingMean;
         ++empty) {
      if (counts[empty] > 0) continue;
      int nearest = std::numeric_limits<int>::max();
      for (const size_t part : full) {
        nearest = std::min(nearest, std::popcount(part ^ empty));
      }
      float total = 0;
      float* out = sums + empty * block_dim_;
      for (const size_t part : full) {
        if (std::popcount(part ^ empty) != nearest) continue;
        total += counts[part];
        for (size_t t = 0; t < block_dim_; ++t) {
          out[t] += sums[part * block_dim_ + t];
        }
      }
      for (size_t t = 0; t < block_dim_ && total > 0; ++t) out[t] /= total;
    }
    for (const size_t part : full) {
      for (size_t t = 0; t < block_dim_; ++t) {
        sums[part * block_dim_ + t] /= counts[part];
      }
    }
  }
}

void Muvera::Emit(const std::vector<float>& fde, float* out) const {
  if (sketch_.empty()) {
    std::copy(fde.begin(), fde.end(), out);
    return;
  }
  std::fill_n(out, params_.d_final, 0.0f);
  for (size_t i = 0; i < fde.size(); ++i) {
    const uint32_t target = sketch_[i] & 0x7FFFFFFF;
    out[target] += sketch_[i] >> 31 != 0 ? -fde[i] : fde[i];
  }
}

void Muvera::EncodeQuery(MatrixView tokens, std::span<const float> weights,
                         float* out) const {
  Blocks blocks{
      .sums = std::vector<float>(fde_dim()),
      .counts = std::vector<float>(params_.repetitions * num_parts())};
  std::vector<float> products;
  Spread(tokens.data, tokens.num_rows,
         weights.empty() ? nullptr : weights.data(), /*is_document=*/false,
         &products, &blocks);
  Emit(blocks.sums, out);
}

void Muvera::EncodeDocuments(MatrixView tokens, std::span<const size_t> ends,
                             float* out) const {
  Blocks blocks{
      .sums = std::vector<float>(fde_dim()),
      .counts = std::vector<float>(params_.repetitions * num_parts())};
  std::vector<float> products;
  size_t begin = 0;
  for (size_t i = 0; i < ends.size(); ++i) {
    std::fill(blocks.sums.begin(), blocks.sums.end(), 0.0f);
    std::fill(blocks.counts.begin(), blocks.counts.end(), 0.0f);
    Spread(tokens.data + begin * token_dim_, ends[i] - begin, nullptr,
           /*is_document=*/true, &products, &blocks);
    if (ends[i] > begin) Finish(&blocks);
    Emit(blocks.sums, out + i * dim());
    begin = ends[i];
  }
}

std::string Muvera::Serialize() const {
  std::string out = BeginBytes(MultiEncoderParams::Kind::kMuvera);
  for (const size_t value :
       {token_dim_, size_t{params_.repetitions}, size_t{params_.k_sim},
        size_t{params_.d_proj}, size_t{params_.d_final}}) {
    PutFixed(&out, static_cast<uint32_t>(value));
  }
  PutFixed(&out, static_cast<uint8_t>(params_.projection));
  PutFixed(&out, static_cast<uint8_t>(params_.fill));
  PutFixed(&out, static_cast<uint8_t>(params_.centering));
  PutFixed(&out, uint8_t{0});
  PutFixed(&out, seed_);
  PutFloats(&out, mean_);
  PutFloats(&out, matrix_);
  EndBytes(&out);
  return out;
}

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("a MUVERA encoder: ", what));
}

}  // namespace

absl::StatusOr<std::unique_ptr<const MultiEncoder>> ParseMuvera(
    absl::string_view bytes) {
  uint32_t token_dim = 0;
  MuveraParams params;
  uint8_t projection = 0;
  uint8_t fill = 0;
  uint8_t centering = 0;
  uint8_t zero = 0;
  uint64_t seed = 0;
  if (!ConsumeFixed(&bytes, &token_dim) ||
      !ConsumeFixed(&bytes, &params.repetitions) ||
      !ConsumeFixed(&bytes, &params.k_sim) ||
      !ConsumeFixed(&bytes, &params.d_proj) ||
      !ConsumeFixed(&bytes, &params.d_final) ||
      !ConsumeFixed(&bytes, &projection) || !ConsumeFixed(&bytes, &fill) ||
      !ConsumeFixed(&bytes, &centering) || !ConsumeFixed(&bytes, &zero) ||
      !ConsumeFixed(&bytes, &seed)) {
    return Damaged("is cut short");
  }
  if (token_dim < 1 || token_dim > 65'536 || params.repetitions < 1 ||
      params.repetitions > kMaxRepetitions || params.k_sim > kMaxKSim ||
      params.d_proj < 1 || projection < 1 || projection > 2 || fill < 1 ||
      fill > 2 || centering < 1 || centering > 3 ||
      FdeDim(params, token_dim) > kMaxFdeDim ||
      MuveraMatrixSize(params, token_dim) > kMaxMuveraMatrix ||
      params.d_final > kMaxEncodingDim) {
    return Damaged("is out of range");
  }
  params.projection = static_cast<Projection>(projection);
  params.fill = static_cast<Fill>(fill);
  params.centering = static_cast<Centering>(centering);
  const size_t projected = params.d_proj < token_dim ? params.d_proj : 0;
  const size_t num_rows = params.repetitions * (params.k_sim + projected);
  std::vector<float> mean;
  std::vector<float> matrix;
  if ((params.centering != Centering::kNone &&
       !TakeFloats(&bytes, token_dim, &mean)) ||
      !TakeFloats(&bytes, num_rows * token_dim, &matrix) || !bytes.empty()) {
    return Damaged("its matrix is damaged");
  }
  return std::make_unique<const Muvera>(params, seed, token_dim,
                                        std::move(mean), std::move(matrix));
}

absl::StatusOr<std::unique_ptr<const MultiEncoder>> TrainMuvera(
    const MultiEncoderParams& all, MatrixView sample) {
  const MuveraParams& params = all.muvera;
  const size_t d = sample.dim;
  std::vector<float> mean;
  if (params.centering != Centering::kNone) mean = MeanOf(sample);
  std::vector<float> matrix;
  const size_t projected = params.d_proj < d ? params.d_proj : 0;
  for (size_t r = 0; r < params.repetitions; ++r) {
    Random planes = StreamOf(all.seed, Purpose::kHyperplanes, r);
    for (size_t i = 0; i < params.k_sim * d; ++i) {
      matrix.push_back(PortableGaussian(&planes));
    }
    Random signs = StreamOf(all.seed, Purpose::kProjection, r);
    const size_t begin = matrix.size();
    matrix.resize(begin + projected * d);
    const float unit = params.projection == Projection::kCountSketch
                           ? 1
                           : 1 / std::sqrt(static_cast<float>(params.d_proj));
    for (size_t t = 0; t < d && projected > 0; ++t) {
      if (params.projection == Projection::kCountSketch) {
        const size_t row = signs.Uniform(projected);
        matrix[begin + row * d + t] = signs.Next() >> 63 != 0 ? -unit : unit;
        continue;
      }
      for (size_t row = 0; row < projected; ++row) {
        matrix[begin + row * d + t] = signs.Next() >> 63 != 0 ? -unit : unit;
      }
    }
  }
  return std::make_unique<const Muvera>(params, all.seed, d, std::move(mean),
                                        std::move(matrix));
}

}  // namespace vicinal::multi_encoder
