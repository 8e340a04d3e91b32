// Vicinal's graph by itself: rows in cell order, as a sealed segment has them,
// with codes or without.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/ann_system.h"
#include "quant/codec.h"

namespace vicinal::bench {

struct CodecChoice {
  std::string name;
  std::optional<CodecParams> params;
  bool default_bits = false;  // without params: the default codec, not none
};

class CodecSystem : public AnnSystem {
 public:
  // Candidates compared exactly are this times k, at most ef.
  virtual void set_rerank_factor(size_t factor) = 0;
  // Of a code; without codec: of a vector of f32.
  virtual size_t record_bytes() const = 0;
};

// One system per codec, built, all over the same rows and links.
absl::StatusOr<std::vector<std::unique_ptr<CodecSystem>>> BuildCodecSystems(
    const Dataset& dataset, const BuildParams& params,
    const std::vector<CodecChoice>& choices);

}  // namespace vicinal::bench
