// Passages of a text that show where it has what was asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "src/base/cancel.h"
#include "src/text/analyzer.h"

namespace vicinal {

// What was asked for, as an analyzer leaves it.
struct TextMatchers {
  absl::flat_hash_set<std::string> words;
  std::vector<std::string> prefixes;
  // Words with their positions from the first one's; they match together only.
  std::vector<std::vector<std::pair<std::string, uint32_t>>> phrases;
};

// Bytes of the text.
struct TextPassage {
  size_t begin = 0;
  size_t end = 0;
  // Words that match, in bytes of the text, ascending.
  std::vector<std::pair<size_t, size_t>> matches;
  size_t num_distinct = 0;  // different words among them
};

// The num_passages best ones, in the order of the text, apart from each other:
// those with the most different words, then those with the most. About
// passage_chars characters each, from a word's beginning to a word's end; they
// begin with a sentence where one begins near. Without any match: the text's
// beginning. Some or all are missing when `stop` said so.
std::vector<TextPassage> FindPassages(const Analyzer& analyzer,
                                      absl::string_view text,
                                      const TextMatchers& matchers,
                                      size_t num_passages, size_t passage_chars,
                                      const StopCondition& stop = {});

}  // namespace vicinal
