//! What the engine is told from outside: where things are, what the user prefers, and how patient to be.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use voidvm_model::{Bytes, MiB, Settings, VmId};

use crate::secrets::{SecretFiles, Secrets};

/// Free space that is kept where nothing else is said.
const FLOOR: Bytes = Bytes(2 << 30);

/// Where things are, and what does not change while the engine is open.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Machines and their disks: `vms/ID/`.
    pub data_dir: PathBuf,
    /// Sockets and the description of each run: `ID/`; short (socket paths end at 107 bytes), mode 0700, this user's own.
    pub runtime_dir: PathBuf,
    /// Serial logs (`serial/ID.log`) and what probes found.
    pub state_dir: PathBuf,
    /// The disk of the small Linux guest, where it is prepared.
    pub demo_disk: Option<PathBuf>,
    /// Where keys of encrypted disks are kept.
    pub secrets: Arc<dyn Secrets>,
    /// The user's own `catalogue.toml` and `keyrings/`; none of his own without.
    pub config_dir: Option<PathBuf>,
    /// Where osinfo-db's data is; where distributions put it without.
    pub osinfo_dirs: Option<Vec<PathBuf>>,
    /// Free space that is kept in a pool of which nobody has said otherwise.
    pub floor: Bytes,
    /// What the user prefers; can be changed later.
    pub preferences: Preferences,
    /// How patient to be.
    pub timing: Timing,
}

impl EngineConfig {
    /// The usual timing and floor, the default preferences, no demo guest, keys in files (`secrets/` of the data directory).
    #[must_use]
    pub fn new(data_dir: PathBuf, runtime_dir: PathBuf, state_dir: PathBuf) -> Self {
        Self {
            secrets: Arc::new(SecretFiles::new(data_dir.join("secrets"))),
            data_dir,
            runtime_dir,
            state_dir,
            demo_disk: None,
            config_dir: None,
            osinfo_dirs: None,
            floor: FLOOR,
            preferences: Preferences::from(&Settings::default()),
            timing: Timing::default(),
        }
    }

    /// The directory of a machine's own files.
    #[must_use]
    pub fn machine_dir(&self, id: VmId) -> PathBuf {
        self.data_dir.join("vms").join(id.to_string())
    }

    pub(crate) fn catalogue_file(&self) -> Option<PathBuf> {
        self.config_dir.as_ref().map(|dir| dir.join("catalogue.toml"))
    }

    /// The command of a machine's last start.
    pub(crate) fn last_command(&self, id: VmId) -> PathBuf {
        self.state_dir.join("commands").join(format!("{id}.json"))
    }

    pub(crate) fn serial_log(&self, id: VmId) -> PathBuf {
        self.state_dir.join("serial").join(format!("{id}.log"))
    }
}

/// What of the settings concerns the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// How many machines may start at one time.
    pub starts: usize,
    /// How many guests may be asked to shut down at one time. Forcing off waits for nobody.
    pub stops: usize,
    /// How many machines' disks may be made at one time.
    pub builds: usize,
    /// How many layers a disk may stand on before they are flattened.
    pub layers: usize,
    /// How long a guest has to shut down, where the request does not say.
    pub stop_timeout: Duration,
    /// The QEMU to run; found on PATH without.
    pub qemu_binary: Option<PathBuf>,
    /// How many of each machine's newest snapshots with memory are made ready to be gone on from at once.
    pub prepared_snapshots: usize,
    /// Virtual CPUs of a new machine.
    pub default_cpus: u16,
    /// Memory of a new machine.
    pub default_memory: MiB,
}

impl From<&Settings> for Preferences {
    fn from(settings: &Settings) -> Self {
        Self {
            starts: settings.max_concurrent_starts.into(),
            stops: settings.max_concurrent_stops.into(),
            builds: 2,
            layers: settings.max_disk_layers.into(),
            stop_timeout: Duration::from_secs(settings.stop_timeout_seconds.into()),
            qemu_binary: (!settings.qemu_binary.is_empty()).then(|| PathBuf::from(&settings.qemu_binary)),
            prepared_snapshots: settings.prepared_snapshots.into(),
            default_cpus: settings.default_cpus,
            default_memory: settings.default_memory,
        }
    }
}

/// How patient to be. Tests shorten it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the process's start to its monitor's greeting.
    pub greeting: Duration,
    /// From finding a process at start-up to its answer; after that the machine is unresponsive until it answers.
    pub adoption: Duration,
    /// Between two questions to a live machine whether it still answers.
    pub heartbeat: Duration,
    /// How long it may take to answer such a question.
    pub mute_after: Duration,
    /// Between two steps of forcing off: quit, SIGTERM, SIGKILL.
    pub force_step: Duration,
    /// How long a running guest has to let go of a device, a medium or memory.
    pub unplug: Duration,
    /// Between two readings of a machine somebody looks at.
    pub sample_watched: Duration,
    /// Between two readings of any other live machine.
    pub sample_idle: Duration,
    /// Before the second attempt of a download; twice as long before the next.
    pub download_pause: Duration,
    /// How long a server may say nothing.
    pub download_stall: Duration,
    /// How long a machine's snapshots are left alone before their memory is prepared.
    pub prepare_after: Duration,
    /// How old a snapshot is before its memory is packed.
    pub pack_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(30),
            adoption: Duration::from_secs(3),
            heartbeat: Duration::from_secs(5),
            mute_after: Duration::from_secs(5),
            force_step: Duration::from_secs(2),
            unplug: Duration::from_secs(5),
            sample_watched: Duration::from_secs(1),
            sample_idle: Duration::from_secs(15),
            download_pause: Duration::from_secs(2),
            download_stall: Duration::from_secs(30),
            prepare_after: Duration::from_secs(3),
            pack_after: Duration::from_secs(300),
        }
    }
}
