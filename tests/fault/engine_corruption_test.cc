// Damaged segment files: answers stay exact and the files are rebuilt.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "src/base/coding.h"
#include "src/base/crc32c.h"
#include "src/base/mutex.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

namespace fs = std::filesystem;

struct Section {
  std::string name;
  uint64_t offset;
  uint64_t size;
};

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void WriteFile(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// As section_file.h documents it.
std::vector<Section> SectionsOf(const std::string& file) {
  std::vector<Section> sections;
  const auto count = GetFixed<uint32_t>(file.data() + 24);
  for (uint32_t i = 0; i < count; ++i) {
    const char* entry = file.data() + 64 + 32 * i;
    sections.push_back({std::string(entry, strnlen(entry, 8)),
                        GetFixed<uint64_t>(entry + 8),
                        GetFixed<uint64_t>(entry + 16)});
  }
  return sections;
}

class EngineCorruptionTest : public ::testing::Test {
 protected:
  EngineCorruptionTest() : oracle_(Schema()) {
    options_.warn = [this](absl::string_view message) {
      num_warnings_ += absl::StrContains(message, "damaged");
    };
    options_.test_hook = [this, log = log_.hook()](absl::string_view point) {
      log(point);
      MutexLock lock(mu_);
      while (point == "build:before_manifest" && !gate_open_) gate_.Wait(mu_);
    };
  }

  static CollectionSchema Schema() {
    CollectionSchema schema = SchemaOf("c", 8, Metric::kL2);
    schema.vectors.push_back(schema.vectors[0]);
    schema.vectors[1].name = "w";
    schema.vectors[1].metric = Metric::kCosine;
    for (VectorField& field : schema.vectors) field.hnsw.ef_construction = 32;
    return schema;
  }
  absl::Status Open() {
    auto database = Database::Open(folder_.path(), options_);
    if (!database.ok()) return database.status();
    database_ = *std::move(database);
    auto collection = database_->GetCollection("c");
    if (!collection.ok()) collection = database_->CreateCollection(Schema());
    if (!collection.ok()) return collection.status();
    collection_ = *collection;
    return absl::OkStatus();
  }
  void Close() {
    collection_.reset();
    database_.reset();
  }
  void Write(size_t num_points) {
    BatchBuilder points(collection_->schema());
    for (size_t i = 0; i < num_points; ++i) {
      Oracle::Stored stored;
      stored.vectors = {RandomVector(Schema().vectors[0], random_),
                        random_.Uniform(5) == 0
                            ? ""
                            : RandomVector(Schema().vectors[1], random_)};
      const PointId id(random_.Uniform(6'000));
      points.Add(id, stored.vectors);
      oracle_.Upsert(id, stored);
    }
    ASSERT_TRUE(collection_->Upsert(points.batch()).status.ok());
    std::vector<PointId> ids;
    for (int i = 0; i < 50; ++i) {
      ids.push_back(PointId(random_.Uniform(6'000)));
      oracle_.Delete(ids.back());
    }
    ASSERT_TRUE(collection_->Delete(ids).status.ok());
  }
  // A sealed segment with graphs, later deaths in it, and a growing one.
  void Prepare() {
    ASSERT_TRUE(Open().ok());
    Write(4'000);
    ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
    Write(300);
    Close();
    FindFiles();
  }
  void FindFiles() {
    files_.clear();
    for (const auto& file : fs::recursive_directory_iterator(
             fs::path(folder_.path()) / "collections")) {
      if (file.is_regular_file()) files_.push_back(file.path());
    }
    ASSERT_EQ(files_.size(), 2u);
  }
  fs::path VectorsFile() const {
    for (const auto& file : fs::recursive_directory_iterator(
             fs::path(folder_.path()) / "collections")) {
      if (file.path().extension() == ".vec") return file.path();
    }
    return {};
  }
  // As a disk that rots: those who have mapped the file see it.
  static void FlipBitInPlace(const fs::path& path, const std::string& section,
                             size_t byte) {
    std::string bytes = ReadFile(path);
    for (const Section& s : SectionsOf(bytes)) {
      if (s.name != section) continue;
      ASSERT_LT(byte, s.size);
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(s.offset + byte));
      file.put(static_cast<char>(bytes[s.offset + byte] ^ 0x40));
      return;
    }
    FAIL() << "no section " << section;
  }
  void SetGate(bool open) {
    MutexLock lock(mu_);
    gate_open_ = open;
    gate_.NotifyAll();
  }
  void ExpectExact() {
    const absl::Status difference = oracle_.Compare(*collection_, random_);
    EXPECT_TRUE(difference.ok()) << difference;
  }
  // Opens what was damaged: answers must be exact before and after the
  // rebuild, which the gate holds back, and after one more open.
  void ExpectRecovery() {
    SetGate(false);
    num_warnings_ = 0;
    const size_t num_found_before = log_.CountOf("verify:damaged");
    ASSERT_TRUE(Open().ok());
    if (!collection_->stats().degraded) {
      EXPECT_TRUE(log_.WaitFor("verify:damaged", num_found_before + 1));
    }
    EXPECT_TRUE(collection_->stats().degraded);
    EXPECT_GT(num_warnings_, 0u);
    ExpectExact();
    SetGate(true);
    EXPECT_TRUE(Finished(collection_->Optimize(1)).ok());
    EXPECT_FALSE(collection_->stats().degraded);
    ExpectExact();
    Write(20);
    Close();
    ASSERT_TRUE(Open().ok());
    EXPECT_FALSE(collection_->stats().degraded);
    ExpectExact();
    Close();
    FindFiles();
  }

  TempFolder folder_;
  HookLog log_;
  Mutex mu_;
  CondVar gate_;  // builds pass it before they publish
  bool gate_open_ ABSL_GUARDED_BY(mu_) = true;
  DatabaseOptions options_ = TestOptions();
  std::atomic<size_t> num_warnings_ = 0;
  Oracle oracle_;
  Random random_{99};
  std::vector<fs::path> files_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_F(EngineCorruptionTest, OneFlippedBitInAnySectionIsFoundAndMended) {
  Prepare();
  for (size_t f = 0; f < 2; ++f) {
    for (size_t i = 0; i < SectionsOf(ReadFile(files_[f])).size(); ++i) {
      if (HasFatalFailure()) return;
      std::string file = ReadFile(files_[f]);
      const Section section = SectionsOf(file)[i];
      SCOPED_TRACE(files_[f].extension().string() + " " + section.name);
      ASSERT_GT(section.size, 0u);
      file[section.offset + random_.Uniform(section.size)] ^=
          static_cast<char>(1 << random_.Uniform(8));
      WriteFile(files_[f], file);
      ExpectRecovery();
    }
  }
}

// A merge copies vectors and gives the copy a checksum of its own: it must not
// do so with damaged ones, whenever they were damaged.
TEST_F(EngineCorruptionTest, AMergeTakesNoDamagedVectors) {
  ASSERT_TRUE(Open().ok());
  Write(4'000);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  for (const size_t byte : {size_t{3}, size_t{4'000}, size_t{70'001}}) {
    if (HasFatalFailure()) return;
    SCOPED_TRACE(byte);
    Write(300);
    const size_t num_found = log_.CountOf("verify:damaged");
    num_warnings_ = 0;
    FlipBitInPlace(VectorsFile(), "V0", byte);
    ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
    EXPECT_EQ(log_.CountOf("verify:damaged"), num_found + 1);
    EXPECT_GT(num_warnings_, 0u);
    ExpectExact();
  }
  Close();
  ASSERT_TRUE(Open().ok());
  ExpectExact();
}

TEST_F(EngineCorruptionTest, DamagedVectorsWithoutRecordsAreKeptAndReported) {
  Prepare();
  ASSERT_TRUE(Open().ok());  // moves the records from the log to tables
  Close();
  fs::path table;
  for (const auto& file :
       fs::directory_iterator(fs::path(folder_.path()) / "db")) {
    if (file.path().extension() == ".sst" &&
        (table.empty() || file.file_size() > fs::file_size(table))) {
      table = file.path();
    }
  }
  std::string bytes = ReadFile(table);
  bytes[bytes.size() / 3] ^= 1;
  WriteFile(table, bytes);
  const fs::path vectors = VectorsFile();
  FlipBitInPlace(vectors, "V0", 5'000);
  const std::string damaged = ReadFile(vectors);

  ASSERT_TRUE(Open().ok());
  // Either the merge finds it or the check of what was opened.
  Finished(collection_->Optimize(1)).IgnoreError();
  EXPECT_TRUE(log_.WaitFor("verify:damaged", 1));
  EXPECT_GT(num_warnings_, 0u);
  Finished(collection_->Optimize(1)).IgnoreError();
  Close();
  EXPECT_TRUE(ReadFile(vectors) == damaged) << "neither merged nor removed";
}

TEST_F(EngineCorruptionTest, ATruncatedFileIsFoundAndMended) {
  Prepare();
  for (size_t f = 0; f < 2; ++f) {
    for (size_t i = 0; i < SectionsOf(ReadFile(files_[f])).size(); ++i) {
      if (HasFatalFailure()) return;
      const std::string file = ReadFile(files_[f]);
      const Section section = SectionsOf(file)[i];
      SCOPED_TRACE(files_[f].extension().string() + " at " + section.name);
      WriteFile(files_[f], file.substr(0, section.offset));
      ExpectRecovery();
    }
  }
}

TEST_F(EngineCorruptionTest, HeadersAndLostFilesAreFoundAndMended) {
  Prepare();
  for (size_t f = 0; f < 2; ++f) {
    for (const size_t position : {0, 9, 17, 25, 33, 70}) {
      if (HasFatalFailure()) return;
      SCOPED_TRACE(position);
      std::string file = ReadFile(files_[f]);
      file[position] ^= 1;
      WriteFile(files_[f], file);
      ExpectRecovery();
    }
    WriteFile(files_[f], "");
    ExpectRecovery();
    fs::remove(files_[f]);
    ExpectRecovery();
  }
}

TEST_F(EngineCorruptionTest, SeveralDamagedSegmentsAreMended) {
  options_.growing_segment_bytes = size_t{32} << 10;
  options_.max_segment_bytes = size_t{64} << 10;
  ASSERT_TRUE(Open().ok());
  for (int i = 0; i < 6; ++i) {
    Write(800);
    ASSERT_TRUE(Finished(collection_->Optimize(100)).ok());
  }
  ASSERT_GE(collection_->stats().segments.size(), 3u);
  Close();
  for (const auto& file : fs::recursive_directory_iterator(
           fs::path(folder_.path()) / "collections")) {
    if (file.path().extension() == ".seg") WriteFile(file.path(), "gone");
  }
  SetGate(false);
  ASSERT_TRUE(Open().ok());
  EXPECT_TRUE(collection_->stats().degraded);
  ExpectExact();
  // Deaths and a crash between damage and rebuild.
  Write(100);
  ExpectExact();
  SetGate(true);
  Close();
  ASSERT_TRUE(Open().ok());
  ExpectExact();
  EXPECT_TRUE(Finished(collection_->Optimize(100)).ok());
  EXPECT_FALSE(collection_->stats().degraded);
  ExpectExact();
  Close();
  ASSERT_TRUE(Open().ok());
  EXPECT_FALSE(collection_->stats().degraded);
  ExpectExact();
}

TEST_F(EngineCorruptionTest, ANewerSegmentFormatIsRefusedNotRebuilt) {
  Prepare();
  for (const fs::path& path : files_) {
    const std::string saved = ReadFile(path);
    std::string file = saved;
    const uint32_t version = 99;
    std::memcpy(file.data() + 12, &version, sizeof(version));
    const uint32_t crc = Crc32c(absl::string_view(file).substr(0, 32));
    std::memcpy(file.data() + 32, &crc, sizeof(crc));
    WriteFile(path, file);
    const absl::Status status = Open();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_EQ(ReadFile(path), file) << "left as it is";
    WriteFile(path, saved);
  }
  ASSERT_TRUE(Open().ok());
  ExpectExact();
}

TEST_F(EngineCorruptionTest, FilesThatNoManifestNamesAreRemoved) {
  Prepare();
  const fs::path folder = files_[0].parent_path();
  WriteFile(folder / "77.seg", "half");
  WriteFile(folder / "77.vec.tmp", "half");
  ASSERT_TRUE(Open().ok());
  EXPECT_FALSE(fs::exists(folder / "77.seg"));
  EXPECT_FALSE(fs::exists(folder / "77.vec.tmp"));
  ExpectExact();
}

TEST_F(EngineCorruptionTest, ASecondUserOfTheFolderIsRefused) {
  ASSERT_TRUE(Open().ok());
  const auto second = Database::Open(folder_.path(), options_);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
}

}  // namespace
}  // namespace vicinal
