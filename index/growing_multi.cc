#include "index/growing_multi.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/multi_field.h"
#include "quant/token_codec.h"
#include "src/base/bitmap.h"
#include "src/base/check.h"
#include "src/base/stable_chunks.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"

namespace vicinal {
namespace {

// Memory is taken in blocks of so many bytes, the first ones smaller; a row
// that is longer has its own.
constexpr size_t kMinBlock = 4 << 10;
constexpr size_t kMaxBlock = 1 << 20;
// Coded at a time.
constexpr size_t kCodedTokens = 64;

}  // namespace

struct GrowingMultiField::State {
  State(const MultiSpec& s, size_t max_rows)
      : spec(s), rows(max_rows), dead(max_rows) {
    // Without training, which nothing but the dimension can make fail.
    auto made =
        TokenCodec::Train(TokenCodecKind::kInt8, s.dim, {}, 0, 1, nullptr);
    VICINAL_CHECK(made.ok());
    codec = *std::move(made);
  }

  struct Row {
    const std::byte* tokens = nullptr;
    const uint8_t* records = nullptr;
    size_t num_tokens = 0;
  };

  // Bytes that do not move.
  std::byte* Take(size_t size) {
    // Rows begin where any element may.
    size = (size + 7) / 8 * 8;
    if (size > kMaxBlock / 4) return AddBlock(size);
    if (size > block_left) {
      next_block = std::min(2 * next_block, kMaxBlock);
      block_left = std::max(size, next_block);
      block = AddBlock(block_left);
    }
    std::byte* out = block;
    block += size;
    block_left -= size;
    return out;
  }
  std::byte* AddBlock(size_t size) {
    blocks.push_back(std::make_unique_for_overwrite<std::byte[]>(size));
    memory_bytes += size;
    return blocks.back().get();
  }

  const MultiSpec spec;
  std::unique_ptr<const TokenCodec> codec;
  StableVector<Row> rows;
  AtomicBitmap dead;
  std::vector<std::unique_ptr<std::byte[]>> blocks;  // appending thread only
  std::byte* block = nullptr;
  size_t block_left = 0;
  size_t next_block = kMinBlock;
  size_t memory_bytes = 0;
  std::atomic<size_t> token_bytes = 0;
  std::atomic<size_t> record_bytes = 0;
  std::vector<float> floats;  // scratch of Append, of kCodedTokens
};

GrowingMultiField::GrowingMultiField(const MultiSpec& spec, size_t max_rows)
    : state_(std::make_unique<State>(spec, max_rows)) {}
GrowingMultiField::~GrowingMultiField() = default;

void GrowingMultiField::Append(absl::string_view tokens) {
  State& s = *state_;
  State::Row row;
  row.num_tokens = tokens.size() / s.spec.token_bytes();
  if (row.num_tokens > 0) {
    std::byte* copy = s.Take(tokens.size());
    std::memcpy(copy, tokens.data(), tokens.size());
    const size_t code_bytes = row.num_tokens * s.codec->record_bytes();
    auto* records = reinterpret_cast<uint8_t*>(s.Take(code_bytes));
    s.floats.resize(kCodedTokens * s.spec.dim);
    for (size_t first = 0; first < row.num_tokens; first += kCodedTokens) {
      const size_t count = std::min(kCodedTokens, row.num_tokens - first);
      LoadTokens(s.spec, {copy, row.num_tokens}, first, count, s.floats.data());
      s.codec->Encode({s.floats.data(), count, s.spec.dim, s.spec.dim},
                      records + first * s.codec->record_bytes());
    }
    row.tokens = copy;
    row.records = records;
    s.token_bytes.fetch_add(tokens.size(), std::memory_order_relaxed);
    s.record_bytes.fetch_add(code_bytes, std::memory_order_relaxed);
  }
  s.rows.PushBack(row);
}

TokenRows GrowingMultiField::TokensOf(RowId row) const {
  const State::Row& found = state_->rows[row];
  return {found.tokens, found.num_tokens};
}

absl::Status GrowingMultiField::Search(const MultiQuery& query,
                                       const MultiSearchParams& params,
                                       const Filter& filter, RowId begin,
                                       RowId end, const StopCondition& stop,
                                       TopK* out, SearchStats* stats,
                                       MultiStats* multi) const {
  const State& s = *state_;
  const size_t num_exact = std::max(
      {params.k, params.exact_candidates, 2 * params.k, kMinExactCandidates});
  const TokenCodeQuery coded =
      s.codec->Prepare(query.tokens(), query.weights());
  std::vector<float> scratch(16 * coded.num_panels);
  std::vector<Neighbor> estimates;
  TopK best(params.k);
  MultiStats work;
  SearchStats done;
  size_t since_check = 0;
  const auto check = [&](RowId row) {
    since_check += s.rows[row].num_tokens;
    if (since_check < kTokensPerCheck) return absl::OkStatus();
    since_check = 0;
    return stop.Check();
  };
  const auto compare = [&](RowId row) {
    const float distance = -query.Score(TokensOf(row));
    out->Push({distance, row});
    best.Push({distance, row});
    ++work.num_exact;
    done.distance_computations += s.rows[row].num_tokens;
    return distance;
  };
  for (RowId row = begin; row < end; ++row) {
    const State::Row& tokens = s.rows[row];
    if (tokens.num_tokens == 0 || s.dead.Test(row)) continue;
    if (row < filter.begin || row >= filter.end ||
        (filter.allowed != nullptr && !filter.allowed->Test(row))) {
      continue;
    }
    VICINAL_RETURN_IF_ERROR(check(row));
    if (params.exact) {
      compare(row);
      continue;
    }
    ++work.num_candidates;
    done.distance_computations += tokens.num_tokens;
    estimates.push_back({-s.codec->Score(coded, tokens.records,
                                         tokens.num_tokens, scratch.data()),
                         row});
  }
  // The best by codes, and as many more as could be among the k best if their
  // estimates are as wrong as the worst of those that were compared.
  std::sort(estimates.begin(), estimates.end());
  float most_wrong = 0;
  size_t compared = 0;
  for (size_t wanted = num_exact; compared < estimates.size();) {
    for (; compared < std::min(wanted, estimates.size()); ++compared) {
      const Neighbor& estimate = estimates[compared];
      VICINAL_RETURN_IF_ERROR(check(estimate.row));
      most_wrong =
          std::max(most_wrong, estimate.distance - compare(estimate.row));
    }
    const Neighbor last{best.threshold() + most_wrong, kInvalidRow};
    wanted = static_cast<size_t>(
        std::upper_bound(estimates.begin(), estimates.end(), last) -
        estimates.begin());
    if (wanted <= compared) break;
  }
  if (work.num_exact > 0) {
    done.plan = params.exact ? SearchPlan::kScan : SearchPlan::kCodes;
  }
  AddWork(done, work, stats, multi);
  return absl::OkStatus();
}

size_t GrowingMultiField::token_bytes() const {
  return state_->token_bytes.load(std::memory_order_relaxed);
}
size_t GrowingMultiField::index_bytes() const {
  return state_->record_bytes.load(std::memory_order_relaxed);
}
size_t GrowingMultiField::memory_bytes() const { return state_->memory_bytes; }

void GrowingMultiField::Kill(RowId row) { state_->dead.Set(row); }

}  // namespace vicinal
