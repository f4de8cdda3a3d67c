//! The volumes of a pool: read from the files' own headers, a thousand of them in a few milliseconds, without a process.
//!
//! Which machine a file belongs to is known by the file, not by its name: links of any kind lead to the same one. What stands on
//! what is read from the headers of every image voidVM knows of: machines' disks, all pools, and the library.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use voidvm_model::spec::DiskFormat;
use voidvm_model::storage::Volume;
use voidvm_model::{Bytes, ErrorBody, PoolId, VmId};
use voidvm_qemu::image::header;

use super::job::blocking;
use super::pools::{self, Place};
use crate::ops::files;
use crate::shared::Shared;

/// Ends of names that say a file is a disk.
const DISKS: [&str; 8] = ["qcow2", "raw", "img", "vmdk", "vdi", "vhdx", "vhd", "qed"];
/// How deep the directory of a machine that is gone is looked through.
const DEPTH: usize = 3;

/// A file, whatever it is called.
type Inode = (u64, u64);

fn inode(metadata: &Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}

/// A machine that uses a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) id: VmId,
    pub(super) name: String,
    /// As what it takes the file; `None` where it takes it as a medium.
    pub(super) format: Option<DiskFormat>,
}

/// A volume, or what is left of one.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) format: Option<DiskFormat>,
    pub(super) virtual_size: Bytes,
    pub(super) allocated: Bytes,
    pub(super) backing: Option<PathBuf>,
    pub(super) encrypted: bool,
    pub(super) snapshots: u32,
    pub(super) external_data: bool,
    /// The machines that use it.
    pub(super) users: Vec<User>,
    /// Images that stand on it, each with the machine it belongs to.
    pub(super) children: Vec<(PathBuf, Option<String>)>,
    pub(super) orphaned: bool,
}

/// What machines there are, and which files they use.
#[derive(Clone, Debug, Default)]
struct Claims {
    machines: BTreeSet<VmId>,
    files: BTreeMap<PathBuf, Vec<User>>,
}

impl Claims {
    fn of(shared: &Shared) -> Self {
        let mut claims = Self { machines: shared.fleet.promised_ids(), ..Self::default() };
        for view in shared.fleet.views() {
            claims.machines.insert(view.id);
            // A disk that goes with the next start is in use until then.
            let specs = std::iter::once(&view.spec).chain(view.run.as_ref().map(|run| &run.spec));
            for spec in specs {
                let disks = spec.disks.iter().map(|disk| (&disk.file, Some(disk.format)));
                let media = spec.cdroms.iter().filter_map(|cdrom| Some((cdrom.file.as_ref()?, None)));
                for (file, format) in disks.chain(media) {
                    let user = User { id: view.id, name: view.name.clone(), format };
                    let users = claims.files.entry(file.clone()).or_default();
                    if !users.contains(&user) {
                        users.push(user);
                    }
                }
            }
        }
        claims
    }

    fn by_inode(&self) -> HashMap<Inode, Vec<User>> {
        let mut found: HashMap<Inode, Vec<User>> = HashMap::new();
        for (file, users) in &self.files {
            if let Ok(metadata) = std::fs::metadata(file) {
                found.entry(inode(&metadata)).or_default().extend(users.iter().cloned());
            }
        }
        found
    }
}

/// The volumes of a pool, by path.
///
/// # Errors
/// A directory that cannot be read.
pub(super) async fn entries(shared: &Arc<Shared>, place: Place) -> Result<Vec<Entry>, ErrorBody> {
    let places = pools::places(shared).await?;
    let claims = Claims::of(shared);
    let library = shared.config.data_dir.join("images");
    blocking(move || {
        let users = claims.by_inode();
        let mut entries: Vec<Entry> = files_of(&place, &claims)?
            .into_iter()
            .filter_map(|(path, fate)| {
                let metadata = path.symlink_metadata().ok().filter(Metadata::is_file)?;
                let users = users.get(&inode(&metadata)).cloned().unwrap_or_default();
                look(path, &metadata, users, fate)
            })
            .collect();
        let mut children = children(places.iter().filter(|other| other.id != place.id), &claims, &library);
        for entry in &entries {
            note_child(&mut children, &entry.path, entry.backing.as_deref(), owner(&entry.users));
        }
        for entry in &mut entries {
            if let Ok(metadata) = std::fs::metadata(&entry.path) {
                entry.children = children.get(&inode(&metadata)).cloned().unwrap_or_default();
            }
            entry.orphaned &= entry.users.is_empty() && entry.children.is_empty();
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    })
    .await
}

/// The volumes of a pool, by name.
///
/// # Errors
/// A directory that cannot be read.
pub(super) async fn volumes(shared: &Arc<Shared>, place: Place) -> Result<Vec<Volume>, ErrorBody> {
    let pool = place.id;
    let mut volumes: Vec<Volume> =
        entries(shared, place).await?.into_iter().map(|entry| volume(pool, entry)).collect();
    volumes.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.path.cmp(&b.path)));
    Ok(volumes)
}

fn volume(pool: PoolId, entry: Entry) -> Volume {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let user = entry.users.into_iter().next();
    Volume {
        pool,
        name: entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        path: text(&entry.path),
        format: entry.format,
        virtual_size: entry.virtual_size,
        allocated: entry.allocated,
        backing_file: entry.backing.as_deref().map(text),
        children: entry.children.iter().map(|(path, _)| text(path)).collect(),
        vm: user.as_ref().map(|user| user.id),
        vm_name: user.map(|user| user.name),
        orphaned: entry.orphaned,
        encrypted: entry.encrypted,
    }
}

/// What the volumes of each pool take.
pub(super) async fn allocated(shared: &Arc<Shared>, places: Vec<Place>) -> Result<Vec<Bytes>, ErrorBody> {
    let claims = Claims::of(shared);
    blocking(move || {
        let sums = places.iter().map(|place| {
            let files = files_of(place, &claims).unwrap_or_default();
            let taken = files.iter().filter_map(|(path, _)| path.symlink_metadata().ok());
            Bytes(taken.map(|metadata| metadata.blocks() * 512).sum())
        });
        Ok(sums.collect())
    })
    .await
}

/// What stands on what, as the headers of all images say at one instant.
pub(crate) struct Standing(Children);

impl Standing {
    /// The images that stand on a file, each with the machine it belongs to.
    pub(crate) fn on(&self, file: &Path) -> &[(PathBuf, Option<String>)] {
        let known = std::fs::metadata(file).ok().and_then(|metadata| self.0.get(&inode(&metadata)));
        known.map_or(&[], Vec::as_slice)
    }
}

/// Reads the header of every image voidVM knows of, once.
///
/// # Errors
/// The store's.
pub(crate) async fn standing(shared: &Shared) -> Result<Standing, ErrorBody> {
    let places = pools::places(shared).await?;
    let claims = Claims::of(shared);
    let library = shared.config.data_dir.join("images");
    blocking(move || Ok(Standing(children(places.iter(), &claims, &library)))).await
}

/// Why a file is in a pool's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is called a disk, or is one.
    Volume,
    /// It may be a disk, by its content.
    Maybe,
    /// It was left by a machine that is gone.
    Left,
}

/// The files that may be a pool's volumes.
fn files_of(place: &Place, claims: &Claims) -> Result<Vec<(PathBuf, Fate)>, ErrorBody> {
    let mut found = Vec::new();
    if !place.is_own() {
        plain_files(&place.root, &mut found).map_err(|error| files::io_error(&place.root, &error))?;
        return Ok(found);
    }
    // Neither is there before it is needed.
    drop(plain_files(&place.volumes(), &mut found));
    let Ok(machines) = std::fs::read_dir(place.root.join("vms")) else { return Ok(found) };
    for dir in machines.flatten() {
        let Some(id) = dir.file_name().to_str().and_then(|name| name.parse::<VmId>().ok()) else { continue };
        if claims.machines.contains(&id) {
            let Ok(files) = std::fs::read_dir(dir.path()) else { continue };
            let paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
            let (disks, rest): (Vec<PathBuf>, Vec<PathBuf>) =
                paths.into_iter().partition(|path| claims.files.contains_key(path));
            // What a running machine writes to has a layer's name as well.
            let known: BTreeSet<Inode> = disks
                .iter()
                .filter_map(|disk| std::fs::metadata(disk).ok().map(|file| inode(&file)))
                .collect();
            let layers =
                rest.into_iter().filter(|path| name(path).is_some_and(|name| name.starts_with("base-")));
            let layers = layers
                .filter(|path| !std::fs::metadata(path).is_ok_and(|file| known.contains(&inode(&file))));
            found.extend(layers.chain(disks).map(|path| (path, Fate::Volume)));
        } else {
            all_files(&dir.path(), DEPTH, &mut found);
        }
    }
    Ok(found)
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The files directly in a directory that may be disks.
fn plain_files(dir: &Path, found: &mut Vec<(PathBuf, Fate)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        let known = path.extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase);
        let hidden = name(&path).is_none_or(|name| name.starts_with('.'));
        match known {
            _ if hidden => {}
            Some(end) if DISKS.contains(&end.as_str()) => found.push((path, Fate::Volume)),
            None => found.push((path, Fate::Maybe)),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Every file below a directory.
fn all_files(dir: &Path, depth: usize, found: &mut Vec<(PathBuf, Fate)>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_file() => found.push((entry.path(), Fate::Left)),
            Ok(kind) if kind.is_dir() && depth > 1 => all_files(&entry.path(), depth - 1, found),
            _ => {}
        }
    }
}

/// Reads a file's header.
fn look(path: PathBuf, metadata: &Metadata, users: Vec<User>, fate: Fate) -> Option<Entry> {
    let claimed = users.iter().find_map(|user| user.format);
    let end = path.extension().and_then(|end| end.to_str()).map(str::to_ascii_lowercase);
    let end = end.as_deref();
    let mut entry = Entry {
        format: None,
        virtual_size: Bytes(0),
        allocated: Bytes(metadata.blocks() * 512),
        backing: None,
        encrypted: false,
        snapshots: 0,
        external_data: false,
        users,
        children: Vec::new(),
        orphaned: fate == Fate::Left,
        path,
    };
    // What is said to be raw is never taken for anything else: its guest could have written any header into it.
    if claimed == Some(DiskFormat::Raw) || (claimed.is_none() && end == Some("raw")) {
        raw(&mut entry, metadata);
        return Some(entry);
    }
    match header(&entry.path) {
        Ok(Some(header)) => {
            entry.format = Some(DiskFormat::Qcow2);
            entry.virtual_size = header.virtual_size;
            entry.backing = header.backing.map(|backing| beside(&entry.path, &backing));
            entry.encrypted = header.encrypted;
            entry.snapshots = header.snapshots;
            entry.external_data = header.external_data;
        }
        Ok(None) if end == Some("img") => raw(&mut entry, metadata),
        Ok(None) if fate == Fate::Maybe && claimed.is_none() => return None,
        Ok(None) | Err(_) => {}
    }
    Some(entry)
}

fn raw(entry: &mut Entry, metadata: &Metadata) {
    let mut mark = [0; 6];
    let read = std::fs::File::open(&entry.path).and_then(|mut file| file.read_exact(&mut mark));
    entry.format = Some(DiskFormat::Raw);
    entry.virtual_size = Bytes(metadata.len());
    entry.encrypted = read.is_ok() && mark == *b"LUKS\xba\xbe";
}

/// A name without a directory is beside the file that has it.
fn beside(file: &Path, backing: &Path) -> PathBuf {
    file.parent().map_or_else(|| backing.to_owned(), |dir| dir.join(backing))
}

fn owner(users: &[User]) -> Option<String> {
    users.first().map(|user| user.name.clone())
}

type Children = HashMap<Inode, Vec<(PathBuf, Option<String>)>>;

fn note_child(children: &mut Children, child: &Path, backing: Option<&Path>, owner: Option<String>) {
    let Some(parent) = backing.and_then(|backing| std::fs::metadata(backing).ok()) else { return };
    let known = children.entry(inode(&parent)).or_default();
    if !known.iter().any(|(path, _)| path == child) {
        known.push((child.to_owned(), owner));
    }
}

/// What stands on what, of every image in these pools, in the library, and of the machines' disks elsewhere.
fn children<'a>(places: impl Iterator<Item = &'a Place>, claims: &Claims, library: &Path) -> Children {
    let mut files: BTreeSet<PathBuf> = claims.files.keys().cloned().collect();
    for place in places {
        files.extend(files_of(place, claims).unwrap_or_default().into_iter().map(|(path, _)| path));
    }
    let images = std::fs::read_dir(library).into_iter().flatten().flatten();
    files.extend(images.map(|entry| entry.path()));
    let mut children = Children::new();
    for file in files {
        let users = claims.files.get(&file);
        // A raw disk stands on nothing, whatever its guest wrote into it.
        if users.is_some_and(|users| users.iter().any(|user| user.format == Some(DiskFormat::Raw))) {
            continue;
        }
        if let Ok(Some(header)) = header(&file) {
            let backing = header.backing.map(|backing| beside(&file, &backing));
            note_child(&mut children, &file, backing.as_deref(), users.and_then(|users| owner(users)));
        }
    }
    children
}

/// As what a file that another one stands on is to be read.
pub(crate) fn format_below(file: &Path) -> Option<DiskFormat> {
    let metadata = std::fs::metadata(file).ok()?;
    look(file.to_owned(), &metadata, Vec::new(), Fate::Volume)?.format
}
