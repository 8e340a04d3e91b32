// Multi-vectors of a segment that grows: rows appended, scanned by codes of a
// byte per element and then exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/multi_field.h"

namespace vicinal {

// One thread appends; rows may be read by others once they were told that they
// are there (MemorySegment::Publish): they pass an `end` up to it.
class GrowingMultiField final : public MultiField {
 public:
  GrowingMultiField(const MultiSpec& spec, size_t max_rows);
  ~GrowingMultiField() override;

  // The next row's tokens: whole ones of the field's type, finite, no zero
  // ones for cosine. Empty: it has none.
  void Append(absl::string_view tokens);

  TokenRows TokensOf(RowId row) const override;
  absl::Status Search(const MultiQuery& query, const MultiSearchParams& params,
                      const Filter& filter, RowId begin, RowId end,
                      const StopCondition& stop, TopK* out, SearchStats* stats,
                      MultiStats* multi) const override;
  bool IsExact(const MultiSearchParams& params) const override {
    return params.exact;
  }
  std::string Describe() const override { return {}; }
  size_t token_bytes() const override;
  size_t index_bytes() const override;
  // In use; appending thread only, or once it is published.
  size_t memory_bytes() const;
  void Kill(RowId row) override;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace vicinal
