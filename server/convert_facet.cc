#include "server/convert_facet.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/convert_filter.h"
#include "server/convert_scroll.h"
#include "server/errors.h"
#include "server/page_token.h"
#include "src/base/coding.h"
#include "src/payload/filter_text.h"
#include "src/payload/payload_key.h"

namespace vicinal {
namespace {

void FillValue(const std::string& key, PayloadType type, v1::FilterValue* out) {
  std::visit(
      [&](auto&& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, bool>) {
          out->set_bool_value(value);
        } else if constexpr (std::is_same_v<T, int64_t>) {
          out->set_int_value(value);
        } else if constexpr (std::is_same_v<T, double>) {
          out->set_double_value(value);
        } else if constexpr (std::is_same_v<T, std::string>) {
          out->set_string_value(std::move(value));
        }
      },
      ValueOfKey(key, type));
}

// What a page token is good for.
std::string Asked(const CollectionSchema& schema, const FacetQuery& query) {
  std::string asked;
  PutLengthPrefixed(&asked, "facet");
  PutLengthPrefixed(&asked, schema.uuid);
  PutLengthPrefixed(&asked, query.field.path);
  PutLengthPrefixed(&asked, query.prefix);
  PutFixed(&asked, query.field.type);
  if (query.filter != nullptr) asked += FilterToText(*query.filter);
  return asked;
}

// The place of a token: count (u64) and key of the last value.
std::string EncodePlace(const FacetValue& last) {
  std::string place;
  PutFixed(&place, last.count);
  return place + last.key;
}

void CheckPrefix(const FacetQuery& query, FieldViolations* violations) {
  const size_t max_bytes = FilterLimits().max_literal_bytes;
  if (query.prefix.size() > max_bytes) {
    violations->Add(
        "prefix", absl::StrCat("has ", query.prefix.size(), " bytes; at most ",
                               max_bytes, " are allowed"));
  }
  if (!query.prefix.empty() && query.field.type != PayloadType::kKeyword) {
    violations->Add("prefix", absl::StrCat("is for keywords; the values of ",
                                           query.field.path, " are of type ",
                                           PayloadTypeName(query.field.type),
                                           "; leave it out or give a filter"));
  }
}

}  // namespace

absl::StatusOr<ParsedFacet> ParsedFacet::Parse(const v1::FacetRequest& request,
                                               const CollectionSchema& schema,
                                               const Limits& limits) {
  ParsedFacet facet;
  FacetQuery& query = facet.query;
  FieldViolations violations;
  CheckIndexedPath(request.path(), "path", &violations);
  if (request.limit() > limits.max_facet_values) {
    violations.Add("limit", absl::StrCat("is ", request.limit(), "; at most ",
                                         limits.max_facet_values,
                                         " values fit one reply: ask for more "
                                         "with page_token"));
  }
  if (request.has_filter()) {
    facet.filter = ParseFilter(request.filter(), "filter", &violations);
  }
  if (!violations.empty()) return violations.ToStatus();
  const auto field = schema.FindIndexedField(request.path());
  if (!field.ok()) return IndexMissing(field.status(), schema, request.path());
  query.field = *field;
  query.filter = facet.filter.get();
  query.prefix = request.prefix();
  query.limit = request.limit();
  CheckPrefix(query, &violations);
  if (field->type == PayloadType::kGeo) {
    violations.Add("path",
                   "is a field of type geo, whose places have no order; ask "
                   "for a field of another type");
  }
  facet.asked = Asked(schema, query);
  if (!request.page_token().empty()) {
    std::string place;
    const std::string problem =
        ReadPageToken(request.page_token(), facet.asked, &place);
    if (!problem.empty()) violations.Add("page_token", problem);
    absl::string_view rest = place;
    FacetValue last;
    if (ConsumeFixed(&rest, &last.count)) {
      last.key = std::string(rest);
      query.after = std::move(last);
    }
  }
  if (!violations.empty()) return violations.ToStatus();
  return facet;
}

void ParsedFacet::ToProto(const FacetResult& result,
                          v1::FacetResponse* reply) const {
  const PayloadType type = query.field.type;
  for (const FacetValue& value : result.values) {
    v1::FacetValue* out = reply->add_values();
    FillValue(value.key, type, out->mutable_value());
    out->set_count(value.count);
  }
  if (result.more) {
    reply->set_next_page_token(
        MakePageToken(asked, EncodePlace(result.values.back())));
  }
  reply->set_num_distinct(result.num_distinct);
  if (result.min.has_value())
    FillValue(*result.min, type, reply->mutable_min());
  if (result.max.has_value())
    FillValue(*result.max, type, reply->mutable_max());
}

}  // namespace vicinal
