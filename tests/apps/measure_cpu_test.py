"""tools/measure_cpu.py: that it still reads what the program prints. A machine's figures are no test."""
import os
import pathlib
import subprocess
import sys
import unittest

from program import ProgramTest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "measure_cpu.py"


class MeasureCpuTest(ProgramTest):
    def test_a_rehearsal_measures_the_program(self):
        command = [sys.executable, "-B", SCRIPT, os.environ["INKSTONE_PROGRAM"], "--rehearse"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.assertIn(" threads, ", output.splitlines()[0])
        for program in ["bench", "generate"]:
            rows = [line for line in output.splitlines() if line.startswith(f"| `{program} ")]
            self.assertTrue(rows)
            for row in rows:
                self.assertNotIn("not measured", row)
                self.assertRegex(row, r"\d s ")
        for title in ["Attention", "Rounding weights"]:  # programs that few builds have
            self.assertIn(title, output)


if __name__ == "__main__":
    unittest.main()
