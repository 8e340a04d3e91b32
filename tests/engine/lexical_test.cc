// Searches by terms against a walk over all documents, whatever became of the
// segments that hold them.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "src/base/cancel.h"
#include "src/base/random.h"
#include "src/engine/database.h"
#include "src/payload/filter_text.h"
#include "tests/engine/engine_testing.h"
#include "tests/engine/lexical_testing.h"

namespace vicinal {
namespace {

struct Param {
  SparseWeight weight;
  bool idf;
};

class LexicalTest : public ::testing::TestWithParam<Param> {
 protected:
  LexicalTest()
      : schema_(LexicalSchema(GetParam().weight, GetParam().idf)),
        oracle_(schema_),
        random_(kSeed) {
    Open();
  }

  void Open() {
    const absl::Status status = OpenCollection(
        folder_.path(), TestOptions(), schema_, &database_, &collection_);
    ASSERT_TRUE(status.ok()) << status;
  }

  void Write(uint64_t first, uint64_t count) {
    std::map<uint64_t, Document> documents;
    for (uint64_t id = first; id < first + count; ++id) {
      documents[id] = RandomDocument(random_);
      oracle_.documents()[id] = documents[id];
    }
    const WriteOutcome outcome = Upsert(collection_.get(), documents);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  }
  void Delete(uint64_t first, uint64_t count, uint64_t step) {
    std::vector<PointId> ids;
    for (uint64_t i = 0; i < count; ++i) {
      ids.emplace_back(first + i * step);
      oracle_.documents().erase(first + i * step);
    }
    ASSERT_TRUE(collection_->Delete(ids).status.ok());
  }

  void Compare(const std::string& when) {
    SCOPED_TRACE(when);
    for (int i = 0; i < 12; ++i) {
      const size_t k = 1 + random_.Uniform(30);
      const SparseEntries entries = RandomEntries(random_, 8);
      if (!entries.empty()) {
        EXPECT_EQ(Search(*collection_, SparseQueryOf(entries, k)),
                  oracle_.BySparse(entries, k));
      }
      const std::string words = RandomWords(random_, 5) + " a";
      for (const char* field : {"title", "body"}) {
        EXPECT_EQ(Search(*collection_, TextQueryOf(field, words, k)),
                  oracle_.ByText(field, words, k, 1.2f, 0.75f))
            << words;
      }
      CompareBoth(words, k);
    }
  }

  void CompareBoth(const std::string& words, size_t k) {
    Query query = TextQueryOf("title", words, k);
    auto& stage = std::get<TextStage>(query.stage);
    stage.fields = {{"title", 3}, {"body", 1}};
    const std::vector<Scored> found = Search(*collection_, std::move(query));
    const std::vector<Scored> wanted = oracle_.ByBoth(words, 3, 1, k);
    ASSERT_EQ(found.size(), wanted.size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_NEAR(found[i].score, wanted[i].score, 1e-5f);
    }
  }

  static constexpr uint64_t kSeed = 71;
  TempFolder folder_;
  const CollectionSchema schema_;
  LexicalOracle oracle_;
  Random random_;
  std::unique_ptr<Database> database_;
  std::shared_ptr<Collection> collection_;
};

TEST_P(LexicalTest, FindsWhatAWalkOverAllDocumentsFinds) {
  Compare("empty");
  Write(0, 300);
  Compare("growing");
  Write(100, 150);
  Delete(0, 40, 3);
  Compare("growing, with dead ones");
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  Compare("sealed");
  Write(50, 400);
  Delete(1, 60, 5);
  Compare("sealed and growing, with dead ones in both");
  Open();
  Compare("opened again");
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  Compare("merged");
  Delete(0, 500, 1);
  Compare("all of these deleted");
}

// Not even in the last bit, and so pages of one result fit another.
TEST_P(LexicalTest, ScoresDoNotDependOnSegmentsOrderOrRestarts) {
  Write(0, 500);
  const SparseEntries entries{{1, 2, 3, 4, 5, 6, 7}, {1, 2, .5f, 3, 1, 1, 2}};
  const std::string words = "a b c d e f g h";
  const auto ask = [&] {
    return std::make_pair(
        Search(*collection_, SparseQueryOf(entries, 200)),
        Search(*collection_, TextQueryOf("body", words, 200)));
  };
  const auto first = ask();
  ASSERT_GT(first.second.size(), 100u);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  EXPECT_EQ(ask(), first);
  // Every document again, some by some, in another order.
  std::vector<uint64_t> ids(500);
  for (uint64_t i = 0; i < ids.size(); ++i) ids[i] = i * 331 % 500;
  for (size_t begin = 0; begin < ids.size(); begin += 50) {
    std::map<uint64_t, Document> some;
    for (size_t i = begin; i < begin + 50; ++i) {
      some[ids[i]] = oracle_.documents()[ids[i]];
    }
    ASSERT_TRUE(Upsert(collection_.get(), some).status.ok());
    if (begin == 200) {
      ASSERT_TRUE(Finished(collection_->Optimize(9)).ok());
    }
  }
  EXPECT_EQ(ask(), first);
  Open();
  EXPECT_EQ(ask(), first);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  EXPECT_EQ(ask(), first);
}

TEST_P(LexicalTest, FiltersLeaveTheBestOfTheOthers) {
  Write(0, 800);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  Write(700, 300);
  const SparseEntries entries{{0, 1, 2, 3, 4, 5}, {1, 1, 2, 2, 3, 3}};
  for (const int64_t limit : {-1, 0, 9, 50, 100}) {
    const auto filter = std::make_shared<const FilterNode>(
        *ParseFilter(absl::StrCat("rank <= ", limit), {}));
    Query sparse = SparseQueryOf(entries, 20);
    std::get<SparseStage>(sparse.stage).filter = filter;
    Query text = TextQueryOf("body", "a b c", 20);
    std::get<TextStage>(text.stage).filter = filter;
    const auto leave = [&](const std::vector<Scored>& all) {
      std::vector<Scored> out;
      for (const Scored& hit : all) {
        if (oracle_.documents()[hit.id.number()].rank > limit) continue;
        if (out.size() < 20) out.push_back(hit);
      }
      return out;
    };
    EXPECT_EQ(Search(*collection_, std::move(sparse)),
              leave(oracle_.BySparse(entries, 5000)));
    EXPECT_EQ(Search(*collection_, std::move(text)),
              leave(oracle_.ByText("body", "a b c", 5000, 1.2f, 0.75f)));
  }
}

TEST_P(LexicalTest, ParametersOfAQueryCountBeforeThoseOfTheField) {
  Write(0, 200);
  Query query = TextQueryOf("body", "a b", 10);
  std::get<TextStage>(query.stage).k1 = 0.9f;
  std::get<TextStage>(query.stage).b = 0.4f;
  EXPECT_EQ(Search(*collection_, std::move(query)),
            oracle_.ByText("body", "a b", 10, 0.9f, 0.4f));
}

// Which documents an expression finds, beside what its words say.
TEST_P(LexicalTest, OperatorsSayWhatMustBeThere) {
  Write(0, 400);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  Write(300, 300);
  using Words = std::vector<std::string>;
  const auto has = [](const Words& words, const std::string& word) {
    return std::count(words.begin(), words.end(), word) > 0;
  };
  const auto has_phrase = [](const Words& words, const std::string& a,
                             const std::string& b) {
    for (size_t i = 1; i < words.size(); ++i) {
      if (words[i - 1] == a && words[i] == b) return true;
    }
    return false;
  };
  const std::map<std::string, std::function<bool(const Words&)>> cases = {
      {"+b c", [&](const Words& w) { return has(w, "b"); }},
      {"+b +c", [&](const Words& w) { return has(w, "b") && has(w, "c"); }},
      {"b -a", [&](const Words& w) { return has(w, "b") && !has(w, "a"); }},
      {"\"b a\"", [&](const Words& w) { return has_phrase(w, "b", "a"); }},
      {"\"a b a\"",
       [&](const Words& w) {
         for (size_t i = 2; i < w.size(); ++i) {
           if (w[i - 2] == "a" && w[i - 1] == "b" && w[i] == "a") return true;
         }
         return false;
       }},
      {"+\"b a\" -\"a b\"",
       [&](const Words& w) {
         return has_phrase(w, "b", "a") && !has_phrase(w, "a", "b");
       }},
      {"+(c d) +e",
       [&](const Words& w) {
         return (has(w, "c") || has(w, "d")) && has(w, "e");
       }},
      {"cz*",
       [&](const Words& w) {
         return std::any_of(w.begin(), w.end(), [](const std::string& word) {
           return word.substr(0, 2) == "cz";
         });
       }},
  };
  for (const auto& [expression, holds] : cases) {
    SCOPED_TRACE(expression);
    std::vector<uint64_t> wanted;
    for (const auto& [id, document] : oracle_.documents()) {
      if (holds(absl::StrSplit(document.body, ' '))) wanted.push_back(id);
    }
    std::vector<uint64_t> found;
    for (const Scored& hit :
         Search(*collection_, ExpressionOf("body", expression, 2000))) {
      found.push_back(hit.id.number());
    }
    std::sort(found.begin(), found.end());
    EXPECT_EQ(found, wanted);
    // The same as a filter, in which nothing is optional.
    if (expression == "+b c") continue;
    std::string quoted;
    for (const char c : expression) {
      if (c == '"') quoted += '\\';
      quoted += c;
    }
    const FilterNode filter =
        *ParseFilter(absl::StrCat("MATCH(body, \"", quoted, "\")"), {});
    if (expression == "+(c d) +e") continue;
    EXPECT_EQ(*collection_->CountMatching(filter, {}), wanted.size());
  }
}

TEST_P(LexicalTest, SegmentsWithoutVectorsAreMergedAsThoseWithThem) {
  const TempFolder folder;
  DatabaseOptions options = TestOptions();
  options.growing_segment_bytes = size_t{32} << 10;
  std::unique_ptr<Database> database;
  std::shared_ptr<Collection> collection;
  ASSERT_TRUE(
      OpenCollection(folder.path(), options, schema_, &database, &collection)
          .ok());
  // Once all that are full are sealed.
  const auto num_sealed = [&] {
    size_t sealed = 0, others = 2;
    for (int wait = 0; wait < 1000 && others > 1; ++wait) {
      if (wait > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      sealed = others = 0;
      for (const SegmentStats& segment : collection->stats().segments) {
        ++(segment.state == SegmentState::kSealed ? sealed : others);
      }
    }
    return sealed;
  };
  size_t num_more = 0;  // than before
  size_t sealed = 0;
  for (uint64_t i = 0; i < 24; ++i) {
    std::map<uint64_t, Document> documents;
    for (uint64_t id = i * 200; id < (i + 1) * 200; ++id) {
      documents[id] = RandomDocument(random_);
    }
    ASSERT_TRUE(Upsert(collection.get(), documents).status.ok());
    const size_t before = std::exchange(sealed, num_sealed());
    num_more += sealed > before ? 1 : 0;
  }
  EXPECT_GE(num_more, 4u);
  EXPECT_GE(sealed, 1u);
  EXPECT_LE(sealed, 8u);
}

TEST_P(LexicalTest, PhrasesOfTooManyWordsAreRefused) {
  Write(0, 10);
  std::string phrase = "\"";
  for (int i = 0; i < 1025; ++i) phrase += "a ";
  std::vector<Query> queries;
  queries.push_back(ExpressionOf("body", absl::StrCat(phrase, "\""), 10));
  const auto result = collection_->Search(queries, {});
  EXPECT_TRUE(absl::IsInvalidArgument(result.status()));
  EXPECT_TRUE(absl::StrContains(result.status().message(), "the limit is 1024"))
      << result.status();
}

TEST_P(LexicalTest, AShareOfTheWordsMustBeThere) {
  Write(0, 300);
  Query query = TextQueryOf("body", "a b c d", 1000);
  std::get<TextStage>(query.stage).demand.min_should = 3;
  const size_t found = Search(*collection_, std::move(query)).size();
  size_t wanted = 0;
  for (const auto& [id, document] : oracle_.documents()) {
    const std::vector<std::string> words = absl::StrSplit(document.body, ' ');
    size_t count = 0;
    for (const char* word : {"a", "b", "c", "d"}) {
      count += std::count(words.begin(), words.end(), word) > 0;
    }
    wanted += count >= 3;
  }
  EXPECT_GT(wanted, 0u);
  EXPECT_EQ(found, wanted);
  Query share = TextQueryOf("body", "a b c d", 1000);
  std::get<TextStage>(share.stage).demand.min_share = 0.75;
  EXPECT_EQ(Search(*collection_, std::move(share)).size(), wanted);
}

// A share that no binary number is, such as 0.57, is the number meant.
TEST_P(LexicalTest, AShareOfTheWordsIsRoundedDownFromWhatWasMeant) {
  constexpr uint64_t kWords = 100;
  std::map<uint64_t, Document> documents;
  std::string words;
  for (uint64_t id = 1; id <= kWords; ++id) {
    absl::StrAppend(&words, "w", id, " ");
    documents[id].body = words;  // so many of them
  }
  ASSERT_TRUE(Upsert(collection_.get(), documents).status.ok());
  for (uint64_t percent = 1; percent <= kWords; ++percent) {
    Query query = TextQueryOf("body", words, 2 * kWords);
    std::get<TextStage>(query.stage).demand.min_share =
        static_cast<double>(percent) / 100;
    EXPECT_EQ(Search(*collection_, std::move(query)).size(),
              kWords - percent + 1)
        << percent;
  }
}

TEST_P(LexicalTest, AnExcludedPrefixExcludesAllOfItsWords) {
  constexpr uint64_t kWords = 1'100;  // more than a positive one stands for
  std::map<uint64_t, Document> documents;
  for (uint64_t id = 1; id <= kWords; ++id) {
    documents[id].body = absl::StrCat("kept other pre", id);
  }
  documents[0].body = "kept other";
  ASSERT_TRUE(Upsert(collection_.get(), documents).status.ok());
  for (const char* when : {"growing", "sealed"}) {
    for (const char* expression :
         {"kept -pre*", "kept -(other +pre*)", "kept +(other -pre*)"}) {
      SCOPED_TRACE(absl::StrCat(when, ": ", expression));
      const std::vector<Scored> found =
          Search(*collection_, ExpressionOf("body", expression, 2 * kWords));
      ASSERT_EQ(found.size(), 1u);
      EXPECT_EQ(found[0].id, PointId(0));
    }
    ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  }
}

TEST_P(LexicalTest, AMatchOfAFilterLooksAtTheClock) {
  std::map<uint64_t, Document> documents;
  for (uint64_t id = 0; id < 4'000; ++id) documents[id].body = "one two";
  ASSERT_TRUE(Upsert(collection_.get(), documents).status.ok());
  const auto looks_at = [&](absl::string_view filter) {
    std::atomic<int> looks = 0;
    const StopCondition stop{.cancelled = [&] {
      ++looks;
      return false;
    }};
    EXPECT_TRUE(
        collection_->CountMatching(*ParseFilter(filter, {}), stop).ok());
    return looks.load();
  };
  // Of phrases once for 1,024 words.
  EXPECT_GE(looks_at("MATCH(body, '\"one two\"')"),
            looks_at("MATCH(body, 'one')") + 7);
}

TEST_P(LexicalTest, AChangedPayloadIsAnotherText) {
  Write(0, 20);
  PayloadChange change;
  change.merge = R"({"body": "entirely new words"})";
  std::string field;
  const auto patch = PayloadPatch::Make(std::move(change), Limits(), &field);
  ASSERT_TRUE(patch.ok());
  ASSERT_TRUE(
      collection_->UpdatePayload({PointId(7)}, *patch, {}, {}).status.ok());
  oracle_.documents()[7].body = "entirely new words";
  EXPECT_EQ(Search(*collection_, TextQueryOf("body", "entirely", 5)).size(),
            1u);
  Compare("after a change");
  Open();
  Compare("opened again");
}

TEST_P(LexicalTest, StoredVectorsComeBackAsTheyWere) {
  Write(0, 50);
  ASSERT_TRUE(Finished(collection_->Optimize(1)).ok());
  std::vector<PointId> ids;
  for (uint64_t id = 0; id < 50; ++id) ids.emplace_back(id);
  PointSelection selection;
  selection.sparse = {0};
  const auto points = collection_->Get(ids, selection, {});
  ASSERT_TRUE(points.ok()) << points.status();
  for (uint64_t id = 0; id < 50; ++id) {
    const SparseEntries& wanted = oracle_.documents()[id].sparse;
    EXPECT_EQ((*points)[id]->sparse[0].dims, wanted.dims);
    EXPECT_EQ((*points)[id]->sparse[0].weights, wanted.weights);
  }
}

INSTANTIATE_TEST_SUITE_P(All, LexicalTest,
                         ::testing::Values(Param{SparseWeight::kFloat32, false},
                                           Param{SparseWeight::kFloat16, true}),
                         [](const auto& param_info) {
                           return absl::StrCat(
                               param_info.param.weight == SparseWeight::kFloat32
                                   ? "F32"
                                   : "F16",
                               param_info.param.idf ? "Idf" : "");
                         });

}  // namespace
}  // namespace vicinal
