// MaxSim: documents of many lengths, types and magnitudes, lists of them,
// weights, ties.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
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

constexpr ElementType kF32 = ElementType::kFloat32;
constexpr ElementType kF16 = ElementType::kFloat16;
constexpr ElementType kBf16 = ElementType::kBfloat16;
constexpr ElementType kTypes[] = {kF32, kF16, kBf16};

// Writes the elements of token `index` of all as floats; all are 0 before.
using Fill = std::function<void(size_t index, std::span<float> out)>;

Fill Noises(Random& random, float scale = 1.0f) {
  return [&random, scale](size_t, std::span<float> out) {
    for (float& value : out) value = scale * Noise(random);
  };
}

class Documents {
 public:
  // No byte follows the last token.
  Documents(const std::vector<size_t>& lengths, size_t dim, ElementType type,
            bool cosine, const Fill& fill)
      : dim_(dim), type_(type), cosine_(cosine), offsets_(1) {
    for (const size_t length : lengths) {
      offsets_.push_back(offsets_.back() + length);
    }
    const size_t num = offsets_.back();
    bytes_.resize(num * token_bytes());
    for (size_t i = 0; i < num; ++i) {
      std::vector<float> token(dim);
      fill(i, token);
      Set(i, token);
    }
  }

  size_t num() const { return offsets_.size() - 1; }
  size_t dim() const { return dim_; }
  bool cosine() const { return cosine_; }
  TokenDocuments view() const {
    return {bytes_.data(), offsets_.data(), num(), dim_, type_, cosine_};
  }
  std::string Name() const {
    return TypeName(type_) + (cosine_ ? " cosine, " : ", ") +
           std::to_string(num()) + " documents, " +
           std::to_string(offsets_.back()) + " tokens x " +
           std::to_string(dim_);
  }

 private:
  size_t token_bytes() const { return dim_ * ElementSize(type_); }

  void Set(size_t index, std::span<const float> values) {
    std::byte* to = bytes_.data() + index * token_bytes();
    for (const float value : values) {
      if (type_ == kF32) {
        std::memcpy(to, &value, 4);
      } else if (type_ == kF16) {
        const auto half =
            static_cast<_Float16>(std::clamp(value, -65504.0f, 65504.0f));
        std::memcpy(to, &half, 2);
      } else {
        const auto upper =
            static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
        std::memcpy(to, &upper, 2);
      }
      to += ElementSize(type_);
    }
  }

  size_t dim_;
  ElementType type_;
  bool cosine_;
  std::vector<uint64_t> offsets_;
  std::vector<std::byte> bytes_;
};

struct Queries {
  // Of unit length where the documents' tokens are. weights: of 0 and 2.
  Queries(const Documents& documents, const std::vector<size_t>& lengths,
          const Fill& fill, Random* random = nullptr)
      : offsets(1) {
    for (const size_t length : lengths) {
      offsets.push_back(offsets.back() + static_cast<uint32_t>(length));
    }
    const size_t dim = documents.dim();
    tokens.resize(offsets.back() * dim);
    for (size_t i = 0; i < offsets.back(); ++i) {
      const std::span<float> token = std::span(tokens).subspan(i * dim, dim);
      fill(i, token);
      double norm2 = 0;
      for (const float value : token) norm2 += double{value} * value;
      for (float& value : token) {
        if (documents.cosine() && norm2 > 0) {
          value = static_cast<float>(value / std::sqrt(norm2));
        }
      }
      if (random == nullptr) continue;
      const bool is_zero = random->Uniform(4) == 0;
      weights.push_back(
          is_zero ? 0 : static_cast<float>(2 * random->UniformDouble()));
    }
  }

  size_t num() const { return offsets.size() - 1; }
  TokenQueries view() const {
    return {tokens.data(), offsets.data(),
            weights.empty() ? nullptr : weights.data(), num()};
  }

  std::vector<float> tokens;
  std::vector<uint32_t> offsets;
  std::vector<float> weights;
};

// The same documents in two backends, asked the same.
class TokenComparison {
 public:
  TokenComparison(DistanceBackend& tested, DistanceBackend& reference,
                  const Documents& documents)
      : tested_(tested), reference_(reference), documents_(documents) {}

  std::string Load() {
    const TokenDocuments view = documents_.view();
    if (reference_.LoadTokens(view, &in_reference_) != BackendStatus::kOk) {
      return "the reference cannot load " + documents_.Name();
    }
    const BackendStatus status = tested_.LoadTokens(view, &in_tested_);
    if (status != BackendStatus::kOk) {
      return "load, " + documents_.Name() + ": " + BackendStatusName(status);
    }
    if (in_tested_->num_rows() != documents_.num()) return "wrong num_rows";
    return "";
  }

  // lists null: all documents. before: what is asked immediately before.
  std::string Ask(const Queries& queries, size_t k,
                  const Lists* lists = nullptr,
                  const Lists* before = nullptr) const {
    constexpr size_t kGuard = 32;
    constexpr Neighbor kPoison = {-12345.0f, 0xCDCDCDCD};
    const size_t n = queries.num() * k;
    std::vector<Neighbor> found(n + kGuard, kPoison);
    std::vector<Neighbor> expected(n + kGuard, kPoison);
    DocumentLists view;
    if (lists != nullptr) view = {lists->offsets.data(), lists->docs.data()};
    BackendReport report;
    const std::string context = "maxsim, " + documents_.Name() + ", " +
                                std::to_string(queries.num()) + " queries, " +
                                (lists != nullptr ? "lists, " : "") + "k " +
                                std::to_string(k) + ": ";
    if (reference_.MaxSim(*in_reference_, queries.view(), view, k,
                          expected.data(), nullptr) != BackendStatus::kOk) {
      return context + "the reference cannot";
    }
    if (before != nullptr) {
      std::vector<Neighbor> unused(n);
      const DocumentLists other = {before->offsets.data(), before->docs.data()};
      if (tested_.MaxSim(*in_tested_, queries.view(), other, k, unused.data(),
                         nullptr) != BackendStatus::kOk) {
        return context + "not asked before";
      }
    }
    const BackendStatus status =
        tested_.MaxSim(*in_tested_, queries.view(), view, k, found.data(),
                       k % 2 == 0 ? &report : nullptr);
    if (status != BackendStatus::kOk) {
      return context + BackendStatusName(status);
    }
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

 private:
  DistanceBackend& tested_;
  DistanceBackend& reference_;
  const Documents& documents_;
  std::shared_ptr<const LoadedSegment> in_tested_;
  std::shared_ptr<const LoadedSegment> in_reference_;
};

std::string AskAll(DistanceBackend& tested, DistanceBackend& reference,
                   const Documents& documents, const Queries& queries,
                   std::initializer_list<size_t> ks,
                   const Lists* lists = nullptr) {
  TokenComparison comparison(tested, reference, documents);
  VICINAL_CHECK_CASE(comparison.Load());
  for (const size_t k : ks) {
    VICINAL_CHECK_CASE(comparison.Ask(queries, k, lists));
  }
  return "";
}

std::vector<size_t> Lengths(Random& random, size_t num, size_t most) {
  std::vector<size_t> lengths(num);
  for (size_t& length : lengths) length = random.Uniform(most + 1);
  return lengths;
}

// Calls body(type, cosine) for each kind of documents.
template <typename Body>
std::string ForEachKind(const Body& body) {
  for (const ElementType type : kTypes) {
    for (const bool cosine : {false, true}) {
      VICINAL_CHECK_CASE(body(type, cosine));
    }
  }
  return "";
}

std::string Shapes(DistanceBackend& tested, DistanceBackend& reference,
                   uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](ElementType type, bool cosine) {
    for (const size_t dim : {1, 7, 64, 96, 128, 130}) {
      std::vector<size_t> lengths = {16, 1, 0, 2, 300, 7, 17, 32, 33, 0};
      if (dim == 96) lengths.push_back(1000);
      const Documents documents(lengths, dim, type, cosine, Noises(random));
      const Queries queries(documents, {1, 32, 8, 9, 5}, Noises(random));
      VICINAL_CHECK_CASE(
          AskAll(tested, reference, documents, queries, {1, 4, 8, 9, 50}));
    }
    return std::string();
  });
}

std::string LongQueries(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  for (const size_t dim : {128, 200}) {
    const Documents documents(Lengths(random, 60, 40), dim, kF16, true,
                              Noises(random));
    const Queries queries(documents, {128, 1, 63, 64, 65, 100}, Noises(random),
                          &random);
    VICINAL_CHECK_CASE(
        AskAll(tested, reference, documents, queries, {10, 1000}));
  }
  return "";
}

// Passes of fewer columns, as they take more room; on some GPUs by another
// kernel.
std::string LongTokens(DistanceBackend& tested, DistanceBackend& reference,
                       uint64_t seed) {
  Random random(seed);
  for (const size_t dim : {260, 768, 1500, 4096}) {
    for (const bool cosine : {false, true}) {
      std::vector<size_t> lengths = Lengths(random, 30, 20);
      lengths[3] = 150;
      lengths[4] = 0;
      const Documents documents(lengths, dim, kF16, cosine, Noises(random));
      const Queries queries(documents, {20, 33, 70}, Noises(random));
      VICINAL_CHECK_CASE(AskAll(tested, reference, documents, queries, {5}));
      Lists lists;
      lists.Add({3, 4, 29, 3});
      lists.Add({});
      lists.Add({1, 2, 0, 5, 9});
      VICINAL_CHECK_CASE(
          AskAll(tested, reference, documents, queries, {4}, &lists));
    }
  }
  return "";
}

std::string Weights(DistanceBackend& tested, DistanceBackend& reference,
                    uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](ElementType type, bool cosine) {
    const Documents documents(Lengths(random, 80, 30), 48, type, cosine,
                              Noises(random));
    Queries queries(documents, {12, 7, 20, 16}, Noises(random), &random);
    std::fill_n(queries.weights.begin(), 12, 0.0f);  // all are alike to it
    return AskAll(tested, reference, documents, queries, {1, 10, 100});
  });
}

std::string Ties(DistanceBackend& tested, DistanceBackend& reference,
                 uint64_t seed) {
  Random random(seed);
  for (const size_t distinct : {1, 3, 40}) {
    // Every document has one of few tokens again and again.
    std::vector<std::vector<float>> tokens(distinct, std::vector<float>(32));
    for (auto& token : tokens) Noises(random)(0, token);
    const auto fill = [&](size_t, std::span<float> out) {
      std::ranges::copy(tokens[random.Uniform(distinct)], out.begin());
    };
    const Documents documents(Lengths(random, 900, 3), 32, kF16, true, fill);
    const Queries queries(documents, {1, 6, 3}, Noises(random));
    VICINAL_CHECK_CASE(
        AskAll(tested, reference, documents, queries, {1, 10, 300, 1024}));
  }
  return "";
}

// More than are compared in parts.
std::string NearTies(DistanceBackend& tested, DistanceBackend& reference,
                     uint64_t seed) {
  Random random(seed);
  std::vector<float> centre(64);
  Noises(random)(0, centre);
  for (const float scale : {1e-6f, 1e-3f, 1e-2f}) {
    const auto fill = [&](size_t, std::span<float> out) {
      for (size_t i = 0; i < out.size(); ++i) {
        out[i] = centre[i] + scale * Noise(random);
      }
    };
    const Documents documents(std::vector<size_t>(3000, 2), 64, kF32, true,
                              fill);
    const Queries queries(documents, {8, 3}, Noises(random));
    VICINAL_CHECK_CASE(
        AskAll(tested, reference, documents, queries, {1, 10, 1000}));
  }
  return "";
}

std::string ListsOfDocuments(DistanceBackend& tested,
                             DistanceBackend& reference, uint64_t seed) {
  Random random(seed);
  return ForEachKind([&](ElementType type, bool cosine) {
    std::vector<size_t> lengths = Lengths(random, 200, 20);
    lengths[7] = 400;
    lengths[8] = 0;
    const Documents documents(lengths, 64, type, cosine, Noises(random));
    const Queries queries(documents, {4, 9, 70, 1, 32, 2}, Noises(random));
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
    // Nothing at all, and then something: no answer is that of the call before.
    Lists nothing;
    for (size_t i = 0; i < queries.num(); ++i) nothing.Add({});
    TokenComparison in_turn(tested, reference, documents);
    VICINAL_CHECK_CASE(in_turn.Load());
    VICINAL_CHECK_CASE(in_turn.Ask(queries, 5, &nothing));
    for (int round = 0; round < 5; ++round) {
      VICINAL_CHECK_CASE(in_turn.Ask(queries, 5, &lists, &nothing));
      VICINAL_CHECK_CASE(in_turn.Ask(queries, 5, &nothing, &lists));
    }
    return std::string();
  });
}

std::string EmptyDocuments(DistanceBackend& tested, DistanceBackend& reference,
                           uint64_t seed) {
  Random random(seed);
  for (const size_t num : {0, 1, 100}) {
    const Documents documents(std::vector<size_t>(num, 0), 32, kF16, false,
                              Noises(random));
    const Queries queries(documents, {3, 40}, Noises(random));
    VICINAL_CHECK_CASE(AskAll(tested, reference, documents, queries, {1, 10}));
  }
  std::vector<size_t> lengths(500, 0);
  lengths[3] = 5;
  lengths[499] = 2;
  const Documents documents(lengths, 32, kF16, false, Noises(random));
  const Queries queries(documents, {3, 40}, Noises(random));
  return AskAll(tested, reference, documents, queries, {1, 2, 3, 100});
}

// Sums that overflow, squares that are too small, and both in one segment.
std::string Magnitudes(DistanceBackend& tested, DistanceBackend& reference,
                       uint64_t seed) {
  Random random(seed);
  for (const ElementType type : {kF32, kBf16}) {
    for (const bool cosine : {false, true}) {
      for (const auto& [of_docs, of_queries] : {std::pair(1e-30f, 1.0f),
                                                {1e15f, 1e15f},
                                                {1e25f, 1e25f},
                                                {1e-41f, 1e-30f},
                                                {3e37f, 1e-20f},
                                                {0.0f, 1.0f},
                                                {1.0f, 0.0f}}) {
        for (const bool mixed : {false, true}) {
          const auto fill = [&](size_t, std::span<float> out) {
            const bool other = mixed && random.Uniform(3) == 0;
            Noises(random, other ? 1.0f : of_docs)(0, out);
          };
          const Documents documents(Lengths(random, 60, 12), 40, type, cosine,
                                    fill);
          const Queries queries(documents, {3, 10, 1},
                                Noises(random, of_queries), &random);
          VICINAL_CHECK_CASE(
              AskAll(tested, reference, documents, queries, {1, 10, 70}));
        }
      }
    }
  }
  return "";
}

// The least and the largest numbers that halves have.
std::string Halves(DistanceBackend& tested, DistanceBackend& reference,
                   uint64_t seed) {
  Random random(seed);
  for (const bool cosine : {false, true}) {
    for (const float scale : {6e-8f, 1e-5f, 3e4f}) {
      const Documents documents(Lengths(random, 100, 20), 72, kF16, cosine,
                                Noises(random, scale));
      const Queries queries(documents, {4, 20}, Noises(random));
      VICINAL_CHECK_CASE(
          AskAll(tested, reference, documents, queries, {1, 10}));
    }
  }
  return "";
}

std::string ManyDocuments(DistanceBackend& tested, DistanceBackend& reference,
                          uint64_t seed) {
  Random random(seed);
  const Documents documents(Lengths(random, 20'000, 3), 24, kF16, true,
                            Noises(random));
  const Queries queries(documents, {3, 2}, Noises(random));
  return AskAll(tested, reference, documents, queries, {1, 100, 1024});
}

// More queries than one batch has.
std::string ManyQueries(DistanceBackend& tested, DistanceBackend& reference,
                        uint64_t seed) {
  Random random(seed);
  const Documents documents(Lengths(random, 60, 10), 32, kF16, true,
                            Noises(random));
  std::vector<size_t> lengths = Lengths(random, 150, 11);
  for (size_t& length : lengths) ++length;
  const Queries queries(documents, lengths, Noises(random), &random);
  VICINAL_CHECK_CASE(AskAll(tested, reference, documents, queries, {3, 100}));
  Lists lists;
  for (size_t q = 0; q < queries.num(); ++q) {
    std::vector<RowId> list(random.Uniform(20));
    for (RowId& doc : list) doc = static_cast<RowId>(random.Uniform(60));
    lists.Add(list);
  }
  return AskAll(tested, reference, documents, queries, {2, 7}, &lists);
}

std::string LongDocuments(DistanceBackend& tested, DistanceBackend& reference,
                          uint64_t seed) {
  Random random(seed);
  std::vector<size_t> lengths = Lengths(random, 50, 40);
  lengths[0] = 9000;
  lengths[20] = 2047;
  lengths[49] = 4001;
  // As they are, and with scales; whole slices of 64 dimensions and a half one.
  for (const bool cosine : {true, false}) {
    for (const size_t dim : {16, 96, 200}) {
      const Documents documents(lengths, dim, kF16, cosine, Noises(random));
      const Queries queries(documents, {10, 3, 66}, Noises(random));
      VICINAL_CHECK_CASE(
          AskAll(tested, reference, documents, queries, {1, 10, 60}));
    }
  }
  return "";
}

// The size that benchmarks have, and one of ragged lengths.
std::string Large(DistanceBackend& tested, DistanceBackend& reference,
                  uint64_t seed) {
  Random random(seed);
  for (const ElementType type : {kF16, kF32}) {
    std::vector<size_t> lengths(5000, 300);
    if (type == kF32) {
      lengths = Lengths(random, 5000, 560);
    }
    const Documents documents(lengths, 128, type, true, Noises(random));
    const Queries queries(documents, {32, 32, 7, 128}, Noises(random));
    VICINAL_CHECK_CASE(
        AskAll(tested, reference, documents, queries, {10, 100}));
  }
  return "";
}

constexpr ConformanceCase kCases[] = {
    {"maxsim_shapes", Shapes},
    {"maxsim_long_queries", LongQueries},
    {"maxsim_long_tokens", LongTokens},
    {"maxsim_weights", Weights},
    {"maxsim_ties", Ties},
    {"maxsim_near_ties", NearTies},
    {"maxsim_lists", ListsOfDocuments},
    {"maxsim_empty_documents", EmptyDocuments},
    {"maxsim_magnitudes", Magnitudes},
    {"maxsim_halves", Halves},
    {"maxsim_many_documents", ManyDocuments},
    {"maxsim_many_queries", ManyQueries},
    {"maxsim_long_documents", LongDocuments},
    {"large_maxsim", Large, true},
};

}  // namespace

std::span<const ConformanceCase> MaxSimCases() { return kCases; }

}  // namespace vicinal::backend_tests
