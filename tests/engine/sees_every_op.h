// What keeps a device from replaying work.
#pragma once
#include "ops/interceptor.h"

namespace inkstone {

/// Lets no work be replayed.
class SeesEveryOp final : public Interceptor {
 public:
  explicit SeesEveryOp(Kernels& next) : next_(next) {}

 private:
  void intercept(const Call& call) override { call.run(next_, call.out); }

  Kernels& next_;
};

}  // namespace inkstone
