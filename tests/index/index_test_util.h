// Data that the index tests share: synthetic clusters in every element type,
// the real sets in ../shared/data when they are there, exact answers, recall.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "index/index.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/base/vector_set.h"

namespace vicinal {

// Vectors of one type that own their bytes.
struct OwnedVectors {
  std::vector<std::byte> bytes;
  size_t num_rows = 0;
  size_t dim = 0;
  ElementType type = ElementType::kFloat32;

  size_t row_bytes() const { return dim * ElementSize(type); }
  VectorSetView view() const {
    return {bytes.data(), num_rows, dim, row_bytes(), type};
  }
  const std::byte* row(size_t i) const {
    return bytes.data() + i * row_bytes();
  }
};

// Values rounded (and for the integer types clamped) to `type`.
OwnedVectors MakeVectors(const std::vector<float>& values, size_t dim,
                         ElementType type);

// Gaussian clusters about 60 units wide in [0, 127], so that every type can
// hold them. The same centres for the same seed; `stream` tells base from
// queries.
std::vector<float> ClusteredValues(size_t num_rows, size_t dim,
                                   size_t num_clusters, uint64_t seed,
                                   uint64_t stream);
OwnedVectors Clustered(size_t num_rows, size_t dim, size_t num_clusters,
                       uint64_t seed, uint64_t stream = 0,
                       ElementType type = ElementType::kFloat32);

// Row order[i] of `vectors` as row i.
OwnedVectors Permuted(const OwnedVectors& vectors,
                      const std::vector<RowId>& order);

std::vector<Neighbor> ExactSearch(VectorSetView vectors, Metric metric,
                                  const void* query, size_t k,
                                  const Filter& filter = {});
// VICINAL_CHECKs that the search succeeds.
std::vector<Neighbor> SearchIndex(const Index& index, const void* query,
                                  size_t k, size_t ef,
                                  const Filter& filter = {},
                                  SearchStats* stats = nullptr);
// Mean share of results as near as the k-th exact one.
double MeanRecall(const Index& index, VectorSetView vectors, Metric metric,
                  const OwnedVectors& queries, size_t k, size_t ef,
                  const Filter& filter = {});

// A 2-d .npy of uint8 from ../shared/data; empty when it is not there.
std::optional<OwnedVectors> LoadSharedUint8(const std::string& path);

}  // namespace vicinal
