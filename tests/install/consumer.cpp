// Draws with the model that was installed beside the library, through the public headers alone.
#include <cstdio>
#include <inkstone/inkstone.h>

int main(int count, char** arguments) {
  if (count != 2) return 2;
  try {
    inkstone::Engine engine = inkstone::Engine::open({});
    const inkstone::Result result =
        engine.generate({.prompt = "a red circle", .cfg = 1, .steps = 2, .width = 64, .height = 64});
    inkstone::save_picture(arguments[1], result.pictures.front());
    std::printf("%s %s\n", inkstone::version().c_str(), inkstone::default_model().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
