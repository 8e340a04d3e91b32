#include "server/convert_multi_schema.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/convert.h"

namespace vicinal {
namespace {

// Sets *out to a value of the wire's enum that has the same number in the
// engine's; 0 leaves it as it is. name: of the enum.
template <typename Wire, typename Engine>
void ParseEnum(Wire value, bool is_valid, absl::string_view name,
               const std::string& path, FieldViolations* violations,
               Engine* out) {
  if (!is_valid) {
    violations->Add(path, absl::StrCat("is ", static_cast<int>(value),
                                       "; give one of vicinal.v1.", name));
  } else if (static_cast<int>(value) != 0) {
    *out = static_cast<Engine>(value);
  }
}

MuveraParams ParseMuvera(const v1::MuveraConfig& in, const std::string& path,
                         FieldViolations* violations) {
  MuveraParams out;
  if (in.preset() == v1::MUVERA_PRESET_PAPER) {
    out = PaperMuveraParams();
  } else if (!v1::MuveraPreset_IsValid(in.preset())) {
    violations->Add(path + ".preset",
                    absl::StrCat("is ", static_cast<int>(in.preset()),
                                 "; give one of vicinal.v1.MuveraPreset"));
  }
  if (in.repetitions() != 0) out.repetitions = in.repetitions();
  if (in.k_sim() > kMaxKSim) {  // the engine's default is such a number
    violations->Add(path + ".k_sim",
                    absl::StrCat("is ", in.k_sim(), "; give 0 to ", kMaxKSim));
  } else if (in.has_k_sim()) {
    out.k_sim = in.k_sim();
  }
  if (in.d_proj() != 0) out.d_proj = in.d_proj();
  if (in.d_final() != 0) out.d_final = in.d_final();
  ParseEnum(in.projection(), v1::MuveraProjection_IsValid(in.projection()),
            "MuveraProjection", path + ".projection", violations,
            &out.projection);
  ParseEnum(in.fill(), v1::MuveraFill_IsValid(in.fill()), "MuveraFill",
            path + ".fill", violations, &out.fill);
  ParseEnum(in.centering(), v1::MuveraCentering_IsValid(in.centering()),
            "MuveraCentering", path + ".centering", violations, &out.centering);
  return out;
}

MultiEncoderParams ParseEncoder(const v1::MultiEncoderConfig& in,
                                const std::string& path,
                                FieldViolations* violations) {
  MultiEncoderParams out;
  ParseEnum(in.kind(), v1::MultiEncoderKind_IsValid(in.kind()),
            "MultiEncoderKind", path + ".kind", violations, &out.kind);
  if (in.has_seed()) out.seed = in.seed();
  const auto check_used = [&](bool is_set, MultiEncoderParams::Kind kind,
                              absl::string_view name) {
    if (!is_set || out.kind == MultiEncoderParams::Kind::kAuto ||
        out.kind == kind) {
      return;
    }
    violations->Add(absl::StrCat(path, ".", name),
                    absl::StrCat("is set, but the encoder's kind is ",
                                 v1::MultiEncoderKind_Name(in.kind()),
                                 "; leave it out or change the kind"));
  };
  check_used(in.has_muvera(), MultiEncoderParams::Kind::kMuvera, "muvera");
  check_used(in.has_ols(), MultiEncoderParams::Kind::kOls, "ols");
  out.muvera = ParseMuvera(in.muvera(), path + ".muvera", violations);
  out.ols.features = in.ols().features();
  out.ols.sample_tokens = in.ols().sample_tokens();
  if (in.ols().has_ridge()) out.ols.ridge = in.ols().ridge();
  return out;
}

void ToProto(const MultiEncoderParams& params, v1::MultiEncoderConfig* out) {
  using Kind = MultiEncoderParams::Kind;
  out->set_kind(static_cast<v1::MultiEncoderKind>(params.kind));
  out->set_seed(params.seed);
  if (params.kind == Kind::kAuto || params.kind == Kind::kMuvera) {
    const MuveraParams& in = params.muvera;
    v1::MuveraConfig* to = out->mutable_muvera();
    to->set_repetitions(in.repetitions);
    if (in.k_sim != MuveraParams::kDefaultKSim) to->set_k_sim(in.k_sim);
    to->set_d_proj(in.d_proj);
    to->set_d_final(in.d_final);
    to->set_projection(static_cast<v1::MuveraProjection>(in.projection));
    to->set_fill(static_cast<v1::MuveraFill>(in.fill));
    to->set_centering(static_cast<v1::MuveraCentering>(in.centering));
  }
  if (params.kind == Kind::kAuto || params.kind == Kind::kOls) {
    v1::OlsConfig* to = out->mutable_ols();
    to->set_features(params.ols.features);
    to->set_sample_tokens(params.ols.sample_tokens);
    to->set_ridge(params.ols.ridge);
  }
}

}  // namespace

void ParseMultiVectors(const v1::Collection& collection,
                       const std::string& path, FieldViolations* violations,
                       CollectionSchema* schema) {
  for (int i = 0; i < collection.multi_vectors_size(); ++i) {
    const v1::MultiVectorConfig& in = collection.multi_vectors(i);
    const std::string at = At(path, "multi_vectors", static_cast<size_t>(i));
    MultiVectorField field{.name = in.name(), .dim = in.dim()};
    if (in.metric() == v1::METRIC_INNER_PRODUCT ||
        in.metric() == v1::METRIC_COSINE) {
      field.metric = static_cast<Metric>(in.metric());
    } else {
      violations->Add(
          at + ".metric",
          absl::StrCat(in.metric() == v1::METRIC_UNSPECIFIED
                           ? "is not given"
                           : "is not possible here",
                       "; choose METRIC_INNER_PRODUCT or METRIC_COSINE"));
    }
    if (in.type() == v1::ELEMENT_TYPE_UINT8) {
      violations->Add(at + ".type",
                      "is not possible here; choose FLOAT32, FLOAT16, "
                      "BFLOAT16 or INT8");
    } else {
      ParseEnum(in.type(), v1::ElementType_IsValid(in.type()), "ElementType",
                at + ".type", violations, &field.type);
    }
    if (in.max_tokens() != 0) field.max_tokens = in.max_tokens();
    field.allow_empty = in.allow_empty();
    field.encoder = ParseEncoder(in.encoder(), at + ".encoder", violations);
    ParseEnum(in.token_codec(), v1::TokenCodec_IsValid(in.token_codec()),
              "TokenCodec", at + ".token_codec", violations,
              &field.token_codec);
    field.avg_bits = in.avg_bits();
    schema->multi.push_back(std::move(field));
  }
}

void ToProto(const MultiVectorField& field, v1::MultiVectorConfig* out) {
  out->set_name(field.name);
  out->set_dim(static_cast<uint32_t>(field.dim));
  out->set_metric(static_cast<v1::Metric>(field.metric));
  out->set_type(static_cast<v1::ElementType>(field.type));
  out->set_max_tokens(static_cast<uint32_t>(field.max_tokens));
  out->set_allow_empty(field.allow_empty);
  ToProto(field.encoder, out->mutable_encoder());
  out->set_token_codec(static_cast<v1::TokenCodec>(field.token_codec));
  out->set_avg_bits(field.avg_bits);
}

}  // namespace vicinal
