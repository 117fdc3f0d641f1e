// For tests that bound the memory of their process.
#pragma once
#include <gtest/gtest.h>
#include <memory>

#include "inkstone/inkstone.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define INKSTONE_SANITIZED 1
#endif
#endif

#ifdef INKSTONE_SANITIZED
#define INKSTONE_BOUND_MEMORY() GTEST_SKIP() << "sanitizers take memory of their own"
#else
#define INKSTONE_BOUND_MEMORY() static_cast<void>(0)
#endif

namespace inkstone {

/// An engine with so much less than the process needs now; null if it refuses, as a process grows with its tests.
inline std::unique_ptr<Engine> engine_with_less_memory(EngineOptions options, const Request& request, size_t less) {
  options.memory_limit = Engine::open(options).plan(request).needed_bytes - less;
  auto engine = std::make_unique<Engine>(Engine::open(options));
  try {
    engine->plan(request);
  } catch (const Error&) {
    return nullptr;
  }
  return engine;
}

/// The least that would do for every stage, as a refusal names it in GiB; 0 if it does not.
inline size_t memory_named(const std::string& refusal) {
  const std::string before = "available; ", behind = " GiB would do";
  const size_t begin = refusal.find(before), end = refusal.find(behind);
  if (begin == std::string::npos || end == std::string::npos) return 0;
  constexpr double kGibibyte = size_t{1} << 30;
  return static_cast<size_t>(std::stod(refusal.substr(begin + before.size())) * kGibibyte);
}

}  // namespace inkstone
