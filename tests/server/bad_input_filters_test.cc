// Filters that the server refuses, and the highest that it takes.
#include <cstddef>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/bad_input_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::HasSubstr;

TEST_F(BadInputTest, FiltersOfEveryCallThatTakesThem) {
  const auto refuse = [&](const std::string& text, const std::string& message) {
    ExpectRefused(Retrieve([&](auto* retrieve) {
                    retrieve->mutable_filter()->set_text(text);
                  }),
                  "query.retrieve.filter.text", message);
  };
  refuse("a = ", "position 5: expected a value");
  refuse("a < NULL", "write IS NULL");
  refuse(std::string(100, '('), "nested deeper than 32");
  refuse("GEO_RADIUS(p, 99, 0, 1)", "it must be -90 to 90");
  refuse("x BETWEEN 1 AND 'a'", "two values of one type");
  refuse("MATCH(body, 7)", "wants a string");
  ExpectRefused(Retrieve([](auto* retrieve) {
                  v1::Filter* filter = retrieve->mutable_filter();
                  filter->set_text("a = $x");
                  (*filter->mutable_parameters())["x"];
                }),
                "query.retrieve.filter.parameters[\"x\"]", "has no value");

  v1::Filter bad;
  bad.set_text("a ==");
  {
    v1::SearchBatchRequest request;
    request.set_collection("points");
    request.set_vector("l2");
    request.set_k(1);
    *request.mutable_filter() = bad;
    v1::SearchBatchResponse reply;
    Call call;
    ExpectRefused(search_->SearchBatch(&call, request, &reply), "filter.text",
                  "expected a value");
  }
  {
    v1::CountRequest request;
    request.set_collection("points");
    *request.mutable_filter() = bad;
    v1::CountResponse reply;
    Call call;
    ExpectRefused(points_->Count(&call, request, &reply), "filter.text",
                  "expected a value");
  }
  {
    v1::ScrollRequest request;
    request.set_collection("points");
    *request.mutable_filter() = bad;
    v1::ScrollResponse reply;
    Call call;
    auto pages = points_->Scroll(&call, request);
    EXPECT_FALSE(pages->Read(&reply));
    ExpectRefused(pages->Finish(), "filter.text", "expected a value");
  }
  const auto remove = [&](const v1::Filter& filter, bool with_id) {
    v1::DeleteRequest request;
    request.set_collection("points");
    *request.mutable_filter() = filter;
    if (with_id) request.mutable_ids()->add_numbers(1);
    v1::DeleteResponse reply;
    Call call;
    return points_->Delete(&call, request, &reply);
  };
  ExpectRefused(remove(bad, false), "filter.text", "expected a value");
  ExpectRefused(remove({}, false), "filter.text", "would delete all");
  v1::Filter good;
  good.set_text(" ");
  ExpectRefused(remove(good, false), "filter.text", "would delete all");
  good.set_text("TRUE");
  ExpectRefused(remove(good, true), "filter", "stands beside ids");
  good.clear_text();
  good.mutable_expression()->set_constant(true);
  ExpectRefused(remove(good, true), "filter", "stands beside ids");
  good.mutable_expression()->mutable_exists();
  ExpectRefused(remove(good, false), "filter.expression.exists.path",
                "an empty path");
  good.set_text("TRUE");
  ExpectRefused(remove(good, false), "filter", "has both text and expression");
}

// The highest filter in the highest query is within the 100 messages above one
// another that protobuf takes; what passes that is refused before it is one.
TEST_F(BadInputTest, FiltersAsHighAsTheLimitPassTheWire) {
  const auto search = [&](size_t height) {
    return Search([&](v1::SearchRequest* request) {
      v1::Query query = request->query();
      v1::FilterExpression* at =
          query.mutable_retrieve()->mutable_filter()->mutable_expression();
      for (size_t i = 1; i < height; ++i) {
        at = at->mutable_any_of()->add_operands();
      }
      at->mutable_contains_any()->set_path("n");
      at->mutable_contains_any()->add_values()->set_int_value(1);
      for (size_t i = 1; i < Limits().max_query_depth; ++i) {
        v1::Query fuse;
        fuse.mutable_fuse()->set_k(1);
        *fuse.mutable_fuse()->add_inputs() = std::move(query);
        query = std::move(fuse);
      }
      *request->mutable_query() = std::move(query);
    });
  };
  EXPECT_TRUE(search(32).ok()) << search(32).error_message();
  EXPECT_EQ(search(33).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(search(33).error_message(), HasSubstr("nested deeper than 32"));
  // gRPC's word, of calls by callbacks, for what is no message.
  EXPECT_EQ(search(200).error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_TRUE(search(32).ok()) << "after it";
}

}  // namespace
}  // namespace vicinal::testing
