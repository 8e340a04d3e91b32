// Of all encoders of multi-vectors: what is refused, and their bits.
#include "quant/multi_encoder.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "tests/quant/multi_encoder_testing.h"

namespace vicinal {
namespace {

TEST(MultiEncoderTest, ParamsOutOfRangeAreRefused) {
  const Tokens sample{4, {1, 2, 3, 4}};
  const auto refuses = [&](const MultiEncoderParams& params) {
    return absl::IsInvalidArgument(
        TrainMultiEncoder(params, {sample.view(), EndsOf(sample)}, 1, nullptr)
            .status());
  };
  const auto with = [](auto change) {
    MultiEncoderParams params = MuveraOf(2, 2, 2);
    change(params.muvera);
    return params;
  };
  EXPECT_FALSE(refuses(MuveraOf(2, 2, 2)));
  EXPECT_TRUE(refuses(with([](auto& m) { m.fill = Fill::kAuto; })));
  EXPECT_TRUE(refuses(with([](auto& m) { m.centering = Centering::kAuto; })));
  EXPECT_TRUE(refuses(with([](auto& m) { m.repetitions = 257; })));
  EXPECT_TRUE(refuses(with([](auto& m) { m.k_sim = 11; })));
  // It could be trained, but not read again.
  EXPECT_TRUE(refuses(with([](auto& m) { m.d_final = 4097; })));
  EXPECT_TRUE(refuses({.kind = Kind::kAuto}));
  EXPECT_TRUE(refuses({.kind = Kind::kNone}));
  EXPECT_TRUE(refuses(OlsOf(63, 100)));
  EXPECT_TRUE(refuses(OlsOf(4097, 5000)));
  EXPECT_TRUE(refuses(OlsOf(64, 65'537)));
  EXPECT_TRUE(refuses({.kind = Kind::kOls, .ols = {.ridge = 0}}));
  EXPECT_TRUE(refuses({.kind = Kind::kOls, .ols = {.ridge = std::nanf("")}}));
  EXPECT_TRUE(absl::IsInvalidArgument(
      TrainMultiEncoder(OlsOf(64, 64), {{nullptr, 0, 4, 4}, {}}, 1, nullptr)
          .status()));
}

std::vector<std::string> SmallEncoders() {
  auto params = MuveraOf(2, 2, 3);
  params.muvera.centering = Centering::kHash;
  params.muvera.d_final = 20;
  const Tokens sample = IntegerTokens(64, 5, 1);
  return {Train(params, sample)->Serialize(),
          Train(MuveraOf(1, 1, 9), sample)->Serialize(),
          Train(OlsOf(64, 64), IntegerTokens(64, 2, 1))->Serialize()};
}

TEST(MultiEncoderTest, NoCutIsTakenForAnEncoder) {
  for (const std::string& bytes : SmallEncoders()) {
    ASSERT_TRUE(MultiEncoder::Parse(bytes).ok());
    for (size_t size = 0; size < bytes.size(); ++size) {
      const std::string cut = bytes.substr(0, size);
      EXPECT_TRUE(absl::IsDataLoss(MultiEncoder::Parse(cut).status())) << size;
      if (size < 4) continue;
      EXPECT_TRUE(absl::IsDataLoss(MultiEncoder::Parse(Resealed(cut)).status()))
          << size;
    }
    EXPECT_TRUE(absl::IsDataLoss(
        MultiEncoder::Parse(Resealed(bytes + "more")).status()));
  }
}

TEST(MultiEncoderTest, NoFlippedByteGoesUnnoticed) {
  for (const std::string& bytes : SmallEncoders()) {
    for (size_t at = 0; at < bytes.size(); ++at) {
      for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
        std::string damaged = bytes;
        damaged[at] = static_cast<char>(damaged[at] ^ flip);
        ASSERT_TRUE(absl::IsDataLoss(MultiEncoder::Parse(damaged).status()))
            << at << " " << flip;
      }
    }
  }
}

TEST(MultiEncoderTest, ANewerVersionIsRefusedAsSuch) {
  for (std::string bytes : SmallEncoders()) {
    bytes[8] = 2;
    const absl::Status status = MultiEncoder::Parse(Resealed(bytes)).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_EQ(status.message(),
              "an encoder has version 2; this program reads up to 1: use a "
              "newer one");
    EXPECT_TRUE(absl::IsDataLoss(MultiEncoder::Parse(bytes).status()));
    bytes[8] = 0;
    EXPECT_TRUE(
        absl::IsDataLoss(MultiEncoder::Parse(Resealed(bytes)).status()));
  }
}

// With a checksum that fits, fields that were made up are refused or harmless.
TEST(MultiEncoderTest, MadeUpFieldsDoNoHarm) {
  Random random = Seeded(30);
  for (const std::string& bytes : SmallEncoders()) {
    int refused = 0;
    for (int round = 0; round < 3'000; ++round) {
      std::string made_up = bytes;
      for (size_t i = 0; i <= random.Uniform(3); ++i) {
        // The fields, more often than not.
        const size_t end = round % 3 == 0 ? bytes.size() - 4 : 48;
        const size_t at = random.Uniform(end);
        made_up[at] = static_cast<char>(
            round % 2 == 0 ? made_up[at] ^ (1 << random.Uniform(8))
                           : static_cast<int>(random.Uniform(256)));
      }
      auto encoder = MultiEncoder::Parse(Resealed(made_up));
      if (!encoder.ok()) {
        ASSERT_TRUE(absl::IsDataLoss(encoder.status()) ||
                    absl::IsFailedPrecondition(encoder.status()))
            << encoder.status();
        ++refused;
        continue;
      }
      const Tokens tokens = Units(3, (*encoder)->token_dim(), &random);
      Query(*encoder, tokens);
      if ((*encoder)->CanEncodeDocuments()) Document(*encoder, tokens);
    }
    EXPECT_GT(refused, 100);
  }
  for (std::string bytes : SmallEncoders()) {
    const uint32_t nan = 0x7FC00000;
    std::memcpy(bytes.data() + bytes.size() - 8, &nan, 4);
    EXPECT_TRUE(
        absl::IsDataLoss(MultiEncoder::Parse(Resealed(bytes)).status()));
  }
}

// Pinned: encoders and encodings in files are of these bits for ever. Run with
// each instruction set, too.
TEST(MultiEncoderGoldenTest, BitsAreTheSameEverywhere) {
  const Tokens sample = IntegerTokens(64, 19, 2);
  const Tokens document = IntegerTokens(13, 19, 3);
  struct Golden {
    MultiEncoderParams params;
    uint32_t bytes, query, document;
  };
  MultiEncoderParams sketched = MuveraOf(40, 4, 8, 11);
  sketched.muvera.d_final = 4096;
  sketched.muvera.fill = Fill::kNone;
  sketched.muvera.centering = Centering::kHashAndDocuments;
  MultiEncoderParams counted = MuveraOf(3, 3, 4, 12);
  counted.muvera.projection = Projection::kCountSketch;
  counted.muvera.centering = Centering::kHash;
  const Golden goldens[] = {
      {MuveraOf(4, 3, 5, 10), 1893584841, 3310552712, 348357379},
      {sketched, 1792716057, 1879326132, 3794294248},
      {counted, 4207626477, 1207387656, 963482909},
  };
  for (const Golden& golden : goldens) {
    const Encoder encoder = Train(golden.params, sample);
    EXPECT_EQ(ChecksumOf(encoder->Serialize()), golden.bytes)
        << encoder->Describe();
    EXPECT_EQ(ChecksumOf(Query(encoder, document)), golden.query)
        << encoder->Describe();
    EXPECT_EQ(ChecksumOf(Document(encoder, document)), golden.document)
        << encoder->Describe();
  }
}

// What LAPACK makes of OLS differs by machine; what it was made, once stored,
// gives the same queries on each.
TEST(MultiEncoderGoldenTest, StoredOlsEncodesQueriesTheSameEverywhere) {
  constexpr size_t kDim = 19;
  std::string bytes =
      Train(OlsOf(64, 64), IntegerTokens(64, kDim, 2))->Serialize();
  const Tokens values = IntegerTokens((bytes.size() - 36) / 4, 1, 4);
  for (size_t i = 0; i < values.size(); ++i) {
    // The mean of unit vectors is short.
    const float value = values.rows[i] / (i < kDim ? 64 : 4);
    std::memcpy(bytes.data() + 32 + i * 4, &value, 4);
  }
  auto encoder = MultiEncoder::Parse(Resealed(bytes));
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  EXPECT_EQ(ChecksumOf(Query(*encoder, IntegerTokens(13, kDim, 3))),
            3845944780);
}

}  // namespace
}  // namespace vicinal
