#include "server/convert_scroll.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/convert_filter.h"
#include "server/errors.h"
#include "server/page_token.h"
#include "src/base/coding.h"
#include "src/payload/filter_text.h"
#include "src/payload/payload_key.h"

namespace vicinal {
namespace {

constexpr size_t kDefaultPageSize = 256;

// What a page token is good for.
std::string Asked(const CollectionSchema& schema, const ParsedScroll& scroll) {
  std::string asked;
  PutLengthPrefixed(&asked, "scroll");
  PutLengthPrefixed(&asked, schema.uuid);
  if (scroll.order.has_value()) {
    PutLengthPrefixed(&asked, scroll.order->field.path);
    PutFixed(&asked, scroll.order->field.type);
    PutFixed(&asked, static_cast<uint8_t>(scroll.order->descending));
  } else {
    PutLengthPrefixed(&asked, "");
  }
  if (scroll.filter != nullptr) asked += FilterToText(*scroll.filter);
  return asked;
}

// The place of a token: the id, length-prefixed, and the key of a point. False:
// no place, though the checksum holds.
bool DecodePlace(absl::string_view place, ParsedScroll* scroll) {
  absl::string_view encoded;
  if (!ConsumeLengthPrefixed(&place, &encoded)) return false;
  auto id = PointId::Decode(encoded);
  if (!id.ok()) return false;
  if (!scroll->order.has_value()) {
    scroll->after = *std::move(id);
    return place.empty();
  }
  const size_t key_bytes = KeyBytes(scroll->order->field.type);
  if (key_bytes != 0 && place.size() != key_bytes) return false;
  scroll->order->after = {std::string(place), *std::move(id)};
  return true;
}

void ParsePageToken(const v1::ScrollRequest& request, ParsedScroll* scroll,
                    FieldViolations* violations) {
  if (request.page_token().empty()) return;
  if (request.has_after()) {
    violations->Add("after", "stands beside page_token; give one of them");
  }
  std::string place;
  const std::string problem =
      ReadPageToken(request.page_token(), scroll->asked, &place);
  if (!problem.empty()) {
    violations->Add("page_token", problem);
  } else if (!DecodePlace(place, scroll)) {
    violations->Add("page_token",
                    "is no page token; send next_page_token of an earlier "
                    "reply as it is");
  }
}

void CheckOrderBy(const v1::ScrollRequest& request,
                  FieldViolations* violations) {
  CheckIndexedPath(request.order_by().path(), "order_by.path", violations);
  if (request.has_after()) {
    violations->Add("after",
                    "is for the order by id; with order_by, go on by "
                    "page_token");
  }
}

}  // namespace

absl::Status IndexMissing(const absl::Status& status,
                          const CollectionSchema& schema,
                          absl::string_view path) {
  return WithReason(status, reason::kPayloadIndexMissing,
                    {{"collection", schema.name}, {"path", std::string(path)}});
}

void CheckIndexedPath(absl::string_view path, const std::string& field,
                      FieldViolations* violations) {
  const size_t max_bytes = FilterLimits().max_path_bytes;
  if (path.empty() || path.size() > max_bytes) {
    violations->Add(field, absl::StrCat("has ", path.size(),
                                        " bytes; it must be 1 to ", max_bytes,
                                        " and name a field that has an "
                                        "index"));
  }
}

absl::StatusOr<ParsedScroll> ParsedScroll::Parse(
    const v1::ScrollRequest& request, const CollectionSchema& schema,
    const Limits& limits) {
  ParsedScroll scroll;
  FieldViolations violations;
  scroll.selection =
      ParseSelector(request.select(), schema, "select", &violations);
  if (request.has_after()) {
    scroll.after = ParsePointId(request.after(), "after", &violations);
  }
  if (request.page_size() > limits.max_page_size) {
    violations.Add("page_size", absl::StrCat("is ", request.page_size(),
                                             "; at most ", limits.max_page_size,
                                             " points fit one message"));
  }
  if (request.has_filter()) {
    scroll.filter = ParseFilter(request.filter(), "filter", &violations);
  }
  if (request.has_order_by()) CheckOrderBy(request, &violations);
  if (!violations.empty()) return violations.ToStatus();
  if (request.has_order_by()) {
    const std::string& path = request.order_by().path();
    const auto field = schema.FindIndexedField(path);
    if (!field.ok()) return IndexMissing(field.status(), schema, path);
    if (field->type == PayloadType::kGeo) {
      violations.Add("order_by.path",
                     "is a field of type geo, whose places have no order; ask "
                     "for a field of another type");
    }
    scroll.order = {.field = *field,
                    .descending = request.order_by().descending(),
                    .after = std::nullopt};
  }
  scroll.asked = Asked(schema, scroll);
  ParsePageToken(request, &scroll, &violations);
  if (!violations.empty()) return violations.ToStatus();
  scroll.page_size =
      request.page_size() == 0 ? kDefaultPageSize : request.page_size();
  if (request.limit() != 0) {
    scroll.page_size = static_cast<size_t>(
        std::min<uint64_t>(scroll.page_size, request.limit()));
  }
  return scroll;
}

std::string ParsedScroll::TokenBehind(const StoredPoint& point) const {
  std::string place;
  PutLengthPrefixed(&place, point.id.Encode());
  return MakePageToken(asked, place + point.key);
}

}  // namespace vicinal
