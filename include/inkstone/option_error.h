#pragma once
#include "inkstone/error.h"

namespace inkstone {

/// An Error of a request's or an option's value. Its text begins with the name that the program's command line has for
/// it, without the dashes before it.
class INKSTONE_API OptionError : public Error {
 public:
  using Error::Error;
};

}  // namespace inkstone
