#include "engine/model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/option_error.h"
#include "engine/component_totals.h"
#include "engine/fingerprint.h"
#include "io/json.h"
#include "io/lora.h"
#include "model/prompt.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndexFile = "model_index.json";
constexpr std::string_view kPipeline = "QwenImagePipeline";

/// A component that model_index.json names, and the classes of it that this program runs.
struct Part {
  std::string_view name;
  bool encodes;  ///< needed to encode a prompt, too
  std::array<std::string_view, 2> classes;
  fs::path EngineOptions::*replacement;
};
constexpr std::array<Part, 5> kParts = {{
    {"transformer", false, {"QwenImageTransformer2DModel"}, &EngineOptions::transformer},
    {"text_encoder", true, {"Qwen2_5_VLForConditionalGeneration"}, &EngineOptions::text_encoder},
    {"vae", false, {"AutoencoderKLQwenImage"}, &EngineOptions::vae},
    {"tokenizer", true, {"Qwen2Tokenizer", "Qwen2TokenizerFast"}, &EngineOptions::tokenizer},
    {"scheduler", false, {"FlowMatchEulerDiscreteScheduler"}, nullptr},
}};
constexpr int kComponents = 3;  // the first ones have weights

bool is_needed(const Part& part, const EngineOptions& options) {
  return options.purpose == Purpose::generate || part.encodes;
}

bool is_replaced(const Part& part, const EngineOptions& options) {
  return part.replacement != nullptr && !(options.*part.replacement).empty();
}

std::string listed(const std::array<std::string_view, 2>& classes) {
  return classes[1].empty() ? std::string(classes[0]) : fmt::format("{} or {}", classes[0], classes[1]);
}

/// An entry is ["library", "class"].
void check_entry(const JsonFile& index, const Part& part) {
  const std::string name(part.name);
  if (!index.has(name)) return;  // the component's own files will tell
  const nlohmann::json& entry = index.object().at(name);
  const bool known =
      entry.is_array() && entry.size() == 2 && entry[1].is_string() &&
      std::find(part.classes.begin(), part.classes.end(), entry[1].get<std::string>()) != part.classes.end();
  if (!known) index.refuse(name, fmt::format("[library, {}]", listed(part.classes)));
}

void check_index(const fs::path& path, const EngineOptions& options) {
  const JsonFile index = JsonFile::read(path);
  const std::string pipeline = index.text("_class_name");
  if (pipeline != kPipeline) index.refuse("_class_name", std::string(kPipeline));
  for (const Part& part : kParts)
    if (is_needed(part, options) && !is_replaced(part, options)) check_entry(index, part);
}

/// Throws Error unless a path looks like a model's: a folder, or one file with all components.
void check_model(const fs::path& folder, const EngineOptions& options) {
  std::error_code ignored;
  check(fs::exists(folder, ignored), "{}: no such folder or file; a model's is needed", folder.string());
  if (!fs::is_directory(folder, ignored)) return;  // its components will tell
  if (fs::exists(folder / kIndexFile, ignored)) return check_index(folder / kIndexFile, options);
  const bool any = std::any_of(kParts.begin(), kParts.end(), [&](const Part& part) {
    return is_replaced(part, options) || fs::exists(folder / part.name, ignored);
  });
  check(any, "{}: is not a model's folder: it holds neither {} nor {}/, text_encoder/, vae/", folder.string(),
        kIndexFile, kParts[0].name);
}

/// The folder or file of a model; empty if all its weights come from elsewhere.
fs::path model_path(const EngineOptions& options) {
  const bool weights_given = std::all_of(kParts.begin(), kParts.begin() + kComponents, [&](const Part& part) {
    return !is_needed(part, options) || is_replaced(part, options);
  });
  if (weights_given || !options.model.empty()) return options.model;
  return default_model();
}

fs::path component_path(const EngineOptions& options, const Part& part) {
  if (is_replaced(part, options)) return options.*part.replacement;
  const fs::path model = model_path(options);
  std::error_code ignored;
  return fs::is_regular_file(model, ignored) ? model : model / part.name;
}

const Part& part_of(std::string_view name) {
  return *std::find_if(kParts.begin(), kParts.end(), [&](const Part& part) { return part.name == name; });
}

/// Where no model is given the shipped one lends what is missing. Beside a part of another size the rest of it would
/// draw nothing, or noise.
void check_goes_with(const Checkpoint& given, const Checkpoint& shipped) {
  const Component component = given.component;
  const std::string name(telling_tensor(component));
  const int axis = component == Component::text_encoder ? 1 : 0;  // a table's width, another matrix' outputs
  const auto mine = given.shape_of(name), its = shipped.shape_of(name);
  if (!mine || !its || std::min(mine->rank(), its->rank()) <= axis) return;  // the config's reader will tell
  check((*mine)[axis] == (*its)[axis],
        "{}: is of width {}, the shipped model's {} of {}, so that its other parts do not go with this one; give a "
        "model, or transformer, text_encoder and vae",
        given.path.string(), (*mine)[axis], name_of(component), (*its)[axis]);
}

/// A component in the place of a model's borrows that one's config.json if it has none: of the shipped model too, where
/// the other components are.
Checkpoint open_component(const EngineOptions& options, Component component) {
  const Part& part = part_of(name_of(component));
  Checkpoint checkpoint = open_checkpoint(component_path(options, part), component);
  check(checkpoint.find(telling_tensor(component)) != nullptr, "{}: holds no {}: none of its {} tensors is {}",
        checkpoint.path.string(), part.name, checkpoint.tensors.size(), telling_tensor(component));
  const fs::path model = model_path(options);
  if (!is_replaced(part, options) || model.empty()) return checkpoint;
  if (options.model.empty()) check_goes_with(checkpoint, open_checkpoint(model / part.name, component));
  checkpoint.lender = model / part.name;
  return checkpoint;
}

/// The given tokenizer, the model's, or that in the text encoder's GGUF file.
fs::path tokenizer_source(const EngineOptions& options, const Checkpoint& text_encoder) {
  const fs::path model = model_path(options);
  std::error_code ignored;
  if (options.tokenizer.empty() && !fs::exists(model / "tokenizer", ignored)) {
    if (!text_encoder.metadata.is_null()) return text_encoder.files.front();
    fail("{}: holds no tokenizer; give a folder with tokenizer.json or merges.txt as the tokenizer",
         (fs::is_directory(model, ignored) ? model / "tokenizer" : text_encoder.path).string());
  }
  return component_path(options, part_of("tokenizer"));
}

Tokenizer open_tokenizer(const fs::path& source) {
  Tokenizer tokenizer = Tokenizer::load(source);
  check_markers(tokenizer, source);
  return tokenizer;
}

/// Throws Error for usual values that this model cannot do: no option would be named for them.
void check_defaults(const Model& m, const fs::path& file) {
  const auto& [steps, width, height, cfg] = m.defaults;
  check(cfg <= kMaxCfg, "{}: field cfg is {}, at most {} works", file.string(), cfg, kMaxCfg);
  check(steps > 1 || !m.schedule.shift_terminal, "{}: field steps is {}, this model's scheduler needs at least 2",
        file.string(), steps);
  check(width % m.unit() == 0 && height % m.unit() == 0,
        "{}: fields width and height are {} and {}, this model draws multiples of {} pixels", file.string(), width,
        height, m.unit());
}

void read_schedule_and_defaults(const fs::path& model, Model& m) {
  std::error_code ignored;
  if (fs::is_directory(model, ignored)) {
    m.schedule = read_schedule_config(model / "scheduler");
    m.defaults = read_model_defaults(model);
    if (fs::exists(model / kDefaultsFile, ignored)) check_defaults(m, model / kDefaultsFile);
    if (fs::exists(model / "scheduler" / kScheduleFile, ignored)) return;
  }
  m.notes.push_back(fmt::format("{}: no scheduler/{} in it; Qwen-Image-2512's schedule is used",
                                model.empty() ? m.name : model.string(), kScheduleFile));
}

/// Components that were not made for each other would fail later, with less telling shapes.
void check_text_fit(const Model& m) {
  check(m.tokenizer.vocabulary_size() <= m.text_encoder.vocabulary,
        "{}: knows {} tokens, fewer than the tokenizer's {}", m.text_encoder_files.path.string(),
        m.text_encoder.vocabulary, m.tokenizer.vocabulary_size());
}

void check_picture_fit(const Model& m) {
  const int64_t features = m.vae.latent_channels * m.transformer.patch * m.transformer.patch;
  const std::string transformer = m.transformer_files.path.string();
  check(m.transformer.in_channels == features && m.transformer.out_channels == m.vae.latent_channels,
        "{}: takes {} and gives {} features a token; {} with {} latent channels needs {} and {}", transformer,
        m.transformer.in_channels, m.transformer.out_channels * m.transformer.patch * m.transformer.patch,
        m.vae_files.path.string(), m.vae.latent_channels, features, features);
  check(m.transformer.text_width == m.text_encoder.width, "{}: reads text of width {}, but {} gives {}", transformer,
        m.transformer.text_width, m.text_encoder_files.path.string(), m.text_encoder.width);
  check(m.vae.image_channels == 3, "{}: draws {} channels, 3 are needed", m.vae_files.path.string(),
        m.vae.image_channels);
}

/// A config as its reader gives it; what had to be inferred goes to the notes.
template <class Config>
Config noted(Model& m, const Checkpoint& files, Config (*read)(const Checkpoint&, ConfigOrigin&)) {
  ConfigOrigin origin;
  Config config = read(files, origin);
  if (origin.inferred) m.notes.push_back(origin.note);
  return config;
}

void read_text_parts(Model& m) {
  m.text_encoder = noted(m, m.text_encoder_files, read_text_encoder_config);
  check_text_fit(m);
}

std::string description_of(const Lora& lora, double scale) {
  return fmt::format("{}, {}'s spelling, {} layers of rank {}, scale {}", lora.path.string(), lora.spelling(),
                     lora.layers.size(), fmt::join(lora.ranks(), ", "), scale);
}

void add_lora(Model& m, const LoraOption& option, Unmatched unmatched) {
  const double scale = option.scale.value_or(1);
  check_option(std::abs(scale) <= kMaxLoraScale, "lora {}: scale {}: {} to {} work", option.path.string(), scale,
               -kMaxLoraScale, kMaxLoraScale);
  const Lora lora = read_lora(option.path);
  const std::vector<std::string> left = attach_lora(m.transformer_files, lora, scale, unmatched);
  if (!left.empty())
    m.notes.push_back(fmt::format("WARNING: {}: {} of its tensors change no layer and were left out: {}",
                                  option.path.string(), left.size(), first_names(left)));
  m.loras.push_back({folder_name(option.path), scale, description_of(lora, scale)});
}

void open_picture_parts(Model& m, const EngineOptions& options) {
  m.transformer_files = open_component(options, Component::transformer);
  m.vae_files = open_component(options, Component::vae);
  m.transformer = noted(m, m.transformer_files, read_transformer_config);
  m.vae = noted(m, m.vae_files, read_vae_config);
  check_picture_fit(m);
  for (const LoraOption& option : options.loras)
    add_lora(m, option, options.lora_partial ? Unmatched::leave_out : Unmatched::refuse);
  read_schedule_and_defaults(model_path(options), m);
}

}  // namespace

Model open_model(const EngineOptions& options) {
  const fs::path model = model_path(options);
  if (!model.empty()) check_model(model, options);
  Checkpoint text_encoder_files = open_component(options, Component::text_encoder);
  Tokenizer tokenizer = open_tokenizer(tokenizer_source(options, text_encoder_files));
  // Nothing in these braces may throw: g++ 12 would then destroy the vectors of the defaulted VaeConfig twice.
  Model m = {.text_encoder_files = std::move(text_encoder_files), .tokenizer = std::move(tokenizer)};
  m.name = folder_name(!model.empty()                 ? model
                       : !options.transformer.empty() ? options.transformer
                                                      : options.text_encoder);
  read_text_parts(m);
  if (options.purpose == Purpose::generate) open_picture_parts(m, options);
  for (const Checkpoint* component : m.files())
    for (const fs::path& path : component->files)
      if (!m.samples.contains(path)) m.samples[path] = sampled_hash(path);
  if (options.purpose == Purpose::generate) m.fingerprint = model_fingerprint(m);
  for (const Part& part : kParts)
    if (is_replaced(part, options)) m.replaced.emplace_back(part.name, folder_name(options.*part.replacement));
  return m;
}

std::vector<const Checkpoint*> Model::files() const {
  if (transformer_files.files.empty()) return {&text_encoder_files};
  return {&transformer_files, &text_encoder_files, &vae_files};
}

std::string folder_name(const fs::path& path) {
  const fs::path whole = fs::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

fs::path tokenizer_path(const fs::path& path) {
  const fs::path given = path.empty() ? default_model() : path;
  std::error_code ignored;
  return fs::is_directory(given / "tokenizer", ignored) ? given / "tokenizer" : given;
}

}  // namespace inkstone
