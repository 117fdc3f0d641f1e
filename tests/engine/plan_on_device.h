// Plans of memory for models/tiny on a device with memory of its own.
#pragma once
#include <gtest/gtest.h>

#include "engine/memory_plan.h"
#include "engine/tiny_model.h"

namespace inkstone {

template <class TheDevice>
class PlanOnDevice : public ::testing::Test {
 protected:
  MemoryPlan plan(size_t available, size_t machine) const { return plan(state(available, machine)); }
  MemoryPlan plan(const MemoryState& state) const { return plan_memory(model_, vae_, job_, state); }
  MemoryState state(size_t available, size_t machine) const {
    return {.available_bytes = available,
            .machine_bytes = machine,
            .device = &device_,
            .weights_copied = true,
            .threads = 1};
  }

  TheDevice device_;
  Model model_ = open_model({.model = kTiny});
  WeightLoader loader_{model_.vae_files, device_};
  VaeWeights vae_ = load_vae(model_.vae, loader_);
  Job job_ = make_job(model_, small_request());
};

}  // namespace inkstone
