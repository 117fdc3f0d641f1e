#include <utility>

#include "inkstone/inkstone.h"

#include "core/error.h"
#include "engine/generation.h"
#include "engine/session.h"
#include "engine/stages.h"
#include "engine/timing.h"

namespace inkstone {

struct Engine::State {
  explicit State(const EngineOptions& options) : session(options) {}

  Session session;
  double opening_seconds = 0;  ///< until a call has told them
};

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;

Engine Engine::open(const EngineOptions& options) {
  const auto start = Clock::now();
  auto state = std::make_unique<State>(options);
  state->opening_seconds = seconds_since(start);
  return Engine(std::move(state));
}

Result Engine::generate(const Request& request) {
  check(state_->session.options().purpose == Purpose::generate,
        "this engine was opened to encode prompts; one for pictures is needed");
  return inkstone::generate(state_->session, request, std::exchange(state_->opening_seconds, 0));
}

Plan Engine::plan(const Request& request) {
  check(state_->session.options().purpose == Purpose::generate,
        "this engine was opened to encode prompts; one for pictures is needed");
  return inkstone::plan(state_->session, request);
}

Embeddings Engine::encode(const EncodeRequest& request) {
  Session& session = state_->session;
  session.watch(request.stop);
  std::vector<std::string> notes = session.model().notes;
  const PromptTokens tokens =
      tokenize_named(session.model().tokenizer, "prompt", request.prompt, request.max_sequence_length, notes);
  const std::span prompts(&tokens, 1);
  Stages stages(request.progress);
  stages.begin(Stage::encode, session.encoding_steps(prompts));
  const Tensor states = session.encode(prompts, [&] { stages.step_done(); }).front();
  const Tensor host = session.machine().ops().download(states);
  const auto values = host.span<const float>();
  Embeddings embeddings = {.rows = host.dim(0), .width = host.dim(1), .values = {values.begin(), values.end()}};
  embeddings.notes = std::move(notes);
  if (const std::string agreement = session.machine().comparison(); !agreement.empty())
    embeddings.notes.push_back(agreement);
  return embeddings;
}

std::string Engine::half_kind() const { return state_->session.half_kind(); }
std::string Engine::lossy_weights() const { return state_->session.lossy_weights(); }
std::vector<std::string> Engine::describe() const { return state_->session.describe(); }

}  // namespace inkstone
