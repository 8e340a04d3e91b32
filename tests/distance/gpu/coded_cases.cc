// MaxSim over coded tokens: forms, dimensions and lengths of many kinds, lists,
// ties, records that no codec writes.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "src/base/random.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "src/distance/gpu/backend.h"
#include "tests/distance/gpu/cases.h"
#include "tests/distance/gpu/comparison.h"
#include "tests/distance/gpu/conformance.h"
#include "tests/distance/gpu/test_vectors.h"

namespace vicinal::backend_tests {
namespace {

// The forms of TokenCodec, of which a record is four bytes of scale, in some a
// centroid, and a code.
TokenCodeForm FormOf(int bits, size_t dim) {
  TokenCodeForm form = {};
  form.padded_dim = (dim + 31) / 32 * 32;
  form.bits = bits;
  form.has_centroids = bits == 2;
  form.record_bytes =
      4 + (bits == 2 ? 1 : 0) + form.padded_dim * static_cast<size_t>(bits) / 8;
  return form;
}

constexpr int kBits[] = {8, 4, 2, 1};

using Scale = std::function<float()>;

Scale Scales(Random& random) {
  return [&random] { return 0.01f * Noise(random); };
}

class Documents {
 public:
  // No byte follows the last record.
  Documents(const std::vector<size_t>& lengths, const TokenCodeForm& form,
            Random& random, const Scale& scale)
      : form_(form), offsets_(1) {
    for (const size_t length : lengths) {
      offsets_.push_back(offsets_.back() + length);
    }
    records_.resize(offsets_.back() * form.record_bytes);
    for (uint8_t& byte : records_) byte = static_cast<uint8_t>(random.Next());
    for (size_t i = 0; i < offsets_.back(); ++i) SetScale(i, scale());
  }

  size_t num() const { return offsets_.size() - 1; }
  size_t num_tokens() const { return offsets_.back(); }
  const TokenCodeForm& form() const { return form_; }
  CodedTokenDocuments view() const {
    return {form_, records_.data(), offsets_.data(), num()};
  }
  void Copy(size_t from, size_t to) {
    std::memcpy(&records_[to * form_.record_bytes],
                &records_[from * form_.record_bytes], form_.record_bytes);
  }
  std::string Name() const {
    return std::to_string(form_.bits) + " bits, " + std::to_string(num()) +
           " documents, " + std::to_string(num_tokens()) + " tokens x " +
           std::to_string(form_.padded_dim);
  }

 private:
  void SetScale(size_t token, float scale) {
    std::memcpy(&records_[token * form_.record_bytes], &scale, sizeof(scale));
  }

  TokenCodeForm form_;
  std::vector<uint64_t> offsets_;
  std::vector<uint8_t> records_;
};

class Queries {
 public:
  // Some elements, scales and constants are 0.
  Queries(const TokenCodeForm& form, const std::vector<size_t>& lengths,
          Random& random)
      : room_(lengths.size()) {
    for (size_t q = 0; q < lengths.size(); ++q) {
      const size_t num_panels = (lengths[q] + 15) / 16;
      Room& room = room_[q];
      room.panels.resize(num_panels * 16 * form.padded_dim);
      room.sums.resize(num_panels * 16);
      if (form.has_centroids) room.table.resize(256 * 16 * num_panels);
      for (float& value : room.table) value = 50 * Noise(random);
      for (size_t i = 0; i < lengths[q]; ++i) {
        int8_t* const panel =
            &room.panels[(i / 16 * (form.padded_dim / 4) * 16 + i % 16) * 4];
        for (size_t t = 0; t < form.padded_dim; ++t) {
          const auto value = static_cast<int8_t>(
              random.Uniform(9) == 0 ? 0 : int(random.Uniform(255)) - 127);
          panel[t / 4 * 64 + t % 4] = value;
          room.sums[i] += value;
        }
        room.scales.push_back(
            random.Uniform(7) == 0
                ? 0
                : static_cast<float>(0.02 * random.UniformDouble()));
      }
      views_.push_back({lengths[q], room.panels.data(), room.sums.data(),
                        room.table.empty() ? nullptr : room.table.data(),
                        room.scales.data(),
                        q % 3 == 0 ? 0 : random.UniformDouble() - 0.5});
    }
  }

  size_t num() const { return views_.size(); }
  const CodedTokenQuery* data() const { return views_.data(); }

 private:
  struct Room {
    std::vector<int8_t> panels;
    std::vector<int32_t> sums;
    std::vector<float> table;
    std::vector<float> scales;
  };
  std::vector<Room> room_;
  std::vector<CodedTokenQuery> views_;
};

std::string Ask(DistanceBackend& tested, const LoadedSegment& in_tested,
                DistanceBackend& reference, const LoadedSegment& in_reference,
                const std::string& name, const Queries& queries, size_t k,
                const Lists* lists) {
  constexpr size_t kGuard = 32;
  constexpr Neighbor kPoison = {-12345.0f, 0xCDCDCDCD};
  const size_t n = queries.num() * k;
  std::vector<Neighbor> found(n + kGuard, kPoison);
  std::vector<Neighbor> expected(n + kGuard, kPoison);
  DocumentLists view;
  if (lists != nullptr) view = {lists->offsets.data(), lists->docs.data()};
  const std::string context = "maxsim of codes, " + name + ", " +
                              std::to_string(queries.num()) + " queries, " +
                              (lists != nullptr ? "lists, " : "") + "k " +
                              std::to_string(k) + ": ";
  if (reference.MaxSimCodes(in_reference, queries.data(), queries.num(), view,
                            k, expected.data(),
                            nullptr) != BackendStatus::kOk) {
    return context + "the reference cannot";
  }
  BackendReport report;
  const BackendStatus status =
      tested.MaxSimCodes(in_tested, queries.data(), queries.num(), view, k,
                         found.data(), k % 2 == 0 ? &report : nullptr);
  if (status != BackendStatus::kOk) return context + BackendStatusName(status);
  for (size_t i = 0; i < found.size(); ++i) {
    if (std::memcmp(&found[i], &expected[i], sizeof(Neighbor)) == 0) continue;
    if (i >= n) return context + "wrote beyond the end";
    char text[160];
    std::snprintf(text, sizeof(text),
                  "query %zu number %zu is %u at %.9g, not %u at %.9g", i / k,
                  i % k, found[i].row, found[i].distance, expected[i].row,
                  expected[i].distance);
    return context + text;
  }
  return "";
}

// Of which forms a backend takes, it may decline any.
std::string AskAll(DistanceBackend& tested, DistanceBackend& reference,
                   const Documents& documents, const Queries& queries,
                   std::initializer_list<size_t> ks,
                   const Lists* lists = nullptr) {
  std::shared_ptr<const LoadedSegment> in_tested;
  std::shared_ptr<const LoadedSegment> in_reference;
  const BackendStatus status =
      tested.LoadTokenCodes(documents.view(), &in_tested);
  if (status == BackendStatus::kUnsupported) {
    return "skipped: cannot load " + documents.Name();
  }
  if (status != BackendStatus::kOk) {
    return "load, " + documents.Name() + ": " + BackendStatusName(status);
  }
  if (reference.LoadTokenCodes(documents.view(), &in_reference) !=
      BackendStatus::kOk) {
    return "the reference cannot load " + documents.Name();
  }
  if (in_tested->num_rows() != documents.num()) return "wrong num_rows";
  for (const size_t k : ks) {
    VICINAL_CHECK_CASE(Ask(tested, *in_tested, reference, *in_reference,
                           documents.Name(), queries, k, lists));
  }
  return "";
}

std::vector<size_t> Lengths(Random& random, size_t num, size_t most) {
  std::vector<size_t> lengths(num);
  for (size_t& length : lengths) length = random.Uniform(most + 1);
  return lengths;
}

std::string Shapes(DistanceBackend& tested, DistanceBackend& reference,
                   uint64_t seed) {
  Random random(seed);
  for (const int bits : kBits) {
    for (const size_t dim : {32, 64, 96, 128, 160, 256, 512}) {
      const std::vector<size_t> lengths = {16, 1,  0,  2,  300, 7,
                                           64, 63, 65, 32, 129, 0};
      const TokenCodeForm form = FormOf(bits, dim);
      const Documents documents(lengths, form, random, Scales(random));
      const Queries queries(form, {1, 32, 8, 9, 5, 70}, random);
      VICINAL_CHECK_CASE(
          AskAll(tested, reference, documents, queries, {1, 4, 9, 50}));
    }
  }
  return "";
}

// A GPU may leave these to the CPU, but not answer them wrongly.
std::string LongTokens(DistanceBackend& tested, DistanceBackend& reference,
                       uint64_t seed) {
  Random random(seed);
  std::string skipped;
  for (const int bits : kBits) {
    for (const size_t dim : {768, 1024, 1536, 4096}) {
      const TokenCodeForm form = FormOf(bits, dim);
      const Documents documents(Lengths(random, 20, 20), form, random,
                                Scales(random));
      const Queries queries(form, {20, 33}, random);
      const std::string outcome =
          AskAll(tested, reference, documents, queries, {5});
      if (IsSkipped(outcome)) {
        skipped = outcome;
      } else if (!outcome.empty()) {
        return outcome;
      }
    }
  }
  return skipped;
}

std::string LongQueries(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  for (const int bits : kBits) {
    const TokenCodeForm form = FormOf(bits, 128);
    const Documents documents(Lengths(random, 40, 70), form, random,
                              Scales(random));
    const Queries queries(form, {128, 1, 63, 65, 256, 257, 600}, random);
    VICINAL_CHECK_CASE(
        AskAll(tested, reference, documents, queries, {10, 1000}));
  }
  return "";
}

std::string LongDocuments(DistanceBackend& tested, DistanceBackend& reference,
                          uint64_t seed) {
  Random random(seed);
  for (const int bits : kBits) {
    std::vector<size_t> lengths = Lengths(random, 50, 40);
    lengths[0] = 5000;
    lengths[20] = 2047;
    const TokenCodeForm form = FormOf(bits, 64);
    const Documents documents(lengths, form, random, Scales(random));
    const Queries queries(form, {10, 3, 150}, random);
    VICINAL_CHECK_CASE(
        AskAll(tested, reference, documents, queries, {1, 10, 60}));
  }
  return "";
}

std::string Ties(DistanceBackend& tested, DistanceBackend& reference,
                 uint64_t seed) {
  Random random(seed);
  for (const int bits : kBits) {
    for (const size_t distinct : {1, 3, 40}) {
      const TokenCodeForm form = FormOf(bits, 32);
      Documents documents(Lengths(random, 900, 3), form, random,
                          Scales(random));
      for (size_t i = distinct; i < documents.num_tokens(); ++i) {
        documents.Copy(random.Uniform(distinct), i);
      }
      const Queries queries(form, {1, 6, 3}, random);
      VICINAL_CHECK_CASE(
          AskAll(tested, reference, documents, queries, {1, 10, 300, 1024}));
    }
  }
  return "";
}

std::string ListsOfDocuments(DistanceBackend& tested,
                             DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  for (const int bits : kBits) {
    std::vector<size_t> lengths = Lengths(random, 200, 20);
    lengths[7] = 400;
    lengths[8] = 0;
    const TokenCodeForm form = FormOf(bits, 96);
    const Documents documents(lengths, form, random, Scales(random));
    const Queries queries(form, {4, 9, 270, 1, 32, 2}, random);
    Lists lists;
    std::vector<RowId> some;
    for (RowId i = 0; i < 200; i += 1 + random.Uniform(4)) some.push_back(i);
    lists.Add(some);
    std::reverse(some.begin(), some.end());
    lists.Add(some);
    lists.Add({7, 3, 7, 8, 9, 7, 7});  // some more than once
    lists.Add({});
    lists.Add({8});  // without tokens
    lists.Add({199});
    VICINAL_CHECK_CASE(
        AskAll(tested, reference, documents, queries, {1, 3, 40}, &lists));
  }
  return "";
}

std::string EmptyDocuments(DistanceBackend& tested, DistanceBackend& reference,
                           uint64_t seed) {
  Random random(seed);
  for (const int bits : kBits) {
    const TokenCodeForm form = FormOf(bits, 64);
    const Queries queries(form, {3, 40}, random);
    for (const size_t num : {0, 1, 100}) {
      const Documents documents(std::vector<size_t>(num, 0), form, random,
                                Scales(random));
      VICINAL_CHECK_CASE(
          AskAll(tested, reference, documents, queries, {1, 10}));
    }
    std::vector<size_t> lengths(500, 0);
    lengths[3] = 5;
    lengths[499] = 2;
    const Documents documents(lengths, form, random, Scales(random));
    VICINAL_CHECK_CASE(
        AskAll(tested, reference, documents, queries, {1, 2, 3, 100}));
  }
  return "";
}

// Scales of damaged records: zeros, next to zero, of both signs, infinite, and
// no numbers.
std::string OddScales(DistanceBackend& tested, DistanceBackend& reference,
                      uint64_t seed) {
  Random random(seed);
  constexpr float kSome[] = {0.0f,
                             -0.0f,
                             1e-42f,
                             -1e-38f,
                             3e38f,
                             -3e38f,
                             std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity(),
                             std::numeric_limits<float>::quiet_NaN(),
                             1.0f};
  for (const int bits : kBits) {
    for (const size_t first : {0, 4, 6, 8}) {
      const TokenCodeForm form = FormOf(bits, 64);
      const Documents documents(
          Lengths(random, 200, 4), form, random, [&]() -> float {
            return kSome[first + random.Uniform(std::size(kSome) - first)];
          });
      const Queries queries(form, {3, 12, 40}, random);
      VICINAL_CHECK_CASE(
          AskAll(tested, reference, documents, queries, {1, 30, 250}));
    }
  }
  return "";
}

// More queries than one batch has, and more documents than one block looks at.
std::string Many(DistanceBackend& tested, DistanceBackend& reference,
                 uint64_t seed) {
  Random random(seed);
  for (const int bits : kBits) {
    const TokenCodeForm form = FormOf(bits, 32);
    const Documents few(Lengths(random, 60, 10), form, random, Scales(random));
    std::vector<size_t> lengths = Lengths(random, 150, 11);
    for (size_t& length : lengths) ++length;
    const Queries queries(form, lengths, random);
    VICINAL_CHECK_CASE(AskAll(tested, reference, few, queries, {3, 100}));
    Lists lists;
    for (size_t q = 0; q < queries.num(); ++q) {
      std::vector<RowId> list(random.Uniform(20));
      for (RowId& doc : list) doc = static_cast<RowId>(random.Uniform(60));
      lists.Add(list);
    }
    VICINAL_CHECK_CASE(AskAll(tested, reference, few, queries, {2, 7}, &lists));
    const Documents many(Lengths(random, 20'000, 3), form, random,
                         Scales(random));
    VICINAL_CHECK_CASE(AskAll(tested, reference, many,
                              Queries(form, {3, 2}, random), {1, 100, 1024}));
  }
  return "";
}

// The size that benchmarks have, of ragged lengths.
std::string Large(DistanceBackend& tested, DistanceBackend& reference,
                  uint64_t seed) {
  Random random(seed);
  for (const int bits : kBits) {
    const TokenCodeForm form = FormOf(bits, 128);
    const Documents documents(Lengths(random, 5000, 560), form, random,
                              Scales(random));
    const Queries queries(form, {32, 32, 7, 128, 32, 32, 32, 32}, random);
    VICINAL_CHECK_CASE(
        AskAll(tested, reference, documents, queries, {10, 100}));
  }
  return "";
}

constexpr ConformanceCase kCases[] = {
    {"maxsim_codes_shapes", Shapes},
    {"maxsim_codes_long_tokens", LongTokens},
    {"maxsim_codes_long_queries", LongQueries},
    {"maxsim_codes_long_documents", LongDocuments},
    {"maxsim_codes_ties", Ties},
    {"maxsim_codes_lists", ListsOfDocuments},
    {"maxsim_codes_empty_documents", EmptyDocuments},
    {"maxsim_codes_scales", OddScales},
    {"maxsim_codes_many", Many},
    {"large_maxsim_codes", Large, true},
};

}  // namespace

std::span<const ConformanceCase> CodedTokenCases() { return kCases; }

}  // namespace vicinal::backend_tests
