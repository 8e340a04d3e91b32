// Models as bytes: they come back, and nothing else is taken for one.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "quant/codec.h"
#include "src/base/crc32c.h"
#include "src/base/random.h"
#include "tests/quant/study_data.h"

namespace vicinal {
namespace {

std::string Model(float bits = 4) {
  const auto rows = StudyRows(1'100, 48, 1, 3);
  const auto codec =
      TrainCodec(ViewOf(rows, 48), Metric::kL2, {.avg_bits = bits}, 1, nullptr);
  EXPECT_TRUE(codec.ok()) << codec.status();
  return (*codec)->Serialize();
}

// With the checksum made to fit, so that the checks behind it are reached.
std::string Resealed(std::string model) {
  const uint32_t crc =
      Crc32c(absl::string_view(model).substr(0, model.size() - 4));
  std::memcpy(model.data() + model.size() - 4, &crc, 4);
  return model;
}

TEST(CodecFileTest, ComesBack) {
  const auto rows = StudyRows(1'100, 48, 1, 3);
  const VectorSetView view = ViewOf(rows, 48);
  for (const float bits : {1.0f, 2.5f, 8.0f}) {
    const auto codec =
        TrainCodec(view, Metric::kCosine, {.avg_bits = bits}, 1, nullptr);
    ASSERT_TRUE(codec.ok());
    const std::string bytes = (*codec)->Serialize();
    const auto back = Codec::Parse(bytes);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ((*back)->Serialize(), bytes);
    EXPECT_EQ((*back)->metric(), Metric::kCosine);
    EXPECT_EQ((*back)->plan(), (*codec)->plan());
    const size_t size = 1'100 * (*codec)->layout().record_bytes;
    std::vector<uint8_t> a(size), b(size);
    ASSERT_TRUE((*codec)->Encode(view, a, 1, nullptr).ok());
    ASSERT_TRUE((*back)->Encode(view, b, 1, nullptr).ok());
    EXPECT_EQ(a, b);
  }
}

TEST(CodecFileTest, AModelAroundCentresComesBackInVersionTwo) {
  const auto rows = StudyRows(1'100, 48, 1, 3);
  const VectorSetView view = ViewOf(rows, 48);
  const auto centre_rows = StudyRows(2, 48, 1, 4);
  const uint32_t offsets[] = {0, 400, 1'100};
  const RowCentres centres{{centre_rows.data(), 2, 48, 48}, offsets};
  for (const Metric metric : {Metric::kL2, Metric::kInnerProduct}) {
    const auto codec =
        TrainCodec(view, metric, {.avg_bits = 4}, 1, nullptr, &centres);
    ASSERT_TRUE(codec.ok()) << codec.status();
    const std::string bytes = (*codec)->Serialize();
    EXPECT_EQ(bytes[8], 2);
    const auto back = Codec::Parse(bytes);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ((*back)->Serialize(), bytes);
    EXPECT_EQ((*back)->layout().record_bytes, (*codec)->layout().record_bytes);
    const size_t size = 1'100 * (*codec)->layout().record_bytes;
    std::vector<uint8_t> a(size), b(size);
    ASSERT_TRUE((*codec)->Encode(view, a, 1, nullptr, &centres).ok());
    ASSERT_TRUE((*back)->Encode(view, b, 1, nullptr, &centres).ok());
    EXPECT_EQ(a, b);
    for (size_t cut = 0; cut + 4 < bytes.size(); cut += 13) {
      EXPECT_TRUE(absl::IsDataLoss(
          Codec::Parse(Resealed(bytes.substr(0, cut) + "abcd")).status()))
          << cut;
    }
    std::string unknown = bytes;
    unknown[14] = 3;  // a flag that is not known
    EXPECT_TRUE(absl::IsDataLoss(Codec::Parse(Resealed(unknown)).status()));
    std::string older = bytes;
    older[8] = 1;  // which has no flags
    EXPECT_TRUE(absl::IsDataLoss(Codec::Parse(Resealed(older)).status()));
  }
}

// Without a basis a model is its mean and a seed.
TEST(CodecFileTest, ARotationComesBackInVersionThree) {
  constexpr size_t kDim = 100;
  const auto rows = StudyRows(200, kDim, 1, 3);
  const VectorSetView view = ViewOf(rows, kDim);
  for (const CodecParams& params :
       {CodecParams{.kind = CodecKind::kRbq, .avg_bits = 2},
        CodecParams{.kind = CodecKind::kSq8}}) {
    const auto codec = TrainCodec(view, Metric::kL2, params, 1, nullptr);
    ASSERT_TRUE(codec.ok()) << codec.status();
    const std::string bytes = (*codec)->Serialize();
    EXPECT_EQ(bytes[8], 3);
    EXPECT_EQ(bytes.size(), 32 + 20 + kDim * 4 + 8 + 4);
    const auto back = Codec::Parse(bytes);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ((*back)->Serialize(), bytes);
    std::vector<uint8_t> a(200 * (*codec)->layout().record_bytes), b = a;
    ASSERT_TRUE((*codec)->Encode(view, a, 1, nullptr).ok());
    ASSERT_TRUE((*back)->Encode(view, b, 1, nullptr).ok());
    EXPECT_EQ(a, b);
    const auto damaged = [&](size_t at, uint8_t value) {
      std::string made_up = bytes;
      made_up[at] = static_cast<char>(value);
      return absl::IsDataLoss(Codec::Parse(Resealed(made_up)).status());
    };
    EXPECT_TRUE(damaged(8, 2));    // a version without rotations
    EXPECT_TRUE(damaged(14, 6));   // and a basis of queries
    EXPECT_TRUE(damaged(20, 2));   // two segments
    EXPECT_TRUE(damaged(32, 96));  // fewer dimensions than rows have
  }
}

TEST(CodecFileTest, NoCutIsTakenForAModel) {
  const std::string model = Model();
  for (size_t size = 0; size < model.size(); size += size < 200 ? 1 : 97) {
    const std::string cut = model.substr(0, size);
    EXPECT_TRUE(absl::IsDataLoss(Codec::Parse(cut).status())) << size;
    if (size < 40) continue;
    EXPECT_TRUE(absl::IsDataLoss(Codec::Parse(Resealed(cut)).status())) << size;
  }
  EXPECT_TRUE(
      absl::IsDataLoss(Codec::Parse(Resealed(model + "more")).status()));
}

TEST(CodecFileTest, NoFlippedBitGoesUnnoticed) {
  const std::string model = Model();
  Random random(4);
  for (int round = 0; round < 400; ++round) {
    std::string damaged = model;
    const size_t at = round < 200 ? round : random.Uniform(damaged.size());
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << random.Uniform(8)));
    const absl::Status status = Codec::Parse(damaged).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << at << " " << status;
  }
}

// A model whose checksum fits but whose fields were made up must be refused or
// be harmless: a search over it reads nothing it should not.
TEST(CodecFileTest, MadeUpFieldsDoNoHarm) {
  const std::string model = Model();
  Random random(5);
  const auto rows = StudyRows(64, 48, 1, 9);
  for (int round = 0; round < 3'000; ++round) {
    std::string made_up = model;
    for (size_t i = 0; i <= random.Uniform(3); ++i) {
      made_up[8 + random.Uniform(110)] = static_cast<char>(random.Next());
    }
    const auto codec = Codec::Parse(Resealed(made_up));
    if (!codec.ok() || (*codec)->dim() != 48) continue;
    const VectorSetView view = ViewOf(rows, 48);
    std::vector<uint8_t> records(64 * (*codec)->layout().record_bytes);
    EXPECT_TRUE((*codec)->Encode(view, records, 1, nullptr).ok());
    PreparedQuery query;
    EXPECT_TRUE(
        (*codec)->Prepare(rows.data(), ElementType::kFloat32, &query).ok());
    std::vector<float> out(64);
    ActiveCodeKernels().scan((*codec)->layout(), query.code_query(),
                             records.data(), (*codec)->layout().record_bytes,
                             64, out.data());
  }
}

TEST(CodecFileTest, ANewerVersionIsRefusedAsSuch) {
  std::string model = Model();
  model[8] = 4;
  const absl::Status status = Codec::Parse(Resealed(model)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(status.message(),
            "a codec's model has version 4; this program reads up to 3: use a "
            "newer one");
  // Where the checksum says that nobody wrote that.
  EXPECT_TRUE(absl::IsDataLoss(Codec::Parse(model).status()));
}

TEST(CodecFileTest, ValuesThatAreNotFiniteAreRefused) {
  std::string model = Model();
  const uint32_t nan = 0x7FC00000;
  std::memcpy(model.data() + model.size() - 8, &nan, 4);
  EXPECT_TRUE(absl::IsDataLoss(Codec::Parse(Resealed(model)).status()));
}

}  // namespace
}  // namespace vicinal
