// Multi-vectors of a schema.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "index/multi_field.h"
#include "quant/multi_encoder.h"
#include "quant/token_codec.h"
#include "src/base/coding.h"
#include "src/base/types.h"
#include "src/engine/layout.h"
#include "src/engine/limits.h"
#include "src/engine/schema.h"
#include "src/engine/schema_parts.h"

namespace vicinal {
namespace {

using Kind = MultiEncoderParams::Kind;

constexpr float kMaxRidge = 1;  // of OlsParams

template <typename Enum>
bool IsIn(Enum value, Enum first, Enum last) {
  return value >= first && value <= last;
}

bool HasMetric(const MultiVectorField& field) {
  return field.metric == Metric::kCosine ||
         field.metric == Metric::kInnerProduct;
}

bool HasType(const MultiVectorField& field) {
  return IsIn(field.type, ElementType::kFloat32, ElementType::kInt8) ||
         field.type == ElementType::kBfloat16;
}

bool HasDim(const MultiVectorField& field) {
  return field.dim >= 1 && field.dim <= kMaxTokenDim;
}

bool HasBits(const MultiVectorField& field) {
  return field.avg_bits == 0 || (field.avg_bits >= 0.5f && field.avg_bits <= 8);
}

std::string Wants(float value, absl::string_view range) {
  return absl::StrCat("is ", value, "; it must be ", range);
}
std::string Wants(uint64_t value, absl::string_view range) {
  return absl::StrCat("is ", value, "; it must be ", range);
}

void ValidateMuvera(const MuveraParams& params, const std::string& path,
                    std::vector<FieldViolation>* out) {
  if (params.repetitions > kMaxRepetitions) {
    out->push_back(
        {path + ".repetitions", Wants(uint64_t{params.repetitions},
                                      absl::StrCat("1 to ", kMaxRepetitions,
                                                   ", or 0 for the default"))});
  }
  if (params.k_sim > kMaxKSim && params.k_sim != MuveraParams::kDefaultKSim) {
    out->push_back({path + ".k_sim", Wants(uint64_t{params.k_sim},
                                           absl::StrCat("0 to ", kMaxKSim))});
  }
  if (params.d_proj > kMaxTokenDim) {
    out->push_back(
        {path + ".d_proj",
         Wants(uint64_t{params.d_proj},
               absl::StrCat("1 to ", kMaxTokenDim, ", or 0 for the default"))});
  }
  if (params.d_final > kMaxEncodingDim) {
    out->push_back(
        {path + ".d_final",
         Wants(uint64_t{params.d_final},
               absl::StrCat("1 to ", kMaxEncodingDim,
                            ", or 0 to keep the encoding as it is"))});
  }
  if (!IsIn(params.projection, MuveraParams::Projection::kDenseSign,
            MuveraParams::Projection::kCountSketch)) {
    out->push_back({path + ".projection",
                    "is unknown; choose dense signs or a count sketch"});
  }
  if (params.fill > MuveraParams::Fill::kHammingMean) {
    out->push_back({path + ".fill",
                    "is unknown; choose none or the Hamming mean, or leave it "
                    "out"});
  }
  if (params.centering > MuveraParams::Centering::kHashAndDocuments) {
    out->push_back({path + ".centering",
                    "is unknown; choose none, hash, or hash and documents, or "
                    "leave it out"});
  }
}

// The params are in their ranges, as is the field's dimension.
void ValidateMuveraSize(const MultiVectorField& field, const std::string& path,
                        std::vector<FieldViolation>* out) {
  const Kind kind = field.encoder.kind;
  if (kind != Kind::kAuto && kind != Kind::kMuvera) return;
  const size_t dim = FdeDim(field.encoder.muvera, field.dim);
  if (dim > kMaxFdeDim) {
    out->push_back(
        {path, absl::StrCat("makes encodings of repetitions * 2^k_sim * d_proj "
                            "= ",
                            dim, " dimensions; at most ", kMaxFdeDim,
                            " are possible: lower repetitions, k_sim or "
                            "d_proj")});
  }
  const size_t matrix = MuveraMatrixSize(field.encoder.muvera, field.dim);
  if (matrix > kMaxMuveraMatrix) {
    out->push_back(
        {path, absl::StrCat("takes matrices of repetitions * (k_sim + d_proj) "
                            "* dim = ",
                            matrix, " elements; at most ", kMaxMuveraMatrix,
                            " are possible: lower repetitions or d_proj")});
  }
}

void ValidateOls(const OlsParams& params, size_t token_dim,
                 const std::string& path, std::vector<FieldViolation>* out) {
  if (params.features != 0 &&
      !IsIn(params.features, kMinOlsFeatures, kMaxOlsFeatures)) {
    out->push_back({path + ".features",
                    Wants(uint64_t{params.features},
                          absl::StrCat(kMinOlsFeatures, " to ", kMaxOlsFeatures,
                                       ", or 0 for the default"))});
  }
  const uint32_t features = OlsFeatures(params, token_dim);
  if (params.sample_tokens != 0 &&
      !IsIn(params.sample_tokens, features, kMaxOlsSample)) {
    out->push_back(
        {path + ".sample_tokens",
         Wants(uint64_t{params.sample_tokens},
               absl::StrCat(features, " (the features) to ", kMaxOlsSample,
                            ", or 0 for four times the features"))});
  }
  if (!(params.ridge > 0 && params.ridge <= kMaxRidge)) {
    out->push_back(
        {path + ".ridge",
         Wants(params.ridge, absl::StrCat("over 0, at most ", kMaxRidge))});
  }
}

void ValidateEncoder(const MultiVectorField& field, const std::string& path,
                     std::vector<FieldViolation>* out) {
  if (field.encoder.kind > Kind::kNone) {
    out->push_back({path + ".kind",
                    "is unknown; choose MUVERA, OLS or none, or leave it out"});
  }
  const size_t before = out->size();
  ValidateMuvera(field.encoder.muvera, path + ".muvera", out);
  if (out->size() == before && HasDim(field)) {
    ValidateMuveraSize(field, path + ".muvera", out);
  }
  ValidateOls(field.encoder.ols, field.dim, path + ".ols", out);
}

void ValidateName(const CollectionSchema& schema, size_t i,
                  const std::string& path, const Limits& limits,
                  std::vector<FieldViolation>* out) {
  const std::string& name = schema.multi[i].name;
  if (name.empty()) {
    out->push_back({path, "is empty; a multi-vector needs a name"});
  } else if (std::string problem = NameProblem(name, limits.max_name_bytes);
             !problem.empty()) {
    out->push_back({path, "the vector's name " + problem});
  } else if (schema.FindMulti(name) != i ||
             schema.FindVector(name).has_value() ||
             schema.FindSparse(name).has_value()) {
    out->push_back(
        {path, absl::StrCat("\"", name, "\" stands twice; names must differ")});
  }
}

void ValidateField(const MultiVectorField& field, const std::string& path,
                   const Limits& limits, std::vector<FieldViolation>* out) {
  if (!HasDim(field)) {
    out->push_back({path + ".dim", Wants(uint64_t{field.dim},
                                         absl::StrCat("1 to ", kMaxTokenDim))});
  }
  if (!HasMetric(field)) {
    out->push_back({path + ".metric",
                    "is not possible here; choose cosine or inner product"});
  }
  if (!HasType(field)) {
    out->push_back({path + ".type",
                    "is not possible here; choose f32, f16, bf16 or int8"});
  }
  const size_t most = std::min(kMaxTokens, limits.max_tokens);
  if (field.max_tokens < 1 || field.max_tokens > most) {
    out->push_back({path + ".max_tokens", Wants(uint64_t{field.max_tokens},
                                                absl::StrCat("1 to ", most))});
  }
  ValidateEncoder(field, path + ".encoder", out);
  if (!IsIn(field.token_codec, TokenCodecKind::kInt8,
            TokenCodecKind::kBinary)) {
    out->push_back({path + ".token_codec",
                    "is unknown; choose 8, 4, 2 or 1 bits, or leave it out"});
  }
  if (!HasBits(field)) {
    out->push_back({path + ".avg_bits",
                    Wants(field.avg_bits, "0.5 to 8, or 0 for the default")});
  }
}

}  // namespace

// Name (length-prefixed), dim, max_tokens (varints), metric, type, flags (u8;
// 1: allow_empty), the encoder's kind (u8), seed (u64), repetitions, k_sim,
// d_proj, d_final (u32), projection, fill, centering (u8), features,
// sample_tokens (u32), ridge (f32), the codec of tokens (u8), avg_bits (f32).
void EncodeMulti(const CollectionSchema& schema, std::string* out) {
  PutVarint64(out, schema.multi.size());
  for (const MultiVectorField& field : schema.multi) {
    PutLengthPrefixed(out, field.name);
    PutVarint64(out, field.dim);
    PutVarint64(out, field.max_tokens);
    PutFixed(out, static_cast<uint8_t>(field.metric));
    PutFixed(out, static_cast<uint8_t>(field.type));
    PutFixed<uint8_t>(out, field.allow_empty ? 1 : 0);
    const MultiEncoderParams& encoder = field.encoder;
    PutFixed(out, static_cast<uint8_t>(encoder.kind));
    PutFixed<uint64_t>(out, encoder.seed);
    PutFixed<uint32_t>(out, encoder.muvera.repetitions);
    PutFixed<uint32_t>(out, encoder.muvera.k_sim);
    PutFixed<uint32_t>(out, encoder.muvera.d_proj);
    PutFixed<uint32_t>(out, encoder.muvera.d_final);
    PutFixed(out, static_cast<uint8_t>(encoder.muvera.projection));
    PutFixed(out, static_cast<uint8_t>(encoder.muvera.fill));
    PutFixed(out, static_cast<uint8_t>(encoder.muvera.centering));
    PutFixed<uint32_t>(out, encoder.ols.features);
    PutFixed<uint32_t>(out, encoder.ols.sample_tokens);
    PutFixed<float>(out, encoder.ols.ridge);
    PutFixed(out, static_cast<uint8_t>(field.token_codec));
    PutFixed<float>(out, field.avg_bits);
  }
}

namespace {

template <typename Enum>
bool ConsumeEnum(absl::string_view* bytes, Enum* out) {
  uint8_t value = 0;
  if (!ConsumeFixed(bytes, &value)) return false;
  *out = static_cast<Enum>(value);
  return true;
}

bool DecodeEncoder(absl::string_view* bytes, MultiEncoderParams* out) {
  return ConsumeEnum(bytes, &out->kind) && ConsumeFixed(bytes, &out->seed) &&
         ConsumeFixed(bytes, &out->muvera.repetitions) &&
         ConsumeFixed(bytes, &out->muvera.k_sim) &&
         ConsumeFixed(bytes, &out->muvera.d_proj) &&
         ConsumeFixed(bytes, &out->muvera.d_final) &&
         ConsumeEnum(bytes, &out->muvera.projection) &&
         ConsumeEnum(bytes, &out->muvera.fill) &&
         ConsumeEnum(bytes, &out->muvera.centering) &&
         ConsumeFixed(bytes, &out->ols.features) &&
         ConsumeFixed(bytes, &out->ols.sample_tokens) &&
         ConsumeFixed(bytes, &out->ols.ridge);
}

}  // namespace

bool DecodeMulti(absl::string_view* bytes, CollectionSchema* schema) {
  uint64_t count = 0;
  if (!ConsumeVarint64(bytes, &count) || count > bytes->size()) return false;
  for (uint64_t i = 0; i < count; ++i) {
    MultiVectorField field;
    absl::string_view name;
    uint64_t dim = 0, max_tokens = 0;
    uint8_t flags = 0;
    if (!ConsumeLengthPrefixed(bytes, &name) || !ConsumeVarint64(bytes, &dim) ||
        !ConsumeVarint64(bytes, &max_tokens) ||
        !ConsumeEnum(bytes, &field.metric) ||
        !ConsumeEnum(bytes, &field.type) || !ConsumeFixed(bytes, &flags) ||
        !DecodeEncoder(bytes, &field.encoder) ||
        !ConsumeEnum(bytes, &field.token_codec) ||
        !ConsumeFixed(bytes, &field.avg_bits)) {
      return false;
    }
    field.name = std::string(name);
    field.dim = dim;
    field.max_tokens = max_tokens;
    field.allow_empty = (flags & 1) != 0;
    // What was created was valid.
    std::vector<FieldViolation> violations;
    ValidateField(field, "", Limits{}, &violations);
    if (field.name.empty() || !violations.empty()) return false;
    schema->multi.push_back(std::move(field));
  }
  return true;
}

void ValidateMulti(const CollectionSchema& schema, const Limits& limits,
                   std::vector<FieldViolation>* out) {
  if (schema.multi.size() > limits.max_vectors_per_point) {
    out->push_back(
        {"multi_vectors",
         absl::StrCat("has ", schema.multi.size(), " vectors; at most ",
                      limits.max_vectors_per_point, " are allowed")});
  }
  for (size_t i = 0; i < schema.multi.size(); ++i) {
    const std::string path = absl::StrCat("multi_vectors[", i, "]");
    ValidateName(schema, i, path + ".name", limits, out);
    ValidateField(schema.multi[i], path, limits, out);
  }
}

MultiSpec SpecOf(const MultiVectorField& field) {
  return {.dim = field.dim,
          .type = field.type,
          .cosine = field.metric == Metric::kCosine,
          .encoder = field.encoder,
          .token_codec = field.token_codec,
          .avg_bits = field.avg_bits};
}

}  // namespace vicinal
