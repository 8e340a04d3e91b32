#include "tests/index/index_test_util.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "index/flat.h"
#include "src/base/cancel.h"
#include "src/base/check.h"
#include "src/base/half.h"
#include "src/base/random.h"

namespace vicinal {

OwnedVectors MakeVectors(const std::vector<float>& values, size_t dim,
                         ElementType type) {
  OwnedVectors out{.num_rows = values.size() / dim, .dim = dim, .type = type};
  out.bytes.resize(values.size() * ElementSize(type));
  for (size_t i = 0; i < values.size(); ++i) {
    std::byte* at = out.bytes.data() + i * ElementSize(type);
    if (type == ElementType::kFloat32) {
      std::memcpy(at, &values[i], 4);
    } else if (type == ElementType::kFloat16) {
      const uint16_t half = FloatToHalf(values[i]);
      std::memcpy(at, &half, 2);
    } else {
      const bool is_signed = type == ElementType::kInt8;
      const float low = is_signed ? -128 : 0;
      const float high = is_signed ? 127 : 255;
      *at = static_cast<std::byte>(static_cast<uint8_t>(
          static_cast<int>(std::clamp(std::round(values[i]), low, high))));
    }
  }
  return out;
}

std::vector<float> ClusteredValues(size_t num_rows, size_t dim,
                                   size_t num_clusters, uint64_t seed,
                                   uint64_t stream) {
  Random centre_random(seed);
  std::vector<float> centres(num_clusters * dim);
  for (float& value : centres) value = 30 + 60 * centre_random.UniformDouble();
  Random random(seed ^ (0xA5A5 + 7919 * stream));
  std::vector<float> values(num_rows * dim);
  for (size_t row = 0; row < num_rows; ++row) {
    const size_t cluster = random.Uniform(num_clusters);
    for (size_t i = 0; i < dim; ++i) {
      values[row * dim + i] = static_cast<float>(centres[cluster * dim + i] +
                                                 10 * random.Gaussian());
    }
  }
  return values;
}

OwnedVectors Clustered(size_t num_rows, size_t dim, size_t num_clusters,
                       uint64_t seed, uint64_t stream, ElementType type) {
  return MakeVectors(ClusteredValues(num_rows, dim, num_clusters, seed, stream),
                     dim, type);
}

OwnedVectors Permuted(const OwnedVectors& vectors,
                      const std::vector<RowId>& order) {
  OwnedVectors out{
      .num_rows = order.size(), .dim = vectors.dim, .type = vectors.type};
  out.bytes.reserve(order.size() * vectors.row_bytes());
  for (const RowId row : order) {
    out.bytes.insert(out.bytes.end(), vectors.row(row),
                     vectors.row(row) + vectors.row_bytes());
  }
  return out;
}

std::vector<Neighbor> ExactSearch(VectorSetView vectors, Metric metric,
                                  const void* query, size_t k,
                                  const Filter& filter) {
  return SearchIndex(FlatIndex(vectors, metric), query, k, 0, filter);
}

std::vector<Neighbor> SearchIndex(const Index& index, const void* query,
                                  size_t k, size_t ef, const Filter& filter,
                                  SearchStats* stats) {
  TopK top(k);
  const absl::Status status = index.Search(query, {.k = k, .ef = ef}, filter,
                                           StopCondition{}, &top, stats);
  VICINAL_CHECK(status.ok());
  return top.TakeSorted();
}

double MeanRecall(const Index& index, VectorSetView vectors, Metric metric,
                  const OwnedVectors& queries, size_t k, size_t ef,
                  const Filter& filter) {
  size_t hits = 0;
  size_t wanted = 0;
  for (size_t q = 0; q < queries.num_rows; ++q) {
    const std::vector<Neighbor> exact =
        ExactSearch(vectors, metric, queries.row(q), k, filter);
    if (exact.empty()) continue;
    wanted += exact.size();
    for (const Neighbor& found :
         SearchIndex(index, queries.row(q), k, ef, filter)) {
      hits += found.distance <= exact.back().distance;
    }
  }
  return static_cast<double>(hits) / static_cast<double>(wanted);
}

std::optional<OwnedVectors> LoadSharedUint8(const std::string& path) {
  std::ifstream in(std::string(VICINAL_SHARED_DATA) + "/" + path,
                   std::ios::binary);
  if (!in) return std::nullopt;
  const std::string bytes((std::istreambuf_iterator<char>(in)),
                          std::istreambuf_iterator<char>());
  const size_t shape = bytes.find("'shape': (");
  VICINAL_CHECK(bytes.find("'|u1'") != std::string::npos &&
                shape != std::string::npos);
  OwnedVectors out{.type = ElementType::kUint8};
  const char* at = bytes.c_str() + shape + 10;
  char* end = nullptr;
  out.num_rows = std::strtoul(at, &end, 10);
  out.dim = std::strtoul(end + 1, nullptr, 10);
  const size_t header = 10 + static_cast<uint8_t>(bytes[8]) +
                        256 * static_cast<uint8_t>(bytes[9]);
  VICINAL_CHECK_EQ(bytes.size(), header + out.num_rows * out.dim);
  out.bytes.resize(out.num_rows * out.dim);
  std::memcpy(out.bytes.data(), bytes.data() + header, out.bytes.size());
  return out;
}

}  // namespace vicinal
