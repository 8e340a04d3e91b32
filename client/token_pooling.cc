#include "client/token_pooling.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

namespace vicinal::client {
namespace {

constexpr size_t kStretch = 2'048;

// In eight sums, which the compiler keeps in one register.
float SquaredDistance(const float* a, const float* b, size_t dim) {
  constexpr size_t kLanes = 8;
  float sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) {
      const float d = a[i + l] - b[i + l];
      sums[l] += d * d;
    }
  }
  float sum = 0;
  for (const float lane : sums) sum += lane;
  for (; i < dim; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

void Normalize(std::span<float> vector) {
  double sum = 0;
  for (const float x : vector) sum += double{x} * x;
  if (!(sum > 0) || !std::isfinite(sum)) return;
  const double scale = 1 / std::sqrt(sum);
  for (float& x : vector) x = static_cast<float>(x * scale);
}

// Two clusters, named by tokens in them, that become one.
struct Merge {
  size_t a = 0;
  size_t b = 0;
  float height = 0;
};

// Ward's dendrogram of n tokens, by chains of nearest neighbours (Murtagh):
// Ward's distance is reducible, so merging mutual neighbours as they are met
// gives the same tree as always merging the closest pair.
class Dendrogram {
 public:
  Dendrogram(std::span<const float> tokens, size_t dim)
      : n_(tokens.size() / dim),
        distances_(n_ * n_),
        sizes_(n_, 1),
        is_live_(n_, true) {
    for (size_t i = 0; i < n_; ++i) {
      for (size_t j = 0; j < i; ++j) {
        At(i, j) = At(j, i) = SquaredDistance(tokens.data() + i * dim,
                                              tokens.data() + j * dim, dim);
      }
    }
  }

  // n - 1 merges, those of children before those of their parents.
  std::vector<Merge> Build() {
    std::vector<Merge> merges;
    std::vector<size_t> chain;
    size_t first_live = 0;
    while (merges.size() + 1 < n_) {
      if (chain.empty()) {
        while (!is_live_[first_live]) ++first_live;
        chain.push_back(first_live);
      }
      const size_t top = chain.back();
      const size_t before = chain.size() > 1 ? chain[chain.size() - 2] : kNone;
      const size_t nearest = Nearest(top, before);
      if (nearest != before) {
        chain.push_back(nearest);
        continue;
      }
      const float height = At(top, nearest);
      // Tokens that are no numbers are the server's to refuse.
      merges.push_back({top, nearest, std::isnan(height) ? HUGE_VALF : height});
      Join(std::min(top, nearest), std::max(top, nearest));
      chain.resize(chain.size() - 2);
    }
    return merges;
  }

 private:
  static constexpr size_t kNone = std::numeric_limits<size_t>::max();

  float& At(size_t i, size_t j) { return distances_[i * n_ + j]; }

  // The one before in the chain wins ties, or the chain would not end.
  size_t Nearest(size_t of, size_t before) {
    size_t best = before;
    float distance = before == kNone ? std::numeric_limits<float>::infinity()
                                     : At(of, before);
    for (size_t i = 0; i < n_; ++i) {
      if (!is_live_[i] || i == of) continue;
      if (At(of, i) < distance || best == kNone) {
        distance = At(of, i);
        best = i;
      }
    }
    return best;
  }

  // Cluster b becomes a part of a; distances by Lance and Williams.
  void Join(size_t a, size_t b) {
    const float between = At(a, b);
    is_live_[b] = false;
    for (size_t i = 0; i < n_; ++i) {
      if (!is_live_[i] || i == a) continue;
      const float total = sizes_[a] + sizes_[b] + sizes_[i];
      At(a, i) = At(i, a) =
          ((sizes_[a] + sizes_[i]) * At(a, i) +
           (sizes_[b] + sizes_[i]) * At(b, i) - sizes_[i] * between) /
          total;
    }
    sizes_[a] += sizes_[b];
  }

  const size_t n_;
  std::vector<float> distances_;
  std::vector<float> sizes_;
  std::vector<bool> is_live_;
};

// The cluster of each token, numbered by their first tokens.
std::vector<size_t> Cluster(std::span<const float> tokens, size_t dim,
                            size_t num_clusters) {
  const size_t n = tokens.size() / dim;
  std::vector<Merge> merges = Dendrogram(tokens, dim).Build();
  std::stable_sort(
      merges.begin(), merges.end(),
      [](const Merge& a, const Merge& b) { return a.height < b.height; });
  std::vector<size_t> parent(n);
  std::iota(parent.begin(), parent.end(), 0);
  const auto root = [&](size_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
  };
  for (size_t m = 0; m + num_clusters < n; ++m) {
    const size_t a = root(merges[m].a);
    const size_t b = root(merges[m].b);
    parent[std::max(a, b)] = std::min(a, b);
  }
  std::vector<size_t> number(n);
  size_t next = 0;
  for (size_t i = 0; i < n; ++i) {
    const size_t r = root(i);
    number[i] = r == i ? next++ : number[r];
  }
  return number;
}

void PoolStretch(std::span<const float> tokens, size_t dim, size_t factor,
                 bool unit, std::vector<float>* out) {
  const size_t n = tokens.size() / dim;
  const size_t num_clusters = (n + factor - 1) / factor;
  if (num_clusters == n) {
    out->insert(out->end(), tokens.begin(), tokens.end());
    return;
  }
  const std::vector<size_t> clusters = Cluster(tokens, dim, num_clusters);
  std::vector<double> sums(num_clusters * dim, 0);
  std::vector<size_t> sizes(num_clusters, 0);
  for (size_t t = 0; t < n; ++t) {
    ++sizes[clusters[t]];
    for (size_t i = 0; i < dim; ++i) {
      sums[clusters[t] * dim + i] += tokens[t * dim + i];
    }
  }
  for (size_t c = 0; c < num_clusters; ++c) {
    const size_t begin = out->size();
    for (size_t i = 0; i < dim; ++i) {
      out->push_back(static_cast<float>(sums[c * dim + i] /
                                        static_cast<double>(sizes[c])));
    }
    if (unit) Normalize(std::span(*out).subspan(begin));
  }
}

}  // namespace

std::vector<float> PoolTokens(std::span<const float> tokens, size_t dim,
                              size_t factor, bool unit) {
  std::vector<float> in(tokens.begin(), tokens.end());
  if (factor <= 1 || dim == 0) return in;
  if (unit) {
    for (size_t at = 0; at + dim <= in.size(); at += dim) {
      Normalize(std::span(in).subspan(at, dim));
    }
  }
  // A multiple of the factor, so that as many are left as of one stretch.
  const size_t stretch = std::max<size_t>(1, kStretch / factor) * factor * dim;
  std::vector<float> out;
  for (size_t at = 0; at < in.size(); at += stretch) {
    PoolStretch(std::span<const float>(in).subspan(
                    at, std::min(stretch, in.size() - at)),
                dim, factor, unit, &out);
  }
  return out;
}

}  // namespace vicinal::client
