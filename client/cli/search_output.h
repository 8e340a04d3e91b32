// What `vicinal search` prints.
#pragma once

#include "client/client.h"
#include "vicinal/v1/search.pb.h"

namespace vicinal::cli {

// Prints the reply to a search with these options as a table or as JSON, and
// returns the exit code.
int PrintSearch(const v1::SearchResponse& response,
                const client::SearchOptions& options, bool json);

}  // namespace vicinal::cli
