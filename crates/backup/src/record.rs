//! The documents of the restic format, version 2: what lies in `config`, `keys`, `snapshots`, `index` and in trees.
//!
//! Only what is needed is read; what other programs add is left alone. Names in trees are quoted as Go quotes strings.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::crypto::Cost;
use crate::id::Id;

/// The version of the format that is written, and the only one that is read: it has compression.
pub(crate) const FORMAT: u32 = 2;

/// `config`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) version: u32,
    pub(crate) id: Id,
    /// For programs that cut at content, as `restic` does; our blocks have a fixed size.
    pub(crate) chunker_polynomial: String,
}

/// One of `keys`: the repository's key, sealed with one derived from a password.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeyFile {
    pub(crate) created: Timestamp,
    pub(crate) username: String,
    pub(crate) hostname: String,
    pub(crate) kdf: String,
    #[serde(flatten)]
    pub(crate) cost: Cost,
    pub(crate) salt: String,
    pub(crate) data: String,
}

/// One of `locks`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LockFile {
    pub(crate) time: Timestamp,
    pub(crate) exclusive: bool,
    pub(crate) hostname: String,
    pub(crate) username: String,
    pub(crate) pid: i64,
    #[serde(default)]
    pub(crate) uid: u32,
    #[serde(default)]
    pub(crate) gid: u32,
}

/// One of `snapshots`: a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) time: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Id>,
    pub(crate) tree: Id,
    pub(crate) paths: Vec<String>,
    #[serde(default)]
    pub(crate) hostname: String,
    #[serde(default)]
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) uid: u32,
    #[serde(default)]
    pub(crate) gid: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) program_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<Summary>,
}

/// What a backup cost, where later versions of `restic` keep it too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) backup_start: Timestamp,
    pub(crate) backup_end: Timestamp,
    #[serde(default)]
    pub(crate) data_added: u64,
    #[serde(default)]
    pub(crate) data_added_packed: u64,
    #[serde(default)]
    pub(crate) total_files_processed: u64,
    #[serde(default)]
    pub(crate) total_bytes_processed: u64,
}

/// What a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BlobKind {
    /// A piece of a file.
    Data,
    /// A directory.
    Tree,
}

/// One of `index`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct IndexFile {
    pub(crate) packs: Vec<IndexPack>,
}

/// What lies in a pack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IndexPack {
    pub(crate) id: Id,
    pub(crate) blobs: Vec<IndexBlob>,
}

/// Where a blob lies in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexBlob {
    pub(crate) id: Id,
    #[serde(rename = "type")]
    pub(crate) kind: BlobKind,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uncompressed_length: Option<u32>,
}

/// A directory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
}

/// An entry of a directory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    atime: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ctime: Option<Timestamp>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) content: Option<Vec<Id>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subtree: Option<Id>,
}

/// What an entry is, and what is in it.
pub(crate) enum Entry {
    /// A file of this many bytes, in these blobs.
    File { size: u64, content: Vec<Id> },
    /// A directory, in this blob.
    Dir { tree: Id },
}

/// Who an entry belongs to, and when it was.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) time: Timestamp,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Node {
    fn new(name: &str, entry: Entry, stamp: Stamp) -> Self {
        /// Go's bit for a directory.
        const DIR: u32 = 1 << 31;
        let (kind, mode, size, content, subtree) = match entry {
            Entry::File { size, content } => ("file", 0o600, size, Some(content), None),
            Entry::Dir { tree } => ("dir", DIR | 0o700, 0, None, Some(tree)),
        };
        Self {
            name: quote(name),
            kind: kind.to_owned(),
            mode: Some(mode),
            mtime: Some(stamp.time),
            atime: Some(stamp.time),
            ctime: Some(stamp.time),
            uid: stamp.uid,
            gid: stamp.gid,
            size,
            content,
            subtree,
        }
    }

    /// The name, as it is on a disk.
    pub(crate) fn name(&self) -> String {
        unquote(&self.name)
    }

    pub(crate) fn is_file(&self) -> bool {
        self.kind == "file"
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == "dir"
    }
}

impl Tree {
    /// A directory of these; a map keeps names in the order the format wants.
    pub(crate) fn new(entries: BTreeMap<String, Entry>, stamp: Stamp) -> Self {
        Self { nodes: entries.into_iter().map(|(name, entry)| Node::new(&name, entry, stamp)).collect() }
    }

    /// The entry of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name() == name)
    }
}

/// As Go's `strconv.Quote` does, without the quotes around; names have no control characters here.
fn quote(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"")
}

fn unquote(quoted: &str) -> String {
    if !quoted.contains('\\') {
        return quoted.to_owned();
    }
    let mut out = Vec::with_capacity(quoted.len());
    let mut rest = quoted.chars();
    while let Some(char) = rest.next() {
        let escape = if char == '\\' { rest.next() } else { None };
        let code = |digits: usize, rest: &mut std::str::Chars<'_>| {
            u32::from_str_radix(&rest.by_ref().take(digits).collect::<String>(), 16).unwrap_or(0xfffd)
        };
        let char = match escape {
            Some('x') => {
                out.push(u8::try_from(code(2, &mut rest)).unwrap_or(b'?'));
                continue;
            }
            Some('u') => char::from_u32(code(4, &mut rest)).unwrap_or('\u{fffd}'),
            Some('U') => char::from_u32(code(8, &mut rest)).unwrap_or('\u{fffd}'),
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some(other) => other,
            None => char,
        };
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_go_quotes_them() {
        for name in ["plain", "with \"quotes\"", "back\\slash", "名字", ""] {
            assert_eq!(unquote(&quote(name)), name);
        }
        assert_eq!(quote("a\"b\\c"), "a\\\"b\\\\c");
        assert_eq!(unquote("\\u00a0\\xe5\\x90\\x8d\\n"), "\u{a0}名\n");
    }

    #[test]
    fn a_directory_reads_as_restic_writes_it() {
        let text = r#"{"nodes":[{"name":"a","type":"file","mode":384,"mtime":"2026-11-22T10:00:00.5+01:00","uid":1,"gid":1,
            "user":"x","inode":7,"size":0,"content":[]},{"name":"l","type":"symlink","linktarget":"a","content":null}]}"#;
        let tree: Tree = serde_json::from_str(text).unwrap();
        assert!(tree.find("a").unwrap().is_file());
        assert_eq!(tree.find("l").unwrap().content, None);
    }
}
