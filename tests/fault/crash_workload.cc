#include "tests/fault/crash_workload.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/random.h"
#include "src/engine/payload_patch.h"

namespace vicinal {
namespace {

constexpr uint64_t kIdsOfWriter = 1'500;

PayloadPatch PatchOf(const CrashOp& op) {
  return *PayloadPatch::Make({.merge = op.merge}, {});
}

}  // namespace

DatabaseOptions CrashOptions() {
  DatabaseOptions options = TestOptions();
  options.growing_segment_bytes = size_t{16} << 10;
  return options;
}

CollectionSchema CrashSchema() {
  CollectionSchema schema = SchemaOf("c", 8, Metric::kL2);
  schema.vectors[0].hnsw.ef_construction = 32;
  return schema;
}

PointId CrashMarker(int writer) {
  return PointId(static_cast<uint64_t>(1'000'000 + writer));
}

CrashOp MakeCrashOp(uint64_t seed, int writer, uint64_t op) {
  Random random(seed * 1'000'003 + static_cast<uint64_t>(writer) * 7'919 +
                op * 104'729);
  const VectorField field = CrashSchema().vectors[0];
  const uint64_t first_id = static_cast<uint64_t>(writer) * kIdsOfWriter;
  CrashOp out;
  if (op % 4 != 3) out.marker = absl::StrCat("{\"op\":", op, "}");
  if (op % 4 == 2) out.merge = out.marker;
  if (op % 4 >= 2) {
    out.ids.push_back(CrashMarker(writer));
    const size_t size = 1 + random.Uniform(40);
    for (size_t i = 0; i < size; ++i) {
      out.ids.push_back(PointId(first_id + random.Uniform(kIdsOfWriter)));
    }
    return out;
  }
  const size_t size = 1 + random.Uniform(60);
  for (size_t i = 0; i < size; ++i) {
    out.ids.push_back(PointId(first_id + random.Uniform(kIdsOfWriter)));
    out.points.push_back(
        {{RandomVector(field, random)},
         random.Uniform(2) == 0 ? absl::StrCat("{\"by\":", op, "}") : ""});
  }
  out.ids.push_back(CrashMarker(writer));
  out.points.push_back({{RandomVector(field, random)}, out.marker});
  return out;
}

absl::Status ApplyCrashOp(const CrashOp& op, Collection* collection) {
  if (!op.merge.empty()) {
    return collection->UpdatePayload(op.ids, PatchOf(op), {}, {}).status;
  }
  if (op.points.empty()) return collection->Delete(op.ids).status;
  BatchBuilder points(collection->schema());
  for (size_t i = 0; i < op.ids.size(); ++i) {
    points.Add(op.ids[i], op.points[i].vectors, op.points[i].payload);
  }
  return collection->Upsert(points.batch()).status;
}

void ApplyCrashOp(const CrashOp& op, Oracle* oracle) {
  for (size_t i = 0; i < op.ids.size(); ++i) {
    if (!op.merge.empty()) {
      const auto found = oracle->points().find(op.ids[i]);
      if (found == oracle->points().end()) continue;
      Oracle::Stored stored = found->second;
      stored.payload = *PatchOf(op).Apply(stored.payload);
      oracle->Upsert(op.ids[i], std::move(stored));
    } else if (op.points.empty()) {
      oracle->Delete(op.ids[i]);
    } else {
      oracle->Upsert(op.ids[i], op.points[i]);
    }
  }
}

}  // namespace vicinal
