//! What this host lets a test do.

use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// Whether a program may shut itself into namespaces of its own, as passt and virtiofsd do: not so in a chroot and in many
/// containers. A test that needs it says so on stderr and ends.
#[must_use]
pub fn namespaces() -> bool {
    static MAY: LazyLock<bool> = LazyLock::new(|| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "true"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    });
    if !*MAY {
        #[expect(clippy::print_stderr, reason = "a test says why it ends")]
        {
            eprintln!("skipped: no namespaces can be made here");
        }
    }
    *MAY
}
