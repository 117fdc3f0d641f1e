#include "timeline_text.h"

#include <algorithm>
#include <fmt/format.h>

#include "text.h"

namespace inkstone::cli {
namespace {

double overlap(const Activity& a, const Activity& b) {
  return std::min(a.end_s, b.end_s) - std::max(a.begin_s, b.begin_s);
}

}  // namespace

std::vector<std::string> timeline_lines(const std::vector<Activity>& timeline) {
  std::vector<std::string> lines;
  for (const Activity& activity : timeline) {
    std::string line =
        fmt::format("{} from {} to {}", activity.what, seconds_text(activity.begin_s), seconds_text(activity.end_s));
    if (activity.bytes > 0) line += fmt::format(", {}", bytes_text(activity.bytes));
    if (activity.what == name_of(Stage::encode)) line += ", then the text encoder is released";
    for (const Activity& stage : timeline)
      if (activity.beside && !stage.beside && overlap(activity, stage) > 0)
        line += fmt::format(", {} of it beside {}", seconds_text(overlap(activity, stage)), stage.what);
    lines.push_back(line);
  }
  return lines;
}

}  // namespace inkstone::cli
