//! Taking an image out of the library; its file goes where it is the library's own.
//!
//! ```text
//! nobody reads it ─▶ intent ─▶ row removed ─▶ file removed ─▶ intent ended
//! ```

use std::sync::Arc;

use voidvm_model::image::LibraryImage;
use voidvm_model::{ErrorBody, ErrorCode, Event, ImageId, Operation, OperationKind, Origin};
use voidvm_store::IntentAction;

use super::{Uses, get, lock, place};
use crate::ledger::{Cancel, Outcome, Subject};
use crate::shared::Shared;

/// Nobody begins to use an image while this is there.
struct Going {
    id: ImageId,
    uses: Arc<std::sync::Mutex<Uses>>,
}

impl Drop for Going {
    fn drop(&mut self) {
        lock(&self.uses).going.remove(&self.id);
    }
}

/// Removes an image that nobody uses.
///
/// # Errors
/// [`ErrorCode::FileInUse`] with the machines' names, [`ErrorCode::NotFound`], [`ErrorCode::Busy`], or the store's.
pub(super) async fn delete(
    shared: &Arc<Shared>,
    id: ImageId,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let image = get(shared, id).await?;
    let going = {
        let mut uses = lock(&shared.images.uses);
        if uses.held.contains_key(&id) || !uses.going.insert(id) {
            return Err(ErrorBody::new(
                ErrorCode::Busy,
                format!("“{}” is being used or removed right now.", image.name),
            ));
        }
        Going { id, uses: Arc::clone(&shared.images.uses) }
    };
    // Looked at again now that nobody can begin to use it.
    let image = get(shared, id).await?;
    unused(&image)?;
    let subject = Subject::Image(id, &image.name);
    let ticket =
        shared.ledger.open_operation(OperationKind::ImageDelete, subject, origin, Cancel::Ignored).await?;
    let operation = ticket.operation();
    let shared = Arc::clone(shared);
    shared.builders.clone().spawn(async move {
        ticket.begin();
        let outcome = carry_out(&shared, &image, ticket.id(), origin).await;
        drop(going);
        ticket.end(Outcome::from(outcome));
    });
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

fn unused(image: &LibraryImage) -> Result<(), ErrorBody> {
    if image.used_by.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = image.used_by.iter().map(|user| user.name.as_str()).collect();
    Err(ErrorBody::new(ErrorCode::FileInUse, format!("“{}” is used by {}.", image.name, names.join(", ")))
        .with_hint("Remove those machines first, or take the image out of their drives.")
        .with_detail("usedBy", names))
}

async fn carry_out(
    shared: &Shared,
    image: &LibraryImage,
    operation: voidvm_model::OperationId,
    origin: Origin,
) -> Result<(), ErrorBody> {
    let path = std::path::PathBuf::from(&image.path);
    let intent = if image.owned {
        Some(place::begin(shared, operation, IntentAction::ImageRemove, &path).await?)
    } else {
        None
    };
    if let Err(error) = shared.store.images().delete(image.id).await {
        place::end(shared, intent).await;
        return Err(error.body());
    }
    shared.bus.publish(origin, Event::ImagesChanged);
    if image.owned && !place::remove(shared.images.dir(), &path) {
        // The intent stays: the next start tries again.
        return Err(ErrorBody::new(
            ErrorCode::PermissionDenied,
            format!("{} cannot be removed.", path.display()),
        )
        .with_hint("It is no longer in the library; voidVM tries again when it is started next.")
        .with_detail("path", image.path.as_str()));
    }
    place::end(shared, intent).await;
    Ok(())
}
