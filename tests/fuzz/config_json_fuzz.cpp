// config.json of every component, and inkstone.json.
#include <cstdlib>
#include <fstream>
#include <unistd.h>

#include "model/config.h"

namespace inkstone {
namespace {

namespace fs = std::filesystem;

/// A folder for the file that the readers open.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "inkstone-fuzz-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { fs::remove_all(path_); }

  const fs::path& path() const { return path_; }

  void write(const char* name, const uint8_t* data, size_t size) const {
    std::ofstream(path_ / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  }

 private:
  fs::path path_;
};

void attempt(const auto& read) {
  try {
    read();
  } catch (const Error&) {
  }
}

}  // namespace
}  // namespace inkstone

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace inkstone;
  static const Folder folder;
  folder.write("config.json", data, size);
  folder.write("inkstone.json", data, size);
  const Checkpoint checkpoint{.path = folder.path()};
  ConfigOrigin origin;
  attempt([&] { read_transformer_config(checkpoint, origin); });
  attempt([&] { read_text_encoder_config(checkpoint, origin); });
  attempt([&] { read_vae_config(checkpoint, origin); });
  attempt([&] { read_model_defaults(folder.path()); });
  return 0;
}
