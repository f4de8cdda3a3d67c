//! What the monitor takes that no command line has: forwards and media that change.

use std::path::Path;

use serde_json::{Value, json};
use voidvm_model::spec::{PortForward, Protocol};

/// What ids of CPUs that were plugged in begin with.
pub(super) const CPU: &str = "vv.cpu";
/// What ids of memory that was plugged in begin with.
pub(super) const DIMM: &str = "vv.dimm";

/// A medium for a CD-ROM drive.
pub(super) fn medium_node(name: &str, file: &Path) -> Value {
    json!({
        "driver": "raw", "node-name": name, "read-only": true,
        "file": {"driver": "file", "filename": file, "read-only": true},
    })
}

/// The forwards of a network as its options say them.
pub(super) fn hostfwds(forwards: &[PortForward]) -> Value {
    forwards.iter().map(|forward| json!({"str": hostfwd(forward)})).collect()
}

/// libslirp's notation of a forward.
pub(super) fn hostfwd(forward: &PortForward) -> String {
    format!("{}-:{}", host_side(forward), forward.guest_port)
}

/// The half of it that names the host's port.
pub(super) fn host_side(forward: &PortForward) -> String {
    let protocol = match forward.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{protocol}:{}:{}", forward.host_address, forward.host_port)
}
