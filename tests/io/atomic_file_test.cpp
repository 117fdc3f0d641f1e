#include "io/atomic_file.h"

#include <csignal>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/files.h"
#include "io/unnamed_file.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class AtomicFileTest : public FolderTest {};

TEST_F(AtomicFileTest, WritesAndReplacesAWholeFile) {
  const std::string large(1'000'000, 'x');
  write_atomically(at("file"), [&](std::ostream& out) { out << "small"; });
  EXPECT_EQ(read(at("file")), "small");
  write_atomically(at("file"), [&](std::ostream& out) { out << large << 'y'; });
  EXPECT_EQ(read(at("file")), large + 'y');
  EXPECT_EQ(files_in_folder(), 1u);
}

TEST_F(AtomicFileTest, FollowsTheUsersUmask) {
  const mode_t before = umask(0027);
  write_atomically(at("file"), [](std::ostream& out) { out << "x"; });
  umask(before);
  EXPECT_EQ(fs::status(at("file")).permissions(), static_cast<fs::perms>(0640));
}

TEST_F(AtomicFileTest, KeepsTheOldFileAndLeavesNothingWhenWritingFails) {
  write("file", "old");
  EXPECT_THROW(write_atomically(at("file"),
                                [](std::ostream& out) {
                                  out << "new";
                                  throw Cancelled();
                                }),
               Cancelled);
  EXPECT_EQ(read(at("file")), "old");
  EXPECT_EQ(files_in_folder(), 1u);
}

/// Whether the file system of the tests' folder has files without a name.
bool has_unnamed_files(const fs::path& folder) {
  const int fd = open_unnamed(folder);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

TEST_F(AtomicFileTest, AProcessThatIsKilledLeavesNothing) {
  if (!has_unnamed_files(at("."))) GTEST_SKIP() << "no files without a name here";
  const auto killed = [](std::ostream& out) {
    out << std::string(1'000'000, 'x') << std::flush;
    std::raise(SIGKILL);
  };
  EXPECT_EXIT(write_atomically(at("file"), killed), ::testing::KilledBySignal(SIGKILL), "");
  EXPECT_EQ(files_in_folder(), 0u);
}

TEST_F(AtomicFileTest, ANameThatAnotherTookIsNotUsed) {
  const std::string taken = fmt::format(".inkstone-{}-0.tmp", getpid());
  write(taken, "another's");
  write_atomically(at("file"), [](std::ostream& out) { out << "x"; });
  EXPECT_EQ(read(at("file")), "x");
  EXPECT_EQ(read(at(taken)), "another's");
}

TEST_F(AtomicFileTest, AStopEndsTheWriting) {
  write("file", "old");
  std::stop_source source;
  const auto write_much = [&](std::ostream& out) {
    out << std::string(1'000'000, 'x');
    EXPECT_TRUE(out);
    source.request_stop();
    out << std::string(1'000'000, 'x');
    EXPECT_FALSE(out);
  };
  EXPECT_THROW(write_atomically(at("file"), write_much, source.get_token()), Cancelled);
  const auto give_up = [](std::ostream& out) {
    if (!out.flush()) fail("cannot go on");  // as encoders do
  };
  EXPECT_THROW(write_atomically(at("file"), give_up, source.get_token()), Cancelled);
  EXPECT_EQ(read(at("file")), "old");
  EXPECT_EQ(files_in_folder(), 1u);
}

TEST_F(AtomicFileTest, TellsTheSystemsReasonWhenTheFileCannotGrow) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{.rlim_cur = 1000, .rlim_max = before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string text;
  try {
    write_atomically(at("file"), [](std::ostream& out) { out << std::string(2000, 'x'); });
  } catch (const Error& e) {
    text = e.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(text, AllOf(HasSubstr("file: cannot write"), HasSubstr("File too large")));
  EXPECT_EQ(files_in_folder(), 0u);
}

TEST_F(AtomicFileTest, RefusesANameThatIsTooLongBeforeAnythingIsWritten) {
  const fs::path file = at(std::string(300, 'a'));
  const std::string wanted = file.string() + ": cannot write: File name too long";
  EXPECT_EQ(error_of([&] { check_can_write(file); }), wanted);
  EXPECT_EQ(error_of([&] { write_atomically(file, [](std::ostream&) { FAIL() << "wrote"; }); }), wanted);
  EXPECT_EQ(files_in_folder(), 0u);
}

TEST_F(AtomicFileTest, RefusesAFolderADeviceAndAMissingFolder) {
  const auto nothing = [](std::ostream&) {};
  EXPECT_THAT(error_of([&] { write_atomically(folder_, nothing); }), HasSubstr("is not a regular file"));
  EXPECT_THAT(error_of([&] { write_atomically("/dev/null", nothing); }), HasSubstr("is not a regular file"));
  EXPECT_THAT(error_of([&] { write_atomically(at("none/file"), nothing); }), HasSubstr("No such file or directory"));
}

}  // namespace
}  // namespace inkstone
