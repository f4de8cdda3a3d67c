//! Copies of whole machines, and the way into a guest.

use std::path::Path;

use voidvm_model::contract::{SshAccess, VmDeleteRequest};
use voidvm_model::transfer::{ImportPlan, VmCloneRequest, VmExportRequest, VmImportRequest};
use voidvm_model::{ErrorBody, Operation, Origin, VmId};

use super::{Engine, blocking};
use crate::ops::{clone, export, family, import, login};
use crate::supervisor::{Children, Disks, Order};

impl Engine {
    /// Makes a copy of a stopped machine, with identities of its own.
    ///
    /// # Errors
    /// What does not hold, with its field.
    pub async fn clone_machine(
        &self,
        request: VmCloneRequest,
        origin: Origin,
    ) -> Result<Operation, ErrorBody> {
        clone::clone(&self.0.shared, request, origin).await
    }

    /// Writes a stopped machine to one file.
    ///
    /// # Errors
    /// What does not hold, with its field.
    pub async fn export(&self, request: VmExportRequest, origin: Origin) -> Result<Operation, ErrorBody> {
        export::export(&self.0.shared, request, origin).await
    }

    /// Makes a machine of a file of another computer or program.
    ///
    /// # Errors
    /// What does not hold, with its field.
    pub async fn import(&self, request: VmImportRequest, origin: Origin) -> Result<Operation, ErrorBody> {
        import::import(&self.0.shared, request, origin).await
    }

    /// Looks at such a file: what importing it would make, and what does not come along.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn inspect_import(&self, path: &Path) -> Result<ImportPlan, ErrorBody> {
        import::inspect(path.to_owned()).await
    }

    /// Deletes a machine that has no process.
    ///
    /// # Errors
    /// When its state or another operation forbids it; [`HasChildren`](voidvm_model::ErrorCode::HasChildren) when linked clones
    /// stand on its disks and may not be changed.
    pub async fn delete(&self, request: VmDeleteRequest, origin: Origin) -> Result<Operation, ErrorBody> {
        let disks = match (request.keep_disks, request.trash) {
            (true, _) => Disks::Keep,
            (false, true) => Disks::Trash,
            (false, false) => Disks::Remove,
        };
        let children = if request.flatten_children { Children::Flatten } else { Children::Refuse };
        if disks != Disks::Keep && children == Children::Refuse {
            let vm = self.machine(request.id)?.view();
            let (views, dir) = (self.0.shared.fleet.views(), self.0.shared.config.machine_dir(request.id));
            let found = blocking(move || Ok(family::children(&views, &dir, request.id))).await?;
            if !found.is_empty() {
                return Err(family::has_children(&vm.name, &found));
            }
        }
        self.act(request.id, Order::Delete { disks, children }, origin).await
    }

    /// How to reach a guest by ssh; `None` when that is not known.
    ///
    /// # Errors
    /// No such machine.
    pub async fn ssh(&self, id: VmId) -> Result<Option<SshAccess>, ErrorBody> {
        let view = self.machine(id)?.view();
        let dir = self.0.shared.config.machine_dir(id);
        let spec = view.run.as_ref().map_or(&view.spec, |run| &run.spec).clone();
        let forwarded = spec.forwards().any(|forward| forward.guest_port == 22);
        let address = if forwarded || !view.state.is_live() {
            None
        } else {
            let guest = self.guest(id).await?;
            guest.addresses.into_iter().map(|address| address.address).find(|address| !address.contains(':'))
        };
        blocking(move || Ok(login::access(&dir, &spec, address))).await
    }
}
