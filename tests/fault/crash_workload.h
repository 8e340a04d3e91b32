// The writes of the crash test: a function of (seed, writer, op), so that the
// child that makes them and the parent that checks them need not talk.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "src/base/point_id.h"
#include "src/engine/collection.h"
#include "src/engine/database.h"
#include "src/engine/schema.h"
#include "tests/engine/engine_testing.h"

namespace vicinal {

inline constexpr int kCrashWriters = 3;

// Points to store, ids to delete or ids whose payload to change, of the
// writer's own ids only. Upserts and changes give the writer's marker a payload
// with the op's number; of four ops in a row the third changes and the last
// deletes, the marker too. So the marker, or its absence, tells which of two
// ops in a row was the last.
struct CrashOp {
  std::vector<PointId> ids;
  std::vector<Oracle::Stored> points;  // as many as ids, of an upsert
  std::string merge;                   // of a change; else empty
  std::string marker;                  // payload of the marker; empty: gone
};

DatabaseOptions CrashOptions();
CollectionSchema CrashSchema();
PointId CrashMarker(int writer);
CrashOp MakeCrashOp(uint64_t seed, int writer, uint64_t op);
absl::Status ApplyCrashOp(const CrashOp& op, Collection* collection);
void ApplyCrashOp(const CrashOp& op, Oracle* oracle);

}  // namespace vicinal
