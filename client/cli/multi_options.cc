#include "client/cli/multi_options.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/client.h"
#include "client/formats/elements.h"
#include "src/base/status_macros.h"

namespace vicinal::cli {
namespace {

using Align = Table::Align;

constexpr std::pair<const char*, v1::MultiEncoderKind> kEncoders[] = {
    {"auto", v1::MULTI_ENCODER_KIND_UNSPECIFIED},
    {"muvera", v1::MULTI_ENCODER_KIND_MUVERA},
    {"ols", v1::MULTI_ENCODER_KIND_OLS},
    {"none", v1::MULTI_ENCODER_KIND_NONE}};

constexpr std::pair<const char*, v1::TokenCodec> kCodecs[] = {
    {"int8", v1::TOKEN_CODEC_INT8},
    {"int4", v1::TOKEN_CODEC_INT4},
    {"int2", v1::TOKEN_CODEC_INT2},
    {"binary", v1::TOKEN_CODEC_BINARY}};

template <typename Value, size_t n>
bool Find(const std::pair<const char*, Value> (&names)[n],
          absl::string_view name, Value* out) {
  for (const auto& [known, value] : names) {
    if (name != known) continue;
    *out = value;
    return true;
  }
  return false;
}

template <typename Value, size_t n>
std::string NameOf(const std::pair<const char*, Value> (&names)[n],
                   Value value) {
  for (const auto& [name, known] : names) {
    if (value == known) return name;
  }
  return "?";
}

absl::Status ParseEncoder(absl::string_view name,
                          v1::MultiEncoderConfig* encoder) {
  v1::MultiEncoderKind kind = v1::MULTI_ENCODER_KIND_MUVERA;
  if (name == "muvera-paper") {
    encoder->mutable_muvera()->set_preset(v1::MUVERA_PRESET_PAPER);
  } else if (!Find(kEncoders, name, &kind)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", name,
                     "\" is not an encoder; use auto, muvera, muvera-paper, "
                     "ols or none."));
  }
  encoder->set_kind(kind);
  return absl::OkStatus();
}

// KEY=VALUE
absl::Status ParseSetting(absl::string_view key, absl::string_view value,
                          v1::MultiVectorConfig* config) {
  if (key == "encoder") return ParseEncoder(value, config->mutable_encoder());
  if (key == "codec") {
    v1::TokenCodec codec = v1::TOKEN_CODEC_UNSPECIFIED;
    if (!Find(kCodecs, value, &codec)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", value,
                       "\" is not a codec of tokens; use int8, int4, int2 or "
                       "binary."));
    }
    config->set_token_codec(codec);
    return absl::OkStatus();
  }
  uint32_t max_tokens = 0;
  // 0 would be the default on the wire.
  if (key == "max" && absl::SimpleAtoi(value, &max_tokens) && max_tokens == 0) {
    return absl::InvalidArgumentError(
        "max=0 leaves no tokens; give 1 to 65535.");
  }
  if (key == "max" && absl::SimpleAtoi(value, &max_tokens)) {
    config->set_max_tokens(max_tokens);
    return absl::OkStatus();
  }
  float bits = 0;
  if (key == "bits" && absl::SimpleAtof(value, &bits)) {
    config->set_avg_bits(bits);
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "=", value,
                   "\" is not an option; use max=N, encoder=NAME, codec=NAME "
                   "or bits=B."));
}

absl::Status ParsePart(absl::string_view part, v1::MultiVectorConfig* config) {
  const size_t equals = part.find('=');
  if (equals != absl::string_view::npos) {
    return ParseSetting(part.substr(0, equals), part.substr(equals + 1),
                        config);
  }
  if (part == "empty") {
    config->set_allow_empty(true);
  } else if (const auto metric = ParseMetric(part);
             metric.ok() && *metric != v1::METRIC_L2) {
    config->set_metric(*metric);
  } else if (const auto type = client::ParseElementType(part);
             type.ok() && *type != ElementType::kUint8) {
    config->set_type(client::ToProto(*type));
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", part,
        "\" is none of ip, cosine, f32, f16, bf16, i8, empty, max=N, "
        "encoder=NAME, codec=NAME and bits=B."));
  }
  return absl::OkStatus();
}

// 0 stands for the server's default.
std::string Shown(absl::string_view name, uint64_t value) {
  return value == 0 ? "" : absl::StrCat(" ", name, "=", value);
}

std::string EncoderText(const v1::MultiEncoderConfig& encoder) {
  std::string text = NameOf(kEncoders, encoder.kind());
  if (encoder.kind() == v1::MULTI_ENCODER_KIND_MUVERA) {
    const v1::MuveraConfig& muvera = encoder.muvera();
    absl::StrAppend(
        &text, Shown("repetitions", muvera.repetitions()),
        muvera.has_k_sim() ? absl::StrCat(" k_sim=", muvera.k_sim()) : "",
        Shown("d_proj", muvera.d_proj()), Shown("d_final", muvera.d_final()));
  } else if (encoder.kind() == v1::MULTI_ENCODER_KIND_OLS) {
    absl::StrAppend(&text, Shown("features", encoder.ols().features()));
  }
  return text;
}

std::string CodecText(v1::TokenCodec codec) {
  return codec == v1::TOKEN_CODEC_UNSPECIFIED ? "int4" : NameOf(kCodecs, codec);
}

// FLOAT16 when it does not say it.
std::string TypeText(const v1::MultiVectorConfig& config) {
  return std::string(
      client::ElementTypeName(config.type() == v1::ELEMENT_TYPE_UNSPECIFIED
                                  ? ElementType::kFloat16
                                  : client::FromProto(config.type())));
}

nlohmann::ordered_json EncoderJson(const v1::MultiEncoderConfig& encoder) {
  nlohmann::ordered_json out = {{"kind", NameOf(kEncoders, encoder.kind())}};
  if (encoder.has_muvera()) {
    const v1::MuveraConfig& muvera = encoder.muvera();
    out["muvera"] = {{"repetitions", muvera.repetitions()},
                     {"k_sim", nullptr},
                     {"d_proj", muvera.d_proj()},
                     {"d_final", muvera.d_final()}};
    if (muvera.has_k_sim()) out["muvera"]["k_sim"] = muvera.k_sim();
  }
  if (encoder.has_ols()) {
    out["ols"] = {{"features", encoder.ols().features()},
                  {"sample_tokens", encoder.ols().sample_tokens()}};
  }
  return out;
}

}  // namespace

absl::StatusOr<v1::MultiVectorConfig> ParseMultiSpec(absl::string_view spec) {
  const std::vector<absl::string_view> parts = absl::StrSplit(spec, ':');
  uint32_t dim = 0;
  if (parts.size() < 2 || parts[0].empty() ||
      !absl::SimpleAtoi(parts[1], &dim)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--multi ", spec,
                     " is not NAME:DIM[:METRIC][:OPTION...], e.g. "
                     "colbert:128:cosine:f16:max=512."));
  }
  v1::MultiVectorConfig config;
  config.set_name(parts[0].data(), parts[0].size());
  config.set_dim(dim);
  config.set_metric(v1::METRIC_COSINE);
  for (size_t i = 2; i < parts.size(); ++i) {
    const absl::Status status = ParsePart(parts[i], &config);
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--multi ", spec, ": ", status.message()));
    }
  }
  return config;
}

absl::StatusOr<v1::MultiVectorConfig> FindMulti(
    const v1::Collection& collection, absl::string_view name) {
  if (name.empty() && collection.multi_vectors_size() == 1) {
    return collection.multi_vectors(0);
  }
  std::string known;
  for (const v1::MultiVectorConfig& multi : collection.multi_vectors()) {
    if (multi.name() == std::string(name)) return multi;
    absl::StrAppend(&known, known.empty() ? "" : ", ", multi.name());
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "Collection ", collection.name(), " has no multi-vector named \"", name,
      "\"; it has ", known.empty() ? "none" : known, "."));
}

std::string FormatMultiVectors(const v1::Collection& collection) {
  if (collection.multi_vectors().empty()) return {};
  Table table({{"multi-vector"},
               {"dim", Align::kRight},
               {"metric"},
               {"type"},
               {"max tokens", Align::kRight},
               {"empty"},
               {"encoder"},
               {"codec"}});
  for (const v1::MultiVectorConfig& multi : collection.multi_vectors()) {
    table.AddRow(
        {multi.name(), WithCommas(multi.dim()), MetricName(multi.metric()),
         TypeText(multi),
         multi.max_tokens() == 0 ? "default" : WithCommas(multi.max_tokens()),
         multi.allow_empty() ? "yes" : "no", EncoderText(multi.encoder()),
         CodecText(multi.token_codec())});
  }
  return table.Format();
}

nlohmann::ordered_json MultiVectorsToJson(const v1::Collection& collection) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const v1::MultiVectorConfig& multi : collection.multi_vectors()) {
    out.push_back({{"name", multi.name()},
                   {"dim", multi.dim()},
                   {"metric", MetricName(multi.metric())},
                   {"type", TypeText(multi)},
                   {"max_tokens", multi.max_tokens()},
                   {"allow_empty", multi.allow_empty()},
                   {"encoder", EncoderJson(multi.encoder())},
                   {"token_codec", CodecText(multi.token_codec())},
                   {"avg_bits", multi.avg_bits()}});
  }
  return out;
}

}  // namespace vicinal::cli
