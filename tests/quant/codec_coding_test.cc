// What a codec tells a device that is to encode rows: records made by that
// alone are the codec's.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/codec.h"
#include "tests/distance/gpu/reference_encoder.h"
#include "tests/quant/study_data.h"

namespace vicinal {
namespace {

constexpr size_t kNumCodedRows = 1'100;

void ExpectTheSameRecords(const Codec& codec, VectorSetView rows,
                          const RowCentres* centres) {
  std::vector<uint8_t> records(rows.num_rows * codec.layout().record_bytes);
  ASSERT_TRUE(codec.Encode(rows, records, 2, nullptr, centres).ok());
  const Codec::Coding coding = codec.CodingFor(centres);
  EXPECT_EQ(records,
            backend_tests::EncodeRows(rows, codec.metric(), coding.terms));
}

TEST(CodecCodingTest, SaysAllThatRecordsAreMadeBy) {
  for (const size_t dim : {24, 100, 320}) {
    const auto values = StudyRows(kNumCodedRows, dim, 0.9, 7);
    const VectorSetView rows = ViewOf(values, dim);
    const auto others = StudyRows(4, dim, 0.9, 8);
    const MatrixView four = {others.data(), 4, dim, dim};
    const std::vector<uint32_t> offsets = {0, 0, 300, 301, kNumCodedRows};
    const RowCentres around = {four, offsets};
    // Of these rows a few: one after the other takes its time.
    VectorSetView few = rows;
    few.num_rows = 130;
    const std::vector<uint32_t> few_offsets = {0, 0, 40, 41, 130};
    const RowCentres around_few = {four, few_offsets};
    for (const Metric metric :
         {Metric::kL2, Metric::kInnerProduct, Metric::kCosine}) {
      for (const CodecParams& params : std::vector<CodecParams>{
               {.kind = CodecKind::kSaq, .avg_bits = 1},
               {.kind = CodecKind::kSaq, .avg_bits = 3, .adjust_rounds = 2},
               {.kind = CodecKind::kRbq, .avg_bits = 1},
               {.kind = CodecKind::kRbq, .avg_bits = 4, .adjust_rounds = 1},
               {.kind = CodecKind::kSq8, .avg_bits = 8}}) {
        for (const RowCentres* centres :
             {static_cast<const RowCentres*>(nullptr), &around}) {
          SCOPED_TRACE(dim);
          SCOPED_TRACE(params.avg_bits);
          SCOPED_TRACE(centres == nullptr);
          const auto codec =
              TrainCodec(rows, metric, params, 2, nullptr, centres);
          ASSERT_TRUE(codec.ok()) << codec.status();
          ExpectTheSameRecords(**codec, few,
                               centres == nullptr ? nullptr : &around_few);
        }
      }
    }
  }
}

}  // namespace
}  // namespace vicinal
