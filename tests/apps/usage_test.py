"""Help, version and wrong usage."""
import unittest

from program import MODEL, ProgramTest

COMMANDS = {
    "generate": ["--model", "--prompt", "--negative-prompt", "--cfg", "--steps", "--width", "--height", "--size",
                 "--seed", "--count", "--output", "--device", "--dtype", "--threads", "--noise", "--save-latents",
                 "--quiet", "--verbose", "--like", "--max-sequence-length", "--transformer", "--text-encoder", "--vae",
                 "--tokenizer", "--profile", "--compare", "--memory", "--prompt-cache",
                 "--lora", "--lora-partial", "--preset", "--preview", "--preview-every"],
    "plan": ["--model", "--size", "--count", "--memory", "--json"],
    "tokenize": ["TEXT", "--model", "--tokenizer", "--file", "--template"],
    "encode": ["--model", "--prompt", "--output", "--text-encoder", "--tokenizer"],
    "inspect": ["PATH", "--json"],
    "quantize": ["SRC", "--format", "--group", "--keep", "--output", "--threads", "--quiet"],
    "bench": ["block", "encoder", "vae", "--size", "--layers", "--format", "--device", "--profile", "--json"],
    "random-model": ["--preset", "--format", "--layers", "--output", "--threads"],
}

# The call, and what its error has to name: the option, the value, and what would be right.
WRONG = [
    ([], ["no command", "generate", "bench"]),
    (["draw"], ["draw", "generate"]),
    (["--colour"], ["--colour", "--help"]),
    (["generate"], ["--prompt", "--like"]),
    (["generate", "--prompt"], ["--prompt", "TEXT"]),
    (["generate", "--prompt", "x", "y"], ["'y'", "generate --help"]),
    (["generate", "--prompt", "x", "--step", "3"], ["--step", "generate --help"]),
    (["generate", "--prompt", "x", "--steps", "3.5"], ["--steps", "'3.5'", "whole number"]),
    (["generate", "--prompt", "x", "--steps", "0"], ["--steps", "'0'", "from 1 to 1000"]),
    (["generate", "--prompt", "x", "--steps", "-1"], ["--steps", "'-1'", "from 1 to 1000"]),
    (["generate", "--prompt", "x", "--steps", "1001"], ["--steps", "'1001'", "from 1 to 1000"]),
    (["generate", "--prompt", "x", "--steps="], ["--steps", "''", "whole number"]),
    (["generate", "--prompt", "x", "--cfg", "nan"], ["--cfg", "'nan'", "from 1 to 1000"]),
    (["generate", "--prompt", "x", "--cfg", "0.5"], ["--cfg", "'0.5'", "from 1 to 1000"]),
    (["generate", "--prompt", "x", "--cfg", "1e308"], ["--cfg", "'1e308'", "from 1 to 1000"]),
    (["generate", "--prompt", "x", "--seed", "-1"], ["--seed", "'-1'", "18446744073709551615"]),
    (["generate", "--prompt", "x", "--seed", "18446744073709551616"], ["--seed", "18446744073709551616"]),
    (["generate", "--prompt", "x", "--count", "none"], ["--count", "'none'", "whole number"]),
    (["generate", "--prompt", "x", "--count", "1000000000"], ["--count", "'1000000000'", "1 to 1024"]),
    (["generate", "--prompt", "x", "--output", "a.png", "--save-latents", "./a.png"], ["--save-latents ./a.png"]),
    (["generate", "--prompt", "x", "--noise", "n", "--save-latents", "./n"], ["--save-latents ./n", "noise"]),
    (["generate", "--prompt", "x", "--output", "a.png", "--preview", "./a.png"], ["--preview ./a.png", "another file"]),
    (["generate", "--prompt", "x", "--preview", "x.bmp"], ["--preview: x.bmp", ".png, .jpg, .jpeg or .webp"]),
    (["generate", "--prompt", "x", "--preview-every", "2"], ["--preview-every 2", "--preview FILE"]),
    (["generate", "--prompt", "x", "--preview", "p.png", "--preview-every", "0"], ["--preview-every", "'0'", "1 to 1000"]),
    (["generate", "--prompt", "x", "--output", "x.bmp"], ["--output: x.bmp", ".png, .jpg, .jpeg or .webp"]),
    (["generate", "--prompt", "x", "--output", "x"], ["--output: x", ".png, .jpg, .jpeg or .webp"]),
    (["generate", "--prompt", "x", "--output", "png"], ["--output: png", ".png, .jpg, .jpeg or .webp"]),
    (["generate", "--prompt", "x", "--output", ".png"], ["--output: .png", ".png, .jpg, .jpeg or .webp"]),
    (["generate", "--prompt", "x", "--output", "x.png/"], ["--output: x.png/", ".png, .jpg, .jpeg or .webp"]),
    (["generate", "--prompt", "x", "--output", ""], ["--output", "''", "a file name"]),
    (["generate", "--prompt", "x", "--seed", "3", "--noise", "n.st"], ["--seed 3", "--noise n.st", "one of them"]),
    (["generate", "--prompt", "x", "--seed", "18446744073709551615", "--count", "2"],
     ["--count 2", "seed", "18446744073709551615", "18446744073709551614"]),
    (["generate", "--prompt", "x", "--max-sequence-length", "0"], ["--max-sequence-length", "'0'", "from 1 to 1024"]),
    (["generate", "--prompt", "x", "--max-sequence-length", "1025"], ["--max-sequence-length", "'1025'", "to 1024"]),
    (["generate", "--prompt", "x", "--width", "16384", "--height", "64"], ["--width", "'16384'", "from 1 to 16383"]),
    (["generate", "--prompt", "x", "--size", "64x16400"], ["--size", "'64x16400'", "from 1 to 16383"]),
    (["generate", "--prompt", "x", "--size", "64"], ["--size", "'64'", "WIDTHxHEIGHT"]),
    (["generate", "--prompt", "x", "--size", "64x0"], ["--size", "'64x0'", "WIDTHxHEIGHT"]),
    (["generate", "--prompt", "x", "--size", "64x64", "--width", "64"], ["--size", "64x64", "--width"]),
    (["generate", "--prompt", "x", "--width", "64"], ["--width", "--height"]),
    (["generate", "--prompt", "x", "--threads", "0"], ["--threads", "'0'", "1 to"]),
    (["generate", "--prompt", "x", "--device", "tpu"], ["--device", "'tpu'", "cpu", "cuda:N", "reference"]),
    (["generate", "--prompt", "x", "--dtype", "f64"], ["--dtype", "'f64'", "f32", "bf16"]),
    (["generate", "--prompt", "x", "--model", ""], ["--model", "path"]),
    (["generate", "--prompt", "x", "--lora", ""], ["--lora", "FILE:SCALE"]),
    (["generate", "--prompt", "x", "--lora", "a.safetensors:"], ["--lora", "'a.safetensors:'", "from -100 to 100"]),
    (["generate", "--prompt", "x", "--lora", "a.safetensors:101"], ["--lora", "'a.safetensors:101'", "-100 to 100"]),
    (["generate", "--prompt", "x", "--lora", ":1"], ["--lora", "':1'", "FILE:SCALE"]),
    (["generate", "--prompt", "x", "--preset", "fast"], ["--preset", "'fast'", "lightning-4", "lightning-8"]),
    (["generate", "--prompt", "x", "--quiet", "--verbose"], ["--quiet", "--verbose"]),
    (["generate", "--prompt", "x", "--memory", "6X"], ["--memory", "'6X'", "such as 6G"]),
    (["generate", "--prompt", "x", "--isa", "mmx"], ["--isa", "'mmx'", "avx2", "INKSTONE_ISA"]),
    (["tokenize"], ["TEXT", "--file"]),
    (["tokenize", "--file", ""], ["--file", "''", "a file"]),
    (["tokenize", "x", "--file", "y"], ["TEXT", "--file"]),
    (["encode", "--output", "x.safetensors"], ["--prompt"]),
    (["encode", "--prompt", "x"], ["--output"]),
    (["encode", "--prompt", "x", "--output", "y", "--max-sequence-length", "1025"], ["--max-sequence-length", "1024"]),
    (["inspect"], ["PATH", "inspect --help"]),
    (["inspect", ""], ["PATH", "''", "a folder or a file"]),
    (["quantize"], ["SRC", "quantize --help"]),
    (["quantize", "x"], ["--output", "quantize --help"]),
    (["quantize", "x", "--output", "y", "--format", "int3"], ["--format", "'int3'", "int4", "fp8"]),
    (["quantize", "x", "--output", "y", "--group", "48"], ["--group", "'48'", "32", "128"]),
    (["quantize", "", "--output", "y"], ["SRC", "''", "a folder or a file"]),
    (["quantize", "x", "--output", "y", "--keep", "img_in"], ["--keep", "'img_in'", "PATTERN=FORMAT"]),
    (["quantize", "x", "--output", "y", "--keep", "img_in=int5"], ["--keep", "'img_in=int5'", "int4", "stored"]),
    (["bench"], ["KIND", "bench --help"]),
    (["bench", "block", "--arithmetic", "int4"], ["--arithmetic", "'int4'", "f32, half, fp16, bf16, int8, int8_all, fp8, fp8_all"]),
    (["encode", "--arithmetic", "int8"], ["--arithmetic", "'int8'", "f32, half, fp16, bf16, int8_all"]),
    (["encode", "--arithmetic", "fp8_all"], ["--arithmetic", "'fp8_all'", "f32, half, fp16, bf16, int8_all"]),
    (["bench", "stairs"], ["'stairs'", "block", "encoder", "vae"]),
    (["bench", "vae", "--layers", "3"], ["--layers 3", "vae", "block or encoder"]),
    (["bench", "vae", "--format", "f8"], ["--format", "'f8'", "bf16"]),
    (["bench", "block", "--layers", "61"], ["--layers", "'61'", "from 1 to 60"]),
    (["bench", "block", "--size", "20000"], ["--size", "'20000'", "from 1 to 16383"]),
    (["bench", "block", "--band-rows", "3"], ["--band-rows 3", "block", "vae takes it"]),
]


# Values that only the library can refuse, as it knows the model or the machine.
REFUSED = [
    (["generate", "--prompt", "x", "--size", "100x64"], "--width 100: "),
    (["generate", "--prompt", "x", "--negative-prompt", "\udcff"], "--negative-prompt: "),
    (["generate", "--prompt", "x", "--memory", "1M"], "--size 256x256: "),
    (["bench", "block", "--size", "20"], "--size 20: "),
    (["quantize", MODEL, "--output", "y", "--keep", "other.*=bf16"], "--keep other.*=bf16: "),
]

# Options that exclude each other whatever the model and the machine, which the library refuses too.
EXCLUSIVE = [
    (["generate", "--prompt", "x", "--arithmetic", "fp8", "--device", "cpu"], "--arithmetic fp8: "),
    (["generate", "--prompt", "x", "--arithmetic", "fp8_all", "--device", "cpu"], "--arithmetic fp8_all: "),
    (["generate", "--prompt", "x", "--arithmetic", "int8", "--compare", "reference"], "--arithmetic int8: "),
    (["quantize", MODEL, "--output", "y", "--format", "fp8", "--group", "32"], "--group 32: fp8 has no groups; "),
    (["quantize", MODEL, "--output", "y", "--format", "bf16", "--calibrate", "prompts.txt"], "--calibrate: "),
    (["generate", "--prompt", "x", "--arithmetic", "int8_all", "--device", "reference"], "--arithmetic int8_all: "),
    (["quantize", MODEL, "--output", "y", "--layout", "cpu", "--calibrate", "prompts.txt"], "--calibrate: "),
]


class UsageTest(ProgramTest):
    def test_help_names_every_option_and_shows_examples(self):
        for command, options in COMMANDS.items():
            with self.subTest(command):
                output, messages = self.run_program(command, "--help")
                self.assertEqual(messages, "")
                self.assertIn(f"inkstone {command}", output.split("Example", 1)[1])
                for option in options:
                    self.assertIn(option, output)
                self.assertLessEqual(max(map(len, output.splitlines())), 120)

    def test_help_lists_the_commands(self):
        output, _ = self.run_program("--help")
        for command in COMMANDS:
            self.assertIn(f"\n  {command} ", output)

    def test_version(self):
        output, _ = self.run_program("--version")
        self.assertRegex(output, r"^inkstone \d+\.\d+\.\d+\n$")

    def test_wrong_usage_is_one_line_that_helps(self):
        for arguments, words in WRONG:
            with self.subTest(arguments):
                error = self.error_of(*arguments, code=2)
                for word in words:
                    self.assertIn(word, error)

    def test_errors_name_options_as_they_are_typed(self):
        for code, refused in ((1, REFUSED), (2, EXCLUSIVE)):
            for arguments, beginning in refused:
                with self.subTest(arguments):
                    error = self.error_of(*arguments, code=code)
                    self.assertTrue(error.startswith(f"error: {beginning}"), error)

    def test_errors_stay_one_line_whatever_is_in_the_value(self):
        self.assertIn("--steps", self.error_of("generate", "--prompt", "x", "--steps", "1\n2\x1b[0m", code=2))


if __name__ == "__main__":
    unittest.main()
