//! Who writes: the host and the user, as locks and snapshots name them.

/// This host and the user of this process.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Host {
    pub(crate) fn this() -> Self {
        Self {
            name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            user: std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }
    }
}
