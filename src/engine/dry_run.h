// How much memory a job's activations will take, found by running through the model without computing.
#pragma once
#include <memory>

#include "engine/job.h"
#include "ops/device.h"

namespace inkstone {

/// A device of no memory whose kernels do nothing. Its memory() is what another device's pool would have handed out.
std::unique_ptr<Device> make_dry_device();

/// A model on such a device. Binding its weights checks every tensor, before any work is done.
class DryRun {
 public:
  explicit DryRun(const Model& model);
  ~DryRun();

  /// Peak bytes of activations while a prompt of so many tokens, template included, is encoded.
  size_t encode(int64_t tokens);
  /// While `pictures` of the job are drawn in one batch.
  size_t denoise(const Job& job, int64_t pictures);
  /// While one picture of the job is decoded.
  size_t decode(const Job& job);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace inkstone
