// Pages of points in the order of a field, and what a filter deletes, of a
// collection of a million points in one sealed segment (or all in memory):
//   scroll_bench [sealed|growing]
// prints the median and the largest time of a call, in ms.
//
// What to expect. A page costs the payloads that it has (10 to 20 us each where
// they are not in the cache), as many entries of the index as it passes, and
// two passes over a bit per point; where most points have the same value, ids
// are read from storage as far as the page reaches. The last page costs what
// the first does. Points that still grow are looked at one by one for every
// page: 30 to 100 ns each.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/payload/filter_text.h"

namespace vicinal {
namespace {

constexpr size_t kPoints = 1'000'000;
constexpr size_t kBatch = 10'000;
constexpr size_t kPage = 100;
constexpr int kCalls = 100;

void Must(const absl::Status& status) {
  if (status.ok()) return;
  absl::FPrintF(stderr, "%s\n", status.ToString());
  std::exit(1);
}

void Wait(const absl::StatusOr<std::shared_ptr<Operation>>& operation) {
  Must(operation.status());
  (*operation)->Wait(std::chrono::steady_clock::time_point::max());
  Must((*operation)->info().status);
}

std::string PayloadOf(Random& random, size_t row) {
  return absl::StrCat(R"({"price": )", random.Uniform(10'000'000),
                      R"(, "shop": )", random.Uniform(10'000),
                      R"(, "kind": "k)", random.Uniform(10), R"(", "sold": )",
                      random.Uniform(2) == 0 ? "true" : "false", R"(, "row": )",
                      row, "}");
}

void Fill(Collection* collection) {
  Random random(42);
  for (size_t first = 0; first < kPoints; first += kBatch) {
    PointBatch batch;
    std::vector<std::string> payloads;
    std::vector<float> vectors;
    for (size_t i = 0; i < kBatch; ++i) {
      batch.ids.emplace_back(first + i);
      payloads.push_back(PayloadOf(random, first + i));
      for (int d = 0; d < 4; ++d) {
        vectors.push_back(static_cast<float>(random.UniformDouble()));
      }
    }
    for (const std::string& payload : payloads) {
      batch.payloads.emplace_back(payload);
    }
    VectorColumn column;
    column.name = "v";
    column.dim = 4;
    column.data = {reinterpret_cast<const char*>(vectors.data()),
                   vectors.size() * sizeof(float)};
    batch.vectors.push_back(column);
    Must(collection->Upsert(batch, {.durability = Durability::kBuffered})
             .status);
  }
}

// call: returns how many points it met.
void Measure(absl::string_view name, const std::function<size_t(int)>& call) {
  std::vector<double> times;
  size_t points = 0;
  double first = 0;
  for (int i = 0; i < kCalls; ++i) {
    const auto start = std::chrono::steady_clock::now();
    points += call(i);
    const std::chrono::duration<double, std::milli> took =
        std::chrono::steady_clock::now() - start;
    if (i == 0) first = took.count();
    times.push_back(took.count());
  }
  std::sort(times.begin(), times.end());
  absl::PrintF("%-40s median %8.2f  first %8.2f  most %8.2f  points %d\n", name,
               times[kCalls / 2], first, times.back(), points / kCalls);
}

void MeasurePages(const Collection& collection, const PayloadField& field,
                  const char* text) {
  for (const bool descending : {false, true}) {
    FilterNode filter;
    if (text != nullptr) filter = *ParseFilter(text);
    ScrollOrder order{.field = field, .descending = descending};
    Measure(absl::StrCat(field.path, descending ? " down, " : " up, ",
                         text == nullptr ? "all" : text),
            [&](int) {
              size_t count = 0;
              Must(collection.ScrollOrdered(
                  order, kPage, {.payload = true}, {},
                  [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
                    count += page.size();
                    order.after = {page.back().key, page.back().id};
                    return false;
                  },
                  text == nullptr ? nullptr : &filter));
              return count;
            });
  }
}

void MeasureIds(const Collection& collection, const char* text) {
  const FilterNode filter = *ParseFilter(text);
  std::optional<PointId> after;
  Measure(absl::StrCat("by id, ", text), [&](int) {
    size_t count = 0;
    Must(collection.Scroll(
        after, kPage, {.payload = true}, {},
        [&](std::vector<StoredPoint> page) -> absl::StatusOr<bool> {
          count += page.size();
          after = page.back().id;
          return false;
        },
        &filter));
    return count;
  });
}

int Run(bool sealed) {
  std::string folder =
      (std::filesystem::temp_directory_path() / "scroll.XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 1;
  DatabaseOptions options;
  if (!sealed) options.growing_segment_bytes = size_t{1} << 30;
  auto database = Database::Open(folder, options);
  Must(database.status());
  CollectionSchema schema;
  schema.name = "p";
  VectorField vector;
  vector.name = "v";
  vector.dim = 4;
  vector.index = IndexKind::kFlat;
  schema.vectors.push_back(vector);
  const PayloadField price{"price", PayloadType::kInt64};
  const PayloadField sold{"sold", PayloadType::kBool};
  schema.payload_fields = {price,
                           sold,
                           {"shop", PayloadType::kInt64},
                           {"kind", PayloadType::kKeyword}};
  auto collection = (*database)->CreateCollection(schema);
  Must(collection.status());
  Fill(collection->get());
  if (sealed) Wait((*collection)->Optimize(1));
  for (const PayloadField& field : {price, sold}) {
    for (const char* text : {static_cast<const char*>(nullptr), "kind = 'k3'",
                             "shop = 77", "shop < 20 AND sold = true"}) {
      MeasurePages(**collection, field, text);
    }
  }
  for (const char* text : {"kind = 'k3'", "shop = 77", "shop < 500"}) {
    MeasureIds(**collection, text);
  }
  Measure("count of a new filter", [&](int i) {
    return *(*collection)
                ->CountMatching(*ParseFilter(absl::StrCat("shop = ", 200 + i)),
                                {});
  });
  Measure("delete of 100 by a new filter", [&](int i) {
    const WriteOutcome outcome =
        (*collection)
            ->DeleteMatching(*ParseFilter(absl::StrCat("shop = ", 300 + i)), {},
                             {});
    Must(outcome.status);
    return outcome.result.num_written;
  });
  collection->reset();
  database->reset();
  std::filesystem::remove_all(folder);
  return 0;
}

}  // namespace
}  // namespace vicinal

int main(int argc, char** argv) {
  return vicinal::Run(argc < 2 || absl::string_view(argv[1]) != "growing");
}
