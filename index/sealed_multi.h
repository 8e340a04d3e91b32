// Multi-vectors of a sealed segment. Candidates are found by a scan of the
// codes of all encodings: a query's lie along other axes than documents' (on
// mv-glove-20k 2 % of its length is where documents have 86 % of theirs), so
// that graphs and lists of documents lead nowhere near its neighbours. Measured
// there and on generated documents: at equal recall a graph compared 2 to 4
// times the candidates, and lists had to be read all. Codes of 2 bits take 8 ns
// a document.
// Of field m its two files have these
// sections (see sealed_multi.cc for the layout of each):
//   .vec  MT<m>  the tokens, rows in the field's own order
//         MO<m>  u64 per field row and one more: where its tokens begin
//         MX<m>  coded tokens
//         ME<m>  encodings, f16 (where there is an encoder)
//   .seg  MM<m>  what they are: counts, the coders
//         MR<m>  u32 per field row: its row in the segment
//         ML<m>  the one list of a scan of codes (with an encoder, as the next)
//         MK<m>  codes of encodings, in blocks
//         MC<m>  calibration
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "index/multi_field.h"
#include "src/base/cancel.h"
#include "src/base/section_file.h"
#include "src/base/types.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {

// A row of a field that is merged.
struct MultiSource {
  const MultiField* field = nullptr;
  RowId row = 0;
};

struct MultiBuildOptions {
  size_t num_threads = 1;
  const CancelToken* cancel = nullptr;  // may be null
  // Told what goes on, for people; may be empty.
  std::function<void(absl::string_view phase)> on_phase;
};

// Builds one field: first WriteVectors, then WriteIndex with the finished file
// of the first. Row i of the segment is rows[i].
class MultiFieldBuild {
 public:
  MultiFieldBuild(const MultiSpec& spec, size_t m,
                  std::vector<MultiSource> rows, MultiBuildOptions options);
  ~MultiFieldBuild();

  // Errors: of the writer. Cancelled: the token was set.
  absl::Status WriteVectors(SectionFileWriter* writer);
  absl::Status WriteIndex(const SectionFile& vectors,
                          SectionFileWriter* writer);

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

// Const and thread-safe but for Kill.
class SealedMultiField final : public MultiField {
 public:
  // Where hot bytes are to be: copied into memory by the caller, or as they
  // are. Called for the list and for codes.
  using Place = absl::FunctionRef<absl::string_view(absl::string_view bytes)>;
  // Borrows both files, whose bytes may be anything: DataLoss: they do not hold
  // such a field of num_rows rows; every count, offset and order is checked.
  // Of `vectors` the contents are not verified: what searches follow is.
  static absl::StatusOr<std::unique_ptr<SealedMultiField>> Open(
      const SectionFile& vectors, const SectionFile& index, size_t m,
      const MultiSpec& spec, size_t num_rows, Place place);
  ~SealedMultiField() override;

  TokenRows TokensOf(RowId row) const override;
  absl::Status Search(const MultiQuery& query, const MultiSearchParams& params,
                      const Filter& filter, RowId begin, RowId end,
                      const StopCondition& stop, TopK* out, SearchStats* stats,
                      MultiStats* multi) const override;
  bool IsExact(const MultiSearchParams& params) const override;
  std::string Describe() const override;
  size_t token_bytes() const override;
  size_t index_bytes() const override;
  void Kill(RowId row) override;

  // What a device compares: the rows that have tokens, dead ones too, in the
  // order of the rows.
  TokenDocuments documents() const;
  // Of a row that has tokens.
  RowId DocumentOf(RowId row) const;
  RowId RowOf(RowId document) const;
  size_t num_dead_documents() const;
  // What a filter of rows accepts, alive, as documents; *bits holds what the
  // result borrows.
  Filter DocumentFilter(const Filter& rows, std::optional<Bitmap>* bits) const;
  // What Search is reckoned to take on a core, in nanoseconds, where it accepts
  // so many rows; and MultiQuery::Score of rows of so many tokens.
  double SearchNs(const MultiQuery& query, const MultiSearchParams& params,
                  size_t num_accepted) const;
  double ScoreNs(const MultiQuery& query, size_t num_tokens) const;

  // Whether there is an encoder; else coded tokens are scanned.
  bool has_encodings() const;
  // How it was made, without kAuto, for the next build; nothing without one.
  std::optional<MultiEncoderParams> encoder_params() const override;

  struct State;  // see sealed_multi_state.h

 private:
  explicit SealedMultiField(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace vicinal
