//! Steps of work on files, by name, where a test looks on: between any two of them it ends this process or QEMU, or fills the
//! disk.
//!
//! A debug build that finds a directory in `VOIDVM_STEP_DIR` writes each step it comes by to `log` there. At the one that `hold` names
//! (`NAME N`: the Nth time in the log) it writes `held`, and waits until `hold` is gone. A release build has nothing of it.

/// The work has come so far.
#[cfg(not(debug_assertions))]
pub(crate) const fn step(_name: &'static str) {}

/// The work has come so far.
#[cfg(debug_assertions)]
pub(crate) fn step(name: &'static str) {
    static DIR: std::sync::LazyLock<Option<std::path::PathBuf>> =
        std::sync::LazyLock::new(|| std::env::var_os("VOIDVM_STEP_DIR").map(Into::into));
    let Some(dir) = &*DIR else { return };
    if let Err(error) = looked_on(dir, name) {
        tracing::error!(%error, name, "nobody can look on at this step");
    }
}

#[cfg(debug_assertions)]
fn looked_on(dir: &std::path::Path, name: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let (log, hold) = (dir.join("log"), dir.join("hold"));
    let wanted = {
        let _one = ONE.lock();
        writeln!(std::fs::File::options().append(true).create(true).open(&log)?, "{name}")?;
        let times = std::fs::read_to_string(&log)?.lines().filter(|line| *line == name).count();
        std::fs::read_to_string(&hold).is_ok_and(|wanted| wanted == format!("{name} {times}"))
    };
    if wanted {
        std::fs::write(dir.join("held"), name)?;
        while hold.exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    Ok(())
}
