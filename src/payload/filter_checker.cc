#include "src/payload/filter_checker.h"

#include <cmath>
#include <cstddef>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/status_macros.h"
#include "src/base/utf8.h"

namespace vicinal {

absl::Status FilterChecker::AddNode() {
  if (++num_nodes_ <= limits_.max_nodes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("more than ", limits_.max_nodes,
                   " conditions; use IN for many values of one field"));
}

absl::Status FilterChecker::CheckDepth(size_t depth) const {
  if (depth <= limits_.max_depth) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("nested deeper than ", limits_.max_depth, "; flatten it"));
}

absl::Status FilterChecker::CountValue(size_t string_bytes) {
  if (++num_literals_ > limits_.max_literals) {
    return absl::InvalidArgumentError(
        absl::StrCat("more than ", limits_.max_literals,
                     " values and ids, each use of a list counted"));
  }
  string_bytes_ += string_bytes;
  if (string_bytes_ > limits_.max_string_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("more than ", limits_.max_string_bytes,
                     " bytes of strings, each use of a list counted"));
  }
  return absl::OkStatus();
}

absl::Status FilterChecker::AddLiteral(const Literal& literal) {
  const auto* text = std::get_if<std::string>(&literal);
  VICINAL_RETURN_IF_ERROR(CountValue(text != nullptr ? text->size() : 0));
  const auto* number = std::get_if<double>(&literal);
  if (number != nullptr && !std::isfinite(*number)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the number ", *number, " is not finite"));
  }
  if (text == nullptr) return absl::OkStatus();
  if (text->size() > limits_.max_literal_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a string of ", text->size(), " bytes; at most ",
                     limits_.max_literal_bytes, " are allowed"));
  }
  if (const size_t bad = FindBadUtf8(*text); bad != text->size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a string is not UTF-8 at byte ", bad + 1, "; encode it as UTF-8"));
  }
  return absl::OkStatus();
}

absl::Status FilterChecker::AddId(const PointId& id) {
  return CountValue(id.is_string() ? id.string().size() : 0);
}

absl::Status FilterChecker::CheckPath(absl::string_view path) const {
  if (path.empty()) {
    return absl::InvalidArgumentError("an empty path; name a field");
  }
  if (path.size() > limits_.max_path_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a path of ", path.size(), " bytes; at most ",
                     limits_.max_path_bytes, " are allowed"));
  }
  if (const size_t bad = FindBadUtf8(path); bad != path.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a path is not UTF-8 at byte ", bad + 1, "; encode it as UTF-8"));
  }
  if (path.front() == '.' || path.back() == '.' ||
      path.find("..") != absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the path \"", path, "\" has an empty name; names stand between dots"));
  }
  return absl::OkStatus();
}

}  // namespace vicinal
