//! `voidvm-tray`: the app while its window is closed. See the library's first page.
//!
//! ```text
//! claim the name ─taken─► end (somebody shows the app already)
//!      └► owner or client of the engine ─ icon ─ wait for a wish
//!            Open: icon and name go ─ start the window ─ wait until no operation is in work ─ close the engine ─ end
//!            Quit, or told to end:                                                            close the engine ─ end
//! ```

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use voidvm_tray::instance::Instance;
use voidvm_tray::program::Program;
use voidvm_tray::{Engine, Icon, Wish, notice, watch};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let (wishes, mut asked) = mpsc::channel(4);
    let engine = Engine::default();
    engine.open().await;
    let instance = match Instance::claim(wishes.clone()).await {
        Ok(instance) => instance,
        Err(error) => {
            tracing::warn!(%error, "the app is shown already, or there is no session bus");
            engine.close().await;
            return ExitCode::FAILURE;
        }
    };
    let icon = match Icon::show(wishes).await {
        Ok(icon) => icon,
        Err(error) => {
            tracing::warn!(%error, "this desktop has no tray");
            engine.close().await;
            return ExitCode::FAILURE;
        }
    };
    let bus = instance.bus().clone();
    let crashed = move |words: String| {
        let bus = bus.clone();
        tokio::spawn(async move {
            if let Err(error) = notice::show(&bus, &words).await {
                tracing::warn!(%error, "a notice could not be shown");
            }
        });
    };
    let wish = tokio::select! {
        wish = asked.recv() => wish.unwrap_or(Wish::Quit),
        () = told_to_end() => Wish::Quit,
        () = watch::machines(engine.clone(), icon.clone(), crashed) => Wish::Quit,
    };
    icon.remove().await;
    if wish == Wish::Open {
        leave(&engine, instance).await;
    }
    engine.close().await;
    ExitCode::SUCCESS
}

/// Makes way for the window. With no operation in work it becomes the owner; else it is our client until that is done.
async fn leave(engine: &Engine, instance: Instance) {
    if !engine.works().await {
        engine.close().await;
    }
    if let Err(error) = instance.release().await {
        tracing::warn!(%error, "the session bus is gone");
    }
    if let Err(error) = Program::Window.start() {
        tracing::error!(%error, "the window could not be started");
    }
    engine.idle().await;
}

async fn told_to_end() {
    let told = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    match told {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        }
        // The system's own way of ending us is left.
        _ => std::future::pending().await,
    }
}
