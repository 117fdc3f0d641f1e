// Files that are cut short, or that a disk cannot give, while they are mapped: SIGBUS would end the program unheard.
#pragma once
#include <string_view>

namespace inkstone::cli {

/// From here on a fault ends the program with one line that names the file, and exit code 1.
void catch_file_faults();

/// With a signal (0 for none) the first fault sends it to the program instead, and what is missing reads as zeros until
/// the work has stopped, so that it can clear away its files.
void tell_file_faults_by(int signal);

/// What the first fault was; empty as long as there was none.
std::string_view file_fault();

}  // namespace inkstone::cli
