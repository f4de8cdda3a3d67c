//! What a new machine would get, and where the small Linux guest is.

use std::path::{Path, PathBuf};

use voidvm_engine::Engine;
use voidvm_model::spec::Firmware;
use voidvm_model::system::CreateDefaults;
use voidvm_model::{Bytes, ErrorBody, Settings};
use voidvm_qemu::{companion, firmware};

/// Size of a new, empty disk.
const DISK_SIZE: Bytes = Bytes(20 << 30);

/// A file of the small Linux guest: the user's own copy first, then the package's.
#[must_use]
pub fn demo(data_dir: &Path, file: &str) -> Option<PathBuf> {
    [data_dir.join("guest"), PathBuf::from("/usr/share/voidvm/guest")]
        .into_iter()
        .map(|directory| directory.join(file))
        .find(|path| path.is_file())
}

/// What a new machine would get.
///
/// # Errors
/// When the host's figures cannot be read.
pub async fn of_new_machine(
    engine: &Engine,
    settings: &Settings,
    data_dir: &Path,
) -> Result<CreateDefaults, ErrorBody> {
    let stats = engine.stats().await?;
    let max_memory = stats.memory_total.mib();
    let text = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
    Ok(CreateDefaults {
        name: free_name(&engine.list().iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>()),
        cpus: settings.default_cpus.min(stats.cpus),
        max_cpus: stats.cpus,
        memory: settings.default_memory.min(max_memory),
        max_memory,
        available_memory: stats.memory_available.mib(),
        disk_size: DISK_SIZE,
        free_space: stats.disk_free,
        vm_directory: data_dir.join("vms").display().to_string(),
        uefi: firmware::find(Firmware::Uefi).is_some(),
        secure_boot: firmware::find(Firmware::UefiSecure).is_some(),
        tpm: companion::swtpm_program().is_some(),
        accel: engine.accel_report().await,
        demo_disk: text(demo(data_dir, "disk.qcow2")),
        demo_iso: text(demo(data_dir, "guest.iso")),
    })
}

/// The first of `vm-1`, `vm-2` … that nobody has.
fn free_name(taken: &[&str]) -> String {
    (1_u32..)
        .map(|number| format!("vm-{number}"))
        .find(|name| !taken.contains(&name.as_str()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_nobody_has() {
        assert_eq!(free_name(&[]), "vm-1");
        assert_eq!(free_name(&["vm-1", "web", "vm-3"]), "vm-2");
    }

    #[test]
    fn the_users_own_guest_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("guest");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("disk.qcow2"), "").unwrap();
        assert_eq!(demo(root.path(), "disk.qcow2"), Some(own.join("disk.qcow2")));
    }
}
