// inkstone, the command-line program: it reads the command line, calls the public API and prints.
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <new>
#include <spdlog/spdlog.h>
#include <system_error>

#include "inkstone/combination_error.h"
#include "inkstone/inkstone.h"

#include "commands.h"
#include "file_fault.h"
#include "interrupt.h"
#include "messages.h"
#include "usage.h"

namespace inkstone::cli {
namespace {

enum ExitCode : int { success = 0, fault = 1, wrong_usage = 2 };

constexpr size_t kHelpColumn = 30;

constexpr const char* kFooter = R"(Examples:
  inkstone generate --prompt "a red star"
  inkstone generate --help

Exit codes: 0 done, 1 fault, 2 wrong usage, 130 interrupted by Ctrl-C.)";

/// CLI11 takes "--name=" for a missing value and would swallow the next argument: scripts mean an empty one.
std::vector<std::string> arguments_of(int argc, char** argv) {
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    arguments.push_back(argument);
    if (argument.starts_with("--") && equals + 1 == argument.size()) {
      arguments.back().pop_back();
      arguments.emplace_back();
    }
  }
  return arguments;
}

void describe(CLI::App& app) {
  app.set_version_flag("--version", "inkstone " + version(), "print the version");
  app.set_help_flag("--help,-h", "print this help");
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.get_formatter()->column_width(kHelpColumn);
  app.get_formatter()->label("OPTIONS", "options");
  app.get_formatter()->label("SUBCOMMAND", "command");
  app.get_formatter()->label("Positionals", "Arguments");
  app.footer(kFooter);
}

void run(int argc, char** argv) {
  CLI::App app("Pictures from text with Qwen-Image, on your own machine.", "inkstone");
  describe(app);
  Run command;
  add_generate(app, command);
  add_plan(app, command);
  add_tokenize(app, command);
  add_encode(app, command);
  add_inspect(app, command);
  add_quantize(app, command);
  add_bench(app, command);
  add_random_model(app, command);
  try {
    std::vector<std::string> arguments = arguments_of(argc, argv);
    std::reverse(arguments.begin(), arguments.end());
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", CLI::detail::find_and_replace(app.help(), "\n\n\n", "\n\n"));
    return;
  } catch (const CLI::CallForVersion& version_text) {
    fmt::print("{}\n", version_text.what());
    return;
  } catch (const CLI::ParseError& e) {
    throw UsageError(usage_text(app, e));
  }
  if (!command)
    throw UsageError(
        "no command given: generate, plan, tokenize, encode, inspect, quantize, bench or random-model wanted; "
        "see inkstone --help");
  command();
}

/// One line, whatever control characters a file name or a value brings along.
int fail(ExitCode code, std::string what) {
  std::replace_if(
      what.begin(), what.end(), [](unsigned char c) { return std::iscntrl(c) != 0; }, ' ');
  spdlog::error("{}", what);
  return code;
}

/// A full disk shows only when the last of the text is written.
void finish_output() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    throw Error(fmt::format("standard output: cannot write: {}", std::strerror(errno)));
}

int guarded_run(int argc, char** argv) {
  try {
    set_up_messages(Verbosity::normal);
    catch_file_faults();
    std::signal(SIGXFSZ, SIG_IGN);  // a limit of files' sizes is an error of the write, like a full disk
    run(argc, argv);
    finish_output();
    return success;
  } catch (const UsageError& e) {
    return fail(wrong_usage, e.what());
  } catch (const CombinationError& e) {
    return fail(wrong_usage, fmt::format("--{}", e.what()));
  } catch (const OptionError& e) {
    return fail(fault, fmt::format("--{}", e.what()));
  } catch (const Interrupted& e) {
    spdlog::warn("{}", e.what());
    return exit_code_of(e.signal());
  } catch (const std::bad_alloc&) {
    return fail(fault, "too little memory");
  } catch (const std::system_error& e) {
    const bool is_of_thread = e.code() == std::errc::resource_unavailable_try_again;  // whose stack finds no room
    return fail(fault, is_of_thread ? "too little memory, or too many threads, to start another" : e.what());
  } catch (const std::exception& e) {
    return fail(fault, e.what());
  }
}

}  // namespace
}  // namespace inkstone::cli

int main(int argc, char** argv) { return inkstone::cli::guarded_run(argc, argv); }
