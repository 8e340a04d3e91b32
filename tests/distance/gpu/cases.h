// The parts that conformance.cc puts together: cases by what they are about.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "tests/distance/gpu/conformance.h"

namespace vicinal::backend_tests {

// Searches of many shapes: sizes, types, filters.
std::span<const ConformanceCase> ShapeCases();
// Searches of data that is hard to select from or to compare.
std::span<const ConformanceCase> SearchCases();
// Searches among ranges of rows.
std::span<const ConformanceCase> RangeCases();
// Rows of int8 and uint8 at the edges of their values.
std::span<const ConformanceCase> ByteCases();
// Scores, graphs, assignments; life of segments, threads.
std::span<const ConformanceCase> OtherCases();
// K-means, second moments, rotations.
std::span<const ConformanceCase> TrainCases();
// Searches by codes.
std::span<const ConformanceCase> CodeCases();
// Code records, of a GPU alone: the CPU's are made by Codec::Encode.
std::span<const GpuCase> EncodeCases();
// MaxSim over documents of token vectors.
std::span<const ConformanceCase> MaxSimCases();
// The same of coded tokens.
std::span<const ConformanceCase> CodedTokenCases();

// What ask(i) says in each thread i, the first problem.
std::string InThreads(size_t num_threads,
                      const std::function<std::string(size_t)>& ask);

}  // namespace vicinal::backend_tests

// Ends a case with what an expression found wrong.
#define VICINAL_CHECK_CASE(expression)                      \
  do {                                                      \
    if (std::string wrong = (expression); !wrong.empty()) { \
      return wrong;                                         \
    }                                                       \
  } while (false)
