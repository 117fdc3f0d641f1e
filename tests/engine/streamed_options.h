// Engines whose transformer does not fit into what they may take of a GPU.
#pragma once
#include "inkstone/inkstone.h"

namespace inkstone {

/// The options with so little memory that blocks of the transformer are streamed for this request.
inline EngineOptions with_streamed_blocks(EngineOptions options, const Request& request) {
  constexpr size_t kStep = size_t{2} << 20, kAmple = size_t{4} << 30;
  options.memory_limit = kAmple;
  const Plan resident = Engine::open(options).plan(request);
  options.memory_limit = resident.needed_bytes;
  while (!Engine::open(options).plan(request).transformer_streamed) options.memory_limit -= kStep;
  return options;
}

}  // namespace inkstone
