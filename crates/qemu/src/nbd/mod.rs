//! An image opened at offsets by the program that knows all of its formats: `qemu-nbd`, for one client, over a unix socket.
//!
//! ```text
//! qemu-nbd ─ binds SOCKET ◀─ Client connects, SOCKET loses its name ─▶ read, write ─▶ leaves, qemu-nbd ends
//! ```
//! Invariants: the program ends with its one client, with its [`Server`], and with this process; nobody else can connect.

mod client;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Child;
use tokio::time::Instant;
use voidvm_model::spec::DiskFormat;

pub use client::{Client, Extent};

use crate::image::{ImageError, QemuImg};
use crate::{probe, tool};

/// How long the program has to open an image, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a disk may take for one request.
const REQUEST: Duration = Duration::from_secs(300);
/// How often it is tried to connect.
const STEP: Duration = Duration::from_millis(5);

/// What is done with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read, and nobody may write to it meanwhile.
    Read,
    /// It is ours alone.
    Write,
}

/// The program that has an image open.
#[derive(Debug)]
pub struct Server {
    child: Child,
    program: PathBuf,
    image: PathBuf,
}

/// The `qemu-nbd` program.
#[derive(Clone, Debug)]
pub struct QemuNbd(PathBuf);

impl QemuNbd {
    /// The one beside `qemu-img`, or on PATH.
    #[must_use]
    pub fn beside(img: &QemuImg) -> Self {
        let beside = img.path().with_file_name("qemu-nbd");
        if probe::is_program(&beside) {
            return Self(beside);
        }
        Self(probe::on_path("qemu-nbd").unwrap_or(beside))
    }

    /// Opens an image with all it stands on. The socket must be where nobody else can enter; it is gone when this returns.
    ///
    /// # Errors
    /// No such program; an image that cannot be opened, or is in use.
    pub async fn open(
        &self,
        (image, format): (&Path, DiskFormat),
        access: Access,
        socket: &Path,
    ) -> Result<(Server, Client<UnixStream>), ImageError> {
        let invalid = || ImageError::Invalid {
            path: image.to_owned(),
            reason: "The path is no text.".to_owned(),
            hint: "Choose another name.",
        };
        // A comma in a name is written twice in options.
        let name = image.to_str().ok_or_else(invalid)?.replace(',', ",,");
        let driver = match format {
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Raw => "raw",
        };
        let mut command = tool::command(&self.0);
        match access {
            Access::Read => command.args(["--read-only", "--allocation-depth"]),
            Access::Write => command.args(["--cache=writeback", "--discard=unmap"]),
        };
        command
            .arg("--socket")
            .arg(socket)
            .arg("--image-opts")
            .arg(format!("driver={driver},file.driver=file,file.filename={name}"));
        let exec = |source| ImageError::Exec { program: self.0.clone(), source };
        let child = command.spawn().map_err(exec)?;
        let mut server = Server { child, program: self.0.clone(), image: image.to_owned() };
        let stream = server.connect(socket).await;
        let _ = std::fs::remove_file(socket);
        let stream = stream?;
        let shaken = tokio::task::spawn_blocking(move || {
            stream.set_read_timeout(Some(REQUEST))?;
            stream.set_write_timeout(Some(REQUEST))?;
            Client::new(stream)
        });
        match shaken.await.map_err(io::Error::other).flatten() {
            Ok(client) => Ok((server, client)),
            Err(error) => Err(server.failed(error).await),
        }
    }
}

impl Server {
    async fn connect(&mut self, socket: &Path) -> Result<UnixStream, ImageError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => return Ok(stream),
                Err(error) if self.child.try_wait().is_ok_and(|ended| ended.is_some()) => {
                    return Err(self.failed(error).await);
                }
                Err(_) if Instant::now() >= deadline => return Err(ImageError::Hangs),
                Err(_) => tokio::time::sleep(STEP).await,
            }
        }
    }

    /// Waits until the program has ended, which it does when its client has left. What was written is in the file then.
    ///
    /// # Errors
    /// Its own words, when something was wrong to the end.
    pub async fn ended(mut self) -> Result<(), ImageError> {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(_)) => Err(self.failed(io::Error::other("qemu-nbd failed")).await),
            Ok(Err(source)) => Err(ImageError::Exec { program: self.program.clone(), source }),
            Err(_) => Err(ImageError::Hangs),
        }
    }

    /// What it said, where it said something; else what was seen of it.
    async fn failed(&mut self, seen: io::Error) -> ImageError {
        use tokio::io::AsyncReadExt as _;
        let _ = self.child.start_kill();
        let mut said = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            // Nobody else holds the pipe, so it ends with the program.
            let reading = stderr.take(64 << 10);
            tokio::pin!(reading);
            let _ = tokio::time::timeout(PATIENCE, reading.read_to_end(&mut said)).await;
        }
        let stderr = crate::failure::plain_text(&said);
        if stderr.trim().is_empty() {
            return ImageError::Io { path: self.image.clone(), source: seen };
        }
        ImageError::Failed { path: self.image.clone(), stderr }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(program: &str, args: &[&str]) {
        assert!(Command::new(program).args(args).status().unwrap().success());
    }

    #[tokio::test]
    async fn real_images_are_read_and_written_at_offsets() {
        let Some(img) = probe::on_path("qemu-img").filter(|_| probe::on_path("qemu-nbd").is_some()) else {
            return;
        };
        let nbd = QemuNbd::beside(&QemuImg::new(img));
        let dir = tempfile::tempdir().unwrap();
        let (base, over) = (dir.path().join("a,b.qcow2"), dir.path().join("over.qcow2"));
        let (base_name, over_name) = (base.to_str().unwrap(), over.to_str().unwrap());
        run("qemu-img", &["create", "-q", "-f", "qcow2", base_name, "5M"]);
        let socket = dir.path().join("s");
        let (server, mut client) =
            nbd.open((&base, DiskFormat::Qcow2), Access::Write, &socket).await.unwrap();
        let client = tokio::task::spawn_blocking(move || {
            client.write_at(1 << 20, b"below").unwrap();
            client.flush().unwrap();
            client.leave();
            client
        });
        assert_eq!(client.await.unwrap().size(), 5 << 20);
        server.ended().await.unwrap();

        run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base_name, over_name]);
        let (server, mut client) = nbd.open((&over, DiskFormat::Qcow2), Access::Read, &socket).await.unwrap();
        assert!(!socket.exists());
        // Whoever wants to write is told that it is read.
        let refused = nbd.open((&over, DiskFormat::Qcow2), Access::Write, &dir.path().join("t")).await;
        assert!(matches!(refused, Err(ImageError::Failed { .. })), "{refused:?}");
        let done = tokio::task::spawn_blocking(move || {
            let mut buffer = [9; 7];
            client.read_at((1 << 20) - 1, &mut buffer).unwrap();
            assert_eq!(&buffer, b"\0below\0");
            assert_eq!(client.extent(0, 5 << 20).unwrap(), Extent { length: 1 << 20, zero: true });
            assert!(!client.extent(1 << 20, 1).unwrap().zero);
            assert_eq!(client.held_above(1).unwrap().unwrap(), Vec::<std::ops::Range<u64>>::new());
            let cluster = 1 << 20..(1 << 20) + (64 << 10);
            assert_eq!(client.held_above(2).unwrap().unwrap().as_slice(), std::slice::from_ref(&cluster));
            assert!(client.write_at(0, b"x").is_err());
            client.leave();
        });
        done.await.unwrap();
        server.ended().await.unwrap();
    }

    #[tokio::test]
    async fn real_refusals_are_told_in_its_own_words() {
        let Some(img) = probe::on_path("qemu-img").filter(|_| probe::on_path("qemu-nbd").is_some()) else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none.qcow2");
        let opened = QemuNbd::beside(&QemuImg::new(img))
            .open((&none, DiskFormat::Qcow2), Access::Read, &dir.path().join("s"))
            .await;
        let Err(ImageError::Failed { stderr, .. }) = opened else { panic!("{opened:?}") };
        assert!(stderr.contains("none.qcow2"), "{stderr}");
    }
}
