// Google Benchmark's main, but for the exit status of benchmarks that could not run.
#include "report.h"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return EXIT_FAILURE;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return inkstone::any_gave_up ? EXIT_FAILURE : EXIT_SUCCESS;
}
