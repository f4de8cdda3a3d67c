//! One app per session: whoever shows it, window or icon, holds a name on the session bus, and starting the app again
//! reaches the holder. The window's process claims the name through its toolkit; this is the icon's side of it.

use tokio::sync::mpsc;
use zbus::Connection;
use zbus::fdo::RequestNameFlags;

use crate::APP_ID;
use crate::icon::Wish;

/// The name on the session bus, until dropped or released.
#[derive(Debug)]
pub struct Instance {
    bus: Connection,
}

struct Started(mpsc::Sender<Wish>);

#[zbus::interface(name = "org.SingleInstance.DBus")]
impl Started {
    /// The app was started once more.
    async fn execute_callback(&self, _arguments: Vec<String>, _directory: String) {
        let _ = self.0.send(Wish::Open).await;
    }
}

fn name() -> String {
    format!("{APP_ID}.SingleInstance")
}

impl Instance {
    /// Claims the name; starting the app again then sends [`Wish::Open`].
    ///
    /// # Errors
    /// When there is no session bus, or another process holds the name.
    pub async fn claim(wishes: mpsc::Sender<Wish>) -> zbus::Result<Self> {
        let bus = Connection::session().await?;
        let path = format!("/{}", name().replace('.', "/").replace('-', "_"));
        bus.object_server().at(path, Started(wishes)).await?;
        bus.request_name_with_flags(name(), RequestNameFlags::DoNotQueue.into()).await?;
        Ok(Self { bus })
    }

    /// Gives the name back, for the window to claim.
    ///
    /// # Errors
    /// When the session bus is gone.
    pub async fn release(self) -> zbus::Result<()> {
        self.bus.release_name(name()).await.map(drop)
    }

    /// The connection to the session bus.
    pub fn bus(&self) -> &Connection {
        &self.bus
    }
}
