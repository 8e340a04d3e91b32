// Rows as their codes, for indexes that search by them.
#pragma once

#include <cstdint>

#include "quant/codec.h"

namespace vicinal {

// Codes of the rows of an index, one record per row in the order of the rows;
// no codec: there are none. Borrowed.
struct CodedRows {
  const Codec* codec = nullptr;
  const uint8_t* records = nullptr;
};

}  // namespace vicinal
