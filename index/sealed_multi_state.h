// What the parts of a sealed multi-vector share; for its .cc files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "index/calibration.h"
#include "index/ivf.h"
#include "index/sealed_multi.h"
#include "quant/codec.h"
#include "quant/multi_encoder.h"
#include "quant/token_codec.h"
#include "src/base/bitmap.h"
#include "src/base/vector_set.h"

namespace vicinal {

namespace sealed_multi {

// Of a field with fewer rows or tokens all coded tokens are scanned: that is as
// fast as a search for candidates, and exact but for the codes.
inline constexpr size_t kMinEncodedRows = 2'000;
inline constexpr size_t kMinEncodedTokens = size_t{1} << 17;

// The first part of MM; then the bytes of the token codec, of the encoder, of
// the codec of encodings, and a description for people.
struct Header {
  uint32_t version = 1;
  uint32_t dim = 0;
  uint8_t type = 0;
  uint8_t cosine = 0;
  uint8_t has_encodings = 0;
  uint8_t zero[5] = {};
  uint64_t num_rows = 0;        // of the segment
  uint64_t num_field_rows = 0;  // with tokens
  uint64_t num_tokens = 0;
  uint64_t encoding_dim = 0;
  uint64_t token_codec_bytes = 0;
  uint64_t encoder_bytes = 0;
  uint64_t codec_bytes = 0;
  uint64_t params_bytes = 0;  // EncoderRecord
  uint64_t description_bytes = 0;
};
static_assert(sizeof(Header) == 88);

// How many of the best by coded tokens are to be compared by their tokens for
// nearly all of the k best to be among them.
struct ExactDepth {
  uint32_t k = 0;
  uint32_t depth = 0;
};

inline std::string Name(const char* prefix, size_t m) {
  return absl::StrCat(prefix, m);
}

std::string EncodeParams(const MultiEncoderParams& params);
std::optional<MultiEncoderParams> DecodeParams(absl::string_view bytes);
// The section MC: how many points (u32), of each recall (f32), k, candidates
// (u32); then k and depth (u32 each) to the end.
std::string EncodeCalibration(std::span<const RecallPoint> table,
                              std::span<const ExactDepth> depths);

}  // namespace sealed_multi

struct SealedMultiField::State {
  // Of what a search may do.
  struct Effort {
    bool scans = true;      // all coded tokens
    size_t candidates = 0;  // else
    size_t rescore = 0;
    size_t exact_candidates = 0;
    double codes_ns = 0;  // of all but their comparison
  };

  MultiSpec spec;
  size_t num_rows = 0;  // of the segment
  size_t n = 0;         // field rows
  std::span<const uint32_t> to_row;
  std::vector<uint32_t> to_field;  // kInvalidRow: no tokens
  std::span<const uint64_t> offsets;
  const std::byte* tokens = nullptr;
  const uint8_t* records = nullptr;
  std::unique_ptr<const TokenCodec> codec;
  std::unique_ptr<AtomicBitmap> hidden;  // by field row
  std::string description;
  // Null: there are no encodings.
  std::unique_ptr<const MultiEncoder> encoder;
  MultiEncoderParams params;  // of it, without kAuto
  VectorSetView encodings;
  std::unique_ptr<const Codec> encoding_codec;
  std::unique_ptr<const IvfIndex> index;
  size_t hot_bytes = 0;            // of lists and codes
  std::vector<RecallPoint> table;  // ef: candidates
  std::vector<sealed_multi::ExactDepth> depths;

  absl::Status LoadCalibration(size_t m, const SectionFile& file);
  size_t num_tokens() const { return n == 0 ? 0 : offsets[n]; }
  TokenRows TokensAt(RowId field_row) const {
    const uint64_t begin = offsets[field_row];
    return {tokens + begin * spec.token_bytes(),
            offsets[field_row + 1] - begin};
  }
  // Of field rows; *bits holds what it borrows.
  Filter FilterOf(const Filter& filter, RowId begin, RowId end,
                  std::optional<Bitmap>* bits) const;
  Effort EffortFor(const MultiQuery& query, const MultiSearchParams& params,
                   size_t num_accepted) const;
  // Candidates by their encodings: field rows, best first.
  absl::StatusOr<std::vector<Neighbor>> FindCandidates(
      const MultiQuery& query, const Effort& effort, const Filter& filter,
      const StopCondition& stop, SearchStats* stats) const;
  // The best by codes that are compared by their encodings, for so many
  // candidates.
  size_t RescoreFor(size_t candidates) const;
  // Pushes minus the estimated score of rows of the field.
  float CodedScore(const TokenCodeQuery& query, RowId field_row,
                   float* scratch) const {
    const uint64_t begin = offsets[field_row];
    return codec->Score(query, records + begin * codec->record_bytes(),
                        offsets[field_row + 1] - begin, scratch);
  }
  // Pushes the best of these field rows by coded tokens.
  absl::Status CompareCodes(const MultiQuery& query,
                            std::vector<Neighbor> candidates,
                            const StopCondition& stop, TopK* nearest) const;
  // Of all that the filter accepts.
  absl::Status ScanCodes(const MultiQuery& query, const Filter& filter,
                         const StopCondition& stop, TopK* nearest,
                         MultiStats* work) const;
  // Measures which candidates find which of the best; fills depths, and with
  // encodings the table.
  absl::Status Calibrate(size_t num_threads, const CancelToken* cancel);
};

}  // namespace vicinal
