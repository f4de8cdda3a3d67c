//! The view everybody is shown: one watch value per machine, replaced as a whole, its generation growing with every change.
//!
//! Level-triggered: a watcher that missed ten views sees the newest, and that is all there is to know. A view that says nothing
//! new is not published.

use std::sync::Arc;

use tokio::sync::watch;
use voidvm_model::{Event, Origin, VmId, VmView};

use crate::bus::EventBus;

#[derive(Debug)]
pub(super) struct Publisher {
    view: watch::Sender<Arc<VmView>>,
    bus: EventBus,
}

impl Publisher {
    /// Publishes the first view as a new machine when `origin` says who made it; machines found at start-up are no news.
    pub(super) fn new(first: VmView, bus: EventBus, origin: Option<Origin>) -> Self {
        if let Some(origin) = origin {
            bus.publish(origin, Event::VmChanged { vm: Box::new(first.clone()) });
        }
        Self { view: watch::Sender::new(Arc::new(first)), bus }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<VmView>> {
        self.view.subscribe()
    }

    /// Replaces the view if it differs; `origin` is whose doing the change is.
    pub(super) fn publish(&self, mut view: VmView, origin: Origin) {
        let before = Arc::clone(&self.view.borrow());
        view.generation = before.generation;
        if *before == view {
            return;
        }
        view.generation += 1;
        self.view.send_replace(Arc::new(view.clone()));
        self.bus.publish(origin, Event::VmChanged { vm: Box::new(view) });
    }

    /// The newest view.
    pub(super) fn newest(&self) -> VmView {
        VmView::clone(&self.view.borrow())
    }

    /// Says that the machine is gone.
    pub(super) fn remove(self, id: VmId, origin: Origin) {
        self.bus.publish(origin, Event::VmRemoved { id });
    }
}
