//! The engine as the host uses it: open, ask, watch, close.

mod autostart;
mod backups;
mod copies;
mod groups;
mod snapshots;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use voidvm_model::contract::{
    LogKind, OperationListRequest, Picture, VmCommand, VmCreateRequest, VmLogs, VmLogsRequest, VmStopRequest,
    VmUpdateRequest,
};
use voidvm_model::input::InputEvent;
use voidvm_model::metrics::{MetricHistory, MetricHistoryRequest, MetricStorage};
use voidvm_model::spec::{MachineFile, validate_path};
use voidvm_model::system::{AccelReport, HostStats, HostUsbDevice, ImageInfo};
use voidvm_model::vm::{ActiveAccel, GuestInfo, VmSample};
use voidvm_model::{ErrorBody, Operation, OperationId, Origin, VmId, VmState, VmView};
use voidvm_qemu::process::RunDir;
use voidvm_store::Store;

use crate::bus::EventBus;
use crate::config::{EngineConfig, Preferences};
use crate::ops::{create, files, launch, recover};
use crate::schedule::{EngineSnapshots, Scheduler, SchedulerParts, SystemClock};
use crate::serial::SerialAttach;
use crate::shared::Shared;
use crate::stats::{self, CpuClock};
use crate::storage::{self, Storage};
use crate::supervisor::{Machine, Order};
use crate::thumbnail::Thumbnails;
use crate::{guest, history, images, keyboard, logs, platform, screen, snapshot, suspend, usb};

/// The engine; clones are the same engine. Machines outlive it. Its tasks end with [`Engine::shutdown`] or with the runtime, not
/// with the last clone.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    scheduler: Scheduler,
    marker: snapshot::image::Marker,
    clock: CpuClock,
    thumbnails: Thumbnails,
}

impl Engine {
    /// Opens the engine on a store whose data directory the caller owns.
    ///
    /// What the last owner was in the middle of is finished or undone; every machine gets its supervisor, and those that may have
    /// a process begin to be adopted, all side by side. The list is complete at once; [`Engine::ready`] waits for the adoptions.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The store's, or a directory that cannot be made.
    pub async fn open(config: EngineConfig, store: Store) -> Result<Self, ErrorBody> {
        for dir in [config.data_dir.join("vms"), config.runtime_dir.clone(), config.state_dir.clone()] {
            make_dir(&dir)?;
        }
        let shared = Shared::new(config, store);
        images::tidy(&shared)?;
        let marker = snapshot::image::Marker::set(&shared);
        let cut = recover::recover(&shared).await?;
        images::keep_up(&shared);
        tokio::spawn(logs::keep_bounded(Arc::downgrade(&shared)));
        tokio::spawn(storage::watch(Arc::downgrade(&shared)));
        tokio::spawn(crate::backup::remove_left_over(Arc::downgrade(&shared)));
        tokio::spawn(snapshot::merge_left_over(Arc::downgrade(&shared), cut));
        shared.builders.spawn(history::keep(Arc::downgrade(&shared)));
        tokio::spawn(snapshot::image::keep_images(Arc::downgrade(&shared)));
        tokio::spawn(snapshot::remove_passing(Arc::downgrade(&shared)));
        let scheduler = Scheduler::with(SchedulerParts {
            store: shared.store.clone(),
            bus: shared.bus.clone(),
            ledger: shared.ledger.clone(),
            clock: Arc::new(SystemClock),
            snapshots: Arc::new(EngineSnapshots(Arc::downgrade(&shared))),
            closing: shared.closing.clone(),
            tasks: shared.builders.clone(),
        })
        .await?;
        let inner = Inner {
            shared,
            scheduler,
            marker,
            clock: CpuClock::default(),
            thumbnails: Thumbnails::default(),
        };
        let engine = Self(Arc::new(inner));
        engine.warm_up();
        Ok(engine)
    }

    /// Looks at QEMU before the first start needs it.
    fn warm_up(&self) {
        let shared = Arc::downgrade(&self.0.shared);
        tokio::spawn(async move {
            let Some(shared) = shared.upgrade() else { return };
            match shared.platform.qemu(shared.preferences().qemu_binary).await {
                Ok(qemu) => drop(shared.platform.accel(&qemu).await),
                Err(error) => tracing::warn!(%error, "no QEMU to use"),
            }
        });
    }

    /// Waits until every machine that may have had a process was adopted, found gone, or found mute, and that is written down.
    pub async fn ready(&self) {
        for machine in self.0.shared.fleet.all() {
            machine.settled().await;
        }
        self.0.shared.ledger.flush().await;
    }

    /// What was measured.
    ///
    /// # Errors
    /// A field that is out of bounds; the store's.
    pub async fn history(&self, request: &MetricHistoryRequest) -> Result<MetricHistory, ErrorBody> {
        self.0.shared.history.ask(request).await
    }

    /// What the history of measured values takes.
    ///
    /// # Errors
    /// The store's.
    pub async fn history_storage(&self) -> Result<MetricStorage, ErrorBody> {
        self.0.shared.history.storage().await
    }

    /// Other preferences, from now on.
    pub fn apply_preferences(&self, preferences: Preferences) {
        self.0.shared.prefer(preferences);
        self.warm_up();
    }

    /// Ends the engine. Machines go on; operations that can be cut are interrupted, the others finished.
    pub async fn shutdown(&self) {
        let shared = &self.0.shared;
        shared.closing.cancel();
        shared.builders.close();
        shared.builders.wait().await;
        let machines = shared.fleet.all();
        futures_util::future::join_all(machines.iter().map(|machine| machine.retire())).await;
        shared.ledger.flush().await;
        self.0.marker.clear();
    }

    /// Everything that changes, in one order.
    #[must_use]
    pub fn bus(&self) -> &EventBus {
        &self.0.shared.bus
    }

    /// Pools and volumes.
    #[must_use]
    pub fn storage(&self) -> Storage {
        Storage::new(Arc::clone(&self.0.shared))
    }

    /// Schedules. Nothing runs by itself before [`Scheduler::run_always`].
    #[must_use]
    pub fn schedules(&self) -> &Scheduler {
        &self.0.scheduler
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    fn machine(&self, id: VmId) -> Result<Arc<Machine>, ErrorBody> {
        self.0.shared.fleet.get(id)
    }

    async fn act(&self, id: VmId, order: Order, origin: Origin) -> Result<Operation, ErrorBody> {
        self.machine(id)?.act(order, origin).await
    }

    /// Every machine, in the order of their names; from memory.
    #[must_use]
    pub fn list(&self) -> Vec<VmView> {
        self.0.shared.fleet.views().iter().map(|view| VmView::clone(view)).collect()
    }

    /// One machine.
    ///
    /// # Errors
    /// [`VmNotFound`](voidvm_model::ErrorCode::VmNotFound), as all that take an id.
    pub fn get(&self, id: VmId) -> Result<VmView, ErrorBody> {
        Ok(VmView::clone(&self.machine(id)?.view()))
    }

    /// Watches one machine's view; the newest is always there.
    ///
    /// # Errors
    /// No such machine.
    pub fn watch(&self, id: VmId) -> Result<tokio::sync::watch::Receiver<Arc<VmView>>, ErrorBody> {
        Ok(self.machine(id)?.watch())
    }

    /// Makes a machine; the disk is made after the answer.
    ///
    /// # Errors
    /// What does not hold, with its field.
    pub async fn create(&self, request: VmCreateRequest, origin: Origin) -> Result<Operation, ErrorBody> {
        create::create(&self.0.shared, request, origin).await
    }

    /// Changes a definition; a live machine takes at once what its guest can be given while it runs, and the answer says what
    /// waits, and why.
    ///
    /// # Errors
    /// What does not hold, with its field.
    pub async fn update(&self, request: VmUpdateRequest, origin: Origin) -> Result<VmView, ErrorBody> {
        self.machine(request.id)?.update(request, origin).await
    }

    /// The files a machine uses, with what they take on the disk.
    ///
    /// # Errors
    /// No such machine.
    pub async fn files(&self, id: VmId) -> Result<Vec<MachineFile>, ErrorBody> {
        let view = self.machine(id)?.view();
        let config = self.0.shared.config.clone();
        blocking(move || Ok(files::list(&config, id, &view.spec))).await
    }

    /// Starts a machine.
    ///
    /// # Errors
    /// When its state or another operation forbids it, as all that follow.
    pub async fn start(&self, id: VmId, origin: Origin) -> Result<Operation, ErrorBody> {
        self.act(id, Order::Start, origin).await
    }

    /// Starts a machine so that what its guest writes is thrown away when it stops.
    ///
    /// # Errors
    /// As [`Engine::start`]; not while it is suspended.
    pub async fn start_disposable(&self, id: VmId, origin: Origin) -> Result<Operation, ErrorBody> {
        self.act(id, Order::StartDisposable, origin).await
    }

    /// Writes a machine's memory to disk and ends its process; its next start goes on from there. Forcing it off throws the
    /// memory away.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn suspend(&self, id: VmId, origin: Origin) -> Result<Operation, ErrorBody> {
        self.act(id, Order::Suspend, origin).await
    }

    /// Asks the guest to shut down, or forces the machine off.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn stop(&self, request: VmStopRequest, origin: Origin) -> Result<Operation, ErrorBody> {
        let asked = request.timeout_seconds.map(|seconds| Duration::from_secs(seconds.clamp(1, 3600).into()));
        let patience = asked.unwrap_or_else(|| self.0.shared.preferences().stop_timeout);
        let order = if request.force { Order::ForceOff } else { Order::Stop { patience } };
        self.act(request.id, order, origin).await
    }

    /// Holds the guest.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn pause(&self, id: VmId, origin: Origin) -> Result<Operation, ErrorBody> {
        self.act(id, Order::Pause, origin).await
    }

    /// Lets a held guest go on.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn resume(&self, id: VmId, origin: Origin) -> Result<Operation, ErrorBody> {
        self.act(id, Order::Resume, origin).await
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn reset(&self, id: VmId, origin: Origin) -> Result<Operation, ErrorBody> {
        self.act(id, Order::Reset, origin).await
    }

    /// The command of the next start, and of the run there is.
    ///
    /// # Errors
    /// No usable QEMU, firmware or acceleration.
    pub async fn command(&self, id: VmId) -> Result<VmCommand, ErrorBody> {
        let machine = self.machine(id)?;
        let view = machine.view();
        let shared = &self.0.shared;
        let dir = shared.config.machine_dir(id);
        let suspended = match view.state {
            VmState::Suspended => Some(suspend::read(&dir)?),
            _ => None,
        };
        let of = (id, view.name.as_str(), &view.spec);
        let line = launch::command_line(shared, of, &dir, suspended.as_ref()).await?;
        let words = line.argv.iter().map(|word| word.to_string_lossy().into_owned());
        let next = std::iter::once(line.qemu.binary.to_string_lossy().into_owned()).chain(words).collect();
        let running = machine.run().map(|run| {
            let record = run.record();
            let binary = record.binary.to_string_lossy().into_owned();
            std::iter::once(binary).chain(record.argv.iter().cloned()).collect()
        });
        Ok(VmCommand { next, last: launch::last_command(shared, id), running })
    }

    /// The newest readings after an instant, oldest first; none without a process. Asking keeps them coming once a second.
    ///
    /// # Errors
    /// No such machine.
    pub fn metrics(&self, id: VmId, after: Option<Timestamp>) -> Result<Vec<VmSample>, ErrorBody> {
        Ok(self.machine(id)?.run().map(|run| run.meter.read(after)).unwrap_or_default())
    }

    /// What the guest's agent says.
    ///
    /// # Errors
    /// No such machine.
    pub async fn guest(&self, id: VmId) -> Result<GuestInfo, ErrorBody> {
        match self.machine(id)?.run() {
            Some(run) => Ok(guest::info(&run).await),
            None => Ok(GuestInfo::default()),
        }
    }

    /// The end of a log of the last run.
    ///
    /// # Errors
    /// No such machine, or a log that cannot be read.
    pub async fn logs(&self, request: VmLogsRequest) -> Result<VmLogs, ErrorBody> {
        self.machine(request.id)?;
        let config = &self.0.shared.config;
        let path = match request.log {
            LogKind::Qemu => RunDir::new(&config.runtime_dir, request.id).stderr(),
            LogKind::Serial => config.serial_log(request.id),
        };
        blocking(move || logs::tail(&path, request.tail)).await
    }

    /// The USB devices plugged into the host, and whether a machine is lent them.
    ///
    /// # Errors
    /// When the work ends early.
    pub async fn usb_devices(&self) -> Result<Vec<HostUsbDevice>, ErrorBody> {
        let shared = Arc::clone(&self.0.shared);
        blocking(move || Ok(usb::list(&shared.fleet))).await
    }

    /// The screen as it is now.
    ///
    /// # Errors
    /// Without a process, or when QEMU draws nothing.
    pub async fn screenshot(&self, id: VmId) -> Result<Picture, ErrorBody> {
        let run = self.machine(id)?.live_run()?;
        screen::screenshot(&run).await
    }

    /// A small picture of the screen, at most five seconds old; of a stopped machine, the last there was.
    ///
    /// # Errors
    /// No such machine.
    pub async fn thumbnail(&self, id: VmId) -> Result<Option<Picture>, ErrorBody> {
        let machine = self.machine(id)?;
        let file = files::thumbnail(&self.0.shared.config.machine_dir(id));
        Ok(self.0.thumbnails.get(&machine, &file).await)
    }

    /// Presses keys together, in order, and lets them go.
    ///
    /// # Errors
    /// Without a process; for a name that is no key.
    pub async fn keys(&self, id: VmId, keys: Vec<String>) -> Result<(), ErrorBody> {
        keyboard::press(&self.machine(id)?.live_run()?.qmp()?, &keys).await
    }

    /// Types a text on a US keyboard; takes 8 ms for each character.
    ///
    /// # Errors
    /// Without a process; for a character such a keyboard lacks, and then nothing is typed.
    pub async fn type_text(&self, id: VmId, text: &str) -> Result<(), ErrorBody> {
        keyboard::type_text(&self.machine(id)?.live_run()?.qmp()?, text).await
    }

    /// Delivers what a person did on a console, in order.
    ///
    /// # Errors
    /// Without a process; for a key QEMU does not have.
    pub async fn input(&self, id: VmId, events: Vec<InputEvent>) -> Result<(), ErrorBody> {
        keyboard::deliver(&self.machine(id)?.live_run()?.qmp()?, events).await
    }

    /// Opens the screen for one viewer: a socket that speaks RFB without a password, in nobody else's hands.
    ///
    /// # Errors
    /// Without a process, or when QEMU refuses.
    pub async fn open_screen(&self, id: VmId) -> Result<UnixStream, ErrorBody> {
        let run = self.machine(id)?.live_run()?;
        screen::open(&run).await
    }

    /// Opens the serial port for one viewer.
    ///
    /// # Errors
    /// Without a process, or when the port cannot be opened.
    pub async fn serial(&self, id: VmId) -> Result<SerialAttach, ErrorBody> {
        let run = self.machine(id)?.live_run()?;
        run.serial.attach(&run.dir.serial(), &self.0.shared.config.serial_log(id)).await
    }

    /// A page of the operation log, newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn operations(&self, request: OperationListRequest) -> Result<Vec<Operation>, ErrorBody> {
        self.0.shared.ledger.list(&request).await
    }

    /// One operation, as soon as it has ended or after `patience`.
    ///
    /// # Errors
    /// No such operation.
    pub async fn operation_wait(&self, id: OperationId, patience: Duration) -> Result<Operation, ErrorBody> {
        self.0.shared.ledger.wait(id, patience).await
    }

    /// Gives an operation up, if it waits or can be undone.
    ///
    /// # Errors
    /// No such operation, or one that cannot be given up any more.
    pub async fn cancel(&self, id: OperationId) -> Result<Operation, ErrorBody> {
        self.0.shared.ledger.cancel(id).await
    }

    /// Looks at an image file, and says which machine uses it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn inspect_image(&self, path: &Path) -> Result<ImageInfo, ErrorBody> {
        validate_path("path", path)?;
        let img = platform::qemu_img(self.0.shared.preferences().qemu_binary)?;
        let image = img.info(path).await.map_err(|error| error.body().with_field("path"))?;
        Ok(ImageInfo { used_by: self.0.shared.fleet.user_of(path, None), ..image })
    }

    /// The host's load, and what the machines take of it.
    ///
    /// # Errors
    /// None at present.
    pub async fn stats(&self) -> Result<HostStats, ErrorBody> {
        let this = self.clone();
        blocking(move || {
            let views = this.0.shared.fleet.views();
            let data_dir = &this.0.shared.config.data_dir;
            Ok(stats::read(&this.0.clock, data_dir, views.iter().map(AsRef::as_ref)))
        })
        .await
    }

    /// Whether guests really run under KVM here.
    pub async fn accel_report(&self) -> AccelReport {
        let shared = &self.0.shared;
        match shared.platform.qemu(shared.preferences().qemu_binary).await {
            Ok(qemu) => shared.platform.accel(&qemu).await,
            Err(error) => {
                AccelReport { auto: ActiveAccel::Tcg, kvm_works: false, reason: Some(error.message) }
            }
        }
    }
}

/// Makes a directory for this user alone.
pub(crate) fn make_dir(dir: &Path) -> Result<(), ErrorBody> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| files::io_error(dir, &error))
}

/// Work on files, away from the threads that answer.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ErrorBody> + Send + 'static,
) -> Result<T, ErrorBody> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(ErrorBody::new(voidvm_model::ErrorCode::Internal, format!("The work ended early: {error}.")))
    })
}
