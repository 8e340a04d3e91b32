// Collections and operations over real gRPC: what is created, changed, listed
// and deleted, and the errors of each.
#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/server_fixture.h"

namespace vicinal::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CollectionServiceTest : public ServerFixture {
 protected:
  // One vector without a name, of two elements.
  grpc::Status Create(const std::string& name, bool validate_only = false,
                      v1::CreateCollectionResponse* reply = nullptr) {
    v1::CreateCollectionRequest request;
    request.mutable_collection()->set_name(name);
    auto* vector = request.mutable_collection()->add_vectors();
    vector->set_dim(2);
    vector->set_metric(v1::METRIC_L2);
    request.set_validate_only(validate_only);
    v1::CreateCollectionResponse ignored;
    Call call;
    return collections_->CreateCollection(&call, request,
                                          reply == nullptr ? &ignored : reply);
  }

  grpc::Status Delete(const std::string& name, bool allow_missing = false) {
    v1::DeleteCollectionRequest request;
    request.set_name(name);
    request.set_allow_missing(allow_missing);
    v1::DeleteCollectionResponse reply;
    Call call;
    return collections_->DeleteCollection(&call, request, &reply);
  }

  v1::ListCollectionsResponse List(uint32_t page_size = 0,
                                   const std::string& page_token = "") {
    v1::ListCollectionsRequest request;
    request.set_page_size(page_size);
    request.set_page_token(page_token);
    v1::ListCollectionsResponse reply;
    Call call;
    EXPECT_TRUE(collections_->ListCollections(&call, request, &reply).ok());
    return reply;
  }

  std::vector<std::string> Names() {
    std::vector<std::string> names;
    const v1::ListCollectionsResponse list = List();
    for (const auto& collection : list.collections()) {
      names.push_back(collection.name());
    }
    return names;
  }

  static v1::VectorConfig Hnsw(const std::string& name, uint32_t m) {
    v1::VectorConfig vector;
    vector.set_name(name);
    vector.mutable_index()->mutable_hnsw()->set_m(m);
    return vector;
  }

  grpc::Status Update(const std::vector<v1::VectorConfig>& vectors,
                      const std::string& mask = "",
                      v1::UpdateCollectionResponse* reply = nullptr) {
    v1::UpdateCollectionRequest request;
    request.mutable_collection()->set_name("points");
    request.mutable_collection()->mutable_vectors()->Assign(vectors.begin(),
                                                            vectors.end());
    if (!mask.empty()) request.mutable_update_mask()->add_paths(mask);
    v1::UpdateCollectionResponse ignored;
    Call call;
    return collections_->UpdateCollection(&call, request,
                                          reply == nullptr ? &ignored : reply);
  }

  // m of each vector of "points".
  std::vector<uint32_t> LinksOfPoints() {
    v1::GetCollectionRequest request;
    request.set_name("points");
    v1::GetCollectionResponse reply;
    Call call;
    EXPECT_TRUE(collections_->GetCollection(&call, request, &reply).ok());
    std::vector<uint32_t> out;
    for (const auto& vector : reply.collection().vectors()) {
      out.push_back(vector.index().hnsw().m());
    }
    return out;
  }

  uint64_t NumCommits() {
    v1::GetServerStatsResponse reply;
    Call call;
    EXPECT_TRUE(admin_->GetServerStats(&call, {}, &reply).ok());
    return reply.num_commits();
  }
};

TEST_F(CollectionServiceTest, ValidateOnlyChecksEverythingAndCreatesNothing) {
  v1::CreateCollectionResponse reply;
  ASSERT_TRUE(Create("a", true, &reply).ok());
  EXPECT_EQ(reply.collection().name(), "a");
  EXPECT_TRUE(reply.collection().vectors(0).index().has_automatic());
  EXPECT_THAT(Names(), IsEmpty());
  ASSERT_TRUE(Create("a").ok());
  const grpc::Status taken = Create("a", true);
  EXPECT_EQ(taken.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(DetailsOf(taken).reason, "COLLECTION_EXISTS");
  EXPECT_EQ(DetailsOf(Create("-a", true)).reason, "INVALID_FIELD");
}

TEST_F(CollectionServiceTest, ListsByNamePageByPage) {
  for (const char* name : {"d", "a", "c", "b", "e"}) {
    ASSERT_TRUE(Create(name).ok());
  }
  std::vector<std::vector<std::string>> pages;
  std::string token;
  do {
    const v1::ListCollectionsResponse page = List(2, token);
    pages.emplace_back();
    for (const auto& collection : page.collections()) {
      pages.back().push_back(collection.name());
    }
    token = page.next_page_token();
  } while (!token.empty());
  EXPECT_THAT(pages, ElementsAre(ElementsAre("a", "b"), ElementsAre("c", "d"),
                                 ElementsAre("e")));
}

TEST_F(CollectionServiceTest, DeletesOnceAndAgainWhenMissingIsAllowed) {
  ASSERT_TRUE(Create("a").ok());
  EXPECT_TRUE(Delete("a").ok());
  const grpc::Status missing = Delete("a");
  EXPECT_EQ(missing.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(DetailsOf(missing).reason, "COLLECTION_NOT_FOUND");
  EXPECT_TRUE(Delete("a", true).ok());
  EXPECT_EQ(DetailsOf(Delete("", true)).reason, "INVALID_FIELD");
}

TEST_F(CollectionServiceTest, UpdateChangesAllIndexesInOneCommitOrNone) {
  CreatePoints();
  const uint64_t before = NumCommits();
  v1::UpdateCollectionResponse reply;
  const grpc::Status status =
      Update({Hnsw("bytes", 24), Hnsw("l2", 32)}, "vectors.index", &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(NumCommits(), before + 1);
  EXPECT_EQ(reply.collection().vectors(0).index().hnsw().m(), 32u);
  EXPECT_THAT(LinksOfPoints(), ElementsAre(32, 16, 24));
  Restart();
  EXPECT_THAT(LinksOfPoints(), ElementsAre(32, 16, 24));
  EXPECT_FALSE(Update({Hnsw("l2", 8), Hnsw("nope", 8)}).ok());
  EXPECT_THAT(LinksOfPoints(), ElementsAre(32, 16, 24));
}

TEST_F(CollectionServiceTest, ListsAndCodecsCanBeChangedAndStay) {
  v1::CreateCollectionRequest request;
  request.mutable_collection()->set_name("points");
  v1::VectorConfig* vector = request.mutable_collection()->add_vectors();
  vector->set_dim(64);
  vector->set_metric(v1::METRIC_COSINE);
  vector->mutable_index()->mutable_ivf()->set_num_lists(100);
  {
    v1::CreateCollectionResponse created;
    Call call;
    ASSERT_TRUE(collections_->CreateCollection(&call, request, &created).ok());
    EXPECT_EQ(created.collection().vectors(0).index().ivf().num_lists(), 100u);
  }
  v1::VectorConfig change;
  change.mutable_index()->mutable_ivf()->set_num_lists(200);
  change.mutable_codec()->set_kind(v1::CODEC_KIND_SAQ);
  change.mutable_codec()->set_avg_bits(2);
  ASSERT_TRUE(Update({change}, "vectors.codec").ok());
  ASSERT_TRUE(Update({change}, "vectors.index").ok());
  Restart();
  v1::GetCollectionRequest get;
  get.set_name("points");
  v1::GetCollectionResponse reply;
  Call call;
  ASSERT_TRUE(collections_->GetCollection(&call, get, &reply).ok());
  const v1::VectorConfig& now = reply.collection().vectors(0);
  EXPECT_EQ(now.index().ivf().num_lists(), 200u);
  EXPECT_EQ(now.codec().kind(), v1::CODEC_KIND_SAQ);
  EXPECT_EQ(now.codec().avg_bits(), 2);
  // The kind is fixed, and a codec is checked like a new one.
  EXPECT_THAT(DetailsOf(Update({Hnsw("", 16)})).fields,
              ElementsAre("collection.vectors[0].index"));
  change.mutable_codec()->set_avg_bits(9);
  EXPECT_THAT(DetailsOf(Update({change}, "vectors.codec")).fields,
              ElementsAre("collection.vectors[0].codec.avg_bits"));
}

TEST_F(CollectionServiceTest, MemoryIsKeptCheckedAndChanged) {
  v1::CreateCollectionRequest request;
  request.mutable_collection()->set_name("points");
  v1::VectorConfig* vector = request.mutable_collection()->add_vectors();
  vector->set_dim(64);
  vector->set_metric(v1::METRIC_COSINE);
  v1::MemoryConfig* memory = request.mutable_collection()->mutable_memory();
  memory->set_tier(static_cast<v1::MemoryTier>(9));
  v1::CreateCollectionResponse created;
  {
    Call call;
    EXPECT_THAT(
        DetailsOf(collections_->CreateCollection(&call, request, &created))
            .fields,
        ElementsAre("collection.memory.tier"));
  }
  memory->set_tier(v1::MEMORY_TIER_MAPPED);
  memory->set_budget_bytes(1 << 20);
  {
    Call call;
    ASSERT_TRUE(collections_->CreateCollection(&call, request, &created).ok());
    EXPECT_EQ(created.collection().memory().tier(), v1::MEMORY_TIER_MAPPED);
    EXPECT_FALSE(created.has_estimate());
  }
  v1::UpdateCollectionRequest update;
  update.mutable_collection()->set_name("points");
  update.mutable_collection()->mutable_memory()->set_tier(
      v1::MEMORY_TIER_PINNED);
  update.mutable_update_mask()->add_paths("memory");
  v1::UpdateCollectionResponse updated;
  {
    Call call;
    ASSERT_TRUE(collections_->UpdateCollection(&call, update, &updated).ok());
  }
  Restart();
  v1::GetCollectionRequest get;
  get.set_name("points");
  v1::GetCollectionResponse reply;
  Call call;
  ASSERT_TRUE(collections_->GetCollection(&call, get, &reply).ok());
  EXPECT_EQ(reply.collection().memory().tier(), v1::MEMORY_TIER_PINNED);
  EXPECT_EQ(reply.collection().memory().budget_bytes(), 0u);
}

TEST_F(CollectionServiceTest, AnEstimateComesBeforeTheCollection) {
  v1::CreateCollectionRequest request;
  request.mutable_collection()->set_name("points");
  v1::VectorConfig* vector = request.mutable_collection()->add_vectors();
  vector->set_dim(768);
  vector->set_metric(v1::METRIC_COSINE);
  request.set_validate_only(true);
  request.set_expected_points(1'000'000);
  request.mutable_collection()->mutable_memory()->set_budget_bytes(1 << 20);
  v1::CreateCollectionResponse reply;
  {
    Call call;
    ASSERT_TRUE(collections_->CreateCollection(&call, request, &reply).ok());
  }
  EXPECT_GT(reply.estimate().disk_bytes(), 6e9);
  EXPECT_GT(reply.estimate().mapped_bytes(), 3e9);
  EXPECT_GT(reply.estimate().build_seconds(), 1);
  EXPECT_EQ(reply.estimate().warnings_size(), 1);
  request.mutable_collection()->mutable_memory()->clear_budget_bytes();
  {
    Call call;
    ASSERT_TRUE(collections_->CreateCollection(&call, request, &reply).ok());
  }
  EXPECT_EQ(reply.estimate().warnings_size(), 0);
  EXPECT_GT(reply.estimate().ram_bytes(), 3e8);
  request.set_expected_points(uint64_t{1} << 62);
  Call call;
  EXPECT_THAT(
      DetailsOf(collections_->CreateCollection(&call, request, &reply)).fields,
      ElementsAre("expected_points"));
}

TEST_F(CollectionServiceTest, AViolationOfAnUpdateIsAtItsPlaceInTheRequest) {
  CreatePoints();
  const auto fields = [&](const std::vector<v1::VectorConfig>& vectors,
                          const std::string& mask = "") {
    const grpc::Status status = Update(vectors, mask);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return DetailsOf(status).fields;
  };
  // "bytes" is the third vector of the collection and the first here.
  EXPECT_THAT(fields({Hnsw("bytes", 3), Hnsw("l2", 32)}),
              ElementsAre("collection.vectors[0].index.hnsw.m"));
  EXPECT_THAT(fields({Hnsw("l2", 32), Hnsw("nope", 32)}),
              ElementsAre("collection.vectors[1].name"));
  EXPECT_THAT(fields({Hnsw("l2", 32), Hnsw("l2", 8)}),
              ElementsAre("collection.vectors[1].name"));
  EXPECT_THAT(fields({}), ElementsAre("collection.vectors"));
  v1::VectorConfig flat;
  flat.set_name("l2");
  flat.mutable_index()->mutable_flat();
  EXPECT_THAT(fields({flat}), ElementsAre("collection.vectors[0].index"));
  EXPECT_THAT(fields({Hnsw("l2", 32)}, "vectors.dim"),
              ElementsAre("update_mask"));
  EXPECT_THAT(LinksOfPoints(), ElementsAre(16, 16, 16));
}

class FewCollectionsTest : public CollectionServiceTest {
 protected:
  FewCollectionsTest() { database_options_.limits.max_collections = 2; }
};

TEST_F(FewCollectionsTest, OneMoreThanTheLimitIsRefused) {
  ASSERT_TRUE(Create("a").ok());
  ASSERT_TRUE(Create("b").ok());
  const grpc::Status status = Create("c");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(status).reason, "TOO_MANY_COLLECTIONS");
  EXPECT_THAT(status.error_message(), HasSubstr("at most 2"));
  EXPECT_TRUE(Delete("a").ok());
  EXPECT_TRUE(Create("c").ok());
}

class FaultyDiskTest : public CollectionServiceTest {
 protected:
  FaultyDiskTest() {
    database_options_.store.fault_hook = [this](absl::string_view operation,
                                                absl::string_view) {
      return operation == "append" ? absl::Status(code_.load(), "injected")
                                   : absl::OkStatus();
    };
  }
  void Resume() {
    code_ = absl::StatusCode::kOk;
    v1::ResumeWritesResponse reply;
    Call call;
    const grpc::Status status = admin_->ResumeWrites(&call, {}, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  std::atomic<absl::StatusCode> code_ = absl::StatusCode::kOk;
};

TEST_F(FaultyDiskTest, AFullDiskLeavesTheSetOfCollectionsAsItWas) {
  ASSERT_TRUE(Create("a").ok());
  const auto expect_full = [&](const grpc::Status& status) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_EQ(DetailsOf(status).reason, "DISK_FULL");
    EXPECT_FALSE(DetailsOf(status).retry_info);
    EXPECT_THAT(Names(), ElementsAre("a"));
  };
  code_ = absl::StatusCode::kResourceExhausted;
  expect_full(Create("b"));
  expect_full(Create("c"));  // read-only by now
  Resume();
  EXPECT_TRUE(Create("b").ok());
  Restart();
  EXPECT_THAT(Names(), ElementsAre("a", "b"));
}

TEST_F(FaultyDiskTest, AFullDiskKeepsACollectionThatIsDeleted) {
  ASSERT_TRUE(Create("a").ok());
  code_ = absl::StatusCode::kResourceExhausted;
  const grpc::Status status = Delete("a");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(status).reason, "DISK_FULL");
  EXPECT_THAT(Names(), ElementsAre("a"));
  Resume();
  EXPECT_TRUE(Delete("a").ok());
  Restart();
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(FaultyDiskTest, AFullDiskAtTheStartIsToldAndLosesNothing) {
  CreatePoints();
  v1::UpsertRequest request;
  request.set_collection("points");
  *request.mutable_points() = Batch(1, 10);
  v1::UpsertResponse reply;
  {
    Call call;
    ASSERT_TRUE(points_->Upsert(&call, request, &reply).ok());
  }
  server_.reset();
  code_ = absl::StatusCode::kResourceExhausted;
  const auto opened = Database::Open(data_ + "/data", database_options_);
  EXPECT_EQ(opened.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(opened.status().message()), HasSubstr("is full"));
  EXPECT_FALSE(Database::Open(data_ + "/new", database_options_).ok());
  code_ = absl::StatusCode::kOk;
  Restart();
  EXPECT_EQ(Count(), 10u);
}

TEST_F(FaultyDiskTest, AfterAnIoErrorTheServerIsReadOnlyAndSaysWhy) {
  ASSERT_TRUE(Create("a").ok());
  code_ = absl::StatusCode::kInternal;
  EXPECT_FALSE(Create("b").ok());
  for (const grpc::Status& status : {Create("b"), Delete("a")}) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_EQ(DetailsOf(status).reason, "READ_ONLY");
  }
  EXPECT_THAT(Names(), ElementsAre("a"));
}

class OperationServiceTest : public CollectionServiceTest {
 protected:
  grpc::Status Get(const std::string& name, v1::Operation* operation) {
    v1::GetOperationRequest request;
    request.set_name(name);
    v1::GetOperationResponse reply;
    Call call;
    const grpc::Status status =
        operations_->GetOperation(&call, request, &reply);
    *operation = reply.operation();
    return status;
  }
  grpc::Status Cancel(const std::string& name) {
    v1::CancelOperationRequest request;
    request.set_name(name);
    v1::CancelOperationResponse reply;
    Call call;
    return operations_->CancelOperation(&call, request, &reply);
  }
  v1::Operation Wait(const std::string& name) {
    v1::WaitOperationRequest request;
    request.set_name(name);
    v1::WaitOperationResponse reply;
    Call call;
    EXPECT_TRUE(operations_->WaitOperation(&call, request, &reply).ok());
    return reply.operation();
  }
  std::vector<std::string> OperationsOf(const std::string& collection) {
    v1::ListOperationsRequest request;
    request.set_collection(collection);
    v1::ListOperationsResponse reply;
    Call call;
    EXPECT_TRUE(operations_->ListOperations(&call, request, &reply).ok());
    std::vector<std::string> out;
    for (const auto& operation : reply.operations()) {
      out.push_back(operation.name());
    }
    return out;
  }
  std::string Optimize(const std::string& name) {
    v1::OptimizeCollectionRequest request;
    request.set_name(name);
    v1::OptimizeCollectionResponse reply;
    Call call;
    EXPECT_TRUE(collections_->OptimizeCollection(&call, request, &reply).ok());
    return reply.operation();
  }
};

TEST_F(OperationServiceTest, AnOperationIsFoundListedAndRemembered) {
  CreatePoints();
  ASSERT_TRUE(Create("other").ok());
  const std::string first = Optimize("points");
  const std::string second = Optimize("other");
  for (const std::string& name : {first, second}) {
    EXPECT_TRUE(Wait(name).done());
    v1::Operation operation;
    ASSERT_TRUE(Get(name, &operation).ok());
    EXPECT_EQ(operation.name(), name);
    EXPECT_EQ(operation.kind(), "optimize");
    EXPECT_EQ(operation.error().code(), 0);
  }
  EXPECT_THAT(OperationsOf("points"), ElementsAre(first));
  EXPECT_THAT(OperationsOf(""), ElementsAre(second, first)) << "newest first";
  EXPECT_TRUE(Cancel(first).ok()) << "it is done: no error, no effect";
  v1::Operation operation;
  ASSERT_TRUE(Get(first, &operation).ok());
  EXPECT_EQ(operation.error().code(), 0);
}

TEST_F(OperationServiceTest, AnUnknownOperationIsNotFound) {
  v1::Operation operation;
  for (const grpc::Status& status :
       {Get("operations/7", &operation), Cancel("operations/7")}) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_EQ(DetailsOf(status).reason, "OPERATION_NOT_FOUND");
  }
}

// Holds builds of indexes until they are let go.
class HeldBuildTest : public OperationServiceTest {
 protected:
  HeldBuildTest() {
    database_options_.test_hook = [this](absl::string_view point) {
      if (point == "build:start") held_.wait(true);
    };
  }
  void LetGo() {
    held_ = false;
    held_.notify_all();
  }
  void TearDown() override {
    LetGo();
    ServerFixture::TearDown();
  }
  std::atomic<bool> held_ = true;
};

TEST_F(HeldBuildTest, ACancelledOperationEndsWithCancelled) {
  CreatePoints();
  v1::UpsertRequest request;
  request.set_collection("points");
  *request.mutable_points() = Batch(1, 1'000);
  v1::UpsertResponse reply;
  {
    Call call;
    ASSERT_TRUE(points_->Upsert(&call, request, &reply).ok());
  }
  const std::string name = Optimize("points");
  v1::Operation operation;
  ASSERT_TRUE(Get(name, &operation).ok());
  EXPECT_FALSE(operation.done());
  ASSERT_TRUE(Cancel(name).ok());
  LetGo();
  operation = Wait(name);
  EXPECT_TRUE(operation.done());
  EXPECT_EQ(operation.error().code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(Count(), 1'000u) << "the points are there";
}

}  // namespace
}  // namespace vicinal::testing
