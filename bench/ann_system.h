// What the benchmark asks of every system, ours and the peers alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/dataset.h"

namespace vicinal::bench {

struct BuildParams {
  size_t m = 16;
  size_t ef_construction = 200;
  size_t num_threads = 2;
};

// One index over one prepared data set. Life: made, Build once, then searched
// from one thread. The data set outlives it.
class AnnSystem {
 public:
  virtual ~AnnSystem() = default;

  virtual std::string name() const = 0;
  // Everything from rows in memory to the first search; the caller times it.
  virtual absl::Status Build(const Dataset& dataset,
                             const BuildParams& params) = 0;
  // Writes up to k row numbers of dataset.base to out, nearest first; returns
  // how many. The query is as the data set holds it.
  virtual absl::StatusOr<size_t> Search(const float* query, size_t k, size_t ef,
                                        uint32_t* out) = 0;
  // The same by the recall wanted, for systems that know what it takes.
  virtual absl::StatusOr<size_t> SearchForRecall(const float* /*query*/,
                                                 size_t /*k*/,
                                                 double /*recall_target*/,
                                                 uint32_t* /*out*/) {
    return absl::UnimplementedError("no searches by recall");
  }
  // From now on searches return rows that are accepted only, one bit per row;
  // for systems that take a filter.
  virtual absl::Status AcceptOnly(std::vector<bool> /*accepted*/) {
    return absl::UnimplementedError("no filters");
  }
  // Bytes of vectors and index; 0: not known.
  virtual size_t memory_bytes() const = 0;
  // The same without the vectors that searches by codes only compare a few
  // candidates with, and which may stay in a file.
  virtual size_t compact_bytes() const { return memory_bytes(); }
  // The smallest `ef` that makes a difference.
  virtual size_t smallest_ef(size_t k) const { return k; }
  // Systems in another process answer all queries in one call and time it
  // there. SearchAll writes k rows per query to `rows`, missing ones as
  // UINT32_MAX, and returns the seconds of one thread.
  virtual bool answers_all_at_once() const { return false; }
  virtual absl::StatusOr<double> SearchAll(size_t /*k*/, size_t /*ef*/,
                                           std::vector<uint32_t>* /*rows*/) {
    return absl::UnimplementedError("no searches of all queries at once");
  }
  // The work is done by the calling thread alone, so that its CPU time is the
  // time of a search.
  virtual bool runs_in_caller() const { return true; }
  // What a reader of the table must know, e.g. how the library was compiled.
  virtual std::string remark() const { return ""; }
};

// Ours, in process: an HnswIndex over rows in cell order.
std::unique_ptr<AnnSystem> MakeVicinalIndex();
// The same with the default codec's codes, on which it walks.
std::unique_ptr<AnnSystem> MakeVicinalCodes();
// Lists with the default codec; `ef` is the number of lists read.
// avg_bits of its codes; 0: the default of the dimension.
std::unique_ptr<AnnSystem> MakeVicinalIvf(float avg_bits = 0);
// Ours, in process, through Database and Collection.
std::unique_ptr<AnnSystem> MakeVicinalEngine(std::string data_dir);
// Ours, over gRPC: a server at `address`, or, when it is empty, one of this
// process over data_dir. Null in a build without the server.
std::unique_ptr<AnnSystem> MakeVicinalGrpc(std::string data_dir,
                                           std::string address);
// The peers, or null where they were not found when the build was configured.
std::unique_ptr<AnnSystem> MakeHnswlib();
std::unique_ptr<AnnSystem> MakeFaissHnsw();

}  // namespace vicinal::bench
