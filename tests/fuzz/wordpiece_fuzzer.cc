// libFuzzer: a vocabulary of any bytes is refused or divides any text into its
// tokens.
//
// Input: text, a zero byte, and the vocabulary: JSON where it begins with "{",
// else lines.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "src/text/wordpiece.h"
#include "tests/fuzz/require.h"

namespace vicinal {
namespace {

void Ask(const WordPieceVocabulary& vocabulary, absl::string_view text) {
  size_t num_bytes = 0;
  std::vector<uint32_t> ids = vocabulary.Tokenize(text);
  for (const uint32_t id : ids) {
    Require(id < vocabulary.size(), "there is no such token");
    num_bytes += vocabulary.token(id).size();
  }
  Require(num_bytes <= 300 * (text.size() + 1), "there are too many tokens");
  const TokenWeights query = vocabulary.EncodeQuery(text);
  Require(query.ids.size() == query.weights.size() &&
              query.ids.size() <= ids.size(),
          "weights are missing");
  Require(std::ranges::adjacent_find(query.ids, std::greater_equal<>()) ==
              query.ids.end(),
          "ids do not ascend");
  for (size_t i = 0; i < query.ids.size(); ++i) {
    Require(query.weights[i] > 0 && query.weights[i] <= kMaxTokenWeight &&
                std::ranges::find(ids, query.ids[i]) != ids.end(),
            "a weight is out of its range, or of another token");
  }
}

}  // namespace
}  // namespace vicinal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  const absl::string_view input(reinterpret_cast<const char*>(data),
                                size_bytes);
  const size_t end = std::min(input.find('\0'), input.size());
  const absl::string_view text = input.substr(0, end);
  const absl::string_view file = input.substr(std::min(end + 1, input.size()));
  const auto vocabulary =
      absl::StartsWith(file, "{")
          ? vicinal::WordPieceVocabulary::FromIdfJson(file)
          : vicinal::WordPieceVocabulary::FromVocabulary(file);
  if (vocabulary.ok()) vicinal::Ask(*vocabulary, text);
  return 0;
}
