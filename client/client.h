// The C++ client of Vicinal.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/retry.h"
#include "src/base/point_id.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"
#include "vicinal/v1/admin.pb.h"
#include "vicinal/v1/collection.pb.h"
#include "vicinal/v1/common.pb.h"
#include "vicinal/v1/filter.pb.h"
#include "vicinal/v1/operation.pb.h"
#include "vicinal/v1/point.pb.h"
#include "vicinal/v1/search.pb.h"

namespace grpc {
class Channel;
}

namespace vicinal::client {

struct ClientOptions {
  // HOST:PORT, or any name gRPC resolves, e.g. unix:PATH.
  std::string server = "127.0.0.1:7700";
  // Deadline of a call with all its retries; zero: none.
  std::chrono::milliseconds timeout{30'000};
  // How long Connect tries to reach the server.
  std::chrono::milliseconds connect_timeout{2'000};
  // A stream (Scroll, Uploader) on which the server is silent for so long
  // although it is its turn is given up; zero: never. Should be well below
  // UploadOptions::max_outage: an upload whose acks wait for an index to be
  // built then goes on in a new stream.
  std::chrono::milliseconds stream_timeout{30'000};
  RetryPolicy retry;
  // TCP connections. One carries many calls at once; more help when one
  // core of the server cannot keep up with a single one.
  size_t num_connections = 1;
  // Idle connections are probed so often; zero: never. Finds a dead peer.
  std::chrono::milliseconds keepalive{30'000};
};

// How to search. At most one of exact, ef, nprobe and recall_target; none: the
// server's default, recall 0.95.
struct SearchOptions {
  uint32_t k = 10;
  uint32_t offset = 0;  // so many of the best are passed over
  bool exact = false;
  std::optional<uint32_t> ef;
  std::optional<uint32_t> nprobe;
  std::optional<double> recall_target;
  std::string vector;  // name; empty: the collection's only one
  v1::Filter filter;   // in either form; blank: all points
  // Only hits with this score or a better one; see Retrieve.
  std::optional<float> score_threshold;
  bool with_payload = false;
  bool with_vectors = false;

  // Of single searches; SearchBatch has none of these.
  v1::ForcedPlan plan = v1::FORCED_PLAN_UNSPECIFIED;
  bool explain = false;
  std::string group_by;     // field of payloads: k groups; empty: no groups
  uint32_t group_size = 3;  // hits of each
  // Hits that differ, of searches by a vector. candidates 0: 100, or as many as
  // offset and k need.
  std::optional<v1::Mmr> mmr;
};

// How to search by a multi-vector, beside SearchOptions (whose ef, nprobe and
// mmr do not go with it); 0: the server's choice. See v1::RetrieveMulti.
struct MultiSearchOptions {
  uint32_t rescore = 0;
  uint32_t candidates = 0;
  uint32_t exact_candidates = 0;
  bool token_matches = false;
};

// Thread-safe. Every method returns the server's error with its details (see
// status.h); calls that can be repeated without harm are tried again as
// RetryPolicy says, within the deadline. A request above the server's
// message limit is refused here, with RESOURCE_EXHAUSTED.
class Client {
 public:
  // Reaches the server and learns its limits. Unavailable: it does not answer.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(
      const ClientOptions& options);
  ~Client();

  const ClientOptions& options() const { return options_; }
  const v1::GetServerInfoResponse& server_info() const { return info_; }

  // The server.
  absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo();
  absl::StatusOr<v1::GetServerStatsResponse> GetServerStats();
  absl::Status ResumeWrites();

  // Collections.
  absl::StatusOr<v1::Collection> CreateCollection(
      const v1::Collection& collection, bool validate_only = false);
  // Creates nothing: what the collection would take with so many points.
  absl::StatusOr<v1::ResourceEstimate> EstimateCollection(
      const v1::Collection& collection, uint64_t expected_points);
  absl::StatusOr<v1::Collection> GetCollection(absl::string_view name);
  absl::StatusOr<std::vector<v1::Collection>> ListCollections();
  // Of `collection` what `paths` name, as UpdateCollectionRequest.update_mask;
  // none: the indexes of its vectors.
  absl::StatusOr<v1::Collection> UpdateCollection(
      const v1::Collection& collection,
      const std::vector<std::string>& paths = {});
  absl::Status DeleteCollection(absl::string_view name,
                                bool allow_missing = false);
  // Returns the name of the operation.
  absl::StatusOr<std::string> OptimizeCollection(absl::string_view name,
                                                 uint32_t max_segments = 0);

  // Returns the name of the operation.
  absl::StatusOr<std::string> CreatePayloadIndex(absl::string_view collection,
                                                 absl::string_view path,
                                                 v1::PayloadType type);
  absl::Status DropPayloadIndex(absl::string_view collection,
                                absl::string_view path);
  // Tried again: a repetition does no harm.
  absl::StatusOr<v1::SetSparseEncoderResponse> SetSparseEncoder(
      const v1::SetSparseEncoderRequest& request);
  absl::Status SetIndexedFiltersOnly(absl::string_view collection, bool only);

  // Points. `points` is moved into the request and not copied.
  absl::StatusOr<v1::CommitToken> Upsert(
      absl::string_view collection, v1::PointBatch points,
      v1::Durability durability = v1::DURABILITY_FSYNCED);
  // The same with all that the request can say. Not tried again where a
  // repetition after a lost reply would find what the first try wrote, and say
  // that the condition does not hold.
  absl::StatusOr<v1::CommitToken> Upsert(const v1::UpsertRequest& request);
  absl::StatusOr<v1::GetResponse> GetPoints(absl::string_view collection,
                                            v1::PointIds ids,
                                            const v1::PointSelector& select);
  // When a reply was lost and the call repeated, num_deleted counts only what
  // the repetition found.
  absl::StatusOr<v1::DeleteResponse> DeletePoints(
      absl::string_view collection, v1::PointIds ids,
      v1::Durability durability = v1::DURABILITY_FSYNCED);
  // Those that the filter accepts; it must not be blank.
  absl::StatusOr<v1::DeleteResponse> DeletePoints(
      absl::string_view collection, v1::Filter filter,
      v1::Durability durability = v1::DURABILITY_FSYNCED);
  // Changes payloads; see UpdatePayloadRequest.
  absl::StatusOr<v1::UpdatePayloadResponse> UpdatePayload(
      const v1::UpdatePayloadRequest& request);
  // filter: blank: all points.
  absl::StatusOr<uint64_t> Count(absl::string_view collection,
                                 const v1::Filter& filter = {});
  // Values of an indexed field; see FacetRequest.
  absl::StatusOr<v1::FacetResponse> Facet(const v1::FacetRequest& request);
  // Streams points by id or by an indexed field (order_by), from the start or
  // from where an earlier page ended (page_token); see ScrollRequest. Calls
  // `page` for each page; its error ends the scroll and is returned.
  // Not tried again once a page was delivered. DeadlineExceeded: the server
  // was silent for options().stream_timeout; there is no other deadline.
  absl::Status Scroll(
      const v1::ScrollRequest& request,
      const std::function<absl::Status(v1::ScrollResponse&&)>& page);

  // Searches. Replies come by columns; see SearchResult.
  absl::StatusOr<v1::SearchResponse> Search(absl::string_view collection,
                                            std::span<const float> query,
                                            const SearchOptions& options);
  absl::StatusOr<v1::SearchResponse> Search(const v1::SearchRequest& request);
  // By token vectors. weights: of the tokens; empty: all 1.
  absl::StatusOr<v1::SearchResponse> SearchMulti(
      absl::string_view collection, const VectorSetView& tokens,
      std::span<const float> weights, const SearchOptions& options,
      const MultiSearchOptions& multi = {});
  // What is like some points, at least one, and unlike others; see
  // v1::Recommend. InvalidArgument: options have mmr. Examples that are vectors
  // need a SearchRequest.
  absl::StatusOr<v1::SearchResponse> Recommend(
      absl::string_view collection, std::span<const PointId> positive,
      std::span<const PointId> negative, const SearchOptions& options);
  absl::StatusOr<v1::SearchBatchResponse> SearchBatch(
      absl::string_view collection, const VectorSetView& queries,
      const SearchOptions& options);
  absl::StatusOr<v1::SearchBatchResponse> SearchBatch(
      const v1::SearchBatchRequest& request);

  // Long work.
  absl::StatusOr<v1::Operation> GetOperation(absl::string_view name);
  absl::StatusOr<std::vector<v1::Operation>> ListOperations(
      absl::string_view collection = "");
  absl::Status CancelOperation(absl::string_view name);
  // Returns the operation when it is done, whatever became of it; calls
  // `progress` about twice a second. DeadlineExceeded: not done in time (zero:
  // wait for ever).
  absl::StatusOr<v1::Operation> WaitOperation(
      absl::string_view name, std::chrono::milliseconds timeout,
      const std::function<void(const v1::Operation&)>& progress = nullptr);

  // Connection `i` modulo their number, for streams and pipelines.
  std::shared_ptr<grpc::Channel> channel(size_t i = 0) const;

 private:
  struct Stubs;
  explicit Client(const ClientOptions& options);

  template <typename Call, typename Request, typename Response>
  absl::Status Run(const Call& call, const Request& request, Response* response,
                   bool repeatable);
  absl::StatusOr<v1::DeleteResponse> Delete(const v1::DeleteRequest& request);
  absl::Status CheckSize(size_t request_bytes) const;

  const ClientOptions options_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::unique_ptr<Stubs> stubs_;
  v1::GetServerInfoResponse info_;
};

// Requests as the methods above send them.
v1::SearchRequest MakeSearchRequest(absl::string_view collection,
                                    std::span<const float> query,
                                    const SearchOptions& options);
v1::SearchRequest MakeRecommendRequest(absl::string_view collection,
                                       std::span<const PointId> positive,
                                       std::span<const PointId> negative,
                                       const SearchOptions& options);
// The rows are copied once, into the request.
v1::SearchBatchRequest MakeSearchBatchRequest(absl::string_view collection,
                                              const VectorSetView& queries,
                                              const SearchOptions& options);

v1::SearchRequest MakeMultiSearchRequest(absl::string_view collection,
                                         v1::MultiVectorQuery query,
                                         const SearchOptions& options,
                                         const MultiSearchOptions& multi = {});

// Token vectors and messages.
v1::MultiVectorQuery MakeMultiQuery(const VectorSetView& tokens,
                                    std::span<const float> weights = {});
// The next lengths[i] of the tokens are those of point i; they sum to all of
// them. A point of length 0 has no such vector.
v1::MultiVectorColumn MakeMultiColumn(absl::string_view name,
                                      const VectorSetView& tokens,
                                      std::span<const uint64_t> lengths);
// Internal: a column of a reply does not fit its points. To be asked before
// TokensOf.
absl::Status CheckMultiColumn(const v1::MultiVectorColumn& column,
                              size_t num_points);
// Into the column.
VectorSetView TokensOf(const v1::MultiVectorColumn& column, size_t point);

// Ids and messages. The ids must not be mixed with others already there.
v1::PointIds ToProto(std::span<const PointId> ids);
v1::PointId ToProto(const PointId& id);
// InvalidArgument: not an id.
absl::StatusOr<PointId> FromProto(const v1::PointId& id);
absl::StatusOr<std::vector<PointId>> FromProto(const v1::PointIds& ids);
// Number of ids, whatever their form.
size_t NumIds(const v1::PointIds& ids);

// Whether it says nothing, and so accepts every point.
bool IsBlank(const v1::Filter& filter);

v1::ElementType ToProto(ElementType type);
// FLOAT32 when not said.
ElementType FromProto(v1::ElementType type);

}  // namespace vicinal::client
