//! Keeping a process from punching holes into its files.
//!
//! QEMU before 8.2 opens a file that it maps privately as memory for writing, and punches a hole into it wherever the guest gives
//! memory back: into the file, for everybody who maps it. A filter of the kernel's makes that one call fail with *not supported*;
//! QEMU then keeps the memory, and does with its disks what it does on a file system without holes.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where the filter finds the call's number, the architecture, and the low half of the second argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const MODE: u32 = if cfg!(target_endian = "little") { 24 } else { 28 };

#[cfg(target_arch = "x86_64")]
const OURS: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const OURS: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OURS: Option<u32> = None;

/// Whether that can be done on this computer.
#[must_use]
pub const fn can_be_refused() -> bool {
    OURS.is_some()
}

const STEPS: u16 = 8;

fn step(code: u32, jump: [u8; 2], value: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: jump[0], jf: jump[1], k: value }
}

/// `fallocate` with the flag for holes fails; everything else passes.
fn filter(architecture: u32) -> [libc::sock_filter; STEPS as usize] {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const HAS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let fallocate = u32::try_from(libc::SYS_fallocate).unwrap_or(u32::MAX);
    let refused = libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP.cast_unsigned();
    [
        step(LOAD, [0, 0], ARCHITECTURE),
        step(EQUAL, [0, 5], architecture),
        step(LOAD, [0, 0], NUMBER),
        step(EQUAL, [0, 3], fallocate),
        step(LOAD, [0, 0], MODE),
        step(HAS, [0, 1], libc::FALLOC_FL_PUNCH_HOLE.cast_unsigned()),
        step(RETURN, [0, 0], refused),
        step(RETURN, [0, 0], libc::SECCOMP_RET_ALLOW),
    ]
}

/// From its start on, and for all it starts.
#[expect(unsafe_code, reason = "the only way to do something between fork and exec")]
pub(super) fn refuse(command: &mut Command) {
    let Some(architecture) = OURS else { return };
    let mut steps = filter(architecture);
    // SAFETY: between fork and exec only system calls are made, on memory that lives as long as they do: no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: STEPS, filter: steps.as_mut_ptr() };
            // A filter is for those who gain no rights, which QEMU's sandbox says as well.
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_process_under_the_filter_writes_and_punches_no_hole() {
        if !can_be_refused() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, [7; 8192]).unwrap();
        let punch = |guarded: bool| {
            let mut command = Command::new("fallocate");
            command.args(["--punch-hole", "--offset", "0", "--length", "4096"]).arg(&file);
            if guarded {
                refuse(&mut command);
            }
            command.output().unwrap().status.success()
        };
        assert!(!punch(true));
        assert_eq!(std::fs::read(&file).unwrap(), [7; 8192]);
        let mut write = Command::new("fallocate");
        write.args(["--length", "16384"]).arg(&file);
        refuse(&mut write);
        assert!(write.output().unwrap().status.success());
        assert!(punch(false));
        assert_eq!(std::fs::read(&file).unwrap()[..4096], [0; 4096]);
    }
}
