// For tests that bound the memory of their process.
#pragma once
#include <gtest/gtest.h>

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
