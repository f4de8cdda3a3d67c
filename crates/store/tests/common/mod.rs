//! Rows that use every column.
#![allow(dead_code, clippy::unwrap_used, reason = "test data; each program uses what it needs")]

use voidvm_model::contract::OperationListRequest;
use voidvm_model::operation::Progress;
use voidvm_model::spec::{
    Accel, Cdrom, Disk, DiskFormat, FileOwner, Firmware, MacAddr, MachineSpec, NetworkBackend, Nic,
    PortForward,
};
use voidvm_model::vm::VmMeta;
use voidvm_model::{
    Bytes, ErrorBody, ErrorCode, MiB, Operation, OperationId, OperationKind, OperationResult,
    OperationStatus, Origin, VmId, VmState,
};
use voidvm_store::VmRow;

/// A time with nanoseconds, `seconds` after a fixed one.
pub(crate) fn at(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::new(1_770_000_000 + seconds, 123_456_789).unwrap()
}

pub(crate) fn vm(name: &str) -> VmRow {
    VmRow {
        id: VmId::new(),
        name: name.to_owned(),
        description: "line one\nline “two”, 第三行; '--".to_owned(),
        os_type: Some("linux".to_owned()),
        spec: MachineSpec {
            firmware: Firmware::Uefi,
            accel: Accel::Tcg,
            disks: vec![Disk::new(
                "disk0".parse().unwrap(),
                "/srv/a b,c'd\"e.qcow2".into(),
                DiskFormat::Qcow2,
                FileOwner::User,
            )],
            cdroms: vec![Cdrom { id: "cdrom0".parse().unwrap(), file: None }],
            nics: vec![Nic::new(
                "nic0".parse().unwrap(),
                MacAddr::qemu([1, 2, 3]),
                NetworkBackend::user(vec![PortForward::tcp(2222, 22)]),
            )],
            boot_from_cdrom: true,
            ..MachineSpec::new(2, MiB(512))
        },
        meta: VmMeta {
            tags: vec!["lab".to_owned()], group: Some("第一组".to_owned()), ..VmMeta::default()
        },
        parent: None,
        passing: true,
        state: VmState::Crashed,
        state_since: at(1),
        attention: Some(
            ErrorBody::new(ErrorCode::QemuFailed, "QEMU ended.").with_detail("stderr", "qemu: \u{1}boom"),
        ),
        created_at: at(0),
        updated_at: at(1),
    }
}

pub(crate) fn operation(vm: &VmRow, status: OperationStatus) -> Operation {
    Operation {
        id: OperationId::new(),
        kind: OperationKind::Create,
        vm_id: Some(vm.id),
        image_id: None,
        pool_id: None,
        subject: vm.name.clone(),
        status,
        origin: Origin::Cli,
        requested_at: at(2),
        started_at: Some(at(3)),
        finished_at: status.is_final().then(|| at(4)),
        duration_ms: status.is_final().then_some(1000),
        progress: Some(Progress { done: 5, total: 10 }),
        cancellable: !status.is_final(),
        result: (status == OperationStatus::Succeeded)
            .then_some(OperationResult::Reclaimed { before: Bytes(9), after: Bytes(4) }),
        error: (status == OperationStatus::Failed).then(|| ErrorBody::new(ErrorCode::DiskFull, "Full.")),
        stderr: Some("qemu-img: no space".to_owned()),
    }
}

pub(crate) fn all() -> OperationListRequest {
    OperationListRequest { limit: Some(500), ..OperationListRequest::default() }
}
