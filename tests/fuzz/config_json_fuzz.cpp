// config.json of every component, scheduler_config.json, and inkstone.json.
#include "folder.h"
#include "model/config.h"
#include "model/schedule.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace inkstone;
  static const Folder folder;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const char* name : {"config.json", "scheduler_config.json", "inkstone.json"}) folder.write(name, bytes);
  const Checkpoint checkpoint{.path = folder.path()};
  ConfigOrigin origin;
  attempt([&] { read_transformer_config(checkpoint, origin); });
  attempt([&] { read_text_encoder_config(checkpoint, origin); });
  attempt([&] { read_vae_config(checkpoint, origin); });
  attempt([&] { read_model_defaults(folder.path()); });
  attempt([&] {
    constexpr int64_t kSteps = 4, kImageTokens = 1024;
    const auto sigmas = make_schedule(read_schedule_config(folder.path()), kSteps, kImageTokens);
    for (size_t i = 0; i + 1 < sigmas.size(); ++i)
      if (!(sigmas[i] >= sigmas[i + 1])) std::abort();
  });
  return 0;
}
