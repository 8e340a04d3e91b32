// Facets over a million rows in memory-mapped indexes, by the number of
// different values, the segments that hold the rows and the share of the rows
// that count (of all, none is looked at):
//   facet_bench --benchmark_filter=values:100/
//
// What to expect. Few values of rows that all count cost nothing; a row that is
// looked at costs about a nanosecond while its bit is in cache; a key costs
// some 15 ns, and 60 where four segments have it or keys beside it.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "src/base/bitmap.h"
#include "src/base/random.h"
#include "src/engine/field_aggregates.h"
#include "src/payload/field_index.h"

namespace vicinal {
namespace {

constexpr size_t kRows = 1'000'000;
const PayloadField kField{"word", PayloadType::kKeyword};

using Indexes = std::vector<std::shared_ptr<const FieldIndex>>;

// One per segment; the values of rows are random.
Indexes MakeIndexes(size_t num_values, size_t num_segments) {
  std::string folder =
      (std::filesystem::temp_directory_path() / "facet.XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) std::abort();
  Random random(42);
  Indexes indexes;
  const size_t num_rows = kRows / num_segments;
  for (size_t segment = 0; segment < num_segments; ++segment) {
    FieldIndexBuilder builder(kField);
    for (size_t row = 0; row < num_rows; ++row) {
      builder.Add(static_cast<RowId>(row),
                  absl::StrFormat("value-%08d", random.Uniform(num_values)));
    }
    const std::string path = absl::StrCat(folder, "/", segment, ".fidx");
    if (!builder.Write(path, segment, num_rows).ok()) std::abort();
    auto index = FieldIndex::Open(path, kField, segment, num_rows);
    if (!index.ok()) std::abort();
    indexes.push_back(*std::move(index));
  }
  std::filesystem::remove_all(folder);
  return indexes;
}

void Facet(benchmark::State& state) {
  const auto num_values = static_cast<size_t>(state.range(0));
  const auto num_segments = static_cast<size_t>(state.range(1));
  const auto percent = static_cast<uint64_t>(state.range(2));
  static std::map<std::pair<size_t, size_t>, Indexes> made;
  Indexes& indexes = made[{num_values, num_segments}];
  if (indexes.empty()) indexes = MakeIndexes(num_values, num_segments);
  Random random(43);
  Bitmap accepted(kRows / num_segments);
  for (size_t row = 0; row < accepted.num_bits(); ++row) {
    if (random.Uniform(100) < percent) accepted.Set(static_cast<RowId>(row));
  }
  FacetQuery query{.field = kField};
  query.limit = static_cast<size_t>(state.range(3));
  for (auto _ : state) {
    std::vector<KeySource> sources;
    for (const auto& index : indexes) {
      sources.emplace_back(
          index,
          percent == 100 ? std::nullopt : std::optional<Bitmap>(accepted), "");
    }
    auto result = MergeFacets(std::move(sources), query, {});
    benchmark::DoNotOptimize(result);
  }
}

BENCHMARK(Facet)
    ->ArgNames({"values", "segments", "percent", "limit"})
    ->ArgsProduct({{100, 100'000, 10'000'000}, {1, 4}, {1, 50, 100}, {0, 10}})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace vicinal

BENCHMARK_MAIN();
