// Early return on a Status that is not OK. One use per line.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define VICINAL_RETURN_IF_ERROR(expr)                                   \
  do {                                                                  \
    if (absl::Status vicinal_status_ = (expr); !vicinal_status_.ok()) { \
      return vicinal_status_;                                           \
    }                                                                   \
  } while (false)

#define VICINAL_CONCAT_INNER_(a, b) a##b
#define VICINAL_CONCAT_(a, b) VICINAL_CONCAT_INNER_(a, b)

// VICINAL_ASSIGN_OR_RETURN(auto x, MakeX());
#define VICINAL_ASSIGN_OR_RETURN(lhs, expr) \
  VICINAL_ASSIGN_OR_RETURN_(VICINAL_CONCAT_(vicinal_or_, __LINE__), lhs, expr)
#define VICINAL_ASSIGN_OR_RETURN_(tmp, lhs, expr) \
  auto tmp = (expr);                              \
  if (!tmp.ok()) return std::move(tmp).status();  \
  lhs = *std::move(tmp)
