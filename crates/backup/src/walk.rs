//! Ways through the directories of backups.

use std::collections::HashSet;

use voidvm_model::{ErrorBody, ErrorCode};

use crate::id::Id;
use crate::index::Blobs;
use crate::record::{BlobKind, Node};
use crate::sealed::Opener;

/// The file at a path below a root.
pub(crate) fn file(
    blobs: &Blobs<'_>,
    opener: &mut Opener<'_>,
    root: Id,
    path: &[&str],
) -> Result<Node, ErrorBody> {
    let absent =
        || ErrorBody::new(ErrorCode::NotFound, format!("There is no {} in the backup.", path.join("/")));
    let (last, dirs) = path.split_last().ok_or_else(absent)?;
    let mut at = root;
    for name in dirs {
        at = blobs.tree(opener, at)?.find(name).and_then(|node| node.subtree).ok_or_else(absent)?;
    }
    blobs
        .tree(opener, at)?
        .nodes
        .into_iter()
        .find(|node| node.is_file() && node.name() == *last)
        .ok_or_else(absent)
}

/// Sees every blob below a root once, over all calls; what cannot be read is told to `wrong`, and the walk goes on.
pub(crate) fn every(
    blobs: &Blobs<'_>,
    opener: &mut Opener<'_>,
    root: Id,
    seen: &mut HashSet<(BlobKind, Id)>,
    wrong: &mut dyn FnMut(ErrorBody),
) {
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        if !seen.insert((BlobKind::Tree, id)) {
            continue;
        }
        let tree = match blobs.tree(opener, id) {
            Ok(tree) => tree,
            Err(problem) => {
                wrong(problem);
                continue;
            }
        };
        for node in tree.nodes {
            open.extend(node.subtree);
            let mut length = Some(0);
            for id in node.content.iter().flatten() {
                let place = blobs.index.get(BlobKind::Data, *id);
                length = length.zip(place).map(|(length, place)| length + u64::from(place.plain_length()));
                if seen.insert((BlobKind::Data, *id)) && place.is_none() {
                    wrong(crate::index::missing(*id));
                }
            }
            if node.is_file() && length.is_some_and(|length| length != node.size) {
                wrong(crate::error::damaged(format!("{} is not as long as it should be.", node.name())));
            }
        }
    }
}
