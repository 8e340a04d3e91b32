// The newest faiss, as PyPI has it, in a process of its own.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "bench/ann_system.h"

namespace vicinal::bench {

struct FaissPythonOptions {
  std::string python;  // one that has faiss: bench/peers/faiss_venv.sh
  // "HNSW16,SQ8"; {n}, {dim} and {half} stand for the number of lists, the
  // dimension and its half.
  std::string factory;
  int pin_cpu = -1;  // of searches
};

// `ef` of its searches is efSearch or nprobe. A search is of all queries of
// the data set in one call on one thread, in processor time of that thread.
class FaissPython : public AnnSystem {
 public:
  // Of k wanted, the candidates compared again by an index that refines.
  virtual void set_k_factor(size_t k_factor) = 0;
  virtual bool refines() const = 0;
};

std::unique_ptr<FaissPython> MakeFaissPython(FaissPythonOptions options);

}  // namespace vicinal::bench
