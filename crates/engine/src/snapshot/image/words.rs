//! A run's arguments with the guest's memory in a file: as it is mapped, and as it is made. Pure but for the sizes of files.

use std::path::Path;

use serde_json::{Value, json};
use voidvm_model::Bytes;
use voidvm_qemu::args::{self, FileMemory, Sharing};

use crate::hotplug::Words;

/// The machine's memory.
const MEMORY: &str = "pc.ram";

/// How large the memory is that could be in a file: `None` for one that others work in too.
pub(super) fn memory(words: &Words) -> Option<u64> {
    let backend = words.value("-object", MEMORY)?;
    let private = backend.get("qom-type")?.as_str()? == "memory-backend-ram";
    private.then(|| backend.get("size")?.as_u64()).flatten()
}

/// The same machine with its memory mapped from a file, inherited under a number.
pub(super) fn mapping(mut words: Words, (size, how): (u64, FileMemory), number: i32) -> Option<Words> {
    if memory(&words) != Some(size) {
        return None;
    }
    let file = format!("/dev/fd/{number}");
    words.replace("-object", MEMORY, &args::memory_file(MEMORY, Bytes(size), Path::new(&file), how).ok()?);
    Some(words)
}

/// The same machine with memory of its own: of a process that was found without its record, the words may name a file.
pub(crate) fn without_image(argv: Vec<String>) -> Vec<String> {
    let mut words = Words::new(argv);
    let backend = words.value("-object", MEMORY).unwrap_or_default();
    if let (Some("memory-backend-file"), Some(size)) =
        (backend.get("qom-type").and_then(Value::as_str), backend.get("size").and_then(Value::as_u64))
    {
        words.replace("-object", MEMORY, &args::memory_backend(MEMORY, Bytes(size), Sharing::Private));
    }
    words.into_argv()
}

/// The same machine as one that only takes memory in and writes it out again: the memory in a file that is written to; behind
/// its disks nothing, of the right size; its networks without a way out; silent. `None` when that cannot be had.
pub(super) fn baking(
    mut words: Words,
    ram: &Path,
    size_of: impl Fn(&str, &Path) -> Option<u64>,
) -> Option<Words> {
    let memory = memory(&words)?;
    let backend = args::memory_file(MEMORY, Bytes(memory), ram, FileMemory::Written).ok()?;
    words.replace("-object", MEMORY, &backend);
    words.change("-blockdev", |node| {
        let name = node.get("node-name")?.as_str()?;
        let file = node.get("file")?.get("filename")?.as_str()?;
        let size = size_of(name, Path::new(file))?.next_multiple_of(512);
        let mut nothing = json!({"driver": "null-co", "node-name": name, "size": size, "read-zeroes": true});
        if let Some(read_only) = node.get("read-only") {
            nothing["read-only"] = read_only.clone();
        }
        Some(nothing)
    })?;
    words.change("-netdev", |network| {
        let mut network = network.clone();
        if network.get("type")?.as_str()? == "user" {
            // What it holds of connections is kept in the devices' state.
            network.as_object_mut()?.remove("hostfwd");
            return Some(network);
        }
        Some(json!({"type": "hubport", "id": network.get("id")?, "hubid": 0}))
    })?;
    words.change("-audiodev", |sound| Some(json!({"driver": "none", "id": sound.get("id")?})))?;
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Vec<String> {
        [
            "-machine",
            "q35,memory-backend=pc.ram",
            "-object",
            r#"{"qom-type":"memory-backend-ram","id":"pc.ram","size":4096}"#,
            "-blockdev",
            r#"{"node-name":"disk0","driver":"qcow2","file":{"driver":"file","filename":"/m/disk0.qcow2"}}"#,
            "-blockdev",
            r#"{"node-name":"vv.flash0","driver":"raw","read-only":true,"file":{"driver":"file","filename":"/f"}}"#,
            "-netdev",
            r#"{"type":"user","id":"nic0","hostfwd":[{"str":"tcp:127.0.0.1:1-:2"}]}"#,
            "-netdev",
            r#"{"type":"stream","id":"nic1","addr":{"type":"fd","str":"64"}}"#,
            "-audiodev",
            r#"{"driver":"pa","id":"vv.sound"}"#,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    #[test]
    fn the_maker_has_the_machines_memory_and_nothing_else_of_it() {
        let sizes = |name: &str, _: &Path| Some(if name == "disk0" { 1 << 20 } else { 700 });
        let words = baking(Words::new(machine()), Path::new("/m/image.ram.part"), sizes).unwrap();
        let of = |option: &str, name: &str| words.value(option, name).unwrap();
        assert_eq!(
            of("-object", "pc.ram"),
            json!({
                "qom-type": "memory-backend-file", "id": "pc.ram", "size": 4096, "share": true,
                "mem-path": "/m/image.ram.part",
            })
        );
        let disk = json!({"driver": "null-co", "node-name": "disk0", "size": 1 << 20, "read-zeroes": true});
        assert_eq!(of("-blockdev", "disk0"), disk);
        let flash = of("-blockdev", "vv.flash0");
        assert_eq!((&flash["size"], &flash["read-only"]), (&json!(1024), &json!(true)));
        assert_eq!(of("-netdev", "nic0"), json!({"type": "user", "id": "nic0"}));
        assert_eq!(of("-netdev", "nic1"), json!({"type": "hubport", "id": "nic1", "hubid": 0}));
        assert_eq!(of("-audiodev", "vv.sound")["driver"], "none");
        assert!(
            words.into_argv().iter().all(|word| !word.contains("disk0.qcow2") && !word.contains("hostfwd"))
        );
        assert!(baking(Words::new(machine()), Path::new("/m"), |_, _| None).is_none());
    }

    #[test]
    fn memory_from_a_file_is_taken_out_again() {
        let words = |how| mapping(Words::new(machine()), (4096, how), 64).unwrap();
        let old = words(FileMemory::Mapped).value("-object", "pc.ram").unwrap();
        assert_eq!((&old["mem-path"], &old["share"]), (&json!("/dev/fd/64"), &json!(false)));
        assert!(old.get("readonly").is_none());
        let new = words(FileMemory::MappedReadOnly).value("-object", "pc.ram").unwrap();
        assert_eq!((&new["readonly"], &new["rom"]), (&json!(true), &json!("off")));
        let plain = Words::new(without_image(words(FileMemory::Mapped).into_argv()));
        assert_eq!(plain.value("-object", "pc.ram"), Words::new(machine()).value("-object", "pc.ram"));
        assert!(mapping(Words::new(machine()), (8192, FileMemory::Mapped), 64).is_none());
        // Memory that others work in stays where it is.
        let shared = machine().join("\n").replace("memory-backend-ram", "memory-backend-memfd");
        let shared = Words::new(shared.split('\n').map(str::to_owned).collect());
        assert!(memory(&shared).is_none());
    }
}
