#include "src/engine/partition_ranks.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "src/base/status_macros.h"
#include "src/engine/row_filter.h"
#include "src/engine/segment_keys.h"
#include "src/payload/field_index.h"
#include "src/payload/payload_key.h"

namespace vicinal {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

// Numbers keys as they come, then by their order.
class Numbering {
 public:
  // The row's least key wins.
  void Add(absl::string_view key, uint32_t* number) {
    const auto [known, is_new] =
        numbers_.try_emplace(key, static_cast<uint32_t>(keys_.size()));
    if (is_new) keys_.push_back(&known->first);
    if (*number == kNone || key < *keys_[*number]) *number = known->second;
  }
  // Of each number its place in the order of the keys.
  std::vector<uint32_t> Ranks() const {
    std::vector<uint32_t> order(keys_.size());
    for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(),
              [&](uint32_t a, uint32_t b) { return *keys_[a] < *keys_[b]; });
    std::vector<uint32_t> ranks(order.size());
    for (uint32_t i = 0; i < order.size(); ++i) ranks[order[i]] = i;
    return ranks;
  }

 private:
  absl::node_hash_map<std::string, uint32_t> numbers_;  // keys do not move
  std::vector<const std::string*> keys_;
};

absl::Status AddKeys(const PayloadField& field, const CollectionStore& store,
                     const Segment& segment, const StopCondition& stop,
                     Numbering* numbering, std::vector<uint32_t>* numbers) {
  const auto add = [&](RowId row, absl::string_view key) {
    numbering->Add(key, &(*numbers)[row]);
  };
  const std::span<const PayloadField> fields(&field, 1);
  const auto is_dead = [&](RowId row) { return segment.IsDead(row); };
  const size_t num_rows = numbers->size();
  if (segment.has_columns()) {
    VICINAL_RETURN_IF_ERROR(segment.keys().GrowColumns(
        fields, num_rows,
        [&](size_t begin, size_t end, SegmentKeys::VisitPayload visit) {
          return VisitPayloads(store, segment, begin, end, stop, is_dead,
                               visit);
        }));
    segment.keys().VisitColumn(field, num_rows, add);
    return absl::OkStatus();
  }
  if (const auto index = segment.keys().Find(field)) {
    for (size_t i = 0; i < index->num_keys(); ++i) {
      for (const RowId row : index->rows(i)) add(row, index->key(i));
    }
    return absl::OkStatus();
  }
  return VisitPayloads(
      store, segment, 0, num_rows, stop, is_dead,
      [&](RowId row, absl::string_view payload) {
        ForEachKey(payload, fields,
                   [&](size_t, absl::string_view key) { add(row, key); });
      });
}

}  // namespace

absl::StatusOr<std::vector<std::vector<uint32_t>>> RankPartitions(
    const CollectionSchema& schema, const CollectionStore& store,
    const std::vector<std::shared_ptr<Segment>>& segments,
    const CancelToken* cancel) {
  std::vector<std::vector<uint32_t>> out;
  const PayloadField* field = schema.FindPartitionKey();
  if (field == nullptr) return out;
  StopCondition stop;
  stop.cancelled = [cancel] { return cancel->cancelled(); };
  Numbering numbering;
  for (const auto& segment : segments) {
    out.emplace_back(segment->num_rows(), kNone);
    VICINAL_RETURN_IF_ERROR(
        AddKeys(*field, store, *segment, stop, &numbering, &out.back()));
  }
  const std::vector<uint32_t> ranks = numbering.Ranks();
  for (std::vector<uint32_t>& numbers : out) {
    for (uint32_t& number : numbers) {
      if (number != kNone) number = ranks[number];
    }
  }
  return out;
}

}  // namespace vicinal
