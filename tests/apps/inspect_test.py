"""inkstone inspect."""
import json
import struct
import unittest

from program import MODEL, ProgramTest

COMPONENTS = {"transformer", "text_encoder", "vae"}


def header_of(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    return header


class InspectTest(ProgramTest):
    def inspect(self, path):
        output, messages = self.run_program("inspect", str(path), "--json")
        self.assertEqual(messages, "")
        return json.loads(output)

    def test_counts_are_those_of_the_files(self):
        found = {component["component"]: component for component in self.inspect(MODEL)["components"]}
        self.assertLessEqual(COMPONENTS, set(found))
        for name in COMPONENTS:
            (file,) = (MODEL / name).glob("*.safetensors")
            header = header_of(file)
            self.assertEqual(found[name]["tensors"], len(header))
            self.assertEqual(found[name]["bytes"], sum(e["data_offsets"][1] - e["data_offsets"][0] for e in header.values()))
            self.assertEqual(sum(found[name]["dtypes"].values()), len(header))
            self.assertEqual(found[name]["missing"], [])
            self.assertTrue(found[name]["config"])

    def test_one_component_and_one_file(self):
        for path in [MODEL / "vae", MODEL / "vae" / "diffusion_pytorch_model.safetensors"]:
            (component,) = self.inspect(path)["components"]
            self.assertEqual(component["component"], "vae")

    def test_missing_tensors_are_named(self):
        (self.folder / "vae").mkdir()
        for file in (MODEL / "vae").iterdir():
            data = file.read_bytes()
            if file.suffix == ".safetensors":
                data = data.replace(b'"decoder.conv_in.bias"', b'"decoder.conv_in.fast"')
            (self.folder / "vae" / file.name).write_bytes(data)
        (component,) = self.inspect("vae")["components"]
        self.assertIn("decoder.conv_in.bias", " ".join(component["missing"]))
        output, _ = self.run_program("inspect", "vae")
        self.assertRegex(output, r"missing: decoder\.conv_in\.bias\n")
        self.assertRegex(output, r"surplus: decoder\.conv_in\.fast\n")

    def test_missing_components_are_named(self):
        (self.folder / "vae").symlink_to(MODEL / "vae")
        self.assertLessEqual({"transformer", "text_encoder", "tokenizer"}, set(self.inspect(".")["missing"]))
        output, _ = self.run_program("inspect", ".")
        self.assertRegex(output, r"\nmissing: .*text_encoder.*")

    def test_text_for_people(self):
        output, _ = self.run_program("inspect", str(MODEL))
        for word in [str(MODEL), *COMPONENTS, "parameters", "MiB"]:
            self.assertIn(word, output)

    def test_faults(self):
        (self.folder / "notes.txt").write_text("nothing of a model")
        (self.folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
        self.assertIn("picture.png: is neither a safetensors nor a GGUF file", self.error_of("inspect", "picture.png"))
        for name in ["nowhere", "notes.txt"]:
            self.assertIn(name, self.error_of("inspect", name))


if __name__ == "__main__":
    unittest.main()
