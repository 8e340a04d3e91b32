// Code records that a device has a part in: they are the codec's.
#include "index/encode_device.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "quant/codec.h"
#include "src/base/cancel.h"
#include "src/distance/gpu/backend.h"
#include "tests/index/failing_device.h"
#include "tests/index/index_test_util.h"

namespace vicinal {
namespace {

constexpr size_t kNumRows = 1'100;
constexpr size_t kDim = 48;

class EncodeDeviceTest : public testing::Test {
 protected:
  static std::unique_ptr<const Codec> Train(const OwnedVectors& vectors,
                                            Metric metric,
                                            const CodecParams& params,
                                            const RowCentres* centres) {
    auto codec =
        TrainCodec(vectors.view(), metric, params, 2, nullptr, centres);
    EXPECT_TRUE(codec.ok()) << codec.status();
    return *std::move(codec);
  }
  static std::vector<uint8_t> ByCpu(const Codec& codec, VectorSetView rows,
                                    const RowCentres* centres = nullptr) {
    std::vector<uint8_t> records(rows.num_rows * codec.layout().record_bytes);
    EXPECT_TRUE(codec.Encode(rows, records, 2, nullptr, centres).ok());
    return records;
  }
  // Full of what was there before.
  static std::vector<uint8_t> Room(const Codec& codec, VectorSetView rows) {
    return std::vector<uint8_t>(rows.num_rows * codec.layout().record_bytes,
                                0xCD);
  }

  const OwnedVectors vectors_ = Clustered(kNumRows, kDim, 10, /*seed=*/1);
  // Parts of 500, 500 and 100 rows.
  const size_t part_bytes_ = 500 * vectors_.row_bytes();
};

TEST_F(EncodeDeviceTest, MakesTheRecordsOfTheCodec) {
  std::vector<float> four(4 * kDim);
  for (size_t i = 0; i < four.size(); ++i) four[i] = 0.01f * (i % 7);
  // The third centre's rows are in two parts, the fourth's in one.
  const std::vector<uint32_t> offsets = {0, 0, 300, 1'050, kNumRows};
  const RowCentres around = {{four.data(), 4, kDim, kDim}, offsets};
  for (const Metric metric :
       {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
    for (const CodecParams& params :
         std::vector<CodecParams>{{.kind = CodecKind::kSaq, .avg_bits = 2},
                                  {.kind = CodecKind::kRbq, .avg_bits = 1}}) {
      for (const RowCentres* centres :
           {static_cast<const RowCentres*>(nullptr), &around}) {
        const auto codec = Train(vectors_, metric, params, centres);
        FailingDevice device;
        std::vector<uint8_t> records = Room(*codec, vectors_.view());
        ASSERT_TRUE(EncodeRowsByDevice(*codec, vectors_.view(), records, 2,
                                       nullptr, centres, &device, part_bytes_)
                        .ok());
        EXPECT_EQ(records, ByCpu(*codec, vectors_.view(), centres));
        EXPECT_EQ(device.num_encodings(), 3);
        EXPECT_EQ(device.largest_segment(), 500u);
        EXPECT_EQ(device.most_segments(), 1);
        EXPECT_EQ(device.num_segments(), 0);
      }
    }
  }
}

TEST_F(EncodeDeviceTest, SaysWhereTheDeviceFails) {
  const auto codec = Train(vectors_, Metric::kL2, {}, nullptr);
  for (const BackendStatus status :
       {BackendStatus::kUnsupported, BackendStatus::kNoMemory,
        BackendStatus::kDeviceLost}) {
    // Loads and encodings of three parts.
    for (int call = 0; call < 6; ++call) {
      FailingDevice device(call, status);
      std::vector<uint8_t> records = Room(*codec, vectors_.view());
      EXPECT_EQ(EncodeRowsByDevice(*codec, vectors_.view(), records, 2, nullptr,
                                   nullptr, &device, part_bytes_)
                    .code(),
                absl::StatusCode::kUnavailable);
      EXPECT_EQ(device.num_calls(), call + 1);
      EXPECT_EQ(device.num_segments(), 0);
    }
  }
}

TEST_F(EncodeDeviceTest, LeavesVectorsThatAreTooLongToTheCpu) {
  const auto codec = Train(vectors_, Metric::kL2, {}, nullptr);
  for (const float value :
       {1e15f, -3e38f, std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    OwnedVectors some = vectors_;
    std::memcpy(&some.bytes[700 * some.row_bytes() + 5 * sizeof(float)], &value,
                sizeof(value));
    FailingDevice device;
    std::vector<uint8_t> records = Room(*codec, some.view());
    EXPECT_EQ(EncodeRowsByDevice(*codec, some.view(), records, 2, nullptr,
                                 nullptr, &device, part_bytes_)
                  .code(),
              absl::StatusCode::kUnavailable);
    EXPECT_EQ(device.num_encodings(), 1);
  }
}

TEST_F(EncodeDeviceTest, StopsWhenCancelled) {
  const auto codec = Train(vectors_, Metric::kL2, {}, nullptr);
  for (int at = -1; at < 6; ++at) {
    FailingDevice device;
    CancelToken cancel;
    if (at < 0) cancel.Cancel();
    device.OnCall([&](int call) {
      if (call == at) cancel.Cancel();
    });
    std::vector<uint8_t> records = Room(*codec, vectors_.view());
    EXPECT_EQ(EncodeRowsByDevice(*codec, vectors_.view(), records, 2, &cancel,
                                 nullptr, &device, part_bytes_)
                  .code(),
              absl::StatusCode::kCancelled);
    // The part that is under way ends.
    EXPECT_EQ(device.num_calls(), (at + 2) / 2 * 2) << at;
  }
}

// So many rows that a device is worth it beside one core.
class EncodeManyRowsTest : public EncodeDeviceTest {
 protected:
  static constexpr size_t kMany = 10'000;
  const OwnedVectors many_ = Clustered(kMany, 256, 10, /*seed=*/1);
  const std::unique_ptr<const Codec> codec_ =
      Train(many_, Metric::kCosine, {.avg_bits = 8}, nullptr);
  const std::vector<uint8_t> by_cpu_ = ByCpu(*codec_, many_.view());
};

TEST_F(EncodeManyRowsTest, AsksADeviceThatIsFaster) {
  FailingDevice device;
  std::vector<uint8_t> records = Room(*codec_, many_.view());
  ASSERT_TRUE(
      EncodeRows(*codec_, many_.view(), records, 1, nullptr, nullptr, &device)
          .ok());
  EXPECT_EQ(device.num_encodings(), 1);
  EXPECT_EQ(records, by_cpu_);
}

TEST_F(EncodeManyRowsTest, TheCpuGoesOnWhereADeviceFails) {
  for (int call = 0; call < 2; ++call) {
    FailingDevice device(call, BackendStatus::kDeviceLost);
    std::vector<uint8_t> records = Room(*codec_, many_.view());
    ASSERT_TRUE(
        EncodeRows(*codec_, many_.view(), records, 1, nullptr, nullptr, &device)
            .ok());
    EXPECT_EQ(device.num_calls(), call + 1);
    EXPECT_EQ(records, by_cpu_);
  }
}

TEST_F(EncodeDeviceTest, AFewRowsAreNotWorthIt) {
  const auto codec = Train(vectors_, Metric::kL2, {}, nullptr);
  FailingDevice device;
  std::vector<uint8_t> records = Room(*codec, vectors_.view());
  ASSERT_TRUE(
      EncodeRows(*codec, vectors_.view(), records, 1, nullptr, nullptr, &device)
          .ok());
  EXPECT_EQ(device.num_calls(), 0);
  EXPECT_EQ(records, ByCpu(*codec, vectors_.view()));
  ASSERT_TRUE(
      EncodeRows(*codec, vectors_.view(), records, 1, nullptr, nullptr, nullptr)
          .ok());
  EXPECT_EQ(records, ByCpu(*codec, vectors_.view()));
}

}  // namespace
}  // namespace vicinal
