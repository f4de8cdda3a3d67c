//! From osinfo-db's XML to what is used of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

/// The architecture of the machines made here.
const ARCH: &str = "x86_64";

/// One operating system.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// Its URI: names it within the database.
    pub(crate) id: String,
    pub(crate) short_id: String,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) family: String,
    pub(crate) distro: String,
    pub(crate) released: Option<String>,
    /// What it derives from or clones: devices and resources come from there too.
    pub(crate) parents: Vec<String>,
    pub(crate) devices: Vec<String>,
    pub(crate) minimum: Option<Resources>,
    pub(crate) recommended: Option<Resources>,
    pub(crate) bios: bool,
    pub(crate) efi: bool,
    pub(crate) media: Vec<Medium>,
}

impl Entry {
    /// Whether it runs on the machines made here, as far as its media tell.
    pub(crate) fn is_for_pcs(&self) -> bool {
        self.media.is_empty() || self.media.iter().any(|medium| medium.for_pcs)
    }
}

/// An amount of a machine; what is not said is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resources {
    pub(crate) cpus: Option<u64>,
    /// Bytes.
    pub(crate) ram: Option<u64>,
    /// Bytes.
    pub(crate) storage: Option<u64>,
}

/// How a medium is recognised: regular expressions, all of which have to fit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Medium {
    pub(crate) for_pcs: bool,
    pub(crate) volume_id: Option<String>,
    pub(crate) system_id: Option<String>,
    pub(crate) publisher_id: Option<String>,
    pub(crate) application_id: Option<String>,
    pub(crate) volume_size: Option<u64>,
}

/// Every operating system below these directories; of two with one id the later directory's.
pub(crate) fn read(directories: &[PathBuf]) -> Vec<Entry> {
    let mut entries = BTreeMap::new();
    for directory in directories {
        for file in xml_files(&directory.join("os")) {
            match fs::read_to_string(&file).map_err(|error| error.to_string()).and_then(|text| parse(&text)) {
                Ok(found) => entries.extend(found.into_iter().map(|entry| (entry.id.clone(), entry))),
                Err(error) => {
                    tracing::debug!(file = %file.display(), error, "left out of the operating systems");
                }
            }
        }
    }
    entries.into_values().collect()
}

/// `VENDOR/NAME.xml`; what lies deeper adds installer scripts and drivers only.
fn xml_files(os: &Path) -> Vec<PathBuf> {
    let below = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut files: Vec<PathBuf> = below(os)
        .iter()
        .flat_map(|vendor| below(vendor))
        .filter(|file| file.extension().is_some_and(|extension| extension == "xml"))
        .collect();
    files.sort();
    files
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    Ok(children(document.root_element(), "os").filter_map(entry).collect())
}

fn children<'a, 'i: 'a>(node: Node<'a, 'i>, name: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.has_tag_name(name))
}

/// The text of the first child of this name that is in no particular language.
fn text(node: Node<'_, '_>, name: &'static str) -> Option<String> {
    const LANG: (&str, &str) = ("http://www.w3.org/XML/1998/namespace", "lang");
    let found = children(node, name).find(|child| child.attribute(LANG).is_none())?;
    found.text().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn number(node: Node<'_, '_>, name: &'static str) -> Option<u64> {
    text(node, name)?.parse().ok()
}

fn entry(os: Node<'_, '_>) -> Option<Entry> {
    let ids =
        |name: &'static str| children(os, name).filter_map(|node| node.attribute("id").map(str::to_owned));
    let devices = children(os, "devices").flat_map(|devices| children(devices, "device").collect::<Vec<_>>());
    let mut entry = Entry {
        id: os.attribute("id")?.to_owned(),
        short_id: text(os, "short-id")?,
        name: text(os, "name")?,
        version: text(os, "version"),
        family: text(os, "family").unwrap_or_default(),
        distro: text(os, "distro").unwrap_or_default(),
        released: text(os, "release-date"),
        parents: ids("derives-from").chain(ids("clones")).collect(),
        devices: devices.filter_map(|device| device.attribute("id").map(str::to_owned)).collect(),
        bios: true,
        media: children(os, "media").map(medium).collect(),
        ..Entry::default()
    };
    for firmware in children(os, "firmware").filter(|node| node.attribute("arch") == Some(ARCH)) {
        let supported = firmware.attribute("supported") != Some("false");
        match firmware.attribute("type") {
            Some("bios") => entry.bios = supported,
            Some("efi") => entry.efi = supported,
            _ => {}
        }
    }
    for node in children(os, "resources").filter(|node| matches!(node.attribute("arch"), Some(ARCH | "all")))
    {
        let amount = |name| {
            children(node, name).next().map(|node| Resources {
                cpus: number(node, "n-cpus"),
                ram: number(node, "ram"),
                storage: number(node, "storage"),
            })
        };
        entry.minimum = entry.minimum.or_else(|| amount("minimum"));
        entry.recommended = entry.recommended.or_else(|| amount("recommended"));
    }
    Some(entry)
}

fn medium(node: Node<'_, '_>) -> Medium {
    let for_pcs = matches!(node.attribute("arch"), Some(ARCH | "i386" | "i586" | "i686" | "all") | None);
    let Some(iso) = children(node, "iso").next() else { return Medium { for_pcs, ..Medium::default() } };
    Medium {
        for_pcs,
        volume_id: text(iso, "volume-id"),
        system_id: text(iso, "system-id"),
        publisher_id: text(iso, "publisher-id"),
        application_id: text(iso, "application-id"),
        volume_size: number(iso, "volume-size"),
    }
}
