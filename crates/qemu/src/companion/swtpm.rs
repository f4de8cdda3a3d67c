//! swtpm: a TPM 2.0 in software.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CompanionError, CompanionKind, Companions, listen, program};
use crate::process::{Inherited, RunDir};

/// The program, where it is installed.
#[must_use]
pub fn swtpm_program() -> Option<PathBuf> {
    program("swtpm")
}

/// Starts the TPM of a machine: its state in `state`, made when it is not there, its control socket at [`RunDir::tpm`].
///
/// # Errors
/// [`CompanionError`]; nothing runs then. That it does not like its state shows in its end.
pub fn swtpm(companions: &mut Companions, dir: &RunDir, state: &Path) -> Result<(), CompanionError> {
    let binary = swtpm_program().ok_or(CompanionError::Missing {
        program: "swtpm",
        package: "swtpm",
        wanted: "A TPM",
    })?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(|source| CompanionError::Io { path: state.to_owned(), source })?;
    let mut inherited = Inherited::default();
    let control = inherited.add(listen(&dir.tpm())?.into());
    let mut command = Command::new(binary);
    command
        .args(["socket", "--tpm2", "--terminate", "--ctrl", &format!("type=unixio,fd={control}")])
        // Its option for this is a comma list in which a comma cannot be written.
        .env("TPM_PATH", state);
    companions.start(CompanionKind::Tpm, None, command, inherited)
}
