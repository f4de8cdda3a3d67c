//! Groups and their snapshots as everybody is shown them.

use std::collections::BTreeMap;
use std::sync::Arc;

use voidvm_model::group::{Group, GroupMember, GroupSnapshot};
use voidvm_model::snapshot::Snapshot;
use voidvm_model::{Bytes, ErrorBody, SnapshotId, VmId};
use voidvm_store::GroupSnapshotRow;

use super::super::list::tree;
use super::{Found, of};
use crate::shared::Shared;

/// The groups machines stand in, or that there are snapshots of, by name.
///
/// # Errors
/// The store's.
pub(crate) async fn groups(shared: &Shared) -> Result<Vec<Group>, ErrorBody> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut group = |name: &str, change: &dyn Fn(&mut Group)| {
        let new = || Group { name: name.to_owned(), vms: Vec::new(), snapshots: 0 };
        change(groups.entry(name.to_owned()).or_insert_with(new));
    };
    for view in shared.fleet.views() {
        if let Some(name) = &view.meta.group {
            group(name, &|group| group.vms.push(view.id));
        }
    }
    for row in shared.store.groups().all().await.map_err(|error| error.body())? {
        group(&row.group, &|group| group.snapshots += 1);
    }
    Ok(groups.into_values().collect())
}

/// The snapshots of a group, oldest first.
///
/// # Errors
/// The store's.
pub(crate) async fn snapshots(shared: &Arc<Shared>, group: &str) -> Result<Vec<GroupSnapshot>, ErrorBody> {
    let rows = shared.store.groups().all().await.map_err(|error| error.body())?;
    let rows: Vec<_> = rows.into_iter().filter(|row| row.group == group).collect();
    let all = shared.store.snapshots().all().await.map_err(|error| error.body())?;
    let mut shown: BTreeMap<SnapshotId, Snapshot> = BTreeMap::new();
    let mut looked_at: Vec<VmId> = Vec::new();
    for member in rows.iter().flat_map(|row| &row.members) {
        // One that is gone has none.
        if looked_at.contains(&member.id) || shared.fleet.get(member.id).is_err() {
            continue;
        }
        looked_at.push(member.id);
        shown.extend(tree(shared, member.id).await?.snapshots.into_iter().map(|one| (one.id, one)));
    }
    let found = rows.into_iter().map(|row| {
        let parts = all.iter().filter(|part| part.group_snapshot == Some(row.id)).cloned().collect();
        Found { row, parts }
    });
    Ok(found.map(|found| show(shared, found, &shown)).collect())
}

fn show(shared: &Shared, found: Found, shown: &BTreeMap<SnapshotId, Snapshot>) -> GroupSnapshot {
    let incomplete = found.check_complete().err();
    let Found { row, parts } = found;
    let whole: Vec<&Snapshot> = parts.iter().filter_map(|part| shown.get(&part.id)).collect();
    let trouble = whole.iter().find_map(|one| {
        let trouble = one.trouble.clone()?;
        Some(shared.fleet.get(one.vm_id).map_or(trouble.clone(), |machine| of(trouble, &machine)))
    });
    let sum = |of: fn(&Snapshot) -> Bytes| Bytes(whole.iter().map(|one| of(one).0).sum());
    let (size, frees) = (sum(|one| one.size), sum(|one| one.frees));
    let GroupSnapshotRow { id, group, name, description, reason, created_at, spread_ms, total_ms, .. } = row;
    let members = row.members.into_iter().map(|member| {
        let part = parts.iter().find(|part| part.vm_id == member.id);
        let now = shared.fleet.get(member.id).map(|machine| machine.view().name.clone());
        GroupMember {
            vm_id: member.id,
            vm_name: now.unwrap_or(member.name),
            snapshot: part.map(|part| part.id),
            memory: part.is_some_and(|part| part.memory),
            pause_ms: part.and_then(|part| part.pause_ms),
        }
    });
    GroupSnapshot {
        id,
        group,
        name,
        description,
        reason,
        created_at,
        spread_ms,
        total_ms,
        size,
        frees,
        members: members.collect(),
        trouble: incomplete.or(trouble),
    }
}
