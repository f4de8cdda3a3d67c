//! The owner of a data directory: store, engine, settings, token, and a handler for each command of the contract.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::Stream;
use tokio::sync::watch;
use voidvm_console::ticket::{ConsoleKind, Tickets};
use voidvm_engine::{Engine, EngineConfig, Preferences};
#[allow(clippy::wildcard_imports, reason = "the types the contract names, made to be imported so")]
use voidvm_model::contract::commands::*;
use voidvm_model::system::CheckStatus;
use voidvm_model::{ErrorBody, ErrorCode, Event, Origin, Settings, StreamItem};
use voidvm_store::Store;

use crate::config::{Config, Layers};
use crate::console::{self, ConsoleLine};
use crate::directories::Directories;
use crate::handlers::{Caller, Handlers};
use crate::owner::OwnerLock;
use crate::redact::Redactor;
use crate::secrets::KeychainSecrets;
use crate::token::TokenStore;
use crate::{defaults, doctor, files, logging};

/// Version of the contract.
const API: &str = "v1";

/// The owner. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    engine: Engine,
    store: Store,
    layers: watch::Sender<Layers>,
    /// Settings are changed one after the other: each is made from the ones before.
    changing: tokio::sync::Mutex<()>,
    token: TokenStore,
    tickets: Tickets,
    local_api: Mutex<Option<String>>,
    started: Instant,
    _lock: OwnerLock,
}

impl Host {
    /// Opens store and engine in directories that are ours by `lock`. Machines that run are adopted in the background.
    ///
    /// # Errors
    /// Why the log, the store or the engine cannot be opened.
    pub(crate) async fn open(mut config: Config, lock: OwnerLock) -> Result<Self, ErrorBody> {
        let redactor = Redactor::default();
        let directories = config.directories.clone();
        logging::begin(&directories.logs(), redactor.clone(), config.environment(), logging::Echo::Quiet)?;
        for problem in &config.problems {
            tracing::warn!(field = problem.field.as_deref(), "configuration: {}", problem.message);
        }
        let store = Store::open(&directories.data).await.map_err(|error| error.body())?;
        let rows = store.settings().get_all().await.map_err(|error| error.body())?;
        for problem in config.layers.take_user(rows) {
            tracing::warn!(field = problem.field.as_deref(), "stored setting left out: {}", problem.message);
        }
        let settings = config.layers.settings();
        let usual = EngineConfig::new(
            directories.data.clone(),
            directories.runtime.clone(),
            directories.state.clone(),
        );
        let engine_config = EngineConfig {
            floor: config.floor.unwrap_or(usual.floor),
            config_dir: directories.config_file.parent().map(Path::to_owned),
            demo_disk: defaults::demo(&directories.data, "disk.qcow2"),
            preferences: Preferences::from(&settings),
            secrets: Arc::new(KeychainSecrets::new(&directories.data, redactor.clone())),
            ..usual
        };
        let engine = Engine::open(engine_config, store.clone()).await?;
        tracing::info!(
            data = %directories.data.display(),
            runtime = %directories.runtime.display(),
            version = env!("CARGO_PKG_VERSION"),
            "the engine is open"
        );
        Ok(Self(Arc::new(Inner {
            token: TokenStore::new(&directories.data, redactor),
            layers: watch::Sender::new(config.layers.clone()),
            config,
            engine,
            store,
            changing: tokio::sync::Mutex::new(()),
            tickets: Tickets::default(),
            local_api: Mutex::new(None),
            started: Instant::now(),
            _lock: lock,
        })))
    }

    /// Where everything is.
    #[must_use]
    pub fn directories(&self) -> &Directories {
        &self.0.config.directories
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The local API's token and where it is kept.
    #[must_use]
    pub fn token(&self) -> &TokenStore {
        &self.0.token
    }

    /// The settings in force, now and as they change.
    #[must_use]
    pub fn settings(&self) -> watch::Receiver<Layers> {
        self.0.layers.subscribe()
    }

    /// Tells where the local API listens, `http://127.0.0.1:7770`; nowhere without.
    pub fn set_local_api(&self, url: Option<String>) {
        *self.0.local_api.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    /// Follows events after number `since`, or from now on.
    pub fn subscribe(&self, since: Option<u64>) -> impl Stream<Item = StreamItem> + Send + Unpin + 'static {
        self.0.engine.bus().subscribe(since)
    }

    /// Opens the console behind a path of `vm.console`, using its ticket up.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthenticated`] when the ticket was used or is too old; why the console cannot be opened else.
    pub async fn console(&self, path: &str) -> Result<ConsoleLine, ErrorBody> {
        let ticket = path.rsplit('/').next().unwrap_or_default();
        let (id, kind) = self.0.tickets.redeem(ticket).ok_or_else(|| {
            ErrorBody::new(ErrorCode::Unauthenticated, "This console address was used, or is too old.")
                .with_hint("Ask for a new one.")
        })?;
        console::open(&self.0.engine, id, kind).await
    }

    /// Ends the engine; running machines go on, and the next owner adopts them.
    pub async fn close(&self) {
        self.0.engine.shutdown().await;
        self.0.store.close().await;
        tracing::info!("the engine is closed");
    }

    async fn access(&self, token: &crate::token::Token, kept_in: &crate::token::KeptIn) -> ApiAccess {
        let url = self.0.local_api.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let port = self.0.layers.borrow().settings().local_api_port;
        ApiAccess {
            listening: url.is_some(),
            url: url.unwrap_or_else(|| format!("http://127.0.0.1:{port}")),
            token: token.reveal().to_owned(),
            kept_in: kept_in.to_string(),
        }
    }

    fn qemu_setting(&self) -> String {
        self.0.layers.borrow().settings().qemu_binary
    }

    async fn change_settings(&self, wanted: &Settings, origin: Origin) -> Result<SettingsView, ErrorBody> {
        let _one_at_a_time = self.0.changing.lock().await;
        let mut layers = self.0.layers.borrow().clone();
        layers.user = layers.user_for(wanted)?;
        self.0.store.settings().replace(&layers.user).await.map_err(|error| error.body())?;
        self.0.engine.apply_preferences(Preferences::from(&layers.settings()));
        let view = layers.view(&self.0.config.directories);
        if self.0.layers.send_if_modified(|current| {
            let modified = *current != layers;
            *current = layers;
            modified
        }) {
            self.0.engine.bus().publish(origin, Event::SettingsChanged);
        }
        Ok(view)
    }
}

/// Work on files, away from the threads that answer.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ErrorBody> + Send + 'static,
) -> Result<T, ErrorBody> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(ErrorBody::new(ErrorCode::Internal, format!("The work ended early: {error}.")))
    })
}

impl Handlers for Host {
    async fn vm_list(&self, request: VmListRequest, _: &Caller) -> Result<Vec<VmView>, ErrorBody> {
        let fits = |vm: &VmView| {
            request.state.is_none_or(|state| vm.state == state)
                && request.name.as_ref().is_none_or(|name| vm.name == *name)
        };
        Ok(self.0.engine.list().into_iter().filter(fits).collect())
    }

    async fn vm_get(&self, request: VmRef, _: &Caller) -> Result<VmView, ErrorBody> {
        self.0.engine.get(request.id)
    }

    async fn vm_create(&self, request: VmCreateRequest, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.create(request, caller.origin).await
    }

    async fn vm_update(&self, request: VmUpdateRequest, caller: &Caller) -> Result<VmView, ErrorBody> {
        self.0.engine.update(request, caller.origin).await
    }

    async fn vm_delete(&self, request: VmDeleteRequest, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.delete(request, caller.origin).await
    }

    async fn vm_files(&self, request: VmRef, _: &Caller) -> Result<Vec<MachineFile>, ErrorBody> {
        self.0.engine.files(request.id).await
    }

    async fn vm_start(&self, request: VmStartRequest, caller: &Caller) -> Result<Operation, ErrorBody> {
        if request.disposable {
            return self.0.engine.start_disposable(request.id, caller.origin).await;
        }
        self.0.engine.start(request.id, caller.origin).await
    }

    async fn vm_stop(&self, request: VmStopRequest, caller: &Caller) -> Result<Operation, ErrorBody> {
        if request.timeout_seconds.is_some_and(|seconds| !(1..=3600).contains(&seconds)) {
            return Err(ErrorBody::invalid("timeoutSeconds", "The guest cannot be given that long.")
                .with_hint("Choose 1 to 3600 seconds."));
        }
        self.0.engine.stop(request, caller.origin).await
    }

    async fn vm_pause(&self, request: VmRef, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.pause(request.id, caller.origin).await
    }

    async fn vm_resume(&self, request: VmRef, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.resume(request.id, caller.origin).await
    }

    async fn vm_reset(&self, request: VmRef, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.reset(request.id, caller.origin).await
    }

    async fn vm_command(&self, request: VmRef, _: &Caller) -> Result<VmCommand, ErrorBody> {
        self.0.engine.command(request.id).await
    }

    async fn vm_metrics(&self, request: VmMetricsRequest, _: &Caller) -> Result<Vec<VmSample>, ErrorBody> {
        self.0.engine.metrics(request.id, request.after)
    }

    async fn vm_guest(&self, request: VmRef, _: &Caller) -> Result<GuestInfo, ErrorBody> {
        self.0.engine.guest(request.id).await
    }

    async fn vm_logs(&self, request: VmLogsRequest, _: &Caller) -> Result<VmLogs, ErrorBody> {
        self.0.engine.logs(request).await
    }

    async fn vm_screenshot(&self, request: VmRef, _: &Caller) -> Result<Picture, ErrorBody> {
        self.0.engine.screenshot(request.id).await
    }

    async fn vm_thumbnail(&self, request: VmRef, _: &Caller) -> Result<Option<Picture>, ErrorBody> {
        self.0.engine.thumbnail(request.id).await
    }

    async fn vm_console(&self, request: VmRef, _: &Caller) -> Result<ConsoleTicket, ErrorBody> {
        let vm = self.0.engine.get(request.id)?;
        if !vm.state.is_live() {
            return Err(ErrorBody::new(ErrorCode::InvalidState, format!("“{}” does not run.", vm.name))
                .with_hint("Start it first."));
        }
        let path = |kind| format!("/console/{}", self.0.tickets.issue(request.id, kind));
        Ok(ConsoleTicket { screen: path(ConsoleKind::Screen), serial: path(ConsoleKind::Serial) })
    }

    async fn vm_keys(&self, request: VmKeysRequest, _: &Caller) -> Result<Done, ErrorBody> {
        self.0.engine.keys(request.id, request.keys).await.map(|()| Done::DONE)
    }

    async fn vm_type(&self, request: VmTypeRequest, _: &Caller) -> Result<Done, ErrorBody> {
        self.0.engine.type_text(request.id, &request.text).await.map(|()| Done::DONE)
    }

    async fn operation_list(
        &self,
        request: OperationListRequest,
        _: &Caller,
    ) -> Result<Vec<Operation>, ErrorBody> {
        if request.limit.is_some_and(|limit| !(1..=500).contains(&limit)) {
            return Err(ErrorBody::invalid("limit", "So many operations cannot be had at once.")
                .with_hint("Choose 1 to 500."));
        }
        self.0.engine.operations(request).await
    }

    async fn operation_get(&self, request: OperationGetRequest, _: &Caller) -> Result<Operation, ErrorBody> {
        let seconds = request.wait_seconds.unwrap_or(0);
        if seconds > 60 {
            return Err(ErrorBody::invalid("waitSeconds", "That is too long to wait in one request.")
                .with_hint("Choose 0 to 60."));
        }
        self.0.engine.operation_wait(request.id, std::time::Duration::from_secs(seconds.into())).await
    }

    async fn operation_cancel(&self, request: OperationRef, _: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.cancel(request.id).await
    }

    async fn vm_suspend(&self, request: VmRef, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.suspend(request.id, caller.origin).await
    }

    async fn snapshot_list(&self, request: VmRef, _caller: &Caller) -> Result<SnapshotTree, ErrorBody> {
        self.engine().snapshots(request.id).await
    }

    async fn snapshot_create(
        &self,
        request: SnapshotCreateRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().take_snapshot(request, caller.origin).await
    }

    async fn snapshot_update(
        &self,
        request: SnapshotUpdateRequest,
        caller: &Caller,
    ) -> Result<Snapshot, ErrorBody> {
        self.engine().update_snapshot(request, caller.origin).await
    }

    async fn snapshot_restore(
        &self,
        request: SnapshotRestoreRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().restore_snapshot(request, caller.origin).await
    }

    async fn snapshot_delete(&self, request: SnapshotRef, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.engine().delete_snapshot(request, caller.origin).await
    }

    async fn snapshot_fork(
        &self,
        request: SnapshotForkRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().fork_snapshot(request, caller.origin).await
    }

    async fn snapshot_boot(
        &self,
        request: SnapshotBootRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().boot_snapshot(request, caller.origin).await
    }

    async fn snapshot_flatten(&self, request: VmRef, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.engine().flatten(request, caller.origin).await
    }

    async fn snapshot_compare(
        &self,
        request: SnapshotCompareRequest,
        _caller: &Caller,
    ) -> Result<SnapshotDifference, ErrorBody> {
        self.engine().compare_snapshots(request).await
    }

    async fn snapshot_picture(
        &self,
        request: SnapshotRef,
        _caller: &Caller,
    ) -> Result<Option<Picture>, ErrorBody> {
        self.engine().snapshot_picture(request).await
    }

    async fn group_list(&self, _: Empty, _: &Caller) -> Result<Vec<Group>, ErrorBody> {
        self.engine().groups().await
    }

    async fn group_snapshot_list(
        &self,
        request: GroupRef,
        _: &Caller,
    ) -> Result<Vec<GroupSnapshot>, ErrorBody> {
        self.engine().group_snapshots(request).await
    }

    async fn group_snapshot_create(
        &self,
        request: GroupSnapshotCreateRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().take_group_snapshot(request, caller.origin).await
    }

    async fn group_snapshot_restore(
        &self,
        request: GroupSnapshotRestoreRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().restore_group_snapshot(request, caller.origin).await
    }

    async fn group_snapshot_delete(
        &self,
        request: GroupSnapshotRef,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().delete_group_snapshot(request, caller.origin).await
    }

    async fn group_snapshot_fork(
        &self,
        request: GroupSnapshotForkRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().fork_group_snapshot(request, caller.origin).await
    }

    async fn backup_init(
        &self,
        request: BackupInitRequest,
        _: &Caller,
    ) -> Result<BackupRepository, ErrorBody> {
        self.engine().init_backups(request).await
    }

    async fn backup_list(&self, request: BackupListRequest, _: &Caller) -> Result<BackupList, ErrorBody> {
        self.engine().backups(request).await
    }

    async fn backup_run(&self, request: BackupRunRequest, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.engine().back_up(request, caller.origin).await
    }

    async fn backup_verify(
        &self,
        request: BackupVerifyRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().verify_backups(request, caller.origin).await
    }

    async fn backup_restore(
        &self,
        request: BackupRestoreRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().restore_backup(request, caller.origin).await
    }

    async fn backup_drill(
        &self,
        request: BackupDrillRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().drill_backup(request, caller.origin).await
    }

    async fn backup_forget(
        &self,
        request: BackupForgetRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.engine().forget_backups(request, caller.origin).await
    }

    async fn vm_clone(&self, request: VmCloneRequest, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.clone_machine(request, caller.origin).await
    }

    async fn vm_export(&self, request: VmExportRequest, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.export(request, caller.origin).await
    }

    async fn vm_import(&self, request: VmImportRequest, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.import(request, caller.origin).await
    }

    async fn vm_import_inspect(
        &self,
        request: ImportInspectRequest,
        _: &Caller,
    ) -> Result<ImportPlan, ErrorBody> {
        self.0.engine.inspect_import(Path::new(&request.path)).await
    }

    async fn vm_ssh(&self, request: VmRef, _: &Caller) -> Result<Option<SshAccess>, ErrorBody> {
        self.0.engine.ssh(request.id).await
    }

    async fn schedule_list(&self, _: Empty, _: &Caller) -> Result<Vec<Schedule>, ErrorBody> {
        Ok(self.0.engine.schedules().list())
    }

    async fn schedule_get(&self, request: ScheduleRef, _: &Caller) -> Result<Schedule, ErrorBody> {
        self.0.engine.schedules().get(request.id)
    }

    async fn schedule_create(
        &self,
        request: ScheduleCreateRequest,
        caller: &Caller,
    ) -> Result<Schedule, ErrorBody> {
        self.0.engine.schedules().create(request, caller.origin).await
    }

    async fn schedule_update(
        &self,
        request: ScheduleUpdateRequest,
        caller: &Caller,
    ) -> Result<Schedule, ErrorBody> {
        self.0.engine.schedules().update(request, caller.origin).await
    }

    async fn schedule_delete(&self, request: ScheduleRef, caller: &Caller) -> Result<Done, ErrorBody> {
        self.0.engine.schedules().delete(request.id, caller.origin).await.map(|()| Done::DONE)
    }

    async fn schedule_run(&self, request: ScheduleRef, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.schedules().run(request.id, caller.origin).await
    }

    async fn schedule_runs(
        &self,
        request: ScheduleRunsRequest,
        _: &Caller,
    ) -> Result<Vec<ScheduleRun>, ErrorBody> {
        self.0.engine.schedules().runs(request).await
    }

    async fn schedule_preview(
        &self,
        request: SchedulePreviewRequest,
        _: &Caller,
    ) -> Result<SchedulePreview, ErrorBody> {
        self.0.engine.schedules().preview(request).await
    }

    async fn image_list(&self, _: Empty, _: &Caller) -> Result<Vec<LibraryImage>, ErrorBody> {
        self.0.engine.images().await
    }

    async fn image_get(&self, request: ImageRef, _: &Caller) -> Result<LibraryImage, ErrorBody> {
        self.0.engine.image(request.id).await
    }

    async fn image_import(
        &self,
        request: ImageImportRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.0.engine.image_import(request, caller.origin).await
    }

    async fn image_download(
        &self,
        request: ImageDownloadRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.0.engine.image_download(request, caller.origin).await
    }

    async fn image_update(
        &self,
        request: ImageUpdateRequest,
        caller: &Caller,
    ) -> Result<LibraryImage, ErrorBody> {
        self.0.engine.image_update(request, caller.origin).await
    }

    async fn image_delete(&self, request: ImageRef, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.image_delete(request.id, caller.origin).await
    }

    async fn image_catalogue(&self, _: Empty, _: &Caller) -> Result<Vec<CatalogueEntry>, ErrorBody> {
        self.0.engine.catalogue().await
    }

    async fn pool_list(&self, _: Empty, _: &Caller) -> Result<Vec<Pool>, ErrorBody> {
        self.0.engine.storage().pools().await
    }

    async fn pool_create(&self, request: PoolCreateRequest, caller: &Caller) -> Result<Pool, ErrorBody> {
        self.0.engine.storage().create_pool(request, caller.origin).await
    }

    async fn pool_update(&self, request: PoolUpdateRequest, caller: &Caller) -> Result<Pool, ErrorBody> {
        self.0.engine.storage().update_pool(request, caller.origin).await
    }

    async fn pool_delete(&self, request: PoolRef, caller: &Caller) -> Result<Done, ErrorBody> {
        self.0.engine.storage().delete_pool(request.id, caller.origin).await
    }

    async fn volume_list(&self, request: PoolRef, _: &Caller) -> Result<Vec<Volume>, ErrorBody> {
        self.0.engine.storage().volumes(request.id).await
    }

    async fn volume_create(
        &self,
        request: VolumeCreateRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.0.engine.storage().create(request, caller.origin).await
    }

    async fn volume_resize(
        &self,
        request: VolumeResizeRequest,
        caller: &Caller,
    ) -> Result<Operation, ErrorBody> {
        self.0.engine.storage().resize(request, caller.origin).await
    }

    async fn volume_copy(&self, request: VolumeCopyRequest, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.storage().copy(request, caller.origin).await
    }

    async fn volume_move(&self, request: VolumeMoveRequest, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.storage().relocate(request, caller.origin).await
    }

    async fn volume_reclaim(&self, request: VolumeRef, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.storage().reclaim(request, caller.origin).await
    }

    async fn volume_check(&self, request: VolumeRef, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.storage().check(request, caller.origin).await
    }

    async fn volume_delete(&self, request: VolumeRef, caller: &Caller) -> Result<Operation, ErrorBody> {
        self.0.engine.storage().remove(request, caller.origin).await
    }

    async fn os_list(&self, request: OsListRequest, _: &Caller) -> Result<Vec<OsPreset>, ErrorBody> {
        self.0.engine.operating_systems(request.search.as_deref()).await
    }

    async fn os_detect(&self, request: OsDetectRequest, _: &Caller) -> Result<Option<OsPreset>, ErrorBody> {
        self.0.engine.detect_os(Path::new(&request.path)).await
    }

    async fn usb_list(&self, _: Empty, _: &Caller) -> Result<Vec<HostUsbDevice>, ErrorBody> {
        self.0.engine.usb_devices().await
    }

    async fn image_inspect(&self, request: ImageInspectRequest, _: &Caller) -> Result<ImageInfo, ErrorBody> {
        self.0.engine.inspect_image(Path::new(&request.path)).await
    }

    async fn files_list(&self, request: FilesListRequest, _: &Caller) -> Result<DirectoryListing, ErrorBody> {
        let home = self.0.config.environment().directory("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let path = request.path.map_or(home, PathBuf::from);
        blocking(move || files::list(&path)).await
    }

    async fn settings_get(&self, _: Empty, _: &Caller) -> Result<SettingsView, ErrorBody> {
        Ok(self.0.layers.borrow().view(&self.0.config.directories))
    }

    async fn settings_update(
        &self,
        request: SettingsUpdateRequest,
        caller: &Caller,
    ) -> Result<SettingsView, ErrorBody> {
        self.change_settings(&request.settings, caller.origin).await
    }

    async fn system_stats(&self, _: Empty, _: &Caller) -> Result<HostStats, ErrorBody> {
        self.0.engine.stats().await
    }

    async fn metrics_history(
        &self,
        request: MetricHistoryRequest,
        _: &Caller,
    ) -> Result<MetricHistory, ErrorBody> {
        self.0.engine.history(&request).await
    }

    async fn metrics_storage(&self, _: Empty, _: &Caller) -> Result<MetricStorage, ErrorBody> {
        self.0.engine.history_storage().await
    }

    async fn system_health(&self, _: Empty, _: &Caller) -> Result<Health, ErrorBody> {
        let config = self.0.config.clone();
        let checks = blocking(move || Ok(doctor::cheap(&config))).await?;
        let worst = [CheckStatus::Failed, CheckStatus::Warning]
            .into_iter()
            .find(|status| checks.iter().any(|check| check.status == *status));
        Ok(Health {
            status: worst.unwrap_or(CheckStatus::Ok),
            uptime_seconds: self.0.started.elapsed().as_secs(),
        })
    }

    async fn system_version(&self, _: Empty, _: &Caller) -> Result<VersionInfo, ErrorBody> {
        Ok(VersionInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: API.to_owned(),
            qemu: doctor::qemu_version(&self.qemu_setting()).await,
            pid: std::process::id(),
        })
    }

    async fn system_doctor(&self, _: Empty, _: &Caller) -> Result<DoctorReport, ErrorBody> {
        let accel = self.0.engine.accel_report().await;
        Ok(doctor::examine(&self.0.config, &self.qemu_setting(), Some(accel)).await)
    }

    async fn system_defaults(&self, _: Empty, _: &Caller) -> Result<CreateDefaults, ErrorBody> {
        let settings = self.0.layers.borrow().settings();
        defaults::of_new_machine(&self.0.engine, &settings, &self.0.config.directories.data).await
    }

    async fn api_access(&self, _: Empty, _: &Caller) -> Result<ApiAccess, ErrorBody> {
        let (token, kept_in) = self.0.token.get().await?;
        Ok(self.access(&token, &kept_in).await)
    }

    async fn api_token_renew(&self, _: Empty, caller: &Caller) -> Result<ApiAccess, ErrorBody> {
        let (token, kept_in) = self.0.token.renew().await?;
        tracing::info!(origin = caller.origin.as_str(), "the access key of the local API was replaced");
        Ok(self.access(&token, &kept_in).await)
    }
}
