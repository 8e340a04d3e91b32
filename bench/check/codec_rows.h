// Rows of the quantization table that need no graph: errors, bytes and times of
// codes.
#pragma once

#include <string>

#include "bench/check/report.h"

namespace vicinal::bench {

struct CodecOptions {
  std::string word_vectors;  // f16 npy, 100-d; its row is left out without it
  size_t rows = 20'000;      // of the study's sets
  size_t queries = 100;
};

void MeasureCodecs(const CodecOptions& options, CheckReport* report);

}  // namespace vicinal::bench
