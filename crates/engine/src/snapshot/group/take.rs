//! Taking a snapshot of a group.
//!
//! ```text
//! intents ─▶ overlays, memory on its way ─▶ all held ─▶ all taken ─▶ all go on ─▶ rows in one step ─▶ intents ended
//!    └── cut, or one of them fails: there is no snapshot of any of them; the disks show what they showed
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{join_all, select_all};
use jiff::Timestamp;
use voidvm_model::group::GroupSnapshotCreateRequest;
use voidvm_model::snapshot::{Consistency, SnapshotReason};
use voidvm_model::{
    Bytes, ErrorBody, ErrorCode, GroupSnapshotId, Operation, OperationKind, OperationResult, Origin, VmId,
};
use voidvm_qemu::qmp::{COMMAND_TIMEOUT, Qmp};
use voidvm_store::{GroupMemberRow, GroupSnapshotRow, SnapshotRow};

use super::super::job::{self, Job, given_up};
use super::super::stream::{self, Pace, Stream};
use super::super::switch::{self, Switch, call};
use super::super::take::{Attempt, Held, Label, Memory};
use super::super::{flatten, kept, layers, names, packets};
use super::gather::gather;
use super::{Member, borrow, machines, of};
use crate::guest;
use crate::ledger::Cancel;
use crate::ops::update;
use crate::run::{self, GuestStatus, Run};
use crate::shared::Shared;
use crate::supervisor::lend::Loan;
use crate::suspend;

/// How a group's snapshot is wanted.
#[derive(Clone, Debug)]
pub(crate) struct GroupWish {
    pub(crate) group: String,
    /// None: one is made.
    pub(crate) name: Option<String>,
    pub(crate) description: String,
    pub(crate) reason: SnapshotReason,
    pub(crate) schedule_id: Option<String>,
    pub(crate) memory: Memory,
}

/// A group's snapshot that was taken.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) row: GroupSnapshotRow,
    pub(super) parts: Vec<SnapshotRow>,
}

impl Taken {
    fn result(&self) -> OperationResult {
        let pauses = self.parts.iter().filter_map(|part| part.pause_ms);
        OperationResult::GroupSnapshotted {
            snapshot: self.row.id,
            spread_ms: self.row.spread_ms,
            pause_ms: pauses.reduce(f64::max),
        }
    }
}

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn create(
    shared: &Arc<Shared>,
    request: GroupSnapshotCreateRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let memory = Memory::wanted(request.disk_only, request.freeze)?;
    update::check_description(&request.description)?;
    let wish = GroupWish {
        group: request.group,
        name: request.name,
        description: request.description,
        reason: SnapshotReason::Manual,
        schedule_id: None,
        memory,
    };
    let vms = machines(shared, &wish.group).iter().map(|view| view.id).collect::<Vec<_>>();
    begin(shared, wish, &vms, origin).await
}

/// Checks a wish and begins the work on these machines.
///
/// # Errors
/// What does not hold, with its field; nothing was made then.
pub(crate) async fn begin(
    shared: &Arc<Shared>,
    wish: GroupWish,
    vms: &[VmId],
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    if vms.is_empty() {
        return Err(ErrorBody::new(
            ErrorCode::NotFound,
            format!("No machine stands in the group “{}”.", wish.group),
        )
        .with_field("group")
        .with_hint("Put machines into it, or choose one of the groups there are."));
    }
    let machines = vms.iter().map(|id| shared.fleet.get(*id)).collect::<Result<Vec<_>, _>>()?;
    for machine in &machines {
        if let Some(name) = &wish.name {
            let rows = shared.store.snapshots().of(machine.id).await.map_err(|error| error.body())?;
            names::check(name, &rows).map_err(|error| of(error, machine))?;
        }
        let dir = shared.config.machine_dir(machine.id);
        layers::writable(&dir, &machine.view().spec).map_err(|error| of(error, machine))?;
    }
    if let Some(name) = &wish.name {
        check_name(shared, &wish.group, name).await?;
    }
    let kind = (OperationKind::GroupSnapshotCreate, origin, Cancel::Heeded);
    let group = wish.group.clone();
    job::begin_together(shared, (&group, machines), kind, |jobs| async move {
        let members = borrow(&jobs).await?;
        let taken = take(&members.iter().collect::<Vec<_>>(), wish).await?;
        drop(members);
        for job in &jobs {
            flatten::look(&job.shared, job.vm()).await;
        }
        Ok(Some(taken.result()))
    })
    .await
}

/// The names of the snapshots there are of a group.
async fn names_of(shared: &Shared, group: &str) -> Result<Vec<String>, ErrorBody> {
    let rows = shared.store.groups().all().await.map_err(|error| error.body())?;
    Ok(rows.into_iter().filter(|row| row.group == group).map(|row| row.name).collect())
}

/// A name that neither the group has nor one of these machines: the wanted one, or with a number behind it.
///
/// # Errors
/// The store's.
pub(crate) async fn free_name(
    shared: &Shared,
    group: &str,
    vms: &[VmId],
    wanted: &str,
) -> Result<String, ErrorBody> {
    let mut taken = names_of(shared, group).await?;
    for vm in vms {
        let rows = shared.store.snapshots().of(*vm).await.map_err(|error| error.body())?;
        taken.extend(rows.into_iter().map(|row| row.name));
    }
    Ok(names::free_of(wanted, |name| taken.iter().any(|other| other == name)))
}

async fn check_name(shared: &Shared, group: &str, name: &str) -> Result<(), ErrorBody> {
    if names_of(shared, group).await?.iter().any(|other| other == name) {
        return Err(ErrorBody::new(
            ErrorCode::NameTaken,
            format!("The group has a snapshot named “{name}” already."),
        )
        .with_field("name")
        .with_hint("Choose another name."));
    }
    Ok(())
}

/// A machine's part of it while it is being made.
struct Part<'a> {
    job: &'a Arc<Job>,
    loan: &'a Loan,
    attempt: Attempt,
    live: Option<Live>,
}

/// Of a machine with a process.
struct Live {
    run: Arc<Run>,
    qmp: Qmp,
    running: bool,
    frozen: bool,
    way: Way,
}

enum Way {
    Memory(Stream),
    Disks(Switch),
}

/// Takes a snapshot of machines on loan, all at one instant.
///
/// # Errors
/// What does not allow it, or why it failed: then there is no snapshot of any of them, and all go on.
pub(super) async fn take(members: &[&Member], wish: GroupWish) -> Result<Taken, ErrorBody> {
    let began = Instant::now();
    let Some(first) = members.first() else {
        return Err(ErrorBody::new(ErrorCode::NotFound, "There is no machine to keep."));
    };
    let mut parts: Vec<Part<'_>> = Vec::with_capacity(members.len());
    let done = async {
        let shared = &first.job.shared;
        let name = name_for(shared, members, &wish).await?;
        for member in members {
            let rows = member.job.rows().await?;
            let attempt = Attempt::begin(&member.job, &member.loan, &rows).await;
            let attempt = attempt.map_err(|error| of(error, &member.job.machine))?;
            parts.push(Part { job: &member.job, loan: &member.loan, attempt, live: None });
        }
        let mut ready = room_for_all(&parts, wish.memory);
        for part in &mut parts {
            if ready.is_ok() {
                ready = part.make_ready(wish.memory).await;
            }
        }
        let taken = match ready {
            Ok(()) => at_one_instant(&mut parts, wish.memory).await,
            Err(error) => Err(error),
        };
        // Whatever happened, all go on, and their disks have their names.
        let gone_on = let_go(&parts, taken.is_ok()).await;
        taken?;
        gone_on?;
        write_down(&mut parts, (wish, name), began).await
    };
    let done: Result<Taken, ErrorBody> = done.await;
    for part in &parts {
        if done.is_ok() {
            part.job.settled(part.attempt.intent).await;
        } else {
            part.attempt.undo(part.job, part.loan).await;
        }
        part.job.announce();
    }
    done
}

/// Makes sure that the memory of all guests can be written beside their disks.
fn room_for_all(parts: &[Part<'_>], memory: Memory) -> Result<(), ErrorBody> {
    let mut total = 0;
    for part in parts.iter().filter(|_| memory == Memory::Kept) {
        if let Some(run) = &part.loan.run {
            let spec = &run.record().spec;
            total += run.process.resident().unwrap_or(spec.memory.bytes()).0;
            suspend::check_space(&part.job.machine_dir(), spec, Some(Bytes(total)))?;
        }
    }
    Ok(())
}

/// The wanted name, or one that is free.
async fn name_for(shared: &Shared, members: &[&Member], wish: &GroupWish) -> Result<String, ErrorBody> {
    let Some(name) = &wish.name else {
        let vms: Vec<VmId> = members.iter().map(|member| member.job.vm()).collect();
        let wanted = names::of_now("snapshot", Timestamp::now());
        return free_name(shared, &wish.group, &vms, &wanted).await;
    };
    for member in members {
        let rows = member.job.rows().await?;
        names::check(name, &rows).map_err(|error| of(error, &member.job.machine))?;
    }
    check_name(shared, &wish.group, name).await?;
    Ok(name.clone())
}

impl Part<'_> {
    fn name(&self, error: ErrorBody) -> ErrorBody {
        of(error, &self.job.machine)
    }

    /// All that can be done while the guest runs on.
    async fn make_ready(&mut self, memory: Memory) -> Result<(), ErrorBody> {
        self.attempt.make_ready(self.loan).await.map_err(|error| self.name(error))?;
        let Some(run) = &self.loan.run else { return Ok(()) };
        let live = Live::prepare(run, &self.job.machine_dir(), &self.attempt, memory).await;
        self.live = Some(live.map_err(|error| self.name(error))?);
        Ok(())
    }
}

impl Live {
    async fn prepare(
        run: &Arc<Run>,
        machine_dir: &Path,
        attempt: &Attempt,
        memory: Memory,
    ) -> Result<Self, ErrorBody> {
        let qmp = run.qmp()?;
        let status = run::status(&qmp, COMMAND_TIMEOUT).await.map_err(|error| error.body())?;
        let running = status == GuestStatus::Running;
        if memory == Memory::LeftFrozen && !running {
            return Err(switch::cannot_freeze());
        }
        let switch = Switch::prepare(run, machine_dir, &attempt.dir, &attempt.layers).await?;
        let way = match memory {
            Memory::Kept => Way::Memory(Stream::open(run, &attempt.dir, switch).await?),
            Memory::Left | Memory::LeftFrozen => Way::Disks(switch),
        };
        Ok(Self { run: Arc::clone(run), qmp, running, frozen: false, way })
    }

    const fn stream(&self) -> Option<&Stream> {
        if let Way::Memory(stream) = &self.way { Some(stream) } else { None }
    }

    async fn freeze(&mut self) -> Result<(), ErrorBody> {
        guest::freeze(&self.run).await?;
        self.frozen = true;
        Ok(())
    }

    /// Holds the guest.
    async fn hold(&self) -> Result<(), ErrorBody> {
        if !self.running {
            return Ok(());
        }
        if matches!(self.way, Way::Disks(_)) {
            packets::wait(&self.run, &self.qmp).await;
        }
        call(&self.qmp, "stop", serde_json::json!({})).await.map(drop)
    }

    /// Takes what is left of it while it is held. Once begun, this is carried to its end.
    async fn take(&mut self) -> Result<(), ErrorBody> {
        match &mut self.way {
            Way::Memory(stream) => {
                // It may wait at the line still.
                stream.pace(Pace::Free).await?;
                stream.until_held().await?;
                stream.finish().await
            }
            Way::Disks(switch) => switch.turn().await,
        }
    }

    async fn let_go(&self, taken: bool) -> Result<(), ErrorBody> {
        match &self.way {
            Way::Memory(stream) => stream.let_go(taken).await,
            Way::Disks(_) if self.running => {
                let goes_on = stream::go_on(&self.qmp).await;
                packets::pass(&self.run, &self.qmp).await;
                goes_on
            }
            Way::Disks(_) => Ok(()),
        }
    }

    async fn settle(&self) -> Result<(), ErrorBody> {
        if self.frozen {
            guest::thaw(&self.run).await;
        }
        match &self.way {
            Way::Memory(stream) => stream.switch.settle().await,
            Way::Disks(switch) => switch.settle().await,
        }
    }

    async fn kept(self) -> Result<Held, ErrorBody> {
        let pause = if self.running { switch::pause(&self.run).await } else { None };
        let consistency = if self.frozen { Consistency::Frozen } else { Consistency::Crash };
        match self.way {
            Way::Memory(stream) => stream.kept().await,
            Way::Disks(_) => Ok(Held {
                at: pause.map_or_else(Timestamp::now, |(at, _)| at),
                memory: false,
                consistency,
                pause_ms: pause.map(|(_, pause)| pause),
            }),
        }
    }
}

/// Holds all guests and takes them: none goes on before all are taken.
async fn at_one_instant(parts: &mut [Part<'_>], memory: Memory) -> Result<(), ErrorBody> {
    let Some(job) = parts.first().map(|part| Arc::clone(part.job)) else { return Ok(()) };
    let streams: Vec<&Stream> =
        parts.iter().filter_map(|part| part.live.as_ref().and_then(Live::stream)).collect();
    for begun in join_all(streams.iter().map(|stream| stream.begin())).await {
        begun?;
    }
    {
        let recalled = parts.iter().map(|part| Box::pin(part.loan.recall.cancelled()));
        tokio::select! {
            biased;
            () = job.cancel.cancelled() => return Err(given_up()),
            _ = select_all(recalled) => return Err(given_up()),
            gathered = gather(&streams, &job.progress) => gathered?,
        }
    }
    drop(streams);
    if memory == Memory::LeftFrozen {
        let lives = parts.iter_mut().filter_map(|part| part.live.as_mut());
        all(join_all(lives.map(Live::freeze)).await)?;
    }
    job.seal()?;
    // From here on guests are held: nothing that is not needed now. What was begun is carried to its end, also when another
    // fails, for QEMU may have done it though nobody waits for its answer.
    let held = parts.iter().map(async |part| match &part.live {
        Some(live) => live.hold().await.map_err(|error| part.name(error)),
        None => Ok(()),
    });
    all(join_all(held).await)?;
    let taken = parts.iter_mut().map(async |part| {
        let machine = &part.job.machine;
        match &mut part.live {
            Some(live) => live.take().await.map_err(|error| of(error, machine)),
            None => Ok(()),
        }
    });
    all(join_all(taken).await)
}

/// The first error, once all have ended.
fn all(ended: Vec<Result<(), ErrorBody>>) -> Result<(), ErrorBody> {
    ended.into_iter().collect()
}

/// Whatever happened, guests that ran go on, all together; then their disks get their names.
async fn let_go(parts: &[Part<'_>], taken: bool) -> Result<(), ErrorBody> {
    let gone_on = parts.iter().map(async |part| match &part.live {
        Some(live) => live.let_go(taken).await.map_err(|error| part.name(error)),
        None => Ok(()),
    });
    let gone_on = all(join_all(gone_on).await);
    let mut settled = Ok(());
    for part in parts {
        if let Some(live) = &part.live {
            settled = settled.and(live.settle().await.map_err(|error| part.name(error)));
        }
    }
    gone_on.and(settled)
}

/// Makes it a snapshot: all is forced to the disk, then the rows are written in one step.
async fn write_down(
    parts: &mut [Part<'_>],
    (wish, name): (GroupWish, String),
    began: Instant,
) -> Result<Taken, ErrorBody> {
    let id = GroupSnapshotId::new();
    let mut kept_parts = Vec::with_capacity(parts.len());
    let mut instants = Vec::new();
    for part in parts.iter_mut() {
        let held = match part.live.take() {
            Some(live) => {
                let (run, running) = (Arc::clone(&live.run), live.running);
                let held = live.kept().await?;
                kept::write(&part.attempt.dir, &kept::WhatRan::of(&run))?;
                instants.extend(running.then_some(held.at));
                held
            }
            None => part.attempt.at_rest(&part.job.machine_dir()).await?,
        };
        let label = Label {
            name: name.clone(),
            description: wish.description.clone(),
            tags: Vec::new(),
            reason: wish.reason,
            schedule_id: wish.schedule_id.clone(),
            group_snapshot: Some(id),
        };
        kept_parts.push(part.attempt.finish(part.job.vm(), label, &held).await?);
    }
    // The instant at which all were held; where none ran, the one at which all were taken.
    let at = instants.iter().max().copied();
    let at =
        at.or_else(|| kept_parts.iter().map(|part| part.created_at).max()).unwrap_or_else(Timestamp::now);
    kept_parts.iter_mut().for_each(|part| part.created_at = at);
    let spread = instants.iter().min().filter(|_| instants.len() > 1);
    let spread_ms = spread.and_then(|first| (at - *first).total(jiff::Unit::Millisecond).ok());
    let mut members: Vec<GroupMemberRow> = parts
        .iter()
        .map(|part| GroupMemberRow { id: part.job.vm(), name: part.loan.vm.name.clone() })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let row = GroupSnapshotRow {
        id,
        group: wish.group,
        name,
        description: wish.description,
        reason: wish.reason,
        schedule_id: wish.schedule_id,
        created_at: at,
        spread_ms,
        total_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        members,
    };
    if let Some(part) = parts.first() {
        let stored = part.job.shared.store.groups().insert(&row, &kept_parts).await;
        stored.map_err(|error| error.body())?;
    }
    Ok(Taken { row, parts: kept_parts })
}
