#include "messages.h"

#include <cstdlib>
#include <memory>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace inkstone::cli {
namespace {

/// "warning: " or "error: "; nothing for information.
class LevelPrefix final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    if (message.level < spdlog::level::warn) return;
    const auto name = spdlog::level::to_string_view(message.level);
    out.append(name.begin(), name.end());
    constexpr std::string_view kColon = ": ";
    out.append(kColon.begin(), kColon.end());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<LevelPrefix>(); }
};

}  // namespace

void set_up_messages(Verbosity verbosity) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<LevelPrefix>('*').set_pattern("%*%v");
  auto logger = std::make_shared<spdlog::logger>("inkstone", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(std::move(formatter));
  logger->set_level(verbosity == Verbosity::quiet    ? spdlog::level::err
                    : verbosity == Verbosity::normal ? spdlog::level::info
                                                     : spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

bool shows_progress(Verbosity verbosity) {
  const char* terminal = std::getenv("TERM");
  return verbosity != Verbosity::quiet && isatty(STDERR_FILENO) == 1 && terminal != nullptr &&
         std::string_view(terminal) != "dumb";
}

}  // namespace inkstone::cli
