// Invariants of our own code. VICINAL_CHECK is always on; VICINAL_DCHECK
// disappears with NDEBUG. Bad input is never an invariant: return a Status.
#pragma once

#include <sstream>
#include <string>

namespace vicinal {

// Prints the message to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line,
                              const std::string& message);

template <typename A, typename B>
[[noreturn]] void CheckOpFailed(const char* file, int line, const char* expr,
                                const A& a, const B& b) {
  std::ostringstream out;
  out << expr << " (" << a << " vs. " << b << ")";
  CheckFailed(file, line, out.str());
}

}  // namespace vicinal

#define VICINAL_CHECK(cond)                              \
  do {                                                   \
    if (__builtin_expect(!(cond), 0)) {                  \
      ::vicinal::CheckFailed(__FILE__, __LINE__, #cond); \
    }                                                    \
  } while (false)

#define VICINAL_CHECK_OP_(op, a, b)                                   \
  do {                                                                \
    const auto& vicinal_a_ = (a);                                     \
    const auto& vicinal_b_ = (b);                                     \
    if (__builtin_expect(!(vicinal_a_ op vicinal_b_), 0)) {           \
      ::vicinal::CheckOpFailed(__FILE__, __LINE__, #a " " #op " " #b, \
                               vicinal_a_, vicinal_b_);               \
    }                                                                 \
  } while (false)

#define VICINAL_CHECK_EQ(a, b) VICINAL_CHECK_OP_(==, a, b)
#define VICINAL_CHECK_LE(a, b) VICINAL_CHECK_OP_(<=, a, b)
#define VICINAL_CHECK_LT(a, b) VICINAL_CHECK_OP_(<, a, b)
#define VICINAL_CHECK_GE(a, b) VICINAL_CHECK_OP_(>=, a, b)

#ifdef NDEBUG
#define VICINAL_DCHECK(cond) \
  do {                       \
  } while (false && (cond))
#else
#define VICINAL_DCHECK(cond) VICINAL_CHECK(cond)
#endif
