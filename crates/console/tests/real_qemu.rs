//! The session against the display it is made for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use support::{Canvas, DEADLINE, within};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use voidvm_console::ConsoleLine;
use voidvm_model::input::ViewerMessage;

/// Ends with the test.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn connect(path: &std::path::Path) -> UnixStream {
    within(async {
        loop {
            if let Ok(stream) = UnixStream::connect(path).await {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// The firmware's screen arrives, at two viewers at once, and both are told when QEMU is gone.
#[tokio::test]
async fn real_qemu_is_seen_by_two_viewers() {
    let folder = std::env::temp_dir().join(format!("vv-console-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("vnc");
    let qemu = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-nodefaults", "-no-user-config", "-vga", "std", "-m", "64", "-vnc"])
        .arg(format!("unix:{}", socket.display()))
        .stdout(Stdio::null())
        .spawn()
        .expect("qemu-system-x86_64 is installed");
    let qemu = Qemu(qemu);
    let mut lines = Vec::new();
    for _ in 0..2 {
        let (input, _) = mpsc::channel(1);
        lines.push(ConsoleLine::screen(connect(&socket).await, input));
    }
    for line in &mut lines {
        let mut canvas = Canvas::default();
        // SeaBIOS writes on black, 720 × 400. The cursor blinks, so messages never cease: one deadline for all.
        let until = Instant::now() + DEADLINE;
        while canvas.width != 720 || canvas.pixels.iter().all(|pixel| pixel & 0xff_ffff == 0) {
            assert!(Instant::now() < until, "nothing is written on {} × {}", canvas.width, canvas.height);
            let message = within(line.to_viewer.recv()).await.expect("a message");
            let words: Vec<u32> = message.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect();
            if words[0] != 3 {
                canvas.draw(&words);
            }
            if words[0] == 2 {
                let drawn = serde_json::to_vec(&ViewerMessage::Drawn).unwrap();
                within(line.from_viewer.send(drawn)).await.unwrap();
            }
        }
    }
    drop(qemu);
    for mut line in lines {
        while within(line.to_viewer.recv()).await.is_some() {}
        let error = within(line.ended).await.unwrap().unwrap_err();
        assert_eq!(error.code, voidvm_model::ErrorCode::ConsoleUnavailable);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
