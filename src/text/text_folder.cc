#include "src/text/text_folder.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "src/base/check.h"
#include "unicode/bytestream.h"
#include "unicode/casemap.h"
#include "unicode/edits.h"
#include "unicode/normalizer2.h"
#include "unicode/stringpiece.h"
#include "unicode/ucasemap.h"
#include "unicode/utypes.h"

namespace vicinal {
namespace {

const icu::Normalizer2* NormalizerOf(bool fold_case) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* const normalizer =
      fold_case ? icu::Normalizer2::getNFKCCasefoldInstance(error)
                : icu::Normalizer2::getNFKCInstance(error);
  VICINAL_CHECK(U_SUCCESS(error));
  return normalizer;
}

icu::StringPiece PieceOf(absl::string_view text) {
  return {text.data(), static_cast<int32_t>(text.size())};
}

// Edits beyond memory are the only error.
void Normalize(const icu::Normalizer2& normalizer, absl::string_view text,
               std::string* out, icu::Edits* edits) {
  UErrorCode error = U_ZERO_ERROR;
  out->clear();
  icu::StringByteSink<std::string> sink(out);
  normalizer.normalizeUTF8(0, PieceOf(text), sink, edits, error);
  VICINAL_CHECK(U_SUCCESS(error));
}

bool HasTurkishI(absl::string_view text) {
  return absl::StrContains(text, 'I') || absl::StrContains(text, "\xC4\xB0");
}

}  // namespace

TextFolder::TextFolder(bool fold_case, bool turkish)
    : normalizer_(NormalizerOf(fold_case)),
      turkish_(turkish && fold_case),
      at_(edits_.getFineIterator()) {}

absl::string_view TextFolder::Fold(absl::string_view text) {
  if (turkish_ && HasTurkishI(text)) {
    // Composed first: a dotted I may be two characters.
    UErrorCode error = U_ZERO_ERROR;
    const icu::Normalizer2* const nfc = icu::Normalizer2::getNFCInstance(error);
    VICINAL_CHECK(U_SUCCESS(error));
    Normalize(*nfc, text, &composed_, &steps_[0]);
    lowered_.clear();
    icu::StringByteSink<std::string> sink(&lowered_);
    icu::CaseMap::utf8Fold(U_FOLD_CASE_EXCLUDE_SPECIAL_I, PieceOf(composed_),
                           sink, &steps_[1], error);
    Normalize(*normalizer_, lowered_, &folded_, &steps_[2]);
    icu::Edits lowering;
    lowering.mergeAndAppend(steps_[0], steps_[1], error);
    edits_.reset();
    edits_.mergeAndAppend(lowering, steps_[2], error);
    VICINAL_CHECK(U_SUCCESS(error));
  } else {
    Normalize(*normalizer_, text, &folded_, &edits_);
  }
  at_ = edits_.getFineIterator();
  return folded_;
}

TextFolder::Range TextFolder::SourceOf(Range folded) {
  if (!edits_.hasChanges()) return folded;
  UErrorCode error = U_ZERO_ERROR;
  Range source;
  at_.findDestinationIndex(static_cast<int32_t>(folded.begin), error);
  source.begin = static_cast<size_t>(at_.sourceIndex());
  if (!at_.hasChange()) {
    source.begin += folded.begin - static_cast<size_t>(at_.destinationIndex());
  }
  // The end is where the last byte's character ends.
  at_.findDestinationIndex(static_cast<int32_t>(folded.end) - 1, error);
  VICINAL_CHECK(U_SUCCESS(error));
  source.end = static_cast<size_t>(at_.sourceIndex());
  source.end += at_.hasChange()
                    ? static_cast<size_t>(at_.oldLength())
                    : folded.end - static_cast<size_t>(at_.destinationIndex());
  return source;
}

}  // namespace vicinal
