//! An image brought into the library: its throughput beside that of plain `qemu-img convert`.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use crate::figures::compare;
use crate::serve::Serve;

const MIB: usize = 1024;
const RUNS: usize = 7;

/// Alternates the two, so that both have the same caches and the same load.
pub fn run() {
    let serve = Serve::start();
    let dir = tempfile::Builder::new().prefix("vvb").tempdir().unwrap();
    let source = dir.path().join("disk.raw");
    make(&source);
    let target = dir.path().join("plain.qcow2");
    let plain = || {
        let began = Instant::now();
        let done = Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .args([&source, &target])
            .status();
        assert!(done.unwrap().success());
        // The library's file is on the disk when the operation has ended.
        std::fs::File::open(&target).unwrap().sync_all().unwrap();
        let took = began.elapsed().as_secs_f64();
        std::fs::remove_file(&target).unwrap();
        took
    };
    let import = || {
        let began = Instant::now();
        let operation = serve.post("/images", &json!({ "path": source, "mode": "copy" }));
        let done = serve.finish(&operation);
        let took = began.elapsed().as_secs_f64();
        let id = done["imageId"].as_str().unwrap();
        // What is computed when there is nothing better to do would be in the way of the next run.
        while serve.get(&format!("/images/{id}"))["sha256"].is_null() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        serve.finish(&serve.delete(&format!("/images/{id}")));
        took
    };
    plain();
    import();
    let rate = |seconds: f64| MIB as f64 / seconds;
    let (ours, theirs): (Vec<f64>, Vec<f64>) = (0..RUNS).map(|_| (rate(import()), rate(plain()))).unzip();
    compare(("import into the library", &ours), ("qemu-img convert, synced", &theirs), "MiB/s");
}

/// A raw disk that is three quarters full of bytes that differ.
fn make(path: &Path) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut first = vec![0; 1 << 20];
    first[446] = 0x80;
    first[450] = 0x83;
    first[454..458].copy_from_slice(&8_u32.to_le_bytes());
    first[458..462].copy_from_slice(&u32::try_from(MIB * 2048 - 8).unwrap().to_le_bytes());
    first[510..512].copy_from_slice(b"\x55\xaa");
    file.write_all(&first).unwrap();
    let mut word = 1_u64;
    for number in 1..MIB {
        let piece: Vec<u8> = (0..1 << 17)
            .flat_map(|_| {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                word.to_le_bytes()
            })
            .collect();
        file.write_all(if number % 4 == 3 { &[0; 1 << 20] } else { &piece[..] }).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
}
