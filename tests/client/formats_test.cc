// The binary formats: what they read, and what they refuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "client/formats/elements.h"
#include "client/formats/ground_truth.h"
#include "client/formats/hdf5.h"
#include "client/formats/npy.h"
#include "client/formats/vector_reader.h"
#include "src/base/half.h"
#include "tests/client/matchers.h"
#include "tests/client/test_files.h"

namespace vicinal::client {
namespace {

using absl::StatusCode;

std::string Gzip(const std::string& bytes, const std::string& path) {
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  return ReadAll(path);
}

// All rows of the file's first field, read in blocks of `max_rows`.
absl::StatusOr<std::string> ReadAllRows(const std::string& path,
                                        size_t max_rows,
                                        const OpenOptions& options = {}) {
  auto reader = OpenVectorFile(path, options);
  if (!reader.ok()) return reader.status();
  std::string out;
  uint64_t rows = 0;
  while (true) {
    VectorBlock block;
    const auto more = (*reader)->Read({.max_rows = max_rows}, &block);
    if (!more.ok()) return more.status();
    if (!*more) break;
    EXPECT_EQ(block.first_row, rows);
    EXPECT_LE(block.num_rows, max_rows);
    rows += block.num_rows;
    out += block.columns[0].data;
  }
  if ((*reader)->num_rows().has_value()) {
    EXPECT_EQ(*(*reader)->num_rows(), rows);
  }
  return out;
}

class FormatsTest : public testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& bytes) {
    return folder_.Write(name, bytes);
  }
  TemporaryFolder folder_;
};

TEST_F(FormatsTest, ReadsFvecsInBlocksOfAnySize) {
  const auto values = RandomFloats(23 * 7, 1);
  const auto path = Write("a.fvecs", Vecs(values, 7));
  for (const size_t rows : {1, 2, 5, 23, 100}) {
    const auto read = ReadAllRows(path, rows);
    ASSERT_THAT(read, IsOk());
    EXPECT_EQ(*read, RawBytes(values)) << rows;
  }
}

TEST_F(FormatsTest, ReadsBvecsAsBytes) {
  std::vector<uint8_t> values(3 * 5);
  for (size_t i = 0; i < values.size(); ++i) values[i] = uint8_t(i * 17);
  const auto path = Write("a.bvecs", Vecs(values, 5));
  auto reader = OpenVectorFile(path);
  ASSERT_THAT(reader, IsOk());
  EXPECT_EQ((*reader)->type(), ElementType::kUint8);
  EXPECT_EQ((*reader)->dim(), 5u);
  EXPECT_EQ(*ReadAllRows(path, 2), RawBytes(values));
}

TEST_F(FormatsTest, StopsBlocksAtTheByteLimitButTakesAtLeastOneRow) {
  const auto path = Write("a.fvecs", Vecs(RandomFloats(40, 2), 4));
  auto reader = *OpenVectorFile(path);
  VectorBlock block;
  ASSERT_TRUE(*reader->Read({.max_rows = 9, .max_bytes = 40}, &block));
  EXPECT_EQ(block.num_rows, 2u);
  ASSERT_TRUE(*reader->Read({.max_rows = 9, .max_bytes = 1}, &block));
  EXPECT_EQ(block.num_rows, 1u);
}

TEST_F(FormatsTest, SkipsRows) {
  const auto values = RandomFloats(10 * 3, 3);
  auto reader = *OpenVectorFile(Write("a.fvecs", Vecs(values, 3)));
  ASSERT_THAT(reader->Skip(8), IsOk());
  VectorBlock block;
  ASSERT_TRUE(*reader->Read({}, &block));
  EXPECT_EQ(block.first_row, 8u);
  EXPECT_EQ(block.columns[0].data,
            RawBytes(std::vector<float>(values.begin() + 24, values.end())));
  EXPECT_THAT(reader->Skip(1), Fails(StatusCode::kOutOfRange, "only 10 rows"));
}

TEST_F(FormatsTest, RefusesVecsWithABadHeader) {
  const auto bad = [&](const std::string& bytes, const std::string& part) {
    EXPECT_THAT(OpenVectorFile(Write("a.fvecs", bytes)),
                Fails(StatusCode::kInvalidArgument, part));
  };
  bad("", "too few for one row");
  bad("abc", "too few for one row");
  std::string zero;
  PutFixed<int32_t>(&zero, 0);
  bad(zero, "dimension 0");
  std::string negative;
  PutFixed<int32_t>(&negative, -5);
  bad(negative + "xxxx", "dimension -5");
  std::string huge;
  PutFixed<int32_t>(&huge, std::numeric_limits<int32_t>::max());
  bad(huge + "xxxx", "dimension 2147483647");
}

TEST_F(FormatsTest, RefusesVecsCutWithinARow) {
  std::string bytes = Vecs(RandomFloats(40, 4), 4);
  bytes.pop_back();
  EXPECT_THAT(OpenVectorFile(Write("a.fvecs", bytes)),
              Fails(StatusCode::kInvalidArgument, "cut off after row 9"));
}

TEST_F(FormatsTest, NamesTheRowOfAnotherDimension) {
  std::string bytes = Vecs(RandomFloats(40, 5), 4);
  bytes[6 * 20] = 3;
  EXPECT_THAT(ReadAllRows(Write("a.fvecs", bytes), 4),
              Fails(StatusCode::kInvalidArgument,
                    "row 6 (at byte 120) says dimension 3, row 0 said 4"));
}

TEST_F(FormatsTest, PassesNaNOnForTheServerToRefuse) {
  auto values = RandomFloats(8, 6);
  values[5] = std::nanf("");
  EXPECT_EQ(*ReadAllRows(Write("a.fvecs", Vecs(values, 4)), 9),
            RawBytes(values));
}

TEST_F(FormatsTest, ReadsNpyOfAllVersionsAndTypes) {
  const auto floats = RandomFloats(6, 7);
  for (const int version : {1, 2, 3}) {
    const auto path = Write(
        "a.npy", Npy(NpyDict("<f4", "(2, 3)"), RawBytes(floats), version));
    EXPECT_EQ(*ReadAllRows(path, 1), RawBytes(floats)) << version;
  }
  const struct {
    const char* descr;
    ElementType type;
    size_t bytes;
  } kTypes[] = {{"<f2", ElementType::kFloat16, 2},
                {"|i1", ElementType::kInt8, 1},
                {"|u1", ElementType::kUint8, 1}};
  for (const auto& type : kTypes) {
    const std::string data(6 * type.bytes, 'x');
    const auto path = Write("a.npy", Npy(NpyDict(type.descr, "(2, 3)"), data));
    EXPECT_EQ((*OpenVectorFile(path))->type(), type.type) << type.descr;
    EXPECT_EQ(*ReadAllRows(path, 10), data) << type.descr;
  }
}

TEST_F(FormatsTest, ReadsFloat64AsFloat32) {
  const std::vector<double> values = {1.5, -2.25, 1e300, 0.1};
  const auto path =
      Write("a.npy", Npy(NpyDict("<f8", "(2, 2)"), RawBytes(values)));
  const std::vector<float> expected = {
      1.5F, -2.25F, std::numeric_limits<float>::infinity(), 0.1F};
  EXPECT_EQ(*ReadAllRows(path, 10), RawBytes(expected));
}

TEST_F(FormatsTest, RefusesBadNpy) {
  const auto bad = [&](const std::string& bytes, const std::string& part) {
    EXPECT_THAT(OpenVectorFile(Write("a.npy", bytes)),
                Fails(StatusCode::kInvalidArgument, part));
  };
  const std::string data(24, 'x');
  const std::string good = Npy(NpyDict("<f4", "(2, 3)"), data);
  bad("", "magic bytes");
  bad("NUMPY", "magic bytes");
  bad("PK\x03\x04 a zip file", "magic bytes");
  bad(Npy(NpyDict("<f4", "(2, 3)"), data, 4), "version 4");
  bad(good.substr(0, 9), "magic bytes");
  bad(good.substr(0, 30), "says its header has");
  bad(good.substr(0, good.size() - 1), "was the copy complete");
  bad(good + "x", "was the copy complete");
  bad(Npy(NpyDict("<f4", "(2, 3)", true), data), "Fortran order");
  bad(Npy(NpyDict(">f4", "(2, 3)"), data), "type \">f4\"");
  bad(Npy(NpyDict("<c8", "(1, 3)"), data), "type \"<c8\"");
  bad(Npy(NpyDict("<i4", "(2, 3)"), data), "convert it with astype");
  bad(Npy(NpyDict("<f4", "(6,)"), data), "1-d array");
  bad(Npy(NpyDict("<f4", "(1, 2, 3)"), data), "3 dimensions");
  bad(Npy(NpyDict("<f4", "()"), data), "0 dimensions");
  bad(Npy(NpyDict("<f4", "(6, 0)"), ""), "dimension 0");
  bad(Npy(NpyDict("|u1", "(1, 70000)"), std::string(70000, 'x')),
      "dimension 70000");
  bad(Npy(NpyDict("<f4", "(4611686018427387904, 4)"), data), "more than 2^64");
  bad(Npy(NpyDict("<f4", "(99999999999999999999999, 4)"), data),
      "cannot be understood");
  bad(Npy("__import__('os')", data), "cannot be understood");
  bad(Npy("{'descr': '<f4', 'fortran_order': False, }", data),
      "cannot be understood");
}

TEST_F(FormatsTest, WritesNpyThatItReads) {
  const auto values = RandomFloats(5 * 4, 8);
  const std::string path = folder_.File("w.npy");
  auto writer = *NpyWriter::Create(path, 4, ElementType::kFloat32);
  const std::string bytes = RawBytes(values);
  ASSERT_THAT(writer->Append(bytes.substr(0, 32)), IsOk());
  ASSERT_THAT(writer->Append(bytes.substr(32)), IsOk());
  ASSERT_THAT(writer->Finish(), IsOk());
  EXPECT_EQ(*ReadAllRows(path, 3), bytes);
  // numpy wants the data aligned to 64 bytes.
  EXPECT_EQ((ReadAll(path).size() - bytes.size()) % 64, 0u);
}

TEST_F(FormatsTest, ReadsIdxPlainAndCompressed) {
  std::string data;
  for (int i = 0; i < 5 * 6; ++i) data.push_back(static_cast<char>(i * 9));
  const std::string idx = Idx(8, {5, 2, 3}, data);
  for (const size_t rows : {1, 2, 5}) {
    EXPECT_EQ(*ReadAllRows(Write("a-ubyte", idx), rows), data);
    const auto packed = Write("a-ubyte.gz", Gzip(idx, folder_.File("tmp")));
    EXPECT_EQ(*ReadAllRows(packed, rows), data);
  }
  auto reader = *OpenVectorFile(folder_.File("a-ubyte.gz"));
  EXPECT_EQ(reader->dim(), 6u);
  ASSERT_THAT(reader->Skip(4), IsOk());
  VectorBlock block;
  ASSERT_TRUE(*reader->Read({}, &block));
  EXPECT_EQ(block.columns[0].data, data.substr(24));
}

TEST_F(FormatsTest, ReadsIdxFloatsFromBigEndian) {
  const std::vector<float> values = {1.5F, -2, 3, 0.25F};
  std::string floats;
  std::string doubles;
  for (const float x : values) {
    PutBigEndian32(&floats, std::bit_cast<uint32_t>(x));
    PutBigEndian64(&doubles, std::bit_cast<uint64_t>(double{x}));
  }
  EXPECT_EQ(*ReadAllRows(Write("f.idx", Idx(0x0D, {2, 2}, floats)), 9),
            RawBytes(values));
  EXPECT_EQ(*ReadAllRows(Write("d.idx", Idx(0x0E, {2, 2}, doubles)), 9),
            RawBytes(values));
}

TEST_F(FormatsTest, RefusesBadIdx) {
  const auto bad = [&](const std::string& bytes, const std::string& part) {
    EXPECT_THAT(OpenVectorFile(Write("a.idx", bytes)),
                Fails(StatusCode::kInvalidArgument, part));
  };
  bad("", "ends within its header");
  bad(std::string("\0\0\x08", 3), "ends within its header");
  bad("\x89PNG and so on", "starts with bytes 89 50");
  bad(Idx(0x0B, {2, 2}, std::string(8, 'x')), "type 0b");
  bad(Idx(8, {4}, "abcd"), "1 dimensions");
  bad(Idx(8, {4, 0}, ""), "dimension 0");
  bad(Idx(8, {1, 65536, 65536}, "x"), "dimension 4294967296");
  bad(Idx(8, {0xFFFFFFFF, 784}, "xxxx"), "promises 4294967295 rows");
  bad(Idx(8, {2, 2}, "abc"), "was the download complete");
  bad(Idx(8, {2, 2}, "abcde"), "was the download complete");
}

TEST_F(FormatsTest, RefusesDamagedGzip) {
  std::string data(60'000, '\0');
  Random random(9);
  for (char& c : data) c = static_cast<char>(random.Next());
  const std::string packed =
      Gzip(Idx(8, {600, 100}, data), folder_.File("tmp"));
  EXPECT_THAT(ReadAllRows(Write("a.idx.gz", packed.substr(0, 30'000)), 64),
              Fails(StatusCode::kInvalidArgument, "ends within rows"));
  // Everything but the checksum at the end.
  EXPECT_THAT(
      ReadAllRows(Write("a.idx.gz", packed.substr(0, packed.size() - 4)), 64),
      Fails(StatusCode::kInvalidArgument, "row 599"));
  std::string flipped = packed;
  flipped[flipped.size() - 6] ^= 0x40;  // in the checksum
  EXPECT_THAT(ReadAllRows(Write("a.idx.gz", flipped), 64),
              Fails(StatusCode::kInvalidArgument, "fetch the file again"));
  // A header that promises more than so few bytes can hold.
  EXPECT_THAT(
      OpenVectorFile(Write("a.idx.gz", Gzip(Idx(8, {4'000'000'000, 784}, "x"),
                                            folder_.File("t")))),
      Fails(StatusCode::kInvalidArgument, "promises 4000000000 rows"));
  EXPECT_THAT(ReadAllRows(Write("a.idx.gz", Gzip(Idx(8, {2, 2}, "abcdef"),
                                                 folder_.File("t"))),
                          64),
              Fails(StatusCode::kInvalidArgument, "goes on after row 1"));
}

TEST_F(FormatsTest, ReadsHdf5OfAnnBenchmarks) {
  const auto train = RandomFloats(20 * 3, 10);
  const auto path = folder_.File("a.hdf5");
  {
    auto writer = *Hdf5Writer::Create(path);
    ASSERT_THAT(writer->WriteFloats("train", 20, 3, train), IsOk());
    ASSERT_THAT(writer->WriteBytes("bytes", 2, 2, {1, 2, 3, 255}), IsOk());
    ASSERT_THAT(writer->WriteInts("neighbors", 2, 3, {5, 1, 2, 0, 19, 7}),
                IsOk());
    ASSERT_THAT(writer->WriteAttribute("distance", "angular"), IsOk());
  }
  for (const size_t rows : {1, 7, 50}) {
    EXPECT_EQ(*ReadAllRows(path, rows), RawBytes(train));
  }
  EXPECT_EQ((*OpenVectorFile(path))->distance(), "angular");
  EXPECT_EQ(*ReadAllRows(path, 10, {.dataset = "bytes"}), "\x01\x02\x03\xff");
  const auto truth = ReadGroundTruth(path);
  ASSERT_THAT(truth, IsOk());
  EXPECT_EQ(truth->k, 3u);
  EXPECT_EQ(truth->row(1)[1], 19u);
}

TEST_F(FormatsTest, RefusesBadHdf5) {
  const auto path = folder_.File("a.hdf5");
  {
    auto writer = *Hdf5Writer::Create(path);
    ASSERT_THAT(writer->WriteInts("neighbors", 1, 2, {1, 2}), IsOk());
    ASSERT_THAT(writer->WriteFloats("empty", 4, 0, {}), IsOk());
  }
  EXPECT_THAT(OpenVectorFile(path),
              Fails(StatusCode::kInvalidArgument,
                    "no data set \"train\"; it has empty, neighbors"));
  EXPECT_THAT(OpenVectorFile(path, {.dataset = "neighbors"}),
              Fails(StatusCode::kInvalidArgument, "an integer type of 4"));
  EXPECT_THAT(OpenVectorFile(path, {.dataset = "empty"}),
              Fails(StatusCode::kInvalidArgument, "dimension 0"));
  EXPECT_THAT(OpenVectorFile(Write("b.hdf5", "not one")),
              Fails(StatusCode::kInvalidArgument, "is not an HDF5 file"));
  const std::string whole = ReadAll(path);
  EXPECT_THAT(OpenVectorFile(Write("b.hdf5", whole.substr(0, 900))),
              Fails(StatusCode::kInvalidArgument, "is not an HDF5 file"));
}

TEST_F(FormatsTest, RefusesAnHdf5FileCutWithinItsRows) {
  const auto path = folder_.File("a.hdf5");
  {
    auto writer = *Hdf5Writer::Create(path);
    ASSERT_THAT(
        writer->WriteFloats("train", 1000, 10, RandomFloats(10'000, 11)),
        IsOk());
  }
  const std::string whole = ReadAll(path);
  EXPECT_THAT(ReadAllRows(Write("b.hdf5", whole.substr(0, 20'000)), 100),
              Fails(StatusCode::kInvalidArgument, "b.hdf5"));
}

TEST_F(FormatsTest, ReadsGroundTruthFromIvecsAndNpy) {
  const std::vector<int32_t> rows = {3, 1, 2, 9, 8, 7};
  const auto ivecs = ReadGroundTruth(Write("t.ivecs", Vecs(rows, 3)));
  ASSERT_THAT(ivecs, IsOk());
  EXPECT_EQ(ivecs->rows, (std::vector<uint64_t>{3, 1, 2, 9, 8, 7}));
  const auto npy = ReadGroundTruth(
      Write("t.npy", Npy(NpyDict("<i4", "(2, 3)"), RawBytes(rows))));
  ASSERT_THAT(npy, IsOk());
  EXPECT_EQ(npy->rows, ivecs->rows);
  const std::vector<int64_t> wide(rows.begin(), rows.end());
  EXPECT_EQ(ReadGroundTruth(
                Write("t.npy", Npy(NpyDict("<i8", "(2, 3)"), RawBytes(wide))))
                ->rows,
            ivecs->rows);
}

TEST_F(FormatsTest, RefusesGroundTruthThatCannotBeOne) {
  EXPECT_THAT(
      ReadGroundTruth(Write("t.ivecs", Vecs<int32_t>({3, -1, 2, 0}, 2))),
      Fails(StatusCode::kInvalidArgument, "neighbour 1 of query 0 is row -1"));
  EXPECT_THAT(
      ReadGroundTruth(Write("t.npy", Npy(NpyDict("<f4", "(1, 1)"), "abcd"))),
      Fails(StatusCode::kInvalidArgument, "true neighbours are int32"));
  EXPECT_THAT(ReadGroundTruth(Write("t.txt", "1 2 3")),
              Fails(StatusCode::kInvalidArgument, ".ivecs, .npy and .hdf5"));
}

TEST_F(FormatsTest, ConvertsBetweenElementTypes) {
  const std::string bytes("\x00\x7f\x80\xff", 4);
  EXPECT_EQ(*ConvertElements(ElementType::kUint8, ElementType::kFloat32, bytes),
            RawBytes(std::vector<float>{0, 127, 128, 255}));
  EXPECT_EQ(*ConvertElements(ElementType::kInt8, ElementType::kFloat32, bytes),
            RawBytes(std::vector<float>{0, 127, -128, -1}));
  const std::vector<float> floats = {0.5F, -3};
  const auto halves = ConvertElements(ElementType::kFloat32,
                                      ElementType::kFloat16, RawBytes(floats));
  EXPECT_EQ(*halves, RawBytes(std::vector<uint16_t>{0x3800, 0xC200}));
  EXPECT_EQ(
      *ConvertElements(ElementType::kFloat16, ElementType::kFloat32, *halves),
      RawBytes(floats));
  EXPECT_THAT(ConvertElements(ElementType::kFloat32, ElementType::kUint8, ""),
              Fails(StatusCode::kInvalidArgument, "cannot be sent as u8"));
}

TEST_F(FormatsTest, SaysWhenAFileIsMissingOrOfNoKnownFormat) {
  EXPECT_THAT(OpenVectorFile(folder_.File("none.npy")),
              Fails(StatusCode::kNotFound, "none.npy"));
  EXPECT_THAT(OpenVectorFile(folder_.File("none.hdf5")),
              Fails(StatusCode::kNotFound, "none.hdf5"));
  EXPECT_THAT(OpenVectorFile(folder_.File("none.idx")),
              Fails(StatusCode::kNotFound, "none.idx"));
  EXPECT_THAT(OpenVectorFile(folder_.File("none.jsonl")),
              Fails(StatusCode::kNotFound, "none.jsonl"));
  EXPECT_THAT(OpenVectorFile("data.csv"),
              Fails(StatusCode::kInvalidArgument, "give --format"));
}

TEST_F(FormatsTest, ReadsOneRowOfAFileAsFloats) {
  auto reader = *OpenVectorFile(Write(
      "a.npy", Npy(NpyDict("|u1", "(2, 3)"), "\x01\x02\x03\x04\x05\xff")));
  EXPECT_EQ(*ReadRowsAsFloat(*reader, 1, 1), (std::vector<float>{4, 5, 255}));
}

}  // namespace
}  // namespace vicinal::client
