"""What happens on a terminal: the progress line, and Ctrl-C."""
import os
import pty
import select
import signal
import time
import unittest

from program import PATIENCE, PROGRAM, QUICK, ProgramTest

CTRL_C = b"\x03"
ENDLESS = ("--size", "256x256", "--steps", "1000")  # stopped long before its end
HUGE = ("--size", "4096x4096", "--steps", "2")  # an op takes many seconds, on the reference device hours


def encode_slowly(words):
    return ["encode", "--prompt", "1 " * words, "--output", "e", "--device", "reference"]


class Terminal:
    """The program on a pseudo-terminal of its own."""

    def __init__(self, folder, *arguments, term="xterm"):
        self.output = b""
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.execve(PROGRAM, [PROGRAM, *arguments], {**os.environ, "TERM": term})
        self.deadline = time.monotonic() + PATIENCE

    def read_until(self, text):
        while text not in self.output:
            if not self.read_more():
                raise AssertionError(f"ended without {text}: {self.output}")

    def read_more(self):
        """False at the end of the output."""
        if not select.select([self.terminal], [], [], max(self.deadline - time.monotonic(), 0))[0]:
            os.kill(self.process, signal.SIGKILL)
            raise AssertionError(f"hangs after {self.output}")
        try:
            data = os.read(self.terminal, 65536)
        except OSError:  # how Linux tells that the other side is closed
            data = b""
        self.output += data
        return bool(data)

    def press(self, key):
        os.write(self.terminal, key)

    def end(self):
        """Reads to the end; gives the exit code, negative for a signal."""
        while self.read_more():
            pass
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def has_terminals():
    try:
        for end in os.openpty():
            os.close(end)
    except OSError:
        return False
    return True


@unittest.skipUnless(has_terminals(), "this machine gives no pseudo-terminals (is /dev/pts mounted?)")
class TerminalTest(ProgramTest):
    def start(self, *arguments, **options):
        return Terminal(self.folder, "generate", "--prompt", "x", "--output", "a.png", *arguments, **options)

    def test_progress_is_redrawn_in_place_and_wiped_at_the_end(self):
        start = time.monotonic()
        run = self.start("--size", "256x256", "--steps", "20")
        self.assertEqual(run.end(), 0)
        seconds = time.monotonic() - start
        self.assertRegex(run.output, rb"\r\x1b\[Kdenoise *\[#*\.*\] \d+/20  [\d.]+ s a step  \d+:\d\d left  [\d.]+ MiB")
        before, _, after = run.output.rpartition(b"\r\x1b[K")
        self.assertIn(b"[", before)
        self.assertIn(b"total", after)
        self.assertNotIn(b"[#", after)
        self.assertLessEqual(run.output.count(b"\x1b[K"), 10 * seconds + 2)

    def test_no_progress_when_quiet_or_on_a_terminal_that_cannot(self):
        for arguments, options in [(["--quiet"], {}), ([], {"term": "dumb"})]:
            run = self.start(*QUICK, *arguments, **options)
            self.assertEqual(run.end(), 0)
            self.assertNotIn(b"\x1b", run.output)
        self.assertEqual(self.files(), ["a.png"])

    def test_ctrl_c_stops_within_a_step_and_leaves_nothing(self):
        run = self.start(*ENDLESS, "--save-latents", "l")
        run.read_until(b"denoise")
        run.press(CTRL_C)
        self.assertEqual(run.end(), 130)
        self.assertTrue(run.output.endswith(b"interrupted, nothing was written\r\n"), run.output)
        self.assertEqual(self.files(), [])

    def test_progress_of_the_other_long_commands(self):
        for arguments, line in [(encode_slowly(120), rb"encode *\[#*\.*\] \d/4 "),
                                (["bench", "vae", "--size", "64"], rb"decode *\[#*\.*\] \d+/\d+ ")]:
            run = Terminal(self.folder, *arguments)
            self.assertEqual(run.end(), 0)
            self.assertRegex(run.output, rb"\r\x1b\[K" + line)

    def test_ctrl_c_stops_the_other_long_commands(self):
        # Full-size weights take seconds to make, and a block of them minutes on the reference device.
        for arguments, stage in [(encode_slowly(480), b"encode"),
                                 (["bench", "block", "--device", "reference"], b"load"),
                                 (["bench", "vae", "--size", "128"], b"decode"),
                                 (["random-model", "--format", "int4", "--output", "m"], b"write")]:
            run = Terminal(self.folder, *arguments)
            run.read_until(stage)
            run.press(CTRL_C)
            self.assertEqual(run.end(), 130)
            self.assertTrue(run.output.endswith(b"interrupted, nothing was written\r\n"), run.output)
            self.assertEqual(self.files(), [])

    def test_ctrl_c_stops_in_the_middle_of_an_op(self):
        run = self.start(*HUGE)
        run.read_until(b"denoise")
        run.press(CTRL_C)
        self.assertEqual(run.end(), 130)
        self.assertTrue(run.output.endswith(b"interrupted, nothing was written\r\n"), run.output)
        self.assertEqual(self.files(), [])

    def test_ctrl_c_twice_ends_at_once(self):
        run = self.start(*HUGE, "--device", "reference")
        run.read_until(b"denoise")
        run.press(CTRL_C)
        time.sleep(0.5)
        run.press(CTRL_C)
        self.assertEqual(run.end(), 130)
        self.assertEqual(self.files(), [])

    def test_signals_that_come_together_are_one_request(self):
        run = self.start(*HUGE)
        run.read_until(b"denoise")
        for number in (signal.SIGTERM, signal.SIGHUP):
            os.kill(run.process, number)
        self.assertIn(run.end(), (128 + signal.SIGTERM, 128 + signal.SIGHUP))
        self.assertTrue(run.output.endswith(b"interrupted, nothing was written\r\n"), run.output)

    def test_terminate_is_obeyed_too(self):
        run = self.start(*ENDLESS)
        run.read_until(b"denoise")
        os.kill(run.process, signal.SIGTERM)
        self.assertEqual(run.end(), 128 + signal.SIGTERM)
        self.assertEqual(self.files(), [])


if __name__ == "__main__":
    unittest.main()
