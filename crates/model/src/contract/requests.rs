//! Requests and replies of commands that belong to no type of the domain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::ids::{ImageId, OperationId, VmId};
use crate::operation::OperationStatus;
use crate::settings::Settings;
use crate::spec::{Accel, Firmware, MachineSpec, PortForward};
use crate::units::{Bytes, MiB};
use crate::vm::{VmMeta, VmState};

/// A request without fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[ts(type = "Record<string, never>")]
pub struct Empty {}

/// A reply that says only that it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// Always true.
    pub done: bool,
}

impl Done {
    /// Done.
    pub const DONE: Self = Self { done: true };
}

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmRef {
    /// The machine.
    pub id: VmId,
}

/// Which machines to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmListRequest {
    /// Only those in this state.
    #[serde(default)]
    #[ts(optional)]
    pub state: Option<VmState>,
    /// Only the one of exactly this name.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
}

/// Where a new machine's first disk or medium comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum CreateSource {
    /// An empty disk and an ISO to install from.
    Iso {
        /// Absolute path of the ISO; used in place.
        path: String,
        /// Size of the new disk; none for a machine that lives from its ISO alone.
        #[ts(optional)]
        #[serde(default)]
        disk_size: Option<Bytes>,
    },
    /// A disk image, copied into the machine's directory.
    ImageCopy {
        /// Absolute path of the image.
        path: String,
        /// Grow the copy to this size.
        #[ts(optional)]
        #[serde(default)]
        disk_size: Option<Bytes>,
    },
    /// A disk image, used where it is.
    ImageInPlace {
        /// Absolute path of the image.
        path: String,
    },
    /// An image of the library: copied, or stood on with `linked`; an ISO is put into the drive beside an empty disk.
    Library {
        /// The image.
        image: ImageId,
        /// Size of the disk; the image's without (of an ISO: none).
        #[ts(optional)]
        #[serde(default)]
        disk_size: Option<Bytes>,
        /// Stand on the image instead of copying it: made in an instant, and the image cannot be removed before the machine.
        #[ts(optional, as = "Option<bool>")]
        #[serde(default)]
        linked: bool,
    },
    /// An empty disk and nothing to boot from yet.
    Empty {
        /// Size of the disk.
        disk_size: Bytes,
    },
    /// The small Linux guest that comes with voidVM (a copy of its disk).
    Demo,
}

/// What cloud-init shall make of the guest at its first start (NoCloud seed).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloudInit {
    /// The user to make, with sudo.
    pub user: String,
    /// Public keys that may log in.
    #[serde(default)]
    #[ts(optional, as = "Option<Vec<String>>")]
    pub ssh_keys: Vec<String>,
    /// Make a key of this machine's own and let it in: the ssh button then needs nothing else.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub generate_key: bool,
    /// The user's password; only its hash is written to the seed.
    #[serde(default)]
    #[ts(optional)]
    pub password: Option<String>,
    /// The guest's host name; the machine's name, made fit, without.
    #[serde(default)]
    #[ts(optional)]
    pub hostname: Option<String>,
    /// Packages to install.
    #[serde(default)]
    #[ts(optional, as = "Option<Vec<String>>")]
    pub packages: Vec<String>,
    /// Free user-data (`#cloud-config` YAML) that the fields above are merged into.
    #[serde(default)]
    #[ts(optional)]
    pub user_data: Option<String>,
}

impl std::fmt::Debug for CloudInit {
    /// Without the password, which would else reach logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudInit")
            .field("user", &self.user)
            .field("hostname", &self.hostname)
            .finish_non_exhaustive()
    }
}

/// How to reach a guest by ssh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct SshAccess {
    /// The user.
    pub user: String,
    /// The host's address of the forwarded port, or the guest's own.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// The key of the machine's own, where there is one.
    pub key_file: Option<String>,
    /// The whole command, for a terminal.
    pub command: String,
}

/// A start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmStartRequest {
    /// The machine.
    pub id: VmId,
    /// Throw away what the guest writes when it stops.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub disposable: bool,
}

/// A new machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VmCreateRequest {
    /// Its name; nobody else's.
    pub name: String,
    /// Free text, at most 10,000 characters.
    #[serde(default)]
    #[ts(optional, as = "Option<String>")]
    pub description: String,
    /// Where its first disk or medium comes from.
    pub source: CreateSource,
    /// Virtual CPUs; the setting's default without.
    #[serde(default)]
    #[ts(optional)]
    pub cpus: Option<u16>,
    /// Memory; the setting's default without.
    #[serde(default)]
    #[ts(optional)]
    pub memory: Option<MiB>,
    /// Firmware; BIOS without.
    #[serde(default)]
    #[ts(optional)]
    pub firmware: Option<Firmware>,
    /// Acceleration; automatic without.
    #[serde(default)]
    #[ts(optional)]
    pub accel: Option<Accel>,
    /// The operating system it is for (osinfo-db's short id): what is left out comes from its preset.
    #[serde(default)]
    #[ts(optional)]
    pub os: Option<String>,
    /// A TPM 2.0; the preset's wish without.
    #[serde(default)]
    #[ts(optional)]
    pub tpm: Option<bool>,
    /// Encrypt its new disk, empty or a copy of an image (LUKS); the key is made and kept in the keychain.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub encrypt: bool,
    /// What cloud-init shall do at the first start.
    #[serde(default)]
    #[ts(optional)]
    pub cloud_init: Option<CloudInit>,
    /// Tags, group and the like.
    #[serde(default)]
    #[ts(optional)]
    pub meta: Option<VmMeta>,
    /// Port forwards of its network card.
    #[serde(default)]
    #[ts(optional, as = "Option<Vec<PortForward>>")]
    pub forwards: Vec<PortForward>,
    /// Start it when it is made.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub start: bool,
}

impl VmCreateRequest {
    /// A machine of this name from that source, with defaults in everything else.
    #[must_use]
    pub fn new(name: impl Into<String>, source: CreateSource) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            source,
            cpus: None,
            memory: None,
            firmware: None,
            accel: None,
            os: None,
            tpm: None,
            encrypt: false,
            cloud_init: None,
            meta: None,
            forwards: Vec::new(),
            start: false,
        }
    }
}

/// Changes of a machine's definition; what is left out stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VmUpdateRequest {
    /// The machine.
    pub id: VmId,
    /// A new name.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
    /// A new description.
    #[serde(default)]
    #[ts(optional)]
    pub description: Option<String>,
    /// The whole new hardware. A live machine takes at once what its guest can be given while it runs.
    #[serde(default)]
    #[ts(optional)]
    pub spec: Option<MachineSpec>,
    /// Tags, group and the like, as a whole.
    #[serde(default)]
    #[ts(optional)]
    pub meta: Option<VmMeta>,
    /// The operating system, osinfo-db's short id.
    #[serde(default)]
    #[ts(optional)]
    pub os_type: Option<String>,
    /// The `updatedAt` the change was made from; refused as busy when somebody else changed it since.
    #[serde(default)]
    #[ts(optional, type = "string")]
    pub if_updated_at: Option<jiff::Timestamp>,
}

impl VmUpdateRequest {
    /// A request that changes nothing yet.
    #[must_use]
    pub const fn new(id: VmId) -> Self {
        Self { id, name: None, description: None, spec: None, meta: None, os_type: None, if_updated_at: None }
    }
}

impl VmDeleteRequest {
    /// A deletion with all its own files.
    #[must_use]
    pub const fn new(id: VmId) -> Self {
        Self { id, trash: false, flatten_children: false, keep_disks: false }
    }
}

/// A deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmDeleteRequest {
    /// The machine; it must be stopped.
    pub id: VmId,
    /// Move its files to the desktop's trash where there is one, instead of removing them.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub trash: bool,
    /// Copy what linked clones need into them first, instead of refusing.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub flatten_children: bool,
    /// Leave its disks where they are.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub keep_disks: bool,
}

/// A stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmStopRequest {
    /// The machine.
    pub id: VmId,
    /// End the process without asking the guest: unsaved work in it is lost.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub force: bool,
    /// Seconds the guest has, 1 to 3600; the setting's without.
    #[serde(default)]
    #[ts(optional)]
    pub timeout_seconds: Option<u32>,
}

/// QEMU commands of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmCommand {
    /// What the next start would run, argument by argument.
    pub next: Vec<String>,
    /// What the live process was started with.
    pub running: Option<Vec<String>>,
    /// What the last start ran, whether it lives or not.
    pub last: Option<Vec<String>>,
}

/// Which readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmMetricsRequest {
    /// The machine.
    pub id: VmId,
    /// Only those after this instant.
    #[serde(default)]
    #[ts(optional, type = "string")]
    pub after: Option<jiff::Timestamp>,
}

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// QEMU's own words of the last run.
    Qemu,
    /// The guest's serial port of the last run.
    Serial,
}

/// A log's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmLogsRequest {
    /// The machine.
    pub id: VmId,
    /// Which log.
    pub log: LogKind,
    /// How many bytes of its end, at most 1 MiB; 64 KiB without.
    #[serde(default)]
    #[ts(optional)]
    pub tail: Option<u32>,
}

/// A log's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmLogs {
    /// Its text; what is not Unicode is replaced.
    pub text: String,
    /// Size of the whole log.
    pub size: Bytes,
    /// Where it is.
    pub path: String,
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    /// PNG, in base64.
    pub png: String,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// When it was taken.
    #[ts(type = "string")]
    pub at: jiff::Timestamp,
}

/// One-use addresses of a machine's console; each is good for one connection, within 30 seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct ConsoleTicket {
    /// WebSocket of the screen; absolute in the desktop app, a path on the local API.
    pub screen: String,
    /// WebSocket of the serial port.
    pub serial: String,
}

/// Keys pressed together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmKeysRequest {
    /// The machine.
    pub id: VmId,
    /// QEMU key codes (`QKeyCode` of QEMU's qapi/ui.json): `["ctrl", "alt", "delete"]`; at most 8.
    pub keys: Vec<String>,
}

/// A text to type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct VmTypeRequest {
    /// The machine.
    pub id: VmId,
    /// What to type, at most 10,000 characters; `\n` is Enter. Characters a US keyboard lacks are refused by name.
    pub text: String,
}

/// Which operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct OperationListRequest {
    /// Only of this machine.
    #[serde(default)]
    #[ts(optional)]
    pub vm_id: Option<VmId>,
    /// Only with this status.
    #[serde(default)]
    #[ts(optional)]
    pub status: Option<OperationStatus>,
    /// Only those before this one (the page before ended there).
    #[serde(default)]
    #[ts(optional)]
    pub before: Option<OperationId>,
    /// At most so many, 1 to 500; 50 without.
    #[serde(default)]
    #[ts(optional)]
    pub limit: Option<u32>,
}

/// One operation, now or when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct OperationGetRequest {
    /// The operation.
    pub id: OperationId,
    /// Answer when it has ended, or after so many seconds, 0 to 60.
    #[serde(default)]
    #[ts(optional)]
    pub wait_seconds: Option<u32>,
}

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct OperationRef {
    /// The operation.
    pub id: OperationId,
}

/// An image file to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageInspectRequest {
    /// Absolute path.
    pub path: String,
}

/// A directory to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct FilesListRequest {
    /// Absolute path; the home directory without.
    #[serde(default)]
    #[ts(optional)]
    pub path: Option<String>,
}

/// New settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct SettingsUpdateRequest {
    /// The whole of them; a value equal to the layers below is not stored.
    pub settings: Settings,
}

/// How to reach the local API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct ApiAccess {
    /// Whether it listens now.
    pub listening: bool,
    /// Its address, `http://127.0.0.1:7770`.
    pub url: String,
    /// The token. Shown only when asked for; never logged.
    pub token: String,
    /// Where the token is kept: `keychain` or the file's path.
    pub kept_in: String,
}
