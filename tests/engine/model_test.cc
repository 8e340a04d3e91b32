// Random operations on a collection and on an oracle; they must agree.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/engine/payload_patch.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {
namespace {

VectorField Field(std::string name, size_t dim, Metric metric,
                  ElementType type) {
  VectorField field = SchemaOf("m", dim, metric, type).vectors[0];
  field.name = std::move(name);
  return field;
}

class ModelTest : public ::testing::TestWithParam<int> {
 protected:
  void Open() {
    const absl::Status opened = OpenCollection(
        folder_.path(), options_, schema_, &database_, &collection_);
    ASSERT_TRUE(opened.ok()) << opened;
  }

  PointId RandomId() {
    const uint64_t number = random_.Uniform(num_ids_);
    if (number % 3 == 1) {
      return *PointId::FromString(absl::StrCat("id-", number));
    }
    if (number % 3 == 2) {
      PointId::Uuid uuid{};
      uuid[15] = static_cast<uint8_t>(number);
      uuid[0] = static_cast<uint8_t>(number >> 8);
      return PointId(uuid);
    }
    return PointId(number);
  }

  void Upsert() {
    BatchBuilder points(collection_->schema());
    const size_t size = 1 + random_.Uniform(random_.Uniform(4) == 0 ? 900 : 9);
    for (size_t i = 0; i < size; ++i) {
      Oracle::Stored stored;
      stored.vectors.resize(schema_.vectors.size());
      const size_t always = random_.Uniform(schema_.vectors.size());
      for (size_t f = 0; f < schema_.vectors.size(); ++f) {
        if (f == always || random_.Uniform(4) > 0) {
          stored.vectors[f] = RandomVector(schema_.vectors[f], random_);
        }
      }
      if (random_.Uniform(3) == 0) {
        stored.payload = absl::StrCat("{\"n\": ", random_.Uniform(1000), "}");
      }
      const PointId id = RandomId();
      points.Add(id, stored.vectors, stored.payload);
      oracle_->Upsert(id, std::move(stored));
    }
    const WriteOutcome outcome = collection_->Upsert(points.batch());
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  }

  void Delete() {
    std::vector<PointId> ids;
    const size_t size = 1 + random_.Uniform(random_.Uniform(4) == 0 ? 300 : 9);
    size_t existed = 0;
    for (size_t i = 0; i < size; ++i) {
      ids.push_back(RandomId());
      existed += oracle_->Delete(ids.back());
    }
    const WriteOutcome outcome = collection_->Delete(std::move(ids));
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    ASSERT_EQ(outcome.result.num_written, existed);
  }

  void UpdatePayload() {
    std::vector<PointId> ids;
    const size_t size = 1 + random_.Uniform(random_.Uniform(4) == 0 ? 300 : 9);
    for (size_t i = 0; i < size; ++i) ids.push_back(RandomId());
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    PayloadChange change;
    const std::string value = absl::StrCat(random_.Uniform(1000));
    switch (random_.Uniform(3)) {
      case 0:
        change.set = absl::StrCat("{\"n\": ", value, "}");
        break;
      case 1:
        change.merge = absl::StrCat("{\"n\": null, \"m\": ", value, "}");
        break;
      default:
        change.delete_keys = {"m"};
    }
    const auto patch = PayloadPatch::Make(std::move(change), {});
    ASSERT_TRUE(patch.ok()) << patch.status();
    size_t existed = 0;
    for (const PointId& id : ids) {
      const auto found = oracle_->points().find(id);
      if (found == oracle_->points().end()) continue;
      Oracle::Stored stored = found->second;
      stored.payload = *patch->Apply(stored.payload);
      oracle_->Upsert(id, std::move(stored));
      ++existed;
    }
    const WriteOutcome outcome =
        collection_->UpdatePayload(std::move(ids), *patch, {}, {});
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    ASSERT_EQ(outcome.result.num_written, existed);
  }

  TempFolder folder_;
  DatabaseOptions options_ = TestOptions();
  CollectionSchema schema_;
  Random random_{0};
  uint64_t num_ids_ = 0;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
  std::unique_ptr<Oracle> oracle_;
};

TEST_P(ModelTest, AgreesWithTheOracle) {
  const uint64_t seed = static_cast<uint64_t>(GetParam());
  std::printf("seed %d\n", GetParam());
  random_ = Random(seed);
  schema_ = SchemaOf("m", 4, Metric::kL2);
  schema_.vectors.clear();
  const size_t num_fields = 1 + random_.Uniform(3);
  for (size_t f = 0; f < num_fields; ++f) {
    const auto metric = static_cast<Metric>(1 + random_.Uniform(3));
    const auto type = static_cast<ElementType>(1 + random_.Uniform(4));
    schema_.vectors.push_back(
        Field(absl::StrCat("f", f), 1 + random_.Uniform(24), metric, type));
    if (random_.Uniform(4) == 0) {
      schema_.vectors.back().index = IndexKind::kFlat;
    }
  }
  options_.growing_segment_bytes = size_t{1} << (13 + random_.Uniform(6));
  if (random_.Uniform(3) == 0) {
    options_.max_segment_bytes = options_.growing_segment_bytes * 4;
  }
  num_ids_ = 200 + random_.Uniform(5'000);
  oracle_ = std::make_unique<Oracle>(schema_);
  Open();
  for (int step = 0; step < 120 && !HasFatalFailure(); ++step) {
    SCOPED_TRACE(step);
    const uint64_t choice = random_.Uniform(100);
    if (choice < 52) {
      Upsert();
    } else if (choice < 60) {
      UpdatePayload();
    } else if (choice < 80) {
      Delete();
    } else if (choice < 84) {
      ASSERT_TRUE(Finished(collection_->Optimize(1 + random_.Uniform(3))).ok());
    } else if (choice < 88) {
      // Builds may be under way: they are cancelled.
      collection_.reset();
      database_.reset();
      Open();
    } else {
      const absl::Status difference = oracle_->Compare(*collection_, random_);
      ASSERT_TRUE(difference.ok()) << difference;
    }
  }
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  const absl::Status difference = oracle_->Compare(*collection_, random_);
  ASSERT_TRUE(difference.ok()) << difference;
  std::printf("%zu fields, %zu points, sequence %llu\n", num_fields,
              oracle_->points().size(),
              static_cast<unsigned long long>(collection_->stats().sequence));
}

// VICINAL_MODEL_SEEDS=1000 runs that many.
int NumSeeds() {
  const char* text = std::getenv("VICINAL_MODEL_SEEDS");
  return text == nullptr ? 12 : std::max(1, std::atoi(text));
}

INSTANTIATE_TEST_SUITE_P(Seeds, ModelTest, ::testing::Range(1, NumSeeds() + 1));

}  // namespace
}  // namespace vicinal
