#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "index/encoder_choice.h"
#include "index/ivf.h"
#include "index/sealed_multi_state.h"
#include "src/base/coding.h"
#include "src/base/half.h"
#include "src/base/mapped_buffer.h"
#include "src/base/status_macros.h"
#include "src/base/workers.h"

namespace vicinal {

using sealed_multi::Header;
using sealed_multi::Name;

namespace {

constexpr size_t kCodecSample = 16'384;
// Documents that encoders are trained on, and tokens of each of them.
constexpr size_t kEncoderSample = 3'072;
constexpr size_t kMaxSampleTokens = 128;
constexpr size_t kMaxSampleFloats = size_t{1} << 26;
// Floats that a thread has of documents at a time, unless one has more.
constexpr size_t kMaxBlockFloats = size_t{1} << 21;
// Documents that are encoded or written at a time.
constexpr size_t kBlock = 64;
// From which the mean encoding and the scale follow.
constexpr size_t kMeanSample = 2'048;
// Bits per dimension of the codes of encodings. Measured: see BENCHMARKS.md.
constexpr float kDefaultBits = 2;

template <typename T>
absl::string_view AsBytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()),
          values.size() * sizeof(T)};
}

}  // namespace

namespace sealed_multi {

std::string EncodeParams(const MultiEncoderParams& params) {
  std::string out;
  PutFixed(&out, static_cast<uint8_t>(params.kind));
  PutFixed(&out, static_cast<uint8_t>(params.muvera.projection));
  PutFixed(&out, static_cast<uint8_t>(params.muvera.fill));
  PutFixed(&out, static_cast<uint8_t>(params.muvera.centering));
  for (const uint32_t value :
       {params.muvera.repetitions, params.muvera.k_sim, params.muvera.d_proj,
        params.muvera.d_final, params.ols.features, params.ols.sample_tokens}) {
    PutFixed(&out, value);
  }
  PutFixed(&out, params.ols.ridge);
  PutFixed(&out, params.seed);
  return out;
}

std::optional<MultiEncoderParams> DecodeParams(absl::string_view bytes) {
  MultiEncoderParams params;
  uint8_t kind = 0, projection = 0, fill = 0, centering = 0;
  if (!ConsumeFixed(&bytes, &kind) || !ConsumeFixed(&bytes, &projection) ||
      !ConsumeFixed(&bytes, &fill) || !ConsumeFixed(&bytes, &centering) ||
      !ConsumeFixed(&bytes, &params.muvera.repetitions) ||
      !ConsumeFixed(&bytes, &params.muvera.k_sim) ||
      !ConsumeFixed(&bytes, &params.muvera.d_proj) ||
      !ConsumeFixed(&bytes, &params.muvera.d_final) ||
      !ConsumeFixed(&bytes, &params.ols.features) ||
      !ConsumeFixed(&bytes, &params.ols.sample_tokens) ||
      !ConsumeFixed(&bytes, &params.ols.ridge) ||
      !ConsumeFixed(&bytes, &params.seed) || !bytes.empty() || kind < 1 ||
      kind > 2 || projection < 1 || projection > 2 || fill > 2 ||
      centering > 3) {
    return std::nullopt;
  }
  params.kind = static_cast<MultiEncoderParams::Kind>(kind);
  params.muvera.projection = static_cast<MuveraParams::Projection>(projection);
  params.muvera.fill = static_cast<MuveraParams::Fill>(fill);
  params.muvera.centering = static_cast<MuveraParams::Centering>(centering);
  return params;
}

std::string EncodeCalibration(std::span<const RecallPoint> table,
                              std::span<const ExactDepth> depths) {
  std::string out;
  PutFixed(&out, static_cast<uint32_t>(table.size()));
  for (const RecallPoint& point : table) {
    PutFixed(&out, point.recall);
    PutFixed(&out, point.k);
    PutFixed(&out, point.ef);
  }
  for (const ExactDepth& depth : depths) {
    PutFixed(&out, depth.k);
    PutFixed(&out, depth.depth);
  }
  return out;
}

}  // namespace sealed_multi

struct MultiFieldBuild::State {
  absl::Status CheckCancelled() const {
    return options.cancel != nullptr && options.cancel->cancelled()
               ? absl::CancelledError("the index build was cancelled")
               : absl::OkStatus();
  }
  void Phase(absl::string_view phase) const {
    if (options.on_phase) options.on_phase(phase);
  }
  TokenRows TokensOf(uint32_t row) const {
    return rows[row].field->TokensOf(rows[row].row);
  }
  // The tokens of documents order[begin .. end] as floats, and their ends.
  void Load(size_t begin, size_t end, std::vector<float>* tokens,
            std::vector<size_t>* ends) const;
  // Where a block of documents from `begin` on ends, at most at `end`.
  size_t BlockEnd(size_t begin, size_t end) const {
    size_t floats = 0;
    size_t i = begin;
    while (i < end && (i == begin || floats < kMaxBlockFloats)) {
      floats += TokensOf(order[i++]).num_tokens * spec.dim;
    }
    return i;
  }
  // At most `count` tokens from all over the documents.
  std::vector<float> SampleTokens(size_t count) const;
  // Documents from all over, of long ones some tokens.
  void SampleWhole(std::vector<float>* tokens, std::vector<size_t>* ends) const;
  absl::Status PrepareEncoder();
  // Into `encodings`, in the order of `order`.
  absl::Status EncodeAll();
  absl::Status WriteTokens(SectionFileWriter* writer) const;
  absl::Status View(const SectionFile& vectors,
                    SealedMultiField::State* out) const;
  absl::Status CodeEncodings(SealedMultiField::State* built, std::string* lists,
                             std::vector<uint8_t>* codes) const;
  absl::Status WriteCodes(SectionFileWriter* writer) const;

  MultiSpec spec;
  size_t m = 0;
  std::vector<MultiSource> rows;
  MultiBuildOptions options;
  std::vector<uint32_t> order;  // of field rows: the segment's row
  size_t num_tokens = 0;
  std::unique_ptr<const TokenCodec> codec;
  std::unique_ptr<const MultiEncoder> encoder;  // null: none
  MultiEncoderParams params;
  std::string description;
  MappedBuffer encodings;  // f16
};

MultiFieldBuild::MultiFieldBuild(const MultiSpec& spec, size_t m,
                                 std::vector<MultiSource> rows,
                                 MultiBuildOptions options)
    : state_(std::make_unique<State>()) {
  state_->spec = spec;
  state_->m = m;
  state_->rows = std::move(rows);
  state_->options = std::move(options);
}
MultiFieldBuild::~MultiFieldBuild() = default;

void MultiFieldBuild::State::Load(size_t begin, size_t end,
                                  std::vector<float>* tokens,
                                  std::vector<size_t>* ends) const {
  size_t count = 0;
  ends->clear();
  for (size_t i = begin; i < end; ++i) {
    count += TokensOf(order[i]).num_tokens;
    ends->push_back(count);
  }
  tokens->resize(count * spec.dim);
  count = 0;
  for (size_t i = begin; i < end; ++i) {
    const TokenRows row = TokensOf(order[i]);
    LoadTokens(spec, row, 0, row.num_tokens, tokens->data() + count * spec.dim);
    count += row.num_tokens;
  }
}

std::vector<float> MultiFieldBuild::State::SampleTokens(size_t count) const {
  count = std::min(count, num_tokens);
  std::vector<float> out(count * spec.dim);
  // Token i of the sample is token i * num_tokens / count of all.
  size_t next = 0;
  size_t first = 0;
  for (size_t i = 0; i < order.size() && next < count; ++i) {
    const TokenRows row = TokensOf(order[i]);
    for (; next < count; ++next) {
      const size_t at = next * num_tokens / count;
      if (at >= first + row.num_tokens) break;
      LoadTokens(spec, row, at - first, 1, &out[next * spec.dim]);
    }
    first += row.num_tokens;
  }
  return out;
}

void MultiFieldBuild::State::SampleWhole(std::vector<float>* tokens,
                                         std::vector<size_t>* ends) const {
  const size_t count = std::min(order.size(), kEncoderSample);
  const size_t most = std::clamp<size_t>(kMaxSampleFloats / (count * spec.dim),
                                         1, kMaxSampleTokens);
  tokens->reserve(std::min(num_tokens, count * most) * spec.dim);
  size_t taken = 0;
  for (size_t i = 0; i < count; ++i) {
    const TokenRows row = TokensOf(order[i * order.size() / count]);
    const size_t of_row = std::min(row.num_tokens, most);
    tokens->resize((taken + of_row) * spec.dim);
    for (size_t j = 0; j < of_row; ++j, ++taken) {
      LoadTokens(spec, row, j * row.num_tokens / of_row, 1,
                 tokens->data() + taken * spec.dim);
    }
    ends->push_back(taken);
  }
}

absl::Status MultiFieldBuild::State::PrepareEncoder() {
  if (spec.encoder.kind == MultiEncoderParams::Kind::kNone ||
      order.size() < sealed_multi::kMinEncodedRows ||
      num_tokens < sealed_multi::kMinEncodedTokens) {
    return absl::OkStatus();
  }
  params = spec.encoder;
  if (params.muvera.d_final == 0 &&
      FdeDim(params.muvera, spec.dim) > kMaxEncodingDim) {
    params.muvera.d_final = kMaxEncodingDim;
  }
  if (NeedsChoice(params)) {
    // What was measured once holds for the rows that come later.
    for (const MultiSource& source : rows) {
      const auto chosen = source.field->encoder_params();
      if (chosen.has_value() &&
          (params.kind == MultiEncoderParams::Kind::kAuto ||
           params.kind == chosen->kind)) {
        params = *chosen;
        description = source.field->Describe();
        break;
      }
    }
  }
  std::vector<float> tokens;
  std::vector<size_t> ends;
  SampleWhole(&tokens, &ends);
  const SampleDocuments sample{
      {tokens.data(), tokens.size() / spec.dim, spec.dim, spec.dim}, ends};
  if (NeedsChoice(params)) {
    Phase("choosing an encoder");
    std::vector<TokenRows> documents;
    documents.reserve(order.size());
    for (const uint32_t row : order) documents.push_back(TokensOf(row));
    VICINAL_ASSIGN_OR_RETURN(
        EncoderChoice choice,
        ChooseEncoder(spec, params, documents, sample, options.num_threads,
                      options.cancel));
    params = choice.params;
    encoder = std::move(choice.encoder);
    description = std::move(choice.description);
    return absl::OkStatus();
  }
  Phase("training an encoder");
  VICINAL_ASSIGN_OR_RETURN(
      encoder,
      TrainMultiEncoder(params, sample, options.num_threads, options.cancel));
  if (description.empty()) description = encoder->Describe();
  return absl::OkStatus();
}

absl::Status MultiFieldBuild::State::EncodeAll() {
  Phase("encoding documents");
  const size_t n = order.size();
  const size_t dim = encoder->dim();
  Workers workers(options.num_threads);
  // What all encodings have in common ranks nothing: it is taken off, and the
  // rest is scaled to where f16 is finest.
  const size_t in_sample = std::min(n, kMeanSample);
  std::vector<float> sample(in_sample * dim);
  workers.For(in_sample, kBlock, [&](size_t begin, size_t end, size_t) {
    if (!CheckCancelled().ok()) return;
    std::vector<float> tokens;
    std::vector<size_t> ends;
    for (size_t i = begin; i < end; ++i) {
      const size_t at = i * n / in_sample;
      Load(at, at + 1, &tokens, &ends);
      encoder->EncodeDocuments({tokens.data(), ends[0], spec.dim, spec.dim},
                               ends, &sample[i * dim]);
    }
  });
  VICINAL_RETURN_IF_ERROR(CheckCancelled());
  std::vector<double> sums(dim);
  for (size_t i = 0; i < sample.size(); ++i) sums[i % dim] += sample[i];
  std::vector<float> mean(dim);
  for (size_t t = 0; t < dim; ++t) {
    mean[t] = static_cast<float>(sums[t] / static_cast<double>(in_sample));
  }
  float largest = 0;
  for (size_t i = 0; i < sample.size(); ++i) {
    largest = std::max(largest, std::abs(sample[i] - mean[i % dim]));
  }
  constexpr float kLargest = 1'000;  // others may be larger, but not 65 times
  const float scale = largest > 1e-30f ? kLargest / largest : 0;

  encodings = MappedBuffer(n * dim * sizeof(uint16_t));
  auto* halves = reinterpret_cast<uint16_t*>(encodings.data());
  workers.For(n, kBlock, [&](size_t first, size_t last, size_t) {
    std::vector<float> tokens;
    std::vector<size_t> ends;
    std::vector<float> out;
    for (size_t begin = first, end = first; begin < last; begin = end) {
      if (!CheckCancelled().ok()) return;
      end = BlockEnd(begin, last);
      Load(begin, end, &tokens, &ends);
      out.resize((end - begin) * dim);
      encoder->EncodeDocuments({tokens.data(), ends.back(), spec.dim, spec.dim},
                               ends, out.data());
      for (size_t i = 0; i < out.size(); ++i) {
        constexpr float kLimit = 60'000;
        out[i] = std::clamp((out[i] - mean[i % dim]) * scale, -kLimit, kLimit);
      }
      FloatToHalf(out, {halves + begin * dim, out.size()});
    }
  });
  return CheckCancelled();
}

absl::Status MultiFieldBuild::State::WriteTokens(
    SectionFileWriter* writer) const {
  std::vector<uint64_t> offsets = {0};
  offsets.reserve(order.size() + 1);
  for (const uint32_t row : order) {
    offsets.push_back(offsets.back() + TokensOf(row).num_tokens);
  }
  VICINAL_RETURN_IF_ERROR(writer->BeginSection(Name("MO", m)));
  VICINAL_RETURN_IF_ERROR(writer->Append(AsBytes(offsets)));
  VICINAL_RETURN_IF_ERROR(writer->BeginSection(Name("MT", m)));
  for (const uint32_t row : order) {
    const TokenRows tokens = TokensOf(row);
    VICINAL_RETURN_IF_ERROR(
        writer->Append({reinterpret_cast<const char*>(tokens.data),
                        tokens.num_tokens * spec.token_bytes()}));
  }
  return CheckCancelled();
}

absl::Status MultiFieldBuild::State::WriteCodes(
    SectionFileWriter* writer) const {
  Phase("coding tokens");
  VICINAL_RETURN_IF_ERROR(writer->BeginSection(Name("MX", m)));
  constexpr size_t kBlocks = 64;  // at a time
  Workers workers(options.num_threads);
  std::vector<std::string> coded(kBlocks);
  for (size_t first = 0; first < order.size(); first += kBlocks * kBlock) {
    VICINAL_RETURN_IF_ERROR(CheckCancelled());
    const size_t last = std::min(order.size(), first + kBlocks * kBlock);
    workers.For(kBlocks, 1, [&](size_t b, size_t, size_t) {
      const size_t begin = std::min(last, first + b * kBlock);
      const size_t end = std::min(last, begin + kBlock);
      coded[b].clear();
      std::vector<float> tokens;
      std::vector<size_t> ends;
      for (size_t from = begin, to = begin; from < end; from = to) {
        if (!CheckCancelled().ok()) return;
        to = BlockEnd(from, end);
        Load(from, to, &tokens, &ends);
        const size_t at = coded[b].size();
        coded[b].resize(at + ends.back() * codec->record_bytes());
        codec->Encode({tokens.data(), ends.back(), spec.dim, spec.dim},
                      reinterpret_cast<uint8_t*>(coded[b].data() + at));
      }
    });
    for (const std::string& bytes : coded) {
      if (bytes.empty()) continue;
      VICINAL_RETURN_IF_ERROR(writer->Append(bytes));
    }
  }
  return absl::OkStatus();
}

absl::Status MultiFieldBuild::WriteVectors(SectionFileWriter* writer) {
  State& s = *state_;
  for (uint32_t row = 0; row < s.rows.size(); ++row) {
    const size_t count = s.TokensOf(row).num_tokens;
    if (count == 0) continue;
    s.order.push_back(row);
    s.num_tokens += count;
  }
  if (s.order.empty()) return absl::OkStatus();
  const std::vector<float> sample = s.SampleTokens(kCodecSample);
  VICINAL_ASSIGN_OR_RETURN(
      s.codec,
      TokenCodec::Train(
          s.spec.token_codec, s.spec.dim,
          {sample.data(), sample.size() / s.spec.dim, s.spec.dim, s.spec.dim},
          s.spec.encoder.seed, s.options.num_threads, s.options.cancel));
  VICINAL_RETURN_IF_ERROR(s.PrepareEncoder());
  if (s.encoder != nullptr) VICINAL_RETURN_IF_ERROR(s.EncodeAll());
  VICINAL_RETURN_IF_ERROR(s.WriteTokens(writer));
  VICINAL_RETURN_IF_ERROR(s.WriteCodes(writer));
  if (s.encoder == nullptr) return absl::OkStatus();
  VICINAL_RETURN_IF_ERROR(writer->BeginSection(Name("ME", s.m)));
  VICINAL_RETURN_IF_ERROR(
      writer->Append({reinterpret_cast<const char*>(s.encodings.data()),
                      s.encodings.size_bytes()}));
  s.encodings = MappedBuffer();
  return absl::OkStatus();
}

// The field as it lies in the finished file.
absl::Status MultiFieldBuild::State::View(const SectionFile& vectors,
                                          SealedMultiField::State* out) const {
  out->spec = spec;
  out->num_rows = rows.size();
  out->n = order.size();
  out->hidden = std::make_unique<AtomicBitmap>(out->n);
  VICINAL_ASSIGN_OR_RETURN(absl::string_view bytes,
                           vectors.Section(Name("MO", m)));
  out->offsets = {reinterpret_cast<const uint64_t*>(bytes.data()), out->n + 1};
  VICINAL_ASSIGN_OR_RETURN(bytes, vectors.Section(Name("MT", m)));
  out->tokens = reinterpret_cast<const std::byte*>(bytes.data());
  VICINAL_ASSIGN_OR_RETURN(bytes, vectors.Section(Name("MX", m)));
  out->records = reinterpret_cast<const uint8_t*>(bytes.data());
  if (encoder == nullptr) return absl::OkStatus();
  VICINAL_ASSIGN_OR_RETURN(bytes, vectors.Section(Name("ME", m)));
  const size_t dim = encoder->dim();
  out->encodings = {reinterpret_cast<const std::byte*>(bytes.data()), out->n,
                    dim, dim * sizeof(uint16_t), ElementType::kFloat16};
  return absl::OkStatus();
}

// The index of a scan of codes, which borrows *lists and *codes.
absl::Status MultiFieldBuild::State::CodeEncodings(
    SealedMultiField::State* built, std::string* lists,
    std::vector<uint8_t>* codes) const {
  Phase("coding encodings");
  VICINAL_ASSIGN_OR_RETURN(
      IvfLists one_list,
      BuildIvfLists(built->encodings, Metric::kInnerProduct, {.num_lists = 1},
                    options.num_threads, options.cancel));
  *lists = std::move(one_list.bytes);
  VICINAL_ASSIGN_OR_RETURN(
      std::unique_ptr<IvfIndex> index,
      IvfIndex::Open(built->encodings, Metric::kInnerProduct, *lists));
  const RowCentres centres = index->centres();
  CodecParams codec_params;
  codec_params.avg_bits = spec.avg_bits != 0 ? spec.avg_bits : kDefaultBits;
  // Those of MUVERA are random projections: no dimension says more than others.
  const float bits = codec_params.avg_bits;
  if (params.kind == MultiEncoderParams::Kind::kMuvera &&
      (bits == 1 || bits == 2 || bits == 4 || bits == 8)) {
    codec_params.kind = CodecKind::kRbq;
  }
  VICINAL_ASSIGN_OR_RETURN(
      built->encoding_codec,
      TrainCodec(built->encodings, Metric::kInnerProduct, codec_params,
                 options.num_threads, options.cancel, &centres));
  const CodeLayout& layout = built->encoding_codec->layout();
  std::vector<uint8_t> records(built->n * layout.record_bytes);
  VICINAL_RETURN_IF_ERROR(built->encoding_codec->Encode(
      built->encodings, records, options.num_threads, options.cancel,
      &centres));
  codes->resize(CodeBlocksBytes(layout, built->n));
  PackCodeBlocks(layout, records.data(), built->n, codes->data());
  index->UseCodes(built->encoding_codec.get(), codes->data());
  built->index = std::move(index);
  return absl::OkStatus();
}

absl::Status MultiFieldBuild::WriteIndex(const SectionFile& vectors,
                                         SectionFileWriter* writer) {
  State& s = *state_;
  Header header;
  header.dim = static_cast<uint32_t>(s.spec.dim);
  header.type = static_cast<uint8_t>(s.spec.type);
  header.cosine = static_cast<uint8_t>(s.spec.cosine);
  header.num_rows = s.rows.size();
  header.num_field_rows = s.order.size();
  header.num_tokens = s.num_tokens;
  std::string token_codec;
  std::string encoder;
  std::string codec;
  std::string params;
  VICINAL_RETURN_IF_ERROR(writer->BeginSection(Name("MR", s.m)));
  VICINAL_RETURN_IF_ERROR(writer->Append(AsBytes(s.order)));
  if (s.codec != nullptr) token_codec = s.codec->Serialize();
  if (!s.order.empty()) {
    // As a search sees it, to be measured.
    SealedMultiField::State built;
    VICINAL_RETURN_IF_ERROR(s.View(vectors, &built));
    std::string lists;
    std::vector<uint8_t> codes;
    if (s.encoder != nullptr) {
      VICINAL_RETURN_IF_ERROR(s.CodeEncodings(&built, &lists, &codes));
      header.has_encodings = 1;
      header.encoding_dim = s.encoder->dim();
      encoder = s.encoder->Serialize();
      codec = built.encoding_codec->Serialize();
      params = sealed_multi::EncodeParams(s.params);
    }
    built.codec = std::move(s.codec);
    built.encoder = std::move(s.encoder);
    s.Phase("measuring recall");
    VICINAL_RETURN_IF_ERROR(
        built.Calibrate(s.options.num_threads, s.options.cancel));
    const std::string table =
        sealed_multi::EncodeCalibration(built.table, built.depths);
    for (const auto& [name, content] :
         {std::pair<const char*, absl::string_view>{"ML", lists},
          {"MK", AsBytes(codes)},
          {"MC", table}}) {
      if (content.empty()) continue;
      VICINAL_RETURN_IF_ERROR(writer->BeginSection(Name(name, s.m)));
      VICINAL_RETURN_IF_ERROR(writer->Append(content));
    }
  }
  header.token_codec_bytes = token_codec.size();
  header.encoder_bytes = encoder.size();
  header.codec_bytes = codec.size();
  header.params_bytes = params.size();
  header.description_bytes = s.description.size();
  VICINAL_RETURN_IF_ERROR(writer->BeginSection(Name("MM", s.m)));
  for (const absl::string_view part :
       {absl::string_view(reinterpret_cast<const char*>(&header),
                          sizeof(header)),
        absl::string_view(token_codec), absl::string_view(encoder),
        absl::string_view(codec), absl::string_view(params),
        absl::string_view(s.description)}) {
    VICINAL_RETURN_IF_ERROR(writer->Append(part));
  }
  return absl::OkStatus();
}

}  // namespace vicinal
