#include "engine/generation.h"

#include <algorithm>

#include "core/error.h"
#include "core/host_memory.h"
#include "core/quantity.h"
#include "engine/component_totals.h"
#include "engine/finite.h"
#include "engine/job.h"
#include "engine/load_ahead.h"
#include "engine/memory_plan.h"
#include "engine/metadata.h"
#include "engine/preview.h"
#include "engine/stages.h"
#include "io/safetensors.h"
#include "model/pipeline.h"

namespace inkstone {
namespace {

constexpr std::string_view kLatents = "latents";

/// What a job's plan depends on beside the job.
MemoryState memory_state(Session& session, const std::vector<PromptTokens>& prompts) {
  HostMemory& pool = session.machine().memory();
  MemoryState state = {.device = &session.machine().device(),
                       .held = session.held(),
                       .rounds_text = rounds_text(session.options().arithmetic),
                       .threads = session.threads(),
                       .prompts_encoded = session.encoding_steps(prompts) == 0,
                       .transformer = session.transformer_placement(),
                       .encodes_again = session.has_encoded(),
                       .holds_text_encoder = session.holds_text_encoder()};
  const size_t own = resident_memory();
  state.machine_bytes = available_memory() + own;
  if (const auto of_device = session.machine().device().own_memory()) {
    state.available_bytes = of_device->bytes;
    state.own_bytes = of_device->unplanned;
    state.weights_copied = true;
    return state;
  }
  state.halves_decoding = is_int8(session.options().arithmetic);
  const size_t limit = session.options().memory_limit;
  state.available_bytes = limit > 0 ? limit : state.machine_bytes;
  const size_t counted_anew = pool.held() - pool.current() + session.machine().device().kept_bytes();
  state.own_bytes = own - std::min(own, counted_anew);
  state.mapped_bytes = mapped_memory();
  return state;
}

std::vector<PromptTokens> prompts_of(const Job& job) {
  std::vector<PromptTokens> prompts = {job.prompt_tokens};
  if (job.guided) prompts.push_back(job.negative_tokens);
  return prompts;
}

MemoryPlan plan_job(Session& session, const Job& job) {
  const VaeWeights& vae = session.vae();  // its copies of kernels are held from here on
  for (const Checkpoint* files : session.model().files()) files->release_pages();  // the plan counts them in its stages
  MemoryPlan plan = plan_memory(session.model(), vae, job, memory_state(session, prompts_of(job)));
  const size_t held = session.machine().memory().current();  // embeddings that are kept for other calls
  for (size_t* limit : {&plan.encode_pool, &plan.denoise_pool, &plan.decode_pool}) *limit += held;
  return plan;
}

/// Weights in FP8 of a layer with a LoRA are not rounded again: that would lose what the LoRA adds.
bool lora_keeps_fp8_from_rounding(const Session& session) {
  if (!is_fp8(session.options().arithmetic)) return false;
  const Checkpoint& files = session.model().transformer_files;
  return std::ranges::any_of(files.branches, [&](const auto& layer) {
    const StoredTensor* weight = files.find(layer.first + std::string(kWeightSuffix));
    return weight != nullptr && weight->data.dtype() == DType::f8_e4m3;
  });
}

std::vector<std::string> notes_of(const Session& session, const Job& job) {
  const Model& model = session.model();
  std::vector<std::string> notes = model.notes;
  notes.insert(notes.end(), job.notes.begin(), job.notes.end());
  for (const Checkpoint* files : model.files())
    if (session.held() == DType::bf16 && loses_in_bf16(*files))
      notes.push_back(fmt::format("the {}'s weights are rounded to bf16", name_of(files->component)));
  if (lora_keeps_fp8_from_rounding(session))
    notes.emplace_back("layers with a LoRA are multiplied in bf16: their weights are in fp8 already");
  return notes;
}

class Generation {
 public:
  Generation(Session& session, const Request& request, double opening_seconds)
      : session_(session), model_(session.model()), request_(request), stages_(request.progress) {
    stages_.add(Stage::load, opening_seconds);
  }
  ~Generation() { session_.end_transformer(); }
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  Result run() {
    Device& device = session_.machine().device();
    session_.watch(request_.stop);
    session_.machine().take_profile();  // of a call that was stopped
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
    std::ranges::move(device.take_notes(), std::back_inserter(result_.notes));
    result_.profile = session_.machine().take_profile();
    result_.peak_bytes = device.memory().peak;
    result_.times = stages_.finish();
    result_.timeline = stages_.timeline();
    result_.timeline.insert(result_.timeline.end(), beside_.begin(), beside_.end());
    return std::move(result_);
  }

 private:
  void prepare() {
    if (!request_.save_latents.empty()) check_writable_file(request_.save_latents);
    job_ = make_job(model_, request_);
    plan_ = plan_job(session_, job_);
    noise_ = starting_noise(job_);
    if (plan_.round_again) session_.forget_forms();
    if (session_.options().memory_limit > 0) session_.machine().device().keep_at_most(plan_.kept);
    if (request_.preview) previews_.emplace(session_.machine().ops(), model_, session_.vae(), job_, request_);
  }

  /// What the first step needs comes while the text encoder runs.
  void load_ahead() {
    if (!plan_.read_ahead.empty()) read_ahead_.emplace(plan_.read_ahead);
    const bool other_memory = session_.machine().device().own_memory().has_value();
    if (plan_.told.transformer_beside && !session_.transformer_placement() && !other_memory)
      loading_.emplace(request_.stop, [this](const std::stop_token& stop) { return session_.bind_transformer(stop); });
  }

  /// The transformer, bound by then.
  const TransformerWeights& bound_transformer() {
    if (loading_) {
      session_.keep_transformer(loading_->take());
      beside_.push_back(beside("transformer bound", loading_->span()));
      loading_.reset();
    }
    return session_.transformer(plan_.blocks);
  }

  void stop_reading_ahead() {
    if (!read_ahead_) return;
    const TimeSpan span = read_ahead_->stop();
    beside_.push_back(beside("weights read ahead", span, read_ahead_->bytes()));
    read_ahead_.reset();
  }

  Activity beside(const std::string& what, const TimeSpan& span, size_t bytes = 0) const {
    return {
        .what = what, .begin_s = stages_.at(span.begin), .end_s = stages_.at(span.end), .bytes = bytes, .beside = true};
  }

  void encode() {
    const std::vector<PromptTokens> texts = prompts_of(job_);
    load_ahead();
    begin_pool(plan_.encode_pool);
    if (plan_.told.text_encoder_streamed) session_.stream_text_encoder(plan_.caching);
    session_.keep_text_encoder(plan_.keeps_text_encoder);
    stages_.begin(Stage::encode, session_.encoding_steps(texts));
    embeddings_ = session_.encode(texts, [&] { stages_.step_done(); });
  }

  /// The end of a step that read weights.
  void step_done() {
    session_.check_files();
    stages_.step_done();
  }

  /// A stage's use of the pool is planned from an empty one.
  void begin_pool(size_t limit) {
    HostMemory& pool = session_.machine().memory();
    pool.release_unused();
    pool.set_limit(limit);
  }

  /// The job's pictures from `first` on, as many as are drawn at once.
  Batch batch_from(int64_t first) const {
    const auto pictures = static_cast<size_t>(std::min(plan_.told.batch, job_.count - first));
    Batch batch = {.grid = job_.grid, .prompts = std::vector(pictures, embeddings_[0])};
    if (job_.guided) batch.negatives = std::vector(pictures, embeddings_[1]);
    return batch;
  }

  void denoise() {
    stages_.begin(Stage::load);
    const Transformer transformer(model_.transformer, bound_transformer());
    stages_.step_done();
    Ops& ops = session_.machine().ops();
    const int64_t batches = (job_.count + plan_.told.batch - 1) / plan_.told.batch;
    stages_.begin(Stage::denoise, batches * job_.steps);
    begin_pool(plan_.denoise_pool);
    if (plan_.told.modulation_streamed) session_.stream_modulation(plan_.caching);
    const Sampler sampler(ops, transformer, job_.sigmas, job_.cfg);
    session_.end_transformer();  // modulation layers are not needed any more
    if (plan_.told.transformer_streamed) session_.stream_blocks(plan_.caching);
    for (int64_t first = 0; first < job_.count; first += plan_.told.batch) {
      const Batch batch = batch_from(first);
      const Tensor noise = ops.upload(noise_.rows(first, first + batch.pictures()));
      Tensor start = ops.patchify(noise, model_.transformer.patch);
      if (previews_) previews_->begin(first, start);
      const Tensor tokens = sampler.run(batch, std::move(start), [this](int64_t step, const Tensor& at) {
        session_.machine().device().end_step();
        step_done();
        if (previews_) previews_->step_done(step, at);
      });
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
    stop_reading_ahead();
    session_.end_transformer();
    begin_pool(plan_.decode_pool);
    stages_.begin(Stage::decode, job_.count);
    for (int64_t i = 0; i < job_.count; ++i) {
      const int64_t row = i % plan_.told.batch * job_.grid.tokens();
      const Tensor tokens = drawn_[static_cast<size_t>(i / plan_.told.batch)].rows(row, row + job_.grid.tokens());
      const Tensor pixels = ops.download(decode_tokens(ops, {model_.vae, session_.vae(), plan_.told.band_rows}, tokens,
                                                       job_.latents.with_first(1), model_.transformer.patch));
      result_.pictures.push_back(picture(i, pixels));
      step_done();
    }
  }

  Picture picture(int64_t index, const Tensor& pixels) const {
    const auto rgb = pixels.span<const uint8_t>();
    return {.width = job_.width,
            .height = job_.height,
            .rgb = {rgb.begin(), rgb.end()},
            .seed = job_.noise_file.empty() ? job_.seed + static_cast<uint64_t>(index) : 0,
            .metadata = picture_metadata(job_, model_, session_.options(), index)};
  }

  void save_latents() {
    if (request_.save_latents.empty()) return;
    stages_.begin(Stage::write);
    Ops& ops = session_.machine().ops();
    const Tensor tokens = ops.download(ops.concat_rows(drawn_));
    write_safetensors(request_.save_latents,
                      {{std::string(kLatents), unpack_latents(tokens, job_.latents, model_.transformer.patch)}}, {},
                      request_.stop);
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
  std::optional<Previews> previews_;
  std::optional<BackgroundLoad> loading_;
  std::optional<ReadAhead> read_ahead_;
  std::vector<Activity> beside_;  // what threads of their own did
  Result result_;
};

}  // namespace

Plan plan(Session& session, const Request& request) {
  session.watch(request.stop);
  return plan_job(session, make_job(session.model(), request)).told;
}

Result generate(Session& session, const Request& request, double opening_seconds) {
  return Generation(session, request, opening_seconds).run();
}

}  // namespace inkstone
