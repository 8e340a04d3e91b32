// Replies larger than a message: refused before they are built, or cut into
// pages.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/server_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr size_t kMessageBytes = size_t{256} << 10;
constexpr size_t kPayloadBytes = size_t{50} << 10;

class ReplyLimitTest : public ServerFixture {
 protected:
  void SetUp() override {
    database_options_.limits.max_message_bytes = kMessageBytes;
    ServerFixture::SetUp();
    CreatePoints();
    for (uint64_t id = 1; id <= 10; ++id) UpsertLarge(id, kPayloadBytes);
  }

  void UpsertLarge(uint64_t id, size_t payload_bytes) {
    v1::UpsertRequest request;
    request.set_collection("points");
    *request.mutable_points() = Batch(id, 1);
    request.mutable_points()->mutable_columns()->set_payloads(
        0, "{\"x\":\"" + std::string(payload_bytes, 'x') + "\"}");
    v1::UpsertResponse reply;
    Call call;
    const grpc::Status status = points_->Upsert(&call, request, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  static void ExpectTooLarge(const grpc::Status& status) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(DetailsOf(status).reason, "REPLY_TOO_LARGE");
    EXPECT_FALSE(DetailsOf(status).retry_info);
    EXPECT_THAT(status.error_message(), HasSubstr("fit one message"));
  }

  grpc::Status Get(const std::vector<uint64_t>& ids, v1::ReplyForm form) {
    v1::GetRequest request;
    request.set_collection("points");
    request.mutable_ids()->mutable_numbers()->Assign(ids.begin(), ids.end());
    request.mutable_select()->set_with_payload(true);
    request.mutable_select()->set_form(form);
    v1::GetResponse reply;
    Call call;
    return points_->Get(&call, request, &reply);
  }

  grpc::Status Search(uint32_t k, v1::ReplyForm form) {
    v1::SearchRequest request;
    request.set_collection("points");
    auto* retrieve = request.mutable_query()->mutable_retrieve();
    retrieve->set_vector("l2");
    for (int i = 0; i < 4; ++i) retrieve->mutable_query()->add_values(1);
    retrieve->set_k(k);
    request.mutable_select()->set_with_payload(true);
    request.mutable_select()->set_form(form);
    v1::SearchResponse reply;
    Call call;
    return search_->Search(&call, request, &reply);
  }

  grpc::Status SearchBatch(size_t num_queries, uint32_t k, v1::ReplyForm form) {
    v1::SearchBatchRequest request;
    request.set_collection("points");
    request.set_vector("l2");
    request.set_k(k);
    request.mutable_queries()->set_dim(4);
    request.mutable_queries()->set_data(
        std::string(num_queries * 4 * sizeof(float), '\0'));
    request.mutable_select()->set_with_payload(true);
    request.mutable_select()->set_form(form);
    v1::SearchBatchResponse reply;
    Call call;
    return search_->SearchBatch(&call, request, &reply);
  }

  // Sizes of the pages, in points.
  std::vector<int> Scroll(v1::ReplyForm form, grpc::Status* status) {
    v1::ScrollRequest request;
    request.set_collection("points");
    request.set_page_size(1'000);
    request.mutable_select()->set_with_payload(true);
    request.mutable_select()->set_form(form);
    Call call;
    auto reader = points_->Scroll(&call, request);
    std::vector<int> sizes;
    uint64_t next = 1;
    v1::ScrollResponse page;
    while (reader->Read(&page)) {
      EXPECT_LE(page.ByteSizeLong(), kMessageBytes);
      const v1::PointBatch& points = page.points();
      for (const auto& row : points.rows()) {
        EXPECT_EQ(row.id().number(), next++);
      }
      for (const uint64_t id : points.columns().ids().numbers()) {
        EXPECT_EQ(id, next++);
      }
      sizes.push_back(points.rows_size() +
                      points.columns().ids().numbers_size());
    }
    *status = reader->Finish();
    return sizes;
  }
};

constexpr v1::ReplyForm kForms[] = {v1::REPLY_FORM_COLUMNS,
                                    v1::REPLY_FORM_ROWS};

TEST_F(ReplyLimitTest, GetSearchAndSearchBatchStopAtTheLimitOfAMessage) {
  for (const v1::ReplyForm form : kForms) {
    EXPECT_TRUE(Get({1, 2, 3, 4}, form).ok());
    ExpectTooLarge(Get({1, 2, 3, 4, 5, 6}, form));
    EXPECT_TRUE(Search(4, form).ok());
    ExpectTooLarge(Search(6, form));
    EXPECT_TRUE(SearchBatch(2, 2, form).ok());
    ExpectTooLarge(SearchBatch(2, 3, form));
    ExpectTooLarge(SearchBatch(6, 1, form));
  }
  EXPECT_EQ(Count(), 10u) << "it still serves";
}

TEST_F(ReplyLimitTest, OneIdAskedForVeryOftenIsNotReadVeryOften) {
  // 1.6 GiB, would it be built.
  ExpectTooLarge(Get(std::vector<uint64_t>(32'000, 1), v1::REPLY_FORM_COLUMNS));
}

TEST_F(ReplyLimitTest, RowsAreMeasuredAsTheyTravel) {
  // Each number of these 50 KiB takes six times its text as a row.
  std::string numbers = "1";
  while (numbers.size() < kPayloadBytes) numbers += ",1";
  v1::UpsertRequest request;
  request.set_collection("points");
  *request.mutable_points() = Batch(1, 1);
  request.mutable_points()->mutable_columns()->set_payloads(
      0, "{\"x\":[" + numbers + "]}");
  v1::UpsertResponse reply;
  Call call;
  ASSERT_TRUE(points_->Upsert(&call, request, &reply).ok());
  EXPECT_TRUE(Get({1}, v1::REPLY_FORM_COLUMNS).ok());
  ExpectTooLarge(Get({1}, v1::REPLY_FORM_ROWS));
}

TEST_F(ReplyLimitTest, ScrollCutsItsPagesByBytes) {
  grpc::Status status;
  for (const v1::ReplyForm form : kForms) {
    EXPECT_THAT(Scroll(form, &status), ElementsAre(2, 2, 2, 2, 2));
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  UpsertLarge(5, 200 << 10);  // more than a page, less than a message
  for (const v1::ReplyForm form : kForms) {
    EXPECT_THAT(Scroll(form, &status), ElementsAre(2, 2, 1, 2, 2, 1));
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
}

TEST_F(ReplyLimitTest, APointLargerThanAMessageEndsAScrollWithItsName) {
  v1::PointBatch batch = Batch(3, 1);
  auto* columns = batch.mutable_columns();
  v1::UpsertRequest request;
  request.set_collection("points");
  columns->set_payloads(
      0, "{\"x\":\"" + std::string(kMessageBytes - 300, 'x') + "\"}");
  *request.mutable_points() = batch;
  v1::UpsertResponse reply;
  Call call;
  const grpc::Status written = points_->Upsert(&call, request, &reply);
  ASSERT_TRUE(written.ok()) << written.error_message();
  for (const v1::ReplyForm form : kForms) {
    grpc::Status status;
    EXPECT_THAT(Scroll(form, &status), ElementsAre(2));
    ExpectTooLarge(status);
    EXPECT_THAT(status.error_message(), HasSubstr("Point 3 "));
  }
}

}  // namespace
}  // namespace vicinal::testing
