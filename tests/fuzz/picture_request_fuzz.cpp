// The description that a picture carries, as `--like` reads it.
#include <cmath>

#include "engine/metadata.h"
#include "folder.h"

namespace {

/// What is accepted must be in the ranges that the rest of the engine counts on.
void read(std::string_view text, inkstone::EngineOptions options) {
  using namespace inkstone;
  attempt([&] {
    const Request request = parse_metadata(text, "picture.png", options);
    if (!request.steps || *request.steps < 1 || !request.cfg || !std::isfinite(*request.cfg)) std::abort();
    if (!request.width || *request.width < 1 || !request.height || *request.height < 1) std::abort();
    if (request.noise.empty() == request.noise_index.has_value()) std::abort();
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read(text, {});
  read(text, {.model = "model", .transformer = "t", .text_encoder = "e", .vae = "v", .tokenizer = "k"});
  return 0;
}
