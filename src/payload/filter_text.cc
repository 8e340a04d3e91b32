#include "src/payload/filter_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/base/utf8.h"
#include "src/payload/filter_checker.h"
#include "src/payload/filter_words.h"

namespace vicinal {
namespace {

using Kind = FilterNode::Kind;
using Op = FilterNode::Op;

// Appends a code point as UTF-8.
void AppendUtf8(uint32_t c, std::string* out) {
  const auto tail = [&](int shift) {
    out->push_back(static_cast<char>(0x80 | ((c >> shift) & 0x3F)));
  };
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (c >> 6)));
    tail(0);
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (c >> 12)));
    tail(6);
    tail(0);
  } else {
    out->push_back(static_cast<char>(0xF0 | (c >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

// At most 32 bytes, cut between two characters.
absl::string_view Cut(absl::string_view text) {
  size_t end = std::min<size_t>(text.size(), 32);
  while (end > 0 && end < text.size() && (text[end] & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

// Nodes above one another.
size_t HeightOf(const FilterNode& node) {
  size_t height = 0;
  for (const FilterNode& child : node.children) {
    height = std::max(height, HeightOf(child));
  }
  return height + 1;
}

struct Token {
  enum class Kind : uint8_t {
    kEnd,
    kWord,        // value: as written
    kQuotedName,  // in backquotes; value: without them
    kString,
    kNumber,     // in `number`
    kParameter,  // value: without the $
    kSymbol,     // value: one or two characters
  };
  Kind kind = Kind::kEnd;
  size_t begin = 0;
  size_t end = 0;
  std::string value;
  Literal number;
};

class Lexer {
 public:
  explicit Lexer(absl::string_view text) : text_(text) {}

  absl::StatusOr<Token> Next();
  absl::Status Error(size_t position, absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("filter, position ", position + 1, ": ", what));
  }

 private:
  absl::Status ReadQuoted(char quote, Token* token);
  absl::Status ReadEscape(Token* token);
  absl::StatusOr<uint32_t> ReadHex4();
  absl::Status ReadNumber(Token* token);

  const absl::string_view text_;
  size_t at_ = 0;
};

absl::StatusOr<Token> Lexer::Next() {
  while (at_ < text_.size() && absl::ascii_isspace(text_[at_])) ++at_;
  Token token;
  token.begin = token.end = at_;
  if (at_ == text_.size()) return token;
  const char c = text_[at_];
  const char next = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
  if (filter_words::IsNameStart(c) ||
      (c == '$' && filter_words::IsNameStart(next))) {
    token.kind = c == '$' ? Token::Kind::kParameter : Token::Kind::kWord;
    const size_t begin = c == '$' ? ++at_ : at_;
    while (at_ < text_.size() && filter_words::IsNamePart(text_[at_])) ++at_;
    token.value = std::string(text_.substr(begin, at_ - begin));
  } else if (c == '"' || c == '\'' || c == '`') {
    token.kind = c == '`' ? Token::Kind::kQuotedName : Token::Kind::kString;
    VICINAL_RETURN_IF_ERROR(ReadQuoted(c, &token));
  } else if (absl::ascii_isdigit(c) || c == '-' || c == '+' ||
             (c == '.' && absl::ascii_isdigit(next))) {
    token.kind = Token::Kind::kNumber;
    VICINAL_RETURN_IF_ERROR(ReadNumber(&token));
  } else {
    token.kind = Token::Kind::kSymbol;
    const absl::string_view two = text_.substr(at_, 2);
    const bool is_two =
        two == "==" || two == "!=" || two == "<>" || two == "<=" || two == ">=";
    if (!is_two &&
        absl::string_view("()[],.=<>").find(c) == absl::string_view::npos) {
      return Error(
          at_,
          absl::StrCat(
              "a character that has no meaning here: ",
              static_cast<unsigned char>(c) < 0x80 && absl::ascii_isprint(c)
                  ? std::string(1, c)
                  : absl::StrCat("byte 0x",
                                 absl::Hex(static_cast<unsigned char>(c),
                                           absl::kZeroPad2)),
              "; strings stand in quotes, names with "
              "other characters in backquotes"));
    }
    token.value = std::string(two.substr(0, is_two ? 2 : 1));
    at_ += token.value.size();
  }
  token.end = at_;
  return token;
}

absl::Status Lexer::ReadQuoted(char quote, Token* token) {
  for (++at_; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c == quote) {
      if (at_ + 1 == text_.size() || text_[at_ + 1] != quote) {
        ++at_;
        const absl::string_view raw =
            text_.substr(token->begin, at_ - token->begin);
        const size_t bad = FindBadUtf8(raw);
        if (bad == raw.size()) return absl::OkStatus();
        return Error(token->begin + bad,
                     absl::StrCat("byte 0x",
                                  absl::Hex(static_cast<uint8_t>(raw[bad]),
                                            absl::kZeroPad2),
                                  " is not UTF-8; encode the text as UTF-8"));
      }
      ++at_;
      token->value.push_back(quote);
    } else if (c == '\\' && quote != '`') {
      VICINAL_RETURN_IF_ERROR(ReadEscape(token));
    } else {
      token->value.push_back(c);
    }
  }
  return Error(token->begin,
               absl::StrCat("this has no closing ", std::string(1, quote)));
}

// Leaves at_ at the last character of the escape.
absl::Status Lexer::ReadEscape(Token* token) {
  const size_t begin = at_++;
  const char c = at_ < text_.size() ? text_[at_] : '\0';
  constexpr absl::string_view kFrom = "\"'\\/bfnrt", kTo = "\"'\\/\b\f\n\r\t";
  if (const size_t i = kFrom.find(c); c != '\0' && i != kFrom.npos) {
    token->value.push_back(kTo[i]);
    return absl::OkStatus();
  }
  if (c != 'u') {
    return Error(begin,
                 "an unknown escape; known are \\\" \\' \\\\ \\/ \\b \\f "
                 "\\n \\r \\t \\uXXXX");
  }
  VICINAL_ASSIGN_OR_RETURN(uint32_t code, ReadHex4());
  if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_ + 1, 2) == "\\u") {
    at_ += 2;
    VICINAL_ASSIGN_OR_RETURN(const uint32_t low, ReadHex4());
    if (low < 0xDC00 || low > 0xDFFF) {
      return Error(begin, "half of a surrogate pair; write both halves");
    }
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  }
  if (code >= 0xD800 && code <= 0xDFFF) {
    return Error(begin, "half of a surrogate pair; write both halves");
  }
  AppendUtf8(code, &token->value);
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> Lexer::ReadHex4() {
  const absl::string_view digits =
      text_.substr(std::min(at_ + 1, text_.size()), 4);
  uint32_t code = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
  if (error != std::errc() || digits.size() != 4 || end != digits.data() + 4) {
    return Error(at_, "\\u wants four hexadecimal digits");
  }
  at_ += 4;
  return code;
}

absl::Status Lexer::ReadNumber(Token* token) {
  const size_t begin = at_;
  while (at_ < text_.size() && (filter_words::IsNamePart(text_[at_]) ||
                                text_[at_] == '.' || text_[at_] == '+')) {
    ++at_;
  }
  absl::string_view digits = text_.substr(begin, at_ - begin);
  const size_t first = absl::StartsWith(digits, "-") ? 1 : 0;
  if (absl::StartsWith(digits, "+")) digits.remove_prefix(1);
  // from_chars also takes "inf" and "nan", and would take a second sign.
  const bool is_number =
      first < digits.size() &&
      (absl::ascii_isdigit(digits[first]) || digits[first] == '.');
  const char* const last = digits.data() + digits.size();
  int64_t integer = 0;
  if (const auto r = std::from_chars(digits.data(), last, integer);
      is_number && r.ec == std::errc() && r.ptr == last) {
    token->number = integer;
    return absl::OkStatus();
  }
  double value = 0;
  const auto r = std::from_chars(digits.data(), last, value);
  if (r.ec != std::errc() || r.ptr != last || !std::isfinite(value) ||
      !is_number) {
    return Error(begin,
                 absl::StrCat("\"", Cut(text_.substr(begin, at_ - begin)),
                              "\" is no number that a double can hold"));
  }
  token->number = value;
  return absl::OkStatus();
}

class Parser {
 public:
  Parser(absl::string_view text, const FilterParameters& parameters,
         const FilterLimits& limits)
      : text_(text), lexer_(text), parameters_(parameters), checker_(limits) {}

  absl::StatusOr<FilterNode> Run();

 private:
  // Each leaves token_ behind what it took.
  absl::StatusOr<FilterNode> Or();
  absl::StatusOr<FilterNode> And();
  absl::StatusOr<FilterNode> Not();
  absl::StatusOr<FilterNode> Parenthesized();
  absl::StatusOr<FilterNode> Condition();
  absl::StatusOr<FilterNode> OfPath();
  absl::StatusOr<FilterNode> OfId();
  absl::StatusOr<FilterNode> Geo(Kind kind);
  absl::StatusOr<std::string> Path();
  absl::StatusOr<Literal> Value(bool null_is_allowed);
  absl::StatusOr<std::vector<Literal>> List();
  absl::StatusOr<double> Number();
  absl::StatusOr<PointId> Id();

  absl::Status Advance() {
    VICINAL_ASSIGN_OR_RETURN(token_, lexer_.Next());
    return absl::OkStatus();
  }
  absl::Status Expected(absl::string_view what) const;
  bool IsWord(absl::string_view word) const {
    return token_.kind == Token::Kind::kWord &&
           absl::EqualsIgnoreCase(token_.value, word);
  }
  bool IsSymbol(absl::string_view symbol) const {
    return token_.kind == Token::Kind::kSymbol && token_.value == symbol;
  }
  absl::Status TakeSymbol(absl::string_view symbol);
  absl::Status TakeWord(absl::string_view word);
  // The checker's word on what begins there.
  absl::Status ErrorAt(size_t begin, const absl::Status& status) const {
    return status.ok() ? status : lexer_.Error(begin, status.message());
  }
  absl::Status Count(size_t begin) {
    return ErrorAt(begin, checker_.AddNode());
  }
  absl::Status CheckLiteral(const Literal& literal, size_t begin) {
    return ErrorAt(begin, checker_.AddLiteral(literal));
  }
  absl::StatusOr<const FilterParameter*> Parameter();

  const absl::string_view text_;
  Lexer lexer_;
  const FilterParameters& parameters_;
  FilterChecker checker_;
  Token token_;
  size_t depth_ = 0;
  std::set<std::string, std::less<>> used_;
};

absl::Status Parser::Expected(absl::string_view what) const {
  if (token_.kind == Token::Kind::kEnd) {
    return lexer_.Error(token_.begin,
                        absl::StrCat("expected ", what, ", found the end"));
  }
  const absl::string_view found =
      text_.substr(token_.begin, token_.end - token_.begin);
  const bool is_quoted = token_.kind == Token::Kind::kString ||
                         token_.kind == Token::Kind::kQuotedName;
  const absl::string_view quote = is_quoted ? "" : "\"";
  return lexer_.Error(token_.begin, absl::StrCat("expected ", what, ", found ",
                                                 quote, Cut(found), quote));
}

absl::Status Parser::TakeSymbol(absl::string_view symbol) {
  if (!IsSymbol(symbol)) return Expected(absl::StrCat("\"", symbol, "\""));
  return Advance();
}

absl::Status Parser::TakeWord(absl::string_view word) {
  if (!IsWord(word)) return Expected(absl::AsciiStrToUpper(word));
  return Advance();
}

absl::StatusOr<FilterNode> Parser::Run() {
  const size_t max_bytes = checker_.limits().max_text_bytes;
  if (text_.size() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("filter: has ", text_.size(), " bytes; at most ",
                     max_bytes, " are allowed: pass long lists as parameters"));
  }
  VICINAL_RETURN_IF_ERROR(Advance());
  FilterNode node;
  if (token_.kind != Token::Kind::kEnd) {
    VICINAL_ASSIGN_OR_RETURN(node, Or());
    if (token_.kind != Token::Kind::kEnd) {
      return Expected("AND, OR or the end");
    }
  }
  for (const auto& [name, value] : parameters_) {
    if (!used_.contains(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("filter: parameter \"", Cut(name),
                       "\" is given but the filter has no $", Cut(name)));
    }
  }
  return node;
}

absl::StatusOr<FilterNode> Parser::Or() {
  const size_t begin = token_.begin;
  VICINAL_ASSIGN_OR_RETURN(FilterNode node, And());
  if (IsWord("or")) {
    VICINAL_RETURN_IF_ERROR(Count(token_.begin));
    FilterNode first = std::exchange(node, {.kind = Kind::kOr});
    node.children.push_back(std::move(first));
  }
  while (IsWord("or")) {
    VICINAL_RETURN_IF_ERROR(Advance());
    VICINAL_ASSIGN_OR_RETURN(FilterNode next, And());
    node.children.push_back(std::move(next));
  }
  // One level of Not() can be three nodes, an OR of ANDs of NOT INs, so that
  // the depth alone does not bound them.
  VICINAL_RETURN_IF_ERROR(ErrorAt(begin, checker_.CheckDepth(HeightOf(node))));
  return node;
}

absl::StatusOr<FilterNode> Parser::And() {
  VICINAL_ASSIGN_OR_RETURN(FilterNode first, Not());
  if (!IsWord("and")) return first;
  FilterNode node{.kind = Kind::kAnd};
  VICINAL_RETURN_IF_ERROR(Count(token_.begin));
  node.children.push_back(std::move(first));
  while (IsWord("and")) {
    VICINAL_RETURN_IF_ERROR(Advance());
    VICINAL_ASSIGN_OR_RETURN(FilterNode next, Not());
    node.children.push_back(std::move(next));
  }
  return node;
}

// Every recursion passes here.
absl::StatusOr<FilterNode> Parser::Not() {
  VICINAL_RETURN_IF_ERROR(ErrorAt(token_.begin, checker_.CheckDepth(++depth_)));
  absl::StatusOr<FilterNode> node;
  if (IsWord("not")) {
    VICINAL_RETURN_IF_ERROR(Count(token_.begin));
    VICINAL_RETURN_IF_ERROR(Advance());
    // `NOT (` is one level: FilterToText writes every NOT so.
    VICINAL_ASSIGN_OR_RETURN(FilterNode child,
                             IsSymbol("(") ? Parenthesized() : Not());
    node.emplace();
    node->kind = Kind::kNot;
    node->children.push_back(std::move(child));
  } else if (IsSymbol("(")) {
    node = Parenthesized();
  } else {
    VICINAL_RETURN_IF_ERROR(Count(token_.begin));
    node = Condition();
  }
  --depth_;
  return node;
}

absl::StatusOr<FilterNode> Parser::Parenthesized() {
  VICINAL_RETURN_IF_ERROR(Advance());
  VICINAL_ASSIGN_OR_RETURN(FilterNode node, Or());
  VICINAL_RETURN_IF_ERROR(TakeSymbol(")"));
  return node;
}

FilterNode Negated(FilterNode node) {
  FilterNode out{.kind = Kind::kNot};
  out.children.push_back(std::move(node));
  return out;
}

absl::StatusOr<FilterNode> Parser::Condition() {
  if (token_.kind == Token::Kind::kWord &&
      filter_words::IsReserved(token_.value)) {
    FilterNode node;
    if (IsWord("true") || IsWord("false")) {
      node.kind = IsWord("true") ? Kind::kTrue : Kind::kFalse;
      VICINAL_RETURN_IF_ERROR(Advance());
      return node;
    }
    if (IsWord("id")) return OfId();
    if (IsWord("geo_radius")) return Geo(Kind::kGeoRadius);
    if (IsWord("geo_box")) return Geo(Kind::kGeoBox);
    if (IsWord("geo_polygon")) return Geo(Kind::kGeoPolygon);
    if (IsWord("exists") || IsWord("match")) {
      node.kind = IsWord("exists") ? Kind::kExists : Kind::kMatch;
      VICINAL_RETURN_IF_ERROR(Advance());
      VICINAL_RETURN_IF_ERROR(TakeSymbol("("));
      VICINAL_ASSIGN_OR_RETURN(node.path, Path());
      if (node.kind == Kind::kMatch) {
        VICINAL_RETURN_IF_ERROR(TakeSymbol(","));
        VICINAL_ASSIGN_OR_RETURN(Literal text, Value(false));
        node.literals.push_back(std::move(text));
      }
      VICINAL_RETURN_IF_ERROR(TakeSymbol(")"));
      return node;
    }
    return Expected(
        "a condition (a field of this name is written in backquotes)");
  }
  return OfPath();
}

absl::StatusOr<std::string> Parser::Path() {
  std::string path;
  const size_t begin = token_.begin;
  for (;;) {
    const bool is_word = token_.kind == Token::Kind::kWord &&
                         !filter_words::IsReserved(token_.value);
    if (!is_word && token_.kind != Token::Kind::kQuotedName) {
      return Expected(token_.kind == Token::Kind::kWord
                          ? "the name of a field (of this name: in backquotes)"
                          : "the name of a field");
    }
    if (token_.value.empty() || token_.value.find('.') != std::string::npos) {
      return Expected("a name that is not empty and has no dot");
    }
    path += token_.value;
    VICINAL_RETURN_IF_ERROR(Advance());
    if (!IsSymbol(".")) break;
    path += '.';
    VICINAL_RETURN_IF_ERROR(Advance());
  }
  VICINAL_RETURN_IF_ERROR(ErrorAt(begin, checker_.CheckPath(path)));
  return path;
}

absl::StatusOr<FilterNode> Parser::OfPath() {
  FilterNode node;
  VICINAL_ASSIGN_OR_RETURN(node.path, Path());
  if (token_.kind == Token::Kind::kSymbol) {
    if (IsSymbol("[")) {
      VICINAL_RETURN_IF_ERROR(Advance());
      node.kind = Kind::kElement;
      VICINAL_ASSIGN_OR_RETURN(FilterNode child, Or());
      node.children.push_back(std::move(child));
      VICINAL_RETURN_IF_ERROR(TakeSymbol("]"));
      return node;
    }
    constexpr std::pair<absl::string_view, Op> kOps[] = {
        {"=", Op::kEqual},     {"==", Op::kEqual},       {"!=", Op::kNotEqual},
        {"<>", Op::kNotEqual}, {"<", Op::kLess},         {"<=", Op::kLessEqual},
        {">", Op::kGreater},   {">=", Op::kGreaterEqual}};
    for (const auto& [symbol, op] : kOps) {
      if (!IsSymbol(symbol)) continue;
      node.kind = Kind::kCompare;
      node.op = op;
      VICINAL_RETURN_IF_ERROR(Advance());
      VICINAL_ASSIGN_OR_RETURN(Literal value,
                               Value(op == Op::kEqual || op == Op::kNotEqual));
      node.literals.push_back(std::move(value));
      return node;
    }
  }
  if (IsWord("is")) {
    VICINAL_RETURN_IF_ERROR(Advance());
    node.kind = Kind::kCompare;
    if (IsWord("not")) {
      node.op = Op::kNotEqual;
      VICINAL_RETURN_IF_ERROR(Advance());
    }
    VICINAL_RETURN_IF_ERROR(TakeWord("null"));
    node.literals.emplace_back(nullptr);
    return node;
  }
  if (IsWord("contains")) {
    VICINAL_RETURN_IF_ERROR(Advance());
    if (!IsWord("any") && !IsWord("all")) return Expected("ANY or ALL");
    node.kind = IsWord("any") ? Kind::kIn : Kind::kContainsAll;
    VICINAL_RETURN_IF_ERROR(Advance());
    VICINAL_ASSIGN_OR_RETURN(node.literals, List());
    return node;
  }
  const bool negated = IsWord("not");
  if (negated) {
    VICINAL_RETURN_IF_ERROR(Count(token_.begin));
    VICINAL_RETURN_IF_ERROR(Advance());
  }
  if (IsWord("in")) {
    VICINAL_RETURN_IF_ERROR(Advance());
    node.kind = Kind::kIn;
    VICINAL_ASSIGN_OR_RETURN(node.literals, List());
  } else if (IsWord("between")) {
    VICINAL_RETURN_IF_ERROR(Advance());
    node.kind = Kind::kBetween;
    VICINAL_ASSIGN_OR_RETURN(Literal low, Value(false));
    VICINAL_RETURN_IF_ERROR(TakeWord("and"));
    VICINAL_ASSIGN_OR_RETURN(Literal high, Value(false));
    node.literals = {std::move(low), std::move(high)};
  } else if (IsWord("starts")) {
    VICINAL_RETURN_IF_ERROR(Advance());
    VICINAL_RETURN_IF_ERROR(TakeWord("with"));
    node.kind = Kind::kPrefix;
    const Token at = token_;
    VICINAL_ASSIGN_OR_RETURN(Literal prefix, Value(false));
    if (!std::holds_alternative<std::string>(prefix)) {
      return lexer_.Error(at.begin, "STARTS WITH wants a string");
    }
    node.literals.push_back(std::move(prefix));
  } else {
    return Expected(negated ? "IN, BETWEEN or STARTS WITH"
                            : "an operator: = != < <= > >= IN NOT BETWEEN IS "
                              "STARTS CONTAINS or [");
  }
  return negated ? Negated(std::move(node)) : std::move(node);
}

absl::StatusOr<const FilterParameter*> Parser::Parameter() {
  const auto found = parameters_.find(token_.value);
  if (found == parameters_.end()) {
    return lexer_.Error(token_.begin, absl::StrCat("there is no parameter \"",
                                                   Cut(token_.value), "\""));
  }
  used_.insert(token_.value);
  return &found->second;
}

absl::StatusOr<Literal> Parser::Value(bool null_is_allowed) {
  Literal value;
  if (token_.kind == Token::Kind::kString) {
    value = token_.value;
  } else if (token_.kind == Token::Kind::kNumber) {
    value = token_.number;
  } else if (IsWord("true") || IsWord("false")) {
    value = IsWord("true");
  } else if (IsWord("null")) {
    value = nullptr;
  } else if (token_.kind == Token::Kind::kParameter) {
    VICINAL_ASSIGN_OR_RETURN(const FilterParameter* parameter, Parameter());
    if (parameter->is_list || parameter->values.size() != 1) {
      return lexer_.Error(token_.begin,
                          absl::StrCat("$", Cut(token_.value),
                                       " is a list; one value is wanted here"));
    }
    value = parameter->values[0];
  } else {
    return Expected("a value: a string in quotes, a number, TRUE, FALSE" +
                    std::string(null_is_allowed ? ", NULL" : "") +
                    " or a $parameter");
  }
  if (std::holds_alternative<std::nullptr_t>(value) && !null_is_allowed) {
    return lexer_.Error(token_.begin,
                        "NULL cannot be here; write IS NULL or IS NOT NULL");
  }
  VICINAL_RETURN_IF_ERROR(CheckLiteral(value, token_.begin));
  VICINAL_RETURN_IF_ERROR(Advance());
  return value;
}

absl::StatusOr<std::vector<Literal>> Parser::List() {
  std::vector<Literal> list;
  const size_t begin = token_.begin;
  if (token_.kind == Token::Kind::kParameter) {
    VICINAL_ASSIGN_OR_RETURN(const FilterParameter* parameter, Parameter());
    for (const Literal& value : parameter->values) {
      if (std::holds_alternative<std::nullptr_t>(value)) {
        return lexer_.Error(begin, "a list cannot have NULL");
      }
      VICINAL_RETURN_IF_ERROR(CheckLiteral(value, begin));
    }
    list = parameter->values;
    VICINAL_RETURN_IF_ERROR(Advance());
  } else {
    VICINAL_RETURN_IF_ERROR(TakeSymbol("("));
    while (!IsSymbol(")")) {
      if (!list.empty()) VICINAL_RETURN_IF_ERROR(TakeSymbol(","));
      VICINAL_ASSIGN_OR_RETURN(Literal value, Value(false));
      list.push_back(std::move(value));
    }
    VICINAL_RETURN_IF_ERROR(Advance());
  }
  return list;
}

absl::StatusOr<PointId> Parser::Id() {
  const size_t begin = token_.begin;
  if (IsWord("string")) {
    VICINAL_RETURN_IF_ERROR(Advance());
    VICINAL_RETURN_IF_ERROR(TakeSymbol("("));
    VICINAL_ASSIGN_OR_RETURN(const Literal value, Value(false));
    VICINAL_RETURN_IF_ERROR(TakeSymbol(")"));
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr) return lexer_.Error(begin, "STRING wants a string");
    absl::StatusOr<PointId> id = PointId::FromString(*text);
    if (id.ok()) return id;
    return lexer_.Error(begin, id.status().message());
  }
  if (token_.kind == Token::Kind::kNumber) {
    // Above what a literal can hold.
    const char* const last = text_.data() + token_.end;
    uint64_t number = 0;
    const auto r = std::from_chars(text_.data() + begin, last, number);
    if (r.ec == std::errc() && r.ptr == last) {
      VICINAL_RETURN_IF_ERROR(CheckLiteral(token_.number, begin));
      VICINAL_RETURN_IF_ERROR(Advance());
      return PointId(number);
    }
  }
  VICINAL_ASSIGN_OR_RETURN(const Literal value, Value(false));
  if (const auto* number = std::get_if<int64_t>(&value);
      number != nullptr && *number >= 0) {
    return PointId(static_cast<uint64_t>(*number));
  }
  if (const auto* text = std::get_if<std::string>(&value)) {
    if (absl::StatusOr<PointId> uuid = PointId::ParseUuid(*text); uuid.ok()) {
      return uuid;
    }
    absl::StatusOr<PointId> id = PointId::FromString(*text);
    if (id.ok()) return id;
    return lexer_.Error(begin, id.status().message());
  }
  return lexer_.Error(begin, "an id is an integer >= 0 or a string");
}

absl::StatusOr<FilterNode> Parser::OfId() {
  VICINAL_RETURN_IF_ERROR(Advance());
  FilterNode node{.kind = Kind::kId};
  bool negated = IsSymbol("!=") || IsSymbol("<>");
  if (negated || IsWord("not")) VICINAL_RETURN_IF_ERROR(Count(token_.begin));
  if (negated || IsSymbol("=") || IsSymbol("==")) {
    VICINAL_RETURN_IF_ERROR(Advance());
    VICINAL_ASSIGN_OR_RETURN(PointId id, Id());
    node.ids.push_back(std::move(id));
    return negated ? Negated(std::move(node)) : std::move(node);
  }
  negated = IsWord("not");
  if (negated) VICINAL_RETURN_IF_ERROR(Advance());
  if (!IsWord("in")) return Expected("=, != or IN");
  VICINAL_RETURN_IF_ERROR(Advance());
  VICINAL_RETURN_IF_ERROR(TakeSymbol("("));
  do {
    if (!node.ids.empty()) VICINAL_RETURN_IF_ERROR(TakeSymbol(","));
    VICINAL_ASSIGN_OR_RETURN(PointId id, Id());
    node.ids.push_back(std::move(id));
  } while (!IsSymbol(")"));
  VICINAL_RETURN_IF_ERROR(Advance());
  return negated ? Negated(std::move(node)) : std::move(node);
}

absl::StatusOr<double> Parser::Number() {
  const size_t begin = token_.begin;
  VICINAL_ASSIGN_OR_RETURN(const Literal value, Value(false));
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    return static_cast<double>(*integer);
  }
  if (const auto* number = std::get_if<double>(&value)) return *number;
  return lexer_.Error(begin, "a number is wanted here");
}

absl::StatusOr<FilterNode> Parser::Geo(Kind kind) {
  const size_t begin = token_.begin;
  VICINAL_RETURN_IF_ERROR(Advance());
  VICINAL_RETURN_IF_ERROR(TakeSymbol("("));
  FilterNode node{.kind = kind};
  VICINAL_ASSIGN_OR_RETURN(node.path, Path());
  std::vector<double> numbers;
  while (!IsSymbol(")")) {
    VICINAL_RETURN_IF_ERROR(TakeSymbol(","));
    VICINAL_ASSIGN_OR_RETURN(const double number, Number());
    numbers.push_back(number);
  }
  VICINAL_RETURN_IF_ERROR(Advance());
  const size_t fixed = kind == Kind::kGeoRadius ? 3 : 4;
  if (kind == Kind::kGeoPolygon ? numbers.size() % 2 != 0
                                : numbers.size() != fixed) {
    return lexer_.Error(
        begin, kind == Kind::kGeoRadius ? "GEO_RADIUS wants lat, lon, meters"
               : kind == Kind::kGeoBox
                   ? "GEO_BOX wants south, west, north, east"
                   : "GEO_POLYGON wants a lat and a lon for each corner");
  }
  if (kind == Kind::kGeoRadius) {
    node.meters = numbers.back();
    numbers.pop_back();
  }
  for (size_t i = 0; i + 1 < numbers.size(); i += 2) {
    node.points.push_back({numbers[i], numbers[i + 1]});
  }
  VICINAL_RETURN_IF_ERROR(
      ErrorAt(begin, CheckGeometry(node, checker_.limits())));
  return node;
}

}  // namespace

absl::StatusOr<FilterNode> ParseFilter(absl::string_view text,
                                       const FilterParameters& parameters,
                                       const FilterLimits& limits) {
  return Parser(text, parameters, limits).Run();
}

}  // namespace vicinal
