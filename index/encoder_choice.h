// Which encoder finds most: measured on a sample of the documents, since it
// depends on how their tokens lie (multivector study, section 5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "index/multi_field.h"
#include "quant/multi_encoder.h"
#include "src/base/cancel.h"
#include "src/base/vector_set.h"

namespace vicinal {

// Whether something is kAuto that matters.
bool NeedsChoice(const MultiEncoderParams& params);

struct EncoderChoice {
  MultiEncoderParams params;  // without kAuto
  std::unique_ptr<const MultiEncoder> encoder;
  // For people: what was tried and how much of the exact 10 best each had among
  // 100 candidates.
  std::string description;
};

// sample: some of the documents. Errors: of TrainMultiEncoder.
absl::StatusOr<EncoderChoice> ChooseEncoder(
    const MultiSpec& spec, const MultiEncoderParams& params,
    std::span<const TokenRows> documents, const SampleDocuments& sample,
    size_t num_threads, const CancelToken* cancel);

// What stands for queries where there are none: up to 32 tokens of a document,
// a third of them replaced by similar tokens of others, as a question has other
// words for the same. own: the document, which searches for it must leave out.
struct PseudoQuery {
  std::vector<float> tokens;  // n x dim
  uint32_t own = 0;           // of `documents`
};
std::vector<PseudoQuery> MakePseudoQueries(const MultiSpec& spec,
                                           std::span<const TokenRows> documents,
                                           size_t count, uint64_t seed);

}  // namespace vicinal
