"""tools/measure_cuda.py: that it still reads what the program prints. A machine's figures are no test."""
import os
import pathlib
import subprocess
import sys
import unittest

from program import ProgramTest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "measure_cuda.py"
PARTS = ["decoder", "cfg", "denoise", "start"]  # that need no other program


class MeasureCudaTest(ProgramTest):
    def test_a_rehearsal_measures_the_program(self):
        build = pathlib.Path(os.environ["INKSTONE_PROGRAM"]).parent
        command = [sys.executable, "-B", SCRIPT, "rehearsal", *PARTS, "--rehearse", "--build", build]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        table = [line for line in output.splitlines() if line.startswith("| ") and line.endswith("` |")]
        steps = [f"a step of a run in {way}" for way in ("bf16", "fp8", "fp8_all")]
        for row in ["decoder, ", "decoder in bands", *steps, "a step with CFG", "denoising", "start of the process"]:
            self.assertTrue(any(line.startswith(f"| {row}") for line in table), f"{row} in {output}")
        self.assertNotIn("not measured", output)


if __name__ == "__main__":
    unittest.main()
