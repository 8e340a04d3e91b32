#include "bench/check/multivector_data.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <sstream>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "src/base/half.h"
#include "src/base/random.h"
#include "src/base/status_macros.h"
#include "src/base/workers.h"

namespace vicinal::bench {
namespace {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  return std::string((std::istreambuf_iterator<char>(in)),
                     std::istreambuf_iterator<char>());
}

// A .npy in C order; its first dimension, and the elements of all.
template <typename T>
struct Npy {
  size_t num_rows = 0;
  std::vector<T> values;
};
template <typename T>
absl::StatusOr<Npy<T>> ReadNpy(const std::string& path, const char* type) {
  VICINAL_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  const size_t shape = bytes.find("'shape': (");
  if (shape == std::string::npos ||
      bytes.find(absl::StrCat("'", type, "'")) > bytes.find('\n')) {
    return absl::DataLossError(absl::StrCat(path, " is no .npy of ", type));
  }
  const size_t header = 10 + static_cast<uint8_t>(bytes[8]) +
                        size_t{256} * static_cast<uint8_t>(bytes[9]);
  Npy<T> out{.num_rows = std::strtoul(bytes.c_str() + shape + 10, nullptr, 10)};
  out.values.resize((bytes.size() - header) / sizeof(T));
  std::memcpy(out.values.data(), bytes.data() + header,
              out.values.size() * sizeof(T));
  if (out.num_rows == 0 || out.values.size() % out.num_rows != 0) {
    return absl::DataLossError(absl::StrCat(path, " has another size"));
  }
  return out;
}

absl::StatusOr<std::vector<std::vector<uint32_t>>> ReadIvecs(
    const std::string& path) {
  VICINAL_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  std::vector<std::vector<uint32_t>> out;
  for (size_t at = 0; at + 4 <= bytes.size();) {
    uint32_t count = 0;
    std::memcpy(&count, &bytes[at], 4);
    at += 4;
    if (count > (bytes.size() - at) / 4) {
      return absl::DataLossError(absl::StrCat(path, " is cut short"));
    }
    std::memcpy(out.emplace_back(count).data(), &bytes[at], 4 * count);
    at += 4 * count;
  }
  return out;
}

// Standard normal numbers, fast: four from a draw, of a table.
class Noise {
 public:
  explicit Noise(uint64_t seed) : values_(kSize) {
    Random random(seed);
    for (float& value : values_) value = static_cast<float>(random.Gaussian());
  }
  // out[i] += scale * a normal number; n is a multiple of 4.
  void Add(float scale, size_t n, Random* random, float* out) const {
    for (size_t i = 0; i < n; i += 4) {
      uint64_t bits = random->Next();
      for (size_t j = 0; j < 4; ++j, bits >>= 16) {
        out[i + j] += scale * values_[bits & (kSize - 1)];
      }
    }
  }

 private:
  static constexpr size_t kSize = 1 << 16;
  std::vector<float> values_;
};

void Normalize(float* values, size_t n) {
  double norm2 = 0;
  for (size_t i = 0; i < n; ++i) norm2 += double{values[i]} * values[i];
  const auto scale = static_cast<float>(1 / std::sqrt(norm2));
  for (size_t i = 0; i < n; ++i) values[i] *= scale;
}

// Draws ranks of weight 1 / (rank + offset).
class Zipf {
 public:
  Zipf(size_t n, double offset) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) {
      cumulative_.push_back(sum += 1 / (static_cast<double>(i) + offset));
    }
  }
  size_t Draw(Random* random) const {
    const double at = random->UniformDouble() * cumulative_.back();
    return std::lower_bound(cumulative_.begin(), cumulative_.end() - 1, at) -
           cumulative_.begin();
  }

 private:
  std::vector<double> cumulative_;
};

// Topics are directions; each word has a topic and a direction of its own. A
// document mixes some topics; a token is its word, what the document has in
// common, and noise, beside what all tokens have in common.
class TokenSource {
 public:
  static constexpr size_t kDim = 128;

  explicit TokenSource(uint64_t seed)
      : seed_(seed),
        noise_(seed + 1),
        topic_weights_(kTopics, 5),
        word_weights_(kWordsOfTopic, 2) {
    Random random(seed + 2);
    topics_.resize(kTopics * kDim);
    words_.resize(kTopics * kWordsOfTopic * kDim);
    near_.resize(kTopics * kWordsOfTopic);
    noise_.Add(1, kDim, &random, common_.data());
    Normalize(common_.data(), kDim);
    for (size_t t = 0; t < kTopics; ++t) {
      float* topic = &topics_[t * kDim];
      noise_.Add(1, kDim, &random, topic);
      Normalize(topic, kDim);
      for (size_t w = 0; w < kWordsOfTopic; ++w) {
        float* word = &words_[(t * kWordsOfTopic + w) * kDim];
        for (size_t i = 0; i < kDim; ++i) word[i] = kTopicShare * topic[i];
        noise_.Add(kOwnShare, kDim, &random, word);
        Normalize(word, kDim);
      }
    }
    FindNearWords();
  }

  size_t Length(size_t document) const {
    return 50 + RandomOf(document, 0).Uniform(51);
  }
  // Length(document) words.
  std::vector<uint32_t> Words(size_t document) const {
    Random random = RandomOf(document, 1);
    size_t topics[kMaxTopics];
    const size_t num_topics = 1 + random.Uniform(kMaxTopics);
    for (size_t i = 0; i < num_topics; ++i) {
      topics[i] = topic_weights_.Draw(&random);
    }
    std::vector<uint32_t> words(Length(document));
    for (uint32_t& word : words) {
      const size_t topic = random.UniformDouble() < kStray
                               ? topic_weights_.Draw(&random)
                               : topics[random.Uniform(num_topics)];
      word = static_cast<uint32_t>(topic * kWordsOfTopic +
                                   word_weights_.Draw(&random));
    }
    return words;
  }
  std::array<float, kDim> Context(size_t document) const {
    Random random = RandomOf(document, 2);
    std::array<float, kDim> context = {};
    noise_.Add(kUnit, kDim, &random, context.data());
    return context;
  }
  // A token, of unit length.
  void MakeToken(uint32_t word, std::span<const float> context, float noise,
                 Random* random, float* out) const {
    for (size_t i = 0; i < kDim; ++i) {
      out[i] = words_[word * kDim + i] + kContext * context[i];
    }
    noise_.Add(noise * kUnit, kDim, random, out);
    Normalize(out, kDim);
    for (size_t i = 0; i < kDim; ++i) out[i] += kCommon * common_[i];
    Normalize(out, kDim);
  }
  void MakeDocument(size_t document, uint16_t* halves) const {
    const std::vector<uint32_t> words = Words(document);
    const std::array<float, kDim> context = Context(document);
    Random random = RandomOf(document, 3);
    float token[kDim];
    for (size_t i = 0; i < words.size(); ++i) {
      MakeToken(words[i], context, kDocumentNoise, &random, token);
      FloatToHalf({token, kDim}, {halves + i * kDim, kDim});
    }
  }
  // A query that is about what the document is about.
  std::vector<float> MakeQuery(size_t document) const {
    const std::vector<uint32_t> words = Words(document);
    std::array<float, kDim> context = Context(document);
    Random random = RandomOf(document, 4);
    for (float& value : context) value *= kKeptContext;
    noise_.Add(kUnit * kOtherContext, kDim, &random, context.data());
    std::vector<float> tokens(kQueryTokens * kDim);
    for (size_t i = 0; i < kQueryTokens; ++i) {
      uint32_t word = words[random.Uniform(words.size())];
      if (random.UniformDouble() < kReplaced) word = near_[word];
      MakeToken(word, context, kQueryNoise, &random, &tokens[i * kDim]);
    }
    return tokens;
  }

 private:
  static constexpr size_t kTopics = 400;
  static constexpr size_t kWordsOfTopic = 60;
  static constexpr size_t kMaxTopics = 4;
  static constexpr size_t kQueryTokens = 32;
  static constexpr float kUnit = 0.0883883f;  // 1 / sqrt(kDim)
  static constexpr float kTopicShare = 0.7f;
  static constexpr float kOwnShare = 0.7f * kUnit;
  static constexpr double kStray = 0.2;  // words of other topics
  static constexpr float kContext = 0.5f;
  static constexpr float kKeptContext = 0.5f;
  static constexpr float kOtherContext = 0.8f;
  static constexpr float kDocumentNoise = 0.5f;
  static constexpr float kQueryNoise = 0.5f;
  static constexpr float kCommon = 0.95f;
  static constexpr double kReplaced = 0.35;

  Random RandomOf(size_t document, uint64_t purpose) const {
    return Random(Random(seed_ + 16 * document + purpose + 3).Next());
  }
  // Of each word the nearest one of its topic.
  void FindNearWords() {
    for (size_t w = 0; w < near_.size(); ++w) {
      const size_t first = w / kWordsOfTopic * kWordsOfTopic;
      float best = -2;
      for (size_t other = first; other < first + kWordsOfTopic; ++other) {
        if (other == w) continue;
        float product = 0;
        for (size_t i = 0; i < kDim; ++i) {
          product += words_[w * kDim + i] * words_[other * kDim + i];
        }
        if (product <= best) continue;
        best = product;
        near_[w] = static_cast<uint32_t>(other);
      }
    }
  }

  const uint64_t seed_;
  const Noise noise_;
  const Zipf topic_weights_;
  const Zipf word_weights_;
  std::array<float, kDim> common_ = {};
  std::vector<float> topics_;
  std::vector<float> words_;
  std::vector<uint32_t> near_;
};

}  // namespace

absl::StatusOr<MultiSet> LoadGlove(const std::string& data_dir) {
  const std::string folder = data_dir + "/mv-glove-20k/";
  VICINAL_ASSIGN_OR_RETURN(
      const Npy<uint16_t> table,
      ReadNpy<uint16_t>(folder + "token_table_f16.npy", "<f2"));
  VICINAL_ASSIGN_OR_RETURN(
      const Npy<int32_t> offsets,
      ReadNpy<int32_t>(folder + "doc_offsets_i32.npy", "<i4"));
  VICINAL_ASSIGN_OR_RETURN(
      const Npy<int32_t> tokens,
      ReadNpy<int32_t>(folder + "doc_tokens_i32.npy", "<i4"));
  VICINAL_ASSIGN_OR_RETURN(
      const Npy<int32_t> query_offsets,
      ReadNpy<int32_t>(folder + "query_offsets_i32.npy", "<i4"));
  VICINAL_ASSIGN_OR_RETURN(
      const Npy<int32_t> query_tokens,
      ReadNpy<int32_t>(folder + "query_tokens_i32.npy", "<i4"));
  MultiSet set{.name = "mv-glove-20k",
               .dim = table.values.size() / table.num_rows};
  for (const int32_t token : tokens.values) {
    if (static_cast<size_t>(token) >= table.num_rows) {
      return absl::DataLossError("mv-glove-20k: a token is not in the table");
    }
  }
  const size_t row_bytes = set.dim * sizeof(uint16_t);
  set.offsets.assign(offsets.values.begin(), offsets.values.end());
  if (set.offsets.back() != tokens.values.size()) {
    return absl::DataLossError("mv-glove-20k: offsets end elsewhere");
  }
  set.tokens = MappedBuffer(tokens.values.size() * row_bytes);
  for (size_t i = 0; i < tokens.values.size(); ++i) {
    std::memcpy(set.tokens.data() + i * row_bytes,
                &table.values[tokens.values[i] * set.dim], row_bytes);
  }
  for (size_t q = 0; q + 1 < query_offsets.values.size(); ++q) {
    std::vector<float>& query = set.queries.emplace_back();
    for (int32_t i = query_offsets.values[q]; i < query_offsets.values[q + 1];
         ++i) {
      const size_t at = query.size();
      query.resize(at + set.dim);
      HalfToFloat({&table.values[query_tokens.values.at(i) * set.dim], set.dim},
                  {&query[at], set.dim});
    }
  }
  VICINAL_ASSIGN_OR_RETURN(set.truth,
                           ReadIvecs(folder + "gt_maxsim_top100.ivecs"));
  return set;
}

absl::StatusOr<MultiSet> LoadLotte(const std::string& data_dir) {
  const std::string folder = data_dir + "/lotte500-colbertv2/";
  VICINAL_ASSIGN_OR_RETURN(
      const Npy<uint16_t> tokens,
      ReadNpy<uint16_t>(folder + "doc_tokens_f16.npy", "<f2"));
  VICINAL_ASSIGN_OR_RETURN(const Npy<int32_t> lengths,
                           ReadNpy<int32_t>(folder + "doclens_i32.npy", "<i4"));
  VICINAL_ASSIGN_OR_RETURN(
      const Npy<float> queries,
      ReadNpy<float>(folder + "query_tokens_f32.npy", "<f4"));
  MultiSet set{.name = "lotte500-colbertv2",
               .dim = tokens.values.size() / tokens.num_rows};
  for (const int32_t length : lengths.values) {
    set.offsets.push_back(set.offsets.back() + length);
  }
  if (set.offsets.back() != tokens.num_rows) {
    return absl::DataLossError("lotte500: doclens do not fit the tokens");
  }
  set.tokens = MappedBuffer(tokens.values.size() * sizeof(uint16_t));
  std::memcpy(set.tokens.data(), tokens.values.data(), set.tokens.size_bytes());
  const size_t size = queries.values.size() / queries.num_rows;
  for (size_t q = 0; q < queries.num_rows; ++q) {
    const auto begin =
        queries.values.begin() + static_cast<ptrdiff_t>(q * size);
    set.queries.emplace_back(begin, begin + static_cast<ptrdiff_t>(size));
  }
  VICINAL_ASSIGN_OR_RETURN(set.truth,
                           ReadIvecs(folder + "gt_maxsim_top50.ivecs"));
  // Lines "id TAB text", in the order of the documents.
  VICINAL_ASSIGN_OR_RETURN(const std::string texts,
                           ReadFile(folder + "docs.tsv"));
  absl::flat_hash_map<int64_t, uint32_t> rows;
  std::istringstream text_lines(texts);
  for (std::string line; std::getline(text_lines, line);) {
    rows.emplace(std::strtol(line.c_str(), nullptr, 10), rows.size());
  }
  // Lines in the order of the queries.
  VICINAL_ASSIGN_OR_RETURN(const std::string judged,
                           ReadFile(folder + "relevant_passages.jsonl"));
  std::istringstream judged_lines(judged);
  for (std::string line; std::getline(judged_lines, line);) {
    const nlohmann::json json = nlohmann::json::parse(line);
    std::vector<uint32_t>& relevant = set.relevant.emplace_back();
    for (const nlohmann::json& id : json["passage_id"]) {
      const auto found = rows.find(id.get<int64_t>());
      if (found != rows.end()) relevant.push_back(found->second);
    }
  }
  if (set.relevant.size() != set.queries.size() ||
      rows.size() != set.num_documents()) {
    return absl::DataLossError("lotte500: texts do not fit the vectors");
  }
  return set;
}

MultiSet MakeTokens(size_t num_documents, size_t num_queries, uint64_t seed,
                    size_t num_threads) {
  const TokenSource source(seed);
  MultiSet set{.name = "generated", .dim = TokenSource::kDim};
  set.offsets.reserve(num_documents + 1);
  for (size_t i = 0; i < num_documents; ++i) {
    set.offsets.push_back(set.offsets.back() + source.Length(i));
  }
  set.tokens = MappedBuffer(set.num_tokens() * set.dim * sizeof(uint16_t));
  auto* halves = reinterpret_cast<uint16_t*>(set.tokens.data());
  Workers workers(num_threads);
  workers.For(num_documents, 64, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; ++i) {
      source.MakeDocument(i, halves + set.offsets[i] * set.dim);
    }
  });
  for (size_t q = 0; q < num_queries; ++q) {
    set.queries.push_back(source.MakeQuery(q * num_documents / num_queries));
  }
  return set;
}

MultiSet FirstDocuments(const MultiSet& set, size_t num_documents) {
  num_documents = std::min(num_documents, set.num_documents());
  MultiSet out{.name = set.name, .dim = set.dim};
  out.offsets.assign(
      set.offsets.begin(),
      set.offsets.begin() + static_cast<ptrdiff_t>(num_documents) + 1);
  out.tokens = MappedBuffer(out.num_tokens() * out.dim * sizeof(uint16_t));
  std::memcpy(out.tokens.data(), set.tokens.data(), out.tokens.size_bytes());
  out.queries = set.queries;
  return out;
}

DocumentSample::DocumentSample(const MultiSet& set, size_t num_documents)
    : dim(set.dim) {
  num_documents = std::min(num_documents, set.num_documents());
  const MultiSpec spec = set.Spec();
  for (size_t i = 0; i < num_documents; ++i) {
    const TokenRows row = set.document(i * set.num_documents() / num_documents);
    const size_t at = tokens.size();
    tokens.resize(at + row.num_tokens * dim);
    LoadTokens(spec, row, 0, row.num_tokens, &tokens[at]);
    ends.push_back(tokens.size() / dim);
  }
}

}  // namespace vicinal::bench
