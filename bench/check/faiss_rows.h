// Rows that compare graphs and lists on codes with the newest faiss, which runs
// in its own process (bench/peers/faiss_peer.py).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "bench/check/report.h"
#include "bench/dataset.h"

namespace vicinal::bench {

struct FaissOptions {
  std::string python;     // one that has faiss and numpy; empty: none
  std::string script;     // faiss_peer.py
  std::string cache_dir;  // of ground truth
  size_t passes = 2;      // the fastest counts
  size_t max_queries = 500;
  size_t build_threads = 2;
};

// One thread on both sides. Rows show the set on which ours is slowest. Ours
// has the default codec and holds its vectors beside; faiss's indexes hold
// codes and what they refine with, so that theirs take more memory per vector
// than our codes and links.
void MeasureAgainstFaiss(const std::vector<DatasetSpec>& sets,
                         const FaissOptions& options, CheckReport* report);

}  // namespace vicinal::bench
