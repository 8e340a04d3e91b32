#include "tests/index/multi_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "src/base/half.h"
#include "src/base/status_macros.h"
#include "src/distance/load_row.h"

namespace vicinal {
namespace {

constexpr size_t kNumTopics = 60;
constexpr size_t kWordsPerTopic = 40;
constexpr size_t kTopicsPerDocument = 3;

template <typename T>
void Put(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// The tokens of a row as they are, in f64; unit vectors for cosine.
std::vector<double> Load(const MultiSpec& spec, const Floats& values) {
  std::vector<double> out(values.begin(), values.end());
  for (size_t i = 0; spec.cosine && i < out.size(); i += spec.dim) {
    double norm2 = 0;
    for (size_t t = 0; t < spec.dim; ++t) norm2 += out[i + t] * out[i + t];
    for (size_t t = 0; t < spec.dim && norm2 > 0; ++t) {
      out[i + t] /= std::sqrt(norm2);
    }
  }
  return out;
}

double Dot(const double* a, const double* b, size_t n) {
  double sum = 0;
  for (size_t t = 0; t < n; ++t) sum += a[t] * b[t];
  return sum;
}

}  // namespace

Random SeededTokens(uint64_t seed) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return Random(seed);
}

std::string TokenBytes(const Floats& values, ElementType type) {
  std::string out;
  for (const float value : values) {
    switch (type) {
      case ElementType::kFloat32:
        Put(value, &out);
        break;
      case ElementType::kFloat16:
        Put(FloatToHalf(value), &out);
        break;
      case ElementType::kBfloat16:
        Put(FloatToBfloat(value), &out);
        break;
      default:
        Put(static_cast<int8_t>(
                std::lround(std::clamp(value, -127.0f, 127.0f))),
            &out);
    }
  }
  return out;
}

Floats GaussianTokens(const MultiSpec& spec, size_t n, Random* random) {
  const double unit = spec.type == ElementType::kInt8 ? 40 : 1;
  Floats out(n * spec.dim);
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(unit * random->Gaussian());
    // No token is zero.
    if (i % spec.dim == 0)
      out[i] += static_cast<float>(std::copysign(unit, out[i]));
  }
  return out;
}

NaiveMaxSim ScoreNaively(const MultiSpec& spec, const Floats& query,
                         std::span<const float> weights,
                         const std::string& bytes) {
  const size_t dim = spec.dim;
  Floats values(bytes.size() / ElementSize(spec.type));
  LoadFloats(bytes.data(), spec.type, values.size(), values.data());
  const std::vector<double> document = Load(spec, values);
  const std::vector<double> tokens = Load(spec, query);
  NaiveMaxSim out;
  for (size_t i = 0; i < tokens.size(); i += dim) {
    double best = -std::numeric_limits<double>::infinity();
    double longest2 = 0;
    for (size_t j = 0; j < document.size(); j += dim) {
      best = std::max(best, Dot(&tokens[i], &document[j], dim));
      longest2 = std::max(longest2, Dot(&document[j], &document[j], dim));
    }
    const double weight = weights.empty() ? 1 : weights[i / dim];
    out.score += weight * best;
    out.scale +=
        weight * std::sqrt(longest2 * Dot(&tokens[i], &tokens[i], dim));
  }
  return out;
}

std::unique_ptr<GrowingMultiField> Documents::Grow() const {
  auto field = std::make_unique<GrowingMultiField>(spec, rows.size());
  for (const std::string& bytes : rows) field->Append(bytes);
  return field;
}

Documents MakeDocuments(const MultiSpec& spec, size_t num_rows,
                        size_t max_tokens, size_t empty, Random* random) {
  Documents out{spec, {}};
  for (size_t i = 0; i < num_rows; ++i) {
    const size_t n = 1 + random->Uniform(max_tokens);
    out.rows.push_back(
        empty != 0 && i % empty == 0
            ? ""
            : TokenBytes(GaussianTokens(spec, n, random), spec.type));
  }
  return out;
}

Topics::Topics(size_t dim, uint64_t seed) : dim_(dim), random_(seed) {
  for (size_t i = 0; i < kNumTopics; ++i) {
    const Floats nothing(dim);
    const Floats topic = Near(nothing.data(), 1);
    for (size_t j = 0; j < kWordsPerTopic; ++j) {
      const Floats word = Near(topic.data(), 0.9);
      words_.insert(words_.end(), word.begin(), word.end());
    }
  }
}

Floats Topics::Near(const float* centre, double spread) {
  // Uniform, which is faster than Gaussian, of the variance spread^2 / dim.
  const double width = spread * std::sqrt(12 / static_cast<double>(dim_));
  Floats out(dim_);
  double norm2 = 0;
  for (size_t t = 0; t < dim_; ++t) {
    out[t] =
        static_cast<float>(centre[t] + width * (random_.UniformDouble() - 0.5));
    norm2 += static_cast<double>(out[t]) * out[t];
  }
  const auto scale = static_cast<float>(1 / std::sqrt(norm2));
  for (float& value : out) value *= scale;
  return out;
}

Floats Topics::Document(size_t num_tokens) {
  size_t topics[kTopicsPerDocument];
  for (size_t& topic : topics) topic = random_.Uniform(kNumTopics);
  const size_t n = num_tokens / 2 + 1 + random_.Uniform(num_tokens);
  Floats out;
  for (size_t i = 0; i < n; ++i) {
    const size_t word =
        topics[random_.Uniform(kTopicsPerDocument)] * kWordsPerTopic +
        random_.Uniform(kWordsPerTopic);
    const Floats token = Near(&words_[word * dim_], 0.4);
    out.insert(out.end(), token.begin(), token.end());
  }
  return out;
}

Floats Topics::QueryFor(const Floats& document, size_t num_tokens) {
  Floats out;
  for (size_t i = 0; i < num_tokens; ++i) {
    const size_t at = random_.Uniform(document.size() / dim_);
    const Floats token = Near(&document[at * dim_], 0.6);
    out.insert(out.end(), token.begin(), token.end());
  }
  return out;
}

absl::Status WriteField(const MultiSpec& spec, std::vector<MultiSource> rows,
                        MultiBuildOptions options, SealedFiles* out) {
  MultiFieldBuild build(spec, 0, std::move(rows), std::move(options));
  VICINAL_ASSIGN_OR_RETURN(
      auto vectors,
      SectionFileWriter::Create(out->vectors_path(), "VECS", 1, 4));
  VICINAL_RETURN_IF_ERROR(build.WriteVectors(vectors.get()));
  VICINAL_RETURN_IF_ERROR(vectors->Finish());
  VICINAL_ASSIGN_OR_RETURN(auto written,
                           SectionFile::Open(out->vectors_path(), "VECS", 1,
                                             SectionFile::Verify::kHeaders));
  VICINAL_ASSIGN_OR_RETURN(
      auto index, SectionFileWriter::Create(out->index_path(), "SEGM", 1, 5));
  VICINAL_RETURN_IF_ERROR(build.WriteIndex(*written, index.get()));
  return index->Finish();
}

absl::Status OpenField(const MultiSpec& spec, size_t num_rows,
                       SealedFiles* out) {
  VICINAL_ASSIGN_OR_RETURN(out->vectors,
                           SectionFile::Open(out->vectors_path(), "VECS", 1,
                                             SectionFile::Verify::kAll));
  VICINAL_ASSIGN_OR_RETURN(out->index,
                           SectionFile::Open(out->index_path(), "SEGM", 1,
                                             SectionFile::Verify::kAll));
  VICINAL_ASSIGN_OR_RETURN(
      out->field,
      SealedMultiField::Open(*out->vectors, *out->index, 0, spec, num_rows,
                             [](absl::string_view bytes) { return bytes; }));
  return absl::OkStatus();
}

std::vector<MultiSource> SourcesOf(const MultiField& field, size_t num_rows) {
  std::vector<MultiSource> out;
  for (RowId row = 0; row < num_rows; ++row) out.push_back({&field, row});
  return out;
}

std::unique_ptr<SealedFiles> Seal(const MultiSpec& spec,
                                  std::vector<MultiSource> rows,
                                  MultiBuildOptions options) {
  const size_t num_rows = rows.size();
  auto out = std::make_unique<SealedFiles>();
  absl::Status status =
      WriteField(spec, std::move(rows), std::move(options), out.get());
  if (status.ok()) status = OpenField(spec, num_rows, out.get());
  EXPECT_TRUE(status.ok()) << status;
  return status.ok() ? std::move(out) : nullptr;
}

std::unique_ptr<SealedFiles> Seal(const Documents& documents,
                                  MultiBuildOptions options) {
  const auto growing = documents.Grow();
  return Seal(documents.spec, SourcesOf(*growing, documents.rows.size()),
              std::move(options));
}

std::vector<Neighbor> Find(const MultiField& field, const MultiQuery& query,
                           const MultiSearchParams& params,
                           const Filter& filter, RowId begin, RowId end,
                           MultiStats* work, SearchStats* stats) {
  TopK top(params.k);
  const absl::Status status =
      field.Search(query, params, filter, begin, end, {}, &top, stats, work);
  EXPECT_TRUE(status.ok()) << status;
  return top.TakeSorted();
}

double RecallOf(const std::vector<Neighbor>& found,
                const std::vector<Neighbor>& exact) {
  size_t count = 0;
  for (const Neighbor& neighbor : exact) {
    count += std::find(found.begin(), found.end(), neighbor) != found.end();
  }
  return exact.empty()
             ? 1
             : static_cast<double>(count) / static_cast<double>(exact.size());
}

}  // namespace vicinal
