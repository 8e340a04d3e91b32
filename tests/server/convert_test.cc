// Query vectors of every wire type for fields of every stored type.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/convert_query.h"
#include "src/base/coding.h"
#include "src/base/half.h"

namespace vicinal {
namespace {

constexpr ElementType kTypes[] = {ElementType::kFloat32, ElementType::kFloat16,
                                  ElementType::kInt8, ElementType::kUint8};

// As the wire and the store have it; the value must be one of the type.
std::string Encode(const std::vector<float>& values, ElementType type) {
  std::string out;
  for (const float value : values) {
    switch (type) {
      case ElementType::kFloat32:
        PutFixed(&out, value);
        break;
      case ElementType::kFloat16:
        PutFixed(&out, FloatToHalf(value));
        break;
      case ElementType::kInt8:
      case ElementType::kUint8:
        out.push_back(static_cast<char>(static_cast<int>(value)));
        break;
      case ElementType::kBfloat16:
        PutFixed(&out,
                 static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
        break;
    }
  }
  return out;
}

// What the engine gets, or the message of the first violation.
std::string Convert(const std::string& data, ElementType wire, size_t dim,
                    ElementType stored, Metric metric = Metric::kL2) {
  CollectionSchema schema;
  schema.vectors.push_back({.dim = dim, .metric = metric, .type = stored});
  v1::SearchRequest request;
  auto* retrieve = request.mutable_query()->mutable_retrieve();
  retrieve->set_k(1);
  retrieve->mutable_query()->set_data(data);
  retrieve->mutable_query()->set_type(static_cast<v1::ElementType>(wire));
  FieldViolations violations;
  const absl::StatusOr<Query> parsed =
      ParseQuery(request, schema, Limits(), nullptr, &violations);
  if (!parsed.ok()) return std::string(parsed.status().message());
  return std::get<RetrieveStage>(parsed->stage).query;
}

TEST(ConvertTest, EveryWireTypeReachesEveryStoredType) {
  // Odd, so that vector loops have a rest.
  std::vector<float> values;
  for (int i = 0; i < 77; ++i)
    values.push_back(static_cast<float>(i * 5 % 128));
  for (const ElementType wire : kTypes) {
    for (const ElementType stored : kTypes) {
      EXPECT_EQ(Convert(Encode(values, wire), wire, values.size(), stored),
                Encode(values, stored))
          << static_cast<int>(wire) << " to " << static_cast<int>(stored);
    }
  }
}

TEST(ConvertTest, ValuesThatAFieldCannotHoldAreNamed) {
  const float infinity = std::numeric_limits<float>::infinity();
  struct Case {
    ElementType stored;
    std::vector<float> good;
    std::vector<float> bad;
  };
  const Case cases[] = {
      {ElementType::kFloat32, {-1e38f, 1e-42f}, {NAN, infinity, -infinity}},
      {ElementType::kFloat16, {65504, -65504, 0.5f}, {NAN, infinity, 65520}},
      {ElementType::kInt8,
       {-128, 127, -0.0f},
       {NAN, infinity, -129, 128, 0.5f, -127.5f, 1e10f, -1e10f}},
      {ElementType::kUint8,
       {0, 255, -0.0f},
       {NAN, -infinity, -1, 256, 254.5f, 1e10f, -1e10f}}};
  for (const Case& c : cases) {
    for (const bool is_good : {true, false}) {
      for (const float value : is_good ? c.good : c.bad) {
        std::vector<float> values(19, 1);
        values[17] = value;
        const std::string got = Convert(Encode(values, ElementType::kFloat32),
                                        ElementType::kFloat32, 19, c.stored);
        if (is_good) {
          EXPECT_EQ(got, Encode(values, c.stored)) << value;
        } else {
          EXPECT_THAT(got,
                      ::testing::StartsWith("query.retrieve.query.data[17]"))
              << value;
        }
      }
    }
  }
  const std::string half_nan = Encode({1, 1, NAN}, ElementType::kFloat16);
  EXPECT_THAT(
      Convert(half_nan, ElementType::kFloat16, 3, ElementType::kFloat16),
      ::testing::StartsWith("query.retrieve.query.data[2]: is nan"));
}

TEST(ConvertTest, AZeroQueryHasNoCosineInAnyType) {
  for (const ElementType type : kTypes) {
    std::vector<float> values(9, 0);
    EXPECT_THAT(Convert(Encode(values, type), type, 9, type, Metric::kCosine),
                ::testing::HasSubstr("is a zero vector"));
    values[8] = 1;
    EXPECT_EQ(Convert(Encode(values, type), type, 9, type, Metric::kCosine),
              Encode(values, type));
  }
}

}  // namespace
}  // namespace vicinal
