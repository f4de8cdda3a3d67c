//! The contract: every command, once.
//!
//! [`for_each_command`] hands the whole list to a macro of the caller's. From it come the handlers' trait and the dispatcher
//! (`host`), the REST routes (`server`), the TypeScript map and the OpenAPI document (`examples/gen.rs`). A command without a
//! handler does not compile. Never in the list: console bytes, uploads, log tails, native dialogs.

mod requests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

pub use requests::*;

/// How a command behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// Reads; changes nothing.
    Query,
    /// Changes something and is done when it answers.
    Mutation,
    /// Starts work that goes on; answers with its [`crate::Operation`].
    Operation,
}

/// HTTP method of the REST route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// GET.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
}

/// How far a token reaches; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// See.
    Read,
    /// Start, stop, type.
    Operate,
    /// Create, change, delete, settings, the host's files.
    Admin,
}

/// One command of the list, as data.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CommandInfo {
    /// Wire name, `vm.start`.
    pub name: &'static str,
    /// How it behaves.
    pub kind: CommandKind,
    /// HTTP method.
    pub method: HttpMethod,
    /// Path below `/api/v1`, with `{id}` where the request's field of that name goes.
    pub path: &'static str,
    /// The scope it takes.
    pub scope: Scope,
    /// One English sentence.
    pub summary: &'static str,
}

/// Hands the list of commands to the macro `$callback`.
///
/// An entry is `/// summary`, then `method_name "wire.name" Kind Method "/path" Scope: Request => Reply;`.
/// Request and reply types are named as the modules of this crate name them; the caller's macro brings them into scope with
/// `use voidvm_model::contract::commands::*`.
#[macro_export]
macro_rules! for_each_command {
    ($callback:ident) => {
        $callback! {
            /// Every machine, in the order of their names.
            vm_list "vm.list" Query Get "/vms" Read: VmListRequest => Vec<VmView>;
            /// One machine.
            vm_get "vm.get" Query Get "/vms/{id}" Read: VmRef => VmView;
            /// Define a machine and make its disk.
            vm_create "vm.create" Operation Post "/vms" Admin: VmCreateRequest => Operation;
            /// Change a machine's definition; a live machine takes at once what its guest can be given while it runs.
            vm_update "vm.update" Mutation Put "/vms/{id}" Admin: VmUpdateRequest => VmView;
            /// Remove a machine and the files that are its own.
            vm_delete "vm.delete" Operation Delete "/vms/{id}" Admin: VmDeleteRequest => Operation;
            /// The files a machine uses, and what deleting it would remove.
            vm_files "vm.files" Query Get "/vms/{id}/files" Read: VmRef => Vec<MachineFile>;
            /// Start a machine.
            vm_start "vm.start" Operation Post "/vms/{id}/start" Operate: VmStartRequest => Operation;
            /// Write a running machine's memory to disk and end its process; its next start goes on from there.
            vm_suspend "vm.suspend" Operation Post "/vms/{id}/suspend" Operate: VmRef => Operation;
            /// Ask the guest to shut down, or end it at once with `force`.
            vm_stop "vm.stop" Operation Post "/vms/{id}/stop" Operate: VmStopRequest => Operation;
            /// Hold the guest.
            vm_pause "vm.pause" Operation Post "/vms/{id}/pause" Operate: VmRef => Operation;
            /// Let a held guest go on.
            vm_resume "vm.resume" Operation Post "/vms/{id}/resume" Operate: VmRef => Operation;
            /// Press the reset button.
            vm_reset "vm.reset" Operation Post "/vms/{id}/reset" Operate: VmRef => Operation;
            /// The exact QEMU command of the next start, and of the run there is.
            vm_command "vm.command" Query Get "/vms/{id}/command" Read: VmRef => VmCommand;
            /// The newest readings, oldest first; asking keeps the machine sampled once a second.
            vm_metrics "vm.metrics" Query Get "/vms/{id}/metrics" Read: VmMetricsRequest => Vec<VmSample>;
            /// What the guest agent says.
            vm_guest "vm.guest" Query Get "/vms/{id}/guest" Read: VmRef => GuestInfo;
            /// The end of one of a machine's logs.
            vm_logs "vm.logs" Query Get "/vms/{id}/logs" Read: VmLogsRequest => VmLogs;
            /// The screen as it is now, as PNG.
            vm_screenshot "vm.screenshot" Query Get "/vms/{id}/screenshot" Read: VmRef => Picture;
            /// A small picture of the screen, or of the last one there was.
            vm_thumbnail "vm.thumbnail" Query Get "/vms/{id}/thumbnail" Read: VmRef => Option<Picture>;
            /// Where a console can be opened: one-use addresses.
            vm_console "vm.console" Query Get "/vms/{id}/console" Operate: VmRef => ConsoleTicket;
            /// Press keys together, in order, and let them go.
            vm_keys "vm.keys" Mutation Post "/vms/{id}/keys" Operate: VmKeysRequest => Done;
            /// Type a text on the guest's keyboard (US layout).
            vm_type "vm.type" Mutation Post "/vms/{id}/type" Operate: VmTypeRequest => Done;
            /// The newest operations first.
            operation_list "operation.list" Query Get "/operations" Read: OperationListRequest => Vec<Operation>;
            /// One operation; with `waitSeconds`, as soon as it has ended or the time is over.
            operation_get "operation.get" Query Get "/operations/{id}" Read: OperationGetRequest => Operation;
            /// Give up an operation that waits or can be undone.
            operation_cancel "operation.cancel" Mutation Post "/operations/{id}/cancel" Operate: OperationRef => Operation;
            /// Make a copy of a machine.
            vm_clone "vm.clone" Operation Post "/vms/{id}/clone" Admin: VmCloneRequest => Operation;
            /// Write a machine to one file.
            vm_export "vm.export" Operation Post "/vms/{id}/export" Admin: VmExportRequest => Operation;
            /// Make a machine of a file of another program or computer.
            vm_import "vm.import" Operation Post "/vms/import" Admin: VmImportRequest => Operation;
            /// Look at a file of another program: what importing it would make.
            vm_import_inspect "vm.import.inspect" Query Post "/vms/import/inspect" Admin: ImportInspectRequest => ImportPlan;
            /// How to reach a guest by ssh.
            vm_ssh "vm.ssh" Query Get "/vms/{id}/ssh" Operate: VmRef => Option<SshAccess>;
            /// A machine's snapshots, as a tree.
            snapshot_list "snapshot.list" Query Get "/vms/{id}/snapshots" Read: VmRef => SnapshotTree;
            /// Take a snapshot of the whole machine; a running guest is held for some hundredths of a second.
            snapshot_create "snapshot.create" Operation Post "/vms/{id}/snapshots" Operate: SnapshotCreateRequest => Operation;
            /// Change a snapshot's name, text, tags, or whether it is kept for good.
            snapshot_update "snapshot.update" Mutation Put "/vms/{id}/snapshots/{snapshot}" Operate: SnapshotUpdateRequest => Snapshot;
            /// Go back to a snapshot; the present state is kept as another one first.
            snapshot_restore "snapshot.restore" Operation Post "/vms/{id}/snapshots/{snapshot}/restore" Operate: SnapshotRestoreRequest => Operation;
            /// Remove a snapshot; what others need of it stays.
            snapshot_delete "snapshot.delete" Operation Delete "/vms/{id}/snapshots/{snapshot}" Admin: SnapshotRef => Operation;
            /// Make new machines of a snapshot, which share its disks.
            snapshot_fork "snapshot.fork" Operation Post "/vms/{id}/snapshots/{snapshot}/fork" Admin: SnapshotForkRequest => Operation;
            /// Start a machine made of a snapshot that is thrown away when it stops.
            snapshot_boot "snapshot.boot" Operation Post "/vms/{id}/snapshots/{snapshot}/boot" Admin: SnapshotBootRequest => Operation;
            /// Copy all that a machine's disks stand on into their newest layers; takes room, and snapshots keep theirs.
            snapshot_flatten "snapshot.flatten" Operation Post "/vms/{id}/flatten" Operate: VmRef => Operation;
            /// What differs between two snapshots, or between one and the present.
            snapshot_compare "snapshot.compare" Query Get "/vms/{id}/snapshots/{snapshot}/compare" Read: SnapshotCompareRequest => SnapshotDifference;
            /// The screen at the instant of a snapshot, as a small picture.
            snapshot_picture "snapshot.picture" Query Get "/vms/{id}/snapshots/{snapshot}/picture" Read: SnapshotRef => Option<Picture>;
            /// The groups machines stand in, or that there are snapshots of, by name.
            group_list "group.list" Query Get "/groups" Read: Empty => Vec<Group>;
            /// The snapshots of a group, oldest first.
            group_snapshot_list "group.snapshot.list" Query Get "/groups/{group}/snapshots" Read: GroupRef => Vec<GroupSnapshot>;
            /// Take a snapshot of all machines of a group at one instant: of all of them, or of none.
            group_snapshot_create "group.snapshot.create" Operation Post "/groups/{group}/snapshots" Operate: GroupSnapshotCreateRequest => Operation;
            /// Take all machines of a group back to one instant; the present is kept as another snapshot of the group first.
            group_snapshot_restore "group.snapshot.restore" Operation Post "/groups/{group}/snapshots/{snapshot}/restore" Operate: GroupSnapshotRestoreRequest => Operation;
            /// Remove a snapshot of a group, with those of its machines.
            group_snapshot_delete "group.snapshot.delete" Operation Delete "/groups/{group}/snapshots/{snapshot}" Admin: GroupSnapshotRef => Operation;
            /// Make a new group of machines of a snapshot of one, which share its disks.
            group_snapshot_fork "group.snapshot.fork" Operation Post "/groups/{group}/snapshots/{snapshot}/fork" Admin: GroupSnapshotForkRequest => Operation;
            /// Every schedule, by name.
            schedule_list "schedule.list" Query Get "/schedules" Read: Empty => Vec<Schedule>;
            /// One schedule.
            schedule_get "schedule.get" Query Get "/schedules/{id}" Read: ScheduleRef => Schedule;
            /// Have snapshots taken again and again.
            schedule_create "schedule.create" Mutation Post "/schedules" Admin: ScheduleCreateRequest => Schedule;
            /// Change a schedule, also whether it runs by itself.
            schedule_update "schedule.update" Mutation Put "/schedules/{id}" Admin: ScheduleUpdateRequest => Schedule;
            /// Forget a schedule; the snapshots it took stay.
            schedule_delete "schedule.delete" Mutation Delete "/schedules/{id}" Admin: ScheduleRef => Done;
            /// Run a schedule now, beside its own times.
            schedule_run "schedule.run" Operation Post "/schedules/{id}/run" Operate: ScheduleRef => Operation;
            /// What a schedule did, newest first.
            schedule_runs "schedule.runs" Query Get "/schedules/{id}/runs" Read: ScheduleRunsRequest => Vec<ScheduleRun>;
            /// What a schedule would do: its next runs, and which snapshots it would keep and remove now.
            schedule_preview "schedule.preview" Query Post "/schedules/preview" Read: SchedulePreviewRequest => SchedulePreview;
            /// Begin backups in a directory.
            backup_init "backup.init" Mutation Post "/backups/init" Admin: BackupInitRequest => BackupRepository;
            /// The backups in a directory.
            backup_list "backup.list" Query Post "/backups/list" Admin: BackupListRequest => BackupList;
            /// Back a machine up as it is now; a running guest goes on.
            backup_run "backup.run" Operation Post "/backups/run" Admin: BackupRunRequest => Operation;
            /// Check that backups are what was written.
            backup_verify "backup.verify" Operation Post "/backups/verify" Admin: BackupVerifyRequest => Operation;
            /// Make a new machine of a backup.
            backup_restore "backup.restore" Operation Post "/backups/restore" Admin: BackupRestoreRequest => Operation;
            /// See whether a backup comes up, on a machine apart that is removed again.
            backup_drill "backup.drill" Operation Post "/backups/drill" Admin: BackupDrillRequest => Operation;
            /// Remove backups, and what none of the others needs.
            backup_forget "backup.forget" Operation Post "/backups/forget" Admin: BackupForgetRequest => Operation;
            /// Every image of the library, by name.
            image_list "image.list" Query Get "/images" Read: Empty => Vec<LibraryImage>;
            /// One image.
            image_get "image.get" Query Get "/images/{id}" Read: ImageRef => LibraryImage;
            /// Bring a file into the library.
            image_import "image.import" Operation Post "/images" Admin: ImageImportRequest => Operation;
            /// Fetch a file into the library.
            image_download "image.download" Operation Post "/images/download" Admin: ImageDownloadRequest => Operation;
            /// Change an image's entry.
            image_update "image.update" Mutation Put "/images/{id}" Admin: ImageUpdateRequest => LibraryImage;
            /// Remove an image, and its file where that is the library's own.
            image_delete "image.delete" Operation Delete "/images/{id}" Admin: ImageRef => Operation;
            /// Well-known images that can be downloaded.
            image_catalogue "image.catalogue" Query Get "/images/catalogue" Read: Empty => Vec<CatalogueEntry>;
            /// Every pool, by name.
            pool_list "pool.list" Query Get "/storage" Read: Empty => Vec<Pool>;
            /// Make a directory a pool.
            pool_create "pool.create" Mutation Post "/storage" Admin: PoolCreateRequest => Pool;
            /// Change a pool.
            pool_update "pool.update" Mutation Put "/storage/{id}" Admin: PoolUpdateRequest => Pool;
            /// Forget a pool; its directory and files stay.
            pool_delete "pool.delete" Mutation Delete "/storage/{id}" Admin: PoolRef => Done;
            /// The volumes of a pool, by name.
            volume_list "volume.list" Query Get "/storage/{id}/volumes" Read: PoolRef => Vec<Volume>;
            /// Make a volume.
            volume_create "volume.create" Operation Post "/storage/{id}/volumes" Admin: VolumeCreateRequest => Operation;
            /// Change a volume's size.
            volume_resize "volume.resize" Operation Post "/storage/{id}/volumes/resize" Admin: VolumeResizeRequest => Operation;
            /// Copy a volume, also into another format or pool.
            volume_copy "volume.copy" Operation Post "/storage/{id}/volumes/copy" Admin: VolumeCopyRequest => Operation;
            /// Move a volume to another pool; its machine follows.
            volume_move "volume.move" Operation Post "/storage/{id}/volumes/move" Admin: VolumeMoveRequest => Operation;
            /// Give the space a volume no longer needs back to the host.
            volume_reclaim "volume.reclaim" Operation Post "/storage/{id}/volumes/reclaim" Admin: VolumeRef => Operation;
            /// Check a volume's structure and mend it.
            volume_check "volume.check" Operation Post "/storage/{id}/volumes/check" Admin: VolumeRef => Operation;
            /// Remove a volume that no machine uses.
            volume_delete "volume.delete" Operation Post "/storage/{id}/volumes/delete" Admin: VolumeRef => Operation;
            /// Operating systems a machine can be prepared for.
            os_list "os.list" Query Get "/os" Read: OsListRequest => Vec<OsPreset>;
            /// The operating system on a medium, and what it wants.
            os_detect "os.detect" Query Post "/os/detect" Admin: OsDetectRequest => Option<OsPreset>;
            /// USB devices that are plugged into the host now.
            usb_list "usb.list" Query Get "/system/usb" Read: Empty => Vec<HostUsbDevice>;
            /// Look at an image file.
            image_inspect "image.inspect" Query Post "/images/inspect" Admin: ImageInspectRequest => ImageInfo;
            /// List a directory of the host: directories, disk images and ISOs.
            files_list "files.list" Query Get "/files" Admin: FilesListRequest => DirectoryListing;
            /// The settings in force.
            settings_get "settings.get" Query Get "/settings" Read: Empty => SettingsView;
            /// Change settings.
            settings_update "settings.update" Mutation Put "/settings" Admin: SettingsUpdateRequest => SettingsView;
            /// The host's load and what the machines take of it.
            system_stats "system.stats" Query Get "/system/stats" Read: Empty => HostStats;
            /// What was measured of machines, the host and pools.
            metrics_history "metrics.history" Query Post "/metrics/history" Read: MetricHistoryRequest => MetricHistory;
            /// What the history of measured values takes.
            metrics_storage "metrics.storage" Query Get "/metrics/storage" Read: Empty => MetricStorage;
            /// Whether the engine is up.
            system_health "system.health" Query Get "/system/health" Read: Empty => Health;
            /// What runs here.
            system_version "system.version" Query Get "/system/version" Read: Empty => VersionInfo;
            /// Look for everything that could be wrong with this host.
            system_doctor "system.doctor" Query Get "/system/doctor" Read: Empty => DoctorReport;
            /// What a new machine would get.
            system_defaults "system.defaults" Query Get "/system/defaults" Read: Empty => CreateDefaults;
            /// The local API's address and token, to open it in a browser.
            api_access "api.access" Query Get "/system/api" Admin: Empty => ApiAccess;
            /// Replace the local API's token; sessions opened with the old one end.
            api_token_renew "api.token.renew" Mutation Post "/system/api/token" Admin: Empty => ApiAccess;
        }
    };
}

/// The types the list names, for `use voidvm_model::contract::commands::*`.
pub mod commands {
    pub use super::{
        ApiAccess, ConsoleTicket, Done, Empty, FilesListRequest, ImageInspectRequest, OperationGetRequest,
        OperationListRequest, OperationRef, Picture, SettingsUpdateRequest, SshAccess, VmCommand,
        VmCreateRequest, VmDeleteRequest, VmKeysRequest, VmListRequest, VmLogs, VmLogsRequest,
        VmMetricsRequest, VmRef, VmStartRequest, VmStopRequest, VmTypeRequest, VmUpdateRequest,
    };
    pub use crate::backup::{
        BackupDrillRequest, BackupForgetRequest, BackupInitRequest, BackupList, BackupListRequest,
        BackupRepository, BackupRestoreRequest, BackupRunRequest, BackupVerifyRequest,
    };
    pub use crate::group::{
        Group, GroupRef, GroupSnapshot, GroupSnapshotCreateRequest, GroupSnapshotForkRequest,
        GroupSnapshotRef, GroupSnapshotRestoreRequest,
    };
    pub use crate::guest_os::{OsDetectRequest, OsListRequest, OsPreset};
    pub use crate::image::{
        CatalogueEntry, ImageDownloadRequest, ImageImportRequest, ImageRef, ImageUpdateRequest, LibraryImage,
    };
    pub use crate::metrics::{MetricHistory, MetricHistoryRequest, MetricStorage};
    pub use crate::operation::Operation;
    pub use crate::schedule::{
        Schedule, ScheduleCreateRequest, SchedulePreview, SchedulePreviewRequest, ScheduleRef, ScheduleRun,
        ScheduleRunsRequest, ScheduleUpdateRequest,
    };
    pub use crate::settings::SettingsView;
    pub use crate::snapshot::{
        Snapshot, SnapshotBootRequest, SnapshotCompareRequest, SnapshotCreateRequest, SnapshotDifference,
        SnapshotForkRequest, SnapshotRef, SnapshotRestoreRequest, SnapshotTree, SnapshotUpdateRequest,
    };
    pub use crate::spec::MachineFile;
    pub use crate::storage::{
        Pool, PoolCreateRequest, PoolRef, PoolUpdateRequest, Volume, VolumeCopyRequest, VolumeCreateRequest,
        VolumeMoveRequest, VolumeRef, VolumeResizeRequest,
    };
    pub use crate::system::{
        CreateDefaults, DirectoryListing, DoctorReport, Health, HostStats, HostUsbDevice, ImageInfo,
        VersionInfo,
    };
    pub use crate::transfer::{
        ImportInspectRequest, ImportPlan, VmCloneRequest, VmExportRequest, VmImportRequest,
    };
    pub use crate::vm::{GuestInfo, VmSample, VmView};
}

macro_rules! command_infos {
    ($(#[doc = $doc:literal] $method:ident $name:literal $kind:ident $http:ident $path:literal $scope:ident:
        $request:ty => $reply:ty;)*) => {
        /// Every command, as data.
        pub const COMMANDS: &[CommandInfo] = &[$(CommandInfo {
            name: $name,
            kind: CommandKind::$kind,
            method: HttpMethod::$http,
            path: $path,
            scope: Scope::$scope,
            summary: $doc.trim_ascii(),
        },)*];
    };
}
for_each_command!(command_infos);

/// Looks a command up by its wire name.
#[must_use]
pub fn command(name: &str) -> Option<&'static CommandInfo> {
    COMMANDS.iter().find(|command| command.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_routes_are_unique() {
        let mut names = std::collections::BTreeSet::new();
        let mut routes = std::collections::BTreeSet::new();
        for command in COMMANDS {
            assert!(names.insert(command.name), "{} twice", command.name);
            assert!(routes.insert((format!("{:?}", command.method), command.path)), "{} twice", command.path);
            assert!(!command.summary.is_empty());
        }
    }

    #[test]
    fn queries_change_nothing_and_never_use_put_or_delete() {
        for command in COMMANDS {
            if command.kind == CommandKind::Query {
                assert!(matches!(command.method, HttpMethod::Get | HttpMethod::Post), "{}", command.name);
            } else {
                assert_ne!(command.method, HttpMethod::Get, "{}", command.name);
            }
        }
    }
}
