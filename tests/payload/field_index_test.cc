// Indexes and columns of payload fields against filters that read each payload.
#include "src/payload/field_index.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/coding.h"
#include "src/base/random.h"
#include "src/base/section_file.h"
#include "src/payload/bound_filter.h"
#include "src/payload/filter_text.h"
#include "src/payload/key_column.h"
#include "src/payload/payload_key.h"

namespace vicinal {
namespace {

class Folder {
 public:
  Folder() {
    std::string name = ::testing::TempDir() + "/fidx.XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string File() const { return path_ + "/1.fidx"; }

 private:
  std::string path_;
};

const std::vector<PayloadField> kFields = {
    {"word", PayloadType::kKeyword},  {"whole", PayloadType::kInt64},
    {"price", PayloadType::kFloat64}, {"sold", PayloadType::kBool},
    {"at", PayloadType::kDatetime},   {"ref", PayloadType::kUuid},
    {"place", PayloadType::kGeo},     {"deep.word", PayloadType::kKeyword}};

std::string RandomPlace(Random& random) {
  // Poles and the antimeridian are places like any other.
  const double lat = random.Uniform(10) == 0
                         ? (random.Uniform(2) == 0 ? 90 : -90)
                         : 180 * random.UniformDouble() - 90;
  const double lon = random.Uniform(10) == 0
                         ? (random.Uniform(2) == 0 ? 180 : -180)
                         : 360 * random.UniformDouble() - 180;
  return absl::StrCat(R"({"lat": )", lat, R"(, "lon": )", lon, "}");
}

std::string RandomValue(size_t field, Random& random) {
  if (random.Uniform(12) == 0) return R"({"other": 1})";
  if (random.Uniform(12) == 0) return "null";
  switch (field) {
    case 0:
    case 7:
      return absl::StrCat("\"", std::string(random.Uniform(3), 'w'),
                          random.Uniform(12), "\"");
    case 1:
      return absl::StrCat(static_cast<int>(random.Uniform(40)) - 20,
                          random.Uniform(4) == 0 ? ".5" : "");
    case 2:
      return absl::StrCat((static_cast<int>(random.Uniform(40)) - 20) / 4.0);
    case 3:
      return random.Uniform(2) == 0 ? "true" : "false";
    case 4:
      return absl::StrCat("\"20", 10 + random.Uniform(10), "-0",
                          1 + random.Uniform(9), "-1", random.Uniform(10),
                          "\"");
    case 5:
      return absl::StrCat("\"00000000-0000-4000-8000-0000000000",
                          10 + random.Uniform(20), "\"");
    default:
      return RandomPlace(random);
  }
}

std::string RandomPayload(Random& random) {
  if (random.Uniform(20) == 0) return "";
  std::string out = "{";
  for (size_t f = 0; f < kFields.size(); ++f) {
    if (random.Uniform(4) == 0) continue;
    std::string value = RandomValue(f, random);
    if (random.Uniform(4) == 0) {
      value = absl::StrCat("[", value, ", ", RandomValue(f, random), "]");
    }
    absl::StrAppend(&out, out.size() > 1 ? ", " : "",
                    f == 7
                        ? absl::StrCat(R"("deep": {"word": )", value, "}")
                        : absl::StrCat("\"", kFields[f].path, "\": ", value));
  }
  return out + "}";
}

const std::vector<std::string> kConditions = {
    "word = 'w3'",
    "word > 'w'",
    "word IN ('', '1', 'ww11')",
    "word STARTS WITH 'w1'",
    "NOT word = 'w3'",
    "whole BETWEEN -3 AND 7",
    "whole < 2.5",
    "whole = 9",
    "whole != 9",
    "price >= -1.25 AND price < 3",
    "sold = TRUE",
    "NOT sold = FALSE",
    "at >= '2014-02-01' AND at < '2017-01-01'",
    "ref = '00000000-0000-4000-8000-000000000017'",
    "EXISTS(place)",
    "word IS NULL OR place IS NULL",
    "deep.word = 'w2'",
    "deep.word IN ('w1', 'w2') AND NOT (whole > 0 OR sold = TRUE)",
    "GEO_RADIUS(place, 10.0, 20.0, 2000000)",
    "GEO_RADIUS(place, 0.0, 179.0, 3000000)",
    "GEO_RADIUS(place, 88.0, 0.0, 1500000)",
    "GEO_RADIUS(place, -90.0, 0.0, 4000000)",
    "GEO_RADIUS(place, 0.0, 0.0, 30000000)",
    "GEO_BOX(place, -30.0, -50.0, 40.0, 80.0)",
    "GEO_BOX(place, -90.0, 170.0, 90.0, -170.0)",
    "GEO_BOX(place, -90.0, -180.0, 90.0, 180.0)",
    "GEO_POLYGON(place, 0.0, 0.0, 60.0, 10.0, 20.0, 90.0)",
    "TRUE",
    "FALSE",
};

// That parts of the rows are given as all are.
template <typename Add>
void ExpectParts(const Bitmap& all, const Add& add) {
  for (const size_t size : {1, 20, 100}) {
    for (size_t base = 0; base < all.num_bits(); base += 77) {
      Bitmap part(size);
      add(static_cast<RowId>(base), &part);
      for (size_t i = 0; i < size; ++i) {
        ASSERT_EQ(
            part.Test(static_cast<RowId>(i)),
            base + i < all.num_bits() && all.Test(static_cast<RowId>(base + i)))
            << base << " " << i;
      }
    }
  }
}

class Indexes final : public FieldRows {
 public:
  bool AddRows(const PayloadField& field, std::span<const KeyRange> ranges,
               Bitmap* rows) const override {
    const size_t f = Find(field);
    if (f == kFields.size()) return false;
    Bitmap by_column(rows->num_bits());
    columns[f].AddRows(ranges, 0, &by_column);
    indexes[f]->AddRows(ranges, 0, rows);
    ExpectParts(*rows, [&](RowId base, Bitmap* part) {
      indexes[f]->AddRows(ranges, base, part);
    });
    ExpectSame(*rows, by_column);
    return true;
  }
  bool AddRowsIn(const PayloadField& field, const FilterNode& area,
                 Bitmap* rows) const override {
    const size_t f = Find(field);
    if (f == kFields.size()) return false;
    Bitmap by_column(rows->num_bits());
    columns[f].AddRowsIn(area, 0, &by_column);
    indexes[f]->AddRowsIn(area, 0, rows);
    ExpectParts(*rows, [&](RowId base, Bitmap* part) {
      indexes[f]->AddRowsIn(area, base, part);
    });
    ExpectSame(*rows, by_column);
    return true;
  }
  bool AddRowsOf(const absl::flat_hash_set<PointId>&, Bitmap*) const override {
    return false;
  }
  bool AddRowsWith(const TextCondition&, Bitmap*) const override {
    return false;
  }

  std::vector<std::unique_ptr<const FieldIndex>> indexes;
  mutable std::vector<KeyColumn> columns;  // which index keys when asked
  size_t num_known = kFields.size();       // the first ones

 private:
  size_t Find(const PayloadField& field) const {
    const size_t f =
        std::find(kFields.begin(), kFields.end(), field) - kFields.begin();
    return f < num_known ? f : kFields.size();
  }
  static void ExpectSame(const Bitmap& a, const Bitmap& b) {
    for (size_t row = 0; row < a.num_bits(); ++row) {
      ASSERT_EQ(a.Test(row), b.Test(row)) << row;
    }
  }
};

TEST(FieldIndexTest, AnswersWhatPayloadsDo) {
  constexpr size_t kRows = 3'000;
  Random random(3);
  std::vector<std::string> payloads;
  for (size_t i = 0; i < kRows; ++i) payloads.push_back(RandomPayload(random));
  Folder folder;
  Indexes indexes;
  for (size_t f = 0; f < kFields.size(); ++f) {
    FieldIndexBuilder builder(kFields[f]);
    indexes.columns.emplace_back(kFields[f]);
    for (size_t row = 0; row < kRows; ++row) {
      ForEachKey(payloads[row], {&kFields[f], 1},
                 [&](size_t, absl::string_view key) {
                   builder.Add(row, key);
                   indexes.columns[f].Add(row, key);
                 });
    }
    const std::string path = absl::StrCat(folder.File(), f);
    ASSERT_TRUE(builder.Write(path, 7, kRows).ok());
    auto index = FieldIndex::Open(path, kFields[f], 7, kRows);
    ASSERT_TRUE(index.ok()) << index.status();
    EXPECT_GT((*index)->num_keys(), 1u);
    indexes.indexes.push_back(*std::move(index));
  }
  // With some indexes only, what is certain and what is possible enclose it.
  for (const size_t num_known : {kFields.size(), size_t{2}, size_t{0}}) {
    indexes.num_known = num_known;
    for (const std::string& text : kConditions) {
      const auto node = ParseFilter(text);
      ASSERT_TRUE(node.ok()) << text << ": " << node.status();
      const auto filter = BoundFilter::Bind(*node, kFields);
      ASSERT_TRUE(filter.ok()) << text << ": " << filter.status();
      const RowBounds bounds = filter->Bounds(kRows, indexes);
      if (num_known == kFields.size()) {
        EXPECT_FALSE(bounds.possible.has_value()) << text;
      }
      size_t num_accepted = 0;
      for (size_t row = 0; row < kRows; ++row) {
        const bool accepted = filter->Matches(PointId(1), payloads[row]);
        num_accepted += accepted;
        const bool certain = bounds.certain.Test(row);
        const bool possible =
            bounds.possible.has_value() ? bounds.possible->Test(row) : certain;
        ASSERT_TRUE(accepted ? possible : !certain)
            << text << ", " << payloads[row];
      }
      if (text != "FALSE") {
        EXPECT_GT(num_accepted, 0u) << text;
      }
    }
  }
}

TEST(FieldIndexTest, OfNothing) {
  Folder folder;
  FieldIndexBuilder builder(kFields[0]);
  ASSERT_TRUE(builder.Write(folder.File(), 1, 10).ok());
  const auto index = FieldIndex::Open(folder.File(), kFields[0], 1, 10);
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ((*index)->num_keys(), 0u);
  Bitmap rows(10);
  const KeyRange all{"", std::nullopt};
  (*index)->AddRows({&all, 1}, 0, &rows);
  EXPECT_EQ(rows.Count(), 0u);
}

// The only key of a payload's field "x".
std::string KeyIn(const std::string& payload, PayloadType type) {
  std::string found = "none";
  const PayloadField field{"x", type};
  ForEachKey(payload, {&field, 1},
             [&](size_t, absl::string_view key) { found = std::string(key); });
  return found;
}

TEST(PayloadKeyTest, GivesItsValueBack) {
  for (const int64_t value :
       {INT64_MIN, int64_t{-1}, int64_t{0}, int64_t{7}, INT64_MAX}) {
    EXPECT_EQ(IntegerOfKey(KeyOfInteger(value)), value);
    EXPECT_EQ(ValueOfKey(KeyOfInteger(value), PayloadType::kInt64),
              Literal(value));
  }
  for (const double value : {-HUGE_VAL, -1.5, 0.0, 5e-324, 2.25, 1e300}) {
    EXPECT_EQ(DoubleOfKey(KeyOfDouble(value)), value);
    EXPECT_EQ(ValueOfKey(KeyOfDouble(value), PayloadType::kFloat64),
              Literal(value));
  }
  const auto value = [](const std::string& json, PayloadType type) {
    return ValueOfKey(KeyIn("{\"x\": " + json + "}", type), type);
  };
  EXPECT_EQ(value("true", PayloadType::kBool), Literal(true));
  EXPECT_EQ(value("false", PayloadType::kBool), Literal(false));
  EXPECT_EQ(value("\"a b\"", PayloadType::kKeyword),
            Literal(std::string("a b")));
  EXPECT_EQ(value("\"\"", PayloadType::kKeyword), Literal(std::string()));
  EXPECT_EQ(
      value("\"6BA7B810-9dad-11d1-80b4-00c04fd430c8\"", PayloadType::kUuid),
      Literal(std::string("6ba7b810-9dad-11d1-80b4-00c04fd430c8")));
}

TEST(PayloadKeyTest, GivesDatesBackAsTextOfTheSameKey) {
  const std::pair<const char*, const char*> kDates[] = {
      {"2024-05-31", "2024-05-31T00:00:00Z"},
      {"2024-05-31T12:00:00+02:00", "2024-05-31T10:00:00Z"},
      {"1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"},
      {"0001-01-01", nullptr},
      {"9999-12-31T23:59:59.5Z", "9999-12-31T23:59:59.5Z"},
      {"12345-01-02", nullptr},
      {"-4000-01-02", nullptr},
  };
  for (const auto& [text, expected] : kDates) {
    const auto micros = MicrosOf(text);
    ASSERT_TRUE(micros.has_value()) << text;
    const Literal date =
        ValueOfKey(KeyOfInteger(*micros), PayloadType::kDatetime);
    const auto& written = std::get<std::string>(date);
    if (expected != nullptr) {
      EXPECT_EQ(written, expected);
    }
    EXPECT_EQ(MicrosOf(written), micros) << written;
  }
}

TEST(PayloadKeyTest, APrefixIsARangeOfKeys) {
  const auto end = [](absl::string_view prefix) {
    return KeysWithPrefix(prefix).end;
  };
  EXPECT_EQ(end(""), std::nullopt);
  EXPECT_EQ(end("ab"), "ac");
  EXPECT_EQ(end("a\xFF"), "b");
  EXPECT_EQ(end("\xFF\xFF"), std::nullopt);
  EXPECT_EQ(KeysWithPrefix("ab").begin, "ab");
}

TEST(FieldIndexTest, IsNotTakenForAnother) {
  Folder folder;
  FieldIndexBuilder builder(kFields[1]);
  builder.Add(3, KeyOfInteger(5));
  ASSERT_TRUE(builder.Write(folder.File(), 1, 10).ok());
  const auto code = [&](PayloadField field, uint64_t segment, size_t rows) {
    return FieldIndex::Open(folder.File(), field, segment, rows)
        .status()
        .code();
  };
  using Code = absl::StatusCode;
  EXPECT_EQ(code(kFields[1], 1, 10), Code::kOk);
  EXPECT_EQ(code(kFields[2], 1, 10), Code::kFailedPrecondition);
  EXPECT_EQ(code({"whole2", PayloadType::kInt64}, 1, 10),
            Code::kFailedPrecondition);
  EXPECT_EQ(code(kFields[1], 2, 10), Code::kFailedPrecondition);
  EXPECT_EQ(code(kFields[1], 1, 11), Code::kFailedPrecondition);
  EXPECT_EQ(
      FieldIndex::Open(folder.File() + "2", kFields[1], 1, 10).status().code(),
      Code::kNotFound);
}

TEST(FieldIndexTest, EveryFlippedByteIsFound) {
  Folder folder;
  FieldIndexBuilder builder(kFields[0]);
  for (RowId row = 0; row < 20; ++row) builder.Add(row, absl::StrCat(row % 6));
  ASSERT_TRUE(builder.Write(folder.File(), 1, 20).ok());
  std::ifstream in(folder.File(), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  for (size_t i = 0; i < bytes.size(); i += bytes[i] == 0 ? 61 : 1) {
    std::string bad = bytes;
    bad[i] ^= 0x10;
    std::ofstream(folder.File(), std::ios::binary) << bad;
    EXPECT_FALSE(FieldIndex::Open(folder.File(), kFields[0], 1, 20).ok()) << i;
  }
  std::ofstream(folder.File(), std::ios::binary)
      << bytes.substr(0, bytes.size() - 1);
  EXPECT_TRUE(absl::IsDataLoss(
      FieldIndex::Open(folder.File(), kFields[0], 1, 20).status()));
}

// Checksums hold of what a faulty writer wrote, too.
TEST(FieldIndexTest, RowsThatDoNotAscendAreRefused) {
  Folder folder;
  const auto open = [&](const std::vector<uint32_t>& starts,
                        const std::vector<RowId>& rows) {
    std::string meta;
    for (const uint64_t value :
         {uint64_t{1}, uint64_t{10}, uint64_t{2}, uint64_t{rows.size()},
          static_cast<uint64_t>(kFields[1].type)}) {
      PutFixed(&meta, value);
    }
    meta += kFields[1].path;
    const auto bytes = [](const auto& values) {
      return absl::string_view(reinterpret_cast<const char*>(values.data()),
                               values.size() * sizeof(values[0]));
    };
    const std::string keys = KeyOfInteger(5) + KeyOfInteger(6);
    auto writer = *SectionFileWriter::Create(folder.File(), "FIDX", 1, 5);
    for (const auto& [name, section] :
         std::vector<std::pair<absl::string_view, absl::string_view>>{
             {"META", meta},
             {"KEYS", keys},
             {"STARTS", bytes(starts)},
             {"ROWS", bytes(rows)}}) {
      EXPECT_TRUE(writer->BeginSection(name).ok());
      EXPECT_TRUE(writer->Append(section).ok());
    }
    EXPECT_TRUE(writer->Finish().ok());
    return FieldIndex::Open(folder.File(), kFields[1], 1, 10).status();
  };
  EXPECT_TRUE(open({0, 2, 4}, {3, 7, 1, 2}).ok());
  EXPECT_TRUE(absl::IsDataLoss(open({0, 2, 4}, {7, 3, 1, 2})));
  EXPECT_TRUE(absl::IsDataLoss(open({0, 2, 4}, {3, 7, 2, 2})));
  EXPECT_TRUE(
      absl::IsDataLoss(open({0, 4, 4}, {1, 2, 3, 7})));  // a key of none
}

TEST(KeyColumnTest, BeginsWhereItIsTold) {
  KeyColumn column(kFields[0]);
  for (RowId row = 0; row < 100; ++row) {
    if (row % 3 != 0) continue;
    column.Add(row, "a");
    column.Add(row, "b");
  }
  column.set_num_rows(100);
  const std::vector<KeyRange> just_b = {{"b", "c"}};
  Bitmap rows(80);
  column.AddRows(just_b, 50, &rows);
  for (RowId row = 0; row < 80; ++row) {
    EXPECT_EQ(rows.Test(row), row >= 50 && row % 3 == 0) << row;
  }
}

// Single keys are looked up, others scanned for.
TEST(KeyColumnTest, FindsSingleKeysWhileItGrows) {
  const auto single = [](const std::string& key) {
    return KeyRange{key, key + '\0'};
  };
  Random random(5);
  KeyColumn column(kFields[0]);
  std::vector<std::vector<std::string>> keys;
  for (int part = 0; part < 5; ++part) {
    for (int i = 0; i < 300; ++i) {
      const auto row = static_cast<RowId>(keys.size());
      keys.emplace_back();
      for (uint64_t n = random.Uniform(3); n > 0; --n) {
        keys.back().push_back(absl::StrCat("k", random.Uniform(40)));
        column.Add(row, keys.back().back());
      }
    }
    column.set_num_rows(keys.size());
    for (const size_t end : {keys.size(), keys.size() / 2}) {
      const auto first = static_cast<RowId>(random.Uniform(end));
      for (const char* a : {"k3", "k", "k399", "k39"}) {
        const std::vector<KeyRange> ranges = {single(a), single("k7")};
        Bitmap rows(end);
        column.AddRows(ranges, first, &rows);
        for (RowId row = 0; row < end; ++row) {
          const bool has = std::find(keys[row].begin(), keys[row].end(), a) !=
                               keys[row].end() ||
                           std::find(keys[row].begin(), keys[row].end(),
                                     "k7") != keys[row].end();
          EXPECT_EQ(rows.Test(row), row >= first && has) << a << " " << row;
        }
      }
    }
  }
}

}  // namespace
}  // namespace vicinal
