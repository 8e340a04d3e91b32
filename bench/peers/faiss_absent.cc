#include "bench/ann_system.h"

namespace vicinal::bench {

std::unique_ptr<AnnSystem> MakeFaissHnsw() { return nullptr; }

}  // namespace vicinal::bench
