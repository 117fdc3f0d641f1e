"""Tests of inkstone random-model: a folder that opens and draws, in every format."""
import fcntl
import json
import os
import unittest

from program import QUICK, ProgramTest, png_size


class RandomModelTest(ProgramTest):
    def test_a_small_model_of_every_format_draws(self):
        for form in ("f32", "f16", "bf16", "fp8", "int8", "int4", "int8_cpu", "int4_cpu"):
            with self.subTest(form):
                output = self.run_program("random-model", "--preset", "tiny", "--format", form, "-o", form)[0]
                self.assertEqual(output, form + "\n")
                description = json.loads(self.run_program("inspect", "--json", form)[0])
                self.assertEqual(description["missing"], [])
                for component in description["components"]:
                    self.assertNotIn("error", component)
                    self.assertEqual((component["missing"], component["surplus"]), ([], []))
                self.run_program("generate", "--model", form, "--prompt", "a", *QUICK, "--output", form + ".png")
                self.assertEqual(png_size(self.folder / (form + ".png")), (64, 64))

    def test_layers_are_those_asked_for(self):
        self.run_program("random-model", "--preset", "tiny", "--layers", "2", "-o", "two")
        for component, field in (("transformer", "num_layers"), ("text_encoder", "num_hidden_layers")):
            self.assertEqual(json.loads((self.folder / "two" / component / "config.json").read_text())[field], 2)

    def test_replaces_nothing_and_leaves_nothing_half_made(self):
        (self.folder / "there").mkdir()
        self.assertIn("there: is there already", self.error_of("random-model", "--preset", "tiny", "-o", "there"))
        self.assertIn("layers 9", self.error_of("random-model", "--preset", "tiny", "--layers", "9", "-o", "new"))
        self.error_of("random-model", "--preset", "tiny", "-o", "none/new")
        self.assertIn("--output", self.error_of("random-model", "--preset", "tiny", code=2))

    def test_a_disk_without_room_is_an_error_before_any_work(self):
        error = self.error_of("random-model", "--format", "f32", "--preset", "qwen-image-2512", "-o", "large")
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
        if free > 110e9:
            self.skipTest("there is room for 110 GB")
        self.assertRegex(error, r"bytes are needed on its disk, \d+ are free")
        self.assertEqual(self.files(), [])

    def test_removes_what_a_killed_run_left_and_nothing_of_one_that_works(self):
        partial = self.folder / ".inkstone-new.partial"
        (partial / "transformer").mkdir(parents=True)
        (partial / "transformer" / "model-00001.safetensors").write_text("half")
        other_run = os.open(partial, os.O_RDONLY)
        fcntl.flock(other_run, fcntl.LOCK_EX)
        command = ("random-model", "--preset", "tiny", "--layers", "1", "-o", "new")
        self.assertIn("another run is writing there", self.error_of(*command))
        self.assertTrue((partial / "transformer").exists())
        os.close(other_run)
        self.run_program(*command)
        self.assertEqual(self.files(), ["new"])


if __name__ == "__main__":
    unittest.main()
