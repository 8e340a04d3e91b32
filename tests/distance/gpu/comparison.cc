#include "tests/distance/gpu/comparison.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "src/base/top_k.h"

namespace vicinal::backend_tests {
namespace {

constexpr std::byte kPoison{0xCD};
constexpr size_t kGuardBytes = 256;

// n elements of poison and a guard behind them.
template <typename T>
class Output {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit Output(size_t n)
      : size_(n), bytes_(n * sizeof(T) + kGuardBytes, kPoison) {}

  T* data() { return reinterpret_cast<T*>(bytes_.data()); }
  T operator[](size_t i) const {
    T value;
    std::memcpy(&value, bytes_.data() + i * sizeof(T), sizeof(T));
    return value;
  }
  size_t size() const { return size_; }
  bool GuardHolds() const {
    return std::all_of(bytes_.begin() + size_ * sizeof(T), bytes_.end(),
                       [](std::byte b) { return b == kPoison; });
  }
  // The first element whose bits differ; size() when none does.
  size_t FirstDifference(const Output& other) const {
    if (std::memcmp(bytes_.data(), other.bytes_.data(), bytes_.size()) == 0) {
      return size_;
    }
    size_t i = 0;
    while (i < size_ &&
           std::memcmp(bytes_.data() + i * sizeof(T),
                       other.bytes_.data() + i * sizeof(T), sizeof(T)) == 0) {
      ++i;
    }
    return i;
  }

 private:
  size_t size_;
  std::vector<std::byte> bytes_;
};

std::string Shown(float value) {
  char text[48];
  std::snprintf(text, sizeof(text), "%.9g (%08x)", static_cast<double>(value),
                std::bit_cast<uint32_t>(value));
  return text;
}
std::string Shown(uint32_t value) { return std::to_string(value); }
std::string Shown(const Neighbor& neighbor) {
  return "row " + std::to_string(neighbor.row) + " at " +
         Shown(neighbor.distance);
}

// Empty: both are the same. width: elements of one query.
template <typename T>
std::string Difference(const Output<T>& tested, const Output<T>& reference,
                       size_t width) {
  const size_t i = tested.FirstDifference(reference);
  if (i == tested.size()) {
    return tested.GuardHolds() ? "" : "wrote beyond the end of the output";
  }
  size_t num_wrong = 0;
  for (size_t j = i; j < tested.size(); ++j) {
    const T a = tested[j];
    const T b = reference[j];
    num_wrong += std::memcmp(&a, &b, sizeof(T)) != 0;
  }
  std::string text = "element " + std::to_string(i);
  if (width > 0) {
    text = "query " + std::to_string(i / width) + " number " +
           std::to_string(i % width);
  }
  return text + " is " + Shown(tested[i]) + ", not " + Shown(reference[i]) +
         "; " + std::to_string(num_wrong) + " of " +
         std::to_string(tested.size()) + " are wrong";
}

// What the statuses of a call say is wrong.
std::string StatusProblem(BackendStatus tested, BackendStatus reference) {
  if (reference != BackendStatus::kOk) {
    return std::string("the reference answers ") + BackendStatusName(reference);
  }
  if (tested != BackendStatus::kOk) return BackendStatusName(tested);
  return "";
}

std::string At(const std::string& context, const std::string& problem) {
  return problem.empty() ? "" : context + problem;
}

// A report is of this call, and cannot have left out what was returned.
std::string ReportProblem(const BackendReport& report, size_t num_queries,
                          const Output<Neighbor>& found) {
  size_t num_found = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    num_found += found[i].row != kInvalidRow;
  }
  if (report.candidates < num_found) {
    return "reports " + std::to_string(report.candidates) +
           " candidates, fewer than the " + std::to_string(num_found) +
           " neighbours returned";
  }
  if (report.fallbacks > num_queries) {
    return "reports " + std::to_string(report.fallbacks) + " fallbacks";
  }
  return "";
}

constexpr BackendReport kPoisonedReport = {
    .candidates = 0xCDCDCDCDCDCDCDCD >> 40,
    .rounds = 0xCDCDCDCD,
    .repeated = 0xCDCDCDCD,
    .fallbacks = 0xCDCDCDCD};

QueryBatch BatchOf(const Vectors& queries) {
  return {queries.data(), queries.num()};
}

}  // namespace

bool IsSkipped(const std::string& outcome) {
  return outcome.starts_with("skipped: ");
}

std::string Comparison::Context(const std::string& question) const {
  return question + ", " + MetricName(metric_) + " " + TypeName(rows_->type()) +
         ", " + std::to_string(rows_->num()) + " rows x " +
         std::to_string(dim()) + ": ";
}

std::string Comparison::Load(const Vectors& rows, Metric metric) {
  return LoadAs({rows.view(), metric}, rows);
}

std::string Comparison::LoadWritten(const Vectors& rows, Metric metric) {
  const VectorSetView& from = rows.view();
  const size_t row_bytes = from.dim * ElementSize(from.type);
  size_t num_written = 0;
  bool in_order = true;
  const RowWriter write = [&](size_t begin, size_t end, void* out) {
    in_order = in_order && begin == num_written && end > begin;
    num_written = end;
    for (size_t row = begin; row < end; ++row) {
      std::memcpy(static_cast<std::byte*>(out) + (row - begin) * row_bytes,
                  from.row(row), row_bytes);
    }
  };
  SegmentRows segment = {from, metric};
  segment.rows.data = nullptr;
  segment.rows.stride_bytes = 0;
  segment.write = &write;
  std::string problem = LoadAs(segment, rows);
  if (problem.empty() && (!in_order || num_written != rows.num())) {
    problem = At(Context("load"), "rows are not written one after the other");
  }
  return problem;
}

std::string Comparison::LoadPart(const Comparison& whole,
                                 std::span<const RowId> part,
                                 const Vectors& rows, Metric metric) {
  SegmentRows segment = {rows.view(), metric};
  segment.rows.data = nullptr;
  segment.rows.stride_bytes = 0;
  segment.whole = whole.in_tested_.get();
  segment.part = part.data();
  return LoadAs(segment, rows);
}

std::string Comparison::LoadAs(const SegmentRows& segment,
                               const Vectors& rows) {
  rows_ = &rows;
  metric_ = segment.metric;
  const BackendStatus reference =
      reference_.Load({rows.view(), metric_}, &in_reference_);
  const BackendStatus tested = tested_.Load(segment, &in_tested_);
  std::string problem = StatusProblem(tested, reference);
  if (problem.empty() && in_tested_->num_rows() != rows.num()) {
    problem = "num_rows is " + std::to_string(in_tested_->num_rows());
  }
  return At(Context("load"), problem);
}

std::string Comparison::Search(const Vectors& queries, size_t k,
                               const RowSet* accepted) const {
  const std::string context =
      Context("search of " + std::to_string(queries.num()) + " queries, k " +
              std::to_string(k) + (accepted != nullptr ? ", filtered" : ""));
  const uint64_t* const words =
      accepted == nullptr ? nullptr : accepted->words();
  Output<Neighbor> tested(queries.num() * k);
  Output<Neighbor> reference(queries.num() * k);
  BackendReport report = kPoisonedReport;
  const bool with_report = k % 2 == 0;
  std::string problem = StatusProblem(
      tested_.Search(*in_tested_, BatchOf(queries), k, words, tested.data(),
                     with_report ? &report : nullptr),
      reference_.Search(*in_reference_, BatchOf(queries), k, words,
                        reference.data(), nullptr));
  if (problem.empty()) problem = Difference(tested, reference, k);
  if (problem.empty() && with_report) {
    problem = ReportProblem(report, queries.num(), tested);
  }
  return At(context, problem);
}

std::string Comparison::SearchRanges(const Vectors& queries,
                                     std::span<const uint32_t> offsets,
                                     std::span<const RowRange> ranges, size_t k,
                                     const RowSet* accepted) const {
  const std::string context =
      Context("search of " + std::to_string(queries.num()) + " queries in " +
              std::to_string(ranges.size()) + " ranges, k " +
              std::to_string(k) + (accepted != nullptr ? ", filtered" : ""));
  const uint64_t* const words =
      accepted == nullptr ? nullptr : accepted->words();
  const RangeLists lists = {offsets.data(), ranges.data()};
  Output<Neighbor> tested(queries.num() * k);
  Output<Neighbor> reference(queries.num() * k);
  BackendReport report = kPoisonedReport;
  const bool with_report = k % 2 == 0;
  std::string problem = StatusProblem(
      tested_.SearchRanges(*in_tested_, BatchOf(queries), lists, k, words,
                           tested.data(), with_report ? &report : nullptr),
      reference_.SearchRanges(*in_reference_, BatchOf(queries), lists, k, words,
                              reference.data(), nullptr));
  if (problem.empty()) problem = Difference(tested, reference, k);
  if (problem.empty() && with_report) {
    problem = ReportProblem(report, queries.num(), tested);
  }
  return At(context, problem);
}

std::string Comparison::Score(const Vectors& queries,
                              std::span<const uint32_t> offsets,
                              std::span<const RowId> rows) const {
  Output<float> tested(rows.size());
  Output<float> reference(rows.size());
  std::string problem = StatusProblem(
      tested_.Score(*in_tested_, BatchOf(queries), offsets.data(), rows.data(),
                    tested.data()),
      reference_.Score(*in_reference_, BatchOf(queries), offsets.data(),
                       rows.data(), reference.data()));
  if (problem.empty()) problem = Difference(tested, reference, 0);
  return At(Context("scores of " + std::to_string(queries.num()) +
                    " queries with " + std::to_string(rows.size()) + " rows"),
            problem);
}

std::string Comparison::KnnGraph(size_t k) const {
  Output<Neighbor> tested(rows_->num() * k);
  Output<Neighbor> reference(rows_->num() * k);
  BackendReport report = kPoisonedReport;
  const bool with_report = k % 2 == 0;
  std::string problem = StatusProblem(
      tested_.KnnGraph(*in_tested_, k, tested.data(),
                       with_report ? &report : nullptr),
      reference_.KnnGraph(*in_reference_, k, reference.data(), nullptr));
  if (problem.empty()) problem = Difference(tested, reference, k);
  if (problem.empty() && with_report) {
    problem = ReportProblem(report, rows_->num(), tested);
  }
  return At(Context("graph, k " + std::to_string(k)), problem);
}

std::string Comparison::Links(size_t k, const LinkRule& rule) const {
  const size_t n = rows_->num();
  // Not all rows, where there are some to leave out.
  const auto begin = static_cast<RowId>(n > 100 ? 7 : 0);
  const auto end = static_cast<RowId>(n);
  const std::string context =
      Context("links, k " + std::to_string(k) + ", " +
              std::to_string(rule.max_links) + " of each");
  Output<Neighbor> tested((n - begin) * rule.max_links);
  Output<Neighbor> reference((n - begin) * rule.max_links);
  Output<uint32_t> tested_copies(n - begin);
  Output<uint32_t> reference_copies(n - begin);
  const bool with_copies = k % 2 == 0;
  std::string problem = StatusProblem(
      tested_.LinkGraph(*in_tested_, begin, end, k, rule, tested.data(),
                        with_copies ? tested_copies.data() : nullptr, nullptr),
      reference_.LinkGraph(*in_reference_, begin, end, k, rule,
                           reference.data(), reference_copies.data(), nullptr));
  if (problem.empty()) problem = Difference(tested, reference, rule.max_links);
  if (problem.empty() && with_copies) {
    problem = Difference(tested_copies, reference_copies, 0);
  }
  if (!problem.empty()) return At(context, problem);

  // Lists of many lengths, down to none.
  std::vector<Neighbor> graph(n * k);
  if (reference_.KnnGraph(*in_reference_, k, graph.data(), nullptr) !=
      BackendStatus::kOk) {
    return At(context, "no candidates");
  }
  std::vector<uint32_t> offsets = {0};
  std::vector<Neighbor> lists;
  for (size_t row = 0; row < n; ++row) {
    for (size_t i = 0; i < row % (k + 1); ++i) {
      const Neighbor& neighbor = graph[row * k + i];
      if (neighbor.row != kInvalidRow) lists.push_back(neighbor);
    }
    offsets.push_back(static_cast<uint32_t>(lists.size()));
  }
  Output<Neighbor> tested_lists(n * rule.max_links);
  Output<Neighbor> reference_lists(n * rule.max_links);
  problem = StatusProblem(
      tested_.SelectLinks(*in_tested_, n, offsets.data(), lists.data(), rule,
                          tested_lists.data()),
      reference_.SelectLinks(*in_reference_, n, offsets.data(), lists.data(),
                             rule, reference_lists.data()));
  if (problem.empty()) {
    problem = Difference(tested_lists, reference_lists, rule.max_links);
  }
  return At(context + ", of lists", problem);
}

std::string Comparison::Assign(const Vectors& centroids,
                               bool with_distances) const {
  Output<uint32_t> tested(rows_->num());
  Output<uint32_t> reference(rows_->num());
  Output<float> tested_distances(with_distances ? rows_->num() : 0);
  Output<float> reference_distances(with_distances ? rows_->num() : 0);
  const auto* values = static_cast<const float*>(centroids.data());
  std::string problem = StatusProblem(
      tested_.Assign(*in_tested_, values, centroids.num(), tested.data(),
                     with_distances ? tested_distances.data() : nullptr),
      reference_.Assign(*in_reference_, values, centroids.num(),
                        reference.data(),
                        with_distances ? reference_distances.data() : nullptr));
  if (problem.empty()) problem = Difference(tested, reference, 0);
  if (problem.empty()) {
    problem = Difference(tested_distances, reference_distances, 0);
    if (!problem.empty()) problem = "distances: " + problem;
  }
  return At(Context("assignment to " + std::to_string(centroids.num()) +
                    " centroids"),
            problem);
}

}  // namespace vicinal::backend_tests
