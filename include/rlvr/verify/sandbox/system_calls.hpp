#pragma once
/// The system calls that a program in the sandbox may make, as a filter for the Linux kernel.

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

namespace rlvr::detail {

/// A program for the kernel's classic BPF machine that allows what is listed and lets every other system call fail
/// with ENOSYS, as if the kernel had never heard of it.
///
/// A list of what is allowed, not of what is refused: new kernels add ways to open files and sockets. Nothing on it
/// can create, change or delete a file, open a socket, start a process, signal, trace or
/// limit another process, or gain a privilege.
inline std::vector<sock_filter> system_call_filter() {
  constexpr std::uint32_t allowed[] = {
    // memory, threads and time of the process itself
    SYS_brk,
    SYS_mmap,
    SYS_munmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_madvise,
    SYS_mbind,
    SYS_get_mempolicy,
    SYS_futex,
    SYS_set_robust_list,
    SYS_set_tid_address,
    SYS_rseq,
    SYS_membarrier,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    SYS_rt_sigtimedwait,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_getcpu,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_setitimer,
    SYS_getitimer,
    SYS_restart_syscall,
    SYS_exit,
    SYS_exit_group,
    SYS_execve,
    // what it may know
    SYS_getpid,
    SYS_getppid,
    SYS_gettid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getresuid,
    SYS_getresgid,
    SYS_getgroups,
    SYS_getpgid,
    SYS_getsid,
    SYS_getrusage,
    SYS_times,
    SYS_sysinfo,
    SYS_uname,
    SYS_getrandom,
    SYS_getcwd,
    SYS_chdir,
    // reading files, and writing to what is already open
    SYS_read,
    SYS_readv,
    SYS_pread64,
    SYS_preadv,
    SYS_write,
    SYS_writev,
    SYS_lseek,
    SYS_close,
    SYS_close_range,
    SYS_dup,
    SYS_dup3,
    SYS_pipe2,
    SYS_eventfd2,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_ppoll,
    SYS_pselect6,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_statfs,
    SYS_fstatfs,
    SYS_getdents64,
    SYS_readlinkat,
    SYS_faccessat,
    SYS_getsockname,
    SYS_recvfrom,
#if defined(__x86_64__)
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_readlink,
    SYS_poll,
    SYS_select,
    SYS_dup2,
    SYS_pipe,
    SYS_eventfd,
    SYS_epoll_create,
    SYS_epoll_wait,
    SYS_getpgrp,
    SYS_alarm,
    SYS_time,
    SYS_pause,
    SYS_arch_prctl,
#endif
  };
  constexpr auto word = static_cast<std::uint16_t>(BPF_LD | BPF_W | BPF_ABS);
  constexpr auto equal = static_cast<std::uint16_t>(BPF_JMP | BPF_JEQ | BPF_K);
  constexpr auto has_bits = static_cast<std::uint16_t>(BPF_JMP | BPF_JSET | BPF_K);
  constexpr auto finish = static_cast<std::uint16_t>(BPF_RET | BPF_K);
  constexpr std::uint32_t allow = SECCOMP_RET_ALLOW, refuse = SECCOMP_RET_ERRNO | 38 /* ENOSYS */;
#if defined(__x86_64__)
  constexpr std::uint32_t architecture = AUDIT_ARCH_X86_64;
#else
  constexpr std::uint32_t architecture = AUDIT_ARCH_AARCH64;
#endif
  // The halves of an argument; both machines are little-endian.
  constexpr auto argument = [](std::uint32_t k) {
    return static_cast<std::uint32_t>(offsetof(seccomp_data, args)) + 8 * k;
  };

  std::vector<sock_filter> out;
  const auto add = [&](std::uint16_t code, std::uint32_t k, std::uint8_t if_true = 0, std::uint8_t if_false = 0) {
    out.push_back({code, if_true, if_false, k});
  };
  add(word, offsetof(seccomp_data, arch));
  add(equal, architecture, 1, 0);
  add(finish, SECCOMP_RET_KILL_PROCESS);
  add(word, offsetof(seccomp_data, nr));
  for (const std::uint32_t call : allowed) {
    add(equal, call, 0, 1);
    add(finish, allow);
  }

  // Files are opened for reading only: O_RDONLY | O_TRUNC would empty one.
  constexpr std::uint32_t writes = O_ACCMODE | O_CREAT | O_TRUNC;
  const auto open_for_reading = [&](std::uint32_t call, std::uint32_t flags) {
    add(equal, call, 0, 4);
    add(word, argument(flags));
    add(has_bits, writes, 1, 0);
    add(finish, allow);
    add(finish, SECCOMP_RET_ERRNO | 1 /* EPERM */);
  };
  open_for_reading(SYS_openat, 2);
#if defined(__x86_64__)
  open_for_reading(SYS_open, 1);
#endif
  // A new thread, but no new process.
  add(equal, SYS_clone, 0, 4);
  add(word, argument(0));
  add(has_bits, CLONE_THREAD, 0, 1);
  add(finish, allow);
  add(finish, SECCOMP_RET_ERRNO | 1);
  // Limits are read, not set.
  add(equal, SYS_prlimit64, 0, 6);
  add(word, argument(2));
  add(equal, 0, 0, 3);
  add(word, argument(2) + 4);
  add(equal, 0, 0, 1);
  add(finish, allow);
  add(finish, SECCOMP_RET_ERRNO | 1);
  // A pair of sockets in the process, but no other socket.
  const auto one_of = [&](std::uint32_t call, std::uint32_t which, std::initializer_list<std::uint32_t> values) {
    add(equal, call, 0, static_cast<std::uint8_t>(2 + 2 * values.size()));
    add(word, argument(which));
    for (const std::uint32_t value : values) {
      add(equal, value, 0, 1);
      add(finish, allow);
    }
    add(finish, SECCOMP_RET_ERRNO | 1);
  };
  one_of(SYS_socketpair, 0, {AF_UNIX});
  // F_SETOWN and F_SETSIG would send signals to other processes.
  one_of(SYS_fcntl, 1, {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL});
  one_of(SYS_ioctl, 1, {TCGETS, TIOCGWINSZ, FIOCLEX, FIONCLEX, FIONREAD, FIONBIO});
  add(finish, refuse);
  return out;
}

}  // namespace rlvr::detail

#endif
