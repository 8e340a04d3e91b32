#include "bench/check/sparse_peers.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "src/base/types.h"

namespace vicinal::bench {
namespace {

constexpr size_t kWindowRows = 10'000;
constexpr size_t kBlock = 128;

}  // namespace

PlainPostings MakePostings(const SparseMatrix& matrix, size_t num_dims,
                           const Bm25* bm25) {
  PlainPostings out;
  out.num_rows = matrix.num_rows();
  out.begin.assign(num_dims + 1, 0);
  for (const uint32_t dim : matrix.dims) ++out.begin[dim + 1];
  for (size_t i = 0; i < num_dims; ++i) out.begin[i + 1] += out.begin[i];
  out.rows.resize(matrix.dims.size());
  out.weights.resize(matrix.dims.size());
  std::vector<uint64_t> next(out.begin.begin(), out.begin.end() - 1);
  for (size_t row = 0; row < out.num_rows; ++row) {
    const SparseRow entries = matrix.row(row);
    float norm = 0;
    if (bm25 != nullptr) {
      double length = 0;
      for (const float count : entries.weights) length += count;
      norm = bm25->NormOf(static_cast<uint64_t>(length));
    }
    for (size_t i = 0; i < entries.dims.size(); ++i) {
      const float weight = entries.weights[i];
      const uint64_t at = next[entries.dims[i]]++;
      out.rows[at] = static_cast<uint32_t>(row);
      out.weights[at] = bm25 == nullptr ? weight : weight / (weight + norm);
    }
  }
  return out;
}

void SearchExhaustively(const PlainPostings& postings, SparseRow query,
                        TopK* out) {
  std::vector<float> sums(kWindowRows);
  std::vector<uint64_t> next;
  for (const uint32_t dim : query.dims) next.push_back(postings.begin[dim]);
  for (size_t first = 0; first < postings.num_rows; first += kWindowRows) {
    const size_t end = std::min(postings.num_rows, first + kWindowRows);
    std::fill(sums.begin(), sums.end(), 0);
    for (size_t t = 0; t < query.dims.size(); ++t) {
      const uint64_t last = postings.begin[query.dims[t] + 1];
      const float weight = query.weights[t];
      uint64_t i = next[t];
      for (; i < last && postings.rows[i] < end; ++i) {
        sums[postings.rows[i] - first] += weight * postings.weights[i];
      }
      next[t] = i;
    }
    for (size_t row = first; row < end; ++row) {
      const float distance = -sums[row - first];
      if (distance < 0 && distance <= out->threshold()) {
        out->Push({distance, static_cast<RowId>(row)});
      }
    }
  }
}

BlockMaxIndex::BlockMaxIndex(const PlainPostings& postings)
    : postings_(postings) {
  for (size_t dim = 0; dim + 1 < postings.begin.size(); ++dim) {
    block_begin_.push_back(block_most_.size());
    float most = 0;
    for (uint64_t i = postings.begin[dim]; i < postings.begin[dim + 1]; ++i) {
      if ((i - postings.begin[dim]) % kBlock == 0) block_most_.push_back(0);
      block_most_.back() = std::max(block_most_.back(), postings.weights[i]);
      most = std::max(most, postings.weights[i]);
    }
    most_.push_back(most);
  }
}

void BlockMaxIndex::Search(SparseRow query, TopK* out) const {
  struct List {
    uint64_t at, begin, end;
    size_t blocks;
    float weight, most;
  };
  std::vector<List> lists;
  for (size_t t = 0; t < query.dims.size(); ++t) {
    const uint32_t dim = query.dims[t];
    const uint64_t begin = postings_.begin[dim];
    if (begin == postings_.begin[dim + 1]) continue;
    lists.push_back({begin, begin, postings_.begin[dim + 1], block_begin_[dim],
                     query.weights[t], query.weights[t] * most_[dim]});
  }
  std::sort(lists.begin(), lists.end(),
            [](const List& a, const List& b) { return a.most < b.most; });
  std::vector<float> prefix;  // of bounds
  for (const List& list : lists) {
    prefix.push_back((prefix.empty() ? 0 : prefix.back()) + list.most);
  }
  const std::vector<uint32_t>& rows = postings_.rows;
  size_t essential = 0;  // the first list that is
  while (essential < lists.size()) {
    uint32_t row = std::numeric_limits<uint32_t>::max();
    for (size_t i = essential; i < lists.size(); ++i) {
      if (lists[i].at < lists[i].end) row = std::min(row, rows[lists[i].at]);
    }
    if (row == std::numeric_limits<uint32_t>::max()) return;
    float score = 0;
    for (size_t i = essential; i < lists.size(); ++i) {
      List& list = lists[i];
      if (list.at == list.end || rows[list.at] != row) continue;
      score += list.weight * postings_.weights[list.at++];
    }
    const float threshold = -out->threshold();
    bool is_enough = true;
    for (size_t i = essential; i-- > 0;) {
      if (score + prefix[i] < threshold) {
        is_enough = false;
        break;
      }
      List& list = lists[i];
      // Galloping.
      uint64_t step = 1;
      while (list.at + step < list.end && rows[list.at + step] < row) step *= 2;
      list.at = std::lower_bound(
                    rows.begin() + static_cast<ptrdiff_t>(list.at + step / 2),
                    rows.begin() + static_cast<ptrdiff_t>(
                                       std::min(list.end, list.at + step + 1)),
                    row) -
                rows.begin();
      if (list.at == list.end) continue;
      const float block =
          list.weight *
          block_most_[list.blocks + (list.at - list.begin) / kBlock];
      const float below = i > 0 ? prefix[i - 1] : 0;
      if (rows[list.at] == row) {
        if (score + block + below < threshold) {
          is_enough = false;
          break;
        }
        score += list.weight * postings_.weights[list.at];
      }
    }
    if (is_enough && -score <= out->threshold()) out->Push({-score, row});
    while (essential < lists.size() && prefix[essential] < -out->threshold()) {
      ++essential;
    }
  }
}

}  // namespace vicinal::bench
