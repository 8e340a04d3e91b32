#include "index/sealed_multi.h"

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
#include "absl/strings/string_view.h"
#include "index/sealed_multi_state.h"
#include "src/base/coding.h"
#include "src/base/half.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/distance/distance.h"

namespace vicinal {

using sealed_multi::ExactDepth;
using sealed_multi::Header;
using sealed_multi::Name;

namespace {

// A model of what a search costs, in nanoseconds, fitted to
// docs/BENCHMARKS.md's machine: products of bytes and of floats in one.
constexpr double kByteProductsPerNs = 180;
constexpr double kFloatProductsPerNs = 45;
constexpr double kPerToken = 3;
constexpr double kPerCandidate = 150;  // that lies somewhere

absl::Status Damaged(size_t m, absl::string_view what) {
  return absl::DataLossError(absl::StrCat("multi-vector ", m, ": ", what));
}

// What is compared next, while something else is. (It lies anywhere, so that
// the processor does not see it coming.)
void Prefetch(const void* data, size_t num_bytes) {
  constexpr size_t kLine = 64;
  constexpr size_t kMost = 8192;  // the processor sees more of it coming
  const char* bytes = static_cast<const char*>(data);
  for (size_t at = 0; at < std::min(num_bytes, kMost); at += kLine) {
    __builtin_prefetch(bytes + at);
  }
}

// Of one token, coded or not, against a query.
double TokenNs(const MultiQuery& query, size_t dim,
               double products_per_ns = kByteProductsPerNs) {
  const size_t padded = (query.num_tokens() + 15) / 16 * 16;
  return kPerToken + static_cast<double>(padded * dim) / products_per_ns;
}

// The depth for k, between those that were measured.
size_t DepthFor(std::span<const ExactDepth> depths, size_t k) {
  double ratio = 1;
  for (const ExactDepth& depth : depths) {
    ratio = static_cast<double>(depth.depth) / depth.k;
    if (depth.k >= k) break;
  }
  return std::max(
      kMinExactCandidates,
      static_cast<size_t>(std::ceil(ratio * static_cast<double>(k))));
}

// For a query of fewer tokens than those that were measured, 16 and 32: what is
// wrong with encodings evens out over fewer of them. Measured with 4, 16 and 32
// tokens, OLS and MUVERA: candidates as the power -0.6 of the tokens.
size_t CandidatesFor(size_t measured, size_t num_tokens) {
  constexpr double kShortest = 16;
  const double share =
      kShortest / std::max<double>(1, static_cast<double>(num_tokens));
  if (share <= 1) return measured;
  return static_cast<size_t>(static_cast<double>(measured) *
                             std::pow(share, 0.6));
}

// What the most candidates that were measured found, at the nearest depth that
// is not less than k.
double MostRecall(std::span<const RecallPoint> table, size_t k) {
  double most = 0;
  uint32_t depth = 0;
  for (const RecallPoint& point : table) {
    if (point.k != depth && depth >= k) break;
    if (point.k != depth) most = 0;
    depth = point.k;
    most = std::max<double>(most, point.recall);
  }
  return most;
}

// How far distances by codes are off, of the documents of one search that were
// compared by their tokens so far. The best by codes are compared in their
// order until the next is most unlikely to be among the k best. (Measured at
// recall 0.95, mv-glove-20k and the generated documents: of 32 that may be, 16
// and 18 are compared without the caution for optimistic codes, and none of the
// answers is missed.) One search, one thread.
class CodeErrors {
 public:
  void Add(double distance, double error) {
    // Copies of one document say nothing about others.
    if (count_ > 0 && distance == last_distance_ && error == last_error_) {
      return;
    }
    last_distance_ = distance;
    last_error_ = error;
    ++count_;
    sum_ += error;
    sum2_ += error * error;
  }
  // What the tokens may give, at least, where codes give `distance`.
  double LeastDistance(double distance) const {
    constexpr size_t kEnough = 12;
    constexpr double kDeviations = 4;
    if (count_ < kEnough) return -std::numeric_limits<double>::infinity();
    const auto n = static_cast<double>(count_);
    const double mean = sum_ / n;
    const double variance = std::max(0.0, sum2_ / n - mean * mean);
    // Codes flatter the first more than those that follow: that they are too
    // near on average is not counted on.
    return distance + std::min(mean, 0.0) - kDeviations * std::sqrt(variance);
  }

 private:
  double last_distance_ = 0;
  double last_error_ = 0;
  size_t count_ = 0;
  double sum_ = 0;
  double sum2_ = 0;
};

}  // namespace

SealedMultiField::SealedMultiField(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
SealedMultiField::~SealedMultiField() = default;

absl::StatusOr<std::unique_ptr<SealedMultiField>> SealedMultiField::Open(
    const SectionFile& vectors, const SectionFile& index, size_t m,
    const MultiSpec& spec, size_t num_rows, Place place) {
  auto state = std::make_unique<State>();
  State& s = *state;
  s.spec = spec;
  s.num_rows = num_rows;
  VICINAL_ASSIGN_OR_RETURN(absl::string_view meta,
                           index.Section(Name("MM", m)));
  Header header;
  if (meta.size() < sizeof(header)) return Damaged(m, "MM is cut short");
  std::memcpy(&header, meta.data(), sizeof(header));
  meta.remove_prefix(sizeof(header));
  if (header.version != 1 || header.dim != spec.dim ||
      header.type != static_cast<uint8_t>(spec.type) ||
      header.cosine != static_cast<uint8_t>(spec.cosine) ||
      header.num_rows != num_rows || header.num_field_rows > num_rows) {
    return Damaged(m, "does not fit the schema or the segment");
  }
  s.n = header.num_field_rows;
  const auto take = [&](uint64_t size, absl::string_view* out) {
    if (size > meta.size()) return false;
    *out = meta.substr(0, size);
    meta.remove_prefix(size);
    return true;
  };
  absl::string_view token_codec, encoder, codec, params, description;
  if (!take(header.token_codec_bytes, &token_codec) ||
      !take(header.encoder_bytes, &encoder) ||
      !take(header.codec_bytes, &codec) ||
      !take(header.params_bytes, &params) ||
      !take(header.description_bytes, &description) || !meta.empty()) {
    return Damaged(m, "MM has another length than it says");
  }
  s.description = std::string(description);
  s.hidden = std::make_unique<AtomicBitmap>(s.n);
  s.to_field.assign(num_rows, kInvalidRow);

  const auto section = [&](const SectionFile& file, const char* prefix,
                           uint64_t count, uint64_t size,
                           absl::string_view* out) -> absl::Status {
    VICINAL_ASSIGN_OR_RETURN(*out, file.Section(Name(prefix, m)));
    if (size != 0 && (out->size() / size != count || out->size() % size != 0)) {
      return Damaged(m, absl::StrCat(prefix, " has another length"));
    }
    return absl::OkStatus();
  };
  absl::string_view bytes;
  VICINAL_RETURN_IF_ERROR(section(index, "MR", s.n, sizeof(uint32_t), &bytes));
  s.to_row = {reinterpret_cast<const uint32_t*>(bytes.data()), s.n};
  for (size_t i = 0; i < s.n; ++i) {
    if (s.to_row[i] >= num_rows || s.to_field[s.to_row[i]] != kInvalidRow) {
      return Damaged(m, "MR is no set of rows");
    }
    s.to_field[s.to_row[i]] = static_cast<uint32_t>(i);
  }
  if (s.n == 0)
    return std::unique_ptr<SealedMultiField>(
        new SealedMultiField(std::move(state)));
  VICINAL_RETURN_IF_ERROR(
      section(vectors, "MO", s.n + 1, sizeof(uint64_t), &bytes));
  s.offsets = {reinterpret_cast<const uint64_t*>(bytes.data()), s.n + 1};
  for (size_t i = 0; i < s.n; ++i) {
    if (s.offsets[i + 1] <= s.offsets[i] || s.offsets[0] != 0) {
      return Damaged(m, "MO does not ascend");
    }
  }
  if (s.offsets[s.n] != header.num_tokens) {
    return Damaged(m, "MO ends elsewhere than its tokens");
  }
  VICINAL_RETURN_IF_ERROR(
      section(vectors, "MT", header.num_tokens, spec.token_bytes(), &bytes));
  s.tokens = reinterpret_cast<const std::byte*>(bytes.data());
  VICINAL_ASSIGN_OR_RETURN(s.codec, TokenCodec::Parse(token_codec));
  if (s.codec->dim() != spec.dim) {
    return Damaged(m, "its token codec is another's");
  }
  VICINAL_RETURN_IF_ERROR(section(vectors, "MX", header.num_tokens,
                                  s.codec->record_bytes(), &bytes));
  s.records = reinterpret_cast<const uint8_t*>(bytes.data());
  VICINAL_RETURN_IF_ERROR(s.LoadCalibration(m, index));
  if (header.has_encodings == 0) {
    return std::unique_ptr<SealedMultiField>(
        new SealedMultiField(std::move(state)));
  }

  VICINAL_ASSIGN_OR_RETURN(s.encoder, MultiEncoder::Parse(encoder));
  VICINAL_ASSIGN_OR_RETURN(s.encoding_codec, Codec::Parse(codec));
  const std::optional<MultiEncoderParams> decoded =
      sealed_multi::DecodeParams(params);
  if (!decoded.has_value() || s.encoder->token_dim() != spec.dim ||
      s.encoder->dim() != header.encoding_dim ||
      s.encoding_codec->dim() != header.encoding_dim ||
      s.encoding_codec->metric() != Metric::kInnerProduct) {
    return Damaged(m, "its coders do not fit each other");
  }
  s.params = *decoded;
  const size_t stride = header.encoding_dim * sizeof(uint16_t);
  VICINAL_RETURN_IF_ERROR(section(vectors, "ME", s.n, stride, &bytes));
  s.encodings = {reinterpret_cast<const std::byte*>(bytes.data()), s.n,
                 header.encoding_dim, stride, ElementType::kFloat16};
  absl::string_view lists;
  VICINAL_RETURN_IF_ERROR(section(index, "ML", 0, 0, &lists));
  absl::string_view codes;
  VICINAL_RETURN_IF_ERROR(
      section(index, "MK", CodeBlocksBytes(s.encoding_codec->layout(), s.n), 1,
              &codes));
  s.hot_bytes = lists.size() + codes.size();
  lists = place(lists);
  codes = place(codes);
  VICINAL_ASSIGN_OR_RETURN(
      std::unique_ptr<IvfIndex> opened,
      IvfIndex::Open(s.encodings, Metric::kInnerProduct, lists));
  opened->UseCodes(s.encoding_codec.get(),
                   reinterpret_cast<const uint8_t*>(codes.data()));
  s.index = std::move(opened);
  return std::unique_ptr<SealedMultiField>(
      new SealedMultiField(std::move(state)));
}

absl::Status SealedMultiField::State::LoadCalibration(size_t m,
                                                      const SectionFile& file) {
  VICINAL_ASSIGN_OR_RETURN(absl::string_view bytes,
                           file.Section(Name("MC", m)));
  uint32_t num_points = 0;
  if (!ConsumeFixed(&bytes, &num_points)) return Damaged(m, "MC is cut short");
  for (uint32_t i = 0; i < num_points; ++i) {
    RecallPoint point;
    if (!ConsumeFixed(&bytes, &point.recall) ||
        !ConsumeFixed(&bytes, &point.k) || !ConsumeFixed(&bytes, &point.ef) ||
        !std::isfinite(point.recall) || point.k == 0 || point.ef == 0) {
      return Damaged(m, "MC has points that are none");
    }
    table.push_back(point);
  }
  ExactDepth depth;
  while (ConsumeFixed(&bytes, &depth.k) && ConsumeFixed(&bytes, &depth.depth)) {
    if (depth.k == 0 || depth.depth < depth.k) {
      return Damaged(m, "MC has depths that are none");
    }
    depths.push_back(depth);
  }
  return bytes.empty() ? absl::OkStatus() : Damaged(m, "MC is cut short");
}

TokenRows SealedMultiField::TokensOf(RowId row) const {
  const RowId field_row = state_->to_field[row];
  return field_row == kInvalidRow ? TokenRows{} : state_->TokensAt(field_row);
}

bool SealedMultiField::has_encodings() const {
  return state_->index != nullptr;
}
std::optional<MultiEncoderParams> SealedMultiField::encoder_params() const {
  if (!has_encodings()) return std::nullopt;
  return state_->params;
}
std::string SealedMultiField::Describe() const { return state_->description; }
size_t SealedMultiField::token_bytes() const {
  return state_->num_tokens() * state_->spec.token_bytes();
}
size_t SealedMultiField::index_bytes() const {
  const State& s = *state_;
  if (s.n == 0) return 0;
  return s.num_tokens() * s.codec->record_bytes() + s.hot_bytes +
         s.encodings.num_rows * s.encodings.stride_bytes;
}

void SealedMultiField::Kill(RowId row) {
  const RowId field_row = state_->to_field[row];
  if (field_row != kInvalidRow) state_->hidden->Set(field_row);
}

TokenDocuments SealedMultiField::documents() const {
  const State& s = *state_;
  return {.tokens = s.tokens,
          .offsets = s.offsets.data(),
          .num_docs = s.n,
          .dim = s.spec.dim,
          .type = s.spec.type,
          .cosine = s.spec.cosine};
}
RowId SealedMultiField::DocumentOf(RowId row) const {
  return state_->to_field[row];
}
RowId SealedMultiField::RowOf(RowId document) const {
  return state_->to_row[document];
}
size_t SealedMultiField::num_dead_documents() const {
  return state_->hidden->Count();
}

Filter SealedMultiField::DocumentFilter(const Filter& rows,
                                        std::optional<Bitmap>* bits) const {
  return state_->FilterOf(rows, 0, static_cast<RowId>(state_->num_rows), bits);
}

double SealedMultiField::ScoreNs(const MultiQuery& query,
                                 size_t num_tokens) const {
  return static_cast<double>(num_tokens) *
         TokenNs(query, state_->spec.dim, kFloatProductsPerNs);
}

double SealedMultiField::SearchNs(const MultiQuery& query,
                                  const MultiSearchParams& params,
                                  size_t num_accepted) const {
  const State& s = *state_;
  if (s.n == 0) return 0;
  const auto exactly = [&](size_t rows) {
    return ScoreNs(query, s.num_tokens() * rows / s.n);
  };
  if (params.exact) return exactly(num_accepted);
  const State::Effort effort = s.EffortFor(query, params, num_accepted);
  return effort.codes_ns +
         exactly(std::min(effort.exact_candidates, num_accepted));
}

bool SealedMultiField::IsExact(const MultiSearchParams& params) const {
  return params.exact || state_->n == 0;
}

Filter SealedMultiField::State::FilterOf(const Filter& filter, RowId begin,
                                         RowId end,
                                         std::optional<Bitmap>* bits) const {
  const RowId first = std::max(begin, filter.begin);
  const auto last =
      static_cast<RowId>(std::min<size_t>(num_rows, std::min(end, filter.end)));
  if (filter.allowed == nullptr && first == 0 && last == num_rows) {
    return {.deleted = hidden.get()};
  }
  Filter out{.deleted = hidden.get()};
  bits->emplace(n);
  const auto allow = [&](RowId row) {
    const RowId field_row = to_field[row];
    if (field_row == kInvalidRow) return;
    (*bits)->Set(field_row);
    ++out.num_allowed;
  };
  if (filter.allowed != nullptr) {
    filter.allowed->ForEachIn(first, std::max(first, last), allow);
  } else {
    for (RowId row = first; row < last; ++row) allow(row);
  }
  out.allowed = &**bits;
  return out;
}

size_t SealedMultiField::State::RescoreFor(size_t candidates) const {
  // Coarser codes put some candidates farther down. Measured with 1, 1.5 and 2
  // bits: recall of 500 candidates within a point of uncoded encodings.
  constexpr double kFine = 1.5;
  const double bits = 8.0 * encoding_codec->layout().record_bytes /
                      static_cast<double>(encodings.dim);
  return std::min(n, candidates * (bits >= kFine ? 2 : 4));
}

SealedMultiField::State::Effort SealedMultiField::State::EffortFor(
    const MultiQuery& query, const MultiSearchParams& asked,
    size_t num_accepted) const {
  // Of the candidates that the encodings do not find some are not found again
  // by the codes.
  constexpr double kOfMisses = 0.8;
  Effort effort;
  effort.exact_candidates = std::max(asked.k, asked.exact_candidates != 0
                                                  ? asked.exact_candidates
                                                  : DepthFor(depths, asked.k));
  const double document_ns = static_cast<double>(num_tokens()) /
                             static_cast<double>(n) * TokenNs(query, spec.dim);
  const double scan_ns = static_cast<double>(num_accepted) * document_ns;
  effort.codes_ns = scan_ns;
  if (index == nullptr || asked.force == ForcedPlan::kScan) return effort;
  const double target = 1 - kOfMisses * (1 - asked.recall_target);
  effort.candidates =
      asked.candidates != 0
          ? asked.candidates
          : std::max(effort.exact_candidates,
                     CandidatesFor(ParamsForRecall(table, asked.k, target).ef,
                                   query.num_tokens()));
  effort.candidates = std::min(std::max(effort.candidates, asked.k), n);
  effort.rescore = asked.rescore != 0
                       ? std::max(asked.rescore, effort.candidates)
                       : RescoreFor(effort.candidates);
  if (asked.force == ForcedPlan::kIndex || asked.candidates != 0 ||
      asked.rescore != 0) {
    effort.scans = effort.candidates >= num_accepted;
    return effort;
  }
  if (MostRecall(table, asked.k) < asked.recall_target) return effort;
  // The cheaper of both.
  const double encodings_ns =
      index->cost().Of(1, static_cast<double>(effort.rescore)) +
      static_cast<double>((query.num_tokens() * spec.dim + encodings.dim) * 2 *
                          encodings.dim) /
          kFloatProductsPerNs +
      static_cast<double>(effort.candidates) * (document_ns + kPerCandidate);
  effort.scans = scan_ns <= encodings_ns;
  effort.codes_ns = std::min(scan_ns, encodings_ns);
  return effort;
}

absl::StatusOr<std::vector<Neighbor>> SealedMultiField::State::FindCandidates(
    const MultiQuery& query, const Effort& effort, const Filter& filter,
    const StopCondition& stop, SearchStats* stats) const {
  std::vector<float> encoding(encodings.dim);
  encoder->EncodeQuery(query.tokens(), query.weights(), encoding.data());
  // Of queries that are taken, no sound encoder overflows.
  if (!AllFinite(encoding.data(), encoding.size())) {
    return absl::DataLossError(
        "a multi-vector's encoder gave a value that is not finite");
  }
  float largest = 0;
  for (const float value : encoding)
    largest = std::max(largest, std::abs(value));
  // Any length ranks alike; this one fits f16.
  const float scale = largest > 0 ? 1 / largest : 0;
  for (float& value : encoding) value *= scale;
  std::vector<uint16_t> halves(encoding.size());
  FloatToHalf(encoding, halves);
  TopK found(effort.candidates);
  VICINAL_RETURN_IF_ERROR(
      index->Search(halves.data(),
                    {.k = effort.candidates, .ef = 1, .rerank = effort.rescore},
                    filter, stop, &found, stats));
  return found.TakeSorted();
}

absl::Status SealedMultiField::State::ScanCodes(const MultiQuery& query,
                                                const Filter& filter,
                                                const StopCondition& stop,
                                                TopK* nearest,
                                                MultiStats* work) const {
  const TokenCodeQuery coded = codec->Prepare(query.tokens(), query.weights());
  std::vector<float> scratch(16 * coded.num_panels);
  size_t since_check = 0;
  absl::Status status;
  const auto compare = [&](RowId row) {
    if (!status.ok() || hidden->Test(row)) return;
    nearest->Push({-CodedScore(coded, row, scratch.data()), row});
    ++work->num_candidates;
    since_check += offsets[row + 1] - offsets[row];
    if (since_check < kTokensPerCheck) return;
    since_check = 0;
    status = stop.Check();
  };
  if (filter.allowed != nullptr) {
    filter.allowed->ForEach(compare);
  } else {
    for (RowId row = 0; row < n && status.ok(); ++row) compare(row);
  }
  return status;
}

absl::Status SealedMultiField::State::CompareCodes(
    const MultiQuery& query, std::vector<Neighbor> candidates,
    const StopCondition& stop, TopK* nearest) const {
  // In the order in which they lie.
  std::sort(candidates.begin(), candidates.end(),
            [](const Neighbor& a, const Neighbor& b) { return a.row < b.row; });
  const TokenCodeQuery coded = codec->Prepare(query.tokens(), query.weights());
  std::vector<float> scratch(16 * coded.num_panels);
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (i % 64 == 0) VICINAL_RETURN_IF_ERROR(stop.Check());
    if (i + 1 < candidates.size()) {
      const RowId next = candidates[i + 1].row;
      Prefetch(records + offsets[next] * codec->record_bytes(),
               (offsets[next + 1] - offsets[next]) * codec->record_bytes());
    }
    const RowId row = candidates[i].row;
    nearest->Push({-CodedScore(coded, row, scratch.data()), row});
  }
  return absl::OkStatus();
}

absl::Status SealedMultiField::Search(const MultiQuery& query,
                                      const MultiSearchParams& params,
                                      const Filter& filter, RowId begin,
                                      RowId end, const StopCondition& stop,
                                      TopK* out, SearchStats* stats,
                                      MultiStats* multi) const {
  const State& s = *state_;
  if (s.n == 0) return absl::OkStatus();
  std::optional<Bitmap> bits;
  const Filter accepted = s.FilterOf(filter, begin, end, &bits);
  if (accepted.allowed != nullptr && accepted.num_allowed == 0) {
    return absl::OkStatus();
  }
  SearchStats done;
  MultiStats work;
  size_t since_check = 0;
  absl::Status status;
  const auto compare = [&](RowId row) {
    if (!status.ok()) return 0.0f;
    const TokenRows tokens = s.TokensAt(row);
    const float distance = -query.Score(tokens);
    out->Push({distance, s.to_row[row]});
    ++work.num_exact;
    done.distance_computations += tokens.num_tokens;
    since_check += tokens.num_tokens;
    if (since_check >= kTokensPerCheck / 4) {
      since_check = 0;
      status = stop.Check();
    }
    return distance;
  };
  if (params.exact) {
    done.plan = SearchPlan::kScan;
    for (RowId row = 0; row < s.n && status.ok(); ++row) {
      if (accepted.Accepts(row)) compare(row);
    }
    AddWork(done, work, stats, multi);
    return status;
  }
  const State::Effort effort =
      s.EffortFor(query, params, accepted.NumAccepted(s.n));
  TopK nearest(std::min(effort.exact_candidates, s.n));
  if (effort.scans) {
    done.plan = SearchPlan::kCodes;
    VICINAL_RETURN_IF_ERROR(
        s.ScanCodes(query, accepted, stop, &nearest, &work));
  } else {
    VICINAL_ASSIGN_OR_RETURN(
        std::vector<Neighbor> candidates,
        s.FindCandidates(query, effort, accepted, stop, &done));
    work.num_candidates = candidates.size();
    VICINAL_RETURN_IF_ERROR(
        s.CompareCodes(query, std::move(candidates), stop, &nearest));
    done.plan = SearchPlan::kCodes;  // whatever the index did with encodings
  }
  CodeErrors errors;
  for (const Neighbor& neighbor : nearest.TakeSorted()) {
    // Beside a scan a few more take no time.
    if (!effort.scans && params.exact_candidates == 0 &&
        errors.LeastDistance(neighbor.distance) > out->threshold()) {
      break;
    }
    errors.Add(neighbor.distance, compare(neighbor.row) - neighbor.distance);
  }
  AddWork(done, work, stats, multi);
  return status;
}

}  // namespace vicinal
