// What the device has made of a layer, as the type that it was made as. Work aside may have made it: who reads it meets
// that first (CudaContext::meet_for).
#pragma once
#include "core/error.h"
#include "ops/weight.h"

namespace inkstone {

/// Throws Error if another way of multiplying the layer made it.
template <class Form>
const Form& form_as(const DeviceForm& made) {
  const auto* const form = dynamic_cast<const Form*>(&made);
  check(form != nullptr, "device cuda: a layer is wanted in another form than the one that was made of its weights");
  return *form;
}

}  // namespace inkstone
