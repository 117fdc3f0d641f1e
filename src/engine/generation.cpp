#include "engine/generation.h"

#include <algorithm>

#include "core/error.h"
#include "core/host_memory.h"
#include "engine/finite.h"
#include "engine/job.h"
#include "engine/memory_plan.h"
#include "engine/metadata.h"
#include "engine/stages.h"
#include "io/safetensors.h"
#include "model/pipeline.h"
#include "ops/quantity.h"

namespace inkstone {
namespace {

constexpr std::string_view kLatents = "latents";

/// Bytes that this process can hold in all.
size_t memory_of_process() { return available_memory() + resident_memory(); }

bool rounds_weights(const Checkpoint& files) {
  return std::any_of(files.tensors.begin(), files.tensors.end(), [](const auto& item) {
    const DType type = item.second.data.dtype();
    return item.second.data.shape().rank() > 1 && (type == DType::f32 || type == DType::f16);
  });
}

size_t mapped_bytes(const Checkpoint& files) {
  size_t bytes = 0;
  for (const auto& [name, tensor] : files.tensors) bytes += tensor.data.bytes();
  return bytes;
}

std::vector<std::string> notes_of(const Session& session, const Job& job) {
  const Model& model = session.model();
  std::vector<std::string> notes = model.notes;
  notes.insert(notes.end(), job.notes.begin(), job.notes.end());
  for (const Checkpoint* files : model.files())
    if (session.held() == DType::bf16 && rounds_weights(*files))
      notes.push_back(fmt::format("the {}'s weights are rounded to bf16", name_of(files->component)));
  if (const size_t bytes = mapped_bytes(model.transformer_files); bytes > memory_of_process())
    notes.push_back(
        fmt::format("the transformer's weights ({}) do not fit into memory and are read from the disk in "
                    "every step",
                    quantity(static_cast<double>(bytes), "B")));
  return notes;
}

class Generation {
 public:
  Generation(Session& session, const Request& request, double opening_seconds)
      : session_(session), model_(session.model()), request_(request), stages_(request.progress) {
    stages_.add(Stage::load, opening_seconds);
  }

  Result run() {
    Device& device = session_.machine().device();
    session_.watch(request_.stop);
    stages_.begin(Stage::load);
    prepare();
    stages_.step_done();
    device.reset_peak();
    encode();
    denoise();
    decode();
    save_latents();
    result_.notes = notes_of(session_, job_);
    if (const std::string agreement = session_.machine().comparison(); !agreement.empty())
      result_.notes.push_back(agreement);
    result_.profile = session_.machine().take_profile();
    result_.peak_bytes = device.memory().peak;
    result_.times = stages_.finish();
    return std::move(result_);
  }

 private:
  void prepare() {
    if (!request_.save_latents.empty()) check_writable_file(request_.save_latents);
    job_ = make_job(model_, request_);
    const size_t limit = session_.options().memory_limit;
    const std::optional<size_t> own = session_.machine().device().own_memory();
    const MemoryState memory = {.available_bytes = own         ? *own
                                                   : limit > 0 ? limit
                                                               : memory_of_process(),
                                .held = session_.held(),
                                .weights_copied = own.has_value(),
                                .transformer_bound = session_.has_transformer()};
    plan_ = plan_memory(model_, session_.vae(), job_, memory);
    noise_ = starting_noise(job_);
  }

  void encode() {
    std::vector<PromptTokens> texts = {job_.prompt_tokens};
    if (job_.guided) texts.push_back(job_.negative_tokens);
    stages_.begin(Stage::encode, session_.encoding_steps(texts));
    embeddings_ = session_.encode(texts, [&] { stages_.step_done(); });
  }

  /// The job's pictures from `first` on, as many as are drawn at once.
  Batch batch_from(int64_t first) const {
    const auto pictures = static_cast<size_t>(std::min(plan_.batch, job_.count - first));
    Batch batch = {.grid = job_.grid, .prompts = std::vector(pictures, embeddings_[0])};
    if (job_.guided) batch.negatives = std::vector(pictures, embeddings_[1]);
    return batch;
  }

  void denoise() {
    stages_.begin(Stage::load);
    const Transformer transformer(model_.transformer, session_.transformer());
    stages_.step_done();
    Ops& ops = session_.machine().ops();
    const int64_t batches = (job_.count + plan_.batch - 1) / plan_.batch;
    stages_.begin(Stage::denoise, batches * job_.steps);
    const Sampler sampler(ops, transformer, job_.sigmas, job_.cfg);
    for (int64_t first = 0; first < job_.count; first += plan_.batch) {
      const Batch batch = batch_from(first);
      const Tensor noise = ops.upload(noise_.rows(first, first + batch.pictures()));
      const Tensor tokens =
          sampler.run(batch, ops.patchify(noise, model_.transformer.patch), [&] { stages_.step_done(); });
      check_finite(ops.download(tokens));
      drawn_.push_back(tokens);
    }
  }

  /// Broken weights or noise far out of range must not pass for a picture.
  void check_finite(const Tensor& tokens) const {
    if (!find_not_finite(tokens)) return;
    refuse_not_finite(model_.transformer_files, request_.stop);
    const auto [least, most] = std::ranges::minmax(noise_.span<const float>());
    fail("{}: the latents are not finite after {} steps, though all its weights are: noise from {} to {}, cfg {}",
         model_.transformer_files.path.string(), job_.steps, least, most, job_.cfg);
  }

  void decode() {
    Ops& ops = session_.machine().ops();
    stages_.begin(Stage::decode, job_.count);
    for (int64_t i = 0; i < job_.count; ++i) {
      const int64_t row = i % plan_.batch * job_.grid.tokens();
      const Tensor tokens = drawn_[static_cast<size_t>(i / plan_.batch)].rows(row, row + job_.grid.tokens());
      const Tensor pixels = ops.download(decode_tokens(ops, {model_.vae, session_.vae(), plan_.band_rows}, tokens,
                                                       job_.latents.with_first(1), model_.transformer.patch));
      result_.pictures.push_back(picture(i, pixels));
      stages_.step_done();
    }
  }

  Picture picture(int64_t index, const Tensor& pixels) const {
    const auto rgb = pixels.span<const uint8_t>();
    return {.width = job_.width,
            .height = job_.height,
            .rgb = {rgb.begin(), rgb.end()},
            .seed = job_.seed + static_cast<uint64_t>(index),
            .metadata = picture_metadata(job_, model_, session_.options(), index)};
  }

  void save_latents() {
    if (request_.save_latents.empty()) return;
    stages_.begin(Stage::write);
    Ops& ops = session_.machine().ops();
    const Tensor tokens = ops.download(ops.concat_rows(drawn_));
    write_safetensors(request_.save_latents,
                      {{std::string(kLatents), unpack_latents(tokens, job_.latents, model_.transformer.patch)}});
    stages_.step_done();
  }

  Session& session_;
  const Model& model_;
  const Request& request_;
  Stages stages_;
  Job job_;
  MemoryPlan plan_;
  Tensor noise_;                    // (count, z, h, w)
  std::vector<Tensor> embeddings_;  // of the prompt and, if guided, the negative prompt
  std::vector<Tensor> drawn_;       // tokens of each batch
  Result result_;
};

}  // namespace

Result generate(Session& session, const Request& request, double opening_seconds) {
  return Generation(session, request, opening_seconds).run();
}

}  // namespace inkstone
