// How an update changes payloads.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/engine/limits.h"

namespace vicinal {

// What an update is asked to do: `set` alone, or `merge`, then `delete_keys`.
struct PayloadChange {
  std::optional<std::string> set;    // JSON object: the new payload
  std::optional<std::string> merge;  // JSON object: a patch of RFC 7396, in
                                     // which null removes a key
  // Paths as in filters: a.b is b in the object, or in each object of the
  // array, that a is. What is not there is no error.
  std::vector<std::string> delete_keys;
};

// Most paths of delete_keys, and most bytes of one.
inline constexpr size_t kMaxDeleteKeys = 256;
inline constexpr size_t kMaxDeleteKeyBytes = 512;

// A checked change. Const and thread-safe; cheap to move.
class PayloadPatch {
 public:
  // InvalidArgument: not a change, or over a limit; the message begins with
  // the field, e.g. "delete_keys[3]", which *bad_field is then (unless null).
  static absl::StatusOr<PayloadPatch> Make(PayloadChange change,
                                           const Limits& limits,
                                           std::string* bad_field = nullptr);

  PayloadPatch(PayloadPatch&&) noexcept;
  PayloadPatch& operator=(PayloadPatch&&) noexcept;
  ~PayloadPatch();

  // The payload after the change of one before it: an object's JSON text, or
  // empty. With `set` it is the text given; else it is written anew, compact
  // and with sorted keys. InvalidArgument: it would be over a limit; the
  // message has no subject. DataLoss: `payload` is no object.
  absl::StatusOr<std::string> Apply(absl::string_view payload) const;

 private:
  struct Parsed;
  explicit PayloadPatch(std::unique_ptr<const Parsed> parsed);

  std::unique_ptr<const Parsed> parsed_;
};

}  // namespace vicinal
