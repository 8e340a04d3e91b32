// Codec models as they were first written, in codecs/: NAME.model, and NAME.hex
// with the records of some rows and the estimates of some queries. Today's
// program reads the models, gives the rows the same records and the queries the
// same estimates.
//
// They never change. With VICINAL_WRITE_GOLDEN=FOLDER in the environment those
// that FOLDER lacks are made there.
#include "quant/codec.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/distance/code_kernels.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

namespace fs = std::filesystem;

constexpr size_t kDim = 48;
constexpr size_t kRows = 40;
constexpr size_t kQueries = 4;

struct Setting {
  const char* name;
  Metric metric;
  CodecParams params;
  bool has_centres = false;
  bool has_queries = false;
};

const Setting kSettings[] = {
    {"saq2_l2", Metric::kL2, {.avg_bits = 2}},
    {"saq4_cosine", Metric::kCosine, {.avg_bits = 4}},
    {"saq8_ip", Metric::kInnerProduct, {.avg_bits = 8}},
    {"rbq4_l2", Metric::kL2, {.kind = CodecKind::kRbq, .avg_bits = 4}},
    {"sq8_ip", Metric::kInnerProduct, {.kind = CodecKind::kSq8}},
    {"centres_l2", Metric::kL2, {.avg_bits = 2}, true},
    {"sphering_ip", Metric::kInnerProduct, {.avg_bits = 2}, false, true},
};

// Sixteenths, so that they are the same on any machine; larger ones in the
// first dimensions, or with `turned` in the last.
std::vector<float> Values(size_t num_rows, uint64_t seed, bool turned = false) {
  Random random(seed);
  std::vector<float> values(num_rows * kDim);
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t place = turned ? kDim - 1 - i % kDim : i % kDim;
    const uint64_t range = 1 + 256 / (1 + place);
    values[i] =
        static_cast<float>(static_cast<int64_t>(random.Uniform(2 * range + 1)) -
                           static_cast<int64_t>(range)) /
        16;
  }
  return values;
}

VectorSetView View(const std::vector<float>& values) {
  return {reinterpret_cast<const std::byte*>(values.data()),
          values.size() / kDim, kDim, kDim * sizeof(float)};
}

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

class CodecGoldenTest : public ::testing::TestWithParam<Setting> {
 protected:
  // Two lists of kRows rows, or of as many as there are.
  RowCentres CentresOf(size_t num_rows) {
    offsets_[1] = static_cast<uint32_t>(num_rows / 3);
    offsets_[2] = static_cast<uint32_t>(num_rows);
    return {{centre_values_.data(), 2, kDim, kDim}, offsets_};
  }
  std::unique_ptr<const Codec> Train() {
    const std::vector<float> rows = Values(2'000, 1);
    const std::vector<float> queries = Values(1'200, 2, true);
    const RowCentres centres = CentresOf(2'000);
    auto codec =
        TrainCodec(View(rows), GetParam().metric, GetParam().params, 1, nullptr,
                   GetParam().has_centres ? &centres : nullptr,
                   GetParam().has_queries ? View(queries) : VectorSetView{});
    EXPECT_TRUE(codec.ok()) << codec.status();
    return *std::move(codec);
  }
  std::string Records(const Codec& codec) {
    const std::vector<float> rows = Values(kRows, 3);
    const RowCentres centres = CentresOf(kRows);
    std::vector<uint8_t> records(kRows * codec.layout().record_bytes);
    EXPECT_TRUE(codec
                    .Encode(View(rows), records, 1, nullptr,
                            GetParam().has_centres ? &centres : nullptr)
                    .ok());
    return {records.begin(), records.end()};
  }
  // By query and row.
  std::vector<float> Estimates(const Codec& codec, absl::string_view records) {
    const std::vector<float> queries =
        Values(kQueries, 4, GetParam().has_queries);
    const DistanceOps& ops = OpsFor(GetParam().metric, ElementType::kFloat32);
    const size_t stride = codec.layout().record_bytes;
    const auto* bytes = reinterpret_cast<const uint8_t*>(records.data());
    const RowCentres centres = CentresOf(kRows);
    std::vector<float> out(kQueries * kRows);
    for (size_t q = 0; q < kQueries; ++q) {
      const float* query = &queries[q * kDim];
      PreparedQuery prepared;
      EXPECT_TRUE(codec.Prepare(query, ElementType::kFloat32, &prepared).ok());
      if (!GetParam().has_centres) {
        ActiveCodeKernels().scan(codec.layout(), prepared.code_query(), bytes,
                                 stride, kRows, &out[q * kRows]);
        continue;
      }
      for (size_t c = 0; c < 2; ++c) {
        const float* centre = centres.centres.row(c).data();
        ActiveCodeKernels().scan(
            codec.layout(),
            codec.QueryAround(prepared, ops.one(query, centre, kDim),
                              codec.CentreNorm2(centre)),
            bytes + offsets_[c] * stride, stride, offsets_[c + 1] - offsets_[c],
            &out[q * kRows + offsets_[c]]);
      }
    }
    return out;
  }

 private:
  const std::vector<float> centre_values_ = Values(2, 5);
  uint32_t offsets_[3] = {};
};

TEST_P(CodecGoldenTest, ReadsAndEncodesAsEver) {
  const std::string name = GetParam().name;
  if (const char* folder = std::getenv("VICINAL_WRITE_GOLDEN")) {
    const fs::path model = fs::path(folder) / (name + ".model");
    if (!fs::exists(model)) {
      const auto codec = Train();
      std::ofstream(model, std::ios::binary) << codec->Serialize();
      const std::string records = Records(*codec);
      const std::vector<float> estimates = Estimates(*codec, records);
      std::ofstream(fs::path(folder) / (name + ".hex"))
          << absl::BytesToHexString(records) << "\n"
          << absl::BytesToHexString(
                 {reinterpret_cast<const char*>(estimates.data()),
                  estimates.size() * sizeof(float)})
          << "\n";
    }
  }
  const fs::path folder = VICINAL_GOLDEN_CODECS;
  const std::string model = ReadFile(folder / (name + ".model"));
  const auto codec = Codec::Parse(model);
  ASSERT_TRUE(codec.ok()) << codec.status();
  EXPECT_EQ((*codec)->Serialize(), model);
  EXPECT_EQ((*codec)->has_query_basis(), GetParam().has_queries);

  std::ifstream in(folder / (name + ".hex"));
  std::string records, estimates;
  ASSERT_TRUE(in >> records >> estimates);
  records = absl::HexStringToBytes(records);
  estimates = absl::HexStringToBytes(estimates);
  EXPECT_EQ(absl::BytesToHexString(Records(**codec)),
            absl::BytesToHexString(records));
  ASSERT_EQ(records.size(), kRows * (*codec)->layout().record_bytes);
  const std::vector<float> now = Estimates(**codec, records);
  ASSERT_EQ(estimates.size(), now.size() * sizeof(float));
  EXPECT_EQ(std::memcmp(estimates.data(), now.data(), estimates.size()), 0);

  // And what they estimate is the distance.
  if (GetParam().has_centres) return;
  const std::vector<float> rows = Values(kRows, 3);
  const std::vector<float> queries =
      Values(kQueries, 4, GetParam().has_queries);
  const DistanceOps& ops = OpsFor(GetParam().metric, ElementType::kFloat32);
  double error = 0, spread = 0;
  for (size_t i = 0; i < now.size(); ++i) {
    const double exact =
        ops.one(&queries[i / kRows * kDim], &rows[i % kRows * kDim], kDim);
    error += std::abs(now[i] - exact);
    spread += std::abs(exact - ops.one(&queries[i / kRows * kDim],
                                       &rows[(i + 1) % kRows * kDim], kDim));
  }
  EXPECT_LT(error, 0.3 * spread);
}

INSTANTIATE_TEST_SUITE_P(Codecs, CodecGoldenTest,
                         ::testing::ValuesIn(kSettings),
                         [](const auto& setting) {
                           return std::string(setting.param.name);
                         });

}  // namespace
}  // namespace vicinal
