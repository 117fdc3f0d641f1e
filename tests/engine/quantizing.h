// What models/tiny is quantized to, for tests.
#pragma once
#include <algorithm>

#include "inkstone/quantize.h"

#include "engine/tiny_model.h"
#include "io/checkpoint.h"

namespace inkstone {

inline const fs::path kTransformer = kTiny / "transformer";
inline const fs::path kTextEncoder = kTiny / "text_encoder";
inline const std::string kQ = "transformer_blocks.0.attn.to_q";
// Of models/tiny; in smaller pictures, which it was not trained on, 4 bits may draw another one.
inline constexpr int kOwnSize = 256;

inline std::vector<float> matrix_of(const Checkpoint& files, const std::string& layer) {
  const auto packed = files.packed(layer);
  const Weight w = packed ? packed->weight : dense_weight(files.find(layer + ".weight")->data);
  std::vector<float> all(static_cast<size_t>(w.out * w.in));
  dequantize_rows(w, 0, w.out, all.data());
  return all;
}

inline std::string layer_of(const QuantizedTensor& t) { return t.name.substr(0, t.name.size() - kWeightSuffix.size()); }

inline double error_read_back(const QuantizedTensor& t, const Checkpoint& source, const Checkpoint& made) {
  const std::vector<float> numbers = matrix_of(source, layer_of(t)), read_back = matrix_of(made, layer_of(t));
  return t.error == 0 && read_back == numbers ? 0 : relative_error(read_back, numbers);  // 0 of 0
}

class QuantizeTest : public TinyModelTest {
 protected:
  QuantizeOptions options(const std::string& format, const fs::path& source = kTransformer) const {
    return {.source = source, .output = at("out"), .format = format, .threads = 2};
  }
  static const QuantizedTensor& named(const QuantizeResult& result, const std::string& name) {
    return *std::ranges::find(result.tensors, name, &QuantizedTensor::name);
  }
  static std::string error(const QuantizeOptions& o) {
    return error_of([&] { quantize(o); });
  }
  Tensor latents(const fs::path& model) const {
    Engine engine = Engine::open({.model = model});
    Request request = small_request();
    request.width = request.height = kOwnSize;
    request.save_latents = at("latents.safetensors");
    engine.generate(request);
    return to_f32(read_safetensors(request.save_latents).tensors.at("latents").data);
  }
  std::vector<std::string> names_in(const fs::path& folder) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
    return names;
  }
};

}  // namespace inkstone
