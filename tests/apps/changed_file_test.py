"""Weights that change on disk while the program has them mapped."""
import os
import shutil
import unittest

from program import MODEL, ProgramTest
from terminal_test import ENDLESS, Terminal, has_terminals


@unittest.skipUnless(has_terminals(), "this machine gives no pseudo-terminals (is /dev/pts mounted?)")
class ChangedFileTest(ProgramTest):
    def setUp(self):
        super().setUp()
        shutil.copytree(MODEL, self.folder / "model")
        self.weights = self.folder / "model/transformer/diffusion_pytorch_model.safetensors"

    def start(self, *arguments):
        """A run that the progress line shows to be at work with the transformer."""
        run = Terminal(self.folder, "generate", "--model", "model", "--prompt", "x", "--output", "a.png", *arguments)
        run.read_until(b"denoise")
        return run

    def assert_refused(self, run, reason):
        """Exit code 1, one line that names the file, and neither a picture nor a temporary file."""
        self.assertEqual(run.end(), 1, run.output)
        error = run.output.rpartition(b"\x1b[K")[2].decode()
        self.assertRegex(error, rf"\Aerror: \S*{self.weights.name}: {reason}.*\r\n\Z")
        self.assertEqual(self.files(), ["model"])

    def test_cut_short(self):
        """To nothing, in the middle of a step as a rule: reading fails. By a byte: nothing fails, the last page stays."""
        for size, reason in [(0, "(was cut short|changed)"), (self.weights.stat().st_size - 1, "changed.* bytes now")]:
            whole = self.weights.read_bytes()
            run = self.start(*ENDLESS, "--save-latents", "l.safetensors")
            os.truncate(self.weights, size)
            self.assert_refused(run, reason)
            self.weights.write_bytes(whole)

    def test_cut_short_while_several_threads_read_it(self):
        run = self.start(*ENDLESS, "--threads", "4")
        os.truncate(self.weights, 0)
        self.assert_refused(run, "(was cut short|changed)")

    def test_written_to(self):
        run = self.start(*ENDLESS)
        with open(self.weights, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"x")
        self.assert_refused(run, "changed.* written to")

    def test_removed_or_replaced_is_harmless(self):
        run = self.start("--size", "64x64", "--steps", "20")
        self.weights.unlink()
        self.weights.write_text("another")
        self.assertEqual(run.end(), 0, run.output)
        self.assertIn("a.png", self.files())


if __name__ == "__main__":
    unittest.main()
