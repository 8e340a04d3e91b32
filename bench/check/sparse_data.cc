#include "bench/check/sparse_data.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "src/base/random.h"

namespace vicinal::bench {
namespace {

constexpr float kWordWeight = 0.01f;

absl::StatusOr<std::string> ReadGzip(const std::string& path) {
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) {
    return absl::NotFoundError(absl::StrCat("cannot open ", path));
  }
  std::string text;
  std::array<char, 65'536> buffer;
  int count = 0;
  while ((count = gzread(file, buffer.data(), buffer.size())) > 0) {
    text.append(buffer.data(), static_cast<size_t>(count));
  }
  gzclose(file);
  if (count < 0) return absl::DataLossError(absl::StrCat(path, " is damaged"));
  return text;
}

void AppendRow(const std::map<uint32_t, float>& entries, SparseMatrix* out) {
  for (const auto& [dim, weight] : entries) {
    out->dims.push_back(dim);
    out->weights.push_back(weight);
  }
  out->offsets.push_back(out->dims.size());
}

// The three heaviest dimensions of a row.
std::vector<uint32_t> Heaviest(SparseRow row) {
  std::vector<size_t> order(row.dims.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const size_t n = std::min<size_t>(3, order.size());
  std::partial_sort(
      order.begin(), order.begin() + static_cast<ptrdiff_t>(n), order.end(),
      [&](size_t a, size_t b) { return row.weights[a] > row.weights[b]; });
  std::vector<uint32_t> dims;
  for (size_t i = 0; i < n; ++i) dims.push_back(row.dims[order[i]]);
  return dims;
}

}  // namespace

absl::StatusOr<SparseMatrix> ReadSpladeQueries(
    const std::string& path, std::vector<std::string>* words) {
  const auto text = ReadGzip(path);
  if (!text.ok()) return text.status();
  absl::flat_hash_map<std::string, uint32_t> numbers;
  for (size_t i = 0; i < words->size(); ++i) {
    numbers[(*words)[i]] = static_cast<uint32_t>(i);
  }
  SparseMatrix out;
  for (absl::string_view line :
       absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits('\t', 1));
    std::map<uint32_t, float> entries;
    for (absl::string_view word :
         absl::StrSplit(parts.second, ' ', absl::SkipEmpty())) {
      const auto [known, is_new] =
          numbers.try_emplace(word, static_cast<uint32_t>(words->size()));
      if (is_new) words->emplace_back(word);
      entries[known->second] += kWordWeight;
    }
    AppendRow(entries, &out);
  }
  return out;
}

SparseMatrix MakeDocuments(const SparseMatrix& pool, size_t num_documents,
                           uint64_t seed) {
  constexpr double kDropped = 0.1, kNoise = 0.2;
  Random random(seed);
  // Rows by their heaviest dimensions.
  absl::flat_hash_map<uint32_t, std::vector<uint32_t>> rows_of;
  for (size_t i = 0; i < pool.num_rows(); ++i) {
    for (const uint32_t dim : Heaviest(pool.row(i))) {
      rows_of[dim].push_back(static_cast<uint32_t>(i));
    }
  }
  SparseMatrix out;
  while (out.num_rows() < num_documents) {
    const size_t first = random.Uniform(pool.num_rows());
    const std::vector<uint32_t> heaviest = Heaviest(pool.row(first));
    if (heaviest.empty()) continue;
    const std::vector<uint32_t>& alike =
        rows_of[heaviest[random.Uniform(heaviest.size())]];
    std::map<uint32_t, float> entries;
    const size_t count = 3 + random.Uniform(4);
    for (size_t part = 0; part < count; ++part) {
      const size_t row =
          part == 0 ? first : alike[random.Uniform(alike.size())];
      const double scale = 0.6 + 0.8 * random.UniformDouble();
      const SparseRow from = pool.row(row);
      for (size_t i = 0; i < from.dims.size(); ++i) {
        if (random.UniformDouble() < kDropped) continue;
        const auto weight = static_cast<float>(
            from.weights[i] * scale * std::exp(kNoise * random.Gaussian()));
        float& entry = entries[from.dims[i]];
        entry = std::max(entry, weight);
      }
    }
    AppendRow(entries, &out);
  }
  return out;
}

namespace {

using Text = std::vector<uint32_t>;

// Words of ASCII letters and digits, and of what is not ASCII.
absl::StatusOr<std::vector<Text>> ReadTexts(const std::string& path,
                                            std::vector<std::string>* words) {
  constexpr size_t kMinWords = 20;
  const auto lines = ReadGzip(path);
  if (!lines.ok()) return lines.status();
  absl::flat_hash_map<std::string, uint32_t> numbers;
  std::vector<Text> texts;
  for (absl::string_view line :
       absl::StrSplit(*lines, '\n', absl::SkipEmpty())) {
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) {
      return absl::DataLossError(absl::StrCat(path, " has no JSON lines"));
    }
    Text text;
    std::string word;
    const auto end_word = [&] {
      if (word.empty()) return;
      const auto [known, is_new] =
          numbers.try_emplace(word, static_cast<uint32_t>(numbers.size()));
      if (is_new) words->push_back(word);
      text.push_back(known->second);
      word.clear();
    };
    for (const char c : json.value("text", "")) {
      if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c < 0) {
        word += absl::ascii_tolower(static_cast<unsigned char>(c));
      } else {
        end_word();
      }
    }
    end_word();
    if (text.size() >= kMinWords) texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace

absl::StatusOr<ShortTexts> MakeShortTexts(const std::string& path,
                                          size_t num_documents,
                                          size_t num_queries, uint64_t seed) {
  ShortTexts out;
  const auto texts = ReadTexts(path, &out.words);
  if (!texts.ok()) return texts.status();
  Random random(seed);
  const auto any = [&]() -> const Text& {
    return (*texts)[random.Uniform(texts->size())];
  };
  const auto add_piece = [&](size_t length, SparseMatrix* matrix) {
    const Text& text = any();
    const size_t begin = random.Uniform(text.size() - length);
    std::map<uint32_t, float> counts;
    for (size_t i = begin; i < begin + length; ++i) {
      uint32_t word = text[i];
      if (random.Uniform(4) == 0) {
        const Text& other = any();
        word = other[random.Uniform(other.size())];
      }
      counts[word] += 1;
    }
    AppendRow(counts, matrix);
    return static_cast<double>(length);
  };
  for (size_t i = 0; i < num_documents; ++i) {
    out.mean_length += add_piece(5 + random.Uniform(12), &out.documents) /
                       static_cast<double>(num_documents);
  }
  for (size_t i = 0; i < num_queries; ++i) {
    add_piece(2 + random.Uniform(5), &out.queries);
  }
  std::vector<double> df(out.words.size());
  for (const uint32_t word : out.documents.dims) ++df[word];
  const auto n = static_cast<double>(num_documents);
  for (size_t i = 0; i < out.queries.dims.size(); ++i) {
    const double with = df[out.queries.dims[i]];
    out.queries.weights[i] *=
        static_cast<float>(std::log1p((n - with + 0.5) / (with + 0.5)));
  }
  return out;
}

}  // namespace vicinal::bench
