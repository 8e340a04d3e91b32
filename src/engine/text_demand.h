// What a search asks of texts, as it was typed.
#pragma once

#include <cstddef>
#include <string>

namespace vicinal {

// What is asked, and how much of it must be there.
struct TextDemand {
  std::string text;        // words, or
  std::string expression;  // as of ParseTextExpression
  size_t min_should = 0;   // 0: one where nothing must be there
  double min_share = 0;    // of the kShould; 0: as min_should says
  bool all = false;        // what has no operator must be there, too
};

}  // namespace vicinal
