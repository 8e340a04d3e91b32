// Every limit on what comes from outside, in one table. The server returns it
// in GetServerInfo and names the limit in each error message.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vicinal {

// Absolute; sums of products of so many stay finite.
inline constexpr float kMaxSparseWeight = 1e15f;
// Likewise of an element of a token, stored or asked for.
inline constexpr float kMaxTokenElement = 1e15f;
// Of a query's token; times the sums above it is finite in f64.
inline constexpr float kMaxQueryTokenWeight = 1e6f;
inline constexpr size_t kMaxSparseCandidates = 1'000'000;  // of one query

struct Limits {
  size_t max_collections = 10'000;
  size_t max_name_bytes = 128;          // collections and vectors
  size_t max_vectors_per_point = 16;    // named vectors of a collection
  size_t max_dim = 65'536;              // elements of one vector
  size_t max_sparse_entries = 65'535;   // of one sparse vector
  size_t max_tokens = 65'535;           // of one multi-vector
  size_t max_query_tokens = 4'096;      // of one multi-vector query
  size_t max_text_fields = 16;          // of one text query
  size_t max_feedback_documents = 100;  // of one query
  size_t max_feedback_terms = 1'000;
  size_t max_id_bytes = 512;            // string ids
  size_t max_payload_bytes = 1 << 20;   // JSON text of one point
  size_t max_payload_depth = 64;        // nesting of that JSON
  size_t max_payload_fields = 64;       // with an index, of a collection
  size_t max_batch_points = 65'536;     // points of one write, get or delete
  size_t max_message_bytes = 64 << 20;  // one gRPC message
  size_t max_k = 16'384;                // results of one query
  size_t max_ef = 16'384;
  size_t max_queries_per_batch = 4'096;    // queries of one SearchBatch
  size_t max_results_per_batch = 1 << 20;  // queries * k of one SearchBatch
  size_t max_query_depth = 8;              // stages above one another
  size_t max_query_stages = 32;            // stages of one query
  size_t max_examples = 1'024;             // of one recommendation
  size_t max_diversity_candidates = 2'048;
  size_t max_page_size = 10'000;  // points of one scroll message
  size_t max_stream_id_bytes = 128;
  size_t max_facet_values = 10'000;  // of one reply
};

}  // namespace vicinal
