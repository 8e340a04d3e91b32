// The work of `vicinal import`: a file of vectors into a collection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"
#include "client/formats/vector_reader.h"
#include "src/base/types.h"
#include "vicinal/v1/collection.pb.h"

namespace vicinal::cli {

// A file of token vectors, and one of their numbers.
struct TokenSource {
  std::string name;  // of the multi-vector
  std::string tokens;
  std::string lengths;
};

struct ImportOptions {
  std::string collection;
  std::string file;  // empty: the rows have tokens and nothing else
  std::vector<TokenSource> tokens;  // document i goes with row i
  // Each document's tokens are pooled to 1 / pool of them, rounded up.
  size_t pool = 1;
  client::OpenOptions open;
  // The collection's vector that the file's unnamed vectors are.
  std::string vector_name;
  // How elements are sent; nullopt: as the file has them.
  std::optional<ElementType> wire_type;
  // Rows without an id of their own get id_start + their row number,
  // or the id on their line of ids_file (.npy of integers, or text).
  uint64_t id_start = 0;
  std::string ids_file;
  std::string id_kind = "number";  // of a text ids_file; see ParseId
  uint64_t limit = std::numeric_limits<uint64_t>::max();  // rows
  // Points per frame at most; 0: as many as fit.
  size_t batch_size = 0;
  double max_points_per_s = 0;
  v1::Durability durability = v1::DURABILITY_FSYNCED;
  // Names the upload; empty: made from the collection, the file and the
  // options, so that the same command goes on where it was stopped.
  std::string stream_id;
  bool restart = false;  // do not go on with an earlier run
  size_t max_refused_kept = 10;
};

// A row that the server did not take.
struct RefusedRow {
  uint64_t row = 0;
  std::string field;
  absl::Status status;
};

struct ImportResult {
  uint64_t rows_resumed = 0;  // sent by an earlier run
  uint64_t rows_sent = 0;
  uint64_t rows_refused = 0;
  uint64_t bytes_sent = 0;  // of frames
  uint64_t tokens_read = 0;
  uint64_t tokens_sent = 0;  // fewer where they were pooled
  uint64_t reconnects = 0;
  uint64_t acks_lost = 0;  // frames whose refused rows are not known
  double elapsed_s = 0;    // from the first frame to the last ack
  std::string stream_id;
  std::vector<RefusedRow> refused;  // the first of them
};

// Called with rows durable so far and the part of the file that is; from
// another thread.
using ImportProgress = std::function<void(uint64_t rows, double fraction)>;
using ImportNotice = std::function<void(const std::string& line)>;

// Frames hold the same rows in every run with the same file and options, and
// the stream's id is made from both, so a run that was killed is continued by
// the next one without loss and without doubles.
absl::StatusOr<ImportResult> Import(client::Client& client,
                                    const v1::Collection& collection,
                                    client::VectorReader& reader,
                                    const ImportOptions& options,
                                    const ImportProgress& progress,
                                    const ImportNotice& notice);

}  // namespace vicinal::cli
