// Code records and queries for the tests of backends: any layout, random bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "src/base/random.h"
#include "src/distance/gpu/backend.h"
#include "src/distance/kernels_codes.h"

namespace vicinal::backend_tests {

struct SegmentShape {
  uint32_t bits = 1;  // 0: a factor alone
  uint32_t num_dims = 64;
  bool has_low = false;
  bool has_levels = false;
};

// Random records of a layout; those of `copies` are the record before them.
class TestCodes {
 public:
  TestCodes(const std::vector<SegmentShape>& shapes, bool rescale_is_f16,
            size_t num_rows, Random& random);

  SegmentCodes view() const {
    return {&layout_, records_.data(), stride_, num_rows_};
  }
  const CodeLayout& layout() const { return layout_; }
  size_t num_rows() const { return num_rows_; }
  size_t value_bytes() const { return value_bytes_; }
  // Makes row `to` a copy of row `from`.
  void Copy(size_t from, size_t to);

 private:
  CodeLayout layout_;
  std::vector<uint8_t> records_;
  size_t stride_ = 0;
  size_t num_rows_ = 0;
  size_t value_bytes_ = 0;
};

// Queries of a layout, and probes of them that are to be added.
class TestCodeQueries {
 public:
  TestCodeQueries(const TestCodes& codes, size_t num, Random& random);
  // Factors of their own, as those around another centre are.
  void AddProbe(size_t query, uint32_t list, Random& random);
  // Sets what of the question is said by the queries and their probes.
  void Fill(CodeQuestion* question) const;

 private:
  size_t num_;
  size_t num_segments_;
  size_t value_bytes_;
  std::vector<int8_t> values_;
  std::deque<CodeQuery> terms_;  // of the probes
  std::vector<CodeProbe> probes_;
};

}  // namespace vicinal::backend_tests
