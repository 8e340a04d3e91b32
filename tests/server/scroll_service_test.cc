// Scroll over the wire: orders, tokens that go on, and what is refused.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/page_token.h"
#include "tests/server/server_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ScrollServiceTest : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    CreatePoints();
    const std::pair<const char*, PayloadType> kFields[] = {
        {"n", PayloadType::kInt64},
        {"word", PayloadType::kKeyword},
        {"place", PayloadType::kGeo}};
    for (const auto& [path, type] : kFields) {
      ASSERT_TRUE(
          server_->database().CreatePayloadIndex("points", {path, type}).ok());
    }
    // n: 5, 4, 3, 2, 1, 0 for ids 0 to 5 and so on; every tenth has none.
    v1::UpsertRequest request;
    request.set_collection("points");
    *request.mutable_points() = Batch(0, 20);
    auto* payloads =
        request.mutable_points()->mutable_columns()->mutable_payloads();
    for (int i = 0; i < 20; ++i) {
      *payloads->Mutable(i) =
          i % 10 == 9 ? R"({"word": ["z", "b"]})"
                      : absl::StrCat(R"({"n": )", 5 - i % 6, R"(, "word": "w)",
                                     i % 3, R"("})");
    }
    v1::UpsertResponse reply;
    Call call;
    ASSERT_TRUE(points_->Upsert(&call, request, &reply).ok());
  }

  static v1::ScrollRequest Request(const std::string& path) {
    v1::ScrollRequest request;
    request.set_collection("points");
    if (!path.empty()) request.mutable_order_by()->set_path(path);
    return request;
  }
  grpc::Status Send(const v1::ScrollRequest& request,
                    std::vector<v1::ScrollResponse>* pages) {
    Call call;
    auto reader = points_->Scroll(&call, request);
    v1::ScrollResponse page;
    while (reader->Read(&page)) pages->push_back(page);
    return reader->Finish();
  }
  // Ids of one call; *token is then that of its last message.
  std::vector<uint64_t> Scroll(const v1::ScrollRequest& request,
                               std::string* token = nullptr) {
    std::vector<v1::ScrollResponse> pages;
    const grpc::Status status = Send(request, &pages);
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::vector<uint64_t> ids;
    for (const v1::ScrollResponse& page : pages) {
      EXPECT_FALSE(page.next_page_token().empty());
      if (token != nullptr) *token = page.next_page_token();
      for (const uint64_t id : page.points().columns().ids().numbers()) {
        ids.push_back(id);
      }
      for (const v1::PointRow& row : page.points().rows()) {
        ids.push_back(row.id().number());
      }
    }
    return ids;
  }
  void ExpectRefused(const v1::ScrollRequest& request, const std::string& field,
                     const std::string& message) {
    std::vector<v1::ScrollResponse> pages;
    const grpc::Status status = Send(request, &pages);
    EXPECT_TRUE(pages.empty());
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << status.error_message();
    EXPECT_EQ(DetailsOf(status).reason, "INVALID_FIELD");
    EXPECT_THAT(DetailsOf(status).fields, ElementsAre(field));
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  }
};

TEST_F(ScrollServiceTest, OrdersByAFieldWithTiesById) {
  EXPECT_THAT(Scroll(Request("n")), ElementsAre(5, 11, 17, 4, 10, 16, 3, 15, 2,
                                                8, 14, 1, 7, 13, 0, 6, 12, 18));
  v1::ScrollRequest request = Request("n");
  request.mutable_order_by()->set_descending(true);
  request.mutable_filter()->set_text("n >= 4");
  request.set_page_size(3);
  EXPECT_THAT(Scroll(request), ElementsAre(0, 6, 12, 18, 1, 7, 13));
  // Of several values the first in the order counts.
  request = Request("word");
  request.set_limit(3);
  EXPECT_THAT(Scroll(request), ElementsAre(9, 19, 0));
  request.mutable_order_by()->set_descending(true);
  EXPECT_THAT(Scroll(request), ElementsAre(9, 19, 2));
}

TEST_F(ScrollServiceTest, GoesOnByATokenAlsoAfterARestart) {
  for (const char* path : {"", "n"}) {
    for (const uint64_t limit : {1, 3, 100}) {
      for (const auto form : {v1::REPLY_FORM_COLUMNS, v1::REPLY_FORM_ROWS}) {
        v1::ScrollRequest request = Request(path);
        request.mutable_filter()->set_text("word != 'w1'");
        request.mutable_select()->set_form(form);
        const std::vector<uint64_t> expected = Scroll(request);
        EXPECT_EQ(expected.size(), *path == 0 ? 14u : 12u);
        request.set_limit(limit);
        request.set_page_size(2);
        std::vector<uint64_t> found;
        while (true) {
          std::string token;
          const std::vector<uint64_t> page = Scroll(request, &token);
          if (page.empty()) break;
          found.insert(found.end(), page.begin(), page.end());
          request.set_page_token(token);
        }
        EXPECT_EQ(found, expected);
      }
    }
    Restart();
  }
  v1::ScrollRequest request = Request("n");
  request.set_limit(5);
  std::string token;
  EXPECT_THAT(Scroll(request, &token), ElementsAre(5, 11, 17, 4, 10));
  Restart();
  request.set_page_token(token);
  EXPECT_THAT(Scroll(request), ElementsAre(16, 3, 15, 2, 8));
}

TEST_F(ScrollServiceTest, RefusesATokenOfAnotherQuestion) {
  v1::ScrollRequest request = Request("n");
  request.mutable_filter()->set_text("n > 1");
  request.set_limit(2);
  std::string token;
  Scroll(request, &token);
  request.set_page_token(token);
  const char* other = "of another question";
  v1::ScrollRequest wrong = request;
  wrong.mutable_order_by()->set_descending(true);
  ExpectRefused(wrong, "page_token", other);
  wrong = request;
  wrong.mutable_order_by()->set_path("word");
  ExpectRefused(wrong, "page_token", other);
  wrong = request;
  wrong.clear_order_by();
  ExpectRefused(wrong, "page_token", other);
  wrong = request;
  wrong.mutable_filter()->set_text("n > 2");
  ExpectRefused(wrong, "page_token", other);
  wrong = request;
  wrong.clear_filter();
  ExpectRefused(wrong, "page_token", other);
  // The same name, but another collection.
  v1::DeleteCollectionRequest drop;
  drop.set_name("points");
  v1::DeleteCollectionResponse dropped;
  Call call;
  ASSERT_TRUE(collections_->DeleteCollection(&call, drop, &dropped).ok());
  CreatePoints();
  ASSERT_TRUE(server_->database()
                  .CreatePayloadIndex("points", {"n", PayloadType::kInt64})
                  .ok());
  ExpectRefused(request, "page_token", other);
}

TEST_F(ScrollServiceTest, RefusesTokensThatAreNone) {
  const char* none = "is no page token";
  v1::ScrollRequest request = Request("n");
  request.set_limit(2);
  std::string token;
  Scroll(request, &token);
  for (size_t i = 0; i < token.size(); ++i) {
    std::string bent = token;
    bent[i] = bent[i] == 'A' ? 'B' : 'A';
    request.set_page_token(bent);
    std::vector<v1::ScrollResponse> pages;
    const grpc::Status status = Send(request, &pages);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << i;
    request.set_page_token(token.substr(0, i));
    if (i > 0) ExpectRefused(request, "page_token", none);
  }
  request.set_page_token(std::string(100'000, 'x'));
  ExpectRefused(request, "page_token", none);
  request.set_page_token("\n%%%");
  ExpectRefused(request, "page_token", none);
  // A token of a facet, and one that is forged with a right checksum.
  v1::FacetRequest facet;
  facet.set_collection("points");
  facet.set_path("n");
  facet.set_limit(1);
  v1::FacetResponse facets;
  Call call;
  ASSERT_TRUE(points_->Facet(&call, facet, &facets).ok());
  request.set_page_token(facets.next_page_token());
  ExpectRefused(request, "page_token", "of another question");
}

TEST_F(ScrollServiceTest, RefusesOrdersThatThereAreNot) {
  std::vector<v1::ScrollResponse> pages;
  const grpc::Status missing = Send(Request("price"), &pages);
  EXPECT_EQ(missing.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(DetailsOf(missing).reason, "PAYLOAD_INDEX_MISSING");
  EXPECT_THAT(missing.error_message(), HasSubstr("has no index"));
  ExpectRefused(Request("place"), "order_by.path", "places have no order");
  v1::ScrollRequest request = Request("");
  request.mutable_order_by();
  ExpectRefused(request, "order_by.path", "has 0 bytes");
  ExpectRefused(Request(std::string(513, 'x')), "order_by.path",
                "has 513 bytes");
  request = Request("n");
  request.mutable_after()->set_number(3);
  ExpectRefused(request, "after", "is for the order by id");
  request = Request("");
  request.set_limit(1);
  std::string token;
  Scroll(request, &token);
  request.set_page_token(token);
  request.mutable_after()->set_number(3);
  ExpectRefused(request, "after", "stands beside page_token");
}

}  // namespace
}  // namespace vicinal::testing
