#include "src/text/highlighter.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "src/text/analyzer.h"

namespace vicinal {
namespace {

struct Word {
  std::string term;
  uint32_t position = 0;
  size_t begin = 0;  // bytes
  size_t end = 0;
  size_t first_char = 0;  // characters
  size_t last_char = 0;   // behind it and all words before
  size_t reach = 0;       // bytes, as last_char
  bool matches = false;
};

bool IsFirstByte(char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }

std::vector<Word> WordsOf(const Analyzer& analyzer, absl::string_view text) {
  std::vector<Word> words;
  analyzer.Analyze(text, [&](const Token& token) {
    words.push_back(
        {std::string(token.term), token.position, token.begin, token.end});
  });
  std::sort(words.begin(), words.end(), [](const Word& a, const Word& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  size_t at = 0, chars = 0;
  const auto chars_before = [&](size_t offset) {
    for (; at < offset; ++at) chars += IsFirstByte(text[at]) ? 1 : 0;
    return chars;
  };
  for (Word& word : words) word.first_char = chars_before(word.begin);
  at = chars = 0;
  size_t last = 0;
  for (Word& word : words) {
    last = std::max(last, word.end);
    word.last_char = chars_before(last);
    word.reach = last;
  }
  return words;
}

void MarkPhrases(const TextMatchers& matchers, const StopCondition& stop,
                 std::vector<Word>* words) {
  if (matchers.phrases.empty()) return;
  absl::flat_hash_map<std::pair<absl::string_view, uint32_t>, size_t> places;
  for (size_t i = 0; i < words->size(); ++i) {
    places[{(*words)[i].term, (*words)[i].position}] = i;
  }
  constexpr size_t kPlacesPerCheck = 65'536;
  size_t num_places = 0;
  for (const auto& phrase : matchers.phrases) {
    for (const Word& first : *words) {
      if (phrase.empty() || first.term != phrase[0].first) continue;
      num_places += phrase.size();
      if (num_places >= kPlacesPerCheck) {
        num_places = 0;
        if (!stop.Check().ok()) return;
      }
      std::vector<size_t> found;
      for (const auto& [term, offset] : phrase) {
        const auto place = places.find({term, first.position + offset});
        if (place == places.end()) break;
        found.push_back(place->second);
      }
      if (found.size() != phrase.size()) continue;
      for (const size_t i : found) (*words)[i].matches = true;
    }
  }
}

// Ascending, none of which begins with another.
std::vector<absl::string_view> ShortestPrefixes(const TextMatchers& matchers) {
  std::vector<absl::string_view> all(matchers.prefixes.begin(),
                                     matchers.prefixes.end());
  std::sort(all.begin(), all.end());
  std::vector<absl::string_view> out;
  for (const absl::string_view prefix : all) {
    if (out.empty() || !absl::StartsWith(prefix, out.back())) {
      out.push_back(prefix);
    }
  }
  return out;
}

void MarkMatches(const TextMatchers& matchers, const StopCondition& stop,
                 std::vector<Word>* words) {
  const std::vector<absl::string_view> prefixes = ShortestPrefixes(matchers);
  for (Word& word : *words) {
    // Only the last that is not behind the word may be its prefix.
    const auto behind = std::upper_bound(prefixes.begin(), prefixes.end(),
                                         absl::string_view(word.term));
    word.matches = matchers.words.contains(word.term) ||
                   (behind != prefixes.begin() &&
                    absl::StartsWith(word.term, *(behind - 1)));
  }
  MarkPhrases(matchers, stop, words);
}

// Words first .. last, both of which match.
struct Window {
  size_t first = 0;
  size_t last = 0;
  size_t num_distinct = 0;
  size_t num_matches = 0;

  bool IsBetterThan(const Window& other) const {
    return num_distinct != other.num_distinct
               ? num_distinct > other.num_distinct
               : num_matches > other.num_matches;
  }
};

// The best window of words that are not in `taken`; num_matches is 0: there is
// none.
Window BestWindow(const std::vector<Word>& words,
                  const std::vector<bool>& taken, size_t passage_chars) {
  std::vector<size_t> matches;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].matches && !taken[i]) matches.push_back(i);
  }
  // Two matches with a taken word between them are not of one window.
  std::vector<size_t> taken_before(words.size() + 1, 0);
  for (size_t i = 0; i < words.size(); ++i) {
    taken_before[i + 1] = taken_before[i] + (taken[i] ? 1 : 0);
  }
  Window best;
  absl::flat_hash_map<absl::string_view, size_t> counts;
  size_t end = 0;
  for (size_t begin = 0; begin < matches.size(); ++begin) {
    end = std::max(end, begin);
    const Word& first = words[matches[begin]];
    while (end < matches.size() &&
           taken_before[matches[end]] == taken_before[matches[begin]] &&
           words[matches[end]].last_char - first.first_char <=
               std::max(passage_chars, first.last_char - first.first_char)) {
      ++counts[words[matches[end]].term];
      ++end;
    }
    const Window window{matches[begin], matches[end - 1], counts.size(),
                        end - begin};
    if (window.IsBetterThan(best)) best = window;
    const auto count = counts.find(first.term);
    if (--count->second == 0) counts.erase(count);
  }
  return best;
}

// Whether a sentence may begin at the byte.
bool BeginsSentence(absl::string_view text, size_t at) {
  while (at > 0 && (text[at - 1] == ' ' || text[at - 1] == '\t')) --at;
  if (at == 0) return true;
  const absl::string_view before = text.substr(0, at);
  for (const absl::string_view end : {".", "!", "?", "\n", "。", "！", "？"}) {
    if (absl::EndsWith(before, end)) return true;
  }
  return false;
}

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// The length of the mark that the text begins with and no passage begins with;
// 0: none.
size_t MarkLength(absl::string_view text) {
  if (IsSpace(text[0]) || absl::ascii_ispunct(text[0])) return 1;
  for (const absl::string_view mark :
       {"。", "！", "？", "、", "，", "；", "：", "」", "』", "）"}) {
    if (absl::StartsWith(text, mark)) return mark.size();
  }
  return 0;
}

// Where a passage begins whose first word that counts is `first`: stop words
// before it belong to it, what ends the sentence before does not. Not if they
// alone would fill a passage.
size_t BeginOf(absl::string_view text, const std::vector<Word>& words,
               size_t first, size_t passage_chars) {
  const size_t end = words[first].begin;
  size_t begin = first == 0 ? 0 : std::min(words[first - 1].reach, end);
  while (begin < end) {
    const size_t length = MarkLength(text.substr(begin, end - begin));
    if (length == 0) break;
    begin += length;
  }
  return end - begin > passage_chars ? end : begin;
}

// And where it ends: with its stop words and marks, unless they are as many.
size_t EndOf(absl::string_view text, const std::vector<Word>& words,
             size_t last, size_t passage_chars) {
  const size_t begin = words[last].reach;
  size_t end = last + 1 < words.size() ? std::max(begin, words[last + 1].begin)
                                       : text.size();
  while (end > begin && IsSpace(text[end - 1])) --end;
  return end - begin > passage_chars ? begin : end;
}

TextPassage PassageOf(absl::string_view text, const std::vector<Word>& words,
                      const std::vector<bool>& taken, const Window& window,
                      size_t passage_chars) {
  const auto is_free = [&](size_t i) { return !taken[i]; };
  const size_t span =
      words[window.last].last_char - words[window.first].first_char;
  const size_t spare = passage_chars > span ? passage_chars - span : 0;
  // Half of what is left before the matches, or from a sentence's beginning.
  size_t first = window.first;
  while (first > 0 && is_free(first - 1) &&
         words[window.first].first_char - words[first - 1].first_char <=
             spare / 2) {
    --first;
  }
  for (size_t i = window.first + 1; i-- > first;) {
    if (!BeginsSentence(text, BeginOf(text, words, i, passage_chars))) continue;
    first = i;
    break;
  }
  size_t last = window.last;
  while (last + 1 < words.size() && is_free(last + 1) &&
         words[last + 1].last_char - words[first].first_char <= passage_chars) {
    ++last;
  }
  // What stands beside a passage that is taken may be that one's.
  TextPassage out{.begin = words[first].begin, .end = words[last].reach};
  out.num_distinct = window.num_distinct;
  if (first == 0 || is_free(first - 1)) {
    out.begin = BeginOf(text, words, first, passage_chars);
  }
  if (last + 1 == words.size() || is_free(last + 1)) {
    out.end = EndOf(text, words, last, passage_chars);
  }
  for (size_t i = first; i <= last; ++i) {
    if (!words[i].matches) continue;
    if (out.matches.empty() || out.matches.back().second <= words[i].begin) {
      out.matches.emplace_back(words[i].begin, words[i].end);
    } else {
      out.matches.back().second =
          std::max(out.matches.back().second, words[i].end);
    }
  }
  return out;
}

// The text's beginning.
TextPassage Beginning(absl::string_view text, const std::vector<Word>& words,
                      size_t passage_chars) {
  TextPassage out;
  for (const Word& word : words) {
    if (word.last_char > passage_chars && out.end > 0) break;
    out.end = word.end;
  }
  if (words.empty()) {
    size_t chars = 0;
    while (out.end < text.size() &&
           (chars < passage_chars || !IsFirstByte(text[out.end]))) {
      chars += IsFirstByte(text[out.end]) ? 1 : 0;
      ++out.end;
    }
  }
  return out;
}

}  // namespace

std::vector<TextPassage> FindPassages(const Analyzer& analyzer,
                                      absl::string_view text,
                                      const TextMatchers& matchers,
                                      size_t num_passages, size_t passage_chars,
                                      const StopCondition& stop) {
  std::vector<Word> words = WordsOf(analyzer, text);
  MarkMatches(matchers, stop, &words);
  std::vector<bool> taken(words.size(), false);
  std::vector<TextPassage> out;
  while (out.size() < num_passages && stop.Check().ok()) {
    const Window window = BestWindow(words, taken, passage_chars);
    if (window.num_matches == 0) break;
    out.push_back(PassageOf(text, words, taken, window, passage_chars));
    for (size_t i = 0; i < words.size(); ++i) {
      taken[i] = taken[i] || (words[i].begin >= out.back().begin &&
                              words[i].end <= out.back().end);
    }
  }
  if (out.empty() && !text.empty()) {
    out.push_back(Beginning(text, words, passage_chars));
  }
  std::sort(out.begin(), out.end(),
            [](const TextPassage& a, const TextPassage& b) {
              return a.begin < b.begin;
            });
  return out;
}

}  // namespace vicinal
