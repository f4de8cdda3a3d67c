//! UEFI firmware (OVMF): where this distribution keeps it, and a machine's own variables.
//!
//! QEMU's firmware descriptors say what is installed; well-known paths stand in where there are none. For Secure Boot only a
//! build with the keys already in its variables is of use: an empty one enforces nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use voidvm_model::spec::{DiskFormat, Firmware};

use crate::image::{ImageError, QemuImg};

/// How long the copy of the variables may take; they have half a megabyte.
const PATIENCE: Duration = Duration::from_secs(20);

/// One UEFI firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ovmf {
    /// The code, raw; shared by all machines, read-only.
    pub code: PathBuf,
    /// What a machine's variables start from, raw.
    pub vars_template: PathBuf,
}

/// Code and variables where distributions without descriptors keep them.
const WELL_KNOWN: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.4m.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"),
    ("/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"),
];

/// The same with Secure Boot and Microsoft's keys.
const WELL_KNOWN_SECURE: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"),
    ("/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin", "/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin"),
];

/// The files of this firmware, where they are installed; none for BIOS, which QEMU has itself.
#[must_use]
pub fn find(firmware: Firmware) -> Option<Ovmf> {
    let well_known = match firmware {
        Firmware::Bios => return None,
        Firmware::Uefi => WELL_KNOWN,
        Firmware::UefiSecure => WELL_KNOWN_SECURE,
    };
    let mut dirs = Vec::new();
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let config = config.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
    dirs.extend(config.map(|config| config.join("qemu/firmware")));
    dirs.extend(["/etc/qemu/firmware", "/usr/share/qemu/firmware"].map(PathBuf::from));
    find_in(&dirs, firmware).or_else(|| {
        let pair = |(code, vars): &(&str, &str)| Ovmf { code: code.into(), vars_template: vars.into() };
        well_known.iter().map(pair).find(Ovmf::is_there)
    })
}

/// The first fitting firmware of QEMU's descriptors: directories hide one another's files by name, then the names' order
/// decides.
fn find_in(dirs: &[PathBuf], firmware: Firmware) -> Option<Ovmf> {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for dir in dirs {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "json") {
                files.entry(entry.file_name()).or_insert_with(|| entry.path());
            }
        }
    }
    files.values().find_map(|path| {
        let descriptor = std::fs::read(path).ok()?;
        // An empty file hides one of the same name in a later directory.
        let descriptor: Descriptor = serde_json::from_slice(&descriptor).ok()?;
        descriptor.ovmf(firmware).filter(Ovmf::is_there)
    })
}

impl Ovmf {
    fn is_there(&self) -> bool {
        self.code.is_file() && self.vars_template.is_file()
    }
}

/// Makes the variables of one machine, in qcow2 so that snapshots can hold them.
///
/// # Errors
/// As [`QemuImg::create_qcow2`].
pub async fn make_vars(qemu_img: &QemuImg, firmware: &Ovmf, target: &Path) -> Result<(), ImageError> {
    qemu_img.convert(&firmware.vars_template, DiskFormat::Raw, target, PATIENCE).await
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    features: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    executable: Option<Flash>,
    nvram_template: Option<Flash>,
}

#[derive(Deserialize)]
struct Flash {
    filename: PathBuf,
    format: String,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

impl Descriptor {
    fn ovmf(self, firmware: Firmware) -> Option<Ovmf> {
        let has = |wanted: &[&str]| self.features.iter().any(|feature| wanted.contains(&feature.as_str()));
        let confidential = has(&["amd-sev-es", "amd-sev-snp", "intel-tdx"]);
        let secured = match firmware {
            Firmware::Bios => return None,
            Firmware::Uefi => !has(&["requires-smm", "secure-boot", "enrolled-keys"]),
            Firmware::UefiSecure => {
                has(&["requires-smm"]) && has(&["secure-boot"]) && has(&["enrolled-keys"])
            }
        };
        let fits = secured
            && !confidential
            && self.interface_types.iter().any(|kind| kind == "uefi")
            && self.mapping.device == "flash"
            && self.targets.iter().any(|target| {
                target.architecture == "x86_64"
                    && target.machines.iter().any(|machine| machine.starts_with("pc-q35-"))
            });
        let (code, vars) = (self.mapping.executable?, self.mapping.nvram_template?);
        (fits && code.format == "raw" && vars.format == "raw")
            .then_some(Ovmf { code: code.filename, vars_template: vars.filename })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(dir: &Path, name: &str, features: &str, code: &Path, vars: &Path) {
        std::fs::write(
            dir.join(name),
            format!(
                r#"{{"description": "x", "interface-types": ["uefi"], "mapping": {{"device": "flash",
                "executable": {{"filename": {code:?}, "format": "raw"}},
                "nvram-template": {{"filename": {vars:?}, "format": "raw"}}}},
                "targets": [{{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}}],
                "features": {features}, "tags": []}}"#
            ),
        )
        .unwrap();
    }

    #[test]
    fn the_first_fitting_firmware_that_is_installed_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (code, vars) = (dir.path().join("code.fd"), dir.path().join("vars.fd"));
        std::fs::write(&code, b"code").unwrap();
        std::fs::write(&vars, b"vars").unwrap();
        let gone = dir.path().join("gone.fd");
        let (user, system) = (dir.path().join("user"), dir.path().join("system"));
        std::fs::create_dir_all(&user).unwrap();
        std::fs::create_dir_all(&system).unwrap();
        descriptor(&system, "40-secure.json", r#"["secure-boot", "requires-smm"]"#, &code, &vars);
        descriptor(&system, "50-gone.json", "[]", &gone, &vars);
        std::fs::write(system.join("55-broken.json"), b"{").unwrap();
        let dirs = [user.clone(), system.clone(), dir.path().join("none")];
        assert_eq!(find_in(&dirs, Firmware::Uefi), None);
        descriptor(&system, "60-plain.json", r#"["acpi-s3", "amd-sev"]"#, &code, &vars);
        let plain = Ovmf { code, vars_template: vars };
        assert_eq!(find_in(&dirs, Firmware::Uefi), Some(plain));
        assert_eq!(find_in(&dirs, Firmware::UefiSecure), None, "without keys nothing is enforced");
        let (keyed, keyed_vars) = (dir.path().join("ms.fd"), dir.path().join("ms-vars.fd"));
        std::fs::write(&keyed, b"code").unwrap();
        std::fs::write(&keyed_vars, b"vars").unwrap();
        let features = r#"["enrolled-keys", "secure-boot", "requires-smm"]"#;
        descriptor(&system, "70-keys.json", features, &keyed, &keyed_vars);
        assert_eq!(
            find_in(&dirs, Firmware::UefiSecure),
            Some(Ovmf { code: keyed, vars_template: keyed_vars })
        );
        std::fs::write(user.join("60-plain.json"), b"").unwrap();
        assert_eq!(find_in(&dirs, Firmware::Uefi), None, "the user's empty file hides the system's");
    }
}
