"""inkstone generate: pictures, their names and what they carry."""
import os
import re
import resource
import subprocess
import unittest
from pathlib import Path

from program import MODEL, PROGRAM, QUICK, ProgramTest, png_metadata, png_pixels, png_size, read_safetensors

DATA = Path(__file__).resolve().parents[1] / "data"


class PictureTest(ProgramTest):
    def test_picture_carries_what_made_it(self):
        output, messages = self.run_program("generate", "--prompt", "a red ★", "--negative-prompt", "blue", "--cfg", "3",
                                            "--steps", "2", "--size", "64x96", "--seed", "7", "--output", "star.png")
        self.assertEqual(output, "star.png\n")
        self.assertRegex(messages, r"denoise .* total ")
        self.assertNotIn("\r", messages)
        self.assertNotIn("\x1b", messages)
        self.assertEqual(png_size(self.folder / "star.png"), (64, 96))
        metadata = png_metadata(self.folder / "star.png")
        expected = {"prompt": "a red ★", "negative_prompt": "blue", "cfg": 3, "steps": 2, "width": 64, "height": 96,
                    "seed": 7, "model": "tiny"}
        self.assertEqual({key: metadata[key] for key in expected}, expected)
        self.assertIn("inkstone", metadata["versions"])

    def test_jpeg_and_webp_carry_it_too(self):
        for name, magic in [("star.jpg", rb"\xff\xd8\xff"), ("star.webp", rb"RIFF....WEBP")]:
            data = self.draw(name, "--seed", "7").read_bytes()
            self.assertRegex(data[:12], re.compile(magic, re.DOTALL))
            self.assertIn(b'"prompt":"a red star"', data)

    def test_quiet_leaves_only_the_path(self):
        self.assertEqual(self.run_program("generate", "--prompt", "x", *QUICK, "--quiet", "--output", "a.png"),
                         ("a.png\n", ""))

    def test_verbose_names_device_and_components(self):
        _, messages = self.run_program("generate", "--prompt", "x", *QUICK, "--threads", "1", "--verbose")
        for word in ["cpu", "1 thread", "transformer", "text_encoder", "vae"]:
            self.assertIn(word, messages)

    def test_verbose_shows_what_was_done_at_the_same_time(self):
        _, messages = self.run_program("generate", "--prompt", "x", *QUICK, "--prompt-cache", "off", "--verbose")
        span = r"from [\d.]+ s to [\d.]+ s"
        self.assertRegex(messages, rf"(?m)^encode {span}, then the text encoder is released$")
        self.assertRegex(messages, rf"(?m)^transformer bound {span}(, [\d.]+ s of it beside \w+)*$")
        self.assertRegex(messages, rf"(?m)^weights read ahead {span}, [\d.]+ MiB(, [\d.]+ s of it beside \w+)*$")

    def test_count_numbers_the_pictures_and_counts_the_seeds(self):
        output, _ = self.run_program("generate", "--prompt", "a red star", *QUICK, "--count", "3", "--seed", "5",
                                     "--output", "star.png")
        self.assertEqual(output.split(), ["star-1.png", "star-2.png", "star-3.png"])
        self.assertEqual(self.files(), output.split())
        self.assertEqual([png_metadata(self.folder / name)["seed"] for name in output.split()], [5, 6, 7])
        self.assertEqual(png_pixels(self.draw("alone.png", "--seed", "6")), png_pixels(self.folder / "star-2.png"))

    def test_names_of_its_own_replace_nothing(self):
        for name in ["inkstone-9.png", "inkstone-9-2.png", "inkstone-9-3.png"]:
            output, _ = self.run_program("generate", "--prompt", "x", *QUICK, "--seed", "9")
            self.assertEqual(output, name + "\n")
        self.assertEqual(len(self.files()), 3)

    def test_output_replaces_a_file(self):
        (self.folder / "star.png").write_text("old")
        self.assertEqual(png_size(self.draw("star.png")), (64, 64))
        self.assertEqual(self.files(), ["star.png"])

    def test_seed_is_drawn_printed_and_stored(self):
        seeds = []
        for name in ["a.png", "b.png"]:
            _, messages = self.run_program("generate", "--prompt", "x", *QUICK, "--output", name)
            seeds.append(int(re.search(r"^seed (\d+)$", messages, re.MULTILINE).group(1)))
            self.assertEqual(png_metadata(self.folder / name)["seed"], seeds[-1])
        self.assertNotEqual(*seeds)

    def test_size_in_one_or_two_options(self):
        self.run_program("generate", "--prompt", "x", "--steps", "2", "--width", "96", "--height", "64", "--output", "a.png")
        self.assertEqual(png_size(self.folder / "a.png"), (96, 64))

    def test_empty_value_after_an_equals_sign(self):
        self.run_program("generate", "--prompt", "x", *QUICK, "--negative-prompt=", "--seed=3", "--output=a.png")
        metadata = png_metadata(self.folder / "a.png")
        self.assertEqual((metadata["negative_prompt"], metadata["seed"]), ("", 3))

    def test_options_change_the_picture_and_only_those(self):
        usual = png_pixels(self.draw("a.png", "--seed", "1"))
        same = [["--model", str(MODEL)], ["--vae", str(MODEL / "vae")], ["--threads", "1"], ["--profile"],
                ["--transformer", str(MODEL / "transformer")], ["--text-encoder", str(MODEL / "text_encoder")],
                ["--tokenizer", str(MODEL / "tokenizer")]]
        other = [["--seed", "2"], ["--cfg", "1"], ["--steps", "3"], ["--negative-prompt", "a blue circle"],
                 ["--prompt", "a blue circle"]]
        for options in same:
            self.assertEqual(png_pixels(self.draw("b.png", "--seed", "1", *options)), usual, options)
        for options in other:
            self.assertNotEqual(png_pixels(self.draw("b.png", "--seed", "1", *options)), usual, options)

    def kinds_of_16_bits(self):
        """Those that this processor has."""
        kinds = []
        for kind in ["fp16", "bf16"]:
            command = [PROGRAM, "encode", "--prompt", "x", "--arithmetic", kind, "--output", "kind.safetensors"]
            done = subprocess.run(command, cwd=self.folder, capture_output=True, check=False)
            if done.returncode == 0:
                kinds.append(kind)
            else:
                self.assertIn(b"this processor has no such products", done.stderr)
        return kinds

    def test_half_is_named_first_with_what_it_takes(self):
        _, messages = self.run_program("generate", "--prompt", "a red star", *QUICK, "--arithmetic", "half", "--output", "half.png")
        self.assertRegex(messages.splitlines()[0], r"arithmetic half(: f32, as|.* \((fp16|bf16)\), lossy: the text encoder)")
        kind = re.search(r"half(?:: (f32)| \((fp16|bf16)\))", messages.splitlines()[0])
        self.assertEqual(png_metadata(self.folder / "half.png")["arithmetic"], kind[1] or kind[2])

    def test_half_is_repeated_as_what_it_was(self):
        drawn = self.draw("half.png", "--arithmetic", "half", "--seed", "1")
        kind = png_metadata(drawn)["arithmetic"]
        _, messages = self.run_program("generate", "--like", "half.png", "--output", "again.png")
        self.assertNotIn("half", messages.splitlines()[0])
        self.assertEqual(f"arithmetic {kind}, lossy" in messages.splitlines()[0], kind != "f32")
        self.assertEqual((self.folder / "again.png").read_bytes(), drawn.read_bytes())

    def test_half_names_the_instruction_set_that_lacks_it(self):
        _, messages = self.run_program("generate", "--prompt", "a red star", *QUICK, "--arithmetic", "half", "--isa", "scalar",
                                       "--output", "half.png")
        self.assertEqual(messages.splitlines()[0], "arithmetic half: f32, as the instruction set scalar has no products of 16 bits")

    def test_lossy_weights_are_named_first(self):
        mlx = [f"--{part.replace('_', '-')}={DATA / 'random_mlx' / part}" for part in ["transformer", "text_encoder", "vae"]]
        mlx.append(f"--tokenizer={DATA / 'random_a' / 'tokenizer'}")
        random_a = [f"--model={DATA / 'random_a'}"]
        cases = [([*random_a, "--dtype", "bf16"], "weights, lossy: the transformer's are rounded to bf16, .*"),
                 (mlx, "weights, lossy: the transformer's are stored in int[48].*"),
                 ([*mlx, "--arithmetic", "int8"], "arithmetic int8, lossy: .*; weights, lossy: .*stored in int[48].*")]
        for options, line in cases:
            command = ["generate", "--prompt", "x", "--size", "32x32", "--steps", "2", "--output", "x.png", *options]
            self.assertRegex(self.run_program(*command)[1].splitlines()[0], f"\\A{line}\\Z")
            self.assertEqual(self.run_program(*command, "--quiet")[1], "")
        exact = self.run_program("generate", *random_a, "--prompt", "x", "--size", "32x32", "--steps", "2", "--output", "x.png")[1]
        self.assertNotIn("lossy", exact)

    def test_lossy_arithmetic_is_named_first_and_costs_little(self):
        latents = []
        names = ["f32", *self.kinds_of_16_bits(), "int8", "int8_all"]
        for arithmetic in names:
            _, messages = self.run_program("generate", "--prompt", "a red star", *QUICK, "--seed", "1", "--arithmetic", arithmetic,
                                           "--output", f"{arithmetic}.png", "--save-latents", "latents.safetensors")
            self.assertEqual("lossy" in messages.splitlines()[0], arithmetic != "f32")
            self.assertEqual("text encoder" in messages.splitlines()[0], arithmetic in ["fp16", "bf16", "int8_all"])
            self.assertEqual(png_metadata(self.folder / f"{arithmetic}.png")["arithmetic"], arithmetic)
            latents.append(read_safetensors(self.folder / "latents.safetensors")["latents"][1])
        for other, name in zip(latents[1:], names[1:]):
            difference = sum((a - b) ** 2 for a, b in zip(latents[0], other)) / sum(x * x for x in latents[0])
            self.assertGreater(difference, 0)
            self.assertLess(difference, 0.15 ** 2)
            self.run_program("generate", "--like", f"{name}.png", "--output", "again.png")
            self.assertEqual((self.folder / "again.png").read_bytes(), (self.folder / f"{name}.png").read_bytes())
        self.assertNotEqual(latents[1], latents[2])

    def test_instruction_set_is_chosen_by_option_or_environment(self):
        arguments = ("generate", "--prompt", "x", "--size", "32x32", "--steps", "2", "--verbose")
        self.assertIn("scalar", self.run_program(*arguments, "--isa", "scalar")[1])
        os.environ["INKSTONE_ISA"] = "scalar"
        self.addCleanup(os.environ.pop, "INKSTONE_ISA")
        self.assertIn("scalar", self.run_program(*arguments)[1])
        os.environ["INKSTONE_ISA"] = "mmx"
        self.assertIn("mmx", self.error_of(*arguments, code=2))

    def test_profile_prints_a_table(self):
        _, messages = self.run_program("generate", "--prompt", "x", *QUICK, "--profile")
        for op in ["linear", "attention", "conv2d", "layer_norm_modulate"]:
            self.assertRegex(messages, rf"(?m)^\s*{op}\s.*\d")

    def test_compare_finds_no_difference(self):
        self.run_program("generate", "--prompt", "x", "--size", "32x32", "--steps", "2", "--compare", "reference")

    def test_previews_lie_beside_their_pictures(self):
        self.run_program("generate", "--prompt", "a red circle", *QUICK, "--count", "2", "--output", "star.png",
                         "--preview", "soon.png", "--preview-every", "1")
        self.assertEqual(self.files(), ["soon-1.png", "soon-2.png", "star-1.png", "star-2.png"])
        for name in self.files():
            header = (self.folder / name).read_bytes()[:24]
            self.assertEqual(header[:8], b"\x89PNG\r\n\x1a\n")
            self.assertEqual((int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")), (64, 64))


class LikeTest(ProgramTest):
    ARGUMENTS = ("--seed", "11", "--cfg", "2.5", "--negative-prompt", "blue")

    def like(self, picture, *arguments):
        self.run_program("generate", "--like", picture, "--output", "again.png", *arguments)
        return self.folder / "again.png"

    def test_repeats_a_picture_bit_for_bit(self):
        first = self.draw("first.png", *self.ARGUMENTS)
        self.assertEqual(self.like("first.png").read_bytes(), first.read_bytes())

    def test_reads_every_format(self):
        first = self.draw("first.png", *self.ARGUMENTS)
        for name in ["first.jpg", "first.webp"]:
            self.draw(name, *self.ARGUMENTS)
            self.assertEqual(png_pixels(self.like(name)), png_pixels(first))

    def test_options_beside_it_win(self):
        self.draw("first.png", *self.ARGUMENTS)
        metadata = png_metadata(self.like("first.png", "--seed", "12", "--size", "96x64", "--prompt", "a blue circle"))
        expected = {"seed": 12, "width": 96, "height": 64, "prompt": "a blue circle", "cfg": 2.5, "steps": 2,
                    "negative_prompt": "blue"}
        self.assertEqual({key: metadata[key] for key in expected}, expected)

    def test_one_of_several_is_repeated_alone(self):
        self.run_program("generate", "--prompt", "x", *QUICK, "--count", "2", "--seed", "3", "--output", "a.png")
        self.assertEqual(png_pixels(self.like("a-2.png")), png_pixels(self.folder / "a-2.png"))

    def test_pictures_without_a_story(self):
        (self.folder / "text.png").write_text("no picture")
        self.assertIn("text.png", self.error_of("generate", "--like", "text.png"))
        self.assertIn("nowhere.png", self.error_of("generate", "--like", "nowhere.png"))


class FaultTest(ProgramTest):
    def error(self, *arguments, output="star.png", code=1):
        return self.error_of("generate", "--prompt", "x", *QUICK, "--output", output, *arguments, code=code)

    def test_lossy_arithmetic_is_a_devices_own(self):
        self.assertIn("reference", self.error("--arithmetic", "int8", "--device", "reference", code=2))
        self.assertIn("arithmetic int8_all: the reference", self.error("--arithmetic", "int8_all", "--device", "reference", code=2))
        self.assertIn("arithmetic half: the reference", self.error("--arithmetic", "half", "--device", "reference", code=2))
        for kind in ("fp8", "fp8_all"):
            self.assertIn("cpu has half, int8", self.error("--arithmetic", kind, code=2))
        self.assertIn("compared", self.error("--arithmetic", "int8", "--compare", "reference", code=2))

    def test_unwritable_output_fails_before_the_work(self):
        (self.folder / "folder.png").mkdir()
        for output in ["nowhere/star.png", "folder.png", "/proc/star.png"]:
            for count in ["1", "2"] if output != "folder.png" else ["1"]:
                error = self.error("--verbose", "--count", count, output=output)
                self.assertIn(output.split(".")[0], error)
        _, messages = self.run_program("generate", "--prompt", "x", "--verbose", "--output", "nowhere/star.png", code=1)
        self.assertEqual(len(messages.splitlines()), 1, "no engine was opened")

    def test_names_that_are_too_long_fail_before_the_work(self):
        name = "a" * 300 + ".png"
        for option in ["--output", "--save-latents", "--preview"]:
            _, messages = self.run_program("generate", "--prompt", "x", *QUICK, option, name, code=1)
            self.assertRegex(messages, rf"\Aerror: {name}: cannot write: .*too long\n\Z")
        self.assertEqual(self.files(), [])

    def test_output_beyond_the_limit_of_files_sizes(self):
        bound = 100  # bytes; the picture has more
        done = subprocess.run([PROGRAM, "generate", "--prompt", "x", *QUICK, "--output", "star.png"], cwd=self.folder,
                              capture_output=True, check=False,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bound, bound)))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), r"error: star.png: .*too large\n\Z")
        self.assertEqual(self.files(), [])

    def test_full_standard_output(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "tokenize", "x"], stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), r"\Aerror: standard output: .*space.*\n\Z")

    def test_too_little_memory(self):
        """Whatever the bound: a picture, or one line that says so and no file."""
        def run(mebibytes, *arguments):
            bound = mebibytes << 20
            return subprocess.run([PROGRAM, *arguments], cwd=self.folder, capture_output=True, check=False,
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (bound, bound)))

        if run(1024, "--version").returncode != 0:
            self.skipTest("this build cannot run under a bound (a sanitizer reserves terabytes)")
        codes = set()
        for mebibytes in [1024, 256, 192, 160, 144, 128, 112, 96, 80]:
            done = run(mebibytes, "generate", "--prompt", "x", *QUICK, "--dtype", "f32", "--threads", "1", "--quiet",
                       "--output", "a.png")
            codes.add(done.returncode)
            if done.returncode != 0:
                self.assertEqual((done.returncode, done.stdout, self.files()), (1, b"", []))
                self.assertRegex(done.stderr.decode(), r"\Aerror: .*memory.*\n\Z")
            else:
                (self.folder / "a.png").unlink()
        self.assertEqual(codes, {0, 1})
        done = run(1024, "bench", "block")  # 1.4 GB of weights
        self.assertRegex(done.stderr.decode(), r"\Aerror: .*memory.*\n\Z")

    def test_models_that_are_none(self):
        (self.folder / "empty").mkdir()
        for option in ["--model", "--transformer", "--text-encoder", "--vae", "--tokenizer"]:
            self.assertIn("nowhere", self.error(option, "nowhere"))
            self.assertIn("empty", self.error(option, "empty"))
        for option, kind in [("--transformer", "transformer"), ("--text-encoder", "text_encoder")]:
            self.assertRegex(self.error(option, str(MODEL / "vae")), rf"tiny/vae: holds no {kind}: ")
        (self.folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
        for option in ["--transformer", "--text-encoder", "--vae"]:
            self.assertIn("picture.png: is neither a safetensors nor a GGUF file", self.error(option, "picture.png"))
        for option in ["--lora", "--noise"]:
            self.assertIn("picture.png: is not a safetensors file", self.error(option, "picture.png"))

    def test_components_without_their_configuration(self):
        parts = {"--transformer": "transformer", "--text-encoder": "text_encoder", "--vae": "vae"}
        for option, part in parts.items():  # none comes from the shipped model, which would lend its own
            (self.folder / part).mkdir()
            for file in (MODEL / part).glob("*.safetensors"):
                (self.folder / part / file.name).symlink_to(file)
            others = [text for o, p in parts.items() if o != option for text in (o, str(MODEL / p))]
            self.assertRegex(self.error(option, part, *others, "--tokenizer", str(MODEL / "tokenizer")),
                             rf"{part}/.*(a config\.json is needed|without a config\.json)")

    def test_caches_that_are_files(self):
        (self.folder / "notes").write_text("")
        self.assertRegex(self.error("--prompt-cache", "notes"), r"--prompt-cache notes: is a file; a folder")

    def test_defaults_that_the_model_cannot_do(self):
        (self.folder / "m").mkdir()
        for part in MODEL.iterdir():
            if part.name != "inkstone.json":
                (self.folder / "m" / part.name).symlink_to(part)
        for text, words in [('{"width": 100}', "width and height are 100 and 1328"), ('{"steps": 1}', "steps is 1"),
                            ('{"cfg": 2000}', "cfg is 2000")]:
            (self.folder / "m" / "inkstone.json").write_text(text)
            error = self.error_of("generate", "--model", "m", "--prompt", "x", "--output", "a.png")
            self.assertIn(f"m/inkstone.json: field{'s' if 'and' in words else ''} {words}", error)

    def test_gpus_that_are_not_there(self):
        done = subprocess.run([PROGRAM, "generate", "--prompt", "x", *QUICK, "--output", "a.png", "--device", "cuda"],
                              cwd=self.folder, capture_output=True, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), r"\Aerror: --device cuda: .*; run on cpu, or .*\n\Z")

    def test_values_that_the_model_cannot_do(self):
        self.assertRegex(self.error("--size", "65x64"), r"65.*16")
        self.assertRegex(self.error("--steps", "1"), r"steps 1: at least 2 are needed")
        self.assertIn("UTF-8", self.error("--prompt", b"a\xffb"))
        self.assertIn("UTF-8", self.error("--negative-prompt", b"\xc3"))

    def test_long_prompts_are_never_cut_silently(self):
        long = "A" * 1100  # letters in capitals are spelt one by one
        self.assertRegex(self.error("--prompt", long), r"--prompt: .*1024.*max-sequence-length cuts")
        _, messages = self.run_program("generate", "--prompt", long, *QUICK, "--max-sequence-length", "20")
        self.assertRegex(messages, r"(?m)^note: .*20 tokens")


if __name__ == "__main__":
    unittest.main()
