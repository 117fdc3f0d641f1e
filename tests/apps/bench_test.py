"""inkstone bench: the form of its answers. How fast a machine is, is no test."""
import json
import unittest

from program import ProgramTest

KEYS = ["bench", "size", "format", "arithmetic", "device", "median_s", "gflops", "peak_fraction", "peak_bytes"]


class BenchTest(ProgramTest):
    def test_json_has_the_agreed_keys(self):
        output, messages = self.run_program("bench", "vae", "--size", "32", "--json")
        self.assertEqual(messages, "")
        result = json.loads(output)
        self.assertEqual(list(result), KEYS)
        self.assertEqual([result[key] for key in KEYS[:5]], ["vae", 32, "f32", "f32", "cpu"])
        for key in KEYS[5:]:
            self.assertGreater(result[key], 0, key)

    def test_text_for_people(self):
        output, _ = self.run_program("bench", "vae", "--size", "32", "--threads", "1")
        for word in ["vae", "32x32", "GFLOP/s", "%"]:
            self.assertIn(word, output)

    def test_says_that_8_bits_are_lossy(self):
        output, _ = self.run_program("bench", "vae", "--size", "32", "--threads", "1", "--arithmetic", "int8")
        self.assertIn("lossy", output)

    def test_names_the_16_bits_that_it_took(self):
        output, _ = self.run_program("bench", "encoder", "--format", "int8", "--arithmetic", "half", "--json")
        result = json.loads(output)
        self.assertEqual(result["arithmetic"], "half")
        self.assertIn(result["half_kind"], ["fp16", "bf16", "f32"])
        self.assertIn("vae", self.error_of("bench", "vae", "--arithmetic", "half", code=2))

    def test_faults(self):
        self.assertIn("33", self.error_of("bench", "block", "--size", "33"))


if __name__ == "__main__":
    unittest.main()
