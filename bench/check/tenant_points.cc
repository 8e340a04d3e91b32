#include "bench/check/tenant_points.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/top_k.h"
#include "src/distance/distance.h"

namespace vicinal::bench {
namespace {

// Rows around one word.
constexpr size_t kRowsPerWord = 10;
// Of a word's length, over all dimensions.
constexpr double kNoise = 0.4;

}  // namespace

TenantPoints::TenantPoints(const FloatMatrix& words, double scale,
                           uint64_t seed)
    : words_(words), rows_{.dim = words.dim} {
  Random random(seed);
  for (const TenantSize& size : kTenantSizes) {
    first_of_.push_back(words_of_.size());
    for (size_t i = 0; i < size.count; ++i) {
      const auto tenant = static_cast<uint32_t>(words_of_.size());
      // From a half to one and a half times the mean.
      const auto count = static_cast<size_t>(
          scale *
          static_cast<double>(size.rows / 2 + random.Uniform(size.rows + 1)));
      tenants_.insert(tenants_.end(), std::max<size_t>(1, count), tenant);
      std::vector<uint32_t>& of = words_of_.emplace_back();
      for (size_t w = 0; w <= count / kRowsPerWord; ++w) {
        of.push_back(static_cast<uint32_t>(random.Uniform(words.num_rows)));
      }
    }
  }
  for (size_t i = tenants_.size(); i > 1; --i) {
    std::swap(tenants_[i - 1], tenants_[random.Uniform(i)]);
  }
  rows_.num_rows = tenants_.size();
  rows_.values.reserve(rows_.num_rows * rows_.dim);
  rows_of_.resize(words_of_.size());
  for (uint32_t row = 0; row < tenants_.size(); ++row) {
    const std::vector<float> vector = Near(tenants_[row], random);
    rows_.values.insert(rows_.values.end(), vector.begin(), vector.end());
    rows_of_[tenants_[row]].push_back(row);
    prices_.push_back(static_cast<uint32_t>(random.Uniform(kMaxPrice)));
  }
}

std::vector<float> TenantPoints::Near(size_t tenant, Random& random) const {
  const std::vector<uint32_t>& words = words_of_[tenant];
  const float* word = words_.row(words[random.Uniform(words.size())]);
  const double noise = kNoise / std::sqrt(static_cast<double>(words_.dim));
  std::vector<float> out(word, word + words_.dim);
  for (float& value : out) {
    value += static_cast<float>(noise * random.Gaussian());
  }
  NormalizeInto(out.data(), out.size(), out.data());
  return out;
}

std::string TenantPoints::PayloadOf(size_t row) const {
  return absl::StrCat(R"({"tenant":"t)", tenants_[row], R"(","price":)",
                      prices_[row], "}");
}

TenantQuery TenantPoints::MakeQuery(size_t tenant, size_t size, double share,
                                    size_t k, Random& random) const {
  TenantQuery query{.tenant = tenant, .size = size};
  if (share < 1) {  // never the same twice
    query.max_price = static_cast<uint32_t>(
        kMaxPrice * (share + 0.1 * (random.UniformDouble() - 0.5)));
  }
  query.vector = Near(tenant == TenantQuery::kAnyTenant
                          ? tenants_[random.Uniform(tenants_.size())]
                          : tenant,
                      random);
  FindAnswers(k, &query);
  return query;
}

void TenantPoints::FindAnswers(size_t k, TenantQuery* query) const {
  const DistanceOps& ops = OpsFor(Metric::kInnerProduct, ElementType::kFloat32);
  TopK nearest(k);
  const auto take = [&](uint32_t row) {
    if (!Accepts(*query, row)) return;
    nearest.Push(
        {ops.one(query->vector.data(), rows_.row(row), rows_.dim), row});
  };
  if (query->tenant == TenantQuery::kAnyTenant) {
    for (uint32_t row = 0; row < rows_.num_rows; ++row) take(row);
  } else {
    for (const uint32_t row : rows_of_[query->tenant]) take(row);
  }
  const std::vector<Neighbor> answers = nearest.TakeSorted();
  query->num_answers = answers.size();
  if (!answers.empty()) query->threshold = answers.back().distance;
}

int TenantPoints::CountHits(const TenantQuery& query,
                            const std::vector<uint32_t>& returned) const {
  const DistanceOps& ops = OpsFor(Metric::kInnerProduct, ElementType::kFloat32);
  if (returned.size() != query.num_answers) return -1;
  int hits = 0;
  for (const uint32_t row : returned) {
    if (!Accepts(query, row)) return -1;
    hits += ops.one(query.vector.data(), rows_.row(row), rows_.dim) <=
            query.threshold;
  }
  return hits;
}

}  // namespace vicinal::bench
