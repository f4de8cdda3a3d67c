//! Machines of other programs, read as machines of ours.
//!
//! ```text
//! OVF, libvirt XML, quickemu .conf, VirtualBox .vbox, VMware .vmx ─▶ Draft ─▶ ImportPlan: specification, files as they were
//!                                                                             found, and what does not come along, each with why
//! ```
//! Invariants: nothing is opened but the text that is handed in; a relative path is one below the directory of that text; what is
//! not understood is named, never dropped in silence; what comes out holds as a specification of ours.

mod draft;
mod libvirt;
mod ovf;
mod quickemu;
mod vbox;
mod vmx;

use std::path::Path;

use voidvm_model::ErrorBody;
use voidvm_model::spec::MacAddr;
use voidvm_model::transfer::ImportPlan;

/// Which program wrote a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The Open Virtualization Format.
    Ovf,
    /// libvirt's domain XML, as `virsh dumpxml` prints it.
    Libvirt,
    /// quickemu's .conf.
    Quickemu,
    /// VirtualBox's .vbox.
    VirtualBox,
    /// VMware's .vmx.
    Vmware,
}

impl Kind {
    /// As [`ImportPlan::source`] names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ovf => "ovf",
            Self::Libvirt => "libvirt",
            Self::Quickemu => "quickemu",
            Self::VirtualBox => "virtualbox",
            Self::Vmware => "vmware",
        }
    }

    /// What a text is, by what is in it; its file's name decides only between texts of keys and values.
    #[must_use]
    pub fn of(path: &Path, text: &str) -> Option<Self> {
        if let Ok(document) = document(text) {
            return match document.root_element().tag_name().name() {
                "Envelope" => Some(Self::Ovf),
                "domain" | "domainsnapshot" => Some(Self::Libvirt),
                "VirtualBox" => Some(Self::VirtualBox),
                _ => None,
            };
        }
        let ends = |end: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(end));
        let has = |key: &str| text.lines().any(|line| line.trim_start().starts_with(key));
        if ends("vmx") || has("virtualHW.version") {
            Some(Self::Vmware)
        } else if has("guest_os=") || has("disk_img=") {
            Some(Self::Quickemu)
        } else {
            None
        }
    }
}

/// Why a description cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// It is not written as such descriptions are.
    #[error("{0}")]
    Syntax(String),
    /// It is, and describes no machine that can be.
    #[error("{0}")]
    Machine(ErrorBody),
}

/// Reads a description. `dir` is where its text lies; `mac` gives addresses to cards that have none of their own.
///
/// # Errors
/// What is wrong with the text, or with the machine it describes.
pub fn read(
    kind: Kind,
    text: &str,
    dir: &Path,
    mac: &mut dyn FnMut() -> MacAddr,
) -> Result<ImportPlan, ForeignError> {
    let mut draft = draft::Draft::new(dir, mac);
    match kind {
        Kind::Ovf => ovf::read(text, &mut draft)?,
        Kind::Libvirt => libvirt::read(text, &mut draft)?,
        Kind::Quickemu => quickemu::read(text, &mut draft)?,
        Kind::VirtualBox => vbox::read(text, &mut draft)?,
        Kind::Vmware => vmx::read(text, &mut draft)?,
    }
    draft.finish(kind.as_str())
}

/// An XML document without entities of its own.
fn document(text: &str) -> Result<roxmltree::Document<'_>, ForeignError> {
    roxmltree::Document::parse(text.trim_start_matches('\u{feff}'))
        .map_err(|error| ForeignError::Syntax(error.to_string()))
}

/// The first child of that name, whatever its namespace.
fn child<'a, 'b>(node: roxmltree::Node<'a, 'b>, name: &str) -> Option<roxmltree::Node<'a, 'b>> {
    node.children().find(|child| child.tag_name().name() == name)
}

/// An attribute of that name, whatever its namespace.
fn attribute<'a>(node: roxmltree::Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.attributes().find(|attribute| attribute.name() == name).map(|attribute| attribute.value())
}

/// The text of the first child of that name.
fn text_of<'a>(node: roxmltree::Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)?.text().map(str::trim).filter(|text| !text.is_empty())
}

/// Every element of that name below.
fn all<'a, 'b>(
    node: roxmltree::Node<'a, 'b>,
    name: &'static str,
) -> impl Iterator<Item = roxmltree::Node<'a, 'b>> {
    node.descendants().filter(move |node| node.tag_name().name() == name)
}
