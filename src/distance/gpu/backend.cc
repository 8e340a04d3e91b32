#include "src/distance/gpu/backend.h"

namespace vicinal {

const char* BackendStatusName(BackendStatus status) {
  switch (status) {
    case BackendStatus::kOk:
      return "ok";
    case BackendStatus::kUnsupported:
      return "unsupported";
    case BackendStatus::kNoMemory:
      return "no memory";
    case BackendStatus::kDeviceLost:
      return "device lost";
  }
  return "unknown";
}

}  // namespace vicinal
