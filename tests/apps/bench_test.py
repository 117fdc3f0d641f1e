"""inkstone bench: the form of its answers. How fast a machine is, is no test."""
import json
import unittest

from program import ProgramTest

KEYS = ["bench", "size", "format", "arithmetic", "device", "median_s", "gflops", "peak_fraction", "peak_bytes", "isa", "threads",
        "peak_gflops"]


class BenchTest(ProgramTest):
    def test_json_has_the_agreed_keys(self):
        output, messages = self.run_program("bench", "vae", "--size", "32", "--json")
        self.assertEqual(messages, "")
        result = json.loads(output)
        self.assertEqual(list(result), KEYS)
        self.assertEqual([result[key] for key in KEYS[:5]], ["vae", 32, "f32", "f32", "cpu"])
        for key in KEYS[5:9] + KEYS[10:]:
            self.assertGreater(result[key], 0, key)
        self.assertAlmostEqual(result["gflops"], result["peak_fraction"] * result["peak_gflops"], delta=1e-6 * result["gflops"])

    def test_tells_threads_and_instruction_set(self):
        command = ["bench", "vae", "--size", "32", "--threads", "1", "--isa", "scalar"]
        result = json.loads(self.run_program(*command, "--json")[0])
        self.assertEqual([result["isa"], result["threads"]], ["scalar", 1])
        self.assertIn("cpu (scalar on 1 thread)", self.run_program(*command)[0])

    def test_text_for_people(self):
        output, _ = self.run_program("bench", "vae", "--size", "32", "--threads", "1")
        for word in ["vae", "32x32", "GFLOP/s", "%"]:
            self.assertIn(word, output)

    def test_every_format_has_a_name(self):
        for name in ["f32", "f16", "bf16", "int8", "int4", "int8_cpu", "int4_cpu"]:
            output, _ = self.run_program("bench", "vae", "--size", "16", "--format", name, "--json")
            self.assertEqual(json.loads(output)["format"], name)

    def test_says_that_8_bits_are_lossy(self):
        output, _ = self.run_program("bench", "vae", "--size", "32", "--threads", "1", "--arithmetic", "int8")
        self.assertIn("lossy", output)

    def test_names_the_16_bits_that_it_took(self):
        output, _ = self.run_program("bench", "encoder", "--format", "int8", "--arithmetic", "half", "--json")
        result = json.loads(output)
        self.assertEqual(result["arithmetic"], "half")
        self.assertIn(result["half_kind"], ["fp16", "bf16", "f32"])
        self.assertIn("vae", self.error_of("bench", "vae", "--arithmetic", "half", code=2))

    def test_half_of_an_instruction_set_without_it(self):
        output, _ = self.run_program("bench", "encoder", "--format", "int8", "--arithmetic", "half", "--isa", "avx2")
        self.assertIn("the instruction set avx2 has no products of 16 bits", output)
        self.assertNotIn("pixels", output)

    def test_arithmetic_that_leaves_the_encoder_alone(self):
        for arithmetic in ["int8", "fp8", "fp8_all"]:
            self.assertIn("int8_all", self.error_of("bench", "encoder", "--arithmetic", arithmetic, code=2))

    def test_faults(self):
        self.assertIn("33", self.error_of("bench", "block", "--size", "33"))


if __name__ == "__main__":
    unittest.main()
