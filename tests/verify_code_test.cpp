/// The verifier of programs and its sandbox, against programs that mean harm.

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#endif

#include <rlvr/verify/decoded.hpp>
#include <rlvr/verify/sandbox/code.hpp>

#include "catch.hpp"

using namespace rlvr;

static_assert(text_verifier<code_verifier>);

namespace {

constexpr verdict right{1, true}, wrong{0, true}, unscored{0, false};

code_options python() {
  code_options options{.interpreter = {"/usr/bin/python3", "-s", "-S", "-B"}};
  options.limits.wall_time = std::chrono::seconds(20);  // of a busy machine
  return options;
}

/// Nothing, with a warning, where there is no Python or no sandbox.
std::optional<code_verifier> verifier(const code_options& options = python()) {
  if (!has_sandbox || !std::filesystem::exists(options.interpreter[0])) {
    WARN("skipped: no sandbox for this system, or no " << options.interpreter[0]);
    return std::nullopt;
  }
  try {
    return code_verifier(options);
  } catch (const std::runtime_error& e) {
    WARN("skipped: " << e.what());
    return std::nullopt;
  }
}

std::string block(std::string_view code) {
  return "Here it is:\n```python\n" + std::string(code) + "\n```\nDone.";
}

constexpr std::string_view square_tests = "assert f(2) == 4\nassert f(-3) == 9\n";

/// Every code is wrong, and is found to be in time; all at once, because most of them only wait.
void all_are_wrong(const code_verifier& v, const std::vector<std::string>& codes) {
  std::vector<verdict> verdicts(codes.size());
  const auto begin = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (std::size_t k = 0; k < codes.size(); ++k)
    threads.emplace_back([&, k] { verdicts[k] = v(block(codes[k]), square_tests); });
  for (std::thread& t : threads) t.join();
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(15));
  for (std::size_t k = 0; k < codes.size(); ++k) {
    INFO(codes[k]);
    CHECK(verdicts[k] == wrong);
  }
}

}  // namespace

TEST_CASE("code_of finds the last block", "[verify][code]") {
  using enum code_source;
  CHECK(code_of("```python\na\n```", last_block) == "a\n");
  CHECK(code_of("```py\na\n```\n```\nb\n```\nend", last_block) == "b\n");
  CHECK(code_of("```python\na\n```\n```bash\nb\n```", last_block) == "a\n");
  CHECK(code_of("```python\na", last_block) == "a");
  CHECK(code_of("```python\na\n```\n```python\nb", last_block) == "b");
  CHECK(code_of("``` python \n\n```", last_block) == "\n");
  for (const char* none : {"", "a", "```", "```python", "```c\na\n```"}) CHECK(!code_of(none, last_block));
  CHECK(code_of("a ```", whole) == "a ```");
}

TEST_CASE("code_verifier: what is right, and what is wrong", "[verify][code]") {
  const auto v = verifier();
  if (!v) return;
  CHECK((*v)(block("def f(x):\n    return x * x"), square_tests) == right);
  CHECK((*v)(block("def f(x):\n    return x + x"), square_tests) == wrong);
  CHECK((*v)(block("def f(x:"), square_tests) == wrong);
  CHECK((*v)("x * x", square_tests) == wrong);
  CHECK((*v)("", square_tests) == wrong);
  // HumanEval: a prompt, code in a block or right behind it, a check function.
  const std::string prompt = "from typing import List\n\ndef total(x: List[int]) -> int:\n    \"\"\"The sum.\"\"\"\n";
  const std::string check = "def check(candidate):\n    assert candidate([1, 2]) == 3\ncheck(total)\n";
  CHECK((*v)(block("def total(x: List[int]) -> int:\n    return sum(x)"), prompt + "<completion>\n" + check) == right);
  code_options options = python();
  options.source = code_source::whole;
  const code_verifier base(options);
  CHECK(base("    return sum(x)\n", prompt + "<completion>\n" + check) == right);
  CHECK(base("    return max(x)\n", prompt + "<completion>\n" + check) == wrong);
  // Modules, threads, unicode, and output that nobody reads.
  CHECK((*v)(block("import math, threading, collections, itertools, random\n"
                   "def f(x):\n    out = []\n    t = threading.Thread(target=lambda: out.append(x * x))\n"
                   "    t.start()\n    t.join()\n    return out[0]"),
             square_tests) == right);
  CHECK((*v)(block("# \xc3\xa9\xe2\x82\xac\nf\xc3\xbc = '\xf0\x9f\x98\x80'\nprint(f\xc3\xbc)"),
             "assert f\xc3\xbc == '\\U0001F600' and len(f\xc3\xbc) == 1") == right);
  CHECK((*v)(block("print('x' * 10**8)\ndef f(x): return x * x"), square_tests) == right);
  CHECK((*v)(block("import sys\ndef f(x): return x * x\nfor i in range(10**5): print(i, file=sys.stderr)"),
             square_tests) == right);
  // The order of sets is the same in every run.
  const std::string order = block("print(1)\norder = list({'a', 'b', 'c', 'd', 'e', 'f', 'g'})\nh = hash('seed')");
  for (int k = 0; k < 3; ++k) CHECK((*v)(order, "import sys\nassert sys.flags.hash_randomization == 0") == right);
}

TEST_CASE("code_verifier: what cannot be judged is unscored", "[verify][code]") {
  const auto v = verifier();
  if (!v) return;
  const std::string good = block("def f(x):\n    return x * x");
  CHECK((*v)(good, "") == unscored);
  CHECK((*v)(good, " \n") == unscored);
  CHECK((*v)(good, "assert f(2 == 4") == unscored);
  CHECK((*v)(good, std::string("assert\0f", 8)) == unscored);
  CHECK((*v)(good, "import os\n<completion>\n") == unscored);
  CHECK(v->judge(good, "assert f(") == code_outcome::tests_invalid);
  CHECK(v->judge(good, square_tests) == code_outcome::passed);
  CHECK(v->judge(good, "assert f(2) == 5") == code_outcome::failed);
}

TEST_CASE("code_verifier: ways to end before the tests do", "[verify][code]") {
  code_options options = python();
  options.limits.cpu_seconds = 1;
  const auto v = verifier(options);
  if (!v) return;
  for (const char* code : {
           "import sys\nsys.exit(0)",
           "raise SystemExit",
           "exit()",
           "import os\nos._exit(0)",
           "import sys\ndef f(x): sys.exit(0)",
           "import os\ndef f(x): os._exit(0)",
           "import os, threading, time\nthreading.Thread(target=lambda: os._exit(0)).start()\ntime.sleep(5)",
           "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x): return 0",
           "import os\nos.execv('/bin/true', ['true'])",
           // Words that are not the word.
           "import os\nos.write(4, b'0' * 32)\nos._exit(0)",
           "import os\nos.write(4, b'passed')\ndef f(x): return x * x",
           "import os\nos.write(4, os.pread(3, 32, 0))\nos._exit(2)",  // the word for tests that do not compile
           "print('0123456789abcdef' * 2)\nraise SystemExit(0)",
           // Asserts cannot be patched away, and the tests are not swallowed.
           "import builtins\nbuiltins.AssertionError = None\ndef f(x): return 0",
           "import sys\nsys.excepthook = lambda *a: None\ndef f(x): return 0",
           "def f(x): return 0\nimport builtins\nbuiltins.exec = lambda *a: None\nbuiltins.compile = lambda *a, **k: "
           "''",
           "'''",
           "if False:\n  x = (",
           "def f(x): return 0\n\"\"\"",
           "def f(x): return 0\nif False: \\",
           "import os\nos.close(3)\nos.close(4)\ndef f(x): return x * x",
           "import ctypes\nctypes.string_at(0)",
           "import sys\nsys.setrecursionlimit(10**9)\ndef g(x): return g(x) + 1\ng(1)",
       }) {
    INFO(code);
    CHECK((*v)(block(code), square_tests) == wrong);
  }
  CHECK((*v)(block(std::string("x = '\0'", 7)), square_tests) == wrong);
  CHECK((*v)(block("\xff\xfe"), square_tests) == wrong);
  // Asserts count although the interpreter would drop them.
  options.interpreter.push_back("-O");
  CHECK(code_verifier(options)(block("def f(x): return 0"), square_tests) == wrong);
}

TEST_CASE("code_verifier: limits", "[verify][code]") {
  code_options options = python();
  options.limits.cpu_seconds = 1;
  options.limits.memory_bytes = std::size_t{256} << 20;
  const auto v = verifier(options);
  if (!v) return;
  all_are_wrong(
      *v, {"while True: pass",
           "import threading\nfor i in range(4): threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()",
           "x = [0] * 10**9", "x = 'x'\nwhile True: x += x",
           "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(1,)).start()",
           "import os\nfiles = [os.dup(1) for i in range(100)]\ndef f(x): return x * x",
           "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (99, 99))\ndef f(x): return x * x"});
  options.limits.wall_time = std::chrono::milliseconds(1500);
  all_are_wrong(code_verifier(options),
                {"import time\ntime.sleep(60)", "import os, time\nos.close(4)\ntime.sleep(60)",
                 "import os\nwhile True: os.write(4, b'x' * 4096)",
                 "import signal, time\nfor s in range(1, 32):\n  try: signal.signal(s, signal.SIG_IGN)\n"
                 "  except (OSError, ValueError): pass\ntime.sleep(60)"});
}

TEST_CASE("code_verifier: files, network and other processes are out of reach", "[verify][code]") {
  const auto v = verifier();
  if (!v) return;
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "rlvr_sandbox_test";
  std::filesystem::create_directories(folder);
  const std::string kept = (folder / "kept").string();
  std::ofstream(kept) << "kept";
  const auto refuses = [&](const std::string& action) {
    INFO(action);
    const std::string code = "import os, socket, signal, subprocess, ctypes, time\nrefused = False\nkept = '" + kept +
                             "'\ntry:\n    " + action + "\nexcept OSError:\n    refused = True\n";
    CHECK((*v)(block(code), "assert refused") == right);
  };
  for (const char* action : {"open(kept, 'w')",
                             "open(kept, 'a')",
                             "open(kept, 'r+')",
                             "open(kept + '2', 'x')",
                             "os.open(kept, os.O_TRUNC)",
                             "os.remove(kept)",
                             "os.rename(kept, kept + '2')",
                             "os.mkdir(kept + '2')",
                             "os.chmod(kept, 0)",
                             "os.symlink(kept, kept + '2')",
                             "os.link(kept, kept + '2')",
                             "os.truncate(kept, 0)",
                             "os.utime(kept)",
                             "open('/dev/null', 'w')",
                             "open('new', 'w')",
                             "os.mkfifo(kept + '2')",
                             "os.memfd_create('x')",
                             "os.write(3, b'x')",
                             "os.setxattr(kept, 'user.x', b'x')",
                             "os.chown(kept, 0, 0)",
                             "socket.socket()",
                             "socket.socket(socket.AF_UNIX)",
                             "socket.create_connection(('127.0.0.1', 80))",
                             "os.fork()",
                             "os.posix_spawn('/bin/true', ['true'], {})",
                             "subprocess.run(['/bin/true'])",
                             "os.kill(os.getppid(), 9)",
                             "os.killpg(0, 9)",
                             "os.kill(-1, 0)",
                             "os.setsid()",
                             "os.setpgid(0, 0)",
                             "os.nice(1)",
                             "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
                             "os.sched_setaffinity(os.getppid(), {0})",
                             "os.chroot('/tmp')",
                             "os.setuid(1)"})
    refuses(action);
  // What has no name in Python: ptrace, io_uring, unshare, mount, bpf, clone3, a signal by way of a descriptor.
  CHECK((*v)(block("import ctypes, fcntl, os\nc = ctypes.CDLL(None, use_errno=True)\n"
                   "def refused(n, *a):\n    return c.syscall(n, *a) == -1 and ctypes.get_errno() == 38\n"
                   "x86 = os.uname().machine == 'x86_64'\n"
                   "all_refused = all(refused(n, 0, 0, 0, 0, 0) for n in\n"
                   "  ([101, 272, 165, 321, 425, 435, 437, 42, 46, 44, 200, 234, 57, 58, 310, 311] if x86 else\n"
                   "   [117, 97, 40, 280, 425, 435, 437, 203, 211, 206, 130, 131, 270, 271]))\n"
                   "def owner():\n    r, w = os.pipe()\n    try: fcntl.fcntl(r, 8, os.getppid())\n"
                   "    except OSError: return False\n    return True\n"),
             "assert all_refused and not owner()") == right);
  // A fork bomb does not even have a first child; reading files and asking for input end as in any program.
  CHECK((*v)(block("import os\nwhile True:\n    os.fork()"), square_tests) == wrong);
  CHECK((*v)(block("try:\n    input()\nexcept EOFError:\n    ended = True"), "assert ended") == right);
  CHECK((*v)(block("text = open('" + kept + "').read()"), "assert text == 'kept'") == right);
  // Nothing of ours is inherited.
  ::setenv("RLVR_SECRET", "secret", 1);
  std::ifstream held(kept);
  CHECK((*v)(block("import os"),
             "assert 'RLVR_SECRET' not in os.environ and os.getcwd() == '/'\n"
             "assert sorted(os.listdir('/proc/self/fd')) == list('012345')") == right);
  ::unsetenv("RLVR_SECRET");
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++files;
  CHECK(files == 1);
  std::string text;
  std::ifstream(kept) >> text;
  CHECK(text == "kept");
  std::filesystem::remove_all(folder);
}

TEST_CASE("code_verifier: a failure of the system is told, and is no wrong answer", "[verify][code]") {
  CHECK_THROWS_AS(code_verifier(code_options{}), std::invalid_argument);
  CHECK_THROWS_WITH(code_verifier({.interpreter = {"python3"}}), Catch::Contains("absolute path"));
  if (!verifier()) return;
  CHECK_THROWS_WITH(code_verifier({.interpreter = {"/no/such/python"}}),
                    Catch::Contains("execve /no/such/python") && Catch::Contains("No such file"));
  CHECK_THROWS_AS(code_verifier({.interpreter = {"/no/such/python"}}), std::runtime_error);
  CHECK_THROWS_WITH(code_verifier({.interpreter = {"/bin/true"}}), Catch::Contains("/bin/true does not run Python 3"));
  code_options tiny = python();
  tiny.limits.memory_bytes = 1 << 20;
  CHECK_THROWS_AS(code_verifier(tiny), std::runtime_error);
  // Children that nobody can wait for: unscored, not wrong.
  const code_verifier v(python());
  const auto old = std::signal(SIGCHLD, SIG_IGN);
  CHECK(v(block("def f(x): return x * x"), square_tests) == unscored);
  CHECK_THROWS_WITH(v.judge(block("def f(x): return x * x"), square_tests), Catch::Contains("SIGCHLD"));
  std::signal(SIGCHLD, old);
  CHECK(v(block("def f(x): return x * x"), square_tests) == right);
}

TEST_CASE("run_sandboxed: endings, reports and bad arguments", "[verify][code]") {
  if (!verifier()) return;
  const std::vector<std::string> none;
  const auto run = [&](const char* code, std::string_view input = "", sandbox_limits limits = {}) {
    const std::vector<std::string> arguments{"/usr/bin/python3", "-s", "-S", "-c", code};
    return run_sandboxed(arguments, none, input, limits);
  };
  using enum sandbox_result::ending;
  CHECK(run("import os; os.write(4, os.read(3, 9))", "abc").report == "abc");
  CHECK(run("raise SystemExit(7)").code == 7);
  CHECK(run("raise SystemExit(7)").end == exited);
  const sandbox_result spent = run("while True: pass", "", {.cpu_seconds = 1});
  CHECK((spent.end == signalled && spent.code == SIGKILL));
  CHECK(run("import time; time.sleep(9)", "", {.wall_time = std::chrono::milliseconds(300)}).end == timed_out);
  CHECK(run("", "", {.wall_time = std::chrono::milliseconds::max()}).end == exited);
  CHECK(run("import os\nfor i in range(99): os.write(4, b'x' * 1024)").report.size() == 4096);
  const std::string megabytes(std::size_t{5} << 20, 'x');
  CHECK(run("import os\nn = 0\nwhile (k := len(os.read(3, 1 << 20))): n += k\nos.write(4, str(n).encode())", megabytes)
            .report == std::to_string(megabytes.size()));
  CHECK_THROWS_WITH(run_sandboxed(none, none, ""), "run_sandboxed: arguments is empty");
  const std::vector<std::string> zero{std::string("a\0b", 3)};
  CHECK_THROWS_WITH(run_sandboxed(zero, none, ""), "run_sandboxed: arguments[0] has a zero byte");
  CHECK_THROWS_WITH(run("", "", {.cpu_seconds = 0}), "run_sandboxed: cpu_seconds is 0");
  CHECK_THROWS_WITH(run("", "", {.wall_time = std::chrono::milliseconds(0)}), "run_sandboxed: wall_time is 0 ms");
  CHECK_THROWS_WITH(run("", "", {.open_files = 4}), "run_sandboxed: open_files is 4, less than 5");
}

#if defined(__linux__)
namespace {

void (*in_forked_child)() = nullptr;

/// What a thread of the caller may do in between: fork a process that goes on without execve.
void hold_everything_open() {
  if (::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) != 0) return;
  for (int k = 0; k < 3; ++k) ::close(k);
  const timespec pause{12, 0};
  ::nanosleep(&pause, nullptr);
  ::_exit(0);
}

}  // namespace

TEST_CASE("run_sandboxed keeps the time whatever the caller does with signals and processes", "[verify][code]") {
  if (!verifier()) return;
  const std::vector<std::string> none;
  const auto run = [&](const char* code, std::chrono::milliseconds wall) {
    const std::vector<std::string> arguments{"/usr/bin/python3", "-s", "-S", "-c", code};
    return run_sandboxed(arguments, none, "", {.wall_time = wall});
  };
  using enum sandbox_result::ending;
  const auto begin = std::chrono::steady_clock::now();
  const auto within = [&](int seconds) {
    return std::chrono::steady_clock::now() - begin < std::chrono::seconds(seconds);
  };
  static const bool registered = ::pthread_atfork(nullptr, nullptr, [] {
    if (in_forked_child) in_forked_child();
  }) == 0;
  REQUIRE(registered);

  SECTION("a timer of the caller") {
    struct sigaction tick {}, before {};
    tick.sa_handler = [](int) {};
    tick.sa_flags = SA_RESTART;
    ::sigaction(SIGALRM, &tick, &before);
    const itimerval often{{0, 50'000}, {0, 50'000}}, never{};
    ::setitimer(ITIMER_REAL, &often, nullptr);
    CHECK(run("import time; time.sleep(20)", std::chrono::milliseconds(500)).end == timed_out);
    ::setitimer(ITIMER_REAL, &never, nullptr);
    ::sigaction(SIGALRM, &before, nullptr);
    CHECK(within(10));
  }
  SECTION("a process that holds the pipes") {
    in_forked_child = hold_everything_open;
    const sandbox_result out = run("import os; os.write(4, b'x')", std::chrono::seconds(20));
    in_forked_child = nullptr;
    CHECK((out.end == exited && out.code == 0 && out.report == "x"));
    in_forked_child = hold_everything_open;
    CHECK(run("import time; time.sleep(20)", std::chrono::milliseconds(500)).end == timed_out);
    in_forked_child = nullptr;
    CHECK(within(10));
  }
  SECTION("a program that takes back what it reports") {
    CHECK(run("import os, time\nr = os.open('/proc/self/fd/4', os.O_RDONLY | os.O_NONBLOCK)\n"
              "begin = time.time()\n"
              "while time.time() < begin + 0.5:\n  os.write(4, b'x')\n  try: os.read(r, 1)\n  except OSError: pass\n"
              "time.sleep(20)",
              std::chrono::seconds(1))
              .end == timed_out);
    CHECK(within(10));
  }
  SECTION("a signal between fork and execve") {
    static int seen[2];
    REQUIRE(::pipe(seen) == 0);
    struct sigaction note {}, before {};
    note.sa_handler = [](int) { [[maybe_unused]] const auto written = ::write(seen[1], "x", 1); };
    ::sigaction(SIGUSR1, &note, &before);
    in_forked_child = [] { ::raise(SIGUSR1); };  // blocked there
    const sandbox_result out = run("pass", std::chrono::seconds(20));
    in_forked_child = nullptr;
    ::sigaction(SIGUSR1, &before, nullptr);
    CHECK((out.end == signalled && out.code == SIGUSR1));
    ::close(seen[1]);
    char byte;
    CHECK(::read(seen[0], &byte, 1) == 0);  // no handler of ours has run
    ::close(seen[0]);
  }
}

TEST_CASE("run_sandboxed: a caller without rights, itself held to less", "[verify][code]") {
  if (!verifier()) return;
  const pid_t id = ::fork();
  if (id == 0) {
    const rlimit less{100u << 20, 100u << 20}, no_dump{0, 0}, few{20, 20};
    bool ok = ::setrlimit(RLIMIT_AS, &less) == 0 && ::setrlimit(RLIMIT_CORE, &no_dump) == 0 &&
              ::setrlimit(RLIMIT_NOFILE, &few) == 0 && (::getuid() != 0 || ::setuid(65534) == 0);
    try {
      const std::vector<std::string> none, arguments{"/bin/sh", "-c", "ulimit -n >&4; ulimit -v >&4"};
      ok = ok && run_sandboxed(arguments, none, "").report == "20\n102400\n";
    } catch (...) {
      ok = false;
    }
    ::_exit(ok ? 0 : 1);
  }
  int status = 1;
  REQUIRE(::waitpid(id, &status, 0) == id);
  CHECK(status == 0);
}

TEST_CASE("code_verifier: the caller's memory, environment and files are out of reach", "[verify][code]") {
  const auto v = verifier();
  if (!v) return;
  if (::geteuid() != 0 && ::syscall(444 /* landlock_create_ruleset: its version */, nullptr, 0, 1u) < 1) {
    WARN("skipped: not root, and a kernel without Landlock");
    return;
  }
  CHECK((*v)(block("import os\n"
                   "def refused(name):\n"
                   "    try: open(f'/proc/{os.getppid()}/{name}', 'rb').read(1)\n"
                   "    except PermissionError: return True\n"
                   "    return False\n"
                   "rights = [l for l in open('/proc/self/status') if l.startswith(('CapEff', 'CapPrm'))]\n"),
             "assert refused('environ') and refused('mem') and refused('maps') and refused('fd/1')\n"
             "assert len(rights) == 2 and all(int(l.split()[1], 16) == 0 for l in rights)") == right);
}
#endif

TEST_CASE("code_verifier in several threads at once, by name, and of rollouts", "[verify][code]") {
  const auto v = verifier();
  if (!v) return;
  std::vector<std::thread> threads;
  std::vector<int> agreed(4, 0);
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int k = 0; k < 6; ++k) {
        const bool good = (static_cast<int>(t) + k) % 2 == 0;
        const verdict judged = (*v)(block(good ? "def f(x): return x * x" : "def f(x): return x"), square_tests);
        agreed[t] += judged == (good ? right : wrong);
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(agreed == std::vector<int>(4, 6));

  const auto judge = [&](const auto& by_name) { return by_name(block("def f(x): return x * x"), square_tests); };
  CHECK(with_verifier("python_asserts", python(), judge) == right);
  CHECK(with_verifier("exact", python(), judge) == wrong);
  CHECK_THROWS_AS(with_verifier("python_asserts", judge), std::invalid_argument);

  const auto decode = [](std::span<const token> completion) {
    return block(std::string(completion.begin(), completion.end()));
  };
  const decoded_verifier rollouts(*v, decode, {"assert x == 7"});
  const std::string code = "x = 7";
  CHECK(rollouts(0, std::vector<token>(code.begin(), code.end())) == right);
}
