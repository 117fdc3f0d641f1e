#pragma once
#include "inkstone/option_error.h"

namespace inkstone {

/// An OptionError that no model, file or machine would mend: the options exclude each other.
class INKSTONE_API CombinationError : public OptionError {
 public:
  using OptionError::OptionError;
};

}  // namespace inkstone
