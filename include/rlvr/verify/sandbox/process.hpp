#pragma once
/// Runs one program that nobody trusts, on Linux.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/verify/sandbox/system_calls.hpp>

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <utility>

#include <linux/capability.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#endif

namespace rlvr {

/// What a program in the sandbox may use.
struct sandbox_limits {
  unsigned cpu_seconds = 5;                         ///< of all its threads together; >= 1
  std::chrono::milliseconds wall_time{10'000};      ///< from its start; > 0
  std::size_t memory_bytes = std::size_t{1} << 30;  ///< of address space
  unsigned open_files = 64;                         ///< at once; >= 5
};

/// How a program ended, and what it reported.
struct sandbox_result {
  enum class ending {
    exited,     ///< `code` is its exit status
    signalled,  ///< `code` is the signal: SIGKILL too when the CPU time was spent
    timed_out   ///< the wall time was spent, and it was killed
  };
  ending end = ending::exited;
  int code = 0;
  std::string report;  ///< the first 4096 bytes that it wrote to file descriptor 4
};

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))

namespace detail {

[[noreturn]] inline void sandbox_failed(std::string_view call, int error) {
  throw std::runtime_error(concat("run_sandboxed: ", call, ": ", std::strerror(error)));
}

/// A file descriptor of at least 10 that is closed in new programs, and at the end of its life.
class owned_descriptor {
 public:
  owned_descriptor() = default;
  owned_descriptor(const char* call, int low) {
    if (low < 0) sandbox_failed(call, errno);
    value_ = ::fcntl(low, F_DUPFD_CLOEXEC, 10);
    const int error = errno;
    ::close(low);
    if (value_ < 0) sandbox_failed("fcntl", error);
  }
  owned_descriptor(owned_descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  owned_descriptor& operator=(owned_descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~owned_descriptor() { close(); }
  void close() {
    if (value_ >= 0) ::close(std::exchange(value_, -1));
  }
  int value() const { return value_; }

 private:
  int value_ = -1;
};

/// Whose reading end never waits.
struct owned_pipe {
  owned_descriptor read, write;
  owned_pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) sandbox_failed("pipe2", errno);
    int other = ends[1];
    try {
      read = owned_descriptor("pipe2", ends[0]);
      write = owned_descriptor("pipe2", std::exchange(other, -1));
      if (::fcntl(read.value(), F_SETFL, O_NONBLOCK) != 0) sandbox_failed("fcntl", errno);
    } catch (...) {
      if (other >= 0) ::close(other);
      throw;
    }
  }
};

/// Everything that the child needs between fork and execve, where it may only make system calls.
struct sandbox_plan {
  char* const* arguments;
  char* const* environment;
  const sandbox_limits* limits;
  sock_fprog filter;
  int nothing, input, report, failure;  // file descriptors
  pid_t parent;
};

/// What a failed child tells its parent.
struct sandbox_failure {
  char call[16];
  int error;
};

/// In a Landlock domain, /proc no longer gives the memory, environment and open files of processes outside. Refusing to
/// write files besides is not needed, but a domain must refuse something. Not every kernel has it.
inline void leave_reach_of_caller() noexcept {
#if defined(SYS_landlock_create_ruleset) && defined(SYS_landlock_restrict_self)
  const std::uint64_t refused = 1u << 1;  // LANDLOCK_ACCESS_FS_WRITE_FILE
  const auto rules = static_cast<int>(::syscall(SYS_landlock_create_ruleset, &refused, sizeof refused, 0u));
  if (rules < 0) return;
  ::syscall(SYS_landlock_restrict_self, rules, 0u);
  ::close(rules);
#endif
}

[[noreturn]] inline void become_program(const sandbox_plan& plan) noexcept {
  const auto demand = [&](bool ok, const char* call) {
    if (ok) return;
    sandbox_failure failure{{}, errno};
    for (std::size_t i = 0; i + 1 < sizeof failure.call && call[i]; ++i) failure.call[i] = call[i];
    [[maybe_unused]] const auto written = ::write(plan.failure, &failure, sizeof failure);
    ::_exit(127);
  };
  const auto limit = [&](auto resource, rlim_t most) {
    rlimit both{};  // the caller itself may be held to less
    demand(::getrlimit(resource, &both) == 0, "getrlimit");
    both.rlim_max = std::min(both.rlim_max, most);
    both.rlim_cur = both.rlim_max;
    demand(::setrlimit(resource, &both) == 0, "setrlimit");
  };
  demand(::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && ::getppid() == plan.parent, "prctl");
  demand(::setsid() != -1, "setsid");
  demand(::chdir("/") == 0, "chdir");
  for (int k = 0; k < 3; ++k) demand(::dup2(plan.nothing, k) == k, "dup2");
  demand(::dup2(plan.input, 3) == 3 && ::dup2(plan.report, 4) == 4, "dup2");
  // Whatever else is open is closed with execve.
  if (::syscall(SYS_close_range, 5u, UINT_MAX, 4u /* CLOSE_RANGE_CLOEXEC */) != 0) {
    rlimit files{};
    demand(::getrlimit(RLIMIT_NOFILE, &files) == 0, "getrlimit");
    for (rlim_t k = 5; k < files.rlim_cur; ++k) ::fcntl(static_cast<int>(k), F_SETFD, FD_CLOEXEC);
  }
  limit(RLIMIT_CPU, plan.limits->cpu_seconds);
  limit(RLIMIT_AS, plan.limits->memory_bytes);
  limit(RLIMIT_NOFILE, plan.limits->open_files);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_CORE, 1);  // not 0: that would still pipe a dump to a collector
  // A signal that waits for us must not run a handler of the caller.
  struct sigaction usual {};
  usual.sa_handler = SIG_DFL;
  for (int s = 1; s < NSIG; ++s) ::sigaction(s, &usual, nullptr);
  sigset_t none;
  sigemptyset(&none);
  demand(::sigprocmask(SIG_SETMASK, &none, nullptr) == 0, "sigprocmask");
  demand(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
  // Root's rights go, and with no_new_privs do not come back.
  __user_cap_header_struct version{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct rights[_LINUX_CAPABILITY_U32S_3] = {};
  demand(::syscall(SYS_capset, &version, rights) == 0, "capset");
  leave_reach_of_caller();
  demand(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &plan.filter) == 0, "seccomp");
  ::execve(plan.arguments[0], plan.arguments, plan.environment);
  demand(false, "execve");
  ::_exit(127);
}

/// A child that is waited for, killed if need be.
class child_process {
 public:
  explicit child_process(pid_t id) : id_(id) {}
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;
  ~child_process() {
    if (!waiting_) return;
    ::kill(id_, SIGKILL);
    while (::waitpid(id_, nullptr, 0) < 0 && errno == EINTR) continue;
  }
  /// Whether it has ended; its status is then in `status`.
  bool ended(int options, int& status) {
    const pid_t id = ::waitpid(id_, &status, options);
    if (id < 0 && errno != EINTR) {
      waiting_ = false;
      sandbox_failed("waitpid (is SIGCHLD ignored?)", errno);
    }
    if (id == id_) waiting_ = false;
    return id == id_;
  }

 private:
  pid_t id_;
  bool waiting_ = true;
};

}  // namespace detail

/// Whether this system has what run_sandboxed needs; where not, run_sandboxed throws.
inline constexpr bool has_sandbox = true;

/// Runs a program with `input` on its file descriptor 3, and waits for its end. Linux on x86-64 and aarch64.
///
/// arguments[0] is the path of the program, which is started without a shell; `environment` holds NAME=value. While
/// it runs, the kernel sees to it that the program
///  - spends no more than the limits of CPU time, wall time, memory and open files;
///  - starts no other process (threads it may), and sends no signal;
///  - has no network: it cannot make a socket;
///  - creates, changes and deletes no file, and opens none for writing, devices included;
///  - gains no privilege, has none of root's beyond being the owner of root's files, and ends when the thread that
///    waits for it ends.
/// It inherits neither the caller's environment, nor its open files, terminal or working directory (its own is /); its
/// standard input is empty and its standard output and error are lost. Where the caller is root with a capability, or
/// the kernel has Landlock, it cannot get at the caller's memory, environment and open files by way of /proc either.
///
/// Not guaranteed: the program can read every file that its user can read, make as many threads as fit into its memory,
/// and use a CPU until its time is over; an error of the kernel can break any of this. Run code from unknown sources as
/// a user without rights, in a container.
///
/// Returns how it ended, whatever it did. Throws std::invalid_argument for limits of zero and for texts with zero
/// bytes; std::runtime_error that names the call when the program cannot be started or the kernel lacks one of the
/// protections: it never runs without them. May be called from several threads at once.
inline sandbox_result run_sandboxed(std::span<const std::string> arguments, std::span<const std::string> environment,
                                    std::string_view input, const sandbox_limits& limits = {}) {
  using namespace detail;
  require(!arguments.empty(), "run_sandboxed: arguments is empty");
  const auto texts = [](std::span<const std::string> from, const char* name) {
    std::vector<char*> out;
    for (std::size_t i = 0; i < from.size(); ++i) {
      require(from[i].find('\0') == std::string::npos, "run_sandboxed: ", name, "[", i, "] has a zero byte");
      out.push_back(const_cast<char*>(from[i].c_str()));  // execve does not change them
    }
    out.push_back(nullptr);
    return out;
  };
  const std::vector<char*> argv = texts(arguments, "arguments"), envp = texts(environment, "environment");
  require(limits.cpu_seconds >= 1, "run_sandboxed: cpu_seconds is 0");
  require(limits.wall_time.count() > 0, "run_sandboxed: wall_time is ", limits.wall_time.count(), " ms");
  require(limits.open_files >= 5, "run_sandboxed: open_files is ", limits.open_files, ", less than 5");

  static const std::vector<sock_filter> filter = system_call_filter();
  const owned_descriptor nothing("open /dev/null", ::open("/dev/null", O_RDWR | O_CLOEXEC));
  const owned_descriptor memory("memfd_create", ::memfd_create("input", MFD_CLOEXEC));
  for (std::size_t at = 0; at < input.size();) {
    const ssize_t written = ::pwrite(memory.value(), input.data() + at, input.size() - at, static_cast<off_t>(at));
    if (written < 0 && errno != EINTR) sandbox_failed("write", errno);
    if (written > 0) at += static_cast<std::size_t>(written);
  }
  owned_pipe report, failure;
  const sandbox_plan plan{
      .arguments = argv.data(),
      .environment = envp.data(),
      .limits = &limits,
      .filter = {static_cast<unsigned short>(filter.size()), const_cast<sock_filter*>(filter.data())},
      .nothing = nothing.value(),
      .input = memory.value(),
      .report = report.write.value(),
      .failure = failure.write.value(),
      .parent = ::getpid()};
  // No handler of ours may run in the child before it has become the program.
  sigset_t every, before;
  sigfillset(&every);
  if (const int error = ::pthread_sigmask(SIG_SETMASK, &every, &before)) sandbox_failed("pthread_sigmask", error);
  const pid_t id = ::fork();
  if (id == 0) become_program(plan);
  const int fork_error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (id < 0) sandbox_failed("fork", fork_error);
  child_process child(id);
  report.write.close();
  failure.write.close();

  // The report ends when the program does, unless it closes it before, or another thread of the caller has forked in
  // between and what it forked holds the pipe: so the child is asked as well. Nothing here waits without an end: a
  // program may take back what it wrote to the pipe, and a signal may end poll.
  using clock = std::chrono::steady_clock;
  const clock::time_point deadline =
      clock::now() + std::min<std::chrono::milliseconds>(limits.wall_time, std::chrono::hours(24 * 365));
  constexpr std::size_t most = 4096;
  sandbox_result out;
  const auto read_report = [&] {
    char buffer[most];
    const ssize_t size = ::read(report.read.value(), buffer, sizeof buffer);
    if (size > 0) out.report.append(buffer, std::min(static_cast<std::size_t>(size), most - out.report.size()));
    return size;
  };
  for (bool open = true; clock::now() < deadline;) {
    if (int status = 0; child.ended(WNOHANG, status)) {
      if (sandbox_failure failed{}; ::read(failure.read.value(), &failed, sizeof failed) == sizeof failed)
        sandbox_failed(std::string_view(failed.call) == "execve" ? concat("execve ", arguments[0]) : failed.call,
                       failed.error);
      while (out.report.size() < most && read_report() > 0) continue;
      out.end = WIFSIGNALED(status) ? sandbox_result::ending::signalled : sandbox_result::ending::exited;
      out.code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
      return out;
    }
    if (open) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now()).count();
      pollfd end{report.read.value(), POLLIN, 0};
      constexpr int between_looks = 20;  // ms
      ::poll(&end, 1, left < between_looks ? static_cast<int>(std::max<std::int64_t>(left, 0)) : between_looks);
      open = read_report() != 0;
    } else {
      const timespec pause{0, 500'000};
      ::nanosleep(&pause, nullptr);
    }
  }
  out.end = sandbox_result::ending::timed_out;
  return out;
}

#else

inline constexpr bool has_sandbox = false;

inline sandbox_result run_sandboxed(std::span<const std::string>, std::span<const std::string>, std::string_view,
                                    const sandbox_limits& = {}) {
  throw std::runtime_error("run_sandboxed: there is no sandbox for this system");
}

#endif

}  // namespace rlvr
