#include "tests/client/fake_server.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/formats/elements.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace vicinal::client {
namespace {

grpc::Status NotFound(const std::string& name) {
  return grpc::Status(grpc::StatusCode::NOT_FOUND,
                      absl::StrCat("There is no collection ", name, "."));
}

// The rows of one column as floats.
std::vector<std::vector<float>> Rows(const v1::VectorColumn& column) {
  const auto data = ConvertElements(FromProto(column.type()),
                                    ElementType::kFloat32, column.data());
  std::vector<std::vector<float>> out;
  const size_t row_bytes = column.dim() * sizeof(float);
  for (size_t at = 0; row_bytes > 0 && at + row_bytes <= data->size();
       at += row_bytes) {
    out.emplace_back(column.dim());
    std::memcpy(out.back().data(), data->data() + at, row_bytes);
  }
  return out;
}

float Score(v1::Metric metric, const std::vector<float>& a,
            const std::vector<float>& b) {
  double dot = 0, aa = 0, bb = 0, l2 = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    dot += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
    l2 += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  }
  if (metric == v1::METRIC_L2) return static_cast<float>(l2);
  if (metric == v1::METRIC_COSINE) dot /= std::sqrt(aa * bb);
  return static_cast<float>(dot);
}

}  // namespace

grpc::Status Fault::ToStatus() const {
  google::rpc::Status status;
  status.set_code(static_cast<int>(code));
  status.set_message(message);
  if (retry_after.has_value()) {
    google::rpc::RetryInfo info;
    const auto ms = retry_after->count();
    info.mutable_retry_delay()->set_seconds(ms / 1000);
    info.mutable_retry_delay()->set_nanos(
        static_cast<int32_t>(ms % 1000 * 1'000'000));
    status.add_details()->PackFrom(info);
  }
  if (!field.empty()) {
    google::rpc::BadRequest bad;
    auto* violation = bad.add_field_violations();
    violation->set_field(field);
    violation->set_description("is wrong");
    status.add_details()->PackFrom(bad);
    google::rpc::ErrorInfo info;
    info.set_reason("BAD_FIELD");
    status.add_details()->PackFrom(info);
  }
  return grpc::Status(code, message, status.SerializeAsString());
}

struct FakeServer::Shared {
  Options options;
  std::shared_ptr<FakeStore> store;
  Mutex mu;
  CondVar changed;
  std::deque<Fault> faults ABSL_GUARDED_BY(mu);
  std::map<std::string, int> calls ABSL_GUARDED_BY(mu);
  uint64_t max_outstanding ABSL_GUARDED_BY(mu) = 0;
  bool acking ABSL_GUARDED_BY(mu) = true;
  bool silent ABSL_GUARDED_BY(mu) = false;
  uint64_t num_cuts ABSL_GUARDED_BY(mu) = 0;

  // Counts the call; the fault that it has to meet.
  grpc::Status Enter(const std::string& method) {
    MutexLock lock(mu);
    ++calls[method];
    while (silent) changed.Wait(mu);
    if (faults.empty()) return grpc::Status::OK;
    const Fault fault = faults.front();
    faults.pop_front();
    return fault.ToStatus();
  }
};

#define ENTER(method)                                                   \
  if (const grpc::Status fault = shared_->Enter(method); !fault.ok()) { \
    return fault;                                                       \
  }

class FakeServer::Admin : public v1::AdminService::Service {
 public:
  explicit Admin(Shared* shared) : shared_(shared) {}
  grpc::Status GetServerInfo(grpc::ServerContext*,
                             const v1::GetServerInfoRequest*,
                             v1::GetServerInfoResponse* response) override {
    response->set_version("0.0.0-fake");
    response->set_simd("scalar");
    response->add_features("index.flat");
    v1::Limits* limits = response->mutable_limits();
    limits->set_max_message_bytes(shared_->options.max_message_bytes);
    limits->set_max_batch_points(shared_->options.max_batch_points);
    limits->set_max_queries_per_batch(4'096);
    return grpc::Status::OK;
  }
  grpc::Status GetServerStats(grpc::ServerContext*,
                              const v1::GetServerStatsRequest*,
                              v1::GetServerStatsResponse* response) override {
    ENTER("GetServerStats");
    response->set_resident_bytes(123 << 20);
    response->set_num_collections(1);
    v1::GpuStats* gpu = response->add_gpus();
    gpu->set_name("cuda:0");
    gpu->set_resident_segments(3);
    gpu->set_resident_bytes(7 << 20);
    gpu->set_batches(4);
    gpu->set_batch_queries(10);
    gpu->set_fallbacks_no_memory(2);
    gpu = response->add_gpus();
    gpu->set_name("cuda:1");
    gpu->set_lost(true);
    return grpc::Status::OK;
  }
  grpc::Status ResumeWrites(grpc::ServerContext*,
                            const v1::ResumeWritesRequest*,
                            v1::ResumeWritesResponse*) override {
    ENTER("ResumeWrites");
    return grpc::Status::OK;
  }

 private:
  Shared* shared_;
};

class FakeServer::Collections : public v1::CollectionService::Service {
 public:
  explicit Collections(Shared* shared) : shared_(shared) {}

  grpc::Status CreateCollection(
      grpc::ServerContext*, const v1::CreateCollectionRequest* request,
      v1::CreateCollectionResponse* response) override {
    ENTER("CreateCollection");
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    const std::string& name = request->collection().name();
    if (store.collections.contains(name)) {
      return grpc::Status(grpc::StatusCode::ALREADY_EXISTS,
                          absl::StrCat("Collection ", name, " exists."));
    }
    auto& made = store.collections[name];
    made.schema = request->collection();
    made.schema.set_uuid(absl::StrCat("uuid-", name, "-", ++num_created_));
    *response->mutable_collection() = made.schema;
    return grpc::Status::OK;
  }

  grpc::Status GetCollection(grpc::ServerContext*,
                             const v1::GetCollectionRequest* request,
                             v1::GetCollectionResponse* response) override {
    ENTER("GetCollection");
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    const auto found = store.collections.find(request->name());
    if (found == store.collections.end()) return NotFound(request->name());
    *response->mutable_collection() = Describe(found->second);
    return grpc::Status::OK;
  }

  // Of the masks only those that the command sends.
  grpc::Status UpdateCollection(
      grpc::ServerContext*, const v1::UpdateCollectionRequest* request,
      v1::UpdateCollectionResponse* response) override {
    ENTER("UpdateCollection");
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    const auto found = store.collections.find(request->collection().name());
    if (found == store.collections.end()) {
      return NotFound(request->collection().name());
    }
    v1::Collection& schema = found->second.schema;
    for (const std::string& path : request->update_mask().paths()) {
      if (path == "memory") {
        *schema.mutable_memory() = request->collection().memory();
      } else if (path == "gpu") {
        schema.set_gpu(request->collection().gpu());
      }
    }
    *response->mutable_collection() = Describe(found->second);
    return grpc::Status::OK;
  }

  grpc::Status ListCollections(grpc::ServerContext*,
                               const v1::ListCollectionsRequest* request,
                               v1::ListCollectionsResponse* response) override {
    ENTER("ListCollections");
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    // One a page, to see the client turn pages.
    auto next = request->page_token().empty()
                    ? store.collections.begin()
                    : store.collections.lower_bound(request->page_token());
    if (next == store.collections.end()) return grpc::Status::OK;
    *response->add_collections() = Describe(next->second);
    if (++next != store.collections.end()) {
      response->set_next_page_token(next->first);
    }
    return grpc::Status::OK;
  }

  grpc::Status DeleteCollection(grpc::ServerContext*,
                                const v1::DeleteCollectionRequest* request,
                                v1::DeleteCollectionResponse*) override {
    ENTER("DeleteCollection");
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    if (store.collections.erase(request->name()) == 0 &&
        !request->allow_missing()) {
      return NotFound(request->name());
    }
    return grpc::Status::OK;
  }

  grpc::Status OptimizeCollection(
      grpc::ServerContext*, const v1::OptimizeCollectionRequest*,
      v1::OptimizeCollectionResponse* response) override {
    ENTER("OptimizeCollection");
    response->set_operation("operations/1");
    return grpc::Status::OK;
  }

 private:
  static v1::Collection Describe(const FakeStore::Collection& collection) {
    v1::Collection out = collection.schema;
    out.mutable_stats()->set_num_points(collection.points.size());
    out.mutable_stats()->set_sequence(collection.sequence);
    v1::SegmentStats* segment = out.mutable_stats()->add_segments();
    segment->set_state(v1::SEGMENT_STATE_GROWING);
    segment->set_num_rows(collection.points.size());
    return out;
  }

  Shared* shared_;
  int num_created_ = 0;
};

class FakeServer::Points : public v1::PointService::Service {
 public:
  explicit Points(Shared* shared) : shared_(shared) {}

  grpc::Status Upsert(grpc::ServerContext*, const v1::UpsertRequest* request,
                      v1::UpsertResponse* response) override {
    ENTER("Upsert");
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    const auto found = store.collections.find(request->collection());
    if (found == store.collections.end())
      return NotFound(request->collection());
    Apply(request->points(), &found->second);
    response->mutable_commit()->set_sequence(++found->second.sequence);
    return grpc::Status::OK;
  }

  grpc::Status Count(grpc::ServerContext*, const v1::CountRequest* request,
                     v1::CountResponse* response) override {
    ENTER("Count");
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    const auto found = store.collections.find(request->collection());
    if (found == store.collections.end())
      return NotFound(request->collection());
    response->set_count(found->second.points.size());
    return grpc::Status::OK;
  }

  // Three values: what was asked, 7 and a date, two of them in a page.
  grpc::Status Facet(grpc::ServerContext*, const v1::FacetRequest* request,
                     v1::FacetResponse* response) override {
    ENTER("Facet");
    v1::FacetValue values[3];
    values[0].mutable_value()->set_string_value(request->path() + "|" +
                                                request->prefix() + "|" +
                                                request->filter().text());
    values[1].mutable_value()->set_int_value(7);
    values[2].mutable_value()->set_string_value("2024-05-31T00:00:00Z");
    uint32_t next = request->page_token().empty() ? 0 : 2;
    for (uint32_t n = std::min(request->limit(), 2u); n > 0 && next < 3; --n) {
      values[next].set_count(3'000 - next);
      *response->add_values() = values[next++];
    }
    if (next == 2) response->set_next_page_token("2");
    response->set_num_distinct(3);
    *response->mutable_min() = values[1].value();
    response->mutable_max()->set_double_value(7.25);
    return grpc::Status::OK;
  }

  grpc::Status Delete(grpc::ServerContext*, const v1::DeleteRequest* request,
                      v1::DeleteResponse* response) override {
    ENTER("Delete");
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    const auto found = store.collections.find(request->collection());
    if (found == store.collections.end())
      return NotFound(request->collection());
    const auto ids = FromProto(request->ids());
    for (const PointId& id : *ids) {
      response->set_num_deleted(response->num_deleted() +
                                found->second.points.erase(id));
    }
    return grpc::Status::OK;
  }

  grpc::Status Get(grpc::ServerContext*, const v1::GetRequest* request,
                   v1::GetResponse* response) override {
    ENTER("Get");
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    const auto found = store.collections.find(request->collection());
    if (found == store.collections.end())
      return NotFound(request->collection());
    const auto wanted = FromProto(request->ids());
    std::vector<PointId> ids;
    for (const PointId& id : *wanted) {
      if (found->second.points.contains(id)) ids.push_back(id);
    }
    Fill(found->second, ids, request->select(),
         response->mutable_points()->mutable_columns());
    return grpc::Status::OK;
  }

  grpc::Status Scroll(grpc::ServerContext*, const v1::ScrollRequest* request,
                      grpc::ServerWriter<v1::ScrollResponse>* writer) override {
    ENTER("Scroll");
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    const auto found = store.collections.find(request->collection());
    if (found == store.collections.end())
      return NotFound(request->collection());
    std::vector<PointId> page;
    uint64_t sent = 0;
    uint64_t pages = 0;
    const auto flush = [&] {
      v1::ScrollResponse response;
      Fill(found->second, page, request->select(),
           response.mutable_points()->mutable_columns());
      writer->Write(response);
      page.clear();
      if (++pages == shared_->options.pages_before_silence) {
        MutexLock silence(shared_->mu);
        shared_->silent = true;
        while (shared_->silent) shared_->changed.Wait(shared_->mu);
      }
    };
    for (const auto& [id, point] : found->second.points) {
      if (request->limit() > 0 && sent == request->limit()) break;
      page.push_back(id);
      ++sent;
      if (page.size() == 7) flush();
    }
    if (!page.empty()) flush();
    return grpc::Status::OK;
  }

  grpc::Status Write(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::WriteResponse, v1::WriteRequest>* stream)
      override {
    ENTER("Write");
    v1::WriteRequest request;
    if (!stream->Read(&request) || !request.has_start()) {
      return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no start");
    }
    const v1::WriteStart start = request.start();
    v1::WriteResponse response;
    {
      MutexLock lock(shared_->store->mu);
      const auto found = shared_->store->collections.find(start.collection());
      if (found == shared_->store->collections.end()) {
        return NotFound(start.collection());
      }
      response.mutable_started()->set_last_frame(
          found->second.streams[start.stream_id()]);
    }
    response.mutable_started()->set_credit_bytes(shared_->options.credit_bytes);
    stream->Write(response);
    return RunStream(start, stream);
  }

 private:
  struct Pending {
    v1::WriteResponse ack;
    uint64_t bytes = 0;
  };

  grpc::Status RunStream(
      const v1::WriteStart& start,
      grpc::ServerReaderWriter<v1::WriteResponse, v1::WriteRequest>* stream) {
    v1::WriteRequest request;
    std::deque<Pending> pending;
    uint64_t outstanding = 0;
    uint64_t applied = 0;
    const uint64_t cut_after = shared_->options.cut_after_frames;
    while (stream->Read(&request)) {
      const uint64_t bytes = request.ByteSizeLong();
      outstanding += bytes;
      bool acking = true;
      bool cut = false;
      {
        MutexLock lock(shared_->mu);
        shared_->max_outstanding =
            std::max(shared_->max_outstanding, outstanding);
        acking = shared_->acking;
        cut = cut_after > 0 && applied + 1 == cut_after;
        if (cut && shared_->num_cuts++ % 2 == 0) acking = false;
      }
      pending.push_back({Commit(start, request.frame()), bytes});
      ++applied;
      // Acks come in bunches, which makes the credit work.
      if (acking && (outstanding * 2 > shared_->options.credit_bytes || cut ||
                     pending.size() >= 4)) {
        SendAcks(stream, &pending, &outstanding);
      }
      if (cut) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "cut");
    }
    {
      MutexLock lock(shared_->mu);
      while (!shared_->acking) shared_->changed.Wait(shared_->mu);
    }
    SendAcks(stream, &pending, &outstanding);
    return grpc::Status::OK;
  }

  static void SendAcks(
      grpc::ServerReaderWriter<v1::WriteResponse, v1::WriteRequest>* stream,
      std::deque<Pending>* pending, uint64_t* outstanding) {
    for (const Pending& one : *pending) {
      *outstanding -= one.bytes;
      stream->Write(one.ack);
    }
    pending->clear();
  }

  v1::WriteResponse Commit(const v1::WriteStart& start,
                           const v1::WriteFrame& frame) {
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    auto& collection = store.collections[start.collection()];
    uint64_t& last = collection.streams[start.stream_id()];
    v1::WriteResponse response;
    v1::WriteAck* ack = response.mutable_ack();
    ack->set_frame(frame.frame());
    if (frame.frame() <= last) {
      ack->set_duplicate(true);
      return response;
    }
    last = frame.frame();
    ++collection.sequence;
    ack->mutable_commit()->set_sequence(collection.sequence);
    if (frame.has_delete_()) {
      const auto ids = FromProto(frame.delete_());
      for (const PointId& id : *ids) collection.points.erase(id);
      ack->set_num_written(ids->size());
      return response;
    }
    for (const uint32_t bad : Apply(frame.upsert(), &collection)) {
      v1::ItemError* error = ack->add_errors();
      error->set_index(bad);
      error->set_code(static_cast<int>(grpc::StatusCode::INVALID_ARGUMENT));
      error->set_field("points.columns.vectors[0]");
      error->set_message("An element is not finite.");
    }
    ack->set_num_written(NumIds(frame.upsert().columns().ids()) -
                         static_cast<size_t>(ack->errors_size()));
    return response;
  }

  // Stores the finite points; the positions of the others.
  static std::vector<uint32_t> Apply(const v1::PointBatch& batch,
                                     FakeStore::Collection* collection) {
    const v1::PointColumns& columns = batch.columns();
    const auto ids = FromProto(columns.ids());
    const auto rows = columns.vectors().empty()
                          ? std::vector<std::vector<float>>()
                          : Rows(columns.vectors(0));
    std::vector<uint32_t> refused;
    for (size_t i = 0; i < ids->size(); ++i) {
      FakePoint point;
      if (i < rows.size()) point.vector = rows[i];
      for (const v1::MultiVectorColumn& column : columns.multi_vectors()) {
        const VectorSetView tokens = TokensOf(column, i);
        point.tokens[column.name()].assign(
            reinterpret_cast<const char*>(tokens.data),
            tokens.num_rows * tokens.stride_bytes);
      }
      const auto row = static_cast<int>(i);
      if (row < columns.payloads_size()) point.payload = columns.payloads(row);
      const bool finite = std::all_of(point.vector.begin(), point.vector.end(),
                                      [](float x) { return std::isfinite(x); });
      if (!finite) {
        refused.push_back(static_cast<uint32_t>(i));
        continue;
      }
      ++collection->num_upserts;
      collection->points[(*ids)[i]] = std::move(point);
    }
    return refused;
  }

  static void Fill(const FakeStore::Collection& collection,
                   const std::vector<PointId>& ids,
                   const v1::PointSelector& select, v1::PointColumns* out) {
    *out->mutable_ids() = ToProto(ids);
    const bool with_vectors =
        select.with_all_vectors() || select.vectors_size() > 0;
    for (const auto& config : collection.schema.multi_vectors()) {
      if (!with_vectors) continue;
      v1::MultiVectorColumn* column = out->add_multi_vectors();
      column->set_name(config.name());
      column->set_dim(config.dim());
      column->set_type(config.type());
      const size_t token_bytes =
          config.dim() * ElementSize(FromProto(config.type()));
      column->add_offsets(0);
      for (const PointId& id : ids) {
        const auto& tokens = collection.points.at(id).tokens;
        const auto found = tokens.find(config.name());
        if (found != tokens.end()) {
          column->mutable_data()->append(found->second);
        }
        column->add_offsets(column->data().size() / token_bytes);
      }
    }
    if (with_vectors && !collection.schema.vectors().empty()) {
      const v1::VectorConfig& config = collection.schema.vectors(0);
      v1::VectorColumn* column = out->add_vectors();
      column->set_name(config.name());
      column->set_dim(config.dim());
      column->set_type(v1::ELEMENT_TYPE_FLOAT32);
      for (const PointId& id : ids) {
        const auto& vector = collection.points.at(id).vector;
        column->mutable_data()->append(
            reinterpret_cast<const char*>(vector.data()),
            vector.size() * sizeof(float));
      }
    }
    if (!select.with_payload()) return;
    for (const PointId& id : ids) {
      out->add_payloads(collection.points.at(id).payload);
    }
  }

  Shared* shared_;
};

class FakeServer::Searches : public v1::SearchService::Service {
 public:
  explicit Searches(Shared* shared) : shared_(shared) {}

  grpc::Status Search(grpc::ServerContext*, const v1::SearchRequest* request,
                      v1::SearchResponse* response) override {
    ENTER("Search");
    if (request->query().has_retrieve_multi()) {
      return FindTokens(*request, response);
    }
    const v1::Retrieve& retrieve = request->query().retrieve();
    v1::VectorColumn column;
    column.set_data(retrieve.query().data());
    column.set_type(retrieve.query().type());
    column.set_dim(static_cast<uint32_t>(
        column.data().size() / ElementSize(FromProto(column.type()))));
    return Find(request->collection(), column, retrieve.k(), retrieve.quality(),
                request->select(), response->mutable_profile(),
                [&](size_t) { return response->mutable_result(); });
  }

  grpc::Status SearchBatch(grpc::ServerContext*,
                           const v1::SearchBatchRequest* request,
                           v1::SearchBatchResponse* response) override {
    ENTER("SearchBatch");
    return Find(request->collection(), request->queries(), request->k(),
                request->quality(), request->select(),
                response->mutable_profile(),
                [&](size_t) { return response->add_results(); });
  }

 private:
  // The inner product of each pair, in rows of the query's tokens.
  static std::vector<float> Similarities(
      const std::vector<std::vector<float>>& query,
      const std::vector<std::vector<float>>& document) {
    std::vector<float> out;
    for (const auto& q : query) {
      for (const auto& d : document) {
        out.push_back(Score(v1::METRIC_INNER_PRODUCT, q, d));
      }
    }
    return out;
  }
  static std::vector<std::vector<float>> Tokens(uint32_t dim,
                                                v1::ElementType type,
                                                const std::string& data) {
    v1::VectorColumn column;
    column.set_dim(dim);
    column.set_type(type);
    column.set_data(data);
    return Rows(column);
  }

  // By MaxSim of inner products.
  grpc::Status FindTokens(const v1::SearchRequest& request,
                          v1::SearchResponse* response) {
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    const auto found = store.collections.find(request.collection());
    if (found == store.collections.end()) return NotFound(request.collection());
    const v1::RetrieveMulti& leaf = request.query().retrieve_multi();
    const v1::MultiVectorConfig& config = found->second.schema.multi_vectors(0);
    auto query =
        Tokens(leaf.query().dim(), leaf.query().type(), leaf.query().data());
    for (const v1::TokenVector& token : leaf.query().tokens()) {
      query.emplace_back(token.values().begin(), token.values().end());
    }
    if (query.empty()) {
      return Fault{.code = grpc::StatusCode::INVALID_ARGUMENT,
                   .message = "The query has no tokens.",
                   .field = "query.retrieve_multi.query"}
          .ToStatus();
    }
    std::vector<std::pair<float, PointId>> best;
    std::map<PointId, std::vector<float>> matches;
    for (const auto& [id, point] : found->second.points) {
      const auto tokens = point.tokens.find(leaf.vector());
      if (tokens == point.tokens.end() || tokens->second.empty()) continue;
      matches[id] = Similarities(
          query, Tokens(config.dim(), config.type(), tokens->second));
      const auto n =
          static_cast<std::ptrdiff_t>(matches[id].size() / query.size());
      float score = 0;
      for (auto row = matches[id].begin(); row != matches[id].end(); row += n) {
        score -= *std::max_element(row, row + n);
      }
      best.emplace_back(score, id);
    }
    std::sort(best.begin(), best.end());
    best.resize(std::min<size_t>(best.size(), leaf.k()));
    v1::SearchResult* result = response->mutable_result();
    result->set_exact(leaf.quality().exact());
    std::vector<PointId> ids;
    for (const auto& [score, id] : best) {
      ids.push_back(id);
      result->add_scores(-score);
      if (!request.token_matches()) continue;
      v1::TokenMatches* to = result->add_token_matches();
      to->set_num_query_tokens(static_cast<uint32_t>(query.size()));
      to->set_num_document_tokens(
          static_cast<uint32_t>(matches[id].size() / query.size()));
      to->mutable_similarities()->Assign(matches[id].begin(),
                                         matches[id].end());
    }
    *result->mutable_ids() = ToProto(ids);
    return grpc::Status::OK;
  }

  template <typename Result>
  grpc::Status Find(const std::string& name, const v1::VectorColumn& queries,
                    uint32_t k, const v1::Quality& quality,
                    const v1::PointSelector& select, v1::SearchProfile* profile,
                    const Result& result_of) {
    FakeStore& store = *shared_->store;
    MutexLock lock(store.mu);
    const auto found = store.collections.find(name);
    if (found == store.collections.end()) return NotFound(name);
    const v1::VectorConfig& config = found->second.schema.vectors(0);
    if (queries.dim() != config.dim()) {
      return Fault{.code = grpc::StatusCode::INVALID_ARGUMENT,
                   .message = "The query has another dimension.",
                   .field = "query.retrieve.query"}
          .ToStatus();
    }
    const auto rows = Rows(queries);
    for (size_t q = 0; q < rows.size(); ++q) {
      std::vector<std::pair<float, PointId>> best;
      for (const auto& [id, point] : found->second.points) {
        float score = Score(config.metric(), rows[q], point.vector);
        if (config.metric() != v1::METRIC_L2) score = -score;
        best.emplace_back(score, id);
      }
      std::sort(best.begin(), best.end());
      best.resize(std::min<size_t>(best.size(), k));
      // A poor approximation, so that recall has something to measure.
      if (quality.has_ef() && best.size() > quality.ef()) {
        best.resize(quality.ef());
      }
      v1::SearchResult* result = result_of(q);
      result->set_exact(quality.exact());
      std::vector<PointId> ids;
      for (const auto& [score, id] : best) {
        ids.push_back(id);
        result->add_scores(config.metric() == v1::METRIC_L2 ? score : -score);
        if (select.with_payload()) {
          result->mutable_points()->add_payloads(
              found->second.points.at(id).payload);
        }
      }
      *result->mutable_ids() = ToProto(ids);
    }
    profile->set_distance_computations(rows.size() *
                                       found->second.points.size());
    profile->mutable_elapsed()->set_nanos(1'500'000);
    return grpc::Status::OK;
  }

  Shared* shared_;
};

class FakeServer::Operations : public v1::OperationService::Service {
 public:
  explicit Operations(Shared* shared) : shared_(shared) {}

  // operations/1 is done at the third look, operations/2 never.
  grpc::Status WaitOperation(grpc::ServerContext*,
                             const v1::WaitOperationRequest* request,
                             v1::WaitOperationResponse* response) override {
    ENTER("WaitOperation");
    if (request->name() != "operations/1" &&
        request->name() != "operations/2") {
      return NotFound(request->name());
    }
    v1::Operation* operation = response->mutable_operation();
    operation->set_name(request->name());
    operation->set_kind("optimize");
    operation->set_total_rows(100);
    const int looks = ++num_looks_;
    operation->set_done_rows(static_cast<uint64_t>(std::min(looks, 3) * 33));
    operation->set_done(looks >= 3 && request->name() == "operations/1");
    return grpc::Status::OK;
  }

 private:
  Shared* shared_;
  int num_looks_ = 0;
};

FakeServer::FakeServer() : FakeServer(Options()) {}

FakeServer::FakeServer(const Options& options, std::shared_ptr<FakeStore> store)
    : store_(store != nullptr ? std::move(store)
                              : std::make_shared<FakeStore>()),
      shared_(std::make_unique<Shared>()) {
  shared_->options = options;
  shared_->store = store_;
  services_.push_back(std::make_unique<Admin>(shared_.get()));
  services_.push_back(std::make_unique<Collections>(shared_.get()));
  services_.push_back(std::make_unique<Points>(shared_.get()));
  services_.push_back(std::make_unique<Searches>(shared_.get()));
  services_.push_back(std::make_unique<Operations>(shared_.get()));
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", options.port),
                           grpc::InsecureServerCredentials(), &port_);
  builder.SetMaxReceiveMessageSize(-1);
  for (const auto& service : services_) builder.RegisterService(service.get());
  server_ = builder.BuildAndStart();
  address_ = absl::StrCat("127.0.0.1:", port_);
}

FakeServer::~FakeServer() { Shutdown(); }

void FakeServer::Shutdown() {
  if (server_ == nullptr) return;
  set_acking(true);
  set_silent(false);
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  server_.reset();
}

void FakeServer::FailNext(const Fault& fault, int times) {
  MutexLock lock(shared_->mu);
  for (int i = 0; i < times; ++i) shared_->faults.push_back(fault);
}

int FakeServer::num_calls(const std::string& method) const {
  MutexLock lock(shared_->mu);
  return shared_->calls[method];
}

uint64_t FakeServer::max_outstanding() const {
  MutexLock lock(shared_->mu);
  return shared_->max_outstanding;
}

void FakeServer::set_silent(bool silent) {
  MutexLock lock(shared_->mu);
  shared_->silent = silent;
  shared_->changed.NotifyAll();
}

void FakeServer::set_acking(bool acking) {
  MutexLock lock(shared_->mu);
  shared_->acking = acking;
  shared_->changed.NotifyAll();
}

}  // namespace vicinal::client
