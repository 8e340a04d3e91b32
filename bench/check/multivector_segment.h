// A sealed segment of one multi-vector field, as the engine makes and opens it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/check/multivector_data.h"
#include "bench/workspace.h"
#include "index/sealed_multi.h"
#include "index/sealed_multi_state.h"
#include "quant/multi_encoder.h"
#include "src/base/mapped_buffer.h"
#include "src/base/section_file.h"
#include "src/base/vector_set.h"

namespace vicinal::bench {

// The encodings of a segment and who made them.
struct StoredEncodings {
  std::unique_ptr<const MultiEncoder> encoder;  // of queries only
  VectorSetView vectors;                        // f16, in the field's order
  std::span<const uint32_t> to_row;
};

// Files lie in a folder of its own, which goes with it.
class MultiSegment {
 public:
  // Tells its phases on stderr. Borrows nothing once it is there.
  static absl::StatusOr<std::unique_ptr<MultiSegment>> Build(
      const MultiSet& set, const MultiSpec& spec, size_t num_threads);

  const SealedMultiField& field() const { return *field_; }
  // Wall-clock time of the build.
  double build_seconds() const { return build_seconds_; }
  size_t num_rows() const { return num_rows_; }
  // What is in memory: graph, codes of encodings, coders, maps of rows.
  size_t resident_bytes() const { return resident_bytes_; }
  // Of coded tokens, which are mapped.
  size_t token_code_bytes() const { return token_code_bytes_; }
  // FailedPrecondition: it has none.
  absl::StatusOr<StoredEncodings> encodings() const;

 private:
  explicit MultiSegment(Workspace workspace)
      : workspace_(std::move(workspace)) {}

  absl::StatusOr<sealed_multi::Header> header() const;

  Workspace workspace_;
  size_t num_rows_ = 0;
  size_t resident_bytes_ = 0;
  size_t token_code_bytes_ = 0;
  double build_seconds_ = 0;
  std::unique_ptr<SectionFile> vectors_;
  std::unique_ptr<SectionFile> index_;
  std::vector<MappedBuffer> hot_;
  std::unique_ptr<SealedMultiField> field_;
};

}  // namespace vicinal::bench
