//! The system calls that the kernel still serves.
//!
//! Any other call fails with `ENOSYS`, as on a kernel that does not have it: then the C library
//! falls back to an older call. So a newer C library works too.

use std::{collections::BTreeMap, env::consts::ARCH};

use anyhow::Context as _;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Calls that are served whatever their arguments are.
const SERVED: &[libc::c_long] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, time and signals.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_membarrier,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // The process and the host.
    libc::SYS_capget,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getuid,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_umask,
    libc::SYS_uname,
    // Files.
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_sendfile,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // Sockets.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // The programs, and sockets of other processes.
    libc::SYS_bpf,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_open,
];

/// Older names of calls, which the C library still uses on this architecture.
#[cfg(target_arch = "x86_64")]
const SERVED_HERE: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_getrlimit,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const SERVED_HERE: &[libc::c_long] = &[];

/// Kinds of sockets. No packet sockets, which see what other processes send.
const FAMILIES: [libc::c_int; 4] = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_UNIX];

/// Requests of ioctl(2): queues of a socket, non-blocking mode, names of interfaces, and whether
/// standard error is a terminal.
const REQUESTS: [u64; 6] =
    [libc::FIONBIO, libc::FIONREAD, libc::SIOCGIFINDEX, libc::SIOCGIFNAME, libc::TCGETS, libc::TIOCOUTQ];

/// Requests of prctl(2): the name of a thread, and names of memory, which the allocator gives.
const PROCESS_REQUESTS: [libc::c_int; 3] = [libc::PR_GET_NAME, libc::PR_SET_NAME, libc::PR_SET_VMA];

/// Lets the kernel refuse all other calls to every thread of the process.
///
/// # Errors
///
/// The kernel has no seccomp filters, or this architecture is not known.
pub(super) fn filter() -> anyhow::Result<()> {
    let program = program()?;
    seccompiler::apply_filter_all_threads(&program).context("the kernel takes no seccomp filter")
}

fn program() -> anyhow::Result<BpfProgram> {
    let mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>> =
        SERVED.iter().chain(SERVED_HERE).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, one_of(FAMILIES.map(|family| family as u64), 0)?);
    rules.insert(libc::SYS_ioctl, one_of(REQUESTS, 1)?);
    rules.insert(libc::SYS_prctl, one_of(PROCESS_REQUESTS.map(|request| request as u64), 0)?);
    // A new thread, and not a new process. clone3(2), whose arguments a filter cannot see, fails
    // as if it were unknown, and the C library calls clone(2).
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    let refusal = SeccompAction::Errno(libc::ENOSYS as u32);
    let filter = SeccompFilter::new(rules, refusal, SeccompAction::Allow, ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// Serves a call whose argument number `argument` is one of `values`.
fn one_of<const N: usize>(values: [u64; N], argument: u8) -> anyhow::Result<Vec<SeccompRule>> {
    values.into_iter().map(|value| rule(argument, SeccompCmpOp::Eq, value)).collect()
}

fn rule(argument: u8, operation: SeccompCmpOp, value: u64) -> anyhow::Result<SeccompRule> {
    Ok(SeccompRule::new(vec![SeccompCondition::new(argument, Dword, operation, value)?])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_that_starts_a_program_or_looks_into_a_process_is_served() {
        let served: Vec<_> = SERVED.iter().chain(SERVED_HERE).copied().collect();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_mount,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_keyctl,
            libc::SYS_io_uring_setup,
            libc::SYS_kill,
            libc::SYS_clone3,
        ] {
            assert!(!served.contains(&call), "{call}");
        }
        program().expect("the filter is sound");
    }
}
