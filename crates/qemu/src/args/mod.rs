//! A machine's specification as QEMU's argument list; pure.
//!
//! Invariants:
//! * No input adds an option of its own. Whatever a user can choose (paths, forwards, device ids) goes into JSON values; the
//!   two places QEMU offers no JSON for (`-name`, `-chardev`) are comma lists in which commas are doubled.
//! * The number of options depends on the shape of the specification alone, never on its texts.
//! * Ids of ours contain a dot, which a [`DeviceId`](voidvm_model::DeviceId) cannot: the two never collide.
//! * QEMU listens nowhere but on unix sockets of ours and on the forwards the specification names.
//! * PCI addresses are fixed per device, so that a change of one device never renames another inside the guest.

mod devices;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::json;
use voidvm_model::spec::Firmware;
use voidvm_model::vm::ActiveAccel;
use voidvm_model::{DeviceId, ErrorBody, ErrorCode, MachineSpec, VmId};

use crate::probe::Capabilities;

/// The longest path of a unix socket: `sun_path` less its NUL.
pub const SOCKET_PATH_MAX: usize = 107;
/// The QOM path of the balloon, where the guest's memory statistics are.
pub const BALLOON_PATH: &str = "/machine/peripheral/vv.balloon";
/// Seconds between two reports of the guest's memory statistics.
pub const BALLOON_INTERVAL: u8 = 2;
/// Free PCI Express ports of each machine, for devices plugged in while it runs: `vv.spare0` to `vv.spare3`.
pub const SPARE_PORTS: u8 = 4;

/// Where the files and sockets of one run are, and what of the host it is given.
///
/// Whatever a specification asks for and this does not hold is an [`ArgsError`], never left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchPaths {
    /// The monitor's socket.
    pub qmp: PathBuf,
    /// The serial console's socket.
    pub serial: PathBuf,
    /// What the guest wrote to its serial console; appended to.
    pub serial_log: PathBuf,
    /// The guest agent's socket.
    pub agent: PathBuf,
    /// OVMF's code; needed for UEFI. With Secure Boot, a build that asks for SMM.
    pub uefi_code: Option<PathBuf>,
    /// The machine's own UEFI variables, qcow2; needed for UEFI.
    pub uefi_vars: Option<PathBuf>,
    /// For each encrypted disk a file with its key, the bytes and no more. QEMU reads it while it starts; the file can go as
    /// soon as the monitor answers.
    pub keys: BTreeMap<DeviceId, PathBuf>,
    /// swtpm's control socket; needed for a TPM.
    pub tpm: Option<PathBuf>,
    /// passt's socket, for each card that uses it.
    pub passt: BTreeMap<DeviceId, PathBuf>,
    /// virtiofsd's socket, for each folder that uses it.
    pub shares: BTreeMap<DeviceId, PathBuf>,
    /// The socket QEMU makes for each channel.
    pub channels: BTreeMap<DeviceId, PathBuf>,
    /// The guest's vsock address, 3 or more; needed for vsock.
    pub vsock_cid: Option<u32>,
    /// Where the guest's sound goes.
    pub sound: HostSound,
}

/// What plays the guest's sound on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostSound {
    /// Nothing: the guest has its card, and nobody hears it.
    #[default]
    Silent,
    /// PipeWire (QEMU 8.1 or newer).
    Pipewire,
    /// PulseAudio, or PipeWire in its place.
    Pulse,
}

/// Why no argument list can be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ArgsError {
    /// The specification itself does not hold.
    #[error(transparent)]
    Spec(ErrorBody),
    /// A socket's path is longer than the kernel takes.
    #[error("the socket path {0:?} is longer than {SOCKET_PATH_MAX} bytes")]
    SocketPathTooLong(PathBuf),
    /// A path is not absolute, not Unicode, or has control characters.
    #[error("{0:?} cannot be handed to QEMU")]
    Path(PathBuf),
    /// The machine's name has a control character.
    #[error("the name {0:?} cannot be handed to QEMU")]
    Name(String),
    /// UEFI is asked for and no firmware was given.
    #[error("no UEFI firmware")]
    FirmwareMissing,
}

impl ArgsError {
    /// The error as everybody is shown it.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::Spec(body) => body.clone(),
            Self::SocketPathTooLong(_) => ErrorBody::new(
                ErrorCode::ConfigInvalid,
                "The runtime directory's path is too long for sockets.",
            )
            .with_hint("Set XDG_RUNTIME_DIR, or use a data directory with a shorter path.")
            .with_detail("reason", self.to_string()),
            Self::Path(path) => {
                ErrorBody::invalid("spec", "A path of this machine cannot be handed to QEMU.")
                    .with_hint("Use an absolute path without control characters.")
                    .with_detail("path", path.to_string_lossy())
            }
            Self::Name(_) => ErrorBody::invalid("name", "The name has a character that cannot be shown.")
                .with_hint("Remove line breaks and control characters."),
            Self::FirmwareMissing => ErrorBody::new(
                ErrorCode::FirmwareMissing,
                "This machine starts with UEFI, and no UEFI firmware is installed.",
            )
            .with_hint("Install the package ovmf, or choose BIOS."),
        }
    }
}

/// The arguments QEMU is started with, its own path left out.
///
/// The machine is held (`-S`) until the monitor says `cont`. `caps` decides what this QEMU can do; the same input gives the
/// same list.
///
/// # Errors
/// [`ArgsError`]: nothing is left out silently.
pub fn build(
    id: VmId,
    name: &str,
    spec: &MachineSpec,
    accel: ActiveAccel,
    paths: &LaunchPaths,
    caps: &Capabilities,
) -> Result<Vec<OsString>, ArgsError> {
    spec.validate().map_err(ArgsError::Spec)?;
    if name.chars().any(char::is_control) {
        return Err(ArgsError::Name(name.to_owned()));
    }
    let mut list = ArgList(Vec::with_capacity(96));
    list.option("-name", format!("guest={},debug-threads=on", double_commas(name)));
    list.option("-uuid", id.to_string());
    list.flag("-S").flag("-nodefaults").flag("-no-user-config");
    list.option("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    list.option("-msg", "timestamp=on");
    machine(&mut list, spec, accel);
    list.option("-rtc", "base=utc");
    list.option("-boot", "strict=on");
    // A guest that suspends itself to memory cannot be told from a hung one, and cannot be snapshotted.
    list.option("-global", "ICH9-LPC.disable_s3=1").option("-global", "ICH9-LPC.disable_s4=1");
    // The screen is handed over later as a socket pair (`add_client`): nothing listens.
    list.option("-display", "none").option("-vnc", "none");
    channels(&mut list, paths)?;
    if spec.firmware.is_uefi() {
        let (Some(code), Some(vars)) = (&paths.uefi_code, &paths.uefi_vars) else {
            return Err(ArgsError::FirmwareMissing);
        };
        devices::flash(&mut list, code, vars)?;
    }
    devices::platform(&mut list, caps);
    devices::disks(&mut list, spec)?;
    devices::cdroms(&mut list, spec)?;
    devices::nics(&mut list, spec);
    devices::spare_ports(&mut list);
    Ok(list.0)
}

/// Chipset, processor and memory.
fn machine(list: &mut ArgList, spec: &MachineSpec, accel: ActiveAccel) {
    // The memory backend has the name of the machine's own default, so that a RAM stream fits with and without it.
    let flash = match spec.firmware {
        Firmware::Uefi | Firmware::UefiSecure => ",pflash0=vv.flash0,pflash1=vv.flash1",
        Firmware::Bios => "",
    };
    list.option(
        "-machine",
        format!("q35,usb=off,vmport=off,dump-guest-core=off,memory-backend=pc.ram{flash}"),
    );
    let (accel, cpu) = match accel {
        ActiveAccel::Kvm => ("kvm", "host"),
        ActiveAccel::Tcg => ("tcg,thread=multi", "max"),
    };
    list.option("-accel", accel).option("-cpu", cpu);
    // One socket: desktop editions of Windows use two at most.
    list.option("-smp", format!("cpus={0},sockets=1,cores={0},threads=1", spec.cpus));
    list.option("-m", format!("size={}M", spec.memory.0));
    list.json(
        "-object",
        &json!({"qom-type": "memory-backend-ram", "id": "pc.ram", "size": spec.memory.bytes().0}),
    );
}

/// The monitor, the serial console and the guest agent's line, each on a unix socket of ours.
fn channels(list: &mut ArgList, paths: &LaunchPaths) -> Result<(), ArgsError> {
    let log = text(&paths.serial_log)?;
    let qmp = double_commas(socket(&paths.qmp)?);
    let serial = double_commas(socket(&paths.serial)?);
    let agent = double_commas(socket(&paths.agent)?);
    list.option("-chardev", format!("socket,id=vv.qmp,path={qmp},server=on,wait=off"));
    list.option("-mon", "chardev=vv.qmp,mode=control");
    list.option(
        "-chardev",
        format!(
            "socket,id=vv.serial,path={serial},server=on,wait=off,logfile={},logappend=on",
            double_commas(log)
        ),
    );
    list.json(
        "-device",
        &json!({"driver": "isa-serial", "id": "vv.serial0", "chardev": "vv.serial", "index": 0}),
    );
    list.option("-chardev", format!("socket,id=vv.agent,path={agent},server=on,wait=off"));
    Ok(())
}

/// Options in order; the only way anything gets on the list.
struct ArgList(Vec<OsString>);

impl ArgList {
    fn flag(&mut self, option: &'static str) -> &mut Self {
        self.0.push(option.into());
        self
    }

    fn option(&mut self, option: &'static str, value: impl Into<String>) -> &mut Self {
        self.0.push(option.into());
        self.0.push(value.into().into());
        self
    }

    fn json(&mut self, option: &'static str, value: &serde_json::Value) -> &mut Self {
        self.option(option, value.to_string())
    }
}

/// A value of a comma list: QEMU reads two commas as one that does not separate.
fn double_commas(value: &str) -> String {
    value.replace(',', ",,")
}

fn text(path: &Path) -> Result<&str, ArgsError> {
    voidvm_model::spec::validate_path("path", path)
        .ok()
        .and_then(|()| path.to_str())
        .ok_or_else(|| ArgsError::Path(path.to_owned()))
}

fn socket(path: &Path) -> Result<&str, ArgsError> {
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(ArgsError::SocketPathTooLong(path.to_owned()));
    }
    text(path)
}
