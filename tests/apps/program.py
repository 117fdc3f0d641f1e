"""What the tests of the command-line program share: running it, and reading the files that it writes."""
import json
import math
import os
import signal
import struct
import subprocess
import tempfile
import unittest
import zlib
from pathlib import Path

PROGRAM = os.environ["INKSTONE_PROGRAM"]
MODEL = Path(os.environ["INKSTONE_MODELS"]) / "tiny"
PATIENCE = 240  # seconds until a hanging program is a failure; sanitized builds on a busy machine are slow

# Small and quick; the pictures are no beauties, but every part of the program has worked for them.
QUICK = ("--size", "64x64", "--steps", "2")

# Tests leave nothing in the user's cache, and take nothing from it.
CACHE = tempfile.TemporaryDirectory(prefix="inkstone-test-cache-")
os.environ["XDG_CACHE_HOME"] = CACHE.name

# A shell that runs tests in the background ignores SIGINT, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


class ProgramTest(unittest.TestCase):
    """Each test runs in an empty folder of its own."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="inkstone-test-")
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def run_program(self, *arguments, code=0):
        """Runs the program, checks its exit code, and gives (standard output, standard error) as text."""
        done = subprocess.run([PROGRAM, *arguments], cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=PATIENCE, check=False)
        output, messages = done.stdout.decode(), done.stderr.decode()
        self.assertEqual(done.returncode, code, f"{arguments}: {output}{messages}")
        return output, messages

    def error_of(self, *arguments, code=1):
        """The one line that the program says when it fails; it must leave no file behind."""
        before = self.files()
        output, messages = self.run_program(*arguments, code=code)
        self.assertEqual(output, "")
        self.assertRegex(messages, r"\Aerror: .*\n\Z", "one line")
        self.assertEqual(self.files(), before)
        return messages.rstrip("\n")

    def peak_of(self, *arguments):
        """The most resident memory of a run, as the kernel counts it: mapped files included."""
        process = subprocess.Popen([PROGRAM, *arguments], cwd=self.folder, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        return usage.ru_maxrss * 1024

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())

    def draw(self, name, *arguments, prompt="a red star"):
        """A quick picture; gives its path."""
        self.run_program("generate", "--prompt", prompt, *QUICK, "--output", name, *arguments)
        return self.folder / name


def png_chunks(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", path
    at = 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        yield kind, data[at + 8:at + 8 + length]
        at += 12 + length


def png_size(path):
    header = dict(png_chunks(path))[b"IHDR"]
    return struct.unpack(">II", header[:8])


def png_pixels(path):
    """The filtered rows of the picture: equal for equal pixels, as the program always filters alike."""
    return zlib.decompress(b"".join(data for kind, data in png_chunks(path) if kind == b"IDAT"))


def png_metadata(path):
    """The JSON in the iTXt chunk with the keyword "inkstone" (PNG specification 11.3.4.5)."""
    for kind, data in png_chunks(path):
        keyword, _, rest = data.partition(b"\0")
        if kind == b"iTXt" and keyword == b"inkstone":
            compressed, rest = rest[0], rest[2:]
            text = rest.split(b"\0", 2)[2]
            return json.loads(zlib.decompress(text) if compressed else text)
    raise AssertionError(f"{path}: no metadata")


def read_safetensors(path):
    """{name: (shape, list of floats)} of a file of F32 tensors."""
    data = Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", (path, name, entry)
        begin, end = entry["data_offsets"]
        numbers = struct.unpack(f"<{(end - begin) // 4}f", data[8 + length + begin:8 + length + end])
        tensors[name] = (entry["shape"], list(numbers))
    return tensors


def write_safetensors(path, name, shape, numbers):
    data = struct.pack(f"<{len(numbers)}f", *numbers)
    header = json.dumps({name: {"dtype": "F32", "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    Path(path).write_bytes(struct.pack("<Q", len(header)) + header + data)


def write_zeros(path, shapes):
    """A safetensors file of BF16 zeros, with a hole in their place."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, path.stat().st_size + end)


def config_of(component):
    return json.loads((MODEL / component / "config.json").read_text())


def latent_shape(width, height, count=1):
    """Of the noise and the latents of pictures by the model that the tests run."""
    vae = config_of("vae")
    scale = 2 ** len(vae["temperal_downsample"])
    return [count, vae["z_dim"], height // scale, width // scale]
