// A model on disk: its components found, their configurations read and checked against each other.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "inkstone/inkstone.h"

#include "model/config.h"
#include "model/schedule.h"
#include "model/tokenizer.h"

namespace inkstone {

/// Everything about a model but its weights, which `*_files` map. Of a model that is opened to encode, only what is
/// said of the text encoder and the tokenizer.
struct Model {
  std::string name;                                   ///< of its folder
  std::string fingerprint;                            ///< see model_fingerprint()
  std::map<std::filesystem::path, uint64_t> samples;  ///< sampled_hash() of the files of components, at their opening
  Checkpoint transformer_files, text_encoder_files, vae_files;
  TransformerConfig transformer;
  TextEncoderConfig text_encoder;
  VaeConfig vae;
  ScheduleConfig schedule;
  ModelDefaults defaults;
  Tokenizer tokenizer;
  std::vector<std::string> notes;  ///< what had to be inferred
  struct LoraInUse {
    std::string name;  ///< of its file
    double scale = 1;
    std::string description;
  };
  std::vector<LoraInUse> loras;  ///< beside the transformer's layers
  std::vector<std::pair<std::string, std::string>>
      replaced;  ///< component and the name of the file or folder it came from

  /// Of the components that were opened.
  std::vector<const Checkpoint*> files() const;

  /// Width and height of a picture are multiples of this many pixels.
  int64_t unit() const { return vae.scale() * transformer.patch; }
};

/// Opens a folder of diffusers or mflux, or one file with all components, with those that `options` replace; no model
/// if they replace all that have weights. Throws Error for a folder that is none, for another pipeline, and for
/// components that do not fit together.
Model open_model(const EngineOptions& options);

/// The last part of a path, also of one that ends with a slash.
std::string folder_name(const std::filesystem::path& path);

/// The folder or file of a model's tokenizer; `path` as TextTokenizer::open takes it.
std::filesystem::path tokenizer_path(const std::filesystem::path& path);

}  // namespace inkstone
