#include "bench/build_data.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/half.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

// The images of a gzipped idx file; rows are empty when it cannot be read.
FloatMatrix ReadImages(const std::string& name, size_t max_rows) {
  constexpr size_t kHeaderBytes = 16;
  FloatMatrix matrix{.dim = 784};
  const std::string path = "/usr/share/datasets/fashion-mnist/" + name;
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) return matrix;
  std::array<uint8_t, 1 << 16> block;
  gzread(file, block.data(), kHeaderBytes);
  for (int n; (n = gzread(file, block.data(), block.size())) > 0;) {
    matrix.values.insert(matrix.values.end(), block.begin(), block.begin() + n);
  }
  gzclose(file);
  matrix.num_rows = std::min(matrix.values.size() / matrix.dim, max_rows);
  matrix.values.resize(matrix.num_rows * matrix.dim);
  return matrix;
}

// A .npy of two dimensions and one- or two-byte elements (int8 or f16).
absl::StatusOr<FloatMatrix> ReadNpy(const std::string& name, size_t max_rows) {
  const std::string path = absl::StrCat(VICINAL_SHARED_DATA, "/", name);
  std::ifstream in(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)),
                          std::istreambuf_iterator<char>());
  const size_t shape = bytes.find("'shape': (");
  if (shape == std::string::npos) {
    return absl::NotFoundError(absl::StrCat(path, " is not there"));
  }
  const bool is_half = bytes.find("<f2") < shape;
  const char* at = bytes.c_str() + shape + 10;
  char* end = nullptr;
  FloatMatrix matrix;
  const size_t rows_in_file = std::strtoul(at, &end, 10);
  matrix.num_rows = std::min(max_rows, rows_in_file);
  matrix.dim = std::strtoul(end + 1, nullptr, 10);
  const size_t header = 10 + static_cast<uint8_t>(bytes[8]) +
                        256 * static_cast<uint8_t>(bytes[9]);
  if (bytes.size() != header + rows_in_file * matrix.dim * (is_half ? 2 : 1)) {
    return absl::DataLossError(absl::StrCat(path, " has another size"));
  }
  matrix.values.resize(matrix.num_rows * matrix.dim);
  for (size_t i = 0; i < matrix.values.size(); ++i) {
    uint16_t half = 0;
    if (is_half) std::memcpy(&half, &bytes[header + 2 * i], 2);
    matrix.values[i] =
        is_half ? HalfToFloat(half) : static_cast<int8_t>(bytes[header + i]);
  }
  return matrix;
}

// kLatent orthonormal rows of kAmbient elements (Gram-Schmidt).
std::vector<float> OrthonormalRows(size_t latent, size_t ambient,
                                   Random* random) {
  std::vector<float> rows(latent * ambient);
  for (size_t r = 0; r < latent; ++r) {
    float* row = &rows[r * ambient];
    for (size_t i = 0; i < ambient; ++i) {
      row[i] = static_cast<float>(random->Gaussian());
    }
    for (size_t other = 0; other <= r; ++other) {
      const float* base = &rows[other * ambient];
      float product = 0;
      for (size_t i = 0; i < ambient; ++i) product += row[i] * base[i];
      const float scale = other == r ? 1 / std::sqrt(product) : product;
      for (size_t i = 0; i < ambient; ++i) {
        row[i] = other == r ? row[i] * scale : row[i] - scale * base[i];
      }
    }
  }
  return rows;
}

}  // namespace

FloatMatrix LatentClusters(size_t num_rows, uint64_t seed, uint64_t stream) {
  constexpr size_t kLatent = 32;
  constexpr size_t kAmbient = 128;
  constexpr size_t kClusters = 200;
  Random shape(seed);
  const std::vector<float> lift = OrthonormalRows(kLatent, kAmbient, &shape);
  std::vector<float> centres(kClusters * kLatent);
  for (float& value : centres) value = static_cast<float>(shape.Gaussian());
  std::vector<double> cumulative(kClusters);
  double total = 0;
  for (size_t c = 0; c < kClusters; ++c) {
    total += 1.0 / static_cast<double>(c + 5);
    cumulative[c] = total;
  }
  Random random(seed ^ (0xB0B0 + 7919 * stream));
  FloatMatrix out{.num_rows = num_rows, .dim = kAmbient};
  out.values.resize(num_rows * kAmbient);
  for (size_t row = 0; row < num_rows; ++row) {
    const size_t c = std::lower_bound(cumulative.begin(), cumulative.end() - 1,
                                      total * random.UniformDouble()) -
                     cumulative.begin();
    float* values = &out.values[row * kAmbient];
    for (size_t i = 0; i < kAmbient; ++i) {
      values[i] = static_cast<float>(0.05 * random.Gaussian());
    }
    for (size_t j = 0; j < kLatent; ++j) {
      const double z = std::pow(static_cast<double>(j + 1), -0.25) *
                       (centres[c * kLatent + j] + 0.6 * random.Gaussian());
      for (size_t i = 0; i < kAmbient; ++i) {
        values[i] += static_cast<float>(z) * lift[j * kAmbient + i];
      }
    }
  }
  return out;
}

absl::StatusOr<Dataset> LoadBuildData(absl::string_view name,
                                      size_t max_queries) {
  constexpr size_t kAll = SIZE_MAX;
  Dataset data{.name = std::string(name), .metric = Metric::kL2};
  if (name == "fashion") {
    data.base = ReadImages("train-images-idx3-ubyte.gz", kAll);
    data.queries = ReadImages("t10k-images-idx3-ubyte.gz", max_queries);
  } else if (name == "latent") {
    data.base = LatentClusters(100'000, /*seed=*/1, /*stream=*/0);
    data.queries = LatentClusters(std::min<size_t>(2'000, max_queries),
                                  /*seed=*/1, /*stream=*/1);
  } else if (name == "glove") {
    data.metric = Metric::kCosine;
    VICINAL_ASSIGN_OR_RETURN(data.base,
                             ReadNpy("glove100-100k/base_f16.npy", kAll));
    VICINAL_ASSIGN_OR_RETURN(
        data.queries, ReadNpy("glove100-100k/query_f16.npy", max_queries));
  } else if (name == "use") {
    data.metric = Metric::kInnerProduct;
    VICINAL_ASSIGN_OR_RETURN(data.base,
                             ReadNpy("use512-40k/base_i8.npy", kAll));
    VICINAL_ASSIGN_OR_RETURN(
        data.queries, ReadNpy("use512-40k/query_id_f16.npy", max_queries));
  }
  if (data.base.num_rows == 0 || data.queries.num_rows == 0) {
    return absl::NotFoundError(absl::StrCat("no data set ", name));
  }
  data.Prepare();
  return data;
}

}  // namespace vicinal::bench
