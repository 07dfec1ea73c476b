//! What an intruder would try, on demand and only in builds with debug assertions. A test sees that
//! the kernel refuses it.

use std::{fs::File, io};

/// Tries what the word names, on the calling thread. Returns what came of it: `done`, or the error.
///
/// The words are `execve`, `ptrace`, `passwords`, `packets`, `process` and `module`.
pub(crate) fn attempt(what: &str) -> String {
    let result = match what {
        "execve" => {
            let arguments = [c"true".as_ptr(), std::ptr::null()];
            // SAFETY: the strings live through the call. A success ends this program.
            checked(unsafe { libc::execv(c"/bin/true".as_ptr(), arguments.as_ptr()) }.into())
        }
        // SAFETY: this request reads and writes no memory.
        "ptrace" => checked(unsafe { libc::ptrace(libc::PTRACE_ATTACH, 1, 0, 0) }),
        "passwords" => File::open("/etc/shadow").map(drop),
        // SAFETY: integers only. A success leaks a descriptor of a build that serves tests.
        "packets" => checked(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) }.into()),
        // SAFETY: the new process would run nothing before it ends.
        "process" => checked(unsafe {
            let process = libc::fork();
            if process == 0 {
                libc::_exit(0);
            }
            process.into()
        }),
        // SAFETY: integers and a string that lives through the call.
        "module" => checked(unsafe { libc::syscall(libc::SYS_finit_module, 0, c"".as_ptr(), 0) }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "no such attempt")),
    };
    match result {
        Ok(()) => "done".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn checked(returned: libc::c_long) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
