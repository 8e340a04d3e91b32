// Facet over the wire: every type of value, pages, and what is refused.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/server_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FacetServiceTest : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    CreatePoints();
    const std::pair<const char*, PayloadType> kFields[] = {
        {"word", PayloadType::kKeyword},   {"n", PayloadType::kInt64},
        {"number", PayloadType::kFloat64}, {"flag", PayloadType::kBool},
        {"date", PayloadType::kDatetime},  {"uuid", PayloadType::kUuid},
        {"place", PayloadType::kGeo}};
    for (const auto& [path, type] : kFields) {
      ASSERT_TRUE(
          server_->database().CreatePayloadIndex("points", {path, type}).ok());
    }
    v1::UpsertRequest request;
    request.set_collection("points");
    *request.mutable_points() = Batch(0, 20);
    auto* payloads =
        request.mutable_points()->mutable_columns()->mutable_payloads();
    for (int i = 0; i < 20; ++i) {
      *payloads->Mutable(i) = absl::StrCat(
          R"({"word": ["w)", i % 3, R"(", "all"], "n": )", i - 5,
          R"(, "number": )", i % 2, R"(.5, "flag": )", i < 5 ? "true" : "false",
          R"(, "date": "2024-05-31T12:00:00+02:00", "uuid": )",
          R"("6BA7B810-9dad-11d1-80b4-00c04fd430c8"})");
    }
    v1::UpsertResponse reply;
    Call call;
    ASSERT_TRUE(points_->Upsert(&call, request, &reply).ok());
  }

  static v1::FacetRequest Of(const std::string& path, uint32_t limit) {
    v1::FacetRequest request;
    request.set_collection("points");
    request.set_path(path);
    request.set_limit(limit);
    return request;
  }
  grpc::Status Send(const v1::FacetRequest& request, v1::FacetResponse* reply) {
    Call call;
    return points_->Facet(&call, request, reply);
  }
  v1::FacetResponse Facet(const v1::FacetRequest& request) {
    v1::FacetResponse reply;
    const grpc::Status status = Send(request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
  }
  // The values with their counts, as text.
  static std::vector<std::string> Values(const v1::FacetResponse& reply) {
    std::vector<std::string> out;
    for (const v1::FacetValue& value : reply.values()) {
      out.push_back(
          absl::StrCat(value.value().ShortDebugString(), " x ", value.count()));
    }
    return out;
  }
  void ExpectRefused(const v1::FacetRequest& request, const std::string& field,
                     const std::string& message) {
    v1::FacetResponse reply;
    const grpc::Status status = Send(request, &reply);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << status.error_message();
    EXPECT_EQ(DetailsOf(status).reason, "INVALID_FIELD");
    EXPECT_THAT(DetailsOf(status).fields, ElementsAre(field));
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  }
};

TEST_F(FacetServiceTest, ReturnsValuesAsFiltersTakeThem) {
  for (int round = 0; round < 2; ++round) {
    const v1::FacetResponse words = Facet(Of("word", 10));
    EXPECT_THAT(
        Values(words),
        ElementsAre("string_value: \"all\" x 20", "string_value: \"w0\" x 7",
                    "string_value: \"w1\" x 7", "string_value: \"w2\" x 6"));
    EXPECT_EQ(words.num_distinct(), 4u);
    EXPECT_EQ(words.next_page_token(), "");
    EXPECT_EQ(words.min().string_value(), "all");
    EXPECT_EQ(words.max().string_value(), "w2");
    EXPECT_THAT(Values(Facet(Of("number", 1))),
                ElementsAre("double_value: 0.5 x 10"));
    EXPECT_THAT(Values(Facet(Of("flag", 5))),
                ElementsAre("bool_value: false x 15", "bool_value: true x 5"));
    EXPECT_THAT(Values(Facet(Of("date", 5))),
                ElementsAre("string_value: \"2024-05-31T10:00:00Z\" x 20"));
    EXPECT_THAT(Values(Facet(Of("uuid", 5))),
                ElementsAre("string_value: "
                            "\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\" x 20"));
    const v1::FacetResponse totals = Facet(Of("n", 0));
    EXPECT_EQ(totals.values_size(), 0);
    EXPECT_EQ(totals.next_page_token(), "");
    EXPECT_EQ(totals.num_distinct(), 20u);
    EXPECT_EQ(totals.min().int_value(), -5);
    EXPECT_EQ(totals.max().int_value(), 14);
    Restart();
  }
}

TEST_F(FacetServiceTest, CountsWhatAFilterAndAPrefixLeave) {
  v1::FacetRequest request = Of("word", 10);
  request.mutable_filter()->set_text("n >= $low");
  (*request.mutable_filter()->mutable_parameters())["low"].set_int_value(10);
  request.set_prefix("w");
  const v1::FacetResponse some = Facet(request);
  EXPECT_THAT(Values(some), ElementsAre("string_value: \"w0\" x 2",
                                        "string_value: \"w1\" x 2",
                                        "string_value: \"w2\" x 1"));
  EXPECT_EQ(some.num_distinct(), 3u);
  request.mutable_filter()->Clear();
  request.mutable_filter()->set_text("FALSE");
  const v1::FacetResponse none = Facet(request);
  EXPECT_EQ(none.num_distinct(), 0u);
  EXPECT_FALSE(none.has_min());
  EXPECT_FALSE(none.has_max());
}

TEST_F(FacetServiceTest, GoesOnByATokenOfTheSameQuestion) {
  v1::FacetRequest request = Of("n", 3);
  std::vector<int64_t> found;
  std::string first_token;
  do {
    request.set_limit(1 + request.limit() % 3);
    const v1::FacetResponse page = Facet(request);
    for (const auto& value : page.values()) {
      found.push_back(value.value().int_value());
      EXPECT_EQ(value.count(), 1u);
    }
    EXPECT_EQ(page.num_distinct(), 20u);
    request.set_page_token(page.next_page_token());
    if (first_token.empty()) first_token = page.next_page_token();
  } while (!request.page_token().empty());
  ASSERT_EQ(found.size(), 20u);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(found[i], i - 5);

  // A token outlives the server, but not a change of what is asked.
  Restart();
  request.set_page_token(first_token);
  EXPECT_TRUE(Facet(request).values_size() > 0);
  for (const char* path : {"word", "number"}) {
    v1::FacetRequest other = Of(path, 3);
    other.set_page_token(first_token);
    ExpectRefused(other, "page_token", "another question");
  }
  v1::FacetRequest filtered = request;
  filtered.mutable_filter()->set_text("n > 3");
  ExpectRefused(filtered, "page_token", "another question");
  for (size_t i = 0; i < first_token.size(); ++i) {
    v1::FacetRequest broken = request;
    std::string token = first_token;
    token[i] = token[i] == 'A' ? 'B' : 'A';
    broken.set_page_token(token);
    ExpectRefused(broken, "page_token", "is no page token");
    broken.set_page_token(first_token.substr(0, i));
    if (i > 0) ExpectRefused(broken, "page_token", "is no page token");
  }
  request.set_page_token("!");
  ExpectRefused(request, "page_token", "is no page token");

  // Of a collection of the same name.
  v1::DeleteCollectionRequest drop;
  drop.set_name("points");
  v1::DeleteCollectionResponse dropped;
  Call call;
  ASSERT_TRUE(collections_->DeleteCollection(&call, drop, &dropped).ok());
  CreatePoints();
  ASSERT_TRUE(server_->database()
                  .CreatePayloadIndex("points", {"n", PayloadType::kInt64})
                  .ok());
  request.set_page_token(first_token);
  ExpectRefused(request, "page_token", "another question");
}

TEST_F(FacetServiceTest, RefusesBadInput) {
  ExpectRefused(Of("", 1), "path", "has 0 bytes; it must be 1 to 512");
  ExpectRefused(Of(std::string(513, 'a'), 1), "path", "has 513 bytes");
  ExpectRefused(Of("place", 1), "path", "places have no order");
  ExpectRefused(Of("n", 10'001), "limit", "is 10001; at most 10000");
  v1::FacetRequest request = Of("n", 1);
  request.set_prefix("1");
  ExpectRefused(request, "prefix", "the values of n are of type i64");
  request = Of("word", 1);
  request.set_prefix(std::string(32'767, 'a'));
  ExpectRefused(request, "prefix", "has 32767 bytes; at most 32766");
  request = Of("word", 1);
  request.mutable_filter()->set_text("a ==");
  ExpectRefused(request, "filter.text", "expected a value");

  v1::FacetResponse reply;
  const grpc::Status missing = Send(Of("other", 1), &reply);
  EXPECT_EQ(missing.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(DetailsOf(missing).reason, "PAYLOAD_INDEX_MISSING");
  EXPECT_THAT(missing.error_message(),
              HasSubstr("\"other\" of collection \"points\" has no index; "
                        "create one"));
  request = Of("n", 1);
  request.set_collection("nowhere");
  EXPECT_EQ(Send(request, &reply).error_code(), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace vicinal::testing
