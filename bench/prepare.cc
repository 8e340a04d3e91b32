// Apart from the rest of Dataset, which needs the formats library.
#include "bench/dataset.h"
#include "src/distance/distance.h"

namespace vicinal::bench {

void Dataset::Prepare() {
  if (metric != Metric::kCosine) return;
  for (FloatMatrix* matrix : {&base, &queries}) {
    for (size_t i = 0; i < matrix->num_rows; ++i) {
      float* row = matrix->values.data() + i * matrix->dim;
      NormalizeInto(row, matrix->dim, row);
    }
  }
}

}  // namespace vicinal::bench
