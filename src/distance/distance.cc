#include "src/distance/distance.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "src/distance/kernels.h"
#include "src/distance/normalize.h"

namespace vicinal {
namespace {

using kernels::KernelTable;

// One instruction set that this CPU can run.
struct Tier {
  const KernelTable* table;
  DistanceKernels kernels;
};

Tier MakeTier(const char* name, const KernelTable& table,
              const kernels::PairTable& pairs) {
  Tier tier = {&table,
               {.name = name,
                .ops = {},
                .pair_l2 = pairs.pair_l2,
                .pair_ip = pairs.pair_ip,
                .select_within = pairs.select_within}};
  for (int metric = 0; metric < 3; ++metric) {
    for (int type = 0; type < 4; ++type) {
      const kernels::OpsEntry& ops = table.ops[metric][type];
      tier.kernels.ops[metric][type] = {ops.one, ops.gather, ops.scan};
    }
  }
  return tier;
}

// Slowest first. __builtin_cpu_supports also asks XGETBV whether the operating
// system saves the wide registers.
const std::vector<Tier>& Tiers() {
  static const std::vector<Tier>* const tiers = [] {
    auto* list = new std::vector<Tier>;
    list->push_back(
        MakeTier("scalar", kernels::kScalarTable, kernels::kScalarPairTable));
#ifdef VICINAL_X86_KERNELS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c")) {
      list->push_back(
          MakeTier("avx2", kernels::kAvx2Table, kernels::kAvx2PairTable));
      if (__builtin_cpu_supports("avx512f") &&
          __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512dq") &&
          __builtin_cpu_supports("avx512vl")) {
        list->push_back(MakeTier("avx512", kernels::kAvx512Table,
                                 kernels::kAvx512PairTable));
      }
    }
#endif
    return list;
  }();
  return *tiers;
}

const Tier* FindTier(absl::string_view name) {
  for (const Tier& tier : Tiers()) {
    if (name == tier.kernels.name) return &tier;
  }
  return nullptr;
}

// What VICINAL_SIMD may say. Kernels over codes have one table more.
const Tier* TierOf(absl::string_view forced) {
#ifdef VICINAL_X86_KERNELS
  if (forced == "avx512vbmi") {
    return __builtin_cpu_supports("avx512vbmi") ? FindTier("avx512") : nullptr;
  }
#endif
  return FindTier(forced);
}

// Seconds for one pass of squared L2 over rows that fit the first-level cache.
double TimeOnce(const Tier& tier, const std::vector<float>& block, size_t dim) {
  constexpr int kPasses = 4;
  const size_t num_rows = block.size() / dim - 1;
  float out[16];
  const auto start = std::chrono::steady_clock::now();
  for (int pass = 0; pass < kPasses; ++pass) {
    tier.kernels.ops[0][0].scan(block.data(), block.data() + dim,
                                dim * sizeof(float), num_rows, dim, out);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
      .count();
}

// A CPU that splits 512-bit operations, or slows its clock for them, may run
// AVX2 faster; so both are timed, well below a millisecond in all. The choice
// cannot change a result: the tables agree bit for bit.
const Tier& FastestTier() {
  const std::vector<Tier>& tiers = Tiers();
  if (tiers.size() < 3) return tiers.back();
  constexpr size_t kDim = 512;
  constexpr int kRounds = 24;  // the first ones also wake the vector units
  const std::vector<float> block(9 * kDim, 1.0f);
  double avx2 = std::numeric_limits<double>::infinity();
  double avx512 = avx2;
  for (int round = 0; round < kRounds; ++round) {
    avx2 = std::min(avx2, TimeOnce(tiers[1], block, kDim));
    avx512 = std::min(avx512, TimeOnce(tiers[2], block, kDim));
  }
  return avx512 <= avx2 ? tiers[2] : tiers[1];
}

const Tier& ChooseTier() {
  const Tier* forced = TierOf(ForcedKernels());
  return forced != nullptr ? *forced : FastestTier();
}

const Tier& ActiveTier() {
  static const Tier& tier = ChooseTier();
  return tier;
}

}  // namespace

absl::string_view ForcedKernels() {
  static const std::string name = []() -> std::string {
    const char* forced = std::getenv("VICINAL_SIMD");
    if (forced == nullptr || *forced == '\0') return "";
    if (TierOf(forced) != nullptr) return forced;
    std::fprintf(stderr,
                 "VICINAL_SIMD=%s is not one of scalar, avx2, avx512, "
                 "avx512vbmi or this CPU cannot run it; ignored.\n",
                 forced);
    return "";
  }();
  return name;
}

const DistanceKernels& ActiveKernels() { return ActiveTier().kernels; }

const DistanceKernels* FindKernels(absl::string_view name) {
  const Tier* tier = FindTier(name);
  return tier == nullptr ? nullptr : &tier->kernels;
}

float NormalizeInto(const float* row, size_t dim, float* out) {
  return kernels::Normalize(*ActiveTier().table, row, dim, out);
}

void PackPanels(const float* rows, size_t row_stride, size_t num_rows,
                size_t dim, float* panels) {
  for (size_t first = 0; first < num_rows; first += kPairPanel) {
    const size_t width = std::min(kPairPanel, num_rows - first);
    float* panel = panels + first * dim;
    if (width < kPairPanel) std::fill_n(panel, kPairPanel * dim, 0.0f);
    for (size_t t = 0; t < dim; ++t) {
      for (size_t j = 0; j < width; ++j) {
        panel[t * kPairPanel + j] = rows[(first + j) * row_stride + t];
      }
    }
  }
}

bool AllFinite(const float* values, size_t n) {
  return ActiveTier().table->all_finite(values, n);
}

}  // namespace vicinal
