#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "quant/codec.h"
#include "quant/linear_algebra.h"
#include "quant/plan.h"
#include "quant/rotation.h"
#include "quant/scalar_levels.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"
#include "src/base/top_k.h"
#include "src/base/workers.h"
#include "src/distance/distance.h"

namespace vicinal {
namespace {

constexpr size_t kMaxTrainingRows = 65'536;
constexpr size_t kMinTrainingRows = 16'384;
constexpr size_t kTrainingRowsPerDim = 20;
// Plans are compared on this many rows and queries, by the error over the
// nearest rows: those are what a search must tell apart.
constexpr size_t kTrialRows = 2'000;
constexpr size_t kTrialQueries = 100;
constexpr size_t kTrialNearest = 200;
// Of an earlier plan's error: a later one must be below it to be taken.
constexpr double kWorthIt = 0.99;
// The same of a second basis, which makes a codec larger.
constexpr double kWorthTwoBases = 0.95;
// Rows count for so much of the queries' moments, so that a query unlike the
// sample, but like a row, is not estimated much worse.
constexpr double kShareOfRows = 0.05;
constexpr size_t kQueriesPerDim = 4;
constexpr size_t kMaxTrainingQueries = 16'384;

size_t NumTrainingRows(size_t num_rows, size_t dim) {
  return std::min({num_rows, kMaxTrainingRows,
                   std::max(kMinTrainingRows, kTrainingRowsPerDim * dim)});
}

}  // namespace

// Learns one codec. Used once, on one thread.
class CodecTrainer {
 public:
  CodecTrainer(VectorSetView rows, Metric metric, const CodecParams& params,
               size_t num_threads, const CancelToken* cancel,
               const RowCentres* centres, VectorSetView queries)
      : rows_(rows),
        metric_(metric),
        params_(params),
        workers_(num_threads),
        cancel_(cancel),
        centres_(centres),
        query_rows_(queries) {}

  absl::StatusOr<std::unique_ptr<const Codec>> Run();

 private:
  absl::Status Validate() const;
  absl::Status CheckCancelled() const {
    return cancel_ != nullptr && cancel_->cancelled()
               ? absl::CancelledError("training cancelled")
               : absl::OkStatus();
  }
  // Fills sample_ (centred) and mean_.
  absl::Status LoadSample();
  // Fills queries_ with what Prepare would project, unless they are too few.
  absl::Status LoadQueries();
  // All axes of a basis, by the variance of rows along them. Without rows:
  // those of a random rotation.
  struct Axes {
    std::vector<float> rows;     // d x d
    std::vector<float> queries;  // the same; empty: equal
    std::vector<float> variances;
    std::vector<float> query_power;
  };
  absl::StatusOr<Axes> PcaAxes();
  absl::StatusOr<Axes> SpheringAxes();
  std::unique_ptr<Codec> NewCodec(const Plan& plan, const Axes& axes) const;
  // The codec of the best plan and its error; null when not one bit fits.
  absl::StatusOr<std::pair<std::unique_ptr<Codec>, double>> BestPlan(
      const Axes& axes) const;
  // Learns unit_, deviation_ and norm_ from the sample.
  void FitFactors(Codec* codec, const Axes& axes) const;
  absl::StatusOr<std::unique_ptr<Codec>> TrainSaq();
  std::unique_ptr<Codec> TrainRbq(uint32_t bits) const;
  std::vector<Plan> CandidatePlans(const Axes& axes) const;
  // Mean error of the estimates of the nearest rows of some queries.
  absl::StatusOr<double> TrialError(const Codec& codec) const;
  size_t num_sample() const { return sample_.size() / rows_.dim; }
  size_t num_queries() const { return queries_.size() / rows_.dim; }
  // The last tenth is held out.
  size_t num_training_queries() const { return num_queries() * 9 / 10; }
  MatrixView sample(size_t count) const {
    return {sample_.data(), std::min(count, num_sample()), rows_.dim,
            rows_.dim};
  }

  const VectorSetView rows_;
  const Metric metric_;
  const CodecParams params_;
  Workers workers_;
  const CancelToken* const cancel_;
  const RowCentres* const centres_;  // null: all around the mean
  const VectorSetView query_rows_;
  std::vector<float> mean_;
  std::vector<float> sample_;
  std::vector<float> queries_;  // centred; empty: rows stand for them
};

absl::Status CodecTrainer::Validate() const {
  if (rows_.num_rows == 0) {
    return absl::InvalidArgumentError("a codec cannot be trained on no rows");
  }
  if (rows_.dim == 0 || rows_.dim > kMaxCodecDim) {
    return absl::InvalidArgumentError(
        absl::StrCat("a codec cannot be trained for ", rows_.dim,
                     " dimensions; 1 to ", kMaxCodecDim, " are possible"));
  }
  const float bits = params_.avg_bits;
  if (!(bits >= 0.5f && bits <= 8)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "avg_bits is ", bits, "; give 0.5 to 8 bits per dimension"));
  }
  if (params_.kind == CodecKind::kRbq && bits != 1 && bits != 2 && bits != 4 &&
      bits != 8) {
    return absl::InvalidArgumentError(absl::StrCat(
        "avg_bits is ", bits, "; rbq takes 1, 2, 4 or 8 bits per dimension"));
  }
  if (params_.adjust_rounds > 8 || params_.max_segments < 1 ||
      params_.max_segments > kMaxCodeSegments) {
    return absl::InvalidArgumentError(
        absl::StrCat("adjust_rounds is ", params_.adjust_rounds,
                     " (0 to 8) and ", "max_segments ", params_.max_segments,
                     " (1 to ", kMaxCodeSegments, ")"));
  }
  return absl::OkStatus();
}

absl::Status CodecTrainer::LoadSample() {
  const size_t d = rows_.dim;
  const size_t count = NumTrainingRows(rows_.num_rows, d);
  sample_.resize(count * d);
  Codec loader;
  loader.metric_ = metric_;
  loader.mean_.assign(d, 0);
  workers_.For(count, 256, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      const size_t row = i * rows_.num_rows / count;
      loader.LoadRow(rows_.row(row), rows_.type, &sample_[i * d]);
    }
  });
  if (!AllFinite(sample_.data(), sample_.size())) {
    return absl::InvalidArgumentError(
        "a training row has an element that is not finite");
  }
  std::vector<double> sums(d);
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < d; ++j) sums[j] += sample_[i * d + j];
  }
  mean_.resize(d);
  for (size_t j = 0; j < d; ++j) {
    mean_[j] = static_cast<float>(sums[j] / static_cast<double>(count));
  }
  if (centres_ != nullptr && metric_ != Metric::kL2) mean_.assign(d, 0);
  for (size_t i = 0; i < count; ++i) {
    const float* centre =
        centres_ == nullptr
            ? mean_.data()
            : centres_->centres
                  .row(centres_->CentreOf(i * rows_.num_rows / count))
                  .data();
    for (size_t j = 0; j < d; ++j) sample_[i * d + j] -= centre[j];
  }
  return absl::OkStatus();
}

absl::Status CodecTrainer::LoadQueries() {
  const size_t d = rows_.dim;
  if (query_rows_.num_rows < std::max(kMinBasisRows, kQueriesPerDim * d)) {
    return absl::OkStatus();
  }
  if (query_rows_.dim != d) {
    return absl::InvalidArgumentError(absl::StrCat(
        "queries have ", query_rows_.dim, " dimensions and rows ", d));
  }
  const size_t count = std::min(query_rows_.num_rows, kMaxTrainingQueries);
  queries_.resize(count * d);
  Codec loader;
  loader.metric_ = metric_;
  loader.mean_ = mean_;
  double mean2 = 0;
  for (const float value : mean_) mean2 += static_cast<double>(value) * value;
  for (size_t i = 0; i < count; ++i) {
    float* query = &queries_[i * d];
    loader.LoadRow(query_rows_.row(i * query_rows_.num_rows / count),
                   query_rows_.type, query);
    double along = 1;
    if (metric_ != Metric::kL2) {
      double product = 0;
      for (size_t j = 0; j < d; ++j) {
        product += static_cast<double>(query[j]) * mean_[j];
      }
      along = mean2 > 0 ? product / mean2 : 0;
    }
    for (size_t j = 0; j < d; ++j) {
      query[j] -= static_cast<float>(along * mean_[j]);
    }
  }
  if (!AllFinite(queries_.data(), queries_.size())) {
    return absl::InvalidArgumentError(
        "a query of the sample has an element that is not finite");
  }
  return absl::OkStatus();
}

std::unique_ptr<Codec> CodecTrainer::NewCodec(const Plan& plan,
                                              const Axes& axes) const {
  const size_t d = rows_.dim;
  std::unique_ptr<Codec> codec(new Codec());
  codec->kind_ = params_.kind;
  codec->metric_ = metric_;
  codec->adjust_rounds_ = params_.adjust_rounds;
  codec->around_centres_ = centres_ != nullptr;
  codec->plan_ = plan;
  codec->mean_ = mean_;
  if (axes.rows.empty()) {
    codec->rotation_seed_ = params_.seed;
    codec->Finish();
    FitFactors(codec.get(), axes);
    return codec;
  }
  size_t num_coded = 0;
  for (const PlanSegment& segment : plan) num_coded += segment.num_dims;
  codec->basis_.assign(num_coded * d, 0);
  std::copy_n(axes.rows.begin(), std::min(axes.rows.size(), num_coded * d),
              codec->basis_.begin());
  if (!axes.queries.empty()) {
    codec->query_basis_.assign(num_coded * d, 0);
    std::copy_n(axes.queries.begin(),
                std::min(axes.queries.size(), num_coded * d),
                codec->query_basis_.begin());
  }
  size_t first = 0;
  for (size_t s = 0; s < plan.size(); ++s) {
    const Rotation rotation(plan[s].num_dims, params_.seed + s);
    rotation.Apply(&codec->basis_[first * d], d);
    if (!axes.queries.empty()) {
      rotation.Apply(&codec->query_basis_[first * d], d);
    }
    first += plan[s].num_dims;
  }
  codec->Finish();
  FitFactors(codec.get(), axes);
  return codec;
}

void CodecTrainer::FitFactors(Codec* codec, const Axes& axes) const {
  const size_t d = rows_.dim;
  const MatrixView rows = sample(kTrialRows);
  const size_t num_coded = codec->num_coded_;
  std::vector<float> coded(rows.num_rows * num_coded);
  codec->Project(rows, codec->PanelsOf(codec->basis_).data(), coded.data());
  std::vector<uint8_t> codes(num_coded);
  double coded2 = 0;
  for (size_t s = 0; s < codec->plan_.size(); ++s) {
    const CodeSegment& segment = codec->layout_.segments[s];
    const ScalarLevels& levels = ScalarLevels::ForBits(segment.bits);
    double rescale = 0, deviation = 0, norm = 0;
    size_t count = 0;
    for (size_t i = 0; i < rows.num_rows; ++i) {
      const std::span<const float> values(
          &coded[i * num_coded + segment.query_offset], segment.num_dims);
      double norm2 = 0;
      for (const float v : values) norm2 += static_cast<double>(v) * v;
      coded2 += norm2;
      const SegmentCode code =
          EncodeSegment(values, levels, params_.adjust_rounds, codes.data());
      if (!(code.rescale > 0)) continue;
      // RaBitQ, eq. 14: the error of <o^, q> has the deviation
      // |o| |q| sqrt((1 - cos^2) / cos^2 / (length - 1)).
      const double relative = code.distortion / (1 - code.distortion);
      rescale += code.rescale;
      deviation += norm2 * relative / (segment.num_dims - 1) /
                   (static_cast<double>(code.rescale) * code.rescale);
      norm += norm2 / (static_cast<double>(code.rescale) * code.rescale);
      ++count;
    }
    const double unit = count > 0 ? rescale / count : 0;
    codec->unit_.push_back(static_cast<float>(unit));
    codec->deviation_.push_back(static_cast<float>(
        count > 0 ? unit * std::sqrt(deviation / count) : 0));
    codec->norm_.push_back(
        static_cast<float>(count > 0 ? unit * std::sqrt(norm / count) : 0));
  }
  double all2 = 0;
  for (size_t i = 0; i < rows.num_rows * d; ++i) {
    all2 += static_cast<double>(rows.data[i]) * rows.data[i];
  }
  if (codec->stores_missing()) {
    codec->missing_unit_ =
        static_cast<float>(all2 / static_cast<double>(rows.num_rows));
  }
  const size_t tail = d > num_coded ? d - num_coded : 0;
  if (tail > 0) {
    codec->tail_variance_ = static_cast<float>(
        std::max(0.0, all2 - coded2) / static_cast<double>(rows.num_rows) /
        static_cast<double>(tail));
  }
  if (axes.queries.empty() || tail == 0) return;
  // The axes are no isometry: variances and power along them are known.
  double variance = 0, power = 0, all = 0;
  for (size_t i = 0; i < d; ++i) {
    if (i < num_coded) continue;
    variance += axes.variances[i];
    power += axes.query_power[i];
  }
  for (const float value : queries_) all += static_cast<double>(value) * value;
  all /= static_cast<double>(num_queries());
  codec->tail_variance_ =
      static_cast<float>(variance / static_cast<double>(tail));
  codec->tail_share_ = static_cast<float>(all > 0 ? power / all : 0);
}

std::vector<Plan> CodecTrainer::CandidatePlans(const Axes& axes) const {
  const size_t d = rows_.dim;
  const std::span<const float> variances = axes.variances;
  const std::span<const float> power = axes.query_power;
  PlanLimits limits;
  limits.granularity = CodeGranularity(d);
  // Around centres one of a record's rescales is taken.
  const bool around = centres_ != nullptr && metric_ == Metric::kL2;
  limits.max_segments =
      std::min<size_t>(params_.max_segments, kMaxCodeSegments - around);
  if (params_.max_coded_dims > 0) limits.max_dims = params_.max_coded_dims;
  limits.factor_bytes = params_.avg_bits > 4 ? 4 : 2;
  const size_t spare = limits.granularity < 32 ? 2 : 0;  // the additive's place
  limits.payload_and_factor_bytes = CodeRecordBytes(d, params_.avg_bits) -
                                    sizeof(float) - spare -
                                    (around ? limits.factor_bytes : 0);
  std::vector<Plan> plans;
  const auto add = [&](Plan plan) {
    if (!plan.empty() &&
        std::find(plans.begin(), plans.end(), plan) == plans.end()) {
      plans.push_back(std::move(plan));
    }
  };
  // Half the granularity fits a steep spectrum better (measured at one bit and
  // D=1024: 18 % less error), but its odd blocks take the kernels longer, so it
  // comes second and must be worth it.
  PlanLimits fine = limits;
  fine.granularity = std::max<size_t>(16, limits.granularity / 2);
  for (const PlanLimits& each : {limits, fine}) {
    for (const PlanObjective objective :
         {PlanObjective::kLinear, PlanObjective::kDeviation,
          PlanObjective::kQuadratic}) {
      add(FindPlan(variances, power, objective, each));
    }
  }
  PlanLimits one = limits;
  one.max_segments = 1;
  add(FindPlan(variances, power, PlanObjective::kDeviation, one));
  add(UniformPlan(d, limits));
  return plans;
}

absl::StatusOr<double> CodecTrainer::TrialError(const Codec& codec) const {
  const size_t d = rows_.dim;
  // The first rows are encoded; the last ones are the queries, or those that
  // were held out.
  const MatrixView all = sample(SIZE_MAX);
  const MatrixView asked =
      queries_.empty() ? all : MatrixView{queries_.data(), num_queries(), d, d};
  const size_t num_asked =
      std::clamp<size_t>(asked.num_rows / 10, 1, kTrialQueries);
  const size_t num_rows =
      std::min(kTrialRows, std::max<size_t>(1, all.num_rows - num_asked));
  std::vector<float> rows(all.data, all.data + num_rows * d);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] += mean_[i % d];
  const VectorSetView view{reinterpret_cast<const std::byte*>(rows.data()),
                           num_rows, d, d * sizeof(float)};
  const size_t stride = codec.layout().record_bytes;
  std::vector<uint8_t> records(num_rows * stride);
  VICINAL_RETURN_IF_ERROR(
      codec.Encode(view, records, workers_.size(), cancel_));
  const DistanceOps& ops = OpsFor(metric_, ElementType::kFloat32);
  const size_t nearest = std::min(kTrialNearest, num_rows);
  PreparedQuery prepared;
  std::vector<float> query(d), exact(num_rows), estimate(num_rows);
  double sum = 0;
  for (size_t q = 0; q < num_asked; ++q) {
    const float* centred = asked.row(asked.num_rows - 1 - q).data();
    for (size_t j = 0; j < d; ++j) query[j] = centred[j] + mean_[j];
    VICINAL_RETURN_IF_ERROR(
        codec.Prepare(query.data(), ElementType::kFloat32, &prepared));
    ops.scan(query.data(), rows.data(), d * sizeof(float), num_rows, d,
             exact.data());
    ActiveCodeKernels().scan(codec.layout(), prepared.code_query(),
                             records.data(), stride, num_rows, estimate.data());
    TopK top(nearest);
    for (size_t i = 0; i < num_rows; ++i) {
      top.Push({exact[i], static_cast<RowId>(i)});
    }
    for (const Neighbor& neighbor : top.TakeSorted()) {
      sum += std::abs(estimate[neighbor.row] - neighbor.distance);
    }
  }
  return sum / static_cast<double>(num_asked * nearest);
}

absl::StatusOr<CodecTrainer::Axes> CodecTrainer::PcaAxes() {
  const size_t d = rows_.dim;
  VICINAL_ASSIGN_OR_RETURN(
      Eigen eigen, SymmetricEigen(SecondMoments(sample(SIZE_MAX), {}), d));
  for (float& value : eigen.values) value = std::max(value, 0.0f);
  if (num_sample() < 5 * d) {
    // Few rows leave directions empty that later ones may need.
    const float floor = eigen.values[d / 2] / 2;
    for (float& value : eigen.values) value = std::max(value, floor);
  }
  Axes axes;
  axes.rows = std::move(eigen.vectors);
  axes.variances = eigen.values;
  axes.query_power = std::move(eigen.values);
  return axes;
}

absl::StatusOr<CodecTrainer::Axes> CodecTrainer::SpheringAxes() {
  // Of the largest eigenvalue; smaller ones are raised to it.
  constexpr float kFloor = 1e-6f;
  const size_t d = rows_.dim;
  const MatrixView queries{queries_.data(), num_training_queries(), d, d};
  const std::vector<float> moments = SecondMoments(sample(SIZE_MAX), {});
  std::vector<float> mixed = SecondMoments(queries, {});
  double of_queries = 0, of_rows = 0;
  for (size_t i = 0; i < d; ++i) {
    of_queries += mixed[i * d + i];
    of_rows += moments[i * d + i];
  }
  if (of_rows > 0) {
    const auto factor = static_cast<float>(kShareOfRows * of_queries / of_rows);
    for (size_t i = 0; i < d * d; ++i) mixed[i] += factor * moments[i];
  }
  VICINAL_ASSIGN_OR_RETURN(const Eigen power,
                           SymmetricEigen(std::move(mixed), d));
  if (!(power.values[0] > 0)) return PcaAxes();  // all queries are the mean
  // W = V^T s V and W^-1 = V^T s^-1 V with the eigenvectors in V's rows.
  const auto times = [&](const std::vector<float>& a,
                         const std::vector<float>& b) {
    std::vector<float> out(d * d);
    MultiplyTransposed({a.data(), d, d, d}, {b.data(), d, d, d}, out.data(), d);
    return out;
  };
  std::vector<float> transposed(d * d), scaled(d * d), inverse(d * d);
  for (size_t i = 0; i < d; ++i) {
    const float root =
        std::sqrt(std::max(power.values[i], kFloor * power.values[0]));
    for (size_t j = 0; j < d; ++j) {
      transposed[j * d + i] = power.vectors[i * d + j];
      scaled[j * d + i] = transposed[j * d + i] * root;
      inverse[j * d + i] = transposed[j * d + i] / root;
    }
  }
  const std::vector<float> w = times(scaled, transposed);
  const std::vector<float> w_inverse = times(inverse, transposed);
  VICINAL_RETURN_IF_ERROR(CheckCancelled());
  // The axes of W r: eigenvectors of W K W.
  VICINAL_ASSIGN_OR_RETURN(Eigen eigen,
                           SymmetricEigen(times(times(w, moments), w), d));
  Axes axes;
  axes.rows = times(eigen.vectors, w);
  axes.queries = times(eigen.vectors, w_inverse);
  for (float& value : eigen.values) value = std::max(value, 0.0f);
  axes.variances = std::move(eigen.values);
  std::vector<float> projected(queries.num_rows * d);
  MultiplyTransposed(queries, {axes.queries.data(), d, d, d}, projected.data(),
                     d);
  axes.query_power.assign(d, 0);
  for (size_t i = 0; i < projected.size(); ++i) {
    axes.query_power[i % d] +=
        projected[i] * projected[i] / static_cast<float>(queries.num_rows);
  }
  return axes;
}

absl::StatusOr<std::pair<std::unique_ptr<Codec>, double>>
CodecTrainer::BestPlan(const Axes& axes) const {
  std::unique_ptr<Codec> best;
  double best_error = 0;
  const size_t budget = CodeRecordBytes(rows_.dim, params_.avg_bits);
  for (const Plan& plan : CandidatePlans(axes)) {
    VICINAL_RETURN_IF_ERROR(CheckCancelled());
    std::unique_ptr<Codec> codec = NewCodec(plan, axes);
    if (codec->layout().record_bytes > budget && best != nullptr) continue;
    VICINAL_ASSIGN_OR_RETURN(const double error, TrialError(*codec));
    if (best == nullptr || error < kWorthIt * best_error) {
      best = std::move(codec);
      best_error = error;
    }
  }
  return std::pair(std::move(best), best_error);
}

absl::StatusOr<std::unique_ptr<Codec>> CodecTrainer::TrainSaq() {
  VICINAL_RETURN_IF_ERROR(LoadQueries());
  VICINAL_ASSIGN_OR_RETURN(const Axes pca, PcaAxes());
  VICINAL_ASSIGN_OR_RETURN(auto best, BestPlan(pca));
  if (queries_.empty() || best.first == nullptr) return std::move(best.first);
  VICINAL_ASSIGN_OR_RETURN(const Axes sphering, SpheringAxes());
  VICINAL_ASSIGN_OR_RETURN(auto other, BestPlan(sphering));
  if (other.first != nullptr && other.second < kWorthTwoBases * best.second) {
    return std::move(other.first);
  }
  return std::move(best.first);
}

std::unique_ptr<Codec> CodecTrainer::TrainRbq(uint32_t bits) const {
  const size_t d = rows_.dim;
  const size_t g = CodeGranularity(d);
  const auto padded = static_cast<uint32_t>((d + g - 1) / g * g);
  return NewCodec({{padded, bits}}, Axes());
}

absl::StatusOr<std::unique_ptr<const Codec>> CodecTrainer::Run() {
  VICINAL_RETURN_IF_ERROR(Validate());
  VICINAL_RETURN_IF_ERROR(LoadSample());
  std::unique_ptr<Codec> codec;
  switch (params_.kind) {
    case CodecKind::kSaq:
      if (num_sample() >= std::max(kMinBasisRows, rows_.dim)) {
        VICINAL_ASSIGN_OR_RETURN(codec, TrainSaq());
      }
      if (codec == nullptr) {
        const float bits = params_.avg_bits;
        codec = TrainRbq(bits <= 1 ? 1 : bits <= 2 ? 2 : bits <= 4 ? 4 : 8);
        codec->kind_ = CodecKind::kRbq;
      }
      break;
    case CodecKind::kRbq:
      codec = TrainRbq(static_cast<uint32_t>(params_.avg_bits));
      break;
    case CodecKind::kSq8:
      codec = TrainRbq(8);
      break;
  }
  return std::unique_ptr<const Codec>(std::move(codec));
}

absl::StatusOr<std::unique_ptr<const Codec>> TrainCodec(
    VectorSetView rows, Metric metric, const CodecParams& params,
    size_t num_threads, const CancelToken* cancel, const RowCentres* centres,
    VectorSetView queries) {
  return CodecTrainer(rows, metric, params, num_threads, cancel, centres,
                      queries)
      .Run();
}

}  // namespace vicinal
