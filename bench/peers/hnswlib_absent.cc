#include "bench/ann_system.h"

namespace vicinal::bench {

std::unique_ptr<AnnSystem> MakeHnswlib() { return nullptr; }

}  // namespace vicinal::bench
