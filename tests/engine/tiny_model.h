// models/tiny, whole or with a part changed, for the engine's tests.
#pragma once
#include "inkstone/inkstone.h"

#include "io/files.h"
#include "io/safetensors.h"
#include "relative_error.h"

namespace inkstone {

inline const fs::path kTiny = fs::path(INKSTONE_MODELS) / "tiny";

/// A request that takes as little work as the model allows.
inline Request small_request(const std::string& prompt = "a red circle") {
  return {.prompt = prompt, .steps = 2, .width = 64, .height = 64};
}

/// Relative error of latents of the same shape.
inline double latents_error(const Tensor& got, const Tensor& expected) {
  EXPECT_EQ(got.shape(), expected.shape());
  return relative_error(got, expected);
}

class TinyModelTest : public FolderTest {
 protected:
  /// A model folder whose parts are links to those of models/tiny.
  fs::path linked_model() const {
    const fs::path model = at("model");
    fs::create_directories(model);
    for (const auto& entry : fs::directory_iterator(kTiny))
      fs::create_symlink(fs::canonical(entry.path()), model / entry.path().filename());
    return model;
  }

  /// Replaces a link by a copy that may be changed.
  static fs::path own(const fs::path& model, const std::string& part) {
    const fs::path path = model / part;
    fs::remove(path);
    fs::copy(kTiny / part, path, fs::copy_options::recursive);
    return path;
  }

  /// Changes the tensors of a component's only file.
  static void change_tensors(const fs::path& component,
                             const std::function<void(std::map<std::string, Tensor>&)>& change) {
    for (const auto& entry : fs::directory_iterator(component)) {
      if (entry.path().extension() != ".safetensors") continue;
      std::map<std::string, Tensor> tensors;
      for (const auto& [name, stored] : read_safetensors(entry.path()).tensors) tensors[name] = stored.data;
      change(tensors);
      write_safetensors(entry.path(), tensors);
    }
  }

  static std::string open_error(const EngineOptions& options) {
    return error_of([&] { Engine::open(options); });
  }
};

}  // namespace inkstone
