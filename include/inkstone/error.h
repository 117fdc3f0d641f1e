#pragma once
#include <stdexcept>

#define INKSTONE_API __attribute__((visibility("default")))

namespace inkstone {

/// The one exception for faults of the user and of the world: bad files, bad options, too little memory.
/// Its text is one line that names the file, tensor, field or option, the value found, and what would be right.
class INKSTONE_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Thrown out of a running call after its caller asked for cancellation.
class INKSTONE_API Cancelled : public std::runtime_error {
 public:
  Cancelled() : std::runtime_error("cancelled") {}
};

}  // namespace inkstone
