//! Where voidVM keeps its files, by the XDG specification, and that they are the user's own.
//!
//! The runtime directory holds unix sockets, whose paths end at 108 bytes: it is short, and there is one for each data
//! directory. It must be the same for every process that opens one data directory, in a login session or in cron: the owner
//! writes it into the lock file and the next owner takes it from there while it still exists (see [`crate::owner`]).

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use voidvm_model::{ErrorBody, ErrorCode};

use crate::environment::Environment;

/// The directories of one voidVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directories {
    /// Store, machines, the small guest.
    pub data: PathBuf,
    /// Logs.
    pub state: PathBuf,
    /// Sockets and run records; gone after a reboot.
    pub runtime: PathBuf,
    /// `config.toml`.
    pub config_file: PathBuf,
}

impl Directories {
    /// Works the directories out; makes none.
    ///
    /// # Errors
    /// [`ErrorCode::ConfigInvalid`] when there is no home directory and nothing says where else to go.
    pub fn find(data_dir: Option<&Path>, environment: &Environment) -> Result<Self, ErrorBody> {
        let home = environment.directory("HOME");
        let from = |variable: &str, below_home: &str| {
            environment
                .directory(variable)
                .or_else(|| home.as_ref().map(|home| home.join(below_home)))
                .map(|base| base.join("voidvm"))
                .ok_or_else(|| {
                    ErrorBody::new(ErrorCode::ConfigInvalid, format!("Neither {variable} nor HOME is set."))
                        .with_field(variable)
                        .with_hint("Set HOME, or name a directory with --data-dir.")
                })
        };
        let usual = home.as_ref().map(|home| home.join(".local/share/voidvm"));
        let (data, state) = match data_dir {
            Some(given) => {
                let data = std::path::absolute(given).map_err(|error| io_error("find", given, &error))?;
                let state = data.join("state");
                (data, state)
            }
            None => (from("XDG_DATA_HOME", ".local/share")?, from("XDG_STATE_HOME", ".local/state")?),
        };
        let config_file = match from("XDG_CONFIG_HOME", ".config") {
            Ok(directory) => directory.join("config.toml"),
            Err(_) if data_dir.is_some() => data.join("config.toml"),
            Err(error) => return Err(error),
        };
        let name = if usual.as_ref() == Some(&data) {
            "voidvm".to_owned()
        } else {
            format!("voidvm-{:08x}", fnv1a(data.as_os_str().as_encoded_bytes()))
        };
        let runtime = runtime_base(environment).join(name);
        Ok(Self { data, state, runtime, config_file })
    }

    /// Makes what is missing, for the user alone, and checks the rest.
    ///
    /// # Errors
    /// [`ErrorCode::ReadOnly`], [`ErrorCode::PermissionDenied`] or [`ErrorCode::DiskFull`] with the `path` in the details.
    pub fn make(&self) -> Result<(), ErrorBody> {
        private(&self.data)?;
        private(&self.state)?;
        // /tmp is everybody's: whoever made our directory there first must have been us.
        if let Some(base) = self.runtime.parent().filter(|base| base.parent() == Some(Path::new("/tmp"))) {
            private(base)?;
        }
        private(&self.runtime)
    }

    /// The owner's unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("voidvm.sock")
    }

    /// Where the log files are.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.state.join("log")
    }
}

/// `XDG_RUNTIME_DIR`; logind's directory where the variable is missing (cron, `sudo -u`); a directory of ours in /tmp else.
fn runtime_base(environment: &Environment) -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    if let Some(directory) = environment.directory("XDG_RUNTIME_DIR") {
        return directory;
    }
    let logind = PathBuf::from(format!("/run/user/{uid}"));
    if fs::metadata(&logind).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid) {
        return logind;
    }
    PathBuf::from(format!("/tmp/voidvm-{uid}"))
}

/// Makes a directory for the user alone where there is none, and checks that an existing one is.
///
/// # Errors
/// As [`Directories::make`].
pub fn private(path: &Path) -> Result<(), ErrorBody> {
    if let Err(error) = fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        return Err(io_error("make", path, &error));
    }
    let meta = fs::metadata(path).map_err(|error| io_error("read", path, &error))?;
    let not_ours = |message: String, hint: String| {
        Err(ErrorBody::new(ErrorCode::PermissionDenied, message)
            .with_hint(hint)
            .with_detail("path", path.display().to_string()))
    };
    if meta.uid() != rustix::process::getuid().as_raw() {
        return not_ours(
            format!("{} belongs to another user.", path.display()),
            "Remove it, or name another directory.".to_owned(),
        );
    }
    // Others may look into a data directory of the user's choice, but never write to it.
    let mode = meta.permissions().mode();
    if mode & 0o022 == 0o020 && mode & 0o1000 == 0 {
        // Made under a umask of 002, the usual one where each user has a group: not meant, so mended.
        return fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7755))
            .map_err(|error| io_error("restrict", path, &error));
    }
    if mode & 0o022 != 0 {
        return not_ours(
            format!("Others can write to {}.", path.display()),
            format!("Run: chmod go-w '{}'", path.display()),
        );
    }
    Ok(())
}

/// An I/O failure on a path as an error of the closed set.
#[must_use]
pub fn io_error(verb: &str, path: &Path, error: &std::io::Error) -> ErrorBody {
    let (code, hint) = match error.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem => (
            ErrorCode::ReadOnly,
            "The file system is mounted read-only; mount it writable, or use another directory.",
        ),
        std::io::ErrorKind::PermissionDenied => {
            (ErrorCode::PermissionDenied, "Give yourself the permission, or use another directory.")
        }
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            (ErrorCode::DiskFull, "Free some space, then try again.")
        }
        std::io::ErrorKind::NotFound => (ErrorCode::NotFound, "Check the path."),
        std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists => {
            (ErrorCode::InvalidInput, "A file is in the place of a directory; move it away.")
        }
        _ => (ErrorCode::Internal, "Look into the log for more."),
    };
    ErrorBody::new(code, format!("Could not {verb} {}: {error}.", path.display()))
        .with_hint(hint)
        .with_detail("path", path.display().to_string())
}

/// FNV-1a: a name for the runtime directory, not a defence.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(extra: &[(&str, &str)]) -> Environment {
        let all = [("HOME", "/home/ada"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        Environment::of(all.iter().chain(extra).map(|(name, value)| (*name, *value)))
    }

    #[test]
    fn the_usual_places() {
        let found = Directories::find(None, &environment(&[])).unwrap();
        assert_eq!(found.data, Path::new("/home/ada/.local/share/voidvm"));
        assert_eq!(found.state, Path::new("/home/ada/.local/state/voidvm"));
        assert_eq!(found.runtime, Path::new("/run/user/7/voidvm"));
        assert_eq!(found.config_file, Path::new("/home/ada/.config/voidvm/config.toml"));
    }

    #[test]
    fn each_data_directory_has_a_runtime_directory_of_its_own() {
        let one = Directories::find(None, &environment(&[("XDG_DATA_HOME", "/a")])).unwrap();
        let two = Directories::find(Some(Path::new("/b")), &environment(&[])).unwrap();
        assert_ne!(one.runtime, two.runtime);
        assert_eq!(two.state, Path::new("/b/state"));
        assert!(one.socket().as_os_str().len() < 60);
    }

    #[test]
    fn relative_variables_are_ignored() {
        let found = Directories::find(None, &environment(&[("XDG_DATA_HOME", "data")])).unwrap();
        assert_eq!(found.data, Path::new("/home/ada/.local/share/voidvm"));
    }

    #[test]
    fn no_home_is_said() {
        let error = Directories::find(None, &Environment::default()).unwrap_err();
        assert_eq!(error.code, ErrorCode::ConfigInvalid);
        assert!(Directories::find(Some(Path::new("/b")), &Environment::default()).is_ok());
    }

    #[test]
    fn a_directory_others_can_write_to_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("open");
        private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(private(&path).unwrap_err().code, ErrorCode::PermissionDenied);
        // A shared directory is not taken for one made carelessly.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1770)).unwrap();
        assert!(private(&path).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o775)).unwrap();
        private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_file_in_the_way_is_said() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "").unwrap();
        assert_eq!(private(&path.join("below")).unwrap_err().code, ErrorCode::InvalidInput);
    }
}
