// Growing and sealed rows of terms: the same answers, the same statistics.
#include "index/lexical_field.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "index/growing_lexical.h"
#include "index/sealed_lexical.h"
#include "index/sparse.h"
#include "src/base/bitmap.h"
#include "src/base/random.h"
#include "src/base/top_k.h"

namespace vicinal {
namespace {

constexpr uint64_t kSeed = 41;

// What a field that is sealed borrows, on a page of its own.
struct Sealed {
  LexicalBytes bytes;
  std::unique_ptr<SealedLexicalField> field;
};

Sealed Seal(const std::vector<LexicalSource>& rows, LexicalKind kind,
            SparseWeight weight) {
  Sealed out;
  const bool is_text = kind == LexicalKind::kText;
  out.bytes = *BuildLexicalField(rows, kind, weight, is_text, nullptr);
  out.field = *SealedLexicalField::Open(
      {out.bytes.index, out.bytes.words, out.bytes.positions}, kind, is_text,
      rows.size());
  return out;
}

std::vector<LexicalSource> AllOf(const LexicalField& field, size_t num_rows) {
  std::vector<LexicalSource> rows;
  for (RowId row = 0; row < num_rows; ++row) rows.push_back({&field, row});
  return rows;
}

// Appends random rows of words or dimensions.
class Writer {
 public:
  Writer(LexicalKind kind, GrowingLexicalField* field)
      : kind_(kind), field_(*field), random_(kSeed) {}

  void Append() {
    if (kind_ == LexicalKind::kSparse) {
      std::map<uint32_t, float> entries;
      for (uint64_t n = random_.Uniform(12); n > 0; --n) {
        entries[static_cast<uint32_t>(random_.Uniform(50))] =
            static_cast<float>(random_.Uniform(7)) - 2.5f;
      }
      std::vector<uint32_t> dims;
      std::vector<float> weights;
      for (const auto& [dim, weight] : entries) {
        dims.push_back(dim);
        weights.push_back(weight);
      }
      field_.Append({dims, weights});
      return;
    }
    std::map<std::string, std::vector<uint32_t>> words;
    const auto length = static_cast<uint32_t>(random_.Uniform(40));
    for (uint32_t position = 0; position < length; ++position) {
      words[absl::StrCat("w", random_.Uniform(1 + random_.Uniform(60)))]
          .push_back(position);
    }
    TextRow row;
    for (const auto& [word, positions] : words) {
      row.terms.push_back(
          {word, static_cast<uint32_t>(positions.size()), positions});
    }
    field_.AppendText(row);
  }

 private:
  const LexicalKind kind_;
  GrowingLexicalField& field_;
  Random random_;
};

// By the words or dimensions that `asked` are.
std::vector<LexicalTerm> QueryOf(const LexicalField& field, LexicalKind kind,
                                 const std::map<uint32_t, float>& asked) {
  std::vector<LexicalTerm> out;
  for (const auto& [number, weight] : asked) {
    const uint32_t term = kind == LexicalKind::kText
                              ? field.FindWord(absl::StrCat("w", number))
                              : field.FindDim(number);
    if (term != kNoTerm) out.push_back({term, weight});
  }
  return out;
}

std::vector<Neighbor> SearchIn(const LexicalField& field, LexicalKind kind,
                               const std::map<uint32_t, float>& asked, size_t k,
                               const Filter& filter, RowId begin, RowId end,
                               bool scan = false) {
  TopK top(k);
  SparseParams params{.k = k, .scan = scan};
  params.bm25.mean_length = 17.5;
  const absl::Status status =
      field.Search(QueryOf(field, kind, asked), params, filter, begin, end, {},
                   &top, nullptr);
  EXPECT_TRUE(status.ok()) << status;
  return top.TakeSorted();
}

class LexicalFieldTest : public ::testing::TestWithParam<LexicalKind> {
 protected:
  SparseWeight weight() const {
    return GetParam() == LexicalKind::kText ? SparseWeight::kCount
                                            : SparseWeight::kFloat32;
  }
  std::map<uint32_t, float> RandomQuery(Random& random) const {
    std::map<uint32_t, float> asked;
    for (uint64_t n = 1 + random.Uniform(8); n > 0; --n) {
      const float weight = static_cast<float>(1 + random.Uniform(5));
      const bool is_negative =
          GetParam() == LexicalKind::kSparse && random.Uniform(4) == 0;
      asked[static_cast<uint32_t>(random.Uniform(70))] =
          is_negative ? -weight : weight;
    }
    return asked;
  }
};

TEST_P(LexicalFieldTest, GrowingAndSealedRowsAnswerTheSame) {
  constexpr size_t kRows = 2'000;
  GrowingLexicalField growing(GetParam(), true, kRows);
  Writer writer(GetParam(), &growing);
  for (size_t i = 0; i < kRows; ++i) writer.Append();
  const Sealed sealed = Seal(AllOf(growing, kRows), GetParam(), weight());
  Random random(kSeed + 1);
  for (int i = 0; i < 200; ++i) {
    SCOPED_TRACE(i);
    const auto asked = RandomQuery(random);
    const size_t k = 1 + random.Uniform(i % 10 == 0 ? 3'000 : 20);
    Bitmap allowed(kRows);
    const uint64_t one_in = uint64_t{1} << random.Uniform(12);
    size_t num_allowed = 0;
    for (RowId row = 0; row < kRows; ++row) {
      if (random.Uniform(one_in) != 0) continue;
      allowed.Set(row);
      ++num_allowed;
    }
    Filter filter;
    if (i % 3 > 0) filter = {.allowed = &allowed, .num_allowed = num_allowed};
    RowId begin = 0, end = kRows;
    if (i % 4 == 0) {
      begin = static_cast<RowId>(random.Uniform(kRows));
      end = begin + static_cast<RowId>(random.Uniform(kRows - begin + 1));
    }
    const auto wanted = SearchIn(growing, GetParam(), asked, k, filter, begin,
                                 end, /*scan=*/true);
    EXPECT_EQ(SearchIn(growing, GetParam(), asked, k, filter, begin, end),
              wanted);
    EXPECT_EQ(SearchIn(*sealed.field, GetParam(), asked, k, filter, begin, end),
              wanted);
  }
}

// Entries by what they are, with their positions.
std::vector<std::string> EntriesOf(const LexicalField& field, LexicalKind kind,
                                   RowId row) {
  std::vector<std::string> out;
  field.ForEachEntry(row, [&](uint32_t term, float weight) {
    std::string entry = kind == LexicalKind::kText
                            ? std::string(field.WordOf(term))
                            : absl::StrCat(field.DimOf(term));
    std::vector<uint32_t> positions;
    field.PositionsOf(row, term, &positions);
    absl::StrAppend(&entry, " ", weight, " ", absl::StrJoin(positions, ","));
    out.push_back(std::move(entry));
  });
  return out;
}

TEST_P(LexicalFieldTest, MergesKeepRowsAndCountsAreOfLiveOnes) {
  constexpr size_t kRows = 600;
  GrowingLexicalField growing(GetParam(), true, 2 * kRows);
  Writer writer(GetParam(), &growing);
  for (size_t i = 0; i < kRows; ++i) writer.Append();
  Sealed first = Seal(AllOf(growing, kRows / 2), GetParam(), weight());
  // Half of it sealed, half of it not; every third row dies in either.
  std::vector<LexicalSource> live;
  for (RowId row = 0; row < kRows; ++row) {
    LexicalField* field = row < kRows / 2
                              ? static_cast<LexicalField*>(first.field.get())
                              : &growing;
    if (row % 3 == 0) {
      field->Kill(row);
    } else {
      live.push_back({field, row});
    }
  }
  for (RowId row = 0; row < kRows / 2; ++row) growing.Kill(row);
  const Sealed merged = Seal(live, GetParam(), weight());
  for (RowId row = 0; row < live.size(); ++row) {
    EXPECT_EQ(EntriesOf(*merged.field, GetParam(), row),
              EntriesOf(*live[row].field, GetParam(), live[row].row));
  }
  const LexicalTotals a = first.field->totals(), b = growing.totals();
  EXPECT_EQ(merged.field->totals().num_rows, a.num_rows + b.num_rows);
  EXPECT_EQ(merged.field->totals().length, a.length + b.length);
  for (uint32_t number = 0; number < 60; ++number) {
    const auto count = [&](const LexicalField& field) -> uint64_t {
      const auto terms = QueryOf(field, GetParam(), {{number, 1.0f}});
      return terms.empty() ? 0 : field.NumLive(terms[0].term);
    };
    EXPECT_EQ(count(*merged.field), count(*first.field) + count(growing));
  }
}

TEST_P(LexicalFieldTest, PostingsAreThoseOfTheEntries) {
  constexpr size_t kRows = 500;
  GrowingLexicalField growing(GetParam(), true, kRows);
  Writer writer(GetParam(), &growing);
  for (size_t i = 0; i < kRows; ++i) writer.Append();
  const Sealed sealed = Seal(AllOf(growing, kRows), GetParam(), weight());
  for (const LexicalField* field :
       {static_cast<const LexicalField*>(&growing),
        static_cast<const LexicalField*>(sealed.field.get())}) {
    std::map<std::pair<uint32_t, RowId>, float> wanted, found;
    uint32_t num_terms = 0;
    for (RowId row = 100; row < 400; ++row) {
      field->ForEachEntry(row, [&](uint32_t term, float weight) {
        wanted[{term, row}] = weight;
        num_terms = std::max(num_terms, term + 1);
      });
    }
    for (uint32_t term = 0; term < num_terms; ++term) {
      field->ForEachPosting(term, 100, 400, [&](RowId row, float weight) {
        found[{term, row}] = weight;
      });
    }
    EXPECT_EQ(found, wanted);
  }
}

TEST_P(LexicalFieldTest, ReadersMayLookWhileRowsAreAppended) {
  constexpr size_t kRows = 5'000;
  GrowingLexicalField growing(GetParam(), true, kRows);
  std::atomic<RowId> published = 0;
  std::thread writer([&] {
    Writer rows(GetParam(), &growing);
    for (size_t i = 0; i < kRows; ++i) {
      rows.Append();
      if (i % 7 == 0) growing.Kill(static_cast<RowId>(i));
      published.store(static_cast<RowId>(i + 1), std::memory_order_release);
    }
  });
  Random random(kSeed);
  RowId end = 0;
  while (end < kRows) {
    end = published.load(std::memory_order_acquire);
    const auto asked = RandomQuery(random);
    const auto fast = SearchIn(growing, GetParam(), asked, 10, {}, 0, end);
    EXPECT_EQ(fast, SearchIn(growing, GetParam(), asked, 10, {}, 0, end, true));
    EXPECT_LE(growing.totals().num_rows, kRows);
  }
  writer.join();
}

TEST_P(LexicalFieldTest, EmptyFieldsTakeNextToNoMemory) {
  const GrowingLexicalField growing(GetParam(), true, 1'000'000);
  EXPECT_LT(growing.memory_bytes(), 4'096u);
  const Sealed sealed = Seal({}, GetParam(), weight());
  EXPECT_EQ(sealed.field->totals().num_rows, 0u);
  EXPECT_TRUE(
      SearchIn(*sealed.field, GetParam(), {{1, 1.0f}}, 5, {}, 0, 0).empty());
}

// Of a damaged file nothing but an error, or a field that can be read, comes.
TEST_P(LexicalFieldTest, DamagedBytesDoNoHarm) {
  constexpr size_t kRows = 30;
  GrowingLexicalField growing(GetParam(), true, kRows);
  Writer writer(GetParam(), &growing);
  for (size_t i = 0; i < kRows; ++i) writer.Append();
  const bool is_text = GetParam() == LexicalKind::kText;
  const LexicalBytes whole = *BuildLexicalField(
      AllOf(growing, kRows), GetParam(), weight(), is_text, nullptr);
  const auto open = [&](const LexicalBytes& bytes) {
    const auto field =
        SealedLexicalField::Open({bytes.index, bytes.words, bytes.positions},
                                 GetParam(), is_text, kRows);
    if (!field.ok()) {
      EXPECT_TRUE(absl::IsDataLoss(field.status())) << field.status();
      return false;
    }
    for (RowId row = 0; row < kRows; ++row) {
      EntriesOf(**field, GetParam(), row);
    }
    SearchIn(**field, GetParam(), {{1, 1.0f}, {2, 2.0f}}, 9, {}, 0, kRows);
    return true;
  };
  ASSERT_TRUE(open(whole));
  std::string LexicalBytes::* const parts[] = {
      &LexicalBytes::index, &LexicalBytes::words, &LexicalBytes::positions};
  Random random(kSeed);
  for (const auto part : parts) {
    for (size_t size = 0; size < (whole.*part).size(); ++size) {
      LexicalBytes cut = whole;
      (cut.*part).resize(size);
      EXPECT_FALSE(open(cut)) << size;
    }
    for (int i = 0; i < 3'000 && !(whole.*part).empty(); ++i) {
      LexicalBytes flipped = whole;
      (flipped.*part)[random.Uniform((whole.*part).size())] ^=
          static_cast<char>(1 << random.Uniform(8));
      open(flipped);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, LexicalFieldTest,
                         ::testing::Values(LexicalKind::kSparse,
                                           LexicalKind::kText),
                         [](const auto& param_info) {
                           return param_info.param == LexicalKind::kText
                                      ? "Text"
                                      : "Sparse";
                         });

TEST(TextFieldTest, WordsAreFoundByWhatTheyBeginWith) {
  GrowingLexicalField growing(LexicalKind::kText, false, 10);
  TextRow row;
  for (const absl::string_view word :
       {"a", "automat", "automatic", "automatics", "autumn", "b"}) {
    row.terms.push_back({word, 300, {}});
  }
  growing.AppendText(row);
  const LexicalBytes bytes =
      *BuildLexicalField(AllOf(growing, 1), LexicalKind::kText,
                         SparseWeight::kCount, false, nullptr);
  const auto sealed = *SealedLexicalField::Open({bytes.index, bytes.words, ""},
                                                LexicalKind::kText, false, 1);
  for (const LexicalField* field :
       {static_cast<const LexicalField*>(&growing),
        static_cast<const LexicalField*>(sealed.get())}) {
    std::vector<std::string> found;
    field->ForEachWordFrom("automat", [&](absl::string_view word, uint32_t) {
      found.emplace_back(word);
    });
    std::sort(found.begin(), found.end());
    EXPECT_EQ(found,
              (std::vector<std::string>{"automat", "automatic", "automatics"}));
    EXPECT_EQ(field->FindWord("auto"), kNoTerm);
    // More than 255 count as so many.
    EXPECT_EQ(field->LengthOf(0), 6u * 255);
  }
}

}  // namespace
}  // namespace vicinal
