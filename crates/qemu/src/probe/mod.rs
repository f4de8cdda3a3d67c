//! probe
/// caps
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// v
    pub virtio_vga: bool,
}
