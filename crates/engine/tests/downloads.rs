//! Downloads from a server that fails in every way: gone on with or refused, never a bad image in the library.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Rig, SOON};
use voidvm_model::image::{ImageDownloadRequest, LibraryImage, Verification};
use voidvm_model::system::ImageKind;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Operation, OperationStatus, Origin};
use voidvm_testkit::web::{Asked, Fault, Page};
use voidvm_testkit::{Plan, SmallDisk, Web, wait_until_async};

async fn rig() -> Rig {
    Rig::with(&Plan::default(), &[], |config| {
        config.timing.download_pause = Duration::from_millis(20);
        config.timing.download_stall = Duration::from_millis(600);
        config.config_dir = Some(config.data_dir.join("config"));
    })
    .await
}

/// A qcow2 image of about three MiB.
fn image(dir: &Path) -> Vec<u8> {
    let raw: Vec<u8> = (0..3_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(dir.join("raw"), raw).unwrap();
    let (from, to) = (dir.join("raw"), dir.join("image.qcow2"));
    let done =
        Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).args([&from, &to]).status();
    assert!(done.unwrap().success());
    std::fs::read(to).unwrap()
}

fn sum(program: &str, bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), bytes).unwrap();
    let said = Command::new(program).arg(dir.path().join("x")).output().unwrap().stdout;
    String::from_utf8(said).unwrap().split(' ').next().unwrap().to_owned()
}

fn request(url: String) -> ImageDownloadRequest {
    ImageDownloadRequest {
        url,
        mirrors: Vec::new(),
        name: None,
        sha256: None,
        sha512: None,
        checksum_url: None,
        signature_url: None,
        catalogue_id: None,
    }
}

async fn got(rig: &Rig, request: ImageDownloadRequest) -> LibraryImage {
    let ended = rig.succeeded(rig.engine.image_download(request, Origin::Cli).await).await;
    rig.engine.image(ended.image_id.unwrap()).await.unwrap()
}

async fn fails(rig: &Rig, request: ImageDownloadRequest) -> ErrorBody {
    let asked = rig.engine.image_download(request, Origin::Cli).await;
    let error = match asked {
        Err(error) => error,
        Ok(operation) => {
            let ended = rig.end(&operation).await;
            assert_eq!(ended.status, OperationStatus::Failed, "{ended:?}");
            ended.error.unwrap()
        }
    };
    assert!(rig.engine.images().await.unwrap().is_empty(), "nothing bad in the library: {error:?}");
    assert!(files(rig, "").is_empty() && files(rig, ".incoming").is_empty());
    error
}

fn files(rig: &Rig, dir: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(rig.config.data_dir.join("images").join(dir)).unwrap().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

fn ranges(asked: &[Asked]) -> Vec<Option<&str>> {
    asked.iter().map(|asked| asked.range.as_deref()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_on_the_way_the_right_file_arrives() {
    let rig = rig().await;
    let body = image(rig.dir.path());
    let sha256 = sum("sha256sum", &body);
    let web = Web::new();
    let cut = |at: usize| Fault::Cut(at);
    let slow = Fault::Slow(1 << 19, Duration::from_millis(5));
    for (name, page) in [
        ("plain", Page::new(body.clone())),
        ("slow", Page::new(body.clone()).always(slow)),
        ("cut", Page::new(body.clone()).then([cut(100_000)])),
        (
            "cut often",
            Page::new(body.clone()).then([cut(1), cut(1 << 20), cut(7), cut(0), cut(1 << 20), cut(5)]),
        ),
        ("stalls", Page::new(body.clone()).then([Fault::Stall(500_000)])),
        ("busy", Page::new(body.clone()).then([Fault::Status(503), Fault::Status(429)])),
        ("no ranges", Page::new(body.clone()).then([cut(100_000), Fault::IgnoreRange])),
        ("refused range", Page::new(body.clone()).then([cut(100_000), Fault::RefuseRange])),
        ("wrong range", Page::new(body.clone()).then([cut(100_000), Fault::WrongRange])),
        ("no name", Page::new(body.clone()).nameless().then([cut(100_000)])),
        ("announces more", Page::new(body.clone()).then([Fault::AnnounceMore(10)])),
    ] {
        for checked in [false, true] {
            let path = format!("/{}-{checked}.qcow2", name.replace(' ', "-"));
            web.put(&path, page.clone());
            let sha256 = checked.then(|| sha256.clone());
            let image = got(&rig, ImageDownloadRequest { sha256, ..request(web.url(&path)) }).await;
            assert_eq!(std::fs::read(&image.path).unwrap(), body, "{name}");
            assert_eq!(image.sha256.as_ref(), Some(&sum("sha256sum", &body)), "{name}");
            let verified = if checked { Verification::Checksum } else { Verification::None };
            assert_eq!((image.verified, image.source), (verified, Some(web.url(&path))), "{name}");
            assert!(files(&rig, ".downloads").is_empty(), "{name}");
        }
    }
    // It went on where it was cut, and only where the server could say that it is the same file.
    let asked = web.asked();
    let of =
        |path: &str| -> Vec<Asked> { asked.iter().filter(|asked| asked.path == path).cloned().collect() };
    assert_eq!(ranges(&of("/cut-false.qcow2")), [None, Some("bytes=100000-")]);
    assert_eq!(ranges(&of("/no-name-false.qcow2")), [None, None]);
    assert_eq!(ranges(&of("/no-name-true.qcow2")), [None, Some("bytes=100000-")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_file_never_comes_in() {
    let rig = rig().await;
    let body = image(rig.dir.path());
    let (good, web) = (sum("sha256sum", &body), Web::new());
    let mut changed = body.clone();
    changed[2_000_000] ^= 1;
    let pages = [
        ("/changed", Page::new(changed), ErrorCode::ChecksumMismatch),
        ("/short", Page::new(&body[..body.len() - 70_000]), ErrorCode::ChecksumMismatch),
        ("/page", Page::new("").always(Fault::WebPage), ErrorCode::ImageInvalid),
        ("/disguised", Page::new("").always(Fault::DisguisedWebPage), ErrorCode::ImageInvalid),
        ("/circle", Page::new("").always(Fault::Redirect("/circle".to_owned())), ErrorCode::NetworkFailed),
        (
            "/elsewhere",
            Page::new("").always(Fault::Redirect("ftp://127.0.0.1/x".to_owned())),
            ErrorCode::NetworkFailed,
        ),
        ("/missing", Page::new("").always(Fault::Status(404)), ErrorCode::NetworkFailed),
        ("/broken", Page::new("").always(Fault::Status(500)), ErrorCode::NetworkFailed),
        ("/dead", Page::new(body.clone()).always(Fault::Stall(0)), ErrorCode::NetworkFailed),
        ("/cuts", Page::new(body.clone()).always(Fault::Cut(1000)), ErrorCode::NetworkFailed),
    ];
    for (path, page, code) in pages {
        web.put(path, page);
        let request = ImageDownloadRequest { sha256: Some(good.clone()), ..request(web.url(path)) };
        let error = fails(&rig, request).await;
        assert_eq!(error.code, code, "{path}: {error:?}");
        assert!(error.hint.is_some(), "{path}: {error:?}");
    }
    // Without a checksum the file itself is looked at.
    for (path, body) in [
        ("/cut-qcow2", body[..70_000].to_vec()),
        ("/text", b"no image at all".to_vec()),
        ("/gz", b"\x1f\x8b\x08\0\0\0\0\0\0\0nonsense".to_vec()),
        ("/empty", Vec::new()),
    ] {
        web.put(path, Page::new(body));
        let error = fails(&rig, request(web.url(path))).await;
        assert_eq!(error.code, ErrorCode::ImageInvalid, "{path}: {error:?}");
    }
    // Nobody answers there.
    let error = fails(&rig, request("http://127.0.0.1:9/x.qcow2".to_owned())).await;
    assert_eq!((error.code, error.retryable), (ErrorCode::NetworkFailed, true));
    for (url, field) in
        [("ftp://h/x", "url"), ("/etc/passwd", "url"), ("file:///etc/passwd", "url"), ("http://h/*", "url")]
    {
        let error = rig.engine.image_download(request(url.to_owned()), Origin::Cli).await.unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidInput, Some(field)), "{url}");
    }
    let wrong = ImageDownloadRequest { sha256: Some("abc".to_owned()), ..request(web.url("/x")) };
    assert_eq!(fails(&rig, wrong).await.field.as_deref(), Some("sha256"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_would_show_a_file_of_this_computer_is_refused() {
    let rig = rig().await;
    let dir = rig.dir.path();
    std::fs::write(dir.join("secret"), vec![7; 1 << 20]).unwrap();
    let secret = dir.join("secret");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret.to_str().unwrap()])
        .arg(dir.join("evil.qcow2"))
        .status();
    assert!(made.unwrap().success());
    let web = Web::new();
    web.put("/evil.qcow2", Page::new(std::fs::read(dir.join("evil.qcow2")).unwrap()));
    let error = fails(&rig, request(web.url("/evil.qcow2"))).await;
    assert_eq!(error.code, ErrorCode::ImageInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_taken_in_turn_and_go_on_for_one_another() {
    let rig = rig().await;
    let body = image(rig.dir.path());
    let web = Web::new();
    web.put("/a.qcow2", Page::new(body.clone()).then([Fault::Cut(1_500_000)]).always(Fault::Status(404)));
    web.put("/b.qcow2", Page::new("").always(Fault::WebPage));
    web.put("/c.qcow2", Page::new(body.clone()));
    web.put("/changed.qcow2", Page::new(body.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()));
    let mirrors = vec![web.url("/b.qcow2"), web.url("/c.qcow2")];
    let sha256 = Some(sum("sha256sum", &body));
    let image =
        got(&rig, ImageDownloadRequest { mirrors: mirrors.clone(), sha256, ..request(web.url("/a.qcow2")) })
            .await;
    assert_eq!(std::fs::read(&image.path).unwrap(), body);
    let resumed = Some("bytes=1500000-");
    assert_eq!(ranges(&web.asked()), [None, resumed, resumed, resumed]);
    // Without a checksum nobody could tell that the parts belong together.
    web.put("/a.qcow2", Page::new(body.clone()).then([Fault::Cut(1_500_000)]).always(Fault::Status(404)));
    got(&rig, ImageDownloadRequest { mirrors, ..request(web.url("/a.qcow2")) }).await;
    assert_eq!(ranges(&web.asked())[4..], [None, resumed, None, None]);
    // What one has changed, another has as it should be.
    let sha256 = Some(sum("sha256sum", &body));
    let mirrors = vec![web.url("/c.qcow2")];
    let image =
        got(&rig, ImageDownloadRequest { mirrors, sha256, ..request(web.url("/changed.qcow2")) }).await;
    assert_eq!(std::fs::read(&image.path).unwrap(), body);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_build_in_the_middle_is_begun_anew() {
    let rig = rig().await;
    let body = image(rig.dir.path());
    let web = Web::new();
    let old: Vec<u8> = body.iter().map(|byte| byte ^ 0xff).collect();
    for (path, page) in [
        ("/named", Page::new(old.clone()).then([Fault::Cut(1_000_000)]).always(Fault::Status(500))),
        (
            "/nameless",
            Page::new(old.clone()).nameless().then([Fault::Cut(1_000_000)]).always(Fault::Status(500)),
        ),
    ] {
        web.put(path, page);
        let sha256 = Some(sum("sha256sum", &body));
        let wanted = ImageDownloadRequest { sha256, ..request(web.url(path)) };
        fails(&rig, wanted.clone()).await;
        assert_eq!(files(&rig, ".downloads").len(), 2, "the part and what is known of it wait");
        web.put(path, Page::new(body.clone()));
        let image = got(&rig, wanted).await;
        assert_eq!(std::fs::read(&image.path).unwrap(), body, "{path}");
        rig.succeeded(rig.engine.image_delete(image.id, Origin::Cli).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_images_are_unpacked_and_raw_ones_converted() {
    let rig = rig().await;
    let dir = rig.dir.path().to_owned();
    image(&dir);
    let mut raw = vec![0; 4 << 20];
    raw[446] = 0x80;
    raw[450] = 0x83;
    raw[454..462].copy_from_slice(&[8, 0, 0, 0, 0xf8, 0x1f, 0, 0]);
    raw[510..512].copy_from_slice(b"\x55\xaa");
    std::fs::write(dir.join("disk.raw"), &raw).unwrap();
    assert!(Command::new("xz").args(["-k", "disk.raw"]).current_dir(&dir).status().unwrap().success());
    let packed = std::fs::read(dir.join("disk.raw.xz")).unwrap();
    let web = Web::new();
    web.put("/disk.raw.xz", Page::new(packed.clone()));
    let image = got(
        &rig,
        ImageDownloadRequest { sha256: Some(sum("sha256sum", &packed)), ..request(web.url("/disk.raw.xz")) },
    )
    .await;
    assert_eq!(
        (image.name.as_str(), image.kind, image.virtual_size),
        ("disk", ImageKind::Qcow2, Bytes(4 << 20))
    );
    assert_eq!(image.verified, Verification::Checksum);
    let file = PathBuf::from(image.path.clone());
    let own = wait_until_async(SOON, "its own checksum", || async {
        rig.engine.image(image.id).await.unwrap().sha256
    });
    assert_eq!(own.await, sum("sha256sum", &std::fs::read(file).unwrap()));
}

/// Waits until so much of a download has come.
async fn under_way(rig: &Rig, operation: &Operation, bytes: u64) {
    wait_until_async(SOON, "some of it", || async {
        let now = rig.engine.operation_wait(operation.id, Duration::ZERO).await.unwrap();
        now.progress.filter(|progress| progress.done >= bytes)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_app_interrupts_and_the_next_goes_on() {
    let rig = Rig::with(&Plan::default(), &[], |config| config.timing.download_stall = SOON).await;
    let body = image(rig.dir.path());
    let web = Web::new();
    web.put("/x.qcow2", Page::new(body.clone()).then([Fault::Stall(2_000_000)]));
    let operation = rig.engine.image_download(request(web.url("/x.qcow2")), Origin::Cli).await.unwrap();
    under_way(&rig, &operation, 2_000_000).await;
    let again = rig.engine.image_download(request(web.url("/x.qcow2")), Origin::Cli).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::Busy);
    let rig = rig.reopen().await;
    let ended = rig.engine.operation_wait(operation.id, Duration::ZERO).await.unwrap();
    assert_eq!(ended.status, OperationStatus::Interrupted);
    assert!(rig.engine.images().await.unwrap().is_empty());
    let image = got(&rig, request(web.url("/x.qcow2"))).await;
    assert_eq!(std::fs::read(&image.path).unwrap(), body);
    assert_eq!(ranges(&web.asked()), [None, Some("bytes=2000000-")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_given_up_leaves_nothing() {
    let rig = Rig::with(&Plan::default(), &[], |config| config.timing.download_stall = SOON).await;
    let body = image(rig.dir.path());
    let web = Web::new();
    web.put("/x.qcow2", Page::new(body).always(Fault::Stall(2_000_000)));
    let operation = rig.engine.image_download(request(web.url("/x.qcow2")), Origin::Cli).await.unwrap();
    under_way(&rig, &operation, 2_000_000).await;
    rig.engine.cancel(operation.id).await.unwrap();
    assert_eq!(rig.end(&operation).await.status, OperationStatus::Cancelled);
    assert!(
        files(&rig, "").is_empty()
            && files(&rig, ".incoming").is_empty()
            && files(&rig, ".downloads").is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_come_at_a_time() {
    let rig = Rig::with(&Plan::default(), &[], |config| config.timing.download_stall = SOON).await;
    let body = image(rig.dir.path());
    let web = Web::new();
    let mut operations = Vec::new();
    for path in ["/1", "/2", "/3"] {
        web.put(path, Page::new(body.clone()).always(Fault::Stall(1_500_000)));
        operations.push(rig.engine.image_download(request(web.url(path)), Origin::Cli).await.unwrap());
    }
    under_way(&rig, &operations[0], 1).await;
    under_way(&rig, &operations[1], 1).await;
    let third = rig.engine.operation_wait(operations[2].id, Duration::ZERO).await.unwrap();
    assert_eq!(third.status, OperationStatus::Queued);
    rig.engine.cancel(operations[0].id).await.unwrap();
    under_way(&rig, &operations[2], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_looked_for_first() {
    let Some(disk) = SmallDisk::mount(70 << 10) else {
        return eprintln!("skipped: no small disk can be mounted");
    };
    let rig = Rig::with(&Plan::default(), &[], |config| {
        config.data_dir = disk.path().join("data");
        config.floor = Bytes(64 << 20);
    })
    .await;
    let body = image(rig.dir.path());
    let web = Web::new();
    web.put("/x.qcow2", Page::new([body, vec![0; 8 << 20]].concat()));
    let error = fails(&rig, request(web.url("/x.qcow2"))).await;
    assert_eq!(error.code, ErrorCode::DiskFull, "{error:?}");
    assert!(files(&rig, ".downloads").is_empty(), "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_says_what_a_download_is() {
    let rig = rig().await;
    let body = image(rig.dir.path());
    let web = Web::new();
    let entries = rig.engine.catalogue().await.unwrap();
    assert!(entries.iter().any(|entry| entry.id == "debian-12-cloud" && entry.cloud_init));
    let config = rig.config.config_dir.clone().unwrap();
    std::fs::create_dir_all(&config).unwrap();
    let own = format!(
        "[[image]]\nid = \"mine\"\nname = \"My image\"\nos = \"debian11\"\nkind = \"qcow2\"\nurl = \"{}\"\n\
         checksum_url = \"{}\"\ncloud_init = true\nuser = \"me\"\n",
        web.url("/dir/mine-1*-amd64.qcow2"),
        web.url("/dir/SHA512SUMS"),
    );
    std::fs::write(config.join("catalogue.toml"), own).unwrap();
    let sum = sum("sha512sum", &body);
    web.put(
        "/dir/SHA512SUMS",
        Page::new(format!("{sum}  mine-10.2-amd64.qcow2\n{}  mine-1.9-amd64.qcow2\n", "0".repeat(128))),
    );
    web.put("/dir/mine-10.2-amd64.qcow2", Page::new(body));
    let entry = rig.engine.catalogue().await.unwrap().into_iter().find(|entry| entry.id == "mine").unwrap();
    let wanted = ImageDownloadRequest { catalogue_id: Some("mine".to_owned()), ..request(entry.url.clone()) };
    let image = got(&rig, wanted.clone()).await;
    assert_eq!(
        (image.name.as_str(), image.cloud_init, image.verified),
        ("My image", true, Verification::Checksum)
    );
    assert_eq!(image.os.unwrap().id, "debian11");
    let entry = rig.engine.catalogue().await.unwrap().into_iter().find(|entry| entry.id == "mine").unwrap();
    assert_eq!(entry.image, Some(image.id));
    let elsewhere = ImageDownloadRequest { url: web.url("/other"), ..wanted };
    let error = rig.engine.image_download(elsewhere, Origin::Cli).await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::InvalidInput, Some("url")));
    std::fs::write(config.join("catalogue.toml"), "no toml").unwrap();
    assert_eq!(rig.engine.catalogue().await.unwrap_err().code, ErrorCode::ConfigInvalid);
}

/// A key pair of its own, with what it can do.
struct Key(tempfile::TempDir);

impl Key {
    fn make() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("vvk").tempdir().unwrap();
        let key = Self(dir);
        let args = ["--passphrase", "", "--quick-gen-key", "maker@example.org", "ed25519", "sign", "never"];
        Command::new("gpgv").arg("--version").output().ok()?;
        key.gpg(&args).then_some(key)
    }

    fn gpg(&self, args: &[&str]) -> bool {
        let done = Command::new("gpg")
            .arg("--homedir")
            .arg(self.0.path())
            .args(["--batch", "--yes"])
            .args(args)
            .output();
        done.is_ok_and(|done| done.status.success())
    }

    fn keyring(&self, to: &Path) {
        assert!(self.gpg(&["--output", to.to_str().unwrap(), "--export"]));
    }

    fn sign(&self, how: &str, text: &str) -> Vec<u8> {
        let (plain, signed) = (self.0.path().join("text"), self.0.path().join("signed"));
        std::fs::write(&plain, text).unwrap();
        assert!(self.gpg(&["--output", signed.to_str().unwrap(), how, plain.to_str().unwrap()]));
        std::fs::read(signed).unwrap()
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // Its agent would stay.
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.0.path()).args(["--kill", "all"]).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_checked_with_the_keys_there_are() {
    let rig = rig().await;
    let body = image(rig.dir.path());
    let (Some(maker), Some(stranger)) = (Key::make(), Key::make()) else {
        return eprintln!("skipped: gpg and gpgv are not installed");
    };
    let keyrings = rig.config.config_dir.clone().unwrap().join("keyrings");
    std::fs::create_dir_all(&keyrings).unwrap();
    let sums = format!("{}  x.qcow2\n", sum("sha256sum", &body));
    let web = Web::new();
    web.put("/x.qcow2", Page::new(body));
    let detached = maker.sign("--detach-sign", &sums);
    web.put("/SUMS", Page::new(sums.clone()));
    web.put("/SUMS.sign", Page::new(detached));
    web.put("/CHECKSUM", Page::new(maker.sign("--clear-sign", &sums)));
    let mut one_sided =
        ImageDownloadRequest { checksum_url: Some(web.url("/SUMS")), ..request(web.url("/x.qcow2")) };
    one_sided.signature_url = Some(web.url("/SUMS.sign"));
    let clear =
        ImageDownloadRequest { checksum_url: Some(web.url("/CHECKSUM")), ..request(web.url("/x.qcow2")) };
    let check = async |verified: Verification| {
        for request in [&one_sided, &clear] {
            let image = got(&rig, request.clone()).await;
            assert_eq!(image.verified, verified, "{request:?}");
            rig.succeeded(rig.engine.image_delete(image.id, Origin::Cli).await).await;
        }
    };
    // No key at all, then another one's: nobody can tell, and so it is said.
    check(Verification::Checksum).await;
    stranger.keyring(&keyrings.join("stranger.gpg"));
    check(Verification::Checksum).await;
    maker.keyring(&keyrings.join("maker.gpg"));
    check(Verification::Signature).await;
    // Changed after it was signed.
    web.put("/SUMS", Page::new(format!("{sums}{}  y.qcow2\n", "0".repeat(64))));
    let signed = String::from_utf8(maker.sign("--clear-sign", &sums)).unwrap();
    web.put("/CHECKSUM", Page::new(signed.replace("x.qcow2", "y.qcow2")));
    for request in [one_sided.clone(), clear] {
        assert_eq!(fails(&rig, request).await.code, ErrorCode::ChecksumMismatch);
    }
    // No signature where one should be.
    web.put("/SUMS", Page::new(sums));
    one_sided.signature_url = Some(web.url("/none"));
    assert_eq!(fails(&rig, one_sided).await.code, ErrorCode::NetworkFailed);
    // A checksum file that speaks of other files.
    web.put("/OTHER", Page::new(format!("{0}  a\n{0}  b\n", "0".repeat(64))));
    let other =
        ImageDownloadRequest { checksum_url: Some(web.url("/OTHER")), ..request(web.url("/x.qcow2")) };
    assert_eq!(fails(&rig, other).await.code, ErrorCode::ChecksumMismatch);
}
