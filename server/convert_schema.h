// Schemas, their statistics and operations from the wire and to it.
#pragma once

#include <string>

#include "server/errors.h"
#include "src/engine/collection.h"
#include "src/engine/memory_plan.h"
#include "src/engine/operations.h"
#include "src/engine/schema.h"
#include "vicinal/v1/collection.pb.h"
#include "vicinal/v1/operation.pb.h"

namespace vicinal {

// Violations are of what the engine's types cannot say; ValidateSchema finds
// the others.
CollectionSchema ParseSchema(const v1::Collection& collection,
                             const std::string& path,
                             FieldViolations* violations);
void ToProto(const CollectionSchema& schema, const CollectionStats& stats,
             v1::Collection* out);
HnswParams ParseHnsw(const v1::HnswConfig& config);
IvfParams ParseIvf(const v1::IvfConfig& config);
CodecSpec ParseCodec(const v1::CodecConfig& config);
MemorySpec ParseMemory(const v1::MemoryConfig& config);
GpuUse ParseGpu(v1::GpuUse gpu);
PayloadField ParsePayloadField(const v1::PayloadIndex& index);
void ToProto(const ResourceEstimate& estimate, v1::ResourceEstimate* out);
void ToProto(const OperationInfo& info, v1::Operation* out);

}  // namespace vicinal
