#include "index/hnsw_graph.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/coding.h"
#include "src/base/status_macros.h"

namespace vicinal {
namespace {

constexpr uint64_t kMagic = 0x3130574E53484356;  // "VCHSNW01" on disk
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 128;
constexpr size_t kNumNodesOffset = 32;
constexpr size_t kHeaderEnd = kNumNodesOffset + 4 * kMaxHnswLevels;
constexpr size_t kAlignment = 64;

constexpr size_t AlignUp(size_t n) {
  return (n + kAlignment - 1) / kAlignment * kAlignment;
}

absl::Status Corrupt(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("HNSW graph is damaged: ", what));
}

// Takes `count` words, then the padding, off the front of *rest.
absl::StatusOr<const uint32_t*> TakeWords(size_t count,
                                          absl::string_view* rest) {
  if (count > rest->size() / 4) return Corrupt("it is too short");
  const size_t size = AlignUp(count * 4);
  if (size > rest->size()) return Corrupt("it is too short");
  for (char c : rest->substr(count * 4, size - count * 4)) {
    if (c != 0) return Corrupt("padding is not zero");
  }
  const auto* words = reinterpret_cast<const uint32_t*>(rest->data());
  rest->remove_prefix(size);
  return words;
}

absl::Status CheckLinks(const HnswLevel& level, size_t degree) {
  for (size_t slot = 0; slot < level.num_nodes; ++slot) {
    const uint32_t* links = level.LinksOf(slot);
    bool ended = false;
    for (size_t i = 0; i < level.stride; ++i) {
      if (links[i] == kNoLink) {
        ended = true;
      } else if (ended || i >= degree || links[i] >= level.num_nodes) {
        return Corrupt(absl::StrCat("bad link ", links[i], " of node ", slot));
      }
    }
  }
  return absl::OkStatus();
}

// Rows ascend within the level and `down` leads to the same row below.
absl::Status CheckMembers(const HnswLevel& level, const HnswLevel& below,
                          size_t num_rows) {
  for (size_t slot = 0; slot < level.num_nodes; ++slot) {
    if (level.rows[slot] >= num_rows ||
        (slot > 0 && level.rows[slot] <= level.rows[slot - 1])) {
      return Corrupt("rows of a level do not ascend");
    }
    if (level.down[slot] >= below.num_nodes ||
        below.RowOf(level.down[slot]) != level.rows[slot]) {
      return Corrupt("a node is missing one level below");
    }
  }
  return absl::OkStatus();
}

void PutWords(std::span<const uint32_t> words, std::string* out) {
  out->append(reinterpret_cast<const char*>(words.data()), words.size() * 4);
  out->resize(AlignUp(out->size()), '\0');
}

}  // namespace

absl::StatusOr<HnswGraph> ParseHnswGraph(absl::string_view bytes,
                                         size_t num_rows) {
  if (bytes.size() < kHeaderBytes) return Corrupt("it is too short");
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(uint32_t) != 0) {
    return absl::InvalidArgumentError("HNSW graph is not aligned to 4 bytes");
  }
  const auto word = [&](size_t offset) {
    return GetFixed<uint32_t>(bytes.data() + offset);
  };
  if (GetFixed<uint64_t>(bytes.data()) != kMagic) return Corrupt("no magic");
  if (word(8) != kVersion) {
    return Corrupt(
        absl::StrCat("version ", word(8), ", this build reads ", kVersion));
  }
  HnswGraph graph;
  graph.m = word(12);
  graph.entry = word(24);
  const size_t num_levels = word(20);
  if (graph.m == 0 || graph.m > 1024) return Corrupt("m out of range");
  if (num_rows >= kMaxHnswRows || word(16) != num_rows) {
    return Corrupt(
        absl::StrCat("it has ", word(16), " rows, the vectors ", num_rows));
  }
  if (num_levels > kMaxHnswLevels || (num_levels == 0) != (num_rows == 0)) {
    return Corrupt("number of levels out of range");
  }
  if (word(28) != 0) return Corrupt("reserved bytes are not zero");
  for (size_t i = kHeaderEnd; i < kHeaderBytes; ++i) {
    if (bytes[i] != 0) return Corrupt("reserved bytes are not zero");
  }
  absl::string_view rest = bytes.substr(kHeaderBytes);
  for (size_t l = 0; l < kMaxHnswLevels; ++l) {
    const size_t num_nodes = word(kNumNodesOffset + 4 * l);
    if (l >= num_levels) {
      if (num_nodes != 0) return Corrupt("nodes above the top level");
      continue;
    }
    const size_t degree = l == 0 ? 2 * graph.m : graph.m;
    HnswLevel level{.num_nodes = num_nodes, .stride = HnswLinkStride(degree)};
    if (l == 0 ? num_nodes != num_rows
               : num_nodes == 0 || num_nodes > graph.levels[l - 1].num_nodes) {
      return Corrupt("number of nodes out of range");
    }
    if (l > 0) {
      VICINAL_ASSIGN_OR_RETURN(level.rows, TakeWords(num_nodes, &rest));
      VICINAL_ASSIGN_OR_RETURN(level.down, TakeWords(num_nodes, &rest));
      VICINAL_RETURN_IF_ERROR(
          CheckMembers(level, graph.levels[l - 1], num_rows));
    }
    VICINAL_ASSIGN_OR_RETURN(level.links,
                             TakeWords(num_nodes * level.stride, &rest));
    VICINAL_RETURN_IF_ERROR(CheckLinks(level, degree));
    graph.levels.push_back(level);
  }
  if (!rest.empty()) return Corrupt("bytes after its end");
  if (num_levels > 0 && graph.entry >= graph.levels.back().num_nodes) {
    return Corrupt("entry out of range");
  }
  return graph;
}

std::string SerializeHnswGraph(const HnswGraph& graph) {
  size_t size = kHeaderBytes;
  for (const HnswLevel& level : graph.levels) {
    size += AlignUp(4 * level.num_nodes * level.stride);
    if (level.rows != nullptr) size += 2 * AlignUp(4 * level.num_nodes);
  }
  std::string out;
  out.reserve(size);
  PutFixed<uint64_t>(&out, kMagic);
  PutFixed<uint32_t>(&out, kVersion);
  PutFixed<uint32_t>(&out, graph.m);
  PutFixed<uint32_t>(&out,
                     graph.levels.empty() ? 0 : graph.levels[0].num_nodes);
  PutFixed<uint32_t>(&out, graph.levels.size());
  PutFixed<uint32_t>(&out, graph.entry);
  PutFixed<uint32_t>(&out, 0);
  for (const HnswLevel& level : graph.levels) {
    PutFixed<uint32_t>(&out, level.num_nodes);
  }
  out.resize(kHeaderBytes, '\0');
  for (const HnswLevel& level : graph.levels) {
    if (level.rows != nullptr) {
      PutWords({level.rows, level.num_nodes}, &out);
      PutWords({level.down, level.num_nodes}, &out);
    }
    PutWords({level.links, level.num_nodes * level.stride}, &out);
  }
  return out;
}

}  // namespace vicinal
