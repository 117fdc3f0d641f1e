// Inkstone's public API: a loaded model, requests for pictures, and their results.
//
// The library never prints, exits or keeps global state. Every function throws Error for faults of the user or the
// world.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "inkstone/error.h"

namespace inkstone {

/// The library's version, "major.minor.patch".
INKSTONE_API std::string version();

enum class DeviceKind : uint8_t {
  cpu,
  reference,  ///< plain loops, the definition
  cuda,
  automatic,  ///< cuda where there is one, else cpu
};

/// What weights are held in while running. Arithmetic on the CPU is f32 either way; on cuda it is f32 with f32, else
/// products have bf16 operands and f32 sums.
enum class HeldAs : uint8_t {
  stored,  ///< as the files have them
  f32,     ///< every format dequantised exactly
  bf16,    ///< f32 weights rounded to bf16: lossy
};

/// What the linear layers of the transformer's blocks multiply. All but f32 are faster, and lossy: activations and
/// weights are rounded to 8 or 16 bits, whatever the weights are held in; with int8 and fp8_all also what attention
/// reads.
enum class Arithmetic : uint8_t {
  f32,       ///< the device's own: f32, but on cuda bf16 with f32 sums unless weights are held as f32
  int8,      ///< mixed in groups of 384; on the cpu all else is f32 (and the VAE in 8 bits), on cuda bf16 with f32 sums
  fp8,       ///< E4M3, of cuda devices from compute capability 9.0 on; all else is bf16 with f32 sums
  int8_all,  ///< of the cpu device: int8, and so are the text encoder's linear layers
  half,      ///< of the cpu device, the text encoder too: fp16 or bf16, whichever is faster here, or f32 if neither is
  fp16,      ///< the same in that kind of 16 bits, if the processor has such products; all sums are f32
  bf16,
  fp8_all,  ///< fp8, and attention in the blocks is in 8 bits where all sequences have 3584 rows or more
};
constexpr bool is_int8(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::int8 || arithmetic == Arithmetic::int8_all;
}

constexpr bool is_fp8(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::fp8 || arithmetic == Arithmetic::fp8_all;
}

constexpr bool is_half(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::half || arithmetic == Arithmetic::fp16 || arithmetic == Arithmetic::bf16;
}
/// Whether the text encoder's layers may be rounded too.
constexpr bool rounds_text(Arithmetic arithmetic) { return arithmetic == Arithmetic::int8_all || is_half(arithmetic); }

/// Of the cpu device. Asking for one that the processor lacks is an Error.
enum class InstructionSet : uint8_t { best, scalar, avx2, avx_vnni, avx512 };

/// What an engine is for. It opens what that takes and looks at nothing else.
enum class Purpose : uint8_t {
  generate,  ///< every component
  encode,    ///< text encoder and tokenizer; generate() is an Error
};

/// A LoRA: a file of small changes to the transformer, in the spelling of diffusers, PEFT, ComfyUI, kohya or Lightning.
struct LoraOption {
  std::filesystem::path path;   ///< a safetensors file
  std::optional<double> scale;  ///< -kMaxLoraScale to kMaxLoraScale; absent: 1, or with request_like() the picture's
};
constexpr double kMaxLoraScale = 100;  ///< useful ones are below 2

/// Which model to open and how to run it.
struct EngineOptions {
  /// A folder, or one file with all components. Empty: the model that ships with Inkstone, or none if what has weights
  /// is given below.
  std::filesystem::path model;
  std::filesystem::path transformer;  ///< replaces one component: a folder or a file; empty: the model's own
  std::filesystem::path text_encoder;
  std::filesystem::path vae;
  std::filesystem::path tokenizer;
  std::vector<LoraOption> loras;  ///< all are added up
  bool lora_partial = false;  ///< leave out tensors of LoRAs that change no layer, with a note; else they are errors
  DeviceKind device = DeviceKind::cpu;
  int device_index = 0;  ///< which of several cuda devices
  HeldAs held_as = HeldAs::stored;
  Arithmetic arithmetic = Arithmetic::f32;
  InstructionSet isa = InstructionSet::best;
  int threads = 0;                    ///< 0: as many as the machine and the container allow
  size_t memory_limit = 0;            ///< bytes that the process, or a GPU, may take in all; 0: what is available
  bool profile = false;               ///< time every op; see Result::profile
  std::optional<DeviceKind> compare;  ///< run every op on this device too and stop at the first that differs
  Purpose purpose = Purpose::generate;
  std::filesystem::path prompt_cache;             ///< folder that keeps prompts' embeddings; empty: none
  size_t prompt_cache_bytes = size_t{256} << 20;  ///< at most; the embeddings used longest ago go
};

enum class Stage : uint8_t { load, encode, denoise, decode, write };
INKSTONE_API std::string_view name_of(Stage stage);

/// Sent at the start of a stage and after each of its steps.
struct Progress {
  Stage stage = Stage::load;
  int64_t step = 0;  ///< finished steps of this stage
  int64_t steps = 1;
  double seconds_per_step = 0;  ///< median of the steps so far
  double seconds_left = 0;      ///< of this stage; 0 until a step has finished
  size_t memory_bytes = 0;      ///< in use by the process, mapped clean file pages left out
};
using ProgressFunction = std::function<void(const Progress&)>;

/// What Engine::generate does with the memory that there is.
struct Plan {
  struct StageNeed {
    Stage stage = Stage::load;
    size_t own_bytes = 0;     ///< resident memory that no file backs, of the whole process
    size_t mapped_bytes = 0;  ///< pages of files: weights that are read in place, the program
    bool trimmed = false;     ///< returned to the system when unused and taken again, to stay within what there is
  };
  std::vector<StageNeed> stages;       ///< encode, denoise, decode
  size_t needed_bytes = 0;             ///< of the stage that needs most, both kinds
  size_t available_bytes = 0;          ///< by EngineOptions::memory_limit, or of the machine and its control groups
  int64_t batch = 1;                   ///< pictures that are drawn at once
  int64_t band_rows = 0;               ///< of latents that the VAE decodes at a time; 0: all
  bool text_encoder_streamed = false;  ///< read from the disk as it runs, layer by layer
  bool transformer_streamed = false;   ///< in every step, block by block, from the disk
  int64_t blocks = 0;                  ///< of the transformer
  int64_t blocks_streamed = 0;         ///< if it is streamed: so many of them; the others stay where they are used
  bool modulation_streamed = false;    ///< its modulation, from the disk, once; with all blocks or alone
  bool transformer_on_host = false;    ///< if streamed: from host memory instead, to a device with memory of its own
  bool lora_widens = false;            ///< a device with memory of its own adds LoRAs to weights of few bits: faster
  bool transformer_beside = false;     ///< read and bound while the text encoder runs; else only then
};

constexpr int64_t kMaxPictures = 1024;        ///< of one call; all are held in memory until it returns
constexpr int64_t kMaxSide = 16383;           ///< pixels of a picture's width and height
constexpr int64_t kMaxSteps = 1000;           ///< noise levels that the model was trained on
constexpr double kMaxCfg = 1000;              ///< far above what any picture gains from; the published value is 4
constexpr int64_t kMaxSequenceLength = 1024;  ///< rows of a prompt's embeddings

/// Picture i has seed + i, which must not begin again at 0.
constexpr uint64_t largest_seed(int64_t count) { return UINT64_MAX - static_cast<uint64_t>(count - 1); }

/// Values of steps and cfg, and a schedule, for transformers or LoRAs that were distilled to few steps
/// (Qwen-Image-Lightning).
enum class Preset : uint8_t { none, lightning_4, lightning_8 };

/// What a picture of a call looks like so far: what would come of it without the noise that is left, coarse, and as
/// small as 32 latents on its longer side are (256 pixels for most models).
struct Preview {
  int64_t picture = 0;  ///< of the call, from 0
  int64_t step = 0;     ///< finished steps
  int64_t steps = 0;
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> rgb;  ///< 8 bits, rows from top to bottom
};
using PreviewFunction = std::function<void(const Preview&)>;

/// One call's wishes.
struct Request {
  std::string prompt;
  std::optional<std::string> negative_prompt;  ///< with cfg > 1 and none given: a single space
  Preset preset = Preset::none;                ///< instead of the model's schedule and defaults of cfg and steps
  std::optional<double> cfg;                   ///< true CFG scale, 1 (one pass) to kMaxCfg; absent: the model's default
  std::optional<int64_t> steps;                ///< 1 to kMaxSteps, for most models from 2; absent: the model's default
  std::optional<int64_t> width;                ///< pixels, 1 to kMaxSide
  std::optional<int64_t> height;
  uint64_t seed = 0;                           ///< up to largest_seed(count); without effect beside `noise`
  int64_t count = 1;                           ///< 1 to kMaxPictures
  std::optional<int64_t> max_sequence_length;  ///< cut longer prompts to this many rows, 1 to kMaxSequenceLength
  std::filesystem::path noise;                 ///< F32 tensor `noise` (count, z, H/f, W/f) instead of the seed's
  std::optional<int64_t> noise_index;          ///< draw this picture of the noise file alone; count is 1 then
  std::string model_fingerprint;               ///< of the model that is meant; with another one there is a note
  std::filesystem::path save_latents;          ///< write F32 tensor `latents`, same shape, before denormalisation
  ProgressFunction progress;
  PreviewFunction preview;    ///< a GPU waits for each
  int64_t preview_every = 1;  ///< steps; there is one after the last step, too
  std::stop_token stop;       ///< Cancelled is thrown soon after a stop request
};

/// 8-bit RGB, rows from top to bottom, and what made it.
struct Picture {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<uint8_t> rgb;
  uint64_t seed = 0;     ///< 0 with noise from a file
  std::string metadata;  ///< JSON: prompt, negative_prompt, seed, steps, cfg, width, height, model, ...
};

struct StageTime {
  Stage stage = Stage::load;
  double seconds = 0;
};

/// Something that was done in a call, in seconds since the call began. What overlaps was done at the same time.
struct Activity {
  std::string what;  ///< a stage by its name, or what was done beside the stages
  double begin_s = 0;
  double end_s = 0;
  size_t bytes = 0;     ///< that were read
  bool beside = false;  ///< on a thread of its own, beside the stages
};

struct Result {
  std::vector<Picture> pictures;
  std::vector<StageTime> times;
  std::vector<Activity> timeline;  ///< stages in order, then what was done beside them
  std::vector<std::string> notes;  ///< what the user should know: a cut prompt, an inferred config, a lossy choice
  std::string profile;             ///< a table per op, if asked for
  size_t peak_bytes = 0;           ///< of the device's memory pool
};

/// One prompt to encode.
struct EncodeRequest {
  std::string prompt;
  std::optional<int64_t> max_sequence_length;  ///< as in Request
  ProgressFunction progress;
  std::stop_token stop;  ///< as in Request
};

/// Prompt embeddings as the transformer gets them.
struct Embeddings {
  int64_t rows = 0;
  int64_t width = 0;
  std::vector<float> values;       ///< (rows, width)
  std::vector<std::string> notes;  ///< as in Result
};

/// A loaded model. Weights are mapped when a call first needs them. One call at a time per engine; several engines may
/// live in one process.
class INKSTONE_API Engine {
 public:
  static Engine open(const EngineOptions& options);
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();

  Result generate(const Request& request);

  /// What generate would do now. Throws Error as it does, for memory that is too small among others.
  Plan plan(const Request& request);

  /// The prompt's conditioning in f32, template rows dropped.
  Embeddings encode(const EncodeRequest& request);

  /// One line each: device, threads, components, formats.
  std::vector<std::string> describe() const;

  /// What Arithmetic::half is here: "fp16", "bf16" or "f32", measured once in a process; of fp16 and bf16
  /// that. Empty with any other.
  std::string half_kind() const;

  /// Which components' weights are not the published ones to the last bit: "the transformer's are stored in int4, the
  /// vae's rounded to bf16". Empty if all are.
  std::string lossy_weights() const;

 private:
  struct State;
  explicit Engine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Token ids of a model's tokenizer without loading anything else.
class INKSTONE_API TextTokenizer {
 public:
  /// `path`: a model folder, a tokenizer folder or one of its files, a text encoder's GGUF file; empty: the model that
  /// ships with Inkstone.
  static TextTokenizer open(const std::filesystem::path& path);
  TextTokenizer(TextTokenizer&&) noexcept;
  TextTokenizer& operator=(TextTokenizer&&) noexcept;
  ~TextTokenizer();

  /// Throws Error, naming the first byte that is wrong, unless a text is UTF-8; encode() does so too.
  static void check_text(std::string_view text);

  std::vector<int32_t> encode(std::string_view text) const;
  /// The text inside the text-to-image template, as the text encoder reads it.
  std::vector<int32_t> encode_with_template(std::string_view text) const;

 private:
  struct State;
  explicit TextTokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Writes F32 (rows, width) as tensor `embeds` of a safetensors file.
INKSTONE_API void save_embeddings(const std::filesystem::path& path, const Embeddings& embeddings);

/// Writes a picture with its metadata: .png, .jpg, .jpeg or .webp. `stop` as in Request.
INKSTONE_API void save_picture(const std::filesystem::path& path, const Picture& picture, std::stop_token stop = {});

/// Throws Error unless save_picture knows the format by the ending of this name.
INKSTONE_API void check_picture_name(const std::filesystem::path& path);

/// Throws Error unless save_picture could write there: a known extension, a folder that exists and can be written, room
/// for prompts of `prompt_bytes` in the format's description.
INKSTONE_API void check_writable(const std::filesystem::path& path, size_t prompt_bytes = 0);

/// The same for files of any name, such as save_embeddings and Request::save_latents write.
INKSTONE_API void check_writable_file(const std::filesystem::path& path);

/// The JSON that save_picture stored in a picture; nothing if there is none.
INKSTONE_API std::optional<std::string> read_picture_metadata(const std::filesystem::path& path);

/// What made a picture, as a request: every field that its metadata has. Set the model and components in `options`
/// first: if the picture was made by others, an Error names them. LoRAs of it must be set, too; scales that are not
/// given become the picture's. Device, held_as and arithmetic become the picture's; a caller who wants others sets them
/// afterwards, as well as fields of the request. Throws Error for a picture without metadata and for metadata that
/// cannot be read, naming the file and the field.
INKSTONE_API Request request_like(const std::filesystem::path& picture, EngineOptions& options);

/// What a folder or file is, as JSON: {"path", "components": [{"component", "path", "format", "scheme", "files",
/// "tensors", "parameters", "bytes", "dtypes": {name: tensors}, "config": {...}, "missing": [...], "surplus": [...]}],
/// "missing": [...]}. A component is "transformer", "text_encoder", "vae" or "lora"; one that cannot be read, or whose
/// config.json is broken, has an "error" beside what could be found out. Of a LoRA the scheme is its spelling, the
/// config says {"layers": count, "ranks": [...], "alphas": [...]}, "targets" are {layer with * for its block: count},
/// and surplus is what no LoRA of this program's spellings has. Throws Error for a file that is none of them.
INKSTONE_API std::string inspect_json(const std::filesystem::path& path);

struct RandomModelOptions {
  std::string preset = "qwen-image-2512";  ///< whose sizes: this one's, or "tiny"
  std::string format = "bf16";             ///< of matrices: f32, f16, bf16, fp8, int8, int4, and int8_cpu, int4_cpu,
                                ///< which lie as `quantize` with layout "cpu" has them; the VAE's are never packed
  std::optional<int64_t> layers;  ///< at most so many blocks of transformer and text encoder; absent: all
  int threads = 0;                ///< as in EngineOptions
  ProgressFunction progress;      ///< Stage::write, a step for each component
  std::stop_token stop;           ///< as in Request
};

/// Makes a model's folder of random weights, which runs as a real model does and draws nothing sensible. Tokenizer and
/// scheduler are those of default_model(). Throws Error for a folder that is there already, and leaves none behind if
/// it fails. Takes 2 GB of memory at most.
INKSTONE_API void write_random_model(const std::filesystem::path& folder, const RandomModelOptions& options);

constexpr int64_t kMaxBenchLayers = 60;  ///< as many blocks as the published transformer has

enum class BenchKind : uint8_t { block, encoder, vae };

struct BenchOptions {
  BenchKind kind = BenchKind::block;
  int64_t size = 512;  ///< pixels, square, up to kMaxSide
  int64_t layers = 1;  ///< up to kMaxBenchLayers transformer blocks or encoder layers to run in a row; 1 with the vae
  int64_t band_rows = 0;       ///< rows of latents that the VAE decodes at a time; 0: the whole picture
  std::string format = "f32";  ///< of the weights: f32, f16, bf16, int4, int8, int4_cpu, int8_cpu
  DeviceKind device = DeviceKind::cpu;
  Arithmetic arithmetic = Arithmetic::f32;
  int device_index = 0;
  InstructionSet isa = InstructionSet::best;
  int threads = 0;
  bool profile = false;       ///< time every op, which makes a GPU wait after each; see BenchResult::profile
  ProgressFunction progress;  ///< Stage::load while weights are made, then one step for each run
  std::stop_token stop;       ///< as in Request
};

/// Medians of at least five runs of full-size work on random weights.
struct BenchResult {
  double median_s = 0;
  double gflops = 0;
  double peak_fraction =
      0;                  ///< of what the device reached in the same run: with that arithmetic, or in a large product
  double peak = 0;        ///< that rate: operations a second, a multiply-add counted as two
  size_t peak_bytes = 0;  ///< of the device's memory pool plus the weights
  std::string profile;    ///< a table per op over all runs, if asked for
  std::string half_kind;  ///< as of Engine
  std::string isa;        ///< instruction set of the cpu device; empty with any other
  int threads = 0;        ///< of the host
};
INKSTONE_API BenchResult run_bench(const BenchOptions& options);

/// The folder of the model that ships with Inkstone: beside the program's build tree, or in the install prefix.
INKSTONE_API std::filesystem::path default_model();

}  // namespace inkstone
