// Error tables as floors: what was measured, and 3 %. With one global mean for
// a centre, which costs 3-10 % over the lists' centroids of the study's table.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/codec.h"
#include "src/base/half.h"
#include "src/distance/code_kernels.h"
#include "src/distance/distance.h"
#include "tests/quant/study_data.h"

namespace vicinal {
namespace {

constexpr size_t kQueries = 60;

// Mean of |estimate - exact| / exact of squared L2, in percent; the last
// kQueries rows are the queries.
double ErrorPercent(const std::vector<float>& values, size_t dim,
                    const CodecParams& params, size_t* record_bytes) {
  const size_t n = values.size() / dim - kQueries;
  VectorSetView rows = ViewOf(values, dim);
  rows.num_rows = n;
  const auto codec = TrainCodec(rows, Metric::kL2, params, 2, nullptr);
  EXPECT_TRUE(codec.ok()) << codec.status();
  const size_t stride = (*codec)->layout().record_bytes;
  *record_bytes = stride;
  std::vector<uint8_t> records(n * stride);
  EXPECT_TRUE((*codec)->Encode(rows, records, 2, nullptr).ok());
  PreparedQuery query;
  std::vector<float> estimate(n), exact(n);
  double sum = 0;
  for (size_t q = 0; q < kQueries; ++q) {
    const float* vector = &values[(n + q) * dim];
    EXPECT_TRUE((*codec)->Prepare(vector, ElementType::kFloat32, &query).ok());
    ActiveCodeKernels().scan((*codec)->layout(), query.code_query(),
                             records.data(), stride, n, estimate.data());
    OpsFor(Metric::kL2, ElementType::kFloat32)
        .scan(vector, values.data(), dim * sizeof(float), n, dim, exact.data());
    for (size_t i = 0; i < n; ++i) {
      sum += std::abs(estimate[i] - exact[i]) / std::max(exact[i], 1e-20f);
    }
  }
  return 100 * sum / static_cast<double>(n * kQueries);
}

TEST(CodecErrorTest, IsThatOfTheStudyOrLess) {
  const auto rows = StudyRows(12'000 + kQueries, 1024, 1.0, 1);
  struct Row {
    CodecParams params;
    double at_most;        // percent
    size_t at_most_bytes;  // of a record
  };
  for (const Row& row :
       {Row{{.avg_bits = 1}, 0.571, 136}, Row{{.avg_bits = 2}, 0.277, 264},
        Row{{.avg_bits = 4}, 0.098, 520},
        // With query values of 4 bits, 1.893.
        Row{{.kind = CodecKind::kRbq, .avg_bits = 1}, 1.87, 144},
        Row{{.kind = CodecKind::kRbq, .avg_bits = 4}, 0.2505, 544}}) {
    size_t bytes = 0;
    const double error = ErrorPercent(rows, 1024, row.params, &bytes);
    EXPECT_LE(error, row.at_most) << row.params.avg_bits << " bits";
    EXPECT_LE(bytes, row.at_most_bytes) << row.params.avg_bits << " bits";
    RecordProperty("error_" + std::to_string(row.params.avg_bits),
                   std::to_string(error));
  }
}

// The rounding of the query to eight bits is most of it.
TEST(CodecErrorTest, EightBitsAreNearlyExactOnWordVectors) {
  std::ifstream in(VICINAL_SHARED_DATA "/glove100-100k/base_f16.npy",
                   std::ios::binary);
  if (!in) GTEST_SKIP() << "the word vectors are not here";
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  constexpr size_t kDim = 100, kRows = 20'000 + kQueries;
  const char* data = bytes.data() + bytes.size() - 100'000 * kDim * 2;
  std::vector<float> rows(kRows * kDim);
  for (size_t i = 0; i < rows.size(); ++i) {
    uint16_t half;
    std::memcpy(&half, data + 2 * i, 2);
    rows[i] = HalfToFloat(half);
  }
  size_t record_bytes = 0;
  EXPECT_LE(ErrorPercent(rows, kDim, {.avg_bits = 8}, &record_bytes), 0.07);
  EXPECT_LE(record_bytes, 128u);
}

}  // namespace
}  // namespace vicinal
