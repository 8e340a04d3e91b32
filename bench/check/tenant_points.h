// Points of ten thousand tenants, few of them large, and queries of theirs with
// the exact answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/dataset.h"
#include "src/base/random.h"

namespace vicinal::bench {

// Tenants of one size.
struct TenantSize {
  const char* name;
  size_t count;    // tenants
  size_t rows;     // of each, on average
  size_t asked;    // of them, with a collection of their own each
  size_t queries;  // of each of these
};
inline constexpr TenantSize kTenantSizes[] = {{"large", 10, 20'000, 10, 50},
                                              {"middle", 100, 2'000, 40, 12},
                                              {"small", 9'890, 50, 40, 12}};
inline constexpr uint32_t kMaxPrice = 1'000'000;

// Of one tenant, or of no one in particular.
struct TenantQuery {
  static constexpr size_t kAnyTenant = SIZE_MAX;
  size_t tenant = kAnyTenant;
  size_t size = 0;                 // in kTenantSizes
  uint32_t max_price = kMaxPrice;  // excluded
  std::vector<float> vector;
  // Of the k-th nearest, or the last there is.
  float threshold = 0;
  size_t num_answers = 0;
};

// Life: made, then const. Under the cosine; all vectors have length 1.
class TenantPoints {
 public:
  // Around rows of `words`, of which each tenant has some of its own.
  TenantPoints(const FloatMatrix& words, double scale, uint64_t seed);

  // Rows of tenants follow each other in no order.
  const FloatMatrix& rows() const { return rows_; }
  const std::vector<uint32_t>& RowsOf(size_t tenant) const {
    return rows_of_[tenant];
  }
  std::string PayloadOf(size_t row) const;
  // The tenants of one size: first .. first + count.
  size_t FirstOf(size_t size) const { return first_of_[size]; }

  // Near the tenant's words, with answers. Prices below max_price of about
  // `share` of the points.
  TenantQuery MakeQuery(size_t tenant, size_t size, double share, size_t k,
                        Random& random) const;
  // How many of the rows returned are true answers; -1: one does not pass.
  int CountHits(const TenantQuery& query,
                const std::vector<uint32_t>& returned) const;

 private:
  bool Accepts(const TenantQuery& query, uint32_t row) const {
    return prices_[row] < query.max_price &&
           (query.tenant == TenantQuery::kAnyTenant ||
            tenants_[row] == query.tenant);
  }
  std::vector<float> Near(size_t tenant, Random& random) const;
  void FindAnswers(size_t k, TenantQuery* query) const;

  const FloatMatrix& words_;
  FloatMatrix rows_;
  std::vector<uint32_t> tenants_;  // of rows
  std::vector<uint32_t> prices_;
  std::vector<std::vector<uint32_t>> words_of_;  // of tenants
  std::vector<std::vector<uint32_t>> rows_of_;
  std::vector<size_t> first_of_;  // of sizes
};

}  // namespace vicinal::bench
