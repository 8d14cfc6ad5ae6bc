//! A process with few capabilities and few system calls, as in a container with a seccomp profile.
#![expect(unsafe_code, reason = "what a process may do is set between fork and exec")]

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Numbers of capabilities (`linux/capability.h`).
pub const NET_ADMIN: libc::c_ulong = 12;
/// The same.
pub const PERFMON: libc::c_ulong = 38;
/// The same.
pub const BPF: libc::c_ulong = 39;
/// No kernel has so many.
const CAPABILITIES: libc::c_ulong = 64;
/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K` (`linux/bpf_common.h`).
const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// What a process may do. A system call beyond it ends the process, so that none goes unnoticed.
#[derive(Clone)]
pub struct Confinement {
    capabilities: Vec<libc::c_ulong>,
    filter: Vec<libc::sock_filter>,
}

impl fmt::Debug for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confinement").field("capabilities", &self.capabilities).finish_non_exhaustive()
    }
}

impl Confinement {
    /// These capabilities, and the system calls of a profile as container runtimes read it.
    pub fn new(capabilities: &[libc::c_ulong], profile: &Path) -> Result<Self> {
        let text = fs::read_to_string(profile).with_context(|| format!("cannot read {}", profile.display()))?;
        let profile: Value = serde_json::from_str(&text).context("a profile is JSON")?;
        let rules = profile["syscalls"].as_array().context("a profile has system calls")?;
        ensure!(rules.iter().all(|rule| rule["action"] == "SCMP_ACT_ALLOW"), "only what is allowed is listed");
        let names = rules.iter().filter_map(|rule| rule["names"].as_array()).flatten().filter_map(Value::as_str);
        let instruction = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
        // The number is the first word of `struct seccomp_data`.
        let mut filter = vec![instruction(LOAD, 0, 0)];
        for name in names {
            let number = SYSTEM_CALLS.iter().find(|(known, _)| *known == name);
            let (_, number) = number.with_context(|| format!("the number of {name} is not listed here"))?;
            let number = u32::try_from(*number).context("numbers are small")?;
            filter.extend([instruction(IF_EQUAL, 1, number), instruction(RETURN, 0, libc::SECCOMP_RET_ALLOW)]);
        }
        filter.push(instruction(RETURN, 0, libc::SECCOMP_RET_KILL_PROCESS));
        Ok(Self { capabilities: capabilities.to_vec(), filter })
    }

    /// Has the command do no more than this.
    pub fn confine(&self, command: &mut Command) {
        let own = self.clone();
        // SAFETY: what runs between fork and exec makes system calls and neither allocates nor locks.
        unsafe { command.pre_exec(move || own.apply()) };
    }

    fn apply(&self) -> io::Result<()> {
        for capability in (0..CAPABILITIES).filter(|capability| !self.capabilities.contains(capability)) {
            // SAFETY: no pointers. A number that the kernel does not know is refused, and nothing is lost.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        let program = libc::sock_fprog {
            len: u16::try_from(self.filter.len()).unwrap_or(u16::MAX),
            filter: self.filter.as_ptr().cast_mut(),
        };
        // SAFETY: no pointers.
        let no_more = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        if no_more != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the program and its instructions live during the call, which only reads them.
        let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        if filtered == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Numbers of the system calls that profiles name.
const SYSTEM_CALLS: &[(&str, libc::c_long)] = &[
    ("accept4", libc::SYS_accept4),
    ("access", libc::SYS_access),
    ("arch_prctl", libc::SYS_arch_prctl),
    ("bind", libc::SYS_bind),
    ("bpf", libc::SYS_bpf),
    ("brk", libc::SYS_brk),
    ("capget", libc::SYS_capget),
    ("clock_gettime", libc::SYS_clock_gettime),
    ("clock_nanosleep", libc::SYS_clock_nanosleep),
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("close", libc::SYS_close),
    ("close_range", libc::SYS_close_range),
    ("connect", libc::SYS_connect),
    ("dup", libc::SYS_dup),
    ("epoll_create1", libc::SYS_epoll_create1),
    ("epoll_ctl", libc::SYS_epoll_ctl),
    ("epoll_pwait", libc::SYS_epoll_pwait),
    ("epoll_pwait2", libc::SYS_epoll_pwait2),
    ("epoll_wait", libc::SYS_epoll_wait),
    ("eventfd2", libc::SYS_eventfd2),
    ("execve", libc::SYS_execve),
    ("exit", libc::SYS_exit),
    ("exit_group", libc::SYS_exit_group),
    ("faccessat", libc::SYS_faccessat),
    ("faccessat2", libc::SYS_faccessat2),
    ("fcntl", libc::SYS_fcntl),
    ("flock", libc::SYS_flock),
    ("fstat", libc::SYS_fstat),
    ("fstatfs", libc::SYS_fstatfs),
    ("ftruncate", libc::SYS_ftruncate),
    ("futex", libc::SYS_futex),
    ("getcwd", libc::SYS_getcwd),
    ("getdents64", libc::SYS_getdents64),
    ("getegid", libc::SYS_getegid),
    ("geteuid", libc::SYS_geteuid),
    ("getgid", libc::SYS_getgid),
    ("getpeername", libc::SYS_getpeername),
    ("getpid", libc::SYS_getpid),
    ("getrandom", libc::SYS_getrandom),
    ("getrlimit", libc::SYS_getrlimit),
    ("getsockname", libc::SYS_getsockname),
    ("getsockopt", libc::SYS_getsockopt),
    ("gettid", libc::SYS_gettid),
    ("getuid", libc::SYS_getuid),
    ("inotify_add_watch", libc::SYS_inotify_add_watch),
    ("inotify_init1", libc::SYS_inotify_init1),
    ("inotify_rm_watch", libc::SYS_inotify_rm_watch),
    ("ioctl", libc::SYS_ioctl),
    ("listen", libc::SYS_listen),
    ("lseek", libc::SYS_lseek),
    ("lstat", libc::SYS_lstat),
    ("madvise", libc::SYS_madvise),
    ("membarrier", libc::SYS_membarrier),
    ("mkdir", libc::SYS_mkdir),
    ("mkdirat", libc::SYS_mkdirat),
    ("mmap", libc::SYS_mmap),
    ("mprotect", libc::SYS_mprotect),
    ("mremap", libc::SYS_mremap),
    ("munmap", libc::SYS_munmap),
    ("nanosleep", libc::SYS_nanosleep),
    ("newfstatat", libc::SYS_newfstatat),
    ("open", libc::SYS_open),
    ("openat", libc::SYS_openat),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pipe2", libc::SYS_pipe2),
    ("poll", libc::SYS_poll),
    ("ppoll", libc::SYS_ppoll),
    ("prctl", libc::SYS_prctl),
    ("pread64", libc::SYS_pread64),
    ("prlimit64", libc::SYS_prlimit64),
    ("pwrite64", libc::SYS_pwrite64),
    ("read", libc::SYS_read),
    ("readlink", libc::SYS_readlink),
    ("readlinkat", libc::SYS_readlinkat),
    ("readv", libc::SYS_readv),
    ("recvfrom", libc::SYS_recvfrom),
    ("recvmsg", libc::SYS_recvmsg),
    ("rename", libc::SYS_rename),
    ("renameat", libc::SYS_renameat),
    ("renameat2", libc::SYS_renameat2),
    ("restart_syscall", libc::SYS_restart_syscall),
    ("rmdir", libc::SYS_rmdir),
    ("rseq", libc::SYS_rseq),
    ("rt_sigaction", libc::SYS_rt_sigaction),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    ("rt_sigreturn", libc::SYS_rt_sigreturn),
    ("sched_getaffinity", libc::SYS_sched_getaffinity),
    ("sched_setaffinity", libc::SYS_sched_setaffinity),
    ("sched_yield", libc::SYS_sched_yield),
    ("sendmmsg", libc::SYS_sendmmsg),
    ("sendmsg", libc::SYS_sendmsg),
    ("sendto", libc::SYS_sendto),
    ("set_robust_list", libc::SYS_set_robust_list),
    ("set_tid_address", libc::SYS_set_tid_address),
    ("setns", libc::SYS_setns),
    ("setrlimit", libc::SYS_setrlimit),
    ("setsockopt", libc::SYS_setsockopt),
    ("shutdown", libc::SYS_shutdown),
    ("sigaltstack", libc::SYS_sigaltstack),
    ("socket", libc::SYS_socket),
    ("socketpair", libc::SYS_socketpair),
    ("stat", libc::SYS_stat),
    ("statfs", libc::SYS_statfs),
    ("statx", libc::SYS_statx),
    ("sysinfo", libc::SYS_sysinfo),
    ("tgkill", libc::SYS_tgkill),
    ("uname", libc::SYS_uname),
    ("unlink", libc::SYS_unlink),
    ("unlinkat", libc::SYS_unlinkat),
    ("wait4", libc::SYS_wait4),
    ("write", libc::SYS_write),
    ("writev", libc::SYS_writev),
];
