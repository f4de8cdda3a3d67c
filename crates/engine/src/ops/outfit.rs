//! What a start needs beside QEMU's arguments: sockets and descriptors under names that the arguments can say beforehand, keys
//! of encrypted disks, programs beside QEMU, UEFI variables.
//!
//! Invariants: [`paths`] touches nothing, so that the command can be shown without a start; what [`ready`] hands over has the
//! numbers that [`paths`] named; when it fails, no program is left. Keys cross in memory alone.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use voidvm_model::spec::{Disk, Firmware, MachineVersion, NetworkBackend, Nic, Share, ShareKind, UserStack};
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec, VmId};
use voidvm_qemu::args::{HostSound, LaunchPaths};
use voidvm_qemu::companion::{self, Companions, Virtiofsd};
use voidvm_qemu::firmware;
use voidvm_qemu::probe::Capabilities;
use voidvm_qemu::process::{FIRST_INHERITED, Inherited, RunDir};
use voidvm_qemu::secret::Key;

use super::{build, files};
use crate::platform;
use crate::shared::Shared;

/// The kernel's door for vsock.
const VHOST_VSOCK: &str = "/dev/vhost-vsock";

/// What QEMU is started with beside its arguments.
pub(crate) struct Outfit {
    pub(crate) inherited: Inherited,
    pub(crate) companions: Companions,
}

/// The disks whose keys QEMU inherits, in the order of their numbers.
fn locked(spec: &MachineSpec) -> impl Iterator<Item = (usize, &Disk)> {
    spec.disks.iter().enumerate().filter(|(_, disk)| disk.key.is_some())
}

/// The cards whose network is passt's, in the order of their numbers, after the keys.
fn through_passt(spec: &MachineSpec) -> impl Iterator<Item = (usize, &Nic)> {
    let is = |nic: &Nic| matches!(nic.network, NetworkBackend::User { stack: UserStack::Passt, .. });
    spec.nics.iter().enumerate().filter(move |(_, nic)| is(nic))
}

fn through_virtiofs(spec: &MachineSpec) -> impl Iterator<Item = (usize, &Share)> {
    spec.shares.iter().enumerate().filter(|(_, share)| share.kind == ShareKind::Virtiofs)
}

/// Where everything of the next start of a machine will be; `home` is where its variables and TPM are.
///
/// # Errors
/// Firmware that is not installed.
pub(crate) fn paths(
    shared: &Shared,
    id: VmId,
    spec: &MachineSpec,
    caps: &Capabilities,
    home: &Path,
) -> Result<LaunchPaths, ErrorBody> {
    let dir = RunDir::new(&shared.config.runtime_dir, id);
    let uefi = spec.firmware.is_uefi();
    let mut numbers = FIRST_INHERITED..;
    let mut number = || numbers.next().unwrap_or(RawFd::MAX);
    let keys =
        locked(spec).map(|(_, disk)| (disk.id.clone(), PathBuf::from(format!("/dev/fd/{}", number()))));
    let keys = keys.collect();
    let passt = through_passt(spec).map(|(_, nic)| (nic.id.clone(), number().cast_unsigned())).collect();
    Ok(LaunchPaths {
        qmp: dir.qmp(),
        serial: dir.serial(),
        serial_log: shared.config.serial_log(id),
        agent: dir.agent(),
        uefi_code: if uefi { Some(platform::firmware(spec.firmware)?.code) } else { None },
        uefi_vars: files::vars(home, spec.firmware),
        keys,
        tpm: spec.tpm.then(|| dir.tpm()),
        passt,
        shares: through_virtiofs(spec).map(|(_, share)| (share.id.clone(), dir.share(&share.id))).collect(),
        channels: spec.channels.iter().map(|line| (line.id.clone(), dir.channel(&line.id))).collect(),
        vsock_cid: spec.vsock.then(|| cid(id)),
        sound: sound(caps),
    })
}

/// The specification with the machine type it will have for good.
pub(crate) fn settled(spec: &MachineSpec, caps: &Capabilities) -> MachineSpec {
    let version: Option<MachineVersion> =
        spec.machine_version.clone().or_else(|| caps.machines.newest(spec.machine).cloned());
    MachineSpec { machine_version: version, ..spec.clone() }
}

/// A guest's vsock address: of its own, the same at each start. Below 2^16 others (libvirt, Firecracker) begin to count.
pub(crate) fn cid(id: VmId) -> u32 {
    let [.., a, b, c, d] = *id.0.as_bytes();
    u32::from_be_bytes([a, b, c, d]) % (u32::MAX - (1 << 17)) + (1 << 16)
}

/// What plays sound in this session, as far as this QEMU can use it.
fn sound(caps: &Capabilities) -> HostSound {
    let Some(session) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) else {
        return HostSound::Silent;
    };
    if caps.audiodevs.has("pipewire") && session.join("pipewire-0").exists() {
        HostSound::Pipewire
    } else if caps.audiodevs.has("pa") && session.join("pulse/native").exists() {
        HostSound::Pulse
    } else {
        HostSound::Silent
    }
}

/// Makes everything ready; the machine's runtime directory is prepared. `home` is where its variables and TPM are.
///
/// # Errors
/// What is missing or does not work, with its field.
pub(crate) async fn ready(
    shared: &Shared,
    id: VmId,
    spec: &MachineSpec,
    home: &Path,
) -> Result<Outfit, ErrorBody> {
    let dir = RunDir::new(&shared.config.runtime_dir, id);
    check(shared, id, spec)?;
    make_vars(shared, home, spec.firmware).await?;
    let mut outfit = Outfit { inherited: Inherited::default(), companions: Companions::none(dir.clone()) };
    for (at, disk) in locked(spec) {
        let key = key(shared, disk).await.map_err(|body| body.with_field(format!("spec.disks[{at}].key")))?;
        let memory = key.in_memory().map_err(|error| {
            ErrorBody::new(ErrorCode::Internal, format!("The disk's key cannot be handed over: {error}."))
        })?;
        outfit.inherited.add(memory);
    }
    match companions(home, spec, &dir, &mut outfit).await {
        Ok(()) => Ok(outfit),
        Err(body) => {
            outfit.companions.end(Duration::ZERO).await;
            Err(body)
        }
    }
}

async fn companions(
    home: &Path,
    spec: &MachineSpec,
    dir: &RunDir,
    outfit: &mut Outfit,
) -> Result<(), ErrorBody> {
    let Outfit { inherited, companions } = outfit;
    if spec.tpm {
        let state = files::tpm(home);
        companion::swtpm(companions, dir, &state).map_err(|error| error.body().with_field("spec.tpm"))?;
    }
    for (at, nic) in through_passt(spec) {
        let ours = companion::passt(companions, &nic.id, nic.network.forwards())
            .map_err(|error| error.body().with_field(format!("spec.nics[{at}].network.stack")))?;
        inherited.add(ours);
    }
    let mut found = None;
    for (at, share) in through_virtiofs(spec) {
        let of_field = |body: ErrorBody| body.with_field(format!("spec.shares[{at}]"));
        let program = match &found {
            Some(program) => program,
            None => found.insert(Virtiofsd::probe().await.map_err(|error| of_field(error.body()))?),
        };
        companion::virtiofsd(companions, dir, program, share).map_err(|error| of_field(error.body()))?;
    }
    Ok(())
}

/// What can be seen to be missing before anything is started.
fn check(shared: &Shared, id: VmId, spec: &MachineSpec) -> Result<(), ErrorBody> {
    use rustix::fs::Access;
    for (at, share) in spec.shares.iter().enumerate() {
        if !share.folder.is_dir() {
            let shown = share.folder.display();
            return Err(ErrorBody::new(
                ErrorCode::NotFound,
                format!("The shared folder {shown} is not there."),
            )
            .with_field(format!("spec.shares[{at}].folder"))
            .with_hint("Make it, or choose another folder."));
        }
    }
    if !spec.vsock {
        return Ok(());
    }
    let door = Path::new(VHOST_VSOCK);
    if rustix::fs::access(door, Access::READ_OK | Access::WRITE_OK).is_err() {
        return Err(ErrorBody::new(ErrorCode::Unsupported, format!("{VHOST_VSOCK} cannot be used, so there is no vsock."))
            .with_field("spec.vsock")
            .with_hint("Load the kernel's module (sudo modprobe vhost_vsock) and see that your user may open it, or switch vsock off."));
    }
    let holder = shared.fleet.all().into_iter().find(|other| {
        other.id != id && cid(other.id) == cid(id) && other.run().is_some_and(|run| run.record().spec.vsock)
    });
    match holder {
        None => Ok(()),
        Some(holder) => Err(ErrorBody::new(
            ErrorCode::InvalidState,
            format!("“{}” runs with the same vsock address.", holder.view().name),
        )
        .with_field("spec.vsock")
        .with_hint("Stop it, or switch vsock off in one of them.")),
    }
}

/// Variables of firmware that the machine has only had since its last start.
async fn make_vars(shared: &Shared, home: &Path, wanted: Firmware) -> Result<(), ErrorBody> {
    match files::vars(home, wanted) {
        Some(vars) if !vars.exists() => {
            build::make_dir(home)?;
            let img = platform::qemu_img(shared.preferences().qemu_binary)?;
            let ovmf = platform::firmware(wanted)?;
            firmware::make_vars(&img, &ovmf, &vars).await.map_err(|error| error.body())
        }
        _ => Ok(()),
    }
}

/// The key of an encrypted disk.
///
/// # Errors
/// When it is not there, or what keeps it does not answer.
pub(crate) async fn key(shared: &Shared, disk: &Disk) -> Result<Key, ErrorBody> {
    let missing = || {
        ErrorBody::new(
            ErrorCode::NotFound,
            format!("The key of {} is not in the keychain.", disk.file.display()),
        )
        .with_hint("Unlock the keychain it was put into. Without the key the disk cannot be read.")
    };
    match disk.key {
        Some(id) => shared.config.secrets.get(id).await?.ok_or_else(missing),
        None => Err(missing()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vsock_address_is_never_a_reserved_one() {
        for tail in [[0, 0, 0, 0], [255; 4], [0, 0, 0, 3]] {
            let mut bytes = [7_u8; 16];
            bytes[12..].copy_from_slice(&tail);
            let cid = cid(VmId(uuid::Uuid::from_bytes(bytes)));
            assert!((1 << 16..u32::MAX - 1).contains(&cid), "{cid}");
        }
    }
}
