#include "src/text/wordpiece.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"
#include "src/base/utf8.h"
#include "src/text/hash_trie.h"
#include "src/text/wordpiece_words.h"

namespace vicinal {
namespace {

// Roots of the trie: of tokens that begin a word, and of those that go on.
constexpr HashTrie::Node kBegins = 0;
constexpr HashTrie::Node kContinues = 1;
constexpr absl::string_view kContinuation = "##";
constexpr absl::string_view kUnknown = "[UNK]";
constexpr std::array<absl::string_view, 5> kSpecial = {
    kUnknown, "[PAD]", "[CLS]", "[SEP]", "[MASK]"};

absl::Status Refuse(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("vocabulary: ", what));
}

// At most 64 bytes of a token, for a message.
std::string Quoted(absl::string_view token) {
  size_t end = std::min<size_t>(token.size(), 64);
  while (end > 0 && end < token.size() && (token[end] & 0xC0) == 0x80) --end;
  return absl::StrCat("'", token.substr(0, end),
                      end < token.size() ? "...'" : "'");
}

absl::Status CheckSize(absl::string_view text) {
  if (text.size() <= kMaxVocabularyBytes) return absl::OkStatus();
  return Refuse(absl::StrCat("it has ", text.size(), " bytes; at most ",
                             kMaxVocabularyBytes, " are allowed"));
}

absl::Status CheckEntry(absl::string_view token, double weight, size_t id) {
  if (id >= kMaxVocabularyTokens) {
    return Refuse(
        absl::StrCat("it has more than ", kMaxVocabularyTokens, " tokens"));
  }
  if (token.empty()) return Refuse(absl::StrCat("token ", id, " is empty"));
  const size_t bad = FindBadUtf8(token);
  if (bad != token.size()) {
    return Refuse(
        absl::StrCat("token ", id, " is not UTF-8 from its byte ", bad, " on"));
  }
  if (token.size() > kMaxVocabularyTokenBytes) {
    return Refuse(absl::StrCat("token ", id, ", ", Quoted(token), ", has ",
                               token.size(), " bytes; at most ",
                               kMaxVocabularyTokenBytes, " are allowed"));
  }
  if (!(weight >= 0 && weight <= kMaxTokenWeight)) {
    return Refuse(absl::StrCat("the weight of token ", id, ", ", Quoted(token),
                               ", is ", weight, "; it must be from 0 to ",
                               kMaxTokenWeight));
  }
  return absl::OkStatus();
}

}  // namespace

// The members of one JSON object, in their order, two of a name included.
class WordPieceVocabulary::IdfReader
    : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool key(string_t& token) override {
    token_ = std::move(token);
    return true;
  }
  bool number_integer(number_integer_t value) override {
    return Add(static_cast<double>(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    return Add(static_cast<double>(value));
  }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(value);
  }
  bool start_object(size_t) override {
    if (std::exchange(is_open_, true)) return IsNoNumber("an object");
    return true;
  }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return IsNoNumber("an array"); }
  bool end_array() override { return true; }
  bool null() override { return IsNoNumber("null"); }
  bool boolean(bool) override { return IsNoNumber("a boolean"); }
  bool string(string_t&) override { return IsNoNumber("a string"); }
  bool binary(binary_t&) override { return IsNoNumber("binary"); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    status = Refuse(
        absl::StrCat("not JSON at byte ", position, " (", error.what(), ")"));
    return false;
  }

  absl::Status status;
  std::vector<Entry> entries;

 private:
  bool Add(double weight) {
    if (!is_open_) return IsNoNumber("a number");
    status = CheckEntry(token_, weight, entries.size());
    if (!status.ok()) return false;
    entries.push_back({std::move(token_), weight});
    return true;
  }
  bool IsNoNumber(absl::string_view what) {
    status = is_open_
                 ? Refuse(absl::StrCat("the weight of token ", entries.size(),
                                       ", ", Quoted(token_), ", is ", what,
                                       "; it must be a number"))
                 : Refuse(absl::StrCat("it is ", what,
                                       "; it must be an object of tokens and "
                                       "their weights"));
    return false;
  }

  std::string token_;
  bool is_open_ = false;
};

absl::StatusOr<WordPieceVocabulary> WordPieceVocabulary::FromIdfJson(
    absl::string_view json) {
  if (absl::Status status = CheckSize(json); !status.ok()) return status;
  IdfReader reader;
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  if (!reader.status.ok()) return reader.status;
  return FromEntries(reader.entries);
}

absl::StatusOr<WordPieceVocabulary> WordPieceVocabulary::FromFile(
    absl::string_view bytes) {
  const size_t first = bytes.find_first_not_of(" \t\r\n");
  const bool is_json = first != absl::string_view::npos && bytes[first] == '{';
  return is_json ? FromIdfJson(bytes) : FromVocabulary(bytes);
}

absl::StatusOr<WordPieceVocabulary> WordPieceVocabulary::FromVocabulary(
    absl::string_view lines) {
  if (absl::Status status = CheckSize(lines); !status.ok()) return status;
  absl::ConsumeSuffix(&lines, "\n");
  std::vector<Entry> entries;
  for (absl::string_view line : absl::StrSplit(lines, '\n')) {
    absl::ConsumeSuffix(&line, "\r");
    absl::Status status = CheckEntry(line, 1, entries.size());
    if (!status.ok()) return status;
    entries.push_back({std::string(line), 1});
  }
  return FromEntries(entries);
}

WordPieceVocabulary::WordPieceVocabulary(const std::vector<Entry>& entries,
                                         size_t num_bytes)
    : trie_(2, num_bytes) {
  token_begins_.push_back(0);
  for (const Entry& entry : entries) {
    tokens_ += entry.token;
    token_begins_.push_back(static_cast<uint32_t>(tokens_.size()));
    weights_.push_back(static_cast<float>(entry.weight));
    is_special_.push_back(std::ranges::find(kSpecial, entry.token) !=
                          kSpecial.end());
  }
}

absl::StatusOr<WordPieceVocabulary> WordPieceVocabulary::FromEntries(
    const std::vector<Entry>& entries) {
  size_t num_bytes = 0;
  for (const Entry& entry : entries) num_bytes += entry.token.size();
  constexpr size_t kMaxBytes = HashTrie::kMaxNodes - 2;
  if (num_bytes > kMaxBytes) {
    return Refuse(absl::StrCat("its tokens have ", num_bytes,
                               " bytes in all; at most ", kMaxBytes,
                               " are allowed"));
  }
  WordPieceVocabulary vocabulary(entries, num_bytes);
  bool has_unknown = false;
  for (uint32_t id = 0; id < entries.size(); ++id) {
    absl::string_view token = entries[id].token;
    if (token == kUnknown) {
      vocabulary.unknown_ = id;
      has_unknown = true;
    }
    const bool continues = token.size() > kContinuation.size() &&
                           absl::ConsumePrefix(&token, kContinuation);
    if (!vocabulary.trie_.Insert(continues ? kContinues : kBegins, token, id)) {
      return Refuse(absl::StrCat("token ", id, ", ", Quoted(entries[id].token),
                                 ", is there twice"));
    }
  }
  if (!has_unknown) return Refuse("it has no token [UNK]");
  return vocabulary;
}

void WordPieceVocabulary::Tokenize(
    absl::string_view text, absl::FunctionRef<void(uint32_t)> sink) const {
  const auto emit = [&](absl::string_view word) { EmitWord(word, sink); };
  WordPieceWords words(emit);
  words.Run(text);
}

void WordPieceVocabulary::EmitWord(
    absl::string_view word, absl::FunctionRef<void(uint32_t)> sink) const {
  // Most words are one token.
  HashTrie::Match match = trie_.LongestPrefix(kBegins, word);
  if (match.size == word.size() && !word.empty()) return sink(match.id);
  std::array<uint32_t, WordPieceWords::kMaxChars> pieces;
  size_t num_pieces = 0;
  while (match.size > 0) {
    pieces[num_pieces++] = match.id;
    word.remove_prefix(match.size);
    if (word.empty()) break;
    match = trie_.LongestPrefix(kContinues, word);
  }
  // An empty word is what was too long, or is unknown from somewhere on.
  if (num_pieces == 0 || !word.empty()) return sink(unknown_);
  for (size_t i = 0; i < num_pieces; ++i) sink(pieces[i]);
}

std::vector<uint32_t> WordPieceVocabulary::Tokenize(
    absl::string_view text) const {
  std::vector<uint32_t> ids;
  Tokenize(text, [&](uint32_t id) { ids.push_back(id); });
  return ids;
}

TokenWeights WordPieceVocabulary::EncodeQuery(absl::string_view text) const {
  TokenWeights query;
  Tokenize(text, [&](uint32_t id) {
    if (!is_special_[id] && weights_[id] > 0) query.ids.push_back(id);
  });
  std::ranges::sort(query.ids);
  const auto repeated = std::ranges::unique(query.ids);
  query.ids.erase(repeated.begin(), repeated.end());
  query.weights.reserve(query.ids.size());
  for (const uint32_t id : query.ids) query.weights.push_back(weights_[id]);
  return query;
}

}  // namespace vicinal
