// Sparse vectors, texts and hybrid queries over gRPC: both forms of points,
// replies, and what bad input meets.
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/server/server_fixture.h"
#include "vicinal/v1/collection.pb.h"
#include "vicinal/v1/point.pb.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LexicalServiceTest : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    v1::Collection collection = Wanted();
    ASSERT_TRUE(Create(collection).ok());
    v1::PointBatch batch;
    AddRow(&batch, 1, {{3, 1.0f}, {7, 2.0f}}, "Red cars are fast.", "de one");
    AddRow(&batch, 2, {{7, 1.0f}}, "A red house and a red car", "zwei");
    AddRow(&batch, 3, {}, "Nothing of the kind", "drei");
    const grpc::Status status = Upsert(batch);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  static v1::Collection Wanted() {
    v1::Collection collection;
    collection.set_name("lex");
    collection.add_sparse_vectors()->set_name("s");
    v1::TextConfig* body = collection.add_texts();
    body->set_path("body");
    body->mutable_analyzer()->set_name("english");
    body->set_positions(true);
    v1::TextConfig* title = collection.add_texts();
    title->set_path("title");
    title->mutable_analyzer()->set_name("german");
    return collection;
  }
  grpc::Status Create(const v1::Collection& collection) {
    v1::CreateCollectionRequest request;
    *request.mutable_collection() = collection;
    v1::CreateCollectionResponse reply;
    Call call;
    return collections_->CreateCollection(&call, request, &reply);
  }
  static void AddRow(v1::PointBatch* batch, uint64_t id,
                     const std::vector<std::pair<uint32_t, float>>& entries,
                     const std::string& body, const std::string& title) {
    v1::PointRow* row = batch->add_rows();
    row->mutable_id()->set_number(id);
    if (!entries.empty()) {
      v1::SparseVector* sparse = row->add_sparse_vectors();
      sparse->set_name("s");
      for (const auto& [index, value] : entries) {
        sparse->add_indices(index);
        sparse->add_values(value);
      }
    }
    auto& fields = *row->mutable_payload()->mutable_fields();
    fields["body"].set_string_value(body);
    fields["title"].set_string_value(title);
  }
  grpc::Status Upsert(const v1::PointBatch& batch) {
    v1::UpsertRequest request;
    request.set_collection("lex");
    *request.mutable_points() = batch;
    v1::UpsertResponse reply;
    Call call;
    return points_->Upsert(&call, request, &reply);
  }
  grpc::Status Search(const std::function<void(v1::SearchRequest*)>& change,
                      v1::SearchResponse* reply) {
    v1::SearchRequest request;
    request.set_collection("lex");
    change(&request);
    Call call;
    return search_->Search(&call, request, reply);
  }
  void ExpectRefused(const grpc::Status& status, const std::string& field,
                     const std::string& message) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << status.error_message();
    EXPECT_THAT(DetailsOf(status).fields, ElementsAre(field));
    EXPECT_THAT(status.error_message(), HasSubstr(message));
  }
  grpc::Status Text(const std::function<void(v1::RetrieveText*)>& change) {
    v1::SearchResponse reply;
    return Search(
        [&](v1::SearchRequest* request) {
          auto* text = request->mutable_query()->mutable_retrieve_text();
          text->add_fields()->set_path("body");
          text->set_text("red");
          text->set_k(10);
          change(text);
        },
        &reply);
  }
  grpc::Status Sparse(const std::function<void(v1::RetrieveSparse*)>& change) {
    v1::SearchResponse reply;
    return Search(
        [&](v1::SearchRequest* request) {
          auto* sparse = request->mutable_query()->mutable_retrieve_sparse();
          sparse->set_vector("s");
          sparse->mutable_query()->add_indices(7);
          sparse->mutable_query()->add_values(1);
          sparse->set_k(10);
          change(sparse);
        },
        &reply);
  }
  static std::vector<uint64_t> Ids(const v1::SearchResponse& reply) {
    const auto& numbers = reply.result().ids().numbers();
    return {numbers.begin(), numbers.end()};
  }
};

TEST_F(LexicalServiceTest, FindsByTermsAndShowsWhereAndWhy) {
  v1::SearchResponse reply;
  const grpc::Status status = Search(
      [](v1::SearchRequest* request) {
        v1::Fuse* fuse = request->mutable_query()->mutable_fuse();
        fuse->set_k(10);
        fuse->set_kind(v1::FUSION_CONVEX);
        auto* text = fuse->add_inputs()->mutable_retrieve_text();
        text->add_fields()->set_path("body");
        text->set_expression("+\"red car\" fast");
        text->set_k(10);
        auto* sparse = fuse->add_inputs()->mutable_retrieve_sparse();
        sparse->set_vector("s");
        sparse->mutable_query()->add_indices(7);
        sparse->mutable_query()->add_values(1);
        sparse->set_k(10);
        request->set_explain(true);
        request->mutable_highlight();
      },
      &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(Ids(reply), ElementsAre(1, 2));
  ASSERT_EQ(reply.result().legs_size(), 2);
  EXPECT_EQ(reply.result().legs(0).leg(), "inputs[0]");
  EXPECT_THAT(reply.result().legs(0).ranks(), ElementsAre(1, 2));
  EXPECT_THAT(reply.result().legs(1).scores(), ElementsAre(2, 1));
  EXPECT_THAT(reply.result().legs(1).normalized(), ElementsAre(1, 0.5));
  ASSERT_EQ(reply.result().passages_size(), 2);
  const v1::Passage& passage = reply.result().passages(0).passages(0);
  EXPECT_EQ(passage.text(), "Red cars are fast.");
  ASSERT_EQ(passage.matches_size(), 3);
  EXPECT_EQ(passage.matches(1).begin(), 4u);
  EXPECT_EQ(passage.matches(1).end(), 8u);
  EXPECT_EQ(reply.profile().segments(0).plan(), v1::SEARCH_PLAN_POSTINGS);
}

TEST_F(LexicalServiceTest, SparseVectorsComeBackInBothForms) {
  v1::GetRequest request;
  request.set_collection("lex");
  for (const uint64_t id : {1, 2, 3}) request.mutable_ids()->add_numbers(id);
  request.mutable_select()->add_vectors("s");
  v1::GetResponse columns, rows;
  Call call;
  ASSERT_TRUE(points_->Get(&call, request, &columns).ok());
  const v1::SparseColumn& column = columns.points().columns().sparse_vectors(0);
  EXPECT_THAT(column.indptr(), ElementsAre(0, 2, 3, 3));
  EXPECT_EQ(column.indices().size(), 12u);
  request.mutable_select()->set_form(v1::REPLY_FORM_ROWS);
  Call again;
  ASSERT_TRUE(points_->Get(&again, request, &rows).ok());
  EXPECT_THAT(rows.points().rows(0).sparse_vectors(0).indices(),
              ElementsAre(3, 7));
  EXPECT_EQ(rows.points().rows(2).sparse_vectors_size(), 0);
  // What was read can be written again.
  ASSERT_TRUE(Upsert(rows.points()).ok());
}

TEST_F(LexicalServiceTest, TheSchemaComesBackWithItsDefaults) {
  v1::GetCollectionRequest request;
  request.set_name("lex");
  v1::GetCollectionResponse reply;
  Call call;
  ASSERT_TRUE(collections_->GetCollection(&call, request, &reply).ok());
  const v1::Collection& collection = reply.collection();
  EXPECT_EQ(collection.sparse_vectors(0).weight_type(),
            v1::ELEMENT_TYPE_FLOAT32);
  EXPECT_EQ(collection.texts(0).analyzer().name(), "english");
  EXPECT_FLOAT_EQ(collection.texts(0).k1(), 1.2f);
  EXPECT_FALSE(collection.texts(0).analyzer().icu_version().empty());
}

TEST_F(LexicalServiceTest, CollectionsThatCannotBeAreRefused) {
  const auto refuse = [&](const std::function<void(v1::Collection*)>& change,
                          const std::string& field,
                          const std::string& message) {
    v1::Collection collection = Wanted();
    collection.set_name("bad");
    change(&collection);
    ExpectRefused(Create(collection), "collection." + field, message);
  };
  refuse([](auto* c) { c->mutable_sparse_vectors(0)->clear_name(); },
         "sparse_vectors[0].name", "is empty");
  refuse([](auto* c) { *c->add_sparse_vectors() = c->sparse_vectors(0); },
         "sparse_vectors[1].name", "stands twice");
  refuse(
      [](auto* c) {
        c->mutable_sparse_vectors(0)->set_weight_type(v1::ELEMENT_TYPE_INT8);
      },
      "sparse_vectors[0].weight_type", "choose FLOAT32 or FLOAT16");
  refuse([](auto* c) { *c->add_texts() = c->texts(0); }, "texts[2].path",
         "stands twice");
  refuse([](auto* c) { c->mutable_texts(0)->set_path("a..b"); },
         "texts[0].path", "empty name");
  refuse(
      [](auto* c) {
        c->mutable_texts(0)->mutable_analyzer()->set_name("klingon");
      },
      "texts[0].analyzer", "klingon");
  refuse(
      [](auto* c) {
        c->mutable_texts(0)->mutable_analyzer()->set_stemmer("klingon");
      },
      "texts[0].analyzer", "klingon");
  refuse([](auto* c) { c->mutable_texts(0)->set_k1(-1); }, "texts[0].k1",
         "it must be 0 to 100");
  refuse([](auto* c) { c->mutable_texts(0)->set_b(1.5); }, "texts[0].b",
         "it must be 0 to 1");
}

TEST_F(LexicalServiceTest, BadSparseVectorsWriteNothing) {
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  const std::string at = "points.rows[1].sparse_vectors[0]";
  const auto refuse =
      [&](const std::vector<std::pair<uint32_t, float>>& entries,
          const std::string& message) {
        v1::PointBatch batch;
        AddRow(&batch, 10, {{1, 1.0f}}, "good", "");
        AddRow(&batch, 11, entries, "bad", "");
        ExpectRefused(Upsert(batch), at, message);
      };
  refuse({{9, 1.0f}, {7, 1.0f}}, "has index 7 after 9");
  refuse({{7, 1.0f}, {7, 1.0f}}, "has index 7 after 7");
  refuse({{7, nan}}, "NaN");
  refuse({{7, infinity}}, "infinite");
  refuse({{7, 1e20f}}, "at most 1e+15");
  std::vector<std::pair<uint32_t, float>> many;
  for (uint32_t i = 0; i < 65'536; ++i) many.emplace_back(i, 1.0f);
  refuse(many, "at most 65535");
  v1::CountRequest request;
  request.set_collection("lex");
  v1::CountResponse reply;
  Call call;
  ASSERT_TRUE(points_->Count(&call, request, &reply).ok());
  EXPECT_EQ(reply.count(), 3u);
}

TEST_F(LexicalServiceTest, BadColumnsAreRefused) {
  const auto refuse = [&](const std::function<void(v1::SparseColumn*)>& change,
                          const std::string& field,
                          const std::string& message) {
    v1::PointBatch batch;
    v1::PointColumns* columns = batch.mutable_columns();
    columns->mutable_ids()->add_numbers(20);
    columns->mutable_ids()->add_numbers(21);
    v1::SparseColumn* column = columns->add_sparse_vectors();
    column->set_name("s");
    for (const uint64_t begin : {0, 1, 2}) column->add_indptr(begin);
    column->set_indices(std::string(8, '\1'));
    column->set_values(std::string(8, '\1'));
    change(column);
    ExpectRefused(Upsert(batch), "points.columns.sparse_vectors[0]" + field,
                  message);
  };
  refuse([](auto* c) { c->set_name("t"); }, ".name", "no such sparse vector");
  refuse([](auto* c) { c->add_indptr(2); }, ".indptr", "2 points take 3");
  refuse([](auto* c) { c->set_indptr(0, 1); }, ".indptr[0]", "begins with 0");
  refuse([](auto* c) { c->set_indptr(1, 9); }, ".indptr[1]", "entries, 2");
  refuse([](auto* c) { c->set_indptr(2, 1); }, ".indptr[2]",
         "ends with the number of entries, 2");
  refuse([](auto* c) { c->mutable_values()->pop_back(); }, ".values",
         "both take 4 per entry");
}

TEST_F(LexicalServiceTest, QueriesThatCannotBeAskedAreRefused) {
  const std::string text = "query.retrieve_text";
  ExpectRefused(Text([](auto* t) { t->mutable_fields(0)->set_path("x"); }),
                text + ".fields[0].path", "no text of the collection");
  ExpectRefused(Text([](auto* t) { t->mutable_fields(0)->set_boost(-1); }),
                text + ".fields[0].boost", "over 0");
  ExpectRefused(Text([](auto* t) { t->clear_text(); }), text,
                "asks for nothing");
  ExpectRefused(Text([](auto* t) { t->set_expression("x"); }), text,
                "give one");
  ExpectRefused(Text([](auto* t) {
                  t->clear_text();
                  t->set_expression("\"open");
                }),
                text + ".expression", "not closed");
  ExpectRefused(Text([](auto* t) { t->set_text(std::string(70'000, 'a')); }),
                text + ".text", "at most 65536");
  ExpectRefused(Text([](auto* t) { t->set_k(0); }), text + ".k", "ask for 1");
  ExpectRefused(Text([](auto* t) { t->set_b(2); }), text + ".b", "0 to 1");
  ExpectRefused(Text([](auto* t) { t->set_minimum_share(2); }),
                text + ".minimum_share", "at most 1");
  ExpectRefused(
      Text([](auto* t) { t->mutable_feedback()->set_documents(999); }),
      text + ".feedback.documents", "at most 100");
  const std::string sparse = "query.retrieve_sparse";
  ExpectRefused(Sparse([](auto* s) { s->set_vector("t"); }), sparse + ".vector",
                "does not have; it has \"s\"");
  ExpectRefused(Sparse([](auto* s) { s->mutable_query()->add_indices(9); }),
                sparse + ".query.values", "one for each");
  ExpectRefused(Sparse([](auto* s) {
                  s->mutable_query()->add_indices(7);
                  s->mutable_query()->add_values(1);
                }),
                sparse + ".query.indices[1]", "none twice");
  ExpectRefused(
      Sparse([](auto* s) { s->mutable_query()->set_values(0, std::nanf("")); }),
      sparse + ".query.values[0]", "give a number");
  ExpectRefused(Sparse([](auto* s) { s->set_query_mass(0); }),
                sparse + ".query_mass", "over 0");
  ExpectRefused(Sparse([](auto* s) { s->clear_query(); }), sparse,
                "set query or text");
}

TEST_F(LexicalServiceTest, FusionsAndExpressionsAreChecked) {
  v1::SearchResponse reply;
  const auto search_fused = [&](const std::function<void(v1::Fuse*)>& change) {
    return Search(
        [&](v1::SearchRequest* request) {
          v1::Fuse* fuse = request->mutable_query()->mutable_fuse();
          fuse->set_k(5);
          auto* text = fuse->add_inputs()->mutable_retrieve_text();
          text->add_fields()->set_path("body");
          text->set_text("red");
          text->set_k(5);
          change(fuse);
        },
        &reply);
  };
  ExpectRefused(search_fused([](auto* f) {
                  f->add_weights(1);
                  f->add_weights(2);
                }),
                "query.fuse.weights", "each of the 1 inputs");
  ExpectRefused(search_fused([](auto* f) { f->set_kind(v1::Fusion(17)); }),
                "query.fuse.kind", "is 17");
  const auto search_rescored =
      [&](const std::function<void(v1::Expression*)>& change) {
        return Search(
            [&](v1::SearchRequest* request) {
              auto* rescore = request->mutable_query()->mutable_rescore();
              rescore->set_k(5);
              auto* text = rescore->mutable_input()->mutable_retrieve_text();
              text->add_fields()->set_path("body");
              text->set_text("red");
              text->set_k(5);
              change(rescore->mutable_score());
            },
            &reply);
      };
  const std::string score = "query.rescore.score";
  ExpectRefused(search_rescored([](auto*) {}), score, "is empty");
  ExpectRefused(search_rescored([](auto* e) { e->set_constant(std::nan("")); }),
                score + ".constant", "finite");
  ExpectRefused(search_rescored([](auto* e) { e->mutable_sum(); }),
                score + ".sum.values", "at least one");
  ExpectRefused(search_rescored([](auto* e) {
                  e->mutable_decay()->mutable_value()->set_constant(1);
                }),
                score + ".decay.scale", "over 0");
  ExpectRefused(search_rescored([](auto* e) {
                  e->mutable_geo_distance()->set_path("p");
                  e->mutable_geo_distance()->set_lat(99);
                }),
                score + ".geo_distance", "-90 to 90");
  ExpectRefused(search_rescored([](auto* e) {
                  for (int i = 0; i < 40; ++i) e = e->mutable_negate();
                  e->set_constant(1);
                }),
                absl::StrCat(score,
                             [] {
                               std::string path;
                               for (int i = 0; i < 32; ++i) path += ".negate";
                               return path;
                             }()),
                "too large");
  const grpc::Status status = search_rescored(
      [](auto* e) { e->mutable_score()->set_leg("inputs[4]"); });
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("inputs[4]"));
}

TEST_F(LexicalServiceTest, TextsOfDifferentAnalyzersAreNotOneText) {
  v1::SearchResponse reply;
  const grpc::Status status = Search(
      [](v1::SearchRequest* request) {
        auto* text = request->mutable_query()->mutable_retrieve_text();
        text->set_text("red");
        text->set_k(5);
      },
      &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("different analyzers"));
}

TEST_F(LexicalServiceTest, EncodersThatAreNoneChangeNothing) {
  const auto set = [&](const std::string& vector, const std::string& json) {
    v1::SetSparseEncoderRequest request;
    request.set_collection("lex");
    request.set_vector(vector);
    request.set_idf_json(json);
    v1::SetSparseEncoderResponse reply;
    Call call;
    return collections_->SetSparseEncoder(&call, request, &reply);
  };
  ExpectRefused(set("t", "{}"), "vector", "does not have");
  ExpectRefused(set("s", ""), "encoder", "is empty");
  ExpectRefused(set("s", "{\"a\": 1"), "idf_json", "");
  ExpectRefused(set("s", "{\"a\": 1}"), "idf_json", "[UNK]");
  ExpectRefused(set("s", "{\"[UNK]\": 1, \"a\": -1}"), "idf_json", "");
  EXPECT_EQ(Sparse([](auto* s) {
              s->clear_query();
              s->set_text("red");
            }).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_TRUE(set("s", "{\"[UNK]\": 1, \"red\": 2}").ok());
  EXPECT_TRUE(Sparse([](auto* s) {
                s->clear_query();
                s->set_text("red");
              }).ok());
}

TEST_F(LexicalServiceTest, HighlightsAreChecked) {
  v1::SearchResponse reply;
  const auto highlight =
      [&](const std::function<void(v1::Highlight*)>& change) {
        return Search(
            [&](v1::SearchRequest* request) {
              auto* text = request->mutable_query()->mutable_retrieve_text();
              text->add_fields()->set_path("body");
              text->set_text("red");
              text->set_k(5);
              change(request->mutable_highlight());
            },
            &reply);
      };
  ExpectRefused(highlight([](auto* h) { h->add_fields("x"); }),
                "highlight.fields[0]", "no text");
  ExpectRefused(highlight([](auto* h) { h->set_passage_chars(5); }),
                "highlight.passage_chars", "give 20 to 10000");
  ExpectRefused(highlight([](auto* h) { h->set_num_passages(101); }),
                "highlight.num_passages", "at most 100");
  EXPECT_TRUE(highlight([](auto* h) { h->add_fields("title"); }).ok());
}

}  // namespace
}  // namespace vicinal::testing
